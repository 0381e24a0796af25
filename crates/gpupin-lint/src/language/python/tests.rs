//! Test support: a text is read, and what came out is written down in a few words per line.

use std::fmt::Write as _;

use crate::{
    language::UnitBuilder,
    source::{Charset, Encoding, Language},
    span::Positions,
    unit::{
        Asks, Block, ChildEnvironment, Condition, Does, Leave, Outcome, Purpose, RemoveHow, SetHow,
        Step, Sureness, Unit,
    },
    value::{Name, Root, Spanned, Value},
};

mod calls;
mod checks;
mod children;
mod environment;
mod flow;
mod marks;
mod notebooks;
mod robustness;
mod texts;
mod values;

pub(super) fn unit_at(path: &str, text: &str) -> Unit {
    let encoding = Encoding { byte_order_mark: false, charset: Charset::Utf8 };
    let mut out = UnitBuilder::new(path, Language::Python, encoding, text.to_owned());
    let body = super::read(text, &Positions::identity(), &mut out);
    out.finish(body)
}

/// Reads `text` and compares what happens, in order, with `expected`.
#[track_caller]
pub(super) fn check(text: &str, expected: &str) {
    check_at("app/main.py", text, expected);
}

#[track_caller]
pub(super) fn check_at(path: &str, text: &str, expected: &str) {
    let unit = unit_at(path, text);
    assert_eq!(dump(&unit).trim(), unindented(expected).trim(), "in\n{text}");
    assert_places(&unit);
}

/// Every place lies in the file, and on whole characters.
#[track_caller]
pub(super) fn assert_places(unit: &Unit) {
    let text = &unit.source.text;
    let spans = unit.events.iter().map(|it| it.span).chain(unit.possible.iter().copied());
    for span in spans.chain(unit.suppressions.iter().flat_map(|it| [it.span, it.covers])) {
        assert!(text.get(span.range()).is_some(), "{span:?} is no place in\n{text}");
    }
}

/// What a unit says: its body, then its functions, then events that no step reaches.
pub(super) fn dump(unit: &Unit) -> String {
    let mut seen = vec![false; unit.events.len()];
    let mut text = String::new();
    block(unit, &unit.body, 0, &mut seen, &mut text);
    for (path, function) in &unit.functions {
        let mut inner = String::new();
        block(unit, &function.body, 1, &mut seen, &mut inner);
        let outside = if function.called_from_outside { " (from outside)" } else { "" };
        if !inner.is_empty() || function.called_from_outside {
            let _ = writeln!(text, "def {path}{outside}:\n{}", inner.trim_end());
        }
    }
    for (event, seen) in unit.events.iter().zip(&seen) {
        if !seen {
            let _ = writeln!(text, "loose: {}", does(unit, &event.does));
        }
    }
    text.lines().filter(|it| !it.trim().is_empty()).fold(String::new(), |text, it| text + it + "\n")
}

fn block(unit: &Unit, steps: &Block, depth: usize, seen: &mut [bool], text: &mut String) {
    let indent = "  ".repeat(depth);
    let inner = |title: &str, steps: &Block, seen: &mut [bool], text: &mut String| {
        let _ = writeln!(text, "{indent}{title}");
        block(unit, steps, depth + 1, seen, text);
    };
    for step in &steps.0 {
        match step {
            Step::Event(id) => {
                seen[id.0 as usize] = true;
                let event = &unit.events[id.0 as usize];
                let _ = writeln!(text, "{indent}{}", does(unit, &event.does));
            }
            Step::Import(it) => {
                let names = if it.names.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", it.names.join(", "))
                };
                let _ = writeln!(text, "{indent}module {}{names}", name(&it.module));
            }
            Step::Call(it, _) => {
                let _ = writeln!(text, "{indent}call {}", name(it));
            }
            Step::Branch(condition, arms) => {
                for (at, arm) in arms.iter().enumerate() {
                    let title = match (at, condition) {
                        (0, Condition::Unknown) => "if".to_owned(),
                        (0, condition) => format!("if {condition:?}"),
                        _ => "else".to_owned(),
                    };
                    if !(at > 0 && arm.0.is_empty()) {
                        inner(&title, arm, seen, text);
                    }
                }
            }
            Step::Try { body, handlers } => {
                inner("try", body, seen, text);
                for handler in handlers {
                    inner("except", handler, seen, text);
                }
            }
            Step::Loop(body) => inner("loop", body, seen, text),
            Step::Main(body) => inner("main", body, seen, text),
            Step::Scope(body) => inner("scope", body, seen, text),
            Step::Leave(it) => {
                let word = match it {
                    Leave::Return => "return",
                    Leave::Raise => "raise",
                    Leave::Exit => "exit",
                };
                let _ = writeln!(text, "{indent}{word}");
            }
        }
    }
}

fn does(unit: &Unit, does: &Does) -> String {
    match does {
        Does::SetVariable(it) => {
            let how = match it.how {
                SetHow::Assign => "set",
                SetHow::IfUnset => "default",
                SetHow::Putenv => "putenv",
                SetHow::Temporary => "set for now",
                SetHow::Persistent => "set for later",
            };
            assert!(
                unit.source.slice(it.name_span).contains(&it.name),
                "the place of `{}` is `{}`",
                it.name,
                unit.source.slice(it.name_span),
            );
            format!("{how} {} = {}", it.name, value(&it.value.value))
        }
        Does::RemoveVariable(it) => match it.how {
            RemoveHow::Remove => format!("remove {}", it.name),
            RemoveHow::Temporary => format!("remove for now {}", it.name),
        },
        Does::ReplaceEnvironment { keeps, inherits } => {
            let inherits = if *inherits { " +" } else { "" };
            format!("replace environment{inherits} {}", sets(keeps)).trim_end().to_owned()
        }
        Does::LoadVariables { file, overrides } => {
            let file = file.as_deref().unwrap_or("default");
            format!("load {file}{}", if *overrides { " over" } else { "" })
        }
        Does::ImportLibrary(it) => format!("library {}", it.module),
        Does::Freeze(it) => {
            let sure = if it.sure == Sureness::Sure { "freeze" } else { "may freeze" };
            format!("{sure} {}", it.by)
        }
        Does::Choose(it) => {
            let ordinals: Vec<_> = it.ordinals.iter().map(|it| value(&it.value)).collect();
            let word = match it.purpose {
                Purpose::Choose => "choose",
                Purpose::Query => "query",
                Purpose::Setting => "setting",
            };
            let numbering = match it.numbering {
                crate::catalogue::Numbering::Ordinal => String::new(),
                other => format!(" in {other:?}"),
            };
            let guard = it.only_with_more_than.map_or_else(String::new, |it| format!(" if >{it}"));
            format!("{word} {} {}{numbering}{guard}", it.by, ordinals.join(" "))
        }
        Does::Spread(it) => {
            format!("spread {}{}", it.by, it.count.map_or_else(String::new, |it| format!(" {it}")))
        }
        Does::Start(it) => {
            format!("start {:?} {}", it.runs, environment(&it.environment)).trim_end().to_owned()
        }
        Does::Check(it) => {
            let asks: Vec<_> = it.asks.iter().map(asks).collect();
            let word = if it.outcome == Outcome::Fails { "check" } else { "look" };
            format!("{word} {}", asks.join(", "))
        }
        Does::CpuFallback(it) => format!("fallback {}", it.kind),
        Does::AccumulateGraph { target, value, .. } => format!("accumulate {target} {value}"),
        Does::ContainerGpus(it) => format!("container {:?}", it.request),
        Does::Gpupin => "gpupin".to_owned(),
    }
}

fn asks(it: &Asks) -> String {
    match it {
        Asks::Available => "available".to_owned(),
        Asks::Count { .. } => "count".to_owned(),
        Asks::Name { ordinal, texts, exact } => {
            let ordinal = ordinal.map_or_else(|| "current".to_owned(), |it| it.to_string());
            format!("name of {ordinal}{} {texts:?}", if *exact { " is" } else { "" })
        }
        Asks::Identity => "identity".to_owned(),
        Asks::Capability { at_least } => format!("capability {at_least:?}"),
        Asks::Memory { at_least } => format!("memory {at_least:?}"),
    }
}

fn environment(it: &ChildEnvironment) -> String {
    match it {
        ChildEnvironment::Inherited(set) if set.is_empty() => String::new(),
        ChildEnvironment::Inherited(set) => format!("+ {}", sets(set)),
        ChildEnvironment::Only(set) => format!("only {}", sets(set)),
        ChildEnvironment::Without { removed, set } => {
            format!("without {} + {}", removed.join(" "), sets(set))
        }
        ChildEnvironment::Unknown => "unknown environment".to_owned(),
    }
}

fn sets(set: &[(String, Spanned)]) -> String {
    let set: Vec<_> = set.iter().map(|(name, it)| format!("{name}={}", value(&it.value))).collect();
    set.join(" ")
}

pub(super) fn value(it: &Value) -> String {
    let all =
        |items: &[Spanned]| items.iter().map(|it| value(&it.value)).collect::<Vec<_>>().join(", ");
    match it {
        Value::None => "None".to_owned(),
        Value::Bool(it) => it.to_string(),
        Value::Int(it) => it.to_string(),
        Value::Float(it) => format!("{it:?}"),
        Value::Str(it) => format!("{it:?}"),
        Value::List(items) => format!("[{}]", all(items)),
        Value::Dict(items) => {
            let items =
                items.iter().map(|(a, b)| format!("{}: {}", value(&a.value), value(&b.value)));
            format!("{{{}}}", items.collect::<Vec<_>>().join(", "))
        }
        Value::Text(parts) => {
            format!("({})", parts.iter().map(value).collect::<Vec<_>>().join(" + "))
        }
        Value::Name(it) => name(it),
        Value::ByDefault(it) => format!("{} by default", value(&it.value)),
        Value::Variable(it) => format!("${it}"),
        Value::OneOf(items) => format!("one of {}", all(items)),
        Value::NvmlIndex => "nvml".to_owned(),
        Value::Unknown => "?".to_owned(),
    }
}

fn name(it: &Name) -> String {
    match &it.root {
        Root::Here => format!("here:{}", it.path),
        Root::Absolute => it.path.clone(),
        Root::Directory(directory) => format!("{directory}/:{}", it.path),
    }
}

/// Takes the indentation of the first line off every line.
fn unindented(text: &str) -> String {
    let first = text.lines().find(|it| !it.trim().is_empty()).unwrap_or_default();
    let indent = first.len() - first.trim_start().len();
    text.lines()
        .map(|it| it.get(indent..).unwrap_or(""))
        .fold(String::new(), |text, it| text + it + "\n")
}
