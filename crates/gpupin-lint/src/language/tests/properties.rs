//! What holds for every reader and any text: it does not panic, and every place lies in the file.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::assert_spans_hold;
use crate::language::read;

/// A file name per language, and per meaning of one.
const FILES: &[&str] = &[
    "a.sh",
    "a.ps1",
    "a.bat",
    "Dockerfile",
    "compose.yaml",
    ".github/workflows/a.yml",
    ".gitlab-ci.yml",
    "a.env",
    "a.service",
    "Makefile",
    "tox.ini",
    "pyproject.toml",
    "launch.json",
    "devcontainer.json",
    "a.json",
    "a.yaml",
    "a.ipynb",
];

/// What texts are made of: pieces that mean something to some reader, in any order.
const PIECES: &[&str] = &[
    "CUDA_VISIBLE_DEVICES",
    "=",
    "1",
    " ",
    "\n",
    "\r\n",
    "\t",
    "  ",
    "\"",
    "'",
    "`",
    "\\",
    "\\\n",
    "^\n",
    "$",
    "${",
    "}",
    "$(",
    ")",
    "(",
    "${{",
    "}}",
    "{",
    "[",
    "]",
    ",",
    ":",
    ": ",
    "- ",
    "#",
    " # gpupin: ignore[GP103] é",
    "REM ",
    "::",
    "//",
    ";",
    "&&",
    "||",
    "|",
    "&",
    "!",
    "export ",
    "set ",
    "unset ",
    "if ",
    "then ",
    "else ",
    "fi",
    "for i in 0 1; do ",
    "done",
    "case x in",
    "esac",
    "python x.py ",
    "--device cuda:1",
    "--gpu-id=1",
    "docker run --gpus all -e ",
    "bash -c '",
    "env -u X ",
    "<<EOF\n",
    "EOF\n",
    "services:\n  a:\n    ",
    "command: ",
    "environment:\n",
    "image: x\n",
    "<<: *a",
    "&a ",
    "*a",
    "|\n",
    ">-\n",
    "jobs:\n  j:\n    steps:\n      - run: ",
    "env: ",
    "test:\n  script:\n    - ",
    "deploy",
    "device_ids: [\"1\"]",
    "ENV ",
    "RUN ",
    "CMD [\"python\", ",
    "FROM x AS y\n",
    "ARG ",
    "$env:X",
    "Remove-Item Env:X",
    "param(",
    "function f { ",
    "foreach ($i in 0,1) ",
    "[Service]\n",
    "Environment=",
    "ExecStart=",
    "[testenv]\nsetenv =\n  ",
    "[tool.poe.tasks]\n",
    "é",
    "\u{1f600}",
    "\\u00e9",
    "\\ud83d",
    "\0",
    "%X%",
    "%",
    "%%i",
    "ifdef X\n",
    "endif\n",
    "define x\n",
    "endef\n",
    "x: y\n\t",
    "$@",
    "$$X",
    "$(shell ",
    "?=",
    ":=",
    "gpu_id",
    "main_gpu: ",
    "{\"cells\": [",
    "{\"cell_type\": \"code\", \"source\": [\"",
    "\"]}",
    "]}",
    "{\"configurations\": [{\"program\": \"",
    "\"runArgs\": [",
    "/* ",
    " */",
    "---\n",
    "...",
    "\u{feff}",
    "\u{2028}",
    "~",
    "@",
    "<",
    ">",
];

/// Texts of pieces, and now and then of anything.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        20 => prop::sample::select(PIECES).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|it| it.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn any_text_is_read_and_every_place_lies_in_the_file(
        path in prop::sample::select(FILES),
        text in texts(),
    ) {
        assert_spans_hold(&read(path, text.as_bytes()).expect("a known language"));
    }

    #[test]
    fn any_bytes_are_read(
        path in prop::sample::select(FILES),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        assert_spans_hold(&read(path, &bytes).expect("a known language"));
    }

    #[test]
    fn a_cut_file_is_read(cut in 0usize..1000, (path, text) in prop::sample::select(SAMPLES)) {
        let end = (0..=cut.min(text.len())).rev().find(|it| text.is_char_boundary(*it));
        let text = &text[..end.unwrap_or(0)];
        assert_spans_hold(&read(path, text.as_bytes()).expect("a known language"));
    }
}

/// Sound files, to be cut anywhere.
const SAMPLES: &[(&str, &str)] = &[
    (
        "a.sh",
        "f() { export A=\"${B:-é}\"; }\nif [ -n \"$X\" ]; then docker run --gpus '\"device=0,1\"' -e X=1 img bash -c 'python x.py --device cuda:1'; fi\n",
    ),
    (
        "a.ps1",
        "param([int]$G = 1)\nif (-not $env:X) { $env:X = \"cuda:$G é\" } else { Start-Process python -ArgumentList 'x.py', '--gpu-id', 1 }\n",
    ),
    (
        "a.bat",
        "if not defined X (\r\n set \"X=1\"\r\n) else (\r\n for %%i in (1 2) do python x.py ^\r\n --device cuda:1\r\n)\r\n",
    ),
    (
        "Dockerfile",
        "FROM x AS y\nARG G=1\nENV A=$G B='é' \\\n C=2\nRUN <<EOF\npython x.py\nEOF\nCMD [\"python\", \"-m\", \"é\"]\n",
    ),
    (
        "compose.yaml",
        "x: &e {A: \"1\"}\nservices:\n  a:\n    image: é\n    environment: {<<: *e, B: 'it''s'}\n    command: >-\n      bash -c\n      'python é.py --device cuda:1'\n    gpus: [{device_ids: [\"1\"]}]\n",
    ),
    (
        ".github/workflows/a.yml",
        "jobs:\n  j:\n    env: {A: \"\\u00e9 1\"}\n    steps:\n      - run: |\n          export A=${{ x }}\n            python é.py --device cuda:1\n",
    ),
    (
        "Makefile",
        "G ?= 1\nexport A = $(G)\nx: export B = 2\nx:\n\t@A=$(G) python é.py --device cuda:$(G) \\\n\t  --gpu-id $$i\n",
    ),
    (
        "a.ipynb",
        "{\"cells\": [{\"cell_type\": \"code\", \"source\": [\"import os\\n\", \"os.environ[\\\"A\\\"] = '\\u00e9'\\n\", \"!A=1 python x.py\"]}]}",
    ),
    (
        "pyproject.toml",
        "[project.scripts]\na = \"b:c\"\n[tool.poe.tasks]\nx = {cmd = 'python é.py', env = {A = \"1\"}}\n[y]\ngpu_ids = [0, 1]\n",
    ),
    (
        "launch.json",
        "{\"configurations\": [{\"type\": \"debugpy\", \"program\": \"é.py\", \"env\": {\"A\": \"1\"}, \"args\": [\"--device\", \"cuda:1\"]}]} // é",
    ),
    (
        "tox.ini",
        "[testenv:x]\nsetenv =\n  A = é\ncommands =\n  pytest x\n[pytest]\nenv =\n  D:A=1\n",
    ),
    ("a.env", "A=\"é\nb\" # c\nexport B='x'\n"),
    (
        "a.service",
        "[Service]\nEnvironment=\"A=é\" B=1 \\\n  C=2\nExecStart=/x/python é.py --device cuda:1\n",
    ),
];

/// Nesting and repetition that would hurt a reader without bounds.
#[test]
fn deep_and_wide_texts_are_read() {
    let many = |piece: &str, times: usize| piece.repeat(times);
    for (path, text) in [
        ("a.sh", many("(", 20_000)),
        ("a.sh", many("$(", 20_000)),
        ("a.sh", many("if x; then ", 5_000)),
        ("a.sh", format!("{}true", many("a && ", 20_000))),
        ("a.sh", format!("x={}1{}", many("${x:-", 2_000), many("}", 2_000))),
        ("a.ps1", many("if ($x) { ", 2_000)),
        ("a.ps1", format!("$x = {}1", many("(", 2_000))),
        ("a.bat", many("if exist x (\n", 20_000)),
        ("a.bat", many("if exist x if exist y ", 5_000)),
        ("a.yaml", many("[", 20_000)),
        ("a.yaml", many("- ", 20_000)),
        ("a.json", many("[", 20_000)),
        ("a.ipynb", many("{\"cells\": [", 20_000)),
        ("a.toml", format!("x = {}", many("[", 20_000))),
        ("Makefile", format!("{}x:\n\techo", many("ifdef X\n", 20_000))),
        (
            "Makefile",
            (0..200)
                .fold("A0 = 1\n".to_owned(), |it, n| format!("{it}A{} = $(A{n})$(A{n})\n", n + 1))
                + "x:\n\tpython $(A200)\n",
        ),
        ("Dockerfile", format!("RUN {}", many("<<E ", 20_000))),
        ("Dockerfile", many("FROM y AS y\nENV A=1\n", 5_000)),
        ("compose.yaml", bomb()),
    ] {
        assert_spans_hold(&read(path, text.as_bytes()).expect("a known language"));
    }
}

/// Ten levels of aliases, each ten times the one before.
fn bomb() -> String {
    let mut text = "a0: &a0 {x: 1}\n".to_owned();
    for level in 1..10 {
        let many = vec![format!("*a{}", level - 1); 10].join(", ");
        let _ = writeln!(text, "a{level}: &a{level} {{<<: [{many}]}}");
    }
    text + "services:\n  s: {image: x, environment: *a9}\n"
}

#[test]
fn files_that_nobody_writes_by_hand_are_told_and_not_read() {
    let text = "export CUDA_VISIBLE_DEVICES=1\n".repeat(200_000);
    let unit = read("a.sh", text.as_bytes()).expect("a known language");
    assert!(unit.events.is_empty());
    assert_eq!(unit.syntax_errors[0].1, "too large: files of this kind are read up to 4 MiB");
}
