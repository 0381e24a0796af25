use std::{
    ffi::OsStr,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use gpupin_policy::GpuUuid;

use super::{
    builtin::BUILT_IN,
    fault::{self, Counts, Obstacle},
    format::Scene,
    process::{Processes, Running},
    stamp::Stamp,
};
use crate::{machine::MachineError, watchdog::calling};

/// A scene on which things happen: it is looked at again when its file changes.
#[derive(Debug)]
pub struct Live {
    origin: Origin,
    scene: Mutex<Option<(Stamp, Arc<Scene>)>>,
    processes: Mutex<Processes>,
    counts: Mutex<Counts>,
}

#[derive(Clone, Debug)]
enum Origin {
    /// One of the scenes that are part of gpupin; nothing happens on it.
    BuiltIn(&'static str, Arc<Scene>),
    File(PathBuf),
}

/// How often a scene that hangs is looked at again.
const HANGING: Duration = Duration::from_millis(20);

impl Live {
    /// Opens what a user wrote: a scene's file, a state directory, or the name of a scene that is part of gpupin.
    pub fn find(scene: &OsStr) -> Result<Self, MachineError> {
        let path = Path::new(scene);
        let built_in = BUILT_IN.iter().find(|it| scene == it.0);
        match built_in {
            Some((name, text)) if !path.exists() => {
                let parsed = Scene::parse(text);
                let invalid = |why| MachineError::Invalid { path: path.to_owned(), why };
                Ok(Self::new(Origin::BuiltIn(name, Arc::new(parsed.map_err(invalid)?))))
            }
            _ => Self::open(path),
        }
    }

    /// Opens a scene's file or a state directory.
    pub fn open(path: &Path) -> Result<Self, MachineError> {
        let file = if path.is_dir() { path.join("scene.toml") } else { path.to_owned() };
        let live = Self::new(Origin::File(file));
        live.scene()?;
        Ok(live)
    }

    fn new(origin: Origin) -> Self {
        Self {
            origin,
            scene: Mutex::default(),
            processes: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    /// The scene as it is now.
    pub fn scene(&self) -> Result<Arc<Scene>, MachineError> {
        let path = match &self.origin {
            Origin::BuiltIn(_, scene) => return Ok(Arc::clone(scene)),
            Origin::File(path) => path,
        };
        let unreadable = |source| MachineError::Read { path: path.clone(), source };
        let stamp = Stamp::of(path).map_err(unreadable)?;
        let mut known = self.scene.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((read, scene)) if read.still_holds(&stamp) => Ok(Arc::clone(scene)),
            _ => {
                let text = fs::read_to_string(path).map_err(unreadable)?;
                let invalid = |why| MachineError::Invalid { path: path.clone(), why };
                let scene = Arc::new(Scene::parse(&text).map_err(invalid)?);
                *known = Some((stamp, Arc::clone(&scene)));
                Ok(scene)
            }
        }
    }

    /// Processes that use or used a GPU of this scene; none if it is no state directory.
    pub fn processes(&self) -> Result<Vec<Running>, MachineError> {
        let Some(directory) = self.processes_directory() else { return Ok(Vec::new()) };
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let unreadable = |source| MachineError::Read { path: directory.clone(), source };
        processes.read(&directory).map_err(unreadable)
    }

    /// Where the processes of this scene say what they do.
    pub fn processes_directory(&self) -> Option<PathBuf> {
        match &self.origin {
            Origin::BuiltIn(..) => None,
            Origin::File(path) => {
                let is_state = path.file_name() == Some(OsStr::new("scene.toml"));
                is_state.then(|| path.with_file_name("processes"))
            }
        }
    }

    /// Calls a function of the driver's libraries: waits as long as the scene says, and tells what else goes wrong.
    pub fn call(&self, function: &str, gpu: Option<&GpuUuid>) -> Result<Obstacle, MachineError> {
        let scene = self.scene()?;
        let obstacle = {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            fault::meet(&scene.faults, &mut counts, function, gpu)
        };
        calling(function);
        thread::sleep(obstacle.latency);
        if obstacle.hang {
            while self.scene().is_ok_and(|it| fault::hangs(&it.faults, function, gpu)) {
                thread::sleep(HANGING);
            }
        }
        Ok(obstacle)
    }

    /// Changes the file of the scene; comments in it are lost.
    pub fn edit(&self, change: impl FnOnce(&mut toml::Table)) -> Result<(), MachineError> {
        let Origin::File(path) = &self.origin else {
            return Err(MachineError::Query { what: "a change", why: "the scene is fixed".into() });
        };
        let failed = |source| MachineError::Read { path: path.clone(), source };
        let lock = fs::File::create(path.with_file_name("lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let text = fs::read_to_string(path).map_err(failed)?;
        let mut table: toml::Table =
            text.parse().map_err(|error| failed(io::Error::other(error)))?;
        change(&mut table);
        let text = toml::to_string(&table).map_err(|error| failed(io::Error::other(error)))?;
        let invalid = |why| MachineError::Invalid { path: path.clone(), why };
        Scene::parse(&text).map_err(invalid)?;
        let temporary = path.with_file_name(".scene.toml.new");
        fs::write(&temporary, text).map_err(failed)?;
        fs::rename(temporary, path).map_err(failed)
    }

    /// Makes a state directory for this scene, so that things can happen on it.
    pub fn copy_to(&self, directory: &Path) -> Result<Self, MachineError> {
        let text = match &self.origin {
            Origin::BuiltIn(name, _) => {
                BUILT_IN.iter().find(|it| it.0 == *name).map(|it| it.1.to_owned())
            }
            Origin::File(path) => Some(
                fs::read_to_string(path)
                    .map_err(|source| MachineError::Read { path: path.clone(), source })?,
            ),
        };
        let failed = |source| MachineError::Read { path: directory.to_owned(), source };
        fs::create_dir_all(directory.join("processes")).map_err(failed)?;
        fs::write(directory.join("scene.toml"), text.unwrap_or_default()).map_err(failed)?;
        Self::open(directory)
    }
}

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::BuiltIn(name, _) => f.write_str(name),
            Origin::File(path) => path.display().fmt(f),
        }
    }
}
