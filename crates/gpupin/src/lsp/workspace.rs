use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use gpupin_lint::{
    Options,
    finding::{Finding, Safety},
    unit::{Unit, UnitId},
};
use lsp_types::Diagnostic;

use super::{
    client::Abilities,
    diagnostic,
    places::{Documents, Places},
    settings::Settings,
    text::{Encoding, Lines},
};
use crate::{
    failure::Failure,
    fix::rounds::{self, Changed, Choose, Files, Fixing, Wish},
    overlay::Overlay,
    project::{self, InvalidFile, LOCK, POLICY, PYPROJECT, Project},
    scan::{self, Request, Scan, Session},
    terminal::Terminal,
};

/// A project that is kept scanned.
#[derive(Debug)]
pub(super) struct Workspace {
    pub(super) at: At,
    state: State,
    /// Files that changed since the last scan, or were opened or closed.
    touched: BTreeSet<PathBuf>,
    /// Whether files may have come or gone.
    walk_again: bool,
    /// What all safe fixes of a file come to, since the last scan.
    fixed: Option<(PathBuf, Vec<Changed>)>,
}

/// What is scanned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum At {
    /// A folder of the editor's workspace.
    Folder(PathBuf),
    /// A file outside of all folders, with the project around it if a policy declares one.
    File(PathBuf),
}

#[derive(Debug)]
enum State {
    Closed,
    Open(Box<Open>),
    Failed(Failure),
}

#[derive(Debug)]
struct Open {
    project: Project,
    request: Request,
    session: Session,
    scan: Scan,
}

impl Workspace {
    pub(super) fn new(at: At) -> Self {
        Self { at, state: State::Closed, touched: BTreeSet::new(), walk_again: false, fixed: None }
    }

    /// Whether it answers for a file, however it was come by.
    pub(super) fn holds(&self, path: &Path) -> bool {
        match (&self.at, &self.state) {
            (At::Folder(folder), _) => path.starts_with(folder),
            (At::File(file), _) if file == path => true,
            (At::File(_), State::Open(open)) => {
                open.project.policy_path.is_some() && path.starts_with(&open.project.root)
            }
            (At::File(_), _) => false,
        }
    }

    /// Takes note that a file may have another text than at the last scan.
    pub(super) fn touch(&mut self, path: &Path) {
        self.touched.insert(path.to_owned());
    }

    /// Takes note that a file is there, which may be new, and may not be on disk yet.
    pub(super) fn look_for(&mut self, path: &Path) {
        self.touch(path);
        if let State::Open(open) = &self.state {
            let is_known = is_found(&open.session, &open.project.key(path));
            self.walk_again |= !is_known && self.may_find(path);
        }
    }

    /// Takes note of what the disk tells.
    pub(super) fn touch_on_disk(&mut self, path: &Path, came_or_went: bool) {
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        let decides_what_is_found = matches!(name, ".gitignore" | ".ignore");
        if matches!(name, POLICY | PYPROJECT | LOCK) && self.depends_on(path) {
            self.state = State::Closed;
        } else if decides_what_is_found || self.may_find(path) {
            self.walk_again |= came_or_went || decides_what_is_found;
            self.touch(path);
        }
    }

    /// Whether a policy or lock file there may be this project's.
    fn depends_on(&self, path: &Path) -> bool {
        let (At::Folder(start) | At::File(start)) = &self.at;
        path.parent().is_some_and(|it| start.starts_with(it))
    }

    fn may_find(&self, path: &Path) -> bool {
        match (&self.at, &self.state) {
            (_, State::Open(open)) => {
                open.request.paths.iter().any(|top| top == path || scan::may_find(top, path))
            }
            (At::Folder(folder), _) => scan::may_find(folder, path),
            (At::File(file), _) => file == path,
        }
    }

    /// Forgets everything, after it ended in an error of its own.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.state = State::Failed(failure);
        self.touched.clear();
    }

    pub(super) fn failure(&self) -> Option<&Failure> {
        match &self.state {
            State::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// Scans if something changed. Whether it did.
    pub(super) fn refresh(
        &mut self,
        documents: &Documents,
        settings: &Settings,
        terminal: &mut Terminal,
    ) -> bool {
        let touched = std::mem::take(&mut self.touched);
        let walk_again = std::mem::take(&mut self.walk_again);
        if !touched.is_empty() || walk_again || !matches!(self.state, State::Open(_)) {
            self.fixed = None;
        }
        // While this runs, and if it does not come to its end, nothing is known.
        let state = std::mem::replace(&mut self.state, State::Closed);
        let open = match state {
            State::Open(open) => again(*open, &touched, walk_again, documents, terminal),
            State::Failed(failure) if touched.is_empty() && !walk_again => {
                self.state = State::Failed(failure);
                return false;
            }
            State::Failed(_) | State::Closed => {
                first(&self.at, documents, settings, terminal).map(|it| (it, true))
            }
        };
        match open {
            Ok((open, has_changed)) => {
                self.state = State::Open(Box::new(open));
                has_changed
            }
            Err(failure) => {
                self.state = State::Failed(failure);
                true
            }
        }
    }

    /// The findings of a file, and what tells their places.
    pub(super) fn findings<'a>(
        &'a self,
        path: &Path,
        documents: &'a Documents,
        encoding: Encoding,
    ) -> Option<(Vec<&'a Finding>, Places<'a>)> {
        let State::Open(open) = &self.state else { return None };
        let Open { project, scan, .. } = &**open;
        let key = project.key(path);
        let unit = scan.units.binary_search_by(|it| it.source.path.cmp(&key)).ok()?;
        let unit = UnitId(u32::try_from(unit).ok()?);
        let findings = scan.analysis.findings.iter().filter(|it| it.unit == unit).collect();
        Some((findings, Places::new(project, &scan.units, documents, encoding)))
    }

    /// What all safe fixes of a file come to, in the rounds that `gpupin fix` makes. In the end everything is as it was.
    pub(super) fn fixed(
        &mut self,
        path: &Path,
        documents: &Documents,
        terminal: &mut Terminal,
    ) -> Vec<Changed> {
        if let Some((_, changed)) = self.fixed.as_ref().filter(|it| it.0 == path) {
            return changed.clone();
        }
        if !self.has_safe_fix(path) {
            return Vec::new();
        }
        let State::Open(open) = std::mem::replace(&mut self.state, State::Closed) else {
            return Vec::new();
        };
        let Open { project, request, session, scan } = *open;
        let rules = request.options.selection.clone();
        let mut choose = SafeIn(project.key(path));
        let mut wish = Wish { rules: &rules, choose: &mut choose };
        let files = Files {
            // What the editor does with a file is the editor's business.
            obstacle: |_: &Path| None,
            read: |it: &Path| match documents.get(&project::normal(it)) {
                Some(document) => Ok(document.contents()),
                None => std::fs::read(it),
            },
        };
        let session = session.knowing(scan.units);
        let fixing = rounds::fix(&project, &request, session, &mut wish, &files, terminal);
        let Fixing { changed, scan, mut session, .. } = fixing;
        let before = changed.iter().map(|it| (it.key.clone(), it.old.clone())).collect();
        let scan = session.rescan(&project, &request, scan.units, before, terminal);
        self.state = State::Open(Box::new(Open { project, request, session, scan }));
        self.fixed = Some((path.to_owned(), changed.clone()));
        changed
    }

    fn has_safe_fix(&self, path: &Path) -> bool {
        let State::Open(open) = &self.state else { return false };
        let Open { project, scan, .. } = &**open;
        let key = project.key(path);
        scan.analysis.findings.iter().any(|it| is_safe_in(&key, &scan.units, it))
    }

    /// What is to be shown, by file.
    pub(super) fn diagnostics(
        &self,
        documents: &Documents,
        can: &Abilities,
    ) -> BTreeMap<PathBuf, Vec<Diagnostic>> {
        let mut shown: BTreeMap<PathBuf, Vec<Diagnostic>> = BTreeMap::new();
        match &self.state {
            State::Closed => {}
            State::Open(open) => {
                let Open { project, scan, .. } = &**open;
                let mut places = Places::new(project, &scan.units, documents, can.encoding);
                for finding in &scan.analysis.findings {
                    let diagnostic = diagnostic::of_finding(finding, &mut places, can);
                    shown.entry(places.path(finding.unit)).or_default().push(diagnostic);
                }
            }
            State::Failed(failure) => {
                if let Some(InvalidFile { path, problems, .. }) = failure.downcast()
                    && let Ok(text) = std::fs::read_to_string(path)
                {
                    // What was read had no mark.
                    let lines = Lines::new(text.trim_start_matches('\u{feff}'), can.encoding);
                    let problems = problems.iter().map(|it| diagnostic::of_problem(it, &lines));
                    shown.insert(path.clone(), problems.collect());
                }
            }
        }
        shown
    }
}

/// Takes the safe fixes of one file.
struct SafeIn(String);

impl Choose for SafeIn {
    fn wants(&mut self, _: &Project, units: &[Unit], it: &Finding, _: &mut Terminal) -> bool {
        is_safe_in(&self.0, units, it)
    }
}

fn is_safe_in(key: &str, units: &[Unit], finding: &Finding) -> bool {
    units[finding.unit.0 as usize].source.path == key
        && finding.fix.as_ref().is_some_and(|it| it.safety == Safety::Safe)
}

/// Opens the project and scans it.
fn first(
    at: &At,
    documents: &Documents,
    settings: &Settings,
    terminal: &mut Terminal,
) -> Result<Open, Failure> {
    let (directory, start) = match at {
        At::Folder(folder) => (folder.clone(), folder),
        At::File(file) => (file.parent().unwrap_or(file).to_owned(), file),
    };
    let project = project::open_from(
        &Overlay::default(),
        directory,
        &settings.project(),
        Some(start),
        terminal,
    )?;
    let path = match (at, &project.policy_path) {
        (At::File(_), Some(_)) => project.root.clone(),
        (At::Folder(path) | At::File(path), _) => path.clone(),
    };
    let selection = scan::selection(&settings.overrides(), &project)?;
    let request = Request {
        paths: vec![path],
        exclude: Vec::new(),
        respect_gitignore: true,
        threads: scan::cores(),
        prefilter: true,
        options: Options { selection, ..Options::default() },
    };
    let mut tree = Overlay::default();
    for (path, document) in documents {
        tree.insert(path.clone(), Some(document.contents()));
    }
    let mut session = Session::open_in(&tree, &project, &request, terminal)?.repeatable();
    let scan = session.scan(&project, &request, terminal);
    tell_problems(&scan, terminal);
    Ok(Open { project, request, session, scan })
}

/// Scans what changed once more. Whether something did.
fn again(
    open: Open,
    touched: &BTreeSet<PathBuf>,
    walk_again: bool,
    documents: &Documents,
    terminal: &mut Terminal,
) -> Result<(Open, bool), Failure> {
    let Open { project, request, mut session, scan } = open;
    let keys: BTreeMap<String, &PathBuf> =
        touched.iter().map(|path| (project.key(path), path)).collect();
    let mut has_changed = false;
    if walk_again {
        for (path, document) in documents {
            let key = project.key(path);
            // Of a file that is known, the text below is compared first.
            if !is_found(&session, &key) {
                session.add_contents(key, document.contents());
            }
        }
        has_changed = session.find_again(&project, &request, terminal)?;
    }
    let mut changed = BTreeMap::new();
    let mut forgotten = BTreeSet::new();
    for (key, path) in keys.into_iter().filter(|it| is_found(&session, &it.0)) {
        match documents.get(path) {
            Some(document) if has_text(&scan, &key, &document.text) => {}
            Some(document) => {
                changed.insert(key, Some(document.contents()));
            }
            None if path.symlink_metadata().is_err() => {
                changed.insert(key, None);
            }
            None => {
                forgotten.insert(key);
            }
        }
    }
    if !has_changed && changed.is_empty() && forgotten.is_empty() {
        return Ok((Open { project, request, session, scan }, false));
    }
    let Scan { mut units, problems, .. } = scan;
    session.forget(&mut units, &forgotten);
    let scan = session.rescan(&project, &request, units, changed, terminal);
    if scan.problems != problems {
        tell_problems(&scan, terminal);
    }
    Ok((Open { project, request, session, scan }, true))
}

fn is_found(session: &Session, key: &str) -> bool {
    session.files().binary_search_by(|it| it.key.as_str().cmp(key)).is_ok()
}

fn has_text(scan: &Scan, key: &str, text: &str) -> bool {
    let unit = scan.units.binary_search_by(|it| it.source.path.as_str().cmp(key));
    unit.is_ok_and(|it| scan.units[it].source.text == text)
}

fn tell_problems(scan: &Scan, terminal: &mut Terminal) {
    for problem in &scan.problems {
        terminal.error(&format!("failed to read `{}`: {}", problem.path, problem.message));
    }
}
