//! What a whole script tells before it is read in order: functions, names assigned more than once, comments, errors.

use std::collections::HashMap;

use tree_sitter::Node;

use super::{UnitBuilder, grammar, suppress};
use crate::span::Positions;

/// How many syntax errors of one script are told.
const ERRORS: usize = 10;

pub(super) struct Names {
    /// Functions by name, with their path in the unit.
    pub(super) functions: HashMap<String, String>,
    /// How often each variable gets a value.
    pub(super) assignments: HashMap<String, u32>,
}

pub(super) fn survey(root: Node<'_>, text: &str, at: &Positions, out: &mut UnitBuilder) -> Names {
    let mut names = Names { functions: HashMap::new(), assignments: HashMap::new() };
    let mut errors = 0;
    let mut cursor = root.walk();
    loop {
        let node = cursor.node();
        match node.kind() {
            "comment" => {
                out.suppressions(suppress::comment(text, grammar::range(node, text), at));
            }
            "function_definition" => {
                if let Some(name) = node.child_by_field_name("name") {
                    let name = text[grammar::range(name, text)].to_owned();
                    let path = out.free_function_path(&name);
                    names.functions.entry(name).or_insert(path);
                }
            }
            "variable_assignment" if node.parent().is_none_or(|it| it.kind() != "command") => {
                count(node.child_by_field_name("name"), text, &mut names);
            }
            "for_statement" => count(node.child_by_field_name("variable"), text, &mut names),
            "command" => count_read(node, text, &mut names),
            _ if (node.is_error() || node.is_missing()) && errors < ERRORS => {
                errors += 1;
                let what = if node.is_missing() {
                    format!("missing `{}`", node.kind())
                } else {
                    "not shell syntax".to_owned()
                };
                out.unit().syntax_errors.push((at.span(grammar::range(node, text)), what));
            }
            _ => {}
        }
        if cursor.goto_first_child() {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return names;
            }
        }
    }
}

fn count(name: Option<Node<'_>>, text: &str, names: &mut Names) {
    if let Some(name) = name {
        *names.assignments.entry(text[grammar::range(name, text)].to_owned()).or_default() += 1;
    }
}

/// `read X`, `mapfile X`: a value nobody knows.
fn count_read(command: Node<'_>, text: &str, names: &mut Names) {
    let name = command.child_by_field_name("name").map(|it| &text[grammar::range(it, text)]);
    if !matches!(name, Some("read" | "mapfile" | "readarray" | "getopts")) {
        return;
    }
    let mut cursor = command.walk();
    for word in command.named_children(&mut cursor).filter(|it| it.kind() == "word") {
        *names.assignments.entry(text[grammar::range(word, text)].to_owned()).or_default() += 2;
    }
}
