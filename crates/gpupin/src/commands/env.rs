use std::fmt::Write as _;

use anyhow::Context as _;
use gpupin_device::Kind;
use gpupin_policy::GpuUuid;
use gpupin_run::plan::{self, PIN_VARIABLE};

use crate::{
    failure::{Exit, Failure},
    machine::MachineArgs,
    names::Names,
    project::{self, ProjectArgs},
    quote,
    report::write_json,
    run::choice,
    terminal::Terminal,
};

/// Print the pin, for programs that something else starts
///
/// The variables leave exactly the policy's GPU visible, and tell which role and profile that is. Nothing is held and nothing is watched: `gpupin run` does that.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Who reads it
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Use the GPU of this role
    #[arg(long, value_name = "NAME")]
    role: Option<String>,

    #[command(flatten)]
    project: ProjectArgs,

    #[command(flatten)]
    machine: MachineArgs,
}

const EXAMPLES: &str = "\
Examples:
  eval \"$(gpupin env)\"                                        in a shell
  gpupin env --format dotenv >> .env
  gpupin env --format systemd                                 lines for the [Service] of a unit
  eval \"docker run $(gpupin env --format docker) IMAGE\"

Exit codes: 0 printed, 2 usage or configuration, 3 no GPU matches";

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A POSIX shell
    #[default]
    Sh,
    /// A `.env` file
    Dotenv,
    /// A unit of systemd
    Systemd,
    /// The options of `docker run`: the container gets this GPU alone, so that no mask is needed
    Docker,
    /// One object
    Json,
}

#[derive(serde::Serialize)]
struct Document {
    version: u32,
    /// How it is known which GPUs there are.
    kind: Kind,
    gpus: Vec<GpuUuid>,
    /// In the order in which they are set.
    variables: Vec<Variable>,
}

#[derive(serde::Serialize)]
struct Variable {
    name: String,
    value: String,
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let names = Names::new(args.role.as_deref(), &args.project);
    let project = project::open(&names.project, None, terminal)?;
    let policy = &project.policy;
    let machine = args.machine.open()?;
    let inventory = machine.inventory().context("failed to list the GPUs")?;
    let wanted = choice::of_policy(names.role.as_deref(), &project, &inventory)
        .map_err(|it| choice::with_unknown(it, &*machine))?;
    let (gpus, mut variables) = if let Some(wanted) = wanted {
        if wanted.candidates.len() > wanted.count {
            terminal.warning(&format!(
                "{} GPUs would do, and `gpupin run` takes the first that is free; this is the first of them",
                wanted.candidates.len()
            ));
        }
        let gpus = wanted.candidates[..wanted.count].to_vec();
        let choice = wanted.taken(gpus.clone(), &inventory);
        (gpus, choice.variables(policy, &inventory)?)
    } else {
        terminal.warning("the GPU is not here: this hides every GPU");
        (Vec::new(), plan::variables_without_gpu(policy))
    };
    // Only `gpupin run` sets masks of its own.
    variables.retain(|it| it.0 != PIN_VARIABLE);
    variables.extend(names.choice());
    let kind = machine.kind();
    let is_made_up = kind != Kind::Measured;
    if is_made_up {
        terminal.warning(&format!("the machine is {kind}, and so are its GPUs"));
    }
    let mut text = match args.format {
        Format::Sh => {
            lines(&variables, |name, value| Some(format!("export {name}={}", quote::shell(value))))?
        }
        Format::Dotenv => {
            lines(&variables, |name, value| Some(format!("{name}={}", quote::dotenv(value)?)))?
        }
        Format::Systemd => lines(&variables, |name, value| {
            Some(format!("Environment={}", quote::systemd(name, value)))
        })?,
        Format::Docker => docker(&gpus, &variables) + "\n",
        Format::Json => {
            let variables = variables.into_iter().map(|(name, value)| Variable { name, value });
            let document = Document { version: 1, kind, gpus, variables: variables.collect() };
            write_json(&document, terminal.out()).context("failed to write output")?;
            return Ok(Exit::Clean);
        }
    };
    // At the end, where it hides nothing from a shell that makes one line of all.
    if is_made_up && args.format != Format::Docker {
        writeln!(text, "# {kind}: no driver named this GPU").expect("a `String` takes everything");
    }
    terminal.out().write_all(text.as_bytes()).context("failed to write output")?;
    Ok(Exit::Clean)
}

fn lines(
    variables: &[(String, String)],
    line: impl Fn(&str, &str) -> Option<String>,
) -> Result<String, Failure> {
    let mut text = String::new();
    for (name, value) in variables {
        let line = line(name, value).ok_or_else(|| {
            Failure::usage(format!(
                "readers of this format do not agree on how to write the value of `{name}`"
            ))
        })?;
        writeln!(text, "{line}").expect("a `String` takes everything");
    }
    Ok(text)
}

/// Inside, the container's only GPUs are all that there is, and numbered anew: a mask could only be wrong.
fn docker(gpus: &[GpuUuid], variables: &[(String, String)]) -> String {
    let mut words = Vec::new();
    if !gpus.is_empty() {
        let list: Vec<_> = gpus.iter().map(GpuUuid::as_str).collect();
        let list = list.join(",");
        // Docker reads the value as CSV.
        let value =
            if gpus.len() > 1 { format!("\"device={list}\"") } else { format!("device={list}") };
        words.push(quote::shell(&format!("--gpus={value}")));
    }
    let is_mask = |name: &str| !gpus.is_empty() && name == "CUDA_VISIBLE_DEVICES";
    let others = variables.iter().filter(|it| !is_mask(&it.0));
    words.extend(others.map(|(name, value)| quote::shell(&format!("--env={name}={value}"))));
    words.join(" ")
}
