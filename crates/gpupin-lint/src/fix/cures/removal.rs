//! What goes with a statement that is taken out.

use super::*;

const MASK: &str = "os.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"\n";

/// A program whose mask comes too late, with `above` it and `late` in its place.
fn late(above: &str, late: &str) -> String {
    format!("{above}torch.cuda.is_available()\n{late}x = 1\n{MAIN}")
}

#[test]
fn a_block_that_has_nothing_left_to_do_goes() {
    for block in [
        "if os.environ.get(\"DEBUG\") is None:\n    MASK",
        "if x:\n    if not y:\n        MASK",
        "try:\n    MASKexcept KeyError:\n    pass\n",
    ] {
        check(
            &["GP105"],
            &late("import os\nimport torch\n", &block.replace("MASK", MASK)),
            &late("HEADER\n\nimport torch\n", ""),
        );
    }
}

#[test]
fn a_block_in_which_something_happens_keeps_a_pass() {
    for block in [
        "if f():\n    MASK",
        "if x:\n    # on the 3090\n    MASK",
        "if x:\n    MASKelse:\n    f()\n",
        "def choose():\n    MASKchoose()\n",
    ] {
        check(
            &["GP105"],
            &late("import os\nimport torch\n", &block.replace("MASK", MASK)),
            &late("HEADER\n\nimport torch\n", &block.replace("MASK", "pass\n")),
        );
    }
}

#[test]
fn an_import_that_anything_else_may_need_stays() {
    for (above, rest) in [
        ("import os\nimport torch\n", "print(os.getcwd())\n"),
        ("import os\nimport torch\n", "__all__ = [\"os\"]\n"),
        ("import os  # for the plugins\nimport torch\n", ""),
        ("import os, sys\nimport torch\n", ""),
        ("import os as os\nimport torch\nimport os\n", ""),
        ("import os\nimport torch\n", "//- other.py\nfrom main import (\n    os,\n)\n"),
        ("import os\nimport torch\n", "//- other.py\nfrom main import *\n"),
        ("import os\nimport torch\n", "//- other.py\nimport main\nmain.os.getcwd()\n"),
    ] {
        let before = late(above, MASK) + rest;
        let after = late(&format!("HEADER\n\n{above}"), "") + rest;
        check(&["GP105"], &before, &after);
    }
    // What is moved behind it needs it.
    let moved = "//- gpupin.toml\n//- main.py\nimport os\n";
    check_unsafe(
        &["GP106"],
        &format!("{moved}import torch\n{MASK}{MAIN}"),
        &format!("//- main.py\nimport os\n\n{MASK}\nimport torch\n{MAIN}"),
    );
}

#[test]
fn a_name_of_an_import_goes_with_its_last_use() {
    check(
        &["GP105"],
        &late(
            "import torch\nfrom os import environ\n",
            "environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"\n",
        ),
        &late("HEADER\n\nimport torch\n", ""),
    );
}

#[test]
fn a_package_gives_its_imports_to_others() {
    let init = "import os\nimport torch\nos.environ[\"NVIDIA_VISIBLE_DEVICES\"] = \"1\"\n";
    check(
        &["GP108"],
        &format!("//- app/__init__.py\n{init}//- app/engine.py\n{init}"),
        "//- app/__init__.py\nimport os\nimport torch\n//- app/engine.py\nimport torch\n",
    );
}

/// A notebook whose first cell is a program, and the second has these strings.
fn notebook(first: &str, second: &str) -> String {
    let cell = |it: &str| format!("{{\"cell_type\": \"code\", \"source\": {it}}}");
    format!("//- a.ipynb\n{{\"cells\": [{}, {}], \"nbformat\": 4}}\n", cell(first), cell(second))
}

#[test]
fn a_cell_ends_as_jupyter_writes_it() {
    let mask = "\"os.environ[\\\"NVIDIA_VISIBLE_DEVICES\\\"] = \\\"1\\\"";
    let first = "[\"import os\\n\", \"import torch\"]";
    for (before, after) in [
        ("[\"x = 1\\n\", MASK\"]", "[\"x = 1\"]"),
        ("[\n \"x = 1\\n\",\n \"\\n\",\n MASK\"\n]", "[\n \"x = 1\"\n]"),
        ("[MASK\\n\", \"x = 1\"]", "[\"x = 1\"]"),
        ("[\n MASK\"\n]", "[]"),
        ("[\"x = '\\\\n'\\n\", MASK\"]", "[\"x = '\\\\n'\"]"),
    ] {
        check(&["GP108"], &notebook(first, &before.replace("MASK", mask)), &notebook(first, after));
    }
}
