use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    commands::scan::BASELINE,
    failure::{Exit, Failure},
    git::Repository,
    project::{self, ProjectArgs, display, relative, slashed},
    terminal::Terminal,
};

/// Scan what is about to be committed, each time
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

const EXAMPLES: &str = "\
Examples:
  gpupin hook install        from now on `git commit` runs `gpupin scan --staged` first
  git commit --no-verify     commit without it
  gpupin hook uninstall";

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Write a pre-commit hook of git, or bring gpupin's own up to date
    ///
    /// It scans the project of the working directory, with the `gpupin-baseline.json` beside the policy if there is one.
    /// It refuses a commit with findings, and also one that it cannot check. Where it is written follows
    /// `core.hooksPath`.
    Install {
        /// Run a hook that is there already first, instead of refusing; it is kept as `pre-commit.before-gpupin`
        #[arg(long)]
        force: bool,
    },
    /// Remove gpupin's hook; what `--force` moved away comes back
    Uninstall,
}

/// How a hook of gpupin is recognised.
const MARKER: &str = "# Written by `gpupin hook install`";

const FOREIGN: &str = "is there already, and not gpupin's";

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let here = env::current_dir().context("failed to find the working directory")?;
    let repository = Repository::find(&here)?;
    let hook = Hook::of(&repository, &here)?;
    match args.action {
        Action::Install { force } => hook.install(force, &repository, terminal),
        Action::Uninstall => hook.uninstall(terminal),
    }
}

struct Hook {
    path: PathBuf,
    /// What was there before gpupin's.
    older: PathBuf,
    working_directory: PathBuf,
}

impl Hook {
    fn of(repository: &Repository, here: &Path) -> Result<Self, Failure> {
        let directory = repository.hooks()?;
        Ok(Self {
            path: directory.join("pre-commit"),
            older: directory.join("pre-commit.before-gpupin"),
            working_directory: here.to_owned(),
        })
    }

    fn install(
        &self,
        force: bool,
        repository: &Repository,
        terminal: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let project = project::open(&ProjectArgs::default(), None, terminal)?;
        let scanned = slashed(&relative(&repository.top(), &project.root));
        // A policy above the repository is found from its top as well.
        let scanned = if scanned.starts_with("..") { "" } else { &scanned };
        let program = env::current_exe().context("failed to find the path of gpupin")?;
        let shown = self.shown(&self.path);
        if self.is_foreign() {
            if !force {
                return Err(Failure::usage(format!("`{shown}` {FOREIGN}"))
                    .hint(format!("add this line to it: `{} || exit 1`", command(scanned)))
                    .hint("`--force` keeps it, and runs it before gpupin's"));
            }
            if exists(&self.older) {
                let older = self.shown(&self.older);
                return Err(Failure::usage(format!(
                    "`{shown}` {FOREIGN}, and `{older}` is one more"
                ))
                .hint("make one hook of the two, or remove one"));
            }
            fs::rename(&self.path, &self.older)
                .with_context(|| format!("failed to rename `{shown}`"))?;
        }
        let context = || format!("failed to write `{shown}`");
        fs::create_dir_all(self.path.parent().unwrap_or(Path::new(""))).with_context(context)?;
        fs::write(&self.path, script(&program, scanned)).with_context(context)?;
        make_executable(&self.path).with_context(context)?;
        terminal.status(&format!(
            "wrote `{shown}`: `git commit` runs `{}` first; `git commit --no-verify` skips it",
            command(scanned)
        ));
        let is_shared = |it: &Path| !self.path.starts_with(it);
        if is_shared(&repository.top()) && is_shared(&repository.common_directory()?) {
            terminal.warning(
                "`core.hooksPath` leads out of this repository: the hook runs in every repository that uses that directory",
            );
        }
        Ok(Exit::Clean)
    }

    fn uninstall(&self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let shown = self.shown(&self.path);
        if self.is_foreign() {
            return Err(Failure::usage(format!("`{shown}` is not gpupin's"))
                .hint("remove the line with `gpupin` from it by hand"));
        }
        if !exists(&self.path) {
            terminal.status(&format!("there is no hook `{shown}`"));
            return Ok(Exit::Clean);
        }
        fs::remove_file(&self.path).with_context(|| format!("failed to remove `{shown}`"))?;
        if exists(&self.older) {
            let older = self.shown(&self.older);
            fs::rename(&self.older, &self.path)
                .with_context(|| format!("failed to rename `{older}`"))?;
            terminal.status(&format!("put `{shown}` back as it was before gpupin"));
        } else {
            terminal.status(&format!("removed `{shown}`"));
        }
        Ok(Exit::Clean)
    }

    /// Whether somebody else's hook is there. One that cannot be read is not ours.
    fn is_foreign(&self) -> bool {
        let is_ours = || {
            let text = fs::read(&self.path).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(MARKER)
        };
        exists(&self.path) && !is_ours()
    }

    fn shown(&self, path: &Path) -> String {
        display(&self.working_directory, path)
    }
}

/// Also true of a link that leads nowhere.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn command(scanned: &str) -> String {
    match scanned {
        "" => "gpupin scan --staged".to_owned(),
        scanned => format!("gpupin scan --staged -- {}", quoted(scanned)),
    }
}

/// The hook, in the `sh` of POSIX, which git for Windows brings along.
fn script(program: &Path, scanned: &str) -> String {
    let program = quoted(&slashed(program));
    let baseline = quoted(&slashed(&Path::new(scanned).join(BASELINE)));
    // A branch may be older than the project.
    let (guard, path) = match scanned {
        "" => (String::new(), String::new()),
        scanned => {
            let scanned = quoted(scanned);
            (format!("[ -e {scanned} ] || exit 0\n"), format!(" -- {scanned}"))
        }
    };
    format!(
        r#"#!/bin/sh
{MARKER}, which also brings it up to date; `gpupin hook uninstall` removes it.

# Another hook that was here first.
if [ -x "$0.before-gpupin" ]; then
    "$0.before-gpupin" "$@" || exit
fi

{guard}gpupin=gpupin
if ! command -v gpupin >/dev/null 2>&1; then
    gpupin={program}
    if [ ! -x "$gpupin" ]; then
        echo "gpupin is neither on PATH nor at $gpupin, so nothing was checked: install it," >&2
        echo "or commit without it: git commit --no-verify" >&2
        exit 1
    fi
fi

set -- scan --staged
if [ -e {baseline} ]; then
    set -- "$@" --baseline {baseline}
fi
"$gpupin" "$@"{path}
code=$?
case $code in
    0) ;;
    1)
        echo >&2
        echo "gpupin refused the commit. Mend the findings and stage that, or accept one with a comment:" >&2
        echo "    # gpupin: ignore[CODE] why" >&2
        echo "To make the safe fixes to what is staged: gpupin fix --allow-dirty" >&2
        echo "To commit anyway: git commit --no-verify" >&2
        ;;
    *)
        echo >&2
        echo "gpupin could not check the commit. To commit anyway: git commit --no-verify" >&2
        ;;
esac
exit $code
"#
    )
}

/// A word of `sh`.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(unix)]
fn make_executable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Git for Windows looks at the first line only.
#[cfg(not(unix))]
fn make_executable(_: &Path) -> std::io::Result<()> {
    Ok(())
}
