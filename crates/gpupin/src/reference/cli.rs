use std::fmt::Write as _;

use clap::{Arg, Command};

/// Everything `--help` says, as one page.
pub(super) fn page(mut command: Command) -> String {
    // Only a built command knows its global flags and the full names of its subcommands.
    command.build();
    let mut text = String::from("# Command line\n");
    section(&mut command, &mut text);
    text
}

fn section(command: &mut Command, text: &mut String) {
    let mut put = |it: std::fmt::Arguments<'_>| {
        text.write_fmt(it).expect("a `String` takes everything");
    };
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    put(format_args!("\n## `{name}`\n\n"));
    if let Some(about) = command.get_long_about().or(command.get_about()) {
        put(format_args!("{}\n\n", sentences(&about.to_string())));
    }
    let usage = command.render_usage().to_string();
    put(format_args!("```text\n{}\n```\n", usage.trim_start_matches("Usage: ").trim()));

    // Options every command has are explained once.
    let is_root = !name.contains(' ');
    let shown =
        |it: &&Arg| !it.is_hide_set() && it.get_id() != "help" && (is_root || !it.is_global_set());
    let mut headings: Vec<Option<&str>> = Vec::new();
    for argument in command.get_arguments().filter(shown) {
        if !headings.contains(&argument.get_help_heading()) {
            headings.push(argument.get_help_heading());
        }
    }
    for heading in headings {
        if let Some(heading) = heading {
            put(format_args!("\n**{heading}**\n"));
        }
        put(format_args!("\n"));
        let of_heading = |it: &&Arg| it.get_help_heading() == heading;
        for argument in command.get_arguments().filter(shown).filter(of_heading) {
            put(format_args!("- {}\n", described(argument)));
        }
    }
    if let Some(after) = command.get_after_help() {
        put(format_args!("\n```text\n{}\n```\n", after.to_string().trim_end()));
    }
    // `gpupin help scan` is `gpupin scan --help`.
    let told = |it: &&mut clap::Command| !it.is_hide_set() && it.get_name() != "help";
    for command in command.get_subcommands_mut().filter(told) {
        section(command, text);
    }
}

fn described(argument: &Arg) -> String {
    let value = argument.get_value_names().and_then(|it| it.first());
    let takes_value = argument.get_action().takes_values();
    let mut names = Vec::new();
    names.extend(argument.get_short().map(|it| format!("-{it}")));
    names.extend(argument.get_long().map(|it| format!("--{it}")));
    let mut name = names.join(", ");
    if let Some(value) = value.filter(|_| takes_value) {
        let is_optional = argument.get_num_args().is_some_and(|it| it.min_values() == 0);
        name = match name.as_str() {
            "" => value.to_string(),
            _ if is_optional => format!("{name}[=<{value}>]"),
            _ => format!("{name} <{value}>"),
        };
    }
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string);
    let mut text = format!("`{name}`: {}", sentences(&help.unwrap_or_default()));
    let values: Vec<_> = argument.get_possible_values();
    if takes_value && !values.is_empty() {
        for value in values.iter().filter(|it| !it.is_hide_set()) {
            let help = value.get_help().map(|it| format!(": {}", sentences(&it.to_string())));
            write!(text, "\n  - `{}`{}", value.get_name(), help.unwrap_or_default())
                .expect("a `String` takes everything");
        }
    }
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|it| it.to_string_lossy()).collect();
    if takes_value && !defaults.is_empty() && !argument.is_hide_default_value_set() {
        write!(text, "\n  - default: `{}`", defaults.join(","))
            .expect("a `String` takes everything");
    }
    text
}

/// Help with its paragraphs as sentences: clap's first line has no period.
fn sentences(help: &str) -> String {
    let paragraphs = help.split("\n\n").map(str::trim).filter(|it| !it.is_empty());
    let closed = paragraphs.map(|it| {
        let ends = it.ends_with(['.', ':', '…']);
        if ends { it.to_owned() } else { format!("{it}.") }
    });
    closed.collect::<Vec<_>>().join(" ")
}
