//! Makes room: old images go, and with them the layers and files of the cache that no other image was made of.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use super::{Record, Store};
use crate::cache::Cache;

/// Longer manifests are none, in bytes: as registries have it.
const MAX_MANIFEST: u64 = 4 << 20;

/// What was removed, or would be.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Removed {
    pub(crate) images: Vec<String>,
    /// Layers and fetched files.
    pub(crate) files: usize,
    /// On the disk, all together.
    pub(crate) bytes: u64,
}

/// Keeps the newest `keep` images of each name. The cache must be ours meanwhile.
pub(crate) fn collect(store: &Store, cache: &Cache, keep: usize, dry_run: bool) -> Result<Removed> {
    let (mut kept, mut old): (Vec<Record>, Vec<Record>) = (Vec::new(), Vec::new());
    for record in store.list()? {
        let same = kept.iter().filter(|other| other.name == record.name).count();
        if same < keep { kept.push(record) } else { old.push(record) }
    }
    let mut doomed: Vec<PathBuf> = old.iter().map(|record| store.dir(&record.signature)).collect();
    doomed.extend(entries(&store.root.join("set-aside"))?);
    let images = doomed.len();

    let layers: BTreeSet<&str> = kept.iter().flat_map(|record| &record.layers).map(String::as_str).collect();
    let files: BTreeSet<&str> = kept.iter().flat_map(|record| files_of(&record.inputs)).collect();
    let mut blobs = BTreeSet::new();
    for digest in kept.iter().flat_map(|record| images_of(&record.inputs)) {
        add_blobs(&cache.path("blobs-v1/sha256"), digest, &mut blobs);
    }
    let blobs = blobs.iter().map(String::as_str).collect();
    for (folder, in_use) in [("trees-v1", &layers), ("files-v1", &files), ("blobs-v1/sha256", &blobs)] {
        for path in entries(&cache.path(folder))? {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            if !in_use.contains(&*stem) {
                doomed.push(path);
            }
        }
    }
    let mut removed = Removed {
        images: old.into_iter().map(|record| record.signature).collect(),
        files: doomed.len() - images,
        bytes: 0,
    };
    for path in doomed {
        removed.bytes += size(&path)?;
        if dry_run {
            continue;
        }
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
            .with_context(|| format!("Cannot remove {}", path.display()))?;
    }
    Ok(removed)
}

/// The digests of fetched files that an image was made of.
fn files_of(inputs: &Value) -> Vec<&str> {
    let packages = ["tools", "packages"]
        .iter()
        .filter_map(|list| inputs[list].as_array())
        .flatten()
        .filter_map(|package| package["sha256"].as_str());
    let artifacts =
        inputs["artifacts"].as_object().into_iter().flatten().filter_map(|(_, digest)| digest.as_str());
    packages.chain(artifacts).collect()
}

/// The digests of container images that an image was made of.
fn images_of(inputs: &Value) -> impl Iterator<Item = &str> {
    inputs["containerImages"].as_object().into_iter().flatten().filter_map(|(_, digest)| digest.as_str())
}

/// The blob of a digest, and all that it names if it is an index or a manifest.
fn add_blobs(dir: &Path, digest: &str, blobs: &mut BTreeSet<String>) {
    let hex = digest.trim_start_matches("sha256:");
    let path = dir.join(hex);
    // A layer is no JSON, and mostly longer.
    let is_short = fs::metadata(&path).is_ok_and(|meta| meta.len() <= MAX_MANIFEST);
    if !blobs.insert(hex.to_string()) || !is_short {
        return;
    }
    let text = fs::read(&path).unwrap_or_default();
    let Ok(manifest) = serde_json::from_slice::<Value>(&text) else { return };
    let parts = ["manifests", "layers"].iter().filter_map(|list| manifest[list].as_array()).flatten();
    for digest in parts.chain([&manifest["config"]]).filter_map(|part| part["digest"].as_str()) {
        add_blobs(dir, digest, blobs);
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e).with_context(|| format!("Cannot list {}", dir.display())),
    }
}

/// What a file or a folder of files takes, in bytes.
fn size(path: &Path) -> Result<u64> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_dir() {
        return entries(path)?.iter().map(|path| size(path)).sum();
    }
    Ok(std::os::unix::fs::MetadataExt::blocks(&meta) * 512)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_newest_of_each_name_stay_with_what_they_are_made_of() {
        let dir = tempfile::tempdir().unwrap();
        let printer = crate::progress::Printer::new(crate::progress::Mode::Plain, true, false);
        let cache = Cache::open(&dir.path().join("cache"), &printer).unwrap();
        let store = Store::new(dir.path().join("store"));
        let mut signatures = Vec::new();
        for (n, name) in ["a", "a", "b"].iter().enumerate() {
            let file = n.to_string();
            let inputs = json!({"packages": [{"name": "p", "sha256": file}], "artifacts": {"x": "shared"}, "containerImages": {"i": "sha256:index", "j": null}});
            let mut record = Record::new(name, &crate::signature::of(&inputs).unwrap(), inputs);
            record.built = jiff::Timestamp::from_second(n as i64).unwrap();
            record.layers.push(format!("layer{n}"));
            fs::create_dir_all(store.dir(&record.signature)).unwrap();
            store.put(&record).unwrap();
            fs::write(cache.path("files-v1").join(&file), "x").unwrap();
            fs::write(cache.path(format!("trees-v1/layer{n}.tar")), "x").unwrap();
            signatures.push(record.signature);
        }
        fs::write(cache.path("files-v1/shared"), "x").unwrap();
        let blobs = cache.path("blobs-v1/sha256");
        fs::create_dir_all(&blobs).unwrap();
        for (name, text) in [
            ("index", r#"{"manifests": [{"digest": "sha256:manifest"}, {"digest": "sha256:elsewhere"}]}"#),
            (
                "manifest",
                r#"{"config": {"digest": "sha256:config"}, "layers": [{"digest": "sha256:layer"}]}"#,
            ),
            ("config", "{}"),
            ("layer", "no JSON"),
            ("other", "{}"),
        ] {
            fs::write(blobs.join(name), text).unwrap();
        }
        store.set_aside(&signatures[2]).unwrap();
        let would = collect(&store, &cache, 1, true).unwrap();
        let removed = collect(&store, &cache, 1, false).unwrap();
        assert_eq!(would.files, removed.files);
        assert_eq!(removed.images, [signatures[0].clone()]);
        // Of the oldest, and of the image that was set aside; and a blob that no image names.
        assert_eq!(removed.files, 5);
        assert_eq!(entries(&blobs).unwrap().len(), 4);
        let left = store.list().unwrap();
        assert_eq!(left.len(), 1);
        assert!(cache.path("files-v1/1").exists() && cache.path("files-v1/shared").exists());
        assert!(cache.path("trees-v1/layer1.tar").exists() && !cache.path("trees-v1/layer0.tar").exists());
        assert_eq!(collect(&store, &cache, 1, false).unwrap().files, 0);
    }
}
