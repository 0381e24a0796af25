//! Imports and calls of each file, resolved once.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap as HashMap;

use crate::{
    program::pins::is_frozen_by_cuda,
    project::{Project, modules_of},
    span::Span,
    unit::{Block, Condition, Does, EventId, Leave, Step, Unit, UnitId},
    value::Name,
    workers::{self, Workers},
};

/// A function or file body whose names are resolved.
pub(super) type Code = Vec<Op>;

#[derive(Debug)]
pub(super) enum Op {
    Event(EventId),
    /// Runs these modules, if they have not run yet.
    Run(Vec<UnitId>, Span),
    Call(FunctionId, Span),
    Branch(Condition, Vec<Code>),
    Try {
        body: Code,
        handlers: Vec<Code>,
    },
    Loop(Code),
    Main(Code),
    Scope(Code),
    Leave(Leave),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FunctionId(pub(super) u32);

#[derive(Debug)]
pub(super) struct LinkedFunction {
    pub(super) unit: UnitId,
    /// Dotted path in its file.
    pub(super) name: Box<str>,
    pub(super) span: Span,
    pub(super) code: Code,
    pub(super) called_from_outside: bool,
}

/// The whole project, resolved.
#[derive(Debug)]
pub(super) struct Linked {
    pub(super) bodies: Vec<Code>,
    pub(super) functions: Vec<LinkedFunction>,
    /// For each unit, whether it or a module it imports, however far away, changes what CUDA reads. All, if orders are wanted whole.
    pub(super) leads_to_pin: Vec<bool>,
    by_name: HashMap<UnitId, BTreeMap<String, FunctionId>>,
}

impl Linked {
    pub(super) fn new(project: &Project<'_>, whole: bool, workers: &dyn Workers) -> Self {
        let mut linked = Self {
            bodies: Vec::new(),
            functions: Vec::new(),
            leads_to_pin: Vec::new(),
            by_name: HashMap::default(),
        };
        linked.declare(project);
        let units = (0..).map(UnitId).zip(project.units);
        let resolved = workers::map(workers, units, |(id, unit)| {
            let functions: Vec<_> = unit
                .functions
                .iter()
                .map(|(name, it)| (linked.by_name[&id][name], linked.code(project, id, &it.body)))
                .collect();
            (linked.code(project, id, &unit.body), functions)
        });
        for (body, functions) in resolved {
            linked.bodies.push(body);
            for (at, code) in functions {
                linked.functions[at.0 as usize].code = code;
            }
        }
        linked.leads_to_pin =
            if whole { vec![true; project.units.len()] } else { linked.leading_to_pins(project) };
        linked
    }

    pub(super) fn function(&self, id: FunctionId) -> &LinkedFunction {
        &self.functions[id.0 as usize]
    }

    /// Every function of a file, by name.
    pub(super) fn functions_of(&self, unit: UnitId) -> impl Iterator<Item = &LinkedFunction> {
        let ids = self.by_name.get(&unit).into_iter().flat_map(BTreeMap::values);
        ids.map(|it| self.function(*it))
    }

    /// Functions of a file that somebody else calls: tests, handlers.
    pub(super) fn called_from_outside(&self, unit: UnitId) -> Vec<FunctionId> {
        let mut found: Vec<_> = self
            .by_name
            .get(&unit)
            .into_iter()
            .flat_map(BTreeMap::values)
            .copied()
            .filter(|it| self.function(*it).called_from_outside)
            .collect();
        found.sort_by_key(|it| self.function(*it).span);
        found
    }

    pub(super) fn find(
        &self,
        project: &Project<'_>,
        unit: UnitId,
        name: &Name,
    ) -> Option<FunctionId> {
        if let Some((unit, key, _)) = project.function(unit, name) {
            return self.by_name.get(&unit)?.get(key).copied();
        }
        None
    }

    fn leading_to_pins(&self, project: &Project<'_>) -> Vec<bool> {
        let mut importers: Vec<Vec<UnitId>> = vec![Vec::new(); self.bodies.len()];
        let functions = self.functions.iter().map(|it| (it.unit, &it.code));
        for (unit, code) in (0..).map(UnitId).zip(&self.bodies).chain(functions) {
            runs_in(code, &mut |module| importers[module.0 as usize].push(unit));
        }
        let mut leading: Vec<bool> =
            project.units.iter().map(|it| changes_what_cuda_reads(project, it)).collect();
        let mut queue: Vec<UnitId> =
            (0..).map(UnitId).zip(&leading).filter(|it| *it.1).map(|it| it.0).collect();
        while let Some(unit) = queue.pop() {
            for importer in &importers[unit.0 as usize] {
                if !std::mem::replace(&mut leading[importer.0 as usize], true) {
                    queue.push(*importer);
                }
            }
        }
        leading
    }

    /// Gives every function its number, and classes their methods, before any body is resolved.
    fn declare(&mut self, project: &Project<'_>) {
        for (id, unit) in (0..).map(UnitId).zip(project.units) {
            let mut names = BTreeMap::new();
            for (name, function) in &unit.functions {
                let number = FunctionId(u32::try_from(self.functions.len()).unwrap_or(u32::MAX));
                names.insert(name.clone(), number);
                self.functions.push(LinkedFunction {
                    unit: id,
                    name: name.as_str().into(),
                    span: function.span,
                    code: Vec::new(),
                    called_from_outside: function.called_from_outside,
                });
            }
            self.by_name.insert(id, names);
        }
    }

    fn code(&self, project: &Project<'_>, unit: UnitId, block: &Block) -> Code {
        let mut code = Vec::new();
        for step in &block.0 {
            match step {
                Step::Event(event) => code.push(Op::Event(*event)),
                Step::Import(import) => {
                    let runs = modules_of(project, unit, import);
                    if !runs.is_empty() {
                        code.push(Op::Run(runs, import.span));
                    }
                }
                Step::Call(name, span) => {
                    if let Some(function) = self.find(project, unit, name) {
                        code.push(Op::Call(function, *span));
                    }
                }
                Step::Branch(condition, arms) => {
                    let arms: Vec<_> = arms.iter().map(|it| self.code(project, unit, it)).collect();
                    if arms.iter().any(|it| !it.is_empty()) {
                        code.push(Op::Branch(condition.clone(), arms));
                    }
                }
                Step::Try { body, handlers } => code.push(Op::Try {
                    body: self.code(project, unit, body),
                    handlers: handlers.iter().map(|it| self.code(project, unit, it)).collect(),
                }),
                Step::Loop(body) => code.push(Op::Loop(self.code(project, unit, body))),
                Step::Main(body) => code.push(Op::Main(self.code(project, unit, body))),
                Step::Scope(body) => code.push(Op::Scope(self.code(project, unit, body))),
                Step::Leave(leave) => code.push(Op::Leave(*leave)),
            }
        }
        code
    }
}

fn changes_what_cuda_reads(project: &Project<'_>, unit: &Unit) -> bool {
    let followed = |name: &str| is_frozen_by_cuda(name) || project.policy.env.contains_key(name);
    unit.events.iter().any(|it| match &it.does {
        Does::SetVariable(it) => followed(&it.name),
        Does::RemoveVariable(it) => followed(&it.name),
        Does::ReplaceEnvironment { .. } | Does::LoadVariables { .. } | Does::Gpupin => true,
        Does::Start(it) => it.environment.variables().iter().any(|it| followed(&it.0)),
        _ => false,
    })
}

/// Calls `found` for every module that code runs.
fn runs_in(code: &Code, found: &mut dyn FnMut(UnitId)) {
    for op in code {
        match op {
            Op::Run(modules, _) => modules.iter().for_each(|it| found(*it)),
            Op::Branch(_, arms) => arms.iter().for_each(|it| runs_in(it, found)),
            Op::Try { body, handlers } => {
                runs_in(body, found);
                for it in handlers {
                    runs_in(it, found);
                }
            }
            Op::Loop(body) | Op::Main(body) | Op::Scope(body) => runs_in(body, found),
            Op::Event(_) | Op::Call(..) | Op::Leave(_) => {}
        }
    }
}
