//! What is known of a value before the program runs.

use crate::span::Span;

/// An expression as far as it can be known from the text.
///
/// Readers evaluate what one file tells (literals, names assigned once, f-strings, concatenation,
/// `str()`/`int()`, defaults). What other files tell stays a [`Value::Name`] and is looked up by
/// [`crate::project::Project::known`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    /// A list, tuple or set.
    List(Vec<Spanned>),
    Dict(Vec<(Spanned, Spanned)>),
    /// Text put together: f-string, `+`, `str(x)`, `"%d" % x`, `",".join(…)`.
    Text(Vec<Self>),
    /// A name that another module, or this one, may define.
    Name(Name),
    /// The value unless the user says otherwise: argparse default, `os.getenv("ID", "0")`, `${ID:-0}`, a parameter's default.
    ByDefault(Box<Spanned>),
    /// The value of an environment variable, without a default.
    Variable(String),
    /// One of several, by a condition.
    OneOf(Vec<Spanned>),
    /// An index in NVML order (`nvidia-smi`, NVML, `GPUtil`), whatever its number.
    NvmlIndex,
    Unknown,
}

/// A value and the place of the expression that gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanned {
    pub value: Value,
    pub span: Span,
}

impl Spanned {
    pub fn new(value: Value, span: Span) -> Self {
        Self { value, span }
    }
}

/// A dotted name, as far as imports and aliases of one file resolve it.
///
/// `np.zeros` after `import numpy as np` is `Absolute` `numpy.zeros`. A function, class or constant of
/// the same file is `Here` with its dotted path (`Config.gpu_id`, `load`, `Engine.load` for `self.load`
/// inside `Engine` and for `engine.load` after `engine = Engine()`). A relative import is `Directory`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub root: Root,
    pub path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    /// The module the name stands in.
    Here,
    /// A module by its absolute name.
    Absolute,
    /// A module by its place: the directory (relative to the working directory, `/`-separated, no trailing slash) the dotted path starts in.
    Directory(String),
}

impl Name {
    pub fn here(path: impl Into<String>) -> Self {
        Self { root: Root::Here, path: path.into() }
    }

    pub fn absolute(path: impl Into<String>) -> Self {
        Self { root: Root::Absolute, path: path.into() }
    }

    /// The name of a library's function or class, such as `torch.cuda.set_device`.
    pub fn library_path(&self) -> Option<&str> {
        (self.root == Root::Absolute).then_some(self.path.as_str())
    }
}
