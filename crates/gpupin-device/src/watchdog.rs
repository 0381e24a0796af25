//! A driver that hangs must not hang whoever asks it.
//!
//! Every question is asked on a thread of its own, and its answer is waited for only so long. What does not come is told as silence,
//! with the function of the driver that has not returned. A question that hangs is not asked again before it has returned, and while one
//! hangs the others are waited for less long, because a driver mostly hangs as a whole.
//!
//! Out of scope: a thread that hangs in the kernel and cannot be interrupted (state `D`). What there is to say is said, but the kernel
//! lets a process end only when all its threads have.

use std::{
    cell::RefCell,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use gpupin_policy::{GpuUuid, Inventory};

use crate::{
    answer::{Answer, Silence},
    kind::Kind,
    machine::{Accounted, Driver, GpuStatus, Machine, MachineError, Unreadable, Usage, Xid},
};

/// A machine whose answers are waited for only so long.
#[derive(Debug)]
pub struct Watchdog {
    kind: Kind,
    /// Only dropping takes it out.
    machine: Option<Arc<dyn Machine>>,
    /// How long an answer is waited for.
    limit: Duration,
    threads: Threads,
}

/// How long an answer is waited for while another question hangs.
const WHILE_ONE_HANGS: Duration = Duration::from_secs(1);

/// Threads that ask, and questions that have not returned.
#[derive(Default)]
struct Threads {
    idle: Mutex<Vec<Sender<Job>>>,
    hanging: Mutex<Vec<Hanging>>,
}

type Job = Box<dyn FnOnce() + Send>;

/// A question, by its name and the GPU that it is about.
type Question = (&'static str, Option<GpuUuid>);

/// A question that was given up.
struct Hanging {
    question: Question,
    waited: Duration,
    calls: Calls,
    has_returned: Arc<AtomicBool>,
}

/// The function of the driver that a thread has called last.
type Calls = Arc<Mutex<Option<String>>>;

/// No answer.
struct Unanswered {
    function: Option<String>,
    /// `None` if the thread that asked died.
    waited: Option<Duration>,
}

thread_local! {
    static CALLS: RefCell<Option<Calls>> = const { RefCell::new(None) };
}

/// Notes which function of the driver is called next, for whoever waits for the answer.
pub(crate) fn calling(function: &str) {
    CALLS.with_borrow(|calls| {
        if let Some(calls) = calls {
            *calls.lock().unwrap_or_else(PoisonError::into_inner) = Some(function.to_owned());
        }
    });
}

impl Watchdog {
    /// Waits up to `limit` for each answer of a machine.
    pub fn new(machine: Box<dyn Machine>, limit: Duration) -> Self {
        Self::with(Threads::default(), machine, limit)
    }

    fn with(threads: Threads, machine: Box<dyn Machine>, limit: Duration) -> Self {
        Self { kind: machine.kind(), machine: Some(machine.into()), limit, threads }
    }

    /// The same for a machine that may hang already when it is opened, for which it has `start`.
    pub fn open(
        open: impl FnOnce() -> Result<Box<dyn Machine>, MachineError> + Send + 'static,
        start: Duration,
        limit: Duration,
    ) -> Result<Self, MachineError> {
        // The thread that opens it is the one that is asked next: a thread and its heap cost more than most questions.
        let threads = Threads::default();
        let opened = threads.ask(("start", None), start, open).map_err(MachineError::from)?;
        Ok(Self::with(threads, opened?, limit))
    }

    fn ask<T: Send + 'static>(
        &self,
        question: Question,
        ask: impl FnOnce(&(dyn Machine + 'static)) -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        self.ask_within(question, self.limit, ask)
    }

    fn ask_within<T: Send + 'static>(
        &self,
        question: Question,
        limit: Duration,
        ask: impl FnOnce(&(dyn Machine + 'static)) -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        let machine = Arc::clone(self.machine.as_ref().expect("only dropping takes it out"));
        self.threads.ask(question, limit, move || {
            let answer = ask(&*machine);
            // Whoever gets the answer may drop the machine, and it shall not be dropped here later.
            drop(machine);
            answer
        })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // Stopping the library may hang too.
        let machine = self.machine.take();
        drop(self.threads.ask(("stop", None), self.limit, || drop(machine)));
    }
}

impl Threads {
    fn ask<T: Send + 'static>(
        &self,
        question: Question,
        limit: Duration,
        ask: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        let limit = self.limit_for(&question, limit)?;
        let (calls, has_returned) = (Calls::default(), Arc::new(AtomicBool::new(false)));
        let (send, answer) = mpsc::sync_channel(1);
        let job = {
            let (calls, has_returned) = (Arc::clone(&calls), Arc::clone(&has_returned));
            move || {
                CALLS.set(Some(calls));
                let answer = ask();
                has_returned.store(true, Ordering::SeqCst);
                // Nobody waits any more.
                drop(send.send(answer));
            }
        };
        let thread = self.thread();
        let is_asked = thread.send(Box::new(job)).is_ok();
        match answer.recv_timeout(limit) {
            Ok(answer) => {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
                Ok(answer)
            }
            Err(RecvTimeoutError::Timeout) if is_asked => {
                let hanging = Hanging { question, waited: limit, calls, has_returned };
                let unanswered = hanging.unanswered();
                self.hanging.lock().unwrap_or_else(PoisonError::into_inner).push(hanging);
                Err(unanswered)
            }
            Err(_) => Err(Unanswered { function: last(&calls), waited: None }),
        }
    }

    /// How long the answer is waited for, at most `limit`; nothing where the same question hangs already.
    fn limit_for(&self, question: &Question, limit: Duration) -> Result<Duration, Unanswered> {
        let mut hanging = self.hanging.lock().unwrap_or_else(PoisonError::into_inner);
        hanging.retain(|it| !it.has_returned.load(Ordering::SeqCst));
        match hanging.iter().find(|it| it.question == *question) {
            Some(same) => Err(same.unanswered()),
            None if hanging.is_empty() => Ok(limit),
            None => Ok(limit.min(WHILE_ONE_HANGS)),
        }
    }

    /// A thread that does nothing. It ends when nobody can ask it any more.
    fn thread(&self) -> Sender<Job> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| {
            let (jobs, jobs_there) = mpsc::channel::<Job>();
            let work = move || jobs_there.into_iter().for_each(|job| job());
            // Where there is no thread the question is not asked, and the channel says so.
            drop(thread::Builder::new().name("ask the machine".to_owned()).spawn(work));
            jobs
        })
    }
}

fn last(calls: &Calls) -> Option<String> {
    calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Hanging {
    fn unanswered(&self) -> Unanswered {
        // Always the same, so that who asks again and again is not told something new each time.
        Unanswered { function: last(&self.calls), waited: Some(self.waited) }
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").finish_non_exhaustive()
    }
}

impl From<Unanswered> for MachineError {
    fn from(it: Unanswered) -> Self {
        let function = it.function.unwrap_or_else(|| "its start".to_owned());
        match it.waited {
            Some(waited) => Self::Hangs { function, waited },
            None => Self::Query { what: "anything", why: format!("`{function}` never returned") },
        }
    }
}

impl From<Unanswered> for Silence {
    fn from(it: Unanswered) -> Self {
        Self::failed(MachineError::from(it))
    }
}

impl Machine for Watchdog {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn source(&self) -> String {
        let source = self.ask(("source", None), Machine::source);
        source.unwrap_or_else(|_| "a driver that does not answer".to_owned())
    }

    fn driver(&self) -> Result<Driver, MachineError> {
        self.ask(("driver", None), Machine::driver)?
    }

    fn inventory(&self) -> Result<Inventory, MachineError> {
        self.ask(("inventory", None), Machine::inventory)?
    }

    fn unreadable(&self) -> Result<Vec<Unreadable>, MachineError> {
        self.ask(("unreadable", None), Machine::unreadable)?
    }

    fn status(&self, gpu: &GpuUuid) -> Result<GpuStatus, Silence> {
        let (gpu, of) = (gpu.clone(), Some(gpu.clone()));
        self.ask(("status", of), move |it| it.status(&gpu))?
    }

    fn usage(&self, gpu: &GpuUuid) -> Usage {
        let (gpu, of) = (gpu.clone(), Some(gpu.clone()));
        let usage = self.ask(("usage", of), move |it| it.usage(&gpu));
        usage.unwrap_or_else(|why| Usage::silent(&why.into()))
    }

    fn process_utilization(&self, gpu: &GpuUuid) -> Answer<Vec<(u32, u32)>> {
        let (gpu, of) = (gpu.clone(), Some(gpu.clone()));
        self.ask(("process utilization", of), move |it| it.process_utilization(&gpu))?
    }

    fn next_xid(&self, wait: Duration) -> Answer<Option<Xid>> {
        // Waiting is what it is asked to do.
        let limit = self.limit + wait;
        self.ask_within(("xid", None), limit, move |it| it.next_xid(wait))?
    }

    fn accounting(&self, gpu: &GpuUuid) -> Answer<Vec<Accounted>> {
        let (gpu, of) = (gpu.clone(), Some(gpu.clone()));
        self.ask(("accounting", of), move |it| it.accounting(&gpu))?
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, time::Duration};

    use super::Watchdog;
    use crate::{
        machine::{Machine, MachineError},
        scene::SceneMachine,
    };

    const LIMIT: Duration = Duration::from_secs(1);

    /// A machine of the scene `mixed` with one more fault, which `change` can take away.
    fn machine(directory: &Path, fault: &str, limit: Duration) -> Watchdog {
        change(directory, fault);
        Watchdog::new(Box::new(SceneMachine::open(directory).unwrap()), limit)
    }

    fn change(directory: &Path, fault: &str) {
        let scene = include_str!("../../../scenes/mixed.toml");
        let new = directory.join("new");
        fs::write(&new, format!("{scene}\n{fault}")).unwrap();
        fs::rename(new, directory.join("scene.toml")).unwrap();
    }

    fn hangs(function: &str) -> String {
        format!("[[fault]]\nfunction = '{function}'\nhang = true\n")
    }

    #[test]
    fn the_function_that_does_not_return_is_named_and_what_returns_again_is_asked_again() {
        let directory = tempfile::tempdir().unwrap();
        let machine = machine(directory.path(), &hangs("nvmlDeviceGetCount"), LIMIT);
        let error = machine.inventory().unwrap_err();
        let MachineError::Hangs { function, waited } = &error else { panic!("{error}") };
        assert_eq!(function, "nvmlDeviceGetCount");
        assert!(*waited >= LIMIT);
        // Nobody asks it twice.
        machine.inventory().unwrap_err();
        assert_eq!(machine.threads.hanging.lock().unwrap().len(), 1);
        change(directory.path(), "");
        while machine.inventory().is_err() {}
    }

    #[test]
    fn what_hangs_for_one_gpu_is_silent_and_the_rest_answers() {
        let directory = tempfile::tempdir().unwrap();
        let first = "GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01";
        let list = "nvmlDeviceGetComputeRunningProcesses";
        let fault = format!("{}gpu = '{first}'\n", hangs(list));
        let machine = machine(directory.path(), &fault, LIMIT);
        let gpus: Vec<_> =
            machine.inventory().unwrap().gpus.into_iter().map(|it| it.uuid).collect();
        let why = machine.usage(&gpus[0]).compute.unwrap_err().to_string();
        assert!(why == format!("the driver did not answer `{list}` within 1 s"), "{why}");
        assert_eq!(machine.usage(&gpus[1]).compute.unwrap(), []);
        assert!(machine.status(&gpus[0]).is_ok());
    }

    #[test]
    fn a_start_that_hangs_is_told() {
        let open = || -> Result<Box<dyn Machine>, MachineError> {
            super::calling("nvmlInitWithFlags");
            std::thread::sleep(Duration::from_mins(1));
            unreachable!("nobody waits so long")
        };
        let error = Watchdog::open(open, LIMIT, LIMIT).unwrap_err().to_string();
        assert!(error.contains("`nvmlInitWithFlags`"), "{error}");
    }

    #[test]
    fn who_is_slow_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let fault = "[[fault]]\nfunction = 'nvmlDeviceGetCount'\nlatency = '100ms'\n";
        assert!(machine(directory.path(), fault, Duration::from_mins(1)).inventory().is_ok());
    }
}
