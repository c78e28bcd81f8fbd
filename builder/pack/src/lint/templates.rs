//! Rules for what is filled in: macros, the schema of values, presets.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::shape::what;
use super::{Document, Found, PRESETS, SCHEMA, Subject, VALUES, files, sentence};
use crate::document::{self, Data, Entry, Node, Place};
use crate::macros;
use crate::merge::Value;
use crate::template::{self, Token};
use crate::{Error, Schema};

pub(super) fn unknown_macro(pack: &Subject<'_>, found: &mut Found) {
    for document in pack.documents().into_iter().filter(|document| document.text.contains(".spectro.")) {
        let mut lines = vec![0];
        lines.extend(document.text.match_indices('\n').map(|(end, _)| end + 1));
        each_text(&document.root, false, &mut |node, text, is_deployed| {
            // Where a macro is: the source of a text has as many braces as the text.
            let mut from =
                lines.get(node.place.line.saturating_sub(1)).copied().unwrap_or(document.text.len());
            let column = document.text[from..].char_indices().nth(node.place.column.saturating_sub(1));
            from += column.map_or(0, |(column, _)| column);
            for (start, _) in text.match_indices("{{") {
                let Some(at) = document.text[from..].find("{{").map(|at| from + at) else { return };
                from = at + 2;
                if let Err(message) = check_macro(&text[start..], is_deployed) {
                    found.at(document.file, files::place(document.text.as_bytes(), at), message);
                }
            }
        });
    }
}

/// Calls `visit` for each text, with whether a cluster resolves its macros.
fn each_text(node: &Node, is_deployed: bool, visit: &mut dyn FnMut(&Node, &str, bool)) {
    if let Some(text) = node.as_str() {
        visit(node, text, is_deployed);
    }
    node.items().iter().for_each(|item| each_text(item, is_deployed, visit));
    for entry in node.entries() {
        each_text(&entry.value, is_deployed || macros::DEPLOYED.contains(&entry.key.as_str()), visit);
    }
}

/// Checks what a text begins with, if it is a macro of ours.
fn check_macro(text: &str, is_deployed: bool) -> Result<(), String> {
    let Some(action) = template::action(text) else {
        let end = text.find("}}").unwrap_or(text.len());
        let is_ours = text[..end].contains(".spectro.") && !is_deployed;
        return if is_ours { Err("The macro cannot be read".into()) } else { Ok(()) };
    };
    let is_ours = |token: &Token| matches!(token, Token::Field(field) if field.starts_with(".spectro."));
    if !action.tokens.iter().any(is_ours) {
        return Ok(());
    }
    for token in &action.tokens {
        match token {
            Token::Field(field) => {
                let parts: Vec<&str> = field.trim_start_matches(".spectro.").split('.').collect();
                let is_known =
                    matches!(parts.as_slice(), ["var", _] | ["system", _, ..] | ["pack", _, _, ..]);
                if is_ours(token) && !(is_known && parts.iter().all(|part| !part.is_empty())) {
                    return Err(format!("There is no macro `{field}`"));
                }
            }
            Token::Word(word) if !is_deployed && !macros::FUNCTIONS.iter().any(|(name, _)| name == word) => {
                return Err(format!("There is no function `{word}`"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a dotted path is in values; `$[]` stands for every item of a list, and a list without any has all.
fn has_path(values: &Node, path: &str) -> bool {
    let (part, rest) = path.split_once('.').unwrap_or((path, ""));
    let goes_on = |node: &Node| rest.is_empty() || has_path(node, rest);
    if part == "$[]" {
        return matches!(values.data, Data::List(_))
            && (values.items().is_empty() || values.items().iter().any(goes_on));
    }
    // Keys may have dots themselves, as arguments and labels do.
    values.get(part).is_some_and(goes_on)
        || values.entries().iter().any(|entry| {
            entry.key.contains('.')
                && path.strip_prefix(entry.key.as_str()).is_some_and(|rest| {
                    rest.is_empty() || rest.strip_prefix('.').is_some_and(|rest| has_path(&entry.value, rest))
                })
        })
}

pub(super) fn schema_path(pack: &Subject<'_>, found: &mut Found) {
    if pack.values.error.is_some() {
        return;
    }
    for entry in pack.schema.root.entries() {
        if !has_path(&pack.values.root, &entry.key) {
            found.at(SCHEMA, entry.place, format!("`{}` is not in `values.yaml`", entry.key));
        }
    }
}

pub(super) fn schema_form(pack: &Subject<'_>, found: &mut Found) {
    let root = &pack.schema.root;
    for entry in root.entries() {
        if entry.value.get("schema").is_none() && entry.value.get("readonly").is_none() {
            found.at(SCHEMA, entry.place, format!("`{}` has neither `schema` nor `readonly`", entry.key));
        }
        if let Err(e) = rule(&pack.schema, entry) {
            found.at(SCHEMA, e.place.unwrap_or(entry.place), sentence(&e.message));
        }
    }
    if let Err(e) = Schema::read(Path::new(SCHEMA), root) {
        // Told at its entry above, but for what is of all of them.
        if e.place == Some(root.place) {
            found.at(SCHEMA, root.place, sentence(&e.message));
        }
    }
}

/// One entry of the schema, so that one that is wrong hides no other.
fn rule(schema: &Document<'_>, entry: &Entry) -> Result<Schema, Error> {
    let data = Data::Map(vec![entry.clone()]);
    Schema::read(Path::new(SCHEMA), &Node { place: schema.root.place, data })
}

pub(super) fn schema_value(pack: &Subject<'_>, found: &mut Found) {
    let source = Arc::default();
    let values = Value::from_node(&pack.values.root, &source);
    for entry in pack.schema.root.entries() {
        let Ok(mut schema) = rule(&pack.schema, entry) else { continue };
        // What is required may be given with the image.
        schema.rules.iter_mut().for_each(|rule| rule.required = false);
        for e in schema.check(&values) {
            found.at(VALUES, e.place.unwrap_or_default(), sentence(&e.message));
        }
    }
}

/// `GROUP:NAME` of every preset, or `NAME` where there is no group, with its node.
fn presets<'a>(pack: &'a Subject<'_>) -> impl Iterator<Item = (String, &'a Node)> {
    let presets = pack.presets.root.get("presets").map_or(&[][..], Node::items);
    presets.iter().filter_map(|preset| {
        let text = |key| preset.get(key).and_then(Node::as_str);
        let group = text("group").filter(|group| !group.is_empty());
        Some((group.map(|group| format!("{group}:")).unwrap_or_default() + text("name")?, preset))
    })
}

pub(super) fn preset(pack: &Subject<'_>, found: &mut Found) {
    let mut names = BTreeSet::new();
    for (name, preset) in presets(pack) {
        if !names.insert(name.clone()) {
            found.at(PRESETS, preset.place, format!("The preset `{name}` is there twice"));
        }
    }
    for preset in pack.presets.root.get("presets").map_or(&[][..], Node::items) {
        let Some(add) = preset.get("add") else { continue };
        let Some(text) = add.as_str() else { continue };
        match document::parse_yaml(text) {
            Ok(node) if node.is_null() || matches!(node.data, Data::Map(_)) => {}
            Ok(node) => found.at(PRESETS, add.place, format!("`add` is {}, not a map", what(&node))),
            Err(e) => found.at(PRESETS, add.place, format!("`add` cannot be read: {e}")),
        }
    }
}

pub(super) fn preset_path(pack: &Subject<'_>, found: &mut Found) {
    if pack.values.error.is_some() {
        return;
    }
    for (_, preset) in presets(pack) {
        for path in preset.get("remove").map_or(&[][..], Node::items) {
            if let Some(text) = path.as_str().filter(|text| !has_path(&pack.values.root, text)) {
                found.at(
                    PRESETS,
                    path.place,
                    format!("`{text}` is not in `values.yaml`, and cannot be removed"),
                );
            }
        }
    }
}

pub(super) fn enabled_preset(pack: &Subject<'_>, found: &mut Found) {
    const MARK: &str = "spectrocloud.com/enabled-presets:";
    let line = pack.values.text.lines().next().unwrap_or_default();
    let Some((mark, names)) = line.split_once(MARK).filter(|(mark, _)| mark.trim() == "#") else { return };
    if pack.presets.error.is_some() {
        return;
    }
    let mut groups = BTreeSet::new();
    let mut column = mark.chars().count() + MARK.len() + 1;
    for name in names.split(',') {
        let indent = name.chars().take_while(|c| c.is_whitespace()).count();
        let place = Place { line: 1, column: column + indent };
        column += name.chars().count() + 1;
        let name = name.trim();
        let Some((group, _)) = name.split_once(':').filter(|_| presets(pack).any(|(known, _)| known == name))
        else {
            if !name.is_empty() {
                found.at(VALUES, place, format!("There is no preset `{name}`"));
            }
            continue;
        };
        if !groups.insert(group) {
            found.at(VALUES, place, format!("The group `{group}` has another preset that is enabled"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let values = document::parse_yaml("a: {b: [{c: 1}], d.e/f: {g: 1}, h: []}").unwrap();
        for (path, expected) in [
            ("a", true),
            ("a.b.$[].c", true),
            ("a.b.$[].d", false),
            ("a.b.c", false),
            ("a.d.e/f.g", true),
            ("a.h.$[].x", true),
            ("x", false),
        ] {
            assert_eq!(has_path(&values, path), expected, "{path}");
        }
    }
}
