//! What of a program would not go with a pin to one GPU.

use crate::{
    meant::Meant,
    program::{MASK, Program},
    project::{Literal, Project},
    rules::names_gpus,
    source::Language,
    unit::{Does, Purpose},
};

/// Whether a program goes with variables that pin it. If not, why.
pub(super) fn goes_with<N: AsRef<str>>(
    project: &Project<'_>,
    program: &Program,
    pin: &[(N, String)],
) -> Result<(), String> {
    choices(project, program)?;
    let is_uuid = pin.iter().any(|it| it.0.as_ref() == MASK && it.1.starts_with("GPU-"));
    match reader_of_mask(project, program).filter(|_| is_uuid) {
        None => Ok(()),
        Some(path) => Err(format!(
            "`{path}` reads the mask, which is a UUID then; `[pin] as = \"index\"` keeps it a number"
        )),
    }
}

/// Whether the places of a program that choose a GPU still do so under its pin, or have a fix of their own. If not, which.
fn choices(project: &Project<'_>, program: &Program) -> Result<(), String> {
    for id in &program.units {
        let unit = project.unit(*id);
        let count = Meant::of(project, *id).count();
        for event in &unit.events {
            let Does::Choose(choice) = &event.does else { continue };
            if choice.purpose != Purpose::Choose || choice.only_with_more_than.is_some() {
                continue;
            }
            for known in choice.ordinals.iter().flat_map(|it| project.known(*id, it)) {
                let outside = match known.literal {
                    Literal::Int(ordinal) => ordinal >= count,
                    Literal::NvmlIndex => true,
                    _ => false,
                };
                let is_here = known.unit == *id && event.span.contains(known.span);
                let source = &project.unit(known.unit).source;
                let is_fixed = matches!(known.literal, Literal::Int(_))
                    && (is_here || names_gpus(source, known.span));
                if outside && !is_fixed {
                    let line = unit.source.place(event.span.start).line;
                    return Err(format!(
                        "line {line} of `{}` may choose a GPU that is not there then",
                        unit.source.path
                    ));
                }
            }
        }
    }
    Ok(())
}

/// A file of a program that reads the mask back, as far as its text tells.
fn reader_of_mask(project: &Project<'_>, program: &Program) -> Option<String> {
    let reads = |text: &str| {
        text.match_indices(MASK).any(|(at, _)| {
            let before = text[..at].trim_end_matches(['"', '\'', '\\']);
            let behind = text[at + MASK.len()..].trim_start_matches(['"', '\'', '\\']);
            let asks = before.ends_with("getenv(") || before.ends_with("environ.get(");
            let item = before.ends_with("environ[")
                && behind.strip_prefix(']').is_some_and(|it| {
                    let rest = it.trim_start();
                    !rest.starts_with('=') || rest.starts_with("==")
                });
            let deletes = before.trim_end_matches("os.environ[").trim_end().ends_with("del");
            asks || (item && !deletes)
        })
    };
    let units = program.units.iter().map(|it| &project.unit(*it).source);
    let mut python =
        units.filter(|it| matches!(it.language, Language::Python | Language::Notebook));
    python.find(|it| reads(&it.text)).map(|it| it.path.clone())
}
