use crate::{report::validate, run::project, sandbox::Outcome};

fn env(args: &[&str]) -> Outcome {
    project().gpupin(&[&["env", "--machine", "state"], args].concat())
}

#[track_caller]
fn check(format: &str, expected: &str) {
    let outcome = env(&["--format", format]);
    let told = "warning: the machine is simulated, and so are its GPUs\n";
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), (expected, told));
}

#[test]
fn every_starter_gets_its_syntax() {
    check(
        "sh",
        "\
export CUDA_DEVICE_ORDER=PCI_BUS_ID
export CUDA_VISIBLE_DEVICES=GPU-8932f937-d72c-4106-c12f-20bd9faed9f6
export A='it'\\''s b'
# simulated: no driver named this GPU
",
    );
    check(
        "systemd",
        "\
Environment=\"CUDA_DEVICE_ORDER=PCI_BUS_ID\"
Environment=\"CUDA_VISIBLE_DEVICES=GPU-8932f937-d72c-4106-c12f-20bd9faed9f6\"
Environment=\"A=it's b\"
# simulated: no driver named this GPU
",
    );
    check(
        "docker",
        "--gpus=device=GPU-8932f937-d72c-4106-c12f-20bd9faed9f6 --env=CUDA_DEVICE_ORDER=PCI_BUS_ID '--env=A=it'\\''s b'\n",
    );
}

#[test]
fn a_value_that_dotenv_readers_disagree_about_is_refused() {
    let outcome = env(&["--format", "dotenv"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (2, ""));
    assert!(outcome.err.contains("do not agree on how to write the value of `A`"), "{outcome:?}");
    let sandbox = project().file("gpupin.toml", "gpu.name = 'RTX 3090'\nenv.A = 'a b'\n");
    let outcome = sandbox.gpupin(&["env", "--machine", "state", "--format", "dotenv"]);
    assert!(
        outcome.out.ends_with("A='a b'\n# simulated: no driver named this GPU\n"),
        "{outcome:?}"
    );
}

#[test]
fn twins_are_told() {
    let sandbox = project().file("gpupin.toml", "gpu.min-vram = '8 GiB'\n");
    let outcome = sandbox.gpupin(&["env", "--machine", "state"]);
    assert!(outcome.err.contains("2 GPUs would do"), "{outcome:?}");
}

#[test]
fn json_follows_its_schema() {
    let json = env(&["--format", "json"]).json();
    validate(include_str!("../../src/reference/env.schema.json"), &json);
    assert_eq!(json["kind"], "simulated");
    assert_eq!(json["variables"][2]["value"], "it's b");
}
