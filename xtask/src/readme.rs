//! The commands the README promises.
//!
//! The README is where they are written down. The gate runs what stands there,
//! so the two cannot drift apart.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use crate::process;

/// The lines in the README's `sh` blocks, in order.
pub(crate) fn commands() -> Result<Vec<String>> {
    let path = process::root().join("README.md");
    let text = fs::read_to_string(&path).context("failed to read `README.md`")?;
    Ok(shell_lines(&text).map(str::to_owned).collect())
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

fn shell_lines(markdown: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    markdown.lines().filter(move |line| {
        if let Some(fence) = line.strip_prefix("```") {
            inside = !inside && fence == "sh";
            return false;
        }
        inside && !line.is_empty() && !line.starts_with('#')
    })
}

#[cfg(test)]
mod tests {
    use super::shell_lines;

    #[test]
    fn only_shell_blocks_hold_commands() {
        let text = "# Title\n```text\nno\n```\n`inline`\n```sh\n# why\ncargo test\n```\nprose\n";
        assert_eq!(shell_lines(text).collect::<Vec<_>>(), ["cargo test"]);
    }
}
