use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use ignore::{DirEntry, WalkBuilder, WalkState};

use crate::{
    failure::{Exit, Failure},
    project::{Project, normal, relative, slashed},
    scan::{File, Problem, Request},
    terminal::Terminal,
};

/// Directories that hold no source of the project: other people's packages, caches, histories.
///
/// They are scanned when they are named on the command line.
const SKIPPED: &[&str] = &[
    ".cache",
    ".eggs",
    ".git",
    ".gpupin",
    ".hg",
    ".ipynb_checkpoints",
    ".jj",
    ".mypy_cache",
    ".nox",
    ".pixi",
    ".pytest_cache",
    ".ruff_cache",
    ".svn",
    ".tox",
    ".venv",
    "__pycache__",
    "__pypackages__",
    "dist-packages",
    "node_modules",
    "site-packages",
];

#[derive(Debug)]
pub(super) struct Found {
    /// Sorted, each once.
    pub(super) files: Vec<File>,
    pub(super) problems: Vec<Problem>,
}

/// Lists the files below the paths of `request`.
///
/// `tree` has what another tree than the working tree has in the place of files, by key.
pub(super) fn discover(
    tree: &BTreeMap<String, Option<&[u8]>>,
    project: &Project,
    request: &Request,
    terminal: &mut Terminal,
) -> Result<Found, Failure> {
    let excluded = Excluded {
        by_policy: globs(&project.policy.lint.exclude, "exclude of the policy")?,
        by_flag: globs(&request.exclude, "`--exclude`")?,
        base: relative(&project.working_directory, &project.root),
    };
    let mut found = Found { files: Vec::new(), problems: Vec::new() };
    for path in &request.paths {
        let absolute = normal(&project.working_directory.join(path));
        let shown = project.display(&absolute);
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => {
                let error = anyhow::Error::new(error).context(format!("failed to read `{shown}`"));
                return Err(Failure::new(Exit::Failed, error));
            }
        };
        let key = relative(&project.root, &absolute);
        if key.ancestors().any(|it| excluded.contains(it)) {
            let what = if metadata.is_dir() { "directory" } else { "file" };
            let text = format!("the {what} `{shown}` is excluded");
            // pre-commit names every file that changed, excluded or not, and should stay silent.
            if metadata.is_dir() { terminal.warning(&text) } else { terminal.verbose(|| text) }
        } else if metadata.is_dir() {
            walk(project, request, path, &key, &excluded, &mut found);
        } else if metadata.is_file() {
            found.files.push(File { key: slashed(&key), path: path.clone() });
        } else {
            // Reading a pipe or a device may never end.
            let message = "neither a file nor a directory".to_owned();
            found.problems.push(Problem { path: shown.clone(), message });
        }
    }
    let is_absent = |it: &Path| matches!(it.to_str().map(|it| tree.get(it)), Some(Some(None)));
    found.files.retain(|it| !Path::new(&it.key).ancestors().any(is_absent));
    let absolute: Vec<_> =
        request.paths.iter().map(|it| normal(&project.working_directory.join(it))).collect();
    for key in tree.iter().filter(|it| it.1.is_some()).map(|it| it.0) {
        let path = normal(&project.root.join(key));
        let leads_to = |top: &PathBuf| path.strip_prefix(top).is_ok_and(is_walked);
        if path.symlink_metadata().is_err()
            && absolute.iter().any(leads_to)
            && !Path::new(key).ancestors().any(|it| excluded.contains(it))
        {
            found.files.push(File { key: key.clone(), path });
        }
    }
    found.files.sort();
    found.files.dedup_by(|a, b| a.key == b.key);
    Ok(found)
}

/// Lists the files below the directory `top`, whose key is `top_key`.
fn walk(
    project: &Project,
    request: &Request,
    top: &Path,
    top_key: &Path,
    excluded: &Excluded,
    found: &mut Found,
) {
    let mut walk = WalkBuilder::new(top);
    walk.standard_filters(request.respect_gitignore)
        // `.github` and `.env` matter.
        .hidden(false)
        .follow_links(false)
        .threads(request.threads.get());
    let (sender, receiver) = mpsc::channel();
    let top_text = project.display(&normal(&project.working_directory.join(top)));
    walk.build_parallel().run(|| {
        let sender = sender.clone();
        let top_text = &top_text;
        Box::new(move |entry| {
            let (message, state) = match entry {
                Ok(entry) => visit(entry, top, top_key, excluded),
                Err(error) => (Some(Err(problem(&error, top, top_text))), WalkState::Continue),
            };
            if let Some(message) = message {
                sender.send(message).expect("the receiver outlives the walk");
            }
            state
        })
    });
    drop(sender);
    for message in receiver {
        match message {
            Ok(file) => found.files.push(file),
            Err(problem) => found.problems.push(problem),
        }
    }
}

type Message = Result<File, Problem>;

fn visit(
    entry: DirEntry,
    top: &Path,
    top_key: &Path,
    excluded: &Excluded,
) -> (Option<Message>, WalkState) {
    let is_top = entry.depth() == 0;
    let is_directory = entry.file_type().is_some_and(|it| it.is_dir());
    let is_file = entry.file_type().is_some_and(|it| it.is_file());
    if is_top || !(is_directory || is_file) {
        return (None, WalkState::Continue);
    }
    if is_directory && is_skipped(&entry) {
        return (None, WalkState::Skip);
    }
    if is_file && !may_matter(entry.path()) {
        return (None, WalkState::Continue);
    }
    let below = entry.path().strip_prefix(top).expect("a walk stays below its top");
    let key = top_key.join(below);
    if excluded.contains(&key) {
        return (None, WalkState::Skip);
    }
    if is_directory {
        return (None, WalkState::Continue);
    }
    let key = slashed(&key);
    let path = entry.into_path();
    // `./a.py` is `a.py`, and the kernel has less to look up.
    let path = path.strip_prefix(".").map(Path::to_owned).unwrap_or(path);
    (Some(Ok(File { key, path })), WalkState::Continue)
}

/// Whether a walk lists a file that does not lie on disk, by its path below the top.
fn is_walked(below: &Path) -> bool {
    let has_skipped_name = |it: &Path| it.file_name().is_some_and(is_skipped_name);
    may_matter(below) && !below.ancestors().skip(1).any(has_skipped_name)
}

fn is_skipped_name(name: &OsStr) -> bool {
    name.to_str().is_some_and(|it| SKIPPED.binary_search(&it).is_ok())
}

fn is_skipped(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_str().unwrap_or_default();
    // A virtual environment may have any name, but only these two are common without a dot.
    is_skipped_name(entry.file_name())
        || (matches!(name, "venv" | "env") && entry.path().join("pyvenv.cfg").exists())
}

/// Whether the name allows a language that can matter. A name without a dot may be a script.
pub(crate) fn may_matter(path: &Path) -> bool {
    let has_dot = path.file_name().is_some_and(|it| it.to_string_lossy().contains('.'));
    !has_dot || gpupin_lint::language::language(&slashed(path), &[]).is_some()
}

/// Whether a walk of the directory `top` could come to this path, as far as its names tell.
pub(super) fn may_find(top: &Path, path: &Path) -> bool {
    let Ok(below) = path.strip_prefix(top) else { return false };
    let mut names = below.iter().map(|it| it.to_str().unwrap_or_default());
    names.all(|it| SKIPPED.binary_search(&it).is_err()) && may_matter(path)
}

fn problem(error: &ignore::Error, top: &Path, top_text: &str) -> Problem {
    // The path is inside the error, at some depth.
    fn path(error: &ignore::Error) -> Option<&Path> {
        match error {
            ignore::Error::WithPath { path, .. } => Some(path),
            ignore::Error::Loop { child, .. } => Some(child),
            ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => {
                path(err)
            }
            _ => None,
        }
    }
    let below = path(error).and_then(|it| it.strip_prefix(top).ok());
    let path =
        below.map_or_else(|| top_text.to_owned(), |it| slashed(&Path::new(top_text).join(it)));
    let message = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
    Problem { path, message }
}

/// What is not scanned, even when it is named.
struct Excluded {
    by_policy: GlobSet,
    by_flag: GlobSet,
    /// The root as seen from the working directory.
    base: PathBuf,
}

impl Excluded {
    /// Whether the file or directory with this key is excluded itself; not by a directory above it.
    fn contains(&self, key: &Path) -> bool {
        if self.by_policy.is_match(key) {
            return true;
        }
        !self.by_flag.is_empty()
            && self.by_flag.is_match(
                normal(&Path::new("/").join(&self.base).join(key)).strip_prefix("/").unwrap_or(key),
            )
    }
}

fn globs(texts: &[String], origin: &str) -> Result<GlobSet, Failure> {
    let mut globs = GlobSetBuilder::new();
    for text in texts {
        // As in `.gitignore`: without a slash, files and directories of that name anywhere.
        let text = text.strip_suffix('/').unwrap_or(text);
        let anywhere = format!("**/{text}");
        let pattern = if text.contains('/') { text } else { &anywhere };
        let glob = GlobBuilder::new(pattern).literal_separator(true).build().map_err(|error| {
            Failure::usage(format!("invalid glob `{text}` in the {origin}: {}", error.kind()))
        })?;
        globs.add(glob);
    }
    globs.build().map_err(|error| Failure::new(Exit::Failed, error))
}

#[cfg(test)]
mod tests {
    use super::SKIPPED;

    #[test]
    fn skipped_directories_are_sorted_for_the_search() {
        assert!(SKIPPED.is_sorted());
    }
}
