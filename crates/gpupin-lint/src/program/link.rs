//! Imports and calls of each file, resolved once.

use std::collections::{BTreeMap, HashMap};

use crate::{
    project::{Project, modules_of},
    span::Span,
    unit::{Block, Condition, EventId, Leave, Step, UnitId},
    value::Name,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FunctionId(pub(super) u32);

#[derive(Debug)]
pub(super) struct LinkedFunction {
    pub(super) unit: UnitId,
    pub(super) span: Span,
    pub(super) code: Code,
    pub(super) called_from_outside: bool,
}

/// The whole project, resolved.
#[derive(Debug)]
pub(super) struct Linked {
    pub(super) bodies: Vec<Code>,
    pub(super) functions: Vec<LinkedFunction>,
    by_name: HashMap<UnitId, BTreeMap<String, FunctionId>>,
}

impl Linked {
    pub(super) fn new(project: &Project<'_>) -> Self {
        let mut linked =
            Self { bodies: Vec::new(), functions: Vec::new(), by_name: HashMap::new() };
        linked.declare(project);
        let ids: Vec<UnitId> = (0..).map(UnitId).take(project.units.len()).collect();
        for id in ids {
            let body = linked.code(project, id, &project.unit(id).body);
            linked.bodies.push(body);
            for (name, function) in &project.unit(id).functions {
                let code = linked.code(project, id, &function.body);
                let at = linked.by_name[&id][name];
                linked.functions[at.0 as usize].code = code;
            }
        }
        linked
    }

    pub(super) fn function(&self, id: FunctionId) -> &LinkedFunction {
        &self.functions[id.0 as usize]
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

    /// Gives every function its number, and classes their methods, before any body is resolved.
    fn declare(&mut self, project: &Project<'_>) {
        for (id, unit) in (0..).map(UnitId).zip(project.units) {
            let mut names = BTreeMap::new();
            for (name, function) in &unit.functions {
                let number = FunctionId(u32::try_from(self.functions.len()).unwrap_or(u32::MAX));
                names.insert(name.clone(), number);
                self.functions.push(LinkedFunction {
                    unit: id,
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
