//! What is wrong with a GPU that works, as far as its driver says it.
//!
//! No limit is ours: too hot is what the driver calls so, by its own temperatures or by slowing the GPU down. What is silent is no
//! ailment here, and `gpupin doctor` tells it as unknown.

use gpupin_device::Throttle;

use crate::snapshot::GpuNow;

/// More than a driver keeps for itself without saying so, in bytes. On an idle H100 it is about 0.5 GiB.
const UNNOTICED: u64 = 1 << 30;

/// Bytes that are used and belong to no process; unknown unless every process tells its share.
pub fn without_owner(gpu: &GpuNow) -> Option<u64> {
    if gpu.silent_lists().is_some() {
        return None;
    }
    let shares: Option<Vec<u64>> = gpu.processes.iter().map(|it| it.memory).collect();
    Some(gpu.memory_used?.saturating_sub(shares?.iter().sum()))
}

/// The same where it is so much that somebody should look.
pub fn unowned(gpu: &GpuNow) -> Option<u64> {
    // Of a GPU with MIG the instances tell the same.
    without_owner(gpu).filter(|it| *it > UNNOTICED && gpu.mig.is_none())
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ailment {
    pub kind: AilmentKind,
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AilmentKind {
    Heat,
    Slowdown,
    MemoryErrors,
}

impl AilmentKind {
    /// In words for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Heat => "too hot",
            Self::Slowdown => "slowed down",
            Self::MemoryErrors => "memory errors",
        }
    }
}

/// What is wrong with a GPU.
pub fn ailments(gpu: &GpuNow) -> Vec<Ailment> {
    let found = [
        (AilmentKind::Heat, heat(gpu)),
        (AilmentKind::Slowdown, slowdown(gpu)),
        (AilmentKind::MemoryErrors, memory_errors(gpu)),
    ];
    found.into_iter().filter_map(|(kind, why)| Some(Ailment { kind, why: why? })).collect()
}

/// Its temperature and what the driver says of it: `97 °C, slows down at 95 °C, stops at 98 °C`.
pub fn temperatures(gpu: &GpuNow) -> String {
    let celsius = |words, it: Option<u32>| it.map(|it| format!("{words}{it} °C"));
    let now = celsius("", gpu.temperature).unwrap_or_else(|| "temperature unknown".to_owned());
    let slows = celsius("slows down at ", gpu.slowdown_temperature);
    let stops = celsius("stops at ", gpu.shutdown_temperature);
    [Some(now), slows, stops].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn heat(gpu: &GpuNow) -> Option<String> {
    let reaches = |limit: Option<u32>| gpu.temperature.zip(limit).is_some_and(|it| it.0 >= it.1);
    let is_hot = reaches(gpu.slowdown_temperature) || reaches(gpu.shutdown_temperature);
    let by: Vec<_> = gpu.throttle.iter().flatten().filter_map(|it| by_heat(*it)).collect();
    match (is_hot, by.as_slice()) {
        (false, []) => None,
        (true, []) => Some(temperatures(gpu)),
        (_, by) => Some(format!("{}; {}", temperatures(gpu), by.join(", "))),
    }
}

fn slowdown(gpu: &GpuNow) -> Option<String> {
    let reasons = gpu.throttle.as_ref()?;
    let is_by_heat = reasons.iter().any(|it| by_heat(*it).is_some());
    let by = reasons.iter().filter_map(|it| match it {
        Throttle::HwPowerBrake => Some("the power supply makes it halve its clocks, or more"),
        // The driver says this with each of its causes too.
        Throttle::HwSlowdown if !is_by_heat && !reasons.contains(&Throttle::HwPowerBrake) => {
            Some("the hardware halves its clocks, or more: too hot, or too much power")
        }
        _ => None,
    });
    let by: Vec<_> = by.collect();
    (!by.is_empty()).then(|| by.join(", "))
}

fn by_heat(reason: Throttle) -> Option<&'static str> {
    match reason {
        Throttle::HwThermalSlowdown => Some("the hardware halves its clocks for it, or more"),
        Throttle::SwThermalSlowdown => Some("the driver lowers its clocks for it"),
        _ => None,
    }
}

fn memory_errors(gpu: &GpuNow) -> Option<String> {
    let many = gpu.uncorrected_errors.filter(|it| *it > 0)?;
    Some(format!("{many} that could not be corrected since the driver was loaded"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use expect_test::{Expect, expect};
    use gpupin_device::scene::SceneMachine;
    use gpupin_policy::Policy;

    use super::{ailments, temperatures};
    use crate::snapshot::snapshot;

    /// What is wrong with the second GPU of `mixed`, with what is added to it.
    #[track_caller]
    fn check(added: &str, expected: &Expect) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scene.toml");
        let (_, scene) = gpupin_device::scene::BUILT_IN.iter().find(|it| it.0 == "mixed").unwrap();
        std::fs::write(&path, format!("{scene}{added}\n")).unwrap();
        let machine = SceneMachine::find(OsStr::new(&path)).unwrap();
        let now = snapshot(&machine, &Policy::default(), directory.path()).unwrap();
        assert!(ailments(&now.gpus[0]).is_empty());
        let found = ailments(&now.gpus[1]);
        let found: Vec<_> =
            found.iter().map(|it| format!("{}: {}", it.kind.words(), it.why)).collect();
        expected.assert_eq(&format!("{}\n{}", temperatures(&now.gpus[1]), found.join("\n")));
    }

    #[test]
    fn a_gpu_is_too_hot_from_the_temperature_that_its_driver_names() {
        check(
            "temperature = 94",
            &expect![[r#"
            94 °C, slows down at 95 °C, stops at 98 °C
        "#]],
        );
        check(
            "temperature = 95",
            &expect![[r#"
            95 °C, slows down at 95 °C, stops at 98 °C
            too hot: 95 °C, slows down at 95 °C, stops at 98 °C"#]],
        );
        check(
            "temperature = 80\ntemperature-limits = [78, 90]",
            &expect![[r#"
            80 °C, slows down at 78 °C, stops at 90 °C
            too hot: 80 °C, slows down at 78 °C, stops at 90 °C"#]],
        );
    }

    #[test]
    fn without_limits_a_gpu_is_too_hot_if_heat_slows_it_down() {
        let silent =
            "[[fault]]\nfunction = 'nvmlDeviceGetTemperatureThreshold'\nreturn = 'not-supported'";
        check(
            &format!("temperature = 97\n{silent}"),
            &expect![[r#"
            97 °C
        "#]],
        );
        check(
            &format!(
                "temperature = 97\nthrottle = ['hw-slowdown', 'hw-thermal-slowdown']\n{silent}"
            ),
            &expect![[r#"
                97 °C
                too hot: 97 °C; the hardware halves its clocks for it, or more"#]],
        );
    }

    #[test]
    fn idleness_and_the_power_limit_are_no_ailments() {
        check(
            "throttle = ['gpu-idle', 'sw-power-cap', 'applications-clocks']",
            &expect![[r#"
            35 °C, slows down at 95 °C, stops at 98 °C
        "#]],
        );
        check(
            "throttle = ['hw-slowdown']",
            &expect![[r#"
            35 °C, slows down at 95 °C, stops at 98 °C
            slowed down: the hardware halves its clocks, or more: too hot, or too much power"#]],
        );
        check(
            "throttle = ['hw-slowdown', 'hw-power-brake']",
            &expect![[r#"
            35 °C, slows down at 95 °C, stops at 98 °C
            slowed down: the power supply makes it halve its clocks, or more"#]],
        );
    }

    #[test]
    fn only_errors_that_could_not_be_corrected_are_an_ailment() {
        check(
            "ecc = { enabled = true, corrected = 7 }",
            &expect![[r#"
            35 °C, slows down at 95 °C, stops at 98 °C
        "#]],
        );
        check(
            "ecc = { enabled = true, uncorrected = 2 }",
            &expect![[r#"
            35 °C, slows down at 95 °C, stops at 98 °C
            memory errors: 2 that could not be corrected since the driver was loaded"#]],
        );
        check(
            "ecc = { enabled = false, uncorrected = 2 }",
            &expect![[r#"
            35 °C, slows down at 95 °C, stops at 98 °C
        "#]],
        );
    }
}
