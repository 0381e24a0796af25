use libmimalloc_sys::{mi_option_set, mi_option_t};

/// Reading many files is mostly allocating small nodes, which mimalloc does in three quarters of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of `mimalloc.h` in version 3, which the crate does not name: after how many
/// milliseconds freed memory goes back to the system; -1 is never.
const PURGE_DELAY: mi_option_t = 15;

/// Keeps what is freed for the next file.
///
/// Handing pages back and having them cleared anew, 2 MiB at a time, took a fifth of a scan.
#[expect(unsafe_code, reason = "options can be set by a C function only")]
pub(crate) fn keep_freed_memory() {
    // SAFETY: the function stores an integer under a valid number, and may be called at any time.
    unsafe { mi_option_set(PURGE_DELAY, -1) }
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::{PURGE_DELAY, keep_freed_memory};

    /// Its neighbours have other defaults, so the number is that of the delay.
    #[test]
    #[expect(unsafe_code, reason = "options can be read by a C function only")]
    fn the_option_is_the_delay() {
        // SAFETY: the function loads an integer under a valid number.
        let get = || unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(get(), 1000, "mimalloc's own, unless `MIMALLOC_PURGE_DELAY` says otherwise");
        keep_freed_memory();
        assert_eq!(get(), -1);
    }
}
