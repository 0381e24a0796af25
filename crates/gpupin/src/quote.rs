//! Variables and words in the syntax of those who read them.

use std::fmt::Write as _;

/// A word of a POSIX shell.
pub(crate) fn shell(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A value in a `.env` file, as python-dotenv and Compose read it; `None` if it cannot be written so that both agree.
///
/// Single quotes keep everything, and there is no agreement on how to write one inside.
pub(crate) fn dotenv(value: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,@%+=".contains(c);
    if value.chars().all(is_plain) {
        return Some(value.to_owned());
    }
    let has_quote = value.contains(['\'', '\n', '\r', '\\']);
    (!has_quote).then(|| format!("'{value}'"))
}

/// A word of `Environment=` in a unit of systemd.
pub(crate) fn systemd(name: &str, value: &str) -> String {
    let mut word = format!("\"{name}=");
    for character in value.chars() {
        match character {
            '"' => word.push_str("\\\""),
            '\\' => word.push_str("\\\\"),
            // Specifiers are replaced inside of quotes too.
            '%' => word.push_str("%%"),
            '\n' => word.push_str("\\n"),
            it if it.is_control() => {
                write!(word, "\\x{:02x}", u32::from(it)).expect("a `String` takes everything");
            }
            it => word.push(it),
        }
    }
    word.push('"');
    word
}

/// The words of a command line as a shell would split it, without its variables, globs and pipes; `None` if a quote is not closed.
pub(crate) fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        '\'' => break,
                        it => word.push(it),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        '"' => break,
                        '\\' => match characters.next()? {
                            it @ ('"' | '\\' | '$' | '`') => word.push(it),
                            it => word.extend(['\\', it]),
                        },
                        it => word.push(it),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(characters.next()?),
            it => word.get_or_insert_default().push(it),
        }
    }
    words.extend(word);
    Some(words)
}

/// Whether a command line needs a shell: it has more than words and quotes.
pub(crate) fn needs_shell(line: &str) -> bool {
    line.contains(['|', '&', ';', '<', '>', '$', '`', '*', '?', '(', ')', '~', '#', '\n'])
        || split(line).is_none_or(|it| it.first().is_none_or(|it| it.contains('=')))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{dotenv, needs_shell, shell, split, systemd};

    const VALUES: &[&str] = &[
        "",
        "plain",
        "two words",
        "it's",
        "\"quoted\"",
        "$HOME `id` \\n %h #",
        "max_split_size_mb:1024",
        "line\nline",
        "-n",
        "ümlaut",
    ];

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for value in VALUES {
            let script = format!("A={}; printf %s \"$A\"", shell(value));
            let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), *value);
            assert_eq!(split(&shell(value)), Some(vec![(*value).to_owned()]));
        }
    }

    #[test]
    fn a_dotenv_file_has_what_all_readers_agree_on() {
        for (value, expected) in [
            ("", Some("")),
            ("max_split_size_mb:1024", Some("max_split_size_mb:1024")),
            ("two words $HOME #", Some("'two words $HOME #'")),
            ("it's", None),
            ("a\nb", None),
        ] {
            assert_eq!(dotenv(value).as_deref(), expected);
        }
    }

    #[test]
    fn systemd_gets_its_escapes() {
        for (value, expected) in [
            ("two words", r#""A=two words""#),
            (r#"a"b\c"#, r#""A=a\"b\\c""#),
            ("50%\n", r#""A=50%%\n""#),
        ] {
            assert_eq!(systemd("A", value), expected);
        }
    }

    #[test]
    fn lines_are_split_as_a_shell_does() {
        for (line, expected) in [
            (
                "python -m assistant --selftest",
                Some(&["python", "-m", "assistant", "--selftest"][..]),
            ),
            (r#"a 'b c' "d \"e" f\ g"#, Some(&["a", "b c", "d \"e", "f g"])),
            ("", Some(&[])),
            ("a 'b", None),
        ] {
            let expected = expected.map(|it| it.iter().map(|it| (*it).to_owned()).collect());
            assert_eq!(split(line), expected, "{line}");
        }
    }

    #[test]
    fn only_what_a_shell_is_needed_for_gets_one() {
        for (line, expected) in
            [("a b 'c d'", false), ("a | b", true), ("A=1 b", true), ("a $B", true), ("a '", true)]
        {
            assert_eq!(needs_shell(line), expected, "{line}");
        }
    }
}
