use std::{fs, path::Path};

use gpupin_policy::Gpu;
use tempfile::TempDir;

use super::{BUILT_IN, Live, Scene, SceneMachine, Use, UseKind, earlier_uses, write_uses};
use crate::{Kind, Machine, MachineError, Silence};

const SMALL: &str = "GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01";
const LARGE: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";

/// A state directory of a scene, with something added to its text.
fn state(name: &str, more: &str) -> (TempDir, SceneMachine) {
    let directory = tempfile::tempdir().unwrap();
    Live::find(name.as_ref()).unwrap().copy_to(directory.path()).unwrap();
    change(directory.path(), |text| format!("{text}\n{more}"));
    let machine = SceneMachine::open(directory.path()).unwrap();
    (directory, machine)
}

/// Replaces the scene as whoever changes it does.
fn change(directory: &Path, change: impl FnOnce(&str) -> String) {
    let (path, new) = (directory.join("scene.toml"), directory.join("new"));
    fs::write(&new, change(&fs::read_to_string(&path).unwrap())).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn the_scene_of_two_different_gpus_is_a_machine() {
    let machine = SceneMachine::find("mixed".as_ref()).unwrap();
    let inventory = machine.inventory().unwrap();
    let names: Vec<_> = inventory.gpus.iter().map(Gpu::short_name).collect();
    assert_eq!(names, ["RTX 5060 Ti", "RTX 3090"]);
    assert_eq!(machine.kind(), Kind::Simulated);
}

#[test]
fn a_scene_is_looked_at_again_when_it_changes() {
    let (directory, machine) = state("mixed", "");
    assert_eq!(machine.unreadable().unwrap(), []);
    change(directory.path(), |text| text.replacen("fans =", "lost = true\nfans =", 1));
    let (uuid, large) = (SMALL.parse().unwrap(), LARGE.parse().unwrap());
    assert_eq!(machine.status(&uuid), Err(Silence::Lost));
    assert!(machine.usage(&uuid).compute.is_err());
    let inventory = machine.inventory().unwrap();
    let [unreadable] = machine.unreadable().unwrap().try_into().unwrap();
    assert_eq!((unreadable.index.0, unreadable.why), (0, Silence::Lost));
    assert_eq!(inventory.get(&large).unwrap().index.0, 1, "the others keep their index");
}

#[test]
fn a_gpu_that_is_deleted_shifts_the_others() {
    let (directory, machine) = state("mixed", "");
    change(directory.path(), |text| {
        let (first, second) = (text.find("[[gpu]]").unwrap(), text.rfind("[[gpu]]").unwrap());
        format!("{}{}", &text[..first], &text[second..])
    });
    let large = LARGE.parse().unwrap();
    assert_eq!(machine.inventory().unwrap().get(&large).unwrap().index.0, 0);
    assert_eq!(machine.status(&SMALL.parse().unwrap()), Err(Silence::Lost));
}

#[test]
fn this_process_is_listed_while_it_says_so_and_accounted_for_afterwards() {
    let (directory, machine) = state("accounting", "");
    let uuid: gpupin_policy::GpuUuid = SMALL.parse().unwrap();
    let mut used = Use::new(uuid.clone(), UseKind::Compute, true);
    used.set_memory(5 << 30);
    let processes = directory.path().join("processes");
    write_uses(&processes, std::slice::from_ref(&used)).unwrap();
    // Another process, which has ended.
    fs::copy(
        fs::read_dir(&processes).unwrap().next().unwrap().unwrap().path(),
        processes.join("4194304000-1"),
    )
    .unwrap();
    let compute = machine.usage(&uuid).compute.unwrap();
    let listed: Vec<_> =
        compute.iter().map(|it| (it.pid, it.memory.clone().unwrap().get())).collect();
    assert_eq!(listed, [(std::process::id(), 5 << 30)]);
    assert_eq!(machine.status(&uuid).unwrap().memory_used.unwrap().get(), 5 << 30);
    assert!(machine.usage(&uuid).graphics.unwrap().is_empty());
    assert!(machine.usage(&LARGE.parse().unwrap()).compute.unwrap().is_empty());

    used.set_memory(0);
    used.until = Some(super::now());
    write_uses(&processes, &[used]).unwrap();
    assert!(machine.usage(&uuid).compute.unwrap().is_empty());
    let accounted = machine.accounting(&uuid).unwrap();
    assert_eq!(accounted.len(), 2, "{accounted:?}");
    assert!(accounted.iter().all(|it| it.is_running == Ok(false)));
}

#[test]
fn what_a_process_used_before_exec_is_its_still() {
    let (directory, machine) = state("accounting", "");
    let processes = directory.path().join("processes");
    let uuid: gpupin_policy::GpuUuid = SMALL.parse().unwrap();
    assert!(earlier_uses(&processes).is_empty());
    write_uses(&processes, &[Use::new(uuid.clone(), UseKind::Compute, true)]).unwrap();
    write_uses(&processes, &earlier_uses(&processes)).unwrap();
    assert!(machine.usage(&uuid).compute.unwrap().is_empty());
    let accounted = machine.accounting(&uuid).unwrap();
    assert!(matches!(accounted.as_slice(), [it] if it.is_running == Ok(false)), "{accounted:?}");
}

/// What is asked of a machine with a fault, and what it must not answer.
#[track_caller]
fn check_fault(fault: &str, is_told: impl FnOnce(&SceneMachine) -> bool) {
    let (_directory, machine) = state("mixed", &format!("[[fault]]\n{fault}"));
    assert!(is_told(&machine), "{fault}");
}

#[test]
fn what_a_fault_hides_is_no_answer() {
    let uuid = || SMALL.parse().unwrap();
    for (code, is_it) in [
        ("driver-not-loaded", (|it| matches!(it, MachineError::NotLoaded)) as fn(&_) -> bool),
        ("lib-rm-version-mismatch", |it| matches!(it, MachineError::VersionMismatch)),
        ("no-permission", |it| matches!(it, MachineError::NoPermission)),
        ("unknown", |it| matches!(it, MachineError::Query { .. })),
    ] {
        let fault = format!("function = 'nvmlInit'\nreturn = '{code}'");
        check_fault(&fault, |it| it.inventory().is_err_and(|it| is_it(&it)));
        check_fault(&fault, |it| it.driver().is_err() && it.status(&uuid()).is_err());
        check_fault(&fault, |it| it.usage(&uuid()).compute.is_err());
    }
    check_fault("function = 'nvmlDeviceGetUtilizationRates'\nreturn = 999", |it| {
        it.status(&uuid()).unwrap().utilization.is_err()
    });
    check_fault("function = 'nvmlDeviceGetMemoryInfo'\nreturn = 999", |it| {
        it.status(&uuid()).unwrap().memory_used.is_err() && it.unreadable().unwrap().len() == 2
    });
    check_fault("function = 'nvmlDeviceGetComputeRunningProcesses_v3'\nreturn = 4", |it| {
        it.usage(&uuid()).compute == Err(Silence::NoPermission)
            && it.usage(&uuid()).graphics.is_ok()
    });
    check_fault("function = 'nvmlDeviceGetHandleByIndex'\nreturn = 'gpu-is-lost'", |it| {
        it.unreadable().unwrap().len() == 2 && it.inventory().unwrap().gpus.is_empty()
    });
    check_fault("function = 'nvmlDeviceGetComputeRunningProcesses'\ngrow = 3", |it| {
        it.usage(&uuid()).compute.is_err()
    });
    check_fault("function = 'nvmlDeviceGetComputeRunningProcesses'\ngrow = 3\ntimes = 2", |it| {
        it.usage(&uuid()).compute.is_ok()
    });
}

#[test]
fn a_scene_without_driver_has_none() {
    let machine = SceneMachine::find("no-gpu".as_ref()).unwrap();
    assert!(matches!(machine.inventory(), Err(MachineError::NoLibrary { .. })));
    let machine = SceneMachine::find("no-driver".as_ref()).unwrap();
    assert!(matches!(machine.inventory(), Err(MachineError::NotLoaded)));
}

#[test]
fn instances_are_inside_their_gpu() {
    let machine = SceneMachine::find("mig".as_ref()).unwrap();
    let inventory = machine.inventory().unwrap();
    assert_eq!(inventory.usable().count(), 3);
    let instance = inventory.usable().next().unwrap();
    assert_eq!(instance.name, "NVIDIA A100-SXM4-80GB MIG 3g.40gb");
    let status = machine.status(&instance.uuid).unwrap();
    assert_eq!(status.memory_total.unwrap().get(), 40 << 30);
    assert_eq!(status.power, Err(Silence::Unsupported));
}

#[test]
fn a_change_keeps_what_it_does_not_touch() {
    let (directory, machine) = state("busy", "");
    let live = Live::open(directory.path()).unwrap();
    let set = |table: &mut toml::Table| {
        table["gpu"][1].as_table_mut().unwrap().insert("persistence".to_owned(), true.into());
    };
    live.edit(set).unwrap();
    let uuid = LARGE.parse().unwrap();
    assert_eq!(machine.status(&uuid).unwrap().persistence, Ok(true));
    assert_eq!(live.scene().unwrap().gpus[1].processes.len(), 2);
    let refused = live.edit(|table| {
        table.insert("colour".to_owned(), "red".into());
    });
    assert!(refused.is_err());
    assert!(live.scene().is_ok());
}

#[test]
fn broken_scenes_say_what_is_wrong() {
    for (old, new, why) in [
        ("version = 1", "version = 2", "version 2 is not known"),
        ("host =", "hots =", "unknown field `hots`"),
        (SMALL, LARGE, "names two GPUs"),
        ("vram = \"16 GiB\"", "vram = \"16\"", "a size needs a unit"),
        ("vram = \"16 GiB\"", "vram = \"16 MiB\"", "more memory in use than there is"),
    ] {
        let mixed = BUILT_IN.iter().find(|it| it.0 == "mixed").unwrap().1;
        let error = Scene::parse(&mixed.replace(old, new)).unwrap_err();
        assert!(error.contains(why), "{new}: {error}");
    }
}

/// The page about scenes.
const PAGE: &str = include_str!("../../../../docs/scenes.md");

/// The TOML of the page, block by block.
fn blocks() -> Vec<&'static str> {
    let starts = PAGE.split("```toml\n").skip(1);
    starts.map(|it| it.split("```").next().unwrap()).collect()
}

#[test]
fn every_example_of_the_page_is_a_scene() {
    assert!(blocks().len() > 2);
    for block in blocks() {
        Scene::parse(block).unwrap();
    }
}

#[test]
fn the_defaults_of_the_page_are_the_defaults() {
    let block = blocks()[0];
    let whole = Scene::parse(block).unwrap();
    let required =
        ["version", "host", "driver", "uuid", "name", "vram", "compute-capability", "pci"];
    let is_required = |it: &&str| {
        *it == "[[gpu]]" || it.split_once(' ').is_some_and(|(key, _)| required.contains(&key))
    };
    let lines = block.lines().map(|it| it.split('#').next().unwrap().trim_end());
    let least = lines.filter(is_required).collect::<Vec<_>>().join("\n");
    let least = Scene::parse(&least).unwrap();
    assert_eq!(format!("{whole:#?}"), format!("{least:#?}"));
}

#[test]
fn every_key_and_word_of_a_scene_is_on_the_page() {
    let whole = blocks().join("\n");
    let key = |key: &str| {
        let in_block = whole.lines().any(|it| it.split_once(" = ").is_some_and(|it| it.0 == key));
        in_block
            || PAGE.contains(&format!("| `{key}` |"))
            || ["{ ", ", "].iter().any(|it| PAGE.contains(&format!("{it}{key} = ")))
    };
    let word =
        |word: &str| PAGE.contains(&format!("`{word}`")) || PAGE.contains(&format!("\"{word}\""));
    let gpu = "[[gpu]]\nuuid = 'GPU-8932f937-d72c-4106-c12f-20bd9faed9f6'\n";
    for text in [
        "no-such = 1".to_owned(),
        format!("{gpu}no-such = 1"),
        format!("{gpu}clocks = {{ no-such = 1 }}"),
        format!("{gpu}pcie = {{ no-such = 1 }}"),
        format!("{gpu}ecc = {{ no-such = 1 }}"),
        format!("{gpu}[[gpu.process]]\nno-such = 1"),
        format!("{gpu}[[gpu.instance]]\nno-such = 1"),
        "[[fault]]\nno-such = 1".to_owned(),
    ] {
        for name in expected(&text) {
            let is_table = ["gpu", "fault"].contains(&name.as_str());
            let nested = ["instance", "process", "clocks", "pcie"].contains(&name.as_str());
            let table = is_table && whole.contains(&format!("[[{name}]]"))
                || nested && whole.contains(&format!("[gpu.{name}]"));
            assert!(table || key(&name), "the page does not have the key `{name}`");
        }
    }
    for (name, value) in
        [("throttle", "['no-such']"), ("compute-mode", "'no-such'"), ("library", "'no-such'")]
    {
        let table = if name == "library" { "" } else { gpu };
        for it in expected(&format!("{table}{name} = {value}")) {
            assert!(word(&it), "the page does not have `{it}` of `{name}`");
        }
    }
    for it in expected(&format!("{gpu}[[gpu.process]]\nkind = 'no-such'")) {
        assert!(word(&it), "the page does not have the kind `{it}`");
    }
    for (_, name, _) in super::NVML_CODES.iter().chain(super::CUDA_CODES) {
        assert!(word(name), "the page does not have the code `{name}`");
    }
}

/// The names that the reader would have taken instead of the wrong one in a scene.
fn expected(text: &str) -> Vec<String> {
    let error = Scene::parse(text).unwrap_err();
    let (_, names) = error.split_once("expected").unwrap_or_else(|| panic!("{error}"));
    let names: Vec<_> = names.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(names.len() > 1, "{error}");
    names
}
