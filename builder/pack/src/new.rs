//! A first pack to begin with: it lints clean, and an image can be built of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::definition::Layer;
use crate::error::Error;

/// The files of a new pack. What is in capitals is filled in.
const FILES: &[(&str, &[u8])] = &[
    ("pack.json", include_bytes!("new/pack.json")),
    ("values.yaml", include_bytes!("new/values.yaml")),
    ("schema.yaml", include_bytes!("new/schema.yaml")),
    ("ROLE/tasks/main.yml", include_bytes!("new/tasks.yml")),
    ("README.md", include_bytes!("new/README.md")),
    ("logo.png", include_bytes!("new/logo.png")),
];

/// Makes the pack `NAME-VERSION` in the folder `parent`, which is made if it is not there. Answers with its folder.
///
/// # Errors
/// When the name or version cannot be one, something is at the pack's place, or it cannot be written. Nothing is left then.
pub fn new(parent: &Path, name: &str, version: &str, layer: Layer) -> Result<PathBuf, Error> {
    let is_name = |text: &str, more: &str| {
        text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || more.contains(c))
    };
    if !is_name(name, "-") {
        let hint = "use small letters, digits and `-`: it names folders, a role and a file";
        return Err(Error::new(format!("`{name}` cannot name a pack"), hint));
    }
    if !is_name(version, ".-+") || !version.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Error::new(format!("`{version}` is no version"), "write it as in 1.2.3, without `v`"));
    }
    let dir = parent.join(format!("{name}-{version}"));
    fs::create_dir_all(parent).map_err(|e| Error::io(parent, &e))?;
    // Only if nothing is there: nothing is written over.
    fs::create_dir(&dir).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => Error::new(
            format!("{} is there already", dir.display()),
            "choose another name or version, or `--dir`",
        ),
        _ => Error::io(&dir, &e),
    })?;
    let role = name.replace('-', "_");
    let fill = |text: &str| {
        text.replace("NAME", name)
            .replace("VERSION", version)
            .replace("LAYER", &layer.to_string())
            .replace("ROLE", &role)
    };
    let write = |file: &str, content: &[u8]| {
        let path = dir.join(fill(file));
        fs::create_dir_all(path.parent().unwrap_or(&dir))?;
        match std::str::from_utf8(content) {
            Ok(text) if file == "values.yaml" && matches!(layer, Layer::Os | Layer::K8s) => {
                fs::write(path, fill(text) + include_str!("new/kubeadm.yaml"))
            }
            Ok(text) => fs::write(path, fill(text)),
            Err(_) => fs::write(path, content),
        }
    };
    for (file, content) in FILES {
        if let Err(e) = write(file, content) {
            // It is ours alone; that it cannot be written is what counts.
            drop(fs::remove_dir_all(&dir));
            return Err(Error::io(&dir, &e));
        }
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pack;
    use crate::lint::{Files, lint};

    #[test]
    fn new_packs_lint_clean_and_are_read() {
        let dir = tempfile::tempdir().unwrap();
        for layer in [Layer::Kernel, Layer::Os, Layer::K8s, Layer::Cni, Layer::Csi, Layer::Addon] {
            let name = format!("my-{layer}");
            let path = new(dir.path(), &name, "1.0.0", layer).unwrap();
            assert_eq!(lint(&Files::read(&path).unwrap(), jiff::civil::date(2026, 1, 1), &[]), []);
            let pack = Pack::read(&path).unwrap();
            assert_eq!((pack.id(), pack.definition.layer), (format!("{name}-1.0.0"), layer));
        }
    }

    #[test]
    fn nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a-1.0.0")).unwrap();
        for (name, version) in
            [("a", "1.0.0"), ("../a", "2.0.0"), ("A", "1"), ("", "1"), ("a", "v1"), ("a", "1/2")]
        {
            assert!(new(dir.path(), name, version, Layer::Addon).is_err(), "{name} {version}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(dir.path().join("a-1.0.0")).unwrap().count(), 0);
    }
}
