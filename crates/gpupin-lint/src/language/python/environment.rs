//! Reading and writing environment variables, in all the ways Python has.

use super::{
    Reader,
    names::Resolved,
    scope::{Bound, ScopeId},
    syntax::{Expr, Operator, ast, range_of},
};
use crate::{
    language::command,
    unit::{ChildEnvironment, Does, Reach, RemoveHow, RemoveVariable, SetHow, SetVariable, Step},
    value::{Root, Spanned, Value},
};

/// How often an environment may be copied from another on the way to its origin.
const DEEPEST_ENVIRONMENT: u32 = 16;

impl<'a> Reader<'a, '_> {
    pub(super) fn is_environ(&self, expression: &Expr) -> bool {
        self.is_environ_in(expression, self.scope)
    }

    pub(super) fn is_environ_in(&self, expression: &Expr, scope: ScopeId) -> bool {
        match expression {
            Expr::Attribute(it) if !matches!(it.attr.as_str(), "environ" | "environb") => false,
            Expr::Attribute(_) | Expr::Name(_) => {
                self.resolve_in(expression, scope, 0).is_some_and(|it| {
                    !it.is_object
                        && it.name.root == Root::Absolute
                        && matches!(it.name.path.as_str(), "os.environ" | "os.environb")
                })
            }
            _ => false,
        }
    }

    /// `os.getenv("X")`, `os.environ.get("X")`.
    pub(super) fn is_environment_read(&self, it: &ast::ExprCall, scope: ScopeId) -> bool {
        match &*it.func {
            Expr::Attribute(method) if method.attr.as_str() == "get" => {
                self.is_environ_in(&method.value, scope)
            }
            Expr::Attribute(method) if method.attr.as_str() != "getenv" => false,
            function => self
                .resolve_in(function, scope, 0)
                .is_some_and(|it| it.name.root == Root::Absolute && it.name.path == "os.getenv"),
        }
    }

    pub(super) fn environment_read(
        &self,
        it: &ast::ExprCall,
        expression: &Expr,
        scope: ScopeId,
        depth: u32,
    ) -> Spanned {
        let here = |value| Spanned::new(value, self.span(range_of(expression)));
        let arguments = &it.arguments;
        let Some(name) = arguments.find_argument_value("key", 0) else {
            return here(Value::Unknown);
        };
        let Value::Str(name) = self.value_in(name, scope, depth).value else {
            return here(Value::Unknown);
        };
        match arguments.find_argument_value("default", 1) {
            Some(default) if !default.is_none_literal_expr() => {
                let default = self.value_in(default, scope, depth);
                here(Value::ByDefault(Box::new(default)))
            }
            _ => here(Value::Variable(name)),
        }
    }

    pub(super) fn assignment(
        &mut self,
        targets: &'a [Expr],
        value: &'a Expr,
        range: std::ops::Range<usize>,
        steps: &mut Vec<Step>,
    ) {
        for target in targets {
            match target {
                Expr::Subscript(it) => self.item_assignment(it, value, &range, steps),
                Expr::Attribute(it) => {
                    if it.attr.as_str() == "environ" && self.is_environ(target) {
                        self.replace_environment(value, &range, steps);
                        continue;
                    }
                    self.assigned_api(it, value, range.clone(), steps);
                    self.setting(&it.attr, value, super::setting::Place::Constant);
                }
                Expr::Name(it) => {
                    self.setting(&it.id, value, super::setting::Place::Constant);
                    if it.id == "pytestmark" && self.is_test {
                        self.skipped(value, steps);
                    }
                    if let Some(copy) = self.environment_copy(value) {
                        self.copies.insert((self.scope, it.id.as_str()), copy);
                    }
                }
                _ => {}
            }
        }
    }

    fn item_assignment(
        &mut self,
        it: &'a ast::ExprSubscript,
        value: &'a Expr,
        range: &std::ops::Range<usize>,
        steps: &mut Vec<Step>,
    ) {
        if self.is_environ(&it.value) {
            match self.text_of(&it.slice) {
                Some(_) => self.set(&it.slice, value, SetHow::Assign, range, steps),
                None => self.set_all_items(&it.slice, range, steps),
            }
            return;
        }
        if self.is_loaded_modules(&it.value) {
            self.mock(&it.slice);
            return;
        }
        if let Expr::Name(owner) = &*it.value {
            if let Some(name) = self.text_of(&it.slice) {
                let value = self.value(value);
                if let Some(copy) = self.copy_named(&owner.id) {
                    command::set(copy, name, value);
                    return;
                }
            }
            self.changed.insert(owner.id.to_string());
        }
        if let Expr::StringLiteral(key) = &*it.slice {
            self.setting(key.value.to_str(), value, super::setting::Place::Constant);
        }
    }

    /// `for name, value in {…}.items(): os.environ[name] = value`.
    fn set_all_items(
        &mut self,
        key: &'a Expr,
        range: &std::ops::Range<usize>,
        steps: &mut Vec<Step>,
    ) {
        let Expr::Name(key) = key else { return };
        let Some(binding) = self.scopes.lookup(&key.id, self.scope) else { return };
        let Bound::Element(Expr::Call(call), Some(0)) = binding.bound else { return };
        let scope = binding.scope;
        let Expr::Attribute(items) = &*call.func else { return };
        if items.attr.as_str() != "items" {
            return;
        }
        if let Value::Dict(items) = self.value_in(&items.value, scope, 0).value {
            self.set_values(items, SetHow::Assign, range, steps);
        }
    }

    fn set(
        &mut self,
        name: &'a Expr,
        value: &'a Expr,
        how: SetHow,
        range: &std::ops::Range<usize>,
        steps: &mut Vec<Step>,
    ) {
        if let Some(text) = self.text_of(name) {
            let name = Spanned::new(Value::Str(text), self.content(name));
            let value = self.value(value);
            self.set_values(vec![(name, value)], how, range, steps);
        }
    }

    fn set_values(
        &mut self,
        values: Vec<(Spanned, Spanned)>,
        how: SetHow,
        range: &std::ops::Range<usize>,
        steps: &mut Vec<Step>,
    ) {
        for (name, value) in values {
            let Value::Str(text) = name.value else { continue };
            self.uses_parts(&value);
            let set =
                SetVariable { name: text, name_span: name.span, value, how, reach: Reach::Process };
            self.emit(steps, range.clone(), Does::SetVariable(set));
        }
    }

    fn remove(
        &mut self,
        name: &'a Expr,
        how: RemoveHow,
        range: std::ops::Range<usize>,
        steps: &mut Vec<Step>,
    ) {
        if let Some(name) = self.text_of(name) {
            self.emit(steps, range, Does::RemoveVariable(RemoveVariable { name, how }));
        }
    }

    fn replace_environment(
        &mut self,
        value: &'a Expr,
        range: &std::ops::Range<usize>,
        steps: &mut Vec<Step>,
    ) {
        let (keeps, inherits) = match self.environment_of(value) {
            ChildEnvironment::Inherited(keeps) | ChildEnvironment::Without { set: keeps, .. } => {
                (keeps, true)
            }
            ChildEnvironment::Only(keeps) => (keeps, false),
            ChildEnvironment::Unknown => (Vec::new(), true),
        };
        self.emit(steps, range.clone(), Does::ReplaceEnvironment { keeps, inherits });
    }

    /// `os.environ |= {…}`.
    pub(super) fn environment_merge(&mut self, it: &'a ast::StmtAugAssign, steps: &mut Vec<Step>) {
        if it.op != Operator::BitOr {
            return;
        }
        if self.is_environ(&it.target) {
            let values = self.pairs(&it.value);
            self.set_values(values, SetHow::Assign, &range_of(it), steps);
        } else if let Expr::Name(owner) = &*it.target {
            let values = self.pairs(&it.value);
            if let Some(copy) = self.copy_named(&owner.id) {
                for (name, value) in values {
                    if let Value::Str(name) = name.value {
                        command::set(copy, name, value);
                    }
                }
            }
        }
    }

    pub(super) fn environment_deletion(
        &mut self,
        target: &'a Expr,
        range: std::ops::Range<usize>,
        steps: &mut Vec<Step>,
    ) {
        let Expr::Subscript(it) = target else { return };
        if self.is_environ(&it.value) {
            self.remove(&it.slice, RemoveHow::Remove, range, steps);
        } else if let Expr::Name(owner) = &*it.value
            && let Some(name) = self.text_of(&it.slice)
            && let Some(copy) = self.copy_named(&owner.id)
        {
            take(copy, name);
        }
    }

    /// Calls that change the environment. Tells whether this is one.
    pub(super) fn environment_call(
        &mut self,
        it: &'a ast::ExprCall,
        segment: &str,
        callee: Option<&Resolved>,
        steps: &mut Vec<Step>,
    ) -> bool {
        self.mocking_call(it, segment);
        let range = range_of(it);
        let arguments = &it.arguments;
        let first = arguments.find_positional(0);
        let second = arguments.find_positional(1);
        let owner = match &*it.func {
            Expr::Attribute(method) => Some(&*method.value),
            _ => None,
        };
        match segment {
            "update" | "setdefault" | "pop" | "clear" | "popitem" | "__setitem__"
            | "__delitem__" => {
                let Some(owner) = owner else { return false };
                if self.is_environ(owner) {
                    self.environ_method(it, segment, steps);
                    return true;
                }
                self.copy_method(owner, segment, it)
            }
            "putenv" | "unsetenv" => {
                let path = callee.and_then(|it| it.name.library_path());
                match (path, first, second) {
                    (Some("os.putenv"), Some(name), Some(value)) => {
                        self.set(name, value, SetHow::Putenv, &range, steps);
                    }
                    (Some("os.unsetenv"), Some(name), _) => {
                        self.remove(name, RemoveHow::Remove, range, steps);
                    }
                    _ => return false,
                }
                true
            }
            "setenv" => {
                if let (Some(name), Some(value)) = (first, second) {
                    self.set(name, value, SetHow::Temporary, &range, steps);
                }
                true
            }
            "delenv" => {
                if let Some(name) = first {
                    self.remove(name, RemoveHow::Temporary, range, steps);
                }
                true
            }
            "setitem" if first.is_some_and(|it| self.is_environ(it)) => {
                if let (Some(name), Some(value)) = (second, arguments.find_positional(2)) {
                    self.set(name, value, SetHow::Temporary, &range, steps);
                }
                true
            }
            "delitem" if first.is_some_and(|it| self.is_environ(it)) => {
                if let Some(name) = second {
                    self.remove(name, RemoveHow::Temporary, range, steps);
                }
                true
            }
            // `mock.patch.dict(os.environ, {…})`, also by its text.
            "dict" => {
                let is_patch = matches!(owner, Some(Expr::Attribute(it)) if it.attr.as_str() == "patch")
                    || matches!(owner, Some(Expr::Name(it)) if it.id == "patch");
                let patches = is_patch
                    && first.is_some_and(|it| {
                        self.is_environ(it) || self.text_of(it).as_deref() == Some("os.environ")
                    });
                if patches {
                    let mut values = second.map_or_else(Vec::new, |it| self.pairs(it));
                    values.extend(self.keyword_pairs(arguments, &["clear", "values"]));
                    self.set_values(values, SetHow::Temporary, &range, steps);
                }
                patches
            }
            "load_dotenv" => {
                let file = arguments.find_argument_value("dotenv_path", 0);
                let file = file.and_then(|it| self.text_of(it));
                let overrides = arguments
                    .find_argument_value("override", 3)
                    .is_some_and(|it| self.value(it).value == Value::Bool(true));
                self.emit(steps, range, Does::LoadVariables { file, overrides });
                true
            }
            _ => false,
        }
    }

    fn environ_method(&mut self, it: &'a ast::ExprCall, segment: &str, steps: &mut Vec<Step>) {
        let range = range_of(it);
        let arguments = &it.arguments;
        let first = arguments.find_positional(0);
        match (segment, first, arguments.find_positional(1)) {
            ("update", first, _) => {
                let mut values = first.map_or_else(Vec::new, |it| self.pairs(it));
                values.extend(self.keyword_pairs(arguments, &[]));
                self.set_values(values, SetHow::Assign, &range, steps);
            }
            ("setdefault", Some(name), Some(value)) => {
                self.set(name, value, SetHow::IfUnset, &range, steps);
            }
            ("__setitem__", Some(name), Some(value)) => {
                self.set(name, value, SetHow::Assign, &range, steps);
            }
            ("pop" | "__delitem__", Some(name), _) => {
                self.remove(name, RemoveHow::Remove, range, steps);
            }
            ("clear", ..) => {
                let does = Does::ReplaceEnvironment { keeps: Vec::new(), inherits: false };
                self.emit(steps, range, does);
            }
            _ => {}
        }
    }

    /// `env.update(…)`, `env.pop(…)` on a copy of the environment.
    fn copy_method(&mut self, owner: &'a Expr, segment: &str, it: &'a ast::ExprCall) -> bool {
        let Expr::Name(owner) = owner else { return false };
        if self.copies.is_empty() || self.copy_named(&owner.id).is_none() {
            return false;
        }
        let arguments = &it.arguments;
        let first = arguments.find_positional(0);
        let mut values = Vec::new();
        match (segment, first, arguments.find_positional(1)) {
            ("update", first, _) => {
                values = first.map_or_else(Vec::new, |it| self.pairs(it));
                values.extend(self.keyword_pairs(arguments, &[]));
            }
            ("setdefault", Some(name), Some(value)) => {
                values.push((self.value(name), self.value(value)));
            }
            ("pop", Some(name), _) => {
                if let Some(name) = self.text_of(name)
                    && let Some(copy) = self.copy_named(&owner.id)
                {
                    take(copy, name);
                }
            }
            _ => {}
        }
        if let Some(copy) = self.copy_named(&owner.id) {
            for (name, value) in values {
                if let Value::Str(name) = name.value {
                    command::set(copy, name, value);
                }
            }
        }
        true
    }

    fn copy_named(&mut self, name: &str) -> Option<&mut ChildEnvironment> {
        if self.copies.is_empty() {
            return None;
        }
        let scope = self.scopes.lookup(name, self.scope).map(|it| it.scope)?;
        // The key borrows the tree, so it is looked for by its text.
        self.copies.iter_mut().find(|it| it.0.0 == scope && it.0.1 == name).map(|it| it.1)
    }

    /// The environment an expression stands for, when it is one: `os.environ.copy()`, `{**os.environ, "X": "1"}` …
    fn environment_copy(&mut self, value: &'a Expr) -> Option<ChildEnvironment> {
        let is_candidate = match value {
            Expr::Call(it) => {
                matches!(super::call::last_segment(&it.func), Some("copy" | "dict" | "deepcopy"))
            }
            Expr::Dict(it) => it.items.iter().any(|it| it.key.is_none()) || it.items.is_empty(),
            Expr::BinOp(it) => it.op == Operator::BitOr,
            Expr::DictComp(_) => true,
            _ => false,
        };
        is_candidate.then(|| self.environment_of(value))
    }

    /// What a child gets for `env=value`.
    pub(super) fn environment_of(&self, value: &Expr) -> ChildEnvironment {
        self.environment_within(value, 0)
    }

    /// `env = dict(env)` leads back to itself, so that names are followed a few times only.
    fn environment_within(&self, value: &Expr, depth: u32) -> ChildEnvironment {
        if depth > DEEPEST_ENVIRONMENT {
            return ChildEnvironment::Unknown;
        }
        let within = |value: &Expr| self.environment_within(value, depth + 1);
        match value {
            Expr::NoneLiteral(_) => ChildEnvironment::Inherited(Vec::new()),
            Expr::Name(name) => {
                if self.is_environ(value) {
                    return ChildEnvironment::Inherited(Vec::new());
                }
                let Some(binding) = self.scopes.lookup(&name.id, self.scope) else {
                    return ChildEnvironment::Unknown;
                };
                if let Some(copy) = self.copies.get(&(binding.scope, name.id.as_str())) {
                    return copy.clone();
                }
                match binding.bound {
                    Bound::Value(value) if binding.is_sole() && !matches!(value, Expr::Name(_)) => {
                        within(value)
                    }
                    _ => ChildEnvironment::Unknown,
                }
            }
            Expr::Attribute(_) if self.is_environ(value) => ChildEnvironment::Inherited(Vec::new()),
            Expr::Call(it) => self.environment_of_call(it, depth),
            Expr::Dict(it) => {
                let mut environment = ChildEnvironment::Only(Vec::new());
                for item in &it.items {
                    match &item.key {
                        None => environment = within(&item.value),
                        Some(key) => {
                            if let Value::Str(name) = self.value(key).value {
                                command::set(&mut environment, name, self.value(&item.value));
                            }
                        }
                    }
                }
                environment
            }
            Expr::BinOp(it) if it.op == Operator::BitOr => {
                let mut environment = within(&it.left);
                if self.is_environ(&it.right) {
                    return ChildEnvironment::Inherited(Vec::new());
                }
                for (name, value) in self.pairs(&it.right) {
                    if let Value::Str(name) = name.value {
                        command::set(&mut environment, name, value);
                    }
                }
                environment
            }
            _ => ChildEnvironment::Unknown,
        }
    }

    fn environment_of_call(&self, it: &ast::ExprCall, depth: u32) -> ChildEnvironment {
        let within = |value: &Expr| self.environment_within(value, depth + 1);
        let first = it.arguments.args.first();
        match (super::call::last_segment(&it.func), &*it.func) {
            (Some("copy"), Expr::Attribute(method)) if first.is_none() => within(&method.value),
            (Some("copy" | "deepcopy"), _) => first.map_or(ChildEnvironment::Unknown, within),
            (Some("dict"), Expr::Name(_)) => {
                let mut environment = first.map_or(ChildEnvironment::Only(Vec::new()), within);
                for (name, value) in self.keyword_pairs(&it.arguments, &[]) {
                    if let Value::Str(name) = name.value {
                        command::set(&mut environment, name, value);
                    }
                }
                environment
            }
            _ => self.returned_copy(it).unwrap_or(ChildEnvironment::Unknown),
        }
    }

    /// Names and values of a dictionary, or of a list of pairs.
    fn pairs(&self, expression: &Expr) -> Vec<(Spanned, Spanned)> {
        if let Expr::Dict(it) = expression {
            let mut pairs = Vec::new();
            for item in &it.items {
                match &item.key {
                    Some(key) => pairs.push((self.place_of_name(key), self.value(&item.value))),
                    None => pairs.extend(self.pairs(&item.value)),
                }
            }
            return pairs;
        }
        match self.value(expression).value {
            Value::Dict(items) => items,
            Value::List(items) => items
                .into_iter()
                .filter_map(|it| match it.value {
                    Value::List(pair) => <[Spanned; 2]>::try_from(pair).ok().map(|[a, b]| (a, b)),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The place of a text without its quotes, when it stands there as it is.
    fn content(&self, text: &Expr) -> crate::span::Span {
        if let Expr::StringLiteral(it) = text
            && let Some(start) = super::device::literal_content(it, self.text)
        {
            return self.span(start..start + it.value.to_str().len());
        }
        self.span(range_of(text))
    }

    fn place_of_name(&self, key: &Expr) -> Spanned {
        Spanned::new(self.value(key).value, self.content(key))
    }

    fn keyword_pairs(&self, arguments: &ast::Arguments, not: &[&str]) -> Vec<(Spanned, Spanned)> {
        let mut pairs = Vec::new();
        for keyword in &arguments.keywords {
            match &keyword.arg {
                Some(name) if !not.contains(&name.as_str()) => {
                    let place = self.span(range_of(name));
                    let name = Spanned::new(Value::Str(name.to_string()), place);
                    pairs.push((name, self.value(&keyword.value)));
                }
                Some(_) => {}
                None => pairs.extend(self.pairs(&keyword.value)),
            }
        }
        pairs
    }

    fn uses_parts(&mut self, value: &Spanned) {
        self.uses(value);
        match &value.value {
            Value::ByDefault(inner) => self.uses_parts(&inner.clone()),
            Value::OneOf(values) | Value::List(values) => {
                for value in values.clone() {
                    self.uses_parts(&value);
                }
            }
            _ => {}
        }
    }
}

fn take(environment: &mut ChildEnvironment, name: String) {
    match environment {
        ChildEnvironment::Only(set) => set.retain(|it| it.0 != name),
        ChildEnvironment::Without { set, removed } => {
            set.retain(|it| it.0 != name);
            removed.push(name);
        }
        ChildEnvironment::Inherited(set) => {
            let set = set.iter().filter(|it| it.0 != name).cloned().collect();
            *environment = ChildEnvironment::Without { removed: vec![name], set };
        }
        ChildEnvironment::Unknown => {}
    }
}
