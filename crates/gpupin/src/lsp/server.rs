use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

use lsp_server::{ErrorCode, Message, Notification, Request, ResponseError};
use lsp_types::{
    CodeActionKind, CodeActionOptions, CodeActionParams, CodeActionProviderCapability, Diagnostic,
    DidChangeTextDocumentParams, DidChangeWatchedFilesParams,
    DidChangeWatchedFilesRegistrationOptions, DidChangeWorkspaceFoldersParams,
    DidCloseTextDocumentParams, DidOpenTextDocumentParams, DidSaveTextDocumentParams,
    FileChangeType, FileSystemWatcher, GlobPattern, HoverParams, HoverProviderCapability,
    InitializeParams, InitializeResult, OneOf, PublishDiagnosticsParams, Registration,
    RegistrationParams, SaveOptions, ServerCapabilities, ServerInfo, TextDocumentSyncCapability,
    TextDocumentSyncKind, TextDocumentSyncOptions, TextDocumentSyncSaveOptions,
    WorkspaceFoldersServerCapabilities, WorkspaceServerCapabilities,
    notification::{
        DidChangeTextDocument, DidChangeWatchedFiles, DidChangeWorkspaceFolders,
        DidCloseTextDocument, DidOpenTextDocument, DidSaveTextDocument, Exit as ExitNotification,
        Initialized, Notification as _,
    },
    request::{CodeActionRequest, HoverRequest, Initialize, Request as _, Shutdown},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    action::{self, Asked},
    client::{Abilities, Client, text},
    document::Document,
    hover,
    places::Documents,
    settings::Settings,
    uri,
    workspace::{At, Workspace},
};
use crate::{
    failure::{Exit, Failure},
    fix::rounds::Changed,
};

pub(super) struct Server<'t> {
    pub(super) client: Client<'t>,
    phase: Phase,
    settings: Settings,
    workspaces: Vec<Workspace>,
    documents: Documents,
    published: BTreeMap<PathBuf, Published>,
    /// The failures that were shown and still hold.
    shown: BTreeSet<String>,
}

/// How it goes on after a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goes {
    On,
    Exit(Exit),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Uninitialized,
    Running,
    ShutDown,
}

/// What the editor shows for a file.
#[derive(Debug, PartialEq)]
struct Published {
    version: Option<i32>,
    diagnostics: Vec<Diagnostic>,
}

type Answer = Result<Value, ResponseError>;

impl<'t> Server<'t> {
    pub(super) fn new(client: Client<'t>) -> Self {
        Self {
            client,
            phase: Phase::Uninitialized,
            settings: Settings::default(),
            workspaces: Vec::new(),
            documents: Documents::new(),
            published: BTreeMap::new(),
            shown: BTreeSet::new(),
        }
    }

    pub(super) fn handle(&mut self, message: Message) -> Goes {
        match message {
            Message::Request(request) => self.request(request),
            Message::Notification(it) if it.method == ExitNotification::METHOD => {
                let asked = self.phase == Phase::ShutDown;
                return Goes::Exit(if asked { Exit::Clean } else { Exit::Findings });
            }
            Message::Notification(it) if self.phase == Phase::Running => self.notification(it),
            // Before and after, the specification has them dropped. Responses are to a registration.
            Message::Notification(_) | Message::Response(_) => {}
        }
        Goes::On
    }

    fn request(&mut self, request: Request) {
        let Request { id, method, params } = request;
        let answer = match (self.phase, method.as_str()) {
            (Phase::Uninitialized, Initialize::METHOD) => {
                parse(params).and_then(|it| self.initialize(it))
            }
            (Phase::Uninitialized, _) => {
                Err(error(ErrorCode::ServerNotInitialized, "expected `initialize`".to_owned()))
            }
            (Phase::ShutDown, _) => {
                Err(error(ErrorCode::InvalidRequest, "the server is shut down".to_owned()))
            }
            (Phase::Running, Initialize::METHOD) => {
                let text = "`initialize` comes once".to_owned();
                Err(error(ErrorCode::InvalidRequest, text))
            }
            (Phase::Running, Shutdown::METHOD) => {
                self.phase = Phase::ShutDown;
                Ok(Value::Null)
            }
            (Phase::Running, HoverRequest::METHOD) => {
                parse(params).and_then(|it| self.answer(|server| server.hover(&it)))
            }
            (Phase::Running, CodeActionRequest::METHOD) => {
                parse(params).and_then(|it| self.answer(|server| server.code_actions(&it)))
            }
            (Phase::Running, method) => {
                Err(error(ErrorCode::MethodNotFound, format!("no method `{method}`")))
            }
        };
        self.client.respond(id, answer);
    }

    fn notification(&mut self, notification: Notification) {
        let Notification { method, params } = notification;
        let done = match method.as_str() {
            Initialized::METHOD => {
                self.initialized();
                Ok(())
            }
            DidOpenTextDocument::METHOD => parse(params).map(|it| self.open(it)),
            DidChangeTextDocument::METHOD => parse(params).map(|it| self.change(it)),
            DidSaveTextDocument::METHOD => parse(params).map(|it| self.save(&it)),
            DidCloseTextDocument::METHOD => parse(params).map(|it| self.close(&it)),
            DidChangeWatchedFiles::METHOD => parse(params).map(|it| self.watched(&it)),
            DidChangeWorkspaceFolders::METHOD => parse(params).map(|it| self.folders(&it)),
            _ => Ok(()),
        };
        if let Err(error) = done {
            self.client.log(&format!("`{method}`: {}", error.message));
        }
    }

    fn initialize(&mut self, params: InitializeParams) -> Answer {
        self.client.can = Abilities::of(&params.capabilities);
        let mut folders: Vec<_> =
            params.workspace_folders.iter().flatten().map(|it| &it.uri).collect();
        #[expect(deprecated, reason = "some editors know one folder only")]
        if folders.is_empty() {
            folders.extend(&params.root_uri);
        }
        for folder in folders.into_iter().filter_map(uri::path) {
            self.add(At::Folder(folder));
        }
        match Settings::read(params.initialization_options) {
            Ok(settings) => self.settings = settings,
            Err(failure) => self.client.show(&failure),
        }
        self.phase = Phase::Running;
        let info = ServerInfo {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        };
        let capabilities = capabilities(&self.client.can);
        json(&InitializeResult { capabilities, server_info: Some(info) })
    }

    fn initialized(&mut self) {
        if !self.client.can.watches_files {
            return;
        }
        // Scripts need no extension, so every name may matter.
        let glob_pattern = GlobPattern::String("**/*".to_owned());
        let watchers = vec![FileSystemWatcher { glob_pattern, kind: None }];
        let options = DidChangeWatchedFilesRegistrationOptions { watchers };
        let method = DidChangeWatchedFiles::METHOD.to_owned();
        let register_options = json(&options).ok();
        let registration = Registration { id: "files".to_owned(), method, register_options };
        self.client.register(RegistrationParams { registrations: vec![registration] });
    }

    fn open(&mut self, params: DidOpenTextDocumentParams) {
        let document = params.text_document;
        let Some(path) = uri::path(&document.uri) else { return };
        let lsp_types::TextDocumentItem { uri, version, text, .. } = document;
        self.documents.insert(path.clone(), Document { uri, version, text });
        // An editor may forget what it was told of a file that was not open.
        self.published.remove(&path);
        if !self.workspaces.iter().any(|it| it.holds(&path)) {
            self.add(At::File(path.clone()));
        }
        for workspace in &mut self.workspaces {
            workspace.look_for(&path);
        }
    }

    fn change(&mut self, params: DidChangeTextDocumentParams) {
        let identifier = params.text_document;
        let Some(path) = uri::path(&identifier.uri) else { return };
        let Some(document) = self.documents.get_mut(&path) else {
            self.client.log(&format!("`{}` changed and is not open", identifier.uri.as_str()));
            return;
        };
        document.version = identifier.version;
        document.change(params.content_changes, self.client.can.encoding);
        self.touch(&path);
    }

    /// A document's text is known already. A policy counts as it is on disk, and a file may be there from now on.
    fn save(&mut self, params: &DidSaveTextDocumentParams) {
        let Some(path) = uri::path(&params.text_document.uri) else { return };
        for workspace in &mut self.workspaces {
            workspace.touch_on_disk(&path, false);
            workspace.look_for(&path);
        }
    }

    fn close(&mut self, params: &DidCloseTextDocumentParams) {
        let Some(path) = uri::path(&params.text_document.uri) else { return };
        self.documents.remove(&path);
        self.touch(&path);
        let documents = &self.documents;
        self.workspaces.retain(|it| {
            matches!(it.at, At::Folder(_)) || documents.keys().any(|path| it.holds(path))
        });
    }

    fn watched(&mut self, params: &DidChangeWatchedFilesParams) {
        for event in &params.changes {
            let Some(path) = uri::path(&event.uri) else { continue };
            for workspace in &mut self.workspaces {
                workspace.touch_on_disk(&path, event.typ != FileChangeType::CHANGED);
            }
        }
    }

    fn folders(&mut self, params: &DidChangeWorkspaceFoldersParams) {
        let paths = |folders: &[lsp_types::WorkspaceFolder]| -> Vec<PathBuf> {
            folders.iter().filter_map(|it| uri::path(&it.uri)).collect()
        };
        for removed in paths(&params.event.removed) {
            self.workspaces.retain(|it| it.at != At::Folder(removed.clone()));
        }
        for added in paths(&params.event.added) {
            self.add(At::Folder(added));
        }
        // What is open stays looked after, by a folder or by itself.
        let held = |path: &Path| self.workspaces.iter().any(|it| it.holds(path));
        let left: Vec<_> = self.documents.keys().filter(|it| !held(it)).cloned().collect();
        for path in left {
            self.add(At::File(path));
        }
        let folders: Vec<_> = self.workspaces.iter().map(|it| it.at.clone()).collect();
        let in_folder = |path: &Path| {
            folders.iter().any(|it| matches!(it, At::Folder(folder) if path.starts_with(folder)))
        };
        self.workspaces.retain(|it| !matches!(&it.at, At::File(file) if in_folder(file)));
    }

    fn add(&mut self, at: At) {
        if !self.workspaces.iter().any(|it| it.at == at) {
            self.workspaces.push(Workspace::new(at));
        }
    }

    fn touch(&mut self, path: &Path) {
        for workspace in &mut self.workspaces {
            workspace.touch(path);
        }
    }

    /// Brings everything up to date with the last message, and tells the editor what became of it.
    pub(super) fn settle(&mut self) {
        if self.phase != Phase::Running {
            return;
        }
        for workspace in &mut self.workspaces {
            let (documents, settings) = (&self.documents, &self.settings);
            let terminal = &mut *self.client.terminal;
            let refreshed = guarded(|| workspace.refresh(documents, settings, terminal));
            if let Err(failure) = refreshed {
                workspace.fail(failure);
            }
        }
        self.show_failures();
        self.publish();
    }

    fn show_failures(&mut self) {
        let mut shown = BTreeSet::new();
        for failure in self.workspaces.iter().filter_map(Workspace::failure) {
            let text = text(failure);
            if !self.shown.contains(&text) && !shown.contains(&text) {
                self.client.show(failure);
            }
            shown.insert(text);
        }
        self.shown = shown;
    }

    fn publish(&mut self) {
        let mut current: BTreeMap<PathBuf, Vec<Diagnostic>> = BTreeMap::new();
        for (at, workspace) in self.workspaces.iter().enumerate() {
            let diagnostics = guarded(|| workspace.diagnostics(&self.documents, &self.client.can));
            let diagnostics = diagnostics.unwrap_or_else(|failure| {
                self.client.show(&failure);
                BTreeMap::new()
            });
            let own = diagnostics.into_iter().filter(|(path, _)| {
                // A policy above its folder is nobody's.
                self.owner(path).is_none_or(|owner| owner == at)
            });
            current.extend(own);
        }
        for path in self.documents.keys().chain(self.published.keys()) {
            current.entry(path.clone()).or_default();
        }
        for (path, diagnostics) in current {
            let document = self.documents.get(&path);
            let new = Published { version: document.map(|it| it.version), diagnostics };
            let old = self.published.get(&path);
            let is_news = if document.is_some() {
                old != Some(&new)
            } else {
                old.map_or(&[][..], |it| &it.diagnostics) != new.diagnostics
            };
            if is_news {
                self.client.publish(PublishDiagnosticsParams {
                    uri: document.map_or_else(|| uri::of(&path), |it| it.uri.clone()),
                    version: new.version,
                    diagnostics: new.diagnostics.clone(),
                });
            }
            if document.is_none() && new.diagnostics.is_empty() {
                self.published.remove(&path);
            } else {
                self.published.insert(path, new);
            }
        }
    }

    /// Which workspace answers for a file: that of the innermost folder.
    fn owner(&self, path: &Path) -> Option<usize> {
        let holding = self.workspaces.iter().enumerate().filter(|it| it.1.holds(path));
        let depth = |at: &At| match at {
            At::Folder(folder) => folder.components().count(),
            At::File(_) => 0,
        };
        // The first of several, unlike `max_by_key`.
        holding.min_by_key(|it| std::cmp::Reverse(depth(&it.1.at))).map(|it| it.0)
    }

    /// Answers about the text as it is now. An error of the program's own is the answer, and not its end.
    fn answer(&mut self, work: impl FnOnce(&mut Self) -> Answer) -> Answer {
        self.settle();
        let answer = guarded(|| work(self));
        answer.unwrap_or_else(|failure| Err(error(ErrorCode::InternalError, text(&failure))))
    }

    fn hover(&self, params: &HoverParams) -> Answer {
        let at = &params.text_document_position_params;
        let hover = self.in_file(&at.text_document.uri, |findings, places| {
            hover::at(at.position, findings, places, &self.client.can)
        });
        json(&hover.flatten())
    }

    fn code_actions(&mut self, params: &CodeActionParams) -> Answer {
        if !self.client.can.code_action_literals {
            return Ok(Value::Null);
        }
        let fixed = self.fixed(params);
        let actions = self.in_file(&params.text_document.uri, |findings, places| {
            let asked = Asked { range: params.range, context: &params.context, fixed: &fixed };
            action::at(&asked, findings, places, &self.client.can)
        });
        json(&actions)
    }

    /// What all safe fixes of the file come to, if that is asked for.
    fn fixed(&mut self, params: &CodeActionParams) -> Vec<Changed> {
        let path = uri::path(&params.text_document.uri);
        let path = path.filter(|_| action::is_wanted(&action::FIX_ALL, &params.context));
        let Some(path) = path else { return Vec::new() };
        let Some(owner) = self.owner(&path) else { return Vec::new() };
        self.workspaces[owner].fixed(&path, &self.documents, self.client.terminal)
    }

    fn in_file<T>(
        &self,
        uri: &lsp_types::Uri,
        look: impl FnOnce(&[&gpupin_lint::finding::Finding], &mut super::places::Places<'_>) -> T,
    ) -> Option<T> {
        let path = uri::path(uri)?;
        let workspace = &self.workspaces[self.owner(&path)?];
        let (findings, mut places) =
            workspace.findings(&path, &self.documents, self.client.can.encoding)?;
        Some(look(&findings, &mut places))
    }
}

fn capabilities(can: &Abilities) -> ServerCapabilities {
    let sync = TextDocumentSyncOptions {
        open_close: Some(true),
        change: Some(TextDocumentSyncKind::INCREMENTAL),
        save: Some(TextDocumentSyncSaveOptions::SaveOptions(SaveOptions::default())),
        ..TextDocumentSyncOptions::default()
    };
    let actions = CodeActionOptions {
        code_action_kinds: Some(vec![CodeActionKind::QUICKFIX, action::FIX_ALL]),
        ..CodeActionOptions::default()
    };
    let folders = WorkspaceFoldersServerCapabilities {
        supported: Some(true),
        change_notifications: Some(OneOf::Left(true)),
    };
    ServerCapabilities {
        position_encoding: Some(can.encoding.kind()),
        text_document_sync: Some(TextDocumentSyncCapability::Options(sync)),
        hover_provider: Some(HoverProviderCapability::Simple(true)),
        code_action_provider: Some(CodeActionProviderCapability::Options(actions)),
        workspace: Some(WorkspaceServerCapabilities {
            workspace_folders: Some(folders),
            file_operations: None,
        }),
        ..ServerCapabilities::default()
    }
}

fn parse<T: DeserializeOwned>(params: Value) -> Result<T, ResponseError> {
    serde_json::from_value(params)
        .map_err(|it| error(ErrorCode::InvalidParams, format!("invalid parameters: {it}")))
}

fn json(value: &impl serde::Serialize) -> Answer {
    serde_json::to_value(value)
        .map_err(|it| error(ErrorCode::InternalError, format!("failed to write the answer: {it}")))
}

fn error(code: ErrorCode, message: String) -> ResponseError {
    ResponseError { code: code as i32, message, data: None }
}

/// Runs what may panic. The panic itself is told on standard error.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Failure> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Failure::usage(format!("internal error, please report it: {text}"))
            .hint("the next change starts over")
    })
}

#[cfg(test)]
mod tests {
    use super::guarded;
    use crate::lsp::client::text;

    #[test]
    fn a_panic_becomes_a_failure() {
        let failure = guarded::<()>(|| panic!("no unit {}", 7)).unwrap_err();
        assert_eq!(
            text(&failure),
            "internal error, please report it: no unit 7\nhint: the next change starts over"
        );
        assert_eq!(guarded(|| 1).ok(), Some(1));
    }
}
