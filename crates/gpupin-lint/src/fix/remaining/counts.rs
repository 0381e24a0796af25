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
        if let Some((place, count)) = spawned(&unit.source).filter(|it| it.1 > gpus) {
            let what = format!("starts {count} processes, which would share what is left");
            return wants(place, &what);
        }
        if let Some(most) = stops_without_more_than(unit).filter(|it| *it >= gpus) {
            return Err(format!("`{}` stops with fewer than {} GPUs", unit.source.path, most + 1));
        }
    }
    Ok(())
}

/// `mp.spawn(work, nprocs=2)`: a process for each GPU.
fn spawned(source: &Source) -> Option<(Span, i64)> {
    const OPTION: &str = "nprocs=";
    if !matches!(source.language, Language::Python | Language::Notebook) {
        return None;
    }
    source.text.match_indices(OPTION).find_map(|(at, _)| {
        let rest = &source.text[at + OPTION.len()..];
        let digits = rest.len() - rest.trim_start_matches(|it: char| it.is_ascii_digit()).len();
        Some((Span::new(at, at + OPTION.len() + digits), rest[..digits].parse().ok()?))
    })
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
