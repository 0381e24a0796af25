//! Files of others, disks that do not play along, and clocks that were wrong.

use std::{env, fs, path::Path, process::Command, time::Duration};

use expect_test::{Expect, expect};
use gpupin_device::Kind;
use rusqlite::Connection;
use rustix::process::{Resource, getrlimit, setrlimit};

use super::{FOREVER, START, ask, machine, moment, open};
use crate::{
    history::{HistoryError, Metric, Range, Reader, Resolution, Retention, Store, StoreState},
    snapshot::ProcessNow,
};

const DAY: u64 = 86_400_000;

/// What opening says, with the path left out.
#[track_caller]
fn check(prepare: impl FnOnce(&Path), expected: &Expect) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    prepare(&path);
    let text = |it: HistoryError| it.to_string().replace(path.to_str().unwrap(), "history.db");
    let written = Store::open(&path, Kind::Measured, &FOREVER).err().map(text);
    let read = Reader::open(&path).err().map(text);
    expected.assert_eq(&format!("{written:?}\n{read:?}"));
}

#[test]
fn what_is_no_history_is_left_alone() {
    check(
        |path| fs::write(path, "a letter, and quite a long one: ".repeat(100)).unwrap(),
        &expect![[r#"
            Some("`history.db` is not a history of gpupin")
            Some("`history.db` is not a history of gpupin")"#]],
    );
    check(
        |path| {
            Connection::open(path).unwrap().execute_batch("CREATE TABLE music (title)").unwrap();
        },
        &expect![[r#"
            Some("`history.db` is not a history of gpupin")
            Some("`history.db` is not a history of gpupin")"#]],
    );
}

#[test]
fn a_newer_version_is_neither_written_nor_read() {
    check(
        |path| {
            drop(open(path, &FOREVER));
            Connection::open(path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
        },
        &expect![[r#"
            Some("`history.db` has version 99, and this gpupin knows up to 1")
            Some("`history.db` has version 99, and this gpupin knows up to 1")"#]],
    );
}

#[test]
fn measured_figures_do_not_get_among_simulated_ones() {
    check(
        |path| drop(open(path, &FOREVER)),
        &expect![[r#"
        Some("`history.db` holds simulated figures, and measured ones must not mix with them")
        None"#]],
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let mut store = Store::open(&path, Kind::Measured, &FOREVER).unwrap();
    let state = store.write(&moment(START, Some(machine()))).clone();
    assert!(matches!(state, StoreState::Failing { dropped: 1, .. }), "{state:?}");
    assert_eq!(ask(&path, "SELECT count(*) FROM samples"), "0\n");
}

#[test]
fn a_history_has_one_writer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let first = open(&path, &FOREVER);
    let second = Store::open(&path, Kind::Simulated, &FOREVER);
    assert!(matches!(second, Err(HistoryError::InUse { .. })), "{second:?}");
    drop(first);
    open(&path, &FOREVER);
}

#[test]
fn a_place_that_cannot_be_written_is_told_and_used_as_soon_as_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let parent = directory.path().join("state");
    fs::write(&parent, "in the way").unwrap();
    let path = parent.join("history.db");
    let mut store = Store::open(&path, Kind::Simulated, &FOREVER).unwrap();
    assert!(matches!(store.state(), StoreState::Failing { since: None, dropped: 0, .. }));
    for second in 0..3 {
        store.write(&moment(START + second * 1000, Some(machine())));
    }
    let StoreState::Failing { since, dropped, why } = store.state() else { panic!("it kept them") };
    assert_eq!((*since, *dropped), (Some(START), 3), "{why}");
    fs::remove_file(&parent).unwrap();
    for second in 3..10 {
        store.write(&moment(START + second * 1000, Some(machine())));
    }
    assert_eq!(*store.state(), StoreState::Keeping);
    let reader = Reader::open(&path).unwrap();
    let gaps = reader.gaps(Range { from: START, to: START + 10_000 }).unwrap();
    let gap = gaps.iter().find(|it| it.what == "store").unwrap();
    let first = reader.range().unwrap().unwrap().from;
    assert_eq!((gap.from, gap.to), (START, first), "{gap:?}");
    assert!(first <= START + 6000, "it was tried again at {first}");
}

const FULL: &str = "GPUPIN_TEST_FULL_DISK";

/// Writes while nothing fits any more, makes room, and goes on. A limit on the size of files stands for a disk that is full.
fn write_to_a_full_disk(path: &Path) {
    let mut store = open(path, &FOREVER);
    let mut at = START;
    let mut next = |store: &mut Store| {
        at += 1000;
        let mut machine = machine();
        // Something that does not fit into a few bytes.
        let pid = u32::try_from((at - START) / 1000).unwrap();
        machine.gpus[0].processes = vec![ProcessNow {
            pid,
            started: Some(at),
            kinds: Vec::new(),
            memory: None,
            utilization: None,
            uid: None,
            user: None,
            command: Some("x".repeat(2000)),
            project: None,
            place: None,
            leased: None,
            stranger: false,
        }];
        (at, store.write(&moment(at, Some(machine))).clone())
    };
    for _ in 0..50 {
        assert_eq!(next(&mut store).1, StoreState::Keeping);
    }
    let old = getrlimit(Resource::Fsize);
    let mut tight = old;
    // Less than what is there, so that not even moving the log into the file makes room.
    tight.current = Some(4096);
    setrlimit(Resource::Fsize, tight).unwrap();
    let (full_from, StoreState::Failing { why, .. }) = next(&mut store) else {
        panic!("it still fitted");
    };
    for _ in 0..20 {
        let (at, state) = next(&mut store);
        let StoreState::Failing { since, .. } = state else { panic!("it fitted at {at}") };
        assert_eq!(since, Some(full_from));
    }
    setrlimit(Resource::Fsize, old).unwrap();
    let first = loop {
        let (at, state) = next(&mut store);
        if state == StoreState::Keeping {
            break at;
        }
        assert!(at < full_from + 40_000, "it never went on: {state:?}");
    };
    drop(store);
    assert_eq!(ask(path, "PRAGMA integrity_check"), "ok\n");
    let missing = format!("SELECT count(*) FROM samples WHERE at >= {full_from} AND at < {first}");
    assert_eq!(ask(path, &missing), "0\n");
    let kept = format!("SELECT count(*) FROM samples WHERE at < {full_from}");
    assert_eq!(ask(path, &kept), format!("{}\n", 2 * ((full_from - START) / 1000 - 1)));
    let gap = ask(path, "SELECT at, until, why FROM gaps WHERE what = 'store'");
    assert_eq!(gap, format!("{full_from} {first} {why}\n"));
}

#[test]
fn a_full_disk_is_a_gap_and_what_was_written_before_is_kept() {
    if let Some(path) = env::var_os(FULL) {
        return write_to_a_full_disk(path.as_ref());
    }
    let directory = tempfile::tempdir().unwrap();
    // Without this, too large a file ends the process.
    let this = "history::tests::trouble::a_full_disk_is_a_gap_and_what_was_written_before_is_kept";
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(env::current_exe().unwrap())
        .args(["--exact", this, "--nocapture"])
        .env(FULL, directory.path().join("history.db"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(directory.path().join("history.db").exists(), "the child did nothing");
}

/// Moments of some days, one each ten seconds.
fn fill(store: &mut Store, days: u64) {
    let machine = machine();
    let all: Vec<_> = (0..days * DAY / 10_000)
        .map(|it| {
            let mut machine = machine.clone();
            machine.gpus[0].memory_used = Some(it << 20);
            moment(START + it * 10_000, Some(machine))
        })
        .collect();
    for some in all.chunks(60) {
        store.write_all(some);
    }
}

#[test]
fn the_file_becomes_smaller_where_it_has_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let mut store = open(&path, &FOREVER);
    fill(&mut store, 2);
    drop(store);
    let size = || fs::metadata(&path).unwrap().len();
    let before = size();
    let limit = before * 2 / 3;
    let reader = Reader::open(&path).unwrap();
    let mut store = open(&path, &Retention { size: limit, ..FOREVER });
    store.write(&moment(START + 2 * DAY, Some(machine())));
    assert_eq!(*store.state(), StoreState::Keeping);
    drop((store, reader));
    assert!(size() <= limit, "{} of {limit} bytes, {before} before", size());
    let reader = Reader::open(&path).unwrap();
    let rows = reader.contents().unwrap().rows;
    let first = |of| rows.iter().find(|it| it.of == of).unwrap().range.unwrap().from;
    assert!(first("samples") > START + DAY / 4, "the oldest samples are gone");
    assert_eq!(first("hours"), START, "hours are the last to go");
}

#[test]
fn what_is_too_old_is_deleted_level_by_level() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let retention = Retention {
        raw: Duration::from_hours(3),
        minutes: Duration::from_hours(12),
        hours: Duration::from_hours(24),
        size: u64::MAX,
    };
    let mut store = open(&path, &retention);
    fill(&mut store, 2);
    let reader = Reader::open(&path).unwrap();
    let end = START + 2 * DAY;
    let hours = |of: &str| {
        let rows = reader.contents().unwrap().rows;
        let first = rows.iter().find(|it| it.of == of).unwrap().range.unwrap().from;
        (end - first) / 3_600_000
    };
    assert_eq!((hours("samples"), hours("minutes"), hours("hours")), (3, 12, 24));
    // Each point comes from the finest level that still has it.
    let gpu = machine().gpus[0].uuid.clone();
    let range = Range { from: START, to: end };
    let series = reader.series(&gpu, Metric::Temperature, range, Resolution::Finest).unwrap();
    let mut levels: Vec<_> = series.points.iter().map(|it| it.level.as_str()).collect();
    levels.dedup();
    assert_eq!(levels, ["hour", "minute", "raw"]);
}

#[test]
fn a_clock_that_leapt_ahead_deletes_nothing_for_an_hour() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let retention = Retention { raw: Duration::from_hours(1), ..FOREVER };
    let mut store = open(&path, &retention);
    let samples = || ask(&path, "SELECT count(*) FROM samples");
    store.write(&moment(START, Some(machine())));
    let wrong = START + 365 * DAY;
    for minute in 0..30 {
        store.write(&moment(wrong + minute * 60_000, Some(machine())));
    }
    assert_eq!(samples(), "62\n", "the first is a year old, if the clock is right");
    store.write(&moment(START + 1000, Some(machine())));
    assert_eq!(samples(), "64\n", "it was not right");
    for minute in 0..200 {
        store.write(&moment(wrong + minute * 60_000, Some(machine())));
    }
    assert_eq!(
        ask(&path, "SELECT min(at) > 1720000000000 FROM samples"),
        "1\n",
        "it was, after all"
    );
}

#[test]
fn ten_thousand_short_processes_are_kept_one_by_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let mut store = open(&path, &FOREVER);
    let template = machine();
    let mut moments = Vec::new();
    for second in 0..1000 {
        let mut machine = template.clone();
        let process = |number: u32| ProcessNow {
            pid: 100 + second * 10 % 30_000 + number,
            started: Some(u64::from(second * 100)),
            kinds: Vec::new(),
            memory: Some(1 << 20),
            utilization: None,
            uid: Some(0),
            user: None,
            command: Some("true".to_owned()),
            project: None,
            place: None,
            leased: None,
            stranger: false,
        };
        machine.gpus[0].processes = (0..10).map(process).collect();
        moments.push(moment(START + u64::from(second) * 1000, Some(machine)));
    }
    store.write_all(&moments);
    let reader = Reader::open(&path).unwrap();
    let all = Range { from: START, to: START + DAY };
    assert_eq!(reader.processes(all, 20_000).unwrap().len(), 10_000);
    assert_eq!(reader.processes(all, 100).unwrap().len(), 100);
    let some = Range { from: START + 500_000, to: START + 501_000 };
    assert_eq!(reader.processes(some, 20_000).unwrap().len(), 10);
}

#[test]
fn somebody_reads_while_somebody_writes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let mut store = open(&path, &FOREVER);
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.range().unwrap(), None);
    for second in 1..200 {
        let at = START + second * 1000;
        store.write(&moment(at, Some(machine())));
        assert_eq!(ask_count(&reader, at), second, "at {at}");
    }
}

fn ask_count(reader: &Reader, at: u64) -> u64 {
    let gpu = machine().gpus[0].uuid.clone();
    let range = Range { from: START, to: at + 1 };
    let series = reader.series(&gpu, Metric::Power, range, Resolution::Finest).unwrap();
    series.points.iter().map(|it| it.count).sum()
}
