use crate::{
    inventory::Gpu,
    visibility::{Slot, environment::Environment, trace::Trace},
};

/// The order in which CUDA lists GPUs before the mask.
pub(super) enum BaseOrder<'a> {
    Known(Vec<&'a Gpu>),
    /// The same GPUs in an order that cannot be told.
    Unknown(Vec<&'a Gpu>),
}

impl<'a> BaseOrder<'a> {
    pub(super) fn gpus(&self) -> &[&'a Gpu] {
        match self {
            Self::Known(gpus) | Self::Unknown(gpus) => gpus,
        }
    }

    pub(super) fn at(&self, position: usize) -> Option<Slot<'a>> {
        let gpu = self.gpus().get(position)?;
        Some(match self {
            Self::Known(_) => vec![gpu],
            Self::Unknown(gpus) => gpus.clone(),
        })
    }
}

/// Whether CUDA starts: with any other value, even an empty one, `cuInit` fails (seen on driver 580, see `docs/hardware.md`).
pub(super) fn is_understood(environment: &Environment, trace: &mut Trace) -> bool {
    let Some(order) = environment.cuda_device_order.as_deref() else { return true };
    let is_understood = matches!(order, "PCI_BUS_ID" | "FASTEST_FIRST");
    if !is_understood {
        trace.failure(format!(
            "`CUDA_DEVICE_ORDER={order}` is neither `PCI_BUS_ID` nor `FASTEST_FIRST`: CUDA does not start with it, and no GPU \
             is visible"
        ));
    }
    is_understood
}

/// Sorts GPUs as `CUDA_DEVICE_ORDER` says, as far as that can be known.
///
/// The heuristic behind `FASTEST_FIRST` is not documented and contradicts every simple guess
/// (pytorch#80876, onnxruntime#28066), so the order of different GPUs is never predicted.
pub(super) fn base_order<'a>(
    gpus: &'a [Gpu],
    environment: &Environment,
    trace: &mut Trace,
) -> BaseOrder<'a> {
    let mut sorted: Vec<_> = gpus.iter().collect();
    sorted.sort_by(|a, b| (a.pci, &a.uuid).cmp(&(b.pci, &b.uuid)));
    if sorted.len() < 2 {
        return BaseOrder::Known(sorted);
    }
    let variable = match environment.cuda_device_order.as_deref() {
        Some("PCI_BUS_ID") => {
            trace.certain(format!(
                "`CUDA_DEVICE_ORDER=PCI_BUS_ID` sorts the GPUs by PCI address: {}",
                list(&sorted)
            ));
            return BaseOrder::Known(sorted);
        }
        Some("FASTEST_FIRST") => "`CUDA_DEVICE_ORDER=FASTEST_FIRST` lists".to_owned(),
        None => "`CUDA_DEVICE_ORDER` is not set, so CUDA lists".to_owned(),
        Some(other) => unreachable!("CUDA does not start with the order `{other}`"),
    };
    if sorted.iter().all(|gpu| gpu.same_model(sorted[0])) {
        trace.uncertain(format!(
            "{variable} the fastest GPU first; these are all the same model, which is seen to keep \
             them in PCI order"
        ));
        BaseOrder::Known(sorted)
    } else {
        trace.certain(format!(
            "{variable} the fastest GPU first, by a heuristic that is not documented; these GPUs \
             differ, so their order is unknown"
        ));
        BaseOrder::Unknown(sorted)
    }
}

fn list(gpus: &[&Gpu]) -> String {
    let numbered =
        gpus.iter().enumerate().map(|(index, gpu)| format!("{index} is {}", gpu.short_name()));
    numbered.collect::<Vec<_>>().join(", ")
}
