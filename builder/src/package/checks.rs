//! The checks of `gatewright ova verify`, each for a failure that is known of real imports.
//!
//! They are judged by the facts that `ova`, `ovf-parser` and `vmdk` report. Where an importer's rule has no public
//! specification, it is what its source code or the reports of its users say.

use std::collections::{BTreeMap, BTreeSet};

use ova::manifest::Algorithm;
use ovf_parser::envelope::{Disk as DiskEntry, VirtualSystem};
use ovf_parser::hardware::{HostResource, Item};
use ovf_parser::tree::{Element, Namespace};
use ovf_parser::{Envelope, Position};
use vmdk::Walk;

use super::Package;
use super::verify::Check;
use crate::digest::hex;

/// In the order of an import: the archive, its manifest, the descriptor, the disks.
pub(crate) const CHECKS: &[Check] = &[
    Check {
        name: "archive-format",
        title: "The archive has no PAX headers",
        symptom: "the OVA fails from a local disk and works when it is unpacked",
        hint: "make it with `gatewright ova pack`, or `tar --format=ustar`",
        run: archive_format,
    },
    Check {
        name: "archive-size",
        title: "Sizes from 8 GiB on are binary, smaller ones octal",
        symptom: "the import fails with disks of 8 GiB and more",
        hint: "make it with `gatewright ova pack`, or `tar --format=gnu`",
        run: archive_size,
    },
    Check {
        name: "archive-order",
        title: "The descriptor is first, then manifest, certificate and files; names are bare",
        symptom: "\"the OVF descriptor is not available\"",
        hint: "make it with `gatewright ova pack`",
        run: archive_order,
    },
    Check {
        name: "manifest",
        title: "The manifest is in the strict form, complete and true",
        symptom: "\"the manifest is invalid\", or a digest that does not fit",
        hint: "make it with `gatewright ova pack`",
        run: manifest,
    },
    Check {
        name: "manifest-algorithm",
        title: "The manifest's digests are SHA-256",
        symptom: "\"the algorithm is not supported\": SHA-1 by new hosts, SHA-512 by old ones",
        hint: "make it with `gatewright ova pack`",
        run: manifest_algorithm,
    },
    Check {
        name: "certificate",
        title: "The signature fits the manifest",
        symptom: "\"the certificate is invalid\"",
        hint: "sign it again with `gatewright ova sign`, or name its root with `--trust`",
        run: certificate,
    },
    Check {
        name: "file-size",
        title: "The descriptor has each file's exact size, and says what capacities are counted in",
        symptom: "the import is refused, or makes a disk of 8192 TB",
        hint: "set `ovf:size` to the file's length, `ovf:capacityAllocationUnits` to `byte`",
        run: file_size,
    },
    Check {
        name: "file-compression",
        title: "No file is compressed or cut into pieces",
        symptom: "a disk that was compressed by gzip is refused",
        hint: "streamOptimized disks are compressed already: leave out `ovf:compression` and `ovf:chunkSize`",
        run: file_compression,
    },
    Check {
        name: "disk-format",
        title: "The format of disks is the streamOptimized URI to the letter",
        symptom: "\"unsupported disk format\"",
        hint: "set `ovf:format` to http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized",
        run: disk_format,
    },
    Check {
        name: "disk-capacity",
        title: "The descriptor's capacity is not less than the disk's own",
        symptom: "the import fails at 95 %, with HTTP status 500",
        hint: "set `ovf:capacity` to the disk's capacity",
        run: disk_capacity,
    },
    Check {
        name: "disk-type",
        title: "Disks are streamOptimized",
        symptom: "\"unsupported or invalid disk type 7\"; the same comes of a VMDK that was copied, not imported",
        hint: "convert it with `gatewright disk convert`",
        run: disk_type,
    },
    Check {
        name: "disk-version",
        title: "The header of disks has version 3",
        symptom: "\"sparse version is too old\"",
        hint: "convert it with `gatewright disk convert`",
        run: disk_version,
    },
    Check {
        name: "disk-end",
        title: "Disks end with their end-of-stream marker, and nothing is after it",
        symptom: "a digest that does not fit, \"pipe closed\", HTTP status 400",
        hint: "convert it with `gatewright disk convert`; qemu-img leaves bytes after the end, or no end",
        run: disk_end,
    },
    Check {
        name: "disk-grains",
        title: "Disks are zlib streams in ascending order, as long as they say",
        symptom: "the disk is refused, or is damaged where it is read as a stream",
        hint: "convert it with `gatewright disk convert`",
        run: disk_grains,
    },
    Check {
        name: "disk-adapter",
        title: "Disks are not made for IDE",
        symptom: "the disk cannot be attached to a SCSI controller",
        hint: "convert it with `gatewright disk convert`",
        run: disk_adapter,
    },
    Check {
        name: "hardware",
        title: "Sections and devices are complete, of known kinds, and refer to each other rightly",
        symptom: "the hardware or the descriptor is refused",
        hint: "correct the descriptor where it says; vmx-15 and older are taken by vSphere 6.7 U2 and later",
        run: hardware,
    },
    Check {
        name: "controller",
        title: "Models of controllers and cards are spelled as importers know them",
        symptom: "the controller is refused",
        hint: "`VirtualSCSI`, `lsilogic`, `vmware.sata.ahci`, `vmware.nvme.controller` (vmx-13 and later), `VmxNet3`, `E1000e`",
        run: controller,
    },
    Check {
        name: "vmware-extensions",
        title: "Every element of VMware's has `ovf:required=\"false\"`",
        symptom: "\"ExtraConfig is not allowed\", or an element that is not understood",
        hint: "add `ovf:required=\"false\"` to it",
        run: vmware_extensions,
    },
    Check {
        name: "firmware",
        title: "Firmware is set by its key, and there is no boot order",
        symptom: "a machine made for EFI arrives with BIOS",
        hint: "`<vmw:Config ovf:required=\"false\" vmw:key=\"firmware\" vmw:value=\"efi\"/>`, and no `vmw:BootOrderSection`",
        run: firmware,
    },
    Check {
        name: "boot-loader",
        title: r"A disk for EFI has \EFI\BOOT\BOOTX64.EFI",
        symptom: "EFI finds nothing to boot: the boot entry did not travel with the OVA",
        hint: r"copy the boot loader (shim) to \EFI\BOOT\BOOTX64.EFI on the EFI system partition",
        run: boot_loader,
    },
    Check {
        name: "property-default",
        title: "Every property has a default",
        symptom: "\"property … must be configured\" at power-on",
        hint: "add `ovf:value=\"\"`",
        run: property_default,
    },
    Check {
        name: "property-configurable",
        title: "Every property can be filled in",
        symptom: "properties vanish in govc",
        hint: "add `ovf:userConfigurable=\"true\"`",
        run: property_configurable,
    },
    Check {
        name: "property-transport",
        title: "Properties have a way into the guest",
        symptom: "the guest does not see its properties",
        hint: "`ovf:transport=\"com.vmware.guestInfo iso\"` on the VirtualHardwareSection, and a CD-ROM drive for `iso`",
        run: property_transport,
    },
];

type Findings = Result<Vec<String>, &'static str>;

/// The URI of streamOptimized disks.
const STREAM_OPTIMIZED: &str = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized";
/// Members from here on cannot have an octal size, in bytes.
const OCTAL_LIMIT: u64 = 8 << 30;

fn archive_format(package: &Package) -> Findings {
    let pax = package.archive.extensions().iter().filter(|extension| extension.kind.is_pax());
    Ok(pax.map(|extension| format!("PAX header at byte {}", extension.header_offset)).collect())
}

fn archive_size(package: &Package) -> Findings {
    let wrong =
        package.archive.members().iter().filter(|entry| {
            (entry.size >= OCTAL_LIMIT) != (entry.size_encoding == ova::SizeEncoding::Base256)
        });
    Ok(wrong
        .map(|entry| format!("{}: {} bytes, written as {:?}", entry.name, entry.size, entry.size_encoding))
        .collect())
}

fn archive_order(package: &Package) -> Findings {
    let mut findings = Vec::new();
    for entry in package.archive.members() {
        if entry.kind != ova::Kind::Regular {
            findings.push(format!("{}: not a regular file", entry.name));
        }
        if entry.name.contains('/') || entry.raw_name != entry.name.as_bytes() {
            findings.push(format!("{}: not a bare name", String::from_utf8_lossy(&entry.raw_name)));
        }
    }
    let names: Vec<&str> = package.archive.members().iter().map(|entry| entry.name.as_str()).collect();
    let unique: BTreeSet<_> = names.iter().collect();
    if unique.len() != names.len() {
        findings.push("two members have the same name".into());
    }
    let Some(descriptor) = &package.descriptor else {
        findings.push("there is no `.ovf`".into());
        return Ok(findings);
    };
    let of_descriptor = package.document().into_iter().flat_map(|document| {
        document.envelope().references.iter().filter_map(|file| Some(file.href.as_ref()?.text.as_str()))
    });
    let expected: Vec<&str> = std::iter::once(descriptor.name.as_str())
        .chain(package.manifest.as_ref().map(|member| member.name.as_str()))
        .chain(package.certificate.as_ref().map(|member| member.name.as_str()))
        .chain(of_descriptor)
        .collect();
    if names != expected {
        findings.push(format!("the order is {}, and should be {}", names.join(", "), expected.join(", ")));
    }
    Ok(findings)
}

fn manifest(package: &Package) -> Findings {
    let Some(member) = &package.manifest else { return Ok(vec!["there is no manifest".into()]) };
    let manifest = match &member.content {
        Ok(manifest) => manifest,
        Err(e) => return Ok(vec![format!("{}: {e}", member.name)]),
    };
    let mut findings = Vec::new();
    if package
        .descriptor
        .as_ref()
        .is_some_and(|d| d.name.strip_suffix(".ovf") != member.name.strip_suffix(".mf"))
    {
        findings.push(format!("{} is not called after the descriptor", member.name));
    }
    findings.extend(manifest.blank.iter().map(|number| format!("{}:{number}: a blank line", member.name)));
    for line in &manifest.lines {
        let place = format!("{}:{}", member.name, line.number);
        // SHA-1 has a check of its own.
        if !line.strict && line.algorithm != Algorithm::Sha1 {
            findings.push(format!("{place}: not written as `SHA256(NAME)= DIGEST`"));
        }
        match package.digests.get(&line.name).map(|digests| digests.get(&line.algorithm)) {
            None => findings.push(format!("{place}: `{}` is not in the archive", line.name)),
            Some(digest) if digest != Some(&hex(&line.digest)) => {
                findings.push(format!("{place}: the digest of `{}` is another", line.name));
            }
            Some(_) => {}
        }
    }
    let certificate = package.certificate.as_ref().map(|member| &member.name);
    for entry in package.archive.members() {
        if entry.name != member.name
            && Some(&entry.name) != certificate
            && manifest.get(&entry.name).is_none()
        {
            findings.push(format!("{}: `{}` is missing", member.name, entry.name));
        }
    }
    Ok(findings)
}

fn manifest_algorithm(package: &Package) -> Findings {
    let Some(manifest) = package.manifest.as_ref().and_then(|member| member.content.as_ref().ok()) else {
        return Ok(vec!["there is no manifest that can be read".into()]);
    };
    let others = manifest.lines.iter().filter(|line| line.algorithm != Algorithm::Sha256);
    Ok(others.map(|line| format!("line {}: {:?}", line.number, line.algorithm)).collect())
}

fn certificate(package: &Package) -> Findings {
    let Some(certificate) = &package.certificate else { return Err("the OVA is not signed") };
    let Some(manifest) = &package.manifest else {
        return Ok(vec!["there is a certificate and no manifest".into()]);
    };
    let now = jiff::Timestamp::now().as_second().try_into().unwrap_or(0);
    let roots = package.roots.clone().unwrap_or_default();
    let verified = match ova::certificate::verify(&manifest.bytes, &certificate.bytes, &roots, now) {
        Ok(verified) => verified,
        Err(e) => return Ok(vec![format!("{}: {e}", certificate.name)]),
    };
    let mut findings = Vec::new();
    if verified.manifest != manifest.name {
        findings.push(format!("it is of `{}`, not of `{}`", verified.manifest, manifest.name));
    }
    // Without roots there is nothing that it could lead to, which is for the one who imports to judge.
    if let (ova::certificate::Trust::Untrusted(why), true) = (&verified.trust, package.roots.is_some()) {
        findings.push(format!("{}: {why}", verified.subject));
    }
    Ok(findings)
}

/// What the descriptor says, for checks of it.
fn envelope(package: &Package) -> Result<&Envelope, Vec<String>> {
    match package.descriptor.as_ref().map(|member| (&member.name, &member.content)) {
        Some((_, Ok(document))) => Ok(document.envelope()),
        Some((name, Err(e))) => Err(vec![format!("{name}: {e}")]),
        None => Err(vec!["there is no descriptor".into()]),
    }
}

/// Runs `check` on the descriptor; that there is none is the finding.
fn of_envelope(package: &Package, check: impl FnOnce(&Envelope, &mut Vec<String>)) -> Findings {
    let mut findings = Vec::new();
    match envelope(package) {
        Ok(envelope) => check(envelope, &mut findings),
        Err(unreadable) => findings = unreadable,
    }
    Ok(findings)
}

fn at(position: Position, text: &str) -> String {
    format!("line {}: {text}", position.line)
}

fn file_size(package: &Package) -> Findings {
    of_envelope(package, |envelope, findings| {
        for file in &envelope.references {
            let href = file.href.as_ref().map_or("", |href| href.text.as_str());
            let Some(entry) = package.archive.get(href) else {
                findings.push(at(file.position, &format!("`{href}` is not in the archive")));
                continue;
            };
            if file.size.as_ref().and_then(|size| size.number()) != Some(entry.size) {
                let said = file.size.as_ref().map_or("nothing", |size| size.text.as_str());
                findings.push(at(
                    file.position,
                    &format!("`{href}` has {} bytes, ovf:size is {said}", entry.size),
                ));
            }
        }
        for disk in &envelope.disks {
            if disk.bytes().is_none() && disk.capacity_property().is_none() {
                findings.push(at(disk.position, "the capacity is missing, or in units that nobody knows"));
            } else if disk.capacity_units.is_none() {
                findings.push(at(disk.position, "ovf:capacityAllocationUnits is missing"));
            }
        }
    })
}

fn file_compression(package: &Package) -> Findings {
    of_envelope(package, |envelope, findings| {
        for file in &envelope.references {
            // "identity" is the one that says there is none.
            if let Some(compression) =
                file.compression.as_ref().filter(|c| !["", "identity"].contains(&c.text.as_str()))
            {
                findings.push(at(file.position, &format!("ovf:compression is {}", compression.text)));
            }
            if file.chunk_size.is_some() {
                findings.push(at(file.position, "ovf:chunkSize is set"));
            }
        }
    })
}

fn disk_format(package: &Package) -> Findings {
    of_envelope(package, |envelope, findings| {
        for disk in &envelope.disks {
            let format = disk.format.as_ref().map_or("missing", |format| format.text.as_str());
            if format != STREAM_OPTIMIZED {
                findings.push(at(disk.position, &format!("ovf:format is {format}")));
            }
        }
    })
}

fn disk_capacity(package: &Package) -> Findings {
    of_envelope(package, |envelope, findings| {
        for (disk, walk) in described_disks(package, envelope) {
            match walk {
                Ok(walk) if disk.bytes().is_some_and(|bytes| bytes < walk.facts.capacity) => {
                    findings.push(at(disk.position, &format!("the disk has {} bytes", walk.facts.capacity)));
                }
                Ok(_) => {}
                Err(e) => findings.push(at(disk.position, e)),
            }
        }
    })
}

/// The disks of the descriptor that are in the archive.
fn described_disks<'a>(
    package: &'a Package,
    envelope: &'a Envelope,
) -> impl Iterator<Item = (&'a DiskEntry, Result<&'a Walk, &'a String>)> {
    envelope.disks.iter().filter_map(|disk| {
        let href = envelope.file(&disk.file.as_ref()?.text)?.href.as_ref()?;
        Some((disk, package.disks.get(&href.text)?.walk.as_ref()))
    })
}

/// Runs `check` on every disk; that one cannot be read is a finding.
fn of_disks(package: &Package, check: impl Fn(&Walk) -> Vec<String>) -> Findings {
    if package.disks.is_empty() {
        return Err("there are no disks");
    }
    let mut findings = Vec::new();
    for (name, disk) in &package.disks {
        let of_disk = match &disk.walk {
            Ok(walk) => check(walk),
            Err(e) => vec![e.clone()],
        };
        findings.extend(of_disk.iter().map(|finding| format!("{name}: {finding}")));
    }
    Ok(findings)
}

fn disk_type(package: &Package) -> Findings {
    of_disks(package, |walk| match walk.facts.create_type.as_str() {
        "streamOptimized" => Vec::new(),
        other => vec![format!("createType is {other}")],
    })
}

fn disk_version(package: &Package) -> Findings {
    of_disks(package, |walk| match walk.facts.header_version {
        Some(3) => Vec::new(),
        Some(other) => vec![format!("the header has version {other}")],
        None => vec!["there is no header".into()],
    })
}

fn disk_end(package: &Package) -> Findings {
    of_disks(package, |walk| match walk.end_of_stream {
        None => vec!["there is no end-of-stream marker".into()],
        Some(_) if walk.trailing > 0 => {
            vec![format!("{} bytes are after the end-of-stream marker", walk.trailing)]
        }
        Some(_) => Vec::new(),
    })
}

fn disk_grains(package: &Package) -> Findings {
    of_disks(package, |walk| {
        let facts = &walk.facts;
        let wrong = [
            (!walk.zlib, "grains are raw deflate, not zlib".to_string()),
            (!walk.ascending, "grains are not in ascending order".into()),
            (
                facts.extent_sectors.checked_mul(512) != Some(facts.capacity),
                format!("the extent has {} sectors, the disk {}", facts.extent_sectors, facts.capacity / 512),
            ),
        ];
        wrong.into_iter().filter(|(wrong, _)| *wrong).map(|(_, finding)| finding).collect()
    })
}

fn disk_adapter(package: &Package) -> Findings {
    of_disks(package, |walk| match walk.facts.adapter_type.as_deref() {
        Some("ide") => vec!["ddb.adapterType is ide".into()],
        Some(_) => Vec::new(),
        None => vec!["ddb.adapterType is missing".into()],
    })
}

/// Runs `check` on every virtual machine.
fn of_systems(package: &Package, check: impl Fn(&VirtualSystem, &mut Vec<String>)) -> Findings {
    of_envelope(package, |envelope, findings| {
        for system in envelope.systems() {
            check(system, findings);
        }
    })
}

fn hardware(package: &Package) -> Findings {
    of_envelope(package, |envelope, findings| {
        let problems = package.document().map(ovf_parser::Document::validate).unwrap_or_default();
        findings.extend(problems.iter().map(|problem| at(problem.position, &problem.message)));
        if envelope.systems().is_empty() {
            findings.push("there is no VirtualSystem".into());
        }
        for system in envelope.systems() {
            if system.hardware.is_empty() {
                findings.push(at(system.position, "the VirtualHardwareSection is missing"));
            }
            if system.os.is_none() {
                findings.push(at(system.position, "the OperatingSystemSection is missing"));
            }
            for hardware in &system.hardware {
                let versions: Vec<u32> = hardware
                    .system
                    .iter()
                    .flat_map(ovf_parser::hardware::System::kinds)
                    .filter_map(|kind| kind.strip_prefix("vmx-")?.parse().ok())
                    .collect();
                match versions.iter().min() {
                    None => findings.push(at(hardware.position, "there is no hardware version vmx-N")),
                    Some(version) if *version > NEWEST_HARDWARE => {
                        findings
                            .push(at(hardware.position, &format!("vmx-{version} is refused by older hosts")));
                    }
                    Some(_) => {}
                }
                items(&hardware.items, findings);
            }
        }
    })
}

/// The newest virtual hardware that the oldest host we support has: vSphere 6.7 U2.
const NEWEST_HARDWARE: u32 = 15;
/// The kinds of devices that importers know (`CIM_ResourceAllocationSettingData.ResourceType`).
const KNOWN_DEVICES: &[u64] = &[1, 3, 4, 5, 6, 10, 14, 15, 16, 17, 20, 21, 22, 23, 24];

/// Instance identifiers, parents and kinds of devices.
fn items(items: &[Item], findings: &mut Vec<String>) {
    let mut seen = BTreeMap::new();
    for item in items {
        match &item.instance_id {
            None => findings.push(at(item.position, "a device has no InstanceID")),
            Some(id) => {
                let other = seen.insert(id.text.as_str(), item);
                // The same identifier may stand for the same device in different deployment options.
                if other.is_some_and(|other| {
                    other.configuration == item.configuration && other.bound == item.bound
                }) {
                    findings.push(at(item.position, &format!("InstanceID {} is there twice", id.text)));
                }
            }
        }
        if !item.resource_type_number().is_some_and(|kind| KNOWN_DEVICES.contains(&kind)) && item.required {
            let kind = item.resource_type.as_ref().map_or("missing", |kind| kind.text.as_str());
            findings.push(at(item.position, &format!("ResourceType {kind} is not known to importers")));
        }
    }
    for item in items {
        if let Some(parent) = item.parent.as_ref().filter(|parent| !seen.contains_key(parent.text.as_str())) {
            findings.push(at(item.position, &format!("Parent {} is no device", parent.text)));
        }
        let is_disk = item.resource_type_number() == Some(17);
        if is_disk && item.parent.is_none() {
            findings.push(at(item.position, "a disk has no Parent"));
        }
        for resource in &item.host_resources {
            if is_disk && matches!(HostResource::parse(&resource.text), HostResource::Other(_)) {
                findings.push(at(
                    item.position,
                    &format!("HostResource {} is no disk of the package", resource.text),
                ));
            }
        }
    }
}

fn controller(package: &Package) -> Findings {
    of_systems(package, |system, findings| {
        for hardware in &system.hardware {
            let newest = hardware.system.iter().flat_map(ovf_parser::hardware::System::kinds);
            let version: Option<u32> =
                newest.filter_map(|kind| kind.strip_prefix("vmx-")?.parse().ok()).max();
            for item in &hardware.items {
                for subtype in item.subtypes() {
                    if let Some(known) = MODELS.iter().find(|known| known.eq_ignore_ascii_case(subtype))
                        && *known != subtype
                    {
                        findings.push(at(item.position, &format!("`{subtype}` is written `{known}`")));
                    }
                    let is_nvme = subtype.eq_ignore_ascii_case("vmware.nvme.controller");
                    if is_nvme && version.is_some_and(|version| version < 13) {
                        findings.push(at(item.position, "NVMe needs vmx-13 or later"));
                    }
                }
            }
        }
    })
}

/// Models whose case matters, as importers spell them.
const MODELS: &[&str] = &[
    "VirtualSCSI",
    "lsilogic",
    "lsilogicsas",
    "buslogic",
    "vmware.sata.ahci",
    "vmware.nvme.controller",
    "VmxNet3",
    "VmxNet2",
    "E1000",
    "E1000e",
    "PCNet32",
    "vmware.cdrom.iso",
    "vmware.cdrom.remotepassthrough",
];

fn vmware_extensions(package: &Package) -> Findings {
    of_envelope(package, |_, findings| {
        if let Some(document) = package.document() {
            required_extensions(document.root(), findings);
        }
    })
}

/// VMware's elements that a reader must understand, but for those inside others.
fn required_extensions(element: &Element, findings: &mut Vec<String>) {
    for child in element.elements() {
        if matches!(child.kind().0, Namespace::Vmw) {
            if child.is_required() {
                findings.push(at(child.position(), &format!("{} is required", child.kind().1)));
            }
        } else {
            required_extensions(child, findings);
        }
    }
}

fn firmware(package: &Package) -> Findings {
    of_systems(package, |system, findings| {
        let orders = system.boot_orders.iter().chain(system.hardware.iter().flat_map(|h| &h.boot_orders));
        findings.extend(orders.map(|order| at(order.position, "a BootOrderSection is there")));
        for hardware in &system.hardware {
            match hardware.config("firmware").and_then(|config| config.value.as_ref()) {
                Some(value) if ["efi", "bios"].contains(&value.text.as_str()) => {}
                Some(value) => {
                    findings.push(at(value.position, &format!("the firmware is `{}`", value.text)))
                }
                None => findings.push(at(hardware.position, "the key `firmware` is missing")),
            }
        }
    })
}

fn boot_loader(package: &Package) -> Findings {
    let envelope = match envelope(package) {
        Ok(envelope) => envelope,
        Err(unreadable) => return Ok(unreadable),
    };
    let is_efi = envelope.systems().iter().flat_map(|system| &system.hardware).any(|hardware| {
        hardware
            .config("firmware")
            .and_then(|config| config.value.as_ref())
            .is_some_and(|value| value.text == "efi")
    });
    if !is_efi {
        return Err("the firmware is not EFI");
    }
    if package.disks.is_empty() {
        return Err("there are no disks");
    }
    // One disk of several is the one to boot from.
    if package.disks.values().any(|disk| disk.not_bootable.is_none()) {
        return Ok(Vec::new());
    }
    let why = |(name, disk): (&String, &super::Disk)| {
        format!("{name}: {}", disk.not_bootable.as_deref().unwrap_or_default())
    };
    Ok(package.disks.iter().map(why).collect())
}

/// Runs `check` on every property, by the name that the guest knows it by.
fn of_properties(
    package: &Package,
    check: impl Fn(&str, &ovf_parser::product::Property) -> Option<String>,
) -> Findings {
    of_systems(package, |system, findings| {
        for (product, property) in system.properties() {
            let key = product.effective_key(property);
            findings.extend(check(&key, property).map(|finding| at(property.position, &finding)));
        }
    })
}

fn property_default(package: &Package) -> Findings {
    of_properties(package, |key, property| {
        (property.value.is_none() && property.values.is_empty()).then(|| format!("`{key}` has no default"))
    })
}

fn property_configurable(package: &Package) -> Findings {
    of_properties(package, |key, property| {
        (!property.is_user_configurable()).then(|| format!("`{key}` cannot be filled in"))
    })
}

fn property_transport(package: &Package) -> Findings {
    of_systems(package, |system, findings| {
        if system.properties().next().is_none() {
            return;
        }
        for hardware in &system.hardware {
            if hardware.transports().next().is_none() {
                findings.push(at(hardware.position, "there are properties and no ovf:transport"));
            }
            let has_drive =
                hardware.items.iter().any(|item| matches!(item.resource_type_number(), Some(15 | 16)));
            if hardware.transports().any(|name| name == "iso") && !has_drive {
                findings.push(at(hardware.position, "the transport `iso` needs a CD-ROM drive"));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_every_check() {
        let docs = include_str!("../../../docs/ova.md");
        let listed: Vec<&str> = docs.lines().filter(|line| line.starts_with("| `")).collect();
        for check in CHECKS {
            let row = format!("| `{}` | {} | {} |", check.name, check.title, check.symptom);
            assert!(listed.contains(&row.as_str()), "docs/ova.md should have\n{row}");
        }
    }
}
