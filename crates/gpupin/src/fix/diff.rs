//! What would change, as `git apply` and `patch -p1` take it.

use std::{borrow::Cow, fmt::Write as _, io, ops::Range};

use annotate_snippets::renderer::{AnsiColor, Style};
use similar::{Algorithm, DiffTag, capture_diff_slices, group_diff_ops};

use crate::terminal::BOLD;

const CONTEXT: usize = 3;
const REMOVED: Style = AnsiColor::Red.on_default();
const ADDED: Style = AnsiColor::Green.on_default();
const PLACE: Style = AnsiColor::Cyan.on_default();

/// Writes a unified diff of one file. No text stands for no file; where nothing changes, nothing is written.
pub(crate) fn unified(
    path: &str,
    old: &str,
    new: &str,
    colour: bool,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let style = |it| if colour { it } else { Style::new() };
    let mut line = |it: Style, text: &str| writeln!(out, "{it}{text}{it:#}");
    // Only `\n` ends a line; `\r` is a character as any other, and is kept.
    let (old, new): (Vec<_>, Vec<_>) =
        (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let operations = capture_diff_slices(Algorithm::Myers, &old, &new);
    if operations.iter().all(|it| it.tag() == DiffTag::Equal) {
        return Ok(());
    }
    line(style(BOLD), &format!("--- {}", name("a/", path, &old)))?;
    line(style(BOLD), &format!("+++ {}", name("b/", path, &new)))?;
    for hunk in group_diff_ops(operations, CONTEXT) {
        let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { continue };
        let of_old = range(first.old_range().start..last.old_range().end);
        let of_new = range(first.new_range().start..last.new_range().end);
        line(style(PLACE), &format!("@@ -{of_old} +{of_new} @@"))?;
        for operation in hunk {
            let mut lines = |sign: char, it: Style, lines: &[&str]| -> io::Result<()> {
                for text in lines {
                    let without_end = text.strip_suffix('\n');
                    line(it, &format!("{sign}{}", without_end.unwrap_or(text)))?;
                    if without_end.is_none() {
                        line(Style::new(), "\\ No newline at end of file")?;
                    }
                }
                Ok(())
            };
            let (removed, added) = (&old[operation.old_range()], &new[operation.new_range()]);
            if operation.tag() == DiffTag::Equal {
                lines(' ', Style::new(), removed)?;
            } else {
                lines('-', style(REMOVED), removed)?;
                lines('+', style(ADDED), added)?;
            }
        }
    }
    Ok(())
}

/// The name of a file in a header, quoted as git does it.
fn name<'a>(prefix: &str, path: &str, text: &[&str]) -> Cow<'a, str> {
    if text.is_empty() {
        return "/dev/null".into();
    }
    let is_special = |it: char| it.is_ascii_control() || it == '"' || it == '\\';
    if path.contains(is_special) {
        let mut quoted = format!("\"{prefix}");
        for character in path.chars() {
            match character {
                '"' | '\\' => quoted.extend(['\\', character]),
                it if it.is_ascii_control() => {
                    write!(quoted, "\\{:03o}", it as u32).expect("a `String` takes everything");
                }
                it => quoted.push(it),
            }
        }
        return (quoted + "\"").into();
    }
    // Without it, the name would end at the first space.
    let end = if path.contains(' ') { "\t" } else { "" };
    format!("{prefix}{path}{end}").into()
}

/// First line and number of lines. Where there are none, the line before.
fn range(lines: Range<usize>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => format!("{}", lines.start + 1),
        length => format!("{},{length}", lines.start + 1),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, process::Command};

    use expect_test::{Expect, expect};

    use super::unified;

    fn diff(path: &str, old: &str, new: &str, colour: bool) -> String {
        let mut out = Vec::new();
        unified(path, old, new, colour, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn check(old: &str, new: &str, expected: &Expect) {
        expected.assert_eq(&diff("a.py", old, new, false));
    }

    #[test]
    fn a_change_has_three_lines_around_it() {
        check(
            "1\n2\n3\n4\n5\n6\n7\n8\n9\n",
            "1\n2\n3\n4\nnew\n6\n7\n8\n9\n",
            &expect![[r#"
                --- a/a.py
                +++ b/a.py
                @@ -2,7 +2,7 @@
                 2
                 3
                 4
                -5
                +new
                 6
                 7
                 8
            "#]],
        );
    }

    #[test]
    fn no_text_is_no_file() {
        check(
            "",
            "1\n2\n",
            &expect![[r#"
                --- /dev/null
                +++ b/a.py
                @@ -0,0 +1,2 @@
                +1
                +2
            "#]],
        );
        check(
            "1",
            "",
            &expect![[r#"
                --- a/a.py
                +++ /dev/null
                @@ -1 +0,0 @@
                -1
                \ No newline at end of file
            "#]],
        );
    }

    #[test]
    fn nothing_changed_is_no_text() {
        check("1\n", "1\n", &expect![""]);
    }

    #[test]
    fn colours_are_gits() {
        let expected = "\u{1b}[1m--- a/a.py\u{1b}[0m\n\u{1b}[1m+++ b/a.py\u{1b}[0m\n\u{1b}[36m@@ -1 +1 @@\u{1b}[0m\n\u{1b}[31m-1\u{1b}[0m\n\u{1b}[32m+2\u{1b}[0m\n";
        assert_eq!(diff("a.py", "1\n", "2\n", true), expected);
    }

    /// Texts whose ends of lines are unusual, and a name that needs care.
    const CHANGES: &[(&str, &str, &str)] = &[
        ("plain.py", "1\n2\n3\n", "1\nb\n3\n"),
        ("crlf.py", "1\r\n2\r\n3\r\n", "0\r\n1\r\n2\r\nc\r\n"),
        ("mixed.py", "1\r\n2\n3\r4\n", "1\r\n2\n3\rx\n"),
        ("no_end.py", "1\n2", "0\n1\n2"),
        ("end_added.py", "1\n2", "1\n2\n"),
        ("end_removed.py", "1\n2\n", "1\n2"),
        ("directory/a b.py", "1\n", "2\n"),
        ("ü.py", "é\n", "ü\n"),
        ("created.py", "", "1\n2\n"),
        ("removed.py", "1\n2", ""),
        ("far.py", "a\n1\n2\n3\n4\n5\n6\n7\n8\nb\n", "A\n1\n2\n3\n4\n5\n6\n7\n8\nB\n"),
    ];

    #[track_caller]
    fn check_applying(program: &str, args: &[&str], changes: &[(&str, &str, &str)]) {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mut patch = String::new();
        for (name, old, new) in changes {
            patch += &diff(name, old, new, false);
            if !old.is_empty() {
                fs::create_dir_all(path(name).parent().unwrap()).unwrap();
                fs::write(path(name), old).unwrap();
            }
        }
        fs::write(path("the.patch"), patch).unwrap();
        let output = Command::new(program).args(args).current_dir(&directory).output().unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
        for (name, _, new) in changes {
            let there = fs::read_to_string(path(name)).unwrap_or_default();
            assert_eq!(&there, new, "{program}: {name}");
            assert_eq!(path(name).exists(), !new.is_empty(), "{program}: {name}");
        }
    }

    #[test]
    fn git_applies_it() {
        check_applying("git", &["apply", "the.patch"], CHANGES);
        let quoted = [("a\"b\\c\td.py", "1\n", "2\n")];
        check_applying("git", &["apply", "the.patch"], &quoted);
    }

    #[test]
    fn patch_applies_it() {
        if !Path::new("/usr/bin/patch").exists() {
            eprintln!("skipped: there is no `patch`");
            return;
        }
        check_applying("patch", &["-p1", "--binary", "-i", "the.patch"], CHANGES);
    }
}
