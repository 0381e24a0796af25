//! Child processes.

use super::{
    Reader,
    names::Resolved,
    scope::Bound,
    syntax::{Expr, ast, range_of},
};
use crate::{
    language::{
        command::{self, Command},
        shell,
    },
    span::Positions,
    unit::{ChildEnvironment, Does, Runs, Start, Step},
    value::{Root, Spanned, Value},
};

/// How a call takes its command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// A list of words, or a text with `shell=True`: `subprocess.run`.
    Command,
    /// A text for the shell: `os.system`.
    Shell,
    /// Words as arguments of their own: `create_subprocess_exec`, `os.execl`.
    Words,
    /// The path, then a list of words: `os.execv`.
    PathAndList,
    /// A mode, the path, then a list of words: `os.spawnv`.
    ModePathAndList,
}

fn takes(path: &str) -> Option<Takes> {
    if let Some(name) = path.strip_prefix("subprocess.") {
        return match name {
            "run" | "Popen" | "call" | "check_call" | "check_output" => Some(Takes::Command),
            "getoutput" | "getstatusoutput" => Some(Takes::Shell),
            _ => None,
        };
    }
    if let Some(name) = path.strip_prefix("os.") {
        return match name {
            "system" | "popen" => Some(Takes::Shell),
            "execl" | "execle" | "execlp" | "execlpe" => Some(Takes::Words),
            "execv" | "execve" | "execvp" | "execvpe" | "posix_spawn" | "posix_spawnp" => {
                Some(Takes::PathAndList)
            }
            "spawnv" | "spawnve" | "spawnvp" | "spawnvpe" => Some(Takes::ModePathAndList),
            _ => None,
        };
    }
    match path {
        "asyncio.create_subprocess_exec" | "asyncio.subprocess.create_subprocess_exec" => {
            Some(Takes::Words)
        }
        "asyncio.create_subprocess_shell" | "asyncio.subprocess.create_subprocess_shell" => {
            Some(Takes::Shell)
        }
        _ => None,
    }
}

impl<'a> Reader<'a, '_> {
    /// Emits the start of a child process. Tells whether a call is one.
    pub(super) fn child_process(
        &mut self,
        it: &'a ast::ExprCall,
        segment: &str,
        callee: Option<&Resolved>,
        steps: &mut Vec<Step>,
    ) -> bool {
        let Some(callee) = callee.filter(|it| it.name.root == Root::Absolute) else { return false };
        let Some(takes) = takes(&callee.name.path) else { return false };
        let arguments = &it.arguments;
        let in_shell = takes == Takes::Shell
            || arguments
                .find_keyword("shell")
                .is_some_and(|it| self.value(&it.value).value == Value::Bool(true));
        let environment = self.child_environment(it, segment);
        let command = arguments.find_argument_value("args", 0);
        if in_shell
            && let Some(command) = command
            && self.shell_command(command, &environment, steps)
        {
            return true;
        }
        let words = match takes {
            Takes::Command | Takes::Shell => command.map_or_else(Vec::new, |it| self.words(it)),
            Takes::Words => arguments.args.iter().map(|it| self.word(it)).collect(),
            Takes::PathAndList => arguments.args.get(1).map_or_else(Vec::new, |it| self.words(it)),
            Takes::ModePathAndList => {
                arguments.args.get(2).map_or_else(Vec::new, |it| self.words(it))
            }
        };
        // `os.execl(path, "python", …)` gives the program twice.
        let skip = usize::from(takes == Takes::Words && segment.starts_with("exec"));
        let words: Vec<_> = words.into_iter().skip(skip).collect();
        let span = self.span(range_of(it));
        if words.is_empty() {
            let start = Start { runs: Runs::Unknown, words, environment, service: None };
            steps.push(self.out.event(span, Does::Start(start)));
        } else {
            let command = Command { environment, ..Command::new(span, words) };
            steps.extend(command::run(command, self.out));
        }
        true
    }

    fn child_environment(&self, it: &'a ast::ExprCall, segment: &str) -> ChildEnvironment {
        if let Some(keyword) = it.arguments.find_keyword("env") {
            return self.environment_of(&keyword.value);
        }
        let by_position = match segment {
            "execve" | "execvpe" | "execle" | "execlpe" | "spawnve" | "spawnvpe" => {
                it.arguments.args.last()
            }
            "Popen" => it.arguments.args.get(10),
            _ => None,
        };
        by_position
            .map_or_else(|| ChildEnvironment::Inherited(Vec::new()), |it| self.environment_of(it))
    }

    /// A command line for a shell, when its text is known. What it sets stays in it.
    fn shell_command(
        &mut self,
        command: &'a Expr,
        environment: &ChildEnvironment,
        steps: &mut Vec<Step>,
    ) -> bool {
        let value = self.value(command);
        let Value::Str(text) = value.value else { return false };
        let positions = match command {
            Expr::StringLiteral(it) => super::device::literal_content(it, self.text)
                .map(|start| self.positions.part(start)),
            _ => None,
        };
        let positions = positions.unwrap_or_else(|| Positions::fixed(value.span));
        let block = shell::read_within(&text, &positions, environment, self.out);
        if block.0.is_empty() {
            return false;
        }
        steps.push(Step::Scope(block));
        true
    }

    fn word(&self, word: &Expr) -> Spanned {
        let mut value = self.value(word);
        if matches!(&value.value, Value::Name(it) if it.library_path() == Some("sys.executable")) {
            // The Python that runs this.
            value.value = Value::Str("python".to_owned());
        } else if value.value == Value::Unknown
            && let Some(path) = self.path_value(word, self.scope, 0)
        {
            value.value = Value::Str(path);
        }
        value
    }

    /// The words of a command.
    fn words(&self, command: &Expr) -> Vec<Spanned> {
        match command {
            Expr::List(ast::ExprList { elts, .. }) | Expr::Tuple(ast::ExprTuple { elts, .. }) => {
                elts.iter().map(|it| self.word(it)).collect()
            }
            Expr::BinOp(it) => {
                let mut words = self.words(&it.left);
                words.extend(self.words(&it.right));
                words
            }
            Expr::Name(name) => match self.value(command) {
                Spanned { value: Value::List(words), .. } => {
                    // The display itself, where its words may be paths.
                    match self.scopes.lookup(&name.id, self.scope).map(|it| &it.bound) {
                        Some(Bound::Value(list @ (Expr::List(_) | Expr::Tuple(_)))) => {
                            self.words(list)
                        }
                        _ => words,
                    }
                }
                Spanned { value: Value::Str(text), span } => split(&text, span),
                _ => Vec::new(),
            },
            Expr::Call(call) if super::call::last_segment(&call.func) == Some("split") => {
                let text = match &*call.func {
                    Expr::Attribute(it) if !matches!(&*it.value, Expr::Name(it) if it.id == "shlex") => {
                        Some(&*it.value)
                    }
                    _ => call.arguments.args.first(),
                };
                match text.map(|it| self.value(it)) {
                    Some(Spanned { value: Value::Str(text), span }) => split(&text, span),
                    _ => Vec::new(),
                }
            }
            _ => match self.value(command) {
                Spanned { value: Value::Str(text), span } => split(&text, span),
                _ => Vec::new(),
            },
        }
    }
}

fn split(text: &str, span: crate::span::Span) -> Vec<Spanned> {
    let words = text.split_whitespace().map(|it| it.trim_matches(['"', '\'']));
    words.map(|it| Spanned::new(Value::Str(it.to_owned()), span)).collect()
}
