//! Which keys the documents of a pack have, and of what kind they are: as data, so that one pass finds all that is unlike it.

use super::{DEFINITION, Found, PRESETS, Subject, VALUES, is_macro};
use crate::definition::CLOUD_TYPES;
use crate::document::{Data, Node};

/// A map with known keys.
struct Shape {
    /// What it is, as in "a dependency has no `layer`".
    what: &'static str,
    keys: &'static [Key],
    /// Whether other keys are the author's own business.
    is_open: bool,
}

struct Key {
    name: &'static str,
    kind: Kind,
    is_required: bool,
}

enum Kind {
    Text,
    /// A list of texts.
    Texts,
    Number,
    List,
    Map,
    /// A map that has a shape, and is looked at by it.
    Shaped,
    /// A text or a map, as YAML in YAML is written.
    TextOrMap,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A list of these texts.
    SomeOf(&'static [&'static str]),
    Sha256,
}

const fn required(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, is_required: true }
}

const fn optional(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, is_required: false }
}

const fn shape(what: &'static str, keys: &'static [Key]) -> Shape {
    Shape { what, keys, is_open: false }
}

const fn open(what: &'static str, keys: &'static [Key]) -> Shape {
    Shape { what, keys, is_open: true }
}

const LAYERS: &[&str] = &["kernel", "os", "k8s", "cni", "csi", "addon"];

const PACK: Shape = shape(
    "The pack",
    &[
        required("name", Kind::Text),
        required("displayName", Kind::Text),
        required("version", Kind::Text),
        required("layer", Kind::OneOf(LAYERS)),
        optional("group", Kind::Text),
        optional("cloudTypes", Kind::SomeOf(&CLOUD_TYPES)),
        optional("cloudType", Kind::OneOf(&CLOUD_TYPES)),
        optional("eol", Kind::Text),
        optional("addonType", Kind::Text),
        optional("addonSubType", Kind::Text),
        optional("ansibleRoles", Kind::Texts),
        optional("charts", Kind::Texts),
        optional("kubeManifests", Kind::Texts),
        optional("annotations", Kind::Shaped),
        optional("constraints", Kind::Shaped),
    ],
);

const ANNOTATIONS: Shape =
    open("`annotations`", &[optional("skipK8sInstall", Kind::OneOf(&["true", "false", ""]))]);

const CONSTRAINTS: Shape =
    shape("`constraints`", &[optional("dependencies", Kind::List), optional("resources", Kind::List)]);

// Without `type` there is a rule of its own.
const DEPENDENCY: Shape = shape(
    "The dependency",
    &[
        required("packName", Kind::Text),
        required("layer", Kind::OneOf(LAYERS)),
        optional("type", Kind::OneOf(&["required", "optional", "notSupported", "upgrade"])),
        optional("minVersion", Kind::Text),
        optional("maxVersion", Kind::Text),
    ],
);

const RESOURCE: Shape = shape(
    "The resource",
    &[
        required("type", Kind::OneOf(&["cpu", "memory", "diskSize"])),
        optional("minLimit", Kind::Number),
        optional("components", Kind::List),
    ],
);

const COMPONENT: Shape = shape(
    "The component",
    &[
        required("scheduleType", Kind::OneOf(&["all", "master", "worker"])),
        optional("resourceRequestParamRef", Kind::Text),
        optional("replicaCountParamRef", Kind::Text),
    ],
);

const VALUES_ROOT: Shape = shape(
    "`values.yaml`",
    &[
        optional("pack", Kind::Shaped),
        optional("charts", Kind::Map),
        optional("manifests", Kind::Map),
        optional("ansibleRoles", Kind::Map),
        optional("kubeadmconfig", Kind::Shaped),
    ],
);

const PACK_VALUES: Shape = open(
    "`pack`",
    &[
        optional("namespace", Kind::Text),
        optional("namespaceLabels", Kind::Map),
        optional("content", Kind::Shaped),
        optional("archive", Kind::Shaped),
        optional("packages", Kind::Texts),
        optional("exclude", Kind::Texts),
        optional("include", Kind::Texts),
        optional("baseFiles", Kind::Text),
        optional("bootLoader", Kind::Shaped),
        optional("artifacts", Kind::Map),
    ],
);

const CONTENT: Shape = shape("`content`", &[optional("images", Kind::List), optional("charts", Kind::List)]);
const IMAGE: Shape = open("The image", &[required("image", Kind::Text)]);
const CHART: Shape = open(
    "The chart",
    &[optional("repo", Kind::Text), required("name", Kind::Text), optional("version", Kind::Text)],
);

const ARCHIVE: Shape = shape(
    "The archive",
    &[
        required("suite", Kind::Text),
        required("components", Kind::Texts),
        required("architecture", Kind::Text),
        required("keyring", Kind::Text),
    ],
);

const BOOT_LOADER: Shape = shape(
    "The boot loader",
    &[required("shim", Kind::Text), required("loader", Kind::Text), required("directory", Kind::Text)],
);

const ARTIFACT: Shape = shape(
    "The artifact",
    &[required("source", Kind::Text), required("path", Kind::Text), optional("sha256", Kind::Sha256)],
);

const KUBEADM: Shape = open(
    "`kubeadmconfig`",
    &[
        optional("apiServer", Kind::Map),
        optional("controllerManager", Kind::Map),
        optional("scheduler", Kind::Map),
        optional("kubeletExtraArgs", Kind::Map),
        optional("files", Kind::List),
        optional("preKubeadmCommands", Kind::Texts),
        optional("postKubeadmCommands", Kind::Texts),
        optional("imageRepository", Kind::Text),
        optional("etcd", Kind::Map),
        optional("dns", Kind::Map),
    ],
);

const KUBEADM_FILE: Shape = shape(
    "The file",
    &[
        required("targetPath", Kind::Text),
        optional("targetOwner", Kind::Text),
        optional("targetPermissions", Kind::Text),
        optional("path", Kind::Text),
        optional("content", Kind::Text),
        optional("podMount", Kind::Map),
    ],
);

const PRESETS_ROOT: Shape = shape("`presets.yaml`", &[required("presets", Kind::List)]);

const PRESET: Shape = shape(
    "The preset",
    &[
        required("name", Kind::Text),
        optional("displayName", Kind::Text),
        optional("group", Kind::Text),
        optional("remove", Kind::Texts),
        optional("add", Kind::TextOrMap),
    ],
);

/// Everything in the pack that must be a map of known shape, with its file. Documents and keys may be null; items may not.
fn maps<'a>(pack: &'a Subject<'_>) -> Vec<(&'static str, &'static Shape, &'a Node)> {
    let mut all = Vec::new();
    let items = |node: Option<&'a Node>| node.map_or(&[][..], Node::items).iter();
    let definition = &pack.definition.root;
    let values = &pack.values.root;

    // `null` is JSON, and no pack.
    if !definition.is_null() || (!pack.definition.text.is_empty() && pack.definition.error.is_none()) {
        all.push((DEFINITION, &PACK, definition));
    }
    for (file, root, path, shape) in [
        (DEFINITION, definition, &["annotations"][..], &ANNOTATIONS),
        (DEFINITION, definition, &["constraints"], &CONSTRAINTS),
        (VALUES, values, &[], &VALUES_ROOT),
        (VALUES, values, &["pack"], &PACK_VALUES),
        (VALUES, values, &["pack", "content"], &CONTENT),
        (VALUES, values, &["pack", "archive"], &ARCHIVE),
        (VALUES, values, &["pack", "bootLoader"], &BOOT_LOADER),
        (VALUES, values, &["kubeadmconfig"], &KUBEADM),
        (PRESETS, &pack.presets.root, &[], &PRESETS_ROOT),
    ] {
        all.extend(root.at(path).filter(|node| !node.is_null()).map(|node| (file, shape, node)));
    }
    for (file, root, path, shape) in [
        (DEFINITION, definition, &["constraints", "dependencies"][..], &DEPENDENCY),
        (DEFINITION, definition, &["constraints", "resources"], &RESOURCE),
        (VALUES, values, &["pack", "content", "images"], &IMAGE),
        (VALUES, values, &["pack", "content", "charts"], &CHART),
        (VALUES, values, &["kubeadmconfig", "files"], &KUBEADM_FILE),
        (PRESETS, &pack.presets.root, &["presets"], &PRESET),
    ] {
        all.extend(items(root.at(path)).map(|node| (file, shape, node)));
    }
    let resources = items(definition.at(&["constraints", "resources"]));
    let components = resources.flat_map(|resource| items(resource.get("components")));
    all.extend(components.map(|node| (DEFINITION, &COMPONENT, node)));
    let artifacts = values.at(&["pack", "artifacts"]).map_or(&[][..], Node::entries);
    all.extend(artifacts.iter().map(|artifact| (VALUES, &ARTIFACT, &artifact.value)));
    all
}

fn is_map(node: &Node) -> bool {
    matches!(node.data, Data::Map(_))
}

fn is_blank(node: &Node) -> bool {
    node.is_null() || node.as_str().is_some_and(|text| text.trim().is_empty())
}

pub(super) fn required_key(pack: &Subject<'_>, found: &mut Found) {
    for (file, shape, node) in maps(pack).into_iter().filter(|(_, _, node)| is_map(node)) {
        for key in shape.keys.iter().filter(|key| key.is_required) {
            match node.entries().iter().find(|entry| entry.key == key.name) {
                None => found.at(file, node.place, format!("{} has no `{}`", shape.what, key.name)),
                Some(entry) if is_blank(&entry.value) => {
                    found.at(file, entry.place, format!("`{}` is empty", key.name));
                }
                Some(_) => {}
            }
        }
    }
}

pub(super) fn unknown_key(pack: &Subject<'_>, found: &mut Found) {
    for (file, shape, node) in maps(pack).into_iter().filter(|(_, shape, _)| !shape.is_open) {
        // What is read of JSON with an error has keys with stray quotes.
        if file == DEFINITION && pack.definition.error.is_some() {
            continue;
        }
        for entry in node.entries().iter().filter(|entry| shape.keys.iter().all(|key| key.name != entry.key))
        {
            found.at(file, entry.place, format!("{} has `{}`, which nothing reads", shape.what, entry.key));
        }
    }
}

/// Every value of a known key that says something. In values, macros may say it.
fn known<'a>(pack: &'a Subject<'_>) -> impl Iterator<Item = (&'static str, &'static Key, &'a Node)> {
    maps(pack).into_iter().flat_map(|(file, shape, node)| {
        shape.keys.iter().filter_map(move |key| {
            let value = node.get(key.name).filter(|value| !value.is_null())?;
            let is_later = file == VALUES && value.as_str().is_some_and(is_macro);
            (!is_later).then_some((file, key, value))
        })
    })
}

pub(super) fn wrong_type(pack: &Subject<'_>, found: &mut Found) {
    for (file, shape, node) in maps(pack).into_iter().filter(|(_, _, node)| !is_map(node)) {
        found.at(file, node.place, format!("{} is {}, not a map", shape.what, what(node)));
    }
    let mut wrong = |file, key: &Key, node: &Node, expected| {
        found.at(file, node.place, format!("`{}` is {}, not {expected}", key.name, what(node)));
    };
    for (file, key, value) in known(pack) {
        match key.kind {
            // Annotations have a rule of their own.
            Kind::OneOf(_) if key.name == "skipK8sInstall" => {}
            Kind::Text | Kind::OneOf(_) | Kind::Sha256 if value.as_str().is_none() => {
                wrong(file, key, value, "a text");
            }
            Kind::Texts | Kind::SomeOf(_) if matches!(value.data, Data::List(_)) => {
                for item in value.items().iter().filter(|item| item.as_str().is_none()) {
                    wrong(file, key, item, "a list of texts");
                }
            }
            Kind::Texts | Kind::SomeOf(_) => wrong(file, key, value, "a list"),
            Kind::List if !matches!(value.data, Data::List(_)) => wrong(file, key, value, "a list"),
            Kind::Map if !is_map(value) => wrong(file, key, value, "a map"),
            Kind::TextOrMap if value.as_str().is_none() && !is_map(value) => {
                wrong(file, key, value, "a text or a map");
            }
            Kind::Number if !matches!(value.data, Data::Number(_)) => wrong(file, key, value, "a number"),
            _ => {}
        }
    }
}

pub(super) fn unknown_value(pack: &Subject<'_>, found: &mut Found) {
    for (file, key, value) in known(pack) {
        let (known, given) = match key.kind {
            Kind::OneOf(known) => (known, std::slice::from_ref(value)),
            Kind::SomeOf(known) => (known, value.items()),
            Kind::Sha256 => {
                if value.as_str().is_some_and(|text| !is_sha256(text)) {
                    found.at(file, value.place, format!("`{}` is not 64 hexadecimal digits", key.name));
                }
                continue;
            }
            _ => continue,
        };
        for node in given {
            if let Some(text) = node.as_str().filter(|text| !known.contains(text)) {
                let message = format!("`{}` is `{text}`, none of {}", key.name, known.join(", "));
                found.at(file, node.place, message);
            }
        }
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What a value is, in words.
pub(super) fn what(node: &Node) -> String {
    match &node.data {
        Data::Null => "empty".into(),
        Data::Bool(value) => format!("the boolean `{value}`"),
        Data::Number(value) => format!("the number `{value}`"),
        Data::String(_) => "a text".into(),
        Data::List(_) => "a list".into(),
        Data::Map(_) => "a map".into(),
    }
}
