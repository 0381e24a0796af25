//! What a lease costs, next to the same file operations in C and to `flock` alone.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, PipeReader, pipe},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::time::{ClockId, clock_gettime};

use super::measure::middle;
use crate::process::{quiet, root, stdout};

const GPU: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";

/// How many times a lease is taken and given back in one go.
const CYCLES: usize = 500;

/// How many times the holder of a long line is killed in one go.
const KILLS: usize = 20;

/// Compares, printing a table.
pub(super) fn compare(gpupin: &Path, rounds: usize, is_short: bool) -> Result<()> {
    let place = root().join("target/bench/lease");
    drop(fs::remove_dir_all(&place));
    fs::create_dir_all(place.join("state"))?;
    let peer = build(&place)?;

    let cycles = if is_short { 5 } else { CYCLES };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (one, other) = (cycle(gpupin, &place, cycles)?, cycle_in_c(&peer, &place, cycles)?);
        if round > 0 {
            ours.push(one);
            theirs.push(other);
        }
    }
    println!(
        "taking and giving back a free GPU, median of {} times, in microseconds",
        cycles * rounds
    );
    row("gpupin", &mut ours, None);
    let floor = median(&mut theirs);
    row("the same file operations in C", &mut theirs, None);
    println!("{:<44} {:>8.2}", "ratio (goal: at most 1.2)", median(&mut ours) / floor);

    let lines: &[usize] = if is_short { &[2] } else { &[2, 20, 100, 500] };
    let (mut flock, mut behind) = (Vec::new(), Vec::new());
    let mut leases: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for round in 0..=rounds {
        let times = Line::new(&place, Waiter::Flock(&peer))?.hand_over(2, 2)?;
        // A dying process frees its memory before its locks, so that what dies must be the same on both sides.
        let mut ticket = Line::new(&place, Waiter::FlockBehindLease { gpupin, peer: &peer })?;
        let slower = ticket.hand_over(1, 1)?;
        if round > 0 {
            flock.extend(times);
            behind.extend(slower);
        }
        for &length in lines {
            // A long line takes long to make, so it is used longer and made less often.
            if length > 20 && round > 2 {
                continue;
            }
            let times =
                Line::new(&place, Waiter::Lease(gpupin))?.hand_over(length, KILLS.min(length))?;
            if round > 0 {
                leases.entry(length).or_default().extend(times);
            }
        }
    }
    println!("\nfrom killing a holder until the next one holds, median, in microseconds");
    row("flock in C, a small C program killed", &mut flock, None);
    let floor = median(&mut behind);
    row("flock in C, gpupin killed", &mut behind, None);
    for (length, times) in &mut leases {
        row(&format!("gpupin, {length} waiting (goal: at most 1.5)"), times, Some(floor));
    }
    Ok(())
}

fn build(place: &Path) -> Result<PathBuf> {
    let peer = place.join("lease");
    let source = root().join("xtask/bench/lease.c");
    quiet(Command::new("cc").args(["-O2", "-Wall", "-o"]).arg(&peer).arg(source))?;
    Ok(peer)
}

fn cycle(gpupin: &Path, place: &Path, times: usize) -> Result<f64> {
    let state = place.join("state");
    let mut command = Command::new(gpupin);
    command.args(["debug", "lease-client", "--gpu", GPU, "--times", &times.to_string()]);
    middle_of(&stdout(command.arg("--dir").arg(state))?)
}

fn cycle_in_c(peer: &Path, place: &Path, times: usize) -> Result<f64> {
    let mut command = Command::new(peer);
    middle_of(&stdout(command.arg("cycle").arg(place.join("state")).arg(times.to_string()))?)
}

/// The median in microseconds of nanoseconds, one a line.
fn middle_of(lines: &str) -> Result<f64> {
    let mut all = lines.lines().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    ensure!(!all.is_empty(), "nothing was measured");
    Ok(median(&mut all) / 1e3)
}

pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    middle(values)
}

pub(super) fn row(name: &str, values: &mut [f64], floor: Option<f64>) {
    let median = median(values);
    let (first, last) = (values[0], values[values.len() - 1]);
    let ratio = floor.map(|it| format!("{:>6.2} × flock", median / it)).unwrap_or_default();
    println!("{name:<44} {median:>8.1} ({first:.1} to {last:.1}) {ratio}");
}

#[derive(Clone, Copy)]
enum Waiter<'a> {
    Flock(&'a Path),
    Lease(&'a Path),
    /// Waits for the lock of the first lease's ticket.
    FlockBehindLease {
        gpupin: &'a Path,
        peer: &'a Path,
    },
}

/// Processes that hold or wait, killed when it is dropped.
struct Line<'a> {
    directory: PathBuf,
    waiter: Waiter<'a>,
    processes: BTreeMap<u32, Child>,
    /// Who holds says so here.
    said: BufReader<PipeReader>,
    says: std::io::PipeWriter,
}

impl<'a> Line<'a> {
    fn new(place: &Path, waiter: Waiter<'a>) -> Result<Self> {
        let directory = place.join("line");
        drop(fs::remove_dir_all(&directory));
        fs::create_dir_all(&directory)?;
        let (said, says) = pipe()?;
        let said = BufReader::new(said);
        Ok(Self { directory, waiter, processes: BTreeMap::new(), said, says })
    }

    /// Lets `length` processes wait, kills the holder as often as is asked, and says how long the next one took, in
    /// microseconds.
    fn hand_over(&mut self, length: usize, kills: usize) -> Result<Vec<f64>> {
        self.start()?;
        let (mut holder, _) = self.holds()?;
        for _ in 0..length {
            self.start()?;
        }
        self.await_line(length + 1)?;
        let mut times = Vec::new();
        for _ in 0..kills {
            let mut child = self.processes.remove(&holder).context("somebody else holds")?;
            let now = clock_gettime(ClockId::Monotonic);
            child.kill()?;
            let (next, at) = self.holds()?;
            child.wait()?;
            #[expect(clippy::cast_precision_loss, reason = "an uptime is far below 2^52 ns")]
            let killed = now.tv_sec as f64 + now.tv_nsec as f64 / 1e9;
            times.push((at - killed) * 1e6);
            holder = next;
            // The others come to rest.
            thread::sleep(Duration::from_millis(20));
        }
        Ok(times)
    }

    fn start(&mut self) -> Result<()> {
        let is_first = self.processes.is_empty();
        let mut command = match self.waiter {
            Waiter::Lease(gpupin) => lease(gpupin, &self.directory),
            Waiter::FlockBehindLease { gpupin, .. } if is_first => lease(gpupin, &self.directory),
            Waiter::FlockBehindLease { peer, .. } => {
                flock(peer, &self.directory.join(format!("{GPU}.1.1")))
            }
            Waiter::Flock(peer) => flock(peer, &self.directory.join("lock")),
        };
        // The end of its input would end it.
        let child = command.stdin(Stdio::piped()).stdout(self.says.try_clone()?).spawn()?;
        self.processes.insert(child.id(), child);
        Ok(())
    }

    /// Who holds, and since when in seconds of the clock that never jumps.
    fn holds(&mut self) -> Result<(u32, f64)> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        let mut words = line.split_whitespace().skip(1);
        let mut next = || words.next().with_context(|| format!("`{line}` is not understood"));
        Ok((next()?.parse()?, next()?.parse()?))
    }

    /// Until everybody sleeps on a lock.
    fn await_line(&self, length: usize) -> Result<()> {
        if let Waiter::Lease(_) = self.waiter {
            let tickets = || -> Result<usize> {
                let names = fs::read_dir(&self.directory)?.filter_map(Result::ok);
                let is_ticket =
                    |it: &fs::DirEntry| it.file_name().to_string_lossy().starts_with("GPU-");
                Ok(names.filter(is_ticket).count())
            };
            while tickets()? < length {
                thread::sleep(Duration::from_millis(5));
            }
        }
        thread::sleep(Duration::from_millis(200));
        Ok(())
    }
}

fn flock(peer: &Path, file: &Path) -> Command {
    let mut command = Command::new(peer);
    command.arg("wait").arg(file);
    command
}

fn lease(gpupin: &Path, directory: &Path) -> Command {
    let mut command = Command::new(gpupin);
    command.args(["debug", "lease-client", "--gpu", GPU, "--dir"]).arg(directory);
    command
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        for child in self.processes.values_mut() {
            // It may have ended by itself.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
