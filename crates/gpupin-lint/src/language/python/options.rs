//! Command line options and their defaults: argparse, click, typer, absl, `HfArgumentParser`, fire-like parameters.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Reader,
    scope::{Bound, ScopeId},
    syntax::{Expr, Ranged as _, Stmt, ast},
};
use crate::value::{Name, Root, Spanned, Value};

/// The options a file declares.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// Defaults by the name the program reads them under: `gpu_id` for `--gpu-id`.
    by_name: FxHashMap<String, Spanned>,
    /// Options that are integers, by the same names.
    integers: FxHashSet<String>,
    /// Defaults of parameters that a decorator declares as options, by the parameter's place.
    by_parameter: FxHashMap<u32, Spanned>,
}

impl Options {
    pub(super) fn parameter(&self, parameter: &ast::ParameterWithDefault) -> Option<&Spanned> {
        self.by_parameter.get(&parameter.start().to_u32())
    }
}

impl<'a> Reader<'a, '_> {
    pub(super) fn collect_options(&mut self, statements: &'a [Stmt]) {
        if self.text.contains("add_argument")
            || self.text.contains("option(")
            || self.text.contains("DEFINE_")
            || self.text.contains("parse_args_into_dataclasses")
        {
            self.options_in(statements, 0);
        }
    }

    fn options_in(&mut self, statements: &'a [Stmt], depth: u32) {
        if depth > super::flow::MAX_DEPTH {
            return;
        }
        for statement in statements {
            match statement {
                Stmt::Expr(it) => self.declaration(&it.value),
                Stmt::Assign(it) => self.declaration(&it.value),
                Stmt::FunctionDef(it) => {
                    let before = self.scope;
                    if let Some(scope) = self.scopes.of(it) {
                        self.scope = scope;
                    }
                    self.options_in(&it.body, depth + 1);
                    self.scope = before;
                    self.decorated(it);
                }
                Stmt::ClassDef(it) => {
                    self.options_in(&it.body, depth + 1);
                    self.dataclass(it);
                }
                Stmt::If(it) => {
                    self.options_in(&it.body, depth + 1);
                    for clause in &it.elif_else_clauses {
                        self.options_in(&clause.body, depth + 1);
                    }
                }
                Stmt::With(it) => self.options_in(&it.body, depth + 1),
                Stmt::Try(it) => self.options_in(&it.body, depth + 1),
                Stmt::For(it) => self.options_in(&it.body, depth + 1),
                _ => {}
            }
        }
    }

    fn declaration(&mut self, expression: &'a Expr) {
        let Expr::Call(call) = expression else { return };
        let Some(segment) = super::call::last_segment(&call.func) else { return };
        let arguments = &call.arguments;
        if segment == "add_argument" {
            let name = arguments.find_keyword("dest").map_or_else(
                || option_name(&arguments.args, |it| self.text_of(it)),
                |it| self.text_of(&it.value),
            );
            let Some(name) = name else { return };
            let is_integer =
                |it: &ast::Keyword| matches!(&it.value, Expr::Name(it) if it.id == "int");
            if arguments.find_keyword("type").is_some_and(is_integer) {
                self.options.integers.insert(name.clone());
            }
            if let Some(default) = arguments.find_keyword("default") {
                self.option(&default.value, name, &default.value);
            }
        } else if segment.starts_with("DEFINE_")
            && let Some(name) = arguments.args.first().and_then(|it| self.text_of(it))
            && let Some(default) = arguments.find_argument_value("default", 1)
        {
            self.option(default, name, default);
        }
    }

    fn option(&mut self, default: &'a Expr, name: String, setting: &'a Expr) {
        let value = self.value(default);
        if !matches!(value.value, Value::Unknown | Value::None) {
            self.setting(&name, setting, super::setting::Place::Option);
            self.options.by_name.insert(name, value);
        }
    }

    /// `@click.option("--gpu", default=0)` declares a parameter of the function below.
    fn decorated(&mut self, it: &'a ast::StmtFunctionDef) {
        for decorator in &it.decorator_list {
            let Expr::Call(call) = &decorator.expression else { continue };
            let Some("option" | "argument") = super::call::last_segment(&call.func) else {
                continue;
            };
            let Some(default) = call.arguments.find_keyword("default") else { continue };
            let Some(name) = option_name(&call.arguments.args, |it| self.text_of(it)) else {
                continue;
            };
            let parameter = it.parameters.find(&name).map(|it| it.start().to_u32());
            let value = self.value(&default.value);
            if let Some(parameter) = parameter
                && !matches!(value.value, Value::Unknown | Value::None)
            {
                self.setting(&name, &default.value, super::setting::Place::Option);
                self.options.by_parameter.insert(parameter, value);
            }
        }
    }

    /// The fields of a dataclass that `HfArgumentParser` turns into options.
    fn dataclass(&mut self, it: &'a ast::StmtClassDef) {
        if !self.text.contains("parse_args_into_dataclasses") {
            return;
        }
        for statement in &it.body {
            if let Stmt::AnnAssign(field) = statement
                && let (Expr::Name(name), Some(value)) = (&*field.target, &field.value)
            {
                let value = self.value(value);
                if !matches!(value.value, Value::Unknown | Value::None) {
                    self.options.by_name.insert(name.id.to_string(), value);
                }
            }
        }
    }

    /// The default behind `args.gpu`.
    pub(super) fn option_value(&self, it: &ast::ExprAttribute, scope: ScopeId) -> Option<Spanned> {
        let value = self.options.by_name.get(it.attr.as_str())?;
        self.is_parsed_option(it, scope).then(|| value.clone())
    }

    /// Whether `args.gpu` is an integer.
    pub(super) fn is_integer_option(&self, it: &ast::ExprAttribute, scope: ScopeId) -> bool {
        self.options.integers.contains(it.attr.as_str()) && self.is_parsed_option(it, scope)
    }

    fn is_parsed_option(&self, it: &ast::ExprAttribute, scope: ScopeId) -> bool {
        match &*it.value {
            Expr::Name(name) => match self.scopes.lookup(&name.id, scope) {
                Some(binding) => match binding.bound {
                    Bound::Value(Expr::Call(call)) | Bound::Item(Expr::Call(call), _) => {
                        super::call::last_segment(&call.func).is_some_and(parses)
                    }
                    Bound::Parameter(_) | Bound::Nothing => is_options_name(&name.id),
                    Bound::Import(_) | Bound::Foreign(_) | Bound::Value(_) => {
                        is_options_name(&name.id)
                    }
                    _ => false,
                },
                None => is_options_name(&name.id),
            },
            // `self.args.gpu`.
            Expr::Attribute(owner) => is_options_name(&owner.attr),
            Expr::Call(call) => super::call::last_segment(&call.func).is_some_and(parses),
            _ => false,
        }
    }
}

/// `gpu_id` of `"-g", "--gpu-id"`: the first long option, as argparse and click name it.
fn option_name(arguments: &[Expr], text_of: impl Fn(&Expr) -> Option<String>) -> Option<String> {
    let texts: Vec<_> = arguments.iter().filter_map(text_of).collect();
    let long = texts.iter().find(|it| it.starts_with("--"));
    let name = long.or_else(|| texts.iter().find(|it| !it.starts_with('-'))).or(texts.first())?;
    let name = name.trim_start_matches('-');
    let name = name.split('/').next().unwrap_or(name);
    Some(name.replace('-', "_"))
}

fn parses(segment: &str) -> bool {
    segment.starts_with("parse") || segment == "get_args" || segment == "get_arguments"
}

fn is_options_name(name: &str) -> bool {
    matches!(
        name,
        "args"
            | "arg"
            | "opt"
            | "opts"
            | "options"
            | "hparams"
            | "params"
            | "flags"
            | "FLAGS"
            | "cli_args"
            | "parsed"
            | "namespace"
            | "parsed_args"
            | "known_args"
            | "arguments"
    ) || name.ends_with("_args")
}

/// The default in a declaration that stands where a value does: `typer.Option(0)`, `Field(default=0)`,
/// `flags.DEFINE_integer("gpu", 0, …)`.
pub(super) fn declared_default(it: &ast::ExprCall) -> Option<&Expr> {
    let segment = super::call::last_segment(&it.func)?;
    match segment {
        "Option" | "Argument" | "Field" | "field" | "attrib" | "ib" | "Arg" => {
            it.arguments.find_argument_value("default", 0)
        }
        "Query" | "Header" | "Form" | "Body" => it.arguments.find_argument_value("default", 0),
        _ if segment.starts_with("DEFINE_") => it.arguments.find_argument_value("default", 1),
        _ => None,
    }
}

/// Whether a name is a function of a library that declares options or fields.
pub(super) fn declares(name: &Name) -> bool {
    name.root == Root::Absolute
        && [
            "typer.",
            "click.",
            "pydantic",
            "dataclasses.",
            "attr",
            "fastapi.",
            "absl.",
            "marshmallow",
            "tap",
        ]
        .iter()
        .any(|it| name.path.starts_with(it))
}

/// Calls whose `default=` is a default.
pub(super) fn is_declaration(segment: &str) -> bool {
    matches!(
        segment,
        "add_argument" | "option" | "argument" | "Option" | "Argument" | "Field" | "field"
    ) || segment.starts_with("DEFINE_")
}
