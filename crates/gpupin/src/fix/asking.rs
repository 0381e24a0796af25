//! Asking somebody whether a fix is wanted.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _},
};

use gpupin_lint::{
    finding::{Finding, Safety},
    fix::edited,
    unit::{Unit, UnitId},
};

use crate::{
    fix::{rounds::Choose, unified},
    project::Project,
    terminal::{Terminal, one_line},
};

/// Asks on the terminal, once for each finding.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    /// By rule, file, message and statement.
    answers: BTreeMap<(&'static str, String, String), bool>,
    /// What is answered from now on.
    rest: Option<bool>,
}

impl Choose for Asking {
    fn wants(
        &mut self,
        project: &Project,
        units: &[Unit],
        finding: &Finding,
        terminal: &mut Terminal,
    ) -> bool {
        let path = &units[finding.unit.0 as usize].source.path;
        let key = (finding.rule.code, path.clone(), finding.message.clone());
        if let Some(answer) = self.answers.get(&key) {
            return *answer;
        }
        let answer = match self.rest {
            Some(rest) => rest,
            None => self.ask(project, units, finding, terminal),
        };
        self.answers.insert(key, answer);
        answer
    }
}

impl Asking {
    fn ask(
        &mut self,
        project: &Project,
        units: &[Unit],
        finding: &Finding,
        terminal: &mut Terminal,
    ) -> bool {
        let Some(fix) = &finding.fix else { return false };
        let unit = |it: UnitId| &units[it.0 as usize].source;
        let source = unit(finding.unit);
        let place = source.place(finding.span.start);
        let path = one_line(&project.shown(&source.path));
        let mut text = Vec::new();
        for edits in fix.edits.chunk_by(|a, b| a.unit == b.unit) {
            let source = unit(edits[0].unit);
            let new = edited(&source.text, edits);
            // Memory takes everything.
            drop(unified(&project.shown(&source.path), &source.text, &new, false, &mut text));
        }
        let why = match &fix.safety {
            Safety::Safe => String::new(),
            Safety::Unsafe(why) => format!(" (unsafe: {why})"),
        };
        let diff = String::from_utf8_lossy(&text);
        terminal.question(&format!(
            "\n{path}:{}:{}: {} {}\n{diff}{}{why}? [y]es, [n]o, [a]ll of the rest, [q]uit: ",
            place.line,
            place.column,
            finding.rule.code,
            one_line(&finding.message),
            fix.title,
        ));
        let mut line = String::new();
        // The end of the input is no consent.
        let read = io::stdin().lock().read_line(&mut line).unwrap_or(0);
        match line.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => true,
            "a" | "all" => {
                self.rest = Some(true);
                true
            }
            "q" | "quit" => {
                self.rest = Some(false);
                false
            }
            _ => {
                if read == 0 {
                    self.rest = Some(false);
                }
                false
            }
        }
    }
}
