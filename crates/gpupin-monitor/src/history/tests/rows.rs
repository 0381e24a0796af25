//! What is kept beside the figures of GPUs, and what a reader says of it.

use std::fmt::Write as _;

use expect_test::{Expect, expect};

use super::{FOREVER, START, machine, moment, open};
use crate::{
    history::{Event, Metric, Range, Reader, Resolution},
    moment::{Moment, Ticket, XidNow},
    people::Place,
    snapshot::{ProcessNow, Use},
};

const ALL: Range = Range { from: 0, to: u64::MAX };

fn process(pid: u32, memory: u64) -> ProcessNow {
    ProcessNow {
        pid,
        started: Some(4711),
        kinds: vec![Use::Compute],
        memory: Some(memory),
        utilization: Some(50),
        uid: Some(1000),
        user: Some("anna".to_owned()),
        command: Some(format!("python train.py {pid}")),
        project: Some("/home/anna/voice".to_owned()),
        place: Some(Place::Right),
        leased: Some(true),
        stranger: false,
    }
}

fn ticket(number: u64, position: usize) -> Ticket {
    Ticket {
        gpu: machine().gpus[0].uuid.clone(),
        number,
        slots: 1,
        position,
        uid: 1000,
        pid: Some(42),
        command: Some("python train.py".to_owned()),
        came: Some(START - 500 + number),
        held: (position == 0).then_some(START),
        used: None,
    }
}

/// The moments, a second each, of the first GPU with these processes.
fn with_processes(times: &[(u64, Vec<ProcessNow>)]) -> Vec<Moment> {
    let moment = |(second, processes): &(u64, Vec<ProcessNow>)| {
        let mut machine = machine();
        machine.gpus[0].processes.clone_from(processes);
        moment(START + second * 1000, Some(machine))
    };
    times.iter().map(moment).collect()
}

/// What a reader says after the moments, with times in milliseconds after the start.
#[track_caller]
fn check(moments: &[Moment], question: impl FnOnce(&Reader) -> String, expected: &Expect) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let mut store = open(&path, &FOREVER);
    for moment in moments {
        store.write(moment);
    }
    expected.assert_eq(&question(&Reader::open(&path).unwrap()));
}

fn spans(reader: &Reader) -> String {
    let mut text = String::new();
    for it in reader.processes(ALL, 100).unwrap() {
        writeln!(
            text,
            "{} {} {}: {} to {}, at most {:?}",
            it.pid,
            it.user.unwrap_or_default(),
            it.command.unwrap_or_default(),
            it.first - START,
            it.last - START,
            it.memory_max
        )
        .unwrap();
        for it in reader.process_series(it.id, ALL, Resolution::Finest).unwrap() {
            writeln!(
                text,
                "  {} to {}: {} samples, {:?} bytes, {:?} %, leased {:?}, {:?}",
                it.at - START,
                it.until - START,
                it.samples,
                it.memory_average,
                it.utilization_average,
                it.leased,
                it.place
            )
            .unwrap();
        }
    }
    text
}

#[test]
fn samples_of_a_process_that_say_the_same_are_one_row_until_it_was_not_seen() {
    let moments = with_processes(&[
        (1, vec![process(7, 100)]),
        (2, vec![process(7, 100)]),
        (3, vec![process(7, 300), process(8, 5)]),
        (4, vec![process(8, 5)]),
        (5, vec![process(7, 300), process(8, 5)]),
        // Nobody watched in between.
        (50, vec![process(8, 5)]),
    ]);
    check(
        &moments,
        spans,
        &expect![[r#"
        8 anna python train.py 8: 3000 to 50000, at most Some(5)
          3000 to 5000: 3 samples, Some(5.0) bytes, Some(50.0) %, leased Some(true), Some(Right)
          50000 to 50000: 1 samples, Some(5.0) bytes, Some(50.0) %, leased Some(true), Some(Right)
        7 anna python train.py 7: 1000 to 5000, at most Some(300)
          1000 to 2000: 2 samples, Some(100.0) bytes, Some(50.0) %, leased Some(true), Some(Right)
          3000 to 3000: 1 samples, Some(300.0) bytes, Some(50.0) %, leased Some(true), Some(Right)
          5000 to 5000: 1 samples, Some(300.0) bytes, Some(50.0) %, leased Some(true), Some(Right)
    "#]],
    );
}

#[test]
fn a_number_that_is_used_again_is_another_process() {
    let again = ProcessNow { started: Some(9000), ..process(7, 1) };
    let stranger =
        ProcessNow { started: None, command: None, user: None, stranger: true, ..process(9, 1) };
    let moments = with_processes(&[
        (1, vec![process(7, 100), stranger.clone()]),
        (2, vec![again, stranger.clone()]),
        // Nothing tells whether it is the same as before.
        (3, vec![]),
        (4, vec![stranger]),
    ]);
    check(
        &moments,
        spans,
        &expect![[r#"
        9  : 4000 to 4000, at most Some(1)
          4000 to 4000: 1 samples, Some(1.0) bytes, Some(50.0) %, leased Some(true), Some(Right)
        7 anna python train.py 7: 2000 to 2000, at most Some(1)
          2000 to 2000: 1 samples, Some(1.0) bytes, Some(50.0) %, leased Some(true), Some(Right)
        9  : 1000 to 2000, at most Some(1)
          1000 to 2000: 2 samples, Some(1.0) bytes, Some(50.0) %, leased Some(true), Some(Right)
        7 anna python train.py 7: 1000 to 1000, at most Some(100)
          1000 to 1000: 1 samples, Some(100.0) bytes, Some(50.0) %, leased Some(true), Some(Right)
    "#]],
    );
}

#[test]
fn points_of_a_process_say_once_wrong_and_once_without_a_lease() {
    let wrong = ProcessNow { place: Some(Place::Wrong), leased: Some(false), ..process(7, 300) };
    let unknown =
        ProcessNow { memory: None, utilization: None, place: None, leased: None, ..process(7, 0) };
    let moments = with_processes(&[
        (1, vec![process(7, 100)]),
        (2, vec![process(7, 100)]),
        (3, vec![wrong]),
        (4, vec![unknown]),
    ]);
    check(
        &moments,
        |reader| {
            let id = reader.processes(ALL, 1).unwrap()[0].id;
            let range = Range { from: START, to: START + 86_400_000 };
            format!("{:#?}", reader.process_series(id, range, Resolution::Points(16)).unwrap())
        },
        &expect![[r#"
            [
                ProcessPoint {
                    at: 1700352001000,
                    until: 1700352004000,
                    samples: 4,
                    memory_min: Some(
                        100,
                    ),
                    memory_average: Some(
                        166.66666666666666,
                    ),
                    memory_max: Some(
                        300,
                    ),
                    utilization_average: Some(
                        50.0,
                    ),
                    utilization_max: Some(
                        50,
                    ),
                    leased: Some(
                        false,
                    ),
                    place: Some(
                        Wrong,
                    ),
                },
            ]"#]],
    );
}

#[test]
fn who_holds_and_who_waits_is_kept_from_when_to_when() {
    let at = |second: u64, tickets| Moment {
        leases: tickets,
        ..moment(START + second * 1000, Some(machine()))
    };
    let moments = [
        at(1, Some(vec![ticket(1, 0), ticket(2, 1)])),
        at(2, Some(vec![ticket(1, 0), ticket(2, 1)])),
        at(3, None),
        at(4, Some(vec![ticket(2, 0)])),
        at(5, Some(vec![ticket(2, 0)])),
    ];
    check(
        &moments,
        |reader| {
            let mut text = String::new();
            for it in reader.leases(ALL).unwrap() {
                writeln!(
                    text,
                    "{}: from {} to {}, holds from {:?}",
                    it.number,
                    it.first - START,
                    it.last - START,
                    it.holds_from.map(|it| it - START)
                )
                .unwrap();
            }
            for it in reader.gaps(ALL).unwrap() {
                writeln!(text, "{}: {} to {}: {}", it.what, it.from - START, it.to - START, it.why)
                    .unwrap();
            }
            text
        },
        &expect![[r#"
            1: from 1000 to 2000, holds from Some(1000)
            2: from 1000 to 5000, holds from Some(4000)
            leases: 3000 to 4000: leases were not asked for, or not readable
        "#]],
    );
}

#[test]
fn a_gap_is_told_with_its_reason_and_has_no_points() {
    let moments = [
        moment(START, Some(machine())),
        moment(START + 1000, None),
        moment(START + 2000, None),
        moment(START + 3000, Some(machine())),
        // The machine slept.
        moment(START + 90_000, Some(machine())),
    ];
    check(
        &moments,
        |reader| {
            let gpu = machine().gpus[0].uuid.clone();
            let range = Range { from: START, to: START + 100_000 };
            let series =
                reader.series(&gpu, Metric::Temperature, range, Resolution::Points(100)).unwrap();
            let mut text = String::new();
            for it in series.points {
                writeln!(
                    text,
                    "{} for {}, {}: {} known, {} unknown, {:?} {:?} {:?}",
                    it.at - START,
                    it.span,
                    it.level.as_str(),
                    it.count,
                    it.unknown,
                    it.min,
                    it.average,
                    it.max
                )
                .unwrap();
            }
            for it in series.gaps {
                writeln!(text, "{}: {} to {}: {}", it.what, it.from - START, it.to - START, it.why)
                    .unwrap();
            }
            text
        },
        &expect![[r#"
            0 for 2000, raw: 1 known, 0 unknown, Some(35) Some(35.0) Some(35)
            2000 for 2000, raw: 1 known, 0 unknown, Some(35) Some(35.0) Some(35)
            90000 for 2000, raw: 1 known, 0 unknown, Some(35) Some(35.0) Some(35)
            machine: 1000 to 3000: the driver did not answer
            recording: 3000 to 90000: no moment came: gpupin or the machine stood still, or the clock was set
        "#]],
    );
}

#[test]
fn errors_of_the_driver_and_events_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let mut store = open(&path, &FOREVER);
    let gpu = machine().gpus[0].uuid.clone();
    let xid = XidNow { at: START + 10, gpu: gpu.clone(), number: 79 };
    let xids = vec![xid.clone(), xid.clone(), XidNow { number: 31, ..xid }];
    store.write(&Moment { xids, ..moment(START + 1000, Some(machine())) });
    let event = Event {
        at: START + 2000,
        kind: "alert".to_owned(),
        gpu: Some(gpu.clone()),
        detail: serde_json::json!({ "rule": "heat", "value": 97 }),
    };
    assert!(store.note(&event));
    store.write(&moment(START, Some(machine())));
    let reader = Reader::open(&path).unwrap();
    let events = reader.events(ALL).unwrap();
    assert_eq!(events[1], event);
    assert_eq!((events[0].kind.as_str(), events[0].at), ("clock-jump", START));
    assert_eq!(events[0].detail, serde_json::json!({ "from": START + 1000, "to": START }));
    let xids = reader.xids(ALL).unwrap();
    let xids: Vec<_> = xids.iter().map(|it| (it.number, it.times, it.gpu.as_str())).collect();
    assert_eq!(xids, [(31, 1, gpu.as_str()), (79, 2, gpu.as_str())]);
    assert_eq!(reader.range().unwrap(), Some(Range { from: START, to: START + 1001 }));
}
