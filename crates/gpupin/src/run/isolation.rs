use std::{ffi::OsString, os::fd::BorrowedFd};

use gpupin_device::Machine;
use gpupin_policy::{GpuUuid, Inventory};
use gpupin_run::evidence::IsolationRecord;

use super::choice::Choice;
use crate::failure::Failure;

/// What keeps the other GPUs out of a program's reach.
pub(super) struct Isolation {
    is_wanted: bool,
}

/// What was achieved.
pub(super) struct Report {
    /// Out of reach.
    pub(super) gpus: Vec<GpuUuid>,
    pub(super) record: IsolationRecord,
}

impl Isolation {
    pub(super) fn of(
        is_wanted: bool,
        _machine: &dyn Machine,
        _inventory: &Inventory,
        _choice: &Choice,
    ) -> Result<Self, Failure> {
        Ok(Self { is_wanted })
    }

    /// The GPUs that the program will find.
    pub(super) fn present(&self, inventory: &Inventory) -> Inventory {
        inventory.clone()
    }

    pub(super) fn command(&self, command: &[OsString]) -> Result<Vec<OsString>, Failure> {
        Ok(command.to_vec())
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::empty()
    }

    pub(super) fn report(self) -> Report {
        let record = IsolationRecord { requested: self.is_wanted, ..Default::default() };
        Report { gpus: Vec::new(), record }
    }
}
