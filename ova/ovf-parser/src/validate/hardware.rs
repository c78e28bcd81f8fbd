//! The devices of a virtual machine.

use std::collections::BTreeSet;

use super::{Names, Problems, per_option};
use crate::hardware::{Hardware, HostResource, Item, ItemKind};
use crate::units::{Base, Units};

impl Problems {
    pub(super) fn hardware(&mut self, hardware: &Hardware, names: &Names<'_>) {
        self.sections(&hardware.others);
        let ids: BTreeSet<&str> =
            hardware.items.iter().filter_map(|item| item.instance_id.as_deref()).collect();
        let mut seen = BTreeSet::new();
        for item in &hardware.items {
            match item.kind {
                ItemKind::Item => {}
                ItemKind::Storage => self.unsupported(item.position, "`StorageItem`"),
                ItemKind::EthernetPort => self.unsupported(item.position, "`EthernetPortItem`"),
            }
            match &item.instance_id {
                None => self.invalid(item.position, "An item without `InstanceID`"),
                // The same device may be there for each deployment option and each bound of a range.
                Some(id) => {
                    let bound = item.bound.as_deref();
                    let mut is_new = true;
                    per_option(item.configurations())
                        .for_each(|option| is_new &= seen.insert((id.as_str(), bound, option)));
                    if !is_new {
                        self.invalid(id.position, format!("A second item has the `InstanceID` {id}"));
                    }
                }
            }
            match &item.resource_type {
                None => self.invalid(item.position, "An item without `ResourceType`"),
                kind => self.is_number("`ResourceType`", kind.as_ref()),
            }
            self.item(item, &ids, names);
        }
    }

    fn item(&mut self, item: &Item, ids: &BTreeSet<&str>, names: &Names<'_>) {
        if let Some(parent) = &item.parent
            && (!ids.contains(parent.as_str()) || item.instance_id.as_deref() == Some(parent))
        {
            self.invalid(parent.position, format!("The parent {parent} is no other item's `InstanceID`"));
        }
        for resource in &item.host_resources {
            let (what, id, known) = match HostResource::parse(resource) {
                HostResource::Disk(id) => ("disk", id, &names.disks),
                HostResource::File(id) => ("file", id, &names.files),
                HostResource::Other(_) => continue,
            };
            if !known.contains(id) {
                self.invalid(resource.position, format!("`{id}` is no {what} of the package"));
            }
        }
        if item.resource_type_number() == Some(10) {
            for network in
                item.connections.iter().filter(|network| !names.networks.contains(network.as_str()))
            {
                self.invalid(network.position, format!("`{network}` is no network of the package"));
            }
        }
        if item.resource_type_number() == Some(4)
            && let Some(units) = &item.allocation_units
            && !matches!(Units::parse(units), Some(Units { base: Base::Byte, .. }))
        {
            self.invalid(units.position, format!("`{units}` is no unit of bytes"));
        }
        self.is_number("`VirtualQuantity`", item.virtual_quantity.as_ref());
        self.options(item.configuration.as_ref(), names);
    }
}
