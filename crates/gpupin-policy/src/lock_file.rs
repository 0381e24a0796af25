//! `gpupin.lock`: the GPUs of the machines a project runs on, as they were when recorded.
//!
//! With it a scan in CI, where there is no GPU, can tell what index 1 means on the workstation. The
//! file is written by `gpupin lock` and kept in version control, so its order is stable: machines by
//! host, GPUs by index, and a machine that did not change leaves no difference.

use std::{collections::BTreeSet, fmt::Write as _};

use crate::{
    document::{
        Key, Node, Presence, Raw, Shape, Table, Text,
        check::{self, Found},
        parses,
    },
    identity::{ComputeCapability, DriverVersion, GpuUuid, NvmlIndex, PciAddress},
    inventory::{Gpu, Inventory, Mig},
    problem::{Problem, ProblemKind, lines},
    value::{Bytes, InvalidValue},
};

/// The version this program reads and writes.
pub const LOCK_FILE_VERSION: u32 = 1;

/// Recorded inventories, one per host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockFile {
    /// Sorted by host, the GPUs by index.
    machines: Vec<Inventory>,
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

    /// Adds a machine, or replaces what was recorded for its host.
    ///
    /// A GPU that moved here from another recorded machine is forgotten there.
    pub fn record(&mut self, mut machine: Inventory) {
        let uuids: BTreeSet<_> = machine.gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
        self.machines.retain(|it| it.host != machine.host);
        for other in &mut self.machines {
            other.gpus.retain(|gpu| !uuids.contains(&gpu.uuid));
        }
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
        lock_file.record(Inventory {
            host: machine["host"].text().to_owned(),
            driver: machine.get("driver").map(Node::parsed),
            gpus: machine["gpu"].list().iter().map(|node| gpu(node.table())).collect(),
        });
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
    let (mut hosts, mut uuids) = (BTreeSet::new(), BTreeSet::new());
    let mut unique = |seen: &mut BTreeSet<String>, node: &Node, key: &str| {
        let value = match &node.value {
            crate::document::Value::Number(number) => number.to_string(),
            _ => node.text().to_owned(),
        };
        if !seen.insert(value.clone()) {
            let key = key.to_owned();
            let reason = "it is taken already".to_owned();
            found.push((node.span.clone(), ProblemKind::InvalidValue { key, value, reason }));
        }
    };
    for machine in document.table().get("machine").map_or(&[][..], Node::list) {
        let machine = machine.table();
        unique(&mut hosts, &machine["host"], "machine.host");
        let (mut indices, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for gpu in machine.get("gpu").map_or(&[][..], Node::list) {
            let gpu = gpu.table();
            unique(&mut uuids, &gpu["uuid"], "machine.gpu.uuid");
            unique(&mut indices, &gpu["index"], "machine.gpu.index");
            unique(&mut addresses, &gpu["pci"], "machine.gpu.pci");
            for instance in gpu.get("mig").map_or(&[][..], Node::list) {
                unique(&mut uuids, &instance.table()["uuid"], "machine.gpu.mig.uuid");
            }
        }
    }
}

const DOCUMENT: &[Key] = &[
    Key {
        name: "version",
        shape: Shape::Number(1),
        presence: Presence::Required,
        example: "1",
        doc: "The version of this format",
    },
    Key {
        name: "machine",
        shape: Shape::List(&Shape::Table(&[MACHINE])),
        presence: Presence::Default("[]"),
        example: "[]",
        doc: "The machines the project runs on",
    },
];

const MACHINE: &[Key] = &[
    Key {
        name: "host",
        shape: Shape::Text(&HOST),
        presence: Presence::Required,
        example: r#""workstation""#,
        doc: "The host name",
    },
    Key {
        name: "driver",
        shape: Shape::Text(&Text {
            what: "a driver version such as \"580.65.06\"",
            pattern: None,
            check: parses::<DriverVersion>,
        }),
        presence: Presence::Optional,
        example: r#""580.65.06""#,
        doc: "The version of the NVIDIA driver",
    },
    Key {
        name: "gpu",
        shape: Shape::List(&Shape::Table(&[GPU, IDENTITY])),
        presence: Presence::Default("[]"),
        example: "[]",
        doc: "The physical GPUs",
    },
];

const GPU: &[Key] = &[
    Key {
        name: "index",
        shape: Shape::Number(0),
        presence: Presence::Required,
        example: "0",
        doc: "The position in NVML's order when recorded; the UUID is what counts",
    },
    Key {
        name: "compute-capability",
        shape: Shape::Text(&Text {
            what: "a compute capability in quotes, such as \"8.6\"",
            pattern: None,
            check: parses::<ComputeCapability>,
        }),
        presence: Presence::Required,
        example: r#""8.6""#,
        doc: "The compute capability",
    },
    Key {
        name: "pci",
        shape: Shape::Text(&Text {
            what: "a PCI address such as \"0000:02:00.0\"",
            pattern: None,
            check: parses::<PciAddress>,
        }),
        presence: Presence::Required,
        example: r#""0000:02:00.0""#,
        doc: "The PCI address",
    },
    Key {
        name: "mig",
        shape: Shape::List(&Shape::Table(&[INSTANCE, IDENTITY])),
        presence: Presence::Optional,
        example: "[]",
        doc: "The MIG instances; absent when MIG is disabled",
    },
];

/// What a physical GPU and a MIG instance both have.
const IDENTITY: &[Key] = &[
    Key {
        name: "uuid",
        shape: Shape::Text(&Text { what: "a UUID", pattern: None, check: parses::<GpuUuid> }),
        presence: Presence::Required,
        example: r#""GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01""#,
        doc: "The UUID",
    },
    Key {
        name: "name",
        shape: Shape::Text(&Text { what: "a name", pattern: None, check: |_| Ok(()) }),
        presence: Presence::Required,
        example: r#""NVIDIA GeForce RTX 5060 Ti""#,
        doc: "The name as NVML gives it",
    },
    Key {
        name: "vram",
        shape: Shape::Text(&Text {
            what: "a size with its unit, such as \"16 GiB\"",
            pattern: None,
            check: parses::<Bytes>,
        }),
        presence: Presence::Required,
        example: r#""16 GiB""#,
        doc: "The VRAM",
    },
];

const INSTANCE: &[Key] = &[
    Key {
        name: "gpu-instance",
        shape: Shape::Number(0),
        presence: Presence::Required,
        example: "1",
        doc: "The GPU instance",
    },
    Key {
        name: "compute-instance",
        shape: Shape::Number(0),
        presence: Presence::Required,
        example: "0",
        doc: "The compute instance inside it",
    },
];

const HOST: Text = Text {
    what: "a host name",
    pattern: None,
    check: |text| {
        if text.trim().is_empty() { Err(InvalidValue::new("expected a host name")) } else { Ok(()) }
    },
};
