//! Which machine a command asks.

use std::ffi::OsString;

use anyhow::Context as _;
use gpupin_device::{Machine, scene::SceneMachine};

use crate::failure::Failure;

/// Which machine is asked.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Machine")]
pub(crate) struct MachineArgs {
    /// Ask this scene, a file or one of `gpupin sim --list`, instead of the driver; everything it says is marked as simulated
    #[arg(long, value_name = "SCENE")]
    machine: Option<OsString>,
}

impl MachineArgs {
    /// The scene, or what the driver of this machine says.
    pub(crate) fn open(&self) -> Result<Box<dyn Machine>, Failure> {
        let Some(scene) = &self.machine else {
            return Err(Failure::usage("no NVIDIA driver was found"));
        };
        let machine = SceneMachine::find(scene).context("failed to open the scene")?;
        Ok(Box::new(machine))
    }
}
