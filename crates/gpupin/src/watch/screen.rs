//! The terminal: what is heard and typed goes to the state, and the state is drawn.

use std::{
    io::{self, stdout},
    time::{Duration, Instant},
};

use gpupin_monitor::feed::Feed;
use gpupin_run::{process::ProcessId, supervise::Endings};
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::{Hide, Show},
        event::{self, Event, KeyEventKind},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{
    Action, App, Victim,
    view::{Means, draw},
};

/// How long a key is waited for before moments and signals are looked at again.
const PATIENCE: Duration = Duration::from_millis(100);

/// Shows the machine until the user leaves.
pub(crate) fn show(feed: &Feed, means: Means) -> io::Result<()> {
    let endings = Endings::catch()?;
    let _screen = Screen::enter()?;
    let mut terminal = Terminal::new(CrosstermBackend::new(stdout()))?;
    let mut app = App::default();
    let mut drawn: Option<Instant> = None;
    loop {
        let mut is_new = drawn.is_none();
        while let Ok(moment) = feed.moments().try_recv() {
            app.hear(&moment);
            is_new = true;
        }
        if is_new {
            terminal.draw(|frame| draw(&app, means, frame.area(), frame.buffer_mut()))?;
            drawn = Some(Instant::now());
        }
        if !endings.came()?.is_empty() {
            return Ok(());
        }
        let has_event = match event::poll(PATIENCE) {
            Ok(has_event) => has_event,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if !has_event {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => match app.key(key) {
                Action::None => {}
                Action::Leave => return Ok(()),
                Action::End { victim, force } => {
                    let said = end(&victim, force);
                    app.say(said);
                }
            },
            Event::Resize(..) => {}
            _ => continue,
        }
        drawn = None;
    }
}

/// The terminal as the view needs it, and as it was when this is dropped.
struct Screen;

impl Screen {
    fn enter() -> io::Result<Self> {
        enable_raw_mode()?;
        // From here on it is put back whatever happens.
        let screen = Self;
        execute!(stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(execute!(stdout(), Show, LeaveAlternateScreen));
        drop(disable_raw_mode());
    }
}

/// Ends a process, and says what came of it. A number that meanwhile is another process is left alone.
fn end(victim: &Victim, force: bool) -> String {
    let Victim { id, command } = victim;
    let (signal, what) =
        if force { (Signal::KILL, "killed") } else { (Signal::TERM, "asked to end") };
    let pid = i32::try_from(id.pid).ok().and_then(Pid::from_raw);
    let Some(pid) = pid else { return format!("{id} is no number of a process") };
    // The descriptor is of one process for good; that it is the right one is asked after it is had.
    let sent = pidfd_open(pid, PidfdFlags::empty()).and_then(|fd| {
        if ProcessId::of(id.pid) == Some(*id) {
            pidfd_send_signal(fd, signal)
        } else {
            Err(rustix::io::Errno::SRCH)
        }
    });
    match sent {
        Ok(()) => format!("`{command}` (pid {id}) was {what}"),
        Err(rustix::io::Errno::SRCH) => format!("`{command}` (pid {id}) has ended already"),
        Err(rustix::io::Errno::PERM) => {
            format!("`{command}` (pid {id}) is another user's, and may not be ended by you")
        }
        Err(error) => format!("`{command}` (pid {id}) was not ended: {error}"),
    }
}
