//! `schema.yaml`: what a pack's values must be.
//!
//! ```yaml
//! registry.addresses.$[]:
//!   schema: '{{ required | format "${ipv4} - ${ipv4}" | hints "a range" }}'
//! ```

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use regex::{Regex, RegexBuilder};
use serde_json::Value as Json;

use crate::document::{Node, Place};
use crate::error::Error;
use crate::fields::Fields;
use crate::merge::{Data, Value};
use crate::template::{self, Token};

/// The most rules of a schema: each may have a pattern, and patterns take time to read.
const MAX_RULES: usize = 2000;
/// The most bytes that a pattern may take in memory.
const MAX_PATTERN: usize = 1 << 20;

/// The types that a format may name, as in `${string}`.
pub(crate) const TYPES: [&str; 7] = ["string", "number", "boolean", "password", "list", "ipv4", "version"];

/// What values must be.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// By path, in the order of the file.
    pub rules: Vec<Rule>,
    pub(crate) file: PathBuf,
}

/// What one value must be.
#[derive(Clone, Debug)]
pub struct Rule {
    /// In the values; `$[]` stands for each item of a list.
    pub path: String,
    /// Where it is in `schema.yaml`.
    pub place: Place,
    /// There must be a value.
    pub required: bool,
    /// The value of `values.yaml` and presets must stay.
    pub readonly: bool,
    /// What the value must look like.
    pub format: Option<Format>,
    /// What it is, for people.
    pub hints: Vec<String>,
}

/// What a value must look like: literal text and types.
#[derive(Clone, Debug)]
pub struct Format {
    text: String,
    /// The whole, with a group for each type.
    whole: Regex,
    types: Vec<Type>,
}

#[derive(Clone, Debug)]
enum Type {
    String(Option<Regex>),
    Password(Option<Regex>),
    Number(Option<Regex>),
    Range(f64, f64),
    Boolean,
    List(Vec<String>),
    Ipv4,
    Version,
}

impl Schema {
    /// Reads what `schema.yaml`, called `file` in errors, says.
    ///
    /// # Errors
    /// When a rule cannot be understood; at the rule.
    pub fn read(file: &Path, node: &Node) -> Result<Schema, Error> {
        let mut schema = Schema { rules: Vec::new(), file: file.to_path_buf() };
        if node.is_null() {
            return Ok(schema);
        }
        let all = Fields::of(file, node, "schema.yaml")?;
        if node.entries().len() > MAX_RULES {
            let message = format!("the schema has {} rules; {MAX_RULES} are the most", node.entries().len());
            return Err(Error::new(message, "leave some out").at(file, node.place));
        }
        for entry in node.entries() {
            let Some(fields) = all.map(&entry.key)? else { continue };
            let mut rule = Rule {
                path: entry.key.clone(),
                place: entry.place,
                required: false,
                readonly: false,
                format: None,
                hints: Vec::new(),
            };
            if let Some(text) = fields.text("schema")? {
                rule.template(&text).map_err(|message| {
                    let hint =
                        r#"write '{{ required | format "${string}" | hints "what it is" }}', or parts of it"#;
                    fields.error("schema", message, hint)
                })?;
            }
            schema.rules.push(rule);
        }
        Ok(schema)
    }

    /// Marks the values that are passwords.
    pub(crate) fn mask(&self, values: &mut Value) {
        for rule in self.rules.iter().filter(|rule| rule.format.as_ref().is_some_and(Format::is_password)) {
            each_mut(values, &rule.path, &mut |value| value.masked = true);
        }
    }

    /// The read-only values that differ from `given`, those of the pack itself.
    pub(crate) fn check_readonly(&self, values: &Value, given: &Value) -> Vec<Error> {
        let is = |values: &Value, path| values.find(path).map(Value::to_json).unwrap_or_default();
        // Of a list with read-only items, all.
        let paths = self.rules.iter().filter(|rule| rule.readonly).map(|rule| at_list(&rule.path).0);
        let changed = paths.filter(|path| is(values, path) != is(given, path));
        let error = |path| {
            let message = format!("`{path}` is read-only and was changed");
            values.find(path).unwrap_or(values).error(message, "leave it out of `values`")
        };
        changed.map(error).collect()
    }

    /// All that is wrong with values whose macros are resolved.
    pub(crate) fn check(&self, values: &Value) -> Vec<Error> {
        let mut errors = Vec::new();
        for rule in &self.rules {
            let hint = match rule.hints.as_slice() {
                [] => "docs/packs.md explains formats of schemas".to_string(),
                hints => hints.join("; "),
            };
            let mut found = false;
            each(values, &rule.path, String::new(), &mut |path, value, is_there| {
                found = true;
                let empty = !is_there
                    || value.is_null()
                    || matches!(&value.data, Data::Scalar(Json::String(text)) if text.is_empty());
                match &rule.format {
                    _ if empty && rule.required => {
                        errors.push(value.error(format!("`{path}` is required and has no value"), &hint));
                    }
                    Some(format) if !empty && !format.fits(value) => {
                        errors.push(value.error(format.complaint(path, value), &hint));
                    }
                    _ => {}
                }
            });
            if rule.required && !found {
                let hint = "set it in `values` of the image definition, or in values.yaml";
                let error = Error::new(format!("`{}` is required and has no value", rule.path), hint);
                errors.push(error.at(&self.file, rule.place));
            }
        }
        errors
    }
}

/// Calls `visit` for each value of a path in which `$[]` stands for the items of a list; for an item that has no such value,
/// with the item and `false`.
fn each(value: &Value, path: &str, prefix: String, visit: &mut dyn FnMut(&str, &Value, bool)) {
    let (head, tail) = at_list(path);
    let dot = if prefix.is_empty() || head.is_empty() { "" } else { "." };
    let found = if head.is_empty() { Some(value) } else { value.find(head) };
    let path = format!("{prefix}{dot}{head}");
    match (found, found.map(|value| &value.data), tail) {
        (Some(value), _, None) => visit(&path, value, true),
        (_, Some(Data::List(items)), Some(tail)) => {
            for (n, item) in items.iter().enumerate() {
                each(item, tail, format!("{path}[{n}]"), visit);
            }
        }
        _ if !prefix.is_empty() => visit(&path, value, false),
        _ => {}
    }
}

/// A path up to its first list, and the rest if there is one.
fn at_list(path: &str) -> (&str, Option<&str>) {
    match path.split_once("$[]") {
        Some((head, tail)) => (head.trim_end_matches('.'), Some(tail.trim_start_matches('.'))),
        None => (path, None),
    }
}

/// As [`each`], to change them.
fn each_mut(value: &mut Value, path: &str, visit: &mut dyn FnMut(&mut Value)) {
    let (head, tail) = at_list(path);
    let Some(value) = (if head.is_empty() { Some(value) } else { value.find_mut(head) }) else { return };
    match (&mut value.data, tail) {
        (_, None) => visit(value),
        (Data::List(items), Some(tail)) => items.iter_mut().for_each(|item| each_mut(item, tail, visit)),
        _ => {}
    }
}

impl Rule {
    fn template(&mut self, text: &str) -> Result<(), String> {
        let text = text.trim();
        let action = template::action(text)
            .filter(|action| action.length == text.len())
            .ok_or("this is no schema in `{{ }}`")?;
        for command in action.tokens.split(|token| *token == Token::Pipe) {
            match command {
                [Token::Word(word)] if word == "required" => self.required = true,
                [Token::Word(word)] if word == "readonly" => self.readonly = true,
                [Token::Word(word), Token::Text(format)] if word == "format" => {
                    self.format = Some(Format::parse(format)?);
                }
                [Token::Word(word), hints @ ..] if word == "hints" => {
                    for hint in hints {
                        let Token::Text(hint) = hint else {
                            return Err("a hint is no text in quotes".into());
                        };
                        self.hints.push(hint.clone());
                    }
                }
                [Token::Word(word), ..] => {
                    return Err(format!("`{word}` cannot be used like this in a schema"));
                }
                _ => return Err("a part of the schema is empty or begins with no word".into()),
            }
        }
        Ok(())
    }
}

impl Format {
    /// Reads what is between the quotes of `format "..."`.
    fn parse(text: &str) -> Result<Format, String> {
        let mut types = Vec::new();
        let mut whole = String::from("^");
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once("${") {
            whole += &regex::escape(literal);
            let name_end = after.find([':', '}']).ok_or("a `${` is not closed")?;
            let (name, after) = after.split_at(name_end);
            // A pattern may have braces: it ends with `/}`.
            let (argument, after) = match after.strip_prefix(':') {
                None => ("", &after[1..]),
                Some(after) => {
                    let end = if after.starts_with('/') { "/}" } else { "]}" };
                    let at =
                        after.get(1..).and_then(|inner| inner.find(end)).ok_or("a `${` is not closed")?;
                    (&after[..at + 2], &after[at + 3..])
                }
            };
            let kind = Type::parse(name, argument)?;
            whole += kind.shape();
            types.push(kind);
            rest = after;
        }
        whole += &regex::escape(rest);
        whole.push('$');
        let shape = RegexBuilder::new(&whole).dot_matches_new_line(true).size_limit(MAX_PATTERN).build();
        Ok(Format { text: text.to_string(), whole: shape.map_err(|_| "the format is too long")?, types })
    }

    fn is_password(&self) -> bool {
        self.types.iter().any(|kind| matches!(kind, Type::Password(_)))
    }

    fn fits(&self, value: &Value) -> bool {
        let Data::Scalar(value) = &value.data else { return false };
        let text = match value {
            // Not known before something else fills it in.
            Json::String(text) if text.contains("{{") => return true,
            Json::String(text) => text.clone(),
            // A lone text must be one: 1.10 without quotes is the number 1.1.
            _ if matches!(self.types.as_slice(), [Type::String(_) | Type::Password(_)]) => return false,
            other => other.to_string(),
        };
        self.whole.captures(&text).is_some_and(|parts| {
            parts
                .iter()
                .skip(1)
                .zip(&self.types)
                .all(|(part, kind)| part.is_some_and(|part| kind.fits(part.as_str())))
        })
    }

    fn complaint(&self, path: &str, value: &Value) -> String {
        let is = match &value.data {
            _ if self.is_password() => "a password that does not fit".to_string(),
            Data::Scalar(_) => format!("`{}`", value.to_json()),
            Data::List(_) => "a list".to_string(),
            Data::Map(_) => "a map".to_string(),
        };
        format!("`{path}` is {is}; its schema wants `{}`", self.text)
    }
}

impl Type {
    fn parse(name: &str, argument: &str) -> Result<Type, String> {
        let no_argument = |kind| {
            if argument.is_empty() { Ok(kind) } else { Err(format!("`{name}` has no options")) }
        };
        let pattern = || match argument.strip_prefix('/').and_then(|inner| inner.strip_suffix('/')) {
            _ if argument.is_empty() => Ok(None),
            None => Err(format!("`{argument}` is no pattern between slashes")),
            Some(inner) => RegexBuilder::new(inner)
                .size_limit(MAX_PATTERN)
                .build()
                .map(Some)
                .map_err(|e| format!("the pattern `{inner}` cannot be used: {e}")),
        };
        let options = argument.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        match (name, options) {
            ("string", _) => Ok(Type::String(pattern()?)),
            ("password", _) => Ok(Type::Password(pattern()?)),
            ("number", Some(range)) => {
                // The dash between them is not the sign of the first.
                let bounds =
                    range.get(1..).and_then(|rest| rest.find('-')).map(|dash| range.split_at(dash + 1));
                let bounds = bounds
                    .and_then(|(low, high)| Some((low.trim().parse().ok()?, high[1..].trim().parse().ok()?)));
                let (low, high) = bounds.ok_or(format!("`[{range}]` is no range such as `[1-10]`"))?;
                Ok(Type::Range(low, high))
            }
            ("number", None) => Ok(Type::Number(pattern()?)),
            ("boolean", _) => no_argument(Type::Boolean),
            ("list", Some(options)) => {
                Ok(Type::List(options.split(',').map(|o| o.trim().to_string()).collect()))
            }
            ("list", None) => Err("`list` needs options such as `[A,B]`".to_string()),
            ("ipv4", _) => no_argument(Type::Ipv4),
            ("version", _) => no_argument(Type::Version),
            _ => Err(format!("the type `{name}` is unknown; types are {}", TYPES.join(", "))),
        }
    }

    /// A group that finds the part of a text; as narrow as it can be, so that parts do not take from each other.
    fn shape(&self) -> &'static str {
        match self {
            Type::String(_) | Type::Password(_) | Type::List(_) => "(.*)",
            Type::Number(_) | Type::Range(..) => r"([-+]?[0-9]+(?:\.[0-9]+)?)",
            Type::Boolean => "(true|false)",
            Type::Ipv4 => r"([0-9.]+)",
            // Semantic versions, as semver.org gives their pattern, and the leading `v` of tags.
            Type::Version => {
                r"(v?(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?)"
            }
        }
    }

    fn fits(&self, text: &str) -> bool {
        match self {
            Type::String(pattern) | Type::Password(pattern) | Type::Number(pattern) => {
                pattern.as_ref().is_none_or(|pattern| pattern.is_match(text))
            }
            Type::Range(low, high) => text.parse().is_ok_and(|number: f64| (*low..=*high).contains(&number)),
            Type::List(options) => options.iter().any(|option| option == text),
            Type::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            Type::Boolean | Type::Version => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{profile, read, with};
    use crate::{Facts, Profile};

    /// What a profile of one pack with this schema, these values and these overrides is, or what is wrong with it.
    fn checked(schema: &str, values: &str, overrides: &str) -> Result<Profile, String> {
        profile(vec![with(&[("schema.yaml", schema), ("values.yaml", values)], overrides)], &Facts::default())
    }

    #[test]
    fn formats_fit_values() {
        let cases: [(&str, &[&str], &[&str]); 20] = [
            ("${string}", &["x", "'1.10'", "''"], &["1.10", "true", "[x]", "{x: 1}"]),
            ("${string:/^([a-z0-9].*)$/}", &["a!", "'0'"], &["A", "-a"]),
            ("${string:/b/}", &["abc"], &["ac"]),
            ("${string:/^a{2}$/}", &["aa"], &["a", "aaa"]),
            ("${string:/^[\\d.]+$/}", &["'1.2'"], &["a"]),
            ("${number}", &["1", "-1", "1.5", "'6443'"], &["x", "1x", "true", "' 1'"]),
            ("${number:[5000-5005]}", &["5000", "5005", "5002.5"], &["4999", "5006"]),
            ("${number:[-5--1]}", &["-3"], &["0", "-6"]),
            ("${number:/^(500[0-5])$/}", &["5001", "'5001'"], &["5006"]),
            ("${boolean}", &["true", "false", "'true'"], &["yes", "1", "True_"]),
            ("${password}", &["x"], &["1"]),
            ("${password:/^.{8,}$/}", &["12345678x"], &["short"]),
            ("${list:[PACK,GIT, CHART]}", &["PACK", "CHART"], &["pack", "PAC", "'PACK,GIT'"]),
            ("${ipv4}", &["10.0.0.1"], &["10.0.0", "10.0.0.256", "::1", "10.0.0.1/24", "10.0.0.01"]),
            ("${version}", &["1.33.9", "v1.0.0", "1.0.0-rc.1+b"], &["1.33", "1.2.3.4", "x", "01.0.0"]),
            (
                "${ipv4} - ${ipv4}",
                &["10.0.0.1 - 10.0.0.9"],
                &["10.0.0.1", "10.0.0.1-10.0.0.9", "10.0.0.1 - x"],
            ),
            (
                "${string}, ${string:/size=\\d+/}",
                &["'a, size=150'", "'a, b, size=1'"],
                &["size=1", "'a, size=s'"],
            ),
            ("v${number}.x", &["v1.x"], &["v1.y", "1.x", "v1yx"]),
            ("only this", &["only this"], &["that"]),
            ("${ipv4}", &["'{{ later }}'"], &["later"]),
        ];
        for (format, good, bad) in cases {
            let schema = format!("a.b: {{schema: '{{{{ format \"{format}\" }}}}'}}");
            let check = |value: &&str| checked(&schema, &format!("a: {{b: {value}}}"), "");
            for value in good {
                assert!(check(value).is_ok(), "{format} {value}: {:?}", check(value).err());
            }
            for value in bad {
                assert!(check(value).unwrap_err().contains("its schema wants"), "{format} {value}");
            }
        }
    }

    #[test]
    fn wrong_values_are_told_at_their_place() {
        let required = "a.b: {schema: '{{ required }}'}";
        let addresses =
            "a.$[]: {schema: '{{ required | format \"${ipv4}\" | hints \"a range\" \"of nodes\" }}'}";
        let items = "l.$[].n: {schema: '{{ required | format \"${number}\" }}'}";
        let password = "p: {schema: '{{ format \"${password:/^.{8}/}\" }}'}";
        let readonly = "a.b: {schema: '{{ readonly }}'}";
        let missing = "a-1.0.0/schema.yaml:1:1: `a.b` is required and has no value (set it in `values` of the image definition, or in values.yaml)";
        let cases = [
            (required, "a: {b: x}", "", ""),
            (required, "a: {}", "", missing),
            (required, "a: {b: x}", "a: {b: ~}", missing),
            (
                required,
                "a:\n  b: ''",
                "",
                "a-1.0.0/values.yaml:2:6: `a.b` is required and has no value (docs/packs.md explains formats of schemas)",
            ),
            (addresses, "a: [10.0.0.1]", "", ""),
            (
                addresses,
                "a:\n- 10.0.0.1\n- x\n- ~",
                "",
                "a-1.0.0/values.yaml:3:3: `a[1]` is `\"x\"`; its schema wants `${ipv4}` (a range; of nodes)\na-1.0.0/values.yaml:4:3: `a[2]` is required and has no value (a range; of nodes)",
            ),
            (
                addresses,
                "a: []",
                "",
                "a-1.0.0/schema.yaml:1:1: `a.$[]` is required and has no value (set it in `values` of the image definition, or in values.yaml)",
            ),
            (
                items,
                "l: [{n: 1}, {n: 2}]",
                "l: [{n: x}]",
                "image.yaml:1:9: `l[0].n` is `\"x\"`; its schema wants `${number}` (docs/packs.md explains formats of schemas)",
            ),
            (
                items,
                "l: [{n: 1}, {}]",
                "",
                "a-1.0.0/values.yaml:1:13: `l[1].n` is required and has no value (docs/packs.md explains formats of schemas)",
            ),
            (
                password,
                "p: hunter2",
                "",
                "a-1.0.0/values.yaml:1:4: `p` is a password that does not fit; its schema wants `${password:/^.{8}/}` (docs/packs.md explains formats of schemas)",
            ),
            (readonly, "a: {b: x}", "a: {b: x, c: 1}", ""),
            (
                readonly,
                "a: {b: x}",
                "a: {b: y}",
                "image.yaml:1:8: `a.b` is read-only and was changed (leave it out of `values`)",
            ),
            (
                "l.$[].n: {schema: '{{ readonly }}'}",
                "l: [{n: 1}]",
                "l: []",
                "image.yaml:1:4: `l` is read-only and was changed (leave it out of `values`)",
            ),
            ("a: {}\nb: ~", "", "", ""),
        ];
        for (schema, values, overrides, expected) in cases {
            let result = checked(schema, values, overrides).map(|_| String::new()).unwrap_or_else(|e| e);
            assert_eq!(result, expected, "{schema} {values} {overrides}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let schema =
            "p: {schema: '{{ format \"${password}\" }}'}\nl.$[].p: {schema: '{{ format \"${password}\" }}'}";
        let values = "p: hunter2\nl: [{p: hunter3}]\nurl: 'https://{{ .spectro.pack.a.p }}@host'\nq: x";
        let profile = checked(schema, values, "").unwrap();
        assert_eq!(profile.values()["url"], "https://hunter2@host");
        let shown = format!("{:?}", profile.origins());
        assert!(!shown.contains("hunter") && shown.contains("\"x\""), "{shown}");
    }

    #[test]
    fn wrong_schemas_are_told() {
        let cases = [
            ("required", "this is no schema in `{{ }}`"),
            ("{{ required }} x", "this is no schema in `{{ }}`"),
            ("{{ }}", "a part of the schema is empty or begins with no word"),
            ("{{ required | }}", "a part of the schema is empty or begins with no word"),
            ("{{ needed }}", "`needed` cannot be used like this in a schema"),
            ("{{ format }}", "`format` cannot be used like this in a schema"),
            ("{{ hints 1 }}", "a hint is no text in quotes"),
            ("{{ format \"${string\" }}", "a `${` is not closed"),
            ("{{ format \"${string:/a/\" }}", "a `${` is not closed"),
            ("{{ format \"${string:\" }}", "a `${` is not closed"),
            (
                "{{ format \"${text}\" }}",
                "the type `text` is unknown; types are string, number, boolean, password, list, ipv4, version",
            ),
            ("{{ format \"${list}\" }}", "`list` needs options such as `[A,B]`"),
            ("{{ format \"${number:[a]}\" }}", "`[a]` is no range such as `[1-10]`"),
            ("{{ format \"${ipv4:/x/}\" }}", "`ipv4` has no options"),
            ("{{ format \"${string:[x]}\" }}", "`[x]` is no pattern between slashes"),
        ];
        for (template, expected) in cases {
            let error = read(&[("schema.yaml", &format!("a:\n  schema: '{template}'"))]).unwrap_err();
            assert!(error.starts_with(&format!("schema.yaml:2:11: {expected} (write ")), "{error}");
        }
        for pattern in ["(", "(?=a)", "\\\\pX{9}", "a{1000}{1000}"] {
            let error = read(&[(
                "schema.yaml",
                &format!("a: {{schema: '{{{{ format \"${{string:/{pattern}/}}\" }}}}'}}"),
            )]);
            assert!(error.unwrap_err().contains("cannot be used: "), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn formats_do_not_panic(text in r"([ab:/\[\]{}$-]|\$\{(string|number|list):[/\[]|[/\]]\})*", value in ".*") {
            if let Ok(format) = Format::parse(&text) {
                let node = crate::document::Node::from_json(&value.into(), Place::default());
                format.fits(&Value::from_node(&node, &Default::default()));
            }
        }
    }
}
