//! Where `watch` and `serve` get their moments.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use gpupin_device::{Kind, Machine};
use gpupin_monitor::{
    feed::Feed,
    sampler::{PERIOD, Sampler, Setting},
};
use gpupin_policy::Policy;

use crate::{failure::Failure, machine::system_root, state, terminal::Terminal};

/// What is looked at. Leases that cannot be read are told, and keep nobody from seeing the rest.
pub(crate) fn setting(
    machine: &dyn Machine,
    policy: Policy,
    period: Duration,
    terminal: &mut Terminal,
) -> Setting {
    let leases = state::leases(machine.kind());
    if let Err(failure) = &leases {
        let lines: Vec<_> = failure.lines().map(|it| it.1).collect();
        terminal.warning(&format!("nothing is known of leases: {}", lines.join(": ")));
    }
    Setting { period, policy, root: system_root(), leases: leases.ok() }
}

/// Moments of a machine, from whoever reads it for all.
pub(crate) fn open(machine: Arc<dyn Machine>, setting: Setting) -> Result<Feed, Failure> {
    // Another pace than everybody's, and a machine that is not this one, are nobody else's business.
    let is_shared = machine.kind() == Kind::Measured && setting.period == PERIOD;
    let directory = setting.leases.as_ref().filter(|_| is_shared).map(|it| it.path().to_owned());
    let policy = setting.policy.clone();
    let setting = Arc::new(setting);
    let start = move || Sampler::start(Arc::clone(&machine), Arc::clone(&setting));
    Ok(Feed::open(directory, policy, Box::new(start)).context("failed to start looking")?)
}
