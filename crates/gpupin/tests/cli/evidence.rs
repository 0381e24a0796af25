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

/// Changes the last evidence of a project, and returns its name.
fn edit(sandbox: &Sandbox, edit: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut json = sandbox.gpupin(&["evidence", "show", "--output-format", "json"]).json();
    let id = json["id"].as_str().unwrap().to_owned();
    json.as_object_mut().unwrap().remove("problems");
    edit(&mut json);
    std::fs::write(sandbox.path().join(format!(".gpupin/evidence/{id}.json")), json.to_string())
        .unwrap();
    id
}

#[test]
fn who_edits_evidence_is_found_out_wherever_it_is_shown() {
    let sandbox = two_runs();
    let id = edit(&sandbox, |it| {
        it["verdict"] = "proved".into();
        it["reasons"] = serde_json::json!([]);
    });
    let checked = sandbox.gpupin(&["evidence", "check"]);
    assert_eq!(checked.code, 1, "{checked:?}");
    assert!(checked.out.contains(&format!("PROBLEM  {id} proved\n  it was changed: its SHA-256")));
    assert!(checked.out.contains("its samples say violated"), "{checked:?}");
    for verb in ["show", "ls"] {
        let outcome = sandbox.gpupin(&["evidence", verb]);
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.err.contains(" does not check: it was changed"), "{outcome:?}");
        let json = sandbox.gpupin(&["evidence", verb, "--output-format", "json"]);
        assert_eq!(json.code, 1, "{json:?}");
        assert!(json.err.contains(" does not check: it was changed"), "{json:?}");
        assert!(json.out.contains("\"problems\": ["), "{json:?}");
    }
    let shown = sandbox.gpupin(&["evidence", "show"]).out;
    assert!(shown.starts_with("verdict    does not check\n           it was changed"), "{shown}");
    assert!(shown.contains("\nclaims     proved (simulated)\n"), "{shown}");
    let json = sandbox.gpupin(&["evidence", "show", "--output-format", "json"]).json();
    validate(include_str!("../../src/reference/evidence.schema.json"), &json);
    let list = sandbox.gpupin(&["evidence", "ls"]).out;
    assert!(list.contains(&format!("{id:<18} no check ")) && !list.contains(" proved "), "{list}");
    edit(&sandbox, |it| drop(it.as_object_mut().unwrap().remove("sha256")));
    let checked = sandbox.gpupin(&["evidence", "check", &id]);
    assert_eq!(checked.code, 1, "{checked:?}");
    assert!(checked.out.contains("it has no SHA-256 of itself: an earlier gpupin"), "{checked:?}");
}

/// What is told of a project with evidence of two runs, in which this was done to the files, by `check`, `ls` and `show`.
#[track_caller]
fn check_files(change: &str, problem: &str) {
    let sandbox = two_runs();
    assert_eq!(sandbox.run("sh", ".gpupin/evidence", &["-ec", change]).code, 0, "{change}");
    let checked = sandbox.gpupin(&["evidence", "check"]);
    assert_eq!(checked.code, 1, "{change}: {checked:?}");
    let told = checked.out.lines().skip_while(|it| !it.starts_with("PROBLEM")).nth(1);
    assert!(told.is_some_and(|it| it.contains(problem)), "{change}: {checked:?}");
    for verb in ["ls", "show"] {
        let outcome = sandbox.gpupin(&["evidence", verb]);
        assert_eq!(outcome.code, 1, "{change}: {outcome:?}");
        let said = format!("does not check: {problem}");
        assert!(outcome.err.contains(&said), "{change}: {outcome:?}");
    }
}

#[test]
fn evidence_that_is_swapped_vanished_or_there_twice_is_told() {
    let names = "set -- *.json; a=${1%.json} b=${2%.json};";
    let named = "it is the evidence `";
    check_files(&format!("{names} mv $a.json x; mv $b.json $a.json; mv x $b.json"), named);
    check_files(&format!("{names} cp $b.json $b-9.json"), named);
    check_files(&format!("{names} rm $b.json"), "its samples are here, and the evidence is gone");
    check_files(&format!("{names} rm $a.json"), "its samples are here, and the evidence is gone");
}

#[test]
fn the_samples_of_another_run_are_none() {
    let sandbox = two_runs();
    let id = edit(&sandbox, |_| {});
    let samples = sandbox.read(&format!(".gpupin/evidence/{id}.samples.jsonl"));
    let sandbox = sandbox.file(".gpupin/evidence/x.samples.jsonl", samples);
    edit(&sandbox, |it| it["samples"]["file"] = "x.samples.jsonl".into());
    let checked = sandbox.gpupin(&["evidence", "check", &id]);
    assert_eq!(checked.code, 1, "{checked:?}");
    assert!(checked.out.contains("are called as if they were another run's"), "{checked:?}");
}

#[test]
fn a_program_that_changes_its_own_samples_proves_nothing() {
    for change in [
        // What the runner writes later covers the beginning of it.
        "head -c 100000 /dev/zero >>$s",
        "for i in $(seq 9999); do echo '{\"at\":9,\"same\":true}'; done >>$s",
        "rm $s",
        "cp $s x; mv x $s",
        "mv $s x; ln -s \"$PWD/x\" $s",
        "mv .gpupin/evidence elsewhere; mkdir .gpupin/evidence",
    ] {
        let sandbox = project();
        let script = format!(
            "s=$(echo .gpupin/evidence/*.samples.jsonl); sh use.sh {PINNED} 0.2; {change}; sh use.sh {PINNED} 0.2"
        );
        let outcome = run(&sandbox, &["--", "sh", "-c", &script]);
        assert_eq!(outcome.code, 2, "{change}: {outcome:?}");
        assert!(outcome.err.contains("this run proves nothing"), "{change}: {outcome:?}");
        let checked = sandbox.gpupin(&["evidence", "check"]);
        assert_eq!(checked.code, 1, "{change}: {checked:?}");
        let list = sandbox.gpupin(&["evidence", "ls"]).out;
        assert!(list.contains(" unproved "), "{change}: {list}");
    }
}

#[test]
fn that_the_launchers_mask_stayed_is_shown() {
    let sandbox = project();
    let text = sandbox.read("gpupin.toml") + "run.on-outside-pin = \"keep\"\n";
    let sandbox = sandbox.file("gpupin.toml", text).variable("CUDA_VISIBLE_DEVICES", "1,0");
    run(&sandbox, &["--", "true"]);
    let shown = sandbox.gpupin(&["evidence", "show"]).out;
    let kept = "\nkept       the launcher's CUDA_VISIBLE_DEVICES=1,0; gpupin pinned nothing\n";
    assert!(shown.contains(kept), "{shown}");
}

#[test]
fn a_program_that_never_started_has_evidence_that_holds() {
    let sandbox = project();
    assert_eq!(run(&sandbox, &["--", "no-such-program"]).code, 127);
    let checked = sandbox.gpupin(&["evidence", "check"]);
    assert_eq!(checked.code, 0, "{checked:?}");
}

#[test]
fn one_bad_file_keeps_nobody_from_checking_the_others() {
    let sandbox = two_runs();
    let id = edit(&sandbox, |_| {});
    let place = ".gpupin/evidence";
    let mut newer: serde_json::Value =
        serde_json::from_str(&sandbox.read(&format!("{place}/{id}.json"))).unwrap();
    newer["version"] = 2.into();
    let sandbox = sandbox
        .file(&format!("{place}/0-newer.json"), newer.to_string())
        .file(&format!("{place}/0-directory.json/.keep"), "");
    sandbox.run("mkfifo", place, &["0-pipe.json"]);
    sandbox.run("ln", place, &["-s", "nowhere", "0-nowhere.json"]);
    let checked = sandbox.gpupin(&["evidence", "check"]);
    assert_eq!(checked.code, 1, "{checked:?}");
    for (name, why) in [
        ("newer", "has version 2, this gpupin knows 1"),
        ("directory", "it is not a plain file"),
        ("pipe", "it is not a plain file"),
        ("nowhere", "No such file or directory"),
    ] {
        let line =
            checked.out.lines().skip_while(|it| *it != format!("PROBLEM  0-{name} unproved"));
        assert!(line.clone().nth(1).is_some_and(|it| it.contains(why)), "{name}: {checked:?}");
    }
    assert_eq!(checked.out.lines().filter(|it| it.starts_with("ok ")).count(), 2, "{checked:?}");
    assert_eq!(sandbox.gpupin(&["evidence", "ls"]).out.lines().count(), 2);
}

#[test]
fn samples_are_a_plain_file_beside_the_evidence() {
    let sandbox = two_runs();
    let id = edit(&sandbox, |_| {});
    let samples = format!("{id}.samples.jsonl");
    let place = sandbox.path().join(".gpupin/evidence");
    std::fs::rename(place.join(&samples), sandbox.path().join("elsewhere")).unwrap();
    for (program, args) in
        [("mkfifo", &[&*samples][..]), ("ln", &["-s", "../../elsewhere", &samples])]
    {
        assert_eq!(sandbox.run(program, ".gpupin/evidence", args).code, 0);
        let checked = sandbox.gpupin(&["evidence", "check", &id]);
        assert_eq!(checked.code, 1, "{checked:?}");
        let why = format!("its samples `{samples}` cannot be read: it is not a plain file");
        assert!(checked.out.contains(&why), "{checked:?}");
        std::fs::remove_file(place.join(&samples)).unwrap();
    }
    edit(&sandbox, |it| it["samples"]["file"] = "../../elsewhere".into());
    let checked = sandbox.gpupin(&["evidence", "check", &id]);
    assert!(checked.out.contains("are not said to lie beside it"), "{checked:?}");
}

#[test]
fn commands_are_shown_as_a_shell_reads_them() {
    let sandbox = project();
    let long = "x".repeat(100);
    run(&sandbox, &["--", "sh", "-c", "exit 42", &long]);
    let shown = sandbox.gpupin(&["evidence", "show"]).out;
    assert!(shown.contains(&format!("\ncommand    sh -c 'exit 42' {long}\n")), "{shown}");
    let list = sandbox.gpupin(&["evidence", "ls"]).out;
    assert!(list.contains(" sh -c 'exit 42' xxx") && list.ends_with("x…\n"), "{list}");
}

#[test]
fn a_policy_that_is_broken_hides_no_evidence() {
    let sandbox = two_runs().file("below/.keep", "");
    let id = edit(&sandbox, |_| {});
    for (name, text) in [("gpupin.toml", "gpu.nme = 1\n"), ("gpupin.lock", "version = 9\n")] {
        let before = std::fs::read(sandbox.path().join(name)).ok();
        std::fs::write(sandbox.path().join(name), text).unwrap();
        for args in [&["ls"][..], &["show"], &["check"], &["show", &id]] {
            let outcome = sandbox.gpupin_in("below", &[&["evidence"], args].concat());
            // The edit made other bytes of it, and no other text.
            assert_eq!(outcome.code, 0, "{name}: {args:?}: {outcome:?}");
            assert!(
                outcome.out.contains(&id) || args[0] == "show",
                "{name}: {args:?}: {outcome:?}"
            );
            let warned = "warning: what the project declares does not count: ";
            assert!(outcome.err.starts_with(warned), "{name}: {args:?}: {outcome:?}");
        }
        let _ = before.map(|it| std::fs::write(sandbox.path().join(name), it).unwrap());
    }
    let sandbox = project().file("gpupin.toml", "gpu.nme = 1\n");
    let hold = ["lease", "hold", "--machine", "state", "--gpu", PINNED, "--", "echo", "held"];
    let held = sandbox.gpupin(&hold);
    assert_eq!((held.code, held.out.as_str()), (0, "held\n"), "{held:?}");
    assert_eq!(sandbox.gpupin(&["lease", "hold", "--machine", "state", "--", "true"]).code, 2);
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
