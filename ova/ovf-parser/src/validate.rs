//! Whether what a descriptor says fits together: DSP0243's rules on names, places and amounts, as far as they can be seen
//! without the files of the package.
//!
//! Two rules are importers' own, which read a package in one go: disks are in the order of their files, and no two of
//! them have the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::document::Document;
use crate::envelope::{Content, Disk, Envelope, Section, VirtualSystem};
use crate::hardware::{Hardware, HostResource, Item, ItemKind};
use crate::product::{Product, Property, Qualifier};
use crate::tree::{Dialect, Element, Namespace};
use crate::units::{Base, Units};
use crate::value::{Position, Value};

/// Something wrong with a descriptor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Where.
    pub position: Position,
    /// Whose fault it is.
    pub kind: ProblemKind,
    /// What is wrong, in a sentence.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line {}, column {}: {}", self.position.line, self.position.column, self.message)
    }
}

/// The two kinds of problems.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ProblemKind {
    /// The document breaks a rule of OVF.
    Invalid,
    /// The document may be right, and asks for something that importers of vSphere do not do.
    Unsupported,
}

/// What only the envelope may hold, once each.
const IN_ENVELOPE: &[&str] = &["References", "DiskSection", "NetworkSection", "DeploymentOptionSection"];
/// What only a virtual system may hold.
const IN_SYSTEM: &[&str] = &["OperatingSystemSection", "VirtualHardwareSection"];
/// What the envelope may not hold.
const IN_CONTENT: &[&str] = &["ProductSection", "EulaSection", "AnnotationSection"];
/// Sections of the standard that are kept as they are.
const KEPT: &[&str] = &[
    "BootDeviceSection",
    "EncryptionSection",
    "EnvironmentFilesSection",
    "InstallSection",
    "PlacementGroupSection",
    "PlacementSection",
    "ResourceAllocationSection",
    "ScaleOutSection",
    "SharedDiskSection",
    "StartupSection",
];

/// Every problem, in document order.
pub(crate) fn validate(document: &Document) -> Vec<Problem> {
    let mut problems = Problems(Vec::new());
    let envelope = document.envelope();
    problems.undeclared(document.root(), &mut BTreeSet::new());
    problems.places(document.root());
    problems.files(envelope);
    problems.disks(envelope);
    problems.networks(envelope);
    problems.deployment_options(envelope);
    problems.content(envelope);
    let mut problems = problems.0;
    problems.sort_by_key(|problem| problem.position);
    problems
}

struct Problems(Vec<Problem>);

impl Problems {
    fn invalid(&mut self, position: Position, message: impl Into<String>) {
        self.0.push(Problem { position, kind: ProblemKind::Invalid, message: message.into() });
    }

    fn unsupported(&mut self, position: Position, message: impl Into<String>) {
        self.0.push(Problem { position, kind: ProblemKind::Unsupported, message: message.into() });
    }

    /// Each must be there, and no two the same.
    fn unique<'a>(
        &mut self,
        what: &str,
        attribute: &str,
        names: impl Iterator<Item = (Position, Option<&'a Value>)>,
    ) {
        let mut seen = BTreeSet::new();
        for (position, name) in names {
            match name {
                None => self.invalid(position, format!("A {what} without `{attribute}`")),
                Some(name) if !seen.insert(name.as_str()) => {
                    self.invalid(name.position, format!("A second {what} is called `{name}`"));
                }
                Some(_) => {}
            }
        }
    }

    fn is_number(&mut self, what: &str, value: Option<&Value>) {
        if let Some(value) = value
            && value.number().is_none()
        {
            self.invalid(
                value.position,
                format!("The {what} is `{value}`, not a number of 64 bits without sign"),
            );
        }
    }

    fn undeclared<'a>(&mut self, element: &'a Element, seen: &mut BTreeSet<&'a str>) {
        let names = element.attributes().iter().map(|attribute| (&attribute.name, attribute.value.position));
        for (name, position) in std::iter::once((element.name(), element.position())).chain(names) {
            if !name.is_declared && seen.insert(&name.prefix) {
                self.invalid(position, format!("The prefix `{}` is not declared", name.prefix));
            }
        }
        element.elements().for_each(|child| self.undeclared(child, seen));
    }

    /// Which element is where, and in which order.
    fn places(&mut self, root: &Element) {
        if root.elements().next().and_then(Element::ovf_kind) != Some("References") {
            self.invalid(root.position(), "The envelope must begin with `References`");
        }
        let (mut content, mut has_strings, mut seen) = (None, false, BTreeSet::new());
        for child in root.elements() {
            let (position, Some(name)) = (child.position(), child.ovf_kind()) else { continue };
            match name {
                "VirtualSystem" | "VirtualSystemCollection" => {
                    if content.replace(name).is_some() {
                        self.invalid(position, "A second virtual system, outside of a collection");
                    }
                    self.content_places(child);
                }
                "Strings" => has_strings = true,
                _ if has_strings => self.invalid(position, format!("`{name}` must stand before `Strings`")),
                _ => {
                    if let Some(content) = content {
                        self.invalid(position, format!("`{name}` must stand before `{content}`"));
                    }
                    if IN_SYSTEM.contains(&name) || IN_CONTENT.contains(&name) {
                        self.invalid(position, format!("`{name}` must stand in a virtual system"));
                    }
                    if IN_ENVELOPE.contains(&name) && !seen.insert(name) {
                        self.invalid(position, format!("A second `{name}`"));
                    }
                    self.begins_with_info(child, name);
                }
            }
        }
        if content.is_none() {
            self.invalid(root.position(), "The envelope has no virtual system");
        }
    }

    fn content_places(&mut self, element: &Element) {
        let is_system = element.ovf_kind() == Some("VirtualSystem");
        self.begins_with_info(element, element.kind().1);
        for child in element.elements() {
            let (position, Some(name)) = (child.position(), child.ovf_kind()) else { continue };
            match name {
                "VirtualSystem" | "VirtualSystemCollection" if !is_system => self.content_places(child),
                "VirtualSystem" | "VirtualSystemCollection" => {
                    self.invalid(position, format!("`{name}` must stand in a collection"));
                }
                _ if IN_ENVELOPE.contains(&name) => {
                    self.invalid(position, format!("`{name}` must stand in the envelope"));
                }
                _ if IN_SYSTEM.contains(&name) && !is_system => {
                    self.invalid(position, format!("`{name}` must stand in a virtual system"));
                }
                _ => self.begins_with_info(child, name),
            }
        }
    }

    fn begins_with_info(&mut self, element: &Element, name: &str) {
        let is_section = name.ends_with("Section") || name.starts_with("VirtualSystem");
        if is_section && element.elements().next().and_then(Element::ovf_kind) != Some("Info") {
            self.invalid(element.position(), format!("`{name}` must begin with `Info`"));
        }
    }

    fn files(&mut self, envelope: &Envelope) {
        let files = &envelope.references;
        self.unique("file", "id", files.iter().map(|file| (file.position, file.id.as_ref())));
        for file in files {
            if file.href.as_ref().is_none_or(|href| href.is_empty()) {
                self.invalid(file.position, "A file without `href`");
            }
            self.is_number("size of the file", file.size.as_ref());
            if let Some(chunk_size) = &file.chunk_size {
                self.unsupported(chunk_size.position, "A file in chunks");
            }
        }
    }

    fn disks(&mut self, envelope: &Envelope) {
        let mut files: BTreeMap<&str, usize> = BTreeMap::new();
        for (file, at) in envelope.references.iter().zip(0..) {
            if let Some(id) = file.id.as_deref() {
                files.entry(id).or_insert(at);
            }
        }
        let disks: BTreeSet<&str> = envelope.disks.iter().filter_map(|disk| disk.id.as_deref()).collect();
        let properties = PropertyNames::of(envelope);
        self.unique("disk", "diskId", envelope.disks.iter().map(|disk| (disk.position, disk.id.as_ref())));
        let (mut seen, mut last) = (BTreeSet::new(), 0);
        for disk in &envelope.disks {
            if let Some(file) = &disk.file {
                match files.get(file.as_str()) {
                    None => self.invalid(file.position, format!("`{file}` is no file of the package")),
                    Some(_) if !seen.insert(file.as_str()) => {
                        self.invalid(file.position, format!("A second disk has the file `{file}`"));
                    }
                    Some(at) if *at < last => {
                        self.invalid(file.position, "The disks are not in the order of their files");
                    }
                    Some(at) => last = *at,
                }
                if disk.format.as_ref().is_none_or(|format| format.is_empty()) {
                    self.invalid(disk.position, "A disk with a file and without `format`");
                }
            }
            self.capacity(disk, &properties);
            if let Some(parent) = &disk.parent {
                if !disks.contains(parent.as_str()) || disk.id.as_deref() == Some(parent) {
                    self.invalid(parent.position, format!("`{parent}` is no other disk of the package"));
                }
                self.unsupported(parent.position, "A disk that is a change to another");
            }
        }
    }

    fn capacity(&mut self, disk: &Disk, properties: &PropertyNames<'_>) {
        if let Some(units) = &disk.capacity_units
            && !matches!(Units::parse(units), Some(Units { base: Base::Byte, .. }))
        {
            self.invalid(units.position, format!("`{units}` is no unit of bytes"));
        }
        let Some(capacity) = &disk.capacity else {
            return self.invalid(disk.position, "A disk without `capacity`");
        };
        if let Some(property) = disk.capacity_property() {
            if !properties.has(property) {
                self.invalid(
                    capacity.position,
                    format!("The capacity is the property `{property}`, and there is none"),
                );
            }
            return;
        }
        self.is_number("capacity", Some(capacity));
        self.is_number("populated size", disk.populated_size.as_ref());
        let populated = disk.populated_size.as_ref().and_then(Value::number);
        if let (Some(populated), Some(capacity)) = (populated, disk.bytes())
            && populated > capacity
        {
            let message =
                format!("The disk has {populated} bytes in use, more than its capacity of {capacity}");
            self.invalid(disk.position, message);
        }
    }

    fn networks(&mut self, envelope: &Envelope) {
        self.unique(
            "network",
            "name",
            envelope.networks.iter().map(|network| (network.position, network.name.as_ref())),
        );
    }

    fn deployment_options(&mut self, envelope: &Envelope) {
        let options = &envelope.deployment_options;
        self.unique(
            "deployment option",
            "id",
            options.iter().map(|option| (option.position, option.id.as_ref())),
        );
        for option in options.iter().filter(|option| option.is_default).skip(1) {
            self.invalid(option.position, "A second deployment option is the default");
        }
    }

    fn content(&mut self, envelope: &Envelope) {
        if envelope.dialect == Dialect::Ovf2 {
            self.unsupported(envelope.position, "OVF 2");
        }
        self.sections(&envelope.sections);
        let names = Names {
            disks: envelope.disks.iter().filter_map(|disk| disk.id.as_deref()).collect(),
            files: envelope.references.iter().filter_map(|file| file.id.as_deref()).collect(),
            networks: envelope
                .networks
                .iter()
                .filter_map(|network| network.name.as_deref())
                .map(str::trim)
                .collect(),
            options: envelope.deployment_options.iter().filter_map(|option| option.id.as_deref()).collect(),
        };
        let mut ids = Vec::new();
        for content in &envelope.content {
            self.one_content(content, &names, &mut ids);
        }
        self.unique("virtual system", "id", ids.into_iter());
    }

    fn one_content<'a>(
        &mut self,
        content: &'a Content,
        names: &Names<'_>,
        ids: &mut Vec<(Position, Option<&'a Value>)>,
    ) {
        match content {
            Content::System(system) => {
                ids.push((system.position, system.id.as_ref()));
                self.system(system, names);
            }
            Content::Collection(collection) => {
                ids.push((collection.position, collection.id.as_ref()));
                self.unsupported(collection.position, "A collection of virtual systems");
                self.sections(&collection.sections);
                self.products(&collection.products, names);
                for content in &collection.content {
                    self.one_content(content, names, ids);
                }
            }
        }
    }

    fn system(&mut self, system: &VirtualSystem, names: &Names<'_>) {
        if system.hardware.is_empty() {
            self.unsupported(system.position, "A virtual system without `VirtualHardwareSection`");
        }
        if let Some(os) = &system.os {
            match &os.id {
                None => self.invalid(os.position, "An operating system without `id`"),
                id => self.is_number("operating system's `id`", id.as_ref()),
            }
        }
        for hardware in &system.hardware {
            self.hardware(hardware, names);
        }
        self.products(&system.products, names);
        self.sections(&system.sections);
    }

    /// What is required and not known has to be refused.
    fn sections(&mut self, sections: &[Section]) {
        for section in sections.iter().filter(|section| section.required) {
            let is_known = match &section.namespace {
                Namespace::Other(_) => false,
                namespace if namespace.is_ovf() => {
                    [KEPT, IN_ENVELOPE, IN_SYSTEM, IN_CONTENT]
                        .iter()
                        .any(|known| known.contains(&&*section.name))
                        || section.name.starts_with("VirtualSystem")
                }
                _ => true,
            };
            if !is_known {
                let message =
                    format!("`{}` is not known, and not marked with `required=\"false\"`", section.name);
                self.unsupported(section.position, message);
            }
        }
    }

    fn hardware(&mut self, hardware: &Hardware, names: &Names<'_>) {
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

    /// The first of them that is not known stands for all.
    fn options(&mut self, list: Option<&Value>, names: &Names<'_>) {
        let unknown = list.and_then(|list| {
            Some((list, list.split_whitespace().find(|name| !names.options.contains(name))?))
        });
        if let Some((list, name)) = unknown {
            self.invalid(list.position, format!("`{name}` is no deployment option of the package"));
        }
    }

    fn products(&mut self, products: &[Product], names: &Names<'_>) {
        let (mut groups, mut seen) = (BTreeMap::new(), BTreeSet::new());
        for product in products {
            let count = groups.len();
            let group = *groups.entry(group(product)).or_insert(count);
            for property in &product.properties {
                match &property.key {
                    None => self.invalid(property.position, "A property without `key`"),
                    Some(key) => {
                        let mut is_new = true;
                        per_option(property.configurations())
                            .for_each(|option| is_new &= seen.insert((group, key.as_str(), option)));
                        if !is_new {
                            self.invalid(key.position, format!("A second property has the key `{key}`"));
                        }
                    }
                }
                self.property(property, names);
            }
        }
    }

    fn property(&mut self, property: &Property, names: &Names<'_>) {
        self.options(property.configuration.as_ref(), names);
        for value in &property.values {
            self.options(value.configuration.as_ref(), names);
        }
        if let Some(list) = &property.qualifier_list
            && let Some(Qualifier::Other(text)) =
                Qualifier::parse_list(list).find(|qualifier| matches!(qualifier, Qualifier::Other(_)))
        {
            self.unsupported(list.position, format!("The qualifier `{text}` is not known"));
        }
        let Some(kind) = &property.kind else {
            return self.invalid(property.position, "A property without `type`");
        };
        let Some(kind_of) = PropertyKind::named(kind) else {
            return self.unsupported(kind.position, format!("A property of the type `{kind}`"));
        };
        let configured = property.values.iter().filter_map(|value| value.value.as_ref());
        for value in property.value.iter().chain(configured) {
            if !kind_of.fits(value) {
                self.invalid(value.position, format!("The default `{value}` is not of the type `{kind}`"));
            }
        }
    }
}

/// What can be referred to.
struct Names<'a> {
    disks: BTreeSet<&'a str>,
    files: BTreeSet<&'a str>,
    networks: BTreeSet<&'a str>,
    options: BTreeSet<&'a str>,
}

/// The names, or an empty one for "always".
fn per_option<'a>(names: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    let mut names = names.peekable();
    let always = names.peek().is_none().then_some("");
    always.into_iter().chain(names)
}

/// Properties by class and instance of their products; no name is put together, as one class may have many properties.
#[derive(Default)]
struct PropertyNames<'a> {
    /// Of all products.
    all: BTreeSet<&'a str>,
    keys: BTreeMap<(&'a str, &'a str), BTreeSet<&'a str>>,
}

impl<'a> PropertyNames<'a> {
    /// Those of all products of the package.
    fn of(envelope: &'a Envelope) -> Self {
        let mut names = PropertyNames::default();
        let mut open: Vec<&Content> = envelope.content.iter().collect();
        while let Some(content) = open.pop() {
            let products = match content {
                Content::System(system) => &system.products,
                Content::Collection(collection) => {
                    open.extend(&collection.content);
                    &collection.products
                }
            };
            for product in products.iter().filter(|product| !product.properties.is_empty()) {
                let keys = product.properties.iter().filter_map(|property| property.key.as_deref());
                names.all.extend(keys.clone());
                names.keys.entry(group(product)).or_default().extend(keys);
            }
        }
        names
    }

    /// Whether a property is called so, by its own key or by `[class.]key[.instance]`.
    fn has(&self, name: &str) -> bool {
        self.all.contains(name)
            || self.keys.iter().any(|((class, instance), keys)| {
                let key = match *class {
                    "" => Some(name),
                    class => name.strip_prefix(class).and_then(|rest| rest.strip_prefix('.')),
                };
                let key = key.and_then(|key| match *instance {
                    "" => Some(key),
                    instance => key.strip_suffix(instance)?.strip_suffix('.'),
                });
                key.is_some_and(|key| keys.contains(key))
            })
    }
}

/// Class and instance, empty where there is none.
fn group(product: &Product) -> (&str, &str) {
    (product.class.as_deref().unwrap_or_default(), product.instance.as_deref().unwrap_or_default())
}

/// Types of properties, by what fits them.
enum PropertyKind {
    Text,
    Boolean,
    /// No less, no more.
    Integer(i128, i128),
    Real,
}

impl PropertyKind {
    fn named(name: &str) -> Option<PropertyKind> {
        let name = name.trim().to_ascii_lowercase();
        Some(match name.as_str() {
            "string" | "password" | "expression" => PropertyKind::Text,
            _ if name == "ip" || name.starts_with("ip:") => PropertyKind::Text,
            "boolean" => PropertyKind::Boolean,
            "int" => PropertyKind::Integer(i64::MIN.into(), u64::MAX.into()),
            "uint8" => PropertyKind::Integer(0, u8::MAX.into()),
            "uint16" => PropertyKind::Integer(0, u16::MAX.into()),
            "uint32" => PropertyKind::Integer(0, u32::MAX.into()),
            "uint64" => PropertyKind::Integer(0, u64::MAX.into()),
            "sint8" => PropertyKind::Integer(i8::MIN.into(), i8::MAX.into()),
            "sint16" => PropertyKind::Integer(i16::MIN.into(), i16::MAX.into()),
            "sint32" => PropertyKind::Integer(i32::MIN.into(), i32::MAX.into()),
            "sint64" => PropertyKind::Integer(i64::MIN.into(), i64::MAX.into()),
            "real32" | "real64" => PropertyKind::Real,
            _ => return None,
        })
    }

    /// An empty default fits all: it stands for none.
    fn fits(&self, value: &Value) -> bool {
        value.trim().is_empty()
            || match self {
                PropertyKind::Text => true,
                PropertyKind::Boolean => value.boolean().is_some(),
                PropertyKind::Integer(min, max) => {
                    value.trim().parse::<i128>().is_ok_and(|number| (*min..=*max).contains(&number))
                }
                PropertyKind::Real => value.trim().parse::<f64>().is_ok(),
            }
    }
}

#[cfg(test)]
mod tests;
