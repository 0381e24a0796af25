//! Exclusive use of a GPU: one holder at a time (or as many as there are slots), first come first served.
//!
//! Every GPU has a queue in one [`Directory`]. Who wants the GPU puts a ticket file with the next number there and keeps it
//! locked (`flock`) for as long as it waits or holds. A ticket holds when fewer lower tickets are live than there are slots; until then it
//! blocks on the locks of lower ones, so that the kernel wakes it when one ends *or dies*. Nothing polls, nothing is stale, and
//! there is no daemon. `queue` has the rules as one pure function, which a model checker drives through every order of events,
//! with a crash at every step; [`acquire`] carries out what it says on files.
//!
//! **Invariant:** a lease is held by the kernel, never by what a file says. The text of a ticket serves messages, and tells which
//! processes a dead holder may have left on the GPU.
//!
//! **Invariant:** nothing here unlocks a lock (`LOCK_UN`): that would free it for every process that shares the description, such as the
//! program the lease was taken for. Descriptors are closed.
//!
//! Several GPUs: all tickets of a request are taken while `queue.lock` is held, so that of two requests one is first in *every* queue.
//! There is no circle of waiting, whatever they ask for. Who already holds a lease ([`Outer`]) never waits for more.
//!
//! Out of scope: programs that take no lease, and users who mean harm. Those are seen by the observation beside the program, and
//! `gpupin lease ls` names who stands in the way.

use std::{
    collections::BTreeSet,
    fmt, io,
    os::fd::{AsFd as _, BorrowedFd},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    time::{Duration, SystemTime},
};

use gpupin_policy::GpuUuid;

use self::{
    ticket::{Line, json_line},
    wait::{Claim, Wake},
};
use crate::process::ProcessId;

pub use self::{
    directory::{Directory, DirectoryError, Scope},
    leftover::leftovers,
    line::{Holder, Place, earlier, is_idle, line, lines},
    nested::Outer,
};

mod directory;
mod leftover;
mod line;
mod locks;
mod nested;
mod queue;
pub(crate) mod ticket;
mod wait;

/// The variable that tells a program which lease it runs under.
pub const VARIABLE: &str = "GPUPIN_LEASE";

/// Who asks for which GPUs.
#[derive(Clone, Debug)]
pub struct Request {
    /// The GPUs that would do, each once. With more than `count`, those that are free first are taken.
    pub gpus: Vec<GpuUuid>,
    /// How many of them, at least 1.
    pub count: usize,
    /// How many holders each may have at once, at least 1. Holders that allow different numbers share a GPU only as far as all allow.
    pub slots: u32,
    pub holder: HolderText,
    /// The lease this process runs under. Its GPUs are held already; for more, nothing is ever waited for.
    pub outer: Option<Outer>,
    pub patience: Patience,
}

/// What a ticket says about who took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderText {
    /// The process that keeps the lock, usually this one.
    pub process: ProcessId,
    /// What is run, as one would type it.
    pub command: String,
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    Forever,
    /// Zero takes the GPU now or not at all.
    For(Duration),
}

/// What the caller lends to [`acquire`].
pub struct Hooks<'a> {
    /// Called when waiting begins, and about once a second while it lasts, whether anything changed or not.
    pub tell: &'a mut dyn FnMut(&Waiting),
    /// Which processes of earlier holders the machine still shows on the GPU. It is asked again until none is left; the candidates
    /// are what dead tickets noted. [`leftovers`] answers it from a machine.
    pub clear: &'a mut dyn FnMut(&GpuUuid, &[ProcessId]) -> Vec<ProcessId>,
    pub cancel: &'a Cancel,
    pub clock: fn() -> SystemTime,
}

/// Ends waiting from another thread, such as one that handles signals.
#[derive(Clone, Default)]
pub struct Cancel(Arc<CancelState>);

#[derive(Default)]
struct CancelState {
    is_cancelled: AtomicBool,
    wake: Mutex<Option<Sender<Wake>>>,
}

impl Cancel {
    pub fn cancel(&self) {
        self.0.is_cancelled.store(true, Ordering::SeqCst);
        if let Some(wake) = &*self.0.wake.lock().unwrap_or_else(PoisonError::into_inner) {
            // Nobody waits any more.
            drop(wake.send(Wake::Cancelled));
        }
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::SeqCst)
    }

    fn wake_with(&self, wake: Sender<Wake>) {
        *self.0.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cancel({})", self.is_cancelled())
    }
}

/// What a request waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// With several that would do, the one with the fewest ahead.
    pub gpu: GpuUuid,
    pub what: WaitsFor,
    /// How long this request has waited.
    pub waited: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    Turn {
        /// From 1: who is next.
        position: usize,
        /// Who holds the GPU, and who comes first, in order.
        ahead: Vec<Holder>,
    },
    /// Processes of an earlier holder that are still on the GPU; nobody is ahead.
    Leftovers(Vec<ProcessId>),
    /// Somebody has `queue.lock`, which takes a moment unless it was stopped in the middle. The number where the kernel tells it.
    QueueLock(Option<u32>),
}

/// A lease. Dropping it gives the GPUs back, unless it is entrusted to the program.
#[derive(Debug)]
pub struct Lease {
    directory: Directory,
    gpus: Vec<GpuUuid>,
    claim: Claim,
    outer: Option<Outer>,
    waited: Duration,
    noted: BTreeSet<ProcessId>,
    is_entrusted: bool,
    clock: fn() -> SystemTime,
}

impl Lease {
    /// What was had, in the order of the request.
    pub fn gpus(&self) -> &[GpuUuid] {
        &self.gpus
    }

    /// The value of [`VARIABLE`] for the program.
    pub fn variable(&self) -> String {
        let outer = self.outer.iter().flat_map(|it| &it.tickets);
        let own = self.claim.own().map(|it| &it.ticket);
        nested::value(outer.chain(own), self.directory.path())
    }

    /// What the program has to inherit, so that the lease lasts as long as it does even if this process is killed.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.claim.own().map(|it| it.fd.as_fd())
    }

    /// Notes a process of the program that was seen on a GPU: if this process is killed, the next holder waits until it is gone.
    pub fn note_process(&mut self, process: ProcessId) {
        if self.noted.insert(process) {
            self.add(&Line::Process(process));
        }
    }

    /// Notes for how long the program has used the GPU so far, so that idle holders can be told.
    pub fn note_use(&mut self, used: Duration) {
        let milliseconds = u64::try_from(used.as_millis()).unwrap_or(u64::MAX);
        self.add(&Line::Used { milliseconds, at: ticket::milliseconds((self.clock)()) });
    }

    /// The files that the descriptors lock, in their order. Whoever gives the lease back in this one's place removes them first.
    pub fn tickets(&self) -> Vec<PathBuf> {
        let path = |name: String| self.directory.path().join(name);
        self.claim.own().map(|it| path(it.ticket.name.to_string())).collect()
    }

    /// Removes the tickets that dead holders left. It takes nothing from the lease and is not needed for it: who has better things to do
    /// first, such as starting the program, calls it afterwards, or not at all.
    pub fn tidy(&mut self) {
        self.claim.tidy(&self.directory);
    }

    /// How long it took to get it.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Whether all of it was held already, by the lease that this process runs under.
    pub fn is_nested(&self) -> bool {
        self.claim.own().next().is_none()
    }

    /// From now on the lease is not given back when this is dropped, as on an error, but lasts as long as the processes that inherited
    /// [`Self::descriptors`].
    pub fn entrust(&mut self) {
        self.is_entrusted = true;
    }

    /// Whether dropping it would give something back now.
    pub fn ends_here(&self) -> bool {
        !self.is_nested() && !self.is_entrusted && !std::thread::panicking()
    }

    /// The processes it was entrusted to have ended.
    pub fn take_back(&mut self) {
        self.is_entrusted = false;
    }

    /// Leaves the GPUs to the processes that inherited [`Self::descriptors`]: they are free when the last of these ends.
    pub fn leave(mut self) {
        self.claim.leave();
    }

    fn add(&self, line: &Line) {
        for own in self.claim.own() {
            // A full disk takes nothing from the lease; the text only serves messages and caution.
            let _ = rustix::io::write(&own.fd, json_line(line).as_bytes());
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // After a panic the program may still run; its own descriptors then decide.
        if self.is_entrusted || std::thread::panicking() {
            self.claim.leave();
        }
        self.claim.give_back(&self.directory);
    }
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Somebody else has it, and waiting was not wanted, or took too long.
    #[error("the GPU `{}` was not free in time", waiting.gpu)]
    Busy { waiting: Box<Waiting> },
    /// Waiting for one GPU while holding another could be a circle, so it is not done.
    #[error("the GPU `{}` is not free, and a program that holds another GPU must not wait for it", waiting.gpu)]
    BusyInside { waiting: Box<Waiting> },
    #[error("waiting for the GPU was ended")]
    Cancelled,
    #[error("more GPUs are asked for than there are to choose from: {count} of {gpus}")]
    TooFew { count: usize, gpus: usize },
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("failed to use the ticket `{}`", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// Waits until the GPUs are free, and takes them.
pub fn acquire(
    directory: &Directory,
    request: &Request,
    hooks: &mut Hooks<'_>,
) -> Result<Lease, LeaseError> {
    let held = |gpu: &GpuUuid| request.outer.iter().any(|it| it.gpus().any(|it| it == gpu));
    let (mut gpus, others): (Vec<_>, Vec<_>) = request.gpus.iter().cloned().partition(held);
    gpus.truncate(request.count);
    let count = request.count - gpus.len();
    if count > others.len() {
        return Err(LeaseError::TooFew { count: request.count, gpus: request.gpus.len() });
    }
    let (claim, waited) = if count == 0 {
        (Claim::of_nothing(), Duration::ZERO)
    } else {
        // Who holds one GPU and waits for another can be waited for by its holder.
        let patience = match request.outer {
            Some(_) => Patience::For(Duration::ZERO),
            None => request.patience,
        };
        let request = Request { gpus: others, count, patience, ..request.clone() };
        wait::wait(directory, &request, hooks)?
    };
    gpus.extend(claim.own().map(|it| it.ticket.name.gpu.clone()));
    gpus.sort_by_key(|it| request.gpus.iter().position(|gpu| gpu == it));
    Ok(Lease {
        directory: directory.clone(),
        gpus,
        claim,
        outer: request.outer.clone(),
        waited,
        noted: BTreeSet::new(),
        is_entrusted: false,
        clock: hooks.clock,
    })
}

#[cfg(test)]
mod tests;
