//! Where a scalar ends, and how its decoded text lies in the file.

use saphyr_parser::ScalarStyle;

/// The end of a scalar. The parser's end of a quoted one takes in the blanks and the comment behind it.
pub(super) fn end(text: &str, start: usize, end: usize, style: ScalarStyle) -> usize {
    let raw = &text[start..end.max(start)];
    let len = match style {
        ScalarStyle::DoubleQuoted => closing(raw, '"'),
        ScalarStyle::SingleQuoted => closing(raw, '\''),
        ScalarStyle::Plain | ScalarStyle::Literal | ScalarStyle::Folded => raw.trim_end().len(),
    };
    start + len
}

fn closing(raw: &str, quote: char) -> usize {
    let mut letters = raw.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' && quote == '"' {
            letters.next();
        } else if letter == quote {
            if quote == '\'' && letters.peek().is_some_and(|it| it.1 == '\'') {
                letters.next();
            } else {
                return at + 1;
            }
        }
    }
    raw.trim_end().len()
}

/// How a decoded text lies in the raw one.
#[derive(Debug, Default)]
pub(super) struct Lies {
    /// `(decoded offset, raw offset)`, one per jump.
    pub(super) pieces: Vec<(u32, usize)>,
    /// `(decoded end, raw end)` of each escape.
    pub(super) escapes: Vec<(u32, usize)>,
}

/// `None` when the two texts do not belong together.
pub(super) fn lies(decoded: &str, raw: &str, style: ScalarStyle) -> Option<Lies> {
    let quote = match style {
        ScalarStyle::DoubleQuoted => Some('"'),
        ScalarStyle::SingleQuoted => Some('\''),
        _ => None,
    };
    let mut at = usize::from(quote.is_some());
    let mut pieces: Vec<(u32, usize)> = vec![(0, at)];
    let mut escapes = Vec::new();
    for (local, letter) in decoded.char_indices() {
        let mut len = letter.len_utf8();
        loop {
            let rest = raw.get(at..)?;
            let Some(next) = rest.chars().next() else {
                // The line end that every block scalar has, and the file's last line may lack.
                if !decoded[local..].trim().is_empty() {
                    return None;
                }
                pieces.push((u32::try_from(local).ok()?, raw.len()));
                let ends = (local..decoded.len()).map(|it| (u32::try_from(it + 1), raw.len()));
                escapes.extend(ends.filter_map(|(local, raw)| Some((local.ok()?, raw))));
                return Some(Lies { pieces, escapes });
            };
            if quote == Some('"') && next == '\\' {
                let (escape, gives_nothing) = escape_len(rest);
                if gives_nothing {
                    at += escape;
                    continue;
                }
                len = escape;
                break;
            }
            if quote == Some('\'') && rest.starts_with("''") && letter == '\'' {
                len = 2;
                break;
            }
            if next == letter || (letter == ' ' && next == '\n' && style != ScalarStyle::Literal) {
                break;
            }
            // Indentation, a folded line's end, or the CR of a line end.
            if !next.is_whitespace() {
                return None;
            }
            at += next.len_utf8();
        }
        let local32 = u32::try_from(local).ok()?;
        let (from, to) = *pieces.last()?;
        if to + (local - from as usize) != at {
            if from == local32 {
                pieces.pop();
            }
            pieces.push((local32, at));
        }
        at += len;
        if len != letter.len_utf8() {
            escapes.push((local32 + u32::try_from(letter.len_utf8()).ok()?, at));
        }
    }
    Some(Lies { pieces, escapes })
}

/// The length of an escape, and whether it gives no character (a line's end).
fn escape_len(rest: &str) -> (usize, bool) {
    let kind = rest[1..].chars().next();
    let len = match kind {
        Some('x') => 4,
        Some('u') => 6,
        Some('U') => 10,
        Some('\r') if rest[2..].starts_with('\n') => 3,
        Some(other) => 1 + other.len_utf8(),
        None => 1,
    };
    (len.min(rest.len()), matches!(kind, Some('\n' | '\r')))
}

#[cfg(test)]
mod tests {
    use super::lies;
    use saphyr_parser::ScalarStyle::{DoubleQuoted, Folded, Literal, Plain, SingleQuoted};

    /// Every word of the decoded text is found where the pieces say.
    #[track_caller]
    fn check(decoded: &str, raw: &str, style: saphyr_parser::ScalarStyle) {
        let pieces = lies(decoded, raw, style).expect("they belong together").pieces;
        for word in decoded.split_whitespace() {
            let local = word.as_ptr() as usize - decoded.as_ptr() as usize;
            let at = pieces.partition_point(|it| it.0 as usize <= local) - 1;
            let raw_at = pieces[at].1 + local - pieces[at].0 as usize;
            let first = word.chars().next().expect("words are not empty");
            assert!(
                raw[raw_at..].starts_with([first, '\\', '\'']),
                "`{word}` in {raw:?}: {:?}",
                &raw[raw_at..]
            );
        }
    }

    #[test]
    fn words_of_a_block_are_found_behind_their_indentation() {
        check("echo é\n  two\n\nthree\n", "echo é\n    two\n\n  three\n", Literal);
        check("a b\nc", "a\n  b\n\n  c", Folded);
        check("a\nb\n", "a\r\n  b\r\n", Literal);
    }

    #[test]
    fn words_of_quoted_texts_are_found_behind_escapes() {
        check("a\nb \"c\" x", r#""a\nb \"c\" \x78""#, DoubleQuoted);
        check("ab c", "\"a\\\n  b\n  c\"", DoubleQuoted);
        check("it's so", "'it''s so'", SingleQuoted);
        check("a b", "a\n    b", Plain);
    }
}
