//! Places of a program that count on several GPUs.

use crate::{
    program::Program,
    project::Project,
    source::{Language, Source},
    span::Span,
    unit::{Block, Condition, Does, Leave, Step, Unit},
};

/// Whether a program does with so many GPUs. If not, which place wants more.
pub(super) fn goes_with(project: &Project<'_>, program: &Program, gpus: i64) -> Result<(), String> {
    for unit in program.units.iter().map(|it| project.unit(*it)) {
        let wants = |span: Span, what: &str| {
            let line = unit.source.place(span.start).line;
            Err(format!("line {line} of `{}` {what}", unit.source.path))
        };
        for event in &unit.events {
            if let Does::Spread(spread) = &event.does
                && let Some(count) = spread.count.filter(|it| *it > gpus)
                && spread.tested_with_more_than.is_none()
            {
                return wants(event.span, &format!("wants {count} GPUs"));
            }
        }
        match spawned(&unit.source) {
            Some((place, Some(count))) if count > gpus => {
                let what = format!("starts {count} processes, which would share what is left");
                return wants(place, &what);
            }
            Some((place, None)) => {
                return wants(place, "may start several processes, which would share what is left");
            }
            _ => {}
        }
        if let Some(most) = stops_without_more_than(unit).filter(|it| *it >= gpus) {
            return Err(format!("`{}` stops with fewer than {} GPUs", unit.source.path, most + 1));
        }
    }
    Ok(())
}

/// Whether every process of a program may be pinned alike. If not, which place tells that there may be several, each of
/// which takes a GPU by its rank.
pub(super) fn has_one_process(project: &Project<'_>, program: &Program) -> Result<(), String> {
    let units = || program.units.iter().map(|it| &project.unit(*it).source);
    // What it starts itself, it starts by what it sees.
    let starts_them = units().any(|it| spawned(it).is_some() || it.text.contains("spawn("));
    let ranked = units().find_map(|it| Some((it, by_rank(it, starts_them)?)));
    match ranked {
        None => Ok(()),
        Some((source, place)) => {
            let line = source.place(place.start).line;
            Err(format!(
                "line {line} of `{}` goes by the rank of a process: several would share one GPU",
                source.path
            ))
        }
    }
}

/// Where a file speaks of the rank that a launcher gives each of its processes.
fn by_rank(source: &Source, starts_them: bool) -> Option<Span> {
    const GIVEN: &[&str] = &["LOCAL_RANK", "local_rank", "local-rank"];
    const JOINS: &[&str] = &["init_process_group(", "deepspeed.initialize("];
    if !is_python(source) {
        return None;
    }
    let joins = JOINS.iter().filter(|_| !starts_them);
    let found = GIVEN.iter().chain(joins).flat_map(|it| source.text.match_indices(it));
    let is_code = |at: &usize| {
        let line = source.text[..*at].rsplit('\n').next().unwrap_or_default();
        !line.trim_start().starts_with('#')
    };
    let first = found.map(|it| it.0).filter(is_code).min()?;
    Some(Span::new(first, first))
}

/// `mp.spawn(work, nprocs=2)`: a process for each GPU. Their number is unknown unless it is written out or that of the
/// GPUs.
fn spawned(source: &Source) -> Option<(Span, Option<i64>)> {
    const OPTION: &str = "nprocs=";
    const COUNT: &str = "device_count()";
    /// How far a call's argument is from its name.
    const FAR: usize = 300;
    if !is_python(source) {
        return None;
    }
    let text = &source.text;
    text.match_indices(OPTION).find_map(|(at, _)| {
        let rest = &text[at + OPTION.len()..];
        let digits = rest.len() - rest.trim_start_matches(|it: char| it.is_ascii_digit()).len();
        let place = Span::new(at, at + OPTION.len() + digits);
        if let Ok(count) = rest[..digits].parse() {
            return Some((place, Some(count)));
        }
        let call = text[..at].rfind("spawn(").filter(|it| at - it < FAR);
        let value = rest.split([',', ')', '\n']).next().unwrap_or_default().trim();
        let is_given_it = |it: &str| {
            let given = it.trim_start().strip_prefix(value).map(str::trim_start);
            given.and_then(|it| it.strip_prefix('=')).is_some_and(|it| it.contains(COUNT))
        };
        let is_count = value.contains("device_count(") || text.lines().any(is_given_it);
        (call.is_some() && !is_count).then_some((place, None))
    })
}

fn is_python(source: &Source) -> bool {
    matches!(source.language, Language::Python | Language::Notebook)
}

/// The most GPUs with which a file raises or exits because they are too few. Tests are left out instead.
fn stops_without_more_than(unit: &Unit) -> Option<i64> {
    if unit.entry.tests {
        return None;
    }
    let blocks = unit.functions.values().map(|it| &it.body).chain([&unit.body]);
    blocks.filter_map(of_block).max()
}

fn of_block(block: &Block) -> Option<i64> {
    let of_all = |blocks: &[Block]| blocks.iter().filter_map(of_block).max();
    let of_step = |step: &Step| match step {
        Step::Branch(condition, arms) => {
            let own = match (condition, arms.get(1).and_then(|it| it.0.last())) {
                (Condition::MoreGpusThan(most), Some(Step::Leave(Leave::Raise | Leave::Exit))) => {
                    Some(*most)
                }
                _ => None,
            };
            own.max(of_all(arms))
        }
        Step::Try { body, .. } => of_block(body),
        Step::Loop(body) | Step::Main(body) | Step::Scope(body) => of_block(body),
        Step::Event(_) | Step::Import(_) | Step::Call(..) | Step::Leave(_) => None,
    };
    block.0.iter().filter_map(of_step).max()
}
