//! The environment of a running process, and where the driver sees it.

use std::{fs, io, path::Path};

use gpupin_device::Machine;
use gpupin_policy::GpuUuid;
use gpupin_run::process::Process;

use crate::{failure::Failure, machine::snapshot::Users, terminal::one_line};

/// A running process, as far as it decides which GPUs it sees.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) process: Process,
    user: Option<String>,
    /// As it was when the program started.
    pub(crate) environment: Vec<(String, String)>,
    /// Whether it is in a container, seen from here; `None` if that cannot be told.
    pub(crate) is_elsewhere: Option<bool>,
}

impl Running {
    pub(crate) fn read(pid: u32, root: &Path) -> Result<Self, Failure> {
        let process = Process::read(pid).map_err(|error| {
            let text = match error.kind() {
                io::ErrorKind::NotFound => format!("there is no process {pid}"),
                _ => format!("failed to read `/proc/{pid}`: {error}"),
            };
            Failure::usage(text)
        })?;
        let environment =
            fs::read(format!("/proc/{pid}/environ")).map_err(|error| match error.kind() {
                io::ErrorKind::PermissionDenied => Failure::usage(format!(
                    "no permission to read the environment of process {pid}, which runs as user {}",
                    process.uid
                ))
                .hint("ask as that user, or as root"),
                _ => Failure::usage(format!("failed to read `/proc/{pid}/environ`: {error}")),
            })?;
        // What took its number meanwhile is another process.
        if !Process::is_alive(process.id) {
            return Err(Failure::usage(format!("process {pid} ended")));
        }
        Ok(Self {
            user: Users::read(root).name(process.uid),
            environment: variables(&environment),
            is_elsewhere: is_elsewhere(pid),
            process,
        })
    }

    /// The process in words.
    pub(crate) fn describe(&self) -> String {
        let user = self.user.clone().unwrap_or_else(|| self.process.uid.to_string());
        let command = one_line(&self.process.command);
        format!("process {} of user {user}: {command}", self.process.id)
    }

    /// The GPUs on which the driver sees it now, and whether every list could be read.
    pub(crate) fn seen_on(&self, machine: &dyn Machine, gpus: &[GpuUuid]) -> (Vec<GpuUuid>, bool) {
        let mut is_whole = true;
        let mut seen = Vec::new();
        for gpu in gpus {
            let usage = machine.usage(gpu);
            is_whole &= usage.compute.is_ok() && usage.graphics.is_ok();
            if usage.processes().any(|it| it.1.pid == self.process.id.pid) {
                seen.push(gpu.clone());
            }
        }
        (seen, is_whole)
    }
}

/// The text of `/proc/PID/environ`. Where a name is there twice, C takes the first.
fn variables(environ: &[u8]) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for entry in environ.split(|it| *it == 0) {
        let entry = String::from_utf8_lossy(entry);
        let Some((name, value)) = entry.split_once('=') else { continue };
        if variables.iter().all(|it| it.0 != name) {
            variables.push((name.to_owned(), value.to_owned()));
        }
    }
    variables
}

/// Whether the process sees another file system than this one, as in a container.
fn is_elsewhere(pid: u32) -> Option<bool> {
    let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/mnt")).ok();
    Some(namespace("self")? != namespace(&pid.to_string())?)
}

#[cfg(test)]
mod tests {
    use super::variables;

    #[test]
    fn the_first_of_two_equal_names_counts() {
        let found = variables(b"A=1\0CUDA_VISIBLE_DEVICES=\0A=2\0broken\0B=x=y\0");
        let expected = [("A", "1"), ("CUDA_VISIBLE_DEVICES", ""), ("B", "x=y")];
        assert_eq!(found, expected.map(|it| (it.0.to_owned(), it.1.to_owned())));
    }
}
