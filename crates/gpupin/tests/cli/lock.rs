use expect_test::{Expect, expect};

use crate::{
    gpus::{scenes, simulated},
    sandbox::Sandbox,
};

const OTHER: &str = r#"version = 1

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

#[track_caller]
fn check(sandbox: &Sandbox, args: &[&str], expected: &Expect) {
    expected.assert_eq(&sandbox.gpupin(&[&["lock"], args].concat()).whole());
}

#[test]
fn a_machine_is_added_and_the_others_stay() {
    let sandbox = Sandbox::new().file("gpupin.lock", OTHER);
    check(
        &sandbox,
        &["--machine", "mixed", "--check"],
        &expect![[r#"
        exit code: 1
        ----- stdout
        `workstation` is new
        index 0: RTX 5060 Ti (GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01) is new
        index 1: RTX 3090 (GPU-8932f937-d72c-4106-c12f-20bd9faed9f6) is new
        ----- stderr
        `gpupin.lock` is wrong about `workstation`; `gpupin lock` records it anew
    "#]],
    );
    assert_eq!(sandbox.read("gpupin.lock"), OTHER);
    check(
        &sandbox,
        &["--machine", "mixed"],
        &expect![[r#"
        exit code: 0
        ----- stdout
        `workstation` is new
        index 0: RTX 5060 Ti (GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01) is new
        index 1: RTX 3090 (GPU-8932f937-d72c-4106-c12f-20bd9faed9f6) is new
        ----- stderr
        recorded `workstation`, which is simulated, in `gpupin.lock`, as scene `mixed` tells
    "#]],
    );
    let text = sandbox.read("gpupin.lock");
    assert!(text.starts_with(OTHER) && text.contains("host = \"workstation\""), "{text}");
    check(
        &sandbox,
        &["--machine", "mixed", "--check"],
        &expect![[r#"
        exit code: 0
        ----- stderr
        `gpupin.lock` is right about `workstation`
    "#]],
    );
    check(
        &sandbox,
        &["--machine", "mixed"],
        &expect![[r#"
        exit code: 0
        ----- stderr
        `gpupin.lock` is right about `workstation`
    "#]],
    );
    assert_eq!(sandbox.read("gpupin.lock"), text);
    let names: Vec<_> = std::fs::read_dir(sandbox.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn what_a_scene_said_is_marked_wherever_it_is_used() {
    let sandbox = Sandbox::new()
        .file("gpupin.toml", "gpu.name = \"RTX 3090\"\n")
        .file("main.py", "import torch\ntorch.zeros(1, device=\"cuda:1\")\n");
    assert_eq!(sandbox.gpupin(&["lock", "--machine", "mixed"]).code, 0);
    let text = sandbox.read("gpupin.lock");
    assert!(text.contains("host = \"workstation\"\nkind = \"simulated\"\n"), "{text}");
    let which = sandbox.gpupin(&["which", "--recorded"]);
    assert!(which.out.contains("and the recorded one is simulated"), "{}", which.whole());
    let which = sandbox.gpupin(&["which", "--recorded", "--output-format", "json"]).json();
    assert_eq!((&which["source"], &which["kind"]), (&"recorded".into(), &"simulated".into()));
    for args in [&["scan", "main.py"][..], &["fix", "--diff", "main.py"]] {
        let err = sandbox.gpupin(args).err;
        let told = err.matches("the lock file's machine `workstation` is simulated").count();
        assert_eq!(told, 1, "{args:?}: {err}");
    }
    // The same GPUs, by somebody's word: that they are a scene's is a change.
    let sandbox = sandbox.file("gpupin.lock", text.replace("kind = \"simulated\"\n", ""));
    let checked = sandbox.gpupin(&["lock", "--machine", "mixed", "--check"]);
    assert_eq!(checked.out, "`workstation` is simulated and was measured\n");
    assert_eq!(checked.code, 1);
    let measured = sandbox.read("gpupin.lock");
    check(
        &sandbox,
        &["--machine", "mixed"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: `gpupin.lock` records the real `workstation`, which a simulated one would replace

        hint: `--force` replaces it
    "#]],
    );
    assert_eq!(sandbox.read("gpupin.lock"), measured);
    assert_eq!(sandbox.gpupin(&["lock", "--machine", "mixed", "--force"]).code, 0);
    assert_eq!(sandbox.read("gpupin.lock"), text);
}

#[test]
fn what_changed_is_told() {
    let (_, scene) = scenes().into_iter().find(|it| it.0 == "mixed").unwrap();
    let sandbox = Sandbox::new().file("scene.toml", &scene);
    assert_eq!(sandbox.gpupin(&["lock", "--machine", "scene.toml"]).code, 0);
    let mut parts: Vec<_> = scene.split("[[gpu]]").collect();
    parts.swap(1, 2);
    let swapped = parts.join("\n[[gpu]]").replace("580.65.06", "580.95.05");
    let sandbox = sandbox.file("scene.toml", swapped);
    check(
        &sandbox,
        &["--machine", "scene.toml", "--check"],
        &expect![[r#"
        exit code: 1
        ----- stdout
        index 0: RTX 3090 (GPU-8932f937-d72c-4106-c12f-20bd9faed9f6) was index 1
        index 1: RTX 5060 Ti (GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01) was index 0
        driver 580.95.05 was 580.65.06
        ----- stderr
        `gpupin.lock` is wrong about `workstation`; `gpupin lock` records it anew
    "#]],
    );
}

#[test]
fn the_lock_file_lies_beside_the_policy() {
    let sandbox = Sandbox::new().file("gpupin.toml", "gpu.name = \"RTX 3090\"\n").file("a/b", "");
    assert_eq!(sandbox.gpupin_in("a", &["lock", "--machine", "mixed"]).code, 0);
    assert!(sandbox.path().join("gpupin.lock").is_file());
}

#[test]
fn a_simulated_driver_is_recorded_on_purpose_only() {
    let (_, scene) = scenes().into_iter().find(|it| it.0 == "mixed").unwrap();
    let (outcome, sandbox) = simulated(&scene, &["lock"]);
    assert_eq!(outcome.code, 2, "{}", outcome.whole());
    assert!(outcome.err.contains("this machine is simulated"), "{}", outcome.whole());
    assert!(!sandbox.path().join("gpupin.lock").exists());
}

#[test]
fn what_is_not_known_is_not_recorded() {
    for (scene, code) in [("lost", 2), ("no-gpu", 2), ("no-driver", 2)] {
        let sandbox = Sandbox::new();
        let outcome = sandbox.gpupin(&["lock", "--machine", scene]);
        assert_eq!(outcome.code, code, "{scene}: {}", outcome.whole());
        assert!(!sandbox.path().join("gpupin.lock").exists());
    }
}
