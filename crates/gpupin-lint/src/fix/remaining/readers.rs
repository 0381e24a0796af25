//! Who reads the mask back.

use std::collections::BTreeSet;

use crate::{
    program::{MASK, Program, Write},
    project::Project,
    source::{Language, Source},
    unit::UnitId,
};

/// How many links of a chain of starters are followed.
const DEPTH: usize = 3;

/// A file that reads the mask of a program back, as far as its text tells: of the program, of those that it starts, or
/// the script that sets it.
pub(super) fn of_mask(
    project: &Project<'_>,
    program: &Program,
    write: Option<Write>,
) -> Option<String> {
    let mut units: BTreeSet<UnitId> = program.units.iter().copied().collect();
    units.extend(write.map(|it| it.unit));
    for _ in 0..DEPTH {
        let is_started = |it: &&Program| it.starters.iter().any(|it| units.contains(&it.0));
        let started: Vec<UnitId> = project
            .programs
            .iter()
            .filter(is_started)
            .flat_map(|it| it.units.iter().copied())
            .collect();
        let known = units.len();
        units.extend(started);
        if units.len() == known {
            break;
        }
    }
    let sources = units.iter().map(|it| &project.unit(*it).source);
    sources.into_iter().find(|it| reads(it)).map(|it| it.path.clone())
}

fn reads(source: &Source) -> bool {
    match source.language {
        Language::Python | Language::Notebook => in_python(&source.text),
        Language::Shell => source.text.lines().any(in_shell),
        _ => false,
    }
}

fn in_python(text: &str) -> bool {
    text.match_indices(MASK).any(|(at, _)| {
        let before = text[..at].trim_end_matches(['"', '\'', '\\']).trim_end();
        let behind = text[at + MASK.len()..].trim_start_matches(['"', '\'', '\\']);
        let asks = ["getenv(", "environ.get("].iter().any(|it| before.ends_with(it));
        let item = before.ends_with("environ[")
            && behind.strip_prefix(']').is_some_and(|it| {
                let rest = it.trim_start();
                !rest.starts_with('=') || rest.starts_with("==")
            });
        let deletes = before.trim_end_matches("os.environ[").trim_end().ends_with("del");
        asks || (item && !deletes)
    })
}

/// Handing the mask on and showing it are no reading.
fn in_shell(line: &str) -> bool {
    let line = line.trim_start();
    if ["#", "echo ", "printf "].iter().any(|it| line.starts_with(it)) {
        return false;
    }
    line.match_indices(MASK).any(|(at, _)| {
        let before = &line[..at];
        let is_value = before.ends_with('$') || before.ends_with("${");
        let opening = before.trim_end_matches(['$', '{', '"']);
        let hands_on = opening.ends_with(&format!("{MASK}=")) || before.contains(":-");
        let is_arithmetic = before.rfind("((").is_some_and(|it| !before[it..].contains("))"));
        is_arithmetic || (is_value && !hands_on)
    })
}

#[cfg(test)]
mod tests {
    use super::in_shell;

    #[test]
    fn showing_the_mask_and_handing_it_on_is_no_reading() {
        for line in [
            "export CUDA_VISIBLE_DEVICES=0",
            "echo \"on $CUDA_VISIBLE_DEVICES\"",
            "# $CUDA_VISIBLE_DEVICES",
            "env -i CUDA_VISIBLE_DEVICES=\"$CUDA_VISIBLE_DEVICES\" python main.py",
            "export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}",
            "A=$((1 + 1)) CUDA_VISIBLE_DEVICES=0 python main.py",
        ] {
            assert!(!in_shell(line), "{line}");
        }
        for line in [
            "PORT=$((8000 + CUDA_VISIBLE_DEVICES)) python main.py",
            "python main.py --gpu ${CUDA_VISIBLE_DEVICES%%,*}",
            "if [ \"$CUDA_VISIBLE_DEVICES\" -eq 0 ]; then",
        ] {
            assert!(in_shell(line), "{line}");
        }
    }
}
