//! What was changed, and from what: enough to take it back.
//!
//! ```text
//! .gpupin/journal/<id>.json          an entry: one run that changed files
//! .gpupin/journal/objects/<sha256>   the bytes of a file before or after
//! ```
//!
//! An entry is on the disk before the first file is replaced. Whether a file was replaced is told by
//! its bytes, not by the entry, because a crash may come before anybody can note it.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    failure::{Exit, Failure},
    fix::{
        Description,
        steps::{self, Readers},
        time::{compact, rfc3339},
        tree_lock::{STATE, TreeLock},
        write::{is_temporary, put, target, temporary},
    },
};

/// Adding a key needs a new version, because an older gpupin would lose it.
pub(crate) const VERSION: u32 = 1;

/// One run that changed files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    version: u32,
    pub(crate) id: String,
    /// RFC 3339, UTC.
    pub(crate) time: String,
    /// Version of the gpupin that wrote it.
    pub(crate) tool: String,
    pub(crate) command: Vec<String>,
    pub(crate) policy_hash: Option<String>,
    /// Where the project lay. Paths that lead out of it mean nothing elsewhere.
    pub(crate) root: String,
    pub(crate) files: Vec<FileEntry>,
    /// When all of it was taken back.
    pub(crate) undone: Option<String>,
}

/// One file of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileEntry {
    /// Relative to the root, `/`-separated.
    pub(crate) path: String,
    /// SHA-256 of the bytes before, `None` where there was no file.
    pub(crate) old: Option<String>,
    /// SHA-256 of the bytes after.
    pub(crate) new: String,
    /// Permissions before, in octal.
    pub(crate) mode: Option<String>,
    pub(crate) state: State,
}

/// How far the run came with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Replaced or not; if the run ended early, only its bytes tell.
    Planned,
    Written,
    /// Not replaced, for sure: it is none of this entry's business any more.
    Left,
}

/// What [`Journal::prune`] removed.
#[derive(Debug, Default)]
pub(crate) struct Pruned {
    pub(crate) entries: usize,
    pub(crate) objects: usize,
    /// Of the objects.
    pub(crate) bytes: u64,
    /// Nobody can tell which bytes an entry needs that cannot be read.
    pub(crate) keeps_objects: bool,
}

/// The journal of one project.
#[derive(Debug)]
pub(crate) struct Journal {
    directory: PathBuf,
}

impl Journal {
    /// The journal of the project at `root`, which may not exist.
    pub(crate) fn of(root: &Path) -> Self {
        Self { directory: root.join(STATE).join("journal") }
    }

    pub(crate) fn exists(&self) -> bool {
        self.directory.is_dir()
    }

    /// All ids, oldest first.
    pub(crate) fn ids(&self) -> Result<Vec<String>, Failure> {
        let failed = || format!("failed to list `{}`", self.directory.display());
        let mut ids = Vec::new();
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ids),
            result => result.with_context(failed)?,
        };
        for entry in entries {
            let name = entry.with_context(failed)?.file_name();
            ids.extend(name.to_str().and_then(|it| it.strip_suffix(".json")).map(str::to_owned));
        }
        ids.sort();
        Ok(ids)
    }

    /// The id that is meant, by itself or by how it begins.
    pub(crate) fn resolve(&self, asked: &str) -> Result<String, Failure> {
        let ids = self.ids()?;
        let matching: Vec<_> =
            ids.iter().filter(|it| it.starts_with(asked) && !asked.is_empty()).collect();
        match matching.as_slice() {
            [one] => Ok((*one).clone()),
            several if several.iter().any(|it| *it == asked) => Ok(asked.to_owned()),
            [] => Err(Failure::usage(format!("the journal has no entry `{asked}`"))
                .hint("`gpupin journal` lists all entries")),
            several => {
                let several: Vec<_> = several.iter().map(|it| format!("`{it}`")).collect();
                Err(Failure::usage(format!("`{asked}` may be any of {}", several.join(", "))))
            }
        }
    }

    pub(crate) fn read(&self, id: &str) -> Result<Entry, Failure> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let path = self.entry_path(id);
        let failed = || format!("failed to read the journal entry `{}`", path.display());
        let text = fs::read_to_string(&path).with_context(failed)?;
        let Versioned { version } = serde_json::from_str(&text).with_context(failed)?;
        if version != VERSION {
            let error = anyhow!("its version is `{version}`, not `{VERSION}`").context(failed());
            return Err(Failure::from(error).hint("a newer gpupin wrote it; update gpupin"));
        }
        Ok(serde_json::from_str(&text).with_context(failed)?)
    }

    /// Writes an entry, for the first time or again.
    pub(super) fn save(&self, entry: &Entry) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(entry)?;
        text.push('\n');
        let path = self.entry_path(&entry.id);
        put(&path, &temporary(&entry.id, "entry"), text.as_bytes(), Readers::User)
    }

    /// Removes an entry that turned out to be about nothing.
    pub(super) fn remove(&self, entry: &Entry) -> io::Result<()> {
        steps::remove(&self.entry_path(&entry.id))
    }

    /// Removes entries, and the bytes that no other entry needs. A crash leaves at most bytes, which the next time takes.
    pub(crate) fn prune(&self, _lock: &TreeLock, ids: &[String]) -> Result<Pruned, Failure> {
        let failed = || format!("failed to remove from `{}`", self.directory.display());
        let mut pruned = Pruned::default();
        for id in ids {
            steps::remove(&self.entry_path(id)).with_context(failed)?;
            pruned.entries += 1;
        }
        let mut needed = BTreeSet::new();
        for id in self.ids()? {
            let Ok(entry) = self.read(&id) else {
                pruned.keeps_objects = true;
                return Ok(pruned);
            };
            needed
                .extend(entry.files.into_iter().flat_map(|it| it.old.into_iter().chain([it.new])));
        }
        for object in fs::read_dir(self.directory.join("objects")).into_iter().flatten() {
            let object = object.with_context(failed)?;
            let is_needed = object.file_name().to_str().is_none_or(|it| needed.contains(it));
            if !is_needed {
                pruned.bytes += object.metadata().map_or(0, |it| it.len());
                steps::remove(&object.path()).with_context(failed)?;
                pruned.objects += 1;
            }
        }
        Ok(pruned)
    }

    /// Keeps bytes under their hash.
    pub(super) fn keep(&self, bytes: &[u8]) -> io::Result<String> {
        let hash = sha256(bytes);
        let path = self.object_path(&hash);
        if fs::read(&path).is_ok_and(|it| it == bytes) {
            return Ok(hash);
        }
        // A file may be secret, and nobody else needs its copy.
        put(&path, &temporary(&hash, "object"), bytes, Readers::User)?;
        Ok(hash)
    }

    /// The bytes with this hash.
    pub(super) fn kept(&self, hash: &str) -> Result<Vec<u8>, Failure> {
        let path = self.object_path(hash);
        let bytes =
            fs::read(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
        if sha256(&bytes) != hash {
            let path = path.display();
            return Err(Failure::usage(format!("`{path}` is damaged: its name is not its hash")));
        }
        Ok(bytes)
    }

    /// Creates what an entry is written to.
    pub(super) fn create(&self) -> io::Result<()> {
        for directory in [self.directory.clone(), self.directory.join("objects")] {
            if !directory.is_dir() {
                steps::create_directory(&directory, Readers::User)?;
                steps::sync_directory(directory.parent().expect("it lies in another one"))?;
            }
        }
        Ok(())
    }

    /// An id behind all others, also when the clock went backwards.
    pub(super) fn next_id(&self, time: SystemTime) -> Result<String, Failure> {
        let id = compact(time);
        Ok(match self.ids()?.pop() {
            Some(latest) if latest >= id => after(&latest),
            _ => id,
        })
    }

    /// Removes the temporary files of a gpupin that died. Only who holds the lock may do it.
    pub(super) fn remove_leftovers(&self, root: &Path) -> io::Result<()> {
        for directory in [root.join(STATE), self.directory.clone(), self.directory.join("objects")]
        {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.file_name().to_str().is_some_and(is_temporary) {
                    steps::remove(&entry.path())?;
                }
            }
        }
        // An entry that cannot be read is for whoever asks for it to hear of.
        let entries = self.ids().into_iter().flatten().filter_map(|it| self.read(&it).ok());
        for entry in entries {
            for (number, file) in entry.files.iter().enumerate() {
                let Ok(target) = target(&root.join(&file.path)) else { continue };
                let leftover = target.with_file_name(temporary(&entry.id, number));
                if leftover.exists() {
                    steps::remove(&leftover)?;
                }
            }
        }
        Ok(())
    }

    fn entry_path(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    fn object_path(&self, hash: &str) -> PathBuf {
        self.directory.join("objects").join(hash)
    }
}

impl Entry {
    pub(super) fn new(
        root: &Path,
        id: String,
        description: &Description,
        files: Vec<FileEntry>,
    ) -> Self {
        Self {
            version: VERSION,
            id,
            time: rfc3339(description.time),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            command: description.command.clone(),
            policy_hash: description.policy_hash.clone(),
            root: root.to_string_lossy().into_owned(),
            files,
            undone: None,
        }
    }

    /// When it was written, for people.
    pub(crate) fn when(&self) -> String {
        self.time.replace('T', " ").replace('Z', " UTC")
    }
}

impl FileEntry {
    /// The permissions before.
    pub(super) fn mode(&self) -> Option<u32> {
        self.mode.as_deref().and_then(|it| u32::from_str_radix(it, 8).ok())
    }
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("a `String` takes everything");
    }
    text
}

/// The next id of the same second: `…13`, `…13b`, `…13c`.
fn after(id: &str) -> String {
    match id.char_indices().last() {
        Some((at, last @ 'b'..='y')) => {
            let next = char::from_u32(u32::from(last) + 1).expect("a letter follows");
            format!("{}{next}", &id[..at])
        }
        _ => format!("{id}b"),
    }
}

/// The project whose journal is meant from this directory: the nearest one that has one, but none
/// beyond the project that the directory belongs to.
pub(crate) fn find(start: &Path) -> Result<(PathBuf, Journal), Failure> {
    for root in start.ancestors() {
        let journal = Journal::of(root);
        if journal.exists() {
            return Ok((root.to_owned(), journal));
        }
        if declares_a_policy(root) {
            break;
        }
    }
    let nothing = anyhow!("no journal was found: gpupin has changed nothing here");
    Err(Failure::new(Exit::Failed, nothing)
        .hint("stand in the project that was changed, or name it with `--project`"))
}

/// Whether a project of its own begins here. What the policy says, and whether it is valid, is no
/// question for whoever wants to take a change back.
fn declares_a_policy(directory: &Path) -> bool {
    directory.join(crate::project::POLICY).is_file()
        || fs::read_to_string(directory.join(crate::project::PYPROJECT))
            .is_ok_and(|it| it.contains("[tool.gpupin"))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        time::{Duration, SystemTime},
    };

    use super::{Entry, Journal, after, find, sha256};

    const WIRE: &str = include_str!("../../../../wire/journal.json");

    fn empty(root: &Path) -> Journal {
        fs::create_dir(root.join(".gpupin")).unwrap();
        let journal = Journal::of(root);
        journal.create().unwrap();
        journal
    }

    #[test]
    fn the_golden_file_is_read_and_written() {
        let entry: Entry = serde_json::from_str(WIRE).unwrap();
        assert_eq!(serde_json::to_string_pretty(&entry).unwrap() + "\n", WIRE);
        assert_eq!(entry.when(), "2026-11-26 08:25:13 UTC");
    }

    #[test]
    fn an_entry_of_another_version_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let journal = empty(directory.path());
        for (text, expected) in [
            (WIRE.replace("\"version\": 1", "\"version\": 2"), "its version is `2`"),
            (WIRE.replace("\"undone\"", "\"other\""), "unknown field `other`"),
            ("{}".to_owned(), "missing field `version`"),
        ] {
            fs::write(journal.entry_path("a"), text).unwrap();
            let failure = journal.read("a").unwrap_err();
            let lines: Vec<_> = failure.lines().map(|it| it.1).collect();
            assert!(lines.iter().any(|it| it.contains(expected)), "{lines:?}");
        }
    }

    #[test]
    fn ids_rise() {
        for (id, expected) in [
            ("261126-082513", "261126-082513b"),
            ("261126-082513b", "261126-082513c"),
            ("261126-082513y", "261126-082513z"),
            ("261126-082513z", "261126-082513zb"),
        ] {
            assert_eq!(after(id), expected);
            assert!(after(id).as_str() > id);
        }
    }

    #[test]
    fn an_id_is_behind_all_others_although_the_clock_went_backwards() {
        let directory = tempfile::tempdir().unwrap();
        let journal = empty(directory.path());
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_681_513);
        assert_eq!(journal.next_id(time).unwrap(), "261126-082513");
        fs::write(journal.entry_path("261126-082513"), "").unwrap();
        assert_eq!(journal.next_id(time - Duration::from_mins(1)).unwrap(), "261126-082513b");
    }

    #[test]
    fn an_id_may_be_cut_short_as_long_as_it_is_clear() {
        let directory = tempfile::tempdir().unwrap();
        let journal = empty(directory.path());
        for id in ["261125-100000", "261126-082513", "261126-082513b"] {
            fs::write(journal.entry_path(id), "").unwrap();
        }
        for (asked, expected) in [
            ("261125", Some("261125-100000")),
            ("261126-082513", Some("261126-082513")),
            ("261126-082513b", Some("261126-082513b")),
            ("261126", None),
            ("27", None),
            ("", None),
        ] {
            assert_eq!(journal.resolve(asked).ok().as_deref(), expected, "{asked}");
        }
    }

    #[test]
    fn damaged_bytes_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let journal = empty(directory.path());
        let hash = journal.keep(b"abc").unwrap();
        assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(journal.kept(&hash).unwrap(), b"abc");
        fs::write(journal.object_path(&hash), "abd").unwrap();
        assert!(journal.kept(&hash).is_err());
        // Keeping them again mends it.
        assert_eq!(journal.keep(b"abc").unwrap(), sha256(b"abc"));
        assert_eq!(journal.kept(&hash).unwrap(), b"abc");
    }

    #[test]
    fn the_nearest_journal_counts_but_none_of_another_project() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["a/b", "a/policy/c", "a/table"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        fs::write(path("a/policy/gpupin.toml"), "not even valid").unwrap();
        fs::write(path("a/table/pyproject.toml"), "[tool.gpupin.gpu]\n").unwrap();
        fs::create_dir_all(path("a/.gpupin/journal")).unwrap();
        for (start, expected) in [
            ("a", Some("a")),
            ("a/b", Some("a")),
            ("a/policy", None),
            ("a/policy/c", None),
            ("a/table", None),
        ] {
            let found = find(&path(start)).ok().map(|it| it.0);
            assert_eq!(found, expected.map(path), "{start}");
        }
    }
}
