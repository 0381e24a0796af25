//! Where a number comes from: an index that NVML or `nvidia-smi` gave is not an ordinal.

use super::{
    Reader,
    scope::{Bound, ScopeId},
    syntax::{Expr, ast, range_of},
};
use crate::{catalogue::Answer, value::Root};

/// What a function that picks a GPU by NVML's numbers mentions.
const SOURCES: &[&str] =
    &["nvidia-smi", "nvmlDeviceGetHandleByIndex", "GPUtil.", "gpustat", "nvitop"];

impl Reader<'_, '_> {
    /// Whether a loop variable counts NVML's GPUs: `for i in range(nvmlDeviceGetCount())`.
    pub(super) fn counts_nvml(
        &self,
        iterated: &Expr,
        position: Option<usize>,
        scope: ScopeId,
        depth: u32,
    ) -> bool {
        match iterated {
            Expr::Call(call) if is_named(&call.func, "range") && position.is_none() => call
                .arguments
                .args
                .last()
                .is_some_and(|it| self.answer_in(it, scope, depth) == Some(Answer::NvmlCount)),
            Expr::Call(call) if is_named(&call.func, "enumerate") && position == Some(0) => call
                .arguments
                .args
                .first()
                .is_some_and(|it| self.answer_in(it, scope, depth) == Some(Answer::NvmlObjects)),
            _ => {
                position.is_none()
                    && self.answer_in(iterated, scope, depth) == Some(Answer::NvmlIndices)
            }
        }
    }

    /// `gpu` of `for gpu in GPUtil.getGPUs()`, `GPUtil.getGPUs()[0]`, `max(GPUtil.getGPUs(), key=…)`.
    pub(super) fn is_nvml_object(&self, expression: &Expr, scope: ScopeId, depth: u32) -> bool {
        if depth > 10 {
            return false;
        }
        let is_list =
            |it: &Expr, scope| self.answer_in(it, scope, depth) == Some(Answer::NvmlObjects);
        match expression {
            Expr::Subscript(it) => is_list(&it.value, scope),
            Expr::Call(call)
                if ["max", "min", "next"].iter().any(|it| is_named(&call.func, it)) =>
            {
                call.arguments.args.first().is_some_and(|it| is_list(it, scope))
            }
            Expr::Name(name) => match self.scopes.lookup(&name.id, scope) {
                Some(binding) => match binding.bound {
                    Bound::Element(iterated, None) => is_list(iterated, binding.scope),
                    Bound::Value(value) if !binding.again => {
                        self.is_nvml_object(value, binding.scope, depth + 1)
                    }
                    _ => false,
                },
                None => false,
            },
            _ => false,
        }
    }

    /// Whether a call runs a function of this file that picks a GPU by NVML's numbers: its name says GPU, and its
    /// body asks `nvidia-smi` or NVML and returns something.
    pub(super) fn picks_by_nvml(&self, it: &ast::ExprCall, scope: ScopeId, depth: u32) -> bool {
        let Some(segment) = super::call::last_segment(&it.func) else { return false };
        let lower = segment.to_ascii_lowercase();
        let says_gpu = lower.contains("gpu") || lower.contains("cuda") || lower.contains("device");
        let counts = [
            "count", "num", "info", "name", "memory", "uuid", "list", "stat", "check", "has", "is_",
        ]
        .iter()
        .any(|it| lower.contains(it));
        if !says_gpu || counts {
            return false;
        }
        let Some(callee) = self.resolve_in(&it.func, scope, depth) else { return false };
        if callee.name.root != Root::Here {
            return false;
        }
        let Some(function) = self.function_by_path(&callee.name.path) else { return false };
        let body = self.slice(range_of(function));
        SOURCES.iter().any(|it| body.contains(it)) && body.contains("return ")
    }

    pub(super) fn function_by_path(&self, path: &str) -> Option<&ast::StmtFunctionDef> {
        let (owner, name) = match path.rsplit_once('.') {
            Some((class, name)) => (self.class_by_path(class)?, name),
            None => (super::scope::Scopes::MODULE, path),
        };
        match self.scopes.attribute(owner, name)?.bound {
            Bound::Function(function) => Some(function),
            _ => None,
        }
    }
}

pub(super) fn is_named(function: &Expr, name: &str) -> bool {
    matches!(function, Expr::Name(it) if it.id == name)
}
