use std::io;

use anyhow::Context as _;
use serde::Serialize;

use crate::{
    commands::{
        rule::Format,
        undo::{Found, Place},
    },
    failure::{Exit, Failure},
    fix::{
        journal::{Entry, VERSION},
        undo::{Condition, condition},
    },
    terminal::{BOLD, Terminal, one_line},
};

mod prune;

/// List what `gpupin fix` changed
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// Entry of the journal, or how it begins: show its files
    id: Option<String>,

    /// How to print the entries
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output_format: Format,

    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Prune(prune::Args),
}

const EXAMPLES: &str = "\
Examples:
  gpupin journal
  gpupin journal 261126-0825          the files of one entry
  gpupin journal prune --keep 20      remove all but the latest entries";

#[derive(Serialize)]
struct Document {
    version: u32,
    /// Oldest first.
    entries: Vec<JsonEntry>,
}

#[derive(Serialize)]
struct JsonEntry {
    id: String,
    time: String,
    tool: String,
    command: Vec<String>,
    policy_hash: Option<String>,
    undone: Option<String>,
    files: Vec<JsonFile>,
}

#[derive(Serialize)]
struct JsonFile {
    path: String,
    old: Option<String>,
    new: String,
    /// What became of it since; `None` if it cannot be read.
    now: Option<Condition>,
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    if let Some(Command::Prune(args)) = &args.command {
        return prune::run(args, terminal);
    }
    let found = args.place.find()?;
    let mut entries = Vec::new();
    if let Some(id) = &args.id {
        entries.push(found.journal.read(&found.journal.resolve(id)?)?);
    } else {
        for id in found.journal.ids()? {
            match found.journal.read(&id) {
                Ok(entry) => entries.push(entry),
                Err(failure) => {
                    let lines: Vec<_> = failure.lines().map(|it| it.1).collect();
                    terminal.warning(&lines.join("; "));
                }
            }
        }
    }
    match (args.output_format, args.id.is_some()) {
        (Format::Json, _) => {
            let entries = entries.into_iter().map(|it| JsonEntry::new(&found, it)).collect();
            crate::report::write_json(&Document { version: VERSION, entries }, terminal.out())
        }
        (Format::Text, false) => list(&entries, terminal),
        (Format::Text, true) => entries.iter().try_for_each(|it| show(&found, it, terminal)),
    }
    .context("failed to write output")?;
    Ok(Exit::Clean)
}

impl JsonEntry {
    fn new(found: &Found, entry: Entry) -> Self {
        let file = |it: crate::fix::journal::FileEntry| JsonFile {
            now: condition(&found.root, &it).ok(),
            path: it.path,
            old: it.old,
            new: it.new,
        };
        Self {
            id: entry.id,
            time: entry.time,
            tool: entry.tool,
            command: entry.command,
            policy_hash: entry.policy_hash,
            undone: entry.undone,
            files: entry.files.into_iter().map(file).collect(),
        }
    }
}

/// A line per entry.
fn list(entries: &[Entry], terminal: &mut Terminal) -> io::Result<()> {
    let bold = if terminal.has_colour() { BOLD } else { <_>::default() };
    let width = entries.iter().map(|it| it.id.len()).max().unwrap_or_default();
    for entry in entries {
        let many = if entry.files.len() == 1 { " " } else { "s" };
        let undone = if entry.undone.is_some() { "undone" } else { "" };
        let line = format!(
            "{bold}{:width$}{bold:#}  {}  {:3} file{many}  {undone:6}  {}",
            entry.id,
            entry.when(),
            entry.files.len(),
            one_line(&entry.command.join(" ")),
        );
        writeln!(terminal.out(), "{}", line.trim_end())?;
    }
    Ok(())
}

/// An entry and its files.
fn show(found: &Found, entry: &Entry, terminal: &mut Terminal) -> io::Result<()> {
    let bold = if terminal.has_colour() { BOLD } else { <_>::default() };
    let out = terminal.out();
    let command = one_line(&entry.command.join(" "));
    writeln!(out, "{bold}{}{bold:#}  {}  {command}", entry.id, entry.when())?;
    if let Some(undone) = &entry.undone {
        writeln!(out, "undone {undone}")?;
    }
    for file in &entry.files {
        let now = match condition(&found.root, file) {
            Ok(Condition::Fixed) => "as the fix left it",
            Ok(Condition::Original) => "as before the fix",
            Ok(Condition::Changed) => "changed since",
            Ok(Condition::Vanished) => "vanished since",
            Ok(Condition::Left) => "not changed by the fix",
            Err(_) => "cannot be read",
        };
        writeln!(out, "  {}: {now}", found.shown(&file.path))?;
    }
    Ok(())
}
