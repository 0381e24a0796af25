use std::{
    io,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use gpupin_device::Kind;
use gpupin_policy::GpuUuid;
use gpupin_run::{
    log::{self, Entry, Event},
    process::ProcessId,
};

use crate::{
    failure::{Exit, Failure},
    state,
};

/// What the package gets with a lease, and brings when it has given that back in order. Whoever ends in another way brings nothing,
/// and then nothing is logged, as after any holder that was killed.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Receipt {
    /// Their UUIDs.
    pub(super) gpus: Vec<String>,
    pub(super) kind: Kind,
    pub(super) holder: ProcessId,
    pub(super) command: String,
    /// Milliseconds since 1970.
    pub(super) taken: u64,
}

/// Logs that a lease was given back, by its receipt on standard input.
pub(super) fn run() -> Result<Exit, Failure> {
    let receipt: Receipt = serde_json::from_reader(io::stdin().lock())
        .context("standard input is no receipt of a lease")?;
    let now = SystemTime::now();
    let taken = SystemTime::UNIX_EPOCH + Duration::from_millis(receipt.taken);
    let held = now.duration_since(taken).unwrap_or_default();
    let held_ms = u64::try_from(held.as_millis()).unwrap_or(u64::MAX);
    let gpus = receipt.gpus.iter().map(|it| it.parse()).collect::<Result<Vec<GpuUuid>, _>>();
    let event = Event::LeaseGivenBack { gpus: gpus.context("it names no GPU")?, held_ms };
    let entry = Entry::new(now, receipt.kind, receipt.holder, &receipt.command, event);
    log::append(&state::leases(receipt.kind)?, &entry).map_err(anyhow::Error::new)?;
    Ok(Exit::Clean)
}
