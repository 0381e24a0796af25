//! Which memory grows: from samples of counters to a verdict that says so, with its error.
//!
//! A service's memory goes up and down with its work, so that a line through its samples, or a count of rises (Mann-Kendall), calls
//! steady services leaking: neighbouring samples are not independent. What leaks is not given back, so [`shape`](mod@shape) looks at *floors*: the
//! least of each of several windows. [`judge`] names the counter, since every counter that can grow means another cause.
//!
//! **Invariant:** nothing passes of which the samples allow that it leaks more than the threshold: it is `inconclusive` then, and more
//! samples are needed.
//!
//! The error rates are those of simulated series: `cargo xtask growth` prints them.

use self::shape::{Rule, Series};

mod shape;

pub use self::shape::{Judged, Shape};

/// Samples, and what they are judged by.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    pub version: u32,
    /// Bytes that may be gained over the whole observation.
    pub threshold: u64,
    /// Samples at the beginning that do not count.
    pub warmups: usize,
    /// Bytes of the GPU.
    pub capacity: Option<u64>,
    pub pace: Pace,
    pub samples: Vec<Sample>,
}

/// What growth is counted over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// Calls that are alike, each followed by a quiescent point: a counter that is exact does not move at all.
    Calls,
    /// Time, in a program that does what it wants.
    Time,
}

/// Counters at one moment, in bytes. Unknown ones are `None`.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Seconds of a monotonic clock.
    pub time: f64,
    /// Calls or iterations done.
    pub call: u64,
    pub allocated: Option<i64>,
    pub non_releasable: Option<i64>,
    pub cache: Option<i64>,
    pub driver: Option<i64>,
    pub others: Option<i64>,
    pub host: Option<i64>,
    pub pinned: Option<i64>,
}

/// A counter, and what it means when it grows.
struct Counter {
    name: &'static str,
    meaning: &'static str,
    of: fn(&Sample) -> Option<i64>,
    /// It moves by what programs do and by nothing else, so that every byte counts.
    is_exact: bool,
    /// Growth of it is nobody's fault.
    is_benign: bool,
}

/// From the most telling one to the least: who leaks tensors also grows the cache, and the driver's count.
const COUNTERS: &[Counter] = &[
    Counter {
        name: "allocated",
        meaning: "tensor leak",
        of: |it| it.allocated,
        is_exact: true,
        is_benign: false,
    },
    Counter {
        name: "non_releasable",
        meaning: "fragmentation",
        of: |it| it.non_releasable,
        is_exact: false,
        is_benign: false,
    },
    Counter {
        name: "driver",
        meaning: "driver or extension leak",
        of: |it| it.driver,
        is_exact: false,
        is_benign: false,
    },
    Counter {
        name: "pinned",
        meaning: "pinned host memory leak",
        of: |it| it.pinned,
        is_exact: true,
        is_benign: false,
    },
    Counter {
        name: "host",
        meaning: "host leak",
        of: |it| it.host,
        is_exact: false,
        is_benign: false,
    },
    Counter {
        name: "cache",
        meaning: "cache",
        of: |it| it.cache,
        is_exact: false,
        is_benign: true,
    },
    Counter {
        name: "others",
        meaning: "other processes",
        of: |it| it.others,
        is_exact: false,
        is_benign: true,
    },
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Steady,
    /// Exact growth below the threshold.
    Suspect,
    Leak,
    /// Other processes moved so much memory on the GPU that the driver's counts say nothing.
    Contaminated,
    /// More samples are needed.
    Inconclusive,
    /// Too few samples, or no counter at all.
    Insufficient,
}

/// One counter's part of the verdict.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Growth {
    pub counter: &'static str,
    pub meaning: &'static str,
    pub verdict: Judged,
    pub shape: Shape,
    /// Bytes from the first floor to the last.
    pub growth: i64,
    /// Bytes per call, with the ends of a 95 % interval.
    pub per_call: f64,
    pub per_call_low: f64,
    pub per_call_high: f64,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct Verdict {
    pub version: u32,
    pub outcome: Outcome,
    pub counters: Vec<Growth>,
    /// How many calls counted, after the warm-up.
    pub calls: u64,
    pub seconds: f64,
    /// If it goes on like this.
    pub seconds_to_out_of_memory: Option<f64>,
    /// For people.
    pub text: String,
}

/// What the samples say.
pub fn judge(question: &Question) -> Verdict {
    let samples = question.samples.get(question.warmups..).unwrap_or_default();
    let (calls, seconds) = match (samples.first(), samples.last()) {
        (Some(first), Some(last)) => {
            (last.call - first.call.min(last.call), last.time - first.time)
        }
        _ => (0, 0.0),
    };
    let mut verdict = Verdict {
        version: 1,
        outcome: Outcome::Insufficient,
        counters: Vec::new(),
        calls,
        seconds,
        seconds_to_out_of_memory: None,
        text: format!(
            "too few samples to say anything: {} after {} of warm-up",
            samples.len(),
            question.warmups.min(question.samples.len())
        ),
    };
    for counter in COUNTERS {
        if let Some(growth) = counted(counter, question, samples) {
            verdict.counters.push(growth);
        }
    }
    let known = verdict.counters.iter().any(|it| !is_benign(it) && it.counter != "host");
    if verdict.counters.is_empty() || samples.len() < Rule::of(question.pace).least {
        return verdict;
    }
    let (outcome, text) = together(&verdict, question, known);
    let worst = verdict.counters.iter().find(|it| it.verdict == Judged::Leak && !is_benign(it));
    if let Some(worst) = worst.filter(|_| outcome == Outcome::Leak) {
        verdict.seconds_to_out_of_memory =
            out_of_memory(worst, question.capacity, samples, calls, seconds);
    }
    verdict.text = match verdict.seconds_to_out_of_memory {
        Some(left) => format!("{text}; out of memory in {} if it goes on", time(left)),
        None => text,
    };
    verdict.outcome = outcome;
    verdict
}

fn is_benign(growth: &Growth) -> bool {
    COUNTERS.iter().any(|it| it.name == growth.counter && it.is_benign)
}

fn counted(counter: &Counter, question: &Question, samples: &[Sample]) -> Option<Growth> {
    // A counter that is unknown now and then is a series with gaps, and floors of gaps are no floors.
    let values: Vec<f64> =
        samples.iter().map(|it| (counter.of)(it).map(to_float)).collect::<Option<_>>()?;
    let places: Vec<f64> = match question.pace {
        Pace::Calls => samples.iter().map(|it| to_float(it.call)).collect(),
        Pace::Time => samples.iter().map(|it| it.time).collect(),
    };
    let series = Series::new(&places, &values)?;
    let rule = Rule {
        threshold: to_float(question.threshold),
        is_exact: counter.is_exact,
        ..Rule::of(question.pace)
    };
    let found = shape::judge(&series, &rule);
    // The slope is per place, and places of the second kind are seconds.
    let per_call = match question.pace {
        Pace::Calls => 1.0,
        Pace::Time => seconds_per_call(samples),
    };
    #[expect(clippy::cast_possible_truncation, reason = "a growth in bytes is far below 2^63")]
    let growth = found.growth.round() as i64;
    Some(Growth {
        counter: counter.name,
        meaning: counter.meaning,
        verdict: found.judged,
        shape: found.shape,
        growth,
        per_call: found.slope * per_call,
        per_call_low: found.low * per_call,
        per_call_high: found.high * per_call,
    })
}

fn seconds_per_call(samples: &[Sample]) -> f64 {
    match (samples.first(), samples.last()) {
        (Some(first), Some(last)) if last.call > first.call => {
            (last.time - first.time) / to_float(last.call - first.call)
        }
        _ => 1.0,
    }
}

fn together(verdict: &Verdict, question: &Question, known: bool) -> (Outcome, String) {
    let named = |judged: Judged| {
        verdict.counters.iter().filter(move |it| it.verdict == judged && !is_benign(it))
    };
    let described = |it: &Growth| {
        format!(
            "{} ({}): {} per call [{} to {}], {} over {} calls",
            it.meaning,
            it.counter,
            bytes(it.per_call),
            bytes(it.per_call_low),
            bytes(it.per_call_high),
            bytes(to_float(it.growth)),
            verdict.calls,
        )
    };
    let others = verdict.counters.iter().find(|it| it.counter == "others");
    // The driver's count of this process is what is left of the whole, so that others must have kept still.
    let moved = others
        .is_some_and(|it| to_float(it.growth.unsigned_abs()) > to_float(question.threshold) / 4.0);
    let leaks: Vec<&Growth> = named(Judged::Leak).collect();
    let (by_driver, own): (Vec<&Growth>, Vec<&Growth>) =
        leaks.into_iter().partition(|it| it.counter == "driver");
    if let Some(first) = own.first() {
        return (Outcome::Leak, format!("leaks: {}", described(first)));
    }
    if let Some(first) = by_driver.first() {
        if moved {
            let text = format!(
                "other processes moved memory on this GPU meanwhile, so that this says nothing: {}",
                described(first)
            );
            return (Outcome::Contaminated, text);
        }
        return (Outcome::Leak, format!("leaks: {}", described(first)));
    }
    if let Some(first) = named(Judged::Inconclusive).next() {
        let shape = first.shape.describe();
        return (
            Outcome::Inconclusive,
            format!("{shape}, so that more calls are needed: {}", described(first)),
        );
    }
    if let Some(first) = named(Judged::Suspect).next() {
        return (
            Outcome::Suspect,
            format!(
                "grows by a little, exactly, and below the threshold of {}: {}",
                bytes(to_float(question.threshold)),
                described(first)
            ),
        );
    }
    if !known {
        let text =
            "no counter of the GPU could be read: only host memory was watched, and it is steady";
        return (Outcome::Insufficient, text.to_owned());
    }
    let growing = verdict.counters.iter().find(|it| it.verdict == Judged::Leak);
    let aside =
        growing.map(|it| format!("; {} grew by {}", it.meaning, bytes(to_float(it.growth))));
    (
        Outcome::Steady,
        format!("nothing grows over {} calls{}", verdict.calls, aside.unwrap_or_default()),
    )
}

/// Seconds until the GPU is full, by what is free now.
fn out_of_memory(
    growth: &Growth,
    capacity: Option<u64>,
    samples: &[Sample],
    calls: u64,
    seconds: f64,
) -> Option<f64> {
    if matches!(growth.counter, "host" | "pinned") || calls == 0 || growth.per_call <= 0.0 {
        return None;
    }
    let last = samples.last()?;
    let known = [last.allocated, last.non_releasable, last.cache, last.driver, last.others];
    let used: i64 = known.iter().flatten().sum();
    let free = to_float(capacity?) - to_float(used);
    let calls_left = free.max(0.0) / growth.per_call;
    Some(calls_left * seconds / to_float(calls))
}

/// Exact below 2^53, far above any memory.
#[expect(clippy::cast_precision_loss, reason = "bytes of memory are below 2^53")]
fn to_float<T: TryInto<i64>>(number: T) -> f64 {
    number.try_into().map_or(f64::INFINITY, |it| it as f64)
}

/// `1.5 MB`, decimal.
fn bytes(bytes: f64) -> String {
    let (size, sign) = (bytes.abs(), if bytes < 0.0 { "-" } else { "" });
    let (divisor, unit) = match size {
        it if it >= 1e9 => (1e9, "GB"),
        it if it >= 1e6 => (1e6, "MB"),
        it if it >= 1e3 => (1e3, "kB"),
        _ => return format!("{sign}{size:.0} B"),
    };
    format!("{sign}{:.1} {unit}", size / divisor)
}

fn time(seconds: f64) -> String {
    match seconds {
        it if it < 120.0 => format!("{it:.0} s"),
        it if it < 7200.0 => format!("{:.0} min", it / 60.0),
        it => format!("{:.1} h", it / 3600.0),
    }
}

#[cfg(test)]
mod tests;
