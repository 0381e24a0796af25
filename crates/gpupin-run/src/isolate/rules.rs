use std::{
    fs,
    path::{Path, PathBuf},
};

use landlock::{
    AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetStatus,
};

/// Lets everything be opened as before, but `hidden`.
///
/// Rules only allow, and what they allow holds below. So every directory above a hidden node is opened up into what is in it. What
/// comes into such a directory itself later is denied: new files in `/`, new nodes in `/dev`.
pub(super) fn enforce(devices: &Path, hidden: &[&Path]) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let canonical = |it: &Path| fs::canonicalize(it).unwrap_or_else(|_| it.to_owned());
    let hidden: Vec<_> = hidden.iter().map(|it| canonical(it)).collect();
    let devices = canonical(devices);
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Refer)
        .map_err(|it| text(&it))?
        // Linux before 6.10 does not know it; a copy of the node elsewhere would still work there.
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::IoctlDev)
        .map_err(|it| text(&it))?
        .create()
        .map_err(|it| text(&it))?;
    let rules = Rules { hidden, devices: vec![devices, PathBuf::from("/dev")] };
    let ruleset = rules.allow_in(Path::new("/"), ruleset)?;
    let status = ruleset.restrict_self().map_err(|it| text(&it))?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err("this kernel does not have it".to_owned()),
    }
}

struct Rules {
    hidden: Vec<PathBuf>,
    /// Directories in which devices may be told what to do.
    devices: Vec<PathBuf>,
}

impl Rules {
    /// Allows what is in a directory above something hidden.
    fn allow_in(
        &self,
        directory: &Path,
        mut ruleset: RulesetCreated,
    ) -> Result<RulesetCreated, String> {
        let failed = |why: &dyn std::fmt::Display| format!("`{}`: {why}", directory.display());
        for entry in fs::read_dir(directory).map_err(|it| failed(&it))? {
            let entry = entry.map_err(|it| failed(&it))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(|it| failed(&it))?);
            // Rules are about what a link leads to.
            if kind.is_symlink() || self.hidden.contains(&path) {
                continue;
            }
            if self.hidden.iter().any(|it| it.starts_with(&path)) {
                ruleset = self.allow_in(&path, ruleset)?;
                continue;
            }
            // It may have gone, or be nobody's business: then nothing is allowed there.
            let Ok(fd) = PathFd::new(&path) else { continue };
            let mut access: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::WriteFile;
            if kind.is_dir() {
                access |= AccessFs::Refer;
            }
            if self.devices.iter().any(|it| path.starts_with(it)) {
                access |= AccessFs::IoctlDev;
            }
            ruleset = ruleset.add_rule(PathBeneath::new(fd, access)).map_err(|it| failed(&it))?;
        }
        Ok(ruleset)
    }
}
