//! Whatever the driver returns in place of an answer, nothing becomes proved by it.

use std::{
    fs,
    path::Path,
    process::{Child, Command},
    sync::Arc,
    time::{Duration, SystemTime},
};

use gpupin_device::scene::{NVML_CODES, SceneMachine};

use super::super::{Observed, Origin, Place, Setting, Verdict, prepare};
use crate::process::Process;

const SCENE: &str = include_str!("../../../../../scenes/accounting.toml");
const PINNED: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";
const OTHER: &str = "GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01";

/// Whatever is asked while a program is observed.
const FUNCTIONS: &[&str] = &[
    "nvmlInit",
    "nvmlDeviceGetCount",
    "nvmlDeviceGetHandleByIndex",
    "nvmlDeviceGetHandleByUUID",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetName",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetCudaComputeCapability",
    "nvmlDeviceGetPciInfo",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetGraphicsRunningProcesses",
    "nvmlDeviceGetMPSComputeRunningProcesses",
    "nvmlDeviceGetAccountingMode",
    "nvmlDeviceGetAccountingPids",
    "nvmlDeviceGetAccountingStats",
    "nvmlDevice*",
];

/// A process on its GPU, and a machine to observe it on.
struct Scene {
    state: tempfile::TempDir,
    program: Child,
}

impl Scene {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join("processes")).unwrap();
        let program = Command::new("sleep").arg("600").spawn().unwrap();
        Self { state, program }
    }

    /// Observes the program, and one that is on the other GPU too shortly for any sample.
    fn observe(&self, faults: &str, trespasses: bool) -> Observed {
        let processes = self.state.path().join("processes");
        drop(fs::remove_dir_all(&processes));
        fs::create_dir(&processes).unwrap();
        let scene = self.state.path().join("scene.toml");
        fs::write(&scene, format!("{SCENE}\n{faults}")).unwrap();
        // What has just been written is read again at each question.
        let file = fs::File::options().write(true).open(&scene).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let pid = self.program.id();
        let started = Process::read(pid).unwrap().id.started;
        note(&processes.join(format!("{pid}-{started}")), PINNED);
        let machine = Arc::new(SceneMachine::open(&scene).unwrap());
        let origin = Origin {
            kind: gpupin_device::Kind::Simulated,
            source: "test".to_owned(),
            command: Vec::new(),
        };
        let setting = Setting {
            pinned: vec![Place { gpu: PINNED.parse().unwrap(), instance: None }],
            isolated: Vec::new(),
            own_pid_namespace: false,
        };
        let prepared = prepare(machine, origin, setting, Box::new(std::io::sink()));
        if trespasses {
            // The number of a process that is another one now.
            note(&processes.join(format!("{}-1", std::process::id())), OTHER);
        }
        let observer = prepared.start(std::process::id(), Vec::new()).unwrap();
        observer.finish(Duration::from_secs(20)).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(self.program.kill());
        drop(self.program.wait());
    }
}

fn note(path: &Path, gpu: &str) {
    let text = format!(
        "version = 1\n[[use]]\ngpu = '{gpu}'\nkind = 'compute'\nmemory = 1\npeak = 1\nutilization = 0\n\
         since = 1\naccounted = true\n"
    );
    fs::write(path, text).unwrap();
}

#[test]
fn no_code_of_any_function_hides_who_was_on_another_gpu() {
    let scene = Scene::new();
    let quiet = scene.observe("", false);
    assert_eq!(quiet.judgement.verdict, Verdict::Proved, "{:?}", quiet.judgement);
    let healthy = scene.observe("", true);
    assert_ne!(healthy.judgement.verdict, Verdict::Proved);
    for function in FUNCTIONS {
        for (code, name, _) in NVML_CODES.iter().filter(|it| it.0 != 0) {
            // From the start, from some question on, and for one question.
            for when in ["", &format!("after = 1\ngpu = '{OTHER}'"), "after = 2\ntimes = 1"] {
                let fault =
                    format!("[[fault]]\nfunction = '{function}'\nreturn = {code}\n{when}\n");
                let judgement = scene.observe(&fault, true).judgement;
                assert_ne!(judgement.verdict, Verdict::Proved, "{name}: {fault}");
                assert!(!judgement.reasons.is_empty(), "{name}: {fault}");
            }
        }
    }
}
