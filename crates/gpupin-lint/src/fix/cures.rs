//! Pins as fixes leave them: in rounds, as `gpupin fix` applies them, until nothing is left to do.

use std::collections::BTreeSet;

use super::{Wanted, apply};
use crate::{
    RULES,
    finding::{Finding, Safety},
    language::read,
    rules::find,
    selection::Selection,
    tests::Case,
    unit::{Unit, UnitId},
};

mod masks;
mod removal;
mod safety;

const UUID: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";

const HEADER: &str = r#"# gpupin: begin of the pin, written by `gpupin fix`
import os

os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
# RTX 3090
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
# gpupin: end of the pin
"#;

/// Applies the fixes of some rules in rounds, and compares all files; `HEADER` and `UUID` stand for what they name.
#[track_caller]
fn check_with(codes: &[&str], wanted: Wanted, before: &str, after: &str) {
    let mut case = Case::parse(before, "main.py");
    let rules: Vec<_> = match codes {
        [] => RULES.iter().collect(),
        codes => codes.iter().map(|it| find(it).unwrap()).collect(),
    };
    let selection = Selection::only(rules);
    let errors = |units: &[Unit]| units.iter().map(|it| it.syntax_errors.len()).sum::<usize>();
    let broken = errors(&case.units);
    for round in 0.. {
        assert!(round < 9, "fixes do not come to an end in\n{before}");
        let analysis = case.analyze(&selection);
        let findings: Vec<&Finding> = analysis.findings.iter().collect();
        let fixed = apply(&case.units, &findings, wanted, &BTreeSet::new());
        let old = |it: &(&UnitId, &String)| case.units[it.0.0 as usize].source.text != *it.1;
        if !fixed.texts.iter().any(|it| old(&it)) && fixed.new_files.is_empty() {
            break;
        }
        for (id, text) in &fixed.texts {
            let path = case.units[id.0 as usize].source.path.clone();
            case.units[id.0 as usize] = read(&path, text.as_bytes()).unwrap();
        }
        for (path, text) in &fixed.new_files {
            case.units.push(read(path, text.as_bytes()).unwrap());
        }
        case.units.sort_by(|a, b| a.source.path.cmp(&b.source.path));
        assert_eq!(errors(&case.units), broken, "a syntax error in\n{:?}", fixed.texts);
    }
    let after = after.replace("HEADER\n", HEADER).replace("UUID", UUID);
    let expected = Case::parse(&after, "main.py");
    assert_eq!(case.units.len(), expected.units.len());
    for (unit, expected) in case.units.iter().zip(&expected.units) {
        assert_eq!(unit.source.text, expected.source.text, "`{}`", unit.source.path);
    }
}

#[track_caller]
fn check(codes: &[&str], before: &str, after: &str) {
    check_with(codes, Wanted::Safe, before, after);
}

#[track_caller]
fn check_unsafe(codes: &[&str], before: &str, after: &str) {
    check_with(codes, Wanted::Safe, before, before);
    check_with(codes, Wanted::All, before, after);
}

/// What the only fix of a rule says of its safety; empty if it is safe.
#[track_caller]
fn check_why(code: &str, fixture: &str, expected: &str) {
    let case = Case::parse(fixture, "main.py");
    let analysis = case.analyze(&Selection::only([find(code).unwrap()]));
    let [finding] = &*analysis.findings else { panic!("{:?}", analysis.findings) };
    let why = match &finding.fix.as_ref().expect("there is a fix").safety {
        Safety::Safe => "",
        Safety::Unsafe(why) => why,
    };
    assert_eq!(why, expected);
}

const MAIN: &str = "if __name__ == \"__main__\":\n    torch.zeros(1).cuda()\n";

/// Safe fixes leave a program alone.
#[track_caller]
fn check_left(text: &str) {
    check(&[], text, text);
}

#[test]
fn a_program_is_pinned_above_all_else() {
    check(
        &[],
        &format!("\"\"\"Speaks.\"\"\"\nfrom __future__ import annotations\nimport torch\n{MAIN}"),
        &format!(
            "\"\"\"Speaks.\"\"\"\nfrom __future__ import annotations\n\nHEADER\n\nimport torch\n{MAIN}"
        ),
    );
    check(
        &["GP101"],
        &format!("#!/usr/bin/env python3\n# Licence\n\nimport torch\n{MAIN}"),
        &format!("#!/usr/bin/env python3\n# Licence\n\nHEADER\n\nimport torch\n{MAIN}"),
    );
}

#[test]
fn line_ends_stay_as_they_are() {
    let before = format!("import torch\n{MAIN}").replace('\n', "\r\n");
    let after = format!("{HEADER}\nimport torch\n{MAIN}").replace('\n', "\r\n");
    check(&["GP101"], &before, &after);
}

#[test]
fn the_policys_variables_come_with_the_pin() {
    let policy = "//- gpupin.toml\n[gpu]\nname = \"RTX 3090\"\n[env]\nPYTORCH_CUDA_ALLOC_CONF = \"max_split_size_mb:1024\"\n//- main.py\n";
    let variable =
        "os.environ[\"PYTORCH_CUDA_ALLOC_CONF\"] = \"max_split_size_mb:1024\"\n# gpupin: end";
    let header = HEADER.replace("# gpupin: end", variable);
    check(
        &[],
        &format!("{policy}import torch\n{MAIN}"),
        &format!("{policy}{header}\nimport torch\n{MAIN}"),
    );
    // A pin that lacks it is written anew.
    check(
        &[],
        &format!("{policy}{HEADER}\nimport torch\n{MAIN}"),
        &format!("{policy}{header}\nimport torch\n{MAIN}"),
    );
}

#[test]
fn without_a_machine_or_with_twins_the_gpu_is_found_at_run_time() {
    let import = "import gpupin.auto  # pins the GPU of gpupin.toml\n";
    let why = "no mask is right on every recorded machine, and the program then needs the package `gpupin`";
    let no_machine = format!("//- gpupin.lock\n//- main.py\nimport torch\n{MAIN}");
    check_unsafe(&["GP101"], &no_machine, &format!("//- main.py\n{import}\nimport torch\n{MAIN}"));
    check_why("GP101", &no_machine, why);
    let by_style = format!(
        "//- gpupin.toml\n[gpu]\nname = \"RTX 3090\"\n[lint]\nstyle = \"import\"\n//- main.py\nimport torch\n{MAIN}"
    );
    check_unsafe(&["GP101"], &by_style, &format!("//- main.py\n{import}\nimport torch\n{MAIN}"));
}

#[test]
fn a_block_that_comes_too_late_is_moved() {
    check(
        &[],
        &format!(
            "import os\nimport torch\n\nos.environ[\"CUDA_DEVICE_ORDER\"] = \"PCI_BUS_ID\"\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"\n\nx = 1\n{MAIN}"
        ),
        &format!("HEADER\n\nimport torch\n\nx = 1\n{MAIN}"),
    );
}

#[test]
fn without_a_policy_a_block_is_moved_as_it_is() {
    check_unsafe(
        &["GP106"],
        &format!(
            "//- gpupin.toml\n//- main.py\nimport os\nimport torch\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"\n{MAIN}"
        ),
        &format!(
            "//- main.py\nimport os\n\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"\n\nimport torch\n{MAIN}"
        ),
    );
}

#[test]
fn what_does_nothing_goes_and_its_block_stays() {
    check(
        &["GP105"],
        "import os\nimport torch\nif torch.cuda.is_available():\n    # on the 3090\n    os.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"\n",
        "HEADER\n\nimport torch\nif torch.cuda.is_available():\n    # on the 3090\n    pass\n",
    );
}

#[test]
fn a_late_pin_of_a_module_is_set_in_every_program_that_imports_it() {
    let module = "import os\nimport torch\ntorch.cuda.is_available()\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"\n";
    let program = "import engine\nif __name__ == \"__main__\":\n    print(engine)\n";
    // The module sets the same then: who knows who else imports it.
    check(
        &[],
        &format!("//- engine.py\n{module}//- one.py\n{program}//- two.py\n{program}"),
        &format!(
            "//- engine.py\nimport os\nimport torch\ntorch.cuda.is_available()\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"UUID\"\n//- one.py\nHEADER\n\n{program}//- two.py\nHEADER\n\n{program}"
        ),
    );
}

#[test]
fn a_notebook_is_pinned_in_its_first_cell() {
    let notebook = |lines: &[&str]| {
        let lines: Vec<_> = lines.iter().map(|it| format!("    {it}")).collect();
        format!(
            "//- a.ipynb\n{{\n \"cells\": [\n  {{\n   \"cell_type\": \"code\",\n   \"source\": [\n{}\n   ]\n  }}\n ],\n \"nbformat\": 4\n}}\n",
            lines.join(",\n")
        )
    };
    check(
        &["GP101", "GP106"],
        &notebook(&[
            r#""import os\n""#,
            r#""import torch\n""#,
            r#""os.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"\n""#,
            r#""torch.zeros(1).cuda()""#,
        ]),
        &notebook(&[
            r##""# gpupin: begin of the pin, written by `gpupin fix`\n""##,
            r#""import os\n""#,
            r#""\n""#,
            r#""os.environ[\"CUDA_DEVICE_ORDER\"] = \"PCI_BUS_ID\"\n""#,
            r##""# RTX 3090\n""##,
            r#""os.environ[\"CUDA_VISIBLE_DEVICES\"] = \"UUID\"\n""#,
            r##""# gpupin: end of the pin\n""##,
            r#""\n""#,
            r#""import os\n""#,
            r#""import torch\n""#,
            r#""torch.zeros(1).cuda()""#,
        ]),
    );
}

#[test]
fn test_files_are_pinned_by_a_new_conftest() {
    let test = "import torch\ndef test_it():\n    torch.zeros(1).cuda()\n";
    check(
        &["GP101"],
        &format!("//- tests/test_a.py\n{test}//- tests/test_b.py\n{test}"),
        &format!(
            "//- tests/conftest.py\nHEADER\n//- tests/test_a.py\n{test}//- tests/test_b.py\n{test}"
        ),
    );
}

#[test]
fn tests_that_set_masks_themselves_get_no_pin_for_all() {
    let test = "import torch\ndef test_it():\n    torch.zeros(1).cuda()\n";
    let cpu = "import os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"\"\n";
    let tests = format!(
        "//- tests/test_a.py\n{test}//- tests/test_b.py\n{test}//- tests/test_c.py\n{cpu}{test}"
    );
    check_with(&["GP101"], Wanted::All, &tests, &tests);
}

#[test]
fn a_role_is_pinned_to_its_own_gpu() {
    let policy = "//- gpupin.toml\n[gpu]\nname = \"RTX 3090\"\n[roles.tts]\nname = \"RTX 5060 Ti\"\nentry-points = [\"tts.py\"]\n";
    let program = format!("import torch\n{MAIN}");
    let other = HEADER
        .replace(UUID, "GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01")
        .replace("RTX 3090", "RTX 5060 Ti");
    check(
        &["GP101"],
        &format!("{policy}//- main.py\n{program}//- tts.py\n{program}"),
        &format!("//- main.py\nHEADER\n\n{program}//- tts.py\n{other}\n{program}"),
    );
}

#[test]
fn every_file_that_uses_a_gpu_carries_a_pin_where_the_policy_wants_that() {
    let policy = "//- gpupin.toml\n[gpu]\nname = \"RTX 3090\"\n[lint]\nrequire-pin-in = \"every-gpu-file\"\n";
    let main = "import engine\nif __name__ == \"__main__\":\n    print(engine)\n";
    check(
        &["GP101"],
        &format!("{policy}//- engine.py\nimport torch\n//- main.py\n{main}"),
        &format!("//- engine.py\nHEADER\n\nimport torch\n//- main.py\nHEADER\n\n{main}"),
    );
}

#[test]
fn a_program_whose_package_comes_first_is_pinned_there() {
    let init = "//- app/__init__.py\nfrom . import engine\n";
    let rest = "//- app/__main__.py\nimport torch\ntorch.zeros(1).cuda()\n//- app/engine.py\nimport torch\n";
    check_unsafe(
        &["GP101"],
        &format!("{init}{rest}"),
        &format!("{}{rest}", init.replace("from", "HEADER\n\nfrom")),
    );
    check_why("GP101", &format!("{init}{rest}"), "whoever imports the package is pinned too");

    // What the package imports is the program itself, which is pinned then.
    let init = "//- app/__init__.py\nfrom .cli import main\n";
    let cli = "//- app/cli.py\nimport torch\ndef main():\n    torch.zeros(1).cuda()\n";
    let script = "//- pyproject.toml\n[project.scripts]\napp = \"app.cli:main\"\n";
    check(
        &["GP101"],
        &format!("{init}{cli}{script}"),
        &format!("{init}{}{script}", cli.replace("import torch", "HEADER\n\nimport torch")),
    );
}

const RUN: &str = "//- run.sh\nexport CUDA_VISIBLE_DEVICES=UUID\npython main.py\n//- main.py\n";

#[test]
fn a_variable_stands_behind_the_import_that_it_needs() {
    let policy = "//- gpupin.toml\n[gpu]\nname = \"RTX 3090\"\n[env]\nPYTORCH_CUDA_ALLOC_CONF = \"max_split_size_mb:1024\"\n";
    let variable = "os.environ[\"PYTORCH_CUDA_ALLOC_CONF\"] = \"max_split_size_mb:1024\"\n";
    let run = RUN.replace("UUID", UUID);
    let rest = format!("import torch\n{MAIN}");
    check(
        &["GP402"],
        &format!("{policy}{run}import os\n{rest}"),
        &format!("{run}import os\n\n{variable}\n{rest}"),
    );
    check(
        &["GP402"],
        &format!("{policy}{run}{rest}"),
        &format!("{run}import os\n\n{variable}\n{rest}"),
    );
}

#[test]
fn a_missing_variable_is_set_and_the_mask_stays() {
    let policy = "//- gpupin.toml\n[gpu]\nname = \"RTX 3090\"\n[env]\nPYTORCH_CUDA_ALLOC_CONF = \"max_split_size_mb:1024\"\n//- main.py\n";
    let mask = "import os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"UUID\"\n".replace("UUID", UUID);
    let variable = "os.environ[\"PYTORCH_CUDA_ALLOC_CONF\"] = \"max_split_size_mb:1024\"\n";
    let both = mask.replace("import os\n", &format!("import os\n{variable}"));
    check(
        &[],
        &format!("{policy}{mask}import torch\n{MAIN}"),
        &format!("//- main.py\n{both}import torch\n{MAIN}"),
    );
    let none = mask.replace(UUID, "-1");
    check_left(&format!("{policy}{none}import torch\n{MAIN}"));
}

#[test]
fn a_module_of_a_package_with_something_to_start_is_no_safe_place_for_a_pin() {
    let why = "it is a module of a package, and whoever imports it is pinned too; a program is named in `lint.entry-points`";
    let package = format!("//- app/__init__.py\n//- app/tts.py\nimport torch\n{MAIN}");
    check_why("GP101", &package, why);
    let policy =
        "//- gpupin.toml\n[gpu]\nname = \"RTX 3090\"\n[lint]\nentry-points = [\"app/tts.py\"]\n";
    check_why("GP101", &format!("{policy}{package}"), "");
    check_why("GP101", &format!("{package}//- run.sh\npython app/tts.py\n"), "");
}

#[test]
fn a_pin_is_unsafe_where_other_choices_remain() {
    check_why(
        "GP101",
        &format!(
            "import torch\nimport pynvml\nindex = max(range(2), key=lambda i: pynvml.nvmlDeviceGetHandleByIndex(i))\nN = 1\nx.to(f\"cuda:{{N}}\")\n{MAIN}"
        ),
        "line 5 of `main.py` may choose a GPU that is not there then",
    );
    check_why("GP101", &format!("import torch\nx.to(\"cuda:1\")\n{MAIN}"), "");
}

#[test]
fn a_pin_that_is_removed_on_some_way_is_not_certain() {
    check_why(
        "GP201",
        &format!(
            "import os, sys\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"{UUID}\"\nif len(sys.argv) > 1:\n    del os.environ[\"CUDA_VISIBLE_DEVICES\"]\nimport torch\nx.to(\"cuda:1\")\n{MAIN}"
        ),
        "ordinal 0 can be another GPU: no pin is certain in `main.py`",
    );
}

#[test]
fn comments_stay_unless_they_are_for_tools() {
    check(
        &["GP106"],
        &format!(
            "import os\nimport torch\nos.environ[\"CUDA_DEVICE_ORDER\"] = \"PCI_BUS_ID\"  # noqa: E402\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"  # TODO(anna): why 1?\n{MAIN}"
        ),
        &format!("HEADER\n\nimport torch\n# TODO(anna): why 1?\n{MAIN}"),
    );
}

#[test]
fn several_machines_are_asked() {
    let lock = r#"//- gpupin.lock
version = 1
[[machine]]
host = "one"
[[machine.gpu]]
index = 0
uuid = "GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01"
name = "NVIDIA GeForce RTX 5060 Ti"
vram = "16 GiB"
compute-capability = "12.0"
pci = "0000:01:00.0"
[[machine.gpu]]
index = 1
uuid = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
name = "NVIDIA GeForce RTX 3090"
vram = "24 GiB"
compute-capability = "8.6"
pci = "0000:02:00.0"
[[machine]]
host = "two"
[[machine.gpu]]
index = 0
uuid = "GPU-11111111-2d3a-4c55-9a77-0f6f0d1e2a01"
name = "NVIDIA GeForce RTX 4090"
vram = "24 GiB"
compute-capability = "8.9"
pci = "0000:01:00.0"
[[machine.gpu]]
index = 1
uuid = "GPU-22222222-d72c-4106-c12f-20bd9faed9f6"
name = "NVIDIA GeForce RTX 3090"
vram = "24 GiB"
compute-capability = "8.6"
pci = "0000:02:00.0"
"#;
    // The index is the same on both, a UUID is not.
    check(
        &["GP101"],
        &format!("{lock}//- main.py\nimport torch\n{MAIN}"),
        &format!(
            "//- main.py\n{}\nimport torch\n{MAIN}",
            HEADER.replace(UUID, "1").replace("# RTX 3090\n", "")
        ),
    );
}
