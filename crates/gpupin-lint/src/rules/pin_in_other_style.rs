use gpupin_policy::PinStyle;

use crate::{
    finding::{Finding, Severity},
    fix::pin,
    needle::Needle,
    project::Project,
    rules::{Check, Rule},
    unit::{Unit, UnitId},
};

pub(super) const RULE: Rule = Rule {
    code: "GP113",
    name: "pin-in-other-style",
    severity: Severity::Warning,
    default: true,
    docs: include_str!("pin_in_other_style.md"),
    needles: &[Needle::new("gpupin: begin of the pin")],
    check: Check::Unit(check),
};

fn check(
    rule: &'static Rule,
    project: &Project<'_>,
    id: UnitId,
    _: &Unit,
    found: &mut Vec<Finding>,
) {
    let style = project.policy.lint.style;
    if style == PinStyle::Header {
        return;
    }
    if let Some(span) = pin::block_of(project, id) {
        let message = format!(
            "`gpupin fix` wrote this pin in the style `header`, and the policy's style is `{}`",
            style.as_str()
        );
        found.push(pin::restyled(rule.finding(id, span, message), project, id));
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_fix};

    const BLOCK: &str = "# gpupin: begin of the pin, written by `gpupin fix`\nimport os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"GPU-8932f937-d72c-4106-c12f-20bd9faed9f6\"\n# gpupin: end of the pin\n\n";

    fn policy(style: &str) -> String {
        format!("//- gpupin.toml\n[gpu]\nname = \"RTX 3090\"\n[lint]\nstyle = \"{style}\"\n")
    }

    #[test]
    fn a_block_becomes_an_import_or_goes() {
        for (style, after) in
            [("import", "import gpupin.auto  # pins the GPU of gpupin.toml\n\n"), ("external", "")]
        {
            check_fix(
                &format!("{}//- main.py\n{BLOCK}import torch\n", policy(style)),
                &format!("//- main.py\n{after}import torch\n"),
            );
        }
    }

    #[test]
    fn a_block_of_the_style_is_fine() {
        check(&format!("{}//- main.py\n{BLOCK}import torch\n", policy("header")));
    }
}
