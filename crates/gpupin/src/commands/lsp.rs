use crate::{
    failure::{Exit, Failure},
    lsp,
    terminal::Terminal,
};

/// Talk to an editor: the Language Server Protocol on standard input and output
///
/// Shows the findings of `gpupin scan` while you type, the page of a rule where the pointer is, and fixes as code
/// actions. The settings `select`, `extendSelect`, `ignore` and `profile` in the editor's initialization options
/// mean what the flags of `gpupin scan` mean. Messages about the server itself go to standard error.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {}

const AFTER: &str = "\
An editor starts it; the README has configurations.

Exit codes: 0 ended as the editor asked, 1 ended without its `shutdown`";

pub(crate) fn run(_: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    lsp::serve(terminal)
}
