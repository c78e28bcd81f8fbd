//! Image definitions: a profile of packs, plus disk, hardware and outputs. See docs/image-definition.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ::pack::document::Node;
use ::pack::{Facts, Profile, Resources, Selection};
use anyhow::Result;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use crate::build::TOOLS;
use crate::convert::Format;
use crate::digest::{self, Digest};
use crate::error::Failure;
use crate::lock::{PackRequest, Request, SystemRequest};
use crate::locking::Policy;
use crate::pack::{Archive, Pack};
use crate::packs::find::{self, Found};
use crate::workshop::Settings;

/// A YAML file in `images/`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Definition {
    /// Names the output files and the virtual machine.
    pub(crate) name: String,
    packs: Vec<PackEntry>,
    /// Where sources of packs are, by name: URLs, or folders relative to this file.
    #[serde(default)]
    pub(crate) sources: BTreeMap<String, String>,
    /// Values of `.spectro.var.NAME` in the values of packs.
    #[serde(default)]
    variables: BTreeMap<String, String>,
    /// Files made elsewhere that roles use, by name; relative to this file.
    #[serde(default)]
    artifacts: BTreeMap<String, PathBuf>,
    pub(crate) disk: Disk,
    pub(crate) hardware: Hardware,
    pub(crate) outputs: Vec<OutputKind>,
    pub(crate) ova: Option<Ova>,
}

/// A pack of the profile: its name, or that with what is set for this image.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected the name of a pack, or a map with `pack`, `presets` and `values`")]
enum PackEntry {
    Name(String),
    Set(PackSettings),
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct PackSettings {
    /// A folder in `packs/` beside the folder of this file, the path of a `.tgz`, or `oci://REGISTRY/REPOSITORY:TAG`.
    pack: String,
    /// `GROUP:NAME` or `NAME`.
    #[serde(default)]
    presets: Vec<String>,
    /// Merged over the pack's own.
    #[serde(default)]
    values: Value,
}

impl PackEntry {
    fn pack(&self) -> &str {
        match self {
            PackEntry::Name(name) => name,
            PackEntry::Set(settings) => &settings.pack,
        }
    }
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Disk {
    pub(crate) size: Size,
}

/// The virtual hardware of the OVF.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Hardware {
    pub(crate) cpus: u32,
    pub(crate) memory: Size,
    /// `vssd:VirtualSystemType`, as in `vmx-15`.
    pub(crate) version: String,
    /// vSphere's guest identifier, as in `debian10_64Guest`.
    pub(crate) guest_os: String,
    pub(crate) firmware: Firmware,
    #[serde(default)]
    pub(crate) secure_boot: bool,
}

/// EFI only: nothing we build boots from BIOS.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Firmware {
    Efi,
}

/// What can be made of a finished tree.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OutputKind {
    Ova,
    Raw,
    Vmdk,
    Vhd,
    VhdFixed,
    Qcow2,
}

impl OutputKind {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            OutputKind::Ova => "OVA",
            OutputKind::Raw => "raw",
            OutputKind::Vmdk => "VMDK",
            OutputKind::Vhd => "VHD",
            OutputKind::VhdFixed => "fixed VHD",
            OutputKind::Qcow2 => "qcow2",
        }
    }

    /// What names of files end in.
    pub(crate) fn ending(self) -> &'static str {
        self.disk_format().map_or(".ova", Format::ending)
    }

    /// Of the disk, where that is all there is to it.
    pub(crate) fn disk_format(self) -> Option<Format> {
        Some(match self {
            OutputKind::Ova => return None,
            OutputKind::Raw => Format::Raw,
            OutputKind::Vmdk => Format::Vmdk,
            OutputKind::Vhd => Format::Vhd,
            OutputKind::VhdFixed => Format::VhdFixed,
            OutputKind::Qcow2 => Format::Qcow2,
        })
    }
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ova {
    pub(crate) product: String,
    pub(crate) vendor: String,
    pub(crate) annotation: String,
    #[serde(default)]
    pub(crate) properties: Vec<Property>,
}

/// A property that the administrator fills in when deploying.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Property {
    /// Begins a group, which the properties after it belong to.
    pub(crate) category: Option<String>,
    pub(crate) key: String,
    pub(crate) label: String,
    pub(crate) description: String,
    /// Blank where absent: a property without a value must not keep the machine from powering on.
    #[serde(default)]
    pub(crate) default: String,
    /// Shown as dots.
    #[serde(default)]
    pub(crate) password: bool,
}

/// A number of bytes, written as `20 GiB`, `512 MiB` or plain bytes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(crate) struct Size(pub(crate) u64);

impl Size {
    pub(crate) const MIB: u64 = 1 << 20;

    fn parse(text: &str) -> Option<Size> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit = match text[digits..].trim() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => Size::MIB,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return None,
        };
        text[..digits].parse::<u64>().ok()?.checked_mul(unit).map(Size)
    }
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        Size::parse(text).ok_or_else(|| format!("`{text}` is no size; write it like `20 GiB`"))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Bytes(u64),
            Text(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Bytes(bytes) => Ok(Size(bytes)),
            Raw::Text(text) => Size::parse(&text)
                .ok_or_else(|| de::Error::custom(format!("`{text}` is not a size; write it as in `20 GiB`"))),
        }
    }
}

/// An image definition with everything it names read and checked.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) definition: Definition,
    /// The folder of the definition.
    pub(crate) dir: PathBuf,
    /// In layer order.
    pub(crate) packs: Vec<Pack>,
    /// Values of all packs, merged in layer order, without each pack's `pack`.
    pub(crate) values: Value,
    /// Absolute paths by name.
    pub(crate) artifacts: BTreeMap<String, PathBuf>,
    /// Content digests by name.
    pub(crate) artifact_digests: BTreeMap<String, Digest>,
}

impl Image {
    /// Reads the definition in `path`, its packs and artifacts. Packs in registries are pulled as the lock names them,
    /// unless `policy` lets them be looked up anew.
    pub(crate) fn read(path: &Path, settings: &Settings, policy: Policy) -> Result<Image> {
        let Read { definition, dir, found, profile } = Read::new(path, settings, policy)?;
        let mut image = Image {
            packs: profile
                .packs()
                .iter()
                .map(|merged| {
                    let from = found.iter().find(|found| found.pack.dir == merged.pack.dir);
                    Pack::new(merged, from.and_then(|found| found.from.clone()))
                })
                .collect::<Result<_>>()?,
            values: profile.values().clone(),
            dir,
            artifacts: BTreeMap::new(),
            artifact_digests: BTreeMap::new(),
            definition,
        };
        image.check_system()?;
        for (name, file) in &image.definition.artifacts {
            let file = image.dir.join(file);
            if !file.is_file() {
                return Err(Failure::user(
                    format!("The artifact `{name}` is not there: {}", file.display()),
                    "build it first; `make ova` does",
                ));
            }
            image.artifact_digests.insert(name.clone(), digest::of_file(&file)?.0);
            image.artifacts.insert(name.clone(), file);
        }
        Ok(image)
    }

    fn check_system(&self) -> Result<()> {
        let systems: Vec<_> =
            self.packs.iter().filter(|pack| pack.values.archive.is_some()).map(Pack::id).collect();
        if systems.len() == 1 {
            return Ok(());
        }
        Err(Failure::user(
            format!(
                "An image needs exactly one pack with `pack.archive`, this one has {}: {}",
                systems.len(),
                systems.join(", ")
            ),
            "name one OS pack in `packs` of the image definition",
        ))
    }

    /// The pack that says where packages come from.
    pub(crate) fn system(&self) -> &Pack {
        self.packs.iter().find(|pack| pack.values.archive.is_some()).expect("`check_system` made sure of one")
    }

    /// The archive that packages come from.
    pub(crate) fn archive(&self) -> &Archive {
        self.system().values.archive.as_ref().expect("it is the pack that has one")
    }

    /// The file with the archive's keys.
    pub(crate) fn keyring(&self) -> Result<PathBuf> {
        let (system, name) = (self.system(), &self.archive().keyring);
        let keyring = system.inside(name)?;
        if !keyring.is_file() {
            return Err(Failure::user(
                format!("Pack `{}` names the keyring `{name}`, which is not there", system.id()),
                "a pack carries the keyring of its archive",
            ));
        }
        Ok(keyring)
    }

    /// What is to be resolved.
    pub(crate) fn request(&self) -> Result<Request> {
        let archive = self.archive();
        let mut artifacts = BTreeMap::new();
        let mut packs = BTreeMap::new();
        for pack in &self.packs {
            for (name, artifact) in &pack.values.artifacts {
                let twice = artifacts.insert(name.clone(), artifact.clone()).is_some();
                if twice || self.artifacts.contains_key(name) || name.contains('/') || name.starts_with('.') {
                    let why = if twice { "is there twice" } else { "is taken, or no name of a file" };
                    return Err(Failure::user(
                        format!("The artifact `{name}` of pack `{}` {why}", pack.id()),
                        "artifacts of an image share one folder: call it something else",
                    ));
                }
            }
            let roles = pack.definition.ansible_roles.iter();
            let roles = roles.map(|role| Ok((role.clone(), pack.digest_of(role)?))).collect::<Result<_>>()?;
            packs.insert(pack.id(), PackRequest { from: pack.from.clone(), roles });
        }
        let values = || self.packs.iter().map(|pack| &pack.values);
        Ok(Request {
            system: SystemRequest {
                suite: archive.suite.clone(),
                components: archive.components.clone(),
                architecture: archive.architecture.clone(),
                keyring: digest::of_file(&self.keyring()?)?.0,
                tools: TOOLS.iter().map(ToString::to_string).collect(),
                packages: values().flat_map(|values| values.packages.clone()).collect(),
            },
            base: self.packs.iter().find_map(|pack| pack.definition.annotations.image_id.clone()),
            artifacts,
            container_images: values()
                .flat_map(|values| values.content.images.iter().map(|image| image.image.clone()))
                .collect(),
            packs,
        })
    }
}

/// The definition in `path`, and the same with places.
fn read_definition(path: &Path) -> Result<(Definition, Node)> {
    let text = fs::read_to_string(path).map_err(|e| {
        Failure::user(
            format!("Cannot read the image definition {}: {e}", path.display()),
            "give the path of a YAML file, as in `gatewright build images/installer.yaml`",
        )
    })?;
    let wrong = |e: &dyn std::fmt::Display| {
        Failure::user(format!("{}: {e}", path.display()), "see docs/image-definition.md for the keys")
    };
    let definition: Definition = serde_norway::from_str(&text).map_err(|e| wrong(&e))?;
    check(&definition)
        .map_err(|(message, hint)| Failure::user(format!("{}: {message}", path.display()), hint))?;
    let document = ::pack::document::parse_yaml(&text).map_err(|e| wrong(&e))?;
    Ok((definition, document))
}

/// A definition with its packs, put together.
struct Read {
    definition: Definition,
    dir: PathBuf,
    found: Vec<Found>,
    profile: Profile,
}

/// The packs of an image, put together as it sets them.
pub(crate) fn read_profile(path: &Path, settings: &Settings, policy: Policy) -> Result<Profile> {
    Ok(Read::new(path, settings, policy)?.profile)
}

impl Read {
    fn new(path: &Path, settings: &Settings, policy: Policy) -> Result<Read> {
        let (definition, document) = read_definition(path)?;
        let dir = path.canonicalize()?.parent().expect("a file has a parent folder").to_path_buf();
        let sources = settings.sources.clone().or(&definition.sources, &dir);
        let settings = Settings { sources, ..settings.clone() };
        let finder = find::Finder::new(&dir, &definition.name, &settings, policy)?;
        let found: Vec<Found> =
            definition.packs.iter().map(|entry| finder.find(entry.pack())).collect::<Result<_>>()?;

        let entries = document.get("packs").map(Node::items).unwrap_or_default();
        let selections =
            found.iter().zip(&definition.packs).enumerate().map(|(n, (found, entry))| Selection {
                pack: found.pack.clone(),
                presets: match entry {
                    PackEntry::Name(_) => Vec::new(),
                    PackEntry::Set(settings) => settings.presets.clone(),
                },
                values: entries.get(n).and_then(|entry| entry.get("values")).cloned(),
                file: Some(path.to_path_buf()),
            });
        // The command line's before the definition's.
        let mut variables = definition.variables.clone();
        variables.extend(settings.variables.clone());
        let facts = Facts {
            variables,
            system: [("image.name".to_string(), definition.name.clone())].into(),
            resources: Some(Resources {
                cpu_millicores: u64::from(definition.hardware.cpus) * 1000,
                memory_mib: definition.hardware.memory.0 / Size::MIB,
                disk_gb: definition.disk.size.0 / 1_000_000_000,
            }),
        };
        let profile = Profile::new(selections.collect(), &facts)
            .map_err(|errors| disagreement(&format!("The packs of {}", path.display()), errors))?;
        Ok(Read { definition, dir, found, profile })
    }
}

/// Why packs do not go together: all that is wrong.
pub(crate) fn disagreement(who: &str, errors: Vec<::pack::Error>) -> anyhow::Error {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let hint = errors.into_iter().next().and_then(|first| first.hint);
    let message = match lines.as_slice() {
        [only] => only.clone(),
        _ => format!("{who} do not go together:\n  {}", lines.join("\n  ")),
    };
    Failure::User { message, hint }.into()
}

/// What the types cannot say.
fn check(definition: &Definition) -> std::result::Result<(), (String, String)> {
    let name = &definition.name;
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err((
            format!("`name` is `{name}`"),
            "it names files and a virtual machine: lower-case letters, digits and dashes".into(),
        ));
    }
    let size = definition.disk.size.0;
    if !size.is_multiple_of(Size::MIB) || size < 2 << 30 {
        return Err((format!("`disk.size` is {size} bytes"), "at least 2 GiB, in whole MiB".into()));
    }
    let memory = definition.hardware.memory.0;
    if !memory.is_multiple_of(4 * Size::MIB) || memory == 0 {
        return Err((
            format!("`hardware.memory` is {memory} bytes"),
            "vSphere wants a multiple of 4 MiB".into(),
        ));
    }
    if definition.hardware.cpus == 0 {
        return Err(("`hardware.cpus` is 0".into(), "give at least 1".into()));
    }
    if definition.outputs.is_empty() {
        return Err(("`outputs` is empty".into(), "name at least one, as in `outputs: [ova]`".into()));
    }
    match &definition.ova {
        None if !definition.outputs.contains(&OutputKind::Ova) => {}
        None => {
            return Err((
                "`ova` is missing".into(),
                "the output `ova` needs the keys `product`, `vendor` and `annotation`".into(),
            ));
        }
        Some(ova) => {
            let mut keys: Vec<_> = ova.properties.iter().map(|p| &p.key).collect();
            keys.sort();
            if let Some(pair) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err((
                    format!("the property `{}` is there twice", pair[0]),
                    "rename or remove one".into(),
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("20 GiB", Some(20 << 30)),
            ("20GiB", Some(20 << 30)),
            ("512 MiB", Some(512 << 20)),
            ("4096", Some(4096)),
            ("20 GB", None),
            ("GiB", None),
            ("-1 GiB", None),
            ("99999999999 TiB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Size::parse(text).map(|s| s.0), expected, "{text}");
        }
    }

    #[test]
    fn wrong_definitions_are_refused_with_the_place() {
        let good = "name: a\npacks: []\ndisk: {size: 4 GiB}\nhardware: {cpus: 2, memory: 4 GiB, version: vmx-15, guestOs: other, firmware: efi}\noutputs: [ova]\nova: {product: p, vendor: v, annotation: a}\n";
        let read = |text: &str| -> std::result::Result<(), String> {
            let definition: Definition = serde_norway::from_str(text).map_err(|e| e.to_string())?;
            check(&definition).map_err(|(message, _)| message)
        };
        assert_eq!(read(good), Ok(()));
        let cases = [
            ("name: a", "name: A b", "`name` is `A b`"),
            ("size: 4 GiB", "size: 4 GB", "not a size"),
            ("size: 4 GiB", "size: 1 MiB", "`disk.size` is 1048576 bytes"),
            ("cpus: 2", "cpus: 0", "`hardware.cpus` is 0"),
            ("memory: 4 GiB", "memory: 5 MiB", "`hardware.memory`"),
            ("firmware: efi", "firmware: bios", "unknown variant `bios`"),
            ("outputs: [ova]", "outputs: []", "`outputs` is empty"),
            ("cpus: 2", "cpu: 2", "unknown field `cpu`"),
        ];
        for (from, to, expected) in cases {
            let error = read(&good.replace(from, to)).unwrap_err();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
    }
}
