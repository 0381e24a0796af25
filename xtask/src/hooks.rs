//! What others run gpupin with: the framework pre-commit, and the pipelines in `examples/ci`.
//!
//! The tools come from `PyPI` once; after that nothing is fetched.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::process::{cargo, display, quiet, root};

const REQUIREMENTS: &str = "xtask/hooks/requirements.txt";

/// The examples of pipelines, each with the schema that its vendor publishes.
const PIPELINES: &[(&str, &str)] = &[
    ("examples/ci/github.yml", "vendor.github-workflows"),
    ("examples/ci/gitlab.yml", "vendor.gitlab-ci"),
];

const BAD: &str = "export CUDA_VISIBLE_DEVICES=1\n";
const GOOD: &str = "export CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=1\n";

pub(crate) fn check() -> Result<()> {
    let tools = install()?;
    for (file, schema) in PIPELINES {
        let mut check = Command::new(tools.join("check-jsonschema"));
        quiet(check.current_dir(root()).args(["--builtin-schema", schema, file]))?;
    }
    let mut validate = Command::new(tools.join("pre-commit"));
    quiet(validate.current_dir(root()).args(["validate-manifest", ".pre-commit-hooks.yaml"]))?;
    quiet(&mut cargo(["build", "--package", "gpupin"]))?;
    hook_of_pre_commit(&tools)
}

/// A staged mistake is refused, and what mends it passes once it is staged.
fn hook_of_pre_commit(tools: &Path) -> Result<()> {
    let project = root().join("target/hooks/project");
    if project.exists() {
        fs::remove_dir_all(&project)?;
    }
    fs::create_dir_all(&project)?;
    let git = |args: &[&str]| quiet(Command::new("git").current_dir(&project).args(args));
    let write = |text| fs::write(project.join("run.sh"), text);
    git(&["init", "--quiet"])?;
    write(BAD)?;
    git(&["add", "run.sh"])?;
    let (passes, said) = try_hook(tools, &project)?;
    ensure!(!passes && said.contains("run.sh:1:8"), "a staged mistake must be refused:\n{said}");
    write(GOOD)?;
    let (passes, said) = try_hook(tools, &project)?;
    ensure!(!passes, "what mends it is not staged, and was judged:\n{said}");
    git(&["add", "run.sh"])?;
    let (passes, said) = try_hook(tools, &project)?;
    ensure!(passes, "the mended file must pass:\n{said}");
    Ok(())
}

/// Runs the hook of this repository's manifest in a project: whether it passes, and what it says.
fn try_hook(tools: &Path, project: &Path) -> Result<(bool, String)> {
    let mut command = Command::new(tools.join("pre-commit"));
    command.arg("try-repo").arg(root()).args(["gpupin-scan", "--verbose", "--color", "never"]);
    let path = env::var_os("PATH").unwrap_or_default();
    let paths = [root().join("target/debug")].into_iter().chain(env::split_paths(&path));
    command
        .env("PATH", env::join_paths(paths)?)
        .env("PRE_COMMIT_HOME", root().join("target/hooks/cache"));
    let output = command.current_dir(project).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("failed to start `{}`", display(&command)))?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// Installs the pinned versions unless they are there, and tells where their programs are.
fn install() -> Result<PathBuf> {
    let environment = root().join("target/hooks/venv");
    let (wanted, installed) = (root().join(REQUIREMENTS), environment.join("requirements.txt"));
    let wanted_text =
        fs::read(&wanted).with_context(|| format!("failed to read `{REQUIREMENTS}`"))?;
    let programs = environment.join("bin");
    if fs::read(&installed).is_ok_and(|it| it == wanted_text) {
        return Ok(programs);
    }
    quiet(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let mut pip = Command::new(programs.join("python"));
    quiet(pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&wanted))?;
    fs::write(installed, wanted_text)?;
    Ok(programs)
}
