//! JSON settings, with comments where editors allow them. Some files are known by name: they start programs.

use jsonc_parser::{
    CollectOptions, CommentCollectionStrategy, ParseOptions, ParseResult, ast, parse_to_ast,
};

use super::{
    UnitBuilder,
    command::{self, Command},
    container::{self, Variable},
    dict, shell, suppress,
};
use crate::{
    span::{Positions, Span},
    unit::{Block, ChildEnvironment, Does, Step, Unread},
    value::{Spanned, Value},
};

#[cfg(test)]
mod tests;

/// Reads a settings file.
pub(crate) fn read(text: &str, at: &Positions, out: &mut UnitBuilder) -> Block {
    let Some(parsed) = parse(text, at, out) else { return Block::default() };
    suppressions(text, at, &parsed, out);
    let Some(root) = parsed.value else { return Block::default() };
    let root = value(root, at);
    let file = out.source().path.rsplit('/').next().unwrap_or_default().to_owned();
    let mut steps = Vec::new();
    match &*file {
        "launch.json" => launch(&root, out, &mut steps),
        "package.json" => scripts(&root, out, &mut steps),
        "devcontainer.json" | ".devcontainer.json" => dev_container(&root, out, &mut steps),
        _ => dict::settings(&root, out, &mut steps),
    }
    Block(steps)
}

/// Parses a text, or notes why it is no JSON.
pub(super) fn parse<'t>(
    text: &'t str,
    at: &Positions,
    out: &mut UnitBuilder,
) -> Option<ParseResult<'t>> {
    let collect = CollectOptions { comments: CommentCollectionStrategy::Separate, tokens: false };
    match parse_to_ast(text, &collect, &ParseOptions::default()) {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            let range = error.range();
            let (start, end) =
                (whole_character(text, range.start), whole_character(text, range.end));
            let place = at.span(start..end.max(start));
            out.unread(Unread::Everything, place, error.kind().to_string());
            None
        }
    }
}

/// The texts of a list of strings at the start of a text. `None` when it is anything else.
pub(super) fn string_list(text: &str, at: &Positions) -> Option<Vec<Spanned>> {
    let end = text.rfind(']')? + 1;
    let options = ParseOptions { allow_single_quoted_strings: false, ..ParseOptions::default() };
    let parsed = parse_to_ast(text.get(..end)?, &CollectOptions::default(), &options).ok()?;
    match value(parsed.value?, at).value {
        Value::List(items) => {
            items.iter().all(|it| matches!(it.value, Value::Str(_))).then_some(items)
        }
        _ => None,
    }
}

fn whole_character(text: &str, offset: usize) -> usize {
    (0..=offset.min(text.len())).rev().find(|it| text.is_char_boundary(*it)).unwrap_or(0)
}

fn suppressions(text: &str, at: &Positions, parsed: &ParseResult<'_>, out: &mut UnitBuilder) {
    let comments = parsed.comments.iter().flat_map(|it| it.values()).flat_map(|it| it.iter());
    let mut ranges: Vec<_> = comments
        .map(|it| match it {
            ast::Comment::Line(it) => it.range,
            ast::Comment::Block(it) => it.range,
        })
        .map(|it| it.start..it.end)
        .collect();
    ranges.sort_unstable_by_key(|it| it.start);
    // A comment is kept twice: for what stands before and for what stands after it.
    ranges.dedup();
    out.suppressions(ranges.into_iter().filter_map(|it| suppress::comment(text, it, at)));
}

/// The tree as values. The parser limits its depth.
fn value(node: ast::Value<'_>, at: &Positions) -> Spanned {
    let span = |it: jsonc_parser::common::Range| at.span(it.start..it.end);
    match node {
        ast::Value::StringLit(it) => {
            Spanned::new(Value::Str(it.value.into_owned()), span(it.range))
        }
        ast::Value::NumberLit(it) => Spanned::new(number(it.value), span(it.range)),
        ast::Value::BooleanLit(it) => Spanned::new(Value::Bool(it.value), span(it.range)),
        ast::Value::NullKeyword(it) => Spanned::new(Value::None, span(it.range)),
        ast::Value::Array(it) => {
            let items = it.elements.into_iter().map(|it| value(it, at)).collect();
            Spanned::new(Value::List(items), span(it.range))
        }
        ast::Value::Object(it) => {
            let entries = it.properties.into_iter().map(|it| {
                let (key, place) = match it.name {
                    ast::ObjectPropName::String(it) => (it.value.into_owned(), it.range),
                    ast::ObjectPropName::Word(it) => (it.value.to_owned(), it.range),
                };
                (Spanned::new(Value::Str(key), span(place)), value(it.value, at))
            });
            Spanned::new(Value::Dict(entries.collect()), span(it.range))
        }
    }
}

fn number(text: &str) -> Value {
    match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(number), _) => Value::Int(number),
        (_, Ok(number)) => Value::Float(number),
        _ => Value::Unknown,
    }
}

/// The variables of an `env` object.
fn variables(object: Option<&Spanned>) -> Vec<Variable> {
    let entries = object.map(dict::entries).unwrap_or_default();
    let one = |entry: &(Spanned, Spanned)| {
        let value = match &entry.1.value {
            Value::Str(text) if text.contains("${") => Value::Unknown,
            Value::Str(_) => entry.1.value.clone(),
            Value::Int(number) => Value::Str(number.to_string()),
            _ => return None,
        };
        Some(Variable {
            span: dict::entry_span(entry),
            name: command::text(&entry.0)?.to_owned(),
            name_span: entry.0.span,
            value: Spanned::new(value, entry.1.span),
        })
    };
    entries.iter().filter_map(one).collect()
}

/// VS Code's debug configurations: each is a program with its environment.
fn launch(root: &Spanned, out: &mut UnitBuilder, steps: &mut Vec<Step>) {
    out.unit().entry.started_as_is = true;
    for configuration in dict::get(root, "configurations").map(dict::items).unwrap_or_default() {
        let text = |key| dict::get(configuration, key).and_then(command::text);
        let outer = out.enter_service(text("name").map(str::to_owned));
        let mut inner = Vec::new();
        if let (Some(file), Some(word)) = (text("envFile"), dict::get(configuration, "envFile")) {
            let does = Does::LoadVariables { file: Some(in_workspace(file)), overrides: false };
            inner.push(out.event(word.span, does));
        }
        for variable in variables(dict::get(configuration, "env")) {
            inner.push(container::set_in_container(variable, out));
        }
        let mut words = vec![Spanned::new(Value::Str("python".to_owned()), configuration.span)];
        if let Some(module) = dict::get(configuration, "module") {
            words.push(Spanned::new(Value::Str("-m".to_owned()), module.span));
            words.push(module.clone());
        } else if let Some(program) = dict::get(configuration, "program") {
            let path = command::text(program).map(in_workspace);
            words.extend(path.map(|it| Spanned::new(Value::Str(it), program.span)));
        }
        words.extend(
            dict::get(configuration, "args").map(dict::items).unwrap_or_default().iter().cloned(),
        );
        // Other debuggers start other programs.
        let is_python = text("type").is_some_and(|it| matches!(it, "python" | "debugpy"));
        if is_python && words.len() > 1 {
            inner.extend(command::run(Command::new(configuration.span, words), out));
        }
        out.enter_service(outer);
        if !inner.is_empty() {
            steps.push(Step::Scope(Block(inner)));
        }
    }
}

/// A path as VS Code writes it.
fn in_workspace(path: &str) -> String {
    path.replace("${workspaceFolder}/", "").replace("${workspaceRoot}/", "")
}

/// npm scripts are shell lines.
fn scripts(root: &Spanned, out: &mut UnitBuilder, steps: &mut Vec<Step>) {
    for (_, script) in dict::get(root, "scripts").map(dict::entries).unwrap_or_default() {
        steps.extend(shell_line(script, out));
    }
}

/// A value that is a shell line of its own.
pub(super) fn shell_line(script: &Spanned, out: &mut UnitBuilder) -> Option<Step> {
    let text = command::text(script)?.to_owned();
    let at = command::positions(script, &text, out);
    let block = shell::read(&text, &at, out);
    (!block.0.is_empty()).then_some(Step::Scope(block))
}

/// What a development container asks `docker run` for.
fn dev_container(root: &Spanned, out: &mut UnitBuilder, steps: &mut Vec<Step>) {
    let word = |text: &str, span: Span| Spanned::new(Value::Str(text.to_owned()), span);
    let mut words = vec![word("docker", root.span), word("run", root.span)];
    let mut environment = variables(dict::get(root, "containerEnv"));
    environment.extend(variables(dict::get(root, "remoteEnv")));
    words.extend(dict::get(root, "runArgs").map(dict::items).unwrap_or_default().iter().cloned());
    words.push(word("devcontainer", Span { start: root.span.start, end: root.span.start }));
    let command = Command {
        span: dict::get(root, "runArgs").map_or(root.span, |it| it.span),
        words,
        environment: ChildEnvironment::Inherited(Vec::new()),
        directory: String::new(),
    };
    let outer = out.enter_service(Some("devcontainer".to_owned()));
    steps.extend(container::docker(&command, out).unwrap_or_default());
    for variable in environment {
        steps.push(container::set_in_container(variable, out));
    }
    out.enter_service(outer);
}
