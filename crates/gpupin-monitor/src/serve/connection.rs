//! Takes connections, and bounds what each may cost.
//!
//! | what | bound |
//! |---|---|
//! | connections at once | [`CONNECTIONS`]; who comes later waits in the kernel's queue |
//! | time for the head of a request, and between requests | [`HEAD_TIME`] |
//! | size of that head, and of what is buffered | [`BUFFER`] |
//! | bodies of requests | no route reads one |
//! | time in which a client reads nothing of what it asked for | [`STALL`] |

use std::{
    io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpSocket, TcpStream},
    sync::{Semaphore, watch},
    time::{Sleep, sleep, timeout},
};

/// Below the 1024 files that a process may open where nobody said anything else.
const CONNECTIONS: usize = 512;

const HEAD_TIME: Duration = Duration::from_secs(10);

/// Bytes. Browsers send heads of 1 to 2 KiB, if they have no cookies for localhost.
const BUFFER: usize = 32 << 10;

const STALL: Duration = Duration::from_mins(2);

/// Bytes that the kernel keeps for a client that does not read. It doubles them.
const SEND_BUFFER: u32 = 128 << 10;

/// Connections that were asked for and not taken yet.
const QUEUE: u32 = 1024;

/// Takes an address. Connections inherit its options.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A service that is started again need not wait for connections of the last one to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(QUEUE)?.into_std()
}

/// Tasks that answer.
pub(super) struct Serving {
    end: watch::Sender<bool>,
}

/// Starts answering.
pub(super) fn serve(listeners: Vec<TcpListener>, router: &Router) -> io::Result<Serving> {
    let (end, ends) = watch::channel(false);
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    for listener in listeners {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::spawn(take(listener, router.clone(), Arc::clone(&free), ends.clone()));
    }
    Ok(Serving { end })
}

impl Serving {
    /// Takes no more connections, and waits so long for answers that are under way.
    pub(super) async fn end(self, patience: Duration) {
        self.end.send_replace(true);
        // Every connection has a receiver. An error is that some did not end in time.
        drop(timeout(patience, self.end.closed()).await);
    }
}

async fn take(
    listener: tokio::net::TcpListener,
    router: Router,
    free: Arc<Semaphore>,
    mut end: watch::Receiver<bool>,
) {
    loop {
        let accept = async {
            let permit = Arc::clone(&free).acquire_owned().await;
            (permit.expect("the semaphore is never closed"), listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accept => accepted,
            _ = end.wait_for(|it| *it) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, end) = (router.clone(), end.clone());
                tokio::spawn(async move {
                    answer(stream, router, end).await;
                    drop(permit);
                });
            }
            // Too many open files, most likely, and asking at once would not make them fewer.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(stream: TcpStream, router: Router, mut end: watch::Receiver<bool>) {
    // Events are small and should arrive at once. Without this they arrive all the same.
    drop(stream.set_nodelay(true));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(BUFFER);
    let stream = TokioIo::new(Impatient { stream, stalled: None });
    let connection = http.serve_connection(stream, TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    // A connection that fails is one that its client ended, or that is not HTTP: nobody is left to be told.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = end.wait_for(|it| *it) => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}

/// A connection that fails when its client has read nothing for [`STALL`].
struct Impatient {
    stream: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn unless_stalled<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.unless_stalled(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.unless_stalled(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
