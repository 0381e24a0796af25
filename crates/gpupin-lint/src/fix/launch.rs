//! What the commands that run under a pin say against it: how many GPUs they count on, and who takes a mask for a number.

use crate::{
    language::command::text,
    program::{MASK, Program, Write},
    project::Project,
    unit::{Does, Event, EventId, Runs, Start, UnitId},
    value::Value,
};

/// The commands that get a pin: those that a write of the mask reaches, or all around a program that is pinned at its top.
pub(super) fn under<'a>(
    project: &Project<'a>,
    program: &Program,
    write: Option<Write>,
) -> Vec<&'a Start> {
    let mut places: Vec<(UnitId, EventId)> = Vec::new();
    let of_unit = |unit: UnitId| {
        let events = (0..).map(EventId).zip(&project.unit(unit).events);
        events.map(move |it| (unit, it.0))
    };
    match write {
        Some(Write { unit, event, slot: Some(_) }) => places.push((unit, event)),
        Some(Write { unit, .. }) if !program.runs(unit) => places.extend(of_unit(unit)),
        _ => {
            places.extend(&program.starters);
            places.extend(program.units.iter().flat_map(|it| of_unit(*it)));
        }
    }
    let is_written = |it: &(UnitId, EventId)| {
        write.is_some_and(|write| write.slot.is_some() && (write.unit, write.event) == *it)
    };
    let starts = places.iter().filter_map(|it| {
        let Does::Start(start) = &project.event(it.0, it.1).does else { return None };
        let has_own = start.environment.variables().iter().any(|it| it.0 == MASK);
        let starts_it = program.starters.contains(it);
        (is_written(it) || starts_it || !has_own).then_some(start)
    });
    starts.collect()
}

/// The commands of a container or service.
pub(crate) fn of_service<'a>(
    project: &Project<'a>,
    unit: UnitId,
    service: &'a str,
) -> impl Iterator<Item = &'a Start> {
    project.unit(unit).events.iter().filter_map(move |it: &'a Event| match &it.does {
        Does::Start(start) if start.service.as_deref() == Some(service) => Some(start),
        _ => None,
    })
}

/// Whether commands need no more than so many GPUs. If not, which does.
pub(crate) fn need_no_more<'s>(
    starts: impl IntoIterator<Item = &'s Start>,
    gpus: u32,
) -> Result<(), String> {
    let many = if gpus == 1 { "one GPU".to_owned() } else { format!("{gpus} GPUs") };
    for start in starts {
        if let Some((flag, count)) = processes(start) {
            match count.parse::<u32>() {
                Ok(count) if count <= gpus => {}
                Ok(count) => {
                    return Err(format!(
                        "`{flag}` wants {count} GPUs: its processes would share {many}"
                    ));
                }
                // Of as many as there are it starts as many.
                Err(_) if matches!(&*count, "gpu" | "auto") => {}
                Err(_) => {
                    return Err(format!(
                        "`{flag}` may start several processes, which would share {many}"
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Whether commands start one process, where the launcher itself is not pinned and sees every GPU. If not, which does not.
pub(super) fn start_one_each(starts: &[&Start]) -> Result<(), String> {
    for start in starts {
        let word = |at: usize| start.words.get(at).and_then(text);
        let counts = processes(start);
        let launcher = match (word(0), word(1)) {
            (Some("accelerate"), Some("launch")) => Some("accelerate launch"),
            (Some("deepspeed"), _) => Some("deepspeed"),
            _ => None,
        };
        let each = match (&counts, launcher) {
            (Some((flag, count)), _) if matches!(&**count, "gpu" | "auto") => flag,
            (None, Some(launcher)) => launcher,
            _ => continue,
        };
        return Err(format!("`{each}` starts a process for each GPU: they would share one"));
    }
    Ok(())
}

/// Options that say how many processes a launcher starts, each with a GPU, or over how many GPUs a server lays a model.
const PROCESSES: &[&str] = &[
    "--nproc-per-node",
    "--nproc",
    "--num-processes",
    "--num-gpus",
    "--n-gpus",
    "--tensor-parallel-size",
    "--tp-size",
    "-tp",
    "--pipeline-parallel-size",
    "-pp",
    "--data-parallel-size",
    "-dp",
    "--world-size",
];

/// Launchers of processes for which `-n` and `-np` say how many.
const MPI: &[&str] = &["mpirun", "mpiexec", "horovodrun"];

/// The option that says how many processes a command starts, and how many.
fn processes(start: &Start) -> Option<(String, String)> {
    let launcher = start.words.first().and_then(text).unwrap_or_default();
    let is_count = |it: &str| {
        let name = it.replace('_', "-");
        PROCESSES.contains(&&*name) || (MPI.contains(&launcher) && matches!(it, "-n" | "-np"))
    };
    start.words.iter().enumerate().find_map(|(at, word)| {
        let shown = match &word.value {
            // `--nproc_per_node=$GPUS`
            Value::Text(parts) => match parts.first()? {
                Value::Str(start) => start,
                _ => return None,
            },
            _ => text(word)?,
        };
        match shown.split_once('=') {
            Some((flag, count)) if is_count(flag) => Some((flag.to_owned(), count.to_owned())),
            None if is_count(shown) => {
                let count = start.words.get(at + 1)?;
                Some((shown.to_owned(), text(count).unwrap_or_default().to_owned()))
            }
            _ => None,
        }
    })
}

/// A program among commands that takes every entry of the mask for a number.
pub(super) fn takes_numbers(starts: &[&Start]) -> Option<&'static str> {
    const BY_NAME: &[&str] = &["vllm", "deepspeed"];
    starts.iter().find_map(|it| {
        let first = it.words.first().and_then(text).unwrap_or_default();
        let module = match &it.runs {
            Runs::PythonModule(module) => module.split('.').next(),
            _ => None,
        };
        let launcher = it.words.get(2).and_then(text).and_then(|it| it.split('.').next());
        let is_module = it.words.get(1).and_then(text) == Some("-m");
        let names = [Some(first), module, launcher.filter(|_| is_module)];
        BY_NAME.iter().copied().find(|it| names.contains(&Some(*it)))
    })
}
