//! Rules for `values.yaml` beyond its shape.

use super::shape::what;
use super::{Found, Subject, VALUES, is_macro};
use crate::document::{Data, Node};

pub(super) fn argument_type(pack: &Subject<'_>, found: &mut Found) {
    for path in [
        &["kubeadmconfig", "apiServer", "extraArgs"][..],
        &["kubeadmconfig", "controllerManager", "extraArgs"],
        &["kubeadmconfig", "scheduler", "extraArgs"],
        &["kubeadmconfig", "kubeletExtraArgs"],
    ] {
        for entry in pack.values.root.at(path).map_or(&[][..], Node::entries) {
            if entry.value.as_str().is_none() {
                let message = format!("The argument `{}` is {}, not a text", entry.key, what(&entry.value));
                found.at(VALUES, entry.value.place, message);
            }
        }
    }
}

pub(super) fn kubeadm_file(pack: &Subject<'_>, found: &mut Found) {
    let files = pack.values.root.at(&["kubeadmconfig", "files"]).map_or(&[][..], Node::items);
    for file in files.iter().filter(|file| matches!(file.data, Data::Map(_))) {
        match (file.get("path"), file.get("content")) {
            (None, None) => found.at(VALUES, file.place, "The file has neither `path` nor `content`"),
            (Some(_), Some(_)) => found.at(VALUES, file.place, "The file has both `path` and `content`"),
            _ => {}
        }
    }
}

pub(super) fn kubeadm_layer(pack: &Subject<'_>, found: &mut Found) {
    let layer = pack.text("layer");
    let entry = pack.values.root.entries().iter().find(|entry| entry.key == "kubeadmconfig");
    if let Some(entry) = entry.filter(|_| !layer.is_empty() && !["os", "k8s"].contains(&layer)) {
        found.at(VALUES, entry.place, format!("`kubeadmconfig` is not read from the layer `{layer}`"));
    }
}

pub(super) fn test_command(pack: &Subject<'_>, found: &mut Found) {
    for key in ["preKubeadmCommands", "postKubeadmCommands"] {
        let commands = pack.values.root.at(&["kubeadmconfig", key]).map_or(&[][..], Node::items);
        for command in commands {
            let text = command.as_str().unwrap_or_default().trim_start();
            let is_test = ["test ", "[ ", "[[ "].iter().any(|word| text.starts_with(word));
            if is_test && text.contains("&&") && !text.contains("||") {
                found.at(VALUES, command.place, "The command fails where its test is false");
            }
        }
    }
}

fn images<'a>(pack: &'a Subject<'_>) -> Option<&'a Node> {
    pack.values.root.at(&["pack", "content", "images"])
}

pub(super) fn no_images(pack: &Subject<'_>, found: &mut Found) {
    let deploys = pack.texts("charts").chain(pack.texts("kubeManifests")).next().is_some();
    let has_images = images(pack).is_some_and(|images| !images.items().is_empty());
    if deploys && !has_images && pack.values.error.is_none() && !["os", "k8s"].contains(&pack.text("layer")) {
        found.of(VALUES, "`pack.content.images` is empty, and the pack deploys charts or manifests");
    }
}

pub(super) fn artifact_digest(pack: &Subject<'_>, found: &mut Found) {
    let artifacts = pack.values.root.at(&["pack", "artifacts"]).map_or(&[][..], Node::entries);
    for entry in artifacts.iter().filter(|entry| entry.value.get("sha256").is_none()) {
        found.at(VALUES, entry.place, format!("The artifact `{}` has no `sha256`", entry.key));
    }
}

pub(super) fn image_tag(pack: &Subject<'_>, found: &mut Found) {
    let version = pack.text("version").trim_start_matches('v');
    let Some(images) = images(pack).filter(|_| !version.is_empty()) else { return };
    let all: Vec<(&Node, &str)> = images
        .items()
        .iter()
        .filter_map(|item| item.get("image"))
        .filter_map(|node| Some((node, tag(node.as_str()?)?)))
        .collect();
    // An image of the same minor release is the pack's own; those of others, as pause beside Kubernetes, are not.
    let minor = |version: &str| version.splitn(3, '.').take(2).map(String::from).collect::<Vec<_>>();
    let stale = |tag: &str| version.contains('.') && minor(tag) == minor(version) && !is_of(tag, version);
    for (node, tag) in all.iter().filter(|(_, tag)| stale(tag)) {
        found.at(VALUES, node.place, format!("The tag is `{tag}`, the pack's version is `{version}`"));
    }
    if !all.is_empty() && !all.iter().any(|(_, tag)| is_of(tag, version) || stale(tag)) {
        found.at(VALUES, images.place, format!("No image has the pack's version `{version}` as its tag"));
    }
}

/// The tag of an image, without a leading `v`; none for a digest, a macro, or where there is none.
fn tag(image: &str) -> Option<&str> {
    let name = image.split('@').next().filter(|_| !is_macro(image))?;
    let (_, tag) = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
    Some(tag.strip_prefix('v').unwrap_or(tag))
}

/// Whether a tag is of a version: the same, or with a suffix as in `1.2.3-debian`.
fn is_of(tag: &str, version: &str) -> bool {
    tag.strip_prefix(version).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        for (image, expected) in [
            ("registry:5000/a/b", None),
            ("registry:5000/a/b:v1.2", Some("1.2")),
            ("a:1@sha256:00", Some("1")),
            ("a@sha256:00", None),
            ("a:{{ .spectro.pack.a.version }}", None),
        ] {
            assert_eq!(tag(image), expected, "{image}");
        }
        assert!(is_of("1.2.3-debian", "1.2.3") && is_of("1.2.3", "1.2.3"));
        assert!(!is_of("1.2.30", "1.2.3") && !is_of("1.2.3.1", "1.2.3"));
    }
}
