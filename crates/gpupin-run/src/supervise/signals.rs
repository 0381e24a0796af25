//! Signals as records in a pipe.
//!
//! Handlers and no blocked mask: a mask is each thread's own and is inherited by programs, a handler is the process's and is gone
//! after `exec`. What the caller ignores (`nohup`) stays ignored, here and in the program.
#![expect(unsafe_code, reason = "`sigaction` has no safe wrapper that tells who sent a signal")]

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    ptr,
    sync::atomic::{AtomicI32, Ordering},
};

use rustix::{
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{Signal, getpid, getsid},
};

/// What woke the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// A signal, and whether the terminal sent it to the whole process group.
    Signal { number: i32, is_of_group: bool },
    /// Another thread has something to say.
    Woken,
}

/// The signals of this process, until it ends.
#[derive(Debug)]
pub(super) struct Signals {
    read: OwnedFd,
}

/// The writing end. It is never closed: a handler may run at any time.
static WRITE: AtomicI32 = AtomicI32::new(-1);

const BY_KERNEL: u8 = 1;

impl Signals {
    /// Catches `numbers`, except those that are ignored.
    pub(super) fn catch(numbers: &[i32]) -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let raw = write.as_raw_fd();
        mem::forget(write);
        WRITE.store(raw, Ordering::SeqCst);
        for number in numbers {
            catch(*number)?;
        }
        Ok(Self { read })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// What came since it was asked last.
    pub(super) fn read(&self) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        let mut bytes = [0; 128];
        loop {
            match rustix::io::read(&self.read, &mut bytes) {
                Ok(count) => records.extend(bytes[..count].chunks_exact(2).map(record)),
                Err(Errno::AGAIN) => return Ok(records),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The signals by which somebody wants this process to end, for one that has to end others first.
#[derive(Debug)]
pub struct Endings(Signals);

/// A signal that wants this process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndingSignal {
    pub signal: Signal,
    /// Whether it came from the terminal, which tells every process of the group.
    pub is_of_group: bool,
}

const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

impl Endings {
    /// Catches them while this lives. Not in a process with a [`Supervised`](super::Supervised), which does that itself.
    pub fn catch() -> io::Result<Self> {
        Signals::catch(&ENDING.map(Signal::as_raw)).map(Self)
    }

    /// Those that came since it was asked last.
    pub fn came(&self) -> io::Result<Vec<EndingSignal>> {
        let ending = |record| match record {
            Record::Signal { number, is_of_group } => {
                let signal = ENDING.into_iter().find(|it| it.as_raw() == number)?;
                Some(EndingSignal { signal, is_of_group })
            }
            Record::Woken => None,
        };
        Ok(self.0.read()?.into_iter().filter_map(ending).collect())
    }
}

impl Drop for Endings {
    fn drop(&mut self) {
        for signal in ENDING {
            drop(catch_not(signal.as_raw()));
        }
    }
}

/// Makes [`Supervised::next`](super::Supervised::next) return in this process, from any thread.
pub fn wake() {
    write([0, 0]);
}

fn record(bytes: &[u8]) -> Record {
    match bytes[0] {
        0 => Record::Woken,
        number => {
            let is_of_group = bytes[1] == BY_KERNEL && !is_for_leader(number.into());
            Record::Signal { number: number.into(), is_of_group }
        }
    }
}

/// Whether the kernel sent this to us alone: of a terminal that is closed it tells the leader of the session, which is to tell the
/// others. It does so itself only when the leader ends.
fn is_for_leader(number: i32) -> bool {
    number == libc::SIGHUP && getsid(None).is_ok_and(|it| it == getpid())
}

/// Gives a signal back to the default, to be ended or stopped by it. One that is ignored stays so.
pub(super) fn catch_not(number: i32) -> io::Result<()> {
    if is_ignored(number)? { Ok(()) } else { act(number, libc::SIG_DFL, 0) }
}

fn is_ignored(number: i32) -> io::Result<bool> {
    // SAFETY: the struct is plain data that the kernel fills.
    unsafe {
        let mut old: libc::sigaction = mem::zeroed();
        if libc::sigaction(number, ptr::null(), &raw mut old) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(old.sa_sigaction == libc::SIG_IGN)
    }
}

fn catch(number: i32) -> io::Result<()> {
    // Whoever ignores SIGCHLD would never learn how the program ended.
    if number != libc::SIGCHLD && is_ignored(number)? {
        return Ok(());
    }
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = handle;
    act(number, handler as libc::sighandler_t, libc::SA_SIGINFO | libc::SA_RESTART)
}

fn act(number: i32, action: libc::sighandler_t, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the struct is initialised; the handler only does what a handler may.
    let result = unsafe {
        let mut new: libc::sigaction = mem::zeroed();
        new.sa_sigaction = action;
        new.sa_flags = flags;
        libc::sigemptyset(&raw mut new.sa_mask);
        libc::sigaction(number, &raw const new, ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn handle(number: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid `siginfo_t` to a handler with `SA_SIGINFO`. `errno` is saved, because the handler may run
    // between a call and the look at its error.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        let by_kernel = !info.is_null() && (*info).si_code > 0;
        write([u8::try_from(number).unwrap_or(0), if by_kernel { BY_KERNEL } else { 0 }]);
        *errno = saved;
    }
}

/// Async-signal-safe. A full pipe holds thousands of reasons to wake already.
fn write(record: [u8; 2]) {
    let fd = WRITE.load(Ordering::SeqCst);
    // SAFETY: two bytes are read from an array of two; a descriptor that is not there is an error, which does not matter.
    unsafe {
        libc::write(fd, record.as_ptr().cast(), record.len());
    }
}

/// Stops this process, and returns once it was continued.
///
/// A signal to the process may be taken by another thread, while this one goes on as if nothing had happened; one to the thread
/// itself is taken before the call returns.
pub(super) fn stop_here() -> io::Result<()> {
    // SAFETY: `raise` has no preconditions.
    if unsafe { libc::raise(libc::SIGSTOP) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
