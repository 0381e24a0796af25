//! Texts put together: f-strings, `%` and `.format()`, taken apart into pieces.

use super::syntax::{Expr, FStringPart, InterpolatedStringElement, ast};

/// A part of a text.
#[derive(Debug)]
pub(super) enum Piece<'e> {
    Literal(std::borrow::Cow<'e, str>),
    Expression(&'e Expr),
    /// An expression printed with a width or precision.
    Formatted,
}

pub(super) fn pieces_of_f_string(it: &ast::ExprFString) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for part in &it.value {
        match part {
            FStringPart::Literal(literal) => pieces.push(Piece::Literal((&*literal.value).into())),
            FStringPart::FString(part) => {
                pieces.extend(part.elements.iter().map(|element| match element {
                    InterpolatedStringElement::Literal(literal) => {
                        Piece::Literal((&*literal.value).into())
                    }
                    InterpolatedStringElement::Interpolation(it)
                        if it.format_spec.is_none() && it.debug_text.is_none() =>
                    {
                        Piece::Expression(&it.expression)
                    }
                    InterpolatedStringElement::Interpolation(_) => Piece::Formatted,
                }));
            }
        }
    }
    pieces
}

/// `"cuda:%d" % i`. `None` when the pattern does not fit the arguments.
pub(super) fn pieces_of_percent<'e>(
    pattern: &str,
    arguments: &[&'e Expr],
) -> Option<Vec<Piece<'e>>> {
    let mut pieces = Vec::new();
    let mut arguments = arguments.iter();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('%') {
        pieces.push(Piece::Literal(before.to_owned().into()));
        let mut letters = after.chars();
        match letters.next()? {
            '%' => pieces.push(Piece::Literal("%".into())),
            'd' | 's' | 'i' | 'r' => pieces.push(Piece::Expression(arguments.next()?)),
            _ => return None,
        }
        rest = letters.as_str();
    }
    pieces.push(Piece::Literal(rest.to_owned().into()));
    arguments.next().is_none().then_some(pieces)
}

/// `"cuda:{}".format(i)`. `None` when the pattern does not fit the arguments.
pub(super) fn pieces_of_format<'e>(
    pattern: &str,
    arguments: &'e ast::Arguments,
) -> Option<Vec<Piece<'e>>> {
    let mut pieces = Vec::new();
    let mut positional = 0;
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        pieces.push(Piece::Literal(rest[..at].to_owned().into()));
        let doubled = rest[at..].starts_with("{{") || rest[at..].starts_with("}}");
        if doubled {
            pieces.push(Piece::Literal(rest[at..=at].to_owned().into()));
            rest = &rest[at + 2..];
            continue;
        }
        let (field, after) = rest[at..].strip_prefix('{')?.split_once('}')?;
        rest = after;
        if field.contains([':', '!', '.', '[']) {
            pieces.push(Piece::Formatted);
            continue;
        }
        let expression = if field.is_empty() {
            positional += 1;
            arguments.find_positional(positional - 1)?
        } else if let Ok(position) = field.parse() {
            arguments.find_positional(position)?
        } else {
            &arguments.find_keyword(field)?.value
        };
        pieces.push(Piece::Expression(expression));
    }
    pieces.push(Piece::Literal(rest.to_owned().into()));
    Some(pieces)
}
