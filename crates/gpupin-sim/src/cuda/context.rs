use std::{
    cell::RefCell,
    collections::BTreeMap,
    ffi::{c_int, c_uint, c_void},
};

use gpupin_device::scene::{ComputeMode, Live, Use, UseKind, earlier_uses, now, write_uses};
use gpupin_policy::GpuUuid;

use super::{
    Code, DEVICE_UNAVAILABLE, INVALID_CONTEXT, INVALID_VALUE, NO_DEVICE, OUT_OF_MEMORY, Outcome,
    Process, UNKNOWN, call, cuda, put,
};
use crate::session;

/// A `CUcontext`: the number of a context, where a real one is an address.
type Handle = *mut c_void;

/// The contexts of this process, and what they take of the GPUs.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    by_number: BTreeMap<usize, Context>,
    last: usize,
    uses: Vec<Use>,
}

#[derive(Debug)]
struct Context {
    device: c_int,
    flags: c_uint,
    /// How often the primary context was retained; `None` for any other.
    retained: Option<u32>,
}

thread_local! {
    /// The contexts of this thread, the current one last.
    static CURRENT: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

fn current() -> Option<usize> {
    CURRENT.with_borrow(|it| it.last().copied()).filter(|it| *it != 0)
}

fn handle(number: usize) -> Handle {
    std::ptr::without_provenance_mut(number)
}

impl Contexts {
    /// None yet, and what this process used before `exec` made it this program.
    pub(super) fn of_this_process() -> Self {
        let directory = session::live().and_then(Live::processes_directory);
        let uses = directory.map(|it| earlier_uses(&it)).unwrap_or_default();
        Self { uses, ..Self::default() }
    }
}

impl Process {
    /// The context of this thread and its ordinal.
    pub(super) fn current(&self) -> Result<(usize, c_int), Code> {
        let number = current().ok_or(INVALID_CONTEXT)?;
        let context = self.contexts.by_number.get(&number).ok_or(INVALID_CONTEXT)?;
        Ok((number, context.device))
    }

    /// The ordinal of a context.
    pub(super) fn device_of(&self, context: usize) -> Result<c_int, Code> {
        self.contexts.by_number.get(&context).map(|it| it.device).ok_or(INVALID_CONTEXT)
    }

    fn create(
        &mut self,
        device: c_int,
        flags: c_uint,
        retained: Option<u32>,
    ) -> Result<usize, Code> {
        let it = self.gpu(device)?;
        call("cuCtxCreate", Some(&it.uuid))?;
        let uuid = it.uuid.clone();
        let live = session::live().ok_or(NO_DEVICE)?;
        let running = live.processes().map_err(|_| UNKNOWN)?;
        let is_other = |other: &gpupin_device::scene::Running| {
            let uses = |used: &Use| {
                used.gpu == uuid && used.until.is_none() && used.kind == UseKind::Compute
            };
            other.is_alive && other.pid != self.pid && other.uses.iter().any(uses)
        };
        match it.gpu().compute_mode {
            ComputeMode::Prohibited => return Err(DEVICE_UNAVAILABLE),
            ComputeMode::ExclusiveProcess if running.iter().any(is_other) => {
                return Err(DEVICE_UNAVAILABLE);
            }
            ComputeMode::Default | ComputeMode::ExclusiveProcess => {}
        }
        self.take(&uuid, it.gpu().context.get())?;
        self.contexts.last += 1;
        let number = self.contexts.last;
        self.contexts.by_number.insert(number, Context { device, flags, retained });
        Ok(number)
    }

    fn destroy(&mut self, number: usize) -> Outcome {
        let context = self.contexts.by_number.remove(&number).ok_or(INVALID_CONTEXT)?;
        let uuid = self.uuid(context.device)?.clone();
        let held =
            self.memory.forget(number) + super::find(&uuid).map_or(0, |it| it.gpu().context.get());
        let others = self.contexts.by_number.values().any(|it| it.device == context.device);
        let used = self.contexts.uses.iter_mut().find(|it| it.gpu == uuid && it.until.is_none());
        if let Some(used) = used {
            used.memory = used.memory.saturating_sub(held);
            if !others {
                used.memory = 0;
                used.until = Some(now());
            }
        }
        self.write()
    }

    /// Takes memory of a GPU, if there is as much.
    pub(super) fn take(&mut self, uuid: &GpuUuid, bytes: u64) -> Outcome {
        let it = super::find(uuid)?;
        let running = session::live().ok_or(NO_DEVICE)?.processes().map_err(|_| UNKNOWN)?;
        let gpu = it.gpu();
        let free = gpu.total(uuid) - gpu.kept(uuid) - gpu.used(uuid, &running);
        if bytes > free {
            return Err(OUT_OF_MEMORY);
        }
        let uses = &mut self.contexts.uses;
        let place = uses.iter().position(|it| it.gpu == *uuid && it.until.is_none());
        let place = place.unwrap_or_else(|| {
            uses.push(Use::new(uuid.clone(), UseKind::Compute, gpu.accounting));
            uses.len() - 1
        });
        let used = &mut uses[place];
        used.set_memory(used.memory + bytes);
        self.write()
    }

    /// Gives memory back.
    pub(super) fn give(&mut self, uuid: &GpuUuid, bytes: u64) -> Outcome {
        let used = self.contexts.uses.iter_mut().find(|it| it.gpu == *uuid && it.until.is_none());
        if let Some(used) = used {
            used.set_memory(used.memory.saturating_sub(bytes));
        }
        self.write()
    }

    fn write(&self) -> Outcome {
        let directory = session::live().and_then(gpupin_device::scene::Live::processes_directory);
        write_uses(&directory.ok_or(UNKNOWN)?, &self.contexts.uses).map_err(|_| UNKNOWN)
    }

    fn primary(&self, device: c_int) -> Option<usize> {
        let is_it = |it: &(&usize, &Context)| it.1.device == device && it.1.retained.is_some();
        self.contexts.by_number.iter().find(is_it).map(|it| *it.0)
    }

    fn push_new(&mut self, context: *mut Handle, flags: c_uint, device: c_int) -> Outcome {
        let number = self.create(device, flags, None)?;
        CURRENT.with_borrow_mut(|it| it.push(number));
        // SAFETY: CUDA's contract: the pointer is null or good for writing.
        unsafe { put(context, handle(number)) }
    }

    fn release(&mut self, device: c_int) -> Outcome {
        let number = self.primary(device).ok_or(INVALID_CONTEXT)?;
        let context = self.contexts.by_number.get_mut(&number).ok_or(INVALID_CONTEXT)?;
        let left = context.retained.unwrap_or(1).saturating_sub(1);
        context.retained = Some(left);
        if left == 0 { self.destroy(number) } else { Ok(()) }
    }
}

cuda! {
    fn cuCtxCreate_v2(context: *mut Handle, flags: c_uint, device: c_int) |process| {
        process.push_new(context, flags, device)
    }

    fn cuCtxCreate_v4(context: *mut Handle, _parameters: *mut c_void, flags: c_uint, device: c_int) |process| {
        process.push_new(context, flags, device)
    }

    fn cuCtxDestroy_v2(context: Handle) |process| {
        CURRENT.with_borrow_mut(|it| it.retain(|number| *number != context.addr()));
        process.destroy(context.addr())
    }

    fn cuCtxGetCurrent(context: *mut Handle) |_process| {
        put(context, handle(current().unwrap_or(0)))
    }

    fn cuCtxSetCurrent(context: Handle) |process| {
        let number = context.addr();
        if number != 0 && !process.contexts.by_number.contains_key(&number) {
            return Err(INVALID_CONTEXT);
        }
        CURRENT.with_borrow_mut(|it| {
            it.pop();
            it.extend((number != 0).then_some(number));
        });
        Ok(())
    }

    fn cuCtxPushCurrent_v2(context: Handle) |process| {
        if !process.contexts.by_number.contains_key(&context.addr()) {
            return Err(INVALID_CONTEXT);
        }
        CURRENT.with_borrow_mut(|it| it.push(context.addr()));
        Ok(())
    }

    fn cuCtxPopCurrent_v2(context: *mut Handle) |_process| {
        let popped = CURRENT.with_borrow_mut(Vec::pop).ok_or(INVALID_CONTEXT)?;
        if context.is_null() { Ok(()) } else { put(context, handle(popped)) }
    }

    fn cuCtxGetDevice(device: *mut c_int) |process| {
        put(device, process.current()?.1)
    }

    fn cuCtxGetFlags(flags: *mut c_uint) |process| {
        let number = process.current()?.0;
        put(flags, process.contexts.by_number[&number].flags)
    }

    fn cuCtxGetApiVersion(_context: Handle, version: *mut c_uint) |_process| {
        put(version, 3020)
    }

    fn cuCtxGetLimit(value: *mut usize, _limit: c_int) |_process| {
        put(value, 1024)
    }

    fn cuCtxSetLimit(_limit: c_int, _value: usize) |_process| {
        Ok(())
    }

    fn cuCtxSynchronize() |process| {
        let (_, device) = process.current()?;
        call("cuCtxSynchronize", Some(process.uuid(device)?))?;
        process.gpu(device).map(drop)
    }

    fn cuDevicePrimaryCtxRetain(context: *mut Handle, device: c_int) |process| {
        let number = match process.primary(device) {
            Some(number) => number,
            None => process.create(device, 0, Some(0))?,
        };
        let primary = process.contexts.by_number.get_mut(&number).ok_or(INVALID_CONTEXT)?;
        primary.retained = Some(primary.retained.unwrap_or(0) + 1);
        put(context, handle(number))
    }

    fn cuDevicePrimaryCtxRelease(device: c_int) |process| {
        process.release(device)
    }

    fn cuDevicePrimaryCtxRelease_v2(device: c_int) |process| {
        process.release(device)
    }

    fn cuDevicePrimaryCtxReset_v2(device: c_int) |process| {
        process.primary(device).map_or(Ok(()), |it| process.destroy(it))
    }

    fn cuDevicePrimaryCtxGetState(device: c_int, flags: *mut c_uint, active: *mut c_int) |process| {
        process.uuid(device)?;
        put(flags, 0)?;
        put(active, process.primary(device).is_some().into())
    }

    fn cuDevicePrimaryCtxSetFlags_v2(device: c_int, _flags: c_uint) |process| {
        process.uuid(device).map(drop).map_err(|_| INVALID_VALUE)
    }
}
