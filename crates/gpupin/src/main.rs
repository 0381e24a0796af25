//! The `gpupin` program.
//!
//! The only crate that parses flags, prints, colours, reads the environment and exits. What the
//! verbs mean is decided in the other crates; here they meet files, a terminal and a user.
//!
//! - [`commands`]: one file per verb, each a clap struct and a function;
//! - [`project`]: which policy and lock file count, and what paths are relative to;
//! - [`changes`]: which files a change touches, and which findings it answers for;
//! - [`git`]: the only place that runs git;
//! - [`scan`]: from paths to findings, the pipeline behind `gpupin scan`;
//! - [`fix`](mod@fix): changed files, and the way back;
//! - [`report`]: findings in every output format, one file each;
//! - [`lease`]: taking a lease, visibly;
//! - [`run`](mod@run): one program on its GPU, the pipeline behind `gpupin run`;
//! - [`state`](mod@state): where gpupin keeps what the users of a machine share;
//! - [`order`](mod@order): what `gpupin scan --order` tells;
//! - [`lsp`]: the language server, findings while one types;
//! - [`quote`](mod@quote): variables and words in the syntax of those who read them;
//! - [`reference`](mod@reference): the pages under `docs/reference`;
//! - [`machine`]: which machine is asked, and what it is like at one moment;
//! - [`feed`]: where `watch` and `serve` get what they tell;
//! - [`watch`]: the terminal view of a machine;
//! - [`which`]: which GPU is `cuda:N`, to gpupin and to CUDA;
//! - [`doctor`]: whether all is set up so that work lands on the right GPU;
//! - [`failure`]: exit codes, errors and hints;
//! - [`terminal`]: the two output streams, and what each can show.

use std::process::ExitCode;

use crate::{commands::Cli, failure::Exit, terminal::Terminal};

mod changes;
mod commands;
mod doctor;
mod failure;
mod feed;
mod fix;
mod git;
mod lease;
mod lsp;
mod machine;
mod names;
mod order;
mod overlay;
mod project;
mod quote;
mod reference;
mod report;
mod run;
mod scan;
mod state;
mod table;
mod terminal;
mod watch;
mod which;

/// Reading many files is mostly allocating small nodes, which mimalloc does in three quarters of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Deeply nested source makes deep recursion, also when its tree is dropped: 20,000 brackets overflow
/// the usual 8 MB. Only what is touched costs memory.
const STACK: usize = 64 << 20;

fn main() -> ExitCode {
    // A process of a scene has the arguments of the program that it stands for.
    if let Some(exit) = commands::sim::settle() {
        return exit.into();
    }
    let cli = Cli::of_process();
    let needs_stack = cli.needs_stack();
    let work = move || {
        let mut terminal = Terminal::of_process(&cli.appearance);
        let exit = cli.run(&mut terminal).unwrap_or_else(|failure| {
            terminal.failure(&failure);
            failure.exit
        });
        terminal.finish(exit)
    };
    // Where a program is only started, a thread and its heap are a good part of what that costs.
    if !needs_stack {
        return work().into();
    }
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(work);
    // A panic was reported by its hook; the code is that of every Rust program that panics.
    let exit = thread.map_or(Some(Exit::Failed), |it| it.join().ok());
    exit.map_or_else(|| ExitCode::from(101), ExitCode::from)
}
