use std::{
    ffi::OsString,
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    os::unix::process::CommandExt as _,
    path::PathBuf,
};

use anyhow::Context as _;
use gpupin_device::{Kind, Machine};
use gpupin_policy::{GpuUuid, Inventory, Mig};
use gpupin_run::{
    evidence::IsolationRecord,
    isolate::{self, Hidden, Order},
};
use rustix::pipe::{PipeFlags, pipe_with};

use super::choice::Choice;
use crate::failure::{Exit, Failure};

/// What keeps the other GPUs out of a program's reach.
pub(super) enum Isolation {
    NotWanted,
    /// It cannot be had at all.
    Refused(Vec<String>),
    /// A process of ours isolates itself, tells what it achieved, and becomes the program.
    Shim {
        order: Order,
        refused: Vec<String>,
        read: OwnedFd,
        write: OwnedFd,
    },
}

/// What the process of ours is to do.
#[derive(serde::Serialize, serde::Deserialize)]
struct ShimOrder {
    order: Order,
    /// Set if nothing could be hidden: an index counts the GPUs that are left.
    otherwise: Vec<(String, String)>,
}

/// What was achieved.
pub(super) struct Report {
    /// Out of reach.
    pub(super) gpus: Vec<GpuUuid>,
    pub(super) record: IsolationRecord,
}

impl Isolation {
    pub(super) fn of(
        is_wanted: bool,
        machine: &dyn Machine,
        inventory: &Inventory,
        choice: &Choice,
    ) -> Result<Self, Failure> {
        if !is_wanted {
            return Ok(Self::NotWanted);
        }
        let root = std::env::var_os("GPUPIN_SYSROOT").map(PathBuf::from);
        if machine.kind() == Kind::Simulated && root.is_none() {
            let why = "the machine is simulated and has no device nodes";
            return Ok(Self::Refused(vec![why.to_owned()]));
        }
        let root = root.unwrap_or_else(|| PathBuf::from("/"));
        let mut order = Order { hidden: Vec::new(), devices: root.join("dev") };
        let mut refused = Vec::new();
        for gpu in &inventory.gpus {
            let is_pinned = choice.pinned.iter().any(|it| it.gpu == gpu.uuid);
            if is_pinned {
                if gpu.mig != Mig::Disabled {
                    let why = "the instances of a GPU share its device node";
                    refused.push(format!("{}: {why}", gpu.uuid));
                }
                continue;
            }
            let minor = machine.status(&gpu.uuid).and_then(|it| it.minor);
            let hidden = minor.map_err(|it| it.to_string()).and_then(|minor| {
                let hidden = Hidden::find(&gpu.uuid, minor, gpu.pci, &root);
                hidden.map_err(|it| it.to_string())
            });
            match hidden {
                Ok(hidden) => order.hidden.push(hidden),
                Err(why) => {
                    refused.push(format!("{}: its device node is not known: {why}", gpu.uuid));
                }
            }
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("failed to make a pipe")?;
        Ok(Self::Shim { order, refused, read, write })
    }

    /// The GPUs that the program will find if everything works, which number them.
    pub(super) fn present(&self, inventory: &Inventory) -> Inventory {
        let Self::Shim { order, .. } = self else { return inventory.clone() };
        let is_hidden = |uuid: &GpuUuid| order.hidden.iter().any(|it| it.gpu == *uuid);
        let mut present = inventory.clone();
        present.gpus.retain(|it| !is_hidden(&it.uuid));
        present
    }

    /// The command that starts the program, with the variables it gets if nothing could be hidden.
    pub(super) fn command(
        &self,
        command: &[OsString],
        otherwise: Vec<(String, String)>,
    ) -> Result<Vec<OsString>, Failure> {
        let Self::Shim { order, write, .. } = self else { return Ok(command.to_vec()) };
        let order = ShimOrder { order: order.clone(), otherwise };
        let program = std::env::current_exe().context("failed to find the program of gpupin")?;
        let order = serde_json::to_string(&order).context("failed to write an order")?;
        let fd = write.as_raw_fd().to_string();
        let words = ["debug", "isolated", &order, &fd, "--"].map(OsString::from);
        Ok([program.into()].into_iter().chain(words).chain(command.iter().cloned()).collect())
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let write = match self {
            Self::Shim { write, .. } => Some(write.as_fd()),
            _ => None,
        };
        write.into_iter()
    }

    /// Waits until the program has become what it is.
    pub(super) fn report(self) -> Report {
        let (refused, read, write) = match self {
            Self::NotWanted => {
                return Report { gpus: Vec::new(), record: IsolationRecord::default() };
            }
            Self::Refused(refused) => return Report::nothing(refused),
            Self::Shim { refused, read, write, .. } => (refused, read, write),
        };
        // Only the program's end is left, which closes when it is executed.
        drop(write);
        let mut text = String::new();
        let told = File::from(read).read_to_string(&mut text);
        let report = told.ok().and_then(|_| serde_json::from_str::<isolate::Report>(&text).ok());
        let Some(mut report) = report else {
            return Report::nothing(vec!["the program did not tell what was achieved".to_owned()]);
        };
        report.record.refused.extend(refused);
        let gpus = report.unreachable.into_iter().map(|it| it.0).collect();
        Report { gpus, record: report.record }
    }
}

impl Report {
    fn nothing(refused: Vec<String>) -> Self {
        let record = IsolationRecord { requested: true, refused, ..Default::default() };
        Self { gpus: Vec::new(), record }
    }
}

/// In the child: isolates this process, tells what was achieved, and becomes the program.
pub(crate) fn become_isolated(
    order: &str,
    report_to: RawFd,
    command: &[OsString],
) -> Result<Exit, Failure> {
    let ShimOrder { order, otherwise } =
        serde_json::from_str(order).context("the order is not valid")?;
    let mut report_to = File::from(report_descriptor(report_to)?);
    let report = isolate::enter(&order);
    let text = serde_json::to_vec(&report).context("failed to write a report")?;
    report_to.write_all(&text).context("failed to tell what was achieved")?;
    let (name, args) = command.split_first().expect("clap wants a program");
    let mut command = std::process::Command::new(name);
    command.args(args);
    match (report.unreachable.len(), order.hidden.len()) {
        (hidden, all) if hidden == all => {}
        (0, _) => {
            command.envs(otherwise);
        }
        _ if otherwise.is_empty() => {}
        _ => {
            let text =
                "only some GPUs can be hidden, so that nobody knows what an index would mean";
            return Err(Failure::new(Exit::Program(126), anyhow::anyhow!(text))
                .hint("pin by UUID: `pin.as = \"uuid\"` in the policy"));
        }
    }
    let error = command.exec();
    let is_missing = error.kind() == std::io::ErrorKind::NotFound;
    let name = name.display();
    let (code, text) = if is_missing {
        (127, format!("`{name}` was not found"))
    } else {
        (126, format!("`{name}` cannot be started"))
    };
    Err(Failure::new(Exit::Program(code), anyhow::Error::new(error).context(text)))
}

/// The inherited descriptor, which the program must not inherit again.
#[expect(unsafe_code, reason = "a descriptor's number comes from the command line")]
fn report_descriptor(number: RawFd) -> Result<OwnedFd, Failure> {
    if number <= 2 {
        return Err(Failure::usage("the descriptor of the report is a standard stream"));
    }
    // SAFETY: the process that started this one made the descriptor for this and nothing else here knows its number.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)
        .context("the descriptor of the report is not open")?;
    Ok(fd)
}
