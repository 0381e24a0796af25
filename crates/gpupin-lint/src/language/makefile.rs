//! Makefiles: variables for every recipe, and recipes whose lines are shells of their own.

use std::collections::HashMap;

use super::{
    UnitBuilder,
    command::is_variable_name,
    lines::{Continuation, Joined, Line, lines},
    settings, shell, suppress,
};
use crate::{
    span::Positions,
    unit::{Block, Condition, Does, Reach, RemoveHow, RemoveVariable, SetHow, SetVariable, Step},
    value::{Spanned, Value},
};

mod expand;
#[cfg(test)]
mod tests;

/// Reads a makefile.
pub(crate) fn read(text: &str, at: &Positions, out: &mut UnitBuilder) -> Block {
    out.suppressions(suppress::scan(text, at, &["#"], |_| false));
    let how = Continuation { mark: '\\', skips_comments: false, kept: true };
    let lines = lines(text, at, how);
    let mut makefile = Makefile {
        source: text,
        at,
        variables: variables(&lines),
        exports_all: lines.iter().any(|it| it.text.trim() == "export"),
        one_shell: lines.iter().any(|it| it.text.starts_with(".ONESHELL")),
        globals: Vec::new(),
        conditions: Vec::new(),
        targets: Vec::new(),
        by_name: HashMap::new(),
        current: None,
    };
    let mut in_definition = false;
    for line in &lines {
        let first = line.text.split_whitespace().next().unwrap_or_default();
        if in_definition || first == "define" {
            in_definition = first != "endef";
            continue;
        }
        makefile.line(line, out);
    }
    makefile.finish(out)
}

/// A variable of make.
#[derive(Debug, Clone)]
pub(super) struct Variable {
    pub(super) value: String,
    /// Set with `?=`: who calls make may have said otherwise.
    pub(super) by_default: bool,
    pub(super) assignments: u32,
}

struct Makefile<'a> {
    source: &'a str,
    at: &'a Positions,
    variables: HashMap<String, Variable>,
    exports_all: bool,
    one_shell: bool,
    globals: Vec<Step>,
    /// Open `ifdef` and kin.
    conditions: Vec<Asked>,
    targets: Vec<Target>,
    by_name: HashMap<String, usize>,
    /// The target that recipe lines belong to.
    current: Option<usize>,
}

/// A conditional part of the file.
struct Asked {
    before: Vec<Step>,
    condition: Condition,
    negated: bool,
    /// The first arm, once `else` was seen.
    then: Option<Vec<Step>>,
}

#[derive(Default)]
struct Target {
    name: String,
    settings: Vec<Step>,
    /// Text of the recipe's lines with make's references replaced.
    recipe: Vec<Joined>,
}

/// `NAME op value` at the start of a line, behind `export`.
struct Assignment<'l> {
    exported: bool,
    name: &'l str,
    operator: &'l str,
    value: &'l str,
}

/// All assignments of the file, so that references are known.
fn variables(lines: &[Line]) -> HashMap<String, Variable> {
    let mut found: HashMap<String, Variable> = HashMap::new();
    for line in lines.iter().filter(|it| !it.text.starts_with('\t')) {
        let Some(assignment) = assignment(&line.text) else { continue };
        let entry = found.entry(assignment.name.to_owned()).or_insert_with(|| Variable {
            value: assignment.value.to_owned(),
            by_default: assignment.operator == "?=",
            assignments: 0,
        });
        entry.assignments += 1;
    }
    found
}

fn assignment(text: &str) -> Option<Assignment<'_>> {
    let mut body = text.trim_start();
    let mut exported = false;
    for keyword in ["export ", "override ", "private "] {
        if let Some(rest) = body.strip_prefix(keyword) {
            exported |= keyword == "export ";
            body = rest.trim_start();
        }
    }
    let equals = body.find('=')?;
    let mut name_end = equals;
    while name_end > 0 && matches!(body.as_bytes()[name_end - 1], b':' | b'?' | b'+' | b'!') {
        name_end -= 1;
    }
    let name = body[..name_end].trim();
    let value = body[equals + 1..].trim();
    let value = value.split(" #").next().unwrap_or(value).trim_end();
    is_variable_name(name).then_some(Assignment {
        exported,
        name,
        operator: &body[name_end..=equals],
        value,
    })
}

impl Makefile<'_> {
    fn line(&mut self, line: &Line, out: &mut UnitBuilder) {
        let text = &*line.text;
        if let Some(recipe) = text.strip_prefix('\t') {
            let start = line.range.start + 1;
            self.recipe(recipe, start, line.range.end);
            return;
        }
        let trimmed = text.trim();
        if trimmed.starts_with('#') || self.conditional(trimmed) {
            return;
        }
        if let Some(assignment) = assignment(text) {
            let step = self.assign(line, &assignment, out);
            self.globals.extend(step);
            return;
        }
        let (first, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
        match first {
            "export" => {
                for name in rest.split_whitespace().filter(|it| is_variable_name(it)) {
                    let step = self.export(line, name, out);
                    self.globals.extend(step);
                }
            }
            "unexport" => {
                for name in rest.split_whitespace() {
                    let does = RemoveVariable { name: name.to_owned(), how: RemoveHow::Remove };
                    let step = out.event(line.span_of(trimmed), Does::RemoveVariable(does));
                    self.globals.push(step);
                }
            }
            _ => self.target(line, trimmed, out),
        }
    }

    /// `target: prerequisites`, `target: export X = 1`, `target: ; recipe`.
    fn target(&mut self, line: &Line, text: &str, out: &mut UnitBuilder) {
        let Some((names, rest)) = text.split_once(':') else { return };
        let name = names.trim();
        let rest = rest.trim_start_matches(':').trim_start();
        if name.is_empty() || name.starts_with('.') {
            return;
        }
        let next = self.targets.len();
        let at = *self.by_name.entry(name.to_owned()).or_insert(next);
        if at == next {
            self.targets.push(Target { name: name.to_owned(), ..Target::default() });
        }
        // The recipe that follows belongs to the target named last.
        self.current = Some(at);
        if let Some(assignment) = assignment(rest) {
            let outer = out.enter_service(Some(name.to_owned()));
            let step = self.assign(line, &assignment, out);
            out.enter_service(outer);
            self.targets[at].settings.extend(step);
        } else if let Some((_, recipe)) = rest.split_once(';') {
            let start = line.range.start + (recipe.as_ptr() as usize - line.text.as_ptr() as usize);
            self.recipe(recipe, start, line.range.end);
        }
    }

    fn assign(
        &self,
        line: &Line,
        assignment: &Assignment<'_>,
        out: &mut UnitBuilder,
    ) -> Option<Step> {
        let Assignment { name, value, .. } = *assignment;
        let exported = assignment.exported || self.exports_all;
        if assignment.operator == "+=" || !exported && !settings::names_variable(name) {
            return None;
        }
        let (how, reach) = (
            if assignment.operator == "?=" { SetHow::IfUnset } else { SetHow::Assign },
            if exported { Reach::Process } else { Reach::ShellOnly },
        );
        let place = if value.is_empty() { line.span_of(name) } else { line.span_of(value) };
        let value = Spanned::new(expand::value(value, place, &self.variables), place);
        let name_span = line.span_of(name);
        let span = name_span.cover(place);
        let set = SetVariable { name: name.to_owned(), name_span, value, how, reach };
        Some(out.event(span, Does::SetVariable(set)))
    }

    /// `export X` after or before `X = 1`.
    fn export(&self, line: &Line, name: &str, out: &mut UnitBuilder) -> Option<Step> {
        let variable = self.variables.get(name)?;
        let span = line.span_of(name);
        let value = if variable.assignments == 1 {
            expand::value(&variable.value, span, &self.variables)
        } else {
            Value::Unknown
        };
        let how = if variable.by_default { SetHow::IfUnset } else { SetHow::Assign };
        let value = Spanned::new(value, span);
        let (name, name_span, reach) = (name.to_owned(), span, Reach::Process);
        let set = SetVariable { name, name_span, value, how, reach };
        Some(out.event(span, Does::SetVariable(set)))
    }

    fn conditional(&mut self, text: &str) -> bool {
        let (word, rest) = text.split_once([' ', '\t', '(']).unwrap_or((text, ""));
        match word {
            "ifdef" | "ifndef" | "ifeq" | "ifneq" => {
                let negated = matches!(word, "ifndef" | "ifneq");
                let condition = match word {
                    "ifdef" | "ifndef" => Condition::VariableSet(rest.trim().to_owned()),
                    _ => Condition::Unknown,
                };
                let before = std::mem::take(&mut self.globals);
                self.conditions.push(Asked { before, condition, negated, then: None });
            }
            "else" => {
                if let Some(asked) = self.conditions.last_mut() {
                    asked.then.get_or_insert(std::mem::take(&mut self.globals));
                }
            }
            "endif" => self.end_condition(),
            _ => return false,
        }
        true
    }

    fn end_condition(&mut self) {
        let Some(Asked { before, condition, negated, then }) = self.conditions.pop() else {
            return;
        };
        let body = std::mem::replace(&mut self.globals, before);
        let (then, other) = match then {
            Some(then) => (then, body),
            None => (body, Vec::new()),
        };
        if then.is_empty() && other.is_empty() {
            return;
        }
        let (first, second) = if negated { (other, then) } else { (then, other) };
        self.globals.push(Step::Branch(condition, vec![Block(first), Block(second)]));
    }

    fn recipe(&mut self, text: &str, start: usize, end: usize) {
        let Some(target) = self.current.map(|it| &mut self.targets[it]) else { return };
        // `@` and `-` are make's.
        let lead = text.len() - text.trim_start_matches(['@', '-', '+', ' ', '\t']).len();
        let range = (start + lead).min(end)..end;
        target.recipe.push(expand::recipe(self.source, range, self.at, &self.variables));
    }

    fn finish(mut self, out: &mut UnitBuilder) -> Block {
        while !self.conditions.is_empty() {
            self.end_condition();
        }
        let mut steps = self.globals;
        for target in self.targets {
            let outer = out.enter_service(Some(target.name));
            let mut inner = target.settings;
            for line in target.recipe {
                let block = shell::read(&line.text, &line.positions(), out);
                match block.0.is_empty() {
                    true => {}
                    false if self.one_shell => inner.extend(block.0),
                    false => inner.push(Step::Scope(block)),
                }
            }
            out.enter_service(outer);
            if !inner.is_empty() {
                steps.push(Step::Scope(Block(inner)));
            }
        }
        Block(steps)
    }
}
