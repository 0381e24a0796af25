//! Judging after each change: everything, or while some fixes are tried only what they can touch.

use std::collections::BTreeSet;

use gpupin_lint::unit::UnitId;

use crate::{
    project::Project,
    scan::{Contents, Part, Request, Scan, Session},
    terminal::Terminal,
};

/// Judges a project again and again.
pub(super) struct Judge<'a> {
    project: &'a Project,
    request: &'a Request,
    session: Session,
    part: Option<Part>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(project: &'a Project, request: &'a Request, session: Session) -> Self {
        Self { project, request, session, part: None }
    }

    pub(super) fn into_session(self) -> Session {
        self.session
    }

    /// The first time.
    pub(super) fn scan(&mut self, terminal: &mut Terminal) -> Scan {
        self.session.scan(self.project, self.request, terminal)
    }

    /// Judges what it judged last, with other contents of some files.
    pub(super) fn rescan(
        &mut self,
        scan: Scan,
        changed: Contents,
        terminal: &mut Terminal,
    ) -> Scan {
        let Self { project, request, session, part } = self;
        match part {
            Some(part) => {
                session.rescan_part(part, (project, request), scan.units, changed, terminal)
            }
            None => session.rescan(project, request, scan.units, changed, terminal),
        }
    }

    pub(super) fn is_narrow(&self) -> bool {
        self.part.is_some()
    }

    /// Whether a file was read and is not judged now.
    pub(super) fn leaves_out(&self, key: &str) -> bool {
        self.part.as_ref().is_some_and(|it| it.leaves_out(key))
    }

    /// From now on judges only what belongs together with some files: for that `shows` must be true of it too. An order
    /// of programs that knows less of the project may know too little.
    pub(super) fn narrow(
        &mut self,
        scan: Scan,
        files: &BTreeSet<String>,
        shows: impl Fn(&Scan) -> bool,
        terminal: &mut Terminal,
    ) -> Scan {
        let part = around(&scan, files);
        // Everything is judged in the end, so that a large part would only be judged once more.
        if self.is_narrow() || part.len() > scan.units.len() / 2 {
            return scan;
        }
        let (part, units) = Part::of(scan.units, &part);
        self.part = Some(part);
        let scan = self.rescan(Scan { units, ..scan }, Contents::new(), terminal);
        if shows(&scan) { scan } else { self.widen(scan, terminal) }
    }

    /// Judges everything again.
    pub(super) fn widen(&mut self, scan: Scan, terminal: &mut Terminal) -> Scan {
        let Some(part) = self.part.take() else { return scan };
        let (units, changed) = part.whole(scan.units);
        self.session.rescan(self.project, self.request, units, changed, terminal)
    }
}

/// Some files, and all that are judged together with any of them.
fn around(scan: &Scan, files: &BTreeSet<String>) -> BTreeSet<UnitId> {
    let ids = (0..).map(UnitId).zip(&scan.units);
    let mut around: BTreeSet<UnitId> =
        ids.filter(|it| files.contains(&it.1.source.path)).map(|it| it.0).collect();
    let seeds = around.clone();
    let groups = scan.analysis.groups.iter();
    for group in groups.filter(|it| it.iter().any(|it| seeds.contains(it))) {
        around.extend(group);
    }
    around
}
