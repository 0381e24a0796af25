//! Python, as modules and as notebook cells.
//!
//! How a text is read:
//!
//! 1. [`syntax`] parses it; a broken text still gives a tree.
//! 2. [`scope`] collects what every name is bound to, [`options`] what command line options there are.
//! 3. [`flow`] walks the statements in the order they run and [`expression`] the expressions of each in the
//!    order they are evaluated. Both emit events and steps; [`call`] knows what calls mean, mostly from
//!    [`crate::catalogue`].
//! 4. [`names`] and [`constant`] answer, only when asked, what an expression refers to and what its value is.
//!
//! Out of scope: types, what functions compute, and values that change over time. A name that is assigned
//! twice has no value.

use std::ops::Range;

use rustc_hash::{FxHashMap, FxHashSet};

use super::UnitBuilder;
use crate::{
    span::{Positions, Span},
    unit::{Block, Does, Purpose, Step},
    value::{Name, Spanned},
};

mod accumulate;
mod argument;
mod call;
mod check;
mod child;
mod choice;
mod comment;
mod compared;
mod condition;
mod constant;
mod copies;
mod device;
mod entry;
mod environment;
mod expression;
mod fallback;
mod flow;
mod format;
mod function;
mod import;
pub(crate) mod layout;
mod magic;
mod mock;
mod names;
mod options;
mod paths;
mod possible;
mod provenance;
mod restore;
mod returned;
mod scope;
mod setting;
mod suppression;
mod syntax;
#[cfg(test)]
mod tests;

pub(crate) use comment::place_for_comment;
pub(crate) use entry::{directory_of_tests, is_test_file};
use options::Options;
use scope::{ScopeId, Scopes};
use syntax::Tree;

/// Reads a module.
///
/// `text` is what `out` is the builder of, or a part of it that `positions` places.
pub(crate) fn read(text: &str, positions: &Positions, out: &mut UnitBuilder) -> Block {
    let tree = syntax::parse(text);
    read_tree(&tree, text, positions, out)
}

/// Reads a notebook's code cells, joined into one text in which each cell ends and the next begins with one `\n`
/// between them. `cells` are their places in that text.
///
/// Cells share their names, so they are read together; a broken one does not spoil the next.
pub(crate) fn read_cells(
    text: &str,
    cells: &[Range<usize>],
    positions: &Positions,
    out: &mut UnitBuilder,
) -> Block {
    magic::read_cells(text, cells, positions, out)
}

fn read_tree(tree: &Tree, text: &str, positions: &Positions, out: &mut UnitBuilder) -> Block {
    let path = out.unit().source.path.clone();
    let scopes = Scopes::collect(tree.statements(), &path);
    let classes = scopes.classes().map(|it| (scopes.get(it).path.clone(), it)).collect();
    let mut reader = Reader {
        text,
        path: path.clone(),
        positions,
        out,
        scopes,
        classes,
        bases: FxHashMap::default(),
        options: Options::default(),
        scope: Scopes::MODULE,
        depth: 0,
        context: Context::default(),
        class_body: &[],
        copies: copies::Copies::default(),
        nvml_names: FxHashSet::default(),
        asks_nvml: false,
        candidates: Vec::new(),
        used: Vec::new(),
        changed: FxHashSet::default(),
        outside: FxHashSet::default(),
        mocks_cuda: false,
        is_test: is_test_file(&path),
        is_conftest: path == "conftest.py" || path.ends_with("/conftest.py"),
    };
    reader.collect_bases(tree.statements());
    reader.collect_options(tree.statements());
    reader.collect_nvml_names(tree.statements());
    let body = reader.block(tree.statements());
    reader.settle_settings();
    reader.entry_marks(tree.statements());
    reader.constants();
    suppression::read(tree, text, positions, reader.out);
    possible::read(tree, text, positions, reader.out);
    body
}

/// The state of reading one text.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Reader<'a, 'o> {
    text: &'a str,
    /// The file's own path.
    path: String,
    positions: &'o Positions,
    out: &'o mut UnitBuilder,
    scopes: Scopes<'a>,
    /// Class scopes by dotted path.
    classes: FxHashMap<String, ScopeId>,
    bases: FxHashMap<ScopeId, Vec<Name>>,
    options: Options,
    /// The scope of the code being read.
    scope: ScopeId,
    depth: u32,
    context: Context,
    /// The innermost class around; empty outside of any.
    class_body: &'a [syntax::Stmt],
    /// Copies of the environment by the name they are bound to: `env = os.environ.copy()`.
    copies: copies::Copies<'a>,
    /// Names to which a loop over NVML's GPUs assigns one of their indices: `best = i`.
    nvml_names: FxHashSet<(ScopeId, &'a str)>,
    /// The text mentions something that numbers GPUs as NVML does.
    asks_nvml: bool,
    /// Settings that count unless their value turns out to be another choice's.
    candidates: Vec<setting::Candidate>,
    /// Places of literals that an event already names.
    used: Vec<Span>,
    /// Names whose items are assigned to.
    changed: FxHashSet<String>,
    /// Functions that something outside calls.
    outside: FxHashSet<String>,
    /// The function being read replaces functions of `torch.cuda`.
    mocks_cuda: bool,
    /// Named as pytest's test files are.
    is_test: bool,
    is_conftest: bool,
}

/// What surrounds the expression being read.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Context {
    /// A device text here is compared or told, and sends nothing anywhere.
    only_tells: bool,
    /// An object here is itself compared, hashed or told, and not used. Unlike a text's, its fate ends at the next call.
    is_told: bool,
    purpose: Purpose,
    /// Only reached when more GPUs than this are visible.
    more_than: Option<i64>,
    /// An argument that takes `cuda` and refuses `cuda:1`.
    refuses_number: bool,
    /// What stands here is a default: the user may say otherwise.
    is_default: bool,
    /// A CPU taken here is no silent fallback: nobody said a device who could have, or the text moves nothing.
    chosen: bool,
    /// Only reached where a test that asks nothing about GPUs says so.
    is_conditional: bool,
    /// The innermost loop around, by its bytes.
    in_loop: Option<(u32, u32)>,
    /// The innermost function around, by its bytes.
    function: Option<(u32, u32)>,
}

impl Default for Context {
    fn default() -> Self {
        Self {
            only_tells: false,
            is_told: false,
            purpose: Purpose::Choose,
            more_than: None,
            refuses_number: false,
            is_default: false,
            chosen: false,
            is_conditional: false,
            in_loop: None,
            function: None,
        }
    }
}

impl Context {
    /// The same place where what stands in it is compared or told.
    fn telling(self) -> Self {
        Self { only_tells: true, is_told: true, ..self }
    }
}

impl Reader<'_, '_> {
    fn span(&self, range: Range<usize>) -> Span {
        self.positions.span(range)
    }

    fn emit(&mut self, steps: &mut Vec<Step>, range: Range<usize>, does: Does) {
        let span = self.span(range);
        steps.push(self.out.event(span, does));
    }

    fn slice(&self, range: Range<usize>) -> &str {
        self.text.get(range).unwrap_or_default()
    }

    /// Reads something in another context.
    fn within<T>(&mut self, context: Context, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.context, context);
        let result = read(self);
        self.context = before;
        result
    }

    /// Notes that an event names this value, so that the setting it comes from needs none of its own.
    fn uses(&mut self, value: &Spanned) {
        self.used.push(value.span);
    }
}
