use gpupin_policy::{Gpu, Inventory};

use crate::{
    finding::{Finding, Severity},
    program::Program,
    project::Project,
    rules::{Check, Rule, missing_verification::checks},
    unit::{Asks, Check as Checked},
};

pub(super) const RULE: Rule = Rule {
    code: "GP302",
    name: "weak-verification",
    severity: Severity::Warning,
    default: true,
    docs: include_str!("weak_verification.md"),
    // Files with checks are read where a program imports them itself.
    needles: &[],
    check: Check::Program(check),
};

fn check(rule: &'static Rule, project: &Project<'_>, program: &Program, found: &mut Vec<Finding>) {
    let all: Vec<_> = checks(project, program).collect();
    let Some((unit, event, first)) = all.first().copied() else {
        return;
    };
    if program.uses.is_empty() {
        return;
    }
    let others = others(project, program);
    let weak = if others.is_empty() {
        // Nobody says which other GPU there could be: only what any GPU passes is weak.
        all.iter().all(|(_, _, check)| passes(check, None))
    } else {
        others.iter().any(|gpu| all.iter().all(|(_, _, check)| passes(check, Some(gpu))))
    };
    if !weak {
        return;
    }
    let passing =
        others.iter().find(|gpu| all.iter().all(|(_, _, check)| passes(check, Some(gpu))));
    let who =
        passing.map_or_else(|| "any GPU".to_owned(), |gpu| format!("the {}", gpu.short_name()));
    let message = format!("{} passes on {who} too", what(first));
    let mut finding = rule.finding(unit, project.event(unit, event).span, message).with_help(
        "compare the name, UUID or compute capability of `cuda:0` with the GPU that is meant",
    );
    finding.programs.push(program.entry);
    found.push(finding);
}

/// The GPUs the program must not get: forbidden ones, or whatever else its machines have.
fn others<'p>(project: &'p Project<'_>, program: &Program) -> Vec<&'p Gpu> {
    let Some(wanted) = project.wanted(program) else {
        return Vec::new();
    };
    let gpus = || project.lock.machines().iter().flat_map(Inventory::usable);
    let forbidden: Vec<_> = gpus().filter(|it| project.is_forbidden(program, it)).collect();
    if forbidden.is_empty() { gpus().filter(|it| !wanted.matches(it)).collect() } else { forbidden }
}

/// Whether a check lets a GPU through; `None` is a GPU nothing is known of. What cannot be judged counts as a good check.
fn passes(check: &Checked, gpu: Option<&Gpu>) -> bool {
    check.asks.iter().all(|asks| match asks {
        Asks::Available | Asks::Count { .. } => true,
        // Only `cuda:0` is there under the pin; another ordinal asks about another GPU, or none.
        Asks::Name { ordinal: Some(1..), .. } => true,
        Asks::Name { texts, exact, .. } => gpu.is_some_and(|gpu| {
            let matches = |text: &String| {
                let (name, text) = (gpu.name.to_lowercase(), text.to_lowercase());
                if *exact { name == text } else { name.contains(&text) }
            };
            texts.iter().any(matches)
        }),
        Asks::Identity => false,
        Asks::Capability { at_least } => match (at_least, gpu) {
            (Some((major, minor)), Some(gpu)) => {
                let has = gpu.compute_capability;
                (has.major, has.minor) >= (u32::from(*major), u32::from(*minor))
            }
            _ => false,
        },
        Asks::Memory { at_least } => match (at_least, gpu) {
            (Some(bytes), Some(gpu)) => gpu.vram.get() >= *bytes,
            _ => false,
        },
    })
}

fn what(check: &Checked) -> &'static str {
    match check.asks.first() {
        Some(Asks::Available) => "a check that CUDA is available",
        Some(Asks::Count { .. }) => "a check of the number of GPUs",
        Some(Asks::Name { ordinal: Some(1..), .. }) => "a check of another ordinal's name",
        Some(Asks::Name { .. }) => "a check of the name",
        Some(Asks::Capability { .. }) => "a check of the compute capability",
        Some(Asks::Memory { .. }) => "a check of the memory",
        Some(Asks::Identity) | None => "this check",
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_message};

    #[test]
    fn any_gpu_is_available() {
        check(
            r#"
import sys
import torch
if __name__ == "__main__":
    if not torch.cuda.is_available():  # error: GP302
        sys.exit("no GPU")
"#,
        );
    }

    #[test]
    fn a_file_of_tests_may_be_skipped_as_a_whole() {
        check(
            r#"
//- test_app.py
import pytest
import torch
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]
def test_a():
    torch.zeros(1).cuda()
"#,
        );
        check(
            r#"
//- test_app.py
import pytest
import torch
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a():
    torch.zeros(1).cuda()
def test_b():
    pass
"#,
        );
    }

    #[test]
    fn a_fixture_that_skips_is_no_check() {
        check(
            r#"
//- test_app.py
import unittest
import pytest
import torch
@pytest.fixture(autouse=True)
def cuda():
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
class TestA(unittest.TestCase):
    def setUp(self):
        if not torch.cuda.is_available():
            raise unittest.SkipTest("no GPU")
    def test_a(self):
        torch.zeros(1).cuda()
"#,
        );
    }

    #[test]
    fn a_backend_that_must_be_the_gpu_is_asked_for_by_name() {
        check(
            r#"
import jax
if __name__ == "__main__":
    assert jax.default_backend() == "gpu"  # error: GP302
"#,
        );
    }

    #[test]
    fn an_option_that_cannot_be_had_is_no_check() {
        check(
            r#"
import torch
if __name__ == "__main__":
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA")
    assert torch.cuda.is_available() == expected
"#,
        );
    }

    #[test]
    fn a_count_is_checked_by_a_number_whatever_else_is_the_case() {
        for silent in [
            "assert torch.cuda.device_count() == EXPECTED",
            "assert out.count('x') == torch.cuda.device_count()",
            "if size > 1:\n        assert torch.cuda.device_count() == 8",
            "if size > 1:\n        self.assertEqual(torch.cuda.device_count(), 8)",
            "if size > 1 and torch.cuda.device_count() < 2:\n        raise SystemExit('two GPUs')",
        ] {
            check(&format!(
                "import torch\nfrom settings import EXPECTED\nif __name__ == '__main__':\n    {silent}\n"
            ));
        }
        for weak in [
            "assert torch.cuda.device_count() == 1  # error: GP302",
            "if torch.cuda.device_count() < 1:  # error: GP302\n        raise SystemExit('no GPU')",
            "if torch.cuda.is_available():\n        assert torch.cuda.device_count() == 1  # error: GP302",
        ] {
            check(&format!("import torch\nif __name__ == '__main__':\n    {weak}\n"));
        }
    }

    #[test]
    fn a_name_that_is_asked_for_an_option_is_a_check_still() {
        check(
            r#"
import torch
if __name__ == "__main__":
    if args.device == "cuda" and "5060" not in torch.cuda.get_device_name(0):  # error: GP302
        raise SystemExit("wrong GPU")
"#,
        );
    }

    #[test]
    fn a_name_that_only_the_right_gpu_has_is_enough() {
        check(
            r#"
import torch
if __name__ == "__main__":
    assert torch.cuda.is_available()
    assert "3090" in torch.cuda.get_device_name(0)
"#,
        );
    }

    #[test]
    fn a_test_that_is_skipped_without_a_gpu_is_no_check() {
        check(
            r#"
//- test_a.py
import pytest
import torch
def test_cuda():
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    torch.zeros(1, device="cuda")
class TestB(unittest.TestCase):
    def test_cuda(self):
        if torch.cuda.device_count() < 1:
            self.skipTest("no GPU")
        torch.zeros(1, device="cuda")
//- test_all.py
import pytest
import torch
if not torch.cuda.is_available():
    pytest.skip("no GPU", allow_module_level=True)
def test_cuda():
    torch.zeros(1, device="cuda")
//- test_device_option.py
import torch
def test_it():
    if not torch.cuda.is_available():  # error: GP302
        raise RuntimeError("no GPU")
    torch.zeros(1, device="cuda")
"#,
        );
    }

    #[test]
    fn a_name_on_another_ordinal_proves_nothing() {
        check(
            r#"
import torch
if __name__ == "__main__":
    assert "3090" in torch.cuda.get_device_name(1)  # error: GP302
"#,
        );
    }

    #[test]
    fn a_capability_that_the_forbidden_gpu_has_too_is_weak() {
        check_message(
            r#"
import torch
if __name__ == "__main__":
    assert torch.cuda.get_device_capability(0) >= (8, 6)
"#,
            &[
                "a check of the compute capability passes on the RTX 5060 Ti too | compare the name, UUID or compute capability of `cuda:0` with the GPU that is meant",
            ],
        );
    }

    #[test]
    fn a_question_that_fails_nothing_is_no_check() {
        check(
            r#"
import torch
if __name__ == "__main__":
    print(torch.cuda.is_available())
"#,
        );
    }
}
