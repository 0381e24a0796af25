//! Which policy, role and profile count: what options say, else what the environment does. A program that is started learns of it the
//! same way, so that what asks inside it means the same without being told again.

use std::{ffi::OsString, path::PathBuf};

use crate::{failure::Failure, project::ProjectArgs};

/// The Python package reads them too.
pub(crate) const ROLE: &str = "GPUPIN_ROLE";
pub(crate) const PROFILE: &str = "GPUPIN_PROFILE";
pub(crate) const POLICY: &str = "GPUPIN_POLICY";

/// For the help of commands that start a program.
pub(crate) const HELP: &str = "\
Environment: GPUPIN_ROLE, GPUPIN_PROFILE and GPUPIN_POLICY count where the options of these names are missing. They are set for the
program, so that gpupin means the same inside: another `gpupin run`, and the Python package.";

#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) role: Option<String>,
    pub(crate) project: ProjectArgs,
}

impl Names {
    pub(crate) fn new(role: Option<&str>, project: &ProjectArgs) -> Self {
        let text = |name| set(name).map(|it| it.to_string_lossy().into_owned());
        let role = role.map(str::to_owned).or_else(|| text(ROLE));
        let mut project = project.clone();
        if !project.no_policy {
            project.profile = project.profile.or_else(|| text(PROFILE));
            project.policy = project.policy.or_else(|| set(POLICY).map(PathBuf::from));
        }
        Self { role, project }
    }

    /// What a program gets that is started for these.
    pub(crate) fn variables(&self) -> Vec<(String, OsString)> {
        let choice = self.choice().map(|(name, value)| (name, value.into()));
        // The program may go elsewhere before it asks.
        let absolute = |it: &PathBuf| std::path::absolute(it).unwrap_or_else(|_| it.clone());
        let policy = self.project.policy.as_ref().map(absolute);
        choice.chain(policy.map(|it| (POLICY.to_owned(), it.into()))).collect()
    }

    /// The same without the place of the policy, which is another one elsewhere, as in a container.
    pub(crate) fn choice(&self) -> impl Iterator<Item = (String, String)> {
        let named = [(ROLE, self.role.clone()), (PROFILE, self.project.profile.clone())];
        named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)))
    }
}

/// Adds where a name came from that nobody has typed.
pub(crate) fn blame(failure: Failure, variable: &str, value: impl Into<OsString>) -> Failure {
    if set(variable) == Some(value.into()) {
        return failure.hint(format!("`{variable}` of the environment names it"));
    }
    failure
}

fn set(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|it| !it.is_empty())
}
