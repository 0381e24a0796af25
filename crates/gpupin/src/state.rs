//! Where gpupin keeps what the users of a machine share.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use gpupin_device::Kind;
use gpupin_run::lease::Directory;

use crate::failure::Failure;

/// Made by the administrator, for all users.
const SHARED: [&str; 2] = ["/run/gpupin", "/var/lib/gpupin"];

/// Made by the administrator, for the service that watches the machine.
const SHARED_HISTORY: &str = "/var/lib/gpupin";

/// The directory of leases on GPUs of this kind.
///
/// `GPUPIN_STATE_DIR`, else one that all users share, else one of this user. Leases on GPUs that are not real lie apart, in a directory of
/// this user's below: the GPUs of a scene may have the UUIDs of real ones.
pub(crate) fn leases(kind: Kind) -> Result<Directory, Failure> {
    let directory = real()?;
    if kind == Kind::Measured {
        return Ok(directory);
    }
    let directory = Directory::open_or_create(&simulated(&directory));
    Ok(directory.context("failed to open the directory of simulated leases")?)
}

/// The directory of simulated leases, if it is there.
pub(crate) fn simulated_leases() -> Result<Option<Directory>, Failure> {
    let path = simulated(&real()?);
    let directory = path.exists().then(|| Directory::open(&path)).transpose();
    Ok(directory.context("failed to open the directory of simulated leases")?)
}

fn real() -> Result<Directory, Failure> {
    if let Some(path) = named(std::env::var_os("GPUPIN_STATE_DIR")) {
        let directory = Directory::open(&path);
        return Ok(directory.context("failed to open `GPUPIN_STATE_DIR`")?);
    }
    let shared = SHARED.map(Path::new);
    let directory = Directory::shared_or_user(&shared, &of_user(user()));
    Ok(directory.context("failed to open the directory of leases")?)
}

/// The history of figures of this kind, as its writer has it: of the machine for root where the administrator made its directory, else of
/// this user. `None` for a user without a home.
pub(crate) fn history(kind: Kind) -> Option<PathBuf> {
    let shared = Path::new(SHARED_HISTORY);
    if user() == 0 && shared.is_dir() {
        return Some(shared.join(history_file(kind)));
    }
    let of_user = named(std::env::var_os("XDG_STATE_HOME"))
        .or_else(|| named(std::env::var_os("HOME")).map(|home| home.join(".local").join("state")));
    // A path that is not absolute is to be ignored, says the specification of base directories.
    let of_user = of_user.filter(|it| it.is_absolute())?;
    Some(of_user.join("gpupin").join(history_file(kind)))
}

/// The same for who reads: a user without a history has that of the machine, if there is one.
pub(crate) fn history_to_read(kind: Kind) -> Option<PathBuf> {
    let shared = Path::new(SHARED_HISTORY).join(history_file(kind));
    history(kind).filter(|it| it.exists() || !shared.exists()).or(Some(shared))
}

fn history_file(kind: Kind) -> &'static str {
    match kind {
        Kind::Measured => "history.db",
        _ => "history-simulated.db",
    }
}

/// An empty variable counts as one that is not set.
fn named(variable: Option<OsString>) -> Option<PathBuf> {
    variable.filter(|it| !it.is_empty()).map(PathBuf::from)
}

fn simulated(directory: &Directory) -> PathBuf {
    directory.path().join(format!("simulated-{}", user()))
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The same for a login, `cron`, `sudo` and a service of one user, so that they wait for each other: it follows from the user's number
/// alone. `XDG_RUNTIME_DIR` is not set for all of these, and is emptied when the user logs out while programs go on.
fn of_user(user: u32) -> PathBuf {
    PathBuf::from(format!("/tmp/gpupin-{user}"))
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn an_empty_variable_names_nothing() {
        for (variable, expected) in [(None, None), (Some(""), None), (Some("/a"), Some("/a"))] {
            assert_eq!(named(variable.map(Into::into)), expected.map(Into::into));
        }
    }
}
