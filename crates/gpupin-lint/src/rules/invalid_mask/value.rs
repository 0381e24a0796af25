//! Values that CUDA reads as something else.

use gpupin_policy::visibility::{EntryKind, Mask, MaskEntry, Quirk};

use crate::{
    finding::{Edit, Finding, Safety},
    fix::mask,
    project::{Known, Literal, Project},
    rules::Rule,
    source::Language,
    unit::{Event, EventId, SetHow, Unit, UnitId},
    value::Value,
    variables::{Given, Recipient},
};

pub(super) fn judge(
    rule: &'static Rule,
    project: &Project<'_>,
    id: UnitId,
    unit: &Unit,
    given: &Given<'_>,
    known: &Known,
) -> Option<Finding> {
    let text = match &known.literal {
        Literal::Str(text) => text.clone(),
        Literal::NvmlIndex => return None,
        // `x or None`, where the program sees to it that it is not.
        Literal::None if given.value.value != Value::None => return None,
        _ if wants_texts(unit, given) => {
            return Some(not_a_text(rule, project, id, unit, given, known));
        }
        Literal::Int(number) => number.to_string(),
        Literal::Bool(it) => it.to_string(),
        Literal::None | Literal::Float(_) | Literal::List(_) => return None,
    };
    if is_placeholder(&text) {
        return None;
    }
    let mask = Mask::parse(&text);
    let (entry, problem) = problem(&mask)?;
    let effect = if mask.hides_every_gpu() { ": no GPU is visible" } else { "" };
    let by_default = if known.by_default { "by default, " } else { "" };
    // Nobody sees a blank between backticks.
    let subject = match entry.text.trim() {
        "" if mask.entries.len() == 1 => "the mask".to_owned(),
        "" => format!("an entry of the mask `{text}`"),
        entry => format!("`{entry}` in the mask `{text}`"),
    };
    let message = format!("{by_default}{subject} {problem}{effect}");
    let finding = rule.finding(id, given.event.span, message);
    let finding = at_literal(finding, id, given.event, known);
    let finding = mask::correct_event(finding, project, (id, event_id(unit, given)));
    Some(match text.trim().to_ascii_lowercase().as_str() {
        "all" => finding.with_help("leave the variable unset to see every GPU"),
        _ => finding,
    })
}

/// Which event of its file gives the value.
pub(super) fn event_id(unit: &Unit, given: &Given<'_>) -> EventId {
    let at = unit.events.iter().position(|it| std::ptr::eq(it, given.event));
    EventId(at.and_then(|it| u32::try_from(it).ok()).unwrap_or(u32::MAX))
}

/// Where the value stands, if that is another place.
fn at_literal(finding: Finding, id: UnitId, event: &Event, known: &Known) -> Finding {
    if known.unit == id && event.span.contains(known.span) {
        return finding;
    }
    finding.with_related(known.unit, known.span, "the value stands here")
}

/// The first entry that CUDA takes for something else than it looks like.
fn problem(mask: &Mask) -> Option<(&MaskEntry, String)> {
    for (at, entry) in mask.entries.iter().enumerate() {
        let is_last = at + 1 == mask.entries.len();
        // A comma at the end is harmless, and so is a blank that `strtoul` skips.
        let harmless = |quirk: Quirk| match quirk {
            Quirk::Padding | Quirk::Sign | Quirk::LeadingZeros => true,
            Quirk::Blank => is_last && at > 0,
            Quirk::Word => mask.entries.len() == 1 && hides_by_word(&entry.text),
            _ => false,
        };
        if let Some(quirk) = entry.quirks.iter().find(|it| !harmless(**it)) {
            return Some((entry, quirk.to_string()));
        }
        if !entry.taken {
            let rest = mask.entries.len() - at - 1;
            let ends = entry.kind == EntryKind::Negative && rest > 0;
            return ends.then(|| (entry, "ends the list, what follows does not count".to_owned()));
        }
    }
    None
}

/// Words that are no GPU to CUDA either, so that the mask does what its author wants.
pub(in crate::rules) fn hides_by_word(text: &str) -> bool {
    matches!(text.trim().to_ascii_lowercase().as_str(), "none" | "void" | "nodevfiles" | "no")
}

/// Text that another program fills in before CUDA sees it, or that stands for a value in documentation.
pub(in crate::rules) fn is_placeholder(text: &str) -> bool {
    ["{", "$", "<", "%", "..."].iter().any(|it| text.contains(it))
}

/// Whether anything but a text is an error where the value is given.
fn wants_texts(unit: &Unit, given: &Given<'_>) -> bool {
    let in_python = matches!(unit.source.language, Language::Python | Language::Notebook);
    let takes_texts = match given.to {
        Recipient::Set(how, _) => matches!(how, SetHow::Assign | SetHow::IfUnset | SetHow::Putenv),
        Recipient::Child(_) | Recipient::Replaced => true,
    };
    in_python && takes_texts
}

fn not_a_text(
    rule: &'static Rule,
    project: &Project<'_>,
    id: UnitId,
    unit: &Unit,
    given: &Given<'_>,
    known: &Known,
) -> Finding {
    let written = project.unit(known.unit).source.slice(known.span).trim();
    let message =
        format!("the value `{written}` of the mask is not a text: Python raises a `TypeError`");
    let finding = rule.finding(id, given.event.span, message);
    let finding = at_literal(finding, id, given.event, known);
    let finding = mask::correct_event(finding, project, (id, event_id(unit, given)));
    if finding.fix.is_some() {
        return finding;
    }
    match &known.literal {
        // Elsewhere the number may be used as a number too.
        Literal::Int(number) if known.span == given.value.span && written == number.to_string() => {
            finding.with_fix(
                "Put the index in quotes",
                Safety::Unsafe("today the program fails at this line".to_owned()),
                vec![Edit {
                    unit: known.unit,
                    span: known.span,
                    replacement: format!("\"{number}\""),
                }],
            )
        }
        _ => finding,
    }
}
