use std::{
    collections::BTreeSet,
    fs,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context as _;
use gpupin_lint::{fix::Wanted, selection::Overrides};

use crate::{
    commands::scan::{FileArgs, RuleArgs, selection, tell_missing_entry_points, tell_unread},
    failure::{Exit, Failure},
    fix::{
        self, Change, Description, TreeLock,
        asking::Asking,
        package,
        rounds::{self, Changed, Choose, Files, Wish},
        summary::Summary,
        unified,
    },
    git,
    project::{self, Project, ProjectArgs},
    report::write_json,
    scan::{self, Session},
    terminal::{Terminal, one_line},
};

/// Rewrite what could put work on another GPU, so that it runs on the one the project declares
///
/// Only safe fixes are made: those after which, on every machine of `gpupin.lock`, the program reaches exactly the GPU of
/// the policy and nothing else changes. `gpupin undo` takes every byte back.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Files and directories to fix; without any, the working directory
    paths: Vec<PathBuf>,

    /// Make unsafe fixes too: `--diff` shows them, and `gpupin scan` says why each is unsafe
    #[arg(long)]
    unsafe_fixes: bool,

    #[command(flatten)]
    before: BeforeArgs,

    /// Change files although git has uncommitted changes, which then mix with the fixes
    #[arg(long)]
    allow_dirty: bool,

    /// How to print what was done
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output_format: Format,

    #[command(flatten)]
    rules: RuleArgs,

    #[command(flatten)]
    files: FileArgs,

    #[command(flatten)]
    project: ProjectArgs,
}

/// Looking before leaping.
#[derive(Debug, clap::Args)]
struct BeforeArgs {
    /// Print what would change as a unified diff, and change nothing
    #[arg(long, conflicts_with_all = ["check", "interactive"])]
    diff: bool,

    /// Only tell whether anything would change
    #[arg(long, conflicts_with = "interactive")]
    check: bool,

    /// Ask for each finding, also for those with an unsafe fix
    #[arg(long, short)]
    interactive: bool,
}

impl BeforeArgs {
    /// Whether files are changed at all.
    fn writes(&self) -> bool {
        !(self.diff || self.check)
    }
}

const EXAMPLES: &str = "\
Examples:
  gpupin fix --diff                    what would change in this directory
  gpupin fix                           make the safe fixes
  gpupin fix --unsafe-fixes -i         ask for each
  gpupin fix --select GP103 app/       one rule, one directory
  gpupin undo                          take the last fix back

Exit codes: 0 nothing is left to find, 1 findings are left (with --diff and --check: something would change),
2 usage error or a file could not be changed";

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    #[default]
    Full,
    /// One JSON object
    Json,
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    if args.before.interactive && !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "`--interactive` asks, and there is no terminal to answer from",
        )
        .hint("`--diff` shows what would change"));
    }
    let project = project::open(&args.project, args.paths.first().map(PathBuf::as_path), terminal)?;
    project.tell_simulated(terminal);
    let writes = args.before.writes();
    let lock = writes.then(|| TreeLock::acquire(&project.root, terminal)).transpose()?;
    let paths = if args.paths.is_empty() { vec![PathBuf::from(".")] } else { args.paths.clone() };
    let rules = selection(&args.rules, &project)?;
    // What a fix brings is told, whichever rules are to be fixed.
    let judged = Overrides {
        extend_select: rules.rules().map(|it| it.code.to_owned()).collect(),
        ..Overrides::default()
    };
    let request = args.files.request(paths, scan::selection(&judged, &project)?);
    let session = Session::open(&project, &request, terminal)?.repeatable();
    // Nobody is to answer in vain.
    if args.before.interactive && !args.allow_dirty {
        let found: BTreeSet<String> = session.files().iter().map(|it| it.key.clone()).collect();
        refuse_dirty(&project, &found)?;
    }

    let mut wanted = if args.unsafe_fixes { Wanted::All } else { Wanted::Safe };
    let mut asking = Asking::default();
    let choose: &mut dyn Choose = if args.before.interactive { &mut asking } else { &mut wanted };
    let fixing = {
        let mut wish = Wish { rules: &rules, choose };
        let obstacle = |it: &Path| fix::obstacle(it).or_else(|| foreign(&project.root, it));
        let files = Files { obstacle, read: |it: &Path| fs::read(it) };
        rounds::fix(&project, &request, session, &mut wish, &files, terminal)
    };
    if writes && !args.allow_dirty {
        refuse_dirty(&project, &fixing.changed.iter().map(|it| it.key.clone()).collect())?;
    }
    tell_missing_entry_points(&project, terminal);
    tell_unread(&project, &fixing.scan, |_| true, terminal);
    for problem in &fixing.scan.problems {
        let path = one_line(&problem.path);
        terminal.error(&format!("failed to read `{path}`: {}", problem.message));
    }

    let mut refused = fixing.refused.clone();
    if let Some(lock) = &lock {
        let changes: Vec<Change> = fixing.changed.iter().map(change).collect();
        let description = Description {
            command: std::env::args().collect(),
            policy_hash: project.policy_path.as_deref().and_then(fix::policy_hash),
            time: SystemTime::now(),
        };
        let written = fix::write(&project.root, lock, &changes, &description)?;
        refused.extend(written.problems);
        if let Some(id) = written.id {
            terminal.verbose(|| format!("journal entry {id}"));
        }
    }
    for problem in &refused {
        let path = one_line(&problem.path);
        terminal.warning(&format!("left `{path}` alone: {}", one_line(&problem.message)));
    }
    if let Some(needed) = package::undeclared(&project, &fixing.changed) {
        terminal.warning(&needed);
    }
    if args.before.diff && args.output_format == Format::Full {
        let colour = terminal.has_colour();
        // A name that leads out of the directory is none that `git apply` takes.
        let shown = |it: &Changed| project.shown(&it.key);
        let leads_out = fixing.changed.iter().any(|it| shown(it).starts_with("../"));
        for it in &fixing.changed {
            let path = if leads_out { it.key.clone() } else { shown(it) };
            unified(&path, &it.old_text, &it.new_text, colour, terminal.out())
                .context("failed to write output")?;
        }
    }
    let summary = Summary { writes, unsafe_too: args.unsafe_fixes };
    match args.output_format {
        Format::Full => summary.tell(&project, &fixing, terminal),
        Format::Json => {
            let document = summary.document(&project, &fixing, &refused);
            write_json(&document, terminal.out()).context("failed to write output")?;
        }
    }
    let failed = !fixing.scan.problems.is_empty() || !refused.is_empty();
    let is_left =
        if writes { !fixing.scan.analysis.findings.is_empty() } else { !fixing.changed.is_empty() };
    Ok(match (failed, is_left) {
        (true, _) => Exit::Failed,
        (false, true) => Exit::Findings,
        (false, false) => Exit::Clean,
    })
}

fn change(it: &Changed) -> Change {
    Change { key: it.key.clone(), path: it.path.clone(), old: it.old.clone(), new: it.new.clone() }
}

/// Whether a file belongs to another repository than the project: a submodule has a history of its own.
fn foreign(root: &Path, file: &Path) -> Option<String> {
    let is_top = |it: &&Path| it.join(".git").exists();
    root.ancestors().find(is_top)?;
    let file = project::normal(&root.join(file));
    let between = file.ancestors().skip(1).take_while(|it| *it != root && it.starts_with(root));
    let top = between.into_iter().find(is_top)?;
    let shown = project::slashed(top.strip_prefix(root).unwrap_or(top));
    Some(format!("it belongs to the repository in `{shown}`: run `gpupin fix` there"))
}

/// How many files a message names.
const NAMED: usize = 5;

/// What somebody has not committed yet in files that are to be changed is lost among the fixes.
fn refuse_dirty(project: &Project, files: &BTreeSet<String>) -> Result<(), Failure> {
    if files.is_empty() {
        return Ok(());
    }
    let mut dirty = git::dirty(&project.root)?.unwrap_or_default();
    dirty.retain(|it| files.contains(it));
    // What an earlier fix left, another may go on with.
    let dirty: Vec<_> =
        dirty.into_iter().filter(|it| !fix::is_as_left(&project.root, it)).collect();
    if dirty.is_empty() {
        return Ok(());
    }
    let named: Vec<_> = dirty.iter().take(NAMED).map(|it| format!("`{}`", one_line(it))).collect();
    let more = match dirty.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(Failure::usage(format!(
        "git has uncommitted changes, with which fixes would mix: {}{more}",
        named.join(", ")
    ))
    .hint("commit or stash them, or pass `--allow-dirty`")
    .hint("`gpupin fix --diff` shows what would change"))
}
