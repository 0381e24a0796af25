use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::Path,
};

use tempfile::TempDir;

use super::{Directory, DirectoryError, Scope, local, scope};

fn directory(mode: u32) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
    directory
}

#[test]
fn who_could_remove_tickets_decides_whether_a_directory_is_safe() {
    let stat = rustix::fs::stat("/").unwrap();
    let check = |owner, mode: u32, expected: Result<Scope, &str>| {
        let mut stat = stat;
        stat.st_uid = owner;
        stat.st_mode = 0o040_000 | mode;
        match (scope(&stat, 1000), expected) {
            (Ok(scope), Ok(expected)) => assert_eq!(scope, expected, "{owner} {mode:o}"),
            (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
            other => panic!("{owner} {mode:o}: {other:?}"),
        }
    };
    check(0, 0o1777, Ok(Scope::Machine));
    check(0, 0o1770, Ok(Scope::Machine));
    check(0, 0o777, Err("its mode is 777"));
    check(0, 0o755, Ok(Scope::User));
    check(1000, 0o700, Ok(Scope::User));
    check(1000, 0o770, Err("its mode is 770"));
    check(1000, 0o1777, Ok(Scope::User));
    check(1001, 0o1777, Err("belongs to uid 1001"));
    check(65534, 0o1777, Err("belongs to uid 65534"));
}

#[test]
fn links_are_not_followed_to_a_directory() {
    let (real, place) = (directory(0o700), directory(0o700));
    let link = place.path().join("link");
    symlink(real.path(), &link).unwrap();
    let error = Directory::open(&link).unwrap_err();
    assert!(matches!(error, DirectoryError::Unsafe { .. }), "{error}");
}

#[test]
fn the_users_directory_is_made_for_him_alone() {
    let place = directory(0o700);
    let path = place.path().join("of-user");
    let missing = place.path().join("missing");
    let made = Directory::shared_or_user(&[&missing], &path).unwrap();
    assert_eq!((made.path(), made.scope()), (path.as_path(), Scope::User));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
    Directory::shared_or_user(&[&missing], &path).unwrap();
}

#[test]
fn a_shared_directory_is_preferred_only_if_root_made_it_for_all() {
    let (shared, user) = (directory(0o1777), directory(0o700));
    let chosen = Directory::shared_or_user(&[shared.path()], user.path()).unwrap();
    let root = rustix::process::geteuid().is_root();
    assert_eq!(chosen.path() == shared.path(), root);
    if root {
        chown(shared.path(), Some(65534), None).unwrap();
        let chosen = Directory::shared_or_user(&[shared.path()], user.path()).unwrap();
        assert_eq!(chosen.path(), user.path());
    }
}

#[test]
fn a_queue_lock_that_is_no_file_is_refused() {
    let place = directory(0o700);
    symlink("/etc/passwd", place.path().join("queue.lock")).unwrap();
    let error = Directory::open(place.path()).unwrap().open_queue_lock().unwrap_err();
    assert!(error.to_string().contains("no regular file"), "{error}");
}

#[test]
fn a_lock_that_was_replaced_is_noticed() {
    let place = directory(0o700);
    let directory = Directory::open(place.path()).unwrap();
    let fd = directory.open_queue_lock().unwrap();
    // Not locked yet: another description gets it, so it keeps nobody out.
    let held = std::os::fd::AsFd::as_fd(&fd);
    assert!(matches!(directory.queue_lock_holds(held), Err(DirectoryError::NoLocks { .. })));
    rustix::fs::flock(&fd, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(directory.queue_lock_holds(held).unwrap());
    fs::remove_file(place.path().join("queue.lock")).unwrap();
    assert!(!directory.queue_lock_holds(held).unwrap());
    drop(directory.open_queue_lock().unwrap());
    assert!(!directory.queue_lock_holds(held).unwrap());
}

#[test]
fn network_file_systems_are_refused_by_their_numbers() {
    // As `statfs` gives them, see `linux/magic.h`; 32 bits with a sign on some machines.
    for (number, name) in [
        (0x6969, "NFS"),
        (0xff53_4d42, "CIFS"),
        (0xffff_ffff_ff53_4d42, "CIFS"),
        (0x0102_1997, "9P"),
    ] {
        let why = local(number).unwrap_err();
        assert!(why.contains(&format!("network file system ({name})")), "{why}");
    }
    // tmpfs, ext4, overlayfs.
    for number in [0x0102_1994, 0xef53, 0x794c_7630] {
        local(number).unwrap();
    }
}

#[test]
fn a_read_only_directory_is_told() {
    // Nobody may create anything there.
    let error = match Directory::open(Path::new("/proc/self")) {
        Err(error) => error,
        Ok(directory) => directory.open_queue_lock().unwrap_err(),
    };
    assert!(
        matches!(error, DirectoryError::File { .. } | DirectoryError::Unsafe { .. }),
        "{error}"
    );
}
