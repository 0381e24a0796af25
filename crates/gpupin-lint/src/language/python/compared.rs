//! Functions of a file that only compare what they are given: `def check_eq(self, a, b): assert a == b`.

use super::{
    Reader, flow,
    syntax::{Expr, Stmt, Visitor, ast, walk_expr},
};
use crate::{
    catalogue::{self, Form},
    value::Root,
};

impl Reader<'_, '_> {
    /// Whether an argument makes an object that names a device, and goes to a function of this file that only compares it.
    pub(super) fn only_compares(
        &self,
        call: &ast::ExprCall,
        position: usize,
        argument: &Expr,
    ) -> bool {
        let Expr::Call(object) = argument else { return false };
        let Some(segment) = super::call::last_segment(&object.func) else { return false };
        if !catalogue::candidates(segment).iter().any(|it| it.names && it.form == Form::Call) {
            return false;
        }
        let Some(callee) = self.resolve(&call.func) else { return false };
        if callee.name.root != Root::Here {
            return false;
        }
        let Some(function) = self.function_by_path(&callee.name.path) else { return false };
        let mut parameters =
            function.parameters.posonlyargs.iter().chain(&function.parameters.args);
        let first = function.parameters.args.first().map(|it| it.name().as_str());
        let is_method = matches!(first, Some("self" | "cls"));
        let Some(parameter) = parameters.nth(position + usize::from(is_method)) else {
            return false;
        };
        let mut uses = Uses { name: parameter.name(), is_used: false, depth: 0 };
        uses.visit_body(&function.body);
        !uses.is_used
    }
}

/// Whether a name stands anywhere but in a comparison.
struct Uses<'n> {
    name: &'n str,
    is_used: bool,
    depth: u32,
}

impl<'a> Visitor<'a> for Uses<'_> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        self.is_used |= self.depth >= flow::MAX_DEPTH;
        if !self.is_used {
            self.depth += 1;
            ast::visitor::walk_stmt(self, statement);
            self.depth -= 1;
        }
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        // What lies deeper is not looked at, so it may be a use.
        self.is_used |= self.depth >= flow::MAX_DEPTH;
        if self.is_used {
            return;
        }
        self.depth += 1;
        match expression {
            Expr::Compare(it) => {
                let operands = std::iter::once(&*it.left).chain(&it.comparators);
                operands.filter(|it| !it.is_name_expr()).for_each(|it| self.visit_expr(it));
            }
            Expr::Name(it) => self.is_used = it.id == self.name,
            other => walk_expr(self, other),
        }
        self.depth -= 1;
    }
}
