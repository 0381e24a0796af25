//! Whose processes those are, and for which project they work.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use gpupin_policy::{Gpu, Policy, PolicyFile};
use gpupin_run::process::{Process, ProcessId};

/// What is known of processes, kept as long as they live.
///
/// Only what cannot change without a new process is kept: its start tells whether a number means the same one.
#[derive(Debug)]
pub struct People {
    root: PathBuf,
    users: Users,
    known: BTreeMap<u32, Arc<Person>>,
    policies: BTreeMap<PathBuf, Declared>,
}

/// A process on a GPU.
#[derive(Debug)]
pub struct Person {
    pub id: ProcessId,
    pub uid: u32,
    pub user: Option<String>,
    pub command: String,
    /// The directory of the nearest policy above its working directory. `None` where there is none, or where we may not see it.
    pub project: Option<PathBuf>,
}

/// A policy that was read, and when its file had changed.
#[derive(Debug)]
struct Declared {
    changed: Option<SystemTime>,
    policy: Option<Arc<Policy>>,
}

/// Whether a process works where its project means it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Its project means this GPU, or one of its roles does.
    Right,
    /// Its project means another GPU, or forbids this one.
    Wrong,
}

impl People {
    /// Users are read below `root`, processes of this machine.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            users: Users::read(root),
            known: BTreeMap::new(),
            policies: BTreeMap::new(),
        }
    }

    /// Looks up a process; `None` if there is none of this number.
    pub fn get(&mut self, pid: u32) -> Option<Arc<Person>> {
        let Some(started) = ProcessId::of(pid) else {
            self.known.remove(&pid);
            return None;
        };
        if let Some(known) = self.known.get(&pid).filter(|it| it.id == started) {
            return Some(Arc::clone(known));
        }
        let read = Process::read(pid).ok()?;
        let user = self.users.name(read.uid).or_else(|| {
            // A user who came after the last look.
            self.users = Users::read(&self.root);
            self.users.name(read.uid)
        });
        let person = Arc::new(Person {
            id: read.id,
            uid: read.uid,
            user,
            command: read.command,
            project: project_of(pid),
        });
        self.known.insert(pid, Arc::clone(&person));
        Some(person)
    }

    /// Forgets who is not among these any more.
    pub fn retain(&mut self, pids: impl Fn(u32) -> bool) {
        self.known.retain(|pid, _| pids(*pid));
        let known = &self.known;
        let is_used = |project: &PathBuf| {
            known.values().any(|it| it.project.as_ref().is_some_and(|it| it == project))
        };
        self.policies.retain(|project, _| is_used(project));
    }

    /// Whether a process of this project belongs on a GPU. `None` where its policy says nothing of GPUs or cannot be read.
    pub fn place(&mut self, project: &Path, gpu: &Gpu) -> Option<Place> {
        let policy = self.policy(project)?;
        let by_role = policy.roles.values().any(|it| it.selector.matches(gpu));
        if by_role {
            return Some(Place::Right);
        }
        if policy.forbid.iter().any(|it| it.matches(gpu)) {
            return Some(Place::Wrong);
        }
        let meant = policy.gpu.as_ref()?;
        Some(if meant.matches(gpu) { Place::Right } else { Place::Wrong })
    }

    fn policy(&mut self, project: &Path) -> Option<Arc<Policy>> {
        let (path, file) = declaration(project)?;
        let changed = fs::metadata(&path).and_then(|it| it.modified()).ok();
        let known = self.policies.get(project).filter(|it| it.changed == changed);
        if let Some(known) = known {
            return known.policy.clone();
        }
        let text = fs::read_to_string(&path).ok();
        let policy = text.and_then(|it| Policy::parse(&it, file, None).ok().flatten());
        let policy = policy.map(Arc::new);
        let declared = Declared { changed, policy: policy.clone() };
        self.policies.insert(project.to_owned(), declared);
        policy
    }
}

/// The directory of the nearest policy above a process's working directory.
fn project_of(pid: u32) -> Option<PathBuf> {
    let working_directory = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    working_directory.ancestors().find(|it| declaration(it).is_some()).map(Path::to_owned)
}

/// Where the policy of a directory is declared, if it declares one itself.
fn declaration(directory: &Path) -> Option<(PathBuf, PolicyFile)> {
    let own = directory.join("gpupin.toml");
    if own.is_file() {
        return Some((own, PolicyFile::Gpupin));
    }
    let python = directory.join("pyproject.toml");
    // Reading every project's file for one word is cheap: it is done once for a process.
    let text = fs::read_to_string(&python).ok()?;
    text.contains("[tool.gpupin").then_some((python, PolicyFile::Pyproject))
}

/// The users of this machine, as far as `/etc/passwd` knows them.
#[derive(Debug)]
pub struct Users(BTreeMap<u32, String>);

impl Users {
    pub fn read(root: &Path) -> Self {
        let text = fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
        let user = |line: &str| {
            let mut fields = line.split(':');
            let (name, uid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
            Some((uid, name.to_owned()))
        };
        // The first of several names counts, as for `ps`.
        Self(text.lines().rev().filter_map(user).collect())
    }

    pub fn name(&self, uid: u32) -> Option<String> {
        self.0.get(&uid).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Users;

    #[test]
    fn the_first_name_of_a_user_counts() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let text = "root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/:/bin/sh\nbroken\n";
        fs::write(root.path().join("etc/passwd"), text).unwrap();
        let users = Users::read(root.path());
        assert_eq!(users.name(0).as_deref(), Some("root"));
        assert_eq!(users.name(4711), None);
    }
}
