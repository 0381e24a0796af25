use std::fs;

use expect_test::expect;

use crate::sandbox::{Outcome, Sandbox};

const MASK: &str = "export CUDA_VISIBLE_DEVICES=1\npython train.py\n";
const MENDED: &str =
    "export CUDA_DEVICE_ORDER=PCI_BUS_ID\nexport CUDA_VISIBLE_DEVICES=1\npython train.py\n";

/// With the program under test on `PATH`.
fn repository() -> Sandbox {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_gpupin"));
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", program.parent().unwrap().display());
    let policy = "lint.select = [\"GP103\"]\n";
    let sandbox = Sandbox::new().file("gpupin.toml", policy).repository().variable("PATH", path);
    sandbox.commit();
    sandbox
}

fn commit(sandbox: &Sandbox, args: &[&str]) -> Outcome {
    sandbox.run("git", "", &[&["commit", "--quiet", "--message", "change"], args].concat())
}

#[track_caller]
fn install(sandbox: &Sandbox) {
    let outcome = sandbox.gpupin(&["hook", "install"]);
    assert_eq!(outcome.code, 0, "{}", outcome.whole());
}

#[test]
fn a_bad_change_is_refused_until_it_is_mended() {
    let sandbox = repository();
    expect![[r#"
        exit code: 0
        ----- stderr
        wrote `.git/hooks/pre-commit`: `git commit` runs `gpupin scan --staged` first; `git commit --no-verify` skips it
    "#]].assert_eq(&sandbox.gpupin(&["hook", "install"]).whole());
    let sandbox = sandbox.file("run.sh", MASK).file("other.txt", "");
    sandbox.git(&["add", "other.txt"]);
    assert_eq!(commit(&sandbox, &[]).code, 0, "the bad file is not staged");
    sandbox.git(&["add", "run.sh"]);
    expect![[r#"
        exit code: 1
        ----- stderr
        error[GP103]: the mask is an index and no `CUDA_DEVICE_ORDER` is set: CUDA numbers GPUs fastest first, `nvidia-smi` by PCI bus
         --> run.sh:1:8
          |
        1 | export CUDA_VISIBLE_DEVICES=1
          |        ^^^^^^^^^^^^^^^^^^^^^^
          |
          = unsafe fix: Set `CUDA_DEVICE_ORDER` to `PCI_BUS_ID` first (where the two orders differ, it changes which GPU the program uses)

        found 1 error in 1 file, 1 with a fix (1 file scanned, 1 staged, 0 programs ordered)

        gpupin refused the commit. Mend the findings and stage that, or accept one with a comment:
            # gpupin: ignore[CODE] why
        To make the safe fixes to what is staged: gpupin fix --allow-dirty
        To commit anyway: git commit --no-verify
    "#]].assert_eq(&commit(&sandbox, &[]).whole());
    let sandbox = sandbox.file("run.sh", MENDED);
    assert_eq!(commit(&sandbox, &[]).code, 1, "what would mend it is not staged");
    sandbox.git(&["add", "run.sh"]);
    assert_eq!(commit(&sandbox, &[]).code, 0);
    assert_eq!(sandbox.git(&["show", "HEAD:run.sh"]).out, MENDED);
}

#[test]
fn no_verify_skips_the_hook() {
    let sandbox = repository().file("run.sh", MASK);
    install(&sandbox);
    sandbox.git(&["add", "--all"]);
    assert_eq!(commit(&sandbox, &[]).code, 1);
    assert_eq!(commit(&sandbox, &["--no-verify"]).code, 0);
}

#[test]
fn a_commit_that_cannot_be_checked_is_refused() {
    let sandbox = repository();
    install(&sandbox);
    let sandbox = sandbox.file("gpupin.toml", "lint.selct = []\n");
    sandbox.git(&["add", "--all"]);
    expect![[r#"
        exit code: 1
        ----- stderr
        error: invalid policy `gpupin.toml`
          gpupin.toml:1:6: unknown key `lint.selct`, did you mean `select`?

        gpupin could not check the commit. To commit anyway: git commit --no-verify
    "#]]
    .assert_eq(&commit(&sandbox, &[]).whole());
}

#[test]
fn the_program_is_found_where_it_was_when_it_is_not_on_path() {
    let sandbox =
        repository().variable("PATH", std::env::var("PATH").unwrap()).file("run.sh", MASK);
    install(&sandbox);
    sandbox.git(&["add", "--all"]);
    assert_eq!(commit(&sandbox, &[]).code, 1);
    let hook = sandbox.read(".git/hooks/pre-commit");
    let gone = hook.replace(env!("CARGO_BIN_EXE_gpupin"), "/nonexistent/gpupin");
    assert_ne!(hook, gone);
    // Written over, so that it stays executable.
    let sandbox = sandbox.file(".git/hooks/pre-commit", gone);
    expect![[r#"
        exit code: 1
        ----- stderr
        gpupin is neither on PATH nor at /nonexistent/gpupin, so nothing was checked: install it,
        or commit without it: git commit --no-verify
    "#]]
    .assert_eq(&commit(&sandbox, &[]).whole());
}

#[test]
fn the_project_of_a_subdirectory_is_scanned() {
    let sandbox = Sandbox::new()
        .file("the app/gpupin.toml", "lint.select = [\"GP103\"]\n")
        .file("the app/run.sh", MASK)
        .file("run.sh", MASK)
        .repository();
    sandbox.commit();
    let outcome = sandbox.gpupin_in("the app", &["hook", "install"]);
    expect![[r#"
        exit code: 0
        ----- stderr
        wrote `../.git/hooks/pre-commit`: `git commit` runs `gpupin scan --staged -- 'the app'` first; `git commit --no-verify` skips it
    "#]].assert_eq(&outcome.whole());
    let sandbox = sandbox.file("run.sh", format!("# edited\n{MASK}"));
    sandbox.git(&["add", "--all"]);
    assert_eq!(commit(&sandbox, &[]).code, 0, "another project");
    let sandbox = sandbox.file("the app/run.sh", format!("# edited\n{MASK}"));
    sandbox.git(&["add", "--all"]);
    let outcome = commit(&sandbox, &[]);
    assert_eq!(outcome.code, 1);
    // Git sends what a hook prints to standard error.
    assert!(outcome.err.contains("--> the app/run.sh:2:8"), "{}", outcome.whole());
    sandbox.git(&["rm", "-r", "--quiet", "--force", "the app"]);
    assert_eq!(commit(&sandbox, &[]).code, 0, "a branch without the project");
}

#[test]
fn what_the_baseline_accepts_is_no_reason_to_refuse() {
    let sandbox = Sandbox::new()
        .file("the app/gpupin.toml", "lint.select = [\"GP103\"]\n")
        .file("the app/run.sh", MASK)
        .repository();
    assert_eq!(sandbox.gpupin_in("the app", &["scan", "--write-baseline"]).code, 0);
    sandbox.commit();
    assert_eq!(sandbox.gpupin_in("the app", &["hook", "install"]).code, 0);
    let sandbox = sandbox.file("the app/run.sh", format!("# edited\n{MASK}"));
    sandbox.git(&["add", "--all"]);
    assert_eq!(commit(&sandbox, &[]).code, 0);
    let sandbox = sandbox.file("the app/new.sh", MASK);
    sandbox.git(&["add", "--all"]);
    assert_eq!(commit(&sandbox, &[]).code, 1);
}

#[test]
fn another_hook_is_not_written_over() {
    let hook = "#!/bin/sh\necho first >>ran\n[ ! -e refuse ]\n";
    let sandbox = repository().file(".git/hooks/pre-commit", hook);
    let chmod = sandbox.run("chmod", "", &["+x", ".git/hooks/pre-commit"]);
    assert_eq!(chmod.code, 0);
    expect![[r#"
        exit code: 2
        ----- stderr
        error: `.git/hooks/pre-commit` is there already, and not gpupin's

        hint: add this line to it: `gpupin scan --staged || exit 1`
        hint: `--force` keeps it, and runs it before gpupin's
    "#]]
    .assert_eq(&sandbox.gpupin(&["hook", "install"]).whole());
    expect![[r#"
        exit code: 2
        ----- stderr
        error: `.git/hooks/pre-commit` is not gpupin's

        hint: remove the line with `gpupin` from it by hand
    "#]]
    .assert_eq(&sandbox.gpupin(&["hook", "uninstall"]).whole());
    assert_eq!(sandbox.read(".git/hooks/pre-commit"), hook);

    // By force, both run.
    for _ in 0..2 {
        assert_eq!(sandbox.gpupin(&["hook", "install", "--force"]).code, 0);
    }
    let sandbox = sandbox.file("run.sh", MASK);
    sandbox.git(&["add", "run.sh"]);
    assert_eq!(commit(&sandbox, &[]).code, 1);
    assert_eq!(sandbox.read("ran"), "first\n");
    let sandbox = sandbox.file("run.sh", MENDED).file("refuse", "");
    sandbox.git(&["add", "run.sh"]);
    assert_eq!(commit(&sandbox, &[]).code, 1, "the older hook refuses");
    fs::remove_file(sandbox.path().join("refuse")).unwrap();
    assert_eq!(commit(&sandbox, &[]).code, 0);

    expect![[r#"
        exit code: 0
        ----- stderr
        put `.git/hooks/pre-commit` back as it was before gpupin
    "#]]
    .assert_eq(&sandbox.gpupin(&["hook", "uninstall"]).whole());
    assert_eq!(sandbox.read(".git/hooks/pre-commit"), hook);
}

#[test]
fn two_older_hooks_are_too_many() {
    let sandbox = repository()
        .file(".git/hooks/pre-commit", "#!/bin/sh\n")
        .file(".git/hooks/pre-commit.before-gpupin", "#!/bin/sh\n# older\n");
    expect![[r#"
        exit code: 2
        ----- stderr
        error: `.git/hooks/pre-commit` is there already, and not gpupin's, and `.git/hooks/pre-commit.before-gpupin` is one more

        hint: make one hook of the two, or remove one
    "#]].assert_eq(&sandbox.gpupin(&["hook", "install", "--force"]).whole());
    assert_eq!(sandbox.read(".git/hooks/pre-commit"), "#!/bin/sh\n");
}

#[cfg(unix)]
#[test]
fn a_link_is_another_hook() {
    let sandbox = repository();
    fs::create_dir_all(sandbox.path().join(".git/hooks")).unwrap();
    let link = sandbox.path().join(".git/hooks/pre-commit");
    std::os::unix::fs::symlink("nowhere", link).unwrap();
    assert_eq!(sandbox.gpupin(&["hook", "install"]).code, 2);
}

#[test]
fn installing_again_brings_the_hook_up_to_date() {
    let sandbox = repository();
    install(&sandbox);
    let written = sandbox.read(".git/hooks/pre-commit");
    let sandbox =
        sandbox.file(".git/hooks/pre-commit", written.clone() + "# of an older version\n");
    install(&sandbox);
    assert_eq!(sandbox.read(".git/hooks/pre-commit"), written);
    expect![[r#"
        exit code: 0
        ----- stderr
        removed `.git/hooks/pre-commit`
    "#]]
    .assert_eq(&sandbox.gpupin(&["hook", "uninstall"]).whole());
    expect![[r#"
        exit code: 0
        ----- stderr
        there is no hook `.git/hooks/pre-commit`
    "#]]
    .assert_eq(&sandbox.gpupin(&["hook", "uninstall"]).whole());
}

#[test]
fn the_hook_lies_where_git_looks_for_it() {
    let sandbox = repository();
    sandbox.git(&["config", "core.hooksPath", "tools/hooks"]);
    install(&sandbox);
    assert!(sandbox.path().join("tools/hooks/pre-commit").exists());

    let shared = Sandbox::new();
    sandbox.git(&["config", "core.hooksPath", shared.path().to_str().unwrap()]);
    let outcome = sandbox.gpupin(&["hook", "install"]);
    assert!(outcome.err.contains("warning: `core.hooksPath` leads out"), "{}", outcome.whole());
    assert!(shared.path().join("pre-commit").exists());
}

#[test]
fn a_second_working_tree_shares_the_hook() {
    let sandbox = repository();
    sandbox.git(&["worktree", "add", "--quiet", "second"]);
    let outcome = sandbox.gpupin_in("second", &["hook", "install"]);
    assert_eq!(outcome.code, 0, "{}", outcome.whole());
    assert!(!outcome.err.contains("warning"), "{}", outcome.whole());
    assert!(sandbox.path().join(".git/hooks/pre-commit").exists());
    let sandbox = sandbox.file("second/run.sh", MASK);
    assert_eq!(sandbox.run("git", "second", &["add", "run.sh"]).code, 0);
    let commit = sandbox.run("git", "second", &["commit", "--message", "change"]);
    assert_eq!(commit.code, 1, "{}", commit.whole());
    assert!(commit.err.contains("run.sh:1:8"), "{}", commit.whole());
}
