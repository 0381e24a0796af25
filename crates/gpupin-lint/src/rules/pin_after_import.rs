use crate::{
    finding::{Finding, Severity},
    fix::pin,
    needle::Needle,
    program::{
        Earlier, Problem,
        pins::{by_place, entries},
    },
    project::Project,
    rules::{Check, Rule, pin_after_freeze::name_of},
    unit::{Does, EventId, UnitId},
};

pub(super) const RULE: Rule = Rule {
    code: "GP106",
    name: "pin-after-import",
    severity: Severity::Warning,
    default: true,
    docs: include_str!("pin_after_import.md"),
    needles: &[
        Needle::new("CUDA_VISIBLE_DEVICES"),
        Needle::new("CUDA_DEVICE_ORDER"),
        Needle::new("_ALLOC_CONF"),
    ],
    check: Check::Programs(check),
};

fn check(rule: &'static Rule, project: &Project<'_>, found: &mut Vec<Finding>) {
    let fragile = by_place(project, |it| match it {
        Problem::Fragile { settings, by, may_be_frozen } => {
            let (unit, first) = *settings.first()?;
            Some(((unit, project.event(unit, first).span), (settings, *by, *may_be_frozen)))
        }
        _ => None,
    });
    for ((settings, by, may_be_frozen), programs) in fragile {
        let Some((unit, first)) = settings.first().copied() else { continue };
        let message = message(project, settings, by, may_be_frozen);
        let earlier = project.event(by.unit, by.event).span;
        let related = if may_be_frozen {
            "this may read the environment"
        } else {
            "the library is imported here"
        };
        let mut finding = rule
            .finding(unit, project.event(unit, first).span, message)
            .with_related(by.unit, earlier, related)
            .with_help("move the block above the first import of a GPU library");
        finding.programs = entries(&programs);
        found.push(pin::cure(finding, project, &programs, settings));
    }
}

fn message(
    project: &Project<'_>,
    settings: &[(UnitId, EventId)],
    by: Earlier,
    may_be_frozen: bool,
) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (unit, event) in settings {
        if let Does::SetVariable(it) = &project.event(*unit, *event).does
            && !names.contains(&it.name.as_str())
        {
            names.push(&it.name);
        }
    }
    let only_allocator = names.iter().all(|it| it.ends_with("_ALLOC_CONF"));
    let (count, earlier) = (names.len(), name_of(project, by));
    let names = names.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ");
    let are = if count == 1 { "is" } else { "are" };
    if may_be_frozen {
        format!("{names} {are} set after {earlier}, which may freeze the environment")
    } else if only_allocator {
        format!("{names} {are} set after {earlier}: the allocator may have read it already")
    } else {
        format!(
            "{names} {are} set after {earlier}: it works only while nothing before it touches the GPU"
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_message};

    #[test]
    fn a_block_of_settings_is_one_finding() {
        check(
            r#"
import os
import torch
os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # error: GP106
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
torch.zeros(1).cuda()
"#,
        );
    }

    #[test]
    fn a_value_that_is_there_already_does_not_part_a_block() {
        check(
            r#"
//- main.py
import os
import torch
os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # error: GP106
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "max_split_size_mb:1024"
torch.zeros(1).cuda()
//- run.sh
export CUDA_VISIBLE_DEVICES=1
python main.py
"#,
        );
    }

    #[test]
    fn a_default_is_not_certainly_there_already() {
        check(
            r#"
//- main.py
import os
import torch
os.environ["CUDA_VISIBLE_DEVICES"] = "1"  # error: GP106
torch.zeros(1).cuda()
//- run.sh
export CUDA_DEVICE_ORDER=PCI_BUS_ID
export CUDA_VISIBLE_DEVICES=${GPU:-1}
python main.py
"#,
        );
    }

    #[test]
    fn the_import_may_be_in_another_module() {
        check(
            r#"
//- main.py
import app
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"  # error: GP106
//- app.py
import torch
"#,
        );
    }

    #[test]
    fn a_pin_above_the_import_is_no_finding() {
        check(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
import torch
"#,
        );
    }

    #[test]
    fn a_reported_freeze_is_only_possible() {
        check_message(
            r#"
import os
import deepspeed
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
"#,
            &[
                "`CUDA_VISIBLE_DEVICES` is set after `import deepspeed`, which may freeze the environment | move the block above the first import of a GPU library",
            ],
        );
    }

    #[test]
    fn a_monitor_library_is_no_gpu_library() {
        check(
            r#"
import os
import pynvml
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
"#,
        );
    }
}
