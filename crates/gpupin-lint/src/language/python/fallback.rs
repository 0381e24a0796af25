//! Work that goes to the CPU in silence when there is no GPU.
//!
//! A fallback is silent unless it is logged at warning or above, perhaps by another method of its class, or raises. It is the user's choice, and none, when
//! what decides is an argument or an option and not whether there is a GPU.

use super::{
    Reader, argument, directory_of_tests,
    syntax::{ExceptHandler, Expr, Stmt, ast, range_of},
};
use crate::{
    span::Span,
    unit::{Condition, CpuFallback, Does, Step},
    value::Value,
};

/// Where a device is decided.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goes {
    Cuda,
    Cpu,
}

impl<'a> Reader<'a, '_> {
    /// `"cuda" if torch.cuda.is_available() else "cpu"`, also with another choice between: `else "mps" if … else "cpu"`.
    pub(super) fn conditional_fallback(&mut self, it: &'a ast::ExprIf, steps: &mut Vec<Step>) {
        let mut last = &*it.orelse;
        while let Expr::If(next) = last {
            last = &next.orelse;
        }
        let falls = matches!(
            (self.goes(&it.body), self.goes(last)),
            (Some(Goes::Cuda), Some(Goes::Cpu)) | (Some(Goes::Cpu), Some(Goes::Cuda))
        );
        if falls && !self.context.only_tells && self.falls_for_want(&it.test) {
            let gpu = if self.goes(&it.body) == Some(Goes::Cuda) { &it.body } else { &it.orelse };
            // Of three, the others are somebody's GPU too.
            let gpu_part = (!it.orelse.is_if_expr())
                .then(|| (self.span(range_of(it)), self.span(range_of(&**gpu))));
            let kind = "conditional expression";
            self.fallback(CpuFallback { kind, gpu_part }, range_of(it), steps);
        }
    }

    /// `if torch.cuda.is_available(): device = "cuda"` … `else: device = "cpu"`, and the same in an `elif`.
    pub(super) fn branch_fallback(&mut self, it: &'a ast::StmtIf, steps: &mut Vec<Step>) {
        let Some(other) = it.elif_else_clauses.last() else {
            let asks = self.falls_for_want(&it.test)
                && self.more_gpus_in(&it.test).is_none_or(|count| count == 0);
            if asks && it.body.iter().any(|it| self.moves_to_cuda(it)) {
                let fallback = CpuFallback { kind: CpuFallback::ONLY_IF_THERE, gpu_part: None };
                self.fallback(fallback, range_of(&*it.test), steps);
            }
            return;
        };
        if other.test.is_some() {
            return;
        }
        let elifs =
            it.elif_else_clauses.iter().filter_map(|it| Some((it.test.as_ref()?, &it.body)));
        let asking = std::iter::once((&*it.test, &it.body))
            .chain(elifs)
            .take_while(|it| self.nobody_said(it.0) != Some(false))
            .find(|(test, body)| {
                self.falls_quietly(body, &other.body) && self.falls_for_want(test)
            });
        if let Some((test, _)) = asking {
            let gpu_part = self.gpu_arm(it);
            self.fallback(CpuFallback { kind: "if/else", gpu_part }, range_of(test), steps);
        }
    }

    /// The whole of an `if` with one `else`, and the GPU's arm, where both are one statement.
    fn gpu_arm(&self, it: &'a ast::StmtIf) -> Option<(Span, Span)> {
        let ([body], [other]) = (&*it.body, &*it.elif_else_clauses) else { return None };
        let [other] = &*other.body else { return None };
        let (_, goes) = self.decides(std::slice::from_ref(body))?;
        let gpu = if goes == Goes::Cuda { body } else { other };
        Some((self.span(range_of(it)), self.span(range_of(gpu))))
    }

    /// Whether the CPU is taken because there is no GPU, and not because the caller asked for it as well:
    /// `torch.cuda.is_available() and not force_cpu`.
    fn falls_for_want(&self, test: &Expr) -> bool {
        !self.chooses_cpu(test) && !is_for_nccl(test) && self.asks_available(test)
    }

    fn falls_quietly(&self, body: &'a [Stmt], other: &'a [Stmt]) -> bool {
        match (self.decides(body), self.decides(other)) {
            (Some((a, Goes::Cuda)), Some((b, Goes::Cpu))) if a == b => !warns(other),
            (Some((a, Goes::Cpu)), Some((b, Goes::Cuda))) if a == b => !warns(body),
            _ => false,
        }
    }

    /// `model.cuda()`, `model = model.to("cuda")`, `model.cuda().half()`.
    fn moves_to_cuda(&self, statement: &Stmt) -> bool {
        let mut value = match statement {
            Stmt::Expr(it) => &*it.value,
            Stmt::Assign(it) => &*it.value,
            _ => return false,
        };
        // What is called on what was moved.
        while let Expr::Call(call) = value
            && let Expr::Attribute(method) = &*call.func
            && matches!(method.attr.as_str(), "half" | "float" | "bfloat16" | "eval" | "train")
        {
            value = &method.value;
        }
        matches!(value, Expr::Call(call)
            if matches!(super::call::last_segment(&call.func), Some("cuda" | "to")))
            && self.goes(value) == Some(Goes::Cuda)
    }

    /// `device = "cpu"` and then `if torch.cuda.is_available(): device = "cuda"`, or the same with `return`.
    pub(super) fn assigned_fallback(&mut self, pair: &'a [Stmt], steps: &mut Vec<Step>) {
        let (test, other) = match pair {
            [before, Stmt::If(test)] if !matches!(before, Stmt::If(_)) => (test, before),
            [Stmt::If(test), after @ Stmt::Return(_)] => (test, after),
            _ => return,
        };
        let elifs = &test.elif_else_clauses;
        if elifs.iter().any(|it| it.test.is_none()) {
            return;
        }
        let other = self.decides(std::slice::from_ref(other));
        let falls = |body: &'a [Stmt]| match (other, self.decides(body)) {
            (Some((a, Goes::Cpu)), Some((b, Goes::Cuda))) => a == b,
            // With further arms the GPU is what nothing else was asked for.
            (Some((a, Goes::Cuda)), Some((b, Goes::Cpu))) => {
                a == b && elifs.is_empty() && !warns(body)
            }
            _ => false,
        };
        let elifs = elifs.iter().filter_map(|it| Some((it.test.as_ref()?, &*it.body)));
        let asking = std::iter::once((&*test.test, &*test.body))
            .chain(elifs)
            .find(|(test, body)| falls(body) && self.falls_for_want(test));
        if let Some((test, _)) = asking {
            let fallback = CpuFallback { kind: "if/else", gpu_part: None };
            self.fallback(fallback, range_of(test), steps);
        }
    }

    /// `except RuntimeError: device = "cpu"`.
    pub(super) fn excepted(&mut self, it: &'a ast::StmtTry, steps: &mut Vec<Step>) {
        for ExceptHandler::ExceptHandler(handler) in &it.handlers {
            if warns(&handler.body) || handler.body.iter().any(|it| matches!(it, Stmt::Raise(_))) {
                continue;
            }
            let falls = handler.body.iter().any(|it| self.goes_statement(it) == Some(Goes::Cpu));
            let tried = it.body.iter().any(|it| self.goes_statement(it) == Some(Goes::Cuda));
            if falls && tried {
                let fallback = CpuFallback { kind: "except", gpu_part: None };
                self.fallback(fallback, range_of(handler), steps);
            }
        }
    }

    /// `["CUDAExecutionProvider", "CPUExecutionProvider"]`.
    pub(super) fn provider_list(
        &mut self,
        whole: &'a Expr,
        elements: &'a [Expr],
        steps: &mut Vec<Step>,
    ) {
        if self.context.only_tells || elements.len() < 2 || elements.len() > 8 {
            return;
        }
        let name = |it: &'a Expr| match it {
            Expr::StringLiteral(it) => Some(it.value.to_str()),
            Expr::Tuple(it) => match it.elts.first() {
                Some(Expr::StringLiteral(it)) => Some(it.value.to_str()),
                _ => None,
            },
            _ => None,
        };
        let mut names = elements.iter().map(name);
        if names.next().flatten().is_some_and(argument::is_cuda_provider)
            && names.any(|it| it == Some("CPUExecutionProvider"))
        {
            let fallback = CpuFallback { kind: "provider list", gpu_part: None };
            self.fallback(fallback, range_of(whole), steps);
        }
    }

    /// Test files, and what stands beside them: `tests/testing_utils.py`.
    fn is_for_tests(&self) -> bool {
        self.is_test || directory_of_tests(&self.path).is_some()
    }

    fn fallback(
        &mut self,
        fallback: CpuFallback,
        range: std::ops::Range<usize>,
        steps: &mut Vec<Step>,
    ) {
        // A test does more where there is a GPU, and nobody works with what it leaves.
        if self.is_for_tests() || self.context.chosen || self.class_tells() {
            return;
        }
        self.emit(steps, range, Does::CpuFallback(fallback));
    }

    /// Whether a method of the class around tells that there is no GPU: a `validate_environment` that warns.
    fn class_tells(&mut self) -> bool {
        let body = self.class_body;
        let before = self.scope;
        let tells = body.iter().any(|it| {
            let Stmt::FunctionDef(method) = it else { return false };
            self.scopes.of(method).is_some_and(|scope| {
                self.scope = scope;
                self.tells_of_absence(&method.body, 0)
            })
        });
        self.scope = before;
        tells
    }

    fn tells_of_absence(&self, body: &[Stmt], depth: u32) -> bool {
        if depth > super::flow::MAX_DEPTH {
            return false;
        }
        let within = |body: &[Stmt]| self.tells_of_absence(body, depth + 1);
        body.iter().any(|it| match it {
            Stmt::If(it) => {
                let last = it.elif_else_clauses.last().filter(|it| it.test.is_none());
                let absent = match self.condition(&it.test) {
                    (Condition::CudaAvailable | Condition::MoreGpusThan(_), false) => {
                        last.map(|it| &*it.body)
                    }
                    (Condition::CudaAvailable | Condition::MoreGpusThan(_), true) => {
                        Some(&*it.body)
                    }
                    _ => Some(&*it.body).filter(|_| self.asks_available(&it.test)),
                };
                absent.is_some_and(warns)
                    || within(&it.body)
                    || it.elif_else_clauses.iter().any(|it| within(&it.body))
            }
            Stmt::With(it) => within(&it.body),
            Stmt::Try(it) => within(&it.body),
            _ => false,
        })
    }

    /// The name (empty for `return`) whose device the last statement of an arm decides.
    fn decides(&self, body: &'a [Stmt]) -> Option<(&'a str, Goes)> {
        body.iter().rev().take(3).find_map(|it| match it {
            Stmt::Assign(it) => {
                let name = match it.targets.first()? {
                    Expr::Name(name) => name.id.as_str(),
                    Expr::Attribute(name) => name.attr.as_str(),
                    _ => return None,
                };
                Some((name, self.goes(&it.value)?))
            }
            Stmt::Return(it) => Some(("", self.goes(it.value.as_deref()?)?)),
            _ => None,
        })
    }

    fn goes_statement(&self, statement: &Stmt) -> Option<Goes> {
        match statement {
            Stmt::Assign(it) => self.goes(&it.value),
            Stmt::Return(it) => self.goes(it.value.as_deref()?),
            Stmt::Expr(it) => self.goes(&it.value),
            _ => None,
        }
    }

    /// Whether an expression names CUDA or the CPU: a text, `torch.device(…)`, or a call that moves something there.
    fn goes(&self, expression: &Expr) -> Option<Goes> {
        match expression {
            Expr::StringLiteral(it) => match it.value.to_str() {
                "cpu" | "CPU" => Some(Goes::Cpu),
                // DALI and Lightning say `gpu`.
                "gpu" | "cuda" => Some(Goes::Cuda),
                text if text.starts_with("cuda:") => Some(Goes::Cuda),
                _ => None,
            },
            // transformers' pipelines: `device = 0 if torch.cuda.is_available() else -1`.
            Expr::NumberLiteral(_) => match self.value(expression).value {
                Value::Int(0..) => Some(Goes::Cuda),
                _ => None,
            },
            Expr::UnaryOp(_) => match self.value(expression).value {
                Value::Int(-1) => Some(Goes::Cpu),
                _ => None,
            },
            // transformers' device maps: `{"": "cpu"}`.
            Expr::Dict(it) => match &*it.items {
                [only] if only.key.as_ref().and_then(|it| self.text_of(it))?.is_empty() => {
                    self.goes(&only.value)
                }
                _ => None,
            },
            Expr::Attribute(it) if it.attr.as_str() == "type" => self.goes(&it.value),
            // ONNX Runtime's providers: the first that can be had is taken.
            Expr::List(it) => match it.elts.first()? {
                Expr::StringLiteral(name) if argument::is_cuda_provider(name.value.to_str()) => {
                    Some(Goes::Cuda)
                }
                Expr::StringLiteral(name) if name.value.to_str() == "CPUExecutionProvider" => {
                    Some(Goes::Cpu)
                }
                _ => None,
            },
            Expr::FString(_) => self.names_cuda(expression, self.scope, 0).map(|_| Goes::Cuda),
            Expr::Call(call) => {
                let segment = super::call::last_segment(&call.func)?;
                match segment {
                    // PyTorch since 2.6: `torch.accelerator.current_accelerator()`.
                    "cuda" | "current_device" | "current_accelerator" => Some(Goes::Cuda),
                    "cpu" => Some(Goes::Cpu),
                    "str" => self.goes(call.arguments.args.first()?),
                    "get" | "getenv" if self.is_environment_read(call, self.scope) => {
                        self.goes(call.arguments.find_argument_value("default", 1)?)
                    }
                    "device" | "to" => self.goes(call.arguments.args.first()?),
                    _ => match call.arguments.find_keyword("device") {
                        Some(keyword) => match self.goes(&keyword.value)? {
                            // Only a text; `device=0` may be anything.
                            _ if keyword.value.is_number_literal_expr() => None,
                            goes => Some(goes),
                        },
                        None => None,
                    },
                }
            }
            _ => None,
        }
    }
}

/// `get_backend() == "nccl" and …`: gloo, the other, works with tensors on the CPU.
fn is_for_nccl(test: &Expr) -> bool {
    let Expr::BoolOp(it) = test else { return false };
    it.values.iter().any(|it| {
        matches!(it, Expr::Compare(it)
            if it.comparators.iter().any(|it| it.as_string_literal_expr().is_some_and(|it| it.value == *"nccl")))
    })
}

/// Whether a body tells somebody at warning or above.
fn warns(body: &[Stmt]) -> bool {
    body.iter().any(|it| match it {
        Stmt::Raise(_) => true,
        Stmt::Expr(it) => matches!(&*it.value, Expr::Call(call) if matches!(
            super::call::last_segment(&call.func),
            Some("warning" | "warn" | "error" | "critical" | "exception" | "fatal")
        )),
        _ => false,
    })
}
