use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::{PermissionsExt as _, chown, symlink},
        process::CommandExt as _,
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use expect_test::{Expect, expect};

use crate::{
    report::validate,
    sandbox::{Outcome, Sandbox},
};

const GPU: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";
const NOBODY: u32 = 65534;

pub(crate) fn project() -> Sandbox {
    let sandbox = Sandbox::new()
        .file("gpupin.toml", "gpu.name = \"RTX 3090\"\n")
        .file("state/.keep", "")
        .variable("PATH", std::env::var("PATH").unwrap());
    let state = sandbox.path().join("state");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    let state = state.to_str().unwrap().to_owned();
    sandbox.variable("GPUPIN_STATE_DIR", state)
}

fn lease(sandbox: &Sandbox, args: &[&str]) -> Command {
    let (verb, args) = args.split_first().unwrap();
    sandbox.command(&[&["lease", verb, "--machine", "mixed"], args].concat())
}

/// Holds the GPU until its standard input is closed.
pub(crate) fn holder(sandbox: &Sandbox) -> Child {
    let mut command = lease(sandbox, &["hold", "--", "sh", "-c", "echo held; read line; true"]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    child
}

fn outcome(command: &mut Command) -> crate::sandbox::Outcome {
    crate::sandbox::Outcome::of(command.stdin(Stdio::null()).output().unwrap())
}

/// What differs from run to run is replaced: numbers of processes, users, times and the directory.
#[track_caller]
fn check(sandbox: &Sandbox, args: &[&str], expected: &Expect) {
    let mut text = outcome(&mut lease(sandbox, args)).whole();
    text = text.replace(sandbox.path().join("state").to_str().unwrap(), "STATE");
    let user = rustix::process::geteuid().as_raw();
    text = text.replace(&format!("simulated-{user}"), "simulated-UID");
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("(pid ") {
        plain += before;
        plain += "(…";
        rest = &after[after.find(')').unwrap()..];
    }
    expected.assert_eq(&(plain + rest));
}

#[test]
fn a_program_holds_the_gpu_and_ends_with_its_own_code() {
    let sandbox = project();
    let hold = |args: &[&str]| outcome(&mut lease(&sandbox, &[&["hold", "--"], args].concat()));
    assert_eq!(hold(&["sh", "-c", "exit 7"]).code, 7);
    assert_eq!(hold(&["sh", "-c", "kill -9 $$"]).code, 137);
    assert_eq!(hold(&["./no-such-program"]).code, 127);
    let told = hold(&["sh", "-c", "echo $GPUPIN_LEASE"]).out;
    assert!(told.starts_with(&format!("2:{GPU}.1.1@")), "{told}");
}

#[test]
fn who_holds_is_listed_and_named_to_who_does_not_wait() {
    let sandbox = project();
    check(
        &sandbox,
        &["ls"],
        &expect![[r#"
            exit code: 0
            ----- stdout
            nobody holds or awaits a GPU
            ----- stderr
            simulated leases are kept in `STATE/simulated-UID`, apart from those on real GPUs
        "#]],
    );
    let mut holder = holder(&sandbox);
    check(
        &sandbox,
        &["ls"],
        &expect![[r#"
            exit code: 0
            ----- stdout
            RTX 3090  GPU-8932f937-d72c-4106-c12f-20bd9faed9f6  simulated
              held by `sh -c 'echo held; read line; true'` (…); not on the GPU now
            ----- stderr
            simulated leases are kept in `STATE/simulated-UID`, apart from those on real GPUs
        "#]],
    );
    check(
        &sandbox,
        &["hold", "--no-wait", "--", "true"],
        &expect![[r#"
            exit code: 75
            ----- stderr
            error: the RTX 3090 is not free now

            hint: waiting for the RTX 3090: 1st in line behind `sh -c 'echo held; read line; true'` (…)
            hint: `--timeout 10min` waits for its turn, `gpupin lease ls` shows who holds what
        "#]],
    );
    check(
        &sandbox,
        &["wait", "--timeout", "50ms"],
        &expect![[r#"
            exit code: 75
            ----- stderr
            waiting for the RTX 3090: 1st in line behind `sh -c 'echo held; read line; true'` (…)
            error: the RTX 3090 was not free in time

            hint: waiting for the RTX 3090: 1st in line behind `sh -c 'echo held; read line; true'` (…)
            hint: `--timeout` waits longer, `gpupin lease ls` shows who holds what
        "#]],
    );
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    check(
        &sandbox,
        &["wait", "--no-wait"],
        &expect![[r#"
        exit code: 0
    "#]],
    );
}

#[test]
fn a_holder_that_is_killed_leaves_the_gpu_to_its_program_and_then_to_the_next() {
    let sandbox = project();
    let mut holder = holder(&sandbox);
    let input = holder.stdin.take();
    holder.kill().unwrap();
    holder.wait().unwrap();
    // The program still reads from its standard input, and holds.
    let busy = outcome(&mut lease(&sandbox, &["hold", "--no-wait", "--", "true"]));
    assert_eq!(busy.code, 75, "{}", busy.whole());
    let list = outcome(&mut lease(&sandbox, &["ls"])).out;
    assert!(list.contains("its runner is gone, its program is not"), "{list}");
    drop(input);
    let next = outcome(&mut lease(&sandbox, &["hold", "--timeout", "1min", "--", "true"]));
    assert_eq!(next.code, 0, "{}", next.whole());
}

#[test]
fn a_lease_inside_a_lease_does_not_wait_for_itself() {
    let sandbox = project();
    let gpupin = env!("CARGO_BIN_EXE_gpupin");
    let script = format!(
        "{gpupin} lease hold --machine mixed --no-wait -- echo inside && \
         {gpupin} lease hold --machine mixed --no-wait --gpu GPU-5b -- echo beside"
    );
    let both = outcome(&mut lease(&sandbox, &["hold", "--", "sh", "-c", &script]));
    assert_eq!((both.code, both.out.as_str()), (0, "inside\nbeside\n"), "{}", both.whole());
}

#[test]
fn gpus_are_named_by_how_their_uuids_begin() {
    let sandbox = project();
    check(
        &sandbox,
        &["hold", "--gpu", "GPU-0", "--", "true"],
        &expect![[r#"
        exit code: 3
        ----- stderr
        error: no GPU is called `GPU-0`

        hint: GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01 is RTX 5060 Ti
        hint: GPU-8932f937-d72c-4106-c12f-20bd9faed9f6 is RTX 3090
    "#]],
    );
    check(
        &sandbox,
        &["hold", "--gpu", "GPU-", "--", "true"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: invalid value 'GPU-' for '--gpu <UUID>': expected the beginning of a UUID, such as `GPU-8932f937`

        For more information, try '--help'.
    "#]],
    );
    let both =
        ["hold", "--gpu", "GPU-5b", "--gpu", "GPU-89", "--", "sh", "-c", "echo $GPUPIN_LEASE"];
    assert_eq!(outcome(&mut lease(&sandbox, &both)).out.matches("GPU-").count(), 2);
}

#[test]
fn json_follows_its_schema() {
    let sandbox = project();
    let schema = include_str!("../../src/reference/leases.schema.json");
    let list = || outcome(&mut lease(&sandbox, &["ls", "--output-format", "json"]));
    validate(schema, &list().json());
    let mut holder = holder(&sandbox);
    let listed = list();
    assert!(listed.out.starts_with("{\n  \"version\": 1,"));
    validate(schema, &listed.json());
    let ticket = &listed.json()["gpus"][0]["holders"][0];
    assert_eq!(ticket["pid"], holder.id());
    assert_eq!(ticket["locked_by"]["pid"], holder.id());
    assert_eq!(listed.json()["kind"], "simulated");
    drop(holder.stdin.take());
    holder.wait().unwrap();
}

#[test]
fn a_directory_that_is_not_safe_is_refused() {
    let sandbox = project();
    let state = sandbox.path().join("state");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
    check(
        &sandbox,
        &["ls"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: failed to open `GPUPIN_STATE_DIR`
          cause: `STATE` is not safe to keep leases in: its mode is 777, so that anybody could remove what is in it
    "#]],
    );
}

#[test]
fn simulated_and_real_leases_are_not_in_each_others_way() {
    let sandbox = project();
    let mut simulated = holder(&sandbox);
    // A client of the real queue of the same UUID, which asks no machine.
    let state = sandbox.path().join("state");
    let real = ["debug", "lease-client", "--dir", state.to_str().unwrap(), "--gpu", GPU];
    let once = sandbox.gpupin(&[&real[..], &["--times", "1"]].concat());
    assert_eq!(once.code, 0, "{}", once.whole());
    let mut real = sandbox.command(&real);
    let mut real = real.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(real.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let listed = sandbox.gpupin(&["lease", "ls"]).out;
    let gpus: Vec<_> = listed.lines().filter(|it| it.contains(GPU)).collect();
    let name = "a GPU this machine does not show";
    let expected = [format!("{name}  {GPU}"), format!("{name}  {GPU}  simulated")];
    assert_eq!(gpus, expected, "{listed}");
    assert_eq!(listed.matches("held by").count(), 2, "{listed}");
    let json = sandbox.gpupin(&["lease", "ls", "--output-format", "json"]).json();
    validate(include_str!("../../src/reference/leases.schema.json"), &json);
    for child in [&mut simulated, &mut real] {
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_user_has_one_directory_whatever_the_environment_is() {
    let directory = |variables: &[(&'static str, &str)]| {
        let sandbox = variables.iter().fold(Sandbox::new(), |it, of| it.variable(of.0, of.1));
        let outcome = sandbox.gpupin(&["lease", "ls", "--output-format", "json"]);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        outcome.json()["directory"].clone()
    };
    // A login has all of these, `cron` none.
    let runtime = tempfile::tempdir().unwrap();
    let runtime = runtime.path().to_str().unwrap();
    let login = [("XDG_RUNTIME_DIR", runtime), ("TMPDIR", runtime), ("HOME", runtime)];
    assert_eq!(directory(&login), directory(&[]));
}

/// A directory of leases that root made for all, and `gpupin` where everybody may run it. `None` where this is not root.
fn shared() -> Option<(Sandbox, std::path::PathBuf)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let sandbox = Sandbox::new();
    fs::set_permissions(sandbox.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let gpupin = sandbox.path().join("gpupin");
    fs::copy(env!("CARGO_BIN_EXE_gpupin"), &gpupin).unwrap();
    Some((sandbox, gpupin))
}

fn as_user(uid: u32, gpupin: &Path, sandbox: &Sandbox, args: &[&str]) -> Command {
    let mut command = Command::new(gpupin);
    let state = sandbox.path().to_str().unwrap();
    let client = ["debug", "lease-client", "--dir", state, "--gpu", GPU];
    command.args([&client, args].concat()).uid(uid).gid(uid);
    command
}

#[test]
fn users_see_each_other_and_neither_removes_nor_is_stopped_by_what_is_left() {
    let Some((sandbox, gpupin)) = shared() else { return };
    // A ticket of root that nobody holds any more, as after a kill. It is not nobody's to remove.
    let dead = sandbox.path().join(format!("{GPU}.1.1"));
    fs::write(&dead, "").unwrap();
    let once = outcome(&mut as_user(NOBODY, &gpupin, &sandbox, &["--times", "1"]));
    assert_eq!(once.code, 0, "{}", once.whole());
    assert!(dead.exists());
    // Root removes what any user left.
    chown(&dead, Some(NOBODY), Some(NOBODY)).unwrap();
    let once = outcome(&mut as_user(0, &gpupin, &sandbox, &["--times", "1"]));
    assert_eq!(once.code, 0, "{}", once.whole());
    assert!(!dead.exists());

    let mut command = as_user(NOBODY, &gpupin, &sandbox, &[]);
    let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let listed = sandbox
        .command(&["lease", "ls", "--output-format", "json"])
        .env("GPUPIN_STATE_DIR", sandbox.path())
        .output()
        .unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let ticket = &listed["gpus"][0]["holders"][0];
    assert_eq!((&ticket["uid"], &ticket["locked_by"]["uid"]), (&NOBODY.into(), &NOBODY.into()));
    assert_eq!(listed["scope"], "machine");
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
}

#[test]
fn crafted_files_of_another_user_are_seen_through() {
    let Some((sandbox, gpupin)) = shared() else { return };
    let at = |name: &str| sandbox.path().join(name);
    let victim = at("victim");
    fs::write(&victim, "mine").unwrap();
    let theirs = |name: String, mode: u32| {
        fs::write(at(&name), "").unwrap();
        fs::set_permissions(at(&name), fs::Permissions::from_mode(mode)).unwrap();
        chown(at(&name), Some(NOBODY), Some(NOBODY)).unwrap();
    };
    theirs(format!("{GPU}.1.1"), 0o000);
    theirs(format!("{GPU}.2.1"), 0o4777);
    symlink(&victim, at(&format!("{GPU}.3.1"))).unwrap();
    std::os::unix::fs::lchown(at(&format!("{GPU}.3.1")), Some(NOBODY), None).unwrap();
    fs::create_dir(at(&format!("{GPU}.4.1"))).unwrap();
    for uid in [0, NOBODY] {
        let once = outcome(&mut as_user(uid, &gpupin, &sandbox, &["--times", "1"]));
        assert_eq!(once.code, 0, "{}", once.whole());
    }
    assert_eq!(fs::read(&victim).unwrap(), b"mine");

    fs::remove_file(at("queue.lock")).unwrap();
    symlink(&victim, at("queue.lock")).unwrap();
    for uid in [0, NOBODY] {
        let once = outcome(&mut as_user(uid, &gpupin, &sandbox, &["--times", "1"]));
        assert_eq!(once.code, 2, "{}", once.whole());
        assert!(once.err.contains("no regular file"), "{}", once.err);
    }
    assert_eq!(fs::read(&victim).unwrap(), b"mine");
}

/// Runs a script in namespaces of its own, where `G` is gpupin, `GPU` a GPU and `D` an empty directory. `None` where the kernel allows
/// none, which is said.
fn in_namespace(sandbox: &Sandbox, namespaces: &[&str], script: &str) -> Option<Outcome> {
    let is_allowed = Command::new("unshare").args(namespaces).arg("true").status();
    if !is_allowed.is_ok_and(|it| it.success()) {
        // Past the test harness, which keeps what is printed to itself.
        let mut err = std::io::stderr();
        writeln!(err, "SKIPPED: this kernel allows no namespaces: {namespaces:?}").unwrap();
        return None;
    }
    let directory = sandbox.path().join("mounted");
    fs::create_dir_all(&directory).unwrap();
    let mut command = Command::new("unshare");
    command.args(namespaces).args(["sh", "-ec", script]).current_dir(sandbox.path());
    command.env("G", env!("CARGO_BIN_EXE_gpupin")).env("GPU", GPU).env("D", directory);
    command.env("GPUPIN_NVML_LIBRARY", "/nonexistent/gpupin");
    Some(outcome(&mut command))
}

#[test]
fn a_read_only_directory_of_leases_is_refused_and_can_be_looked_at() {
    let script = "mount -t tmpfs -o mode=700,ro none $D; export GPUPIN_STATE_DIR=$D\n\
        $G debug lease-client --dir $D --gpu $GPU --times 1 || echo code-$?\n\
        $G lease ls";
    let Some(outcome) = in_namespace(&project(), &["-rm"], script) else { return };
    assert_eq!(outcome.out, "code-2\nnobody holds or awaits a GPU\n", "{outcome:?}");
    assert!(outcome.err.contains("it is read-only"), "{outcome:?}");
}

#[test]
fn a_full_disk_gives_no_lease_and_leaves_no_ticket() {
    // One page for the content of files, which is taken.
    let script = "mount -t tmpfs -o mode=700,size=4k none $D; export GPUPIN_STATE_DIR=$D\n\
        head -c 4096 /dev/zero > $D/full\n\
        $G debug lease-client --dir $D --gpu $GPU --times 1 || echo code-$?\n\
        ls $D; rm $D/full; $G debug lease-client --dir $D --gpu $GPU --times 1 >/dev/null && echo had";
    let Some(outcome) = in_namespace(&project(), &["-rm"], script) else { return };
    assert_eq!(outcome.out, "code-2\nfull\nqueue.lock\nhad\n", "{outcome:?}");
    assert!(outcome.err.contains("No space left on device"), "{outcome:?}");
}

#[test]
fn a_holder_in_another_pid_namespace_is_live_and_what_is_not_known_of_it_is_null() {
    let sandbox = project();
    let state = sandbox.path().join("state");
    let real = ["debug", "lease-client", "--dir", state.to_str().unwrap(), "--gpu", GPU];
    let mut real = sandbox.command(&real);
    let mut real = real.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(real.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let script = format!(
        "export GPUPIN_STATE_DIR={}; $G lease ls --output-format json; $G lease ls >&2",
        state.display()
    );
    let listed = in_namespace(&sandbox, &["-rpf", "--mount-proc"], &script);
    drop(real.stdin.take());
    assert!(real.wait().unwrap().success());
    let Some(outcome) = listed else { return };
    let json = outcome.json();
    validate(include_str!("../../src/reference/leases.schema.json"), &json);
    let holder = &json["gpus"][0]["holders"][0];
    for unknown in ["locked_by", "on_gpu_now"] {
        assert_eq!(holder[unknown], serde_json::Value::Null, "{outcome:?}");
    }
    assert!(outcome.err.contains("held by "), "{outcome:?}");
    for claim in ["is gone", "not on the GPU"] {
        assert!(!outcome.err.contains(claim), "{outcome:?}");
    }
}
