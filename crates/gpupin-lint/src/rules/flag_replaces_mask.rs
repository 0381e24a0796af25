use std::ops::Range;

use gpupin_policy::visibility::Environment;

use crate::{
    catalogue::Numbering,
    finding::{Edit, Finding, Safety, Severity},
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
        let mut removed = None;
        let (span, by, values) = match &event.does {
            // A setting called `visible_devices` is not known to reach anything.
            Does::Choose(choice)
                if choice.numbering == Numbering::BaseOrder
                    && choice.purpose != Purpose::Setting =>
            {
                (event.span, choice.by.as_str(), texts(project, id, &choice.ordinals))
            }
            Does::Start(start) => match flag(project, id, start) {
                Some(flag) => {
                    removed = without(unit, start, flag.words);
                    (flag.span, flag.name, flag.values)
                }
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
        let finding = match help(project, &values) {
            Some(help) => finding.with_help(help),
            None => finding,
        };
        found.push(match removed {
            Some(span) => {
                let edit = Edit { unit: id, span, replacement: String::new() };
                let why = "the program then uses the GPUs of the mask it inherits, and the launcher may start another number of processes";
                let title = format!("Leave `{by}` out");
                finding.with_fix(title, Safety::Unsafe(why.to_owned()), vec![edit])
            }
            None => finding,
        });
    }
}

/// The option of a launcher that writes the mask of its child.
struct Flag<'a> {
    span: Span,
    name: &'a str,
    values: Vec<String>,
    /// Which of the command's words it is, with its value.
    words: Range<usize>,
}

fn flag<'a>(project: &Project<'_>, id: UnitId, start: &'a Start) -> Option<Flag<'a>> {
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
            let values = vec![value.to_owned()];
            return Some(Flag { span: place.span, name, values, words: at..at + 1 });
        }
        let (_, value) = words.get(at + 1)?;
        let values = texts(project, id, std::slice::from_ref(*value));
        let span = place.span.cover(value.span);
        return Some(Flag { span, name, values, words: at..at + 2 });
    }
    None
}

/// The place of words with what separates them from the next, or from those before: nothing but blanks, quotes, commas
/// and what continues a line. `None` where the words do not stand in the file one by one.
fn without(unit: &Unit, start: &Start, words: Range<usize>) -> Option<Span> {
    let text = &unit.source.text;
    let before = start.words.get(words.start.checked_sub(1)?)?;
    let taken = start.words.get(words.clone())?;
    let next = start.words.get(words.end);
    let stands = |word: &Spanned| {
        literal(word).is_some_and(|it| unit.source.slice(word.span).trim_matches(['"', '\'']) == it)
    };
    let shown = [Some(before), next].into_iter().flatten().chain(taken);
    if !shown.clone().all(stands) {
        return None;
    }
    let around = start.words.get(words.start - 1..(words.end + 1).min(start.words.len()))?;
    let separates = |pair: &[Spanned]| {
        let between = text.get(pair[0].span.range().end..pair[1].span.range().start);
        let is_separator = |it: char| it.is_whitespace() || "\"',\\`^-".contains(it);
        between.is_some_and(|it| !it.is_empty() && it.chars().all(is_separator))
    };
    if !around.windows(2).all(separates) {
        return None;
    }
    let (first, last) = (taken.first()?.span, taken.last()?.span);
    Some(match next {
        Some(next) => Span { start: first.start, end: next.span.start },
        None => Span { start: before.span.end, end: last.end },
    })
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
    use crate::tests::{check, check_fix, check_message, check_no_fix};

    #[test]
    fn the_fix_leaves_the_flag_out() {
        check_fix(
            r#"
//- run.sh
accelerate launch --gpu_ids 1 train.py --seed 1
accelerate launch --gpu_ids=1 train.py  # why
deepspeed --include "localhost:1" train.py
accelerate launch \
    --gpu_ids 1 \
    --num_processes 1 \
    train.py
python main.py --cuda-device 1
python main.py --cuda-device 1 && echo done
//- run.ps1
accelerate launch --gpu_ids 1 train.py
//- run.bat
accelerate launch --gpu_ids 1 train.py
//- Makefile
train:
	accelerate launch --gpu_ids 1 train.py
//- Dockerfile
FROM x
RUN accelerate launch --gpu_ids 1 train.py
CMD ["python", "main.py", "--cuda-device", "1"]
//- compose.yaml
services:
  a:
    image: b
    command: ["accelerate", "launch", "--gpu_ids", "1", "train.py"]
  b:
    image: b
    command: accelerate launch --gpu_ids 1 train.py
  c:
    image: b
    command:
      - accelerate
      - launch
      - --gpu_ids
      - "1"
      - train.py
//- start.py
import subprocess
subprocess.run(["accelerate", "launch", "--gpu_ids", "1", "train.py"])
subprocess.run([
    "python",
    "main.py",
    "--cuda-device",
    "1",
])
subprocess.run("accelerate launch --gpu_ids 1 train.py", shell=True)
"#,
            r#"
//- run.sh
accelerate launch train.py --seed 1
accelerate launch train.py  # why
deepspeed train.py
accelerate launch \
    --num_processes 1 \
    train.py
python main.py
python main.py && echo done
//- run.ps1
accelerate launch train.py
//- run.bat
accelerate launch train.py
//- Makefile
train:
	accelerate launch train.py
//- Dockerfile
FROM x
RUN accelerate launch train.py
CMD ["python", "main.py"]
//- compose.yaml
services:
  a:
    image: b
    command: ["accelerate", "launch", "train.py"]
  b:
    image: b
    command: accelerate launch train.py
  c:
    image: b
    command:
      - accelerate
      - launch
      - train.py
//- start.py
import subprocess
subprocess.run(["accelerate", "launch", "train.py"])
subprocess.run([
    "python",
    "main.py",
])
subprocess.run("accelerate launch train.py", shell=True)
"#,
        );
    }

    #[test]
    fn words_that_do_not_stand_in_the_file_cannot_be_taken_out() {
        check_no_fix(
            r#"
import subprocess
GPU = "1"
subprocess.run("accelerate launch --gpu_ids 1 train.py".split())
subprocess.run(["accelerate", "launch", "--gpu_ids", GPU, "train.py"])
subprocess.run([
    "accelerate", "launch",
    "--gpu_ids", "1",  # the large one
    "train.py",
])
"#,
        );
    }

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
