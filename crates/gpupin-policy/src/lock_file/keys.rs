use crate::{
    document::{Choice, Key, Presence, Shape, Text, parses},
    identity::{ComputeCapability, DriverVersion, GpuUuid, PciAddress},
    value::{Bytes, InvalidValue},
};

/// The `kind` of a machine that a scene described.
pub(super) const SIMULATED: &str = "simulated";

/// Every key of the lock file.
pub(super) const DOCUMENT: &[Key] = &[
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
        name: "kind",
        shape: Shape::Choice(&[
            Choice { name: "measured", doc: "The driver of the machine said it" },
            Choice { name: SIMULATED, doc: "A scene said it, and no such machine need exist" },
        ]),
        presence: Presence::Default(r#""measured""#),
        example: r#""simulated""#,
        doc: "How what is recorded was obtained",
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
