use super::*;
use crate::{
    identity::{ComputeCapability, PciAddress},
    inventory::Mig,
    lock_file::LockFile,
    value::Bytes,
};

mod properties;

/// A machine of `gpus`: beginnings of UUIDs and models, in NVML and PCI order.
pub(super) fn machine(gpus: &[(&str, &str)]) -> Inventory {
    let gpu = |(index, (start, model)): (u32, &(&str, &str))| Gpu {
        uuid: uuid(&format!("GPU-{start}")),
        name: format!("NVIDIA GeForce {model}"),
        vram: Bytes::new(24 << 30),
        compute_capability: ComputeCapability { major: 8, minor: 6 },
        pci: PciAddress {
            domain: 0,
            bus: u8::try_from(index + 1).unwrap(),
            device: 0,
            function: 0,
        },
        index: NvmlIndex(index),
        mig: Mig::Disabled,
    };
    let driver = Some("580.65.06".parse().unwrap());
    Inventory { host: "box".into(), driver, gpus: (0..).zip(gpus).map(gpu).collect() }
}

/// Completes the beginning of a UUID.
fn uuid(start: &str) -> GpuUuid {
    const REST: &str = "GPU-00000000-0000-0000-0000-000000000000";
    format!("{start}{}", &REST[start.len()..]).parse().unwrap()
}

/// The two GPUs of the machine on which PyTorch's reading of masks was recorded.
pub(super) fn twins() -> Inventory {
    machine(&[("9942190a", "RTX 3090"), ("9e8d35e3", "RTX 3090")])
}

pub(super) fn mixed() -> Inventory {
    machine(&[("5b1c", "RTX 5060 Ti"), ("8932", "RTX 3090")])
}

fn environment(text: &str) -> Environment {
    let pair =
        |pair: &'_ str| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap();
    let pairs = text.split_terminator(" | ").map(pair);
    Environment::from_pairs(pairs)
}

/// Prints an answer: `exact: a b`, with `a/b` for a GPU that may be either.
fn summary(machine: &Inventory, visibility: &Visibility) -> String {
    let name = |uuid: &GpuUuid| {
        let gpu = machine.get(uuid).unwrap();
        let twin = machine.gpus.iter().any(|it| it.name == gpu.name && it.uuid != gpu.uuid);
        if twin { format!("{}#{}", gpu.short_name(), gpu.index) } else { gpu.short_name() }
    };
    let slots = visibility.visible.iter().map(|it| {
        let mut names: Vec<_> = it.candidates.iter().map(name).collect();
        names.sort();
        names.join("/")
    });
    let slots: Vec<_> = slots.collect();
    let certainty = format!("{:?}", visibility.certainty).to_lowercase();
    format!("{certainty}: {}", if slots.is_empty() { "none".to_owned() } else { slots.join(", ") })
}

#[track_caller]
fn check(machine: &Inventory, text: &str, expected: &str) {
    let visibility = resolve(machine, &environment(text));
    let actual = summary(machine, &visibility);
    assert_eq!(actual, expected, "{text:?}\n{:#?}", visibility.steps);
}

/// What the driver makes of a mask on a machine with two GPUs: as PyTorch 2.15 reads it, and where both differ as
/// driver 580 was seen to, see `docs/hardware.md`. `?` marks what is not known of the driver.
const RECORDED: &[(&str, &str)] = &[
    ("", ""),
    ("0", "0"),
    ("1,0", "1 0"),
    ("0,0", ""),
    ("00,0", ""),
    ("+1", "1"),
    ("-0", "0"),
    ("-1", ""),
    ("0,-1,1", "0"),
    ("2,0", ""),
    ("1gpu2", "1"),
    ("0x10", "0"),
    ("1.9", "1"),
    ("0 1", "0"),
    ("0;1", "0"),
    ("0,,1", "0"),
    (",0", ""),
    ("none", ""),
    ("all", ""),
    ("gpu-99", ""),
    ("GPU-9", ""),
    (" GPU-99", ""),
    ("GPU-99, GPU-9e", "0"),
    ("1,GPU-99", "1"),
    ("GPU-99,GPU-9942", ""),
    ("GPU-zz", ""),
    ("GPU-", ""),
    ("MIG-abc", ""),
    ("MIG-abc,0", ""),
    ("99999999999999999999", ""),
    ("4294967296", "0"),
    ("-", ""),
    ("+a", ""),
    ("²", ""),
    ("0²", "0"),
    ("\u{a0}0", ""),
    ("1\n", "1"),
    ("\"0\"", ""),
    ("0-1", "0"),
    ("0,5,0", "0"),
    ("0,0,5", ""),
    ("5,0,0", ""),
    ("-4294967296", "0"),
    ("2147483648", ""),
    ("GPU-9942190A", "0"),
    ("GPU-9942190a-0000-0000-0000-000000000000x", "0"),
    ("GPU-9942190a-0000-0000-0000-000000000000 ", "0"),
    ("GPU-9942190ax", ""),
    ("MIG-9942190a-0000-0000-0000-000000000000", "? 0"),
];

#[test]
fn masks_are_read_as_the_driver_reads_them() {
    let machine = twins();
    for (mask, expected) in RECORDED {
        let environment = Environment {
            cuda_visible_devices: Some((*mask).to_owned()),
            cuda_device_order: Some("PCI_BUS_ID".to_owned()),
            nvidia_visible_devices: None,
        };
        let visibility = resolve(&machine, &environment);
        let index =
            |it: &VisibleGpu| machine.get(it.uuid.as_ref().unwrap()).unwrap().index.to_string();
        let mut words: Vec<_> = visibility.visible.iter().map(index).collect();
        if visibility.certainty != Certainty::Exact {
            assert_eq!(visibility.certainty, Certainty::Likely, "{mask:?}");
            words.insert(0, "?".to_owned());
        }
        assert_eq!(words.join(" "), *expected, "{mask:?}\n{:#?}", visibility.steps);
    }
}

#[test]
fn order_of_different_gpus_is_never_predicted() {
    let any = "RTX 3090/RTX 5060 Ti";
    for (text, expected) in [
        ("", format!("ambiguous: {any}, {any}")),
        ("CUDA_VISIBLE_DEVICES=1", format!("ambiguous: {any}")),
        ("CUDA_DEVICE_ORDER=FASTEST_FIRST | CUDA_VISIBLE_DEVICES=0", format!("ambiguous: {any}")),
    ] {
        check(&mixed(), text, &expected);
    }
}

#[test]
fn pci_order_makes_positions_exact() {
    let order = "CUDA_DEVICE_ORDER=PCI_BUS_ID";
    check(&mixed(), order, "exact: RTX 5060 Ti, RTX 3090");
    check(&mixed(), &format!("{order} | CUDA_VISIBLE_DEVICES=1"), "exact: RTX 3090");
    check(&mixed(), &format!("{order} | CUDA_VISIBLE_DEVICES=1,0"), "exact: RTX 3090, RTX 5060 Ti");
}

#[test]
fn order_counts_pci_addresses_and_not_indices() {
    let mut machine = mixed();
    for (gpu, index) in machine.gpus.iter_mut().zip([1, 0]) {
        gpu.index = NvmlIndex(index);
    }
    check(&machine, "CUDA_DEVICE_ORDER=PCI_BUS_ID | CUDA_VISIBLE_DEVICES=0", "exact: RTX 5060 Ti");
    check(&machine, "NVIDIA_VISIBLE_DEVICES=0", "exact: RTX 3090");
}

#[test]
fn uuids_need_no_order() {
    for order in ["", " | CUDA_DEVICE_ORDER=FASTEST_FIRST"] {
        check(&mixed(), &format!("CUDA_VISIBLE_DEVICES=GPU-89{order}"), "exact: RTX 3090");
        check(
            &mixed(),
            &format!("CUDA_VISIBLE_DEVICES=GPU-89,GPU-5b1c{order}"),
            "exact: RTX 3090, RTX 5060 Ti",
        );
    }
}

#[test]
fn twins_are_likely_in_pci_order() {
    check(&twins(), "", "likely: RTX 3090#0, RTX 3090#1");
    check(&twins(), "CUDA_VISIBLE_DEVICES=1", "likely: RTX 3090#1");
    check(&twins(), "CUDA_VISIBLE_DEVICES=1 | CUDA_DEVICE_ORDER=PCI_BUS_ID", "exact: RTX 3090#1");
}

#[test]
fn same_name_alone_makes_no_twins() {
    let other_vram = |gpu: &mut Gpu| gpu.vram = Bytes::new(12 << 30);
    let other_capability = |gpu: &mut Gpu| gpu.compute_capability.minor = 7;
    for change in [other_vram, other_capability] {
        let mut machine = twins();
        change(&mut machine.gpus[1]);
        check(&machine, "CUDA_VISIBLE_DEVICES=1", "ambiguous: RTX 3090#0/RTX 3090#1");
    }
}

#[test]
fn uncertain_steps_say_what_is_not_known() {
    for (text, step) in [
        ("CUDA_VISIBLE_DEVICES=0", "all the same model"),
        ("CUDA_VISIBLE_DEVICES=MIG-1,MIG-1", "a duplicate does among MIG instances"),
        ("NVIDIA_VISIBLE_DEVICES=7", "`7` names no GPU: it does not start"),
        ("NVIDIA_VISIBLE_DEVICES=GPU-9", "`GPU-9` names several GPUs"),
    ] {
        let steps = resolve(&twins(), &environment(text)).steps;
        let found = steps.iter().any(|it| it.uncertain && it.text.contains(step));
        assert!(found, "{text:?}\n{steps:#?}");
    }
}

#[test]
fn one_gpu_is_exact_under_every_order() {
    let machine = machine(&[("8932", "RTX 3090")]);
    for text in ["", "CUDA_VISIBLE_DEVICES=0", "CUDA_DEVICE_ORDER=FASTEST_FIRST"] {
        check(&machine, text, "exact: RTX 3090");
    }
    check(&machine, "CUDA_VISIBLE_DEVICES=1", "exact: none");
}

#[test]
fn cuda_does_not_start_with_an_order_it_does_not_know() {
    for order in ["x", "", "pci_bus_id", "PCI_BUS_ID "] {
        for mask in ["", " | CUDA_VISIBLE_DEVICES=0", " | CUDA_VISIBLE_DEVICES=GPU-89"] {
            check(&mixed(), &format!("CUDA_DEVICE_ORDER={order}{mask}"), "exact: none");
        }
    }
}

#[test]
fn position_no_gpu_has_is_exact_under_every_order() {
    check(&mixed(), "CUDA_VISIBLE_DEVICES=2", "exact: none");
    check(&mixed(), "CUDA_VISIBLE_DEVICES=2,0", "exact: none");
    check(&twins(), "CUDA_VISIBLE_DEVICES=2", "exact: none");
    check(&mixed(), "CUDA_VISIBLE_DEVICES=-1", "exact: none");
    check(&mixed(), "CUDA_VISIBLE_DEVICES=", "exact: none");
}

#[test]
fn container_renumbers_what_it_leaves() {
    for (text, expected) in [
        ("NVIDIA_VISIBLE_DEVICES=1", "exact: RTX 3090"),
        ("NVIDIA_VISIBLE_DEVICES=1 | CUDA_VISIBLE_DEVICES=0", "exact: RTX 3090"),
        ("NVIDIA_VISIBLE_DEVICES=1 | CUDA_VISIBLE_DEVICES=1", "exact: none"),
        ("NVIDIA_VISIBLE_DEVICES=GPU-89", "exact: RTX 3090"),
        ("NVIDIA_VISIBLE_DEVICES=GPU-89 | CUDA_VISIBLE_DEVICES=GPU-5b", "exact: none"),
        ("NVIDIA_VISIBLE_DEVICES=all | CUDA_VISIBLE_DEVICES=GPU-5b", "exact: RTX 5060 Ti"),
        (
            "NVIDIA_VISIBLE_DEVICES=1,0 | CUDA_DEVICE_ORDER=PCI_BUS_ID",
            "exact: RTX 5060 Ti, RTX 3090",
        ),
        ("NVIDIA_VISIBLE_DEVICES=none", "exact: none"),
        ("NVIDIA_VISIBLE_DEVICES=void", "exact: none"),
        ("NVIDIA_VISIBLE_DEVICES=", "exact: none"),
        ("NVIDIA_VISIBLE_DEVICES=2", "likely: none"),
        ("NVIDIA_VISIBLE_DEVICES=0, 1", "likely: none"),
        ("NVIDIA_VISIBLE_DEVICES=+1", "likely: none"),
    ] {
        check(&mixed(), text, expected);
    }
    let visibility = resolve(&mixed(), &environment("NVIDIA_VISIBLE_DEVICES=1"));
    assert_eq!(visibility.container_index(&uuid("GPU-8932")), Some(NvmlIndex(0)));
    assert_eq!(visibility.container_index(&uuid("GPU-5b1c")), None);
}

/// A machine with a GPU split in three (two compute instances in the first GPU instance), and
/// another one beside it.
fn split(driver: Option<&str>) -> Inventory {
    let mut machine = machine(&[("aaaa", "A100"), ("bbbb", "RTX 3090")]);
    machine.driver = driver.map(|it| it.parse().unwrap());
    let parent = machine.gpus[0].clone();
    let instances = [(1, 0, "MIG-1a0"), (1, 1, "MIG-1b1"), (2, 0, "MIG-2a0")];
    let instance = |(gpu_instance, compute_instance, start): (u32, u32, &str)| Gpu {
        uuid: uuid(start),
        name: format!("{gpu_instance}/{compute_instance}"),
        mig: Mig::Instance { gpu_instance, compute_instance },
        ..parent.clone()
    };
    machine.gpus[0].mig = Mig::Enabled(instances.map(instance).to_vec());
    machine
}

#[test]
fn mig_follows_the_generation_of_the_driver() {
    let whole = uuid("MIG-2a0");
    let other = uuid("MIG-1a0");
    let same_parent = uuid("MIG-1b1");
    let old_name = format!("MIG-{}/2/0", uuid("GPU-aaaa"));
    let cuda = |mask: &dyn fmt::Display| format!("CUDA_VISIBLE_DEVICES={mask}");
    let both = |a: &GpuUuid, b: &GpuUuid| cuda(&format!("{a},{b}"));
    let one = cuda(&whole);
    let pci = "CUDA_DEVICE_ORDER=PCI_BUS_ID";
    for (driver, text, expected) in [
        // One instance by its whole name.
        (Some("580.1"), &one, "exact: 2/0"),
        (Some("535.1"), &one, "exact: 2/0"),
        (Some("460.1"), &one, "exact: none"),
        (None, &one, "likely: 2/0"),
        (Some("580.1"), &cuda(&old_name), "exact: 2/0"),
        (Some("460.1"), &cuda(&old_name), "exact: 2/0"),
        (None, &cuda(&old_name), "exact: 2/0"),
        // Beginnings of names are documented for whole GPUs only.
        (Some("580.1"), &cuda(&"MIG-2"), "likely: 2/0"),
        (Some("580.1"), &cuda(&"MIG-1"), "exact: none"),
        // Several of them.
        (Some("580.1"), &both(&whole, &other), "likely: 2/0, 1/0"),
        (Some("535.1"), &both(&whole, &other), "likely: 2/0"),
        (Some("580.1"), &both(&other, &same_parent), "ambiguous: 1/0/1/1"),
        (Some("580.1"), &cuda(&format!("{whole},{}", uuid("MIG-2a0"))), "likely: none"),
        // Their parent, and the GPU beside them.
        (Some("580.1"), &cuda(&"GPU-aa"), "ambiguous: 1/0/1/1/2/0"),
        (Some("580.1"), &cuda(&"GPU-bb"), "exact: RTX 3090"),
        (Some("535.1"), &cuda(&"GPU-bb"), "exact: RTX 3090"),
        (Some("580.1"), &format!("{pci} | {}", cuda(&"1")), "likely: RTX 3090"),
        (Some("580.1"), &format!("{pci} | {}", cuda(&"0,1")), "ambiguous: 1/0/1/1/2/0, RTX 3090"),
        (Some("535.1"), &format!("{pci} | {}", cuda(&"1,0")), "ambiguous: 1/0/1/1/2/0"),
        // No mask.
        (Some("580.1"), &pci.to_owned(), "ambiguous: 1/0/1/1, 2/0, RTX 3090"),
        (Some("535.1"), &pci.to_owned(), "ambiguous: 1/0/1/1/2/0"),
        (None, &pci.to_owned(), "ambiguous: 1/0/1/1/2/0/RTX 3090"),
        // A container that was given one of them.
        (Some("580.1"), &format!("NVIDIA_VISIBLE_DEVICES=0:2 | {pci}"), "likely: 2/0"),
        (Some("580.1"), &format!("NVIDIA_VISIBLE_DEVICES={whole} | {pci}"), "likely: 2/0"),
        (Some("580.1"), &format!("NVIDIA_VISIBLE_DEVICES=0:3 | {pci}"), "likely: none"),
    ] {
        check(&split(driver), text, expected);
    }
}

#[test]
fn generations_begin_where_nvidia_says() {
    let whole = uuid("MIG-2a0");
    let one = format!("CUDA_VISIBLE_DEVICES={whole}");
    let two = format!("{one},{}", uuid("MIG-1a0"));
    for (driver, text, expected) in [
        ("469.9", &one, "exact: none"),
        ("470.42.01", &one, "exact: 2/0"),
        ("569.9", &two, "likely: 2/0"),
        ("570.1", &two, "likely: 2/0, 1/0"),
    ] {
        check(&split(Some(driver)), text, expected);
    }
}

#[test]
fn mig_without_instances_offers_nothing() {
    let mut machine = mixed();
    machine.gpus[0].mig = Mig::Enabled(vec![]);
    check(&machine, "", "likely: RTX 3090");
    check(&machine, "CUDA_VISIBLE_DEVICES=GPU-89", "exact: RTX 3090");
}

#[test]
fn at_most_64_instances_are_enumerated() {
    let mut machine = split(Some("580.1"));
    let Mig::Enabled(instances) = &machine.gpus[0].mig else { panic!("the GPU is split") };
    let many = (1..=70).map(|number| Gpu {
        uuid: uuid(&format!("MIG-{number:02}")),
        mig: Mig::Instance { gpu_instance: number, compute_instance: 0 },
        ..instances[0].clone()
    });
    machine.gpus[0].mig = Mig::Enabled(many.collect());
    let all: Vec<_> = machine.usable().map(|gpu| gpu.uuid.to_string()).collect();
    let listed = format!("CUDA_VISIBLE_DEVICES={}", all[..70].join(","));
    for text in ["CUDA_DEVICE_ORDER=PCI_BUS_ID", &listed] {
        assert_eq!(resolve(&machine, &environment(text)).visible.len(), 64, "{text:?}");
    }
}

#[test]
fn answer_for_the_golden_lock_file_serializes_as_documented() {
    let lock_file = LockFile::parse(include_str!("../../../../wire/gpupin.lock")).unwrap();
    let machine = lock_file.machine("workstation").unwrap();
    let environment = environment("CUDA_VISIBLE_DEVICES=1");
    let report = resolve(machine, &environment).report(machine);
    let known = Environment { cuda_device_order: Some("PCI_BUS_ID".into()), ..environment };
    let exact = resolve(machine, &known).report(machine);
    assert_eq!(
        serde_json::to_value(&exact).unwrap(),
        serde_json::json!({
            "version": 1,
            "visible": [{
                "ordinal": 0,
                "uuid": "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
                "name": "RTX 3090",
            }],
            "certainty": "exact",
            "steps": [
                { "text": "`workstation` has 2 GPUs", "uncertain": false },
                {
                    "text": "`CUDA_DEVICE_ORDER=PCI_BUS_ID` sorts the GPUs by PCI address: \
                             0 is RTX 5060 Ti, 1 is RTX 3090",
                    "uncertain": false,
                },
                { "text": "entry `1` is RTX 3090", "uncertain": false },
            ],
        })
    );
    let visible = serde_json::to_value(&report).unwrap()["visible"].take();
    assert_eq!(
        visible,
        serde_json::json!([{
            "ordinal": 0,
            "uuid": null,
            "name": null,
            "candidates": [
                { "uuid": "GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01", "name": "RTX 5060 Ti" },
                { "uuid": "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "name": "RTX 3090" },
            ],
        }])
    );
}
