//! Which element is where, and in which order.

use std::collections::BTreeSet;

use super::{IN_CONTENT, IN_ENVELOPE, IN_SYSTEM, Problems};
use crate::tree::Element;

impl Problems {
    /// Which element is where, and in which order.
    pub(super) fn places(&mut self, root: &Element) {
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
}
