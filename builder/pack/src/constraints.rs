//! What packs need of each other and of the machine. Every conflict is told, in one sentence that names both sides.

use crate::definition::{Dependency, DependencyType, Resource, ResourceType};
use crate::error::Error;
use crate::merge::Data;
use crate::pack::Pack;
use crate::profile::{ProfilePack, Resources};
use crate::version::Range;

/// All that packs, in any order, say against each other.
pub(crate) fn conflicts(packs: &[&Pack]) -> Vec<Error> {
    let mut errors = Vec::new();
    for (n, pack) in packs.iter().enumerate() {
        let name = &pack.definition.name;
        if let Some(other) = packs[..n].iter().find(|other| other.definition.name == *name) {
            let message = format!("pack `{name}` is there twice, as `{}` and `{}`", other.id(), pack.id());
            errors.push(Error::new(message, "name each pack once in `packs`"));
        }
        for dependency in &pack.definition.constraints.dependencies {
            let other = packs.iter().find(|other| other.definition.name == dependency.pack_name);
            if let Some((message, hint)) = conflict(pack, dependency, other.copied()) {
                errors.push(Error::new(message, hint).at(&pack.dir.join("pack.json"), dependency.place));
            }
        }
    }
    errors
}

fn conflict(pack: &Pack, dependency: &Dependency, other: Option<&Pack>) -> Option<(String, String)> {
    let Dependency { pack_name, layer, kind, .. } = dependency;
    let range = Range { min: dependency.min_version.as_deref(), max: dependency.max_version.as_deref() };
    let (id, required) = (pack.id(), *kind == DependencyType::Required);
    let Some(other) = other else {
        return required.then(|| {
            let message = format!("pack `{id}` needs pack `{pack_name}`{range}, which is not there");
            (message, "add it to `packs`".to_string())
        });
    };
    let there = other.id();
    if other.definition.layer != *layer {
        return required.then(|| {
            let has = other.definition.layer;
            let message =
                format!("pack `{id}` needs pack `{pack_name}` of the layer {layer}; `{there}` is of {has}");
            (message, "choose a pack of that layer".to_string())
        });
    }
    match (range.contains(&other.definition.version), kind) {
        (Err(text), _) => Some((
            format!("pack `{id}` cannot be checked against pack `{there}`: `{text}` is no version"),
            "versions are one to four numbers, as in 1.33.9".to_string(),
        )),
        (Ok(true), DependencyType::NotSupported) => Some((
            format!("pack `{id}` does not go with pack `{pack_name}`{range}; `{there}` is there"),
            "leave one of them out, or choose another version".to_string(),
        )),
        (Ok(false), DependencyType::Required | DependencyType::Optional | DependencyType::Upgrade) => Some((
            format!("pack `{id}` needs pack `{pack_name}`{range}; `{there}` is there"),
            "choose another version of one of them".to_string(),
        )),
        _ => None,
    }
}

/// What all packs together need more than the machine has.
pub(crate) fn shortages(packs: &[ProfilePack], has: &Resources) -> Vec<Error> {
    let mut errors = Vec::new();
    let kinds = [
        (ResourceType::Cpu, has.cpu_millicores, "millicores of CPU", "give the machine more processors"),
        (ResourceType::Memory, has.memory_mib, "MiB of memory", "give the machine more memory"),
        (ResourceType::DiskSize, has.disk_gb, "GB of disk", "give the machine a larger disk"),
    ];
    for (kind, has, unit, hint) in kinds {
        let mut needs = Vec::new();
        for pack in packs {
            for resource in pack.pack.definition.constraints.resources.iter().filter(|r| r.kind == kind) {
                match need(resource, pack) {
                    Ok(need) if need > 0.0 => needs.push((need, pack.pack.id())),
                    Ok(_) => {}
                    Err(error) => errors.push(error),
                }
            }
        }
        let total = whole(needs.iter().map(|(need, _)| need).sum());
        if total > has as f64 {
            let packs: Vec<_> = needs.iter().map(|(need, id)| format!("`{id}` {}", whole(*need))).collect();
            let message =
                format!("the packs need {total} {unit}, the machine has {has}: {}", packs.join(", "));
            errors.push(Error::new(message, hint));
        }
    }
    errors
}

/// Rounded up, as machines have whole units; but three times 0.1 is not more than 0.3.
fn whole(need: f64) -> f64 {
    ((need * 1e6).round() / 1e6).ceil()
}

/// In the unit of its kind. Whatever the schedule type: an image does not know yet what machine it will be.
fn need(resource: &Resource, pack: &ProfilePack) -> Result<f64, Error> {
    if resource.components.is_empty() {
        return Ok(resource.min_limit.unwrap_or(0.0).max(0.0));
    }
    let quantity = |path: &Option<String>, absent: f64| {
        let Some(value) = path.as_ref().and_then(|path| pack.merged.find(path)) else { return Ok(absent) };
        let text = match &value.data {
            Data::Scalar(scalar) => scalar.as_str().map_or_else(|| scalar.to_string(), str::to_string),
            _ => String::new(),
        };
        match parse_quantity(&text) {
            Some(number) => Ok(number),
            None if text == "null" || text.contains("{{") => Ok(absent),
            None => {
                let path = path.as_deref().unwrap_or_default();
                let message = format!("`{path}` is {}, which is no quantity", value.to_json());
                Err(value.error(message, "write it as Kubernetes does: 500m, 2, 128Mi"))
            }
        }
    };
    let mut total = 0.0;
    for component in &resource.components {
        total += quantity(&component.resource_request_param_ref, 0.0)?
            * quantity(&component.replica_count_param_ref, 1.0)?;
    }
    Ok(match resource.kind {
        ResourceType::Cpu => total * 1000.0,
        ResourceType::Memory => total / f64::from(1 << 20),
        ResourceType::DiskSize => total / 1e9,
    })
}

/// A quantity of Kubernetes, in cores or bytes or whatever it is of.
fn parse_quantity(text: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 12] = [
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("Ki", 1024.0),
        ("Mi", 1048576.0),
        ("Gi", 1073741824.0),
        ("Ti", 1099511627776.0),
        ("Pi", 1125899906842624.0),
        ("", 1.0),
    ];
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (_, factor) = SUFFIXES.iter().find(|(known, _)| *known == suffix)?;
    let number: f64 = number.parse().ok()?;
    (number >= 0.0).then_some(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        let cases = [
            ("100m", 0.1),
            ("2", 2.0),
            ("0.5", 0.5),
            ("128Mi", 134217728.0),
            ("1.5G", 1.5e9),
            ("3k", 3000.0),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_quantity(text), Some(expected), "{text}");
        }
        for text in ["", "m", "-1", "1 Gi", "1Xi", "inf", "NaN", "1e"] {
            assert_eq!(parse_quantity(text), None, "{text}");
        }
    }
}
