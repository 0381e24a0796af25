//! Every released version is brought up to the newest.

use std::{fmt::Write as _, fs, path::Path};

use expect_test::expect_file;
use rusqlite::{Connection, types::ValueRef};

use super::{FOREVER, START, ask, machine, moment, open};
use crate::{
    history::{Event, Metric, Range, Reader, Resolution, StoreState, schema},
    moment::{Moment, Ticket, XidNow},
    people::Place,
    snapshot::{ProcessNow, Use},
};

/// A history with something in every table.
fn write(path: &Path) {
    let mut store = open(path, &FOREVER);
    let template = machine();
    let gpu = template.gpus[0].uuid.clone();
    let ticket = Ticket {
        gpu: gpu.clone(),
        number: 3,
        slots: 1,
        position: 0,
        uid: 1000,
        pid: Some(7),
        command: Some("python train.py".to_owned()),
        came: Some(START - 500),
        held: Some(START),
        used: Some((250, START)),
    };
    let process = ProcessNow {
        pid: 7,
        started: Some(4711),
        kinds: vec![Use::Compute, Use::Graphics],
        memory: Some(1 << 30),
        utilization: Some(50),
        uid: Some(1000),
        user: Some("anna".to_owned()),
        command: Some("python it's.py".to_owned()),
        project: Some("/home/anna/voice".to_owned()),
        place: Some(Place::Right),
        leased: Some(true),
        stranger: false,
    };
    // The start of an hour, its end, and what is not rolled up.
    for at in [0, 1000, 3_599_000, 3_601_000, 3_661_000] {
        let mut machine = template.clone();
        machine.gpus[0].processes = vec![process.clone()];
        machine.gpus[1].utilization = None;
        let xids = vec![XidNow { at: START + at, gpu: gpu.clone(), number: 31 }];
        let leases = (at > 0).then(|| vec![ticket.clone()]);
        store.write(&Moment { leases, xids, ..moment(START + at, Some(machine)) });
    }
    let detail = serde_json::json!({ "rule": "heat" });
    assert!(store.note(&Event { at: START, kind: "alert".to_owned(), gpu: Some(gpu), detail }));
}

/// A database as the statements that make it.
fn dump(path: &Path) -> String {
    let connection = Connection::open(path).unwrap();
    let number = |name: &str| -> i64 {
        connection.pragma_query_value(None, name, |row| row.get(0)).unwrap()
    };
    let mut text = format!("PRAGMA auto_vacuum = {};\n", number("auto_vacuum"));
    for name in ["application_id", "user_version"] {
        writeln!(text, "PRAGMA {name} = {};", number(name)).unwrap();
    }
    let objects = ask(path, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name");
    for line in
        ask(path, "SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
            .lines()
    {
        text += line;
        text.push('\n');
    }
    for table in objects.lines().filter(|it| !it.starts_with("sqlite_")) {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let cell = |column| match row.get_ref(column).unwrap() {
                ValueRef::Null => "NULL".to_owned(),
                ValueRef::Integer(it) => it.to_string(),
                ValueRef::Text(it) => {
                    format!("'{}'", String::from_utf8_lossy(it).replace('\'', "''"))
                }
                ValueRef::Real(_) | ValueRef::Blob(_) => panic!("no table has such a value"),
            };
            let cells: Vec<_> = (0..columns).map(cell).collect();
            writeln!(text, "INSERT INTO {table} VALUES ({});", cells.join(", ")).unwrap();
        }
    }
    text
}

#[test]
fn what_is_written_now_is_the_newest_golden_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    write(&path);
    let golden =
        format!("{}/../../wire/history-{}.sql", env!("CARGO_MANIFEST_DIR"), schema::VERSION);
    expect_file![golden].assert_eq(&dump(&path));
}

#[test]
fn every_version_that_was_released_is_read_and_written_by_this_one() {
    let directory = tempfile::tempdir().unwrap();
    let fresh = directory.path().join("fresh.db");
    drop(open(&fresh, &FOREVER));
    let tables = "SELECT type, name, tbl_name FROM sqlite_schema ORDER BY name";
    for version in 1..=schema::VERSION {
        let golden = format!("{}/../../wire/history-{version}.sql", env!("CARGO_MANIFEST_DIR"));
        let path = directory.path().join(format!("{version}.db"));
        let old = Connection::open(&path).unwrap();
        old.execute_batch(&fs::read_to_string(golden).unwrap()).unwrap();
        drop(old);
        let mut store = open(&path, &FOREVER);
        assert_eq!(ask(&path, tables), ask(&fresh, tables), "version {version}");
        let state = store.write(&moment(START + 3_662_000, Some(machine())));
        assert_eq!(*state, StoreState::Keeping);
        let reader = Reader::open(&path).unwrap();
        let range = Range { from: START, to: START + 4_000_000 };
        let gpu = machine().gpus[0].uuid.clone();
        let series = reader.series(&gpu, Metric::Temperature, range, Resolution::Finest).unwrap();
        assert_eq!(series.points.iter().map(|it| it.count).sum::<u64>(), 6, "version {version}");
        assert_eq!(
            reader.processes(range, 9).unwrap()[0].command.as_deref(),
            Some("python it's.py")
        );
        assert_eq!(reader.leases(range).unwrap()[0].used, Some(250));
        assert_eq!(reader.xids(range).unwrap().len(), 5);
        assert_eq!(reader.events(range).unwrap()[0].kind, "alert");
    }
}
