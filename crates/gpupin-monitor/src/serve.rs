//! What every GPU does now and did before, over HTTP: a page for people, JSON for programs, metrics for Prometheus.
//!
//! - [`hub`]: each moment is written as JSON once, whoever asks for it, and goes to all who listen;
//! - [`connection`]: takes connections, and bounds what each may cost;
//! - [`routes`]: what there is, and who may ask;
//! - [`stream`]: server-sent events;
//! - [`metrics`]: Prometheus' text format;
//! - [`keep`]: the history is written, and nobody waits for it;
//! - [`past`]: the history is read;
//! - `dashboard`: the page, which is part of the program.
//!
//! Nothing here changes anything, and no question of a client reaches the driver: the sampler asks, at its own pace, whether nobody listens or
//! hundreds do. It listens on loopback only. Who else should see it comes through a reverse proxy that knows who asks.
//!
//! One thread does it all but what waits for the disk. A client that does not read what it asked for fills its own connection and then misses moments, which it is told.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use gpupin_device::Kind;
use tokio::{
    runtime::{self, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use self::{hub::Hub, keep::Keeper, routes::Api};
use crate::feed::Feed;

mod connection;
mod hub;
mod keep;
mod metrics;
mod past;
mod routes;
mod stream;

/// Where it listens if nothing else is said.
pub const ADDRESS: &str = "127.0.0.1:9876";

/// Ended by a signal, it waits so long for answers that are under way.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why it cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(
        "`{address}` is not a loopback address: everybody who reaches it could read which programs run here"
    )]
    NotLoopback { address: SocketAddr },
    #[error("`{address}` is in use")]
    InUse { address: SocketAddr },
    #[error("failed to listen on `{address}`")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("failed to start serving")]
    Start { source: io::Error },
}

/// What is served, apart from what the sampler says.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// The version of gpupin.
    pub version: &'static str,
    pub kind: Kind,
    /// How often the machine is looked at.
    pub period: Duration,
    /// The JSON schema of [`Snapshot`](crate::snapshot::Snapshot).
    pub snapshot_schema: &'static str,
}

impl About {
    /// The API as `OpenAPI` 3.1.
    pub fn openapi(self) -> serde_json::Value {
        routes::openapi(self)
    }
}

/// Addresses that are taken, and nobody is answered yet.
#[derive(Debug)]
pub struct Server {
    runtime: Runtime,
    listeners: Vec<TcpListener>,
    end: End,
}

/// The signals that ask a service to end.
#[derive(Debug)]
struct End {
    interrupt: Signal,
    terminate: Signal,
}

impl Server {
    /// Takes the addresses, and from now on the signals `INT` and `TERM`, which end [`Self::run`].
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, ServeError> {
        if let Some(address) = addresses.iter().find(|it| !it.ip().is_loopback()) {
            return Err(ServeError::NotLoopback { address: *address });
        }
        let start = |source| ServeError::Start { source };
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(start)?;
        let context = runtime.enter();
        let end = End {
            interrupt: signal(SignalKind::interrupt()).map_err(start)?,
            terminate: signal(SignalKind::terminate()).map_err(start)?,
        };
        let listeners = addresses.iter().map(|address| {
            connection::listen(*address).map_err(|source| match source.kind() {
                io::ErrorKind::AddrInUse => ServeError::InUse { address: *address },
                _ => ServeError::Listen { address: *address, source },
            })
        });
        let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
        drop(context);
        Ok(Self { runtime, listeners, end })
    }

    /// Where it listens: with the ports that were chosen where port 0 was asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|it| it.local_addr().ok()).collect()
    }

    /// Answers until a signal asks to end, and keeps what it tells in this file, if one is given. What keeps it from that is told.
    pub fn run(
        self,
        feed: Feed,
        about: About,
        history: Option<PathBuf>,
        mut tell: impl FnMut(&str),
    ) -> Result<(), ServeError> {
        let Self { runtime, listeners, mut end } = self;
        let start = |source| ServeError::Start { source };
        let hub = Arc::new(Hub::new(about.kind));
        let (send_news, mut news) = mpsc::unbounded_channel();
        let mut keeper = Keeper::start(history.clone(), about.kind, send_news).map_err(start)?;
        let kept = keeper.kept();
        {
            let hub = Arc::clone(&hub);
            // Writing JSON takes time that no answer should wait for.
            let publish = move || {
                for moment in feed.moments() {
                    let changes = hub.publish(Arc::clone(&moment));
                    keeper.keep(&moment, changes);
                }
            };
            thread::Builder::new().name("publish".to_owned()).spawn(publish).map_err(start)?;
        }
        let router = routes::router(Arc::new(Api::new(Arc::clone(&hub), about, kept, history)));
        let result = runtime.block_on(async {
            let server = connection::serve(listeners, &router)?;
            loop {
                tokio::select! {
                    _ = end.interrupt.recv() => break,
                    _ = end.terminate.recv() => break,
                    Some(text) = news.recv() => tell(&text),
                }
            }
            hub.close();
            server.end(FAREWELL).await;
            Ok(())
        });
        runtime.shutdown_background();
        result.map_err(start)
    }
}
