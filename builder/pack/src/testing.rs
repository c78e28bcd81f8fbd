//! Packs for tests.

use std::path::Path;

use tempfile::TempDir;

use crate::{Error, Facts, Pack, Profile, Selection, document};

/// A folder with these files; `pack.json` and `values.yaml` are minimal if they are not among them.
pub(crate) fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let basic =
        [("pack.json", r#"{"name": "a", "version": "1.0.0", "layer": "addon"}"#), ("values.yaml", "")];
    for (name, text) in basic.iter().chain(files) {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

/// The pack of such a folder, or what is wrong with it.
pub(crate) fn read(files: &[(&str, &str)]) -> Result<Pack, String> {
    let dir = folder(files);
    Pack::read(dir.path()).map_err(|error| shown(&error, dir.path()))
}

/// A selection of the pack NAME-1.0.0 of a layer, with values.
pub(crate) fn selection(name: &str, layer: &str, values: &str) -> Selection {
    let json = format!(r#"{{"name": "{name}", "version": "1.0.0", "layer": "{layer}"}}"#);
    with(&[("pack.json", &json), ("values.yaml", values)], "")
}

/// A selection with overrides.
pub(crate) fn with(files: &[(&str, &str)], overrides: &str) -> Selection {
    let mut pack = read(files).unwrap();
    pack.dir = pack.id().into();
    pack.schema.file = pack.dir.join("schema.yaml");
    let values = Some(document::parse_yaml(overrides).unwrap());
    Selection { pack, presets: Vec::new(), values, file: Some("image.yaml".into()) }
}

/// A profile, or what is wrong with it: errors and hints, a line each.
pub(crate) fn profile(selections: Vec<Selection>, facts: &Facts) -> Result<Profile, String> {
    Profile::new(selections, facts).map_err(|errors| {
        errors.iter().map(|error| shown(error, Path::new(""))).collect::<Vec<_>>().join("\n")
    })
}

/// An error and its hint, with files as they are called in `dir`.
fn shown(error: &Error, dir: &Path) -> String {
    let mut error = error.clone();
    if let Some(below) = error.file.as_ref().and_then(|file| file.strip_prefix(dir).ok()) {
        error.file = Some(below.to_path_buf());
    }
    let hint = error.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{error}{hint}")
}
