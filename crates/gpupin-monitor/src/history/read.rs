//! Questions to the history.

use std::path::{Path, PathBuf};

use gpupin_policy::GpuUuid;
use rusqlite::{Connection, OptionalExtension as _, Row as SqlRow, params};

use super::{
    Event, HistoryError, Level, Metric, Point, database,
    fold::{Fold, Row, Stretch, average},
    integer, natural, roll, schema,
    write::SPAN,
};
use crate::people::Place;

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

/// Where a level ends: it may begin after what is asked for, and what is newest is not rolled up.
struct Coverage {
    from: u64,
    to: u64,
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
        let points = self.points(gpu, metric, range, resolution).map_err(database(&self.path))?;
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
        let step = step(range, resolution);
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

    fn points(
        &self,
        gpu: &GpuUuid,
        metric: Metric,
        range: Range,
        resolution: Resolution,
    ) -> rusqlite::Result<Vec<Point>> {
        // One moment of the file for all that follows, whatever is written meanwhile.
        let transaction = self.connection.unchecked_transaction()?;
        let id: Option<i64> = transaction
            .prepare_cached("SELECT id FROM gpus WHERE uuid = ?")?
            .query_row([gpu.as_str()], |row| row.get(0))
            .optional()?;
        let Some(id) = id else { return Ok(Vec::new()) };
        let level = match resolution {
            Resolution::Finest => Level::Raw,
            Resolution::Points(_) => level(range, step(range, resolution)),
        };
        let mut look = Look {
            connection: &transaction,
            gpu: id,
            metric,
            step: step(range, resolution),
            fold: Fold::default(),
        };
        let Range { from, to } = range;
        let coverage = look.coverage(level, from)?;
        let covered = look.head(level, from, coverage.from.min(to))?;
        let from = from.max(covered);
        look.body(level, level.start(from).max(coverage.from), to.min(coverage.to))?;
        look.tail(level, from.max(coverage.to), to)?;
        Ok(look.fold.finish())
    }
}

/// Milliseconds of a point.
fn step(range: Range, resolution: Resolution) -> u64 {
    // Up to three levels, each with a point at both ends that is there only in part.
    const ENDS: u32 = 6;
    match resolution {
        Resolution::Finest => 1,
        Resolution::Points(most) => {
            let span = range.to.saturating_sub(range.from);
            let step = span.div_ceil(u64::from(most.max(16) - ENDS)).max(1);
            // Samples come every second or so: equally many should be in each point.
            if step > 1000 { step.next_multiple_of(1000) } else { step }
        }
    }
}

/// The finest level that does not have to be read for too long.
fn level(range: Range, step: u64) -> Level {
    // Rows a second for raw samples; some 20,000 of any level are read in 10 ms.
    const MOST: u64 = 20_000;
    let span = range.to.saturating_sub(range.from);
    let is_quick = |level: Level, row| {
        level.coarser().is_some_and(|it| step < it.unit()) && span / row <= MOST
    };
    if is_quick(Level::Raw, 1000) {
        Level::Raw
    } else if is_quick(Level::Minute, Level::Minute.unit()) {
        Level::Minute
    } else {
        Level::Hour
    }
}

/// One metric of one GPU, read at one moment of the file.
struct Look<'a> {
    connection: &'a Connection,
    gpu: i64,
    metric: Metric,
    step: u64,
    fold: Fold,
}

impl Look<'_> {
    /// From when to when a level can be used by somebody who asks from a time on.
    fn coverage(&self, level: Level, from: u64) -> rusqlite::Result<Coverage> {
        let end = |which: &str| -> rusqlite::Result<Option<u64>> {
            let at: Option<i64> = match level {
                Level::Raw => self
                    .connection
                    .prepare_cached(&format!("SELECT {which}(at) FROM samples WHERE gpu = ?"))?
                    .query_row([self.gpu], |row| row.get(0))?,
                Level::Minute | Level::Hour => self
                    .connection
                    .prepare_cached(&format!(
                        "SELECT {which}(at) FROM {} WHERE gpu = ? AND metric = ?",
                        table(level)
                    ))?
                    .query_row([self.gpu, self.metric.code()], |row| row.get(0))?,
            };
            Ok(at.map(natural))
        };
        let first = end("min")?;
        if level == Level::Raw {
            return Ok(Coverage { from: first.unwrap_or(u64::MAX), to: u64::MAX });
        }
        let (Some(first), Some(last)) = (first, end("max")?) else {
            return Ok(Coverage { from, to: from });
        };
        let unrolled: Option<i64> = self
            .connection
            .prepare_cached("SELECT min(at) FROM unrolled WHERE level = ? AND at > ?")?
            .query_row([roll::code(level), integer(from) - integer(level.unit())], |row| {
                row.get(0)
            })?;
        let to = unrolled.map_or(u64::MAX, natural).min(last + level.unit());
        // After a clock was set back, what is not rolled up may be older than what is.
        Ok(Coverage { from: first.min(to), to })
    }

    /// What is older than a level has, from coarser ones. Says until when that is.
    fn head(&mut self, level: Level, from: u64, to: u64) -> rusqlite::Result<u64> {
        let Some(coarser) = level.coarser().filter(|_| from < to) else { return Ok(from) };
        let coverage = self.coverage(coarser, from)?;
        let covered = self.head(coarser, from, coverage.from.min(to))?;
        let to = to.min(self.needed_until(coarser, level, to)?);
        // A row is about all of its hour, also where only its end is asked for.
        let start = coarser.start(from.max(covered));
        let end = self.body(coarser, start, to)?;
        Ok(end.unwrap_or(covered).max(covered))
    }

    /// Until when a level knows more than a finer one that begins in the middle of a row: everything there was may have begun there.
    fn needed_until(&self, level: Level, finer: Level, to: u64) -> rusqlite::Result<u64> {
        let start = level.start(to);
        let end = start + level.unit();
        let samples = |level: Level| -> rusqlite::Result<i64> {
            let (count, metric) = match level {
                Level::Raw => ("count(*)", "?2 = ?2"),
                Level::Minute | Level::Hour => ("coalesce(sum(count + unknown), 0)", "metric = ?2"),
            };
            let sql = format!(
                "SELECT {count} FROM {} WHERE gpu = ?1 AND {metric} AND at >= ?3 AND at < ?4",
                table(level)
            );
            self.connection
                .prepare_cached(&sql)?
                .query_row([self.gpu, self.metric.code(), integer(start), integer(end)], |row| {
                    row.get(0)
                })
        };
        let more = start < to && samples(level)? > samples(finer)?;
        Ok(if more { to } else { start })
    }

    /// Rows of one level. Says until when the last is.
    fn body(&mut self, level: Level, from: u64, to: u64) -> rusqlite::Result<Option<u64>> {
        if from >= to {
            return Ok(None);
        }
        let step = self.step.next_multiple_of(level.unit());
        let stretch = Stretch { level, step, from, to };
        let mut last = None;
        let mut add = |fold: &mut Fold, row: Row| {
            last = Some(row.at + level.unit());
            fold.add(stretch, row);
        };
        let (from, to) = (integer(from), integer(to));
        match level {
            Level::Raw => {
                let sql = format!(
                    "SELECT at, {} FROM samples WHERE gpu = ? AND at >= ? AND at < ? ORDER BY at",
                    self.metric.sql()
                );
                let mut statement = self.connection.prepare_cached(&sql)?;
                let mut rows = statement.query([self.gpu, from, to])?;
                while let Some(row) = rows.next()? {
                    let value: Option<i64> = row.get(1)?;
                    let count = u64::from(value.is_some());
                    let at = natural(row.get(0)?);
                    let sum = value.unwrap_or_default();
                    let row = Row { at, count, unknown: 1 - count, sum, min: value, max: value };
                    add(&mut self.fold, row);
                }
            }
            Level::Minute | Level::Hour => {
                let sql = format!(
                    "SELECT at, count, unknown, sum, min, max FROM {} WHERE gpu = ? AND metric = ? AND at >= ? AND at < ? ORDER BY at",
                    table(level)
                );
                let mut statement = self.connection.prepare_cached(&sql)?;
                let mut rows = statement.query([self.gpu, self.metric.code(), from, to])?;
                while let Some(row) = rows.next()? {
                    let row = Row {
                        at: natural(row.get(0)?),
                        count: natural(row.get(1)?),
                        unknown: natural(row.get(2)?),
                        sum: row.get::<_, Option<i64>>(3)?.unwrap_or_default(),
                        min: row.get(4)?,
                        max: row.get(5)?,
                    };
                    add(&mut self.fold, row);
                }
            }
        }
        Ok(last)
    }

    /// What is newer than a level has, from finer ones.
    fn tail(&mut self, level: Level, from: u64, to: u64) -> rusqlite::Result<()> {
        let Some(finer) = level.finer().filter(|_| from < to) else { return Ok(()) };
        let coverage = self.coverage(finer, from)?;
        self.body(finer, finer.start(from).max(coverage.from), to.min(coverage.to))?;
        self.tail(finer, from.max(coverage.to), to)
    }
}

fn table(level: Level) -> &'static str {
    match level {
        Level::Raw => "samples",
        Level::Minute => "minutes",
        Level::Hour => "hours",
    }
}

/// Samples of a process that said the same.
struct Said {
    at: u64,
    until: u64,
    samples: u64,
    memory: Option<u64>,
    utilization: Option<u32>,
    leased: Option<bool>,
    place: Option<Place>,
}

impl Said {
    fn of(row: &SqlRow<'_>) -> rusqlite::Result<Self> {
        let place: Option<i64> = row.get(6)?;
        Ok(Self {
            at: natural(row.get(0)?),
            until: natural(row.get(1)?),
            samples: natural(row.get(2)?),
            memory: row.get::<_, Option<i64>>(3)?.map(natural),
            utilization: row.get(4)?,
            leased: row.get(5)?,
            place: place.and_then(|it| match it {
                0 => Some(Place::Right),
                1 => Some(Place::Wrong),
                _ => None,
            }),
        })
    }
}

/// A point of a process that more is added to.
struct Folded {
    point: ProcessPoint,
    memory: (i128, u64),
    utilization: (i128, u64),
}

impl Folded {
    fn of(said: &Said) -> Self {
        let point = ProcessPoint {
            at: said.at,
            until: said.until,
            samples: 0,
            memory_min: None,
            memory_average: None,
            memory_max: None,
            utilization_average: None,
            utilization_max: None,
            leased: None,
            place: None,
        };
        let mut folded = Self { point, memory: (0, 0), utilization: (0, 0) };
        folded.add(said);
        folded
    }

    fn add(&mut self, said: &Said) {
        let point = &mut self.point;
        point.until = said.until;
        point.samples += said.samples;
        point.memory_min = [point.memory_min, said.memory].into_iter().flatten().min();
        point.memory_max = point.memory_max.max(said.memory);
        point.utilization_max = point.utilization_max.max(said.utilization);
        point.leased = [point.leased, said.leased].into_iter().flatten().min();
        if point.place != Some(Place::Wrong) {
            point.place = said.place.or(point.place);
        }
        let weighed = |sums: &mut (i128, u64), value: Option<u64>| {
            if let Some(value) = value {
                sums.0 += i128::from(value) * i128::from(said.samples);
                sums.1 += said.samples;
            }
        };
        weighed(&mut self.memory, said.memory);
        weighed(&mut self.utilization, said.utilization.map(u64::from));
    }

    fn finish(mut self) -> ProcessPoint {
        self.point.memory_average = average(self.memory.0, self.memory.1);
        self.point.utilization_average = average(self.utilization.0, self.utilization.1);
        self.point
    }
}
