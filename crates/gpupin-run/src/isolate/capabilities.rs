use rustix::{
    io::Errno,
    thread::{
        CapabilitySet, capabilities, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities,
    },
};

/// What could undo the isolation: mounting, making device nodes, loading code into the kernel, looking into other processes,
/// finding files by handle, talking to hardware, getting capabilities back.
const DANGEROUS: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SYS_MODULE)
    .union(CapabilitySet::SYS_RAWIO)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::SYS_BOOT)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::MAC_ADMIN)
    .union(CapabilitySet::MAC_OVERRIDE);

/// Drops them from every set of this thread.
pub(super) fn drop_for_good() -> Result<(), String> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: Errno| format!("{what}: {error}")
    };
    let before = capabilities(None).map_err(failed("failed to ask"))?;
    // Removing from the bounding set is what `exec` as root cannot bring back.
    if before.effective.contains(CapabilitySet::SETPCAP) {
        for capability in DANGEROUS.iter() {
            match remove_capability_from_bounding_set(capability) {
                // A kernel that does not know it does not have it.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(error) => return Err(failed("failed to bound")(error)),
            }
        }
    } else if rustix::process::geteuid().is_root() {
        return Err("root without CAP_SETPCAP gets them back at each start of a program".to_owned());
    }
    clear_ambient_capability_set().map_err(failed("failed to clear ambient ones"))?;
    let mut after = before;
    after.effective -= DANGEROUS;
    after.permitted -= DANGEROUS;
    after.inheritable -= DANGEROUS;
    set_capabilities(None, after).map_err(failed("failed to drop"))
}
