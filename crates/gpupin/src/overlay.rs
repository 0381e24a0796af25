use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use gpupin_run::plain::{self, Links};

use crate::project::Project;

/// What another tree, such as git's index, has in the place of files of the working tree.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// By absolute path. Nothing: in that tree there is no such file or directory.
    contents: BTreeMap<PathBuf, Option<Vec<u8>>>,
}

impl Overlay {
    pub(crate) fn insert(&mut self, path: PathBuf, contents: Option<Vec<u8>>) {
        self.contents.insert(path, contents);
    }

    /// Whether there is anything of this name: a link that leads nowhere, a directory or a pipe too.
    pub(crate) fn has(&self, path: &Path) -> bool {
        match self.contents.get(path) {
            Some(contents) => contents.is_some(),
            None => path.symlink_metadata().is_ok(),
        }
    }

    pub(crate) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.contents.get(path) {
            Some(Some(contents)) => Ok(contents.clone()),
            Some(None) => Err(io::ErrorKind::NotFound.into()),
            None => {
                let mut bytes = Vec::new();
                plain::open(path, Links::Follow)?.read_to_end(&mut bytes)?;
                Ok(bytes)
            }
        }
    }

    /// The same by what the linter knows files by.
    pub(crate) fn by_key(&self, project: &Project) -> BTreeMap<String, Option<&[u8]>> {
        let key = |path: &Path| project.key(path);
        self.contents.iter().map(|(path, it)| (key(path), it.as_deref())).collect()
    }
}
