//! Which GPU a program reaches: what makes a fix safe.
//!
//! Nothing is assumed: every recorded machine is asked, through [`gpupin_policy::visibility`], and without one nothing
//! about masks is safe.

use gpupin_policy::{
    PinStyle, Selector,
    visibility::{Certainty, Environment, resolve},
};

use super::container;
use crate::{
    finding::Safety,
    program::{Happening, Kind, MASK, Moment, ORDER, Program, pins::sure_text},
    project::Project,
    source::Language,
    unit::{Does, EventId, Runs, UnitId},
};

/// Whether an environment shows exactly the GPUs that a selector wants, on every recorded machine. If not, why.
pub(crate) fn exactly(
    project: &Project<'_>,
    wanted: Option<&Selector>,
    environment: &Environment,
) -> Result<(), String> {
    let Some(wanted) = wanted else {
        return Err("no policy says which GPU is meant".to_owned());
    };
    let machines = project.lock.machines();
    if machines.is_empty() {
        return Err("no machine is recorded in `gpupin.lock`".to_owned());
    }
    for machine in machines {
        if !machine.usable().any(|it| wanted.matches(it)) {
            return Err(format!("`{}` has no GPU that the policy wants", machine.host));
        }
        let seen = resolve(machine, environment);
        let is_wanted = seen.visible.iter().all(|it| {
            let gpu = it.uuid.as_ref().and_then(|it| machine.get(it));
            gpu.is_some_and(|it| wanted.matches(it))
        });
        let count = usize::try_from(wanted.count).unwrap_or(usize::MAX);
        if seen.certainty != Certainty::Exact || !is_wanted || seen.visible.len() != count {
            return Err(format!("on `{}` it is not certainly the GPU of the policy", machine.host));
        }
    }
    Ok(())
}

/// As [`exactly`], as the safety of a fix.
pub(crate) fn safety(result: Result<(), String>) -> Safety {
    result.map_or_else(Safety::Unsafe, |()| Safety::Safe)
}

/// Whether a program certainly runs on exactly the policy's GPU as it stands. If not, why.
pub(crate) fn by_its_pin(project: &Project<'_>, program: &Program) -> Result<(), String> {
    let wanted = project.wanted(program);
    if project.policy.lint.style == PinStyle::External {
        // Programs are started through `gpupin run`, which pins as the policy says.
        return by_policy(project, wanted);
    }
    let entry = || format!("no pin is certain in `{}`", project.unit(program.entry).source.path);
    if program.moments.is_empty() {
        return Err(entry());
    }
    for moment in &program.moments {
        if moment.pinned_by_gpupin {
            by_policy(project, wanted)?;
            continue;
        }
        if moment.container.is_some() {
            return Err("in a container other GPUs may be numbered".to_owned());
        }
        let environment = environment(project, moment).ok_or_else(entry)?;
        exactly(project, wanted, &environment)?;
    }
    Ok(())
}

/// Whether everybody who is seen to start a program pins it, so that it needs no pin of its own. If not, why.
pub(super) fn by_its_starters(project: &Project<'_>, program: &Program) -> Result<(), String> {
    let is_gpupin = |it: &Moment| {
        let start = it.by.map(|(unit, event)| &project.event(unit, event).does);
        matches!(start, Some(Does::Start(it)) if matches!(it.runs, Runs::Gpupin(_)))
    };
    let pins = |it: &Moment| {
        let by_variables = || {
            let environment = environment(project, it)?;
            exactly(project, project.wanted(program), &environment).ok()
        };
        is_gpupin(it) || it.pinned_by_gpupin || by_variables().is_some()
    };
    if program.handed.is_empty() || !program.handed.iter().all(pins) {
        return Err("nothing seen here starts it through `gpupin run`".to_owned());
    }
    Ok(())
}

/// Whether pinning as the policy says leads to exactly its GPUs, on every recorded machine.
pub(super) fn by_policy(project: &Project<'_>, wanted: Option<&Selector>) -> Result<(), String> {
    let Some(selector) = wanted else { return exactly(project, None, &Environment::default()) };
    let machines = project.lock.machines();
    if machines.is_empty() {
        return exactly(project, wanted, &Environment::default());
    }
    for machine in machines {
        let matching = machine.usable().filter(|it| selector.matches(it)).count();
        if matching < usize::try_from(selector.count).unwrap_or(usize::MAX) {
            return Err(format!("`{}` has no GPU that the policy wants", machine.host));
        }
    }
    Ok(())
}

/// Whether every program that may get what a place sets, then reaches exactly the policy's GPU: with `text` in the
/// variable `name`, and the rest as it is.
pub(crate) fn with(
    project: &Project<'_>,
    (unit, event): (UnitId, EventId),
    name: &str,
    text: &str,
) -> Result<(), String> {
    let mut is_read = false;
    for program in &project.programs {
        let here = |it: &Happening| (it.unit, it.event) == (unit, event);
        let is_set = |it: &&Moment| {
            let mut writes = it.variables.values().flat_map(|it| &it.writes);
            writes.any(|it| (it.unit, it.event) == (unit, event))
        };
        // A misspelt variable is in no environment that anybody reads.
        let misspelt = program.trace.iter().find(|it| here(it) && !it.conditional);
        let moments = program.moments.iter().filter(|it| is_set(it) || misspelt.is_some());
        for moment in moments {
            is_read = true;
            if container::runs(project, program, None) {
                return Err("in a container other GPUs may be numbered".to_owned());
            }
            let mut pairs = Vec::new();
            for other in [MASK, ORDER] {
                let setting = moment.setting(other);
                if other == name {
                    pairs.push((other, text.to_owned()));
                } else if !setting.writes.is_empty() {
                    let known = setting.certain().and_then(|it| sure_text(project, it));
                    let why = || format!("the value of `{other}` is not certain");
                    pairs.push((other, known.ok_or_else(why)?));
                }
            }
            exactly(project, project.wanted(program), &Environment::from_pairs(pairs))?;
        }
    }
    if is_read { Ok(()) } else { Err("no program is seen that gets it".to_owned()) }
}

/// What is certainly set at a moment; `None` if the mask is not.
fn environment(project: &Project<'_>, moment: &Moment) -> Option<Environment> {
    let sure = |name: &str| sure_text(project, moment.setting(name).certain()?);
    Some(Environment {
        cuda_visible_devices: Some(sure(MASK)?),
        cuda_device_order: sure(ORDER),
        nvidia_visible_devices: None,
    })
}

/// Whether a number in a file certainly counts among exactly the policy's GPUs: every program that runs it is pinned.
pub(crate) fn where_read(project: &Project<'_>, unit: UnitId) -> Result<(), String> {
    let programs = readers(project, unit);
    if programs.is_empty() {
        let is_code = is_python(project, unit);
        let why = if is_code { "to run it" } else { "that reads it" };
        return Err(format!("no program is seen {why}"));
    }
    programs.into_iter().try_for_each(|it| by_its_pin(project, it))
}

/// The programs that a number in a file counts for and that have no certain pin.
pub(crate) fn unpinned_readers(project: &Project<'_>, unit: UnitId) -> Vec<UnitId> {
    let mut programs = readers(project, unit);
    programs.retain(|it| by_its_pin(project, it).is_err());
    programs.into_iter().map(|it| it.entry).collect()
}

/// The programs that run a file. One that no program runs, such as one of settings, may be read by any of them.
fn readers<'p>(project: &'p Project<'_>, unit: UnitId) -> Vec<&'p Program> {
    let uses_a_gpu = |it: &&Program| it.kind != Kind::Module && !it.uses.is_empty();
    let runs = |it: &&Program| it.runs(unit) && it.kind != Kind::Module;
    let programs: Vec<&Program> = project.programs.iter().filter(runs).collect();
    if programs.is_empty() && !is_python(project, unit) {
        return project.programs.iter().filter(uses_a_gpu).collect();
    }
    programs
}

fn is_python(project: &Project<'_>, unit: UnitId) -> bool {
    matches!(project.unit(unit).source.language, Language::Python | Language::Notebook)
}
