use std::{fmt::Write as _, fs, str::FromStr};

use annotate_snippets::renderer::Style;
use anyhow::Context as _;
use gpupin_policy::{
    Gpu, GpuUuid, Inventory, Policy,
    visibility::{Certainty, Environment, Ordinal, Visibility, resolve},
};

use crate::{
    commands::rule::Format,
    failure::{Exit, Failure},
    project::{self, Project, ProjectArgs},
    report::write_json,
    terminal::{BOLD, DIM, Terminal, WARNING},
};

/// Tell which GPU is `cuda:N`, and how NVML, CUDA and a container number the others
///
/// Answers from the GPUs that `gpupin.lock` records. No live machine is asked.
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

    /// The recorded machine to answer for, where there are several
    #[arg(long, value_name = "HOST")]
    lock_host: Option<String>,

    /// How to print the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output_format: Format,

    #[command(flatten)]
    project: ProjectArgs,
}

const EXAMPLES: &str = "\
Examples:
  gpupin which                                            every ordinal, in this shell's environment
  gpupin which cuda:1
  gpupin which --env CUDA_VISIBLE_DEVICES=1,0 --env CUDA_DEVICE_ORDER=PCI_BUS_ID
  gpupin which --env NVIDIA_VISIBLE_DEVICES=1             in a container that was given index 1

Exit codes: 0 answered, 2 nothing is recorded or it is not clear for which machine, 3 no such ordinal";

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

#[derive(Debug, Clone)]
struct Variable {
    name: String,
    value: String,
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

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let project = project::open(&args.project, None, terminal)?;
    let machine = machine(args, &project)?;
    let variables = variables(args, terminal);
    let pairs = variables.iter().map(|(variable, _)| (&variable.name, &variable.value));
    let mut visibility = resolve(machine, &Environment::from_pairs(pairs));
    let count = visibility.visible.len();
    if let Some(AskedOrdinal(ordinal)) = args.ordinal {
        visibility.visible.retain(|it| it.ordinal == ordinal);
    }
    let missing = |it: &AskedOrdinal| {
        let visible = match count {
            0 => "no GPU is visible".to_owned(),
            1 => "one GPU is visible, `cuda:0`".to_owned(),
            count => format!("{count} GPUs are visible, up to `cuda:{}`", count - 1),
        };
        Failure::new(Exit::NoGpu, anyhow::anyhow!("`cuda:{}` does not exist: {visible}", it.0))
    };
    let missing = args.ordinal.as_ref().filter(|_| visibility.visible.is_empty()).map(missing);

    match (args.output_format, &missing) {
        (Format::Json, _) => write_json(&visibility.report(machine), terminal.out()),
        (Format::Text, None) => {
            let answer = Answer {
                machine,
                policy: &project.policy,
                variables: &variables,
                visibility: &visibility,
                is_whole: args.ordinal.is_none(),
                colour: terminal.has_colour(),
            };
            terminal.out().write_all(answer.text(&project).as_bytes())
        }
        (Format::Text, Some(_)) => Ok(()),
    }
    .context("failed to write output")?;
    missing.map_or(Ok(Exit::Clean), Err)
}

/// The recorded machine that is meant.
fn machine<'a>(args: &Args, project: &'a Project) -> Result<&'a Inventory, Failure> {
    let machines = project.lock.machines();
    let hosts: Vec<_> = machines.iter().map(|it| format!("`{}`", it.host)).collect();
    let recorded = format!("recorded are {}", hosts.join(", "));
    if machines.is_empty() {
        return Err(Failure::usage("no machine is recorded").hint(
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

/// The variables that decide, each with where it comes from.
fn variables(args: &Args, terminal: &mut Terminal) -> Vec<(Variable, &'static str)> {
    const READ: [&str; 3] = ["CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"];
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

struct Answer<'a> {
    machine: &'a Inventory,
    policy: &'a Policy,
    variables: &'a [(Variable, &'static str)],
    visibility: &'a Visibility,
    /// All ordinals, so that hidden GPUs are worth a row.
    is_whole: bool,
    colour: bool,
}

/// A row of the table.
type Row = [String; 5];

impl Answer<'_> {
    fn text(&self, project: &Project) -> String {
        let style = |it| if self.colour { it } else { Style::default() };
        let (bold, dim, warning) = (style(BOLD), style(DIM), style(WARNING));
        let mut text = String::new();
        let mut line = |it: String| writeln!(text, "{it}").expect("a `String` takes everything");
        let lock = project.lock_path.as_deref().unwrap_or("gpupin.lock");
        line(format!("`{}` as recorded in `{lock}`; no live machine was asked", self.machine.host));
        for (Variable { name, value }, origin) in self.variables {
            line(format!("{name}={value} {dim}({origin}){dim:#}"));
        }
        if self.variables.is_empty() {
            line(format!("{dim}no variable that decides is set{dim:#}"));
        }
        line(String::new());

        let rows = self.rows();
        let has_container = self.visibility.container.is_some();
        let shown: Vec<usize> = (0..5).filter(|column| *column != 2 || has_container).collect();
        let widths: Vec<_> = (0..5)
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        for (index, row) in rows.iter().enumerate() {
            let cells = shown.iter().map(|it| format!("{:width$}", row[*it], width = widths[*it]));
            let cells = cells.collect::<Vec<_>>().join("  ");
            let cells = cells.trim_end();
            line(if index == 0 { format!("{bold}{cells}{bold:#}") } else { cells.to_owned() });
        }

        let (certainty, why) = match self.visibility.certainty {
            Certainty::Exact if self.visibility.visible.is_empty() => {
                ("exact", "no GPU is visible, so there is no ordinal")
            }
            Certainty::Exact => ("exact", "every ordinal is one GPU"),
            Certainty::Likely => ("likely", "it rests on what NVIDIA does not document"),
            Certainty::Ambiguous => ("ambiguous", "some ordinal may be one of several GPUs"),
        };
        line(format!("\n{bold}{certainty}{bold:#}: {why}"));
        for (step, number) in self.visibility.steps.iter().zip(1..) {
            let mark = if step.uncertain {
                format!(" {warning}(uncertain){warning:#}")
            } else {
                String::new()
            };
            line(format!("  {number}. {}{mark}", step.text));
        }
        text
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = vec![["CUDA", "NVML", "container", "GPU", "UUID"].map(str::to_owned)];
        for it in &self.visibility.visible {
            // An ordinal that may be several GPUs takes a row for each.
            for (index, uuid) in it.candidates.iter().enumerate() {
                let cuda =
                    if index == 0 { format!("cuda:{}", it.ordinal) } else { "  or".to_owned() };
                rows.extend(self.row(cuda, uuid));
            }
        }
        let is_visible =
            |gpu: &Gpu| self.visibility.visible.iter().any(|it| it.candidates.contains(&gpu.uuid));
        if self.is_whole {
            for gpu in self.machine.usable().filter(|it| !is_visible(it)) {
                rows.extend(self.row("hidden".to_owned(), &gpu.uuid));
            }
        }
        rows
    }

    fn row(&self, cuda: String, uuid: &GpuUuid) -> Option<Row> {
        let gpu = self.machine.get(uuid)?;
        let container = self.visibility.container_index(uuid);
        let container = container.map_or_else(|| "-".to_owned(), |it| it.to_string());
        Some([cuda, gpu.index.to_string(), container, self.named(gpu), uuid.to_string()])
    }

    /// A GPU's name, and what the policy has to say about it.
    fn named(&self, gpu: &Gpu) -> String {
        let name = gpu.short_name();
        if self.policy.gpu.as_ref().is_some_and(|it| it.matches(gpu)) {
            return format!("{name} (the policy's)");
        }
        if self.policy.forbid.iter().any(|it| it.matches(gpu)) {
            return format!("{name} (forbidden)");
        }
        name
    }
}
