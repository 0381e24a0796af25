//! Bytes to text and back.

use std::borrow::Cow;

use crate::source::{Charset, Encoding, Language};

/// The text of a file, and how its bytes became text.
///
/// A byte order mark decides, then, for Python, an encoding comment, then UTF-8. Bytes that are not what
/// they should be become U+FFFD, and the file counts as [`Charset::BrokenUtf8`]: it is read, never edited.
pub(crate) fn decode(bytes: &[u8], language: Language) -> (String, Encoding) {
    if let Some((charset, mark_len)) = encoding_rs::Encoding::for_bom(bytes) {
        return with(charset, &bytes[mark_len..], true);
    }
    let charset = match language {
        Language::Python => cookie(bytes).unwrap_or(encoding_rs::UTF_8),
        _ => encoding_rs::UTF_8,
    };
    with(charset, bytes, false)
}

/// The bytes of an edited text. `None` when the text cannot be written in its encoding, or was never read faithfully.
pub fn encode(text: &str, encoding: Encoding) -> Option<Vec<u8>> {
    let bytes: Cow<'_, [u8]> = match encoding.charset {
        Charset::BrokenUtf8 => return None,
        Charset::Utf8 => text.as_bytes().into(),
        // encoding_rs decodes UTF-16 and, like the web, never writes it.
        Charset::Other("UTF-16LE") => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        Charset::Other("UTF-16BE") => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        Charset::Other(name) => {
            let charset = encoding_rs::Encoding::for_label(name.as_bytes())?;
            let (bytes, _, replaced) = charset.encode(text);
            if replaced {
                return None;
            }
            bytes
        }
    };
    let mark: &[u8] = match encoding.charset {
        _ if !encoding.byte_order_mark => b"",
        Charset::Other("UTF-16LE") => b"\xff\xfe",
        Charset::Other("UTF-16BE") => b"\xfe\xff",
        _ => b"\xef\xbb\xbf",
    };
    Some([mark, &bytes].concat())
}

fn with(
    charset: &'static encoding_rs::Encoding,
    bytes: &[u8],
    byte_order_mark: bool,
) -> (String, Encoding) {
    let (text, broken) = charset.decode_without_bom_handling(bytes);
    let charset = if broken {
        Charset::BrokenUtf8
    } else if charset == encoding_rs::UTF_8 {
        Charset::Utf8
    } else {
        Charset::Other(charset.name())
    };
    (text.into_owned(), Encoding { byte_order_mark, charset })
}

/// The encoding that a comment in the first two lines names (PEP 263).
fn cookie(bytes: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    for line in bytes.split(|it| *it == b'\n').take(2) {
        let line = &line[..line.len().min(400)];
        let comment = line.trim_ascii_start().strip_prefix(b"#");
        let Some(comment) = comment else {
            if line.trim_ascii().is_empty() {
                continue;
            }
            return None;
        };
        if let Some(name) = cookie_name(comment) {
            return by_python_name(&name);
        }
    }
    None
}

fn cookie_name(comment: &[u8]) -> Option<String> {
    let at = comment.windows(6).position(|it| it == b"coding")? + 6;
    let rest = comment[at..].strip_prefix(b":").or_else(|| comment[at..].strip_prefix(b"="))?;
    let rest = rest.trim_ascii_start();
    let is_name = |it: &u8| it.is_ascii_alphanumeric() || b"-_.".contains(it);
    let end = rest.iter().position(|it| !is_name(it)).unwrap_or(rest.len());
    Some(String::from_utf8_lossy(&rest[..end]).to_ascii_lowercase().replace('_', "-"))
}

/// Python's codec names are laxer than the web's labels.
fn by_python_name(name: &str) -> Option<&'static encoding_rs::Encoding> {
    let label = match name {
        "utf-8-sig" => "utf-8",
        "cp932" | "ms932" | "mskanji" => "shift_jis",
        "cp936" | "ms936" => "gbk",
        "cp949" | "uhc" => "euc-kr",
        "cp950" => "big5",
        "latin" | "l1" | "cp819" | "iso8859" => "latin1",
        other => other,
    };
    let tries = [label.to_owned(), label.replace('-', ""), label.replace('-', "_")];
    tries.iter().find_map(|it| encoding_rs::Encoding::for_label(it.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};
    use crate::source::{Charset, Encoding, Language};

    #[track_caller]
    fn check(language: Language, bytes: &[u8], text: &str, charset: Charset, mark: bool) {
        let expected = Encoding { byte_order_mark: mark, charset };
        assert_eq!(decode(bytes, language), (text.to_owned(), expected));
        let back = encode(text, expected);
        assert_eq!(back.as_deref(), (charset != Charset::BrokenUtf8).then_some(bytes));
    }

    #[test]
    fn plain_utf_8_stays_as_it_is() {
        check(Language::Python, "é = 1\r\n".as_bytes(), "é = 1\r\n", Charset::Utf8, false);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        check(Language::Shell, b"\xef\xbb\xbfx", "x", Charset::Utf8, true);
        check(Language::PowerShell, b"\xff\xfex\0\xe9\0", "xé", Charset::Other("UTF-16LE"), true);
        check(Language::Batch, b"\xfe\xff\0x", "x", Charset::Other("UTF-16BE"), true);
    }

    #[test]
    fn an_encoding_comment_is_heeded_in_python_only() {
        let latin = b"# -*- coding: latin-1 -*-\nx = '\xe9'";
        let text = "# -*- coding: latin-1 -*-\nx = 'é'";
        check(Language::Python, latin, text, Charset::Other("windows-1252"), false);
        let broken = "# -*- coding: latin-1 -*-\nx = '\u{fffd}'";
        check(Language::Shell, latin, broken, Charset::BrokenUtf8, false);
        let second = b"#!/usr/bin/python\n# vim: set fileencoding=koi8_r :\n'\xc1'";
        let text = "#!/usr/bin/python\n# vim: set fileencoding=koi8_r :\n'а'";
        check(Language::Python, second, text, Charset::Other("KOI8-R"), false);
        check(
            Language::Python,
            b"x\n# coding: cp932\n\x82",
            "x\n# coding: cp932\n\u{fffd}",
            Charset::BrokenUtf8,
            false,
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        check(Language::Python, b"x = '\xff'", "x = '\u{fffd}'", Charset::BrokenUtf8, false);
    }

    #[test]
    fn text_its_encoding_cannot_write_is_refused() {
        let charset = Charset::Other("windows-1252");
        assert_eq!(encode("→", Encoding { byte_order_mark: false, charset }), None);
    }
}
