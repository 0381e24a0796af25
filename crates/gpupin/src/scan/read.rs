use std::{
    cell::{Cell, RefCell},
    fs,
    io::{self, Read as _},
    num::NonZero,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

use gpupin_lint::{language::language, unit::Unit};

use crate::{
    project::Project,
    scan::{File, Problem, workers},
    terminal::Terminal,
};

/// More than any source has. What is larger is data, and parsing it would take all memory.
const LIMIT: usize = 256 << 20;

#[derive(Debug)]
pub(super) struct Read {
    /// In the order of the files.
    pub(super) units: Vec<Unit>,
    pub(super) problems: Vec<Problem>,
}

/// Reads files into units.
pub(super) fn read(
    files: &[File],
    threads: NonZero<usize>,
    project: &Project,
    terminal: &mut Terminal,
) -> Read {
    keep_panics_of_readers();
    let tell = |done| {
        terminal.progress(|| format!("reading {done} of {} files", files.len()));
    };
    let outcomes = workers::map(files, threads, tell, read_file);
    let mut read = Read { units: Vec::new(), problems: Vec::new() };
    for (file, outcome) in files.iter().zip(outcomes) {
        match outcome {
            Ok(unit) => read.units.extend(unit),
            Err(message) => read.problems.push(Problem { path: project.shown(&file.key), message }),
        }
    }
    read
}

fn read_file(file: &File) -> Result<Option<Unit>, String> {
    thread_local!(static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 1 << 18]));
    BUFFER.with_borrow_mut(|buffer| {
        let Some(bytes) = read_bytes(file, buffer).map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        IS_READER.set(true);
        let unit = panic::catch_unwind(AssertUnwindSafe(|| gpupin_lint::read(&file.key, bytes)));
        IS_READER.set(false);
        unit.map_err(|_| {
            let panic = PANIC.take();
            format!("internal error, please report it with the file: {panic}")
        })
    })
}

/// The bytes of a file; `None` if it turns out to be of no language.
///
/// Opens, reads and closes: nothing is asked of the kernel twice, not even a size.
fn read_bytes<'b>(file: &File, buffer: &'b mut Vec<u8>) -> io::Result<Option<&'b [u8]>> {
    let mut open = fs::File::open(&file.path)?;
    let mut length = 0;
    loop {
        let got = match open.read(&mut buffer[length..]) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let is_head = length == 0;
        length += got;
        if is_head && language(&file.key, &buffer[..length]).is_none() {
            return Ok(None);
        }
        if got == 0 {
            return Ok(Some(&buffer[..length]));
        }
        if length == buffer.len() {
            if length >= LIMIT {
                let message = format!("larger than {} MiB, which no source is", LIMIT >> 20);
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
            }
            buffer.resize(length * 2, 0);
        }
    }
}

thread_local! {
    /// Whether this thread is in a reader, whose panic is reported as a problem of the file.
    static IS_READER: Cell<bool> = const { Cell::new(false) };
    /// What the last panic said, and where.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps the text of a reader's panic for the report. Any other panic is printed as usual.
fn keep_panics_of_readers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IS_READER.get() {
                PANIC.set(info.to_string().replace('\n', " "));
            } else {
                usual(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{File, read_bytes};

    #[test]
    fn a_file_larger_than_the_buffer_is_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.py");
        for size in [0, 1, 15, 16, 17, 100_000] {
            let text: Vec<u8> = (b'a'..=b'z').cycle().take(size).collect();
            fs::write(&path, &text).unwrap();
            let file = File { key: "a.py".to_owned(), path: path.clone() };
            let mut buffer = vec![0; 16];
            assert_eq!(read_bytes(&file, &mut buffer).unwrap(), Some(&text[..]), "{size} bytes");
        }
    }
}
