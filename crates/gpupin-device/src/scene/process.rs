//! Who uses the GPUs of a scene: one file per process, which only that process writes.

use std::{collections::HashMap, fs, io, path::Path, time::SystemTime};

use gpupin_policy::GpuUuid;
use serde::{Deserialize, Serialize};

use super::{
    alive::{self, Watched},
    format::{UseKind, parsed},
    stamp::Stamp,
};

/// A process and how it uses GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub pid: u32,
    /// Whether it still runs; ended ones are what accounting tells of.
    pub is_alive: bool,
    pub uses: Vec<Use>,
}

/// What a process does on one GPU.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Use {
    /// A GPU or a MIG instance.
    #[serde(deserialize_with = "parsed")]
    pub gpu: GpuUuid,
    pub kind: UseKind,
    /// Bytes.
    pub memory: u64,
    /// The most it ever had, in bytes.
    pub peak: u64,
    /// Percent.
    pub utilization: u32,
    /// Microseconds since 1970.
    pub since: u64,
    /// When it left the GPU, if it did before it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Whether accounting was on when it came.
    pub accounted: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ProcessFile {
    version: u32,
    #[serde(default, rename = "use")]
    uses: Vec<Use>,
}

impl Use {
    pub fn new(gpu: GpuUuid, kind: UseKind, accounted: bool) -> Self {
        let since = now();
        Self { gpu, kind, memory: 0, peak: 0, utilization: 0, since, until: None, accounted }
    }

    /// Sets the memory that it has now.
    pub fn set_memory(&mut self, bytes: u64) {
        self.memory = bytes;
        self.peak = self.peak.max(bytes);
    }
}

/// Microseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Writes what this process does, replacing what it wrote before.
pub fn write_uses(directory: &Path, uses: &[Use]) -> io::Result<()> {
    let pid = std::process::id();
    let started = alive::started(pid).ok_or(io::ErrorKind::NotFound)?;
    let file = ProcessFile { version: 1, uses: uses.to_vec() };
    let text = toml::to_string(&file).map_err(io::Error::other)?;
    let path = directory.join(format!("{pid}-{started}"));
    // Hidden, so that no reader takes it for a process.
    let temporary = directory.join(format!(".{pid}-{started}"));
    fs::write(&temporary, text)?;
    fs::rename(temporary, path)
}

/// What this process did before `exec` made it another program: the driver's accounting is by number, and does not forget that.
pub fn earlier_uses(directory: &Path) -> Vec<Use> {
    let pid = std::process::id();
    let Some(started) = alive::started(pid) else { return Vec::new() };
    let text = fs::read_to_string(directory.join(format!("{pid}-{started}")));
    let file = text.ok().and_then(|it| toml::from_str::<ProcessFile>(&it).ok());
    let mut uses = file.map(|it| it.uses).unwrap_or_default();
    for used in &mut uses {
        used.memory = 0;
        used.until.get_or_insert_with(now);
    }
    uses
}

/// The processes of a state directory, read again only when something changed.
#[derive(Debug, Default)]
pub(super) struct Processes {
    stamp: Option<Stamp>,
    entries: HashMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    stamp: Stamp,
    pid: u32,
    watched: Watched,
    uses: Vec<Use>,
}

impl Processes {
    /// Ended processes too.
    pub(super) fn read(&mut self, directory: &Path) -> io::Result<Vec<Running>> {
        let stamp = match Stamp::of(directory) {
            Ok(stamp) => stamp,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        if !self.stamp.as_ref().is_some_and(|it| it.still_holds(&stamp)) {
            self.read_directory(directory)?;
            self.stamp = Some(stamp);
        }
        alive::update(self.entries.values_mut().map(|it| &mut it.watched));
        let mut running: Vec<_> = self.entries.values().map(Entry::running).collect();
        running.sort_by_key(|it| (it.uses.iter().map(|it| it.since).min(), it.pid));
        Ok(running)
    }

    fn read_directory(&mut self, directory: &Path) -> io::Result<()> {
        let mut found = HashMap::new();
        for file in fs::read_dir(directory)? {
            let path = file?.path();
            let Some((name, pid, started)) = process_of(&path) else { continue };
            let stamp = match Stamp::of(&path) {
                Ok(stamp) => stamp,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let known = self.entries.remove(&name);
            let entry = match known {
                Some(entry) if entry.stamp.still_holds(&stamp) => entry,
                known => {
                    let text = fs::read_to_string(&path)?;
                    let file: ProcessFile = toml::from_str(&text).map_err(io::Error::other)?;
                    let watched = known.map_or_else(|| Watched::new(pid, started), |it| it.watched);
                    Entry { stamp, pid, watched, uses: file.uses }
                }
            };
            found.insert(name, entry);
        }
        self.entries = found;
        Ok(())
    }
}

impl Entry {
    fn running(&self) -> Running {
        Running { pid: self.pid, is_alive: self.watched.is_alive(), uses: self.uses.clone() }
    }
}

/// The file's name, and the process it speaks of.
fn process_of(path: &Path) -> Option<(String, u32, u64)> {
    let name = path.file_name()?.to_str()?;
    let (pid, started) = name.split_once('-')?;
    Some((name.to_owned(), pid.parse().ok()?, started.parse().ok()?))
}
