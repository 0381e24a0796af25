use crate::{
    language::{UnitBuilder, notebook::code},
    source::{Charset, Encoding, Language},
};

/// Takes the code out of a notebook: the joined text; then each cell's lines, as the file shows them from
/// where the line table says they start; and what the file shows where the positions put each word.
#[track_caller]
fn check(file: &str, text: &str, lines: &[&str]) {
    let encoding = Encoding { byte_order_mark: false, charset: Charset::Utf8 };
    let mut out = UnitBuilder::new("n.ipynb", Language::Notebook, encoding, file.to_owned());
    let code = code(file, &mut out).expect("a notebook");
    assert_eq!(code.text, text);
    for word in text.split_whitespace().filter(|it| it.is_ascii() && !it.contains(['"', '\\', '/']))
    {
        let local = word.as_ptr() as usize - text.as_ptr() as usize;
        let span = code.positions.span(local..local + word.len());
        assert_eq!(&file[span.range()], word);
    }
    let unit = out.finish(crate::unit::Block::default());
    let starts = unit.source.cells.iter().flat_map(|it| &it.lines);
    let shown: Vec<&str> = starts.map(|it| &file[*it as usize..]).collect();
    assert_eq!(shown.len(), lines.len(), "{shown:?}");
    for (shown, line) in shown.iter().zip(lines) {
        assert!(shown.starts_with(line), "`{line}` at `{shown}`");
    }
    for (cell, range) in unit.source.cells.iter().zip(&code.cells) {
        let shown = unit.source.slice(cell.span);
        assert!(shown.starts_with(['[', '"']), "{shown}");
        assert!(text.is_char_boundary(range.start) && text.is_char_boundary(range.end));
    }
}

#[test]
fn lines_and_words_are_found_inside_the_json() {
    check(
        r#"{"cells": [
 {"cell_type": "markdown", "source": ["cuda:1"]},
 {"cell_type": "code", "outputs": [{"text": "cuda:2"}], "source": ["import os\n", "x = \"a\"\n", "y = 1"]},
 {"cell_type": "code", "source": "é = 1\nzé\u00e9 = 2"}
], "metadata": {"kernelspec": {"language": "python"}}}"#,
        "import os\nx = \"a\"\ny = 1\né = 1\nzéé = 2",
        &["import", "x =", "y =", "é =", "zé"],
    );
}

#[test]
fn empty_cells_and_old_formats_are_read() {
    check(
        r#"{"worksheets": [{"cells": [{"cell_type": "code", "input": []}, {"cell_type": "code", "input": ["a = 1\n"]}]}]}"#,
        "\na = 1\n",
        &["[]", "a ="],
    );
}

#[test]
fn surrogates_and_broken_escapes_become_characters() {
    check(
        r#"{"cells": [{"cell_type": "code", "source": ["a\ud83d\ude00b \\ \/ c"]}]}"#,
        "a😀b \\ / c",
        &["a"],
    );
}

#[test]
fn other_kernels_and_broken_json_give_nothing() {
    let encoding = Encoding { byte_order_mark: false, charset: Charset::Utf8 };
    for file in [
        r#"{"cells": [{"cell_type": "code", "source": ["x"]}], "metadata": {"kernelspec": {"language": "R"}}}"#,
        r#"{"cells": [{"cell_type": "code", "source": ["x"#,
        "",
        "[]",
    ] {
        let mut out = UnitBuilder::new("n.ipynb", Language::Notebook, encoding, file.to_owned());
        assert!(code(file, &mut out).is_none(), "{file}");
    }
}

#[test]
fn cells_are_one_program() {
    crate::language::tests::check(
        "n.ipynb",
        r#"{"cells": [
 {"cell_type": "code", "source": ["%env CUDA_DEVICE_ORDER=PCI_BUS_ID\n", "import os\n"]},
 {"cell_type": "code", "outputs": [{"text": "cuda:2"}], "source": ["os.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\""]}
]}"#,
        r#"
        set CUDA_DEVICE_ORDER = "PCI_BUS_ID" Assign Process
        set CUDA_VISIBLE_DEVICES = "1"‹\"1\"› Assign Process
        "#,
    );
}
