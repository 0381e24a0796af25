//! Keeping GPUs out of a program's reach, so that even code that rewrites its mask cannot use them.
//!
//! A GPU is used through its device nodes. [`enter`] makes the calling thread, and whatever it executes, unable to open those of
//! the other GPUs, and unable to undo that:
//!
//! - **`no_new_privs`**, so that no set-user-ID program (`nvidia-modprobe`) gets around it;
//! - **capabilities**: those that mount, make device nodes, load modules or look into other processes are dropped for good;
//! - **a device control group**, where the kernel has those of version 2 and lets us (root): it refuses the devices by their numbers, also under
//!   names that were made before. Root could leave it, so that it never counts alone;
//! - **a mount namespace**, where the kernel allows one (root): each node is mounted over itself with `nodev`, which refuses to open a device;
//! - **Landlock** (any user): everything may be opened as before but those nodes, and devices may be told what to do only in the
//!   directory of devices. A process under Landlock cannot mount anything, also not in a user namespace of its own.
//!
//! What the kernel refuses is said. A GPU counts as out of reach only if an attempt to open each of its nodes was denied, and
//! Landlock, or namespace and capabilities together, keep it so.
//!
//! Out of scope: descriptors that another process hands over, and servers that compute for others (MPS).

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use gpupin_policy::{GpuUuid, PciAddress};
use rustix::{
    fs::{Mode, OFlags, major, minor},
    io::Errno,
    thread::set_no_new_privs,
};
use serde::{Deserialize, Serialize};

use crate::{evidence::IsolationRecord, observe::record::Named};

mod capabilities;
mod device_cgroup;
mod mounts;
mod rules;

/// The major number of NVIDIA's devices.
const NVIDIA: u32 = 195;

/// What a program must not reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub hidden: Vec<Hidden>,
    /// Where device nodes are.
    pub devices: PathBuf,
}

/// A GPU and its device nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hidden {
    pub gpu: GpuUuid,
    pub nodes: Vec<PathBuf>,
}

/// What was achieved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// GPUs out of reach.
    pub unreachable: Vec<Named>,
    pub record: IsolationRecord,
}

impl Hidden {
    /// Finds the nodes of a GPU: those with its number, whatever they are called, and those of its graphics part.
    ///
    /// `minor` is that of `/dev/nvidiaN`; `root` is above `dev` and `sys`.
    pub fn find(gpu: &GpuUuid, minor: u32, pci: PciAddress, root: &Path) -> io::Result<Self> {
        let devices = root.join("dev");
        let mut nodes = Vec::new();
        find_nodes(&devices, minor, 3, &mut nodes)?;
        let named = devices.join(format!("nvidia{minor}"));
        if !nodes.contains(&named) {
            // If it comes later it must not be reached either.
            nodes.push(named);
        }
        let graphics = root.join(format!("sys/bus/pci/devices/{pci}/drm"));
        for entry in fs::read_dir(graphics).into_iter().flatten() {
            nodes.push(devices.join("dri").join(entry?.file_name()));
        }
        Ok(Self { gpu: gpu.clone(), nodes })
    }
}

fn find_nodes(
    directory: &Path,
    wanted: u32,
    depth: u32,
    found: &mut Vec<PathBuf>,
) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        // What cannot be listed cannot be used by name either.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let kind = metadata.file_type();
        if kind.is_dir() && depth > 0 {
            find_nodes(&path, wanted, depth - 1, found)?;
        }
        let device = metadata.rdev();
        if kind.is_char_device() && (major(device), minor(device)) == (NVIDIA, wanted) {
            found.push(path);
        }
    }
    Ok(())
}

/// Keeps the calling thread, and everything it executes, away from the hidden GPUs, as far as the kernel allows. Cannot be undone.
pub fn enter(order: &Order) -> Report {
    let mut achieved = Vec::new();
    let mut refused = Vec::new();
    let mut note = |name: &str, result: Result<(), String>| {
        match &result {
            Ok(()) => achieved.push(name.to_owned()),
            Err(why) => refused.push(format!("{name}: {why}")),
        }
        result.is_ok()
    };
    let nodes: Vec<_> =
        order.hidden.iter().flat_map(|it| &it.nodes).map(PathBuf::as_path).collect();
    // The order matters: mounting needs the capabilities, and Landlock forbids mounting.
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        let devices = device_cgroup::devices(&nodes);
        note("device-cgroup", device_cgroup::enter(&devices));
    }
    let is_mounted = is_root && note("mount-namespace", mounts::mask(&nodes));
    let keeps_privileges =
        note("no-new-privs", set_no_new_privs(true).map_err(|it| it.to_string()));
    let is_dropped = note("capabilities", capabilities::drop_for_good());
    let is_ruled = note("landlock", rules::enforce(&order.devices, &nodes));
    let is_closed = note("descriptors", close_inherited(&order.hidden));

    let holds = is_closed && keeps_privileges && (is_ruled || is_mounted && is_dropped);
    let mut unreachable = Vec::new();
    for hidden in &order.hidden {
        let reachable = hidden.nodes.iter().find(|it| !is_denied(it, is_ruled));
        match reachable {
            None if holds => unreachable.push(Named(hidden.gpu.clone())),
            None => refused.push(format!("{}: nothing would keep it out of reach", hidden.gpu)),
            Some(node) => {
                refused.push(format!("{}: `{}` can still be opened", hidden.gpu, node.display()));
            }
        }
    }
    Report { unreachable, record: IsolationRecord { requested: true, achieved, refused } }
}

/// Removes what isolation has left of programs that are gone.
pub fn tidy() {
    device_cgroup::sweep();
}

/// Whether opening a node is refused. Any other failure means that access to it is allowed.
fn is_denied(node: &Path, is_ruled: bool) -> bool {
    match rustix::fs::open(node, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::ACCESS | Errno::PERM) => true,
        // Rules speak of what there is, so that a node that comes later is denied too.
        Err(Errno::NOENT) => is_ruled,
        _ => false,
    }
}

/// Keeps descriptors of hidden devices, which the caller may have left open, from the program.
fn close_inherited(hidden: &[Hidden]) -> Result<(), String> {
    let devices: Vec<u64> = hidden
        .iter()
        .flat_map(|it| &it.nodes)
        .filter_map(|it| fs::symlink_metadata(it).ok())
        .filter(|it| it.file_type().is_char_device())
        .map(|it| it.rdev())
        .collect();
    let entries = fs::read_dir("/proc/self/fd").map_err(|it| it.to_string())?;
    for entry in entries.flatten() {
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if metadata.file_type().is_char_device() && devices.contains(&metadata.rdev()) {
            return Err(format!(
                "descriptor {} is of a hidden device",
                entry.file_name().display()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Hidden;

    #[test]
    fn a_node_that_is_not_there_yet_is_hidden_too_and_so_is_the_graphics_part() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("dev/dri")).unwrap();
        let drm = root.path().join("sys/bus/pci/devices/0000:01:00.0/drm");
        fs::create_dir_all(drm.join("renderD128")).unwrap();
        let gpu = "GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01".parse().unwrap();
        let pci = "0000:01:00.0".parse().unwrap();
        let hidden = Hidden::find(&gpu, 3, pci, root.path()).unwrap();
        let expected = ["dev/nvidia3", "dev/dri/renderD128"].map(|it| root.path().join(it));
        assert_eq!(hidden.nodes, expected);
    }
}
