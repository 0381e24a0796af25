//! The language server: findings, pages and fixes in an editor.
//!
//! - [`server`] answers messages, one after the other; [`client`] talks to the editor and knows what it can do;
//! - [`workspace`] is a project that is kept scanned: what a change touches is read again, and the whole is judged anew,
//!   since a change in one file can bring a finding in another;
//! - [`document`] is a file that is open in the editor; its text counts, not the one on disk;
//! - [`text`] counts places as the protocol does, [`uri`] names files as it does, [`places`] does both for a scan;
//! - [`diagnostic`], [`hover`] and [`action`] say what a finding is for the editor.
//!
//! A scan runs when no message waits, or when an answer needs one. So ten changes in a row cost one scan, and no answer
//! is about an old text.

use std::{
    io::{self, ErrorKind},
    sync::mpsc::{self, TryRecvError},
    thread,
};

use lsp_server::Message;

use self::{
    client::Client,
    server::{Goes, Server},
};
use crate::{
    failure::{Exit, Failure},
    terminal::Terminal,
};

mod action;
mod client;
mod diagnostic;
mod document;
mod hover;
mod places;
mod server;
mod settings;
mod text;
mod uri;
mod workspace;

/// Serves the editor at standard input and output until it says `exit` or goes away.
pub(crate) fn serve(terminal: &mut Terminal) -> Result<Exit, Failure> {
    let (sender, messages) = mpsc::channel();
    // It ends with the process: a thread that waits for input cannot be joined.
    thread::spawn(move || read(&sender));
    let mut server = Server::new(Client::new(terminal));
    loop {
        let message = match messages.try_recv() {
            Err(TryRecvError::Empty) => {
                server.settle();
                messages.recv().ok()
            }
            message => message.ok(),
        };
        let goes = match message {
            Some(Ok(message)) => server.handle(message),
            Some(Err(error)) => {
                server.client.log(&format!("failed to read a message: {error}"));
                Goes::On
            }
            None => return Ok(Exit::Findings),
        };
        match goes {
            Goes::On => {}
            Goes::Exit(exit) => return Ok(exit),
        }
    }
}

/// Sends on what comes from standard input, until its end. What is no message is an error between messages.
fn read(messages: &mpsc::Sender<io::Result<Message>>) {
    let mut input = io::stdin().lock();
    loop {
        let message = match Message::read(&mut input) {
            Ok(Some(message)) => Ok(message),
            Ok(None) => return,
            Err(error) if error.kind() == ErrorKind::InvalidData => Err(error),
            Err(_) => return,
        };
        if messages.send(message).is_err() {
            return;
        }
    }
}
