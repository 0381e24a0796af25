//! Commands and method calls.

use tree_sitter::Node;

use super::{
    Does, Leave, Reach, RemoveHow, RemoveVariable, Script, SetHow, SetVariable, Step, words::single,
};
use crate::{
    language::command,
    span::Span,
    unit::Block,
    value::{Spanned, Value},
};

impl Script<'_> {
    pub(super) fn command(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        let span = self.span(node);
        let mut words = Vec::new();
        let mut sources = false;
        let mut cursor = node.walk();
        let children: Vec<_> = node.named_children(&mut cursor).collect();
        for child in children {
            match child.kind() {
                "command_invokation_operator" => sources = self.slice(child) == ".",
                "command_elements" => {
                    let mut inner = child.walk();
                    let elements: Vec<_> = child.named_children(&mut inner).collect();
                    for element in elements {
                        match element.kind() {
                            "command_argument_sep" | "redirection" | "stop_parsing" => {}
                            _ => {
                                self.blocks(element, steps);
                                words.push(self.word(element));
                            }
                        }
                    }
                }
                "comment" => {}
                _ => words.push(self.word(child)),
            }
        }
        let Some(name) = words.first().and_then(command::text).map(str::to_owned) else {
            if !words.is_empty() {
                self.run(span, flat(words), steps);
            }
            return;
        };
        if let Some(call) = self.call_function(&name, span) {
            steps.push(call);
            return;
        }
        if sources {
            if !name.to_ascii_lowercase().ends_with("activate.ps1") {
                let file = Some(name.replace('\\', "/").trim_start_matches("./").to_owned());
                let does = Does::LoadVariables { file, overrides: true };
                steps.push(self.out.event(span, does));
            }
            return;
        }
        match &*name.to_ascii_lowercase() {
            "remove-item" | "ri" | "del" | "rm" | "clear-item" => {
                for word in &words[1..] {
                    if let Some(name) = drive_variable(word) {
                        let does = RemoveVariable { name, how: RemoveHow::Remove };
                        steps.push(self.out.event(span, Does::RemoveVariable(does)));
                    }
                }
            }
            "set-item" | "new-item" | "si" | "ni" | "set-content" => {
                let values: Vec<&Spanned> =
                    words[1..].iter().filter(|it| !is_parameter(it)).collect();
                if let [path, .., value] = *values
                    && let Some(name) = drive_variable(path)
                {
                    self.set(span, &name, path.span, value.clone(), steps);
                }
            }
            "setx" => self.persistent(span, &words, steps),
            "set-location" | "cd" | "push-location" | "sl" | "chdir" => {
                self.change_directory(&words);
            }
            "start-process" | "saps" | "start" => {
                let started = started_process(&words);
                self.run(span, started, steps);
            }
            _ => self.run(span, flat(words), steps),
        }
    }

    /// Script blocks in arguments: `Start-Job { … }`, `ForEach-Object { … }`.
    fn blocks(&mut self, element: Node<'_>, steps: &mut Vec<Step>) {
        let inner = single(element);
        if inner.kind() == "script_block_expression" {
            let mut body = Vec::new();
            self.statements(inner, &mut body);
            if !body.is_empty() {
                steps.push(Step::Scope(Block(body)));
            }
        }
    }

    fn change_directory(&mut self, words: &[Spanned]) {
        let path = words[1..].iter().filter(|it| !is_parameter(it)).find_map(command::text);
        self.directory = match path.map(|it| it.replace('\\', "/")) {
            Some(path) if !path.contains("..") && !path.starts_with('/') && !path.contains(':') => {
                command::join(&self.directory, path.trim_start_matches("./").trim_end_matches('/'))
            }
            _ => String::new(),
        };
    }

    /// `setx X 1`
    fn persistent(&mut self, span: Span, words: &[Spanned], steps: &mut Vec<Step>) {
        let [_, name, value, ..] = words else { return };
        let Some(text) = command::text(name) else { return };
        let (name_span, name) = (name.span, text.to_owned());
        let (value, how, reach) = (as_text(value.clone()), SetHow::Persistent, Reach::Process);
        let set = SetVariable { name, name_span, value, how, reach };
        steps.push(self.out.event(span, Does::SetVariable(set)));
    }

    /// `[Environment]::SetEnvironmentVariable("X", "1", "User")`
    pub(super) fn invocation(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        let text = self.slice(node).to_ascii_lowercase();
        if !text.contains("environment]::setenvironmentvariable") {
            self.statements(node, steps);
            return;
        }
        let mut arguments = Vec::new();
        let mut left = vec![node];
        while let Some(inner) = left.pop() {
            if inner.kind() == "argument_expression" {
                arguments.push(self.word(inner));
                continue;
            }
            let mut cursor = inner.walk();
            let children: Vec<_> = inner.named_children(&mut cursor).collect();
            left.extend(children.into_iter().rev());
        }
        let [name, value, target @ ..] = &*arguments else { return };
        let Some(variable) = command::text(name).map(str::to_owned) else { return };
        let target = target.first();
        let persists = match target.map(command::text) {
            Some(Some(target)) => !target.eq_ignore_ascii_case("process"),
            // `[EnvironmentVariableTarget]::User`
            Some(None) => target.is_some_and(|it| {
                !self.out.source().slice(it.span).to_ascii_lowercase().ends_with("process")
            }),
            None => false,
        };
        let span = self.span(node);
        if persists {
            let words = [name.clone(), name.clone(), value.clone()];
            self.persistent(span, &words, steps);
        } else {
            let name_span = command::part(name, &variable, self.out);
            self.set(span, &variable, name_span, value.clone(), steps);
        }
    }

    pub(super) fn flow_control(&mut self, node: Node<'_>, steps: &mut Vec<Step>) {
        self.statements(node, steps);
        let keyword = self.slice(node).split_whitespace().next().unwrap_or_default();
        match &*keyword.trim_end_matches(';').to_ascii_lowercase() {
            "exit" => Self::leave(steps, Leave::Exit),
            "return" => Self::leave(steps, Leave::Return),
            "throw" => Self::leave(steps, Leave::Raise),
            _ => {}
        }
    }
}

/// Numbers become texts for a process.
pub(super) fn as_text(word: Spanned) -> Spanned {
    let value = match word.value {
        Value::Int(number) => Value::Str(number.to_string()),
        Value::ByDefault(inner) => Value::ByDefault(Box::new(as_text(*inner))),
        Value::OneOf(items) => Value::OneOf(items.into_iter().map(as_text).collect()),
        other => other,
    };
    Spanned::new(value, word.span)
}

/// Lists are several words.
fn flat(words: Vec<Spanned>) -> Vec<Spanned> {
    let one = |word: Spanned| match word.value {
        Value::List(items) => items,
        _ => vec![word],
    };
    words.into_iter().flat_map(one).map(as_text).collect()
}

fn is_parameter(word: &Spanned) -> bool {
    command::text(word).is_some_and(|it| it.starts_with('-'))
}

/// `Env:X`, `Env:\X`
fn drive_variable(word: &Spanned) -> Option<String> {
    let text = command::text(word)?;
    let name = text.get(..4).filter(|it| it.eq_ignore_ascii_case("env:")).map(|_| &text[4..])?;
    Some(name.trim_start_matches(['\\', '/']).to_owned())
}

/// The words of `Start-Process python -ArgumentList "x.py", "--gpu"`.
fn started_process(words: &[Spanned]) -> Vec<Spanned> {
    let mut found: Vec<Spanned> = Vec::new();
    let mut arguments = Vec::new();
    let mut left = words[1..].iter();
    while let Some(word) = left.next() {
        let parameter = command::text(word).filter(|it| it.starts_with('-'));
        match parameter.map(str::to_ascii_lowercase).as_deref() {
            Some("-filepath") => found.extend(left.next().cloned()),
            Some("-argumentlist" | "-args") => arguments.extend(left.next().cloned()),
            Some(
                "-workingdirectory"
                | "-verb"
                | "-windowstyle"
                | "-redirectstandardoutput"
                | "-redirectstandarderror",
            ) => {
                left.next();
            }
            Some(_) => {}
            None if found.is_empty() => found.push(word.clone()),
            None => arguments.push(word.clone()),
        }
    }
    for argument in flat(arguments) {
        // One text may hold all arguments.
        match command::text(&argument).map(str::to_owned) {
            Some(text) if text.contains(' ') => {
                let parts = text
                    .split_whitespace()
                    .map(|it| Spanned::new(Value::Str(it.to_owned()), argument.span));
                found.extend(parts);
            }
            _ => found.push(argument),
        }
    }
    found
}
