use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use gpupin_policy::GpuUuid;
use hyper::body::Bytes;
use tokio::sync::broadcast::{self, Receiver, Sender};

use crate::moment::Moment;

/// How many moments wait for a client whose connection is full.
pub(super) const BACKLOG: usize = 64;

/// Where moments come in and go to everybody.
#[derive(Debug)]
pub(super) struct Hub(Mutex<State>);

#[derive(Debug)]
struct State {
    latest: Option<Arc<Published>>,
    /// How often the driver reported which error on which GPU.
    xids: BTreeMap<(GpuUuid, u64), u64>,
    /// `None` at the end.
    sender: Option<Sender<Arc<Published>>>,
}

/// A moment as clients get it.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) moment: Arc<Moment>,
    pub(super) json: Bytes,
    /// By a clock that nobody sets.
    pub(super) arrived: Instant,
}

impl Published {
    /// How long ago the machine was asked.
    pub(super) fn age(&self) -> Duration {
        self.arrived.elapsed() + self.took()
    }

    /// How long the machine took to answer.
    pub(super) fn took(&self) -> Duration {
        Duration::from_micros(self.moment.took)
    }
}

impl Default for Hub {
    fn default() -> Self {
        let sender = Some(Sender::new(BACKLOG));
        Self(Mutex::new(State { latest: None, xids: BTreeMap::new(), sender }))
    }
}

impl Hub {
    pub(super) fn publish(&self, moment: Arc<Moment>) {
        let json = serde_json::to_vec(&*moment).expect("a moment has only keys that are text");
        let published = Arc::new(Published { json: json.into(), arrived: Instant::now(), moment });
        let mut state = self.state();
        for xid in &published.moment.xids {
            *state.xids.entry((xid.gpu.clone(), xid.number)).or_default() += 1;
        }
        state.latest = Some(Arc::clone(&published));
        // An error is that nobody listens.
        drop(state.sender.as_ref().map(|it| it.send(published)));
    }

    pub(super) fn latest(&self) -> Option<Arc<Published>> {
        self.state().latest.clone()
    }

    /// How often the driver reported which error on which GPU since the service was started.
    pub(super) fn xids(&self) -> BTreeMap<(GpuUuid, u64), u64> {
        self.state().xids.clone()
    }

    /// The last moment and all that follow, none twice and none left out.
    pub(super) fn listen(&self) -> (Option<Arc<Published>>, Receiver<Arc<Published>>) {
        let state = self.state();
        let receiver = state.sender.as_ref().map_or_else(
            // Its sender is gone already.
            || broadcast::channel(1).1,
            Sender::subscribe,
        );
        (state.latest.clone(), receiver)
    }

    /// Lets everybody who listens come to an end.
    pub(super) fn close(&self) {
        self.state().sender = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
