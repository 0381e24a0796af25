//! Whether a program runs in a container, where GPUs are numbered anew and a GPU of the host may be missing.

use crate::{
    program::{MASK, Moment, Program, Write},
    project::Project,
    source::Language,
    unit::{Does, EventId, UnitId},
};

/// How many links of a chain of starters are followed: a Dockerfile, a script, a program.
const DEPTH: u32 = 3;

/// Whether a program runs in one with what a write sets, or at all.
///
/// A program that is also started outside of any, by a command that asks for no GPU, is none: its pin is meant for both.
pub(super) fn runs(project: &Project<'_>, program: &Program, write: Option<Write>) -> bool {
    is_in_one(project, program, write, DEPTH)
}

fn is_in_one(project: &Project<'_>, program: &Program, write: Option<Write>, depth: u32) -> bool {
    let gets = |it: &&Moment| write.is_none_or(|write| it.setting(MASK).writes.contains(&write));
    let is_started_in_one = |it: &Moment| {
        it.container.is_some()
            || it.by.is_some_and(|by| {
                let mut scripts = project.programs.iter().filter(|it| it.entry == by.0);
                is_command_of_one(project, by)
                    || (depth > 0 && scripts.any(|it| is_in_one(project, it, None, depth - 1)))
            })
    };
    let by_starter = write.filter(|it| !program.runs(it.unit));
    let mut starts = program.handed.iter().filter(|it| by_starter.is_none() || gets(it)).peekable();
    let mut children = program.moments.iter().filter(|it| write.is_some() && gets(it));
    describes(project, program.entry)
        || !program.containers.is_empty()
        || program.moments.iter().any(|it| it.container.is_some())
        || children.any(|it| it.by.is_some_and(|it| is_command_of_one(project, it)))
        || (starts.peek().is_some() && starts.all(is_started_in_one))
}

fn describes(project: &Project<'_>, unit: UnitId) -> bool {
    let language = project.unit(unit).source.language;
    matches!(language, Language::Dockerfile | Language::Compose | Language::Kubernetes)
}

/// A service's command, `docker run … python main.py`, `docker exec …`.
fn is_command_of_one(project: &Project<'_>, (unit, event): (UnitId, EventId)) -> bool {
    let event = project.event(unit, event);
    let Does::Start(start) = &event.does else { return false };
    let mut words = project.unit(unit).source.slice(event.span).split_whitespace();
    describes(project, unit)
        || start.service.is_some()
            && words.any(|it| ["docker", "podman", "nerdctl"].iter().any(|name| it.ends_with(name)))
}
