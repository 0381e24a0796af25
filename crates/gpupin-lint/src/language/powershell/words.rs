//! The values of expressions and words.

use tree_sitter::Node;

use super::{DEEPEST, Script, environment_variable};
use crate::value::{Spanned, Value};

impl Script<'_> {
    pub(super) fn word(&mut self, node: Node<'_>) -> Spanned {
        let span = self.span(node);
        // Comments and line ends belong to nothing.
        let inner = single(node);
        let value = self.value(inner);
        let span = if matches!(value, Value::Unknown) { span } else { self.span(inner) };
        Spanned::new(value, span)
    }

    fn value(&mut self, node: Node<'_>) -> Value {
        if self.inside >= DEEPEST {
            return Value::Unknown;
        }
        match node.kind() {
            "variable" | "braced_variable" => self.variable(self.slice(node)),
            "expandable_string_literal" => {
                let inner = trimmed(self.slice(node), '"').replace("\"\"", "\"");
                self.expanded(&inner)
            }
            "verbatim_string_characters" => {
                Value::Str(trimmed(self.slice(node), '\'').replace("''", "'"))
            }
            "expandable_here_string_literal" | "verbatim_here_string_characters" => Value::Unknown,
            "decimal_integer_literal" | "integer_literal" => {
                self.slice(node).parse().map_or(Value::Unknown, Value::Int)
            }
            "generic_token"
            | "command_parameter"
            | "command_name"
            | "command_token"
            | "path_command_name_token" => {
                let text = self.slice(node).replace('`', "");
                if text.contains('$') { self.expanded(&text) } else { Value::Str(text) }
            }
            "array_literal_expression" => {
                let mut cursor = node.walk();
                let items: Vec<_> = node.named_children(&mut cursor).collect();
                self.inside += 1;
                let items = items.into_iter().map(|it| self.word(it)).collect();
                self.inside -= 1;
                Value::List(items)
            }
            _ => Value::Unknown,
        }
    }

    fn variable(&self, text: &str) -> Value {
        if let Some(name) = environment_variable(text) {
            return Value::Variable(name.to_owned());
        }
        let name = text.trim_start_matches('$').trim_matches(['{', '}']).to_ascii_lowercase();
        match &*name {
            "null" => Value::None,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            name if self.assignments.get(name) == Some(&1) => {
                self.assigned.get(name).map_or(Value::Unknown, |it| it.value.clone())
            }
            _ => Value::Unknown,
        }
    }

    /// A text with `$x`, `${x}`, `$env:X` and `$(…)` in it.
    fn expanded(&self, text: &str) -> Value {
        let mut parts: Vec<Value> = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['$', '`']) {
            literal.push_str(&rest[..at]);
            let behind = &rest[at + 1..];
            if rest.as_bytes()[at] == b'`' {
                let next = behind.chars().next();
                literal.extend(next);
                rest = &behind[next.map_or(0, char::len_utf8)..];
                continue;
            }
            let len = reference_len(behind);
            if len == 0 {
                literal.push('$');
                rest = behind;
                continue;
            }
            let value = if behind.starts_with('(') {
                Value::Unknown
            } else {
                self.variable(&rest[at..at + 1 + len])
            };
            match value {
                Value::Str(text) => literal.push_str(&text),
                Value::Int(number) => literal.push_str(&number.to_string()),
                other => {
                    if !literal.is_empty() {
                        parts.push(Value::Str(std::mem::take(&mut literal)));
                    }
                    parts.push(other);
                }
            }
            rest = &behind[len..];
        }
        literal.push_str(rest);
        if parts.is_empty() {
            return Value::Str(literal);
        }
        if !literal.is_empty() {
            parts.push(Value::Str(literal));
        }
        if parts.len() == 1 { parts.remove(0) } else { by_default(parts) }
    }
}

/// `"cuda:$Gpu"` of a parameter with a default is such a text by default.
fn by_default(parts: Vec<Value>) -> Value {
    let mut text = String::new();
    let mut default = None;
    for part in &parts {
        match part {
            Value::Str(part) => text.push_str(part),
            Value::ByDefault(inner) => {
                match &inner.value {
                    Value::Str(part) => text.push_str(part),
                    Value::Int(number) => text.push_str(&number.to_string()),
                    _ => return Value::Text(parts),
                }
                default = Some(inner.span);
            }
            _ => return Value::Text(parts),
        }
    }
    match default {
        Some(span) => Value::ByDefault(Box::new(Spanned::new(Value::Str(text), span))),
        None => Value::Str(text),
    }
}

/// The length of what a `$` refers to.
fn reference_len(behind: &str) -> usize {
    if let Some(inner) = behind.strip_prefix('{') {
        return inner.find('}').map_or(0, |it| it + 2);
    }
    if behind.starts_with('(') {
        let mut depth = 0;
        for (at, letter) in behind.char_indices() {
            match letter {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return at + 1;
            }
        }
        return behind.len();
    }
    let name =
        |it: &str| it.bytes().take_while(|it| it.is_ascii_alphanumeric() || *it == b'_').count();
    let scope = name(behind);
    match behind.as_bytes().get(scope) {
        Some(b':') if scope > 0 => match name(&behind[scope + 1..]) {
            0 => scope,
            len => scope + 1 + len,
        },
        _ => scope,
    }
}

/// The node inside wrappers that hold nothing else.
pub(super) fn single(node: Node<'_>) -> Node<'_> {
    let mut node = node;
    while node.named_child_count() == 1
        && !matches!(node.kind(), "expandable_string_literal" | "variable" | "command" | "generic_token")
        // An operator makes it something else: `-not $x`, `@(…)`.
        && (node.child_count() == 1 || matches!(node.kind(), "string_literal" | "script_parameter_default" | "parenthesized_expression" | "command_name_expr"))
    {
        let Some(inner) = node.named_child(0) else { break };
        node = inner;
    }
    node
}

fn trimmed(text: &str, quote: char) -> &str {
    let inner = text.strip_prefix(quote).unwrap_or(text);
    inner.strip_suffix(quote).unwrap_or(inner)
}
