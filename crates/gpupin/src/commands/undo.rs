use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, anyhow};

use crate::{
    failure::{Exit, Failure},
    fix::{
        TreeLock,
        journal::{self, Entry, Journal},
        undo::{Changed, Left, Plan, carry_out, latest, plan},
        unified,
    },
    project,
    terminal::{Terminal, one_line},
};

/// Take back what `gpupin fix` changed, byte for byte
///
/// Every file is compared with the journal first. If one changed since, none is touched.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Entry of the journal, or how it begins; without it, the latest that is not undone
    id: Option<String>,

    /// Of files that changed since, restore those hunks that are still as the fix left them
    #[arg(long)]
    force_unchanged_hunks: bool,

    /// Print what would change, and change nothing
    #[arg(long)]
    diff: bool,

    #[command(flatten)]
    place: Place,
}

const EXAMPLES: &str = "\
Examples:
  gpupin undo --diff           what would change
  gpupin undo                  take the latest changes back
  gpupin undo 261126-0825      take this entry of `gpupin journal` back

Exit codes: 0 everything was restored, 1 something changed since, 2 could not do its work";

/// Which project is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// Use the journal of the project in this directory or above it, not of the working directory
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
}

/// A project that has a journal.
pub(crate) struct Found {
    pub(crate) root: PathBuf,
    pub(crate) journal: Journal,
    working_directory: PathBuf,
}

impl Place {
    pub(crate) fn find(&self) -> Result<Found, Failure> {
        let working_directory =
            std::env::current_dir().context("failed to find the working directory")?;
        let start = self.project.as_deref().unwrap_or(Path::new(""));
        let start = project::normal(&working_directory.join(start));
        if !start.is_dir() {
            let start = project::display(&working_directory, &start);
            return Err(Failure::usage(format!("`{start}` is not a directory")));
        }
        let (root, journal) = journal::find(&start)?;
        Ok(Found { root, journal, working_directory })
    }
}

impl Found {
    /// A file of an entry, for people.
    pub(crate) fn shown(&self, key: &str) -> String {
        let path = project::normal(&self.root.join(key));
        one_line(&project::display(&self.working_directory, &path))
    }
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let found = args.place.find()?;
    // Who only looks needs no lock: whatever is read is old or new.
    let lock = if args.diff { None } else { Some(TreeLock::acquire(&found.root, terminal)?) };
    let mut entry = match &args.id {
        Some(id) => found.journal.read(&found.journal.resolve(id)?)?,
        None => latest(&found.journal)?.ok_or_else(|| {
            Failure::usage("there is nothing to undo: no entry of the journal is left")
                .hint("`gpupin journal` lists all entries")
        })?,
    };
    if let Some(time) = &entry.undone {
        terminal.status(&format!("`{}` was undone already, {time}", entry.id));
        return Ok(Exit::Clean);
    }

    let changed =
        if args.force_unchanged_hunks { Changed::LoseUnchangedHunks } else { Changed::Stay };
    let plan = plan(&found.root, &found.journal, &entry, changed)?;
    if changed == Changed::Stay && !plan.left.is_empty() {
        return Err(refusal(&found, &entry, &plan.left));
    }
    match &lock {
        None => print(&found, &plan, terminal)?,
        Some(lock) => {
            carry_out(&plan, lock, &found.journal, &mut entry, SystemTime::now())?;
            tell(&found, &entry, &plan, terminal);
        }
    }
    for it in &plan.left {
        terminal.error(&format!("`{}` is not restored: {}", found.shown(&it.path), it.why));
    }
    Ok(if plan.left.is_empty() { Exit::Clean } else { Exit::Findings })
}

/// Nothing was touched, and why.
fn refusal(found: &Found, entry: &Entry, left: &[Left]) -> Failure {
    let lines = left.iter().map(|it| format!("\n  `{}`: {}", found.shown(&it.path), it.why));
    let lines: String = lines.collect();
    let error =
        anyhow!("`{}` cannot be undone as a whole, so nothing was touched{lines}", entry.id);
    let mut later: Vec<_> = left.iter().filter_map(|it| it.later.as_ref()).collect();
    later.sort();
    later.dedup();
    let failure = Failure::new(Exit::Findings, error);
    // The last one first, as they were made on top of each other.
    let failure = later.iter().rev().fold(failure, |failure, id| {
        failure.hint(format!("a later fix changed it as well; `gpupin undo {id}` first"))
    });
    failure.hint("`--force-unchanged-hunks` restores what is still as the fix left it")
}

fn tell(found: &Found, entry: &Entry, plan: &Plan, terminal: &mut Terminal) {
    let (mut restored, mut removed) = (0, 0);
    for it in &plan.restorations {
        let what = if it.then.is_some() { "restored" } else { "removed" };
        *(if it.then.is_some() { &mut restored } else { &mut removed }) += 1;
        terminal.verbose(|| format!("{what} `{}`", found.shown(&it.path)));
    }
    let files = |count: usize| format!("{count} file{}", if count == 1 { "" } else { "s" });
    let what = match (restored, removed) {
        (0, 0) => "every file was as before already".to_owned(),
        (restored, 0) => format!("restored {}", files(restored)),
        (0, removed) => format!("removed {}", files(removed)),
        (restored, removed) => format!("restored {}, removed {removed}", files(restored)),
    };
    let command = one_line(&entry.command.join(" "));
    let undone = if plan.left.is_empty() { "undid" } else { "undid in part" };
    terminal.status(&format!("{undone} `{}` (`{command}`, {}): {what}", entry.id, entry.when()));
}

fn print(found: &Found, plan: &Plan, terminal: &mut Terminal) -> Result<(), Failure> {
    let colour = terminal.has_colour();
    for it in &plan.restorations {
        let now = String::from_utf8_lossy(&it.now);
        let then = String::from_utf8_lossy(it.then.as_deref().unwrap_or_default());
        // Seen from the working directory, where `git apply` runs.
        let path = project::display(&found.working_directory, &found.root.join(&it.path));
        unified(&path, &now, &then, colour, terminal.out()).context("failed to write output")?;
    }
    Ok(())
}
