//! Which file an import runs.

use rustc_hash::FxHashMap as HashMap;

use crate::{
    unit::{Runs, Unit, UnitId},
    value::{Name, Root},
};

/// The files of a project as a tree of names, in which imports are looked up.
///
/// Files that a prefilter dropped have no unit, yet they decide what is a package, so they are listed too.
#[derive(Debug)]
pub(crate) struct Modules {
    nodes: Vec<Node>,
    /// Where each file stands: its node, by the number it was added with.
    places: Vec<usize>,
    units: Vec<Option<UnitId>>,
    by_path: HashMap<String, FileId>,
}

/// A file, in the order files were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId(pub(crate) u32);

/// A directory or a module: `app` is one node for `app/` and for `app.py`.
#[derive(Debug, Default)]
struct Node {
    name: Box<str>,
    parent: usize,
    below: HashMap<Box<str>, usize>,
    /// `name.py`.
    module: Option<FileId>,
    /// `name/__init__.py`.
    package: Option<FileId>,
    is_directory: bool,
}

/// Where a dotted name leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Located<'n> {
    /// The modules that importing the module part runs, outermost package first.
    pub(crate) runs: Vec<FileId>,
    /// The module itself. `None` for a directory without `__init__.py`.
    pub(crate) file: Option<FileId>,
    /// What follows the module part: a function, class or constant; empty for the module itself.
    pub(crate) rest: &'n str,
}

/// Directories that hold packages by convention, beside those that hold the importing file.
const SOURCE_DIRECTORIES: [&str; 3] = ["src", "lib", "python"];

const ROOT: usize = 0;

impl Modules {
    /// Every file, in any order, with its unit if it was read.
    pub(crate) fn new<'f>(files: impl IntoIterator<Item = (&'f str, Option<UnitId>)>) -> Self {
        let mut modules = Self {
            nodes: vec![Node { is_directory: true, ..Node::default() }],
            places: Vec::new(),
            units: Vec::new(),
            by_path: HashMap::default(),
        };
        for (path, unit) in files {
            modules.add(path, unit);
        }
        modules
    }

    /// The units of a project, then files that were not read: a unit's file has the unit's number.
    pub(crate) fn of_units<'f>(units: &[Unit], others: impl IntoIterator<Item = &'f str>) -> Self {
        let read = (0..).map(UnitId).zip(units).map(|(id, it)| (it.source.path.as_str(), Some(id)));
        let mut modules = Self::new(read);
        for path in others {
            modules.add(path, None);
        }
        modules
    }

    fn add(&mut self, path: &str, unit: Option<UnitId>) {
        if self.by_path.contains_key(path) {
            return;
        }
        let file = FileId(u32::try_from(self.places.len()).unwrap_or(u32::MAX));
        self.by_path.insert(path.to_owned(), file);
        self.units.push(unit);
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut at = ROOT;
        for part in directory.split('/').filter(|it| !it.is_empty()) {
            at = self.child(at, part);
            self.nodes[at].is_directory = true;
        }
        match name.strip_suffix(".py") {
            Some("__init__") => self.nodes[at].package = Some(file),
            Some(stem) => {
                let module = self.child(at, stem);
                self.nodes[module].module = Some(file);
            }
            None => {}
        }
        self.places.push(at);
    }

    fn child(&mut self, at: usize, name: &str) -> usize {
        if let Some(child) = self.nodes[at].below.get(name) {
            return *child;
        }
        let child = self.nodes.len();
        self.nodes.push(Node { name: name.into(), parent: at, ..Node::default() });
        self.nodes[at].below.insert(name.into(), child);
        child
    }

    pub(crate) fn file(&self, path: &str) -> Option<FileId> {
        self.by_path.get(path).copied()
    }

    pub(crate) fn unit(&self, file: FileId) -> Option<UnitId> {
        self.units[file.0 as usize]
    }

    /// The unit at a path.
    pub(crate) fn at(&self, path: &str) -> Option<UnitId> {
        self.unit(self.file(path)?)
    }

    /// The file of a path written in another: relative to that one's directory or one above it.
    ///
    /// An absolute path (in a container, on a server) is tried by its ends: `/app/main.py` is `app/main.py` or `main.py`.
    pub(crate) fn find(&self, from: FileId, path: &str) -> Option<FileId> {
        let path = path.replace('\\', "/");
        let absolute = path.starts_with(['/', '$', '~']) || path.contains(":/");
        let mut candidates = vec![path.as_str()];
        if absolute {
            candidates = path.match_indices('/').map(|(at, _)| &path[at + 1..]).collect();
        }
        let here = self.places[from.0 as usize];
        candidates.into_iter().find_map(|candidate| {
            self.upwards(here).find_map(|at| self.file(&normal(&join(&self.path(at), candidate))))
        })
    }

    /// The path of a directory's node.
    fn path(&self, node: usize) -> String {
        let mut parts: Vec<&str> = self.upwards(node).map(|it| &*self.nodes[it].name).collect();
        parts.reverse();
        parts[1..].join("/")
    }

    /// Follows an absolute or relative name that stands in a file. `None` when no module of the project is meant.
    pub(crate) fn locate<'n>(&self, from: FileId, name: &'n Name) -> Option<Located<'n>> {
        match &name.root {
            Root::Here => None,
            Root::Directory(directory) => self.locate_below(self.directory(directory)?, &name.path),
            Root::Absolute => self.locate_absolute(from, &name.path),
        }
    }

    /// Follows a name of a relative import: `level` dots, then a dotted path.
    pub(crate) fn locate_relative<'n>(
        &self,
        from: FileId,
        level: u32,
        dotted: &'n str,
    ) -> Option<Located<'n>> {
        let mut at = self.places[from.0 as usize];
        for _ in 1..level {
            at = self.nodes[at].parent;
        }
        self.locate_below(at, dotted)
    }

    /// Where an absolute import may start is, nearest first: the directories that hold the file, then `src` and its like in them.
    ///
    /// A script's siblings are importable; inside a package they are not (except by name of the package),
    /// so that `import logging` in `app/main.py` does not mean `app/logging.py`.
    pub(crate) fn locate_absolute<'n>(&self, from: FileId, dotted: &'n str) -> Option<Located<'n>> {
        let top = dotted.split('.').next().unwrap_or_default();
        let mut start = self.places[from.0 as usize];
        while self.nodes[start].package.is_some() && start != ROOT {
            start = self.nodes[start].parent;
        }
        let look = |root: usize| {
            self.nodes[root].below.get(top)?;
            self.locate_below(root, dotted)
        };
        self.upwards(start).find_map(look).or_else(|| {
            self.upwards(start).find_map(|root| {
                let conventional =
                    SOURCE_DIRECTORIES.iter().filter_map(|it| self.nodes[root].below.get(*it));
                conventional.copied().filter(|it| self.nodes[*it].is_directory).find_map(look)
            })
        })
    }

    /// A directory and those above it.
    fn upwards(&self, start: usize) -> impl Iterator<Item = usize> + '_ {
        let mut next = Some(start);
        std::iter::from_fn(move || {
            let at = next?;
            next = (at != ROOT).then(|| self.nodes[at].parent);
            Some(at)
        })
    }

    fn directory(&self, path: &str) -> Option<usize> {
        let mut parts = path.split('/').filter(|it| !it.is_empty());
        parts.try_fold(ROOT, |at, part| self.nodes[at].below.get(part).copied())
    }

    fn locate_below<'n>(&self, root: usize, dotted: &'n str) -> Option<Located<'n>> {
        let mut at = root;
        let mut located = Located { runs: Vec::new(), file: None, rest: dotted };
        let mut found = false;
        // The package that a relative import starts in; a plain root is no package and adds nothing.
        if let Some(package) = self.nodes[root].package {
            located.runs.push(package);
            located.file = Some(package);
            found = true;
        }
        let mut rest = dotted;
        while !rest.is_empty() {
            let (part, behind) = rest.split_once('.').unwrap_or((rest, ""));
            let Some(below) = self.nodes[at].below.get(part).copied() else {
                break;
            };
            let node = &self.nodes[below];
            if let Some(file) = node.package.or(node.module) {
                located.runs.push(file);
                located.file = Some(file);
                located.rest = behind;
                found = true;
            } else if !node.is_directory {
                break;
            }
            at = below;
            rest = behind;
        }
        found.then_some(located)
    }
}

/// The file that a start runs, for starts that name one.
pub(crate) fn started(modules: &Modules, starter: FileId, runs: &Runs) -> Option<FileId> {
    match runs {
        Runs::PythonFile(path) | Runs::Script(path) => modules.find(starter, path),
        Runs::PythonModule(module) => {
            let main = format!("{module}.__main__");
            let named = |path: &str| {
                modules.locate_absolute(starter, path).filter(|it| it.rest.is_empty())?.file
            };
            named(&main).or_else(|| named(module))
        }
        Runs::Gpupin(inner) => started(modules, starter, inner),
        Runs::Pytest(_) | Runs::Other(_) | Runs::Unknown => None,
    }
}

/// A path without `.` and `..`.
pub(crate) fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|it| *it != "..") => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
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

    /// `expected` is the module's file and what follows the module in the name.
    #[track_caller]
    fn check(files: &[&str], from: &str, name: &Name, expected: Option<(&str, &str)>) {
        let modules = Modules::new(files.iter().map(|it| (*it, None)));
        let located = modules.locate(modules.file(from).unwrap(), name);
        let actual = located.map(|it| (files[it.file.unwrap().0 as usize], it.rest));
        assert_eq!(actual, expected);
    }

    #[test]
    fn a_script_imports_its_sibling() {
        let files = ["a/main.py", "a/util.py"];
        check(&files, "a/main.py", &Name::absolute("util.pick"), Some(("a/util.py", "pick")));
    }

    #[test]
    fn a_package_module_does_not_shadow_the_standard_library() {
        let files = ["app/__init__.py", "app/logging.py", "app/main.py"];
        check(&files, "app/main.py", &Name::absolute("logging"), None);
    }

    #[test]
    fn a_package_is_found_below_src() {
        let files = ["src/app/__init__.py", "src/app/gpu.py", "tests/test_gpu.py"];
        let name = Name::absolute("app.gpu.pick");
        check(&files, "tests/test_gpu.py", &name, Some(("src/app/gpu.py", "pick")));
    }

    #[test]
    fn a_directory_without_python_below_the_name_is_no_module() {
        check(&["torch/notes/x.py", "main.py"], "main.py", &Name::absolute("torch.cuda"), None);
    }

    #[test]
    fn a_relative_import_starts_in_its_package() {
        let name = Name { root: Root::Directory("app".into()), path: "gpu.pick".into() };
        let files = ["app/__init__.py", "app/gpu.py", "app/main.py"];
        check(&files, "app/main.py", &name, Some(("app/gpu.py", "pick")));
    }

    #[test]
    fn a_relative_import_of_a_name_leads_to_the_package_itself() {
        let name = Name { root: Root::Directory("app".into()), path: "pick".into() };
        let files = ["app/__init__.py", "app/gpu.py", "app/main.py"];
        check(&files, "app/main.py", &name, Some(("app/__init__.py", "pick")));
    }
}
