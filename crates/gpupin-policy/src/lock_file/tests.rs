use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    identity::{ComputeCapability, GpuUuid, PciAddress},
    value::Bytes,
};

const WIRE: &str = include_str!("../../../../wire/gpupin.lock");

/// Compares what is wrong in `text` with `expected`, one problem a line.
#[track_caller]
fn check_problems(text: &str, expected: &str) {
    let error = LockFile::parse(text).unwrap_err();
    assert_eq!(error.to_string(), expected.trim(), "in\n{text}");
}

#[test]
fn golden_file_is_read_and_written_unchanged() {
    let lock_file = LockFile::parse(WIRE).unwrap();
    assert_eq!(lock_file.to_text(), WIRE);
    let machine = lock_file.machine("workstation").unwrap();
    assert_eq!(machine.driver.as_ref().unwrap().generation(), 580);
    let names: Vec<_> = machine.gpus.iter().map(Gpu::short_name).collect();
    assert_eq!(names, ["RTX 5060 Ti", "RTX 3090"]);
    assert_eq!(machine.gpus[1].vram.get(), 24 << 30);
    assert_eq!(lock_file.machine("laptop"), None);
}

#[test]
fn empty_lock_file_has_no_machines() {
    assert_eq!(LockFile::parse("version = 1\n"), Ok(LockFile::default()));
    assert_eq!(LockFile::default().to_text(), "version = 1\n");
}

#[test]
fn other_versions_are_refused_whatever_else_they_hold() {
    for text in ["version = 2\n[[host]]\nname = 1\n", "version = 0\n"] {
        let error = LockFile::parse(text).unwrap_err();
        assert!(matches!(error, LockFileError::Version { .. }), "{error}");
    }
    assert_eq!(
        LockFile::parse("version = 2").unwrap_err().to_string(),
        "version 2 of the lock file is unknown, this program reads version 1"
    );
    check_problems("", "1:1: missing key `version`");
    check_problems(
        "version = \"1\"",
        "1:11: `version` is a text, expected a whole number of at least 1",
    );
}

#[test]
fn problems_have_positions() {
    check_problems(
        r#"version = 1
[[machine]]
hots = "workstation"
[[machine.gpu]]
index = -1
uuid = "GPU-5b1c"
name = "NVIDIA GeForce RTX 3090"
vram = "24"
pci = "2"
"#,
        "
2:1: missing key `machine[0].host`
3:1: unknown key `machine[0].hots`, did you mean `host`?
4:1: missing key `machine[0].gpu[0].compute-capability`
5:9: `machine[0].gpu[0].index` cannot be `-1`: expected a whole number of at least 0 and below 2³²
6:8: `machine[0].gpu[0].uuid` cannot be `GPU-5b1c`: expected a UUID such as `GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01`
8:8: `machine[0].gpu[0].vram` cannot be `24`: a size needs a unit, such as `GiB` or `GB`
9:7: `machine[0].gpu[0].pci` cannot be `2`: expected a PCI address such as `0000:02:00.0`
",
    );
}

#[test]
fn what_must_be_unique_is_checked() {
    let (head, machine) = WIRE.split_once("[[machine]]\n").unwrap();
    let other = machine.replace("workstation", "laptop");
    let twice = |other: &str| format!("{head}[[machine]]\n{machine}[[machine]]\n{other}");
    check_problems(
        &twice(&other),
        "
28:8: `machine.gpu.uuid` cannot be `GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01`: it is taken already
36:8: `machine.gpu.uuid` cannot be `GPU-8932f937-d72c-4106-c12f-20bd9faed9f6`: it is taken already
",
    );
    let moved = machine.replace("GPU-5b", "GPU-5c").replace("GPU-89", "GPU-8a");
    check_problems(
        &twice(&moved),
        "23:8: `machine.host` cannot be `workstation`: it is taken already",
    );
    check_problems(
        &WIRE.replace("0000:02", "00000000:01").replace("index = 1", "index = 0"),
        "
16:9: `machine.gpu.index` cannot be `0`: it is taken already
21:7: `machine.gpu.pci` cannot be `00000000:01:00.0`: it is taken already
",
    );
}

#[test]
fn recording_a_machine_again_replaces_it() {
    let mut lock_file = LockFile::parse(WIRE).unwrap();
    let workstation = lock_file.machine("workstation").unwrap().clone();

    let mut laptop = Inventory { host: "laptop".into(), driver: None, gpus: vec![] };
    lock_file.record(laptop.clone());
    let hosts = |it: &LockFile| it.machines().iter().map(|it| it.host.clone()).collect::<Vec<_>>();
    assert_eq!(hosts(&lock_file), ["laptop", "workstation"]);

    let mut refreshed = workstation.clone();
    refreshed.gpus.reverse();
    lock_file.record(refreshed);
    assert_eq!(lock_file.machine("workstation"), Some(&workstation), "GPUs are sorted by index");

    // One GPU moves into the laptop, then the other.
    laptop.gpus.push(workstation.gpus[1].clone());
    lock_file.record(laptop.clone());
    assert_eq!(lock_file.machine("workstation").unwrap().gpus, [workstation.gpus[0].clone()]);
    laptop.gpus.push(workstation.gpus[0].clone());
    lock_file.record(laptop);
    assert_eq!(hosts(&lock_file), ["laptop"]);
}

#[test]
fn a_simulated_machine_stays_one_until_it_is_measured() {
    let text = WIRE.replace("\"workstation\"\n", "\"workstation\"\nkind = \"simulated\"\n");
    let mut lock_file = LockFile::parse(&text).unwrap();
    assert!(lock_file.is_simulated("workstation"));
    assert_eq!(lock_file.to_text(), text);
    let laptop = Inventory { host: "laptop".into(), driver: None, gpus: vec![] };
    lock_file.record(laptop);
    assert_eq!(lock_file.simulated().collect::<Vec<_>>(), ["workstation"]);
    let workstation = lock_file.machine("workstation").unwrap().clone();
    lock_file.record(workstation.clone());
    assert_eq!(lock_file.simulated().count(), 0);
    // Its GPUs are somewhere else, so that nothing is recorded of it any more.
    lock_file.record_simulated(workstation.clone());
    lock_file.record(Inventory { host: "renamed".into(), ..workstation });
    assert_eq!(lock_file.simulated().count(), 0);
    check_problems(
        &text.replace("simulated", "real"),
        "5:8: `machine[0].kind` cannot be `real`: expected `measured` or `simulated`",
    );
}

#[test]
fn mig_instances_are_recorded_inside_their_parent() {
    let text = format!(
        "{WIRE}
[[machine.gpu.mig]]
gpu-instance = 1
compute-instance = 0
uuid = \"MIG-8932f937-d72c-4106-c12f-20bd9faed9f6\"
name = \"NVIDIA A100 MIG 1g.5gb\"
vram = \"4864 MiB\"
"
    );
    let lock_file = LockFile::parse(&text).unwrap();
    assert_eq!(lock_file.to_text(), text);
    let machine = &lock_file.machines()[0];
    let usable: Vec<_> = machine.usable().map(|gpu| gpu.uuid.as_str()).collect();
    assert_eq!(
        usable,
        ["GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01", "MIG-8932f937-d72c-4106-c12f-20bd9faed9f6"]
    );
    let instance = &machine.gpus[1].instances()[0];
    assert_eq!(machine.get(&instance.uuid), Some(instance));
    assert_eq!(instance.pci, machine.gpus[1].pci);
}

fn gpus() -> impl Strategy<Value = Gpu> {
    let numbers = (any::<u128>(), any::<u64>(), any::<u32>(), any::<u8>());
    let mig = option::weighted(0.3, vec((any::<u128>(), any::<u32>(), any::<u32>()), 0..3));
    (numbers, any::<String>(), mig).prop_map(|((uuid, vram, index, bus), name, mig)| {
        let gpu = Gpu {
            uuid: uuid_of("GPU", uuid),
            name,
            vram: Bytes::new(vram),
            compute_capability: ComputeCapability { major: index, minor: bus.into() },
            pci: PciAddress { domain: index, bus, device: bus % 32, function: bus % 8 },
            index: NvmlIndex(index),
            mig: Mig::Disabled,
        };
        let instance = |(uuid, gpu_instance, compute_instance)| Gpu {
            uuid: uuid_of("MIG", uuid),
            mig: Mig::Instance { gpu_instance, compute_instance },
            ..gpu.clone()
        };
        let mig = mig.map(|it| Mig::Enabled(it.into_iter().map(instance).collect()));
        Gpu { mig: mig.unwrap_or(Mig::Disabled), ..gpu }
    })
}

fn uuid_of(kind: &str, number: u128) -> GpuUuid {
    let hex = format!("{number:032x}");
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    format!("{kind}-{}", parts.join("-")).parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_again(
        machines in vec((any::<String>().prop_map(|it| it + "h"), vec(gpus(), 0..4)), 0..3),
    ) {
        let mut lock_file = LockFile::default();
        for (host, gpus) in machines {
            lock_file.record(Inventory { host, driver: None, gpus });
        }
        let text = lock_file.to_text();
        prop_assert_eq!(LockFile::parse(&text).map_err(|it| it.to_string()), Ok(lock_file), "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>(), at in any::<proptest::sample::Index>()) {
        let mut mangled = WIRE.to_owned();
        mangled.insert_str(at.index(WIRE.len()), &text);
        for text in [text, mangled] {
            if let Err(LockFileError::Invalid(problems)) = LockFile::parse(&text) {
                prop_assert!(!problems.is_empty());
                prop_assert!(problems.iter().all(|it| text.get(it.span.clone()).is_some()));
            }
        }
    }
}
