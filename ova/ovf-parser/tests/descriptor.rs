//! What [`Descriptor`] writes is read as the same facts, and has no problems.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use ovf_parser::descriptor::{
    Controller, ControllerKind, Descriptor, Device, FileReference, Firmware, Hardware, Network, Nic,
    OperatingSystem, Product, Property, PropertyKind, Qualifier, Transport, VirtualDisk, VirtualSystem,
};
use ovf_parser::hardware::HostResource;
use ovf_parser::{Document, product};
use proptest::option;
use proptest::prelude::*;

/// A name: no white space around it.
fn name() -> impl Strategy<Value = String> {
    "[!-~ä😀]([ -~\u{85}]{0,8}[!-~])?"
}

/// A text for people.
fn text() -> impl Strategy<Value = String> {
    "[ -~\t\n\rä\u{2028}😀]{0,20}"
}

/// Names that differ.
fn numbered(name: &str, at: usize) -> String {
    format!("{name} {at}")
}

prop_compose! {
    fn property()(
        category in option::of(name()), key in "[a-z-]{1,8}", kind in 0..3, value in text(), user_configurable: bool,
        password: bool, min: u32, max: u32, choices in prop::collection::vec("[ !#-\\[\\]-~]{0,8}", 1..3),
        which in 0..3, label in text(), description in text(),
    ) -> Property {
        let (kind, value) = match kind {
            0 => (PropertyKind::String, value),
            1 => (PropertyKind::Boolean, if password { "True".into() } else { "False".into() }),
            _ => (PropertyKind::Int, min.to_string()),
        };
        let qualifiers = match which {
            0 => vec![],
            1 => vec![Qualifier::MinLen(min), Qualifier::MaxLen(max)],
            _ => vec![Qualifier::ValueMap(choices)],
        };
        Property { category, key, kind, value, user_configurable, password, qualifiers, label, description }
    }
}

prop_compose! {
    fn product_of(at: usize)(
        has_class: bool, product in text(), vendor in text(), version in text(), full_version in option::of(text()),
        mut properties in prop::collection::vec(property(), 0..4),
    ) -> Product {
        for (property, number) in properties.iter_mut().zip(0..) {
            property.key = format!("{}{at}-{number}", property.key);
        }
        let class = has_class.then(|| format!("class{at}"));
        Product { class, product, vendor, version, full_version, properties }
    }
}

prop_compose! {
    fn hardware(disks: usize, networks: Vec<String>)(
        version in 7_u8..22, guest_info: bool, iso: bool, cpus: u32, memory_mib in 1..1_u64 << 40, slot in option::of(any::<u32>()),
        cards in prop::collection::vec((any::<prop::sample::Index>(), option::of(any::<u32>())), 0..3), firmware in 0..3_usize,
        extra_config in prop::collection::vec((name(), text()), 0..3),
    ) -> Hardware {
        let drives = (0..disks).map(|at| Device::Disk(numbered("disk", at))).collect();
        let mut controllers =
            vec![Controller { kind: ControllerKind::ParavirtualScsi { pci_slot: slot }, devices: drives }];
        if iso {
            controllers.push(Controller { kind: ControllerKind::Ide, devices: vec![Device::CdRom] });
        }
        let transports = [(guest_info, Transport::GuestInfo), (iso, Transport::Iso)];
        let nic = |(at, pci_slot): (prop::sample::Index, Option<u32>)| Nic { network: at.get(&networks).clone(), pci_slot };
        Hardware {
            version: format!("vmx-{version}"),
            transports: transports.into_iter().filter_map(|(is_there, transport)| is_there.then_some(transport)).collect(),
            cpus,
            memory_mib,
            controllers,
            nics: if networks.is_empty() { vec![] } else { cards.into_iter().map(nic).collect() },
            firmware: [Firmware::Bios, Firmware::Efi { secure_boot: false }, Firmware::Efi { secure_boot: true }][firmware],
            extra_config,
        }
    }
}

prop_compose! {
    fn parts()(
        files in prop::collection::vec((name(), any::<u64>(), any::<u64>(), any::<u64>()), 0..4),
        blank in option::of(any::<u64>()),
        networks in prop::collection::vec((name(), text()), 0..3),
    ) -> Descriptor {
        let mut descriptor = Descriptor::default();
        for ((href, size, one, other), at) in files.into_iter().zip(0..) {
            let id = numbered("file", at);
            descriptor.files.push(FileReference { id: id.clone(), href: numbered(&href, at), size });
            let (capacity, populated) = (one.max(other), one.min(other));
            descriptor.disks.push(VirtualDisk { id: numbered("disk", at), file: Some(id), capacity, populated });
        }
        if let Some(capacity) = blank {
            let id = numbered("disk", descriptor.disks.len());
            descriptor.disks.push(VirtualDisk { id, file: None, capacity, populated: 0 });
        }
        let networks = networks.into_iter().zip(0..);
        descriptor.networks.extend(networks.map(|((name, description), at)| Network { name: numbered(&name, at), description }));
        descriptor
    }
}

fn descriptor() -> impl Strategy<Value = Descriptor> {
    parts().prop_flat_map(|parts| {
        let networks = parts.networks.iter().map(|network| network.name.clone()).collect();
        let system = (
            (name(), name(), any::<u16>(), name(), text()),
            hardware(parts.disks.len(), networks),
            (0..3_usize).prop_flat_map(|count| (0..count).map(product_of).collect::<Vec<_>>()),
            option::of(text()),
            option::of(text()),
        );
        (Just(parts), system).prop_map(
            |(parts, ((id, name, os, vmw_type, description), hardware, products, eula, annotation))| {
                let os = OperatingSystem { id: os, vmw_type, description };
                Descriptor {
                    system: VirtualSystem { id, name, os, hardware, products, eula, annotation },
                    ..parts
                }
            },
        )
    })
}

/// The descriptor again, from what the reader makes of it.
fn back(document: &Document) -> Descriptor {
    let envelope = document.envelope();
    let text = |value: &Option<ovf_parser::Value>| value.as_ref().unwrap().text.clone();
    let number = |value: &Option<ovf_parser::Value>| value.as_ref().unwrap().number().unwrap();
    let system = envelope.systems()[0];
    let os = system.os.as_ref().unwrap();
    Descriptor {
        files: envelope
            .references
            .iter()
            .map(|file| FileReference {
                id: text(&file.id),
                href: text(&file.href),
                size: number(&file.size),
            })
            .collect(),
        disks: envelope
            .disks
            .iter()
            .map(|disk| VirtualDisk {
                id: text(&disk.id),
                file: disk.file.as_ref().map(|file| file.text.clone()),
                capacity: disk.bytes().unwrap(),
                populated: number(&disk.populated_size),
            })
            .collect(),
        networks: envelope
            .networks
            .iter()
            .map(|network| Network { name: text(&network.name), description: text(&network.description) })
            .collect(),
        system: VirtualSystem {
            id: text(&system.id),
            name: text(&system.name),
            os: OperatingSystem {
                id: u16::try_from(number(&os.id)).unwrap(),
                vmw_type: text(&os.vmw_type),
                description: text(&os.description),
            },
            hardware: hardware_back(&system.hardware[0]),
            products: system.products.iter().map(product_back).collect(),
            eula: system.eulas.first().map(|eula| text(&eula.license)),
            annotation: system.annotations.first().map(|annotation| text(&annotation.annotation)),
        },
    }
}

fn hardware_back(hardware: &ovf_parser::hardware::Hardware) -> Hardware {
    let mut back = Hardware {
        version: hardware.system.as_ref().unwrap().kinds().collect(),
        transports: hardware
            .transports()
            .map(|name| if name == "iso" { Transport::Iso } else { Transport::GuestInfo })
            .collect(),
        ..Hardware::default()
    };
    let pci_slot = |item: &ovf_parser::hardware::Item| -> Option<u32> {
        let config =
            item.config.iter().find(|config| config.key.as_deref() == Some("slotInfo.pciSlotNumber"))?;
        assert!(!config.required);
        config.value.as_ref()?.parse().ok()
    };
    for item in &hardware.items {
        let device = match item.resource_type_number().unwrap() {
            3 => {
                back.cpus = item.virtual_quantity.as_ref().unwrap().parse().unwrap();
                continue;
            }
            4 => {
                back.memory_mib = item.bytes().unwrap() >> 20;
                continue;
            }
            6 => {
                assert!(item.subtypes().eq(["VirtualSCSI"]));
                let kind = ControllerKind::ParavirtualScsi { pci_slot: pci_slot(item) };
                back.controllers.push(Controller { kind, devices: vec![] });
                continue;
            }
            5 => {
                back.controllers.push(Controller { kind: ControllerKind::Ide, devices: vec![] });
                continue;
            }
            10 => {
                assert!(item.subtypes().eq(["VmxNet3"]));
                back.nics.push(Nic { network: item.connections[0].text.clone(), pci_slot: pci_slot(item) });
                continue;
            }
            15 => Device::CdRom,
            17 => match HostResource::parse(&item.host_resources[0]) {
                HostResource::Disk(id) => Device::Disk(id.into()),
                other => panic!("{other:?}"),
            },
            kind => panic!("{kind}"),
        };
        back.controllers.last_mut().unwrap().devices.push(device);
    }
    let config = |key| hardware.config(key).and_then(|config| config.value.as_deref());
    if config("firmware") == Some("efi") {
        back.firmware =
            Firmware::Efi { secure_boot: config("bootOptions.efiSecureBootEnabled") == Some("true") };
    }
    let pair = |config: &ovf_parser::hardware::Config| {
        (config.key.clone().unwrap().text, config.value.clone().unwrap().text)
    };
    back.extra_config = hardware.extra_config.iter().map(pair).collect();
    back
}

fn product_back(product: &product::Product) -> Product {
    let text = |value: &Option<ovf_parser::Value>| value.as_ref().unwrap().text.clone();
    let mut last = None;
    let property = |property: &product::Property| {
        let is_new = property.category.as_ref().map(|category| category.position) != last;
        last = property.category.as_ref().map(|category| category.position);
        Property {
            category: property.category.as_ref().filter(|_| is_new).map(|category| category.text.clone()),
            key: text(&property.key),
            kind: match property.kind.as_deref() {
                Some("string") => PropertyKind::String,
                Some("boolean") => PropertyKind::Boolean,
                Some("int") => PropertyKind::Int,
                kind => panic!("{kind:?}"),
            },
            value: text(&property.value),
            user_configurable: property.is_user_configurable(),
            password: property.is_password(),
            qualifiers: property
                .qualifiers()
                .into_iter()
                .map(|qualifier| match qualifier {
                    product::Qualifier::MinLen(length) => Qualifier::MinLen(length.try_into().unwrap()),
                    product::Qualifier::MaxLen(length) => Qualifier::MaxLen(length.try_into().unwrap()),
                    product::Qualifier::ValueMap(values) => Qualifier::ValueMap(values),
                    other => panic!("{other:?}"),
                })
                .collect(),
            label: text(&property.label),
            description: text(&property.description),
        }
    };
    Product {
        class: product.class.as_ref().map(|class| class.text.clone()),
        product: text(&product.product),
        vendor: text(&product.vendor),
        version: text(&product.version),
        full_version: product.full_version.as_ref().map(|version| version.text.clone()),
        properties: product.properties.iter().map(property).collect(),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same(descriptor in descriptor()) {
        let xml = descriptor.to_xml().unwrap();
        let document = Document::parse(xml.as_bytes()).unwrap();
        prop_assert_eq!(document.validate(), []);
        prop_assert_eq!(document.to_xml(), &xml[..]);
        let back = back(&document);
        prop_assert_eq!(back.to_xml().unwrap(), xml);
        prop_assert_eq!(back, descriptor);
    }
}
