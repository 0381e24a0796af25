//! Where gpupin keeps what the users of a machine share.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use gpupin_run::lease::Directory;

use crate::failure::Failure;

/// Made by the administrator, for all users.
const SHARED: [&str; 2] = ["/run/gpupin", "/var/lib/gpupin"];

/// The directory of leases.
///
/// `GPUPIN_STATE_DIR`, else one that all users share, else one of this user.
pub(crate) fn leases() -> Result<Directory, Failure> {
    if let Some(path) = std::env::var_os("GPUPIN_STATE_DIR") {
        let directory = Directory::open(Path::new(&path));
        return Ok(directory.context("failed to open `GPUPIN_STATE_DIR`")?);
    }
    let shared = SHARED.map(Path::new);
    let directory = Directory::shared_or_user(&shared, &of_user());
    Ok(directory.context("failed to open the directory of leases")?)
}

fn of_user() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(path) if Path::new(&path).is_absolute() => Path::new(&path).join("gpupin"),
        _ => PathBuf::from(format!("/tmp/gpupin-{}", rustix::process::getuid().as_raw())),
    }
}
