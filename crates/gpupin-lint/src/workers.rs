//! Independent pieces of work, done by whoever has threads: this crate starts none.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Does pieces of work that do not depend on each other.
pub trait Workers: Sync {
    /// Calls `work` once for each number below `count`, in any order and on any threads, and returns when all is done.
    fn each(&self, count: usize, work: &(dyn Fn(usize) + Sync));
}

/// Does one piece after the other.
#[derive(Debug, Clone, Copy)]
pub struct Alone;

impl Workers for Alone {
    fn each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(work);
    }
}

impl fmt::Debug for dyn Workers + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workers")
    }
}

/// The results of `work` in the order of the items, whoever was first.
pub(crate) fn map<T: Send, R: Send>(
    workers: &dyn Workers,
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let items: Vec<_> = items.into_iter().map(|it| Mutex::new(Some(it))).collect();
    let results: Vec<_> = items.iter().map(|_| Mutex::new(None)).collect();
    workers.each(items.len(), &|at| {
        if let Some(item) = held(&items[at]).take() {
            *held(&results[at]) = Some(work(item));
        }
    });
    results.iter().map(|it| held(it).take().expect("every piece of work is done")).collect()
}

fn held<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
