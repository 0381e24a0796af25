use std::{
    io::IoSlice,
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    path::PathBuf,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use gpupin_policy::{GpuUuid, OnMissing};
use gpupin_run::process::Process;
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};

use super::{
    give_back::Receipt,
    pin::{ProgramArgs, no_driver},
};
use crate::{
    commands::run::wait_time,
    failure::{Exit, Failure},
    lease::{self, Wish},
    run::choice,
    terminal::Terminal,
};

/// Wait for the GPU, and hand the lease over through a socket
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The descriptor of a connected `SOCK_SEQPACKET` socket
    #[arg(long, value_name = "FD")]
    socket: i32,

    /// The process that is to hold the GPU
    #[arg(long, value_name = "PID")]
    holder: u32,

    /// What that process runs, for people
    #[arg(long, value_name = "TEXT")]
    command: String,

    /// Wait this long, such as `30s` or `2h`, instead of what the policy says
    #[arg(long, value_name = "TIME", value_parser = wait_time)]
    timeout: Option<Duration>,

    #[command(flatten)]
    program: ProgramArgs,
}

#[derive(serde::Serialize)]
struct Message<'a> {
    version: u32,
    gpus: &'a [GpuUuid],
    waited_ms: u128,
    /// What `GPUPIN_LEASE` is for programs that are started under the lease; none, if there is nothing to hold.
    variable: Option<String>,
    /// The files whose locks the descriptors hold, to be removed when the lease is given back.
    tickets: Vec<PathBuf>,
    /// For who gives it back. None, if an outer lease holds the GPUs.
    receipt: Option<Receipt>,
}

/// More GPUs than any machine has.
const MOST_GPUS: usize = 64;

pub(super) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let socket = socket(args.socket)?;
    end_with_the_other_end(&socket)?;
    let holder = Process::read(args.holder).context("failed to read who is to hold the GPU")?.id;
    let project = args.program.open(terminal)?;
    let role = args.program.role(&project);
    let selector = args.program.selector(role.as_deref(), &project)?;
    let Some(machine) = args.program.machine()? else {
        return match project.policy.run.on_missing {
            OnMissing::Cpu => nothing(&socket),
            OnMissing::Error => Err(no_driver(&selector.to_string())),
        };
    };
    let inventory = machine.inventory().context("failed to list the GPUs")?;
    let (gpus, count) = match choice::meant(role.as_deref(), &project, &inventory) {
        Err(failure)
            if failure.exit == Exit::NoGpu && project.policy.run.on_missing == OnMissing::Cpu =>
        {
            return nothing(&socket);
        }
        meant => meant.map_err(|it| choice::with_unknown(it, &*machine))?,
    };
    let gpus = choice::pinned_among(gpus, count, &inventory);
    let policy = project.policy.lease;
    let wish = Wish {
        gpus,
        count,
        slots: policy.slots,
        command: args.command.clone(),
        patience: args.timeout.unwrap_or(policy.timeout),
        holder: Some(holder),
        machine: &*machine,
        inventory: &inventory,
    };
    let mut held = lease::take(&wish, terminal)?;
    // Where it is killed, the next holder waits until it is off the GPU.
    held.note_process(holder);
    let message = Message {
        version: 1,
        gpus: held.gpus(),
        waited_ms: held.waited().as_millis(),
        variable: Some(held.variable()),
        tickets: held.tickets(),
        receipt: (!held.is_nested()).then(|| Receipt {
            gpus: held.gpus().iter().map(ToString::to_string).collect(),
            kind: machine.kind(),
            holder,
            command: args.command.clone(),
            taken: milliseconds(SystemTime::now()),
        }),
    };
    let text = serde_json::to_vec(&message).context("failed to write the message")?;
    let descriptors: Vec<BorrowedFd<'_>> = held.descriptors().collect();
    send(&socket, &text, &descriptors).context("failed to hand the lease over")?;
    drop(descriptors);
    held.leave();
    Ok(Exit::Clean)
}

/// The policy lets the program run without its GPU, and it is not here.
fn nothing(socket: &OwnedFd) -> Result<Exit, Failure> {
    let message = Message {
        version: 1,
        gpus: &[],
        waited_ms: 0,
        variable: None,
        tickets: Vec::new(),
        receipt: None,
    };
    let text = serde_json::to_vec(&message).context("failed to write the message")?;
    send(socket, &text, &[]).context("failed to hand the lease over")?;
    Ok(Exit::Clean)
}

/// Since 1970.
fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[expect(unsafe_code, reason = "a descriptor that was inherited is known by its number alone")]
fn socket(number: i32) -> Result<OwnedFd, Failure> {
    if number <= 2 {
        return Err(Failure::usage("the socket must not be a standard stream"));
    }
    // SAFETY: it is not one of the standard streams, and nothing in this process has opened another before: the starter passed
    // it for this alone. A number that is not open fails at its first use.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Ends this process when nobody is at the other end any more: it would hold a place in the line for nobody.
#[expect(clippy::exit, reason = "nobody is there who would read an answer")]
fn end_with_the_other_end(socket: &OwnedFd) -> Result<(), Failure> {
    let socket = socket.try_clone().context("the socket cannot be used")?;
    thread::spawn(move || {
        loop {
            // No events: that the other end was closed is always told.
            let mut polled = [PollFd::new(&socket, PollFlags::empty())];
            match poll(&mut polled, None) {
                Ok(_) if polled[0].revents().contains(PollFlags::HUP) => {
                    // The kernel frees the ticket.
                    std::process::exit(i32::from(Exit::Busy.code()));
                }
                Err(rustix::io::Errno::INTR) | Ok(_) => {}
                Err(_) => return,
            }
        }
    });
    Ok(())
}

fn send(socket: &OwnedFd, text: &[u8], descriptors: &[BorrowedFd<'_>]) -> std::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_GPUS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(std::io::Error::other("too many GPUs"));
    }
    sendmsg(socket.as_fd(), &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
