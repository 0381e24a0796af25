use super::{Outcome, Pace, Question, Sample, Verdict, judge};

const MB: i64 = 1_000_000;

/// A question about one counter over calls.
fn question(values: &[i64], set: fn(&mut Sample, i64)) -> Question {
    let sample = |(call, value): (usize, &i64)| {
        let call = u32::try_from(call).unwrap();
        let mut sample =
            Sample { time: f64::from(call), call: u64::from(call), ..Sample::default() };
        set(&mut sample, *value);
        sample
    };
    Question {
        version: 1,
        threshold: 100_000_000,
        warmups: 3,
        capacity: Some(24_000_000_000),
        pace: Pace::Calls,
        samples: values.iter().enumerate().map(sample).collect(),
    }
}

#[track_caller]
fn check(values: &[i64], expected: Outcome) -> Verdict {
    let verdict = judge(&question(values, |it, value| it.allocated = Some(value)));
    assert_eq!(verdict.outcome, expected, "{verdict:?}");
    verdict
}

fn of(calls: i64, value: impl Fn(i64) -> i64) -> Vec<i64> {
    (0..=calls).map(value).collect()
}

#[test]
fn what_does_not_move_is_steady_and_what_comes_back_too() {
    check(&of(13, |_| 8 * MB), Outcome::Steady);
    check(&of(30, |it| 8 * MB + it % 3 * 200 * MB), Outcome::Steady);
}

#[test]
fn a_warm_up_does_not_count() {
    check(&of(13, |it| it.min(3) * 500 * MB), Outcome::Steady);
}

#[test]
fn growth_with_every_call_is_a_leak_and_its_pace_is_told() {
    let verdict = check(&of(13, |it| it * 20 * MB), Outcome::Leak);
    let growth = &verdict.counters[0];
    assert_eq!((growth.meaning, growth.per_call), ("tensor leak", 20e6));
    assert_eq!(verdict.calls, 10);
    // 24 GB less 260 MB at 20 MB a second.
    assert_eq!(verdict.seconds_to_out_of_memory, Some(1187.0));
    assert_eq!(
        verdict.text,
        "leaks: tensor leak (allocated): 20.0 MB per call [20.0 MB to 20.0 MB], 200.0 MB over 10 calls; out of memory in 20 min if it goes on"
    );
}

#[test]
fn a_leak_inside_a_sawtooth_is_found_or_at_least_does_not_pass() {
    check(&of(63, |it| it % 4 * 300 * MB + it * 10 * MB), Outcome::Leak);
    let verdict = judge(&question(&of(13, |it| it % 4 * 300 * MB + it * 20 * MB), |it, value| {
        it.allocated = Some(value);
    }));
    assert!(matches!(verdict.outcome, Outcome::Leak | Outcome::Inconclusive), "{verdict:?}");
}

#[test]
fn exact_growth_below_the_threshold_is_suspect() {
    check(&of(13, |it| it * 512), Outcome::Suspect);
    // The kernel's counts are not exact, so that a little says nothing.
    let verdict = judge(&question(&of(13, |it| it * 512), |it, value| it.driver = Some(value)));
    assert_eq!(verdict.outcome, Outcome::Steady);
}

#[test]
fn one_step_and_a_late_beginning_do_not_pass() {
    check(&of(33, |it| if it > 15 { 300 * MB } else { 0 }), Outcome::Inconclusive);
    let verdict = check(&of(43, |it| (it - 25).max(0) * 20 * MB), Outcome::Leak);
    assert_eq!(verdict.counters[0].shape, super::Shape::Growing);
}

#[test]
fn the_counter_tells_the_cause() {
    type Set = fn(&mut Sample, i64);
    let causes: [(Set, &str); 5] = [
        (|it, value| it.non_releasable = Some(value), "fragmentation"),
        (|it, value| it.driver = Some(value), "driver or extension leak"),
        (|it, value| it.pinned = Some(value), "pinned host memory leak"),
        (|it, value| it.host = Some(value), "host leak"),
        (|it, value| it.allocated = Some(value), "tensor leak"),
    ];
    for (set, cause) in causes {
        let verdict = judge(&question(&of(13, |it| it * 20 * MB), set));
        assert_eq!(verdict.outcome, Outcome::Leak, "{cause}");
        assert!(verdict.text.starts_with(&format!("leaks: {cause}")), "{}", verdict.text);
    }
}

#[test]
fn a_cache_that_fills_is_told_and_is_no_leak() {
    let verdict = judge(&question(&of(13, |it| it * 20 * MB), |it, value| {
        it.allocated = Some(0);
        it.cache = Some(value);
    }));
    assert_eq!(verdict.outcome, Outcome::Steady);
    assert_eq!(verdict.text, "nothing grows over 10 calls; cache grew by 200.0 MB");
}

#[test]
fn others_on_the_gpu_make_the_drivers_count_worthless() {
    let verdict = judge(&question(&of(13, |it| it * 20 * MB), |it, value| {
        it.driver = Some(value);
        it.others = Some(value);
    }));
    assert_eq!(verdict.outcome, Outcome::Contaminated);
    // The framework's own count is not the driver's.
    let verdict = judge(&question(&of(13, |it| it * 20 * MB), |it, value| {
        it.allocated = Some(value);
        it.others = Some(value);
    }));
    assert_eq!(verdict.outcome, Outcome::Leak);
}

#[test]
fn too_little_says_nothing() {
    check(&of(4, |it| it * 20 * MB), Outcome::Insufficient);
    check(&[], Outcome::Insufficient);
    let verdict = judge(&question(&of(13, |_| 0), |_, _| {}));
    assert_eq!(verdict.outcome, Outcome::Insufficient);
    // A counter that was unknown once has no floors, and a host that is steady is not a GPU that is.
    let mut question = question(&of(13, |_| 0), |it, value| {
        it.allocated = Some(value);
        it.host = Some(value);
    });
    question.samples[7].allocated = None;
    let verdict = judge(&question);
    assert_eq!(verdict.outcome, Outcome::Insufficient);
    assert!(verdict.text.starts_with("no counter of the GPU could be read"), "{}", verdict.text);
}

#[test]
fn slopes_are_those_of_theil_and_sen() {
    // scipy.stats.theilslopes(y, x), SciPy 1.17.1.
    let series: [(&[(f64, f64)], f64); 2] = [
        (&[(0.0, 0.0), (1.0, 1.0), (2.0, 2.0), (3.0, 30.0), (4.0, 4.0)], 1.0),
        (&[(0.0, 1.0), (1.0, 2.0), (2.0, 4.0), (3.0, 4.0), (4.0, 7.0), (5.0, 8.0)], 1.5),
    ];
    for (points, slope) in series {
        assert!(
            (super::shape::slope(points) - slope).abs() < 1e-12,
            "{}",
            super::shape::slope(points)
        );
    }
}
