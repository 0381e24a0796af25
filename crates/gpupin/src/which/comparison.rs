use gpupin_device::{
    Kind,
    cuda::{CudaDevice, CudaError, CudaView},
};
use gpupin_policy::{
    GpuUuid,
    visibility::{Ordinal, Visibility},
};

/// What CUDA says about the same environment, beside what gpupin says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Comparison {
    pub(crate) outcome: Outcome,
    /// Why it differs, or was not asked; one sentence each.
    pub(crate) why: Vec<String>,
    /// CUDA's devices, by ordinal.
    pub(crate) devices: Vec<Device>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// CUDA says the same, or one of what gpupin holds possible.
    Agrees,
    Differs,
    /// Nothing can be said.
    Unasked,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Device {
    pub(crate) ordinal: u32,
    pub(crate) uuid: String,
    pub(crate) name: String,
}

impl Comparison {
    pub(crate) fn unasked(why: impl Into<String>) -> Self {
        Self { outcome: Outcome::Unasked, why: vec![why.into()], devices: Vec::new() }
    }

    /// Compares what gpupin makes of a machine of some kind with what CUDA answers.
    pub(crate) fn of(
        visibility: &Visibility,
        kind: Kind,
        answer: Result<CudaView, CudaError>,
    ) -> Self {
        let view = match answer {
            Ok(view) => view,
            Err(error) => return Self::unasked(with_causes(&error)),
        };
        if view.simulated != (kind == Kind::Simulated) {
            return Self::unasked(
                "one of NVML and CUDA is simulated and the other is not, so they speak of different machines",
            );
        }
        let why = differences(visibility, &view);
        let device = |it: &CudaDevice| Device {
            ordinal: it.ordinal,
            uuid: it.uuid.clone(),
            name: it.name.clone(),
        };
        Self {
            outcome: if why.is_empty() { Outcome::Agrees } else { Outcome::Differs },
            why,
            devices: view.devices.iter().map(device).collect(),
        }
    }
}

/// Everything in which CUDA does not answer what gpupin does.
fn differences(visibility: &Visibility, view: &CudaView) -> Vec<String> {
    let mut differences = Vec::new();
    let visible = &visibility.visible;
    if let Some(error) = view.error.as_ref().filter(|_| !visible.is_empty()) {
        return vec![format!("CUDA shows no GPU: `{}` fails with {}", error.function, error.name)];
    }
    if visible.len() != view.devices.len() {
        let count = |it| if it == 1 { "1 GPU".to_owned() } else { format!("{it} GPUs") };
        differences.push(format!(
            "CUDA shows {}, not {}",
            count(view.devices.len()),
            count(visible.len())
        ));
    }
    for device in &view.devices {
        let Some(ours) = visibility.at(Ordinal(device.ordinal)) else { continue };
        if !ours.candidates.iter().any(|it| is_same(it, &device.uuid)) {
            differences.push(format!(
                "`cuda:{}` is {} ({}) to CUDA",
                device.ordinal, device.name, device.uuid
            ));
        }
    }
    differences
}

/// Whether both name one GPU. CUDA has the digits only, and which prefix they get is inferred.
fn is_same(ours: &GpuUuid, cuda: &str) -> bool {
    let digits = |it: &str| it.split_once('-').map(|it| it.1.to_ascii_lowercase());
    digits(ours.as_str()) == digits(cuda)
}

/// An error with what caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use gpupin_device::{
        Kind,
        cuda::{CudaDevice, CudaError, CudaFailure, CudaView},
        scene::Scene,
    };
    use gpupin_policy::visibility::{Environment, resolve};

    use super::{Comparison, Outcome};

    const FIRST: &str = "GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01";
    const SECOND: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";

    fn view(uuids: &[&str]) -> CudaView {
        let device = |(ordinal, uuid): (u32, &&str)| CudaDevice {
            ordinal,
            uuid: (*uuid).to_owned(),
            name: "a GPU".to_owned(),
            vram: 0,
            compute_capability: "8.6".to_owned(),
            pci: String::new(),
        };
        CudaView {
            simulated: true,
            devices: (0..).zip(uuids).map(device).collect(),
            ..CudaView::default()
        }
    }

    fn failed(code: u32) -> CudaView {
        let error = CudaFailure { function: "cuInit".to_owned(), code, name: "X".to_owned() };
        CudaView { error: Some(error), ..view(&[]) }
    }

    #[track_caller]
    fn check(variables: &[(&str, &str)], answer: Result<CudaView, CudaError>, expected: Outcome) {
        let scene = Scene::parse(include_str!("../../../../scenes/mixed.toml")).unwrap();
        let environment = Environment::from_pairs(variables.iter().map(|it| (it.0, it.1)));
        let visibility = resolve(&scene.inventory(), &environment);
        let comparison = Comparison::of(&visibility, Kind::Simulated, answer);
        assert_eq!(comparison.outcome, expected, "{variables:?}: {comparison:?}");
        assert_eq!(comparison.why.is_empty(), expected == Outcome::Agrees, "{comparison:?}");
    }

    #[test]
    fn only_what_is_possible_agrees() {
        let order = ("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
        let hidden = ("CUDA_VISIBLE_DEVICES", "");
        check(&[order], Ok(view(&[FIRST, SECOND])), Outcome::Agrees);
        check(&[order], Ok(view(&[SECOND, FIRST])), Outcome::Differs);
        check(&[], Ok(view(&[SECOND, FIRST])), Outcome::Agrees);
        check(&[order], Ok(view(&[FIRST])), Outcome::Differs);
        check(&[order], Ok(failed(100)), Outcome::Differs);
        check(&[order], Ok(failed(999)), Outcome::Differs);
        check(&[hidden], Ok(failed(100)), Outcome::Agrees);
        check(&[hidden], Ok(view(&[FIRST])), Outcome::Differs);
    }

    #[test]
    fn what_did_not_answer_neither_agrees_nor_differs() {
        let why = || "x".to_owned();
        check(&[], Err(CudaError::NoLibrary { why: why() }), Outcome::Unasked);
        check(&[], Err(CudaError::Died { why: why() }), Outcome::Unasked);
        let real = CudaView { simulated: false, ..view(&[FIRST, SECOND]) };
        check(&[], Ok(real), Outcome::Unasked);
    }
}
