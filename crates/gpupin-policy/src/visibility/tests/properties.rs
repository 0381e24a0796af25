use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::policy::PinAs;

fn config() -> ProptestConfig {
    // A failure becomes a test with a name, not a file of seeds.
    ProptestConfig {
        failure_persistence: None,
        max_global_rejects: u32::MAX,
        ..ProptestConfig::default()
    }
}

const STARTS: [&str; 5] = ["9942190a", "9e8d35e3", "5b1c", "8932f937", "89"];

/// Up to five GPUs of up to three models, anywhere on the bus, in any NVML order.
fn machines() -> impl Strategy<Value = Inventory> {
    let models = vec(select(&["RTX 3090", "RTX 5060 Ti", "A100"][..]), 0..=STARTS.len());
    let buses = Just((1_u8..=5).collect::<Vec<_>>()).prop_shuffle();
    let indices = Just((0..5).collect::<Vec<_>>()).prop_shuffle();
    let driver = select(&[None, Some("460.1"), Some("535.104.05"), Some("580.65.06")][..]);
    (models, buses, indices, driver).prop_map(|(models, buses, indices, driver)| {
        let gpus: Vec<_> = STARTS.into_iter().zip(models).collect();
        let mut inventory = machine(&gpus);
        inventory.driver = driver.map(|it| it.parse().unwrap());
        // NVML numbers without gaps.
        let mut used: Vec<u32> = indices[..inventory.gpus.len()].to_vec();
        used.sort_unstable();
        for ((gpu, bus), index) in inventory.gpus.iter_mut().zip(buses).zip(&indices) {
            gpu.pci.bus = bus;
            gpu.index = NvmlIndex(u32::try_from(used.binary_search(index).unwrap()).unwrap());
        }
        inventory
    })
}

/// Machines of which some GPUs have MIG enabled.
fn mig_machines() -> impl Strategy<Value = Inventory> {
    let instances = vec(option::of(vec((1_u32..3, 0_u32..2), 0..3)), 5);
    (machines(), instances).prop_map(|(mut inventory, instances)| {
        for (number, (gpu, instances)) in inventory.gpus.iter_mut().zip(instances).enumerate() {
            let Some(mut places) = instances else { continue };
            places.sort_unstable();
            places.dedup();
            let parent = gpu.clone();
            let instance = |(gpu_instance, compute_instance): (u32, u32)| Gpu {
                uuid: uuid(&format!("MIG-{number}{gpu_instance}{compute_instance}")),
                mig: Mig::Instance { gpu_instance, compute_instance },
                ..parent.clone()
            };
            gpu.mig = Mig::Enabled(places.into_iter().map(instance).collect());
        }
        inventory
    })
}

/// Text that is made of what masks are made of, and of what they should not be made of.
fn masks() -> impl Strategy<Value = String> {
    let words = select(
        &[
            "0",
            "1",
            "2",
            "3",
            "7",
            "00",
            "+1",
            "-0",
            "-1",
            "1x",
            "0x1",
            "0-1",
            "1.5",
            "",
            " ",
            " 1",
            "-",
            "4294967296",
            "all",
            "GPU-",
            "GPU-9",
            "GPU-99",
            "GPU-9e",
            "GPU-5b1c",
            "GPU-89",
            "GPU-8932",
            " GPU-9e",
            "gpu-9e",
            "GPU-9E",
            "GPU-zz",
            "MIG-0",
            "MIG-010",
            "MIG-1",
            "²",
            "\"0\"",
        ][..],
    );
    let whole = select(&STARTS[..]).prop_map(|start| uuid(&format!("GPU-{start}")).to_string());
    let word = prop_oneof![8 => words.prop_map(str::to_owned), 2 => whole, 1 => any::<String>()];
    vec(word, 0..4).prop_map(|words| words.join(","))
}

fn environments() -> impl Strategy<Value = Environment> {
    let order =
        select(&["PCI_BUS_ID", "FASTEST_FIRST", "pci_bus_id", ""][..]).prop_map(str::to_owned);
    let container = prop_oneof![masks(), Just("all".to_owned()), Just("void".to_owned())];
    (option::of(masks()), option::of(order), option::weighted(0.3, container)).prop_map(
        |(cuda_visible_devices, cuda_device_order, nvidia_visible_devices)| Environment {
            cuda_visible_devices,
            cuda_device_order,
            nvidia_visible_devices,
        },
    )
}

/// PyTorch 2.15's `_parse_visible_devices` and what it does with the result, transcribed.
/// `None` where PyTorch asks the driver or fails.
fn pytorch(mask: &str, uuids: &[&str]) -> Option<Vec<usize>> {
    let mut result = vec![];
    if mask.starts_with("MIG-") {
        return None;
    }
    if mask.starts_with("GPU-") {
        let mut texts = vec![];
        for text in mask.split(',') {
            if texts.contains(&text) {
                return Some(vec![]);
            }
            if !text.starts_with("GPU-") {
                break;
            }
            texts.push(text);
        }
        for text in texts {
            let mut matching = uuids.iter().enumerate().filter(|(_, uuid)| uuid.starts_with(text));
            let (Some((index, _)), None) = (matching.next(), matching.next()) else { break };
            if result.contains(&index) {
                return Some(vec![]);
            }
            result.push(index);
        }
        return Some(result);
    }
    let mut numbers: Vec<i128> = vec![];
    for text in mask.split(',') {
        let text = text.trim();
        let sign_or_digit =
            |(index, c): (usize, char)| c.is_ascii_digit() || (index == 0 && "+-".contains(c));
        let end = text.chars().enumerate().take_while(|it| sign_or_digit(*it)).count();
        let number = if end == 0 { -1 } else { text[..end].parse().ok()? };
        if numbers.contains(&number) {
            return Some(vec![]);
        }
        if number < 0 {
            break;
        }
        numbers.push(number);
    }
    for number in numbers {
        match usize::try_from(number).ok().filter(|it| *it < uuids.len()) {
            Some(index) => result.push(index),
            None => break,
        }
    }
    Some(result)
}

/// Whether the driver was seen to read a mask in another way than PyTorch does: large numbers, blanks that C does not know, UUIDs in capitals, bare or with
/// text behind them, and a duplicate behind the end of the list. See `docs/hardware.md`.
fn is_read_otherwise(mask: &str, machine: &Inventory) -> bool {
    let mask = Mask::parse(mask);
    let is_quirk = |it: &Quirk| {
        matches!(it, Quirk::TooLarge | Quirk::UuidCase | Quirk::NotAUuid)
            || (mask.kind == MaskKind::Gpus && *it == Quirk::TrailingText)
    };
    let count = machine.gpus.len();
    let is_missing =
        |it: &MaskEntry| matches!(it.kind, EntryKind::Index(index) if index as usize >= count);
    let is_c_blank = |c: char| c.is_ascii_whitespace() || c == '\x0b';
    let is_padded_otherwise = |it: &MaskEntry| it.text.trim() != it.text.trim_matches(is_c_blank);
    mask.entries.iter().any(|it| it.quirks.iter().any(is_quirk))
        || mask.entries.iter().any(is_padded_otherwise)
        || (mask.duplicate.is_some() && mask.entries.iter().any(is_missing))
        || (mask.duplicate.is_some() && mask.kind == MaskKind::Gpus)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn answers_hang_together(machine in mig_machines(), environment in environments()) {
        let visibility = resolve(&machine, &environment);
        for (ordinal, gpu) in (0..).zip(&visibility.visible) {
            prop_assert_eq!(gpu.ordinal, Ordinal(ordinal));
            prop_assert!(!gpu.candidates.is_empty());
            prop_assert!(gpu.candidates.is_sorted_by(|a, b| a < b));
            prop_assert!(gpu.candidates.iter().all(|uuid| machine.get(uuid).is_some()));
            let known = (gpu.candidates.len() == 1).then(|| gpu.candidates[0].clone());
            prop_assert_eq!(&gpu.uuid, &known);
        }
        let all_known = visibility.visible.iter().all(|gpu| gpu.uuid.is_some());
        let uncertain = visibility.steps.iter().any(|step| step.uncertain);
        let expected = match (all_known, uncertain) {
            (false, _) => Certainty::Ambiguous,
            (true, true) => Certainty::Likely,
            (true, false) => Certainty::Exact,
        };
        prop_assert_eq!(visibility.certainty, expected);
    }

    #[test]
    fn known_gpus_are_visible_once(machine in mig_machines(), environment in environments()) {
        let visibility = resolve(&machine, &environment);
        let mut known: Vec<_> = visibility.visible.iter().filter_map(|it| it.uuid.clone()).collect();
        let count = known.len();
        known.sort();
        known.dedup();
        prop_assert_eq!(known.len(), count);
    }

    #[test]
    fn positions_among_different_gpus_are_never_certain(
        machine in machines(),
        mask in option::of(masks()),
        order in select(&[None, Some("FASTEST_FIRST")][..]),
    ) {
        let differ = machine.gpus.iter().any(|gpu| !gpu.same_model(&machine.gpus[0]));
        let by_uuid = mask.as_ref().is_some_and(|it| it.starts_with("GPU-") || it.starts_with("MIG-"));
        prop_assume!(differ && !by_uuid);
        let environment = Environment {
            cuda_visible_devices: mask,
            cuda_device_order: order.map(str::to_owned),
            nvidia_visible_devices: None,
        };
        let visibility = resolve(&machine, &environment);
        prop_assert!(visibility.visible.is_empty() || visibility.certainty == Certainty::Ambiguous);
        prop_assert!(visibility.visible.iter().all(|it| it.uuid.is_none()));
    }

    #[test]
    fn whole_uuids_are_exact_in_any_order(
        machine in machines(),
        order in select(&[None, Some("PCI_BUS_ID"), Some("FASTEST_FIRST")][..]),
        seed in vec(any::<proptest::sample::Index>(), 0..4),
    ) {
        prop_assume!(!machine.gpus.is_empty());
        let mut wanted: Vec<_> = seed.iter().map(|it| it.get(&machine.gpus).uuid.clone()).collect();
        let mut seen = vec![];
        wanted.retain(|it| !seen.contains(it) && { seen.push(it.clone()); true });
        let mask: Vec<_> = wanted.iter().map(GpuUuid::as_str).collect();
        let environment = Environment {
            cuda_visible_devices: Some(mask.join(",")),
            cuda_device_order: order.map(str::to_owned),
            nvidia_visible_devices: None,
        };
        let visibility = resolve(&machine, &environment);
        let got: Vec<_> = visibility.visible.iter().filter_map(|it| it.uuid.clone()).collect();
        prop_assert_eq!(got, wanted);
        prop_assert_eq!(visibility.certainty, Certainty::Exact);
    }

    #[test]
    fn pin_leaves_exactly_what_was_asked_for(
        machine in mig_machines(),
        wanted in vec(any::<proptest::sample::Index>(), 1..3),
        pin_as in select(&[PinAs::Uuid, PinAs::Index][..]),
    ) {
        let usable: Vec<_> = machine.usable().collect();
        prop_assume!(!usable.is_empty());
        let wanted: Vec<_> = wanted.iter().map(|it| it.get(&usable).uuid.clone()).collect();
        let old_driver = machine.driver.as_ref().is_none_or(|it| it.generation() < 470);
        let Some(variables) = pin(&machine, &wanted, pin_as) else {
            let is_mig = |it: &GpuUuid| it.as_str().starts_with("MIG-");
            let has_mig = machine.gpus.iter().any(|gpu| gpu.mig != Mig::Disabled);
            let twice = wanted.len() == 2 && wanted[0] == wanted[1];
            let crowded = wanted.len() == 2 && wanted.iter().any(is_mig);
            prop_assert!(twice || crowded || (has_mig && pin_as == PinAs::Index));
            return Ok(());
        };
        // Such drivers know other names.
        prop_assume!(!old_driver || wanted[0].as_str().starts_with("GPU-"));
        let visibility = resolve(&machine, &Environment::from_pairs(variables));
        let visible: Vec<_> = visibility.visible.iter().filter_map(|it| it.uuid.clone()).collect();
        prop_assert_eq!(visible, wanted);
        prop_assert_eq!(visibility.certainty, Certainty::Exact);
    }

    #[test]
    fn order_of_the_inventory_does_not_matter(
        (machine, shuffled) in mig_machines().prop_flat_map(|machine| {
            let shuffled = Just(machine.gpus.clone()).prop_shuffle();
            (Just(machine), shuffled)
        }),
        environment in environments(),
    ) {
        let other = Inventory { gpus: shuffled, ..machine.clone() };
        prop_assert_eq!(resolve(&machine, &environment), resolve(&other, &environment));
    }

    #[test]
    fn container_is_a_machine_with_fewer_gpus(
        machine in machines(),
        keep in vec(any::<bool>(), 5),
        environment in environments(),
    ) {
        let mut smaller = machine.clone();
        let mut keep = keep.into_iter();
        smaller.gpus.retain(|_| keep.next().unwrap());
        prop_assume!(!smaller.gpus.is_empty());
        let names: Vec<_> = smaller.gpus.iter().map(|gpu| gpu.uuid.as_str()).collect();
        let inside = Environment { nvidia_visible_devices: None, ..environment.clone() };
        let outside = Environment { nvidia_visible_devices: Some(names.join(",")), ..environment };
        let (inside, outside) = (resolve(&smaller, &inside), resolve(&machine, &outside));
        prop_assert_eq!(inside.visible, outside.visible);
        prop_assert_eq!(inside.certainty, outside.certainty);
    }

    #[test]
    fn exact_answers_agree_with_pytorch(machine in machines(), mask in masks()) {
        let mut sorted = machine.gpus.clone();
        sorted.sort_by_key(|gpu| gpu.pci);
        let uuids: Vec<_> = sorted.iter().map(|gpu| gpu.uuid.as_str()).collect();
        let environment = Environment {
            cuda_visible_devices: Some(mask.clone()),
            cuda_device_order: Some("PCI_BUS_ID".to_owned()),
            nvidia_visible_devices: None,
        };
        let visibility = resolve(&machine, &environment);
        prop_assert_ne!(visibility.certainty, Certainty::Ambiguous);
        prop_assume!(!is_read_otherwise(&mask, &machine));
        match pytorch(&mask, &uuids) {
            Some(expected) => {
                let expected: Vec<_> = expected.into_iter().map(|index| Some(sorted[index].uuid.clone())).collect();
                let actual: Vec<_> = visibility.visible.into_iter().map(|it| it.uuid).collect();
                prop_assert_eq!(actual, expected);
            }
            None if mask.starts_with("MIG-") => prop_assert!(visibility.visible.is_empty()),
            // PyTorch fails, and the driver ends the list.
            None => {}
        }
    }

    #[test]
    fn entries_tile_their_mask(mask in prop_oneof![masks(), any::<String>()]) {
        let parsed = Mask::parse(&mask);
        let joined: Vec<_> = parsed.entries.iter().map(|it| it.text.as_str()).collect();
        prop_assert_eq!(joined.join(","), mask.as_str());
        for entry in &parsed.entries {
            prop_assert_eq!(&mask[entry.span.clone()], &entry.text);
        }
        let first_left = parsed.entries.iter().position(|it| !it.taken).unwrap_or(parsed.entries.len());
        prop_assert_eq!(parsed.taken().count(), first_left);
    }
}
