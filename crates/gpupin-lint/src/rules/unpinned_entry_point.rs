use gpupin_policy::{RequirePinIn, Selector};

use crate::{
    catalogue::Library,
    finding::{Finding, Severity},
    fix::{pin, top::top},
    program::{MASK, Problem, Program, Use, suite},
    project::Project,
    rules::{Check, Rule},
    source::Language,
    unit::{Does, Unit, UnitId},
};

pub(super) const RULE: Rule = Rule {
    code: "GP101",
    name: "unpinned-entry-point",
    severity: Severity::Error,
    default: true,
    docs: include_str!("unpinned_entry_point.md"),
    // Programs are found by the survey, whatever bytes they hold.
    needles: &[],
    check: Check::Project(check),
};

fn check(rule: &'static Rule, project: &Project<'_>, found: &mut Vec<Finding>) {
    let unpinned = |it: &Program| {
        it.problems.iter().find_map(|it| match it {
            Problem::Unpinned { by } => Some(*by),
            _ => None,
        })
    };
    let programs = project.programs.iter().filter_map(|it| Some((it, unpinned(it)?.via)));
    for suite in suite::suites(project, programs) {
        let Some(by) = unpinned(suite.first()) else { continue };
        let named = most_telling(project, suite.first(), by);
        let library = library(project, named).map_or("a GPU library", |it| it.module);
        let message = format!(
            "{} {} `{library}`, and nothing pins {} GPU before CUDA starts",
            suite.subject(),
            suite.verb("uses", "use"),
            suite.verb("its", "their"),
        );
        let place = suite.conftest().map_or_else(
            || "here or in what starts the program".to_owned(),
            |it| format!("in `{it}`"),
        );
        let (unit, span) = suite.place(project);
        let mut finding = rule
            .finding(unit, span, message)
            .with_help(help(project.wanted(suite.first()), &place));
        if named.unit != unit {
            let span = project.event(named.unit, named.event).span;
            finding =
                finding.with_related(named.unit, span, format!("`{library}` is imported here"));
        }
        finding.programs = suite.entries();
        // One `conftest.py` pins all test files below it.
        found.push(if let Some(path) = suite.conftest() {
            match project.modules.at(&path) {
                _ if pin::tests_set_masks(project, &path) => finding,
                Some(unit) => pin::cure_at(finding, project, &[(unit, suite.first())], &[]),
                None if project.modules.file(&path).is_some() => finding,
                None => pin::cure_in_new_file(finding, project, suite.first(), path),
            }
        } else {
            let tops: Vec<_> = suite.programs().map(|it| (top(project, it), it)).collect();
            pin::cure_at(finding, project, &tops, &[])
        });
    }
    if project.policy.lint.require_pin_in == RequirePinIn::EveryGpuFile {
        for (id, unit) in (0..).map(UnitId).zip(project.units) {
            every_file(rule, project, id, unit, found);
        }
    }
}

/// With `require-pin-in = "every-gpu-file"` a file that imports a GPU library carries a pin of its own.
fn every_file(
    rule: &'static Rule,
    project: &Project<'_>,
    id: UnitId,
    unit: &Unit,
    found: &mut Vec<Finding>,
) {
    let python = matches!(unit.source.language, Language::Python | Language::Notebook);
    let pins = |does: &Does| match does {
        Does::SetVariable(it) => it.name == MASK,
        Does::Gpupin => true,
        _ => false,
    };
    let reported = found.iter().any(|it| it.rule.code == rule.code && it.unit == id);
    if !python || reported || unit.events.iter().any(|it| pins(&it.does)) {
        return;
    }
    let first = unit.events.iter().find_map(|it| match it.does {
        Does::ImportLibrary(library) if library.computes => Some((it.span, library.module)),
        _ => None,
    });
    if let Some((span, library)) = first {
        let message = format!("this file uses `{library}` and carries no pin of its own");
        let finding =
            rule.finding(id, span, message).with_help(help(project.policy.gpu.as_ref(), "here"));
        let program = project.programs.iter().find(|it| it.runs(id));
        let tops: Vec<_> = program.map(|it| (id, it)).into_iter().collect();
        found.push(pin::cure_at(finding, project, &tops, &[]));
    }
}

/// The import to name: of what the first file with one imports, the first that computes on a GPU without being asked.
///
/// Other files are left aside: a filtered scan does not read those that come after the first GPU library.
fn most_telling(project: &Project<'_>, program: &Program, first: Use) -> Use {
    let at_top_level = |it: Use| project.event(it.unit, it.event).function.is_none();
    let computes = |it: Use| library(project, it).is_some_and(|it| !it.on_request);
    let mut others = program.uses.iter().copied().filter(|it| it.unit == first.unit);
    if computes(first) || !at_top_level(first) {
        return first;
    }
    others.find(|it| at_top_level(*it) && computes(*it)).unwrap_or(first)
}

fn library(project: &Project<'_>, it: Use) -> Option<&'static Library> {
    match project.event(it.unit, it.event).does {
        Does::ImportLibrary(library) => Some(library),
        _ => None,
    }
}

fn help(wanted: Option<&Selector>, place: &str) -> String {
    match wanted {
        Some(gpu) => format!("the policy wants {gpu}; set the mask first, {place}"),
        None => {
            format!(
                "declare the GPU in `gpupin.toml` (`gpupin init`), then set the mask first, {place}"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_message};

    #[test]
    fn a_library_that_needs_no_telling_is_named() {
        check_message(
            r#"
import cv2
import torch
if __name__ == "__main__":
    torch.zeros(1).cuda()
"#,
            &[
                "this program uses `torch`, and nothing pins its GPU before CUDA starts | the policy wants RTX 3090 with at least 20 GiB; set the mask first, here or in what starts the program",
            ],
        );
    }

    #[test]
    fn a_library_that_nobody_tells_to_use_a_gpu_uses_none() {
        check(
            r#"
import cv2
import onnxruntime
from thinc.api import Config
if __name__ == "__main__":
    session = onnxruntime.InferenceSession("model.onnx")
    session.run(None, {"image": cv2.imread("a.png")})
"#,
        );
        check(
            r#"
import spacy  # error: GP101
if __name__ == "__main__":
    spacy.prefer_gpu()
"#,
        );
        check(
            r#"
import onnxruntime as ort  # error: GP101
if __name__ == "__main__":
    ort.InferenceSession("model.onnx", providers=ort.get_available_providers())
"#,
        );
    }

    #[test]
    fn a_main_guard_may_ask_for_more() {
        check(
            r#"
import torch  # error: GP101
if __name__ == "__main__" and not is_in_ci():
    torch.zeros(1).cuda()
"#,
        );
        check(
            r#"
import torch
if __name__ == "__main__" or is_in_ci():
    print(torch.__version__)
"#,
        );
    }

    #[test]
    fn a_pin_that_takes_effect_is_enough_even_when_it_is_the_wrong_one() {
        check(
            r#"
import os
os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
os.environ["CUDA_VISIBLE_DEVICES"] = "0"
import torch
if __name__ == "__main__":
    torch.zeros(1, device="cuda")
"#,
        );
    }

    #[test]
    fn a_file_that_is_started_in_two_ways_is_told_once() {
        check_message(
            r#"
//- gpupin.toml
//- pyproject.toml
[project.scripts]
app = "app:main"
//- app.py
import torch
def main():
    torch.zeros(1).cuda()
if __name__ == "__main__":
    main()
"#,
            &[
                "this program uses `torch`, and nothing pins its GPU before CUDA starts | declare the GPU in `gpupin.toml` (`gpupin init`), then set the mask first, here or in what starts the program",
            ],
        );
    }

    #[test]
    fn the_statement_that_leads_to_the_library_is_named() {
        check(
            r#"
//- main.py
import os
from app import run  # error: GP101
if __name__ == "__main__":
    run()
//- app/__init__.py
from app.core import run
//- app/core.py
import torch
def run():
    torch.zeros(1).cuda()
"#,
        );
    }

    #[test]
    fn a_pin_in_another_module_counts_if_it_comes_first() {
        check(
            r#"
//- main.py
import pin
import torch
if __name__ == "__main__":
    torch.zeros(1).cuda()
//- pin.py
import os
os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
"#,
        );
    }

    #[test]
    fn a_library_that_a_test_replaces_is_not_used() {
        for mocked in [
            "def test_a(monkeypatch):\n    monkeypatch.setitem(sys.modules, \"torch\", object())",
            "sys.modules[\"torch\"] = object()\nimport torch\ndef test_a():\n    torch.f()",
            "@pytest.fixture\ndef torch():\n    with patch.dict(sys.modules, {\"torch\": object()}):\n        yield\ndef test_a(torch):\n    app.run()",
            "@patch.dict(\"sys.modules\", torch=object())\ndef test_a():\n    app.run()",
        ] {
            check(&format!(
                "//- test_app.py\nimport sys\nimport app\n{mocked}\n//- app.py\ndef run():\n    import torch\n"
            ));
        }
        check(
            r#"
//- test_app.py
import sys
import torch  # error: GP101
def test_a(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", object())
def test_b():
    torch.zeros(1).cuda()
"#,
        );
    }

    #[test]
    fn a_container_with_one_gpu_leaves_nothing_to_pin() {
        check(
            r#"
//- main.py
import torch
torch.zeros(1).cuda()
//- Dockerfile
FROM python
CMD ["python", "main.py"]
//- compose.yaml
services:
  app:
    command: python main.py
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              device_ids: ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"]
              capabilities: [gpu]
"#,
        );
    }

    #[test]
    fn a_library_module_is_no_program() {
        check("import torch\ndef run():\n    torch.zeros(1).cuda()\n");
    }

    #[test]
    fn an_import_for_type_checkers_uses_no_gpu() {
        check(
            r#"
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import torch
if __name__ == "__main__":
    print("hello")
"#,
        );
    }

    #[test]
    fn a_pin_that_comes_too_late_is_another_finding() {
        check(
            r#"
import os
import torch
torch.cuda.is_available()
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
if __name__ == "__main__":
    pass
"#,
        );
    }

    #[test]
    fn a_script_that_pins_what_it_starts_is_enough() {
        check(
            r#"
//- serve.py
import torch
if __name__ == "__main__":
    torch.zeros(1).cuda()
//- serve.sh
export CUDA_DEVICE_ORDER=PCI_BUS_ID
export CUDA_VISIBLE_DEVICES=1
python serve.py
"#,
        );
    }

    #[test]
    fn a_mask_for_a_child_is_no_pin_of_a_program_that_starts_cuda_itself() {
        check(
            r#"
import os
import torch  # error: GP101
if __name__ == "__main__":
    torch.zeros(3, device="cuda")
    os.system("CUDA_VISIBLE_DEVICES=GPU-8932f937 python train.py")
"#,
        );
        check(
            r#"
import os
import torch
if __name__ == "__main__":
    os.system("CUDA_VISIBLE_DEVICES=GPU-8932f937 python train.py")
"#,
        );
    }

    #[test]
    fn a_role_is_told_its_own_gpu() {
        check_message(
            r#"
//- gpupin.toml
[gpu]
name = "RTX 3090"
[roles.tts]
name = "RTX 5060 Ti"
entry-points = ["tts.py"]
//- tts.py
import torch
if __name__ == "__main__":
    torch.zeros(1).cuda()
"#,
            &[
                "this program uses `torch`, and nothing pins its GPU before CUDA starts | the policy wants RTX 5060 Ti; set the mask first, here or in what starts the program",
            ],
        );
    }

    #[test]
    fn a_hook_of_conftest_pins_the_tests_below_it() {
        check(
            r#"
//- tests/conftest.py
import os
def pytest_configure(config):
    os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
//- tests/test_model.py
import torch
def test_it_runs():
    torch.zeros(1).cuda()
"#,
        );
    }

    #[test]
    fn what_an_image_asks_for_is_a_default_for_the_service_that_builds_it() {
        check(
            r#"
//- compose.yaml
services:
  tts:
    build: .
    deploy: {resources: {reservations: {devices: [{driver: nvidia, capabilities: [gpu], device_ids: ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"]}]}}}
//- Dockerfile
FROM python
ENV NVIDIA_VISIBLE_DEVICES=all
CMD ["python3", "main.py"]
//- main.py
import torch
if __name__ == "__main__":
    torch.zeros(1).cuda()
"#,
        );
    }

    #[test]
    fn conftest_pins_the_tests_below_it() {
        check(
            r#"
//- tests/conftest.py
import os
os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
//- tests/test_model.py
import torch
def test_it_runs():
    torch.zeros(1).cuda()
"#,
        );
    }

    #[test]
    fn test_files_below_one_directory_are_one_finding() {
        check(
            r#"
//- tests/test_a.py
import torch  # error: GP101
def test_it_runs():
    torch.zeros(1).cuda()
//- tests/unit/test_b.py
import torch
def test_it_runs():
    torch.zeros(1).cuda()
//- app/__init__.py
//- app/engine_test.py
import torch
def test_it_runs():
    torch.zeros(1).cuda()
//- app/audio/__init__.py
//- app/audio/vad_test.py
import torch  # error: GP101
def test_it_runs():
    torch.zeros(1).cuda()
"#,
        );
        check_message(
            r#"
//- tests/conftest.py
import pytest
//- tests/test_a.py
import torch
def test_it_runs():
    torch.zeros(1).cuda()
//- tests/test_b.py
import torch
def test_it_runs():
    torch.zeros(1).cuda()
"#,
            &[
                "2 test files below `tests` use `torch`, and nothing pins their GPU before CUDA starts | the policy wants RTX 3090 with at least 20 GiB; set the mask first, in `tests/conftest.py`",
            ],
        );
    }

    #[test]
    fn a_finding_for_several_test_files_stands_in_their_conftest() {
        check(
            r#"
//- tests/conftest.py
import pytest  # error: GP101
//- tests/test_a.py
import torch
def test_it_runs():
    torch.zeros(1).cuda()
//- tests/test_b.py
import torch
def test_it_runs():
    torch.zeros(1).cuda()
"#,
        );
    }

    #[test]
    fn gpupin_auto_is_a_pin() {
        check(
            "import gpupin.auto\nimport torch\nif __name__ == \"__main__\":\n    torch.zeros(1).cuda()\n",
        );
    }

    #[test]
    fn every_gpu_file_carries_a_pin_where_the_policy_asks_for_it() {
        check(
            r#"
//- gpupin.toml
[gpu]
name = "RTX 3090"
[lint]
require-pin-in = "every-gpu-file"
//- model.py
import torch  # error: GP101
"#,
        );
    }

    #[test]
    fn a_variable_that_a_shell_keeps_to_itself_is_no_pin() {
        check(
            r#"
//- run.sh
CUDA_VISIBLE_DEVICES=GPU-8932f937
python x.py
//- x.py
import torch  # error: GP101
torch.zeros(1).cuda()
"#,
        );
    }

    #[test]
    fn a_container_with_one_gpu_leaves_nothing_to_choose() {
        check(
            r#"
//- run.sh
docker run --gpus device=GPU-8932f937 image python x.py
//- x.py
import torch
torch.zeros(1).cuda()
"#,
        );
    }
}
