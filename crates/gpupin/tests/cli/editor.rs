//! An editor that talks to `gpupin lsp` and remembers what it is told.

use std::{
    collections::BTreeMap,
    io::{BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use lsp_server::{Message, Notification, Request, ResponseError};
use serde_json::{Value, json};

use crate::sandbox::Sandbox;

pub(crate) struct Editor {
    server: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    folder: PathBuf,
    requests: i32,
    /// Of whatever document changed last.
    version: i32,
    /// What it was told last, by file.
    published: BTreeMap<String, Value>,
    /// How often something was published.
    pub(crate) publications: usize,
    pub(crate) shown: Vec<String>,
    /// What the server asked for.
    pub(crate) asked: Vec<Request>,
}

impl Editor {
    /// Starts the server, somewhere else than in the project, and says nothing.
    pub(crate) fn start(sandbox: &Sandbox) -> Self {
        let mut command = sandbox.command(&["lsp"]);
        let command = command.current_dir("/").stdin(Stdio::piped());
        let mut server = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self {
            input: server.stdin.take(),
            output: BufReader::new(server.stdout.take().unwrap()),
            server,
            folder: sandbox.path().to_owned(),
            requests: 0,
            version: 1,
            published: BTreeMap::new(),
            publications: 0,
            shown: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// An editor that can everything, with these options, in the sandbox as its only folder.
    pub(crate) fn open(sandbox: &Sandbox, options: &Value) -> Self {
        let mut editor = Self::start(sandbox);
        let folders = json!([{"uri": editor.uri(""), "name": "sandbox"}]);
        editor.initialize(&json!({
            "processId": null, "rootUri": null, "workspaceFolders": folders,
            "capabilities": everything(), "initializationOptions": options,
        }));
        editor
    }

    pub(crate) fn initialize(&mut self, params: &Value) -> Value {
        let result = self.request("initialize", params).unwrap();
        self.notify("initialized", &json!({}));
        result
    }

    pub(crate) fn uri(&self, name: &str) -> String {
        let path = self.folder.join(name);
        format!("file://{}", path.to_str().unwrap().trim_end_matches('/'))
    }

    pub(crate) fn document(&self, name: &str) -> Value {
        json!({"uri": self.uri(name)})
    }

    pub(crate) fn open_file(&mut self, name: &str, text: &str) {
        let document =
            json!({"uri": self.uri(name), "languageId": "x", "version": 1, "text": text});
        self.notify("textDocument/didOpen", &json!({"textDocument": document}));
    }

    /// Replaces a range, given as lines and characters, or everything.
    pub(crate) fn change(&mut self, name: &str, range: Option<[u32; 4]>, text: &str) {
        let range = range.map(|[line, character, last, end]| {
            json!({"start": {"line": line, "character": character},
                   "end": {"line": last, "character": end}})
        });
        let change = range
            .map_or_else(|| json!({"text": text}), |range| json!({"range": range, "text": text}));
        self.version += 1;
        let document = json!({"uri": self.uri(name), "version": self.version});
        let params = json!({"textDocument": document, "contentChanges": [change]});
        self.notify("textDocument/didChange", &params);
    }

    /// Tells that files changed on disk: 1 created, 2 changed, 3 deleted.
    pub(crate) fn watched(&mut self, kind: u32, name: &str) {
        let change = json!({"uri": self.uri(name), "type": kind});
        self.notify("workspace/didChangeWatchedFiles", &json!({"changes": [change]}));
    }

    pub(crate) fn hover(&mut self, name: &str, line: u32, character: u32) -> Value {
        let position = json!({"line": line, "character": character});
        let params = json!({"textDocument": self.document(name), "position": position});
        self.request("textDocument/hover", &params).unwrap()
    }

    /// The code actions for a line, of the kinds asked for.
    pub(crate) fn actions(&mut self, name: &str, line: u32, only: &[&str]) -> Vec<Value> {
        let mut context = json!({"diagnostics": []});
        if !only.is_empty() {
            context["only"] = json!(only);
        }
        let range = json!({"start": {"line": line, "character": 0},
                           "end": {"line": line, "character": 999}});
        let params =
            json!({"textDocument": self.document(name), "range": range, "context": context});
        let actions = self.request("textDocument/codeAction", &params).unwrap();
        actions.as_array().cloned().unwrap_or_default()
    }

    /// What is shown now: `file:line:character code`, counted from 0.
    pub(crate) fn diagnostics(&mut self) -> Vec<String> {
        // An answer comes behind everything there was to tell.
        self.hover("none", 0, 0);
        let mut shown = Vec::new();
        for (uri, diagnostics) in &self.published {
            let path = uri.strip_prefix("file://").unwrap();
            let name =
                Path::new(path).strip_prefix(&self.folder).map_or(path, |it| it.to_str().unwrap());
            for it in diagnostics.as_array().unwrap() {
                let start = &it["range"]["start"];
                let what = it["code"].as_str().or(it["message"].as_str()).unwrap();
                shown.push(format!("{name}:{}:{} {what}", start["line"], start["character"]));
            }
        }
        shown
    }

    /// Everything that is shown of a file.
    pub(crate) fn published(&self, name: &str) -> Value {
        self.published[&self.uri(name)].clone()
    }

    pub(crate) fn request(&mut self, method: &str, params: &Value) -> Result<Value, ResponseError> {
        self.requests += 1;
        let id = self.requests.into();
        self.send(&Request::new(id, method.to_owned(), params).into());
        loop {
            match Message::read(&mut self.output).unwrap().unwrap() {
                Message::Response(response) => {
                    assert_eq!(response.id, self.requests.into());
                    return response.response_result;
                }
                Message::Notification(it) => self.heed(it),
                Message::Request(it) => self.asked.push(it),
            }
        }
    }

    pub(crate) fn notify(&mut self, method: &str, params: &Value) {
        self.send(&Notification::new(method.to_owned(), params).into());
    }

    pub(crate) fn send_raw(&mut self, text: &str) {
        let input = self.input.as_mut().unwrap();
        write!(input, "Content-Length: {}\r\n\r\n{text}", text.len()).unwrap();
        input.flush().unwrap();
    }

    /// The exit code once the server is told to `exit` or loses its editor, and what it said on standard error.
    pub(crate) fn end(mut self, say_exit: bool) -> (i32, String) {
        if say_exit {
            self.notify("exit", &Value::Null);
        }
        drop(self.input.take());
        while let Some(message) = Message::read(&mut self.output).unwrap() {
            assert!(matches!(message, Message::Notification(_)), "{message:?}");
        }
        let mut said = String::new();
        self.server.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.server.wait().unwrap().code().unwrap(), said)
    }

    fn send(&mut self, message: &Message) {
        message.write(self.input.as_mut().unwrap()).unwrap();
    }

    fn heed(&mut self, notification: Notification) {
        let Notification { method, params } = notification;
        match method.as_str() {
            "textDocument/publishDiagnostics" => {
                self.publications += 1;
                let uri = params["uri"].as_str().unwrap().to_owned();
                self.published.insert(uri, params["diagnostics"].clone());
            }
            "window/showMessage" => {
                self.shown.push(params["message"].as_str().unwrap().to_owned());
            }
            method => panic!("an unexpected `{method}`"),
        }
    }
}

/// The capabilities of an editor that can everything gpupin knows of.
pub(crate) fn everything() -> Value {
    json!({
        "workspace": {
            "workspaceEdit": {"documentChanges": true, "resourceOperations": ["create"]},
            "didChangeWatchedFiles": {"dynamicRegistration": true},
        },
        "textDocument": {
            "publishDiagnostics": {
                "relatedInformation": true, "tagSupport": {"valueSet": [1, 2]},
                "codeDescriptionSupport": true, "versionSupport": true,
            },
            "hover": {"contentFormat": ["markdown", "plaintext"]},
            "codeAction": {
                "isPreferredSupport": true,
                "codeActionLiteralSupport": {"codeActionKind": {"valueSet": ["quickfix", "source"]}},
            },
        },
    })
}
