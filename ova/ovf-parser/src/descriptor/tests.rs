use std::collections::BTreeSet;

use quick_xml::events::Event;
use quick_xml::reader::Reader;

use super::*;

fn property(key: &str) -> Property {
    Property {
        key: key.into(),
        user_configurable: true,
        label: format!("Label of {key}"),
        description: format!("Description of {key}."),
        ..Property::default()
    }
}

/// Everything that the model can say.
fn full() -> Descriptor {
    Descriptor {
        files: vec![FileReference { id: "file1".into(), href: "installer-disk1.vmdk".into(), size: 123_456 }],
        disks: vec![
            VirtualDisk {
                id: "vmdisk1".into(),
                file: Some("file1".into()),
                capacity: 20 << 30,
                populated: 400 << 20,
            },
            VirtualDisk { id: "vmdisk2".into(), file: None, capacity: 1 << 30, populated: 0 },
        ],
        networks: vec![Network {
            name: "VM Network".into(),
            description: "Reaches <vCenter> & the console.".into(),
        }],
        system: VirtualSystem {
            id: "installer".into(),
            name: "installer".into(),
            os: OperatingSystem {
                id: 96,
                vmw_type: "debian10_64Guest".into(),
                description: "Debian GNU/Linux (64-bit)".into(),
            },
            hardware: Hardware {
                version: "vmx-15".into(),
                transports: vec![Transport::GuestInfo, Transport::Iso],
                cpus: 2,
                memory_mib: 4096,
                controllers: vec![
                    Controller {
                        kind: ControllerKind::ParavirtualScsi { pci_slot: Some(160) },
                        devices: vec![Device::Disk("vmdisk1".into()), Device::Disk("vmdisk2".into())],
                    },
                    Controller { kind: ControllerKind::Ide, devices: vec![Device::CdRom] },
                ],
                nics: vec![Nic { network: "VM Network".into(), pci_slot: Some(192) }],
                firmware: Firmware::Efi { secure_boot: true },
                extra_config: vec![("disk.EnableUUID".into(), "TRUE".into())],
            },
            products: vec![Product {
                class: None,
                product: "Installer".into(),
                vendor: "Vendor".into(),
                version: "1.0.0".into(),
                full_version: Some("1.0.0+signature".into()),
                properties: vec![
                    Property {
                        category: Some("Gateway".into()),
                        qualifiers: vec![Qualifier::MinLen(1), Qualifier::MaxLen(63)],
                        ..property("gateway-name")
                    },
                    Property { password: true, ..property("pairing-code") },
                    Property {
                        category: Some("Other".into()),
                        value: "a \"quoted\" <value>\nof two lines".into(),
                        ..property("free-text")
                    },
                    Property {
                        value: "small".into(),
                        qualifiers: vec![Qualifier::ValueMap(vec!["small".into(), "large".into()])],
                        ..property("size")
                    },
                    Property { kind: PropertyKind::Boolean, value: "True".into(), ..property("verbose") },
                    Property {
                        kind: PropertyKind::Int,
                        value: "24".into(),
                        user_configurable: false,
                        ..property("prefix")
                    },
                ],
            }],
            eula: Some("The first line.\nThe second line.".into()),
            annotation: Some("Fill in the properties, power on.".into()),
        },
    }
}

#[test]
fn document() {
    insta::assert_snapshot!(full().to_xml().unwrap());
}

/// Path, attributes and text.
type Element = (String, Vec<(String, String)>, String);

/// Every element, in document order.
fn elements(xml: &str) -> Vec<Element> {
    let mut reader = Reader::from_str(xml);
    let mut open: Vec<usize> = Vec::new();
    let mut found: Vec<Element> = Vec::new();
    loop {
        let event = reader.read_event().unwrap();
        match &event {
            Event::Start(start) | Event::Empty(start) => {
                let parent = open.last().map_or("", |at| &found[*at].0);
                let path = format!("{parent}/{}", start.name().as_ref());
                let attributes = start.attributes().map(|attribute| {
                    let attribute = attribute.unwrap();
                    let value = attribute.normalized_value(quick_xml::XmlVersion::Implicit1_0).unwrap();
                    (attribute.key.as_ref().to_string(), value.into_owned())
                });
                let attributes = attributes.collect();
                if matches!(event, Event::Start(_)) {
                    open.push(found.len());
                }
                found.push((path, attributes, String::new()));
            }
            Event::Text(text) => {
                if let Some(at) = open.last() {
                    found[*at].2.push_str(text);
                }
            }
            Event::End(_) => _ = open.pop().unwrap(),
            Event::Eof => break,
            _ => {}
        }
    }
    assert!(open.is_empty(), "every element is closed");
    found
}

fn attribute<'a>(attributes: &'a [(String, String)], name: &str) -> &'a str {
    attributes
        .iter()
        .find(|(key, _)| key == name)
        .map_or_else(|| panic!("no {name} in {attributes:?}"), |(_, v)| v)
}

fn children(elements: &[Element], path: &str) -> Vec<String> {
    let prefix = format!("{path}/");
    elements
        .iter()
        .filter_map(|(path, ..)| path.strip_prefix(&prefix))
        .filter(|rest| !rest.contains('/'))
        .map(Into::into)
        .collect()
}

#[test]
fn sections_are_in_the_order_of_the_schema() {
    let elements = elements(&full().to_xml().unwrap());
    assert_eq!(
        children(&elements, "/Envelope"),
        ["References", "DiskSection", "NetworkSection", "VirtualSystem"]
    );
    let system = children(&elements, "/Envelope/VirtualSystem");
    assert_eq!(
        system,
        [
            "Info",
            "Name",
            "OperatingSystemSection",
            "VirtualHardwareSection",
            "ProductSection",
            "EulaSection",
            "AnnotationSection"
        ]
    );
    for section in ["DiskSection", "NetworkSection", "VirtualSystem"]
        .map(|section| format!("/Envelope/{section}"))
        .into_iter()
        .chain(
            system.iter().filter(|s| s.ends_with("Section")).map(|s| format!("/Envelope/VirtualSystem/{s}")),
        )
    {
        assert_eq!(children(&elements, &section)[0], "Info", "{section}");
    }
}

#[test]
fn items_are_alphabetical_and_refer_to_each_other() {
    let xml = full().to_xml().unwrap();
    let (mut ids, mut parents) = (BTreeSet::new(), Vec::new());
    for item in xml.split("<Item>").skip(1).map(|rest| rest.split("</Item>").next().unwrap()) {
        let elements = elements(&format!("<Item>{item}</Item>"));
        let mut names = children(&elements, "/Item");
        let own = names.iter().position(|name| name.starts_with("vmw:")).unwrap_or(names.len());
        assert!(names[own..].iter().all(|name| name.starts_with("vmw:")), "VMware's own are last");
        names.truncate(own);
        assert!(names.is_sorted(), "{names:?}");
        let text = |name: &str| {
            elements
                .iter()
                .find(|(path, ..)| path.ends_with(&format!(":{name}")))
                .map(|(.., text)| text.clone())
        };
        assert!(ids.insert(text("InstanceID").unwrap()), "instance identifiers are unique");
        parents.extend(text("Parent"));
    }
    assert_eq!(ids.len(), 8);
    assert_eq!(parents.len(), 3);
    assert!(parents.iter().all(|parent| ids.contains(parent)));
}

#[test]
fn what_a_reader_may_not_know_is_optional() {
    for (path, attributes, _) in elements(&full().to_xml().unwrap()) {
        if path.contains("/vmw:") {
            assert_eq!(attribute(&attributes, "ovf:required"), "false", "{path} {attributes:?}");
        }
    }
}

#[test]
fn every_property_has_a_default_and_texts_survive() {
    let full = full();
    let elements = elements(&full.to_xml().unwrap());
    let written = elements.iter().filter(|(path, ..)| path.ends_with("/ProductSection/Property"));
    let expected = &full.system.products[0].properties;
    let written: Vec<_> = written.collect();
    assert_eq!(written.len(), expected.len());
    for ((_, attributes, _), property) in written.iter().zip(expected) {
        assert_eq!(attribute(attributes, "ovf:key"), property.key);
        assert_eq!(attribute(attributes, "ovf:value"), property.value);
    }
}

#[test]
fn text_cannot_break_out() {
    let text = "</Annotation><x a=\"1\">&amp;<![CDATA[ ]]> 'é'";
    let mut descriptor = full();
    descriptor.system.annotation = Some(text.into());
    descriptor.system.name = text.into();
    let names =
        |descriptor: &Descriptor| elements(&descriptor.to_xml().unwrap()).into_iter().map(|(path, ..)| path);
    assert!(names(&descriptor).eq(names(&full())), "the same elements");
}

#[test]
fn empty_parts_are_left_out() {
    let xml = Descriptor::default().to_xml().unwrap();
    for name in ["transport", "vmw:Config", "EulaSection", "AnnotationSection", "ProductSection"] {
        assert!(!xml.contains(name), "{name}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let error = |change: fn(&mut Descriptor)| {
        let mut descriptor = full();
        change(&mut descriptor);
        descriptor.to_xml().unwrap_err().to_string()
    };
    insta::assert_snapshot!(
        [
            error(|d| d.files.push(d.files[0].clone())),
            error(|d| d.disks[1].id = "vmdisk1".into()),
            error(|d| d.disks[0].file = Some("file2".into())),
            error(|d| d.networks.clear()),
            error(|d| d.system.hardware.controllers[0].devices.push(Device::Disk("vmdisk3".into()))),
            error(|d| _ = d.system.hardware.controllers.pop()),
            error(|d| d.system.products[0].properties.push(property("size"))),
            error(|d| d.system.products[0].properties[3].qualifiers =
                vec![Qualifier::ValueMap(vec!["\"".into()])]),
            error(|d| d.system.annotation = Some("bell \u{7}".into())),
            error(|d| d.system.products[0].properties[0].value = "nul \0".into()),
        ]
        .join("\n")
    );
}
