//! Whether what a descriptor says fits together: DSP0243's rules on names, places and amounts, as far as they can be seen
//! without the files of the package.
//!
//! Two rules are importers' own, which read a package in one go: disks are in the order of their files, and no two of
//! them have the same.

mod hardware;
mod places;
mod properties;
mod storage;

use std::collections::BTreeSet;
use std::fmt;

use crate::document::Document;
use crate::envelope::{Content, Envelope, Section, VirtualSystem};
use crate::tree::{Dialect, Element, Namespace};
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

    /// The first of them that is not known stands for all.
    fn options(&mut self, list: Option<&Value>, names: &Names<'_>) {
        let unknown = list.and_then(|list| {
            Some((list, list.split_whitespace().find(|name| !names.options.contains(name))?))
        });
        if let Some((list, name)) = unknown {
            self.invalid(list.position, format!("`{name}` is no deployment option of the package"));
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

#[cfg(test)]
mod tests;
