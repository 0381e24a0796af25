//! Texts that name a device: `"cuda:1"`, `f"cuda:{GPU}"`, `"/GPU:1"`.
//!
//! Such a text sends work somewhere wherever it is a value: an argument, an assignment, a default, an
//! element. It does not where it is compared, matched, told to somebody, or a key.

use super::{
    Reader, constant,
    format::{self, Piece},
    syntax::{Expr, Operator, ast, range_of},
};
use crate::{
    catalogue::Numbering,
    language::settings,
    unit::{Choice, Does, Step},
    value::{Spanned, Value},
};

const PREFIX: &str = "cuda:";
/// The longest text that is worth a look: TensorFlow's full names of a device.
const MAX_LENGTH: usize = 60;

impl<'a> Reader<'a, '_> {
    pub(super) fn device_literal(&mut self, it: &'a ast::ExprStringLiteral, steps: &mut Vec<Step>) {
        let text = it.value.to_str();
        if self.context.only_tells || text.len() > MAX_LENGTH || !text.contains(':') {
            return;
        }
        let Some(device) = settings::device_text(text) else { return };
        if !is_unmistakable(text) {
            return;
        }
        // The whole literal's place, as a name bound to it gives it too.
        let range = range_of(it);
        let ordinal = Spanned::new(Value::Int(device.ordinal), self.span(range.clone()));
        self.device_choice(format!("\"{text}\""), range, ordinal, steps);
    }

    /// A text put together that names a device. Tells whether it is one.
    pub(super) fn composed_device(&mut self, whole: &'a Expr, steps: &mut Vec<Step>) -> bool {
        let Some(number) = number_of_device(whole) else { return false };
        if self.context.only_tells {
            return true;
        }
        let value = self.value(number);
        let ordinal = Spanned::new(constant::as_integer(value.value), value.span);
        let shown = self.slice(range_of(whole)).to_owned();
        self.device_choice(shown, range_of(whole), ordinal, steps);
        true
    }

    fn device_choice(
        &mut self,
        by: String,
        range: std::ops::Range<usize>,
        ordinal: Spanned,
        steps: &mut Vec<Step>,
    ) {
        self.uses(&ordinal);
        let span = ordinal.span;
        let ordinal = if self.context.is_default {
            Spanned::new(Value::ByDefault(Box::new(ordinal)), span)
        } else {
            ordinal
        };
        let choice = Choice {
            by,
            ordinals: vec![ordinal],
            numbering: Numbering::Ordinal,
            purpose: self.context.purpose,
            only_with_more_than: self.context.more_than,
            refuses_number: self.context.refuses_number,
        };
        self.emit(steps, range, Does::Choose(choice));
    }
}

/// `gpu:1` alone may be a section or a label; Paddle's functions take it as their argument.
fn is_unmistakable(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with(PREFIX) || text.starts_with('/')
}

/// Where a literal's text starts in the file, when it stands there as it is.
pub(super) fn literal_content(it: &ast::ExprStringLiteral, text: &str) -> Option<usize> {
    let [part] = it.value.as_slice() else { return None };
    let range = range_of(part);
    let written = text.get(range.clone())?;
    let opening = written.find(['"', '\''])?;
    let quotes =
        if written[opening..].starts_with("\"\"\"") || written[opening..].starts_with("'''") {
            3
        } else {
            1
        };
    let start = opening + quotes;
    (written.get(start..start + part.value.len()) == Some(&*part.value))
        .then_some(range.start + start)
}

/// The expression that gives N in a text `cuda:N`.
fn number_of_device(whole: &Expr) -> Option<&Expr> {
    let pieces = match whole {
        Expr::FString(it) => format::pieces_of_f_string(it),
        Expr::BinOp(it) if it.op == Operator::Add => {
            let Expr::StringLiteral(left) = &*it.left else { return None };
            return (left.value.to_str() == PREFIX).then_some(&*it.right);
        }
        Expr::BinOp(it) if it.op == Operator::Mod => {
            let Expr::StringLiteral(left) = &*it.left else { return None };
            if !left.value.to_str().starts_with(PREFIX) {
                return None;
            }
            match &*it.right {
                Expr::Tuple(right) => {
                    let arguments: Vec<_> = right.elts.iter().collect();
                    format::pieces_of_percent(left.value.to_str(), &arguments)?
                }
                right => format::pieces_of_percent(left.value.to_str(), &[right])?,
            }
        }
        Expr::Call(it) => {
            let Expr::Attribute(method) = &*it.func else { return None };
            let Expr::StringLiteral(pattern) = &*method.value else { return None };
            if method.attr.as_str() != "format" || !pattern.value.to_str().starts_with(PREFIX) {
                return None;
            }
            format::pieces_of_format(pattern.value.to_str(), &it.arguments)?
        }
        _ => return None,
    };
    let mut pieces =
        pieces.into_iter().filter(|it| !matches!(it, Piece::Literal(text) if text.is_empty()));
    match (pieces.next(), pieces.next(), pieces.next()) {
        (Some(Piece::Literal(prefix)), Some(Piece::Expression(number)), None)
            if prefix == PREFIX =>
        {
            Some(number)
        }
        _ => None,
    }
}
