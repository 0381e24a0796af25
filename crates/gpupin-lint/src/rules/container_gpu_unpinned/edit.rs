//! How each kind of file asks for a GPU by its UUID.

use crate::{
    project::{Known, Literal, Project},
    source::{Language, Source},
    span::Span,
    unit::{ContainerGpus, GpuRequest, UnitId},
};

/// What to write where, so that a container gets the GPU of a UUID. `place` is the request's place.
pub(super) fn edit(
    project: &Project<'_>,
    unit: UnitId,
    place: Span,
    container: &ContainerGpus,
    uuid: &str,
) -> Option<(Span, String)> {
    let source = &project.unit(unit).source;
    let text = source.slice(place);
    let at =
        |from: usize, to: usize| Span::new(place.range().start + from, place.range().start + to);
    // One id that stands there: only it changes.
    if let GpuRequest::Ids(ids) = &container.request
        && let [only] = &**ids
    {
        let [known] = &*project.known(unit, only) else { return None };
        let span = source.find_in(known.span, &written(known)?).filter(|_| known.unit == unit)?;
        return Some((span, uuid.to_owned()));
    }
    // What a variable decides was meant to be decided there.
    if text.contains('$') {
        return None;
    }
    if let Some((from, to, new)) = gpus_option(text, uuid) {
        return Some((at(from, to), new));
    }
    let replaced = |old: &str, new: String| {
        let mut found = text.match_indices(old).map(|it| it.0);
        let from = found.next()?;
        found.next().is_none().then(|| (at(from, from + old.len()), new))
    };
    if let GpuRequest::All = container.request {
        for prefix in ["nvidia.com/gpu=", "NVIDIA_VISIBLE_DEVICES="] {
            if text.contains(prefix) {
                return replaced(&format!("{prefix}all"), format!("{prefix}{uuid}"));
            }
        }
        if text.starts_with("NVIDIA_VISIBLE_DEVICES") {
            return replaced("all", uuid.to_owned());
        }
    }
    match source.language {
        Language::Compose => compose(source, place, &container.request, uuid),
        Language::Shell if text.starts_with("--runtime") => {
            Some((at(text.len(), text.len()), format!(" -e NVIDIA_VISIBLE_DEVICES={uuid}")))
        }
        _ => None,
    }
}

/// The id as it was written.
fn written(known: &Known) -> Option<String> {
    match &known.literal {
        Literal::Int(number) => Some(number.to_string()),
        Literal::Str(text) => Some(text.trim().to_owned()).filter(|it| !it.is_empty()),
        _ => None,
    }
}

/// The value of `--gpus all`, `--gpus='"device=0,1"'`, `"--gpus", "all"`: from where to where, and what instead.
fn gpus_option(text: &str, uuid: &str) -> Option<(usize, usize, String)> {
    let mut flags = text.match_indices("--gpus").map(|it| it.0 + "--gpus".len());
    let flag = flags.next().filter(|_| flags.next().is_none())?;
    let rest = &text[flag..];
    let value = rest.trim_start_matches(|it: char| it.is_whitespace() || "=\"',\\".contains(it));
    let len =
        value.find(|it: char| it.is_whitespace() || "\"'\\".contains(it)).unwrap_or(value.len());
    let value = &value[..len];
    let from = text.len() - rest.len() + (value.as_ptr() as usize - rest.as_ptr() as usize);
    let mut asks = false;
    let mut parts = Vec::new();
    for part in value.split(',') {
        let is_id = |it: &str| it.bytes().all(|it| it.is_ascii_digit()) && !it.is_empty();
        match part.split_once('=') {
            Some(("device" | "count", _)) => asks = true,
            Some(_) => parts.push(part),
            // `all`, `2`, and what follows `device=0,`.
            None if matches!(part, "all" | "-1") || is_id(part) => asks = true,
            None => return None,
        }
    }
    let device = format!("device={uuid}");
    parts.insert(0, &device);
    asks.then(|| (from, from + len, parts.join(",")))
}

fn compose(
    source: &Source,
    place: Span,
    request: &GpuRequest,
    uuid: &str,
) -> Option<(Span, String)> {
    let text = source.slice(place);
    if text.contains('#') {
        return None;
    }
    let ids = format!("device_ids: [\"{uuid}\"]");
    let key = text.split(':').next().unwrap_or_default().trim();
    let start = place.range().start;
    let insert = |at: usize, text: String| Some((Span::new(at, at), text));
    match request {
        GpuRequest::All | GpuRequest::Count(_) if key == "gpus" => {
            Some((place, format!("gpus: [{{driver: nvidia, {ids}}}]")))
        }
        GpuRequest::All | GpuRequest::Count(_) if key == "count" => Some((place, ids)),
        GpuRequest::Ids(_) if key == "device_ids" => Some((place, ids)),
        // A reservation that names neither a number nor ids.
        GpuRequest::All if text.starts_with('{') => insert(start + 1, format!("{ids}, ")),
        GpuRequest::All if matches!(key, "driver" | "capabilities") => {
            insert(start, format!("{ids}\n{}", " ".repeat(column(source, start))))
        }
        GpuRequest::RuntimeOnly if key == "runtime" => {
            let indent = " ".repeat(column(source, start));
            let is_block = has_no_environment(source, start, indent.len())?;
            is_block.then(|| {
                let line = source.text[..start].rfind('\n').map_or(0, |it| it + 1);
                (
                    Span::new(line, line),
                    format!("{indent}environment:\n{indent}  NVIDIA_VISIBLE_DEVICES: {uuid}\n"),
                )
            })
        }
        _ => None,
    }
}

fn column(source: &Source, at: usize) -> usize {
    at - source.text[..at].rfind('\n').map_or(0, |it| it + 1)
}

/// Whether a key stands on a line of its own, and none of its neighbours sets variables or takes over others' keys.
/// `None` where the file's lines do not tell.
fn has_no_environment(source: &Source, at: usize, indent: usize) -> Option<bool> {
    let text = &source.text;
    let line_start = at - indent;
    if !text[line_start..at].bytes().all(|it| it == b' ') {
        return None;
    }
    let depth = |line: &str| line.len() - line.trim_start().len();
    let inside = |line: &&str| line.trim().is_empty() || depth(line) >= indent;
    let before = text[..line_start].lines().rev().take_while(inside);
    let after = text[line_start..].lines().take_while(inside);
    let mut siblings = before.chain(after).filter(|it| depth(it) == indent).map(str::trim_start);
    Some(!siblings.any(|it| {
        ["environment", "env_file", "extends", "<<"].iter().any(|key| it.starts_with(key))
    }))
}
