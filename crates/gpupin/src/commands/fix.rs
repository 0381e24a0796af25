use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, IsTerminal as _},
    path::PathBuf,
    time::SystemTime,
};

use anyhow::Context as _;
use gpupin_lint::{
    finding::{Finding, Safety},
    fix::{Wanted, edited},
    unit::Unit,
};
use serde::Serialize;

use crate::{
    commands::scan::{FileArgs, RuleArgs, selection, tell_missing_entry_points, tell_unread},
    failure::{Exit, Failure},
    fix::{
        self, Change, Description, TreeLock,
        rounds::{self, Changed, Choose, Fixing, left},
        unified,
    },
    git,
    project::{self, Project, ProjectArgs},
    report::write_json,
    scan::{Problem, Session},
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

    /// Print what would change as a unified diff, and change nothing
    #[arg(long, conflicts_with_all = ["check", "interactive"])]
    diff: bool,

    /// Only tell whether anything would change
    #[arg(long, conflicts_with = "interactive")]
    check: bool,

    /// Ask for each finding, also for those with an unsafe fix
    #[arg(long, short)]
    interactive: bool,

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
    if args.interactive && !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "`--interactive` asks, and there is no terminal to answer from",
        )
        .hint("`--diff` shows what would change"));
    }
    let project = project::open(&args.project, args.paths.first().map(PathBuf::as_path), terminal)?;
    let writes = !args.diff && !args.check;
    let lock = writes.then(|| TreeLock::acquire(&project.root, terminal)).transpose()?;
    if writes && !args.allow_dirty {
        refuse_dirty(&project)?;
    }
    let paths = if args.paths.is_empty() { vec![PathBuf::from(".")] } else { args.paths.clone() };
    let request = args.files.request(paths, selection(&args.rules, &project)?);
    let session = Session::open(&project, &request, terminal)?.repeatable();

    let mut wanted = if args.unsafe_fixes { Wanted::All } else { Wanted::Safe };
    let mut asking = Asking { answers: BTreeMap::new(), rest: None };
    let choose: &mut dyn Choose = if args.interactive { &mut asking } else { &mut wanted };
    let fixing = rounds::fix(&project, &request, session, choose, fix::obstacle, terminal);
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
    if args.diff && args.output_format == Format::Full {
        let colour = terminal.has_colour();
        for it in &fixing.changed {
            let path = project.shown(&it.key);
            unified(&path, &it.old_text, &it.new_text, colour, terminal.out())
                .context("failed to write output")?;
        }
    }
    match args.output_format {
        Format::Full => tell(args, &fixing, terminal),
        Format::Json => {
            let document = document(&project, &fixing, &refused, args.unsafe_fixes);
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

/// What somebody has not committed yet is lost among the fixes.
fn refuse_dirty(project: &Project) -> Result<(), Failure> {
    let dirty = git::dirty(&project.root)?.unwrap_or_default();
    // What an earlier fix left, another may go on with.
    let dirty: Vec<_> =
        dirty.into_iter().filter(|it| !fix::is_as_left(&project.root, it)).collect();
    if dirty.is_empty() {
        return Ok(());
    }
    const NAMED: usize = 5;
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

/// Asks on the terminal, once for each finding.
struct Asking {
    /// By rule, file, message and statement.
    answers: BTreeMap<(&'static str, String, String), bool>,
    /// What is answered from now on.
    rest: Option<bool>,
}

impl Choose for Asking {
    fn wants(
        &mut self,
        project: &Project,
        units: &[Unit],
        finding: &Finding,
        terminal: &mut Terminal,
    ) -> bool {
        let path = &units[finding.unit.0 as usize].source.path;
        let key = (finding.rule.code, path.clone(), finding.message.clone());
        if let Some(answer) = self.answers.get(&key) {
            return *answer;
        }
        let answer = match self.rest {
            Some(rest) => rest,
            None => self.ask(project, units, finding, terminal),
        };
        self.answers.insert(key, answer);
        answer
    }
}

impl Asking {
    fn ask(
        &mut self,
        project: &Project,
        units: &[Unit],
        finding: &Finding,
        terminal: &mut Terminal,
    ) -> bool {
        let Some(fix) = &finding.fix else { return false };
        let unit = |it: gpupin_lint::unit::UnitId| &units[it.0 as usize].source;
        let source = unit(finding.unit);
        let place = source.place(finding.span.start);
        let path = one_line(&project.shown(&source.path));
        let mut text = Vec::new();
        for edits in fix.edits.chunk_by(|a, b| a.unit == b.unit) {
            let source = unit(edits[0].unit);
            let new = edited(&source.text, edits);
            // Memory takes everything.
            drop(unified(&project.shown(&source.path), &source.text, &new, false, &mut text));
        }
        let why = match &fix.safety {
            Safety::Safe => String::new(),
            Safety::Unsafe(why) => format!(" (unsafe: {why})"),
        };
        let diff = String::from_utf8_lossy(&text);
        terminal.question(&format!(
            "\n{path}:{}:{}: {} {}\n{diff}{}{why}? [y]es, [n]o, [a]ll of the rest, [q]uit: ",
            place.line,
            place.column,
            finding.rule.code,
            one_line(&finding.message),
            fix.title,
        ));
        let mut line = String::new();
        // The end of the input is no consent.
        let read = io::stdin().lock().read_line(&mut line).unwrap_or(0);
        match line.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => true,
            "a" | "all" => {
                self.rest = Some(true);
                true
            }
            "q" | "quit" => {
                self.rest = Some(false);
                false
            }
            _ => {
                if read == 0 {
                    self.rest = Some(false);
                }
                false
            }
        }
    }
}

/// What was done, and what is left and why.
fn tell(args: &Args, fixing: &Fixing, terminal: &mut Terminal) {
    let count = |number: usize, what: &str| {
        format!("{number} {what}{}", if number == 1 { "" } else { "s" })
    };
    let mut by_rule: BTreeMap<&str, usize> = BTreeMap::new();
    for ((_, code), number) in &fixing.fixed {
        *by_rule.entry(code).or_default() += number;
    }
    let done = if args.diff || args.check { "would fix" } else { "fixed" };
    if fixing.changed.is_empty() {
        terminal.status("nothing to fix");
    } else {
        let rules: Vec<_> = by_rule.iter().map(|it| format!("{} {}", it.0, it.1)).collect();
        terminal.status(&format!(
            "{done} {} in {}: {}",
            count(by_rule.values().sum(), "finding"),
            count(fixing.changed.len(), "file"),
            rules.join(", "),
        ));
    }
    let left = left(&fixing.scan, args.unsafe_fixes);
    let total: usize = left.values().flat_map(|it| it.1.values()).sum();
    if total == 0 {
        return;
    }
    let are = if total == 1 { "is" } else { "are" };
    terminal.status(&format!("{} {are} left:", count(total, "finding")));
    for (code, (rule, reasons)) in left {
        for (why, number) in reasons {
            terminal.status(&format!("  {number:>4}  {code} {}: {why}", rule.name));
        }
    }
    if !(args.diff || args.check) && !fixing.changed.is_empty() {
        terminal.status("`gpupin undo` takes the changes back");
    }
}

#[derive(Serialize)]
struct Document {
    version: u32,
    files: Vec<String>,
    fixed: Vec<JsonFixed>,
    left: Vec<JsonLeft>,
    refused: Vec<JsonRefused>,
}

#[derive(Serialize)]
struct JsonFixed {
    path: String,
    code: &'static str,
    findings: usize,
}

#[derive(Serialize)]
struct JsonLeft {
    code: &'static str,
    name: &'static str,
    why: String,
    findings: usize,
}

#[derive(Serialize)]
struct JsonRefused {
    path: String,
    why: String,
}

fn document(project: &Project, fixing: &Fixing, refused: &[Problem], unsafe_too: bool) -> Document {
    let fixed = fixing.fixed.iter().map(|((path, code), findings)| JsonFixed {
        path: project.shown(path),
        code,
        findings: *findings,
    });
    let left = left(&fixing.scan, unsafe_too).into_iter().flat_map(|(code, (rule, reasons))| {
        reasons.into_iter().map(move |(why, findings)| JsonLeft {
            code,
            name: rule.name,
            why,
            findings,
        })
    });
    Document {
        version: 1,
        files: fixing.changed.iter().map(|it| project.shown(&it.key)).collect(),
        fixed: fixed.collect(),
        left: left.collect(),
        refused: refused
            .iter()
            .map(|it| JsonRefused { path: it.path.clone(), why: it.message.clone() })
            .collect(),
    }
}
