//! What a virtual machine is made of: the `VirtualHardwareSection`.

use crate::envelope::Section;
use crate::tree::{Element, Namespace};
use crate::units;
use crate::value::{Position, Value};

/// A `VirtualHardwareSection`. A virtual system may have several, for different hypervisors.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hardware {
    /// Where it begins.
    pub position: Position,
    /// How the guest may get its properties, as written: names between spaces. Present and empty is not the same to all
    /// readers as missing.
    pub transport: Option<Value>,
    /// Which hypervisor it is for.
    pub system: Option<System>,
    /// The devices.
    pub items: Vec<Item>,
    /// `vmw:Config`: settings that vSphere has names for.
    pub config: Vec<Config>,
    /// `vmw:ExtraConfig`: lines of the `.vmx` file.
    pub extra_config: Vec<Config>,
    /// Boot orders that stand here.
    pub boot_orders: Vec<BootOrder>,
    /// Whatever else is in it.
    pub others: Vec<Section>,
}

impl Hardware {
    pub(crate) fn of(element: &Element) -> Hardware {
        let mut hardware = Hardware {
            position: element.position(),
            transport: element.ovf("transport"),
            ..Hardware::default()
        };
        for child in element.elements() {
            match child.kind() {
                (namespace, "Info") if namespace.is_ovf() => {}
                (namespace, "System") if namespace.is_ovf() => {
                    hardware.system.get_or_insert_with(|| System::of(child));
                }
                (namespace, name) if namespace.is_ovf() && ItemKind::named(name).is_some() => {
                    hardware.items.extend(ItemKind::named(name).map(|kind| Item::of(child, kind)));
                }
                (Namespace::Vmw, "Config") => hardware.config.push(Config::of(child)),
                (Namespace::Vmw, "ExtraConfig") => hardware.extra_config.push(Config::of(child)),
                (Namespace::Vmw, "BootOrderSection") => hardware.boot_orders.push(BootOrder::of(child)),
                _ => hardware.others.push(Section::of(child)),
            }
        }
        hardware
    }

    /// The names in [`Hardware::transport`], as in `com.vmware.guestInfo` and `iso`.
    pub fn transports(&self) -> impl Iterator<Item = &str> {
        self.transport.iter().flat_map(|names| names.split_whitespace())
    }

    /// The value of the `vmw:Config` of this key; the last counts.
    #[must_use]
    pub fn config(&self, key: &str) -> Option<&Config> {
        self.config.iter().rfind(|config| config.key.as_deref() == Some(key))
    }
}

/// The hypervisor that hardware is for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct System {
    /// Where it begins.
    pub position: Position,
    /// A name for people.
    pub element_name: Option<Value>,
    /// Usually 0.
    pub instance_id: Option<Value>,
    /// The name of the virtual machine.
    pub identifier: Option<Value>,
    /// Virtual hardware versions as written, as in `vmx-15` or `vmx-10 vmx-11`.
    pub kind: Option<Value>,
    /// Other fields, by name.
    pub others: Vec<(String, Value)>,
}

impl System {
    fn of(element: &Element) -> System {
        let mut system = System { position: element.position(), ..System::default() };
        for child in element.elements() {
            let name = child.kind().1;
            let field = match name {
                "ElementName" => &mut system.element_name,
                "InstanceID" | "InstanceId" => &mut system.instance_id,
                "VirtualSystemIdentifier" => &mut system.identifier,
                "VirtualSystemType" => &mut system.kind,
                _ => {
                    system.others.push((name.into(), child.value().trimmed()));
                    continue;
                }
            };
            field.get_or_insert_with(|| child.value().trimmed());
        }
        system
    }

    /// Each version in [`System::kind`]; any of them will do.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.kind.iter().flat_map(|kinds| list(kinds))
    }
}

/// Which element an item is.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ItemKind {
    /// `Item`
    #[default]
    Item,
    /// `StorageItem` of OVF 2.
    Storage,
    /// `EthernetPortItem` of OVF 2.
    EthernetPort,
}

impl ItemKind {
    fn named(name: &str) -> Option<ItemKind> {
        match name {
            "Item" => Some(ItemKind::Item),
            "StorageItem" => Some(ItemKind::Storage),
            "EthernetPortItem" => Some(ItemKind::EthernetPort),
            _ => None,
        }
    }
}

/// A device, or an amount of something. The fields are those of `CIM_ResourceAllocationSettingData`; where one that can
/// be there once is there twice, the first counts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Item {
    /// Where it begins.
    pub position: Position,
    /// Which element it is.
    pub kind: ItemKind,
    /// Whether a reader must refuse the document if it cannot give this.
    pub required: bool,
    /// `ovf:configuration` as written: only in these deployment options, between spaces. `None`: in all.
    pub configuration: Option<Value>,
    /// `ovf:bound`: `min`, `max` or `normal` of a range.
    pub bound: Option<Value>,
    /// Of a controller, among its like.
    pub address: Option<Value>,
    /// Place on the parent.
    pub address_on_parent: Option<Value>,
    /// What the quantities are counted in.
    pub allocation_units: Option<Value>,
    /// Whether it is connected at power-on.
    pub automatic_allocation: Option<Value>,
    /// `AutomaticDeallocation`
    pub automatic_deallocation: Option<Value>,
    /// A short text.
    pub caption: Option<Value>,
    /// `ChangeableType`
    pub changeable_type: Option<Value>,
    /// `ConfigurationName`
    pub configuration_name: Option<Value>,
    /// Names of networks.
    pub connections: Vec<Value>,
    /// `ConsumerVisibility`
    pub consumer_visibility: Option<Value>,
    /// A text.
    pub description: Option<Value>,
    /// A name for people.
    pub element_name: Option<Value>,
    /// `Generation`
    pub generation: Option<Value>,
    /// Disks and files of the package; see [`HostResource`].
    pub host_resources: Vec<Value>,
    /// What others name it by.
    pub instance_id: Option<Value>,
    /// No more than so many.
    pub limit: Option<Value>,
    /// `MappingBehavior`
    pub mapping_behavior: Option<Value>,
    /// What it is, where the number says "other".
    pub other_resource_type: Option<Value>,
    /// The [`Item::instance_id`] of the controller.
    pub parent: Option<Value>,
    /// `PoolID`
    pub pool_id: Option<Value>,
    /// At least so many.
    pub reservation: Option<Value>,
    /// Models as written, as in `VmxNet3` or `buslogic, lsilogic`.
    pub subtype: Option<Value>,
    /// What it is: 3 CPU, 4 memory, 5 IDE, 6 SCSI, 10 network, 15 CD-ROM, 17 disk, 20 SATA.
    pub resource_type: Option<Value>,
    /// How many.
    pub virtual_quantity: Option<Value>,
    /// What the virtual quantity is counted in, where that differs.
    pub virtual_quantity_units: Option<Value>,
    /// Share among its like.
    pub weight: Option<Value>,
    /// `vmw:Config`: its settings.
    pub config: Vec<Config>,
    /// Whatever else is in it, by name.
    pub others: Vec<(String, Value)>,
}

impl Item {
    fn of(element: &Element, kind: ItemKind) -> Item {
        let mut item = Item {
            position: element.position(),
            kind,
            required: element.is_required(),
            configuration: element.ovf("configuration"),
            bound: element.ovf("bound"),
            ..Item::default()
        };
        for child in element.elements() {
            let (namespace, name) = child.kind();
            if *namespace == Namespace::Vmw && name == "Config" {
                item.config.push(Config::of(child));
                continue;
            }
            let value = child.value().trimmed();
            let field = match name {
                _ if *namespace == Namespace::Vmw => {
                    item.others.push((name.into(), value));
                    continue;
                }
                "Connection" => {
                    item.connections.push(value);
                    continue;
                }
                "HostResource" => {
                    item.host_resources.push(value);
                    continue;
                }
                // The draft numbers controllers by bus.
                "Address" | "BusNumber" => &mut item.address,
                "AddressOnParent" => &mut item.address_on_parent,
                "AllocationUnits" => &mut item.allocation_units,
                "AutomaticAllocation" => &mut item.automatic_allocation,
                "AutomaticDeallocation" => &mut item.automatic_deallocation,
                "Caption" => &mut item.caption,
                "ChangeableType" => &mut item.changeable_type,
                "ConfigurationName" => &mut item.configuration_name,
                "ConsumerVisibility" => &mut item.consumer_visibility,
                "Description" => &mut item.description,
                "ElementName" => &mut item.element_name,
                "Generation" => &mut item.generation,
                // The second is the draft's, and found in OVF 1 too.
                "InstanceID" | "InstanceId" => &mut item.instance_id,
                "Limit" => &mut item.limit,
                "MappingBehavior" => &mut item.mapping_behavior,
                "OtherResourceType" => &mut item.other_resource_type,
                "Parent" => &mut item.parent,
                "PoolID" => &mut item.pool_id,
                "Reservation" => &mut item.reservation,
                "ResourceSubType" => &mut item.subtype,
                "ResourceType" => &mut item.resource_type,
                "VirtualQuantity" => &mut item.virtual_quantity,
                "VirtualQuantityUnits" => &mut item.virtual_quantity_units,
                "Weight" => &mut item.weight,
                _ => {
                    item.others.push((name.into(), value));
                    continue;
                }
            };
            field.get_or_insert(value);
        }
        item
    }

    /// The number of its kind; see [`Item::resource_type`].
    #[must_use]
    pub fn resource_type_number(&self) -> Option<u64> {
        self.resource_type.as_ref()?.number()
    }

    /// Each model in [`Item::subtype`]; the importer takes the first that it knows.
    pub fn subtypes(&self) -> impl Iterator<Item = &str> {
        self.subtype.iter().flat_map(|subtypes| list(subtypes))
    }

    /// The deployment options in [`Item::configuration`].
    pub fn configurations(&self) -> impl Iterator<Item = &str> {
        self.configuration.iter().flat_map(|names| names.split_whitespace())
    }

    /// Whether it is there when this deployment option is chosen.
    #[must_use]
    pub fn is_in(&self, configuration: &str) -> bool {
        self.configuration.is_none() || self.configurations().any(|name| name == configuration)
    }

    /// Of memory, its amount in bytes. `None` also where it is beyond 64 bits or in units that are no bytes.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        units::bytes(self.virtual_quantity.as_ref()?.number()?, self.allocation_units.as_deref())
    }

    /// A name for people: the first of those fields that is there.
    #[must_use]
    pub fn label(&self) -> &str {
        [&self.element_name, &self.caption, &self.description]
            .into_iter()
            .flatten()
            .next()
            .map_or("", |name| name)
    }
}

/// What a disk item names: `ovf:/disk/vmdisk1`, in any of the ways that are around.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HostResource<'a> {
    /// A disk of the `DiskSection`.
    Disk(&'a str),
    /// A file of the `References`.
    File(&'a str),
    /// Something else.
    Other(&'a str),
}

impl<'a> HostResource<'a> {
    /// Reads `ovf:/disk/x`, `/disk/x`, `ovf://disk/x` and the same with `file`.
    #[must_use]
    pub fn parse(text: &'a str) -> HostResource<'a> {
        let path = text.strip_prefix("ovf:").unwrap_or(text).trim_start_matches('/');
        match path.split_once('/') {
            Some(("disk", id)) => HostResource::Disk(id),
            Some(("file", id)) => HostResource::File(id),
            _ => HostResource::Other(text),
        }
    }
}

/// A setting of VMware: key and value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Where it begins.
    pub position: Position,
    /// Its name.
    pub key: Option<Value>,
    /// What it is set to.
    pub value: Option<Value>,
    /// Whether a reader that does not know it must refuse the document, and some do with all that say so.
    pub required: bool,
}

impl Config {
    fn of(element: &Element) -> Config {
        let attribute = |name| element.vmw(name).or_else(|| element.ovf(name));
        Config {
            position: element.position(),
            key: attribute("key"),
            value: attribute("value"),
            required: element.is_required(),
        }
    }
}

/// A `vmw:BootOrderSection`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BootOrder {
    /// Where it begins.
    pub position: Position,
    /// What is to be booted from, as in `disk`.
    pub kind: Option<Value>,
    /// Items in order, between spaces.
    pub instance_ids: Option<Value>,
}

impl BootOrder {
    pub(crate) fn of(element: &Element) -> BootOrder {
        BootOrder {
            position: element.position(),
            kind: element.vmw("type"),
            instance_ids: element.vmw("instanceId"),
        }
    }
}

/// Writers separate with commas, spaces or both.
fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\t', '\n']).filter(|part| !part.is_empty())
}
