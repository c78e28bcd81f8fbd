//! The OVF descriptor of one virtual machine, as this workspace writes it.
//!
//! ```text
//! Descriptor -> to_xml -> <Envelope>: References, DiskSection, NetworkSection, VirtualSystem
//! ```
//!
//! What the types do not let anyone say is what importers refuse: instance identifiers and parents are given by
//! position, allocation units and the disk format are fixed, every `vmw:` element is optional to the reader.
//! Sources: DSP0243 1.1 and its schema (order of sections, `Info` first), the CIM schema of `Item` (an `xs:sequence`
//! in alphabetical order), and what ovftool writes where those leave a choice.

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

const OVF: &str = "http://schemas.dmtf.org/ovf/envelope/1";
const RASD: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData";
const VSSD: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData";
const VMW: &str = "http://www.vmware.com/schema/ovf";
/// Compared to the letter by importers.
const STREAM_OPTIMIZED: &str = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized";

/// A package with one virtual machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Descriptor {
    /// The files of the package, in the order in which the archive has them.
    pub files: Vec<FileReference>,
    /// The virtual disks that [`Device::Disk`] may name.
    pub disks: Vec<VirtualDisk>,
    /// The networks that [`Nic::network`] may name; whoever deploys maps each to one of theirs.
    pub networks: Vec<Network>,
    /// The virtual machine.
    pub system: VirtualSystem,
}

/// A file beside the descriptor.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FileReference {
    /// Unique in the descriptor.
    pub id: String,
    /// Bare name of the archive's member.
    pub href: String,
    /// Exact length in bytes.
    pub size: u64,
}

/// A virtual disk.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VirtualDisk {
    /// Unique in the descriptor.
    pub id: String,
    /// [`FileReference::id`] of its streamOptimized VMDK; `None` is a blank disk.
    pub file: Option<String>,
    /// In bytes, and no less than the VMDK's own: importers fail at the end of the upload otherwise.
    pub capacity: u64,
    /// Bytes in use, which clients show as the size on a thin disk.
    pub populated: u64,
}

/// A network to be mapped.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Network {
    /// Unique in the descriptor; shown when deploying.
    pub name: String,
    /// What it must offer, in a sentence.
    pub description: String,
}

/// The virtual machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VirtualSystem {
    /// Unique in the descriptor.
    pub id: String,
    /// The name proposed when deploying.
    pub name: String,
    /// The guest.
    pub os: OperatingSystem,
    /// The devices.
    pub hardware: Hardware,
    /// Products and their properties; the first is the one that clients name.
    pub products: Vec<Product>,
    /// A licence to accept when deploying.
    pub eula: Option<String>,
    /// The notes of the virtual machine.
    pub annotation: Option<String>,
}

/// The guest operating system.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OperatingSystem {
    /// `CIM_OperatingSystem.OsType`; 96 is 64-bit Debian.
    pub id: u16,
    /// vSphere's guest identifier, as in `debian10_64Guest`. It must be one that the hosts of
    /// [`Hardware::version`] know: a newer one is refused by them at import or silently becomes "other".
    pub vmw_type: String,
    /// Shown to people.
    pub description: String,
}

/// How a guest gets its properties.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// `guestinfo.ovfEnv`, read through VMware Tools.
    GuestInfo,
    /// A CD-ROM made at power-on; needs a [`Device::CdRom`].
    Iso,
}

/// Firmware of the virtual machine.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Firmware {
    /// The hypervisor's default.
    #[default]
    Bios,
    /// UEFI.
    Efi {
        /// Only signed boot loaders run. From `vmx-13` on.
        secure_boot: bool,
    },
}

/// Devices and settings of the virtual machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hardware {
    /// Virtual hardware version, as in `vmx-15`. Hosts refuse one newer than they are.
    pub version: String,
    /// Without one, properties never reach the guest.
    pub transports: Vec<Transport>,
    /// Virtual CPUs.
    pub cpus: u32,
    /// In MiB.
    pub memory_mib: u64,
    /// With what hangs on them.
    pub controllers: Vec<Controller>,
    /// In the order in which the guest finds them.
    pub nics: Vec<Nic>,
    /// Which kind of firmware.
    pub firmware: Firmware,
    /// Further settings of the `.vmx` file: key and value.
    pub extra_config: Vec<(String, String)>,
}

/// A controller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Controller {
    /// Its model.
    pub kind: ControllerKind,
    /// At its addresses in this order, from 0.
    pub devices: Vec<Device>,
}

/// Models of controllers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ControllerKind {
    /// VMware's paravirtual SCSI controller.
    ParavirtualScsi {
        /// `slotInfo.pciSlotNumber`; fixing it keeps the guest's other device names stable.
        pci_slot: Option<u32>,
    },
    /// The IDE controller, for CD-ROM drives.
    Ide,
}

/// What hangs on a controller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Device {
    /// The disk with this [`VirtualDisk::id`].
    Disk(String),
    /// An empty CD-ROM drive, not connected at power-on.
    CdRom,
}

/// A VMXNET3 network card.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Nic {
    /// A [`Network::name`].
    pub network: String,
    /// `slotInfo.pciSlotNumber`: the guest's predictable name follows it, so 192 is `ens192`.
    pub pci_slot: Option<u32>,
}

/// A product and its properties.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Product {
    /// First part of its properties' guest keys, `class.key`; none is the plain key.
    pub class: Option<String>,
    /// Name.
    pub product: String,
    /// Who makes it.
    pub vendor: String,
    /// Short version.
    pub version: String,
    /// Exact version, as a build's tag.
    pub full_version: Option<String>,
    /// In the order of the deployment dialogue.
    pub properties: Vec<Property>,
}

/// A property to fill in when deploying.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Property {
    /// Starts a group of this name, for this property and those after it.
    pub category: Option<String>,
    /// Unique in the product.
    pub key: String,
    /// What may be typed in.
    pub kind: PropertyKind,
    /// Default. Always written: a property without one keeps a machine from powering on, in some clients even where
    /// a value was given.
    pub value: String,
    /// Cannot be filled in where false; govc leaves such properties out altogether.
    pub user_configurable: bool,
    /// Hidden while typing, and in clients afterwards.
    pub password: bool,
    /// Further rules for the value.
    pub qualifiers: Vec<Qualifier>,
    /// Name shown to people.
    pub label: String,
    /// Explanation shown to people.
    pub description: String,
}

/// The type of a property.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PropertyKind {
    /// `string`
    #[default]
    String,
    /// `boolean`: `True` or `False` in the guest.
    Boolean,
    /// `int`
    Int,
}

/// A rule for a property's value (DSP0243, section 9.5.1, and CIM's `ValueMap`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Qualifier {
    /// At least so many characters. Makes the property mandatory.
    MinLen(u32),
    /// At most so many characters.
    MaxLen(u32),
    /// One of these; clients show a list. No value holds a quote.
    ValueMap(Vec<String>),
}

/// Why a descriptor cannot be written.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DescriptorError {
    /// An identifier is used twice.
    #[error("Two {what} of the descriptor are called `{name}`")]
    Duplicate {
        /// Kind of element, plural.
        what: &'static str,
        /// Its identifier.
        name: String,
    },
    /// An identifier is used but not defined.
    #[error("`{name}` is not one of the descriptor's {what}")]
    Unknown {
        /// Kind of element, plural.
        what: &'static str,
        /// The identifier.
        name: String,
    },
    /// XML 1.0 cannot hold this character in any form.
    #[error("The text of `{element}` has the control character U+{:04X}, which XML cannot hold", *.character as u32)]
    Character {
        /// Element or attribute.
        element: String,
        /// What is in the way.
        character: char,
    },
    /// A value list is written between quotes, without escapes.
    #[error("The value list of the property `{0}` has a quote, which OVF cannot write")]
    Quote(String),
    /// The `iso` transport has nothing to appear in.
    #[error("The `iso` transport needs a CD-ROM drive")]
    NoCdRom,
}

impl Descriptor {
    /// The document: UTF-8, two spaces of indentation, `\n` line ends; the same input gives the same text.
    ///
    /// # Errors
    /// Names defined twice or not at all, and text that XML or OVF cannot hold; see [`DescriptorError`].
    pub fn to_xml(&self) -> Result<String, DescriptorError> {
        self.check()?;
        let mut xml = Xml { writer: Writer::new_with_indent(Vec::new(), b' ', 2), unfit: None };
        xml.event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)));
        let namespaces = [
            ("xmlns", OVF),
            ("xmlns:ovf", OVF),
            ("xmlns:rasd", RASD),
            ("xmlns:vssd", VSSD),
            ("xmlns:vmw", VMW),
        ];
        xml.element("Envelope", &namespaces, |xml| {
            self.references(xml);
            self.disk_section(xml);
            self.network_section(xml);
            self.system.write(xml, self);
        });
        if let Some((element, character)) = xml.unfit {
            return Err(DescriptorError::Character { element, character });
        }
        let mut text = String::from_utf8(xml.writer.into_inner()).expect("every part of it was a str");
        text.push('\n');
        Ok(text)
    }

    fn check(&self) -> Result<(), DescriptorError> {
        let system = &self.system;
        unique("files", self.files.iter().map(|file| &file.id))?;
        unique("member names", self.files.iter().map(|file| &file.href))?;
        unique("disks", self.disks.iter().map(|disk| &disk.id))?;
        unique("networks", self.networks.iter().map(|network| &network.name))?;
        for file in self.disks.iter().filter_map(|disk| disk.file.as_ref()) {
            known("files", file, self.files.iter().map(|file| &file.id))?;
        }
        for nic in &system.hardware.nics {
            known("networks", &nic.network, self.networks.iter().map(|network| &network.name))?;
        }
        let devices = || system.hardware.controllers.iter().flat_map(|controller| &controller.devices);
        for device in devices() {
            if let Device::Disk(id) = device {
                known("disks", id, self.disks.iter().map(|disk| &disk.id))?;
            }
        }
        if system.hardware.transports.contains(&Transport::Iso) && !devices().any(|d| *d == Device::CdRom) {
            return Err(DescriptorError::NoCdRom);
        }
        for product in &system.products {
            unique("properties", product.properties.iter().map(|property| &property.key))?;
            for property in &product.properties {
                for qualifier in &property.qualifiers {
                    if let Qualifier::ValueMap(values) = qualifier
                        && values.iter().any(|value| value.contains('"'))
                    {
                        return Err(DescriptorError::Quote(property.key.clone()));
                    }
                }
            }
        }
        Ok(())
    }

    fn references(&self, xml: &mut Xml) {
        xml.element("References", &[], |xml| {
            for FileReference { id, href, size } in &self.files {
                xml.empty("File", &[("ovf:id", id), ("ovf:href", href), ("ovf:size", &size.to_string())]);
            }
        });
    }

    fn disk_section(&self, xml: &mut Xml) {
        xml.element("DiskSection", &[], |xml| {
            xml.leaf("Info", "Virtual disks");
            for disk in &self.disks {
                let (capacity, populated) = (disk.capacity.to_string(), disk.populated.to_string());
                let mut attributes = vec![("ovf:diskId", disk.id.as_str())];
                attributes.extend(disk.file.iter().map(|file| ("ovf:fileRef", file.as_str())));
                attributes.extend([
                    ("ovf:capacity", capacity.as_str()),
                    ("ovf:capacityAllocationUnits", "byte"),
                    ("ovf:populatedSize", &populated),
                    ("ovf:format", STREAM_OPTIMIZED),
                ]);
                xml.empty("Disk", &attributes);
            }
        });
    }

    fn network_section(&self, xml: &mut Xml) {
        xml.element("NetworkSection", &[], |xml| {
            xml.leaf("Info", "Networks");
            for Network { name, description } in &self.networks {
                xml.element("Network", &[("ovf:name", name)], |xml| xml.leaf("Description", description));
            }
        });
    }
}

impl VirtualSystem {
    fn write(&self, xml: &mut Xml, descriptor: &Descriptor) {
        xml.element("VirtualSystem", &[("ovf:id", &self.id)], |xml| {
            xml.leaf("Info", "A virtual machine");
            xml.leaf("Name", &self.name);
            let os = [("ovf:id", &*self.os.id.to_string()), ("vmw:osType", &self.os.vmw_type)];
            xml.element("OperatingSystemSection", &os, |xml| {
                xml.leaf("Info", "The guest operating system");
                xml.leaf("Description", &self.os.description);
            });
            self.hardware.write(xml, &self.name, descriptor);
            for product in &self.products {
                product.write(xml);
            }
            if let Some(eula) = &self.eula {
                xml.element("EulaSection", &[], |xml| {
                    xml.leaf("Info", "The licence agreement");
                    xml.leaf("License", eula);
                });
            }
            if let Some(annotation) = &self.annotation {
                xml.element("AnnotationSection", &[], |xml| {
                    xml.leaf("Info", "Notes on the virtual machine");
                    xml.leaf("Annotation", annotation);
                });
            }
        });
    }
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Self::GuestInfo => "com.vmware.guestInfo",
            Self::Iso => "iso",
        }
    }
}

impl Hardware {
    fn write(&self, xml: &mut Xml, name: &str, descriptor: &Descriptor) {
        let transport = self.transports.iter().map(|t| t.name()).collect::<Vec<_>>().join(" ");
        // An empty `ovf:transport` means something else to some readers than none.
        let attributes = [("ovf:transport", transport.as_str())];
        let attributes = if transport.is_empty() { &[][..] } else { &attributes };
        xml.element("VirtualHardwareSection", attributes, |xml| {
            xml.leaf("Info", "Virtual hardware");
            xml.element("System", &[], |xml| {
                xml.leaf("vssd:ElementName", "Virtual Hardware Family");
                xml.leaf("vssd:InstanceID", "0");
                xml.leaf("vssd:VirtualSystemIdentifier", name);
                xml.leaf("vssd:VirtualSystemType", &self.version);
            });
            for (item, index) in self.items(descriptor).iter().zip(1_u32..) {
                item.write(xml, index);
            }
            if let Firmware::Efi { secure_boot } = self.firmware {
                xml.vmw("vmw:Config", "firmware", "efi");
                xml.vmw(
                    "vmw:Config",
                    "bootOptions.efiSecureBootEnabled",
                    if secure_boot { "true" } else { "false" },
                );
            }
            for (key, value) in &self.extra_config {
                xml.vmw("vmw:ExtraConfig", key, value);
            }
        });
    }

    /// The devices as CIM items. An item's InstanceID is its place here, counted from one.
    fn items(&self, descriptor: &Descriptor) -> Vec<Item> {
        let mut items = vec![
            Item {
                units: Some("hertz * 10^6"),
                name: format!("{} virtual CPUs", self.cpus),
                quantity: Some(self.cpus.into()),
                ..Item::new(3, "Number of virtual CPUs")
            },
            Item {
                units: Some("byte * 2^20"),
                name: format!("{} MiB of memory", self.memory_mib),
                quantity: Some(self.memory_mib),
                ..Item::new(4, "Memory size")
            },
        ];
        let (mut scsi, mut ide, mut drives) = (0_u32, 0_u32, 0_u32);
        for controller in &self.controllers {
            let (item, counter) = match controller.kind {
                ControllerKind::ParavirtualScsi { pci_slot } => {
                    // Case matters: `virtualscsi` becomes a Parallel SCSI controller.
                    let item =
                        Item { subtype: Some("VirtualSCSI"), pci_slot, ..Item::new(6, "SCSI controller") };
                    (item, &mut scsi)
                }
                ControllerKind::Ide => (Item::new(5, "IDE controller"), &mut ide),
            };
            let name = format!("{} {counter}", item.description);
            items.push(Item { address: Some(*counter), name, ..item });
            *counter += 1;
            let parent = Some(items.len());
            // Seven is the SCSI controller's own address.
            for (device, address) in controller.devices.iter().zip((0..).filter(|at| *at != 7)) {
                let place = Item { address_on_parent: Some(address), parent, ..Item::default() };
                items.push(match device {
                    Device::Disk(id) => {
                        let number =
                            descriptor.disks.iter().position(|disk| disk.id == *id).map_or(0, |at| at + 1);
                        Item {
                            name: format!("Hard disk {number}"),
                            host_resource: Some(format!("ovf:/disk/{id}")),
                            kind: 17,
                            description: "Hard disk",
                            ..place
                        }
                    }
                    Device::CdRom => {
                        drives += 1;
                        Item {
                            name: format!("CD-ROM drive {drives}"),
                            connected: Some(false),
                            // What ovftool exports an empty drive as; it needs no device of the host.
                            subtype: Some("vmware.cdrom.remotepassthrough"),
                            kind: 15,
                            description: "CD-ROM drive",
                            ..place
                        }
                    }
                });
            }
        }
        for (nic, at) in self.nics.iter().zip(0_u32..) {
            items.push(Item {
                // The first seven addresses are those of the devices that every machine has.
                address_on_parent: Some(7 + at),
                connected: Some(true),
                connection: Some(nic.network.clone()),
                name: format!("Network adapter {}", at + 1),
                subtype: Some("VmxNet3"),
                pci_slot: nic.pci_slot,
                ..Item::new(10, "VMXNET3 network card")
            });
        }
        items
    }
}

/// One `Item`; fields that are not set are not written.
#[derive(Default)]
struct Item {
    address: Option<u32>,
    address_on_parent: Option<u32>,
    units: Option<&'static str>,
    connected: Option<bool>,
    connection: Option<String>,
    description: &'static str,
    name: String,
    host_resource: Option<String>,
    parent: Option<usize>,
    subtype: Option<&'static str>,
    /// `ResourceType`: 3 CPU, 4 memory, 5 IDE, 6 SCSI, 10 network, 15 CD-ROM, 17 disk.
    kind: u32,
    quantity: Option<u64>,
    pci_slot: Option<u32>,
}

impl Item {
    fn new(kind: u32, description: &'static str) -> Self {
        Self { kind, description, ..Self::default() }
    }

    /// Writes the children in the alphabetical order that the schema asks for, VMware's own last.
    fn write(&self, xml: &mut Xml, instance_id: u32) {
        let fields = [
            ("rasd:Address", self.address.map(|v| v.to_string())),
            ("rasd:AddressOnParent", self.address_on_parent.map(|v| v.to_string())),
            ("rasd:AllocationUnits", self.units.map(Into::into)),
            ("rasd:AutomaticAllocation", self.connected.map(|v| v.to_string())),
            ("rasd:Connection", self.connection.clone()),
            ("rasd:Description", Some(self.description.into())),
            ("rasd:ElementName", Some(self.name.clone())),
            ("rasd:HostResource", self.host_resource.clone()),
            ("rasd:InstanceID", Some(instance_id.to_string())),
            ("rasd:Parent", self.parent.map(|v| v.to_string())),
            ("rasd:ResourceSubType", self.subtype.map(Into::into)),
            ("rasd:ResourceType", Some(self.kind.to_string())),
            ("rasd:VirtualQuantity", self.quantity.map(|v| v.to_string())),
        ];
        xml.element("Item", &[], |xml| {
            for (name, value) in &fields {
                if let Some(value) = value {
                    xml.leaf(name, value);
                }
            }
            if let Some(slot) = self.pci_slot {
                xml.vmw("vmw:Config", "slotInfo.pciSlotNumber", &slot.to_string());
            }
        });
    }
}

impl Product {
    fn write(&self, xml: &mut Xml) {
        let class: Vec<_> = self.class.iter().map(|class| ("ovf:class", class.as_str())).collect();
        xml.element("ProductSection", &class, |xml| {
            xml.leaf("Info", "Information about the installed software");
            xml.leaf("Product", &self.product);
            xml.leaf("Vendor", &self.vendor);
            xml.leaf("Version", &self.version);
            if let Some(full_version) = &self.full_version {
                xml.leaf("FullVersion", full_version);
            }
            for property in &self.properties {
                property.write(xml);
            }
        });
    }
}

impl Property {
    fn write(&self, xml: &mut Xml) {
        if let Some(category) = &self.category {
            xml.leaf("Category", category);
        }
        let kind = match self.kind {
            PropertyKind::String => "string",
            PropertyKind::Boolean => "boolean",
            PropertyKind::Int => "int",
        };
        let configurable = if self.user_configurable { "true" } else { "false" };
        let mut attributes = vec![
            ("ovf:key", self.key.as_str()),
            ("ovf:type", kind),
            ("ovf:value", &self.value),
            ("ovf:userConfigurable", configurable),
        ];
        if self.password {
            attributes.push(("ovf:password", "true"));
        }
        let qualifiers = self.qualifiers.iter().map(Qualifier::text).collect::<Vec<_>>().join(",");
        if !qualifiers.is_empty() {
            attributes.push(("ovf:qualifiers", &qualifiers));
        }
        xml.element("Property", &attributes, |xml| {
            xml.leaf("Label", &self.label);
            xml.leaf("Description", &self.description);
        });
    }
}

impl Qualifier {
    fn text(&self) -> String {
        match self {
            Self::MinLen(n) => format!("MinLen({n})"),
            Self::MaxLen(n) => format!("MaxLen({n})"),
            Self::ValueMap(values) => {
                let values: Vec<_> = values.iter().map(|value| format!("\"{value}\"")).collect();
                format!("ValueMap{{{}}}", values.join(","))
            }
        }
    }
}

fn unique<'a>(what: &'static str, names: impl Iterator<Item = &'a String>) -> Result<(), DescriptorError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(DescriptorError::Duplicate { what, name: name.clone() });
        }
    }
    Ok(())
}

fn known<'a>(
    what: &'static str,
    name: &String,
    mut names: impl Iterator<Item = &'a String>,
) -> Result<(), DescriptorError> {
    if names.any(|other| other == name) {
        Ok(())
    } else {
        Err(DescriptorError::Unknown { what, name: name.clone() })
    }
}

/// The document being written, and the first text that XML cannot hold.
struct Xml {
    writer: Writer<Vec<u8>>,
    unfit: Option<(String, char)>,
}

impl Xml {
    fn event(&mut self, event: Event<'_>) {
        self.writer.write_event(event).expect("writing to memory cannot fail");
    }

    fn element(&mut self, name: &str, attributes: &[(&str, &str)], content: impl FnOnce(&mut Self)) {
        let start = self.start(name, attributes);
        let end = start.to_end().into_owned();
        self.event(Event::Start(start));
        content(self);
        self.event(Event::End(end));
    }

    fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) {
        let start = self.start(name, attributes);
        self.event(Event::Empty(start));
    }

    fn leaf(&mut self, name: &str, text: &str) {
        self.examine(name, text);
        self.element(name, &[], |xml| xml.event(Event::Text(BytesText::new(text))));
    }

    /// Without `required="false"`, a reader that does not know the key has to refuse the package.
    fn vmw(&mut self, name: &str, key: &str, value: &str) {
        self.empty(name, &[("ovf:required", "false"), ("vmw:key", key), ("vmw:value", value)]);
    }

    fn start(&mut self, name: &str, attributes: &[(&str, &str)]) -> quick_xml::events::BytesStart<'static> {
        for (attribute, value) in attributes {
            self.examine(attribute, value);
        }
        quick_xml::events::BytesStart::new(name.to_owned()).with_attributes(attributes.iter().copied())
    }

    fn examine(&mut self, element: &str, text: &str) {
        let is_unfit = |c: &char| {
            matches!(c, '\0'..='\x1f' if !matches!(c, '\t' | '\n' | '\r'))
                || matches!(c, '\u{fffe}' | '\u{ffff}')
        };
        if self.unfit.is_none() {
            self.unfit = text.chars().find(is_unfit).map(|character| (element.into(), character));
        }
    }
}

#[cfg(test)]
mod tests;
