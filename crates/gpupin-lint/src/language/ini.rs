//! INI settings, with what `setup.cfg`, `tox.ini`, `pytest.ini` and supervisord mean by some of them.

use super::{
    UnitBuilder,
    command::{self, Command, split},
    container::{self, Variable},
    settings, suppress,
    toml::entry_point,
};
use crate::{
    span::{Positions, Span},
    unit::{Block, Step},
    value::{Spanned, Value},
};

#[cfg(test)]
mod tests;

/// Reads a settings file.
pub(crate) fn read(text: &str, at: &Positions, out: &mut UnitBuilder) -> Block {
    out.suppressions(suppress::scan(text, at, &["#", ";"], |_| false));
    let file = Ini { text, at };
    let mut steps = Vec::new();
    let mut section = Section::default();
    for entry in file.entries() {
        if entry.section != section.name {
            section.finish(out, &mut steps);
            section = Section { name: entry.section.to_owned(), ..Section::default() };
        }
        file.entry(&entry, &mut section, out, &mut steps);
    }
    section.finish(out, &mut steps);
    out.unit().entry.started_as_is = steps.iter().any(|it| matches!(it, Step::Scope(_)));
    Block(steps)
}

struct Ini<'a> {
    text: &'a str,
    at: &'a Positions,
}

/// `key = value`, with the indented lines that go on with the value.
struct Entry<'a> {
    section: &'a str,
    key: &'a str,
    /// Each line of the value, without comments.
    lines: Vec<&'a str>,
}

/// What a section that starts programs has told so far.
#[derive(Default)]
struct Section {
    name: String,
    variables: Vec<Variable>,
    commands: Vec<Command>,
    directory: String,
}

impl Section {
    fn finish(&mut self, out: &mut UnitBuilder, steps: &mut Vec<Step>) {
        let section = std::mem::take(self);
        if section.variables.is_empty() && section.commands.is_empty() {
            return;
        }
        let outer = out.enter_service(Some(section.name));
        let mut inner: Vec<Step> = Vec::new();
        for variable in section.variables {
            inner.push(container::set_in_container(variable, out));
        }
        for mut command in section.commands {
            command.directory.clone_from(&section.directory);
            inner.extend(command::run(command, out));
        }
        out.enter_service(outer);
        if !inner.is_empty() {
            steps.push(Step::Scope(Block(inner)));
        }
    }
}

impl<'a> Ini<'a> {
    fn entries(&self) -> Vec<Entry<'a>> {
        let mut found: Vec<Entry<'a>> = Vec::new();
        let mut section = "";
        let mut may_continue = false;
        for raw in self.text.lines() {
            let line = raw.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            let indented = raw.starts_with([' ', '\t']);
            if indented && may_continue {
                if let Some(entry) = found.last_mut() {
                    entry.lines.push(without_comment(line));
                }
                continue;
            }
            if let Some(name) = line.strip_prefix('[') {
                section = name.split(']').next().unwrap_or(name);
                may_continue = false;
                continue;
            }
            let Some(at) = line.find(['=', ':']) else { continue };
            let value = without_comment(line[at + 1..].trim());
            let lines = if value.is_empty() { Vec::new() } else { vec![value] };
            found.push(Entry { section, key: line[..at].trim(), lines });
            may_continue = true;
        }
        found
    }

    fn span(&self, part: &str) -> Span {
        let start = part.as_ptr() as usize - self.text.as_ptr() as usize;
        self.at.span(start..start + part.len())
    }

    fn words(&self, line: &str) -> Vec<Spanned> {
        let start = line.as_ptr() as usize - self.text.as_ptr() as usize;
        split(line, &self.at.part(start))
    }

    fn entry(
        &self,
        entry: &Entry<'a>,
        section: &mut Section,
        out: &mut UnitBuilder,
        steps: &mut Vec<Step>,
    ) {
        let kind = entry.section.split(':').next().unwrap_or_default();
        match (kind, entry.key) {
            ("options.entry_points", "console_scripts" | "gui_scripts") => {
                for line in &entry.lines {
                    let Some((name, target)) = line.split_once('=') else { continue };
                    let script = entry_point(name, target, self.span(line));
                    out.unit().console_scripts.push(script);
                }
            }
            ("testenv", "setenv" | "set_env") => {
                section.variables.extend(entry.lines.iter().filter_map(|it| self.variable(it)));
            }
            ("testenv", "commands" | "commands_pre") => {
                section.commands.extend(entry.lines.iter().map(|it| self.command(it)));
            }
            ("pytest" | "tool", "env") => {
                for line in &entry.lines {
                    let word = Spanned::new(Value::Str((*line).to_owned()), self.span(line));
                    steps.extend(settings::test_variable(line, &word, out));
                }
            }
            // supervisord
            ("program", "environment") => {
                for pair in entry.lines.iter().flat_map(|it| it.split(',')) {
                    section.variables.extend(self.variable(pair.trim()));
                }
            }
            ("program", "command") => {
                section.commands.extend(entry.lines.first().map(|it| self.command(it)));
            }
            ("program", "directory") => {
                let directory = entry.lines.first().unwrap_or(&"");
                directory.trim_end_matches('/').clone_into(&mut section.directory);
            }
            _ => {
                let [line] = &*entry.lines else { return };
                let (key, value) = (self.span(entry.key), self.value(line));
                steps.extend(settings::entry(entry.key, key, &value, out));
            }
        }
    }

    fn command(&self, line: &str) -> Command {
        let line = line.trim_start_matches(['-', '!']).trim_start();
        Command::new(self.span(line), self.words(line))
    }

    /// `X = 1` of `setenv`, `X="1"` of supervisord.
    fn variable(&self, line: &str) -> Option<Variable> {
        let (name, value) = line.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        if !command::is_variable_name(name) {
            return None;
        }
        Some(Variable {
            span: self.span(line),
            name: name.to_owned(),
            name_span: self.span(name),
            value: Spanned::new(Value::Str(unquoted(value).to_owned()), self.span(value)),
        })
    }

    /// A number where the text is one.
    fn value(&self, text: &str) -> Spanned {
        let plain = unquoted(text);
        let value = match plain.parse() {
            Ok(number) if plain == text => Value::Int(number),
            _ => Value::Str(plain.to_owned()),
        };
        Spanned::new(value, self.span(text))
    }
}

fn unquoted(text: &str) -> &str {
    let inner = text.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    inner.or_else(|| text.strip_prefix('\'')?.strip_suffix('\'')).unwrap_or(text)
}

/// A comment behind a value has a blank before it.
fn without_comment(line: &str) -> &str {
    let at = line.match_indices(['#', ';']).map(|it| it.0);
    let at = at.into_iter().find(|it| *it == 0 || line[..*it].ends_with([' ', '\t']));
    line[..at.unwrap_or(line.len())].trim_end()
}
