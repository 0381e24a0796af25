use expect_test::{Expect, expect};

use crate::sandbox::Sandbox;

/// A program that freezes its environment two modules away, before it sets the mask.
fn project() -> Sandbox {
    Sandbox::new()
        .file("gpupin.toml", "")
        .file("run.sh", "export CUDA_DEVICE_ORDER=PCI_BUS_ID\npython main.py\n")
        .file(
            "main.py",
            r#"import os

os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "max_split_size_mb:512"
from app import engine

os.environ["CUDA_VISIBLE_DEVICES"] = "1"

if __name__ == "__main__":
    engine.run()
"#,
        )
        .file("app/__init__.py", "")
        .file(
            "app/engine.py",
            "import torch\nfrom app import probe\n\n\ndef run():\n    torch.zeros(1).cuda()\n",
        )
        .file("app/probe.py", "import torch\n\nHAS_GPU = torch.cuda.is_available()\n")
}

#[track_caller]
fn check(sandbox: &Sandbox, args: &[&str], expected: &Expect) {
    expected.assert_eq(&sandbox.gpupin(&[&["scan"], args].concat()).whole());
}

#[test]
fn every_step_says_what_becomes_of_it() {
    check(
        &project(),
        &["--order", "main.py"],
        &expect![[r#"
        exit code: 0
        ----- stdout
        main.py, started as a program
        started by run.sh:2:1

        1. sets `PYTORCH_CUDA_ALLOC_CONF` to `max_split_size_mb:512` (main.py:3:1)
           takes effect: CUDA reads it in step 4
        2. imports `torch` (app/engine.py:1:1, through line 4 of the program)
        3. imports `torch` (app/probe.py:1:1, through line 4 of the program)
        4. starts CUDA: `torch.cuda.is_available()` (app/probe.py:3:11, through line 4 of the program)
           -> CUDA reads `CUDA_DEVICE_ORDER` = `PCI_BUS_ID`, `CUDA_VISIBLE_DEVICES` as it was set from outside, if at all, `PYTORCH_CUDA_ALLOC_CONF` = `max_split_size_mb:512`
        5. sets `CUDA_VISIBLE_DEVICES` to `1` (main.py:6:1)
           does nothing: CUDA has read its environment in step 4
        6. uses CUDA: `.cuda()` (app/engine.py:6:5, through line 9 of the program)
    "#]],
    );
}

#[test]
fn a_script_hands_its_variables_on() {
    check(
        &project(),
        &["--order", "run.sh"],
        &expect![[r#"
        exit code: 0
        ----- stdout
        run.sh, started as a program

        1. sets `CUDA_DEVICE_ORDER` to `PCI_BUS_ID` (run.sh:1:8)
           takes effect: the program started in step 2 gets it
        2. starts `main.py` (run.sh:2:1)
    "#]],
    );
}

/// The sentences about what is set and removed, one a line.
#[track_caller]
fn check_effects(name: &str, text: &str, expected: &Expect) {
    let json = Sandbox::new()
        .file("gpupin.toml", "")
        .file("train.py", "import torch\n")
        .file(name, text)
        .gpupin(&["scan", "--order", name, "--output-format", "json"])
        .json();
    let steps = json["programs"][0]["steps"].as_array().unwrap();
    let changes = |it: &&serde_json::Value| {
        let does = it["does"].as_str().unwrap();
        does.starts_with("sets") || does.starts_with("removes")
    };
    let line = |it: &serde_json::Value| {
        let sign = match it["effect"]["takes_effect"].as_bool() {
            Some(true) => "yes",
            Some(false) => "no",
            None => "perhaps",
        };
        format!("{}. {sign}: {}\n", it["number"], it["effect"]["why"].as_str().unwrap())
    };
    expected.assert_eq(&steps.iter().filter(changes).map(line).collect::<String>());
}

#[test]
fn a_variable_that_is_not_exported_may_still_come_exported() {
    check_effects(
        "run.sh",
        "CUDA_VISIBLE_DEVICES=1\npython train.py\n",
        &expect![[r#"
        1. perhaps: it is not exported here, so programs get it only if it came exported from outside
    "#]],
    );
}

#[test]
fn what_nobody_reads_says_why() {
    check_effects(
        "run.sh",
        "export CUDA_VISIBLE_DEVICES=0\nexport CUDA_VISIBLE_DEVICES=1\n(export CUDA_VISIBLE_DEVICES=2)\n\
         python train.py\nexport CUDA_VISIBLE_DEVICES=3\nunset CUDA_VISIBLE_DEVICES\nexport CUDA_DEVICE_ORDER=PCI_BUS_ID\n",
        &expect![[r#"
            1. no: it is replaced in step 2 before anybody reads it
            2. yes: the program started in step 4 gets it
            3. perhaps: nothing was seen that reads it
            5. no: it is removed in step 6 before anybody reads it
            6. yes: CUDA has not started yet
            7. perhaps: nothing was seen that reads it
        "#]],
    );
}

#[test]
fn a_child_sees_what_comes_too_late_for_its_parent() {
    check_effects(
        "tune.py",
        r#"import os, subprocess, torch
torch.zeros(1).cuda()
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
subprocess.run(["tuner"])
os.environ["CUDA_VISIBLE_DEVICES"] = "2"
subprocess.run(["python", "train.py"])
del os.environ["CUDA_VISIBLE_DEVICES"]
"#,
        &expect![[r#"
            3. perhaps: the program started in step 4 sees it; here CUDA has read its environment in step 2
            5. yes: the program started in step 6 sees it; here CUDA has read its environment in step 2
            7. no: CUDA has read its environment in step 2
        "#]],
    );
}

#[test]
fn a_child_with_an_unknown_environment_may_get_it() {
    check_effects(
        "tune.py",
        r#"import os, subprocess
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
subprocess.run(["tuner"], env=make())
os.environ["CUDA_VISIBLE_DEVICES"] = "2"
subprocess.run(["python", "train.py"], env={"A": "b"})
os.environ["CUDA_VISIBLE_DEVICES"] = "3"
subprocess.run(["python", "train.py"])
"#,
        &expect![[r#"
            1. perhaps: the environment of the program started in step 2 is only known at run time
            3. no: it is replaced in step 5 before anybody reads it
            5. yes: the program started in step 6 gets it
        "#]],
    );
}

#[test]
fn the_root_is_read_wherever_one_stands() {
    let sandbox = project();
    let outcome = sandbox.gpupin_in("app", &["scan", "--order", "../main.py"]);
    assert_eq!(outcome.code, 0, "{}", outcome.whole());
    assert!(outcome.out.contains("starts CUDA"), "{}", outcome.out);
    assert!(outcome.out.contains("(probe.py:3:11"), "{}", outcome.out);
}

#[test]
fn a_module_is_no_program_but_runs_in_some() {
    check(
        &project(),
        &["--order", "app/probe.py"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: no program starts in `app/probe.py`

        hint: it runs in `main.py`
    "#]],
    );
}

#[test]
fn a_file_that_was_not_read_is_an_error() {
    check(
        &project(),
        &["--order", "nowhere.py"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: `nowhere.py` is not among the files that were read

        hint: it must exist, be of a language gpupin reads, lie below the paths and not be excluded
    "#]],
    );
}

#[test]
fn json_has_the_same_steps() {
    let json = project().gpupin(&["scan", "--order", "main.py", "--output-format", "json"]).json();
    assert_eq!(json["version"], 1);
    let program = &json["programs"][0];
    assert_eq!(program["started_by"][0]["path"], "run.sh");
    let last = program["steps"]
        .as_array()
        .unwrap()
        .iter()
        .rfind(|it| it["does"].as_str().unwrap().starts_with("sets `CUDA_VISIBLE_DEVICES`"));
    assert_eq!(last.unwrap()["effect"]["takes_effect"], false);
    assert_eq!(program["reads"][0]["by"], "cuda");
    let order = program["reads"][0]["variables"].as_array().unwrap().iter();
    let order = order.clone().find(|it| it["name"] == "CUDA_DEVICE_ORDER").unwrap();
    assert_eq!(order["values"][0]["value"], "`PCI_BUS_ID`");
}
