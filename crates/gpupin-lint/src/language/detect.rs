//! Which language a file is written in, by its path and first bytes.

use crate::source::Language;

/// How many bytes of a file tell its language.
const HEAD: usize = 64 * 1024;

/// The language of a file. `None`: not one that can matter.
///
/// `path` is `/`-separated. gpupin's own files are none of the languages.
pub fn language(path: &str, bytes: &[u8]) -> Option<Language> {
    let file = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let extension = file.rsplit_once('.').map_or("", |it| it.1);
    match by_name(path, &file, extension).or_else(|| by_extension(extension)) {
        Some(Language::Yaml) => Some(yaml_kind(bytes)),
        Some(language) => Some(language),
        None if !file.contains('.') => by_shebang(bytes),
        None => None,
    }
    .filter(|_| !is_machine_written(&file))
}

/// Lock files and our own: nobody chooses a GPU there.
fn is_machine_written(file: &str) -> bool {
    matches!(
        file,
        "gpupin.toml"
            | "gpupin.lock"
            | "package-lock.json"
            | "npm-shrinkwrap.json"
            | "pnpm-lock.yaml"
    )
}

fn by_name(path: &str, file: &str, extension: &str) -> Option<Language> {
    let yaml = matches!(extension, "yml" | "yaml");
    Some(match file {
        "dockerfile" | "containerfile" => Language::Dockerfile,
        "makefile" | "gnumakefile" => Language::Makefile,
        ".env" | ".flaskenv" => Language::Dotenv,
        ".bashrc" | ".zshrc" | ".profile" | ".bash_profile" | ".zshenv" | ".envrc" => {
            Language::Shell
        }
        _ if file.starts_with(".env.") => Language::Dotenv,
        _ if file.starts_with("dockerfile.") || file.starts_with("containerfile.") => {
            Language::Dockerfile
        }
        // Not `Makefile.py`.
        _ if file.starts_with("makefile.") && by_extension(extension).is_none() => {
            Language::Makefile
        }
        _ if yaml && (file.starts_with("compose") || file.starts_with("docker-compose")) => {
            Language::Compose
        }
        _ if yaml && is_pipeline(path, file) => Language::Workflow,
        _ if extension == "conf" && path.contains(".service.d/") => Language::Systemd,
        _ => return None,
    })
}

fn is_pipeline(path: &str, file: &str) -> bool {
    path.contains(".github/workflows/")
        || path.contains(".forgejo/workflows/")
        || path.contains(".gitea/workflows/")
        || path.contains(".github/actions/")
        || file.trim_end_matches(".yml").trim_end_matches(".yaml").ends_with(".gitlab-ci")
}

fn by_extension(extension: &str) -> Option<Language> {
    Some(match extension {
        "py" | "pyw" => Language::Python,
        "ipynb" => Language::Notebook,
        "sh" | "bash" | "zsh" | "ksh" | "sbatch" | "slurm" | "command" => Language::Shell,
        "ps1" | "psm1" => Language::PowerShell,
        "bat" | "cmd" => Language::Batch,
        "dockerfile" | "containerfile" => Language::Dockerfile,
        "env" => Language::Dotenv,
        // `.container` is Podman's unit file.
        "service" | "container" => Language::Systemd,
        "mk" | "mak" => Language::Makefile,
        "ini" | "cfg" | "conf" => Language::Ini,
        "toml" => Language::Toml,
        "json" | "jsonc" | "json5" => Language::Json,
        "yml" | "yaml" => Language::Yaml,
        _ => return None,
    })
}

/// What a YAML file of any name is, by the keys at its left margin.
fn yaml_kind(bytes: &[u8]) -> Language {
    let head = &bytes[..bytes.len().min(HEAD)];
    let has = |key: &[u8]| {
        head.split(|it| *it == b'\n')
            .any(|line| line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).starts_with(key))
    };
    if has(b"apiVersion:") && has(b"kind:") {
        return Language::Kubernetes;
    }
    let names_container = head
        .split(|it| *it == b'\n')
        .map(<[u8]>::trim_ascii_start)
        .any(|it| it.starts_with(b"image:") || it.starts_with(b"build:"));
    if has(b"services:") && names_container { Language::Compose } else { Language::Yaml }
}

fn by_shebang(bytes: &[u8]) -> Option<Language> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let line = bytes.strip_prefix(b"#!")?.split(|it| *it == b'\n').next()?;
    let line = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
    let mut words = line.split_whitespace();
    let program = words.next()?.rsplit('/').next()?;
    let program = if program == "env" {
        words.find(|it| !it.starts_with('-') && !it.contains('='))?
    } else {
        program
    };
    let program = program.trim_end_matches(|it: char| it.is_ascii_digit() || it == '.');
    Some(match program {
        "python" | "pypy" | "pythonw" => Language::Python,
        "sh" | "bash" | "zsh" | "dash" | "ksh" | "ash" => Language::Shell,
        "pwsh" | "powershell" => Language::PowerShell,
        "make" => Language::Makefile,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::language;
    use crate::source::Language::{
        Batch, Compose, Dockerfile, Dotenv, Ini, Json, Kubernetes, Makefile, Notebook, PowerShell,
        Python, Shell, Systemd, Toml, Workflow, Yaml,
    };

    #[test]
    fn names_tell_the_language() {
        for (path, expected) in [
            ("a/b.py", Python),
            ("run.PYW", Python),
            ("n.ipynb", Notebook),
            ("s.sh", Shell),
            (".envrc", Shell),
            ("s.ps1", PowerShell),
            ("START.BAT", Batch),
            ("s.cmd", Batch),
            ("Dockerfile", Dockerfile),
            ("docker/Dockerfile.gpu", Dockerfile),
            ("gpu.Dockerfile", Dockerfile),
            ("Containerfile", Dockerfile),
            ("compose.yaml", Compose),
            ("docker-compose.gpu.yml", Compose),
            (".env", Dotenv),
            (".env.local", Dotenv),
            ("prod.env", Dotenv),
            (".github/workflows/t.yml", Workflow),
            (".gitlab-ci.yml", Workflow),
            ("ci/gpu.gitlab-ci.yml", Workflow),
            ("x.service", Systemd),
            ("x.service.d/gpu.conf", Systemd),
            ("x.conf", Ini),
            ("Makefile", Makefile),
            ("Makefile.gpu", Makefile),
            ("rules.mk", Makefile),
            ("setup.cfg", Ini),
            ("tox.ini", Ini),
            ("pyproject.toml", Toml),
            ("c.json", Json),
            ("c.yaml", Yaml),
        ] {
            assert_eq!(language(path, b""), Some(expected), "{path}");
        }
        for path in [
            "README.md",
            "x.pyi",
            "gpupin.toml",
            "gpupin.lock",
            "a.rs",
            "data",
            "package-lock.json",
        ] {
            assert_eq!(language(path, b""), None, "{path}");
        }
    }

    #[test]
    fn content_tells_the_kind_of_yaml() {
        assert_eq!(language("a.yml", b"apiVersion: v1\nkind: Pod\n"), Some(Kubernetes));
        assert_eq!(language("a.yml", b"services:\n  a:\n    image: x\n"), Some(Compose));
        assert_eq!(language("a.yml", b"services:\n  a: 1\n"), Some(Yaml));
    }

    #[test]
    fn a_shebang_tells_a_file_without_extension() {
        assert_eq!(language("bin/run", b"#!/usr/bin/env -S python3.11 -u\n"), Some(Python));
        assert_eq!(language("bin/run", b"#!/bin/bash\r\n"), Some(Shell));
        assert_eq!(language("bin/run", b"\xef\xbb\xbf#!/bin/sh\n"), Some(Shell));
        assert_eq!(language("bin/run", b"#!/usr/bin/perl\n"), None);
        assert_eq!(language("bin/run.txt", b"#!/bin/sh\n"), None);
    }
}
