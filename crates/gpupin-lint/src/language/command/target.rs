//! Which program a command line runs in the end.

use super::{is_shell, text};
use crate::{
    unit::Runs,
    value::{Spanned, Value},
};

/// The name of a program: without its directory, without `.exe`.
pub(crate) fn program_name(path: &str) -> String {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let lower = name.to_ascii_lowercase();
    lower.strip_suffix(".exe").map_or_else(|| name.to_owned(), str::to_owned)
}

/// What the words run, seen through launchers.
pub(super) fn target(words: &[Spanned]) -> Runs {
    let Some(first) = words.first() else { return Runs::Unknown };
    let rest = &words[1..];
    let Some(program) = text(first) else {
        return match &first.value {
            // `$PYTHON train.py`
            Value::Variable(name) if name.to_ascii_uppercase().contains("PYTHON") => python(rest),
            _ => Runs::Unknown,
        };
    };
    let name = program_name(program);
    let second = rest.first().and_then(text);
    match &*name {
        _ if is_python(&name) => python(rest),
        "pytest" | "py.test" => pytest(rest),
        "torchrun" | "deepspeed" | "horovodrun" | "mpirun" | "mpiexec" | "composer" => {
            launched(rest)
        }
        "accelerate" if second == Some("launch") => launched(&rest[1..]),
        "coverage" | "kernprof" | "scalene" | "viztracer" | "memray" | "streamlit" | "fastapi"
        | "ipython" | "papermill" | "chainlit" | "bentoml" | "modal" | "marimo" => launched(rest),
        "uvicorn" | "gunicorn" | "hypercorn" | "daphne" => application(rest),
        "flask" | "celery" => application(rest),
        "gpupin" if second == Some("run") => Runs::Gpupin(Box::new(behind_dashes(rest))),
        _ if is_shell(&name) => {
            positional(rest).map_or(Runs::Unknown, |it| Runs::Script(slashes(it)))
        }
        _ if is_file(program, &[".py", ".pyw"]) => Runs::PythonFile(slashes(program)),
        _ if is_file(program, &[".sh", ".bash", ".zsh", ".bat", ".cmd", ".ps1"]) => {
            Runs::Script(slashes(program))
        }
        _ if program.starts_with("./") || program.starts_with(".\\") => {
            Runs::Script(slashes(program))
        }
        "powershell" | "pwsh" => rest
            .iter()
            .filter_map(text)
            .find(|it| is_file(it, &[".ps1"]))
            .map_or(Runs::Other(name.clone()), |it| Runs::Script(slashes(it))),
        "cmd" => rest
            .iter()
            .position(|it| text(it).is_some_and(|it| it.eq_ignore_ascii_case("/c")))
            .map_or(Runs::Other(name.clone()), |at| target(&rest[at + 1..])),
        _ => Runs::Other(name),
    }
}

fn is_python(name: &str) -> bool {
    let name = name.strip_suffix('w').unwrap_or(name);
    let stem = name.trim_end_matches(|it: char| it.is_ascii_digit() || it == '.');
    matches!(stem, "python" | "pypy" | "py")
}

fn is_file(path: &str, extensions: &[&str]) -> bool {
    let lower = path.to_ascii_lowercase();
    extensions.iter().any(|it| lower.ends_with(it) && lower.len() > it.len())
}

fn slashes(path: &str) -> String {
    let path = path.replace('\\', "/");
    path.strip_prefix("./").map_or_else(|| path.clone(), str::to_owned)
}

fn python(words: &[Spanned]) -> Runs {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        match text(word) {
            None => return Runs::Unknown,
            Some("-m") => {
                let Some(module) = words.get(at + 1).and_then(text) else { return Runs::Unknown };
                return module_target(module, &words[at + 2..]);
            }
            Some("-c") => return Runs::Other("python -c".to_owned()),
            Some("-") => return Runs::Unknown,
            Some("-X" | "-W" | "--check-hash-based-pycs") => at += 2,
            // `py -3.11 x.py` of Windows' launcher is an option too.
            Some(option) if option.starts_with('-') => at += 1,
            Some(path) => return Runs::PythonFile(slashes(path)),
        }
    }
    Runs::Other("python".to_owned())
}

/// The code of `python -c code`.
pub(super) fn inline_code(words: &[Spanned]) -> Option<&Spanned> {
    let name = program_name(text(words.first()?)?);
    if !is_python(&name) {
        return None;
    }
    let mut at = 1;
    loop {
        match text(words.get(at)?)? {
            "-c" => return words.get(at + 1),
            "-X" | "-W" | "--check-hash-based-pycs" => at += 2,
            option if option.starts_with('-') && !matches!(option, "-m" | "-") => at += 1,
            _ => return None,
        }
    }
}

/// `python -m module`: some modules run another program.
fn module_target(module: &str, rest: &[Spanned]) -> Runs {
    match module {
        "pytest" | "py.test" => pytest(rest),
        "torch.distributed.run"
        | "torch.distributed.launch"
        | "accelerate.commands.launch"
        | "deepspeed.launcher.runner"
        | "cProfile"
        | "profile"
        | "debugpy"
        | "pdb"
        | "trace"
        | "torch.utils.bottleneck"
        | "streamlit"
        | "coverage"
        | "scalene"
        | "kernprof" => launched(rest),
        "uvicorn" | "gunicorn" | "hypercorn" | "flask" | "celery" => application(rest),
        _ => Runs::PythonModule(module.to_owned()),
    }
}

/// The script behind a launcher's own options: the first Python file, or what `-m` names.
fn launched(words: &[Spanned]) -> Runs {
    for (at, word) in words.iter().enumerate() {
        match text(word) {
            Some("-m" | "--module") => {
                if let Some(module) = words.get(at + 1).and_then(text) {
                    return module_target(module, &words[at + 2..]);
                }
            }
            Some(path) if !path.starts_with('-') && is_file(path, &[".py", ".ipynb"]) => {
                return Runs::PythonFile(slashes(path));
            }
            _ => {}
        }
    }
    // `mpirun -n 2 python -u train.py` has its file found above; what is left names none.
    Runs::Unknown
}

fn pytest(words: &[Spanned]) -> Runs {
    const WITH_VALUE: &[&str] =
        &["-m", "-k", "-n", "-p", "-o", "-c", "-W", "--timeout", "--cov", "--durations"];
    let mut paths = Vec::new();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        match text(word) {
            Some(option) if WITH_VALUE.contains(&option) => at += 1,
            Some(option) if option.starts_with('-') => {}
            Some(path) => paths.push(slashes(path.split("::").next().unwrap_or(path))),
            None => {}
        }
        at += 1;
    }
    Runs::Pytest(paths)
}

/// `uvicorn app.main:app`, `flask --app app run`, `celery -A app worker`.
fn application(words: &[Spanned]) -> Runs {
    let known: Vec<&str> = words.iter().filter_map(text).collect();
    let named = known
        .windows(2)
        .find(|it| matches!(it[0], "--app" | "-A"))
        .map(|it| it[1])
        .or_else(|| known.iter().find_map(|it| it.strip_prefix("--app=")))
        .or_else(|| {
            known.iter().copied().find(|it| {
                !it.starts_with('-')
                    && it.contains(':')
                    && !it.contains('/')
                    && it.as_bytes()[0].is_ascii_alphabetic()
            })
        });
    match named {
        Some(path) if is_file(path, &[".py"]) => Runs::PythonFile(slashes(path)),
        Some(name) => Runs::PythonModule(name.split(':').next().unwrap_or(name).to_owned()),
        None => Runs::Unknown,
    }
}

fn behind_dashes(words: &[Spanned]) -> Runs {
    match words.iter().position(|it| text(it) == Some("--")) {
        Some(at) => target(&words[at + 1..]),
        None => Runs::Unknown,
    }
}

/// The first word that is no option.
fn positional(words: &[Spanned]) -> Option<&str> {
    words.iter().map(text).find(|it| it.is_none_or(|it| !it.starts_with('-')))?
}
