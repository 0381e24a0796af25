//! The rules of the queue, as one pure function.
//!
//! A [`Protocol`] is one request on its way. [`Protocol::effect`] says what to do with the files next, and [`Protocol::on`] takes in what came
//! of it. [`super::wait`] carries it out on files, and the model checker in `model` on a file system of its own.
//!
//! The rule: a ticket holds when the lower live tickets are fewer than the slots that it and each of them allow. Lower tickets only ever
//! get fewer, since numbers are given out above all live ones, one request at a time. So a ticket that may hold may hold for good, and
//! all lower live tickets may as well: first come first served.
//!
//! Who may not hold waits for *any one* of a set of live tickets that is in the way as long as all of it lives: as many as there are slots, and
//! among them one that allows so few. With one slot this is the next lower live ticket alone, so that each end wakes one waiter however
//! many there are. With several slots one ticket would not do: others may end first, and the waiter would sleep on.

use std::collections::BTreeSet;

#[cfg(test)]
mod model;

/// A ticket in one GPU's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ticket {
    pub(super) number: u64,
    /// How many holders it allows, itself among them.
    pub(super) slots: u32,
}

/// A request on its way through the queues of the GPUs that would do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Protocol {
    count: usize,
    slots: u32,
    queues: Vec<Queue>,
    /// The queues whose GPUs are held, or about to be.
    chosen: Vec<usize>,
    phase: Phase,
}

/// What is known of one GPU's queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Queue {
    own: Option<Ticket>,
    /// Listed and not looked at, lowest first.
    unseen: Vec<Ticket>,
    /// Lower ones that were live when looked at.
    live: BTreeSet<Ticket>,
    /// Ended without removing their files, after they had held.
    dead: Vec<Ticket>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Locking,
    Listing(usize),
    /// Looking for the highest live ticket of a queue.
    Numbering(usize),
    Tidying(usize, Ticket),
    Creating(usize, Ticket),
    Full(usize),
    Unlocking,
    Looking,
    /// Giving up tickets that are not among the chosen.
    Removing(usize),
    Closing(usize),
    Clearing,
    LockingToSweep,
    Sweeping(usize, Ticket),
    UnlockingSwept,
    Held,
    Done,
}

/// What to do next. Queues are meant by their position.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Effect {
    /// Waits for `queue.lock`: [`Event::Done`].
    LockQueue,
    /// [`Event::Done`], or [`Event::Busy`] if somebody else has it.
    TryLockQueue,
    /// [`Event::Done`].
    UnlockQueue,
    /// [`Event::Listed`].
    List(usize),
    /// [`Event::Live`], [`Event::Dead`] or [`Event::Gone`].
    Probe(usize, Ticket),
    /// Creates and locks the own ticket: [`Event::Done`], or [`Event::Exists`].
    Create(usize, Ticket),
    /// Removes the file of a dead ticket, if that is allowed: [`Event::Done`].
    Sweep(usize, Ticket),
    /// Waits until any one of them has ended: [`Event::Ended`].
    Watch(BTreeSet<(usize, Ticket)>),
    /// Waits until the machine shows no process of the dead holders on the chosen GPUs: [`Event::Done`].
    Clear,
    /// Removes the file of the own ticket, whose lock is kept: [`Event::Done`].
    Remove(usize, Ticket),
    /// Closes the own ticket, which frees its lock: [`Event::Done`].
    Close(usize, Ticket),
    /// The GPUs are held until [`Protocol::give_back`]. Meanwhile [`Protocol::tidy`] may be called.
    Hold,
    /// There is no number left; only a forged ticket can make this so.
    Fail(usize),
    Nothing,
}

/// What came of an [`Effect`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Event {
    Done,
    Busy,
    Exists,
    Listed(Vec<Ticket>),
    Live,
    /// Nobody has its lock; the file is there.
    Dead {
        has_held: bool,
    },
    /// There is no such file.
    Gone,
    Ended(usize, Ticket),
}

impl Protocol {
    /// `count` of `gpus` queues, whose holders may be as many as `slots`.
    pub(super) fn new(gpus: usize, count: usize, slots: u32) -> Self {
        let queues = vec![Queue::default(); gpus];
        Self { count, slots, queues, chosen: Vec::new(), phase: Phase::Locking }
    }

    /// The queues whose GPUs are held.
    pub(super) fn chosen(&self) -> &[usize] {
        &self.chosen
    }

    #[cfg(test)]
    fn own(&self, queue: usize) -> Option<Ticket> {
        self.queues[queue].own
    }

    /// What to do next.
    pub(super) fn effect(&self) -> Effect {
        match self.phase {
            Phase::Locking => Effect::LockQueue,
            Phase::Listing(queue) => Effect::List(queue),
            Phase::Numbering(queue) => {
                let unseen = self.queues[queue].unseen.last();
                Effect::Probe(queue, *unseen.expect("there is one, or the ticket is created"))
            }
            Phase::Tidying(queue, ticket) | Phase::Sweeping(queue, ticket) => {
                Effect::Sweep(queue, ticket)
            }
            Phase::Creating(queue, ticket) => Effect::Create(queue, ticket),
            Phase::Full(queue) => Effect::Fail(queue),
            Phase::Unlocking | Phase::UnlockingSwept => Effect::UnlockQueue,
            Phase::Looking => match self.look() {
                Look::Probe(queue, ticket) => Effect::Probe(queue, ticket),
                Look::Wait(tickets) => Effect::Watch(tickets),
                Look::Free(_) => unreachable!("who is free holds at once"),
            },
            Phase::Removing(queue) => Effect::Remove(queue, self.expect_own(queue)),
            Phase::Closing(queue) => Effect::Close(queue, self.expect_own(queue)),
            Phase::Clearing => Effect::Clear,
            Phase::LockingToSweep => Effect::TryLockQueue,
            Phase::Held => Effect::Hold,
            Phase::Done => Effect::Nothing,
        }
    }

    /// Takes in what came of [`Self::effect`].
    pub(super) fn on(&mut self, event: Event) {
        self.phase = match (self.phase, event) {
            (Phase::Locking, Event::Done) => Phase::Listing(0),
            (Phase::Listing(queue), Event::Listed(mut tickets)) => {
                tickets.sort_unstable();
                self.queues[queue].unseen = tickets;
                self.number(queue)
            }
            (Phase::Numbering(queue), event) => match self.looked_at(queue, &event) {
                Some(dead) => Phase::Tidying(queue, dead),
                None => self.number(queue),
            },
            (Phase::Tidying(queue, _), Event::Done) => self.number(queue),
            (Phase::Creating(queue, ticket), Event::Done) => {
                self.queues[queue].own = Some(ticket);
                if queue + 1 < self.queues.len() {
                    Phase::Listing(queue + 1)
                } else {
                    Phase::Unlocking
                }
            }
            // A file that cannot be removed has the number.
            (Phase::Creating(queue, ticket), Event::Exists) => self.create(queue, ticket.number),
            (Phase::Unlocking, Event::Done) => Phase::Looking,
            (Phase::Looking, Event::Ended(queue, ticket)) => {
                // It may have left its file, which says whose processes may still be on the GPU.
                self.queues[queue].live.remove(&ticket);
                self.queues[queue].unseen.push(ticket);
                Phase::Looking
            }
            (Phase::Looking, event) => {
                let Look::Probe(queue, _) = self.look() else {
                    unreachable!("only a look at a ticket has such an outcome: {event:?}")
                };
                // Without `queue.lock` files are left for those who have it.
                self.looked_at(queue, &event);
                Phase::Looking
            }
            (Phase::Removing(queue), Event::Done) => Phase::Closing(queue),
            (Phase::Closing(queue), Event::Done) => {
                self.queues[queue].own = None;
                self.give_up_surplus()
            }
            (Phase::Clearing, Event::Done) => Phase::Held,
            // It can be tried again, or the next holder will do it.
            (Phase::LockingToSweep, Event::Busy) => Phase::Held,
            (Phase::LockingToSweep, Event::Done) => self.sweep(),
            (Phase::Sweeping(..), Event::Done) => self.sweep(),
            (Phase::UnlockingSwept, Event::Done) => Phase::Held,
            (phase, event) => unreachable!("{event:?} in {phase:?}"),
        };
        if self.phase == Phase::Looking
            && let Look::Free(queues) = self.look()
        {
            self.chosen = queues;
            self.phase = self.give_up_surplus();
        }
    }

    /// Whether [`Self::give_back`] may be called: it sleeps or holds, and is not in the middle of a change.
    pub(super) fn may_give_back(&self) -> bool {
        matches!(self.effect(), Effect::Watch(_) | Effect::Clear | Effect::LockQueue | Effect::Hold)
    }

    /// Gives back what is held, or gives up what is waited for.
    pub(super) fn give_back(&mut self) {
        self.chosen.clear();
        self.phase = self.give_up_surplus();
    }

    /// A holder removes the files of dead ones; nothing else happens to what is held. It is done when it holds again.
    pub(super) fn tidy(&mut self) {
        if self.phase == Phase::Held && self.next_to_sweep().is_some() {
            self.phase = Phase::LockingToSweep;
        }
    }

    /// Whether the GPUs are held, tidying or not.
    #[cfg(test)]
    fn holds(&self) -> bool {
        matches!(
            self.phase,
            Phase::Held | Phase::LockingToSweep | Phase::Sweeping(..) | Phase::UnlockingSwept
        )
    }

    fn expect_own(&self, queue: usize) -> Ticket {
        self.queues[queue].own.expect("it was created before it is given up")
    }

    /// Notes the outcome of a look at the highest unseen ticket. Returns it if its file is of no use any more.
    fn looked_at(&mut self, queue: usize, event: &Event) -> Option<Ticket> {
        let queue = &mut self.queues[queue];
        let ticket = queue.unseen.pop().expect("it was looked at");
        match event {
            Event::Live => {
                queue.live.insert(ticket);
            }
            Event::Dead { has_held: true } => queue.dead.push(ticket),
            Event::Dead { has_held: false } => return Some(ticket),
            Event::Gone => {}
            event => unreachable!("{event:?} of a look at a ticket"),
        }
        None
    }

    /// The number above the highest live one, as soon as that is known.
    fn number(&self, queue: usize) -> Phase {
        let known = &self.queues[queue];
        match known.live.last() {
            Some(highest) => self.create(queue, highest.number),
            None if known.unseen.is_empty() => self.create(queue, 0),
            None => Phase::Numbering(queue),
        }
    }

    fn create(&self, queue: usize, above: u64) -> Phase {
        match above.checked_add(1) {
            Some(number) => Phase::Creating(queue, Ticket { number, slots: self.slots }),
            None => Phase::Full(queue),
        }
    }

    /// Whether enough GPUs are free, what to look at to know, or what to wait for.
    fn look(&self) -> Look {
        let mut free = Vec::new();
        let mut waited_for = BTreeSet::new();
        for (index, queue) in self.queues.iter().enumerate() {
            if let Some(blocking) = blocking(self.slots, &queue.live) {
                waited_for.extend(blocking.into_iter().map(|it| (index, it)));
            } else if let Some(unseen) = queue.unseen.last() {
                return Look::Probe(index, *unseen);
            } else {
                free.push(index);
                if free.len() == self.count {
                    return Look::Free(free);
                }
            }
        }
        Look::Wait(waited_for)
    }

    fn give_up_surplus(&self) -> Phase {
        let surplus = (0..self.queues.len())
            .find(|it| self.queues[*it].own.is_some() && !self.chosen.contains(it));
        match surplus {
            Some(queue) => Phase::Removing(queue),
            None if self.chosen.is_empty() => Phase::Done,
            None => Phase::Clearing,
        }
    }

    fn next_to_sweep(&self) -> Option<(usize, Ticket)> {
        self.chosen.iter().find_map(|it| Some((*it, *self.queues[*it].dead.last()?)))
    }

    fn sweep(&mut self) -> Phase {
        let Some((queue, ticket)) = self.next_to_sweep() else { return Phase::UnlockingSwept };
        self.queues[queue].dead.pop();
        Phase::Sweeping(queue, ticket)
    }
}

enum Look {
    /// These are free, as many as wanted.
    Free(Vec<usize>),
    Probe(usize, Ticket),
    Wait(BTreeSet<(usize, Ticket)>),
}

/// Lower live tickets that keep a ticket from holding as long as all of them live; `None` if it may hold, as far as these go.
fn blocking(slots: u32, lower: &BTreeSet<Ticket>) -> Option<Vec<Ticket>> {
    let strictest = lower.iter().rev().min_by_key(|it| it.slots)?;
    let allowed = slots.min(strictest.slots) as usize;
    if lower.len() < allowed {
        return None;
    }
    // Where the ticket itself is the strictest, any others will do.
    let witness = (strictest.slots < slots).then_some(*strictest);
    let others = lower.iter().rev().copied().filter(|it| Some(*it) != witness);
    Some(witness.into_iter().chain(others).take(allowed).collect())
}

/// How many of the live tickets of a queue, lowest first, may hold.
pub(super) fn holding(live: &[Ticket]) -> usize {
    let mut allowed = usize::MAX;
    for (index, ticket) in live.iter().enumerate() {
        allowed = allowed.min(ticket.slots as usize);
        if index >= allowed {
            return index;
        }
    }
    live.len()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Ticket, blocking, holding};

    fn tickets(of: &[(u64, u32)]) -> BTreeSet<Ticket> {
        of.iter().map(|&(number, slots)| Ticket { number, slots }).collect()
    }

    #[track_caller]
    fn check(slots: u32, lower: &[(u64, u32)], expected: Option<&[u64]>) {
        let numbers = blocking(slots, &tickets(lower))
            .map(|it| it.into_iter().map(|it| it.number).collect::<BTreeSet<_>>());
        assert_eq!(numbers, expected.map(|it| it.iter().copied().collect()), "{lower:?}");
    }

    #[test]
    fn one_slot_waits_for_the_next_lower_ticket_alone() {
        check(1, &[], None);
        check(1, &[(3, 1), (5, 1), (9, 1)], Some(&[9]));
    }

    #[test]
    fn several_slots_wait_for_as_many() {
        check(2, &[(3, 2)], None);
        check(2, &[(3, 2), (5, 2), (9, 2)], Some(&[5, 9]));
    }

    #[test]
    fn the_ticket_that_allows_fewest_is_waited_for() {
        check(3, &[(3, 1), (5, 3)], Some(&[3]));
        check(3, &[(3, 2), (5, 3), (6, 3)], Some(&[3, 6]));
        check(1, &[(3, 3), (5, 3)], Some(&[5]));
    }

    #[test]
    fn holders_are_as_many_as_all_of_them_allow() {
        let check = |of: &[(u64, u32)], expected| {
            let live: Vec<_> = tickets(of).into_iter().collect();
            assert_eq!(holding(&live), expected, "{of:?}");
        };
        check(&[], 0);
        check(&[(1, 1), (2, 1)], 1);
        check(&[(1, 2), (2, 2), (3, 2)], 2);
        check(&[(1, 2), (2, 1), (3, 2)], 1);
        check(&[(1, 1), (2, 2)], 1);
    }
}
