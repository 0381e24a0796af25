//! References to make's variables: `$(X)`, `${X}`, `$X`, and `$$` for the shell's own.

use std::{collections::HashMap, ops::Range};

use super::{Joined, Variable};
use crate::{
    language::command::is_variable_name,
    span::{Positions, Span},
    value::{Spanned, Value},
};

/// How far references are followed.
const DEPTH: u32 = 8;

/// A recipe's line as its shell gets it, as far as that is known.
///
/// A variable set with `?=` becomes `${X:-value}`, so that it stays a default; an unknown one becomes the shell's.
pub(super) fn recipe(
    source: &str,
    range: Range<usize>,
    at: &Positions,
    variables: &HashMap<String, Variable>,
) -> Joined {
    let mut joined = Joined::default();
    let mut plain_from = range.start;
    let mut offset = range.start;
    while let Some(found) = source[offset..range.end].find('$') {
        let start = offset + found;
        let rest = &source[start + 1..range.end];
        let (replacement, len) = match reference(rest) {
            Reference::Dollar => ("$".to_owned(), 1),
            Reference::Name(name, len) => (for_shell(name, variables, 0), len),
            Reference::Shell(command, len) => (format!("$({command})"), len),
            Reference::Unknown(len) => ("${_}".to_owned(), len),
            Reference::None => {
                offset = start + 1;
                continue;
            }
        };
        joined.push(source, plain_from..start, at);
        joined.replace(&replacement, start..start + 1 + len, at);
        offset = start + 1 + len;
        plain_from = offset;
    }
    joined.push(source, plain_from..range.end, at);
    joined
}

fn for_shell(name: &str, variables: &HashMap<String, Variable>, depth: u32) -> String {
    let known = variables.get(name).filter(|it| it.assignments == 1 && depth < DEPTH);
    let Some(variable) = known else { return format!("${{{name}}}") };
    let value = flat(&variable.value, variables, depth + 1);
    match value {
        Some(value) if variable.by_default => format!("${{{name}:-{value}}}"),
        Some(value) => value,
        None => "${_}".to_owned(),
    }
}

/// A value without references, where they are known.
fn flat(text: &str, variables: &HashMap<String, Variable>, depth: u32) -> Option<String> {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        plain.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let Reference::Name(name, len) = reference(behind) else { return None };
        let variable = variables.get(name).filter(|it| it.assignments == 1 && depth < DEPTH)?;
        plain.push_str(&flat(&variable.value, variables, depth + 1)?);
        // Values that double at every step are nobody's.
        if plain.len() > 10_000 {
            return None;
        }
        rest = &behind[len..];
    }
    plain.push_str(rest);
    Some(plain)
}

/// The value of an assignment.
pub(super) fn value(text: &str, span: Span, variables: &HashMap<String, Variable>) -> Value {
    if let Some(behind) = text.strip_prefix('$') {
        match reference(behind) {
            Reference::Name(name, len) if len == behind.len() => {
                return match variables.get(name) {
                    Some(variable) if variable.assignments == 1 => {
                        let value = flat(&variable.value, variables, 1);
                        let value = value.map_or(Value::Unknown, Value::Str);
                        if variable.by_default {
                            Value::ByDefault(Box::new(Spanned::new(value, span)))
                        } else {
                            value
                        }
                    }
                    Some(_) => Value::Unknown,
                    None => Value::Variable(name.to_owned()),
                };
            }
            Reference::Shell(command, _)
                if command.contains("nvidia-smi") && command.contains("index") =>
            {
                return Value::NvmlIndex;
            }
            _ => {}
        }
    }
    flat(text, variables, 0).map_or(Value::Unknown, Value::Str)
}

enum Reference<'t> {
    /// `$$`
    Dollar,
    /// With the length behind the first `$`.
    Name(&'t str, usize),
    /// `$(shell …)`
    Shell(&'t str, usize),
    /// A function or an automatic variable.
    Unknown(usize),
    None,
}

/// What a `$` refers to, by the text behind it.
fn reference(behind: &str) -> Reference<'_> {
    let Some(first) = behind.chars().next() else { return Reference::None };
    let close = match first {
        '$' => return Reference::Dollar,
        '(' => ')',
        '{' => '}',
        it if it.is_ascii_alphabetic() => return Reference::Name(&behind[..1], 1),
        '@' | '<' | '^' | '*' | '?' | '+' | '%' => return Reference::Unknown(1),
        _ => return Reference::None,
    };
    let mut depth = 0;
    for (at, letter) in behind.char_indices() {
        if letter == first {
            depth += 1;
        } else if letter == close {
            depth -= 1;
            if depth == 0 {
                let inner = &behind[1..at];
                return match inner.strip_prefix("shell ") {
                    Some(command) => Reference::Shell(command, at + 1),
                    None if is_variable_name(inner) => Reference::Name(inner, at + 1),
                    None => Reference::Unknown(at + 1),
                };
            }
        }
    }
    Reference::None
}
