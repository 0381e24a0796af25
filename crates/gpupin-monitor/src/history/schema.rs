//! The file: whose it is, which version it has, and how an older one becomes the newest.

use std::{path::Path, time::Duration};

use gpupin_device::Kind;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::{HistoryError, database};

/// The newest version. Files of older ones are brought up to it by their writer.
pub(super) const VERSION: i64 = 1;

/// What makes each version of the one before. A released one never changes.
const VERSIONS: [&str; 1] = [include_str!("version-1.sql")];

/// `gpuH`: by this, `file` and others tell whose database it is.
const APPLICATION: i64 = 0x6770_7548;

/// Writers wait for a checkpoint of another process this long, and readers for a recovery.
const PATIENCE: Duration = Duration::from_secs(2);

/// The log is cut to this after a checkpoint. In bytes.
const LOG: i64 = 16 << 20;

/// Opens a history for writing; makes it or brings it up to the newest version if necessary.
pub(super) fn open(path: &Path, kind: Kind) -> Result<Connection, HistoryError> {
    let connection = Connection::open(path).map_err(database(path))?;
    connection.busy_timeout(PATIENCE).map_err(database(path))?;
    let version = version(&connection, path)?;
    if version == 0 {
        // Only a file without tables can become one that gives back what it does not need.
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL").map_err(database(path))?;
    }
    let settings = format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = {LOG}; PRAGMA temp_store = MEMORY"
    );
    connection.execute_batch(&settings).map_err(database(path))?;
    upgrade(&connection, version).map_err(database(path))?;
    let held = held_kind(&connection).map_err(database(path))?;
    match held {
        Some(held) if held != kind.as_str() => {
            return Err(HistoryError::OtherKind { path: path.to_owned(), held, given: kind });
        }
        Some(_) => {}
        None => {
            connection
                .execute("INSERT INTO meta VALUES ('kind', ?)", params![kind.as_str()])
                .map_err(database(path))?;
        }
    }
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Opens a history for reading.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, HistoryError> {
    if !path.exists() {
        return Err(HistoryError::Missing { path: path.to_owned() });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(path, flags).map_err(database(path))?;
    connection.busy_timeout(PATIENCE).map_err(database(path))?;
    let (connection, found) = match version(&connection, path) {
        Ok(found) => (connection, found),
        // Without a writer there is no shared memory, and who may not write the directory cannot make it. Nothing changes then.
        Err(HistoryError::Database { source, .. })
            if source.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen)
                && !beside(path, "-wal").exists() =>
        {
            let uri = format!("file:{}?immutable=1", quoted(path));
            let connection = Connection::open_with_flags(uri, flags).map_err(database(path))?;
            let found = version(&connection, path)?;
            (connection, found)
        }
        Err(error) => return Err(error),
    };
    connection.set_prepared_statement_cache_capacity(64);
    if found < VERSION {
        let path = path.to_owned();
        return Err(HistoryError::Older { path, found, known: VERSION });
    }
    Ok(connection)
}

/// What the figures of a history are.
pub(super) fn held_kind(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection
        .query_row("SELECT value FROM meta WHERE name = 'kind'", [], |row| row.get(0))
        .optional()
}

/// A file that belongs to the history.
pub(super) fn beside(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The version of a history; 0 for a file without tables, and an error for the file of somebody else.
fn version(connection: &Connection, path: &Path) -> Result<i64, HistoryError> {
    let ask = |what: &str| connection.query_row::<i64, _, _>(what, [], |row| row.get(0));
    let read = || -> rusqlite::Result<_> {
        let tables = ask("SELECT count(*) FROM sqlite_schema")?;
        Ok((ask("PRAGMA application_id")?, ask("PRAGMA user_version")?, tables))
    };
    let (application, version, tables) = match read() {
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            return Err(HistoryError::Foreign { path: path.to_owned() });
        }
        other => other.map_err(database(path))?,
    };
    match (application, version, tables) {
        (0, 0, 0) => Ok(0),
        (APPLICATION, 1.., _) if version <= VERSION => Ok(version),
        (APPLICATION, 1.., _) => {
            Err(HistoryError::Newer { path: path.to_owned(), found: version, known: VERSION })
        }
        _ => Err(HistoryError::Foreign { path: path.to_owned() }),
    }
}

/// Brings a file from its version to the newest, a version a transaction.
fn upgrade(connection: &Connection, version: i64) -> rusqlite::Result<()> {
    for (number, step) in (1_i64..).zip(VERSIONS).filter(|it| it.0 > version) {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(step)?;
        transaction.execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {number}"
        ))?;
        transaction.commit()?;
    }
    Ok(())
}

/// A path as the URIs of `SQLite` have it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}
