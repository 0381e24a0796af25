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
    variables: Vec<(&'static str, String)>,
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
        Self { directory: tempfile::tempdir().unwrap(), variables: without_driver() }
    }

    /// For tests that wait for the disk all the time, and do not ask how well it keeps things.
    pub(crate) fn in_memory() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self { directory: directory.unwrap(), variables: without_driver() }
    }

    pub(crate) fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Sets a variable for every run.
    pub(crate) fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
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
        self.run(env!("CARGO_BIN_EXE_gpupin"), directory, args)
    }

    /// Makes this directory a repository of git that knows nothing of the machine's configuration.
    pub(crate) fn repository(self) -> Self {
        let sandbox = self
            .variable("PATH", std::env::var("PATH").unwrap())
            .variable("HOME", "/nonexistent")
            .variable("GIT_CONFIG_GLOBAL", "/dev/null")
            .variable("GIT_CONFIG_NOSYSTEM", "1")
            .variable("GIT_AUTHOR_NAME", "a")
            .variable("GIT_AUTHOR_EMAIL", "a@localhost")
            .variable("GIT_COMMITTER_NAME", "a")
            .variable("GIT_COMMITTER_EMAIL", "a@localhost");
        sandbox.git(&["init", "--quiet", "--initial-branch", "main"]);
        sandbox
    }

    /// Runs git in this directory. It must succeed.
    #[track_caller]
    pub(crate) fn git(&self, args: &[&str]) -> Outcome {
        let outcome = self.run("git", "", args);
        assert_eq!(outcome.code, 0, "git {}\n{}", args.join(" "), outcome.whole());
        outcome
    }

    /// Commits everything.
    #[track_caller]
    pub(crate) fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--no-verify", "--allow-empty", "--message", "all"]);
    }

    /// Runs a program in a directory below, with none of the caller's environment.
    pub(crate) fn run(&self, program: &str, directory: &str, args: &[&str]) -> Outcome {
        let mut command = self.program(program, args);
        let command = command.current_dir(self.path().join(directory)).stdin(Stdio::null());
        Outcome::of(command.output().unwrap())
    }

    /// Runs `gpupin` with this text on standard input.
    pub(crate) fn gpupin_given(&self, input: &str, args: &[&str]) -> Outcome {
        Outcome::given(input, &mut self.command(args))
    }

    /// The command that runs `gpupin` in this directory.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_gpupin"), args)
    }

    fn program(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).env_clear();
        command.envs(self.variables.iter().map(|it| (it.0, &it.1))).args(args);
        command
    }
}

/// Whatever GPU the machine has, no test asks its driver unawares.
fn without_driver() -> Vec<(&'static str, String)> {
    let nowhere = |it| (it, "/nonexistent/gpupin".to_owned());
    ["GPUPIN_NVML_LIBRARY", "GPUPIN_CUDA_LIBRARY", "GPUPIN_SYSROOT"].map(nowhere).to_vec()
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
