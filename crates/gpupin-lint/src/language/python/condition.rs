//! What a test depends on.

use super::{
    Reader,
    provenance::is_named,
    syntax::{BoolOp, CmpOp, Expr, UnaryOp, ast},
};
use crate::{
    catalogue::Answer,
    unit::Condition,
    value::{Root, Value},
};

impl Reader<'_, '_> {
    /// The condition of a test, and whether it holds in the *other* arm.
    pub(super) fn condition(&self, test: &Expr) -> (Condition, bool) {
        match test {
            Expr::UnaryOp(it) if it.op == UnaryOp::Not => {
                let (condition, swapped) = self.condition(&it.operand);
                (condition, !swapped)
            }
            Expr::Compare(it) => self.comparison(it),
            Expr::Call(it) => {
                if self.is_environment_read(it, self.scope)
                    && let Some(name) = it.arguments.args.first()
                    && let Some(name) = self.text_of(name)
                {
                    return (Condition::VariableSet(name), false);
                }
                if let Expr::Attribute(method) = &*it.func
                    && method.attr.as_str() == "startswith"
                    && self.is_platform(&method.value)
                    && let Some(name) = it.arguments.args.first().and_then(|it| self.text_of(it))
                {
                    return (Condition::Platform(platform(&name)), false);
                }
                self.asked(test)
            }
            Expr::Name(_) | Expr::Attribute(_) => self.asked(test),
            Expr::Named(it) => self.condition(&it.value),
            _ => (Condition::Unknown, false),
        }
    }

    fn asked(&self, test: &Expr) -> (Condition, bool) {
        match self.answer_in(test, self.scope, 0) {
            Some(Answer::Available) => (Condition::CudaAvailable, false),
            Some(Answer::Count) => (Condition::MoreGpusThan(0), false),
            _ => match self.value(test).value {
                Value::Variable(name) => (Condition::VariableSet(name), false),
                _ => (Condition::Unknown, false),
            },
        }
    }

    fn comparison(&self, it: &ast::ExprCompare) -> (Condition, bool) {
        let unknown = (Condition::Unknown, false);
        let ([op], [right]) = (&*it.ops, &*it.comparators) else { return unknown };
        let left = &*it.left;
        match op {
            CmpOp::In | CmpOp::NotIn if self.is_environ(right) => match self.text_of(left) {
                Some(name) => (Condition::VariableSet(name), *op == CmpOp::NotIn),
                None => unknown,
            },
            CmpOp::Is | CmpOp::IsNot if right.is_none_literal_expr() => {
                match self.value(left).value {
                    Value::Variable(name) => (Condition::VariableSet(name), *op == CmpOp::Is),
                    _ => unknown,
                }
            }
            CmpOp::Eq | CmpOp::NotEq if self.is_platform(left) => match self.text_of(right) {
                Some(name) => (Condition::Platform(platform(&name)), *op == CmpOp::NotEq),
                None => unknown,
            },
            _ => {
                if self.counts_gpus(left)
                    && let Value::Int(number) = self.value(right).value
                {
                    return more_than(*op, number);
                }
                if self.counts_gpus(right)
                    && let Value::Int(number) = self.value(left).value
                {
                    return more_than(flipped(*op), number);
                }
                unknown
            }
        }
    }

    /// `torch.cuda.device_count()`, `len(jax.devices())`, `len(numba.cuda.gpus)`, or a name bound once to one.
    pub(super) fn counts_gpus(&self, expression: &Expr) -> bool {
        if self.answer_in(expression, self.scope, 0) == Some(Answer::Count) {
            return true;
        }
        match expression {
            Expr::Call(call) if is_named(&call.func, "len") => {
                call.arguments.args.first().is_some_and(|it| {
                    self.lists_gpus(it)
                        || self.answer_in(it, self.scope, 0) == Some(Answer::Available)
                })
            }
            _ => false,
        }
    }

    fn is_platform(&self, expression: &Expr) -> bool {
        match expression {
            Expr::Call(call) => self.is_library_path(&call.func, "platform.system"),
            Expr::Attribute(it) => {
                matches!(it.attr.as_str(), "platform" | "name")
                    && self.resolve(expression).is_some_and(|it| {
                        it.name.root == Root::Absolute
                            && matches!(it.name.path.as_str(), "sys.platform" | "os.name")
                    })
            }
            _ => false,
        }
    }

    /// How many GPUs must be visible more than for the test to hold, where it says so.
    pub(super) fn more_gpus_in(&self, test: &Expr) -> Option<i64> {
        match test {
            Expr::BoolOp(it) if it.op == BoolOp::And => {
                it.values.iter().find_map(|it| self.more_gpus_in(it))
            }
            Expr::BoolOp(_) => None,
            _ => match self.condition(test) {
                (Condition::MoreGpusThan(count), _) => Some(count),
                _ => None,
            },
        }
    }

    /// Tests whose outcome the text tells.
    pub(super) fn fixed_truth(&self, test: &Expr) -> Option<bool> {
        match test {
            Expr::BooleanLiteral(it) => Some(it.value),
            Expr::NumberLiteral(_) => match self.value(test).value {
                Value::Int(number) => Some(number != 0),
                _ => None,
            },
            Expr::Name(it) if it.id == "TYPE_CHECKING" => Some(false),
            Expr::Attribute(it) if it.attr.as_str() == "TYPE_CHECKING" => Some(false),
            Expr::UnaryOp(it) if it.op == UnaryOp::Not => {
                self.fixed_truth(&it.operand).map(|it| !it)
            }
            _ => None,
        }
    }
}

fn more_than(op: CmpOp, number: i64) -> (Condition, bool) {
    match op {
        CmpOp::Gt => (Condition::MoreGpusThan(number), false),
        CmpOp::GtE => (Condition::MoreGpusThan(number.saturating_sub(1)), false),
        CmpOp::Lt => (Condition::MoreGpusThan(number.saturating_sub(1)), true),
        CmpOp::LtE => (Condition::MoreGpusThan(number), true),
        // `== 0` is the same as "not more than none", `== 4` implies more than three.
        CmpOp::Eq if number == 0 => (Condition::MoreGpusThan(0), true),
        CmpOp::NotEq if number == 0 => (Condition::MoreGpusThan(0), false),
        CmpOp::Eq => (Condition::MoreGpusThan(number.saturating_sub(1)), false),
        _ => (Condition::Unknown, false),
    }
}

fn flipped(op: CmpOp) -> CmpOp {
    match op {
        CmpOp::Gt => CmpOp::Lt,
        CmpOp::GtE => CmpOp::LtE,
        CmpOp::Lt => CmpOp::Gt,
        CmpOp::LtE => CmpOp::GtE,
        other => other,
    }
}

/// One spelling for what `sys.platform`, `os.name` and `platform.system()` say.
fn platform(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        "nt" | "windows" | "win" | "win32" => "win32".to_owned(),
        "posix" | "linux" | "linux2" => "linux".to_owned(),
        "darwin" | "macos" => "darwin".to_owned(),
        _ => lower,
    }
}
