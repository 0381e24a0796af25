//! One program on its GPU: the pipeline behind `gpupin run`.
//!
//! 1. [`choice`]: which GPUs the policy means on this machine, and what the environment has to say to it;
//! 2. [`hold`](mod@hold): the lease;
//! 3. `gpupin_run::supervise` starts the program and stays until its tree is empty, `gpupin_run::observe` watches beside it;
//! 4. evidence is begun before the start and replaced at the end; [`words`] says it to people.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use gpupin_device::{Kind, Machine, in_initial_pid_namespace};
use gpupin_policy::{Inventory, OnViolation, PinAs};
use gpupin_run::{
    evidence::{Evidence, GpuRecord, LeaseRecord, PinRecord, PolicyRef, Slot, VERSION},
    lease::{self, Lease},
    observe::{self, Judgement, News, Observer, Reason, Setting, Verdict, record::Named},
    plan,
    supervise::{Ended, Group, Happening, Program, StartError, Supervised},
};

use self::{choice::Choice, isolation::Isolation};
use crate::{
    failure::{Exit, Failure},
    fix::time,
    lease::Held,
    names::Names,
    project::Project,
    terminal::Terminal,
};

pub(crate) mod choice;
pub(crate) mod hold;
pub(crate) mod isolation;
pub(crate) mod words;

/// What is wanted of a run.
#[derive(Debug)]
pub(crate) struct Order {
    /// Whose GPU it gets, and what it is told of that.
    pub(crate) names: Names,
    pub(crate) lease: LeaseWish,
    pub(crate) isolate: bool,
    pub(crate) observe: bool,
    pub(crate) on_violation: OnViolation,
    pub(crate) evidence_directory: Option<PathBuf>,
    pub(crate) command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseWish {
    None,
    /// Zero does not wait.
    Within(Duration),
}

/// What became of a run.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) exit: Exit,
    /// Where the evidence lies, if there is any.
    pub(crate) evidence: Option<PathBuf>,
}

/// How long a program may take to end after a violation.
const GRACE: Duration = Duration::from_secs(10);

/// How long the machine may take to answer for the last time. Longer than for one answer, so that the record says what did not come.
const LAST_ANSWER: Duration = Duration::from_secs(20);

/// Runs a program on the GPUs of a machine.
pub(crate) fn run(
    order: &Order,
    project: &Project,
    machine: Arc<dyn Machine>,
    terminal: &mut Terminal,
) -> Result<Finished, Failure> {
    let inventory = machine.inventory().context("failed to list the GPUs")?;
    let role = order.names.role.as_deref();
    let wanted = choice::wanted(role, project, &inventory, terminal)
        .map_err(|it| choice::with_unknown(it, &*machine))?;
    // Without evidence there is no verdict that says it.
    if machine.kind() != Kind::Measured && (!order.observe || inventory.gpus.is_empty()) {
        terminal.warning(&format!("the machine is {}", machine.kind()));
    }
    let (choice, lease) = match wanted {
        Some(wanted) => {
            let held =
                hold::hold(order, &wanted, &project.policy, (&*machine, &inventory), terminal)?;
            (wanted.taken(held.gpus, &inventory), held.lease)
        }
        None if inventory.gpus.is_empty() => return without_gpu(order, project, terminal),
        // The others are hidden, and whoever uses one all the same is caught.
        None => (choice::nothing(role, &project.policy, &inventory), None),
    };
    let isolation = Isolation::of(order.isolate, &*machine, &inventory, &choice)?;
    let variables = choice.variables(&project.policy, &isolation.present(&inventory))?;
    let run = Run { order, project, machine, inventory: &inventory, choice: &choice };
    if choice.uuids.is_empty() {
        terminal.warning("the GPU is not here: running without any GPU");
    } else {
        terminal.status(&words::start(&choice, project.policy.pin.as_, lease.as_deref()));
        if let Some(role) = role
            && choice.is_forbidden_to_the_rest(&project.policy, &inventory)
        {
            terminal.status(&words::exempt(role));
        }
    }
    run.run(isolation, variables, lease, terminal)
}

struct Run<'a> {
    order: &'a Order,
    project: &'a Project,
    machine: Arc<dyn Machine>,
    inventory: &'a Inventory,
    choice: &'a Choice,
}

impl Run<'_> {
    fn run(
        &self,
        isolation: Isolation,
        variables: Vec<(String, String)>,
        mut lease: Option<Held>,
        terminal: &mut Terminal,
    ) -> Result<Finished, Failure> {
        let mut record =
            if self.order.observe { Some(self.begin(&variables, lease.as_deref())?) } else { None };
        let command = isolation.command(&self.order.command, self.otherwise()?)?;
        let mut set: Vec<_> =
            variables.into_iter().map(|(name, value)| (name, OsString::from(value))).collect();
        let held = lease.as_deref().filter(|it| !it.is_nested());
        set.extend(self.order.names.variables());
        set.extend(held.map(|it| (lease::VARIABLE.to_owned(), it.variable().into())));
        let mut inherits: Vec<_> = held.map(|it| it.descriptors().collect()).unwrap_or_default();
        inherits.extend(isolation.descriptors());
        let (name, args) = command.split_first().expect("clap wants a program");
        let program = Program {
            name: name.clone(),
            args: args.to_vec(),
            variables: set,
            group: if has_terminal() { Group::Shared } else { Group::Own },
            inherits,
        };
        let prepared = match &record {
            Some(record) => {
                let sink = record.slot.sink().context("failed to write samples")?;
                let setting = record.evidence.setting.clone();
                let origin = record.evidence.origin();
                let machine = Arc::clone(&self.machine);
                let mut prepared = observe::prepare(machine, origin, setting, Box::new(sink));
                if let Some(why) = prepared.lost() {
                    record.slot.without_samples();
                    return Err(anyhow::anyhow!("{why}").context("failed to write samples").into());
                }
                Some(prepared)
            }
            None => None,
        };
        let supervised = match Supervised::start(program) {
            Ok(supervised) => supervised,
            Err(error) => {
                let mut evidence = None;
                if let (Some(record), Some(prepared)) = (&mut record, prepared) {
                    record.evidence.observed(&prepared.abandon());
                    evidence = Some(record.finish(None)?);
                }
                let failure = not_started(error);
                terminal.failure(&failure);
                return Ok(Finished { exit: failure.exit, evidence });
            }
        };
        // Whatever fails from here on, the program lives.
        if let Some(lease) = &mut lease {
            lease.entrust();
            lease.tidy();
        }
        let isolation = isolation.report();
        if let Some(record) = &mut record {
            record.isolate(&isolation);
            if let Err(failure) = record.write() {
                terminal.error(&words::unwritten(&failure));
            }
        }
        for refused in &isolation.record.refused {
            terminal.warning(&format!("isolation: {refused}"));
        }
        let observer = match prepared {
            Some(mut prepared) => {
                prepared.isolated(isolation.gpus.iter().cloned().map(Named));
                let others = supervised.others().to_vec();
                match prepared.start(std::process::id(), others) {
                    Ok(observer) => Some(observer),
                    Err(error) => {
                        terminal.error(&format!("nobody watches: no thread was had: {error}"));
                        None
                    }
                }
            }
            None => None,
        };
        let attended = self.attend(supervised, observer.as_ref(), &mut lease, terminal)?;
        let Attended { ended, is_violated, mut lost } = attended;
        if self.order.isolate {
            gpupin_run::isolate::tidy();
        }
        if let Some(lease) = &mut lease {
            lease.take_back();
        }
        // Whoever waits for the GPU need not wait for the evidence.
        drop(lease);
        let program = Exit::Program(ended.code());
        let Some(mut record) = record else {
            return Ok(Finished { exit: program, evidence: None });
        };
        match observer.map(|it| it.finish(LAST_ANSWER)) {
            Some(Some(observed)) => {
                record.evidence.observed(&observed);
                if let Some(why) = record.tampering(&observed.sha256) {
                    terminal.error(&format!("its samples {why}: this run proves nothing"));
                    lost = true;
                }
            }
            Some(None) => record.silent(is_violated),
            None => record.evidence.reasons = vec![Reason::NotObserved],
        }
        let path = record.finish(Some(ended));
        let evidence = &record.evidence;
        let is_lost = |it: &Reason| matches!(it, Reason::SamplesLost { .. });
        let is_whole = path.is_ok() && !evidence.reasons.iter().any(is_lost);
        let path = match path {
            Ok(path) => {
                if !is_whole && !lost {
                    terminal.error("samples could not be written");
                }
                words::end(evidence, &self.project.display(&path), terminal);
                Some(path)
            }
            Err(failure) => {
                terminal.error(&words::chain(&failure));
                let left = record.slot.path();
                let left = left.exists().then(|| self.project.display(&left));
                terminal.error(&words::no_evidence(evidence, left.as_deref()));
                None
            }
        };
        let exit = match evidence.verdict {
            Verdict::Violated => Exit::Violation,
            // Whoever asks only for the code must not take it for a run with evidence.
            _ if !is_whole && ended.code() == 0 => Exit::Failed,
            _ => program,
        };
        Ok(Finished { exit, evidence: path })
    }

    /// What a pin by index is where nothing could be hidden.
    fn otherwise(&self) -> Result<Vec<(String, String)>, Failure> {
        let policy = &self.project.policy;
        match policy.pin.as_ {
            PinAs::Uuid => Ok(Vec::new()),
            PinAs::Index => self.choice.variables(policy, self.inventory),
        }
    }

    /// Stays until the tree is empty.
    fn attend(
        &self,
        mut supervised: Supervised,
        observer: Option<&Observer>,
        lease: &mut Option<Held>,
        terminal: &mut Terminal,
    ) -> Result<Attended, Failure> {
        let mut attended = Attended { ended: Ended::Code(0), is_violated: false, lost: false };
        loop {
            let happening = supervised.next().context("failed to wait for the program")?;
            match happening {
                Happening::Ended(ended) => {
                    attended.ended = ended;
                    let left = supervised.living().len();
                    if left > 0 {
                        terminal.status(&words::left(
                            &self.order.command,
                            ended,
                            left,
                            lease.is_some(),
                        ));
                    }
                }
                Happening::Killed => terminal.warning("it did not end, and was killed"),
                Happening::Woken => {}
                Happening::Empty => return Ok(attended),
            }
            for news in observer.into_iter().flat_map(Observer::news) {
                match news {
                    News::OnPin { gpu, process } => {
                        if let Some(lease) = lease {
                            lease.note_process(process);
                        }
                        terminal.verbose(|| {
                            format!("process {process} is on {}", self.choice.name(&gpu))
                        });
                    }
                    News::Used(time) => {
                        if let Some(lease) = lease {
                            lease.note_use(time);
                        }
                    }
                    News::SamplesLost { why } => {
                        attended.lost = true;
                        let why = format!("failed to write samples: {why}");
                        terminal.error(&words::goes_on(&why));
                    }
                    News::Trespass { gpu, process, command } => {
                        let kill = self.order.on_violation == OnViolation::Kill;
                        let what = self.choice.trespass(&gpu, process, &command);
                        terminal.error(&if kill {
                            format!("{what}; ending the program; it has {} s", GRACE.as_secs())
                        } else {
                            what
                        });
                        attended.is_violated = true;
                        if kill {
                            supervised.end(GRACE);
                        }
                    }
                }
            }
        }
    }

    /// Writes what is known before the program starts.
    fn begin(
        &self,
        variables: &[(String, String)],
        lease: Option<&Lease>,
    ) -> Result<Recording, Failure> {
        let directory = match &self.order.evidence_directory {
            Some(directory) => self.project.working_directory.join(directory),
            None => self.project.root.join(EVIDENCE),
        };
        let now = SystemTime::now();
        let hint = "`--evidence-dir` names another directory, `--no-observe` runs without evidence";
        let failed = |error| Failure::from(anyhow::Error::new(error)).hint(hint);
        let slot = Slot::take(&directory, &time::compact(now)).map_err(failed)?;
        let Choice { gpus, pinned, .. } = self.choice;
        let evidence = Evidence {
            version: VERSION,
            id: slot.id.clone(),
            tool: concat!("gpupin ", env!("CARGO_PKG_VERSION")).to_owned(),
            verdict: Verdict::Unproved,
            reasons: vec![Reason::RunnerEnded],
            kind: self.machine.kind(),
            source: self.machine.source(),
            host: self.inventory.host.clone(),
            driver: self.inventory.driver.as_ref().map(ToString::to_string),
            policy: self.policy()?,
            command: self
                .order
                .command
                .iter()
                .map(|it| it.to_string_lossy().into_owned())
                .collect(),
            pin: PinRecord {
                as_: self.project.policy.pin.as_.as_str().to_owned(),
                kept: self.choice.kept_mask.clone(),
                variables: variables.to_vec(),
            },
            gpus: gpus
                .iter()
                .map(|it| GpuRecord {
                    uuid: it.uuid.clone(),
                    name: it.name.clone(),
                    pinned: it.is_pinned,
                    forbidden: it.is_forbidden,
                    isolated: false,
                })
                .collect(),
            lease: match lease {
                None => LeaseRecord::None,
                Some(lease) if lease.is_nested() => LeaseRecord::Outer,
                Some(lease) => LeaseRecord::Held {
                    waited_ms: u64::try_from(lease.waited().as_millis()).unwrap_or(u64::MAX),
                },
            },
            isolation: gpupin_run::evidence::IsolationRecord {
                requested: self.order.isolate,
                ..Default::default()
            },
            processes: Vec::new(),
            started: time::rfc3339(now),
            ended: None,
            exit: None,
            setting: Setting {
                pinned: pinned.clone(),
                isolated: Vec::new(),
                own_pid_namespace: in_initial_pid_namespace(Path::new("/")) != Some(true),
            },
            samples: None,
        };
        let recording = Recording { slot, evidence };
        recording.write()?;
        Ok(recording)
    }

    fn policy(&self) -> Result<PolicyRef, Failure> {
        let path = self.project.policy_path.as_deref();
        Ok(PolicyRef {
            path: path.map(|it| self.project.key(it)),
            sha256: path.map(sha256_of).transpose()?,
            profile: self.order.names.project.profile.clone(),
            role: self.order.names.role.clone(),
        })
    }
}

/// Below the root of the project.
pub(crate) const EVIDENCE: &str = ".gpupin/evidence";

struct Attended {
    ended: Ended,
    is_violated: bool,
    /// Whether it was told that samples are missing.
    lost: bool,
}

/// Evidence that is not finished.
struct Recording {
    slot: Slot,
    evidence: Evidence,
}

impl Recording {
    fn write(&self) -> Result<(), Failure> {
        Ok(self.slot.write(&self.evidence).map_err(anyhow::Error::new)?)
    }

    fn isolate(&mut self, isolation: &isolation::Report) {
        for gpu in &mut self.evidence.gpus {
            gpu.isolated = isolation.gpus.contains(&gpu.uuid);
        }
        self.evidence.setting.isolated = isolation.gpus.iter().cloned().map(Named).collect();
        self.evidence.isolation = isolation.record.clone();
    }

    /// The machine did not answer any more, so that there are no samples that are complete.
    fn silent(&mut self, is_violated: bool) {
        let why = "it did not answer at the end of the run".to_owned();
        let mut judgement = Judgement::unproved(Reason::MachineSilent { why });
        if is_violated {
            judgement.verdict = Verdict::Violated;
        }
        let Judgement { verdict, reasons } = judgement;
        (self.evidence.verdict, self.evidence.reasons) = (verdict, reasons);
    }

    /// What somebody else did to the samples while the program ran; the evidence then says it too.
    fn tampering(&mut self, sha256: &str) -> Option<String> {
        let is_lost = |it: &Reason| matches!(it, Reason::SamplesLost { .. });
        if self.evidence.reasons.iter().any(is_lost) {
            return None;
        }
        let why = match self.slot.has_samples(sha256) {
            Ok(true) => return None,
            Ok(false) => "were changed while it ran".to_owned(),
            Err(error) => format!("are not where they were written: {error}"),
        };
        let judgement = self.evidence.judgement().and(Reason::SamplesLost { why: why.clone() });
        (self.evidence.verdict, self.evidence.reasons) = (judgement.verdict, judgement.reasons);
        Some(why)
    }

    fn finish(&mut self, ended: Option<Ended>) -> Result<PathBuf, Failure> {
        self.evidence.ended = Some(time::rfc3339(SystemTime::now()));
        self.evidence.exit = ended;
        if self.evidence.samples.is_none() {
            self.slot.without_samples();
        }
        self.write()?;
        Ok(self.slot.path())
    }
}

/// Runs the program on a machine without the GPU, where the policy allows that.
pub(crate) fn without_gpu(
    order: &Order,
    project: &Project,
    terminal: &mut Terminal,
) -> Result<Finished, Failure> {
    terminal.warning("the GPU is not here: running without any GPU, and without evidence");
    let variables = plan::variables_without_gpu(&project.policy).into_iter();
    let variables = variables.map(|(name, value)| (name, value.into()));
    let (name, args) = order.command.split_first().expect("clap wants a program");
    let program = Program {
        name: name.clone(),
        args: args.to_vec(),
        variables: variables.chain(order.names.variables()).collect(),
        group: if has_terminal() { Group::Shared } else { Group::Own },
        inherits: Vec::new(),
    };
    let mut supervised = Supervised::start(program).map_err(not_started)?;
    let mut exit = Exit::Clean;
    loop {
        match supervised.next().context("failed to wait for the program")? {
            Happening::Ended(ended) => exit = Exit::Program(ended.code()),
            Happening::Empty => return Ok(Finished { exit, evidence: None }),
            Happening::Woken | Happening::Killed => {}
        }
    }
}

fn not_started(error: StartError) -> Failure {
    Failure::new(Exit::Program(error.code()), error)
}

/// Whether there is a terminal that controls this process, whatever the standard streams are.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

pub(crate) fn sha256_of(path: &Path) -> Result<String, Failure> {
    use sha2::Digest as _;
    let bytes =
        std::fs::read(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    Ok(observe::hex(&sha2::Sha256::digest(&bytes)))
}
