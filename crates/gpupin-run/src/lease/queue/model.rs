//! Every order in which requests can meet, with a crash at every step.
//!
//! The requests run the [`Protocol`] itself; only the files are modelled. A process that dies closes its files one after another, in any
//! order. Whoever waits may give up. `stateright` visits every state that can be reached.

use std::collections::{BTreeMap, BTreeSet};

use stateright::{Checker as _, Model, Property};

use super::{Effect, Event, Protocol, Ticket};

/// Which requests meet.
struct Meeting {
    requests: Vec<Asked>,
    /// Whether everybody may remove everybody's files; not in a directory that several users share.
    one_user: bool,
}

struct Asked {
    gpus: Vec<usize>,
    count: usize,
    slots: u32,
    /// How it may end other than well.
    crashes: bool,
    gives_up: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    queue_lock: Option<usize>,
    files: BTreeMap<(usize, u64), File>,
    clients: Vec<Client>,
    /// What must never happen, as soon as it did.
    broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct File {
    owner: usize,
    ticket: Ticket,
    has_held: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Client {
    protocol: Protocol,
    /// GPUs whose own ticket is open and so locked.
    open: BTreeMap<usize, Ticket>,
    has_crashed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    Step(usize),
    /// A holder removes the files of dead ones, or never comes to it.
    Tidy(usize),
    GiveUp(usize),
    Crash(usize),
    /// The kernel closes one file of a dead process.
    CloseQueueLock(usize),
    Close(usize, usize),
}

impl Meeting {
    /// What comes of the next effect of a request; `None` while the kernel lets it sleep.
    fn outcome(&self, state: &State, client: usize) -> Option<Event> {
        let gpu = |queue: usize| self.requests[client].gpus[queue];
        let file = |queue, ticket: Ticket| state.files.get(&(gpu(queue), ticket.number));
        Some(match state.clients[client].protocol.effect() {
            Effect::LockQueue if state.queue_lock.is_some() => return None,
            Effect::TryLockQueue if state.queue_lock.is_some() => Event::Busy,
            Effect::List(queue) => {
                let here = state.files.iter().filter(|it| it.0.0 == gpu(queue));
                Event::Listed(here.map(|it| it.1.ticket).collect())
            }
            Effect::Probe(queue, ticket) => match file(queue, ticket) {
                None => Event::Gone,
                Some(it) if state.is_live(gpu(queue), it.ticket) => Event::Live,
                Some(it) => Event::Dead { has_held: it.has_held },
            },
            Effect::Create(queue, ticket) if file(queue, ticket).is_some() => Event::Exists,
            Effect::Watch(tickets) => {
                let ended = tickets.into_iter().find(|it| !state.is_live(gpu(it.0), it.1))?;
                Event::Ended(ended.0, ended.1)
            }
            Effect::Nothing => return None,
            Effect::Fail(_) => unreachable!("nobody forges tickets here"),
            _ => Event::Done,
        })
    }

    fn step(&self, state: &mut State, client: usize, event: Event) {
        let gpu = |queue: usize| self.requests[client].gpus[queue];
        let effect = state.clients[client].protocol.effect();
        match (&effect, &event) {
            (Effect::LockQueue | Effect::TryLockQueue, Event::Done) => {
                state.queue_lock = Some(client);
            }
            (Effect::UnlockQueue, _) => state.queue_lock = None,
            (Effect::Create(queue, ticket), Event::Done) => {
                let gpu = gpu(*queue);
                if state.waiting_or_holding(gpu).iter().any(|it| it.number >= ticket.number) {
                    state.broken = Some("a number is not above all live ones");
                }
                let file = File { owner: client, ticket: *ticket, has_held: false };
                state.files.insert((gpu, ticket.number), file);
                state.clients[client].open.insert(gpu, *ticket);
            }
            (Effect::Sweep(queue, ticket), _) => {
                let key = (gpu(*queue), ticket.number);
                let may = |it: &File| self.one_user || it.owner == client;
                // As on files: whether it is dead is looked up again.
                if state.files.get(&key).is_some_and(|it| may(it) && !state.is_live(key.0, *ticket))
                {
                    state.files.remove(&key);
                }
            }
            (Effect::Remove(queue, ticket), _) => {
                let removed = state.files.remove(&(gpu(*queue), ticket.number));
                if removed.is_none_or(|it| it.owner != client) {
                    state.broken = Some("somebody else's live ticket was removed");
                }
            }
            (Effect::Close(queue, _), _) => {
                state.clients[client].open.remove(&gpu(*queue));
            }
            _ => {}
        }
        let protocol = &mut state.clients[client].protocol;
        if effect == Effect::Hold {
            protocol.give_back();
            return;
        }
        protocol.on(event);
        if protocol.effect() == Effect::Hold {
            for queue in protocol.chosen() {
                let number = protocol.own(*queue).unwrap().number;
                if let Some(it) = state.files.get_mut(&(gpu(*queue), number)) {
                    it.has_held = true;
                }
            }
        }
    }

    /// The tickets of live clients that hold a GPU.
    fn holders(&self, state: &State, gpu: usize) -> Vec<Ticket> {
        let holds = |(client, asked): (&Client, &Asked)| {
            let queue = asked.gpus.iter().position(|it| *it == gpu)?;
            let holds = !client.has_crashed
                && client.protocol.holds()
                && client.protocol.chosen().contains(&queue);
            client.protocol.own(queue).filter(|_| holds)
        };
        state.clients.iter().zip(&self.requests).filter_map(holds).collect()
    }

    fn gpus(&self) -> BTreeSet<usize> {
        self.requests.iter().flat_map(|it| it.gpus.iter().copied()).collect()
    }
}

impl State {
    /// Whether the lock of a ticket is held, its file removed or not.
    fn is_live(&self, gpu: usize, ticket: Ticket) -> bool {
        self.clients.iter().any(|it| it.open.get(&gpu) == Some(&ticket))
    }

    /// Live tickets whose files are there.
    fn waiting_or_holding(&self, gpu: usize) -> Vec<Ticket> {
        let here = self.files.range((gpu, 0)..=(gpu, u64::MAX)).map(|it| it.1.ticket);
        here.filter(|it| self.is_live(gpu, *it)).collect()
    }

    /// Those, and the ones that are given back just now: the next wakes when their locks are free.
    fn locked(&self, gpu: usize) -> Vec<Ticket> {
        self.clients.iter().filter_map(|it| it.open.get(&gpu).copied()).collect()
    }
}

/// Whether a ticket may hold, given all tickets.
fn may_hold(ticket: Ticket, all: &[Ticket]) -> bool {
    let lower: Vec<_> = all.iter().filter(|it| it.number < ticket.number).collect();
    let allowed = lower.iter().map(|it| it.slots).min().unwrap_or(ticket.slots);
    lower.len() < ticket.slots.min(allowed) as usize
}

impl Model for Meeting {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let client = |it: &Asked| Client {
            protocol: Protocol::new(it.gpus.len(), it.count, it.slots),
            open: BTreeMap::new(),
            has_crashed: false,
        };
        let clients = self.requests.iter().map(client).collect();
        vec![State { queue_lock: None, files: BTreeMap::new(), clients, broken: None }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (index, (client, asked)) in state.clients.iter().zip(&self.requests).enumerate() {
            if client.has_crashed {
                actions.extend(client.open.keys().map(|gpu| Action::Close(index, *gpu)));
                if state.queue_lock == Some(index) {
                    actions.push(Action::CloseQueueLock(index));
                }
                continue;
            }
            if self.outcome(state, index).is_some() {
                actions.push(Action::Step(index));
            }
            if asked.gives_up
                && client.protocol.may_give_back()
                && client.protocol.effect() != Effect::Hold
            {
                actions.push(Action::GiveUp(index));
            }
            let mut tidied = client.protocol.clone();
            tidied.tidy();
            if tidied != client.protocol {
                actions.push(Action::Tidy(index));
            }
            if asked.crashes && client.protocol.effect() != Effect::Nothing {
                actions.push(Action::Crash(index));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Step(client) => {
                let event = self.outcome(&state, client)?;
                self.step(&mut state, client, event);
            }
            Action::Tidy(client) => state.clients[client].protocol.tidy(),
            Action::GiveUp(client) => state.clients[client].protocol.give_back(),
            Action::Crash(client) => state.clients[client].has_crashed = true,
            Action::CloseQueueLock(_) => state.queue_lock = None,
            Action::Close(client, gpu) => {
                state.clients[client].open.remove(&gpu);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("nothing is broken", |_, state| state.broken.is_none()),
            Property::<Self>::always("never more holders than slots", |meeting, state| {
                meeting.gpus().into_iter().all(|gpu| {
                    let holders = meeting.holders(state, gpu);
                    holders.iter().all(|it| holders.len() <= it.slots as usize)
                })
            }),
            Property::<Self>::always("first come first served", |meeting, state| {
                meeting.gpus().into_iter().all(|gpu| {
                    let all = state.waiting_or_holding(gpu);
                    meeting.holders(state, gpu).into_iter().all(|it| may_hold(it, &all))
                })
            }),
            Property::<Self>::always("nobody who may hold sleeps", |meeting, state| {
                let mut sleepers = (0..state.clients.len()).filter(|it| {
                    let protocol = &state.clients[*it].protocol;
                    matches!(protocol.effect(), Effect::Watch(_))
                        && !state.clients[*it].has_crashed
                        && meeting.outcome(state, *it).is_none()
                });
                sleepers.all(|it| {
                    let gpus = meeting.requests[it].gpus.iter().enumerate();
                    let free = gpus.filter(|(queue, gpu)| {
                        let own = state.clients[it].protocol.own(*queue);
                        own.is_some_and(|own| may_hold(own, &state.locked(**gpu)))
                    });
                    free.count() < meeting.requests[it].count
                })
            }),
            Property::<Self>::always("somebody can always go on", |meeting, state| {
                let is_over = |it: &Client| {
                    if it.has_crashed {
                        it.open.is_empty()
                    } else {
                        it.protocol.effect() == Effect::Nothing
                    }
                };
                let mut actions = Vec::new();
                meeting.actions(state, &mut actions);
                state.clients.iter().all(is_over)
                    || actions.iter().any(|it| !matches!(it, Action::GiveUp(_) | Action::Crash(_)))
            }),
            Property::<Self>::sometimes("all end well", |_, state| {
                state.files.is_empty()
                    && state.clients.iter().all(|it| it.protocol.effect() == Effect::Nothing)
            }),
            Property::<Self>::sometimes("somebody waits", |meeting, state| {
                (0..state.clients.len()).any(|it| {
                    matches!(state.clients[it].protocol.effect(), Effect::Watch(_))
                        && meeting.outcome(state, it).is_none()
                })
            }),
        ]
    }
}

fn asked(slots: u32) -> Asked {
    Asked { gpus: vec![0], count: 1, slots, crashes: true, gives_up: false }
}

fn of(gpus: &[usize], count: usize) -> Asked {
    Asked { gpus: gpus.to_vec(), count, slots: 1, crashes: false, gives_up: false }
}

#[track_caller]
fn check(requests: &[Asked]) {
    for one_user in [true, false] {
        let requests = requests.iter().map(|it| Asked { gpus: it.gpus.clone(), ..*it }).collect();
        let checker = Meeting { requests, one_user }.checker().threads(2).spawn_bfs().join();
        checker.assert_properties();
    }
}

#[test]
fn one_slot_is_handed_over_through_every_crash() {
    check(&[asked(1), asked(1), asked(1)]);
}

#[test]
fn two_slots_are_handed_over_through_every_crash() {
    check(&[asked(2), asked(2), asked(2)]);
}

#[test]
fn different_numbers_of_slots_are_all_kept() {
    check(&[asked(2), asked(1), asked(2)]);
}

#[test]
fn two_slots_and_four_requests_leave_nobody_asleep() {
    let calm = || Asked { crashes: false, ..asked(2) };
    check(&[calm(), calm(), calm(), calm()]);
}

#[test]
fn whoever_gives_up_lets_the_next_go_on() {
    let impatient = || Asked { gives_up: true, crashes: false, ..asked(1) };
    check(&[asked(1), impatient(), impatient()]);
}

#[test]
fn several_gpus_at_once_are_no_deadlock() {
    check(&[of(&[0, 1], 2), of(&[1, 0], 2), of(&[1], 1)]);
    check(&[Asked { crashes: true, ..of(&[0, 1], 2) }, of(&[1, 0], 2)]);
}

#[test]
fn twins_are_taken_as_they_become_free() {
    check(&[of(&[0, 1], 1), of(&[0, 1], 1), of(&[1], 1)]);
    check(&[of(&[0, 1, 2], 2), of(&[2, 1], 2), of(&[0], 1)]);
}
