use crate::{
    identity::GpuUuid,
    inventory::{Gpu, Inventory},
    visibility::{Certainty, Ordinal, Step, Visibility},
};

/// The version of [`VisibilityReport`].
const VERSION: u32 = 1;

/// A [`Visibility`] as `gpupin which --output-format json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct VisibilityReport {
    pub version: u32,
    pub visible: Vec<VisibleReport>,
    pub certainty: Certainty,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct VisibleReport {
    pub ordinal: Ordinal,
    /// `null` if it may be one of several GPUs.
    pub uuid: Option<GpuUuid>,
    /// The product name without vendor words; `null` with `uuid`.
    pub name: Option<String>,
    /// Every GPU it may be; absent when it is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<GpuName>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct GpuName {
    pub uuid: GpuUuid,
    pub name: Option<String>,
}

impl Visibility {
    /// The answer in its serializable form, with the names `inventory` has for the GPUs.
    pub fn report(&self, inventory: &Inventory) -> VisibilityReport {
        let name = |uuid: &GpuUuid| inventory.get(uuid).map(Gpu::short_name);
        let visible = self.visible.iter().map(|it| VisibleReport {
            ordinal: it.ordinal,
            uuid: it.uuid.clone(),
            name: it.uuid.as_ref().and_then(name),
            candidates: match it.uuid {
                Some(_) => vec![],
                None => it
                    .candidates
                    .iter()
                    .map(|uuid| GpuName { uuid: uuid.clone(), name: name(uuid) })
                    .collect(),
            },
        });
        VisibilityReport {
            version: VERSION,
            visible: visible.collect(),
            certainty: self.certainty,
            steps: self.steps.clone(),
        }
    }
}
