use std::{
    io::{IsTerminal as _, stdin, stdout},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use gpupin_device::Machine;
use gpupin_monitor::sampler::{Setting, once};

use crate::{
    commands::rule::Format,
    failure::{Exit, Failure},
    feed,
    machine::MachineArgs,
    project::{self, ProjectArgs},
    report::write_json,
    terminal::Terminal,
    watch::{
        App, screen,
        view::{self, Means},
    },
};

/// See every GPU, who works on it, and whether that is where it should be
///
/// GPUs with their last minutes, processes by project, leases, and what somebody should look at. A process is in the right place if the
/// policy above its working directory means that GPU. What the driver does not say is `?`, and a gap in a chart stays a gap.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Look once, and print what was seen
    #[arg(long)]
    once: bool,

    /// How to print it, with `--once`
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t, requires = "once")]
    output_format: Format,

    /// How often to look
    ///
    /// At the usual pace all who watch share one reader of the driver.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = period, conflicts_with = "once")]
    every: Duration,

    #[command(flatten)]
    machine: MachineArgs,

    #[command(flatten)]
    project: ProjectArgs,
}

const EXAMPLES: &str = "\
Examples:
  gpupin watch
  gpupin watch --every 5s
  gpupin watch --once --output-format json
  gpupin watch --machine busy    a simulated machine

Exit codes: 0 left by the user, or `--once` saw the machine; 2 there is no driver, or it does not answer";

fn period(text: &str) -> Result<Duration, String> {
    let period = gpupin_policy::duration(text).map_err(|it| it.to_string())?;
    let is_sensible = (Duration::from_millis(100)..=Duration::from_hours(1)).contains(&period);
    if is_sensible { Ok(period) } else { Err("expected `100ms` to `1h`".to_owned()) }
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let project = project::open(&args.project, None, terminal)?;
    let machine: Arc<dyn Machine> = args.machine.open()?.into();
    let setting = feed::setting(&*machine, project.policy, args.every, terminal);
    let means = Means { has_colour: terminal.has_colour(), is_unicode: is_unicode() };
    if args.once {
        return look(args, &*machine, &setting, means, terminal);
    }
    if !stdin().is_terminal() || !stdout().is_terminal() {
        return Err(Failure::usage("there is no terminal to draw on").hint(
            "`--once` prints what is seen now, and `--output-format json` prints it for programs",
        ));
    }
    let feed = feed::open(machine, setting)?;
    screen::show(&feed, means).context("failed to use the terminal")?;
    Ok(Exit::Clean)
}

fn look(
    args: &Args,
    machine: &dyn Machine,
    setting: &Setting,
    means: Means,
    terminal: &mut Terminal,
) -> Result<Exit, Failure> {
    let moment = Arc::new(once(machine, setting));
    let exit = if moment.machine.is_some() { Exit::Clean } else { Exit::Failed };
    match args.output_format {
        Format::Json => write_json(&*moment, terminal.out()),
        Format::Text => {
            let mut app = App::default();
            app.hear(&moment);
            let width = u16::try_from(terminal.width().max(80)).unwrap_or(u16::MAX);
            terminal.out().write_all(view::text(&app, means, width).as_bytes())
        }
    }
    .context("failed to write output")?;
    Ok(exit)
}

/// Whether the locale says that the terminal shows more than ASCII.
fn is_unicode() -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let set = names.into_iter().find_map(|it| std::env::var(it).ok().filter(|it| !it.is_empty()));
    // Without any locale it is most likely a container or a service behind a terminal that can.
    set.is_none_or(|it| {
        let it = it.to_lowercase();
        it.contains("utf-8") || it.contains("utf8")
    })
}
