//! Misspelt variables.

use super::{NEEDLES, value::event_id};
use crate::{
    finding::{Edit, Finding},
    fix::reach,
    program::{MASK, ORDER},
    project::{Literal, Project},
    rules::Rule,
    unit::{Unit, UnitId},
    variables::Given,
};

/// What a misspelt name can mean.
const KNOWN: &[&str] = &[
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_HIP_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
];

/// Names that look like a known one and are variables of their own.
const OTHERS: &[&str] = &[
    "ASCEND_RT_VISIBLE_DEVICES",
    "ASCEND_VISIBLE_DEVICES",
    "DML_VISIBLE_DEVICES",
    "GGML_VK_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "JAX_CUDA_VISIBLE_DEVICES",
    "JAX_ROCM_VISIBLE_DEVICES",
    "MLU_VISIBLE_DEVICES",
    "MUSA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "ROCR_VISIBLE_DEVICES",
    "XPU_VISIBLE_DEVICES",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "PYTORCH_NPU_ALLOC_CONF",
    "PYTORCH_MUSA_ALLOC_CONF",
    "PYTORCH_MLU_ALLOC_CONF",
    "PYTORCH_XPU_ALLOC_CONF",
];

/// Names further from the known one than a slip of the finger, that nothing reads.
const MIXED_UP: &[(&str, &str)] = &[
    ("CUDA_AVAILABLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
    ("CUDA_DEVICES_VISIBLE", "CUDA_VISIBLE_DEVICES"),
    ("CUDA_DEVICE_VISIBLE", "CUDA_VISIBLE_DEVICES"),
    ("CUDA_VISIBLE_GPU", "CUDA_VISIBLE_DEVICES"),
    ("CUDA_VISIBLE_GPUS", "CUDA_VISIBLE_DEVICES"),
    ("CUDA_VISUAL_DEVICES", "CUDA_VISIBLE_DEVICES"),
    ("CUDA_DEVICE_ORDERING", "CUDA_DEVICE_ORDER"),
];

pub(super) fn judge(
    rule: &'static Rule,
    project: &Project<'_>,
    id: UnitId,
    unit: &Unit,
    given: &Given<'_>,
) -> Option<Finding> {
    let meant = meant(given.name)?;
    let name = given.name;
    let message = format!("nothing reads `{name}`: this should be `{meant}`");
    let finding = rule.finding(id, given.event.span, message);
    let safety = || {
        let effect = "the setting takes effect, which can change the GPU that is used";
        let [known] = &*project.known(id, given.value) else { return Err(effect.to_owned()) };
        match &known.literal {
            Literal::Str(text) if meant == MASK || meant == ORDER => {
                reach::with(project, (id, event_id(unit, given)), meant, text)
                    .map_err(|why| format!("{effect}: {why}"))
            }
            _ => Err(effect.to_owned()),
        }
    };
    Some(match given.name_span {
        Some(span) => finding.with_fix(
            format!("Rename to `{meant}`"),
            reach::safety(safety()),
            vec![Edit { unit: id, span, replacement: meant.to_owned() }],
        ),
        None => finding,
    })
}

/// The variable that a misspelt name means.
fn meant(name: &str) -> Option<&'static str> {
    if KNOWN.contains(&name) || OTHERS.contains(&name) {
        return None;
    }
    if !NEEDLES.iter().any(|it| name.contains(it.text)) {
        return None;
    }
    if let Some((_, meant)) = MIXED_UP.iter().find(|it| it.0 == name) {
        return Some(meant);
    }
    let is_near = |known: &&&str| {
        // `_CUDA_VISIBLE_DEVICES` and `CUDA_VISIBLE_DEVICES_0` are a project's own.
        let own = name.ends_with(**known)
            || name.strip_prefix(**known).is_some_and(|it| {
                it.starts_with('_') || it.ends_with(|c: char| c.is_ascii_digit())
            });
        !own && strsim::osa_distance(name, known) <= 2
    };
    KNOWN.iter().filter(is_near).min_by_key(|it| strsim::osa_distance(name, it)).copied()
}
