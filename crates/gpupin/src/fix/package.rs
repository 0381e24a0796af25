//! What a fix needs that no file says the project has.

use std::{collections::BTreeSet, fs};

use gpupin_lint::fix::package::{IMPORT, NAME, declares, is_place};

use crate::{fix::rounds::Changed, project::Project, terminal::one_line};

/// What to say where a fix imports the package `gpupin`, and the project does not declare that it depends on it.
pub(crate) fn undeclared(project: &Project, changed: &[Changed]) -> Option<String> {
    let imports = |it: &&Changed| it.new_text.contains(IMPORT) && !it.old_text.contains(IMPORT);
    let importing: Vec<_> = changed.iter().filter(imports).collect();
    let first = importing.first()?;
    // Of a project in a larger one, the nearer files count too.
    let above = |it: &&Changed| -> BTreeSet<_> {
        let path = project.root.join(&it.key);
        let own = path.ancestors().skip(1).take_while(|it| it.starts_with(&project.root));
        own.map(ToOwned::to_owned).collect()
    };
    let mut directories: BTreeSet<_> = importing.iter().flat_map(above).collect();
    directories.insert(project.root.clone());
    let mut places = Vec::new();
    for directory in directories {
        for file in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let Some(text) =
                is_place(&name).then(|| fs::read_to_string(file.path()).ok()).flatten()
            else {
                continue;
            };
            if declares(&name, &text) {
                return None;
            }
            places.push(project.shown(&project.key(&file.path())));
        }
    }
    places.sort();
    let path = one_line(&project.shown(&first.key));
    let where_to = if places.is_empty() {
        String::new()
    } else {
        let places: Vec<_> = places.iter().map(|it| format!("`{}`", one_line(it))).collect();
        format!(" (looked at {})", places.join(", "))
    };
    Some(format!(
        "`{path}` imports the package `{NAME}` then, which the project does not declare as a dependency{where_to}"
    ))
}
