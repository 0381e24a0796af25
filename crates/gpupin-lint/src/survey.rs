//! Which files are worth parsing.
//!
//! Parsing costs fifty times as much as looking for bytes, and most files of most projects have nothing
//! to do with GPUs. So every file is first surveyed: does it hold a needle of a selected rule, which
//! modules does it import, does it look like a program? [`Reading`] then asks for the files that can
//! matter, in rounds, because what was read decides what else must be:
//!
//! 1. files with a needle, and programs that lead to a GPU library or to a file with a needle;
//! 2. for each of these programs, the modules on the way to its first GPU library;
//! 3. where a pin is set or removed, everything that runs in the same program;
//! 4. modules that define a constant or function which a file refers to.
//!
//! **Invariant:** the findings are those of a scan that parses everything. CI compares the two.

use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use globset::GlobSet;
use gpupin_policy::{Policy, RequirePinIn};

use crate::{needle::Needle, program::entries, rules::Rule, source::Language};

pub(crate) mod imports;
mod reading;

pub use reading::Reading;

/// Looks at bytes. Made once per scan and shared by all threads.
#[derive(Debug)]
pub struct Surveyor {
    automaton: AhoCorasick,
    /// The longest first.
    needles: Vec<Needle>,
    /// For each needle the others that it begins with: they begin where it does and are not found.
    inner: Vec<Vec<Needle>>,
    /// Variables of the policy's `[env]`, which order rules follow.
    variables: Vec<String>,
    /// Files that the policy names as programs.
    programs: GlobSet,
    every_gpu_file: bool,
}

/// What a look at a file's bytes tells.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// A needle was found: the file is read in any case.
    pub interesting: bool,
    /// A Python file may run GPU code by itself: it imports a GPU library.
    pub(crate) uses_gpu: bool,
    /// A Python file may be a program.
    pub(crate) program: bool,
    /// What a Python file imports, packed: see [`imports::Imports`].
    pub(crate) imports: imports::Imports,
}

impl Surveyor {
    pub fn new<'r>(rules: impl IntoIterator<Item = &'r Rule>, policy: &Policy) -> Self {
        let all: BTreeSet<(&str, &str)> = rules
            .into_iter()
            .flat_map(|it| it.needles)
            .chain(ALWAYS)
            .map(|it| (it.text, it.follow.characters()))
            .collect();
        let variables: Vec<String> = policy.env.keys().cloned().collect();
        let mut needles = without_covered(&all);
        // Of several that begin at one place the first one is found, so the longest comes first.
        needles.sort_by_key(|it| std::cmp::Reverse(it.text.len()));
        let inner = |it: &Needle| needles_that_begin(&needles, it);
        let inner = needles.iter().map(inner).collect();
        // Variables come before the needles: each counts wherever it is found.
        let texts = variables.iter().map(String::as_str).chain(needles.iter().map(|it| it.text));
        // Leftmost-first is the kind for which the crate can use SIMD.
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .build(texts)
            .expect("a few short literals are no pattern set that is too large");
        Self {
            automaton,
            needles,
            inner,
            variables,
            programs: entries::named_by_policy(policy),
            every_gpu_file: policy.lint.require_pin_in == RequirePinIn::EveryGpuFile,
        }
    }

    /// The literals that are looked for, for comparison with other tools.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.needles.iter().map(|it| it.text).chain(self.variables.iter().map(String::as_str))
    }

    pub fn survey(&self, path: &str, language: Language, bytes: &[u8]) -> Survey {
        // PowerShell writes UTF-16, in which no needle can be seen.
        let is_utf_16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
        let interesting = is_utf_16 || self.has_needle(bytes);
        match language {
            Language::Python => {
                let imports = imports::scan(bytes);
                let uses_gpu = imports.name_a_gpu_library();
                Survey {
                    interesting: interesting || (uses_gpu && self.every_gpu_file),
                    uses_gpu,
                    program: imports::looks_like_a_program(path, bytes)
                        || self.programs.is_match(path),
                    imports,
                }
            }
            // A notebook is a program; its imports stand in JSON strings.
            Language::Notebook => {
                let imports = imports::scan(bytes);
                Survey {
                    interesting: interesting || imports.name_a_gpu_library(),
                    program: true,
                    imports,
                    uses_gpu: false,
                }
            }
            // Scripts and services make programs of the files they start, whatever else they say.
            Language::Shell
            | Language::PowerShell
            | Language::Batch
            | Language::Dockerfile
            | Language::Compose
            | Language::Kubernetes
            | Language::Workflow
            | Language::Systemd
            | Language::Makefile => Survey {
                interesting: interesting || imports::may_start_python(bytes),
                ..Survey::default()
            },
            Language::Toml | Language::Ini => Survey {
                interesting: interesting || imports::declares_scripts(bytes),
                ..Survey::default()
            },
            Language::Dotenv => Survey { interesting: true, ..Survey::default() },
            Language::Json | Language::Yaml => Survey { interesting, ..Survey::default() },
        }
    }

    fn has_needle(&self, bytes: &[u8]) -> bool {
        let mut from = 0;
        while let Some(found) = self.automaton.find(Input::new(bytes).span(from..bytes.len())) {
            let Some(index) = found.pattern().as_usize().checked_sub(self.variables.len()) else {
                return true;
            };
            let inner = self.inner[index].iter();
            let counts = |it: &Needle| it.counts_at(bytes, found.start() + it.text.len());
            if std::iter::once(&self.needles[index]).chain(inner).any(counts) {
                return true;
            }
            from = found.start() + 1;
        }
        false
    }
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

/// The needles with which `needle` begins, without itself.
fn needles_that_begin(needles: &[Needle], needle: &Needle) -> Vec<Needle> {
    let begins = |it: &&Needle| *it != needle && needle.text.starts_with(it.text);
    needles.iter().filter(begins).copied().collect()
}

/// The needles without those in which a shorter one is found anyway: fewer are looked for faster.
fn without_covered(all: &BTreeSet<(&'static str, &'static str)>) -> Vec<Needle> {
    let covers = |short: &(&str, &str), long: &(&str, &str)| {
        short != long && short.1.is_empty() && long.0.contains(short.0)
    };
    all.iter()
        .filter(|long| !all.iter().any(|short| covers(short, long)))
        .map(
            |(text, follow)| {
                if follow.is_empty() { Needle::new(text) } else { Needle::before(text, follow) }
            },
        )
        .collect()
}

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
