use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{commands::Cli, failure::Exit, terminal::Terminal};

/// Print a script that completes flags and values in a shell
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  gpupin completions bash > ~/.local/share/bash-completion/completions/gpupin
  gpupin completions zsh > \"${fpath[1]}/_gpupin\"
  gpupin completions fish > ~/.config/fish/completions/gpupin.fish
  gpupin completions powershell >> $PROFILE";

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Exit {
    clap_complete::generate(args.shell, &mut Cli::command(), "gpupin", &mut terminal.out());
    Exit::Clean
}
