use crate::{
    failure::{Exit, Failure},
    terminal::Terminal,
};

mod hold;
mod ls;

/// See who holds and awaits GPUs, or hold one
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Ls(ls::Args),
    Wait(hold::WaitArgs),
    Hold(hold::Args),
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    match &args.command {
        Command::Ls(args) => ls::run(args, terminal),
        Command::Wait(args) => hold::wait(args, terminal),
        Command::Hold(args) => hold::run(args, terminal),
    }
}
