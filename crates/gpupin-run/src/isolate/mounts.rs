#![expect(unsafe_code, reason = "leaving a mount namespace has no safe wrapper")]

use std::path::Path;

use rustix::{
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, mount_remount},
    thread::{UnshareFlags, unshare_unsafe},
};

/// Moves this thread into a mount namespace of its own, where the nodes cannot be opened as devices.
pub(super) fn mask(nodes: &[&Path]) -> Result<(), String> {
    let failed = |what: String| move |error: Errno| format!("{what}: {error}");
    // SAFETY: the flag changes which mounts this thread sees and takes no memory or descriptors from others.
    let left = unsafe { unshare_unsafe(UnshareFlags::NEWNS) };
    left.map_err(failed("not allowed".to_owned()))?;
    // Nothing of what follows may reach the other namespaces.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(failed("failed to make mounts private".to_owned()))?;
    for node in nodes.iter().filter(|it| it.exists()) {
        let failed = || failed(format!("failed to mask `{}`", node.display()));
        mount_bind(*node, *node).map_err(failed())?;
        let flags = MountFlags::BIND | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
        mount_remount(*node, flags, "").map_err(failed())?;
    }
    Ok(())
}
