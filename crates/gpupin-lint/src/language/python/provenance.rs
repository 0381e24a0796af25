//! Where a number comes from: an index that NVML or `nvidia-smi` gave is not an ordinal.

use super::{
    Reader,
    scope::{Bound, ScopeId},
    syntax::{Expr, ast, range_of},
};
use crate::{
    catalogue::Answer,
    value::{Root, Value},
};

/// What a function that picks a GPU by NVML's numbers mentions.
const SOURCES: &[&str] =
    &["nvidia-smi", "nvmlDeviceGetHandleByIndex", "GPUtil.", "gpustat", "nvitop"];

impl<'a> Reader<'a, '_> {
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

    /// `best = i` in `for i in range(nvmlDeviceGetCount())`. A name that is assigned several times has no value, but
    /// that some GPU of the loop is chosen is plain.
    pub(super) fn note_nvml_index(&mut self, name: &'a ast::ExprName, value: &'a Expr) {
        // A counter of several loops may come from another one.
        let counts_one_loop = matches!(value, Expr::Name(it)
            if self.scopes.lookup(&it.id, self.scope).is_some_and(|it| !it.again));
        if self.context.in_loop.is_some()
            && counts_one_loop
            && self.value(value).value == Value::NvmlIndex
            && let Some(binding) = self.scopes.lookup(&name.id, self.scope)
        {
            let scope = binding.scope;
            self.nvml_names.insert((scope, name.id.as_str()));
        }
    }

    /// `subprocess.check_output("nvidia-smi --query-gpu=index …")`: what it writes is an index, or lines of them.
    pub(super) fn reads_nvidia_smi(&self, it: &ast::ExprCall, scope: ScopeId, depth: u32) -> bool {
        if !matches!(
            super::call::last_segment(&it.func),
            Some("check_output" | "getoutput" | "popen" | "run")
        ) {
            return false;
        }
        let is_process = self.resolve_in(&it.func, scope, depth).is_some_and(|it| {
            it.name.root == Root::Absolute
                && matches!(
                    it.name.path.as_str(),
                    "subprocess.check_output"
                        | "subprocess.getoutput"
                        | "subprocess.run"
                        | "os.popen"
                )
        });
        let Some(command) = it.arguments.args.first().filter(|_| is_process) else { return false };
        match self.value_in(command, scope, depth).value {
            Value::Str(text) => writes_indices(&text),
            Value::List(words) => {
                let words = words.iter().filter_map(|it| match &it.value {
                    Value::Str(word) => Some(word.as_str()),
                    _ => None,
                });
                writes_indices(&words.collect::<Vec<_>>().join(" "))
            }
            _ => false,
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

/// Whether `nvidia-smi` is asked for indices alone, or for more from which a pipe picks.
fn writes_indices(command: &str) -> bool {
    let Some((before, asked)) = command.split_once("--query-gpu=") else { return false };
    let is_field = |it: char| it.is_ascii_alphanumeric() || matches!(it, ',' | '.' | '_');
    let fields = asked.split(|it| !is_field(it)).next().unwrap_or_default();
    before.contains("nvidia-smi")
        && (fields == "index" || fields.split(',').any(|it| it == "index") && asked.contains('|'))
}
