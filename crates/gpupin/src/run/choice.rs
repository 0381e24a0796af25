use gpupin_device::Machine;
use gpupin_policy::{
    Gpu, GpuUuid, Inventory, OnMissing, OnOutsidePin, Policy, visibility::Environment,
};
use gpupin_run::{
    observe::Place,
    plan::{self, OutsidePin, PIN_VARIABLE, Plan, PlanError},
    process::ProcessId,
};

use super::words;
use crate::{
    failure::{Exit, Failure},
    names,
    project::Project,
    terminal::{Terminal, one_line},
};

/// What the policy wants on a machine.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The GPUs that would do.
    pub(crate) candidates: Vec<GpuUuid>,
    pub(crate) count: usize,
    /// The mask that stays as a launcher set it.
    pub(crate) kept_mask: Option<String>,
    forbidden: Vec<GpuUuid>,
}

/// The GPUs a program gets.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) uuids: Vec<GpuUuid>,
    pub(crate) pinned: Vec<Place>,
    /// All of the machine; those with MIG as one.
    pub(crate) gpus: Vec<Known>,
    /// The mask that stays as a launcher set it, so that nothing is pinned.
    pub(crate) kept_mask: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) uuid: GpuUuid,
    /// Without vendor words.
    pub(crate) name: String,
    pub(crate) is_pinned: bool,
    pub(crate) is_forbidden: bool,
}

/// What the policy wants on this machine; `None` if it is to run without a GPU.
pub(crate) fn wanted(
    role: Option<&str>,
    project: &Project,
    inventory: &Inventory,
    terminal: &mut Terminal,
) -> Result<Option<Wanted>, Failure> {
    let policy = &project.policy;
    let Some(mut wanted) = of_policy(role, project, inventory)? else { return Ok(None) };
    match outside(&wanted, inventory) {
        OutsidePin::None => {}
        OutsidePin::Agrees(gpus) => wanted.candidates = gpus,
        OutsidePin::Differs(mask) => {
            let text = format!(
                "`CUDA_VISIBLE_DEVICES` is set to `{}` already, which is not certain to be the policy's GPU",
                one_line(&mask)
            );
            if policy.run.on_outside_pin == OnOutsidePin::Error {
                return Err(Failure::usage(text).hint(
                    "unset it, or let it stay with `on-outside-pin = \"keep\"` in `[run]` of the policy",
                ));
            }
            terminal.warning(&format!("{text}; it stays as it is"));
            wanted.kept_mask = Some(mask);
        }
    }
    Ok(Some(wanted))
}

/// What the mask in this process's environment means for what is wanted, unless gpupin itself has set it.
pub(crate) fn outside(wanted: &Wanted, inventory: &Inventory) -> OutsidePin {
    if is_own_mask() { OutsidePin::None } else { wanted.shown(inventory) }
}

/// The same, whoever has set it.
fn shown(plan: &Plan, inventory: &Inventory) -> OutsidePin {
    let names = ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"];
    let set = names.iter().filter_map(|it| Some((*it, std::env::var(it).ok()?)));
    let environment = Environment::from_pairs(set);
    plan::outside_pin(inventory, &environment, plan)
}

/// Whether `gpupin run` set the mask in this process's environment.
pub(crate) fn is_own_mask() -> bool {
    let own = std::env::var(PIN_VARIABLE).ok();
    own.is_some() && own == std::env::var("CUDA_VISIBLE_DEVICES").ok()
}

/// The same, whatever this environment says.
pub(crate) fn of_policy(
    role: Option<&str>,
    project: &Project,
    inventory: &Inventory,
) -> Result<Option<Wanted>, Failure> {
    let policy = &project.policy;
    let plan = match plan::plan(policy, role, inventory) {
        Ok(plan) => plan,
        Err(PlanError::NoGpu { .. }) if policy.run.on_missing == OnMissing::Cpu => return Ok(None),
        Err(error) => return Err(no_plan(error, project)),
    };
    let wanted = Wanted {
        candidates: plan.candidates,
        count: plan.count,
        kept_mask: None,
        forbidden: forbidden(role, policy, inventory),
    };
    Ok(Some(wanted))
}

fn forbidden(role: Option<&str>, policy: &Policy, inventory: &Inventory) -> Vec<GpuUuid> {
    let is_forbidden =
        |gpu: &&Gpu| role.is_none() && policy.forbid.iter().any(|it| it.matches(gpu));
    inventory.usable().filter(is_forbidden).map(|it| it.uuid.clone()).collect()
}

/// No GPU, on a machine that has others than the policy means.
pub(crate) fn nothing(role: Option<&str>, policy: &Policy, inventory: &Inventory) -> Choice {
    let forbidden = forbidden(role, policy, inventory);
    let wanted = Wanted { candidates: Vec::new(), count: 0, kept_mask: None, forbidden };
    wanted.taken(Vec::new(), inventory)
}

/// The GPUs that the policy means, whatever the environment says, and how many of them.
pub(crate) fn meant(
    role: Option<&str>,
    project: &Project,
    inventory: &Inventory,
) -> Result<(Vec<GpuUuid>, usize), Failure> {
    let plan = plan::plan(&project.policy, role, inventory);
    plan.map(|it| (it.candidates, it.count)).map_err(|error| no_plan(error, project))
}

/// Of GPUs that would do, those to which this process is pinned already; all, if it is not.
pub(crate) fn pinned_among(
    gpus: Vec<GpuUuid>,
    count: usize,
    inventory: &Inventory,
) -> Vec<GpuUuid> {
    match shown(&Plan { candidates: gpus.clone(), count }, inventory) {
        OutsidePin::Agrees(pinned) => pinned,
        OutsidePin::None | OutsidePin::Differs(_) => gpus,
    }
}

/// Adds the GPUs of which nothing is known to why no GPU matches: the one that is meant may be among them.
pub(crate) fn with_unknown(failure: Failure, machine: &dyn Machine) -> Failure {
    if failure.exit != Exit::NoGpu {
        return failure;
    }
    let unknown = machine.unreadable().unwrap_or_default();
    unknown.iter().fold(failure, |it, gpu| it.hint(format!("index {}: {}", gpu.index, gpu.why)))
}

pub(crate) fn no_plan(error: PlanError, project: &Project) -> Failure {
    match &error {
        PlanError::NothingDeclared if project.policy_path.is_none() => {
            let text = "there is no policy that declares a GPU";
            Failure::usage(text).hint(
                "write one with `gpupin init --name \"RTX 3090\"`, or name it with `--policy` or `GPUPIN_POLICY`",
            )
        }
        PlanError::NothingDeclared => {
            Failure::new(Exit::Failed, error).hint("add `gpu.name = \"RTX 3090\"` to it")
        }
        PlanError::UnknownRole { role, known } => {
            let role = role.clone();
            let hint = match known.as_slice() {
                [] => "the policy has no roles".to_owned(),
                known => format!("the policy has the roles `{}`", known.join("`, `")),
            };
            names::blame(Failure::new(Exit::Failed, error).hint(hint), names::ROLE, role)
        }
        PlanError::NoGpu { excluded, .. } => {
            let mut hints: Vec<_> = excluded.clone();
            if hints.is_empty() {
                // There may be some that do not say who they are.
                hints.push("no GPU is known here; `gpupin gpus` shows what there is".to_owned());
            }
            let failure = Failure::new(Exit::NoGpu, error);
            hints.into_iter().fold(failure, Failure::hint)
        }
        _ => Failure::new(Exit::Failed, error),
    }
}

impl Wanted {
    /// What the mask in this process's environment means for it, whoever has set that.
    pub(crate) fn shown(&self, inventory: &Inventory) -> OutsidePin {
        shown(&Plan { candidates: self.candidates.clone(), count: self.count }, inventory)
    }

    /// The GPUs that were had.
    pub(crate) fn taken(&self, uuids: Vec<GpuUuid>, inventory: &Inventory) -> Choice {
        let pinned: Vec<_> = uuids.iter().filter_map(|it| plan::place(inventory, it)).collect();
        let known = |gpu: &Gpu| Known {
            uuid: gpu.uuid.clone(),
            name: gpu.short_name(),
            is_pinned: pinned.iter().any(|it| it.gpu == gpu.uuid),
            is_forbidden: self.forbidden.contains(&gpu.uuid),
        };
        let gpus = inventory.gpus.iter().map(known).collect();
        Choice { pinned, gpus, uuids, kept_mask: self.kept_mask.clone() }
    }
}

impl Choice {
    /// Whether it has a GPU that only a role may have.
    pub(super) fn is_forbidden_to_the_rest(&self, policy: &Policy, inventory: &Inventory) -> bool {
        let mut taken = inventory.usable().filter(|it| self.uuids.contains(&it.uuid));
        taken.any(|gpu| policy.forbid.iter().any(|it| it.matches(gpu)))
    }

    /// What the program gets, given the GPUs that it will find.
    pub(crate) fn variables(
        &self,
        policy: &Policy,
        present: &Inventory,
    ) -> Result<Vec<(String, String)>, Failure> {
        if self.kept_mask.is_some() {
            return Ok(policy.env.clone().into_iter().collect());
        }
        if self.uuids.is_empty() {
            return Ok(plan::variables_without_gpu(policy));
        }
        plan::variables(policy, present, &self.uuids).ok_or_else(|| {
            let gpus: Vec<_> = self.uuids.iter().map(ToString::to_string).collect();
            Failure::usage(format!("`{}` cannot be pinned as the policy says", gpus.join(",")))
                .hint("an instance of MIG needs `pin.as = \"uuid\"`, and a mask can name one instance only")
        })
    }

    /// A GPU for people: `RTX 3090`, with its UUID where there is another of the name.
    pub(crate) fn name(&self, uuid: &GpuUuid) -> String {
        words::name(uuid, self.gpus.iter().map(|it| (&it.uuid, it.name.as_str())))
    }

    /// The pinned GPUs for people, each with its UUID.
    pub(crate) fn names(&self) -> String {
        let name = |uuid: &GpuUuid| {
            let place = self.gpus.iter().find(|it| it.uuid == *uuid);
            // An instance of MIG has no entry of its own.
            place.map_or_else(|| uuid.to_string(), |it| format!("{} ({uuid})", it.name))
        };
        self.uuids.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// Whose process is where it must not be.
    pub(crate) fn trespass(&self, gpu: &GpuUuid, process: ProcessId, command: &str) -> String {
        let is_forbidden = self.gpus.iter().any(|it| it.uuid == *gpu && it.is_forbidden);
        let why = if is_forbidden { "which the policy forbids" } else { "which is not its GPU" };
        format!("`{}` (pid {process}) uses {}, {why}", one_line(command), self.name(gpu))
    }
}
