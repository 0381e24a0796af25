//! One reader of the driver per machine and user, however many look.
//!
//! Who comes first reads, and offers every moment on a socket beside the leases; who comes later listens there. When the reader ends
//! the kernel frees its lock, and the next one reads. Only a socket of the same user or of root is believed, because whoever owns
//! it could say anything.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::AsFd as _,
        unix::{
            fs::{OpenOptionsExt as _, PermissionsExt as _},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use gpupin_policy::Policy;
use rustix::{
    fs::{FlockOperation, flock},
    net::sockopt::socket_peercred,
    process::geteuid,
};

use crate::{moment::Moment, sampler::Sampler};

/// How many moments wait for somebody who does not fetch them.
const BACKLOG: usize = 64;

/// How long somebody who listens may not fetch anything before they are left alone.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait before looking for a reader again.
const PAUSE: Duration = Duration::from_millis(50);

/// A moment as text is far below this; what is longer is no moment.
const LONGEST: u64 = 16 << 20;

/// Starts reading the driver. It is called when nobody else does.
pub type Start = Box<dyn FnMut() -> io::Result<Sampler> + Send>;

/// Moments of this machine, read by this process or another one.
#[derive(Debug)]
pub struct Feed {
    moments: Receiver<Arc<Moment>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    reads: AtomicBool,
}

/// Why there are no moments any more.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the machine")]
pub struct FeedError(#[from] io::Error);

impl Feed {
    /// Listens to whoever reads, or reads. `directory` is where the sockets lie; without one this process reads for itself alone.
    ///
    /// Whoever reads may be of another project: what they say of GPUs is told as `policy` sees it.
    pub fn open(
        directory: Option<PathBuf>,
        policy: Policy,
        start: Start,
    ) -> Result<Self, FeedError> {
        let (send, moments) = sync_channel(BACKLOG);
        let shared = Arc::new(Shared::default());
        let work = {
            let shared = Arc::clone(&shared);
            move || {
                let mut told = |mut moment: Arc<Moment>| {
                    if let Some(machine) = &mut Arc::make_mut(&mut moment).machine {
                        machine.judge_by(&policy);
                    }
                    tell(&send, &moment)
                };
                follow(directory.as_deref(), start, &send, &mut told, &shared);
            }
        };
        thread::Builder::new().name("follow the machine".to_owned()).spawn(work)?;
        Ok(Self { moments, shared })
    }

    /// The next moments, in order.
    pub fn moments(&self) -> &Receiver<Arc<Moment>> {
        &self.moments
    }

    /// Whether this process is the one that reads.
    pub fn reads(&self) -> bool {
        self.shared.reads.load(Ordering::SeqCst)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
    }
}

fn follow(
    directory: Option<&Path>,
    mut start: Start,
    to: &SyncSender<Arc<Moment>>,
    heard: &mut dyn FnMut(Arc<Moment>) -> bool,
    shared: &Arc<Shared>,
) {
    let mut directory = directory;
    while !shared.is_over.load(Ordering::SeqCst) {
        if let Some(stream) = directory.and_then(reader_of) {
            if !listen(stream, heard, shared) {
                // One of another version; it has its listeners, and this process has itself.
                directory = None;
            }
            continue;
        }
        let offer = match directory.map(Offer::new) {
            // Somebody is about to offer.
            Some(Ok(None)) => {
                thread::sleep(PAUSE);
                continue;
            }
            Some(Ok(Some(offer))) => Some(offer),
            // Nothing can be offered here, which keeps nobody from reading.
            Some(Err(_)) | None => None,
        };
        // A thread is all that can be lacking, and may be there again soon.
        let Ok(sampler) = start() else {
            thread::sleep(PAUSE);
            continue;
        };
        read(&sampler, offer.as_ref(), to, shared);
        return;
    }
}

/// The socket of somebody who reads and may be believed.
fn reader_of(directory: &Path) -> Option<UnixStream> {
    let own = geteuid();
    let users = if own.is_root() { vec![0] } else { vec![0, own.as_raw()] };
    users.into_iter().find_map(|user| {
        let stream = UnixStream::connect(socket(directory, user)).ok()?;
        let peer = socket_peercred(stream.as_fd()).ok()?.uid;
        (peer.is_root() || peer == own).then_some(stream)
    })
}

fn socket(directory: &Path, user: u32) -> PathBuf {
    directory.join(format!("moments-{user}.sock"))
}

/// Passes on what somebody else reads, until they end. Whether it was understood.
fn listen(stream: UnixStream, heard: &mut dyn FnMut(Arc<Moment>) -> bool, shared: &Shared) -> bool {
    // A reader that says nothing for so long is none.
    if stream.set_read_timeout(Some(PATIENCE)).is_err() {
        return false;
    }
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let read = reader.by_ref().take(LONGEST).read_until(b'\n', &mut line);
        if shared.is_over.load(Ordering::SeqCst)
            || !matches!(read, Ok(1..))
            || !line.ends_with(b"\n")
        {
            return true;
        }
        let Ok(moment) = serde_json::from_slice::<Moment>(&line) else { return false };
        if !heard(Arc::new(moment)) {
            return true;
        }
    }
}

/// Reads, and offers what is read, until nobody here listens any more.
fn read(
    sampler: &Sampler,
    offer: Option<&Offer>,
    to: &SyncSender<Arc<Moment>>,
    shared: &Arc<Shared>,
) {
    shared.reads.store(true, Ordering::SeqCst);
    let moments = sampler.listen();
    thread::scope(|scope| {
        if let Some(offer) = offer {
            scope.spawn(|| offer.serve(sampler, shared));
        }
        while !shared.is_over.load(Ordering::SeqCst) {
            match moments.recv_timeout(PAUSE) {
                Ok(moment) if !tell(to, &moment) => break,
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        shared.is_over.store(true, Ordering::SeqCst);
    });
}

/// Whether somebody still listens. Who is slow misses some.
fn tell(to: &SyncSender<Arc<Moment>>, moment: &Arc<Moment>) -> bool {
    !matches!(to.try_send(Arc::clone(moment)), Err(TrySendError::Disconnected(_)))
}

/// A socket on which moments are offered. The lock says that its owner lives.
#[derive(Debug)]
struct Offer {
    path: PathBuf,
    listener: UnixListener,
    _lock: File,
}

impl Offer {
    /// `None` if somebody else holds the lock.
    fn new(directory: &Path) -> io::Result<Option<Self>> {
        let user = geteuid().as_raw();
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nofollow())
            .open(directory.join(format!("moments-{user}.lock")))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let path = socket(directory, user);
        // It is of a reader that has ended: whoever lives has the lock.
        drop(fs::remove_file(&path));
        let listener = UnixListener::bind(&path)?;
        // What root reads may be seen by all, as everybody may ask the driver.
        let mode = if user == 0 { 0o666 } else { 0o600 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        listener.set_nonblocking(true)?;
        Ok(Some(Self { path, listener, _lock: lock }))
    }

    fn serve(&self, sampler: &Sampler, shared: &Arc<Shared>) {
        while !shared.is_over.load(Ordering::SeqCst) {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let (moments, shared) = (sampler.listen(), Arc::clone(shared));
                    let latest = sampler.latest();
                    let work = move || give(&stream, latest, &moments, &shared);
                    // Without a thread they read for themselves.
                    drop(thread::Builder::new().name("tell a viewer".to_owned()).spawn(work));
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

fn give(
    mut stream: &UnixStream,
    latest: Option<Arc<Moment>>,
    moments: &Receiver<Arc<Moment>>,
    shared: &Shared,
) {
    if stream.set_nonblocking(false).is_err() || stream.set_write_timeout(Some(PATIENCE)).is_err() {
        return;
    }
    let mut give = |moment: &Moment| {
        let mut line = serde_json::to_vec(moment).expect("a moment is text");
        line.push(b'\n');
        stream.write_all(&line).is_ok()
    };
    let mut goes_on = latest.is_none_or(|it| give(&it));
    while goes_on && !shared.is_over.load(Ordering::SeqCst) {
        match moments.recv_timeout(PAUSE) {
            Ok(moment) => goes_on = give(&moment),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn nofollow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use gpupin_device::scene::SceneMachine;
    use gpupin_policy::Policy;

    use super::{Feed, socket};
    use crate::sampler::{Sampler, Setting};

    /// A feed whose readers are counted.
    fn feed(directory: &Path, readers: &Arc<AtomicUsize>) -> Feed {
        let readers = Arc::clone(readers);
        let start = move || {
            readers.fetch_add(1, Ordering::SeqCst);
            let machine = Arc::new(SceneMachine::find("mixed".as_ref()).unwrap());
            let period = Duration::from_millis(10);
            let policy = Policy::default();
            let setting = Setting { period, policy, root: "/".into(), leases: None };
            Sampler::start(machine, Arc::new(setting))
        };
        Feed::open(Some(directory.to_owned()), Policy::default(), Box::new(start)).unwrap()
    }

    #[track_caller]
    fn next(feed: &Feed) -> u64 {
        feed.moments().recv_timeout(Duration::from_mins(1)).unwrap().at
    }

    #[test]
    fn one_reads_all_hear_and_the_next_takes_over() {
        let directory = tempfile::tempdir().unwrap();
        let readers = Arc::new(AtomicUsize::new(0));
        let first = feed(directory.path(), &readers);
        next(&first);
        let others: Vec<_> = (0..5).map(|_| feed(directory.path(), &readers)).collect();
        for other in &others {
            next(other);
            next(other);
            assert!(!other.reads());
        }
        assert!(first.reads());
        assert_eq!(readers.load(Ordering::SeqCst), 1);
        drop(first);
        // Exactly one of them reads from now on, and all hear.
        let seen = next(&others[0]);
        while !others.iter().any(Feed::reads) {
            std::thread::sleep(Duration::from_millis(10));
        }
        for other in &others {
            while next(other) <= seen {}
        }
        assert_eq!(others.iter().filter(|it| it.reads()).count(), 1);
        assert_eq!(readers.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_socket_that_nobody_answers_and_a_directory_that_is_not_there_keep_nobody_from_reading() {
        let directory = tempfile::tempdir().unwrap();
        let readers = Arc::new(AtomicUsize::new(0));
        let path = socket(directory.path(), rustix::process::geteuid().as_raw());
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
        next(&feed(directory.path(), &readers));
        next(&feed(&directory.path().join("nowhere"), &readers));
        assert_eq!(readers.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn who_says_nonsense_is_not_listened_to_for_ever() {
        use std::io::Write as _;
        let directory = tempfile::tempdir().unwrap();
        let path = socket(directory.path(), rustix::process::geteuid().as_raw());
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        let liar = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"{\"version\":7}\n").unwrap();
            listener
        });
        let readers = Arc::new(AtomicUsize::new(0));
        next(&feed(directory.path(), &readers));
        drop(liar.join().unwrap());
    }
}
