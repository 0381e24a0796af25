use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use gpupin_monitor::history::{GpuKept, Level, Metric, Point, Range, Reader, Resolution};
use gpupin_policy::GpuUuid;

use super::Place;
use crate::{
    failure::{Exit, Failure},
    fix::time::{parse, precise},
    terminal::Terminal,
};

/// Write what is kept as text, as finely as it is kept
///
/// What was sampled and is not known has a row without a value; where nothing was sampled there is no row, and `gpupin history info` tells
/// why. What is rolled up says of how many samples.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Begin here: a date or time of UTC such as `2026-11-26T08:25:13Z`, or so long ago, such as `2h`; else with what is oldest
    #[arg(long, value_name = "TIME")]
    from: Option<String>,

    /// End before this; else with what is newest
    #[arg(long, value_name = "TIME")]
    to: Option<String>,

    /// How to write it
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Style,

    /// Only GPUs whose name contains this, or whose UUID begins so; may be repeated
    #[arg(long, value_name = "GPU")]
    gpu: Vec<String>,

    /// Write into this file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Style {
    /// A row for each metric, GPU and time, in the units that NVML has
    Csv,
    /// What Prometheus and others import, in base units; what is rolled up as average, least and most
    Openmetrics,
}

/// Milliseconds that are read at a time.
const SLICE: u64 = 86_400_000;

pub(super) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let (_, reader) = args.place.open()?;
    let now = SystemTime::now();
    let kept = reader.range()?.unwrap_or(Range { from: 0, to: 0 });
    let from = args.from.as_deref().map(|it| time(it, now)).transpose()?;
    let to = args.to.as_deref().map(|it| time(it, now)).transpose()?;
    let (from, to) = (from.unwrap_or(0), to.unwrap_or(u64::MAX));
    if from >= to {
        return Err(Failure::usage("`--from` is not before `--to`"));
    }
    let range = Range { from: from.max(kept.from), to: to.min(kept.to) };
    let gpus = chosen(reader.gpus()?, &args.gpu)?;
    let export = Export { kind: reader.kind()?, reader, gpus, range };
    let Some(path) = &args.output else {
        export.write(args.format, terminal.out())?;
        return Ok(Exit::Clean);
    };
    let what = || format!("failed to write `{}`", path.display());
    let mut file = BufWriter::new(File::create(path).with_context(what)?);
    export.write(args.format, &mut file)?;
    file.flush().with_context(what)?;
    Ok(Exit::Clean)
}

/// Reads `2h` as two hours before now, and dates as they are. In milliseconds since 1970.
fn time(text: &str, now: SystemTime) -> Result<u64, Failure> {
    let ago = |it| now.checked_sub(it);
    let time = parse(text).or_else(|| gpupin_policy::duration(text).ok().and_then(ago));
    let since = time.and_then(|it| it.duration_since(SystemTime::UNIX_EPOCH).ok());
    let since = since.and_then(|it| u64::try_from(it.as_millis()).ok());
    since.ok_or_else(|| {
        Failure::usage(format!("`{text}` is no time"))
            .hint("write a date or time of UTC such as `2026-11-26T08:25:13Z`, or so long ago, such as `2h`")
    })
}

/// The GPUs that are named; all without any.
fn chosen(gpus: Vec<GpuKept>, named: &[String]) -> Result<Vec<GpuKept>, Failure> {
    let lower = |it: &str| it.to_lowercase();
    let matches = |gpu: &GpuKept, named: &str| {
        lower(&gpu.uuid).starts_with(&lower(named))
            || gpu.name.as_ref().is_some_and(|it| lower(it).contains(&lower(named)))
    };
    if let Some(missing) = named.iter().find(|it| !gpus.iter().any(|gpu| matches(gpu, it))) {
        let there: Vec<_> = gpus
            .iter()
            .map(|it| format!("{} ({})", it.name.as_deref().unwrap_or("?"), it.uuid))
            .collect();
        return Err(Failure::usage(format!("nothing is kept of a GPU `{missing}`"))
            .hint(format!("there are: {}", there.join(", "))));
    }
    let is_chosen = |gpu: &GpuKept| named.is_empty() || named.iter().any(|it| matches(gpu, it));
    Ok(gpus.into_iter().filter(is_chosen).collect())
}

struct Export {
    reader: Reader,
    /// `measured` or `simulated`.
    kind: String,
    gpus: Vec<GpuKept>,
    range: Range,
}

impl Export {
    fn write(&self, style: Style, out: &mut dyn Write) -> Result<(), Failure> {
        match style {
            Style::Csv => self.csv(out),
            Style::Openmetrics => self.open_metrics(out),
        }
    }

    fn csv(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let line = |out: &mut dyn Write, it: &[String]| {
            writeln!(out, "{}", it.join(",")).context("failed to write output")
        };
        let heading = [
            "kind", "gpu", "name", "metric", "unit", "at", "seconds", "level", "count", "unknown",
            "min", "average", "max",
        ];
        line(out, &heading.map(str::to_owned))?;
        for gpu in &self.gpus {
            let name = quoted(gpu.name.as_deref().unwrap_or_default());
            for metric in Metric::ALL {
                self.each(gpu, metric, &mut |point| {
                    let seconds = match point.level {
                        Level::Raw => String::new(),
                        Level::Minute | Level::Hour => (point.span / 1000).to_string(),
                    };
                    let (count, unknown) = (point.count.to_string(), point.unknown.to_string());
                    line(
                        out,
                        &[
                            self.kind.clone(),
                            gpu.uuid.clone(),
                            name.clone(),
                            metric.as_str().to_owned(),
                            unit(metric).to_owned(),
                            precise(SystemTime::UNIX_EPOCH + Duration::from_millis(point.at)),
                            seconds,
                            point.level.as_str().to_owned(),
                            count,
                            unknown,
                            text(point.min),
                            text(point.average),
                            text(point.max),
                        ],
                    )
                })?;
            }
        }
        Ok(())
    }

    /// <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>: the samples of a metric stand together, those
    /// with the same labels too, by time.
    fn open_metrics(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let written = |it: io::Result<()>| it.context("failed to write output");
        for metric in Metric::ALL {
            let Family { name, unit, help, .. } = family(metric);
            written(writeln!(out, "# TYPE {name} gauge"))?;
            if !unit.is_empty() {
                written(writeln!(out, "# UNIT {name} {unit}"))?;
            }
            written(writeln!(out, "# HELP {name} {help}"))?;
            for gpu in &self.gpus {
                for statistic in [Statistic::Average, Statistic::Min, Statistic::Max] {
                    self.each(gpu, metric, &mut |point| {
                        let Some(value) = statistic.of(point) else { return Ok(()) };
                        written(writeln!(
                            out,
                            "{name}{{gpu=\"{}\",name=\"{}\",kind=\"{}\",statistic=\"{}\"}} {} {}.{:03}",
                            gpu.uuid,
                            escaped(gpu.name.as_deref().unwrap_or_default()),
                            self.kind,
                            statistic.as_str(),
                            family(metric).scaled(value),
                            point.at / 1000,
                            point.at % 1000
                        ))
                    })?;
                }
            }
        }
        Ok(written(writeln!(out, "# EOF"))?)
    }

    /// Every point of a metric, by time.
    fn each(
        &self,
        gpu: &GpuKept,
        metric: Metric,
        with: &mut dyn FnMut(&Point) -> anyhow::Result<()>,
    ) -> Result<(), Failure> {
        let uuid: GpuUuid = gpu.uuid.parse().context("failed to read the UUID of a GPU")?;
        let mut from = self.range.from;
        while from < self.range.to {
            // What is rolled up lies within a day, so that no point is read twice.
            let to = (from - from % SLICE + SLICE).min(self.range.to);
            let slice = Range { from, to };
            for point in self.reader.series(&uuid, metric, slice, Resolution::Finest)?.points {
                with(&point)?;
            }
            from = to;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Statistic {
    Average,
    Min,
    Max,
}

impl Statistic {
    fn as_str(self) -> &'static str {
        match self {
            Self::Average => "average",
            Self::Min => "min",
            Self::Max => "max",
        }
    }

    /// Of a single sample all three would be the same.
    #[expect(clippy::cast_precision_loss, reason = "what is larger than 2^53 is rounded")]
    fn of(self, point: &Point) -> Option<f64> {
        let rolled = |it: Option<i64>| it.filter(|_| point.level != Level::Raw);
        match self {
            Self::Average => point.average,
            Self::Min => rolled(point.min).map(|it| it as f64),
            Self::Max => rolled(point.max).map(|it| it as f64),
        }
    }
}

/// A metric as `OpenMetrics` has it.
struct Family {
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    /// What a value is multiplied by, and then divided by: one of them is 1, so that most stay exact.
    times: f64,
    over: f64,
}

impl Family {
    fn scaled(&self, value: f64) -> f64 {
        value * self.times / self.over
    }
}

fn family(metric: Metric) -> Family {
    let (name, unit, help, times, over) = match metric {
        Metric::MemoryUsed => {
            ("gpupin_gpu_memory_used_bytes", "bytes", "Memory that processes use.", 1.0, 1.0)
        }
        Metric::Utilization => (
            "gpupin_gpu_utilization_ratio",
            "ratio",
            "Share of the time in which a kernel ran.",
            1.0,
            100.0,
        ),
        Metric::Temperature => {
            ("gpupin_gpu_temperature_celsius", "celsius", "Temperature of the GPU.", 1.0, 1.0)
        }
        Metric::Power => ("gpupin_gpu_power_watts", "watts", "Power that it draws.", 1.0, 1000.0),
        Metric::SmClock => (
            "gpupin_gpu_sm_clock_hertz",
            "hertz",
            "Clock of the streaming multiprocessors.",
            1e6,
            1.0,
        ),
        Metric::MemoryClock => {
            ("gpupin_gpu_memory_clock_hertz", "hertz", "Clock of its memory.", 1e6, 1.0)
        }
        Metric::PcieGeneration => {
            ("gpupin_gpu_pcie_generation", "", "Generation of the PCIe link.", 1.0, 1.0)
        }
        Metric::PcieWidth => {
            ("gpupin_gpu_pcie_width_lanes", "lanes", "Lanes of the PCIe link.", 1.0, 1.0)
        }
        Metric::Slowed => (
            "gpupin_gpu_slowed_ratio",
            "ratio",
            "Share of samples in which heat or the power supply kept the clocks down.",
            1.0,
            1.0,
        ),
        Metric::CorrectedErrors => (
            "gpupin_gpu_corrected_errors",
            "",
            "Errors of memory that were corrected since the driver was loaded.",
            1.0,
            1.0,
        ),
        Metric::UncorrectedErrors => (
            "gpupin_gpu_uncorrected_errors",
            "",
            "Errors of memory that could not be corrected since the driver was loaded.",
            1.0,
            1.0,
        ),
    };
    Family { name, unit, help, times, over }
}

/// The unit of a metric as it is kept.
fn unit(metric: Metric) -> &'static str {
    match metric {
        Metric::MemoryUsed => "B",
        Metric::Utilization => "%",
        Metric::Temperature => "°C",
        Metric::Power => "mW",
        Metric::SmClock | Metric::MemoryClock => "MHz",
        Metric::PcieWidth => "lanes",
        Metric::PcieGeneration
        | Metric::Slowed
        | Metric::CorrectedErrors
        | Metric::UncorrectedErrors => "",
    }
}

/// Nothing for what is unknown.
fn text(value: Option<impl ToString>) -> String {
    value.map(|it| it.to_string()).unwrap_or_default()
}

/// As RFC 4180 has text.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// As `OpenMetrics` has values of labels.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
