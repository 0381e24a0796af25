use gpupin_policy::visibility::Environment;

use crate::{
    catalogue::Numbering,
    finding::{Finding, Severity},
    meant::hit,
    needle::Needle,
    project::{Literal, Project},
    rules::{Check, Rule},
    span::Span,
    unit::{Does, Purpose, Start, Unit, UnitId},
    value::{Spanned, Value},
};

pub(super) const RULE: Rule = Rule {
    code: "GP205",
    name: "flag-replaces-mask",
    severity: Severity::Warning,
    default: true,
    docs: include_str!("flag_replaces_mask.md"),
    needles: &[
        Needle::new("--gpu_ids"),
        Needle::new("--gpu-ids"),
        Needle::new("--cuda-device"),
        Needle::new("--default-device"),
        Needle::new("--include"),
        Needle::new("deepspeed -i"),
        Needle::new("LocalCUDACluster"),
    ],
    check: Check::Unit(check),
};

fn check(
    rule: &'static Rule,
    project: &Project<'_>,
    id: UnitId,
    unit: &Unit,
    found: &mut Vec<Finding>,
) {
    for event in &unit.events {
        let (span, by, values) = match &event.does {
            // A setting called `visible_devices` is not known to reach anything.
            Does::Choose(choice)
                if choice.numbering == Numbering::BaseOrder
                    && choice.purpose != Purpose::Setting =>
            {
                (event.span, choice.by.as_str(), texts(project, id, &choice.ordinals))
            }
            Does::Start(start) => match flag(project, id, start) {
                Some(flag) => flag,
                None => continue,
            },
            _ => continue,
        };
        // A UUID names the same GPU whatever the mask was.
        let is_uuid = |it: &String| it.starts_with("GPU-") || it.starts_with("MIG-");
        if !values.is_empty() && values.iter().all(is_uuid) {
            continue;
        }
        let message = format!("`{by}` replaces the mask this program inherits");
        let finding = rule.finding(id, span, message);
        found.push(match help(project, &values) {
            Some(help) => finding.with_help(help),
            None => finding,
        });
    }
}

/// The option of a launcher that writes the mask of its child: where, how it is called, its values.
fn flag<'a>(
    project: &Project<'_>,
    id: UnitId,
    start: &'a Start,
) -> Option<(Span, &'a str, Vec<String>)> {
    let words: Vec<(&str, &Spanned)> =
        start.words.iter().map(|it| (literal(it).unwrap_or_default(), it)).collect();
    let program = |it: &&str| it.rsplit(['/', '\\']).next().unwrap_or(it).to_ascii_lowercase();
    let runs = |name: &str| words.iter().any(|(it, _)| program(it) == name);
    for (at, (word, place)) in words.iter().enumerate() {
        let (name, inline) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (*word, None),
        };
        let writes_mask = match name {
            "--gpu_ids" | "--gpu-ids" => runs("accelerate"),
            "--include" | "-i" => runs("deepspeed"),
            // ComfyUI is started as `main.py`; another program's option of this name is its own.
            "--cuda-device" | "--default-device" => {
                runs("main.py")
                    || words.iter().any(|it| it.0.to_ascii_lowercase().contains("comfy"))
            }
            _ => false,
        };
        if !writes_mask {
            continue;
        }
        if let Some(value) = inline {
            return Some((place.span, name, vec![value.to_owned()]));
        }
        let (_, value) = words.get(at + 1)?;
        let values = texts(project, id, std::slice::from_ref(*value));
        return Some((place.span.cover(value.span), name, values));
    }
    None
}

fn literal(word: &Spanned) -> Option<&str> {
    match &word.value {
        Value::Str(text) => Some(text),
        _ => None,
    }
}

/// The values as texts, where they are known.
fn texts(project: &Project<'_>, id: UnitId, values: &[Spanned]) -> Vec<String> {
    let mut texts = Vec::new();
    for known in values.iter().flat_map(|it| project.known(id, it)) {
        flatten(&known.literal, &mut texts);
    }
    texts
}

fn flatten(literal: &Literal, texts: &mut Vec<String>) {
    match literal {
        Literal::Str(text) => texts.push(text.clone()),
        Literal::Int(number) => texts.push(number.to_string()),
        Literal::List(items) => items.iter().for_each(|it| flatten(&it.literal, texts)),
        Literal::None | Literal::Bool(_) | Literal::Float(_) | Literal::NvmlIndex => {}
    }
}

/// What the number means, as far as the recorded machines tell.
fn help(project: &Project<'_>, values: &[String]) -> Option<String> {
    let [value] = values else { return None };
    // `localhost:1` of deepspeed.
    let index = value.strip_prefix("localhost:").unwrap_or(value);
    if index.is_empty() || !index.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let environment = |order: Option<&str>| Environment {
        cuda_visible_devices: Some(index.to_owned()),
        cuda_device_order: order.map(str::to_owned),
        ..Environment::default()
    };
    if let Some(name) = hit(project, &environment(None), 0) {
        return Some(format!("index {index} is the {name}"));
    }
    hit(project, &environment(Some("PCI_BUS_ID")), 0).map(|name| {
        format!("index {index} counts in CUDA's order: by PCI bus it is the {name}, without `CUDA_DEVICE_ORDER` perhaps another GPU")
    })
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_message};

    #[test]
    fn flags_that_write_the_mask_of_their_child_are_reported() {
        check(
            "
//- run.sh
accelerate launch --gpu_ids 1 train.py  # error: GP205
accelerate launch --num_processes 1 train.py
deepspeed --include localhost:1 train.py  # error: GP205
python main.py --cuda-device 1  # error: GP205
python serve.py --cuda-device 0
",
        );
    }

    #[test]
    fn a_uuid_names_the_same_gpu_whatever_the_mask_was() {
        check(
            "
//- run.sh
accelerate launch --gpu_ids GPU-8932f937-d72c-4106-c12f-20bd9faed9f6 train.py
",
        );
    }

    #[test]
    fn the_gpu_is_named_where_the_order_decides() {
        check_message(
            "
//- run.sh
accelerate launch --gpu_ids 1 train.py
",
            &[
                "`--gpu_ids` replaces the mask this program inherits | index 1 counts in CUDA's order: by PCI bus it is the RTX 3090, without `CUDA_DEVICE_ORDER` perhaps another GPU",
            ],
        );
    }
}
