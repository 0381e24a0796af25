//! The pages under `docs/reference`: what the program knows about itself, written down.
//!
//! `cargo xtask docs` writes them and a test compares, so they cannot say anything else than the
//! program does.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context as _;
use clap::CommandFactory as _;
use gpupin_lint::RULES;

use crate::{
    commands::{Cli, rule, serve},
    failure::Exit,
    report::severity,
};

mod cli;

/// A file, by its path below the directory of the reference.
struct Page {
    path: String,
    text: String,
}

/// Writes every page below `directory`.
pub(crate) fn write(directory: &Path) -> anyhow::Result<()> {
    for page in pages() {
        let path = directory.join(&page.path);
        let parent = path.parent().expect("a page lies in a directory");
        fs::create_dir_all(parent)
            .with_context(|| format!("failed to create `{}`", parent.display()))?;
        fs::write(&path, page.text)
            .with_context(|| format!("failed to write `{}`", path.display()))?;
    }
    Ok(())
}

fn pages() -> Vec<Page> {
    let page = |path: &str, text: String| Page { path: path.to_owned(), text };
    let mut pages = vec![
        page("cli.md", cli::page(Cli::command())),
        page("doctor.schema.json", include_str!("reference/doctor.schema.json").to_owned()),
        page("exit-codes.md", exit_codes()),
        page("env.schema.json", include_str!("reference/env.schema.json").to_owned()),
        page("evidence.schema.json", include_str!("reference/evidence.schema.json").to_owned()),
        page(
            "evidence-check.schema.json",
            include_str!("reference/evidence-check.schema.json").to_owned(),
        ),
        page(
            "evidence-list.schema.json",
            include_str!("reference/evidence-list.schema.json").to_owned(),
        ),
        page("verify.schema.json", include_str!("reference/verify.schema.json").to_owned()),
        page("gpupin.schema.json", gpupin_policy::policy_schema_text()),
        page("gpus.schema.json", include_str!("reference/gpus.schema.json").to_owned()),
        page("gpupin.toml.md", gpupin_policy::policy_reference()),
        page(
            "history-info.schema.json",
            include_str!("reference/history-info.schema.json").to_owned(),
        ),
        page("journal.schema.json", include_str!("reference/journal.schema.json").to_owned()),
        page("leases.schema.json", include_str!("reference/leases.schema.json").to_owned()),
        page("openapi.json", serve::openapi()),
        page("scan.schema.json", include_str!("reference/scan.schema.json").to_owned()),
        page("which.schema.json", include_str!("reference/which.schema.json").to_owned()),
        page("rules/README.md", rules()),
    ];
    pages.extend(RULES.iter().map(|it| page(&format!("rules/{}.md", it.name), rule::markdown(it))));
    pages
}

fn exit_codes() -> String {
    let mut text = String::from("# Exit codes\n\n| code | meaning |\n|---|---|\n");
    for (exit, meaning) in Exit::ALL {
        writeln!(text, "| {} | {meaning} |", exit.code()).expect("a `String` takes everything");
    }
    text + "\n" + Exit::OF_PROGRAMS
}

fn rules() -> String {
    let mut text = String::from(
        "# Rules\n\n`gpupin rule CODE` prints the page of a rule. The strict ones are on with \
         `--select strict`, or by code or name.\n\n| code | name | default | finds |\n|---|---|---|---|\n",
    );
    for rule in RULES {
        let (code, name, summary) = (rule.code, rule.name, rule.summary().replace('\n', " "));
        let level = if rule.default { severity(rule.severity) } else { "strict" };
        writeln!(text, "| {code} | [{name}]({name}.md) | {level} | {summary} |")
            .expect("a `String` takes everything");
    }
    text
}
