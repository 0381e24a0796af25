//! The values of words.

use tree_sitter::Node;

use super::{Block, Shell, Step, grammar};
use crate::{
    unit::{Does, Reach, SetHow, SetVariable},
    value::{Spanned, Value},
};

impl Shell<'_> {
    /// A word's value. Substitutions in it become pending steps.
    pub(super) fn word(&mut self, node: Node<'_>) -> Spanned {
        let span = self.span(node);
        if self.inside >= super::DEEPEST {
            return Spanned::new(Value::Unknown, span);
        }
        self.inside += 1;
        let value = self.value(node);
        self.inside -= 1;
        Spanned::new(value, span)
    }

    fn value(&mut self, node: Node<'_>) -> Value {
        match node.kind() {
            "word"
            | "number"
            | "variable_name"
            | "special_variable_name"
            | "extglob_pattern"
            | "regex"
                if node.named_child_count() == 0 =>
            {
                Value::Str(unescape(self.slice(node), |_| true))
            }
            "raw_string" => Value::Str(self.slice(node).trim_matches('\'').to_owned()),
            "ansi_c_string" => {
                let inner = self.slice(node);
                let inner = inner.strip_prefix("$'").unwrap_or(inner);
                Value::Str(inner.strip_suffix('\'').unwrap_or(inner).to_owned())
            }
            "string" => self.string(node),
            "string_content" => {
                Value::Str(unescape(self.slice(node), |it| "$`\"\\\n".contains(it)))
            }
            "concatenation" | "word" | "number" => {
                let mut cursor = node.walk();
                let parts = node.named_children(&mut cursor).map(|it| self.word(it)).collect();
                joined(parts)
            }
            "simple_expansion" => match node.named_child(0) {
                Some(name) if name.kind() == "variable_name" => self.variable(name),
                _ => Value::Unknown,
            },
            "expansion" => self.expansion(node),
            "command_substitution" => self.substitution(node),
            _ => Value::Unknown,
        }
    }

    fn string(&mut self, node: Node<'_>) -> Value {
        // The grammar has no node for blanks between expansions: take the text between the children.
        let mut parts = Vec::new();
        let mut seen =
            (grammar::range(node, self.text).start + 1).min(grammar::range(node, self.text).end);
        let end = grammar::before_last(node, self.text).max(seen);
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            if let Some(gap) = self
                .text
                .get(seen..grammar::range(child, self.text).start)
                .filter(|it| !it.is_empty())
            {
                parts.push(Spanned::new(Value::Str(gap.to_owned()), self.span(node)));
            }
            parts.push(self.word(child));
            seen = grammar::range(child, self.text).end;
        }
        if let Some(gap) = self.text.get(seen..end).filter(|it| !it.is_empty()) {
            parts.push(Spanned::new(Value::Str(gap.to_owned()), self.span(node)));
        }
        joined(parts)
    }

    fn variable(&mut self, name: Node<'_>) -> Value {
        let name = self.slice(name);
        match self.names.assignments.get(name) {
            // Assigned once: the value, when that line was before this one.
            Some(1) => match self.assigned.get(name) {
                Some(value) => value.value.clone(),
                None => Value::Variable(name.to_owned()),
            },
            Some(_) => Value::Unknown,
            // Positional parameters, and the placeholders of what other languages compute.
            None if name.bytes().all(|it| it.is_ascii_digit() || it == b'_') => Value::Unknown,
            None => Value::Variable(name.to_owned()),
        }
    }

    /// `${X}`, `${X:-0}`, `${X:=0}`.
    fn expansion(&mut self, node: Node<'_>) -> Value {
        let mut cursor = node.walk();
        let mut named = node.named_children(&mut cursor);
        let Some(name) = named.next() else { return Value::Unknown };
        let Some(operator) = node.child_by_field_name("operator") else {
            return match name.kind() {
                "variable_name" if node.named_child_count() == 1 => self.variable(name),
                _ => Value::Unknown,
            };
        };
        let operator = self.slice(operator);
        if !matches!(operator, ":-" | "-" | ":=" | "=") {
            return match operator {
                ":?" | "?" if name.kind() == "variable_name" => self.variable(name),
                _ => Value::Unknown,
            };
        }
        let assigns = operator.ends_with('=');
        let default = if let Some(default) = named.next() {
            self.word(default)
        } else {
            let end = grammar::before_last(node, self.text);
            Spanned::new(Value::Str(String::new()), self.at.span(end..end))
        };
        drop(named);
        // A variable that the script itself set is not left to its default.
        if name.kind() == "variable_name"
            && let value @ (Value::Str(_) | Value::OneOf(_)) = self.variable(name)
        {
            return value;
        }
        if assigns && name.kind() == "variable_name" {
            let (span, name_span) = (self.span(node), self.span(name));
            let name = self.slice(name).to_owned();
            let exported = self.exports_all || self.exported.contains(&name);
            let reach = if exported { Reach::Process } else { Reach::ShellOnly };
            let (value, how) = (default.clone(), SetHow::IfUnset);
            let set = SetVariable { name: name.clone(), name_span, value, how, reach };
            let step = self.out.event(span, Does::SetVariable(set));
            self.pending.push(step);
            let value = Value::ByDefault(Box::new(default.clone()));
            self.assign(&name, Some(Spanned::new(value, span)), None);
        }
        Value::ByDefault(Box::new(default))
    }

    fn substitution(&mut self, node: Node<'_>) -> Value {
        let outer = std::mem::take(&mut self.pending);
        let mut inner = Vec::new();
        self.subshell(node, &mut inner);
        self.pending = outer;
        self.pending.extend(inner.into_iter().filter(|it| *it != Step::Scope(Block::default())));
        if asks_for_index(self.slice(node)) { Value::NvmlIndex } else { Value::Unknown }
    }
}

/// Whether a substitution gives an index in `nvidia-smi`'s order.
fn asks_for_index(text: &str) -> bool {
    let asks_smi = text.contains("nvidia-smi") && text.contains("index");
    let asks_gpustat = ["gpustat", "GPUtil", "nvidia_smi"].iter().any(|it| text.contains(it));
    (asks_smi || asks_gpustat) && !text.contains("uuid")
}

/// One value for parts that stand together.
fn joined(mut parts: Vec<Spanned>) -> Value {
    match parts.len() {
        0 => return Value::Str(String::new()),
        1 => return parts.remove(0).value,
        _ => {}
    }
    let texts: Option<Vec<(&str, bool)>> = parts.iter().map(known).collect();
    match texts {
        Some(texts) => {
            let whole: String = texts.iter().map(|it| it.0).collect();
            match parts.iter().find(|it| matches!(it.value, Value::ByDefault(_))) {
                Some(part) => {
                    Value::ByDefault(Box::new(Spanned::new(Value::Str(whole), part.span)))
                }
                None => Value::Str(whole),
            }
        }
        None => Value::Text(parts.into_iter().map(|it| it.value).collect()),
    }
}

fn known(part: &Spanned) -> Option<(&str, bool)> {
    match &part.value {
        Value::Str(text) => Some((text, false)),
        Value::ByDefault(default) => match &default.value {
            Value::Str(text) => Some((text, true)),
            _ => None,
        },
        _ => None,
    }
}

/// Whether an assignment gives `name` its own old value where there is one: `X=${X:-0}`.
pub(super) fn falls_back_from(assignment: Node<'_>, name: &str, text: &str) -> bool {
    let mut node = assignment.child_by_field_name("value");
    while let Some(inner) = node {
        match inner.kind() {
            "string" if inner.named_child_count() == 1 => node = inner.named_child(0),
            "expansion" => {
                let same =
                    inner.named_child(0).is_some_and(|it| &text[grammar::range(it, text)] == name);
                let operator = inner.child_by_field_name("operator");
                return same
                    && operator.is_some_and(|it| {
                        matches!(&text[grammar::range(it, text)], ":-" | "-" | ":=" | "=")
                    });
            }
            _ => return false,
        }
    }
    false
}

/// Takes backslashes off, before the characters they protect here. Before a line's end both go.
fn unescape(text: &str, protects: impl Fn(char) -> bool) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            plain.push(letter);
            continue;
        }
        match letters.next() {
            Some('\n') => {}
            Some(next) => {
                if !protects(next) {
                    plain.push('\\');
                }
                plain.push(next);
            }
            None => plain.push('\\'),
        }
    }
    plain
}
