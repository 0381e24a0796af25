use std::path::{Path, PathBuf};

use anyhow::Context as _;
use gpupin_device::{Kind, Machine};
use gpupin_policy::{GpuUuid, Inventory, OnMissing, OnOutsidePin, Selector};
use gpupin_run::{
    lease::{self, Outer},
    plan::{self, OutsidePin, PIN_VARIABLE},
};

use crate::{
    failure::{Exit, Failure},
    machine::{MachineArgs, has_no_driver},
    project::{self, Project, ProjectArgs},
    report::write_json,
    run::choice::{self, Wanted},
    state,
    terminal::Terminal,
};

/// What a program has to set to be on its GPU
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) program: ProgramArgs,
}

/// Which program asks.
#[derive(Debug, clap::Args)]
pub(super) struct ProgramArgs {
    /// The file that was started: it decides which policy counts, and which role it plays
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,

    /// The role
    #[arg(long, value_name = "NAME")]
    role: Option<String>,

    #[command(flatten)]
    project: ProjectArgs,

    #[command(flatten)]
    machine: MachineArgs,
}

impl ProgramArgs {
    /// The project that the program belongs to; where none declares anything around it, the one of the working directory.
    pub(super) fn open(&self, terminal: &mut Terminal) -> Result<Project, Failure> {
        let of_program = project::open(&self.project, self.program.as_deref(), terminal)?;
        if of_program.policy_path.is_some() || self.program.is_none() {
            return Ok(of_program);
        }
        project::open(&self.project, None, terminal)
    }

    /// What is meant of the project is known from here on, or that there is none, and where it was looked for.
    pub(super) fn selector<'a>(
        &self,
        role: Option<&str>,
        project: &'a Project,
    ) -> Result<&'a Selector, Failure> {
        plan::selector(&project.policy, role).map_err(|error| {
            let failure = choice::no_plan(error, project);
            if project.policy_path.is_some() {
                return failure;
            }
            let of_program = self.program.as_deref().and_then(Path::parent);
            let mut places: Vec<_> = of_program.into_iter().collect();
            places.push(&project.working_directory);
            places.dedup();
            let places: Vec<_> = places.iter().map(|it| format!("`{}`", it.display())).collect();
            failure.hint(format!(
                "it was looked for in {} and above",
                places.join(" and above, then in ")
            ))
        })
    }

    /// The role that was asked for, else the one that the policy gives the program.
    pub(super) fn role(&self, project: &Project) -> Option<String> {
        if self.role.is_some() {
            return self.role.clone();
        }
        let program = self.program.as_deref()?.strip_prefix(&project.root).ok()?;
        let path = program.to_str()?.replace('\\', "/");
        gpupin_lint::role_of(&project.policy, &path).map(str::to_owned)
    }

    /// The machine; `None` where it has no driver.
    pub(super) fn machine(&self) -> Result<Option<Box<dyn Machine>>, Failure> {
        match self.machine.open() {
            Ok(machine) => Ok(Some(machine)),
            Err(failure) if has_no_driver(&failure) => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

#[derive(serde::Serialize)]
struct Document<'a> {
    version: u32,
    /// How it is known which GPUs there are.
    kind: Kind,
    /// The policy's words.
    wanted: String,
    policy: Option<&'a Path>,
    role: Option<&'a str>,
    profile: Option<&'a str>,
    /// How many GPUs the program gets.
    count: usize,
    /// What each must have, in bytes, as far as the policy says that.
    min_vram: Option<u64>,
    gpus: Vec<Gpu>,
    /// In the order in which they are to be set.
    variables: Vec<Variable>,
    mask: Mask,
    /// In bytes.
    leak_threshold: u64,
}

#[derive(serde::Serialize)]
struct Gpu {
    uuid: GpuUuid,
    /// Without vendor words.
    name: String,
    /// In bytes.
    vram: u64,
    compute_capability: String,
    pci: String,
    /// NVML's; none of an instance of MIG.
    index: Option<u32>,
    /// It would do.
    is_candidate: bool,
    /// The variables leave it visible.
    is_chosen: bool,
}

#[derive(serde::Serialize)]
struct Variable {
    name: String,
    value: String,
}

/// Who has set the mask of the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Mask {
    Nobody,
    /// `gpupin run`.
    Run,
    /// Somebody else, to the policy's GPU.
    Agrees,
    /// Somebody else, perhaps to another GPU, and the policy lets it stay.
    Kept,
    /// The same, and the policy does not; or `gpupin run`, for another role.
    Differs,
}

pub(super) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let args = &args.program;
    let project = args.open(terminal)?;
    let role = args.role(&project);
    let selector = args.selector(role.as_deref(), &project)?;
    let min_vram = selector.min_vram.map(gpupin_policy::Bytes::get);
    let wanted = selector.to_string();
    let machine = args.machine()?;
    let missing = machine.is_none();
    if missing && project.policy.run.on_missing == OnMissing::Error {
        return Err(no_driver(&wanted));
    }
    let mut gpus = Vec::new();
    let mut mask = Mask::Nobody;
    let mut count = 0;
    let mut variables = plan::variables_without_gpu(&project.policy);
    if let Some(machine) = &machine {
        let inventory = machine.inventory().context("failed to list the GPUs")?;
        let meant = choice::of_policy(role.as_deref(), &project, &inventory)
            .map_err(|it| choice::with_unknown(it, &**machine))?;
        let mut chosen = Vec::new();
        if let Some(mut meant) = meant {
            mask = compare(&mut meant, &project, &inventory);
            if mask == Mask::Nobody {
                held_first(&mut meant, &**machine);
            }
            count = meant.count;
            chosen = meant.candidates[..count].to_vec();
            variables =
                meant.taken(chosen.clone(), &inventory).variables(&project.policy, &inventory)?;
            gpus = listed(&inventory, &meant.candidates, &chosen);
        } else {
            gpus = listed(&inventory, &[], &chosen);
        }
    }
    // Only `gpupin run` sets masks of its own.
    variables.retain(|it| it.0 != PIN_VARIABLE);
    let document = Document {
        version: 1,
        kind: machine.as_ref().map_or(Kind::Measured, |it| it.kind()),
        wanted,
        policy: project.policy_path.as_deref(),
        role: role.as_deref(),
        profile: args.project.profile.as_deref(),
        count,
        min_vram,
        gpus,
        variables: variables.into_iter().map(|(name, value)| Variable { name, value }).collect(),
        mask,
        leak_threshold: project.policy.guard.leak_threshold.get(),
    };
    write_json(&document, terminal.out()).context("failed to write output")?;
    Ok(Exit::Clean)
}

/// There is nothing to ask for what is wanted.
pub(super) fn no_driver(wanted: &str) -> Failure {
    let text = anyhow::anyhow!("no {wanted} is here: this machine has no NVIDIA driver");
    Failure::new(Exit::NoGpu, text)
        .hint("`gpupin doctor` tells what is missing")
        .hint("`run.on-missing = \"cpu\"` in the policy lets programs run without the GPU")
}

/// What the mask that is set already means for what the policy wants.
fn compare(meant: &mut Wanted, project: &Project, inventory: &Inventory) -> Mask {
    let is_own = choice::is_own_mask();
    match meant.shown(inventory) {
        OutsidePin::None => Mask::Nobody,
        OutsidePin::Agrees(gpus) => {
            meant.candidates = gpus;
            if is_own { Mask::Run } else { Mask::Agrees }
        }
        // An index counts the GPUs that `--isolate` left, and which these are is not told here.
        OutsidePin::Differs(mask) if is_own && mask.starts_with(|it: char| it.is_ascii_digit()) => {
            Mask::Run
        }
        OutsidePin::Differs(_) if is_own => Mask::Differs,
        OutsidePin::Differs(mask) if project.policy.run.on_outside_pin == OnOutsidePin::Keep => {
            meant.kept_mask = Some(mask);
            Mask::Kept
        }
        OutsidePin::Differs(_) => Mask::Differs,
    }
}

/// Of several GPUs that would do, those that are held for this program come first.
fn held_first(meant: &mut Wanted, machine: &dyn Machine) {
    let Ok(value) = std::env::var(lease::VARIABLE) else { return };
    // A pin needs no lease.
    let Ok(directory) = state::leases(machine.kind()) else { return };
    if let Some(outer) = Outer::find(&directory, &value) {
        meant.candidates.sort_by_key(|it| !outer.gpus().any(|held| held == it));
    }
}

/// All GPUs of the machine, and the instances of MIG behind them.
fn listed(inventory: &Inventory, candidates: &[GpuUuid], chosen: &[GpuUuid]) -> Vec<Gpu> {
    let whole = inventory.gpus.iter().map(|it| (it, Some(it.index.0)));
    let instances =
        inventory.gpus.iter().flat_map(gpupin_policy::Gpu::instances).map(|it| (it, None));
    let gpu = |(gpu, index): (&gpupin_policy::Gpu, Option<u32>)| Gpu {
        uuid: gpu.uuid.clone(),
        name: gpu.short_name(),
        vram: gpu.vram.get(),
        compute_capability: gpu.compute_capability.to_string(),
        pci: gpu.pci.to_string(),
        index,
        is_candidate: candidates.contains(&gpu.uuid),
        is_chosen: chosen.contains(&gpu.uuid),
    };
    whole.chain(instances).map(gpu).collect()
}
