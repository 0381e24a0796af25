use std::{
    num::NonZero,
    sync::atomic::{AtomicUsize, Ordering},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use gpupin_lint::Workers;

use crate::STACK;

/// Threads for the work of the linter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Threads(pub(crate) NonZero<usize>);

impl Workers for Threads {
    fn each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        let pieces: Vec<usize> = (0..count).collect();
        map(&pieces, self.0, |_| {}, |at| work(*at));
    }
}

/// Applies `work` to every item on `threads` threads, and returns the results in the order of the items.
///
/// Meanwhile `tell` is called on this thread now and then with the number of items begun. One thread is this one:
/// another would have to fill its own part of the heap first.
pub(super) fn map<T: Sync, R: Send>(
    items: &[T],
    threads: NonZero<usize>,
    mut tell: impl FnMut(usize),
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    const PACE: Duration = Duration::from_millis(50);
    if threads.get().min(items.len()) <= 1 {
        let mut told = Instant::now();
        let each = |(begun, item)| {
            if told.elapsed() >= PACE {
                tell(begun);
                told = Instant::now();
            }
            work(item)
        };
        return items.iter().enumerate().map(each).collect();
    }
    let (next, running) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let teller = thread::current();
    let run = || {
        let _ending = Ending { running: &running, teller: &teller };
        let mut results = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { break };
            results.push((index, work(item)));
        }
        results
    };
    let mut results = thread::scope(|scope| {
        let spawn = |_| {
            running.fetch_add(1, Ordering::Relaxed);
            let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run);
            thread.expect("a thread that reads could be started")
        };
        let threads: Vec<_> = (0..threads.get().min(items.len())).map(spawn).collect();
        while running.load(Ordering::Acquire) > 0 {
            thread::park_timeout(PACE);
            tell(next.load(Ordering::Relaxed).min(items.len()));
        }
        let join = |it: thread::ScopedJoinHandle<'_, Vec<(usize, R)>>| {
            it.join().expect("a panic while a file is read is caught")
        };
        threads.into_iter().flat_map(join).collect::<Vec<_>>()
    });
    results.sort_by_key(|it| it.0);
    results.into_iter().map(|it| it.1).collect()
}

/// Tells that a thread is done, also when it panics: nobody waits for it then.
struct Ending<'a> {
    running: &'a AtomicUsize,
    teller: &'a Thread,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::Release);
        self.teller.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use super::map;

    #[test]
    fn results_keep_the_order_of_the_items() {
        let items: Vec<usize> = (0..1000).collect();
        for threads in [1, 2, 7] {
            let threads = NonZero::new(threads).unwrap();
            let doubled = map(&items, threads, |_| {}, |it| it * 2);
            assert!(doubled.iter().enumerate().all(|(index, it)| *it == index * 2));
        }
    }
}
