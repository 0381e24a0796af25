//! TOML settings. Project files also declare console scripts and tasks.

use ::toml::de::{DeTable, DeValue};

use super::{
    UnitBuilder, command,
    container::{self, Variable},
    dict,
    json::shell_line,
    settings, suppress,
};
use crate::{
    span::{Positions, Span},
    unit::{Block, ConsoleScript, Step, Unread},
    value::{Spanned, Value},
};

#[cfg(test)]
mod tests;

/// Reads a settings file.
pub(crate) fn read(text: &str, at: &Positions, out: &mut UnitBuilder) -> Block {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors.iter().take(10) {
        let range = error.span().unwrap_or_default();
        let place =
            if text.get(range.clone()).is_some() { at.span(range) } else { Span::default() };
        out.unread(Unread::Part, place, error.message().to_owned());
    }
    let mut strings = Vec::new();
    let root = converted(table.get_ref(), text, at, &mut strings);
    let root = Spanned::new(root, at.span(0..text.len()));
    strings.sort_unstable();
    let inside = |offset: usize| {
        let behind = strings.partition_point(|it| it.0 <= offset);
        behind > 0 && offset < strings[behind - 1].1
    };
    out.suppressions(suppress::scan(text, at, &["#"], inside));

    let mut steps = Vec::new();
    for path in
        [&["project", "scripts"][..], &["project", "gui-scripts"], &["tool", "poetry", "scripts"]]
    {
        for entry in dict::at_path(&root, path).map(dict::entries).unwrap_or_default() {
            console_script(entry, out);
        }
    }
    tasks(&root, out, &mut steps);
    test_environment(&root, out, &mut steps);
    other_settings(&root, out, &mut steps);
    out.unit().entry.started_as_is = steps.iter().any(|it| matches!(it, Step::Scope(_)));
    Block(steps)
}

/// The table as values, in the order of the file.
fn converted(
    table: &DeTable<'_>,
    text: &str,
    at: &Positions,
    strings: &mut Vec<(usize, usize)>,
) -> Value {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|it| it.0.span().start);
    let entries = entries.into_iter().map(|(key, inner)| {
        let name = Spanned::new(Value::Str(key.get_ref().to_string()), at.span(key.span()));
        (name, value(inner, text, at, strings))
    });
    Value::Dict(entries.collect())
}

/// The parser limits the depth.
fn value(
    node: &::toml::Spanned<DeValue<'_>>,
    text: &str,
    at: &Positions,
    strings: &mut Vec<(usize, usize)>,
) -> Spanned {
    let range = node.span();
    let value = match node.get_ref() {
        DeValue::String(it) => {
            strings.push((range.start, range.end));
            Value::Str(it.to_string())
        }
        DeValue::Integer(it) => i64::from_str_radix(&it.as_str().replace('_', ""), it.radix())
            .map_or(Value::Unknown, Value::Int),
        DeValue::Float(it) => it.as_str().parse().map_or(Value::Unknown, Value::Float),
        DeValue::Boolean(it) => Value::Bool(*it),
        DeValue::Datetime(_) => Value::Unknown,
        DeValue::Array(it) => {
            Value::List(it.iter().map(|it| self::value(it, text, at, strings)).collect())
        }
        DeValue::Table(it) => converted(it, text, at, strings),
    };
    let range = if text.get(range.clone()).is_some() { range } else { 0..0 };
    Spanned::new(value, at.span(range))
}

/// `name = "package.module:function"`, perhaps with extras behind it.
fn console_script(entry: &(Spanned, Spanned), out: &mut UnitBuilder) {
    let target = command::text(&entry.1).or_else(|| {
        dict::get(&entry.1, "reference").or(dict::get(&entry.1, "callable")).and_then(command::text)
    });
    let (Some(name), Some(target)) = (command::text(&entry.0), target) else { return };
    let script = entry_point(name, target, dict::entry_span(entry));
    out.unit().console_scripts.push(script);
}

/// Takes `package.module:function [extra]` apart.
pub(super) fn entry_point(name: &str, target: &str, span: Span) -> ConsoleScript {
    let target = target.split('[').next().unwrap_or(target).trim();
    let (module, function) = match target.split_once(':') {
        Some((module, function)) => (module, Some(function.trim().to_owned())),
        None => (target, None),
    };
    let (name, module) = (name.trim().to_owned(), module.trim().to_owned());
    ConsoleScript { name, module, function, span }
}

/// Tables of tasks by the tool that runs them: a task is a command line, a list of them, or a table with one.
const TASKS: &[&[&str]] = &[
    &["tool", "poe", "tasks"],
    &["tool", "pdm", "scripts"],
    &["tool", "taskipy", "tasks"],
    &["tool", "pixi", "tasks"],
    &["tool", "rye", "scripts"],
    &["tasks"],
];

fn tasks(root: &Spanned, out: &mut UnitBuilder, steps: &mut Vec<Step>) {
    for (number, path) in TASKS.iter().enumerate() {
        // pixi's own file has its tasks at the top; elsewhere `[tasks]` may be anything.
        if number + 1 == TASKS.len() && !out.source().path.ends_with("pixi.toml") {
            continue;
        }
        for (_, task) in dict::at_path(root, path).map(dict::entries).unwrap_or_default() {
            run_task(task, None, out, steps);
        }
    }
    for (_, environment) in
        dict::at_path(root, &["tool", "hatch", "envs"]).map(dict::entries).unwrap_or_default()
    {
        let variables = dict::get(environment, "env-vars");
        for (_, task) in dict::get(environment, "scripts").map(dict::entries).unwrap_or_default() {
            run_task(task, variables, out, steps);
        }
    }
    for path in [&["tool", "tox", "env_run_base"][..], &["env_run_base"]] {
        let Some(environment) = dict::at_path(root, path) else { continue };
        for words in dict::get(environment, "commands").map(dict::items).unwrap_or_default() {
            let mut inner = set(dict::get(environment, "set_env"), out);
            let words = dict::items(words).to_vec();
            if let (Some(first), Some(last)) = (words.first(), words.last()) {
                let span = first.span.cover(last.span);
                inner.extend(command::run(command::Command::new(span, words), out));
            }
            push_scope(inner, steps);
        }
    }
}

fn run_task(
    task: &Spanned,
    variables: Option<&Spanned>,
    out: &mut UnitBuilder,
    steps: &mut Vec<Step>,
) {
    let line =
        ["cmd", "shell", "script", "command", "chain"].iter().find_map(|it| dict::get(task, it));
    let lines = match line.unwrap_or(task) {
        list if !dict::items(list).is_empty() => dict::items(list),
        one => std::slice::from_ref(one),
    };
    let mut commands = Vec::new();
    for line in lines {
        commands.extend(shell_line(line, out));
    }
    if commands.is_empty() {
        return;
    }
    let mut inner = set(dict::get(task, "env").or(variables), out);
    inner.append(&mut commands);
    push_scope(inner, steps);
}

fn push_scope(inner: Vec<Step>, steps: &mut Vec<Step>) {
    if !inner.is_empty() {
        steps.push(Step::Scope(Block(inner)));
    }
}

/// A table of variables.
fn set(variables: Option<&Spanned>, out: &mut UnitBuilder) -> Vec<Step> {
    let mut steps = Vec::new();
    for entry in variables.map(dict::entries).unwrap_or_default() {
        let text = match &entry.1.value {
            Value::Str(text) => text.clone(),
            Value::Int(number) => number.to_string(),
            _ => continue,
        };
        let Some(name) = command::text(&entry.0).map(str::to_owned) else { continue };
        let value = Spanned::new(Value::Str(text), entry.1.span);
        let (span, name_span) = (dict::entry_span(entry), entry.0.span);
        steps.push(container::set_in_container(Variable { span, name, name_span, value }, out));
    }
    steps
}

/// Settings that are not part of a task.
fn other_settings(root: &Spanned, out: &mut UnitBuilder, steps: &mut Vec<Step>) {
    let has_tasks = |tool: &str| {
        tool == "hatch" || tool == "tox" || TASKS.iter().any(|it| it.get(1) == Some(&tool))
    };
    for (key, value) in dict::entries(root) {
        if command::text(key) != Some("tool") {
            let entry = Spanned::new(Value::Dict(vec![(key.clone(), value.clone())]), root.span);
            dict::settings(&entry, out, steps);
            continue;
        }
        for (tool, settings) in dict::entries(value) {
            if !command::text(tool).is_some_and(has_tasks) {
                dict::settings(settings, out, steps);
            }
        }
    }
}

/// `env = ["X=1", "D:Y=2"]` of pytest-env.
fn test_environment(root: &Spanned, out: &mut UnitBuilder, steps: &mut Vec<Step>) {
    for path in [&["tool", "pytest", "ini_options", "env"][..], &["pytest", "env"]] {
        for item in dict::at_path(root, path).map(dict::items).unwrap_or_default() {
            let Some(text) = command::text(item) else { continue };
            steps.extend(settings::test_variable(text, item, out));
        }
    }
}
