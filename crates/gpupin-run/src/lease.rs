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
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    time::{Duration, SystemTime},
};

use gpupin_policy::GpuUuid;

use crate::process::ProcessId;

pub use directory::{Directory, DirectoryError, Scope};
pub use nested::Outer;

mod directory;
mod nested;
mod queue;

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
    /// Called when what is waited for changes, and about once a second while waiting.
    pub tell: &'a mut dyn FnMut(&Waiting),
    /// Which processes of earlier holders the machine still shows on the GPU. It is asked again until none is left; the candidates
    /// are what dead tickets noted.
    pub clear: &'a mut dyn FnMut(&GpuUuid, &[ProcessId]) -> Vec<ProcessId>,
    pub cancel: &'a Cancel,
    pub clock: fn() -> SystemTime,
}

/// Ends waiting from another thread, such as one that handles signals.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<CancelState>);

#[derive(Debug, Default)]
struct CancelState {
    is_cancelled: AtomicBool,
    wake: Mutex<Option<Sender<()>>>,
}

impl Cancel {
    pub fn cancel(&self) {
        self.0.is_cancelled.store(true, Ordering::SeqCst);
        let wake = self.0.wake.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(wake) = &*wake {
            // Nobody waits any more.
            drop(wake.send(()));
        }
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::SeqCst)
    }
}

/// What a request waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub gpu: GpuUuid,
    /// From 1: who is next.
    pub position: usize,
    /// Who holds the GPU or comes first, in order.
    pub ahead: Vec<Holder>,
    /// Processes of an earlier holder that are still on the GPU. Then nobody is ahead.
    pub leftovers: Vec<ProcessId>,
    /// How long this request has waited.
    pub waited: Duration,
}

/// Who holds a GPU, or waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// As the file system knows it: who owns the ticket.
    pub uid: u32,
    /// As the ticket says; `None` where it says nothing that is understood.
    pub text: Option<HolderText>,
    /// When it came.
    pub since: Option<SystemTime>,
    /// When it was its turn; `None` while it waits.
    pub held_since: Option<SystemTime>,
}

/// A lease. Dropping it gives the GPUs back.
#[derive(Debug)]
pub struct Lease {
    gpus: Vec<GpuUuid>,
    tickets: Vec<OwnedFd>,
    waited: Duration,
}

impl Lease {
    /// What was had, in the order of the request.
    pub fn gpus(&self) -> &[GpuUuid] {
        &self.gpus
    }

    /// The value of [`VARIABLE`] for the program.
    pub fn variable(&self) -> String {
        String::new()
    }

    /// What the program has to inherit (clear `FD_CLOEXEC` in the child), so that the lease lasts as long as it does even if this
    /// process is killed.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.tickets.iter().map(|it| it.as_fd())
    }

    /// Notes a process of the program that was seen on a GPU: if this process is killed, the next holder waits until it is gone.
    pub fn note_process(&mut self, _process: ProcessId) {}

    /// Notes for how long the program has used the GPU so far, so that idle holders can be told.
    pub fn note_use(&mut self, _used: Duration) {}

    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Whether it is the lease that this process runs under already, for all GPUs.
    pub fn is_nested(&self) -> bool {
        self.tickets.is_empty()
    }

    /// Leaves the GPUs to the processes that inherited [`Self::descriptors`]; given back when the last of them ends.
    pub fn leave(self) {}
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Somebody else has it, and waiting was not wanted, or was over.
    #[error("the GPU is busy")]
    Busy { waiting: Box<Waiting>, waited: Duration },
    /// Waiting while another lease is held could be a circle.
    #[error("the GPU is busy, and who holds another GPU must not wait")]
    BusyInside { waiting: Box<Waiting> },
    #[error("waiting was ended")]
    Cancelled,
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("failed to use `{}`", path.display())]
    File { path: PathBuf, source: std::io::Error },
}

/// Waits until the GPUs are free, and takes them.
pub fn acquire(
    _directory: &Directory,
    _request: &Request,
    _hooks: &mut Hooks<'_>,
) -> Result<Lease, LeaseError> {
    Err(LeaseError::Cancelled)
}
