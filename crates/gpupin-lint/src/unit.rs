//! One file, read: its events and the order they run in.
//!
//! Every language is read into a [`Unit`]. Rules and the program order know nothing of languages: they
//! see events (what a place does to the GPU choice) and a [`Block`] of steps (when it happens).

use std::collections::BTreeMap;

use crate::{
    catalogue::{Library, Numbering},
    source::Source,
    span::Span,
    value::{Name, Spanned},
};

/// A file of the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId(pub u32);

/// An event of a unit: an index into [`Unit::events`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub u32);

/// A file read into events.
#[derive(Debug)]
pub struct Unit {
    pub source: Source,
    /// In the order they were read, which is close to the order they stand in. When they happen, the steps tell.
    pub events: Vec<Event>,
    /// What runs when the file is started or imported.
    pub body: Block,
    /// Functions and methods by dotted path (`load`, `Engine.load`). A class has `Engine` for what
    /// calling it runs: its `__init__` and `__post_init__`.
    pub functions: BTreeMap<String, Function>,
    /// Module-level names, class attributes (`Config.gpu_id`) and dataclass defaults assigned exactly once.
    pub constants: BTreeMap<String, Spanned>,
    /// Names that imports bind at module level: `cfg` → `app.config`. Also what `from x import *` cannot tell: see `star_imports`.
    pub imported_names: BTreeMap<String, Name>,
    pub star_imports: Vec<Name>,
    /// Base classes by class path, for methods found in a base.
    pub bases: BTreeMap<String, Vec<Name>>,
    pub entry: EntryMarks,
    /// Modules that a test replaces.
    pub mocks: Vec<Mock>,
    /// Arms that are taken when somebody asked for the CPU: `elif device == "cpu":`.
    pub cpu_arms: Vec<Span>,
    /// Console scripts that a project file declares.
    pub console_scripts: Vec<ConsoleScript>,
    pub suppressions: Vec<Suppression>,
    /// Hits of the needles in parts of a broken file that no syntax node covers. Reported as possible, never fixed.
    pub possible: Vec<Span>,
    /// Syntax errors: where and what, for `--verbose`.
    pub syntax_errors: Vec<(Span, String)>,
    /// Whether a file of data could not be parsed, so that findings are missing. Why is the first of the syntax errors.
    pub unread: Option<Unread>,
}

/// How much of a file no reader could make sense of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    Everything,
    /// What stands before the error, or around it, was read.
    Part,
}

/// What makes a file a program, as far as the file itself tells.
#[derive(Debug, Default, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct EntryMarks {
    /// The `if __name__ == "__main__":` line.
    pub main_guard: Option<Span>,
    /// A shebang line with top-level work behind it.
    pub shebang: bool,
    /// Test functions or classes that pytest would collect, by the file's name and content.
    pub tests: bool,
    /// Statements at top level that do more than define and assign.
    pub top_level_work: bool,
    /// A notebook, a shell script, a service: started as it stands.
    pub started_as_is: bool,
}

/// `sys.modules["torch"] = MagicMock()`: whoever imports the module gets something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mock {
    pub module: String,
    /// Done while the file is imported, as opposed to by one of its tests or fixtures.
    pub at_top_level: bool,
}

/// `serve = "app.main:run"` under `[project.scripts]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleScript {
    pub name: String,
    /// The dotted module: `app.main`.
    pub module: String,
    /// The function in it, `run`; dotted for a method.
    pub function: Option<String>,
    pub span: Span,
}

#[derive(Debug)]
pub struct Function {
    pub span: Span,
    pub body: Block,
    /// Collected by pytest, a console script's target, a signal or web handler: called although nothing here calls it.
    pub called_from_outside: bool,
}

/// Steps in the order they run.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Block(pub Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Event(EventId),
    /// Runs a project module if it is one and has not run yet.
    Import(Import),
    /// Runs a function if the project defines it.
    Call(Name, Span),
    /// Exactly one arm runs. An `if` without `else` has an empty last arm.
    Branch(Condition, Vec<Block>),
    /// `try`: the body, which may stop anywhere, then perhaps a handler; `finally` and `else` follow as steps.
    Try {
        body: Block,
        handlers: Vec<Block>,
    },
    /// Zero or more times.
    Loop(Block),
    /// Only when this file is the program: `if __name__ == "__main__":`.
    Main(Block),
    /// Runs with a copy of the environment: what it sets does not reach the steps that follow. A subshell,
    /// a compose service, a pipeline's job or step, a line of a recipe.
    Scope(Block),
    /// Leaves the function, or the program: `return`, `raise`, `sys.exit()`.
    Leave(Leave),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    Return,
    Raise,
    Exit,
}

/// What a branch depends on, as far as it matters.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// First arm: the variable is set. (`if "X" in os.environ`, `if os.getenv("X")`, `[ -n "$X" ]`.) Negations swap the arms.
    VariableSet(String),
    /// First arm: more than `n` GPUs are visible (`torch.cuda.device_count() > n`).
    MoreGpusThan(i64),
    /// First arm: CUDA is available.
    CudaAvailable,
    /// First arm: runs on the platform the text names (`win32`, `linux`).
    Platform(String),
    Unknown,
}

/// An import of something that may be a project module.
#[derive(Debug, Clone, PartialEq)]
pub struct Import {
    pub span: Span,
    /// `app.config` for `import app.config`; for `from app import config` the module is `app` and `names` holds `config`,
    /// which may be a submodule.
    pub module: Name,
    pub names: Vec<String>,
}

/// Something a place does to the GPU choice.
#[derive(Debug, Clone)]
pub struct Event {
    /// The statement's or expression's place: where a finding sits.
    pub span: Span,
    pub does: Does,
    /// The innermost function (key of [`Unit::functions`]) the event stands in.
    pub function: Option<String>,
    /// The service, container, job or target the event belongs to, where the file describes several.
    pub service: Option<String>,
}

#[derive(Debug, Clone)]
pub enum Does {
    SetVariable(SetVariable),
    RemoveVariable(RemoveVariable),
    /// The whole environment is replaced or cleared; only `keeps` remain.
    ReplaceEnvironment {
        keeps: Vec<(String, Spanned)>,
        inherits: bool,
    },
    /// A file of variables is loaded (`load_dotenv(".env")`, `env_file:`, `source .env`). `None`: the default file.
    LoadVariables {
        file: Option<String>,
        overrides: bool,
    },
    ImportLibrary(&'static Library),
    Freeze(Freeze),
    Choose(Choice),
    Spread(Spread),
    Start(Start),
    Check(Check),
    CpuFallback(CpuFallback),
    /// `total += loss` in a loop, without `.item()` or `.detach()`.
    AccumulateGraph {
        target: String,
        value: String,
        /// Where the value stands.
        place: Span,
    },
    ContainerGpus(ContainerGpus),
    /// `import gpupin.auto` or `gpupin.pin()`.
    Gpupin,
}

#[derive(Debug, Clone)]
pub struct SetVariable {
    pub name: String,
    pub name_span: Span,
    pub value: Spanned,
    pub how: SetHow,
    /// Whom the setting reaches.
    pub reach: Reach,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetHow {
    /// `os.environ["X"] = …`, `export X=…`, `ENV X=…`.
    Assign,
    /// Keeps a value that is there: `setdefault`, `${X:=0}`, `load_dotenv` without override.
    IfUnset,
    /// `os.putenv`: the driver sees it, `os.environ` does not.
    Putenv,
    /// For one test or `with` block: `monkeypatch.setenv`, `patch.dict`.
    Temporary,
    /// `setx`, a registry key: later processes only.
    Persistent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// This process and its children.
    Process,
    /// A shell variable that is not exported: nobody else.
    ShellOnly,
    /// Every container, service or job the file describes: `environment:`, `ENV`, `env:`.
    Container,
    /// Somebody who loads the file: `.env`, settings.
    Loader,
}

#[derive(Debug, Clone)]
pub struct RemoveVariable {
    pub name: String,
    pub how: RemoveHow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoveHow {
    /// `del`, `pop`, `unset`, `unsetenv`.
    Remove,
    /// `monkeypatch.delenv`, for one test.
    Temporary,
}

/// A call or import that may make CUDA read its environment.
#[derive(Debug, Clone)]
pub struct Freeze {
    /// What to call it in a message: `torch.cuda.is_available()`.
    pub by: String,
    pub sure: Sureness,
}

/// How well a fact about a library is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sureness {
    /// Read in source or documentation, or general knowledge.
    Sure,
    /// Reported by users, or uncertain. Never more than "may".
    Uncertain,
}

/// A place that says which GPU to use.
#[derive(Debug, Clone)]
pub struct Choice {
    /// How to call it in a message: `torch.cuda.set_device`, `main_gpu`, `"cuda:1"`.
    pub by: String,
    /// The ordinals or indices: the whole argument's value and place. `cuda:1` texts come as `Int(1)` with the place of the text, or of the digits in it.
    pub ordinals: Vec<Spanned>,
    pub numbering: Numbering,
    pub purpose: Purpose,
    /// Inside code that only runs when more than this many GPUs are visible; [`i64::MAX`] where a test replaces CUDA,
    /// so that no number of them is enough.
    pub only_with_more_than: Option<i64>,
    /// Who gets the number refuses any: it takes `cuda`, and not even `cuda:0`.
    pub refuses_number: bool,
}

impl Choice {
    /// A choice that is made wherever the code runs, by something that takes numbers.
    pub(crate) fn new(
        by: String,
        ordinals: Vec<Spanned>,
        numbering: Numbering,
        purpose: Purpose,
    ) -> Self {
        Self { by, ordinals, numbering, purpose, only_with_more_than: None, refuses_number: false }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Work goes there.
    Choose,
    /// Only asks something about it.
    Query,
    /// A setting whose name says GPU; where it goes is not seen.
    Setting,
}

/// Work laid over several GPUs.
#[derive(Debug, Clone)]
pub struct Spread {
    /// `torch.nn.DataParallel`, `device_map="auto"`, `devices=-1`, `tensor_parallel_size=2`.
    pub by: String,
    /// How many GPUs it asks for, where it says.
    pub count: Option<i64>,
    /// In a test that is skipped unless more than this many GPUs are visible. A `device_count() > 1` elsewhere is how
    /// work spreads over all there are, so that it does not count.
    pub tested_with_more_than: Option<i64>,
}

impl Spread {
    pub(crate) fn new(by: String, count: Option<i64>) -> Self {
        Self { by, count, tested_with_more_than: None }
    }
}

/// A child process.
#[derive(Debug, Clone)]
pub struct Start {
    pub runs: Runs,
    /// The words of the command as far as they are known.
    pub words: Vec<Spanned>,
    pub environment: ChildEnvironment,
    /// The container or service it runs in, by name, where the file describes one.
    pub service: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Runs {
    /// `python path`: as written, relative to the directory it is most likely started in.
    PythonFile(String),
    /// `python -m module`.
    PythonModule(String),
    /// `pytest paths`.
    Pytest(Vec<String>),
    /// `bash path`, `./run.sh`.
    Script(String),
    /// `gpupin run -- …`: pinned from outside.
    Gpupin(Box<Self>),
    /// Another program, by its name.
    Other(String),
    Unknown,
}

#[derive(Debug, Clone)]
pub enum ChildEnvironment {
    /// The parent's, with these set on top.
    Inherited(Vec<(String, Spanned)>),
    /// These and nothing else of the parent's.
    Only(Vec<(String, Spanned)>),
    /// The parent's without these, with others set on top.
    Without {
        removed: Vec<String>,
        set: Vec<(String, Spanned)>,
    },
    Unknown,
}

/// A test that a program makes of its GPU.
#[derive(Debug, Clone)]
pub struct Check {
    pub asks: Vec<Asks>,
    pub outcome: Outcome,
}

/// What a check compares.
#[derive(Debug, Clone)]
pub enum Asks {
    /// `is_available()`.
    Available,
    /// `device_count()`, perhaps compared with something that is no number in the text: that passes with any.
    Count { with_number: bool },
    /// The name of an ordinal, compared with texts; `ordinal` is `None` for the current device.
    Name { ordinal: Option<i64>, texts: Vec<String>, exact: bool },
    /// UUID or PCI bus id.
    Identity,
    /// `get_device_capability() >= (8, 6)`; major and minor where known.
    Capability { at_least: Option<(u8, u8)> },
    /// Total memory at least so many bytes, where known.
    Memory { at_least: Option<u64> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Raises, exits, asserts, or skips all GPU work.
    Fails,
    /// Prints, logs, or only chooses another way.
    Tells,
}

/// Work that goes to the CPU in silence when there is no GPU.
#[derive(Debug, Clone)]
pub struct CpuFallback {
    /// The expression's kind, for the message: `conditional expression`, `if/else`, `except`, `provider list`,
    /// or [`Self::ONLY_IF_THERE`].
    pub kind: &'static str,
    /// What would be left without the CPU, where that is one part of it: the whole, and the part.
    pub gpu_part: Option<(Span, Span)>,
}

impl CpuFallback {
    /// `if torch.cuda.is_available(): model.cuda()`, and no `else`.
    pub(crate) const ONLY_IF_THERE: &str = "if without else";
}

/// What GPUs a container asks for.
#[derive(Debug, Clone)]
pub struct ContainerGpus {
    /// Service, container or job name.
    pub service: String,
    pub request: GpuRequest,
    /// The container only runs `nvidia-smi` or the like.
    pub only_inspects: bool,
    /// The Dockerfile that its image is built from, as the file says it.
    pub built_from: Option<String>,
}

impl ContainerGpus {
    /// What messages call it.
    pub(crate) fn shown(&self) -> String {
        match self.service.as_str() {
            "" => "this container".to_owned(),
            service => format!("`{service}`"),
        }
    }
}

#[derive(Debug, Clone)]
pub enum GpuRequest {
    All,
    Count(i64),
    /// `device_ids: ["1"]`, `--gpus device=1`, `NVIDIA_VISIBLE_DEVICES=1`, CDI names: indices or UUIDs, in NVML order.
    Ids(Vec<Spanned>),
    /// `runtime: nvidia` and nothing else.
    RuntimeOnly,
    /// An amount that a scheduler fills: `nvidia.com/gpu: 1`.
    Amount(i64),
}

/// `# gpupin: ignore[GP201] reason`.
#[derive(Debug, Clone)]
pub struct Suppression {
    /// The comment.
    pub span: Span,
    /// The lines it covers: its own line, or the next code line when it stands alone; inside a multi-line string or statement, that statement.
    pub covers: Span,
    pub codes: Vec<(String, Span)>,
    pub reason: String,
    /// Stands in a text, which may be a script or not.
    pub in_text: bool,
}
