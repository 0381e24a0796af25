//! Imports of a Python file without parsing it.
//!
//! The scan may find too much (an import in a docstring) but must not miss an import statement: what it
//! finds too much costs a parse, what it misses would cost a finding.

use memchr::memmem;

use crate::{catalogue, project::modules::parent};

/// Imported modules in the order of the text.
///
/// One record per imported name, so that thousands of files cost one allocation each: a tab and the name of
/// the outermost function or class for an import in a function, a tab, `!` for a GPU library, the level of a
/// relative import as a digit of base 36, the dotted path (`from a import b` is `a.b`), a line feed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Imports {
    records: String,
    /// A GPU library is imported only where the text seems to be an example in a docstring.
    pub(crate) only_in_examples: bool,
}

/// An import that was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found<'i> {
    /// The outermost function or class around it, if it stands in a function: importing the file does not run it.
    pub(crate) owner: Option<&'i str>,
    /// Dots of a relative import; 0 is absolute.
    pub(crate) level: u32,
    pub(crate) path: &'i str,
    /// The name is that of a library that may compute on a GPU. The project may have a module of that name.
    pub(crate) is_gpu_library: bool,
}

impl Imports {
    pub(crate) fn iter(&self) -> impl Iterator<Item = Found<'_>> {
        self.behind(0)
    }

    /// Those that were found after the records were `known` bytes long.
    fn behind(&self, known: usize) -> impl Iterator<Item = Found<'_>> {
        self.records[known..].lines().filter_map(|it| {
            let owned = it.strip_prefix('\t').and_then(|rest| rest.split_once('\t'));
            let (owner, rest) = owned.map_or((None, it), |(owner, rest)| (Some(owner), rest));
            let marked = rest.strip_prefix('!');
            let mut characters = marked.unwrap_or(rest).chars();
            let level = characters.next()?.to_digit(36)?;
            Some(Found {
                owner,
                level,
                path: characters.as_str(),
                is_gpu_library: marked.is_some(),
            })
        })
    }

    /// Whether a GPU library is imported, anywhere in the file.
    pub(crate) fn name_a_gpu_library(&self) -> bool {
        self.iter().any(|it| it.is_gpu_library)
    }

    /// `text` is the whole file.
    fn push(&mut self, text: &[u8], owner: Option<&str>, level: u32, module: &str, name: &str) {
        if let Some(owner) = owner {
            self.records.push('\t');
            self.records.push_str(owner);
            self.records.push('\t');
        }
        let start = self.records.len();
        self.records.push(char::from_digit(level.min(35), 36).unwrap_or('0'));
        self.records.push_str(module);
        if !module.is_empty() && !name.is_empty() {
            self.records.push('.');
        }
        self.records.push_str(name);
        let library =
            if level == 0 { catalogue::library_of(&self.records[start + 1..]) } else { None };
        if library.is_some_and(|it| it.may_compute_in(text)) {
            self.records.insert(start, '!');
        }
        self.records.push('\n');
    }
}

/// `in_json`: lines stand in the strings of a notebook.
pub(crate) fn scan(bytes: &[u8], in_json: bool) -> Imports {
    let mut imports = Imports::default();
    let mut runs_one = false;
    for at in memmem::find_iter(bytes, b"import") {
        let behind = &bytes[at + "import".len()..];
        if !behind.first().is_some_and(|it| b" \t(*\\".contains(it)) {
            continue;
        }
        let line_start = memchr::memrchr2(b'\n', b'\r', &bytes[..at]).map_or(0, |it| it + 1);
        // Behind `;` and `:` another statement starts; in a notebook a line starts with a quote.
        let before = &bytes[line_start..at];
        let starts: &[u8] = if in_json { b";:\"" } else { b";:" };
        let statement = before
            .iter()
            .rposition(|it| starts.contains(it))
            .map_or(before, |it| &before[it + 1..]);
        let statement = statement.trim_ascii();
        let known = imports.records.len();
        if statement.is_empty() {
            let Around::Runs(owner) = around(bytes, line_start) else { continue };
            for name in names(behind, false) {
                imports.push(bytes, owner, 0, name, "");
            }
        } else if let Some(module) = statement.strip_prefix(b"from") {
            let module = module.trim_ascii();
            let level = module.iter().take_while(|it| **it == b'.').count();
            let Ok(module) = std::str::from_utf8(module[level..].trim_ascii()) else { continue };
            if !module.chars().all(|it| it.is_alphanumeric() || it == '_' || it == '.') {
                continue;
            }
            let level = u32::try_from(level).unwrap_or(u32::MAX);
            let Around::Runs(owner) = around(bytes, line_start) else { continue };
            let mut any = false;
            for name in names(behind, true) {
                imports.push(bytes, owner, level, module, name);
                any = true;
            }
            if !any {
                imports.push(bytes, owner, level, module, "");
            }
        }
        if !runs_one && imports.behind(known).any(|it| it.is_gpu_library) {
            let in_text = !in_json && is_in_long_text(bytes, at);
            runs_one |= !in_text;
            imports.only_in_examples = !runs_one;
        }
    }
    imports
}

/// Whether `at` seems to be inside a text in triple quotes. Comments with such quotes in them deceive it.
fn is_in_long_text(bytes: &[u8], at: usize) -> bool {
    let mut from = 0;
    loop {
        let before = &bytes[from..at];
        let opens = |quotes: &[u8]| memmem::find(before, quotes);
        let (open, quotes) = match (opens(b"\"\"\""), opens(b"'''")) {
            (None, None) => return false,
            (Some(double), single) if single.is_none_or(|single| double < single) => {
                (double, b"\"\"\"")
            }
            (_, Some(single)) => (single, b"'''"),
            (Some(double), None) => (double, b"\"\"\""),
        };
        match memmem::find(&before[open + 3..], quotes) {
            Some(close) => from += open + 3 + close + 3,
            None => return true,
        }
    }
}

/// What stands around a line.
enum Around<'b> {
    /// The outermost function or class, if the line is in a function.
    Runs(Option<&'b str>),
    /// `if TYPE_CHECKING:`.
    NeverRuns,
}

/// What stands around the line at `start`.
///
/// Told by the indentation of the lines above it. Bodies of `if`, `try` and classes run with the file.
fn around(bytes: &[u8], start: usize) -> Around<'_> {
    let indentation = |line: &[u8]| line.iter().take_while(|it| b" \t".contains(it)).count();
    let mut least = indentation(&bytes[start..]);
    let mut end = start;
    let (mut in_function, mut outermost) = (false, "");
    while least > 0 && end > 0 {
        let line_start = memchr::memrchr(b'\n', &bytes[..end - 1]).map_or(0, |it| it + 1);
        let line = &bytes[line_start..end];
        end = line_start;
        let indented = indentation(line);
        let text = &line[indented..];
        if indented >= least || matches!(text.first(), None | Some(b'#' | b'\n' | b'\r' | b')')) {
            continue;
        }
        least = indented;
        if is_for_type_checkers(text) {
            return Around::NeverRuns;
        }
        let function = text.strip_prefix(b"async ").unwrap_or(text).strip_prefix(b"def ");
        in_function |= function.is_some();
        if let Some(rest) = function.or_else(|| text.strip_prefix(b"class ")) {
            let length = rest
                .iter()
                .position(|it| !(it.is_ascii_alphanumeric() || *it == b'_' || *it >= 0x80));
            outermost = std::str::from_utf8(&rest[..length.unwrap_or(rest.len())]).unwrap_or("");
        }
    }
    Around::Runs(in_function.then_some(outermost))
}

/// `if TYPE_CHECKING:`, `if typing.TYPE_CHECKING:`.
fn is_for_type_checkers(line: &[u8]) -> bool {
    let Some(test) = line.strip_prefix(b"if ") else { return false };
    let Some(colon) = memchr::memchr(b':', test) else { return false };
    let test = test[..colon].trim_ascii();
    let test = test.iter().rposition(|it| *it == b'.').map_or(test, |dot| {
        let is_name = test[..dot].iter().all(|it| it.is_ascii_alphanumeric() || *it == b'_');
        if is_name { &test[dot + 1..] } else { b"" }
    });
    test == b"TYPE_CHECKING"
}

/// The names behind `import`, up to the end of the statement; a list in parentheses runs over lines.
fn names(bytes: &[u8], may_be_listed: bool) -> impl Iterator<Item = &str> {
    let start = bytes.iter().position(|it| !b" \t\\\r\n".contains(it)).unwrap_or(bytes.len());
    let rest = &bytes[start..];
    let (rest, end) = if may_be_listed && rest.first() == Some(&b'(') {
        (&rest[1..], memchr::memchr(b')', rest).map_or(rest.len() - 1, |it| it - 1))
    } else {
        (rest, end_of_line(rest))
    };
    rest[..end].split(|it| *it == b',').filter_map(|part| {
        let part = part
            .split(|it| *it == b'\n')
            .map(|line| line.split(|it| *it == b'#').next().unwrap_or(line));
        let text = part.map(<[u8]>::trim_ascii).find(|it| !it.is_empty() && *it != b"\\")?;
        let word = text
            .split(|it| !(it.is_ascii_alphanumeric() || *it == b'_' || *it == b'.' || *it >= 0x80))
            .next()?;
        std::str::from_utf8(word).ok().filter(|it| !it.is_empty())
    })
}

/// The end of a logical line: backslashes continue it.
fn end_of_line(bytes: &[u8]) -> usize {
    let mut from = 0;
    while let Some(at) = memchr::memchr3(b'\n', b';', b'#', &bytes[from..]).map(|it| it + from) {
        let continued = bytes[at] == b'\n' && bytes[..at].trim_ascii_end().ends_with(b"\\");
        if !continued {
            return at;
        }
        from = at + 1;
    }
    bytes.len()
}

/// Whether a Python file has a mark of a program: a main guard, tests, a shebang.
pub(crate) fn looks_like_a_program(path: &str, bytes: &[u8]) -> bool {
    let name = &path[parent(path).len()..].trim_start_matches('/');
    let test_file = name.starts_with("test_") || name.ends_with("_test.py");
    bytes.starts_with(b"#!")
        || *name == "__main__.py"
        || memmem::find(bytes, b"__main__").is_some()
        || (test_file
            && (memmem::find(bytes, b"def test").is_some()
                || memmem::find(bytes, b"class Test").is_some()))
}

/// Whether a project file declares programs, or that it needs gpupin.
pub(crate) fn declares(bytes: &[u8]) -> bool {
    [&b"scripts"[..], b"pytest", b"gpupin"].iter().any(|it| memmem::find(bytes, it).is_some())
}

#[cfg(test)]
mod tests {
    use super::scan;

    #[track_caller]
    fn check(text: &str, expected: &[(u32, &str)]) {
        let imports = scan(text.as_bytes(), text.starts_with("   \""));
        let found: Vec<_> = imports.iter().map(|it| (it.level, it.path)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn plain_imports_are_found() {
        check("import os, torch.cuda as c\n", &[(0, "os"), (0, "torch.cuda")]);
    }

    #[test]
    fn names_may_be_submodules() {
        check("from a.b import c as d, e\n", &[(0, "a.b.c"), (0, "a.b.e")]);
    }

    #[test]
    fn a_list_runs_over_lines_and_comments() {
        check("from a import (\n    b,  # the b\n    # c\n    d,\n)\n", &[(0, "a.b"), (0, "a.d")]);
    }

    #[test]
    fn relative_imports_have_a_level() {
        check("from . import x\nfrom ..a import b\n", &[(1, "x"), (2, "a.b")]);
    }

    #[test]
    fn several_statements_share_a_line() {
        check(
            "import a; import b\ntry: import c\nexcept ImportError: pass\n",
            &[(0, "a"), (0, "b"), (0, "c")],
        );
    }

    #[test]
    fn a_backslash_continues_the_line() {
        check("from a import b, \\\n    c\nimport \\\n  d\n", &[(0, "a.b"), (0, "a.c"), (0, "d")]);
    }

    #[test]
    fn a_star_is_the_module() {
        check("from a import *\n", &[(0, "a")]);
    }

    #[test]
    fn words_that_only_contain_it_are_none() {
        check("important = 1\nx = reimport (y)\n# we import torch\n", &[]);
    }

    #[test]
    fn what_only_type_checkers_run_is_left_out() {
        check("if TYPE_CHECKING:\n    import a\nelse:\n    import b\n", &[(0, "b")]);
        check("if t.TYPE_CHECKING:  # x\n    if y:\n        from a import b\n", &[]);
        check("if not TYPE_CHECKING:\n    import a\n", &[(0, "a")]);
        check("if TYPE_CHECKING or x:\n    import a\n", &[(0, "a")]);
    }

    #[test]
    fn an_import_in_an_example_is_doubted() {
        let only = |text: &str| scan(text.as_bytes(), false).only_in_examples;
        assert!(only("def f():\n    \"\"\"\n    import torch\n    \"\"\"\n"));
        assert!(only("x = '''\"\"\"\nimport torch\n'''\n"));
        assert!(!only("\"\"\"Text.\"\"\"\nimport torch\n"));
        assert!(!only("\"\"\"\nimport torch\n\"\"\"\nimport torch\n"));
        assert!(!only("import os\n"));
    }

    #[test]
    fn a_notebook_line_is_found() {
        check("   \"import torch\\n\",\n", &[(0, "torch")]);
    }

    #[test]
    fn imports_in_functions_are_told_from_those_that_run_with_the_file() {
        let text = "\
try:
    import a
except ImportError:
    a = None
class C:
    import b
    def f(self):
        if x:
            import c
        # text
        from d import e
def g(
    x,
):
    import h
if True:
    import i
";
        let imports = scan(text.as_bytes(), text.starts_with("   \""));
        let found: Vec<_> = imports.iter().map(|it| (it.path, it.owner)).collect();
        let expected = [
            ("a", None),
            ("b", None),
            ("c", Some("C")),
            ("d.e", Some("C")),
            ("h", Some("g")),
            ("i", None),
        ];
        assert_eq!(found, expected);
    }
}
