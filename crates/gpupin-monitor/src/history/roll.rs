//! Roll-ups: what is known of a minute from its samples, and of an hour from its minutes.
//!
//! A minute is marked in the transaction that first writes into it, and the mark goes in the one that rolls it up. So it does not matter when
//! a process ends, how often something is rolled up, or that a clock was set back.

use std::fmt::Write as _;

use rusqlite::{Connection, Transaction, params};

use super::{Level, Metric, integer};

/// Says that something is written into a minute, and so into its hour.
pub(super) fn mark(transaction: &Transaction<'_>, at: u64) -> rusqlite::Result<()> {
    let mut mark = transaction.prepare_cached("INSERT OR IGNORE INTO unrolled VALUES (?, ?)")?;
    for level in [Level::Minute, Level::Hour] {
        mark.execute(params![code(level), integer(level.start(at))])?;
    }
    Ok(())
}

/// Rolls up every marked minute and hour but those that `now` is in.
pub(super) fn all_but(transaction: &Transaction<'_>, now: u64) -> rusqlite::Result<()> {
    let minute = integer(Level::Minute.start(now));
    for at in marked(transaction, Level::Minute, minute)? {
        roll_minute(transaction, at)?;
    }
    let hour = integer(Level::Hour.start(now));
    for at in marked(transaction, Level::Hour, hour)? {
        roll_hour(transaction, at)?;
    }
    for (level, now) in [(Level::Minute, minute), (Level::Hour, hour)] {
        transaction
            .prepare_cached("DELETE FROM unrolled WHERE level = ? AND at <> ?")?
            .execute(params![code(level), now])?;
    }
    Ok(())
}

pub(super) fn code(level: Level) -> i64 {
    match level {
        Level::Raw => 0,
        Level::Minute => 1,
        Level::Hour => 2,
    }
}

fn marked(connection: &Connection, level: Level, but: i64) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached("SELECT at FROM unrolled WHERE level = ? AND at <> ? ORDER BY at")?
        .query_map(params![code(level), but], |row| row.get(0))?
        .collect()
}

/// All metrics in one look at the samples.
fn roll_minute(transaction: &Transaction<'_>, at: i64) -> rusqlite::Result<()> {
    let mut select = "SELECT gpu, count(*)".to_owned();
    for metric in Metric::ALL {
        let it = metric.sql();
        write!(select, ", count({it}), sum({it}), min({it}), max({it})")
            .expect("a string takes everything");
    }
    select.push_str(
        " FROM samples WHERE gpu IN (SELECT id FROM gpus) AND at >= ? AND at < ? GROUP BY gpu",
    );
    let mut select = transaction.prepare_cached(&select)?;
    let mut insert = transaction
        .prepare_cached("INSERT OR REPLACE INTO minutes VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?;
    let mut rows = select.query([at, at + integer(Level::Minute.unit())])?;
    while let Some(row) = rows.next()? {
        let (gpu, samples): (i64, i64) = (row.get(0)?, row.get(1)?);
        for (column, metric) in (2..).step_by(4).zip(Metric::ALL) {
            let count: i64 = row.get(column)?;
            let number = |offset| row.get::<_, Option<i64>>(column + offset);
            insert.execute(params![
                gpu,
                metric.code(),
                at,
                count,
                samples - count,
                number(1)?,
                number(2)?,
                number(3)?
            ])?;
        }
    }
    Ok(())
}

fn roll_hour(transaction: &Transaction<'_>, at: i64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO hours \
             SELECT gpu, metric, ?1, sum(count), sum(unknown), sum(sum), min(min), max(max) FROM minutes \
             WHERE gpu IN (SELECT id FROM gpus) AND metric IN (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10) AND at >= ?1 AND at < ?2 \
             GROUP BY gpu, metric",
        )?
        .execute([at, at + integer(Level::Hour.unit())])?;
    Ok(())
}
