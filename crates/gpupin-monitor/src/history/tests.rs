use std::path::Path;

use gpupin_device::{Kind, scene::SceneMachine};
use gpupin_policy::Policy;
use rusqlite::Connection;

use super::{Retention, Store, StoreState};
use crate::{
    moment::{Moment, VERSION},
    snapshot::{Snapshot, snapshot},
};

mod crash;
mod model;
mod rows;
mod trouble;
mod versions;

/// A Sunday at midnight, UTC.
const START: u64 = 1_700_352_000_000;

const FOREVER: Retention = Retention {
    raw: std::time::Duration::from_secs(1 << 32),
    minutes: std::time::Duration::from_secs(1 << 32),
    hours: std::time::Duration::from_secs(1 << 32),
    size: u64::MAX,
};

/// The two GPUs of `mixed`.
fn machine() -> Snapshot {
    let machine = SceneMachine::find("mixed".as_ref()).unwrap();
    let root = tempfile::tempdir().unwrap();
    snapshot(&machine, &Policy::default(), root.path()).unwrap()
}

fn moment(at: u64, machine: Option<Snapshot>) -> Moment {
    let gap = machine.is_none().then(|| "the driver did not answer".to_owned());
    Moment { version: VERSION, at, took: 0, machine, gap, leases: None, xids: Vec::new() }
}

fn open(path: &Path, retention: &Retention) -> Store {
    let store = Store::open(path, Kind::Simulated, retention).unwrap();
    assert_eq!(*store.state(), StoreState::Keeping);
    store
}

/// What SQL says, a line a row.
#[track_caller]
fn ask(path: &Path, sql: &str) -> String {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut text = String::new();
    while let Some(row) = rows.next().unwrap() {
        let cell = |column| match row.get_ref(column).unwrap() {
            rusqlite::types::ValueRef::Null => "?".to_owned(),
            rusqlite::types::ValueRef::Integer(it) => it.to_string(),
            rusqlite::types::ValueRef::Real(it) => it.to_string(),
            rusqlite::types::ValueRef::Text(it) => String::from_utf8_lossy(it).into_owned(),
            rusqlite::types::ValueRef::Blob(_) => "blob".to_owned(),
        };
        text += &(0..columns).map(cell).collect::<Vec<_>>().join(" ");
        text.push('\n');
    }
    text
}
