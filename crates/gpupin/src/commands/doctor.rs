use std::{
    fmt::{self, Write as _},
    path::PathBuf,
};

use annotate_snippets::renderer::Style;
use anyhow::Context as _;
use gpupin_monitor::snapshot::snapshot;
use gpupin_policy::visibility::Environment;

use crate::{
    commands::rule::Format,
    doctor::{Check, Patient, State, examine},
    failure::{Exit, Failure},
    machine::{self, MachineArgs},
    project::{self, ProjectArgs},
    report::write_json,
    terminal::{BOLD, DIM, ERROR, NOTE, Terminal, WARNING, one_line},
};

/// Tell whether this machine, this shell and this project let work land on the right GPU
///
/// Every check says what it saw, and what to do about a problem. What cannot be found out is told as such, and is not taken for
/// well. Nothing is changed. Errors of the past (Xid) are not looked for: only the kernel's log keeps them, see `dmesg`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Fail as well if something cannot be told
    #[arg(long)]
    strict: bool,

    /// How to print the checks
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output_format: Format,

    #[command(flatten)]
    machine: MachineArgs,

    #[command(flatten)]
    project: ProjectArgs,
}

const EXAMPLES: &str = "\
Examples:
  gpupin doctor
  gpupin doctor --strict --output-format json    in a pipeline
  gpupin doctor --machine mixed                  a simulated machine

Exit codes: 0 no problem, 1 a problem, or with `--strict` something that cannot be told";

/// What was examined, as JSON.
#[derive(serde::Serialize)]
struct Document<'a> {
    version: u32,
    checks: &'a [Check],
    summary: Summary,
}

#[derive(serde::Serialize)]
struct Summary {
    ok: usize,
    problem: usize,
    unknown: usize,
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let project = project::open(&args.project, None, terminal);
    let is_scene = args.machine.is_scene();
    let machine = if is_scene { Ok(args.machine.open()?) } else { machine::driver() };
    let root = machine::system_root();
    let now = machine.as_ref().ok().and_then(|machine| {
        let nothing = gpupin_policy::Policy::default();
        let policy = project.as_ref().map_or(&nothing, |it| &it.policy);
        let inventory = machine.inventory().ok()?;
        Some((inventory, snapshot(machine.as_ref(), policy, &root).ok()?))
    });
    let variable = |name| Some((name, std::env::var(name).ok()?));
    let environment =
        ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"].into_iter().filter_map(variable);
    let patient = Patient {
        project,
        machine,
        root,
        environment: Environment::from_pairs(environment),
        is_scene,
        is_in_simulation: std::env::var_os(gpupin_sim::STATE_VARIABLE).is_some(),
        now,
        pythons: pythons(),
    };
    let checks = examine(&patient, |group| terminal.progress(|| format!("looking at {group} …")));

    let count = |state| checks.iter().filter(|it| it.state == state).count();
    let summary = Summary {
        ok: count(State::Ok),
        problem: count(State::Problem),
        unknown: count(State::Unknown),
    };
    let exit = match (summary.problem, summary.unknown) {
        (0, 0) => Exit::Clean,
        (0, _) if !args.strict => Exit::Clean,
        _ => Exit::Findings,
    };
    let written = match args.output_format {
        Format::Json => {
            let document = Document { version: 1, checks: &checks, summary };
            write_json(&document, terminal.out())
        }
        Format::Text => {
            let text = text(&checks, &summary, terminal.has_colour());
            terminal.out().write_all(text.as_bytes())
        }
    };
    written.context("failed to write output")?;
    Ok(exit)
}

/// The interpreters that a user of this shell would get, the first one first.
fn pythons() -> Vec<PathBuf> {
    let active = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(std::env::var_os);
    let active = active.map(|it| PathBuf::from(it).join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A relative entry would name what lies in the working directory.
    let on_path = std::env::split_paths(&path).filter(|it| it.is_absolute()).collect::<Vec<_>>();
    let directories = active.chain(on_path);
    let names = directories.flat_map(|it| [it.join("python"), it.join("python3")]);
    names.filter(|it| it.is_file()).collect()
}

fn text(checks: &[Check], summary: &Summary, colour: bool) -> String {
    let style = |it| if colour { it } else { Style::default() };
    let (bold, dim) = (style(BOLD), style(DIM));
    let mut text = String::new();
    let mut group = "";
    for check in checks {
        if check.group != group {
            group = check.group;
            let gap = if text.is_empty() { "" } else { "\n" };
            put(&mut text, format_args!("{gap}{bold}{group}{bold:#}\n"));
        }
        let (colour, word) = match check.state {
            State::Ok => (style(NOTE), "ok"),
            State::Problem => (style(ERROR), "problem"),
            State::Unknown => (style(WARNING), "cannot tell"),
        };
        let seen = one_line(&check.seen);
        put(&mut text, format_args!("  {colour}{word:11}{colour:#}  {}: {seen}\n", check.name));
        if let Some(advice) = &check.advice {
            let advice = one_line(advice);
            put(&mut text, format_args!("  {:11}  {dim}→ {advice}{dim:#}\n", ""));
        }
    }
    let Summary { ok, problem, unknown } = summary;
    let problems = if *problem == 1 { "problem" } else { "problems" };
    put(
        &mut text,
        format_args!("\n{bold}{ok} ok, {problem} {problems}, {unknown} cannot be told{bold:#}\n"),
    );
    text
}

fn put(text: &mut String, words: fmt::Arguments<'_>) {
    text.write_fmt(words).expect("a `String` takes everything");
}
