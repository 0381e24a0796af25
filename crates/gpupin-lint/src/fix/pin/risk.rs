//! What makes a pin at the top of a file unsafe, beside the GPU that it leads to.

use std::collections::BTreeSet;

use gpupin_policy::PinStyle;

use super::{
    super::{container, reach, remaining},
    Place,
    block::{Block, Carried},
};
use crate::{
    program::{
        Kind, MASK, ORDER, Program, Write,
        entries::named_by_policy,
        pins::{is_lasting, sure_text},
    },
    project::{
        Project,
        modules::{join, parent},
    },
    unit::{Does, UnitId},
};

/// What one program says against a pin at a place; nothing if the pin is safe for it.
pub(super) fn judge(
    project: &Project<'_>,
    (place, program): (UnitId, &Program),
    block: Option<&Block>,
    moved: &[Carried],
    gone: &BTreeSet<Place>,
) -> Result<(), String> {
    let takes_effect = || match moved.iter().find(|it| it.name != MASK && it.name != ORDER) {
        Some(it) => Err(format!("`{}` takes effect then", it.name)),
        None => Ok(()),
    };
    let Some(block) = block else {
        if project.policy.lint.style != PinStyle::External {
            return Err("which GPU it then uses is not known".to_owned());
        }
        reach::by_policy(project, project.wanted(program))?;
        return takes_effect();
    };
    block.safety.clone()?;
    if project.unit(place).source.path.ends_with("__init__.py") {
        return Err("whoever imports the package is pinned too".to_owned());
    }
    if let Some(place) = sets_again(project, program, block, gone) {
        return Err(format!("{place} sets the mask or its order again"));
    }
    if let Some(path) = pinned_too(project, place) {
        return Err(format!("`{path}` imports the file and would be pinned by it"));
    }
    if is_library(project, place, program) {
        let why = "it is a module of a package, and whoever imports it is pinned too; a program is named in `lint.entry-points`";
        return Err(why.to_owned());
    }
    remaining::goes_with(project, program, &block.sets, None)?;
    if container::runs(project, program, None) {
        return Err("in its container that GPU may not be there".to_owned());
    }
    if given_by_slurm(project, program) {
        return Err(
            "Slurm gives it GPUs of its own choice, which the pin would override".to_owned()
        );
    }
    takes_effect()
}

/// Whether a job of Slurm starts a program: `srun python main.py`, or a script for `sbatch`.
fn given_by_slurm(project: &Project<'_>, program: &Program) -> bool {
    program.starters.iter().any(|(unit, event)| {
        let source = &project.unit(*unit).source;
        let mut words = source.slice(project.event(*unit, *event).span).split_whitespace();
        source.text.lines().any(|it| it.starts_with("#SBATCH")) || words.any(|it| it == "srun")
    })
}

/// Whether a file is a module of a package that happens to have something to start in it.
fn is_library(project: &Project<'_>, place: UnitId, program: &Program) -> bool {
    let path = &project.unit(place).source.path;
    let directory = parent(path);
    program.kind == Kind::Script
        && program.starters.is_empty()
        && !directory.is_empty()
        && !path.ends_with("__main__.py")
        && project.modules.file(&join(directory, "__init__.py")).is_some()
        && !named_by_policy(project.policy).is_match(path)
}

/// Another program that runs a file and has no certain pin of its own.
fn pinned_too(project: &Project<'_>, top: UnitId) -> Option<String> {
    let other = project.programs.iter().find(|it| {
        it.entry != top
            && it.kind != Kind::Module
            && it.runs(top)
            && !is_conftest_of(project, top, it)
            && reach::by_its_pin(project, it).is_err()
    })?;
    Some(project.unit(other.entry).source.path.clone())
}

/// Whether a file is there for the tests of a program: what it sets is meant for them.
fn is_conftest_of(project: &Project<'_>, top: UnitId, program: &Program) -> bool {
    program.kind == Kind::Tests && project.unit(top).source.path.ends_with("conftest.py")
}

/// A file that sets the mask or the order to something else than the block does, and keeps doing so.
fn sets_again(
    project: &Project<'_>,
    program: &Program,
    block: &Block,
    gone: &BTreeSet<Place>,
) -> Option<String> {
    let again = program.trace.iter().find(|it| {
        let Does::SetVariable(set) = &project.event(it.unit, it.event).does else { return false };
        if set.name != MASK && set.name != ORDER {
            return false;
        }
        let write = Write::of(it.unit, it.event);
        let value = sure_text(project, write);
        let is_same = block.sets.iter().any(|it| it.0 == set.name && Some(&it.1) == value.as_ref());
        // An order says nothing beside a mask of UUIDs.
        let counts = set.name == MASK || block.sets.iter().any(|it| it.0 == ORDER);
        counts && is_lasting(set.how) && !is_same && !gone.contains(&(it.unit, it.event))
    })?;
    let source = &project.unit(again.unit).source;
    let line = source.place(project.event(again.unit, again.event).span.start).line;
    Some(format!("line {line} of `{}`", source.path))
}
