//! What the Python package asks. Its half of each exchange is in `python/gpupin`; the documents are in `wire/`.

use crate::{
    failure::{Exit, Failure},
    terminal::Terminal,
};

mod give_back;
mod guard;
mod judge;
mod lease;
mod pin;

/// Answer the Python package
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Pin(pin::Args),
    Lease(lease::Args),
    GiveBack,
    Guard(guard::Args),
    Judge,
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    match &args.command {
        Command::Pin(args) => pin::run(args, terminal),
        Command::Lease(args) => lease::run(args, terminal),
        Command::GiveBack => give_back::run(),
        Command::Guard(args) => guard::run(args, terminal),
        Command::Judge => judge::run(terminal),
    }
}
