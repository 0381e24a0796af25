use std::{collections::BTreeMap, ffi::OsStr, sync::Arc, time::Duration};

use expect_test::{Expect, expect, expect_file};
use gpupin_device::{Kind, Machine as _, scene::SceneMachine};
use gpupin_policy::Policy;

use super::{About, PROCESSES, Scrape, text};
use crate::{
    moment::{Moment, Ticket, VERSION},
    people::Place,
    serve::{
        hub::Hub,
        keep::{Recording, State},
    },
    snapshot::{GpuNow, ProcessNow, snapshot},
};

const GPU: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";

/// What a scene says, after this happened to it.
fn moment(scene: &str, change: impl FnOnce(&mut Moment)) -> Moment {
    let directory = tempfile::tempdir().unwrap();
    let machine = SceneMachine::find(OsStr::new(scene)).unwrap();
    assert_eq!(machine.kind(), Kind::Simulated);
    let now = snapshot(&machine, &Policy::default(), directory.path()).unwrap();
    let (at, took) = (1, 1500);
    let (gap, leases, xids) = (None, None, Vec::new());
    let mut moment = Moment { version: VERSION, at, took, machine: Some(now), gap, leases, xids };
    change(&mut moment);
    moment
}

/// What is told of that.
fn metrics(scene: &str, change: impl FnOnce(&mut Moment)) -> String {
    of(moment(scene, change))
}

fn of(moment: Moment) -> String {
    let hub = Hub::new(Kind::Simulated);
    drop(hub.publish(Arc::new(moment)));
    let about = About {
        version: "1.2.3",
        kind: Kind::Simulated,
        period: Duration::from_secs(1),
        snapshot_schema: "{}",
    };
    let last = hub.latest();
    let (xids, kept) = (&hub.xids(), State { recording: Recording::Keeping, dropped: 2 });
    let scrape = Scrape { about, last: last.as_deref(), is_current: true, xids, kept: &kept };
    text(&scrape)
}

#[test]
fn what_is_on_the_wire_is_kept() {
    let moment = serde_json::from_str(include_str!("../../../../../wire/moment.json")).unwrap();
    let metrics = of(moment);
    // How old it is follows from when it was asked.
    let lines = metrics.lines().map(|it| match it.strip_prefix("gpupin_sample_age_seconds ") {
        Some(age) => {
            assert!(age.parse::<f64>().unwrap() >= 0.0015, "{age}");
            "gpupin_sample_age_seconds 0.002"
        }
        None => it,
    });
    let metrics = lines.collect::<Vec<_>>().join("\n") + "\n";
    expect_file!["../../../../../wire/metrics.txt"].assert_eq(&metrics);
}

fn ticket(position: usize) -> Ticket {
    Ticket {
        gpu: GPU.parse().unwrap(),
        number: 1,
        slots: 1,
        position,
        uid: 1000,
        pid: Some(7),
        command: Some("python train.py".to_owned()),
        came: Some(1),
        held: None,
        used: None,
    }
}

fn gpu(moment: &mut Moment) -> &mut GpuNow {
    moment.machine.as_mut().unwrap().gpus.iter_mut().find(|it| it.uuid.as_str() == GPU).unwrap()
}

fn process(pid: u32, memory: Option<u64>) -> ProcessNow {
    ProcessNow {
        pid,
        started: Some(1),
        kinds: Vec::new(),
        memory,
        utilization: None,
        uid: Some(1000),
        user: Some("ada".to_owned()),
        command: Some(format!("python \"work\" {pid}")),
        project: Some("/home/ada/work".to_owned()),
        place: Some(Place::Wrong),
        leased: None,
        stranger: false,
    }
}

/// The lines of these families.
#[track_caller]
fn check(metrics: &str, families: &[&str], expected: &Expect) {
    let of = |line: &&str| {
        let name = line.split(['{', ' ']).next().unwrap();
        families.contains(&name)
    };
    let lines: Vec<_> = metrics.lines().filter(of).collect();
    expected.assert_eq(&lines.join("\n").replace(GPU, "GPU-89"));
}

#[test]
fn figures_are_in_base_units() {
    let metrics = metrics("busy", |moment| {
        let machine = moment.machine.as_mut().unwrap();
        machine.gpus.retain(|it| it.uuid.as_str() == GPU);
    });
    let families = [
        "gpupin_build_info",
        "gpupin_sample_duration_seconds",
        "gpupin_gpu_memory_total_bytes",
        "gpupin_gpu_power_watts",
        "gpupin_gpu_sm_clock_hertz",
        "gpupin_gpu_temperature_limit_celsius",
        "gpupin_gpu_pcie_link_lanes",
    ];
    check(
        &metrics,
        &families,
        &expect![[r#"
        gpupin_build_info{version="1.2.3",kind="simulated"} 1
        gpupin_sample_duration_seconds 0.0015
        gpupin_gpu_memory_total_bytes{gpu_uuid="GPU-89",gpu_name="RTX 3090",index="1",kind="simulated"} 25769803776
        gpupin_gpu_temperature_limit_celsius{gpu_uuid="GPU-89",gpu_name="RTX 3090",index="1",kind="simulated",limit="slowdown"} 95
        gpupin_gpu_temperature_limit_celsius{gpu_uuid="GPU-89",gpu_name="RTX 3090",index="1",kind="simulated",limit="shutdown"} 98
        gpupin_gpu_power_watts{gpu_uuid="GPU-89",gpu_name="RTX 3090",index="1",kind="simulated"} 312
        gpupin_gpu_sm_clock_hertz{gpu_uuid="GPU-89",gpu_name="RTX 3090",index="1",kind="simulated"} 1695000000
        gpupin_gpu_pcie_link_lanes{gpu_uuid="GPU-89",gpu_name="RTX 3090",index="1",kind="simulated"} 16"#]],
    );
}

#[test]
fn what_is_unknown_has_no_line() {
    let metrics = metrics("faulty", |moment| moment.leases = None);
    for unknown in ["gpupin_gpu_utilization_ratio", "gpupin_gpu_power_watts", "gpupin_lease_held"] {
        assert!(!metrics.contains(unknown), "{metrics}");
    }
    check(
        &metrics,
        &["gpupin_gpu_temperature_celsius", "gpupin_gpu_processes"],
        &expect![[r#"
            gpupin_gpu_temperature_celsius{gpu_uuid="GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01",gpu_name="RTX 5060 Ti",index="0",kind="simulated"} 35
            gpupin_gpu_temperature_celsius{gpu_uuid="GPU-89",gpu_name="RTX 3090",index="1",kind="simulated"} 97
            gpupin_gpu_processes{gpu_uuid="GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01",gpu_name="RTX 5060 Ti",index="0",kind="simulated",place="right"} 0
            gpupin_gpu_processes{gpu_uuid="GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01",gpu_name="RTX 5060 Ti",index="0",kind="simulated",place="wrong"} 0
            gpupin_gpu_processes{gpu_uuid="GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01",gpu_name="RTX 5060 Ti",index="0",kind="simulated",place="unmanaged"} 0"#]],
    );
}

#[test]
fn every_line_about_a_gpu_says_that_it_is_simulated() {
    let metrics = metrics("busy", |moment| {
        gpu(moment).processes = vec![process(7, Some(1))];
        moment.leases = Some(Vec::new());
    });
    let lines = metrics.lines().filter(|it| it.contains("gpu_uuid"));
    assert!(lines.clone().count() > 30, "{metrics}");
    for line in lines {
        assert!(line.contains("kind=\"simulated\""), "{line}");
    }
}

#[test]
fn processes_beyond_a_number_are_summed() {
    let many = u32::try_from(PROCESSES).unwrap() + 3;
    let metrics = metrics("busy", |moment| {
        let memory = |pid| if pid == 1 { None } else { Some(1000 - u64::from(pid)) };
        gpu(moment).processes = (0..many).map(|pid| process(pid, memory(pid))).collect();
    });
    let lines = metrics.lines().filter(|it| it.starts_with("gpupin_process_memory_used_bytes{"));
    assert_eq!(lines.count(), PROCESSES + 1);
    // The least memory have 51 and 52; of 1 nothing is known.
    assert!(
        metrics.contains(",command=\"(other)\",project=\"\",place=\"\",kind=\"simulated\"} 1897\n")
    );
    check(
        &metrics,
        &["gpupin_processes_without_series", "gpupin_gpu_processes"],
        &expect![[r#"
            gpupin_gpu_processes{gpu_uuid="GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01",gpu_name="RTX 5060 Ti",index="0",kind="simulated",place="right"} 0
            gpupin_gpu_processes{gpu_uuid="GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01",gpu_name="RTX 5060 Ti",index="0",kind="simulated",place="wrong"} 0
            gpupin_gpu_processes{gpu_uuid="GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01",gpu_name="RTX 5060 Ti",index="0",kind="simulated",place="unmanaged"} 0
            gpupin_gpu_processes{gpu_uuid="GPU-89",gpu_name="RTX 3090",index="1",kind="simulated",place="right"} 0
            gpupin_gpu_processes{gpu_uuid="GPU-89",gpu_name="RTX 3090",index="1",kind="simulated",place="wrong"} 53
            gpupin_gpu_processes{gpu_uuid="GPU-89",gpu_name="RTX 3090",index="1",kind="simulated",place="unmanaged"} 0
            gpupin_processes_without_series{kind="simulated"} 3"#]],
    );
    let first = metrics.lines().find(|it| it.contains("pid=\"0\"")).unwrap();
    expect![[r#"gpupin_process_memory_used_bytes{gpu_uuid="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",pid="0",user="ada",command="python \"work\" 0",project="/home/ada/work",place="wrong",kind="simulated"} 1000"#]].assert_eq(first);
}

#[test]
fn who_holds_and_who_waits_is_counted_also_where_nobody_does() {
    let metrics = metrics("busy", |moment| {
        moment.leases = Some([0, 1, 2].map(ticket).to_vec());
    });
    check(
        &metrics,
        &["gpupin_lease_held", "gpupin_lease_waiting"],
        &expect![[r#"
        gpupin_lease_held{gpu_uuid="GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01",kind="simulated"} 0
        gpupin_lease_held{gpu_uuid="GPU-89",kind="simulated"} 1
        gpupin_lease_waiting{gpu_uuid="GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01",kind="simulated"} 0
        gpupin_lease_waiting{gpu_uuid="GPU-89",kind="simulated"} 2"#]],
    );
}

#[test]
fn what_was_is_not_told_as_if_it_were() {
    let about = About {
        version: "1.2.3",
        kind: Kind::Measured,
        period: Duration::from_secs(1),
        snapshot_schema: "{}",
    };
    let xids = BTreeMap::from([((GPU.parse().unwrap(), 79), 2)]);
    let metrics = text(&Scrape {
        about,
        last: None,
        is_current: false,
        xids: &xids,
        kept: &State::default(),
    });
    let lines: Vec<_> = metrics.lines().filter(|it| !it.starts_with('#')).collect();
    expect![[r#"
        gpupin_build_info{version="1.2.3",kind="measured"} 1
        gpupin_up 0
        gpupin_gpu_xids_total{gpu_uuid="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",xid="79",kind="measured"} 2"#]].assert_eq(&lines.join("\n"));
}
