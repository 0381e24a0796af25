//! What is known about one run, in a file that can be checked.
//!
//! Evidence is one JSON object with a version. It is written *before* the program starts, as `unproved` with the reason that the
//! runner ended, and replaced as a whole when the tree is empty: a crash never leaves more than is known. Beside it lie the raw samples, one
//! [`Record`](crate::observe::record::Record) a line, of which it holds the SHA-256. It also holds one of itself: of its JSON without that
//! field, keys sorted, without white space. [`check()`] hashes both, judges the samples again, and compares what is said twice.
//!
//! Hashes show what was damaged or edited. They do not show who wrote it: nothing is signed, and whoever hashes again can make up anything.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
};

use gpupin_device::Kind;
use gpupin_policy::GpuUuid;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    observe::{Judgement, Observed, Reason, Setting, Verdict, hex, record::Origin},
    plain::{self, Links},
    process::ProcessId,
    supervise::Ended,
};

mod check;

pub use self::check::{Problem, check, contradictions};

/// The version of [`Evidence`].
pub const VERSION: u32 = 1;

/// What is known about one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    pub version: u32,
    pub id: String,
    /// What wrote it: `gpupin 0.1.0`.
    pub tool: String,
    pub verdict: Verdict,
    /// Why it is not proved.
    pub reasons: Vec<Reason>,
    /// How the observations were obtained.
    pub kind: Kind,
    /// Who was asked, in words for people.
    pub source: String,
    pub host: String,
    pub driver: Option<String>,
    pub policy: PolicyRef,
    pub command: Vec<String>,
    pub pin: PinRecord,
    /// Every GPU of the machine.
    pub gpus: Vec<GpuRecord>,
    pub lease: LeaseRecord,
    pub isolation: IsolationRecord,
    /// Who was seen on a GPU: the program's tree on any, others on the pinned ones.
    pub processes: Vec<ProcessRecord>,
    /// RFC 3339, in UTC.
    pub started: String,
    /// `null` until the tree is empty.
    pub ended: Option<String>,
    pub exit: Option<Ended>,
    /// What the samples are judged by.
    pub setting: Setting,
    /// `null` if nothing was observed.
    pub samples: Option<SamplesRecord>,
}

/// Evidence as it lies in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stored {
    #[serde(flatten)]
    pub evidence: Evidence,
    /// What it says is the SHA-256 of itself, in hexadecimal; `None` if an earlier gpupin wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What it is in truth.
    #[serde(skip)]
    found: String,
}

/// The field of the evidence's own SHA-256, which does not count for it.
const OWN: &str = "sha256";

/// The SHA-256 of evidence: keys sorted, no white space.
fn own_sha256(without: &serde_json::Value) -> String {
    hex(&Sha256::digest(without.to_string()))
}

/// Which declaration counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRef {
    /// As seen from the root of the project.
    pub path: Option<String>,
    pub sha256: Option<String>,
    pub profile: Option<String>,
    pub role: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinRecord {
    /// How the mask names the GPU.
    #[serde(rename = "as")]
    pub as_: String,
    /// The mask that was set outside and stayed as it was, so that nothing was pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// Every variable that gpupin has set.
    pub variables: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuRecord {
    pub uuid: GpuUuid,
    pub name: String,
    pub pinned: bool,
    pub forbidden: bool,
    /// Whether the kernel kept it out of the program's reach.
    pub isolated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LeaseRecord {
    /// Not asked for.
    None,
    Held {
        waited_ms: u64,
    },
    /// The lease of a run around this one.
    Outer,
}

/// What was done to keep the other GPUs out of reach, and what the kernel did not allow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IsolationRecord {
    pub requested: bool,
    pub achieved: Vec<String>,
    pub refused: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessRecord {
    pub process: ProcessId,
    pub command: String,
    pub gpu: GpuUuid,
    /// Whether it belongs to the program.
    pub tree: bool,
    /// Milliseconds since the observation began.
    pub first_ms: u64,
    pub last_ms: u64,
    /// Bytes.
    pub peak_memory: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplesRecord {
    /// Beside the evidence.
    pub file: String,
    /// Lines, and how many of them are samples.
    pub records: u64,
    pub samples: u64,
    pub sha256: String,
}

/// Why evidence could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    #[error("failed to write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("failed to read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` is no evidence: {why}", path.display())]
    Invalid { path: PathBuf, why: String },
    #[error("`{}` has version {version}, this gpupin knows {VERSION}", path.display())]
    Version { path: PathBuf, version: u64 },
}

impl Evidence {
    /// Takes over what was observed.
    pub fn observed(&mut self, observed: &Observed) {
        let Judgement { verdict, reasons } = observed.judgement.clone();
        (self.verdict, self.reasons) = (verdict, reasons);
        let ms = |it: std::time::Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
        let record = |it: &crate::observe::Use| ProcessRecord {
            process: it.process,
            command: it.command.clone(),
            gpu: it.gpu.clone(),
            tree: it.is_tree,
            first_ms: ms(it.first),
            last_ms: ms(it.last),
            peak_memory: it.peak_memory.map(gpupin_policy::Bytes::get),
        };
        self.processes = observed.uses.iter().map(record).collect();
        self.samples = Some(SamplesRecord {
            file: samples_name(&self.id),
            records: observed.records,
            samples: observed.samples,
            sha256: observed.sha256.clone(),
        });
    }

    /// What its samples begin with.
    pub fn origin(&self) -> Origin {
        let Self { kind, source, command, .. } = self;
        Origin { kind: *kind, source: source.clone(), command: command.clone() }
    }

    pub fn judgement(&self) -> Judgement {
        Judgement { verdict: self.verdict, reasons: self.reasons.clone() }
    }
}

fn samples_name(id: &str) -> String {
    format!("{id}{SAMPLES}")
}

const SAMPLES: &str = ".samples.jsonl";

/// A place for the evidence of one run.
#[derive(Debug)]
pub struct Slot {
    directory: PathBuf,
    pub id: String,
    samples: File,
}

impl Slot {
    /// Takes the first free name that begins with `stem`. The directory is made if need be, and kept out of git.
    pub fn take(directory: &Path, stem: &str) -> Result<Self, EvidenceError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| EvidenceError::Write { path, source }
        };
        fs::create_dir_all(directory).map_err(failed(directory))?;
        if let Some(above) = directory.parent() {
            let path = above.join(".gitignore");
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => file.write_all(b"*\n").map_err(failed(&path))?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(&path)(error)),
            }
        }
        let mut number = 1;
        loop {
            let id = if number == 1 { stem.to_owned() } else { format!("{stem}-{number}") };
            let path = directory.join(samples_name(&id));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(samples) => return Ok(Self { directory: directory.to_owned(), id, samples }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(failed(&path)(error)),
            }
        }
    }

    /// Where the raw samples are written to.
    pub fn sink(&self) -> io::Result<BufWriter<File>> {
        Ok(BufWriter::new(self.samples.try_clone()?))
    }

    pub fn path(&self) -> PathBuf {
        self.directory.join(format!("{}.json", self.id))
    }

    /// Replaces what is written so far; after a crash there is the old text or the new.
    pub fn write(&self, evidence: &Evidence) -> Result<(), EvidenceError> {
        let stored = || {
            let found = own_sha256(&serde_json::to_value(evidence)?);
            Ok(Stored { evidence: evidence.clone(), sha256: Some(found.clone()), found })
        };
        let path = self.path();
        let temporary = self.directory.join(format!(".{}.new", self.id));
        let write = || {
            // What the evidence has a hash of is there before it says so.
            self.samples.sync_data()?;
            let mut file = File::create(&temporary)?;
            let mut text =
                stored().and_then(|it| serde_json::to_vec_pretty(&it)).map_err(io::Error::other)?;
            text.push(b'\n');
            file.write_all(&text)?;
            file.sync_data()?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|source| {
            // What is left of it is nobody's evidence.
            drop(fs::remove_file(&temporary));
            EvidenceError::Write { path: path.clone(), source }
        })
    }

    /// Whether the samples lie where they belong and are these, by their SHA-256 in hexadecimal.
    pub fn has_samples(&self, sha256: &str) -> io::Result<bool> {
        let path = self.directory.join(samples_name(&self.id));
        let mut reader = BufReader::new(plain::open(&path, Links::Refuse)?);
        let mut hash = Sha256::new();
        loop {
            let bytes = reader.fill_buf()?;
            if bytes.is_empty() {
                return Ok(hex(&hash.finalize()) == sha256);
            }
            hash.update(bytes);
            let length = bytes.len();
            reader.consume(length);
        }
    }

    /// Removes the file for samples of a run that has none.
    pub fn without_samples(&self) {
        drop(fs::remove_file(self.directory.join(samples_name(&self.id))));
    }
}

/// Reads evidence. Whether it is true is for [`check()`].
pub fn read(path: &Path) -> Result<Stored, EvidenceError> {
    let failed = |source| EvidenceError::Read { path: path.to_owned(), source };
    let mut text = Vec::new();
    plain::open(path, Links::Follow)
        .and_then(|mut it| it.read_to_end(&mut text))
        .map_err(failed)?;
    let invalid = |why: String| EvidenceError::Invalid { path: path.to_owned(), why };
    let mut value: serde_json::Value =
        serde_json::from_slice(&text).map_err(|it| invalid(it.to_string()))?;
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version != u64::from(VERSION) => {
            return Err(EvidenceError::Version { path: path.to_owned(), version });
        }
        _ => {}
    }
    let sha256 = match value.as_object_mut().and_then(|it| it.remove(OWN)) {
        None => None,
        Some(serde_json::Value::String(sha256)) => Some(sha256),
        Some(other) => return Err(invalid(format!("`{OWN}` cannot be `{other}`"))),
    };
    let found = own_sha256(&value);
    let evidence = serde_json::from_value(value).map_err(|it| invalid(it.to_string()))?;
    Ok(Stored { evidence, sha256, found })
}

/// The evidence files of a directory, the oldest first.
pub fn list(directory: &Path) -> Result<Vec<PathBuf>, EvidenceError> {
    let mut paths = files(directory)?;
    paths.retain(|it| it.extension().is_some_and(|it| it == "json"));
    paths.sort_by_cached_key(|it| order(&it.file_stem().unwrap_or_default().to_string_lossy()));
    Ok(paths)
}

/// The names of evidence in a directory of which only samples are left.
pub fn vanished(directory: &Path) -> Result<Vec<String>, EvidenceError> {
    let mut ids = Vec::new();
    for path in files(directory)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(id) = name.strip_suffix(SAMPLES) else { continue };
        // A run that begins has a file for samples first, and writes into it only once there is evidence.
        let is_empty = path.symlink_metadata().is_ok_and(|it| it.is_file() && it.len() == 0);
        if !is_empty && path.with_file_name(format!("{id}.json")).symlink_metadata().is_err() {
            ids.push(id.to_owned());
        }
    }
    ids.sort_by_cached_key(|it| order(it));
    Ok(ids)
}

/// What names are sorted by: the second of one second has a `-2` behind it, and the tenth a `-10`.
fn order(id: &str) -> Vec<(u64, String)> {
    let part = |it: &str| it.parse().map_or((u64::MAX, it.to_owned()), |it| (it, String::new()));
    id.split('-').map(part).collect()
}

/// What lies in a directory and is not hidden; nothing if there is none.
fn files(directory: &Path) -> Result<Vec<PathBuf>, EvidenceError> {
    let failed = |source| EvidenceError::Read { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let is_hidden = path.file_name().is_some_and(|it| it.as_encoded_bytes().starts_with(b"."));
        if !is_hidden {
            paths.push(path);
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests;
