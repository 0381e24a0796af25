//! What to write instead of an ordinal that the pin leaves no room for.
//!
//! A number becomes 0 where it stands, a list is left with one GPU. Where several numbers stand together and it is not
//! plain from the text what belongs to what, nothing is offered.

use std::collections::BTreeMap;

use super::uses::{Named, Use};
use crate::{
    finding::Edit,
    language::settings::device_text,
    project::Project,
    source::{Language, Source},
    span::Span,
    unit::UnitId,
};

#[cfg(test)]
mod tests;

/// Replaces the ordinals by 0, or takes them away where any is refused.
pub(super) fn edits(project: &Project<'_>, used: &Use<'_>, is_refused: bool) -> Option<Vec<Edit>> {
    // Without a policy 0 is just another number, and which of two is meant nobody can tell.
    if !used.meant.is_declared() || used.meant.count() != 1 {
        return None;
    }
    let mut places: BTreeMap<(UnitId, Span), Vec<&Named>> = BTreeMap::new();
    for named in &used.all {
        places.entry(named.place).or_default().push(named);
    }
    let source = |unit| &project.unit(unit).source;
    if let [(place, ordinals)] = &*places.iter().collect::<Vec<_>>() {
        let (unit, span) = **place;
        // Beside a number that nobody knows, 0 may be there already.
        if is_beside_others(&source(unit).text, span) {
            return None;
        }
        let edit = match &***ordinals {
            [only] => zero(source(unit), span, only.ordinal, is_refused),
            several => first_of_text(source(unit), span, several),
        };
        let (span, replacement) = edit?;
        return Some(vec![Edit { unit, span, replacement }]);
    }
    let mut edits = Vec::new();
    for run in runs(project, places.keys().copied().collect()) {
        let (unit, _) = *run.first()?;
        let ordinal = |at: usize| match &**places.get(&run[at])? {
            [only] => Some(only.ordinal),
            _ => None,
        };
        let spans: Vec<Span> = run.iter().map(|it| it.1).collect();
        let new = if let [only] = &*spans {
            one_of_several(source(unit), *only, ordinal(0)?, is_refused)?
        } else {
            let ordinals: Option<Vec<i64>> = (0..run.len()).map(ordinal).collect();
            one_of_list(source(unit), &spans, &ordinals?, is_refused)?
        };
        edits.extend(new.into_iter().map(|(span, replacement)| Edit { unit, span, replacement }));
    }
    edits.sort_by_key(|it| (it.unit, it.span));
    (!edits.is_empty()).then_some(edits)
}

/// Whether a place is one of several in a list, other than the words of a command.
fn is_beside_others(text: &str, span: Span) -> bool {
    const LONGEST_LIST: usize = 200;
    let before = &text[..span.range().start];
    let mut depth = 0;
    let opening = before.char_indices().rev().take(LONGEST_LIST).find(|(_, it)| {
        match it {
            ')' | ']' | '}' => depth += 1,
            '(' | '[' | '{' => depth -= 1,
            _ => {}
        }
        depth < 0
    });
    let Some((at, '[')) = opening else { return false };
    if ["\"-", "'-"].iter().any(|it| before[at..].contains(it)) {
        return false;
    }
    let after = text[span.range().end..].trim_start();
    let more = after.strip_prefix(',').is_some_and(|it| !it.trim_start().starts_with(']'));
    more || before[at..].trim_end().ends_with(',')
}

type Change = (Span, String);

/// Puts places together that stand in one list.
fn runs(project: &Project<'_>, places: Vec<(UnitId, Span)>) -> Vec<Vec<(UnitId, Span)>> {
    let mut runs: Vec<Vec<(UnitId, Span)>> = Vec::new();
    for place in places {
        let last = runs.last_mut().filter(|run| {
            run.last().is_some_and(|before| {
                let text = &project.unit(place.0).source.text;
                before.0 == place.0
                    && text.get(before.1.range().end..place.1.range().start).is_some_and(is_comma)
            })
        });
        match last {
            Some(run) => run.push(place),
            None => runs.push(vec![place]),
        }
    }
    runs
}

fn is_comma(between: &str) -> bool {
    between.trim() == ","
}

/// One ordinal beside others: the value of a key or of an argument.
fn one_of_several(
    source: &Source,
    span: Span,
    ordinal: i64,
    is_refused: bool,
) -> Option<Vec<Change>> {
    if ordinal == 0 {
        return Some(Vec::new());
    }
    let (before, after) =
        (source.text.get(..span.range().start)?, &source.text[span.range().end..]);
    let before = before.trim_end_matches(['"', '\'', '\\']).trim_end();
    // An arm of a condition, an item of a list in another style.
    let is_value = before.ends_with([':', '=', '(', '[', ',']);
    // Two keys of one dictionary would become the same.
    let is_key = after.trim_start().starts_with(':');
    (is_value && !is_key).then(|| zero(source, span, ordinal, is_refused).map(|it| vec![it]))?
}

/// `[0, 1]` becomes `[0]`, and so does `[1, 2]`.
fn one_of_list(
    source: &Source,
    spans: &[Span],
    ordinals: &[i64],
    is_refused: bool,
) -> Option<Vec<Change>> {
    let (first, last) = (spans.first()?, spans.last()?);
    let (before, after) = (&source.text[..first.range().start], &source.text[last.range().end..]);
    let after = after.trim_start().trim_start_matches(',').trim_start();
    if !before.trim_end().ends_with('[') || !after.starts_with(']') {
        return None;
    }
    let kept = ordinals.iter().position(|it| *it == 0).unwrap_or(0);
    let mut changes = Vec::new();
    if kept > 0 {
        changes.push((Span { start: first.start, end: spans[kept].start }, String::new()));
    }
    if ordinals[kept] != 0 {
        changes.push(zero(source, spans[kept], ordinals[kept], is_refused)?);
    }
    if spans[kept].end < last.end {
        changes.push((Span { start: spans[kept].end, end: last.end }, String::new()));
    }
    Some(changes)
}

/// A text `0,1` of an option or a setting becomes `0`.
fn first_of_text(source: &Source, span: Span, ordinals: &[&Named]) -> Option<Change> {
    // Libraries give such texts meanings of their own: for Lightning `"0"` is no GPU at all.
    if matches!(source.language, Language::Python | Language::Notebook) {
        return None;
    }
    let numbers: Vec<_> = ordinals.iter().map(|it| it.ordinal.to_string()).collect();
    let place = source.find_in(span, &numbers.join(","))?;
    Some((place, "0".to_owned()))
}

/// Writes 0 for the number in a place, or nothing with the colon in front.
fn zero(source: &Source, span: Span, ordinal: i64, is_refused: bool) -> Option<Change> {
    let text = source.slice(span);
    let start = span.range().start;
    let number = ordinal.to_string();
    let digits: Vec<usize> = text
        .match_indices(&number)
        .map(|it| it.0)
        .filter(|at| stands_alone(text, *at, number.len()))
        .collect();
    let of_device: Vec<usize> =
        digits.iter().copied().filter(|at| ends_device(text, *at, number.len())).collect();
    let place = |at: usize| Span::new(start + at, start + at + number.len());
    match (&*of_device, &*digits) {
        ([at], _) if is_refused => {
            Some((Span { start: place(*at).start - 1, ..place(*at) }, String::new()))
        }
        ([at], _) => Some((place(*at), "0".to_owned())),
        ([], [at]) if !is_refused && is_plain(text, *at, number.len()) => {
            Some((place(*at), "0".to_owned()))
        }
        _ => None,
    }
}

/// Whether digits are no part of a longer number or word.
fn stands_alone(text: &str, at: usize, len: usize) -> bool {
    let is_word = |it: char| it.is_alphanumeric() || it == '_' || it == '.';
    !text[..at].ends_with(is_word) && !text[at + len..].starts_with(is_word)
}

/// The digits of `cuda:1`, not the 1 of `/job:1/device:GPU:1`.
fn ends_device(text: &str, at: usize, len: usize) -> bool {
    let is_part = |it: char| it.is_alphanumeric() || matches!(it, ':' | '/' | '_');
    let start = text[..at].trim_end_matches(is_part).len();
    let end = at + len;
    !text[end..].starts_with(is_part) && device_text(&text[start..end]).is_some()
}

/// A number with nothing but its quotes around it, or behind the name of its option: no part of a sum.
fn is_plain(text: &str, at: usize, len: usize) -> bool {
    const QUOTES: [char; 3] = ['"', '\'', '\\'];
    let before = text[..at].trim_end_matches(QUOTES);
    let after = text[at + len..].trim_matches(QUOTES);
    let is_option = before.starts_with('-') && before.ends_with('=');
    after.trim().is_empty() && (before.trim().is_empty() || is_option)
}
