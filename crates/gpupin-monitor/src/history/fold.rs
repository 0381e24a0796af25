//! Many rows become few points.

use super::Level;

/// What is known of a metric in some time.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Point {
    /// Its start, in milliseconds since 1970.
    pub at: u64,
    /// Milliseconds from its start that it is about.
    pub span: u64,
    /// What it was made of.
    pub level: Level,
    /// Samples that had a value.
    pub count: u64,
    /// Samples without one. Both are 0 in no point: where nothing was sampled there is none.
    pub unknown: u64,
    /// `None` where every sample was unknown, as the others.
    pub min: Option<i64>,
    pub average: Option<f64>,
    pub max: Option<i64>,
}

/// A sample, or what samples were rolled up to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) at: u64,
    pub(super) count: u64,
    pub(super) unknown: u64,
    pub(super) sum: i64,
    pub(super) min: Option<i64>,
    pub(super) max: Option<i64>,
}

/// Makes points of rows that come by time.
#[derive(Debug, Default)]
pub(super) struct Fold {
    points: Vec<Point>,
    /// Of the last point.
    step: u64,
    sum: i128,
}

/// The rows of one level in some time, and how much of it becomes a point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) level: Level,
    pub(super) step: u64,
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Fold {
    /// Adds a row to the point that it is in. Where another level goes on in the middle of a step, the points of both are shorter.
    pub(super) fn add(&mut self, stretch: Stretch, row: Row) {
        let Stretch { level, step, from, to } = stretch;
        let number = row.at / step;
        let end = ((number + 1) * step).min(to).max(row.at + level.unit());
        let goes_on = self.points.last().is_some_and(|it| it.level == level && self.step == number);
        if !goes_on {
            self.end();
            self.step = number;
            let at = (number * step).max(from);
            let point = Point {
                at,
                span: 0,
                level,
                count: 0,
                unknown: 0,
                min: None,
                average: None,
                max: None,
            };
            self.points.push(point);
        }
        let point = self.points.last_mut().expect("one was just put there");
        point.span = end - point.at;
        point.count += row.count;
        point.unknown += row.unknown;
        point.min = [point.min, row.min].into_iter().flatten().min();
        point.max = [point.max, row.max].into_iter().flatten().max();
        self.sum += i128::from(row.sum);
    }

    pub(super) fn finish(mut self) -> Vec<Point> {
        self.end();
        self.points
    }

    fn end(&mut self) {
        if let Some(point) = self.points.last_mut() {
            point.average = average(self.sum, point.count);
        }
        self.sum = 0;
    }
}

/// `None` of nothing.
pub(super) fn average(sum: i128, count: u64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "an average is rounded anyway")]
    (count > 0).then(|| sum as f64 / count as f64)
}
