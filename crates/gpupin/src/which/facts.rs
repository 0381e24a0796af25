//! What CUDA does with environments that NVIDIA does not document, beside what gpupin makes of them.
//!
//! The list has every spelling of a mask that one GPU can settle. CUDA is asked in a child for each, so that a machine with a GPU
//! turns an assumption into a fact or a mistake.

use gpupin_device::{Machine, MachineError};
use gpupin_policy::visibility::{Certainty, Environment, resolve};

use super::comparison::{Comparison, Outcome};
use crate::machine::cuda_view;

/// An environment that is tried. `{uuid}` stands for a GPU's UUID, `{UUID}` for it in capitals, `{short}` for its beginning.
struct Trial {
    mask: Option<&'static str>,
    order: Option<&'static str>,
}

const fn mask(mask: &'static str) -> Trial {
    Trial { mask: Some(mask), order: Some("PCI_BUS_ID") }
}

const fn order(order: &'static str) -> Trial {
    Trial { mask: None, order: Some(order) }
}

const TRIALS: &[Trial] = &[
    Trial { mask: None, order: None },
    Trial { mask: Some("0"), order: None },
    // Numbers.
    mask("0"),
    mask(""),
    mask(" "),
    mask("-1"),
    mask("-0"),
    mask("+0"),
    mask("00"),
    mask("0x0"),
    mask("0x10"),
    mask("0.9"),
    mask("0gpu"),
    mask(" 0"),
    mask("0 "),
    mask("\t0"),
    mask("0\n"),
    mask("0,0"),
    mask("0,00"),
    mask("0,-1,0"),
    mask("0,9,0"),
    mask("0,,0"),
    mask(",0"),
    mask("0,"),
    mask("0 0"),
    mask("0;0"),
    mask("0-0"),
    mask("0:0"),
    mask("9"),
    mask("9,0"),
    mask("4294967296"),
    mask("4294967295"),
    mask("2147483648"),
    mask("18446744073709551615"),
    mask("99999999999999999999"),
    mask("+"),
    mask("-"),
    mask("+a"),
    mask("²"),
    mask("０"),
    // Words.
    mask("none"),
    mask("all"),
    mask("NoDevFiles"),
    mask("\"0\""),
    mask("'0'"),
    mask("cuda:0"),
    // UUIDs.
    mask("{uuid}"),
    mask("{short}"),
    mask("GPU-"),
    mask("GPU-zz"),
    mask("{uuid}x"),
    mask("{uuid} "),
    mask(" {uuid}"),
    mask("{uuid},"),
    mask("{uuid},{uuid}"),
    mask("{short},{uuid}"),
    mask("{uuid}, {uuid}"),
    mask("{uuid},0"),
    mask("0,{uuid}"),
    mask("{UUID}"),
    mask("gpu-{UUID}"),
    mask("{lower}"),
    mask("\"{uuid}\""),
    mask("MIG-{uuid}"),
    mask("MIG-{uuid}/0/0"),
    mask("{digits}"),
    // Orders.
    order(""),
    order("pci_bus_id"),
    order("PCI_BUS_ID "),
    order(" PCI_BUS_ID"),
    order("FASTEST_FIRST"),
    order("fastest_first"),
    order("PCI"),
    order("0"),
];

/// What one environment made of the GPUs.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Fact {
    environment: Variables,
    /// UUIDs by ordinal, as gpupin says; `null` for one that may be several.
    ours: Vec<Option<String>>,
    certainty: Certainty,
    /// UUIDs by ordinal, as CUDA says.
    cuda: Vec<String>,
    /// How CUDA fails, if it does.
    error: Option<String>,
    outcome: Outcome,
    why: Vec<String>,
}

impl Fact {
    /// Whether CUDA does not do what gpupin says.
    pub(crate) fn differs(&self) -> bool {
        self.outcome == Outcome::Differs
    }
}

#[derive(Debug, serde::Serialize)]
struct Variables {
    #[serde(rename = "CUDA_VISIBLE_DEVICES")]
    mask: Option<String>,
    #[serde(rename = "CUDA_DEVICE_ORDER")]
    order: Option<String>,
}

/// Tries every environment of the list on a machine with a GPU. `told` hears how many are done.
pub(crate) fn facts(
    machine: &dyn Machine,
    mut told: impl FnMut(usize, usize),
) -> Result<Vec<Fact>, MachineError> {
    let inventory = machine.inventory()?;
    let uuid = inventory.gpus.first().map(|it| it.uuid.to_string()).unwrap_or_default();
    let digits = uuid.strip_prefix("GPU-").unwrap_or(&uuid);
    let filled = |text: &str| {
        text.replace("{uuid}", &uuid)
            .replace("{UUID}", &format!("GPU-{}", digits.to_uppercase()))
            .replace("{lower}", &uuid.to_lowercase())
            .replace("{short}", uuid.get(..12).unwrap_or(&uuid))
            .replace("{digits}", digits)
    };
    let mut facts = Vec::new();
    for (done, trial) in TRIALS.iter().enumerate() {
        told(done, TRIALS.len());
        let environment =
            Variables { mask: trial.mask.map(filled), order: trial.order.map(filled) };
        let pairs = [
            ("CUDA_VISIBLE_DEVICES", environment.mask.as_deref()),
            ("CUDA_DEVICE_ORDER", environment.order.as_deref()),
        ];
        let set = pairs.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
        let visibility = resolve(&inventory, &Environment::from_pairs(set));
        let view = cuda_view(pairs);
        let error = match &view {
            Ok(view) => view.error.as_ref().map(|it| format!("{} ({})", it.name, it.code)),
            Err(error) => Some(error.to_string()),
        };
        let comparison = Comparison::of(&visibility, machine.kind(), view);
        facts.push(Fact {
            environment,
            ours: visibility
                .visible
                .iter()
                .map(|it| it.uuid.as_ref().map(ToString::to_string))
                .collect(),
            certainty: visibility.certainty,
            cuda: comparison.devices.into_iter().map(|it| it.uuid).collect(),
            error,
            outcome: comparison.outcome,
            why: comparison.why,
        });
    }
    Ok(facts)
}
