//! Modules that tests replace, so that nothing of a library runs.

use super::{
    Reader,
    scope::Scopes,
    syntax::{Expr, ast},
};
use crate::{unit::Mock, value::Root};

impl Reader<'_, '_> {
    pub(super) fn is_loaded_modules(&self, expression: &Expr) -> bool {
        matches!(expression, Expr::Attribute(it) if it.attr.as_str() == "modules")
            && self
                .resolve(expression)
                .is_some_and(|it| it.name.root == Root::Absolute && it.name.path == "sys.modules")
    }

    /// `sys.modules["torch"] = …`.
    pub(super) fn mock(&mut self, name: &Expr) {
        if let Some(module) = self.text_of(name) {
            self.mock_module(module);
        }
    }

    fn mock_module(&mut self, module: String) {
        let at_top_level = self.scope == Scopes::MODULE;
        self.out.unit().mocks.push(Mock { module, at_top_level });
    }

    /// `monkeypatch.setitem(sys.modules, "torch", …)`, `sys.modules.update({"torch": …})`,
    /// `patch.dict("sys.modules", {"torch": …})`, and that with keywords.
    pub(super) fn mocking_call(&mut self, it: &ast::ExprCall, segment: &str) {
        let owner = match &*it.func {
            Expr::Attribute(method) => Some(&*method.value),
            _ => None,
        };
        let first = it.arguments.find_positional(0);
        let second = it.arguments.find_positional(1);
        let is_first = || first.is_some_and(|it| self.is_loaded_modules(it));
        let is_owner = || owner.is_some_and(|it| self.is_loaded_modules(it));
        match segment {
            "setitem" if is_first() => {
                if let Some(name) = second {
                    self.mock(name);
                }
            }
            "setdefault" | "__setitem__" if is_owner() => {
                if let Some(name) = first {
                    self.mock(name);
                }
            }
            "update" if is_owner() => self.mock_all(first),
            "dict"
                if is_first()
                    || first.and_then(|it| self.text_of(it)).as_deref() == Some("sys.modules") =>
            {
                self.mock_all(second);
                for name in it.arguments.keywords.iter().filter_map(|it| it.arg.as_ref()) {
                    self.mock_module(name.to_string());
                }
            }
            _ => {}
        }
    }

    fn mock_all(&mut self, modules: Option<&Expr>) {
        let Some(Expr::Dict(modules)) = modules else { return };
        for name in modules.items.iter().filter_map(|it| it.key.as_ref()) {
            self.mock(name);
        }
    }
}
