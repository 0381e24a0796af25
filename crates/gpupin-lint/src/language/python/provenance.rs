//! Where a number comes from: an index that NVML or `nvidia-smi` gave is not an ordinal.

use super::{
    Reader, flow,
    scope::{Bound, ScopeId},
    syntax::{Expr, StatementVisitor, Stmt, ast, range_of, walk_stmt},
};
use crate::{
    catalogue::Answer,
    value::{Root, Value},
};

/// What a function that picks a GPU by NVML's numbers mentions.
const SOURCES: &[&str] =
    &["nvidia-smi", "nvmlDeviceGetHandleByIndex", "GPUtil.", "gpustat", "nvitop"];
/// What a text mentions that asks something that numbers GPUs as NVML does.
const MONITORS: &[&str] = &["nvml", "nvidia-smi", "GPUtil", "gpustat", "nvitop"];

impl<'a> Reader<'a, '_> {
    /// Whether a loop variable counts NVML's GPUs: `for i in range(nvmlDeviceGetCount())`, also through a list of what
    /// each of them has: `for i, used in enumerate(used_by_gpu)`.
    pub(super) fn counts_nvml(
        &self,
        iterated: &Expr,
        position: Option<usize>,
        scope: ScopeId,
        depth: u32,
    ) -> bool {
        match iterated {
            Expr::Call(call) if is_named(&call.func, "range") && position.is_none() => {
                call.arguments.args.last().is_some_and(|it| match it {
                    Expr::Call(call) if is_named(&call.func, "len") => {
                        let list = call.arguments.args.first();
                        list.is_some_and(|it| self.lists_each_of_nvml(it, scope, depth + 1))
                    }
                    _ => self.answer_in(it, scope, depth) == Some(Answer::NvmlCount),
                })
            }
            Expr::Call(call) if is_named(&call.func, "enumerate") && position == Some(0) => {
                let list = call.arguments.args.first();
                list.is_some_and(|it| self.lists_each_of_nvml(it, scope, depth + 1))
            }
            _ => {
                position.is_none()
                    && self.answer_in(iterated, scope, depth) == Some(Answer::NvmlIndices)
            }
        }
    }

    /// One item per GPU, in NVML's order: `[used(i) for i in range(nvmlDeviceGetCount())]`, `GPUtil.getGPUs()`.
    pub(super) fn lists_each_of_nvml(&self, list: &Expr, scope: ScopeId, depth: u32) -> bool {
        if depth > 10 || !self.asks_nvml {
            return false;
        }
        match list {
            Expr::ListComp(it) => match &*it.generators {
                [only] if only.ifs.is_empty() => {
                    only.target.is_name_expr() && self.counts_nvml(&only.iter, None, scope, depth)
                }
                _ => false,
            },
            Expr::Name(name) => match self.scopes.lookup(&name.id, scope) {
                Some(binding) if binding.is_sole() => match binding.bound {
                    Bound::Value(value) => self.lists_each_of_nvml(value, binding.scope, depth + 1),
                    _ => false,
                },
                _ => false,
            },
            other => self.answer_in(other, scope, depth) == Some(Answer::NvmlObjects),
        }
    }

    /// `[i for i in range(nvmlDeviceGetCount()) if is_idle(i)]`: some of NVML's indices.
    pub(super) fn selects_nvml(&self, it: &ast::ExprListComp, scope: ScopeId, depth: u32) -> bool {
        let [only] = &*it.generators else { return false };
        matches!((&*it.elt, &only.target), (Expr::Name(a), Expr::Name(b)) if a.id == b.id)
            && self.counts_nvml(&only.iter, None, scope, depth)
    }

    /// Notes the names to which a loop over NVML's GPUs assigns one of their indices.
    pub(super) fn collect_nvml_names(&mut self, statements: &'a [Stmt]) {
        self.asks_nvml = MONITORS.iter().any(|it| self.text.contains(it));
        if self.asks_nvml {
            Picking { reader: self, is_in_loop: false, depth: 0 }.visit_body(statements);
        }
    }

    fn note_nvml_indices(&mut self, targets: &'a [Expr], value: &'a Expr) {
        for target in targets {
            match (target, value) {
                (Expr::Name(name), value) => self.note_nvml_index(name, value),
                (Expr::Tuple(targets), Expr::Tuple(values)) => {
                    for pair in targets.elts.iter().zip(&values.elts) {
                        if let (Expr::Name(name), value) = pair {
                            self.note_nvml_index(name, value);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// `best = i` in `for i in range(nvmlDeviceGetCount())`. A name that is assigned several times has no value, but
    /// that some GPU of the loop is chosen is plain.
    fn note_nvml_index(&mut self, name: &'a ast::ExprName, value: &'a Expr) {
        // A counter of several loops may come from another one.
        let counts_one_loop = matches!(value, Expr::Name(it)
            if self.scopes.lookup(&it.id, self.scope).is_some_and(|it| !it.again));
        if counts_one_loop
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

    /// Whether a call runs a function of this file that picks a GPU by NVML's numbers: its name says GPU, it returns
    /// something, and its body asks `nvidia-smi` or NVML. A name that says more, `pick_idle_gpus`, may leave asking to others.
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
        let measures =
            ["best", "free", "idle", "least"].iter().any(|it| lower.contains(it)) && self.asks_nvml;
        (measures || SOURCES.iter().any(|it| body.contains(it))) && body.contains("return ")
    }

    /// Whether a call runs a function of this file that returns an index which it found by asking NVML itself:
    /// `for i in range(nvmlDeviceGetCount()): if is_idle(i): return i`.
    pub(super) fn returns_nvml_index(
        &self,
        it: &ast::ExprCall,
        scope: ScopeId,
        depth: u32,
    ) -> bool {
        // A function that asks may call one that asks, but not for ever.
        const LEVEL: u32 = 8;
        if !self.asks_nvml {
            return false;
        }
        let Some(callee) = self.resolve_in(&it.func, scope, depth) else { return false };
        if callee.name.root != Root::Here || callee.is_object {
            return false;
        }
        let Some(function) = self.function_by_path(&callee.name.path) else { return false };
        let Some(inner) = self.scopes.of(function) else { return false };
        let body = self.slice(range_of(function));
        if !MONITORS.iter().any(|it| body.contains(it)) {
            return false;
        }
        returned(function)
            .into_iter()
            .any(|it| self.value_in(it, inner, depth + LEVEL).value == Value::NvmlIndex)
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

/// Goes through all statements for [`Reader::collect_nvml_names`].
struct Picking<'r, 'a, 'o> {
    reader: &'r mut Reader<'a, 'o>,
    is_in_loop: bool,
    depth: u32,
}

impl<'a> StatementVisitor<'a> for Picking<'_, 'a, '_> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        if self.depth >= flow::MAX_DEPTH {
            return;
        }
        let (scope, is_in_loop) = (self.reader.scope, self.is_in_loop);
        match statement {
            Stmt::FunctionDef(it) => {
                self.reader.scope = self.reader.scopes.of(it).unwrap_or(scope);
                self.is_in_loop = false;
            }
            Stmt::ClassDef(it) => {
                self.reader.scope = self.reader.scopes.of(it).unwrap_or(scope);
            }
            Stmt::For(_) | Stmt::While(_) => self.is_in_loop = true,
            Stmt::Assign(it) if is_in_loop => self.reader.note_nvml_indices(&it.targets, &it.value),
            _ => {}
        }
        self.depth += 1;
        walk_stmt(self, statement);
        self.depth -= 1;
        (self.reader.scope, self.is_in_loop) = (scope, is_in_loop);
    }
}

/// What a function returns, without the functions in it.
pub(super) fn returned(function: &ast::StmtFunctionDef) -> Vec<&Expr> {
    let mut returned = Returned { values: Vec::new(), depth: 0 };
    returned.visit_body(&function.body);
    returned.values
}

struct Returned<'a> {
    values: Vec<&'a Expr>,
    depth: u32,
}

impl<'a> StatementVisitor<'a> for Returned<'a> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::FunctionDef(_) | Stmt::ClassDef(_) => {}
            Stmt::Return(it) => self.values.extend(it.value.as_deref()),
            _ if self.depth < flow::MAX_DEPTH => {
                self.depth += 1;
                walk_stmt(self, statement);
                self.depth -= 1;
            }
            _ => {}
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
