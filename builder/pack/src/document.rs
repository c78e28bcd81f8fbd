//! YAML and JSON whose every value knows its place, so that whoever wrote it can be told where.
//!
//! YAML is 1.2 with the core schema, through `saphyr-parser`; merge keys (`<<`) are of YAML 1.1 and ordinary keys here.
//! Input is bounded: [`MAX_SIZE`], [`MAX_DEPTH`], [`MAX_NODES`] after aliases are expanded.

use std::collections::HashMap;
use std::fmt;

use saphyr::Scalar;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Number, Value};

/// The most bytes a document may have.
pub const MAX_SIZE: usize = 4 << 20;
/// How deep lists and maps may be in each other.
pub const MAX_DEPTH: usize = 64;
/// How many values a document may have, each alias counting as what it stands for.
pub const MAX_NODES: usize = 200_000;

/// Line and column, both from 1, the column in characters.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// From 1; 0 where it is not known.
    pub line: usize,
    /// From 1; 0 where it is not known.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What is wrong with a document, and where.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {}, column {}: {message}", place.line, place.column)]
pub struct SyntaxError {
    /// Where.
    pub place: Place,
    /// What, without the place.
    pub message: String,
}

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub place: Place,
    /// What it is.
    pub data: Data,
}

/// The kinds of values.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    String(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the document. Keys are texts and unique.
    Map(Vec<Entry>),
}

/// A key of a map with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key; a number or a boolean as it is written.
    pub key: String,
    /// Where the key is.
    pub place: Place,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// The value of a key, if this is a map that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The value at the end of a path of keys.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The entries, if this is a map; else none.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        if let Data::Map(entries) = &self.data { entries } else { &[] }
    }

    /// The items, if this is a list; else none.
    #[must_use]
    pub fn items(&self) -> &[Node] {
        if let Data::List(items) = &self.data { items } else { &[] }
    }

    /// The text, if this is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Data::String(text) = &self.data { Some(text) } else { None }
    }

    /// Whether this is `null` or absent.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.data == Data::Null
    }

    /// The value without places.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(value) => Value::Bool(*value),
            Data::Number(value) => Value::Number(value.clone()),
            Data::String(value) => Value::String(value.clone()),
            Data::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Data::Map(entries) => Value::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect(),
            ),
        }
    }

    /// A value that was written nowhere, with one place for all of it.
    #[must_use]
    pub fn from_json(value: &Value, place: Place) -> Node {
        let data = match value {
            Value::Null => Data::Null,
            Value::Bool(value) => Data::Bool(*value),
            Value::Number(value) => Data::Number(value.clone()),
            Value::String(value) => Data::String(value.clone()),
            Value::Array(items) => {
                Data::List(items.iter().map(|item| Node::from_json(item, place)).collect())
            }
            Value::Object(map) => Data::Map(
                map.iter()
                    .map(|(key, value)| Entry {
                        key: key.clone(),
                        place,
                        value: Node::from_json(value, place),
                    })
                    .collect(),
            ),
        };
        Node { place, data }
    }
}

/// Reads one YAML document. An empty one is `null`.
///
/// # Errors
/// When it is no YAML, has more than one document, a key twice, a key that is a list or map, or is beyond the limits.
pub fn parse_yaml(text: &str) -> Result<Node, SyntaxError> {
    check_size(text)?;
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    let mut document = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::DocumentStart(_) if document.is_some() => {
                return Err(error(span, "there is a second document; one is expected"));
            }
            Event::DocumentStart(_) => {
                let (event, span) = reader.next()?;
                document = Some(reader.node(event, span, 0)?);
            }
            _ => {}
        }
    }
    Ok(document.unwrap_or(Node { place: Place { line: 1, column: 1 }, data: Data::Null }))
}

/// Reads JSON (RFC 8259).
///
/// # Errors
/// When it is no JSON, has a key twice, or is beyond the limits.
pub fn parse_json(text: &str) -> Result<Node, SyntaxError> {
    check_size(text)?;
    // The YAML reader knows places and is kinder than JSON; this one is strict and says what is wrong.
    let value: Value = serde_json::from_str(text).map_err(|e| {
        let message = e.to_string();
        let end = message.rfind(" at line ").unwrap_or(message.len());
        SyntaxError {
            place: Place { line: e.line(), column: e.column() },
            message: message[..end].to_string(),
        }
    })?;
    match parse_yaml(text) {
        Ok(node) if node.to_json() == value => Ok(node),
        Err(e) if e.message.starts_with(TWICE) => Err(e),
        // Escapes that YAML reads otherwise (surrogate pairs): places are lost, values are not.
        _ => Ok(Node::from_json(&value, Place { line: 1, column: 1 })),
    }
}

const TWICE: &str = "the key is there twice: ";

fn check_size(text: &str) -> Result<(), SyntaxError> {
    if text.len() > MAX_SIZE {
        let message = format!("the document has {} bytes; {MAX_SIZE} is the most", text.len());
        return Err(SyntaxError { place: Place { line: 1, column: 1 }, message });
    }
    Ok(())
}

fn place(span: Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

fn error(span: Span, message: impl Into<String>) -> SyntaxError {
    SyntaxError { place: place(span), message: message.into() }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    /// What aliases stand for, with the number of its nodes.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), SyntaxError> {
        match self.parser.next_event() {
            Some(Ok(found)) => Ok(found),
            Some(Err(e)) => Err(SyntaxError {
                place: Place { line: e.marker().line(), column: e.marker().col() + 1 },
                message: e.info().to_string(),
            }),
            // After its end a parser has no more to say.
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, SyntaxError> {
        if depth > MAX_DEPTH {
            return Err(error(span, format!("lists and maps are more than {MAX_DEPTH} deep")));
        }
        let before = self.nodes;
        self.count(1, span)?;
        let (data, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text = text.into_owned();
                let is_text = style != ScalarStyle::Plain
                    || tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                (if is_text { Data::String(text) } else { scalar(text) }, anchor)
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        break (Data::List(items), anchor);
                    }
                    items.push(self.node(event, span, depth + 1)?);
                }
            }
            Event::MappingStart(anchor, _) => (Data::Map(self.entries(depth)?), anchor),
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor) else {
                    return Err(error(span, "an alias stands for what it is in"));
                };
                let (data, size) = (node.data.clone(), *size);
                self.count(size, span)?;
                (data, 0)
            }
            _ => return Err(error(span, "the document ends where a value is expected")),
        };
        let node = Node { place: place(span), data };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<Entry>, SyntaxError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut keys = std::collections::HashSet::new();
        loop {
            let (event, span) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(error(span, "a key must be a text")),
            };
            if !keys.insert(key.clone()) {
                return Err(error(span, format!("{TWICE}`{key}`")));
            }
            let (event, value_span) = self.next()?;
            entries.push(Entry { key, place: place(span), value: self.node(event, value_span, depth + 1)? });
        }
    }

    fn count(&mut self, more: usize, span: Span) -> Result<(), SyntaxError> {
        self.nodes += more;
        if self.nodes > MAX_NODES {
            return Err(error(span, format!("the document has more than {MAX_NODES} values")));
        }
        Ok(())
    }
}

/// What a plain scalar means in the core schema (YAML 1.2.2, section 10.3.2).
fn scalar(text: String) -> Data {
    if text.is_empty() {
        return Data::Null;
    }
    match Scalar::parse_from_cow(text.as_str().into()) {
        Scalar::Null => Data::Null,
        Scalar::Boolean(value) => Data::Bool(value),
        Scalar::Integer(value) => Data::Number(value.into()),
        // Not finite: JSON has no such number, and nobody who writes a pack means one.
        Scalar::FloatingPoint(value) => {
            Number::from_f64(value.into_inner()).map_or(Data::String(text), Data::Number)
        }
        Scalar::String(_) => Data::String(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_and_places() {
        let text = "# comment\na:\n  - 1\n  - two\n  - {b: true, c: ~}\nd: '1'\ne: 1.5\nf: |\n  x\n";
        let node = parse_yaml(text).unwrap();
        assert_eq!(
            node.to_json(),
            json!({"a": [1, "two", {"b": true, "c": null}], "d": "1", "e": 1.5, "f": "x\n"})
        );
        let item = &node.get("a").unwrap().items()[2];
        assert_eq!(item.get("b").unwrap().place, Place { line: 5, column: 9 });
        assert_eq!(node.entries()[1].place, Place { line: 6, column: 1 });
    }

    #[test]
    fn empty_documents_are_null() {
        for text in ["", "# only a comment\n", "---\n", "~"] {
            assert!(parse_yaml(text).unwrap().is_null(), "{text:?}");
        }
    }

    #[test]
    fn aliases_are_expanded_within_limits() {
        assert_eq!(parse_yaml("a: &x [1, 2]\nb: *x\n").unwrap().to_json(), json!({"a": [1, 2], "b": [1, 2]}));
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..9 {
            let inner = format!("*a{}, ", n - 1).repeat(10);
            bomb += &format!("a{n}: &a{n} [{inner}]\n");
        }
        assert!(parse_yaml(&bomb).unwrap_err().message.contains("more than 200000 values"));
    }

    #[test]
    fn errors_have_places() {
        let cases = [
            ("a: [1\n", 2, "expected"),
            ("a: 1\na: 2\n", 2, "twice: `a`"),
            ("? [1]\n: 2\n", 1, "key must be a text"),
            ("a: 1\n---\nb: 2\n", 2, "second document"),
            ("a: *b\n", 1, "unknown anchor"),
        ];
        for (text, line, message) in cases {
            let error = parse_yaml(text).unwrap_err();
            assert!(error.message.contains(message), "{text:?}: {error}");
            assert_eq!(error.place.line, line, "{text:?}: {error}");
        }
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert!(parse_yaml(&deep).is_err());
    }

    #[test]
    fn json_is_strict() {
        let node = parse_json("{\"a\": [1, \"x\"],\n \"b\": false}").unwrap();
        assert_eq!(node.get("b").unwrap().place, Place { line: 2, column: 7 });
        let error = parse_json("{\n  \"a\": 1,\n}").unwrap_err();
        assert_eq!((error.place.line, error.message.as_str()), (3, "trailing comma"));
        assert!(parse_json("{\"a\": 1, \"a\": 2}").unwrap_err().message.contains("twice"));
        assert_eq!(parse_json("{\"a\": \"\\ud83d\\ude00\"}").unwrap().to_json(), json!({"a": "😀"}));
    }
}
