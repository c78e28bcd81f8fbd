//! The pipeline: packs, image definition and lock -> package tree -> role tree -> disk -> outputs in the store.
//!
//! Every layer is keyed by the digest of what it is made from, so that what has not changed is not made again:
//!
//! ```text
//! tools    packages of the tools tree, epoch
//! packages tools, packages of the image, base files of packs, epoch
//! roles    packages, signature
//! image    signature                                             (the store)
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::containers;
use crate::digest::{self, Digest};
use crate::disk;
use crate::error::Failure;
use crate::fetch::{self, Origin};
use crate::image::{Image, OutputKind};
use crate::lock::{ImageLock, Package};
use crate::locking::{self, Policy};
use crate::output::{self, Output};
use crate::pack::Pack;
use crate::progress::{Printer, State};
use crate::signals;
use crate::signature::{self, CONTENT_VERSION};
use crate::steps::{Play, RolesSpec, Step, Tools, TreeSpec};
use crate::store::commands::Stores;
use crate::store::{Record, Stored};
use crate::workshop::{Settings, Workshop};

/// What the tools tree holds beside Debian's essential packages. From the OS pack's archive.
pub(crate) const TOOLS: &[&str] = &[
    "mmdebstrap",      // makes the package tree
    "ansible-core",    // runs the roles
    "fdisk",           // sfdisk: the partition table
    "dosfstools",      // mkfs.vfat
    "mtools",          // fills it
    "e2fsprogs",       // mke2fs, which fills it too
    "libarchive13t64", // lets mke2fs read an archive: sorted, where folders are in any order
];

/// What the user asks for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) image: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) stores: Stores,
    pub(crate) out_dir: PathBuf,
    pub(crate) policy: Policy,
    /// Signs what is made.
    pub(crate) signer: Option<ova::Signer>,
    /// Give the image to the registry, too.
    pub(crate) push: bool,
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
    /// Whether it came out of the store.
    pub(crate) stored: bool,
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

/// What layers are called in the cache.
#[derive(Debug)]
struct Keys {
    tools: Digest,
    packages: Digest,
    roles: Digest,
}

/// Builds an image.
pub(crate) fn build(options: &Options, printer: &Printer) -> Result<Report> {
    let started = Instant::now();
    let image = Image::read(&options.image, &options.settings, options.policy)?;
    let settings = options.settings.with(&image);
    printer.start(&image.definition.name);
    let locked = locking::image(&image, options.policy, &settings, printer)?;
    if locked.is_new || !locked.changes.is_empty() {
        printer.note(&format!("{} was brought up to date", crate::lock::Lock::path(&image.dir).display()));
    }
    let lock = locked.lock;
    if let Some(base) = &lock.request.base {
        return Err(Failure::user(
            format!("An image cannot be built from a base image yet: {base}"),
            "use a pack with packages in place of `imageId`",
        ));
    }
    let inputs = signature::inputs(&image, &lock)?;
    let signature = signature::of(&inputs)?;
    let keys = Keys::new(&image, &lock, &signature)?;
    // The same key and certificates sign the same thing the same way: that tells them apart from others.
    let signed_by = match &options.signer {
        Some(signer) => Some(digest::hex(&Sha256::digest(signer.sign("x.mf", b"")?))),
        None => None,
    };
    let job =
        Job { options, printer, image: &image, lock: &lock, signature: &signature, keys: &keys, signed_by };

    let mut record = Record::new(&image.definition.name, &signature, inputs);
    let mut layers = None;
    let mut stored = true;
    let delivered = match job.deliver()? {
        Some(delivered) => delivered,
        None => {
            let hold = options.stores.local.hold(&signature, printer)?;
            // Somebody else may have built it while we waited.
            let mut delivered = job.deliver()?;
            if delivered.is_none()
                && !options.stores.local.has(&signature)
                && !settings.offline
                && let Some(remote) = &options.stores.remote
                && remote.pull_if_there(&options.stores.local, &signature, printer)?
            {
                delivered = job.deliver()?;
            }
            if delivered.is_none() {
                stored = false;
                if let Some(old) = options.stores.local.get(&signature) {
                    record = old;
                }
                let made = Workshop::open(&settings, printer, &image.definition.name)?
                    .run(|workshop| job.make(workshop, record))?;
                layers = Some(made);
                delivered = job.deliver()?;
            }
            drop(hold);
            delivered.context("An image that was just built is not in the store")?
        }
    };
    if options.push {
        let remote = crate::store::remote::required(options.stores.remote.as_ref())?;
        let record = options.stores.local.find(&signature)?;
        remote.push(&options.stores.local, &record, printer)?;
    }
    Ok(Report {
        version: 1,
        image: image.definition.name.clone(),
        outputs: delivered.outputs,
        layers: layers.or_else(|| keys.layers(&options.settings.cache_dir)),
        epoch: lock.epoch,
        seconds: (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
        unchanged: delivered.unchanged,
        stored,
        signature,
    })
}

/// One image on its way.
struct Job<'a> {
    options: &'a Options,
    printer: &'a Printer,
    image: &'a Image,
    lock: &'a ImageLock,
    signature: &'a str,
    keys: &'a Keys,
    signed_by: Option<Digest>,
}

struct Delivered {
    outputs: Vec<Output>,
    /// Nothing had to be written.
    unchanged: bool,
}

impl Job<'_> {
    /// Who signs an output: disks cannot be signed.
    fn signer_of(&self, kind: OutputKind) -> Option<&str> {
        self.signed_by.as_deref().filter(|_| kind == OutputKind::Ova)
    }

    /// Puts what the store has of the image into the user's folder. `None`: it lacks something, or what it has is broken
    /// and was set aside.
    fn deliver(&self) -> Result<Option<Delivered>> {
        let store = &self.options.stores.local;
        let Some(record) = store.get(self.signature) else {
            if store.has(self.signature) {
                let aside = store.set_aside(self.signature)?;
                self.printer
                    .note(&format!("The store's image was not whole; it is in {} now", aside.display()));
            }
            return Ok(None);
        };
        let wanted = &self.image.definition.outputs;
        let found: Option<Vec<&Stored>> =
            wanted.iter().map(|kind| record.output(*kind, self.signer_of(*kind))).collect();
        let Some(found) = found else { return Ok(None) };
        fs::create_dir_all(&self.options.out_dir)
            .with_context(|| format!("Cannot make {}", self.options.out_dir.display()))?;
        let dir = self.options.out_dir.canonicalize()?;
        let mut delivered = Delivered { outputs: Vec::new(), unchanged: true };
        for stored in found {
            let path = dir.join(output::file_name(&self.image.definition.name, self.signature, stored.kind));
            let output = Output { kind: stored.kind, path, size: stored.size, sha256: stored.sha256.clone() };
            if !output.is_there() {
                delivered.unchanged = false;
                if !store.copy_out(&record, stored, &output.path)? {
                    let aside = store.set_aside(self.signature)?;
                    self.printer.note(&format!(
                        "The store's image has changed on the disk; it is in {} now",
                        aside.display()
                    ));
                    return Ok(None);
                }
            }
            output::link(
                &dir,
                &format!("{}{}", self.image.definition.name, stored.kind.ending()),
                &output.path,
            )?;
            delivered.outputs.push(output);
        }
        Ok(Some(delivered))
    }

    /// Makes what the store lacks of the image.
    fn make(&self, workshop: &Workshop<'_>, mut record: Record) -> Result<Layers> {
        for pack in &self.image.packs {
            pack.copy(&pack_copy(workshop, pack))?;
        }
        let tools = self.tools(workshop)?;
        let packages = self.packages(workshop, &tools)?;
        let roles = self.roles(workshop, &tools, &packages)?;
        let disk = self.disk(workshop, &tools, &roles)?;
        let step = self.printer.step("outputs", "Outputs");
        let source = output::Source {
            image: self.image,
            signature: self.signature,
            content: &roles.sha256,
            epoch: self.lock.epoch,
            disk: &disk,
            signer: self.options.signer.as_ref(),
        };
        let store = &self.options.stores.local;
        let dir = store.dir(self.signature);
        fs::create_dir_all(&dir).with_context(|| format!("Cannot make {}", dir.display()))?;
        let lacking: Vec<_> = self
            .image
            .definition
            .outputs
            .iter()
            .copied()
            .filter(|kind| record.output(*kind, self.signer_of(*kind)).is_none())
            .collect();
        for kind in lacking {
            let signed_by = self.signer_of(kind).map(String::from);
            record.outputs.push(output::write(&source, kind, signed_by, &dir, &step)?);
        }
        record.layers = vec![tools.key.clone(), packages.key.clone(), roles.key.clone()];
        store.put(&record)?;
        step.finish(State::Done, &record.outputs.iter().map(Stored::summary).collect::<Vec<_>>().join(", "));
        Ok(Layers { tools, packages, roles })
    }

    fn tree_spec(&self, packages: &[Package], asked: &BTreeSet<String>, packages_dir: PathBuf) -> TreeSpec {
        let system = &self.lock.request.system;
        TreeSpec {
            architecture: system.architecture.clone(),
            suite: system.suite.clone(),
            packages_dir,
            packages: packages.iter().map(|package| package.name.clone()).collect(),
            automatic: automatic(packages, asked),
            exclude: Vec::new(),
            include: Vec::new(),
            base_files: Vec::new(),
            epoch: self.lock.epoch,
        }
    }

    /// The folder of a tree's packages, fetched.
    fn fetched(&self, workshop: &Workshop<'_>, packages: &[Package], name: &str) -> Result<PathBuf> {
        let dir = workshop.path(name);
        let origin = Origin { archive: self.image.archive(), keyring: &self.image.keyring()? };
        fetch::packages(workshop, origin, packages, &dir)?;
        Ok(dir)
    }

    fn tools(&self, workshop: &Workshop<'_>) -> Result<Layer> {
        if let Some(layer) = cached(&self.options.settings.cache_dir, &self.keys.tools) {
            self.printer.step("tools", "Tools tree").finish(State::Cached, "cached");
            return Ok(layer);
        }
        let dir = self.fetched(workshop, &self.lock.tools, "tools-packages")?;
        let step = self.printer.step("tools", "Tools tree");
        let spec = TreeSpec {
            exclude: ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*"].map(String::from).into(),
            ..self.tree_spec(&self.lock.tools, &self.lock.request.system.tools, dir)
        };
        let out = workshop.path(&self.keys.tools);
        let place = tools_place(workshop)?;
        let outcome = workshop.step(&Step::Tools { spec: Box::new(spec), place, out: out.clone() }, &step)?;
        let layer = keep(workshop, &self.keys.tools, &out)?;
        step.finish(State::Done, &format!("{} packages", outcome.packages));
        Ok(layer)
    }

    fn packages(&self, workshop: &Workshop<'_>, tools: &Layer) -> Result<Layer> {
        if let Some(layer) = cached(&self.options.settings.cache_dir, &self.keys.packages) {
            self.printer.step("packages", "Package tree").finish(State::Cached, "cached");
            return Ok(layer);
        }
        let dir = self.fetched(workshop, &self.lock.packages, "image-packages")?;
        let step = self.printer.step("packages", "Package tree");
        let packs = &self.image.packs;
        let all = |list: fn(&crate::pack::PackValues) -> &Vec<String>| -> Vec<String> {
            packs.iter().flat_map(|pack| list(&pack.values).clone()).collect()
        };
        let spec = TreeSpec {
            exclude: all(|values| &values.exclude),
            include: all(|values| &values.include),
            base_files: packs
                .iter()
                .filter_map(|pack| Some(pack_copy(workshop, pack).join(pack.values.base_files.as_ref()?)))
                .collect(),
            ..self.tree_spec(&self.lock.packages, &self.lock.request.system.packages, dir)
        };
        let (tree, out) = (workshop.path("tree"), workshop.path(&self.keys.packages));
        let tools = tools_in_place(workshop, tools)?;
        let outcome =
            workshop.step(&Step::Packages { spec: Box::new(spec), tools, tree, out: out.clone() }, &step)?;
        let layer = keep(workshop, &self.keys.packages, &out)?;
        step.finish(State::Done, &format!("{} packages", outcome.packages));
        Ok(layer)
    }

    fn roles(&self, workshop: &Workshop<'_>, tools: &Layer, packages: &Layer) -> Result<Layer> {
        if let Some(layer) = cached(&self.options.settings.cache_dir, &self.keys.roles) {
            self.printer.step("roles", "Role tree").finish(State::Cached, "cached");
            return Ok(layer);
        }
        let mut artifacts = self.image.artifacts.clone();
        for (name, sha256) in &self.lock.artifacts {
            fetch::artifact(workshop, name, &self.lock.request.artifacts[name], Some(sha256))?;
            artifacts.insert(name.clone(), fetch::artifact_path(workshop, sha256));
        }
        artifacts.extend(containers::archives(workshop, self.lock)?);
        let step = self.printer.step("roles", "Role tree");
        let plays: Vec<Play> = self
            .image
            .packs
            .iter()
            .flat_map(|pack| {
                pack.definition.ansible_roles.iter().map(|role| Play {
                    pack: pack_copy(workshop, pack),
                    role: role.clone(),
                    vars: self.image.values["ansibleRoles"][role].clone(),
                })
            })
            .collect();
        let count = plays.len();
        let spec = RolesSpec {
            plays,
            values: self.image.values.clone(),
            artifacts,
            release: format!(
                "IMAGE={}\nVERSION={}\nSIGNATURE={}\n",
                self.image.definition.name,
                env!("CARGO_PKG_VERSION"),
                self.signature
            ),
            epoch: self.lock.epoch,
        };
        let (tree, out) = (workshop.path("tree"), workshop.path(&self.keys.roles));
        // Where this build made the packages, their tree is still there.
        let packages = (!tree.exists()).then(|| packages.path.clone());
        let tools = tools_in_place(workshop, tools)?;
        workshop
            .step(&Step::Roles { spec: Box::new(spec), tools, packages, tree, out: out.clone() }, &step)?;
        let layer = keep(workshop, &self.keys.roles, &out)?;
        step.finish(State::Done, &format!("{count} roles"));
        Ok(layer)
    }

    fn disk(&self, workshop: &Workshop<'_>, tools: &Layer, roles: &Layer) -> Result<PathBuf> {
        let step = self.printer.step("disk", "Disk");
        let out = workshop.folder("disk")?.join("disk.raw");
        let system = self.image.system();
        let boot_loader = system.values.boot_loader.clone().ok_or_else(|| {
            Failure::user(
                format!("Pack `{}` has no `pack.bootLoader`, which a disk needs", system.id()),
                "name the signed shim and boot loader of its packages",
            )
        })?;
        let spec = disk::Spec {
            tree: roles.path.clone(),
            digest: roles.sha256.clone(),
            boot_loader,
            capacity: self.image.definition.disk.size.0,
            epoch: self.lock.epoch,
            out: out.clone(),
        };
        workshop
            .step(&Step::Disk { spec: Box::new(spec), tools: tools_in_place(workshop, tools)? }, &step)?;
        step.finish(State::Done, "GPT, ESP, ext4");
        Ok(out)
    }
}

impl Keys {
    fn new(image: &Image, lock: &ImageLock, signature: &str) -> Result<Keys> {
        let content = |packages: &[Package], asked: &BTreeSet<String>| {
            let digests: Vec<_> = packages.iter().map(|package| &package.sha256).collect();
            json!([digests, automatic(packages, asked)])
        };
        let system = &lock.request.system;
        let tools = digest::of_json(&json!([
            "tools",
            CONTENT_VERSION,
            content(&lock.tools, &system.tools),
            lock.epoch
        ]))?;
        let base_files = image.packs.iter().map(Pack::base_files_digests).collect::<Result<Vec<_>>>()?;
        let lists: Vec<_> =
            image.packs.iter().map(|pack| (&pack.values.exclude, &pack.values.include)).collect();
        let packages = digest::of_json(&json!([
            "packages",
            CONTENT_VERSION,
            tools,
            content(&lock.packages, &system.packages),
            lists,
            base_files,
        ]))?;
        let roles = digest::of_json(&json!(["roles", packages, signature]))?;
        Ok(Keys { tools, packages, roles })
    }

    /// The layers, if all are in the cache.
    fn layers(&self, cache: &Path) -> Option<Layers> {
        Some(Layers {
            tools: cached(cache, &self.tools)?,
            packages: cached(cache, &self.packages)?,
            roles: cached(cache, &self.roles)?,
        })
    }
}

/// Packages that nobody asked for by name.
fn automatic(packages: &[Package], asked: &BTreeSet<String>) -> Vec<String> {
    packages.iter().map(|package| &package.name).filter(|name| !asked.contains(*name)).cloned().collect()
}

/// A layer that is in the cache.
fn cached(cache: &Path, key: &str) -> Option<Layer> {
    let path = cache.join(format!("trees-v1/{key}.tar"));
    let record: LayerRecord = serde_json::from_slice(&fs::read(path.with_extension("json")).ok()?).ok()?;
    (fs::metadata(&path).ok()?.len() == record.size).then(|| Layer {
        key: key.into(),
        path,
        sha256: record.sha256,
        cached: true,
    })
}

/// Puts the archive of a tree into the cache.
fn keep(workshop: &Workshop<'_>, key: &str, archive: &Path) -> Result<Layer> {
    let (sha256, size) = digest::of_file(archive)?;
    let path = workshop.cache.path(format!("trees-v1/{key}.tar"));
    fs::rename(archive, &path)?;
    workshop.cache.store(&format!("trees-v1/{key}.json"), &LayerRecord { sha256: sha256.clone(), size })?;
    Ok(Layer { key: key.into(), path, sha256, cached: false })
}

/// Where a build has what steps see of a pack.
fn pack_copy(workshop: &Workshop<'_>, pack: &Pack) -> PathBuf {
    workshop.path("packs").join(pack.id())
}

fn tools_in_place(workshop: &Workshop<'_>, tools: &Layer) -> Result<Tools> {
    Ok(Tools { archive: tools.path.clone(), place: tools_place(workshop)? })
}

/// The folder where steps mount the tree of tools.
fn tools_place(workshop: &Workshop<'_>) -> Result<PathBuf> {
    let place = workshop.path("tools");
    fs::create_dir_all(&place)?;
    Ok(place)
}

/// Whether a signal asks us to stop; for work outside of the sandbox.
pub(crate) fn check_interrupted() -> Result<()> {
    match signals::received() {
        Some(signal) => Err(Failure::Interrupted { signal }.into()),
        None => Ok(()),
    }
}
