use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::sandbox::Sandbox;

#[test]
fn the_reference_is_what_the_program_says() {
    let sandbox = Sandbox::new();
    let outcome = sandbox.gpupin(&["debug", "docs", "--dir", "written"]);
    assert_eq!(outcome.code, 0, "{}", outcome.whole());
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    let (written, there) = (files(&sandbox.path().join("written")), files(&reference));
    let names = |files: &BTreeMap<PathBuf, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&written), names(&there), "run `cargo xtask docs`");
    for (path, text) in written {
        assert_eq!(text, there[&path], "`{}`: run `cargo xtask docs`", path.display());
    }
}

/// Every file below a directory, with its text.
fn files(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}
