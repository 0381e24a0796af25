//! Copies of the environment behind the arms of a branch.

use rustc_hash::FxHashMap;

use super::{
    Reader,
    provenance::returned,
    scope::ScopeId,
    syntax::{Expr, ast},
};
use crate::{
    unit::ChildEnvironment,
    value::{Root, Spanned, Value},
};

/// Copies by the name they are bound to: `env = os.environ.copy()`.
pub(super) type Copies<'a> = FxHashMap<(ScopeId, &'a str), ChildEnvironment>;

impl<'a> Reader<'a, '_> {
    /// The copy that a function of this file makes and returns: `env=with_gpu(1)`. One that stands further below was
    /// not read yet.
    pub(super) fn returned_copy(&self, it: &ast::ExprCall) -> Option<ChildEnvironment> {
        let callee =
            self.resolve(&it.func).filter(|it| it.name.root == Root::Here && !it.is_object)?;
        let function = self.function_by_path(&callee.name.path)?;
        let scope = self.scopes.of(function)?;
        let mut copies = returned(function).into_iter().map(|it| match it {
            Expr::Name(name) => self.copies.get(&(scope, name.id.as_str())).cloned(),
            _ => None,
        });
        let first = copies.next()??;
        let mut copy = copies.try_fold(first, |all, it| Some(join(all, it?)))?;
        if let ChildEnvironment::Inherited(set)
        | ChildEnvironment::Only(set)
        | ChildEnvironment::Without { set, .. } = &mut copy
        {
            // The caller may give another value than the default.
            for (_, value) in set.iter_mut().filter(|it| matches!(it.1.value, Value::ByDefault(_)))
            {
                value.value = Value::Unknown;
            }
        }
        Some(copy)
    }

    /// Reads an arm that makes nothing of the copies for the other arms. Returns what it made of them, for
    /// [`Self::join_copies`].
    pub(super) fn apart<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> (T, Copies<'a>) {
        let before = self.copies.clone();
        let result = read(self);
        (result, std::mem::replace(&mut self.copies, before))
    }

    /// Adds what another arm made of the copies: behind the branch, either holds.
    pub(super) fn join_copies(&mut self, other: Copies<'a>) {
        #[expect(clippy::iter_over_hash_type, reason = "each name is joined by itself")]
        for (key, theirs) in other {
            match self.copies.get_mut(&key) {
                Some(mine) => {
                    *mine = join(std::mem::replace(mine, ChildEnvironment::Unknown), theirs);
                }
                None => {
                    self.copies.insert(key, theirs);
                }
            }
        }
    }
}

fn join(mine: ChildEnvironment, theirs: ChildEnvironment) -> ChildEnvironment {
    use ChildEnvironment::{Inherited, Only, Unknown, Without};
    match (mine, theirs) {
        (Inherited(mine), Inherited(theirs)) => Inherited(join_settings(mine, theirs)),
        (Only(mine), Only(theirs)) => Only(join_settings(mine, theirs)),
        // What one arm removes is gone on some way.
        (Without { removed, set }, Inherited(other))
        | (Inherited(other), Without { removed, set }) => {
            Without { removed, set: join_settings(set, other) }
        }
        (Without { mut removed, set }, Without { removed: more, set: other }) => {
            removed.extend(more);
            removed.sort_unstable();
            removed.dedup();
            Without { removed, set: join_settings(set, other) }
        }
        _ => Unknown,
    }
}

/// What one arm alone sets stays: nothing says that the other hides it.
fn join_settings(
    mut mine: Vec<(String, Spanned)>,
    theirs: Vec<(String, Spanned)>,
) -> Vec<(String, Spanned)> {
    for (name, value) in theirs {
        match mine.iter_mut().find(|it| it.0 == name) {
            Some((_, known)) if known.span != value.span => {
                let span = known.span.cover(value.span);
                let mut arms = ways(std::mem::replace(known, Spanned::new(Value::Unknown, span)));
                for arm in ways(value) {
                    if arms.iter().all(|it| it.span != arm.span) {
                        arms.push(arm);
                    }
                }
                arms.sort_by_key(|it| it.span);
                *known = Spanned::new(Value::OneOf(arms), span);
            }
            Some(_) => {}
            None => mine.push((name, value)),
        }
    }
    mine
}

fn ways(value: Spanned) -> Vec<Spanned> {
    match value.value {
        Value::OneOf(arms) => arms,
        _ => vec![value],
    }
}
