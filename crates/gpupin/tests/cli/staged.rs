//! `scan --staged`: what is read from git's index, and what is not.

use std::{fs, process::Command};

use expect_test::expect;

use crate::{
    sandbox::Sandbox,
    since::{MASK, check, check_in, project},
};

#[test]
fn the_index_is_judged_and_not_the_working_tree() {
    // Bad in the index, good on disk.
    let sandbox = project().file("bad.sh", MASK).file("good.sh", "echo\n");
    sandbox.git(&["add", "--all"]);
    let sandbox = sandbox.file("bad.sh", "echo\n").file("good.sh", MASK).file("untracked.sh", MASK);
    check(
        &sandbox,
        &["--staged"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            bad.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            ----- stderr
            found 1 error in 1 file, 1 with a fix (6 files scanned, 2 staged, 2 programs ordered)
        "#]],
    );
}

#[test]
fn a_file_that_is_staged_and_deleted_on_disk_is_read() {
    let sandbox =
        project().file("dir/bad.sh", MASK).file(".venv/bad.sh", MASK).file("bad.rs", MASK);
    sandbox.git(&["add", "--all"]);
    for directory in ["dir", ".venv"] {
        fs::remove_dir_all(sandbox.path().join(directory)).unwrap();
    }
    check(
        &sandbox,
        &["--staged"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            dir/bad.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            ----- stderr
            found 1 error in 1 file, 1 with a fix (5 files scanned, 1 staged, 2 programs ordered)
        "#]],
    );
    check(
        &sandbox,
        &["--staged", "--exclude", "dir"],
        &expect![[r#"
        exit code: 0
        ----- stderr
        found nothing (4 files scanned, 0 staged, 2 programs ordered)
    "#]],
    );
    check(
        &sandbox,
        &["--staged", "main.py"],
        &expect![[r#"
        exit code: 0
        ----- stderr
        found nothing (1 file scanned, 0 staged, 1 program ordered)
    "#]],
    );
}

#[test]
fn what_is_not_tracked_pins_nothing_that_is_committed() {
    // Only the untracked script pins the program.
    let sandbox = project().file("gpu.py", "import os\n").file(
        "start.sh",
        "export CUDA_DEVICE_ORDER=PCI_BUS_ID\nexport CUDA_VISIBLE_DEVICES=1\npython main.py\n",
    );
    sandbox.git(&["add", "gpu.py"]);
    check(
        &sandbox,
        &["--staged"],
        &expect![[r#"
        exit code: 1
        ----- stdout
        main.py:2:1: GP101 this program uses `torch`, and nothing pins its GPU before CUDA starts
        ----- stderr
        found 1 error in 1 file (4 files scanned, 1 staged, 2 programs ordered)
    "#]],
    );
    sandbox.git(&["add", "start.sh"]);
    check(
        &sandbox,
        &["--staged"],
        &expect![[r#"
        exit code: 0
        ----- stderr
        found nothing (5 files scanned, 2 staged, 2 programs ordered)
    "#]],
    );
}

#[test]
fn the_staged_policy_counts() {
    let sandbox = project().file("new.sh", MASK);
    sandbox.git(&["add", "--all"]);
    let sandbox = sandbox.file("gpupin.toml", "broken");
    check(
        &sandbox,
        &["--staged"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            new.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            ----- stderr
            found 1 error in 1 file, 1 with a fix (5 files scanned, 1 staged, 2 programs ordered)
        "#]],
    );
}

#[test]
fn before_the_first_commit_everything_staged_is_new() {
    let sandbox = Sandbox::new().file("new.sh", MASK).file("untracked.sh", MASK).repository();
    sandbox.git(&["add", "new.sh"]);
    check(
        &sandbox,
        &["--staged", "--select", "GP103"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            new.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            ----- stderr
            found 1 error in 1 file, 1 with a fix (1 file scanned, 1 staged, 0 programs ordered)
        "#]],
    );
    check(
        &sandbox,
        &["--since", "HEAD"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: `HEAD` is no revision of this repository

        hint: a branch of a remote has its name in front: `origin/main`
    "#]],
    );
}

#[test]
fn a_user_s_configuration_changes_nothing() {
    let sandbox = project().file("sub/new.sh", MASK);
    for (key, value) in [
        ("diff.relative", "true"),
        ("diff.renames", "copies"),
        ("diff.external", "false"),
        ("core.quotePath", "true"),
        ("core.abbrev", "4"),
        ("color.ui", "always"),
        ("status.relativePaths", "true"),
    ] {
        sandbox.git(&["config", key, value]);
    }
    sandbox.git(&["add", "--all"]);
    let expected = expect![[r#"
        exit code: 1
        ----- stdout
        new.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
        ----- stderr
        found 1 error in 1 file, 1 with a fix (5 files scanned, 1 staged, 2 programs ordered)
    "#]];
    check_in("sub", &sandbox, &["--staged", ".."], &expected);
}

#[test]
fn both_at_once_are_refused() {
    for other in [["--since", "main"].as_slice(), &["--order", "a.py"], &["--write-baseline"]] {
        let outcome = Sandbox::new().gpupin(&[&["scan", "--staged"], other].concat());
        assert_eq!(outcome.code, 2);
        assert!(outcome.err.contains("cannot be used with"), "{}", outcome.err);
    }
}

/// Inside a hook git names the index that is about to be committed.
#[test]
fn the_index_of_a_partial_commit_is_judged() {
    let sandbox = project().file("bad.sh", MASK).file("good.sh", "echo\n");
    sandbox.git(&["add", "--all"]);
    let hook = sandbox.path().join(".git/hooks/pre-commit");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    let program = env!("CARGO_BIN_EXE_gpupin");
    fs::write(&hook, format!("#!/bin/sh\nexec '{program}' scan --staged\n")).unwrap();
    assert!(Command::new("chmod").arg("+x").arg(hook).status().unwrap().success());
    let commit = |args: &[&str]| {
        sandbox.run("git", "", &[&["commit", "--quiet", "--message", "x"], args].concat()).code
    };
    assert_eq!(commit(&[]), 1);
    assert_eq!(commit(&["bad.sh"]), 1);
    assert_eq!(commit(&["good.sh"]), 0, "what is staged otherwise is not in this commit");
    let sandbox = sandbox.file("good.sh", MASK);
    sandbox.git(&["rm", "--quiet", "--force", "bad.sh"]);
    assert_eq!(sandbox.run("git", "", &["commit", "-a", "--message", "x"]).code, 1);
}
