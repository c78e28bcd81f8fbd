//! Values and where they stand.

use std::fmt;
use std::ops::Deref;

/// A place in a document.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl Default for Position {
    fn default() -> Self {
        Position::START
    }
}

impl Position {
    /// Where documents begin.
    pub(crate) const START: Position = Position { line: 1, column: 1 };

    /// The place after `text`, which begins here.
    pub(crate) fn after(mut self, text: &str) -> Position {
        for character in text.chars() {
            if character == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// The text of an attribute or element. Numbers are text too: what is written may be none.
#[derive(Clone, Eq, PartialEq)]
pub struct Value {
    /// As XML has it, without references.
    pub text: String,
    /// Of the attribute's name or the element's start tag.
    pub position: Position,
}

impl Value {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The number, if it is one from 0 to 2⁶⁴−1.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.text.trim().parse().ok()
    }

    /// The truth value, if it is one. XML Schema has lower case only; real documents have `True` and `FALSE` too.
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        match self.text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }

    /// Without white space around it, which is layout.
    pub(crate) fn trimmed(mut self) -> Value {
        self.text = self.text.trim().into();
        self
    }
}

/// On one line, as models have many.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?}", self.text, self.position)
    }
}

impl Deref for Value {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
