//! From what is declared and what a machine has to what a program is given. Pure.

use gpupin_policy::{
    Gpu, GpuUuid, Inventory, Mig, Policy, SelectionProblem, Selector,
    visibility::{Certainty, Environment, pin, resolve},
};

use crate::observe::Place;

/// Tells a nested `gpupin run` which mask gpupin itself has set.
pub const PIN_VARIABLE: &str = "GPUPIN_PIN";

/// The GPUs a program may be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In the order of the inventory. With twins there are more than wanted.
    pub candidates: Vec<GpuUuid>,
    /// How many are wanted.
    pub count: usize,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    #[error("the policy declares no GPU")]
    NothingDeclared,
    #[error("no role is called `{role}`")]
    UnknownRole { role: String, known: Vec<String> },
    #[error("no GPU of `{host}` is the policy's {wanted}: {problem}")]
    NoGpu {
        host: String,
        wanted: String,
        problem: SelectionProblem,
        /// The GPUs, each with what excludes it.
        excluded: Vec<String>,
    },
}

/// What a mask that is set already means for a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutsidePin {
    /// Nothing is set.
    None,
    /// It leaves GPUs visible that the policy would do with: these.
    Agrees(Vec<GpuUuid>),
    /// It leaves others visible, or it is not certain which.
    Differs(String),
}

/// Chooses the GPUs for the project, or for one of its roles.
pub fn plan(policy: &Policy, role: Option<&str>, inventory: &Inventory) -> Result<Plan, PlanError> {
    let selector = selector(policy, role)?;
    let selection = selector.select(inventory);
    // A role may name a GPU that the rest of the project must not touch.
    let forbidden = |gpu: &Gpu| role.is_none() && policy.forbid.iter().any(|it| it.matches(gpu));
    let (forbidden, candidates): (Vec<&Gpu>, Vec<&Gpu>) =
        selection.matching.iter().partition(|it| forbidden(it));
    let wanted = selector.count as usize;
    let problem = match candidates.len() {
        0 => Some(SelectionProblem::NoMatch),
        found if found < wanted => Some(SelectionProblem::TooFew { wanted: selector.count, found }),
        _ => selection.problem(),
    };
    let Some(problem) = problem else {
        let candidates = candidates.into_iter().map(|it| it.uuid.clone()).collect();
        return Ok(Plan { candidates, count: wanted });
    };
    let mismatched = selection.excluded.iter().map(|(gpu, mismatches)| {
        let reasons: Vec<_> = mismatches.iter().map(ToString::to_string).collect();
        format!("{} ({}): {}", gpu.short_name(), gpu.uuid, reasons.join(", "))
    });
    let forbidden = forbidden
        .into_iter()
        .map(|gpu| format!("{} ({}): the policy forbids it", gpu.short_name(), gpu.uuid));
    Err(PlanError::NoGpu {
        host: inventory.host.clone(),
        wanted: selector.to_string(),
        problem,
        excluded: mismatched.chain(forbidden).collect(),
    })
}

/// What the policy, or one of its roles, says about the GPU.
pub fn selector<'a>(policy: &'a Policy, role: Option<&str>) -> Result<&'a Selector, PlanError> {
    let Some(role) = role else { return policy.gpu.as_ref().ok_or(PlanError::NothingDeclared) };
    let unknown = || PlanError::UnknownRole {
        role: role.to_owned(),
        known: policy.roles.keys().cloned().collect(),
    };
    policy.roles.get(role).map(|it| &it.selector).ok_or_else(unknown)
}

/// What the mask in an environment means for a plan.
pub fn outside_pin(inventory: &Inventory, environment: &Environment, plan: &Plan) -> OutsidePin {
    let Some(mask) = &environment.cuda_visible_devices else { return OutsidePin::None };
    let visibility = resolve(inventory, environment);
    let gpus: Option<Vec<_>> = visibility.visible.iter().map(|it| it.uuid.clone()).collect();
    match gpus {
        Some(gpus)
            if visibility.certainty == Certainty::Exact
                && gpus.len() == plan.count
                && gpus.iter().all(|it| plan.candidates.contains(it)) =>
        {
            OutsidePin::Agrees(gpus)
        }
        _ => OutsidePin::Differs(mask.clone()),
    }
}

/// The variables a program on these GPUs gets; `None` if they cannot be pinned the way the policy says.
///
/// `present` are the GPUs it will find, which number them: fewer than the machine has, when the others are kept out of its reach.
pub fn variables(
    policy: &Policy,
    present: &Inventory,
    gpus: &[GpuUuid],
) -> Option<Vec<(String, String)>> {
    let pin = pin(present, gpus, policy.pin.as_)?;
    let mask = pin.iter().find(|it| it.0 == "CUDA_VISIBLE_DEVICES").map(|it| it.1.clone());
    let pin = pin.into_iter().map(|(name, value)| (name.to_owned(), value));
    // With a UUID the order does not matter for the pin, and it does for a child that replaces the mask by an index.
    let order = ("CUDA_DEVICE_ORDER".to_owned(), "PCI_BUS_ID".to_owned());
    let mut all = vec![order];
    all.extend(pin.filter(|it| it.0 != "CUDA_DEVICE_ORDER"));
    all.extend(mask.map(|it| (PIN_VARIABLE.to_owned(), it)));
    all.extend(policy.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    Some(all)
}

/// The variables of a program that runs without any GPU.
pub fn variables_without_gpu(policy: &Policy) -> Vec<(String, String)> {
    let hidden = "-1".to_owned();
    let mut all = vec![("CUDA_VISIBLE_DEVICES".to_owned(), hidden.clone())];
    all.push((PIN_VARIABLE.to_owned(), hidden));
    all.extend(policy.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    all
}

/// Where a GPU or MIG instance is seen on the driver's lists.
pub fn place(inventory: &Inventory, uuid: &GpuUuid) -> Option<Place> {
    inventory.gpus.iter().find_map(|gpu| {
        if gpu.uuid == *uuid {
            return Some(Place { gpu: uuid.clone(), instance: None });
        }
        let instance = gpu.instances().iter().find(|it| it.uuid == *uuid)?;
        let numbers = match instance.mig {
            Mig::Instance { gpu_instance, compute_instance } => (gpu_instance, compute_instance),
            Mig::Disabled | Mig::Enabled(_) => return None,
        };
        Some(Place { gpu: gpu.uuid.clone(), instance: Some(numbers) })
    })
}

#[cfg(test)]
mod tests {
    use gpupin_device::Scene;
    use gpupin_policy::{
        Inventory, Policy, PolicyFile,
        visibility::{Certainty, Environment, resolve},
    };

    use super::{OutsidePin, Plan, PlanError, outside_pin, plan, variables};

    const TI: &str = "GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01";
    const BIG: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";

    fn machine() -> Inventory {
        Scene::parse(include_str!("../../../scenes/mixed.toml")).unwrap().inventory()
    }

    fn policy(text: &str) -> Policy {
        Policy::parse(text, PolicyFile::Gpupin, None).unwrap().unwrap()
    }

    fn twins() -> Inventory {
        let mut machine = machine();
        for gpu in &mut machine.gpus {
            "RTX 3090".clone_into(&mut gpu.name);
        }
        machine
    }

    #[track_caller]
    fn check(text: &str, role: Option<&str>, expected: Result<&[&str], &str>) {
        let actual = plan(&policy(text), role, &machine());
        let actual = actual
            .as_ref()
            .map(|it| it.candidates.iter().map(gpupin_policy::GpuUuid::as_str).collect());
        let actual: Result<Vec<_>, String> = actual.map_err(ToString::to_string);
        assert_eq!(actual, expected.map(<[&str]>::to_vec).map_err(str::to_owned));
    }

    #[test]
    fn the_policy_chooses() {
        check("gpu.name = 'RTX 3090'", None, Ok(&[BIG]));
        check("", None, Err("the policy declares no GPU"));
        let nothing = "no GPU of `workstation` is the policy's H100: no GPU matches";
        check("gpu.name = 'H100'", None, Err(nothing));
        let roles = "gpu.name = 'RTX 3090'\nforbid = [{ name = 'RTX 5060 Ti' }]\nroles.tts.name = 'RTX 5060 Ti'";
        check(roles, Some("tts"), Ok(&[TI]));
        check(roles, Some("tss"), Err("no role is called `tss`"));
        // What is forbidden is left out, also where the selector would take it.
        check("gpu.min-vram = '8 GiB'\nforbid = [{ name = 'RTX 5060 Ti' }]", None, Ok(&[BIG]));
    }

    #[test]
    fn what_excludes_every_gpu_is_told() {
        let policy = policy("gpu = { name = 'RTX 3090', min-vram = '30 GiB' }");
        let Err(PlanError::NoGpu { excluded, .. }) = plan(&policy, None, &machine()) else {
            panic!("there is no such GPU");
        };
        assert_eq!(
            excluded,
            [
                "RTX 5060 Ti (GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01): its name is `RTX 5060 Ti`, not `RTX 3090`, its VRAM is 16 GiB, less than 30 GiB",
                "RTX 3090 (GPU-8932f937-d72c-4106-c12f-20bd9faed9f6): its VRAM is 24 GiB, less than 30 GiB",
            ]
        );
    }

    #[test]
    fn twins_are_both_candidates() {
        let plan = plan(&policy("gpu.name = 'RTX 3090'"), None, &twins()).unwrap();
        assert_eq!((plan.candidates.len(), plan.count), (2, 1));
    }

    #[test]
    fn the_variables_leave_exactly_the_gpu_visible() {
        for pin_as in ["uuid", "index"] {
            let policy =
                policy(&format!("gpu.name = 'RTX 3090'\npin.as = '{pin_as}'\nenv.A = 'b'"));
            let machine = machine();
            let gpus = plan(&policy, None, &machine).unwrap().candidates;
            let variables = variables(&policy, &machine, &gpus).unwrap();
            let seen = resolve(&machine, &Environment::from_pairs(variables.clone()));
            assert_eq!((seen.visible.len(), seen.certainty), (1, Certainty::Exact));
            assert_eq!(seen.visible[0].uuid.as_ref(), Some(&gpus[0]));
            assert!(variables.contains(&("A".to_owned(), "b".to_owned())));
        }
    }

    #[test]
    fn a_mask_from_outside_agrees_or_not() {
        let twins = twins();
        let plan = Plan { candidates: vec![BIG.parse().unwrap(), TI.parse().unwrap()], count: 1 };
        let ask = |pairs: &[(&str, &str)]| {
            let environment = Environment::from_pairs(pairs.iter().copied());
            outside_pin(&twins, &environment, &plan)
        };
        assert_eq!(ask(&[]), OutsidePin::None);
        let agrees = OutsidePin::Agrees(vec![TI.parse().unwrap()]);
        assert_eq!(ask(&[("CUDA_VISIBLE_DEVICES", TI)]), agrees);
        // Without an order nobody knows which one that is.
        let differs = OutsidePin::Differs("0".to_owned());
        assert_eq!(ask(&[("CUDA_VISIBLE_DEVICES", "0")]), differs);
        let order = ("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
        assert_eq!(ask(&[("CUDA_VISIBLE_DEVICES", "0"), order]), agrees);
        let both = OutsidePin::Differs("0,1".to_owned());
        assert_eq!(ask(&[("CUDA_VISIBLE_DEVICES", "0,1"), order]), both);
    }
}
