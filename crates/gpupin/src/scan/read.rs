use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    fs,
    io::{self, Read as _},
    num::NonZero,
    panic::{self, AssertUnwindSafe},
    sync::Once,
    time::Instant,
};

use gpupin_lint::{
    language::language,
    source::Language,
    survey::{Reading, Survey, Surveyor},
    unit::Unit,
};

use crate::{
    project::Project,
    scan::{
        File, Problem,
        workers::{self, Threads},
    },
    terminal::Terminal,
};

/// More than any source has. What is larger is data, and parsing it would take all memory.
const LIMIT: usize = 256 << 20;

/// What each thread keeps between files: most are smaller.
const BUFFER_KEPT: usize = 1 << 18;

#[derive(Debug)]
pub(super) struct Read {
    /// In the order of the files.
    pub(super) units: Vec<Unit>,
    /// Python files that cannot matter and were not parsed.
    pub(super) unread: Vec<String>,
    /// How many Python files import a GPU library when they run. Unknown without a surveyor.
    pub(super) gpu_files: Option<usize>,
    /// How many files have a language.
    pub(super) files: usize,
    pub(super) problems: Vec<Problem>,
    /// When every file had been looked at, and those read that are worth it by themselves.
    pub(super) surveyed: Instant,
}

/// What an earlier scan of the same files left, and what to read instead of what lies on disk.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Contents of files, by key.
    pub(super) contents: BTreeMap<String, Vec<u8>>,
    /// Of every file that has a language, if it is kept.
    pub(super) surveys: Option<HashMap<String, Survey>>,
    pub(super) units: HashMap<String, Unit>,
}

impl Memory {
    /// What is known of a file that has not changed since.
    fn survey(&self, key: &str) -> Option<&Survey> {
        self.surveys.as_ref()?.get(key)
    }
}

/// What became of a file that was looked at.
pub(super) enum Outcome {
    /// Of no language.
    Nothing,
    /// Not worth parsing, as far as the file itself tells.
    Surveyed(Survey),
    Read(Survey, Box<Unit>),
}

/// Reads the files that can matter into units; without a surveyor, all files.
pub(super) fn read(
    files: &[File],
    surveyor: Option<&Surveyor>,
    threads: NonZero<usize>,
    project: &Project,
    memory: &mut Memory,
    terminal: &mut Terminal,
) -> Read {
    keep_panics_of_readers();
    let mut tell = |done| {
        terminal.progress(|| format!("reading {done} of {} files", files.len()));
    };
    let new: Vec<&File> = files.iter().filter(|it| memory.survey(&it.key).is_none()).collect();
    let contents = std::mem::take(&mut memory.contents);
    let mut outcomes =
        workers::map(&new, threads, &mut tell, |file| look(file, &contents, surveyor)).into_iter();
    let mut read = Read {
        units: Vec::new(),
        unread: Vec::new(),
        gpu_files: None,
        files: 0,
        problems: Vec::new(),
        surveyed: Instant::now(),
    };
    let mut surveys = Vec::new();
    let mut places = Vec::new();
    for (place, file) in files.iter().enumerate() {
        if let Some(survey) = memory.survey(&file.key).cloned() {
            if survey.interesting || surveyor.is_none() {
                read.units.extend(memory.units.remove(&file.key));
            }
            surveys.push((file.key.clone(), survey));
            places.push(place);
            continue;
        }
        let survey = match outcomes.next().expect("each new file has an outcome") {
            Ok(Outcome::Nothing) => continue,
            Ok(Outcome::Surveyed(survey)) => survey,
            Ok(Outcome::Read(survey, unit)) => {
                read.units.push(*unit);
                survey
            }
            Err(message) => {
                read.problems.push(Problem { path: project.shown(&file.key), message });
                continue;
            }
        };
        surveys.push((file.key.clone(), survey));
        places.push(place);
    }
    read.files = surveys.len();
    if let Some(known) = &mut memory.surveys {
        known.extend(surveys.iter().cloned());
    }
    if surveyor.is_some() {
        let workers = Threads(threads);
        let mut reading = Reading::new(surveys, &project.policy, &workers);
        loop {
            let wanted: Vec<&File> = reading
                .next(&read.units, &workers)
                .into_iter()
                .map(|it| &files[places[it]])
                .collect();
            if wanted.is_empty() {
                break;
            }
            let (known, wanted): (Vec<_>, Vec<_>) =
                wanted.into_iter().partition(|it| memory.units.contains_key(&it.key));
            read.units.extend(known.iter().filter_map(|it| memory.units.remove(&it.key)));
            let outcomes =
                workers::map(&wanted, threads, &mut tell, |file| look(file, &contents, None));
            for (file, outcome) in wanted.into_iter().zip(outcomes) {
                match outcome {
                    Ok(Outcome::Read(_, unit)) => read.units.push(*unit),
                    Ok(_) => {}
                    Err(message) => {
                        read.problems.push(Problem { path: project.shown(&file.key), message });
                    }
                }
            }
        }
        read.gpu_files = Some(reading.gpu_files());
        read.unread = reading.unread().map(str::to_owned).collect();
        read.units.sort_by(|a, b| a.source.path.cmp(&b.source.path));
    }
    // A file that was changed for an earlier scan is still not what lies on disk.
    memory.contents = contents;
    read
}

/// Surveys a file, and reads it if it is worth it.
pub(super) fn look(
    file: &File,
    contents: &BTreeMap<String, Vec<u8>>,
    surveyor: Option<&Surveyor>,
) -> Result<Outcome, String> {
    thread_local!(static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_KEPT]));
    BUFFER.with_borrow_mut(|buffer| {
        let read = match contents.get(&file.key) {
            Some(bytes) => language(&file.key, bytes).map(|it| (bytes.as_slice(), it)),
            None => read_bytes(file, buffer).map_err(|error| error.to_string())?,
        };
        let Some((bytes, language)) = read else { return Ok(Outcome::Nothing) };
        let outcome = guarded(|| {
            let survey = surveyor.map(|it| it.survey(&file.key, language, bytes));
            let survey = match survey {
                Some(survey) if !survey.interesting => return Outcome::Surveyed(survey),
                survey => survey.unwrap_or_default(),
            };
            let unit = gpupin_lint::read(&file.key, bytes);
            unit.map_or(Outcome::Nothing, |unit| Outcome::Read(survey, Box::new(unit)))
        });
        // One large file must not cost its size in every thread until the end.
        buffer.truncate(BUFFER_KEPT);
        buffer.shrink_to(BUFFER_KEPT);
        outcome
    })
}

/// The bytes and language of a file; `None` if it turns out to be of no language.
///
/// Opens, reads and closes: nothing is asked of the kernel twice, not even a size.
fn read_bytes<'b>(
    file: &File,
    buffer: &'b mut Vec<u8>,
) -> io::Result<Option<(&'b [u8], Language)>> {
    let mut open = fs::File::open(&file.path)?;
    let mut length = 0;
    let mut known = None;
    loop {
        let got = match open.read(&mut buffer[length..]) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let is_head = length == 0;
        length += got;
        if is_head {
            known = language(&file.key, &buffer[..length]);
        }
        let Some(language) = known else {
            return Ok(None);
        };
        if got == 0 {
            return Ok(Some((&buffer[..length], language)));
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

/// Runs a reader, whose panic is a problem of its file and not the end of the scan.
fn guarded<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    IS_READER.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(read));
    IS_READER.set(false);
    result.map_err(|_| {
        let panic = PANIC.take();
        format!("internal error, please report it with the file: {panic}")
    })
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

    use super::{File, Language, guarded, keep_panics_of_readers, read_bytes};

    #[test]
    fn a_panic_of_a_reader_becomes_a_message() {
        keep_panics_of_readers();
        let message = guarded::<()>(|| panic!("no such node")).unwrap_err();
        assert!(message.starts_with("internal error"), "{message}");
        assert!(message.contains("read.rs") && message.contains("no such node"), "{message}");
        assert_eq!(guarded(|| 1), Ok(1));
    }

    #[test]
    fn a_file_larger_than_the_buffer_is_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.py");
        for size in [0, 1, 15, 16, 17, 100_000] {
            let text: Vec<u8> = (b'a'..=b'z').cycle().take(size).collect();
            fs::write(&path, &text).unwrap();
            let file = File { key: "a.py".to_owned(), path: path.clone() };
            let mut buffer = vec![0; 16];
            let read = read_bytes(&file, &mut buffer).unwrap();
            assert_eq!(read, Some((&text[..], Language::Python)), "{size} bytes");
        }
    }
}
