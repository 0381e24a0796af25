//! What a command line starts, and on which GPU.
//!
//! Every language that starts programs ends here with a list of words: shell lines, `CMD ["python", "x.py"]`,
//! `ExecStart=`, `subprocess.run([…])`. Wrappers (`env`, `nohup`, `srun`) are taken off, launchers
//! (`torchrun`, `accelerate launch`) looked through, and flags that say GPU become choices.

use super::{UnitBuilder, container, settings, shell};
use crate::{
    span::{Positions, Span},
    unit::{ChildEnvironment, Does, Runs, Start, Step},
    value::{Spanned, Value},
};

mod choice;
mod inline;
mod split;
mod target;
mod wrapper;

pub(crate) use choice::choice;
use choice::choices;
pub(crate) use split::split;
pub(crate) use target::program_name;
use target::target;
pub(crate) use wrapper::set;
use wrapper::unwrap;

/// A command as a starter writes it.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) span: Span,
    pub(crate) words: Vec<Spanned>,
    pub(crate) environment: ChildEnvironment,
    /// The directory it starts in, where a `cd` told: `/`-separated, without a slash at the end, empty for "here".
    pub(crate) directory: String,
}

impl Command {
    pub(crate) fn new(span: Span, words: Vec<Spanned>) -> Self {
        let environment = ChildEnvironment::Inherited(Vec::new());
        Self { span, words, environment, directory: String::new() }
    }
}

/// Reads a command into steps. Commands that cannot matter (`echo`, `mkdir`) give none.
pub(crate) fn run(mut command: Command, out: &mut UnitBuilder) -> Vec<Step> {
    unwrap(&mut command, out);
    if let Some(steps) = container::docker(&command, out) {
        return steps;
    }
    if let Some(steps) = nested_shell(&command, out) {
        return steps;
    }
    start(command, out)
}

fn start(command: Command, out: &mut UnitBuilder) -> Vec<Step> {
    let Command { span, words, environment, directory } = command;
    if words.is_empty() {
        return Vec::new();
    }
    let runs = in_directory(target(&words), &directory);
    if matches!(&runs, Runs::Other(name) if is_tool(name)) && !sets_something(&environment) {
        return Vec::new();
    }
    let choices = choices(&words, out);
    let inline = inline::choices(&words, out);
    let service = out.service().map(str::to_owned);
    let mut steps = vec![out.event(span, Does::Start(Start { runs, words, environment, service }))];
    let chosen = choices.into_iter().chain(inline);
    steps.extend(chosen.map(|(span, it)| out.event(span, Does::Choose(it))));
    steps
}

/// The text of a word, as far as it is known; a default counts.
pub(crate) fn text(word: &Spanned) -> Option<&str> {
    match &word.value {
        Value::Str(text) => Some(text),
        Value::ByDefault(default) => text(default),
        _ => None,
    }
}

/// The place of `part` inside a word: exact where the word's source shows it, else the whole word.
///
/// The last such place, because what is asked for is what follows `=` or `:`.
pub(crate) fn part(word: &Spanned, part: &str, out: &UnitBuilder) -> Span {
    let raw = out.source().slice(word.span);
    // A word whose place is that of a whole text.
    if text(word).is_none_or(|it| raw.len() > 4 * it.len() + 64) {
        return word.span;
    }
    let plain: String = raw.chars().filter(|it| !matches!(it, '"' | '\'' | '\\')).collect();
    let shows = text(word).is_some_and(|it| {
        it == raw || it.chars().filter(|it| !matches!(it, '"' | '\'' | '\\')).eq(plain.chars())
    });
    match raw.rfind(part).filter(|_| shows && !part.is_empty()) {
        Some(at) => {
            let start = word.span.start as usize + at;
            Span::new(start, start + part.len())
        }
        None => word.span,
    }
}

/// `NAME=value` in one word.
pub(crate) fn assignment(word: &Spanned, out: &UnitBuilder) -> Option<(String, Spanned)> {
    match &word.value {
        Value::Str(text) => {
            let (name, value) = text.split_once('=')?;
            is_variable_name(name).then(|| {
                let span = part(word, value, out);
                (name.to_owned(), Spanned::new(Value::Str(value.to_owned()), span))
            })
        }
        // `NAME=${X:-0}`: the default as one text.
        Value::ByDefault(default) => {
            let (name, value) = assignment(default, out)?;
            let inner = Spanned::new(value.value, default.span);
            Some((name, Spanned::new(Value::ByDefault(Box::new(inner)), word.span)))
        }
        Value::Text(parts) => {
            let Value::Str(first) = parts.first()? else { return None };
            let (name, start) = first.split_once('=')?;
            let mut rest = parts[1..].to_vec();
            if !start.is_empty() {
                rest.insert(0, Value::Str(start.to_owned()));
            }
            let value = if rest.len() == 1 { rest.remove(0) } else { Value::Text(rest) };
            is_variable_name(name).then(|| (name.to_owned(), Spanned::new(value, word.span)))
        }
        _ => None,
    }
}

pub(crate) fn is_variable_name(name: &str) -> bool {
    name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_')
        && name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_')
}

fn sets_something(environment: &ChildEnvironment) -> bool {
    match environment {
        ChildEnvironment::Inherited(set)
        | ChildEnvironment::Only(set)
        | ChildEnvironment::Without { set, .. } => {
            set.iter().any(|it| settings::names_variable(&it.0))
        }
        ChildEnvironment::Unknown => false,
    }
}

/// `bash -c 'text'`: the text is a script of its own.
fn nested_shell(command: &Command, out: &mut UnitBuilder) -> Option<Vec<Step>> {
    let name = program_name(text(command.words.first()?)?);
    if !is_shell(&name) {
        return None;
    }
    let flag = command.words.iter().position(|it| {
        text(it).is_some_and(|it| it.starts_with('-') && !it.starts_with("--") && it.ends_with('c'))
    })?;
    let script = command.words.get(flag + 1)?;
    let script_text = text(script)?.to_owned();
    let at = positions(script, &script_text, out);
    let inner = shell::read_within(&script_text, &at, &command.environment, out);
    Some(vec![Step::Scope(inner)])
}

/// Where the text of a word stands in the file.
pub(crate) fn positions(word: &Spanned, text: &str, out: &UnitBuilder) -> Positions {
    let raw = out.source().slice(word.span);
    // Behind one quote, or three and a line's end.
    match (0..=5).find(|it| raw.get(*it..).is_some_and(|raw| raw.starts_with(text))) {
        Some(quotes) => Positions::shifted(word.span.start + u32::try_from(quotes).unwrap_or(0)),
        None => Positions::fixed(word.span),
    }
}

pub(crate) fn is_shell(name: &str) -> bool {
    matches!(name, "sh" | "bash" | "zsh" | "dash" | "ksh" | "ash")
}

fn in_directory(runs: Runs, directory: &str) -> Runs {
    let join = |path: String| join(directory, &path);
    match runs {
        Runs::PythonFile(path) => Runs::PythonFile(join(path)),
        Runs::Script(path) => Runs::Script(join(path)),
        Runs::Pytest(paths) => Runs::Pytest(paths.into_iter().map(join).collect()),
        Runs::Gpupin(inner) => Runs::Gpupin(Box::new(in_directory(*inner, directory))),
        other => other,
    }
}

/// A path written while standing in `directory`.
pub(crate) fn join(directory: &str, path: &str) -> String {
    let absolute =
        path.starts_with('/') || path.starts_with('~') || path.as_bytes().get(1) == Some(&b':');
    if directory.is_empty() || absolute {
        // What stands in a container's working directory is addressed from there.
        let inside = path.strip_prefix(directory).filter(|_| directory.starts_with('/'));
        return inside.map_or(path, |it| it.trim_start_matches('/')).to_owned();
    }
    if directory.starts_with('/') {
        return path.to_owned();
    }
    format!("{directory}/{}", path.strip_prefix("./").unwrap_or(path))
}

/// Programs that start no other and use no GPU: told apart to keep orders short.
fn is_tool(name: &str) -> bool {
    const TOOLS: &[&str] = &[
        "[",
        "apk",
        "apt",
        "apt-get",
        "awk",
        "basename",
        "brew",
        "cargo",
        "cat",
        "chmod",
        "chown",
        "choco",
        "clear",
        "cmake",
        "cp",
        "curl",
        "cut",
        "date",
        "df",
        "diff",
        "dirname",
        "dnf",
        "du",
        "echo",
        "exit",
        "expr",
        "false",
        "find",
        "gcc",
        "git",
        "grep",
        "groups",
        "gunzip",
        "gzip",
        "head",
        "hostname",
        "id",
        "install",
        "jq",
        "kill",
        "ldconfig",
        "let",
        "ln",
        "ls",
        "lsof",
        "mkdir",
        "mkfifo",
        "mktemp",
        "modprobe",
        "mount",
        "mv",
        "ninja",
        "npm",
        "pip",
        "pip3",
        "pkill",
        "popd",
        "printf",
        "ps",
        "pushd",
        "pwd",
        "read",
        "readlink",
        "realpath",
        "rm",
        "rmdir",
        "rsync",
        "scp",
        "sed",
        "select",
        "seq",
        "set",
        "shift",
        "shopt",
        "sleep",
        "sort",
        "ssh",
        "stat",
        "systemctl",
        "tail",
        "tar",
        "tee",
        "test",
        "touch",
        "tr",
        "trap",
        "true",
        "type",
        "ulimit",
        "umask",
        "uname",
        "uniq",
        "unzip",
        "useradd",
        "virtualenv",
        "wait",
        "wc",
        "wget",
        "which",
        "whoami",
        "xargs",
        "yum",
        "zip",
        "nvidia-smi",
        "docker",
        "podman",
        "nerdctl",
        "nvidia-docker",
        "docker-compose",
        "kubectl",
        "helm",
        "nvcc",
        "gpustat",
        "nvtop",
        ":",
        "cd",
        "activate",
        "deactivate",
        "command",
        "local",
        "alias",
        "rem",
        "pause",
        "title",
        "cls",
        "mode",
        "chcp",
        "timeout",
        "setlocal",
        "endlocal",
        "goto",
        "where",
        "ver",
    ];
    // PowerShell's own commands are a verb and a noun: `Write-Host`.
    let starts_upper = |it: &str| it.starts_with(|it: char| it.is_ascii_uppercase());
    TOOLS.contains(&name)
        || name.split_once('-').is_some_and(|(verb, noun)| starts_upper(verb) && starts_upper(noun))
}
