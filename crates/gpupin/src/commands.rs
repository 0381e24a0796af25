//! The subcommands, one file each.

use clap::Parser as _;

use crate::{
    failure::{Exit, Failure},
    terminal::{Appearance, Terminal},
};

mod completions;
mod debug;
mod doctor;
mod env;
mod evidence;
mod fix;
mod for_python;
mod gpus;
mod hook;
mod init;
mod journal;
mod lease;
mod lock;
mod lsp;
pub(crate) mod rule;
mod rules;
pub(crate) mod run;
mod scan;
pub(crate) mod sim;
mod undo;
mod verify;
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
  gpupin fix                     rewrite it, as far as that is safe
  gpupin rule GP103              what a finding means and what to do
  gpupin gpus                    the GPUs of this machine, and which one is meant
  gpupin which cuda:1            which GPU a number means
  gpupin doctor                  whether all is set up so that work lands on the right GPU
  gpupin hook install            scan what is about to be committed

Exit codes: 0 nothing found, 1 findings, 2 could not do its work, 3 no GPU matches";

#[derive(Debug, clap::Subcommand)]
enum Command {
    Scan(Box<scan::Args>),
    Fix(Box<fix::Args>),
    Rules(rules::Args),
    Rule(rule::Args),
    Undo(undo::Args),
    Journal(journal::Args),
    Init(init::Args),
    Which(which::Args),
    Env(env::Args),
    Evidence(evidence::Args),
    Gpus(gpus::Args),
    Run(Box<run::Args>),
    Verify(Box<verify::Args>),
    Doctor(doctor::Args),
    Lease(Box<lease::Args>),
    Lock(lock::Args),
    Hook(hook::Args),
    Sim(sim::Args),
    Lsp(lsp::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    Debug(debug::Args),
    #[command(hide = true)]
    ForPython(Box<for_python::Args>),
}

/// The interface of `gpupin run` alone.
///
/// Building the flags of all verbs takes about as long as starting a program does, and programs are started often.
#[derive(Debug, clap::Parser)]
#[command(name = "gpupin", version)]
struct OnlyRun {
    #[command(flatten)]
    appearance: Appearance,

    #[command(subcommand)]
    command: RunCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RunCommand {
    Run(Box<run::Args>),
}

impl Cli {
    /// Reads the arguments of this process, and ends it where they are not understood.
    pub(crate) fn of_process() -> Self {
        if std::env::args_os().nth(1).is_some_and(|verb| verb == "run") {
            let OnlyRun { appearance, command: RunCommand::Run(args) } = OnlyRun::parse();
            return Self { appearance, command: Command::Run(args) };
        }
        Self::parse()
    }

    /// Whether it reads source text, whose nesting may need much of the stack.
    pub(crate) fn needs_stack(&self) -> bool {
        !matches!(self.command, Command::Run(_))
    }

    pub(crate) fn run(&self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        match &self.command {
            Command::Scan(args) => scan::run(args, terminal),
            Command::Fix(args) => fix::run(args, terminal),
            Command::Rules(args) => rules::run(args, terminal),
            Command::Rule(args) => rule::run(args, terminal),
            Command::Undo(args) => undo::run(args, terminal),
            Command::Journal(args) => journal::run(args, terminal),
            Command::Init(args) => init::run(args, terminal),
            Command::Which(args) => which::run(args, terminal),
            Command::Env(args) => env::run(args, terminal),
            Command::Evidence(args) => evidence::run(args, terminal),
            Command::Gpus(args) => gpus::run(args, terminal),
            Command::Run(args) => run::run(args, terminal),
            Command::Verify(args) => verify::run(args, terminal),
            Command::Doctor(args) => doctor::run(args, terminal),
            Command::Lease(args) => lease::run(args, terminal),
            Command::Lock(args) => lock::run(args, terminal),
            Command::Hook(args) => hook::run(args, terminal),
            Command::Sim(args) => sim::run(args, terminal),
            Command::Lsp(args) => lsp::run(args, terminal),
            Command::Completions(args) => Ok(completions::run(args, terminal)),
            Command::Debug(args) => debug::run(args, terminal),
            Command::ForPython(args) => for_python::run(args, terminal),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::{Cli, OnlyRun};

    #[test]
    fn run_alone_is_what_it_is_among_all() {
        let help = |mut all: clap::Command| {
            all.build();
            all.find_subcommand_mut("run").unwrap().render_long_help().to_string()
        };
        assert_eq!(help(OnlyRun::command()), help(Cli::command()));
        for args in [
            &["--no-such-flag"][..],
            &["--timeout", "x", "--", "true"],
            &["--timeout", "1s", "--no-wait", "true"],
            &["--quiet", "--role", "tts", "--", "true", "--quiet"],
            &[],
        ] {
            let words = || ["gpupin", "run"].iter().chain(args);
            let alone = OnlyRun::try_parse_from(words());
            let alone = alone.map(|it| format!("{:?} {:?}", it.appearance, it.command));
            let among_all = Cli::try_parse_from(words());
            let among_all = among_all.map(|it| format!("{:?} {:?}", it.appearance, it.command));
            let text = |it: clap::Error| it.to_string();
            assert_eq!(alone.map_err(text), among_all.map_err(text));
        }
    }

    /// The commands that a pipeline or a manifest of hooks runs gpupin with.
    fn commands(yaml: &str) -> Vec<String> {
        let step = |line: &str| {
            let line = line.trim_start().trim_start_matches("- ");
            let line = line.trim_start_matches("run: ").trim_start_matches("entry: ");
            line.starts_with("gpupin ").then(|| line.to_owned())
        };
        yaml.lines().filter_map(step).collect()
    }

    #[test]
    fn what_others_run_gpupin_with_is_understood() {
        for (yaml, count) in [
            (include_str!("../../../examples/ci/github.yml"), 2),
            (include_str!("../../../examples/ci/gitlab.yml"), 2),
            (include_str!("../../../.pre-commit-hooks.yaml"), 2),
        ] {
            let commands = commands(yaml);
            assert_eq!(commands.len(), count, "{commands:?}");
            for command in commands {
                let words = command.split_whitespace().map(|it| it.trim_matches('"'));
                if let Err(error) = Cli::try_parse_from(words) {
                    panic!("`{command}`: {error}");
                }
            }
        }
    }
}
