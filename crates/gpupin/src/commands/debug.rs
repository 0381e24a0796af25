use std::{collections::BTreeSet, path::PathBuf};

use anyhow::Context as _;
use gpupin_lint::{selection::Selection, survey::Surveyor};
use gpupin_policy::Policy;

use crate::{
    failure::{Exit, Failure},
    reference,
    terminal::Terminal,
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
    /// Print the literals that make a Python file worth parsing, for comparison with other tools
    Needles,
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    match &args.command {
        Command::Docs { dir } => reference::write(dir)?,
        Command::Needles => {
            let surveyor = Surveyor::new(Selection::default().rules(), &Policy::default());
            let literals: BTreeSet<&str> = surveyor.literals().collect();
            for literal in literals {
                writeln!(terminal.out(), "{literal}").context("failed to write output")?;
            }
        }
    }
    Ok(Exit::Clean)
}
