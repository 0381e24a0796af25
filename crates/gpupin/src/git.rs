//! What git knows of a project. The only place that runs it.
//!
//! The variables that git sets for a hook, such as `GIT_INDEX_FILE`, are inherited: during `git commit -a` they name the
//! index that is about to be committed. No option of a user's configuration changes the answers, and names may hold
//! any byte.

use std::{
    collections::BTreeSet,
    env, io,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use anyhow::Context as _;

use crate::{
    failure::{Exit, Failure},
    overlay::Overlay,
    project::{normal, relative, slashed},
};

/// A repository with a working tree.
#[derive(Debug)]
pub(crate) struct Repository {
    /// Where git runs.
    directory: PathBuf,
    /// That directory, as seen from the top of the working tree.
    prefix: PathBuf,
}

/// A tree that is compared with the working tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tree {
    Index,
    /// By the name of a commit.
    Commit(String),
}

/// How a tree differs from the working tree.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// What differs, absolute. A submodule, and a repository that is not tracked, is one path.
    pub(crate) paths: BTreeSet<PathBuf>,
    /// What the tree has in the place of what differs.
    pub(crate) tree: Overlay,
}

/// The files below `root` that are tracked and have changes that are not committed, as seen from `root`; what
/// gpupin itself writes is aside. `None` outside of a working tree, and without git.
pub(crate) fn dirty(root: &Path) -> Result<Option<Vec<String>>, Failure> {
    let Search::Found(repository) = Repository::search(root)? else { return Ok(None) };
    let args = ["status", "--porcelain", "-z", "--untracked-files=no", "--no-renames"];
    let list = repository.ask(&args)?;
    let paths = list.split(|it| *it == 0).filter_map(|it| Some(path(it.get(3..)?)));
    let below =
        paths.filter_map(|it| repository.absolute(&it).strip_prefix(root).map(slashed).ok());
    let is_own = |it: &String| it.split('/').any(|it| it == ".gpupin");
    Ok(Some(below.filter(|it| !is_own(it)).collect()))
}

enum Search {
    Found(Repository),
    NoTree,
    NoGit,
}

impl Repository {
    /// The repository in whose working tree `start` lies.
    pub(crate) fn find(start: &Path) -> Result<Self, Failure> {
        match Self::search(start)? {
            Search::Found(repository) => Ok(repository),
            Search::NoTree => {
                let start = start.display();
                Err(Failure::usage(format!("`{start}` is in no working tree of git")))
            }
            Search::NoGit => Err(Failure::usage("there is no program `git`")
                .hint("install git, or add its directory to `PATH`")),
        }
    }

    fn search(start: &Path) -> Result<Search, Failure> {
        // A hook's variables are relative to the directory in which the hook was started.
        let is_told = |name| env::var_os(name).is_some();
        let directory = if is_told("GIT_DIR") || is_told("GIT_INDEX_FILE") {
            env::current_dir().context("failed to find the working directory")?
        } else {
            let existing = start.ancestors().find(|it| it.is_dir());
            existing.unwrap_or(Path::new("/")).to_owned()
        };
        let args = ["rev-parse", "--is-inside-work-tree", "--show-prefix"];
        let output = match git(&directory, &args).output() {
            Ok(output) => output,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Search::NoGit),
            Err(error) => return Err(not_started(error)),
        };
        if !output.status.success() {
            if complaint(&output).contains("not a git repository") {
                return Ok(Search::NoTree);
            }
            return Err(refused(&args, &output));
        }
        // Also inside of `.git` there is none.
        let Some(prefix) = output.stdout.strip_prefix(b"true\n") else { return Ok(Search::NoTree) };
        let prefix = path(line(prefix));
        Ok(Search::Found(Self { directory, prefix }))
    }

    /// The top of the working tree.
    pub(crate) fn top(&self) -> PathBuf {
        self.absolute(Path::new(""))
    }

    /// What git names from the top, by the name that the user has for it: git resolves links, and people know their
    /// files by the paths they use.
    fn absolute(&self, name: &Path) -> PathBuf {
        let top = Path::new("/");
        normal(&self.directory.join(relative(&top.join(&self.prefix), &top.join(name))))
    }

    /// The directory of hooks, wherever the configuration or a second working tree has it.
    pub(crate) fn hooks(&self) -> Result<PathBuf, Failure> {
        self.git_path(&["rev-parse", "--git-path", "hooks"])
    }

    /// The directory with the history, which all working trees share.
    pub(crate) fn common_directory(&self) -> Result<PathBuf, Failure> {
        self.git_path(&["rev-parse", "--git-common-dir"])
    }

    fn git_path(&self, args: &[&str]) -> Result<PathBuf, Failure> {
        Ok(normal(&self.directory.join(path(line(&self.ask(args)?)))))
    }

    /// The commit at which `HEAD` and the revision parted.
    pub(crate) fn fork(&self, revision: &str) -> Result<Tree, Failure> {
        let unknown = || {
            let failure = Failure::usage(format!("`{revision}` is no revision of this repository"));
            self.explain(failure, "a branch of a remote has its name in front: `origin/main`")
        };
        // No name of git's begins like this, and git would take it for an option.
        if revision.is_empty() || revision.starts_with('-') {
            return Err(unknown()?);
        }
        let Some(commit) = self.commit(revision)? else {
            return Err(unknown()?);
        };
        let Some(head) = self.commit("HEAD")? else {
            return Err(Failure::usage("this branch has no commit yet"));
        };
        let output = self.run(&["merge-base", &commit, &head])?;
        if output.status.success() {
            return Ok(Tree::Commit(text(line(&output.stdout))));
        }
        let unrelated = Failure::usage(format!("`{revision}` and `HEAD` share no commit"));
        Err(self.explain(unrelated, "name a revision from which this branch comes")?)
    }

    /// The commit that is checked out, if there is one.
    pub(crate) fn head(&self) -> Result<Option<Tree>, Failure> {
        Ok(self.commit("HEAD")?.map(Tree::Commit))
    }

    fn commit(&self, revision: &str) -> Result<Option<String>, Failure> {
        let commit = format!("{revision}^{{commit}}");
        let output = self.run(&["rev-parse", "--verify", "--quiet", &commit])?;
        let name = text(line(&output.stdout));
        // `^main` is understood, and is no commit.
        let is_name = !name.is_empty() && name.bytes().all(|it| it.is_ascii_hexdigit());
        Ok(Some(name).filter(|_| output.status.success() && is_name))
    }

    /// Says what to do, which in a shallow clone is always the same.
    fn explain(&self, failure: Failure, else_hint: &str) -> Result<Failure, Failure> {
        let is_shallow = self.ask(&["rev-parse", "--is-shallow-repository"])? == b"true\n";
        Ok(failure.hint(if is_shallow {
            "this clone is shallow: fetch its history with `git fetch --unshallow`, in GitHub Actions with `fetch-depth: 0`"
        } else {
            else_hint
        }))
    }

    /// What the next commit changes.
    pub(crate) fn staged(&self) -> Result<BTreeSet<PathBuf>, Failure> {
        let list = self.ask(&[DIFF, &["--cached"]].concat())?;
        Ok(changes(&list).map(|it| self.absolute(&it.path)).collect())
    }

    /// Compares a tree with the working tree; contents are read of files that are `wanted`.
    pub(crate) fn difference(
        &self,
        tree: &Tree,
        wanted: impl Fn(&Path) -> bool,
    ) -> Result<Difference, Failure> {
        let list = match tree {
            Tree::Index => self.ask(DIFF)?,
            Tree::Commit(name) => self.ask(&[DIFF, &[name]].concat())?,
        };
        let mut difference = Difference::default();
        let mut blobs = Vec::new();
        for change in changes(&list) {
            let path = self.absolute(&change.path);
            match change.before {
                Before::Nothing => difference.tree.insert(path.clone(), None),
                Before::File(blob) if wanted(&path) => blobs.push((path.clone(), blob)),
                Before::File(_) | Before::Unknown => {}
            }
            difference.paths.insert(path);
        }
        let untracked =
            ["ls-files", "--others", "--exclude-standard", "--full-name", "-z", "--", ":/"];
        for name in self.ask(&untracked)?.split(|it| *it == 0).filter(|it| !it.is_empty()) {
            // A repository inside ends with a slash.
            let path = self.absolute(&path(name.strip_suffix(b"/").unwrap_or(name)));
            difference.tree.insert(path.clone(), None);
            difference.paths.insert(path);
        }
        for (path, contents) in self.contents(blobs)? {
            difference.tree.insert(path, Some(contents));
        }
        Ok(difference)
    }

    /// The contents of blobs, each with what it came with.
    fn contents(&self, blobs: Vec<(PathBuf, &str)>) -> Result<Vec<(PathBuf, Vec<u8>)>, Failure> {
        if blobs.is_empty() {
            return Ok(Vec::new());
        }
        let args = ["cat-file", "--batch"];
        let mut command = git(&self.directory, &args);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(not_started)?;
        let mut input = child.stdin.take().expect("the input is piped");
        let names: Vec<_> = blobs.iter().flat_map(|it| [it.1, "\n"]).collect();
        let names = names.concat();
        // Git writes before it has read everything.
        let output = thread::scope(|scope| {
            scope.spawn(move || drop(input.write_all(names.as_bytes())));
            child.wait_with_output()
        });
        let output = output.map_err(not_started)?;
        if !output.status.success() {
            return Err(refused(&args, &output));
        }
        let mut rest = output.stdout.as_slice();
        let mut contents = Vec::new();
        for (path, _) in blobs {
            let (blob, left) = blob(rest).with_context(|| {
                format!("git does not have what it recorded of `{}`", path.display())
            })?;
            contents.push((path, blob.to_owned()));
            rest = left;
        }
        Ok(contents)
    }

    fn run(&self, args: &[&str]) -> Result<Output, Failure> {
        git(&self.directory, args).output().map_err(not_started)
    }

    /// What git prints.
    fn ask(&self, args: &[&str]) -> Result<Vec<u8>, Failure> {
        let output = self.run(args)?;
        if output.status.success() { Ok(output.stdout) } else { Err(refused(args, &output)) }
    }
}

/// Lists changed files in a form that no configuration changes.
const DIFF: &[&str] =
    &["diff", "--raw", "-z", "--no-abbrev", "--no-renames", "--no-relative", "--no-ext-diff"];

struct Change<'a> {
    path: PathBuf,
    before: Before<'a>,
}

enum Before<'a> {
    Nothing,
    /// With the name of its blob.
    File(&'a str),
    /// A submodule, or a file in a merge that is not finished.
    Unknown,
}

/// Reads what `git diff --raw -z` prints: `:100644 100644 BLOB BLOB M`, then the path.
fn changes(list: &[u8]) -> impl Iterator<Item = Change<'_>> {
    let mut fields = list.split(|it| *it == 0);
    std::iter::from_fn(move || {
        let description = std::str::from_utf8(fields.next()?).ok()?;
        let mut words = description.strip_prefix(':')?.split(' ');
        let (mode, _, blob, _) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let before = match (words.next()?, mode) {
            ("U", _) | (_, "160000") => Before::Unknown,
            // A link is not scanned, wherever it leads.
            ("A", _) | (_, "120000") => Before::Nothing,
            _ => Before::File(blob),
        };
        Some(Change { path: path(fields.next()?), before })
    })
}

/// Reads what `git cat-file --batch` prints of one blob, and what follows it.
fn blob(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|it| *it == b'\n')?;
    let header = std::str::from_utf8(&text[..end]).ok()?;
    let size = header.split(' ').nth(2)?.parse().ok()?;
    let (blob, rest) = text[end + 1..].split_at_checked(size)?;
    Some((blob, rest.strip_prefix(b"\n")?))
}

fn git(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(directory).args(args).stdin(Stdio::null());
    // One of its messages is looked at.
    command.env("LC_ALL", "C").env_remove("LANGUAGE");
    // During a commit the index is locked, and nothing here needs to write it.
    command.env("GIT_OPTIONAL_LOCKS", "0").env_remove("GIT_LITERAL_PATHSPECS");
    command
}

fn not_started(error: io::Error) -> Failure {
    Failure::new(Exit::Failed, anyhow::Error::new(error).context("failed to run `git`"))
}

fn refused(args: &[&str], output: &Output) -> Failure {
    let cause = anyhow::anyhow!("{}", complaint(output));
    Failure::new(Exit::Failed, cause.context(format!("`git {}` failed", args.join(" "))))
}

fn complaint(output: &Output) -> String {
    text(&output.stderr).trim().to_owned()
}

fn line(output: &[u8]) -> &[u8] {
    let output = output.strip_suffix(b"\n").unwrap_or(output);
    output.strip_suffix(b"\r").unwrap_or(output)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(unix)]
fn path(name: &[u8]) -> PathBuf {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
    PathBuf::from(OsStr::from_bytes(name))
}

#[cfg(not(unix))]
fn path(name: &[u8]) -> PathBuf {
    PathBuf::from(text(name))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, process::Command};

    use super::{blob, dirty};

    fn run(directory: &Path, args: &[&str]) {
        let mut git = Command::new("git");
        git.current_dir(directory).args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(args);
        let output = git.env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn what_is_tracked_and_changed_is_dirty() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path();
        assert_eq!(dirty(top).unwrap(), None, "no repository");
        run(top, &["init", "--quiet"]);
        fs::create_dir_all(top.join("app/.gpupin")).unwrap();
        for name in ["app/a b.py", "app/b.py", "app/c.py", "app/.gpupin/d", "e.py"] {
            fs::write(top.join(name), "").unwrap();
        }
        run(top, &["add", "--all"]);
        run(top, &["commit", "--quiet", "--message", "all"]);
        assert_eq!(dirty(&top.join("app")).unwrap(), Some(Vec::new()));
        for name in ["app/a b.py", "app/b.py", "app/new.py", "app/.gpupin/d", "e.py"] {
            fs::write(top.join(name), "changed").unwrap();
        }
        run(top, &["add", "app/b.py"]);
        fs::remove_file(top.join("app/c.py")).unwrap();
        let expected = ["a b.py", "b.py", "c.py"].map(str::to_owned).to_vec();
        assert_eq!(dirty(&top.join("app")).unwrap(), Some(expected));
    }

    #[test]
    fn contents_are_told_from_each_other_by_their_size() {
        let text = b"0123 blob 3\na\nb\n4567 blob 0\n\n89ab missing\n";
        let (first, rest) = blob(text).unwrap();
        assert_eq!(first, b"a\nb");
        let (second, rest) = blob(rest).unwrap();
        assert_eq!(second, b"");
        assert_eq!(blob(rest), None);
    }
}
