use std::io;

use anyhow::Context as _;
use gpupin_lint::RULES;

use crate::{
    commands::rule::{Described, Format},
    failure::{Exit, Failure},
    report::severity,
    terminal::{BOLD, Terminal},
};

/// List all rules
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gpupin rule GP103    everything about one of them")]
pub(crate) struct Args {
    /// How to print the rules
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output_format: Format,
}

#[derive(serde::Serialize)]
struct Document {
    version: u32,
    rules: Vec<Described>,
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    match args.output_format {
        Format::Text => {
            let bold = if terminal.has_colour() { BOLD } else { <_>::default() };
            table(terminal.out(), bold).context("failed to write output")?;
        }
        Format::Json => {
            let rules = RULES.iter().map(Described::of).collect();
            crate::report::write_json(&Document { version: 1, rules }, terminal.out())
                .context("failed to write output")?;
        }
    }
    Ok(Exit::Clean)
}

fn table(out: &mut dyn io::Write, bold: annotate_snippets::renderer::Style) -> io::Result<()> {
    let width = RULES.iter().map(|it| it.name.len()).max().unwrap_or_default();
    for rule in RULES {
        let level = if rule.default { severity(rule.severity) } else { "strict" };
        let (code, name, summary) = (rule.code, rule.name, rule.summary().replace('\n', " "));
        writeln!(out, "{bold}{code}{bold:#}  {name:width$}  {level:7}  {summary}")?;
    }
    Ok(())
}
