//! Functions and classes: what runs where they are defined, and what runs when they are called.

use super::{
    Context, Reader,
    scope::{ScopeId, Scopes},
    syntax::{Expr, Stmt, ast, range_of},
};
use crate::{
    span::Span,
    unit::{Block, Condition, Does, Function, Leave, Step},
    value::{Name, Root},
};

/// Parts of the names of decorators that skip a test on a machine with one GPU, wherever they are defined.
const MANY_GPUS: &[&str] = &["multi_gpu", "multi_cuda", "multi_accelerator", "multi_device"];

impl<'a> Reader<'a, '_> {
    pub(super) fn function_definition(
        &mut self,
        it: &'a ast::StmtFunctionDef,
        steps: &mut Vec<Step>,
    ) {
        let outer_mocks = std::mem::take(&mut self.mocks_cuda);
        let guard = self.decorators(&it.decorator_list, steps);
        self.parameter_defaults(&it.parameters, steps);
        let Some(scope) = self.scopes.of(it) else { return };
        let first_event = self.out.unit().events.len();
        let path = self.scopes.get(scope).path.clone();
        let outside = self.is_called_from_outside(it, scope);
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let range = range_of(it);
        let context = Context {
            more_than: guard.or(self.context.more_than),
            function: Some((place(range.start), place(range.end))),
            ..Context::default()
        };
        let before = std::mem::replace(&mut self.scope, scope);
        let function = self.out.enter(Some(path.clone()));
        let mut body = self.within(context, |reader| reader.block(&it.body));
        self.out.enter(function);
        self.scope = before;
        self.tested_with(guard, first_event);
        if std::mem::replace(&mut self.mocks_cuda, outer_mocks) {
            self.touches_no_gpu(first_event);
        }
        prune(&mut body);
        let span = self.span(range_of(it));
        self.add_function(path, Function { span, body, called_from_outside: outside });
    }

    /// Two definitions of one name, in the arms of an `if` or as getter and setter, are alternatives.
    fn add_function(&mut self, path: String, mut function: Function) {
        if let Some(other) = self.out.unit().functions.remove(&path) {
            function.called_from_outside |= other.called_from_outside;
            if !other.body.0.is_empty() {
                let arms = vec![other.body, std::mem::take(&mut function.body)];
                function.body = Block(vec![Step::Branch(Condition::Unknown, arms)]);
            }
        }
        // An empty method hides its base's; any other empty function is as good as an unknown one.
        let class = path.rsplit_once('.').and_then(|it| self.class_by_path(it.0));
        let hides = class.is_some_and(|it| self.bases.contains_key(&it));
        if hides || function.called_from_outside || !function.body.0.is_empty() {
            self.out.function(path, function);
        }
    }

    pub(super) fn parameter_defaults(
        &mut self,
        parameters: &'a ast::Parameters,
        steps: &mut Vec<Step>,
    ) {
        for parameter in parameters.iter_non_variadic_params() {
            let Some(default) = &parameter.default else { continue };
            let context = Context { is_default: true, ..self.context };
            self.within(context, |reader| {
                let name = parameter.parameter.name.as_str();
                reader.setting(name, default, super::setting::Place::Parameter);
                reader.expression(default, steps);
            });
        }
    }

    pub(super) fn class_definition(&mut self, it: &'a ast::StmtClassDef, steps: &mut Vec<Step>) {
        let guard = self.decorators(&it.decorator_list, steps);
        if let Some(arguments) = &it.arguments {
            for base in &arguments.args {
                self.expression(base, steps);
            }
        }
        let Some(scope) = self.scopes.of(it) else { return };
        let context = Context { more_than: guard.or(self.context.more_than), ..Context::default() };
        let first_event = self.out.unit().events.len();
        let before = std::mem::replace(&mut self.scope, scope);
        let outer_body = std::mem::replace(&mut self.class_body, &it.body);
        let body = self.within(context, |reader| reader.block(&it.body));
        self.class_body = outer_body;
        self.scope = before;
        self.tested_with(guard, first_event);
        if self.is_test {
            self.restored_after_tests(it, first_event);
        }
        steps.extend(body.0);
        self.construction(scope, self.span(range_of(it)));
    }

    /// What calling a class runs.
    fn construction(&mut self, class: ScopeId, span: Span) {
        let path = self.scopes.get(class).path.clone();
        let inherits = self.bases.contains_key(&class);
        let mut steps = Vec::new();
        for method in ["__new__", "__init__", "__post_init__"] {
            let own = self.scopes.attribute(class, method).is_some();
            if own || inherits && method == "__init__" {
                steps.push(Step::Call(Name::here(format!("{path}.{method}")), span));
            }
        }
        if !steps.is_empty() {
            let body = Block(steps);
            self.out.function(path, Function { span, body, called_from_outside: false });
        }
    }

    /// Reads decorators; returns how many GPUs must be visible more than, where one skips otherwise.
    fn decorators(
        &mut self,
        decorators: &'a [ast::Decorator],
        steps: &mut Vec<Step>,
    ) -> Option<i64> {
        let mut guard = None;
        for decorator in decorators {
            let expression = &decorator.expression;
            guard = guard.or_else(|| self.skips_below(expression));
            let only_tells = guard.is_some() || self.context.only_tells;
            let context = Context { only_tells, ..self.context };
            self.within(context, |reader| reader.expression(expression, steps));
            if !expression.is_call_expr()
                && let Some(callee) = self.resolve(expression)
                && !(callee.name.root == Root::Absolute
                    && super::call::is_foreign(&callee.name.path))
                && !callee.is_object
            {
                let span = self.span(range_of(decorator));
                steps.push(Step::Call(callee.name, span));
            }
        }
        guard
    }

    /// Notes what a decorator asks for in the events it is about.
    fn tested_with(&mut self, more_than: Option<i64>, first_event: usize) {
        let Some(more_than) = more_than else { return };
        for event in self.out.unit().events.iter_mut().skip(first_event) {
            if let Does::Spread(spread) = &mut event.does {
                spread.tested_with_more_than.get_or_insert(more_than);
            }
        }
    }

    /// `@pytest.mark.skipif(torch.cuda.device_count() < 2)`, `@require_multi_gpu`, `@skip_if_lt_x_gpu(2)`.
    fn skips_below(&self, decorator: &Expr) -> Option<i64> {
        let (function, call) = match decorator {
            Expr::Call(it) => (&*it.func, Some(it)),
            other => (other, None),
        };
        let name = super::call::last_segment(function)?;
        match (name, call) {
            ("skipif" | "skipIf", Some(call)) => {
                match self.condition(call.arguments.find_argument_value("condition", 0)?) {
                    (Condition::MoreGpusThan(count), true) => Some(count),
                    _ => None,
                }
            }
            ("skipUnless", Some(call)) => match self.condition(call.arguments.args.first()?) {
                (Condition::MoreGpusThan(count), false) => Some(count),
                _ => None,
            },
            ("skip_if_lt_x_gpu", Some(call)) => {
                match self.value(call.arguments.args.first()?).value {
                    crate::value::Value::Int(count) => Some(count - 1),
                    _ => None,
                }
            }
            // Never run at all.
            ("skip", _) => {
                let path = self.resolve(function)?.name;
                let path = path.library_path()?;
                matches!(path, "unittest.skip" | "pytest.mark.skip").then_some(i64::MAX)
            }
            _ if MANY_GPUS.iter().any(|it| name.contains(it)) => {
                // `pytest.mark.multi_gpu`: a label by which tests are selected, and which skips none by itself.
                let path = self.resolve(function).map(|it| it.name);
                let path = path.as_ref().and_then(|it| it.library_path());
                path.is_none_or(|it| !it.starts_with("pytest.mark.")).then_some(1)
            }
            _ => None,
        }
    }

    pub(super) fn called_from_outside(&mut self, path: String) {
        if let Some(function) = self.out.unit().functions.get_mut(&path) {
            function.called_from_outside = true;
        } else {
            self.outside.insert(path);
        }
    }

    /// Whether a framework, a test runner or a signal calls a function.
    fn is_called_from_outside(&self, it: &ast::StmtFunctionDef, scope: ScopeId) -> bool {
        let name = it.name.as_str();
        let path = &self.scopes.get(scope).path;
        self.outside.contains(path)
            || it.decorator_list.iter().any(|it| registers(&it.expression))
            || self.is_test && (is_test_name(name) || is_test_hook(name))
            || self.is_conftest && name.starts_with("pytest_")
    }

    pub(super) fn collect_bases(&mut self, statements: &'a [Stmt]) {
        self.collect_bases_in(statements, Scopes::MODULE, 0);
    }

    fn collect_bases_in(&mut self, statements: &'a [Stmt], scope: ScopeId, depth: u32) {
        if depth > 6 {
            return;
        }
        for statement in statements {
            match statement {
                Stmt::ClassDef(it) => {
                    let Some(class) = self.scopes.of(it) else { continue };
                    let bases = it.arguments.as_deref().map_or(&[][..], |it| &it.args);
                    let bases: Vec<_> = bases
                        .iter()
                        .filter_map(|it| self.resolve_in(it, scope, 0))
                        .filter(|it| !it.is_object)
                        .map(|it| it.name)
                        .collect();
                    if !bases.is_empty() {
                        self.bases.insert(class, bases);
                    }
                    self.collect_bases_in(&it.body, class, depth + 1);
                }
                Stmt::If(it) => self.collect_bases_in(&it.body, scope, depth + 1),
                Stmt::Try(it) => self.collect_bases_in(&it.body, scope, depth + 1),
                _ => {}
            }
        }
    }
}

/// Decorators that hand a function to something that calls it: routes, commands, tasks, fixtures, events.
fn registers(decorator: &Expr) -> bool {
    let function = match decorator {
        Expr::Call(it) => &*it.func,
        other => other,
    };
    let Expr::Attribute(it) = function else {
        return matches!(function, Expr::Name(it) if it.id == "fixture" || it.id == "asynccontextmanager" || it.id == "task");
    };
    matches!(
        it.attr.as_str(),
        "get"
            | "post"
            | "put"
            | "patch"
            | "delete"
            | "head"
            | "options"
            | "route"
            | "websocket"
            | "api_route"
            | "middleware"
            | "exception_handler"
            | "on_event"
            | "on_startup"
            | "before_request"
            | "errorhandler"
            | "command"
            | "group"
            | "callback"
            | "main"
            | "cli"
            | "task"
            | "shared_task"
            | "job"
            | "cron"
            | "fixture"
            | "register"
            | "event"
            | "listen"
            | "on"
            | "subscribe"
            | "handler"
            | "function"
            | "method"
            | "endpoint"
            | "tool"
            | "resource"
            | "before_first_request"
            | "local_entrypoint"
    )
}

pub(super) fn is_test_name(name: &str) -> bool {
    name.starts_with("test_") || name == "test"
}

fn is_test_hook(name: &str) -> bool {
    matches!(
        name,
        "setUp"
            | "tearDown"
            | "setUpClass"
            | "tearDownClass"
            | "setUpModule"
            | "tearDownModule"
            | "setup_module"
            | "teardown_module"
            | "setup_class"
            | "teardown_class"
            | "setup_method"
            | "teardown_method"
            | "setup_function"
            | "teardown_function"
            | "asyncSetUp"
    )
}

/// A body in which nothing but leaving happens tells callers nothing.
fn prune(body: &mut Block) {
    fn matters(step: &Step) -> bool {
        match step {
            Step::Leave(it) => *it == Leave::Exit,
            Step::Branch(_, arms) => arms.iter().flat_map(|it| &it.0).any(matters),
            Step::Try { body, handlers } => {
                body.0.iter().chain(handlers.iter().flat_map(|it| &it.0)).any(matters)
            }
            Step::Loop(body) | Step::Main(body) | Step::Scope(body) => body.0.iter().any(matters),
            Step::Event(_) | Step::Import(_) | Step::Call(..) => true,
        }
    }
    if !body.0.iter().any(matters) {
        body.0 = Vec::new();
    }
}
