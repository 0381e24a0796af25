use crate::{
    finding::{Edit, Finding, Safety, Severity},
    needle::Needle,
    project::Project,
    rules::{Check, Rule},
    source::Language,
    unit::{CpuFallback, Does, Unit, UnitId},
};

pub(super) const RULE: Rule = Rule {
    code: "GP204",
    name: "silent-cpu-fallback",
    severity: Severity::Warning,
    default: false,
    docs: include_str!("silent_cpu_fallback.md"),
    needles: &[
        Needle::new("\"cpu"),
        Needle::new("'cpu"),
        Needle::new("/CPU"),
        Needle::new("/cpu"),
        Needle::new("CPUExecutionProvider"),
        Needle::new(".cuda("),
        Needle::new(".to(\"cuda"),
        Needle::new(".to('cuda"),
    ],
    check: Check::Unit(check),
};

fn check(rule: &'static Rule, _: &Project<'_>, id: UnitId, unit: &Unit, found: &mut Vec<Finding>) {
    // One flag moves the model, each batch and the loss: the first says it for the file.
    let mut moves = false;
    for event in &unit.events {
        let Does::CpuFallback(fallback) = &event.does else { continue };
        if fallback.kind == CpuFallback::ONLY_IF_THERE && std::mem::replace(&mut moves, true) {
            continue;
        }
        let message = match fallback.kind {
            CpuFallback::ONLY_IF_THERE => {
                "this goes to the GPU if there is one, and stays on the CPU without a word"
                    .to_owned()
            }
            "provider list" => "this provider list falls back to the CPU without a word".to_owned(),
            kind => format!("this {kind} goes on with the CPU without a word"),
        };
        let finding = rule.finding(id, event.span, message);
        let finding =
            finding.with_help("raise, log it at warning or above, or let the user choose");
        found.push(match edit(id, unit, fallback) {
            Some(edit) => {
                let why = "without a GPU the program then fails instead of going on with the CPU";
                finding.with_fix("Leave the GPU only", Safety::Unsafe(why.to_owned()), vec![edit])
            }
            None => finding,
        });
    }
}

/// Leaves the GPU's part of a choice as it is written.
fn edit(id: UnitId, unit: &Unit, fallback: &CpuFallback) -> Option<Edit> {
    let (whole, part) = fallback.gpu_part?;
    let (text, replacement) = (unit.source.slice(whole), unit.source.slice(part));
    // A comment would be lost, and a text of several lines has lines that belong together.
    let is_plain = !text.contains('#') && !replacement.contains('\n');
    // In a notebook, each line of a statement is a text of its own.
    let is_one_text = unit.source.language == Language::Python || !text.contains('\n');
    (is_plain && is_one_text && !replacement.is_empty()).then(|| Edit {
        unit: id,
        span: whole,
        replacement: replacement.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_fix, check_no_fix};

    #[test]
    fn the_fix_leaves_the_gpus_part() {
        check_fix(
            r#"
import torch
a = "cuda" if torch.cuda.is_available() else "cpu"  # why
b = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
c = "cpu" if not torch.cuda.is_available() else torch.device("cuda")
d = (
    0
    if torch.cuda.is_available()
    else -1
)
def f():
    if torch.cuda.is_available():
        device = "cuda"
    else:
        device = "cpu"
    return device
def g():
    if torch.cuda.is_available():
        return "cuda"
    else:
        return "cpu"
"#,
            r#"
import torch
a = "cuda"  # why
b = torch.device("cuda:0")
c = torch.device("cuda")
d = (
    0
)
def f():
    device = "cuda"
    return device
def g():
    return "cuda"
"#,
        );
    }

    #[test]
    fn more_than_two_ways_are_no_matter_of_a_fix() {
        check_no_fix(
            r#"
import torch, onnxruntime
a = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
s = onnxruntime.InferenceSession("a", providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
if torch.cuda.is_available():
    # the fast way
    device = "cuda"
else:
    device = "cpu"
if torch.cuda.is_available():
    torch.backends.cudnn.benchmark = True
    other = "cuda"
else:
    other = "cpu"
"#,
        );
    }

    #[test]
    fn chains_of_calls_elifs_and_provider_lists_fall_back_too() {
        check(
            r#"
import torch
def infer():
    if torch.cuda.is_available():  # error: GP204
        return "cuda"
    elif torch.backends.mps.is_available():
        return "mps"
    return "cpu"
def infer_other():
    if torch.backends.mps.is_available():
        return "mps"
    elif torch.cuda.is_available():  # error: GP204
        return "cuda"
    return "cpu"
if torch.cuda.is_available():  # error: GP204
    providers = ["CUDAExecutionProvider"]
else:
    providers = ["CPUExecutionProvider"]
"#,
        );
        check(
            r#"
import torch
if torch.cuda.is_available():  # error: GP204
    model = model.cuda().half().eval()
"#,
        );
    }

    #[test]
    fn what_stands_beside_tests_and_what_needs_nccl_is_no_fallback() {
        check(
            r#"
//- tests/testing_utils.py
import torch
torch_device = "cuda" if torch.cuda.is_available() else "cpu"
"#,
        );
        check(
            r#"
import torch
import torch.distributed as dist
def device_for(group):
    if dist.get_backend(group) == "nccl" and torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")
"#,
        );
    }

    #[test]
    fn every_form_of_a_silent_fallback_is_reported() {
        check(
            r#"
import torch
import onnxruntime
a = "cuda" if torch.cuda.is_available() else "cpu"  # error: GP204
b = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")  # error: GP204
c = torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"  # error: GP204
s = onnxruntime.InferenceSession("a", providers=["CUDAExecutionProvider", "CPUExecutionProvider"])  # error: GP204
if torch.cuda.is_available():  # error: GP204
    device = "cuda"
else:
    device = "cpu"
"#,
        );
    }

    #[test]
    fn a_choice_among_more_than_two_may_end_on_the_cpu_too() {
        check(
            r#"
import os, torch
if "DEVICE" in os.environ:
    device = os.environ["DEVICE"]
elif torch.cuda.is_available():  # error: GP204
    device = "cuda"
elif torch.backends.mps.is_available():
    device = "mps"
else:
    device = "cpu"
other = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"  # error: GP204
if torch.cuda.is_available():  # error: GP204
    device_map = {"": torch.cuda.current_device()}
else:
    device_map = {"": "cpu"}
if torch.cuda.is_available():
    device_map = {"": 0, "head": "cpu"}
elif has_mps:
    device_map = {"": "mps"}
"#,
        );
    }

    #[test]
    fn a_flag_that_decides_what_moves_is_told_once_for_the_file() {
        check(
            r#"
import torch
use_cuda = torch.cuda.is_available()
if use_cuda:
    torch.cuda.manual_seed(0)
if torch.cuda.device_count() > 1:
    model = torch.nn.DataParallel(model).cuda()
if use_cuda:  # error: GP204
    model = model.cuda()
for batch in loader:
    if use_cuda:
        batch = batch.to("cuda")
"#,
        );
        check("import torch\nif args.cuda:\n    model.cuda()\n");
        check(
            "//- test_a.py\nimport torch\ndef test_a():\n    if torch.cuda.is_available():\n        model.cuda()\n",
        );
    }

    #[test]
    fn what_says_the_device_may_be_turned_into_a_text_or_come_from_a_variable() {
        check(
            r#"
import os, torch
def infer_device():
    if torch.accelerator.is_available():  # error: GP204
        device = str(torch.accelerator.current_accelerator())
        if rank is not None:
            device += f":{rank}"
    else:
        device = "cpu"
    return device
a = torch.device("cuda:0" if torch.cuda.is_available() else os.environ.get("X", "cpu"))  # error: GP204
b = "cuda" if torch.cuda.is_available() else os.getenv("X", "cpu")  # error: GP204
c = "cuda" if torch.cuda.is_available() else os.getenv("X")
d = "cuda" if torch.cuda.is_available() else config.get("x", "cpu")
"#,
        );
    }

    #[test]
    fn libraries_that_say_gpu_fall_back_as_well() {
        check(
            "import torch\nname = 'gpu' if torch.cuda.is_available() else 'cpu'  # error: GP204\n",
        );
    }

    #[test]
    fn a_fallback_that_tells_or_fails_is_fine() {
        check(
            r#"
import logging
import torch
if torch.cuda.is_available():
    device = "cuda"
else:
    logging.warning("no GPU")
    device = "cpu"
if torch.cuda.is_available():
    other = "cuda"
else:
    raise RuntimeError("no GPU")
"#,
        );
    }

    #[test]
    fn a_cpu_that_the_caller_may_ask_for_is_no_fallback() {
        check(
            r#"
import torch
def pick(force_cpu=True):
    return "cuda" if torch.cuda.is_available() and not force_cpu else "cpu"
def other(force_cpu):
    return "cpu" if force_cpu or not torch.cuda.is_available() else "cuda"
def wanted(use_gpu):
    return "cuda" if use_gpu and torch.cuda.is_available() else "cpu"  # error: GP204
"#,
        );
    }

    #[test]
    fn an_option_for_the_cpu_is_a_choice_also_through_a_flag() {
        check(
            r#"
import torch
use_cuda = not args.no_cuda and torch.cuda.is_available()
device = "cuda" if use_cuda else "cpu"
if use_cuda:
    model.cuda()
if use_cuda:
    other = "cuda"
else:
    other = "cpu"
def generate(cfg, force_cpu):
    use_cuda = torch.cuda.is_available() and not cfg.common.cpu
    if use_cuda:
        model.cuda()
    wanted = torch.cuda.is_available() and not force_cpu
    device = "cuda" if wanted else "cpu"
    device = "cuda" if torch.cuda.is_available() and cfg.device != "cpu" else "cpu"
    device = "cpu" if not torch.cuda.is_available() or cfg["cpu"] else "cuda"
    device = "cuda" if torch.cuda.is_available() and not getattr(cfg, "cpu", False) else "cpu"
class Trainer:
    def __init__(self, use_cpu):
        self.use_cpu = use_cpu
    def pick(self):
        return "cuda" if torch.cuda.is_available() and not self.use_cpu else "cpu"
"#,
        );
        check(
            r#"
import torch
use_cuda = args.use_cuda and torch.cuda.is_available()
a = "cuda" if use_cuda else "cpu"  # error: GP204
b = "cuda" if torch.cuda.is_available() and not args.quiet else "cpu"  # error: GP204
c = "cuda" if torch.cuda.is_available() and not torch.version.cuda else "cpu"  # error: GP204
"#,
        );
    }

    #[test]
    fn a_caller_who_could_have_said_the_device_chose() {
        check(
            r#"
import torch
def a(device=None):
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
def b(device=None):
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
def c(device=None):
    if not device:
        if torch.cuda.is_available():
            device = "cuda"
        else:
            device = "cpu"
def d(device=None):
    if device is not None:
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"
def e(device="auto"):
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "gpu":
        device = "cuda" if torch.cuda.is_available() else "cpu"  # error: GP204
def f(device=None):
    self.device = device if device is not None else "cuda" if torch.cuda.is_available() else "cpu"
def g(device=None):
    if device:
        picked = device
    elif torch.cuda.is_available():
        picked = "cuda"
    else:
        picked = "cpu"
def h(**kwargs):
    device = kwargs.pop("device", None)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
if args.device is None:
    args.device = "cuda" if torch.cuda.is_available() else "cpu"
"#,
        );
        check(
            r#"
import torch
def a(model=None):
    if model is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"  # error: GP204
def b(use_gpu=False):
    if use_gpu:
        device = "cuda" if torch.cuda.is_available() else "cpu"  # error: GP204
def c(use_gpu=False):
    if not use_gpu:
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"  # error: GP204
class Lazy:
    def __init__(self):
        self.device = None
    def get(self):
        if self.device is None:
            self.device = "cuda" if torch.cuda.is_available() else "cpu"  # error: GP204
"#,
        );
    }

    #[test]
    fn a_method_that_warns_speaks_for_its_class() {
        check(
            r#"
import torch
class Quantizer:
    def place(self):
        if torch.cuda.is_available():
            picked = {"": torch.cuda.current_device()}
        else:
            picked = {"": "cpu"}
        return picked
    def validate_environment(self):
        if not torch.cuda.is_available():
            logger.warning("no GPU: this will be slow")
class Other:
    def place(self):
        return "cuda" if torch.cuda.is_available() else "cpu"  # error: GP204
    def validate(self):
        if not self.model:
            logger.warning("no model")
        if torch.cuda.is_available():
            logger.warning("this takes the GPU")
a = "cuda" if torch.cuda.is_available() else "cpu"  # error: GP204
"#,
        );
    }

    #[test]
    fn tests_and_kinds_of_devices_are_left_alone() {
        check(
            r#"
//- test_a.py
import torch
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
//- main.py
import torch
with torch.autocast("cuda" if torch.cuda.is_available() else "cpu"):
    pass
with torch.amp.autocast(device_type="cuda" if torch.cuda.is_available() else "cpu"):
    pass
"#,
        );
    }

    #[test]
    fn the_users_choice_is_no_fallback() {
        check(
            r#"
def load(use_gpu):
    return "cuda" if use_gpu else "cpu"
"#,
        );
    }
}
