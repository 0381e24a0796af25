//! The input is an environment, one `NAME=value` a line, for machines of every kind.

#![no_main]

use std::sync::LazyLock;

use gpupin_fuzz::LOCK;
use gpupin_policy::{
    Inventory, Mig,
    visibility::{Certainty, Environment, Mask, MaskKind, Visibility, resolve},
};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let environment = Environment::from_pairs(text.lines().filter_map(|line| line.split_once('=')));
    for machine in MACHINES.iter() {
        let visibility = resolve(machine, &environment);
        check(machine, &visibility);
        assert_eq!(visibility, resolve(machine, &environment));
    }
    check_order(&environment);
});

/// Two different GPUs; then two equal ones, one, none, one with MIG; then an unknown and an old driver.
static MACHINES: LazyLock<Vec<Inventory>> = LazyLock::new(|| {
    let mixed = &LOCK.machines()[0];
    let changed = |change: fn(&mut Inventory)| {
        let mut machine = mixed.clone();
        change(&mut machine);
        machine
    };
    vec![
        mixed.clone(),
        changed(|it| {
            let (name, vram) = (it.gpus[0].name.clone(), it.gpus[0].vram);
            let compute_capability = it.gpus[0].compute_capability;
            let twin = &mut it.gpus[1];
            (twin.name, twin.vram, twin.compute_capability) = (name, vram, compute_capability);
        }),
        changed(|it| it.gpus.truncate(1)),
        changed(|it| it.gpus.clear()),
        changed(with_mig),
        changed(|it| {
            with_mig(it);
            it.driver = Some("450.51.06".parse().expect("a driver version"));
        }),
        changed(|it| it.driver = None),
    ]
});

fn with_mig(machine: &mut Inventory) {
    let parent = &mut machine.gpus[1];
    let instances =
        ["MIG-b9a2c1d0-0000-0000-0000-000000000001", "MIG-b9a2c1d0-0000-0000-0000-000000000002"];
    let instances = (1..).zip(instances).map(|(number, uuid)| {
        let mut instance = parent.clone();
        instance.uuid = uuid.parse().expect("a UUID");
        instance.mig = Mig::Instance { gpu_instance: number, compute_instance: 0 };
        instance
    });
    parent.mig = Mig::Enabled(instances.collect());
}

/// What must hold for every answer.
fn check(machine: &Inventory, visibility: &Visibility) {
    for (position, gpu) in (0..).zip(&visibility.visible) {
        assert_eq!(gpu.ordinal.0, position);
        assert!(!gpu.candidates.is_empty());
        assert!(gpu.candidates.iter().all(|uuid| machine.get(uuid).is_some()));
        if let Some(uuid) = &gpu.uuid {
            assert_eq!(gpu.candidates, [uuid.clone()]);
        }
    }
    if visibility.certainty == Certainty::Exact {
        assert!(visibility.steps.iter().all(|step| !step.uncertain), "{visibility:?}");
        assert!(visibility.visible.iter().all(|gpu| gpu.uuid.is_some()), "{visibility:?}");
    }
}

/// Between different GPUs only a fixed order tells which one a number is.
fn check_order(environment: &Environment) {
    let visibility = resolve(&MACHINES[0], environment);
    let by_number = match &environment.cuda_visible_devices {
        None => true,
        Some(mask) => matches!(Mask::parse(mask).kind, MaskKind::Indices),
    };
    // In a container there may be a single GPU left.
    let both = environment.nvidia_visible_devices.is_none();
    let fixed = environment.cuda_device_order.as_deref() == Some("PCI_BUS_ID");
    if by_number && both && !fixed && !visibility.visible.is_empty() {
        assert_ne!(visibility.certainty, Certainty::Exact, "{visibility:?}");
    }
}
