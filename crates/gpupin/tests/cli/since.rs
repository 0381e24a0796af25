//! `scan --since` with a real git, and what `--staged` has in common with it.

use std::fs;

use expect_test::{Expect, expect};

use crate::sandbox::Sandbox;

pub(crate) const MASK: &str = "export CUDA_VISIBLE_DEVICES=1\npython train.py\n";
const TRAIN: &str = "import torch\n\nif __name__ == \"__main__\":\n    torch.zeros(1).cuda()\n";
const MAIN: &str =
    "import gpu\nimport torch\n\nif __name__ == \"__main__\":\n    torch.zeros(1).cuda()\n";
const PIN: &str = "\
import os
os.environ[\"CUDA_DEVICE_ORDER\"] = \"PCI_BUS_ID\"
os.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"
";
const POLICY: &str = "lint.select = [\"GP101\", \"GP103\", \"GP105\", \"GP106\"]\n";

/// A program that a module pins, beside a script with an old finding, on a branch.
pub(crate) fn project() -> Sandbox {
    let sandbox = Sandbox::new()
        .file("gpupin.toml", POLICY)
        .file("main.py", MAIN)
        .file("gpu.py", PIN)
        .file("train.py", TRAIN)
        .file("old.sh", MASK)
        .repository();
    sandbox.commit();
    sandbox.git(&["switch", "--quiet", "--create", "branch"]);
    sandbox
}

#[track_caller]
pub(crate) fn check_in(directory: &str, sandbox: &Sandbox, args: &[&str], expected: &Expect) {
    let args = [&["scan", "--output-format", "concise"], args].concat();
    expected.assert_eq(&sandbox.gpupin_in(directory, &args).whole());
}

#[track_caller]
pub(crate) fn check(sandbox: &Sandbox, args: &[&str], expected: &Expect) {
    check_in("", sandbox, args, expected);
}

#[test]
fn what_did_not_change_is_left_out() {
    let sandbox = project();
    check(
        &sandbox,
        &["--since", "main"],
        &expect![[r#"
        exit code: 0
        ----- stderr
        found nothing (4 files scanned, 0 changed since `main`, 2 programs ordered)
    "#]],
    );
    check(
        &sandbox,
        &["--staged"],
        &expect![[r#"
        exit code: 0
        ----- stderr
        found nothing (4 files scanned, 0 staged, 2 programs ordered)
    "#]],
    );
}

#[test]
fn everything_in_a_changed_file_is_shown_however_it_changed() {
    let sandbox = project();
    let sandbox = sandbox.file("committed.sh", MASK);
    sandbox.commit();
    let sandbox = sandbox.file("staged.sh", MASK);
    sandbox.git(&["add", "staged.sh"]);
    let sandbox = sandbox
        .file("old.sh", format!("# edited\n{MASK}"))
        .file("untracked\n.sh", MASK)
        .file(".gitignore", "ignored.sh\n")
        .file("ignored.sh", MASK);
    check(
        &sandbox,
        &["--since", "main"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            committed.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            old.sh:2:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            staged.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            untracked\n.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            ----- stderr
            found 4 errors in 4 files, 4 with a fix (7 files scanned, 4 changed since `main`, 2 programs ordered)
        "#]],
    );
    check_in(
        "",
        &sandbox,
        &["--since", "branch", "--statistics"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            3 × GP103 missing-device-order in 3 files
            ----- stderr
            found 3 errors in 3 files, 3 with a fix (7 files scanned, 3 changed since `branch`, 2 programs ordered)
        "#]],
    );
    check(
        &sandbox,
        &["--staged"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            staged.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            ----- stderr
            found 1 error in 1 file, 1 with a fix (6 files scanned, 1 staged, 2 programs ordered)
        "#]],
    );
}

#[test]
fn a_pull_request_is_compared_with_where_it_began() {
    let sandbox = project();
    sandbox.git(&["switch", "--quiet", "main"]);
    let sandbox = sandbox.file("of_main.sh", MASK);
    sandbox.commit();
    sandbox.git(&["switch", "--quiet", "branch"]);
    let sandbox = sandbox.file("of_branch.sh", MASK);
    sandbox.commit();
    check(
        &sandbox,
        &["--since", "main"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            of_branch.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            ----- stderr
            found 1 error in 1 file, 1 with a fix (5 files scanned, 1 changed since `main`, 2 programs ordered)
        "#]],
    );
}

#[test]
fn a_pin_that_a_change_of_another_file_makes_too_late_is_shown() {
    let late = "import torch\nx = torch.zeros(1).cuda()\nimport gpu\n";
    let sandbox = project().file("main.py", late.to_owned() + MAIN);
    check(
        &sandbox,
        &["--since", "main"],
        &expect![[r#"
        exit code: 1
        ----- stdout
        gpu.py:2:1: GP105 `CUDA_DEVICE_ORDER` is set after `.cuda()` made CUDA read it: this does nothing
        gpu.py:3:1: GP105 `CUDA_VISIBLE_DEVICES` is set after `.cuda()` made CUDA read it: this does nothing
        ----- stderr
        found 2 errors in 1 file (4 files scanned, 1 changed since `main`, 2 programs ordered)
    "#]],
    );
    sandbox.git(&["add", "main.py"]);
    check(
        &sandbox,
        &["--staged"],
        &expect![[r#"
        exit code: 1
        ----- stdout
        gpu.py:2:1: GP105 `CUDA_DEVICE_ORDER` is set after `.cuda()` made CUDA read it: this does nothing
        gpu.py:3:1: GP105 `CUDA_VISIBLE_DEVICES` is set after `.cuda()` made CUDA read it: this does nothing
        ----- stderr
        found 2 errors in 1 file (4 files scanned, 1 staged, 2 programs ordered)
    "#]],
    );
}

#[test]
fn a_program_that_loses_its_pin_elsewhere_is_shown() {
    let sandbox = project().file("gpu.py", "import os\n");
    check(
        &sandbox,
        &["--since", "main"],
        &expect![[r#"
        exit code: 1
        ----- stdout
        main.py:2:1: GP101 this program uses `torch`, and nothing pins its GPU before CUDA starts
        ----- stderr
        found 1 error in 1 file (4 files scanned, 1 changed since `main`, 2 programs ordered)
    "#]],
    );
    sandbox.git(&["rm", "--quiet", "--force", "gpu.py"]);
    check(
        &sandbox,
        &["--since", "main"],
        &expect![[r#"
        exit code: 1
        ----- stdout
        main.py:2:1: GP101 this program uses `torch`, and nothing pins its GPU before CUDA starts
        ----- stderr
        found 1 error in 1 file (3 files scanned, 0 changed since `main`, 2 programs ordered)
    "#]],
    );
}

#[test]
fn a_policy_that_asks_for_more_is_a_change_everywhere() {
    let sandbox = project().file("gpupin.toml", "lint.select = [\"GP103\", \"GP301\"]\n");
    check(
        &sandbox,
        &["--since", "main"],
        &expect![[r#"
        exit code: 1
        ----- stdout
        main.py:2:1: GP301 this program never checks which GPU it got
        train.py:1:1: GP301 this program never checks which GPU it got
        ----- stderr
        found 2 warnings in 2 files (4 files scanned, 0 changed since `main`, 2 programs ordered)
    "#]],
    );
}

#[test]
fn a_new_policy_shows_what_it_adds() {
    let sandbox = Sandbox::new().file("app/old.sh", MASK).file("app/train.py", TRAIN).repository();
    sandbox.commit();
    let sandbox = sandbox.file("app/gpupin.toml", "lint.select = [\"default\", \"GP301\"]\n");
    check(
        &sandbox,
        &["--since", "main", "app"],
        &expect![[r#"
        exit code: 1
        ----- stdout
        app/train.py:1:1: GP301 this program never checks which GPU it got
        ----- stderr
        found 1 warning in 1 file (2 files scanned, 0 changed since `main`, 1 program ordered)
    "#]],
    );
}

#[cfg(unix)]
#[test]
fn a_path_may_lead_through_a_link() {
    let sandbox = project().file("app/new.sh", MASK);
    let elsewhere = Sandbox::new().variable("PATH", std::env::var("PATH").unwrap());
    std::os::unix::fs::symlink(sandbox.path().join("app"), elsewhere.path().join("link")).unwrap();
    check(
        &elsewhere,
        &["--since", "main", "--select", "GP103", "link"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            link/new.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            ----- stderr
            found 1 error in 1 file, 1 with a fix (1 file scanned, 1 changed since `main`, 0 programs ordered)
        "#]],
    );
}

#[test]
fn a_renamed_file_has_changed_and_a_deleted_one_is_gone() {
    let sandbox = project();
    sandbox.git(&["mv", "old.sh", "new.sh"]);
    check(
        &sandbox,
        &["--since", "main"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            new.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            ----- stderr
            found 1 error in 1 file, 1 with a fix (4 files scanned, 1 changed since `main`, 2 programs ordered)
        "#]],
    );
    sandbox.git(&["rm", "--quiet", "--force", "new.sh"]);
    check(
        &sandbox,
        &["--since", "main"],
        &expect![[r#"
        exit code: 1
        ----- stdout
        train.py:1:1: GP101 this program uses `torch`, and nothing pins its GPU before CUDA starts
        ----- stderr
        found 1 error in 1 file (3 files scanned, 0 changed since `main`, 2 programs ordered)
    "#]],
    );
}

#[cfg(target_os = "linux")]
#[test]
fn names_may_hold_any_byte() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

    let sandbox = project().file("a b\t\"ü\".sh", MASK);
    fs::write(sandbox.path().join(OsStr::from_bytes(b"\xff\n.sh")), MASK).unwrap();
    check(
        &sandbox,
        &["--since", "main"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            a b\t"ü".sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            �\n.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            ----- stderr
            found 2 errors in 2 files, 2 with a fix (6 files scanned, 2 changed since `main`, 2 programs ordered)
        "#]],
    );
    sandbox.git(&["add", "--all"]);
    check(
        &sandbox,
        &["--staged"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            a b\t"ü".sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            �\n.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            ----- stderr
            found 2 errors in 2 files, 2 with a fix (6 files scanned, 2 staged, 2 programs ordered)
        "#]],
    );
}

#[test]
fn a_submodule_is_one_file_to_git() {
    let module = Sandbox::new().file("run.sh", MASK).repository();
    module.commit();
    let sandbox = project();
    let url = module.path().to_str().unwrap();
    let add = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", url, "sub"];
    sandbox.git(&add);
    check(
        &sandbox,
        &["--since", "main"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            sub/run.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            ----- stderr
            found 1 error in 1 file, 1 with a fix (5 files scanned, 1 changed since `main`, 2 programs ordered)
        "#]],
    );
    sandbox.commit();
    check(
        &sandbox,
        &["--since", "branch"],
        &expect![[r#"
        exit code: 0
        ----- stderr
        found nothing (5 files scanned, 0 changed since `branch`, 2 programs ordered)
    "#]],
    );
}

#[test]
fn a_part_of_the_repository_can_be_scanned_from_anywhere() {
    let sandbox = project().file("sub dir/a.sh", MASK).file("other/b.sh", MASK);
    check_in(
        "sub dir",
        &sandbox,
        &["--since", "main"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            a.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            ----- stderr
            found 1 error in 1 file, 1 with a fix (1 file scanned, 1 changed since `main`, 0 programs ordered)
        "#]],
    );
    check_in(
        "sub dir",
        &sandbox,
        &["--since", "main", "../other"],
        &expect![[r#"
            exit code: 1
            ----- stdout
            ../other/b.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            ----- stderr
            found 1 error in 1 file, 1 with a fix (1 file scanned, 1 changed since `main`, 0 programs ordered)
        "#]],
    );
    sandbox.git(&["add", "--all"]);
    check_in(
        "sub dir",
        &sandbox,
        &["--staged", ".."],
        &expect![[r#"
            exit code: 1
            ----- stdout
            ../other/b.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            a.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            ----- stderr
            found 2 errors in 2 files, 2 with a fix (6 files scanned, 2 staged, 2 programs ordered)
        "#]],
    );
}

#[test]
fn the_repository_is_that_of_what_is_scanned() {
    let inner = project().file("new.sh", MASK);
    let elsewhere = Sandbox::new().repository();
    let path = inner.path().to_str().unwrap();
    let outcome = elsewhere.gpupin(&["scan", "--since", "main", "--output-format", "json", path]);
    let json = outcome.json();
    assert_eq!(json["summary"]["changed_files"], 1);
    assert_eq!(json["findings"].as_array().unwrap().len(), 1, "{}", outcome.whole());
}

#[test]
fn a_baseline_counts_as_well() {
    let sandbox = project().file("new.sh", MASK);
    sandbox.gpupin(&["scan", "--write-baseline"]);
    let sandbox = sandbox.file("newer.sh", MASK);
    let args = ["--since", "main", "--baseline", "gpupin-baseline.json"];
    check(
        &sandbox,
        &args,
        &expect![[r#"
            exit code: 1
            ----- stdout
            newer.sh:1:8: GP103 the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
            ----- stderr
            found 1 error in 1 file, 1 with a fix (7 files scanned, 3 changed since `main`, 2 programs ordered)
        "#]],
    );
}

#[test]
fn json_says_how_many_files_changed_only_when_asked() {
    let sandbox = project().file("new.sh", MASK).file("notes.txt", "not scanned\n");
    let changed = |args: &[&str]| {
        let args = [&["scan", "--output-format", "json"], args].concat();
        let json = sandbox.gpupin(&args).json();
        crate::report::validate(include_str!("../../src/reference/scan.schema.json"), &json);
        json["summary"]["changed_files"].clone()
    };
    assert_eq!(changed(&["--since", "main"]), 1);
    assert_eq!(changed(&[]), serde_json::Value::Null);
}

#[test]
fn a_revision_that_is_none_is_an_error() {
    let sandbox = project();
    check(
        &sandbox,
        &["--since", "mian"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: `mian` is no revision of this repository

        hint: a branch of a remote has its name in front: `origin/main`
    "#]],
    );
    check(
        &sandbox,
        &["--since=--output=evil"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: `--output=evil` is no revision of this repository

        hint: a branch of a remote has its name in front: `origin/main`
    "#]],
    );
    for revision in ["^main", "main..branch", "", "HEAD:main.py"] {
        let outcome = sandbox.gpupin(&["scan", "--since", revision]);
        assert_eq!(outcome.code, 2, "{}", outcome.whole());
        assert!(outcome.err.contains("is no revision"), "{}", outcome.whole());
    }
    assert!(!sandbox.path().join("evil").exists());
}

#[test]
fn a_history_without_a_shared_commit_is_an_error() {
    let sandbox = project();
    sandbox.git(&["switch", "--quiet", "--orphan", "other"]);
    check(
        &sandbox,
        &["--since", "main"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: this branch has no commit yet
    "#]],
    );
    sandbox.commit();
    check(
        &sandbox,
        &["--since", "main"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: `main` and `HEAD` share no commit

        hint: name a revision from which this branch comes
    "#]],
    );
}

#[test]
fn a_shallow_clone_is_told_what_to_fetch() {
    let origin = project().file("new.sh", MASK);
    origin.commit();
    let sandbox = Sandbox::new().repository();
    let url = format!("file://{}", origin.path().display());
    sandbox.git(&["clone", "--quiet", "--depth", "1", "--branch", "branch", &url, "clone"]);
    check_in(
        "clone",
        &sandbox,
        &["--since", "origin/main"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: `origin/main` is no revision of this repository

        hint: this clone is shallow: fetch its history with `git fetch --unshallow`, in GitHub Actions with `fetch-depth: 0`
    "#]],
    );
    let fetch = ["fetch", "--quiet", "--depth", "1", "origin", "main:refs/remotes/origin/main"];
    let outcome = sandbox.run("git", "clone", &fetch);
    assert_eq!(outcome.code, 0, "{}", outcome.whole());
    check_in(
        "clone",
        &sandbox,
        &["--since", "origin/main"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: `origin/main` and `HEAD` share no commit

        hint: this clone is shallow: fetch its history with `git fetch --unshallow`, in GitHub Actions with `fetch-depth: 0`
    "#]],
    );
}

#[test]
fn outside_of_a_repository_there_are_no_changes() {
    let sandbox = Sandbox::new().variable("PATH", std::env::var("PATH").unwrap());
    for args in
        [["scan", "--staged"].as_slice(), &["scan", "--since", "main"], &["hook", "install"]]
    {
        let outcome = sandbox.gpupin(args);
        assert_eq!(outcome.code, 2, "{}", outcome.whole());
        assert!(outcome.err.contains("is in no working tree of git"), "{}", outcome.whole());
    }
}

#[test]
fn without_git_there_is_an_error_with_a_hint() {
    let sandbox = Sandbox::new().variable("PATH", "/nonexistent");
    check(
        &sandbox,
        &["--staged"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: there is no program `git`

        hint: install git, or add its directory to `PATH`
    "#]],
    );
}
