//! Paths that a file puts together from its own: `os.path.join(os.path.dirname(__file__), "train.py")`,
//! `Path(__file__).parent / "train.py"`.

use super::{
    Reader,
    scope::ScopeId,
    syntax::{Expr, Operator, ast},
};
use crate::value::Value;

const MAX_DEPTH: u32 = 12;

impl Reader<'_, '_> {
    /// The path an expression stands for, `/`-separated. `None` for what is no path, or a plain text.
    pub(super) fn path_value(
        &self,
        expression: &Expr,
        scope: ScopeId,
        depth: u32,
    ) -> Option<String> {
        if depth > MAX_DEPTH {
            return None;
        }
        let next = depth + 1;
        match expression {
            Expr::Name(name) if name.id == "__file__" => Some(self.path.clone()),
            Expr::Name(name) => {
                let binding = self.scopes.lookup(&name.id, scope)?;
                match binding.bound {
                    super::scope::Bound::Value(
                        value @ (Expr::Call(_) | Expr::BinOp(_) | Expr::Attribute(_)),
                    ) if binding.is_sole() => self.path_value(value, binding.scope, next),
                    _ => None,
                }
            }
            Expr::BinOp(it) if it.op == Operator::Div => {
                let left = self.path_value(&it.left, scope, next)?;
                Some(joined(&left, &self.part(&it.right, scope, next)?))
            }
            Expr::Attribute(it) if it.attr.as_str() == "parent" => {
                Some(parent(&self.path_value(&it.value, scope, next)?).to_owned())
            }
            Expr::Call(call) => self.path_call(call, scope, next),
            _ => None,
        }
    }

    fn path_call(&self, call: &ast::ExprCall, scope: ScopeId, depth: u32) -> Option<String> {
        let arguments = &*call.arguments.args;
        let segment = super::call::last_segment(&call.func)?;
        if let (Expr::Attribute(method), "resolve" | "absolute" | "expanduser" | "as_posix") =
            (&*call.func, segment)
        {
            return self.path_value(&method.value, scope, depth);
        }
        let first = arguments.first();
        match segment {
            "Path" | "PurePath" | "abspath" | "realpath" | "normpath" | "fspath" | "str" => {
                self.path_value(first?, scope, depth)
            }
            "dirname" => Some(parent(&self.path_value(first?, scope, depth)?).to_owned()),
            "joinpath" => {
                let Expr::Attribute(method) = &*call.func else { return None };
                let path = self.path_value(&method.value, scope, depth)?;
                self.joined_parts(path, arguments, scope, depth)
            }
            "join" if arguments.len() > 1 => {
                let path = self.path_value(first?, scope, depth)?;
                self.joined_parts(path, &arguments[1..], scope, depth)
            }
            _ => None,
        }
    }

    fn joined_parts(
        &self,
        path: String,
        parts: &[Expr],
        scope: ScopeId,
        depth: u32,
    ) -> Option<String> {
        parts.iter().try_fold(path, |path, it| Some(joined(&path, &self.part(it, scope, depth)?)))
    }

    fn part(&self, expression: &Expr, scope: ScopeId, depth: u32) -> Option<String> {
        match self.value_in(expression, scope, depth).value {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |it| it.0)
}

fn joined(path: &str, part: &str) -> String {
    let mut path = path.to_owned();
    for step in part.split(['/', '\\']) {
        match step {
            "" | "." => {}
            ".." => path.truncate(parent(&path).len()),
            step if path.is_empty() => step.clone_into(&mut path),
            step => {
                path.push('/');
                path.push_str(step);
            }
        }
    }
    path
}
