//! Statements made of statements.

use tree_sitter::Node;

use super::{Block, Condition, Shell, Step};
use crate::{
    unit::Function,
    value::{Spanned, Value},
};

impl Shell<'_> {
    pub(super) fn compound(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        match node.kind() {
            "list" => self.list(node, steps),
            "pipeline" => self.pipeline(node, steps),
            "subshell" => self.subshell(node, steps),
            "if_statement" => self.if_statement(node, steps),
            "for_statement" => self.for_statement(node, steps),
            "while_statement" | "c_style_for_statement" => self.while_statement(node, steps),
            "case_statement" => self.case_statement(node, steps),
            "function_definition" => self.function_definition(node),
            "test_command" | "heredoc_body" | "file_redirect" => {}
            // `{ …; }`, `do … done`, redirections, `!`, and what stands in broken text.
            _ => self.statements(node, steps),
        }
    }

    /// Reads statements whose settings stay inside.
    pub(super) fn subshell(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        let (mark, exports_all) = (self.undo.len(), self.exports_all);
        let directory = self.directory.clone();
        let mut inner = Vec::new();
        self.subshells += 1;
        self.statements(node, &mut inner);
        self.take_back(mark);
        self.subshells -= 1;
        self.exports_all = exports_all;
        self.directory = directory;
        if !inner.is_empty() {
            steps.push(Step::Scope(Block(inner)));
        }
    }

    fn pipeline(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            match child.kind() {
                "command" | "redirected_statement" => self.statement(child, steps),
                _ => {
                    let mut inner = Vec::new();
                    self.subshells += 1;
                    self.statement(child, &mut inner);
                    self.subshells -= 1;
                    if !inner.is_empty() {
                        steps.push(Step::Scope(Block(inner)));
                    }
                }
            }
        }
    }

    fn list(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        // `a && b && c && …` nests to the left, as deep as it is long.
        let mut rights = Vec::new();
        let mut left = node;
        while left.kind() == "list" {
            let or =
                (0..left.child_count()).filter_map(|it| left.child(it)).any(|it| it.kind() == "||");
            let (Some(first), Some(last)) = (
                left.named_child(0),
                left.named_child(
                    left.named_child_count().saturating_sub(1).try_into().unwrap_or(0),
                ),
            ) else {
                return;
            };
            if first.id() == last.id() {
                break;
            }
            rights.push((or, last));
            left = first;
        }
        self.statement(left, steps);
        let mut test = Self::is_test(left).then(|| self.condition(left));
        let mut optional: Option<(Condition, bool, Vec<Step>)> = None;
        for (or, right) in rights.into_iter().rev() {
            let mut inner = Vec::new();
            self.statement(right, &mut inner);
            if Self::is_test(right) {
                // `[ a ] && [ b ] && c`: both decide.
                test = Some((Condition::Unknown, false));
                steps.append(&mut inner);
                continue;
            }
            if let Some((condition, swapped)) = test.take() {
                optional = Some((condition, swapped != or, inner));
                continue;
            }
            match &mut optional {
                Some((_, _, arm)) if !or => arm.append(&mut inner),
                Some(_) => {
                    // `[ a ] && b || c`: c is the other arm.
                    let (condition, swapped, arm) = optional.take().expect("it was just seen");
                    push_branch(steps, condition, swapped, arm, inner);
                }
                None if or => {
                    push_branch(steps, Condition::Unknown, true, inner, Vec::new());
                }
                None => steps.append(&mut inner),
            }
        }
        if let Some((condition, swapped, arm)) = optional {
            push_branch(steps, condition, swapped, arm, Vec::new());
        }
    }

    fn is_test(node: Node<'_>) -> bool {
        match node.kind() {
            "test_command" => true,
            "negated_command" => node.named_child(0).is_some_and(Self::is_test),
            "command" => {
                node.child_by_field_name("name").is_some_and(|it| it.byte_range().len() == 4)
                    && node.named_child_count() > 1
                    && node
                        .child_by_field_name("argument")
                        .is_some_and(|it| it.kind() == "word" || it.kind() == "test_operator")
            }
            _ => false,
        }
    }

    /// What a test asks, and whether its arms are to be swapped.
    fn condition(&self, node: Node<'_>) -> (Condition, bool) {
        let unknown = (Condition::Unknown, false);
        match node.kind() {
            "negated_command" | "parenthesized_expression" => {
                let Some(inner) = node.named_child(0) else { return unknown };
                let (condition, swapped) = self.condition(inner);
                (condition, swapped != (node.kind() == "negated_command"))
            }
            "test_command" => match (node.named_child(0), node.named_child_count()) {
                (Some(inner), 1) => self.condition(inner),
                _ => unknown,
            },
            "unary_expression" => {
                let operator = node.child(0).map_or("", |it| self.slice(it));
                let Some(operand) = node.named_child(u32::from(node.named_child_count() > 1))
                else {
                    return unknown;
                };
                match operator {
                    "!" => {
                        let (condition, swapped) = self.condition(operand);
                        (condition, !swapped)
                    }
                    "-n" => self.asks_variable(operand, false),
                    "-z" => self.asks_variable(operand, true),
                    "-v" => (Condition::VariableSet(self.slice(operand).to_owned()), false),
                    _ => unknown,
                }
            }
            "binary_expression" => {
                let (Some(left), Some(right)) = (
                    node.named_child(0),
                    node.named_child(
                        node.named_child_count().saturating_sub(1).try_into().unwrap_or(0),
                    ),
                ) else {
                    return unknown;
                };
                let is_empty = matches!(self.slice(right), "\"\"" | "''");
                match node.child(1).map(|it| self.slice(it)) {
                    Some("=" | "==") if is_empty => self.asks_variable(left, true),
                    Some("!=") if is_empty => self.asks_variable(left, false),
                    _ => unknown,
                }
            }
            "string" | "simple_expansion" | "expansion" => self.asks_variable(node, false),
            "command" => {
                // `test -n "$X"`
                let (Some(name), Some(operand)) =
                    (node.child_by_field_name("name"), node.named_child(2))
                else {
                    return unknown;
                };
                match (self.slice(name), node.named_child(1).map(|it| self.slice(it))) {
                    ("test", Some("-n")) => self.asks_variable(operand, false),
                    ("test", Some("-z")) => self.asks_variable(operand, true),
                    _ => unknown,
                }
            }
            _ => unknown,
        }
    }

    /// `"$X"`, `${X:-}`, `"${X+x}"`.
    fn asks_variable(&self, node: Node<'_>, swapped: bool) -> (Condition, bool) {
        let mut inner = node;
        while matches!(inner.kind(), "string" | "concatenation") && inner.named_child_count() == 1 {
            let Some(child) = inner.named_child(0) else { break };
            inner = child;
        }
        let name = match inner.kind() {
            "simple_expansion" | "expansion" => {
                inner.named_child(0).filter(|it| it.kind() == "variable_name")
            }
            _ => None,
        };
        let condition =
            name.map_or(Condition::Unknown, |it| Condition::VariableSet(self.slice(it).to_owned()));
        (condition, swapped)
    }

    fn if_statement(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        let mut arms: Vec<(Condition, bool, Vec<Step>, Vec<Step>)> = Vec::new();
        let mut otherwise = Vec::new();
        arms.push(self.arm(node));
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            match child.kind() {
                "elif_clause" => arms.push(self.arm(child)),
                "else_clause" => self.statements(child, &mut otherwise),
                _ => {}
            }
        }
        for (condition, swapped, before, then) in arms.into_iter().rev() {
            let mut whole = before;
            push_branch(&mut whole, condition, swapped, then, otherwise);
            otherwise = whole;
        }
        steps.append(&mut otherwise);
    }

    /// Condition and body of `if` or `elif`: what is asked, what the asking runs, what runs then.
    fn arm(&mut self, node: Node<'_>) -> (Condition, bool, Vec<Step>, Vec<Step>) {
        let (mut before, mut then) = (Vec::new(), Vec::new());
        let mut asked = (Condition::Unknown, false);
        let mut in_body = false;
        let mut cursor = node.walk();
        for child in node.children(&mut cursor) {
            match child.kind() {
                "then" => in_body = true,
                "elif_clause" | "else_clause" => break,
                _ if !child.is_named() => {}
                _ if in_body => self.statement(child, &mut then),
                _ => {
                    asked = self.condition(child);
                    self.statement(child, &mut before);
                }
            }
        }
        (asked.0, asked.1, before, then)
    }

    fn for_statement(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        let mut values = Vec::new();
        let mut cursor = node.walk();
        for child in node.children_by_field_name("value", &mut cursor) {
            values.push(self.word(child));
        }
        self.flush(steps);
        if let Some(variable) = node.child_by_field_name("variable") {
            let name = self.slice(variable).to_owned();
            let span = self.span(variable);
            let known = values.iter().all(|it| matches!(it.value, Value::Str(_)));
            let value = match values.len() {
                1 if known => values.remove(0).value,
                2..=64 if known => Value::OneOf(values),
                _ => Value::Unknown,
            };
            self.assign(&name, Some(Spanned::new(value, span)), None);
        }
        let mut body = Vec::new();
        if let Some(group) = node.child_by_field_name("body") {
            self.statement(group, &mut body);
        }
        push_loop(steps, body);
    }

    fn while_statement(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        let mut cursor = node.walk();
        for condition in node.children_by_field_name("condition", &mut cursor) {
            if condition.is_named() {
                self.statement(condition, steps);
            }
        }
        let mut body = Vec::new();
        if let Some(group) = node.child_by_field_name("body") {
            self.statement(group, &mut body);
        }
        push_loop(steps, body);
    }

    fn case_statement(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        let mut arms = Vec::new();
        let mut has_default = false;
        let mut cursor = node.walk();
        for item in node.named_children(&mut cursor).filter(|it| it.kind() == "case_item") {
            has_default |=
                item.child_by_field_name("value").is_some_and(|it| self.slice(it) == "*");
            let mut arm = Vec::new();
            let mut inner = item.walk();
            let mut behind_pattern = false;
            for child in item.children(&mut inner) {
                if child.kind() == ")" {
                    behind_pattern = true;
                } else if behind_pattern && child.is_named() {
                    self.statement(child, &mut arm);
                }
            }
            arms.push(Block(arm));
        }
        if !has_default {
            arms.push(Block::default());
        }
        if arms.iter().any(|it| !it.0.is_empty()) {
            steps.push(Step::Branch(Condition::Unknown, arms));
        }
    }

    fn function_definition(&mut self, node: Node<'_>) {
        let Some(name) = node.child_by_field_name("name").map(|it| self.slice(it).to_owned())
        else {
            return;
        };
        let Some(path) = self.names.functions.get(&name).cloned() else { return };
        let (mark, directory) = (self.undo.len(), self.directory.clone());
        let outer = self.out.enter(Some(path.clone()));
        let mut body = Vec::new();
        self.functions += 1;
        if let Some(inner) = node.child_by_field_name("body") {
            self.statement(inner, &mut body);
        }
        self.take_back(mark);
        self.functions -= 1;
        self.out.enter(outer);
        self.directory = directory;
        let span = self.span(node);
        self.out.function(path, Function { span, body: Block(body), called_from_outside: false });
    }
}

fn push_branch(
    steps: &mut Vec<Step>,
    condition: Condition,
    swapped: bool,
    then: Vec<Step>,
    otherwise: Vec<Step>,
) {
    if then.is_empty() && otherwise.is_empty() {
        return;
    }
    let (then, otherwise) = if swapped { (otherwise, then) } else { (then, otherwise) };
    steps.push(Step::Branch(condition, vec![Block(then), Block(otherwise)]));
}

fn push_loop(steps: &mut Vec<Step>, body: Vec<Step>) {
    if !body.is_empty() {
        steps.push(Step::Loop(Block(body)));
    }
}
