//! Statements in the order they run.

use std::ops::Range;

use super::{
    Reader,
    syntax::{BoolOp, ExceptHandler, Expr, Stmt, ast, range_of},
};
use crate::unit::{Block, Condition, Leave, Step};

/// Deeper nesting than anybody writes; what lies below is not read.
pub(super) const MAX_DEPTH: u32 = 150;
/// Longer chains of `elif` with conditions of their own are read as one choice of many.
const MAX_NESTED_ARMS: usize = 40;

impl<'a> Reader<'a, '_> {
    pub(super) fn block(&mut self, statements: &'a [Stmt]) -> Block {
        let mut steps = Vec::new();
        self.statements(statements, &mut steps);
        steps.shrink_to_fit();
        Block(steps)
    }

    pub(super) fn statements(&mut self, statements: &'a [Stmt], steps: &mut Vec<Step>) {
        if self.depth >= MAX_DEPTH {
            return;
        }
        self.depth += 1;
        let context = self.context;
        for (at, statement) in statements.iter().enumerate() {
            if let Some(pair) = statements.get(at..at + 2) {
                self.assigned_fallback(pair, steps);
            }
            self.statement(statement, steps);
            // `if torch.cuda.device_count() < 2: return` guards what follows.
            if let Stmt::If(it) = statement
                && it.elif_else_clauses.is_empty()
                && leaves(&it.body)
            {
                let (condition, swapped) = self.condition(&it.test);
                if let (Condition::MoreGpusThan(count), true) = (condition, swapped) {
                    self.context.more_than = Some(count);
                }
                // `if device is not None: return device`.
                self.context = self.arm_context(&it.test, false);
            }
        }
        self.context = context;
        self.depth -= 1;
    }

    fn statement(&mut self, statement: &'a Stmt, steps: &mut Vec<Step>) {
        match statement {
            Stmt::FunctionDef(it) => self.function_definition(it, steps),
            Stmt::ClassDef(it) => self.class_definition(it, steps),
            Stmt::Import(it) => self.import(it, steps),
            Stmt::ImportFrom(it) => self.import_from(it, steps),
            Stmt::Expr(it) => {
                // A docstring, or a text that stands for a comment.
                if !it.value.is_string_literal_expr() {
                    self.expression(&it.value, steps);
                }
            }
            Stmt::Assign(it) => {
                self.expression(&it.value, steps);
                self.assignment(&it.targets, &it.value, range_of(it), steps);
            }
            Stmt::AnnAssign(it) => {
                if let Some(value) = &it.value {
                    self.expression(value, steps);
                    let target = std::slice::from_ref(&*it.target);
                    self.assignment(target, value, range_of(it), steps);
                }
            }
            Stmt::AugAssign(it) => {
                self.expression(&it.value, steps);
                self.environment_merge(it, steps);
                self.accumulation(it, steps);
            }
            Stmt::Delete(it) => {
                for target in &it.targets {
                    self.environment_deletion(target, range_of(it), steps);
                }
            }
            Stmt::Return(it) => {
                if let Some(value) = &it.value {
                    self.expression(value, steps);
                }
                steps.push(Step::Leave(Leave::Return));
            }
            Stmt::Raise(it) => {
                // Texts of an exception are messages.
                let context = self.context.telling();
                self.within(context, |reader| {
                    for value in [&it.exc, &it.cause].into_iter().flatten() {
                        reader.expression(value, steps);
                    }
                });
                steps.push(Step::Leave(match it.exc.as_deref() {
                    Some(it) if is_system_exit(it) => Leave::Exit,
                    _ => Leave::Raise,
                }));
            }
            Stmt::Assert(it) => {
                let context = self.context.telling();
                self.within(context, |reader| reader.expression(&it.test, steps));
                self.asserted(it, steps);
                if let (condition @ Condition::MoreGpusThan(_), swapped) = self.condition(&it.test)
                {
                    let (passes, fails) =
                        (Block::default(), Block(vec![Step::Leave(Leave::Raise)]));
                    let arms = if swapped { vec![fails, passes] } else { vec![passes, fails] };
                    steps.push(Step::Branch(condition, arms));
                }
            }
            Stmt::If(it) => self.branch(it, steps),
            Stmt::For(it) => {
                self.expression(&it.iter, steps);
                self.looped(&it.body, range_of(it), steps);
                self.statements(&it.orelse, steps);
            }
            Stmt::While(it) => {
                self.condition_expression(&it.test, steps);
                self.looped(&it.body, range_of(it), steps);
                self.statements(&it.orelse, steps);
            }
            Stmt::With(it) => self.with(it, steps),
            Stmt::Try(it) => self.attempt(it, steps),
            Stmt::Match(it) => self.choice_of_cases(it, steps),
            Stmt::IpyEscapeCommand(it) => self.magic_line(it, steps),
            Stmt::TypeAlias(_)
            | Stmt::Global(_)
            | Stmt::Nonlocal(_)
            | Stmt::Pass(_)
            | Stmt::Break(_)
            | Stmt::Continue(_) => {}
        }
    }

    fn looped(&mut self, body: &'a [Stmt], range: Range<usize>, steps: &mut Vec<Step>) {
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let in_loop = Some((place(range.start), place(range.end)));
        let context = super::Context { in_loop, ..self.context };
        let body = self.within(context, |reader| reader.block(body));
        if !body.0.is_empty() {
            steps.push(Step::Loop(body));
        }
    }

    fn branch(&mut self, it: &'a ast::StmtIf, steps: &mut Vec<Step>) {
        if is_main_test(&it.test) {
            steps.push(Step::Main(self.guarded_main(it)));
            let other = self.clauses(&it.elif_else_clauses, 0);
            if !other.0.is_empty() {
                steps.push(Step::Branch(Condition::Unknown, vec![Block::default(), other]));
            }
            return;
        }
        match self.fixed_truth(&it.test) {
            Some(true) => return self.statements(&it.body, steps),
            Some(false) => {
                let other = self.clauses(&it.elif_else_clauses, 0);
                steps.extend(other.0);
                return;
            }
            None => {}
        }
        self.condition_expression(&it.test, steps);
        let asks = self.tested(it, steps);
        let before = self.context;
        self.context.is_conditional |= !asks;
        let (condition, swapped) = self.condition(&it.test);
        let more_than = self.more_gpus_in(&it.test);
        let guard = more_than.filter(|_| !swapped);
        let (first, copies) = self.apart(|reader| reader.guarded_block(&it.test, &it.body, guard));
        let other_more_than = match condition {
            Condition::MoreGpusThan(count) if swapped => Some(count),
            _ => None,
        };
        let context = super::Context {
            more_than: other_more_than.or(self.context.more_than),
            ..self.arm_context(&it.test, false)
        };
        let others = self.within(context, |reader| reader.arms(&it.elif_else_clauses));
        self.context = before;
        self.join_copies(copies);
        push_branch(steps, condition, swapped, first, others);
    }

    /// What runs behind `__name__ == "__main__"`, which may depend on more than that.
    fn guarded_main(&mut self, it: &'a ast::StmtIf) -> Block {
        let Expr::BoolOp(tests) = &*it.test else { return self.block(&it.body) };
        let mut steps = Vec::new();
        for test in tests.values.iter().filter(|it| !is_main_test(it)) {
            self.condition_expression(test, &mut steps);
        }
        let body = self.block(&it.body);
        push_branch(&mut steps, Condition::Unknown, false, body, Vec::new());
        Block(steps)
    }

    fn guarded_block(&mut self, test: &Expr, body: &'a [Stmt], more_than: Option<i64>) -> Block {
        self.note_cpu_arm(test, body);
        let more_than = more_than.or(self.context.more_than);
        let context = super::Context { more_than, ..self.arm_context(test, true) };
        self.within(context, |reader| reader.block(body))
    }

    /// The arms behind the first: one block when a condition matters, one per clause when none does.
    fn arms(&mut self, clauses: &'a [ast::ElifElseClause]) -> Vec<Block> {
        let matters = clauses
            .iter()
            .filter_map(|it| it.test.as_ref())
            .any(|it| self.condition(it).0 != Condition::Unknown || contains_call(it));
        if matters && clauses.len() <= MAX_NESTED_ARMS {
            return vec![self.clauses(clauses, 0)];
        }
        let before = self.context;
        let mut made = Vec::new();
        let mut arms: Vec<_> = clauses
            .iter()
            .map(|it| {
                let mut steps = Vec::new();
                let mut context = self.context;
                if let Some(test) = &it.test {
                    self.condition_expression(test, &mut steps);
                    self.note_cpu_arm(test, &it.body);
                    context = self.arm_context(test, true);
                    self.context = self.arm_context(test, false);
                }
                let ((), copies) = self.apart(|reader| {
                    reader.within(context, |reader| reader.statements(&it.body, &mut steps));
                });
                made.push(copies);
                Block(steps)
            })
            .collect();
        self.context = before;
        if clauses.last().is_none_or(|it| it.test.is_some()) {
            // No arm may be taken at all.
            arms.push(Block::default());
        } else {
            self.copies = made.pop().unwrap_or_default();
        }
        for copies in made {
            self.join_copies(copies);
        }
        arms
    }

    fn clauses(&mut self, clauses: &'a [ast::ElifElseClause], at: usize) -> Block {
        let Some(clause) = clauses.get(at) else { return Block::default() };
        let Some(test) = &clause.test else { return self.block(&clause.body) };
        if at > MAX_NESTED_ARMS {
            return self.block(&clause.body);
        }
        let mut steps = Vec::new();
        self.condition_expression(test, &mut steps);
        let (condition, swapped) = self.condition(test);
        let more_than = self.more_gpus_in(test);
        let guard = more_than.filter(|_| !swapped);
        let (first, copies) = self.apart(|reader| reader.guarded_block(test, &clause.body, guard));
        let context = self.arm_context(test, false);
        let others = vec![self.within(context, |reader| reader.clauses(clauses, at + 1))];
        self.join_copies(copies);
        push_branch(&mut steps, condition, swapped, first, others);
        Block(steps)
    }

    fn with(&mut self, it: &'a ast::StmtWith, steps: &mut Vec<Step>) {
        let mut exits = Vec::new();
        for item in &it.items {
            self.expression(&item.context_expr, steps);
            if let Expr::Call(call) = &item.context_expr
                && let Some(class) = self.resolve(&item.context_expr)
                && class.is_object
                && class.name.root == crate::value::Root::Here
            {
                let span = self.span(range_of(call));
                steps.push(Step::Call(super::names::join(&class.name, "__enter__"), span));
                exits.push(Step::Call(super::names::join(&class.name, "__exit__"), span));
            }
        }
        self.statements(&it.body, steps);
        steps.extend(exits.into_iter().rev());
    }

    fn attempt(&mut self, it: &'a ast::StmtTry, steps: &mut Vec<Step>) {
        let body = self.block(&it.body);
        self.excepted(it, steps);
        let handlers: Vec<_> = it
            .handlers
            .iter()
            .map(|ExceptHandler::ExceptHandler(handler)| self.block(&handler.body))
            .collect();
        let silent = handlers.iter().all(|it| it.0.is_empty());
        if !(body.0.is_empty() && silent) {
            if it.handlers.is_empty() {
                steps.extend(body.0);
            } else {
                steps.push(Step::Try { body, handlers });
            }
        }
        self.statements(&it.orelse, steps);
        self.statements(&it.finalbody, steps);
    }

    fn choice_of_cases(&mut self, it: &'a ast::StmtMatch, steps: &mut Vec<Step>) {
        self.expression(&it.subject, steps);
        let mut arms: Vec<_> = it
            .cases
            .iter()
            .map(|case| {
                let mut steps = Vec::new();
                if let Some(guard) = &case.guard {
                    self.condition_expression(guard, &mut steps);
                }
                self.statements(&case.body, &mut steps);
                Block(steps)
            })
            .collect();
        if it.cases.last().is_none_or(|case| case.guard.is_some() || !case.pattern.is_irrefutable())
        {
            arms.push(Block::default());
        }
        if arms.iter().any(|it| !it.0.is_empty()) {
            steps.push(Step::Branch(Condition::Unknown, arms));
        }
    }

    /// An expression whose texts are compared or tested, and name no device to use.
    pub(super) fn condition_expression(&mut self, test: &'a Expr, steps: &mut Vec<Step>) {
        let context = self.context.telling();
        self.within(context, |reader| reader.expression(test, steps));
    }
}

/// Adds a branch unless nothing happens in it. A swapped condition holds in the other arm.
pub(super) fn push_branch(
    steps: &mut Vec<Step>,
    condition: Condition,
    swapped: bool,
    first: Block,
    mut others: Vec<Block>,
) {
    if others.is_empty() {
        others.push(Block::default());
    }
    if first.0.is_empty() && others.iter().all(|it| it.0.is_empty()) {
        return;
    }
    let arms = if swapped && others.len() == 1 {
        others.push(first);
        others
    } else {
        std::iter::once(first).chain(others).collect::<Vec<_>>()
    };
    let condition = if swapped && arms.len() != 2 { Condition::Unknown } else { condition };
    steps.push(Step::Branch(condition, arms));
}

/// Whether a block always leaves its function or the program.
pub(super) fn leaves(body: &[Stmt]) -> bool {
    body.last().is_some_and(|it| match it {
        Stmt::Return(_) | Stmt::Raise(_) => true,
        Stmt::Expr(it) => is_exit_call(&it.value),
        _ => false,
    })
}

/// `sys.exit()`, `os._exit()`, `exit()`, `pytest.skip()`, by the look of it.
pub(super) fn is_exit_call(expression: &Expr) -> bool {
    let Expr::Call(call) = expression else { return false };
    match &*call.func {
        Expr::Name(it) => matches!(it.id.as_str(), "exit" | "quit"),
        Expr::Attribute(it) => match (&*it.value, it.attr.as_str()) {
            (Expr::Name(owner), "exit") => owner.id == "sys" || owner.id == "pytest",
            (Expr::Name(owner), "_exit" | "abort") => owner.id == "os",
            (Expr::Name(owner), "skip" | "fail") => owner.id == "pytest",
            (_, "skipTest") => true,
            _ => false,
        },
        _ => false,
    }
}

fn is_system_exit(expression: &Expr) -> bool {
    let name = match expression {
        Expr::Call(call) => &call.func,
        other => other,
    };
    matches!(name, Expr::Name(it) if it.id == "SystemExit")
}

/// `__name__ == "__main__"`, either way around, perhaps with `and` something else.
pub(super) fn is_main_test(test: &Expr) -> bool {
    if let Expr::BoolOp(it) = test {
        return it.op == BoolOp::And && it.values.iter().any(is_main_test);
    }
    let Expr::Compare(it) = test else { return false };
    let ([op], [right]) = (&*it.ops, &*it.comparators) else { return false };
    let is_name = |it: &Expr| matches!(it, Expr::Name(it) if it.id == "__name__");
    let is_main =
        |it: &Expr| matches!(it, Expr::StringLiteral(it) if it.value.to_str() == "__main__");
    matches!(op, ast::CmpOp::Eq)
        && (is_name(&it.left) && is_main(right) || is_main(&it.left) && is_name(right))
}

fn contains_call(expression: &Expr) -> bool {
    match expression {
        Expr::Call(_) => true,
        Expr::UnaryOp(it) => contains_call(&it.operand),
        Expr::BoolOp(it) => it.values.iter().any(contains_call),
        Expr::Compare(it) => contains_call(&it.left) || it.comparators.iter().any(contains_call),
        _ => false,
    }
}
