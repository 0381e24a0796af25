//! How often the leak verdict errs, on simulated series whose truth is known.
//!
//! `cargo run --release -p gpupin-run --example growth_rates -- [REPETITIONS]`
//!
//! Each series is 30 minutes at one sample a second, of a service that uses some gigabytes, with a threshold of 100 MB and 5 minutes of
//! warm-up. These are simulations of shapes, not measurements of services. Ends with 1 if a leaking shape ever passes.

#![expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it prints a table, and seconds and bytes in it are far below 2^52"
)]

use std::process::ExitCode;

use gpupin_run::growth::{Outcome, Pace, Question, Sample, judge};

const SECONDS: usize = 1800;
const WARMUP: usize = 300;
const MB: f64 = 1e6;

/// A generator of 64 bits (xorshift64*), so that everybody gets the same series.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Of mean 0 and deviation 1, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let (one, two) = (self.uniform().max(1e-12), self.uniform());
        (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos()
    }
}

/// What a shape really is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Truth {
    /// It may be unclear, and is never a leak.
    Fine,
    /// It may be unclear, and never passes.
    Leaks,
    /// Nobody can say by what was seen.
    Open,
}

type Shape = fn(&mut Random) -> Vec<f64>;

fn noise(random: &mut Random, deviation: f64) -> impl FnMut() -> f64 + '_ {
    move || random.normal() * deviation * MB
}

fn flat(random: &mut Random) -> Vec<f64> {
    let mut noise = noise(random, 5.0);
    (0..SECONDS).map(|_| 2000.0 * MB + noise()).collect()
}

fn saw(random: &mut Random, period: f64, height: f64, leak: f64) -> Vec<f64> {
    let phase = random.uniform() * period;
    let mut noise = noise(random, 3.0);
    let at = |t: usize| t as f64;
    let value = |t: usize, noise: f64| {
        2000.0 * MB
            + ((at(t) + phase) % period) / period * height * MB
            + leak * MB * at(t) / SECONDS as f64
            + noise
    };
    (0..SECONDS).map(|t| value(t, noise())).collect()
}

fn leak(random: &mut Random, total: f64, deviation: f64, begin: f64) -> Vec<f64> {
    let mut noise = noise(random, deviation);
    let share = |t: usize| ((t as f64 / SECONDS as f64 - begin) / (1.0 - begin)).max(0.0);
    (0..SECONDS).map(|t| 2000.0 * MB + total * MB * share(t) + noise()).collect()
}

fn walk(random: &mut Random, range: f64) -> Vec<f64> {
    // A cache whose filling wanders and is held within a range.
    let mut level = random.uniform() * range;
    (0..SECONDS)
        .map(|_| {
            level += random.normal() * range / 40.0;
            level = level.clamp(0.0, range);
            2000.0 * MB + level * MB
        })
        .collect()
}

fn bursts(random: &mut Random, leak: f64) -> Vec<f64> {
    let mut left = 0.0;
    let mut height = 0.0;
    (0..SECONDS)
        .map(|t| {
            if left <= 0.0 && random.uniform() < 0.01 {
                left = 5.0 + random.uniform() * 40.0;
                height = 100.0 + random.uniform() * 900.0;
            }
            left -= 1.0;
            let burst = if left > 0.0 { height } else { 0.0 };
            (2000.0 + burst + leak * t as f64 / SECONDS as f64 + random.normal() * 3.0) * MB
        })
        .collect()
}

const SHAPES: &[(&str, Truth, Shape)] = &[
    ("steady, 5 MB of noise", Truth::Fine, flat),
    ("ramp of 2 GB in 4 minutes, then flat", Truth::Fine, |random| {
        let mut values = flat(random);
        for (t, it) in values.iter_mut().enumerate() {
            *it += 2000.0 * MB * (t as f64 / 240.0).min(1.0);
        }
        values
    }),
    ("warm-up that slows down, time constant 400 s", Truth::Fine, |random| {
        let mut values = flat(random);
        for (t, it) in values.iter_mut().enumerate() {
            *it += 1000.0 * MB * (1.0 - (-(t as f64) / 400.0).exp());
        }
        values
    }),
    ("sawtooth of 500 MB, 30 s", Truth::Fine, |random| saw(random, 30.0, 500.0, 0.0)),
    ("sawtooth of 500 MB, 140 s", Truth::Fine, |random| saw(random, 140.0, 500.0, 0.0)),
    ("sawtooth of 500 MB, 400 s", Truth::Fine, |random| saw(random, 400.0, 500.0, 0.0)),
    ("bursts of up to 1 GB", Truth::Fine, |random| bursts(random, 0.0)),
    ("cache that wanders within 30 MB", Truth::Fine, |random| walk(random, 30.0)),
    ("cache that wanders within 300 MB", Truth::Fine, |random| walk(random, 300.0)),
    ("one step of 300 MB", Truth::Open, |random| {
        let at = 400 + (random.uniform() * 1200.0) as usize;
        let mut values = flat(random);
        for it in &mut values[at..] {
            *it += 300.0 * MB;
        }
        values
    }),
    ("leak of 50 MB, half of the threshold", Truth::Open, |random| leak(random, 50.0, 5.0, 0.0)),
    ("leak of 130 MB", Truth::Leaks, |random| leak(random, 130.0, 5.0, 0.0)),
    ("leak of 200 MB", Truth::Leaks, |random| leak(random, 200.0, 5.0, 0.0)),
    ("leak of 200 MB, 20 MB of noise", Truth::Leaks, |random| leak(random, 200.0, 20.0, 0.0)),
    ("leak of 200 MB inside a sawtooth, 140 s", Truth::Leaks, |random| {
        saw(random, 140.0, 500.0, 200.0)
    }),
    ("leak of 200 MB inside a sawtooth, 400 s", Truth::Leaks, |random| {
        saw(random, 400.0, 500.0, 200.0)
    }),
    ("leak of 300 MB behind bursts", Truth::Leaks, |random| bursts(random, 300.0)),
    ("leak of 200 MB that begins at 60 %", Truth::Leaks, |random| leak(random, 200.0, 5.0, 0.6)),
    ("leak of 120 MB that begins at 75 %", Truth::Leaks, |random| leak(random, 120.0, 5.0, 0.75)),
    ("leak that speeds up to 300 MB", Truth::Leaks, |random| {
        let mut values = flat(random);
        for (t, it) in values.iter_mut().enumerate() {
            *it += 300.0 * MB * (t as f64 / SECONDS as f64).powi(3);
        }
        values
    }),
    ("leak of 40 MB steps, ten of them", Truth::Leaks, |random| {
        let mut values = flat(random);
        for (t, it) in values.iter_mut().enumerate() {
            *it += 40.0 * MB * (t as f64 / 180.0).floor();
        }
        values
    }),
];

fn main() -> ExitCode {
    let repetitions: u32 = std::env::args().nth(1).and_then(|it| it.parse().ok()).unwrap_or(1000);
    println!("{repetitions} series of each shape; shares of verdicts, simulated");
    println!("{:<48} {:>7} {:>8} {:>7} {:>13}", "", "steady", "suspect", "leak", "inconclusive");
    let mut is_wrong = false;
    for (name, truth, shape) in SHAPES {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut counts = [0_u32; 4];
        for _ in 0..repetitions {
            let at = match outcome(&shape(&mut random)) {
                Outcome::Steady => 0,
                Outcome::Suspect => 1,
                Outcome::Leak => 2,
                _ => 3,
            };
            counts[at] += 1;
        }
        let share = |at: usize| f64::from(counts[at]) / f64::from(repetitions);
        let passes = counts[0] + counts[1];
        let note = match truth {
            Truth::Leaks if passes > 0 => "a leak passed",
            Truth::Fine if counts[2] > 0 => "false alarms",
            _ => "",
        };
        is_wrong |= *truth == Truth::Leaks && passes > 0;
        println!(
            "{name:<48} {:>7.3} {:>8.3} {:>7.3} {:>13.3}  {note}",
            share(0),
            share(1),
            share(2),
            share(3)
        );
    }
    ExitCode::from(u8::from(is_wrong))
}

fn outcome(values: &[f64]) -> Outcome {
    let sample = |(at, value): (usize, &f64)| Sample {
        time: at as f64,
        call: at as u64,
        driver: Some(*value as i64),
        ..Sample::default()
    };
    let question = Question {
        version: 1,
        threshold: 100_000_000,
        warmups: WARMUP,
        capacity: None,
        pace: Pace::Time,
        samples: values.iter().enumerate().map(sample).collect(),
    };
    judge(&question).outcome
}
