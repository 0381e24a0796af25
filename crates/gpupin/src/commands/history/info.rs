use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use annotate_snippets::renderer::Style;
use anyhow::Context as _;
use gpupin_monitor::history::{Contents, Gap, GpuKept, Range};

use super::Place;
use crate::{
    commands::rule::Format,
    failure::{Exit, Failure},
    fix::time::rfc3339,
    report::write_json,
    table::{memory, table},
    terminal::{BOLD, Terminal, one_line},
};

/// Show from when to when what is kept, how much room it takes, and what is missing
///
/// All times are UTC.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How to print it
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output_format: Format,

    #[command(flatten)]
    place: Place,
}

/// The version of [`Document`] as JSON.
const VERSION: u32 = 1;

/// So many gaps are shown to people, the newest.
const GAPS: usize = 20;

#[derive(serde::Serialize)]
struct Document<'a> {
    version: u32,
    path: String,
    #[serde(flatten)]
    contents: &'a Described<'a>,
    gpus: &'a [GpuKept],
    gaps: &'a [Gap],
}

/// [`Contents`], with the names that the document has for them.
#[derive(serde::Serialize)]
struct Described<'a> {
    kind: &'a str,
    format: i64,
    range: Option<Range>,
    size: u64,
    rows: &'a [gpupin_monitor::history::Rows],
}

pub(super) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let (path, reader) = args.place.open()?;
    let (contents, gpus) = (reader.contents()?, reader.gpus()?);
    let gaps = reader.gaps(Range { from: 0, to: u64::MAX })?;
    match args.output_format {
        Format::Json => {
            let Contents { kind, version, range, size, rows } = &contents;
            let (range, size) = (*range, *size);
            let contents = Described { kind, format: *version, range, size, rows };
            let path = path.display().to_string();
            let document =
                Document { version: VERSION, path, contents: &contents, gpus: &gpus, gaps: &gaps };
            write_json(&document, terminal.out())
        }
        Format::Text => {
            let style = if terminal.has_colour() { BOLD } else { Style::default() };
            let text = text(&path, &contents, &gpus, &gaps, style);
            terminal.out().write_all(text.as_bytes())
        }
    }
    .context("failed to write output")?;
    Ok(Exit::Clean)
}

fn text(
    path: &Path,
    contents: &Contents,
    gpus: &[GpuKept],
    gaps: &[Gap],
    heading: Style,
) -> String {
    let range = contents.range.map_or_else(
        || "nothing is kept".to_owned(),
        |it| format!("{} to {}", time(it.from), time(it.to)),
    );
    let mut text = format!(
        "{} · {} figures · {} · {range}\n\n",
        one_line(&path.display().to_string()),
        contents.kind,
        memory(contents.size)
    );
    let mut rows = vec![["what", "rows", "from", "to"].map(str::to_owned).to_vec()];
    for it in &contents.rows {
        let mut row = vec![it.of.replace('_', " "), it.rows.to_string()];
        row.extend(it.range.iter().flat_map(|it| [time(it.from), time(it.to)]));
        rows.push(row);
    }
    text += &table(&rows, heading);
    if !gpus.is_empty() {
        let mut rows = vec![["GPU", "UUID"].map(str::to_owned).to_vec()];
        rows.extend(gpus.iter().map(|it| {
            let name = it.name.as_deref().unwrap_or("?");
            vec![one_line(name), it.uuid.clone()]
        }));
        text.push('\n');
        text += &table(&rows, heading);
    }
    if !gaps.is_empty() {
        let left_out = gaps.len().saturating_sub(GAPS);
        let mut rows = vec![["nothing known from", "to", "of", "why"].map(str::to_owned).to_vec()];
        rows.extend(
            gaps[left_out..]
                .iter()
                .map(|it| vec![time(it.from), time(it.to), it.what.clone(), one_line(&it.why)]),
        );
        text.push('\n');
        text += &table(&rows, heading);
        if left_out > 0 {
            text.push_str("and ");
            text.push_str(&left_out.to_string());
            text.push_str(" before\n");
        }
    }
    text
}

fn time(at: u64) -> String {
    rfc3339(SystemTime::UNIX_EPOCH + Duration::from_millis(at))
}
