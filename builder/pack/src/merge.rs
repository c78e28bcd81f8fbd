//! Values that know where they came from, and how they are merged.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::document::{self, Node, Place};
use crate::error::Error;

/// Lists that grow from layer to layer: each adds what it needs done.
pub(crate) const APPENDED: [&str; 3] =
    ["kubeadmconfig.files", "kubeadmconfig.preKubeadmCommands", "kubeadmconfig.postKubeadmCommands"];

/// Who wrote values.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pub(crate) by: String,
    pub(crate) file: Option<PathBuf>,
}

/// A value with who wrote it and where.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) source: Arc<Source>,
    pub(crate) place: Place,
    /// A password: shown to nobody.
    pub(crate) masked: bool,
    pub(crate) data: Data,
}

#[derive(Clone, Debug)]
pub(crate) enum Data {
    /// Anything but lists and maps.
    Scalar(Json),
    List(Vec<Value>),
    /// Sorted: the order of keys means nothing.
    Map(BTreeMap<String, Value>),
}

/// Where a value of a profile came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// Keys with dots between them, items of lists as in `a.b[0]`.
    pub path: String,
    /// A text, number, boolean or null, or an empty list or map. Passwords are `"********"`.
    pub value: Json,
    /// ``pack `NAME-VERSION` ``, a preset of one, or `image definition`.
    pub by: String,
    /// The file, if it is known.
    pub file: Option<PathBuf>,
    /// Where in it.
    pub place: Place,
}

impl Value {
    pub(crate) fn from_node(node: &Node, source: &Arc<Source>) -> Value {
        let inner = |node: &Node| Value::from_node(node, source);
        let data = match &node.data {
            document::Data::List(items) => Data::List(items.iter().map(inner).collect()),
            document::Data::Map(entries) => {
                Data::Map(entries.iter().map(|entry| (entry.key.clone(), inner(&entry.value))).collect())
            }
            _ => Data::Scalar(node.to_json()),
        };
        Value { source: Arc::clone(source), place: node.place, masked: false, data }
    }

    /// What is wrong with this value, where it is written.
    pub(crate) fn error(&self, message: impl Into<String>, hint: impl Into<String>) -> Error {
        Error { file: self.source.file.clone(), place: Some(self.place), ..Error::new(message, hint) }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.data, Data::Scalar(Json::Null))
    }

    pub(crate) fn to_json(&self) -> Json {
        match &self.data {
            Data::Scalar(value) => value.clone(),
            Data::List(items) => items.iter().map(Value::to_json).collect(),
            Data::Map(map) => map.iter().map(|(key, value)| (key.clone(), value.to_json())).collect(),
        }
    }

    /// Merges what somebody set over these values: maps by key, `null` removes its key, all else replaces.
    pub(crate) fn set(&mut self, over: Value) {
        let Data::Map(entries) = over.data else {
            *self = over;
            return;
        };
        let map = self.make_map(&over.source, over.place);
        for (key, value) in entries {
            if value.is_null() {
                map.remove(&key);
            } else {
                // Into nothing, so that its own nulls go away too.
                let nothing = || Value { data: Data::Scalar(Json::Null), ..value.clone() };
                map.entry(key).or_insert_with(nothing).set(value);
            }
        }
    }

    /// Merges the values of the next layer: maps by key, some lists are [`APPENDED`], `null` (a key whose examples are all
    /// commented out) changes nothing, all else replaces. `path` is of these values.
    pub(crate) fn add_layer(&mut self, next: Value, path: &str) {
        match (next.data, &mut self.data) {
            (Data::Scalar(Json::Null), _) => {}
            (Data::List(items), Data::List(list)) if APPENDED.contains(&path) => list.extend(items),
            (Data::Map(entries), _) => {
                let map = self.make_map(&next.source, next.place);
                for (key, value) in entries {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    match map.get_mut(&key) {
                        Some(here) => here.add_layer(value, &path),
                        None => drop(map.insert(key, value)),
                    }
                }
            }
            (data, _) => *self = Value { data, ..next },
        }
    }

    fn make_map(&mut self, source: &Arc<Source>, place: Place) -> &mut BTreeMap<String, Value> {
        if !matches!(self.data, Data::Map(_)) {
            let data = Data::Map(BTreeMap::new());
            *self = Value { source: Arc::clone(source), place, masked: false, data };
        }
        let Data::Map(map) = &mut self.data else { unreachable!("it was made a map") };
        map
    }

    /// The value at a path of keys with dots between them. Keys may have dots themselves, as in `options.system.uri` with
    /// the key `system.uri`.
    pub(crate) fn find(&self, path: &str) -> Option<&Value> {
        let Data::Map(map) = &self.data else { return None };
        splits(path).find_map(|(key, rest)| {
            let value = map.get(key)?;
            rest.map_or(Some(value), |rest| value.find(rest))
        })
    }

    pub(crate) fn find_mut(&mut self, path: &str) -> Option<&mut Value> {
        let Data::Map(map) = &mut self.data else { return None };
        let (key, rest) = splits(path).find(|(key, rest)| {
            map.get(*key).is_some_and(|value| rest.is_none_or(|rest| value.find(rest).is_some()))
        })?;
        let value = map.get_mut(key)?;
        match rest {
            None => Some(value),
            Some(rest) => value.find_mut(rest),
        }
    }

    /// Removes the value at a path, if it is there.
    pub(crate) fn remove(&mut self, path: &str) {
        let Data::Map(map) = &mut self.data else { return };
        for (key, rest) in splits(path) {
            match (map.get_mut(key), rest) {
                (Some(value), Some(rest)) if value.find(rest).is_some() => return value.remove(rest),
                (Some(_), None) => drop(map.remove(key)),
                _ => {}
            }
        }
    }

    /// The values that are no lists or maps with something in them, with their paths.
    pub(crate) fn origins(&self) -> Vec<Origin> {
        let mut all = Vec::new();
        self.add_origins(String::new(), &mut all);
        all
    }

    fn add_origins(&self, path: String, all: &mut Vec<Origin>) {
        match &self.data {
            Data::List(items) if !items.is_empty() => {
                for (n, item) in items.iter().enumerate() {
                    item.add_origins(format!("{path}[{n}]"), all);
                }
            }
            Data::Map(map) if !map.is_empty() => {
                for (key, value) in map {
                    let dot = if path.is_empty() { "" } else { "." };
                    value.add_origins(format!("{path}{dot}{key}"), all);
                }
            }
            _ => all.push(Origin {
                path,
                value: if self.masked { "********".into() } else { self.to_json() },
                by: self.source.by.clone(),
                file: self.source.file.clone(),
                place: self.place,
            }),
        }
    }
}

/// The first key and the rest of a path, for each dot that could be the one between them.
fn splits(path: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    path.match_indices('.').map(|(dot, _)| (&path[..dot], Some(&path[dot + 1..]))).chain([(path, None)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::document::parse_yaml;

    fn value(text: &str) -> Value {
        Value::from_node(&parse_yaml(text).unwrap(), &Arc::new(Source::default()))
    }

    #[test]
    fn what_is_set_replaces_by_key() {
        let cases = [
            ("a: {b: 1, c: 2}", "a: {c: 3, d: 4}", json!({"a": {"b": 1, "c": 3, "d": 4}})),
            ("a: {b: 1, c: 2}", "a: {b: ~}", json!({"a": {"c": 2}})),
            ("a: 1", "b: {c: ~, d: {e: ~, f: 1}}", json!({"a": 1, "b": {"d": {"f": 1}}})),
            ("a: [1, 2]", "a: [3]", json!({"a": [3]})),
            ("a: {b: 1}", "a: x", json!({"a": "x"})),
            ("a: x", "a: {b: 1}", json!({"a": {"b": 1}})),
            ("a: ~", "{}", json!({"a": null})),
            (
                "kubeadmconfig: {files: [1]}",
                "kubeadmconfig: {files: [2]}",
                json!({"kubeadmconfig": {"files": [2]}}),
            ),
        ];
        for (base, over, expected) in cases {
            let mut base = value(base);
            base.set(value(over));
            assert_eq!(base.to_json(), expected, "{over}");
        }
    }

    #[test]
    fn layers_add_to_each_other() {
        let cases = [
            ("a: {b: 1}", "a: {b: 2, c: ~}", json!({"a": {"b": 2, "c": null}})),
            ("a: {b: 1}", "a: ~", json!({"a": {"b": 1}})),
            ("a: ~", "a: {b: 1}", json!({"a": {"b": 1}})),
            (
                "kubeadmconfig: {files: [1], preKubeadmCommands: [a], other: [x], postKubeadmCommands: ~}",
                "kubeadmconfig: {files: [2], preKubeadmCommands: [a], other: [y], postKubeadmCommands: [p]}",
                json!({"kubeadmconfig": {
                    "files": [1, 2], "preKubeadmCommands": ["a", "a"], "other": ["y"], "postKubeadmCommands": ["p"]
                }}),
            ),
            (
                "x: {kubeadmconfig: {files: [1]}}",
                "x: {kubeadmconfig: {files: [2]}}",
                json!({"x": {"kubeadmconfig": {"files": [2]}}}),
            ),
        ];
        for (base, next, expected) in cases {
            let mut base = value(base);
            base.add_layer(value(next), "");
            assert_eq!(base.to_json(), expected, "{next}");
        }
    }

    #[test]
    fn keys_may_have_dots() {
        let mut values =
            value("options: {system.uri: x, system: {repo: y}, system.repo: z}\na.b.c: 1\na: {b: {d: 2}}");
        for (path, expected) in [
            ("options.system.uri", json!("x")),
            ("options.system.repo", json!("y")),
            ("a.b.c", json!(1)),
            ("a.b.d", json!(2)),
        ] {
            assert_eq!(values.find(path).unwrap().to_json(), expected, "{path}");
            assert_eq!(values.find_mut(path).unwrap().to_json(), expected, "{path}");
        }
        for path in ["", ".", "options.system.", "options.system.uri.x", "nothing"] {
            assert!(values.find(path).is_none() && values.find_mut(path).is_none(), "{path}");
        }
        for path in ["options.system.uri", "options.system.repo", "a.b.c", "nothing.at.all"] {
            values.remove(path);
        }
        assert_eq!(
            values.to_json(),
            json!({"options": {"system": {}, "system.repo": "z"}, "a": {"b": {"d": 2}}})
        );
    }

    /// Maps in which a key always has the same kind of value: `m...` maps, all others scalars.
    fn maps() -> impl Strategy<Value = Json> {
        let scalars = prop::collection::btree_map("[a-c]", any::<u8>().prop_map(Json::from), 0..4);
        let leaf = scalars.prop_map(Json::from_iter);
        leaf.prop_recursive(3, 24, 4, |inner| {
            let maps = prop::collection::btree_map("m[a-c]", inner, 0..4);
            (maps, prop::collection::btree_map("[a-c]", any::<u8>().prop_map(Json::from), 0..4))
                .prop_map(|(maps, scalars)| maps.into_iter().chain(scalars).collect())
        })
    }

    fn of(json: &Json) -> Value {
        Value::from_node(&Node::from_json(json, Place::default()), &Arc::new(Source::default()))
    }

    type Merge = fn(&mut Value, Value);
    const MERGES: [Merge; 2] = [Value::set, |base, next| base.add_layer(next, "")];

    proptest! {
        #[test]
        fn merging_maps_is_associative(a in maps(), b in maps(), c in maps()) {
            for merge in MERGES {
                let (mut left, mut right, mut inner) = (of(&a), of(&a), of(&b));
                merge(&mut left, of(&b));
                merge(&mut left, of(&c));
                merge(&mut inner, of(&c));
                merge(&mut right, inner);
                prop_assert_eq!(left.to_json(), right.to_json());
            }
        }

        #[test]
        fn the_order_of_keys_changes_nothing(a in maps(), b in maps()) {
            fn reversed(node: &Node) -> Node {
                let mut node = node.clone();
                if let document::Data::Map(entries) = &mut node.data {
                    entries.reverse();
                    entries.iter_mut().for_each(|entry| entry.value = reversed(&entry.value));
                }
                node
            }
            let source = Arc::new(Source::default());
            let other = |json| Value::from_node(&reversed(&Node::from_json(json, Place::default())), &source);
            for merge in MERGES {
                let (mut one, mut two) = (of(&a), other(&a));
                merge(&mut one, of(&b));
                merge(&mut two, other(&b));
                prop_assert_eq!(one.to_json().to_string(), two.to_json().to_string());
            }
        }
    }
}
