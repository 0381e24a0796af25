//! Carries out on files what the [`Protocol`] says.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{self, FlockOperation},
    io::Errno,
};

use super::{
    Hooks, LeaseError, Patience, Request, Waiting, WaitsFor,
    directory::{Directory, DirectoryError, Found},
    line::{self, Holder},
    locks::Locks,
    nested::Stamped,
    queue::{Effect, Event, Protocol, Ticket},
    ticket::{Line, Name, first_line, json_line, milliseconds},
};
use crate::process::ProcessId;

/// How often what is told about waiting is looked up again. Who ends wakes only the next; the others see their place change late.
const REFRESH: Duration = Duration::from_secs(1);

/// For how long `queue.lock` may be held without anybody hearing of it.
const MOMENT: Duration = Duration::from_secs(1);

/// How often the machine is asked whether dead holders' processes are gone, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// What wakes a request.
pub(super) enum Wake {
    /// A watched ticket has ended.
    Ended(usize, Ticket),
    /// `queue.lock` is had.
    Locked(Result<OwnedFd, Errno>),
    Cancelled,
}

/// A ticket of one's own.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) ticket: Stamped,
    pub(super) fd: OwnedFd,
}

/// What is held, or waited for.
#[derive(Debug)]
pub(super) struct Claim {
    protocol: Protocol,
    own: BTreeMap<usize, Own>,
}

impl Claim {
    pub(super) fn of_nothing() -> Self {
        Self { protocol: Protocol::new(0, 0, 1), own: BTreeMap::new() }
    }

    pub(super) fn own(&self) -> impl Iterator<Item = &Own> {
        self.own.values()
    }

    /// Removes the tickets of dead holders, if nobody else is at it. A failure takes nothing from what is held.
    pub(super) fn tidy(&mut self, directory: &Directory) {
        if self.protocol.effect() != Effect::Hold {
            return;
        }
        self.protocol.tidy();
        let mut queue_lock = None;
        loop {
            let event = match self.protocol.effect() {
                Effect::TryLockQueue => match directory.try_lock_queue() {
                    Ok(Some(fd)) => {
                        queue_lock = Some(fd);
                        Event::Done
                    }
                    Ok(None) | Err(_) => Event::Busy,
                },
                Effect::Sweep(queue, ticket) => {
                    let gpu = self.own[&queue].ticket.name.gpu.clone();
                    drop(directory.sweep(&Name { gpu, ticket }.to_string()));
                    Event::Done
                }
                Effect::UnlockQueue => {
                    queue_lock = None;
                    Event::Done
                }
                _ => break,
            };
            self.protocol.on(event);
        }
        drop(queue_lock);
    }

    /// Gives everything back, or gives it up.
    pub(super) fn give_back(&mut self, directory: &Directory) {
        if !self.own.is_empty() && self.protocol.may_give_back() {
            self.tidy(directory);
            self.protocol.give_back();
            while self.give_up(&self.protocol.effect(), directory) {
                self.protocol.on(Event::Done);
            }
        }
        // After a failure in the middle of a change it is as if this process had died.
        self.own.clear();
    }

    /// Closes everything and removes nothing.
    pub(super) fn leave(&mut self) {
        self.own.clear();
    }

    /// Whether this was an effect of giving up a ticket.
    fn give_up(&mut self, effect: &Effect, directory: &Directory) -> bool {
        match effect {
            Effect::Remove(queue, _) => {
                if let Some(own) = self.own.get(queue) {
                    // If it stays, it is a dead ticket that others see through.
                    drop(directory.remove(&own.ticket.name.to_string()));
                }
            }
            Effect::Close(queue, _) => drop(self.own.remove(queue)),
            _ => return false,
        }
        true
    }
}

/// A request that is carried out.
pub(super) struct Wait<'a, 'b> {
    directory: &'a Directory,
    request: &'a Request,
    hooks: &'a mut Hooks<'b>,
    claim: Claim,
    queue_lock: Option<OwnedFd>,
    /// Tickets seen live, open until they are watched.
    seen: BTreeMap<(usize, Ticket), OwnedFd>,
    watched: BTreeSet<(usize, Ticket)>,
    /// What dead holders may have left, by queue.
    earlier: BTreeMap<usize, BTreeSet<ProcessId>>,
    started: Instant,
    deadline: Option<Instant>,
    wakes: (Sender<Wake>, Receiver<Wake>),
}

/// What happens next to a request that sleeps.
enum Next {
    Wake(Wake),
    /// Nothing did for a while.
    Refresh,
    OutOfTime,
}

pub(super) fn wait<'a>(
    directory: &'a Directory,
    request: &'a Request,
    hooks: &'a mut Hooks<'_>,
) -> Result<(Claim, Duration), LeaseError> {
    let started = Instant::now();
    let deadline = match request.patience {
        Patience::Forever => None,
        // A deadline no clock reaches is none.
        Patience::For(time) => started.checked_add(time),
    };
    let wakes = channel();
    hooks.cancel.wake_with(wakes.0.clone());
    let mut wait = Wait {
        directory,
        request,
        hooks,
        claim: Claim {
            protocol: Protocol::new(request.gpus.len(), request.count, request.slots),
            own: BTreeMap::new(),
        },
        queue_lock: None,
        seen: BTreeMap::new(),
        watched: BTreeSet::new(),
        earlier: BTreeMap::new(),
        started,
        deadline,
        wakes,
    };
    let result = wait.go();
    let mut claim = wait.claim;
    match result {
        Ok(()) => Ok((claim, started.elapsed())),
        Err(error) => {
            claim.give_back(directory);
            Err(error)
        }
    }
}

impl Wait<'_, '_> {
    fn go(&mut self) -> Result<(), LeaseError> {
        loop {
            match self.claim.protocol.effect() {
                Effect::Hold => return Ok(()),
                effect => {
                    let event = self.carry_out(effect)?;
                    self.claim.protocol.on(event);
                }
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Result<Event, LeaseError> {
        match effect {
            Effect::LockQueue => self.lock_queue()?,
            Effect::UnlockQueue => self.queue_lock = None,
            Effect::List(queue) => {
                return Ok(Event::Listed(self.directory.tickets_of(&self.request.gpus[queue])?));
            }
            Effect::Probe(queue, ticket) => return self.probe(queue, ticket),
            Effect::Create(queue, ticket) => {
                let name = self.name(queue, ticket);
                let Some(fd) = self.directory.create_ticket(&name.to_string())? else {
                    return Ok(Event::Exists);
                };
                let came = (self.hooks.clock)();
                let text = first_line(&self.request.holder, came);
                let written = match rustix::io::write(&fd, text.as_bytes()) {
                    // Of a ticket that is cut off nobody can tell when it came.
                    Ok(count) if count < text.len() => Err(Errno::NOSPC),
                    written => written.map(|_| ()),
                };
                if let Err(errno) = written {
                    let shown = name.to_string();
                    // Only to leave nothing behind: as soon as it is closed it is a dead ticket.
                    drop(self.directory.remove(&shown));
                    return Err(self.directory.failed(&shown, errno).into());
                }
                let ticket = Stamped { name, came: milliseconds(came) };
                self.claim.own.insert(queue, Own { ticket, fd });
            }
            Effect::Sweep(queue, ticket) => {
                self.directory.sweep(&self.name(queue, ticket).to_string())?;
            }
            Effect::Watch(tickets) => return self.watch(&tickets),
            Effect::Clear => self.clear()?,
            Effect::Remove(..) | Effect::Close(..) => {
                self.claim.give_up(&effect, self.directory);
            }
            Effect::Fail(queue) => {
                let why = format!(
                    "a ticket of `{}` has the last number there is; remove it",
                    self.request.gpus[queue]
                );
                let path = self.directory.path().to_owned();
                return Err(DirectoryError::Unsafe { path, why }.into());
            }
            Effect::TryLockQueue => unreachable!("only who holds tidies"),
            Effect::Hold | Effect::Nothing => {}
        }
        Ok(Event::Done)
    }

    fn name(&self, queue: usize, ticket: Ticket) -> Name {
        Name { gpu: self.request.gpus[queue].clone(), ticket }
    }

    fn lock_queue(&mut self) -> Result<(), LeaseError> {
        // Also who does not want to wait gives others a moment to look at the line.
        let deadline = self.deadline.map(|it| it.max(self.started + MOMENT));
        loop {
            let fd = self.directory.open_queue_lock()?;
            let fd = match fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => fd,
                Err(Errno::WOULDBLOCK) => self.await_queue_lock(fd, deadline)?,
                Err(errno) => return Err(self.directory.no_lock("queue.lock", errno).into()),
            };
            // It may have been removed meanwhile, and another one made.
            if self.directory.queue_lock_holds(fd.as_fd())? {
                self.queue_lock = Some(fd);
                return Ok(());
            }
        }
    }

    /// Sleeps until `queue.lock` is had.
    fn await_queue_lock(
        &mut self,
        fd: OwnedFd,
        deadline: Option<Instant>,
    ) -> Result<OwnedFd, LeaseError> {
        let stat = fs::fstat(&fd).ok();
        let wakes = self.wakes.0.clone();
        thread::spawn(move || {
            let result = lock(&fd, FlockOperation::LockExclusive);
            // Nobody may want it any more; then it is closed here.
            drop(wakes.send(Wake::Locked(result.map(|()| fd))));
        });
        loop {
            let holder = stat.as_ref().and_then(|it| Locks::read().holder(it));
            let waiting = |it: &Self| it.waiting_for(0, WaitsFor::QueueLock(holder));
            match self.next_wake(deadline, MOMENT)? {
                Next::Wake(Wake::Locked(result)) => {
                    return result
                        .map_err(|errno| self.directory.no_lock("queue.lock", errno).into());
                }
                Next::Wake(Wake::Ended(..) | Wake::Cancelled) => {}
                Next::Refresh => {
                    let waiting = waiting(self);
                    (self.hooks.tell)(&waiting);
                }
                Next::OutOfTime => return Err(busy(waiting(self), self.request)),
            }
        }
    }

    fn probe(&mut self, queue: usize, ticket: Ticket) -> Result<Event, LeaseError> {
        Ok(match self.directory.probe(&self.name(queue, ticket).to_string())? {
            Found::Live(fd) => {
                self.seen.insert((queue, ticket), fd);
                Event::Live
            }
            Found::Dead(text) => {
                let has_held = text.held.is_some();
                if has_held {
                    self.earlier.entry(queue).or_default().extend(text.everybody());
                }
                Event::Dead { has_held }
            }
            Found::Gone => Event::Gone,
        })
    }

    /// Sleeps until one of the tickets has ended. A thread for each sleeps in the kernel, on its lock.
    fn watch(&mut self, tickets: &BTreeSet<(usize, Ticket)>) -> Result<Event, LeaseError> {
        for &(queue, ticket) in tickets {
            if !self.watched.insert((queue, ticket)) {
                continue;
            }
            let fd = self.seen.remove(&(queue, ticket)).expect("it was seen live");
            let wakes = self.wakes.0.clone();
            thread::spawn(move || {
                // Without a lock there is nothing to wait for; the look that follows says so.
                let _ = lock(&fd, FlockOperation::LockShared);
                drop(fd);
                // Nobody waits any more.
                drop(wakes.send(Wake::Ended(queue, ticket)));
            });
        }
        let mut refresh = REFRESH;
        if !self.is_over() {
            refresh = self.tell()?;
        }
        loop {
            match self.next_wake(self.deadline, refresh)? {
                Next::Wake(Wake::Ended(queue, ticket)) => {
                    self.watched.remove(&(queue, ticket));
                    self.check_own(queue)?;
                    return Ok(Event::Ended(queue, ticket));
                }
                Next::Wake(Wake::Locked(_) | Wake::Cancelled) => {}
                Next::Refresh => refresh = self.tell()?,
                Next::OutOfTime => return Err(self.busy()?),
            }
        }
    }

    /// Whether nobody removed the own ticket, so that others see it.
    fn check_own(&self, queue: usize) -> Result<(), LeaseError> {
        let Some(own) = self.claim.own.get(&queue) else { return Ok(()) };
        if fs::fstat(&own.fd).is_ok_and(|it| it.st_nlink > 0) {
            return Ok(());
        }
        let path = self.directory.path().join(own.ticket.name.to_string());
        let source = io::Error::new(io::ErrorKind::NotFound, "somebody removed it");
        Err(LeaseError::File { path, source })
    }

    fn next_wake(
        &mut self,
        deadline: Option<Instant>,
        refresh: Duration,
    ) -> Result<Next, LeaseError> {
        if self.hooks.cancel.is_cancelled() {
            return Err(LeaseError::Cancelled);
        }
        let left = deadline.map(|it| it.saturating_duration_since(Instant::now()));
        if left.is_some_and(|it| it.is_zero()) {
            return Ok(Next::OutOfTime);
        }
        match self.wakes.1.recv_timeout(left.map_or(refresh, |it| it.min(refresh))) {
            Ok(wake) => Ok(Next::Wake(wake)),
            Err(RecvTimeoutError::Timeout) => Ok(Next::Refresh),
            Err(RecvTimeoutError::Disconnected) => unreachable!("one sender is ours"),
        }
    }

    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|it| it <= Instant::now())
    }

    /// Waits until the machine shows no process of dead holders on the GPUs.
    fn clear(&mut self) -> Result<(), LeaseError> {
        for queue in self.claim.protocol.chosen().to_vec() {
            let gpu = self.request.gpus[queue].clone();
            let earlier: Vec<_> = self.earlier.get(&queue).into_iter().flatten().copied().collect();
            let mut pause = FIRST_PAUSE;
            loop {
                let leftovers = (self.hooks.clear)(&gpu, &earlier);
                if leftovers.is_empty() {
                    break;
                }
                let waiting = self.waiting_for(queue, WaitsFor::Leftovers(leftovers));
                if self.is_over() {
                    return Err(busy(waiting, self.request));
                }
                (self.hooks.tell)(&waiting);
                self.next_wake(self.deadline, pause)?;
                pause = (pause * 2).min(LAST_PAUSE);
            }
            let held = json_line(&Line::Held(milliseconds((self.hooks.clock)())));
            let own = &self.claim.own[&queue];
            rustix::io::write(&own.fd, held.as_bytes())
                .map_err(|errno| self.directory.failed(&own.ticket.name.to_string(), errno))?;
        }
        Ok(())
    }

    /// Who is ahead, on the GPU where the fewest are.
    fn waiting(&self) -> Result<Option<Waiting>, DirectoryError> {
        let mut nearest: Option<(usize, usize, Vec<Holder>)> = None;
        for (queue, gpu) in self.request.gpus.iter().enumerate() {
            let own = self.claim.own.get(&queue).map(|it| it.ticket.name.ticket);
            let (position, ahead) = line::ahead(self.directory, gpu, own)?;
            let is_nearer = nearest.as_ref().is_none_or(|it| ahead.len() < it.2.len());
            if !ahead.is_empty() && is_nearer {
                nearest = Some((queue, position, ahead));
            }
        }
        Ok(nearest.map(|(queue, position, ahead)| {
            self.waiting_for(queue, WaitsFor::Turn { position, ahead })
        }))
    }

    fn waiting_for(&self, queue: usize, what: WaitsFor) -> Waiting {
        Waiting { gpu: self.request.gpus[queue].clone(), what, waited: self.started.elapsed() }
    }

    /// Tells what is waited for, and says when to look again. Looking along a long line takes time, and everybody in it looks.
    fn tell(&mut self) -> Result<Duration, LeaseError> {
        let start = Instant::now();
        let waiting = self.waiting()?;
        let took = start.elapsed();
        // Everybody may have ended just now.
        if let Some(waiting) = waiting {
            (self.hooks.tell)(&waiting);
        }
        Ok(REFRESH.max(took * 1000))
    }

    fn busy(&self) -> Result<LeaseError, LeaseError> {
        let nobody = || self.waiting_for(0, WaitsFor::Turn { position: 1, ahead: Vec::new() });
        Ok(busy(self.waiting()?.unwrap_or_else(nobody), self.request))
    }
}

fn busy(waiting: Waiting, request: &Request) -> LeaseError {
    let waiting = Box::new(waiting);
    if request.outer.is_some() {
        LeaseError::BusyInside { waiting }
    } else {
        LeaseError::Busy { waiting }
    }
}

/// Sleeps in the kernel until the lock is had.
fn lock(fd: &OwnedFd, operation: FlockOperation) -> Result<(), Errno> {
    loop {
        match fs::flock(fd, operation) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
