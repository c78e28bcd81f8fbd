//! The smallest parts of XML (its standard, section 2): characters, names, and where the attributes of a tag are.

use std::ops::Range;

/// Where the name and the value of an attribute are.
pub(crate) struct Parts {
    pub(crate) name: Range<usize>,
    /// Between the quotes.
    pub(crate) value: Range<usize>,
}

impl Parts {
    /// The first attribute of `text`, which begins right after a name or value; `None` if only white space follows. The
    /// error has its place.
    pub(crate) fn find(text: &str) -> Result<Option<Parts>, (usize, &'static str)> {
        let skip =
            |from: usize| text[from..].find(|c| !is_space(c)).map_or(text.len(), |length| from + length);
        let begin = skip(0);
        if begin == text.len() {
            return Ok(None);
        }
        if begin == 0 {
            return Err((0, "White space is missing before the attribute"));
        }
        let name_end =
            text[begin..].find(|c| c == '=' || is_space(c)).map_or(text.len(), |length| begin + length);
        let equals = skip(name_end);
        if !text[equals..].starts_with('=') {
            return Err((begin, "An attribute without a value"));
        }
        let quote = skip(equals + 1);
        let Some(mark @ ('"' | '\'')) = text[quote..].chars().next() else {
            return Err((quote, "The value of an attribute must be between quotes"));
        };
        let Some(length) = text[quote + 1..].find(mark) else {
            return Err((quote, "The value of the attribute has no end"));
        };
        Ok(Some(Parts { name: begin..name_end, value: quote + 1..quote + 1 + length }))
    }
}

/// Prefix, empty if there is none, and local name.
pub(crate) fn split(qualified: &str) -> (&str, &str) {
    qualified.split_once(':').unwrap_or(("", qualified))
}

/// White space of XML (section 2.3 of its standard).
pub(crate) fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

/// `Char` (section 2.2).
pub(crate) fn is_character(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// `NCName`: a `Name` (section 2.3) without a colon.
pub(crate) fn is_name(text: &str) -> bool {
    let begins = |c| {
        matches!(c, 'A'..='Z' | '_' | 'a'..='z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
            | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}' | '\u{200d}' | '\u{2070}'..='\u{218f}'
            | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}'
            | '\u{10000}'..='\u{effff}')
    };
    let goes_on = |c| {
        matches!(c, '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}' | '\u{2040}')
            || begins(c)
    };
    let mut characters = text.chars();
    characters.next().is_some_and(begins) && characters.all(goes_on)
}
