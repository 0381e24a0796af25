//! `gpupin: ignore[GP201] reason` in a comment of any language.

use std::ops::Range;

use crate::{span::Positions, unit::Suppression};

const MARK: &str = "gpupin:";

/// Reads a comment, given with its marker (`#`, `//`, `;`, `REM`, `::`, `<#`).
///
/// It covers its own line, or, when nothing else stands there, the next line that is neither blank nor
/// a comment. A reader that knows statements widens that to the statement. A suppression without codes
/// is returned too, with none, so that it can be reported.
pub(crate) fn comment(text: &str, comment: Range<usize>, at: &Positions) -> Option<Suppression> {
    let body = text.get(comment.clone())?;
    let mark = body.match_indices(MARK).map(|it| it.0).find(|it| opens_comment(&body[..*it]))?;
    let word = body[mark + MARK.len()..].trim_start();
    // What other tools call it suppresses nothing here, which is to be told.
    let foreign =
        || ["noqa", "disable", "nolint", "allow"].iter().find_map(|it| word.strip_prefix(it));
    let (after, known) = match word.strip_prefix("ignore") {
        Some(after) => (after, true),
        None => (foreign()?, false),
    };
    let mut codes = Vec::new();
    let mut reason = after;
    if let Some(list) = after.trim_start().strip_prefix('[')
        && known
    {
        // A list that does not end names nothing.
        let (inside, rest) = list.split_once(']').unwrap_or(("", list));
        reason = rest;
        let mut start = comment.end - list.len();
        for code in inside.split(',') {
            let lead = code.len() - code.trim_start().len();
            let (from, code_len) = (start + lead, code.trim().len());
            if code_len > 0 {
                codes.push((code.trim().to_owned(), at.span(from..from + code_len)));
            }
            start += code.len() + 1;
        }
    } else if after.starts_with(|it: char| it.is_alphanumeric() || it == '_') {
        // `ignored`, `ignore_all`: some other word.
        return None;
    }
    Some(Suppression {
        span: at.span(comment.clone()),
        covers: at.span(covered(text, &comment)),
        codes,
        reason: reason.trim_end_matches(['*', '/', '>', '#']).trim().to_owned(),
        in_text: false,
    })
}

/// Finds suppressions in a text whose comments run to the end of the line, without parsing it.
///
/// `inside` tells offsets that belong to a string or another language.
pub(crate) fn scan(
    text: &str,
    at: &Positions,
    markers: &[&str],
    inside: impl Fn(usize) -> bool,
) -> Vec<Suppression> {
    let mut found = Vec::new();
    let mut read_to = 0;
    for (mark, _) in text.match_indices(MARK) {
        if mark < read_to {
            continue;
        }
        let line_start = text[..mark].rfind('\n').map_or(0, |it| it + 1);
        let line_end = text[mark..].find('\n').map_or(text.len(), |it| mark + it);
        read_to = line_end;
        let line = &text[line_start..line_end];
        let opens = |it: &usize| {
            line[..*it].chars().next_back().is_none_or(char::is_whitespace)
                && !inside(line_start + it)
        };
        let starts = markers.iter().flat_map(|it| line.match_indices(*it)).map(|it| it.0);
        let mut starts: Vec<usize> = starts.filter(opens).take(CANDIDATES).collect();
        starts.sort_unstable();
        found
            .extend(starts.into_iter().find_map(|it| comment(text, line_start + it..line_end, at)));
    }
    found
}

/// How many places of a line may begin its comment.
const CANDIDATES: usize = 16;

/// Whether what stands before the mark is only a comment's opening, perhaps that of a second comment in it (`# noqa  # gpupin: …`).
fn opens_comment(before: &str) -> bool {
    let before = before.trim_end();
    before.ends_with(['#', '/', '*', ';', ':', '-'])
        || before.len() >= 3
            && before.get(before.len() - 3..).is_some_and(|it| it.eq_ignore_ascii_case("rem"))
}

/// How many lines below a comment of its own the covered one may stand.
const REACH: usize = 50;

fn covered(text: &str, comment: &Range<usize>) -> Range<usize> {
    let line_start = text[..comment.start].rfind('\n').map_or(0, |it| it + 1);
    let line_end = |from: usize| {
        let line = text[from..].split('\n').next().unwrap_or_default();
        from + line.trim_end_matches('\r').len()
    };
    if !text[line_start..comment.start].trim().is_empty() {
        return line_start..line_end(comment.start);
    }
    let behind = |from: usize| text[from..].find('\n').map_or(text.len(), |it| from + it + 1);
    let mut next = behind(comment.end);
    for _ in 0..REACH {
        if next >= text.len() {
            break;
        }
        let line = text[next..line_end(next)].trim();
        if !line.is_empty() && !is_comment_line(line) {
            return next..line_end(next);
        }
        next = behind(next);
    }
    line_start..line_end(comment.start)
}

fn is_comment_line(line: &str) -> bool {
    line.starts_with(['#', ';'])
        || line.starts_with("//")
        || line.starts_with("::")
        || line.get(..4).is_some_and(|it| it.eq_ignore_ascii_case("rem "))
}

#[cfg(test)]
mod tests {
    use super::comment;
    use crate::span::Positions;

    /// Reads the comment that starts at `at` in `text` and runs to the end of its line.
    #[track_caller]
    fn check(text: &str, marker: &str, expected: Option<(&[&str], &str, &str)>) {
        let start = text.find(marker).expect("the marker stands in the text");
        let end = text[start..].find('\n').map_or(text.len(), |it| start + it);
        let found = comment(text, start..end, &Positions::identity());
        let found = found.map(|it| {
            for (code, span) in &it.codes {
                assert_eq!(code, &text[span.range()]);
            }
            let codes: Vec<String> = it.codes.into_iter().map(|it| it.0).collect();
            (codes, it.reason, text[it.covers.range()].to_owned())
        });
        let expected = expected.map(|(codes, reason, covers)| {
            let codes = codes.iter().map(|it| (*it).to_owned()).collect();
            (codes, reason.to_owned(), covers.to_owned())
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_written_wrongly_names_no_rule() {
        check(
            "x = 1  # gpupin: noqa[GP201]",
            "#",
            Some((&[], "[GP201]", "x = 1  # gpupin: noqa[GP201]")),
        );
        check(
            "x = 1  # gpupin: ignore[GP201",
            "#",
            Some((&[], "GP201", "x = 1  # gpupin: ignore[GP201")),
        );
        check("x = 1  # gpupin: allowed", "#", None);
    }

    #[test]
    fn a_trailing_comment_covers_its_line() {
        check(
            "a\nx = 1  # gpupin: ignore[GP201] shared machine\nb",
            "#",
            Some((&["GP201"], "shared machine", "x = 1  # gpupin: ignore[GP201] shared machine")),
        );
    }

    #[test]
    fn a_comment_of_its_own_covers_the_next_code_line() {
        check(
            "# gpupin: ignore[GP201, missing-device-order]\n\n# why\nx = 1\ny",
            "#",
            Some((&["GP201", "missing-device-order"], "", "x = 1")),
        );
    }

    #[test]
    fn every_comment_syntax_works() {
        for line in [
            "REM gpupin: ignore[GP103] r",
            ":: gpupin: ignore[GP103] r",
            "// gpupin: ignore[GP103] r",
            "; gpupin: ignore[GP103] r",
        ] {
            check(&format!("{line}\nset X=1"), line, Some((&["GP103"], "r", "set X=1")));
        }
        check("/* gpupin: ignore[GP103] r */\nx", "/*", Some((&["GP103"], "r", "x")));
        check(
            "x # noqa # gpupin: ignore[GP1]",
            "#",
            Some((&["GP1"], "", "x # noqa # gpupin: ignore[GP1]")),
        );
    }

    #[test]
    fn missing_codes_are_told_apart_from_no_suppression() {
        check("x  # gpupin: ignore", "#", Some((&[], "", "x  # gpupin: ignore")));
        check(
            "x  # gpupin: ignore everything",
            "#",
            Some((&[], "everything", "x  # gpupin: ignore everything")),
        );
        check("x  # gpupin: ignored", "#", None);
        check("x  # see gpupin: ignore[GP101]", "#", None);
    }
}
