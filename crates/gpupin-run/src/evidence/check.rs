use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    io::{self, BufRead as _, BufReader},
    path::{Component, Path},
};

use gpupin_policy::GpuUuid;
use sha2::{Digest as _, Sha256};

use super::{Evidence, GpuRecord, ProcessRecord, Stored, samples_name};
use crate::{
    observe::{
        Judge, Judgement, Kin, Reason, Verdict, hex,
        record::{GpuSample, List, Record, Seen, What},
    },
    plain::{self, Links},
    process::ProcessId,
};

/// What is wrong with evidence that was read from `path`; nothing if it and its samples are what it says and give its verdict.
pub fn check(path: &Path, stored: &Stored) -> Vec<Problem> {
    let mut problems = contradictions(path, stored);
    problems.extend(check_samples(path, &stored.evidence));
    problems
}

/// What is wrong with evidence without a look at its samples.
pub fn contradictions(path: &Path, stored: &Stored) -> Vec<Problem> {
    let Stored { evidence, sha256, found } = stored;
    let mut problems = Vec::new();
    // Else one run's could lie in the place of another's.
    if path.file_stem() != Some(OsStr::new(&evidence.id)) {
        problems.push(Problem::Name { id: evidence.id.clone() });
    }
    match sha256 {
        None => problems.push(Problem::NoOwnHash),
        Some(expected) if expected != found => {
            problems.push(Problem::OwnHash { expected: expected.clone(), found: found.clone() });
        }
        Some(_) => {}
    }
    if (evidence.verdict == Verdict::Proved) != evidence.reasons.is_empty() {
        problems.push(Problem::Reasons { claimed: evidence.verdict });
    }
    let setting = &evidence.setting;
    let of = |is_so: fn(&GpuRecord) -> bool| {
        evidence.gpus.iter().filter(|it| is_so(it)).map(|it| &it.uuid).collect::<BTreeSet<_>>()
    };
    if of(|it| it.pinned) != setting.pinned.iter().map(|it| &it.gpu).collect() {
        problems.push(Problem::Setting { what: "pinned" });
    }
    if of(|it| it.isolated) != setting.isolated.iter().map(|it| &it.0).collect() {
        problems.push(Problem::Setting { what: "isolated" });
    }
    if evidence.samples.is_none() {
        // Nothing was observed, and nothing of what that amounts to may be claimed.
        if evidence.verdict == Verdict::Proved || !evidence.processes.is_empty() {
            problems.push(Problem::NoSamples);
        }
    }
    problems
}

fn check_samples(path: &Path, evidence: &Evidence) -> Vec<Problem> {
    let Some(record) = &evidence.samples else { return Vec::new() };
    let name = || record.file.clone();
    let mut components = Path::new(&record.file).components();
    if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
        return vec![Problem::SamplesElsewhere { file: name() }];
    }
    if record.file != samples_name(&evidence.id) {
        return vec![Problem::SamplesOfAnother { file: name() }];
    }
    let file = match plain::open(&path.with_file_name(&record.file), Links::Refuse) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return vec![Problem::SamplesMissing { file: name() }];
        }
        Err(error) => {
            return vec![Problem::SamplesUnreadable { file: name(), why: error.to_string() }];
        }
    };
    let mut again = Again::new(evidence);
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return again.finish(evidence),
            Ok(_) => {}
            Err(error) => {
                return vec![Problem::SamplesUnreadable { file: name(), why: error.to_string() }];
            }
        }
        if let Err(problem) = again.line(&line, evidence) {
            return vec![problem];
        }
    }
}

/// What the samples say, once more.
struct Again {
    hash: Sha256,
    judge: Judge,
    is_of_run: bool,
    records: u64,
    samples: u64,
    uses: Uses,
}

impl Again {
    fn new(evidence: &Evidence) -> Self {
        Self {
            hash: Sha256::new(),
            judge: Judge::new(evidence.setting.clone()),
            is_of_run: false,
            records: 0,
            samples: 0,
            uses: Uses::default(),
        }
    }

    fn line(&mut self, line: &[u8], evidence: &Evidence) -> Result<(), Problem> {
        self.hash.update(line);
        self.records += 1;
        let record = serde_json::from_slice::<Record>(line)
            .map_err(|it| Problem::Line { number: self.records, why: it.to_string() })?;
        // What is there beside a record would be read over.
        let mut written = serde_json::to_vec(&record).expect("a record is plain data");
        written.push(b'\n');
        if written != line {
            let why = "gpupin writes it otherwise".to_owned();
            return Err(Problem::Line { number: self.records, why });
        }
        match &record.what {
            What::Run(origin) => {
                self.is_of_run |= self.records == 1 && *origin == evidence.origin();
            }
            What::Gpus(gpus) => {
                self.samples += 1;
                let is_pinned =
                    |gpu: &GpuUuid| evidence.setting.pinned.iter().any(|it| it.gpu == *gpu);
                self.uses.changed(record.at, gpus, is_pinned);
            }
            What::Same(_) => {
                self.samples += 1;
                self.uses.same(record.at);
            }
            _ => {}
        }
        self.judge.add(&record);
        Ok(())
    }

    fn finish(self, evidence: &Evidence) -> Vec<Problem> {
        let Some(claimed) = &evidence.samples else { return Vec::new() };
        let found = hex(&self.hash.finalize());
        if found != claimed.sha256 {
            return vec![Problem::Hash { expected: claimed.sha256.clone(), found }];
        }
        if !self.is_of_run {
            return vec![Problem::Origin];
        }
        // What was lost would have said more.
        if evidence.reasons.iter().any(|it| matches!(it, Reason::SamplesLost { .. })) {
            return Vec::new();
        }
        let mut problems = Vec::new();
        if (self.records, self.samples) != (claimed.records, claimed.samples) {
            let (records, samples) = (self.records, self.samples);
            problems.push(Problem::Count { records, samples });
        }
        let again = self.judge.finish();
        // Without a program there is nothing to judge, and nothing that could be proved.
        let not_started = evidence.judgement() == Judgement::unproved(Reason::NotStarted)
            && again.verdict == Verdict::Unproved;
        if again != evidence.judgement() && !not_started {
            let (claimed, found) = (evidence.verdict, again.verdict);
            problems.push(Problem::Verdict { claimed, found });
        }
        if !self.uses.are(&evidence.processes) {
            problems.push(Problem::Processes);
        }
        problems
    }
}

/// Who was on a GPU, as the samples tell: without the commands, which they do not have.
#[derive(Default)]
struct Uses {
    all: BTreeMap<(GpuUuid, ProcessId), Use>,
    present: Vec<(GpuUuid, ProcessId)>,
}

#[derive(PartialEq, Eq)]
struct Use {
    is_tree: bool,
    /// Milliseconds.
    first: u64,
    last: u64,
    /// Bytes.
    peak: Option<u64>,
}

impl Uses {
    fn changed(&mut self, at: u64, gpus: &[GpuSample], is_pinned: impl Fn(&GpuUuid) -> bool) {
        self.present.clear();
        for of_gpu in gpus {
            let lists = [&of_gpu.compute, &of_gpu.graphics, &of_gpu.mps];
            let seen = lists.into_iter().flat_map(|it| match it {
                List::Is(entries) => entries.as_slice(),
                List::Silent { .. } => &[],
            });
            for Seen { pid, started, kin, memory, .. } in seen {
                let Some(started) = *started else { continue };
                let key = (of_gpu.gpu.clone(), ProcessId { pid: *pid, started });
                let is_tree = *kin == Kin::Tree;
                let counts = is_tree || is_pinned(&of_gpu.gpu);
                if counts && !self.all.contains_key(&key) {
                    let new = Use { is_tree, first: at, last: at, peak: None };
                    self.all.insert(key.clone(), new);
                }
                let Some(it) = self.all.get_mut(&key) else { continue };
                it.last = at;
                if counts {
                    it.peak = it.peak.max(*memory);
                }
                self.present.push(key);
            }
        }
    }

    fn same(&mut self, at: u64) {
        for key in &self.present {
            if let Some(it) = self.all.get_mut(key) {
                it.last = at;
            }
        }
    }

    fn are(&self, claimed: &[ProcessRecord]) -> bool {
        let is_same = |it: &ProcessRecord| {
            let claimed = Use {
                is_tree: it.tree,
                first: it.first_ms,
                last: it.last_ms,
                peak: it.peak_memory,
            };
            self.all.get(&(it.gpu.clone(), it.process)) == Some(&claimed)
        };
        let keys: BTreeSet<_> = claimed.iter().map(|it| (&it.gpu, it.process)).collect();
        keys.len() == claimed.len()
            && claimed.len() == self.all.len()
            && claimed.iter().all(is_same)
    }
}

/// What is wrong with evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    #[error("it is the evidence `{id}`, and its file is called otherwise")]
    Name { id: String },
    #[error("it has no SHA-256 of itself: an earlier gpupin wrote it, or it was changed")]
    NoOwnHash,
    #[error("it was changed: its SHA-256 is {found}, not {expected}")]
    OwnHash { expected: String, found: String },
    #[error("it says {claimed}, and its reasons do not")]
    Reasons { claimed: Verdict },
    #[error("which GPUs are {what} it says twice, and not the same")]
    Setting { what: &'static str },
    #[error("it claims what only samples can show, and has none")]
    NoSamples,
    #[error("its samples `{file}` are not said to lie beside it")]
    SamplesElsewhere { file: String },
    #[error("its samples `{file}` are called as if they were another run's")]
    SamplesOfAnother { file: String },
    #[error("its samples `{file}` are missing")]
    SamplesMissing { file: String },
    #[error("its samples `{file}` cannot be read: {why}")]
    SamplesUnreadable { file: String, why: String },
    #[error("line {number} of its samples is no record: {why}")]
    Line { number: u64, why: String },
    #[error("its samples were changed: their SHA-256 is {found}, not {expected}")]
    Hash { expected: String, found: String },
    #[error("its samples are not of this kind, source and command")]
    Origin,
    #[error("its samples are {records} records with {samples} samples, and it says otherwise")]
    Count { records: u64, samples: u64 },
    #[error("it says {claimed}, and its samples say {found} or give other reasons")]
    Verdict { claimed: Verdict, found: Verdict },
    #[error("its samples show other processes than it names, or show them otherwise")]
    Processes,
}
