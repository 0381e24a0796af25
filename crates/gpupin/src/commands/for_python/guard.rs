use anyhow::Context as _;

use super::pin::ProgramArgs;
use crate::{
    failure::{Exit, Failure},
    report::write_json,
    terminal::Terminal,
};

/// What the policy says to the guard, whatever the machine has
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    program: ProgramArgs,
}

#[derive(serde::Serialize)]
struct Document {
    version: u32,
    /// In bytes.
    leak_threshold: u64,
}

pub(super) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let guard = args.program.open(terminal)?.policy.guard;
    let document = Document { version: 1, leak_threshold: guard.leak_threshold.get() };
    write_json(&document, terminal.out()).context("failed to write output")?;
    Ok(Exit::Clean)
}
