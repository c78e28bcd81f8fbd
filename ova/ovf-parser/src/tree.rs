//! XML elements as they were written: what is between the angle brackets, to the byte, and what it means.
//!
//! ```text
//! bytes -> reader -> Tree of Elements -> model
//!                         `-> the same bytes
//! ```

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use quick_xml::escape::unescape;
use quick_xml::events::BytesText;

use crate::value::{Position, Value};

/// Which OVF a document is written in.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Dialect {
    /// VMware's, before the standard: sections are told apart by `xsi:type`.
    Draft,
    /// OVF 1.0 and 1.1.
    Ovf1,
    /// OVF 2, which no version of vSphere imports.
    Ovf2,
}

/// What a name belongs to.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Namespace {
    /// Neither prefix nor default namespace.
    None,
    /// The envelope's own.
    Ovf(Dialect),
    /// `CIM_ResourceAllocationSettingData`: the fields of an `Item`.
    Rasd,
    /// `CIM_StorageAllocationSettingData`: the fields of a `StorageItem`.
    Sasd,
    /// `CIM_EthernetPortAllocationSettingData`: the fields of an `EthernetPortItem`.
    Epasd,
    /// `CIM_VirtualSystemSettingData`: the fields of a `System`.
    Vssd,
    /// VMware's extensions.
    Vmw,
    /// XML Schema's instance attributes.
    Xsi,
    /// `xml:lang` and its like.
    Xml,
    /// The declarations of namespaces themselves.
    Xmlns,
    /// Any other, by its URI; where the prefix is not declared, by the prefix.
    Other(Arc<str>),
}

impl Namespace {
    pub(crate) fn of_uri(uri: &str) -> Namespace {
        match uri {
            "" => Namespace::None,
            "http://www.vmware.com/schema/ovf/1/envelope" => Namespace::Ovf(Dialect::Draft),
            "http://schemas.dmtf.org/ovf/envelope/1" => Namespace::Ovf(Dialect::Ovf1),
            "http://schemas.dmtf.org/ovf/envelope/2" => Namespace::Ovf(Dialect::Ovf2),
            "http://www.vmware.com/schema/ovf" => Namespace::Vmw,
            "http://www.w3.org/2001/XMLSchema-instance" => Namespace::Xsi,
            "http://www.w3.org/XML/1998/namespace" => Namespace::Xml,
            "http://www.w3.org/2000/xmlns/" => Namespace::Xmlns,
            // Writers differ in the path before the class, and in an `.xsd` after it.
            _ if uri.contains("CIM_ResourceAllocationSettingData") => Namespace::Rasd,
            _ if uri.contains("CIM_StorageAllocationSettingData") => Namespace::Sasd,
            _ if uri.contains("CIM_EthernetPortAllocationSettingData") => Namespace::Epasd,
            _ if uri.contains("CIM_VirtualSystemSettingData") => Namespace::Vssd,
            _ => Namespace::Other(uri.into()),
        }
    }

    /// What a prefix that is not declared can only mean: some packages that importers take have such.
    pub(crate) fn of_undeclared(prefix: &str) -> Namespace {
        match prefix {
            "ovf" => Namespace::Ovf(Dialect::Ovf1),
            "rasd" => Namespace::Rasd,
            "sasd" => Namespace::Sasd,
            "epasd" => Namespace::Epasd,
            "vssd" => Namespace::Vssd,
            "vmw" => Namespace::Vmw,
            "xsi" => Namespace::Xsi,
            _ => Namespace::Other(prefix.into()),
        }
    }

    /// The draft's elements have no namespace, and some writers leave it out of attributes.
    #[must_use]
    pub fn is_ovf(&self) -> bool {
        matches!(self, Namespace::Ovf(_) | Namespace::None)
    }
}

/// The name of an element or attribute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Name {
    /// As written, empty where there is none.
    pub prefix: String,
    /// After the prefix.
    pub local: String,
    /// What the prefix stands for.
    pub namespace: Namespace,
    /// Whether the prefix is declared; else [`Name::namespace`] is a guess.
    pub is_declared: bool,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix.is_empty() {
            f.write_str(&self.local)
        } else {
            write!(f, "{}:{}", self.prefix, self.local)
        }
    }
}

/// An attribute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attribute {
    /// Its name.
    pub name: Name,
    /// Its value, without references and with spaces for line breaks, as XML has it.
    pub value: Value,
    /// From the white space before the name to the closing quote.
    pub(crate) written: String,
}

/// What is in an element, or beside the root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Node {
    /// `<a>...</a>` or `<a/>`
    Element(Box<Element>),
    /// Text, with its references.
    Text(String),
    /// What is in `<![CDATA[...]]>`.
    CData(String),
    /// What is in `<!--...-->`.
    Comment(String),
    /// What is in `<?...?>`; the XML declaration is one too.
    Instruction(String),
}

impl Node {
    /// The element, if it is one.
    #[must_use]
    pub fn as_element(&self) -> Option<&Element> {
        if let Node::Element(element) = self { Some(element) } else { None }
    }

    fn write(&self, xml: &mut String) {
        match self {
            Node::Element(element) => element.write(xml),
            Node::Text(text) => xml.push_str(text),
            Node::CData(text) => xml.extend(["<![CDATA[", text, "]]>"]),
            Node::Comment(text) => xml.extend(["<!--", text, "-->"]),
            Node::Instruction(text) => xml.extend(["<?", text, "?>"]),
        }
    }
}

/// An element.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Element {
    pub(crate) name: Name,
    pub(crate) position: Position,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) children: Vec<Node>,
    /// What the draft's `xsi:type` says that this is.
    pub(crate) draft_kind: Option<(Namespace, String)>,
    /// White space before the end of the start tag.
    pub(crate) start_space: String,
    /// White space in the end tag; none where there is no end tag, as in `<a/>`.
    pub(crate) end_space: Option<String>,
}

impl Element {
    /// Its name, as it was written.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Where its start tag begins.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// In the order in which they were written.
    #[must_use]
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// Everything in it.
    #[must_use]
    pub fn children(&self) -> &[Node] {
        &self.children
    }

    /// The elements in it.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(Node::as_element)
    }

    /// The text directly in it, without references; line ends are `\n`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut all = String::new();
        for child in &self.children {
            match child {
                Node::Text(text) => {
                    let text = BytesText::from_escaped(text.as_str()).xml10_content();
                    // The reader has looked at every reference.
                    all.push_str(&unescape(&text).unwrap_or(Cow::Borrowed(&text)));
                }
                Node::CData(text) => all.push_str(&BytesText::from_escaped(text.as_str()).xml10_content()),
                _ => {}
            }
        }
        all
    }

    /// Namespace and name of what it is: in the draft, `<Section xsi:type="ovf:DiskSection_Type">` is a `DiskSection`.
    #[must_use]
    pub fn kind(&self) -> (&Namespace, &str) {
        match &self.draft_kind {
            Some((namespace, name)) => (namespace, name),
            None => (&self.name.namespace, &self.name.local),
        }
    }

    /// The name of the OVF element that this is; `None` for those of other namespaces.
    #[must_use]
    pub fn ovf_kind(&self) -> Option<&str> {
        let (namespace, name) = self.kind();
        namespace.is_ovf().then_some(name)
    }

    /// Whether a reader that does not know this has to refuse the document: so unless `ovf:required` says `false`.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.ovf("required").and_then(|required| required.boolean()) != Some(false)
    }

    /// An attribute of OVF.
    #[must_use]
    pub fn ovf(&self, local: &str) -> Option<Value> {
        self.attribute(local, Namespace::is_ovf)
    }

    /// An attribute of VMware.
    #[must_use]
    pub fn vmw(&self, local: &str) -> Option<Value> {
        self.attribute(local, |namespace| *namespace == Namespace::Vmw)
    }

    pub(crate) fn attribute(&self, local: &str, is_its: impl Fn(&Namespace) -> bool) -> Option<Value> {
        self.attributes
            .iter()
            .find(|attribute| attribute.name.local == local && is_its(&attribute.name.namespace))
            .map(|attribute| attribute.value.clone())
    }

    /// The text of the first OVF element of this name in it.
    pub(crate) fn leaf(&self, local: &str) -> Option<Value> {
        self.elements().find(|child| child.ovf_kind() == Some(local)).map(Element::value)
    }

    /// Its text and where it stands.
    pub(crate) fn value(&self) -> Value {
        Value { text: self.text(), position: self.position }
    }

    fn write(&self, xml: &mut String) {
        let name = self.name.to_string();
        xml.extend(["<", &name]);
        xml.extend(self.attributes.iter().map(|attribute| attribute.written.as_str()));
        xml.push_str(&self.start_space);
        match &self.end_space {
            None => xml.push_str("/>"),
            Some(space) => {
                xml.push('>');
                self.children.iter().for_each(|child| child.write(xml));
                xml.extend(["</", &name, space, ">"]);
            }
        }
    }
}

/// A document: its root and what is around it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Tree {
    /// A byte order mark before everything.
    pub(crate) has_mark: bool,
    /// Before the root.
    pub(crate) prolog: Vec<Node>,
    pub(crate) root: Element,
    /// After the root.
    pub(crate) epilog: Vec<Node>,
}

impl Tree {
    pub(crate) fn to_xml(&self) -> String {
        let mut xml = String::new();
        if self.has_mark {
            xml.push('\u{feff}');
        }
        self.prolog.iter().for_each(|node| node.write(&mut xml));
        self.root.write(&mut xml);
        self.epilog.iter().for_each(|node| node.write(&mut xml));
        xml
    }
}
