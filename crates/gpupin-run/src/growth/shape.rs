//! One counter: does its floor rise, and how.

use super::Pace;

/// A series, by place: calls or seconds.
#[derive(Debug)]
pub(super) struct Series<'a> {
    places: &'a [f64],
    values: &'a [f64],
}

impl<'a> Series<'a> {
    /// `None` if it has no two places.
    pub(super) fn new(places: &'a [f64], values: &'a [f64]) -> Option<Self> {
        let is_long = places.len() == values.len() && places.len() >= 2;
        let moves = is_long && places[places.len() - 1] > places[0];
        moves.then_some(Self { places, values })
    }

    fn span(&self) -> f64 {
        self.places[self.places.len() - 1] - self.places[0]
    }
}

/// What a series is judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// Bytes that may be gained over the whole series.
    pub(super) threshold: f64,
    /// Every byte counts.
    pub(super) is_exact: bool,
    /// How many windows there are at most.
    pub(super) windows: usize,
    /// How few samples say nothing.
    pub(super) least: usize,
}

impl Rule {
    /// The rule for a kind of observation, with a threshold still to be set.
    pub(super) fn of(pace: Pace) -> Self {
        let base = Self { threshold: f64::INFINITY, is_exact: false, windows: 10, least: 20 };
        match pace {
            Pace::Calls => Self { least: 6, ..base },
            Pace::Time => base,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Judged {
    Steady,
    Suspect,
    Leak,
    Inconclusive,
}

/// How the floors went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    Steady,
    /// It rose once, and stayed.
    Step,
    /// It rose less and less, as a warm-up does.
    Decelerating,
    Growing,
    Unclear,
}

impl Shape {
    /// For a message.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Steady => "it is steady",
            Self::Step => "it rose once and stayed",
            Self::Decelerating => "it rises less and less",
            Self::Growing => "it rises",
            Self::Unclear => "it is unclear whether it rises",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) judged: Judged,
    pub(super) shape: Shape,
    /// Bytes from the first floor to the last.
    pub(super) growth: f64,
    /// Bytes per place, with the ends of its 95 % interval.
    pub(super) slope: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// Of a rise, so much at once is a step.
const STEP_SHARE: f64 = 0.8;

/// Of a rise, less than this in its second half is a warm-up that ends.
const LATE_SHARE: f64 = 0.4;

/// The part of the series at its end in which a late leak must show.
const LATE: f64 = 0.4;

/// Judges a series.
pub(super) fn judge(series: &Series<'_>, rule: &Rule) -> Found {
    let floors = floors(series, rule.windows);
    let first = floors[0].1;
    let last = floors[floors.len() - 1].1;
    let span = series.span();
    // Floors stand in the middle of their windows, and half a window at each end is missing.
    let growth = (last - first) * span / (floors[floors.len() - 1].0 - floors[0].0);
    let fit = Fit::of(&floors);
    let late_start = series.places[0] + span * (1.0 - LATE);
    let late: Vec<_> = floors.iter().copied().filter(|it| it.0 >= late_start).collect();
    let late = Fit::of(&late);
    let found = |judged, shape| Found {
        judged,
        shape,
        growth,
        slope: fit.slope,
        low: fit.low,
        high: fit.high,
    };

    // What it would gain over the whole at the pace of the end: a leak may have begun late.
    let projected = late.slope.max(0.0) * span;
    let is_small = growth < rule.threshold && projected < rule.threshold;
    let every = rises_exactly(series, &floors);
    let highest = floors.iter().map(|it| it.1).fold(first, f64::max);
    let lowest = floors.iter().map(|it| it.1).fold(first, f64::min);
    if is_small && highest - lowest >= rule.threshold {
        // It has a cycle that is longer than a window, or wanders, and a leak could hide in it.
        return found(Judged::Inconclusive, Shape::Unclear);
    }
    if is_small {
        // What the samples cannot tell from a leak does not pass.
        let worst = fit.high.max(0.0) * span;
        return match () {
            () if rule.is_exact && every && growth > 0.0 => found(Judged::Suspect, Shape::Growing),
            () if worst >= rule.threshold && growth > rule.threshold / 2.0 => {
                found(Judged::Inconclusive, Shape::Unclear)
            }
            () => found(Judged::Steady, Shape::Steady),
        };
    }
    if growth < rule.threshold {
        // Only its end rises.
        let rises = late.low > 0.0;
        let judged = if rises && late.slope * span * LATE >= rule.threshold {
            Judged::Leak
        } else {
            Judged::Inconclusive
        };
        return found(judged, if rises { Shape::Growing } else { Shape::Unclear });
    }
    let rises: Vec<f64> = floors.windows(2).map(|it| it[1].1 - it[0].1).collect();
    let largest = rises.iter().copied().fold(0.0, f64::max);
    let late_share = (last - middle(&floors)) / (last - first);
    if largest >= STEP_SHARE * growth && rises.len() > 2 {
        return found(Judged::Inconclusive, Shape::Step);
    }
    if late_share < LATE_SHARE {
        // A ramp that has ended is a warm-up that was too short, and nothing that leaks ends.
        let is_over = late.high * span < rule.threshold;
        let judged = if is_over && projected < rule.threshold / 4.0 {
            Judged::Steady
        } else {
            Judged::Inconclusive
        };
        return found(judged, Shape::Decelerating);
    }
    let falls = rises.iter().filter(|it| **it < 0.0).count();
    let rises_late = late.low > 0.0 && late.slope * span * LATE >= rule.threshold;
    if rises_late || (fit.low > 0.0 && falls * 3 <= rises.len()) {
        return found(Judged::Leak, Shape::Growing);
    }
    found(Judged::Inconclusive, Shape::Unclear)
}

/// The floor halfway, between the two that are nearest.
fn middle(floors: &[(f64, f64)]) -> f64 {
    let half = f64::midpoint(floors[0].0, floors[floors.len() - 1].0);
    let after = floors.iter().position(|it| it.0 >= half).unwrap_or(0).max(1);
    let (one, other) = (floors[after - 1], floors[after]);
    one.1 + (other.1 - one.1) * (half - one.0) / (other.0 - one.0)
}

/// Whether each sample's floor of all that follow is above that of the sample before: growth with every call, and never back.
fn rises_exactly(series: &Series<'_>, floors: &[(f64, f64)]) -> bool {
    let never_falls = series.values.windows(2).all(|it| it[1] >= it[0]);
    let rises = floors.windows(2).filter(|it| it[1].1 > it[0].1).count();
    never_falls && rises * 2 >= floors.len() - 1
}

/// The least of each window, and where its window's middle is.
fn floors(series: &Series<'_>, most: usize) -> Vec<(f64, f64)> {
    let count = (series.values.len() / 2).clamp(2, most);
    let (start, span) = (series.places[0], series.span());
    let mut floors: Vec<Option<f64>> = vec![None; count];
    for (place, value) in series.places.iter().zip(series.values) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a small, positive number"
        )]
        let at = (((place - start) / span * count as f64) as usize).min(count - 1);
        floors[at] = Some(floors[at].map_or(*value, |it| it.min(*value)));
    }
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let middle = |at: usize| start + span * (at as f64 + 0.5) / count as f64;
    floors.iter().enumerate().filter_map(|(at, it)| Some((middle(at), (*it)?))).collect()
}

/// A line through floors: Theil and Sen's slope, which single windows do not move.
#[derive(Debug, Clone, Copy)]
struct Fit {
    slope: f64,
    low: f64,
    high: f64,
}

impl Fit {
    fn of(points: &[(f64, f64)]) -> Self {
        let mut slopes: Vec<f64> = Vec::new();
        for (at, one) in points.iter().enumerate() {
            for other in &points[at + 1..] {
                if other.0 > one.0 {
                    slopes.push((other.1 - one.1) / (other.0 - one.0));
                }
            }
        }
        if slopes.is_empty() {
            return Self { slope: 0.0, low: 0.0, high: 0.0 };
        }
        slopes.sort_by(f64::total_cmp);
        let slope = median(&slopes);
        let half = half_width(points, slope);
        Self { slope, low: slope - half, high: slope + half }
    }
}

/// Half of the 95 % interval of a slope: the residuals' spread over what it is known from, with fewer independent points than there are where
/// neighbours are alike (AR(1), Bayley and Hammersley's effective number; Kendall's correction of its bias).
#[expect(clippy::cast_precision_loss, reason = "a few windows")]
fn half_width(points: &[(f64, f64)], slope: f64) -> f64 {
    let count = points.len() as f64;
    if points.len() < 3 {
        return slope.abs();
    }
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (place, value) = (mean(&|it| it.0), mean(&|it| it.1));
    let residuals: Vec<f64> =
        points.iter().map(|it| it.1 - value - slope * (it.0 - place)).collect();
    let square: f64 = residuals.iter().map(|it| it * it).sum();
    let spread: f64 = points.iter().map(|it| (it.0 - place).powi(2)).sum();
    if square <= 0.0 || spread <= 0.0 {
        return 0.0;
    }
    let lagged: f64 = residuals.windows(2).map(|it| it[0] * it[1]).sum();
    let rho = lagged / square;
    let rho = (rho + (1.0 + 4.0 * rho) / count).clamp(0.0, 0.95);
    let effective = (count * (1.0 - rho) / (1.0 + rho)).max(3.0);
    let variance = square / (effective - 2.0).max(1.0);
    quantile(effective - 2.0) * (variance / spread * count / effective).sqrt()
}

/// The 97.5 % quantile of Student's distribution, by degrees of freedom (`scipy.stats.t.ppf(0.975, n)` of version 1.17.1).
const QUANTILES: [(f64, f64); 9] = [
    (1.0, 12.7062),
    (2.0, 4.3027),
    (3.0, 3.1825),
    (4.0, 2.7765),
    (5.0, 2.5706),
    (8.0, 2.3061),
    (10.0, 2.2282),
    (30.0, 2.0423),
    (f64::INFINITY, 1.9600),
];

/// Between two of the table on a line in 1/n, which is above the curve.
fn quantile(degrees: f64) -> f64 {
    let degrees = degrees.max(1.0);
    let after = QUANTILES.iter().position(|it| it.0 >= degrees).unwrap_or(0).max(1);
    let (one, other) = (QUANTILES[after - 1], QUANTILES[after]);
    let share = (1.0 / one.0 - 1.0 / degrees) / (1.0 / one.0 - 1.0 / other.0);
    one.1 + (other.1 - one.1) * share
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// The slope that a series of floors has.
#[cfg(test)]
pub(super) fn slope(points: &[(f64, f64)]) -> f64 {
    Fit::of(points).slope
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_are_those_of_students_distribution() {
        // Also between the table's, as SciPy 1.17.1 gives them.
        for (degrees, expected) in
            [(1.0, 12.7062), (1.5, 6.0167), (6.0, 2.4469), (20.0, 2.0860), (1e9, 1.9600)]
        {
            let found = quantile(degrees);
            assert!(found > expected - 1e-4 && found < expected * 1.2, "{degrees}: {found}");
        }
    }
}
