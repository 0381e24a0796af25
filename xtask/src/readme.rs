//! The commands the README promises.
//!
//! The README is where they are written down. The gate runs what stands there,
//! so the two cannot drift apart.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use crate::process;

/// The lines in the README's `sh` blocks, in order.
pub(crate) fn commands() -> Result<Vec<String>> {
    let text = text()?;
    let is_command = |line: &&str| !line.is_empty() && !line.starts_with('#');
    Ok(lines_of(&text, "sh").filter(is_command).map(str::to_owned).collect())
}

/// What the README shows of the output of its first command: the lines in `text` blocks.
pub(crate) fn excerpt() -> Result<Vec<String>> {
    let text = text()?;
    // Between two parts something was left out.
    let is_shown = |line: &&str| !line.is_empty() && *line != "…";
    Ok(lines_of(&text, "text").filter(is_shown).map(str::to_owned).collect())
}

fn text() -> Result<String> {
    let path = process::root().join("README.md");
    fs::read_to_string(&path).context("failed to read `README.md`")
}

/// The first of the README's commands that starts with `prefix`, ready to run.
pub(crate) fn command(prefix: &str) -> Result<Command> {
    let line = commands()?
        .into_iter()
        .find(|line| line.starts_with(prefix))
        .with_context(|| format!("`README.md` has no `{prefix}` in an `sh` block"))?;
    let mut words = line.split_whitespace();
    let program = words.next().filter(|program| *program != "cargo").unwrap_or(env!("CARGO"));
    let mut command = Command::new(program);
    command.args(words).current_dir(process::root());
    Ok(command)
}

fn lines_of<'t>(markdown: &'t str, language: &str) -> impl Iterator<Item = &'t str> {
    let mut inside = false;
    markdown.lines().filter(move |line| {
        if let Some(fence) = line.strip_prefix("```") {
            inside = !inside && fence == language;
            return false;
        }
        inside
    })
}

#[cfg(test)]
mod tests {
    use super::lines_of;

    #[test]
    fn lines_are_told_by_their_block() {
        let text = "# Title\n```text\nno\n```\n`inline`\n```sh\n# why\ncargo test\n```\nprose\n";
        assert_eq!(lines_of(text, "sh").collect::<Vec<_>>(), ["# why", "cargo test"]);
        assert_eq!(lines_of(text, "text").collect::<Vec<_>>(), ["no"]);
    }
}
