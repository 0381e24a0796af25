//! The subcommands, one file each.

use crate::{
    failure::{Exit, Failure},
    terminal::{Appearance, Terminal},
};

mod completions;
mod debug;
mod init;
mod lsp;
pub(crate) mod rule;
mod rules;
mod scan;
mod which;

/// Find every line that decides which GPU a project runs on
///
/// A project declares its GPU in `gpupin.toml`, by what it is and never by an index. gpupin finds the
/// places in its files that could pick another one.
#[derive(Debug, clap::Parser)]
#[command(name = "gpupin", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) appearance: Appearance,

    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  gpupin init --name \"RTX 3090\"   declare the GPU of this project
  gpupin scan                    find what could pick another one
  gpupin rule GP103              what a finding means and what to do
  gpupin which cuda:1            which GPU a number means

Exit codes: 0 nothing found, 1 findings, 2 could not do its work, 3 no GPU matches";

#[derive(Debug, clap::Subcommand)]
enum Command {
    Scan(Box<scan::Args>),
    Rules(rules::Args),
    Rule(rule::Args),
    Init(init::Args),
    Which(which::Args),
    Lsp(lsp::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    Debug(debug::Args),
}

impl Cli {
    pub(crate) fn run(&self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        match &self.command {
            Command::Scan(args) => scan::run(args, terminal),
            Command::Rules(args) => rules::run(args, terminal),
            Command::Rule(args) => rule::run(args, terminal),
            Command::Init(args) => init::run(args, terminal),
            Command::Which(args) => which::run(args, terminal),
            Command::Lsp(args) => lsp::run(args, terminal),
            Command::Completions(args) => Ok(completions::run(args, terminal)),
            Command::Debug(args) => debug::run(args, terminal),
        }
    }
}
