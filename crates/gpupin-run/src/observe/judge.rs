use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use gpupin_policy::GpuUuid;
use serde::{Deserialize, Serialize};

use crate::observe::record::{
    AccountingOf, Entry, GpuSample, Kin, List, ListName, Named, Record, Seen, What,
};

/// Longest time between two samples that counts as observation, in milliseconds. The slowest pace is a third of it.
pub const LONGEST_GAP: u64 = 3000;

/// Accounting forgets the oldest processes; the length of its list is not told. NVIDIA documents a default of 4000.
const LONGEST_ACCOUNTING: usize = 1000;

/// What the records are judged by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Where the program belongs.
    pub pinned: Vec<Place>,
    /// GPUs that the kernel kept out of its reach.
    pub isolated: Vec<Named>,
    /// Whether this process has a PID namespace of its own, so that the driver's numbers need not be ours.
    pub own_pid_namespace: bool,
}

/// A GPU, or an instance on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The physical GPU.
    pub gpu: GpuUuid,
    /// GPU and compute instance, under MIG.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<(u32, u32)>,
}

/// What the observation amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Seen on the pinned GPU, and no other was in reach or went unrecorded.
    Proved,
    /// Everything that is neither proved nor violated.
    Unproved,
    /// Seen on another GPU.
    Violated,
}

/// Why a verdict is what it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reason {
    /// Written before the program starts, and replaced when all has ended.
    RunnerEnded,
    NotObserved,
    /// The program never started.
    NotStarted,
    SeenElsewhere {
        gpu: Named,
        pid: u32,
    },
    NoGpuUseSeen,
    /// Nothing but samples tells that it was not on this GPU.
    SampledOnly {
        gpu: Named,
    },
    /// Accounting was on and does not cover this GPU.
    AccountingIncomplete {
        gpu: Named,
        why: String,
    },
    ListSilent {
        gpu: Named,
        list: ListName,
        why: String,
    },
    MachineSilent {
        why: String,
    },
    /// Somebody was on this GPU, and had ended before it could be told who.
    Unidentified {
        gpu: Named,
        pid: u32,
    },
    /// An MPS server computes for others, and is on the lists in their place.
    Mps {
        gpu: Named,
    },
    MigInstanceUnknown {
        gpu: Named,
    },
    /// Pinned to an instance of this GPU: nothing but samples tells that it was not on another one.
    OtherInstances {
        gpu: Named,
    },
    PidNamespace,
    /// Milliseconds without a sample.
    Gap {
        longest: u64,
    },
    GpusChanged,
    Interrupted,
    /// Samples could not be kept.
    SamplesLost {
        why: String,
    },
}

/// A verdict with its reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    pub verdict: Verdict,
    /// None for what is proved.
    pub reasons: Vec<Reason>,
}

impl Judgement {
    pub fn unproved(reason: Reason) -> Self {
        Self { verdict: Verdict::Unproved, reasons: vec![reason] }
    }

    /// Something happened beside the records that nothing proved survives.
    #[must_use]
    pub fn and(mut self, reason: Reason) -> Self {
        if self.verdict == Verdict::Proved {
            self.verdict = Verdict::Unproved;
        }
        self.reasons.push(reason);
        self
    }
}

/// A process of the tree on a GPU where it does not belong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trespass {
    pub gpu: GpuUuid,
    pub pid: u32,
}

/// Judges records one after another. Pure: the same records give the same judgement, whenever and wherever.
#[derive(Clone, Debug)]
pub struct Judge {
    setting: Setting,
    trespasses: BTreeSet<Trespass>,
    was_on_pin: bool,
    reasons: BTreeSet<Reason>,
    /// Whom the driver listed that is none of ours, by GPU.
    strangers: BTreeSet<(GpuUuid, u32)>,
    ours: BTreeSet<u32>,
    inventory: Option<BTreeSet<Named>>,
    accounting: Vec<AccountingOf>,
    /// Why accounting that was on at first covers a GPU no more.
    uncovered: BTreeMap<Named, String>,
    accounted_first: Vec<AccountingOf>,
    accounting_at: Option<u64>,
    /// Milliseconds between two looks at the accounting.
    accounting_gap: u64,
    /// Whether the accounting was asked behind the last sample.
    accounting_is_last: bool,
    instances: Option<BTreeSet<Named>>,
    last_sample: Option<u64>,
    longest_gap: u64,
    ended: bool,
}

impl Judge {
    pub fn new(setting: Setting) -> Self {
        Self {
            setting,
            trespasses: BTreeSet::new(),
            was_on_pin: false,
            reasons: BTreeSet::new(),
            strangers: BTreeSet::new(),
            ours: BTreeSet::new(),
            inventory: None,
            accounting: Vec::new(),
            uncovered: BTreeMap::new(),
            accounted_first: Vec::new(),
            accounting_at: None,
            accounting_gap: 0,
            accounting_is_last: false,
            instances: None,
            last_sample: None,
            longest_gap: 0,
            ended: false,
        }
    }

    /// Says which GPUs the kernel keeps out of reach.
    pub(super) fn isolated(&mut self, gpus: impl IntoIterator<Item = Named>) {
        self.setting.isolated = gpus.into_iter().collect();
    }

    /// Takes the next record, and returns what it shows of the tree where it does not belong.
    pub fn add(&mut self, record: &Record) -> Vec<Trespass> {
        let mut found = Vec::new();
        match &record.what {
            What::Run(_) => {}
            What::Inventory(gpus) => {
                let gpus: BTreeSet<_> = gpus.iter().cloned().collect();
                if *self.inventory.get_or_insert_with(|| gpus.clone()) != gpus {
                    self.reasons.insert(Reason::GpusChanged);
                }
            }
            What::Silent(why) => {
                self.reasons.insert(Reason::MachineSilent { why: why.clone() });
            }
            What::Instances(all) => {
                let all: BTreeSet<_> = all.iter().cloned().collect();
                if *self.instances.get_or_insert_with(|| all.clone()) != all {
                    self.reasons.insert(Reason::GpusChanged);
                }
            }
            What::Accounting(all) => self.account(record.at, all),
            What::AccountingSame(_) => self.account_at(record.at),
            What::Gpus(gpus) => {
                self.tick(record.at);
                for gpu in gpus {
                    found.extend(self.look_at(gpu));
                }
                let sampled: BTreeSet<_> = gpus.iter().map(|it| Named(it.gpu.clone())).collect();
                if self.inventory.as_ref() != Some(&sampled) {
                    self.reasons.insert(Reason::GpusChanged);
                }
            }
            What::Same(_) => self.tick(record.at),
            What::End(_) => {
                self.gap(record.at);
                self.ended = true;
            }
        }
        self.trespasses.extend(found.iter().cloned());
        found
    }

    /// Compares what the accounting says with what it said before: whoever it knew it must still know.
    fn account(&mut self, at: u64, all: &[AccountingOf]) {
        let is_first = self.accounting_at.is_none();
        self.account_at(at);
        for AccountingOf { gpu, list } in all {
            if let Some(it) = list.entries().iter().find(|it| it.started.is_none()) {
                let why = format!("it lists process {} and does not say when it came", it.pid);
                self.uncovered.entry(Named(gpu.clone())).or_insert(why);
            }
        }
        if is_first {
            self.accounted_first = all.to_vec();
            self.accounting = all.to_vec();
            return;
        }
        for known in &mut self.accounting {
            let List::Is(before) = &known.list else { continue };
            let now = all.iter().find(|it| it.gpu == known.gpu).map(|it| &it.list);
            let why = match now {
                Some(List::Is(now)) if before.iter().all(|it| now.contains(it)) => {
                    known.list = List::Is(now.clone());
                    continue;
                }
                Some(List::Is(_)) => "it was cleared, switched off, or full".to_owned(),
                Some(List::Silent { silent, .. }) => silent.clone(),
                None => "the GPU is gone".to_owned(),
            };
            self.uncovered.entry(Named(known.gpu.clone())).or_insert(why);
            // Who was recorded before and after that was there all the same.
            if let Some(List::Is(now)) = now {
                let gone = before.iter().filter(|it| !now.contains(it)).copied();
                let all: Vec<_> = now.iter().copied().chain(gone).collect();
                known.list = List::Is(all);
            }
        }
    }

    fn account_at(&mut self, at: u64) {
        let gap = at.saturating_sub(self.accounting_at.unwrap_or(at));
        self.accounting_gap = self.accounting_gap.max(gap);
        self.accounting_is_last = true;
        self.accounting_at = Some(at);
    }

    /// Whether hits can be believed: the driver's numbers are ours.
    fn is_comparable(&self) -> bool {
        let is_unknown = |it: &Reason| matches!(it, Reason::Unidentified { .. });
        !self.setting.own_pid_namespace || !self.reasons.iter().any(is_unknown)
    }

    fn tick(&mut self, at: u64) {
        self.gap(at);
        self.accounting_is_last = false;
        self.last_sample = Some(at);
    }

    fn gap(&mut self, at: u64) {
        let gap = at.saturating_sub(self.last_sample.unwrap_or(0));
        self.longest_gap = self.longest_gap.max(gap);
    }

    fn look_at(&mut self, sample: &GpuSample) -> Vec<Trespass> {
        let gpu = Named(sample.gpu.clone());
        let is_pinned = self.setting.pinned.iter().any(|it| it.gpu == sample.gpu);
        let is_isolated = self.setting.isolated.contains(&gpu);
        let mut found = Vec::new();
        for (name, list) in sample.lists() {
            if let List::Silent { silent, inapplicable } = list {
                // Drivers without MPS lists show the server; GPUs without graphics have none.
                let tolerated = *inapplicable
                    && (name == ListName::Mps
                        || name == ListName::Graphics && (is_pinned || is_isolated));
                if !tolerated {
                    let (gpu, why) = (gpu.clone(), silent.clone());
                    self.reasons.insert(Reason::ListSilent { gpu, list: name, why });
                }
            }
            for seen in list.entries() {
                if name == ListName::Mps || seen.kin == Kin::MpsServer {
                    self.reasons.insert(Reason::Mps { gpu: gpu.clone() });
                }
                match seen.kin {
                    Kin::Tree => found.extend(self.look_at_ours(&gpu, seen)),
                    Kin::Other | Kin::MpsServer => {
                        self.strangers.insert((gpu.0.clone(), seen.pid));
                    }
                    Kin::Unknown if is_pinned && !self.setting.own_pid_namespace => {}
                    Kin::Unknown if is_isolated && !self.setting.own_pid_namespace => {}
                    Kin::Unknown => {
                        let gpu = gpu.clone();
                        self.reasons.insert(Reason::Unidentified { gpu, pid: seen.pid });
                    }
                }
            }
        }
        if self.is_comparable() { found } else { Vec::new() }
    }

    fn look_at_ours(&mut self, gpu: &Named, seen: &Seen) -> Option<Trespass> {
        self.ours.insert(seen.pid);
        let here: Vec<_> = self.setting.pinned.iter().filter(|it| it.gpu == gpu.0).collect();
        let is_instance = |it: &&Place| it.instance.is_some();
        if here.is_empty() {
            return Some(Trespass { gpu: gpu.0.clone(), pid: seen.pid });
        }
        if here.iter().any(|it| it.instance == seen.instance) {
            self.was_on_pin = true;
            return None;
        }
        // On the right GPU, and who is pinned to an instance was seen on another of it.
        if here.iter().all(is_instance) && seen.instance.is_some() {
            return Some(Trespass { gpu: gpu.0.clone(), pid: seen.pid });
        }
        self.reasons.insert(Reason::MigInstanceUnknown { gpu: gpu.clone() });
        None
    }

    /// Everything together.
    pub fn finish(mut self) -> Judgement {
        let accounting = self.judge_accounting();
        let is_comparable = self.is_comparable();
        if !is_comparable {
            self.trespasses.clear();
        }
        let elsewhere: Vec<_> = std::mem::take(&mut self.trespasses)
            .into_iter()
            .map(|it| Reason::SeenElsewhere { gpu: Named(it.gpu), pid: it.pid })
            .collect();

        let mut reasons = std::mem::take(&mut self.reasons);
        if self.setting.own_pid_namespace {
            reasons.insert(Reason::PidNamespace);
        }
        if self.longest_gap > LONGEST_GAP {
            reasons.insert(Reason::Gap { longest: self.longest_gap });
        }
        if !self.ended {
            reasons.insert(Reason::Interrupted);
        }
        if !(self.was_on_pin && is_comparable) && elsewhere.is_empty() {
            reasons.insert(Reason::NoGpuUseSeen);
        }
        if self.inventory.is_none() {
            reasons.insert(Reason::MachineSilent { why: "no GPU was listed".to_owned() });
        }
        let is_pinned = |gpu: &Named| self.setting.pinned.iter().any(|it| it.gpu == gpu.0);
        // Of a GPU that it was seen on nothing else needs to be told.
        let is_hit = |gpu: &Named| {
            elsewhere
                .iter()
                .any(|it| matches!(it, Reason::SeenElsewhere { gpu: hit, .. } if hit == gpu))
        };
        let others = |it: &&Named| !is_pinned(it) && !is_hit(it);
        for gpu in self.inventory.iter().flatten().filter(others) {
            match accounting.get(gpu) {
                _ if self.setting.isolated.contains(gpu) => {}
                Some(Ok(())) => {}
                Some(Err(why)) => {
                    let (gpu, why) = (gpu.clone(), why.clone());
                    reasons.insert(Reason::AccountingIncomplete { gpu, why });
                }
                None => {
                    reasons.insert(Reason::SampledOnly { gpu: gpu.clone() });
                }
            }
        }
        for place in self.setting.pinned.iter().filter(|it| it.instance.is_some()) {
            // Isolation works on whole GPUs, and accounting does not tell instances apart.
            let gpu = Named(place.gpu.clone());
            if !is_hit(&gpu) {
                reasons.insert(Reason::OtherInstances { gpu });
            }
        }
        // A violation is one, whatever else could not be seen.
        let verdict = match (elsewhere.is_empty(), reasons.is_empty()) {
            (false, _) => Verdict::Violated,
            (true, true) => Verdict::Proved,
            (true, false) => Verdict::Unproved,
        };
        Judgement { verdict, reasons: elsewhere.into_iter().chain(reasons).collect() }
    }

    /// For every GPU with accounting, whether it shows everybody who was on it. Finds trespasses that no sample showed.
    fn judge_accounting(&mut self) -> BTreeMap<Named, Result<(), String>> {
        let mut covered = BTreeMap::new();
        let (first, last) =
            (std::mem::take(&mut self.accounted_first), std::mem::take(&mut self.accounting));
        for (AccountingOf { gpu, list }, last) in first.iter().zip(&last) {
            let (List::Is(before), List::Is(after)) = (list, &last.list) else { continue };
            let named = Named(gpu.clone());
            let (found, unknown) = self.new_entries(gpu, before, after);
            if self.setting.pinned.iter().all(|it| it.gpu != *gpu) {
                let trespass = |pid| Trespass { gpu: gpu.clone(), pid };
                self.trespasses.extend(found.into_iter().map(trespass));
            }
            let result = match (self.uncovered.remove(&named), unknown) {
                (Some(why), _) => Err(why),
                _ if after.len() >= LONGEST_ACCOUNTING => Err("its list was full".to_owned()),
                _ if !self.accounting_is_last => Err("nobody asked it at the end".to_owned()),
                _ if self.accounting_gap > LONGEST_GAP => {
                    Err(format!("nobody asked it for {} ms", self.accounting_gap))
                }
                (None, Some(pid)) => Err(format!("whose process {pid} was is not known")),
                (None, None) => Ok(()),
            };
            covered.insert(named, result);
        }
        covered
    }

    /// Who of ours came to the GPU, and one of whom it cannot be told.
    fn new_entries(
        &self,
        gpu: &GpuUuid,
        before: &[Entry],
        after: &[Entry],
    ) -> (Vec<u32>, Option<u32>) {
        let is_new = |it: &&Entry| !before.iter().any(|known| known.may_be(it));
        let (found, others): (Vec<_>, Vec<_>) =
            after.iter().filter(is_new).map(|it| it.pid).partition(|it| self.ours.contains(it));
        let is_known = |it: &u32| self.strangers.contains(&(gpu.clone(), *it));
        (found, others.into_iter().find(|it| !is_known(it)))
    }
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proved => "proved",
            Self::Unproved => "unproved",
            Self::Violated => "violated",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
