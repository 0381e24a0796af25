/// The scenes that are part of gpupin, by name: the files of `scenes`.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("accounting", include_str!("../../../../scenes/accounting.toml")),
    ("busy", include_str!("../../../../scenes/busy.toml")),
    ("faulty", include_str!("../../../../scenes/faulty.toml")),
    ("lost", include_str!("../../../../scenes/lost.toml")),
    ("mig", include_str!("../../../../scenes/mig.toml")),
    ("mixed", include_str!("../../../../scenes/mixed.toml")),
    ("no-driver", include_str!("../../../../scenes/no-driver.toml")),
    ("no-gpu", include_str!("../../../../scenes/no-gpu.toml")),
    ("one", include_str!("../../../../scenes/one.toml")),
    ("twin-3090", include_str!("../../../../scenes/twin-3090.toml")),
];

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::BUILT_IN;
    use crate::scene::Scene;

    #[test]
    fn every_scene_is_part_of_gpupin_and_valid() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenes");
        let mut files: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|it| it.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        assert_eq!(BUILT_IN.iter().map(|it| it.0).collect::<Vec<_>>(), files);
        for (name, text) in BUILT_IN {
            if let Err(why) = Scene::parse(text) {
                panic!("`{name}`: {why}");
            }
        }
    }
}
