use std::fmt::Write as _;

use crate::document::{Key, Presence, Shape, check::join};

/// The reference page of a document with `keys`, which the map `profiles` may hold again.
pub(crate) fn page(keys: &[Key], profiles: &Key) -> String {
    let mut page = String::from(
        "# gpupin.toml\n\n\
         Every key of the policy. In `pyproject.toml` the same keys stand under `[tool.gpupin]`.\n\
         Unknown keys are errors. This page is generated from the table that the program reads the\n\
         file with.\n",
    );
    let tables = |key: &&Key| !matches!(key.shape, Shape::AnyTable);
    for key in keys.iter().filter(tables) {
        section(&mut page, key);
    }
    for key in keys.iter().filter(|key| !tables(key)).chain([profiles]) {
        heading(&mut page, key);
    }
    page
}

fn section(page: &mut String, key: &Key) {
    heading(page, key);
    let (Shape::Table(groups)
    | Shape::List(Shape::Table(groups))
    | Shape::Map(_, Shape::Table(groups))) = &key.shape
    else {
        return;
    };
    page.push_str("\n| key | value | default |\n|---|---|---|\n");
    for key in groups.iter().copied().flatten() {
        let default = match key.presence {
            Presence::Required => "required".to_owned(),
            Presence::Optional => String::new(),
            Presence::Default(text) => format!("`{text}`"),
        };
        let mut value = format!("{}.", key.doc);
        if let Shape::Choice(choices) = key.shape {
            for choice in choices {
                write_to(&mut value, format_args!(" `\"{}\"`: {}.", choice.name, choice.doc));
            }
        }
        write_to(&mut value, format_args!(" Example: `{}`", key.example));
        write_to(page, format_args!("| `{}` | {value} | {default} |\n", key.name));
    }
}

fn heading(page: &mut String, key: &Key) {
    let title = match &key.shape {
        Shape::List(Shape::Table(_)) => format!("[[{}]]", key.name),
        Shape::Map(_, Shape::Table(_)) => format!("[{}.NAME]", key.name),
        _ => format!("[{}]", key.name),
    };
    write_to(page, format_args!("\n## `{title}`\n\n{}.\n", key.doc));
    write_to(page, format_args!("\n```toml\n{}\n```\n", example(key)));
}

fn example(key: &Key) -> String {
    format!("{} = {}", join("", key.name), key.example)
}

fn write_to(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a `String` takes everything");
}
