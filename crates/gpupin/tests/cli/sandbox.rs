//! A directory and an environment of one's own.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

pub(crate) struct Sandbox {
    directory: TempDir,
    variables: Vec<(&'static str, &'static str)>,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// -1 if a signal ended it.
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    /// For tests that wait for the disk all the time, and do not ask how well it keeps things.
    pub(crate) fn in_memory() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self { directory: directory.unwrap(), variables: Vec::new() }
    }

    pub(crate) fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Sets a variable for every run.
    pub(crate) fn variable(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }

    /// Runs `gpupin` in this directory, with none of the caller's environment.
    pub(crate) fn gpupin(&self, args: &[&str]) -> Outcome {
        self.gpupin_in("", args)
    }

    /// Runs `gpupin` in a directory below.
    pub(crate) fn gpupin_in(&self, directory: &str, args: &[&str]) -> Outcome {
        let mut command = self.command(args);
        let command = command.current_dir(self.path().join(directory)).stdin(Stdio::null());
        Outcome::of(command.output().unwrap())
    }

    /// Runs `gpupin` with this text on standard input.
    pub(crate) fn gpupin_given(&self, input: &str, args: &[&str]) -> Outcome {
        Outcome::given(input, &mut self.command(args))
    }

    /// The command that runs `gpupin` in this directory.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpupin"));
        command.current_dir(self.path()).env_clear().envs(self.variables.iter().copied());
        command.args(args);
        command
    }
}

impl Outcome {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap_or(-1);
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }

    /// What a command does that is given a text.
    pub(crate) fn given(input: &str, command: &mut Command) -> Self {
        let (stdin, out, err) = (Stdio::piped(), Stdio::piped(), Stdio::piped());
        let mut child = command.stdin(stdin).stdout(out).stderr(err).spawn().unwrap();
        // Who dies early reads nothing.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        Self::of(child.wait_with_output().unwrap())
    }

    /// Everything in one text, for a snapshot.
    pub(crate) fn whole(&self) -> String {
        let stream = |name, text: &str| match text {
            "" => String::new(),
            text => format!("----- {name}\n{text}"),
        };
        let (out, err) = (stream("stdout", &self.out), stream("stderr", &self.err));
        format!("exit code: {}\n{out}{err}", self.code)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap()
    }
}
