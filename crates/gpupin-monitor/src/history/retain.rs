//! What is too old or too much is deleted, and the file gives back the room.

use rusqlite::{Connection, params};

use super::{Retention, integer, milliseconds, write::SPAN};

/// Deletes what is too old.
pub(super) fn age(
    connection: &Connection,
    retention: &Retention,
    now: u64,
) -> rusqlite::Result<()> {
    let before = |kept| integer(now.saturating_sub(milliseconds(kept)));
    let transaction = connection.unchecked_transaction()?;
    raw(&transaction, before(retention.raw))?;
    minutes(&transaction, before(retention.minutes))?;
    hours(&transaction, before(retention.hours))?;
    transaction.commit()
}

/// Deletes the oldest until the file has no more than `limit` bytes: samples first, then minutes and who was there, then hours.
pub(super) fn size(connection: &Connection, limit: u64) -> rusqlite::Result<()> {
    /// So many slices of what there is. More are more exact and take longer.
    const SLICES: i64 = 24;
    type Delete = fn(&Connection, i64) -> rusqlite::Result<()>;
    const HOUR: i64 = 3_600_000;
    // At most so much at a time: where a clock was wrong once, the newest time says nothing of how much there is.
    let levels: [(String, i64, Delete); 3] = [
        (range("samples", ""), 2 * HOUR, raw),
        (range("minutes", "AND metric = 0"), 5 * 24 * HOUR, minutes),
        (range("hours", "AND metric = 0"), 100 * 24 * HOUR, hours),
    ];
    let mut levels = levels.iter();
    let mut level = levels.next();
    while let Some((range, most, delete)) = level {
        if used(connection)? <= limit {
            break;
        }
        let range: (Option<i64>, Option<i64>) =
            connection.query_row(range, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        // What is not rolled up is never deleted for its size: it is the last minute.
        let unrolled: Option<i64> =
            connection.query_row("SELECT min(at) FROM unrolled", [], |row| row.get(0))?;
        let (Some(low), Some(high)) = range else {
            level = levels.next();
            continue;
        };
        let before =
            (low + ((high - low) / SLICES).clamp(1, *most)).min(unrolled.unwrap_or(i64::MAX));
        if before <= low {
            level = levels.next();
            continue;
        }
        let transaction = connection.unchecked_transaction()?;
        delete(&transaction, before)?;
        transaction.commit()?;
    }
    shrink(connection)
}

/// Asks for the oldest and the newest time of a table, one look at its ends a GPU.
fn range(table: &str, and: &str) -> String {
    let end = |which| format!("(SELECT {which}(at) FROM {table} WHERE gpu = id {and})");
    format!("SELECT min({}), max({}) FROM gpus", end("min"), end("max"))
}

/// Bytes that are in use, without those that can be given back.
fn used(connection: &Connection) -> rusqlite::Result<u64> {
    let pages = pragma(connection, "page_count")? - pragma(connection, "freelist_count")?;
    Ok(super::natural(pages * pragma(connection, "page_size")?))
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

/// Gives back what is free, unless it is so little that it is needed again at once.
fn shrink(connection: &Connection) -> rusqlite::Result<()> {
    const LITTLE: i64 = 256;
    let free = pragma(connection, "freelist_count")?;
    if free > LITTLE.max(pragma(connection, "page_count")? / 20) {
        let mut vacuum = connection.prepare("PRAGMA incremental_vacuum")?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        drop(rows);
        // The file becomes shorter at a checkpoint. One that a reader keeps from ending is made up for by the next.
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    Ok(())
}

fn raw(connection: &Connection, before: i64) -> rusqlite::Result<()> {
    connection
        .execute("DELETE FROM samples WHERE gpu IN (SELECT id FROM gpus) AND at < ?", [before])?;
    connection.execute(
        "DELETE FROM process_samples WHERE process IN (SELECT id FROM processes WHERE first < ?1) AND at < ?1 AND at + span < ?1",
        [before],
    )?;
    Ok(())
}

fn minutes(connection: &Connection, before: i64) -> rusqlite::Result<()> {
    rolled(connection, "minutes", before)?;
    // Without its process a sample would be nobody's.
    connection.execute(
        "DELETE FROM process_samples WHERE process IN (SELECT id FROM processes WHERE last < ?)",
        params![before - integer(SPAN)],
    )?;
    connection.execute("DELETE FROM processes WHERE last < ?", params![before - integer(SPAN)])?;
    connection.execute("DELETE FROM leases WHERE last < ?", [before])?;
    Ok(())
}

fn hours(connection: &Connection, before: i64) -> rusqlite::Result<()> {
    rolled(connection, "hours", before)?;
    connection.execute("DELETE FROM gaps WHERE until < ?", [before])?;
    connection.execute("DELETE FROM xids WHERE at < ?", [before])?;
    connection.execute("DELETE FROM events WHERE at < ?", [before])?;
    Ok(())
}

fn rolled(connection: &Connection, table: &str, before: i64) -> rusqlite::Result<()> {
    connection.execute(
        &format!(
            "DELETE FROM {table} WHERE gpu IN (SELECT id FROM gpus) AND metric IN (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10) AND at < ?"
        ),
        [before],
    )?;
    Ok(())
}
