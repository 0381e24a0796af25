//! `${X:-0}` in compose and `.env` files, systemd units and other texts that are no shell.

use super::{UnitBuilder, command};
use crate::value::{Spanned, Value};

/// A text with its variables seen. A text without any stays as it is.
pub(crate) fn interpolate(text: Spanned, out: &UnitBuilder) -> Spanned {
    let Value::Str(plain) = &text.value else { return text };
    if !plain.contains('$') {
        return text;
    }
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = plain.as_str();
    while let Some(at) = rest.find('$') {
        literal.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        if let Some(after) = behind.strip_prefix('$') {
            literal.push('$');
            rest = after;
            continue;
        }
        let (value, after) = variable(behind, &text, out);
        let Some(value) = value else {
            literal.push('$');
            rest = behind;
            continue;
        };
        if !literal.is_empty() {
            parts.push(Value::Str(std::mem::take(&mut literal)));
        }
        parts.push(value);
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Value::Str(literal));
    }
    let value = if parts.len() == 1 { parts.remove(0) } else { joined(parts, &text) };
    Spanned::new(value, text.span)
}

/// The variable at the start of a text, behind its `$`, and what follows.
fn variable<'t>(behind: &'t str, word: &Spanned, out: &UnitBuilder) -> (Option<Value>, &'t str) {
    let name_len =
        |it: &str| it.bytes().take_while(|it| it.is_ascii_alphanumeric() || *it == b'_').count();
    let Some(inner) = behind.strip_prefix('{') else {
        let len = name_len(behind);
        let value = (len > 0).then(|| Value::Variable(behind[..len].to_owned()));
        return (value, &behind[len..]);
    };
    // `${{ expression }}` of a pipeline.
    if inner.starts_with('{') {
        let end = inner.find("}}").map_or(inner.len(), |it| it + 2);
        return (Some(Value::Unknown), &inner[end..]);
    }
    let Some(end) = inner.find('}') else { return (None, behind) };
    let (body, after) = (&inner[..end], &inner[end + 1..]);
    let len = name_len(body);
    let (name, operator) = body.split_at(len);
    let default = [":-", "-", ":=", "="].iter().find_map(|it| operator.strip_prefix(it));
    let value = match default {
        Some(default) => {
            let span = command::part(word, default, out);
            Value::ByDefault(Box::new(Spanned::new(Value::Str(default.to_owned()), span)))
        }
        None if operator.is_empty() || operator.starts_with([':', '?']) => {
            Value::Variable(name.to_owned())
        }
        None => Value::Unknown,
    };
    (Some(value), after)
}

/// Parts as one text where every part has one, perhaps by default.
fn joined(parts: Vec<Value>, word: &Spanned) -> Value {
    let mut text = String::new();
    let mut by_default = None;
    for part in &parts {
        match part {
            Value::Str(part) => text.push_str(part),
            Value::ByDefault(default) => match &default.value {
                Value::Str(part) => {
                    text.push_str(part);
                    by_default = Some(default.span);
                }
                _ => return Value::Text(parts),
            },
            _ => return Value::Text(parts),
        }
    }
    match by_default {
        Some(_) => Value::ByDefault(Box::new(Spanned::new(Value::Str(text), word.span))),
        None => Value::Str(text),
    }
}
