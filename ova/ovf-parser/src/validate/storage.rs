//! Files and disks.

use std::collections::{BTreeMap, BTreeSet};

use super::Problems;
use super::properties::PropertyNames;
use crate::envelope::{Disk, Envelope};
use crate::units::{Base, Units};
use crate::value::Value;

impl Problems {
    pub(super) fn files(&mut self, envelope: &Envelope) {
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

    pub(super) fn disks(&mut self, envelope: &Envelope) {
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
}
