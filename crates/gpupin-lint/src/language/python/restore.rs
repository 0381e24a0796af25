//! Variables that the tests of a class put back: what a test sets then is as temporary as with `monkeypatch`.

use super::{
    Reader,
    syntax::{Expr, Stmt, ast},
};
use crate::unit::{Does, SetHow};

impl Reader<'_, '_> {
    /// Marks what the tests of a class set, if its `tearDown` restores it. The class's events begin at `first_event`.
    pub(super) fn restored_after_tests(&mut self, class: &ast::StmtClassDef, first_event: usize) {
        let mut restored = Vec::new();
        let before = self.scope;
        for statement in &class.body {
            if let Stmt::FunctionDef(method) = statement
                && matches!(method.name.as_str(), "tearDown" | "asyncTearDown" | "teardown_method")
                && let Some(scope) = self.scopes.of(method)
            {
                self.scope = scope;
                self.restored(&method.body, &mut restored, 0);
            }
        }
        self.scope = before;
        if restored.is_empty() {
            return;
        }
        for event in self.out.unit().events.iter_mut().skip(first_event) {
            let function = event.function.as_deref().unwrap_or_default();
            let in_test = function.split('.').any(|it| it.starts_with("test"));
            if let Does::SetVariable(set) = &mut event.does
                && in_test
                && restored.iter().any(|it| it.as_ref().is_none_or(|it| *it == set.name))
            {
                set.how = SetHow::Temporary;
            }
        }
    }

    /// The variables that statements set to a value from before, or remove. `None` where the name is not known.
    fn restored(&self, body: &[Stmt], into: &mut Vec<Option<String>>, depth: u32) {
        if depth > super::flow::MAX_DEPTH {
            return;
        }
        for statement in body {
            match statement {
                Stmt::If(it) => {
                    self.restored(&it.body, into, depth + 1);
                    for clause in &it.elif_else_clauses {
                        self.restored(&clause.body, into, depth + 1);
                    }
                }
                Stmt::Assign(it) if !it.value.is_string_literal_expr() => {
                    self.restored_items(&it.targets, into);
                }
                Stmt::Delete(it) => {
                    self.restored_items(&it.targets, into);
                }
                Stmt::Expr(it) => {
                    if let Expr::Call(call) = &*it.value
                        && let Expr::Attribute(method) = &*call.func
                        && self.is_environ(&method.value)
                    {
                        match (method.attr.as_str(), call.arguments.args.first()) {
                            ("pop", Some(name)) => into.push(self.text_of(name)),
                            ("update", Some(_)) => into.push(None),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn restored_items(&self, targets: &[Expr], into: &mut Vec<Option<String>>) {
        for target in targets {
            if let Expr::Subscript(it) = target
                && self.is_environ(&it.value)
            {
                into.push(self.text_of(&it.slice));
            }
        }
    }
}
