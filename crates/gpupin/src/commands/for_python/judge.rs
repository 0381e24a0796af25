use std::io;

use anyhow::Context as _;
use gpupin_run::growth::{self, Question};

use crate::{
    failure::{Exit, Failure},
    report::write_json,
    terminal::Terminal,
};

/// Judges samples of memory that come as one JSON object on standard input.
pub(super) fn run(terminal: &mut Terminal) -> Result<Exit, Failure> {
    let question: Question = serde_json::from_reader(io::stdin().lock())
        .context("standard input is not what the Python package sends")?;
    write_json(&growth::judge(&question), terminal.out()).context("failed to write output")?;
    Ok(Exit::Clean)
}
