//! The state as lines.

use gpupin_monitor::{
    moment::{Moment, Ticket},
    people::Place,
    snapshot::{GpuNow, ProcessNow, Standing},
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, Widget as _},
};

use super::{App, Mode, Row, Sort, key, memory_share};
use crate::{
    table::memory,
    terminal::{one_line, shortened},
};

/// What the terminal can show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Means {
    pub(crate) has_colour: bool,
    /// Whether it shows block characters.
    pub(crate) is_unicode: bool,
}

impl Means {
    fn colour(self, colour: Color) -> Style {
        if self.has_colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Steps of a bar, from nothing to full.
    fn steps(self) -> &'static [char] {
        if self.is_unicode {
            &['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']
        } else {
            &['_', '.', '-', '=', '+', '*', '%', '#']
        }
    }

    fn ends(self) -> (char, char, char) {
        if self.is_unicode { ('█', '░', '·') } else { ('#', '.', ' ') }
    }
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);

/// Draws everything into an area.
pub(crate) fn draw(app: &App, means: Means, area: Rect, buffer: &mut Buffer) {
    let height = usize::from(area.height);
    let width = usize::from(area.width);
    let mut lines = vec![header(app, means, width)];
    if app.mode == Mode::Help {
        lines.extend(help());
    } else if let Some(moment) = &app.moment {
        lines.extend(body(app, moment, means, width, height.saturating_sub(2)));
    } else {
        lines.push(Line::raw("waiting for the machine …"));
    }
    lines.truncate(height.saturating_sub(1));
    lines.resize(height.saturating_sub(1), Line::default());
    lines.push(footer(app, means));
    Paragraph::new(lines).render(area, buffer);
}

/// As many lines as it takes, for who looks once.
pub(crate) fn text(app: &App, means: Means, width: u16) -> String {
    let Some(moment) = &app.moment else { return String::new() };
    let mut lines = vec![header(app, means, usize::from(width))];
    lines.extend(body(app, moment, means, usize::from(width), usize::MAX));
    let mut text = String::new();
    for line in lines {
        let line: String = line.spans.iter().map(|it| it.content.as_ref()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn header(app: &App, means: Means, width: usize) -> Line<'static> {
    let Some(moment) = &app.moment else { return Line::styled("gpupin watch", BOLD) };
    let mut spans = Vec::new();
    match &moment.machine {
        Some(machine) => {
            let driver = machine.driver.as_deref().unwrap_or("?");
            spans
                .push(Span::styled(format!("{} · driver {driver}", one_line(&machine.host)), BOLD));
            if machine.kind != gpupin_device::Kind::Measured {
                spans.push(Span::styled(
                    format!(" · everything here is {}", machine.kind),
                    means.bad(),
                ));
            }
        }
        None => spans.push(Span::styled("the machine does not answer", means.bad())),
    }
    if app.is_paused {
        spans.push(Span::styled(" · paused", means.bad()));
    }
    let used: usize = spans.iter().map(Span::width).sum();
    let time = clock(moment.at);
    let gap = width.saturating_sub(used + time.len());
    spans.push(Span::raw(" ".repeat(gap)));
    spans.push(Span::raw(time));
    Line::from(spans)
}

/// The time of day in UTC, which is what evidence and logs say.
fn clock(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000 % 86_400;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn body(
    app: &App,
    moment: &Moment,
    means: Means,
    width: usize,
    height: usize,
) -> Vec<Line<'static>> {
    let gpus: Vec<_> =
        moment.gpus().iter().flat_map(|it| gpu_lines(app, it, means, width)).collect();
    let alerts = section(
        "alerts",
        app.alerts().into_iter().map(|it| {
            Line::from(vec![
                Span::styled("! ", means.bad()),
                Span::raw(shortened(&it, width.saturating_sub(2))),
            ])
        }),
    );
    let leases = leases(moment, width);
    let processes = processes(app, means, width);
    // The GPUs come first; the list of processes gets what is left and scrolls.
    let at_most = |lines: Vec<Line<'static>>, most: usize| -> Vec<Line<'static>> {
        let more = lines.len().saturating_sub(most);
        let mut lines = lines;
        if more > 0 && most > 0 {
            lines.truncate(most - 1);
            lines.push(Line::styled(format!("  … {} more", more + 1), FAINT));
        }
        lines
    };
    if height == usize::MAX {
        return [gpus, alerts, processes.0, leases].concat();
    }
    let gpus = at_most(gpus, height * 2 / 5);
    let alerts = at_most(alerts, height / 5);
    let leases = at_most(leases, height / 4);
    let room = height.saturating_sub(gpus.len() + alerts.len() + leases.len());
    let (lines, selected) = processes;
    let first = selected.map_or(0, |it| (it + 2).saturating_sub(room.max(2)));
    let mut shown: Vec<_> = lines.iter().take(1).cloned().collect();
    shown.extend(lines.into_iter().skip(1 + first).take(room.saturating_sub(1)));
    [gpus, alerts, shown, leases].concat()
}

/// A heading and what follows it; nothing where nothing follows.
fn section(name: &str, lines: impl Iterator<Item = Line<'static>>) -> Vec<Line<'static>> {
    let mut all = vec![Line::styled(name.to_owned(), BOLD)];
    all.extend(lines);
    if all.len() == 1 { Vec::new() } else { all }
}

fn gpu_lines(app: &App, gpu: &GpuNow, means: Means, width: usize) -> Vec<Line<'static>> {
    let standing = match gpu.standing {
        Some(Standing::Meant) => Span::styled("meant     ", means.colour(Color::Green)),
        Some(Standing::Forbidden) => Span::styled("forbidden ", means.bad()),
        None => Span::raw("          "),
    };
    let used = gpu.memory_used.map_or_else(|| "?".to_owned(), memory);
    let temperature = gpu.temperature.map_or_else(|| "?".to_owned(), |it| format!("{it} °C"));
    let watts = |it: Option<u32>| it.map_or_else(|| "?".to_owned(), |it| format!("{}", it / 1000));
    let figures = format!(
        "{used} of {}  {temperature}  {} of {} W",
        memory(gpu.vram),
        watts(gpu.power),
        watts(gpu.power_limit)
    );
    let name = format!("{:<3}{:<18}", gpu.index, shortened(&gpu.name, 17));
    let first = Line::from(vec![
        Span::styled(name, BOLD),
        standing,
        Span::raw(bar(means, memory_share(gpu), 8)),
        Span::raw(" "),
        Span::raw(figures),
    ]);
    let busy = gpu.utilization.map_or_else(|| "  ?".to_owned(), |it| format!("{it:>3}"));
    let label = format!("   busy {busy} % ");
    let room = width.saturating_sub(label.len());
    let trace =
        app.traces.get(&gpu.uuid).map(|it| chart(means, &it.busy, room)).unwrap_or_default();
    vec![first, Line::from(vec![Span::raw(label), Span::styled(trace, means.colour(Color::Cyan))])]
}

/// A share of something; empty where it is unknown.
fn bar(means: Means, percent: Option<u32>, width: usize) -> String {
    let (full, empty, unknown) = means.ends();
    let Some(percent) = percent else { return unknown.to_string().repeat(width) };
    let filled = (width * percent.min(100) as usize).div_ceil(100).min(width);
    full.to_string().repeat(filled) + &empty.to_string().repeat(width - filled)
}

/// The newest values, one character each. A gap is blank, and nothing is the lowest step.
fn chart<'a>(
    means: Means,
    values: impl IntoIterator<Item = &'a Option<u32>, IntoIter: ExactSizeIterator>,
    width: usize,
) -> String {
    let values = values.into_iter();
    let skipped = values.len().saturating_sub(width);
    let steps = means.steps();
    let step = |percent: u32| steps[(percent.min(100) as usize * (steps.len() - 1)).div_ceil(100)];
    values.skip(skipped).map(|it| it.map_or(' ', step)).collect()
}

/// The list with its heading, and the line of the selected process.
fn processes(app: &App, means: Means, width: usize) -> (Vec<Line<'static>>, Option<usize>) {
    let arrow = |sort: Sort, name: &str| {
        if app.sort == sort { format!("{name}↓") } else { name.to_owned() }
    };
    let heading = format!(
        "{:<5}{:>8} {:<9}{:>9} {:>6}  {:<11}{:<7}{}",
        arrow(Sort::Gpu, "GPU"),
        arrow(Sort::Pid, "PID"),
        "USER",
        arrow(Sort::Memory, "MEMORY"),
        arrow(Sort::Busy, "BUSY"),
        "PLACE",
        "LEASE",
        "COMMAND"
    );
    let heading = if means.is_unicode { heading } else { heading.replace('↓', "*") };
    let mut lines = vec![Line::styled(heading, BOLD)];
    let mut selected = None;
    for row in app.rows() {
        match row {
            Row::Project(name, many) => {
                let text = format!("{} ({many})", one_line(name));
                lines.push(Line::styled(shortened(&text, width), FAINT));
            }
            Row::Process(gpu, process) => {
                let is_selected = app.selected.as_ref() == Some(&key(gpu, process));
                let mut line = process_line(gpu, process, means, width);
                if is_selected {
                    selected = Some(lines.len());
                    line = line.patch_style(Modifier::REVERSED);
                }
                lines.push(line);
            }
        }
    }
    for gpu in app.moment.iter().flat_map(|it| it.gpus()) {
        if let Some(why) = gpu.silent_lists() {
            let text = format!("the driver does not say who is on {}: {why}", gpu.name);
            lines.push(Line::styled(shortened(&text, width), means.bad()));
        }
    }
    if lines.len() == 1 {
        lines.push(Line::raw(if app.filter.is_empty() {
            "no process is listed".to_owned()
        } else {
            format!("no process has `{}` in it", app.filter)
        }));
    }
    (lines, selected)
}

fn process_line(gpu: &GpuNow, process: &ProcessNow, means: Means, width: usize) -> Line<'static> {
    let place = match (process.place, &process.project) {
        (Some(Place::Right), _) => Span::styled("right      ", means.colour(Color::Green)),
        (Some(Place::Wrong), _) => Span::styled("WRONG      ", means.bad()),
        (None, Some(_)) => Span::raw("undeclared "),
        (None, None) => Span::raw("unmanaged  "),
    };
    let lease = match process.leased {
        Some(true) => "held",
        Some(false) => "none",
        None => "?",
    };
    let amount = process.memory.map_or_else(|| "?".to_owned(), memory);
    let busy = process.utilization.map_or_else(|| "?".to_owned(), |it| format!("{it} %"));
    let user = process.user.clone().or_else(|| process.uid.map(|it| it.to_string()));
    let user = user.unwrap_or_else(|| "?".to_owned());
    let front = format!(
        "{:<5}{:>8} {:<9}{amount:>9} {busy:>6}  ",
        gpu.index,
        process.pid,
        shortened(&user, 8)
    );
    let command = match &process.command {
        Some(command) => one_line(command),
        None => "(of another PID namespace)".to_owned(),
    };
    let room = width.saturating_sub(59).max(10);
    let back = format!("{lease:<7}{}", shortened(&command, room));
    Line::from(vec![Span::raw(front), place, Span::raw(back)])
}

fn leases(moment: &Moment, width: usize) -> Vec<Line<'static>> {
    let Some(tickets) = &moment.leases else {
        return vec![Line::raw("leases cannot be read")];
    };
    let line = |it: &Ticket| {
        let name = moment.gpus().iter().find(|gpu| gpu.uuid == it.gpu);
        let name = name.map_or_else(|| it.gpu.to_string(), |it| it.name.clone());
        let command =
            shortened(&one_line(it.command.as_deref().unwrap_or("an unknown program")), 50);
        let since = it.held.or(it.came).map(|since| moment.at.saturating_sub(since) / 1000);
        let since = since.map_or_else(|| "?".to_owned(), duration);
        let what = match it.position {
            0 => format!("{name} is held by `{command}` for {since}"),
            position => format!("{position}. for {name}: `{command}` waits for {since}"),
        };
        Line::raw(shortened(&what, width))
    };
    section("leases", tickets.iter().map(line))
}

/// `3 s`, `12 min`, `4.5 h`.
fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{}.{} h", seconds / 3600, seconds % 3600 / 360),
    }
}

fn footer(app: &App, means: Means) -> Line<'static> {
    match &app.mode {
        Mode::Confirm(victim) => Line::styled(
            format!(
                "end `{}` (pid {})?  y: ask it to end   K: kill it   any other key: no",
                victim.command, victim.id
            ),
            means.bad(),
        ),
        Mode::Filter => {
            Line::raw(format!("filter: {}_   Enter keeps it, Esc clears it", app.filter))
        }
        Mode::Help => Line::raw("any key goes back"),
        Mode::Normal => match &app.said {
            Some(said) => Line::styled(said.clone(), BOLD),
            None if !app.filter.is_empty() => Line::raw(format!(
                "only what has `{}` in it; Esc shows all   ? help   q leave",
                app.filter
            )),
            None => Line::styled(
                "? help  / filter  m b g p sort  arrows choose  x end  space pause  q leave",
                FAINT,
            ),
        },
    }
}

fn help() -> Vec<Line<'static>> {
    let text = "
 arrows, j, k, PgUp, PgDn   choose a process
 m  b  g  p                 sort by memory, by how busy, by GPU, by PID
 /                          show only what has a text in it; Esc shows all
 x                          end the chosen process; it is asked first
 space                      hold the picture still; what is heard meanwhile is kept
 q, Esc                     leave

 place   right: its project means this GPU, or one of its roles does
         WRONG: its project means another GPU, or forbids this one
         undeclared: its project declares no GPU
         unmanaged: no project with a policy is known, or it may not be seen
 lease   held: it works under a lease of this GPU; none: it does not
 busy    share of the last seconds in which its kernels ran
 ?       the driver does not say it; a blank in a chart is a gap, never zero
";
    text.lines().skip(1).map(|it| Line::raw(it.to_owned())).collect()
}
