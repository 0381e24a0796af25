//! How files are replaced, through `gpupin debug write`.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::sandbox::{Outcome, Sandbox};

pub(crate) fn write(sandbox: &Sandbox, changes: &Value) -> Outcome {
    let time = ["--time", "1795681513"];
    sandbox.gpupin_given(&changes.to_string(), &[&["debug", "write"][..], &time].concat())
}

pub(crate) fn change(path: &str, old: &str, new: &str) -> Value {
    json!({ "path": path, "old": old, "new": new })
}

/// The entries and the bytes that the journal keeps, and what else there is.
fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn a_link_stays_and_what_it_leads_to_is_replaced() {
    let sandbox = Sandbox::new().file("real/a.py", "1\n");
    symlink("real/a.py", sandbox.path().join("b.py")).unwrap();
    symlink("b.py", sandbox.path().join("c.py")).unwrap();
    let outcome = write(&sandbox, &json!([change("c.py", "1\n", "2\n")]));
    assert_eq!(outcome.json()["files"], json!(["c.py"]));
    assert_eq!(sandbox.read("real/a.py"), "2\n");
    assert_eq!(fs::read_link(sandbox.path().join("c.py")).unwrap(), Path::new("b.py"));
    assert_eq!(names(&sandbox.path().join("real")), ["a.py"]);
}

#[test]
fn a_file_keeps_what_it_has_beside_its_bytes() {
    let sandbox = Sandbox::new().file("a.sh", "1\n");
    let path = sandbox.path().join("a.sh");
    if is_root() {
        std::os::unix::fs::chown(&path, Some(65534), Some(65533)).unwrap();
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o2751)).unwrap();
    let has_attributes = xattr::set(&path, "user.note", b"mine").is_ok();
    let before = fs::metadata(&path).unwrap();
    assert_eq!(write(&sandbox, &json!([change("a.sh", "1\n", "2\n")])).code, 0);
    let after = fs::metadata(&path).unwrap();
    assert_ne!(before.ino(), after.ino(), "it is replaced, not written to");
    let kept = |it: &fs::Metadata| (it.mode(), it.uid(), it.gid());
    assert_eq!(kept(&before), kept(&after));
    if has_attributes {
        assert_eq!(xattr::get(&path, "user.note").unwrap().unwrap(), b"mine");
    }
}

/// Tries to change `bad.py` together with another file.
#[track_caller]
fn check_problem(sandbox: &Sandbox, old: Option<&str>, expected: &str) {
    fs::write(sandbox.path().join("good.py"), "1\n").unwrap();
    let bad = match old {
        Some(old) => change("bad.py", old, "2\n"),
        None => json!({ "path": "bad.py", "new": "2\n" }),
    };
    let before = fs::read(sandbox.path().join("bad.py")).ok();
    let outcome = write(sandbox, &json!([bad, change("good.py", "1\n", "2\n")]));
    let json = outcome.json();
    assert_eq!((outcome.code, &json["files"]), (2, &json!(["good.py"])), "{}", outcome.whole());
    assert_eq!(json["problems"].as_array().unwrap().len(), 1);
    assert!(json["problems"][0][0].as_str().unwrap().ends_with("/bad.py"));
    let message = json["problems"][0][1].as_str().unwrap();
    assert!(message.contains(expected), "{message}");
    assert_eq!(fs::read(sandbox.path().join("bad.py")).ok(), before);
    assert_eq!(sandbox.read("good.py"), "2\n");
    // What was never changed is none of the journal's business.
    fs::write(sandbox.path().join("bad.py"), "3\n").ok();
    assert_eq!(sandbox.gpupin(&["undo"]).code, 0);
    assert_eq!(sandbox.read("good.py"), "1\n");
}

#[test]
fn a_file_that_cannot_be_changed_is_a_problem_and_the_others_go_on() {
    let bad = || Sandbox::new().file("bad.py", "1\n");
    check_problem(&bad(), Some("0\n"), "somebody else changed it");
    check_problem(&bad(), None, "somebody else changed it");
    check_problem(&Sandbox::new(), Some("1\n"), "no such file any more");

    let linked = bad();
    fs::hard_link(linked.path().join("bad.py"), linked.path().join("other.py")).unwrap();
    check_problem(&linked, Some("1\n"), "2 names");

    let read_only = bad();
    let permissions = fs::Permissions::from_mode(0o444);
    fs::set_permissions(read_only.path().join("bad.py"), permissions).unwrap();
    check_problem(&read_only, Some("1\n"), "read-only");

    let same = Sandbox::new();
    symlink("good.py", same.path().join("bad.py")).unwrap();
    fs::write(same.path().join("good.py"), "1\n").unwrap();
    let changes = json!([change("good.py", "1\n", "2\n"), change("bad.py", "1\n", "3\n")]);
    let json = write(&same, &changes).json();
    assert_eq!(json["problems"][0][1], "it is the same file as `good.py`");
    assert_eq!(same.read("good.py"), "2\n");
}

#[test]
fn nothing_to_change_is_no_entry() {
    let sandbox = Sandbox::new().file("a.py", "1\n");
    for changes in
        [json!([]), json!([change("a.py", "1\n", "1\n")]), json!([change("a.py", "0\n", "2\n")])]
    {
        assert_eq!(write(&sandbox, &changes).json()["id"], Value::Null);
    }
    assert_eq!(names(&sandbox.path().join(".gpupin")), [".gitignore", "lock"]);
}

#[test]
fn what_gpupin_keeps_is_seen_by_nobody_else() {
    let sandbox = Sandbox::new().file("a.env", "SECRET=1\n");
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(sandbox.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    git(&["init", "--quiet"]);
    assert_eq!(write(&sandbox, &json!([change("a.env", "SECRET=1\n", "SECRET=2\n")])).code, 0);
    assert_eq!(git(&["status", "--porcelain", "--untracked-files=all"]), "?? a.env\n");
    let journal = sandbox.path().join(".gpupin/journal");
    let mode = |it: &Path| fs::metadata(it).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&journal), 0o700);
    for name in names(&journal.join("objects")) {
        assert_eq!(mode(&journal.join("objects").join(name)), 0o600);
    }
}

#[test]
fn a_temporary_file_is_never_scanned() {
    let text = "import torch\ntorch.zeros(1).to(\"cuda:1\")\n";
    let sandbox = Sandbox::new().file(".gpupin-261126-082513-0.tmp", text);
    let count = |sandbox: &Sandbox| {
        sandbox.gpupin(&["scan", "--output-format", "json"]).json()["summary"]["files"].clone()
    };
    assert_eq!(count(&sandbox), 0);
    assert_eq!(count(&sandbox.file("a.py", text)), 1);
}

#[test]
fn a_state_directory_that_leads_elsewhere_is_refused() {
    let sandbox = Sandbox::new().file("elsewhere/x", "").file("a.py", "1\n");
    symlink("elsewhere", sandbox.path().join(".gpupin")).unwrap();
    let outcome = write(&sandbox, &json!([change("a.py", "1\n", "2\n")]));
    assert_eq!((outcome.code, sandbox.read("a.py").as_str()), (2, "1\n"), "{}", outcome.whole());
    assert_eq!(names(&sandbox.path().join("elsewhere")), ["x"]);

    let sandbox = Sandbox::new().file("mine", "keep\n").file(".gpupin/x", "").file("a.py", "1\n");
    symlink("../mine", sandbox.path().join(".gpupin/lock")).unwrap();
    let outcome = write(&sandbox, &json!([change("a.py", "1\n", "2\n")]));
    assert_eq!((outcome.code, sandbox.read("mine").as_str()), (2, "keep\n"), "{}", outcome.whole());
}

/// A full disk, and a quota: `write` fails in the middle.
#[test]
fn a_disk_that_takes_no_more_changes_nothing() {
    let large = "#".repeat(4096) + "\n";
    let sandbox = Sandbox::new().file("a.py", &large).file("b.py", "1\n");
    let changes =
        json!([change("b.py", "1\n", "2\n"), change("a.py", &large, &(large.clone() + "2\n"))]);
    // What is written beyond one or two blocks is an error, and not a signal.
    let shell =
        format!("trap '' XFSZ; ulimit -f 1; exec {} debug write", env!("CARGO_BIN_EXE_gpupin"));
    let mut command = Command::new("sh");
    command.current_dir(sandbox.path()).args(["-c", &shell]);
    let outcome = Outcome::given(&changes.to_string(), &mut command);
    assert_eq!(outcome.code, 2, "{}", outcome.whole());
    assert!(outcome.err.contains("failed to write the journal, so no file was changed"));
    assert_eq!((sandbox.read("a.py"), sandbox.read("b.py").as_str()), (large, "1\n"));
    assert_eq!(names(sandbox.path()), [".gpupin", "a.py", "b.py"]);
    let objects = names(&sandbox.path().join(".gpupin/journal/objects"));
    assert!(objects.iter().all(|it| it.len() == 64), "{objects:?}");
    assert_eq!(write(&sandbox, &changes).code, 0);
}

#[test]
fn a_directory_that_cannot_be_written_is_a_problem_of_its_files() {
    let sandbox = Sandbox::new().file("closed/a.py", "1\n").file("b.py", "1\n");
    let path = |name: &str| sandbox.path().join(name);
    let mut command = sandbox.command(&["debug", "write"]);
    if is_root() {
        // Nothing is closed to root. The program comes along: where it was built may be closed to others.
        let program = path("gpupin");
        if fs::hard_link(env!("CARGO_BIN_EXE_gpupin"), &program).is_err() {
            fs::copy(env!("CARGO_BIN_EXE_gpupin"), &program).unwrap();
        }
        for name in ["", "closed", "closed/a.py", "b.py"] {
            std::os::unix::fs::chown(path(name), Some(65534), Some(65534)).unwrap();
        }
        command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(program).args(["debug", "write"]).current_dir(sandbox.path());
        if Command::new("setpriv").arg("--version").output().is_err() {
            eprintln!("skipped: running as root, and there is no `setpriv`");
            return;
        }
    }
    fs::set_permissions(path("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    let changes = json!([change("closed/a.py", "1\n", "2\n"), change("b.py", "1\n", "2\n")]);
    let outcome = Outcome::given(&changes.to_string(), &mut command);
    fs::set_permissions(path("closed"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(outcome.code, 2, "{}", outcome.whole());
    let message = outcome.json()["problems"][0][1].as_str().unwrap().to_owned();
    assert!(message.contains("directory cannot be written"), "{message}");
    assert_eq!((sandbox.read("closed/a.py"), sandbox.read("b.py")), ("1\n".into(), "2\n".into()));
}

/// A `gpupin debug write` that holds the lock, or waits for it, until its input ends.
fn start(sandbox: &Sandbox) -> Child {
    let mut command = sandbox.command(&["debug", "write"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn finish(mut child: Child, changes: &Value) -> Outcome {
    child.stdin.take().unwrap().write_all(changes.to_string().as_bytes()).unwrap();
    Outcome::of(child.wait_with_output().unwrap())
}

#[test]
fn who_changes_the_same_tree_waits_and_says_for_whom() {
    let sandbox = Sandbox::new().file("a.py", "1\n");
    let first = start(&sandbox);
    let mine = format!("{} gpupin debug write\n", first.id());
    let lock = sandbox.path().join(".gpupin/lock");
    while fs::read_to_string(&lock).unwrap_or_default() != mine {
        std::thread::yield_now();
    }

    let mut second = start(&sandbox);
    let mut told = BufReader::new(second.stderr.take().unwrap());
    let mut line = String::new();
    told.read_line(&mut line).unwrap();
    let expected = format!("waiting for `gpupin debug write` (process {})", first.id());
    assert!(line.starts_with(&expected), "{line}");

    // What the second one wants holds only after the first.
    assert_eq!(finish(first, &json!([change("a.py", "1\n", "2\n")])).code, 0);
    let outcome = finish(second, &json!([change("a.py", "2\n", "3\n")]));
    let mut rest = String::new();
    told.read_to_string(&mut rest).unwrap();
    assert_eq!(outcome.code, 0, "{}{rest}", outcome.whole());
    assert_eq!(sandbox.read("a.py"), "3\n");
    assert_eq!(
        names(&sandbox.path().join(".gpupin/journal")).len(),
        3,
        "two entries, and `objects`"
    );
    assert_eq!(fs::read_to_string(lock).unwrap(), "");
}

#[test]
fn a_lock_whose_holder_was_killed_is_free() {
    let sandbox = Sandbox::new().file("a.py", "1\n");
    let mut first = start(&sandbox);
    let lock = sandbox.path().join(".gpupin/lock");
    while fs::read_to_string(&lock).unwrap_or_default().is_empty() {
        std::thread::yield_now();
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let outcome = write(&sandbox, &json!([change("a.py", "1\n", "2\n")]));
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
}
