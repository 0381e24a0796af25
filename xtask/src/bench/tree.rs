//! Copies of directories, and what was changed in them.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Links files instead of copying them, where the file system can.
pub(super) fn link(from: &Path, to: &Path) -> Result<()> {
    let one = |from: &Path, to: &Path| fs::hard_link(from, to).or_else(|_| copy_file(from, to));
    every_file(from, to, &one).with_context(|| format!("failed to link `{}`", from.display()))
}

/// Copies a directory in place of what is there.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("failed to remove `{}`", to.display()))?;
    }
    every_file(from, to, &copy_file).with_context(|| format!("failed to copy `{}`", from.display()))
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to).map(drop)
}

fn every_file(
    from: &Path,
    to: &Path,
    one: &dyn Fn(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            every_file(&from, &to, one)?;
        } else {
            one(&from, &to)?;
        }
    }
    Ok(())
}

/// What the files below a directory hold, as hashes by path. What gpupin keeps for itself does not count.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tree(BTreeMap<PathBuf, u64>);

impl Tree {
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let mut tree = Self(BTreeMap::new());
        tree.add(directory, Path::new(""))
            .with_context(|| format!("failed to read `{}`", directory.display()))?;
        Ok(tree)
    }

    fn add(&mut self, directory: &Path, below: &Path) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if path == Path::new(".gpupin") {
                continue;
            }
            if entry.file_type()?.is_dir() {
                self.add(&entry.path(), &path)?;
            } else {
                let mut hasher = DefaultHasher::new();
                fs::read(entry.path())?.hash(&mut hasher);
                self.0.insert(path, hasher.finish());
            }
        }
        Ok(())
    }

    /// The files that only one of the two has, or that differ.
    pub(super) fn differences(&self, other: &Self) -> Vec<PathBuf> {
        let paths = self.0.keys().chain(other.0.keys().filter(|it| !self.0.contains_key(*it)));
        paths.filter(|it| self.0.get(*it) != other.0.get(*it)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::{Tree, copy};

    fn check(change: impl Fn(&Path), expected: &[&str]) {
        static CHECKS: AtomicU32 = AtomicU32::new(0);
        let number = CHECKS.fetch_add(1, Ordering::Relaxed);
        let name = format!("xtask-tree-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let (old, new) = (directory.join("old"), directory.join("new"));
        fs::create_dir_all(old.join("a")).unwrap();
        fs::write(old.join("a/b.py"), "b\n").unwrap();
        fs::write(old.join("c.py"), "c\n").unwrap();
        copy(&old, &new).unwrap();
        change(&new);
        let differences = Tree::read(&old).unwrap().differences(&Tree::read(&new).unwrap());
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(differences, expected.iter().map(PathBuf::from).collect::<Vec<_>>());
    }

    #[test]
    fn a_copy_differs_in_what_is_changed_made_and_removed() {
        check(|_| (), &[]);
        check(|it| fs::write(it.join("c.py"), "d\n").unwrap(), &["c.py"]);
        check(|it| fs::write(it.join("a/d.py"), "").unwrap(), &["a/d.py"]);
        check(|it| fs::remove_file(it.join("a/b.py")).unwrap(), &["a/b.py"]);
    }

    #[test]
    fn what_gpupin_keeps_for_itself_is_no_change() {
        check(|it| fs::create_dir_all(it.join(".gpupin/journal")).unwrap(), &[]);
    }
}
