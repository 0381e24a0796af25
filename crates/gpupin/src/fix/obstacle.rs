use std::{fs, io, path::Path};

use crate::fix::attributes;

/// Why a file cannot be changed, if so. A link is followed: what is changed is the file it leads to.
pub(crate) fn obstacle(path: &Path) -> Option<String> {
    if path.to_str().is_none() {
        return Some("its name is not UTF-8, so the journal cannot name it".to_owned());
    }
    file_obstacle(path)
}

/// The same of a file that the journal names.
pub(super) fn file_obstacle(path: &Path) -> Option<String> {
    let target = match fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some("there is no such file any more".to_owned());
        }
        Err(error) => return Some(error.to_string()),
    };
    let metadata = match fs::metadata(&target) {
        Ok(metadata) => metadata,
        Err(error) => return Some(error.to_string()),
    };
    if !metadata.is_file() {
        return Some("not a regular file".to_owned());
    }
    // The system lets root write, but whoever took the right away meant everybody.
    if metadata.permissions().readonly() {
        return Some("read-only".to_owned());
    }
    if attributes::names(&metadata) > 1 {
        let names = attributes::names(&metadata);
        return Some(format!(
            "{names} names lead to this file (hard links), and a replaced file would lose the others"
        ));
    }
    if let Err(error) = attributes::may_write(&target) {
        return Some(format!("cannot be written: {error}"));
    }
    target.parent().and_then(directory_obstacle)
}

/// Why files of a directory cannot be replaced.
pub(super) fn directory_obstacle(directory: &Path) -> Option<String> {
    let error = attributes::may_write(directory).err()?;
    Some(format!("its directory cannot be written: {error}"))
}

#[cfg(all(test, unix))]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt as _, symlink},
        path::Path,
    };

    use super::obstacle;

    #[test]
    fn a_file_that_cannot_be_replaced_has_an_obstacle() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["plain.py", "read_only.py", "first.py", "behind.py"] {
            fs::write(path(name), "x = 1\n").unwrap();
        }
        fs::set_permissions(path("read_only.py"), Permissions::from_mode(0o444)).unwrap();
        fs::hard_link(path("first.py"), path("second.py")).unwrap();
        symlink("behind.py", path("link.py")).unwrap();
        symlink("read_only.py", path("read_only_link.py")).unwrap();
        symlink("nothing.py", path("dangling.py")).unwrap();
        for (name, expected) in [
            ("plain.py", None),
            ("link.py", None),
            ("read_only.py", Some("read-only")),
            ("read_only_link.py", Some("read-only")),
            ("second.py", Some("2 names")),
            ("dangling.py", Some("no such file any more")),
            ("vanished.py", Some("no such file any more")),
            ("", Some("not a regular file")),
        ] {
            let found = obstacle(&path(name));
            assert_eq!(found.is_some(), expected.is_some(), "{name}: {found:?}");
            assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()), "{name}");
        }
        assert!(obstacle(Path::new("/dev/null")).unwrap().contains("not a regular file"));
    }

    #[test]
    fn a_name_that_the_journal_cannot_hold_is_an_obstacle() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(OsStr::from_bytes(b"\xff.py"));
        fs::write(&path, "").unwrap();
        assert!(obstacle(&path).unwrap().contains("not UTF-8"));
    }
}
