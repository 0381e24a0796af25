use gpupin_policy::PinStyle;

use crate::{
    finding::{Finding, Severity},
    fix::pin,
    program::{Kind, Problem, Program, Use},
    project::Project,
    rules::{Check, Rule},
    source::Language,
    unit::Does,
};

pub(super) const RULE: Rule = Rule {
    code: "GP402",
    name: "missing-required-variable",
    severity: Severity::Warning,
    default: true,
    docs: include_str!("missing_required_variable.md"),
    // Programs are found by the survey, whatever bytes they hold.
    needles: &[],
    check: Check::Program(check),
};

fn check(rule: &'static Rule, project: &Project<'_>, program: &Program, found: &mut Vec<Finding>) {
    let python = matches!(
        project.unit(program.entry).source.language,
        Language::Python | Language::Notebook
    );
    // `gpupin run` sets them.
    let from_outside = project.policy.lint.style == PinStyle::External;
    if !python || from_outside || program.kind == Kind::Module || has_no_working_pin(program) {
        return;
    }
    for (name, value) in &project.policy.env {
        let Some(by) = program.uses.iter().find(|it| reads(project, it, name)) else { continue };
        if is_set(project, program, name) {
            continue;
        }
        let message = format!(
            "the policy's `[env]` wants `{name}={value}`, and this program does not set it"
        );
        let mut finding = rule.finding(program.entry, by.via, message);
        finding.programs.push(program.entry);
        found.push(pin::cure_variable(finding, project, program, (name, value)));
    }
}

/// Curing these brings the policy's variables with it.
fn has_no_working_pin(program: &Program) -> bool {
    program.problems.iter().any(|it| {
        matches!(
            it,
            Problem::Unpinned { .. }
                | Problem::Late { .. }
                | Problem::Removed { .. }
                | Problem::Widened { .. }
        )
    })
}

/// Whether a library of the program is known to read a variable.
fn reads(project: &Project<'_>, by: &Use, name: &str) -> bool {
    let Does::ImportLibrary(library) = project.event(by.unit, by.event).does else {
        return false;
    };
    // What CUDA itself reads, every library makes it read.
    library.reads.contains(&name) || name.starts_with("CUDA_")
}

fn is_set(project: &Project<'_>, program: &Program, name: &str) -> bool {
    let in_trace = program.trace.iter().any(|it| match &project.event(it.unit, it.event).does {
        Does::SetVariable(set) => set.name == name,
        Does::Gpupin => true,
        _ => false,
    });
    in_trace
        || program
            .moments
            .iter()
            .any(|it| it.pinned_by_gpupin || !it.setting(name).writes.is_empty())
}

#[cfg(test)]
mod tests {
    use crate::tests::check;

    const POLICY: &str = r#"
//- gpupin.toml
[gpu]
name = "RTX 3090"
[env]
PYTORCH_CUDA_ALLOC_CONF = "max_split_size_mb:1024"
//- main.py
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
"#;

    #[track_caller]
    fn check_program(rest: &str) {
        check(&format!("{POLICY}{rest}"));
    }

    #[test]
    fn a_torch_program_without_it_is_found() {
        check_program(
            "import torch  # error: GP402\nif __name__ == \"__main__\":\n    torch.zeros(1).cuda()\n",
        );
    }

    #[test]
    fn setting_it_is_enough() {
        check_program(
            "os.environ[\"PYTORCH_CUDA_ALLOC_CONF\"] = \"max_split_size_mb:1024\"\nimport torch\nif __name__ == \"__main__\":\n    torch.zeros(1).cuda()\n",
        );
    }

    #[test]
    fn a_program_whose_libraries_do_not_read_it_is_left_alone() {
        check_program(
            "import ctranslate2\nif __name__ == \"__main__\":\n    ctranslate2.Translator(\"m\", device=\"cuda\")\n",
        );
    }

    #[test]
    fn an_unpinned_program_has_a_bigger_problem() {
        check(
            "//- gpupin.toml\n[gpu]\nname = \"RTX 3090\"\n[env]\nPYTORCH_CUDA_ALLOC_CONF = \"max_split_size_mb:1024\"\n//- main.py\nimport torch\nif __name__ == \"__main__\":\n    torch.zeros(1).cuda()\n",
        );
    }
}
