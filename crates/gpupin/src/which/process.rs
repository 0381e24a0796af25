//! The environment of a running process, and where the driver sees it.

use std::{fs, io, path::Path};

use gpupin_device::Machine;
use gpupin_monitor::people::Users;
use gpupin_policy::GpuUuid;
use gpupin_run::process::Process;

use crate::{failure::Failure, terminal::one_line};

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

const IN_CONTAINERS: &str = "a container numbers its processes itself: take the number from `gpupin gpus` or `ps` where you ask";

impl Running {
    pub(crate) fn read(pid: u32, root: &Path) -> Result<Self, Failure> {
        let process = Process::read(pid).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Failure::usage(format!("there is no process {pid}")).hint(IN_CONTAINERS)
            }
            _ => Failure::usage(format!("failed to read `/proc/{pid}`: {error}")),
        })?;
        let user = Users::read(root).name(process.uid);
        let environment = fs::read(format!("/proc/{pid}/environ"));
        // What took its number meanwhile is another process.
        if !Process::is_alive(process.id) {
            return Err(Failure::usage(format!("process {pid} ended")));
        }
        let environment = environment.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                let user = user.clone().unwrap_or_else(|| process.uid.to_string());
                let me = rustix::process::geteuid().as_raw();
                Failure::usage(format!(
                    "no permission to read the environment of process {pid}, which runs as user {user}"
                ))
                .hint(way_in(me, process.uid))
            }
            _ if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
                let what = format!("process {pid} (`{}`)", one_line(&process.command));
                Failure::usage(format!("{what} has no environment: it is the kernel's, or is ending"))
                    .hint(IN_CONTAINERS)
            }
            _ => Failure::usage(format!("failed to read `/proc/{pid}/environ`: {error}")),
        })?;
        Ok(Self {
            user,
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

/// How the user `me` could come to read what a process of `owner` was started with.
fn way_in(me: u32, owner: u32) -> &'static str {
    match me {
        _ if me == owner => {
            "it has more rights than you, or keeps its memory to itself: ask as root on the host"
        }
        0 => "root of a container may not see it either: ask as root on the host",
        _ => "ask as that user, or as root",
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
    use super::{variables, way_in};

    #[test]
    fn nobody_is_told_to_become_who_he_is() {
        for (me, owner, expected) in [
            (1000, 0, "ask as that user, or as root"),
            (0, 0, "on the host"),
            (0, 1000, "on the host"),
        ] {
            assert!(way_in(me, owner).contains(expected), "{me} {owner}");
        }
        assert!(!way_in(1000, 1000).contains("that user"));
    }

    #[test]
    fn the_first_of_two_equal_names_counts() {
        let found = variables(b"A=1\0CUDA_VISIBLE_DEVICES=\0A=2\0broken\0B=x=y\0");
        let expected = [("A", "1"), ("CUDA_VISIBLE_DEVICES", ""), ("B", "x=y")];
        assert_eq!(found, expected.map(|it| (it.0.to_owned(), it.1.to_owned())));
    }
}
