use crate::{
    report::validate,
    run::{OTHER, PINNED, project},
    sandbox::{Outcome, Sandbox},
};

fn with(commands: &[&str]) -> Sandbox {
    let list: Vec<_> = commands.iter().map(|it| format!("{it:?}")).collect();
    let policy = format!("gpu.name = 'RTX 3090'\nverify.commands = [{}]\n", list.join(", "));
    project().file("gpupin.toml", policy)
}

fn verify(sandbox: &Sandbox, args: &[&str]) -> Outcome {
    sandbox.gpupin(&[&["verify", "--machine", "state"], args].concat())
}

#[test]
fn every_script_gets_a_row_and_the_worst_decides() {
    let good = format!("sh use.sh {PINNED} 0.2");
    let bad = format!("sh use.sh {OTHER} 60");
    for (commands, args, code, words) in [
        (
            vec![good.as_str(), "sh -c 'exit 0'"],
            &["--allow-unproved"][..],
            0,
            "unproved (simulated)",
        ),
        (vec![good.as_str()], &[], 1, "only samples tell"),
        (vec![good.as_str(), "sh -c 'exit 3'"], &["--allow-unproved"], 1, "code 3"),
        (vec![bad.as_str(), good.as_str()], &["--allow-unproved", "-j", "2"], 76, "violated"),
        (vec!["no-such-program"], &["--allow-unproved"], 1, "code 127"),
    ] {
        let outcome = verify(&with(&commands), args);
        assert_eq!(outcome.code, code, "{outcome:?}");
        assert!(outcome.out.contains(words), "{outcome:?}");
        assert!(commands.iter().all(|it| outcome.out.contains(it)), "{outcome:?}");
    }
}

#[test]
fn scripts_that_take_too_long_are_ended() {
    let outcome = verify(&with(&["sleep 600"]), &["--allow-unproved", "--script-timeout", "300ms"]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.out.contains("took too long"), "{outcome:?}");
}

#[test]
fn only_what_is_named_is_run() {
    let nothing = verify(&project(), &[]);
    assert_eq!(nothing.code, 2);
    assert!(nothing.err.contains("there is nothing to run"), "{nothing:?}");
    let sandbox = with(&["touch declared"]);
    let outcome = verify(&sandbox, &["--allow-unproved", "--", "touch", "named"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(sandbox.path().join("named").exists() && !sandbox.path().join("declared").exists());
}

#[test]
fn json_follows_its_schema() {
    let outcome = verify(&with(&["true", "echo out"]), &["--output-format", "json"]);
    validate(include_str!("../../src/reference/verify.schema.json"), &outcome.json());
}
