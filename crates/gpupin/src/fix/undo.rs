//! Takes an entry of the journal back.
//!
//! Files are judged by their bytes. All of them are looked at before the first one is touched, and running
//! it again after a crash completes it.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, anyhow};

use crate::{
    failure::Failure,
    fix::{
        TreeLock,
        hunks::{self, Restored},
        journal::{Entry, FileEntry, Journal, State, sha256},
        obstacle::file_obstacle,
        time::rfc3339,
        write::{Replacement, remove, replace, target, temporary},
    },
};

/// What became of a file since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Condition {
    /// As the run left it.
    Fixed,
    /// As it was before the run.
    Original,
    Changed,
    Vanished,
    /// The run did not change it.
    Left,
}

/// What must be done to take an entry back.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) restorations: Vec<Restoration>,
    /// What cannot be restored.
    pub(crate) left: Vec<Left>,
}

/// A file, and what it will be.
#[derive(Debug)]
pub(crate) struct Restoration {
    /// Relative to the root.
    pub(crate) path: String,
    /// Its place in the entry.
    number: usize,
    target: PathBuf,
    pub(crate) now: Vec<u8>,
    /// `None`: the run created it, and it is removed.
    pub(crate) then: Option<Vec<u8>>,
    mode: Option<u32>,
}

/// A file, or a part of it, that is not restored.
#[derive(Debug)]
pub(crate) struct Left {
    /// Relative to the root.
    pub(crate) path: String,
    pub(crate) why: String,
    /// It is what this later entry made of it.
    pub(crate) later: Option<String>,
}

/// What is done with files that changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changed {
    Stay,
    /// Those changes of the run that are still as it made them are taken back.
    LoseUnchangedHunks,
}

/// The latest entry that is not undone.
pub(crate) fn latest(journal: &Journal) -> Result<Option<Entry>, Failure> {
    for id in journal.ids()?.iter().rev() {
        let entry = journal.read(id)?;
        if entry.undone.is_none() {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

pub(crate) fn condition(root: &Path, file: &FileEntry) -> io::Result<Condition> {
    if file.state == State::Left {
        return Ok(Condition::Left);
    }
    let hash = match fs::read(root.join(&file.path)) {
        Ok(bytes) => Some(sha256(&bytes)),
        Err(error) if is_missing(&error) => None,
        Err(error) => return Err(error),
    };
    Ok(match hash {
        Some(hash) if hash == file.new => Condition::Fixed,
        hash if hash == file.old => Condition::Original,
        None => Condition::Vanished,
        Some(_) => Condition::Changed,
    })
}

/// Looks at every file.
pub(crate) fn plan(
    root: &Path,
    journal: &Journal,
    entry: &Entry,
    changed: Changed,
) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    for (number, file) in entry.files.iter().enumerate() {
        let path = root.join(&file.path);
        let failed = || format!("failed to read `{}`", path.display());
        let mut leave = |why: String, later| {
            plan.left.push(Left { path: file.path.clone(), why, later });
        };
        let condition = condition(root, file).with_context(failed)?;
        if condition == Condition::Vanished {
            leave("there is no such file any more".to_owned(), None);
        }
        if !matches!(condition, Condition::Fixed | Condition::Changed) {
            continue;
        }
        let target = target(&path).with_context(failed)?;
        if let Some(why) = outside(root, &target, entry).or_else(|| file_obstacle(&target)) {
            leave(why, None);
            continue;
        }
        let mut restoration = Restoration {
            path: file.path.clone(),
            number,
            now: fs::read(&target).with_context(failed)?,
            target,
            then: None,
            mode: file.mode(),
        };
        let old = file.old.as_deref().map(|it| journal.kept(it)).transpose()?;
        if condition == Condition::Fixed {
            restoration.then = old;
            plan.restorations.push(restoration);
            continue;
        }
        match (changed, old) {
            (Changed::LoseUnchangedHunks, Some(old)) => {
                let new = journal.kept(&file.new)?;
                let Restored { bytes, lost } = hunks::restore(&old, &new, &restoration.now);
                for lines in lost {
                    leave(format!("{} changed since", lines_of_the_fix(&lines)), None);
                }
                if bytes != restoration.now {
                    restoration.then = Some(bytes);
                    // Whoever changed it may have changed its permissions, too.
                    restoration.mode = None;
                    plan.restorations.push(restoration);
                }
            }
            (_, None) => leave("created by the fix, and changed since".to_owned(), None),
            (Changed::Stay, Some(_)) => {
                let later = later_entry(journal, entry, &file.path, &restoration.now);
                leave("changed since".to_owned(), later);
            }
        }
    }
    Ok(plan)
}

/// Does what the plan says. If nothing is left over, the entry is undone.
pub(crate) fn carry_out(
    plan: &Plan,
    _lock: &TreeLock,
    journal: &Journal,
    entry: &mut Entry,
    time: SystemTime,
) -> Result<(), Failure> {
    for it in &plan.restorations {
        let done = match &it.then {
            None => remove(&it.target, &it.now),
            Some(then) => replace(&Replacement {
                target: &it.target,
                temporary: &temporary(&entry.id, it.number),
                old: Some(&it.now),
                new: then,
                mode: it.mode,
            }),
        };
        done.map_err(|why| {
            Failure::from(anyhow!("{why}").context(format!("failed to restore `{}`", it.path)))
                .hint(format!("`gpupin undo {}` goes on where this ended", entry.id))
        })?;
    }
    if plan.left.is_empty() {
        entry.undone = Some(rfc3339(time));
        journal.save(entry).context("the files are restored, but that was not noted")?;
    }
    Ok(())
}

/// Why a file beyond the project must not be written, if so: a journal may have come with a project that
/// somebody else made, and says nothing about the files of another machine.
fn outside(root: &Path, target: &Path, entry: &Entry) -> Option<String> {
    let root = fs::canonicalize(root).ok()?;
    let is_same = root.to_str() == Some(&entry.root);
    let text = || format!("it is outside of the project, which then was `{}`", entry.root);
    (!is_same && !target.starts_with(&root)).then(text)
}

/// The later entry that left the file as it is now.
fn later_entry(journal: &Journal, entry: &Entry, path: &str, now: &[u8]) -> Option<String> {
    let now = sha256(now);
    let later = journal.ids().ok()?.into_iter().filter(|it| *it > entry.id);
    let mut later = later.filter_map(|it| journal.read(&it).ok());
    let made_it = |file: &FileEntry| file.path == path && file.new == now;
    later.find(|it| it.undone.is_none() && it.files.iter().any(made_it)).map(|it| it.id)
}

fn lines_of_the_fix(lines: &Range<usize>) -> String {
    match lines.len() {
        0 => format!("what the fix removed at its line {}", lines.start + 1),
        1 => format!("line {} of what the fix wrote", lines.start + 1),
        _ => format!("lines {} to {} of what the fix wrote", lines.start + 1, lines.end),
    }
}

/// Also if a directory on the way is no longer one.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
