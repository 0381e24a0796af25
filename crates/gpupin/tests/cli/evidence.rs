use crate::{
    report::validate,
    run::{OTHER, PINNED, project, run},
    sandbox::Sandbox,
};

/// A project with evidence of two runs.
fn two_runs() -> Sandbox {
    let sandbox = project();
    run(&sandbox, &["--", "sh", "use.sh", PINNED, "0.2"]);
    run(&sandbox, &["--on-violation", "warn", "--", "sh", "use.sh", OTHER, "0.2"]);
    sandbox
}

#[test]
fn runs_are_listed_shown_and_checked() {
    let sandbox = two_runs();
    let list = sandbox.gpupin(&["evidence", "ls"]).out;
    let verdicts: Vec<_> = list.lines().filter_map(|it| it.split_whitespace().nth(1)).collect();
    assert_eq!(verdicts, ["unproved", "violated"], "{list}");
    let shown = sandbox.gpupin(&["evidence", "show"]).out;
    assert!(shown.starts_with("verdict    violated (simulated)\n           process "), "{shown}");
    assert_eq!(shown.matches("used RTX 5060 Ti").count(), 1, "{shown}");
    assert!(shown.contains("(GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01): forbidden"), "{shown}");
    let checked = sandbox.gpupin(&["evidence", "check"]);
    assert_eq!(checked.code, 0, "{checked:?}");

    let json = sandbox.gpupin(&["evidence", "ls", "--output-format", "json"]).json();
    validate(include_str!("../../src/reference/evidence-list.schema.json"), &json);
    for evidence in json["evidence"].as_array().unwrap() {
        validate(include_str!("../../src/reference/evidence.schema.json"), evidence);
    }
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../../../../wire/evidence.json")).unwrap();
    validate(include_str!("../../src/reference/evidence.schema.json"), &golden);
}

#[test]
fn changed_samples_and_changed_policies_are_told() {
    let sandbox = two_runs();
    let json = sandbox.gpupin(&["evidence", "show", "--output-format", "json"]).json();
    let samples = format!(".gpupin/evidence/{}", json["samples"]["file"].as_str().unwrap());
    let text = sandbox.read(&samples).replace(OTHER, PINNED);
    let sandbox = sandbox.file(&samples, text).file("gpupin.toml", "gpu.name = 'RTX 3090'\n");
    let checked = sandbox.gpupin(&["evidence", "check"]);
    assert_eq!(checked.code, 1);
    assert!(checked.out.contains("PROBLEM") && checked.out.contains("SHA-256"), "{checked:?}");
    assert!(checked.out.contains("(the policy has changed since)"), "{checked:?}");
    let json = sandbox.gpupin(&["evidence", "check", "--output-format", "json"]).json();
    validate(include_str!("../../src/reference/evidence-check.schema.json"), &json);
}

#[test]
fn what_is_not_there_is_an_error() {
    let sandbox = project();
    assert_eq!(sandbox.gpupin(&["evidence", "show"]).code, 2);
    assert_eq!(sandbox.gpupin(&["evidence", "check", "nothing"]).code, 2);
    assert_eq!(sandbox.gpupin(&["evidence", "ls"]).code, 0);
    for verb in ["check", "ls", "show"] {
        let outcome = sandbox.gpupin(&["evidence", verb, "--evidence-dir", "typo"]);
        assert_eq!(outcome.code, 2, "{outcome:?}");
        assert!(outcome.err.contains("there is no directory `typo`"), "{outcome:?}");
    }
}

#[test]
fn that_nothing_was_checked_is_said_and_is_an_error_where_the_directory_was_named() {
    let sandbox = project().file("empty/.keep", "");
    let nothing = "nothing was checked: there is no evidence in";
    for (args, code, place) in [
        (&[][..], 0, "warning: nothing was checked: there is no evidence in `.gpupin/evidence`"),
        (&["--output-format", "json"], 0, nothing),
        (
            &["--evidence-dir", "empty"],
            2,
            "error: nothing was checked: there is no evidence in `empty`",
        ),
    ] {
        let outcome = sandbox.gpupin(&[&["evidence", "check"], args].concat());
        assert_eq!(outcome.code, code, "{outcome:?}");
        assert!(outcome.err.contains(place), "{outcome:?}");
        assert!(!outcome.out.contains("ok"), "{outcome:?}");
    }
}
