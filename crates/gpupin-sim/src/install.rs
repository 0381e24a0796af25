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
}

/// The library beside a program, where `cargo` or a package puts it.
pub fn beside(program: &Path) -> Option<PathBuf> {
    let directory = program.parent()?;
    let places = [
        // Where cargo leaves it; the one beside the program may be older.
        directory.join("deps").join(LIBRARY),
        directory.join(LIBRARY),
        directory.join("../lib/gpupin").join(LIBRARY),
    ];
    places.into_iter().find(|it| it.is_file())
}

/// Puts the driver's libraries of a scene into a directory, which must be empty.
///
/// Where the scene has none, files that are no libraries keep the machine's own from being found instead.
pub fn install(library: &Path, scene: &Scene, directory: &Path) -> Result<(), InstallError> {
    let bytes = fs::read(library)
        .map_err(|source| InstallError::Read { path: library.to_owned(), source })?;
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
