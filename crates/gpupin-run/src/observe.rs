//! Which GPUs a tree of processes uses, as far as that can be seen.
//!
//! A thread asks the machine for the processes on *every* GPU, often while things change and seldom while they do not
//! ([`pace`]), tells which of them belong to the tree ([`kin`]), and writes what it saw as [`Record`]s. A [`Judge`] turns records into a
//! [`Verdict`]. It is pure, so that anybody can judge the same records again, and everything a driver may leave out or get wrong
//! becomes a [`Reason`] against *proved*.
//!
//! Sampling shows who was there, never who was not: a program may come and go between two looks. So it proves nothing alone.
//! *Proved* also needs every other GPU to have been out of reach, or its driver to have kept account of who came.
//! Accounting and the list of GPUs are asked again with the samples, or once a second where the driver is slow: whoever switches accounting off
//! and on, or adds a GPU and takes it away, between two looks goes unnoticed. That takes root, which is assumed not to.
//!
//! Out of scope: programs that hide from the driver, and processes outside of the tree that work for it, such as a server.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    io::Write,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use gpupin_device::{Answer, GpuProcess, Machine};
use gpupin_policy::{Bytes, GpuUuid, Inventory, Mig};
use sha2::{Digest as _, Sha256};

use self::{
    kin::{Kinship, Known},
    pace::Pace,
    record::{AccountingOf, Entry, GpuSample, List, Named, Origin, Record, Seen, What},
};
use crate::{
    process::{Process, ProcessId},
    supervise::wake,
};

mod judge;
mod kin;
mod pace;
pub mod record;
#[cfg(test)]
mod tests;

pub use self::{
    judge::{Judge, Judgement, LONGEST_GAP, Place, Reason, Setting, Trespass, Verdict},
    record::{Kin, ListName},
};

/// What the observer tells while the program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A process of the tree came to a GPU where it belongs.
    OnPin { gpu: GpuUuid, process: ProcessId },
    /// For how long any was on a GPU where it belongs, all in all.
    Used(Duration),
    /// One came to a GPU where it does not.
    Trespass { gpu: GpuUuid, process: ProcessId, command: String },
    /// Samples cannot be written any more; it goes on looking.
    SamplesLost { why: String },
}

/// What was seen, all in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub judgement: Judgement,
    /// Of the tree on every GPU, of others on the pinned ones.
    pub uses: Vec<Use>,
    /// Lines of the raw samples, and how many of them are samples.
    pub records: u64,
    pub samples: u64,
    /// SHA-256 of the raw samples, in hexadecimal.
    pub sha256: String,
}

/// A process on a GPU, from the first sight to the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    pub process: ProcessId,
    pub command: String,
    pub gpu: GpuUuid,
    pub is_tree: bool,
    /// Since the observation began.
    pub first: Duration,
    pub last: Duration,
    pub peak_memory: Option<Bytes>,
}

/// Where raw samples go.
pub type Sink = Box<dyn Write + Send>;

/// An observation that is ready to begin: what was there before the program is written down.
pub struct Prepared {
    machine: Arc<dyn Machine>,
    log: Log,
    gpus: Vec<GpuUuid>,
    began: Instant,
}

/// An observation, until it is finished.
pub struct Observer {
    stop: Sender<Stop>,
    done: Receiver<Observed>,
    news: Receiver<News>,
}

/// How an observation ends.
enum Stop {
    TreeIsEmpty,
}

/// Notes what is there before the program starts.
pub fn prepare(
    machine: Arc<dyn Machine>,
    origin: Origin,
    setting: Setting,
    sink: Sink,
) -> Prepared {
    let began = Instant::now();
    let mut log = Log::new(setting, sink);
    log.add(0, What::Run(origin));
    let gpus = log.inventory(&*machine, 0);
    log.account(&*machine, &gpus);
    Prepared { machine, log, gpus, began }
}

impl Prepared {
    /// Says which GPUs the kernel keeps out of reach, which is known only when the program starts.
    pub fn isolated(&mut self, gpus: impl IntoIterator<Item = Named>) {
        self.log.judge.isolated(gpus);
    }

    /// Why samples cannot be written, if they cannot be.
    pub fn lost(&mut self) -> Option<String> {
        self.log.sink.flush();
        self.log.sink.failure.clone()
    }

    /// Observes the tree below `root`, without what is below `others`.
    pub fn start(self, root: u32, others: Vec<ProcessId>) -> std::io::Result<Observer> {
        let (stop, stopped) = mpsc::channel();
        let (done, finished) = mpsc::channel();
        let (tell, news) = mpsc::channel();
        let kinship = Kinship::new(root, others);
        let watch = Watch { prepared: self, kinship, tell, told: BTreeSet::new() };
        thread::Builder::new()
            .name("observe".to_owned())
            // Nobody waits for it any more.
            .spawn(move || drop(done.send(watch.run(&stopped))))?;
        Ok(Observer { stop, done: finished, news })
    }

    /// The judgement if nothing was started.
    pub fn abandon(self) -> Observed {
        let mut observed = self.log.finish();
        observed.judgement = Judgement::unproved(Reason::NotStarted);
        observed
    }
}

impl Observer {
    /// What was told since the last time.
    pub fn news(&self) -> impl Iterator<Item = News> {
        self.news.try_iter()
    }

    /// Ends the observation of a tree that is empty. `None` if the machine does not answer within `patience`.
    pub fn finish(&self, patience: Duration) -> Option<Observed> {
        self.stop.send(Stop::TreeIsEmpty).ok()?;
        self.done.recv_timeout(patience).ok()
    }
}

struct Watch {
    prepared: Prepared,
    kinship: Kinship,
    tell: Sender<News>,
    told: BTreeSet<Trespass>,
}

/// How often it is told for how long the GPU was used.
const USE_EVERY: Duration = Duration::from_secs(10);

/// The longest time between two looks at which GPUs there are and what their accounting says. A driver that answers fast is asked
/// with every sample.
const RARELY: Duration = Duration::from_secs(1);

/// How often it is written which GPUs there are, while they are the same.
const INVENTORY_EVERY: u64 = 10_000;

/// Part of the time that such a look may take: one in this many.
const PART: u32 = 20;

/// A question that is asked less often where the answer takes long.
struct Question {
    next: Duration,
}

impl Question {
    fn is_due(&self, now: Duration) -> bool {
        now >= self.next
    }

    fn was_asked(&mut self, from: Duration, until: Duration) {
        self.next = until + (until.saturating_sub(from) * PART).min(RARELY);
    }
}

impl Watch {
    fn run(mut self, stopped: &Receiver<Stop>) -> Observed {
        let began = self.prepared.began;
        let mut pace = Pace::new();
        let mut previous: Vec<GpuSample> = Vec::new();
        let mut inventory = Question { next: Duration::ZERO };
        let mut accounting = Question { next: Duration::ZERO };
        let mut used = Duration::ZERO;
        let mut used_told = Duration::ZERO;
        let mut last = began.elapsed();
        loop {
            let start = began.elapsed();
            if inventory.is_due(start) {
                self.prepared.gpus =
                    self.prepared.log.inventory(&*self.prepared.machine, ms(start));
                inventory.was_asked(start, began.elapsed());
            }
            let from = began.elapsed();
            if accounting.is_due(from) {
                self.prepared
                    .log
                    .accounting_again(&*self.prepared.machine, false, || ms(began.elapsed()));
                accounting.was_asked(from, began.elapsed());
            }
            let sample = self.sample();
            // The driver made its lists before now, so that this is when they were true at the latest.
            let now = began.elapsed();
            let changed = sample != previous;
            if changed {
                self.note(&sample, now);
                let found = self.prepared.log.add(ms(now), What::Gpus(sample.clone()));
                self.tell(found);
                previous = sample;
            } else {
                self.prepared.log.same(ms(now));
            }
            if let Some(why) = self.prepared.log.sink.untold() {
                drop(self.tell.send(News::SamplesLost { why }));
                wake();
            }
            if self.prepared.log.is_on_pin(&previous) {
                used += now.saturating_sub(last);
            }
            last = now;
            if used.saturating_sub(used_told) > USE_EVERY {
                used_told = used;
                drop(self.tell.send(News::Used(used)));
                wake();
            }
            let pause = pace.after(now, changed, now.saturating_sub(start));
            match stopped.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Stop::TreeIsEmpty) => break,
                // Nobody wants to know any more; without an end nothing is proved.
                Err(RecvTimeoutError::Disconnected) => return self.prepared.log.finish(),
            }
        }
        let Prepared { machine, mut log, began, .. } = self.prepared;
        log.inventory(&*machine, ms(began.elapsed()));
        log.accounting_again(&*machine, true, || ms(began.elapsed()));
        let at = ms(began.elapsed());
        log.add(at, What::End(true));
        log.finish()
    }

    fn sample(&mut self) -> Vec<GpuSample> {
        let machine = Arc::clone(&self.prepared.machine);
        let gpus = self.prepared.gpus.clone();
        let mut present = BTreeSet::new();
        let sample = |gpu: GpuUuid| {
            let usage = machine.usage(&gpu);
            let kin = self.kinship.of(usage.processes().map(|it| it.1.pid));
            present.extend(kin.keys().copied());
            GpuSample {
                compute: list(&usage.compute, &kin),
                graphics: list(&usage.graphics, &kin),
                mps: list(&usage.mps, &kin),
                gpu,
            }
        };
        let samples = gpus.into_iter().map(sample).collect();
        self.kinship.keep(&present);
        samples
    }

    /// Notes who is where, and tells who came to where it belongs.
    fn note(&mut self, sample: &[GpuSample], now: Duration) {
        let log = &mut self.prepared.log;
        for of_gpu in sample {
            let is_pinned = log.pinned.iter().any(|it| it.gpu == of_gpu.gpu);
            for seen in of_gpu.lists().into_iter().flat_map(|it| it.1.entries()) {
                let Some(started) = seen.started else { continue };
                let is_tree = seen.kin == Kin::Tree;
                if !is_tree && !is_pinned {
                    continue;
                }
                let process = ProcessId { pid: seen.pid, started };
                let command = || {
                    let known = Process::read(seen.pid).ok().filter(|it| it.id == process);
                    known.map_or_else(|| "?".to_owned(), |it| it.command)
                };
                let key = (of_gpu.gpu.clone(), process);
                let is_new = !log.uses.contains_key(&key);
                let gpu = of_gpu.gpu.clone();
                let entry = log.uses.entry(key).or_insert_with(|| Use {
                    process,
                    command: command(),
                    gpu: gpu.clone(),
                    is_tree,
                    first: now,
                    last: now,
                    peak_memory: None,
                });
                entry.peak_memory = entry.peak_memory.max(seen.memory.map(Bytes::new));
                if is_new && is_tree && is_pinned {
                    drop(self.tell.send(News::OnPin { gpu, process }));
                    wake();
                }
            }
        }
    }

    /// Tells of every trespass once.
    fn tell(&mut self, found: Vec<Trespass>) {
        for trespass in found {
            let Trespass { gpu, pid } = &trespass;
            let mut uses = self.prepared.log.uses.values();
            let it = uses.find(|it| it.gpu == *gpu && it.process.pid == *pid);
            let Some(Use { process, command, gpu, .. }) = it.cloned() else { continue };
            if self.told.insert(trespass) {
                drop(self.tell.send(News::Trespass { gpu, process, command }));
                wake();
            }
        }
    }
}

fn list(list: &Answer<Vec<GpuProcess>>, kin: &HashMap<u32, Known>) -> List<Seen> {
    let processes = match list {
        Ok(processes) => processes,
        Err(why) => return List::silent(why),
    };
    let seen = |it: &GpuProcess| {
        let (kin, started) = kin[&it.pid];
        let memory = it.memory.as_ref().ok().map(|it| it.get());
        Seen { pid: it.pid, started, kin, memory, instance: it.instance }
    };
    List::Is(processes.iter().map(seen).collect())
}

/// What was seen so far.
struct Log {
    judge: Judge,
    pinned: Vec<Place>,
    sink: Hashed,
    uses: BTreeMap<(GpuUuid, ProcessId), Use>,
    /// Whose last sight is every sample that stays the same.
    present: Vec<(GpuUuid, ProcessId)>,
    /// What was written of which GPUs there are, and when.
    listed: (Vec<What>, u64),
    gpus: Vec<GpuUuid>,
    /// Of the GPUs whose accounting was on at first.
    accounted: Vec<AccountingOf>,
    accounted_at: u64,
    records: u64,
    samples: u64,
}

struct Hashed {
    sink: Sink,
    hash: Sha256,
    failure: Option<String>,
    is_told: bool,
}

impl Log {
    fn new(setting: Setting, sink: Sink) -> Self {
        Self {
            pinned: setting.pinned.clone(),
            judge: Judge::new(setting),
            sink: Hashed { sink, hash: Sha256::new(), failure: None, is_told: false },
            uses: BTreeMap::new(),
            present: Vec::new(),
            listed: (Vec::new(), 0),
            gpus: Vec::new(),
            accounted: Vec::new(),
            accounted_at: 0,
            records: 0,
            samples: 0,
        }
    }

    /// Asks which GPUs there are; those of before if the machine does not say.
    fn inventory(&mut self, machine: &dyn Machine, at: u64) -> Vec<GpuUuid> {
        let mut found = Vec::new();
        match machine.inventory() {
            Ok(Inventory { gpus, .. }) => {
                let instances = gpus.iter().flat_map(|it| match &it.mig {
                    Mig::Enabled(instances) => instances.as_slice(),
                    Mig::Disabled | Mig::Instance { .. } => &[],
                });
                let instances: Vec<_> = instances.map(|it| Named(it.uuid.clone())).collect();
                self.gpus = gpus.iter().map(|it| it.uuid.clone()).collect();
                found.push(What::Inventory(self.gpus.iter().cloned().map(Named).collect()));
                found.push(What::Instances(instances));
                // A GPU that does not say what it is may still be used.
                match machine.unreadable() {
                    Ok(unreadable) => found.extend(unreadable.iter().map(|it| {
                        let why = format!("GPU {} does not tell {}", it.index, it.what);
                        What::Silent(format!("{why}: {}", it.why))
                    })),
                    Err(error) => found.push(What::Silent(error.to_string())),
                }
            }
            Err(error) => found.push(What::Silent(error.to_string())),
        }
        let (before, written) = &self.listed;
        if *before != found || at.saturating_sub(*written) >= INVENTORY_EVERY {
            for it in found.clone() {
                self.add(at, it);
            }
            self.listed = (found, at);
        }
        if self.gpus.is_empty() {
            return self.pinned.iter().map(|it| it.gpu.clone()).collect();
        }
        self.gpus.clone()
    }

    /// Asks all GPUs for their accounting for the first time.
    fn account(&mut self, machine: &dyn Machine, gpus: &[GpuUuid]) {
        let all = accounting(machine, gpus);
        self.add(0, What::Accounting(all.clone()));
        self.accounted = all.into_iter().filter(|it| matches!(it.list, List::Is(_))).collect();
    }

    /// Asks those again whose accounting was on. `at` is asked for behind the answers, when they were true at the latest.
    fn accounting_again(&mut self, machine: &dyn Machine, is_last: bool, at: impl Fn() -> u64) {
        if self.accounted.is_empty() {
            return;
        }
        let gpus: Vec<_> = self.accounted.iter().map(|it| it.gpu.clone()).collect();
        let all = accounting(machine, &gpus);
        let at = at();
        if all != self.accounted || is_last {
            self.add(at, What::Accounting(all.clone()));
            self.accounted = all;
            self.accounted_at = at;
        } else if at.saturating_sub(self.accounted_at) >= ms(RARELY) {
            self.add(at, What::AccountingSame(true));
            self.accounted_at = at;
        }
    }

    fn same(&mut self, at: u64) {
        for key in &self.present {
            if let Some(it) = self.uses.get_mut(key) {
                it.last = Duration::from_millis(at);
            }
        }
        self.add(at, What::Same(true));
    }

    fn is_on_pin(&self, sample: &[GpuSample]) -> bool {
        let pinned = |it: &&GpuSample| self.pinned.iter().any(|place| place.gpu == it.gpu);
        let ours = |it: &GpuSample| {
            it.lists().into_iter().flat_map(|it| it.1.entries()).any(|it| it.kin == Kin::Tree)
        };
        sample.iter().filter(pinned).any(ours)
    }

    /// Takes a record, and returns what it shows of the tree where it does not belong.
    fn add(&mut self, at: u64, what: What) -> Vec<Trespass> {
        if let What::Gpus(gpus) = &what {
            self.present.clear();
            for of_gpu in gpus {
                for seen in of_gpu.lists().into_iter().flat_map(|it| it.1.entries()) {
                    let Some(started) = seen.started else { continue };
                    let key = (of_gpu.gpu.clone(), ProcessId { pid: seen.pid, started });
                    if let Some(it) = self.uses.get_mut(&key) {
                        it.last = Duration::from_millis(at);
                        self.present.push(key);
                    }
                }
            }
        }
        self.samples += u64::from(matches!(what, What::Gpus(_) | What::Same(_)));
        self.records += 1;
        let record = Record { at, what };
        self.sink.line(&record);
        // A disk that is full is told when something happens, not when a buffer is.
        if matches!(record.what, What::Gpus(_)) {
            self.sink.flush();
        }
        self.judge.add(&record)
    }

    fn finish(mut self) -> Observed {
        let mut judgement = self.judge.finish();
        self.sink.flush();
        if let Some(why) = self.sink.failure.take() {
            judgement = judgement.and(Reason::SamplesLost { why });
        }
        Observed {
            judgement,
            uses: self.uses.into_values().collect(),
            records: self.records,
            samples: self.samples,
            sha256: hex(&self.sink.hash.finalize()),
        }
    }
}

impl Hashed {
    fn line(&mut self, record: &Record) {
        let mut line = serde_json::to_vec(record).expect("a record is plain data");
        line.push(b'\n');
        if self.failure.is_none() {
            self.failure = self.sink.write_all(&line).err().map(|it| it.to_string());
        }
        self.hash.update(&line);
    }

    fn flush(&mut self) {
        if self.failure.is_none() {
            self.failure = self.sink.flush().err().map(|it| it.to_string());
        }
    }

    /// Why samples are missing, once.
    fn untold(&mut self) -> Option<String> {
        let why = self.failure.clone().filter(|_| !self.is_told)?;
        self.is_told = true;
        Some(why)
    }
}

/// The accounting of those GPUs where it is on.
fn accounting(machine: &dyn Machine, gpus: &[GpuUuid]) -> Vec<AccountingOf> {
    let of = |gpu: &GpuUuid| {
        let list = match machine.accounting(gpu) {
            Ok(list) => {
                let entry = |it: &gpupin_device::Accounted| Entry {
                    pid: it.pid,
                    started: it.started.clone().ok(),
                };
                List::Is(list.iter().map(entry).collect())
            }
            Err(why) => List::silent(&why),
        };
        AccountingOf { gpu: gpu.clone(), list }
    };
    gpus.iter().map(of).collect()
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Bytes in hexadecimal, as `sha256sum` prints them.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a `String` takes everything");
    }
    text
}
