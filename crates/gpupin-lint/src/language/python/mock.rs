//! What tests replace, so that nothing of a library runs.

use super::{
    Reader,
    scope::Scopes,
    syntax::{Expr, ast, range_of},
};
use crate::{
    unit::{Does, Mock},
    value::Root,
};

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

    /// `monkeypatch.setattr(torch.cuda, "device_count", …)`, `patch("torch.cuda.device_count")`,
    /// `patch.object(torch.cuda, "device_count")`, as a call, a decorator or in a `with`.
    pub(super) fn replaces_cuda(&self, it: &ast::ExprCall, segment: &str) -> bool {
        let patches = match segment {
            "setattr" | "patch" => true,
            "object" | "multiple" => matches!(&*it.func, Expr::Attribute(method)
                if super::call::last_segment(&method.value) == Some("patch")),
            _ => false,
        };
        patches
            && it.arguments.args.first().is_some_and(|target| match target {
                Expr::StringLiteral(it) => {
                    let text = it.value.to_str();
                    text.contains("torch.cuda.") || text.ends_with("torch.cuda")
                }
                Expr::Attribute(_) => self.slice(range_of(target)).ends_with("torch.cuda"),
                _ => false,
            })
    }

    /// Under such mocks a number reaches no GPU, however many there are.
    pub(super) fn touches_no_gpu(&mut self, first_event: usize) {
        for event in self.out.unit().events.iter_mut().skip(first_event) {
            if let Does::Choose(choice) = &mut event.does {
                choice.only_with_more_than = Some(i64::MAX);
            }
        }
    }

    fn mock_all(&mut self, modules: Option<&Expr>) {
        let Some(Expr::Dict(modules)) = modules else { return };
        for name in modules.items.iter().filter_map(|it| it.key.as_ref()) {
            self.mock(name);
        }
    }
}
