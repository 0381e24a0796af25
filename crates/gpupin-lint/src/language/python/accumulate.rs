//! `total += loss` in a loop: every addition keeps the graph of its step alive.
//!
//! Counts when what is added is called a loss, the same loop calls `.backward()` on it, and the sum itself is
//! neither backpropagated nor made a number in between. What is only evaluated (`torch.no_grad()`) has no `.backward()`.

use super::{
    Reader,
    syntax::{Expr, Operator, ast, range_of},
};
use crate::unit::{Does, Step};

impl<'a> Reader<'a, '_> {
    pub(super) fn accumulation(&mut self, it: &'a ast::StmtAugAssign, steps: &mut Vec<Step>) {
        if it.op == Operator::Add {
            let target = self.slice(range_of(&*it.target)).to_owned();
            self.accumulates(target, &it.value, range_of(it), steps);
        }
    }

    /// `losses.append(loss)`.
    pub(super) fn accumulating_append(&mut self, it: &'a ast::ExprCall, steps: &mut Vec<Step>) {
        let Expr::Attribute(method) = &*it.func else { return };
        if self.context.in_loop.is_none() || method.attr.as_str() != "append" {
            return;
        }
        if let [value @ (Expr::Name(_) | Expr::Attribute(_))] = &*it.arguments.args {
            let target = self.slice(range_of(&*method.value)).to_owned();
            self.accumulates(target, value, range_of(it), steps);
        }
    }

    fn accumulates(
        &mut self,
        target: String,
        value: &'a Expr,
        range: std::ops::Range<usize>,
        steps: &mut Vec<Step>,
    ) {
        let Some((start, end)) = self.context.in_loop else { return };
        let Some(value) = summand(value) else { return };
        let value = self.slice(range_of(value));
        if !value.to_ascii_lowercase().contains("loss") {
            return;
        }
        let around = self.slice(start as usize..end as usize);
        let calls = |name: &str| {
            around.contains(&format!("{name}.backward("))
                || around.contains(&format!("backward({name}"))
                || around.contains(&format!(".scale({name}).backward("))
        };
        let detached = [".item()", ".detach()"]
            .iter()
            .any(|it| around.contains(&format!("{value} = {value}{it}")));
        if calls(value) && !calls(&target) && !detached {
            let value = value.to_owned();
            self.emit(steps, range, Does::AccumulateGraph { target, value });
        }
    }
}

/// `loss` of `loss`, `loss / n` and `loss * n`.
fn summand(value: &Expr) -> Option<&Expr> {
    match value {
        Expr::Name(_) | Expr::Attribute(_) => Some(value),
        Expr::BinOp(it) if matches!(it.op, Operator::Div | Operator::Mult) => summand(&it.left),
        _ => None,
    }
}
