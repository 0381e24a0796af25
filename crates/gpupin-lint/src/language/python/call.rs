//! Calls: what they do to the environment and the GPU choice, and which functions of the project they run.

use super::{
    Context, Reader,
    names::{self, Resolved},
    provenance::is_named,
    scope::Bound,
    syntax::{Expr, ast, range_of},
};
use crate::{
    catalogue::{self, Api, Form, Shape},
    unit::{Does, Leave, Purpose, Step},
    value::Root,
};

impl<'a> Reader<'a, '_> {
    pub(super) fn call(&mut self, it: &'a ast::ExprCall, whole: &'a Expr, steps: &mut Vec<Step>) {
        match &*it.func {
            Expr::Name(_) => {}
            Expr::Attribute(method) => match &*method.value {
                Expr::StringLiteral(_) | Expr::Name(_) => {}
                owner => self.owner(owner, &method.attr, steps),
            },
            other => self.expression(other, steps),
        }
        let callee = if self.is_foreign_call(&it.func) { None } else { self.resolve(&it.func) };
        // An alias (`from torch.cuda import set_device as pick`) ends in another name than its target.
        let segment = match (&*it.func, &callee) {
            (Expr::Name(_), Some(callee)) => callee.name.path.rsplit('.').next(),
            (function, _) => last_segment(function),
        };
        let api = self.api_of(it, segment, callee.as_ref(), Form::Call);
        self.arguments(it, segment, api, steps);
        self.composed_device(whole, steps);

        self.mocks_cuda |= last_segment(&it.func).is_some_and(|name| self.replaces_cuda(it, name));
        if let Some(segment) = segment
            && segment.starts_with("assert")
        {
            self.asserted_call(it, segment, steps);
        }
        if let Some(segment) = segment
            && (self.environment_call(it, segment, callee.as_ref(), steps)
                || self.child_process(it, segment, callee.as_ref(), steps)
                || leaving(it, segment, callee.as_ref(), steps))
        {
            return;
        }
        if let Some(api) = api {
            if !(api.names && self.context.is_told) {
                self.apply(api, it, steps);
            }
        } else if it.arguments.find_keyword("device").is_some() {
            self.device_keyword(it, steps);
        }
        self.accumulating_append(it, steps);
        let Some(callee) = &callee else { return };
        if callee.name.root == Root::Absolute && callee.name.path == "gpupin.pin" {
            self.emit(steps, range_of(it), Does::Gpupin);
            return;
        }
        self.handed_over(it, callee, steps);
        self.project_call(it, callee, steps);
    }

    /// Whether a call certainly runs a library's function that nothing here knows about. Most calls of a file are
    /// such, and telling so by their first and last name is cheap.
    fn is_foreign_call(&self, function: &Expr) -> bool {
        let Expr::Attribute(method) = function else { return false };
        let mut root = &*method.value;
        while let Expr::Attribute(it) = root {
            root = &it.value;
        }
        let Expr::Name(root) = root else { return false };
        let is_foreign = self
            .scopes
            .lookup(&root.id, self.scope)
            .is_some_and(|it| matches!(it.bound, Bound::Foreign(_)));
        let segment = method.attr.as_str();
        is_foreign && catalogue::candidates(segment).is_empty() && !is_special(segment)
    }

    /// The entry of the catalogue that a call means.
    pub(super) fn api_of(
        &self,
        it: &ast::ExprCall,
        segment: Option<&str>,
        callee: Option<&Resolved>,
        form: Form,
    ) -> Option<&'static Api> {
        let is_method = matches!(&*it.func, Expr::Attribute(_));
        let segment = segment?;
        if catalogue::candidates(segment).is_empty() {
            return None;
        }
        match callee {
            Some(callee) if callee.name.root == Root::Absolute => {
                catalogue::find(&callee.name.path, form)
            }
            // A method of this file's own class by that name is the project's business.
            Some(callee) if callee.name.root == Root::Here && self.defines(&callee.name.path) => {
                None
            }
            _ if is_method => catalogue::find(&format!("?.{segment}"), form),
            _ => None,
        }
    }

    fn defines(&self, path: &str) -> bool {
        path.rsplit_once('.').is_some_and(|(class, method)| {
            self.class_by_path(class)
                .and_then(|it| self.scopes.attribute(it, method))
                .is_some_and(|it| matches!(it.bound, Bound::Function(_)))
        })
    }

    fn arguments(
        &mut self,
        it: &'a ast::ExprCall,
        segment: Option<&str>,
        api: Option<&'static Api>,
        steps: &mut Vec<Step>,
    ) {
        let tells = segment.is_some_and(only_tells);
        // It names the kind of device that others chose.
        let is_autocast = segment == Some("autocast");
        let is_told = tells
            || ["format", "hash", "repr", "str", "type"]
                .iter()
                .any(|name| is_named(&it.func, name));
        let declares_option = segment.is_some_and(super::options::is_declaration);
        let context = Context {
            only_tells: self.context.only_tells || tells,
            is_told,
            purpose: api.map_or(self.context.purpose, |it| it.purpose),
            ..self.context
        };
        let refuses_number = |position: Option<usize>, name: &str| {
            api.is_some_and(|it| {
                it.argument(position, name).is_some_and(|it| it.shape == Shape::Kind)
            })
        };
        for (position, argument) in it.arguments.args.iter().enumerate() {
            let refuses_number = refuses_number(Some(position), "");
            let chosen = context.chosen || is_autocast && position == 0;
            let only_tells = context.only_tells && !takes_device(api, Some(position), "");
            let is_told = context.is_told || self.only_compares(it, position, argument);
            let context = Context { only_tells, is_told, refuses_number, chosen, ..context };
            self.within(context, |reader| reader.expression(argument, steps));
        }
        for keyword in &it.arguments.keywords {
            let name = keyword.arg.as_ref().map_or("", |it| it.as_str());
            let explains =
                matches!(name, "help" | "choices" | "metavar" | "description" | "epilog");
            let sends =
                || takes_device(api, None, name) || name == "device" && self.computes(it).is_some();
            let context = Context {
                only_tells: explains || context.only_tells && !sends(),
                is_default: context.is_default
                    || declares_option && matches!(name, "default" | "value"),
                chosen: context.chosen || is_autocast && name == "device_type",
                refuses_number: refuses_number(None, name),
                ..context
            };
            let taken = api.is_some_and(|api| api.arguments().any(|it| it.keyword == name));
            if !taken && !explains {
                self.setting(name, &keyword.value, super::setting::Place::Keyword(it));
            }
            self.within(context, |reader| reader.expression(&keyword.value, steps));
        }
    }

    /// Functions handed to something that calls them: threads, executors, handlers.
    fn handed_over(&mut self, it: &'a ast::ExprCall, callee: &Resolved, steps: &mut Vec<Step>) {
        let segment = callee.name.path.rsplit('.').next().unwrap_or_default();
        let arguments = &it.arguments;
        let (function, now) = match segment {
            "Thread" | "Timer" => (arguments.find_argument_value("target", 1), true),
            "submit" | "to_thread" | "start_new_thread" | "apply_async" => {
                (arguments.find_positional(0), true)
            }
            "run_in_executor" => (arguments.find_positional(1), true),
            // A process of its own reads the environment afresh.
            "Process" => (arguments.find_argument_value("target", 1), false),
            "ProcessPoolExecutor" => (arguments.find_argument_value("initializer", 2), false),
            "Pool" => (arguments.find_argument_value("initializer", 1), false),
            "spawn" | "launch" | "notebook_launcher" => (arguments.find_positional(0), false),
            "register" if callee.name.path == "atexit.register" => {
                (arguments.find_positional(0), false)
            }
            "signal" if callee.name.path == "signal.signal" => {
                (arguments.find_positional(1), false)
            }
            "add_task" | "add_event_handler" | "add_handler" | "add_signal_handler" => {
                (arguments.args.last(), false)
            }
            _ => return,
        };
        let Some(function) = function.and_then(|it| self.resolve(it)) else { return };
        if function.name.root == Root::Absolute && is_foreign(&function.name.path) {
            return;
        }
        if now {
            let span = self.span(range_of(it));
            steps.push(Step::Call(function.name, span));
        } else if function.name.root == Root::Here {
            self.called_from_outside(function.name.path);
        }
    }

    fn project_call(&mut self, it: &ast::ExprCall, callee: &Resolved, steps: &mut Vec<Step>) {
        let name = if callee.is_object {
            names::join(&callee.name, "__call__")
        } else {
            callee.name.clone()
        };
        let foreign = name.root == Root::Absolute && is_foreign(&name.path);
        if !foreign {
            let span = self.span(range_of(it));
            steps.push(Step::Call(name, span));
        }
    }

    /// `torch.zeros(…, device="cuda")`: whatever the function, the keyword says where its result lives.
    fn device_keyword(&mut self, it: &'a ast::ExprCall, steps: &mut Vec<Step>) {
        let Some(keyword) = it.arguments.find_keyword("device") else { return };
        if let Some(path) = self.computes(it) {
            self.apply_device(&keyword.value, &path, Purpose::Choose, steps);
        }
    }

    /// The path of a call that runs something of a library that computes.
    fn computes(&self, it: &ast::ExprCall) -> Option<String> {
        let name = self.resolve(&it.func)?.name;
        let computes = name.root == Root::Absolute
            && catalogue::library_of(&name.path).is_some_and(|it| it.computes);
        computes.then_some(name.path)
    }
}

fn leaving(
    it: &ast::ExprCall,
    segment: &str,
    callee: Option<&Resolved>,
    steps: &mut Vec<Step>,
) -> bool {
    let leaves = match segment {
        "exit" | "quit" if matches!(&*it.func, Expr::Name(_)) => {
            callee.is_none_or(|it| it.name.path == "sys.exit")
        }
        "exit" | "_exit" | "abort" => callee.is_some_and(|it| {
            matches!(it.name.path.as_str(), "sys.exit" | "os._exit" | "os.abort" | "pytest.exit")
        }),
        _ => false,
    };
    if leaves {
        steps.push(Step::Leave(Leave::Exit));
    }
    leaves
}

/// The name a call ends in: `set_device` of `torch.cuda.set_device(1)`.
pub(super) fn last_segment(function: &Expr) -> Option<&str> {
    match function {
        Expr::Name(it) => Some(it.id.as_str()),
        Expr::Attribute(it) => Some(it.attr.as_str()),
        _ => None,
    }
}

/// Names of functions that something here looks at besides the catalogue.
fn is_special(segment: &str) -> bool {
    matches!(
        segment,
        "update"
            | "setdefault"
            | "pop"
            | "clear"
            | "popitem"
            | "putenv"
            | "unsetenv"
            | "setenv"
            | "delenv"
            | "setitem"
            | "delitem"
            | "dict"
            | "load_dotenv"
            | "run"
            | "Popen"
            | "call"
            | "check_call"
            | "check_output"
            | "getoutput"
            | "getstatusoutput"
            | "system"
            | "popen"
            | "exit"
            | "_exit"
            | "abort"
            | "pin"
            | "Thread"
            | "Timer"
            | "submit"
            | "to_thread"
            | "start_new_thread"
            | "apply_async"
            | "run_in_executor"
            | "Process"
            | "ProcessPoolExecutor"
            | "Pool"
            | "spawn"
            | "launch"
            | "notebook_launcher"
            | "register"
            | "signal"
            | "create_subprocess_exec"
            | "create_subprocess_shell"
    ) || segment.starts_with("exec")
        || segment.starts_with("spawn")
        || segment.starts_with("posix_spawn")
        || segment.starts_with("add_")
        || segment.starts_with("__")
}

/// Whether a device given as this argument is used, wherever the call stands.
fn takes_device(api: Option<&Api>, position: Option<usize>, name: &str) -> bool {
    api.and_then(|it| it.argument(position, name)).is_some_and(|it| it.shape.takes_device())
}

/// Calls whose texts go to people, or are compared.
fn only_tells(segment: &str) -> bool {
    matches!(
        segment,
        "print"
            | "pprint"
            | "warn"
            | "debug"
            | "info"
            | "warning"
            | "error"
            | "critical"
            | "exception"
            | "log"
            | "echo"
            | "secho"
            | "write"
            | "startswith"
            | "endswith"
            | "match"
            | "fullmatch"
            | "search"
            | "sub"
            | "compile"
            | "findall"
            | "find"
            | "index"
            | "count"
            | "replace"
            | "split"
            | "partition"
            | "rule"
            | "isinstance"
            | "hasattr"
            | "getattr"
            | "text"
            | "markdown"
            | "caption"
            | "approx"
    ) || segment.starts_with("assert")
        || segment.ends_with("Error")
        || segment.ends_with("Exception")
        || segment.ends_with("Warning")
}

/// Whether a dotted name belongs to the standard library or a library of the table, and so to no project.
pub(super) fn is_foreign(path: &str) -> bool {
    let root = path.split('.').next().unwrap_or(path);
    super::import::is_standard(root) || catalogue::library_of(path).is_some()
}
