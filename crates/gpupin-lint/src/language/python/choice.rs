//! What somebody else may say about the device: an option, a caller's argument, a field of a configuration.
//!
//! A CPU that is taken because of such a word is a choice, and so is one that is taken where nobody said anything who
//! could have. Environment variables do not count: nobody sees them in a signature or in `--help`.

use super::{
    Context, Reader,
    scope::{Bound, Kind, ScopeId},
    syntax::{BoolOp, CmpOp, Expr, Stmt, UnaryOp, ast, range_of},
};

/// Flags made of flags are followed this far.
const MAX_DEPTH: u32 = 8;

impl Reader<'_, '_> {
    /// Whether a test takes the CPU when somebody asked for it: `torch.cuda.is_available() and not args.cpu`, also
    /// through a flag. `use_gpu and torch.cuda.is_available()` does not: who asks for a GPU gets the CPU in silence.
    pub(super) fn chooses_cpu(&self, test: &Expr) -> bool {
        self.chooses_cpu_in(test, self.scope, 0)
    }

    fn chooses_cpu_in(&self, test: &Expr, scope: ScopeId, depth: u32) -> bool {
        if depth > MAX_DEPTH {
            return false;
        }
        match test {
            Expr::BoolOp(it) => it.values.iter().any(|value| {
                self.asks_for_cpu(value, it.op, scope)
                    || self.chooses_cpu_in(value, scope, depth + 1)
            }),
            Expr::UnaryOp(it) if it.op == UnaryOp::Not => {
                self.chooses_cpu_in(&it.operand, scope, depth + 1)
            }
            Expr::Named(it) => self.chooses_cpu_in(&it.value, scope, depth + 1),
            Expr::Name(name) => match self.scopes.lookup(&name.id, scope) {
                Some(binding) if binding.is_sole() => match binding.bound {
                    Bound::Value(value) => self.chooses_cpu_in(value, binding.scope, depth + 1),
                    _ => false,
                },
                _ => false,
            },
            _ => false,
        }
    }

    /// A part of a test beside the question for a GPU that leads to the CPU by itself.
    fn asks_for_cpu(&self, part: &Expr, op: BoolOp, scope: ScopeId) -> bool {
        match (op, part) {
            (BoolOp::And, Expr::UnaryOp(it)) => {
                it.op == UnaryOp::Not && self.is_said(&it.operand, scope, 0)
            }
            (_, Expr::Compare(it)) => match compared_with_text(it) {
                Some((said, compared, text)) => {
                    let wanted = if op == BoolOp::And { CmpOp::NotEq } else { CmpOp::Eq };
                    compared == wanted && text == "cpu" && self.is_said(said, scope, 0)
                }
                None => false,
            },
            (BoolOp::And, _) => false,
            (BoolOp::Or, it) => self.is_said(it, scope, 0),
        }
    }

    /// Whether a test holds (`true`), or fails (`false`), when nobody said a device who could have: `device is None`.
    /// It also holds when nobody asked for the CPU: `not force_cpu`.
    pub(super) fn nobody_said(&self, test: &Expr) -> Option<bool> {
        let is_device = |it: &Expr| says_device_name(it) && self.is_said(it, self.scope, 0);
        match test {
            Expr::UnaryOp(it) if it.op == UnaryOp::Not => {
                self.nobody_said(&it.operand).map(|it| !it)
            }
            Expr::Compare(it) => {
                let ([op], [right]) = (&*it.ops, &*it.comparators) else { return None };
                let says_nothing = match right {
                    Expr::NoneLiteral(_) => true,
                    Expr::StringLiteral(it) => matches!(it.value.to_str(), "" | "auto"),
                    _ => false,
                };
                let holds = match op {
                    CmpOp::Is | CmpOp::Eq => true,
                    CmpOp::IsNot | CmpOp::NotEq => false,
                    _ => return None,
                };
                (says_nothing && is_device(&it.left)).then_some(holds)
            }
            Expr::BoolOp(it) => {
                let parts = || it.values.iter().map(|it| self.nobody_said(it));
                // One part is enough in a conjunction that holds, or in a disjunction that fails.
                let enough = it.op == BoolOp::And;
                if parts().any(|it| it == Some(enough)) {
                    return Some(enough);
                }
                parts().all(|it| it == Some(!enough)).then_some(!enough)
            }
            it => is_device(it).then_some(false),
        }
    }

    /// The context of the arm in which a test holds, or fails.
    pub(super) fn arm_context(&self, test: &Expr, holds: bool) -> Context {
        let chosen = self.context.chosen || self.nobody_said(test) == Some(holds);
        Context { chosen, ..self.context }
    }

    /// Notes an arm that is taken when somebody asked for the CPU.
    pub(super) fn note_cpu_arm(&mut self, test: &Expr, body: &[Stmt]) {
        if let (Some(first), Some(last)) = (body.first(), body.last())
            && self.is_for_cpu(test)
        {
            let span = self.span(range_of(first).start..range_of(last).end);
            self.out.unit().cpu_arms.push(span);
        }
    }

    /// `device == "cpu"`, `device.startswith("cpu")`, `args.cpu`, `no_cuda`, `not use_gpu`.
    fn is_for_cpu(&self, test: &Expr) -> bool {
        let is_said = |it: &Expr| self.is_said(it, self.scope, 0);
        match test {
            Expr::Compare(it) => matches!(compared_with_text(it), Some((_, CmpOp::Eq, "cpu"))),
            Expr::Call(call) => {
                super::call::last_segment(&call.func) == Some("startswith")
                    && matches!(call.arguments.args.first(), Some(Expr::StringLiteral(it)) if it.value.to_str() == "cpu")
            }
            Expr::UnaryOp(it) => {
                it.op == UnaryOp::Not
                    && asks_for(&it.operand) == Some(Processor::Gpu)
                    && is_said(&it.operand)
            }
            Expr::BoolOp(it) => {
                it.op == BoolOp::And && it.values.iter().any(|it| self.is_for_cpu(it))
            }
            it => asks_for(it) == Some(Processor::Cpu) && is_said(it),
        }
    }

    /// Whether an expression is what a caller or a user said: a parameter, or an option by its name.
    fn is_said(&self, it: &Expr, scope: ScopeId, depth: u32) -> bool {
        if depth > MAX_DEPTH {
            return false;
        }
        match it {
            Expr::Name(name) => match self.scopes.lookup(&name.id, scope) {
                Some(binding) => match binding.bound {
                    Bound::Parameter(_) => true,
                    // `device = args.device`, perhaps replaced where it says nothing.
                    Bound::Value(
                        value @ (Expr::Name(_)
                        | Expr::Attribute(_)
                        | Expr::Call(_)
                        | Expr::Subscript(_)),
                    ) => self.is_said(value, binding.scope, depth + 1),
                    _ => false,
                },
                None => false,
            },
            Expr::Attribute(option) => {
                says_device_name(it) && self.holds_options(option, scope, depth)
            }
            // `config["device"]`, `kwargs.pop("device", None)`, `getattr(args, "cpu", False)`.
            Expr::Subscript(item) => {
                names_device(&item.slice) && !self.is_environ_in(&item.value, scope)
            }
            Expr::Call(call) => {
                let arguments = &call.arguments.args;
                match &*call.func {
                    Expr::Attribute(method) => {
                        matches!(method.attr.as_str(), "get" | "pop")
                            && arguments.first().is_some_and(names_device)
                            && !self.is_environ_in(&method.value, scope)
                    }
                    Expr::Name(function) => {
                        function.id == "getattr" && arguments.get(1).is_some_and(names_device)
                    }
                    _ => false,
                }
            }
            _ => false,
        }
    }

    /// Whether an attribute is one of options or of a configuration: not of a library, nor what an object found out
    /// by itself.
    fn holds_options(&self, it: &ast::ExprAttribute, scope: ScopeId, depth: u32) -> bool {
        let mut root = &*it.value;
        while let Expr::Attribute(it) = root {
            root = &it.value;
        }
        let Expr::Name(root) = root else { return false };
        match self.scopes.lookup(&root.id, scope).map(|it| &it.bound) {
            Some(Bound::Foreign(_)) => false,
            Some(Bound::Receiver(class)) if it.value.is_name_expr() => {
                match self.scopes.attribute(*class, &it.attr) {
                    // A field is a parameter of the constructor.
                    Some(binding) if self.scopes.get(binding.scope).kind == Kind::Class => true,
                    Some(binding) => match binding.bound {
                        Bound::Value(value) => self.is_said(value, binding.scope, depth + 1),
                        _ => false,
                    },
                    None => true,
                }
            }
            _ => true,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Processor {
    Cpu,
    Gpu,
}

/// What an option asks for by its name when it is set: `use_cpu`, `no_cuda`, `use_gpu`.
fn asks_for(option: &Expr) -> Option<Processor> {
    let name = match option {
        Expr::Name(it) => it.id.to_ascii_lowercase(),
        Expr::Attribute(it) => it.attr.to_ascii_lowercase(),
        _ => return None,
    };
    let is_negative = ["no_", "disable_", "without_"].iter().any(|it| name.starts_with(it));
    match (name.contains("cpu"), name.contains("gpu") || name.contains("cuda")) {
        (true, false) if !is_negative => Some(Processor::Cpu),
        (false, true) if is_negative => Some(Processor::Cpu),
        (false, true) => Some(Processor::Gpu),
        _ => None,
    }
}

/// `device == "cpu"`: what is compared, how, and with which text.
fn compared_with_text(it: &ast::ExprCompare) -> Option<(&Expr, CmpOp, &str)> {
    let ([op], [Expr::StringLiteral(text)]) = (&*it.ops, &*it.comparators) else { return None };
    Some((&it.left, *op, text.value.to_str()))
}

fn says_device_name(it: &Expr) -> bool {
    match it {
        Expr::Name(it) => says_device(&it.id),
        Expr::Attribute(it) => says_device(&it.attr),
        _ => true,
    }
}

fn names_device(key: &Expr) -> bool {
    matches!(key, Expr::StringLiteral(it) if says_device(it.value.to_str()))
}

/// Whether a name is that of an option about devices: `no_cuda`, `cpu`, `use_gpu`, `map_location`.
fn says_device(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["cpu", "gpu", "cuda", "device", "accelerator", "map_location"]
        .iter()
        .any(|it| name.contains(it))
}
