//! The simulated libraries, loaded as programs load them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use gpupin_device::{
    Answer, Machine, Nvml,
    scene::{BUILT_IN, Live, Scene, SceneMachine},
};

use nvml_wrapper::enums::device::UsedGpuMemory;

const LIBRARIES: &str = "LIBRARIES";

/// Runs a test again, in a process whose environment names the state and the libraries of a scene; there `inside` runs.
#[track_caller]
fn check(test: &str, scene: &str, inside: impl FnOnce(&Path, &Path)) {
    if let Some(libraries) = env::var_os(LIBRARIES) {
        let state = env::var_os(gpupin_sim::STATE_VARIABLE).unwrap();
        return inside(Path::new(&state), Path::new(&libraries));
    }
    let directory = tempfile::tempdir().unwrap();
    let (state, libraries) = (directory.path().join("state"), directory.path().join("lib"));
    let live = Live::find(scene.as_ref()).unwrap().copy_to(&state).unwrap();
    fs::create_dir(&libraries).unwrap();
    let program = env::current_exe().unwrap();
    let library = program.with_file_name(gpupin_sim::LIBRARY);
    gpupin_sim::install(&library, &live.scene().unwrap(), &libraries).unwrap();
    let mut again = Command::new(program);
    again.args(["--exact", test, "--nocapture"]);
    again.env(gpupin_sim::STATE_VARIABLE, &state).env(LIBRARIES, &libraries);
    let output = again.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

fn nvml(libraries: &Path) -> PathBuf {
    libraries.join("libnvidia-ml.so.1")
}

/// A process that the scene takes for one that uses a GPU.
fn sleeper(state: &Path, gpu: &str, memory: u64) -> Child {
    let child = Command::new("sleep").arg("60").spawn().unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let started = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap();
    let text = format!(
        "version = 1\n[[use]]\ngpu = '{gpu}'\nkind = 'compute'\nmemory = {memory}\npeak = {memory}\n\
         utilization = 0\nsince = 1\naccounted = false\n"
    );
    fs::write(state.join(format!("processes/{}-{started}", child.id())), text).unwrap();
    child
}

#[test]
fn a_library_has_the_functions_of_its_driver_and_no_other() {
    check("a_library_has_the_functions_of_its_driver_and_no_other", "twin-3090", |_, libraries| {
        let has = |name: &str, function: &str| {
            let path = libraries.join(name);
            #[expect(unsafe_code, reason = "loading runs the library's initialisers")]
            // SAFETY: it is our own library, and no function is called.
            unsafe {
                let library = libloading::Library::new(path).unwrap();
                library.get::<*const ()>(function.as_bytes()).is_ok()
            }
        };
        let functions = gpupin_sim::Profile::R580.functions();
        let of_driver = gpupin_sim::Profile::R535.functions();
        for function in functions {
            let expected = of_driver.contains(function);
            assert_eq!(has("libnvidia-ml.so.1", function), expected, "{function}");
            assert!(!has("libcuda.so.1", function), "{function}");
        }
        assert!(has("libcuda.so.1", "cuInit") && !has("libnvidia-ml.so", "cuInit"));
        assert!(has("libcuda.so", "gpupin_sim_version"));
    });
}

#[test]
fn a_library_of_another_build_is_passed_over_and_refused() {
    let program = env::current_exe().unwrap();
    let library = fs::read(program.with_file_name(gpupin_sim::LIBRARY)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let own = directory.path().join(gpupin_sim::LIBRARY);
    let other = directory.path().join("deps").join(gpupin_sim::LIBRARY);
    fs::create_dir(other.parent().unwrap()).unwrap();
    fs::write(&other, other_build(library.clone())).unwrap();
    let beside = || gpupin_sim::beside(&directory.path().join("gpupin"));
    assert_eq!(beside().as_ref(), Some(&other), "who has no other is told of this one");
    fs::write(&own, library).unwrap();
    assert_eq!(beside().as_ref(), Some(&own));

    let scene = Scene::parse(BUILT_IN[0].1).unwrap();
    let libraries = directory.path().join("lib");
    fs::create_dir(&libraries).unwrap();
    let refused = gpupin_sim::install(&other, &scene, &libraries).unwrap_err();
    assert!(matches!(refused, gpupin_sim::InstallError::OtherBuild { .. }), "{refused}");
    gpupin_sim::install(&own, &scene, &libraries).unwrap();
}

/// The same library, as if one digit of its build were another.
fn other_build(mut library: Vec<u8>) -> Vec<u8> {
    let name = b"gpupin_sim_build_";
    let mut at = 0;
    while let Some(found) = library[at..].windows(name.len()).position(|it| it == name) {
        at += found + name.len();
        library[at] = if library[at] == b'0' { b'1' } else { b'0' };
    }
    assert_ne!(at, 0, "the library has no build");
    library
}

#[test]
fn nvml_wrapper_reads_the_scene() {
    check("nvml_wrapper_reads_the_scene", "busy", |state, libraries| {
        let path = nvml(libraries);
        let nvml = nvml_wrapper::Nvml::builder().lib_path(path.as_os_str()).init().unwrap();
        let scene = Scene::parse(&fs::read_to_string(state.join("scene.toml")).unwrap()).unwrap();
        assert_eq!(nvml.sys_driver_version().unwrap(), scene.driver.as_str());
        assert_eq!(nvml.device_count().unwrap(), 2);
        for (index, gpu) in (0..).zip(&scene.gpus) {
            let device = nvml.device_by_index(index).unwrap();
            assert_eq!(device.uuid().unwrap(), gpu.uuid.as_str());
            assert_eq!(device.name().unwrap(), gpu.name);
            assert_eq!(device.memory_info().unwrap().total, gpu.vram.get());
            assert_eq!(device.num_cores().unwrap(), gpu.cores);
            // With one process a wrong layout of the rows would look right.
            let sleepers = [
                sleeper(state, gpu.uuid.as_str(), 1 << 30),
                sleeper(state, gpu.uuid.as_str(), 2 << 30),
            ];
            let listed = device.running_compute_processes().unwrap();
            let mut pids: Vec<_> = listed.iter().map(|it| it.pid).collect();
            pids.sort_unstable();
            let mut expected = sleepers.each_ref().map(std::process::Child::id);
            expected.sort_unstable();
            assert_eq!(pids, expected);
            let used = listed.iter().map(|it| match it.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => bytes,
                UsedGpuMemory::Unavailable => 0,
            });
            assert_eq!(used.sum::<u64>(), 3 << 30);
            for mut sleeper in sleepers {
                sleeper.kill().unwrap();
                sleeper.wait().unwrap();
            }
            assert!(device.running_compute_processes().unwrap().is_empty());
            assert!(device.max_pcie_link_speed().is_ok() && device.architecture().is_ok());
            let again = nvml.device_by_pci_bus_id(gpu.pci.to_string()).unwrap();
            assert_eq!(again.index().unwrap(), index);
        }
        // What is set stays set, and is seen by who looks at the scene.
        let mut device = nvml.device_by_index(1).unwrap();
        if !rustix::process::geteuid().is_root() {
            assert!(device.set_power_management_limit(250_000).is_err());
            return;
        }
        device.set_power_management_limit(250_000).unwrap();
        assert_eq!(device.power_management_limit().unwrap(), 250_000);
        assert!(device.set_power_management_limit(1).is_err());
        let scene = Scene::parse(&fs::read_to_string(state.join("scene.toml")).unwrap()).unwrap();
        assert!((scene.gpus[1].power_limit - 250.0).abs() < 1e-6);
    });
}

/// Everything that a machine can be asked: the answer, or `None` where there is none.
fn answers(machine: &dyn Machine) -> BTreeMap<String, Option<String>> {
    fn text<T: std::fmt::Debug>(answer: &Answer<T>) -> Option<String> {
        answer.as_ref().ok().map(|it| format!("{it:?}"))
    }
    let mut answers = BTreeMap::new();
    let mut put = |what: String, answer| drop(answers.insert(what, answer));
    match machine.driver() {
        Ok(it) => {
            put("driver".to_owned(), text(&it.version));
            put("cuda".to_owned(), text(&it.cuda));
        }
        Err(_) => put("driver".to_owned(), None),
    }
    let known = machine.unreadable().is_ok_and(|it| it.is_empty());
    put("all GPUs".to_owned(), known.then(|| "readable".to_owned()));
    let inventory = machine.inventory();
    let gpus = inventory.as_ref().map(|it| it.gpus.as_slice()).unwrap_or_default();
    put("inventory".to_owned(), inventory.as_ref().ok().map(|it| format!("{:?}", it.gpus)));
    for gpu in gpus {
        let uuid = &gpu.uuid;
        match machine.status(uuid) {
            Ok(it) => {
                for (what, answer) in [
                    ("total", text(&it.memory_total)),
                    ("used", text(&it.memory_used)),
                    ("reserved", text(&it.memory_reserved)),
                    ("utilization", text(&it.utilization)),
                    ("temperature", text(&it.temperature)),
                    ("slowdown temperature", text(&it.slowdown_temperature)),
                    ("shutdown temperature", text(&it.shutdown_temperature)),
                    ("throttle", text(&it.throttle)),
                    ("corrected errors", text(&it.corrected_errors)),
                    ("uncorrected errors", text(&it.uncorrected_errors)),
                    ("power", text(&it.power)),
                    ("power limit", text(&it.power_limit)),
                    ("clock", text(&it.sm_clock)),
                    ("memory clock", text(&it.memory_clock)),
                    ("pcie", text(&it.pcie)),
                    ("persistence", text(&it.persistence)),
                    ("accounting", text(&it.accounting)),
                    ("minor", text(&it.minor)),
                ] {
                    put(format!("{uuid} {what}"), answer);
                }
            }
            Err(_) => put(format!("{uuid} total"), None),
        }
        let usage = machine.usage(uuid);
        put(format!("{uuid} compute"), text(&usage.compute));
        put(format!("{uuid} graphics"), text(&usage.graphics));
        put(format!("{uuid} mps"), text(&usage.mps));
        put(format!("{uuid} busy"), text(&machine.process_utilization(uuid)));
        // Who is listed without statistics is told as somebody who may be anybody.
        let is_told = |it: &Vec<gpupin_device::Accounted>| it.iter().all(|it| it.started.is_ok());
        let accounted = machine.accounting(uuid).ok().filter(is_told);
        put(format!("{uuid} accounted"), accounted.map(|it| format!("{it:?}")));
    }
    answers
}

/// What goes wrong, each as the end of a scene's text.
fn faults() -> Vec<String> {
    let functions = [
        "nvmlInit",
        "nvmlSystemGetDriverVersion",
        "nvmlSystemGetCudaDriverVersion",
        "nvmlDeviceGetCount",
        "nvmlDeviceGetHandleByIndex",
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetName",
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetCudaComputeCapability",
        "nvmlDeviceGetPciInfo",
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetTemperature*",
        "nvmlDeviceGetTemperatureThreshold",
        "nvmlDeviceGetCurrentClocks*",
        "nvmlDeviceGetTotalEccErrors",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetEnforcedPowerLimit",
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetPersistenceMode",
        "nvmlDeviceGetAccountingMode",
        "nvmlDeviceGetMinorNumber",
        "nvmlDeviceGetCurrPcieLinkGeneration",
        "nvmlDeviceGetCurrPcieLinkWidth",
        "nvmlDeviceGetProcessUtilization",
        "nvmlDeviceGetComputeRunningProcesses",
        "nvmlDeviceGetGraphicsRunningProcesses",
        "nvmlDeviceGetMPSComputeRunningProcesses",
        "nvmlDeviceGetAccountingPids",
        "nvmlDeviceGetAccountingStats",
        "nvmlDevice*",
    ];
    let codes = [
        "no-permission",
        "gpu-is-lost",
        "unknown",
        "uninitialized",
        "timeout",
        "not-found",
        "no-data",
    ];
    let mut faults = Vec::new();
    for function in functions {
        for code in codes {
            // So a driver says that nobody was busy.
            if (function, code) == ("nvmlDeviceGetProcessUtilization", "not-found") {
                continue;
            }
            faults.push(format!("[[fault]]\nfunction = '{function}'\nreturn = '{code}'"));
        }
    }
    faults
}

#[test]
fn no_fault_looks_like_a_healthy_machine() {
    let test = "no_fault_looks_like_a_healthy_machine";
    check(test, "accounting", |state, libraries| {
        let (_, healthy) = BUILT_IN.iter().find(|it| it.0 == "accounting").unwrap();
        let healthy = &healthy.replace("fans =", "ecc = { enabled = true, corrected = 3 }\nfans =");
        let change = |text: &str| {
            let new = state.join("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, state.join("scene.toml")).unwrap();
        };
        change(healthy);
        for gpu in Scene::parse(healthy).unwrap().gpus {
            let ended = format!(
                "version = 1\n[[use]]\ngpu = '{}'\nkind = 'compute'\nmemory = 1\npeak = 1\n\
                 utilization = 0\nsince = 1\naccounted = true\n",
                gpu.uuid
            );
            // Of another process that had this number.
            fs::write(state.join(format!("processes/1-{}", gpu.vram.get())), ended).unwrap();
        }
        let scene_machine =
            || -> Option<Box<dyn Machine>> { Some(Box::new(SceneMachine::open(state).ok()?)) };
        let nvml_machine = || -> Option<Box<dyn Machine>> {
            Some(Box::new(Nvml::open(&nvml(libraries), Path::new("/")).ok()?))
        };
        let (first, second) = (scene_machine().unwrap(), nvml_machine().unwrap());
        assert_eq!(first.kind(), gpupin_device::Kind::Simulated);
        assert_eq!(second.kind(), gpupin_device::Kind::Simulated);
        let wanted = answers(&*first);
        assert_eq!(wanted, answers(&*second), "the library and the scene say the same");
        assert!(wanted.values().all(Option::is_some), "{wanted:#?}");

        let mut broken: Vec<_> = faults().iter().map(|it| format!("{healthy}\n{it}\n")).collect();
        broken.push(healthy.replacen("fans =", "lost = true\nfans =", 1));
        for text in broken {
            change(&text);
            let fault = text.strip_prefix(healthy.as_str()).unwrap_or("lost");
            for machine in [scene_machine(), nvml_machine()] {
                // A machine that cannot be opened says enough.
                let Some(machine) = machine else { continue };
                let found = answers(&*machine);
                let is_told = found.values().any(Option::is_none);
                assert!(is_told, "{}: {fault}: {found:#?}", machine.source());
                for (what, answer) in found.iter().filter(|it| it.0 != "inventory") {
                    let is_honest = answer.is_none() || wanted.get(what) == Some(answer);
                    assert!(is_honest, "{}: {fault}: {what} is {answer:?}", machine.source());
                }
            }
        }
    });
}

#[test]
fn an_error_that_the_driver_reports_is_told_once() {
    let test = "an_error_that_the_driver_reports_is_told_once";
    check(test, "mixed", |state, libraries| {
        let (_, healthy) = BUILT_IN.iter().find(|it| it.0 == "mixed").unwrap();
        let change = |text: &str| {
            fs::write(state.join("new"), text).unwrap();
            fs::rename(state.join("new"), state.join("scene.toml")).unwrap();
        };
        // The second GPU's.
        let (first, second) = healthy.rsplit_once("fans =").unwrap();
        let with = |xids: &str| format!("{first}xids = {xids}\nfans ={second}");
        let fault = "[[fault]]\nfunction = 'nvmlEventSetWait'\nreturn = 'no-permission'";
        let gpu = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";
        let (short, long) = (Duration::from_millis(1), Duration::from_mins(1));
        let machines: [Box<dyn Machine>; 2] = [
            Box::new(SceneMachine::open(state).unwrap()),
            Box::new(Nvml::open(&nvml(libraries), Path::new("/")).unwrap()),
        ];
        for machine in machines {
            change(&with("[13]"));
            assert_eq!(machine.next_xid(short), Ok(None), "what was before is not told");
            change(&with("[13, 79, 31]"));
            for number in [79, 31] {
                let xid = machine.next_xid(long).unwrap().unwrap();
                assert_eq!((xid.gpu.as_str(), xid.number), (gpu, number));
            }
            assert_eq!(machine.next_xid(short), Ok(None));
            change(&format!("{}\n{fault}\n", with("[13, 79, 31, 48]")));
            assert!(machine.next_xid(long).is_err());
            change(&with("[13, 79, 31, 48]"));
            assert_eq!(machine.next_xid(long).unwrap().unwrap().number, 48);
        }
    });
}
