use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// What `gpupin sim` sets for the command that it runs.
const VARIABLES: [&str; 4] =
    ["GPUPIN_SIM", "GPUPIN_NVML_LIBRARY", "GPUPIN_CUDA_LIBRARY", LIBRARY_PATH];

/// Where clients of NVML find it. gpupin does not need it.
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// A simulated machine, which stays until this is dropped, so that starting it is no part of what is measured on it.
pub(super) struct Simulation {
    child: Child,
    variables: Vec<(&'static str, String)>,
}

impl Simulation {
    pub(super) fn start(gpupin: &Path, scene: &OsStr) -> Result<Self> {
        let printed = VARIABLES.map(|it| format!("\"${it}\"")).join(" ");
        // The end of its input ends it.
        let script = format!("printf '%s\\n' {printed}; exec cat");
        let mut command = Command::new(gpupin);
        command.args(["--quiet", "sim", "--scene"]).arg(scene).args(["--", "sh", "-c", &script]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("failed to start a simulated machine")?;
        let said = child.stdout.take().context("its output is piped")?;
        let lines = BufReader::new(said).lines().take(VARIABLES.len());
        let values = lines.collect::<Result<Vec<_>, _>>()?;
        ensure!(values.len() == VARIABLES.len(), "the simulated machine did not start");
        Ok(Self { child, variables: VARIABLES.into_iter().zip(values).collect() })
    }

    /// Lets gpupin find the machine; others do not notice it.
    pub(super) fn enter(&self, command: &mut Command) {
        let of_gpupin = self.variables.iter().filter(|it| it.0 != LIBRARY_PATH);
        command.envs(of_gpupin.map(|it| (it.0, &it.1)));
    }

    /// Lets every client of NVML find the machine.
    pub(super) fn enter_as_client(&self, command: &mut Command) {
        command.envs(self.variables.iter().map(|it| (it.0, &it.1)));
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It may have ended by itself.
        drop(self.child.wait());
    }
}
