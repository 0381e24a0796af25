//! Imports.

use super::{
    Reader,
    scope::{Binding, Bound},
    syntax::{Expr, ast, range_of},
};
use crate::{
    catalogue::{self, Library},
    unit::{Does, Import, Step},
    value::{Name, Root, Spanned, Value},
};

impl<'a> Reader<'a, '_> {
    pub(super) fn import(&mut self, it: &'a ast::StmtImport, steps: &mut Vec<Step>) {
        for alias in &it.names {
            let module = alias.name.as_str();
            if is_standard(module) {
                continue;
            }
            self.library(module, range_of(it), steps);
            let import = Import {
                span: self.span(range_of(it)),
                module: Name::absolute(module),
                names: Vec::new(),
            };
            steps.push(Step::Import(import));
        }
    }

    pub(super) fn import_from(&mut self, it: &'a ast::StmtImportFrom, steps: &mut Vec<Step>) {
        let module = it.module.as_ref().map_or("", |it| it.as_str());
        if it.level == 0 {
            if is_standard(module) {
                return;
            }
            self.libraries(module, it, steps);
        }
        let import = Import {
            span: self.span(range_of(it)),
            module: self.scopes.module_name(it.level, module),
            names: it.names.iter().map(|it| it.name.to_string()).collect(),
        };
        steps.push(Step::Import(import));
    }

    /// `from xformers import ops` imports the submodule too.
    fn libraries(&mut self, module: &str, it: &'a ast::StmtImportFrom, steps: &mut Vec<Step>) {
        let found = catalogue::library_of(module);
        let mut libraries: Vec<&'static Library> = found.into_iter().collect();
        for alias in &it.names {
            let submodule = format!("{module}.{}", alias.name);
            if submodule == "gpupin.auto" {
                self.emit(steps, range_of(it), Does::Gpupin);
            }
            if let Some(library) = catalogue::library_of(&submodule)
                && libraries.iter().all(|it| it.module != library.module)
            {
                libraries.push(library);
            }
        }
        for library in libraries {
            self.emit_library(library, range_of(it), steps);
        }
        if module == "gpupin.auto" {
            self.emit(steps, range_of(it), Does::Gpupin);
        }
    }

    fn library(&mut self, module: &str, range: std::ops::Range<usize>, steps: &mut Vec<Step>) {
        if module == "gpupin.auto" {
            self.emit(steps, range, Does::Gpupin);
        } else if let Some(library) = catalogue::library_of(module) {
            self.emit_library(library, range, steps);
        }
    }

    /// Nothing for a library that could use a GPU and is not asked to.
    fn emit_library(
        &mut self,
        library: &'static Library,
        range: std::ops::Range<usize>,
        steps: &mut Vec<Step>,
    ) {
        if !library.computes || library.may_compute_in(self.text.as_bytes()) {
            self.emit(steps, range, Does::ImportLibrary(library));
        }
    }

    /// What other modules can ask of this one: names bound by imports, constants, bases.
    pub(super) fn constants(&mut self) {
        let public: Vec<_> =
            self.scopes.public().map(|(scope, name, it)| (scope, name, it.clone())).collect();
        for (scope, name, binding) in public {
            let class = &self.scopes.get(scope).path;
            if !class.is_empty() {
                let path = format!("{class}.{name}");
                self.constant(path, &binding);
            } else if let Bound::Import(target) | Bound::Foreign(target) = &binding.bound {
                self.out.imported_name(name.to_owned(), target.clone());
            } else {
                self.constant(name.to_owned(), &binding);
            }
        }
        let stars = std::mem::take(&mut self.scopes.star_imports);
        self.out.unit().star_imports.extend(stars);
        let classes: Vec<_> = self.scopes.classes().collect();
        for class in classes {
            if let Some(bases) = self.bases.remove(&class) {
                let path = self.scopes.get(class).path.clone();
                self.out.unit().bases.insert(path, bases);
            }
        }
    }

    fn constant(&mut self, path: String, binding: &Binding<'a>) {
        let Bound::Value(value) = binding.bound else { return };
        if !binding.is_sole() {
            return;
        }
        let expression = value;
        let value = self.value_in(expression, binding.scope, 0);
        match &value.value {
            Value::Unknown => return self.instance(&path, expression, binding),
            Value::None => return,
            Value::Str(text) if text.len() > LONGEST_TEXT => return,
            Value::Name(name) if name.root == Root::Here && name.path == path => {
                return;
            }
            // Entries that are assigned later are not what the display says.
            Value::Dict(_) | Value::List(_) if self.changed.contains(&path) => {
                return;
            }
            _ => {}
        }
        self.out.constant(path, value);
    }
}

impl<'a> Reader<'a, '_> {
    /// `settings = Settings(gpu_id=1)`: what it is made of, and what the call says.
    fn instance(&mut self, path: &str, value: &'a Expr, binding: &Binding<'a>) {
        let Expr::Call(call) = value else { return };
        let Some(class) = self.resolve_in(value, binding.scope, 0) else { return };
        let foreign =
            class.name.root == Root::Absolute && super::call::is_foreign(&class.name.path);
        if !class.is_object || foreign {
            return;
        }
        for keyword in &call.arguments.keywords {
            let Some(name) = &keyword.arg else { continue };
            let value = self.value_in(&keyword.value, binding.scope, 0);
            if value.value != Value::Unknown {
                self.out.constant(format!("{path}.{name}"), value);
            }
        }
        let class = Spanned::new(Value::Name(class.name), self.span(range_of(value)));
        self.out.constant(path.to_owned(), class);
    }
}

/// Longer texts are messages, templates and data, and no setting that another module uses to choose a GPU.
const LONGEST_TEXT: usize = 256;

/// Modules of the standard library that no project hides behind one of its own.
pub(super) fn is_standard(module: &str) -> bool {
    const STANDARD: &[&str] = &[
        "__future__",
        "abc",
        "argparse",
        "array",
        "ast",
        "asyncio",
        "atexit",
        "base64",
        "bisect",
        "builtins",
        "collections",
        "concurrent",
        "configparser",
        "contextlib",
        "contextvars",
        "copy",
        "csv",
        "ctypes",
        "dataclasses",
        "datetime",
        "decimal",
        "difflib",
        "enum",
        "errno",
        "fnmatch",
        "functools",
        "gc",
        "getpass",
        "glob",
        "gzip",
        "hashlib",
        "heapq",
        "html",
        "http",
        "importlib",
        "inspect",
        "io",
        "itertools",
        "json",
        "logging",
        "math",
        "mimetypes",
        "multiprocessing",
        "numbers",
        "operator",
        "os",
        "pathlib",
        "pickle",
        "pprint",
        "queue",
        "random",
        "re",
        "sched",
        "shlex",
        "shutil",
        "signal",
        "socket",
        "sqlite3",
        "ssl",
        "statistics",
        "string",
        "struct",
        "subprocess",
        "sys",
        "tempfile",
        "textwrap",
        "threading",
        "time",
        "timeit",
        "traceback",
        "types",
        "typing",
        "unittest",
        "urllib",
        "uuid",
        "warnings",
        "wave",
        "weakref",
        "xml",
        "zipfile",
        "zlib",
    ];
    let root = module.split('.').next().unwrap_or(module);
    STANDARD.binary_search(&root).is_ok()
}

#[cfg(test)]
mod tests {
    use super::is_standard;

    #[test]
    fn the_standard_library_is_told_from_projects() {
        assert!(is_standard("os.path") && is_standard("asyncio") && is_standard("zlib"));
        assert!(!is_standard("app") && !is_standard("config") && !is_standard("torch"));
    }
}
