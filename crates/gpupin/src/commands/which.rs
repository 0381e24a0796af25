use std::{fs, str::FromStr};

use anyhow::Context as _;
use gpupin_device::{
    Kind, Machine,
    cuda::{CudaError, CudaView},
};
use gpupin_policy::{
    Gpu, GpuUuid, Inventory,
    visibility::{Environment, Ordinal, Visibility, VisibilityReport, resolve},
};

use crate::{
    commands::rule::Format,
    failure::{Exit, Failure},
    machine::{self, MachineArgs, system_root},
    project::{self, Project, ProjectArgs},
    report::write_json,
    terminal::Terminal,
    which::{
        Source, Variable,
        comparison::{Comparison, Outcome},
        process::Running,
        text::Answer,
    },
};

/// Tell which GPU is `cuda:N`, and how NVML, CUDA and a container number the others
///
/// Asks the GPUs of this machine, and compares the answer with what CUDA itself says about the same environment. Where there is no
/// driver, or with `--recorded`, the GPUs are those that `gpupin.lock` records.
///
/// The environment is `CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER` of this shell, with `--env` laid
/// over it. `NVIDIA_VISIBLE_DEVICES` counts only with `--env`, as what a container was made with:
/// images set it for themselves, where it means nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The ordinal, as `cuda:1` or `1`; without it, all
    #[arg(value_name = "cuda:N")]
    ordinal: Option<AskedOrdinal>,

    /// Set a variable of the environment
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<Variable>,

    /// Leave out the variables of this shell
    #[arg(long)]
    ignore_env: bool,

    /// Explain a running process by the environment it was started with, and tell where the driver sees it
    #[arg(long, value_name = "PID", conflicts_with_all = ["env", "ignore_env", "recorded", "lock_host"])]
    pid: Option<u32>,

    /// Answer from `gpupin.lock`, whatever GPUs this machine has
    #[arg(long, conflicts_with = "machine")]
    recorded: bool,

    /// The recorded machine to answer for, where there are several
    #[arg(long, value_name = "HOST", conflicts_with = "machine")]
    lock_host: Option<String>,

    /// How to print the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output_format: Format,

    #[command(flatten)]
    machine: MachineArgs,

    #[command(flatten)]
    project: ProjectArgs,
}

const EXAMPLES: &str = "\
Examples:
  gpupin which                                            every ordinal, in this shell's environment
  gpupin which cuda:1
  gpupin which --env CUDA_VISIBLE_DEVICES=1,0 --env CUDA_DEVICE_ORDER=PCI_BUS_ID
  gpupin which --env NVIDIA_VISIBLE_DEVICES=1             in a container that was given index 1
  gpupin which --pid 4711                                 what a process sees that runs already
  gpupin which --lock-host workstation                    for a machine that was recorded

Exit codes: 0 answered, 1 CUDA or the driver's process lists say otherwise, 2 there is no machine to answer for, 3 no such ordinal";

#[derive(Debug, Clone, Copy)]
struct AskedOrdinal(Ordinal);

impl FromStr for AskedOrdinal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = match text {
            "cuda" => "0",
            text => text.strip_prefix("cuda:").unwrap_or(text),
        };
        let ordinal = number.parse().map_err(|_| "expected `cuda:1` or `1`".to_owned())?;
        Ok(Self(Ordinal(ordinal)))
    }
}

impl FromStr for Variable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                Ok(Self { name: name.to_owned(), value: value.to_owned() })
            }
            _ => Err("expected `NAME=VALUE`".to_owned()),
        }
    }
}

/// The answer as JSON.
#[derive(serde::Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    report: VisibilityReport,
    host: &'a str,
    /// `recorded`, or how the machine's answer was obtained.
    source: &'static str,
    /// How the answer was obtained, by whoever recorded it if so.
    kind: Kind,
    /// What CUDA says of the same environment; `null` where no machine was asked.
    cuda: Option<&'a Comparison>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<DocumentProcess<'a>>,
}

#[derive(serde::Serialize)]
struct DocumentProcess<'a> {
    pid: u32,
    command: &'a str,
    uid: u32,
    /// The GPUs on which the driver sees it now.
    seen_on: &'a [GpuUuid],
    /// Whether every process list could be read.
    is_whole: bool,
}

/// Whom the answer is about.
struct Subject {
    inventory: Inventory,
    source: Source,
    /// Absent where a lock file answers.
    machine: Option<Box<dyn Machine>>,
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let project = project::open(&args.project, None, terminal)?;
    let subject = subject(args, &project)?;
    let machine = subject.machine.as_deref();
    let running = args.pid.map(|pid| Running::read(pid, &system_root())).transpose()?;
    let variables = match &running {
        Some(running) => of_process(running, terminal),
        None => variables(args, terminal),
    };
    let pairs = variables.iter().map(|(variable, _)| (&variable.name, &variable.value));
    let whole = resolve(&subject.inventory, &Environment::from_pairs(pairs));
    let obstacle = obstacle(args, &whole, running.as_ref());
    let comparison = machine.map(|machine| match obstacle {
        Some(why) => Comparison::unasked(why),
        None => Comparison::of(&whole, machine.kind(), cuda_view(&variables)),
    });
    let seen = running.as_ref().zip(machine).map(|(running, machine)| {
        let usable = subject.inventory.gpus.iter();
        let gpus: Vec<_> = usable.map(|it| it.uuid.clone()).collect();
        running.seen_on(machine, &gpus)
    });

    let mut visibility = whole.clone();
    if let Some(AskedOrdinal(ordinal)) = args.ordinal {
        visibility.visible.retain(|it| it.ordinal == ordinal);
    }
    let missing = args.ordinal.filter(|_| visibility.visible.is_empty());
    let missing = missing.map(|it| missing_ordinal(it.0, whole.visible.len()));
    match (args.output_format, &missing) {
        (Format::Json, _) => {
            let document = Document {
                report: visibility.report(&subject.inventory),
                host: &subject.inventory.host,
                source: match subject.source {
                    Source::Recorded { .. } => "recorded",
                    Source::Asked { kind, .. } => kind.as_str(),
                },
                kind: match subject.source {
                    Source::Recorded { kind, .. } | Source::Asked { kind, .. } => kind,
                },
                cuda: comparison.as_ref(),
                process: running.as_ref().zip(seen.as_ref()).map(|(running, seen)| {
                    DocumentProcess {
                        pid: running.process.id.pid,
                        command: &running.process.command,
                        uid: running.process.uid,
                        seen_on: &seen.0,
                        is_whole: seen.1,
                    }
                }),
            };
            write_json(&document, terminal.out())
        }
        (Format::Text, None) => {
            let answer = Answer {
                machine: &subject.inventory,
                source: &subject.source,
                policy: &project.policy,
                variables: &variables,
                running: running.as_ref(),
                seen: seen.as_ref(),
                visibility: &visibility,
                comparison: comparison.as_ref(),
                is_whole: args.ordinal.is_none(),
                colour: terminal.has_colour(),
            };
            terminal.out().write_all(answer.text().as_bytes())
        }
        (Format::Text, Some(_)) => Ok(()),
    }
    .context("failed to write output")?;
    if let Some(missing) = missing {
        return Err(missing);
    }
    Ok(verdict(&subject.inventory, &whole, comparison.as_ref(), seen.as_ref(), terminal))
}

/// Shouts about everything that is not as the environment lets expect.
fn verdict(
    inventory: &Inventory,
    visibility: &Visibility,
    comparison: Option<&Comparison>,
    seen: Option<&(Vec<GpuUuid>, bool)>,
    terminal: &mut Terminal,
) -> Exit {
    let mut exit = Exit::Clean;
    let differing = comparison.filter(|it| it.outcome == Outcome::Differs);
    for why in differing.into_iter().flat_map(|it| &it.why) {
        terminal.error(why);
        exit = Exit::Findings;
    }
    for uuid in seen.into_iter().flat_map(|it| &it.0) {
        let is_visible = visibility.visible.iter().any(|it| it.candidates.contains(uuid));
        let gpu = inventory.get(uuid);
        // A process on a MIG instance is on its parent, too.
        let has_instances = gpu.is_some_and(|it| !it.instances().is_empty());
        if !is_visible && !has_instances {
            let name = gpu.map(Gpu::short_name).unwrap_or_default();
            terminal.error(&format!(
                "the driver sees the process on {name} ({uuid}), which its environment hides: the program changed the environment \
                 itself, or a child's PID was taken for its own"
            ));
            exit = Exit::Findings;
        }
    }
    exit
}

fn missing_ordinal(ordinal: Ordinal, count: usize) -> Failure {
    let visible = match count {
        0 => "no GPU is visible".to_owned(),
        1 => "one GPU is visible, `cuda:0`".to_owned(),
        count => format!("{count} GPUs are visible, up to `cuda:{}`", count - 1),
    };
    Failure::new(Exit::NoGpu, anyhow::anyhow!("`cuda:{ordinal}` does not exist: {visible}"))
}

fn subject(args: &Args, project: &Project) -> Result<Subject, Failure> {
    let is_recorded = args.recorded || args.lock_host.is_some();
    let machine = if is_recorded { None } else { args.machine.open_if_any()? };
    let Some(machine) = machine else {
        if args.pid.is_some() {
            // It runs here, so that no other machine can answer.
            return Err(args.machine.open().err().unwrap_or_else(|| Failure::usage("try again")));
        }
        let lock = project.lock_path.clone().unwrap_or_else(|| "gpupin.lock".to_owned());
        let inventory = recorded(args, project)?.clone();
        let is_simulated = project.lock.is_simulated(&inventory.host);
        let kind = if is_simulated { Kind::Simulated } else { Kind::Measured };
        return Ok(Subject { inventory, source: Source::Recorded { lock, kind }, machine: None });
    };
    let inventory = machine.inventory()?;
    if let Some(it) = machine.unreadable()?.first() {
        // With a GPU of which nothing is known, every number behind it may be another's.
        let text = format!("index {}: {} is not told: {}", it.index, it.what, it.why);
        return Err(Failure::usage(format!(
            "a GPU of this machine does not say what it is: {text}"
        ))
        .hint("see `gpupin gpus`; `--recorded` answers from the lock file"));
    }
    let source = Source::Asked { name: machine.source(), kind: machine.kind() };
    Ok(Subject { inventory, source, machine: Some(machine) })
}

/// Why CUDA cannot be asked about what the answer is about.
fn obstacle(
    args: &Args,
    visibility: &Visibility,
    running: Option<&Running>,
) -> Option<&'static str> {
    if args.machine.is_scene() {
        return Some("a scene has no CUDA");
    }
    if visibility.container.is_some() {
        return Some("the answer is about a container, and CUDA would answer for here");
    }
    let is_elsewhere = running.is_some_and(|it| it.is_elsewhere != Some(false));
    is_elsewhere.then_some("the process is in a container, and CUDA would answer for here")
}

/// What CUDA says with these variables and no others that decide.
fn cuda_view(variables: &[(Variable, &'static str)]) -> Result<CudaView, CudaError> {
    let value =
        |name: &str| variables.iter().find(|it| it.0.name == name).map(|it| it.0.value.as_str());
    let changes = ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"].map(|it| (it, value(it)));
    machine::cuda_view(changes)
}

/// The recorded machine that is meant.
fn recorded<'a>(args: &Args, project: &'a Project) -> Result<&'a Inventory, Failure> {
    let machines = project.lock.machines();
    let hosts: Vec<_> = machines.iter().map(|it| format!("`{}`", it.host)).collect();
    let recorded = format!("recorded are {}", hosts.join(", "));
    if machines.is_empty() {
        let live = if args.recorded { "" } else { "there is no NVIDIA driver here, and " };
        return Err(Failure::usage(format!("{live}no machine is recorded")).hint(
            "a `gpupin.lock` beside the policy or above the working directory records them; `--lock` names another",
        ));
    }
    if let Some(host) = &args.lock_host {
        let unknown = || Failure::usage(format!("no machine `{host}` is recorded")).hint(&recorded);
        return project.lock.machine(host).ok_or_else(unknown);
    }
    if let [machine] = machines {
        return Ok(machine);
    }
    let here = this_host().and_then(|it| project.lock.machine(&it));
    here.ok_or_else(|| {
        Failure::usage("several machines are recorded, and this is none of them")
            .hint(format!("say which with `--lock-host`; {recorded}"))
    })
}

fn this_host() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    text.map(|it| it.trim().to_owned()).or_else(|| std::env::var("COMPUTERNAME").ok())
}

/// The names of the variables that decide.
const READ: [&str; 3] = ["CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"];

/// The variables that decide for a running process.
fn of_process(running: &Running, terminal: &mut Terminal) -> Vec<(Variable, &'static str)> {
    if running.environment.is_empty() {
        terminal.warning(
            "the process tells no environment at all: a kernel thread, one that erased it, or one that was started with none",
        );
    }
    if running.is_elsewhere.is_none() {
        terminal.warning("whether the process is in a container cannot be told");
    }
    let counts =
        |name: &str| name != "NVIDIA_VISIBLE_DEVICES" || running.is_elsewhere == Some(true);
    let read = READ.iter().filter(|it| counts(it));
    let found = read.filter_map(|name| {
        let (name, value) = running.environment.iter().find(|it| it.0 == *name)?;
        Some((Variable { name: name.clone(), value: value.clone() }, "the process"))
    });
    found.collect()
}

/// The variables that decide, each with where it comes from.
fn variables(args: &Args, terminal: &mut Terminal) -> Vec<(Variable, &'static str)> {
    for variable in args.env.iter().filter(|it| !READ.contains(&it.name.as_str())) {
        terminal.warning(&format!("`{}` has no say in which GPUs are visible", variable.name));
    }
    let inherited = |name: &str| {
        // Inside of a container it says what the image's author wrote, see above.
        let counts = !args.ignore_env && name != "NVIDIA_VISIBLE_DEVICES";
        let value = if counts { std::env::var(name).ok()? } else { return None };
        Some((Variable { name: name.to_owned(), value }, "this shell"))
    };
    let given = |name: &str| {
        let variable = args.env.iter().rfind(|it| it.name == name)?;
        Some((variable.clone(), "`--env`"))
    };
    READ.iter().filter_map(|it| given(it).or_else(|| inherited(it))).collect()
}
