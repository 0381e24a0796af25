//! Whether this machine, this shell and this project are set up so that work lands on the right GPU.
//!
//! A check looks at one thing and says what it saw. It is a function of the [`Patient`] in a file of its group, and a line in
//! [`GROUPS`]. What cannot be found out is [`State::Unknown`] and never well: a check that could not look has seen nothing.
//!
//! Out of scope: changing anything, and what programs do with the GPUs they see, which is the business of `gpupin scan`.

use std::path::PathBuf;

use gpupin_device::{Kind, Machine, MachineError};
use gpupin_monitor::snapshot::Snapshot;
use gpupin_policy::{
    Inventory,
    visibility::{Environment, Visibility, resolve},
};

use crate::{failure::Failure, project::Project};

mod driver;
mod environment;
mod health;
mod lease;
mod policy;
mod processes;
mod python;

/// What is looked at.
pub(crate) struct Patient {
    pub(crate) project: Result<Project, Failure>,
    pub(crate) machine: Result<Box<dyn Machine>, MachineError>,
    /// Where `proc` and `sys` lie.
    pub(crate) root: PathBuf,
    /// This shell's.
    pub(crate) environment: Environment,
    pub(crate) is_scene: bool,
    /// Whether this shell is on the machine of a scene, even one without a driver that could say so.
    pub(crate) is_in_simulation: bool,
    /// The machine at one moment; absent if it does not answer.
    pub(crate) now: Option<(Inventory, Snapshot)>,
    /// Programs that may be the project's Python, in the order in which they are taken.
    pub(crate) pythons: Vec<PathBuf>,
}

/// What a check found.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Check {
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    pub(crate) state: State,
    pub(crate) seen: String,
    /// What to do about it.
    pub(crate) advice: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Ok,
    Problem,
    Unknown,
}

/// A group of checks: its name, and what looks.
type Group = (&'static str, fn(&Patient, &mut Found));

/// Every group of checks, in the order in which a cause comes before what it causes.
pub(crate) const GROUPS: &[Group] = &[
    ("driver", driver::check),
    ("health", health::check),
    ("policy", policy::check),
    ("environment", environment::check),
    ("processes", processes::check),
    ("lease", lease::check),
    ("python", python::check),
];

/// The checks of a group.
pub(crate) struct Found {
    group: &'static str,
    checks: Vec<Check>,
}

impl Found {
    fn add(&mut self, name: &'static str, state: State, seen: String, advice: Option<String>) {
        self.checks.push(Check { group: self.group, name, state, seen, advice });
    }

    fn ok(&mut self, name: &'static str, seen: impl Into<String>) {
        self.add(name, State::Ok, seen.into(), None);
    }

    fn problem(&mut self, name: &'static str, seen: impl Into<String>, advice: impl Into<String>) {
        self.add(name, State::Problem, seen.into(), Some(advice.into()));
    }

    fn unknown(&mut self, name: &'static str, seen: impl Into<String>, advice: impl Into<String>) {
        self.add(name, State::Unknown, seen.into(), Some(advice.into()));
    }
}

/// What to do before a check about all GPUs can say anything.
const GPUS_FIRST: &str = "see the GPU's problem first";

/// Looks at everything. `told` hears which group comes next.
pub(crate) fn examine(patient: &Patient, mut told: impl FnMut(&str)) -> Vec<Check> {
    let mut checks = Vec::new();
    for (group, check) in GROUPS {
        told(group);
        let mut found = Found { group, checks: Vec::new() };
        check(patient, &mut found);
        checks.append(&mut found.checks);
    }
    checks
}

impl Patient {
    /// The project, if it could be read.
    fn project(&self) -> Option<&Project> {
        self.project.as_ref().ok()
    }

    fn inventory(&self) -> Option<&Inventory> {
        self.now.as_ref().map(|it| &it.0)
    }

    fn snapshot(&self) -> Option<&Snapshot> {
        self.now.as_ref().map(|it| &it.1)
    }

    /// Of which GPUs nothing is known, for people.
    fn unknown_gpus(&self) -> Option<String> {
        self.snapshot()?.unknown_gpus()
    }

    fn kind(&self) -> Option<Kind> {
        self.machine.as_ref().ok().map(|it| it.kind())
    }

    /// What a program that this shell starts sees.
    fn visibility(&self) -> Option<Visibility> {
        self.inventory().map(|it| resolve(it, &self.environment))
    }

    /// Whether this is a container, as far as the usual runtimes leave marks.
    fn is_in_container(&self) -> bool {
        ["run/.containerenv", ".dockerenv"].iter().any(|it| self.root.join(it).exists())
    }
}
