use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use gpupin_device::Kind;
use gpupin_policy::GpuUuid;
use hyper::body::Bytes;
use serde_json::json;
use tokio::sync::broadcast::{self, Receiver, Sender};

use super::routes::VERSION;
use crate::{
    alarms::{Alarms, Alert, Change},
    moment::Moment,
};

/// How many moments wait for a client whose connection is full.
pub(super) const BACKLOG: usize = 64;

/// Where moments come in and go to everybody.
#[derive(Debug)]
pub(super) struct Hub {
    /// Of what is told, also where the machine is silent.
    kind: Kind,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    latest: Option<Arc<Published>>,
    /// How often the driver reported which error on which GPU.
    xids: BTreeMap<(GpuUuid, u64), u64>,
    alarms: Alarms,
    /// `None` at the end.
    sender: Option<Sender<Arc<Published>>>,
}

/// A moment as clients get it.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) moment: Arc<Moment>,
    pub(super) json: Bytes,
    pub(super) alerts: Arc<Alerts>,
    /// By a clock that nobody sets.
    pub(super) arrived: Instant,
}

/// What somebody should look at, by a moment.
#[derive(Debug)]
pub(super) struct Alerts {
    /// Another one as soon as they are others, or say something else.
    pub(super) number: u64,
    pub(super) active: Vec<Alert>,
}

impl Alerts {
    /// Those after a moment at which `active` are so.
    fn next(last: Option<&Published>, active: Vec<Alert>) -> Self {
        let Some(last) = last.map(|it| &it.alerts) else { return Self { number: 1, active } };
        let said = |it: &[Alert]| -> Vec<(String, String)> {
            it.iter().map(|it| (it.id.clone(), it.text.clone())).collect()
        };
        let is_same = said(&last.active) == said(&active);
        Self { number: last.number + u64::from(!is_same), active }
    }
}

impl Published {
    /// The alerts as JSON.
    pub(super) fn alerts(&self, kind: Kind) -> String {
        let (at, alerts) = (self.moment.at, &self.alerts.active);
        json!({ "version": VERSION, "kind": kind, "at": at, "alerts": alerts }).to_string()
    }

    /// How long ago the machine was asked.
    pub(super) fn age(&self) -> Duration {
        self.arrived.elapsed() + self.took()
    }

    /// How long the machine took to answer.
    pub(super) fn took(&self) -> Duration {
        Duration::from_micros(self.moment.took)
    }
}

impl Hub {
    pub(super) fn new(kind: Kind) -> Self {
        let sender = Some(Sender::new(BACKLOG));
        let (xids, alarms) = (BTreeMap::new(), Alarms::default());
        Self { kind, state: Mutex::new(State { latest: None, xids, alarms, sender }) }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Tells everybody, and says which alerts begin and end.
    pub(super) fn publish(&self, moment: Arc<Moment>) -> Vec<Change> {
        let json = serde_json::to_vec(&*moment).expect("a moment has only keys that are text");
        let mut state = self.state();
        let mut changes = state.alarms.hear(&moment);
        for change in &mut changes {
            let (Change::Raised(alert) | Change::Cleared(alert)) = change;
            self.mark(alert);
        }
        let mut active: Vec<_> = state.alarms.active().into_iter().cloned().collect();
        for alert in &mut active {
            self.mark(alert);
        }
        let alerts = Arc::new(Alerts::next(state.latest.as_deref(), active));
        let arrived = Instant::now();
        let published = Arc::new(Published { json: json.into(), alerts, arrived, moment });
        for xid in &published.moment.xids {
            *state.xids.entry((xid.gpu.clone(), xid.number)).or_default() += 1;
        }
        state.latest = Some(Arc::clone(&published));
        // An error is that nobody listens.
        drop(state.sender.as_ref().map(|it| it.send(published)));
        changes
    }

    /// A machine that is silent does not say that it is simulated.
    fn mark(&self, alert: &mut Alert) {
        alert.simulated |= self.kind != Kind::Measured;
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
