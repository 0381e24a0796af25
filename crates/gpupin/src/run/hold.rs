use gpupin_device::Machine;
use gpupin_policy::{GpuUuid, Inventory, Policy};

use super::{LeaseWish, Order, choice::Wanted};
use crate::{
    failure::Failure,
    lease::{self, Wish},
    run::words,
    terminal::Terminal,
};

/// GPUs that a program may use now.
pub(crate) struct Held {
    pub(crate) gpus: Vec<GpuUuid>,
    pub(crate) lease: Option<lease::Held>,
}

/// Waits for the GPUs, visibly.
pub(crate) fn hold(
    order: &Order,
    wanted: &Wanted,
    policy: &Policy,
    (machine, inventory): (&dyn Machine, &Inventory),
    terminal: &mut Terminal,
) -> Result<Held, Failure> {
    let LeaseWish::Within(patience) = order.lease else {
        let gpus = idle_first(wanted, machine);
        lease::warn_of_others(&gpus, machine, inventory, None, terminal);
        return Ok(Held { gpus, lease: None });
    };
    let wish = Wish {
        gpus: wanted.candidates.clone(),
        count: wanted.count,
        slots: policy.lease.slots,
        command: words::command(&order.command),
        patience,
        holder: None,
        machine,
        inventory,
    };
    let held = lease::take(&wish, terminal)?;
    Ok(Held { gpus: held.gpus().to_vec(), lease: Some(held) })
}

/// Without a lease: those of the candidates on which nobody is seen come first.
fn idle_first(wanted: &Wanted, machine: &dyn Machine) -> Vec<GpuUuid> {
    let mut gpus = wanted.candidates.clone();
    if gpus.len() > wanted.count {
        gpus.sort_by_cached_key(|it| machine.usage(it).processes().count());
    }
    gpus.truncate(wanted.count);
    gpus
}
