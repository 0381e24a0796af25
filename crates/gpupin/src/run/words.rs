//! What a run says to people.

use std::{
    ffi::{OsStr, OsString},
    time::Duration,
};

use gpupin_device::Kind;
use gpupin_policy::{GpuUuid, PinAs};
use gpupin_run::{
    evidence::Evidence,
    lease::Lease,
    observe::{Reason, Verdict, record::Named},
    supervise::Ended,
};

use super::choice::Choice;
use crate::{
    failure::{Failure, Part},
    quote,
    terminal::{Terminal, one_line},
};

/// A command as a shell would want it, in one line.
pub(crate) fn command(words: &[impl AsRef<OsStr>]) -> String {
    let words: Vec<_> =
        words.iter().map(|it| quote::shell(&it.as_ref().to_string_lossy())).collect();
    one_line(&words.join(" "))
}

pub(super) fn start(choice: &Choice, pin_as: PinAs, lease: Option<&Lease>) -> String {
    let lease = match lease {
        None => "no lease".to_owned(),
        Some(lease) if lease.is_nested() => "inside the lease of an outer run".to_owned(),
        Some(lease) if lease.waited() < Duration::from_secs(1) => "leased".to_owned(),
        Some(lease) => format!("leased after {}", time(lease.waited())),
    };
    let pin = match (&choice.kept_mask, pin_as) {
        (Some(mask), _) => format!("the mask from outside stays (`{}`)", one_line(mask)),
        (None, PinAs::Uuid) => "pinned by UUID".to_owned(),
        (None, PinAs::Index) => "pinned by index".to_owned(),
    };
    format!("gpupin: {}, {pin}, {lease}", choice.names())
}

/// A GPU for people: `RTX 3090`, with its UUID where there is another of the name.
pub(super) fn name<'a>(
    uuid: &GpuUuid,
    gpus: impl Iterator<Item = (&'a GpuUuid, &'a str)> + Clone,
) -> String {
    let Some((_, name)) = gpus.clone().find(|it| it.0 == uuid) else {
        return uuid.to_string();
    };
    let is_twin = gpus.filter(|it| it.1 == name).count() > 1;
    if is_twin { format!("{name} ({uuid})") } else { name.to_owned() }
}

/// A failure in one line.
pub(super) fn chain(failure: &Failure) -> String {
    let texts = failure.lines().filter(|it| it.0 != Part::Hint).map(|it| it.1);
    texts.collect::<Vec<_>>().join(": ")
}

/// What could not be written while the program runs.
pub(super) fn unwritten(failure: &Failure) -> String {
    goes_on(&chain(failure))
}

pub(super) fn goes_on(why: &str) -> String {
    format!("{}; the program goes on and is watched", one_line(why))
}

/// That nothing tells how a run went, and what lies where that would.
pub(super) fn no_evidence(evidence: &Evidence, left: Option<&str>) -> String {
    let seen = match evidence.verdict {
        Verdict::Violated => format!("{}; ", verdict(evidence)),
        _ => String::new(),
    };
    let left = left.map(|it| format!("; `{}` is from before it ended", one_line(it)));
    format!("{seen}there is no evidence of this run{}", left.unwrap_or_default())
}

/// That a role has a GPU which `forbid` keeps from the rest of the project.
pub(super) fn exempt(role: &str) -> String {
    format!("gpupin: the policy forbids this GPU, and the role `{}` is exempt", one_line(role))
}

/// What the program left behind.
pub(super) fn left(words: &[OsString], ended: Ended, count: usize, is_leased: bool) -> String {
    let how = match ended {
        Ended::Code(code) => format!("ended with code {code}"),
        Ended::Signal(number) => format!("was ended by signal {number}"),
    };
    let processes = if count == 1 { "a process".to_owned() } else { format!("{count} processes") };
    let held = if is_leased { " and the GPU stays held until then" } else { "" };
    format!(
        "gpupin: `{}` {how}; waiting for {processes} it started{held} (Ctrl-C ends them)",
        command(words)
    )
}

/// The verdict, in one line, with the reasons of one that is not proved.
pub(super) fn end(evidence: &Evidence, path: &str, terminal: &mut Terminal) {
    let text = format!("gpupin: {}; evidence: {path}", verdict(evidence));
    terminal.status(&text);
}

/// `proved (simulated): only on RTX 3090`.
pub(crate) fn verdict(evidence: &Evidence) -> String {
    let pinned = evidence.gpus.iter().filter(|it| it.pinned);
    let pinned = pinned.map(|it| name_in(evidence, &it.uuid)).collect::<Vec<_>>().join(", ");
    let why = match evidence.verdict {
        Verdict::Proved => format!("it ran on {pinned} and nowhere else"),
        Verdict::Violated => reasons(evidence, |it| matches!(it, Reason::SeenElsewhere { .. })),
        Verdict::Unproved => reasons(evidence, |_| true),
    };
    format!("{}: {why}", bare_verdict(evidence))
}

/// `proved (simulated)`, for where the reasons follow.
pub(crate) fn bare_verdict(evidence: &Evidence) -> String {
    match evidence.kind {
        Kind::Measured => evidence.verdict.to_string(),
        kind => format!("{} ({kind})", evidence.verdict),
    }
}

/// Two reasons and how many there are beside them.
fn reasons(evidence: &Evidence, which: impl Fn(&Reason) -> bool) -> String {
    let all: Vec<_> = evidence.reasons.iter().filter(|it| which(it)).collect();
    let texts: Vec<_> = all.iter().take(2).map(|it| reason(it, evidence)).collect();
    match all.len().saturating_sub(2) {
        0 => texts.join(", "),
        more => format!("{}, and {more} more", texts.join(", ")),
    }
}

/// A reason for people.
pub(crate) fn reason(reason: &Reason, evidence: &Evidence) -> String {
    let name = |gpu: &Named| name_in(evidence, &gpu.0);
    match reason {
        Reason::RunnerEnded => "the runner ended before the program did".to_owned(),
        Reason::NotObserved => "nobody looked".to_owned(),
        Reason::NotStarted => "the program did not start".to_owned(),
        Reason::SeenElsewhere { gpu, pid } => format!("process {pid} used {}", name(gpu)),
        Reason::NoGpuUseSeen => "it was seen on no GPU".to_owned(),
        Reason::SampledOnly { gpu } => {
            let way = if evidence.isolation.requested {
                "`--isolate` did not keep it away"
            } else {
                "`--isolate` keeps it away"
            };
            format!("only samples tell that it did not use {} ({way})", name(gpu))
        }
        Reason::OtherInstances { gpu } => {
            format!("only samples tell that it did not use another instance of {}", name(gpu))
        }
        Reason::AccountingIncomplete { gpu, why } => {
            format!("the driver's accounting of {} does not tell all: {}", name(gpu), one_line(why))
        }
        Reason::ListSilent { gpu, list, why } => {
            format!("the {list} processes of {} were not told: {}", name(gpu), one_line(why))
        }
        Reason::MachineSilent { why } => format!("the driver failed: {}", one_line(why)),
        Reason::Unidentified { gpu, pid } => {
            format!("process {pid} was on {} and ended before it was known whose it was", name(gpu))
        }
        Reason::Mps { gpu } => format!("an MPS server computes for others on {}", name(gpu)),
        Reason::MigInstanceUnknown { gpu } => {
            format!("on which instance of {} it was is not told", name(gpu))
        }
        Reason::PidNamespace => {
            "the driver may number processes differently in this container".to_owned()
        }
        Reason::Gap { longest } => {
            format!("nobody looked for {}", time(Duration::from_millis(*longest)))
        }
        Reason::GpusChanged => "the GPUs of the machine changed meanwhile".to_owned(),
        Reason::Interrupted => "the observation was cut off".to_owned(),
        Reason::SamplesLost { why } => format!("samples were lost: {}", one_line(why)),
    }
}

fn name_in(evidence: &Evidence, uuid: &GpuUuid) -> String {
    name(uuid, evidence.gpus.iter().map(|it| (&it.uuid, it.name.as_str())))
}

/// A time for people: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 1 min`.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}
