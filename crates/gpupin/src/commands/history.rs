use std::path::PathBuf;

use anyhow::Context as _;
use gpupin_device::Kind;
use gpupin_monitor::history::{HistoryError, Reader};

use crate::{
    failure::{Exit, Failure},
    state,
    terminal::Terminal,
};

mod export;
mod info;

/// See what is kept of the past of every GPU, or export it
///
/// What was sampled is kept for two days, roll-ups of minutes for 90 days, of hours for five years. Simulated figures have a file of their own.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  gpupin history info
  gpupin history export --from 2h --format csv
  gpupin history export --from 2026-11-26 --format openmetrics --output november.txt";

#[derive(Debug, clap::Subcommand)]
enum Command {
    Info(info::Args),
    Export(Box<export::Args>),
}

/// Which history is asked.
#[derive(Debug, clap::Args)]
struct Place {
    /// Ask this file instead of the history of this user or machine
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,

    /// Ask the history of simulated machines
    #[arg(long, conflicts_with = "history")]
    simulated: bool,
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    match &args.command {
        Command::Info(args) => info::run(args, terminal),
        Command::Export(args) => export::run(args, terminal),
    }
}

impl Place {
    fn open(&self) -> Result<(PathBuf, Reader), Failure> {
        let kind = if self.simulated { Kind::Simulated } else { Kind::Measured };
        let path = match &self.history {
            Some(path) => path.clone(),
            None => state::history_to_read(kind)
                .context("there is no history: neither `XDG_STATE_HOME` nor `HOME` is set")?,
        };
        let reader = Reader::open(&path)?;
        Ok((path, reader))
    }
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Self {
        let hint = match &error {
            HistoryError::Missing { .. } => Some("name another file with `--history`"),
            HistoryError::Newer { .. } => Some("use the gpupin that wrote it, or a newer one"),
            HistoryError::Foreign { .. } | HistoryError::OtherKind { .. } => {
                Some("keep the history in another file")
            }
            HistoryError::InUse { .. } => Some("only one gpupin at a time keeps a history"),
            HistoryError::Older { .. }
            | HistoryError::Files { .. }
            | HistoryError::Database { .. } => None,
        };
        let failure = Self::new(Exit::Failed, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
