//! Windows batch files.
//!
//! `set X=` removes a variable: it does not hide every GPU, it shows them all. Quotes around the whole assignment
//! are not part of the value, quotes around the value alone are.

use super::{
    UnitBuilder,
    command::{self, Command, is_variable_name, split},
    lines::{Continuation, Line, lines},
    suppress,
};
use crate::{
    span::Positions,
    unit::{
        Block, Condition, Does, Leave, Reach, RemoveHow, RemoveVariable, SetHow, SetVariable, Step,
    },
    value::{Spanned, Value},
};

#[cfg(test)]
mod tests;

/// Reads a batch file.
pub(crate) fn read(text: &str, at: &Positions, out: &mut UnitBuilder) -> Block {
    out.suppressions(suppress::scan(text, at, &["REM", "rem", "Rem", "::", "&::"], |_| false));
    let how = Continuation { mark: '^', skips_comments: false, kept: false };
    let mut batch = Batch { directory: String::new(), scopes: Vec::new(), arms: Vec::new() };
    let mut steps = Vec::new();
    for line in lines(text, at, how) {
        batch.line(&line, 0, &mut steps, out);
    }
    while let Some(arm) = batch.arms.pop() {
        arm.close(&mut steps);
    }
    while let Some(outer) = batch.scopes.pop() {
        close_scope(outer, &mut steps);
    }
    Block(steps)
}

struct Batch {
    directory: String,
    /// Steps before each open `setlocal`.
    scopes: Vec<Vec<Step>>,
    /// Open parentheses of `if` and `for`.
    arms: Vec<Arm>,
}

/// `if … (`: what was before, what is asked, and the arms so far.
struct Arm {
    before: Vec<Step>,
    kind: ArmKind,
}

enum ArmKind {
    If {
        condition: Condition,
        negated: bool,
        then: Option<Vec<Step>>,
    },
    For,
    /// A parenthesis alone.
    Group,
}

impl Arm {
    fn close(self, steps: &mut Vec<Step>) {
        let body = std::mem::replace(steps, self.before);
        match self.kind {
            ArmKind::Group => steps.extend(body),
            ArmKind::For if body.is_empty() => {}
            ArmKind::For => steps.push(Step::Loop(Block(body))),
            ArmKind::If { condition, negated, then } => {
                let (then, other) = match then {
                    Some(then) => (then, body),
                    None => (body, Vec::new()),
                };
                push_branch(condition, negated, then, other, steps);
            }
        }
    }
}

fn push_branch(
    condition: Condition,
    negated: bool,
    then: Vec<Step>,
    other: Vec<Step>,
    steps: &mut Vec<Step>,
) {
    if then.is_empty() && other.is_empty() {
        return;
    }
    let (first, second) = if negated { (other, then) } else { (then, other) };
    steps.push(Step::Branch(condition, vec![Block(first), Block(second)]));
}

fn close_scope(outer: Vec<Step>, steps: &mut Vec<Step>) {
    let inner = std::mem::replace(steps, outer);
    if !inner.is_empty() {
        steps.push(Step::Scope(Block(inner)));
    }
}

/// How many `if` may stand in one line.
const DEEPEST: u32 = 16;

/// How many parentheses may be open.
const MOST_OPEN: usize = 100;

impl Batch {
    /// Reads a line or what stands behind `if …` in one.
    fn line(&mut self, line: &Line, from: usize, steps: &mut Vec<Step>, out: &mut UnitBuilder) {
        for part in commands(&line.text, from) {
            self.command(line, part, 0, steps, out);
        }
    }

    fn command(
        &mut self,
        line: &Line,
        part: &str,
        depth: u32,
        steps: &mut Vec<Step>,
        out: &mut UnitBuilder,
    ) {
        let mut rest = part.trim().trim_start_matches('@').trim_start();
        while let Some(behind) = rest.strip_prefix(')') {
            rest = behind.trim_start();
            self.close(&mut rest, steps);
        }
        let (name, arguments) = first_word(rest);
        match &*name.to_ascii_lowercase() {
            "" | "rem" => {}
            it if it.starts_with(':') => {}
            "if" if depth < DEEPEST => self.branch(line, arguments, depth, steps, out),
            "for" => {
                let behind = arguments.to_ascii_lowercase().find(" do ");
                let Some(body) = behind.map(|it| arguments[it + 4..].trim()) else { return };
                if body.starts_with('(') && self.arms.len() < MOST_OPEN {
                    let before = std::mem::take(steps);
                    self.arms.push(Arm { before, kind: ArmKind::For });
                    self.command(line, &body[1..], depth + 1, steps, out);
                } else if depth < DEEPEST {
                    let mut inner = Vec::new();
                    self.command(line, body, depth + 1, &mut inner, out);
                    if !inner.is_empty() {
                        steps.push(Step::Loop(Block(inner)));
                    }
                }
            }
            "set" => set(line, rest, arguments, steps, out),
            "setx" => persistent(line, rest, arguments, steps, out),
            "setlocal" => self.scopes.push(std::mem::take(steps)),
            "endlocal" => {
                if let Some(outer) = self.scopes.pop() {
                    close_scope(outer, steps);
                }
            }
            "cd" | "chdir" | "pushd" => self.change_directory(arguments),
            "exit" => steps.push(Step::Leave(Leave::Exit)),
            // `exit /b` of a subroutine, labels and jumps are read as one way down.
            "goto" | "echo" | "echo." => {}
            _ if rest.starts_with('(') && self.arms.len() < MOST_OPEN => {
                let before = std::mem::take(steps);
                self.arms.push(Arm { before, kind: ArmKind::Group });
                self.command(line, &rest[1..], depth + 1, steps, out);
            }
            _ => self.start(line, rest, steps, out),
        }
    }

    /// A closing parenthesis, and the `else (` that may follow.
    fn close(&mut self, rest: &mut &str, steps: &mut Vec<Step>) {
        let Some(mut arm) = self.arms.pop() else { return };
        let (word, behind) = first_word(rest);
        let goes_on = word.eq_ignore_ascii_case("else") && behind.starts_with('(');
        if let ArmKind::If { then: then @ None, .. } = &mut arm.kind
            && goes_on
        {
            *then = Some(std::mem::take(steps));
            *rest = behind[1..].trim_start();
            self.arms.push(arm);
            return;
        }
        arm.close(steps);
    }

    fn branch(
        &mut self,
        line: &Line,
        arguments: &str,
        depth: u32,
        steps: &mut Vec<Step>,
        out: &mut UnitBuilder,
    ) {
        let (mut word, mut rest) = first_word(arguments);
        let mut negated = false;
        while word.eq_ignore_ascii_case("/i") || word.eq_ignore_ascii_case("not") {
            negated ^= word.eq_ignore_ascii_case("not");
            (word, rest) = first_word(rest);
        }
        let mut condition = Condition::Unknown;
        match &*word.to_ascii_lowercase() {
            "defined" => {
                let (name, behind) = first_word(rest);
                condition = Condition::VariableSet(name.to_owned());
                rest = behind;
            }
            "exist" | "errorlevel" => rest = first_word(rest).1,
            compared => {
                // `"%X%"==""`, `"%X%" == ""`, `%X% EQU 1`
                let empty = compared.replace(['"', '[', ']', '.'], "");
                if let Some(name) = empty.strip_prefix('%').and_then(|it| it.strip_suffix("%==")) {
                    let original = word.replace(['"', '[', ']', '.'], "");
                    let name = original.get(1..=name.len()).unwrap_or(name);
                    condition = Condition::VariableSet(name.to_owned());
                    negated = !negated;
                }
                if !compared.contains("==") {
                    // The operator, and what is compared with.
                    let behind = first_word(rest).1;
                    rest = first_word(behind).1;
                } else if compared.ends_with("==") && !rest.is_empty() {
                    rest = first_word(rest).1;
                }
            }
        }
        if let Some(body) = rest.strip_prefix('(')
            && self.arms.len() < MOST_OPEN
        {
            let before = std::mem::take(steps);
            let kind = ArmKind::If { condition, negated, then: None };
            self.arms.push(Arm { before, kind });
            // `if … (command)` closes in the same line.
            if let Some((inner, behind)) = body.rsplit_once(')') {
                self.command(line, inner, depth + 1, steps, out);
                let mut behind = behind.trim_start();
                self.close(&mut behind, steps);
                if !behind.is_empty() {
                    self.command(line, behind, depth + 1, steps, out);
                }
            } else {
                self.command(line, body, depth + 1, steps, out);
            }
            return;
        }
        let mut inner = Vec::new();
        self.command(line, rest, depth + 1, &mut inner, out);
        push_branch(condition, negated, inner, Vec::new(), steps);
    }

    fn change_directory(&mut self, arguments: &str) {
        let path = arguments.trim_start_matches("/d").trim_start_matches("/D").trim();
        let path = path.trim_matches('"').replace('\\', "/");
        // `%~dp0` is the script's own directory.
        let unknown = path.contains(['%', ':']) || path.contains("..") || path.starts_with('/');
        self.directory = if unknown || path.is_empty() {
            String::new()
        } else {
            command::join(&self.directory, path.trim_end_matches('/'))
        };
    }

    fn start(&self, line: &Line, text: &str, steps: &mut Vec<Step>, out: &mut UnitBuilder) {
        let text = text.trim_end_matches(')').trim_end();
        let start = text.as_ptr() as usize - line.text.as_ptr() as usize;
        let words: Vec<Spanned> = split(text, &line.positions.part(start))
            .into_iter()
            .map(|it| match command::text(&it).map(expanded) {
                Some(value) => Spanned::new(value, it.span),
                None => it,
            })
            .collect();
        // `start "title" /wait program`
        let mut words = words;
        if words.first().and_then(command::text).is_some_and(|it| it.eq_ignore_ascii_case("start"))
        {
            let is_title = |it: &Spanned| out.source().slice(it.span).starts_with('"');
            words.remove(0);
            if words.first().is_some_and(is_title) {
                words.remove(0);
            }
            while words.first().and_then(command::text).is_some_and(|it| it.starts_with('/')) {
                words.remove(0);
            }
        }
        let mut command = Command::new(line.span_of(text), words);
        command.directory.clone_from(&self.directory);
        steps.extend(command::run(command, out));
    }
}

fn set(line: &Line, whole: &str, arguments: &str, steps: &mut Vec<Step>, out: &mut UnitBuilder) {
    let mut assignment = arguments;
    if assignment.get(..2).is_some_and(|it| matches!(it, "/a" | "/A" | "/p" | "/P")) {
        return;
    }
    if let Some(inner) = assignment.strip_prefix('"') {
        // What stands behind the last quote is ignored.
        assignment = inner.rsplit_once('"').map_or(inner, |it| it.0);
    }
    let Some((name, value)) = assignment.split_once('=') else { return };
    if !is_variable_name(name.trim()) {
        return;
    }
    // cmd keeps blanks at the end of an unquoted value; CUDA reads past them, and so do people.
    let value = value.trim_end();
    let (span, name_span) = (line.span_of(whole), line.span_of(name.trim()));
    let name = name.trim().to_owned();
    let does = if value.is_empty() {
        Does::RemoveVariable(RemoveVariable { name, how: RemoveHow::Remove })
    } else {
        let value = Spanned::new(expanded(value), line.span_of(value));
        let (how, reach) = (SetHow::Assign, Reach::Process);
        Does::SetVariable(SetVariable { name, name_span, value, how, reach })
    };
    steps.push(out.event(span, does));
}

/// `setx X 1 [/m]`
fn persistent(
    line: &Line,
    whole: &str,
    arguments: &str,
    steps: &mut Vec<Step>,
    out: &mut UnitBuilder,
) {
    let start = arguments.as_ptr() as usize - line.text.as_ptr() as usize;
    let words = split(arguments, &line.positions.part(start));
    let mut words =
        words.into_iter().filter(|it| !command::text(it).is_some_and(|it| it.starts_with('/')));
    let (Some(name), Some(value)) = (words.next(), words.next()) else { return };
    let Some(text) = command::text(&name).map(str::to_owned) else { return };
    let (how, reach) = (SetHow::Persistent, Reach::Process);
    let set = SetVariable { name: text, name_span: name.span, value, how, reach };
    steps.push(out.event(line.span_of(whole), Does::SetVariable(set)));
}

fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    // `if(` and `set"X=1"` need no blank.
    let end = text.find(|it: char| it.is_whitespace() || it == '(').unwrap_or(text.len());
    if end == 0 {
        return ("", text);
    }
    (&text[..end], text[end..].trim_start())
}

/// The commands that `&`, `&&`, `||` and `|` separate, outside quotes.
fn commands(text: &str, from: usize) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = from;
    let mut quoted = false;
    let lower = text.trim_start().trim_start_matches('@').get(..4).unwrap_or_default();
    // A comment runs to the end of the line.
    if lower.eq_ignore_ascii_case("rem ") || text.trim_start().starts_with("::") {
        return found;
    }
    for (at, letter) in text.char_indices().skip_while(|it| it.0 < from) {
        match letter {
            '"' => quoted = !quoted,
            '&' | '|' if !quoted => {
                found.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&text[start..]);
    // `command & rem why`
    found.retain(|it| !it.trim().is_empty());
    found
}

/// A text with `%X%` seen: one variable is its value, anything else put together is not known.
fn expanded(text: &str) -> Value {
    if !text.contains('%') {
        return Value::Str(text.to_owned());
    }
    let inner = text.strip_prefix('%').and_then(|it| it.strip_suffix('%'));
    match inner.filter(|it| is_variable_name(it)) {
        Some(name) => Value::Variable(name.to_owned()),
        // `%~dp0x.py` stands beside the script.
        None => match text.strip_prefix("%~dp0") {
            Some(path) if !path.contains('%') => {
                Value::Str(path.trim_start_matches('\\').to_owned())
            }
            _ => Value::Unknown,
        },
    }
}
