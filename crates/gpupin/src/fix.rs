//! How a fix becomes files, and how it is taken back.
//!
//! 1. A [`TreeLock`] is taken before anything is read, so that one gpupin at a time changes a tree.
//! 2. [`obstacle()`] tells which files cannot be changed, before anything is planned.
//! 3. [`write()`] keeps the old and the new bytes of every file and an entry in the [`journal`], all of it
//!    synced to the disk, before it replaces the first file.
//! 4. Each file is replaced by a rename ([`write`](mod@write)), so a crash leaves it old or new.
//! 5. [`undo`] compares bytes with the entry, and restores all files or none.
//!
//! A file keeps its permissions, owner, group and extended attributes where the system allows it. A
//! symbolic link stays, and the file it leads to is replaced. A file with several names (hard links) is an
//! obstacle: a rename would split it, and writing in place would not survive a crash.
//!
//! Every change of the file system is one of [`steps`], where the tests let the program die.
//!
//! What a fix changes is decided elsewhere.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context as _;

pub(crate) use self::{diff::unified, obstacle::obstacle, tree_lock::TreeLock};
use self::{
    journal::{Entry, FileEntry, Journal, State, sha256},
    obstacle::directory_obstacle,
    write::{NotReplaced, Replacement, holds, replace, target, temporary},
};
use crate::{failure::Failure, project::slashed, scan::Problem};

pub(crate) mod asking;
mod attributes;
mod diff;
mod hunks;
pub(crate) mod journal;
mod judge;
mod obstacle;
pub(crate) mod package;
pub(crate) mod rounds;
mod spoiled;
pub(crate) mod steps;
pub(crate) mod summary;
pub(crate) mod time;
mod tree_lock;
mod trial;
pub(crate) mod undo;
mod write;

/// A file to change.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// Relative to the root of the project, `/`-separated; it may begin with `../`.
    pub(crate) key: String,
    /// What opens it.
    pub(crate) path: PathBuf,
    /// `None`: the file is created, in a directory that exists.
    pub(crate) old: Option<Vec<u8>>,
    pub(crate) new: Vec<u8>,
}

/// What the journal says of a run.
#[derive(Debug, Clone)]
pub(crate) struct Description {
    pub(crate) command: Vec<String>,
    pub(crate) policy_hash: Option<String>,
    pub(crate) time: SystemTime,
}

/// What became of the changes.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// The entry of the journal; `None` if nothing was written.
    pub(crate) id: Option<String>,
    /// Keys of the files that were written.
    pub(crate) files: Vec<String>,
    pub(crate) problems: Vec<Problem>,
}

/// A change that can be made, as far as one can tell.
struct Ready<'a> {
    change: &'a Change,
    /// The file without links.
    target: PathBuf,
    mode: Option<u32>,
}

/// Makes the changes, each file by itself: one that is not as it was read is a problem, the others go on.
pub(crate) fn write(
    root: &Path,
    _lock: &TreeLock,
    changes: &[Change],
    description: &Description,
) -> Result<Written, Failure> {
    let mut written = Written::default();
    let ready = ready(changes, &mut written.problems);
    if ready.is_empty() {
        return Ok(written);
    }
    let journal = Journal::of(root);
    let mut entry = begin(root, &journal, &ready, description)?;
    for (number, it) in ready.iter().enumerate() {
        let replaced = replace(&Replacement {
            target: &it.target,
            temporary: &temporary(&entry.id, number),
            old: it.change.old.as_deref(),
            new: &it.change.new,
            mode: None,
        });
        let is_written = matches!(replaced, Ok(()) | Err(NotReplaced::NotConfirmed(_)));
        entry.files[number].state = if is_written { State::Written } else { State::Left };
        if is_written {
            written.files.push(it.change.key.clone());
        }
        written.problems.extend(replaced.err().map(|why| it.change.problem(why.to_string())));
    }
    // The files are what they are; an entry that could not be completed can still be undone.
    let noted = if written.files.is_empty() {
        journal.remove(&entry)
    } else {
        written.id = Some(entry.id.clone());
        journal.save(&entry)
    };
    written.problems.extend(noted.err().map(|error| Problem {
        path: slashed(&root.join(".gpupin/journal")),
        message: format!("what became of the files was not noted: {error}"),
    }));
    Ok(written)
}

/// Whether a file holds what the last fix that wrote it, and was not taken back, left in it.
pub(crate) fn is_as_left(root: &Path, key: &str) -> bool {
    let journal = Journal::of(root);
    let Ok(content) = fs::read(root.join(key)).map(|it| sha256(&it)) else { return false };
    let ids = journal.ids().unwrap_or_default();
    let entries = ids.iter().rev().filter_map(|it| journal.read(it).ok());
    let mut files = entries.filter(|it| it.undone.is_none()).flat_map(|it| it.files);
    files.find(|it| it.path == key).is_some_and(|it| it.new == content)
}

/// What identifies a policy in the journal: the SHA-256 of its file.
pub(crate) fn policy_hash(path: &Path) -> Option<String> {
    fs::read(path).ok().map(|it| sha256(&it))
}

/// The changes that can be made. Each of the others is a problem.
fn ready<'a>(changes: &'a [Change], problems: &mut Vec<Problem>) -> Vec<Ready<'a>> {
    let mut ready = Vec::new();
    let mut seen = BTreeMap::new();
    for change in changes.iter().filter(|it| it.old.as_ref() != Some(&it.new)) {
        match change.look() {
            Ok((target, mode)) => match seen.insert(target.clone(), &change.key) {
                None => ready.push(Ready { change, target, mode }),
                Some(other) => {
                    problems.push(change.problem(format!("it is the same file as `{other}`")));
                }
            },
            Err(why) => problems.push(change.problem(why)),
        }
    }
    ready
}

/// Puts everything into the journal that is needed to take the changes back.
fn begin(
    root: &Path,
    journal: &Journal,
    ready: &[Ready<'_>],
    description: &Description,
) -> Result<Entry, Failure> {
    let failed = "failed to write the journal, so no file was changed";
    journal.create().context(failed)?;
    let mut files = Vec::new();
    for it in ready {
        files.push(FileEntry {
            path: it.change.key.clone(),
            old: it.change.old.as_deref().map(|it| journal.keep(it)).transpose().context(failed)?,
            new: journal.keep(&it.change.new).context(failed)?,
            mode: it.mode.map(|it| format!("{it:03o}")),
            state: State::Planned,
        });
    }
    let root = fs::canonicalize(root).context(failed)?;
    let entry = Entry::new(&root, journal.next_id(description.time)?, description, files);
    journal.save(&entry).context(failed)?;
    Ok(entry)
}

impl Change {
    /// The file without links and its permissions, or why it cannot be changed.
    fn look(&self) -> Result<(PathBuf, Option<u32>), String> {
        let obstacle = match (&self.old, self.path.parent()) {
            (Some(_), _) => obstacle(&self.path),
            (None, Some(parent)) if parent.is_dir() => directory_obstacle(parent),
            (None, _) => None,
        };
        if let Some(obstacle) = obstacle {
            return Err(obstacle);
        }
        let target = target(&self.path).map_err(|error| error.to_string())?;
        holds(&target, self.old.as_deref()).map_err(|why| why.to_string())?;
        let metadata = self.old.as_ref().and_then(|_| fs::metadata(&target).ok());
        Ok((target, metadata.and_then(|it| attributes::mode(&it))))
    }

    fn problem(&self, message: String) -> Problem {
        Problem { path: slashed(&self.path), message }
    }
}
