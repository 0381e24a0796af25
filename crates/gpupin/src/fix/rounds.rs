//! From findings to new contents of files, in memory.
//!
//! Fixes are applied in rounds, because one makes another possible: only once a program is pinned is `cuda:0` certain to
//! be the policy's GPU. After each round what changed is read again and everything is judged again. A file whose new
//! text does not parse, or brings a finding that was not there, is left alone, and all starts over without it: what is
//! left in the end is what a scan of the new files says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use gpupin_lint::{
    Rule,
    finding::{Edit, Finding, Safety},
    fix::{self, Wanted},
    language::encode,
    selection::Selection,
    source::{Charset, Encoding},
    unit::{Unit, UnitId},
};

use crate::{
    project::Project,
    scan::{Problem, Request, Scan, Session},
    terminal::Terminal,
};

/// Far more than fixes that make others possible need.
const ROUNDS: usize = 12;

/// A file with its new content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) key: String,
    pub(crate) path: PathBuf,
    /// None if the file is new.
    pub(crate) old: Option<Vec<u8>>,
    pub(crate) new: Vec<u8>,
    pub(crate) old_text: String,
    pub(crate) new_text: String,
}

/// How new files are written.
const UTF_8: Encoding = Encoding { byte_order_mark: false, charset: Charset::Utf8 };

/// What fixing comes to.
#[derive(Debug)]
pub(crate) struct Fixing {
    /// In path order.
    pub(crate) changed: Vec<Changed>,
    /// How many findings of each rule were fixed in each file, by path and code.
    pub(crate) fixed: BTreeMap<(String, &'static str), usize>,
    /// The project as it is then.
    pub(crate) scan: Scan,
    /// Files that were to be changed and are left alone.
    pub(crate) refused: Vec<Problem>,
}

/// Says whether a fix is wanted, and may ask somebody.
pub(crate) trait Choose {
    fn wants(
        &mut self,
        project: &Project,
        units: &[Unit],
        finding: &Finding,
        terminal: &mut Terminal,
    ) -> bool;
}

/// Takes every fix, or every safe one.
impl Choose for Wanted {
    fn wants(&mut self, _: &Project, _: &[Unit], finding: &Finding, _: &mut Terminal) -> bool {
        let is_safe = finding.fix.as_ref().is_some_and(|it| it.safety == Safety::Safe);
        *self == Self::All || is_safe
    }
}

/// What to fix.
pub(crate) struct Wish<'a> {
    /// The rules; what is scanned for may be more, so that no fix brings what nobody asked about.
    pub(crate) rules: &'a Selection,
    pub(crate) choose: &'a mut dyn Choose,
}

/// Fixes what is wanted. `obstacle` tells why a file cannot be changed.
pub(crate) fn fix(
    project: &Project,
    request: &Request,
    mut session: Session,
    wish: &mut Wish<'_>,
    obstacle: impl Fn(&std::path::Path) -> Option<String>,
    terminal: &mut Terminal,
) -> Fixing {
    let paths: BTreeMap<String, PathBuf> =
        session.files().iter().map(|it| (it.key.clone(), it.path.clone())).collect();
    let mut untouchable: BTreeMap<String, String> = BTreeMap::new();
    // None of a file that is new.
    let mut originals: BTreeMap<String, Option<Original>> = BTreeMap::new();
    let mut scan = session.scan(project, request, terminal);
    loop {
        let before = Before::of(&scan);
        let mut attempt = Attempt { within: within(&scan, wish.rules), ..Attempt::default() };
        let mut settled = false;
        for _ in 0..ROUNDS {
            let texts = attempt.round(project, &scan, wish, &untouchable, terminal, |key, unit| {
                if originals.contains_key(key) {
                    return None;
                }
                let original = match unit {
                    Some(unit) => Original::of(&paths[key], unit, &obstacle).map(Some),
                    None if project.root.join(key).exists() => {
                        Err("it is there, and was not scanned".to_owned())
                    }
                    None => Ok(None),
                };
                match original {
                    Ok(original) => {
                        originals.insert(key.to_owned(), original);
                        None
                    }
                    Err(why) => Some(why),
                }
            });
            let texts = match texts {
                Ok(texts) => texts,
                Err(refused) => {
                    // Nothing of this round was taken, so the next does without these files.
                    untouchable.extend(refused);
                    continue;
                }
            };
            if texts.is_empty() {
                settled = true;
                break;
            }
            let mut changed = BTreeMap::new();
            for (key, text) in texts {
                let encoding = originals[&key].as_ref().map_or(UTF_8, |it| it.encoding);
                match encode(&text, encoding) {
                    Some(bytes) => {
                        attempt.contents.insert(key.clone(), (text, bytes.clone()));
                        changed.insert(key, Some(bytes));
                    }
                    None => {
                        attempt.bad.insert(key, "its encoding cannot write the fix".to_owned());
                    }
                }
            }
            let units = std::mem::take(&mut scan.units);
            scan = session.rescan(project, request, units, changed, terminal);
        }
        if !settled {
            let why = "its fixes do not come to an end".to_owned();
            attempt.bad.extend(attempt.last.iter().map(|it| (it.clone(), why.clone())));
        }
        attempt.bad.extend(before.spoiled(&scan, &attempt.contents));
        if attempt.bad.is_empty() {
            let changed = attempt.contents.into_iter().filter_map(|(key, (text, bytes))| {
                let (old_text, old) = match originals.remove(&key)? {
                    Some(Original { text, bytes, .. }) => (text, Some(bytes)),
                    None => (String::new(), None),
                };
                let path = paths.get(&key).cloned().unwrap_or_else(|| project.root.join(&key));
                (old.as_ref() != Some(&bytes)).then_some(Changed {
                    path,
                    old,
                    new: bytes,
                    old_text,
                    new_text: text,
                    key,
                })
            });
            let units = &scan.units;
            scan.analysis.findings.retain(|it| is_wanted(units, wish.rules, it));
            let refused = untouchable
                .into_iter()
                .map(|(key, message)| Problem { path: project.shown(&key), message })
                .collect();
            return Fixing { changed: changed.collect(), fixed: attempt.fixed, scan, refused };
        }
        let restored = attempt
            .contents
            .keys()
            .map(|key| (key.clone(), originals[key].as_ref().map(|it| it.bytes.clone())));
        let restored = restored.collect();
        untouchable.extend(attempt.bad);
        let units = std::mem::take(&mut scan.units);
        scan = session.rescan(project, request, units, restored, terminal);
    }
}

/// What a file was.
struct Original {
    text: String,
    bytes: Vec<u8>,
    encoding: Encoding,
}

impl Original {
    fn of(
        path: &std::path::Path,
        unit: &Unit,
        obstacle: &impl Fn(&std::path::Path) -> Option<String>,
    ) -> Result<Self, String> {
        if let Some(why) = obstacle(path) {
            return Err(why);
        }
        let bytes = fs::read(path).map_err(|error| error.to_string())?;
        let source = &unit.source;
        match encode(&source.text, source.encoding) {
            Some(written) if written == bytes => {
                Ok(Self { text: source.text.clone(), bytes, encoding: source.encoding })
            }
            Some(_) => Err("it changed while it was read".to_owned()),
            None => Err("it is not valid in its encoding".to_owned()),
        }
    }
}

/// One try, without the files that are left alone.
#[derive(Default)]
struct Attempt {
    contents: BTreeMap<String, (String, Vec<u8>)>,
    fixed: BTreeMap<(String, &'static str), usize>,
    /// Files that are to be left alone in the next one, and why.
    bad: BTreeMap<String, String>,
    /// What may be changed: the files that something was found in, and those that the fixes of that change. What a
    /// fix brings to others is no reason to change these too.
    within: BTreeSet<String>,
    /// The files that the last round changed.
    last: BTreeSet<String>,
}

impl Attempt {
    /// The new texts of the files that one round changes; or the files that cannot be changed, and why.
    fn round(
        &mut self,
        project: &Project,
        scan: &Scan,
        wish: &mut Wish<'_>,
        untouchable: &BTreeMap<String, String>,
        terminal: &mut Terminal,
        mut first_touch: impl FnMut(&str, Option<&Unit>) -> Option<String>,
    ) -> Result<BTreeMap<String, String>, BTreeMap<String, String>> {
        let units = &scan.units;
        let ids = (0..).map(UnitId).zip(units);
        let new_untouchable = |path: &str| untouchable.contains_key(path);
        let untouchable: BTreeSet<UnitId> =
            ids.filter(|it| untouchable.contains_key(&it.1.source.path)).map(|it| it.0).collect();
        let touchable = |it: &&Finding| {
            let fix = it.fix.as_ref();
            fix.is_some_and(|it| {
                let key = |it: &Edit| &units[it.unit.0 as usize].source.path;
                it.edits.iter().all(|it| !untouchable.contains(&it.unit))
                    && it.edits.iter().all(|it| self.within.contains(key(it)))
                    && it.new_files.iter().all(|it| !new_untouchable(&it.path))
            })
        };
        let findings: Vec<&Finding> = scan
            .analysis
            .findings
            .iter()
            .filter(touchable)
            .filter(|it| is_wanted(units, wish.rules, it))
            .filter(|it| wish.choose.wants(project, units, it, terminal))
            .collect();
        let fixed = fix::apply(units, &findings, Wanted::All, &untouchable);
        let unit = |id: UnitId| &units[id.0 as usize];
        let mut refused = BTreeMap::new();
        for id in fixed.texts.keys() {
            let key = &unit(*id).source.path;
            if let Some(why) = first_touch(key, Some(unit(*id))) {
                refused.insert(key.clone(), why);
            }
        }
        for key in fixed.new_files.keys() {
            if let Some(why) = first_touch(key, None) {
                refused.insert(key.clone(), why);
            }
        }
        if !refused.is_empty() {
            return Err(refused);
        }
        for at in &fixed.applied {
            let finding = findings[*at];
            let path = unit(finding.unit).source.path.clone();
            *self.fixed.entry((path, finding.rule.code)).or_default() += 1;
        }
        let changes = |it: &(UnitId, String)| unit(it.0).source.text != it.1;
        let texts: BTreeMap<String, String> = fixed
            .texts
            .into_iter()
            .filter(changes)
            .map(|(id, text)| (unit(id).source.path.clone(), text))
            .chain(fixed.new_files)
            .collect();
        self.last = texts.keys().cloned().collect();
        Ok(texts)
    }
}

fn is_wanted(units: &[Unit], rules: &Selection, finding: &Finding) -> bool {
    rules.includes(finding.rule, &units[finding.unit.0 as usize].source.path)
}

/// The files that something was found in, and those that fixes of it change.
fn within(scan: &Scan, rules: &Selection) -> BTreeSet<String> {
    let path = |it: UnitId| scan.units[it.0 as usize].source.path.clone();
    let mut within = BTreeSet::new();
    let wanted = |it: &&Finding| is_wanted(&scan.units, rules, it);
    for finding in scan.analysis.findings.iter().filter(wanted) {
        within.insert(path(finding.unit));
        let Some(fix) = &finding.fix else { continue };
        within.extend(fix.edits.iter().map(|it| path(it.unit)));
        within.extend(fix.new_files.iter().map(|it| it.path.clone()));
    }
    within
}

/// What was there before anything was fixed, to tell what fixing brought.
struct Before {
    syntax_errors: BTreeMap<String, usize>,
    findings: BTreeMap<(&'static str, String), usize>,
    /// The programs that findings about programs are about, by code.
    programs: BTreeSet<(&'static str, String)>,
}

impl Before {
    fn of(scan: &Scan) -> Self {
        let errors = scan.units.iter().map(|it| (it.source.path.clone(), it.syntax_errors.len()));
        let about = scan.analysis.findings.iter().filter(|it| it.rule.is_about_programs());
        let programs = about.flat_map(|it| programs(scan, it).map(|path| (it.rule.code, path)));
        Self {
            syntax_errors: errors.collect(),
            findings: counted(scan),
            programs: programs.collect(),
        }
    }

    /// Files that changed for the worse, and how.
    fn spoiled(
        &self,
        scan: &Scan,
        changed: &BTreeMap<String, (String, Vec<u8>)>,
    ) -> BTreeMap<String, String> {
        let mut bad = BTreeMap::new();
        for unit in &scan.units {
            let key = &unit.source.path;
            let before = self.syntax_errors.get(key).copied().unwrap_or_default();
            if changed.contains_key(key) && unit.syntax_errors.len() > before {
                bad.insert(key.clone(), "its fixes would leave a syntax error".to_owned());
            }
        }
        let path = |id: UnitId| &scan.units[id.0 as usize].source.path;
        let now = counted(scan);
        let worse = now.iter().filter(|it| self.findings.get(it.0).is_none_or(|was| was < it.1));
        for ((code, key), _) in worse {
            let of_kind = |it: &&Finding| it.rule.code == *code && path(it.unit) == key;
            let is_new = |it: &&Finding| {
                let was_found = |path| self.programs.contains(&(it.rule.code, path));
                let is_about = it.rule.is_about_programs() && !it.programs.is_empty();
                !(is_about && programs(scan, it).all(was_found))
            };
            for finding in scan.analysis.findings.iter().filter(of_kind).filter(is_new) {
                let place = scan.units[finding.unit.0 as usize].source.place(finding.span.start);
                let why = format!(
                    "its fixes would bring {code} to `{key}`, line {}: {}",
                    place.line, finding.message
                );
                let others = finding.related.iter().map(|it| it.unit);
                let others = others.chain(finding.programs.iter().copied()).map(path);
                let involved: BTreeSet<_> = others.filter(|it| changed.contains_key(*it)).collect();
                let blamed: Vec<&String> = if changed.contains_key(path(finding.unit)) {
                    vec![path(finding.unit)]
                } else if involved.is_empty() {
                    // Something brought it, and nothing says what.
                    changed.keys().collect()
                } else {
                    involved.into_iter().collect()
                };
                bad.extend(blamed.into_iter().map(|it| (it.clone(), why.clone())));
            }
        }
        bad
    }
}

/// The files in which the programs start that a finding is about.
fn programs<'a>(scan: &'a Scan, finding: &'a Finding) -> impl Iterator<Item = String> + 'a {
    finding.programs.iter().map(|it| scan.units[it.0 as usize].source.path.clone())
}

/// How many findings of each rule each file has.
fn counted(scan: &Scan) -> BTreeMap<(&'static str, String), usize> {
    let mut counted = BTreeMap::new();
    for finding in &scan.analysis.findings {
        let path = scan.units[finding.unit.0 as usize].source.path.clone();
        *counted.entry((finding.rule.code, path)).or_default() += 1;
    }
    counted
}

/// Why findings of a rule are left, each with how many. `unsafe_too` tells whether unsafe fixes were wanted.
pub(crate) fn left(
    scan: &Scan,
    unsafe_too: bool,
) -> BTreeMap<&'static str, (&'static Rule, BTreeMap<String, usize>)> {
    let mut left: BTreeMap<&'static str, (&'static Rule, BTreeMap<String, usize>)> =
        BTreeMap::new();
    for finding in &scan.analysis.findings {
        let why = match finding.fix.as_ref().map(|it| &it.safety) {
            None => "no fix is known".to_owned(),
            Some(Safety::Unsafe(why)) if !unsafe_too => format!("unsafe: {why}"),
            Some(_) => "its fix was not made".to_owned(),
        };
        let (_, reasons) = left.entry(finding.rule.code).or_insert((finding.rule, BTreeMap::new()));
        *reasons.entry(why).or_default() += 1;
    }
    left
}
