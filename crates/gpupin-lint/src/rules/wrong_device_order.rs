use crate::{
    finding::{Edit, Finding, Severity},
    fix::{mask, reach},
    needle::Needle,
    program::ORDER,
    project::{Literal, Project},
    rules::{Check, Rule},
    span::Span,
    unit::{Does, EventId, SetHow, Unit, UnitId},
    value::Spanned,
};

pub(super) const RULE: Rule = Rule {
    code: "GP104",
    name: "wrong-device-order",
    severity: Severity::Error,
    default: true,
    docs: include_str!("wrong_device_order.md"),
    needles: &[Needle::new("CUDA_DEVICE_ORDER")],
    check: Check::Unit(check),
};

const RIGHT: &str = "PCI_BUS_ID";

fn check(
    rule: &'static Rule,
    project: &Project<'_>,
    id: UnitId,
    unit: &Unit,
    found: &mut Vec<Finding>,
) {
    for (at, event) in (0..).map(EventId).zip(&unit.events) {
        let settings: Vec<(&str, &Spanned)> = match &event.does {
            Does::SetVariable(it) if it.how != SetHow::Temporary => {
                vec![(it.name.as_str(), &it.value)]
            }
            Does::Start(it) => {
                it.environment.variables().iter().map(|it| (it.0.as_str(), &it.1)).collect()
            }
            _ => continue,
        };
        for (_, value) in settings.into_iter().filter(|it| it.0 == ORDER) {
            let wrong = project.known(id, value).into_iter().find_map(|it| match it.literal {
                Literal::Str(text) if text != RIGHT => Some(text),
                _ => None,
            });
            let Some(wrong) = wrong else { continue };
            let span = if event.span.contains(value.span) { event.span } else { value.span };
            let mut finding = rule.finding(id, span, message(&wrong));
            if let Some(edit) = correct(id, unit, value.span, &wrong) {
                let safety = reach::with(project, (id, at), ORDER, RIGHT).map_err(|why| {
                    format!(
                        "where the two orders differ, it changes which GPU an index means: {why}"
                    )
                });
                finding = finding.with_fix(
                    format!("Replace `{wrong}` by `{RIGHT}`"),
                    reach::safety(safety),
                    [vec![edit], mask::for_order(project, (id, at))].concat(),
                );
            }
            found.push(finding);
        }
    }
}

fn message(wrong: &str) -> String {
    if wrong == "FASTEST_FIRST" {
        format!(
            "`{ORDER}` is `FASTEST_FIRST`: which GPU comes first is not documented, use `{RIGHT}`"
        )
    } else {
        format!("`{ORDER}` is `{wrong}`, with which CUDA does not start: use `{RIGHT}`")
    }
}

/// Replaces the value where it stands literally.
fn correct(id: UnitId, unit: &Unit, value: Span, wrong: &str) -> Option<Edit> {
    let at = unit.source.slice(value).find(wrong).filter(|_| !wrong.is_empty())?;
    let start = value.start as usize + at;
    Some(Edit {
        unit: id,
        span: Span::new(start, start + wrong.len()),
        replacement: RIGHT.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use crate::{
        selection::Selection,
        tests::{Case, check, check_fix, check_message},
    };

    #[test]
    fn an_index_that_names_another_gpu_then_is_corrected_too() {
        let unit = |order: &str, mask: &str| {
            format!(
                "//- tts.service\n[Service]\nEnvironment=CUDA_DEVICE_ORDER={order}\nEnvironment=CUDA_VISIBLE_DEVICES={mask}\nExecStart=python main.py\n//- main.py\nimport os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"GPU-8932f937-d72c-4106-c12f-20bd9faed9f6\"\nimport torch\n"
            )
        };
        check_fix(
            &unit("FASTEST_FIRST", "0"),
            &unit("PCI_BUS_ID", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"),
        );
        check_fix(&unit("FASTEST_FIRST", "1"), &unit("PCI_BUS_ID", "1"));
    }

    #[test]
    fn edits_of_an_index_in_front_of_the_order_come_first() {
        let mut case = Case::parse(
            "//- tts.service\n[Service]\nEnvironment=CUDA_VISIBLE_DEVICES=0\nEnvironment=CUDA_DEVICE_ORDER=FASTEST_FIRST\nExecStart=python main.py\n//- main.py\nimport torch\n",
            "main.py",
        );
        let analysis = case.analyze(&Selection::only([&super::RULE]));
        let [finding] = &*analysis.findings else { panic!("{:?}", analysis.findings) };
        let edits = &finding.fix.as_ref().unwrap().edits;
        assert!(edits.len() == 2 && edits.is_sorted_by_key(|it| it.span), "{edits:?}");
    }

    #[test]
    fn a_misspelt_order_is_found() {
        check("import os\nos.environ[\"CUDA_DEVICE_ORDER\"] = \"PCI_BUS_I\"  # error: GP104\n");
    }

    #[test]
    fn a_value_of_another_module_is_followed() {
        check(
            r#"
//- main.py
import os
import config
os.environ["CUDA_DEVICE_ORDER"] = config.ORDER  # error: GP104
//- config.py
ORDER = "FASTEST_FIRST"
"#,
        );
    }

    #[test]
    fn an_order_that_cuda_does_not_know_hides_every_gpu() {
        check_message(
            "import os\nos.environ[\"CUDA_DEVICE_ORDER\"] = \"pci_bus_id\"\n",
            &[
                "`CUDA_DEVICE_ORDER` is `pci_bus_id`, with which CUDA does not start: use `PCI_BUS_ID`",
            ],
        );
    }

    #[test]
    fn the_right_order_is_no_finding() {
        check("//- run.sh\nexport CUDA_DEVICE_ORDER=PCI_BUS_ID\n");
    }

    #[test]
    fn a_service_is_judged_too() {
        check(
            "//- tts.service\n[Service]\nEnvironment=CUDA_DEVICE_ORDER=FASTEST_FIRST  # error: GP104\nExecStart=/usr/bin/tts\n",
        );
    }

    #[test]
    fn fix_replaces_the_value() {
        check_fix(
            "import os\nos.environ[\"CUDA_DEVICE_ORDER\"] = \"FASTEST_FIRST\"\n",
            "import os\nos.environ[\"CUDA_DEVICE_ORDER\"] = \"PCI_BUS_ID\"\n",
        );
    }
}
