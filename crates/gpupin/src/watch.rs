//! The terminal view of a machine: what is known, and what was typed.
//!
//! - this file: the state, pure: moments and keys go in, an [`Action`] comes out;
//! - [`view`]: the state as lines, pure;
//! - [`screen`]: the terminal, where the two meet.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use gpupin_monitor::{
    alarms::{Alarms, conditions},
    moment::Moment,
    snapshot::{GpuNow, ProcessNow},
};
use gpupin_policy::GpuUuid;
use gpupin_run::process::ProcessId;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::terminal::{one_line, shortened};

pub(crate) mod screen;
#[cfg(test)]
mod tests;
pub(crate) mod view;

/// How many moments the little charts remember.
const REMEMBERED: usize = 240;

/// What is shown.
#[derive(Debug, Default)]
pub(crate) struct App {
    moment: Option<Arc<Moment>>,
    traces: BTreeMap<GpuUuid, Trace>,
    alarms: Alarms,
    sort: Sort,
    filter: String,
    mode: Mode,
    selected: Option<Key>,
    is_paused: bool,
    /// What became of the last action.
    said: Option<String>,
}

/// The last figures of a GPU, in percent. `None` is a gap.
#[derive(Debug, Default)]
struct Trace {
    busy: VecDeque<Option<u32>>,
    memory: VecDeque<Option<u32>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Sort {
    #[default]
    Memory,
    Busy,
    Gpu,
    Pid,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Normal,
    /// A filter is being typed.
    Filter,
    Help,
    /// It is asked whether a process shall end.
    Confirm(Victim),
}

/// A process that may be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Victim {
    pub(crate) id: ProcessId,
    pub(crate) command: String,
}

/// A process on a GPU; one on two GPUs is there twice.
type Key = (GpuUuid, u32);

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    None,
    Leave,
    /// End a process, gently or not.
    End {
        victim: Victim,
        force: bool,
    },
}

/// A line of the list of processes.
enum Row<'a> {
    /// A project, and how many of its processes follow.
    Project(&'a str, usize),
    Process(&'a GpuNow, &'a ProcessNow),
}

/// What is written where no project is known.
const NO_PROJECT: &str = "no project known";

impl App {
    pub(crate) fn hear(&mut self, moment: &Arc<Moment>) {
        self.alarms.hear(moment);
        let gpus = moment.gpus();
        for gpu in gpus {
            self.traces.entry(gpu.uuid.clone()).or_default();
        }
        for (uuid, trace) in &mut self.traces {
            // A GPU that is not told of has a gap, as has every GPU where the machine is silent.
            let gpu = gpus.iter().find(|it| it.uuid == *uuid);
            trace.push(gpu.and_then(|it| it.utilization), gpu.and_then(memory_share));
        }
        if !self.is_paused {
            self.moment = Some(Arc::clone(moment));
        }
    }

    pub(crate) fn say(&mut self, text: String) {
        self.said = Some(text);
    }

    pub(crate) fn key(&mut self, key: KeyEvent) -> Action {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && key.code == KeyCode::Char('c') {
            return Action::Leave;
        }
        match std::mem::take(&mut self.mode) {
            Mode::Normal => return self.normal(key.code),
            Mode::Help => {}
            Mode::Filter => self.type_filter(key.code),
            Mode::Confirm(victim) => match key.code {
                KeyCode::Char('y') => return Action::End { victim, force: false },
                KeyCode::Char('K') => return Action::End { victim, force: true },
                _ => self.say("nothing was ended".to_owned()),
            },
        }
        Action::None
    }

    fn normal(&mut self, key: KeyCode) -> Action {
        self.said = None;
        match key {
            KeyCode::Char('q') | KeyCode::Esc if self.filter.is_empty() => return Action::Leave,
            KeyCode::Char('q') => return Action::Leave,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('m') => self.sort = Sort::Memory,
            KeyCode::Char('b') => self.sort = Sort::Busy,
            KeyCode::Char('g') => self.sort = Sort::Gpu,
            KeyCode::Char('p') => self.sort = Sort::Pid,
            KeyCode::Char(' ') => self.is_paused = !self.is_paused,
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::PageDown => self.step(10),
            KeyCode::PageUp => self.step(-10),
            KeyCode::Char('x') | KeyCode::Delete => self.ask_to_end(),
            _ => {}
        }
        Action::None
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => return,
            KeyCode::Esc => {
                self.filter.clear();
                return;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(it) => self.filter.push(it),
            _ => {}
        }
        self.mode = Mode::Filter;
    }

    fn step(&mut self, by: isize) {
        let keys: Vec<Key> = self.processes().iter().map(|(gpu, it)| key(gpu, it)).collect();
        let now = self.selected.as_ref().and_then(|it| keys.iter().position(|key| key == it));
        let next = now.map_or(0, |it| it.saturating_add_signed(by));
        self.selected = keys.get(next.min(keys.len().saturating_sub(1))).cloned();
    }

    fn ask_to_end(&mut self) {
        let selected = self.selected.clone();
        let processes = self.processes();
        let found = processes.iter().find(|(gpu, it)| Some(key(gpu, it)) == selected);
        let victim = found.map(|(_, it)| {
            let started = it.started.filter(|_| !it.stranger)?;
            let command = it.command.as_deref().unwrap_or("?");
            let command = shortened(&one_line(command), 60);
            Some(Victim { id: ProcessId { pid: it.pid, started }, command })
        });
        match victim {
            None => self.say("choose a process first, with the arrow keys".to_owned()),
            Some(None) => {
                self.say(
                    "that process is of another PID namespace, and cannot be ended from here"
                        .to_owned(),
                );
            }
            Some(Some(victim)) => self.mode = Mode::Confirm(victim),
        }
    }

    /// The processes that the filter lets through, project by project.
    fn processes(&self) -> Vec<(&GpuNow, &ProcessNow)> {
        let Some(moment) = &self.moment else { return Vec::new() };
        let all =
            moment.gpus().iter().flat_map(|gpu| gpu.processes.iter().map(move |it| (gpu, it)));
        let mut found: Vec<_> = all.filter(|(gpu, it)| self.lets_through(gpu, it)).collect();
        let more = |it: Option<u64>| std::cmp::Reverse(it);
        found.sort_by_key(|(gpu, it)| {
            let by = match self.sort {
                Sort::Memory => (more(it.memory), 0),
                Sort::Busy => (more(it.utilization.map(u64::from)), 0),
                Sort::Gpu => (more(None), gpu.index),
                Sort::Pid => (more(None), 0),
            };
            // Whoever has no project comes last.
            (it.project.is_none(), it.project.as_deref(), by, it.pid, gpu.index)
        });
        found
    }

    fn lets_through(&self, gpu: &GpuNow, process: &ProcessNow) -> bool {
        let filter = self.filter.to_lowercase();
        let texts = [
            process.command.as_deref(),
            process.user.as_deref(),
            process.project.as_deref(),
            Some(&*gpu.name),
            Some(gpu.uuid.as_str()),
        ];
        let contains = |it: &str| it.to_lowercase().contains(&filter);
        texts.into_iter().flatten().any(contains) || contains(&process.pid.to_string())
    }

    fn rows(&self) -> Vec<Row<'_>> {
        let mut rows = Vec::new();
        let processes = self.processes();
        let project = |it: &ProcessNow| it.project.as_deref().map(str::to_owned);
        for group in processes.chunk_by(|a, b| project(a.1) == project(b.1)) {
            rows.push(Row::Project(
                group[0].1.project.as_deref().unwrap_or(NO_PROJECT),
                group.len(),
            ));
            rows.extend(group.iter().map(|(gpu, it)| Row::Process(gpu, it)));
        }
        rows
    }

    /// What somebody should look at, most urgent first. What was not seen for long enough to be sure is here too: whoever watches
    /// wants to see what is, and judges for themselves.
    fn alerts(&self) -> Vec<String> {
        let Some(moment) = &self.moment else { return Vec::new() };
        let now = conditions(moment);
        let past =
            self.alarms.active().into_iter().filter(|it| now.iter().all(|now| now.id != it.id));
        let mut alerts: Vec<_> = now.iter().chain(past).collect();
        alerts.sort_by_key(|it| it.kind);
        alerts.iter().map(|it| one_line(&it.text)).collect()
    }
}

impl Trace {
    fn push(&mut self, busy: Option<u32>, memory: Option<u32>) {
        for (trace, value) in [(&mut self.busy, busy), (&mut self.memory, memory)] {
            trace.push_back(value);
            if trace.len() > REMEMBERED {
                trace.pop_front();
            }
        }
    }
}

fn key(gpu: &GpuNow, process: &ProcessNow) -> Key {
    (gpu.uuid.clone(), process.pid)
}

/// How much of its memory is in use, in percent.
fn memory_share(gpu: &GpuNow) -> Option<u32> {
    let share = gpu.memory_used? * 100 / gpu.vram.max(1);
    u32::try_from(share).ok()
}
