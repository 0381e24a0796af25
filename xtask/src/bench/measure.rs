//! Times and memory of programs that take turns.

use std::{
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use wait4::{ResourceUsage, Wait4 as _};

use crate::process::display;

/// A program to be measured.
pub(super) struct Contender {
    pub(super) name: String,
    pub(super) threads: usize,
    pub(super) command: Command,
    /// The exit codes that it may end with.
    pub(super) codes: &'static [i32],
    /// Makes what the command works on, before each run and outside of the time.
    pub(super) prepare: Option<Box<dyn Fn() -> Result<()>>>,
}

impl Contender {
    /// A program that changes nothing, and ends with 0 (nothing found) or 1 (something found).
    pub(super) fn looking(name: &str, threads: usize, command: Command) -> Self {
        Self { name: name.to_owned(), threads, command, codes: &[0, 1], prepare: None }
    }
}

/// What was measured of a [`Contender`].
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) threads: usize,
    /// Wall clock in seconds, sorted, never empty.
    seconds: Vec<f64>,
    /// Processor time of all threads in seconds, sorted like them: steadier on a busy machine.
    cpu: Vec<f64>,
    /// In bytes, the highest of all rounds.
    pub(super) peak_rss: u64,
}

impl Measured {
    /// Of the wall clock, in seconds.
    pub(super) fn median(&self) -> f64 {
        middle(&self.seconds)
    }

    /// Of the processor time, in seconds.
    pub(super) fn median_cpu(&self) -> f64 {
        middle(&self.cpu)
    }

    /// The fastest and the slowest round.
    pub(super) fn spread(&self) -> String {
        let (first, last) = self.extremes();
        format!("({first:.3} to {last:.3})")
    }

    /// The wall clock of the fastest and the slowest round, in seconds.
    pub(super) fn extremes(&self) -> (f64, f64) {
        let (first, last) = (self.seconds.first(), self.seconds.last());
        let of = |seconds: Option<&f64>| *seconds.expect("at least one round was measured");
        (of(first), of(last))
    }
}

/// Runs every contender once per round, after one round that only warms the page cache.
pub(super) fn in_turns(contenders: &mut [Contender], rounds: usize) -> Result<Vec<Measured>> {
    let mut measured: Vec<_> = contenders
        .iter()
        .map(|it| Measured {
            name: it.name.clone(),
            threads: it.threads,
            seconds: Vec::new(),
            cpu: Vec::new(),
            peak_rss: 0,
        })
        .collect();
    for round in 0..=rounds {
        for (contender, measured) in contenders.iter_mut().zip(&mut measured) {
            if let Some(prepare) = &contender.prepare {
                prepare()?;
            }
            let (seconds, used) = run(&mut contender.command, contender.codes)?;
            if round > 0 {
                measured.seconds.push(seconds);
                measured.cpu.push((used.utime + used.stime).as_secs_f64());
                measured.peak_rss = measured.peak_rss.max(used.maxrss);
            }
        }
    }
    for it in &mut measured {
        it.seconds.sort_by(f64::total_cmp);
        it.cpu.sort_by(f64::total_cmp);
    }
    Ok(measured)
}

/// The median of sorted values.
pub(super) fn middle(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// Runs a program once: its wall clock in seconds, and what else it and what it waited for used.
pub(super) fn run(command: &mut Command, codes: &[i32]) -> Result<(f64, ResourceUsage)> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let child =
        command.spawn().with_context(|| format!("failed to start `{}`", display(command)))?;
    let used = child.wait4().with_context(|| format!("failed to await `{}`", display(command)))?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(
        used.status.code().is_some_and(|it| codes.contains(&it)),
        "`{}` failed: {}",
        display(command),
        used.status
    );
    Ok((seconds, used.rusage))
}

#[cfg(test)]
mod tests {
    use super::middle;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middles() {
        let check = |sorted: &[f64], expected: f64| {
            assert!((middle(sorted) - expected).abs() < 1e-9, "{sorted:?}");
        };
        check(&[3.0], 3.0);
        check(&[1.0, 2.0, 9.0], 2.0);
        check(&[1.0, 2.0, 4.0, 9.0], 3.0);
    }
}
