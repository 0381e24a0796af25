//! Server-sent events, as in <https://html.spec.whatwg.org/multipage/server-sent-events.html>.
//!
//! `moment` has a moment as JSON and its time as id. `alerts` has all that somebody should look at, at first and whenever that changes. `lost` says how many moments this client missed because it did not read fast enough.

use std::{
    convert::Infallible,
    fmt::Write as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use gpupin_device::Kind;
use hyper::body::{Body, Bytes, Frame};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::timeout,
};

use super::hub::{Hub, Published};

/// Where there is nothing to tell for so long, that is told: it shows either side that the other one is still there.
const QUIET: Duration = Duration::from_secs(15);

/// How long a browser waits before it comes again, in milliseconds.
const RETRY: u32 = 2000;

/// The body of an answer that goes on for as long as its client listens.
pub(super) struct Events(Option<Next>);

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Feed)>> + Send>>;

/// What one client has yet to get.
struct Feed {
    first: Option<Bytes>,
    receiver: Receiver<Arc<Published>>,
    kind: Kind,
    /// The alerts that this client knows: it gets others also if it missed the moment at which they changed.
    known: u64,
}

impl Events {
    pub(super) fn new(hub: &Hub) -> Self {
        Self(Some(Box::pin(Feed::new(hub).next())))
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(next) = &mut self.0 else { return Poll::Ready(None) };
        let next = ready!(next.as_mut().poll(context));
        let (bytes, next) =
            next.map(|(bytes, feed)| (bytes, Box::pin(feed.next()) as Next)).unzip();
        self.0 = next;
        Poll::Ready(bytes.map(|it| Ok(Frame::data(it))))
    }
}

impl Feed {
    fn new(hub: &Hub) -> Self {
        let (latest, receiver) = hub.listen();
        let mut feed = Self { first: None, receiver, kind: hub.kind(), known: 0 };
        let first = latest.map(|it| feed.events(&it)).unwrap_or_default();
        feed.first = Some(format!("retry: {RETRY}\n\n{first}").into());
        feed
    }

    async fn next(mut self) -> Option<(Bytes, Self)> {
        if let Some(first) = self.first.take() {
            return Some((first, self));
        }
        let text = match timeout(QUIET, self.receiver.recv()).await {
            Ok(Ok(published)) => self.events(&published),
            Ok(Err(RecvError::Lagged(count))) => {
                format!("event: lost\ndata: {{\"count\":{count}}}\n\n")
            }
            Ok(Err(RecvError::Closed)) => return None,
            Err(_) => ": nothing new\n\n".to_owned(),
        };
        Some((text.into(), self))
    }

    fn events(&mut self, published: &Published) -> String {
        let mut text = event(published);
        if self.known != published.alerts.number {
            self.known = published.alerts.number;
            write!(text, "event: alerts\ndata: {}\n\n", published.alerts(self.kind))
                .expect("writing to a string works");
        }
        text
    }
}

/// JSON has no line ends of its own, so that it is one line of data.
fn event(published: &Published) -> String {
    let json = std::str::from_utf8(&published.json).expect("JSON is text");
    let mut text = String::with_capacity(json.len() + 64);
    write!(text, "id: {}\nevent: moment\ndata: {json}\n\n", published.moment.at)
        .expect("writing to a string works");
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gpupin_device::Kind;
    use tokio::runtime;

    use super::{
        super::hub::{BACKLOG, Hub},
        Feed,
    };
    use crate::moment::{Moment, VERSION};

    fn moment(at: u64) -> Arc<Moment> {
        let gap = Some("nobody asked".to_owned());
        let (took, machine, leases, xids) = (0, None, None, Vec::new());
        Arc::new(Moment { version: VERSION, at, took, machine, gap, leases, xids })
    }

    /// What a client gets that reads nothing while these are published.
    fn check(before: u64, during: u64, expected: &[&str]) {
        let hub = Hub::new(Kind::Simulated);
        (0..before).for_each(|at| drop(hub.publish(moment(at))));
        let mut feed = Feed::new(&hub);
        (before..before + during).for_each(|at| drop(hub.publish(moment(at))));
        hub.close();
        let runtime = runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut got = Vec::new();
        runtime.block_on(async {
            while let Some((bytes, rest)) = feed.next().await {
                got.push(String::from_utf8(bytes.to_vec()).unwrap());
                feed = rest;
            }
        });
        let first_lines = |it: &String| it.lines().take(3).collect::<Vec<_>>().join("|");
        let got: Vec<_> = got.iter().map(first_lines).collect();
        let got = got.iter().map(|it| it.split("|data: {\"version").next().unwrap());
        assert_eq!(got.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_client_gets_the_last_moment_and_every_one_that_follows() {
        check(0, 2, &["retry: 2000|", "id: 0|event: moment", "id: 1|event: moment"]);
        check(5, 1, &["retry: 2000||id: 4", "id: 5|event: moment"]);
    }

    #[test]
    fn a_client_that_does_not_read_is_told_how_many_moments_it_missed() {
        let backlog = BACKLOG as u64;
        let mut expected = vec!["retry: 2000||id: 0".to_owned()];
        expected.push("event: lost|data: {\"count\":3}|".to_owned());
        expected.extend((4..backlog + 4).map(|at| format!("id: {at}|event: moment")));
        let expected: Vec<_> = expected.iter().map(String::as_str).collect();
        check(1, backlog + 3, &expected);
    }
}
