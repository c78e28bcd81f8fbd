//! The pipeline: packs and image definition -> package tree -> role tree -> disk -> outputs.
//!
//! Every layer is keyed by the digest of what it is made from, so that what has not changed is not made again:
//!
//! ```text
//! index    archive, mirror, keyring                         (fetched once; again with --refresh)
//! tools    index, names of tools, epoch
//! packages index, tools, packages and base files of packs, epoch
//! roles    packages, signature
//! output   roles, definition
//! ```
//!
//! The epoch (`SOURCE_DATE_EPOCH`) is the date of the newest index unless the user sets it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::cache::Cache;
use crate::digest::{self, Digest};
use crate::disk;
use crate::error::Failure;
use crate::image::Image;
use crate::output::{self, Output};
use crate::pack::Pack;
use crate::progress::{Printer, Running, State};
use crate::sandbox::{self, Sandbox};
use crate::signals;
use crate::steps::{Outcome, Play, RolesSpec, Step, Tools, TreeSpec};

/// Raised when the same input gives another image by a change of ours.
const CONTENT_VERSION: u32 = 2;

/// What the tools tree holds beside Debian's essential packages. From the OS pack's archive.
const TOOLS: &[&str] = &[
    "mmdebstrap",      // makes the package tree
    "ansible-core",    // runs the roles
    "fdisk",           // sfdisk: the partition table
    "dosfstools",      // mkfs.vfat
    "mtools",          // fills it
    "e2fsprogs",       // mke2fs, which fills it too
    "libarchive13t64", // lets mke2fs read an archive: sorted, where folders are in any order
    "ca-certificates", // mirrors by https
];

/// What the user asks for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) image: PathBuf,
    pub(crate) cache_dir: PathBuf,
    pub(crate) out_dir: PathBuf,
    /// mmdebstrap's MIRROR arguments; its default where empty.
    pub(crate) mirrors: Vec<String>,
    /// Fetch the package index again.
    pub(crate) refresh: bool,
    /// Signs what is made.
    pub(crate) signer: Option<ova::Signer>,
}

/// What a build made; printed by `--json`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    version: u32,
    pub(crate) image: String,
    /// The digest of everything that decides the image's content.
    pub(crate) signature: Digest,
    pub(crate) outputs: Vec<Output>,
    layers: Option<Layers>,
    /// `SOURCE_DATE_EPOCH` of the image.
    epoch: u64,
    pub(crate) seconds: f64,
    /// Whether everything was there already.
    pub(crate) unchanged: bool,
}

#[derive(Debug, Serialize)]
struct Layers {
    tools: Layer,
    packages: Layer,
    roles: Layer,
}

/// A finished tree in the cache.
#[derive(Clone, Debug, Serialize)]
struct Layer {
    key: Digest,
    path: PathBuf,
    sha256: Digest,
    /// It was there already.
    cached: bool,
}

/// Kept beside a layer; written last, so that a layer with it is whole.
#[derive(Debug, Deserialize, Serialize)]
struct LayerRecord {
    sha256: Digest,
    size: u64,
}

/// The package index in the cache.
#[derive(Debug)]
struct Index {
    path: PathBuf,
    record: IndexRecord,
}

#[derive(Debug, Deserialize, Serialize)]
struct IndexRecord {
    /// Over the signed release files, which hold the digests of all else.
    digest: Digest,
    /// The newest date of them, in seconds.
    date: u64,
}

/// Builds an image.
pub(crate) fn build(options: &Options, printer: &Printer) -> Result<Report> {
    let started = Instant::now();
    let image = Image::read(&options.image)?;
    let sandbox = Sandbox::detect()?;
    let cache = Cache::open(&options.cache_dir, printer)?;
    cache.sweep(&sandbox)?;
    printer.start(&image.definition.name);
    let work = Work::new(&cache, &sandbox)?;
    let builder = Builder { options, printer, image: &image, sandbox: &sandbox, cache: &cache, work: &work };
    let result = builder.run(started);
    // A build that failed tells why it failed, rather than that cleaning up did too.
    let removed = work.remove();
    let report = result?;
    removed?;
    Ok(report)
}

/// The folder of one build; trees are in it while they change.
struct Work<'a> {
    cache: &'a Cache,
    sandbox: &'a Sandbox,
    dir: PathBuf,
}

impl Work<'_> {
    fn new<'a>(cache: &'a Cache, sandbox: &'a Sandbox) -> Result<Work<'a>> {
        // One build at a time has the cache: the name need not be unique.
        let dir = cache.path("tmp/build");
        fs::create_dir(&dir).with_context(|| format!("Cannot make {}", dir.display()))?;
        Ok(Work { cache, sandbox, dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn remove(&self) -> Result<()> {
        // Nearly always for us to remove; trees are other users'.
        let is_empty = fs::read_dir(&self.dir)?.next().is_none();
        if is_empty {
            return Ok(fs::remove_dir(&self.dir)?);
        }
        sandbox::remove(self.sandbox, vec![self.dir.clone()], &self.cache.log("cache", "remove")?)
    }
}

struct Builder<'a> {
    options: &'a Options,
    printer: &'a Printer,
    image: &'a Image,
    sandbox: &'a Sandbox,
    cache: &'a Cache,
    work: &'a Work<'a>,
}

impl Builder<'_> {
    fn run(&self, started: Instant) -> Result<Report> {
        let index = self.index()?;
        let epoch = epoch(&index)?;
        let signature = self.signature(&index)?;
        let mut report = Report {
            version: 1,
            image: self.image.definition.name.clone(),
            signature: signature.clone(),
            outputs: Vec::new(),
            layers: None,
            epoch,
            seconds: 0.0,
            unchanged: false,
        };

        let tools_key =
            digest::of_json(&json!(["tools", CONTENT_VERSION, index.record.digest, TOOLS, epoch]))?;
        let spec = self.tree_spec(&index, epoch)?;
        let packages_key = digest::of_json(&json!([
            "packages",
            CONTENT_VERSION,
            tools_key,
            spec.variant,
            spec.packages,
            spec.exclude,
            spec.include,
            self.image
                .packs
                .iter()
                .filter(|p| p.values.pack.base_files.is_some())
                .map(|p| &p.digest)
                .collect::<Vec<_>>(),
        ]))?;
        let roles_key = digest::of_json(&json!(["roles", packages_key, signature]))?;
        // The same key and certificates sign the same thing the same way: that tells them apart from others.
        let signed_by = match &self.options.signer {
            Some(signer) => Some(digest::hex(&Sha256::digest(signer.sign("x.mf", b"")?))),
            None => None,
        };
        let output_key = digest::of_json(&json!([
            "output",
            roles_key,
            env!("CARGO_PKG_VERSION"),
            self.image.definition.outputs,
            signed_by
        ]))?;

        let record = format!("outputs-v1/{output_key}.json");
        let layers = || -> Option<Layers> {
            Some(Layers {
                tools: self.cached(&tools_key)?,
                packages: self.cached(&packages_key)?,
                roles: self.cached(&roles_key)?,
            })
        };
        if let Some(outputs) = self.cache.load::<Vec<Output>>(&record)
            && outputs.iter().all(|output| output.is_at(&self.options.out_dir))
            && let Some(layers) = layers()
        {
            report.outputs = outputs.into_iter().map(|output| output.in_dir(&self.options.out_dir)).collect();
            report.layers = Some(layers);
            report.unchanged = true;
        } else {
            for pack in &self.image.packs {
                pack.copy(&self.pack_copy(pack))?;
            }
            let tools = self.tools(&tools_key, &index, epoch)?;
            let packages = self.packages(&packages_key, &tools, spec)?;
            let roles = self.roles(&roles_key, &tools, &packages, &signature, epoch)?;
            let disk = self.disk(&tools, &roles, epoch)?;
            let step = self.printer.step("outputs", "Outputs");
            let source = output::Source {
                image: self.image,
                signature: &signature,
                content: &roles.sha256,
                epoch,
                disk: &disk,
                signer: self.options.signer.as_ref(),
            };
            report.outputs = output::write(&source, &self.options.out_dir, &step)?;
            step.finish(
                State::Done,
                &report.outputs.iter().map(Output::summary).collect::<Vec<_>>().join(", "),
            );
            self.cache.store(&record, &report.outputs)?;
            report.layers = Some(Layers { tools, packages, roles });
        }
        report.seconds = (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        Ok(report)
    }

    /// The digest of everything that decides the image's content; never of names of files or of times.
    fn signature(&self, index: &Index) -> Result<Digest> {
        digest::of_json(&json!({
            "contentVersion": CONTENT_VERSION,
            "packs": self.image.packs.iter().map(|pack| &pack.digest).collect::<Vec<_>>(),
            "artifacts": self.image.artifact_digests,
            "index": index.record.digest,
            "disk": self.image.definition.disk,
            "hardware": self.image.definition.hardware,
            "ova": self.image.definition.ova,
        }))
    }

    fn keyring(&self) -> Result<PathBuf> {
        let system = self.image.system();
        let archive = system.values.pack.archive.as_ref().expect("it is the pack that has one");
        let keyring = system.inside(&archive.keyring)?;
        if !keyring.is_file() {
            return Err(Failure::user(
                format!("Pack `{}` names the keyring `{}`, which is not there", system.id(), archive.keyring),
                "a pack carries the keyring of its archive",
            ));
        }
        Ok(keyring)
    }

    fn index(&self) -> Result<Index> {
        let archive = self.image.system().values.pack.archive.as_ref().expect("it is the pack that has one");
        let keyring = self.keyring()?;
        let key =
            digest::of_json(&json!(["index", archive, digest::of_file(&keyring)?.0, self.options.mirrors]))?;
        let name = format!("indexes-v1/{key}");
        let path = self.cache.path(&name);
        if !self.options.refresh
            && let Some(record) = self.cache.load(&format!("{name}/record.json"))
        {
            return Ok(Index { path, record });
        }
        let step = self.printer.step("index", "Package index");
        let out = self.work.path("index");
        fs::create_dir(&out)?;
        self.step(
            &Step::Index {
                archive: archive.clone(),
                keyring,
                mirrors: self.options.mirrors.clone(),
                out: out.clone(),
            },
            &step,
        )?;
        let record = index_record(&out.join("lists"))?;
        fs::write(out.join("record.json"), serde_json::to_vec(&record)?)?;
        // Another folder of the same name is an older index.
        if path.exists() {
            fs::rename(&path, self.work.path("old-index"))?;
        }
        fs::rename(&out, &path)?;
        step.finish(State::Done, &format!("of {}", jiff::Timestamp::from_second(record.date as i64)?));
        Ok(Index { path, record })
    }

    fn tree_spec(&self, index: &Index, epoch: u64) -> Result<TreeSpec> {
        let packs = &self.image.packs;
        let all = |list: fn(&crate::pack::PackValues) -> &Vec<String>| -> Vec<String> {
            packs.iter().flat_map(|pack| list(&pack.values.pack).clone()).collect()
        };
        let mut base_files = Vec::new();
        for pack in packs {
            if let Some(name) = &pack.values.pack.base_files {
                let folder = pack.inside(name)?;
                if !folder.is_dir() {
                    return Err(Failure::user(
                        format!("`pack.baseFiles` of `{}` is no folder: {}", pack.id(), folder.display()),
                        "name a folder of the pack, or leave the key out",
                    ));
                }
                base_files.push(self.pack_copy(pack).join(name));
            }
        }
        Ok(TreeSpec {
            archive: self.image.system().values.pack.archive.clone().expect("it is the pack that has one"),
            keyring: self.keyring()?,
            index: index.path.clone(),
            packages_dir: self.cache.path("packages-v1"),
            variant: "minbase".into(),
            packages: all(|values| &values.packages),
            exclude: all(|values| &values.exclude),
            include: all(|values| &values.include),
            base_files,
            epoch,
        })
    }

    fn tools(&self, key: &str, index: &Index, epoch: u64) -> Result<Layer> {
        let step = self.printer.step("tools", "Tools tree");
        if let Some(layer) = self.cached(key) {
            step.finish(State::Cached, "cached");
            return Ok(layer);
        }
        let spec = TreeSpec {
            packages: TOOLS.iter().map(|name| (*name).into()).collect(),
            exclude: ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*"].map(String::from).into(),
            include: Vec::new(),
            base_files: Vec::new(),
            ..self.tree_spec(index, epoch)?
        };
        let out = self.work.path(key);
        let place = self.tools_place()?;
        let outcome = self.step(&Step::Tools { spec: Box::new(spec), place, out: out.clone() }, &step)?;
        let layer = self.keep(key, &out)?;
        step.finish(State::Done, &format!("{} packages", outcome.packages));
        Ok(layer)
    }

    fn packages(&self, key: &str, tools: &Layer, spec: TreeSpec) -> Result<Layer> {
        let step = self.printer.step("packages", "Package tree");
        if let Some(layer) = self.cached(key) {
            step.finish(State::Cached, "cached");
            return Ok(layer);
        }
        let (tree, out) = (self.work.path("tree"), self.work.path(key));
        let tools = self.tools_in_place(tools)?;
        let outcome =
            self.step(&Step::Packages { spec: Box::new(spec), tools, tree, out: out.clone() }, &step)?;
        let layer = self.keep(key, &out)?;
        step.finish(State::Done, &format!("{} packages", outcome.packages));
        Ok(layer)
    }

    fn roles(
        &self,
        key: &str,
        tools: &Layer,
        packages: &Layer,
        signature: &str,
        epoch: u64,
    ) -> Result<Layer> {
        let step = self.printer.step("roles", "Role tree");
        if let Some(layer) = self.cached(key) {
            step.finish(State::Cached, "cached");
            return Ok(layer);
        }
        let plays: Vec<Play> = self
            .image
            .packs
            .iter()
            .flat_map(|pack| {
                pack.definition.ansible_roles.iter().map(|role| Play {
                    pack: self.pack_copy(pack),
                    role: role.clone(),
                    vars: pack.values.ansible_roles.get(role).cloned().unwrap_or_default(),
                })
            })
            .collect();
        let count = plays.len();
        let spec = RolesSpec {
            plays,
            artifacts: self.image.artifacts.clone(),
            release: format!(
                "IMAGE={}\nVERSION={}\nSIGNATURE={signature}\n",
                self.image.definition.name,
                env!("CARGO_PKG_VERSION")
            ),
            epoch,
        };
        let (tree, out) = (self.work.path("tree"), self.work.path(key));
        // Where this build made the packages, their tree is still there.
        let packages = (!tree.exists()).then(|| packages.path.clone());
        let tools = self.tools_in_place(tools)?;
        self.step(&Step::Roles { spec: Box::new(spec), tools, packages, tree, out: out.clone() }, &step)?;
        let layer = self.keep(key, &out)?;
        step.finish(State::Done, &format!("{count} roles"));
        Ok(layer)
    }

    fn disk(&self, tools: &Layer, roles: &Layer, epoch: u64) -> Result<PathBuf> {
        let step = self.printer.step("disk", "Disk");
        let dir = self.work.path("disk");
        fs::create_dir(&dir)?;
        let out = dir.join("disk.raw");
        let boot_loader = self.image.system().values.pack.boot_loader.clone().ok_or_else(|| {
            Failure::user(
                format!("Pack `{}` has no `pack.bootLoader`, which a disk needs", self.image.system().id()),
                "name the signed shim and boot loader of its packages",
            )
        })?;
        let spec = disk::Spec {
            tree: roles.path.clone(),
            digest: roles.sha256.clone(),
            boot_loader,
            capacity: self.image.definition.disk.size.0,
            epoch,
            out: out.clone(),
        };
        self.step(&Step::Disk { spec: Box::new(spec), tools: self.tools_in_place(tools)? }, &step)?;
        step.finish(State::Done, "GPT, ESP, ext4");
        Ok(out)
    }

    /// Runs a step in the sandbox, with its log.
    fn step(&self, step: &Step, running: &Running<'_>) -> Result<Outcome> {
        let log = self.cache.log(&self.image.definition.name, step.name())?;
        self.sandbox.run(step, &log, |line| running.message(line))
    }

    /// A layer that is in the cache.
    fn cached(&self, key: &str) -> Option<Layer> {
        let path = self.cache.path(format!("trees-v1/{key}.tar"));
        let record: LayerRecord = self.cache.load(&format!("trees-v1/{key}.json"))?;
        (fs::metadata(&path).ok()?.len() == record.size).then(|| Layer {
            key: key.into(),
            path,
            sha256: record.sha256,
            cached: true,
        })
    }

    /// Puts the archive of a tree into the cache.
    fn keep(&self, key: &str, archive: &Path) -> Result<Layer> {
        let (sha256, size) = digest::of_file(archive)?;
        let path = self.cache.path(format!("trees-v1/{key}.tar"));
        fs::rename(archive, &path)?;
        self.cache.store(&format!("trees-v1/{key}.json"), &LayerRecord { sha256: sha256.clone(), size })?;
        Ok(Layer { key: key.into(), path, sha256, cached: false })
    }

    /// Where a build has what steps see of a pack.
    fn pack_copy(&self, pack: &Pack) -> PathBuf {
        self.work.path("packs").join(pack.id())
    }

    fn tools_in_place(&self, tools: &Layer) -> Result<Tools> {
        Ok(Tools { archive: tools.path.clone(), place: self.tools_place()? })
    }

    /// The folder where steps mount the tree of tools.
    fn tools_place(&self) -> Result<PathBuf> {
        let place = self.work.path("tools");
        fs::create_dir_all(&place)?;
        Ok(place)
    }
}

/// What is new in an index, and of when.
fn index_record(lists: &Path) -> Result<IndexRecord> {
    let mut releases = Vec::new();
    let mut date = 0;
    for entry in fs::read_dir(lists)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("InRelease")) {
            let text =
                fs::read_to_string(&path).with_context(|| format!("Cannot read {}", path.display()))?;
            date = date.max(release_date(&text).with_context(|| format!("{} has no date", path.display()))?);
            // By content alone: the file's name holds the mirror's.
            releases.push(digest::of_file(&path)?.0);
        }
    }
    anyhow::ensure!(!releases.is_empty(), "The archive gave no signed release file");
    releases.sort();
    Ok(IndexRecord { digest: digest::of_json(&releases)?, date })
}

/// The `Date` of a release file, which is RFC 2822 but for its zone (repository format, "Date, Valid-Until").
fn release_date(text: &str) -> Result<u64> {
    let value =
        text.lines().find_map(|line| line.strip_prefix("Date:")).context("There is no `Date:` line")?;
    let value = value.trim().replace("UTC", "+0000");
    let time = jiff::fmt::rfc2822::parse(&value).with_context(|| format!("`{value}` is not a date"))?;
    Ok(time.timestamp().as_second().try_into()?)
}

/// The time that everything in the image gets at most.
fn epoch(index: &Index) -> Result<u64> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Err(_) => Ok(index.record.date),
        Ok(text) => text.trim().parse().map_err(|_| {
            Failure::user(
                format!("SOURCE_DATE_EPOCH is `{text}`"),
                "give the seconds since 1970, or unset it to take the package index's date",
            )
        }),
    }
}

/// Whether a signal asks us to stop; for work outside of the sandbox.
pub(crate) fn check_interrupted() -> Result<()> {
    match signals::received() {
        Some(signal) => Err(Failure::Interrupted { signal }.into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_release_files() {
        let cases = [
            ("Date: Sat, 15 Nov 2025 10:05:40 UTC", Some(1_763_201_140)),
            ("Origin: x\nDate: Thu, 1 Jan 1970 00:00:09 +0000\n", Some(9)),
            ("Date: yesterday", None),
            ("Valid-Until: Sat, 15 Nov 2025 10:05:40 UTC", None),
        ];
        for (text, expected) in cases {
            assert_eq!(release_date(text).ok(), expected, "{text}");
        }
    }
}
