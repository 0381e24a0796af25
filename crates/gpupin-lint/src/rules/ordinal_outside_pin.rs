use std::{cell::LazyCell, collections::BTreeSet};

use gpupin_policy::visibility::Environment;

use crate::{
    finding::{Edit, Finding, Safety, Severity},
    fix::reach,
    language::{python::layout::Layout, settings::device_text},
    meant::Meant,
    project::{Literal, Project},
    rules::{Check, Rule},
    source::{Language, Source},
    span::Span,
    unit::{Choice, Does, Purpose, UnitId},
};

mod edit;
mod needles;
#[cfg(test)]
mod tests;
mod uses;

use edit::edits;
use needles::NEEDLES;
use uses::{Named, Use, used_otherwise, uses, uses_in};

pub(super) const RULE: Rule = Rule {
    code: "GP201",
    name: "ordinal-outside-pin",
    severity: Severity::Error,
    default: true,
    docs: include_str!("ordinal_outside_pin.md"),
    needles: NEEDLES,
    check: Check::Project(check),
};

fn check(rule: &'static Rule, project: &Project<'_>, found: &mut Vec<Finding>) {
    let uses = uses(project);
    let refused = uses.iter().filter(|it| it.choice.refuses_number).flat_map(|it| &it.outside);
    let refused = Places(refused.map(|it| it.place).collect());
    let otherwise = LazyCell::new(|| Places(used_otherwise(project)));
    let mut reported = Places::default();
    // Work that goes astray first: a constant is reported where it does most harm, and once.
    for purpose in [Purpose::Choose, Purpose::Query, Purpose::Setting] {
        for used in uses.iter().filter(|it| it.choice.purpose == purpose) {
            let new: Vec<_> =
                used.outside.iter().map(|it| it.place).filter(|it| !reported.has(it)).collect();
            if !new.is_empty() {
                reported.0.extend(new);
                let is_refused = used.outside.iter().any(|it| refused.has(&it.place));
                let finding = finding(rule, project, used, is_refused);
                let is_shared = || elsewhere(used).iter().any(|it| otherwise.has(&it.place));
                found.push(match edits(project, used, is_refused) {
                    Some(edits) if !is_shared() => fixed(project, used, finding, is_refused, edits),
                    _ => finding,
                });
            }
        }
    }
}

/// Places of numbers. The digits of a text and the whole text are one place.
#[derive(Default)]
struct Places(BTreeSet<(UnitId, Span)>);

impl Places {
    fn has(&self, (unit, span): &(UnitId, Span)) -> bool {
        let of_unit = (*unit, Span::new(0, 0))..=(*unit, Span { start: span.end, end: u32::MAX });
        let mut nearby = self.0.range(of_unit).rev();
        nearby.any(|(_, other)| other.start < span.end && span.start < other.end)
    }
}

/// `is_refused` says that somebody gets the numbers who refuses any.
fn finding(
    rule: &'static Rule,
    project: &Project<'_>,
    used: &Use<'_>,
    is_refused: bool,
) -> Finding {
    let Use { unit, choice, meant, .. } = used;
    let mut finding = rule.finding(*unit, place(used), message(project, used));
    // Without a policy nobody has said that one of several GPUs is the wrong one.
    if choice.purpose != Purpose::Choose || !meant.is_declared() {
        finding = finding.as_warning();
    }
    if let Some(help) = help(choice, meant, is_refused) {
        finding = finding.with_help(help);
    }
    if let Some(Named { place: (at, span), .. }) = elsewhere(used).first() {
        finding = finding.with_related(*at, *span, "the number comes from here");
    }
    finding
}

/// Ordinals that do not stand where they are used.
fn elsewhere<'u>(used: &'u Use<'_>) -> Vec<&'u Named> {
    let stands_here = |it: &&Named| it.place.0 == used.unit && used.event.span.contains(it.place.1);
    used.outside.iter().filter(|it| !stands_here(it)).collect()
}

fn fixed(
    project: &Project<'_>,
    used: &Use<'_>,
    finding: Finding,
    is_refused: bool,
    edits: Vec<Edit>,
) -> Finding {
    let says_gpu = |it: &&Named| names_gpus(&project.unit(it.place.0).source, it.place.1);
    let safety = if is_beside_another(project, used) {
        Safety::Unsafe("work that the statement lays on several GPUs would share one".to_owned())
    } else if elsewhere(used).iter().all(says_gpu) {
        safety(project, used, &edits)
    } else {
        Safety::Unsafe("the number may be used for something else too".to_owned())
    };
    let title = if is_refused { "Say `cuda`" } else { "Use ordinal 0" };
    let mut rests_on = Vec::new();
    if safety != Safety::Safe {
        let units: BTreeSet<UnitId> = edits.iter().map(|it| it.unit).chain([used.unit]).collect();
        rests_on.extend(units.into_iter().flat_map(|it| reach::unpinned_readers(project, it)));
    }
    let title = format!("{title}, the pinned GPU");
    finding.with_fix(title, safety, edits).resting_on(rests_on)
}

fn safety(project: &Project<'_>, used: &Use<'_>, edits: &[Edit]) -> Safety {
    // With one GPU in the machine there is nothing else `cuda:0` could be.
    if used.meant.is_hit(project, &Environment::default()) {
        return Safety::Safe;
    }
    let mut units = edits.iter().map(|it| it.unit).chain([used.unit]);
    let read = units.try_for_each(|it| reach::where_read(project, it));
    reach::safety(read.map_err(|why| format!("ordinal 0 can be another GPU: {why}")))
}

/// A place of a file that names an ordinal which the pin leaves no room for, and that no safe fix corrects.
pub(crate) fn ordinal_without_fix(project: &Project<'_>, unit: UnitId) -> Option<Span> {
    let used = uses_in(project, unit);
    used.iter()
        .filter(|it| it.choice.purpose != Purpose::Setting)
        .find(|it| {
            edits(project, it, it.choice.refuses_number).is_none() || is_beside_another(project, it)
        })
        .map(|it| it.event.span)
}

/// Whether another GPU is chosen beside this one, in the same statement: work that was parted would meet on one GPU.
fn is_beside_another(project: &Project<'_>, used: &Use<'_>) -> bool {
    let unit = project.unit(used.unit);
    let place = used.event.span.range();
    let statement = match unit.source.language {
        Language::Python => Layout::of(&unit.source.text)
            .and_then(|it| it.around(&place).map(|it| it.range.clone()))
            .unwrap_or(place),
        _ => place,
    };
    let mut numbers: BTreeSet<i64> = BTreeSet::new();
    // A list is left with one GPU, which is what it says then.
    let is_list =
        |it: &Choice| it.ordinals.len() > 1 && unit.source.slice(used.event.span).contains('[');
    for event in unit.events.iter().filter(|it| {
        statement.start <= it.span.range().start && it.span.range().end <= statement.end
    }) {
        let Does::Choose(choice) = &event.does else { continue };
        if choice.purpose != Purpose::Choose || is_list(choice) {
            continue;
        }
        let known = choice.ordinals.iter().flat_map(|it| project.known(used.unit, it));
        numbers.extend(known.filter_map(|it| match it.literal {
            Literal::Int(number) => Some(number),
            _ => None,
        }));
    }
    numbers.len() > 1
}

/// Whether the line of a number, or of a text, says that it is about GPUs.
pub(crate) fn names_gpus(source: &Source, span: Span) -> bool {
    let start = source.text[..span.range().start].rfind('\n').map_or(0, |it| it + 1);
    let line = source.text[start..].lines().next().unwrap_or_default().to_ascii_lowercase();
    ["gpu", "cuda", "device"].iter().any(|it| line.contains(it))
}

/// What gives the ordinals, or the whole call where that stands elsewhere.
fn place(used: &Use<'_>) -> Span {
    let call = used.event.span;
    let spans = used.choice.ordinals.iter().map(|it| it.span);
    spans.reduce(Span::cover).filter(|it| call.contains(*it)).unwrap_or(call)
}

fn message(project: &Project<'_>, used: &Use<'_>) -> String {
    let Use { choice, meant, outside, .. } = used;
    let mut numbers: Vec<_> = outside.iter().map(|it| it.ordinal).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let by = unquoted(&choice.by);
    let (subject, is_one) = match &*numbers {
        _ if device_text(by).is_some() => (format!("`{by}`"), true),
        [one] => (format!("ordinal {one} of `{by}`"), true),
        several => (format!("ordinals {} of `{by}`", listed(several)), false),
    };
    let by_default = if outside.iter().all(|it| it.by_default) { "by default, " } else { "" };
    if !meant.is_declared() {
        let (picks, is) =
            if is_one { ("picks a GPU", "GPU is") } else { ("pick GPUs", "GPUs are") };
        return format!(
            "{by_default}{subject} {picks} by number, and no policy says which {is} meant"
        );
    }
    let verb = if is_one { "does" } else { "do" };
    let count = meant.count();
    let visible = match count {
        1 => "one GPU is visible".to_owned(),
        _ => format!("{count} GPUs are visible"),
    };
    let which = match meant.name(project) {
        Some(name) if count == 1 => format!(", `cuda:0` is the {name}"),
        _ => format!(", `cuda:0`{}", if count == 1 { "" } else { " and up" }),
    };
    format!("{by_default}{subject} {verb} not exist under the policy's pin: {visible}{which}")
}

/// What a text says that is one literal; anything else as it was written.
fn unquoted(by: &str) -> &str {
    let inner =
        |quote| by.strip_prefix(quote)?.strip_suffix(quote).filter(|it| !it.contains(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(by)
}

fn help(choice: &Choice, meant: &Meant<'_>, is_refused: bool) -> Option<String> {
    if is_refused {
        return Some(
            "this library takes `cuda` and fails for `cuda:N`: its numbers go to `device_index`"
                .to_owned(),
        );
    }
    if !meant.is_declared() {
        return Some("`gpupin init` declares the GPU; `count` is for more than one".to_owned());
    }
    if choice.by.to_ascii_lowercase().contains("xgboost") || choice.by.starts_with("XGB") {
        return Some(
            "XGBoost takes such an ordinal modulo the number of GPUs, without a word".to_owned(),
        );
    }
    (choice.purpose == Purpose::Setting)
        .then(|| "this is a setting: what becomes of the value is not seen".to_owned())
}

/// `1`, `1 and 2`, `1, 2 and 3`.
fn listed(numbers: &[i64]) -> String {
    let texts: Vec<_> = numbers.iter().map(i64::to_string).collect();
    match &*texts {
        [head @ .., last] if !head.is_empty() => format!("{} and {last}", head.join(", ")),
        _ => texts.concat(),
    }
}
