//! Maps of documents read key by key, so that every wrong value is told with its place, what it is and what it must be.

use std::collections::BTreeMap;
use std::path::Path;

use crate::document::{Data, Node, Place};
use crate::error::Error;

/// A map of a document. A key with `null` counts as absent.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    file: &'a Path,
    node: &'a Node,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(file: &'a Path, node: &'a Node, what: &str) -> Result<Fields<'a>, Error> {
        let fields = Fields { file, node };
        match &node.data {
            Data::Map(_) => Ok(fields),
            _ => Err(fields.wrong(node, what, "a map")),
        }
    }

    pub(crate) fn place(&self) -> Place {
        self.node.place
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Node> {
        self.node.get(key).filter(|node| !node.is_null())
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<String>, Error> {
        self.get(key).map(|node| self.text_of(node, key)).transpose()
    }

    /// A text that must be there and not be empty.
    pub(crate) fn needed(&self, key: &str) -> Result<String, Error> {
        match self.text(key)? {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) => Err(self.error(key, format!("`{key}` is empty"), "write what it is")),
            None => Err(self.error(key, format!("`{key}` is missing"), "docs/packs.md lists the keys")),
        }
    }

    pub(crate) fn texts(&self, key: &str) -> Result<Vec<String>, Error> {
        self.list(key)?.iter().map(|item| self.text_of(item, &format!("{key}[]"))).collect()
    }

    pub(crate) fn text_map(&self, key: &str) -> Result<BTreeMap<String, String>, Error> {
        let Some(node) = self.get(key) else { return Ok(BTreeMap::new()) };
        let map = Fields::of(self.file, node, key)?;
        let text = |entry: &crate::document::Entry| {
            Ok((entry.key.clone(), map.text_of(&entry.value, &format!("{key}.{}", entry.key))?))
        };
        node.entries().iter().map(text).collect()
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, Error> {
        match self.get(key).map(|node| (node, &node.data)) {
            None => Ok(None),
            Some((_, Data::Number(number))) => Ok(number.as_f64()),
            Some((node, _)) => Err(self.wrong(node, key, "a number")),
        }
    }

    /// One of the words that mean something here.
    pub(crate) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>, Error> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        match choices.iter().find(|(word, _)| *word == text) {
            Some((_, choice)) => Ok(Some(*choice)),
            None => {
                let words: Vec<_> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
                let hint = format!("it is one of {}", words.join(", "));
                Err(self.error(key, format!("`{key}` is `{text}`, which is unknown"), hint))
            }
        }
    }

    /// The maps of a list.
    pub(crate) fn maps(&self, key: &str) -> Result<Vec<Fields<'a>>, Error> {
        let name = format!("{key}[]");
        self.list(key)?.iter().map(|item| Fields::of(self.file, item, &name)).collect()
    }

    pub(crate) fn map(&self, key: &str) -> Result<Option<Fields<'a>>, Error> {
        self.get(key).map(|node| Fields::of(self.file, node, key)).transpose()
    }

    /// An error at the value of a key, or at the map where it should be.
    pub(crate) fn error(&self, key: &str, message: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::new(message, hint).at(self.file, self.node.get(key).unwrap_or(self.node).place)
    }

    fn list(&self, key: &str) -> Result<&'a [Node], Error> {
        match self.get(key).map(|node| (node, &node.data)) {
            None => Ok(&[]),
            Some((_, Data::List(items))) => Ok(items),
            Some((node, _)) => Err(self.wrong(node, key, "a list")),
        }
    }

    fn text_of(&self, node: &Node, key: &str) -> Result<String, Error> {
        node.as_str().map(str::to_string).ok_or_else(|| self.wrong(node, key, "a text"))
    }

    fn wrong(&self, node: &Node, key: &str, must: &str) -> Error {
        let is = kind(&node.data);
        let hint = match &node.data {
            Data::Bool(_) | Data::Number(_) if must == "a text" => {
                format!("put it in quotes: \"{}\"", node.to_json())
            }
            _ => "docs/packs.md lists the keys and what they are".to_string(),
        };
        Error::new(format!("`{key}` is {is}; it must be {must}"), hint).at(self.file, node.place)
    }
}

/// What a value is, for a sentence.
fn kind(data: &Data) -> &'static str {
    match data {
        Data::Null => "empty",
        Data::Bool(_) => "a boolean",
        Data::Number(_) => "a number",
        Data::String(_) => "a text",
        Data::List(_) => "a list",
        Data::Map(_) => "a map",
    }
}
