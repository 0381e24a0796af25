use expect_test::{Expect, expect};
use serde_json::Value;

use crate::{
    report::validate,
    sandbox::{Outcome, Sandbox},
};

const POLICY: &str = "gpu.name = \"RTX 3090\"\nforbid = [{ name = \"RTX 5060 Ti\" }]\n";

#[track_caller]
fn check(args: &[&str], expected: &Expect) {
    let sandbox = Sandbox::new().file("gpupin.toml", POLICY);
    expected.assert_eq(&sandbox.gpupin(&[&["gpus"], args].concat()).whole());
}

/// Every scene that is part of gpupin, by name.
pub(crate) fn scenes() -> Vec<(String, String)> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenes");
    let files = std::fs::read_dir(directory).unwrap().map(|it| it.unwrap().path());
    let scene = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read_to_string(path).unwrap())
    };
    files.map(scene).collect()
}

/// What gpupin says below `gpupin sim`, whose state stays in `state`.
pub(crate) fn simulated(scene: &str, args: &[&str]) -> (Outcome, Sandbox) {
    let sandbox = Sandbox::new().file("gpupin.toml", POLICY).file("scene.toml", scene);
    let sim = ["sim", "--scene", "scene.toml", "--", env!("CARGO_BIN_EXE_gpupin")];
    (sandbox.gpupin(&[&sim, args].concat()), sandbox)
}

#[test]
fn a_gpu_is_shown_with_what_the_policy_says_of_it() {
    check(
        &["--machine", "mixed"],
        &expect![[r#"
        exit code: 0
        ----- stdout
        `workstation` · driver 580.65.06 · CUDA 13.0 · asked: scene `mixed` · everything here is simulated

        index  GPU                      memory       busy  heat   power        PCI           UUID
        0      RTX 5060 Ti (forbidden)  0 of 16 GiB  0 %   35 °C  20 of 180 W  0000:01:00.0  GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01
        1      RTX 3090 (the policy's)  0 of 24 GiB  0 %   35 °C  20 of 350 W  0000:02:00.0  GPU-8932f937-d72c-4106-c12f-20bd9faed9f6

        the policy means RTX 3090: index 1
    "#]],
    );
}

#[test]
fn a_role_on_a_forbidden_gpu_is_shown_as_the_exception_it_is() {
    let policy =
        format!("{POLICY}roles.tts.name = \"RTX 5060 Ti\"\nroles.llm.name = \"RTX 3090\"\n");
    let sandbox = Sandbox::new().file("gpupin.toml", policy);
    let text = sandbox.gpupin(&["gpus", "--machine", "mixed"]).out;
    assert!(text.contains("RTX 5060 Ti (forbidden except for role tts)"), "{text}");
    assert!(text.contains("RTX 3090 (the policy's, role llm)"), "{text}");
    let text = sandbox.gpupin(&["doctor", "--machine", "mixed"]).out;
    let forbidden =
        "forbidden: RTX 5060 Ti (GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01), except for role tts\n";
    assert!(text.contains(forbidden), "{text}");
}

#[test]
fn a_lost_gpu_is_no_success() {
    check(
        &["--machine", "lost"],
        &expect![[r#"
        exit code: 1
        ----- stdout
        `workstation` · driver 580.65.06 · CUDA 13.0 · asked: scene `lost` · everything here is simulated

        index  GPU                      memory       busy  heat   power        PCI           UUID
        0      ?                        ?            ?     ?      ?            ?             ?
        1      RTX 3090 (the policy's)  0 of 24 GiB  0 %   35 °C  20 of 350 W  0000:02:00.0  GPU-8932f937-d72c-4106-c12f-20bd9faed9f6

        the policy means RTX 3090: index 1
        index 0: its handle is not told: the GPU is lost
    "#]],
    );
}

#[test]
fn what_a_gpu_does_not_say_is_no_number() {
    check(
        &["--machine", "faulty"],
        &expect![[r#"
            exit code: 0
            ----- stdout
            `workstation` · driver 580.65.06 · CUDA 13.0 · asked: scene `faulty` · everything here is simulated

            index  GPU                      memory           busy  heat            power  PCI           UUID
            0      RTX 5060 Ti (forbidden)  3 GiB of 16 GiB  ?     35 °C           -      0000:01:00.0  GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01
            1      RTX 3090 (the policy's)  0 of 24 GiB      ?     97 °C, too hot  -      0000:02:00.0  GPU-8932f937-d72c-4106-c12f-20bd9faed9f6

            the policy means RTX 3090: index 1
            index 1: too hot: 97 °C, slows down at 95 °C, stops at 98 °C; the hardware halves its clocks for it, or more
            index 0: utilization unknown: Unknown Error (NVML error 999)
            index 1: compute processes unknown: no permission
            index 1: utilization unknown: Unknown Error (NVML error 999)
        "#]],
    );
}

#[test]
fn without_a_driver_there_is_a_way_on() {
    check(
        &[],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: no NVIDIA driver library was found: /nonexistent/gpupin: cannot open shared object file: No such file or directory

        hint: install the NVIDIA driver; in a container, give it the GPU with the capability `utility` (`--gpus`, `NVIDIA_DRIVER_CAPABILITIES=compute,utility`); without a GPU, ask a scene with `--machine`
    "#]],
    );
}

#[test]
fn a_scene_that_is_not_there_is_told_with_those_that_are() {
    let outcome = Sandbox::new().gpupin(&["gpus", "--machine", "mixd"]);
    expect![[r#"
        exit code: 2
        ----- stderr
        error: there is no scene `mixd`

        hint: name a file, or one of accounting, busy, faulty, lost, mig, mixed, no-driver, no-gpu, one, twin-3090
    "#]]
    .assert_eq(&outcome.whole());
}

#[test]
fn watching_prints_a_line_for_each_answer() {
    let args = ["gpus", "--machine", "twin-3090", "--watch=0.1", "--times", "3"];
    let sandbox = Sandbox::new();
    let outcome = sandbox.gpupin(&[&args[..], &["--output-format", "json"]].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.whole());
    let lines: Vec<Value> =
        outcome.out.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    let text = sandbox.gpupin(&args).out;
    assert_eq!(text.matches("index  GPU").count(), 3);
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn json_follows_its_schema() {
    let schema = include_str!("../../src/reference/gpus.schema.json");
    let sandbox = Sandbox::new().file("gpupin.toml", POLICY);
    for (name, _) in scenes() {
        let outcome = sandbox.gpupin(&["gpus", "--machine", &name, "--output-format", "json"]);
        if outcome.code < 2 {
            validate(schema, &outcome.json());
        }
    }
}

/// The kernel module's files without NVML, as in a container with the driver's compute part only.
#[test]
fn without_nvml_the_files_name_what_they_can() {
    let information = "Model: \t\t NVIDIA GeForce RTX 3090\nGPU UUID: \t GPU-8932f937-d72c-4106-c12f-20bd9faed9f6\nDevice Minor: \t 0\n";
    let version =
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n";
    let sandbox = Sandbox::new()
        .file("root/proc/driver/nvidia/version", version)
        .file("root/proc/driver/nvidia/gpus/0000:02:00.0/information", information)
        .file("root/proc/sys/kernel/hostname", "box\n");
    let root = sandbox.path().join("root");
    let sandbox = sandbox.variable("GPUPIN_SYSROOT", root.to_str().unwrap());
    let outcome = sandbox.gpupin(&["gpus"]);
    let expected = expect![[r#"
        exit code: 1
        ----- stdout
        `box` · driver 580.65.06 · asked: /proc/driver/nvidia

        index  GPU                      memory  busy  heat  power  PCI           UUID
        0      NVIDIA GeForce RTX 3090  ?       ?     ?     ?      0000:02:00.0  GPU-8932f937-d72c-4106-c12f-20bd9faed9f6

        index 0: its VRAM is not told: not supported
    "#]];
    expected.assert_eq(&outcome.whole());
    // Without VRAM nothing can be matched with a policy or recorded.
    assert_eq!(sandbox.gpupin(&["lock"]).code, 2);
    assert_eq!(sandbox.gpupin(&["which"]).code, 2);
    assert_eq!(sandbox.gpupin(&["doctor"]).code, 1);
}

/// Two ways to the same machine: NVML's functions over a scene, and the scene itself.
#[test]
fn nvml_says_what_the_scene_says() {
    for (name, text) in scenes() {
        // Both below one simulator, because its processes are others each time.
        let script = "\"$0\" gpus --output-format json > nvml.json; echo $? > nvml.code; \
            \"$0\" gpus --output-format json --machine \"$GPUPIN_SIM\" > scene.json; echo $? > scene.code";
        let sandbox = Sandbox::new()
            .file("scene.toml", text)
            .variable("PATH", std::env::var("PATH").unwrap());
        let program = env!("CARGO_BIN_EXE_gpupin");
        let sim =
            sandbox.gpupin(&["sim", "--scene", "scene.toml", "--", "sh", "-c", script, program]);
        let (by_nvml, by_scene) = (sandbox.read("nvml.code"), sandbox.read("scene.code"));
        assert_eq!(by_nvml, by_scene, "{name}: {}", sim.whole());
        if by_nvml.trim() == "2" {
            continue;
        }
        let said = |file| {
            let mut json: Value = serde_json::from_str(&sandbox.read(file)).unwrap();
            // A library does not know what a scene calls its machine, and both are asked one after the other.
            json["at"].take();
            json["host"].take();
            json["source"].take();
            json
        };
        let (by_nvml, by_scene) = (said("nvml.json"), said("scene.json"));
        assert_eq!(by_nvml, by_scene, "{name}\n{by_nvml:#}\n{by_scene:#}");
        assert_eq!(by_nvml["kind"], "simulated");
    }
}

#[test]
fn processes_are_named_with_their_owner() {
    let (_, scene) = scenes().into_iter().find(|it| it.0 == "busy").unwrap();
    let json = simulated(&scene, &["gpus", "--output-format", "json"]).0.json();
    let gpus = json["gpus"].as_array().unwrap().iter();
    let processes: Vec<_> = gpus.flat_map(|it| it["processes"].as_array().unwrap()).collect();
    assert!(processes.len() > 1, "{json:#}");
    for process in processes {
        assert!(process["command"].is_string() && process["uid"].is_number(), "{process:#}");
        assert_eq!(process["stranger"], false);
        assert!(process["memory"].as_u64().unwrap() > 0, "{process:#}");
    }
}

/// Watches with its output going to what a shell makes of `redirection`, until it ends by itself.
#[track_caller]
fn check_watch(args: &str, redirection: &str, code: i32, error: &str) {
    let sandbox = crate::run::project().variable("G", env!("CARGO_BIN_EXE_gpupin"));
    let script = format!("set -o pipefail; timeout 60 $G {args} --machine state {redirection}");
    let outcome = sandbox.run("bash", "", &["-c", &script]);
    assert_eq!(outcome.code, code, "{script}: {outcome:?}");
    let errors: Vec<_> = outcome.err.lines().filter(|it| it.starts_with("error:")).collect();
    assert_eq!(errors.len(), usize::from(!error.is_empty()), "{script}: {outcome:?}");
    assert!(errors.iter().all(|it| it.contains(error)), "{script}: {outcome:?}");
}

#[test]
fn who_watches_for_nobody_ends() {
    for args in ["gpus --watch=3600", "gpus --watch=3600 --output-format json", "lease ls --watch"]
    {
        check_watch(args, "| head -c 1 >/dev/null", 0, "");
        check_watch(args, ">/dev/full", 2, "failed to write output");
    }
}
