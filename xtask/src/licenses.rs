//! Every dependency may be used, changed and shipped under `MIT OR Apache-2.0`.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use spdx::{Expression, LicenseReq, ParseMode};

use crate::{
    fuzz,
    process::{cargo, stdout},
};

/// Permissive licenses, which ask for no more than keeping a notice.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "NCSA",
    // The permissive license of Unicode's data before it got a number; `unicode_names2` still has it.
    "Unicode-DFS-2016",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

const MANIFESTS: &[&str] = &["Cargo.toml", "fuzz/Cargo.toml"];

/// Fails when a dependency, on whatever platform and for whatever purpose, asks for more.
pub(crate) fn check() -> Result<()> {
    fuzz::make_lock_file()?;
    let mut refused = Vec::new();
    for manifest in MANIFESTS {
        let mut metadata = cargo(["metadata", "--quiet", "--format-version=1"]);
        let metadata = stdout(metadata.arg("--manifest-path").arg(manifest))?;
        let metadata: Value = serde_json::from_str(&metadata)?;
        for package in metadata["packages"].as_array().context("metadata without packages")? {
            // What lies in this repository has no source.
            if package["source"].is_null() {
                continue;
            }
            let (name, version) = (&package["name"], &package["version"]);
            let license = package["license"].as_str().unwrap_or("no license expression");
            if let Err(why) = judge(license) {
                refused.push(format!("\n  {name} {version}: {why}"));
            }
        }
    }
    ensure!(refused.is_empty(), "licenses that are not allowed:{}", refused.concat());
    Ok(())
}

fn judge(license: &str) -> Result<()> {
    // Old crates write `MIT/Apache-2.0`.
    let expression = Expression::parse_mode(license, ParseMode::LAX)
        .with_context(|| format!("failed to parse `{license}`"))?;
    ensure!(expression.evaluate(allows), "`{license}`");
    Ok(())
}

/// An exception (`WITH …`) only ever gives more rights than the license it stands with.
fn allows(requirement: &LicenseReq) -> bool {
    requirement.license.id().is_some_and(|id| ALLOWED.contains(&id.name))
}

#[cfg(test)]
mod tests {
    use super::judge;

    fn check(license: &str, allowed: bool) {
        assert_eq!(judge(license).is_ok(), allowed, "{license}");
    }

    #[test]
    fn one_allowed_alternative_is_enough() {
        check("MIT OR GPL-3.0-only", true);
        check("MIT/Apache-2.0", true);
        check("Apache-2.0 WITH LLVM-exception", true);
        check("GPL-3.0-only", false);
    }

    #[test]
    fn every_part_of_a_conjunction_counts() {
        check("(MIT OR Apache-2.0) AND Unicode-3.0", true);
        check("MIT AND MPL-2.0", false);
    }

    #[test]
    fn an_unknown_license_is_not_allowed() {
        check("no license expression", false);
        check("LicenseRef-ours", false);
    }
}
