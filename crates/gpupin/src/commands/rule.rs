use std::io;

use annotate_snippets::renderer::{AnsiColor, Style};
use anyhow::Context as _;
use gpupin_lint::{Rule, rules};

use crate::{
    failure::{Exit, Failure},
    report::{severity, url},
    terminal::{BOLD, Terminal},
};

/// Explain a rule: what it finds, why that matters, what to write instead
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  gpupin rule GP103\n  gpupin rule missing-device-order")]
pub(crate) struct Args {
    /// Code or name of the rule
    rule: String,

    /// How to print the rule
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output_format: Format,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// One object
    Json,
}

/// A rule as JSON.
#[derive(serde::Serialize)]
pub(crate) struct Described {
    code: &'static str,
    name: &'static str,
    severity: &'static str,
    default: bool,
    summary: String,
    url: Option<String>,
}

#[derive(serde::Serialize)]
struct Document {
    version: u32,
    #[serde(flatten)]
    rule: Described,
    docs: &'static str,
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let Some(rule) = rules::find(&args.rule) else {
        let failure = Failure::usage(format!("no rule is called `{}`", args.rule));
        return Err(match rules::nearest(&args.rule) {
            Some(nearest) => failure.hint(format!("did you mean `{nearest}`?")),
            None => failure.hint("`gpupin rules` lists all rules"),
        });
    };
    match args.output_format {
        Format::Text => {
            let colour = terminal.has_colour();
            page(rule, colour, terminal.out()).context("failed to write output")?;
        }
        Format::Json => {
            let document = Document { version: 1, rule: Described::of(rule), docs: rule.docs };
            crate::report::write_json(&document, terminal.out())
                .context("failed to write output")?;
        }
    }
    Ok(Exit::Clean)
}

impl Described {
    pub(crate) fn of(rule: &'static Rule) -> Self {
        Self {
            code: rule.code,
            name: rule.name,
            severity: severity(rule.severity),
            default: rule.default,
            summary: rule.summary().replace('\n', " "),
            url: url(rule),
        }
    }
}

/// The page of a rule: its Markdown, which is made to be read as it stands, with a line of facts
/// below the title.
pub(crate) fn markdown(rule: &Rule) -> String {
    let (_, body) = rule.docs.split_once('\n').unwrap_or_default();
    let (code, name, severity) = (rule.code, rule.name, severity(rule.severity));
    let selected =
        if rule.default { "selected by default" } else { "selected by `strict` or by name" };
    format!("# {code} {name}\n\n*{severity}, {selected}*\n{body}")
}

/// Markdown with its marks, and emphasis where the terminal has some.
fn page(rule: &Rule, colour: bool, out: &mut dyn io::Write) -> io::Result<()> {
    let mut is_code = false;
    for line in markdown(rule).lines() {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        let style = match () {
            () if !colour => Style::new(),
            () if is_fence => Style::new().dimmed(),
            () if is_code => AnsiColor::Cyan.on_default(),
            () if line.starts_with('#') => BOLD,
            () => Style::new(),
        };
        writeln!(out, "{style}{line}{style:#}")?;
    }
    Ok(())
}
