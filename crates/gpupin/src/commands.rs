//! The subcommands, one file each.

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _};

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
mod history;
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
pub(crate) mod serve;
pub(crate) mod sim;
mod undo;
mod verify;
mod watch;
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

/// Building the flags of all verbs takes about as long as starting a program does, and programs are started often: only those of the
/// verb that was given are built.
#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
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
    Serve(serve::Args),
    Run(Box<run::Args>),
    Verify(Box<verify::Args>),
    Watch(watch::Args),
    Doctor(doctor::Args),
    Lease(Box<lease::Args>),
    Lock(lock::Args),
    History(history::Args),
    Hook(hook::Args),
    Sim(sim::Args),
    Lsp(lsp::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    Debug(debug::Args),
    #[command(hide = true)]
    ForPython(Box<for_python::Args>),
}

impl Cli {
    /// Reads the arguments of this process, and ends it where they are not understood.
    pub(crate) fn of_process() -> Self {
        let words: Vec<_> = std::env::args_os().collect();
        let mut command = Self::command_for(&words);
        let cli = command.try_get_matches_from_mut(words).and_then(|mut matches| {
            Self::from_arg_matches_mut(&mut matches).map_err(|it| it.format(&mut command))
        });
        cli.unwrap_or_else(|error| error.exit())
    }

    /// The interface, as much of it as these words need: what a list of the verbs says of each is part of what is deferred.
    fn command_for(words: &[OsString]) -> clap::Command {
        let mut command = Self::command();
        if words.get(1).is_none_or(|verb| command.find_subcommand(verb).is_none()) {
            command.build();
        }
        command
    }

    /// Whether it reads source text, whose nesting may need much of the stack.
    pub(crate) fn needs_stack(&self) -> bool {
        matches!(self.command, Command::Scan(_) | Command::Fix(_) | Command::Lsp(_))
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
            Command::Serve(args) => serve::run(args, terminal),
            Command::Run(args) => run::run(args, terminal),
            Command::Verify(args) => verify::run(args, terminal),
            Command::Watch(args) => watch::run(args, terminal),
            Command::Doctor(args) => doctor::run(args, terminal),
            Command::Lease(args) => lease::run(args, terminal),
            Command::Lock(args) => lock::run(args, terminal),
            Command::History(args) => history::run(args, terminal),
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
    use std::ffi::OsString;

    use clap::{CommandFactory as _, Parser as _};

    use super::Cli;

    #[test]
    fn a_verb_that_is_built_alone_is_what_it_is_among_all() {
        let mut all = Cli::command();
        all.build();
        let verbs: Vec<_> = all.get_subcommands().map(|it| it.get_name().to_owned()).collect();
        assert!(verbs.len() > 20, "{verbs:?}");
        let verbs = verbs.iter().map(String::as_str);
        let questions = ["--help", "-h", "--no-such-flag"];
        let questions =
            verbs.flat_map(|verb| questions.map(|it| vec!["gpupin", verb, it])).chain([
                vec!["gpupin"],
                vec!["gpupin", "--help"],
                vec!["gpupin", "help", "run"],
                vec!["gpupin", "scna"],
                vec!["gpupin", "lease", "ls", "--help"],
                vec!["gpupin", "run", "--timeout", "x", "--", "true"],
                vec!["gpupin", "run", "--timeout", "1s", "--no-wait", "true"],
            ]);
        for words in questions {
            let asked: Vec<_> = words.iter().map(OsString::from).collect();
            let alone = Cli::command_for(&asked).try_get_matches_from(&asked);
            let among_all = all.try_get_matches_from_mut(&asked);
            let text = |it: Result<_, clap::Error>| it.map_err(|it| it.to_string());
            assert_eq!(text(alone), text(among_all), "{words:?}");
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
