//! Bytes into [elements](crate::tree), strictly: what is not well-formed is refused with its place.
//!
//! quick-xml finds the pieces and resolves prefixes; what it leaves to its user (names, characters, attributes, what may
//! stand beside the root) is looked at here, so that the pieces put together are the document again.

use std::collections::{BTreeMap, BTreeSet};

use quick_xml::XmlVersion;
use quick_xml::events::attributes::Attribute as RawAttribute;
use quick_xml::events::{BytesDecl, BytesRef, Event};
use quick_xml::name::{NamespaceResolver, QName, ResolveResult};
use quick_xml::reader::NsReader;

use crate::lexical::{Parts, is_character, is_name, is_space, split};
use crate::tree::{Attribute, Element, Name, Namespace, Node, Tree};
use crate::value::{Position, Value};

/// The longest descriptor that is read, in bytes. Large ones, with a licence in every language, have some hundred KiB.
const MAX_LENGTH: usize = 4 << 20;
/// Deeper than any descriptor is nested.
const MAX_DEPTH: usize = 64;
/// Elements, attributes, texts and so on: each takes more memory than the four bytes that it may be written in.
const MAX_NODES: usize = 1 << 17;
/// Longer than the name of any namespace, which is compared for each name that belongs to it.
const MAX_NAMESPACE: usize = 1 << 10;

/// Why a document cannot be read, and where.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("Line {line}, column {column}: {message}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

impl ParseError {
    pub(crate) fn new(position: Position, message: impl Into<String>) -> Self {
        Self { line: position.line, column: position.column, message: message.into() }
    }
}

/// Reads a document.
pub(crate) fn read(bytes: &[u8]) -> Result<Tree, ParseError> {
    if bytes.len() > MAX_LENGTH {
        return Err(ParseError::new(
            Position::START,
            format!("The document is longer than {} MiB", MAX_LENGTH >> 20),
        ));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
        ParseError::new(Position::START.after(valid), "The text is not UTF-8 from here on")
    })?;
    let (has_mark, text) = text.strip_prefix('\u{feff}').map_or((false, text), |rest| (true, rest));
    if let Some((offset, character)) = text.char_indices().find(|(_, character)| !is_character(*character)) {
        let message = format!("XML cannot hold the character U+{:04X}", character as u32);
        return Err(ParseError::new(Position::START.after(&text[..offset]), message));
    }
    Reader::new(text).read(has_mark)
}

struct Reader<'a> {
    text: &'a str,
    /// Everything before it is read.
    offset: usize,
    /// Of `offset`.
    position: Position,
    namespaces: BTreeMap<String, Namespace>,
    nodes: usize,
    /// Elements whose end is still to come.
    open: Vec<Element>,
    prolog: Vec<Node>,
    root: Option<Element>,
    epilog: Vec<Node>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            offset: 0,
            position: Position::START,
            namespaces: BTreeMap::new(),
            nodes: 0,
            open: Vec::new(),
            prolog: Vec::new(),
            root: None,
            epilog: Vec::new(),
        }
    }

    fn read(mut self, has_mark: bool) -> Result<Tree, ParseError> {
        // quick-xml would drop it without counting it.
        if self.text.starts_with('\u{feff}') {
            return Err(self.error("A second byte order mark"));
        }
        let mut pieces = NsReader::from_str(self.text);
        pieces.config_mut().enable_all_checks(true);
        loop {
            let event = pieces.read_event().map_err(|error| self.broken(&error, pieces.error_position()))?;
            let end = to_usize(pieces.buffer_position());
            let written = &self.text[self.offset..end];
            match event {
                Event::Start(_) => {
                    let element = self.element(written, ">", &pieces)?;
                    if self.open.len() == MAX_DEPTH {
                        return Err(self.error("Elements are nested too deeply"));
                    }
                    self.open.push(element);
                }
                Event::Empty(_) => {
                    let element = self.element(written, "/>", &pieces)?;
                    self.push_element(element)?;
                }
                Event::End(tag) => {
                    let Some(mut element) = self.open.pop() else {
                        return Err(self.error("An end tag without a start"));
                    };
                    element.end_space =
                        Some(written[2 + tag.name().as_ref().len()..written.len() - 1].into());
                    self.push_element(element)?;
                }
                Event::Text(_) => {
                    if let Some(at) = written.find("]]>") {
                        return Err(self.error_at(at, "`]]>` must be written `]]&gt;` in text"));
                    }
                    self.push_text(written)?;
                }
                Event::GeneralRef(reference) => {
                    self.check_reference(&reference)?;
                    self.push_text(written)?;
                }
                Event::CData(text) => self.push(Node::CData(text.into_inner().into()))?,
                Event::Comment(text) => self.push(Node::Comment(text.into_inner().into()))?,
                Event::PI(instruction) => {
                    let target = instruction.target();
                    if !is_name(target) || target.eq_ignore_ascii_case("xml") {
                        return Err(self.error(format!("`{target}` is no name of a processing instruction")));
                    }
                    self.push(Node::Instruction(instruction.into_inner().into()))?;
                }
                Event::Decl(declaration) => {
                    self.check_declaration(&declaration)?;
                    self.push(Node::Instruction(written[2..written.len() - 2].into()))?;
                }
                // Nobody writes them into descriptors, and entities can grow without end.
                Event::DocType(_) => return Err(self.error("A DTD has no place in an OVF descriptor")),
                Event::Eof => break,
            }
            self.position = self.position.after(written);
            self.offset = end;
        }
        if let Some(element) = self.open.last() {
            let message =
                format!("The element `{}`, begun at {}, has no end", element.name, element.position);
            return Err(self.error(message));
        }
        match self.root.take() {
            Some(root) => Ok(Tree { has_mark, prolog: self.prolog, root, epilog: self.epilog }),
            None => Err(self.error("There is no element")),
        }
    }

    /// An error where the current piece begins.
    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::new(self.position, message)
    }

    /// An error so many bytes after the beginning of the current piece.
    fn error_at(&self, at: usize, message: impl Into<String>) -> ParseError {
        ParseError::new(self.position_at(at), message)
    }

    /// The place so many bytes after the beginning of the current piece.
    fn position_at(&self, at: usize) -> Position {
        self.position.after(&self.text[self.offset..self.offset + at])
    }

    fn broken(&self, error: &quick_xml::Error, at: u64) -> ParseError {
        let message = match error {
            quick_xml::Error::Syntax(error) => error.to_string(),
            quick_xml::Error::IllFormed(error) => error.to_string(),
            error => return self.error(capitalised(&error.to_string())),
        };
        let at = to_usize(at).saturating_sub(self.offset);
        let at = if self.text.is_char_boundary(self.offset + at) { at } else { 0 };
        self.error_at(at, capitalised(&message))
    }

    fn count(&mut self) -> Result<(), ParseError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(self.error(format!("More than {MAX_NODES} elements, attributes and texts")));
        }
        Ok(())
    }

    fn push_element(&mut self, element: Element) -> Result<(), ParseError> {
        if self.open.is_empty() {
            if self.root.is_some() {
                return Err(ParseError::new(element.position, "A second root element"));
            }
            self.root = Some(element);
            return self.count();
        }
        self.push(Node::Element(Box::new(element)))
    }

    fn push(&mut self, node: Node) -> Result<(), ParseError> {
        self.count()?;
        if let Some(element) = self.open.last_mut() {
            element.children.push(node);
            return Ok(());
        }
        if matches!(node, Node::CData(_)) {
            return Err(self.error("Text outside of the root element"));
        }
        if self.root.is_none() {
            self.prolog.push(node)
        } else {
            self.epilog.push(node)
        }
        Ok(())
    }

    /// Text and the references in it are one node.
    fn push_text(&mut self, written: &str) -> Result<(), ParseError> {
        let siblings = self.open.last_mut().map(|element| &mut element.children);
        if siblings.is_none() && !written.chars().all(is_space) {
            return Err(self.error("Text outside of the root element"));
        }
        if let Some(Node::Text(text)) = siblings.and_then(|siblings| siblings.last_mut()) {
            text.push_str(written);
            return Ok(());
        }
        self.push(Node::Text(written.into()))
    }

    fn check_reference(&self, reference: &BytesRef<'_>) -> Result<(), ParseError> {
        let is_known = match reference.resolve_char_ref() {
            Ok(Some(character)) => is_character(character),
            Ok(None) => ["amp", "lt", "gt", "quot", "apos"].contains(&&**reference),
            Err(_) => false,
        };
        if is_known { Ok(()) } else { Err(self.error(format!("XML knows no `&{};`", &**reference))) }
    }

    fn check_declaration(&self, declaration: &BytesDecl<'_>) -> Result<(), ParseError> {
        if self.offset != 0 {
            return Err(self.error("The XML declaration must be the first of the document"));
        }
        let version = declaration.version().map_err(|error| self.broken(&error, 0))?;
        if !version.starts_with("1.") {
            return Err(self.error(format!("XML {version} cannot be read")));
        }
        match declaration.encoding() {
            None => Ok(()),
            Some(Ok(name))
                if ["utf-8", "utf8", "us-ascii", "ascii"].contains(&&*name.to_ascii_lowercase()) =>
            {
                Ok(())
            }
            // Encodings differ beyond ASCII only; those that differ in it too would not have been read so far.
            Some(Ok(_)) if self.text.is_ascii() => Ok(()),
            Some(Ok(name)) => {
                Err(self.error(format!("The document says that it is {name}; only UTF-8 can be read")))
            }
            Some(Err(error)) => Err(self.error(capitalised(&error.to_string()))),
        }
    }

    /// The element of a start tag that ends with `end`.
    fn element<R>(&mut self, written: &str, end: &str, pieces: &NsReader<R>) -> Result<Element, ParseError> {
        let resolver = pieces.resolver();
        let written = &written[..written.len() - end.len()];
        let name_end = written.find(is_space).unwrap_or(written.len());
        let name =
            self.name(&written[1..name_end], self.position_at(1), |name| resolver.resolve_element(name).0)?;
        let mut element = Element {
            name,
            position: self.position,
            attributes: Vec::new(),
            children: Vec::new(),
            draft_kind: None,
            start_space: String::new(),
            end_space: (end == ">").then(String::new),
        };
        let (mut names, mut names_as_written) = (BTreeSet::new(), BTreeSet::new());
        let (mut begin, mut position) = (name_end, self.position_at(name_end));
        while let Some(parts) = Parts::find(&written[begin..])
            .map_err(|(at, message)| ParseError::new(position.after(&written[begin..begin + at]), message))?
        {
            self.count()?;
            let next = begin + parts.value.end + 1;
            let attribute = self.attribute(&written[begin..next], &parts, position, resolver)?;
            // Two prefixes may stand for one namespace.
            let Name { namespace, local, .. } = &attribute.name;
            let is_new = names_as_written.insert(&written[begin..][parts.name])
                && (*namespace == Namespace::None || names.insert((namespace.clone(), local.clone())));
            if !is_new {
                let message = format!("A second attribute `{}`", attribute.name);
                return Err(ParseError::new(attribute.value.position, message));
            }
            if *namespace == Namespace::Xsi
                && local == "type"
                && ["Section", "Content"].contains(&&*element.name.local)
            {
                element.draft_kind =
                    self.draft_kind(&attribute.value, |name| resolver.resolve_element(name).0);
            }
            position = position.after(&attribute.written);
            element.attributes.push(attribute);
            begin = next;
        }
        element.start_space = written[begin..].into();
        Ok(element)
    }

    /// An attribute with the white space before it, which begins at `position`.
    fn attribute(
        &mut self,
        written: &str,
        parts: &Parts,
        position: Position,
        resolver: &NamespaceResolver,
    ) -> Result<Attribute, ParseError> {
        let position = position.after(&written[..parts.name.start]);
        let wrong = |message: String| Err(ParseError::new(position, message));
        let qualified = &written[parts.name.clone()];
        let name = self.name(qualified, position, |name| resolver.resolve_attribute(name).0)?;
        let raw = &written[parts.value.clone()];
        if raw.contains('<') {
            return wrong(format!("The value of `{name}` has a `<`, which must be written `&lt;`"));
        }
        let text = match (RawAttribute { key: QName(qualified), value: raw.into() })
            .normalized_value(XmlVersion::Implicit1_0)
        {
            Ok(text) => text.into_owned(),
            Err(error) => return wrong(format!("The value of `{name}` is not XML: {error}")),
        };
        if let Some(character) = text.chars().find(|character| !is_character(*character)) {
            let code = character as u32;
            return wrong(format!("XML cannot hold the character U+{code:04X}, as in `{name}`"));
        }
        if name.namespace == Namespace::Xmlns && text.len() > MAX_NAMESPACE {
            return wrong(format!("The name of the namespace is longer than {MAX_NAMESPACE} bytes"));
        }
        Ok(Attribute { name, value: Value { text, position }, written: written.into() })
    }

    /// `ovf:DiskSection_Type` is a `DiskSection`.
    fn draft_kind<'n>(
        &mut self,
        value: &'n str,
        resolve: impl FnOnce(QName<'n>) -> ResolveResult<'n>,
    ) -> Option<(Namespace, String)> {
        let qualified = value.trim();
        let (_, local) = split(qualified);
        let (namespace, _) = self.namespace(resolve(QName(qualified)));
        Some((namespace, local.strip_suffix("_Type")?.into()))
    }

    /// The name that is written there.
    fn name<'n>(
        &mut self,
        qualified: &'n str,
        position: Position,
        resolve: impl FnOnce(QName<'n>) -> ResolveResult<'n>,
    ) -> Result<Name, ParseError> {
        let (prefix, local) = split(qualified);
        if !is_name(local) || (!is_name(prefix) && qualified.len() != local.len()) {
            return Err(ParseError::new(position, format!("`{qualified}` is no name")));
        }
        let (namespace, is_declared) = self.namespace(resolve(QName(qualified)));
        // `xmlns="..."` has no prefix, but is no attribute like others.
        let namespace = if qualified == "xmlns" { Namespace::Xmlns } else { namespace };
        Ok(Name { prefix: prefix.into(), local: local.into(), namespace, is_declared })
    }

    fn namespace(&mut self, resolved: ResolveResult<'_>) -> (Namespace, bool) {
        match resolved {
            ResolveResult::Unbound => (Namespace::None, true),
            ResolveResult::Unknown(prefix) => (Namespace::of_undeclared(&prefix), false),
            ResolveResult::Bound(uri) => {
                let uri = uri.as_ref();
                if !self.namespaces.contains_key(uri) {
                    self.namespaces.insert(uri.into(), Namespace::of_uri(uri));
                }
                (self.namespaces[uri].clone(), true)
            }
        }
    }
}

fn capitalised(message: &str) -> String {
    let mut characters = message.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// Positions in memory fit.
fn to_usize(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}
