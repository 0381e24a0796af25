//! Test support for readers: a unit as text.

use std::fmt::Write as _;

use crate::{
    language::read,
    unit::{Block, ChildEnvironment, Condition, Does, GpuRequest, Runs, Step, Unit},
    value::{Spanned, Value},
};

mod properties;

/// Reads `text` as the file `path` and compares what it does, in order, with `expected`.
///
/// Values are followed by the text of their span in `‹›` where that is not the plain value.
#[track_caller]
pub(crate) fn check(path: &str, text: &str, expected: &str) {
    let unit = read(path, text.as_bytes()).expect("a known language");
    assert_spans_hold(&unit);
    let trim = |it: &str| {
        let lines: Vec<_> = it.lines().map(str::trim_end).filter(|it| !it.is_empty()).collect();
        let indent = lines.iter().map(|it| it.len() - it.trim_start().len()).min().unwrap_or(0);
        lines.iter().map(|it| &it[indent..]).collect::<Vec<_>>().join("\n")
    };
    let (actual, expected) = (trim(&dump(&unit)), trim(expected));
    assert!(
        actual == expected,
        "of `{path}`\n{text}\n--- expected\n{expected}\n--- actual\n{actual}"
    );
}

/// Every place of a unit lies inside its file, between characters.
#[track_caller]
pub(crate) fn assert_spans_hold(unit: &Unit) {
    let text = &unit.source.text;
    let mut spans: Vec<_> = unit.events.iter().map(|it| it.span).collect();
    spans.extend(unit.suppressions.iter().flat_map(|it| [it.span, it.covers]));
    spans.extend(unit.suppressions.iter().flat_map(|it| &it.codes).map(|it| it.1));
    spans.extend(unit.syntax_errors.iter().map(|it| it.0));
    spans.extend(unit.console_scripts.iter().map(|it| it.span));
    for event in &unit.events {
        match &event.does {
            Does::SetVariable(set) => spans.extend([set.name_span, set.value.span]),
            Does::Start(start) => spans.extend(start.words.iter().map(|it| it.span)),
            Does::Choose(choice) => spans.extend(choice.ordinals.iter().map(|it| it.span)),
            Does::ContainerGpus(gpus) => {
                if let GpuRequest::Ids(ids) = &gpus.request {
                    spans.extend(ids.iter().map(|it| it.span));
                }
            }
            _ => {}
        }
    }
    for span in spans {
        assert!(text.get(span.range()).is_some(), "{span:?} of {} bytes:\n{text}", text.len());
    }
}

fn dump(unit: &Unit) -> String {
    let mut to = String::new();
    block(unit, &unit.body, 0, &mut to);
    for (path, function) in &unit.functions {
        let _ = writeln!(to, "fn {path}:");
        block(unit, &function.body, 1, &mut to);
    }
    for script in &unit.console_scripts {
        let function = script.function.as_deref().unwrap_or_default();
        let _ = writeln!(to, "console {} = {}:{function}", script.name, script.module);
    }
    for it in &unit.suppressions {
        let codes: Vec<_> = it.codes.iter().map(|it| &*it.0).collect();
        let _ = writeln!(to, "ignore {} in ‹{}›", codes.join(","), unit.source.slice(it.covers));
    }
    for (_, what) in &unit.syntax_errors {
        let _ = writeln!(to, "syntax: {what}");
    }
    if let Some(how_much) = unit.unread {
        let _ = writeln!(to, "unread: {how_much:?}");
    }
    to
}

fn block(unit: &Unit, steps: &Block, depth: usize, to: &mut String) {
    let pad = "  ".repeat(depth);
    for step in &steps.0 {
        match step {
            Step::Event(id) => {
                let event = &unit.events[id.0 as usize];
                let service =
                    event.service.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
                let _ = writeln!(to, "{pad}{}{service}", does(unit, &event.does));
            }
            Step::Import(import) => {
                let _ = writeln!(to, "{pad}import {}", import.module.path);
            }
            Step::Call(name, _) => {
                let _ = writeln!(to, "{pad}call {}", name.path);
            }
            Step::Branch(condition, arms) => {
                let condition = match condition {
                    Condition::VariableSet(name) => format!("{name} is set"),
                    Condition::Unknown => "?".to_owned(),
                    other => format!("{other:?}"),
                };
                let _ = writeln!(to, "{pad}if {condition}");
                for (at, arm) in arms.iter().enumerate() {
                    if at > 0 {
                        let _ = writeln!(to, "{pad}or");
                    }
                    block(unit, arm, depth + 1, to);
                }
            }
            Step::Try { body, handlers } => {
                let _ = writeln!(to, "{pad}try");
                block(unit, body, depth + 1, to);
                for handler in handlers {
                    let _ = writeln!(to, "{pad}catch");
                    block(unit, handler, depth + 1, to);
                }
            }
            Step::Loop(body) => {
                let _ = writeln!(to, "{pad}loop");
                block(unit, body, depth + 1, to);
            }
            Step::Main(body) => {
                let _ = writeln!(to, "{pad}main");
                block(unit, body, depth + 1, to);
            }
            Step::Scope(body) => {
                let _ = writeln!(to, "{pad}scope");
                block(unit, body, depth + 1, to);
            }
            Step::Leave(how) => {
                let _ = writeln!(to, "{pad}leave {how:?}");
            }
        }
    }
}

fn does(unit: &Unit, does: &Does) -> String {
    match does {
        Does::SetVariable(set) => {
            assert!(
                unit.source.slice(set.name_span).contains(&set.name)
                    || unit.source.language == crate::source::Language::Notebook,
                "the name's span shows `{}`, not `{}`",
                unit.source.slice(set.name_span),
                set.name
            );
            format!(
                "set {} = {} {:?} {:?}",
                set.name,
                spanned(unit, &set.value),
                set.how,
                set.reach
            )
        }
        Does::RemoveVariable(remove) => format!("unset {}", remove.name),
        Does::LoadVariables { file, .. } => format!("load {}", file.as_deref().unwrap_or("-")),
        Does::Choose(choice) => {
            let ordinals: Vec<_> = choice.ordinals.iter().map(|it| spanned(unit, it)).collect();
            format!(
                "choose {} {} {:?} {:?}",
                choice.by,
                ordinals.join(","),
                choice.numbering,
                choice.purpose
            )
        }
        Does::Start(start) => {
            let environment = match &start.environment {
                ChildEnvironment::Inherited(set) if set.is_empty() => String::new(),
                ChildEnvironment::Inherited(set) => format!(" with {}", pairs(unit, set)),
                ChildEnvironment::Only(set) => format!(" only {}", pairs(unit, set)),
                ChildEnvironment::Without { removed, set } => {
                    format!(" without {} {}", removed.join(","), pairs(unit, set))
                }
                ChildEnvironment::Unknown => " with ?".to_owned(),
            };
            format!("start {}{environment}", runs(&start.runs)).trim_end().to_owned()
        }
        Does::ContainerGpus(gpus) => {
            let request = match &gpus.request {
                GpuRequest::Ids(ids) => {
                    let ids: Vec<_> = ids.iter().map(|it| spanned(unit, it)).collect();
                    format!("ids {}", ids.join(","))
                }
                other => format!("{other:?}"),
            };
            let inspects = if gpus.only_inspects { " inspects" } else { "" };
            format!("gpus {request}{inspects}")
        }
        other => format!("{other:?}"),
    }
}

fn runs(runs_what: &Runs) -> String {
    match runs_what {
        Runs::Gpupin(inner) => format!("gpupin({})", runs(inner)),
        other => format!("{other:?}"),
    }
}

fn pairs(unit: &Unit, set: &[(String, Spanned)]) -> String {
    let pairs: Vec<_> =
        set.iter().map(|(name, it)| format!("{name}={}", spanned(unit, it))).collect();
    pairs.join(" ")
}

fn spanned(unit: &Unit, it: &Spanned) -> String {
    let shown = unit.source.slice(it.span);
    let plain = match &it.value {
        Value::Str(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        _ => String::new(),
    };
    let value = value(unit, &it.value);
    if plain == shown && !plain.is_empty() { value } else { format!("{value}‹{shown}›") }
}

fn value(unit: &Unit, it: &Value) -> String {
    match it {
        Value::Str(text) => format!("{text:?}"),
        Value::Int(number) => number.to_string(),
        Value::ByDefault(inner) => format!("default {}", spanned(unit, inner)),
        Value::Variable(name) => format!("${name}"),
        Value::OneOf(values) => {
            let values: Vec<_> = values.iter().map(|it| value(unit, &it.value)).collect();
            format!("one of [{}]", values.join(" "))
        }
        Value::Text(parts) => {
            let parts: Vec<_> = parts.iter().map(|it| value(unit, it)).collect();
            format!("text({})", parts.join(" "))
        }
        other => format!("{other:?}"),
    }
}
