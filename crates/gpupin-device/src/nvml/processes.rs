//! NVML's process lists.
//!
//! The rows of a list have had three layouts, and the name of the function does not tell which: R535's first releases give rows of
//! 32 bytes where those before and after give 24. With one process a wrong reading looks right. So the layout follows from which other
//! functions the library has, as nvitop found out, and what the library has written is compared with that.

#![expect(unsafe_code, reason = "functions of the driver's library are looked up by name")]

use std::{
    ffi::{c_uint, c_void},
    mem,
};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use super::code::{Code, count};
use crate::machine::ProcessKind;

/// A row of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) pid: u32,
    /// Bytes; `u64::MAX` is "not available".
    pub(super) memory: u64,
    /// GPU and compute instance; `u32::MAX` where there is no MIG.
    pub(super) instance: (u32, u32),
}

/// Fills rows: the handle, how many there is room for and then how many there are, and where.
pub(super) type ListFunction =
    unsafe extern "C" fn(nvmlDevice_t, *mut c_uint, *mut c_void) -> nvmlReturn_t;

/// The lists that a library has, and how their rows lie in memory.
#[derive(Debug)]
pub(super) struct Lists {
    compute: Option<(ListFunction, Layout)>,
    graphics: Option<(ListFunction, Layout)>,
    mps: Option<(ListFunction, Layout)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// PID and memory.
    Short = 16,
    /// With the instances of MIG.
    Usual = 24,
    /// With protected memory.
    Long = 32,
}

/// Bytes of the longest layout, as 8-byte words, because rows hold such.
const WORDS: usize = 4;

/// What the buffer holds before it is filled.
const UNTOUCHED: u64 = 0xa5a5_a5a5_a5a5_a5a5;

impl Lists {
    pub(super) fn of(library: &libloading::Library) -> Self {
        let has = |name: &str| {
            // SAFETY: only whether there is such a symbol is asked; it is never called.
            unsafe { library.get::<*const ()>(name.as_bytes()) }.is_ok()
        };
        // See nvitop's `libnvml.py`, and NVIDIA/go-nvml#75 for what happens otherwise.
        let is_long = has("nvmlDeviceGetConfComputeMemSizeInfo")
            && !has("nvmlDeviceGetRunningProcessDetailList");
        let third = if is_long { Layout::Long } else { Layout::Usual };
        let list = |name: &str| {
            let versions = [("_v3", third), ("_v2", Layout::Usual), ("", Layout::Short)];
            versions.into_iter().find_map(|(version, layout)| {
                let name = format!("nvmlDeviceGet{name}RunningProcesses{version}");
                // SAFETY: all of these functions take a handle, a count and rows.
                let function = unsafe { library.get::<ListFunction>(name.as_bytes()) };
                function.ok().map(|it| (*it, layout))
            })
        };
        Self { compute: list("Compute"), graphics: list("Graphics"), mps: list("MPSCompute") }
    }

    fn list(&self, kind: ProcessKind) -> Option<(ListFunction, Layout)> {
        match kind {
            ProcessKind::Compute => self.compute,
            ProcessKind::Graphics => self.graphics,
            ProcessKind::Mps => self.mps,
        }
    }

    pub(super) fn function(&self, kind: ProcessKind) -> Result<ListFunction, Code> {
        self.list(kind).map(|it| it.0).ok_or(Code::FUNCTION_NOT_FOUND)
    }

    /// Has a list filled. `fill` gets room for as many rows as the count says, whichever layout they have.
    pub(super) fn read(
        &self,
        kind: ProcessKind,
        fill: impl Fn(*mut c_uint, *mut c_void) -> Result<(), Code>,
    ) -> Result<Vec<Row>, Code> {
        const MOST: usize = 1 << 16;
        let likely = self.list(kind).map_or(Layout::Usual, |it| it.1);
        let mut room = 128;
        loop {
            let mut buffer = vec![UNTOUCHED; room * WORDS];
            let mut filled = count(room);
            match fill(&raw mut filled, buffer.as_mut_ptr().cast()) {
                Err(Code::INSUFFICIENT_SIZE) if room < MOST => {
                    // More may come before the next call.
                    room = (filled as usize).max(room).saturating_mul(2).min(MOST);
                }
                Err(code) => return Err(code),
                Ok(()) => {
                    let rows = (filled as usize).min(room);
                    let layout = actual(likely, &buffer, rows);
                    return Ok((0..rows).map(|it| row(layout, &buffer, it)).collect());
                }
            }
        }
    }
}

/// The layout that the library wrote, given what its functions make likely.
fn actual(likely: Layout, buffer: &[u64], rows: usize) -> Layout {
    let beyond = |layout: Layout| {
        let from = rows * layout as usize / mem::size_of::<u64>();
        &buffer[from..(rows * WORDS).max(from)]
    };
    match likely {
        // Nothing can be told of no row.
        _ if rows == 0 => likely,
        Layout::Long if beyond(Layout::Usual).iter().all(|it| *it == UNTOUCHED) => Layout::Usual,
        // What a library clears beyond its rows is no row.
        Layout::Usual if beyond(Layout::Usual).iter().any(|it| *it != UNTOUCHED && *it != 0) => {
            Layout::Long
        }
        likely => likely,
    }
}

fn row(layout: Layout, buffer: &[u64], index: usize) -> Row {
    let words = &buffer[index * layout as usize / mem::size_of::<u64>()..];
    // Where 4-byte numbers lie in 8-byte words depends on the machine; bytes do not.
    let [pid, _] = halves(words[0]);
    let instance = match layout {
        Layout::Short => [u32::MAX; 2],
        Layout::Usual | Layout::Long => halves(words[2]),
    };
    Row { pid, memory: words[1], instance: instance.into() }
}

/// The two numbers that lie in a word, in the order of their addresses.
fn halves(word: u64) -> [u32; 2] {
    let bytes = word.to_ne_bytes();
    let number =
        |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four of eight bytes"));
    [number(0), number(4)]
}

#[cfg(test)]
mod tests {
    use super::{Layout, ListFunction, Lists, Row, WORDS};
    use crate::{machine::ProcessKind, nvml::code::Code};

    const ROWS: [Row; 3] = [
        Row { pid: 21_990, memory: 4_514_119_680, instance: (u32::MAX, u32::MAX) },
        Row { pid: 7, memory: u64::MAX, instance: (1, 0) },
        Row { pid: 8, memory: 0, instance: (u32::MAX, u32::MAX) },
    ];

    /// What a library with this layout writes.
    fn bytes(layout: Layout, rows: &[Row]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for row in rows {
            bytes.extend(row.pid.to_ne_bytes());
            bytes.extend([0; 4]);
            bytes.extend(row.memory.to_ne_bytes());
            if layout != Layout::Short {
                bytes.extend(row.instance.0.to_ne_bytes());
                bytes.extend(row.instance.1.to_ne_bytes());
            }
            if layout == Layout::Long {
                bytes.extend(0_u64.to_ne_bytes());
            }
        }
        bytes
    }

    fn read(likely: Layout, written: &[u8], rows: usize) -> Vec<Row> {
        unsafe extern "C" fn never(
            _: nvml_wrapper_sys::bindings::nvmlDevice_t,
            _: *mut u32,
            _: *mut std::ffi::c_void,
        ) -> u32 {
            999
        }
        let list = Some((never as ListFunction, likely));
        let lists = Lists { compute: list, graphics: list, mps: None };
        let fill = |count: *mut u32, buffer: *mut std::ffi::c_void| {
            // SAFETY: `read` gives a count and room for that many rows of the longest layout.
            let room = unsafe { *count } as usize;
            // SAFETY: as above.
            unsafe { *count = u32::try_from(rows).unwrap() };
            if rows > room {
                return Err(Code::INSUFFICIENT_SIZE);
            }
            assert!(written.len() <= room * WORDS * 8);
            // SAFETY: as above; what is written is shorter.
            unsafe { std::ptr::copy(written.as_ptr(), buffer.cast(), written.len()) };
            Ok(())
        };
        lists.read(ProcessKind::Compute, fill).unwrap()
    }

    #[test]
    fn rows_are_read_whatever_the_symbols_promise() {
        for count in 0..=ROWS.len() {
            let rows = &ROWS[..count];
            for (likely, written) in [
                (Layout::Usual, Layout::Usual),
                (Layout::Long, Layout::Long),
                (Layout::Long, Layout::Usual),
                (Layout::Usual, Layout::Long),
            ] {
                let read = read(likely, &bytes(written, rows), count);
                assert_eq!(read, rows, "{likely:?} promised, {written:?} written");
            }
        }
    }

    #[test]
    fn old_rows_have_no_instance() {
        let rows = read(Layout::Short, &bytes(Layout::Short, &ROWS), 3);
        assert_eq!(rows[1], Row { instance: (u32::MAX, u32::MAX), ..ROWS[1] });
        assert_eq!(rows[2].pid, 8);
    }

    #[test]
    fn a_list_that_outgrows_its_room_is_read_again() {
        let many: Vec<_> =
            (0..1000).map(|pid| Row { pid, memory: 1, instance: (u32::MAX, u32::MAX) }).collect();
        assert_eq!(read(Layout::Usual, &bytes(Layout::Usual, &many), 1000), many);
    }

    #[test]
    fn what_a_library_clears_behind_its_rows_is_no_row() {
        let mut cleared = bytes(Layout::Usual, &ROWS);
        cleared.extend([0; 24]);
        assert_eq!(read(Layout::Usual, &cleared, 3), ROWS);
    }
}
