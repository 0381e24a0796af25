//! Whether the GPUs are well, as far as their driver says it.
//!
//! Out of scope: errors of the past (Xid). NVML tells them only to who waits for them, and only the kernel's log keeps them.

use gpupin_monitor::{
    health::{AilmentKind, ailments, temperatures},
    snapshot::GpuNow,
};

use super::{Found, GPUS_FIRST, Patient};

/// A check: its name, what it finds wrong, what to do about it, and what a GPU says where nothing is wrong.
struct Aspect {
    name: &'static str,
    kind: AilmentKind,
    advice: &'static str,
    well: fn(&GpuNow) -> Well,
}

/// What a GPU says of something that is not wrong.
enum Well {
    Yes(String),
    /// It has no error correction, or it is off.
    Absent,
    /// It does not say it.
    Unknown(String),
}

const ASPECTS: &[Aspect] = &[
    Aspect {
        name: "heat",
        kind: AilmentKind::Heat,
        advice: "look after its fans and the air around it; it is slower than it could be, and may stop",
        well: heat,
    },
    Aspect {
        name: "speed",
        kind: AilmentKind::Slowdown,
        advice: "look after its power cables and the power supply; see `nvidia-smi -q -d PERFORMANCE`",
        well: speed,
    },
    Aspect {
        name: "memory errors",
        kind: AilmentKind::MemoryErrors,
        advice: "results may be wrong: restart the machine, and see `nvidia-smi -q -d ECC,ROW_REMAPPER` and `dmesg` for `Xid`",
        well: memory_errors,
    },
];

pub(super) fn check(patient: &Patient, found: &mut Found) {
    let Some(now) = patient.snapshot() else {
        found.unknown("heat", "the machine does not answer", "see the driver's problem first");
        return;
    };
    // What ails an instance ails its GPU.
    let gpus: Vec<_> = now.gpus.iter().filter(|it| it.mig.is_none()).collect();
    for aspect in ASPECTS {
        let mut well = Vec::new();
        let mut unknown = Vec::new();
        let mut is_ill = false;
        for gpu in &gpus {
            let of_gpu = |it: String| format!("index {}: {it}", gpu.index);
            let ailment = ailments(gpu).into_iter().find(|it| it.kind == aspect.kind);
            match ailment.map_or_else(|| Err((aspect.well)(gpu)), Ok) {
                Ok(ailment) => {
                    is_ill = true;
                    let seen = of_gpu(format!("{}: {}", ailment.kind.words(), ailment.why));
                    found.problem(aspect.name, seen, aspect.advice);
                }
                Err(Well::Yes(it)) => well.push(of_gpu(it)),
                Err(Well::Absent) => {}
                Err(Well::Unknown(it)) => unknown.push(of_gpu(it)),
            }
        }
        if !unknown.is_empty() {
            let advice = "in a container, ask for the capability `utility`; see `nvidia-smi -q`";
            found.unknown(aspect.name, unknown.join("; "), advice);
        } else if let Some(unknown) = now.unknown_gpus() {
            found.unknown(aspect.name, unknown, GPUS_FIRST);
        } else if !is_ill {
            let absent = "no GPU here has error correction that counts them";
            let seen = if well.is_empty() { absent.to_owned() } else { well.join("; ") };
            found.ok(aspect.name, seen);
        }
    }
}

fn heat(gpu: &GpuNow) -> Well {
    let has_limit = gpu.slowdown_temperature.is_some();
    match (gpu.temperature, has_limit, &gpu.throttle) {
        (Some(_), true, _) => Well::Yes(temperatures(gpu)),
        // Whether heat slows it down is what the limit is about.
        (_, _, Some(_)) => Well::Yes(format!("{}, not slowed down by heat", temperatures(gpu))),
        (_, _, None) => Well::Unknown(format!("{}, and no limit is told", temperatures(gpu))),
    }
}

fn speed(gpu: &GpuNow) -> Well {
    match &gpu.throttle {
        Some(_) => Well::Yes("not slowed down".to_owned()),
        None => Well::Unknown(format!("whether it is slowed down: {}", why(gpu, "throttle"))),
    }
}

fn memory_errors(gpu: &GpuNow) -> Well {
    match (gpu.uncorrected_errors, gpu.corrected_errors) {
        (Some(_), Some(0)) => Well::Yes("none".to_owned()),
        (Some(_), Some(corrected)) => Well::Yes(format!("{corrected}, all corrected")),
        (Some(_), None) => Well::Yes("none that could not be corrected".to_owned()),
        // Who answers nothing else has not looked either.
        (None, _) if gpu.lacks("uncorrected_errors") && !gpu.lacks("throttle") => Well::Absent,
        (None, _) => Well::Unknown(why(gpu, "uncorrected_errors").to_owned()),
    }
}

fn why<'a>(gpu: &'a GpuNow, what: &str) -> &'a str {
    gpu.silent.get(what).or(gpu.silent.get("status")).map_or("not told", String::as_str)
}
