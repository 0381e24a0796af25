//! Starting one program, and staying until everything it started has ended.
//!
//! The supervisor is a *subreaper*: a descendant that loses its parent becomes its child, also one that made itself a daemon. So the
//! tree is what has ended when there is no child left to wait for, and the supervisor's own processes are exactly its tree.
//!
//! With a terminal the program shares the supervisor's process group. Then the terminal's own signals (Ctrl-C, Ctrl-\, Ctrl-Z, a
//! hangup, a new window size) reach it directly, job control of the shell works on both, and only what somebody sends to the
//! supervisor alone is passed on; so does the kernel, when the terminal of a session is closed whose leader the supervisor is. At Ctrl-Z the supervisor stops only when the program has: the shell then reads what is typed, and a
//! program that has been told and not yet stopped would still take some of it. Without a terminal the program gets a group of its own, to which everything is passed on.
//!
//! Out of scope: who escapes through another service (`systemd-run`, `dockerd`, `at`). It is no descendant, and nothing here
//! claims to see it.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::process::CommandExt as _,
    },
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd},
    process::{
        Pid, Signal, WaitOptions, getpgid, getpgrp, getpid, kill_process_group, set_child_subreaper,
    },
};

use self::signals::{Record, Signals};
use crate::process::ProcessId;

mod signals;
pub(crate) mod tree;

pub use self::signals::{EndingSignal, Endings, wake};

/// What is to be started.
#[derive(Debug)]
pub struct Program<'a> {
    /// A path, or a name that is looked for in `PATH`.
    pub name: OsString,
    pub args: Vec<OsString>,
    /// Set in its environment; the rest is inherited.
    pub variables: Vec<(String, OsString)>,
    pub group: Group,
    /// What it inherits besides the standard streams.
    pub inherits: Vec<BorrowedFd<'a>>,
}

/// The process group of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The supervisor's, for who has a terminal.
    Shared,
    Own,
}

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error("`{}` was not found", name.display())]
    NotFound { name: OsString },
    #[error("`{}` cannot be started", name.display())]
    NotStartable { name: OsString, source: io::Error },
    /// The kernel refused what has nothing to do with the program.
    #[error("failed to become the parent of what `{}` starts", name.display())]
    Supervision { name: OsString, source: io::Error },
}

impl StartError {
    /// The code by which shells tell it.
    pub fn code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotStartable { .. } | Self::Supervision { .. } => 126,
        }
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ended {
    Code(u8),
    Signal(u8),
}

impl Ended {
    /// The code by which shells tell it.
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => 128_u8.saturating_add(number),
        }
    }
}

/// What [`Supervised::next`] has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The program ended. What it started may go on.
    Ended(Ended),
    /// Nothing of the tree is left.
    Empty,
    /// Somebody called [`wake`].
    Woken,
    /// Everything left of the tree was sent SIGKILL.
    Killed,
}

/// A program that runs, and what it started.
#[derive(Debug)]
pub struct Supervised {
    program: ProcessId,
    group: Group,
    signals: Signals,
    /// Children from before, such as those of a shell that became this process with `exec`.
    others: Vec<ProcessId>,
    ended: Option<Ended>,
    ending: Ending,
    is_empty: bool,
    /// Told one by one.
    untold: Vec<Happening>,
}

/// Whether somebody wants the tree to end.
#[derive(Clone, Copy, Debug)]
enum Ending {
    No,
    /// A signal that ends programs was passed on.
    Asked(Signal),
    /// The rest is killed at this time.
    KillAt(Instant),
    Killing,
}

const CAUGHT: &[Signal] = &[
    Signal::CHILD,
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
    Signal::TSTP,
    Signal::CONT,
    Signal::WINCH,
];

/// How often a tree that is killed is looked at again: it may fork meanwhile.
const AGAIN: Duration = Duration::from_millis(50);

impl Supervised {
    /// Starts a program. There can be one in a process.
    pub fn start(program: Program<'_>) -> Result<Self, StartError> {
        let Program { name, args, variables, group, inherits } = program;
        let supervision =
            |source: io::Error| StartError::Supervision { name: name.clone(), source };
        set_child_subreaper(Some(getpid())).map_err(|it| supervision(it.into()))?;
        let others = if tree::has_children() {
            tree::descendants(std::process::id(), &[]).into_iter().map(|it| it.id).collect()
        } else {
            Vec::new()
        };
        let numbers: Vec<i32> = CAUGHT.iter().map(|it| it.as_raw()).collect();
        let signals = Signals::catch(&numbers).map_err(supervision)?;

        let mut command = Command::new(&name);
        command.args(args).envs(variables);
        if group == Group::Own {
            command.process_group(0);
        }
        let child = {
            let _inherited = Inherited::new(&inherits).map_err(supervision)?;
            command.spawn()
        };
        let child = child.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StartError::NotFound { name: name.clone() },
            _ => StartError::NotStartable { name: name.clone(), source },
        })?;
        // It is not waited for yet, so that the number is still its own.
        let program = tree::Stat::read(child.id()).map(|it| it.id);
        let program = program.ok_or_else(|| supervision(io::ErrorKind::NotFound.into()))?;
        Ok(Self {
            program,
            group,
            signals,
            others,
            ended: None,
            ending: Ending::No,
            is_empty: false,
            untold: Vec::new(),
        })
    }

    pub fn program(&self) -> ProcessId {
        self.program
    }

    /// The children of this process that are none of the tree.
    pub fn others(&self) -> &[ProcessId] {
        &self.others
    }

    /// What is left of the tree.
    pub fn living(&self) -> Vec<ProcessId> {
        if self.is_empty {
            return Vec::new();
        }
        let all = tree::descendants(std::process::id(), &self.others);
        all.into_iter().filter(|it| !it.is_dead()).map(|it| it.id).collect()
    }

    /// Asks the whole tree to end, and kills what has not after `grace`.
    pub fn end(&mut self, grace: Duration) {
        if matches!(self.ending, Ending::No | Ending::Asked(_)) {
            self.ending = Ending::KillAt(Instant::now() + grace);
            self.send_to_all(Signal::TERM);
            // Who is stopped cannot end.
            self.send_to_all(Signal::CONT);
        }
    }

    /// Waits for the next thing that happens, passing signals on meanwhile.
    #[expect(clippy::should_implement_trait, reason = "it fails, and never ends by itself")]
    pub fn next(&mut self) -> io::Result<Happening> {
        loop {
            self.reap()?;
            if !self.untold.is_empty() {
                return Ok(self.untold.remove(0));
            }
            match self.ending {
                Ending::KillAt(at) if Instant::now() >= at => {
                    self.ending = Ending::Killing;
                    self.send_to_all(Signal::KILL);
                    return Ok(Happening::Killed);
                }
                Ending::Killing => self.send_to_all(Signal::KILL),
                _ => {}
            }
            self.sleep()?;
            for record in self.signals.read()? {
                match record {
                    Record::Woken => self.tell_once(Happening::Woken),
                    Record::Signal { number, is_of_group } => self.pass_on(number, is_of_group)?,
                }
            }
        }
    }

    fn tell_once(&mut self, happening: Happening) {
        if !self.untold.contains(&happening) {
            self.untold.push(happening);
        }
    }

    fn sleep(&self) -> io::Result<()> {
        let timeout = match self.ending {
            Ending::No | Ending::Asked(_) => None,
            Ending::KillAt(at) => Some(at.saturating_duration_since(Instant::now())),
            Ending::Killing => Some(AGAIN),
        };
        let timeout = timeout.map(|it| Timespec {
            tv_sec: i64::try_from(it.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: it.subsec_nanos().into(),
        });
        let fd = self.signals.fd();
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn reap(&mut self) -> io::Result<()> {
        while !self.is_empty {
            match rustix::process::wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some((pid, status))) => {
                    let is_program = u32::try_from(pid.as_raw_nonzero().get())
                        .is_ok_and(|it| it == self.program.pid && self.ended.is_none());
                    if status.stopped() {
                        if is_program {
                            self.stop_too()?;
                        }
                        continue;
                    }
                    let byte = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
                    let ended = match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => Ended::Code(byte(code)),
                        (None, Some(number)) => Ended::Signal(byte(number)),
                        (None, None) => continue,
                    };
                    if is_program {
                        self.ended = Some(ended);
                        self.untold.push(Happening::Ended(ended));
                        // Who wanted the program to end wanted all of it to end.
                        if let Ending::Asked(signal) = self.ending {
                            self.send_to_all(signal);
                        }
                    }
                }
                Ok(None) if self.others.is_empty() || self.ended.is_none() => return Ok(()),
                // Children from before keep `waitpid` from saying that there is none.
                Ok(None) if !self.living().is_empty() => return Ok(()),
                // Somebody else waited for the program, and how it ended is lost.
                Err(Errno::CHILD) if self.ended.is_none() => return Err(Errno::CHILD.into()),
                Ok(None) | Err(Errno::CHILD) => {
                    self.is_empty = true;
                    self.untold.push(Happening::Empty);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Stops as the program did, so that the shell learns that its job stopped.
    fn stop_too(&self) -> io::Result<()> {
        if self.group == Group::Own {
            return Ok(());
        }
        // After a SIGSTOP to both and `fg` the supervisor may run again before the program does.
        thread::sleep(Duration::from_millis(50));
        let is_stopped = tree::Stat::read(self.program.pid)
            .is_some_and(|it| it.id == self.program && it.state == 'T');
        if is_stopped {
            signals::stop_here()?;
            drop(tree::send(self.program, Signal::CONT));
        }
        Ok(())
    }

    fn pass_on(&mut self, number: i32, is_of_group: bool) -> io::Result<()> {
        let Some(signal) = CAUGHT.iter().find(|it| it.as_raw() == number) else { return Ok(()) };
        let signal = *signal;
        match signal {
            Signal::CHILD => return Ok(()),
            Signal::TSTP if self.group == Group::Own => return self.stop_both(),
            // Nobody is left whose stop could be waited for.
            Signal::TSTP if self.ended.is_some() => return signals::stop_here(),
            _ => {}
        }
        let ends = matches!(signal, Signal::HUP | Signal::INT | Signal::QUIT | Signal::TERM);
        if self.ended.is_some() {
            // Nobody is left in front of the terminal who could mean it for something else.
            match self.ending {
                Ending::Asked(_) if ends => self.ending = Ending::KillAt(Instant::now()),
                Ending::No if ends => self.ending = Ending::Asked(signal),
                _ => {}
            }
            self.send_to_all(signal);
            // A shell without job control has its background jobs ignore Ctrl-C.
            if signal == Signal::INT {
                self.send_to_all(Signal::TERM);
            }
            return Ok(());
        }
        if ends && matches!(self.ending, Ending::No) {
            self.ending = Ending::Asked(signal);
        }
        // The terminal has told the whole group already.
        if !(is_of_group && self.group == Group::Shared && self.is_in_our_group()) {
            self.send(signal);
        }
        Ok(())
    }

    /// A program that shared the group may have left it.
    fn is_in_our_group(&self) -> bool {
        let pid = i32::try_from(self.program.pid).ok().and_then(Pid::from_raw);
        getpgid(pid).is_ok_and(|it| it == getpgrp())
    }

    /// Without a terminal: the program stops first, and goes on first.
    fn stop_both(&self) -> io::Result<()> {
        self.send(Signal::TSTP);
        signals::stop_here()
    }

    /// Sends to the program and, in a group of its own, to its group. It may have ended just now.
    fn send(&self, signal: Signal) {
        match (self.group, i32::try_from(self.program.pid).ok().and_then(Pid::from_raw)) {
            // The group's number is taken as long as the program is not waited for.
            (Group::Own, Some(pid)) if self.ended.is_none() => {
                let _ = kill_process_group(pid, signal);
            }
            _ => drop(tree::send(self.program, signal)),
        }
    }

    fn send_to_all(&self, signal: Signal) {
        for process in self.living() {
            drop(tree::send(process, signal));
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // From here on Ctrl-C ends this process like any other.
        for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
            drop(signals::catch_not(signal.as_raw()));
        }
    }
}

/// Kills everything below a runner that is another process. The runner lives on, and notes how its program ended.
pub fn kill_below(runner: u32) {
    for it in tree::descendants(runner, &[]) {
        drop(tree::send(it.id, Signal::KILL));
    }
}

/// Descriptors that are inherited by what is started while this lives.
struct Inherited<'a>(Vec<(BorrowedFd<'a>, FdFlags)>);

impl<'a> Inherited<'a> {
    fn new(fds: &[BorrowedFd<'a>]) -> io::Result<Self> {
        let mut changed = Self(Vec::new());
        for fd in fds {
            let flags = fcntl_getfd(fd.as_fd())?;
            fcntl_setfd(fd.as_fd(), flags - FdFlags::CLOEXEC)?;
            changed.0.push((*fd, flags));
        }
        Ok(changed)
    }
}

impl Drop for Inherited<'_> {
    fn drop(&mut self) {
        for (fd, flags) in &self.0 {
            let _ = fcntl_setfd(fd, *flags);
        }
    }
}
