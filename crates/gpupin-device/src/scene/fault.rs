use std::{collections::HashMap, time::Duration};

use gpupin_policy::GpuUuid;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{code::Code, format::parsed_option};

/// Something that goes wrong when a function of the driver's libraries is called.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fault {
    /// A function of NVML or of the CUDA driver, with or without `_v2`; `nvmlDeviceGet*` is all that start so.
    pub function: String,
    /// By default every GPU.
    #[serde(default, deserialize_with = "parsed_option")]
    pub gpu: Option<GpuUuid>,
    /// What the function returns instead: a name such as `"gpu-is-lost"` or a number; several in turn, the last one for ever.
    #[serde(default, rename = "return")]
    pub returns: Returns,
    /// How many calls of a process go well before.
    #[serde(default)]
    pub after: u64,
    /// How many calls of a process go wrong then; by default all.
    #[serde(default)]
    pub times: Option<u64>,
    /// How long the function takes.
    #[serde(default, deserialize_with = "latency")]
    pub latency: Duration,
    /// The function does not return while the scene says so.
    #[serde(default)]
    pub hang: bool,
    /// A list has this many more entries when it is fetched than when its size was asked for.
    #[serde(default)]
    pub grow: u32,
}

/// One code or several in turn.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(untagged)]
pub enum Returns {
    #[default]
    Nothing,
    One(Code),
    Sequence(Vec<Code>),
}

/// What a call meets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Obstacle {
    pub latency: Duration,
    pub hang: bool,
    pub code: Option<i32>,
    pub grow: u32,
}

/// How often this process met each fault, by position in the scene.
pub(super) type Counts = HashMap<usize, u64>;

impl Fault {
    pub(super) fn check(&self) -> Result<(), String> {
        let name = self.function.trim_end_matches('*');
        let library = if name.starts_with("nvml") || name.starts_with("cu") {
            Ok(())
        } else {
            Err(format!("`{}` is no function of NVML or of the CUDA driver", self.function))
        };
        let unknown = |code: &&Code| code.number(name).is_none();
        if let Some(code) = self.returns.codes().iter().find(unknown) {
            return Err(format!("`{}` cannot return {code:?}", self.function));
        }
        let does_nothing = self.returns.codes().is_empty()
            && self.latency.is_zero()
            && !self.hang
            && self.grow == 0;
        if does_nothing {
            return Err(format!(
                "the fault of `{}` needs `return`, `latency`, `hang` or `grow`",
                self.function
            ));
        }
        library
    }

    fn is_met(&self, function: &str, gpu: Option<&GpuUuid>) -> bool {
        let name = match self.function.strip_suffix('*') {
            Some(prefix) => function.starts_with(prefix),
            None => base(function) == base(&self.function),
        };
        name && (self.gpu.is_none() || self.gpu.as_ref() == gpu)
    }
}

impl Returns {
    fn codes(&self) -> &[Code] {
        match self {
            Self::Nothing => &[],
            Self::One(code) => std::slice::from_ref(code),
            Self::Sequence(codes) => codes,
        }
    }
}

/// What a call of `function` about `gpu` meets, counting it.
pub(super) fn meet(
    faults: &[Fault],
    counts: &mut Counts,
    function: &str,
    gpu: Option<&GpuUuid>,
) -> Obstacle {
    let mut obstacle = Obstacle::default();
    for (place, fault) in faults.iter().enumerate().filter(|it| it.1.is_met(function, gpu)) {
        let count = counts.entry(place).or_default();
        let turn = count.checked_sub(fault.after);
        *count += 1;
        let Some(turn) = turn.filter(|it| fault.times.is_none_or(|times| *it < times)) else {
            continue;
        };
        obstacle.latency += fault.latency;
        obstacle.hang |= fault.hang;
        obstacle.grow = obstacle.grow.max(fault.grow);
        let codes = fault.returns.codes();
        let position = usize::try_from(turn).unwrap_or(usize::MAX).min(codes.len().max(1) - 1);
        let code = codes.get(position).and_then(|it| it.number(function));
        obstacle.code = obstacle.code.or(code.filter(|it| *it != 0));
    }
    obstacle
}

/// Whether a call of `function` about `gpu` does not return.
pub(super) fn hangs(faults: &[Fault], function: &str, gpu: Option<&GpuUuid>) -> bool {
    faults.iter().any(|it| it.hang && it.is_met(function, gpu))
}

/// A function's name without its version.
fn base(function: &str) -> &str {
    match function.rsplit_once("_v") {
        Some((name, version)) if version.bytes().all(|it| it.is_ascii_digit()) => name,
        _ => function,
    }
}

fn latency<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let millis =
        text.strip_suffix("ms").map(|it| (it, 1)).or(text.strip_suffix('s').map(|it| (it, 1000)));
    let parsed = millis.and_then(|(number, unit)| Some(number.trim().parse::<u64>().ok()? * unit));
    let millis =
        parsed.ok_or_else(|| D::Error::custom("expected a time such as `500ms` or `2s`"))?;
    Ok(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::{Counts, Fault, meet};

    /// What calls of a function meet one after another.
    #[track_caller]
    fn check(fault: &str, function: &str, codes: &[i32]) {
        let fault: Fault = toml::from_str(fault).unwrap();
        fault.check().unwrap();
        let mut counts = Counts::new();
        let faults = [fault];
        let met =
            codes.iter().map(|_| meet(&faults, &mut counts, function, None).code.unwrap_or(0));
        assert_eq!(met.collect::<Vec<_>>(), codes);
    }

    #[test]
    fn a_fault_lasts_unless_it_says_otherwise() {
        let function = "nvmlDeviceGetPowerUsage";
        check("function = 'nvmlDeviceGetPowerUsage'\nreturn = 'not-supported'", function, &[3, 3]);
        check(
            "function = 'nvmlDeviceGetPowerUsage'\nreturn = 999\nafter = 2",
            function,
            &[0, 0, 999],
        );
        check("function = 'nvmlDevice*'\nreturn = [999, 0, 15]", function, &[999, 0, 15, 15]);
        check("function = 'nvmlDevice*'\nreturn = 4\ntimes = 1", function, &[4, 0, 0]);
    }

    #[test]
    fn versions_of_a_function_fail_together() {
        let fault = "function = 'nvmlDeviceGetComputeRunningProcesses'\nreturn = 4";
        check(fault, "nvmlDeviceGetComputeRunningProcesses_v3", &[4]);
        check(fault, "nvmlDeviceGetGraphicsRunningProcesses_v3", &[0]);
        check("function = 'cuMemAlloc_v2'\nreturn = 'out-of-memory'", "cuMemAlloc_v2", &[2]);
    }

    #[test]
    fn faults_that_can_never_be_met_are_refused() {
        for text in [
            "function = 'nvidia-smi'\nreturn = 1",
            "function = 'nvmlInit'\nreturn = 'out-of-memory'",
            "function = 'nvmlInit'",
        ] {
            assert!(toml::from_str::<Fault>(text).unwrap().check().is_err(), "{text}");
        }
    }
}
