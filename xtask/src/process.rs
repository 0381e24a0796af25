//! Starting other programs, always from the root of the repository.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask lies in the root of the repository").to_owned()
}

/// The cargo that built us.
pub(crate) fn cargo<const N: usize>(args: [&str; N]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(args).current_dir(root());
    command
}

/// Runs a program and shows what it says only when it fails.
pub(crate) fn quiet(command: &mut Command) -> Result<()> {
    let output = start(command, Command::output)?;
    if !output.status.success() {
        print!("{}", String::from_utf8_lossy(&output.stdout));
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        bail!("`{}` failed: {}", display(command), output.status);
    }
    Ok(())
}

/// Runs a program that talks to the developer itself.
pub(crate) fn loud(command: &mut Command) -> Result<()> {
    let status = start(command, |command| command.stdin(Stdio::null()).status())?;
    if !status.success() {
        bail!("`{}` failed: {status}", display(command));
    }
    Ok(())
}

/// What a program writes to its standard output.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    let output = start(command, |command| command.stderr(Stdio::inherit()).output())?;
    if !output.status.success() {
        bail!("`{}` failed: {}", display(command), output.status);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` did not write UTF-8", display(command)))
}

/// The command as one would type it, with short names for long paths.
pub(crate) fn display(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or(program.as_os_str()).to_string_lossy()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy()));
    words.join(" ")
}

fn start<T>(
    command: &mut Command,
    how: impl FnOnce(&mut Command) -> std::io::Result<T>,
) -> Result<T> {
    how(command).with_context(|| format!("failed to start `{}`", display(command)))
}
