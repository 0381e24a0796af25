//! The lines that pin a program.

use gpupin_policy::{
    Inventory, PinAs, PinStyle, Selector,
    visibility::{Environment, pin},
};

use super::super::{package, reach, script::Script};
use crate::{
    finding::Edit,
    program::{MASK, ORDER},
    project::Project,
};

/// The lines around a pin that gpupin wrote, by which it finds it again.
pub(in crate::fix) const BEGIN: &str = "# gpupin: begin of the pin, written by `gpupin fix`";
pub(in crate::fix) const END: &str = "# gpupin: end of the pin";

/// What the style `import` inserts.
pub(in crate::fix) const IMPORT: &str = "import gpupin.auto  # pins the GPU of gpupin.toml";

/// The order in which `nvidia-smi` counts. A mask of UUIDs needs none, but a child with a mask of its own may.
pub(crate) const PCI_BUS_ID: &str = "PCI_BUS_ID";

/// What a program gets at its top.
pub(super) struct Block {
    /// Names and values in order; none for the import.
    pub(super) sets: Vec<(String, String)>,
    /// Which GPU the mask is.
    pub(super) name: Option<String>,
    is_import: bool,
    pub(super) safety: Result<(), String>,
}

/// A setting that goes to the top with its value.
pub(super) struct Carried {
    pub(super) name: String,
    pub(super) value: String,
}

/// What pins the GPUs of a selector; `None` if nothing can.
pub(super) fn block(project: &Project<'_>, wanted: Option<&Selector>) -> Option<Block> {
    let selector = wanted?;
    let style = project.policy.lint.style;
    if style == PinStyle::External {
        return None;
    }
    let header = || {
        let (mask, name) = variables(project, selector, project.policy.pin.as_)?;
        let safety = reach::exactly(project, wanted, &Environment::from_pairs(mask.clone()));
        let mut sets = vec![(ORDER.to_owned(), PCI_BUS_ID.to_owned())];
        sets.extend(mask.into_iter().filter(|it| it.0 != ORDER).map(|it| (it.0.to_owned(), it.1)));
        sets.extend(project.policy.env.iter().map(|it| (it.0.clone(), it.1.clone())));
        Some(Block { sets, name: Some(name), is_import: false, safety })
    };
    let import = |safety| Block { sets: Vec::new(), name: None, is_import: true, safety };
    if style == PinStyle::Import {
        return Some(import(
            reach::by_policy(project, wanted).and_then(|()| is_installed(project)),
        ));
    }
    Some(header().unwrap_or_else(|| {
        let why = "no mask is right on every recorded machine, and the program then needs the package `gpupin`";
        import(Err(why.to_owned()))
    }))
}

/// Whether the project says that it needs the package which the style `import` imports.
pub(super) fn is_installed(project: &Project<'_>) -> Result<(), String> {
    let mut sources = project.units.iter().map(|it| &it.source);
    if sources.any(|it| package::declares(&it.path, &it.text)) {
        return Ok(());
    }
    Err(format!("the package `{}` must be installed where it runs", package::NAME))
}

/// The mask, with its order, that is right on every recorded machine that has the GPU, and the GPU's name. None with
/// twins: which of them is free, nobody knows before the program starts.
pub(in crate::fix) fn variables(
    project: &Project<'_>,
    selector: &Selector,
    pin_as: PinAs,
) -> Option<(Vec<(&'static str, String)>, String)> {
    let matching = |machine: &Inventory| -> Vec<_> {
        machine.usable().filter(|it| selector.matches(it)).map(|it| it.uuid.clone()).collect()
    };
    let machines = project.lock.machines().iter().filter(|it| !matching(it).is_empty());
    let machines: Vec<_> = machines.collect();
    let count = usize::try_from(selector.count).unwrap_or(usize::MAX);
    if machines.iter().any(|it| matching(it).len() != count) {
        return None;
    }
    // A UUID is one machine's.
    let pin_as = if machines.len() == 1 { pin_as } else { PinAs::Index };
    let mut pins = machines.iter().map(|it| pin(it, &matching(it), pin_as));
    let first = pins.next()??;
    let name = machines[0].get(matching(machines[0]).first()?)?.short_name();
    pins.all(|it| it.as_ref() == Some(&first)).then_some((first, name))
}

/// Puts a block at the top of a file, or in the place of the one that is there.
pub(super) fn put(script: &Script<'_>, block: Option<&Block>, moved: &[Carried]) -> Option<Edit> {
    let mut lines = lines(block, moved);
    if let Some(old) = script.block(BEGIN, END) {
        return Some(script.replace(&old, &lines));
    }
    let top = match script.behind_import_os() {
        // What is no block of gpupin's needs no import of its own.
        Some(behind) if block.is_none() => {
            lines.drain(..2);
            behind
        }
        _ => script.top()?,
    };
    if script.wants_blank_before(top) {
        lines.insert(0, String::new());
    }
    if script.wants_blank_behind(top) {
        lines.push(String::new());
    }
    Some(script.insert(top, &lines))
}

/// The lines of a pin, and of what is moved there, as `ruff format` and `black` leave them.
pub(super) fn lines(block: Option<&Block>, moved: &[Carried]) -> Vec<String> {
    let mut lines = Vec::new();
    let set = |name: &str, value: &str| format!("os.environ[\"{name}\"] = {}", quoted(value));
    let mut sets: Vec<String> = Vec::new();
    if let Some(block) = block {
        for (name, value) in &block.sets {
            // Behind the UUID the line would be too long.
            let gpu = block.name.iter().filter(|_| name == MASK && value.starts_with("GPU-"));
            sets.extend(gpu.map(|it| format!("# {it}")));
            sets.push(set(name, value));
        }
    }
    sets.extend(moved.iter().map(|it| set(&it.name, &it.value)));
    let is_import = block.is_some_and(|it| it.is_import);
    if is_import {
        lines.push(IMPORT.to_owned());
    }
    if !sets.is_empty() {
        lines.extend(["import os".to_owned(), String::new()]);
        lines.extend(sets);
    }
    let has_marks = block.is_some_and(|it| !it.is_import);
    if has_marks {
        lines.insert(0, BEGIN.to_owned());
        lines.push(END.to_owned());
    }
    lines
}

/// A text as Python writes it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
