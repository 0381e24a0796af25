//! `gpupin run`: the program's life, the lease's, and what is written down about both.

use std::{
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    time::Duration,
};

use expect_test::{Expect, expect};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::sandbox::{Outcome, Sandbox};

mod faults;
mod isolate;
pub(crate) mod terminal;
mod unwritten;

pub(crate) const PINNED: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";
pub(crate) const OTHER: &str = "GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01";

const POLICY: &str =
    "gpu.name = \"RTX 3090\"\nforbid = [{ name = \"RTX 5060 Ti\" }]\nenv.A = \"it's b\"\n";

/// Uses a GPU for some seconds, as the simulated libraries note it.
const USE: &str = r#"s=$(cut -d' ' -f22 /proc/$$/stat)
printf 'version = 1\n[[use]]\ngpu = "%s"\nkind = "compute"\nmemory = 1048576\npeak = 1048576\nutilization = 0\nsince = 1\naccounted = false\n' "$1" > "state/processes/.$$"
mv "state/processes/.$$" "state/processes/$$-$s"
sleep $2
"#;

/// A project with a machine on which things happen.
pub(crate) fn project() -> Sandbox {
    let sandbox = Sandbox::new()
        .file("gpupin.toml", POLICY)
        .file("state/scene.toml", include_str!("../../../../scenes/mixed.toml"))
        .file("state/processes/.keep", "")
        .file("leases/.keep", "")
        .file("use.sh", USE)
        .variable("PATH", std::env::var("PATH").unwrap());
    let leases = sandbox.path().join("leases").display().to_string();
    std::fs::remove_file(sandbox.path().join("leases/.keep")).unwrap();
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(sandbox.path().join("leases"), mode).unwrap();
    sandbox.variable("GPUPIN_STATE_DIR", leases)
}

pub(crate) fn run(sandbox: &Sandbox, args: &[&str]) -> Outcome {
    sandbox.gpupin(&[&["run", "--machine", "state"], args].concat())
}

/// Where the leases of a project on a simulated machine lie.
fn simulated_leases(sandbox: &Sandbox) -> std::path::PathBuf {
    let user = rustix::process::geteuid().as_raw();
    sandbox.path().join(format!("leases/simulated-{user}"))
}

/// The last evidence, as it lies on disk.
pub(crate) fn evidence(sandbox: &Sandbox) -> serde_json::Value {
    let shown = sandbox.gpupin(&["evidence", "show", "--output-format", "json"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    shown.json()
}

#[track_caller]
fn check(args: &[&str], expected: &Expect) {
    expected.assert_eq(&run(&project(), args).whole());
}

#[test]
fn the_program_gets_the_pin_and_keeps_its_streams() {
    let script = "read line; echo \"$line $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER $A\"; exit 7";
    let sandbox = project();
    let args = ["run", "--machine", "state", "-q", "--no-observe", "--", "sh", "-c", script];
    let outcome = sandbox.gpupin_given("hello\n", &args);
    assert_eq!(outcome.out, format!("hello {PINNED} PCI_BUS_ID it's b\n"));
    assert_eq!((outcome.code, outcome.err.as_str()), (7, ""));
}

#[test]
fn a_flag_that_does_not_exist_is_no_program() {
    check(
        &["--no-obsrve", "--", "true"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: unexpected argument '--no-obsrve' found

          tip: a similar argument exists: '--no-observe'
          tip: to pass '--no-obsrve' as a value, use '-- --no-obsrve'

        Usage: gpupin run --machine <SCENE> --no-observe <PROGRAM>...

        For more information, try '--help'.
    "#]],
    );
    let outcome = run(&project(), &["-q", "--no-observe", "sh", "-c", "echo $0", "--no-obsrve"]);
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("--no-obsrve\n", ""));
}

#[test]
fn exit_codes_are_those_a_shell_would_give() {
    let sandbox = project();
    for (script, code) in
        [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
    {
        let outcome = run(&sandbox, &["--no-observe", "--", "sh", "-c", script]);
        assert_eq!(outcome.code, code, "{script}: {outcome:?}");
    }
    for (program, code) in [("no-such-program", 127), ("./use.sh", 126)] {
        assert_eq!(run(&sandbox, &["--", program]).code, code);
        assert_eq!(evidence(&sandbox)["reasons"][0]["code"], "not-started");
    }
}

#[test]
fn the_policy_must_fit_the_machine() {
    check(
        &["--no-policy", "--", "true"],
        &expect![[r#"
            exit code: 2
            ----- stderr
            error: there is no policy that declares a GPU

            hint: write one with `gpupin init --name "RTX 3090"`, or name it with `--policy` or `GPUPIN_POLICY`
        "#]],
    );
    let sandbox = project().file("gpupin.toml", "gpu.name = 'H100'\n");
    let outcome = run(&sandbox, &["--", "true"]);
    expect![[r#"
        exit code: 3
        ----- stderr
        error: no GPU of `workstation` is the policy's H100: no GPU matches

        hint: RTX 5060 Ti (GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01): its name is `RTX 5060 Ti`, not `H100`
        hint: RTX 3090 (GPU-8932f937-d72c-4106-c12f-20bd9faed9f6): its name is `RTX 3090`, not `H100`
    "#]]
    .assert_eq(&outcome.whole());
    let cpu = project().file("gpupin.toml", "gpu.name = 'H100'\nrun.on-missing = 'cpu'\n");
    let outcome = run(&cpu, &["--", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "-1\n"), "{outcome:?}");
    assert!(outcome.err.contains("running without any GPU"), "{outcome:?}");
    assert_eq!(evidence(&cpu)["verdict"], "unproved");
}

#[test]
fn who_runs_without_a_gpu_may_use_none() {
    let sandbox = project().file("gpupin.toml", "gpu.name = 'H100'\nrun.on-missing = 'cpu'\n");
    let script = format!("sh use.sh {PINNED} 97532; echo not reached");
    let outcome = run(&sandbox, &["--", "sh", "-c", &script]);
    assert_eq!((outcome.code, outcome.out.as_str()), (76, ""), "{outcome:?}");
    assert!(outcome.err.contains("uses RTX 3090, which is not its GPU"), "{outcome:?}");
    assert_eq!(evidence(&sandbox)["verdict"], "violated");
}

#[test]
fn a_lost_gpu_is_named_where_no_other_matches() {
    let sandbox = project().file("gpupin.toml", "gpu.name = 'RTX 5060 Ti'\n");
    for args in [&["run", "--machine", "lost", "--", "true"][..], &["env", "--machine", "lost"]] {
        let outcome = sandbox.gpupin(args);
        assert_eq!(outcome.code, 3, "{outcome:?}");
        assert!(outcome.err.contains("index 0: the GPU is lost"), "{outcome:?}");
    }
}

#[test]
fn without_evidence_a_simulated_machine_is_told_at_the_start() {
    let told = |args: &[&str]| run(&project(), args).err.contains("the machine is simulated");
    assert!(told(&["--no-observe", "--", "true"]));
    assert!(!told(&["--", "true"]), "the verdict says it");
}

#[test]
fn a_role_has_its_own_gpu() {
    let sandbox =
        project().file("gpupin.toml", format!("{POLICY}roles.tts.name = 'RTX 5060 Ti'\n"));
    let script =
        ["-q", "--no-observe", "--role", "tts", "--", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES"];
    assert_eq!(run(&sandbox, &script).out, format!("{OTHER}\n"));
    let exempt = |args: &[&str]| run(&sandbox, args).err.contains("the role `tts` is exempt");
    assert!(exempt(&["--role", "tts", "--", "true"]), "the policy forbids it to the rest");
    assert!(!exempt(&["--", "true"]));
    let misspelt = run(&sandbox, &["--role", "stt", "--", "true"]);
    assert!(misspelt.err.contains("the policy has the roles `tts`"), "{misspelt:?}");
}

#[test]
fn a_mask_of_a_launcher_is_no_matter_if_it_agrees() {
    let outcome = |mask: &str, policy: &str| {
        let sandbox = project().file("gpupin.toml", policy).variable("CUDA_VISIBLE_DEVICES", mask);
        run(&sandbox, &["-q", "--no-observe", "--", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES"])
    };
    assert_eq!(outcome(PINNED, POLICY).out, format!("{PINNED}\n"));
    assert_eq!(outcome("1", POLICY).code, 2);
    let keep = format!("{POLICY}run.on-outside-pin = 'keep'\n");
    assert_eq!(outcome("1", &keep).out, "1\n");

    let kept = project().file("gpupin.toml", keep).variable("CUDA_VISIBLE_DEVICES", "1,0");
    let outcome = run(&kept, &["--", "true"]);
    assert!(outcome.err.contains("the mask from outside stays (`1,0`), leased"), "{outcome:?}");
    assert!(!outcome.err.contains("pinned by"), "{outcome:?}");
    let pin = &evidence(&kept)["pin"];
    assert_eq!(pin["kept"], "1,0", "{pin}");
    assert_eq!(pin["variables"], serde_json::json!([["A", "it's b"]]), "{pin}");
}

#[test]
fn samples_alone_leave_it_unproved() {
    let sandbox = project();
    let outcome = run(&sandbox, &["--", "sh", "use.sh", PINNED, "0.4"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.err.contains("unproved (simulated): only samples tell"), "{outcome:?}");
    let evidence = evidence(&sandbox);
    assert_eq!(evidence["kind"], "simulated");
    assert_eq!(evidence["reasons"].as_array().unwrap().len(), 1, "{evidence}");
    assert_eq!(evidence["processes"][0]["gpu"], PINNED);
    assert_eq!(sandbox.gpupin(&["evidence", "check"]).code, 0);
}

#[test]
fn who_uses_a_forbidden_gpu_is_ended_with_all_it_started() {
    let sandbox = project();
    let script = format!("(setsid sleep 97531 &); sh use.sh {OTHER} 97531; echo not reached");
    let outcome = run(&sandbox, &["--", "sh", "-c", &script]);
    assert_eq!((outcome.code, outcome.out.as_str()), (76, ""), "{outcome:?}");
    assert!(
        outcome.err.contains(
            "uses RTX 5060 Ti, which the policy forbids; ending the program; it has 10 s"
        )
    );
    assert_eq!(evidence(&sandbox)["verdict"], "violated");
    let sleeping = Command::new("pgrep").args(["-f", "sleep 97531"]).output();
    assert!(sleeping.is_ok_and(|it| it.stdout.is_empty()));
}

#[test]
fn a_child_that_rewrites_the_mask_is_seen_and_may_be_let_go_on() {
    let sandbox = project();
    let script = format!("sh use.sh {OTHER} 0.3; exit 4");
    let outcome = run(&sandbox, &["--on-violation", "warn", "--", "sh", "-c", &script]);
    assert_eq!(outcome.code, 76, "{outcome:?}");
    let evidence = evidence(&sandbox);
    assert_eq!((&evidence["verdict"], &evidence["exit"]["code"]), (&"violated".into(), &4.into()));
}

#[test]
fn daemons_are_waited_for_and_the_gpu_stays_held() {
    let sandbox = project();
    let script = format!("(setsid sh use.sh {PINNED} 5 >/dev/null 2>&1 &); exit 5");
    let mut first = sandbox.command(&["run", "--machine", "state", "--", "sh", "-c", &script]);
    let first =
        first.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // Once the program has ended there is a GPU that is held by what it left.
    while !sandbox
        .path()
        .join("state/processes")
        .read_dir()
        .unwrap()
        .any(|it| it.unwrap().file_name().to_string_lossy().contains('-'))
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    let refused = run(&sandbox, &["--no-wait", "--", "true"]);
    assert_eq!(refused.code, 75, "{refused:?}");
    let waited = run(&sandbox, &["--", "echo", "mine"]);
    assert_eq!((waited.code, waited.out.as_str()), (0, "mine\n"), "{waited:?}");
    assert!(waited.err.contains("waiting for"), "{waited:?}");
    let first = Outcome::of(first.wait_with_output().unwrap());
    assert_eq!(first.code, 5, "{first:?}");
    assert!(first.err.contains(" it started and the GPU stays held"), "{first:?}");
}

#[test]
fn a_run_inside_a_run_holds_already() {
    let sandbox = project();
    let inner =
        format!("{} run --no-wait --machine state -- echo inner", env!("CARGO_BIN_EXE_gpupin"));
    let outcome = run(&sandbox, &["--", "sh", "-c", &inner]);
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "inner\n"), "{outcome:?}");
    assert!(outcome.err.contains("inside the lease of an outer run"), "{outcome:?}");
}

#[test]
fn signals_reach_a_program_without_a_terminal_and_its_children() {
    let sandbox = project();
    let script = "trap 'echo usr1' USR1; trap 'echo term; exit 9' TERM; (trap 'exit 0' TERM; while :; do sleep 0.05; done) & echo ready; while :; do sleep 0.05; done";
    let mut command =
        sandbox.command(&["run", "-q", "--machine", "state", "--", "sh", "-c", script]);
    // A session of its own has no terminal.
    let mut command = session(&mut command);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut line = |expected: &str| {
        let mut bytes = vec![0; expected.len()];
        out.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    };
    let kill = |signal: &str| {
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    };
    line("ready\n");
    kill("-USR1");
    line("usr1\n");
    kill("-TERM");
    line("term\n");
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

/// The same command in a session of its own.
pub(crate) fn session(command: &mut Command) -> Command {
    let mut session = Command::new("setsid");
    session.arg(command.get_program()).args(command.get_args());
    session.env_clear().current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        session.env(name, value.unwrap());
    }
    session
}

#[test]
fn a_runner_that_is_killed_leaves_no_better_evidence_than_there_is() {
    let sandbox = project();
    let mut command =
        sandbox.command(&["run", "--machine", "state", "--", "sh", "-c", "echo $$; exec sleep 3"]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut first = [0];
    out.read_exact(&mut first).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let evidence = evidence(&sandbox);
    assert_eq!(evidence["verdict"], "unproved");
    assert_eq!(evidence["reasons"][0]["code"], "runner-ended");
    // The program lives on and holds its GPU.
    assert_eq!(run(&sandbox, &["--no-wait", "--", "true"]).code, 75);
}

#[test]
fn evidence_that_cannot_be_written_keeps_the_program_from_starting() {
    let sandbox = project().file(".gpupin", "a file");
    let outcome = run(&sandbox, &["--", "echo", "started"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (2, ""), "{outcome:?}");
    assert!(outcome.err.contains("`--no-observe` runs without evidence"), "{outcome:?}");
}

#[test]
fn faults_of_the_driver_prove_nothing() {
    let scene = include_str!("../../../../scenes/mixed.toml");
    for fault in [
        "[[fault]]\nfunction = \"nvmlDeviceGetComputeRunningProcesses\"\nreturn = \"no-permission\"\n",
        "[[fault]]\nfunction = \"nvmlDeviceGetComputeRunningProcesses\"\nreturn = \"unknown\"\n",
    ] {
        let sandbox = project().file("state/scene.toml", format!("{scene}\n{fault}"));
        let outcome = run(&sandbox, &["--", "sh", "use.sh", PINNED, "0.2"]);
        assert_ne!(evidence(&sandbox)["verdict"], "proved", "{outcome:?}");
    }
}

/// Writes to a terminal's master and reads until a text comes.
pub(crate) fn expect_text(terminal: &mut std::fs::File, text: &str) -> String {
    let mut seen = Vec::new();
    let mut bytes = [0; 1024];
    // Long enough for a machine with other things to do.
    let patience = Timespec { tv_sec: 15, tv_nsec: 0 };
    // Something may be said for ever.
    let end = std::time::Instant::now() + Duration::from_mins(1);
    loop {
        let ready = poll(&mut [PollFd::new(terminal, PollFlags::IN)], Some(&patience));
        let is_ready = ready.is_ok_and(|it| it > 0);
        let count = if is_ready { terminal.read(&mut bytes).unwrap_or(0) } else { 0 };
        seen.extend(&bytes[..count]);
        let so_far = String::from_utf8_lossy(&seen);
        if so_far.contains(text) {
            return so_far.into_owned();
        }
        let is_over = std::time::Instant::now() >= end;
        assert!(count > 0 && !is_over, "`{text}` did not come, but\n{so_far}");
    }
}

pub(crate) fn type_text(terminal: &mut std::fs::File, text: &str) {
    terminal.write_all(text.as_bytes()).unwrap();
}

/// Waits until a list of leases says something.
fn listed(sandbox: &Sandbox, said: &str) -> String {
    for _ in 0..500 {
        let list = sandbox.gpupin(&["lease", "ls", "--machine", "state"]).out;
        if list.contains(said) {
            return list;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the list never said `{said}`");
}

#[test]
fn what_a_killed_runner_leaves_on_the_gpu_is_listed() {
    let validated = |sandbox: &Sandbox| {
        let args = ["lease", "ls", "--machine", "state", "--output-format", "json"];
        let list = sandbox.gpupin(&args).json();
        crate::report::validate(include_str!("../../src/reference/leases.schema.json"), &list);
        list["gpus"][0].clone()
    };
    // As it is, the program has inherited the lock; without it, it only uses the GPU.
    for keeps_the_lock in [true, false] {
        let sandbox = project();
        let closes = "for i in 3 4 5 6 7 8 9; do eval \"exec $i>&-\"; done; ";
        let script = format!(
            "{}echo $$ > pid; exec sh use.sh {PINNED} 20",
            if keeps_the_lock { "" } else { closes }
        );
        let args = ["run", "--machine", "state", "--", "bash", "-c", &script];
        let mut runner = sandbox.command(&args).stderr(Stdio::null()).spawn().unwrap();
        while !std::fs::read_dir(simulated_leases(&sandbox)).into_iter().flatten().any(|it| {
            std::fs::read_to_string(it.unwrap().path()).is_ok_and(|it| {
                it.contains("\"process\":{\"pid\":") && it.contains("{\"process\":{")
            })
        }) {
            std::thread::sleep(Duration::from_millis(20));
        }
        runner.kill().unwrap();
        runner.wait().unwrap();
        let pid = std::fs::read_to_string(sandbox.path().join("pid")).unwrap();
        let pid: u32 = pid.trim().parse().unwrap();
        let gpu = if keeps_the_lock {
            let said =
                format!("on the GPU now; its runner is gone, its program is not: process {pid}");
            let list = listed(&sandbox, &said);
            assert!(!list.contains("not on the GPU"), "{list}");
            let gpu = validated(&sandbox);
            assert_eq!(gpu["holders"][0]["on_gpu_now"], true);
            assert_eq!(gpu["holders"][0]["processes"], serde_json::json!([pid]));
            gpu
        } else {
            listed(&sandbox, &format!("(pid {pid})"));
            let gpu = validated(&sandbox);
            assert_eq!(gpu["leftovers"][0]["pid"], pid);
            assert_eq!(run(&sandbox, &["--no-wait", "--", "true"]).code, 75);
            gpu
        };
        assert_eq!(gpu["uuid"], PINNED);
        let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}

#[test]
fn who_is_on_the_gpu_already_is_said_at_the_start() {
    let sandbox = project();
    let mut other = Command::new("sh");
    other.args(["use.sh", PINNED, "5"]).current_dir(sandbox.path());
    let mut other = other.spawn().unwrap();
    let noted = |it: std::fs::DirEntry| it.file_name().to_string_lossy().contains('-');
    while !sandbox.path().join("state/processes").read_dir().unwrap().any(|it| noted(it.unwrap())) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let said = format!(
        "warning: the RTX 3090 is used by a process that is not of this run: pid {} `sh use.sh",
        other.id()
    );
    for args in [&["run"][..], &["run", "--no-lease"], &["lease", "hold"]] {
        let args = [args, &["--machine", "state", "--", "true"]].concat();
        let outcome = sandbox.gpupin(&args);
        assert!(outcome.err.contains(&said), "{outcome:?}");
    }
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(!run(&sandbox, &["--", "true"]).err.contains("is used by"));
}

#[test]
fn ctrl_c_ends_what_is_left_also_if_it_ignores_that() {
    let sandbox = project();
    let script = "(trap '' INT; exec sleep 30) >/dev/null 2>&1 & sleep 0.2";
    let mut runner = sandbox.command(&["run", "--machine", "state", "--", "sh", "-c", script]);
    let mut runner = runner.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = std::io::BufReader::new(runner.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("(Ctrl-C ends them)") {
        line.clear();
        assert_ne!(std::io::BufRead::read_line(&mut said, &mut line).unwrap(), 0);
    }
    let start = std::time::Instant::now();
    let pid = rustix::process::Pid::from_child(&runner);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    runner.wait().unwrap();
    assert!(start.elapsed() < Duration::from_secs(10));
}
