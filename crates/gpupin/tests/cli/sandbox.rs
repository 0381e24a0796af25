//! A directory and an environment of one's own.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

pub(crate) struct Sandbox {
    directory: TempDir,
    variables: Vec<(&'static str, &'static str)>,
}

/// What a command did.
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), variables: Vec::new() }
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

    /// `gpupin` in a directory below, ready to run.
    pub(crate) fn command(&self, directory: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpupin"));
        command.current_dir(self.path().join(directory)).env_clear();
        command.envs(self.variables.iter().copied()).args(args);
        command
    }

    /// Runs `gpupin` in a directory below.
    pub(crate) fn gpupin_in(&self, directory: &str, args: &[&str]) -> Outcome {
        let output = self.command(directory, args).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        Outcome { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Outcome {
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
