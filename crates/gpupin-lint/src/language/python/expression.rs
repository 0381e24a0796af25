//! Expressions in the order they are evaluated.

use super::{
    Context, Reader, flow,
    syntax::{BoolOp, Expr, InterpolatedStringElement, ast},
};
use crate::unit::{Block, Condition, Step};

impl<'a> Reader<'a, '_> {
    pub(super) fn expression(&mut self, expression: &'a Expr, steps: &mut Vec<Step>) {
        if self.depth >= flow::MAX_DEPTH {
            return;
        }
        self.depth += 1;
        match expression {
            Expr::Name(_)
            | Expr::NumberLiteral(_)
            | Expr::BooleanLiteral(_)
            | Expr::NoneLiteral(_)
            | Expr::EllipsisLiteral(_)
            | Expr::BytesLiteral(_) => {}
            Expr::StringLiteral(it) => self.device_literal(it, steps),
            Expr::Call(it) => self.call(it, expression, steps),
            Expr::Attribute(it) => self.owner(&it.value, &it.attr, steps),
            Expr::FString(it) => {
                let context = Context { is_told: true, ..self.context };
                for element in it.value.elements() {
                    if let InterpolatedStringElement::Interpolation(it) = element {
                        self.within(context, |reader| reader.expression(&it.expression, steps));
                    }
                }
                self.composed_device(expression, steps);
            }
            Expr::TString(it) => {
                for element in it.value.elements() {
                    if let InterpolatedStringElement::Interpolation(it) = element {
                        self.expression(&it.expression, steps);
                    }
                }
            }
            Expr::BinOp(it) => self.operator(it, expression, steps),
            Expr::BoolOp(it) => self.short_circuit(it, steps),
            Expr::UnaryOp(it) => self.expression(&it.operand, steps),
            Expr::Compare(it) => {
                let context = self.context.telling();
                self.within(context, |reader| {
                    reader.expression(&it.left, steps);
                    for value in &it.comparators {
                        reader.expression(value, steps);
                    }
                });
            }
            Expr::If(it) => self.conditional(it, steps),
            Expr::Dict(it) => self.dictionary_display(it, steps),
            Expr::List(ast::ExprList { elts, .. })
            | Expr::Tuple(ast::ExprTuple { elts, .. })
            | Expr::Set(ast::ExprSet { elts, .. }) => {
                self.provider_list(expression, elts, steps);
                for element in elts {
                    self.expression(element, steps);
                }
            }
            Expr::Subscript(it) => self.subscript(it, expression, steps),
            Expr::Starred(it) => self.expression(&it.value, steps),
            Expr::Named(it) => self.expression(&it.value, steps),
            Expr::Await(it) => self.expression(&it.value, steps),
            Expr::Yield(it) => {
                if let Some(value) = &it.value {
                    self.expression(value, steps);
                }
            }
            Expr::YieldFrom(it) => self.expression(&it.value, steps),
            Expr::Lambda(it) => {
                // Its body runs when somebody calls it; only its defaults run here.
                if let Some(parameters) = &it.parameters {
                    self.parameter_defaults(parameters, steps);
                }
                self.expression(&it.body, &mut Vec::new());
            }
            Expr::ListComp(ast::ExprListComp { elt, generators, .. })
            | Expr::SetComp(ast::ExprSetComp { elt, generators, .. })
            | Expr::Generator(ast::ExprGenerator { elt, generators, .. }) => {
                self.comprehension(&[&**elt], generators, steps);
            }
            Expr::DictComp(it) => match &it.key {
                Some(key) => self.comprehension(&[&**key, &*it.value], &it.generators, steps),
                None => self.comprehension(&[&*it.value], &it.generators, steps),
            },
            Expr::Slice(it) => {
                for part in [&it.lower, &it.upper, &it.step].into_iter().flatten() {
                    self.expression(part, steps);
                }
            }
            Expr::IpyEscapeCommand(it) => self.magic_value(it, steps),
        }
        self.depth -= 1;
    }

    /// What has an attribute or a method. Other than by its number and kind, it is used.
    pub(super) fn owner(&mut self, owner: &'a Expr, attribute: &str, steps: &mut Vec<Step>) {
        let is_told = self.context.is_told && matches!(attribute, "id" | "index" | "type");
        let context = Context { is_told, ..self.context };
        self.within(context, |reader| reader.expression(owner, steps));
    }

    fn operator(&mut self, it: &'a ast::ExprBinOp, whole: &'a Expr, steps: &mut Vec<Step>) {
        if self.composed_device(whole, steps) {
            self.expression(&it.right, steps);
            return;
        }
        // A long sum leans left; going down it in a loop keeps the stack flat.
        let mut rights = vec![&*it.right];
        let mut left = &*it.left;
        while let Expr::BinOp(inner) = left {
            rights.push(&inner.right);
            left = &inner.left;
        }
        self.expression(left, steps);
        for right in rights.into_iter().rev() {
            self.expression(right, steps);
        }
    }

    fn short_circuit(&mut self, it: &'a ast::ExprBoolOp, steps: &mut Vec<Step>) {
        let Some((first, others)) = it.values.split_first() else { return };
        self.expression(first, steps);
        let (condition, swapped) = self.condition(first);
        let mut rest = Vec::new();
        let more_than = match condition {
            Condition::MoreGpusThan(count) if !swapped && it.op == BoolOp::And => Some(count),
            _ => None,
        };
        // `device or ("cuda" if … else "cpu")` gets to the right when nobody said.
        let holds = it.op == BoolOp::And;
        let context = Context {
            more_than: more_than.or(self.context.more_than),
            ..self.arm_context(first, holds)
        };
        self.within(context, |reader| {
            for value in others {
                reader.expression(value, &mut rest);
            }
        });
        // `a or b` runs `b` in the other arm.
        let swapped = swapped != (it.op == BoolOp::Or);
        flow::push_branch(steps, condition, swapped, Block(rest), Vec::new());
    }

    fn conditional(&mut self, it: &'a ast::ExprIf, steps: &mut Vec<Step>) {
        self.condition_expression(&it.test, steps);
        self.conditional_fallback(it, steps);
        let (condition, swapped) = self.condition(&it.test);
        let mut arms = [Vec::new(), Vec::new()];
        let more_than = self.more_gpus_in(&it.test);
        for (arm, value) in [&it.body, &it.orelse].into_iter().enumerate() {
            let holds = (arm == 0) != swapped;
            let more_than = more_than.filter(|_| holds).or(self.context.more_than);
            let context = Context { more_than, ..self.arm_context(&it.test, arm == 0) };
            let steps = &mut arms[arm];
            self.within(context, |reader| reader.expression(value, steps));
        }
        let [first, second] = arms;
        flow::push_branch(steps, condition, swapped, Block(first), vec![Block(second)]);
    }

    fn dictionary_display(&mut self, it: &'a ast::ExprDict, steps: &mut Vec<Step>) {
        for item in &it.items {
            if let Some(key) = &item.key {
                let context = self.context.telling();
                self.within(context, |reader| reader.expression(key, steps));
                if let Expr::StringLiteral(key) = key {
                    self.setting(key.value.to_str(), &item.value, super::setting::Place::Key(it));
                }
            }
            self.expression(&item.value, steps);
        }
    }

    fn subscript(&mut self, it: &'a ast::ExprSubscript, whole: &'a Expr, steps: &mut Vec<Step>) {
        // `Literal["cuda:0", "cuda:1"]` names types.
        if matches!(&*it.value, Expr::Name(name) if name.id == "Literal") {
            return;
        }
        self.expression(&it.value, steps);
        let context = self.context.telling();
        self.within(context, |reader| reader.expression(&it.slice, steps));
        self.indexed(it, whole, steps);
    }

    fn comprehension(
        &mut self,
        elements: &[&'a Expr],
        generators: &'a [ast::Comprehension],
        steps: &mut Vec<Step>,
    ) {
        let mut inner = Vec::new();
        for (at, generator) in generators.iter().enumerate() {
            let into = if at == 0 { &mut *steps } else { &mut inner };
            self.expression(&generator.iter, into);
            for test in &generator.ifs {
                self.condition_expression(test, &mut inner);
            }
        }
        for element in elements {
            self.expression(element, &mut inner);
        }
        if !inner.is_empty() {
            steps.push(Step::Loop(Block(inner)));
        }
    }
}
