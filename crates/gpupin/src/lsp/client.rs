//! The editor: what it can do, and talking to it.

use lsp_server::{Message, Notification, Request, RequestId, Response, ResponseError};
use lsp_types::{
    ClientCapabilities, DiagnosticTag, MarkupKind, MessageType, ResourceOperationKind,
    ShowMessageParams,
    notification::{Notification as _, PublishDiagnostics, ShowMessage},
    request::{RegisterCapability, Request as _},
};

use super::text::Encoding;
use crate::{
    failure::{Failure, Part},
    terminal::Terminal,
};

pub(super) struct Client<'t> {
    pub(super) terminal: &'t mut Terminal,
    pub(super) can: Abilities,
    requests: i32,
}

/// What the editor can do.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Abilities {
    pub(super) encoding: Encoding,
    pub(super) related_information: bool,
    pub(super) code_description: bool,
    pub(super) unnecessary_tag: bool,
    /// Hovers may be Markdown.
    pub(super) markdown: bool,
    pub(super) code_action_literals: bool,
    pub(super) preferred_actions: bool,
    /// Edits may name the version of the document they are for.
    pub(super) versioned_edits: bool,
    /// Edits may make files.
    pub(super) new_files: bool,
    /// Tells about changed files when asked to.
    pub(super) watches_files: bool,
}

impl Abilities {
    pub(super) fn of(client: &ClientCapabilities) -> Self {
        let general = client.general.as_ref();
        let text = client.text_document.as_ref();
        let workspace = client.workspace.as_ref();
        let diagnostics = text.and_then(|it| it.publish_diagnostics.as_ref());
        let actions = text.and_then(|it| it.code_action.as_ref());
        let hover = text.and_then(|it| it.hover.as_ref()).and_then(|it| it.content_format.as_ref());
        let tags = diagnostics.and_then(|it| it.tag_support.as_ref());
        let edits = workspace.and_then(|it| it.workspace_edit.as_ref());
        let watching = workspace.and_then(|it| it.did_change_watched_files.as_ref());
        Self {
            encoding: Encoding::of_offer(general.and_then(|it| it.position_encodings.as_deref())),
            related_information: diagnostics.and_then(|it| it.related_information) == Some(true),
            code_description: diagnostics.and_then(|it| it.code_description_support) == Some(true),
            unnecessary_tag: tags
                .is_some_and(|it| it.value_set.contains(&DiagnosticTag::UNNECESSARY)),
            markdown: hover.is_some_and(|it| it.contains(&MarkupKind::Markdown)),
            code_action_literals: actions
                .is_some_and(|it| it.code_action_literal_support.is_some()),
            preferred_actions: actions.and_then(|it| it.is_preferred_support) == Some(true),
            versioned_edits: edits.and_then(|it| it.document_changes) == Some(true),
            new_files: edits.is_some_and(|it| {
                let operations = it.resource_operations.as_ref();
                let creates = |it: &Vec<_>| it.contains(&ResourceOperationKind::Create);
                it.document_changes == Some(true) && operations.is_some_and(creates)
            }),
            watches_files: watching.and_then(|it| it.dynamic_registration) == Some(true),
        }
    }
}

impl<'t> Client<'t> {
    pub(super) fn new(terminal: &'t mut Terminal) -> Self {
        Self { terminal, can: Abilities::default(), requests: 0 }
    }

    pub(super) fn respond(
        &mut self,
        id: RequestId,
        result: Result<serde_json::Value, ResponseError>,
    ) {
        self.send(&Message::Response(Response { id, response_result: result }));
    }

    pub(super) fn publish(&mut self, params: lsp_types::PublishDiagnosticsParams) {
        let method = PublishDiagnostics::METHOD.to_owned();
        self.send(&Message::Notification(Notification::new(method, params)));
    }

    pub(super) fn register(&mut self, params: lsp_types::RegistrationParams) {
        self.requests += 1;
        let id = RequestId::from(format!("gpupin-{}", self.requests));
        let method = RegisterCapability::METHOD.to_owned();
        self.send(&Message::Request(Request::new(id, method, params)));
    }

    /// Shows the user an error, in the words of the command line.
    pub(super) fn show(&mut self, failure: &Failure) {
        let params = ShowMessageParams { typ: MessageType::ERROR, message: text(failure) };
        let method = ShowMessage::METHOD.to_owned();
        self.send(&Message::Notification(Notification::new(method, params)));
    }

    /// For who looks into the server's log, which editors make of standard error.
    pub(super) fn log(&mut self, text: &str) {
        self.terminal.error(text);
    }

    fn send(&mut self, message: &Message) {
        if let Err(error) = message.write(&mut self.terminal.out()) {
            self.log(&format!("failed to write a message: {error}"));
        }
    }
}

/// What the command line would print.
pub(super) fn text(failure: &Failure) -> String {
    let line = |(part, text)| match part {
        Part::Error => text,
        Part::Cause => format!("  cause: {text}"),
        Part::Hint => format!("hint: {text}"),
    };
    failure.lines().map(line).collect::<Vec<_>>().join("\n")
}
