//! Checks every file below the directories given, and tells which broke what.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

/// Readers are given deep stacks by the program too.
const STACK: usize = 64 << 20;

#[derive(Default)]
struct Tally {
    files: usize,
    read: usize,
    broken: usize,
    slowest: (Duration, PathBuf),
}

fn main() -> ExitCode {
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(|| {
        let mut tally = Tally::default();
        for directory in std::env::args().skip(1) {
            walk(Path::new(&directory), &mut tally);
        }
        tally
    });
    let tally = thread.expect("a thread starts").join().expect("panics are caught");
    let (time, path) = tally.slowest;
    println!("{} files, {} of a language, {} broken", tally.files, tally.read, tally.broken);
    println!("slowest: {:.2} s, {}", time.as_secs_f64(), path.display());
    ExitCode::from(u8::from(tally.broken > 0))
}

fn walk(path: &Path, tally: &mut Tally) {
    let Ok(kind) = fs::symlink_metadata(path).map(|it| it.file_type()) else { return };
    if kind.is_dir() {
        let Ok(entries) = fs::read_dir(path) else { return };
        entries.flatten().for_each(|entry| walk(&entry.path(), tally));
    } else if kind.is_file()
        && let Ok(bytes) = fs::read(path)
    {
        let start = Instant::now();
        let name = path.to_string_lossy();
        let result = catch_unwind(AssertUnwindSafe(|| gpupin_fuzz::check(&name, &bytes)));
        tally.files += 1;
        match result {
            Ok(read) => tally.read += usize::from(read),
            Err(_) => {
                tally.broken += 1;
                println!("broken: {name}");
            }
        }
        tally.slowest = std::mem::take(&mut tally.slowest).max((start.elapsed(), path.to_owned()));
    }
}
