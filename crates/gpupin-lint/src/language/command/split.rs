//! A command line that no shell reads: `command:` of compose, `ExecStart=` of systemd.

use crate::{
    span::Positions,
    value::{Spanned, Value},
};

/// The words of a text, with quotes and backslashes taken off. A word's place has its quotes.
pub(crate) fn split(text: &str, at: &Positions) -> Vec<Spanned> {
    let mut words = Vec::new();
    let mut letters = text.char_indices().peekable();
    loop {
        while letters.next_if(|it| it.1.is_whitespace()).is_some() {}
        let Some(&(start, _)) = letters.peek() else { return words };
        let mut plain = String::new();
        let mut quote = None;
        let mut end = text.len();
        while let Some((offset, letter)) = letters.next() {
            match (quote, letter) {
                (None, it) if it.is_whitespace() => {
                    end = offset;
                    break;
                }
                (None, '"' | '\'') => quote = Some(letter),
                (Some(open), it) if it == open => quote = None,
                (None | Some('"'), '\\') => match letters.next() {
                    // Windows paths are no escapes.
                    Some((_, next)) if next.is_alphanumeric() => plain.extend(['\\', next]),
                    Some((_, '\n')) | None => {}
                    Some((_, next)) => plain.push(next),
                },
                _ => plain.push(letter),
            }
        }
        if !plain.is_empty() || end > start + 1 {
            words.push(Spanned::new(Value::Str(plain), at.span(start..end)));
        }
    }
}
