use std::{fs, io::Write as _, path::Path};

use gpupin_device::Kind;

use super::{
    Evidence, GpuRecord, IsolationRecord, LeaseRecord, PinRecord, PolicyRef, Problem, Slot,
    VERSION, check, list, read,
};
use crate::{
    observe::{
        Judgement, Observed, Place, Reason, Setting, Use, Verdict,
        record::{GpuSample, Kin, List, Named, Record, Seen, What},
    },
    process::ProcessId,
    supervise::Ended,
};

const PINNED: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";
const OTHER: &str = "GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01";

fn evidence(id: &str) -> Evidence {
    let gpu = |uuid: &str, name: &str, pinned| GpuRecord {
        uuid: uuid.parse().unwrap(),
        name: name.to_owned(),
        pinned,
        forbidden: !pinned,
        isolated: !pinned,
    };
    Evidence {
        version: VERSION,
        id: id.to_owned(),
        tool: "gpupin 0.1.0".to_owned(),
        verdict: Verdict::Unproved,
        reasons: vec![Reason::RunnerEnded],
        kind: Kind::Simulated,
        source: "scene `mixed`".to_owned(),
        host: "workstation".to_owned(),
        driver: Some("580.65.06".to_owned()),
        policy: PolicyRef {
            path: Some("gpupin.toml".to_owned()),
            sha256: Some("0".repeat(64)),
            profile: None,
            role: None,
        },
        command: vec!["python".to_owned(), "train.py".to_owned()],
        pin: PinRecord {
            as_: "uuid".to_owned(),
            kept: None,
            variables: vec![("CUDA_VISIBLE_DEVICES".to_owned(), PINNED.to_owned())],
        },
        gpus: vec![gpu(OTHER, "RTX 5060 Ti", false), gpu(PINNED, "RTX 3090", true)],
        lease: LeaseRecord::Held { waited_ms: 12 },
        isolation: IsolationRecord {
            requested: true,
            achieved: vec!["landlock".to_owned()],
            refused: Vec::new(),
        },
        processes: Vec::new(),
        started: "2026-11-26T08:25:13Z".to_owned(),
        ended: None,
        exit: None,
        setting: Setting {
            pinned: vec![Place { gpu: PINNED.parse().unwrap(), instance: None }],
            isolated: vec![Named(OTHER.parse().unwrap())],
            own_pid_namespace: false,
        },
        samples: None,
    }
}

fn records() -> Vec<Record> {
    let seen =
        Seen { pid: 7, started: Some(100), kin: Kin::Tree, memory: Some(1 << 30), instance: None };
    let sample = |uuid: &str, compute| GpuSample {
        gpu: uuid.parse().unwrap(),
        compute: List::Is(compute),
        graphics: List::Is(vec![]),
        mps: List::Silent { silent: "not supported".to_owned(), inapplicable: true },
    };
    let gpus = [OTHER, PINNED].map(|it| Named(it.parse().unwrap())).to_vec();
    let whats = [
        What::Run(evidence("").origin()),
        What::Inventory(gpus.clone()),
        What::Accounting(vec![]),
        What::Gpus(vec![sample(OTHER, vec![]), sample(PINNED, vec![seen])]),
        What::Same(true),
        What::Inventory(gpus),
        What::Accounting(vec![]),
        What::End(true),
    ];
    (0..).zip(whats).map(|(at, what)| Record { at: at * 25, what }).collect()
}

fn text(records: &[Record]) -> String {
    let line = |it: &Record| serde_json::to_string(it).unwrap() + "\n";
    records.iter().map(line).collect()
}

/// Writes what a run leaves that proved something.
fn finished(directory: &Path) -> std::path::PathBuf {
    let slot = Slot::take(directory, "261126-082513").unwrap();
    let mut evidence = evidence(&slot.id);
    slot.write(&evidence).unwrap();
    let text = text(&records());
    slot.sink().unwrap().write_all(text.as_bytes()).unwrap();
    let used = Use {
        process: ProcessId { pid: 7, started: 100 },
        command: "python train.py".to_owned(),
        gpu: PINNED.parse().unwrap(),
        is_tree: true,
        first: std::time::Duration::from_millis(75),
        last: std::time::Duration::from_millis(100),
        peak_memory: Some(gpupin_policy::Bytes::new(1 << 30)),
    };
    evidence.observed(&Observed {
        judgement: Judgement { verdict: Verdict::Proved, reasons: vec![] },
        uses: vec![used],
        records: 8,
        samples: 2,
        sha256: super::hex(&<sha2::Sha256 as sha2::Digest>::digest(text.as_bytes())),
    });
    evidence.ended = Some("2026-11-26T08:26:13Z".to_owned());
    evidence.exit = Some(Ended::Code(0));
    slot.write(&evidence).unwrap();
    slot.path()
}

#[test]
fn what_is_written_is_what_the_golden_files_say() {
    let directory = tempfile::tempdir().unwrap();
    let path = finished(directory.path());
    let golden = expect_test::expect_file!["../../../../wire/evidence.json"];
    golden.assert_eq(&fs::read_to_string(&path).unwrap());
    let golden = expect_test::expect_file!["../../../../wire/evidence.samples.jsonl"];
    let samples = path.with_file_name("261126-082513.samples.jsonl");
    golden.assert_eq(&fs::read_to_string(samples).unwrap());
    assert_eq!(check(&path, &read(&path).unwrap()).unwrap(), []);
}

#[test]
fn a_run_that_was_cut_off_is_unproved() {
    let directory = tempfile::tempdir().unwrap();
    let slot = Slot::take(directory.path(), "1").unwrap();
    slot.write(&evidence(&slot.id)).unwrap();
    let read = read(&slot.path()).unwrap();
    assert_eq!(read.judgement(), Judgement::unproved(Reason::RunnerEnded));
    assert_eq!(check(&slot.path(), &read).unwrap(), []);
}

#[test]
fn names_are_never_used_twice() {
    let directory = tempfile::tempdir().unwrap();
    let ids: Vec<_> = (0..3).map(|_| Slot::take(directory.path(), "1").unwrap().id).collect();
    assert_eq!(ids, ["1", "1-2", "1-3"]);
    assert_eq!(list(directory.path()).unwrap(), [] as [std::path::PathBuf; 0]);
}

#[test]
fn changes_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = finished(directory.path());
    let samples = path.with_file_name("261126-082513.samples.jsonl");
    let original = fs::read_to_string(&samples).unwrap();
    let problems = |samples_text: &str, verdict: Verdict| {
        fs::write(&samples, samples_text).unwrap();
        let mut evidence = read(&path).unwrap();
        evidence.verdict = verdict;
        check(&path, &evidence).unwrap()
    };
    assert_eq!(problems(&original, Verdict::Proved), []);
    let moved = original.replace("\"at\":75", "\"at\":76");
    assert!(matches!(problems(&moved, Verdict::Proved)[..], [Problem::Hash { .. }]));
    let lie = problems(&original, Verdict::Violated);
    assert!(matches!(lie[..], [Problem::Verdict { found: Verdict::Proved, .. }]), "{lie:?}");
    let read_back = read(&path).unwrap();
    let claims = [
        Evidence { kind: Kind::Measured, ..read_back.clone() },
        Evidence { source: "NVML 13.580.65.06".to_owned(), ..read_back.clone() },
        Evidence { command: vec!["true".to_owned()], ..read_back },
    ];
    for claim in claims {
        assert_eq!(check(&path, &claim).unwrap(), [Problem::Origin]);
    }
    let broken = problems("{}\n", Verdict::Proved);
    assert!(matches!(broken[..], [Problem::Line { number: 1, .. }]), "{broken:?}");
    fs::remove_file(&samples).unwrap();
    let evidence = read(&path).unwrap();
    assert!(matches!(check(&path, &evidence).unwrap()[..], [Problem::SamplesMissing { .. }]));
    let none = Evidence { samples: None, ..evidence };
    assert_eq!(check(&path, &none).unwrap(), [Problem::NoSamples]);
}

#[test]
fn what_a_newer_gpupin_wrote_is_not_guessed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.json");
    for (text, expected) in [
        (r#"{"version": 2, "new": 1}"#, "has version 2, this gpupin knows 1"),
        (r#"{"version": 1}"#, "is no evidence: missing field `id`"),
        ("x", "is no evidence"),
    ] {
        fs::write(&path, text).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
