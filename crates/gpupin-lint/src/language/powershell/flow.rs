//! Statements made of statements.

use tree_sitter::Node;

use super::{Script, Step, environment_variable, words::single};
use crate::{
    unit::{Block, Condition, Function},
    value::{Spanned, Value},
};

impl Script<'_> {
    pub(super) fn compound(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        match node.kind() {
            "if_statement" => self.if_statement(node, steps),
            "foreach_statement" => self.foreach_statement(node, steps),
            "for_statement" | "while_statement" | "do_statement" => {
                let mut body = Vec::new();
                self.statements(node, &mut body);
                if !body.is_empty() {
                    steps.push(Step::Loop(Block(body)));
                }
            }
            "switch_statement" => self.switch_statement(node, steps),
            "try_statement" => self.try_statement(node, steps),
            "function_statement" => self.function_statement(node),
            "flow_control_statement" => self.flow_control(node, steps),
            _ => self.statements(node, steps),
        }
    }

    fn if_statement(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        let mut arms: Vec<(Condition, bool, Vec<Step>)> = Vec::new();
        let mut otherwise = Vec::new();
        let mut condition = (Condition::Unknown, false);
        let mut left: Vec<Node<'_>> = vec![node];
        while let Some(parent) = left.pop() {
            let mut cursor = parent.walk();
            let children: Vec<_> = parent.named_children(&mut cursor).collect();
            for child in children {
                match child.kind() {
                    "pipeline" => {
                        condition = self.condition(child);
                        self.statement(child, steps);
                    }
                    "statement_block" => {
                        let mut body = Vec::new();
                        self.statements(child, &mut body);
                        let asked = std::mem::replace(&mut condition, (Condition::Unknown, false));
                        arms.push((asked.0, asked.1, body));
                    }
                    "elseif_clauses" => {
                        let mut inner = child.walk();
                        for clause in child.named_children(&mut inner) {
                            let mut parts = clause.walk();
                            let parts: Vec<_> = clause.named_children(&mut parts).collect();
                            let mut body = Vec::new();
                            let mut asked = (Condition::Unknown, false);
                            for part in parts {
                                if part.kind() == "pipeline" {
                                    asked = self.condition(part);
                                } else {
                                    self.statement(part, &mut body);
                                }
                            }
                            arms.push((asked.0, asked.1, body));
                        }
                    }
                    "else_clause" => self.statements(child, &mut otherwise),
                    _ => {}
                }
            }
        }
        for (condition, swapped, body) in arms.into_iter().rev() {
            if body.is_empty() && otherwise.is_empty() {
                continue;
            }
            let other = std::mem::take(&mut otherwise);
            let (first, second) = if swapped { (other, body) } else { (body, other) };
            otherwise.push(Step::Branch(condition, vec![Block(first), Block(second)]));
        }
        steps.append(&mut otherwise);
    }

    /// What is asked, and whether the arms are to be swapped.
    fn condition(&self, node: Node<'_>) -> (Condition, bool) {
        let text = self.slice(single(node)).trim().trim_matches(['(', ')']).trim();
        let lower = text.to_ascii_lowercase();
        let (text, negated) = if lower.starts_with("-not") {
            (text[4..].trim_start_matches([' ', '(']), true)
        } else if let Some(rest) = text.strip_prefix('!') {
            (rest.trim_start_matches([' ', '(']), true)
        } else {
            (text, false)
        };
        let lower = text.to_ascii_lowercase();
        if let Some(path) = lower.strip_prefix("test-path") {
            let path = path.trim().trim_matches(['"', '\'']);
            if path.starts_with("env:") {
                let start = text.len() - text.trim_end_matches(['"', '\'']).len();
                let end = text.len() - start;
                let from = lower.find("env:").map_or(end, |it| it + 4).min(end);
                let name = text[from..end].trim_start_matches(['\\', '/']);
                return (Condition::VariableSet(name.to_owned()), negated);
            }
        }
        for (empty, asks_empty) in
            [("[string]::isnullorempty(", true), ("[string]::isnullorwhitespace(", true)]
        {
            if lower.starts_with(empty) {
                let inner = text[empty.len()..].trim_matches([')', ' ']);
                if let Some(name) = environment_variable(inner) {
                    return (Condition::VariableSet(name.to_owned()), negated != asks_empty);
                }
            }
        }
        let is_null = lower
            .strip_prefix("$null -eq ")
            .map(|it| (it, true))
            .or_else(|| lower.strip_prefix("$null -ne ").map(|it| (it, false)));
        if let Some((rest, asks_empty)) = is_null {
            let original = &text[text.len() - rest.len()..];
            if let Some(name) = environment_variable(original.trim()) {
                return (Condition::VariableSet(name.to_owned()), negated != asks_empty);
            }
        }
        let plain = environment_variable(text).filter(|it| {
            !it.is_empty() && it.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_')
        });
        match plain {
            Some(name) => (Condition::VariableSet(name.to_owned()), negated),
            None => (Condition::Unknown, false),
        }
    }

    fn foreach_statement(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        let mut cursor = node.walk();
        let children: Vec<_> = node.named_children(&mut cursor).collect();
        if let [variable, list, ..] = &*children {
            let name = self.slice(*variable).trim_start_matches('$').to_ascii_lowercase();
            let value = match self.word(*list).value {
                Value::List(items) if items.len() <= 64 => Value::OneOf(items),
                _ => Value::Unknown,
            };
            let span = self.span(*variable);
            self.assigned.insert(name, Spanned::new(value, span));
        }
        let mut body = Vec::new();
        for child in children.into_iter().skip(1) {
            self.statement(child, &mut body);
        }
        if !body.is_empty() {
            steps.push(Step::Loop(Block(body)));
        }
    }

    fn switch_statement(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        let mut arms = vec![Block::default()];
        let mut left = vec![node];
        while let Some(inner) = left.pop() {
            let mut cursor = inner.walk();
            let children: Vec<_> = inner.named_children(&mut cursor).collect();
            if inner.kind() == "statement_block" {
                let mut arm = Vec::new();
                self.statements(inner, &mut arm);
                arms.push(Block(arm));
            } else {
                left.extend(children.into_iter().rev());
            }
        }
        if arms.iter().any(|it| !it.0.is_empty()) {
            steps.push(Step::Branch(Condition::Unknown, arms));
        }
    }

    fn try_statement(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        let mut body = Vec::new();
        let mut handlers = Vec::new();
        let mut after = Vec::new();
        let mut cursor = node.walk();
        let children: Vec<_> = node.named_children(&mut cursor).collect();
        for child in children {
            match child.kind() {
                "statement_block" => self.statements(child, &mut body),
                "catch_clauses" => {
                    let mut inner = child.walk();
                    let clauses: Vec<_> = child.named_children(&mut inner).collect();
                    for clause in clauses {
                        let mut handler = Vec::new();
                        self.statements(clause, &mut handler);
                        handlers.push(Block(handler));
                    }
                }
                _ => self.statements(child, &mut after),
            }
        }
        if !body.is_empty() || handlers.iter().any(|it| !it.0.is_empty()) {
            steps.push(Step::Try { body: Block(body), handlers });
        }
        steps.append(&mut after);
    }

    fn function_statement(&mut self, node: Node<'_>) {
        let mut cursor = node.walk();
        let children: Vec<_> = node.named_children(&mut cursor).collect();
        let name = children.iter().find(|it| it.kind() == "function_name");
        let Some(name) = name.map(|it| self.slice(*it).to_ascii_lowercase()) else { return };
        let Some(path) = self.functions.get(&name).cloned() else { return };
        let outer = self.out.enter(Some(path.clone()));
        let mut body = Vec::new();
        for child in children {
            self.statement(child, &mut body);
        }
        self.out.enter(outer);
        let span = self.span(node);
        self.out.function(path, Function { span, body: Block(body), called_from_outside: false });
    }
}
