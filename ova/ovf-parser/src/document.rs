//! A whole descriptor: what was written and what it says.

use crate::envelope::Envelope;
use crate::reader::{self, ParseError};
use crate::tree::{Element, Namespace, Tree};
use crate::validate::{self, Problem};

/// An OVF descriptor. Nothing of what was read is lost: [`Document::to_xml`] gives it back to the byte.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Document {
    tree: Tree,
    envelope: Envelope,
}

impl Document {
    /// Reads a descriptor: OVF 1 and 2, and VMware's draft of it.
    ///
    /// Generous with what it says, as importers are: the facts may contradict each other, see [`Document::validate`].
    ///
    /// # Errors
    /// What is no well-formed XML in UTF-8, has a DTD, is too long or too deeply nested, or no `Envelope`; see
    /// [`ParseError`].
    pub fn parse(bytes: &[u8]) -> Result<Document, ParseError> {
        let tree = reader::read(bytes)?;
        let root = &tree.root;
        let name = root.name();
        let Namespace::Ovf(dialect) = name.namespace else {
            let namespace = match &name.namespace {
                Namespace::Other(uri) => format!("in the namespace `{uri}`"),
                Namespace::None => "without a namespace".into(),
                other => format!("in the namespace {other:?}"),
            };
            let message = format!("The root is `{name}` {namespace}, not an OVF `Envelope`");
            return Err(ParseError::new(root.position(), message));
        };
        if name.local != "Envelope" {
            return Err(ParseError::new(
                root.position(),
                format!("The root is `{name}`, not an OVF `Envelope`"),
            ));
        }
        let envelope = Envelope::of(root, dialect);
        Ok(Document { tree, envelope })
    }

    /// The document as it was read, to the byte.
    #[must_use]
    pub fn to_xml(&self) -> String {
        self.tree.to_xml()
    }

    /// What it says.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// How it says so: every element, also those that the model does not know.
    #[must_use]
    pub fn root(&self) -> &Element {
        &self.tree.root
    }

    /// What is wrong with it, in document order: names defined twice or not at all, what is missing or out of place, and
    /// what it asks for that no importer of vSphere can do. Empty: nothing that can be seen without its files.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        validate::validate(self)
    }
}

#[cfg(test)]
mod tests;
