//! Container images as archives: OCI image layout in a tar file, for `ctr images import` and `skopeo`.
//!
//! ```text
//! blobs/sha256/…   the manifest and what it names, byte for byte as in the registry
//! index.json       the manifest, and what the image is called
//! oci-layout
//! ```
//!
//! Sorted, without times and owners: the same image under the same name is the same archive.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use tar::{EntryType, Header};

use crate::artifact::descriptor;
use crate::blob;
use crate::connection::Connection;
use crate::manifest::{DOCKER_INDEX, DOCKER_MANIFEST, Index, OCI_INDEX, OCI_MANIFEST, Platform, Raw};
use crate::{Descriptor, Digest, Error, Manifest, Reference, Registry};

/// Larger images are not pulled, in bytes.
const LARGEST: u64 = 16 << 30;

impl Registry {
    /// Writes the image that `at` names to the archive `out`, called by that name whatever mirror it came from. The digest
    /// is that of its manifest for Linux on `architecture` (Go's name, as in `amd64`).
    ///
    /// What was pulled stays in the folder `blobs`, as `sha256/HEX`, and is used again after its digest was checked; where
    /// `at` has a digest and all is there, no registry is asked. `out` appears when it is whole.
    ///
    /// # Errors
    /// As [`Error`] lists them.
    pub fn image_archive(
        &self,
        at: &Reference,
        architecture: &str,
        blobs: &Path,
        out: &Path,
    ) -> Result<Digest, Error> {
        let cache = Cache(blobs.join("sha256"));
        fs::create_dir_all(&cache.0).map_err(Error::file(&cache.0))?;
        let place = self.reading(at)?;
        let raw = self.run(&place, async |connection| {
            let raw = cache.manifest(connection).await?;
            if !matches!(raw.media_type().as_deref(), Some(OCI_INDEX | DOCKER_INDEX)) {
                return Ok(raw);
            }
            let index: Index = raw.parse(&place)?;
            let one = place.with_digest(&choose(&index, architecture, &place)?.digest);
            cache.manifest(&connection.at(one)).await
        })?;
        let kind = raw.media_type().filter(|kind| [OCI_MANIFEST, DOCKER_MANIFEST].contains(&kind.as_str()));
        let kind = kind.ok_or_else(|| Error::broken(at, "it is no container image"))?;
        let manifest: Manifest = raw.parse(&place)?;
        let mut parts: BTreeMap<Digest, &Descriptor> =
            manifest.layers.iter().map(|layer| (layer.digest.clone(), layer)).collect();
        parts.insert(manifest.config.digest.clone(), &manifest.config);
        let size = parts.values().try_fold(0_u64, |sum, part| sum.checked_add(part.size));
        if size.is_none_or(|size| size > LARGEST) {
            return Err(Error::broken(at, format!("it is larger than {LARGEST} bytes")));
        }
        self.run(&place, async |connection| {
            for part in parts.values() {
                cache.blob(connection, part).await?;
            }
            Ok(())
        })?;

        let mut described = descriptor(&kind, (raw.digest.clone(), raw.bytes.len() as u64), names(at));
        described.platform =
            Some(Platform { architecture: architecture.into(), os: "linux".into(), variant: None });
        let mut files: BTreeMap<Digest, PathBuf> = parts.keys().map(|d| (d.clone(), cache.path(d))).collect();
        files.insert(raw.digest.clone(), cache.path(&raw.digest));
        write(out, &described, &files).map_err(Error::file(out))?;
        Ok(raw.digest)
    }
}

/// Blobs by digest.
struct Cache(PathBuf);

impl Cache {
    fn path(&self, digest: &Digest) -> PathBuf {
        self.0.join(digest.hex())
    }

    /// A manifest; one that is known by its digest need not be asked for twice.
    async fn manifest(&self, connection: &Connection) -> Result<Raw, Error> {
        if let Some(digest) = connection.at.digest()
            && let Ok(bytes) = fs::read(self.path(digest))
            && Digest::of(&bytes) == *digest
        {
            return Ok(Raw { bytes, digest: digest.clone() });
        }
        let raw = connection.manifest().await?;
        let path = self.path(&raw.digest);
        let keep = || {
            let mut file = blob::new_file(&self.0)?;
            file.write_all(&raw.bytes)?;
            file.persist(&path)?;
            Ok(())
        };
        keep().map_err(Error::file(&path))?;
        Ok(raw)
    }

    async fn blob(&self, connection: &Connection, part: &Descriptor) -> Result<(), Error> {
        let path = self.path(&part.digest);
        let known = File::open(&path).and_then(blob::digest);
        if known.is_ok_and(|known| known == (part.digest.clone(), part.size)) {
            return Ok(());
        }
        let file = connection.pull_blob_file(part, &self.0).await?;
        file.persist(&path).map_err(|e| Error::file(&path)(e.error))?;
        Ok(())
    }
}

/// The manifest for an architecture; of its variants the one that all its machines run.
fn choose<'a>(index: &'a Index, architecture: &str, at: &Reference) -> Result<&'a Descriptor, Error> {
    let of = |platform: &Platform| platform.os == "linux" && platform.architecture == architecture;
    index
        .manifests
        .iter()
        .filter(|one| one.platform.as_ref().is_some_and(of))
        .min_by_key(|one| one.platform.as_ref().and_then(|platform| platform.variant.clone()))
        .ok_or_else(|| {
            let there: Vec<_> = index
                .manifests
                .iter()
                .filter_map(|one| one.platform.as_ref())
                .filter(|platform| platform.os != "unknown")
                .map(|platform| format!("{}/{}", platform.os, platform.architecture))
                .collect();
            Error::broken(at, format!("it is not for linux/{architecture}, but for {}", there.join(", ")))
        })
}

/// What the image is called: containerd takes the whole name, others the tag.
fn names(at: &Reference) -> BTreeMap<String, String> {
    let name = match (&at.tag, &at.digest) {
        // Where both are given, a pod asks by the tag.
        (Some(_), _) => Reference { digest: None, ..at.clone() },
        (None, _) => at.clone(),
    };
    let mut names = BTreeMap::from([("io.containerd.image.name".to_owned(), name.to_string())]);
    names.extend(at.tag.iter().map(|tag| ("org.opencontainers.image.ref.name".to_owned(), tag.clone())));
    names
}

fn write(out: &Path, image: &Descriptor, blobs: &BTreeMap<Digest, PathBuf>) -> io::Result<()> {
    let dir = out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut tar = tar::Builder::new(io::BufWriter::new(blob::new_file(dir)?));
    for folder in ["blobs/", "blobs/sha256/"] {
        append(&mut tar, folder, EntryType::Directory, 0, io::empty())?;
    }
    for (digest, path) in blobs {
        let blob = File::open(path)?;
        append(
            &mut tar,
            &format!("blobs/sha256/{}", digest.hex()),
            EntryType::Regular,
            blob.metadata()?.len(),
            blob,
        )?;
    }
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [image] });
    for (name, json) in [("index.json", index), ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }))] {
        let text = json.to_string();
        append(&mut tar, name, EntryType::Regular, text.len() as u64, Cursor::new(text))?;
    }
    tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?.persist(out)?;
    Ok(())
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    name: &str,
    kind: EntryType,
    size: u64,
    content: impl io::Read,
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, name, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[(&str, &str, Option<&str>)]) -> Index {
        let manifests = platforms
            .iter()
            .map(|(os, architecture, variant)| {
                let name = format!("{os}{architecture}{variant:?}");
                let mut one = descriptor(OCI_MANIFEST, (Digest::of(name.as_bytes()), 1), BTreeMap::new());
                one.platform = Some(Platform {
                    os: (*os).into(),
                    architecture: (*architecture).into(),
                    variant: variant.map(Into::into),
                });
                one
            })
            .collect();
        Index { manifests }
    }

    #[test]
    fn the_architecture_is_chosen() {
        let at: Reference = "a.io/x:1".parse().unwrap();
        let index = index(&[
            ("windows", "amd64", None),
            ("linux", "arm", Some("v7")),
            ("linux", "arm", Some("v6")),
            ("linux", "amd64", Some("v3")),
            ("linux", "amd64", None),
            ("unknown", "unknown", None),
        ]);
        assert_eq!(choose(&index, "amd64", &at).unwrap(), &index.manifests[4]);
        assert_eq!(choose(&index, "arm", &at).unwrap(), &index.manifests[2]);
        let error = choose(&index, "s390x", &at).unwrap_err().to_string();
        assert_eq!(
            error,
            "a.io/x:1: it is not for linux/s390x, but for windows/amd64, linux/arm, linux/arm, linux/amd64, linux/amd64"
        );
    }

    #[test]
    fn images_are_called_as_pods_ask_for_them() {
        let digest = Digest::of(b"");
        for (at, name, tag) in [
            ("docker.io/nginx:1".to_owned(), "docker.io/library/nginx:1".to_owned(), Some("1")),
            (format!("a.io/x:1@{digest}"), "a.io/x:1".into(), Some("1")),
            (format!("a.io/x@{digest}"), format!("a.io/x@{digest}"), None),
        ] {
            let names = names(&at.parse().unwrap());
            assert_eq!(names["io.containerd.image.name"], name);
            assert_eq!(names.get("org.opencontainers.image.ref.name").map(String::as_str), tag);
        }
    }
}
