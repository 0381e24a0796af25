//! Which files to read, round by round.

use std::{
    collections::{BTreeSet, VecDeque},
    path::Path,
};

use gpupin_policy::Policy;

use crate::{
    program::pins::is_frozen_by_cuda,
    project::{
        FileId, Modules, imported_files,
        modules::{join, parent, started},
    },
    source::Language,
    survey::Survey,
    unit::{Block, Does, EventId, Import, Step, Unit},
    value::{Name, Root, Spanned, Value},
    workers::{self, Workers},
};

/// How often what was read may ask for more. Chains of imports that only reading reveals are short.
const ROUNDS: u32 = 24;

/// How many names are followed from one to the next, as [`crate::project::Project`] does.
const NAMES: u32 = 8;

/// The files of a scan, and which of them have been asked for.
#[derive(Debug)]
pub struct Reading {
    files: Vec<File>,
    modules: Modules,
    /// Variables of the policy's `[env]`.
    variables: BTreeSet<String>,
    /// Names whose meaning is looked for: where they stand, and how far they were followed.
    names: Vec<(FileId, Name, u32)>,
    /// How many units have been looked at.
    seen: usize,
    rounds: u32,
}

#[derive(Debug)]
struct File {
    path: String,
    survey: Survey,
    imports: Imported,
    asked: bool,
    /// Its place among the units, once it was read.
    unit: Option<usize>,
    /// It changes what CUDA will read.
    pins: bool,
    /// It loads a file of variables.
    loads: bool,
}

/// What the interpreter would come to next.
enum Next {
    File(FileId),
    GpuLibrary,
}

/// What a file imports: by the survey, and by its steps once it was read.
#[derive(Debug, Default)]
struct Imported {
    /// Files that run when it runs.
    files: Vec<FileId>,
    /// Files that its functions import, each with the outermost function or class.
    lazy: Vec<(String, FileId)>,
    /// Of programs only: what it imports of each file; an empty name is the whole module.
    names: Vec<(FileId, String)>,
    /// A GPU library is imported when it runs.
    uses_gpu: bool,
    /// How many of `files` are imported before that.
    before_gpu: usize,
    /// Outermost functions and classes in which a GPU library is imported.
    may_use_gpu: Vec<String>,
}

impl Imported {
    /// Files that it imports anywhere.
    fn all(&self) -> impl Iterator<Item = FileId> {
        self.files.iter().copied().chain(self.lazy.iter().map(|it| it.1))
    }

    fn add(&mut self, owner: Option<&str>, file: FileId) {
        match owner {
            None if !self.files.contains(&file) => self.files.push(file),
            Some(owner) if !self.lazy.iter().any(|it| it.1 == file && it.0 == owner) => {
                self.lazy.push((owner.to_owned(), file));
            }
            _ => {}
        }
    }

    /// Adds what an import of the file `id` runs.
    fn add_import(&mut self, modules: &Modules, id: FileId, import: &Import, owner: Option<&str>) {
        for file in imported_files(modules, id, import).into_iter().filter(|it| *it != id) {
            self.add(owner, file);
        }
        let Some(file) = modules.locate(id, &import.module).and_then(|it| it.file) else { return };
        if import.names.is_empty() {
            self.names.push((file, String::new()));
        }
        self.names.extend(import.names.iter().map(|it| (file, it.clone())));
    }

    fn add_gpu_library(&mut self, owner: Option<&str>) {
        match owner {
            None if !self.uses_gpu => {
                self.uses_gpu = true;
                self.before_gpu = self.files.len();
            }
            None => {}
            Some(owner) => self.may_use_gpu.push(owner.to_owned()),
        }
    }
}

impl File {
    fn is_module(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|it| it == "py")
    }
}

impl Reading {
    /// All files of the scan with their surveys. Those with a needle are read anyway.
    pub fn new(files: Vec<(String, Survey)>, policy: &Policy, workers: &dyn Workers) -> Self {
        let modules = Modules::new(files.iter().map(|it| (it.0.as_str(), None)));
        let files = workers::map(workers, (0..).map(FileId).zip(files), |(id, (path, survey))| {
            let imports = surveyed(&modules, id, &survey);
            let asked = survey.interesting;
            File { path, survey, imports, asked, unit: None, pins: false, loads: false }
        });
        let variables = policy.env.keys().cloned().collect();
        Self { files, modules, variables, names: Vec::new(), seen: 0, rounds: 0 }
    }

    /// Python files that nobody asked for; see [`crate::Options::other_files`].
    pub fn unread(&self) -> impl Iterator<Item = &str> {
        self.files.iter().filter(|it| !it.asked && it.is_module()).map(|it| it.path.as_str())
    }

    /// How many Python files import a GPU library when they run.
    pub fn gpu_files(&self) -> usize {
        self.files.iter().filter(|it| it.is_module() && it.imports.uses_gpu).count()
    }

    /// The files to read now, as positions in what was given to [`Reading::new`]. Empty when nothing more matters.
    ///
    /// `units` are all units read so far, in the order they were read.
    pub fn next(&mut self, units: &[Unit], workers: &dyn Workers) -> Vec<usize> {
        let new = units.iter().enumerate().skip(self.seen);
        let known = workers::map(workers, new, |(at, unit)| {
            let id = self.modules.file(&unit.source.path)?;
            let is_python = matches!(unit.source.language, Language::Python | Language::Notebook);
            Some((id, at, unit, is_python.then(|| read(&self.modules, id, unit))))
        });
        for (id, at, unit, imports) in known.into_iter().flatten() {
            self.learn(id, at, unit, imports);
        }
        let new = &units[std::mem::replace(&mut self.seen, units.len())..];
        self.rounds += 1;
        if self.rounds > ROUNDS {
            return Vec::new();
        }

        let mut wanted: BTreeSet<FileId> = BTreeSet::new();
        let matters = self.reaching(true, |it| it.survey.interesting || it.imports.uses_gpu);
        let uses = self.reaching(false, |it| it.imports.uses_gpu);
        for (id, file) in self.ids() {
            if file.survey.program && self.uses_gpu(file, &uses) {
                wanted.insert(id);
                if file.unit.is_some() {
                    self.way_to_gpu(id, &uses, &mut wanted);
                }
            }
        }
        self.programs_with_pins(&matters, &mut wanted);
        self.checks(&mut wanted);
        self.definitions(units, &mut wanted);
        self.conftests(new, &mut wanted);

        let mut asked = Vec::new();
        for id in wanted {
            let file = &mut self.files[id.0 as usize];
            if !file.asked {
                file.asked = true;
                asked.push(id.0 as usize);
            }
        }
        asked
    }

    /// Whether rules follow what becomes of a variable.
    fn is_followed(&self, variable: &str) -> bool {
        is_frozen_by_cuda(variable) || self.variables.contains(variable)
    }

    fn ids(&self) -> impl Iterator<Item = (FileId, &File)> {
        (0..).map(FileId).zip(&self.files)
    }

    /// Replaces what the survey guessed by what the unit says.
    fn learn(&mut self, id: FileId, at: usize, unit: &Unit, imports: Option<Imported>) {
        let mut started_files = Vec::new();
        let mut names = Vec::new();
        let (mut pins, mut loads) = (false, false);
        for event in &unit.events {
            match &event.does {
                Does::RemoveVariable(it) => pins |= self.is_followed(&it.name),
                Does::ReplaceEnvironment { .. } | Does::Gpupin => pins = true,
                Does::LoadVariables { .. } => loads = true,
                Does::SetVariable(it) => {
                    pins |= self.is_followed(&it.name);
                    names_in(&it.value.value, &mut names);
                }
                Does::Choose(it) => {
                    for ordinal in &it.ordinals {
                        names_in(&ordinal.value, &mut names);
                    }
                }
                Does::Start(it) => {
                    started_files.extend(started(&self.modules, id, &it.runs));
                    for (name, value) in it.environment.variables() {
                        pins |= self.is_followed(name);
                        names_in(&value.value, &mut names);
                    }
                }
                _ => {}
            }
        }
        for script in &unit.console_scripts {
            started_files
                .extend(self.modules.locate_absolute(id, &script.module).and_then(|it| it.file));
        }
        for started in started_files {
            self.files[started.0 as usize].survey.program = true;
        }
        self.names.extend(names.into_iter().map(|it| (id, it, NAMES)));
        let file = &mut self.files[id.0 as usize];
        file.unit = Some(at);
        file.pins = pins;
        file.loads = loads;
        file.survey.program |=
            unit.entry.main_guard.is_some() || unit.entry.tests || unit.entry.started_as_is;
        if let Some(imports) = imports {
            file.imports = imports;
        }
    }

    /// Which files run one for which `matters` holds, when they run; those themselves too. `lazily` follows what functions import as well.
    fn reaching(&self, lazily: bool, matters: impl Fn(&File) -> bool) -> Vec<bool> {
        let mut importers: Vec<Vec<FileId>> = vec![Vec::new(); self.files.len()];
        for (id, file) in self.ids() {
            let lazy = file.imports.lazy.iter().map(|it| it.1).filter(|_| lazily);
            for edge in file.imports.files.iter().copied().chain(lazy) {
                importers[edge.0 as usize].push(id);
            }
        }
        let mut reaching: Vec<bool> = self.files.iter().map(matters).collect();
        let mut queue: VecDeque<FileId> =
            self.ids().map(|it| it.0).filter(|it| reaching[it.0 as usize]).collect();
        while let Some(id) = queue.pop_front() {
            for importer in &importers[id.0 as usize] {
                if !std::mem::replace(&mut reaching[importer.0 as usize], true) {
                    queue.push_back(*importer);
                }
            }
        }
        reaching
    }

    /// Whether a program uses a GPU, as [`crate::program`] defines it, as far as is known now.
    fn uses_gpu(&self, program: &File, uses: &[bool]) -> bool {
        let runs = |it: FileId| uses[it.0 as usize];
        let imports = &program.imports;
        imports.uses_gpu
            || !imports.may_use_gpu.is_empty()
            || imports.all().any(runs)
            || imports.names.iter().any(|it| self.called_use(it, uses))
    }

    /// Whether calling a name of a module imports a GPU library.
    fn called_use(&self, (module, name): &(FileId, String), uses: &[bool]) -> bool {
        let imports = &self.files[module.0 as usize].imports;
        let means = |owner: &String| name.is_empty() || owner == name;
        imports.may_use_gpu.iter().any(means)
            || imports.lazy.iter().any(|(owner, file)| means(owner) && uses[file.0 as usize])
    }

    /// The modules on a program's way to its first GPU library.
    fn way_to_gpu(&self, program: FileId, uses: &[bool], wanted: &mut BTreeSet<FileId>) {
        let mut seen = BTreeSet::new();
        if self.way(program, uses, &mut seen, wanted) {
            return;
        }
        // Nothing that runs with the program imports one: its functions do, or those it calls in modules it imports.
        let imports = &self.files[program.0 as usize].imports;
        for (_, from) in &imports.lazy {
            if self.way(*from, uses, &mut seen, wanted) {
                return;
            }
        }
        for called in imports.names.iter().filter(|it| self.called_use(it, uses)) {
            wanted.insert(called.0);
            for (_, from) in &self.files[called.0.0 as usize].imports.lazy {
                if uses[from.0 as usize] {
                    self.way(*from, uses, &mut seen, wanted);
                }
            }
        }
    }

    /// Modules in which a program that uses a GPU may check which one it got.
    fn checks(&self, wanted: &mut BTreeSet<FileId>) {
        let uses = self.reaching(false, |it| it.imports.uses_gpu);
        for (_, file) in self.ids() {
            if file.survey.program && file.unit.is_some() && self.uses_gpu(file, &uses) {
                wanted.extend(
                    file.imports.all().filter(|it| self.files[it.0 as usize].survey.checks),
                );
            }
        }
    }

    /// What stands above test files and runs before them: what it mocks is no use of a GPU.
    fn conftests(&self, new: &[Unit], wanted: &mut BTreeSet<FileId>) {
        for unit in new.iter().filter(|it| it.entry.tests) {
            let mut directory = unit.source.path.as_str();
            while !directory.is_empty() {
                directory = parent(directory);
                wanted.extend(self.modules.file(&join(directory, "conftest.py")));
            }
        }
    }

    /// Follows imports the way the interpreter would, to the first GPU library. Whether there is one.
    fn way(
        &self,
        from: FileId,
        uses: &[bool],
        seen: &mut BTreeSet<FileId>,
        wanted: &mut BTreeSet<FileId>,
    ) -> bool {
        let mut stack = vec![Next::File(from)];
        while let Some(next) = stack.pop() {
            let Next::File(id) = next else { return true };
            if !uses[id.0 as usize] || !seen.insert(id) {
                continue;
            }
            wanted.insert(id);
            let imports = &self.files[id.0 as usize].imports;
            let (before, after) = imports.files.split_at(imports.before_gpu);
            stack.extend(after.iter().rev().map(|it| Next::File(*it)));
            if imports.uses_gpu {
                stack.push(Next::GpuLibrary);
            }
            stack.extend(before.iter().rev().map(|it| Next::File(*it)));
        }
        false
    }

    /// Everything that can matter in programs in which a pin is set or removed, and around pins that no program reaches.
    fn programs_with_pins(&self, matters: &[bool], wanted: &mut BTreeSet<FileId>) {
        let dotenv = self.files.iter().any(|it| it.pins && !it.is_module());
        let pins = |it: &File| it.pins || (it.loads && dotenv);
        let leads_to_pin = self.reaching(true, pins);
        let starts = |(id, file): &(FileId, &File)| {
            pins(file) || (file.survey.program && leads_to_pin[id.0 as usize])
        };
        let mut queue: VecDeque<FileId> = self.ids().filter(starts).map(|it| it.0).collect();
        let mut seen = vec![false; self.files.len()];
        while let Some(id) = queue.pop_front() {
            if !matters[id.0 as usize] || std::mem::replace(&mut seen[id.0 as usize], true) {
                continue;
            }
            wanted.insert(id);
            queue.extend(self.files[id.0 as usize].imports.all());
        }
    }

    /// Modules that define what a value's name means.
    fn definitions(&mut self, units: &[Unit], wanted: &mut BTreeSet<FileId>) {
        let mut waiting = Vec::new();
        while let Some((at, name, depth)) = self.names.pop() {
            if depth == 0 {
                continue;
            }
            if name.root != Root::Here {
                let Some(located) = self.modules.locate(at, &name) else { continue };
                let Some(file) = located.file else { continue };
                if self.files[file.0 as usize].unit.is_some() {
                    let inside = Name::here(located.rest);
                    self.names.push((file, inside, depth - 1));
                } else {
                    wanted.insert(file);
                    waiting.push((at, name, depth));
                }
                continue;
            }
            let Some(unit) = self.files[at.0 as usize].unit.map(|it| &units[it]) else { continue };
            for name in meanings(unit, &name.path) {
                self.names.push((at, name, depth - 1));
            }
        }
        // A file that cannot be read leaves its names waiting for ever; they ask for nothing twice.
        self.names = waiting;
    }
}

/// What a name of a module may stand for elsewhere.
fn meanings(unit: &Unit, path: &str) -> Vec<Name> {
    let mut found = Vec::new();
    let ends = path.match_indices('.').map(|it| it.0).chain([path.len()]);
    for end in ends {
        let (head, tail) = (&path[..end], path[end..].trim_start_matches('.'));
        let behind = |name: &Name| {
            let path =
                if tail.is_empty() { name.path.clone() } else { format!("{}.{tail}", name.path) };
            Name { root: name.root.clone(), path }
        };
        found.extend(unit.imported_names.get(head).map(behind));
        found.extend(unit.bases.get(head).into_iter().flatten().map(behind));
        if let Some(constant) = unit.constants.get(head) {
            match &constant.value {
                Value::Name(name) => found.push(behind(name)),
                value => names_in(value, &mut found),
            }
        }
    }
    for module in &unit.star_imports {
        let path = if module.path.is_empty() {
            path.to_owned()
        } else {
            format!("{}.{path}", module.path)
        };
        found.push(Name { root: module.root.clone(), path });
    }
    found.retain(|it| it.root != Root::Here || it.path != path);
    found
}

fn names_in(value: &Value, names: &mut Vec<Name>) {
    let each = |items: &[Spanned], names: &mut Vec<Name>| {
        for item in items {
            names_in(&item.value, names);
        }
    };
    match value {
        Value::Name(name) => names.push(name.clone()),
        Value::Text(parts) => parts.iter().for_each(|it| names_in(it, names)),
        Value::List(items) | Value::OneOf(items) => each(items, names),
        Value::ByDefault(inner) => names_in(&inner.value, names),
        Value::Dict(entries) => entries.iter().for_each(|it| names_in(&it.1.value, names)),
        _ => {}
    }
}

fn surveyed(modules: &Modules, id: FileId, survey: &Survey) -> Imported {
    let mut imports = Imported::default();
    for it in survey.imports.iter() {
        let located = if it.level == 0 {
            modules.locate_absolute(id, it.path)
        } else {
            modules.locate_relative(id, it.level, it.path)
        };
        let Some(located) = located else {
            if it.is_gpu_library {
                imports.add_gpu_library(it.owner);
            }
            continue;
        };
        for file in located.runs.into_iter().filter(|it| *it != id) {
            imports.add(it.owner, file);
        }
        if survey.program
            && let Some(file) = located.file
        {
            let name = located.rest.split('.').next().unwrap_or_default();
            imports.names.push((file, name.to_owned()));
        }
    }
    imports
}

fn read(modules: &Modules, id: FileId, unit: &Unit) -> Imported {
    let mut imports = Imported::default();
    let mut of_body = Steps::default();
    of_body.add(&unit.body, false);
    let libraries = unit.events.iter().zip((0..).map(EventId)).filter_map(|(event, at)| {
        let Does::ImportLibrary(library) = event.does else { return None };
        let is_gpu_library =
            library.computes && modules.locate_absolute(id, library.module).is_none();
        // Whoever imports the module does not run its main block.
        let in_main = of_body.events_in_main.contains(&at).then_some(MAIN);
        let owner = event.function.as_deref().map(outermost).or(in_main);
        is_gpu_library.then_some((event.span.start, owner))
    });
    let (at_top_level, owned): (Vec<_>, Vec<_>) = libraries.partition(|it| it.1.is_none());
    let mut first_library = at_top_level.iter().map(|it| it.0).min();
    for (_, owner) in owned {
        imports.add_gpu_library(owner);
    }

    for import in of_body.imports {
        if first_library.is_some_and(|it| it < import.span.start) {
            first_library = None;
            imports.add_gpu_library(None);
        }
        imports.add_import(modules, id, import, None);
    }
    if first_library.is_some() {
        imports.add_gpu_library(None);
    }
    for import in of_body.imports_in_main {
        imports.add_import(modules, id, import, Some(MAIN));
    }
    let mut functions: Vec<_> = unit.functions.iter().collect();
    functions.sort_by_key(|it| it.1.span);
    for (path, function) in functions {
        let mut of_function = Steps::default();
        of_function.add(&function.body, false);
        for import in of_function.imports {
            imports.add_import(modules, id, import, Some(outermost(path)));
        }
    }
    imports
}

/// The owner of what stands behind `if __name__ == "__main__":`. No function has this name.
const MAIN: &str = "if __name__";

/// `Engine` of `Engine.load`.
fn outermost(path: &str) -> &str {
    path.split('.').next().unwrap_or(path)
}

/// What a block imports.
#[derive(Default)]
struct Steps<'b> {
    imports: Vec<&'b Import>,
    imports_in_main: Vec<&'b Import>,
    events_in_main: BTreeSet<EventId>,
}

impl<'b> Steps<'b> {
    fn add(&mut self, block: &'b Block, in_main: bool) {
        for step in &block.0 {
            match step {
                Step::Import(import) if in_main => self.imports_in_main.push(import),
                Step::Import(import) => self.imports.push(import),
                Step::Event(event) if in_main => {
                    self.events_in_main.insert(*event);
                }
                Step::Branch(_, arms) => arms.iter().for_each(|it| self.add(it, in_main)),
                Step::Try { body, handlers } => {
                    self.add(body, in_main);
                    for handler in handlers {
                        self.add(handler, in_main);
                    }
                }
                Step::Main(body) => self.add(body, true),
                Step::Loop(body) | Step::Scope(body) => self.add(body, in_main),
                Step::Event(_) | Step::Call(..) | Step::Leave(_) => {}
            }
        }
    }
}
