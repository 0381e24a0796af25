//! The process dies before each of its changes of the file system in turn.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::sandbox::{Outcome, Sandbox};

/// Path, permissions, bytes before and after. What is not there before is created.
const FILES: &[(&str, u32, Option<&str>, &str)] = &[
    (
        "run.sh",
        0o755,
        Some("#!/bin/sh\r\npython a.py\r\n"),
        "#!/bin/sh\r\nexport A=1\r\npython a.py\r\n",
    ),
    ("a/secret.env", 0o600, Some("A=0"), "A=1"),
    ("a/created.py", 0o644, None, "import os\n"),
    // A link leads to it.
    ("behind.py", 0o640, Some("x = 1\n"), "x = 2\n"),
];

fn project() -> Sandbox {
    let mut sandbox = Sandbox::in_memory();
    for (name, mode, old, _) in FILES {
        if let Some(old) = old {
            sandbox = sandbox.file(name, old);
            let permissions = fs::Permissions::from_mode(*mode);
            fs::set_permissions(sandbox.path().join(name), permissions).unwrap();
        }
    }
    symlink("../behind.py", sandbox.path().join("a/link.py")).unwrap();
    sandbox
}

/// The changes of those files that are still as before.
fn changes(sandbox: &Sandbox) -> String {
    let change = |(name, _, old, new): &(&str, u32, Option<&str>, &str)| {
        let there = fs::read_to_string(sandbox.path().join(name)).ok();
        let path = if *name == "behind.py" { "a/link.py" } else { name };
        (there.as_deref() == *old).then(|| json!({ "path": path, "old": old, "new": new }))
    };
    Value::from(FILES.iter().filter_map(change).collect::<Vec<_>>()).to_string()
}

fn write(sandbox: &Sandbox) -> Outcome {
    sandbox.gpupin_given(&changes(sandbox), &["debug", "write"])
}

fn dying(sandbox: &Sandbox, step: usize, args: &[&str]) -> Outcome {
    let mut command = sandbox.command(args);
    Outcome::given(&changes(sandbox), command.env("GPUPIN_FAIL_AT", step.to_string()))
}

/// How many files are changed. Each is old or new, with the permissions it had.
#[track_caller]
fn changed(sandbox: &Sandbox) -> usize {
    let mut count = 0;
    for (name, mode, old, new) in FILES {
        let path = sandbox.path().join(name);
        let there = fs::read_to_string(&path).ok();
        if there.as_deref() == Some(new) {
            count += 1;
        } else {
            assert_eq!(there.as_deref(), *old, "{name} is neither old nor new");
        }
        if there.is_some() && old.is_some() {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, *mode, "{name}");
        }
    }
    assert!(sandbox.path().join("a/link.py").is_symlink());
    count
}

/// Every file, but for the journal's own.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() || !path.is_dir() {
            found.push(path);
        } else if !path.ends_with("objects") {
            found.extend(files(&path));
        }
    }
    found.sort();
    found
}

#[track_caller]
fn assert_no_leftovers(sandbox: &Sandbox) {
    let is_left = |it: &PathBuf| it.extension().is_some_and(|it| it == "tmp");
    let mut left = files(sandbox.path());
    left.extend(files(&sandbox.path().join(".gpupin/journal/objects")));
    left.retain(is_left);
    assert!(left.is_empty(), "{left:?}");
}

/// Calls `check` with a project in which writing died before each step.
fn at_every_step(check: impl Fn(&Sandbox)) {
    for step in 0.. {
        let sandbox = project();
        let outcome = dying(&sandbox, step, &["debug", "write"]);
        if outcome.code == 0 {
            assert_eq!(changed(&sandbox), FILES.len());
            assert!(step > 40, "only {step} steps could fail");
            return;
        }
        assert_eq!(outcome.code, -1, "step {step}: {}", outcome.whole());
        changed(&sandbox);
        check(&sandbox);
    }
}

#[test]
fn what_a_crash_left_can_be_undone() {
    at_every_step(|sandbox| {
        let is_changed = changed(sandbox) > 0;
        let outcome = sandbox.gpupin(&["undo"]);
        // Before there is an entry, there is nothing to undo.
        assert!(outcome.code == 0 || !is_changed && outcome.code == 2, "{}", outcome.whole());
        assert_eq!(changed(sandbox), 0);
        let outcome = write(sandbox);
        assert_eq!((outcome.code, changed(sandbox)), (0, FILES.len()), "{}", outcome.whole());
        assert_no_leftovers(sandbox);
    });
}

#[test]
fn the_next_run_completes_what_a_crash_left() {
    at_every_step(|sandbox| {
        let is_whole = changed(sandbox) == FILES.len();
        let outcome = write(sandbox);
        assert_eq!((outcome.code, changed(sandbox)), (0, FILES.len()), "{}", outcome.whole());
        assert_no_leftovers(sandbox);
        let mut undone = 0;
        while sandbox.gpupin(&["undo"]).code == 0 {
            undone += 1;
        }
        assert_eq!(changed(sandbox), 0);
        assert!(undone == 1 || undone == 2 && !is_whole, "{undone} entries");
    });
}

#[test]
fn an_undo_that_crashed_is_completed_by_the_next() {
    for step in 0.. {
        let sandbox = project();
        assert_eq!(write(&sandbox).code, 0);
        let outcome = dying(&sandbox, step, &["debug", "undo"]);
        changed(&sandbox);
        if outcome.code == 0 {
            assert!(step > 15, "only {step} steps could fail");
            assert_eq!(changed(&sandbox), 0);
            return;
        }
        assert_eq!(outcome.code, -1, "step {step}: {}", outcome.whole());
        // It may have died when the entry was marked, but before the lock was free.
        let outcome = sandbox.gpupin(&["undo"]);
        assert!(
            outcome.code == 0 || outcome.err.contains("nothing to undo"),
            "{}",
            outcome.whole()
        );
        assert_eq!(changed(&sandbox), 0);
        assert_no_leftovers(&sandbox);
        assert!(!sandbox.path().join("a/created.py").exists());
    }
}

#[test]
fn the_journal_is_on_the_disk_before_a_file_is_replaced() {
    let sandbox = project();
    let outcome = sandbox.gpupin_given(&changes(&sandbox), &["debug", "write", "--trace"]);
    let root = fs::canonicalize(sandbox.path()).unwrap().to_str().unwrap().to_owned();
    let below = |it: &str| it.replace(&format!("{root}/"), "").replace(&root, ".");
    let steps: Vec<String> = outcome.err.lines().map(below).collect();
    let first = |step: &str| {
        let found = steps.iter().position(|it| it.starts_with(step));
        found.unwrap_or_else(|| panic!("no `{step}` in {steps:#?}"))
    };
    let of_project = |it: &String| it.starts_with("rename ") && !it.contains(".gpupin/");
    let replaced = steps.iter().position(of_project).unwrap();
    // Directories are synced after the last name in them is made.
    let synced = |directory: &str| {
        let step = format!("sync {directory}");
        steps[..replaced].iter().rposition(|it| *it == step).unwrap()
    };
    let objects =
        steps[..replaced].iter().rposition(|it| it.contains("rename .gpupin/journal/objects/"));
    let entry = first("rename .gpupin/journal/2");
    assert!(objects.unwrap() < synced(".gpupin/journal/objects"), "{steps:#?}");
    assert!(synced(".gpupin/journal/objects") < entry && entry < synced(".gpupin/journal"));
    // Each file by itself: its bytes, then its name.
    for name in ["run.sh", "a/secret.env", "a/created.py", "behind.py"] {
        let renamed = first(&format!("rename {name}"));
        let directory = name.split_once('/').map_or(".", |it| it.0);
        let synced = steps[renamed - 1].strip_suffix(".tmp").unwrap_or_default();
        assert!(synced.starts_with("sync "), "{steps:#?}");
        assert_eq!(steps[renamed + 1], format!("sync {directory}"));
    }
}
