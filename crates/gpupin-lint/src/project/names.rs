//! What a dotted name means: a function or a constant, here or in another module.

use crate::{
    project::Project,
    unit::{Function, Unit, UnitId},
    value::{Name, Root, Spanned, Value},
};

/// How many names are followed from one to the next: re-exports, aliases, bases.
const DEPTH: u32 = 8;

impl<'a> Project<'a> {
    /// The function, or the class's constructor, that a name in `unit` means.
    pub(crate) fn function(
        &self,
        unit: UnitId,
        name: &Name,
    ) -> Option<(UnitId, &'a str, &'a Function)> {
        self.follow(unit, name, DEPTH, &|unit, path| {
            let (key, function) = unit.functions.get_key_value(path)?;
            Some((key.as_str(), function))
        })
        .map(|(unit, (key, function))| (unit, key, function))
    }

    /// The constant that a name in `unit` means.
    pub(crate) fn constant(&self, unit: UnitId, name: &Name) -> Option<(UnitId, &'a Spanned)> {
        self.follow(unit, name, DEPTH, &|unit, path| {
            unit.constants.get(path).or_else(|| entry_of_dict(unit, path))
        })
    }

    fn follow<T>(
        &self,
        unit: UnitId,
        name: &Name,
        depth: u32,
        find: &dyn Fn(&'a Unit, &str) -> Option<T>,
    ) -> Option<(UnitId, T)> {
        if depth == 0 {
            return None;
        }
        if name.root != Root::Here {
            let located = self.locate(unit, name)?;
            let inside = Name::here(located.rest);
            return self.follow(located.unit?, &inside, depth - 1, find);
        }
        let here = self.unit(unit);
        if let Some(found) = find(here, &name.path) {
            return Some((unit, found));
        }
        // The longest known beginning decides: `cfg.gpu_id` where `cfg` was imported, or is an instance, or a class with a base.
        let mut at = name.path.len();
        loop {
            let (head, tail) = (&name.path[..at], name.path[at..].trim_start_matches('.'));
            for target in aliases(here, head) {
                let path = if tail.is_empty() {
                    target.path.clone()
                } else {
                    format!("{}.{tail}", target.path)
                };
                let target = Name { root: target.root.clone(), path };
                if target != *name
                    && let Some(found) = self.follow(unit, &target, depth - 1, find)
                {
                    return Some(found);
                }
            }
            match head.rfind('.') {
                Some(dot) => at = dot,
                None => break,
            }
        }
        here.star_imports.iter().find_map(|module| {
            let path = if module.path.is_empty() {
                name.path.clone()
            } else {
                format!("{}.{}", module.path, name.path)
            };
            self.follow(unit, &Name { root: module.root.clone(), path }, depth - 1, find)
        })
    }
}

/// What else the name `head` stands for in its module.
fn aliases<'u>(unit: &'u Unit, head: &str) -> Vec<&'u Name> {
    let imported = unit.imported_names.get(head);
    let instance = unit.constants.get(head).and_then(|it| match &it.value {
        Value::Name(name) => Some(name),
        _ => None,
    });
    let bases = unit.bases.get(head).into_iter().flatten();
    imported.into_iter().chain(instance).chain(bases).collect()
}

/// `CFG.gpu` where `CFG = {"gpu": 1}`.
fn entry_of_dict<'u>(unit: &'u Unit, path: &str) -> Option<&'u Spanned> {
    let (head, key) = path.rsplit_once('.')?;
    let Value::Dict(entries) = &unit.constants.get(head)?.value else {
        return None;
    };
    let entry =
        entries.iter().find(|(it, _)| matches!(&it.value, Value::Str(text) if text == key))?;
    Some(&entry.1)
}
