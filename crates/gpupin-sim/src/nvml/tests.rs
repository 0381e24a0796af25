use nvml_wrapper_sys::bindings::NvmlLib;

use super::{accounting, events, figures, identity, mig, processes, settings, system};

/// Compiles only if every function has the signature that the bindings give it.
#[expect(dead_code, reason = "only its types count; there is no library to fill")]
fn signatures(lib: &mut NvmlLib) {
    system::check_starts(lib);
    system::check_machines(lib);
    identity::check_machines(lib);
    for check in [
        accounting::check_devices,
        events::check_devices,
        figures::check_devices,
        identity::check_devices,
        mig::check_devices,
        processes::check_devices,
        processes::check_lists,
        settings::check_devices,
        events::check_waits,
    ] {
        check(lib);
    }
}
