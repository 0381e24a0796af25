//! How large a month of history becomes, what keeping a moment costs, and how long questions take beside bare reads of the same rows.
//!
//! The moments are made up: four GPUs with two processes each, whose figures wander. They are written as fast as they can be, with the times
//! that they would have had. What a real month looks like is not known here.

use std::{
    fs,
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use gpupin_device::{Kind, scene::SceneMachine};
use gpupin_monitor::{
    history::{Level, Metric, Range, Reader, Resolution, Retention, Store, StoreState},
    moment::{Moment, VERSION},
    snapshot::{ProcessNow, Snapshot, Use, snapshot},
};
use gpupin_policy::{GpuUuid, Policy};
use rusqlite::{Connection, OpenFlags};

use crate::process::{cargo, loud, root};

/// A Sunday at midnight, UTC.
const START: u64 = 1_700_352_000_000;
const DAY: u64 = 86_400_000;

/// Points of a chart as wide as a window.
const POINTS: u32 = 600;

/// Runs `bench history`.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let is_smoke = args == ["--smoke"];
    if cfg!(debug_assertions) && !is_smoke {
        let mut command = cargo(["run", "--quiet", "--release", "--package", "xtask", "--"]);
        return loud(command.args(["bench", "history"]).args(args));
    }
    let days: u64 = match args {
        [] => 30,
        ["--smoke"] => 1,
        ["--days", days] => days.parse().context("`--days` needs a number")?,
        _ => bail!("expected `--days N`"),
    };
    ensure!(days > 0, "`--days` must be at least 1");
    let directory = root().join("target/bench-history");
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    let path = directory.join("history.db");
    println!("SQLite {}, {} cores", rusqlite::version(), std::thread::available_parallelism()?);
    println!("all moments are made up: 4 GPUs, 2 processes each, one moment a second, {days} days");
    write(&path, days)?;
    one_by_one(&path, days)?;
    ask(&path, days)?;
    retain(&path, days)?;
    fs::remove_dir_all(&directory)?;
    Ok(())
}

const FOREVER: Retention = Retention {
    raw: Duration::from_secs(1 << 32),
    minutes: Duration::from_secs(1 << 32),
    hours: Duration::from_secs(1 << 32),
    size: u64::MAX,
};

fn write(path: &Path, days: u64) -> Result<()> {
    let mut made_up = MadeUp::new()?;
    let mut store = Store::open(path, Kind::Simulated, &FOREVER)?;
    let (start, cpu) = (Instant::now(), cpu_time());
    let mut making = Duration::ZERO;
    for minute in 0..days * 1440 {
        let made = cpu_time();
        let moments: Vec<_> =
            (0..60).map(|second| made_up.at(START + minute * 60_000 + second * 1000)).collect();
        making += since(made);
        keep(store.write_all(&moments))?;
    }
    let cpu = since(cpu).saturating_sub(making);
    drop(store);
    let size = fs::metadata(path)?.len();
    let samples = days * DAY / 1000 * 4;
    println!(
        "\nwritten a minute at a time in {:.0?}, {:.1} µs of CPU a moment",
        start.elapsed(),
        cpu.as_secs_f64() * 1e6 / (samples as f64 / 4.0)
    );
    println!(
        "size: {:.1} MB, {:.1} bytes a sample of a GPU with all that is beside it",
        mega(size),
        size as f64 / samples as f64
    );
    tables(path, samples)
}

/// Which part of the file is whose, if `SQLite` was built to tell.
fn tables(path: &Path, samples: u64) -> Result<()> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    for table in ["samples", "minutes", "hours", "processes", "process_samples"] {
        let rows: u64 =
            connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| {
                row.get::<_, i64>(0).map(i64::unsigned_abs)
            })?;
        let pages = connection.query_row(
            "SELECT sum(pgsize) FROM dbstat WHERE name = ? AND aggregate",
            [table],
            |row| row.get::<_, i64>(0),
        );
        match pages {
            Ok(size) => println!(
                "  {table}: {rows} rows, {:.1} MB, {:.1} bytes a row",
                size as f64 / 1e6,
                size as f64 / rows as f64
            ),
            Err(_) => println!("  {table}: {rows} rows"),
        }
        ensure!(table != "samples" || rows == samples, "{rows} of {samples} samples were kept");
    }
    Ok(())
}

/// As it is done at work: a transaction a moment.
fn one_by_one(path: &Path, days: u64) -> Result<()> {
    const MOMENTS: u64 = 7200;
    let mut made_up = MadeUp::new()?;
    let mut store = Store::open(path, Kind::Simulated, &FOREVER)?;
    let moments: Vec<_> =
        (0..MOMENTS).map(|second| made_up.at(START + days * DAY + second * 1000)).collect();
    let cpu = cpu_time();
    let mut times = Vec::new();
    for moment in &moments {
        let start = Instant::now();
        keep(store.write(moment))?;
        times.push(start.elapsed());
    }
    let cpu = since(cpu);
    println!(
        "\na transaction a moment, {MOMENTS} moments: {:.1} µs of CPU a moment, {}",
        cpu.as_secs_f64() * 1e6 / MOMENTS as f64,
        Percentiles::of(times)
    );
    Ok(())
}

fn ask(path: &Path, days: u64) -> Result<()> {
    let reader = Reader::open(path)?;
    let bare = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let gpus: Vec<GpuUuid> =
        reader.gpus()?.iter().map(|it| it.uuid.parse()).collect::<Result<_, _>>()?;
    let end = START + days * DAY + 7_200_000;
    let mut random = Random(1);
    println!(
        "\nquestions, {POINTS} points, the file in the memory of the system; bare: the same rows by primary key, nothing done with them"
    );
    for (words, span) in [
        ("5 minutes", 300_000),
        ("1 hour", DAY / 24),
        ("6 hours", DAY / 4),
        ("1 day", DAY),
        ("7 days", 7 * DAY),
        ("14 days", 14 * DAY),
        ("30 days", 30 * DAY),
    ] {
        for is_newest in [true, false] {
            if span > days * DAY || (!is_newest && span == days * DAY) {
                continue;
            }
            let mut times = Vec::new();
            let mut bare_times = Vec::new();
            let mut points = 0;
            let mut level = Level::Raw;
            for round in 0..300_u64 {
                let number = usize::try_from(round % 4)?;
                let metric = Metric::ALL[usize::try_from(random.below(8))?];
                let to =
                    if is_newest { end } else { START + span + random.below(days * DAY - span) };
                let range = Range { from: to - span, to };
                let start = Instant::now();
                let series =
                    reader.series(&gpus[number], metric, range, Resolution::Points(POINTS))?;
                times.push(start.elapsed());
                points = series.points.len();
                level = series.points.first().context("there are no points")?.level;
                bare_times.push(bare_read(&bare, number, metric, range, level)?);
            }
            let (asked, bare) = (Percentiles::of(times), Percentiles::of(bare_times));
            let which = if is_newest { "the last" } else { "some" };
            println!(
                "  {which} {words}: {asked}; bare {bare}; {:.1} times ({points} points, {})",
                asked.median.as_secs_f64() / bare.median.as_secs_f64(),
                level.as_str()
            );
        }
    }
    let day = Range { from: end - DAY, to: end };
    let process = reader.processes(day, 1)?.first().context("there are no processes")?.id;
    let time = |words: &str, ask: &mut dyn FnMut() -> Result<usize>| -> Result<()> {
        let mut times = Vec::new();
        let mut rows = 0;
        for _ in 0..100 {
            let start = Instant::now();
            rows = ask()?;
            times.push(start.elapsed());
        }
        println!("  {words}: {} ({rows} rows)", Percentiles::of(times));
        Ok(())
    };
    time("processes of a day", &mut || Ok(reader.processes(day, 1000)?.len()))?;
    time("a process for an hour", &mut || {
        let hour = Range { from: end - DAY / 24, to: end };
        Ok(reader.process_series(process, hour, Resolution::Points(POINTS))?.len())
    })?;
    time("a process for a day", &mut || {
        Ok(reader.process_series(process, day, Resolution::Points(POINTS))?.len())
    })?;
    time("leases of a day", &mut || Ok(reader.leases(day)?.len()))?;
    time("events of a day", &mut || Ok(reader.events(day)?.len()))?;
    time("gaps of a day", &mut || Ok(reader.gaps(day)?.len()))?;
    time("range", &mut || Ok(reader.range()?.iter().len()))
}

/// Reads the rows that a series of one level is made of.
fn bare_read(
    connection: &Connection,
    gpu: usize,
    metric: Metric,
    range: Range,
    level: Level,
) -> Result<Duration> {
    let sql = match level {
        Level::Raw => {
            "SELECT at, utilization FROM samples WHERE gpu = ?1 AND ?2 = ?2 AND at >= ?3 AND at < ?4"
        }
        Level::Minute => {
            "SELECT at, sum FROM minutes WHERE gpu = ?1 AND metric = ?2 AND at >= ?3 AND at < ?4"
        }
        Level::Hour => {
            "SELECT at, sum FROM hours WHERE gpu = ?1 AND metric = ?2 AND at >= ?3 AND at < ?4"
        }
    };
    let start = Instant::now();
    let mut statement = connection.prepare_cached(sql)?;
    let numbers = [
        i64::try_from(gpu)? + 1,
        metric as i64,
        i64::try_from(range.from)?,
        i64::try_from(range.to)?,
    ];
    let mut rows = statement.query(numbers)?;
    while let Some(row) = rows.next()? {
        black_box((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?));
    }
    Ok(start.elapsed())
}

/// What is left of it where nobody asked for more than is usual.
fn retain(path: &Path, days: u64) -> Result<()> {
    let mut made_up = MadeUp::new()?;
    let start = Instant::now();
    let mut store = Store::open(path, Kind::Simulated, &Retention::default())?;
    keep(store.write(&made_up.at(START + days * DAY + 7_201_000)))?;
    let took = start.elapsed();
    drop(store);
    println!(
        "\nwith the usual retention (all samples for 2 days): {:.1} MB, {took:.1?} to get there at once",
        mega(fs::metadata(path)?.len())
    );
    Ok(())
}

fn keep(state: &StoreState) -> Result<()> {
    match state {
        StoreState::Keeping => Ok(()),
        StoreState::Failing { why, .. } => bail!("a moment was not kept: {why}"),
    }
}

/// Four GPUs whose figures wander.
struct MadeUp {
    template: Snapshot,
    random: Random,
}

impl MadeUp {
    fn new() -> Result<Self> {
        let machine = SceneMachine::find("mixed".as_ref())?;
        let mut template = snapshot(&machine, &Policy::default(), Path::new("/nonexistent"))?;
        let second = template.gpus.clone();
        template.gpus.extend(second);
        for (number, gpu) in (0_u32..).zip(&mut template.gpus) {
            gpu.index = number;
            gpu.uuid = format!("GPU-0000000{number}-0000-0000-0000-000000000000").parse()?;
            let process = |pid| ProcessNow {
                pid,
                started: Some(4711),
                kinds: vec![Use::Compute],
                memory: Some(8 << 30),
                utilization: Some(0),
                uid: Some(1000),
                user: Some("anna".to_owned()),
                command: Some("python train.py --config voice.toml".to_owned()),
                project: Some("/home/anna/voice".to_owned()),
                place: None,
                leased: Some(true),
                stranger: false,
            };
            gpu.processes = vec![process(100 + number), process(200 + number)];
            gpu.memory_used = Some(16 << 30);
            gpu.temperature = Some(60);
            gpu.power = Some(250_000);
        }
        Ok(Self { template, random: Random(7) })
    }

    fn at(&mut self, at: u64) -> Moment {
        let random = &mut self.random;
        for gpu in &mut self.template.gpus {
            if random.below(50) == 0 {
                gpu.memory_used = Some(random.below(24 * 1024) << 20);
            }
            gpu.utilization = Some(random.number(101));
            let wander = |old: Option<u32>, step: u32, low: u32, high: u32, by: u32| {
                old.map(|it| (it + by).saturating_sub(step).clamp(low, high))
            };
            let by = random.number(3);
            gpu.temperature = wander(gpu.temperature, 1, 35, 90, by);
            let by = random.number(18_001);
            gpu.power = wander(gpu.power, 9000, 20_000, 350_000, by);
            gpu.sm_clock = Some(1800 + 15 * random.number(4));
            // One works, the other one waits.
            gpu.processes[0].utilization = gpu.utilization;
        }
        // Samples are a few milliseconds late.
        let at = at + random.below(9);
        self.template.at = at;
        Moment {
            version: VERSION,
            at,
            took: 3000,
            machine: Some(self.template.clone()),
            gap: None,
            leases: Some(Vec::new()),
            xids: Vec::new(),
        }
    }
}

/// The same numbers every time: xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn number(&mut self, end: u32) -> u32 {
        u32::try_from(self.below(u64::from(end))).expect("it is below one that fits")
    }
}

struct Percentiles {
    median: Duration,
    ninety_ninth: Duration,
}

impl Percentiles {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
        Self { median: at(50), ninety_ninth: at(99) }
    }
}

impl std::fmt::Display for Percentiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let milliseconds = |it: Duration| it.as_secs_f64() * 1e3;
        write!(
            f,
            "p50 {:.3} ms, p99 {:.3} ms",
            milliseconds(self.median),
            milliseconds(self.ninety_ninth)
        )
    }
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn since(cpu: Duration) -> Duration {
    cpu_time().saturating_sub(cpu)
}

/// What this process used of the cores.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
