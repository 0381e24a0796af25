//! Rules about the repository that no compiler checks.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::process::{self, stdout};

/// From here on a file probably has a second subject.
const LONG: usize = 600;

/// The files of the repository, also new ones that git does not ignore.
pub(crate) fn files() -> Result<Vec<String>> {
    let mut git = std::process::Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let list = stdout(git.current_dir(process::root()))?;
    // A file that was deleted stays listed until that is committed.
    let exists = |file: &&str| process::root().join(file).exists();
    Ok(list.lines().filter(exists).map(str::to_owned).collect())
}

/// The text of a file of the repository.
pub(crate) fn read(file: &str) -> Result<String> {
    fs::read_to_string(process::root().join(file))
        .with_context(|| format!("failed to read `{file}`"))
}

/// Source files that are getting long, and how many lines they have.
pub(crate) fn long_files() -> Result<Vec<(String, usize)>> {
    let mut long = Vec::new();
    for file in files()?.into_iter().filter(|file| is_source(file)) {
        let lines = read(&file)?.lines().count();
        if lines > LONG {
            long.push((file, lines));
        }
    }
    Ok(long)
}

/// Written by hand and by us: what users' projects look like in `examples` is not.
fn is_source(file: &str) -> bool {
    let ours = ["crates/", "xtask/", "fuzz/", "python/", ".ci/"];
    let code = ["rs", "py", "sh"].iter().any(|extension| has_extension(file, extension));
    ours.iter().any(|it| file.starts_with(it)) && (code || file == ".ci/run")
}

pub(crate) fn has_extension(file: &str, extension: &str) -> bool {
    Path::new(file).extension().is_some_and(|it| it == extension)
}

#[cfg(test)]
mod tests;
