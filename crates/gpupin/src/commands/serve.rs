use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use gpupin_device::{Kind, Machine};
use gpupin_monitor::{
    sampler::PERIOD,
    serve::{ADDRESS, About, ServeError, Server},
};

use crate::{
    failure::{Exit, Failure},
    feed,
    machine::MachineArgs,
    project::{self, ProjectArgs},
    state,
    terminal::Terminal,
};

mod unit;

/// Serve what every GPU does now and did before, as a page, as JSON and for Prometheus
///
/// Listens on this machine only, stays in the foreground and changes nothing on it. There is a page at `/`, `/api/v1/now`, `/api/v1/alerts`,
/// `/api/v1/stream` (server-sent events), `/api/v1/history/` with `range`, `series`, `processes`, `leases` and `events`, `/api/v1/openapi.json`,
/// `/metrics`, `/healthz` and `/readyz`. Prints the address of the page when it can be asked.
///
/// All of that is kept in the history, which `gpupin history` reads too. Where it cannot be written, that is told, and the rest goes on.
///
/// Everybody who can log in to this machine can read it: which programs use its GPUs, with their arguments. From elsewhere, use a
/// tunnel (`ssh -L 9876:127.0.0.1:9876 HOST`), or a reverse proxy with TLS and passwords that sets the header `Host` to `localhost`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Listen on this address of this machine, which may be given several times; port 0 chooses a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = ADDRESS)]
    listen: Vec<SocketAddr>,

    /// Look at the machine so often, from 100ms to 1min, if the driver is fast enough
    #[arg(long, value_name = "TIME", value_parser = period)]
    period: Option<Duration>,

    /// Keep the history in this file instead of that of this user or machine
    #[arg(long, value_name = "FILE", conflicts_with = "no_history")]
    history: Option<PathBuf>,

    /// Keep no history
    #[arg(long)]
    no_history: bool,

    /// Print a unit for systemd that runs this program with these flags, and do nothing else
    #[arg(long)]
    print_unit: bool,

    #[command(flatten)]
    machine: MachineArgs,

    #[command(flatten)]
    project: ProjectArgs,
}

const EXAMPLES: &str = "\
Examples:
  gpupin serve
  gpupin serve --listen [::1]:8080
  gpupin serve --machine busy                 a simulated machine
  gpupin serve --no-history                   nothing is kept
  gpupin serve --print-unit | sudo tee /etc/systemd/system/gpupin.service

Exit codes: 0 ended by a signal (INT or TERM), 2 could not listen, or there is no driver or it does not work";

fn period(text: &str) -> Result<Duration, String> {
    let period = gpupin_policy::duration(text).map_err(|it| it.to_string())?;
    let possible = Duration::from_millis(100)..=Duration::from_mins(1);
    let expected = || "expected 100ms to 1min".to_owned();
    Some(period).filter(|it| possible.contains(it)).ok_or_else(expected)
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    // The addresses come first: a machine may take a minute to answer, and a wrong flag should be told before.
    if args.print_unit {
        let unit = unit::text(std::env::args_os().skip(1)).map_err(Failure::usage)?;
        terminal.out().write_all(unit.as_bytes()).context("failed to write output")?;
        return Ok(Exit::Clean);
    }
    let server = Server::bind(&args.listen)?;
    let project = project::open(&args.project, None, terminal)?;
    let machine: Arc<dyn Machine> = args.machine.open()?.into();
    let kind = machine.kind();
    let period = args.period.unwrap_or(PERIOD);
    let setting = feed::setting(&*machine, project.policy, period, terminal);
    let feed = feed::open(machine, setting)?;
    for address in server.addresses() {
        writeln!(terminal.out(), "http://{address}/").context("failed to write output")?;
    }
    terminal.out().flush().context("failed to write output")?;
    if kind != Kind::Measured {
        terminal.status(&format!("everything that is served is {kind}"));
    }
    let history = history(args, kind, terminal);
    server.run(feed, about(kind, period), history, |news| terminal.warning(news))?;
    Ok(Exit::Clean)
}

/// The file to keep what is told, if that is wanted and possible.
fn history(args: &Args, kind: Kind, terminal: &mut Terminal) -> Option<PathBuf> {
    if args.no_history {
        return None;
    }
    let path = args.history.clone().or_else(|| state::history(kind));
    if path.is_none() {
        terminal.warning(
            "no history is kept: neither `XDG_STATE_HOME` nor `HOME` is set; `--history FILE` names a file",
        );
    }
    path
}

fn about(kind: Kind, period: Duration) -> About {
    About {
        version: env!("CARGO_PKG_VERSION"),
        kind,
        period,
        snapshot_schema: include_str!("../reference/gpus.schema.json"),
    }
}

/// What the service promises, for the reference.
pub(crate) fn openapi() -> String {
    let openapi = about(Kind::Measured, PERIOD).openapi();
    let text = serde_json::to_string_pretty(&openapi).expect("its keys are text");
    text + "\n"
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        let hint = match &error {
            ServeError::NotLoopback { .. } => Some(
                "gpupin has neither passwords nor TLS: listen on 127.0.0.1, and let a reverse proxy that has both, or `ssh -L`, lead there",
            ),
            ServeError::InUse { .. } => Some(
                "another `gpupin serve` may run; `ss -ltnp` tells who listens. `--listen 127.0.0.1:0` chooses a free port",
            ),
            ServeError::Listen { .. } | ServeError::Start { .. } => None,
        };
        let failure = Self::new(Exit::Failed, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
