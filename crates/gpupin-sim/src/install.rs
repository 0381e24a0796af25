use std::{
    fs, io,
    path::{Path, PathBuf},
};

use gpupin_device::scene::{Library, Scene};

use crate::{elf, profile::Profile};

/// What the library with all functions is called.
pub const LIBRARY: &str = "libgpupin_sim.so";

/// Why a program cannot be given simulated libraries.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    #[error("failed to read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("failed to write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("`{}` cannot be used", path.display())]
    NotLibrary { path: PathBuf, source: elf::NotElf },
    /// What a scene may say, and what the processes of a simulation tell each other, could differ.
    #[error("`{}` was built from other sources than this program", path.display())]
    OtherBuild { path: PathBuf },
}

/// A symbol that only libraries of the same sources have.
const BUILD: &str = concat!("gpupin_sim_build_", env!("GPUPIN_SIM_BUILD"));

#[expect(unsafe_code, reason = "the name of a symbol for others is everybody's")]
// SAFETY: nothing else is called so, and it is never read.
#[unsafe(export_name = concat!("gpupin_sim_build_", env!("GPUPIN_SIM_BUILD")))]
#[used]
static OF_THIS_BUILD: u8 = 0;

/// The library beside a program, where `cargo` or a package puts it: the first of this build, or if there is none the first.
pub fn beside(program: &Path) -> Option<PathBuf> {
    let directory = program.parent()?;
    let places = [
        directory.join("deps").join(LIBRARY),
        directory.join(LIBRARY),
        directory.join("../lib/gpupin").join(LIBRARY),
    ];
    let found: Vec<_> = places.into_iter().filter(|it| it.is_file()).collect();
    let ours = found.iter().find(|it| read(it).is_ok());
    ours.or(found.first()).cloned()
}

/// The bytes of a library of this build.
fn read(library: &Path) -> Result<Vec<u8>, InstallError> {
    let path = || library.to_owned();
    let bytes = fs::read(library).map_err(|source| InstallError::Read { path: path(), source })?;
    let is_ours = elf::has(&bytes, BUILD)
        .map_err(|source| InstallError::NotLibrary { path: path(), source })?;
    if is_ours { Ok(bytes) } else { Err(InstallError::OtherBuild { path: path() }) }
}

/// Puts the driver's libraries of a scene into a directory, which must be empty.
///
/// Where the scene has none, files that are no libraries keep the machine's own from being found instead.
pub fn install(library: &Path, scene: &Scene, directory: &Path) -> Result<(), InstallError> {
    let bytes = read(library)?;
    let nvml = Profile::of(&scene.driver).functions();
    let is_nvml = |name: &str| name.starts_with("nvml");
    let is_cuda = |name: &str| name.starts_with("cu");
    put(directory, "libnvidia-ml.so", library, scene, bytes.clone(), |name| {
        is_cuda(name) || is_nvml(name) && !nvml.contains(name)
    })?;
    put(directory, "libcuda.so", library, scene, bytes, is_nvml)
}

/// Writes one library under the name that programs load, and the name that compilers and nvtop use.
fn put(
    directory: &Path,
    name: &str,
    library: &Path,
    scene: &Scene,
    mut bytes: Vec<u8>,
    is_hidden: impl Fn(&str) -> bool,
) -> Result<(), InstallError> {
    let path = directory.join(format!("{name}.1"));
    match scene.library {
        Library::Present => elf::hide(&mut bytes, is_hidden)
            .map_err(|source| InstallError::NotLibrary { path: library.to_owned(), source })?,
        Library::Absent => bytes.clear(),
    }
    let failed = |source| InstallError::Write { path: path.clone(), source };
    fs::write(&path, bytes).map_err(failed)?;
    #[cfg(unix)]
    std::os::unix::fs::symlink(format!("{name}.1"), directory.join(name)).map_err(failed)?;
    Ok(())
}
