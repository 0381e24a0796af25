use std::{process::Stdio, thread, time::Duration};

use gpupin_run::process::{Process, ProcessId};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    report::validate,
    run::{OTHER, PINNED, project, session},
    sandbox::{Outcome, Sandbox},
};

fn with(commands: &[&str]) -> Sandbox {
    let list: Vec<_> = commands.iter().map(|it| format!("{it:?}")).collect();
    let policy = format!("gpu.name = 'RTX 3090'\nverify.commands = [{}]\n", list.join(", "));
    project().file("gpupin.toml", policy)
}

fn verify(sandbox: &Sandbox, args: &[&str]) -> Outcome {
    sandbox.gpupin(&[&["verify", "--machine", "state"], args].concat())
}

#[test]
fn every_script_gets_a_row_and_the_worst_decides() {
    let good = format!("sh use.sh {PINNED} 0.2");
    let bad = format!("sh use.sh {OTHER} 60");
    for (commands, args, code, words) in [
        (
            vec![good.as_str(), "sh -c 'exit 0'"],
            &["--allow-unproved"][..],
            0,
            "unproved (simulated)",
        ),
        (vec![good.as_str()], &[], 1, "only samples tell"),
        (vec![good.as_str(), "sh -c 'exit 3'"], &["--allow-unproved"], 1, "code 3"),
        (vec![bad.as_str(), good.as_str()], &["--allow-unproved", "-j", "2"], 76, "violated"),
        // The code is the program's, which was ended for it, and not gpupin's.
        (vec![bad.as_str()], &[], 76, "code 143"),
        (vec!["no-such-program"], &["--allow-unproved"], 1, "code 127"),
        (vec!["no-such-program"], &[], 1, "the program did not start"),
    ] {
        let outcome = verify(&with(&commands), args);
        assert_eq!(outcome.code, code, "{outcome:?}");
        assert!(outcome.out.contains(words), "{outcome:?}");
        assert!(commands.iter().all(|it| outcome.out.contains(it)), "{outcome:?}");
    }
}

#[test]
fn scripts_that_take_too_long_are_ended() {
    let outcome = verify(&with(&["sleep 600"]), &["--allow-unproved", "--script-timeout", "300ms"]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.out.contains("took too long"), "{outcome:?}");
}

/// The process that wrote its number to a file. Waits until it has.
fn noted(sandbox: &Sandbox, file: &str) -> ProcessId {
    let path = sandbox.path().join(file);
    loop {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if let Ok(pid) = text.trim().parse() {
            return Process::read(pid).unwrap().id;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Sends `signals` to `gpupin verify` without a terminal while its scripts run, which write their numbers to `first` and `second`.
#[track_caller]
fn check_ended(script: &str, signals: &[Signal], code: i32) -> Outcome {
    let scripts = ["first", "second"].map(|it| script.replace("FILE", it));
    let sandbox = with(&[&scripts[0], &scripts[1], "touch third"]);
    // Both at once, without waiting for each other.
    let policy = sandbox.read("gpupin.toml") + "lease.slots = 2\n";
    let sandbox = sandbox.file("gpupin.toml", policy);
    let mut command = sandbox.command(&["verify", "--machine", "state", "-j", "2"]);
    let mut command = session(&mut command);
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let programs = ["first", "second"].map(|it| noted(&sandbox, it));
    let runners = programs.map(|it| Process::read(it.pid).unwrap().parent);
    let runners = runners.map(|it| Process::read(it).unwrap().id);
    for signal in signals {
        kill_process(Pid::from_child(&child), *signal).unwrap();
        thread::sleep(Duration::from_millis(200));
    }
    let outcome = Outcome::of(child.wait_with_output().unwrap());
    assert_eq!(outcome.code, code, "{outcome:?}");
    for it in programs.iter().chain(&runners) {
        assert!(!Process::is_alive(*it), "{it} lives: {outcome:?}");
    }
    assert!(!sandbox.path().join("third").exists(), "{outcome:?}");
    assert!(outcome.err.contains("not run: 1"), "{outcome:?}");
    outcome
}

#[test]
fn a_signal_ends_what_runs_and_then_gpupin() {
    let script = "sh -c 'echo $$ > FILE; exec sleep 97533'";
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130)] {
        let outcome = check_ended(script, &[signal], code);
        // What was ended so is no success, and is told.
        assert_eq!(outcome.out.matches(&format!("code {code}")).count(), 2, "{outcome:?}");
    }
}

#[test]
fn who_asks_twice_does_not_wait_for_programs_that_do_not_listen() {
    let script = "exec sh -c 'trap : TERM; echo $$ > FILE; while :; do sleep 0.05; done'";
    let outcome = check_ended(script, &[Signal::TERM, Signal::TERM], 143);
    assert_eq!(outcome.out.matches("code 137").count(), 2, "{outcome:?}");
}

#[test]
fn only_what_is_named_is_run() {
    let nothing = verify(&project(), &[]);
    assert_eq!(nothing.code, 2);
    assert!(nothing.err.contains("there is nothing to run"), "{nothing:?}");
    let sandbox = with(&["touch declared"]);
    let outcome = verify(&sandbox, &["--allow-unproved", "--", "touch", "named"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(sandbox.path().join("named").exists() && !sandbox.path().join("declared").exists());
}

#[test]
fn json_follows_its_schema() {
    let outcome = verify(&with(&["true", "echo out"]), &["--output-format", "json"]);
    validate(include_str!("../../src/reference/verify.schema.json"), &outcome.json());
}
