//! What the Python package asks, against the golden files that its own tests read.

use expect_test::expect_file;

use crate::run::project;

#[test]
fn the_pin_is_what_the_package_reads() {
    let sandbox = project().file("tts.py", "").file(
        "gpupin.toml",
        "[gpu]\nname = \"RTX 3090\"\n[env]\nA = \"b\"\n[roles.tts]\nname = \"RTX 5060 Ti\"\nentry-points = [\"tts.py\"]\n",
    );
    let outcome = sandbox.gpupin(&["for-python", "pin", "--machine", "state"]);
    let policy = sandbox.path().canonicalize().unwrap().join("gpupin.toml");
    let text = outcome.out.replace(policy.to_str().unwrap(), "/home/me/assistant/gpupin.toml");
    expect_file!["../../../../wire/python-pin.json"].assert_eq(&text);

    let program = sandbox.path().join("tts.py");
    let args = ["for-python", "pin", "--machine", "state", "--program", program.to_str().unwrap()];
    let of_role = sandbox.gpupin(&args).json();
    assert_eq!((&of_role["role"], &of_role["wanted"]), (&"tts".into(), &"RTX 5060 Ti".into()));
}

#[test]
fn the_mask_of_the_environment_is_compared_with_the_policy() {
    const WANTED: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";
    for (mask, own, expected) in [
        ("", None, "differs"),
        ("0", None, "differs"),
        (WANTED, None, "agrees"),
        (WANTED, Some(WANTED), "run"),
        ("0", Some(WANTED), "differs"),
    ] {
        let mut sandbox = project().variable("CUDA_VISIBLE_DEVICES", mask);
        if let Some(own) = own {
            sandbox = sandbox.variable("GPUPIN_PIN", own);
        }
        let found = sandbox.gpupin(&["for-python", "pin", "--machine", "state"]).json();
        assert_eq!(found["mask"], expected, "{mask} {own:?}");
    }
}

#[test]
fn samples_are_judged() {
    let samples = include_str!("../../../../wire/python-samples.json");
    let outcome = project().gpupin_given(samples, &["for-python", "judge"]);
    expect_file!["../../../../wire/python-verdict.json"].assert_eq(&outcome.out);
    let outcome = project().gpupin_given("{}", &["for-python", "judge"]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.err.contains("missing field `version`"), "{outcome:?}");
}
