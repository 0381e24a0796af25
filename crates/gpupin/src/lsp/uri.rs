//! `file:` URIs and paths.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use lsp_types::Uri;

use crate::project::{normal, slashed};

/// The file that a URI names, if it names one of this machine.
pub(super) fn path(uri: &Uri) -> Option<PathBuf> {
    let is_local = uri.authority().is_none_or(|it| matches!(it.as_str(), "" | "localhost"));
    if !is_local || !uri.scheme().is_some_and(|it| it.eq_lowercase("file")) {
        return None;
    }
    let path = uri.path().as_estr().decode().into_string().ok()?.into_owned();
    // `/c:/a` is `c:/a`.
    let drive = path.strip_prefix('/').filter(|it| cfg!(windows) && it.get(1..2) == Some(":"));
    Some(normal(Path::new(drive.unwrap_or(&path))))
}

/// The URI of an absolute path.
pub(super) fn of(path: &Path) -> Uri {
    let path = slashed(path);
    let mut text = String::from(if path.starts_with('/') { "file://" } else { "file:///" });
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("a `String` takes everything");
        }
    }
    text.parse().expect("whatever a URI does not allow was escaped")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{of, path};

    #[test]
    fn paths_survive_the_way_there_and_back() {
        for text in ["/a/b.py", "/a b/ü😀.py", "/100%/#?&+:@[x].py"] {
            assert_eq!(path(&of(Path::new(text))).as_deref(), Some(Path::new(text)), "{text}");
        }
    }

    #[track_caller]
    fn check(uri: &str, expected: Option<&str>) {
        assert_eq!(path(&uri.parse().unwrap()).as_deref(), expected.map(Path::new), "{uri}");
    }

    #[test]
    fn editors_write_uris_differently() {
        check("file:///a/b%20c.py", Some("/a/b c.py"));
        check("file:///a/@b/%40c/./d.py", Some("/a/@b/@c/d.py"));
        check("FILE://localhost/a.py", Some("/a.py"));
        check("untitled:Untitled-1", None);
        check("vscode-notebook-cell:/a.ipynb#X10", None);
        check("file://server/share/a.py", None);
    }
}
