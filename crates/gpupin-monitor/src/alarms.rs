//! What somebody should look at, from one moment to the next.
//!
//! A condition becomes an alert only when it has held for a while, and is over only when it has been absent for a while: a process
//! that comes and goes is one alert and not a hundred. In a gap nothing is known, so that nothing begins or ends but the alert that
//! the machine is silent. Pure: moments go in, and what has changed comes out.
//!
//! Out of scope: telling anybody.

use std::collections::BTreeMap;

use gpupin_device::Kind;
use gpupin_policy::GpuUuid;

use crate::{
    health::{AilmentKind, ailments, unowned},
    moment::{Moment, Ticket},
    people::Place,
    snapshot::{GpuNow, ProcessNow, Snapshot, Standing, Use},
};

/// What an alert is about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum AlarmKind {
    /// The machine does not answer.
    Silent,
    /// A GPU is there and does not say what it is.
    Unreadable,
    /// The driver reported an error.
    Xid,
    Heat,
    Slowdown,
    MemoryErrors,
    /// A process works on a GPU that its project does not mean.
    WrongGpu,
    /// Somebody computes without a lease on a GPU that the policy means.
    WithoutLease,
    /// Memory that belongs to no process.
    Unowned,
    /// Who holds a GPU hardly uses it, and others wait.
    IdleHolder,
}

impl AlarmKind {
    pub const ALL: [Self; 10] = [
        Self::Silent,
        Self::Unreadable,
        Self::Xid,
        Self::Heat,
        Self::Slowdown,
        Self::MemoryErrors,
        Self::WrongGpu,
        Self::WithoutLease,
        Self::Unowned,
        Self::IdleHolder,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Unreadable => "unreadable",
            Self::Xid => "xid",
            Self::Heat => "heat",
            Self::Slowdown => "slowdown",
            Self::MemoryErrors => "memory-errors",
            Self::WrongGpu => "wrong-gpu",
            Self::WithoutLease => "without-lease",
            Self::Unowned => "unowned",
            Self::IdleHolder => "idle-holder",
        }
    }

    /// Milliseconds for which a condition must hold before it is told.
    fn patience(self) -> u64 {
        match self {
            // These are facts, and not a matter of time.
            Self::Xid | Self::MemoryErrors => 0,
            Self::Silent | Self::Unreadable | Self::WrongGpu => 5_000,
            // A program starts its work before its lease is looked at, and a killed one leaves its memory for a moment.
            Self::WithoutLease | Self::Unowned => 15_000,
            // Heat comes and goes with the load.
            Self::Heat | Self::Slowdown => 30_000,
            Self::IdleHolder => 60_000,
        }
    }

    /// Milliseconds for which a condition must be absent before it is over.
    fn persistence(self) -> u64 {
        match self {
            // Nothing makes it undone; it is told for as long as somebody may come and see.
            Self::Xid => 10 * 60_000,
            Self::Heat | Self::Slowdown => 60_000,
            _ => 15_000,
        }
    }
}

/// Something that somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Alert {
    /// The same for the same cause, as long as it lasts: `wrong-gpu/GPU-…/4242-98765`.
    pub id: String,
    pub kind: AlarmKind,
    /// Whether a scene said it.
    pub simulated: bool,
    pub gpu: Option<GpuUuid>,
    /// In words for people, one line.
    pub text: String,
    /// Milliseconds since 1970 at which the condition was first seen.
    pub since: u64,
    /// When it was told first.
    pub raised: Option<u64>,
    /// When it was seen last.
    pub seen: u64,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Raised(Alert),
    /// It is over, since [`Alert::seen`].
    Cleared(Alert),
}

/// The conditions that hold, and how long they have.
#[derive(Debug, Clone, Default)]
pub struct Alarms {
    known: BTreeMap<String, Alert>,
}

impl Alarms {
    /// Hears of a moment, and says what has changed. Moments of the past, as after a clock was set back, count as now.
    pub fn hear(&mut self, moment: &Moment) -> Vec<Change> {
        let now = moment.at;
        for mut alert in conditions(moment) {
            if let Some(known) = self.known.get(&alert.id) {
                // A clock that was set back must not make it last for ever.
                alert.since = known.since.min(now);
                alert.raised = known.raised.map(|it| it.min(now));
            }
            self.known.insert(alert.id.clone(), alert);
        }
        let mut changes = Vec::new();
        for alert in self.known.values_mut() {
            let has_lasted = now.saturating_sub(alert.since) >= alert.kind.patience();
            if alert.seen == now && alert.raised.is_none() && has_lasted {
                alert.raised = Some(now);
                changes.push(Change::Raised(alert.clone()));
            }
        }
        let is_gap = moment.machine.is_none();
        self.known.retain(|_, alert| {
            // In a gap nobody knows whether it is over, nor whether it lasts.
            if is_gap && alert.kind != AlarmKind::Silent {
                alert.seen = now;
                return alert.raised.is_some();
            }
            alert.seen = alert.seen.min(now);
            // What was never told need not last.
            let persistence = if alert.raised.is_some() { alert.kind.persistence() } else { 0 };
            let is_over = alert.seen != now && now - alert.seen >= persistence;
            if is_over && alert.raised.is_some() {
                changes.push(Change::Cleared(alert.clone()));
            }
            !is_over
        });
        changes
    }

    /// What was told and is not over, the kinds that matter most first.
    pub fn active(&self) -> Vec<&Alert> {
        let mut active: Vec<_> = self.known.values().filter(|it| it.raised.is_some()).collect();
        active.sort_by_key(|it| (it.kind, it.since, &it.id));
        active
    }
}

/// What holds at a moment, as alerts that begin now.
pub fn conditions(moment: &Moment) -> Vec<Alert> {
    let is_simulated = moment.machine.as_ref().is_some_and(|it| it.kind != Kind::Measured);
    let alert = |kind: AlarmKind, gpu: Option<&GpuUuid>, key: &str, text: String| {
        let place = gpu.map_or("machine", GpuUuid::as_str);
        let id = format!("{}/{place}", kind.as_str());
        Alert {
            id: if key.is_empty() { id } else { format!("{id}/{key}") },
            kind,
            simulated: is_simulated,
            gpu: gpu.cloned(),
            text,
            since: moment.at,
            raised: None,
            seen: moment.at,
        }
    };
    let mut found = Vec::new();
    if let Some(why) = &moment.gap {
        found.push(alert(
            AlarmKind::Silent,
            None,
            "",
            format!("the machine does not answer: {why}"),
        ));
    }
    let Some(machine) = &moment.machine else { return found };
    for it in &machine.unreadable {
        let text = format!("index {} does not say what it is: {}", it.index, it.why);
        found.push(alert(AlarmKind::Unreadable, it.uuid.as_ref(), &it.index.to_string(), text));
    }
    for xid in &moment.xids {
        let text = format!("{} reported Xid {}", name(machine, &xid.gpu), xid.number);
        found.push(alert(AlarmKind::Xid, Some(&xid.gpu), &xid.number.to_string(), text));
    }
    for gpu in &machine.gpus {
        let uuid = Some(&gpu.uuid);
        for ailment in ailments(gpu) {
            let kind = match ailment.kind {
                AilmentKind::Heat => AlarmKind::Heat,
                AilmentKind::Slowdown => AlarmKind::Slowdown,
                AilmentKind::MemoryErrors => AlarmKind::MemoryErrors,
            };
            let text = format!("{}: {}: {}", gpu.name, ailment.kind.words(), ailment.why);
            found.push(alert(kind, uuid, "", text));
        }
        if let Some(bytes) = unowned(gpu) {
            let gib = bytes >> 30;
            let text =
                format!("about {gib} GiB of {} belong to no process that is listed", gpu.name);
            found.push(alert(AlarmKind::Unowned, uuid, "", text));
        }
        for process in &gpu.processes {
            if let Some((kind, text)) = misplaced(gpu, process) {
                found.push(alert(kind, uuid, &key(process), text));
            }
        }
    }
    for ticket in moment.leases.iter().flatten().filter(|it| it.is_idle()) {
        let is_awaited =
            moment.leases.iter().flatten().any(|it| it.gpu == ticket.gpu && it.position > 0);
        if is_awaited {
            let text = idle_text(machine, ticket, moment.at);
            found.push(alert(
                AlarmKind::IdleHolder,
                Some(&ticket.gpu),
                &ticket.number.to_string(),
                text,
            ));
        }
    }
    found
}

/// What is wrong with a process being where it is.
fn misplaced(gpu: &GpuNow, process: &ProcessNow) -> Option<(AlarmKind, String)> {
    let who = who(process);
    if process.place == Some(Place::Wrong) {
        let text = format!("{who} works on {}, which its project does not mean", gpu.name);
        return Some((AlarmKind::WrongGpu, text));
    }
    let computes = process.kinds.iter().any(|it| *it != Use::Graphics);
    let is_intruder =
        gpu.standing == Some(Standing::Meant) && process.leased == Some(false) && computes;
    is_intruder
        .then(|| (AlarmKind::WithoutLease, format!("{who} works on {} without a lease", gpu.name)))
}

/// A number that is used again is another process.
fn key(process: &ProcessNow) -> String {
    match process.started {
        Some(started) => format!("{}-{started}", process.pid),
        None => process.pid.to_string(),
    }
}

fn who(process: &ProcessNow) -> String {
    let command = process.command.as_deref().unwrap_or("a process of another PID namespace");
    format!("`{command}` (pid {})", process.pid)
}

fn name<'a>(machine: &'a Snapshot, uuid: &'a GpuUuid) -> &'a str {
    machine.gpus.iter().find(|it| it.uuid == *uuid).map_or(uuid.as_str(), |it| &it.name)
}

fn idle_text(machine: &Snapshot, ticket: &Ticket, now: u64) -> String {
    let minutes = |it: u64| it / 60_000;
    let held = ticket.held.map_or(0, |it| minutes(now.saturating_sub(it)));
    let used = ticket.used.map_or(0, |it| minutes(it.0));
    let command = ticket.command.as_deref().unwrap_or("an unknown program");
    format!(
        "`{command}` has held {} for {held} min and used it for {used} min, while others wait",
        name(machine, &ticket.gpu)
    )
}

#[cfg(test)]
mod tests {
    use super::{AlarmKind, Alarms, Change, Moment, Place};

    fn moment(at: u64) -> Moment {
        let golden = include_str!("../../../wire/moment.json");
        let mut moment: Moment = serde_json::from_str(golden).unwrap();
        moment.at = at;
        moment.xids.clear();
        for gpu in &mut moment.machine.as_mut().unwrap().gpus {
            gpu.processes.iter_mut().for_each(|it| it.leased = Some(true));
        }
        moment
    }

    /// The machine of [`moment`] with nobody in the wrong place and nobody without a lease.
    fn quiet(at: u64) -> Moment {
        let mut moment = moment(at);
        for gpu in &mut moment.machine.as_mut().unwrap().gpus {
            for process in &mut gpu.processes {
                process.place = Some(Place::Right);
            }
        }
        moment
    }

    fn gap(at: u64) -> Moment {
        Moment { machine: None, gap: Some("it hangs".to_owned()), leases: None, ..moment(at) }
    }

    /// What is told as moments come, as `second: +kind` and `second: -kind`, each once.
    #[track_caller]
    fn check(moments: impl IntoIterator<Item = Moment>, expected: &[&str]) {
        let mut alarms = Alarms::default();
        let mut said = Vec::new();
        for moment in moments {
            let second = moment.at / 1000;
            let mut changes: Vec<_> = alarms
                .hear(&moment)
                .into_iter()
                .map(|it| match it {
                    Change::Raised(it) => format!("{second}: +{}", it.kind.as_str()),
                    Change::Cleared(it) => format!("{second}: -{}", it.kind.as_str()),
                })
                .collect();
            changes.dedup();
            said.extend(changes);
        }
        assert_eq!(said, expected);
    }

    fn seconds(range: std::ops::Range<u64>) -> impl Iterator<Item = u64> {
        range.map(|it| it * 1000)
    }

    #[test]
    fn what_lasts_is_told_once_and_its_end_once() {
        let moments = seconds(0..40).map(moment).chain(seconds(40..80).map(quiet));
        check(moments, &["5: +wrong-gpu", "54: -wrong-gpu"]);
    }

    #[test]
    fn what_comes_and_goes_is_one_alert() {
        let flickering =
            seconds(0..120).map(|at| if at / 1000 % 4 < 3 { moment(at) } else { quiet(at) });
        // Every fourth second it is gone, so that it never lasts long enough to be told.
        check(flickering, &[]);
        let flickering = seconds(0..120)
            .map(|at| if at < 10_000 || at / 1000 % 4 < 3 { moment(at) } else { quiet(at) });
        check(flickering, &["5: +wrong-gpu"]);
    }

    #[test]
    fn in_a_gap_nothing_begins_or_ends_but_silence() {
        let moments = seconds(0..10)
            .map(moment)
            .chain(seconds(10..100).map(gap))
            .chain(seconds(100..130).map(moment));
        check(moments, &["5: +wrong-gpu", "15: +silent", "114: -silent"]);
    }

    #[test]
    fn an_error_that_the_driver_reports_is_told_at_once() {
        let mut with_xid = quiet(1000);
        with_xid.xids = moment_with_xids();
        let moments = [quiet(0), with_xid].into_iter().chain(seconds(2..700).map(quiet));
        check(moments, &["1: +xid", "601: -xid"]);
    }

    fn moment_with_xids() -> Vec<crate::moment::XidNow> {
        serde_json::from_str::<Moment>(include_str!("../../../wire/moment.json")).unwrap().xids
    }

    #[test]
    fn a_clock_that_jumps_neither_repeats_nor_loses_an_alert() {
        // An hour back, and then a day ahead.
        let hour = 3_600_000;
        let moments = seconds(7200..7220)
            .map(moment)
            .chain(seconds(7220..7240).map(move |it| moment(it - hour)))
            .chain(seconds(7240..7260).map(move |it| moment(it + 24 * hour)));
        check(moments, &["7205: +wrong-gpu"]);
        let moments = seconds(7200..7220)
            .map(moment)
            .chain(seconds(7220..7240).map(move |it| quiet(it - hour)));
        check(moments, &["7205: +wrong-gpu", "3635: -wrong-gpu"]);
    }

    #[test]
    fn an_intruder_is_told_only_where_the_policy_means_the_gpu() {
        let mut alarms = Alarms::default();
        for at in seconds(0..20) {
            let mut moment = quiet(at);
            for gpu in &mut moment.machine.as_mut().unwrap().gpus {
                gpu.processes[0].leased = Some(false);
            }
            alarms.hear(&moment);
        }
        let active = alarms.active();
        let kinds: Vec<_> =
            active.iter().map(|it| (it.kind, it.gpu.as_ref().unwrap().as_str())).collect();
        let meant = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";
        assert_eq!(kinds, [(AlarmKind::WithoutLease, meant)]);
        assert!(active[0].simulated);
        assert_eq!(
            active[0].text,
            "`python train.py --epochs 10` (pid 4245) works on RTX 3090 without a lease"
        );
    }
}
