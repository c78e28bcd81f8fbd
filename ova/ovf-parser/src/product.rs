//! What is installed and what may be filled in: the `ProductSection`.

use std::sync::Arc;

use crate::tree::{Element, Namespace};
use crate::value::{Position, Value};

/// A `ProductSection`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Product {
    /// Where it begins.
    pub position: Position,
    /// Whether a reader that does not know the section must refuse the document.
    pub required: bool,
    /// First part of its properties' names.
    pub class: Option<Value>,
    /// Last part of its properties' names.
    pub instance: Option<Value>,
    /// What the section is for.
    pub info: Option<Value>,
    /// Name.
    pub product: Option<Value>,
    /// Who makes it.
    pub vendor: Option<Value>,
    /// Short version.
    pub version: Option<Value>,
    /// Exact version.
    pub full_version: Option<Value>,
    /// Where to read of the product.
    pub product_url: Option<Value>,
    /// Where to read of the vendor.
    pub vendor_url: Option<Value>,
    /// Where it answers once it runs, with `${property}`.
    pub app_url: Option<Value>,
    /// In the order of the deployment dialogue.
    pub properties: Vec<Property>,
}

impl Product {
    pub(crate) fn of(element: &Element) -> Product {
        let mut product = Product {
            position: element.position(),
            required: element.is_required(),
            class: element.ovf("class"),
            instance: element.ovf("instance"),
            info: element.leaf("Info"),
            product: element.leaf("Product"),
            vendor: element.leaf("Vendor"),
            version: element.leaf("Version"),
            full_version: element.leaf("FullVersion"),
            product_url: element.leaf("ProductUrl"),
            vendor_url: element.leaf("VendorUrl"),
            app_url: element.leaf("AppUrl"),
            properties: Vec::new(),
        };
        let mut category = None;
        for child in element.elements() {
            match child.ovf_kind() {
                Some("Category") => category = Some(Arc::new(child.value())),
                Some("Property") => product.properties.push(Property::of(child, category.clone())),
                _ => {}
            }
        }
        product
    }

    /// The name by which the guest and those who deploy know a property: `[class.]key[.instance]` (DSP0243, 9.5.1). Empty
    /// parts are left out.
    #[must_use]
    pub fn effective_key(&self, property: &Property) -> String {
        [&self.class, &property.key, &self.instance]
            .into_iter()
            .flatten()
            .map(|part| part.text.as_str())
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(".")
    }
}

/// A property to fill in when deploying.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Property {
    /// Where it begins.
    pub position: Position,
    /// The group it is shown in: the last `Category` before it. Shared, as one long text may rule many properties.
    pub category: Option<Arc<Value>>,
    /// Its name in the product; see [`Product::effective_key`].
    pub key: Option<Value>,
    /// What may be typed in, as in `string`, `boolean`, `uint8`.
    pub kind: Option<Value>,
    /// Further rules for the value, as written; see [`Property::qualifiers`].
    pub qualifier_list: Option<Value>,
    /// VMware's further rules, as in `Ip` and `Network`.
    pub vmw_qualifier_list: Option<Value>,
    /// Cannot be filled in where it is missing or false.
    pub user_configurable: Option<Value>,
    /// Hidden while typing.
    pub password: Option<Value>,
    /// VMware's: only in these deployment options, between spaces.
    pub configuration: Option<Value>,
    /// Default; a property without one keeps the machine from powering on until one is given.
    pub value: Option<Value>,
    /// Other defaults, by deployment option.
    pub values: Vec<ConfiguredValue>,
    /// Name shown to people.
    pub label: Option<Value>,
    /// Explanation shown to people.
    pub description: Option<Value>,
}

/// The default of a property in one deployment option.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConfiguredValue {
    /// Where it begins.
    pub position: Position,
    /// The option's name.
    pub configuration: Option<Value>,
    /// The default there.
    pub value: Option<Value>,
}

impl Property {
    fn of(element: &Element, category: Option<Arc<Value>>) -> Property {
        let values = element.elements().filter(|child| child.ovf_kind() == Some("Value"));
        Property {
            position: element.position(),
            category,
            key: element.ovf("key"),
            kind: element.ovf("type"),
            qualifier_list: element.ovf("qualifiers"),
            vmw_qualifier_list: element.attribute("qualifiers", |namespace| *namespace == Namespace::Vmw),
            user_configurable: element.ovf("userConfigurable"),
            password: element.ovf("password"),
            configuration: element.ovf("configuration"),
            value: element.ovf("value"),
            values: values
                .map(|value| ConfiguredValue {
                    position: value.position(),
                    configuration: value.ovf("configuration"),
                    value: value.ovf("value"),
                })
                .collect(),
            label: element.leaf("Label"),
            description: element.leaf("Description"),
        }
    }

    /// Whether those who deploy may fill it in; not so unless it says so.
    #[must_use]
    pub fn is_user_configurable(&self) -> bool {
        self.user_configurable.as_ref().and_then(Value::boolean) == Some(true)
    }

    /// Whether its value is hidden.
    #[must_use]
    pub fn is_password(&self) -> bool {
        self.password.as_ref().and_then(Value::boolean) == Some(true)
    }

    /// The deployment options in [`Property::configuration`].
    pub fn configurations(&self) -> impl Iterator<Item = &str> {
        self.configuration.iter().flat_map(|names| names.split_whitespace())
    }

    /// The rules in [`Property::qualifier_list`].
    #[must_use]
    pub fn qualifiers(&self) -> Vec<Qualifier> {
        self.qualifier_list.iter().flat_map(|list| Qualifier::parse_list(list)).collect()
    }

    /// The default in a deployment option; its own value where the option has none.
    #[must_use]
    pub fn value_in(&self, configuration: &str) -> Option<&Value> {
        let is_its = |value: &&ConfiguredValue| {
            value.configuration.iter().any(|name| name.split_whitespace().any(|name| name == configuration))
        };
        self.values.iter().find(is_its).and_then(|value| value.value.as_ref()).or(self.value.as_ref())
    }
}

/// A rule for the value of a property (DSP0243, 9.5.1, with the names of DSP0004).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Qualifier {
    /// At least so many characters.
    MinLen(u64),
    /// At most so many characters.
    MaxLen(u64),
    /// No less.
    MinValue(i128),
    /// No more.
    MaxValue(i128),
    /// One of these.
    ValueMap(Vec<String>),
    /// One that is not known, or not written as it must be: the text of it.
    Other(String),
}

impl Qualifier {
    /// Reads `MinLen(1),MaxLen(63)` or `ValueMap{"a","b"}`, with spaces or without.
    pub fn parse_list(text: &str) -> impl Iterator<Item = Qualifier> {
        split(text).map(Qualifier::parse)
    }

    fn parse(text: &str) -> Qualifier {
        Qualifier::known(text).unwrap_or_else(|| Qualifier::Other(text.into()))
    }

    fn known(text: &str) -> Option<Qualifier> {
        let (name, rest) = text.split_at(text.find(['(', '{'])?);
        let inside = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let inside =
            inside.or_else(|| rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')))?.trim();
        match name.trim() {
            "MinLen" => Some(Qualifier::MinLen(inside.parse().ok()?)),
            "MaxLen" => Some(Qualifier::MaxLen(inside.parse().ok()?)),
            "MinValue" => Some(Qualifier::MinValue(inside.parse().ok()?)),
            "MaxValue" => Some(Qualifier::MaxValue(inside.parse().ok()?)),
            "ValueMap" => split(inside).map(unquoted).collect::<Option<_>>().map(Qualifier::ValueMap),
            _ => None,
        }
    }
}

/// The parts between commas that are neither in quotes nor in brackets, without white space around them.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text).filter(|text| !text.trim().is_empty());
    std::iter::from_fn(move || {
        let text = rest?;
        let end = comma(text).unwrap_or(text.len());
        rest = text.get(end + 1..);
        Some(text[..end].trim())
    })
}

/// Where the first comma is that is neither in quotes nor in brackets.
fn comma(text: &str) -> Option<usize> {
    let (mut depth, mut is_quoted, mut is_escaped) = (0_usize, false, false);
    for (at, character) in text.char_indices() {
        let was_escaped = std::mem::take(&mut is_escaped);
        match character {
            '\\' if is_quoted => is_escaped = !was_escaped,
            '"' if !was_escaped => is_quoted = !is_quoted,
            '(' | '{' if !is_quoted => depth += 1,
            ')' | '}' if !is_quoted => depth = depth.saturating_sub(1),
            ',' if !is_quoted && depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

/// What is between quotes, with `\"` and `\\` as DSP0004 writes them.
fn unquoted(text: &str) -> Option<String> {
    let inside = text.strip_prefix('"')?.strip_suffix('"')?;
    let (mut value, mut characters) = (String::new(), inside.chars());
    while let Some(character) = characters.next() {
        match character {
            // Before other characters it stands for itself: these are no MOF files.
            '\\' => match characters.next()? {
                escaped @ ('"' | '\\') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            '"' => return None,
            _ => value.push(character),
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(values: &[&str]) -> Qualifier {
        Qualifier::ValueMap(values.iter().map(|value| (*value).into()).collect())
    }

    #[test]
    fn qualifiers() {
        use Qualifier::{MaxLen, MaxValue, MinLen, MinValue, Other};
        let cases = [
            ("", vec![]),
            (" ", vec![]),
            ("MinLen(1),MaxLen(63)", vec![MinLen(1), MaxLen(63)]),
            ("MinLen(1) MaxLen(63)", vec![Other("MinLen(1) MaxLen(63)".into())]),
            (" MinLen ( 1 ) , MaxLen{63}", vec![MinLen(1), MaxLen(63)]),
            ("MinValue(-5), MaxValue(18446744073709551615)", vec![MinValue(-5), MaxValue(u64::MAX.into())]),
            ("ValueMap{\"small\", \"large\"}", vec![map(&["small", "large"])]),
            (
                "ValueMap{\"a,b\",\"}\",\"\",\"\\\"\\\\\\n\"},MinLen(0)",
                vec![map(&["a,b", "}", "", "\"\\\\n"]), MinLen(0)],
            ),
            ("ValueMap{}", vec![map(&[])]),
            ("ValueMap{a}", vec![Other("ValueMap{a}".into())]),
            ("MinLen(-1)", vec![Other("MinLen(-1)".into())]),
            ("MinLen(1", vec![Other("MinLen(1".into())]),
            ("Required", vec![Other("Required".into())]),
        ];
        for (text, expected) in cases {
            assert_eq!(Qualifier::parse_list(text).collect::<Vec<_>>(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_list(text in "[a-zL(){}\",\\\\0-9 ]{0,40}") {
            Qualifier::parse_list(&text).for_each(drop);
        }

        #[test]
        fn what_is_written_is_read(min in 0..100_u32, max: u32, values in proptest::collection::vec("[ -!#-\\[\\]-~]{0,8}", 0..4)) {
            let list = values.iter().map(|value| format!("\"{value}\"")).collect::<Vec<_>>().join(",");
            let text = format!("MinLen({min}),MaxLen({max}),ValueMap{{{list}}}");
            prop_assert_eq!(
                Qualifier::parse_list(&text).collect::<Vec<_>>(),
                [Qualifier::MinLen(min.into()), Qualifier::MaxLen(max.into()), Qualifier::ValueMap(values)]
            );
        }
    }
}
