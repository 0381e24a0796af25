use std::{fs, io::Write as _, path::Path};

use gpupin_device::Kind;

use super::{
    Evidence, GpuRecord, IsolationRecord, LeaseRecord, PinRecord, PolicyRef, Problem, Slot, Stored,
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
    assert_eq!(check(&path, &read(&path).unwrap()), []);
}

#[test]
fn a_run_that_was_cut_off_is_unproved() {
    let directory = tempfile::tempdir().unwrap();
    let slot = Slot::take(directory.path(), "1").unwrap();
    slot.write(&evidence(&slot.id)).unwrap();
    let read = read(&slot.path()).unwrap();
    assert_eq!(read.evidence.judgement(), Judgement::unproved(Reason::RunnerEnded));
    assert_eq!(check(&slot.path(), &read), []);
}

#[test]
fn names_are_never_used_twice() {
    let directory = tempfile::tempdir().unwrap();
    let ids: Vec<_> = (0..3).map(|_| Slot::take(directory.path(), "1").unwrap().id).collect();
    assert_eq!(ids, ["1", "1-2", "1-3"]);
    assert_eq!(list(directory.path()).unwrap(), [] as [std::path::PathBuf; 0]);
}

#[test]
fn the_tenth_of_one_second_is_younger_than_the_second() {
    let directory = tempfile::tempdir().unwrap();
    let ids: Vec<_> = (0..11)
        .map(|_| {
            let slot = Slot::take(directory.path(), "261126-082513").unwrap();
            slot.write(&evidence(&slot.id)).unwrap();
            slot.path()
        })
        .collect();
    let slot = Slot::take(directory.path(), "261126-082514").unwrap();
    slot.write(&evidence(&slot.id)).unwrap();
    assert_eq!(list(directory.path()).unwrap(), [ids, vec![slot.path()]].concat());
}

#[test]
fn claims_that_the_samples_do_not_bear_out_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = finished(directory.path());
    // As if whoever edited it had hashed it again.
    let claims = |edit: &dyn Fn(&mut Evidence)| {
        let mut stored = read(&path).unwrap();
        edit(&mut stored.evidence);
        check(&path, &stored)
    };
    assert_eq!(claims(&|_| {}), []);
    let lie = claims(&|it| {
        (it.verdict, it.reasons) = (Verdict::Unproved, vec![Reason::NoGpuUseSeen]);
    });
    assert!(matches!(lie[..], [Problem::Verdict { found: Verdict::Proved, .. }]), "{lie:?}");
    let contradicts = claims(&|it| it.verdict = Verdict::Violated);
    assert_eq!(contradicts[0], Problem::Reasons { claimed: Verdict::Violated });
    let origins: [&dyn Fn(&mut Evidence); 3] =
        [&|it| it.kind = Kind::Measured, &|it| it.source = "NVML 13.580.65.06".to_owned(), &|it| {
            it.command = vec!["true".to_owned()];
        }];
    for edit in origins {
        assert_eq!(claims(edit), [Problem::Origin]);
    }
    let pinned = Problem::Setting { what: "pinned" };
    let isolated = Problem::Setting { what: "isolated" };
    assert_eq!(claims(&|it| it.gpus[1].pinned = false)[0], pinned);
    assert_eq!(claims(&|it| it.setting.pinned.clear())[0], pinned);
    assert_eq!(claims(&|it| it.gpus[0].isolated = false), [isolated]);
    let counts: [&dyn Fn(&mut Evidence); 2] =
        [&|it| it.samples.as_mut().unwrap().samples = 3, &|it| {
            it.samples.as_mut().unwrap().records = 9;
        }];
    for edit in counts {
        assert_eq!(claims(edit), [Problem::Count { records: 8, samples: 2 }]);
    }
    let uses: [&dyn Fn(&mut Evidence); 7] = [
        &|it| it.processes.clear(),
        &|it| it.processes.push(it.processes[0].clone()),
        &|it| it.processes[0].tree = false,
        &|it| it.processes[0].process.pid = 8,
        &|it| it.processes[0].first_ms = 0,
        &|it| it.processes[0].last_ms = 75,
        &|it| it.processes[0].peak_memory = None,
    ];
    for edit in uses {
        assert_eq!(claims(edit), [Problem::Processes]);
    }
    for name in ["/etc/passwd", "../a", ".", "..", "", "a/b"] {
        let elsewhere = claims(&|it| it.samples.as_mut().unwrap().file = name.to_owned());
        assert_eq!(elsewhere, [Problem::SamplesElsewhere { file: name.to_owned() }]);
    }
    assert_eq!(claims(&|it| it.samples = None), [Problem::NoSamples]);
}

#[test]
fn changed_samples_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = finished(directory.path());
    let samples = path.with_file_name("261126-082513.samples.jsonl");
    let original = fs::read_to_string(&samples).unwrap();
    let problems = || check(&path, &read(&path).unwrap());
    fs::write(&samples, original.replace("\"at\":75", "\"at\":76")).unwrap();
    assert!(matches!(problems()[..], [Problem::Hash { .. }]));
    for added in ["{\"at\":9,\"sometime\":true}\n", "{\"at\":9,\"same\":true,\"more\":1}\n"] {
        fs::write(&samples, original.clone() + added).unwrap();
        assert!(matches!(problems()[..], [Problem::Line { number: 9, .. }]), "{added}");
    }
    fs::write(&samples, original.clone() + "{\"at\":9,\"same\":true}\n").unwrap();
    assert!(matches!(problems()[..], [Problem::Hash { .. }]));
    fs::write(&samples, "{}\n").unwrap();
    assert!(matches!(problems()[..], [Problem::Line { number: 1, .. }]));
    fs::remove_file(&samples).unwrap();
    assert!(matches!(problems()[..], [Problem::SamplesMissing { .. }]));
    let elsewhere = directory.path().join("elsewhere");
    fs::write(&elsewhere, &original).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &samples).unwrap();
    assert!(matches!(problems()[..], [Problem::SamplesUnreadable { .. }]));
}

#[test]
fn every_edit_of_the_file_is_found() {
    fn leaves(value: &mut serde_json::Value, edit: &mut dyn FnMut(&mut serde_json::Value)) {
        match value {
            serde_json::Value::Array(items) if !items.is_empty() => {
                for it in items {
                    leaves(it, edit);
                }
            }
            serde_json::Value::Object(fields) => {
                for it in fields.values_mut() {
                    leaves(it, edit);
                }
            }
            leaf => edit(leaf),
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = finished(directory.path());
    let original: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut count = 0;
    leaves(&mut original.clone(), &mut |_| count += 1);
    for index in 0..count {
        let (mut edited, mut at) = (original.clone(), 0);
        leaves(&mut edited, &mut |leaf| {
            if at == index {
                *leaf = match leaf.take() {
                    serde_json::Value::Bool(it) => (!it).into(),
                    serde_json::Value::Number(it) => (it.as_u64().unwrap() + 1).into(),
                    serde_json::Value::Null => "x".into(),
                    _ => serde_json::Value::Null,
                };
            }
            at += 1;
        });
        fs::write(&path, edited.to_string()).unwrap();
        let found = read(&path).map(|it| check(&path, &it));
        assert!(found.is_err() || found.is_ok_and(|it| !it.is_empty()), "{edited}");
    }
    let mut older = original.clone();
    older.as_object_mut().unwrap().remove("sha256");
    fs::write(&path, older.to_string()).unwrap();
    let stored = read(&path).unwrap();
    assert_eq!(check(&path, &stored), [Problem::NoOwnHash]);
    // What it looks like does not count.
    fs::write(&path, original.to_string()).unwrap();
    let stored: Stored = read(&path).unwrap();
    assert_eq!(check(&path, &stored), []);
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
