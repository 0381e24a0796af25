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

/// What gpupin says where the simulated libraries stand in for a driver. Nothing runs on the simulated GPUs.
pub(crate) fn below_libraries(scene: &str, args: &[&str]) -> (Outcome, Sandbox) {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_gpupin"));
    let library = program.with_file_name("deps").join("libgpupin_sim.so");
    let library = std::fs::read(library).unwrap();
    let sandbox = Sandbox::new()
        .with_driver()
        .file("gpupin.toml", POLICY)
        .file("state/scene.toml", scene)
        .file("state/processes/.keep", "")
        .file("lib/libnvidia-ml.so.1", &library)
        .file("lib/libcuda.so.1", &library);
    let (state, libraries) = (sandbox.path().join("state"), sandbox.path().join("lib"));
    let sandbox = sandbox
        .variable("GPUPIN_SIM", state.to_str().unwrap())
        .variable("LD_LIBRARY_PATH", libraries.to_str().unwrap());
    (sandbox.gpupin(args), sandbox)
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

        index  GPU                      memory           busy  heat   power  PCI           UUID
        0      RTX 5060 Ti (forbidden)  3 GiB of 16 GiB  ?     35 °C  -      0000:01:00.0  GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01
        1      RTX 3090 (the policy's)  0 of 24 GiB      ?     97 °C  -      0000:02:00.0  GPU-8932f937-d72c-4106-c12f-20bd9faed9f6

        the policy means RTX 3090: index 1
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
        let json = ["--output-format", "json"];
        let (by_nvml, sandbox) = below_libraries(&text, &[&["gpus"], &json[..]].concat());
        let state = sandbox.path().join("state");
        let state = state.to_str().unwrap();
        let by_scene = sandbox.gpupin(&[&["gpus", "--machine", state], &json[..]].concat());
        assert_eq!(by_nvml.code, by_scene.code, "{name}: {}{}", by_nvml.whole(), by_scene.whole());
        if by_nvml.code > 1 {
            continue;
        }
        let of_machine = |outcome: &Outcome| {
            let mut json = outcome.json();
            // A library does not know what a scene calls its machine.
            json["host"].take();
            json["source"].take();
            json
        };
        let (by_nvml, by_scene) = (of_machine(&by_nvml), of_machine(&by_scene));
        assert_eq!(by_nvml, by_scene, "{name}\n{by_nvml:#}\n{by_scene:#}");
        assert_eq!(by_nvml["kind"], "simulated");
    }
}
