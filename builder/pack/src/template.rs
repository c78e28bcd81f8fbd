//! The words of a Go template's action, `{{ ... }}`, as macros and schemas use them.

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// `.spectro.var.name`, with its first dot. Names may have dashes and slashes, which Go would not allow.
    Field(String),
    /// `default`.
    Word(String),
    /// `"1.19.0"`, or the same in backquotes.
    Text(String),
    /// `5`.
    Number(i64),
    /// `|`
    Pipe,
    /// `(`
    Open,
    /// `)`
    Close,
}

/// An action.
#[derive(Debug)]
pub(crate) struct Action {
    pub(crate) tokens: Vec<Token>,
    /// In bytes, braces included.
    pub(crate) length: usize,
    /// `{{- `: white space before it goes away.
    pub(crate) trims_before: bool,
    /// ` -}}`: white space after it goes away.
    pub(crate) trims_after: bool,
}

/// The action that `text` begins with, if it is one that this crate could understand.
pub(crate) fn action(text: &str) -> Option<Action> {
    let mut rest = text.strip_prefix("{{")?;
    let trims_before = rest.starts_with('-') && rest[1..].starts_with(char::is_whitespace);
    if trims_before {
        rest = &rest[1..];
    }
    let mut tokens = Vec::new();
    loop {
        rest = rest.trim_start();
        let trims_after = rest.starts_with("-}}");
        if let Some(after) = rest.strip_prefix(if trims_after { "-}}" } else { "}}" }) {
            return Some(Action { tokens, length: text.len() - after.len(), trims_before, trims_after });
        }
        let (token, after) = token(rest)?;
        tokens.push(token);
        rest = after;
    }
}

fn token(text: &str) -> Option<(Token, &str)> {
    let first = text.chars().next()?;
    let word = |more: &str| {
        let fits = |c: char| c.is_alphanumeric() || more.contains(c);
        text.split_at(text[1..].find(|c| !fits(c)).map_or(text.len(), |end| end + 1))
    };
    match first {
        '|' => Some((Token::Pipe, &text[1..])),
        '(' => Some((Token::Open, &text[1..])),
        ')' => Some((Token::Close, &text[1..])),
        '.' => {
            let (field, rest) = word("._-/");
            Some((Token::Field(field.to_string()), rest))
        }
        '`' => {
            let (inside, rest) = text[1..].split_once('`')?;
            Some((Token::Text(inside.to_string()), rest))
        }
        '"' => quoted(&text[1..]),
        '-' | '0'..='9' => {
            let (number, rest) = word("");
            Some((Token::Number(number.parse().ok()?), rest))
        }
        'a'..='z' | 'A'..='Z' => {
            let (name, rest) = word("_");
            Some((Token::Word(name.to_string()), rest))
        }
        _ => None,
    }
}

/// A text up to its closing quote. Go would refuse unknown escapes such as `\d`; published schemas have them in their
/// patterns, so they stay as they are.
fn quoted(text: &str) -> Option<(Token, &str)> {
    let mut inside = String::new();
    let mut chars = text.char_indices();
    loop {
        match chars.next()? {
            (end, '"') => return Some((Token::Text(inside), &text[end + 1..])),
            (_, '\\') => match chars.next()?.1 {
                c @ ('"' | '\\') => inside.push(c),
                'n' => inside.push('\n'),
                't' => inside.push('\t'),
                c => inside.extend(['\\', c]),
            },
            (_, c) => inside.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Token::{Close, Field, Number, Open, Pipe, Text, Word};

    #[test]
    fn actions_are_split_into_words() {
        let field = |text: &str| Field(text.to_string());
        let cases = [
            ("{{.spectro.var.a-b}} c", vec![field(".spectro.var.a-b")], 20),
            (
                r#"{{ .x | default "a\"}}\d" }}"#,
                vec![field(".x"), Pipe, Word("default".into()), Text(r#"a"}}\d"#.into())],
                28,
            ),
            (
                "{{- (trunc -5 `a\"`) -}}",
                vec![Open, Word("trunc".into()), Number(-5), Text("a\"".into()), Close],
                23,
            ),
            ("{{}}", vec![], 4),
        ];
        for (text, tokens, length) in cases {
            let action = action(text).unwrap();
            assert_eq!((action.tokens, action.length), (tokens, length), "{text}");
        }
        for text in ["{{ .x", "{{ \"x }}", "{{ a['b'] }}", "{ }", "{{ 1x }}", "{{ ü }}"] {
            assert!(action(text).is_none(), "{text}");
        }
    }
}
