//! What needs a real GPU: one bundle to carry to a machine that has one, and the record of what it said.
//!
//! The machine needs neither Rust nor a network. `cargo xtask gpu` fills `target/gpu`: gpupin, its Python package, and scripts
//! that need the standard library only and use PyTorch and its kin where they are installed. There,
//! `python3 target/gpu/checks.py OUT` runs everything and writes `OUT/hardware.json`; `cargo xtask gpu record FILE` makes
//! `docs/hardware.md` of it.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process::{cargo, loud, root};

const BUNDLE: &str = "target/gpu";
const DOCUMENT: &str = "docs/hardware.md";
const SCRIPTS: [&str; 2] = ["checks.py", "facts.py"];

pub(crate) fn run(args: &[&str]) -> Result<()> {
    match args {
        [] => bundle(),
        ["record", file] => record(Path::new(file)),
        _ => {
            bail!("`cargo xtask gpu` makes the bundle, `cargo xtask gpu record FILE` the document")
        }
    }
}

fn bundle() -> Result<()> {
    loud(&mut cargo(["build", "--release", "-p", "gpupin", "-p", "gpupin-sim"]))?;
    let bundle = root().join(BUNDLE);
    fs::create_dir_all(&bundle).context("failed to make the bundle")?;
    let binary = bundle.join("gpupin");
    fs::copy(root().join("target/release/gpupin"), &binary).context("failed to copy gpupin")?;
    // Debug information would be most of what is carried.
    let mut strip = std::process::Command::new("strip");
    loud(strip.arg("--strip-debug").arg(&binary))?;
    for script in SCRIPTS {
        fs::copy(root().join("xtask/gpu").join(script), bundle.join(script))
            .with_context(|| format!("failed to copy `{script}`"))?;
    }
    let package = bundle.join("python/gpupin");
    drop(fs::remove_dir_all(&package));
    fs::create_dir_all(&package).context("failed to make the bundle")?;
    for entry in fs::read_dir(root().join("python/gpupin"))? {
        let path = entry?.path();
        if path.is_file() {
            fs::copy(&path, package.join(path.file_name().context("it has a name")?))?;
        }
    }
    println!("carry `{BUNDLE}`, and run there: python3 {BUNDLE}/checks.py OUT");
    Ok(())
}

/// Writes the document.
fn record(file: &Path) -> Result<()> {
    let text =
        fs::read_to_string(file).with_context(|| format!("failed to read `{}`", file.display()))?;
    let said: Value = serde_json::from_str(&text).context("it is not what `checks.py` writes")?;
    fs::write(root().join(DOCUMENT), document(&said)?).context("failed to write the document")
}

fn document(said: &Value) -> Result<String> {
    let mut text = String::from(
        "# What hardware said\n\nWritten by `cargo xtask gpu record` from what `xtask/gpu/checks.py` measured. One machine with one GPU settles \
         what one GPU can: nothing here is about the order of several.\n\n",
    );
    for (name, what) in [
        ("date", "date"),
        ("gpu", "GPU"),
        ("driver", "driver"),
        ("cuda", "CUDA"),
        ("kernel", "kernel"),
    ] {
        let value = said["machine"][name].as_str().context("the machine is not described")?;
        writeln!(text, "- {what}: {value}")?;
    }
    for table in said["tables"].as_array().context("there are no tables")? {
        let string = |name: &str| table[name].as_str().unwrap_or_default();
        writeln!(text, "\n## {}\n\n{}\n", string("title"), string("about"))?;
        let row = |cells: &Value| {
            let cells = cells.as_array().into_iter().flatten();
            let cells: Vec<_> =
                cells.map(|it| it.as_str().unwrap_or_default().replace('|', "\\|")).collect();
            format!("| {} |", cells.join(" | "))
        };
        let columns = table["columns"].as_array().map_or(0, Vec::len);
        writeln!(text, "{}\n|{}", row(&table["columns"]), "---|".repeat(columns))?;
        for cells in table["rows"].as_array().into_iter().flatten() {
            writeln!(text, "{}", row(cells))?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::document;

    #[test]
    fn the_document_has_a_row_for_each_answer() {
        let said = json!({
            "machine": {"date": "d", "gpu": "g", "driver": "r", "cuda": "c", "kernel": "k"},
            "tables": [{
                "title": "Masks", "about": "About.", "columns": ["mask", "GPUs"], "rows": [["`0|1`", "1"]],
            }],
        });
        let text = document(&said).unwrap();
        assert!(
            text.ends_with("## Masks\n\nAbout.\n\n| mask | GPUs |\n|---|---|\n| `0\\|1` | 1 |\n"),
            "{text}"
        );
        assert!(document(&json!({})).is_err());
    }
}
