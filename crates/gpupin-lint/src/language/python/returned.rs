//! What functions return, where they only return something known.

use super::{
    Reader,
    scope::{Bound, ScopeId, Scopes},
    syntax::{Expr, Stmt, ast},
};
use crate::value::{Root, Spanned};

impl Reader<'_, '_> {
    /// `pick()` of this file's `def pick(): return 1`.
    ///
    /// Methods are left out: another class may replace them.
    pub(super) fn returned(
        &self,
        it: &ast::ExprCall,
        scope: ScopeId,
        depth: u32,
    ) -> Option<Spanned> {
        let Expr::Name(_) = &*it.func else { return None };
        let callee = self.resolve_in(&it.func, scope, depth)?.name;
        if callee.root != Root::Here || self.scopes.attribute(Scopes::MODULE, &callee.path)?.again {
            return None;
        }
        let function = self.function_by_path(&callee.path)?;
        if function.is_async || !function.decorator_list.is_empty() {
            return None;
        }
        let value = only_return(&function.body)?;
        let inner = self.scopes.of(function)?;
        let is_constant = match value {
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => true,
            Expr::Name(name) => {
                let binding = self.scopes.lookup(&name.id, inner);
                binding.is_some_and(|it| matches!(it.bound, Bound::Value(_)))
            }
            _ => false,
        };
        is_constant.then(|| self.value_in(value, inner, depth + 1))
    }
}

/// The value of a body that only returns one, behind its docstring.
fn only_return(body: &[Stmt]) -> Option<&Expr> {
    let is_docstring =
        |it: &Stmt| matches!(it, Stmt::Expr(it) if it.value.is_string_literal_expr());
    let body = match body {
        [first, rest @ ..] if is_docstring(first) => rest,
        all => all,
    };
    match body {
        [Stmt::Return(it)] => it.value.as_deref(),
        _ => None,
    }
}
