//! Roll-ups and series, compared with a model that keeps every sample in a map.

#![expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]

use std::{collections::BTreeMap, time::Duration};

use proptest::{
    prelude::{Strategy, TestCaseError, any, prop_oneof, proptest},
    prop_assert, prop_assert_eq,
    test_runner::Config,
};

use super::{FOREVER, START, ask, machine, moment, open};
use crate::history::{Level, Metric, Range, Reader, Resolution, Retention};

/// What fails is told, and kept by whoever repairs it.
fn config() -> Config {
    Config { failure_persistence: None, ..Config::with_cases(32) }
}

/// What happens before the next moment.
#[derive(Debug, Clone)]
enum Step {
    /// The clock goes on by so many milliseconds and the GPU says this, or not.
    Sample(u64, Option<u32>),
    /// The machine does not answer.
    Silence(u64),
    /// The clock is set back by so much.
    Back(u64),
    /// The process ends and another one begins.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let value =
        prop_oneof![4 => (0_u32..=100).prop_map(Some), 1 => any::<()>().prop_map(|()| None)];
    prop_oneof![
        20 => (900_u64..1100, value.clone()).prop_map(|(by, it)| Step::Sample(by, it)),
        6 => (1_000_u64..400_000, value.clone()).prop_map(|(by, it)| Step::Sample(by, it)),
        1 => (1_000_000_u64..9_000_000, value).prop_map(|(by, it)| Step::Sample(by, it)),
        2 => (500_u64..5_000).prop_map(Step::Silence),
        1 => (1_u64..4_000_000).prop_map(Step::Back),
        1 => any::<()>().prop_map(|()| Step::Restart),
    ]
}

/// Count, unknown, sum, min and max of what lies in each minute or hour.
type Sums = (u64, u64, i64, Option<i64>, Option<i64>);
type Rolled = BTreeMap<u64, Sums>;

fn rolled(samples: &BTreeMap<u64, Option<u32>>, unit: u64) -> Rolled {
    let mut all = Rolled::new();
    for (at, value) in samples {
        let it = all.entry(at - at % unit).or_default();
        match value.map(i64::from) {
            None => it.1 += 1,
            Some(value) => {
                it.0 += 1;
                it.2 += value;
                it.3 = Some(it.3.map_or(value, |old| old.min(value)));
                it.4 = Some(it.4.map_or(value, |old| old.max(value)));
            }
        }
    }
    all
}

fn text(rolled: &Rolled) -> String {
    let number = |it: Option<i64>| it.map_or_else(|| "?".to_owned(), |it| it.to_string());
    let line = |(at, it): (&u64, &Sums)| {
        let sum = number((it.0 > 0).then_some(it.2));
        format!("{at} {} {} {sum} {} {}\n", it.0, it.1, number(it.3), number(it.4))
    };
    rolled.iter().map(line).collect()
}

/// Plays the steps into a history and the model, and compares them.
fn check(steps: &[Step], retention: &Retention) -> Result<(), TestCaseError> {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = directory.path().join("history.db");
    let keeps_all = *retention == FOREVER;
    let mut store = open(&path, retention);
    let mut samples = BTreeMap::new();
    let mut now = START;
    let template = machine();
    let gpu = template.gpus[0].uuid.clone();
    for step in steps {
        match step {
            Step::Sample(by, value) => {
                now += by;
                let mut machine = template.clone();
                machine.gpus[0].utilization = *value;
                store.write(&moment(now, Some(machine)));
                samples.insert(now, *value);
            }
            Step::Silence(by) => {
                now += by;
                store.write(&moment(now, None));
            }
            Step::Back(by) if keeps_all => now = (now - by).max(START),
            Step::Back(_) => {}
            Step::Restart => {
                drop(store);
                store = open(&path, retention);
            }
        }
    }
    let reader = Reader::open(&path).unwrap();
    let newest = samples.keys().next_back().copied().unwrap_or(START);
    let range = Range { from: START, to: newest + 1 };
    // Whatever level a point is of, every sample is in exactly one of them.
    for resolution in
        [16, 50, 300, 5000].map(Resolution::Points).into_iter().chain([Resolution::Finest])
    {
        let series = reader.series(&gpu, Metric::Utilization, range, resolution).unwrap();
        let count: u64 = series.points.iter().map(|it| it.count).sum();
        let unknown: u64 = series.points.iter().map(|it| it.unknown).sum();
        let sum: f64 =
            series.points.iter().filter_map(|it| Some(it.average? * it.count as f64)).sum();
        let known: Vec<_> = samples.values().flatten().collect();
        prop_assert_eq!(
            (count, unknown),
            (known.len() as u64, (samples.len() - known.len()) as u64),
            "{:?}",
            resolution
        );
        let expected: u32 = known.iter().copied().sum();
        prop_assert!(
            (sum - f64::from(expected)).abs() < 1e-3,
            "{:?}: {} {}",
            resolution,
            sum,
            expected
        );
        if let Resolution::Points(most) = resolution {
            prop_assert!(
                series.points.len() <= most as usize,
                "{} points of {}",
                series.points.len(),
                most
            );
        } else if keeps_all {
            let all = series.points.iter().map(|it| (it.at, it.max));
            let expected = samples.iter().map(|(at, it)| (*at, it.map(i64::from)));
            prop_assert_eq!(all.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        }
        prop_assert!(
            series.points.is_sorted_by(|a, b| a.at + a.span <= b.at),
            "{:?}: points overlap",
            resolution
        );
    }
    // Two hours later all is rolled up.
    let end = Level::Hour.start(newest.max(now)) + 2 * Level::Hour.unit();
    store.write(&moment(end, None));
    if keeps_all {
        for (table, level) in [("minutes", Level::Minute), ("hours", Level::Hour)] {
            let sql = format!(
                "SELECT at, count, unknown, sum, min, max FROM {table} JOIN gpus ON id = gpu WHERE uuid = '{gpu}' AND metric = 1 ORDER BY at"
            );
            prop_assert_eq!(ask(&path, &sql), text(&rolled(&samples, level.unit())), "{}", table);
        }
    }
    Ok(())
}

#[test]
fn roll_ups_are_those_of_a_model_whatever_the_clock_does() {
    let steps = proptest::collection::vec(step(), 1..300);
    proptest!(config(), |(steps in steps)| check(&steps, &FOREVER)?);
}

#[test]
fn no_sample_is_lost_or_counted_twice_where_levels_meet() {
    let steps = proptest::collection::vec(step(), 1..300);
    let retention =
        Retention { raw: Duration::from_mins(20), minutes: Duration::from_hours(3), ..FOREVER };
    proptest!(config(), |(steps in steps)| check(&steps, &retention)?);
}
