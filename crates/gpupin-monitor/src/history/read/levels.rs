//! Which level answers a question: the finest that is read quickly, with coarser ones for what it has lost and finer ones for what is not
//! rolled up yet.

use gpupin_policy::GpuUuid;
use rusqlite::{Connection, OptionalExtension as _};

use super::{Range, Resolution};
use crate::history::{
    Level, Metric, Point,
    fold::{Fold, Row, Stretch},
    integer, natural, roll,
};

/// The points of a metric of one GPU.
pub(super) fn points(
    connection: &Connection,
    gpu: &GpuUuid,
    metric: Metric,
    range: Range,
    resolution: Resolution,
) -> rusqlite::Result<Vec<Point>> {
    // One moment of the file for all that follows, whatever is written meanwhile.
    let transaction = connection.unchecked_transaction()?;
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

/// Where a level ends: it may begin after what is asked for, and what is newest is not rolled up.
struct Coverage {
    from: u64,
    to: u64,
}

/// Milliseconds of a point.
pub(super) fn step(range: Range, resolution: Resolution) -> u64 {
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
