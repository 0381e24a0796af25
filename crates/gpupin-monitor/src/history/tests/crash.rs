//! A process that writes is killed at any moment.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::{FOREVER, START, ask, machine, moment, open};

const VARIABLE: &str = "GPUPIN_TEST_HISTORY";

/// Writes moments, and says each when it is written, until it is killed.
fn write_forever(path: &Path) {
    let mut store = open(path, &FOREVER);
    let last = ask(path, "SELECT coalesce(max(at), 0) FROM samples");
    let mut at: u64 = last.trim().parse().unwrap();
    at = at.max(START);
    let mut machine = machine();
    let mut out = std::io::stdout();
    loop {
        at += 1000;
        machine.gpus[0].utilization =
            (!at.is_multiple_of(7000)).then_some(u32::try_from(at / 1000 % 101).unwrap());
        store.write(&moment(at, Some(machine.clone())));
        // Who reads may be gone.
        if writeln!(out, "written {at}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// Every sample up to the last that was said is there, and what is rolled up is what the samples say.
#[track_caller]
fn check(path: &Path, said: u64) {
    assert_eq!(ask(path, "PRAGMA integrity_check"), "ok\n");
    let samples = ask(path, "SELECT gpu, count(*), max(at) FROM samples GROUP BY gpu");
    for line in samples.lines() {
        let numbers: Vec<u64> = line.split(' ').map(|it| it.parse().unwrap()).collect();
        assert!(numbers[2] >= said, "{said} was written, and {} is the last", numbers[2]);
        assert_eq!(numbers[1], (numbers[2] - START) / 1000, "a sample is missing before the last");
    }
    let wrong = ask(
        path,
        "SELECT r.at, r.count, s.count FROM \
         (SELECT gpu, at / 60000 * 60000 AS at, count(utilization) AS count, count(*) AS all_, sum(utilization) AS sum FROM samples GROUP BY 1, 2) AS s \
         LEFT JOIN minutes AS r ON r.gpu = s.gpu AND r.metric = 1 AND r.at = s.at \
         WHERE s.at NOT IN (SELECT at FROM unrolled WHERE level = 1) \
         AND (r.count IS NOT s.count OR r.count + r.unknown IS NOT s.all_ OR r.sum IS NOT s.sum)",
    );
    assert_eq!(wrong, "", "minutes are not what their samples say");
    let wrong = ask(
        path,
        "SELECT r.at FROM (SELECT gpu, at / 3600000 * 3600000 AS at, sum(count) AS count, sum(sum) AS sum FROM minutes WHERE metric = 1 GROUP BY 1, 2) AS s \
         LEFT JOIN hours AS r ON r.gpu = s.gpu AND r.metric = 1 AND r.at = s.at \
         WHERE s.at NOT IN (SELECT at FROM unrolled WHERE level = 2) AND (r.count IS NOT s.count OR r.sum IS NOT s.sum)",
    );
    assert_eq!(wrong, "", "hours are not what their minutes say");
}

#[test]
fn a_killed_process_loses_at_most_the_moment_it_was_writing() {
    if let Some(path) = env::var_os(VARIABLE) {
        return write_forever(path.as_ref());
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let this = "history::tests::crash::a_killed_process_loses_at_most_the_moment_it_was_writing";
    let mut said = START;
    for round in 0_u64..25 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", this, "--nocapture"])
            .env(VARIABLE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // It may die while it begins, in its first transaction, or anywhere later.
        if round % 5 > 0 {
            assert!(lines.by_ref().any(|it| it.unwrap().starts_with("written ")));
            thread::sleep(Duration::from_micros(round * 7919 % 60_000));
        } else {
            thread::sleep(Duration::from_millis(round * 3));
        }
        child.kill().unwrap();
        let written = lines.filter_map(|it| it.ok()?.strip_prefix("written ")?.parse().ok());
        said = written.last().unwrap_or(said).max(said);
        child.wait().unwrap();
        drop(open(&path, &FOREVER));
        check(&path, said);
    }
    assert!(said > START + 200_000, "hardly anything was written: {said}");
}
