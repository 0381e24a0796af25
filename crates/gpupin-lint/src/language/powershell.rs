//! PowerShell scripts.
//!
//! `$env:X = …` reaches children at once; `setx` and the registry reach later sessions only. PowerShell takes an
//! empty text for no value: it removes the variable.

use std::collections::HashMap;

use tree_sitter::Node;

use super::{
    UnitBuilder,
    command::{self, Command},
    grammar, suppress,
};
use crate::{
    span::{Positions, Span},
    unit::{
        Block, ChildEnvironment, Does, Leave, Reach, RemoveHow, RemoveVariable, SetHow,
        SetVariable, Step,
    },
    value::{Name, Spanned, Value},
};

mod call;
mod flow;
#[cfg(test)]
mod tests;
mod words;

/// Reads a script.
pub(crate) fn read(text: &str, at: &Positions, out: &mut UnitBuilder) -> Block {
    if !out.descend() {
        return Block::default();
    }
    let mut block = Block::default();
    if let Some(tree) = grammar::parse(text, &tree_sitter_powershell::LANGUAGE.into()) {
        let mut script = Script {
            text,
            at,
            out,
            functions: HashMap::new(),
            assignments: HashMap::new(),
            assigned: HashMap::new(),
            directory: String::new(),
            inside: 0,
        };
        script.survey(tree.root_node());
        script.statements(tree.root_node(), &mut block.0);
    }
    out.ascend();
    block
}

/// How deep nodes may nest: an expression takes about fifteen.
const DEEPEST: u32 = 600;

/// How many syntax errors of one script are told.
const ERRORS: usize = 10;

struct Script<'a> {
    text: &'a str,
    at: &'a Positions,
    out: &'a mut UnitBuilder,
    /// Functions by name in lower case, with their path in the unit.
    functions: HashMap<String, String>,
    /// How often each variable is assigned.
    assignments: HashMap<String, u32>,
    /// The last value of each variable, by its name in lower case.
    assigned: HashMap<String, Spanned>,
    directory: String,
    inside: u32,
}

impl Script<'_> {
    fn span(&self, node: Node<'_>) -> Span {
        self.at.span(grammar::range(node, self.text))
    }

    fn slice(&self, node: Node<'_>) -> &str {
        &self.text[grammar::range(node, self.text)]
    }

    /// Functions, names assigned more than once, comments and errors of the whole script.
    fn survey(&mut self, root: Node<'_>) {
        let mut errors = 0;
        let mut cursor = root.walk();
        loop {
            let node = cursor.node();
            match node.kind() {
                "comment" => {
                    let found =
                        suppress::comment(self.text, grammar::range(node, self.text), self.at);
                    self.out.suppressions(found);
                }
                "function_name" => {
                    let name = self.slice(node).to_ascii_lowercase();
                    let path = self.out.free_function_path(self.slice(node));
                    self.functions.entry(name).or_insert(path);
                }
                "left_assignment_expression" => {
                    let name = self.slice(node).trim_start_matches('$').to_ascii_lowercase();
                    *self.assignments.entry(name).or_default() += 1;
                }
                "foreach_statement" => {
                    if let Some(variable) = node.named_child(0) {
                        let name =
                            self.slice(variable).trim_start_matches('$').to_ascii_lowercase();
                        *self.assignments.entry(name).or_default() += 1;
                    }
                }
                _ if node.is_error() && errors < ERRORS => {
                    errors += 1;
                    let what = "not PowerShell syntax".to_owned();
                    self.out
                        .unit()
                        .syntax_errors
                        .push((self.at.span(grammar::range(node, self.text)), what));
                }
                _ => {}
            }
            if cursor.goto_first_child() {
                continue;
            }
            while !cursor.goto_next_sibling() {
                if !cursor.goto_parent() {
                    return;
                }
            }
        }
    }

    fn statements(&mut self, parent: Node<'_>, steps: &mut Vec<Step>) {
        if self.inside >= DEEPEST {
            return;
        }
        self.inside += 1;
        let mut cursor = parent.walk();
        for child in parent.named_children(&mut cursor) {
            self.statement(child, steps);
        }
        self.inside -= 1;
    }

    fn statement(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        match node.kind() {
            "assignment_expression" => self.assignment(node, steps),
            "command" => self.command(node, steps),
            "invokation_expression" => self.invocation(node, steps),
            "param_block" => self.parameters(node),
            "comment" | "string_literal" | "variable" | "type_literal" => {}
            _ => self.compound(node, steps),
        }
    }

    fn assignment(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        let Some(left) = node.named_child(0) else { return };
        let Some(right) = node.child_by_field_name("value") else { return };
        // What stands on the right runs first: `$x = python pick.py`.
        self.statement(right, steps);
        let value = self.word(right);
        let name = self.slice(left).trim().to_owned();
        let Some(variable) = environment_variable(&name) else {
            let name = name.rsplit(']').next().unwrap_or(&name).trim_start_matches('$');
            self.assigned.insert(name.to_ascii_lowercase(), value);
            return;
        };
        let start = grammar::range(left, self.text).start + name.find(variable).unwrap_or(0);
        let name_span = self.at.span(start..start + variable.len());
        self.set(self.span(node), variable, name_span, value, steps);
    }

    fn set(
        &mut self,
        span: Span,
        name: &str,
        name_span: Span,
        value: Spanned,
        steps: &mut Vec<Step>,
    ) {
        let value = call::as_text(value);
        let removes = match &value.value {
            Value::None => true,
            Value::Str(text) => text.is_empty(),
            _ => false,
        };
        let name = name.to_owned();
        let does = if removes {
            Does::RemoveVariable(RemoveVariable { name, how: RemoveHow::Remove })
        } else {
            let (how, reach) = (SetHow::Assign, Reach::Process);
            Does::SetVariable(SetVariable { name, name_span, value, how, reach })
        };
        steps.push(self.out.event(span, does));
    }

    /// `param([int]$Gpu = 1)`: a default that who starts the script may override.
    fn parameters(&mut self, block: Node<'_>) {
        let mut left = vec![block];
        while let Some(node) = left.pop() {
            let mut cursor = node.walk();
            if node.kind() == "script_parameter" {
                let children: Vec<_> = node.named_children(&mut cursor).collect();
                let find = |kind| children.iter().find(|it: &&Node<'_>| it.kind() == kind).copied();
                let Some(variable) = find("variable") else { continue };
                let name = self.slice(variable).trim_start_matches('$').to_ascii_lowercase();
                let default = find("script_parameter_default").map(|it| self.word(it));
                let value = default.map_or(Value::Unknown, |it| Value::ByDefault(Box::new(it)));
                let value = Spanned::new(value, self.span(variable));
                *self.assignments.entry(name.clone()).or_default() += 1;
                self.assigned.insert(name, value);
                continue;
            }
            left.extend(node.named_children(&mut cursor));
        }
    }

    fn call_function(&mut self, name: &str, span: Span) -> Option<Step> {
        let path = self.functions.get(&name.to_ascii_lowercase())?;
        Some(Step::Call(Name::here(path.clone()), span))
    }

    fn run(&mut self, span: Span, words: Vec<Spanned>, steps: &mut Vec<Step>) {
        let environment = ChildEnvironment::Inherited(Vec::new());
        let command = Command { span, words, environment, directory: self.directory.clone() };
        steps.extend(command::run(command, self.out));
    }

    fn leave(steps: &mut Vec<Step>, how: Leave) {
        steps.push(Step::Leave(how));
    }
}

/// The name behind `$env:` or `${env:}`.
fn environment_variable(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('$')?;
    let inner = inner.strip_prefix('{').map_or(inner, |it| it.trim_end_matches('}'));
    inner.get(..4).filter(|it| it.eq_ignore_ascii_case("env:")).map(|_| &inner[4..])
}
