//! The program as its users meet it: one file per verb, one for the formats of reports, one each
//! for `scan --order`, `--since` and `--staged`, two for how files are written and what a crash leaves, one for many processes at the lease queue, and one for the
//! example project. [`sandbox`] and [`editor`] are what the tests work with.
//!
//! These tests show wiring and words. What a rule finds is shown in `gpupin-lint`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod completions;
mod crash;
mod debug;
mod doctor;
mod editor;
mod env;
mod evidence;
mod example;
mod fix;
mod for_python;
mod gpus;
mod history;
mod hook;
mod init;
mod journal;
mod lease;
mod lock;
mod lsp;
mod order;
mod report;
mod rule;
mod rules;
mod run;
mod sandbox;
mod scan;
mod serve;
mod sim;
mod since;
mod staged;
mod stress;
mod undo;
mod verify;
mod watch;
mod which;
mod writing;

#[test]
fn every_verb_has_a_file() {
    let stems = |directory: &str| -> Vec<String> {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        let mut stems: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|it| it.unwrap().path())
            // Parts of a verb lie in a directory of its own.
            .filter(|it| it.is_file())
            .map(|it| it.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        stems.sort();
        stems
    };
    let mut expected = stems("src/commands");
    let others = [
        "crash", "editor", "example", "main", "order", "report", "sandbox", "since", "staged",
        "stress", "writing",
    ];
    expected.extend(others.map(str::to_owned));
    expected.sort();
    assert_eq!(stems("tests/cli"), expected);
}
