//! Questions to the history.

use std::path::{Path, PathBuf};

use gpupin_policy::GpuUuid;
use rusqlite::{Connection, Row as SqlRow, params};

use self::process::{Folded, Said};
use super::{
    Event, HistoryError, Level, Metric, Point, database, integer, natural, schema, write::SPAN,
};
use crate::people::Place;

mod levels;
mod process;

/// Asks a history, also while it is written.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    connection: Connection,
}

/// How many points are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// At most so many, and at least 16 may come.
    Points(u32),
    /// All that is kept, as finely as it is.
    Finest,
}

/// A metric over time.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Series {
    pub points: Vec<Point>,
    /// Why there may be no points.
    pub gaps: Vec<Gap>,
}

/// A time of which nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Gap {
    /// `machine`: it did not answer; `leases`: nothing is known of these; `recording`: nobody watched; `store`: nothing could be kept.
    pub what: String,
    pub from: u64,
    pub to: u64,
    pub why: String,
}

/// A GPU that something is kept of, with what was known last.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct GpuKept {
    pub uuid: String,
    pub name: Option<String>,
    pub pci: Option<String>,
    /// Bytes.
    pub vram: Option<u64>,
    /// Milliwatts.
    pub power_limit: Option<u32>,
    /// Degrees Celsius.
    pub slowdown_temperature: Option<u32>,
    pub shutdown_temperature: Option<u32>,
}

/// A process on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ProcessKept {
    /// Its number in this history.
    pub id: i64,
    pub gpu: String,
    pub pid: u32,
    /// Clock ticks after boot.
    pub started: Option<u64>,
    pub uid: Option<u32>,
    pub user: Option<String>,
    pub command: Option<String>,
    pub project: Option<String>,
    pub kinds: String,
    pub stranger: bool,
    /// When it was seen first and last.
    pub first: u64,
    pub last: u64,
    /// The most bytes that were seen.
    pub memory_max: Option<u64>,
}

/// What a process did in some time.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ProcessPoint {
    pub at: u64,
    /// The last sample that it is made of.
    pub until: u64,
    pub samples: u64,
    pub memory_min: Option<u64>,
    pub memory_average: Option<f64>,
    pub memory_max: Option<u64>,
    pub utilization_average: Option<f64>,
    pub utilization_max: Option<u32>,
    /// No, if it once was not.
    pub leased: Option<bool>,
    /// Wrong, if it once was.
    pub place: Option<Place>,
}

/// Who held or awaited a GPU.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LeaseKept {
    pub gpu: String,
    pub number: u64,
    pub slots: u32,
    pub uid: u32,
    pub pid: Option<u32>,
    pub command: Option<String>,
    /// As the ticket says.
    pub came: Option<u64>,
    pub held: Option<u64>,
    /// Milliseconds for which its program used the GPU.
    pub used: Option<u64>,
    /// When it was seen first, first holding, and last.
    pub first: u64,
    pub holds_from: Option<u64>,
    pub last: u64,
}

/// An error that the driver reported.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct XidKept {
    pub at: u64,
    pub gpu: String,
    pub number: u64,
    pub times: u64,
}

/// From when to when something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Range {
    pub from: u64,
    pub to: u64,
}

/// What a history is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Contents {
    /// `measured` or `simulated`.
    pub kind: String,
    pub version: i64,
    pub range: Option<Range>,
    /// Bytes of the file and of its log.
    pub size: u64,
    pub rows: Vec<Rows>,
}

/// How much of something is kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Rows {
    pub of: &'static str,
    pub rows: u64,
    pub range: Option<Range>,
}

impl Reader {
    /// Opens a history that somebody writes, or wrote.
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        Ok(Self { path: path.to_owned(), connection: schema::open_to_read(path)? })
    }

    /// `measured` or `simulated`.
    pub fn kind(&self) -> Result<String, HistoryError> {
        let kind = schema::held_kind(&self.connection).map_err(database(&self.path))?;
        Ok(kind.unwrap_or_default())
    }

    /// The GPUs that something is kept of, in the order in which they were seen first.
    pub fn gpus(&self) -> Result<Vec<GpuKept>, HistoryError> {
        let number = |it: Option<i64>| it.and_then(|it| u32::try_from(it).ok());
        self.rows(
            "SELECT uuid, name, pci, vram, power_limit, slowdown_temperature, shutdown_temperature FROM gpus ORDER BY id",
            [],
            |row| {
                Ok(GpuKept {
                    uuid: row.get(0)?,
                    name: row.get(1)?,
                    pci: row.get(2)?,
                    vram: row.get::<_, Option<i64>>(3)?.map(natural),
                    power_limit: number(row.get(4)?),
                    slowdown_temperature: number(row.get(5)?),
                    shutdown_temperature: number(row.get(6)?),
                })
            },
        )
    }

    /// A metric of a GPU from a time until before another. What is kept less finely than would be right is told so by its level.
    pub fn series(
        &self,
        gpu: &GpuUuid,
        metric: Metric,
        range: Range,
        resolution: Resolution,
    ) -> Result<Series, HistoryError> {
        let points = levels::points(&self.connection, gpu, metric, range, resolution)
            .map_err(database(&self.path))?;
        let mut gaps = self.gaps(range)?;
        gaps.retain(|it| it.what != "leases");
        Ok(Series { points, gaps })
    }

    /// Times of which nothing is known, by their start.
    pub fn gaps(&self, range: Range) -> Result<Vec<Gap>, HistoryError> {
        self.rows(
            "SELECT what, at, until, why FROM gaps WHERE at < ? AND until >= ? ORDER BY at, what",
            [integer(range.to), integer(range.from)],
            |row| {
                Ok(Gap {
                    what: row.get(0)?,
                    from: natural(row.get(1)?),
                    to: natural(row.get(2)?),
                    why: row.get(3)?,
                })
            },
        )
    }

    /// At most so many of the processes that were seen, those that were seen last first.
    pub fn processes(&self, range: Range, most: u32) -> Result<Vec<ProcessKept>, HistoryError> {
        self.rows(
            "SELECT p.id, uuid, pid, started, uid, user, command, project, kinds, stranger, first, last, memory_max \
             FROM processes AS p JOIN gpus ON gpus.id = gpu WHERE last >= ? AND first < ? ORDER BY last DESC LIMIT ?",
            params![integer(range.from), integer(range.to), most],
            |row| {
                Ok(ProcessKept {
                    id: row.get(0)?,
                    gpu: row.get(1)?,
                    pid: row.get(2)?,
                    started: row.get::<_, Option<i64>>(3)?.map(natural),
                    uid: row.get(4)?,
                    user: row.get(5)?,
                    command: row.get(6)?,
                    project: row.get(7)?,
                    kinds: row.get(8)?,
                    stranger: row.get(9)?,
                    first: natural(row.get(10)?),
                    last: natural(row.get(11)?),
                    memory_max: row.get::<_, Option<i64>>(12)?.map(natural),
                })
            },
        )
    }

    /// What a process did, by its number in this history. Samples are kept as long as those of GPUs.
    pub fn process_series(
        &self,
        process: i64,
        range: Range,
        resolution: Resolution,
    ) -> Result<Vec<ProcessPoint>, HistoryError> {
        let step = levels::step(range, resolution);
        let mut points: Vec<Folded> = Vec::new();
        let spans = self.rows(
            "SELECT at, at + span, samples, memory, utilization, leased, place FROM process_samples \
             WHERE process = ? AND at >= ? AND at < ? AND at + span >= ? ORDER BY at",
            params![
                process,
                integer(range.from.saturating_sub(SPAN)),
                integer(range.to),
                integer(range.from)
            ],
            Said::of,
        )?;
        for said in spans {
            match points.last_mut() {
                Some(it) if it.point.at / step == said.at / step => it.add(&said),
                _ => points.push(Folded::of(&said)),
            }
        }
        Ok(points.into_iter().map(Folded::finish).collect())
    }

    /// Who held or awaited GPUs, in the order in which they were seen.
    pub fn leases(&self, range: Range) -> Result<Vec<LeaseKept>, HistoryError> {
        self.rows(
            "SELECT uuid, number, slots, uid, pid, command, came, held, used, first, holds_from, last \
             FROM leases JOIN gpus ON gpus.id = gpu WHERE last >= ? AND first < ? ORDER BY first, number",
            [integer(range.from), integer(range.to)],
            |row| {
                let time = |column| -> rusqlite::Result<_> {
                    Ok(row.get::<_, Option<i64>>(column)?.map(natural))
                };
                Ok(LeaseKept {
                    gpu: row.get(0)?,
                    number: natural(row.get(1)?),
                    slots: row.get(2)?,
                    uid: row.get(3)?,
                    pid: row.get(4)?,
                    command: row.get(5)?,
                    came: time(6)?,
                    held: time(7)?,
                    used: time(8)?,
                    first: natural(row.get(9)?),
                    holds_from: time(10)?,
                    last: natural(row.get(11)?),
                })
            },
        )
    }

    /// What happened, by time. An event whose GPU or detail cannot be read is told without it.
    pub fn events(&self, range: Range) -> Result<Vec<Event>, HistoryError> {
        self.rows(
            "SELECT at, kind, uuid, detail FROM events LEFT JOIN gpus ON gpus.id = gpu WHERE at >= ? AND at < ? ORDER BY at, events.id",
            [integer(range.from), integer(range.to)],
            |row| {
                let gpu: Option<String> = row.get(2)?;
                let detail: String = row.get(3)?;
                Ok(Event {
                    at: natural(row.get(0)?),
                    kind: row.get(1)?,
                    gpu: gpu.and_then(|it| it.parse().ok()),
                    detail: serde_json::from_str(&detail).unwrap_or_default(),
                })
            },
        )
    }

    /// The errors that the driver reported, by time.
    pub fn xids(&self, range: Range) -> Result<Vec<XidKept>, HistoryError> {
        self.rows(
            "SELECT at, uuid, number, times FROM xids JOIN gpus ON gpus.id = gpu WHERE at >= ? AND at < ? ORDER BY at, gpu, number",
            [integer(range.from), integer(range.to)],
            |row| {
                Ok(XidKept {
                    at: natural(row.get(0)?),
                    gpu: row.get(1)?,
                    number: natural(row.get(2)?),
                    times: natural(row.get(3)?),
                })
            },
        )
    }

    /// From when to when GPUs were sampled, on any level. `None` of an empty history.
    pub fn range(&self) -> Result<Option<Range>, HistoryError> {
        let mut all: Option<Range> = None;
        for level in [Level::Raw, Level::Minute, Level::Hour] {
            let range = self.range_of(level).map_err(database(&self.path))?;
            all = match (all, range) {
                (Some(a), Some(b)) => Some(Range { from: a.from.min(b.from), to: a.to.max(b.to) }),
                (a, b) => a.or(b),
            };
        }
        Ok(all)
    }

    /// What there is. It counts all rows, which takes a while.
    pub fn contents(&self) -> Result<Contents, HistoryError> {
        let read = || -> rusqlite::Result<Vec<Rows>> {
            let count = |table: &str| {
                let count = format!("SELECT count(*) FROM {table}");
                self.connection.query_row(&count, [], |row| row.get(0)).map(natural)
            };
            let mut rows = Vec::new();
            for (of, level) in
                [("samples", Level::Raw), ("minutes", Level::Minute), ("hours", Level::Hour)]
            {
                rows.push(Rows { of, rows: count(of)?, range: self.range_of(level)? });
            }
            for of in ["processes", "process_samples", "leases", "gaps", "xids", "events"] {
                rows.push(Rows { of, rows: count(of)?, range: None });
            }
            Ok(rows)
        };
        let rows = read().map_err(database(&self.path))?;
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |it| it.len());
        Ok(Contents {
            kind: self.kind()?,
            version: schema::VERSION,
            range: self.range()?,
            size: size(&self.path) + size(&schema::beside(&self.path, "-wal")),
            rows,
        })
    }

    fn rows<T>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        of: impl FnMut(&SqlRow<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, HistoryError> {
        let read = || -> rusqlite::Result<Vec<T>> {
            self.connection.prepare_cached(sql)?.query_map(parameters, of)?.collect()
        };
        read().map_err(database(&self.path))
    }

    fn range_of(&self, level: Level) -> rusqlite::Result<Option<Range>> {
        let (table, and) = match level {
            Level::Raw => ("samples", ""),
            Level::Minute => ("minutes", "AND metric = 0"),
            Level::Hour => ("hours", "AND metric = 0"),
        };
        let end = |which| format!("(SELECT {which}(at) FROM {table} WHERE gpu = id {and})");
        let sql = format!("SELECT min({}), max({}) FROM gpus", end("min"), end("max"));
        let (from, to): (Option<i64>, Option<i64>) = self
            .connection
            .prepare_cached(&sql)?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let of = |(from, to)| Range { from: natural(from), to: natural(to) + level.unit() };
        Ok(from.zip(to).map(of))
    }
}
