//! One gpupin at a time changes a tree. The kernel holds the lock, so none is left behind by a crash.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};

use crate::{
    failure::Failure,
    fix::{
        attributes::is_same,
        journal::Journal,
        steps::{self, Readers},
        write::{put, temporary},
    },
    project::slashed,
    terminal::{Terminal, one_line},
};

/// Where gpupin keeps what it must remember about a project, below its root.
pub(super) const STATE: &str = ".gpupin";

/// Held from before the files are read until they are written.
///
/// The text of the lock file says who holds it. It serves messages, and tells that its writer died
/// when it is still there without a holder. Files outside of the root are not covered by it.
#[derive(Debug)]
pub(crate) struct TreeLock {
    file: File,
}

impl TreeLock {
    /// Waits for another gpupin that changes the same tree, then removes what a dead one left.
    pub(crate) fn acquire(root: &Path, terminal: &mut Terminal) -> Result<Self, Failure> {
        let path = create_state(root)
            .with_context(|| format!("failed to create `{}`", root.join(STATE).display()))?;
        let failed = || format!("failed to lock `{}`", path.display());
        let mut file = wait(&path, root, terminal).with_context(failed)?;

        let mut left_by = String::new();
        file.read_to_string(&mut left_by).with_context(failed)?;
        if !left_by.is_empty() {
            terminal.verbose(|| format!("{} ended early; tidying up", holder(&left_by)));
            Journal::of(root)
                .remove_leftovers(root)
                .with_context(|| format!("failed to remove what {} left", holder(&left_by)))?;
        }
        note_holder(&mut file, &path).with_context(failed)?;
        // Nobody means to commit any of it.
        let ignore = path.with_file_name(".gitignore");
        if !ignore.exists() {
            let temporary = temporary("state", "ignore");
            put(&ignore, &temporary, b"*\n", Readers::Usual)
                .with_context(|| format!("failed to write `{}`", ignore.display()))?;
        }
        Ok(Self { file })
    }
}

impl Drop for TreeLock {
    fn drop(&mut self) {
        // If this fails, the next one tidies up where there is nothing to tidy.
        drop(self.file.set_len(0));
    }
}

/// Creates the directory and the lock file in it.
fn create_state(root: &Path) -> anyhow::Result<PathBuf> {
    let state = root.join(STATE);
    if fs::symlink_metadata(&state).is_ok_and(|it| !it.is_dir()) {
        return Err(anyhow!("it is there and is no directory"));
    }
    if !state.exists() {
        steps::create_directory(&state, Readers::Usual)?;
        steps::sync_directory(root)?;
    }
    let path = state.join("lock");
    // A link could lead to a file that must not be written to.
    if fs::symlink_metadata(&path).is_ok_and(|it| !it.is_file()) {
        return Err(anyhow!("`lock` in it is no regular file"));
    }
    Ok(path)
}

fn wait(path: &Path, root: &Path, terminal: &mut Terminal) -> io::Result<File> {
    let mut has_told = false;
    loop {
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {
                if !has_told {
                    has_told = true;
                    let mut text = String::new();
                    drop(file.read_to_string(&mut text));
                    let root = one_line(&slashed(root));
                    terminal.status(&format!(
                        "waiting for {}, which changes files of `{root}`",
                        holder(&text)
                    ));
                }
                match file.lock() {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    result => result?,
                }
                file.rewind()?;
            }
        }
        // Somebody may have removed it while this one waited, and a third locked a new one.
        let is_there = fs::metadata(path)
            .is_ok_and(|it| file.metadata().is_ok_and(|mine| is_same(&it, &mine)));
        if is_there {
            return Ok(file);
        }
    }
}

/// Who the text of a lock file says.
fn holder(text: &str) -> String {
    match text.trim().split_once(' ') {
        Some((process, command)) => format!("`{}` (process {process})", one_line(command)),
        None => "another gpupin".to_owned(),
    }
}

fn note_holder(file: &mut File, path: &Path) -> io::Result<()> {
    let arguments = std::env::args().skip(1);
    let command: Vec<_> = std::iter::once("gpupin".to_owned()).chain(arguments).collect();
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{} {}", std::process::id(), command.join(" "))?;
    // Temporary files must not outlive the note that says to look for them.
    steps::sync(file, path)
}
