//! Which file an import runs.

use std::collections::{HashMap, HashSet};

use crate::{
    unit::{Unit, UnitId},
    value::{Name, Root},
};

/// Every Python file of the project, read or not, by its path.
///
/// Files that a prefilter dropped have no unit, yet they decide what is a package, so they are listed too.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    files: HashMap<String, Option<UnitId>>,
    directories: HashSet<String>,
}

/// Where a dotted name leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Located {
    /// The modules that importing the module part runs, outermost package first. Only those that were read.
    pub(crate) runs: Vec<UnitId>,
    /// The module, if it was read.
    pub(crate) unit: Option<UnitId>,
    /// What follows the module part: a function, class or constant; empty for the module itself.
    pub(crate) rest: String,
}

/// Directories that hold packages by convention, beside those that hold the importing file.
const SOURCE_DIRECTORIES: [&str; 3] = ["src", "lib", "python"];

impl Modules {
    pub(crate) fn new<'a>(units: &[Unit], others: impl IntoIterator<Item = &'a str>) -> Self {
        let mut modules = Self::default();
        for path in others {
            modules.add(path, None);
        }
        for (id, unit) in (0..).map(UnitId).zip(units) {
            modules.add(&unit.source.path, Some(id));
        }
        modules
    }

    fn add(&mut self, path: &str, unit: Option<UnitId>) {
        self.files.insert(path.to_owned(), unit);
        let mut directory = parent(path);
        while !directory.is_empty() && self.directories.insert(directory.to_owned()) {
            directory = parent(directory);
        }
    }

    /// The unit at a path.
    pub(crate) fn at(&self, path: &str) -> Option<UnitId> {
        self.files.get(path).copied().flatten()
    }

    /// Follows an absolute or relative name that stands in the file `from`. `None` when no module of the project is meant.
    pub(crate) fn locate(&self, from: &str, name: &Name) -> Option<Located> {
        match &name.root {
            Root::Here => None,
            Root::Directory(directory) => self.locate_below(directory, &name.path),
            Root::Absolute => self
                .roots(from)
                .iter()
                .filter(|root| self.has_top(root, &name.path))
                .find_map(|root| self.locate_below(root, &name.path)),
        }
    }

    /// Where imports of a file may start, nearest first.
    ///
    /// A script's siblings are importable; inside a package they are not (except by name of the package),
    /// so that `import logging` in `app/main.py` does not mean `app/logging.py`.
    fn roots(&self, from: &str) -> Vec<String> {
        let mut start = parent(from);
        while self.is_package(start) && !start.is_empty() {
            start = parent(start);
        }
        let mut roots = Vec::new();
        let mut directory = start;
        loop {
            roots.push(directory.to_owned());
            if directory.is_empty() {
                break;
            }
            directory = parent(directory);
        }
        let conventional: Vec<String> = roots
            .iter()
            .flat_map(|root| SOURCE_DIRECTORIES.map(|it| join(root, it)))
            .filter(|it| self.directories.contains(it))
            .collect();
        roots.extend(conventional);
        roots
    }

    fn is_package(&self, directory: &str) -> bool {
        self.files.contains_key(&join(directory, "__init__.py"))
    }

    /// Whether the first part of a dotted name is a module or directory under `root`.
    fn has_top(&self, root: &str, dotted: &str) -> bool {
        let top = join(root, dotted.split('.').next().unwrap_or_default());
        self.files.contains_key(&format!("{top}.py")) || self.directories.contains(&top)
    }

    fn locate_below(&self, root: &str, dotted: &str) -> Option<Located> {
        let mut at = root.to_owned();
        let mut located = Located { runs: Vec::new(), unit: None, rest: dotted.to_owned() };
        let mut found = false;
        // The package that a relative import starts in; a plain root is no package and adds nothing.
        if let Some(unit) = self.files.get(&join(root, "__init__.py")) {
            located.runs.extend(*unit);
            located.unit = *unit;
            found = true;
        }
        let mut rest = dotted;
        while !rest.is_empty() {
            let (part, behind) = rest.split_once('.').unwrap_or((rest, ""));
            let below = join(&at, part);
            let package = join(&below, "__init__.py");
            let module = format!("{below}.py");
            if let Some(unit) = self.files.get(&package).or_else(|| self.files.get(&module)) {
                located.runs.extend(*unit);
                located.unit = *unit;
                located.rest = behind.to_owned();
                found = true;
            } else if !self.directories.contains(&below) {
                break;
            }
            at = below;
            rest = behind;
        }
        found.then_some(located)
    }
}

pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |it| it.0)
}

pub(crate) fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::Modules;
    use crate::value::{Name, Root};

    #[track_caller]
    fn check(files: &[&str], from: &str, name: &Name, expected: Option<&str>) {
        let modules = Modules::new(&[], files.iter().copied());
        let rest = modules.locate(from, name).map(|it| it.rest);
        assert_eq!(rest.as_deref(), expected);
    }

    #[test]
    fn a_script_imports_its_sibling() {
        check(&["a/main.py", "a/util.py"], "a/main.py", &Name::absolute("util.pick"), Some("pick"));
    }

    #[test]
    fn a_package_module_does_not_shadow_the_standard_library() {
        check(
            &["app/__init__.py", "app/logging.py", "app/main.py"],
            "app/main.py",
            &Name::absolute("logging"),
            None,
        );
    }

    #[test]
    fn a_package_is_found_below_src() {
        let files = ["src/app/__init__.py", "src/app/gpu.py", "tests/test_gpu.py"];
        check(&files, "tests/test_gpu.py", &Name::absolute("app.gpu.pick"), Some("pick"));
    }

    #[test]
    fn a_directory_without_python_below_the_name_is_no_module() {
        check(&["torch/notes/x.py", "main.py"], "main.py", &Name::absolute("torch.cuda"), None);
    }

    #[test]
    fn a_relative_import_starts_in_its_package() {
        let name = Name { root: Root::Directory("app".into()), path: "gpu.pick".into() };
        check(
            &["app/__init__.py", "app/gpu.py", "app/main.py"],
            "app/main.py",
            &name,
            Some("pick"),
        );
    }

    #[test]
    fn a_relative_import_of_a_name_leads_to_the_package_itself() {
        let name = Name { root: Root::Directory("app".into()), path: "pick".into() };
        check(&["app/__init__.py", "app/main.py"], "app/main.py", &name, Some("pick"));
    }
}
