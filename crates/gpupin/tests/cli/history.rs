use expect_test::{Expect, expect};

use crate::{report::validate, sandbox::Sandbox};

/// A history with something in every table: what its first version left behind.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    let sql = include_str!("../../../../wire/history-1.sql");
    let database = rusqlite::Connection::open(sandbox.path().join("history.db")).unwrap();
    database.execute_batch(sql).unwrap();
    sandbox
}

#[track_caller]
fn check(args: &[&str], expected: &Expect) {
    let outcome = sandbox().gpupin(&[&["history"], args].concat());
    expected.assert_eq(&outcome.whole());
}

#[test]
fn what_is_kept_and_what_is_missing_is_told() {
    let outcome = sandbox().gpupin(&["history", "info", "--history", "history.db"]);
    // How large the file is depends on the pages of the version of SQLite.
    let (_, rest) = outcome.out.split_once('\n').unwrap();
    assert!(outcome.out.starts_with("history.db · simulated figures · "), "{outcome:?}");
    assert!(
        outcome.out.contains(" · 2023-11-19T00:00:00Z to 2023-11-19T01:01:01Z\n"),
        "{outcome:?}"
    );
    expect![[r#"

        what             rows  from                  to
        samples          10    2023-11-19T00:00:00Z  2023-11-19T01:01:01Z
        minutes          66    2023-11-19T00:00:00Z  2023-11-19T01:01:00Z
        hours            22    2023-11-19T00:00:00Z  2023-11-19T01:00:00Z
        processes        1
        process samples  3
        leases           1
        gaps             3
        xids             5
        events           1

        GPU          UUID
        RTX 5060 Ti  GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01
        RTX 3090     GPU-8932f937-d72c-4106-c12f-20bd9faed9f6

        nothing known from    to                    of         why
        2023-11-19T00:00:00Z  2023-11-19T00:00:01Z  leases     leases were not asked for, or not readable
        2023-11-19T00:00:01Z  2023-11-19T00:59:59Z  recording  no moment came: gpupin or the machine stood still, or the clock was set
        2023-11-19T01:00:01Z  2023-11-19T01:01:01Z  recording  no moment came: gpupin or the machine stood still, or the clock was set
    "#]].assert_eq(rest);
    let json = ["history", "info", "--history", "history.db", "--output-format", "json"];
    let json = sandbox().gpupin(&json).json();
    validate(include_str!("../../src/reference/history-info.schema.json"), &json);
}

#[test]
fn an_export_as_csv_says_what_is_unknown_and_of_how_many_samples_it_is() {
    let args = ["export", "--history", "history.db", "--format", "csv", "--gpu", "5060"];
    let outcome = sandbox().gpupin(&[&["history"], &args[..]].concat());
    let lines = outcome.out.lines();
    let some = lines
        .filter(|it| it.starts_with("kind") || it.contains("utilization") || it.contains("power"));
    let some: Vec<_> = some.collect();
    expect![[r#"
        kind,gpu,name,metric,unit,at,seconds,level,count,unknown,min,average,max
        simulated,GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01,RTX 5060 Ti,utilization,%,2023-11-19T00:00:00.000Z,,raw,1,0,0,0,0
        simulated,GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01,RTX 5060 Ti,utilization,%,2023-11-19T00:00:01.000Z,,raw,1,0,0,0,0
        simulated,GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01,RTX 5060 Ti,utilization,%,2023-11-19T00:59:59.000Z,,raw,1,0,0,0,0
        simulated,GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01,RTX 5060 Ti,utilization,%,2023-11-19T01:00:01.000Z,,raw,1,0,0,0,0
        simulated,GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01,RTX 5060 Ti,utilization,%,2023-11-19T01:01:01.000Z,,raw,1,0,0,0,0
        simulated,GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01,RTX 5060 Ti,power,mW,2023-11-19T00:00:00.000Z,,raw,1,0,20000,20000,20000
        simulated,GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01,RTX 5060 Ti,power,mW,2023-11-19T00:00:01.000Z,,raw,1,0,20000,20000,20000
        simulated,GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01,RTX 5060 Ti,power,mW,2023-11-19T00:59:59.000Z,,raw,1,0,20000,20000,20000
        simulated,GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01,RTX 5060 Ti,power,mW,2023-11-19T01:00:01.000Z,,raw,1,0,20000,20000,20000
        simulated,GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01,RTX 5060 Ti,power,mW,2023-11-19T01:01:01.000Z,,raw,1,0,20000,20000,20000"#]].assert_eq(&some.join("\n"));
    let some = ["--from", "2023-11-19T01:00Z", "--to", "2023-11-19T01:00:02Z"];
    check(
        &[&args[..5], &some, &["--gpu", "GPU-8932"]].concat(),
        &expect![[r#"
        exit code: 0
        ----- stdout
        kind,gpu,name,metric,unit,at,seconds,level,count,unknown,min,average,max
        simulated,GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,RTX 3090,memory-used,B,2023-11-19T01:00:01.000Z,,raw,1,0,0,0,0
        simulated,GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,RTX 3090,utilization,%,2023-11-19T01:00:01.000Z,,raw,0,1,,,
        simulated,GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,RTX 3090,temperature,°C,2023-11-19T01:00:01.000Z,,raw,1,0,35,35,35
        simulated,GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,RTX 3090,power,mW,2023-11-19T01:00:01.000Z,,raw,1,0,20000,20000,20000
        simulated,GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,RTX 3090,sm-clock,MHz,2023-11-19T01:00:01.000Z,,raw,1,0,210,210,210
        simulated,GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,RTX 3090,memory-clock,MHz,2023-11-19T01:00:01.000Z,,raw,1,0,405,405,405
        simulated,GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,RTX 3090,pcie-generation,,2023-11-19T01:00:01.000Z,,raw,1,0,1,1,1
        simulated,GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,RTX 3090,pcie-width,lanes,2023-11-19T01:00:01.000Z,,raw,1,0,16,16,16
        simulated,GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,RTX 3090,slowed,,2023-11-19T01:00:01.000Z,,raw,1,0,0,0,0
        simulated,GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,RTX 3090,corrected-errors,,2023-11-19T01:00:01.000Z,,raw,0,1,,,
        simulated,GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,RTX 3090,uncorrected-errors,,2023-11-19T01:00:01.000Z,,raw,0,1,,,
    "#]],
    );
}

#[test]
fn an_export_for_prometheus_has_base_units_and_an_end() {
    check(
        &[
            "export",
            "--history",
            "history.db",
            "--format",
            "openmetrics",
            "--gpu",
            "gpu-8932",
            "--to",
            "2023-11-19T00:00:01Z",
        ],
        &expect![[r#"
            exit code: 0
            ----- stdout
            # TYPE gpupin_gpu_memory_used_bytes gauge
            # UNIT gpupin_gpu_memory_used_bytes bytes
            # HELP gpupin_gpu_memory_used_bytes Memory that processes use.
            gpupin_gpu_memory_used_bytes{gpu="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",name="RTX 3090",kind="simulated",statistic="average"} 0 1700352000.000
            # TYPE gpupin_gpu_utilization_ratio gauge
            # UNIT gpupin_gpu_utilization_ratio ratio
            # HELP gpupin_gpu_utilization_ratio Share of the time in which a kernel ran.
            # TYPE gpupin_gpu_temperature_celsius gauge
            # UNIT gpupin_gpu_temperature_celsius celsius
            # HELP gpupin_gpu_temperature_celsius Temperature of the GPU.
            gpupin_gpu_temperature_celsius{gpu="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",name="RTX 3090",kind="simulated",statistic="average"} 35 1700352000.000
            # TYPE gpupin_gpu_power_watts gauge
            # UNIT gpupin_gpu_power_watts watts
            # HELP gpupin_gpu_power_watts Power that it draws.
            gpupin_gpu_power_watts{gpu="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",name="RTX 3090",kind="simulated",statistic="average"} 20 1700352000.000
            # TYPE gpupin_gpu_sm_clock_hertz gauge
            # UNIT gpupin_gpu_sm_clock_hertz hertz
            # HELP gpupin_gpu_sm_clock_hertz Clock of the streaming multiprocessors.
            gpupin_gpu_sm_clock_hertz{gpu="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",name="RTX 3090",kind="simulated",statistic="average"} 210000000 1700352000.000
            # TYPE gpupin_gpu_memory_clock_hertz gauge
            # UNIT gpupin_gpu_memory_clock_hertz hertz
            # HELP gpupin_gpu_memory_clock_hertz Clock of its memory.
            gpupin_gpu_memory_clock_hertz{gpu="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",name="RTX 3090",kind="simulated",statistic="average"} 405000000 1700352000.000
            # TYPE gpupin_gpu_pcie_generation gauge
            # HELP gpupin_gpu_pcie_generation Generation of the PCIe link.
            gpupin_gpu_pcie_generation{gpu="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",name="RTX 3090",kind="simulated",statistic="average"} 1 1700352000.000
            # TYPE gpupin_gpu_pcie_width_lanes gauge
            # UNIT gpupin_gpu_pcie_width_lanes lanes
            # HELP gpupin_gpu_pcie_width_lanes Lanes of the PCIe link.
            gpupin_gpu_pcie_width_lanes{gpu="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",name="RTX 3090",kind="simulated",statistic="average"} 16 1700352000.000
            # TYPE gpupin_gpu_slowed_ratio gauge
            # UNIT gpupin_gpu_slowed_ratio ratio
            # HELP gpupin_gpu_slowed_ratio Share of samples in which heat or the power supply kept the clocks down.
            gpupin_gpu_slowed_ratio{gpu="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",name="RTX 3090",kind="simulated",statistic="average"} 0 1700352000.000
            # TYPE gpupin_gpu_corrected_errors gauge
            # HELP gpupin_gpu_corrected_errors Errors of memory that were corrected since the driver was loaded.
            # TYPE gpupin_gpu_uncorrected_errors gauge
            # HELP gpupin_gpu_uncorrected_errors Errors of memory that could not be corrected since the driver was loaded.
            # EOF
        "#]],
    );
}

#[test]
fn what_is_rolled_up_is_exported_with_the_least_and_the_most() {
    let sandbox = sandbox();
    let database = rusqlite::Connection::open(sandbox.path().join("history.db")).unwrap();
    database.execute_batch("DELETE FROM samples WHERE at < 1700355600000").unwrap();
    let args = ["history", "export", "--history", "history.db", "--format", "openmetrics"];
    let outcome = sandbox.gpupin(&[&args[..], &["--gpu", "3090"]].concat());
    let power = outcome.out.lines().filter(|it| it.starts_with("gpupin_gpu_power_watts"));
    expect![[r#"
        gpupin_gpu_power_watts{gpu="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",name="RTX 3090",kind="simulated",statistic="average"} 20 1700352000.000
        gpupin_gpu_power_watts{gpu="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",name="RTX 3090",kind="simulated",statistic="average"} 20 1700355540.000
        gpupin_gpu_power_watts{gpu="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",name="RTX 3090",kind="simulated",statistic="average"} 20 1700355601.000
        gpupin_gpu_power_watts{gpu="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",name="RTX 3090",kind="simulated",statistic="average"} 20 1700355661.000
        gpupin_gpu_power_watts{gpu="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",name="RTX 3090",kind="simulated",statistic="min"} 20 1700352000.000
        gpupin_gpu_power_watts{gpu="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",name="RTX 3090",kind="simulated",statistic="min"} 20 1700355540.000
        gpupin_gpu_power_watts{gpu="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",name="RTX 3090",kind="simulated",statistic="max"} 20 1700352000.000
        gpupin_gpu_power_watts{gpu="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",name="RTX 3090",kind="simulated",statistic="max"} 20 1700355540.000"#]].assert_eq(&power.collect::<Vec<_>>().join("\n"));
}

#[test]
fn an_export_goes_into_a_file() {
    let sandbox = sandbox();
    let args = ["history", "export", "--history", "history.db", "--format", "csv"];
    let whole = sandbox.gpupin(&args).out;
    let outcome = sandbox.gpupin(&[&args[..], &["--output", "all.csv"]].concat());
    assert_eq!((outcome.code, outcome.out.as_str()), (0, ""));
    assert_eq!(sandbox.read("all.csv"), whole);
}

#[test]
fn the_history_of_a_user_lies_below_the_home_directory() {
    // Root may have that of the machine.
    if rustix::process::geteuid().is_root() && std::path::Path::new("/var/lib/gpupin").is_dir() {
        return;
    }
    let sandbox = sandbox();
    let home = sandbox.path().to_str().unwrap().to_owned();
    let directory = sandbox.path().join(".local/state/gpupin");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::rename(sandbox.path().join("history.db"), directory.join("history-simulated.db"))
        .unwrap();
    let sandbox = sandbox.variable("HOME", home.clone());
    let simulated = sandbox.gpupin(&["history", "info", "--simulated"]);
    assert_eq!(simulated.code, 0, "{simulated:?}");
    let measured = sandbox.gpupin(&["history", "info"]);
    assert_eq!(measured.code, 2);
    let sandbox = sandbox.variable("XDG_STATE_HOME", format!("{home}/.local/state"));
    assert_eq!(sandbox.gpupin(&["history", "info", "--simulated"]).out, simulated.out);
    let there = measured.err.contains(".local/state/gpupin/history.db`");
    assert!(there, "{measured:?}");
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    check(
        &["info", "--history", "none.db"],
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: there is no history at `none.db`

        hint: name another file with `--history`
    "#]],
    );
    let export = ["export", "--history", "history.db", "--format", "csv"];
    check(
        &[&export[..], &["--from", "yesterday"]].concat(),
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: `yesterday` is no time

        hint: write a date or time of UTC such as `2026-11-26T08:25:13Z`, or so long ago, such as `2h`
    "#]],
    );
    check(
        &[&export[..], &["--from", "2026-11-26", "--to", "2026-11-25"]].concat(),
        &expect![[r#"
            exit code: 2
            ----- stderr
            error: `--from` is not before `--to`
        "#]],
    );
    check(
        &[&export[..], &["--gpu", "H100"]].concat(),
        &expect![[r#"
        exit code: 2
        ----- stderr
        error: nothing is kept of a GPU `H100`

        hint: there are: RTX 5060 Ti (GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01), RTX 3090 (GPU-8932f937-d72c-4106-c12f-20bd9faed9f6)
    "#]],
    );
}
