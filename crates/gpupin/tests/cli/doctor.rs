use expect_test::expect;
use serde_json::Value;

use crate::{
    gpus::{scenes, simulated},
    report::validate,
    sandbox::Sandbox,
};

const POLICY: &str = "gpu.name = \"RTX 3090\"\nforbid = [{ name = \"RTX 5060 Ti\" }]\n";

fn project() -> Sandbox {
    let sandbox = Sandbox::new().file("gpupin.toml", POLICY).file("state/.keep", "");
    let state = sandbox.path().join("state");
    sandbox.variable("GPUPIN_STATE_DIR", state.to_str().unwrap())
}

/// The states of a check.
fn states<'a>(json: &'a Value, name: &str) -> Vec<&'a str> {
    let checks = json["checks"].as_array().unwrap().iter();
    checks.filter(|it| it["name"] == name).map(|it| it["state"].as_str().unwrap()).collect()
}

#[track_caller]
fn doctor(sandbox: &Sandbox, scene: &str) -> Value {
    sandbox.gpupin(&["doctor", "--machine", scene, "--output-format", "json"]).json()
}

#[test]
fn a_check_says_what_it_saw_and_what_to_do() {
    let sandbox =
        project().variable("CUDA_VISIBLE_DEVICES", "0").variable("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
    let outcome = sandbox.gpupin(&["doctor", "--machine", "mixed"]);
    // Whether the tests run in a container, and where leases lie, is the machine's.
    let is_ours = |it: &&str| !it.contains("container: ") && !it.contains("directory: ");
    let text: Vec<_> = outcome.out.lines().filter(is_ours).collect();
    let expected = expect![[r#"
        driver
          cannot tell  reality: everything is simulated
                       → nothing here says anything about the real machine; leave `gpupin sim`, or `--machine`
          ok           driver: 580.65.06, asked: scene `mixed`
          ok           GPUs: 2 GPUs answer

        health
          ok           heat: index 0: 35 °C, slows down at 95 °C, stops at 98 °C; index 1: 35 °C, slows down at 95 °C, stops at 98 °C
          ok           speed: index 0: not slowed down; index 1: not slowed down
          ok           memory errors: no GPU here has error correction that counts them

        policy
          ok           policy: `gpupin.toml`
          ok           GPU: RTX 3090: RTX 3090 (GPU-8932f937-d72c-4106-c12f-20bd9faed9f6)
          ok           forbidden: RTX 5060 Ti (GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01)

        environment
          ok           order: `CUDA_DEVICE_ORDER=PCI_BUS_ID`
          problem      mask: `CUDA_VISIBLE_DEVICES=0`; visible: RTX 5060 Ti; that is not what the policy means
                       → unset it, or start programs with `gpupin run`

        processes
          ok           lists: every GPU tells its processes
          ok           PIDs: every process that is listed is here
          ok           accounting: off: processes shorter than a sample may stay unseen; root switches it on with `nvidia-smi -am 1`
          ok           memory: all that is used belongs to processes that are listed
          ok           forbidden: the project's user computes on no forbidden GPU

        lease

        python
          ok           python: there is none on `PATH`, and no environment is active

        17 ok, 1 problem, 1 cannot be told"#]];
    expected.assert_eq(&text.join("\n"));
    assert_eq!(outcome.code, 1);
}

#[test]
fn the_environment_is_judged_by_the_policy() {
    for (mask, order, expected_mask, expected_order) in [
        (Some("GPU-8932f937"), None, "ok", "ok"),
        (Some("1"), Some("PCI_BUS_ID"), "ok", "ok"),
        (Some("0"), Some("PCI_BUS_ID"), "problem", "ok"),
        // Which of two different GPUs that is, nobody can tell.
        (Some("1"), None, "problem", "ok"),
        (Some(""), None, "problem", "ok"),
        (None, None, "unknown", "ok"),
        (None, Some("PCI"), "problem", "problem"),
    ] {
        let mut sandbox = project();
        for (name, value) in [("CUDA_VISIBLE_DEVICES", mask), ("CUDA_DEVICE_ORDER", order)] {
            if let Some(value) = value {
                sandbox = sandbox.variable(name, value);
            }
        }
        let json = doctor(&sandbox, "mixed");
        let states = (states(&json, "mask"), states(&json, "order"));
        assert_eq!(states, (vec![expected_mask], vec![expected_order]), "{mask:?} {order:?}");
    }
}

#[test]
fn no_fault_makes_a_machine_well() {
    for (name, text) in scenes() {
        if !["faulty", "lost", "no-driver", "no-gpu"].contains(&name.as_str()) {
            continue;
        }
        let json = doctor(&project(), &name);
        assert_ne!(json["summary"]["problem"], 0, "{name}: {json:#}");
        let args = ["doctor", "--output-format", "json"];
        let json = simulated(&text, &args).0.json();
        assert_ne!(json["summary"]["problem"], 0, "{name} by its libraries: {json:#}");
        assert_eq!(states(&json, "reality"), ["unknown"], "{name} by its libraries: {json:#}");
    }
}

#[test]
fn what_a_silent_gpu_could_tell_is_not_taken_for_well() {
    let json = doctor(&project(), "lost");
    for name in ["lists", "PIDs", "accounting", "memory", "order"] {
        assert_eq!(states(&json, name), ["unknown"], "{name}: {json:#}");
    }
    // What is forbidden, and who computes there.
    assert_eq!(states(&json, "forbidden"), ["unknown", "unknown"], "{json:#}");
    let scene = scenes().into_iter().find(|it| it.0 == "mixed").unwrap().1;
    let fault = "\n[[fault]]\nfunction = \"nvmlDeviceGetComputeRunningProcesses\"\nreturn = \"no-permission\"\n";
    let json = doctor(&project().file("scene.toml", scene + fault), "scene.toml");
    assert_eq!(states(&json, "PIDs"), ["unknown"], "{json:#}");
}

#[test]
fn health_is_what_the_driver_says_and_else_unknown() {
    let scene = scenes().into_iter().find(|it| it.0 == "mixed").unwrap().1;
    let silent =
        |function| format!("\n[[fault]]\nfunction = \"{function}\"\nreturn = \"unknown\"\n");
    let limits = silent("nvmlDeviceGetTemperatureThreshold");
    let reasons = silent("nvmlDeviceGetCurrentClocks*");
    for (added, heat, speed, errors) in [
        ("temperature = 99", "problem", "ok", "ok"),
        ("throttle = [\"hw-power-brake\"]", "ok", "problem", "ok"),
        ("ecc = { enabled = true, uncorrected = 1 }", "ok", "ok", "problem"),
        (limits.as_str(), "ok", "ok", "ok"),
        (reasons.as_str(), "ok", "unknown", "ok"),
        ((limits.clone() + &reasons).as_str(), "unknown", "unknown", "ok"),
        (silent("nvmlDeviceGetTotalEccErrors").as_str(), "ok", "ok", "unknown"),
    ] {
        let json = doctor(&project().file("scene.toml", format!("{scene}{added}\n")), "scene.toml");
        let found = (states(&json, "heat"), states(&json, "speed"), states(&json, "memory errors"));
        assert_eq!(found, (vec![heat], vec![speed], vec![errors]), "{added}: {json:#}");
    }
    // Of a lost GPU nothing is known.
    let json = doctor(&project(), "lost");
    for name in ["heat", "speed", "memory errors"] {
        assert_eq!(states(&json, name), ["unknown"], "{name}: {json:#}");
    }
}

#[test]
fn in_a_container_gpus_that_do_not_answer_are_not_counted_for_well() {
    let sandbox = project().file("root/.dockerenv", "");
    let root = sandbox.path().join("root").display().to_string();
    let sandbox = sandbox.variable("GPUPIN_SYSROOT", root);
    assert_eq!(states(&doctor(&sandbox, "mixed"), "container"), ["ok"]);
    assert_eq!(states(&doctor(&sandbox, "lost"), "container"), ["unknown"]);
}

#[test]
fn without_a_driver_nothing_else_is_well() {
    let json = project().gpupin(&["doctor", "--output-format", "json"]).json();
    assert_eq!(states(&json, "driver"), ["problem"]);
    for name in ["GPU", "mask", "lists"] {
        assert_eq!(states(&json, name), ["unknown"], "{name}");
    }
}

#[test]
fn what_is_simulated_is_never_taken_for_the_machine() {
    let (_, text) = scenes().into_iter().find(|it| it.0 == "mixed").unwrap();
    let json = simulated(&text, &["doctor", "--output-format", "json"]).0.json();
    assert_eq!(states(&json, "reality"), ["unknown"]);
    assert_eq!(states(&json, "CUDA"), ["ok"]);
    assert_eq!(states(&json, "ordinals"), ["ok"]);
    let sandbox = project().variable("CUDA_VISIBLE_DEVICES", "GPU-8932f937");
    assert_eq!(sandbox.gpupin(&["doctor", "--machine", "mixed"]).code, 0);
    assert_eq!(sandbox.gpupin(&["doctor", "--machine", "mixed", "--strict"]).code, 1);
}

#[test]
fn a_broken_policy_is_a_problem_and_no_end() {
    let sandbox = project().file("gpupin.toml", "gpu.nmae = \"RTX 3090\"\n");
    let json = doctor(&sandbox, "mixed");
    assert_eq!(states(&json, "policy"), ["problem"]);
    assert_eq!(states(&json, "driver"), ["ok"]);
}

/// A Python that only answers doctor's question.
fn python(found: &str) -> Sandbox {
    use std::os::unix::fs::PermissionsExt as _;

    let script = format!("#!/bin/sh\necho '{{\"version\": \"3.12.1\", \"found\": {found}}}'\n");
    let sandbox = project().file("bin/python", script);
    let path = sandbox.path().join("bin");
    std::fs::set_permissions(path.join("python"), std::fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.variable("PATH", path.to_str().unwrap())
}

#[test]
fn frameworks_are_compared_with_the_driver() {
    for (found, expected) in [
        (r#"{"torch": ["2.6.0+cu124", []]}"#, "ok"),
        (r#"{"torch": ["2.6.0+cpu", []]}"#, "problem"),
        (r#"{"torch": ["9.0.0+cu990", []]}"#, "problem"),
        (r#"{"jax": ["0.5.0", []]}"#, "problem"),
    ] {
        let json = doctor(&python(found), "mixed");
        assert_eq!(states(&json, "framework"), [expected], "{found}: {json:#}");
    }
    let text =
        python(r#"{"torch": ["2.6.0+cu124", []]}"#).gpupin(&["doctor", "--machine", "mixed"]).out;
    assert!(text.contains("`cuda:0` may be RTX 5060 Ti or RTX 3090 here"), "{text}");
}

#[test]
fn json_follows_its_schema() {
    let schema = include_str!("../../src/reference/doctor.schema.json");
    for (name, _) in scenes() {
        validate(schema, &doctor(&project(), &name));
    }
}
