//! What a driver that fails leaves of a verdict. The program is never its business.

use std::process::Command;

use serde_json::Value;

use super::{OTHER, PINNED, evidence, project, run};
use crate::{
    gpus::simulated,
    sandbox::{Outcome, Sandbox},
};

const SCENE: &str = include_str!("../../../../../scenes/mixed.toml");

/// Enough for a machine that has other things to do.
const SOON: &str = "1500ms";

fn fault(function: &str, what: &str) -> String {
    format!("{SCENE}\n[[fault]]\nfunction = '{function}'\n{what}\n")
}

/// Runs a program that uses its GPU and ends with 5, on a machine that becomes that of `scene` while it runs.
#[track_caller]
fn check_meanwhile(scene: &str, code: &str, text: &str) -> Value {
    let sandbox = project().file("then.toml", scene).variable("GPUPIN_DRIVER_TIMEOUT", SOON);
    let script = format!(
        "sh use.sh {PINNED} 0.3; mv then.toml state/scene.toml; sh use.sh {PINNED} 0.5; exit 5"
    );
    let outcome = run(&sandbox, &["--", "sh", "-c", &script]);
    assert_eq!(outcome.code, 5, "{outcome:?}");
    let evidence = evidence(&sandbox);
    assert_eq!(evidence["verdict"], "unproved", "{evidence}");
    let reasons = evidence["reasons"].as_array().unwrap();
    let is_it = |it: &&Value| it["code"] == code && it.to_string().contains(text);
    assert_eq!(reasons.iter().filter(is_it).count(), 1, "{evidence}");
    let checked = sandbox.gpupin(&["evidence", "check"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    evidence
}

#[test]
fn a_driver_that_begins_to_hang_takes_the_verdict_and_not_the_program() {
    let list = "nvmlDeviceGetComputeRunningProcesses";
    let hangs = format!("gpu = '{PINNED}'\nhang = true");
    check_meanwhile(
        &fault(list, &hangs),
        "list-silent",
        "\"compute\",\"why\":\"the driver did not answer `nvmlDeviceGetComputeRunningProcesses` within 1.5 s",
    );
}

#[test]
fn functions_that_fail_meanwhile_are_named_and_prove_nothing() {
    for (function, code, text) in [
        ("nvmlDeviceGetComputeRunningProcesses", "list-silent", "\"compute\""),
        ("nvmlDeviceGetGraphicsRunningProcesses", "list-silent", "\"graphics\""),
        ("nvmlDeviceGetCount", "machine-silent", "the GPUs"),
    ] {
        let scene = fault(function, &format!("return = 'unknown'\n#{PINNED}"));
        // One of each GPU has a reason of its own.
        let text = if code == "list-silent" {
            format!("{PINNED}\",\"list\":{text}")
        } else {
            text.to_owned()
        };
        check_meanwhile(&scene, code, &text);
    }
}

#[test]
fn gpus_that_do_not_say_what_they_are_are_not_taken_for_none() {
    let scene = fault("nvmlDeviceGetName", "return = 'unknown'");
    let sandbox = project().file("state/scene.toml", scene);
    for args in [&["run"][..], &["lease", "hold"]] {
        let args = [args, &["--machine", "state", "--", "true"]].concat();
        let outcome = sandbox.gpupin(&args);
        assert_eq!(outcome.code, 3, "{outcome:?}");
        assert!(!outcome.err.contains("the machine has no GPU"), "{outcome:?}");
        assert!(outcome.err.contains("no GPU is known here"), "{outcome:?}");
        assert!(outcome.err.contains("hint: index 1: Unknown Error"), "{outcome:?}");
    }
}

#[test]
fn a_driver_that_is_slow_is_no_driver_that_hangs() {
    let scene = fault("nvmlDeviceGetComputeRunningProcesses", "latency = '50ms'");
    let sandbox = project().file("state/scene.toml", scene);
    run(&sandbox, &["--", "sh", "use.sh", PINNED, "0.4"]);
    let evidence = evidence(&sandbox);
    assert_eq!(evidence["reasons"].as_array().unwrap().len(), 1, "{evidence}");
    assert_eq!(evidence["processes"][0]["gpu"], PINNED);
}

/// What gpupin says in front of a driver that hangs, asked as a scene and through the simulated library.
#[track_caller]
fn check_hanging(function: &str, args: &[&str], code: i32, words: &str) {
    let scene = fault(function, "hang = true");
    let sandbox = project().file("hangs.toml", &scene).variable("GPUPIN_DRIVER_TIMEOUT", SOON);
    let (verb, rest) = args.split_first().unwrap();
    let asked = sandbox.gpupin(&[&[*verb, "--machine", "hangs.toml"], rest].concat());
    let sim = ["sim", "--scene", "hangs.toml", "--", env!("CARGO_BIN_EXE_gpupin")];
    let through = sandbox.gpupin(&[&sim, args].concat());
    for outcome in [asked, through] {
        assert_eq!(outcome.code, code, "{args:?}: {outcome:?}");
        let said = format!("the driver did not answer `{function}");
        let text = outcome.whole();
        assert!(text.contains(&said) && text.contains(words), "{args:?}: {text}");
    }
}

#[test]
fn a_driver_that_hangs_from_the_start_is_told_and_nothing_is_started() {
    let count = "nvmlDeviceGetCount";
    check_hanging(count, &["gpus"], 2, "`nvidia-smi` will hang too");
    check_hanging(count, &["doctor"], 1, "problem");
    check_hanging(count, &["run", "--", "touch", "started"], 2, "failed to list the GPUs");
    check_hanging("nvmlDeviceGetTemperature", &["gpus"], 1, "status unknown");
}

#[test]
fn a_library_that_hangs_when_it_is_loaded_is_told() {
    let sandbox = project()
        .file("hangs.toml", fault("nvmlInit", "hang = true"))
        .variable("GPUPIN_DRIVER_TIMEOUT", SOON);
    let sim = ["sim", "--scene", "hangs.toml", "--", env!("CARGO_BIN_EXE_gpupin"), "gpus"];
    let outcome = sandbox.gpupin(&sim);
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert!(outcome.err.contains("did not answer `nvmlInit"), "{outcome:?}");
    let nonsense = project().variable("GPUPIN_DRIVER_TIMEOUT", "soon");
    let outcome = nonsense.gpupin(&["gpus", "--machine", "mixed"]);
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert!(outcome.err.contains("`GPUPIN_DRIVER_TIMEOUT` is not valid"), "{outcome:?}");
}

#[test]
fn xids_of_a_gpu_leave_what_is_seen_of_it_unproved() {
    let scene =
        SCENE.replacen("power-limit = 350.0", "xids = [79]\nlost = true\npower-limit = 350.0", 1);
    assert_ne!(scene, SCENE);
    check_meanwhile(&scene, "gpus-changed", "");
    let (outcome, _) = simulated(&scene, &["gpus"]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
}

const ACCOUNTING: &str = include_str!("../../../../../scenes/accounting.toml");

/// Runs a program on its GPU on a machine with accounting that is another for longer than the driver is left alone.
#[track_caller]
fn check_for_a_while(scene: &str, verdict: &str, code: &str) {
    let sandbox = project().file("state/scene.toml", ACCOUNTING).file("then.toml", scene);
    let script = format!(
        "sh use.sh {PINNED} 0.3; cp state/scene.toml first.toml; mv then.toml state/scene.toml; sleep 2.5; \
         mv first.toml state/scene.toml; sleep 0.3"
    );
    let outcome = run(&sandbox, &["--", "sh", "-c", &script]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let evidence = evidence(&sandbox);
    assert_eq!(evidence["verdict"], verdict, "{evidence}");
    let reasons = evidence["reasons"].as_array().unwrap();
    let codes: Vec<_> = reasons.iter().map(|it| it["code"].as_str().unwrap()).collect();
    assert_eq!(codes.first().copied().unwrap_or(""), code, "{evidence}");
    let checked = sandbox.gpupin(&["evidence", "check"]);
    assert_eq!(checked.code, 0, "{checked:?}");
}

#[test]
fn accounting_that_is_off_for_a_while_proves_nothing() {
    check_for_a_while(ACCOUNTING, "proved", "");
    let off = ACCOUNTING.replace("accounting = true", "accounting = false");
    check_for_a_while(&off, "unproved", "accounting-incomplete");
}

/// The verdict of a program that is on the other GPU too shortly for a sample, and its reasons, by the simulated library.
fn of_trespass(fault: &str) -> Value {
    let sandbox = Sandbox::new()
        .file("gpupin.toml", "gpu.name = \"RTX 3090\"\n")
        .file("scene.toml", format!("{ACCOUNTING}\n{fault}"))
        .file("leases/.keep", "")
        .variable("PATH", std::env::var("PATH").unwrap());
    let gpupin = env!("CARGO_BIN_EXE_gpupin");
    let script = format!(
        "{gpupin} debug use-gpu --seconds 0.5 && CUDA_VISIBLE_DEVICES=0 {gpupin} debug use-gpu --seconds 0"
    );
    let run = ["run", "--no-lease", "--", "sh", "-c", &script];
    let sim = ["sim", "--scene", "scene.toml", "--", gpupin];
    let outcome = sandbox.gpupin(&[&sim[..], &run].concat());
    assert!([0, 76].contains(&outcome.code), "{outcome:?}");
    evidence(&sandbox)
}

#[test]
fn whom_the_accounting_names_and_says_nothing_of_was_there() {
    let on_other = format!("gpu = '{OTHER}'");
    for when in ["", "after = 8", &on_other] {
        let function = "nvmlDeviceGetAccountingStats";
        let fault = format!("[[fault]]\nfunction = '{function}'\nreturn = 'not-found'\n{when}\n");
        let evidence = of_trespass(&fault);
        // On a slow machine a sample may show it.
        if evidence["verdict"] != "violated" {
            assert_eq!(evidence["verdict"], "unproved", "{when}: {evidence}");
            // When it came, or who it was: what is asked first differs with the pace.
            assert_eq!(
                evidence["reasons"][0]["code"], "accounting-incomplete",
                "{when}: {evidence}"
            );
        }
    }
}

#[test]
fn a_gpu_that_is_there_for_a_while_leaves_it_unproved() {
    let (_, large) = ACCOUNTING.rsplit_once("[[gpu]]").unwrap();
    let third = large.replace(PINNED, "GPU-00000000-0000-0000-0000-000000000003");
    let third = third.replace("0000:02:00.0", "0000:03:00.0");
    let scene = format!("{ACCOUNTING}\n[[gpu]]{third}");
    let scene = scene.replace("cuda-order", "# cuda-order");
    check_for_a_while(&scene, "unproved", "gpus-changed");
}

#[test]
fn numbers_of_another_pid_namespace_prove_nothing() {
    let scene = format!("pid-offset = 100000\n{SCENE}");
    let sandbox = project().file("state/scene.toml", scene);
    let outcome = run(&sandbox, &["--", "sh", "use.sh", PINNED, "0.3"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let evidence = evidence(&sandbox);
    assert_eq!(evidence["verdict"], "unproved", "{evidence}");
    assert_eq!(evidence["processes"], serde_json::json!([]), "{evidence}");
}

/// The same in a PID namespace of its own, `None` where the kernel allows none.
fn in_pid_namespace(sandbox: &Sandbox, args: &[&str]) -> Option<Outcome> {
    let unshare = ["-rpf", "--mount-proc"];
    let is_allowed = Command::new("unshare").args(unshare).arg("true").status();
    if !is_allowed.is_ok_and(|it| it.success()) {
        return None;
    }
    let args = [&unshare[..], &[env!("CARGO_BIN_EXE_gpupin")], args].concat();
    Some(sandbox.run("unshare", "", &args))
}

#[test]
fn a_run_in_a_pid_namespace_of_its_own_says_so() {
    let sandbox = project();
    let args = ["run", "--machine", "state", "--", "sh", "use.sh", PINNED, "0.3"];
    let Some(outcome) = in_pid_namespace(&sandbox, &args) else {
        eprintln!("SKIPPED: this kernel allows no PID namespace");
        return;
    };
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let evidence = evidence(&sandbox);
    assert_eq!(evidence["verdict"], "unproved", "{evidence}");
    let reasons = evidence["reasons"].as_array().unwrap();
    assert!(reasons.iter().any(|it| it["code"] == "pid-namespace"), "{evidence}");
}
