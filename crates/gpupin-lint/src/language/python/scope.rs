//! Names and what they are bound to, per scope.
//!
//! One pass over the statements collects every binding, so that a function can be read knowing what
//! its module binds further down. What a name is bound to is only evaluated when somebody asks.

use rustc_hash::FxHashMap;

use super::syntax::{ExceptHandler, Expr, Ranged as _, Stmt, ast};
use crate::value::{Name, Root};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ScopeId(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Module,
    Function,
    Class,
}

#[derive(Debug)]
pub(super) struct Scope {
    pub(super) parent: Option<ScopeId>,
    pub(super) kind: Kind,
    /// Dotted path of the function or class; empty for the module.
    pub(super) path: String,
}

/// What a name is bound to.
#[derive(Debug, Clone)]
pub(super) enum Bound<'a> {
    Import(Name),
    /// An import from the standard library or a library of the catalogue: no part of the project.
    Foreign(Name),
    /// `x = value`; evaluated in the binding's scope.
    Value(&'a Expr),
    /// `a, b = value`: the item at a position.
    Item(&'a Expr, usize),
    /// `for x in value`; with a position for `for i, x in value`.
    Element(&'a Expr, Option<usize>),
    /// `with value as x`.
    Context(&'a Expr),
    Parameter(&'a ast::ParameterWithDefault),
    /// `self` or `cls` of a method: the class's scope.
    Receiver(ScopeId),
    Function(&'a ast::StmtFunctionDef),
    Class(ScopeId),
    /// An annotation without a value, or something that has no use here.
    Nothing,
}

#[derive(Debug, Clone)]
pub(super) struct Binding<'a> {
    pub(super) bound: Bound<'a>,
    pub(super) scope: ScopeId,
    /// Bound more than once: its value depends on when one asks.
    pub(super) again: bool,
    /// `None` at some time, which does not hide what else it is.
    pub(super) or_none: bool,
}

impl Binding<'_> {
    pub(super) fn is_sole(&self) -> bool {
        !self.again && !self.or_none
    }
}

/// Every scope of a file.
#[derive(Debug)]
pub(super) struct Scopes<'a> {
    all: Vec<Scope>,
    names: FxHashMap<(ScopeId, &'a str), Binding<'a>>,
    /// `self.x = value` in methods, by class.
    attributes: FxHashMap<(ScopeId, &'a str), Binding<'a>>,
    by_start: FxHashMap<u32, ScopeId>,
    /// The file's directory, for relative imports.
    directory: &'a str,
    pub(super) star_imports: Vec<Name>,
}

impl<'a> Scopes<'a> {
    pub(super) const MODULE: ScopeId = ScopeId(0);

    pub(super) fn collect(statements: &'a [Stmt], path: &'a str) -> Self {
        let mut scopes = Self {
            all: vec![Scope { parent: None, kind: Kind::Module, path: String::new() }],
            names: FxHashMap::default(),
            attributes: FxHashMap::default(),
            by_start: FxHashMap::default(),
            directory: path.rsplit_once('/').map_or("", |it| it.0),
            star_imports: Vec::new(),
        };
        scopes.statements(statements, Self::MODULE);
        scopes
    }

    pub(super) fn get(&self, id: ScopeId) -> &Scope {
        &self.all[id.0 as usize]
    }

    /// The scope of a function or class definition.
    pub(super) fn of(&self, definition: &impl super::syntax::Ranged) -> Option<ScopeId> {
        self.by_start.get(&definition.start().to_u32()).copied()
    }

    /// What a name means in a scope. A class's names are visible in its own body only.
    pub(super) fn lookup<'s>(&'s self, name: &'s str, from: ScopeId) -> Option<&'s Binding<'a>> {
        let mut scope = Some(from);
        while let Some(id) = scope {
            let here = self.get(id);
            if (here.kind != Kind::Class || id == from)
                && let Some(binding) = find(&self.names, id, name)
            {
                return Some(binding);
            }
            scope = here.parent;
        }
        None
    }

    /// What `self.name` or `Class.name` means.
    pub(super) fn attribute<'s>(
        &'s self,
        class: ScopeId,
        name: &'s str,
    ) -> Option<&'s Binding<'a>> {
        find(&self.names, class, name).or_else(|| find(&self.attributes, class, name))
    }

    /// The class whose method a scope stands in.
    pub(super) fn class_around(&self, from: ScopeId) -> Option<ScopeId> {
        let mut scope = Some(from);
        while let Some(id) = scope {
            if self.get(id).kind == Kind::Class {
                return Some(id);
            }
            scope = self.get(id).parent;
        }
        None
    }

    /// What modules may ask another for: names of the module and of its classes, and what methods set on `self`,
    /// each with the scope it belongs to.
    pub(super) fn public(&self) -> impl Iterator<Item = (ScopeId, &'a str, &Binding<'a>)> {
        let names = self.names.iter().chain(&self.attributes);
        names
            .map(|((scope, name), binding)| (*scope, *name, binding))
            .filter(|it| self.get(it.0).kind != Kind::Function)
    }

    /// The classes of the file.
    pub(super) fn classes(&self) -> impl Iterator<Item = ScopeId> {
        let ids = (0..).map(ScopeId).zip(&self.all);
        ids.filter(|it| it.1.kind == Kind::Class).map(|it| it.0)
    }

    /// The name that an import's dotted text means.
    pub(super) fn module_name(&self, level: u32, module: &str) -> Name {
        if level == 0 {
            return Name::absolute(module);
        }
        let mut directory = self.directory;
        for _ in 1..level {
            directory = match directory.rsplit_once('/') {
                Some((parent, _)) => parent,
                None if directory.is_empty() => "..",
                None => "",
            };
        }
        Name { root: Root::Directory(directory.to_owned()), path: module.to_owned() }
    }

    fn open(&mut self, parent: ScopeId, kind: Kind, name: &str, start: u32) -> ScopeId {
        let above = &self.get(parent).path;
        let path = if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") };
        let id = ScopeId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.all.push(Scope { parent: Some(parent), kind, path });
        self.by_start.insert(start, id);
        id
    }

    fn bind(&mut self, scope: ScopeId, name: &'a str, bound: Bound<'a>) {
        Self::bind_in(&mut self.names, scope, scope, name, bound);
    }

    fn bind_in(
        table: &mut FxHashMap<(ScopeId, &'a str), Binding<'a>>,
        owner: ScopeId,
        scope: ScopeId,
        name: &'a str,
        bound: Bound<'a>,
    ) {
        use std::collections::hash_map::Entry;
        let is_none = matches!(bound, Bound::Value(Expr::NoneLiteral(_)));
        match table.entry((owner, name)) {
            Entry::Vacant(entry) => {
                entry.insert(Binding { bound, scope, again: false, or_none: false });
            }
            Entry::Occupied(mut entry) => {
                let binding = entry.get_mut();
                match (&binding.bound, &bound) {
                    (_, Bound::Nothing) => {}
                    (Bound::Nothing, _) => binding.bound = bound,
                    // `try: import x` … `except ImportError: x = None`.
                    (Bound::Import(_) | Bound::Foreign(_), _) if is_none => binding.or_none = true,
                    (
                        Bound::Import(_) | Bound::Foreign(_),
                        Bound::Import(_) | Bound::Foreign(_),
                    ) => {}
                    (Bound::Value(Expr::NoneLiteral(_)), _) if !is_none => {
                        *binding = Binding { bound, scope, again: binding.again, or_none: true };
                    }
                    _ if is_none => binding.or_none = true,
                    (Bound::Function(_), Bound::Function(_)) => binding.bound = bound,
                    _ => binding.again = true,
                }
            }
        }
    }

    fn again(&mut self, scope: ScopeId, name: &'a str) {
        self.names
            .entry((scope, name))
            .or_insert(Binding { bound: Bound::Nothing, scope, again: true, or_none: false })
            .again = true;
    }

    fn statements(&mut self, statements: &'a [Stmt], scope: ScopeId) {
        for statement in statements {
            self.statement(statement, scope);
        }
    }

    fn statement(&mut self, statement: &'a Stmt, scope: ScopeId) {
        match statement {
            Stmt::FunctionDef(it) => self.function(it, scope),
            Stmt::ClassDef(it) => {
                let class = self.open(scope, Kind::Class, &it.name, it.start().to_u32());
                self.bind(scope, &it.name, Bound::Class(class));
                self.statements(&it.body, class);
            }
            Stmt::Assign(it) => {
                for target in &it.targets {
                    self.target(target, scope, &Bound::Value(&it.value));
                }
            }
            Stmt::AnnAssign(it) => {
                let bound = it.value.as_deref().map_or(Bound::Nothing, Bound::Value);
                self.target(&it.target, scope, &bound);
            }
            Stmt::AugAssign(it) => match &*it.target {
                Expr::Name(name) => self.again(scope, &name.id),
                Expr::Attribute(_) => {
                    self.target(&it.target, scope, &Bound::Nothing);
                    self.target(&it.target, scope, &Bound::Value(&it.value));
                    self.target(&it.target, scope, &Bound::Value(&it.value));
                }
                _ => {}
            },
            Stmt::For(it) => {
                self.target(&it.target, scope, &Bound::Element(&it.iter, None));
                self.statements(&it.body, scope);
                self.statements(&it.orelse, scope);
            }
            Stmt::While(it) => {
                self.statements(&it.body, scope);
                self.statements(&it.orelse, scope);
            }
            Stmt::If(it) => {
                self.statements(&it.body, scope);
                for clause in &it.elif_else_clauses {
                    self.statements(&clause.body, scope);
                }
            }
            Stmt::With(it) => {
                for item in &it.items {
                    if let Some(target) = &item.optional_vars {
                        self.target(target, scope, &Bound::Context(&item.context_expr));
                    }
                }
                self.statements(&it.body, scope);
            }
            Stmt::Match(it) => {
                for case in &it.cases {
                    self.statements(&case.body, scope);
                }
            }
            Stmt::Try(it) => {
                self.statements(&it.body, scope);
                for ExceptHandler::ExceptHandler(handler) in &it.handlers {
                    self.statements(&handler.body, scope);
                }
                self.statements(&it.orelse, scope);
                self.statements(&it.finalbody, scope);
            }
            Stmt::Import(it) => {
                for alias in &it.names {
                    let full = alias.name.as_str();
                    let root = full.split('.').next().unwrap_or(full);
                    let (bound, path) =
                        alias.asname.as_ref().map_or((root, root), |it| (it.as_str(), full));
                    self.bind(scope, bound, imported(Name::absolute(path)));
                }
            }
            Stmt::ImportFrom(it) => self.import_from(it, scope),
            // The name belongs to another scope, where more than this one may assign it.
            Stmt::Global(it) => {
                for name in &it.names {
                    self.again(Self::MODULE, name);
                }
            }
            Stmt::Delete(it) => {
                for target in &it.targets {
                    if let Expr::Name(name) = target {
                        self.again(scope, &name.id);
                    }
                }
            }
            _ => {}
        }
    }

    fn import_from(&mut self, it: &'a ast::StmtImportFrom, scope: ScopeId) {
        let module = it.module.as_ref().map_or("", |it| it.as_str());
        let module = self.module_name(it.level, module);
        for alias in &it.names {
            let name = alias.name.as_str();
            if name == "*" {
                self.star_imports.push(module.clone());
                continue;
            }
            let bound = alias.asname.as_ref().map_or(name, |it| it.as_str());
            self.bind(scope, bound, imported(super::names::join(&module, name)));
        }
    }

    fn function(&mut self, it: &'a ast::StmtFunctionDef, scope: ScopeId) {
        self.bind(scope, &it.name, Bound::Function(it));
        let inner = self.open(scope, Kind::Function, &it.name, it.start().to_u32());
        let is_static = it
            .decorator_list
            .iter()
            .any(|it| matches!(&it.expression, Expr::Name(name) if name.id == "staticmethod"));
        let mut receiver = self.get(scope).kind == Kind::Class && !is_static;
        let parameters = &it.parameters;
        for parameter in
            parameters.posonlyargs.iter().chain(&parameters.args).chain(&parameters.kwonlyargs)
        {
            let bound = if std::mem::take(&mut receiver) {
                Bound::Receiver(scope)
            } else {
                Bound::Parameter(parameter)
            };
            self.bind(inner, &parameter.parameter.name, bound);
        }
        for parameter in [&parameters.vararg, &parameters.kwarg].into_iter().flatten() {
            self.bind(inner, &parameter.name, Bound::Nothing);
        }
        self.statements(&it.body, inner);
    }

    fn target(&mut self, target: &'a Expr, scope: ScopeId, bound: &Bound<'a>) {
        match target {
            Expr::Name(name) => self.bind(scope, &name.id, bound.clone()),
            Expr::Tuple(ast::ExprTuple { elts, .. }) | Expr::List(ast::ExprList { elts, .. }) => {
                for (position, element) in elts.iter().enumerate() {
                    let bound = match bound {
                        Bound::Value(value) => Bound::Item(value, position),
                        Bound::Element(value, None) => Bound::Element(value, Some(position)),
                        _ => Bound::Nothing,
                    };
                    self.target(element, scope, &bound);
                }
            }
            Expr::Starred(it) => self.target(&it.value, scope, &Bound::Nothing),
            Expr::Attribute(it) => {
                if let Expr::Name(receiver) = &*it.value
                    && let Some(Binding { bound: Bound::Receiver(class), .. }) =
                        self.names.get(&(scope, receiver.id.as_str()))
                {
                    let class = *class;
                    Self::bind_in(&mut self.attributes, class, scope, &it.attr, bound.clone());
                }
            }
            _ => {}
        }
    }
}

fn imported<'a>(name: Name) -> Bound<'a> {
    let is_foreign = name.root == Root::Absolute && super::call::is_foreign(&name.path);
    if is_foreign { Bound::Foreign(name) } else { Bound::Import(name) }
}

/// Looks a name up that may live shorter than the tree.
fn find<'t, 'a, 'n>(
    table: &'t FxHashMap<(ScopeId, &'n str), Binding<'a>>,
    scope: ScopeId,
    name: &'n str,
) -> Option<&'t Binding<'a>> {
    table.get(&(scope, name))
}
