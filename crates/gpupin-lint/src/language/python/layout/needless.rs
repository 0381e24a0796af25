//! What does nothing once something in it is gone.

use crate::language::python::syntax::{ExceptHandler, Expr, Stmt, UnaryOp, ast, range_of};

/// Whether a statement does nothing if this block of it is empty. A test that only looks at something is nothing.
pub(super) fn without(statement: &Stmt, block: &[Stmt], text: &str) -> bool {
    let is_block = |it: &[Stmt]| std::ptr::eq(it, block);
    let is_empty = |it: &[Stmt]| is_block(it) || it.iter().all(Stmt::is_pass_stmt);
    match statement {
        Stmt::If(it) => {
            let mut clauses = it.elif_else_clauses.iter();
            is_quiet(&it.test)
                && is_empty(&it.body)
                && clauses.all(|it| is_empty(&it.body) && it.test.as_ref().is_none_or(is_quiet))
        }
        // What raises nothing is not handled, but a name that a handler binds is one of the function.
        Stmt::Try(it) => {
            let mut handlers = it.handlers.iter();
            is_block(&it.body)
                && handlers.all(|ExceptHandler::ExceptHandler(it)| is_empty(&it.body))
                && is_empty(&it.orelse)
                && is_empty(&it.finalbody)
        }
        Stmt::With(it) => {
            let mut items = it.items.iter();
            !it.is_async
                && items.all(|it| it.optional_vars.is_none() && suppresses(&it.context_expr))
        }
        Stmt::For(it) => {
            let is_used_in_it_only =
                |name: &str| count(text, name) == count(&text[range_of(statement)], name);
            let binds_nothing =
                matches!(&*it.target, Expr::Name(it) if is_used_in_it_only(it.id.as_str()));
            let is_written_out = matches!(&*it.iter, Expr::Tuple(_) | Expr::List(_) | Expr::Set(_));
            !it.is_async
                && binds_nothing
                && is_written_out
                && is_quiet(&it.iter)
                && is_empty(&it.body)
                && is_empty(&it.orelse)
        }
        _ => false,
    }
}

/// The name that a statement binds, if it does nothing else: importing these modules runs no code of anybody's.
pub(super) fn imported(statement: &Stmt) -> Option<String> {
    const QUIET: &[&str] = &["os", "contextlib"];
    let bound = |it: &ast::Alias| it.asname.as_ref().unwrap_or(&it.name).to_string();
    match statement {
        Stmt::Import(it) => match &*it.names {
            [alias] if QUIET.contains(&alias.name.as_str()) => Some(bound(alias)),
            _ => None,
        },
        Stmt::ImportFrom(it) => {
            let module = it.module.as_ref().filter(|_| it.level == 0)?;
            match &*it.names {
                [alias] if QUIET.contains(&module.as_str()) && alias.name.as_str() != "*" => {
                    Some(bound(alias))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// How often a name stands in a text, wherever that is: not that of something's attribute.
pub(super) fn count(text: &str, name: &str) -> usize {
    let is_part = |it: char| it.is_alphanumeric() || it == '_';
    let is_name = |at: usize| {
        let (before, behind) = (&text[..at], &text[at + name.len()..]);
        !before.ends_with(is_part) && !before.ends_with('.') && !behind.starts_with(is_part)
    };
    text.match_indices(name).filter(|it| is_name(it.0)).count()
}

/// Whether evaluating an expression changes nothing and does not fail.
fn is_quiet(expression: &Expr) -> bool {
    const VALUES: &[&str] = &["os.environ", "os.name", "sys.argv", "sys.platform"];
    const CALLS: &[&str] = &["os.environ.get", "environ.get", "os.getenv", "getenv", "len"];
    match expression {
        // Who asks for this tells that the file is a program.
        Expr::Name(it) => it.id.as_str() != "__name__",
        Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::BooleanLiteral(_)
        | Expr::NoneLiteral(_) => true,
        Expr::Attribute(_) => dotted(expression).is_some_and(|it| VALUES.contains(&&*it)),
        Expr::BoolOp(it) => it.values.iter().all(is_quiet),
        Expr::UnaryOp(it) => it.op == UnaryOp::Not && is_quiet(&it.operand),
        Expr::Compare(it) => is_quiet(&it.left) && it.comparators.iter().all(is_quiet),
        Expr::Tuple(it) => it.elts.iter().all(is_quiet),
        Expr::List(it) => it.elts.iter().all(is_quiet),
        Expr::Set(it) => it.elts.iter().all(is_quiet),
        Expr::Call(it) => {
            dotted(&it.func).is_some_and(|it| CALLS.contains(&&*it))
                && it.arguments.keywords.is_empty()
                && it.arguments.args.iter().all(is_quiet)
        }
        _ => false,
    }
}

/// `suppress(KeyError)`.
fn suppresses(expression: &Expr) -> bool {
    let Expr::Call(it) = expression else { return false };
    dotted(&it.func).is_some_and(|it| matches!(&*it, "suppress" | "contextlib.suppress"))
        && it.arguments.args.iter().all(is_quiet)
        && it.arguments.keywords.is_empty()
}

fn dotted(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Name(it) => Some(it.id.to_string()),
        Expr::Attribute(it) => Some(format!("{}.{}", dotted(&it.value)?, it.attr)),
        _ => None,
    }
}
