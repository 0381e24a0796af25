use std::path::PathBuf;

use crate::{
    failure::{Exit, Failure},
    reference,
};

/// Chores for who develops gpupin
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write the pages under `docs/reference`
    Docs {
        /// Where to
        #[arg(long)]
        dir: PathBuf,
    },
}

pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    match &args.command {
        Command::Docs { dir } => reference::write(dir)?,
    }
    Ok(Exit::Clean)
}
