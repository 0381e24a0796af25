use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::Command,
};

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::{
    sandbox::Sandbox,
    writing::{change, write},
};

const OLD: &str = "a\nb\nc\nd\ne\nf\n";
const NEW: &str = "pin\na\nb\nc\nD\ne\nf\n";

/// A project in which one file was changed and one was created.
fn fixed() -> Sandbox {
    let sandbox = Sandbox::new().file("a.py", OLD).file("b/x.py", "");
    let changes = json!([change("a.py", OLD, NEW), { "path": "b/new.py", "new": "1\n" }]);
    assert_eq!(write(&sandbox, &changes).code, 0);
    sandbox
}

#[track_caller]
fn check(sandbox: &Sandbox, args: &[&str], expected: &Expect) {
    expected.assert_eq(&sandbox.gpupin(&[&["undo"], args].concat()).whole());
}

#[test]
fn every_byte_and_permission_comes_back() {
    let old = "x\r\ny\u{feff}\tz";
    let sandbox = fixed().file("run.sh", old);
    let mode = |mode| {
        let path = sandbox.path().join("run.sh");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o750);
    assert_eq!(write(&sandbox, &json!([change("run.sh", old, "x\ny\n")])).code, 0);
    mode(0o644);
    check(
        &sandbox,
        &[],
        &expect![[r#"
        exit code: 0
        ----- stderr
        undid `261126-082513b` (`gpupin debug write`, 2026-11-26 08:25:13 UTC): restored 1 file
    "#]],
    );
    assert_eq!(sandbox.read("run.sh"), old);
    let there = fs::metadata(sandbox.path().join("run.sh")).unwrap().permissions().mode();
    assert_eq!(there & 0o7777, 0o750);

    // The next one is the one before.
    check(
        &sandbox,
        &["--verbose"],
        &expect![[r#"
        exit code: 0
        ----- stderr
        verbose: restored `a.py`
        verbose: removed `b/new.py`
        undid `261126-082513` (`gpupin debug write`, 2026-11-26 08:25:13 UTC): restored 1 file, removed 1
    "#]],
    );
    assert_eq!(sandbox.read("a.py"), OLD);
    assert!(!sandbox.path().join("b/new.py").exists());
    check(
        &sandbox,
        &[],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: there is nothing to undo: no entry of the journal is left

        hint: `gpupin journal` lists all entries
    "#]],
    );
    let again = sandbox.gpupin(&["undo", "261126-082513"]);
    assert_eq!(again.code, 0);
    assert!(again.err.starts_with("`261126-082513` was undone already, 20"), "{}", again.err);
}

#[test]
fn a_file_that_changed_since_keeps_all_of_them_as_they_are() {
    let sandbox = fixed();
    let mine = format!("{NEW}mine\n");
    let sandbox = sandbox.file("a.py", &mine);
    let refusal = expect![[r#"
        exit code: 1
        ----- stderr
        error: `261126-082513` cannot be undone as a whole, so nothing was touched
          `a.py`: changed since

        hint: `--force-unchanged-hunks` restores what is still as the fix left it
    "#]];
    check(&sandbox, &[], &refusal);
    check(&sandbox, &["--diff"], &refusal);
    assert_eq!((sandbox.read("a.py"), sandbox.read("b/new.py")), (mine, "1\n".to_owned()));
}

#[test]
fn every_reason_is_told() {
    let sandbox = fixed().file("b/new.py", "mine\n");
    fs::remove_file(sandbox.path().join("a.py")).unwrap();
    check(
        &sandbox,
        &[],
        &expect![[r#"
        exit code: 1
        ----- stderr
        error: `261126-082513` cannot be undone as a whole, so nothing was touched
          `a.py`: there is no such file any more
          `b/new.py`: created by the fix, and changed since

        hint: `--force-unchanged-hunks` restores what is still as the fix left it
    "#]],
    );

    let sandbox = fixed();
    let read_only = fs::Permissions::from_mode(0o444);
    fs::set_permissions(sandbox.path().join("a.py"), read_only).unwrap();
    let outcome = sandbox.gpupin(&["undo"]);
    assert!(outcome.err.contains("`a.py`: read-only"), "{}", outcome.err);
    assert!(sandbox.path().join("b/new.py").exists());
}

#[test]
fn a_later_fix_of_the_same_file_goes_first() {
    let sandbox = fixed();
    assert_eq!(write(&sandbox, &json!([change("a.py", NEW, "other\n")])).code, 0);
    check(
        &sandbox,
        &["261126-082513"],
        &expect![[r#"
        exit code: 1
        ----- stderr
        error: `261126-082513` cannot be undone as a whole, so nothing was touched
          `a.py`: changed since

        hint: a later fix changed it as well; `gpupin undo 261126-082513b` first
        hint: `--force-unchanged-hunks` restores what is still as the fix left it
    "#]],
    );
    assert_eq!(sandbox.gpupin(&["undo", "261126-082513b"]).code, 0);
    assert_eq!(sandbox.gpupin(&["undo", "2611"]).code, 2, "`2611` may be either");
    assert_eq!(sandbox.gpupin(&["undo", "261126-082513"]).code, 0);
    assert_eq!(sandbox.read("a.py"), OLD);
}

#[test]
fn hunks_that_are_as_the_fix_left_them_can_be_restored_alone() {
    let args = &["--force-unchanged-hunks"];
    let sandbox = fixed().file("a.py", "pin\na\nmine\nb\nc\nD\ne\nf\n");
    check(
        &sandbox,
        args,
        &expect![[r#"
        exit code: 0
        ----- stderr
        undid `261126-082513` (`gpupin debug write`, 2026-11-26 08:25:13 UTC): restored 1 file, removed 1
    "#]],
    );
    assert_eq!(sandbox.read("a.py"), "a\nmine\nb\nc\nd\ne\nf\n");

    let sandbox = fixed().file("a.py", NEW.replace('D', "mine"));
    check(
        &sandbox,
        args,
        &expect![[r#"
        exit code: 1
        ----- stderr
        undid in part `261126-082513` (`gpupin debug write`, 2026-11-26 08:25:13 UTC): restored 1 file, removed 1
        error: `a.py` is not restored: line 5 of what the fix wrote changed since
    "#]],
    );
    assert_eq!(sandbox.read("a.py"), "a\nb\nc\nmine\ne\nf\n");
    // What was in the way is gone, and the rest can follow.
    let sandbox = sandbox.file("a.py", "a\nb\nc\nD\ne\nf\n");
    assert_eq!(sandbox.gpupin(&["undo", "--force-unchanged-hunks"]).code, 0);
    assert_eq!(sandbox.read("a.py"), OLD);
}

#[test]
fn the_diff_is_what_undo_does() {
    let sandbox = fixed();
    let diff = sandbox.gpupin(&["undo", "--diff"]);
    expect![[r#"
        exit code: 0
        ----- stdout
        --- a/a.py
        +++ b/a.py
        @@ -1,7 +1,6 @@
        -pin
         a
         b
         c
        -D
        +d
         e
         f
        --- a/b/new.py
        +++ /dev/null
        @@ -1 +0,0 @@
        -1
    "#]]
    .assert_eq(&diff.whole());
    assert_eq!(sandbox.read("a.py"), NEW, "nothing is changed");
    let sandbox = sandbox.file("the.patch", &diff.out);
    let git = Command::new("git").args(["apply", "the.patch"]).current_dir(sandbox.path()).output();
    assert!(git.as_ref().unwrap().status.success(), "{git:?}");
    assert_eq!(sandbox.read("a.py"), OLD);
    assert!(!sandbox.path().join("b/new.py").exists());
    check(
        &sandbox,
        &[],
        &expect![[r#"
        exit code: 0
        ----- stderr
        undid `261126-082513` (`gpupin debug write`, 2026-11-26 08:25:13 UTC): every file was as before already
    "#]],
    );
}

#[test]
fn a_journal_is_found_above_and_by_name() {
    let sandbox = fixed();
    assert_eq!(sandbox.gpupin_in("b", &["undo"]).code, 0);
    assert_eq!(sandbox.read("a.py"), OLD);

    let sandbox = Sandbox::new().file("project/a.py", "1\n");
    let changes = json!([change("a.py", "1\n", "2\n")]).to_string();
    assert_eq!(sandbox.gpupin_given(&changes, &["debug", "write", "--root", "project"]).code, 0);
    check(
        &sandbox,
        &[],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: no journal was found: gpupin has changed nothing here

        hint: stand in the project that was changed, or name it with `--project`
    "#]],
    );
    assert_eq!(sandbox.gpupin(&["undo", "--project", "project"]).code, 0);
    assert_eq!(sandbox.read("project/a.py"), "1\n");
}

#[test]
fn a_broken_policy_is_no_reason_not_to_undo() {
    let sandbox = fixed().file("gpupin.toml", "no = [policy");
    assert_eq!(sandbox.gpupin(&["undo"]).code, 0);
}

#[test]
fn a_link_stays_when_what_it_leads_to_is_restored() {
    let sandbox = Sandbox::new().file("real.py", "1\n");
    symlink("real.py", sandbox.path().join("link.py")).unwrap();
    assert_eq!(write(&sandbox, &json!([change("link.py", "1\n", "2\n")])).code, 0);
    assert_eq!(sandbox.gpupin(&["undo"]).code, 0);
    assert_eq!(sandbox.read("real.py"), "1\n");
    assert!(sandbox.path().join("link.py").is_symlink());
}

/// Files beyond the root are restored, but not by a journal that came from elsewhere.
#[test]
fn a_journal_of_another_place_stays_inside_of_its_project() {
    let written = |there: &str| {
        let sandbox = Sandbox::new().file("project/x", "").file("outside.py", "1\n");
        let changes = json!([change("../outside.py", "1\n", "2\n")]).to_string();
        assert_eq!(
            sandbox.gpupin_given(&changes, &["debug", "write", "--root", "project"]).code,
            0
        );
        fs::rename(sandbox.path().join("project"), sandbox.path().join(there)).unwrap();
        sandbox
    };
    let sandbox = written("project");
    assert_eq!(sandbox.gpupin_in("project", &["undo"]).code, 0);
    assert_eq!(sandbox.read("outside.py"), "1\n");

    let sandbox = written("moved");
    let outcome = sandbox.gpupin_in("moved", &["undo", "--force-unchanged-hunks"]);
    assert_eq!((outcome.code, sandbox.read("outside.py").as_str()), (1, "2\n"));
    assert!(outcome.err.contains("`../outside.py` is not restored: it is outside of the project"));
}

#[test]
fn a_journal_that_lost_its_bytes_restores_nothing() {
    let sandbox = fixed();
    let journal: Value = sandbox.gpupin(&["journal", "--output-format", "json"]).json();
    let old = journal["entries"][0]["files"][0]["old"].as_str().unwrap();
    fs::remove_file(sandbox.path().join(".gpupin/journal/objects").join(old)).unwrap();
    let outcome = sandbox.gpupin(&["undo"]);
    assert_eq!((outcome.code, sandbox.read("a.py").as_str()), (2, NEW), "{}", outcome.whole());
    assert!(sandbox.path().join("b/new.py").exists());
}
