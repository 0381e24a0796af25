use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use annotate_snippets::renderer::Style;
use anyhow::Context as _;
use gpupin_device::Kind;
use gpupin_monitor::{
    health::{Ailment, AilmentKind, ailments},
    snapshot::{GpuNow, Meaning, Snapshot, Standing, Use, snapshot},
};
use gpupin_policy::GpuUuid;

use crate::{
    commands::rule::Format,
    failure::{Exit, Failure},
    machine::{MachineArgs, system_root},
    project::{self, ProjectArgs},
    report::write_json,
    table::{memory, table},
    terminal::{BOLD, Terminal, one_line},
};

/// List the GPUs of this machine, what uses them, and which one the policy means
///
/// Index is the number that `nvidia-smi` gives a GPU. It may not be that of CUDA: see `gpupin which`. What the driver does not say is
/// `?`, what a GPU does not have `-`. *Too hot* and *slowed down* is what the driver calls so.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Ask again and again, every two seconds or as often as told
    ///
    /// JSON is one line per answer then.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2", value_parser = seconds)]
    watch: Option<Duration>,

    /// Stop watching after so many answers
    #[arg(long, value_name = "NUMBER", requires = "watch")]
    times: Option<u64>,

    /// How to print the GPUs
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output_format: Format,

    #[command(flatten)]
    machine: MachineArgs,

    #[command(flatten)]
    project: ProjectArgs,
}

const EXAMPLES: &str = "\
Examples:
  gpupin gpus
  gpupin gpus --watch=0.5
  gpupin gpus --output-format json
  gpupin gpus --machine scenes/mixed.toml    a simulated machine

Exit codes: 0 every GPU answered, 1 one does not answer, or say what it is, 2 there is no driver or it does not work";

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|it| (0.1..=86_400.0).contains(it));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "expected 0.1 to 86400 seconds".to_owned())
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let project = project::open(&args.project, None, terminal)?;
    let machine = args.machine.open()?;
    let root = system_root();
    let mut exit = Exit::Clean;
    let times = if args.watch.is_some() { args.times } else { Some(1) };
    let mut done = 0;
    while times.is_none_or(|times| done < times) {
        if let Some(pause) = args.watch.filter(|_| done > 0)
            && !terminal.pause(pause).context("failed to write output")?
        {
            break;
        }
        let now = snapshot(machine.as_ref(), &project.policy, &root)?;
        let is_silent = now.gpus.iter().any(|it| it.silent.contains_key("status"));
        let answer = now.unreadable.is_empty() && !is_silent;
        exit = if answer { Exit::Clean } else { Exit::Findings };
        match (args.output_format, args.watch) {
            (Format::Json, None) => write_json(&now, terminal.out()),
            (Format::Json, Some(_)) => write_line(&now, terminal.out()),
            (Format::Text, _) => {
                let style = if terminal.has_colour() { BOLD } else { Style::default() };
                let text = text(&now, style);
                // The cursor goes home, and what the last answer left is cleared line by line.
                let text = match args.watch {
                    Some(_) if io::stdout().is_terminal() => {
                        format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
                    }
                    Some(_) if done > 0 => format!("\n{text}"),
                    _ => text,
                };
                terminal.out().write_all(text.as_bytes())
            }
        }
        .context("failed to write output")?;
        done += 1;
    }
    Ok(exit)
}

fn write_line(now: &Snapshot, out: &mut dyn io::Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, now)?;
    writeln!(out)
}

fn text(now: &Snapshot, heading: Style) -> String {
    let mut text = headline(now);
    if now.gpus.is_empty() && now.unreadable.is_empty() {
        text.push_str("no GPU\n");
    } else {
        text.push('\n');
        text.push_str(&table(&gpu_rows(now), heading));
    }
    let processes = process_rows(now);
    if processes.len() > 1 {
        text.push('\n');
        text.push_str(&table(&processes, heading));
    }
    let notes = notes(now);
    if !notes.is_empty() {
        text.push('\n');
        for note in notes {
            text.push_str(&note);
            text.push('\n');
        }
    }
    text
}

fn headline(now: &Snapshot) -> String {
    let mut parts = vec![format!("`{}`", one_line(&now.host))];
    parts.extend(now.driver.as_ref().map(|it| format!("driver {it}")));
    parts.extend(now.cuda.as_ref().map(|it| format!("CUDA {it}")));
    parts.push(format!("asked: {}", now.source));
    if now.kind != Kind::Measured {
        parts.push(format!("everything here is {}", now.kind));
    }
    format!("{}\n", parts.join(" · "))
}

fn gpu_rows(now: &Snapshot) -> Vec<Vec<String>> {
    let mut rows = vec![
        ["index", "GPU", "memory", "busy", "heat", "power", "PCI", "UUID"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(now.gpus.iter().map(gpu_row));
    for it in &now.unreadable {
        let or_unknown = |it: Option<String>| it.unwrap_or_else(|| "?".to_owned());
        let mut row = vec![it.index.to_string(), or_unknown(it.name.clone())];
        row.extend(["?", "?", "?", "?"].map(str::to_owned));
        row.push(or_unknown(it.pci.clone()));
        row.push(or_unknown(it.uuid.as_ref().map(ToString::to_string)));
        rows.push(row);
    }
    // The heading stays; a lost GPU keeps its place.
    rows[1..].sort_by_key(|row| row[0].split('/').next().and_then(|it| it.parse::<u32>().ok()));
    rows
}

fn gpu_row(gpu: &GpuNow) -> Vec<String> {
    let unknown = |what: &str| if gpu.lacks(what) { "-".to_owned() } else { "?".to_owned() };
    let number =
        |it: Option<u32>, what, unit| it.map_or_else(|| unknown(what), |it| format!("{it} {unit}"));
    let used = gpu.memory_used.map_or_else(|| unknown("memory_used"), memory);
    let watts = |it: Option<u32>| it.map(|it| it.div_ceil(1000).to_string());
    let power = match (watts(gpu.power), watts(gpu.power_limit)) {
        (None, _) => unknown("power"),
        (Some(power), None) => format!("{power} W"),
        (Some(power), Some(limit)) => format!("{power} of {limit} W"),
    };
    let index = match gpu.mig {
        None => gpu.index.to_string(),
        Some((gpu_instance, compute_instance)) => {
            format!("{}/{gpu_instance}/{compute_instance}", gpu.index)
        }
    };
    let is_hot = ailments(gpu).iter().any(|it| it.kind == AilmentKind::Heat);
    let mut heat = number(gpu.temperature, "temperature", "°C");
    if is_hot {
        heat = format!("{heat}, {}", AilmentKind::Heat.words());
    }
    vec![
        index,
        named(gpu),
        format!("{used} of {}", memory(gpu.vram)),
        number(gpu.utilization, "utilization", "%"),
        heat,
        power,
        gpu.pci.clone(),
        gpu.uuid.to_string(),
    ]
}

/// A GPU's name, and what the policy has to say about it.
fn named(gpu: &GpuNow) -> String {
    let mut notes: Vec<String> = match gpu.standing {
        Some(Standing::Meant) => vec!["the policy's".to_owned()],
        Some(Standing::Forbidden) => vec!["forbidden".to_owned()],
        None => Vec::new(),
    };
    let roles: Vec<_> = gpu.roles.iter().map(|it| format!("role {it}")).collect();
    if roles.is_empty() && notes.is_empty() {
        return gpu.name.clone();
    }
    // A role is exempt from `forbid`: who reads only one of the two would be wrong.
    if gpu.standing == Some(Standing::Forbidden) && !roles.is_empty() {
        return format!("{} (forbidden except for {})", gpu.name, roles.join(", "));
    }
    notes.extend(roles);
    format!("{} ({})", gpu.name, notes.join(", "))
}

fn process_rows(now: &Snapshot) -> Vec<Vec<String>> {
    let mut rows =
        vec![["index", "PID", "user", "memory", "kind", "command"].map(str::to_owned).to_vec()];
    for gpu in &now.gpus {
        for process in &gpu.processes {
            let uid = process.uid.map(|it| it.to_string());
            let command = match &process.command {
                Some(command) => one_line(command),
                None => "? (not in this PID namespace)".to_owned(),
            };
            rows.push(vec![
                gpu.index.to_string(),
                process.pid.to_string(),
                process.user.clone().or(uid).unwrap_or_else(|| "?".to_owned()),
                process.memory.map_or_else(|| "?".to_owned(), memory),
                process.kinds.iter().map(|it| Use::as_str(*it)).collect::<Vec<_>>().join("+"),
                command,
            ]);
        }
    }
    rows
}

fn notes(now: &Snapshot) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(Meaning { wants, matching, problem }) = &now.policy {
        let name = |uuid: &GpuUuid| {
            now.gpus.iter().find(|it| it.uuid == *uuid).map(|it| it.index.to_string())
        };
        let indices: Vec<_> = matching.iter().filter_map(name).collect();
        notes.push(match problem {
            Some(problem) if now.unreadable.is_empty() => {
                format!("the policy means {wants}: {problem}")
            }
            Some(problem) => format!("the policy means {wants}: {problem} among those that answer"),
            None => format!("the policy means {wants}: index {}", indices.join(", ")),
        });
    }
    for it in &now.unreadable {
        notes.push(format!("index {}: {}", it.index, it.why));
    }
    for gpu in &now.gpus {
        let ailing = |it: Ailment| format!("index {}: {}: {}", gpu.index, it.kind.words(), it.why);
        notes.extend(ailments(gpu).into_iter().map(ailing));
    }
    for gpu in &now.gpus {
        for (what, why) in &gpu.silent {
            // It is a dash in the table, or nobody misses it.
            let is_usual = why == "not supported" || why == "the driver is too old";
            if !is_usual || what.ends_with("_processes") && *what != "mps_processes" {
                let what = what.replace('_', " ");
                notes.push(format!("index {}: {what} unknown: {why}", gpu.index));
            }
        }
    }
    notes
}
