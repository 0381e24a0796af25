//! Which policy and lock file count, and what paths are relative to.
//!
//! The policy is looked for from the first scanned path upwards, else from the working directory: the
//! files decide which declaration they are judged by, not the place one happens to stand in. Its
//! directory is the *root*. Globs in the policy, entry points and the baseline are relative to the
//! root, so that a scan means the same from everywhere; what is printed is relative to the working
//! directory, so that an editor can open it.

use std::{
    error, fmt, io,
    path::{Component, Path, PathBuf},
};

use anyhow::Context as _;
use gpupin_policy::{LockFile, LockFileError, Policy, PolicyError, PolicyFile, ProblemKind};

use crate::{
    failure::{Exit, Failure, Part},
    names,
    overlay::Overlay,
    terminal::{Terminal, one_line},
};

pub(crate) const POLICY: &str = "gpupin.toml";
pub(crate) const PYPROJECT: &str = "pyproject.toml";
pub(crate) const LOCK: &str = "gpupin.lock";

/// Which declaration counts.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Project")]
pub(crate) struct ProjectArgs {
    /// Use this policy file
    ///
    /// Without it, the nearest `gpupin.toml`, or `pyproject.toml` with a table `[tool.gpupin]`, in the
    /// directory of the first path or above it. Without any path, the working directory or above it.
    #[arg(long, value_name = "FILE", conflicts_with = "no_policy")]
    pub(crate) policy: Option<PathBuf>,

    /// Ignore every policy file
    #[arg(long)]
    pub(crate) no_policy: bool,

    /// Lay this profile of the policy over it
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,

    /// Use this lock file instead of the `gpupin.lock` beside the policy
    #[arg(long, value_name = "FILE")]
    pub(crate) lock: Option<PathBuf>,
}

/// What a project declares and records, and where it lies.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) policy: Policy,
    /// Absolute.
    pub(crate) policy_path: Option<PathBuf>,
    pub(crate) lock: LockFile,
    /// As people know it.
    pub(crate) lock_path: Option<String>,
    /// Absolute.
    pub(crate) root: PathBuf,
    /// Absolute.
    pub(crate) working_directory: PathBuf,
}

/// A policy or lock file that cannot be used, and what is wrong where.
#[derive(Debug)]
pub(crate) struct InvalidFile {
    what: &'static str,
    shown: String,
    pub(crate) path: PathBuf,
    pub(crate) problems: Vec<gpupin_policy::Problem>,
}

impl fmt::Display for InvalidFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, shown, problems, .. } = self;
        write!(f, "invalid {what} `{shown}`")?;
        problems.iter().try_for_each(|it| write!(f, "\n  {shown}:{it}"))
    }
}

impl error::Error for InvalidFile {}

/// Finds and reads the policy and the lock file for what lies at `start`.
pub(crate) fn open(
    args: &ProjectArgs,
    start: Option<&Path>,
    terminal: &mut Terminal,
) -> Result<Project, Failure> {
    open_in(&Overlay::default(), args, start, terminal)
}

/// The same for who needs to know where the project is, more than what it declares: a policy that cannot be used is told, and
/// counts as one that says nothing.
pub(crate) fn open_or_place(
    args: &ProjectArgs,
    terminal: &mut Terminal,
) -> Result<Project, Failure> {
    let failure = match open(args, None, terminal) {
        Ok(project) => return Ok(project),
        Err(failure) => failure,
    };
    let working_directory =
        std::env::current_dir().context("failed to find the working directory")?;
    let Some(policy) = place_of_policy(args, &working_directory) else { return Err(failure) };
    let texts = failure.lines().filter(|it| it.0 != Part::Hint).map(|it| it.1);
    let why = texts.collect::<Vec<_>>().join(": ");
    terminal.warning(&format!("what the project declares does not count: {why}"));
    Ok(Project {
        policy: Policy::default(),
        root: parent(&policy),
        policy_path: Some(policy),
        lock: LockFile::default(),
        lock_path: None,
        working_directory,
    })
}

/// The file that [`find_policy`] stops at, whether it can be read or not.
fn place_of_policy(args: &ProjectArgs, working_directory: &Path) -> Option<PathBuf> {
    let speaks_of_us = |path: &Path| {
        let is_ours = path.file_name().is_some_and(|it| it == POLICY);
        is_ours
            || std::fs::read(path).is_ok_and(|it| String::from_utf8_lossy(&it).contains("gpupin"))
    };
    match &args.policy {
        Some(path) => Some(normal(&working_directory.join(path))).filter(|it| it.exists()),
        None => working_directory
            .ancestors()
            .flat_map(|directory| [POLICY, PYPROJECT].map(|name| directory.join(name)))
            .find(|it| it.symlink_metadata().is_ok() && speaks_of_us(it)),
    }
}

/// The same, in another tree than the working tree.
pub(crate) fn open_in(
    tree: &Overlay,
    args: &ProjectArgs,
    start: Option<&Path>,
    terminal: &mut Terminal,
) -> Result<Project, Failure> {
    let working_directory =
        std::env::current_dir().context("failed to find the working directory")?;
    open_from(tree, working_directory, args, start, terminal)
}

/// The same for who stands in a working directory, given absolute and normal.
pub(crate) fn open_from(
    tree: &Overlay,
    working_directory: PathBuf,
    args: &ProjectArgs,
    start: Option<&Path>,
    terminal: &mut Terminal,
) -> Result<Project, Failure> {
    let start = normal(&working_directory.join(start.unwrap_or(Path::new(""))));
    let start = if start.is_file() { parent(&start) } else { start };

    let policy =
        if args.no_policy { None } else { find_policy(tree, args, &working_directory, &start)? };
    if policy.is_none() && args.profile.is_some() {
        let failure = Failure::usage("there is no policy that could have a profile")
            .hint("write one with `gpupin init`, or name it with `--policy`");
        let profile = args.profile.clone().unwrap_or_default();
        return Err(names::blame(failure, names::PROFILE, profile));
    }
    let lock_file = match (&args.lock, &policy) {
        (Some(path), _) => Some(working_directory.join(path)),
        (None, Some(policy)) => Some(parent(&policy.path).join(LOCK)).filter(|it| tree.has(it)),
        (None, None) => start.ancestors().map(|it| it.join(LOCK)).find(|it| tree.has(it)),
    };
    let root = match (&policy, &lock_file) {
        (Some(policy), _) => parent(&policy.path),
        (None, Some(lock)) if args.lock.is_none() => parent(lock),
        (None, _) if start.starts_with(&working_directory) => working_directory.clone(),
        (None, _) => start,
    };
    let shown = |path: &Path| display(&working_directory, path);

    let lock = lock_file.as_deref().map(|path| read_lock(tree, path, &shown(path))).transpose()?;
    terminal.verbose(|| match &policy {
        Some(policy) => format!("policy: `{}`", shown(&policy.path)),
        None => "no policy".to_owned(),
    });
    terminal.verbose(|| match &lock_file {
        Some(path) => format!("lock file: `{}`", shown(path)),
        None => "no lock file".to_owned(),
    });
    let (policy, policy_path) = policy.map(|it| (it.policy, it.path)).unzip();
    Ok(Project {
        policy: policy.unwrap_or_default(),
        policy_path,
        lock: lock.unwrap_or_default(),
        lock_path: lock_file.as_deref().map(shown),
        root,
        working_directory,
    })
}

impl Project {
    /// Says which recorded machines a scene made up, because what is found and fixed rests on them.
    pub(crate) fn tell_simulated(&self, terminal: &mut Terminal) {
        for host in self.lock.simulated() {
            terminal.warning(&format!("the lock file's machine `{}` is simulated", one_line(host)));
        }
    }

    /// A path for people: relative to the working directory unless that is longer, `/`-separated.
    pub(crate) fn display(&self, path: &Path) -> String {
        display(&self.working_directory, path)
    }

    /// What the linter knows a file by: its path as seen from the root.
    pub(crate) fn key(&self, path: &Path) -> String {
        slashed(&relative(&self.root, &normal(&self.working_directory.join(path))))
    }

    /// The path of a unit, for people.
    pub(crate) fn shown(&self, key: &str) -> String {
        self.display(&normal(&self.root.join(key)))
    }
}

struct Found {
    policy: Policy,
    path: PathBuf,
}

fn find_policy(
    tree: &Overlay,
    args: &ProjectArgs,
    working_directory: &Path,
    start: &Path,
) -> Result<Option<Found>, Failure> {
    let profile = args.profile.as_deref();
    let read = |path: &Path| read_policy(tree, path, &display(working_directory, path), profile);
    if let Some(path) = &args.policy {
        let given = path;
        let path = normal(&working_directory.join(path));
        let found = read(&path).map_err(|it| names::blame(it, names::POLICY, given))?;
        let Some(policy) = found else {
            let shown = display(working_directory, &path);
            return Err(Failure::usage(format!("`{shown}` has no table `[tool.gpupin]`")));
        };
        return Ok(Some(Found { policy, path }));
    }
    for directory in start.ancestors() {
        for name in [POLICY, PYPROJECT] {
            let path = directory.join(name);
            // A declaration that cannot be read counts: the next one above may mean another GPU.
            if tree.has(&path)
                && let Some(policy) = read(&path)?
            {
                return Ok(Some(Found { policy, path }));
            }
        }
    }
    Ok(None)
}

/// `None` if it is a `pyproject.toml` that says nothing about gpupin.
fn read_policy(
    tree: &Overlay,
    path: &Path,
    shown: &str,
    profile: Option<&str>,
) -> Result<Option<Policy>, Failure> {
    let text = read_text(tree, path, shown)?;
    let origin = match path.file_name() {
        Some(name) if name == PYPROJECT => PolicyFile::Pyproject,
        _ => PolicyFile::Gpupin,
    };
    // Somebody else's broken `pyproject.toml` is not our business.
    if origin == PolicyFile::Pyproject && !text.contains("gpupin") {
        return Ok(None);
    }
    Policy::parse(&text, origin, profile).map_err(|error| match error {
        PolicyError::Invalid(problems) => invalid("policy", path, shown, problems),
        PolicyError::UnknownProfile { ref profile, ref known, .. } => {
            let profile = profile.clone();
            let hint = match known.as_slice() {
                [] => format!("`{shown}` has no profiles"),
                known => format!("`{shown}` has the profiles `{}`", known.join("`, `")),
            };
            names::blame(Failure::new(Exit::Failed, error).hint(hint), names::PROFILE, profile)
        }
    })
}

fn read_lock(tree: &Overlay, path: &Path, shown: &str) -> Result<LockFile, Failure> {
    LockFile::parse(&read_text(tree, path, shown)?).map_err(|error| match error {
        LockFileError::Invalid(problems) => invalid("lock file", path, shown, problems),
        LockFileError::Version { .. } => Failure::from(
            anyhow::Error::new(error).context(format!("failed to read the lock file `{shown}`")),
        )
        .hint("a newer gpupin wrote it; update gpupin"),
    })
}

fn invalid(
    what: &'static str,
    path: &Path,
    shown: &str,
    problems: Vec<gpupin_policy::Problem>,
) -> Failure {
    let forbids_wanted =
        problems.iter().any(|it| matches!(it.kind, ProblemKind::ForbidsWanted { .. }));
    let (shown, path) = (shown.to_owned(), path.to_owned());
    let failure = Failure::new(Exit::Failed, InvalidFile { what, shown, path, problems });
    if forbids_wanted {
        return failure.hint(
            "`forbid` is for the other GPUs of the machine: remove the entry, or give it more conditions",
        );
    }
    failure
}

fn read_text(tree: &Overlay, path: &Path, shown: &str) -> Result<String, Failure> {
    let bytes = tree.read(path).with_context(|| format!("failed to read `{shown}`"))?;
    // Windows editors add the mark, and TOML has no use for it.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    String::from_utf8(bytes.to_vec())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the file is not UTF-8"))
        .with_context(|| format!("failed to read `{shown}`"))
        .map_err(Failure::from)
}

/// An absolute path without `.` and `..`, as far as its text tells: links are not followed, because
/// people know their files by the names they use.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

/// `path` as seen from `base`, with `..` where needed. Both are absolute and normal.
pub(crate) fn relative(base: &Path, path: &Path) -> PathBuf {
    let shared = base.components().zip(path.components()).take_while(|(a, b)| a == b).count();
    // Another drive on Windows.
    if shared == 0 {
        return path.to_owned();
    }
    let up = base.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(path.components().skip(shared)).collect()
}

/// The text of a path, `/`-separated.
pub(crate) fn slashed(path: &Path) -> String {
    let text = path.to_string_lossy();
    if cfg!(windows) { text.replace('\\', "/") } else { text.into_owned() }
}

/// Relative to the working directory, unless the absolute path is shorter.
pub(crate) fn display(working_directory: &Path, path: &Path) -> String {
    let relative = relative(working_directory, path);
    let is_short = relative.as_os_str().len() <= path.as_os_str().len();
    match slashed(if is_short { &relative } else { path }) {
        here if here.is_empty() => ".".to_owned(),
        text => text,
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{normal, relative};

    #[test]
    fn paths_are_seen_from_a_base() {
        for (base, path, expected) in [
            ("/a", "/a/b/c", "b/c"),
            ("/a/b", "/a/c", "../c"),
            ("/a", "/a", ""),
            ("/a/b/c", "/a", "../.."),
        ] {
            assert_eq!(relative(Path::new(base), Path::new(path)), Path::new(expected));
        }
    }

    #[test]
    fn dots_are_resolved_in_the_text() {
        assert_eq!(normal(Path::new("/a/./b/../c/..")), Path::new("/a"));
    }
}
