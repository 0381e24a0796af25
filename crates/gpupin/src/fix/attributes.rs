//! What a file has beside its bytes. The specifics of operating systems are here.

use std::{fs::File, io, path::Path};

/// Permission bits, as `chmod` takes them.
#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems have none")]
pub(super) fn mode(metadata: &std::fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    Some(metadata.mode() & 0o7777)
}

#[cfg(not(unix))]
pub(super) fn mode(_: &std::fs::Metadata) -> Option<u32> {
    None
}

/// How many names lead to the file.
#[cfg(unix)]
pub(super) fn names(metadata: &std::fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    metadata.nlink()
}

#[cfg(not(unix))]
pub(super) fn names(_: &std::fs::Metadata) -> u64 {
    1
}

/// Whether both are of one file.
#[cfg(unix)]
pub(super) fn is_same(one: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
pub(super) fn is_same(_: &std::fs::Metadata, _: &std::fs::Metadata) -> bool {
    // A file that is open cannot be removed there.
    true
}

/// Whether this user may write here, or why the system says no.
#[cfg(unix)]
pub(super) fn may_write(path: &Path) -> io::Result<()> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    Ok(accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)?)
}

#[cfg(not(unix))]
pub(super) fn may_write(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Gives a new file what another has: owner, group, extended attributes and permissions, or `mode`.
///
/// Only who is allowed to can give a file away, so owner and group are kept where that is possible.
#[cfg(unix)]
pub(super) fn copy(from: &Path, to: &File, mode: Option<u32>) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
    let (theirs, ours) = (std::fs::metadata(from)?, to.metadata()?);
    let mut mode = mode.unwrap_or(theirs.mode() & 0o7777);
    if (theirs.uid(), theirs.gid()) != (ours.uid(), ours.gid())
        && fchown(to, Some(theirs.uid()), Some(theirs.gid())).is_err()
    {
        drop(fchown(to, None, Some(theirs.gid())));
        // Running as the owner was meant for another owner.
        mode &= !0o6000;
    }
    copy_extended(from, to);
    to.set_permissions(std::fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
pub(super) fn copy(from: &Path, to: &File, _: Option<u32>) -> io::Result<()> {
    to.set_permissions(std::fs::metadata(from)?.permissions())
}

/// Copies labels, access lists and what else has a name. Many file systems have none of it, and some
/// of it only the system may set.
#[cfg(unix)]
fn copy_extended(from: &Path, to: &File) {
    use xattr::FileExt as _;
    let Ok(names) = xattr::list_deref(from) else { return };
    let names: Vec<_> = names.collect();
    for name in &names {
        if let Ok(Some(value)) = xattr::get_deref(from, name) {
            drop(to.set_xattr(name, &value));
        }
    }
    // What a directory hands down to new files.
    for inherited in to.list_xattr().into_iter().flatten().filter(|it| !names.contains(it)) {
        drop(to.remove_xattr(inherited));
    }
}
