//! `gpupin.lock`: the GPUs of the machines a project runs on, as they were when recorded.
//!
//! With it a scan in CI, where there is no GPU, can tell what index 1 means on the workstation. The
//! file is written by `gpupin lock` and kept in version control, so its order is stable: machines by
//! host, GPUs by index, and a machine that did not change leaves no difference.

use std::{collections::BTreeSet, fmt::Write as _};

use crate::{
    document::{
        Node, Raw, Shape, Table, Value,
        check::{self, Found},
    },
    identity::{NvmlIndex, PciAddress},
    inventory::{Gpu, Inventory, Mig},
    lock_file::keys::DOCUMENT,
    problem::{Problem, ProblemKind, lines},
};

mod keys;

/// The version this program reads and writes.
pub const LOCK_FILE_VERSION: u32 = 1;

/// Recorded inventories, one per host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockFile {
    /// Sorted by host, the GPUs by index.
    machines: Vec<Inventory>,
    /// The hosts of those that a scene described.
    simulated: BTreeSet<String>,
}

/// Why a lock file could not be read. Without its path, which only the caller knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockFileError {
    #[error(
        "version {version} of the lock file is unknown, this program reads version {LOCK_FILE_VERSION}"
    )]
    Version { version: u32 },
    /// Everything wrong in the file, in the order of the text; at least one problem.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

impl LockFile {
    /// Reads the text of a lock file.
    pub fn parse(text: &str) -> Result<Self, LockFileError> {
        let document = check::parse(text).map_err(LockFileError::Invalid)?;
        if let Some(version) = version(&document).filter(|it| *it != LOCK_FILE_VERSION) {
            return Err(LockFileError::Version { version });
        }
        let mut found = vec![];
        if let Some(node) = check::table(&document, &[DOCUMENT], "", &mut found)
            && found.is_empty()
        {
            check_unique(&node, &mut found);
            if found.is_empty() {
                return Ok(build(node));
            }
        }
        found.sort_by_key(|(span, _)| span.start);
        let problem = |(span, kind)| Problem::new(text, span, kind);
        Err(LockFileError::Invalid(found.into_iter().map(problem).collect()))
    }

    /// The recorded machines, sorted by host.
    pub fn machines(&self) -> &[Inventory] {
        &self.machines
    }

    /// The machine called `host`.
    pub fn machine(&self, host: &str) -> Option<&Inventory> {
        self.machines.iter().find(|it| it.host == host)
    }

    /// Whether a scene described the machine called `host`, and no driver.
    pub fn is_simulated(&self, host: &str) -> bool {
        self.simulated.contains(host)
    }

    /// The hosts of the machines that scenes described, sorted.
    pub fn simulated(&self) -> impl Iterator<Item = &str> {
        self.simulated.iter().map(String::as_str)
    }

    /// As [`Self::record`], for a machine that a scene describes.
    pub fn record_simulated(&mut self, machine: Inventory) {
        let host = machine.host.clone();
        self.record(machine);
        self.simulated.insert(host);
    }

    /// Adds a machine, or replaces what was recorded for its host.
    ///
    /// A GPU that moved here from another recorded machine is forgotten there.
    pub fn record(&mut self, mut machine: Inventory) {
        self.machines.retain(|it| it.host != machine.host);
        self.machines.retain_mut(|other| {
            let before = other.gpus.len();
            other.gpus.retain(|gpu| machine.gpus.iter().all(|it| it.uuid != gpu.uuid));
            // All of them here: the machine has another name now.
            before == 0 || !other.gpus.is_empty()
        });
        // The new one is measured, until somebody says otherwise.
        self.simulated.retain(|host| self.machines.iter().any(|it| it.host == *host));
        machine.gpus.sort_by_key(|gpu| gpu.index);
        self.machines.push(machine);
        self.machines.sort_by(|a, b| a.host.cmp(&b.host));
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        let mut text = format!("version = {LOCK_FILE_VERSION}\n");
        for machine in &self.machines {
            text.push_str("\n[[machine]]\n");
            line(&mut text, "host", &quoted(&machine.host));
            if self.is_simulated(&machine.host) {
                line(&mut text, "kind", &quoted(&keys::SIMULATED));
            }
            if let Some(driver) = &machine.driver {
                line(&mut text, "driver", &quoted(driver));
            }
            for gpu in &machine.gpus {
                text.push_str("\n[[machine.gpu]]\n");
                line(&mut text, "index", &gpu.index);
                line(&mut text, "uuid", &quoted(&gpu.uuid));
                line(&mut text, "name", &quoted(&gpu.name));
                line(&mut text, "vram", &quoted(&gpu.vram));
                line(&mut text, "compute-capability", &quoted(&gpu.compute_capability));
                line(&mut text, "pci", &quoted(&gpu.pci));
                write_mig(&mut text, &gpu.mig);
            }
        }
        text
    }
}

fn write_mig(text: &mut String, mig: &Mig) {
    let Mig::Enabled(instances) = mig else { return };
    if instances.is_empty() {
        line(text, "mig", &"[]");
    }
    for gpu in instances {
        let Mig::Instance { gpu_instance, compute_instance } = gpu.mig else { continue };
        text.push_str("\n[[machine.gpu.mig]]\n");
        line(text, "gpu-instance", &gpu_instance);
        line(text, "compute-instance", &compute_instance);
        line(text, "uuid", &quoted(&gpu.uuid));
        line(text, "name", &quoted(&gpu.name));
        line(text, "vram", &quoted(&gpu.vram));
    }
}

fn line(text: &mut String, key: &str, value: &dyn std::fmt::Display) {
    writeln!(text, "{key} = {value}").expect("a `String` takes everything");
}

fn quoted(value: &impl ToString) -> String {
    toml::Value::String(value.to_string()).to_string()
}

/// The version, read before anything else: another version may have other keys.
fn version(document: &Raw<'_>) -> Option<u32> {
    let toml::de::DeValue::Table(entries) = document.get_ref() else { return None };
    let raw = entries.iter().find(|(key, _)| key.get_ref() == "version")?.1;
    check::value(raw, &Shape::Number(0), "version", &mut vec![]).map(|node| node.number())
}

fn build(node: Node) -> LockFile {
    let mut node = node;
    node.fill(&[DOCUMENT]);
    let mut lock_file = LockFile::default();
    for machine in node.table()["machine"].list() {
        let machine = machine.table();
        let inventory = Inventory {
            host: machine["host"].text().to_owned(),
            driver: machine.get("driver").map(Node::parsed),
            gpus: machine["gpu"].list().iter().map(|node| gpu(node.table())).collect(),
        };
        if machine["kind"].text() == keys::SIMULATED {
            lock_file.record_simulated(inventory);
        } else {
            lock_file.record(inventory);
        }
    }
    lock_file
}

fn gpu(table: &Table) -> Gpu {
    let mut gpu = Gpu {
        uuid: table["uuid"].parsed(),
        name: table["name"].text().to_owned(),
        vram: table["vram"].parsed(),
        compute_capability: table["compute-capability"].parsed(),
        pci: table["pci"].parsed(),
        index: NvmlIndex(table["index"].number()),
        mig: Mig::Disabled,
    };
    let instance = |node: &Node| {
        let table = node.table();
        Gpu {
            uuid: table["uuid"].parsed(),
            name: table["name"].text().to_owned(),
            vram: table["vram"].parsed(),
            mig: Mig::Instance {
                gpu_instance: table["gpu-instance"].number(),
                compute_instance: table["compute-instance"].number(),
            },
            ..gpu.clone()
        }
    };
    if let Some(instances) = table.get("mig") {
        gpu.mig = Mig::Enabled(instances.list().iter().map(instance).collect());
    }
    gpu
}

fn check_unique(document: &Node, found: &mut Vec<Found>) {
    let (mut hosts, mut uuids) = (Seen::default(), Seen::default());
    for machine in items(document.table(), "machine") {
        let machine = machine.table();
        hosts.add(&machine["host"], "machine.host", found);
        let (mut indices, mut addresses) = (Seen::default(), Seen::default());
        for gpu in items(machine, "gpu") {
            let gpu = gpu.table();
            uuids.add(&gpu["uuid"], "machine.gpu.uuid", found);
            indices.add(&gpu["index"], "machine.gpu.index", found);
            addresses.add(&gpu["pci"], "machine.gpu.pci", found);
            for instance in items(gpu, "mig") {
                uuids.add(&instance.table()["uuid"], "machine.gpu.mig.uuid", found);
            }
        }
    }
}

/// The values a key has had so far.
#[derive(Default)]
struct Seen(BTreeSet<String>);

impl Seen {
    fn add(&mut self, node: &Node, key: &str, found: &mut Vec<Found>) {
        let value = match &node.value {
            Value::Number(number) => number.to_string(),
            _ => node.text().to_owned(),
        };
        // One address has several spellings.
        let same = value.parse::<PciAddress>().map_or_else(|_| value.clone(), |it| it.to_string());
        if !self.0.insert(same) {
            let (key, reason) = (key.to_owned(), "it is taken already".to_owned());
            found.push((node.span.clone(), ProblemKind::InvalidValue { key, value, reason }));
        }
    }
}

fn items<'a>(table: &'a Table, key: &str) -> &'a [Node] {
    table.get(key).map_or(&[], Node::list)
}

#[cfg(test)]
mod tests;
