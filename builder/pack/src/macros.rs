//! Macros: `{{ .spectro.pack.NAME.PATH | default "x" }}` in values, resolved when a profile's values are merged.
//!
//! Macros are actions of Go templates. Those that name a `.spectro.` field are ours; all others are of Helm, Ansible or
//! whoever reads the value, and pass as they are. A pack's value may hold macros itself.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value as Json;

use crate::document::MAX_SIZE;
use crate::error::Error;
use crate::merge::{Data, Value};
use crate::profile::Facts;
use crate::template::{self, Action, Token};

/// How many values may lead to each other.
const MAX_CHAIN: usize = 32;
/// How deep parentheses may be.
const MAX_PARENTHESES: usize = 16;
/// The most bytes that macros make in all: a few values can double each other.
const MAX_WORK: usize = 8 * MAX_SIZE;
/// What a macro costs in bytes, however short its value.
const VALUE_WORK: usize = 100;

/// Values below these keys are resolved when they are deployed on a cluster; what is not known here stays as it is.
pub(crate) const DEPLOYED: [&str; 2] = ["charts", "manifests"];

/// The values of packs, which come with their names, with the macros in them resolved.
pub(crate) fn resolve(packs: &[(String, Value)], facts: &Facts) -> Result<Vec<Value>, Vec<Error>> {
    let mut resolver = Resolver { packs, facts, chain: Vec::new(), work: 0 };
    let mut errors = Vec::new();
    let mut resolved = Vec::new();
    for (name, values) in packs {
        let mut values = values.clone();
        resolver.walk(&mut values, "", name, &mut errors);
        resolved.push(values);
    }
    if errors.is_empty() { Ok(resolved) } else { Err(errors) }
}

struct Resolver<'a> {
    packs: &'a [(String, Value)],
    facts: &'a Facts,
    /// The values being resolved, each the reason for the next, as `NAME.PATH`.
    chain: Vec<String>,
    work: usize,
}

/// Why a macro has no text.
struct Problem {
    message: String,
    hint: String,
    /// Not even a cluster could.
    fatal: bool,
}

impl Problem {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem { message: message.into(), hint: hint.into(), fatal: false }
    }

    fn fatal(message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem { fatal: true, ..Problem::new(message, hint) }
    }
}

/// What a text became.
#[derive(Default)]
struct Expanded {
    text: String,
    /// It still has macros of ours, for a cluster to resolve.
    deferred: bool,
    /// It has a password in it.
    masked: bool,
}

impl Resolver<'_> {
    fn walk(&mut self, value: &mut Value, path: &str, pack: &str, errors: &mut Vec<Error>) {
        let join = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
        match &mut value.data {
            Data::Map(map) => {
                for (key, value) in map {
                    if key.find("{{").is_some_and(|at| ours(&key[at..]).is_some()) {
                        let hint = "write the key as it is, and macros in values only";
                        errors.push(value.error(format!("the key `{key}` has a macro"), hint));
                    }
                    self.walk(value, &join(key), pack, errors);
                }
            }
            Data::List(items) => {
                for (n, item) in items.iter_mut().enumerate() {
                    self.walk(item, &format!("{path}[{n}]"), pack, errors);
                }
            }
            Data::Scalar(Json::String(text)) if text.contains("{{") => {
                match self.linked(format!("{pack}.{path}"), text, is_deployed(path)) {
                    Ok(expanded) => {
                        *text = expanded.text;
                        value.masked |= expanded.masked;
                    }
                    Err(problem) => errors.push(value.error(problem.message, problem.hint)),
                }
            }
            Data::Scalar(_) => {}
        }
    }

    /// Expands the text of a value that the chain now goes through.
    fn linked(&mut self, name: String, text: &str, deployed: bool) -> Result<Expanded, Problem> {
        if let Some(start) = self.chain.iter().position(|link| *link == name) {
            let cycle: Vec<_> =
                self.chain[start..].iter().chain([&name]).map(|name| format!("`{name}`")).collect();
            let message = format!("macros go in a circle: {}", cycle.join(" -> "));
            return Err(Problem::fatal(message, "give one of these values without a macro"));
        }
        if self.chain.len() == MAX_CHAIN {
            let message = format!("more than {MAX_CHAIN} values lead to each other by macros");
            return Err(Problem::fatal(message, "point to the last of them"));
        }
        self.chain.push(name);
        let expanded = self.expand(text, deployed);
        self.chain.pop();
        expanded
    }

    fn expand(&mut self, text: &str, deployed: bool) -> Result<Expanded, Problem> {
        let mut result = Expanded::default();
        let mut rest = text;
        while let Some(at) = rest.find("{{") {
            let (before, from) = rest.split_at(at);
            result.text += before;
            let action = match ours(from) {
                Some(Ok(action)) => action,
                Some(Err(problem)) if !deployed => return Err(problem),
                other => {
                    result.deferred |= other.is_some();
                    // By one brace: `{{{ .spectro.var.x }}}` is a macro in braces.
                    result.text.push('{');
                    rest = &from[1..];
                    continue;
                }
            };
            let (source, after) = from.split_at(action.length);
            self.spend(VALUE_WORK)?;
            let expanded = Pipeline { resolver: self, tokens: &action.tokens, masked: false }.run();
            match expanded {
                Ok((value, masked)) => {
                    if action.trims_before {
                        result.text.truncate(result.text.trim_end().len());
                    }
                    let value = text_of(&value);
                    self.spend(value.len())?;
                    result.text += &value;
                    result.masked |= masked;
                    rest = if action.trims_after { after.trim_start() } else { after };
                }
                Err(problem) if deployed && !problem.fatal => {
                    result.text += source;
                    result.deferred = true;
                    rest = after;
                }
                Err(mut problem) => {
                    if !problem.fatal {
                        problem.message = format!("the macro `{}`: {}", shortened(source), problem.message);
                    }
                    return Err(problem);
                }
            }
        }
        result.text += rest;
        Ok(result)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Problem> {
        self.work = self.work.saturating_add(bytes);
        if self.work > MAX_WORK {
            let message = format!("macros make more than {MAX_WORK} bytes in all");
            return Err(Problem::fatal(message, "some values double each other"));
        }
        Ok(())
    }

    /// The value of a field, with whether it is a password. `Null` if it has none.
    fn field(&mut self, field: &str) -> Result<(Json, bool), Problem> {
        let known = |facts: &BTreeMap<String, String>, name| Ok((facts.get(name).cloned().into(), false));
        let unknown = || {
            let hint =
                "macros of ours are .spectro.pack.NAME.PATH, .spectro.var.NAME and .spectro.system.NAME";
            Problem::new(format!("`{field}` is unknown"), hint)
        };
        let (kind, name) =
            field.strip_prefix(".spectro.").and_then(|rest| rest.split_once('.')).ok_or_else(unknown)?;
        match kind {
            "var" => known(&self.facts.variables, name),
            "system" => known(&self.facts.system, name),
            "pack" => self.pack_field(name),
            _ => Err(unknown()),
        }
    }

    fn pack_field(&mut self, name: &str) -> Result<(Json, bool), Problem> {
        // Names of packs may have dots: the longest that fits is meant.
        let packs = self.packs;
        let pack = packs
            .iter()
            .filter_map(|(pack, values)| {
                Some((pack, values, name.strip_prefix(pack.as_str())?.strip_prefix('.')?))
            })
            .max_by_key(|(pack, ..)| pack.len());
        let Some((pack, values, path)) = pack else { return Ok((Json::Null, false)) };
        let Some(value) = values.find(path) else { return Ok((Json::Null, false)) };
        match &value.data {
            Data::Scalar(Json::String(text)) => {
                let expanded = self.linked(format!("{pack}.{path}"), text, is_deployed(path))?;
                if expanded.deferred {
                    let message = format!("`{name}` has a macro that only a cluster can resolve");
                    return Err(Problem::new(message, "write the value itself"));
                }
                Ok((expanded.text.into(), value.masked || expanded.masked))
            }
            Data::Scalar(scalar) => Ok((scalar.clone(), value.masked)),
            _ => {
                let message = format!("`{name}` is a list or a map, and macros give text");
                Err(Problem::new(message, "point to one of the values in it"))
            }
        }
    }
}

/// The action that a text begins with, if it names a field of ours, as far as it can be read.
fn ours(text: &str) -> Option<Result<Action, Problem>> {
    let Some(action) = template::action(text) else {
        let begins = text[2..].trim_start_matches('-').trim_start().starts_with(".spectro.");
        let message = format!("the macro `{}` cannot be read", shortened(text));
        let hint = "write `{{ .spectro.var.NAME | default \"VALUE\" }}`";
        return begins.then(|| Err(Problem::new(message, hint)));
    };
    let named = |token: &Token| matches!(token, Token::Field(field) if field.starts_with(".spectro."));
    action.tokens.iter().any(named).then_some(Ok(action))
}

fn is_deployed(path: &str) -> bool {
    DEPLOYED.contains(&path.split(['.', '[']).next().unwrap_or_default())
}

fn shortened(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() > 100 {
        line.chars().take(97).chain("...".chars()).collect()
    } else {
        line.to_string()
    }
}

/// As Go prints it.
fn text_of(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// The commands of an action, each with the result of the one before as its last argument.
struct Pipeline<'a, 'r, 'p> {
    resolver: &'r mut Resolver<'p>,
    tokens: &'a [Token],
    masked: bool,
}

impl Pipeline<'_, '_, '_> {
    fn run(mut self) -> Result<(Json, bool), Problem> {
        let value = self.pipeline(0)?;
        if !self.tokens.is_empty() {
            return Err(unreadable());
        }
        Ok((value, self.masked))
    }

    fn next(&mut self) -> Option<Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first.clone())
    }

    fn pipeline(&mut self, depth: usize) -> Result<Json, Problem> {
        if depth > MAX_PARENTHESES {
            return Err(unreadable());
        }
        let mut value = self.command(None, depth)?;
        while self.tokens.first() == Some(&Token::Pipe) {
            self.next();
            value = self.command(Some(value), depth)?;
        }
        value.ok()
    }

    /// A function with its arguments, or a single value.
    fn command(&mut self, piped: Option<Found>, depth: usize) -> Result<Found, Problem> {
        let name = match self.tokens.first() {
            Some(Token::Word(name)) if !["true", "false"].contains(&name.as_str()) => {
                let name = name.clone();
                self.next();
                Some(name)
            }
            _ => None,
        };
        let mut values = Vec::new();
        while !matches!(self.tokens.first(), None | Some(Token::Pipe | Token::Close)) {
            values.push(self.operand(depth)?);
        }
        match (name, piped) {
            (Some(name), piped) => {
                values.extend(piped);
                call(&name, &values)
            }
            (None, None) if values.len() == 1 => Ok(values.remove(0)),
            _ => Err(unreadable()),
        }
    }

    fn operand(&mut self, depth: usize) -> Result<Found, Problem> {
        let value = match self.next().ok_or_else(unreadable)? {
            Token::Text(text) => text.into(),
            Token::Number(number) => number.into(),
            Token::Word(word) if word == "true" || word == "false" => Json::Bool(word == "true"),
            Token::Open => {
                let value = self.pipeline(depth + 1)?;
                if self.next() != Some(Token::Close) {
                    return Err(unreadable());
                }
                value
            }
            Token::Field(field) => {
                let (value, masked) = self.resolver.field(&field)?;
                self.masked |= masked;
                return Ok(Found { missing: value.is_null().then_some(field), value });
            }
            _ => return Err(unreadable()),
        };
        Ok(Found { value, missing: None })
    }
}

/// A value, or the field that has none.
struct Found {
    value: Json,
    missing: Option<String>,
}

impl Found {
    fn ok(&self) -> Result<Json, Problem> {
        match &self.missing {
            None => Ok(self.value.clone()),
            Some(field) => {
                Err(Problem::new(format!("`{field}` has no value"), "set it, or write `| default \"VALUE\"`"))
            }
        }
    }
}

fn unreadable() -> Problem {
    Problem::new("it is not understood", "write `{{ .spectro.var.NAME | FUNCTION ARGUMENTS }}`")
}

/// Functions of sprig that make one text of others, with how many arguments they have.
pub(crate) const FUNCTIONS: [(&str, usize); 16] = [
    ("default", 2),
    ("quote", 1),
    ("squote", 1),
    ("upper", 1),
    ("lower", 1),
    ("title", 1),
    ("trim", 1),
    ("trimPrefix", 2),
    ("trimSuffix", 2),
    ("trimAll", 2),
    ("replace", 3),
    ("trunc", 2),
    ("indent", 2),
    ("nindent", 2),
    ("b64enc", 1),
    ("b64dec", 1),
];

fn call(name: &str, arguments: &[Found]) -> Result<Found, Problem> {
    let Some((_, count)) = FUNCTIONS.iter().find(|(function, _)| *function == name) else {
        let names: Vec<_> = FUNCTIONS.iter().map(|(name, _)| *name).collect();
        return Err(Problem::new(
            format!("`{name}` is unknown"),
            format!("functions are {}", names.join(", ")),
        ));
    };
    if arguments.len() != *count {
        let message =
            format!("`{name}` has {count} arguments, the value before `|` included, not {}", arguments.len());
        return Err(Problem::new(message, "docs/packs.md lists the functions"));
    }
    if name == "default" {
        let [default, given] = arguments else { unreachable!("arguments were counted") };
        let chosen = if is_empty(&given.value) { default } else { given };
        return Ok(Found { value: chosen.ok()?, missing: None });
    }
    let values: Vec<Json> = arguments.iter().map(Found::ok).collect::<Result<_, _>>()?;
    let texts: Vec<String> = values.iter().map(text_of).collect();
    let number = || {
        values[0]
            .as_i64()
            .ok_or_else(|| Problem::new(format!("`{name}` needs a number first"), "as in `indent 4`"))
    };
    let last = texts.last().expect("every function has an argument").as_str();
    let text = match name {
        "quote" => Json::from(last).to_string(),
        "squote" => format!("'{last}'"),
        "upper" => last.to_uppercase(),
        "lower" => last.to_lowercase(),
        "title" => title(last),
        "trim" => last.trim().to_string(),
        "trimPrefix" => last.strip_prefix(texts[0].as_str()).unwrap_or(last).to_string(),
        "trimSuffix" => last.strip_suffix(texts[0].as_str()).unwrap_or(last).to_string(),
        "trimAll" => last.trim_matches(|c| texts[0].contains(c)).to_string(),
        "replace" => last.replace(&texts[0], &texts[1]),
        "trunc" => {
            // In bytes by sprig, which may cut a letter in two; in letters here.
            let (count, letters) = (number()?, last.chars().count());
            let kept = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
            let skipped = if count < 0 { letters.saturating_sub(kept) } else { 0 };
            last.chars().skip(skipped).take(kept).collect()
        }
        "indent" | "nindent" => {
            let width = usize::try_from(number()?).ok().filter(|width| *width <= 1000);
            let width = width.ok_or_else(|| Problem::new("an indent is 0 to 1000", "as in `indent 4`"))?;
            let pad = " ".repeat(width);
            let first = if name == "nindent" { "\n" } else { "" };
            format!("{first}{pad}{}", last.replace('\n', &format!("\n{pad}")))
        }
        "b64enc" => BASE64.encode(last),
        _ => {
            let wrong = || Problem::new("the value is no base64 of a text", "leave `b64dec` out");
            String::from_utf8(BASE64.decode(last).map_err(|_| wrong())?).map_err(|_| wrong())?
        }
    };
    Ok(Found { value: text.into(), missing: None })
}

/// What sprig's `default` replaces.
fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Bool(value) => !value,
        Json::Number(number) => number.as_f64() == Some(0.0),
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(map) => map.is_empty(),
    }
}

/// The first letter of each word in upper case.
fn title(text: &str) -> String {
    let mut start = true;
    let mut result = String::new();
    for c in text.chars() {
        if start {
            result.extend(c.to_uppercase())
        } else {
            result.push(c)
        }
        start = c.is_whitespace();
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{profile, selection, with};

    fn facts() -> Facts {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
        };
        Facts {
            variables: map(&[("name", "Gate way"), ("empty", ""), ("b64", "aGk="), ("lines", "a\nb")]),
            system: map(&[("cluster.name", "edge"), ("user.email", "a@b")]),
            resources: None,
        }
    }

    /// What the value `v` of pack `a` is when its macros are resolved, beside a pack `k8s.io` and others.
    fn resolved(text: &str) -> Result<String, String> {
        let values = format!(
            "v: {}\nport: 6443\non: false\nzero: 0\nnothing: ~\nlist: [1]\noptions: {{system.uri: u}}\n",
            Json::from(text)
        );
        let other = "v: o\nvia: '{{ .spectro.pack.a.options.system.uri }}!'\n";
        let selections = vec![
            selection("a", "addon", &values),
            selection("k8s", "k8s", other),
            selection("k8s.io", "addon", "v: longest"),
        ];
        profile(selections, &facts()).map(|profile| {
            let a = profile.packs().iter().find(|pack| pack.pack.definition.name == "a").unwrap();
            a.values["v"].as_str().unwrap().to_string()
        })
    }

    #[test]
    fn macros_give_text() {
        let cases = [
            ("{{ .spectro.var.name }}", "Gate way"),
            ("{{.spectro.var.name}}/{{ .spectro.system.cluster.name }}", "Gate way/edge"),
            ("{{ .spectro.system.kubernetes.version }}", "1.0.0"),
            ("{{ .spectro.pack.a.port }}", "6443"),
            ("{{ .spectro.pack.a.on }}", "false"),
            ("{{ .spectro.pack.a.options.system.uri }}", "u"),
            ("{{ .spectro.pack.k8s.v }} {{ .spectro.pack.k8s.io.v }}", "o longest"),
            ("{{ .spectro.pack.k8s.via }}", "u!"),
            ("a  {{- .spectro.var.name -}}  b", "aGate wayb"),
            // Defaults, as sprig: what is empty counts as absent.
            ("{{ .spectro.var.none | default \"1.19.0\"}}", "1.19.0"),
            ("{{ .spectro.var.none | default .spectro.var.name | lower }}", "gate way"),
            ("{{ .spectro.var.empty | default `x` }}", "x"),
            ("{{ .spectro.var.empty }}", ""),
            ("{{ .spectro.pack.none.x | default 5 }}", "5"),
            ("{{ .spectro.pack.a.nothing | default \"n\" }}", "n"),
            ("{{ .spectro.pack.a.zero | default \"n\" }}", "n"),
            ("{{ .spectro.pack.a.on | default true }}", "true"),
            ("{{ default \"x\" .spectro.var.none }}", "x"),
            // Functions.
            ("{{ .spectro.var.name | upper | quote }}", "\"GATE WAY\""),
            ("{{ .spectro.var.name | squote }}", "'Gate way'"),
            ("{{ .spectro.var.name | title }}", "Gate Way"),
            ("{{ \" x \" | trim | trimPrefix .spectro.var.empty }}", "x"),
            ("{{ .spectro.var.name | trimPrefix \"Gate \" | trimSuffix \"y\" }}", "wa"),
            ("{{ .spectro.var.name | trimAll \"Gy\" }}", "ate wa"),
            ("{{ .spectro.var.name | replace \" \" \"-\" }}", "Gate-way"),
            ("{{ .spectro.var.name | trunc 4 }}{{ .spectro.var.name | trunc -3 }}", "Gateway"),
            ("{{ .spectro.var.lines | indent 2 }}{{ .spectro.var.lines | nindent 1 }}", "  a\n  b\n a\n b"),
            ("{{ .spectro.var.b64 | b64dec }}{{ .spectro.var.b64 | b64enc }}", "hiYUdrPQ=="),
            ("{{ (.spectro.var.none | default (lower .spectro.var.name)) | upper }}", "GATE WAY"),
            // Of others.
            (
                "{{ artifacts }}/x {{ .Values.spectro.var.x | quote }}",
                "{{ artifacts }}/x {{ .Values.spectro.var.x | quote }}",
            ),
            ("{{ a['b'] }} {% if %} {{", "{{ a['b'] }} {% if %} {{"),
            ("{{ \".spectro.var.x\" }}", "{{ \".spectro.var.x\" }}"),
            ("{{{ .spectro.var.name }}}", "{Gate way}"),
            ("}} { { .spectro.var.x }}", "}} { { .spectro.var.x }}"),
        ];
        for (text, expected) in cases {
            assert_eq!(resolved(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn wrong_macros_are_told_with_their_place() {
        let kinds = "macros of ours are .spectro.pack.NAME.PATH, .spectro.var.NAME and .spectro.system.NAME";
        let set = "set it, or write `| default \"VALUE\"`";
        let functions = FUNCTIONS.map(|(name, _)| name).join(", ");
        let cases = [
            ("{{ .spectro.macro.x | default 1 }}", "`.spectro.macro.x` is unknown", kinds),
            ("{{ .spectro.var }}", "`.spectro.var` is unknown", kinds),
            ("{{ .spectro.var.none }}", "`.spectro.var.none` has no value", set),
            ("{{ .spectro.var.none | upper }}", "`.spectro.var.none` has no value", set),
            (
                "{{ .spectro.var.none | default .spectro.var.neither }}",
                "`.spectro.var.neither` has no value",
                set,
            ),
            ("{{ .spectro.system.none }}", "`.spectro.system.none` has no value", set),
            ("{{ .spectro.pack.none.x }}", "`.spectro.pack.none.x` has no value", set),
            ("{{ .spectro.pack.a.none.x }}", "`.spectro.pack.a.none.x` has no value", set),
            ("{{ .spectro.pack.a.nothing }}", "`.spectro.pack.a.nothing` has no value", set),
            (
                "{{ .spectro.pack.a.list }}",
                "`a.list` is a list or a map, and macros give text",
                "point to one of the values in it",
            ),
            ("{{ .spectro.var.name | shout }}", "`shout` is unknown", &format!("functions are {functions}")),
            (
                "{{ .spectro.var.name | upper 1 }}",
                "`upper` has 1 arguments, the value before `|` included, not 2",
                "docs/packs.md lists the functions",
            ),
            ("{{ .spectro.var.name | trunc \"x\" }}", "`trunc` needs a number first", "as in `indent 4`"),
            ("{{ .spectro.var.name | indent 9999 }}", "an indent is 0 to 1000", "as in `indent 4`"),
            ("{{ .spectro.var.name | b64dec }}", "the value is no base64 of a text", "leave `b64dec` out"),
            (
                "{{ .spectro.var.name .spectro.var.name }}",
                "it is not understood",
                "write `{{ .spectro.var.NAME | FUNCTION ARGUMENTS }}`",
            ),
            ("{{ if .spectro.var.name }}", "`if` is unknown", &format!("functions are {functions}")),
            (
                "{{ .spectro.var.name | }}",
                "it is not understood",
                "write `{{ .spectro.var.NAME | FUNCTION ARGUMENTS }}`",
            ),
            (
                "{{ (.spectro.var.name }}",
                "it is not understood",
                "write `{{ .spectro.var.NAME | FUNCTION ARGUMENTS }}`",
            ),
        ];
        for (text, problem, hint) in cases {
            assert_eq!(
                resolved(text).unwrap_err(),
                format!("a-1.0.0/values.yaml:1:4: the macro `{text}`: {problem} ({hint})")
            );
        }
        for text in ["{{ .spectro.var.x", "{{ .spectro.var.x = 1 }}", "{{- .spectro.var.x | default \"y }}"] {
            let error = resolved(text).unwrap_err();
            assert!(error.contains("cannot be read"), "{error}");
        }
        let deep = format!("{{{{ {}.spectro.var.name{} }}}}", "(".repeat(99), ")".repeat(99));
        assert!(resolved(&deep).unwrap_err().contains("it is not understood"));
    }

    #[test]
    fn every_wrong_macro_is_told() {
        let files = [(
            "values.yaml",
            "a: '{{ .spectro.var.x }}'\nl:\n- '{{ .spectro.var.y }}'\n'{{ .spectro.var.name }}': 1\n",
        )];
        let error = profile(vec![with(&files, "b: '{{ .spectro.var.z }}'")], &facts()).err().unwrap();
        let starts: Vec<_> = error.lines().map(|line| line.split(" (").next().unwrap()).collect();
        assert_eq!(
            starts,
            [
                "a-1.0.0/values.yaml:1:4: the macro `{{ .spectro.var.x }}`: `.spectro.var.x` has no value",
                "image.yaml:1:4: the macro `{{ .spectro.var.z }}`: `.spectro.var.z` has no value",
                "a-1.0.0/values.yaml:3:3: the macro `{{ .spectro.var.y }}`: `.spectro.var.y` has no value",
                "a-1.0.0/values.yaml:4:28: the key `{{ .spectro.var.name }}` has a macro",
            ]
        );
    }

    #[test]
    fn circles_are_named() {
        let error = |values: &str| {
            profile(
                vec![selection("a", "os", values), selection("b", "addon", "y: '{{ .spectro.pack.a.x }}'")],
                &facts(),
            )
            .err()
            .unwrap()
        };
        assert_eq!(
            error("x: '{{ .spectro.pack.b.y }}'").lines().next().unwrap(),
            "a-1.0.0/values.yaml:1:4: macros go in a circle: `a.x` -> `b.y` -> `a.x` (give one of these values without a macro)"
        );
        let error_of_chart = error("x: x\ncharts: {c: '{{ .spectro.pack.a.charts.c | default \"d\" }}'}");
        assert!(
            error_of_chart.contains("macros go in a circle: `a.charts.c` -> `a.charts.c`"),
            "{error_of_chart}"
        );
        let chain: String =
            (0..40).map(|n| format!("v{n}: '{{{{ .spectro.pack.a.v{} }}}}'\n", n + 1)).collect();
        assert!(error(&(chain + "v40: end")).contains("more than 32 values lead to each other"));
        let doubling: String = (0..30)
            .map(|n| format!("v{n}: '{{{{ .spectro.pack.a.v{0} }}}}{{{{ .spectro.pack.a.v{0} }}}}'\n", n + 1))
            .collect();
        assert!(error(&(doubling + "v30: x")).contains("bytes in all"));
    }

    #[test]
    fn what_is_deployed_may_wait_for_the_cluster() {
        let wait = "{{ .spectro.system.cluster.uid }} {{ .spectro.var.name }}";
        let values = format!(
            "charts: {{c: '{wait}', k: '{{{{ .spectro.x'}}\nmanifests: {{m: ['{wait}']}}\nd: '{{{{ .spectro.pack.a.charts.c }}}}'\n"
        );
        let error = profile(vec![selection("a", "os", &values)], &facts()).err().unwrap();
        assert_eq!(
            error,
            "a-1.0.0/values.yaml:3:4: the macro `{{ .spectro.pack.a.charts.c }}`: `a.charts.c` has a macro that only a cluster can resolve (write the value itself)"
        );
        let profile =
            profile(vec![selection("a", "os", &values.replace("d: ", "charts2: x #"))], &facts()).unwrap();
        let expected = "{{ .spectro.system.cluster.uid }} Gate way";
        assert_eq!(profile.values()["charts"]["c"], expected);
        assert_eq!(profile.values()["charts"]["k"], "{{ .spectro.x");
        assert_eq!(profile.values()["manifests"]["m"][0], expected);
    }

    proptest! {
        #[test]
        fn any_text_is_resolved_or_refused(text in r"(\{\{-?| ?-?\}\}| \.spectro\.(var\.name|pack\.a\.v|pack\.b\.x)| \| ?(default|quote|trunc)|[ ()|.a1-]|`a`|.)*") {
            let packs = [("a".to_string(), Value::from_node(&crate::document::Node::from_json(&serde_json::json!({"v": text}), Default::default()), &Default::default()))];
            let _ = resolve(&packs, &facts());
        }
    }
}
