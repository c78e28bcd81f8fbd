//! `gatewright pack show`: what values come to when packs are put together, and who said so.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ::pack::{Facts, Origin, Profile, ProfilePack, Selection};
use anyhow::Result;
use clap::{Args, ValueHint};
use serde_json::{Value, json};

use super::find;
use crate::cli::SourceArgs;
use crate::config::Config;
use crate::image;
use crate::locking::Policy;
use crate::print;
use crate::workshop::Settings;

#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// Packs, folders or archives; or one image definition, whose packs are shown as it sets them
    #[arg(required = true, value_hint = ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    sources: SourceArgs,
}

pub(crate) fn run(arguments: &ShowArgs, as_json: bool) -> Result<()> {
    let settings = Settings::new(&arguments.sources, &Config::read()?)?;
    let is_image =
        |path: &PathBuf| path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    let profile = match arguments.paths.as_slice() {
        [path] if is_image(path) => image::read_profile(path, &settings, Policy::Update)?,
        paths => {
            let selections = paths
                .iter()
                .map(|path| {
                    Ok(Selection {
                        pack: find::at(path, &settings)?,
                        presets: Vec::new(),
                        values: None,
                        file: None,
                    })
                })
                .collect::<Result<_>>()?;
            let facts =
                Facts { variables: settings.variables.clone(), system: BTreeMap::new(), resources: None };
            Profile::new(selections, &facts).map_err(|errors| image::disagreement("These packs", errors))?
        }
    };
    if as_json {
        let packs: Vec<Value> = profile.packs().iter().map(described).collect();
        let origins: Vec<Value> = profile.origins().iter().map(origin).collect();
        let report = json!({ "packs": packs, "values": profile.values(), "origins": origins });
        print(&serde_json::to_string_pretty(&report)?)?;
    } else {
        print(&text(&profile))?;
    }
    Ok(())
}

fn described(merged: &ProfilePack) -> Value {
    let definition = &merged.pack.definition;
    json!({
        "name": definition.name,
        "version": definition.version,
        "displayName": definition.display_name,
        "layer": definition.layer,
        "ansibleRoles": definition.ansible_roles,
        "values": merged.values,
        "origins": own(merged).iter().map(origin).collect::<Vec<_>>(),
    })
}

fn origin(origin: &Origin) -> Value {
    json!({
        "path": origin.path,
        "value": origin.value,
        "by": origin.by,
        "file": origin.file,
        "line": origin.place.line,
        "column": origin.place.column,
    })
}

fn text(profile: &Profile) -> String {
    let mut text = String::new();
    for merged in profile.packs() {
        let definition = &merged.pack.definition;
        let name = definition.display_name.as_deref().unwrap_or(&definition.name);
        text += &format!("# {} ({}, {name})\n", merged.pack.id(), definition.layer);
        text += &lines(&own(merged));
        text += "\n";
    }
    text + "# All packs\n" + lines(&profile.origins()).trim_end()
}

/// What is a pack's alone.
fn own(merged: &ProfilePack) -> Vec<Origin> {
    merged
        .origins()
        .into_iter()
        .filter(|origin| origin.path == "pack" || origin.path.starts_with("pack."))
        .collect()
}

/// A line for each value, with where it came from.
fn lines(origins: &[Origin]) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let shown: Vec<(String, String)> = origins
        .iter()
        .map(|origin| {
            let file = origin.file.as_ref().map(|file| {
                format!(", {}:{}", file.strip_prefix(&here).unwrap_or(file).display(), origin.place.line)
            });
            (
                format!("{}: {}", origin.path, origin.value),
                format!("{}{}", origin.by, file.unwrap_or_default()),
            )
        })
        .collect();
    // So that most line up; a long value pushes only its own line.
    let width =
        shown.iter().map(|(value, _)| value.chars().count()).filter(|width| *width <= 60).max().unwrap_or(0);
    shown.into_iter().map(|(value, by)| format!("{value:width$}  # {by}\n")).collect()
}
