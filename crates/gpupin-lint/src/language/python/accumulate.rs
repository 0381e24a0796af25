//! `total += loss` in a loop: every addition keeps the graph of its step alive.
//!
//! Counts when what is added is called a loss, in a loop that calls `.backward()` or goes through batches. A sum
//! that is differentiated itself, or that a function returns to whoever differentiates it, is meant to keep its graph.
//! A loss that was made a number before, also by the function of the file that hands it back, or that comes from
//! evaluation (`torch.no_grad()`), has none.

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
        let place = self.span(range_of(value));
        let value = self.slice(range_of(value));
        if !value.to_ascii_lowercase().contains("loss") {
            return;
        }
        let function = self.context.function.unwrap_or((0, u32::MAX));
        let function_end = (function.1 as usize).min(self.text.len());
        let function = self.slice(function.0 as usize..function_end);
        let around = self.slice(start as usize..end as usize);
        let header = around.lines().next().unwrap_or_default();
        let trains = around.contains("backward(");
        let steps_through =
            ["loader", "batch", "while True", "epoch"].iter().any(|it| header.contains(it));
        if target == value {
            return;
        }
        let is_differentiated = differentiates(function, &target);
        let is_number = NUMBERS.iter().any(|number| {
            let assignment = format!("{value} = ");
            let mut lines = function.lines();
            lines.any(|line| line.contains(&assignment) && line.contains(number))
        });
        let is_detached = !trains && self.comes_detached(function, value);
        let is_result = !trains && function.contains(&format!("return {target}"));
        let has_no_graph = !trains
            && (self.is_evaluation_hook()
                || function.contains("no_grad")
                || function.contains("inference_mode"));
        if (trains || steps_through)
            && !is_differentiated
            && !is_number
            && !is_detached
            && !is_result
            && !has_no_graph
        {
            let value = value.to_owned();
            self.emit(steps, range, Does::AccumulateGraph { target, value, place });
        }
    }

    fn is_evaluation_hook(&self) -> bool {
        let path = &self.scopes.get(self.scope).path;
        path.rsplit('.').next().is_some_and(|it| EVALUATION_HOOKS.contains(&it))
    }

    /// Whether a loss is what a function of the file hands back, and that function detaches all it hands back:
    /// `loss = self.training_step(batch)`, where the step calls `backward()` itself.
    fn comes_detached(&self, function: &str, value: &str) -> bool {
        let assignment = format!("{value} = ");
        let mut lines = function.lines().map(str::trim_start);
        let Some(call) = lines.find_map(|it| it.strip_prefix(&assignment)) else { return false };
        let callee = call.split('(').next().unwrap_or_default();
        let name = callee.strip_prefix("self.").unwrap_or(callee);
        let Some(body) = body_of(self.text, name) else { return false };
        let mut returns =
            body.map(str::trim_start).filter(|it| it.starts_with("return")).peekable();
        returns.peek().is_some()
            && returns.all(|it| NUMBERS.iter().any(|number| it.contains(number)))
    }
}

/// The lines of the function of a name: what is indented deeper than its `def`, which may take several lines.
fn body_of<'t>(text: &'t str, name: &str) -> Option<impl Iterator<Item = &'t str>> {
    let header = format!("def {name}(");
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = text.lines();
    let depth = indent(lines.find(|it| it.trim_start().starts_with(&header))?);
    Some(lines.take_while(move |it| {
        it.trim().is_empty() || indent(it) > depth || it.trim_start().starts_with(')')
    }))
}

/// Methods that Lightning calls under `torch.no_grad()`.
const EVALUATION_HOOKS: &[&str] = &["validation_step", "test_step", "predict_step"];

/// What makes a number, or a tensor without a graph, of a loss.
const NUMBERS: &[&str] = &[".item()", ".detach()", "float(", ".numpy()", ".tolist()", ".data"];

/// `total.backward()`, `accelerator.backward(total)`, `scaler.scale(total).backward()`.
fn differentiates(text: &str, name: &str) -> bool {
    text.contains(&format!("{name}.backward("))
        || text.contains(&format!("backward({name}"))
        || text.contains(&format!(".scale({name})"))
        || text.contains(&format!("grad({name}"))
}

/// `loss` of `loss`, `loss / n` and `loss * n`.
fn summand(value: &Expr) -> Option<&Expr> {
    match value {
        Expr::Name(_) | Expr::Attribute(_) => Some(value),
        Expr::BinOp(it) if matches!(it.op, Operator::Div | Operator::Mult) => summand(&it.left),
        _ => None,
    }
}
