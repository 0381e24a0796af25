//! The one reader of the driver: looks at the machine again and again, and tells everybody who listens.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use gpupin_device::{Machine, Silence};
use gpupin_policy::Policy;
use gpupin_run::lease::Directory;

use crate::{
    moment::{self, Moment, VERSION, XidNow, milliseconds},
    people::People,
    snapshot,
};

/// What is looked at, and how often.
#[derive(Debug)]
pub struct Setting {
    pub period: Duration,
    /// Whose GPUs are called meant and forbidden.
    pub policy: Policy,
    /// Where `proc` and `etc` lie.
    pub root: PathBuf,
    /// Where leases lie; without it nothing is known of them.
    pub leases: Option<Directory>,
}

/// How often the machine is looked at where nothing else is said.
pub const PERIOD: Duration = Duration::from_secs(1);

/// Looking may take this share of the time; where the driver is slower than that, it is asked less often.
pub(crate) const SHARE: u32 = 10;

/// How many moments wait for somebody who does not fetch them. Who is later misses some.
const BACKLOG: usize = 64;

/// How long the driver is asked to wait for an error at a time.
const XID_WAIT: Duration = Duration::from_millis(500);

/// Threads that look at the machine until this is dropped.
#[derive(Debug)]
pub struct Sampler {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    latest: Mutex<Option<Arc<Moment>>>,
    listeners: Mutex<Vec<SyncSender<Arc<Moment>>>>,
    xids: Mutex<Vec<XidNow>>,
    is_over: AtomicBool,
}

impl Sampler {
    /// Starts looking. An error is that no thread was had.
    pub fn start(machine: Arc<dyn Machine>, setting: Arc<Setting>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        {
            let (machine, shared) = (Arc::clone(&machine), Arc::clone(&shared));
            let xids = move || watch_xids(&*machine, &shared);
            threads.push(thread::Builder::new().name("hear the driver".to_owned()).spawn(xids)?);
        }
        let look = {
            let shared = Arc::clone(&shared);
            move || look(&*machine, &setting, &shared)
        };
        threads.push(thread::Builder::new().name("look at the GPUs".to_owned()).spawn(look)?);
        Ok(Self { shared, threads })
    }

    /// Every moment from now on. Who does not fetch them misses some, and can tell by their times.
    pub fn listen(&self) -> Receiver<Arc<Moment>> {
        let (send, receive) = sync_channel(BACKLOG);
        self.shared.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(send);
        receive
    }

    /// The last moment.
    pub fn latest(&self) -> Option<Arc<Moment>> {
        self.shared.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A panic was reported by its hook.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn tell(&self, moment: &Arc<Moment>) {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(moment));
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|it| {
            !matches!(it.try_send(Arc::clone(moment)), Err(TrySendError::Disconnected(_)))
        });
    }
}

fn look(machine: &dyn Machine, setting: &Setting, shared: &Shared) {
    let mut people = People::new(&setting.root);
    let mut due = Instant::now();
    while !shared.is_over() {
        let start = Instant::now();
        let xids = std::mem::take(&mut *shared.xids.lock().unwrap_or_else(PoisonError::into_inner));
        let moment = moment(machine, setting, &mut people, xids);
        let took = start.elapsed();
        shared.tell(&Arc::new(Moment { took: microseconds(took), ..moment }));
        // Late moments are left out, not made up for: a suspended machine must not cause a burst.
        due = (due + setting.period).max(Instant::now()).max(start + took * SHARE);
        while !shared.is_over() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
        }
    }
}

/// Looks once.
pub fn once(machine: &dyn Machine, setting: &Setting) -> Moment {
    let start = Instant::now();
    let moment = moment(machine, setting, &mut People::new(&setting.root), Vec::new());
    Moment { took: microseconds(start.elapsed()), ..moment }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn moment(
    machine: &dyn Machine,
    setting: &Setting,
    people: &mut People,
    xids: Vec<XidNow>,
) -> Moment {
    let at = milliseconds(SystemTime::now());
    let (mut snapshot, gap) = match snapshot::next(machine, &setting.policy, &setting.root, people)
    {
        Ok(snapshot) => (Some(snapshot), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let leases = setting.leases.as_ref().and_then(|it| moment::leases(it, snapshot.as_mut()));
    Moment { version: VERSION, at, took: 0, machine: snapshot, gap, leases, xids }
}

fn watch_xids(machine: &dyn Machine, shared: &Shared) {
    while !shared.is_over() {
        match machine.next_xid(XID_WAIT) {
            Ok(None) => {}
            Ok(Some(it)) => {
                let xid =
                    XidNow { at: milliseconds(SystemTime::now()), gpu: it.gpu, number: it.number };
                shared.xids.lock().unwrap_or_else(PoisonError::into_inner).push(xid);
            }
            // It has none to tell.
            Err(Silence::Unsupported) => return,
            // Whatever is wrong, the other thread tells it.
            Err(_) => thread::park_timeout(PERIOD),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, sync::Arc, time::Duration};

    use gpupin_device::scene::{BUILT_IN, SceneMachine};
    use gpupin_policy::Policy;

    use super::{Receiver, Sampler, Setting};
    use crate::moment::Moment;

    const GPU: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";

    fn change(directory: &Path, scene: &str) {
        fs::write(directory.join("new"), scene).unwrap();
        fs::rename(directory.join("new"), directory.join("scene.toml")).unwrap();
    }

    /// The first moment that is as wanted.
    #[track_caller]
    fn wait_for(
        moments: &Receiver<Arc<Moment>>,
        mut wanted: impl FnMut(&Moment) -> bool,
    ) -> Arc<Moment> {
        let mut last = None;
        for _ in 0..3000 {
            let moment = moments.recv_timeout(Duration::from_mins(1)).unwrap();
            if wanted(&moment) {
                return moment;
            }
            last = Some(moment);
        }
        panic!("it never came; the last was {last:#?}");
    }

    #[test]
    fn what_happens_to_a_machine_is_told_and_a_silent_one_is_a_gap() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let (_, healthy) = BUILT_IN.iter().find(|it| it.0 == "mixed").unwrap();
        change(directory, healthy);
        let machine = Arc::new(SceneMachine::open(directory).unwrap());
        let setting = Setting {
            period: Duration::from_millis(5),
            policy: Policy::default(),
            root: "/".into(),
            leases: None,
        };
        let sampler = Sampler::start(machine, Arc::new(setting)).unwrap();
        let moments = sampler.listen();
        let moment = wait_for(&moments, |it| it.machine.is_some());
        assert_eq!(moment.gpus().len(), 2);
        assert_eq!(moment.leases, None, "nothing was asked about leases");
        // Who asks for errors hears only what comes after.
        let mut xids = String::new();
        let moment = wait_for(&moments, |it| {
            xids += "79, ";
            change(directory, &healthy.replacen("fans =", &format!("xids = [{xids}]\nfans ="), 1));
            !it.xids.is_empty()
        });
        assert_eq!(moment.xids[0].number, 79);

        let fault = "[[fault]]\nfunction = 'nvmlDeviceGetCount'\nreturn = 'unknown'\n";
        change(directory, &format!("{healthy}\n{fault}"));
        let gap = wait_for(&moments, |it| it.machine.is_none());
        assert!(gap.gap.as_ref().unwrap().contains("did not answer"), "{gap:?}");
        assert!(gap.gpus().is_empty());

        // The driver comes back and numbers the GPUs anew.
        let mut blocks: Vec<_> = healthy.split("[[gpu]]").collect();
        let count = blocks.len();
        blocks.swap(count - 1, count - 2);
        change(directory, &blocks.join("[[gpu]]"));
        let moment = wait_for(&moments, |it| it.machine.is_some());
        let renumbered = moment.gpus().iter().find(|it| it.uuid.as_str() == GPU).unwrap();
        assert_eq!((renumbered.index, renumbered.name.as_str()), (0, "RTX 3090"));
        assert!(sampler.latest().unwrap().at >= moment.at);
        let json = serde_json::to_string(&*moment).unwrap();
        assert_eq!(serde_json::from_str::<Moment>(&json).unwrap(), *moment);
    }
}
