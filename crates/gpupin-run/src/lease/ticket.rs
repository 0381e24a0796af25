//! What a ticket is called, and what stands in it.
//!
//! The name is the ticket: GPU, number and slots never change. The text is lines of JSON, only ever added to, each in one write.
//! It may come from anybody who may write to the directory, so it is read with care and decides nothing about who holds.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use gpupin_policy::GpuUuid;
use serde::{Deserialize, Serialize};

use super::{HolderText, queue::Ticket};
use crate::process::ProcessId;

pub(super) const VERSION: u32 = 1;

/// What is read of a ticket at most, in bytes.
pub(super) const MOST: usize = 64 << 10;

/// The longest command that is noted, in bytes.
const LONGEST_COMMAND: usize = 4 << 10;

/// The name of a ticket file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) gpu: GpuUuid,
    pub(super) ticket: Ticket,
}

impl Name {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.rsplitn(3, '.');
        let (slots, number, gpu) = (parts.next()?, parts.next()?, parts.next()?);
        let ticket = Ticket { number: number.parse().ok()?, slots: slots.parse().ok()? };
        let name = Self { gpu: gpu.replace('+', "/").parse().ok()?, ticket };
        // One ticket, one name: no leading zeros or signs.
        (ticket.slots > 0 && name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ticket { number, slots } = self.ticket;
        // The names of MIG instances before R470 have slashes.
        write!(f, "{}.{number}.{slots}", self.gpu.as_str().replace('/', "+"))
    }
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct First {
    version: u32,
    process: ProcessId,
    command: String,
    /// Milliseconds since 1970, like all times here.
    came: u64,
}

/// A line behind the first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Line {
    /// When it was its turn.
    Held(u64),
    /// A process of the program that was seen on the GPU.
    Process(ProcessId),
    /// How long the program has used the GPU so far, in milliseconds, and when that was known.
    Used { milliseconds: u64, at: u64 },
}

/// What is understood of a ticket's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) holder: Option<HolderText>,
    pub(super) came: Option<SystemTime>,
    pub(super) held: Option<SystemTime>,
    pub(super) processes: Vec<ProcessId>,
    pub(super) used: Option<(Duration, SystemTime)>,
}

impl Text {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut text = Self::default();
        let mut lines =
            bytes.split_inclusive(|it| *it == b'\n').filter_map(|it| it.strip_suffix(b"\n"));
        let first = lines.next().and_then(|it| serde_json::from_slice::<First>(it).ok());
        let Some(first) = first.filter(|it| it.version == VERSION) else { return text };
        text.holder = Some(HolderText { process: first.process, command: first.command });
        text.came = time(first.came);
        for line in lines {
            match serde_json::from_slice(line) {
                Ok(Line::Held(at)) => text.held = time(at),
                Ok(Line::Process(process)) => text.processes.push(process),
                Ok(Line::Used { milliseconds, at }) => {
                    text.used = time(at).map(|at| (Duration::from_millis(milliseconds), at));
                }
                // A newer gpupin has more to say.
                Err(_) => {}
            }
        }
        text
    }

    /// Every process that may be left on the GPU.
    pub(super) fn everybody(&self) -> impl Iterator<Item = ProcessId> {
        let holder = self.holder.iter().map(|it| it.process);
        holder.chain(self.processes.iter().copied())
    }
}

/// The first line for a ticket.
pub(super) fn first_line(holder: &HolderText, came: SystemTime) -> String {
    let mut command = holder.command.as_str();
    while command.len() > LONGEST_COMMAND {
        command = &command[..command.floor_char_boundary(LONGEST_COMMAND)];
    }
    let (version, command) = (VERSION, command.to_owned());
    json_line(&First { version, process: holder.process, command, came: milliseconds(came) })
}

pub(crate) fn json_line(line: &impl Serialize) -> String {
    let mut text = serde_json::to_string(line).expect("numbers and strings become JSON");
    text.push('\n');
    text
}

/// Milliseconds since 1970. A clock before that is not set.
pub(crate) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `None` for times no clock shows.
fn time(milliseconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use expect_test::expect_file;

    use super::{HolderText, Line, Name, Text, first_line, json_line};
    use crate::process::ProcessId;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for text in [
            "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6.1.1",
            "MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6+1+0.18446744073709551615.4",
        ] {
            assert_eq!(Name::parse(text).map(|it| it.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_is_no_name_is_no_ticket() {
        let gpu = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";
        for end in
            ["", ".1", ".01.1", ".1.0", ".+1.1", ".18446744073709551616.1", ".1.1.1", ".-1.1"]
        {
            assert_eq!(Name::parse(&format!("{gpu}{end}")), None, "{end}");
        }
        assert_eq!(Name::parse("queue.lock"), None);
    }

    #[test]
    fn a_text_is_read_as_it_is_written_and_is_the_golden_one() {
        let process = ProcessId { pid: 4242, started: 98_765 };
        let holder = HolderText { process, command: "python train.py".to_owned() };
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let worker = ProcessId { pid: 4250, started: 98_770 };
        let mut text = first_line(&holder, at(1_795_681_513));
        for line in [
            Line::Held(1_795_681_520_000),
            Line::Process(worker),
            Line::Used { milliseconds: 24_000, at: 1_795_681_560_000 },
        ] {
            text += &json_line(&line);
        }
        expect_file!["../../../../wire/ticket.jsonl"].assert_eq(&text);
        let read = Text::parse(text.as_bytes());
        assert_eq!(read.holder, Some(holder));
        assert_eq!(read.came, Some(at(1_795_681_513)));
        assert_eq!(read.held, Some(at(1_795_681_520)));
        assert_eq!(read.everybody().collect::<Vec<_>>(), [process, worker]);
        assert_eq!(read.used, Some((Duration::from_secs(24), at(1_795_681_560))));
    }

    #[test]
    fn what_is_not_understood_says_nothing() {
        let line = |text: &[u8]| Text::parse(text);
        for text in
            [&b""[..], b"\xff\n", b"{}\n", b"{\"version\":1", b"{\"version\":2,\"pid\":1}\n"]
        {
            assert_eq!(line(text), Text::default());
        }
        let holder =
            HolderText { process: ProcessId { pid: 1, started: 2 }, command: String::new() };
        let text =
            first_line(&holder, SystemTime::UNIX_EPOCH) + "{\"sung\":1}\n{\"held\":1}\n{\"hel";
        let read = line(text.as_bytes());
        assert_eq!(read.held, Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1)));
    }

    #[test]
    fn a_long_command_is_cut_between_characters() {
        let process = ProcessId { pid: 1, started: 2 };
        let command = "ü".repeat(5000) + "x";
        let text = first_line(&HolderText { process, command }, SystemTime::UNIX_EPOCH);
        assert_eq!(Text::parse(text.as_bytes()).holder.unwrap().command, "ü".repeat(2048));
    }
}
