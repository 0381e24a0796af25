use std::time::{Duration, SystemTime};

use crate::{
    commands::undo::Place,
    failure::{Exit, Failure},
    fix::{TreeLock, time::rfc3339},
    terminal::Terminal,
};

/// Remove old entries of the journal, which `gpupin undo` then cannot take back any more
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,

    #[command(flatten)]
    place: Place,
}

/// Which entries go.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Which {
    /// Keep this many of the latest entries
    #[arg(long, value_name = "NUMBER")]
    keep: Option<usize>,

    /// Remove only entries older than this, such as `30d`
    #[arg(long, value_name = "TIME", value_parser = gpupin_policy::duration)]
    older_than: Option<Duration>,
}

const EXAMPLES: &str = "\
Examples:
  gpupin journal prune --keep 20
  gpupin journal prune --older-than 30d
  gpupin journal prune --keep 5 --older-than 30d    old ones, but never the latest five";

pub(super) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let found = args.place.find()?;
    // Nobody may write an entry, or need one, meanwhile.
    let lock = TreeLock::acquire(&found.root, terminal)?;
    let mut ids = found.journal.ids()?;
    ids.truncate(ids.len().saturating_sub(args.which.keep.unwrap_or_default()));
    if let Some(age) = args.which.older_than {
        let time = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        let oldest = rfc3339(time);
        // Of one that cannot be read, nothing is known.
        ids.retain(|it| found.journal.read(it).is_ok_and(|it| it.time < oldest));
    }
    let removed = found.journal.prune(&lock, &ids)?;
    let (entries, copies) = (removed.entries, removed.objects);
    let entries = if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") };
    let copies = if copies == 1 { "1 copy".to_owned() } else { format!("{copies} copies") };
    terminal.status(&format!("removed {entries} and {copies} of files, {} bytes", removed.bytes));
    if removed.keeps_objects {
        terminal.warning(
            "an entry cannot be read, so that no copy of a file was removed: it may need any",
        );
    }
    Ok(Exit::Clean)
}
