use expect_test::{Expect, expect};

use crate::{gpus::simulated, report::validate, sandbox::Sandbox};

const LOCK: &str = r#"version = 1

[[machine]]
host = "workstation"
driver = "580.65.06"

[[machine.gpu]]
index = 0
uuid = "GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01"
name = "NVIDIA GeForce RTX 5060 Ti"
vram = "16 GiB"
compute-capability = "12.0"
pci = "0000:01:00.0"

[[machine.gpu]]
index = 1
uuid = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
name = "NVIDIA GeForce RTX 3090"
vram = "24 GiB"
compute-capability = "8.6"
pci = "0000:02:00.0"
"#;

const POLICY: &str = "gpu.name = \"RTX 3090\"\nforbid = [{ name = \"RTX 5060 Ti\" }]\n";

const OTHER: &str = r#"
[[machine]]
host = "other"

[[machine.gpu]]
index = 0
uuid = "GPU-11111111-d72c-4106-c12f-20bd9faed9f6"
name = "NVIDIA GeForce RTX 3090"
vram = "24 GiB"
compute-capability = "8.6"
pci = "0000:02:00.0"
"#;

fn project() -> Sandbox {
    Sandbox::new().file("gpupin.lock", LOCK).file("gpupin.toml", POLICY)
}

#[track_caller]
fn check(sandbox: &Sandbox, args: &[&str], expected: &Expect) {
    expected.assert_eq(&sandbox.gpupin(&[&["which"], args].concat()).whole());
}

#[test]
fn a_fixed_order_makes_every_ordinal_exact() {
    let order = ["--env", "CUDA_DEVICE_ORDER=PCI_BUS_ID", "--env", "CUDA_VISIBLE_DEVICES=1"];
    check(
        &project(),
        &order,
        &expect![[r#"
        exit code: 0
        ----- stdout
        `workstation` as recorded in `gpupin.lock`; no live machine was asked
        CUDA_DEVICE_ORDER=PCI_BUS_ID (`--env`)
        CUDA_VISIBLE_DEVICES=1 (`--env`)

        CUDA    NVML  GPU                      UUID
        cuda:0  1     RTX 3090 (the policy's)  GPU-8932f937-d72c-4106-c12f-20bd9faed9f6
        hidden  0     RTX 5060 Ti (forbidden)  GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01

        exact: every ordinal is one GPU
          1. `workstation` has 2 GPUs
          2. `CUDA_DEVICE_ORDER=PCI_BUS_ID` sorts the GPUs by PCI address: 0 is RTX 5060 Ti, 1 is RTX 3090
          3. entry `1` is RTX 3090
    "#]],
    );
}

#[test]
fn without_an_order_every_candidate_is_shown() {
    check(
        &project(),
        &["cuda:1"],
        &expect![[r#"
        exit code: 0
        ----- stdout
        `workstation` as recorded in `gpupin.lock`; no live machine was asked
        no variable that decides is set

        CUDA    NVML  GPU                      UUID
        cuda:1  0     RTX 5060 Ti (forbidden)  GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01
          or    1     RTX 3090 (the policy's)  GPU-8932f937-d72c-4106-c12f-20bd9faed9f6

        ambiguous: some ordinal may be one of several GPUs
          1. `workstation` has 2 GPUs
          2. `CUDA_DEVICE_ORDER` is not set, so CUDA lists the fastest GPU first, by a heuristic that is not documented; these GPUs differ, so their order is unknown
          3. `CUDA_VISIBLE_DEVICES` is not set, so every GPU is visible
    "#]],
    );
}

#[test]
fn a_container_numbers_anew() {
    check(
        &project(),
        &["--env", "NVIDIA_VISIBLE_DEVICES=1"],
        &expect![[r#"
        exit code: 0
        ----- stdout
        `workstation` as recorded in `gpupin.lock`; no live machine was asked
        NVIDIA_VISIBLE_DEVICES=1 (`--env`)

        CUDA    NVML  container  GPU                      UUID
        cuda:0  1     0          RTX 3090 (the policy's)  GPU-8932f937-d72c-4106-c12f-20bd9faed9f6
        hidden  0     -          RTX 5060 Ti (forbidden)  GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01

        exact: every ordinal is one GPU
          1. `workstation` has 2 GPUs
          2. the container was made with `NVIDIA_VISIBLE_DEVICES=1`, which numbers its GPUs anew: 0 is RTX 3090
          3. `CUDA_VISIBLE_DEVICES` is not set, so every GPU is visible
    "#]],
    );
}

#[test]
fn an_ordinal_that_does_not_exist_has_its_own_exit_code() {
    check(
        &project(),
        &["2"],
        &expect![[r#"
        exit code: 3
        ----- stderr
        error: `cuda:2` does not exist: 2 GPUs are visible, up to `cuda:1`
    "#]],
    );
}

#[test]
fn the_shell_decides_unless_it_is_ignored() {
    let sandbox = project()
        .variable("CUDA_VISIBLE_DEVICES", "GPU-8932f937")
        // What an image sets for itself says nothing about the machine.
        .variable("NVIDIA_VISIBLE_DEVICES", "none");
    let certainty = |args: &[&str]| {
        let args = [&["which", "--output-format", "json"], args].concat();
        let json = sandbox.gpupin(&args).json();
        (json["certainty"].as_str().unwrap().to_owned(), json["visible"].as_array().unwrap().len())
    };
    assert_eq!(certainty(&[]), ("exact".to_owned(), 1));
    assert_eq!(certainty(&["--ignore-env"]), ("ambiguous".to_owned(), 2));
    assert_eq!(certainty(&["--env", "CUDA_VISIBLE_DEVICES="]), ("exact".to_owned(), 0));
}

#[test]
fn several_machines_need_a_host() {
    let sandbox = Sandbox::new().file("gpupin.lock", format!("{LOCK}{OTHER}"));
    check(
        &sandbox,
        &[],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: several machines are recorded, and this is none of them

        hint: say which with `--lock-host`; recorded are `other`, `workstation`
    "#]],
    );
    let one = sandbox.gpupin(&["which", "--lock-host", "other", "--output-format", "json"]).json();
    assert_eq!(one["visible"][0]["uuid"], "GPU-11111111-d72c-4106-c12f-20bd9faed9f6");
    assert_eq!(sandbox.gpupin(&["which", "--lock-host", "third"]).code, 2);
}

#[test]
fn nothing_recorded_is_an_error() {
    check(
        &Sandbox::new(),
        &[],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: there is no NVIDIA driver here, and no machine is recorded

        hint: a `gpupin.lock` beside the policy or above the working directory records them; `--lock` names another
    "#]],
    );
}

#[test]
fn the_lock_file_is_found_above() {
    let sandbox = project().file("a/b/x.py", "");
    assert_eq!(sandbox.gpupin_in("a/b", &["which"]).code, 0);
}

#[test]
fn a_variable_without_a_say_is_told() {
    let outcome = project().gpupin(&["which", "--env", "CUDA_VISABLE_DEVICES=1"]);
    assert!(outcome.err.contains("`CUDA_VISABLE_DEVICES` has no say"), "{}", outcome.err);
}

#[test]
fn a_scene_is_asked_and_marked() {
    let scene = include_str!("../../../../scenes/mixed.toml");
    let sandbox = project().file("mixed.toml", scene);
    let args = ["--machine", "mixed.toml", "--env", "CUDA_VISIBLE_DEVICES=GPU-8932"];
    check(
        &sandbox,
        &args,
        &expect![[r#"
        exit code: 0
        ----- stdout
        `workstation` as scene `mixed.toml` tells; everything here is simulated
        CUDA_VISIBLE_DEVICES=GPU-8932 (`--env`)

        CUDA    NVML  GPU                      UUID
        cuda:0  1     RTX 3090 (the policy's)  GPU-8932f937-d72c-4106-c12f-20bd9faed9f6
        hidden  0     RTX 5060 Ti (forbidden)  GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01

        exact: every ordinal is one GPU
          1. `workstation` has 2 GPUs
          2. entry `GPU-8932` is RTX 3090

        not compared with CUDA: a scene has no CUDA
    "#]],
    );
    let schema = include_str!("../../src/reference/which.schema.json");
    let args = [&["which", "--output-format", "json"], args.as_slice()].concat();
    validate(schema, &sandbox.gpupin(&args).json());
}

#[test]
fn a_running_process_is_explained_by_its_environment() {
    let scene = include_str!("../../../../scenes/mixed.toml");
    let sandbox = project().file("mixed.toml", scene);
    let mut child = std::process::Command::new("sleep")
        .arg("600")
        .env("CUDA_VISIBLE_DEVICES", "1")
        .env("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        .env("NVIDIA_VISIBLE_DEVICES", "none")
        .spawn()
        .unwrap();
    let pid = child.id().to_string();
    let asked = ["which", "--machine", "mixed.toml", "--pid", &pid];
    let outcome = sandbox.gpupin(&asked);
    let json = sandbox.gpupin(&[&asked[..], &["--output-format", "json"]].concat()).json();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(outcome.code, 0, "{}", outcome.whole());
    assert!(outcome.out.contains("CUDA_VISIBLE_DEVICES=1 (the process)"), "{}", outcome.whole());
    assert!(outcome.out.contains("what it changed since does not show"), "{}", outcome.whole());
    assert!(outcome.out.contains("the driver sees it on no GPU now"), "{}", outcome.whole());
    validate(include_str!("../../src/reference/which.schema.json"), &json);
    assert_eq!(json["visible"][0]["name"], "RTX 3090");
    assert_eq!(json["process"]["command"], "sleep 600");
}

#[test]
fn cuda_is_asked_the_same_question() {
    let scene = include_str!("../../../../scenes/mixed.toml");
    for (mask, names) in [
        (None, &["RTX 3090", "RTX 5060 Ti"][..]),
        (Some("1"), &["RTX 5060 Ti"]),
        (Some("GPU-8932"), &["RTX 3090"]),
        (Some(""), &[]),
    ] {
        let variable = mask.map(|it| format!("CUDA_VISIBLE_DEVICES={it}"));
        let mut args = vec!["which", "--output-format", "json"];
        args.extend(variable.iter().flat_map(|it| ["--env", it]));
        let (outcome, _) = simulated(scene, &args);
        let json = outcome.json();
        assert_eq!((outcome.code, &json["cuda"]["outcome"]), (0, &"agrees".into()), "{json:#}");
        let devices = json["cuda"]["devices"].as_array().unwrap().iter();
        let found: Vec<_> =
            devices.map(|it| it["name"].as_str().unwrap().replace("NVIDIA GeForce ", "")).collect();
        assert_eq!(found, names, "{mask:?}");
    }
}

#[test]
fn where_cuda_answers_otherwise_it_is_shouted() {
    let scene = include_str!("../../../../scenes/mixed.toml");
    let broken = format!("{scene}\n[[fault]]\nfunction = \"cuInit\"\nreturn = 999\n");
    let (outcome, _) = simulated(&broken, &["which"]);
    assert_eq!(outcome.code, 1, "{}", outcome.whole());
    let shouted = "error: CUDA shows no GPU: `cuInit` fails with CUDA_ERROR_UNKNOWN";
    assert!(outcome.err.contains(shouted), "{}", outcome.whole());
    assert!(outcome.out.contains("CUDA was asked, and answers otherwise"), "{}", outcome.whole());
}

#[test]
fn a_process_that_is_not_there_is_told() {
    let scene = include_str!("../../../../scenes/mixed.toml");
    let sandbox = project().file("mixed.toml", scene);
    check(
        &sandbox,
        &["--machine", "mixed.toml", "--pid", "1073741824"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: there is no process 1073741824

        hint: a container numbers its processes itself: take the number from `gpupin gpus` or `ps` where you ask
    "#]],
    );
}

#[test]
fn json_follows_its_schema() {
    let schema = include_str!("../../src/reference/which.schema.json");
    for args in [&[][..], &["--env", "CUDA_DEVICE_ORDER=PCI_BUS_ID"], &["cuda:0"], &["cuda:5"]] {
        let args = [&["which", "--output-format", "json"], args].concat();
        validate(schema, &project().gpupin(&args).json());
    }
    let file = expect_test::expect_file!["../../../../wire/which.json"];
    file.assert_eq(&project().gpupin(&["which", "--output-format", "json"]).out);
}
