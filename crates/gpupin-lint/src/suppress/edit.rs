//! Changing suppression comments.

use super::Used;
use crate::{
    finding::{Edit, Safety},
    source::Language,
    span::Span,
    unit::UnitId,
};

const MARK: &str = "gpupin:";

/// Leaves of a comment's codes those at `kept`, or nothing of the comment. `None` where the comment does not stand in the
/// file as it was read.
pub(crate) fn keep_only(unit: UnitId, used: &Used<'_>, kept: &[&str]) -> Option<Edit> {
    if kept.is_empty() {
        return remove(unit, used);
    }
    let stands = |it: &super::UsedCode<'_>| used.source.slice(it.span) == it.text;
    if !used.codes.iter().all(stands) {
        return None;
    }
    let (first, last) = (used.codes.first()?, used.codes.last()?);
    let span = first.span.cover(last.span);
    let is_one_line = !used.source.slice(span).contains('\n');
    is_one_line.then(|| Edit { unit, span, replacement: kept.join(", ") })
}

/// Names rules in a comment that names none.
pub(crate) fn name(unit: UnitId, used: &Used<'_>, codes: &[&str]) -> Option<Edit> {
    let comment = Comment::of(used)?;
    let after = &comment.text[comment.mark + MARK.len()..];
    let word = after.trim_start();
    let start = comment.mark + MARK.len() + after.len() - word.len();
    let word_len = word.find(|it: char| !it.is_ascii_alphabetic()).unwrap_or(word.len());
    let mut end = start + word_len;
    // A list that is there, and names nothing.
    if let Some(list) = comment.text[end..].strip_prefix('[') {
        let (inside, _) = list.split_once(']')?;
        if !inside.trim().is_empty() && &comment.text[start..end] == "ignore" {
            return None;
        }
        end += inside.len() + 2;
    }
    let span = comment.part(start, end);
    Some(Edit { unit, span, replacement: format!("ignore[{}]", codes.join(", ")) })
}

/// Changing a comment changes what the program does only where it is none.
pub(crate) fn safety(used: &Used<'_>) -> Safety {
    if used.suppression.in_text {
        Safety::Unsafe("the comment stands in a text, which changes".to_owned())
    } else {
        Safety::Safe
    }
}

/// A comment of one line, as it stands in its file.
struct Comment<'a> {
    text: &'a str,
    span: Span,
    /// Where its own part begins: another tool's may stand in front.
    open: usize,
    /// Where `gpupin:` stands.
    mark: usize,
}

impl<'a> Comment<'a> {
    fn of(used: &Used<'a>) -> Option<Self> {
        let span = used.suppression.span;
        let text = used.source.slice(span);
        let mut marks = text.match_indices(MARK).map(|it| it.0);
        let mark = marks.next()?;
        if marks.next().is_some() || text.contains('\n') {
            return None;
        }
        let before = text[..mark].trim_end();
        let open = before.rfind(char::is_whitespace).map_or(0, |it| it + 1);
        let opener = &before[open..];
        let opens = opener.eq_ignore_ascii_case("rem")
            || !opener.is_empty() && opener.bytes().all(|it| b"#/*;:-<&".contains(&it));
        opens.then_some(Self { text, span, open, mark })
    }

    fn opener(&self) -> &'a str {
        self.text[self.open..self.mark].trim_end()
    }

    /// Where its own part ends: another tool's may follow.
    fn end(&self) -> Option<usize> {
        let close = match self.opener() {
            "/*" => "*/",
            "<#" => "#>",
            "#" => {
                let next = self.text[self.mark..].find(" #");
                return Some(next.map_or(self.text.len(), |it| self.mark + it + 1));
            }
            _ => return Some(self.text.len()),
        };
        // A block that goes on says something else as well.
        self.text.ends_with(close).then_some(self.text.len())
    }

    fn part(&self, start: usize, end: usize) -> Span {
        let at = self.span.start as usize;
        Span::new(at + start, at + end)
    }
}

fn remove(unit: UnitId, used: &Used<'_>) -> Option<Edit> {
    let comment = Comment::of(used)?;
    let text = &used.source.text;
    let end = comment.end()?;
    let mut span = comment.part(comment.open, end);
    if end == comment.text.len() {
        let blanks = |it: usize| text[..it].trim_end_matches([' ', '\t']).len();
        let mut start = if comment.open == 0 {
            blanks(span.range().start)
        } else {
            comment.part(comment.text[..comment.open].trim_end().len(), end).range().start
        };
        let before = text[..start].trim_end_matches('&');
        if comment.opener().eq_ignore_ascii_case("rem") && before.len() < start {
            start = blanks(before.len());
        }
        let rest = text[span.range().end..].split('\n').next().unwrap_or_default();
        // The lines of a notebook's cell are texts of their own.
        let is_alone = used.source.language != Language::Notebook
            && rest.trim().is_empty()
            && (start == 0 || text[..start].ends_with('\n'));
        let end = match span.range().end {
            end if is_alone => (end + rest.len() + 1).min(text.len()),
            end => end,
        };
        span = Span::new(start, end);
    }
    Some(Edit { unit, span, replacement: String::new() })
}
