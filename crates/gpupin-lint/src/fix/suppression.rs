//! Writing `# gpupin: ignore[GP201]` for a finding.
//!
//! Where comments may stand differs from language to language, and within one. So there are a few candidates per
//! language, and what counts is tried: the file is read again with the comment in it.

use std::ops::Range;

use crate::{
    finding::{Edit, Finding},
    fix::edited,
    language::{python, read},
    rules::Check,
    source::{Charset, Language},
    span::Span,
    unit::{Suppression, Unit},
};

/// The edit that takes a finding back with a comment: it extends the one that is there, or writes one.
///
/// `None` where no comment can do that: in JSON, in notebooks, in the middle of some text, or about comments.
pub fn suppression(unit: &Unit, finding: &Finding) -> Option<Edit> {
    let source = &unit.source;
    let about_comments = matches!(finding.rule.check, Check::Suppression(_));
    if about_comments || source.encoding.charset == Charset::BrokenUtf8 {
        return None;
    }
    let code = finding.rule.code;
    let at = finding.span.start as usize;
    let extended = unit.suppressions.iter().rev().filter(|it| covers(it, at));
    let extended = extended.filter_map(|it| extended_list(it, &source.text, code));
    let edits = extended.chain(comments(source.language, &source.text, at, code));
    edits
        .map(|(at, replacement)| Edit { unit: finding.unit, span: Span::new(at, at), replacement })
        .find(|it| suppresses(unit, it, at, code))
}

/// Where a code goes in a comment, and how.
fn extended_list(comment: &Suppression, text: &str, code: &str) -> Option<(usize, String)> {
    if let Some((_, last)) = comment.codes.last() {
        return Some((last.end as usize, format!(", {code}")));
    }
    let at = comment.span.start as usize;
    let word = text.get(comment.span.range())?.find("ignore")? + "ignore".len();
    Some((at + word, format!("[{code}]")))
}

/// Comments that a language might allow, the best first.
fn comments(language: Language, text: &str, at: usize, code: &str) -> Vec<(usize, String)> {
    let line = line(text, at);
    match language {
        Language::Python => vec![behind(text, python::place_for_comment(text, at), code)],
        Language::Shell
        | Language::PowerShell
        | Language::Compose
        | Language::Kubernetes
        | Language::Workflow
        | Language::Yaml
        | Language::Toml => {
            let goes_on = is_continued(text[line.clone()].trim_end());
            let behind = (!goes_on).then(|| behind(text, line.end, code));
            let first = first_line(text, line.start);
            behind.into_iter().chain([above(text, first, "#", code)]).collect()
        }
        // Comments may stand between the lines of an instruction, and only on lines of their own.
        Language::Dockerfile => vec![above(text, line.start, "#", code)],
        Language::Dotenv | Language::Systemd | Language::Ini | Language::Makefile => {
            vec![above(text, first_line(text, line.start), "#", code)]
        }
        Language::Batch => vec![above(text, line.start, "REM", code)],
        Language::Json | Language::Notebook => Vec::new(),
    }
}

fn behind(text: &str, line_end: usize, code: &str) -> (usize, String) {
    let end = text[..line_end].trim_end().len().max(line(text, line_end).start);
    (end, format!("  # gpupin: ignore[{code}]"))
}

fn above(text: &str, line_start: usize, marker: &str, code: &str) -> (usize, String) {
    let line = &text[line_start..];
    let indentation = &line[..line.len() - line.trim_start_matches(' ').len()];
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    (line_start, format!("{indentation}{marker} gpupin: ignore[{code}]{end}"))
}

/// The line around an offset, without its end.
fn line(text: &str, at: usize) -> Range<usize> {
    let start = text[..at].rfind('\n').map_or(0, |it| it + 1);
    let end = text[at..].find('\n').map_or(text.len(), |it| at + it);
    start..end.max(start)
}

/// Where the first of the lines starts that are one by continuation.
fn first_line(text: &str, line_start: usize) -> usize {
    let mut start = line_start;
    while let Some(before) = start.checked_sub(1).map(|it| line(text, it))
        && is_continued(text[before.clone()].trim_end())
    {
        start = before.start;
    }
    start
}

fn is_continued(line: &str) -> bool {
    line.ends_with(['\\', '`', '^'])
}

/// Whether a finding at `at` is taken back by the edit, and the file means the same as before.
fn suppresses(unit: &Unit, edit: &Edit, at: usize, code: &str) -> bool {
    let text = edited(&unit.source.text, [edit]);
    // With a mark, or a comment in it may name another encoding.
    let bytes = ["\u{feff}", &text].concat();
    let Some(new) = read(&unit.source.path, bytes.as_bytes()) else { return false };
    let shift = if edit.span.start as usize <= at { edit.replacement.len() } else { 0 };
    let names = |it: &Suppression| it.codes.iter().any(|it| it.0 == code);
    new.suppressions.iter().any(|it| covers(it, at + shift) && names(it))
        && new.events.len() == unit.events.len()
        && new.syntax_errors.len() <= unit.syntax_errors.len()
        && new.unread == unit.unread
}

fn covers(comment: &Suppression, at: usize) -> bool {
    (comment.covers.start as usize..=comment.covers.end as usize).contains(&at)
}

#[cfg(test)]
mod tests {
    use super::suppression;
    use crate::{fix::edited, language::read, rules, span::Span, unit::UnitId};

    /// Suppresses GP201 at the first `1`. `None`: there is no way.
    #[track_caller]
    fn check(path: &str, text: &str, expected: Option<&str>) {
        let unit = read(path, text.as_bytes()).unwrap();
        let at = text.find('1').expect("the text has a 1");
        let rule = rules::find("GP201").unwrap();
        let finding = rule.finding(UnitId(0), Span::new(at, at + 1), "");
        let new = suppression(&unit, &finding).map(|it| edited(text, [&it]));
        assert_eq!(new.as_deref(), expected);
    }

    #[test]
    fn a_comment_goes_behind_the_line() {
        check("a.py", "x = 1\ny\n", Some("x = 1  # gpupin: ignore[GP201]\ny\n"));
        check("a.py", "x = 1 # noqa\r\n", Some("x = 1 # noqa  # gpupin: ignore[GP201]\r\n"));
        check("a.sh", "x=1", Some("x=1  # gpupin: ignore[GP201]"));
        check("a.yaml", "gpu_id: 1  \n", Some("gpu_id: 1  # gpupin: ignore[GP201]  \n"));
        check("a.toml", "gpu_id = 1\n", Some("gpu_id = 1  # gpupin: ignore[GP201]\n"));
        check("a.ps1", "$x = 1\n", Some("$x = 1  # gpupin: ignore[GP201]\n"));
    }

    #[test]
    fn a_statement_of_several_lines_has_it_where_python_allows() {
        check("a.py", "f(\n    1,\n)\n", Some("f(\n    1,  # gpupin: ignore[GP201]\n)\n"));
        check("a.py", "x = 1 + \\\n    2\n", Some("x = 1 + \\\n    2  # gpupin: ignore[GP201]\n"));
        check(
            "a.py",
            "f('''\ncuda:1\n''')\n",
            Some("f('''\ncuda:1\n''')  # gpupin: ignore[GP201]\n"),
        );
    }

    #[test]
    fn languages_without_comments_behind_something_have_it_above() {
        check("Dockerfile", "ENV X=1\n", Some("# gpupin: ignore[GP201]\nENV X=1\n"));
        check(".env", "A=0\nX=1\n", Some("A=0\n# gpupin: ignore[GP201]\nX=1\n"));
        check(
            "a.service",
            "[Service]\r\nX=1\r\n",
            Some("[Service]\r\n# gpupin: ignore[GP201]\r\nX=1\r\n"),
        );
        check("a.bat", "set X=1\r\n", Some("REM gpupin: ignore[GP201]\r\nset X=1\r\n"));
        check("Makefile", "a:\n\tX=1 b\n", Some("a:\n# gpupin: ignore[GP201]\n\tX=1 b\n"));
    }

    #[test]
    fn the_list_of_a_comment_is_extended() {
        check(
            "a.py",
            "x = 1  # gpupin: ignore[GP204] why\n",
            Some("x = 1  # gpupin: ignore[GP204, GP201] why\n"),
        );
        check("a.py", "x = 1  # gpupin: ignore\n", Some("x = 1  # gpupin: ignore[GP201]\n"));
        check(
            "a.sh",
            "# gpupin: ignore[missing-device-order]\nx=1\n",
            Some("# gpupin: ignore[missing-device-order, GP201]\nx=1\n"),
        );
    }

    #[test]
    fn what_has_no_comments_is_left_alone() {
        check("a.json", "{\"gpu_id\": 1}", None);
        check("a.sh", "cat <<E\n1\nE\n", None);
    }
}
