//! Prometheus' text format, <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//!
//! What is unknown has no line. What belongs to a GPU says by the label `kind` whether anybody measured it. Only so many processes have lines
//! of their own; the others are summed, so that a machine with thousands does not make thousands of series.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use gpupin_device::{Kind, Throttle};
use gpupin_policy::GpuUuid;

use super::{
    About,
    hub::Published,
    keep::{Recording, State},
};
use crate::{
    alarms::AlarmKind,
    moment::Ticket,
    people::Place,
    snapshot::{GpuNow, ProcessNow, Snapshot},
};

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How many processes have lines of their own: those with most memory.
const PROCESSES: usize = 50;

/// How much of a command line is told, in characters.
const COMMAND: usize = 120;

/// What is known when somebody asks.
pub(super) struct Scrape<'a> {
    pub(super) about: About,
    pub(super) last: Option<&'a Published>,
    /// Whether that is of now. What was once is not told as if it were.
    pub(super) is_current: bool,
    pub(super) xids: &'a BTreeMap<(GpuUuid, u64), u64>,
    pub(super) kept: &'a State,
}

pub(super) fn text(scrape: &Scrape<'_>) -> String {
    let mut page = Page { text: String::new(), kind: scrape.about.kind };
    let About { version, kind, .. } = scrape.about;
    page.family(
        "gpupin_build_info",
        GAUGE,
        "The version of gpupin, and whether what it tells is measured or simulated.",
    );
    page.line("gpupin_build_info", &[("version", version), ("kind", kind.as_str())], 1);
    page.family(
        "gpupin_up",
        GAUGE,
        "Whether the machine answers; if not, nothing is told of its GPUs.",
    );
    page.line("gpupin_up", &[], u8::from(scrape.is_current));
    if let Some(last) = scrape.last {
        page.family("gpupin_sample_age_seconds", GAUGE, "How long ago the machine was asked.");
        page.line("gpupin_sample_age_seconds", &[], last.age().as_secs_f64());
        page.family(
            "gpupin_sample_duration_seconds",
            GAUGE,
            "How long the machine took to answer.",
        );
        page.line("gpupin_sample_duration_seconds", &[], last.took().as_secs_f64());
    }
    history(&mut page, scrape.kept);
    if let Some(last) = scrape.last {
        alerts(&mut page, last, scrape.is_current);
    }
    if let Some(last) = scrape.last.filter(|_| scrape.is_current) {
        if let Some(machine) = &last.moment.machine {
            gpus(&mut page, machine);
            processes(&mut page, &machine.gpus);
        }
        if let Some(leases) = &last.moment.leases {
            lines_of_leases(&mut page, last.moment.gpus(), leases);
        }
    }
    if !scrape.xids.is_empty() {
        page.family("gpupin_gpu_xids_total", COUNTER, "Errors that the driver reported since the service was started, by their Xid; absent until there is one.");
        for ((gpu, number), count) in scrape.xids {
            let labels =
                [("gpu_uuid", gpu.as_str()), ("xid", &number.to_string()), ("kind", kind.as_str())];
            page.line("gpupin_gpu_xids_total", &labels, count);
        }
    }
    page.text
}

fn history(page: &mut Page, kept: &State) {
    if kept.recording == Recording::Off {
        return;
    }
    page.family("gpupin_history_writable", GAUGE, "Whether what is told is kept in the history.");
    let is_writable = kept.recording == Recording::Keeping;
    page.line("gpupin_history_writable", &[], u8::from(is_writable));
    page.family(
        "gpupin_history_dropped_moments_total",
        COUNTER,
        "Moments that were not kept since the service was started.",
    );
    page.line("gpupin_history_dropped_moments_total", &[], kept.dropped);
}

fn alerts(page: &mut Page, last: &Published, is_current: bool) {
    let kind = page.kind;
    page.family(
        "gpupin_alerts_active",
        GAUGE,
        "What somebody should look at, by what it is about; while the machine is silent, only what is not over is told.",
    );
    for alarm in AlarmKind::ALL {
        let count = last.alerts.active.iter().filter(|it| it.kind == alarm).count();
        // Nobody knows then that there is nothing else.
        if is_current || count > 0 {
            let labels = [("alert", alarm.as_str()), ("kind", kind.as_str())];
            page.line("gpupin_alerts_active", &labels, count);
        }
    }
}

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

/// Text that grows family by family, as the format demands.
struct Page {
    text: String,
    kind: Kind,
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        self.text.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            self.write(format_args!("{before}{label}=\"{}\"", Escaped(text)));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.write(format_args!("{end} {value}\n"));
    }

    /// One figure per GPU, where it is known.
    fn per_gpu<T: fmt::Display>(
        &mut self,
        gpus: &[Named<'_>],
        (name, kind, help): (&str, &str, &str),
        of: impl Fn(&GpuNow) -> Option<T>,
    ) {
        self.per_gpu_and(gpus, (name, kind, help), "", |gpu| {
            of(gpu).map(|it| ("", it)).into_iter().collect()
        });
    }

    /// Figures per GPU that a label tells apart.
    fn per_gpu_and<T: fmt::Display>(
        &mut self,
        gpus: &[Named<'_>],
        (name, kind, help): (&str, &str, &str),
        label: &'static str,
        of: impl Fn(&GpuNow) -> Vec<(&'static str, T)>,
    ) {
        let figures: Vec<_> = gpus.iter().map(|it| (it, of(it.gpu))).collect();
        if figures.iter().all(|it| it.1.is_empty()) {
            return;
        }
        self.family(name, kind, help);
        for (gpu, figures) in figures {
            for (text, value) in figures {
                let mut labels = gpu.labels(self.kind);
                if !label.is_empty() {
                    labels.push((label, text));
                }
                self.line(name, &labels, value);
            }
        }
    }

    fn write(&mut self, text: fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("writing to a string works");
    }
}

/// The value of a label. Control characters are legal there and help nobody.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|it| match it {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            it if it.is_control() => f.write_char('\u{FFFD}'),
            it => f.write_char(it),
        })
    }
}

/// A GPU with what names it.
struct Named<'a> {
    gpu: &'a GpuNow,
    index: String,
    mig: Option<String>,
}

impl<'a> Named<'a> {
    fn new(gpu: &'a GpuNow) -> Self {
        let mig = gpu.mig.map(|it| format!("{}/{}", it.0, it.1));
        Self { gpu, index: gpu.index.to_string(), mig }
    }

    fn labels(&self, kind: Kind) -> Labels<'_> {
        let mut labels = vec![
            ("gpu_uuid", self.gpu.uuid.as_str()),
            ("gpu_name", self.gpu.name.as_str()),
            ("index", self.index.as_str()),
        ];
        labels.extend(self.mig.as_deref().map(|it| ("mig", it)));
        labels.push(("kind", kind.as_str()));
        labels
    }
}

fn gpus(page: &mut Page, machine: &Snapshot) {
    page.family(
        "gpupin_gpus_unreadable",
        GAUGE,
        "GPUs that are there and do not say what they are, such as lost ones.",
    );
    let kind = page.kind;
    page.line("gpupin_gpus_unreadable", &[("kind", kind.as_str())], machine.unreadable.len());
    let gpus: Vec<_> = machine.gpus.iter().map(Named::new).collect();
    let gpus = &gpus;
    let ratio = |percent: u32| f64::from(percent) / 100.0;
    let thousandth = |it: u32| f64::from(it) / 1000.0;
    let hertz = |megahertz: u32| u64::from(megahertz) * 1_000_000;

    page.per_gpu(
        gpus,
        (
            "gpupin_gpu_memory_total_bytes",
            GAUGE,
            "Memory of the GPU; a GPU with MIG has that of its instances.",
        ),
        |it| Some(it.vram),
    );
    page.per_gpu(gpus, ("gpupin_gpu_memory_used_bytes", GAUGE, "Memory in use."), |it| {
        it.memory_used
    });
    page.per_gpu(
        gpus,
        ("gpupin_gpu_memory_reserved_bytes", GAUGE, "Memory that the driver keeps for itself."),
        |it| it.memory_reserved,
    );
    page.per_gpu(
        gpus,
        (
            "gpupin_gpu_utilization_ratio",
            GAUGE,
            "Share of the time in which the GPU did something, by the driver.",
        ),
        |it| it.utilization.map(ratio),
    );
    page.per_gpu(gpus, ("gpupin_gpu_temperature_celsius", GAUGE, "Temperature."), |it| {
        it.temperature
    });
    page.per_gpu_and(
        gpus,
        (
            "gpupin_gpu_temperature_limit_celsius",
            GAUGE,
            "Temperature at which the hardware slows down or shuts down.",
        ),
        "limit",
        |it| {
            let limits =
                [("slowdown", it.slowdown_temperature), ("shutdown", it.shutdown_temperature)];
            limits.into_iter().filter_map(|(limit, it)| Some((limit, it?))).collect()
        },
    );
    page.per_gpu(gpus, ("gpupin_gpu_power_watts", GAUGE, "Power drawn."), |it| {
        it.power.map(thousandth)
    });
    page.per_gpu(
        gpus,
        ("gpupin_gpu_power_limit_watts", GAUGE, "Power that the GPU may draw."),
        |it| it.power_limit.map(thousandth),
    );
    page.per_gpu(
        gpus,
        ("gpupin_gpu_sm_clock_hertz", GAUGE, "Clock of the streaming multiprocessors."),
        |it| it.sm_clock.map(hertz),
    );
    page.per_gpu(gpus, ("gpupin_gpu_memory_clock_hertz", GAUGE, "Clock of the memory."), |it| {
        it.memory_clock.map(hertz)
    });
    page.per_gpu_and(
        gpus,
        ("gpupin_gpu_throttled", GAUGE, "Whether this keeps the clocks down now."),
        "reason",
        |it| {
            let reasons = it.throttle.iter();
            let each = |now: &Vec<Throttle>| {
                Throttle::ALL.map(|it| (reason(it), u8::from(now.contains(&it))))
            };
            reasons.flat_map(each).collect()
        },
    );
    page.per_gpu(
        gpus,
        (
            "gpupin_gpu_pcie_link_generation",
            GAUGE,
            "Generation of the PCIe link as it is now; idle GPUs lower it.",
        ),
        |it| it.pcie.map(|it| it.generation),
    );
    page.per_gpu(
        gpus,
        ("gpupin_gpu_pcie_link_lanes", GAUGE, "Lanes of the PCIe link as it is now."),
        |it| it.pcie.map(|it| it.width),
    );
    page.per_gpu_and(
        gpus,
        (
            "gpupin_gpu_memory_errors_total",
            COUNTER,
            "Errors of memory since the driver was loaded.",
        ),
        "error",
        |it| {
            let errors =
                [("corrected", it.corrected_errors), ("uncorrected", it.uncorrected_errors)];
            errors.into_iter().filter_map(|(error, it)| Some((error, it?))).collect()
        },
    );
    page.per_gpu_and(
        gpus,
        ("gpupin_gpu_processes", GAUGE, "Processes on the GPU, by whether their project means it; absent where they could not be listed."),
        "place",
        |gpu| {
            if !is_listed(gpu) {
                return Vec::new();
            }
            let count = |place| gpu.processes.iter().filter(|it| it.place == place).count();
            [Some(Place::Right), Some(Place::Wrong), None].map(|it| (place(it), count(it))).to_vec()
        },
    );
}

/// Whether the driver listed all processes of a GPU. Lists that it does not have lack nothing.
fn is_listed(gpu: &GpuNow) -> bool {
    ["status", "compute_processes", "graphics_processes", "mps_processes"]
        .into_iter()
        .all(|it| !gpu.silent.contains_key(it) || gpu.lacks(it))
}

fn place(place: Option<Place>) -> &'static str {
    match place {
        Some(Place::Right) => "right",
        Some(Place::Wrong) => "wrong",
        None => "unmanaged",
    }
}

fn reason(throttle: Throttle) -> &'static str {
    match throttle {
        Throttle::GpuIdle => "gpu-idle",
        Throttle::ApplicationsClocks => "applications-clocks",
        Throttle::SwPowerCap => "sw-power-cap",
        Throttle::HwSlowdown => "hw-slowdown",
        Throttle::SyncBoost => "sync-boost",
        Throttle::SwThermalSlowdown => "sw-thermal-slowdown",
        Throttle::HwThermalSlowdown => "hw-thermal-slowdown",
        Throttle::HwPowerBrake => "hw-power-brake",
        Throttle::DisplayClock => "display-clock",
    }
}

fn processes(page: &mut Page, gpus: &[GpuNow]) {
    let mut all: Vec<_> =
        gpus.iter().flat_map(|gpu| gpu.processes.iter().map(move |it| (gpu, it))).collect();
    all.sort_by_key(|(gpu, it)| (std::cmp::Reverse(it.memory), it.pid, &gpu.uuid));
    let (shown, others) = all.split_at(all.len().min(PROCESSES));
    let mut sums: BTreeMap<&GpuUuid, u64> = BTreeMap::new();
    for (gpu, process) in others {
        if let Some(memory) = process.memory {
            *sums.entry(&gpu.uuid).or_default() += memory;
        }
    }
    let kind = page.kind;
    let name = "gpupin_process_memory_used_bytes";
    page.family(name, GAUGE, "GPU memory of a process. Those with most have lines of their own; what is known of the others is summed per GPU as the command (other).");
    for (gpu, process) in shown {
        if let Some(memory) = process.memory {
            page.process(name, gpu, process, memory);
        }
    }
    for (gpu, sum) in sums {
        let labels = [
            ("gpu_uuid", gpu.as_str()),
            ("pid", ""),
            ("user", ""),
            ("command", "(other)"),
            ("project", ""),
            ("place", ""),
            ("kind", kind.as_str()),
        ];
        page.line(name, &labels, sum);
    }
    if shown.iter().any(|it| it.1.utilization.is_some()) {
        let name = "gpupin_process_utilization_ratio";
        page.family(name, GAUGE, "How busy a process kept the GPU in the last seconds; the same processes have lines of their own.");
        for (gpu, process) in shown {
            if let Some(percent) = process.utilization {
                page.process(name, gpu, process, f64::from(percent) / 100.0);
            }
        }
    }
    page.family(
        "gpupin_processes_without_series",
        GAUGE,
        "Processes that have no lines of their own.",
    );
    page.line("gpupin_processes_without_series", &[("kind", kind.as_str())], others.len());
}

impl Page {
    fn process(&mut self, name: &str, gpu: &GpuNow, it: &ProcessNow, value: impl fmt::Display) {
        let pid = it.pid.to_string();
        let uid = it.uid.map(|it| it.to_string());
        let command: String =
            it.command.as_deref().unwrap_or_default().chars().take(COMMAND).collect();
        let kind = self.kind;
        let labels = [
            ("gpu_uuid", gpu.uuid.as_str()),
            ("pid", &pid),
            ("user", it.user.as_deref().or(uid.as_deref()).unwrap_or_default()),
            ("command", &command),
            ("project", it.project.as_deref().unwrap_or_default()),
            ("place", place(it.place)),
            ("kind", kind.as_str()),
        ];
        self.line(name, &labels, value);
    }
}

fn lines_of_leases(page: &mut Page, gpus: &[GpuNow], tickets: &[Ticket]) {
    let mut counts: BTreeMap<&GpuUuid, (usize, usize)> =
        gpus.iter().map(|it| (&it.uuid, (0, 0))).collect();
    for ticket in tickets {
        let (held, waiting) = counts.entry(&ticket.gpu).or_default();
        *if ticket.position == 0 { held } else { waiting } += 1;
    }
    let kind = page.kind;
    let labels = |gpu| [("gpu_uuid", gpu), ("kind", kind.as_str())];
    page.family("gpupin_lease_held", GAUGE, "How many hold a lease of the GPU.");
    for (gpu, (held, _)) in &counts {
        page.line("gpupin_lease_held", &labels(gpu.as_str()), held);
    }
    page.family("gpupin_lease_waiting", GAUGE, "How many wait for a lease of the GPU.");
    for (gpu, (_, waiting)) in &counts {
        page.line("gpupin_lease_waiting", &labels(gpu.as_str()), waiting);
    }
}

#[cfg(test)]
mod tests;
