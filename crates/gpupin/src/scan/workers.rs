use std::{
    num::NonZero,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use crate::STACK;

/// Applies `work` to every item on `threads` threads, and returns the results in the order of the items.
///
/// Meanwhile `tell` is called on this thread now and then with the number of items done.
pub(super) fn map<T: Sync, R: Send>(
    items: &[T],
    threads: NonZero<usize>,
    mut tell: impl FnMut(usize),
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    const PACE: Duration = Duration::from_millis(50);
    let next = AtomicUsize::new(0);
    let mut results: Vec<Option<R>> = Vec::new();
    results.resize_with(items.len(), || None);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..threads.get().min(items.len()) {
            let (sender, next, work) = (sender.clone(), &next, &work);
            let run = move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    // Sending fails only when this thread's parent panicked.
                    if sender.send((index, work(item))).is_err() {
                        break;
                    }
                }
            };
            thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, run)
                .expect("a thread that reads could be started");
        }
        drop(sender);
        let mut done = 0;
        loop {
            match receiver.recv_timeout(PACE) {
                Ok((index, result)) => {
                    results[index] = Some(result);
                    done += 1;
                    // Asking the clock for each item would cost more than some items.
                    if done % 64 == 0 {
                        tell(done);
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => tell(done),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
    });
    results.into_iter().map(|it| it.expect("every item was worked on")).collect()
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
