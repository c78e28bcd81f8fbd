//! Rules for `pack.json` beyond its shape.

use jiff::civil::Date;

use super::shape::what;
use super::{DEFINITION, Found, Subject, VALUES, is_macro};
use crate::document::{Data, Node, Place};
use crate::version::{Range, Version};

pub(super) fn annotation_type(pack: &Subject<'_>, found: &mut Found) {
    for entry in pack.definition.root.get("annotations").map_or(&[][..], Node::entries) {
        if entry.value.as_str().is_none() {
            found.at(
                DEFINITION,
                entry.value.place,
                format!("The annotation `{}` is {}, not a text", entry.key, what(&entry.value)),
            );
        }
    }
}

/// The node of a text in the definition that is not empty.
fn filled<'a>(pack: &'a Subject<'_>, path: &[&str]) -> Option<(&'a str, Place)> {
    let node = pack.definition.root.at(path)?;
    let text = node.as_str()?.trim();
    (!text.is_empty()).then_some((text, node.place))
}

pub(super) fn version_prefix(pack: &Subject<'_>, found: &mut Found) {
    if let Some((version, place)) = filled(pack, &["version"])
        && has_prefix(version)
    {
        found.at(DEFINITION, place, format!("The version `{version}` has a leading `v`"));
    }
}

fn has_prefix(version: &str) -> bool {
    let rest = version.strip_prefix(['v', 'V']);
    rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

pub(super) fn eol_form(pack: &Subject<'_>, found: &mut Found) {
    if let Some((eol, place)) = filled(pack, &["eol"])
        && date(eol).is_none()
    {
        found.at(DEFINITION, place, format!("`eol` is `{eol}`, which is no date like `2028-04-30`"));
    }
}

pub(super) fn eol_past(pack: &Subject<'_>, found: &mut Found) {
    if let Some((eol, place)) = filled(pack, &["eol"])
        && date(eol).is_some_and(|eol| eol < pack.today)
    {
        found.at(DEFINITION, place, format!("The end of life was on {eol}"));
    }
}

/// `yyyy-MM-dd` to the letter.
fn date(text: &str) -> Option<Date> {
    let has_form = text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(n, byte)| if n == 4 || n == 7 { byte == b'-' } else { byte.is_ascii_digit() });
    if has_form { text.parse().ok() } else { None }
}

fn dependencies<'a>(pack: &'a Subject<'_>) -> &'a [Node] {
    pack.definition.root.at(&["constraints", "dependencies"]).map_or(&[], Node::items)
}

fn resources<'a>(pack: &'a Subject<'_>) -> &'a [Node] {
    pack.definition.root.at(&["constraints", "resources"]).map_or(&[], Node::items)
}

pub(super) fn dependency_type(pack: &Subject<'_>, found: &mut Found) {
    for dependency in dependencies(pack).iter().filter(|node| matches!(node.data, Data::Map(_))) {
        if dependency.get("type").is_none_or(Node::is_null) {
            let name = dependency.get("packName").and_then(Node::as_str).unwrap_or_default();
            found.at(
                DEFINITION,
                dependency.place,
                format!("The dependency on `{name}` has no `type`; it is read as `optional`"),
            );
        }
    }
}

pub(super) fn version_bounds(pack: &Subject<'_>, found: &mut Found) {
    for dependency in dependencies(pack) {
        let bound = |key| {
            let node = dependency.get(key)?;
            let text = node.as_str().filter(|text| !text.is_empty())?;
            Some((text, text.strip_suffix(".x").unwrap_or(text), node.place))
        };
        let (min, max) = (bound("minVersion"), bound("maxVersion"));
        for (text, number, place) in min.into_iter().chain(max) {
            if Version::parse(number).is_none() {
                found.at(DEFINITION, place, format!("The bound `{text}` is no version"));
            }
        }
        if let (Some((min, number, place)), Some((max, ..))) = (min, max)
            && (Range { min: None, max: Some(max) }).contains(number) == Ok(false)
        {
            found.at(DEFINITION, place, format!("The minimum `{min}` is above the maximum `{max}`"));
        }
    }
}

pub(super) fn ignored_limit(pack: &Subject<'_>, found: &mut Found) {
    for resource in resources(pack) {
        if let (Some(limit), Some(_)) = (resource.get("minLimit"), resource.get("components")) {
            found.at(DEFINITION, limit.place, "`minLimit` is ignored beside `components`");
        }
    }
}

pub(super) fn cloud_types(pack: &Subject<'_>, found: &mut Found) {
    let definition = &pack.definition.root;
    if let Some(entry) = definition.entries().iter().find(|entry| entry.key == "cloudType") {
        found.at(DEFINITION, entry.place, "`cloudType` is the old form of `cloudTypes`");
    } else if !definition.entries().is_empty()
        && definition.get("cloudTypes").is_none_or(|node| node.is_null() || node.items().is_empty())
    {
        found.of(DEFINITION, "The pack names no cloud in `cloudTypes`");
    }
}

pub(super) fn skip_without_image(pack: &Subject<'_>, found: &mut Found) {
    let skip = pack.definition.root.at(&["annotations", "skipK8sInstall"]);
    // Packs with an archive of packages make their own base image.
    let has_base = filled(pack, &["annotations", "imageId"]).is_some()
        || pack.values.root.at(&["pack", "archive"]).is_some();
    if let Some(skip) = skip.filter(|node| node.as_str() == Some("true") && !has_base) {
        found.at(
            DEFINITION,
            skip.place,
            "`skipK8sInstall` is `true`, and no `imageId` says which image has Kubernetes",
        );
    }
}

pub(super) fn clear_text_password(pack: &Subject<'_>, found: &mut Found) {
    if let Some((password, place)) = filled(pack, &["annotations", "sshPassword"])
        && !is_macro(password)
    {
        found.at(DEFINITION, place, "`sshPassword` is in clear text");
    }
}

pub(super) fn tag_form(pack: &Subject<'_>, found: &mut Found) {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    for key in ["name", "version", "group"] {
        let Some(node) = pack.definition.root.get(key) else { continue };
        let text = node.as_str().unwrap_or_default();
        if let Some(wrong) = text.chars().find(|c| !fits(*c)) {
            found.at(DEFINITION, node.place, format!("`{key}` has {wrong:?}"));
        } else if text.starts_with('.') {
            found.at(DEFINITION, node.place, format!("`{key}` begins with a dot"));
        }
    }
}

pub(super) fn unused_values(pack: &Subject<'_>, found: &mut Found) {
    if pack.definition.error.is_some() {
        return;
    }
    for entry in pack.values.root.get("ansibleRoles").map_or(&[][..], Node::entries) {
        let is_role =
            pack.texts("ansibleRoles").any(|(role, _)| role.rsplit('/').next() == Some(entry.key.as_str()));
        if !is_role {
            found.at(VALUES, entry.place, format!("`{}` is no role of `pack.json`", entry.key));
        }
    }
}
