//! `.env` files: variables for whoever loads them.

use std::ops::Range;

use super::{UnitBuilder, command::is_variable_name, interpolate::interpolate, suppress};
use crate::{
    span::Positions,
    unit::{Block, Does, Reach, SetHow, SetVariable},
    value::{Spanned, Value},
};

#[cfg(test)]
mod tests;

/// Reads a file of variables.
pub(crate) fn read(text: &str, at: &Positions, out: &mut UnitBuilder) -> Block {
    let mut steps = Vec::new();
    let mut strings = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let end = text[start..].find('\n').map_or(text.len(), |it| start + it);
        let mut next = end + 1;
        if let Some((name_start, value_start)) = assignment(text, start, end) {
            let name = text[name_start..].split(['=', ' ', '\t']).next().unwrap_or_default();
            let (value, value_end) = value(text, value_start, end);
            if value_end > end {
                strings.push(value_start..value_end);
                next = text[value_end..].find('\n').map_or(text.len(), |it| value_end + it) + 1;
            }
            let literal = text[value_start..].starts_with('\'');
            let spanned = Spanned::new(Value::Str(value), at.span(value_start..value_end));
            let value = if literal { spanned } else { interpolate(spanned, out) };
            let set = SetVariable {
                name: name.to_owned(),
                name_span: at.span(name_start..name_start + name.len()),
                value,
                how: SetHow::Assign,
                reach: Reach::Loader,
            };
            let span = at.span(name_start..value_end.max(value_start));
            steps.push(out.event(span, Does::SetVariable(set)));
        }
        start = next;
    }
    let inside = |offset: usize| {
        let behind = strings.partition_point(|it: &Range<usize>| it.start <= offset);
        behind > 0 && strings[behind - 1].contains(&offset)
    };
    out.suppressions(suppress::scan(text, at, &["#"], inside));
    Block(steps)
}

/// Where the name and the value of an assignment start.
fn assignment(text: &str, start: usize, end: usize) -> Option<(usize, usize)> {
    let line = &text[start..end];
    let body = line.trim_start();
    let body = body.strip_prefix("export ").map_or(body, str::trim_start);
    let name_start = end - body.len();
    let (name, rest) = body.split_once('=')?;
    if !is_variable_name(name.trim_end()) {
        return None;
    }
    let rest = rest.trim_start_matches([' ', '\t']);
    Some((name_start, end - rest.len()))
}

/// The value that starts at `start`, and where it ends, quotes included. A quoted one may run over lines.
fn value(text: &str, start: usize, line_end: usize) -> (String, usize) {
    let rest = &text[start..];
    if let Some(quote) = rest.chars().next().filter(|it| matches!(it, '"' | '\'' | '`')) {
        let mut plain = String::new();
        let mut letters = rest.char_indices().skip(1);
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' if quote == '"' => match letters.next() {
                    Some((_, 'n')) => plain.push('\n'),
                    Some((_, other)) => plain.push(other),
                    None => break,
                },
                it if it == quote => return (plain, start + at + 1),
                _ => plain.push(letter),
            }
        }
        // Never closed: the line as it stands.
    }
    let line = &text[start..line_end];
    let comment = line.match_indices('#').map(|it| it.0);
    let comment = comment.into_iter().find(|it| line[..*it].ends_with([' ', '\t']) || *it == 0);
    let plain = line[..comment.unwrap_or(line.len())].trim_end();
    (plain.to_owned(), start + plain.len())
}
