//! The functions of a shared library, and taking some out of it.

/// Why a file is not a shared library that can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no shared library of 64 bits")]
pub struct NotElf;

const SECTION_HEADER: usize = 64;
const SYMBOL: usize = 24;
const DYNAMIC_SYMBOLS: u32 = 11;

/// Makes functions of a library undefined, those of which `is_hidden` says so.
///
/// The dynamic linker skips a symbol without section and value, so for who looks the function does not exist. The library's own calls
/// are bound when it is linked and go on.
pub(crate) fn hide(library: &mut [u8], is_hidden: impl Fn(&str) -> bool) -> Result<(), NotElf> {
    for at in symbols(library, is_hidden)? {
        // The section and the value; what it is called and how long it is stays.
        library.get_mut(at + 6..at + 16).ok_or(NotElf)?.fill(0);
    }
    Ok(())
}

/// Whether a library has a symbol for others.
pub(crate) fn has(library: &[u8], name: &str) -> Result<bool, NotElf> {
    Ok(!symbols(library, |it| it == name)?.is_empty())
}

/// Where the entries of the symbols are that `is_meant` picks.
fn symbols(library: &[u8], is_meant: impl Fn(&str) -> bool) -> Result<Vec<usize>, NotElf> {
    let is_elf = library.starts_with(&[0x7f, b'E', b'L', b'F', 2, 1]);
    if !is_elf {
        return Err(NotElf);
    }
    let sections = usize::try_from(number::<8>(library, 0x28)?).map_err(|_| NotElf)?;
    let count = usize::try_from(number::<2>(library, 0x3c)?).map_err(|_| NotElf)?;
    let section = |index: usize| -> Result<(u64, usize, usize, usize), NotElf> {
        let at = sections + index * SECTION_HEADER;
        let value =
            |offset| usize::try_from(number::<8>(library, at + offset)?).map_err(|_| NotElf);
        let link = usize::try_from(number::<4>(library, at + 0x28)?).map_err(|_| NotElf)?;
        Ok((number::<4>(library, at + 4)?, value(0x18)?, value(0x20)?, link))
    };
    let mut meant = Vec::new();
    for index in 0..count {
        let (kind, start, size, link) = section(index)?;
        if kind != u64::from(DYNAMIC_SYMBOLS) {
            continue;
        }
        let (_, names, ..) = section(link)?;
        for at in (start..start + size).step_by(SYMBOL) {
            let name = names + usize::try_from(number::<4>(library, at)?).map_err(|_| NotElf)?;
            let bytes = library.get(name..).ok_or(NotElf)?;
            let end = bytes.iter().position(|it| *it == 0).ok_or(NotElf)?;
            if std::str::from_utf8(&bytes[..end]).is_ok_and(&is_meant) {
                meant.push(at);
            }
        }
    }
    Ok(meant)
}

/// A number of `N` bytes, the least significant first.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<u64, NotElf> {
    let found = bytes.get(at..at + N).ok_or(NotElf)?;
    Ok(found.iter().rev().fold(0, |all, it| all << 8 | u64::from(*it)))
}

#[cfg(test)]
mod tests {
    use super::{NotElf, hide};

    #[test]
    fn other_files_are_left_alone() {
        for bytes in [&b""[..], b"#!/bin/sh\n", b"\x7fELF\x02\x01\x01", &[0; 4096]] {
            assert_eq!(hide(&mut bytes.to_vec(), |_| true), Err(NotElf));
        }
    }
}
