//! Links the simulated libraries so that they find their own functions, and gives every state of the sources a name.

use std::{fs, path::Path};

/// The crates whose code is in the libraries.
const SOURCES: [&str; 3] = ["src", "../gpupin-device/src", "../gpupin-policy/src"];

fn main() {
    // Copies of the library hide some of its functions, which must then not be looked up at run time.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-Bsymbolic");
    // FNV-1a: the same on every machine, and nobody tries to meet it.
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for directory in SOURCES {
        println!("cargo::rerun-if-changed={directory}");
        add(Path::new(directory), &mut hash);
    }
    println!("cargo::rustc-env=GPUPIN_SIM_BUILD={hash:016x}");
}

fn add(path: &Path, hash: &mut u64) {
    if let Ok(entries) = fs::read_dir(path) {
        let mut entries: Vec<_> = entries.filter_map(|it| Some(it.ok()?.path())).collect();
        entries.sort();
        for entry in entries {
            add(&entry, hash);
        }
    } else {
        for byte in fs::read(path).unwrap_or_default() {
            *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
