//! What is wrong with a pack, all of it at once: rules as data, findings with file, line and hint.
//!
//! ```text
//! folder or .tgz -> Files (bounded, in memory) -> Subject: documents with places -> rules -> findings, sorted
//! ```
//!
//! Reading a pack stops at the first thing that is wrong; this does not, and works on what is left of a broken one.

mod definition;
mod files;
mod layout;
mod rules;
pub mod sarif;
mod secrets;
mod shape;
mod templates;
mod values;

use std::fmt;

use jiff::civil::Date;
use serde::Serialize;

pub use self::files::{Entry, Files, MAX_ENTRIES, MAX_LOOKED_AT};
pub use self::rules::RULES;
use crate::document::{self, Data, Node, Place, SyntaxError};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The pack does not work, or must not be given away.
    Error,
    /// It works, but perhaps not as was meant.
    Warning,
    /// Worth knowing.
    Note,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Note => "note",
        })
    }
}

/// One thing that can be wrong with a pack.
#[derive(Debug)]
pub struct Rule {
    /// Unique, in kebab case.
    pub name: &'static str,
    /// Of all its findings.
    pub level: Level,
    /// What is found, in one line.
    pub title: &'static str,
    /// How to mend it.
    pub hint: &'static str,
    check: fn(&Subject<'_>, &mut Found),
}

/// Something that is wrong, and where. Sorted by file and place.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Finding {
    /// Path in the pack, separated by `/`; empty for the pack itself.
    pub file: String,
    /// From 1; none where the whole file is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// From 1, in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The rule's name.
    pub rule: &'static str,
    /// The rule's level.
    pub level: Level,
    /// What is wrong, in one sentence.
    pub message: String,
    /// How to mend it.
    pub hint: &'static str,
}

/// Runs every rule but those named in `skip`. `today` decides what is past its end of life.
#[must_use]
pub fn lint(files: &Files, today: Date, skip: &[String]) -> Vec<Finding> {
    let subject = Subject::new(files, today);
    let mut findings = Vec::new();
    for rule in RULES.iter().filter(|rule| !skip.iter().any(|name| name == rule.name)) {
        let mut found = Found(Vec::new());
        (rule.check)(&subject, &mut found);
        findings.extend(found.0.into_iter().map(|(file, place, message)| {
            let place = place.filter(|place| place.line > 0);
            Finding {
                file,
                line: place.map(|place| place.line),
                column: place.map(|place| place.column.max(1)),
                rule: rule.name,
                level: rule.level,
                message,
                hint: rule.hint,
            }
        }));
    }
    findings.sort();
    findings.dedup();
    findings
}

const DEFINITION: &str = "pack.json";
const VALUES: &str = "values.yaml";
const SCHEMA: &str = "schema.yaml";
const PRESETS: &str = "presets.yaml";

/// The pack as rules see it. What cannot be read of it is `null`, so that rules find nothing there.
struct Subject<'a> {
    files: &'a Files,
    today: Date,
    definition: Document<'a>,
    values: Document<'a>,
    schema: Document<'a>,
    presets: Document<'a>,
}

/// A document of the pack.
struct Document<'a> {
    file: &'static str,
    text: &'a str,
    root: Node,
    error: Option<SyntaxError>,
}

impl<'a> Subject<'a> {
    fn new(files: &'a Files, today: Date) -> Subject<'a> {
        let document = |file| Document::read(files, file);
        Subject {
            files,
            today,
            definition: document(DEFINITION),
            values: document(VALUES),
            schema: document(SCHEMA),
            presets: document(PRESETS),
        }
    }

    fn documents(&self) -> [&Document<'a>; 4] {
        [&self.definition, &self.values, &self.schema, &self.presets]
    }

    /// A text of `pack.json`; empty where it has none.
    fn text(&self, key: &str) -> &str {
        self.definition.root.get(key).and_then(Node::as_str).unwrap_or_default()
    }

    /// The texts of a list in `pack.json`.
    fn texts(&self, key: &str) -> impl Iterator<Item = (&str, Place)> {
        let items = self.definition.root.get(key).map_or(&[][..], Node::items);
        items.iter().filter_map(|item| Some((item.as_str()?, item.place)))
    }
}

impl<'a> Document<'a> {
    fn read(files: &'a Files, file: &'static str) -> Document<'a> {
        let null = Node { place: Place { line: 1, column: 1 }, data: Data::Null };
        let Some(Entry::File { size, head }) = files.get(file) else {
            return Document { file, text: "", root: null, error: None };
        };
        let text = match std::str::from_utf8(head) {
            Ok(text) if *size == head.len() as u64 => text,
            Ok(_) => {
                let message = format!("only {} of its {size} bytes are looked at", head.len());
                let error = SyntaxError { place: null.place, message };
                return Document { file, text: "", root: null, error: Some(error) };
            }
            Err(e) => {
                let error = SyntaxError {
                    place: files::place(head, e.valid_up_to()),
                    message: "it is not UTF-8".into(),
                };
                return Document { file, text: "", root: null, error: Some(error) };
            }
        };
        let (root, error) = if file == DEFINITION {
            match document::parse_json(text) {
                Ok(root) => (root, None),
                // YAML takes trailing commas and more: what else is wrong is found all the same.
                Err(error) => (document::parse_yaml(text).unwrap_or(null), Some(json_error(text, error))),
            }
        } else {
            match document::parse_yaml(text) {
                Ok(root) => (root, None),
                Err(error) => (null, Some(error)),
            }
        };
        Document { file, text, root, error }
    }
}

/// An error of JSON where its cause is: a parser sees a trailing comma at the next token, and a missing quote at the end of
/// the line.
fn json_error(text: &str, error: SyntaxError) -> SyntaxError {
    let mut lines = text.lines().take(error.place.line).collect::<Vec<_>>();
    if error.message == "trailing comma" {
        if let Some(line) = lines.pop() {
            let before: String = line.chars().take(error.place.column.saturating_sub(1)).collect();
            let mut number = error.place.line;
            let mut line = before.as_str();
            loop {
                if let Some(end) = line.rfind(',') {
                    let place = Place { line: number, column: line[..end].chars().count() + 1 };
                    return SyntaxError {
                        place,
                        message: "a comma is before the end of the list or map".into(),
                    };
                }
                let Some(previous) = lines.pop() else { return error };
                (line, number) = (previous, number - 1);
            }
        }
    } else if error.message.starts_with("control character") && error.place.column == 0 {
        let number = error.place.line.saturating_sub(1);
        let line = lines.get(number.saturating_sub(1)).copied().unwrap_or_default();
        if let Some(quote) = line.rfind('"') {
            let place = Place { line: number, column: line[..quote].chars().count() + 1 };
            return SyntaxError {
                place,
                message: "the text that begins here has no closing quote on its line".into(),
            };
        }
    }
    error
}

/// What a rule finds.
struct Found(Vec<(String, Option<Place>, String)>);

impl Found {
    fn at(&mut self, file: &str, place: Place, message: impl Into<String>) {
        self.0.push((file.into(), Some(place), message.into()));
    }

    /// Of a whole file.
    fn of(&mut self, file: &str, message: impl Into<String>) {
        self.0.push((file.into(), None, message.into()));
    }
}

/// Whether a text is filled in later.
fn is_macro(text: &str) -> bool {
    text.contains("{{")
}

/// With a capital.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().into_iter().flat_map(char::to_uppercase).chain(chars).collect()
}
