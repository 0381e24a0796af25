use std::{fs, os::unix::fs::PermissionsExt as _};

use expect_test::{Expect, expect, expect_file};
use serde_json::json;

use crate::{
    report::validate,
    sandbox::Sandbox,
    writing::{change, write},
};

/// A project with an entry that is undone, and one that is not.
fn project() -> Sandbox {
    let sandbox = Sandbox::new().file("a.py", "1\n").file("b/run.sh", "1\n");
    for (name, mode) in [("a.py", 0o644), ("b/run.sh", 0o755)] {
        let path = sandbox.path().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    assert_eq!(write(&sandbox, &json!([change("a.py", "1\n", "2\n")])).code, 0);
    assert_eq!(sandbox.gpupin(&["undo"]).code, 0);
    let changes = [change("a.py", "1\n", "2\n"), change("b/run.sh", "1\n", "2\n")];
    let created = json!({ "path": "b/new.py", "new": "3\n" });
    let [first, second] = changes;
    assert_eq!(write(&sandbox, &json!([first, second, created])).code, 0);
    sandbox
}

#[track_caller]
fn check(sandbox: &Sandbox, args: &[&str], expected: &Expect) {
    expected.assert_eq(&sandbox.gpupin(&[&["journal"], args].concat()).whole());
}

#[test]
fn every_entry_is_a_line() {
    check(
        &project(),
        &[],
        &expect![[r#"
        exit code: 0
        ----- stdout
        261126-082513   2026-11-26 08:25:13 UTC    1 file   undone  gpupin debug write
        261126-082513b  2026-11-26 08:25:13 UTC    3 files          gpupin debug write
    "#]],
    );
}

#[test]
fn an_entry_tells_what_became_of_its_files() {
    let sandbox = project().file("a.py", "mine\n");
    fs::remove_file(sandbox.path().join("b/run.sh")).unwrap();
    check(
        &sandbox,
        &["261126-082513b"],
        &expect![[r#"
        exit code: 0
        ----- stdout
        261126-082513b  2026-11-26 08:25:13 UTC  gpupin debug write
          a.py: changed since
          b/run.sh: vanished since
          b/new.py: as the fix left it
    "#]],
    );
    assert_eq!(sandbox.gpupin(&["undo", "--force-unchanged-hunks"]).code, 1);
    check(
        &sandbox,
        &["261126-082513b"],
        &expect![[r#"
        exit code: 0
        ----- stdout
        261126-082513b  2026-11-26 08:25:13 UTC  gpupin debug write
          a.py: changed since
          b/run.sh: vanished since
          b/new.py: as before the fix
    "#]],
    );
}

#[test]
fn an_id_that_is_not_there_or_not_clear_is_an_error() {
    check(
        &project(),
        &["27"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: the journal has no entry `27`

        hint: `gpupin journal` lists all entries
    "#]],
    );
    check(
        &project(),
        &["26"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: `26` may be any of `261126-082513`, `261126-082513b`
    "#]],
    );
}

#[test]
fn an_entry_that_cannot_be_read_hides_no_other() {
    let sandbox = project().file(".gpupin/journal/261126-09.json", "{\"version\": 9}");
    let outcome = sandbox.gpupin(&["journal"]);
    assert_eq!((outcome.code, outcome.out.lines().count()), (0, 2), "{}", outcome.whole());
    assert!(outcome.err.starts_with("warning: failed to read the journal entry `"));
    let why = "its version is `9`, not `1`; a newer gpupin wrote it; update gpupin\n";
    assert!(outcome.err.ends_with(why), "{}", outcome.err);
}

#[test]
fn json_follows_its_schema() {
    let schema = include_str!("../../src/reference/journal.schema.json");
    let sandbox = project().file("a.py", "mine\n");
    let all = sandbox.gpupin(&["journal", "--output-format", "json"]);
    assert!(all.out.starts_with("{\n  \"version\": 1,"), "the version comes first");
    validate(schema, &all.json());
    assert_eq!(all.json()["entries"].as_array().unwrap().len(), 2);
    let one = sandbox.gpupin(&["journal", "261126-082513b", "--output-format", "json"]).json();
    validate(schema, &one);
    assert_eq!(one["entries"][0], all.json()["entries"][1]);
    let now: Vec<_> =
        one["entries"][0]["files"].as_array().unwrap().iter().map(|it| &it["now"]).collect();
    assert_eq!(now, ["changed", "fixed", "fixed"]);
}

#[test]
fn an_entry_on_the_disk_is_the_golden_one() {
    let sandbox = project();
    let root = fs::canonicalize(sandbox.path()).unwrap();
    let text = sandbox.read(".gpupin/journal/261126-082513b.json");
    let text = text.replace(root.to_str().unwrap(), "/work/project");
    expect_file!["../../../../wire/journal.json"].assert_eq(&text);
}

/// What lies in the journal of a project.
fn kept(sandbox: &Sandbox) -> (usize, usize) {
    let directory = sandbox.path().join(".gpupin/journal");
    let count = |it: std::path::PathBuf| fs::read_dir(it).unwrap().count();
    (count(directory.clone()) - 1, count(directory.join("objects")))
}

#[test]
fn old_entries_go_with_the_bytes_that_only_they_need() {
    let sandbox = project();
    assert_eq!(kept(&sandbox), (2, 3));
    check(
        &sandbox,
        &["prune", "--keep", "1"],
        &expect![[r#"
        exit code: 0
        ----- stderr
        removed 1 entry and 0 copies of files, 0 bytes
    "#]],
    );
    // Both have the same bytes, so that the latest can still be taken back.
    assert_eq!(kept(&sandbox), (1, 3));
    assert_eq!(sandbox.gpupin(&["undo"]).code, 0);
    assert_eq!(sandbox.read("a.py"), "1\n");
    check(
        &sandbox,
        &["prune", "--keep", "0"],
        &expect![[r#"
        exit code: 0
        ----- stderr
        removed 1 entry and 3 copies of files, 6 bytes
    "#]],
    );
    assert_eq!(kept(&sandbox), (0, 0));
}

#[test]
fn entries_that_are_not_old_enough_stay() {
    let entry = ".gpupin/journal/261126-082513.json";
    let sandbox = project();
    let of_year = |year: &str| {
        sandbox.read(entry).replace("\"time\": \"2026", &format!("\"time\": \"{year}"))
    };
    let (old, future) = (of_year("2001"), of_year("2999"));
    let sandbox = sandbox.file(entry, future);
    let latest = ".gpupin/journal/261126-082513b.json";
    let text = sandbox.read(latest).replace("\"time\": \"2026", "\"time\": \"2999");
    let sandbox = sandbox.file(latest, text);
    sandbox.gpupin(&["journal", "prune", "--older-than", "30d"]);
    assert_eq!(kept(&sandbox).0, 2);
    let sandbox = sandbox.file(entry, old);
    sandbox.gpupin(&["journal", "prune", "--older-than", "30d", "--keep", "2"]);
    assert_eq!(kept(&sandbox).0, 2);
    sandbox.gpupin(&["journal", "prune", "--older-than", "30d"]);
    assert_eq!(kept(&sandbox).0, 1);
}

#[test]
fn what_an_unreadable_entry_may_need_stays() {
    let sandbox = project();
    let entry = ".gpupin/journal/261126-082513b.json";
    let text = sandbox.read(entry).replace("\"version\": 1", "\"version\": 99");
    let sandbox = sandbox.file(entry, text);
    check(
        &sandbox,
        &["prune", "--keep", "1"],
        &expect![[r#"
        exit code: 0
        ----- stderr
        removed 1 entry and 0 copies of files, 0 bytes
        warning: an entry cannot be read, so that no copy of a file was removed: it may need any
    "#]],
    );
    assert_eq!(kept(&sandbox), (1, 3));
}

#[test]
fn which_entries_go_must_be_said() {
    let outcome = project().gpupin(&["journal", "prune"]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.err.contains("--keep"), "{}", outcome.whole());
}
