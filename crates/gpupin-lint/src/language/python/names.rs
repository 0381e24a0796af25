//! What a dotted expression refers to, through imports, aliases, instances and `self`.

use super::{
    Reader,
    scope::{Binding, Bound, Kind, ScopeId},
    syntax::{Expr, ast},
};
use crate::value::{Name, Root};

/// Aliases of aliases are followed this far.
const MAX_DEPTH: u32 = 12;

/// Methods that return the object they are called on, perhaps moved.
const RETURN_SELF: &[&str] = &[
    "bfloat16",
    "compile",
    "cuda",
    "cpu",
    "double",
    "eval",
    "float",
    "half",
    "requires_grad_",
    "share_memory",
    "to",
    "train",
];

/// Something with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    /// Its own, or its class's if it is an object.
    pub(super) name: Name,
    pub(super) is_object: bool,
    /// Something an object of unknown make-up has: what *it* has is not known.
    pub(super) is_member: bool,
}

impl Resolved {
    fn itself(name: Name) -> Self {
        Self { name, is_object: false, is_member: false }
    }

    fn object(name: Name) -> Self {
        Self { name, is_object: true, is_member: false }
    }
}

pub(super) fn join(module: &Name, name: &str) -> Name {
    let path =
        if module.path.is_empty() { name.to_owned() } else { format!("{}.{name}", module.path) };
    Name { root: module.root.clone(), path }
}

impl<'a> Reader<'a, '_> {
    /// What an expression of the current scope refers to.
    pub(super) fn resolve(&self, expression: &Expr) -> Option<Resolved> {
        self.resolve_in(expression, self.scope, 0)
    }

    pub(super) fn is_library_path(&self, expression: &Expr, path: &str) -> bool {
        let last = match expression {
            Expr::Name(_) => None,
            Expr::Attribute(it) => Some(it.attr.as_str()),
            _ => return false,
        };
        // Most expressions differ in the last segment already; aliases of it are plain names.
        last.is_none_or(|it| path.rsplit('.').next() == Some(it))
            && self.resolve(expression).is_some_and(|it| {
                !it.is_object && it.name.root == Root::Absolute && it.name.path == path
            })
    }

    pub(super) fn resolve_in(
        &self,
        expression: &Expr,
        scope: ScopeId,
        depth: u32,
    ) -> Option<Resolved> {
        if depth > MAX_DEPTH {
            return None;
        }
        match expression {
            Expr::Name(name) => match self.scopes.lookup(&name.id, scope) {
                Some(binding) => self.resolve_binding(binding, depth + 1),
                // A star import may bring it; the project looks.
                None if !self.scopes.star_imports.is_empty() && !is_builtin(&name.id) => {
                    Some(Resolved::itself(Name::here(name.id.as_str())))
                }
                None => None,
            },
            Expr::Attribute(it) => {
                let owner = self.resolve_in(&it.value, scope, depth + 1)?;
                self.resolve_attribute(&owner, &it.attr, depth + 1)
            }
            Expr::Call(it) => self.resolve_call(it, scope, depth),
            Expr::Await(it) => self.resolve_in(&it.value, scope, depth + 1),
            Expr::Named(it) => self.resolve_in(&it.value, scope, depth + 1),
            _ => None,
        }
    }

    fn resolve_binding(&self, binding: &Binding<'a>, depth: u32) -> Option<Resolved> {
        match &binding.bound {
            Bound::Import(name) | Bound::Foreign(name) => Some(Resolved::itself(name.clone())),
            Bound::Function(function) => {
                let scope = self.scopes.of(*function)?;
                Some(Resolved::itself(Name::here(self.scopes.get(scope).path.as_str())))
            }
            Bound::Class(class) => {
                Some(Resolved::itself(Name::here(self.scopes.get(*class).path.as_str())))
            }
            Bound::Receiver(class) => {
                Some(Resolved::object(Name::here(self.scopes.get(*class).path.as_str())))
            }
            Bound::Value(value) if !binding.again => self.resolve_in(value, binding.scope, depth),
            Bound::Context(value) if !binding.again => self.resolve_in(value, binding.scope, depth),
            Bound::Parameter(parameter) => {
                let annotation = parameter.parameter.annotation.as_deref()?;
                let class = self.resolve_in(annotated_class(annotation)?, binding.scope, depth)?;
                Some(Resolved::object(class.name))
            }
            Bound::Value(_)
            | Bound::Context(_)
            | Bound::Item(..)
            | Bound::Element(..)
            | Bound::Nothing => None,
        }
    }

    fn resolve_attribute(&self, owner: &Resolved, name: &str, depth: u32) -> Option<Resolved> {
        if depth > MAX_DEPTH || owner.is_member {
            return None;
        }
        if owner.name.root == Root::Here
            && let Some(class) = self.class_by_path(&owner.name.path)
            && let Some(binding) = self.scopes.attribute(class, name)
            && !matches!(binding.bound, Bound::Function(_) | Bound::Class(_))
        {
            return self.resolve_binding(binding, depth + 1);
        }
        let is_member = owner.is_object || owner.is_member;
        Some(Resolved { is_member, ..Resolved::itself(join(&owner.name, name)) })
    }

    fn resolve_call(&self, it: &ast::ExprCall, scope: ScopeId, depth: u32) -> Option<Resolved> {
        match &*it.func {
            Expr::Attribute(method) if RETURN_SELF.contains(&method.attr.as_str()) => {
                if let Some(owner) = self.resolve_in(&method.value, scope, depth + 1)
                    && owner.is_object
                {
                    return Some(owner);
                }
            }
            Expr::Name(name) if name.id == "super" => {
                let class = self.scopes.class_around(scope)?;
                let base = self.bases.get(&class)?.first()?;
                return Some(Resolved::object(base.clone()));
            }
            _ => {}
        }
        let callee = self.resolve_in(&it.func, scope, depth + 1)?;
        if callee.is_object {
            return None;
        }
        if callee.name.path == "functools.partial" && callee.name.root == Root::Absolute {
            return self.resolve_in(it.arguments.args.first()?, scope, depth + 1);
        }
        match callee.name.root {
            // What a function of this file returns is not followed.
            Root::Here => {
                let known = self.class_by_path(&callee.name.path).is_some();
                (known || !self.scopes.star_imports.is_empty())
                    .then(|| Resolved::object(callee.name))
            }
            // By convention a class's name is capitalised; what functions return is not followed.
            Root::Absolute | Root::Directory(_) => {
                let last = callee.name.path.rsplit('.').next().unwrap_or_default();
                let is_class = last.starts_with(|it: char| it.is_uppercase());
                is_class.then(|| Resolved::object(callee.name))
            }
        }
    }

    pub(super) fn class_by_path(&self, path: &str) -> Option<ScopeId> {
        self.classes.get(path).copied().filter(|it| self.scopes.get(*it).kind == Kind::Class)
    }
}

/// `Engine` of `engine: Engine`, `engine: Optional[Engine]`, `engine: Engine | None`.
fn annotated_class(annotation: &Expr) -> Option<&Expr> {
    match annotation {
        Expr::Name(_) | Expr::Attribute(_) => Some(annotation),
        Expr::Subscript(it) => match &*it.value {
            Expr::Name(name) if name.id == "Optional" => annotated_class(&it.slice),
            _ => None,
        },
        Expr::BinOp(it) if matches!(&*it.right, Expr::NoneLiteral(_)) => annotated_class(&it.left),
        _ => None,
    }
}

/// Builtin functions common enough to be mistaken for names that a star import brings.
fn is_builtin(name: &str) -> bool {
    matches!(
        name,
        "abs"
            | "all"
            | "any"
            | "bool"
            | "bytes"
            | "dict"
            | "dir"
            | "enumerate"
            | "exit"
            | "filter"
            | "float"
            | "format"
            | "getattr"
            | "hasattr"
            | "id"
            | "input"
            | "int"
            | "isinstance"
            | "issubclass"
            | "iter"
            | "len"
            | "list"
            | "map"
            | "max"
            | "min"
            | "next"
            | "object"
            | "open"
            | "print"
            | "property"
            | "quit"
            | "range"
            | "repr"
            | "reversed"
            | "round"
            | "set"
            | "setattr"
            | "sorted"
            | "str"
            | "sum"
            | "super"
            | "tuple"
            | "type"
            | "vars"
            | "zip"
            | "__name__"
            | "__file__"
            | "Exception"
            | "RuntimeError"
            | "ValueError"
            | "TypeError"
            | "KeyError"
    )
}
