use std::{net::SocketAddr, sync::Arc, time::Duration};

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
    terminal::Terminal,
};

mod unit;

/// Serve what every GPU does now, as a page, as JSON and for Prometheus
///
/// Listens on this machine only, stays in the foreground and changes nothing. There is a page at `/`, `/api/v1/now`, `/api/v1/stream` (server-sent
/// events), `/api/v1/openapi.json`, `/metrics`, `/healthz` and `/readyz`. Prints the address of the page when it can be asked.
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
    server.run(feed, about(kind, period))?;
    Ok(Exit::Clean)
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
