//! What happened on this machine, for reports: lines of JSON in the directory of leases, one file per user.
//!
//! Only its owner writes to a file, only at its end, and each line in one write, so that lines of several processes do not mix. A file
//! that has become large is renamed, and the one before it dropped.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
    time::SystemTime,
};

use gpupin_device::Kind;
use gpupin_policy::GpuUuid;
use rustix::{
    fs::{self, FlockOperation},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use crate::{
    lease::{
        Directory,
        ticket::{json_line, milliseconds},
    },
    process::ProcessId,
};

const VERSION: u32 = 1;

/// When a file is renamed, in bytes. About 20,000 events.
const LARGE: u64 = 4 << 20;

/// The longest command that is noted, in bytes.
const LONGEST_COMMAND: usize = 1 << 10;

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    version: u32,
    /// Milliseconds since 1970.
    pub at: u64,
    /// `simulated` where a scene was asked, and no GPU.
    pub kind: Kind,
    pub process: ProcessId,
    pub command: String,
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    LeaseTaken {
        #[serde(with = "uuids")]
        gpus: Vec<GpuUuid>,
        waited_ms: u64,
    },
    LeaseGivenBack {
        #[serde(with = "uuids")]
        gpus: Vec<GpuUuid>,
        held_ms: u64,
    },
    /// Waiting ended without it.
    LeaseNotHad {
        #[serde(with = "uuids")]
        gpus: Vec<GpuUuid>,
        waited_ms: u64,
        why: String,
    },
    RunStarted {
        #[serde(with = "uuids")]
        gpus: Vec<GpuUuid>,
        /// The evidence, by its name.
        evidence: Option<String>,
    },
    RunEnded {
        #[serde(with = "uuids")]
        gpus: Vec<GpuUuid>,
        evidence: Option<String>,
        verdict: Option<String>,
        code: u8,
    },
}

/// Why nothing was noted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    #[error("failed to write to the log `{}`", path.display())]
    File { path: PathBuf, source: io::Error },
    /// Somebody else made the file of this name.
    #[error("the log `{}` belongs to uid {owner}", path.display())]
    NotOurs { path: PathBuf, owner: u32 },
}

impl Entry {
    pub fn new(
        at: SystemTime,
        kind: Kind,
        process: ProcessId,
        command: &str,
        event: Event,
    ) -> Self {
        let command = &command[..command.floor_char_boundary(LONGEST_COMMAND)];
        let at = milliseconds(at);
        Self { version: VERSION, at, kind, process, command: command.to_owned(), event }
    }
}

/// Adds a line.
pub fn append(directory: &Directory, entry: &Entry) -> Result<(), LogError> {
    append_up_to(directory, entry, LARGE)
}

fn append_up_to(directory: &Directory, entry: &Entry, large: u64) -> Result<(), LogError> {
    let user = rustix::process::geteuid().as_raw();
    let name = file_name(user);
    let path = directory.path().join(&name);
    let failed = |errno: Errno| LogError::File { path: path.clone(), source: errno.into() };
    loop {
        let (fd, stat) = match directory.open_to_append(&name) {
            Ok(it) => it,
            Err(Errno::NOENT) => match directory.create(&name) {
                Ok(_) | Err(Errno::EXIST) => continue,
                Err(errno) => return Err(failed(errno)),
            },
            Err(errno) => return Err(failed(errno)),
        };
        if stat.st_uid != user {
            return Err(LogError::NotOurs { path: path.clone(), owner: stat.st_uid });
        }
        // Whoever has the lock renames; the others write to either file.
        if u64::try_from(stat.st_size).is_ok_and(|it| it >= large)
            && fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).is_ok()
            && directory.is_named(&name, &stat)
        {
            directory.rename(&name, &format!("{name}.old")).map_err(failed)?;
            continue;
        }
        let line = json_line(entry);
        rustix::io::write(&fd, line.as_bytes()).map_err(failed)?;
        return Ok(());
    }
}

/// The events of all users that can be read, oldest first. Lines that are not understood are left out.
pub fn read(directory: &Directory) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for file in std::fs::read_dir(directory.path())? {
        let name = file?.file_name();
        let Some(name) = name.to_str().filter(|it| is_log(it)) else { continue };
        // What belongs to another user may be anything.
        let Ok(Some((fd, _))) = directory.open_regular(name) else { continue };
        let mut text = Vec::new();
        File::from(fd).take(2 * LARGE).read_to_end(&mut text)?;
        let lines = text.split(|it| *it == b'\n');
        let lines = lines.filter_map(|it| serde_json::from_slice::<Entry>(it).ok());
        entries.extend(lines.filter(|it| it.version == VERSION));
    }
    entries.sort_by_key(|it| it.at);
    Ok(entries)
}

fn file_name(user: u32) -> String {
    format!("log-{user}.jsonl")
}

fn is_log(name: &str) -> bool {
    let name = name.strip_suffix(".old").unwrap_or(name);
    let user = name.strip_prefix("log-").and_then(|it| it.strip_suffix(".jsonl"));
    user.is_some_and(|it| it.parse::<u32>().is_ok())
}

mod uuids {
    use gpupin_policy::GpuUuid;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(gpus: &[GpuUuid], to: S) -> Result<S::Ok, S::Error> {
        gpus.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<GpuUuid>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|it| it.parse().map_err(D::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs, thread,
        time::{Duration, SystemTime},
    };

    use expect_test::expect_file;
    use gpupin_device::Kind;

    use super::{Entry, Event, append, append_up_to, file_name, read};
    use crate::{lease::Directory, process::ProcessId};

    fn entry(event: Event) -> Entry {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_681_513);
        let process = ProcessId { pid: 4242, started: 98_765 };
        Entry::new(at, Kind::Measured, process, "python train.py", event)
    }

    fn events() -> Vec<Entry> {
        let gpus = || vec!["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6".parse().unwrap()];
        let evidence = || Some("261126-082513-4242".to_owned());
        let events = [
            Event::LeaseTaken { gpus: gpus(), waited_ms: 12 },
            Event::LeaseGivenBack { gpus: gpus(), held_ms: 60_000 },
            Event::LeaseNotHad { gpus: gpus(), waited_ms: 600_000, why: "out of time".to_owned() },
            Event::RunStarted { gpus: gpus(), evidence: evidence() },
            Event::RunEnded {
                gpus: gpus(),
                evidence: evidence(),
                verdict: Some("proved".to_owned()),
                code: 0,
            },
        ];
        events.into_iter().map(entry).collect()
    }

    #[test]
    fn every_event_is_read_as_it_is_written_and_is_the_golden_one() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::open(temporary.path()).unwrap();
        for it in events() {
            append(&directory, &it).unwrap();
        }
        assert_eq!(read(&directory).unwrap(), events());
        let name = file_name(rustix::process::geteuid().as_raw());
        let text = fs::read_to_string(temporary.path().join(name)).unwrap();
        expect_file!["../../../wire/log.jsonl"].assert_eq(&text);
    }

    #[test]
    fn lines_of_several_writers_do_not_mix_and_what_is_old_goes() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::open(temporary.path()).unwrap();
        let entry = &events()[0];
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        append_up_to(&directory, entry, 5000).unwrap();
                    }
                });
            }
        });
        let names = fs::read_dir(temporary.path()).unwrap().count();
        assert_eq!(names, 2);
        let entries = read(&directory).unwrap();
        assert!(!entries.is_empty() && entries.iter().all(|it| it == entry), "{}", entries.len());
        for file in fs::read_dir(temporary.path()).unwrap() {
            for line in fs::read_to_string(file.unwrap().path()).unwrap().lines() {
                serde_json::from_str::<Entry>(line).unwrap();
            }
        }
    }

    #[test]
    fn a_link_of_the_logs_name_is_not_followed() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::open(temporary.path()).unwrap();
        let victim = temporary.path().join("victim");
        fs::write(&victim, "").unwrap();
        let name = file_name(rustix::process::geteuid().as_raw());
        std::os::unix::fs::symlink(&victim, temporary.path().join(name)).unwrap();
        append(&directory, &events()[0]).unwrap_err();
        assert_eq!(fs::read(&victim).unwrap(), b"");
    }
}
