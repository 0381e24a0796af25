//! What a run does when its evidence can no longer be written: it stays with its program.

use super::{OTHER, PINNED, project, run};
use crate::sandbox::{Outcome, Sandbox};

/// Runs a script whose evidence has nowhere to lie any more once it ends. The runner may be writing there just then.
#[track_caller]
fn check(args: &[&str], script: &str, code: i32, words: &[&str]) -> (Sandbox, Outcome) {
    let sandbox = project();
    let script = format!("until rm -rf .gpupin; do :; done; {script}");
    let outcome = run(&sandbox, &[args, &["--", "sh", "-c", &script]].concat());
    assert_eq!(outcome.code, code, "{outcome:?}");
    assert!(words.iter().all(|it| outcome.err.contains(it)), "{outcome:?}");
    (sandbox, outcome)
}

const NONE: &str = "there is no evidence of this run";

#[test]
fn a_good_end_without_evidence_is_none_and_any_other_stays_the_programs() {
    let on_pin = format!("sh use.sh {PINNED} 0.2; exit");
    check(&[], &format!("{on_pin} 0"), 2, &["error: failed to write", NONE]);
    check(&[], &format!("{on_pin} 5"), 5, &["error: failed to write", NONE]);
}

#[test]
fn a_violation_goes_before_evidence_that_cannot_be_written() {
    let killed = format!("sh use.sh {OTHER} 97531; echo not reached");
    let words = ["ending the program", "violated (simulated): process", NONE];
    let (_, outcome) = check(&[], &killed, 76, &words);
    assert_eq!(outcome.out, "");
    let warned = format!("sh use.sh {OTHER} 0.5; echo reached; exit 3");
    let (_, outcome) = check(&["--on-violation", "warn"], &warned, 76, &words[1..]);
    assert_eq!(outcome.out, "reached\n");
}

#[test]
fn verify_counts_a_violation_without_evidence() {
    let script = format!("until rm -rf .gpupin; do :; done; sh use.sh {OTHER} 97533");
    let sandbox = project();
    let args = ["verify", "--machine", "state", "--allow-unproved", "--", "sh", "-c", &script];
    let outcome = sandbox.gpupin(&args);
    assert_eq!(outcome.code, 76, "{outcome:?}");
    assert!(outcome.out.contains("no evidence"), "{outcome:?}");
}

/// A limit on the size of files stands for a disk that is full: the first of evidence and samples that outgrows it fails.
#[track_caller]
fn check_full(blocks: u32, script: &str, code: i32, words: &[&str]) -> (Sandbox, Outcome) {
    let sandbox = project();
    let program = env!("CARGO_BIN_EXE_gpupin");
    let limited = format!(
        "trap '' XFSZ; ulimit -f {blocks}; exec {program} run --machine state -- sh -c '{script}'"
    );
    let outcome = sandbox.run("sh", "", &["-c", &limited]);
    assert_eq!(outcome.code, code, "{outcome:?}");
    assert!(words.iter().all(|it| outcome.err.contains(it)), "{outcome:?}");
    (sandbox, outcome)
}

/// Changes of who uses what, each of which is a line of samples.
fn changes(gpu: &str) -> String {
    format!("for i in 1 2 3 4 5 6 7 8 9; do sh use.sh {PINNED} 0.3; done; sh use.sh {gpu} 0.5")
}

#[test]
fn a_disk_that_fills_up_ends_neither_the_program_nor_the_watch() {
    let on_pin = format!("{}; echo reached; exit", changes(PINNED));
    // In blocks of 512 bytes: the evidence fits, the samples of so many changes do not.
    let lost = "failed to write samples: File too large (os error 27); the program goes on";
    for (end, code) in [("0", 2), ("5", 5)] {
        let script = format!("{on_pin} {end}");
        let (_, outcome) = check_full(8, &script, code, &[lost]);
        assert_eq!(outcome.out, "reached\n", "{outcome:?}");
    }
    let elsewhere = changes(OTHER);
    let (sandbox, _) = check_full(8, &elsewhere, 76, &[lost, "ending the program", "violated"]);
    let files = std::fs::read_dir(sandbox.path().join(".gpupin/evidence")).unwrap();
    let names = files.map(|it| it.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|it| it.contains(".new")).count(), 0);
}

#[test]
fn a_disk_that_is_full_before_the_start_keeps_the_program_from_starting() {
    let (_, outcome) = check_full(1, "echo started", 2, &["failed to write"]);
    assert_eq!(outcome.out, "", "{outcome:?}");
}
