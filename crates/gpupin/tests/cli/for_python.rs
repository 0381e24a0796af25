//! What the Python package asks, against the golden files that its own tests read.

use expect_test::expect_file;

use crate::{
    run::{OTHER, PINNED, project},
    sandbox::Sandbox,
};

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
    for (mask, own, expected) in [
        ("", None, "differs"),
        ("0", None, "differs"),
        (PINNED, None, "agrees"),
        (PINNED, Some(PINNED), "run"),
        ("0", Some(PINNED), "differs"),
        // A run of another role, or without a GPU.
        (OTHER, Some(OTHER), "differs"),
        ("-1", Some("-1"), "differs"),
        // Which GPU that is inside a run is not told.
        ("0", Some("0"), "run"),
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

/// A project with a role and a profile.
fn with_role() -> Sandbox {
    project().file(
        "gpupin.toml",
        "[gpu]\nname = \"RTX 3090\"\n[roles.tts]\nname = \"RTX 5060 Ti\"\n[profiles.ci]\nenv.A = \"ci\"\n",
    )
}

const SHOW: &str = "echo \"$GPUPIN_ROLE|$GPUPIN_PROFILE|$CUDA_VISIBLE_DEVICES|$A\"";

/// Starts a program that shows what it was told.
#[track_caller]
fn check_told(sandbox: &Sandbox, args: &[&str], expected: &str) {
    let outcome = sandbox.gpupin(&[args, &["--", "sh", "-c", SHOW]].concat());
    let shown = if args[0] == "verify" { &outcome.err } else { &outcome.out };
    assert!(shown.lines().any(|it| it == expected), "{args:?}: {outcome:?}");
}

#[test]
fn a_program_is_told_its_role_and_profile() {
    let run = ["run", "--machine", "state", "--no-observe"];
    let hold = ["lease", "hold", "--machine", "state"];
    let verify = ["verify", "--machine", "state"];
    let names = ["--role", "tts", "--profile", "ci"];
    check_told(&with_role(), &run, &format!("||{PINNED}|"));
    check_told(&with_role(), &[&run, &names[..]].concat(), &format!("tts|ci|{OTHER}|ci"));
    check_told(&with_role(), &[&hold[..], &names[..]].concat(), "tts|ci||");
    check_told(&with_role(), &[&verify[..], &names[..]].concat(), &format!("tts|ci|{OTHER}|ci"));
}

#[test]
fn what_a_program_was_told_counts_for_what_it_starts() {
    let inside = || with_role().variable("GPUPIN_ROLE", "tts").variable("GPUPIN_PROFILE", "ci");
    let run = ["run", "--machine", "state", "--no-observe"];
    check_told(&inside(), &run, &format!("tts|ci|{OTHER}|ci"));
    check_told(&inside(), &["verify", "--machine", "state"], &format!("tts|ci|{OTHER}|ci"));
    // An option goes before, and a GPU that is named by its UUID is no role's.
    let inside_profile = with_role().variable("GPUPIN_PROFILE", "no-such");
    let option = [&run, &["--profile", "ci"][..]].concat();
    check_told(&inside_profile, &option, &format!("|ci|{PINNED}|ci"));
    let by_uuid = ["lease", "hold", "--machine", "state", "--gpu", PINNED];
    check_told(&with_role().variable("GPUPIN_ROLE", "no-such"), &by_uuid, "no-such|||");
    // Empty is not set.
    check_told(&with_role().variable("GPUPIN_ROLE", ""), &run, &format!("||{PINNED}|"));
    let shown = inside().gpupin(&["env", "--machine", "state"]).out;
    assert!(shown.ends_with("export GPUPIN_ROLE=tts\nexport GPUPIN_PROFILE=ci\n# simulated: no driver named this GPU\n"), "{shown}");
}

#[test]
fn a_program_that_goes_elsewhere_keeps_the_policy_it_was_started_for() {
    let sandbox = with_role().file("other/gpupin.toml", "gpu.name = \"RTX 5060 Ti\"\n");
    let args = ["run", "--machine", "state", "--no-observe", "--policy", "other/gpupin.toml", "--"];
    let outcome =
        sandbox.gpupin(&[&args[..], &["sh", "-c", "cd /; echo \"$GPUPIN_POLICY\""]].concat());
    let policy = sandbox.path().canonicalize().unwrap().join("other/gpupin.toml");
    assert_eq!(outcome.out.trim(), policy.to_str().unwrap(), "{outcome:?}");
    check_told(
        &sandbox.variable("GPUPIN_POLICY", policy.display().to_string()),
        &args[..4],
        &format!("||{OTHER}|"),
    );
}

#[test]
fn a_name_that_nobody_typed_is_traced_to_the_environment() {
    for (variable, said) in [
        ("GPUPIN_ROLE", "no role is called `no-such`"),
        ("GPUPIN_PROFILE", "no profile `no-such`"),
        ("GPUPIN_POLICY", "failed to read `no-such`"),
    ] {
        let sandbox = with_role().variable(variable, "no-such");
        let outcome = sandbox.gpupin(&["run", "--machine", "state", "--", "true"]);
        assert_eq!(outcome.code, 2, "{outcome:?}");
        let blamed = format!("hint: `{variable}` of the environment names it");
        assert!(outcome.err.contains(said) && outcome.err.contains(&blamed), "{outcome:?}");
    }
}
