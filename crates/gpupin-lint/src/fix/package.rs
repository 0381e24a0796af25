//! The package that a pin of the style `import` needs.

/// What it is called where dependencies are declared.
pub const NAME: &str = "gpupin";

/// What the import begins with.
pub const IMPORT: &str = "import gpupin.auto";

/// Whether a file is one in which a project declares what it depends on.
pub fn is_place(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    matches!(
        file,
        "pyproject.toml" | "setup.cfg" | "setup.py" | "environment.yml" | "environment.yaml"
    ) || (file.starts_with("requirements") && file.rsplit('.').next() == Some("txt"))
}

/// Whether a file declares that a project depends on the package.
pub fn declares(path: &str, text: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    let mut lines = text.lines().map(|it| it.split('#').next().unwrap_or_default().trim());
    match file {
        _ if !is_place(path) => false,
        "pyproject.toml" => lines.clone().any(is_quoted_in) || has_key(text),
        "setup.py" => lines.any(is_quoted_in),
        "environment.yml" | "environment.yaml" => {
            lines.any(|it| it.strip_prefix("- ").is_some_and(is_requirement))
        }
        _ => lines.any(is_requirement),
    }
}

/// `gpupin`, `gpupin>=1`, `gpupin[x] ; python_version > "3"`.
fn is_requirement(text: &str) -> bool {
    let version = text.trim().trim_matches(['"', '\'']).strip_prefix(NAME);
    version.is_some_and(|it| {
        it.is_empty() || it.starts_with([' ', '=', '<', '>', '!', '~', '[', ';', '@'])
    })
}

fn is_quoted_in(line: &str) -> bool {
    line.split(['"', '\'']).skip(1).step_by(2).any(is_requirement)
}

/// Poetry has a table of them.
fn has_key(text: &str) -> bool {
    let mut table = "";
    text.lines().map(str::trim).any(|line| {
        if line.starts_with('[') {
            table = line;
        }
        let name = line.split('=').next().unwrap_or_default().trim();
        table.ends_with("dependencies]") && name == NAME
    })
}

#[cfg(test)]
mod tests {
    use super::declares;

    #[test]
    fn a_dependency_is_found_where_projects_declare_it() {
        for (path, text) in [
            ("requirements.txt", "torch\ngpupin>=1  # pins\n"),
            ("app/requirements-dev.txt", "gpupin"),
            ("setup.cfg", "[options]\ninstall_requires =\n    torch\n    gpupin ~= 1.0\n"),
            ("setup.py", "setup(install_requires=['torch', 'gpupin>=1'])\n"),
            ("environment.yml", "dependencies:\n  - python\n  - pip:\n    - gpupin==1.0\n"),
            ("pyproject.toml", "[project]\ndependencies = [\"gpupin\"]\n"),
            ("pyproject.toml", "[tool.poetry.dependencies]\ngpupin = \"^1\"\n"),
        ] {
            assert!(declares(path, text), "{path}");
        }
        for (path, text) in [
            ("requirements.txt", "# gpupin\ngpupin-other\n"),
            ("notes.txt", "gpupin\n"),
            ("setup.cfg", "[gpupin]\n"),
            ("setup.py", "import gpupin\n"),
            ("environment.yml", "name: gpupin\n"),
            ("pyproject.toml", "[tool.gpupin]\n"),
        ] {
            assert!(!declares(path, text), "{path}");
        }
    }
}
