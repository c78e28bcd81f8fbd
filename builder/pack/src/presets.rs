//! `presets.yaml`: named changes of a pack's values, at most one of each group.

use std::path::Path;

use crate::document::{self, Data, Node, Place};
use crate::error::Error;
use crate::fields::Fields;

/// A named change of values: `remove` goes first, then `add` is merged.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// Unique in the pack.
    pub name: String,
    /// For people.
    pub display_name: Option<String>,
    /// Of presets with the same group, at most one is enabled.
    pub group: Option<String>,
    /// Paths in the values.
    pub remove: Vec<String>,
    /// Values, all with the place of `add`: a map or null.
    pub add: Node,
    /// Where it is in `presets.yaml`.
    pub place: Place,
}

impl Preset {
    /// `GROUP:NAME`, or `NAME` where there is no group.
    #[must_use]
    pub fn id(&self) -> String {
        self.group.iter().map(|group| format!("{group}:")).collect::<String>() + &self.name
    }
}

/// Reads what `presets.yaml`, called `file` in errors, says.
///
/// # Errors
/// When a key has the wrong type, a name is there twice, or `add` is no map.
pub fn read(file: &Path, node: &Node) -> Result<Vec<Preset>, Error> {
    if node.is_null() {
        return Ok(Vec::new());
    }
    let mut presets: Vec<Preset> = Vec::new();
    for fields in Fields::of(file, node, "presets.yaml")?.maps("presets")? {
        let preset = Preset {
            name: fields.needed("name")?,
            display_name: fields.text("displayName")?,
            group: fields.text("group")?.filter(|group| !group.is_empty()),
            remove: fields.texts("remove")?,
            add: add(fields)?,
            place: fields.place(),
        };
        if presets.iter().any(|other| other.id() == preset.id()) {
            let message = format!("the preset `{}` is there twice", preset.id());
            return Err(fields.error("name", message, "give one of them another name"));
        }
        presets.push(preset);
    }
    Ok(presets)
}

/// YAML in a text, as documented, or simply a map.
fn add(fields: Fields<'_>) -> Result<Node, Error> {
    let Some(node) = fields.get("add") else {
        return Ok(Node { place: fields.place(), data: Data::Null });
    };
    let values = match node.as_str() {
        None => node.clone(),
        Some(text) => {
            let values = document::parse_yaml(text).map_err(|e| {
                fields.error("add", format!("`add` is no YAML: {e}"), "places are those inside of `add`")
            })?;
            Node::from_json(&values.to_json(), node.place)
        }
    };
    match values.data {
        Data::Map(_) | Data::Null => Ok(values),
        _ => Err(fields.error("add", "`add` is no map of values", "write `KEY: VALUE` lines")),
    }
}

/// The presets that the first line of a `values.yaml` records: `# spectrocloud.com/enabled-presets: GROUP:NAME,...`.
#[must_use]
pub fn enabled(values: &str) -> Vec<String> {
    let line = values.lines().next().unwrap_or_default();
    line.strip_prefix('#')
        .and_then(|line| line.trim_start().strip_prefix("spectrocloud.com/enabled-presets:"))
        .map(|names| {
            names.split(',').map(|name| name.trim().to_string()).filter(|name| !name.is_empty()).collect()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::read;

    fn presets(text: &str) -> Result<Vec<Preset>, String> {
        read(&[("presets.yaml", text)]).map(|pack| pack.presets)
    }

    #[test]
    fn presets_are_read() {
        let text = "presets:\n- name: private\n  displayName: Private\n  group: registry\n  remove: [a.b]\n  add: |\n    a:\n      c: 1\n- name: plain\n  group: ''\n  add: {d: 2}\n- name: nothing\n";
        let all = presets(text).unwrap();
        assert_eq!(all.iter().map(Preset::id).collect::<Vec<_>>(), ["registry:private", "plain", "nothing"]);
        assert_eq!(all[0].add.to_json(), serde_json::json!({"a": {"c": 1}}));
        assert_eq!(all[0].add.at(&["a", "c"]).unwrap().place.line, all[0].add.place.line);
        assert_eq!(
            (all[0].remove.as_slice(), all[1].add.to_json()),
            (["a.b".to_string()].as_slice(), serde_json::json!({"d": 2}))
        );
        assert!(all[2].add.is_null() && presets("").unwrap().is_empty());
    }

    #[test]
    fn wrong_presets_are_told() {
        let cases = [
            ("presets: [{}]", "presets.yaml:1:11: `name` is missing (docs/packs.md lists the keys)"),
            (
                "presets: [{name: a}, {name: a}]",
                "presets.yaml:1:29: the preset `a` is there twice (give one of them another name)",
            ),
            (
                "presets: [{name: a, add: '['}]",
                "presets.yaml:1:26: `add` is no YAML: line 2, column 1: while parsing a node, did not find expected node content (places are those inside of `add`)",
            ),
            (
                "presets: [{name: a, add: b}]",
                "presets.yaml:1:26: `add` is no map of values (write `KEY: VALUE` lines)",
            ),
            (
                "presets: [{name: a, remove: b}]",
                "presets.yaml:1:29: `remove` is a text; it must be a list (docs/packs.md lists the keys and what they are)",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(presets(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn the_first_line_enables_presets() {
        let cases: [(&str, &[&str]); 5] = [
            ("# spectrocloud.com/enabled-presets: G H:a,b\nx: 1", &["G H:a", "b"]),
            ("#spectrocloud.com/enabled-presets:a", &["a"]),
            ("# spectrocloud.com/enabled-presets: ,", &[]),
            ("x: 1\n# spectrocloud.com/enabled-presets: a", &[]),
            ("", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(enabled(text), expected, "{text}");
        }
    }
}
