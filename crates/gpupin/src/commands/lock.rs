use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use gpupin_device::{Kind, Machine};
use gpupin_policy::{Inventory, LockFile};

use crate::{
    failure::{Exit, Failure},
    machine::MachineArgs,
    project::{self, LOCK, Project, ProjectArgs},
    terminal::Terminal,
};

/// Record the GPUs of this machine in `gpupin.lock`
///
/// With it, a scan on a machine without GPUs can tell what an index means here. The file lies beside the policy and belongs into
/// version control; other machines that it records stay in it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Change nothing, and tell whether the file still says what is true
    #[arg(long)]
    check: bool,

    /// Record a simulated machine in place of a real one of the same name
    #[arg(long, conflicts_with = "check")]
    force: bool,

    #[command(flatten)]
    machine: MachineArgs,

    #[command(flatten)]
    project: ProjectArgs,
}

const EXAMPLES: &str = "\
Examples:
  gpupin lock
  gpupin lock --check
  gpupin lock --machine mixed    record a simulated machine, to try things out

Exit codes: 0 recorded, 1 `--check` found a difference, 2 there is no driver, or a GPU that does not say what it is, 3 there is no GPU";

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let project = project::open(&args.project, None, terminal)?;
    let machine = args.machine.open()?;
    let inventory = recordable(machine.as_ref(), args.machine.is_scene())?;
    let path = path(&project);
    let shown = project.display(&path);

    let host = inventory.host.clone();
    let is_simulated = machine.kind() == Kind::Simulated;
    let mut changes = changes(&project.lock, &inventory);
    if project.lock.machine(&host).is_some() && project.lock.is_simulated(&host) != is_simulated {
        let (now, before) =
            if is_simulated { ("simulated", "measured") } else { ("measured", "simulated") };
        changes.push(format!("`{host}` is {now} and was {before}"));
    }
    let mut lock = project.lock.clone();
    if is_simulated {
        lock.record_simulated(inventory);
    } else {
        lock.record(inventory);
    }
    if lock == project.lock {
        terminal.status(&format!("`{shown}` is right about `{host}`"));
        return Ok(Exit::Clean);
    }
    let is_measured = project.lock.machine(&host).is_some() && !project.lock.is_simulated(&host);
    if is_simulated && is_measured && !args.check && !args.force {
        return Err(Failure::usage(format!(
            "`{shown}` records the real `{host}`, which a simulated one would replace"
        ))
        .hint("`--force` replaces it"));
    }
    for change in &changes {
        writeln!(terminal.out(), "{change}").context("failed to write output")?;
    }
    if args.check {
        terminal
            .status(&format!("`{shown}` is wrong about `{host}`; `gpupin lock` records it anew"));
        return Ok(Exit::Findings);
    }
    replace(&path, &lock.to_text()).with_context(|| format!("failed to write `{shown}`"))?;
    let made_up = if is_simulated { ", which is simulated," } else { "" };
    terminal
        .status(&format!("recorded `{host}`{made_up} in `{shown}`, as {} tells", machine.source()));
    Ok(Exit::Clean)
}

/// What a lock file may say of a machine: everything, and nothing that is made up unless the user asks for it.
fn recordable(machine: &dyn Machine, is_scene: bool) -> Result<Inventory, Failure> {
    if machine.kind() != Kind::Measured && !is_scene {
        return Err(Failure::usage("this machine is simulated, and a lock file is for real ones")
            .hint(
                "`--machine SCENE` records a scene on purpose, and with `--check` compares one",
            ));
    }
    let inventory = machine.inventory()?;
    if let Some(it) = machine.unreadable()?.first() {
        let text = format!("index {}: {} is not told: {}", it.index, it.what, it.why);
        return Err(Failure::usage(format!("a GPU does not say what it is: {text}")).hint(
            "a lock file without it would be wrong about the others, too; see `gpupin gpus`",
        ));
    }
    if inventory.gpus.is_empty() {
        let error = anyhow::anyhow!("`{}` has no GPU to record", inventory.host);
        return Err(Failure::new(Exit::NoGpu, error));
    }
    Ok(inventory)
}

fn path(project: &Project) -> PathBuf {
    match &project.lock_path {
        Some(shown) => project::normal(&project.working_directory.join(shown)),
        None => project.root.join(LOCK),
    }
}

/// What recording a machine changes, one line each.
fn changes(lock: &LockFile, machine: &Inventory) -> Vec<String> {
    let mut changes = Vec::new();
    let before = lock.machine(&machine.host);
    if before.is_none() {
        changes.push(format!("`{}` is new", machine.host));
    }
    for gpu in &machine.gpus {
        let name = format!("index {}: {} ({})", gpu.index, gpu.short_name(), gpu.uuid);
        let elsewhere = lock.machines().iter().find(|it| {
            it.host != machine.host && it.gpus.iter().any(|other| other.uuid == gpu.uuid)
        });
        match (before.and_then(|it| it.get(&gpu.uuid)), elsewhere) {
            (None, Some(other)) => changes.push(format!("{name} came from `{}`", other.host)),
            (None, None) => changes.push(format!("{name} is new")),
            (Some(old), _) if old.index != gpu.index => {
                changes.push(format!("{name} was index {}", old.index));
            }
            (Some(old), _) if old.pci != gpu.pci => {
                changes.push(format!("{name} moved from {} to {}", old.pci, gpu.pci));
            }
            (Some(old), _) if old != gpu => changes.push(format!("{name} is described otherwise")),
            _ => {}
        }
    }
    for old in before.iter().flat_map(|it| &it.gpus) {
        if machine.get(&old.uuid).is_none() {
            changes.push(format!("{} ({}) is gone", old.short_name(), old.uuid));
        }
    }
    if let Some(before) = before.filter(|it| it.driver != machine.driver) {
        let version = |it: &Inventory| {
            it.driver.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string)
        };
        changes.push(format!("driver {} was {}", version(machine), version(before)));
    }
    changes
}

/// Replaces a file as a whole, so that a crash leaves the old one or the new one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    // Behind a link lies the file that is meant.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = target.parent().unwrap_or(Path::new("."));
    let temporary = directory.join(format!(".gpupin.lock.{}", std::process::id()));
    let written = write_new(&temporary, &target, text)
        .and_then(|()| fs::rename(&temporary, &target))
        // Until then a crash of the machine may undo the rename.
        .and_then(|()| File::open(directory)?.sync_all());
    if written.is_err() {
        drop(fs::remove_file(&temporary));
    }
    written
}

fn write_new(temporary: &Path, target: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(temporary)?;
    if let Ok(old) = fs::metadata(target) {
        file.set_permissions(old.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::replace;

    #[test]
    fn a_link_to_the_file_stays_one() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("gpupin.lock"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        replace(&link, "new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
