//! `gatewright pack push | pull | list`: packs in OCI registries.
//!
//! A pack is an artefact as `oras push REGISTRY/BASE/NAME:VERSION NAME-VERSION.tar.gz` makes it, which is how the public
//! documents say to publish one, with version 1.0 of that program. Beside the tag of its version, `1.33.9` or, with a
//! group, `lts__1.33.9`, stand its parents, `1.33.x` and `1.x`: they mean the newest version below them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use ::pack::{Pack, archive};
use anyhow::{Context, Result};
use clap::{Args, ValueHint};
use registry::{Artifact, Config, Content, Layer, Limits, Manifest, Options, PlainHttp, Reference, Registry};
use serde::Serialize;
use serde_json::json;

use crate::containers::failure;
use crate::error::Failure;
use crate::print;
use crate::progress::{Printer, State};
use crate::signals;

/// What version 1.0 of `oras` writes: readers of packs look for it.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.unknown.config.v1+json";
/// One archive, no longer than what may be unpacked of it.
const LIMITS: Limits = Limits { size: 1 << 30, files: 1 };

/// How registries are reached.
#[derive(Args, Debug)]
#[command(next_help_heading = "Registry")]
pub(crate) struct RegistryArgs {
    /// Speak plain HTTP, not only to loopback addresses
    #[arg(long)]
    plain_http: bool,
    /// Certificates (PEM) to trust besides the system's
    #[arg(long = "registry-ca", env = "GATEWRIGHT_REGISTRY_CA", hide_env_values = true, value_name = "PEM", value_hint = ValueHint::FilePath)]
    ca: Option<PathBuf>,
}

impl RegistryArgs {
    /// Registries as the user wants them reached, and none in another's stead.
    fn open(&self) -> Result<Registry> {
        let options = Options {
            plain_http: if self.plain_http { PlainHttp::Always } else { PlainHttp::Auto },
            ca: self.ca.clone(),
            cancelled: Some(|| signals::received().is_some()),
            ..Options::default()
        };
        Registry::new(options).map_err(failure)
    }
}

#[derive(Args, Debug)]
pub(crate) struct PushArgs {
    /// The pack: its folder, or an archive of it
    #[arg(value_hint = ValueHint::AnyPath)]
    pack: PathBuf,
    /// Where to: HOST[:PORT]/FOLDER; the pack's name follows
    #[arg(value_name = "REGISTRY/BASE")]
    base: String,
    /// Replace this version, though clusters that use it then find another digest than they had
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Args, Debug)]
pub(crate) struct PullArgs {
    /// The pack: HOST[:PORT]/FOLDER/NAME:TAG
    #[arg(value_name = "REGISTRY/BASE/NAME:TAG")]
    pack: String,
    /// Folder to put the pack's folder NAME-VERSION into
    #[arg(short = 'd', long, default_value = ".", value_hint = ValueHint::DirPath)]
    dir: PathBuf,
    /// Keep the archive as it is, NAME-VERSION.tgz
    #[arg(long)]
    archive: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// A pack's versions there; without it, the packs in `packs`
    #[arg(value_name = "REGISTRY/BASE/NAME")]
    pack: Option<String>,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn push(arguments: &PushArgs, json: bool, quiet: bool, printer: &Printer) -> Result<()> {
    let scratch = tempfile::tempdir().context("Cannot make a temporary folder")?;
    let (pack, archive) = archived(&arguments.pack, scratch.path())?;
    let base: Reference = arguments.base.parse().map_err(failure)?;
    if base.tag().is_some() || base.digest().is_some() {
        return Err(Failure::user(
            format!("`{base}` has a tag"),
            "leave it out: the pack's name and version follow by themselves",
        ));
    }
    let tag = Tag::of(&pack);
    let repository: Reference = format!("{base}/{}", pack.definition.name).parse().map_err(failure)?;
    let at = repository.with_tag(&tag.to_string()).map_err(failure)?;
    let registry = arguments.registry.open()?;

    let description = format!("Pushing {}", pack.id());
    let step = printer.step("push", &description);
    let artifact = Artifact {
        artifact_type: None,
        config: Config { media_type: CONFIG.into(), content: b"{}".into() },
        layers: vec![Layer {
            media_type: LAYER.into(),
            title: format!("{}.tar.gz", pack.id()),
            content: Content::Path(archive),
        }],
        annotations: BTreeMap::new(),
    };
    let layers = |manifest: &Manifest| manifest.layers.iter().map(|l| l.digest.clone()).collect::<Vec<_>>();
    let ours = layers(&artifact.manifest().map_err(failure)?);
    let there = match registry.manifest(&at) {
        Ok((manifest, digest)) => Some((layers(&manifest), digest)),
        Err(registry::Error::NotFound { .. }) => None,
        Err(error) => return Err(failure(error)),
    };
    let digest = match there {
        Some((theirs, digest)) if theirs == ours => digest,
        Some(_) if !arguments.force => {
            return Err(Failure::user(
                format!("{at} is there already, with other content"),
                "raise the pack's version: who pinned this one finds another digest otherwise; `--force` replaces it all the same",
            ));
        }
        _ => registry.push_artifact(&at, &artifact).map_err(failure)?,
    };
    let tags = registry.tags(&repository).map_err(failure)?;
    let mut parents = Vec::new();
    for (parent, newest) in parents_of(&tag, &tags) {
        let newest = repository.with_tag(&newest).map_err(failure)?;
        registry.tag(&newest, &parent).map_err(failure)?;
        parents.push(parent);
    }
    step.finish(State::Done, digest.as_str());
    if json {
        let result = json!({ "reference": at.to_string(), "digest": digest, "parents": parents });
        print(&serde_json::to_string_pretty(&result)?)?;
    } else if !quiet {
        print(&format!("Pushed {at}@{digest}"))?;
    }
    Ok(())
}

pub(crate) fn pull(arguments: &PullArgs, json: bool, quiet: bool, printer: &Printer) -> Result<()> {
    let at: Reference = arguments.pack.parse().map_err(failure)?;
    let registry = arguments.registry.open()?;
    let description = format!("Pulling {at}");
    let step = printer.step("pull", &description);
    fs::create_dir_all(&arguments.dir).with_context(|| format!("Cannot make {}", arguments.dir.display()))?;
    let scratch = tempfile::Builder::new().prefix(".pack-").tempdir_in(&arguments.dir)?;
    let pulled = registry.pull_artifact(&at, scratch.path(), LIMITS).map_err(failure)?;
    let [file] = pulled.files.as_slice() else {
        return Err(Failure::user(format!("{at} is no pack"), "a pack is one archive"));
    };
    let (pack, archive) = archived(&file.path, scratch.path())?;
    let (name, from) =
        if arguments.archive { (format!("{}.tgz", pack.id()), &archive) } else { (pack.id(), &pack.dir) };
    let target = arguments.dir.join(&name);
    if fs::symlink_metadata(&target).is_ok() {
        return Err(Failure::user(
            format!("{} is there already", target.display()),
            "remove it, or name another folder with `--dir`",
        ));
    }
    fs::rename(from, &target).with_context(|| format!("Cannot write {}", target.display()))?;
    step.finish(State::Done, pulled.digest.as_str());
    if json {
        print(&serde_json::to_string_pretty(
            &json!({ "pack": pack.id(), "path": target, "digest": pulled.digest }),
        )?)?;
    } else if !quiet {
        print(&format!("Pulled {}", target.display()))?;
    }
    Ok(())
}

pub(crate) fn list(arguments: &ListArgs, json: bool, printer: &Printer) -> Result<()> {
    let Some(name) = &arguments.pack else { return list_folder(Path::new("packs"), json, printer) };
    let repository: Reference = name.parse().map_err(failure)?;
    let registry = arguments.registry.open()?;
    let mut tags: Vec<Tag> =
        registry.tags(&repository).map_err(failure)?.iter().map(|tag| Tag::parse(tag)).collect();
    tags.sort();
    if json {
        let rows: Vec<_> =
            tags.iter().map(|tag| json!({ "tag": tag.to_string(), "parent": tag.is_parent() })).collect();
        return print(&serde_json::to_string_pretty(&rows)?);
    }
    for tag in &tags {
        print(&if tag.is_parent() { format!("{tag}  (parent)") } else { tag.to_string() })?;
    }
    Ok(())
}

fn list_folder(dir: &Path, json: bool, printer: &Printer) -> Result<()> {
    #[derive(Serialize)]
    struct Row {
        name: String,
        version: String,
        layer: String,
        path: PathBuf,
    }
    let entries = fs::read_dir(dir).map_err(|e| {
        Failure::user(
            format!("Cannot read {}: {e}", dir.display()),
            "run it beside a folder `packs`, or name a pack in a registry",
        )
    })?;
    let mut folders = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    folders.sort();
    let mut rows = Vec::new();
    for path in folders.into_iter().filter(|path| path.join("pack.json").is_file()) {
        match Pack::read(&path) {
            Ok(Pack { definition, .. }) => rows.push(Row {
                layer: definition.layer.to_string(),
                name: definition.name,
                version: definition.version,
                path,
            }),
            Err(error) => printer.note(&error.to_string()),
        }
    }
    if json {
        return print(&serde_json::to_string_pretty(&rows)?);
    }
    let width = rows.iter().map(|row| row.name.len() + row.version.len() + 1).max().unwrap_or_default();
    for row in rows {
        print(&format!("{:width$}  {}", format!("{}-{}", row.name, row.version), row.layer))?;
    }
    Ok(())
}

/// The pack in `path`, a folder or an archive, and its archive; `scratch` takes what has to be made.
fn archived(path: &Path, scratch: &Path) -> Result<(Pack, PathBuf)> {
    let cannot = |path: &Path| format!("Cannot read {}", path.display());
    if path.is_dir() {
        let pack = Pack::read(path).map_err(crate::pack::failure)?;
        let file = scratch.join("pack.tgz");
        let out = BufWriter::new(File::create(&file).with_context(|| cannot(&file))?);
        archive::write(path, out).map_err(crate::pack::failure)?;
        return Ok((pack, file));
    }
    let file = File::open(path).map_err(|e| {
        Failure::user(format!("{}: {e}", cannot(path)), "give a pack's folder, or an archive of one")
    })?;
    let into = scratch.join("unpacked");
    fs::create_dir(&into)?;
    let folder = archive::unpack(file, &into, archive::Limits::default())
        .map_err(|error| crate::pack::failure(::pack::Error { file: Some(path.into()), ..error }))?;
    Ok((Pack::read(&folder).map_err(crate::pack::failure)?, path.into()))
}

/// A tag of a pack's repository: `[GROUP__]VERSION`. Sorted by group, then as versions are, parents after theirs.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Tag {
    group: String,
    /// The numbers of `1.33.9`; those of a parent end with `u64::MAX`. None of what is no such version.
    numbers: Vec<u64>,
    version: String,
}

impl Tag {
    fn of(pack: &Pack) -> Tag {
        let group = pack.definition.group.as_deref().unwrap_or_default().to_ascii_lowercase();
        Tag::new(group, &pack.definition.version)
    }

    fn parse(tag: &str) -> Tag {
        let (group, version) = tag.split_once("__").unwrap_or(("", tag));
        Tag::new(group.into(), version)
    }

    fn new(group: String, version: &str) -> Tag {
        let parent = version.strip_suffix(".x");
        let mut numbers: Vec<u64> = parent
            .unwrap_or(version)
            .split('.')
            .map(|part| part.parse().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit())))
            .collect::<Option<_>>()
            .unwrap_or_default();
        if parent.is_some() && !numbers.is_empty() {
            numbers.push(u64::MAX);
        }
        Tag { group, numbers, version: version.into() }
    }

    fn is_parent(&self) -> bool {
        self.numbers.last() == Some(&u64::MAX)
    }
}

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.group.is_empty() {
            write!(f, "{}__", self.group)?;
        }
        f.write_str(&self.version)
    }
}

/// The parents of a version, each with the newest of the `tags` below it. Only versions of numbers have parents: which of
/// two others is newer is anyone's guess.
fn parents_of(tag: &Tag, tags: &[String]) -> Vec<(String, String)> {
    let versions: Vec<Tag> = tags.iter().map(|tag| Tag::parse(tag)).filter(|tag| !tag.is_parent()).collect();
    (1..tag.numbers.len())
        .rev()
        .filter_map(|length| {
            let above = &tag.numbers[..length];
            let newest = versions
                .iter()
                .filter(|other| other.group == tag.group && other.numbers.starts_with(above))
                .max()?;
            let numbers: Vec<String> = above.iter().map(u64::to_string).collect();
            let parent = Tag::new(tag.group.clone(), &format!("{}.x", numbers.join(".")));
            Some((parent.to_string(), newest.to_string()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_sorted_as_versions_are() {
        let mut tags: Vec<Tag> = [
            "1.9.0",
            "lts__1.2.0",
            "1.x",
            "latest",
            "1.33.x",
            "1.33.10",
            "1.33.9",
            "2.0.0",
            "1.33.9-rc.1",
            "1.+2",
        ]
        .map(Tag::parse)
        .to_vec();
        tags.sort();
        let sorted: Vec<String> = tags.iter().map(ToString::to_string).collect();
        assert_eq!(
            sorted,
            [
                "1.+2",
                "1.33.9-rc.1",
                "latest",
                "1.9.0",
                "1.33.9",
                "1.33.10",
                "1.33.x",
                "1.x",
                "2.0.0",
                "lts__1.2.0"
            ]
        );
        let parents: Vec<bool> =
            ["1.x", "1.33.x", "1.33.9", "x", ".x", "a.x"].map(|tag| Tag::parse(tag).is_parent()).to_vec();
        assert_eq!(parents, [true, true, false, false, false, false]);
    }

    #[test]
    fn parents_mean_the_newest() {
        let tags = ["1.33.9", "1.33.10", "1.34.0", "1.33.x", "1.x", "lts__1.33.11", "2.0.0", "1.33.11-rc.1"];
        let tags = tags.map(String::from);
        let parents = |tag: &str| parents_of(&Tag::parse(tag), &tags);
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect::<Vec<_>>()
        };
        assert_eq!(parents("1.33.9"), pairs(&[("1.33.x", "1.33.10"), ("1.x", "1.34.0")]));
        assert_eq!(
            parents("lts__1.33.11"),
            pairs(&[("lts__1.33.x", "lts__1.33.11"), ("lts__1.x", "lts__1.33.11")])
        );
        assert_eq!(parents("2.0.0"), pairs(&[("2.0.x", "2.0.0"), ("2.x", "2.0.0")]));
        assert_eq!(parents("1.33.11-rc.1"), []);
    }
}
