use std::fmt::Write as _;

use crate::document::{Key, Presence, Shape};

/// The reference page of a document with `keys`, which the map `profiles` may hold again.
pub(crate) fn page(keys: &[Key], profiles: &Key) -> String {
    let mut page = Page {
        text: String::from(
            "# gpupin.toml\n\n\
             Every key of the policy. In `pyproject.toml` the same keys stand under `[tool.gpupin]`.\n\
             Unknown keys are errors. This page is generated from the table that the program reads the\n\
             file with.\n",
        ),
        explained: vec![],
    };
    for key in keys.iter().chain([profiles]) {
        page.heading(key);
        if let Some(groups) = key.shape.keys().filter(|_| key.name != profiles.name) {
            page.keys(key, groups);
        }
    }
    page.text
}

struct Page {
    text: String,
    /// Groups of keys that several tables have, and the table that explains them.
    explained: Vec<(Vec<&'static str>, &'static str)>,
}

impl Page {
    fn heading(&mut self, key: &Key) {
        let title = match key.shape {
            Shape::List(Shape::Table(_)) => format!("[[{}]]", key.name),
            Shape::Map(_, Shape::Table(_)) => format!("[{}.NAME]", key.name),
            _ => format!("[{}]", key.name),
        };
        self.write(format_args!("\n## `{title}`\n\n{}.\n", key.doc));
        self.write(format_args!("\n```toml\n{} = {}\n```\n", key.name, key.example));
    }

    fn keys(&mut self, table: &Key, groups: &'static [&'static [Key]]) {
        let names = |group: &'static [Key]| group.iter().map(|key| key.name).collect::<Vec<_>>();
        let (known, new): (Vec<&'static [Key]>, Vec<_>) = groups
            .iter()
            .copied()
            .partition(|group| self.explained.iter().any(|it| it.0 == names(group)));
        if let Some(group) = known.first() {
            let explained = self.explained.iter().find(|it| it.0 == names(group));
            let place = explained.map_or(table.name, |it| it.1);
            let names: Vec<_> = known.iter().copied().flat_map(names).collect();
            let names = names.join("`, `");
            self.write(format_args!("\nTakes these keys of `[{place}]`: `{names}`.\n"));
        }
        if new.is_empty() {
            return;
        }
        self.text.push_str("\n| key | meaning | default | example |\n|---|---|---|---|\n");
        for group in new {
            self.explained.push((names(group), table.name));
            for key in group {
                self.row(key);
            }
        }
    }

    fn row(&mut self, key: &Key) {
        let default = match key.presence {
            Presence::Required => "required".to_owned(),
            Presence::Optional => String::new(),
            Presence::Default(text) => format!("`{text}`"),
        };
        self.write(format_args!("| `{}` | {}", key.name, key.doc));
        if let Shape::Choice(choices) = key.shape {
            for (index, choice) in choices.iter().enumerate() {
                let sign = if index == 0 { ':' } else { ';' };
                self.write(format_args!("{sign} `\"{}\"`, {}", choice.name, choice.doc));
            }
        }
        self.write(format_args!(" | {default} | `{}` |\n", key.example));
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("a `String` takes everything");
    }
}
