#![expect(unsafe_code, reason = "`bpf(2)` has no safe wrapper")]

use std::{
    fs, io, mem,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, major, minor};

use super::NVIDIA;

/// Numbers of a character device.
pub(super) type Device = (u32, u32);

/// Moves this process into a control group of its own, where the kernel refuses to open or make these devices, whatever they are called.
///
/// Who may write to the control groups can leave it, so that it keeps nobody in who is root. It is there for what goes by names: a copy
/// of a node that was made before.
pub(super) fn enter(devices: &[Device]) -> Result<(), String> {
    let above = own_group()?;
    sweep_in(&above);
    let group = above.join(format!("{PREFIX}{}", std::process::id()));
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| format!("{what}: {error}")
    };
    fs::create_dir(&group).map_err(failed("failed to make a control group"))?;
    let filtered = filter(&group, devices).and_then(|()| {
        fs::write(group.join("cgroup.procs"), "0").map_err(failed("failed to enter the group"))
    });
    if filtered.is_err() {
        // Only to leave nothing behind.
        drop(fs::remove_dir(&group));
    }
    filtered
}

/// Removes the control groups of programs that are gone.
pub(super) fn sweep() {
    if let Ok(above) = own_group() {
        sweep_in(&above);
    }
}

/// The devices that nodes stand for, there or not.
pub(super) fn devices(nodes: &[&Path]) -> Vec<Device> {
    let of = |node: &&Path| match fs::metadata(node) {
        Ok(it) if it.file_type().is_char_device() => Some((major(it.rdev()), minor(it.rdev()))),
        _ => {
            let number = node.file_name()?.to_str()?.strip_prefix("nvidia")?;
            Some((NVIDIA, number.parse().ok()?))
        }
    };
    let mut devices: Vec<_> = nodes.iter().filter_map(of).collect();
    devices.sort_unstable();
    devices.dedup();
    devices
}

/// How the groups are called, before the number of the process.
const PREFIX: &str = "gpupin-";

fn sweep_in(above: &Path) {
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|it| it.strip_prefix(PREFIX)?.parse::<u32>().ok());
        // One that is made just now belongs to a process that lives.
        if pid.is_some_and(|it| !Path::new("/proc").join(it.to_string()).exists()) {
            // Where something still lives in it the kernel refuses.
            drop(fs::remove_dir(entry.path()));
        }
    }
}

/// The control group of this process, in the hierarchy of version 2.
fn own_group() -> Result<PathBuf, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|it| format!("`{path}`: {it}"));
    let (mounts, groups) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
    let mounted = mounted(&mounts).ok_or("control groups of version 2 are not mounted")?;
    let group = groups.lines().find_map(|it| it.strip_prefix("0::/"));
    let group = group.ok_or("this process has no control group of version 2")?;
    Ok(Path::new(mounted).join(group))
}

/// Where control groups of version 2 are mounted: the fifth field, where the file system's type, which follows ` - `, is `cgroup2`.
fn mounted(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        after.starts_with("cgroup2 ").then(|| before.split(' ').nth(4))?
    })
}

fn filter(group: &Path, devices: &[Device]) -> Result<(), String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let group = rustix::fs::open(group, flags, Mode::empty()).map_err(|it| it.to_string())?;
    let program = load(&program(devices)).map_err(|it| format!("failed to load a filter: {it}"))?;
    attach(&group, &program).map_err(|it| format!("failed to attach the filter: {it}"))
}

/// An instruction, as in `linux/bpf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
struct Instruction {
    code: u8,
    /// The destination in the lower half, the source in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// `BPF_LDX | BPF_MEM | BPF_W`, `BPF_ALU64 | BPF_AND | BPF_K`, `BPF_JMP | BPF_JNE | BPF_K`, `BPF_ALU64 | BPF_MOV | BPF_K`, `BPF_EXIT`.
const LOAD: u8 = 0x61;
const AND: u8 = 0x57;
const UNLESS_EQUAL: u8 = 0x55;
const SET: u8 = 0xb7;
const EXIT: u8 = 0x95;

/// `BPF_DEVCG_DEV_CHAR`, in the lower half of `access_type`.
const CHARACTER: u32 = 2;

/// Returns 0, which refuses, for these devices and 1 for all others. It gets a `struct bpf_cgroup_dev_ctx` in register 1.
fn program(devices: &[Device]) -> Vec<Instruction> {
    let code =
        |code, registers, offset, immediate| Instruction { code, registers, offset, immediate };
    let jump =
        |register, unless: u32, over| code(UNLESS_EQUAL, register, over, unless.cast_signed());
    let refuse = [code(SET, 0, 0, 0), code(EXIT, 0, 0, 0)];
    let allow = [code(SET, 0, 0, 1), code(EXIT, 0, 0, 0)];
    let mut program = vec![
        code(LOAD, 0x12, 0, 0),
        code(AND, 2, 0, 0xffff),
        code(LOAD, 0x13, 4, 0),
        code(LOAD, 0x14, 8, 0),
        jump(2, CHARACTER, 1),
        // Over what allows all that is no character device.
        code(0x05, 0, 2, 0),
    ];
    program.extend(allow);
    for (major, minor) in devices {
        program.extend([jump(3, *major, 3), jump(4, *minor, 2)]);
        program.extend(refuse);
    }
    program.extend(allow);
    program
}

/// The part of `union bpf_attr` that loading looks at; what follows may be left out.
#[repr(C)]
struct LoadAttributes {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// That which attaching looks at.
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    const PROG_LOAD: libc::c_int = 5;
    const CGROUP_DEVICE: u32 = 15;
    let attributes = LoadAttributes {
        kind: CGROUP_DEVICE,
        count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions: program.as_ptr() as u64,
        license: c"".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    // SAFETY: the attributes are as long as is said, and what they point to outlives the call.
    let fd = unsafe { bpf(PROG_LOAD, &attributes) }?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn attach(group: &OwnedFd, program: &OwnedFd) -> io::Result<()> {
    const PROG_ATTACH: libc::c_int = 8;
    const CGROUP_DEVICE: u32 = 6;
    // Those of the groups above go on to refuse too.
    const ALLOW_MULTI: u32 = 2;
    let attributes = AttachAttributes {
        target: group.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the attributes are as long as is said, and point to nothing.
    unsafe { bpf(PROG_ATTACH, &attributes) }.map(|_| ())
}

/// # Safety
///
/// `attributes` must be what the command wants, and what they point to must be there.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: the caller's.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), mem::size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Write as _,
        path::{Path, PathBuf},
        process::Command,
    };

    use super::{
        AND, CHARACTER, EXIT, Instruction, LOAD, SET, UNLESS_EQUAL, devices, enter, program, sweep,
    };

    /// What a program returns for what the kernel tells it.
    fn run(program: &[Instruction], context: [u32; 3]) -> u64 {
        let mut registers = [0_u64; 11];
        let mut at = 0;
        loop {
            let it = program[at];
            at += 1;
            let (to, from) = (usize::from(it.registers & 15), usize::from(it.registers >> 4));
            match it.code {
                LOAD => {
                    assert_eq!(from, 1, "only the context can be read");
                    registers[to] = context[usize::try_from(it.offset).unwrap() / 4].into();
                }
                AND => registers[to] &= u64::from(it.immediate.cast_unsigned()),
                SET => registers[to] = u64::from(it.immediate.cast_unsigned()),
                UNLESS_EQUAL => {
                    if registers[to] != u64::from(it.immediate.cast_unsigned()) {
                        at = at.checked_add_signed(it.offset.into()).unwrap();
                    }
                }
                0x05 => at = at.checked_add_signed(it.offset.into()).unwrap(),
                EXIT => return registers[0],
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn the_filter_refuses_exactly_the_devices_however_they_are_used() {
        let hidden = [(195, 0), (195, 3), (226, 128)];
        for list in [&hidden[..], &hidden[..1], &[]] {
            let program = program(list);
            for (major, minor) in [(195, 0), (195, 1), (195, 3), (226, 128), (226, 0), (1, 3)] {
                // Making, reading, writing, in the upper half.
                for access in [1, 2, 4, 6] {
                    let character = run(&program, [access << 16 | CHARACTER, major, minor]);
                    assert_eq!(character == 0, list.contains(&(major, minor)), "{major}:{minor}");
                    let block = run(&program, [access << 16 | 1, major, minor]);
                    assert_eq!(block, 1, "{major}:{minor}");
                }
            }
        }
    }

    #[test]
    fn the_numbers_of_a_node_that_is_not_there_follow_from_its_name() {
        let nodes = ["/dev/null", "/nonexistent/nvidia7", "/nonexistent/card0"].map(Path::new);
        assert_eq!(devices(&nodes), [(1, 3), (195, 7)]);
    }

    const CHILD: &str = "GPUPIN_TEST_DEVICE_CGROUP";

    /// What the child does that has entered the group.
    const TRY: &str = "cd \"$D\"
        for n in hidden renamed; do cat $n; done
        chmod 666 hidden; cat hidden; umount hidden
        mknod new c 195 250; cat new; mv hidden moved; cat moved
        cat other";

    #[test]
    fn the_kernel_refuses_hidden_devices_under_every_name() {
        let test =
            "isolate::device_cgroup::tests::the_kernel_refuses_hidden_devices_under_every_name";
        if let Some(directory) = std::env::var_os(CHILD) {
            if let Err(why) = enter(&[(195, 250)]) {
                fs::write(PathBuf::from(directory).join("refused"), why).unwrap();
                return;
            }
            let tried = Command::new("sh")
                .args(["-c", TRY])
                .env("D", &directory)
                .env("LC_ALL", "C")
                .output();
            fs::write(PathBuf::from(directory).join("tried"), tried.unwrap().stderr).unwrap();
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let skipped = |why: &str| writeln!(std::io::stderr(), "SKIPPED: {test}: {why}").unwrap();
        for (name, minor) in [("hidden", "250"), ("renamed", "250"), ("other", "251")] {
            let node = directory.path().join(name);
            let made = Command::new("mknod").arg(node).args(["c", "195", minor]).status();
            if !made.is_ok_and(|it| it.success()) {
                return skipped("device nodes cannot be made here");
            }
        }
        let mut child = Command::new(std::env::current_exe().unwrap());
        let child = child.args([test, "--exact"]).env(CHILD, directory.path()).output().unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        sweep();
        if let Ok(why) = fs::read_to_string(directory.path().join("refused")) {
            return skipped(&why);
        }
        let tried = fs::read_to_string(directory.path().join("tried")).unwrap();
        for line in [
            "cat: hidden: Operation not permitted",
            "cat: renamed: Operation not permitted",
            "mknod: new: Operation not permitted",
            "cat: moved: Operation not permitted",
            // There is no driver behind it.
            "cat: other: No such device or address",
        ] {
            assert!(tried.lines().any(|it| it == line), "{tried}");
        }
        assert_eq!(tried.matches("cat: hidden: Operation not permitted").count(), 2, "{tried}");
    }
}
