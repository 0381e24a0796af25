//! The one writer, and what becomes of it when the disk does not play along.

use std::{
    fs::{self, File, TryLockError},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use gpupin_device::Kind;

use super::{Event, HistoryError, Retention, database, schema, write::Writer};
use crate::moment::Moment;

/// Keeps moments. What cannot be kept is dropped and told by the [`StoreState`].
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    kind: Kind,
    retention: Retention,
    /// Held as long as this lives.
    lock: Option<File>,
    writer: Option<Writer>,
    state: StoreState,
    /// Without a writer, it is not tried before.
    next_try: u64,
}

/// Whether moments are kept now.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum StoreState {
    Keeping,
    /// It is tried again every few seconds.
    Failing {
        /// The first moment that was dropped, in milliseconds since 1970. `None` before the first.
        since: Option<u64>,
        dropped: u64,
        why: String,
    },
}

/// How long it is waited before the next try. In milliseconds of the moments' time.
const PAUSE: u64 = 5_000;

impl Store {
    /// Opens the history of figures of this kind, and makes it if necessary, the directory too.
    ///
    /// An error needs somebody to do something: the file is somebody else's, of a newer version or of another kind, or damaged, or another
    /// process writes it. A disk that is full or read-only is no error but [`StoreState::Failing`].
    pub fn open(path: &Path, kind: Kind, retention: &Retention) -> Result<Self, HistoryError> {
        let mut store = Self {
            path: path.to_owned(),
            kind,
            retention: *retention,
            lock: None,
            writer: None,
            state: StoreState::Keeping,
            next_try: 0,
        };
        match store.begin() {
            Ok(()) => {}
            Err(error) if error.may_pass() => {
                store.state = StoreState::Failing { since: None, dropped: 0, why: reason(&error) };
            }
            Err(error) => return Err(error),
        }
        Ok(store)
    }

    pub fn state(&self) -> &StoreState {
        &self.state
    }

    /// Keeps a moment, in one transaction.
    pub fn write(&mut self, moment: &Moment) -> &StoreState {
        self.write_all(std::slice::from_ref(moment))
    }

    /// Keeps several moments in one transaction: all of them or none.
    pub fn write_all(&mut self, moments: &[Moment]) -> &StoreState {
        let (Some(first), Some(last)) = (moments.first(), moments.last()) else {
            return &self.state;
        };
        if let Some(other) = moments.iter().find_map(|it| {
            let kind = it.machine.as_ref()?.kind;
            (kind != self.kind).then_some(kind)
        }) {
            let held = self.kind.to_string();
            let error = HistoryError::OtherKind { path: self.path.clone(), held, given: other };
            self.drop_all(moments, &error);
            return &self.state;
        }
        // A clock that was set back does not make it wait longer.
        let waits = self.next_try.saturating_sub(first.at);
        if self.writer.is_none() && (1..=PAUSE).contains(&waits) {
            self.count(moments);
            return &self.state;
        }
        match self.try_write(moments) {
            Ok(()) => {
                self.state = StoreState::Keeping;
                self.retain(last.at);
            }
            Err(error) => self.drop_all(moments, &error),
        }
        &self.state
    }

    /// Keeps an event. It says whether that was done.
    pub fn note(&mut self, event: &Event) -> bool {
        let Some(writer) = &mut self.writer else { return false };
        writer.note(event).is_ok()
    }

    fn try_write(&mut self, moments: &[Moment]) -> Result<(), HistoryError> {
        if self.writer.is_none() {
            self.begin()?;
        }
        let writer = self.writer.as_mut().expect("it was begun");
        let lost = match &self.state {
            StoreState::Failing { since: Some(since), why, .. } => Some((*since, why.as_str())),
            _ => None,
        };
        writer.write(moments, lost).map_err(database(&self.path))
    }

    /// What is written stays written where this fails.
    fn retain(&mut self, now: u64) {
        let Some(writer) = &mut self.writer else { return };
        if let Err(error) = writer.retain(&self.retention, now).map_err(database(&self.path)) {
            self.fail(now, &error);
        }
    }

    fn begin(&mut self) -> Result<(), HistoryError> {
        let files = |source| HistoryError::Files { path: self.path.clone(), source };
        if let Some(parent) = self.path.parent().filter(|it| !it.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(files)?;
        }
        if self.lock.is_none() {
            let lock = schema::beside(&self.path, "-writer");
            let file = File::options().create(true).append(true).open(lock).map_err(files)?;
            match file.try_lock() {
                Ok(()) => self.lock = Some(file),
                Err(TryLockError::WouldBlock) => {
                    return Err(HistoryError::InUse { path: self.path.clone() });
                }
                Err(TryLockError::Error(source)) => return Err(files(source)),
            }
        }
        let connection = schema::open(&self.path, self.kind)?;
        self.writer = Some(Writer::new(connection).map_err(database(&self.path))?);
        Ok(())
    }

    fn drop_all(&mut self, moments: &[Moment], error: &HistoryError) {
        self.fail(moments.last().map_or(0, |it| it.at), error);
        self.count(moments);
    }

    /// Whatever the writer knows of the file may be wrong now, so it begins anew.
    fn fail(&mut self, now: u64, error: &HistoryError) {
        self.writer = None;
        self.next_try = now.saturating_add(PAUSE);
        if let StoreState::Failing { why, .. } = &mut self.state {
            *why = reason(error);
        } else {
            self.state = StoreState::Failing { since: None, dropped: 0, why: reason(error) };
        }
    }

    fn count(&mut self, moments: &[Moment]) {
        if let StoreState::Failing { since, dropped, .. } = &mut self.state {
            *since = since.or(moments.first().map(|it| it.at));
            *dropped += moments.len() as u64;
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.writer = None;
        // Closing alone leaves it to a child of this process that is just being started.
        if let Some(lock) = self.lock.take() {
            drop(lock.unlock());
        }
    }
}

/// The error with what lies below it.
fn reason(error: &HistoryError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
