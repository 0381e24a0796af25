use gpupin_policy::visibility::{Mask, MaskKind};

use crate::{
    finding::{Edit, Finding, Safety, Severity},
    fix::pin::PCI_BUS_ID,
    needle::Needle,
    program::{Happening, MASK, ORDER, Program, Write, pins::sure_text},
    project::Project,
    rules::{Check, Rule},
    source::{Language, Source},
    span::Span,
    unit::{ChildEnvironment, Does, Event, Runs, Start, Unit},
    value::Name,
};

pub(super) const RULE: Rule = Rule {
    code: "GP109",
    name: "pin-dropped-in-child",
    severity: Severity::Warning,
    default: true,
    docs: include_str!("pin_dropped_in_child.md"),
    needles: &[
        Needle::new("env="),
        Needle::new("env -"),
        Needle::new("execve("),
        Needle::new("execle("),
        Needle::new("execvpe("),
        Needle::new("spawnve("),
        Needle::new("spawnle("),
        Needle::new("spawnvpe("),
        Needle::new("sudo").not_in_python(),
    ],
    check: Check::Program(check),
};

fn check(rule: &'static Rule, project: &Project<'_>, program: &Program, found: &mut Vec<Finding>) {
    for (at, it) in program.trace.iter().enumerate() {
        let event = project.event(it.unit, it.event);
        let Does::Start(start) = &event.does else { continue };
        // A container never has its starter's environment: what it gets is said where it is made.
        if start.service.is_some() || !may_use_the_gpu(start) || !loses_the_mask(&start.environment)
        {
            continue;
        }
        if !pinned_before(project, program, at, it) {
            continue;
        }
        let message = format!("the child's environment leaves out `{MASK}`: it sees every GPU");
        let help = help(&project.unit(it.unit).source, event.span);
        let mut finding = rule.finding(it.unit, event.span, message).with_help(help);
        finding.programs.push(program.entry);
        let unit = project.unit(it.unit);
        let edit = match unit.source.language {
            Language::Python => in_python(unit, event, start),
            Language::Shell => in_shell(unit, event, order(project, program, at)),
            _ => None,
        };
        found.push(match edit {
            Some((at, replacement)) => {
                let span = Span::new(at, at);
                let why = "the mask may have been left out on purpose, for a child that is to use another GPU";
                let edit = Edit { unit: it.unit, span, replacement };
                finding.with_fix("Hand the pin on", Safety::Unsafe(why.to_owned()), vec![edit])
            }
            None => finding,
        });
    }
}

/// Where to write what, so that a child starts from its parent's environment: with the order that the mask needs, and
/// whether or not the mask is set on every way to it.
fn in_python(unit: &Unit, event: &Event, start: &Start) -> Option<(usize, String)> {
    let ChildEnvironment::Only(_) = start.environment else { return None };
    let imports_os = unit.imported_names.get("os").and_then(Name::library_path);
    imports_os.filter(|it| *it == "os")?;
    let at = behind(unit, event, "env={").or_else(|| named_dictionary(unit, event))?;
    let rest = &unit.source.text[at..];
    let inner = rest.trim_start();
    let blanks = &rest[..rest.len() - inner.len()];
    let added = if inner.starts_with('}') {
        "**os.environ".to_owned()
    } else if blanks.contains('\n') {
        format!("{blanks}**os.environ,")
    } else {
        "**os.environ, ".to_owned()
    };
    Some((at, added))
}

/// The order that goes with the mask that a child is handed.
#[derive(Clone, Copy)]
enum Order {
    /// A mask that needs none.
    None,
    /// The parent has one.
    Parents,
    /// The parent has none yet: another rule's fix gives it this one.
    Fixed,
}

fn order(project: &Project<'_>, program: &Program, at: usize) -> Order {
    if sets_before(project, program, at, ORDER) {
        return Order::Parents;
    }
    let is_index = |it: &Happening| {
        let write = Write::of(it.unit, it.event);
        matches!(&project.event(it.unit, it.event).does, Does::SetVariable(set) if set.name == MASK)
            && sure_text(project, write).is_none_or(|it| Mask::parse(&it).kind == MaskKind::Indices)
    };
    if program.trace[..at].iter().any(is_index) { Order::Fixed } else { Order::None }
}

/// Where to write what, so that a command gets the mask of its script.
fn in_shell(unit: &Unit, event: &Event, order: Order) -> Option<(usize, String)> {
    // Inside of quotes others would end them.
    let before = &unit.source.text[..event.span.range().start];
    if before.rsplit('\n').next().is_some_and(|it| it.contains(['"', '\''])) {
        return None;
    }
    if let Some(at) = behind(unit, event, "env -i ") {
        let order = match order {
            Order::None => String::new(),
            Order::Parents => format!("{ORDER}=\"${ORDER}\" "),
            Order::Fixed => format!("{ORDER}={PCI_BUS_ID} "),
        };
        return Some((at, format!("{MASK}=\"${MASK}\" {order}")));
    }
    unit.source.slice(event.span).starts_with("sudo ").then_some(())?;
    let names = match order {
        Order::None => MASK.to_owned(),
        Order::Parents | Order::Fixed => format!("{MASK},{ORDER}"),
    };
    Some((behind(unit, event, "sudo ")?, format!("--preserve-env={names} ")))
}

/// The place behind the only such text of an event.
fn behind(unit: &Unit, event: &Event, opening: &str) -> Option<usize> {
    let text = unit.source.slice(event.span);
    let mut found = text.match_indices(opening).map(|it| it.0 + opening.len());
    let at = found.next()?;
    found.next().is_none().then_some(event.span.range().start + at)
}

/// Where the dictionary begins that a call gets by name (`env=env`), if it stands before the call, in the same function,
/// and nothing between the two is about the mask, which may not be set before.
fn named_dictionary(unit: &Unit, event: &Event) -> Option<usize> {
    let text = &unit.source.text;
    let (_, argument) = unit.source.slice(event.span).split_once("env=")?;
    let is_word = |it: char| it.is_alphanumeric() || it == '_';
    let name = argument.split(|it| !is_word(it)).next().filter(|it| !it.is_empty())?;
    let function = event.function.as_ref().and_then(|it| unit.functions.get(it));
    let start = function.map_or(0, |it| it.span.range().start);
    let before = text.get(start..event.span.range().start)?;
    let assignment = format!("{name} = {{");
    let mut found = before
        .match_indices(&assignment)
        .filter(|it| before[..it.0].rsplit('\n').next().is_some_and(|it| it.trim().is_empty()));
    let (at, _) = found.next()?;
    let is_sole = found.next().is_none() && !before[at..].contains(MASK);
    is_sole.then_some(start + at + assignment.len())
}

/// How the child keeps the mask, in the words of what starts it.
fn help(source: &Source, place: Span) -> String {
    let text = source.slice(place);
    match source.language {
        Language::Python | Language::Notebook if !text.contains("sudo") => {
            "start from the parent's environment: `env={**os.environ, …}`".to_owned()
        }
        _ if text.contains("sudo") || text.contains("doas") => {
            format!("`sudo --preserve-env={MASK}` hands it on")
        }
        Language::Batch | Language::PowerShell => format!("give the child `{MASK}` too"),
        _ => format!("hand it on: `env … {MASK}=\"${MASK}\"`"),
    }
}

/// A child that is no Python and no script of ours would not load a GPU library that we know of.
fn may_use_the_gpu(start: &Start) -> bool {
    match &start.runs {
        Runs::PythonFile(_) | Runs::PythonModule(_) | Runs::Pytest(_) | Runs::Script(_) => true,
        Runs::Gpupin(_) | Runs::Other(_) | Runs::Unknown => false,
    }
}

fn loses_the_mask(environment: &ChildEnvironment) -> bool {
    let sets = |variables: &[(String, _)]| variables.iter().any(|it| it.0 == MASK);
    match environment {
        ChildEnvironment::Only(variables) => !sets(variables),
        ChildEnvironment::Without { removed, set } => {
            removed.iter().any(|it| it == MASK) && !sets(set)
        }
        ChildEnvironment::Inherited(_) | ChildEnvironment::Unknown => false,
    }
}

/// There is a pin to lose: the program has set one before, or whoever starts it has.
fn pinned_before(project: &Project<'_>, program: &Program, at: usize, start: &Happening) -> bool {
    let pins = |it: &Happening| matches!(project.event(it.unit, it.event).does, Does::Gpupin);
    start.pinned_by_gpupin
        || program.trace[..at].iter().any(pins)
        || sets_before(project, program, at, MASK)
}

fn sets_before(project: &Project<'_>, program: &Program, at: usize, variable: &str) -> bool {
    let sets = |it: &Happening| matches!(&project.event(it.unit, it.event).does, Does::SetVariable(set) if set.name == variable);
    program.trace[..at].iter().any(sets)
        || program
            .moments
            .iter()
            .any(|it| it.setting(variable).writes.iter().any(|it| !program.runs(it.unit)))
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_fix, check_message, check_no_fix};

    #[test]
    fn the_fix_hands_the_pin_on() {
        check_fix(
            r#"
import os
import subprocess
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
subprocess.run(["python", "a.py"], env={"PORT": "8000"})
subprocess.run(["python", "b.py"], env={})
os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
subprocess.run(
    ["python", "c.py"],
    env={
        "PORT": "8000",  # why
    },
)
//- run.sh
export CUDA_VISIBLE_DEVICES=GPU-8932f937
env -i PATH="$PATH" python a.py
sudo python a.py
sudo -u me python a.py
"#,
            r#"
import os
import subprocess
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
subprocess.run(["python", "a.py"], env={**os.environ, "PORT": "8000"})
subprocess.run(["python", "b.py"], env={**os.environ})
os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
subprocess.run(
    ["python", "c.py"],
    env={
        **os.environ,
        "PORT": "8000",  # why
    },
)
//- run.sh
export CUDA_VISIBLE_DEVICES=GPU-8932f937
env -i CUDA_VISIBLE_DEVICES="$CUDA_VISIBLE_DEVICES" PATH="$PATH" python a.py
sudo --preserve-env=CUDA_VISIBLE_DEVICES python a.py
sudo --preserve-env=CUDA_VISIBLE_DEVICES -u me python a.py
"#,
        );
    }

    #[test]
    fn a_dictionary_with_a_name_gets_it_where_it_stands() {
        check_fix(
            r#"
import os
import subprocess
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
def start():
    env = {
        "PATH": os.environ["PATH"],
    }
    subprocess.Popen(["python", "a.py"], env=env)
start()
"#,
            r#"
import os
import subprocess
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
def start():
    env = {
        **os.environ,
        "PATH": os.environ["PATH"],
    }
    subprocess.Popen(["python", "a.py"], env=env)
start()
"#,
        );
        check_no_fix(
            r#"
import os
import subprocess
env = {"PATH": os.environ["PATH"]}
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
subprocess.Popen(["python", "a.py"], env=env)
"#,
        );
    }

    #[test]
    fn an_index_is_handed_on_with_its_order() {
        for (order, handed) in [
            ("", "CUDA_DEVICE_ORDER=PCI_BUS_ID "),
            ("export CUDA_DEVICE_ORDER=PCI_BUS_ID\n", "CUDA_DEVICE_ORDER=\"$CUDA_DEVICE_ORDER\" "),
        ] {
            let script = |hands: &str, keeps: &str| {
                format!(
                    "//- run.sh\n{order}export CUDA_VISIBLE_DEVICES=1\nenv -i {hands}python a.py\nsudo {keeps}python a.py\n"
                )
            };
            check_fix(
                &script("", ""),
                &script(
                    &format!("CUDA_VISIBLE_DEVICES=\"$CUDA_VISIBLE_DEVICES\" {handed}"),
                    "--preserve-env=CUDA_VISIBLE_DEVICES,CUDA_DEVICE_ORDER ",
                ),
            );
        }
    }

    #[test]
    fn without_os_at_hand_nothing_is_offered() {
        check_no_fix(
            r#"
from os import environ
import subprocess
environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
subprocess.run(["python", "a.py"], env={"PORT": "8000"})
"#,
        );
    }

    #[test]
    fn the_help_is_in_the_language_of_the_place() {
        const MESSAGE: &str =
            "the child's environment leaves out `CUDA_VISIBLE_DEVICES`: it sees every GPU";
        let pin = "os.environ[\"CUDA_VISIBLE_DEVICES\"] = \"GPU-8932f937\"";
        for (path, start, help) in [
            (
                "main.py",
                "subprocess.run([\"python\", \"x.py\"], env={\"A\": \"b\"})",
                "start from the parent's environment: `env={**os.environ, …}`",
            ),
            (
                "main.py",
                "subprocess.run([\"sudo\", \"python\", \"x.py\"])",
                "`sudo --preserve-env=CUDA_VISIBLE_DEVICES` hands it on",
            ),
            (
                "run.sh",
                "sudo python x.py",
                "`sudo --preserve-env=CUDA_VISIBLE_DEVICES` hands it on",
            ),
            (
                "run.sh",
                "env -i python x.py",
                "hand it on: `env … CUDA_VISIBLE_DEVICES=\"$CUDA_VISIBLE_DEVICES\"`",
            ),
        ] {
            let before = match path {
                "main.py" => format!("import os, subprocess\n{pin}"),
                _ => "export CUDA_VISIBLE_DEVICES=GPU-8932f937".to_owned(),
            };
            let fixture = format!("//- {path}\n{before}\n{start}\n");
            check_message(&fixture, &[&format!("{MESSAGE} | {help}")]);
        }
    }

    #[test]
    fn a_fresh_environment_loses_the_pin() {
        check(
            r#"
import os
import subprocess
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
subprocess.Popen(["python", "worker.py"], env={"PATH": "/usr/bin"})  # error: GP109
"#,
        );
    }

    #[test]
    fn a_copy_of_the_environment_keeps_it() {
        check(
            r#"
import os
import subprocess
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
subprocess.Popen(["python", "worker.py"], env={**os.environ, "PORT": "8000"})
"#,
        );
    }

    #[test]
    fn an_environment_with_its_own_mask_is_no_loss() {
        check(
            r#"
import os
import subprocess
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
subprocess.Popen(["python", "worker.py"], env={"CUDA_VISIBLE_DEVICES": "GPU-8932f937"})
"#,
        );
    }

    #[test]
    fn a_child_that_uses_no_gpu_needs_none() {
        check(
            r#"
import os
import subprocess
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
subprocess.run(["ffmpeg", "-i", "in.wav"], env={"PATH": "/usr/bin"})
"#,
        );
    }

    #[test]
    fn without_a_pin_there_is_nothing_to_lose() {
        check(
            "import subprocess\nsubprocess.run([\"python\", \"worker.py\"], env={\"PATH\": \"/usr/bin\"})\n",
        );
    }

    #[test]
    fn sudo_drops_it_and_containers_are_told_theirs() {
        check(
            r#"
//- run.sh
export CUDA_VISIBLE_DEVICES=GPU-8932f937
sudo python x.py  # error: GP109
sudo -E python x.py
docker run --gpus device=GPU-8932f937 image python x.py
//- x.py
print("no GPU library")
"#,
        );
    }
}
