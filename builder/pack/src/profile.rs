//! A profile: the packs of one image or cluster, checked against each other, with their values merged.
//!
//! ```text
//! each pack: values.yaml -> presets -> values of the image definition
//! all packs: macros -> schemas -> resources -> merged in layer order
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::constraints;
use crate::definition::Layer;
use crate::document::{Data, Node, Place};
use crate::error::Error;
use crate::macros;
use crate::merge::{Origin, Source, Value};
use crate::pack::Pack;
use crate::presets::Preset;

/// A pack and how the user of the profile wants it.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The pack.
    pub pack: Pack,
    /// Presets to enable, as `GROUP:NAME` or `NAME`. One takes the place of that of its group which the pack itself enables.
    pub presets: Vec<String>,
    /// Values over those of the pack: a map, or nothing.
    pub values: Option<Node>,
    /// Where presets and values stand, for errors.
    pub file: Option<PathBuf>,
}

/// What macros and constraints can know.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `.spectro.var.NAME`.
    pub variables: BTreeMap<String, String>,
    /// `.spectro.system.NAME`, the name with its dots. `kubernetes.version` is that of the k8s pack if it is not here.
    pub system: BTreeMap<String, String>,
    /// The machine; without it, constraints on resources are not checked.
    pub resources: Option<Resources>,
}

/// What a machine has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Resources {
    /// In thousandths of a core.
    pub cpu_millicores: u64,
    /// In MiB.
    pub memory_mib: u64,
    /// In GB.
    pub disk_gb: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Profile {
    packs: Vec<ProfilePack>,
    merged: Value,
    values: Json,
}

/// A pack of a profile.
#[derive(Debug)]
pub struct ProfilePack {
    /// As it was read.
    pub pack: Pack,
    /// Its own values with presets, overrides and macros.
    pub values: Json,
    pub(crate) merged: Value,
}

impl ProfilePack {
    /// Where each of its own values came from.
    #[must_use]
    pub fn origins(&self) -> Vec<Origin> {
        self.merged.origins()
    }
}

impl Profile {
    /// Checks packs and merges their values.
    ///
    /// # Errors
    /// All conflicts between packs; or else all that is wrong with presets and overrides; or else with macros; or else with
    /// values by the packs' schemas and with resources.
    pub fn new(mut selections: Vec<Selection>, facts: &Facts) -> Result<Profile, Vec<Error>> {
        selections.sort_by_key(|selection| selection.pack.definition.layer);
        none(constraints::conflicts(
            &selections.iter().map(|selection| &selection.pack).collect::<Vec<_>>(),
        ))?;

        let mut facts = facts.clone();
        let kubernetes = selections.iter().find(|selection| selection.pack.definition.layer == Layer::K8s);
        if let Some(version) = kubernetes.map(|selection| selection.pack.definition.version.clone()) {
            facts.system.entry("kubernetes.version".to_string()).or_insert(version);
        }

        let mut errors = Vec::new();
        let mut named = Vec::new();
        for selection in &selections {
            match own_values(selection) {
                Ok(values) => named.push((selection.pack.definition.name.clone(), values)),
                Err(wrong) => errors.extend(wrong),
            }
        }
        none(errors)?;
        let resolved = macros::resolve(&named, &facts)?;

        let mut errors = Vec::new();
        let mut packs = Vec::new();
        for (selection, merged) in selections.into_iter().zip(resolved) {
            errors.extend(selection.pack.schema.check(&merged));
            packs.push(ProfilePack { pack: selection.pack, values: merged.to_json(), merged });
        }
        if let Some(resources) = &facts.resources {
            errors.extend(constraints::shortages(&packs, resources));
        }
        none(errors)?;

        let mut merged = empty("image definition".to_string(), None);
        for pack in &packs {
            let mut values = pack.merged.clone();
            values.remove("pack");
            merged.add_layer(values, "");
        }
        Ok(Profile { packs, values: merged.to_json(), merged })
    }

    /// In layer order; within a layer as they were given.
    #[must_use]
    pub fn packs(&self) -> &[ProfilePack] {
        &self.packs
    }

    /// A map of all packs' values, merged in layer order, without each pack's `pack` key.
    #[must_use]
    pub fn values(&self) -> &Json {
        &self.values
    }

    /// Where each of [`values`](Profile::values) came from.
    #[must_use]
    pub fn origins(&self) -> Vec<Origin> {
        self.merged.origins()
    }
}

fn none(errors: Vec<Error>) -> Result<(), Vec<Error>> {
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// An empty map.
fn empty(by: String, file: Option<PathBuf>) -> Value {
    let node = Node { place: Place::default(), data: Data::Map(Vec::new()) };
    Value::from_node(&node, &Arc::new(Source { by, file }))
}

/// A pack's values with its presets and overrides, macros as they are written.
fn own_values(selection: &Selection) -> Result<Value, Vec<Error>> {
    let pack = &selection.pack;
    let by = format!("pack `{}`", pack.id());
    let mut values = empty(by.clone(), Some(pack.dir.join("values.yaml")));
    if !pack.values.is_null() {
        values = Value::from_node(&pack.values, &values.source);
    }
    for preset in chosen(selection).map_err(|error| vec![error])? {
        preset.remove.iter().for_each(|path| values.remove(path));
        if !preset.add.is_null() {
            let by = format!("preset `{}` of {by}", preset.id());
            let source = Arc::new(Source { by, file: Some(pack.dir.join("presets.yaml")) });
            values.set(Value::from_node(&preset.add, &source));
        }
    }
    let mut errors = Vec::new();
    match &selection.values {
        None | Some(Node { data: Data::Null, .. }) => {}
        Some(node @ Node { data: Data::Map(_), .. }) => {
            let given = values.clone();
            let source = Source { by: "image definition".to_string(), file: selection.file.clone() };
            values.set(Value::from_node(node, &Arc::new(source)));
            errors = pack.schema.check_readonly(&values, &given);
        }
        Some(node) => {
            let error =
                Error::new(format!("`values` of `{}` is no map", pack.id()), "write `KEY: VALUE` lines");
            errors.push(Error { file: selection.file.clone(), place: Some(node.place), ..error });
        }
    }
    pack.schema.mask(&mut values);
    none(errors).map(|()| values)
}

/// The presets to apply, in the order of `presets.yaml`, so that the order of a selection decides nothing.
fn chosen(selection: &Selection) -> Result<Vec<&Preset>, Error> {
    let pack = &selection.pack;
    let wanted = named(pack, &selection.presets, selection.file.clone())?;
    // Values that were exported record presets even where their file was not kept; what these did is in the values.
    let recorded = match pack.presets.as_slice() {
        [] => Vec::new(),
        _ => named(pack, &pack.enabled_presets, Some(pack.dir.join("values.yaml")))?,
    };
    let replaced =
        |preset: &Preset| preset.group.is_some() && wanted.iter().any(|other| other.group == preset.group);
    let enabled =
        |preset: &&Preset| wanted.contains(preset) || recorded.contains(preset) && !replaced(preset);
    Ok(pack.presets.iter().filter(enabled).collect())
}

/// The presets of a pack that have these names, at most one of each group.
fn named<'p>(pack: &'p Pack, names: &[String], file: Option<PathBuf>) -> Result<Vec<&'p Preset>, Error> {
    let mut presets: Vec<&Preset> = Vec::new();
    let error = |message: String, hint: String| Error { file: file.clone(), ..Error::new(message, hint) };
    for name in names {
        let mut found = pack.presets.iter().filter(|preset| preset.id() == *name || preset.name == *name);
        let (Some(preset), None) = (found.next(), found.next()) else {
            let known: Vec<_> = pack.presets.iter().map(|preset| format!("`{}`", preset.id())).collect();
            let hint = if known.is_empty() {
                "it has none".to_string()
            } else {
                format!("it has {}", known.join(", "))
            };
            return Err(error(format!("pack `{}` has no single preset `{name}`", pack.id()), hint));
        };
        if presets.contains(&preset) {
            continue;
        }
        if let Some(other) = presets.iter().find(|other| other.group.is_some() && other.group == preset.group)
        {
            let message = format!(
                "presets `{}` and `{}` of pack `{}` are of one group",
                other.id(),
                preset.id(),
                pack.id()
            );
            return Err(error(message, "enable one of them".to_string()));
        }
        presets.push(preset);
    }
    Ok(presets)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{profile, selection, with};

    fn pack(json: &str) -> Selection {
        with(&[("pack.json", json)], "")
    }

    fn depends(dependency: &str) -> Selection {
        pack(&format!(
            r#"{{"name": "a", "version": "1.0.0", "layer": "addon", "constraints": {{"dependencies": [{dependency}]}}}}"#
        ))
    }

    #[test]
    fn packs_are_in_layer_order() {
        let selections = ["addon", "csi", "kernel", "k8s", "os", "cni", "addon"];
        let selections =
            selections.iter().enumerate().map(|(n, layer)| selection(&format!("p{n}"), layer, "")).collect();
        let profile = profile(selections, &Facts::default()).unwrap();
        let names: Vec<_> = profile.packs().iter().map(|pack| pack.pack.definition.name.as_str()).collect();
        assert_eq!(names, ["p2", "p4", "p3", "p5", "p1", "p0", "p6"]);
    }

    #[test]
    fn values_are_merged_with_their_origins() {
        let os = selection(
            "os",
            "os",
            "pack: {packages: [x]}\nkubeadmconfig:\n  preKubeadmCommands: [one]\n  kept:\nshared: os\n",
        );
        let k8s = with(
            &[
                ("pack.json", r#"{"name": "kubernetes", "version": "1.33.9", "layer": "k8s"}"#),
                (
                    "values.yaml",
                    "# spectrocloud.com/enabled-presets: G:recorded\npack: {podCIDR: 192.168.0.0/16}\nkubeadmconfig:\n  preKubeadmCommands: [two]\n  kept: 1\nshared: k8s\nold: {gone: 1, stays: 2}\n",
                ),
                (
                    "presets.yaml",
                    "presets:\n- {name: recorded, group: G, remove: [old.gone], add: 'preset: {a: 1, b: 1}'}\n",
                ),
            ],
            "preset: {b: ~, c: '{{ .spectro.pack.os.shared }}'}",
        );
        let profile = profile(vec![k8s, os], &Facts::default()).unwrap();
        assert_eq!(
            profile.values(),
            &json!({
                "kubeadmconfig": {"preKubeadmCommands": ["one", "two"], "kept": 1},
                "shared": "k8s", "old": {"stays": 2}, "preset": {"a": 1, "c": "os"},
            })
        );
        assert_eq!(profile.packs()[1].values["pack"], json!({"podCIDR": "192.168.0.0/16"}));
        let shown = |origins: Vec<Origin>| {
            let line = |o: &Origin| {
                format!(
                    "{} = {}  # {}, {}:{}",
                    o.path,
                    o.value,
                    o.by,
                    o.file.as_ref().unwrap().display(),
                    o.place
                )
            };
            origins.iter().map(line).collect::<Vec<_>>().join("\n")
        };
        insta::assert_snapshot!(shown(profile.origins()));
        insta::assert_snapshot!(shown(profile.packs()[0].origins()));
    }

    #[test]
    fn presets_are_chosen() {
        let chosen = |comment: &str, names: &[&str]| {
            let values = format!("# spectrocloud.com/enabled-presets: {comment}\n");
            let presets = "presets:\n- {name: a, group: G, add: {v: a}}\n- {name: b, group: G, add: {v: b}}\n- {name: a, group: H, add: {h: 1}}\n- {name: free, add: {f: 1}}\n- {name: own, add: {o: 1}}";
            let mut selection = with(&[("values.yaml", &values), ("presets.yaml", presets)], "");
            selection.presets = names.iter().map(|name| (*name).to_string()).collect();
            profile(vec![selection], &Facts::default()).map(|profile| profile.values().to_string())
        };
        let known = "it has `G:a`, `G:b`, `H:a`, `free`, `own`";
        let cases: [(&str, &[&str], Result<&str, String>); 10] = [
            ("", &[], Ok("{}")),
            ("G:a", &[], Ok(r#"{"v":"a"}"#)),
            ("G:a,free", &["b"], Ok(r#"{"f":1,"v":"b"}"#)),
            ("free", &["own", "free", "H:a"], Ok(r#"{"f":1,"h":1,"o":1}"#)),
            ("", &["G:a", "G:b"], Err("image.yaml: presets `G:a` and `G:b` of pack `a-1.0.0` are of one group (enable one of them)".into())),
            ("G:a,G:b", &[], Err("a-1.0.0/values.yaml: presets `G:a` and `G:b` of pack `a-1.0.0` are of one group (enable one of them)".into())),
            ("", &["G:b", "b"], Ok(r#"{"v":"b"}"#)),
            ("", &["none"], Err(format!("image.yaml: pack `a-1.0.0` has no single preset `none` ({known})"))),
            ("", &["a"], Err(format!("image.yaml: pack `a-1.0.0` has no single preset `a` ({known})"))),
            ("none", &[], Err(format!("a-1.0.0/values.yaml: pack `a-1.0.0` has no single preset `none` ({known})"))),
        ];
        for (comment, names, expected) in cases {
            assert_eq!(chosen(comment, names), expected.map(str::to_string), "{comment} {names:?}");
        }
        let exported = with(&[("values.yaml", "# spectrocloud.com/enabled-presets: gone\n")], "");
        assert!(profile(vec![exported], &Facts::default()).is_ok());
    }

    #[test]
    fn dependencies_are_checked() {
        let ranges = r#""minVersion": "1.17.0", "maxVersion": "1.18.6""#;
        let cases = [
            ("required", ranges, "", "1.18.6", ""),
            (
                "required",
                ranges,
                "",
                "1.18.7",
                "pack `a-1.0.0` needs pack `kubernetes` from 1.17.0 to 1.18.6; `kubernetes-1.18.7` is there (choose another version of one of them)",
            ),
            (
                "required",
                ranges,
                "",
                "",
                "pack `a-1.0.0` needs pack `kubernetes` from 1.17.0 to 1.18.6, which is not there (add it to `packs`)",
            ),
            ("required", r#""minVersion": "", "maxVersion": """#, "", "0", ""),
            (
                "required",
                r#""minVersion": "1""#,
                "cni",
                "1.0.0",
                "pack `a-1.0.0` needs pack `kubernetes` of the layer cni; `kubernetes-1.0.0` is of k8s (choose a pack of that layer)",
            ),
            ("optional", ranges, "", "", ""),
            (
                "optional",
                r#""minVersion": "1.17.0""#,
                "",
                "1.16.0",
                "pack `a-1.0.0` needs pack `kubernetes` from 1.17.0 on; `kubernetes-1.16.0` is there (choose another version of one of them)",
            ),
            ("optional", r#""minVersion": "1.17.0""#, "cni", "1.16.0", ""),
            ("upgrade", r#""maxVersion": "1.33.x""#, "", "1.33.9", ""),
            (
                "upgrade",
                r#""maxVersion": "1.33.x""#,
                "",
                "1.34.0",
                "pack `a-1.0.0` needs pack `kubernetes` up to 1.33.x; `kubernetes-1.34.0` is there (choose another version of one of them)",
            ),
            (
                "notSupported",
                ranges,
                "",
                "1.17.5",
                "pack `a-1.0.0` does not go with pack `kubernetes` from 1.17.0 to 1.18.6; `kubernetes-1.17.5` is there (leave one of them out, or choose another version)",
            ),
            ("notSupported", ranges, "", "1.19.0", ""),
            (
                "notSupported",
                "",
                "",
                "1.19.0",
                "pack `a-1.0.0` does not go with pack `kubernetes`; `kubernetes-1.19.0` is there (leave one of them out, or choose another version)",
            ),
            (
                "required",
                r#""minVersion": "x""#,
                "",
                "1.0",
                "pack `a-1.0.0` cannot be checked against pack `kubernetes-1.0`: `x` is no version (versions are one to four numbers, as in 1.33.9)",
            ),
        ];
        for (kind, bounds, layer, version, expected) in cases {
            let layer = if layer.is_empty() { "k8s" } else { layer };
            let comma = if bounds.is_empty() { "" } else { ", " };
            let mut selections = vec![depends(&format!(
                r#"{{"packName": "kubernetes", "layer": "{layer}", "type": "{kind}"{comma}{bounds}}}"#
            ))];
            if !version.is_empty() {
                selections.push(pack(&format!(
                    r#"{{"name": "kubernetes", "version": "{version}", "layer": "k8s"}}"#
                )));
            }
            let result = profile(selections, &Facts::default()).map_or_else(|e| e, |_| String::new());
            let expected = if expected.is_empty() {
                String::new()
            } else {
                format!("a-1.0.0/pack.json:1:86: {expected}")
            };
            assert_eq!(result, expected, "{kind} {bounds} {version}");
        }
    }

    #[test]
    fn every_conflict_is_told() {
        let needs = |name: &str| format!(r#"{{"packName": "{name}", "layer": "os", "type": "required"}}"#);
        let a = depends(&[needs("x"), needs("y")].join(", "));
        let error =
            profile(vec![a, selection("b", "os", ""), selection("b", "addon", "")], &Facts::default())
                .err()
                .unwrap();
        let starts: Vec<_> =
            error.lines().map(|line| line.split(": ").last().unwrap().split(" (").next().unwrap()).collect();
        assert_eq!(
            starts,
            [
                "pack `a-1.0.0` needs pack `x`, which is not there",
                "pack `a-1.0.0` needs pack `y`, which is not there",
                "pack `b` is there twice, as `b-1.0.0` and `b-1.0.0`",
            ]
        );
    }

    #[test]
    fn resources_are_added_up() {
        let needs = |name: &str, resources: &str, values: &str| {
            let json = format!(
                r#"{{"name": "{name}", "version": "1.0.0", "layer": "addon", "constraints": {{"resources": [{resources}]}}}}"#
            );
            with(&[("pack.json", &json), ("values.yaml", values)], "")
        };
        let component = r#"{"scheduleType": "all", "resourceRequestParamRef": "r.cpu", "replicaCountParamRef": "n"}, {"scheduleType": "worker", "resourceRequestParamRef": "none"}"#;
        let cpu = format!(r#"{{"type": "cpu", "minLimit": 99999, "components": [{component}]}}"#);
        let memory = r#"{"type": "memory", "minLimit": 2048}"#;
        let disk = r#"{"type": "diskSize", "minLimit": 10}"#;
        let has = |cpu_millicores, memory_mib, disk_gb| Facts {
            resources: Some(Resources { cpu_millicores, memory_mib, disk_gb }),
            ..Facts::default()
        };
        let selections = || {
            vec![
                needs("a", &format!("{cpu}, {memory}, {disk}"), "r: {cpu: 100m}\nn: 3"),
                needs("b", &format!("{memory}, {cpu}"), "r: {cpu: 1}"),
            ]
        };
        assert!(profile(selections(), &has(1300, 4096, 10)).is_ok());
        assert!(profile(selections(), &Facts::default()).is_ok());
        assert_eq!(profile(selections(), &has(1299, 4095, 9)).err().unwrap(), "\
the packs need 1300 millicores of CPU, the machine has 1299: `a-1.0.0` 300, `b-1.0.0` 1000 (give the machine more processors)
the packs need 4096 MiB of memory, the machine has 4095: `a-1.0.0` 2048, `b-1.0.0` 2048 (give the machine more memory)
the packs need 10 GB of disk, the machine has 9: `a-1.0.0` 10 (give the machine a larger disk)");
        let wrong = needs("a", &cpu, "r:\n  cpu: lots");
        assert_eq!(
            profile(vec![wrong], &has(1, 1, 1)).err().unwrap(),
            "a-1.0.0/values.yaml:2:8: `r.cpu` is \"lots\", which is no quantity (write it as Kubernetes does: 500m, 2, 128Mi)"
        );
    }

    #[test]
    fn overrides_are_a_map() {
        assert_eq!(
            profile(vec![with(&[], "- 1")], &Facts::default()).err().unwrap(),
            "image.yaml:1:1: `values` of `a-1.0.0` is no map (write `KEY: VALUE` lines)"
        );
    }

    #[test]
    fn shipped_packs_are_a_profile() {
        let packs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packs");
        let read = |name: &str| {
            let pack = Pack::read(&packs.join(name)).unwrap();
            assert_eq!(pack.id(), name, "folders are called NAME-VERSION");
            Selection { pack, presets: Vec::new(), values: None, file: None }
        };
        let profile =
            profile(vec![read("firstboot-0.1.0"), read("debian-13.0.0")], &Facts::default()).unwrap();
        assert_eq!(profile.packs()[0].pack.definition.layer, Layer::Os);
        assert_eq!(profile.values()["ansibleRoles"]["machine"]["login"], "ubuntu");
    }
}
