//! Keeps what is told, on a thread of its own: a disk may be slow, and deleting what is too old may take seconds.
//!
//! Who asks for what is now never waits for that. Moments for which there is no room are dropped, counted and told.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use gpupin_device::Kind;
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    alarms::{Alert, Change},
    history::{Event, Retention, Store, StoreState},
    moment::Moment,
};

/// How many moments wait for the disk: some minutes of them.
const BACKLOG: usize = 256;

/// How many events wait for a disk that works. The oldest go first.
const EVENTS: usize = 1000;

/// Whether what is told is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub(super) enum Recording {
    /// Nobody wants it.
    #[default]
    Off,
    Keeping,
    /// It is tried again.
    Failing {
        why: String,
    },
    /// Somebody has to do something, and start the service again.
    Refused {
        why: String,
    },
}

/// What is known of that by all.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<State>);

#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) recording: Recording,
    /// Moments that were not kept since the service was started.
    pub(super) dropped: u64,
}

impl Kept {
    pub(super) fn state(&self) -> State {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where moments go that are to be kept.
pub(super) struct Keeper {
    kept: Arc<Kept>,
    to: Option<SyncSender<Told>>,
    /// What happened at moments for which there was no room.
    events: Vec<Event>,
    news: UnboundedSender<String>,
    is_full: bool,
}

struct Told {
    moment: Arc<Moment>,
    events: Vec<Event>,
}

impl Keeper {
    /// Keeps figures of this kind in a history, if there is to be one. What somebody should know is told as `news`.
    pub(super) fn start(
        path: Option<PathBuf>,
        kind: Kind,
        news: UnboundedSender<String>,
    ) -> io::Result<Self> {
        let kept = Arc::new(Kept::default());
        let to = path.map(|path| {
            let (to, told) = sync_channel(BACKLOG);
            kept.lock().recording = Recording::Keeping;
            let (kept, news) = (Arc::clone(&kept), news.clone());
            let work = move || match Store::open(&path, kind, &Retention::default()) {
                Ok(store) => write(store, &told, &kept, &news),
                Err(error) => {
                    let why = match std::error::Error::source(&error) {
                        Some(source) => format!("{error}: {source}"),
                        None => error.to_string(),
                    };
                    say(&news, format!("no history is kept: {why}"));
                    let mut state = kept.lock();
                    state.recording = Recording::Refused { why };
                    state.dropped += told.try_iter().count() as u64;
                }
            };
            thread::Builder::new().name("keep".to_owned()).spawn(work).map(|_| to)
        });
        Ok(Self { kept, to: to.transpose()?, events: Vec::new(), news, is_full: false })
    }

    pub(super) fn kept(&self) -> Arc<Kept> {
        Arc::clone(&self.kept)
    }

    /// Keeps a moment and what changed at it, as soon as the disk lets it. Never waits.
    pub(super) fn keep(&mut self, moment: &Arc<Moment>, changes: Vec<Change>) {
        let Some(to) = &self.to else { return };
        self.events.extend(changes.into_iter().map(|it| event(it, moment.at)));
        let events = std::mem::take(&mut self.events);
        match to.try_send(Told { moment: Arc::clone(moment), events }) {
            Ok(()) => {
                if std::mem::take(&mut self.is_full) {
                    let dropped = self.kept.lock().dropped;
                    say(
                        &self.news,
                        format!("the history is kept again; {dropped} moments were dropped so far"),
                    );
                }
            }
            Err(TrySendError::Full(told)) => {
                self.events = told.events;
                forget(&mut self.events);
                self.kept.lock().dropped += 1;
                if !std::mem::replace(&mut self.is_full, true) {
                    say(
                        &self.news,
                        "the disk is too slow for the history: moments are dropped".to_owned(),
                    );
                }
            }
            // It was refused, which was told.
            Err(TrySendError::Disconnected(_)) => {
                self.kept.lock().dropped += 1;
            }
        }
    }
}

/// Writes what comes until nothing can come any more.
fn write(mut store: Store, told: &Receiver<Told>, kept: &Kept, news: &UnboundedSender<String>) {
    let mut events = Vec::new();
    let mut was_failing = false;
    // Of the store's own count, which begins anew when it works again.
    let mut counted = 0;
    loop {
        let recording = match store.state() {
            StoreState::Keeping => {
                counted = 0;
                Recording::Keeping
            }
            StoreState::Failing { why, dropped, .. } => {
                kept.lock().dropped += dropped.saturating_sub(counted);
                counted = *dropped;
                Recording::Failing { why: why.clone() }
            }
        };
        match (&recording, was_failing) {
            (Recording::Failing { why }, false) => {
                say(news, format!("the history cannot be written: {why}"));
            }
            (Recording::Keeping, true) => {
                let dropped = kept.lock().dropped;
                say(
                    news,
                    format!("the history is kept again; {dropped} moments were dropped so far"),
                );
            }
            _ => {}
        }
        was_failing = matches!(recording, Recording::Failing { .. });
        kept.lock().recording = recording;
        let Ok(Told { moment, events: new }) = told.recv() else { return };
        store.write(&moment);
        events.extend(new);
        events.retain(|it| !store.note(it));
        forget(&mut events);
    }
}

fn forget(events: &mut Vec<Event>) {
    events.drain(..events.len().saturating_sub(EVENTS));
}

/// An error is that the service ends, and nobody is left to be told.
fn say(news: &UnboundedSender<String>, text: String) {
    drop(news.send(text));
}

fn event(change: Change, at: u64) -> Event {
    let of = |kind: &str, alert: Alert| Event {
        at,
        kind: kind.to_owned(),
        gpu: alert.gpu.clone(),
        detail: serde_json::to_value(alert).expect("its keys are text"),
    };
    match change {
        Change::Raised(it) => of("alert-raised", it),
        Change::Cleared(it) => of("alert-cleared", it),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc::sync_channel};

    use tokio::sync::mpsc;

    use super::{Keeper, Kept};
    use crate::{
        alarms::{Alarms, Change},
        moment::{Moment, VERSION},
    };

    fn moment(at: u64) -> Arc<Moment> {
        let gap = Some("nobody asked".to_owned());
        let (took, machine, leases, xids) = (0, None, None, Vec::new());
        Arc::new(Moment { version: VERSION, at, took, machine, gap, leases, xids })
    }

    /// That the machine is silent.
    fn change() -> Vec<Change> {
        let mut alarms = Alarms::default();
        alarms.hear(&moment(0));
        alarms.hear(&moment(5000))
    }

    #[test]
    fn moments_that_the_disk_does_not_take_are_counted_and_told_once_and_their_events_come_later() {
        let (to, told) = sync_channel(2);
        let (news, mut heard) = mpsc::unbounded_channel();
        let kept = Arc::new(Kept::default());
        let mut keeper = Keeper { kept, to: Some(to), events: Vec::new(), news, is_full: false };
        (0..3).for_each(|at| keeper.keep(&moment(at), Vec::new()));
        keeper.keep(&moment(3), change());
        assert_eq!(keeper.kept().state().dropped, 2);
        assert_eq!(told.try_iter().map(|it| it.moment.at).collect::<Vec<_>>(), [0, 1]);
        keeper.keep(&moment(4), Vec::new());
        let next = told.recv().unwrap();
        let events: Vec<_> = next.events.iter().map(|it| (it.at, it.kind.as_str())).collect();
        assert_eq!((next.moment.at, events), (4, vec![(3, "alert-raised")]));
        let news: Vec<_> = std::iter::from_fn(|| heard.try_recv().ok()).collect();
        assert_eq!(
            news,
            [
                "the disk is too slow for the history: moments are dropped",
                "the history is kept again; 2 moments were dropped so far",
            ]
        );
    }
}
