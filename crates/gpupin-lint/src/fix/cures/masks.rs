//! What becomes of masks, of what gives them, and of the order beside them.

use super::*;

#[test]
fn a_mask_that_leads_elsewhere_names_the_gpu_instead() {
    check(
        &[],
        "import os\nos.environ['CUDA_DEVICE_ORDER'] = 'PCI_BUS_ID'\nos.environ['CUDA_VISIBLE_DEVICES'] = '0'  # the big one\n",
        "import os\nos.environ['CUDA_DEVICE_ORDER'] = 'PCI_BUS_ID'\nos.environ['CUDA_VISIBLE_DEVICES'] = 'UUID'  # the big one\n",
    );
    check(
        &[],
        "//- gpupin.toml\n[gpu]\nname = \"RTX 3090\"\n[pin]\nas = \"index\"\n//- main.py\nimport os\nos.environ.setdefault(\"CUDA_VISIBLE_DEVICES\", \"0\")\n",
        "//- main.py\nimport os\nos.environ.setdefault(\"CUDA_DEVICE_ORDER\", \"PCI_BUS_ID\")\nos.environ.setdefault(\"CUDA_VISIBLE_DEVICES\", \"1\")\n",
    );
}

#[test]
fn the_order_is_set_as_the_mask_is_in_every_language() {
    for (path, before, after) in [
        (
            "a.sh",
            "export CUDA_VISIBLE_DEVICES=1 # big\npython main.py\n",
            "export CUDA_DEVICE_ORDER=PCI_BUS_ID\nexport CUDA_VISIBLE_DEVICES=1 # big\npython main.py\n",
        ),
        (
            "a.sh",
            "CUDA_VISIBLE_DEVICES=1 python main.py\n",
            "CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=1 python main.py\n",
        ),
        (
            "a.ps1",
            "$env:CUDA_VISIBLE_DEVICES = '1'\npython main.py\n",
            "$env:CUDA_DEVICE_ORDER = 'PCI_BUS_ID'\n$env:CUDA_VISIBLE_DEVICES = '1'\npython main.py\n",
        ),
        (
            "a.ps1",
            "$env:CUDA_VISIBLE_DEVICES=\"1\"; python main.py\n",
            "$env:CUDA_DEVICE_ORDER=\"PCI_BUS_ID\"; $env:CUDA_VISIBLE_DEVICES=\"1\"; python main.py\n",
        ),
        (
            "a.bat",
            "set CUDA_VISIBLE_DEVICES=1\r\npython main.py\r\n",
            "set CUDA_DEVICE_ORDER=PCI_BUS_ID\r\nset CUDA_VISIBLE_DEVICES=1\r\npython main.py\r\n",
        ),
        (
            "a.bat",
            "set \"CUDA_VISIBLE_DEVICES=1\"\npython main.py\n",
            "set \"CUDA_DEVICE_ORDER=PCI_BUS_ID\"\nset \"CUDA_VISIBLE_DEVICES=1\"\npython main.py\n",
        ),
        (
            "a.service",
            "[Service]\nEnvironment=CUDA_VISIBLE_DEVICES=1\nExecStart=python main.py\n",
            "[Service]\nEnvironment=CUDA_DEVICE_ORDER=PCI_BUS_ID\nEnvironment=CUDA_VISIBLE_DEVICES=1\nExecStart=python main.py\n",
        ),
        (
            "Makefile",
            "export CUDA_VISIBLE_DEVICES := 1\nrun:\n\tpython main.py\n",
            "export CUDA_DEVICE_ORDER := PCI_BUS_ID\nexport CUDA_VISIBLE_DEVICES := 1\nrun:\n\tpython main.py\n",
        ),
        (
            ".github/workflows/a.yml",
            "on: push\njobs:\n  a:\n    runs-on: gpu\n    env:\n      CUDA_VISIBLE_DEVICES: \"1\"\n    steps:\n      - run: python main.py\n",
            "on: push\njobs:\n  a:\n    runs-on: gpu\n    env:\n      CUDA_DEVICE_ORDER: \"PCI_BUS_ID\"\n      CUDA_VISIBLE_DEVICES: \"1\"\n    steps:\n      - run: python main.py\n",
        ),
        (
            "a.py",
            "import os, subprocess\nsubprocess.run([\"python\", \"main.py\"], env={**os.environ, \"CUDA_VISIBLE_DEVICES\": \"1\"})\n",
            "import os, subprocess\nsubprocess.run([\"python\", \"main.py\"], env={**os.environ, \"CUDA_DEVICE_ORDER\": \"PCI_BUS_ID\", \"CUDA_VISIBLE_DEVICES\": \"1\"})\n",
        ),
        (
            "a.py",
            "import os, subprocess\nsubprocess.run([\"python\", \"main.py\"], env=dict(os.environ, CUDA_VISIBLE_DEVICES='1'))\n",
            "import os, subprocess\nsubprocess.run([\"python\", \"main.py\"], env=dict(os.environ, CUDA_DEVICE_ORDER='PCI_BUS_ID', CUDA_VISIBLE_DEVICES='1'))\n",
        ),
    ] {
        let program = format!("//- main.py\nimport torch\n{MAIN}");
        let fixture = |text: &str| format!("//- {path}\n{text}{program}");
        check(&["GP103"], &fixture(before), &fixture(after));
    }
}

#[test]
fn only_a_default_is_not_certain() {
    let fixture = "//- a.sh\nexport CUDA_VISIBLE_DEVICES=${GPU:-1}\npython main.py\n//- main.py\nimport torch\ntorch.zeros(1).cuda()\n";
    check_why("GP103", fixture, "it is only the default: somebody may say otherwise");
}

#[test]
fn a_number_that_gives_the_mask_becomes_a_text() {
    let rest = format!("import torch\n{MAIN}");
    let mask = "os.environ[\"CUDA_VISIBLE_DEVICES\"]";
    for (before, after) in [
        ("GPU = 0; MASK = str(GPU)", "GPU = \"UUID\"; MASK = str(GPU)"),
        ("GPU = 1; MASK = str(GPU)", "GPU = \"UUID\"; MASK = str(GPU)"),
        ("GPU = 0\nMASK = str(GPU)", "GPU = \"UUID\"\nMASK = str(GPU)"),
        ("GPU = 0\nMASK = f\"{GPU}\"", "GPU = 0\nMASK = \"UUID\""),
        ("MASK = str(0)", "MASK = str(\"UUID\")"),
        // Others use it as a number.
        ("GPU = 0\nMASK = str(GPU)\nprint(GPU)", "GPU = 0\nMASK = \"UUID\"\nprint(GPU)"),
        ("GPU = \"0\"\nMASK = GPU\nprint(GPU)", "GPU = \"0\"\nMASK = \"UUID\"\nprint(GPU)"),
    ] {
        let text = |it: &str| format!("import os\n{}\n{rest}", it.replace("MASK", mask));
        check(&["GP103"], &text(before), &text(after));
    }
}

#[test]
fn a_mask_that_is_set_twice_is_corrected_twice() {
    let rest = format!("import torch\n{MAIN}");
    let mask = "os.environ[\"CUDA_VISIBLE_DEVICES\"] = \"0\"\n";
    let before = format!("import os\n{mask}{mask}{rest}");
    check(&[], &before, &before.replace("\"0\"", "\"UUID\""));
    let script = "//- run.sh\nexport CUDA_VISIBLE_DEVICES=0\nexport CUDA_VISIBLE_DEVICES=0\npython main.py\n";
    check(
        &[],
        &format!("{script}//- main.py\n{rest}"),
        &format!("{}//- main.py\n{rest}", script.replace("=0", "=UUID")),
    );
}

#[test]
fn an_option_stays_and_its_default_changes() {
    let text = |order: &str, default: &str, value: &str| {
        format!(
            "import argparse, os\nparser = argparse.ArgumentParser()\nparser.add_argument(\"--gpu\", {default})\nargs = parser.parse_args()\n{order}os.environ[\"CUDA_VISIBLE_DEVICES\"] = {value}\nimport torch\n{MAIN}"
        )
    };
    check_unsafe(
        &["GP103"],
        &text("", "default=\"0\"", "args.gpu"),
        &text("", "default=\"UUID\"", "args.gpu"),
    );
    let order = "os.environ[\"CUDA_DEVICE_ORDER\"] = \"PCI_BUS_ID\"\n";
    check_unsafe(
        &["GP103"],
        &text("", "type=int, default=0", "str(args.gpu)"),
        &text(order, "type=int, default=1", "str(args.gpu)"),
    );
}

#[test]
fn what_a_user_chooses_or_a_computation_gives_stays() {
    for value in [
        "sys.argv[1]",
        "parser.parse_args().gpu",
        "os.environ.get(\"MY_GPU\", \"1\")",
        "\"-1\"",
        "\"\"",
    ] {
        for (before, after) in [("", "import torch\n"), ("import torch\n", "")] {
            check_left(&format!(
                "import os, sys\n{before}os.environ[\"CUDA_VISIBLE_DEVICES\"] = {value}\n{after}{MAIN}"
            ));
        }
    }
}

#[test]
fn masks_for_children_stay() {
    check_left(
        "import os\nimport torch\nfor gpu in [\"0\", \"1\"]:\n    os.environ[\"CUDA_VISIBLE_DEVICES\"] = gpu\n    os.system(\"python worker.py\")\n//- worker.py\nprint(1)\n",
    );
}

#[test]
fn a_uuid_is_no_number() {
    check_why(
        "GP101",
        &format!(
            "import os\nimport torch\nn = int(os.environ.get(\"CUDA_VISIBLE_DEVICES\", \"0\"))\n{MAIN}"
        ),
        "`main.py` reads the mask, which is a UUID then; `[pin] as = \"index\"` keeps it a number",
    );
    check_why(
        "GP102",
        &format!(
            "import os\nos.environ[\"CUDA_DEVICE_ORDER\"] = \"PCI_BUS_ID\"\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"0\"\nimport torch\nn = int(os.environ[\"CUDA_VISIBLE_DEVICES\"])\n{MAIN}"
        ),
        "`main.py` reads the mask, which is a UUID then; `[pin] as = \"index\"` keeps it a number",
    );
}

#[test]
fn no_order_is_left_behind_where_a_mask_moves() {
    check(
        &[],
        &format!("import os\nimport torch\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"\n{MAIN}"),
        &format!("HEADER\n\nimport torch\n{MAIN}"),
    );
}

#[test]
fn a_word_in_powershell_has_quotes() {
    let program = format!("//- main.py\nimport torch\n{MAIN}");
    check(
        &["GP103"],
        &format!("//- a.ps1\n$env:CUDA_VISIBLE_DEVICES = 1\npython main.py\n{program}"),
        &format!(
            "//- a.ps1\n$env:CUDA_DEVICE_ORDER = \"PCI_BUS_ID\"\n$env:CUDA_VISIBLE_DEVICES = 1\npython main.py\n{program}"
        ),
    );
    check(
        &["GP103"],
        &format!("//- a.ps1\n$env:CUDA_VISIBLE_DEVICES=0\npython main.py\n{program}"),
        &format!("//- a.ps1\n$env:CUDA_VISIBLE_DEVICES=\"UUID\"\npython main.py\n{program}"),
    );
}

/// A notebook with one cell, whose lines are strings of a list or all one string.
fn cell(lines: &[&str], is_list: bool) -> String {
    let json = |it: &str| serde_json::Value::from(it).to_string();
    let text = lines.join("\n");
    let strings: Vec<_> = text.split_inclusive('\n').map(json).collect();
    let list = format!("[\n     {}\n   ]", strings.join(",\n     "));
    let source = if is_list { list } else { json(&text) };
    format!(
        "//- a.ipynb\n{{\"cells\": [{{\"cell_type\": \"code\", \"source\": {source}}}], \"nbformat\": 4}}\n//- main.py\nimport torch\n{MAIN}"
    )
}

#[test]
fn the_order_is_set_as_the_mask_is_in_every_kind_of_a_notebooks_cell() {
    for (before, after) in [
        (
            &["%env CUDA_VISIBLE_DEVICES=1", "!python main.py"][..],
            &[
                "%env CUDA_DEVICE_ORDER=PCI_BUS_ID",
                "%env CUDA_VISIBLE_DEVICES=1",
                "!python main.py",
            ][..],
        ),
        (
            &["x = 1", "%set_env CUDA_VISIBLE_DEVICES 1", "!python main.py"],
            &[
                "x = 1",
                "%set_env CUDA_DEVICE_ORDER PCI_BUS_ID",
                "%set_env CUDA_VISIBLE_DEVICES 1",
                "!python main.py",
            ],
        ),
        (
            &["!CUDA_VISIBLE_DEVICES=1 python main.py"],
            &["!CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=1 python main.py"],
        ),
        (
            &["%%bash", "CUDA_VISIBLE_DEVICES=1 python main.py"],
            &["%%bash", "CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=1 python main.py"],
        ),
        (
            &["%%bash", "export CUDA_VISIBLE_DEVICES=\"1\"", "python main.py"],
            &[
                "%%bash",
                "export CUDA_DEVICE_ORDER=\"PCI_BUS_ID\" CUDA_VISIBLE_DEVICES=\"1\"",
                "python main.py",
            ],
        ),
        (
            &["import os", "os.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"", "import torch"],
            &[
                "import os",
                "os.environ[\"CUDA_DEVICE_ORDER\"] = \"PCI_BUS_ID\"",
                "os.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"",
                "import torch",
            ],
        ),
    ] {
        for is_list in [true, false] {
            check(&["GP103"], &cell(before, is_list), &cell(after, is_list));
        }
    }
}

#[test]
fn a_late_mask_of_a_notebook_moves_whatever_its_cell_is() {
    let header: Vec<&str> = HEADER.lines().collect();
    let rest = ["import torch", "torch.zeros(1).cuda()"];
    let after = [&header[..], &["", "import os"], &rest].concat();
    let mask = "os.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"";
    for is_list in [true, false] {
        let before = ["import os", rest[0], mask, rest[1]];
        check(&["GP106"], &cell(&before, is_list), &cell(&after, is_list));
        let last = ["import os", rest[0], rest[1], "%env CUDA_VISIBLE_DEVICES=1"];
        let mut after = after.clone();
        if !is_list {
            after.push("");
        }
        check(&["GP105"], &cell(&last, is_list), &cell(&after, is_list));
    }
}

#[test]
fn in_the_style_import_a_mask_of_ones_own_gives_way_to_the_import() {
    let policy = "//- gpupin.toml\n[gpu]\nname = \"RTX 3090\"\n[lint]\nstyle = \"import\"\n";
    let declared = "//- pyproject.toml\n[project]\ndependencies = [\"gpupin\"]\n";
    let order = "os.environ[\"CUDA_DEVICE_ORDER\"] = \"PCI_BUS_ID\"\n";
    let mask = |it: &str| format!("os.environ[\"CUDA_VISIBLE_DEVICES\"] = \"{it}\"\n");
    let program = |sets: &str| format!("//- main.py\n{sets}\nimport torch\n{MAIN}");
    let import = program("import gpupin.auto  # pins the GPU of gpupin.toml\n");
    // An index without its order, that of another GPU, and what CUDA reads as something else.
    for sets in [mask("1"), format!("{order}{}", mask("0")), mask("1-2")] {
        let before = program(&format!("import os\n\n{sets}"));
        check(&[], &format!("{policy}{declared}{before}"), &format!("{declared}{import}"));
    }
    // Without the package that would break a program which a safe fix can help.
    let before = program(&format!("import os\n\n{}", mask("1")));
    let corrected = program(&format!("import os\n\n{order}{}", mask("1")));
    check(&[], &format!("{policy}{before}"), &corrected);
    // What somebody chose stays a choice.
    let chosen =
        |sets: &str| program(&format!("import os\nimport sys\n\nif sys.argv[1:]:\n{sets}"));
    check(
        &["GP103"],
        &format!("{policy}{declared}{}", chosen(&format!("    {}", mask("1")))),
        &format!("{declared}{}", chosen(&format!("    {order}    {}", mask("1")))),
    );
}
