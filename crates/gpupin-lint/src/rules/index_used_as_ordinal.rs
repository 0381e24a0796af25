use std::collections::BTreeSet;

use crate::{
    catalogue::Numbering,
    finding::{Edit, Finding, Safety, Severity},
    fix::reach,
    meant::Meant,
    needle::Needle,
    project::{Known, Literal, Project},
    rules::{Check, Rule},
    source::Source,
    span::Span,
    unit::{Choice, Does, Event, Purpose, Unit, UnitId},
    value::Spanned,
    variables::given,
};

pub(super) const RULE: Rule = Rule {
    code: "GP202",
    name: "index-used-as-ordinal",
    severity: Severity::Warning,
    default: true,
    docs: include_str!("index_used_as_ordinal.md"),
    needles: &[
        Needle::new("nvml"),
        Needle::new("nvidia-smi"),
        Needle::new("GPUtil"),
        Needle::new("gpustat"),
        Needle::new("nvitop"),
        Needle::new("py3nvml"),
    ],
    check: Check::Project(check),
};

fn check(rule: &'static Rule, project: &Project<'_>, found: &mut Vec<Finding>) {
    let nvml = nvml_places(project);
    for (id, unit) in (0..).map(UnitId).zip(project.units) {
        let fixed = OrderFixed::of(project, id, unit);
        for given in given(unit) {
            if given.name == "CUDA_VISIBLE_DEVICES" && !given.is_temporary() && !fixed.order {
                let tainted = project.known(id, given.value).iter().any(is_nvml);
                if tainted {
                    let message = "an index of NVML's order goes into the mask, which CUDA reads in its own order";
                    let finding = rule.finding(id, given.event.span, message);
                    found
                        .push(finding.with_help(
                            "set `CUDA_DEVICE_ORDER=PCI_BUS_ID` first, or use the UUID",
                        ));
                }
            }
        }
        for event in &unit.events {
            let Does::Choose(choice) = &event.does else { continue };
            let (message, help) = match choice.numbering {
                // A mask numbers anew, so a fixed order alone does not make the two equal.
                Numbering::Ordinal if fixed.order && !fixed.masked => continue,
                Numbering::Ordinal => (
                    format!("an index of NVML's order is used as an ordinal by `{}`", choice.by),
                    "NVML ignores the mask and CUDA's order: find the GPU by its UUID or PCI address instead",
                ),
                Numbering::BaseOrder if fixed.order => continue,
                Numbering::BaseOrder => (
                    format!(
                        "an index of NVML's order is given to `{}`, which reads it in CUDA's order",
                        choice.by
                    ),
                    "set `CUDA_DEVICE_ORDER=PCI_BUS_ID` first, or use the UUID",
                ),
                Numbering::Nvml | Numbering::Other => continue,
            };
            let known: Vec<_> =
                choice.ordinals.iter().flat_map(|it| project.known(id, it)).collect();
            if known.iter().any(is_nvml) {
                let finding = rule.finding(id, event.span, message).with_help(help);
                found.push(with_ordinal_0(finding, project, event, choice));
            } else if let Some((unit, span)) = shared(&known, &nvml) {
                let message =
                    format!("the number given to `{}` is used as an index of NVML too", choice.by);
                let finding = rule.finding(id, event.span, message).with_help(help);
                let finding = finding.with_related(unit, span, "as an index here");
                found.push(with_ordinal_0(finding, project, event, choice));
            }
        }
    }
}

/// Offers ordinal 0, where one GPU is meant and the number is plain to see.
fn with_ordinal_0(
    finding: Finding,
    project: &Project<'_>,
    event: &Event,
    choice: &Choice,
) -> Finding {
    let meant = Meant::of(project, finding.unit);
    let is_ordinal = choice.numbering == Numbering::Ordinal && choice.purpose == Purpose::Choose;
    if !is_ordinal || !meant.is_declared() || meant.count() != 1 {
        return finding;
    }
    let Some((span, replacement)) = zero(&project.unit(finding.unit).source, event.span, choice)
    else {
        return finding;
    };
    let edit = Edit { unit: finding.unit, span, replacement };
    let why =
        "where no pin is in effect, ordinal 0 can be another GPU than the one that was looked for";
    let rests_on = reach::unpinned_readers(project, finding.unit);
    finding
        .with_fix("Use ordinal 0, the pinned GPU", Safety::Unsafe(why.to_owned()), vec![edit])
        .resting_on(rests_on)
}

/// What to write for the index: in a text `f"cuda:{gpu}"`, for the value itself, or for a call's argument.
fn zero(source: &Source, place: Span, choice: &Choice) -> Option<(Span, String)> {
    let text = source.slice(place);
    if let Some((opening, _)) = text.split_once("cuda:") {
        let quote = opening.trim_start_matches(['f', 'F']);
        let is_text = matches!(quote, "\"" | "'" | "\\\"");
        return is_text.then(|| (place, format!("{quote}cuda:0{quote}")));
    }
    let [ordinal] = &*choice.ordinals else { return None };
    let is_name = |it: &str| it.chars().all(|it| it.is_alphanumeric() || matches!(it, '_' | '.'));
    if is_name(text) {
        return Some((place, "0".to_owned()));
    }
    if place.contains(ordinal.span) && place != ordinal.span {
        return Some((ordinal.span, "0".to_owned()));
    }
    // The only argument, which is a name that got its value elsewhere.
    let (callee, arguments) = text.strip_suffix(')')?.split_once('(')?;
    let (key, value) = arguments.split_once('=').unwrap_or(("", arguments));
    let value = value.trim();
    if !is_name(callee) || !is_name(key.trim()) || !is_name(value) || value.is_empty() {
        return None;
    }
    let start = place.range().end
        - 1
        - arguments.trim_start_matches(key).trim_start_matches('=').trim_start().len();
    Some((Span::new(start, start + value.len()), "0".to_owned()))
}

/// What makes the two numberings equal, as far as one file tells.
struct OrderFixed {
    order: bool,
    masked: bool,
}

impl OrderFixed {
    /// Looks at the file and at the programs it is part of.
    fn of(project: &Project<'_>, id: UnitId, unit: &Unit) -> Self {
        let programs: Vec<_> = project.programs.iter().filter(|it| it.runs(id)).collect();
        let sets = |name: &str, wanted: fn(&Literal) -> bool| {
            let in_unit = |id: UnitId, unit: &Unit| {
                given(unit).iter().any(|it| {
                    it.name == name
                        && project.known(id, it.value).iter().any(|it| wanted(&it.literal))
                })
            };
            in_unit(id, unit)
                || (!programs.is_empty()
                    && programs.iter().all(|it| in_unit(it.entry, project.unit(it.entry))))
        };
        Self {
            order: sets("CUDA_DEVICE_ORDER", |it| *it == Literal::Str("PCI_BUS_ID".to_owned())),
            masked: sets("CUDA_VISIBLE_DEVICES", |_| true),
        }
    }
}

fn is_nvml(known: &Known) -> bool {
    match &known.literal {
        Literal::NvmlIndex => true,
        Literal::List(items) => items.iter().any(is_nvml),
        _ => false,
    }
}

type Place = (UnitId, Span);

/// A number that is used as an index of NVML: where it stands, and where it is used.
fn nvml_places(project: &Project<'_>) -> Vec<(Place, Place)> {
    let mut places = Vec::new();
    for (id, unit) in (0..).map(UnitId).zip(project.units) {
        for event in &unit.events {
            let Does::Choose(choice) = &event.does else { continue };
            if choice.numbering == Numbering::Nvml {
                let known = choice.ordinals.iter().flat_map(|it: &Spanned| project.known(id, it));
                places.extend(known.map(|it| ((it.unit, it.span), (id, event.span))));
            }
        }
    }
    places
}

/// Where a number of `known` is used as an index of NVML.
fn shared(known: &[Known], nvml: &[(Place, Place)]) -> Option<Place> {
    let here: BTreeSet<Place> = known.iter().map(|it| (it.unit, it.span)).collect();
    nvml.iter().find(|it| here.contains(&it.0)).map(|it| it.1)
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_fix, check_no_fix};

    #[test]
    fn the_fix_uses_the_pinned_gpu() {
        check_fix(
            r#"
import GPUtil
import pynvml
import torch
from faster_whisper import WhisperModel
gpu = GPUtil.getAvailable(order="memory")[0]
torch.cuda.set_device(gpu)
torch.cuda.set_device( device = gpu )
torch.cuda.set_device(GPUtil.getAvailable()[0])  # why
x.to(f"cuda:{gpu}")
x.to('cuda:' + str(gpu))
GPU = 1
pynvml.nvmlDeviceGetHandleByIndex(GPU)
torch.cuda.set_device(GPU)
"#,
            r#"
import GPUtil
import pynvml
import torch
from faster_whisper import WhisperModel
gpu = GPUtil.getAvailable(order="memory")[0]
torch.cuda.set_device(0)
torch.cuda.set_device( device = 0 )
torch.cuda.set_device(0)  # why
x.to("cuda:0")
x.to('cuda:0')
GPU = 1
pynvml.nvmlDeviceGetHandleByIndex(GPU)
torch.cuda.set_device(0)
"#,
        );
    }

    #[test]
    fn a_mask_and_a_policy_without_one_gpu_have_no_fix() {
        check_no_fix(
            r#"
import os, GPUtil
os.environ["CUDA_VISIBLE_DEVICES"] = str(GPUtil.getAvailable()[0])
"#,
        );
        check_no_fix(
            r#"
//- gpupin.toml
//- main.py
import torch, GPUtil
torch.cuda.set_device(GPUtil.getAvailable()[0])
"#,
        );
    }

    #[test]
    fn an_index_found_by_nvml_is_no_ordinal() {
        check(
            r#"
import GPUtil
import torch
gpu = GPUtil.getAvailable(order="memory")[0]
torch.cuda.set_device(gpu)  # error: GP202
"#,
        );
    }

    #[test]
    fn the_best_of_nvmls_indices_is_one() {
        check(
            r#"
import pynvml
import torch
count = pynvml.nvmlDeviceGetCount()
gpu = max(range(count), key=free_memory)
torch.cuda.set_device(gpu)  # error: GP202
torch.cuda.set_device(min(range(pynvml.nvmlDeviceGetCount()), key=used))  # error: GP202
torch.cuda.set_device(max(range(2), key=used))
"#,
        );
    }

    #[test]
    fn an_index_chosen_in_a_loop_is_one() {
        check(
            r#"
import pynvml
import torch
best = -1
most = 0
for i in range(pynvml.nvmlDeviceGetCount()):
    free = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(i)).free
    if free > most:
        most = free
        best = i
torch.cuda.set_device(best)  # error: GP202
"#,
        );
        check(
            r#"
import pynvml
import torch
chosen = None
for i in range(pynvml.nvmlDeviceGetCount()):
    if is_idle(i):
        chosen, seen = i, True
        break
x.to(f"cuda:{chosen}")  # error: GP202
torch.cuda.set_device(chosen)  # error: GP202
other = -1
for j in range(4):
    other = j
torch.cuda.set_device(other)
"#,
        );
        check(
            r#"
import pynvml
import torch
for i in range(pynvml.nvmlDeviceGetCount()):
    print(i)
last = -1
for i in range(4):
    last = i
torch.cuda.set_device(last)
"#,
        );
    }

    #[test]
    fn an_index_that_a_function_returns_is_one() {
        check(
            r#"
import os
import pynvml
import torch
def main():
    torch.cuda.set_device(best())  # error: GP202
    os.environ["CUDA_VISIBLE_DEVICES"] = str(first())  # error: GP202
    x.to(f"cuda:{Picker().pick()}")  # error: GP202
    torch.cuda.set_device(count())
    torch.cuda.set_device(mapped())
def first():
    for i in range(pynvml.nvmlDeviceGetCount()):
        if used(pynvml.nvmlDeviceGetHandleByIndex(i)) < 100:
            return i
    raise RuntimeError("no idle GPU")
def best():
    best, most = 0, 0
    for i in range(pynvml.nvmlDeviceGetCount()):
        free = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(i)).free
        if free > most:
            best, most = i, free
    return best
class Picker:
    def pick(self):
        count = pynvml.nvmlDeviceGetCount()
        return min(range(count), key=lambda i: used(pynvml.nvmlDeviceGetHandleByIndex(i)))
def count():
    found = 0
    for i in range(pynvml.nvmlDeviceGetCount()):
        found += 1
    return found
def mapped():
    def index():
        for i in range(pynvml.nvmlDeviceGetCount()):
            return i
    return ordinal_of(pynvml.nvmlDeviceGetUUID(index()))
"#,
        );
    }

    #[test]
    fn a_function_that_picks_idle_gpus_may_leave_asking_to_another() {
        check(
            r#"
import os
import subprocess
import torch
def inventory():
    rows = subprocess.check_output(["nvidia-smi", "--query-gpu=index,memory.used", "--format=csv"], text=True)
    return [parse(row) for row in rows.splitlines()]
def pick_idle_gpus(count):
    return [int(gpu["index"]) for gpu in inventory() if gpu["used"] < 32][:count]
def gpu_of(rank):
    return rank % torch.cuda.device_count()
selected = ",".join(str(index) for index in pick_idle_gpus(2))
os.environ["CUDA_VISIBLE_DEVICES"] = selected  # error: GP202
torch.cuda.set_device(gpu_of(3))
"#,
        );
        check(
            r#"
import torch
def pick_idle_gpu():
    return scheduler.ask()
torch.cuda.set_device(pick_idle_gpu())
"#,
        );
    }

    #[test]
    fn a_function_that_returns_itself_ends() {
        check(
            r#"
import pynvml
import torch
def pick(n):
    if n > 3:
        return pick(n - 3)
    if n > 2:
        return str(pick(n - 2))
    if n > 1:
        return int(pick(n - 1))
    return pynvml.nvmlDeviceGetCount()
torch.cuda.set_device(pick(9))
"#,
        );
    }

    #[test]
    fn lists_of_one_item_per_gpu_number_them_too() {
        check(
            r#"
import pynvml
import torch
used = [memory(i) for i in range(pynvml.nvmlDeviceGetCount())]
torch.cuda.set_device(min(range(len(used)), key=used.__getitem__))  # error: GP202
torch.cuda.set_device(used.index(min(used)))  # error: GP202
idle = [i for i in range(pynvml.nvmlDeviceGetCount()) if memory(i) < 100]
torch.cuda.set_device(idle[0])  # error: GP202
torch.cuda.set_device(sorted(range(pynvml.nvmlDeviceGetCount()), key=memory)[0])  # error: GP202
some = [memory(i) for i in range(pynvml.nvmlDeviceGetCount()) if i]
torch.cuda.set_device(some.index(min(some)))
"#,
        );
    }

    #[test]
    fn what_nvidia_smi_writes_is_an_index() {
        check(
            r#"
import os
import subprocess
os.environ["CUDA_VISIBLE_DEVICES"] = subprocess.check_output("nvidia-smi --query-gpu=memory.free,index --format=csv,nounits,noheader | sort -nr | head -1 | awk '{ print $NF }'", shell=True).decode().strip()  # error: GP202
rows = subprocess.run(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True).stdout
os.environ["CUDA_VISIBLE_DEVICES"] = rows.split("\n")[0]  # error: GP202
os.environ["CUDA_VISIBLE_DEVICES"] = os.popen("nvidia-smi --query-gpu=index --format=csv,noheader").read().splitlines()[0]  # error: GP202
os.environ["CUDA_VISIBLE_DEVICES"] = subprocess.getoutput("nvidia-smi --query-gpu=uuid --format=csv,noheader | head -1")
"#,
        );
    }

    #[test]
    fn an_index_found_by_nvml_needs_an_order_in_a_mask() {
        check(
            r#"
import os
import GPUtil
os.environ["CUDA_VISIBLE_DEVICES"] = str(GPUtil.getFirstAvailable()[0])  # error: GP202
"#,
        );
        check(
            r#"
import os
import GPUtil
os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
os.environ["CUDA_VISIBLE_DEVICES"] = str(GPUtil.getFirstAvailable()[0])
"#,
        );
    }

    #[test]
    fn with_a_fixed_order_and_no_mask_both_number_alike() {
        check(
            r#"
import os
os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
import GPUtil
import torch
torch.cuda.set_device(GPUtil.getFirstAvailable()[0])
"#,
        );
    }

    #[test]
    fn one_number_in_both_numberings_is_reported() {
        check(
            r#"
import pynvml
import torch
GPU = 0
handle = pynvml.nvmlDeviceGetHandleByIndex(GPU)
torch.cuda.set_device(GPU)  # error: GP202
"#,
        );
    }

    #[test]
    fn numbers_of_their_own_are_fine() {
        check(
            r#"
import pynvml
import torch
handle = pynvml.nvmlDeviceGetHandleByIndex(0)
torch.cuda.set_device(0)
"#,
        );
    }
}
