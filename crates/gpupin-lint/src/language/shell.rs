//! Shell scripts, and shell text in other files: `run:`, `RUN`, recipes, `bash -c`.
//!
//! The grammar is tree-sitter's: it has a place for every token and gets over syntax errors. What counts:
//! settings reach children when they are exported; `a && b` runs both, since scripts are read as succeeding;
//! a test decides a branch; subshells, pipelines and substitutions keep their settings to themselves.
//! Text of here-documents is no code.

use std::collections::{HashMap, HashSet};

use tree_sitter::Node;

use super::{
    UnitBuilder,
    command::{self, Command},
    grammar, settings, suppress,
};
use crate::{
    span::{Positions, Span},
    unit::{
        Block, ChildEnvironment, Condition, Does, Leave, Reach, RemoveHow, RemoveVariable, SetHow,
        SetVariable, Step,
    },
    value::{Name, Spanned, Value},
};

mod flow;
mod survey;
#[cfg(test)]
mod tests;
mod words;

/// Reads a script.
pub(crate) fn read(text: &str, at: &Positions, out: &mut UnitBuilder) -> Block {
    let environment = ChildEnvironment::Inherited(Vec::new());
    read_within(text, at, &environment, out)
}

/// Reads a script whose every command starts with `environment`: `X=1 bash -c '…'`.
pub(crate) fn read_within(
    text: &str,
    at: &Positions,
    environment: &ChildEnvironment,
    out: &mut UnitBuilder,
) -> Block {
    if !out.descend() {
        return Block::default();
    }
    let mut block = Block::default();
    if let Some(tree) = grammar::parse(text, &tree_sitter_bash::LANGUAGE.into()) {
        let names = survey::survey(tree.root_node(), text, at, out);
        let mut shell = Shell {
            text,
            at,
            out,
            environment: environment.clone(),
            names,
            assigned: HashMap::new(),
            exported: HashSet::new(),
            undo: Vec::new(),
            exports_all: false,
            directory: String::new(),
            pending: Vec::new(),
            inside: 0,
            subshells: 0,
            functions: 0,
        };
        shell.statements(tree.root_node(), &mut block.0);
    }
    out.ascend();
    block
}

/// How deep statements may nest.
const DEEPEST: u32 = 150;

struct Shell<'a> {
    text: &'a str,
    at: &'a Positions,
    out: &'a mut UnitBuilder,
    /// What every command starts with.
    environment: ChildEnvironment,
    names: survey::Names,
    /// The last value each variable was given.
    assigned: HashMap<String, Spanned>,
    exported: HashSet<String>,
    /// What assignments inside subshells and functions replaced: name, value, whether it was exported.
    undo: Vec<(String, Option<Spanned>, bool)>,
    /// After `set -a`.
    exports_all: bool,
    directory: String,
    /// Steps of substitutions inside the statement being read; they run before it.
    pending: Vec<Step>,
    inside: u32,
    subshells: u32,
    functions: u32,
}

impl Shell<'_> {
    fn span(&self, node: Node<'_>) -> Span {
        self.at.span(grammar::range(node, self.text))
    }

    fn slice(&self, node: Node<'_>) -> &str {
        &self.text[grammar::range(node, self.text)]
    }

    fn statements(&mut self, parent: Node<'_>, steps: &mut Vec<Step>) {
        let mut cursor = parent.walk();
        for child in parent.named_children(&mut cursor) {
            self.statement(child, steps);
        }
    }

    fn statement(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        if self.inside >= DEEPEST {
            return;
        }
        self.inside += 1;
        match node.kind() {
            "command" => self.command(node, steps),
            "variable_assignment" => self.assignment(node, false, steps),
            "variable_assignments" => {
                let mut cursor = node.walk();
                for child in node.named_children(&mut cursor) {
                    self.assignment(child, false, steps);
                }
            }
            "declaration_command" => self.declaration(node, steps),
            "unset_command" => self.unset(node, steps),
            // Words never run; substitutions in them are read with their command.
            "comment" | "word" | "string" | "raw_string" | "concatenation" => {}
            _ => self.compound(node, steps),
        }
        self.inside -= 1;
    }

    /// Gives a variable a value, or takes it away.
    fn assign(&mut self, name: &str, value: Option<Spanned>, export: Option<bool>) {
        let before = match value {
            Some(value) => self.assigned.insert(name.to_owned(), value),
            None if export == Some(false) => self.assigned.remove(name),
            None => self.assigned.get(name).cloned(),
        };
        let was_exported = self.exported.contains(name);
        match export {
            Some(true) if !was_exported => {
                self.exported.insert(name.to_owned());
            }
            Some(false) => {
                self.exported.remove(name);
            }
            _ => {}
        }
        if self.subshells + self.functions > 0 {
            self.undo.push((name.to_owned(), before, was_exported));
        }
    }

    /// Takes assignments back, to where the log had `mark` entries.
    fn take_back(&mut self, mark: usize) {
        while self.undo.len() > mark {
            let Some((name, value, exported)) = self.undo.pop() else { return };
            if exported {
                self.exported.insert(name.clone());
            } else {
                self.exported.remove(&name);
            }
            match value {
                Some(value) => self.assigned.insert(name, value),
                None => self.assigned.remove(&name),
            };
        }
    }

    fn flush(&mut self, steps: &mut Vec<Step>) {
        steps.append(&mut self.pending);
    }

    fn command(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        let mut environment = self.environment.clone();
        let mut words = Vec::new();
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            match child.kind() {
                "variable_assignment" => {
                    if let Some((name, _, value)) = self.assigned_value(child) {
                        command::set(&mut environment, name, value);
                    }
                }
                "command_name" => words.extend(child.named_child(0).map(|it| self.word(it))),
                "file_redirect" | "herestring_redirect" | "heredoc_redirect" | "comment" => {}
                _ => words.push(self.word(child)),
            }
        }
        self.flush(steps);
        let span = self.span(node);
        let Some(name) = words.first().and_then(command::text).map(str::to_owned) else {
            // `$PYTHON x.py`, or nothing but settings.
            let command = Command { span, words, environment, directory: self.directory.clone() };
            steps.extend(command::run(command, self.out));
            return;
        };
        if let Some(path) = self.names.functions.get(&name) {
            steps.push(Step::Call(Name::here(path.clone()), span));
            return;
        }
        let second = words.get(1).and_then(command::text).map(str::to_owned);
        match &*name {
            "set" => self.set_options(&words),
            "cd" | "pushd" => self.change_directory(second),
            "source" | "." => self.source(span, second, steps),
            "eval" => self.eval(&words, steps),
            "export" | "declare" | "typeset" => {
                // The grammar takes these as commands when they stand behind `command` or a quoted name.
                for word in &words[1..] {
                    self.export_word(word, steps);
                }
            }
            "exit" if self.subshells == 0 => steps.push(Step::Leave(Leave::Exit)),
            "return" => steps.push(Step::Leave(Leave::Return)),
            _ => {
                let is_exec = name == "exec" && words.len() > 1;
                let directory = self.directory.clone();
                let command = Command { span, words, environment, directory };
                steps.extend(command::run(command, self.out));
                if is_exec && self.subshells == 0 {
                    steps.push(Step::Leave(Leave::Exit));
                }
            }
        }
    }

    fn set_options(&mut self, words: &[Spanned]) {
        let mut option_follows = None;
        for word in words[1..].iter().filter_map(command::text) {
            if let Some(on) = option_follows.take() {
                if word == "allexport" {
                    self.exports_all = on;
                }
                continue;
            }
            let on = word.starts_with('-');
            if !on && !word.starts_with('+') {
                return;
            }
            if word.contains('a') && !word.starts_with("--") {
                self.exports_all = on;
            }
            if word.ends_with('o') {
                option_follows = Some(on);
            }
        }
    }

    fn change_directory(&mut self, path: Option<String>) {
        self.directory = match path {
            Some(path) if path == "-" || path.contains("..") => String::new(),
            // An absolute directory of a script is nowhere in the project that we could tell.
            Some(path) if path.starts_with(['/', '~', '-']) => String::new(),
            Some(path) => {
                let path = path.trim_end_matches('/');
                if path == "." {
                    return;
                }
                command::join(&self.directory, path)
            }
            None => String::new(),
        };
    }

    fn source(&mut self, span: Span, file: Option<String>, steps: &mut Vec<Step>) {
        let Some(file) = file.filter(|it| !it.ends_with("activate")) else { return };
        let file = Some(command::join(&self.directory, &file));
        steps.push(self.out.event(span, Does::LoadVariables { file, overrides: true }));
    }

    fn eval(&mut self, words: &[Spanned], steps: &mut Vec<Step>) {
        let [_, script] = words else { return };
        let Value::Str(script_text) = &script.value else { return };
        let at = command::positions(script, script_text, self.out);
        let block = read_within(script_text, &at, &self.environment, self.out);
        steps.extend(block.0);
    }

    /// Name, its place, and the value of an assignment.
    fn assigned_value(&mut self, node: Node<'_>) -> Option<(String, Span, Spanned)> {
        let name = node.child_by_field_name("name").filter(|it| it.kind() == "variable_name")?;
        let value = if let Some(value) = node.child_by_field_name("value") {
            self.word(value)
        } else {
            let end = grammar::range(node, self.text).end;
            Spanned::new(Value::Str(String::new()), self.at.span(end..end))
        };
        Some((self.slice(name).to_owned(), self.span(name), value))
    }

    fn assignment(&mut self, node: Node<'_>, export: bool, steps: &mut Vec<Step>) {
        let Some((name, name_span, value)) = self.assigned_value(node) else { return };
        self.flush(steps);
        if export {
            self.assign(&name, None, Some(true));
        }
        let keeps_old = words::falls_back_from(node, &name, self.text);
        let how = if keeps_old { SetHow::IfUnset } else { SetHow::Assign };
        self.set(self.span(node), name, name_span, value, how, steps);
    }

    fn set(
        &mut self,
        span: Span,
        name: String,
        name_span: Span,
        value: Spanned,
        how: SetHow,
        steps: &mut Vec<Step>,
    ) {
        self.assign(&name, Some(value.clone()), None);
        let exported = self.exports_all || self.exported.contains(&name);
        let reach = if exported { Reach::Process } else { Reach::ShellOnly };
        if exported || settings::names_variable(&name) {
            let does = Does::SetVariable(SetVariable { name, name_span, value, how, reach });
            steps.push(self.out.event(span, does));
        }
    }

    /// `export A=1 B`, `declare -x A=1`, `local A=1`.
    fn declaration(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        let mut cursor = node.walk();
        let mut export = node.child(0).is_some_and(|it| it.kind() == "export");
        for child in node.named_children(&mut cursor) {
            match child.kind() {
                "word" => match self.slice(child) {
                    "-n" | "+x" => return,
                    flags if flags.starts_with('-') => export |= flags.contains('x'),
                    _ => {}
                },
                "variable_assignment" => self.assignment(child, export, steps),
                "variable_name" if export => {
                    let name = self.slice(child).to_owned();
                    self.export(self.span(node), &name, self.span(child), steps);
                }
                "string" | "raw_string" | "concatenation" if export => {
                    let word = self.word(child);
                    self.export_word(&word, steps);
                }
                _ => {}
            }
        }
        self.flush(steps);
    }

    /// `export X` after `X=1`.
    fn export(&mut self, span: Span, name: &str, name_span: Span, steps: &mut Vec<Step>) {
        if self.exported.contains(name) {
            return;
        }
        self.assign(name, None, Some(true));
        if let Some(value) = self.assigned.get(name).cloned() {
            self.set(span, name.to_owned(), name_span, value, SetHow::Assign, steps);
        }
    }

    /// `export "X=1"`.
    fn export_word(&mut self, word: &Spanned, steps: &mut Vec<Step>) {
        if let Some((name, value)) = command::assignment(word, self.out) {
            self.assign(&name, None, Some(true));
            self.set(word.span, name, word.span, value, SetHow::Assign, steps);
        }
    }

    fn unset(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            if !matches!(child.kind(), "variable_name" | "word") {
                continue;
            }
            let name = self.slice(child).to_owned();
            if name.starts_with('-') {
                continue;
            }
            self.assign(&name, None, Some(false));
            let does = Does::RemoveVariable(RemoveVariable { name, how: RemoveHow::Remove });
            steps.push(self.out.event(self.span(node), does));
        }
    }
}
