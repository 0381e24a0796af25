//! Programs that start another: `env`, `sudo`, `nohup`, `uv run`.

use super::{Command, assignment, program_name, text};
use crate::{language::UnitBuilder, unit::ChildEnvironment, value::Spanned};

/// Takes wrappers off the front, and keeps what they do to the environment.
pub(super) fn unwrap(command: &mut Command, out: &UnitBuilder) {
    while let Some(name) = command.words.first().and_then(text).map(program_name) {
        let words = &command.words;
        let taken = match &*name {
            "env" => env(words, &mut command.environment, out),
            "sudo" | "doas" => sudo(words, &mut command.environment, out),
            // Never runs the rest as a program of this kind: `command -v python`.
            "command" if words.get(1).and_then(text).is_some_and(|it| it.starts_with('-')) => 0,
            "nohup" | "exec" | "command" | "builtin" | "setsid" | "time" | "chronic" | "stdbuf"
            | "nice" | "ionice" | "chrt" | "srun" | "xvfb-run" | "numactl" | "catchsegv"
            | "tini" | "dumb-init" | "strace" | "nsys" | "ncu" | "gosu" | "call" | "start" => {
                1 + options(&words[1..], VALUE_OPTIONS)
            }
            "timeout" | "taskset" => (2 + options(&words[1..], VALUE_OPTIONS)).min(words.len()),
            "uv" | "poetry" | "pipenv" | "pdm" | "hatch" | "rye" | "pixi" | "conda" | "mamba"
            | "micromamba" | "rez-env" => match words.get(1).and_then(text) {
                Some("run") => 2 + options(&words[2..], VALUE_OPTIONS),
                _ => 0,
            },
            _ => 0,
        };
        if taken == 0 || taken >= words.len() {
            return;
        }
        command.words.drain(..taken);
    }
}

/// Options of wrappers that take the next word as their value.
const VALUE_OPTIONS: &[&str] = &[
    "-n",
    "--name",
    "-p",
    "--prefix",
    "-k",
    "--kill-after",
    "-s",
    "--signal",
    "-c",
    "-u",
    "-g",
    "-t",
    "-w",
    "-N",
    "-J",
    "-A",
    "-C",
    "-o",
    "--with",
    "--group",
    "--extra",
    "--python",
    "--project",
    "--directory",
    "--cwd",
    "--env-file",
];

/// How many words at the front are options, with their values.
fn options(words: &[Spanned], with_value: &[&str]) -> usize {
    let mut taken = 0;
    while let Some(word) = words.get(taken).and_then(text).filter(|it| it.starts_with('-')) {
        taken += if with_value.contains(&word) { 2 } else { 1 };
        if word == "--" {
            break;
        }
    }
    taken
}

fn env(words: &[Spanned], environment: &mut ChildEnvironment, out: &UnitBuilder) -> usize {
    let mut taken = 1;
    while let Some(word) = words.get(taken) {
        let known = text(word).unwrap_or_default();
        if let Some((name, value)) = assignment(word, out) {
            set(environment, name, value);
        } else if matches!(known, "-i" | "-" | "--ignore-environment") {
            *environment = ChildEnvironment::Only(Vec::new());
        } else if matches!(known, "-u" | "--unset") {
            taken += 1;
            if let Some(name) = words.get(taken).and_then(text) {
                remove(environment, name);
            }
        } else if let Some(name) =
            known.strip_prefix("--unset=").or_else(|| known.strip_prefix("-u"))
        {
            remove(environment, name);
        } else if matches!(known, "-C" | "--chdir") {
            taken += 1;
        } else if !known.starts_with('-') {
            break;
        }
        taken += 1;
    }
    taken
}

/// `sudo` starts with a fresh environment unless told to keep it.
fn sudo(words: &[Spanned], environment: &mut ChildEnvironment, out: &UnitBuilder) -> usize {
    let count = options(&words[1..], &["-u", "-g", "-h", "-p", "-C", "-D", "-R", "-T"]);
    let keeps = words[1..=count].iter().filter_map(text).any(|it| {
        it.starts_with("--preserve-env")
            || it.starts_with('-') && !it.starts_with("--") && it.contains('E')
    });
    if !keeps {
        *environment = ChildEnvironment::Only(Vec::new());
    }
    let mut taken = 1 + count;
    while let Some((name, value)) = words.get(taken).and_then(|it| assignment(it, out)) {
        set(environment, name, value);
        taken += 1;
    }
    taken
}

pub(crate) fn set(environment: &mut ChildEnvironment, name: String, value: Spanned) {
    match environment {
        ChildEnvironment::Inherited(set)
        | ChildEnvironment::Only(set)
        | ChildEnvironment::Without { set, .. } => {
            set.retain(|it| it.0 != name);
            set.push((name, value));
        }
        ChildEnvironment::Unknown => {}
    }
}

fn remove(environment: &mut ChildEnvironment, name: &str) {
    match environment {
        ChildEnvironment::Inherited(set) => {
            set.retain(|it| it.0 != name);
            let set = std::mem::take(set);
            *environment = ChildEnvironment::Without { removed: vec![name.to_owned()], set };
        }
        ChildEnvironment::Without { removed, set } => {
            set.retain(|it| it.0 != name);
            removed.push(name.to_owned());
        }
        ChildEnvironment::Only(set) => set.retain(|it| it.0 != name),
        ChildEnvironment::Unknown => {}
    }
}
