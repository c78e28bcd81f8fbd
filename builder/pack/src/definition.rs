//! `pack.json`: what a pack is, and what it needs of the others.
//!
//! Keys and types are those of the public format. Unknown keys pass; a key that is known must have its type.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::document::{Node, Place};
use crate::error::Error;
use crate::fields::Fields;

/// What `pack.json` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Names the pack among others; with the version, its folder.
    pub name: String,
    /// The version of what is wrapped.
    pub version: String,
    /// The name for people. The format requires it; nothing depends on it.
    pub display_name: Option<String>,
    /// What the pack adds to.
    pub layer: Layer,
    /// As in `LTS`; part of the tag.
    pub group: Option<String>,
    /// The clouds it is for, the old single `cloudType` included; see [`CLOUD_TYPES`].
    pub cloud_types: Vec<String>,
    /// The day its content is no longer maintained, `yyyy-MM-dd`.
    pub eol: Option<String>,
    /// Free text.
    pub addon_type: Option<String>,
    /// Free text.
    pub addon_sub_type: Option<String>,
    /// Folders of roles, run in this order.
    pub ansible_roles: Vec<String>,
    /// Helm charts, as files of the pack.
    pub charts: Vec<String>,
    /// Manifests, as files of the pack.
    pub kube_manifests: Vec<String>,
    /// More facts, those of an OS pack first of all.
    pub annotations: Annotations,
    /// What it needs of other packs and of the machine.
    pub constraints: Constraints,
}

/// The clouds that the format knows. Another one is no error: the list grows.
pub const CLOUD_TYPES: [&str; 17] = [
    "all",
    "aws",
    "azure",
    "gcp",
    "vsphere",
    "openstack",
    "baremetal",
    "maas",
    "aks",
    "eks",
    "tencent",
    "tke",
    "edge",
    "libvirt",
    "edge-native",
    "coxedge",
    "custom",
];

/// The layer a pack adds; layers are applied in this order.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// A kernel.
    Kernel,
    /// An operating system.
    Os,
    /// A distribution of Kubernetes.
    K8s,
    /// The network of a cluster.
    Cni,
    /// The storage of a cluster.
    Csi,
    /// Everything else.
    Addon,
}

const LAYERS: [(&str, Layer); 6] = [
    ("kernel", Layer::Kernel),
    ("os", Layer::Os),
    ("k8s", Layer::K8s),
    ("cni", Layer::Cni),
    ("csi", Layer::Csi),
    ("addon", Layer::Addon),
];

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(LAYERS.iter().find(|(_, layer)| layer == self).map_or("", |(word, _)| word))
    }
}

/// `annotations`: texts by name. Those that the format documents for OS packs have their own fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotations {
    /// The base image: URL of an OVA, vSphere inventory path, or AMI id.
    pub image_id: Option<String>,
    /// AWS: the account that owns the base image.
    pub image_owner: Option<String>,
    /// AWS: where the base image is.
    pub cloud_region: Option<String>,
    /// Azure.
    pub image_publisher: Option<String>,
    /// Azure.
    pub image_offer: Option<String>,
    /// Azure.
    pub image_sku: Option<String>,
    /// vSphere: the folder of the result.
    pub folder: Option<String>,
    /// As in `ubuntu`.
    pub os_name: Option<String>,
    /// A label such as `u-18044`.
    pub os_version: Option<String>,
    /// The revision of the OS content.
    pub os_spectro_version: Option<String>,
    /// The login for customisation.
    pub ssh_username: Option<String>,
    /// Its password.
    pub ssh_password: Option<Secret>,
    /// Whether the base has Kubernetes already, or must not have it.
    pub skip_k8s_install: Option<bool>,
    /// Seen in answers of the API.
    pub version_auto_selected: Option<String>,
    /// Seen in answers of the API.
    pub version_hint: Option<String>,
    /// All others.
    pub other: BTreeMap<String, String>,
}

/// A text that is never printed.
#[derive(Clone, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// `constraints`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Constraints {
    /// Of other packs.
    pub dependencies: Vec<Dependency>,
    /// Of the machine.
    pub resources: Vec<Resource>,
}

/// One of `constraints.dependencies`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dependency {
    /// The other pack.
    pub pack_name: String,
    /// Its layer.
    pub layer: Layer,
    /// What is said about it; without a type, `optional`.
    pub kind: DependencyType,
    /// Inclusive; an empty text in the file is none.
    pub min_version: Option<String>,
    /// Inclusive; an empty text in the file is none.
    pub max_version: Option<String>,
    /// Where it is in `pack.json`.
    pub place: Place,
}

/// `type` of a dependency.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DependencyType {
    /// Must be there and in range.
    Required,
    /// Must be in range if it is there.
    Optional,
    /// Must not be there in this range.
    NotSupported,
    /// Undocumented, seen on renamed packs; checked as `optional`.
    Upgrade,
}

const DEPENDENCY_TYPES: [(&str, DependencyType); 4] = [
    ("required", DependencyType::Required),
    ("optional", DependencyType::Optional),
    ("notSupported", DependencyType::NotSupported),
    ("upgrade", DependencyType::Upgrade),
];

/// One of `constraints.resources`.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Of what, and so in what unit.
    pub kind: ResourceType,
    /// How much is needed; ignored if there are components.
    pub min_limit: Option<f64>,
    /// What runs, each with what it requests.
    pub components: Vec<ResourceComponent>,
    /// Where it is in `pack.json`.
    pub place: Place,
}

/// `type` of a resource.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ResourceType {
    /// In thousandths of a core.
    Cpu,
    /// In MiB.
    Memory,
    /// In GB.
    DiskSize,
}

const RESOURCE_TYPES: [(&str, ResourceType); 3] =
    [("cpu", ResourceType::Cpu), ("memory", ResourceType::Memory), ("diskSize", ResourceType::DiskSize)];

/// One of a resource's `components`.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceComponent {
    /// On which machines it runs.
    pub schedule_type: ScheduleType,
    /// The path in the pack's values of what one replica requests.
    pub resource_request_param_ref: Option<String>,
    /// The path in the pack's values of the number of replicas.
    pub replica_count_param_ref: Option<String>,
}

/// `scheduleType` of a component.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ScheduleType {
    /// On every machine.
    All,
    /// On the control plane.
    Master,
    /// On the others.
    Worker,
}

const SCHEDULE_TYPES: [(&str, ScheduleType); 3] =
    [("all", ScheduleType::All), ("master", ScheduleType::Master), ("worker", ScheduleType::Worker)];

impl Definition {
    /// Reads what `pack.json`, called `file` in errors, says.
    ///
    /// # Errors
    /// When a key that must be there is not, or one has the wrong type; at the value.
    pub fn read(file: &Path, node: &Node) -> Result<Definition, Error> {
        let fields = Fields::of(file, node, "pack.json")?;
        let mut cloud_types = fields.texts("cloudTypes")?;
        cloud_types.extend(fields.text("cloudType")?);
        let constraints = match fields.map("constraints")? {
            None => Constraints::default(),
            Some(map) => Constraints {
                dependencies: map
                    .maps("dependencies")?
                    .into_iter()
                    .map(dependency)
                    .collect::<Result<_, _>>()?,
                resources: map.maps("resources")?.into_iter().map(resource).collect::<Result<_, _>>()?,
            },
        };
        Ok(Definition {
            name: file_name(fields, "name")?,
            version: file_name(fields, "version")?,
            display_name: fields.text("displayName")?,
            layer: needed(fields, "layer", &LAYERS)?,
            group: fields.text("group")?,
            cloud_types,
            eol: fields.text("eol")?,
            addon_type: fields.text("addonType")?,
            addon_sub_type: fields.text("addonSubType")?,
            ansible_roles: fields.texts("ansibleRoles")?,
            charts: fields.texts("charts")?,
            kube_manifests: fields.texts("kubeManifests")?,
            annotations: annotations(fields)?,
            constraints,
        })
    }
}

fn needed<T: Copy>(fields: Fields<'_>, key: &str, choices: &[(&str, T)]) -> Result<T, Error> {
    fields.needed(key)?;
    Ok(fields.choice(key, choices)?.expect("a needed key was found"))
}

/// A text that becomes part of the names of folders, archives and tags.
fn file_name(fields: Fields<'_>, key: &str) -> Result<String, Error> {
    let text = fields.needed(key)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    if text.starts_with('.') || !text.chars().all(fits) {
        let hint = "use letters, digits, `.`, `_`, `-` and `+`, and no `.` first: it names folders";
        return Err(fields.error(key, format!("`{key}` is `{text}`, which cannot name a folder"), hint));
    }
    Ok(text)
}

fn annotations(fields: Fields<'_>) -> Result<Annotations, Error> {
    let mut all = fields.text_map("annotations")?;
    let mut take = |key: &str| all.remove(key);
    let skip_k8s_install = match take("skipK8sInstall").as_deref() {
        None | Some("") => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(other) => {
            let map = fields.map("annotations")?.expect("it had the key");
            let message = format!("`annotations.skipK8sInstall` is `{other}`, which is unknown");
            return Err(map.error("skipK8sInstall", message, "it is one of \"true\", \"false\""));
        }
    };
    Ok(Annotations {
        image_id: take("imageId"),
        image_owner: take("imageOwner"),
        cloud_region: take("cloudRegion"),
        image_publisher: take("imagePublisher"),
        image_offer: take("imageOffer"),
        image_sku: take("imageSKU"),
        folder: take("folder"),
        os_name: take("osName"),
        os_version: take("os_version"),
        os_spectro_version: take("os_spectro_version"),
        ssh_username: take("sshUsername"),
        ssh_password: take("sshPassword").map(Secret),
        skip_k8s_install,
        version_auto_selected: take("versionAutoSelected"),
        version_hint: take("versionHint"),
        other: all,
    })
}

fn dependency(fields: Fields<'_>) -> Result<Dependency, Error> {
    let bound = |key| Ok(fields.text(key)?.filter(|text| !text.is_empty()));
    Ok(Dependency {
        pack_name: fields.needed("packName")?,
        layer: needed(fields, "layer", &LAYERS)?,
        kind: fields.choice("type", &DEPENDENCY_TYPES)?.unwrap_or(DependencyType::Optional),
        min_version: bound("minVersion")?,
        max_version: bound("maxVersion")?,
        place: fields.place(),
    })
}

fn resource(fields: Fields<'_>) -> Result<Resource, Error> {
    let component = |fields: Fields<'_>| {
        Ok(ResourceComponent {
            schedule_type: needed(fields, "scheduleType", &SCHEDULE_TYPES)?,
            resource_request_param_ref: fields.text("resourceRequestParamRef")?,
            replica_count_param_ref: fields.text("replicaCountParamRef")?,
        })
    };
    Ok(Resource {
        kind: needed(fields, "type", &RESOURCE_TYPES)?,
        min_limit: fields.number("minLimit")?,
        components: fields.maps("components")?.into_iter().map(component).collect::<Result<_, _>>()?,
        place: fields.place(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::parse_json;
    use crate::testing::read;

    const EVERY_KEY: &str = r#"{
  "name": "golden", "displayName": "Golden", "version": "18.04.4", "layer": "os", "group": "LTS",
  "cloudTypes": ["vsphere"], "cloudType": "aws", "eol": "2028-04-30", "addonType": "t", "addonSubType": "s",
  "ansibleRoles": [], "charts": ["charts/a.tgz"], "kubeManifests": ["manifests/a.yaml"], "future": {"any": 1},
  "annotations": {
    "imageId": "i", "imageOwner": "o", "cloudRegion": "r", "imagePublisher": "p", "imageOffer": "f",
    "imageSKU": "s", "folder": "spectro-templates", "osName": "ubuntu", "os_version": "u-18044",
    "os_spectro_version": "0", "sshUsername": "ubuntu", "sshPassword": "hunter2", "skipK8sInstall": "false",
    "versionAutoSelected": "a", "versionHint": "h", "mine": "m"
  },
  "constraints": {
    "dependencies": [
      {"packName": "vault", "layer": "addon", "minVersion": "0.6.0", "maxVersion": ""},
      {"packName": "kubernetes", "layer": "k8s", "type": "notSupported"}
    ],
    "resources": [
      {"type": "cpu", "minLimit": 2000.5, "components": [
        {"resourceRequestParamRef": "requests.cpu", "replicaCountParamRef": "replicas", "scheduleType": "all"}
      ]},
      {"type": "diskSize", "minLimit": 10}
    ]
  }
}"#;

    #[test]
    fn every_key_is_read() {
        let definition = read(&[("pack.json", EVERY_KEY)]).unwrap().definition;
        assert_eq!(definition.annotations.ssh_password.as_ref().unwrap().reveal(), "hunter2");
        insta::assert_debug_snapshot!(definition);
    }

    #[test]
    fn wrong_values_are_told_with_their_place() {
        let whole = [
            "[]",
            "{\n\"name\": }",
            r#"{"version": "1", "layer": "os"}"#,
            r#"{"name": "a", "version": "", "layer": "os"}"#,
            r#"{"name": "a", "version": 1.5, "layer": "os"}"#,
            r#"{"name": "../a", "version": "1", "layer": "os"}"#,
            r#"{"name": "a", "version": "1", "layer": "moon"}"#,
        ];
        let parts = [
            r#""annotations": {"skipK8sInstall": false}"#,
            r#""annotations": {"skipK8sInstall": "no"}"#,
            r#""annotations": {"mine": 7}"#,
            r#""annotations": []"#,
            r#""ansibleRoles": "x""#,
            r#""ansibleRoles": ["x"]"#,
            r#""ansibleRoles": ["../x"]"#,
            r#""charts": [true]"#,
            r#""constraints": {"dependencies": [{"layer": "os"}]}"#,
            r#""constraints": {"dependencies": [{"packName": "b", "layer": "os", "type": "maybe"}]}"#,
            r#""constraints": {"resources": [{"type": "cpu", "minLimit": "2"}]}"#,
            r#""constraints": {"resources": [{"type": "cpu", "components": [{}]}]}"#,
        ];
        let part = |text| format!("{{\"name\": \"a\", \"version\": \"1\", \"layer\": \"os\",\n{text}}}");
        let errors: Vec<_> = (whole.map(str::to_string).into_iter().chain(parts.map(part)))
            .map(|json| format!("{json}\n    {}\n", read(&[("pack.json", &json)]).unwrap_err()))
            .collect();
        insta::assert_snapshot!(errors.join("\n"));
    }

    #[test]
    fn the_guide_has_every_key_and_word() {
        fn keys(node: &Node, all: &mut Vec<String>) {
            all.extend(node.entries().iter().map(|entry| entry.key.clone()));
            let inner = node.entries().iter().map(|entry| &entry.value);
            inner.chain(node.items()).for_each(|node| keys(node, all));
        }
        let guide = include_str!("../../../docs/packs.md");
        let mut all = Vec::new();
        keys(&parse_json(EVERY_KEY).unwrap(), &mut all);
        all.retain(|key| {
            !["future", "any", "mine", "dependencies", "resources", "type"].contains(&key.as_str())
        });
        all.extend(LAYERS.map(|(word, _)| word.to_string()));
        all.extend(DEPENDENCY_TYPES.map(|(word, _)| word.to_string()));
        all.extend(RESOURCE_TYPES.map(|(word, _)| word.to_string()));
        all.extend(SCHEDULE_TYPES.map(|(word, _)| word.to_string()));
        all.extend(crate::macros::FUNCTIONS.map(|(name, _)| name.to_string()));
        all.extend(crate::merge::APPENDED.map(str::to_string));
        for word in all {
            assert!(guide.contains(&format!("`{word}`")), "docs/packs.md lacks `{word}`");
        }
        for name in crate::schema::TYPES {
            assert!(guide.contains(&format!("`${{{name}")), "docs/packs.md lacks the type {name}");
        }
        let section = guide.split("\n## ").find(|section| section.starts_with("pack.json")).unwrap();
        for row in section.lines().filter(|line| line.starts_with("| `")) {
            for key in row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2) {
                assert!(
                    EVERY_KEY.contains(&format!("\"{key}\":")),
                    "docs/packs.md has `{key}`, which is not read"
                );
            }
        }
    }
}
