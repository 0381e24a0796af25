//! Which files are worth parsing.
//!
//! Parsing costs fifty times as much as looking for bytes, and most files of most projects have nothing
//! to do with GPUs. So every file is first surveyed: does it hold a needle of a selected rule, which
//! modules does it import, does it look like a program? [`Reading`] then asks for the files that can
//! matter, in rounds, because what was read decides what else must be:
//!
//! 1. files with a needle, scripts and services, and programs that use a GPU library;
//! 2. for each of these programs, the modules on the way to its first GPU library;
//! 3. where a pin is set or removed, everything that runs in the same program;
//! 4. modules that define a constant or function which a file refers to.
//!
//! **Invariant:** the findings are those of a scan that parses everything. Tests compare the two on the
//! example, `cargo xtask prefilter` on the benchmark's corpus.

use globset::GlobSet;
use gpupin_policy::{Policy, RequirePinIn};

use crate::{needle::Needle, program::entries, rules::Rule, source::Language};

pub(crate) mod imports;
mod reading;
mod search;

use search::Search;

pub use reading::Reading;

/// Looks at bytes. Made once per scan and shared by all threads.
#[derive(Debug)]
pub struct Surveyor {
    in_python: Search<Weight>,
    elsewhere: Search<Weight>,
    needles: Vec<Needle>,
    /// Files that the policy names as programs.
    programs: GlobSet,
    every_gpu_file: bool,
}

/// What a look at a file's bytes tells.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// A needle was found: the file is read in any case.
    pub interesting: bool,
    /// A Python file may be a program.
    pub(crate) program: bool,
    /// A Python file may check its GPU: it is read if a program imports it itself.
    pub(crate) checks: bool,
    /// What a Python file imports, packed: see [`imports::Imports`].
    pub(crate) imports: imports::Imports,
}

impl Surveyor {
    pub fn new<'r>(rules: impl IntoIterator<Item = &'r Rule>, policy: &Policy) -> Self {
        let mut needles: Vec<Needle> = Vec::new();
        for needle in rules.into_iter().flat_map(|it| it.needles).chain(ALWAYS) {
            if !needles.contains(needle) {
                needles.push(*needle);
            }
        }
        let weighed = |it: &Needle| (*it, Weight::Interesting);
        let checks = CHECKS.iter().map(|it| (Needle::new(it), Weight::Check));
        let in_python: Vec<_> =
            needles.iter().filter(|it| it.in_python).map(weighed).chain(checks).collect();
        let elsewhere: Vec<_> = needles.iter().map(weighed).collect();
        Self {
            in_python: Search::new(&in_python),
            elsewhere: Search::new(&elsewhere),
            needles,
            programs: entries::named_by_policy(policy),
            every_gpu_file: policy.lint.require_pin_in == RequirePinIn::EveryGpuFile,
        }
    }

    /// The literals that make a Python file worth parsing, for comparison with other tools.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.needles
            .iter()
            .filter(|it| it.in_python)
            .map(|it| it.text)
            .chain(CHECKS.iter().copied())
    }

    pub fn survey(&self, path: &str, language: Language, bytes: &[u8]) -> Survey {
        let python = matches!(language, Language::Python | Language::Notebook);
        let (interesting, checks) =
            look(if python { &self.in_python } else { &self.elsewhere }, bytes);
        // PowerShell writes UTF-16, in which no needle can be seen.
        let is_utf_16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
        let interesting = interesting || is_utf_16;
        match language {
            Language::Python => {
                let imports = imports::scan(bytes, false);
                let every = self.every_gpu_file && imports.name_a_gpu_library();
                Survey {
                    // A wrong guess here would have every program read that imports the file.
                    interesting: interesting || every || imports.only_in_examples,
                    program: imports::looks_like_a_program(path, bytes)
                        || self.programs.is_match(path),
                    checks,
                    imports,
                }
            }
            // A notebook is a program; its imports stand in JSON strings.
            Language::Notebook => {
                let imports = imports::scan(bytes, true);
                Survey {
                    interesting: interesting || imports.name_a_gpu_library(),
                    program: true,
                    imports,
                    ..Survey::default()
                }
            }
            // Scripts and services make programs of what they start, which any word may do: `uvicorn`, a console
            // script of the project, and files of variables set them for these. They are few and short, so that all
            // are read.
            Language::Shell
            | Language::PowerShell
            | Language::Batch
            | Language::Dockerfile
            | Language::Compose
            | Language::Kubernetes
            | Language::Workflow
            | Language::Systemd
            | Language::Makefile
            | Language::Dotenv => Survey { interesting: true, ..Survey::default() },
            Language::Toml | Language::Ini => {
                Survey { interesting: interesting || imports::declares(bytes), ..Survey::default() }
            }
            Language::Json | Language::Yaml => Survey { interesting, ..Survey::default() },
        }
    }
}

/// Whether there is a needle; if there is none, whether there may be a check.
fn look(search: &Search<Weight>, bytes: &[u8]) -> (bool, bool) {
    let (mut interesting, mut checks) = (false, false);
    search.each(bytes, |weight| {
        match weight {
            Weight::Interesting => interesting = true,
            Weight::Check => checks = true,
        }
        !interesting
    });
    (interesting, checks)
}

/// What finding a needle says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    Interesting,
    Check,
}

/// What order is made of, whichever rules are selected.
const ALWAYS: &[Needle] = &[
    Needle::new("CUDA_VISIBLE_DEVICES"),
    Needle::new("CUDA_DEVICE_ORDER"),
    Needle::new("_ALLOC_CONF"),
    Needle::new("import gpupin"),
    Needle::new("environ.clear"),
    Needle::new("environ ="),
];

/// What checks of a GPU are made of. They matter only in a program's own file and in those it imports itself.
const CHECKS: &[&str] = &[
    "is_available",
    "device_count",
    "DeviceCount",
    "get_device_name",
    "get_device_prop",
    "get_device_cap",
    "list_physical_devices",
];

#[cfg(test)]
mod tests {
    use gpupin_policy::Policy;

    use super::Surveyor;
    use crate::{rules::RULES, source::Language};

    /// Every needle is found by all rules together, as it is by its own rule alone.
    #[test]
    fn no_needle_hides_another() {
        let surveyor = Surveyor::new(RULES, &Policy::default());
        for needle in RULES.iter().flat_map(|it| it.needles) {
            let followers: Vec<_> = match needle.follow.characters() {
                "" => vec![' '],
                characters => characters.chars().collect(),
            };
            for follower in followers {
                let text = format!("x {}{follower}", needle.text);
                let survey = surveyor.survey("a.json", Language::Json, text.as_bytes());
                assert!(survey.interesting, "`{text}`");
            }
        }
    }
}
