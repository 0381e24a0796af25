//! What makes a file a program.

use super::{
    Reader, flow, function,
    syntax::{Expr, Stmt, ast, range_of},
};

impl<'a> Reader<'a, '_> {
    pub(super) fn entry_marks(&mut self, statements: &'a [Stmt]) {
        let guard = statements.iter().find_map(|it| match it {
            Stmt::If(it) if flow::is_main_test(&it.test) => Some(it),
            _ => None,
        });
        let main_guard = guard.map(|it| {
            let start = range_of(it).start;
            self.span(start..range_of(&*it.test).end + 1)
        });
        let work = statements.iter().any(|it| self.is_work(it));
        let shebang = self.text.starts_with("#!") && (work || guard.is_some());
        let tests = self.is_test && has_real_tests(statements);
        let entry = &mut self.out.unit().entry;
        entry.main_guard = entry.main_guard.or(main_guard);
        entry.top_level_work |= work;
        entry.shebang |= shebang;
        entry.tests |= tests;
    }

    /// Whether a statement does more than define, assign or configure.
    fn is_work(&self, statement: &Stmt) -> bool {
        match statement {
            Stmt::Expr(it) => match &*it.value {
                Expr::Call(call) => !self.configures(call),
                Expr::Await(_) => true,
                _ => false,
            },
            Stmt::For(_) | Stmt::While(_) | Stmt::IpyEscapeCommand(_) => true,
            Stmt::With(it) => it.body.iter().any(|it| self.is_work(it)),
            Stmt::If(it) => {
                !flow::is_main_test(&it.test)
                    && self.fixed_truth(&it.test) != Some(false)
                    && (it.body.iter().any(|it| self.is_work(it))
                        || it
                            .elif_else_clauses
                            .iter()
                            .any(|it| it.body.iter().any(|it| self.is_work(it))))
            }
            Stmt::Try(it) => it.body.iter().any(|it| self.is_work(it)),
            _ => false,
        }
    }

    /// Calls at module level that modules make too: settings of the interpreter, of logging, of a library.
    fn configures(&self, call: &ast::ExprCall) -> bool {
        if let Expr::Attribute(method) = &*call.func
            && self.is_environ(&method.value)
        {
            return true;
        }
        let Some(callee) = self.resolve(&call.func) else {
            return !matches!(&*call.func, Expr::Name(it) if it.id == "print");
        };
        let path = callee.name.path.as_str();
        let root = path.split('.').next().unwrap_or(path);
        matches!(
            root,
            "sys"
                | "logging"
                | "warnings"
                | "locale"
                | "atexit"
                | "signal"
                | "dotenv"
                | "gc"
                | "os"
                | "random"
                | "importlib"
                | "matplotlib"
                | "pandas"
                | "numpy"
                | "typing"
                | "multiprocessing"
        ) || callee.is_object
            || path.contains(".set_")
            || path.contains(".register")
            || path.ends_with("manual_seed")
            || path.contains(".add_")
            || path.contains(".include_")
            || path.contains(".mount")
            || path.starts_with("torch.backends")
    }
}

/// `test_*.py`, `*_test.py`.
pub(crate) fn is_test_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_suffix(".py")
        .is_some_and(|name| name.starts_with("test_") || name.ends_with("_test"))
}

/// The outermost directory of a path that is named for tests.
pub(crate) fn directory_of_tests(path: &str) -> Option<&str> {
    let mut end = 0;
    path.split_inclusive('/').find_map(|part| {
        end += part.len();
        matches!(part, "test/" | "tests/").then(|| &path[..end - 1])
    })
}

/// Whether pytest would collect a test here that does more than touch mocks.
fn has_real_tests(statements: &[Stmt]) -> bool {
    statements.iter().any(|it| match it {
        Stmt::FunctionDef(it) => function::is_test_name(&it.name) && !only_mocks(it),
        Stmt::ClassDef(class) => {
            let bases = class.arguments.as_deref().map_or(&[][..], |it| &it.args);
            let collected = class.name.starts_with("Test")
                || bases.iter().any(|it| {
                    super::call::last_segment(it).is_some_and(|it| it.contains("TestCase"))
                });
            collected
                && class.body.iter().any(|it| {
                    matches!(it, Stmt::FunctionDef(it) if function::is_test_name(&it.name) && !only_mocks(it))
                })
        }
        Stmt::If(it) => has_real_tests(&it.body),
        Stmt::Try(it) => has_real_tests(&it.body),
        _ => false,
    })
}

/// A test that is given mocks, or makes them, is taken to touch nothing else.
fn only_mocks(it: &ast::StmtFunctionDef) -> bool {
    let given = it.parameters.iter().any(|it| {
        let name = it.name().as_str();
        name.starts_with("mock") || name.ends_with("_mock") || name.starts_with("fake")
    });
    let patched = it.decorator_list.iter().any(|it| {
        let function = match &it.expression {
            Expr::Call(call) => &*call.func,
            other => other,
        };
        match function {
            Expr::Name(it) => it.id == "patch",
            Expr::Attribute(it) => {
                it.attr.as_str() == "patch"
                    || matches!(&*it.value, Expr::Name(owner) if owner.id == "patch")
                    || matches!(&*it.value, Expr::Attribute(owner) if owner.attr.as_str() == "patch")
            }
            _ => false,
        }
    });
    given || patched
}
