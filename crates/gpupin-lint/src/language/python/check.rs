//! Tests that a program makes of its GPU.

use super::{
    Context, Reader, flow,
    provenance::is_named,
    scope::Bound,
    syntax::{BoolOp, CmpOp, Expr, Operator, Stmt, UnaryOp, ast, range_of},
};
use crate::{
    catalogue::{self, Answer, Form},
    language::settings,
    unit::{Asks, Check, Does, Outcome, Step},
    value::{Spanned, Value},
};

/// What an expression tells about a GPU.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Question {
    about: About,
    /// `None`: the current device.
    ordinal: Option<i64>,
    /// How many bytes its unit is, for memory.
    unit: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Available,
    Count,
    Name,
    Identity,
    Capability,
    Major,
    Memory,
    Properties,
}

impl<'a> Reader<'a, '_> {
    /// A check in an `if`, and a fallback to the CPU between its arms. Whether the test asks about GPUs at all.
    pub(super) fn tested(&mut self, it: &'a ast::StmtIf, steps: &mut Vec<Step>) -> bool {
        self.branch_fallback(it, steps);
        let asks = self.asks(&it.test);
        let asks_at_all = !asks.is_empty();
        let is_conditional = self.context.is_conditional || self.asks_more(&it.test);
        let context = Context { is_conditional, ..self.context };
        let asks = self.within(context, |reader| reader.checked(asks));
        if asks.is_empty() {
            return asks_at_all;
        }
        let other = match &*it.elif_else_clauses {
            [only] if only.test.is_none() => &*only.body,
            _ => &[],
        };
        let arm = if self.fails(&it.body) { &*it.body } else { other };
        if any_gpu_passes(&asks) && (validates_an_option(&it.test) || ends_in_a_skip(arm)) {
            return true;
        }
        let outcome = if self.fails(arm) { Outcome::Fails } else { Outcome::Tells };
        let check = Check { asks, outcome };
        self.emit(steps, range_of(&*it.test), Does::Check(check));
        true
    }

    pub(super) fn asserted(&mut self, it: &'a ast::StmtAssert, steps: &mut Vec<Step>) {
        let asks = self.checked(self.asks(&it.test));
        if !asks.is_empty() {
            let check = Check { asks, outcome: Outcome::Fails };
            self.emit(steps, range_of(it), Does::Check(check));
        }
    }

    /// `self.assertIn("3090", torch.cuda.get_device_name(0))`.
    pub(super) fn asserted_call(
        &mut self,
        it: &'a ast::ExprCall,
        segment: &str,
        steps: &mut Vec<Step>,
    ) {
        let arguments = &*it.arguments.args;
        let op = match segment {
            "assertTrue" | "assertFalse" => None,
            "assertIn" | "assertNotIn" | "assertRegex" => Some(CmpOp::In),
            "assertEqual" | "assertNotEqual" => Some(CmpOp::Eq),
            "assertGreater" | "assertGreaterEqual" => Some(CmpOp::GtE),
            _ => return,
        };
        let asks = match (op, arguments) {
            (None, [only, ..]) => self.asks(only),
            (Some(op), [left, right, ..]) => self.compared(left, op, right).into_iter().collect(),
            _ => return,
        };
        let asks = self.checked(asks);
        if !asks.is_empty() {
            let check = Check { asks, outcome: Outcome::Fails };
            self.emit(steps, range_of(it), Does::Check(check));
        }
    }

    /// `distributed and torch.cuda.device_count() < 2`.
    fn asks_more(&self, test: &Expr) -> bool {
        matches!(test, Expr::BoolOp(it)
            if it.op == BoolOp::And && it.values.iter().any(|it| self.asks(it).is_empty()))
    }

    /// What of a question is a check here: how many GPUs there are is one where it is compared with a number that stands
    /// in the text, whatever else is the case. Other counts test the code that works with them.
    fn checked(&self, mut asks: Vec<Asks>) -> Vec<Asks> {
        asks.retain(|it| match it {
            Asks::Count { with_number } => *with_number && !self.context.is_conditional,
            _ => true,
        });
        asks
    }

    /// `pytestmark = pytest.mark.skipif("3090" not in torch.cuda.get_device_name())`: no test of the file runs.
    pub(super) fn skipped(&mut self, marks: &'a Expr, steps: &mut Vec<Step>) {
        let marks = match marks {
            Expr::List(it) => &*it.elts,
            Expr::Tuple(it) => &*it.elts,
            one => std::slice::from_ref(one),
        };
        for mark in marks {
            let Expr::Call(call) = mark else { continue };
            if super::call::last_segment(&call.func) != Some("skipif") {
                continue;
            }
            let Some(condition) = call.arguments.find_argument_value("condition", 0) else {
                continue;
            };
            let asks = self.asks(condition);
            if !any_gpu_passes(&asks) {
                let check = Check { asks, outcome: Outcome::Fails };
                self.emit(steps, range_of(condition), Does::Check(check));
            }
        }
    }

    /// Whether an arm ends the program, or the function that does its work.
    fn fails(&self, body: &[Stmt]) -> bool {
        match body.last() {
            Some(Stmt::Raise(_)) => true,
            Some(Stmt::Assert(it)) => it.test.is_boolean_literal_expr(),
            Some(Stmt::Expr(it)) => flow::is_exit_call(&it.value),
            // Leaving the main function with nothing but a status skips all GPU work.
            Some(Stmt::Return(it)) => {
                let path = &self.scopes.get(self.scope).path;
                let function = path.rsplit('.').next().unwrap_or(path);
                let bare = it
                    .value
                    .as_deref()
                    .is_none_or(|it| matches!(it, Expr::NoneLiteral(_) | Expr::NumberLiteral(_)));
                bare && matches!(function, "main" | "run" | "cli" | "start" | "_main" | "train")
            }
            _ => false,
        }
    }

    /// What a test asks about GPUs.
    fn asks(&self, test: &Expr) -> Vec<Asks> {
        let mut asks = Vec::new();
        self.asks_into(test, &mut asks, 0);
        asks
    }

    fn asks_into(&self, test: &Expr, into: &mut Vec<Asks>, depth: u32) {
        if depth > 8 {
            return;
        }
        match test {
            Expr::BoolOp(it) => {
                for value in &it.values {
                    self.asks_into(value, into, depth + 1);
                }
            }
            Expr::UnaryOp(it) if it.op == UnaryOp::Not => {
                self.asks_into(&it.operand, into, depth + 1);
            }
            Expr::Named(it) => self.asks_into(&it.value, into, depth + 1),
            Expr::Compare(it) => {
                let mut left = &*it.left;
                for (op, right) in it.ops.iter().zip(&it.comparators) {
                    into.extend(self.compared(left, *op, right));
                    left = right;
                }
            }
            Expr::Call(call) if is_named(&call.func, "any") || is_named(&call.func, "all") => {
                let generator = match call.arguments.args.first() {
                    Some(Expr::Generator(it)) => (&*it.elt, &it.generators),
                    Some(Expr::ListComp(it)) => (&*it.elt, &it.generators),
                    _ => return,
                };
                let texts = generator.1.first().map(|it| self.texts(&it.iter)).unwrap_or_default();
                let before = into.len();
                self.asks_into(generator.0, into, depth + 1);
                for asks in &mut into[before..] {
                    if let Asks::Name { texts: none, .. } = asks
                        && none.is_empty()
                    {
                        none.clone_from(&texts);
                    }
                }
            }
            Expr::Call(call)
                if matches!(
                    super::call::last_segment(&call.func),
                    Some("startswith" | "endswith")
                ) =>
            {
                if let Expr::Attribute(method) = &*call.func
                    && let Some(question) = self.question(&method.value, 0)
                    && let Some(text) = call.arguments.args.first()
                {
                    into.extend(self.asked_text(question, text, false));
                }
            }
            _ => {
                if let Some(question) = self.question(test, 0) {
                    into.extend(match question.about {
                        About::Available => Some(Asks::Available),
                        About::Count => Some(Asks::Count { with_number: true }),
                        _ => None,
                    });
                } else if let Expr::Name(name) = test
                    && let Some(binding) = self.scopes.lookup(&name.id, self.scope)
                    && let Bound::Value(
                        value @ (Expr::Compare(_) | Expr::BoolOp(_) | Expr::UnaryOp(_)),
                    ) = binding.bound
                    && binding.is_sole()
                {
                    self.asks_into(value, into, depth + 1);
                }
            }
        }
    }

    fn compared(&self, left: &Expr, op: CmpOp, right: &Expr) -> Option<Asks> {
        let count_with = |other| {
            let with_number = matches!(self.value(other).value, Value::Int(_));
            Some(Asks::Count { with_number })
        };
        if self.counts_gpus(left) {
            return count_with(right);
        }
        if self.counts_gpus(right) {
            return count_with(left);
        }
        let (question, other) = match self.question(left, 0) {
            Some(question) => (question, right),
            None => (self.question(right, 0)?, left),
        };
        match question.about {
            About::Name => self.asked_text(question, other, matches!(op, CmpOp::Eq | CmpOp::NotEq)),
            About::Identity => Some(Asks::Identity),
            About::Count => count_with(other),
            // `is_available() == expected` passes without a GPU as well.
            About::Available if !is_literal(other) => None,
            About::Available => Some(Asks::Available),
            About::Capability | About::Major => {
                Some(Asks::Capability { at_least: self.capability(other) })
            }
            About::Memory => {
                let at_least = match self.value(other).value {
                    #[expect(
                        clippy::cast_precision_loss,
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "a size in bytes is far below 2⁵³, and a limit is no measurement"
                    )]
                    Value::Int(limit @ 0..) => Some((limit as f64 * question.unit) as u64),
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "a size in bytes is far below 2⁵³, and a limit is no measurement"
                    )]
                    Value::Float(limit) if limit >= 0.0 => Some((limit * question.unit) as u64),
                    _ => None,
                };
                Some(Asks::Memory { at_least })
            }
            About::Properties => None,
        }
    }

    fn asked_text(&self, question: Question, other: &Expr, exact: bool) -> Option<Asks> {
        match question.about {
            About::Name => {
                let texts = self.texts(other);
                Some(Asks::Name { ordinal: question.ordinal, texts, exact })
            }
            About::Identity => Some(Asks::Identity),
            _ => None,
        }
    }

    fn texts(&self, expression: &Expr) -> Vec<String> {
        fn collect(value: Spanned, into: &mut Vec<String>) {
            match value.value {
                Value::Str(text) => into.push(text),
                Value::List(items) | Value::OneOf(items) => {
                    for item in items {
                        collect(item, into);
                    }
                }
                Value::ByDefault(inner) => collect(*inner, into),
                _ => {}
            }
        }
        let mut texts = Vec::new();
        let expression = match expression {
            Expr::Call(call) => match &*call.func {
                Expr::Attribute(method)
                    if matches!(method.attr.as_str(), "lower" | "upper" | "strip") =>
                {
                    &*method.value
                }
                _ => expression,
            },
            other => other,
        };
        collect(self.value(expression), &mut texts);
        texts
    }

    fn capability(&self, other: &Expr) -> Option<(u8, u8)> {
        let small = |it: i64| u8::try_from(it).ok();
        match self.value(other).value {
            Value::Int(major) => Some((small(major)?, 0)),
            Value::List(items) => match &*items {
                [
                    Spanned { value: Value::Int(major), .. },
                    Spanned { value: Value::Int(minor), .. },
                ] => Some((small(*major)?, small(*minor)?)),
                _ => None,
            },
            _ => None,
        }
    }

    /// What an expression tells about a GPU, through names bound once, text methods and arithmetic.
    fn question(&self, expression: &Expr, depth: u32) -> Option<Question> {
        if depth > 8 {
            return None;
        }
        let next = depth + 1;
        match expression {
            Expr::Call(call) => self.question_of_call(call, next),
            Expr::Attribute(it) => {
                if let Some(owner) = self.question(&it.value, next)
                    && owner.about == About::Properties
                {
                    let about = match it.attr.as_str() {
                        "name" => About::Name,
                        "uuid" | "pci_bus_id" | "pci_device_id" => About::Identity,
                        "total_memory" | "total_mem" | "total" => About::Memory,
                        "major" => About::Major,
                        _ => return None,
                    };
                    return Some(Question { about, ..owner });
                }
                let class = self.resolve(&it.value)?;
                let class = self.class_by_path(&class.name.path)?;
                match self.scopes.attribute(class, &it.attr)?.bound {
                    Bound::Value(value) => self.question(value, next),
                    _ => None,
                }
            }
            Expr::Name(name) => {
                let binding = self.scopes.lookup(&name.id, self.scope)?;
                match binding.bound {
                    Bound::Value(value) if !binding.again => self.question(value, next),
                    Bound::Item(value, position) if !binding.again => {
                        let owner = self.question(value, next)?;
                        match (owner.about, position) {
                            (About::Capability, 0) => {
                                Some(Question { about: About::Major, ..owner })
                            }
                            (About::Memory, 1) => Some(owner),
                            _ => None,
                        }
                    }
                    _ => None,
                }
            }
            Expr::Subscript(it) => {
                let owner = self.question(&it.value, next)?;
                match (owner.about, self.value(&it.slice).value) {
                    (About::Capability, Value::Int(0)) => {
                        Some(Question { about: About::Major, ..owner })
                    }
                    (About::Memory, Value::Int(1)) => Some(owner),
                    (About::Name, _) => Some(owner),
                    _ => None,
                }
            }
            Expr::BinOp(it) if matches!(it.op, Operator::Div | Operator::FloorDiv) => {
                let owner = self.question(&it.left, next)?;
                let divisor = match self.value(&it.right).value {
                    #[expect(clippy::cast_precision_loss, reason = "a unit such as 2³⁰")]
                    Value::Int(number @ 1..) => number as f64,
                    Value::Float(number) if number > 0.0 => number,
                    _ => return None,
                };
                Some(Question { unit: owner.unit * divisor, ..owner })
            }
            _ => None,
        }
    }

    fn question_of_call(&self, call: &ast::ExprCall, depth: u32) -> Option<Question> {
        let first = call.arguments.args.first();
        let segment = super::call::last_segment(&call.func)?;
        match (segment, &*call.func) {
            ("str" | "round" | "int" | "float" | "repr", Expr::Name(_)) => {
                return self.question(first?, depth);
            }
            (
                "lower" | "upper" | "strip" | "replace" | "decode" | "casefold",
                Expr::Attribute(it),
            ) => {
                return self.question(&it.value, depth);
            }
            _ => {}
        }
        if catalogue::candidates(segment).is_empty() && matches!(&*call.func, Expr::Attribute(_)) {
            return None;
        }
        let name = self.resolve(&call.func)?.name;
        let api = catalogue::find(name.library_path()?, Form::Call)?;
        let about = match api.answers? {
            Answer::Available => About::Available,
            Answer::Count => About::Count,
            Answer::Name => About::Name,
            Answer::Identity => About::Identity,
            Answer::Capability => About::Capability,
            Answer::Memory => About::Memory,
            Answer::Properties => About::Properties,
            Answer::NvmlIndices | Answer::NvmlObjects | Answer::NvmlCount => return None,
        };
        let device = api.arguments().next().and_then(|it| {
            let keyword = call.arguments.find_keyword(it.keyword).map(|it| &it.value);
            keyword.or_else(|| call.arguments.find_positional(it.position?))
        });
        let ordinal = device.and_then(|it| match self.value(it).value {
            Value::Int(number) => Some(number),
            Value::Str(text) => settings::device_text(&text).map(|it| it.ordinal),
            _ => None,
        });
        Some(Question { about, ordinal, unit: 1.0 })
    }

    /// Whether a test asks if there is any GPU, perhaps through a flag: `use_cuda`.
    pub(super) fn asks_available(&self, test: &Expr) -> bool {
        self.asks(test).iter().any(|it| matches!(it, Asks::Available | Asks::Count { .. }))
    }
}

/// Tests that are skipped where there is no GPU say what they need, and check nothing.
fn ends_in_a_skip(arm: &[Stmt]) -> bool {
    let named = |function: &Expr, names: &[&str]| {
        super::call::last_segment(function).is_some_and(|it| names.contains(&it))
    };
    match arm.last() {
        Some(Stmt::Expr(it)) => {
            matches!(&*it.value, Expr::Call(call) if named(&call.func, &["skip", "skipTest"]))
        }
        Some(Stmt::Raise(it)) => match it.exc.as_deref() {
            Some(Expr::Call(call)) => named(&call.func, &["SkipTest", "Skipped"]),
            Some(class) => named(class, &["SkipTest", "Skipped"]),
            None => false,
        },
        _ => false,
    }
}

/// `args.device == "cuda" and not torch.cuda.is_available()`: an option cannot be had. Which GPU there is, is not asked.
fn validates_an_option(test: &Expr) -> bool {
    let Expr::BoolOp(it) = test else { return false };
    let says_cuda = |it: &Expr| matches!(it, Expr::StringLiteral(text) if text.value.to_str().starts_with("cuda"));
    it.op == BoolOp::And
        && it
            .values
            .iter()
            .any(|value| matches!(value, Expr::Compare(it) if it.comparators.iter().any(says_cuda)))
}

fn any_gpu_passes(asks: &[Asks]) -> bool {
    asks.iter().all(|it| matches!(it, Asks::Available | Asks::Count { .. }))
}

fn is_literal(expression: &Expr) -> bool {
    matches!(
        expression,
        Expr::BooleanLiteral(_)
            | Expr::NumberLiteral(_)
            | Expr::NoneLiteral(_)
            | Expr::StringLiteral(_)
    )
}
