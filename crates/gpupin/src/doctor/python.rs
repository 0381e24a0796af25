//! The Python of this shell, the frameworks it has, and how they would number the GPUs.
//!
//! Frameworks are never imported, which takes seconds and may start CUDA: a child asks for the metadata of what is installed. Only an
//! interpreter that the user chose is run, by activating its environment or on `PATH`. One that merely lies in the project is not:
//! it may have come with somebody else's code.

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

use gpupin_device::output_within;
use gpupin_policy::{Gpu, visibility::Visibility};

use super::{Found, Patient};

const LIMIT: Duration = Duration::from_secs(20);

/// Prints what is installed. `''` on the path is the working directory, whose files could take the place of modules.
const SCRIPT: &str = "\
import sys
sys.path[:] = [it for it in sys.path if it]
import importlib.metadata as metadata, json
found = {}
for it in metadata.distributions():
    name = (it.metadata['Name'] or '').lower()
    if name.startswith(('torch', 'tensorflow', 'jax', 'cupy')):
        needs = [n for n in it.requires or [] if n.startswith('nvidia-cuda-runtime')]
        found.setdefault(name, [it.version, needs])
print(json.dumps({'version': sys.version.split()[0], 'found': found}))
";

#[derive(serde::Deserialize)]
struct Answer {
    version: String,
    /// By distribution: its version, and what it needs of CUDA.
    found: BTreeMap<String, (String, Vec<String>)>,
}

/// What CUDA a framework was built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Build {
    Cuda(u32),
    Cpu,
    Rocm,
    Unknown,
}

pub(super) fn check(patient: &Patient, found: &mut Found) {
    const NAME: &str = "python";
    let Some(python) = patient.pythons.first() else {
        found.ok(NAME, "there is none on `PATH`, and no environment is active");
        return;
    };
    let shown = python.display();
    match ask(python) {
        Ok(answer) => {
            found.ok(NAME, format!("{} (`{shown}`)", answer.version));
            frameworks(&answer, patient, found);
        }
        Err(why) => {
            let advice = format!("see what `{shown} -c 'import importlib.metadata'` says");
            found.unknown(NAME, format!("`{shown}` did not tell what it has: {why}"), advice);
        }
    }
    let environment = patient.project().map(|it| it.root.join(".venv/bin/python"));
    if let Some(other) = environment.filter(|it| it.exists() && !is_same(it, python)) {
        let advice = "activate it to have it looked at";
        found.unknown(NAME, format!("`{}` is not active", other.display()), advice);
    }
}

fn ask(python: &Path) -> Result<Answer, String> {
    let output = output_within(Command::new(python).args(["-c", SCRIPT]), LIMIT);
    let output = output.map_err(|it| it.to_string())?;
    let output = output.ok_or_else(|| format!("no answer within {} seconds", LIMIT.as_secs()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(text.lines().last().unwrap_or("it failed").to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|it| it.to_string())
}

fn frameworks(answer: &Answer, patient: &Patient, found: &mut Found) {
    const NAME: &str = "framework";
    let visibility = patient.visibility();
    let has_gpu = patient.project().is_some_and(|it| it.policy.gpu.is_some());
    for (name, (version, needs)) in &answer.found {
        let Some(build) = build(name, version, needs, &answer.found) else { continue };
        let title = format!("{name} {version}");
        let numbers = numbering(name, patient, visibility.as_ref());
        match build {
            Build::Cpu if has_gpu => found.problem(
                NAME,
                format!("{title} is built for the CPU, and will not use any GPU"),
                format!("install a build of {name} for CUDA"),
            ),
            Build::Cpu => found.ok(NAME, format!("{title} is built for the CPU")),
            Build::Rocm => found.problem(
                NAME,
                format!("{title} is built for AMD's GPUs"),
                format!("install a build of {name} for CUDA"),
            ),
            Build::Unknown => found.ok(NAME, format!("{title}: {numbers}")),
            Build::Cuda(major) => match driver_cuda(patient) {
                Some(driver) if driver < major => found.problem(
                    NAME,
                    format!("{title} is built for CUDA {major}, and the driver is for CUDA {driver}"),
                    format!("update the driver, or install a build for CUDA {driver}"),
                ),
                Some(_) => found.ok(NAME, format!("{title}, built for CUDA {major}: {numbers}")),
                None => found.unknown(
                    NAME,
                    format!("{title} is built for CUDA {major}; which one the driver is for is not known"),
                    "see the driver's problem first",
                ),
            },
        }
    }
}

/// The major number of the newest CUDA that the driver supports.
fn driver_cuda(patient: &Patient) -> Option<u32> {
    let text = patient.snapshot()?.cuda.as_ref()?;
    text.split('.').next()?.parse().ok()
}

/// What a distribution was built for; `None` for those that are no framework themselves.
fn build(
    name: &str,
    version: &str,
    needs: &[String],
    all: &BTreeMap<String, (String, Vec<String>)>,
) -> Option<Build> {
    let local = version.split_once('+').map(|it| it.1);
    match name {
        "torch" => Some(match local {
            Some("cpu") => Build::Cpu,
            Some(local) if local.starts_with("rocm") => Build::Rocm,
            // `cu124` is CUDA 12.4.
            Some(local) => local
                .strip_prefix("cu")
                .and_then(|it| it.get(..2)?.parse().ok())
                .map_or(Build::Unknown, Build::Cuda),
            None => runtime(needs),
        }),
        "tensorflow-cpu" | "tensorflow-intel" => Some(Build::Cpu),
        "tensorflow" => Some(Build::Unknown),
        "jax" => {
            let plugin = |major: &u32| all.contains_key(&format!("jax-cuda{major}-plugin"));
            Some((11..=20).find(plugin).map_or(Build::Cpu, Build::Cuda))
        }
        "cupy" => Some(Build::Unknown),
        _ => {
            // `cupy-cuda12x`
            let digits = name.strip_prefix("cupy-cuda")?.get(..2)?;
            Some(digits.parse().map_or(Build::Unknown, Build::Cuda))
        }
    }
}

/// The CUDA that a wheel brings along: `nvidia-cuda-runtime-cu12==12.4.127`, or without the suffix from 13 on.
fn runtime(needs: &[String]) -> Build {
    let major = |need: &String| {
        let (_, version) = need.split_once("==")?;
        version.split('.').next()?.trim().parse().ok()
    };
    needs.iter().find_map(major).map_or(Build::Unknown, Build::Cuda)
}

/// What the first number of a framework stands for in this environment.
fn numbering(name: &str, patient: &Patient, visibility: Option<&Visibility>) -> String {
    let word = match name {
        "tensorflow" => "`/GPU:0`",
        "jax" => "`jax.devices()[0]`",
        name if name.starts_with("cupy") => "`cupy.cuda.Device(0)`",
        _ => "`cuda:0`",
    };
    let (Some(visibility), Some(inventory)) = (visibility, patient.inventory()) else {
        return format!("what {word} is here is not known");
    };
    let Some(first) = visibility.visible.first() else {
        return "it sees no GPU here".to_owned();
    };
    let names = first.candidates.iter().filter_map(|it| inventory.get(it));
    let names: Vec<_> = names.map(Gpu::short_name).collect();
    let verb = if first.uuid.is_some() { "is" } else { "may be" };
    format!("{word} {verb} {} here", names.join(" or "))
}

fn is_same(a: &Path, b: &Path) -> bool {
    // Environments are links to one interpreter: their places count.
    a.parent().and_then(|it| it.canonicalize().ok())
        == b.parent().and_then(|it| it.canonicalize().ok())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Build, build};

    #[test]
    fn what_a_framework_was_built_for_is_read_from_its_metadata() {
        let plugin = BTreeMap::from([("jax-cuda12-plugin".to_owned(), ("0".to_owned(), vec![]))]);
        let none = BTreeMap::new();
        for (name, version, needs, all, expected) in [
            ("torch", "2.6.0+cu124", "", &none, Some(Build::Cuda(12))),
            ("torch", "2.6.0+cpu", "", &none, Some(Build::Cpu)),
            ("torch", "2.6.0+rocm6.2", "", &none, Some(Build::Rocm)),
            (
                "torch",
                "2.6.0",
                "nvidia-cuda-runtime-cu12==12.4.127; x",
                &none,
                Some(Build::Cuda(12)),
            ),
            ("torch", "2.9.0", "nvidia-cuda-runtime==13.0.48", &none, Some(Build::Cuda(13))),
            ("torch", "2.6.0", "", &none, Some(Build::Unknown)),
            ("jax", "0.5.0", "", &plugin, Some(Build::Cuda(12))),
            ("jax", "0.5.0", "", &none, Some(Build::Cpu)),
            ("cupy-cuda12x", "13.0", "", &none, Some(Build::Cuda(12))),
            ("tensorflow-cpu", "2.20", "", &none, Some(Build::Cpu)),
            ("torchvision", "0.20+cpu", "", &none, None),
            ("jaxlib", "0.5.0", "", &none, None),
        ] {
            let needs: Vec<_> =
                needs.split(' ').filter(|it| !it.is_empty()).map(str::to_owned).collect();
            assert_eq!(build(name, version, &needs, all), expected, "{name} {version}");
        }
    }
}
