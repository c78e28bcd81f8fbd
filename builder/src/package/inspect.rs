//! `gatewright ova inspect`: what one wants to know before deploying. Reads the descriptor and the certificate, not the disks.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use ova::certificate::Roots;
use ovf_parser::hardware::{Hardware, Item};
use ovf_parser::{Document, Envelope, Value};
use serde::Serialize;

use super::{MAX_TEXT, open};
use crate::error::Failure;

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    /// Of the archive, in bytes.
    size: u64,
    systems: Vec<System>,
    networks: Vec<Network>,
    disks: Vec<Disk>,
    deployment_options: Vec<DeploymentOption>,
    signature: Signature,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct System {
    name: String,
    os: Option<String>,
    annotation: Option<String>,
    /// Licences to accept.
    eulas: usize,
    products: Vec<Product>,
    hardware: Vec<Machine>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Product {
    name: String,
    vendor: Option<String>,
    version: Option<String>,
    /// Of images that we make, it ends in the signature of the image.
    full_version: Option<String>,
    properties: Vec<Property>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Property {
    key: String,
    category: Option<String>,
    kind: Option<String>,
    default: Option<String>,
    label: Option<String>,
    description: Option<String>,
    password: bool,
    user_configurable: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Machine {
    version: Option<String>,
    cpus: Option<u64>,
    /// In bytes.
    memory: Option<u64>,
    firmware: Option<String>,
    secure_boot: bool,
    transports: Vec<String>,
    devices: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Network {
    name: String,
    description: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Disk {
    file: Option<String>,
    /// In bytes.
    capacity: Option<u64>,
    /// In bytes, in the archive.
    size: Option<u64>,
    /// In bytes, in use.
    populated: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DeploymentOption {
    id: String,
    label: Option<String>,
    default: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", tag = "state")]
enum Signature {
    None,
    /// It fits the manifest. Whether the manifest fits the files, and whether to trust the signer, is for `verify`.
    Good {
        subject: String,
        issuer: String,
        not_after: String,
    },
    Bad {
        why: String,
    },
}

impl Summary {
    /// The signature of an image of ours: the end of its product's full version.
    pub(crate) fn tag(&self) -> Option<&str> {
        let versions = self.systems.iter().flat_map(|system| &system.products);
        versions
            .filter_map(|product| product.full_version.as_deref()?.rsplit_once('+'))
            .map(|(_, tag)| tag)
            .find(|tag| tag.len() == 64 && tag.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }
}

pub(crate) fn inspect(path: &Path) -> Result<Summary> {
    let archive = open(path)?;
    let named = |extension: &str| {
        archive
            .members()
            .iter()
            .find(|entry| Path::new(&entry.name).extension().is_some_and(|e| e == extension))
    };
    let Some(descriptor) = named("ovf") else {
        return Err(Failure::user(format!("{} has no OVF descriptor", path.display()), "is it an OVA?"));
    };
    let document = Document::parse(&archive.read(descriptor, MAX_TEXT)?).map_err(|e| {
        Failure::user(
            format!("{} in {}: {e}", descriptor.name, path.display()),
            "`gatewright ova verify` says more",
        )
    })?;
    let signature = match (named("mf"), named("cert")) {
        (_, None) => Signature::None,
        (None, Some(_)) => Signature::Bad { why: "there is no manifest".into() },
        (Some(manifest), Some(certificate)) => {
            let (manifest, certificate) =
                (archive.read(manifest, MAX_TEXT)?, archive.read(certificate, MAX_TEXT)?);
            match ova::certificate::verify(&manifest, &certificate, &Roots::default(), 0) {
                Ok(good) => Signature::Good {
                    subject: good.subject,
                    issuer: good.issuer,
                    not_after: jiff::Timestamp::from_second(good.not_after)
                        .map_or_else(|e| e.to_string(), |t| t.to_string()),
                },
                Err(e) => Signature::Bad { why: e.to_string() },
            }
        }
    };
    let envelope = document.envelope();
    Ok(Summary {
        size: archive.length(),
        systems: systems(envelope),
        networks: envelope
            .networks
            .iter()
            .map(|network| Network { name: text(&network.name), description: some(&network.description) })
            .collect(),
        disks: envelope
            .disks
            .iter()
            .map(|disk| {
                let file = disk.file.as_ref().and_then(|id| envelope.file(&id.text));
                let href = file.and_then(|file| some(&file.href));
                Disk {
                    capacity: disk.bytes(),
                    size: href.as_ref().and_then(|href| Some(archive.get(href)?.size)),
                    populated: disk.populated_size.as_ref().and_then(Value::number),
                    file: href,
                }
            })
            .collect(),
        deployment_options: envelope
            .deployment_options
            .iter()
            .map(|option| DeploymentOption {
                id: text(&option.id),
                label: some(&option.label),
                default: option.is_default,
            })
            .collect(),
        signature,
    })
}

fn systems(envelope: &Envelope) -> Vec<System> {
    let property =
        |product: &ovf_parser::product::Product, property: &ovf_parser::product::Property| Property {
            key: product.effective_key(property),
            category: property.category.as_ref().map(|category| category.text.clone()),
            kind: some(&property.kind),
            default: some(&property.value),
            label: some(&property.label),
            description: some(&property.description),
            password: property.is_password(),
            user_configurable: property.is_user_configurable(),
        };
    let product = |product: &ovf_parser::product::Product| Product {
        name: text(&product.product),
        vendor: some(&product.vendor),
        version: some(&product.version),
        full_version: some(&product.full_version),
        properties: product.properties.iter().map(|p| property(product, p)).collect(),
    };
    envelope
        .systems()
        .into_iter()
        .map(|system| System {
            name: some(&system.name).unwrap_or_else(|| text(&system.id)),
            os: system.os.as_ref().and_then(|os| some(&os.description).or_else(|| some(&os.vmw_type))),
            annotation: system.annotations.first().and_then(|annotation| some(&annotation.annotation)),
            eulas: system.eulas.len(),
            products: system.products.iter().map(product).collect(),
            hardware: system.hardware.iter().map(machine).collect(),
        })
        .collect()
}

fn machine(hardware: &Hardware) -> Machine {
    let of_kind =
        |kind: u64| hardware.items.iter().find(move |item| item.resource_type_number() == Some(kind));
    let config = |key: &str| hardware.config(key).and_then(|config| some(&config.value));
    Machine {
        version: hardware.system.as_ref().and_then(|system| some(&system.kind)),
        cpus: of_kind(3).and_then(|item| item.virtual_quantity.as_ref()?.number()),
        memory: of_kind(4).and_then(Item::bytes),
        firmware: config("firmware"),
        secure_boot: config("bootOptions.efiSecureBootEnabled").is_some_and(|value| value == "true"),
        transports: hardware.transports().map(String::from).collect(),
        devices: hardware
            .items
            .iter()
            .filter(|item| !matches!(item.resource_type_number(), Some(3 | 4)))
            .map(|item| match item.subtypes().next() {
                Some(model) => format!("{} ({model})", item.label()),
                None => item.label().to_string(),
            })
            .collect(),
    }
}

fn some(value: &Option<Value>) -> Option<String> {
    value.as_ref().map(|value| value.text.clone())
}

fn text(value: &Option<Value>) -> String {
    some(value).unwrap_or_default()
}

/// For people.
pub(crate) fn print(summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    for system in &summary.systems {
        writeln!(out, "{}", system.name)?;
        for product in &system.products {
            let version = product.full_version.as_ref().or(product.version.as_ref());
            let vendor = product.vendor.as_ref().map(|vendor| format!(" by {vendor}"));
            line(
                out,
                "Product",
                &format!("{} {}{}", product.name, version.map_or("", |v| v), vendor.unwrap_or_default()),
            )?;
        }
        optional(out, "Guest", &system.os)?;
        optional(out, "Notes", &system.annotation)?;
        for machine in &system.hardware {
            let secure_boot = if machine.secure_boot { ", Secure Boot" } else { "" };
            let hardware = [
                machine.version.clone(),
                machine.cpus.map(|cpus| format!("{cpus} CPUs")),
                machine.memory.map(bytes),
                machine.firmware.as_ref().map(|firmware| format!("{firmware}{secure_boot}")),
            ];
            line(out, "Hardware", &hardware.into_iter().flatten().collect::<Vec<_>>().join(", "))?;
            line(out, "Devices", &machine.devices.join(", "))?;
            line(out, "Transport", &machine.transports.join(", "))?;
        }
        if system.eulas > 0 {
            line(out, "Licence", "must be accepted")?;
        }
    }
    for disk in &summary.disks {
        let facts = [
            disk.file.clone().or(Some("blank".into())),
            disk.capacity.map(|size| format!("{} disk", bytes(size))),
            disk.populated.map(|size| format!("{} in use", bytes(size))),
            disk.size.map(|size| format!("{} in the OVA", bytes(size))),
        ];
        line(out, "Disk", &facts.into_iter().flatten().collect::<Vec<_>>().join(", "))?;
    }
    for network in &summary.networks {
        let description = network.description.as_ref().map(|text| format!(": {text}"));
        line(out, "Network", &format!("{}{}", network.name, description.unwrap_or_default()))?;
    }
    for option in &summary.deployment_options {
        let label = option.label.as_ref().map(|label| format!(": {label}"));
        let default = if option.default { " (default)" } else { "" };
        line(out, "Option", &format!("{}{}{default}", option.id, label.unwrap_or_default()))?;
    }
    let signature = match &summary.signature {
        Signature::None => "none".to_string(),
        Signature::Good { subject, issuer, not_after } => {
            format!("by {subject}, issued by {issuer}, until {not_after}")
        }
        Signature::Bad { why } => format!("BAD: {why}"),
    };
    line(out, "Signature", &signature)?;
    line(out, "Size", &bytes(summary.size))?;
    let mut category = &None;
    for property in
        summary.systems.iter().flat_map(|system| &system.products).flat_map(|product| &product.properties)
    {
        if property.category != *category || category.is_none() {
            writeln!(out, "\n{}", property.category.as_deref().unwrap_or("Properties"))?;
            category = &property.category;
        }
        let default = property.default.as_deref().filter(|default| !default.is_empty());
        writeln!(
            out,
            "  {:<20} {}{}",
            property.key,
            property.label.as_deref().unwrap_or_default(),
            default.map(|default| format!(" [{default}]")).unwrap_or_default()
        )?;
    }
    Ok(())
}

fn optional(out: &mut dyn Write, name: &str, value: &Option<String>) -> io::Result<()> {
    value.as_ref().map_or(Ok(()), |value| line(out, name, value))
}

fn line(out: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
    // What the document says must not steer the terminal.
    let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    writeln!(out, "  {name:<10} {value}")
}

/// A size for people.
fn bytes(size: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| size >= *unit) {
        Some((unit, name)) if size.is_multiple_of(*unit) => format!("{} {name}", size / unit),
        Some((unit, name)) => format!("{:.1} {name}", size as f64 / *unit as f64),
        None => format!("{size} bytes"),
    }
}
