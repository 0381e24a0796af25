use std::collections::BTreeMap;

use super::{INVALID_VALUE, NO_DEVICE, UNKNOWN, call, cuda, put};
use crate::session;

/// What this process has allocated. The addresses lead nowhere.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// By address: the context and how many bytes.
    allocations: BTreeMap<u64, (usize, u64)>,
    next: u64,
}

/// Where addresses begin, and what they are multiples of.
const START: u64 = 0x7f00_0000_0000;
const GRAIN: u64 = 2 << 20;

impl Memory {
    /// Forgets what a context allocated; the answer is how many bytes it was.
    pub(super) fn forget(&mut self, context: usize) -> u64 {
        let held = self.allocations.values().filter(|it| it.0 == context).map(|it| it.1).sum();
        self.allocations.retain(|_, it| it.0 != context);
        held
    }
}

cuda! {
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) |process| {
        let (_, device) = process.current()?;
        let it = process.gpu(device)?;
        let running = session::live().ok_or(NO_DEVICE)?.processes().map_err(|_| UNKNOWN)?;
        let (gpu, uuid) = (it.gpu(), &it.uuid);
        let all = gpu.total(uuid);
        let left = all - gpu.kept(uuid) - gpu.used(uuid, &running);
        put(free, usize::try_from(left).unwrap_or(usize::MAX))?;
        put(total, usize::try_from(all).unwrap_or(usize::MAX))
    }

    fn cuMemAlloc_v2(address: *mut u64, bytes: usize) |process| {
        let (context, device) = process.current()?;
        if bytes == 0 || address.is_null() {
            return Err(INVALID_VALUE);
        }
        let uuid = process.uuid(device)?.clone();
        call("cuMemAlloc", Some(&uuid))?;
        // Memory is given in pages.
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).checked_next_multiple_of(GRAIN).ok_or(INVALID_VALUE)?;
        process.take(&uuid, bytes)?;
        let memory = &mut process.memory;
        let here = START + memory.next;
        memory.next += bytes;
        memory.allocations.insert(here, (context, bytes));
        put(address, here)
    }

    fn cuMemFree_v2(address: u64) |process| {
        if address == 0 {
            return Ok(());
        }
        let (context, bytes) = process.memory.allocations.remove(&address).ok_or(INVALID_VALUE)?;
        let device = process.device_of(context)?;
        let uuid = process.uuid(device)?.clone();
        process.give(&uuid, bytes)
    }
}
