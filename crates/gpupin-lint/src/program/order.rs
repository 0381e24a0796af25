//! One program, walked in the order it runs.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};

use crate::{
    program::{
        Earlier, Happening, Moment, Setting, Write,
        link::{Code, FunctionId, Linked, Op},
    },
    project::Project,
    source::Language,
    span::Span,
    unit::{
        ChildEnvironment, Condition, Does, EventId, Leave, Reach, RemoveHow, SetHow, Start,
        Sureness, UnitId,
    },
};

/// How deep calls are followed.
const CALL_DEPTH: u32 = 12;

/// How often one function is followed in one program; more would only repeat what is known.
const CALLS_OF_ONE: u32 = 3;

/// How many steps one program may take before it is cut off. Real programs stay far below.
const STEPS: u32 = 400_000;

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) trace: Vec<Happening>,
    pub(super) moments: Vec<Moment>,
    pub(super) units: HashSet<UnitId>,
    /// Modules that the entry point imports itself.
    pub(super) direct: BTreeSet<UnitId>,
    /// Programs started, with the environment they get.
    pub(super) starts: Vec<(UnitId, EventId, Inherited)>,
}

/// What a program gets from whoever starts it.
#[derive(Debug, Clone, Default)]
pub(super) struct Inherited {
    pub(super) variables: BTreeMap<String, Setting>,
    pub(super) container: Option<(UnitId, EventId)>,
    pub(super) pinned_by_gpupin: bool,
}

/// What holds at one point of a walk.
#[derive(Debug, Clone, Default)]
struct State {
    variables: BTreeMap<String, Setting>,
    container: Option<(UnitId, EventId)>,
    pinned_by_gpupin: bool,
    frozen: Option<Earlier>,
    imported: Option<Earlier>,
    /// The program or function has been left: nothing behind runs.
    left: Option<Leave>,
    /// Grows with every change, so that a call that can change nothing more is skipped.
    version: u32,
}

pub(super) struct Walker<'p, 'a> {
    project: &'p Project<'a>,
    linked: &'p Linked,
    entry: UnitId,
    /// Something in the program sets or removes what CUDA reads.
    has_pins: bool,
    state: State,
    walked: Walked,
    /// The entry point's statement being run.
    via: Span,
    /// Inside how many branches of which the program takes one.
    conditional: u32,
    depth: u32,
    steps: u32,
    versions: u32,
    calls: HashMap<FunctionId, Vec<u32>>,
}

impl<'p, 'a> Walker<'p, 'a> {
    pub(super) fn new(
        project: &'p Project<'a>,
        linked: &'p Linked,
        entry: UnitId,
        has_pins: bool,
        inherited: Inherited,
    ) -> Self {
        let state = State {
            variables: inherited.variables,
            container: inherited.container,
            pinned_by_gpupin: inherited.pinned_by_gpupin,
            ..State::default()
        };
        Self {
            project,
            linked,
            entry,
            has_pins,
            state,
            walked: Walked::default(),
            via: Span::default(),
            conditional: 0,
            depth: 0,
            steps: 0,
            versions: 0,
            calls: HashMap::default(),
        }
    }

    /// Counts a module as the entry point's own: pytest imports `conftest.py` for it.
    pub(super) fn direct(&mut self, unit: UnitId) {
        self.walked.direct.insert(unit);
    }

    /// Runs a module's top level, once.
    pub(super) fn module(&mut self, unit: UnitId) {
        if !self.walked.units.insert(unit) || self.is_beside_the_point(unit) {
            return;
        }
        let before = self.state.left.take();
        self.code(unit, &self.linked.bodies[unit.0 as usize]);
        // What a module leaves by `raise` may be caught by its importer; `sys.exit` ends the program.
        if self.state.left != Some(Leave::Exit) {
            self.state.left = before;
        }
    }

    /// Where no pin is set or removed anywhere, only what the program's own modules check is of interest.
    fn is_beside_the_point(&self, unit: UnitId) -> bool {
        !self.has_pins && unit != self.entry && !self.walked.direct.contains(&unit)
    }

    /// Calls a function that runs here whoever calls it: a hook of pytest.
    pub(super) fn call_in_order(&mut self, function: FunctionId) {
        self.via = self.linked.function(function).span;
        self.call(function);
        self.state.left = None;
    }

    /// Calls a function that is not called in the file: a test, a handler, a console script's target.
    ///
    /// Each starts from where the module's top level ended: one test's doings are not held against the next.
    pub(super) fn call_from_outside(&mut self, function: FunctionId) {
        let before = self.state.clone();
        self.state.left = None;
        self.via = self.linked.function(function).span;
        self.call(function);
        if !self.state.frozen.is_some_and(|it| it.certain) && self.state.version != before.version {
            self.moment(None);
        }
        self.state = before;
    }

    /// Ends the walk.
    pub(super) fn finish(mut self) -> Walked {
        self.state.left = None;
        if !self.state.frozen.is_some_and(|it| it.certain) {
            self.moment(None);
        }
        self.walked
    }

    fn code(&mut self, unit: UnitId, code: &Code) {
        for op in code {
            self.steps += 1;
            if self.state.left.is_some() || self.steps > STEPS {
                return;
            }
            self.op(unit, op);
        }
    }

    fn op(&mut self, unit: UnitId, op: &Op) {
        match op {
            Op::Event(event) => self.event(unit, *event),
            Op::Run(modules, span) => {
                self.at(unit, *span);
                if unit == self.entry {
                    self.walked.direct.extend(modules);
                }
                for module in modules {
                    self.module(*module);
                }
            }
            Op::Call(function, span) => {
                self.at(unit, *span);
                self.call(*function);
            }
            Op::Branch(condition, arms) => self.branch(unit, condition, arms),
            Op::Try { body, handlers } => {
                let before = self.state.clone();
                self.code(unit, body);
                let after = self.state.clone();
                // A handler runs after any part of the body.
                let mut ends = vec![after.clone()];
                let start =
                    State { left: None, ..joined(vec![before, State { left: None, ..after }]) };
                self.conditional += 1;
                for handler in handlers {
                    self.state = start.clone();
                    self.code(unit, handler);
                    ends.push(std::mem::take(&mut self.state));
                }
                self.conditional -= 1;
                self.state = joined(ends);
            }
            Op::Loop(body) => {
                let before = self.state.clone();
                self.code(unit, body);
                let after = std::mem::take(&mut self.state);
                self.state = joined(vec![State { left: None, ..before }, after]);
            }
            Op::Main(body) => {
                if unit == self.entry {
                    self.code(unit, body);
                }
            }
            Op::Scope(body) => {
                let before = self.state.clone();
                // Another process, which reads its environment anew.
                (self.state.frozen, self.state.imported) = (None, None);
                self.code(unit, body);
                self.state =
                    State { left: self.state.left.filter(|it| *it == Leave::Exit), ..before };
                self.state.left = None;
            }
            Op::Leave(leave) => self.state.left = Some(*leave),
        }
    }

    fn branch(&mut self, unit: UnitId, condition: &Condition, arms: &[Code]) {
        let before = self.state.clone();
        let mut ends = Vec::new();
        self.conditional += 1;
        for (number, arm) in arms.iter().enumerate() {
            if self.excluded(condition, number) {
                continue;
            }
            self.state = before.clone();
            self.code(unit, arm);
            ends.push(std::mem::take(&mut self.state));
        }
        self.conditional -= 1;
        self.state = if ends.is_empty() { before } else { joined(ends) };
    }

    /// Whether an arm cannot be taken as things stand.
    fn excluded(&self, condition: &Condition, arm: usize) -> bool {
        let Condition::VariableSet(name) = condition else {
            return false;
        };
        let Some(setting) = self.state.variables.get(name) else {
            return false;
        };
        let (certainly_set, certainly_unset) =
            (!setting.inherited && !setting.writes.is_empty(), setting.is_unset());
        (arm == 0 && certainly_unset) || (arm == 1 && certainly_set)
    }

    fn call(&mut self, function: FunctionId) {
        let linked = self.linked.function(function);
        if self.depth >= CALL_DEPTH || self.is_beside_the_point(linked.unit) {
            return;
        }
        let seen = self.calls.entry(function).or_default();
        if seen.len() >= CALLS_OF_ONE as usize || seen.contains(&self.state.version) {
            return;
        }
        seen.push(self.state.version);
        self.depth += 1;
        let unit = linked.unit;
        self.walked.units.insert(unit);
        self.code(unit, &linked.code);
        self.depth -= 1;
        // A `return` or an exception ends the function only: the caller may catch it.
        if self.state.left != Some(Leave::Exit) {
            self.state.left = None;
        }
    }

    /// Notes where in the entry point we are.
    fn at(&mut self, unit: UnitId, span: Span) {
        if unit == self.entry && self.depth == 0 {
            self.via = span;
        }
    }

    fn event(&mut self, unit: UnitId, event: EventId) {
        let Some(found) = self.project.unit(unit).events.get(event.0 as usize) else {
            return;
        };
        self.at(unit, found.span);
        let before = match &found.does {
            Does::SetVariable(it) => self.setting(&it.name),
            Does::RemoveVariable(it) => self.setting(&it.name),
            _ => Setting::default(),
        };
        self.walked.trace.push(Happening {
            unit,
            event,
            via: self.via,
            frozen: self.state.frozen,
            imported: self.state.imported,
            conditional: self.conditional > 0,
            before,
            pinned_by_gpupin: self.state.pinned_by_gpupin,
        });
        let write = Write::of(unit, event);
        match &found.does {
            // A file for a loader sets nothing by itself, and a shell's own variable reaches no program.
            Does::SetVariable(it) if !matches!(it.reach, Reach::Loader | Reach::ShellOnly) => {
                self.set(&it.name, write, it.how);
            }
            Does::RemoveVariable(it) if it.how == RemoveHow::Remove => {
                self.change(&it.name, Setting::unset());
            }
            Does::ReplaceEnvironment { keeps, inherits } => {
                if !inherits {
                    self.clear();
                }
                for (slot, (name, _)) in (0..).zip(keeps) {
                    self.set(name, Write { slot: Some(slot), ..write }, SetHow::Assign);
                }
            }
            Does::LoadVariables { file, overrides } => self.load(unit, file.as_deref(), *overrides),
            Does::ImportLibrary(library) if !self.project.is_own(unit, library) => {
                if library.computes {
                    self.state.imported.get_or_insert(Earlier { unit, event, certain: true });
                }
                if let Some(sure) = library.import_freezes {
                    self.freeze(unit, event, sure);
                }
            }
            Does::Freeze(it) => self.freeze(unit, event, it.sure),
            Does::Start(it) => self.start(unit, event, it),
            Does::ContainerGpus(_) => {
                let is_image = self.project.unit(unit).source.language == Language::Dockerfile;
                // What an image asks for is a default for who starts it with nothing else.
                if !is_image || self.state.container.is_none() {
                    self.state.container = Some((unit, event));
                }
            }
            Does::Gpupin => self.state.pinned_by_gpupin = true,
            _ => {}
        }
    }

    fn setting(&self, name: &str) -> Setting {
        self.state.variables.get(name).cloned().unwrap_or_default()
    }

    fn set(&mut self, name: &str, write: Write, how: SetHow) {
        // For later sessions, or undone at the end of a test.
        if matches!(how, SetHow::Persistent | SetHow::Temporary) {
            return;
        }
        let before = self.setting(name);
        let setting = match how {
            SetHow::IfUnset if before.inherited => {
                Setting { writes: with(before.writes, write), inherited: true, removed: false }
            }
            SetHow::IfUnset if !before.writes.is_empty() => before,
            _ => Setting::set(write),
        };
        self.change(name, setting);
    }

    fn change(&mut self, name: &str, setting: Setting) {
        self.versions += 1;
        self.state.version = self.versions;
        self.state.variables.insert(name.to_owned(), setting);
    }

    /// Nothing is left of what was set or inherited, for the variables anybody has heard of.
    fn clear(&mut self) {
        for name in [MASK, ORDER]
            .into_iter()
            .map(str::to_owned)
            .chain(self.state.variables.keys().cloned().collect::<Vec<_>>())
        {
            self.change(&name, Setting::unset());
        }
    }

    /// Variables that a file holds, if the project has the file.
    fn load(&mut self, unit: UnitId, file: Option<&str>, overrides: bool) {
        let Some(file) = self.project.find_file(unit, file.unwrap_or(".env")) else {
            return;
        };
        let how = if overrides { SetHow::Assign } else { SetHow::IfUnset };
        for (event, found) in (0..).map(EventId).zip(&self.project.unit(file).events) {
            if let Does::SetVariable(it) = &found.does {
                self.set(&it.name, Write { unit: file, event, slot: None }, how);
            }
        }
    }

    fn freeze(&mut self, unit: UnitId, event: EventId, sure: Sureness) {
        let certain = sure == Sureness::Sure;
        if self.state.frozen.is_some_and(|it| it.certain || !certain) {
            return;
        }
        self.moment(Some((unit, event)));
        self.versions += 1;
        self.state.version = self.versions;
        self.state.frozen = Some(Earlier { unit, event, certain });
    }

    fn moment(&mut self, by: Option<(UnitId, EventId)>) {
        self.walked.moments.push(Moment {
            by,
            variables: self.state.variables.clone(),
            pinned_by_gpupin: self.state.pinned_by_gpupin,
            container: self.state.container,
        });
    }

    fn start(&mut self, unit: UnitId, event: EventId, start: &Start) {
        let mut variables = match &start.environment {
            ChildEnvironment::Inherited(_) => self.state.variables.clone(),
            ChildEnvironment::Only(_) => {
                [MASK, ORDER].map(|it| (it.to_owned(), Setting::unset())).into()
            }
            ChildEnvironment::Without { removed, .. } => {
                let mut variables = self.state.variables.clone();
                for name in removed {
                    variables.insert(name.clone(), Setting::unset());
                }
                variables
            }
            ChildEnvironment::Unknown => return,
        };
        for (slot, (name, _)) in (0..).zip(start.environment.variables()) {
            let write = Write { unit, event, slot: Some(slot) };
            variables.insert(name.clone(), Setting::set(write));
        }
        let inherited = Inherited {
            variables,
            container: self.state.container,
            pinned_by_gpupin: self.state.pinned_by_gpupin
                || matches!(start.runs, crate::unit::Runs::Gpupin(_)),
        };
        self.walked.starts.push((unit, event, inherited));
    }
}

/// The mask.
pub(crate) const MASK: &str = "CUDA_VISIBLE_DEVICES";
/// The base order.
pub(crate) const ORDER: &str = "CUDA_DEVICE_ORDER";

impl Setting {
    fn set(write: Write) -> Self {
        Self { writes: vec![write], inherited: false, removed: false }
    }

    fn unset() -> Self {
        Self { writes: Vec::new(), inherited: false, removed: true }
    }

    /// The write that is in effect on every way.
    pub(crate) fn certain(&self) -> Option<Write> {
        match *self.writes {
            [write] if !self.inherited && !self.removed => Some(write),
            _ => None,
        }
    }

    /// The variable is certainly not there.
    pub fn is_unset(&self) -> bool {
        self.writes.is_empty() && !self.inherited
    }
}

fn with(mut writes: Vec<Write>, write: Write) -> Vec<Write> {
    if !writes.contains(&write) {
        writes.push(write);
    }
    writes
}

/// What holds after several ways meet. Ways that left do not arrive; if all left, so has the whole.
fn joined(ends: Vec<State>) -> State {
    let all_left = ends.iter().all(|it| it.left.is_some());
    let mut arriving = ends.into_iter().filter(|it| all_left || it.left.is_none());
    let Some(mut joined) = arriving.next() else {
        return State::default();
    };
    for other in arriving {
        let names: Vec<String> =
            joined.variables.keys().chain(other.variables.keys()).cloned().collect();
        for name in names {
            let mine = joined.variables.get(&name).cloned().unwrap_or_default();
            let theirs = other.variables.get(&name).cloned().unwrap_or_default();
            let writes = theirs.writes.into_iter().fold(mine.writes, with);
            joined.variables.insert(
                name,
                Setting {
                    writes,
                    inherited: mine.inherited || theirs.inherited,
                    removed: mine.removed || theirs.removed,
                },
            );
        }
        joined.container = joined.container.or(other.container);
        joined.pinned_by_gpupin |= other.pinned_by_gpupin;
        joined.frozen = match (joined.frozen, other.frozen) {
            (Some(mine), Some(theirs)) if theirs.certain && !mine.certain => Some(theirs),
            (mine, theirs) => mine.or(theirs),
        };
        joined.imported = joined.imported.or(other.imported);
        joined.version = joined.version.max(other.version);
        joined.left = joined.left.filter(|it| other.left == Some(*it));
    }
    joined
}
