//! What is known of libraries: a declared table that a reader can extend by a line.
//!
//! - [`libraries`] says what an import does: `library("bitsandbytes").freezes(Sure)`.
//! - The files below `catalogue/`, one per family of libraries, say what a call, an index or an assignment does:
//!   `choose("torch.cuda.set_device").device(0, "device").freezes(Sure)`.
//!
//! A path is the dotted name as imported. `*.cuda` is a method of any object, `lightning.**.Trainer` a name at any
//! depth of a library (re-exports). A line says which arguments say which GPU, by position and keyword, in which
//! numbering; whether the call makes CUDA read its environment; whether it spreads work; and what it answers.
//! To add an API, add its line to the file of its library; nothing else changes.
//!
//! Facts come from each library's documentation or source, or from hardware (`docs/hardware.md` lists what was asked there). What is
//! only reported by users, or was seen in one version, is [`Sureness::Uncertain`].
//! A limit: `PYTORCH_NVML_BASED_CUDA_CHECK=1`, under which `torch.cuda.is_available()` does not freeze, is left aside.

use std::sync::OnceLock;

use memchr::memmem;
use rustc_hash::FxHashMap;

use crate::unit::{Purpose, Sureness};

mod data;
mod inference;
mod jax;
mod libraries;
mod monitors;
mod paddle;
mod speech;
mod tensorflow;
mod torch;
mod training;
mod transformers;

/// Which numbers an API takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// Ordinal after the mask: `cuda:N`.
    Ordinal,
    /// Written into the mask: an index of the base order, replacing the mask that was there.
    BaseOrder,
    /// NVML or `nvidia-smi` index.
    Nvml,
    /// Another API's numbering (`OpenCL`, `DirectML`, Vulkan).
    Other,
}

/// A library whose import can make a program a GPU program.
#[derive(Debug)]
pub struct Library {
    /// Top-level or dotted module name, as imported.
    pub module: &'static str,
    /// Whether importing it makes CUDA read its environment.
    pub import_freezes: Option<Sureness>,
    /// Whether it computes on the GPU; monitors (`pynvml`) do not.
    pub computes: bool,
    /// Whether it stays on the CPU until it is told to use a GPU: `spacy.require_gpu()`, `DNN_TARGET_CUDA`.
    /// See [`Library::may_compute_in`].
    pub on_request: bool,
    /// The allocator variables it reads: `PYTORCH_CUDA_ALLOC_CONF` and kin.
    pub reads: &'static [&'static str],
}

impl Library {
    /// Whether a file with this text that imports the library may have it compute on a GPU.
    ///
    /// Most users of `cv2` or `lightgbm` never do: without a word of GPUs in the same file, nobody asks for one.
    /// `onnxruntime` may be told to take whatever there is.
    pub(crate) fn may_compute_in(&self, text: &[u8]) -> bool {
        const WORDS: [&str; 8] =
            ["gpu", "GPU", "Gpu", "cuda", "CUDA", "Cuda", "Tensorrt", "available_providers"];
        let speaks = || WORDS.iter().any(|it| memmem::find(text, it.as_bytes()).is_some());
        self.computes && (!self.on_request || speaks())
    }
}

/// What a call, an index or an assignment does to the GPU choice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Api {
    pub(crate) path: &'static str,
    pub(crate) form: Form,
    pub(crate) purpose: Purpose,
    pub(crate) numbering: Numbering,
    pub(crate) arguments: [Option<Argument>; 4],
    pub(crate) freezes: Freezes,
    /// Using it at all lays work over several GPUs.
    pub(crate) spreads: bool,
    /// It makes an object that only names a device: nothing is chosen before the object is used.
    pub(crate) names: bool,
    pub(crate) answers: Option<Answer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Call,
    /// `jax.devices()[1]`, `numba.cuda.gpus[1]`: the number stands in brackets behind it.
    Index,
    /// `config.gpu_options.visible_device_list = "1"`.
    Assignment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freezes {
    No,
    Yes(Sureness),
    /// When an argument names a CUDA device.
    OnCuda(Sureness),
}

/// An argument that says which GPU, or how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Argument {
    pub(crate) position: Option<usize>,
    /// Empty when it has no name.
    pub(crate) keyword: &'static str,
    pub(crate) shape: Shape,
}

impl Argument {
    /// Whether it takes a list of devices and says so by its plural: `device_ids`, `devices`, `gpus`.
    pub(crate) fn lists_devices(&self) -> bool {
        matches!(self.shape, Shape::Device | Shape::Tail) && self.keyword.ends_with('s')
    }
}

/// How an argument says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// An ordinal, a device text, or a list of them.
    Device,
    /// An ordinal; a text that may stand in its place speaks for itself.
    Number,
    /// A device text without a number, `cuda`: the library refuses `cuda:1`, whichever GPU there is.
    Kind,
    /// The *values* of a dictionary: `device_map={"": 1}`; the texts `auto`, `balanced` … spread.
    DeviceMap,
    /// The *keys* of a dictionary: `max_memory={0: "10GiB"}`.
    Keys,
    /// ONNX Runtime's `providers=[("CUDAExecutionProvider", {"device_id": 1})]`, and its `provider_options`.
    Providers,
    /// A number of GPUs: more than one, or `-1` for all, spreads.
    Count,
    /// A list of one share per GPU: more than one that is not 0 spreads.
    Shares,
    /// Lightning's `devices`: `2` is a number of GPUs, `[1]` and `"1,"` are ordinals, `-1` is all.
    Devices,
    /// A text that is written into the mask: `"1"`, `"0,1"`.
    Mask,
    /// A text whose tail is the ordinal, or a list of such: `CUDA1`, `gpu:1`, `0:1`.
    Tail,
    /// `True` means the current GPU: Coqui's `gpu`, Piper's `use_cuda`.
    Uses,
    /// A text that names a way of working that takes every GPU: `ddp`, `fsdp`.
    Strategy,
}

impl Shape {
    /// Whether a device is given, rather than a number of them or a way of working.
    pub(crate) fn takes_device(self) -> bool {
        !matches!(self, Self::Number | Self::Count | Self::Shares | Self::Uses | Self::Strategy)
    }
}

/// What a call returns, as far as checks and provenance need to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Available,
    Count,
    /// The name of the GPU that the device argument, or the current device, means.
    Name,
    /// UUID or PCI bus id.
    Identity,
    Capability,
    /// `(free, total)` in bytes.
    Memory,
    /// An object with `name`, `uuid`, `total_memory`, `major` and `minor`.
    Properties,
    /// NVML indices: `GPUtil.getAvailable()`.
    NvmlIndices,
    /// Objects whose `id` or `index` is an NVML index: `GPUtil.getGPUs()`.
    NvmlObjects,
    /// How many GPUs NVML knows, whatever the mask.
    NvmlCount,
}

impl Library {
    const fn freezes(self, sure: Sureness) -> Self {
        Self { import_freezes: Some(sure), ..self }
    }

    const fn on_request(self) -> Self {
        Self { on_request: true, ..self }
    }

    const fn reads(self, reads: &'static [&'static str]) -> Self {
        Self { reads, ..self }
    }
}

/// A library that computes on the GPU.
const fn library(module: &'static str) -> Library {
    Library { module, import_freezes: None, computes: true, on_request: false, reads: &[] }
}

/// A library that only looks at GPUs.
const fn monitor(module: &'static str) -> Library {
    Library { module, import_freezes: None, computes: false, on_request: false, reads: &[] }
}

/// An API that sends work somewhere.
const fn choose(path: &'static str) -> Api {
    api(path, Purpose::Choose)
}

/// An API that asks something about GPUs.
const fn query(path: &'static str) -> Api {
    api(path, Purpose::Query)
}

const fn api(path: &'static str, purpose: Purpose) -> Api {
    Api {
        path,
        form: Form::Call,
        purpose,
        numbering: Numbering::Ordinal,
        arguments: [None; 4],
        freezes: Freezes::No,
        spreads: false,
        names: false,
        answers: None,
    }
}

impl Api {
    /// An argument by position and name.
    const fn at(self, position: usize, keyword: &'static str, shape: Shape) -> Self {
        self.with(Argument { position: Some(position), keyword, shape })
    }

    /// An argument that has only a name.
    const fn key(self, keyword: &'static str, shape: Shape) -> Self {
        self.with(Argument { position: None, keyword, shape })
    }

    const fn device(self, position: usize, keyword: &'static str) -> Self {
        self.at(position, keyword, Shape::Device)
    }

    const fn with(mut self, argument: Argument) -> Self {
        let mut slot = 0;
        while self.arguments[slot].is_some() {
            slot += 1;
        }
        self.arguments[slot] = Some(argument);
        self
    }

    const fn indexed(self) -> Self {
        Self { form: Form::Index, ..self }
    }

    const fn assigned(self, shape: Shape) -> Self {
        Self { form: Form::Assignment, ..self }.at(0, "", shape)
    }

    const fn counts(self, numbering: Numbering) -> Self {
        Self { numbering, ..self }
    }

    const fn freezes(self, sure: Sureness) -> Self {
        Self { freezes: Freezes::Yes(sure), ..self }
    }

    const fn freezes_on_cuda(self) -> Self {
        Self { freezes: Freezes::OnCuda(Sureness::Sure), ..self }
    }

    const fn spreads(self) -> Self {
        Self { spreads: true, ..self }
    }

    const fn names(self) -> Self {
        Self { names: true, ..self }
    }

    const fn answers(self, answer: Answer) -> Self {
        Self { answers: Some(answer), ..self }
    }

    pub(crate) fn arguments(&self) -> impl Iterator<Item = &Argument> {
        self.arguments.iter().flatten()
    }

    /// What an argument given by position, or by name, says.
    pub(crate) fn argument(&self, position: Option<usize>, name: &str) -> Option<&Argument> {
        self.arguments().find(|it| match position {
            Some(_) => it.position == position,
            None => it.keyword == name,
        })
    }

    /// The name that a call of it ends in.
    pub(crate) fn last_segment(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// How it is called in messages: `torch.cuda.set_device`, `.cuda`.
    pub(crate) fn title(&self) -> String {
        self.path.strip_prefix('*').map_or_else(|| self.path.replace(".**", ""), str::to_owned)
    }
}

const TABLES: &[&[Api]] = &[
    data::APIS,
    inference::APIS,
    jax::APIS,
    monitors::APIS,
    paddle::APIS,
    speech::APIS,
    tensorflow::APIS,
    torch::APIS,
    training::APIS,
    transformers::APIS,
];

/// Every API of the table.
#[cfg(test)]
pub(crate) fn apis() -> impl Iterator<Item = &'static Api> {
    TABLES.iter().copied().flatten()
}

/// The library that an import of a dotted module brings in: the entry with the longest matching path.
pub(crate) fn library_of(module: &str) -> Option<&'static Library> {
    static BY_MODULE: OnceLock<FxHashMap<&'static str, &'static Library>> = OnceLock::new();
    let by_module =
        BY_MODULE.get_or_init(|| libraries::LIBRARIES.iter().map(|it| (it.module, it)).collect());
    let mut prefix = module;
    loop {
        if let Some(library) = by_module.get(prefix) {
            return Some(library);
        }
        prefix = prefix.rsplit_once('.')?.0;
    }
}

/// The APIs whose name ends in `segment`. Cheap enough to ask for every call of a file.
pub(crate) fn candidates(segment: &str) -> &'static [&'static Api] {
    static BY_SEGMENT: OnceLock<FxHashMap<&'static str, Vec<&'static Api>>> = OnceLock::new();
    let by_segment = BY_SEGMENT.get_or_init(|| {
        let mut map = FxHashMap::<_, Vec<_>>::default();
        for api in TABLES.iter().copied().flatten() {
            map.entry(api.last_segment()).or_default().push(api);
        }
        map
    });
    by_segment.get(segment).map_or(&[], Vec::as_slice)
}

/// The API a resolved path means; a method of any object when no other fits.
pub(crate) fn find(path: &str, form: Form) -> Option<&'static Api> {
    let segment = path.rsplit('.').next()?;
    let fitting = || candidates(segment).iter().copied().filter(|it| it.form == form);
    fitting()
        .find(|it| it.path == path)
        .or_else(|| fitting().find(|it| matches_deep(it.path, path)))
        .or_else(|| fitting().find(|it| matches_method(it.path, path)))
}

/// `lightning.**.Trainer` and `lightning.pytorch.Trainer`.
fn matches_deep(pattern: &str, path: &str) -> bool {
    pattern.split_once(".**.").is_some_and(|(library, name)| {
        path.strip_prefix(library).and_then(|it| it.strip_prefix('.')).is_some_and(|rest| {
            rest == name || rest.strip_suffix(name).is_some_and(|it| it.ends_with('.'))
        })
    })
}

/// `*.gpu_options.visible_device_list` and `config.gpu_options.visible_device_list`.
fn matches_method(pattern: &str, path: &str) -> bool {
    pattern
        .strip_prefix("*.")
        .and_then(|name| path.strip_suffix(name))
        .is_some_and(|before| before.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Form, TABLES, find, libraries::LIBRARIES, library_of};

    #[test]
    fn libraries_are_sorted_and_listed_once() {
        assert!(LIBRARIES.is_sorted_by(|a, b| a.module < b.module), "order `LIBRARIES` by module");
    }

    #[test]
    fn apis_are_listed_once() {
        let mut seen = BTreeSet::new();
        for api in TABLES.iter().copied().flatten() {
            assert!(seen.insert((api.path, format!("{:?}", api.form))), "`{}` twice", api.path);
        }
    }

    #[test]
    fn every_api_belongs_to_a_known_library_or_to_any_object() {
        for api in TABLES.iter().copied().flatten() {
            assert!(
                api.path.starts_with("*.") || library_of(api.path).is_some(),
                "`{}` belongs to no library of the table",
                api.path,
            );
        }
    }

    #[test]
    fn every_file_of_the_directory_is_in_the_table() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/src/catalogue");
        let files = std::fs::read_dir(dir).unwrap().count();
        assert_eq!(files, TABLES.len() + 1, "a file below catalogue/ that `TABLES` does not list");
    }

    #[test]
    fn tables_are_sorted_by_path() {
        for table in TABLES {
            for pair in table.windows(2) {
                let key = |at: usize| pair[at].path.to_ascii_lowercase();
                assert!(key(0) <= key(1), "`{}` stands before `{}`", pair[0].path, pair[1].path);
            }
        }
    }

    #[test]
    fn a_submodule_with_an_entry_of_its_own_wins_over_its_library() {
        assert_eq!(library_of("xformers.ops.fmha").map(|it| it.module), Some("xformers.ops"));
        assert_eq!(library_of("xformers").map(|it| it.module), Some("xformers"));
        assert_eq!(library_of("torchlight").map(|it| it.module), None);
    }

    #[test]
    fn paths_are_found_exactly_then_deep_then_as_a_method() {
        let found = |path| find(path, Form::Call).map(|it| it.path);
        assert_eq!(found("torch.cuda.set_device"), Some("torch.cuda.set_device"));
        assert_eq!(found("lightning.pytorch.trainer.Trainer"), Some("lightning.**.Trainer"));
        assert_eq!(found("lightning.Trainer"), Some("lightning.**.Trainer"));
        assert_eq!(found("model.encoder.cuda"), Some("*.cuda"));
        assert_eq!(found("cuda"), None);
        assert_eq!(found("my.Trainer"), None);
    }
}
