//! From findings to new contents of files, in memory.
//!
//! Fixes are applied in rounds, because one makes another possible: only once a program is pinned is `cuda:0` certain to
//! be the policy's GPU. After each round what changed is read again and everything is judged again. A file whose new
//! text does not parse, or brings a finding that was not there, becomes what it was, with all that shared a fix with
//! it, and the rounds go on with fewer fixes ([`Trial`]): what is left in the end is what a scan of the new files says.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use gpupin_lint::{
    finding::{Edit, Finding, Fix, Safety},
    fix::{self, Wanted},
    language::encode,
    selection::Selection,
    source::{Charset, Encoding},
    unit::{Unit, UnitId},
};

use crate::{
    fix::{
        judge::Judge,
        spoiled::{Before, programs},
        trial::{Id, Most, Trial, first_lines},
    },
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

/// How many, by path and code.
pub(crate) type Counts = BTreeMap<(String, &'static str), usize>;

/// What fixing comes to.
#[derive(Debug)]
pub(crate) struct Fixing {
    /// In path order.
    pub(crate) changed: Vec<Changed>,
    /// How many findings of each rule were fixed in each file, of those that there were at first.
    pub(crate) fixed: Counts,
    /// The same of those that one fix brought and another one mended.
    pub(crate) brought: Counts,
    /// The project as it is then.
    pub(crate) scan: Scan,
    /// Of findings that are left although their fix was wanted, by their place in the scan: what it would spoil.
    pub(crate) spoiling: BTreeMap<usize, String>,
    /// Files that were to be changed and are left alone.
    pub(crate) refused: Vec<Problem>,
    /// In which the changes are made.
    pub(crate) session: Session,
}

/// Files as they are: on the disk, or in an editor.
pub(crate) struct Files<O, R> {
    /// Why a file cannot be changed.
    pub(crate) obstacle: O,
    pub(crate) read: R,
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

/// Fixes what is wanted.
pub(crate) fn fix(
    project: &Project,
    request: &Request,
    session: Session,
    wish: &mut Wish<'_>,
    files: &Files<impl Fn(&Path) -> Option<String>, impl Fn(&Path) -> io::Result<Vec<u8>>>,
    terminal: &mut Terminal,
) -> Fixing {
    let paths: BTreeMap<String, PathBuf> =
        session.files().iter().map(|it| (it.key.clone(), it.path.clone())).collect();
    let mut untouchable: BTreeMap<String, String> = BTreeMap::new();
    // None of a file that is new.
    let mut originals: BTreeMap<String, Option<Original>> = BTreeMap::new();
    let mut judge = Judge::new(project, request, session);
    let mut scan = judge.scan(terminal);
    let before = Before::of(&scan);
    let mut work = Work { within: within(&scan, wish.rules), ..Work::default() };
    loop {
        let mut settled = false;
        for _ in 0..ROUNDS {
            let lines = FirstLines::of(&scan, &originals);
            let texts =
                work.round(project, &scan, wish, (&untouchable, &lines), terminal, |key, unit| {
                    if originals.contains_key(key) {
                        return None;
                    }
                    let original = match unit {
                        Some(unit) => Original::of(&paths[key], unit, files).map(Some),
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
            let contents = match texts.and_then(|it| encoded(it, &originals)) {
                Ok(contents) => contents,
                Err(refused) => {
                    // Nothing of this round was taken, so the next does without these files.
                    work.applied.truncate(work.settled);
                    untouchable.extend(refused);
                    continue;
                }
            };
            if contents.is_empty() {
                work.applied.truncate(work.settled);
                settled = true;
                break;
            }
            work.settled = work.applied.len();
            work.last = contents.keys().cloned().collect();
            let changed = contents.iter().map(|it| (it.0.clone(), Some(it.1.1.clone())));
            let changed = changed.collect();
            work.contents.extend(contents);
            scan = judge.rescan(scan, changed, terminal);
        }
        let mut spoiled = before.spoiled(&scan, &work.contents, &work.on_trial());
        if !settled {
            let why = "it brings itself back";
            spoiled.blamed.extend(work.last.iter().map(|it| (it.clone(), why.to_owned())));
        }
        let is_last = spoiled.blamed.is_empty() && !work.trial.passes();
        if is_last && !judge.is_narrow() {
            let lacking = work.without_pin(&untouchable);
            if lacking.is_empty() {
                break;
            }
            let (reverted, _) = work.revert(work.sharing(lacking));
            scan = judge.rescan(scan, restored(reverted, &originals), terminal);
            continue;
        }
        let reverted = work.sharing(spoiled.blamed.keys().cloned().collect());
        if is_last || reverted.iter().any(|it| judge.leaves_out(it)) {
            scan = judge.widen(scan, terminal);
            continue;
        }
        if reverted.is_empty() {
            continue;
        }
        if settled {
            let around = &reverted | &spoiled.places;
            let shows = |it: &Scan| before.spoiled(it, &work.contents, &work.on_trial()) == spoiled;
            scan = judge.narrow(scan, &around, shows, terminal);
        }
        let bad = spoiled.blamed;
        let (reverted, made) = work.revert(reverted);
        let restored = restored(reverted, &originals);
        let any = bad.values().next().cloned().unwrap_or_default();
        let why = |id: &Id| bad.get(&id.path).unwrap_or(&any).clone();
        let most = if judge.is_narrow() { Most::Many } else { Most::Few };
        if !work.trial.fails(&made, most, why) {
            untouchable.extend(bad);
        }
        scan = judge.rescan(scan, restored, terminal);
    }
    let (fixed, brought) = work.fixed(&before.ids);
    let units = &scan.units;
    scan.analysis.findings.retain(|it| is_wanted(units, wish.rules, it));
    let lines = FirstLines::of(&scan, &originals);
    let why = |it: &Finding| {
        let rests = |fix: &Fix| {
            let path = work.refused_pin(units, fix, &untouchable)?;
            Some(format!("it rests on the pin of `{}`, which was not made", project.shown(&path)))
        };
        let own = work.trial.why(&lines.id(units, it)).map(str::to_owned);
        own.or_else(|| it.fix.as_ref().and_then(rests))
    };
    let findings = scan.analysis.findings.iter().enumerate();
    let spoiling = findings.filter_map(|(at, it)| Some((at, why(it)?))).collect();
    let changed = work.contents.into_iter().filter_map(|(key, (text, bytes))| {
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
    let refused = untouchable
        .into_iter()
        .map(|(key, message)| Problem { path: project.shown(&key), message })
        .collect();
    Fixing {
        changed: changed.collect(),
        fixed,
        brought,
        scan,
        spoiling,
        refused,
        session: judge.into_session(),
    }
}

/// Files as they were.
fn restored(
    keys: BTreeSet<String>,
    originals: &BTreeMap<String, Option<Original>>,
) -> BTreeMap<String, Option<Vec<u8>>> {
    let bytes = |key: &String| originals[key].as_ref().map(|it| it.bytes.clone());
    keys.into_iter().map(|key| (key.clone(), bytes(&key))).collect()
}

/// The texts of files with the bytes that they are written as; or the files whose encoding cannot write them.
fn encoded(
    texts: BTreeMap<String, String>,
    originals: &BTreeMap<String, Option<Original>>,
) -> Result<Contents, BTreeMap<String, String>> {
    let mut contents = Contents::new();
    let mut refused = BTreeMap::new();
    for (key, text) in texts {
        let encoding = originals[&key].as_ref().map_or(UTF_8, |it| it.encoding);
        match encode(&text, encoding) {
            Some(bytes) => {
                contents.insert(key, (text, bytes));
            }
            None => {
                refused.insert(key, "its encoding cannot write the fix".to_owned());
            }
        }
    }
    if refused.is_empty() { Ok(contents) } else { Err(refused) }
}

/// What a file was.
struct Original {
    text: String,
    bytes: Vec<u8>,
    encoding: Encoding,
}

impl Original {
    fn of(
        path: &Path,
        unit: &Unit,
        files: &Files<impl Fn(&Path) -> Option<String>, impl Fn(&Path) -> io::Result<Vec<u8>>>,
    ) -> Result<Self, String> {
        if let Some(why) = (files.obstacle)(path) {
            return Err(why);
        }
        let bytes = (files.read)(path).map_err(|error| error.to_string())?;
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

/// Texts of files and their bytes, by key.
type Contents = BTreeMap<String, (String, Vec<u8>)>;

/// What has been done.
#[derive(Default)]
struct Work {
    contents: Contents,
    applied: Vec<Applied>,
    /// How many of `applied` are in the contents: the last ones may be of a round that was not taken.
    settled: usize,
    /// What may be changed: the files that something was found in, and those that the fixes of that change. What a
    /// fix brings to others is no reason to change these too.
    within: BTreeSet<String>,
    /// The files that the last round changed.
    last: BTreeSet<String>,
    /// Of the fixes that pin programs, where these start.
    pins: BTreeMap<Id, BTreeSet<String>>,
    trial: Trial,
}

/// A fix that was made.
struct Applied {
    /// Of the finding.
    id: Id,
    /// What it changes.
    files: BTreeSet<String>,
    /// Programs that it needs to be pinned.
    rests_on: BTreeSet<String>,
}

impl Work {
    /// Files of the fixes that are tried now.
    fn on_trial(&self) -> BTreeSet<String> {
        let tried = self.applied.iter().filter(|it| self.trial.is_trying(&it.id));
        tried.flat_map(|it| it.files.iter().cloned()).collect()
    }

    /// How many findings of each rule were fixed in each file: of those that there were at first, and of others.
    fn fixed(&self, first: &BTreeSet<Id>) -> (Counts, Counts) {
        let (mut fixed, mut brought) = (Counts::new(), Counts::new());
        for it in &self.applied {
            let counts = if first.contains(&it.id) { &mut fixed } else { &mut brought };
            *counts.entry((it.id.path.clone(), it.id.code)).or_default() += 1;
        }
        (fixed, brought)
    }

    /// A program that a fix needs to be pinned, and that is not because its own fix cannot be made.
    fn refused_pin(
        &self,
        units: &[Unit],
        fix: &Fix,
        untouchable: &BTreeMap<String, String>,
    ) -> Option<String> {
        let mut programs = fix.rests_on.iter().map(|it| &units[it.0 as usize].source.path);
        programs.find(|it| self.is_pin_refused(it, untouchable)).cloned()
    }

    fn is_pin_refused(&self, path: &str, untouchable: &BTreeMap<String, String>) -> bool {
        let mut pins = self.pins.iter();
        untouchable.contains_key(path)
            || pins.any(|(id, it)| it.contains(path) && self.trial.why(id).is_some())
    }

    /// Files of fixes that were made before it was known that the pin they need cannot be.
    fn without_pin(&self, untouchable: &BTreeMap<String, String>) -> BTreeSet<String> {
        let lacks =
            |it: &&Applied| it.rests_on.iter().any(|it| self.is_pin_refused(it, untouchable));
        self.applied.iter().filter(lacks).flat_map(|it| it.files.iter().cloned()).collect()
    }

    /// Some files and those that share a fix with them, since a fix is made whole or not at all.
    fn sharing(&self, mut files: BTreeSet<String>) -> BTreeSet<String> {
        loop {
            let shares = |it: &&Applied| !it.files.is_disjoint(&files);
            let shared = self.applied.iter().filter(shares).flat_map(|it| it.files.iter().cloned());
            let all: BTreeSet<String> = files.iter().cloned().chain(shared).collect();
            if all.len() == files.len() {
                return all;
            }
            files = all;
        }
    }

    /// Takes back what was done to files that share no fix with others. Gives those that had changed, and what was made there.
    fn revert(&mut self, mut files: BTreeSet<String>) -> (BTreeSet<String>, BTreeSet<Id>) {
        let stays = |it: &Applied| it.files.is_disjoint(&files);
        let made = self.applied.iter().filter(|it| !stays(it)).map(|it| it.id.clone()).collect();
        self.applied.retain(stays);
        self.settled = self.applied.len();
        files.retain(|it| self.contents.remove(it).is_some());
        (files, made)
    }

    /// The new texts of the files that one round changes; or the files that cannot be changed, and why.
    fn round(
        &mut self,
        project: &Project,
        scan: &Scan,
        wish: &mut Wish<'_>,
        (untouchable, lines): (&BTreeMap<String, String>, &FirstLines),
        terminal: &mut Terminal,
        mut first_touch: impl FnMut(&str, Option<&Unit>) -> Option<String>,
    ) -> Result<BTreeMap<String, String>, BTreeMap<String, String>> {
        let units = &scan.units;
        let ids = (0..).map(UnitId).zip(units);
        let named = untouchable;
        let new_untouchable = |path: &str| named.contains_key(path);
        let untouchable: BTreeSet<UnitId> =
            ids.filter(|it| named.contains_key(&it.1.source.path)).map(|it| it.0).collect();
        let touchable = |it: &&Finding| {
            let fix = it.fix.as_ref();
            fix.is_some_and(|it| {
                let key = |it: &Edit| &units[it.unit.0 as usize].source.path;
                it.edits.iter().all(|it| !untouchable.contains(&it.unit))
                    && it.edits.iter().all(|it| self.within.contains(key(it)))
                    && it.new_files.iter().all(|it| !new_untouchable(&it.path))
                    && self.refused_pin(units, it, named).is_none()
            })
        };
        let findings: Vec<&Finding> = scan
            .analysis
            .findings
            .iter()
            .filter(touchable)
            .filter(|it| is_wanted(units, wish.rules, it))
            .filter(|it| self.trial.allows(&lines.id(units, it)))
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
            let path = |id: UnitId| unit(id).source.path.clone();
            let fix = finding.fix.iter();
            let rests_on = fix.clone().flat_map(|it| &it.rests_on).map(|it| path(*it));
            let rests_on = rests_on.collect();
            let edited = fix.clone().flat_map(|it| &it.edits).map(|it| path(it.unit));
            let made = fix.flat_map(|it| &it.new_files).map(|it| it.path.clone());
            let id = lines.id(units, finding);
            if finding.rule.is_about_programs() {
                let pinned = programs(scan, finding).chain([path(finding.unit)]);
                self.pins.insert(id.clone(), pinned.collect());
            }
            self.applied.push(Applied { id, files: edited.chain(made).collect(), rests_on });
        }
        let changes = |it: &(UnitId, String)| unit(it.0).source.text != it.1;
        let texts: BTreeMap<String, String> = fixed
            .texts
            .into_iter()
            .filter(changes)
            .map(|(id, text)| (unit(id).source.path.clone(), text))
            .chain(fixed.new_files)
            .collect();
        Ok(texts)
    }
}

/// Of files that were changed, which line each line was at first.
#[derive(Default)]
pub(super) struct FirstLines(BTreeMap<String, Vec<Option<usize>>>);

impl FirstLines {
    fn of(scan: &Scan, originals: &BTreeMap<String, Option<Original>>) -> Self {
        let lines = |unit: &Unit| {
            let original = originals.get(&unit.source.path)?.as_ref()?;
            let is_changed = original.text != unit.source.text;
            is_changed.then(|| first_lines(&original.text, &unit.source.text))
        };
        let units = scan.units.iter();
        Self(units.filter_map(|it| Some((it.source.path.clone(), lines(it)?))).collect())
    }

    pub(super) fn id(&self, units: &[Unit], finding: &Finding) -> Id {
        let source = &units[finding.unit.0 as usize].source;
        let line = source.place(finding.span.start).line as usize - 1;
        let line = match self.0.get(&source.path) {
            Some(lines) => lines.get(line).copied().flatten(),
            None => Some(line),
        };
        Id { path: source.path.clone(), code: finding.rule.code, line }
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
