//! What a descriptor says: the envelope and the sections in it.
//!
//! Facts as they were written, with their places; whether they fit together is for [`validate`](crate::validate).

use crate::hardware::{BootOrder, Hardware};
use crate::product::Product;
use crate::tree::{Dialect, Element, Namespace};
use crate::units;
use crate::value::{Position, Value};

/// An OVF package.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Envelope {
    /// Where it begins.
    pub position: Position,
    /// Which OVF it is.
    pub dialect: Dialect,
    /// What it says of its version.
    pub version: Option<Value>,
    /// The files of the package.
    pub references: Vec<File>,
    /// The disks that items may name.
    pub disks: Vec<Disk>,
    /// The networks that items may name.
    pub networks: Vec<Network>,
    /// Sizes of the virtual machine to choose from.
    pub deployment_options: Vec<Configuration>,
    /// The virtual systems; one is right, a collection may hold more.
    pub content: Vec<Content>,
    /// Other sections.
    pub sections: Vec<Section>,
}

impl Envelope {
    pub(crate) fn of(element: &Element, dialect: Dialect) -> Envelope {
        let mut envelope = Envelope {
            position: element.position(),
            dialect,
            version: element.ovf("version"),
            references: Vec::new(),
            disks: Vec::new(),
            networks: Vec::new(),
            deployment_options: Vec::new(),
            content: Vec::new(),
            sections: Vec::new(),
        };
        for child in element.elements() {
            let its = |name| child.elements().filter(move |element| element.ovf_kind() == Some(name));
            match child.ovf_kind() {
                Some("References") => envelope.references.extend(its("File").map(File::of)),
                Some("DiskSection") => envelope.disks.extend(its("Disk").map(Disk::of)),
                Some("NetworkSection") => envelope.networks.extend(its("Network").map(Network::of)),
                Some("DeploymentOptionSection") => {
                    envelope.deployment_options.extend(its("Configuration").map(Configuration::of));
                }
                // Texts in other languages, for `msgid`.
                Some("Strings") => {}
                _ => match Content::of(child) {
                    Some(content) => envelope.content.push(content),
                    None => envelope.sections.push(Section::of(child)),
                },
            }
        }
        envelope
    }

    /// Every virtual system, also those in collections, in document order.
    #[must_use]
    pub fn systems(&self) -> Vec<&VirtualSystem> {
        let mut systems = Vec::new();
        self.content.iter().for_each(|content| content.collect(&mut systems));
        systems
    }

    /// The file of this identifier.
    #[must_use]
    pub fn file(&self, id: &str) -> Option<&File> {
        self.references.iter().find(|file| file.id.as_deref() == Some(id))
    }

    /// The disk of this identifier.
    #[must_use]
    pub fn disk(&self, id: &str) -> Option<&Disk> {
        self.disks.iter().find(|disk| disk.id.as_deref() == Some(id))
    }
}

/// A file beside the descriptor.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct File {
    /// Where it begins.
    pub position: Position,
    /// What others name it by.
    pub id: Option<Value>,
    /// Where it is: a name beside the descriptor, a path or a URL. Not to be trusted.
    pub href: Option<Value>,
    /// Length in bytes, as it is in the package.
    pub size: Option<Value>,
    /// `gzip` where it is compressed as a whole.
    pub compression: Option<Value>,
    /// Where it is cut into pieces: the length of each.
    pub chunk_size: Option<Value>,
}

impl File {
    fn of(element: &Element) -> File {
        File {
            position: element.position(),
            id: element.ovf("id"),
            href: element.ovf("href"),
            size: element.ovf("size"),
            compression: element.ovf("compression"),
            chunk_size: element.ovf("chunkSize"),
        }
    }
}

/// A virtual disk.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Disk {
    /// Where it begins.
    pub position: Position,
    /// What others name it by.
    pub id: Option<Value>,
    /// The [`File::id`] of its content; none is a blank disk.
    pub file: Option<Value>,
    /// How large it is, in its units: a number or `${property}`. See [`Disk::bytes`].
    pub capacity: Option<Value>,
    /// The units; none is bytes.
    pub capacity_units: Option<Value>,
    /// Bytes in use.
    pub populated_size: Option<Value>,
    /// What kind of file it is: a URI.
    pub format: Option<Value>,
    /// The [`Disk::id`] of the disk that it is a change to.
    pub parent: Option<Value>,
}

impl Disk {
    fn of(element: &Element) -> Disk {
        Disk {
            position: element.position(),
            id: element.ovf("diskId"),
            file: element.ovf("fileRef"),
            capacity: element.ovf("capacity"),
            capacity_units: element.ovf("capacityAllocationUnits"),
            populated_size: element.ovf("populatedSize"),
            format: element.ovf("format"),
            parent: element.ovf("parentRef"),
        }
    }

    /// The capacity in bytes. `None` where it is missing, no number, a property's or beyond 64 bits.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        units::bytes(self.capacity.as_ref()?.number()?, self.capacity_units.as_deref())
    }

    /// The property that has the capacity: `size` of `${size}`.
    #[must_use]
    pub fn capacity_property(&self) -> Option<&str> {
        self.capacity.as_ref()?.trim().strip_prefix("${")?.strip_suffix('}')
    }

    /// The capacity in bytes where the property that has it is set to this value.
    #[must_use]
    pub fn bytes_at(&self, value: &str) -> Option<u64> {
        units::bytes(value.trim().parse().ok()?, self.capacity_units.as_deref())
    }
}

/// A network to be mapped to one of theirs by those who deploy.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Network {
    /// Where it begins.
    pub position: Position,
    /// What items name it by.
    pub name: Option<Value>,
    /// What it must offer.
    pub description: Option<Value>,
}

impl Network {
    fn of(element: &Element) -> Network {
        Network {
            position: element.position(),
            name: element.ovf("name"),
            description: element.leaf("Description"),
        }
    }
}

/// A deployment option.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Configuration {
    /// Where it begins.
    pub position: Position,
    /// What items name it by.
    pub id: Option<Value>,
    /// Whether it is chosen where nobody chooses; without any such, the first is.
    pub is_default: bool,
    /// Name shown to people.
    pub label: Option<Value>,
    /// Explanation shown to people.
    pub description: Option<Value>,
}

impl Configuration {
    fn of(element: &Element) -> Configuration {
        Configuration {
            position: element.position(),
            id: element.ovf("id"),
            is_default: element.ovf("default").and_then(|value| value.boolean()) == Some(true),
            label: element.leaf("Label"),
            description: element.leaf("Description"),
        }
    }
}

/// What is deployed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// One virtual machine.
    System(VirtualSystem),
    /// Several.
    Collection(VirtualSystemCollection),
}

impl Content {
    fn of(element: &Element) -> Option<Content> {
        match element.ovf_kind()? {
            "VirtualSystem" => Some(Content::System(VirtualSystem::of(element))),
            "VirtualSystemCollection" => Some(Content::Collection(VirtualSystemCollection::of(element))),
            _ => None,
        }
    }

    fn collect<'a>(&'a self, systems: &mut Vec<&'a VirtualSystem>) {
        match self {
            Content::System(system) => systems.push(system),
            Content::Collection(collection) => {
                collection.content.iter().for_each(|content| content.collect(systems))
            }
        }
    }
}

/// Several virtual systems that are deployed together.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VirtualSystemCollection {
    /// Where it begins.
    pub position: Position,
    /// Unique in the document.
    pub id: Option<Value>,
    /// What it is for.
    pub info: Option<Value>,
    /// The name proposed when deploying.
    pub name: Option<Value>,
    /// Products of all of them.
    pub products: Vec<Product>,
    /// Licences to accept.
    pub eulas: Vec<Eula>,
    /// Notes.
    pub annotations: Vec<Annotation>,
    /// What is in it.
    pub content: Vec<Content>,
    /// Other sections.
    pub sections: Vec<Section>,
}

impl VirtualSystemCollection {
    fn of(element: &Element) -> VirtualSystemCollection {
        let mut collection = VirtualSystemCollection {
            position: element.position(),
            id: element.ovf("id"),
            info: element.leaf("Info"),
            name: element.leaf("Name"),
            ..VirtualSystemCollection::default()
        };
        for child in element.elements() {
            match child.ovf_kind() {
                Some("Info" | "Name") => {}
                Some("ProductSection") => collection.products.push(Product::of(child)),
                Some("EulaSection") => collection.eulas.push(Eula::of(child)),
                Some("AnnotationSection") => collection.annotations.push(Annotation::of(child)),
                _ => match Content::of(child) {
                    Some(content) => collection.content.push(content),
                    None => collection.sections.push(Section::of(child)),
                },
            }
        }
        collection
    }
}

/// A virtual machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VirtualSystem {
    /// Where it begins.
    pub position: Position,
    /// Unique in the document.
    pub id: Option<Value>,
    /// What it is for.
    pub info: Option<Value>,
    /// The name proposed when deploying.
    pub name: Option<Value>,
    /// The guest.
    pub os: Option<OperatingSystem>,
    /// The devices; where there are several, for different hypervisors.
    pub hardware: Vec<Hardware>,
    /// What is installed, with its properties.
    pub products: Vec<Product>,
    /// Licences to accept.
    pub eulas: Vec<Eula>,
    /// Notes.
    pub annotations: Vec<Annotation>,
    /// Boot orders that stand beside the hardware.
    pub boot_orders: Vec<BootOrder>,
    /// Other sections.
    pub sections: Vec<Section>,
}

impl VirtualSystem {
    fn of(element: &Element) -> VirtualSystem {
        let mut system = VirtualSystem {
            position: element.position(),
            id: element.ovf("id"),
            info: element.leaf("Info"),
            name: element.leaf("Name"),
            ..VirtualSystem::default()
        };
        for child in element.elements() {
            match child.ovf_kind() {
                Some("Info" | "Name") => {}
                Some("OperatingSystemSection") => {
                    system.os.get_or_insert_with(|| OperatingSystem::of(child));
                }
                Some("VirtualHardwareSection") => system.hardware.push(Hardware::of(child)),
                Some("ProductSection") => system.products.push(Product::of(child)),
                Some("EulaSection") => system.eulas.push(Eula::of(child)),
                Some("AnnotationSection") => system.annotations.push(Annotation::of(child)),
                _ if child.kind() == (&Namespace::Vmw, "BootOrderSection") => {
                    system.boot_orders.push(BootOrder::of(child));
                }
                _ => system.sections.push(Section::of(child)),
            }
        }
        system
    }

    /// The properties of all its products, with their products.
    pub fn properties(&self) -> impl Iterator<Item = (&Product, &crate::product::Property)> {
        self.products
            .iter()
            .flat_map(|product| product.properties.iter().map(move |property| (product, property)))
    }
}

/// The guest operating system.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OperatingSystem {
    /// Where it begins.
    pub position: Position,
    /// `CIM_OperatingSystem.OsType`.
    pub id: Option<Value>,
    /// Its version.
    pub version: Option<Value>,
    /// vSphere's guest identifier, as in `debian10_64Guest`.
    pub vmw_type: Option<Value>,
    /// Shown to people.
    pub description: Option<Value>,
}

impl OperatingSystem {
    fn of(element: &Element) -> OperatingSystem {
        OperatingSystem {
            position: element.position(),
            id: element.ovf("id"),
            version: element.ovf("version"),
            vmw_type: element.vmw("osType"),
            description: element.leaf("Description"),
        }
    }
}

/// A licence to accept when deploying.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Eula {
    /// Where it begins.
    pub position: Position,
    /// What the section is for.
    pub info: Option<Value>,
    /// Its text.
    pub license: Option<Value>,
}

impl Eula {
    fn of(element: &Element) -> Eula {
        Eula { position: element.position(), info: element.leaf("Info"), license: element.leaf("License") }
    }
}

/// Notes on the virtual machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Annotation {
    /// Where it begins.
    pub position: Position,
    /// What the section is for.
    pub info: Option<Value>,
    /// Their text.
    pub annotation: Option<Value>,
}

impl Annotation {
    fn of(element: &Element) -> Annotation {
        Annotation {
            position: element.position(),
            info: element.leaf("Info"),
            annotation: element.leaf("Annotation"),
        }
    }
}

/// A section or element that this model has no type for. What is in it stays in the document's
/// [tree](crate::Document::root).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Section {
    /// Where it begins.
    pub position: Position,
    /// Whose it is.
    pub namespace: Namespace,
    /// What it is, without prefix.
    pub name: String,
    /// What it is for.
    pub info: Option<Value>,
    /// Whether a reader that does not know it must refuse the document.
    pub required: bool,
}

impl Section {
    pub(crate) fn of(element: &Element) -> Section {
        let (namespace, name) = element.kind();
        Section {
            position: element.position(),
            namespace: namespace.clone(),
            name: name.into(),
            info: element.leaf("Info"),
            required: element.is_required(),
        }
    }
}
