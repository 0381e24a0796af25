use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
};

use expect_test::expect;
use gpupin_device::{
    Machine as _,
    scene::{BUILT_IN, SceneMachine},
};

use crate::sandbox::Sandbox;

const GPUPIN: &str = env!("CARGO_BIN_EXE_gpupin");
const LARGE: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";
const SMALL: &str = "GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01";

#[test]
fn every_scene_can_be_listed_and_printed() {
    let sandbox = Sandbox::new();
    let listed = sandbox.gpupin(&["sim", "--list"]);
    let names: Vec<_> = listed.out.lines().filter_map(|it| it.split_whitespace().next()).collect();
    assert_eq!(names, BUILT_IN.iter().map(|it| it.0).collect::<Vec<_>>());
    assert!(listed.out.lines().all(|it| it.split_whitespace().count() > 4), "{}", listed.out);
    for (name, text) in BUILT_IN {
        assert_eq!(sandbox.gpupin(&["sim", "--print", name]).out, *text);
    }
}

#[test]
fn the_command_decides_the_exit_code() {
    let sandbox = Sandbox::new().variable("PATH", std::env::var("PATH").unwrap());
    let check = |args: &[&str], code| {
        let outcome = sandbox.gpupin(&[&["sim"], args].concat());
        assert_eq!(outcome.code, code, "{}", outcome.whole());
        outcome
    };
    let outcome = check(&["--", "sh", "-c", "exit 7"], 7);
    assert!(outcome.err.starts_with("simulated: `sh` runs on the machine of a scene"));
    check(&["--", "sh", "-c", "kill -9 $$"], 137);
    assert!(check(&["--", "no-such-command"], 127).err.contains("was not found"));
    let unknown = check(&["--scene", "mixd", "--", "true"], 2);
    assert!(unknown.err.contains("hint: name a file, or one of accounting"), "{}", unknown.err);
    check(&["--scene", "mixed"], 2);
}

#[test]
fn a_kept_state_is_made_of_any_scene_and_keeps_it() {
    let sandbox = Sandbox::new();
    let keep = |scene: &[&str]| {
        let args = [&["sim", "--keep-state", "state"], scene, &["--", "/bin/true"]].concat();
        sandbox.gpupin(&args)
    };
    assert_eq!(keep(&["--scene", "twin-3090"]).code, 0);
    assert_eq!(sandbox.read("state/scene.toml"), scene("twin-3090"));
    assert_eq!(keep(&[]).code, 0);
    let refused = keep(&["--scene", "mixed"]);
    assert_eq!(refused.code, 2);
    let said = refused.err.replace(sandbox.path().to_str().unwrap(), "…");
    expect![[r#"
        error: `…/state` has a state already, so `--scene mixed` cannot be its scene

        hint: leave `--scene` out to go on from it, name another directory, or edit `…/state/scene.toml`
    "#]].assert_eq(&said);
    assert_eq!(sandbox.read("state/scene.toml"), scene("twin-3090"));
}

#[test]
fn a_library_of_another_build_is_told() {
    let library = Path::new(GPUPIN).with_file_name("deps").join(gpupin_sim::LIBRARY);
    let mut bytes = fs::read(library).unwrap();
    let name = b"gpupin_sim_build_";
    let places: Vec<_> =
        bytes.windows(name.len()).enumerate().filter(|it| it.1 == name).map(|it| it.0).collect();
    for at in places {
        let digit = &mut bytes[at + name.len()];
        *digit = if *digit == b'0' { b'1' } else { b'0' };
    }
    let sandbox = Sandbox::new();
    fs::write(sandbox.path().join("other.so"), bytes).unwrap();
    let sandbox = sandbox.variable("GPUPIN_SIM_LIBRARY", "other.so");
    let outcome = sandbox.gpupin(&["sim", "--", "/bin/true"]);
    assert_eq!(outcome.code, 2, "{}", outcome.whole());
    expect![[r#"
        error: `other.so` was built from other sources than this program

        hint: build both with `cargo build -p gpupin -p gpupin-sim`, or say with `GPUPIN_SIM_LIBRARY` where the library of this build lies
    "#]].assert_eq(&outcome.err);
}

fn scene(name: &str) -> &'static str {
    BUILT_IN.iter().find(|it| it.0 == name).unwrap().1
}

/// Prints the UUID of the GPU that a program uses in this environment of the scene `mixed`.
#[track_caller]
fn check_gpu(variables: &[&str], ordinal: &str, expected: &str) {
    let sandbox = Sandbox::new();
    let use_gpu = ["debug", "use-gpu", "--seconds", "0", "--ordinal", ordinal];
    let args = [&["sim", "--", "/usr/bin/env"], variables, &[GPUPIN], &use_gpu].concat();
    let outcome = sandbox.gpupin(&args);
    assert_eq!(outcome.out.trim_end(), expected, "{}", outcome.whole());
}

#[test]
fn a_program_gets_the_gpu_that_order_and_mask_leave_it() {
    check_gpu(&[], "0", LARGE);
    check_gpu(&["CUDA_DEVICE_ORDER=PCI_BUS_ID"], "0", SMALL);
    check_gpu(&["CUDA_VISIBLE_DEVICES=1"], "0", SMALL);
    check_gpu(&["CUDA_VISIBLE_DEVICES=1", "CUDA_DEVICE_ORDER=PCI_BUS_ID"], "0", LARGE);
    check_gpu(&["CUDA_VISIBLE_DEVICES=GPU-8932"], "0", LARGE);
    check_gpu(&["CUDA_VISIBLE_DEVICES=GPU-8932"], "1", "");
    check_gpu(&["CUDA_VISIBLE_DEVICES="], "0", "");
}

#[test]
fn a_program_is_on_its_gpu_until_it_ends() {
    let sandbox = Sandbox::new();
    let state = sandbox.path().join("state");
    let use_gpu = [GPUPIN, "debug", "use-gpu", "--memory", "1 GiB", "--seconds", "60"];
    let args = [&["sim", "--keep-state", "state", "--"][..], &use_gpu].concat();
    let mut sim =
        sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(sim.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), LARGE);

    let machine = SceneMachine::open(&state).unwrap();
    let uuid = LARGE.parse().unwrap();
    let processes = machine.usage(&uuid).compute.unwrap();
    let [process] = processes.as_slice() else { panic!("{processes:?}") };
    // The context takes 256 MiB.
    assert_eq!(process.memory.clone().unwrap().get(), (1 << 30) + (256 << 20));
    assert!(machine.usage(&SMALL.parse().unwrap()).compute.unwrap().is_empty());

    // The simulation passes it on to the program.
    let sim_id = rustix::process::Pid::from_child(&sim);
    rustix::process::kill_process(sim_id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(sim.wait().unwrap().code(), Some(128 + 15));
    assert!(machine.usage(&uuid).compute.unwrap().is_empty());
}

#[test]
fn the_processes_of_a_scene_are_real_ones_with_their_words() {
    let sandbox = Sandbox::new();
    let listed = "for f in \"$GPUPIN_SIM\"/processes/*; do b=\"${f##*/}\"; tr '\\0' ' ' < /proc/${b%-*}/cmdline; echo; done";
    let outcome = sandbox.gpupin(&[
        "sim",
        "--scene",
        "busy",
        "--",
        "/bin/sh",
        "-c",
        &format!("PATH=/usr/bin:/bin; {listed}"),
    ]);
    let mut lines: Vec<_> = outcome.out.lines().map(str::trim_end).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "Xorg :0",
            "python evaluate.py",
            "python serve.py --port 8000",
            "python train.py --epochs 10",
            "python transcribe.py"
        ],
        "{}",
        outcome.whole()
    );
}

#[test]
fn state_that_is_kept_goes_on() {
    let sandbox = Sandbox::new();
    let outcome = sandbox.gpupin(&["sim", "--keep-state", "state", "--", "/bin/true"]);
    assert_eq!(outcome.code, 0, "{}", outcome.whole());
    let path = Path::new("state/scene.toml");
    let text = sandbox.read("state/scene.toml");
    let lost = text.replacen("fans =", "lost = true\nfans =", 2);
    fs::write(sandbox.path().join(path), lost).unwrap();
    let use_gpu = [GPUPIN, "debug", "use-gpu", "--seconds", "0"];
    let args = [&["sim", "--keep-state", "state", "--"][..], &use_gpu].concat();
    let outcome = sandbox.gpupin(&args);
    assert_eq!(outcome.code, 2, "{}", outcome.whole());
    assert!(outcome.err.contains("`cuInit` failed with `CUDA_ERROR_NO_DEVICE`"), "{}", outcome.err);
}

#[test]
fn who_is_ended_again_and_again_leaves_nothing_behind() {
    let sandbox = Sandbox::new()
        .file("tmp/.keep", "")
        .variable("PATH", std::env::var("PATH").unwrap())
        .variable("G", env!("CARGO_BIN_EXE_gpupin"));
    let tmp = sandbox.path().join("tmp").display().to_string();
    let sandbox = sandbox.variable("TMPDIR", tmp);
    let script = "$G sim -q -- sh -c 'touch started; exec sleep 600' & \
        until test -e started; do sleep 0.01; done; while kill -TERM $!; do :; done 2>/dev/null; wait $!";
    assert_eq!(sandbox.run("bash", "", &["-c", script]).code, 143);
    let left: Vec<_> = std::fs::read_dir(sandbox.path().join("tmp")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}
