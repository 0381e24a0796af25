//! What is wrong with a program's pin.
//!
//! Six rules speak of the pin, and one root cause must give one finding. So the pin is judged once per
//! program, here, and each rule only words its own kind of [`Problem`]. By precedence: set too late
//! (GP105), removed (GP111), conflicting (GP107), without an order (GP103), another GPU (GP102), none at
//! all (GP101). Only the problems of the first kind that occurs are kept, beside those that are not about
//! the pin itself: late allocator settings and fragile places (GP106).

use std::collections::BTreeMap;

use gpupin_policy::{Gpu, PinStyle, Role, Selector, visibility::Mask};

use crate::{
    program::{Earlier, Happening, Kind, MASK, ORDER, Program, Use, Write},
    project::{Known, Literal, Project},
    source::Language,
    span::Span,
    unit::{Does, EventId, RemoveHow, Runs, SetHow, UnitId},
};

mod masks;

use masks::{has_one_gpu, without_order, wrong_gpu};

/// Something wrong with a pin.
#[derive(Debug, Clone)]
pub(crate) enum Problem {
    /// Set or removed after CUDA has read its environment.
    Late { unit: UnitId, event: EventId, by: Earlier },
    /// Set after a GPU library was imported, or after something that may have frozen the environment.
    Fragile { settings: Vec<(UnitId, EventId)>, by: Earlier, may_be_frozen: bool },
    /// The mask is removed, and nothing sets it again.
    Removed { unit: UnitId, event: EventId },
    /// The mask is replaced by one that shows more GPUs.
    Widened { write: Write, before: Write },
    /// Set before to another value.
    Conflict { write: Write, before: Write },
    /// An integer mask without an order.
    NoOrder { write: Write, by_default: bool },
    /// A mask that leads to another GPU.
    WrongGpu { write: Write, wrong: Wrong },
    /// No pin takes effect.
    Unpinned { by: Use },
}

/// Where a mask leads instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The mask's text.
    pub(crate) mask: String,
    pub(crate) host: String,
    pub(crate) leads: Leads,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leads {
    /// To this GPU, by its short name.
    To { name: String, forbidden: bool },
    /// To no GPU of the machine: how many it has.
    Nowhere { gpus: usize },
}

/// Allocator settings, which PyTorch reads at its first use of CUDA.
const ALLOCATOR: [&str; 3] =
    ["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"];

/// Whether a variable is read once, when CUDA or its allocator starts.
pub(crate) fn is_frozen_by_cuda(name: &str) -> bool {
    is_pin(name) || ALLOCATOR.contains(&name)
}

fn is_pin(name: &str) -> bool {
    name == MASK || name == ORDER
}

pub(super) fn problems(project: &Project<'_>, program: &Program) -> Vec<Problem> {
    let (late_pins, late_others): (Vec<_>, Vec<_>) =
        late(project, program).into_iter().partition(|it| is_pin(&name_of(project, it)));
    let as_problem = |it: &Happening| Problem::Late {
        unit: it.unit,
        event: it.event,
        by: it.frozen.unwrap_or(Earlier { unit: it.unit, event: it.event, certain: true }),
    };
    let mut problems: Vec<Problem> = late_others.iter().map(|it| as_problem(it)).collect();
    problems.extend(fragile(project, program));
    let kinds: [&dyn Fn() -> Vec<Problem>; 6] = [
        &|| late_pins.iter().map(|it| as_problem(it)).collect(),
        &|| [removed(project, program), widened(project, program)].concat(),
        &|| conflicts(project, program),
        &|| without_order(project, program),
        &|| wrong_gpu(project, program),
        &|| unpinned(project, program),
    ];
    problems.extend(kinds.iter().map(|it| it()).find(|it| !it.is_empty()).unwrap_or_default());
    problems
}

/// Problems that `place` gives a place for, one for each place, each with the programs that have it there.
pub(crate) fn by_place<'p, T: Clone>(
    project: &'p Project<'_>,
    place: impl Fn(&'p Problem) -> Option<((UnitId, Span), T)>,
) -> Vec<(T, Vec<&'p Program>)> {
    let mut found: BTreeMap<(UnitId, Span), (T, Vec<&Program>)> = BTreeMap::new();
    for program in &project.programs {
        for problem in &program.problems {
            let Some((at, it)) = place(problem) else { continue };
            let (_, programs) = found.entry(at).or_insert((it, Vec::new()));
            if programs.last().is_none_or(|it| !std::ptr::eq(*it, program)) {
                programs.push(program);
            }
        }
    }
    found.into_values().collect()
}

/// The files in which programs start, each once.
pub(crate) fn entries(programs: &[&Program]) -> Vec<UnitId> {
    let mut entries: Vec<_> = programs.iter().map(|it| it.entry).collect();
    entries.sort_unstable();
    entries.dedup();
    entries
}

fn name_of(project: &Project<'_>, happening: &Happening) -> String {
    match &project.event(happening.unit, happening.event).does {
        Does::SetVariable(it) => it.name.clone(),
        Does::RemoveVariable(it) => it.name.clone(),
        _ => String::new(),
    }
}

/// Settings and removals that come after the freeze and are meant for this process.
fn late<'p>(project: &Project<'_>, program: &'p Program) -> Vec<&'p Happening> {
    let mut found = Vec::new();
    for (at, it) in program.trace.iter().enumerate() {
        if !it.frozen.is_some_and(|it| it.certain)
            || meant_for_a_child(project, &name_of(project, it), &program.trace[at + 1..])
        {
            continue;
        }
        match &project.event(it.unit, it.event).does {
            Does::SetVariable(set)
                if is_frozen_by_cuda(&set.name)
                    && is_lasting(set.how)
                    && !changes_nothing(project, it) =>
            {
                found.push(it);
            }
            Does::RemoveVariable(remove)
                if remove.name == MASK
                    && remove.how == RemoveHow::Remove
                    && !it.before.is_unset() =>
            {
                found.push(it);
            }
            _ => {}
        }
    }
    found
}

pub(crate) fn is_lasting(how: SetHow) -> bool {
    !matches!(how, SetHow::Temporary | SetHow::Persistent)
}

/// A later child reads the environment anew, so a setting may be meant for it; not if it is given its own.
pub(crate) fn meant_for_a_child(
    project: &Project<'_>,
    variable: &str,
    later: &[Happening],
) -> bool {
    later.iter().any(|it| match &project.event(it.unit, it.event).does {
        // `pip install` or `nvidia-smi` in a notebook do not care for a mask.
        Does::Start(start) => {
            !matches!(start.runs, Runs::Other(_) | Runs::Gpupin(_))
                && start.environment.variables().iter().all(|it| it.0 != variable)
        }
        _ => false,
    })
}

/// The variable certainly has this value already, or would keep the one it has. A default is not certain.
fn changes_nothing(project: &Project<'_>, it: &Happening) -> bool {
    let Does::SetVariable(set) = &project.event(it.unit, it.event).does else {
        return false;
    };
    if it.before.inherited || it.before.writes.is_empty() {
        return false;
    }
    let new = known_masks(project, Write::of(it.unit, it.event));
    set.how == SetHow::IfUnset
        || (!new.is_empty()
            && new.iter().all(|it| !it.1)
            && it.before.writes.iter().all(|write| known_masks(project, *write) == new))
}

/// What a write certainly sets.
pub(crate) fn sure_text(project: &Project<'_>, write: Write) -> Option<String> {
    match &*known_masks(project, write) {
        [(text, false)] => Some(text.clone()),
        _ => None,
    }
}

/// What a write may set, as texts; empty when unknown.
fn texts(project: &Project<'_>, write: Write) -> Vec<String> {
    known_masks(project, write).into_iter().map(|it| it.0).collect()
}

/// What a write may set: text, and whether only by default. A number counts as its text where the format has no strings.
fn known_masks(project: &Project<'_>, write: Write) -> Vec<(String, bool)> {
    let Some((_, value)) = project.written(write) else {
        return Vec::new();
    };
    let python =
        matches!(project.unit(write.unit).source.language, Language::Python | Language::Notebook);
    let text = |known: Known| match known.literal {
        Literal::Str(text) => Some((text, known.by_default)),
        Literal::Int(number) if !python => Some((number.to_string(), known.by_default)),
        _ => None,
    };
    project.known(write.unit, value).into_iter().filter_map(text).collect()
}

/// Blocks of settings behind the import of a GPU library.
fn fragile(project: &Project<'_>, program: &Program) -> Vec<Problem> {
    let mut found: Vec<Problem> = Vec::new();
    // Where the last setting of the block that is being collected stands in the trace.
    let mut last: Option<usize> = None;
    for (at, it) in program.trace.iter().enumerate() {
        let Does::SetVariable(set) = &project.event(it.unit, it.event).does else {
            continue;
        };
        let fragile = is_frozen_by_cuda(&set.name)
            && is_lasting(set.how)
            && !it.frozen.is_some_and(|it| it.certain)
            && !meant_for_a_child(project, &set.name, &program.trace[at + 1..]);
        let Some(by) = it.frozen.or(it.imported).filter(|_| fragile) else {
            continue;
        };
        if changes_nothing(project, it) {
            // It stands in the block all the same.
            last = last.filter(|last| last + 1 == at).map(|_| at);
            continue;
        }
        match found.last_mut() {
            Some(Problem::Fragile { settings, .. })
                if last.is_some_and(|last| last + 1 == at)
                    && settings.last().is_some_and(|it| it.0 == program.trace[at].unit) =>
            {
                settings.push((it.unit, it.event));
            }
            _ => found.push(Problem::Fragile {
                settings: vec![(it.unit, it.event)],
                by,
                may_be_frozen: it.frozen.is_some(),
            }),
        }
        last = Some(at);
    }
    found
}

/// Removals after which somebody reads an environment without a mask.
fn removed(project: &Project<'_>, program: &Program) -> Vec<Problem> {
    if !(uses_a_gpu(program) || starts_something(project, program)) {
        return Vec::new();
    }
    if !program.moments.iter().any(|it| it.setting(MASK).is_unset() && !it.pinned_by_gpupin) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for it in program.trace.iter().filter(|it| !it.frozen.is_some_and(|it| it.certain)) {
        let removes = match &project.event(it.unit, it.event).does {
            Does::RemoveVariable(remove) => remove.name == MASK && remove.how == RemoveHow::Remove,
            Does::ReplaceEnvironment { keeps, inherits } => {
                !inherits && keeps.iter().all(|it| it.0 != MASK)
            }
            _ => false,
        };
        if removes && !it.before.is_unset() {
            found.push(Problem::Removed { unit: it.unit, event: it.event });
        }
    }
    found
}

fn uses_a_gpu(program: &Program) -> bool {
    !program.uses.is_empty()
}

fn starts_something(project: &Project<'_>, program: &Program) -> bool {
    meant_for_a_child(project, MASK, &program.trace)
}

/// Settings of `variable` that replace an earlier one of the same program, each with that one.
fn replacements<'p>(
    project: &'p Project<'_>,
    program: &'p Program,
    counts: impl Fn(&str) -> bool + 'p,
) -> impl Iterator<Item = (Write, Write)> + 'p {
    program.trace.iter().enumerate().flat_map(move |(at, it)| {
        let write = Write::of(it.unit, it.event);
        let mut pairs = Vec::new();
        if let Does::SetVariable(set) = &project.event(it.unit, it.event).does
            && counts(&set.name)
            && set.how == SetHow::Assign
            && !it.conditional
            && it.frozen.is_none()
        {
            for before in &it.before.writes {
                if before.slot.is_none()
                    && program.runs(before.unit)
                    && !read_between(project, program, *before, at)
                {
                    pairs.push((write, *before));
                }
            }
        }
        pairs
    })
}

/// Settings of the mask that a later one of the same program replaces, before anybody reads them.
pub(crate) fn replaced_by(project: &Project<'_>, program: &Program, write: Write) -> Vec<Write> {
    let pairs: Vec<_> = replacements(project, program, |name| name == MASK).collect();
    let mut replaced = vec![write];
    let mut at = 0;
    while let Some(later) = replaced.get(at).copied() {
        for (_, before) in pairs.iter().filter(|it| it.0 == later) {
            if !replaced.contains(before) {
                replaced.push(*before);
            }
        }
        at += 1;
    }
    replaced.split_off(1)
}

/// A child was started between a write and the place `at`: the write had its use.
fn read_between(project: &Project<'_>, program: &Program, write: Write, at: usize) -> bool {
    let from = program
        .trace
        .iter()
        .position(|it| (it.unit, it.event) == (write.unit, write.event))
        .unwrap_or(0);
    let variable = project.written(write).map_or(MASK, |it| it.0);
    program.trace.get(from..at).is_some_and(|it| meant_for_a_child(project, variable, it))
}

fn widened(project: &Project<'_>, program: &Program) -> Vec<Problem> {
    let shown = |write| -> Option<usize> {
        let texts = texts(project, write);
        let [text] = texts.as_slice() else { return None };
        let mask = Mask::parse(text);
        (!mask.hides_every_gpu()).then(|| mask.taken().count())
    };
    replacements(project, program, |name| name == MASK)
        .filter(|(write, before)| matches!((shown(*write), shown(*before)), (Some(new), Some(old)) if new > old))
        .map(|(write, before)| Problem::Widened { write, before })
        .collect()
}

fn conflicts(project: &Project<'_>, program: &Program) -> Vec<Problem> {
    let certain = |write| sure_text(project, write);
    let counts = |name: &str| is_frozen_by_cuda(name) || project.policy.env.contains_key(name);
    replacements(project, program, counts)
        .filter(|(write, before)| matches!((certain(*write), certain(*before)), (Some(new), Some(old)) if new != old))
        .map(|(write, before)| Problem::Conflict { write, before })
        .collect()
}

fn unpinned(project: &Project<'_>, program: &Program) -> Vec<Problem> {
    let python = matches!(
        project.unit(program.entry).source.language,
        Language::Python | Language::Notebook
    );
    if program.kind == Kind::Module || !python || project.policy.lint.style == PinStyle::External {
        return Vec::new();
    }
    match program.first_use() {
        // A container with one GPU leaves nothing to choose; whether it is the right one is asked of the container.
        Some(by)
            if !program.has_pin(project)
                && !program.containers.iter().any(|it| has_one_gpu(project, it.container)) =>
        {
            vec![Problem::Unpinned { by }]
        }
        _ => Vec::new(),
    }
}

impl Program {
    /// The first import of a GPU library.
    pub(crate) fn first_use(&self) -> Option<Use> {
        self.uses.first().copied()
    }

    /// Whether a mask takes effect, right or wrong.
    ///
    /// A mask that only a started program gets is one as long as CUDA is not seen to start here: a launcher
    /// imports `torch` and leaves the GPU to its children.
    pub(crate) fn has_pin(&self, project: &Project<'_>) -> bool {
        let of_child = |(unit, event): (UnitId, EventId)| {
            matches!(project.event(unit, event).does, Does::Start(_))
        };
        let starts_cuda = self.moments.iter().any(|it| it.by.is_some_and(|it| !of_child(it)));
        self.moments
            .iter()
            .filter(|it| !(starts_cuda && it.by.is_some_and(of_child)))
            .any(|it| it.pinned_by_gpupin || !it.setting(MASK).writes.is_empty())
    }
}

impl<'a> Project<'a> {
    /// The GPU a program is meant for: its role's, else the project's.
    pub(crate) fn wanted(&self, program: &Program) -> Option<&'a Selector> {
        match self.role(program) {
            Some(role) => Some(&role.selector),
            None => self.policy.gpu.as_ref(),
        }
    }

    /// Whether the policy forbids a GPU to a program. Roles are exempt.
    pub(crate) fn is_forbidden(&self, program: &Program, gpu: &Gpu) -> bool {
        self.role(program).is_none() && self.policy.forbid.iter().any(|it| it.matches(gpu))
    }

    fn role(&self, program: &Program) -> Option<&'a Role> {
        self.role_of(&self.unit(program.entry).source.path)
    }

    /// The role whose entry points name a file.
    pub(crate) fn role_of(&self, path: &str) -> Option<&'a Role> {
        self.roles.iter().find(|it| it.0.is_match(path)).map(|it| it.1)
    }
}
