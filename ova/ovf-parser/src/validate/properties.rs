//! What may be filled in.

use std::collections::{BTreeMap, BTreeSet};

use super::{Names, Problems, per_option};
use crate::envelope::{Content, Envelope};
use crate::product::{Product, Property, Qualifier};
use crate::value::Value;

impl Problems {
    pub(super) fn products(&mut self, products: &[Product], names: &Names<'_>) {
        let (mut groups, mut seen) = (BTreeMap::new(), BTreeSet::new());
        for product in products {
            let count = groups.len();
            let group = *groups.entry(group(product)).or_insert(count);
            for property in &product.properties {
                match &property.key {
                    None => self.invalid(property.position, "A property without `key`"),
                    Some(key) => {
                        let mut is_new = true;
                        per_option(property.configurations())
                            .for_each(|option| is_new &= seen.insert((group, key.as_str(), option)));
                        if !is_new {
                            self.invalid(key.position, format!("A second property has the key `{key}`"));
                        }
                    }
                }
                self.property(property, names);
            }
        }
    }

    fn property(&mut self, property: &Property, names: &Names<'_>) {
        self.options(property.configuration.as_ref(), names);
        for value in &property.values {
            self.options(value.configuration.as_ref(), names);
        }
        if let Some(list) = &property.qualifier_list
            && let Some(Qualifier::Other(text)) =
                Qualifier::parse_list(list).find(|qualifier| matches!(qualifier, Qualifier::Other(_)))
        {
            self.unsupported(list.position, format!("The qualifier `{text}` is not known"));
        }
        let Some(kind) = &property.kind else {
            return self.invalid(property.position, "A property without `type`");
        };
        let Some(kind_of) = PropertyKind::named(kind) else {
            return self.unsupported(kind.position, format!("A property of the type `{kind}`"));
        };
        let configured = property.values.iter().filter_map(|value| value.value.as_ref());
        for value in property.value.iter().chain(configured) {
            if !kind_of.fits(value) {
                self.invalid(value.position, format!("The default `{value}` is not of the type `{kind}`"));
            }
        }
    }
}

/// Properties by class and instance of their products; no name is put together, as one class may have many properties.
#[derive(Default)]
pub(super) struct PropertyNames<'a> {
    /// Of all products.
    all: BTreeSet<&'a str>,
    keys: BTreeMap<(&'a str, &'a str), BTreeSet<&'a str>>,
}

impl<'a> PropertyNames<'a> {
    /// Those of all products of the package.
    pub(super) fn of(envelope: &'a Envelope) -> Self {
        let mut names = PropertyNames::default();
        let mut open: Vec<&Content> = envelope.content.iter().collect();
        while let Some(content) = open.pop() {
            let products = match content {
                Content::System(system) => &system.products,
                Content::Collection(collection) => {
                    open.extend(&collection.content);
                    &collection.products
                }
            };
            for product in products.iter().filter(|product| !product.properties.is_empty()) {
                let keys = product.properties.iter().filter_map(|property| property.key.as_deref());
                names.all.extend(keys.clone());
                names.keys.entry(group(product)).or_default().extend(keys);
            }
        }
        names
    }

    /// Whether a property is called so, by its own key or by `[class.]key[.instance]`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.all.contains(name)
            || self.keys.iter().any(|((class, instance), keys)| {
                let key = match *class {
                    "" => Some(name),
                    class => name.strip_prefix(class).and_then(|rest| rest.strip_prefix('.')),
                };
                let key = key.and_then(|key| match *instance {
                    "" => Some(key),
                    instance => key.strip_suffix(instance)?.strip_suffix('.'),
                });
                key.is_some_and(|key| keys.contains(key))
            })
    }
}

/// Class and instance, empty where there is none.
fn group(product: &Product) -> (&str, &str) {
    (product.class.as_deref().unwrap_or_default(), product.instance.as_deref().unwrap_or_default())
}

/// Types of properties, by what fits them.
enum PropertyKind {
    Text,
    Boolean,
    /// No less, no more.
    Integer(i128, i128),
    Real,
}

impl PropertyKind {
    fn named(name: &str) -> Option<PropertyKind> {
        let name = name.trim().to_ascii_lowercase();
        Some(match name.as_str() {
            "string" | "password" | "expression" => PropertyKind::Text,
            _ if name == "ip" || name.starts_with("ip:") => PropertyKind::Text,
            "boolean" => PropertyKind::Boolean,
            "int" => PropertyKind::Integer(i64::MIN.into(), u64::MAX.into()),
            "uint8" => PropertyKind::Integer(0, u8::MAX.into()),
            "uint16" => PropertyKind::Integer(0, u16::MAX.into()),
            "uint32" => PropertyKind::Integer(0, u32::MAX.into()),
            "uint64" => PropertyKind::Integer(0, u64::MAX.into()),
            "sint8" => PropertyKind::Integer(i8::MIN.into(), i8::MAX.into()),
            "sint16" => PropertyKind::Integer(i16::MIN.into(), i16::MAX.into()),
            "sint32" => PropertyKind::Integer(i32::MIN.into(), i32::MAX.into()),
            "sint64" => PropertyKind::Integer(i64::MIN.into(), i64::MAX.into()),
            "real32" | "real64" => PropertyKind::Real,
            _ => return None,
        })
    }

    /// An empty default fits all: it stands for none.
    fn fits(&self, value: &Value) -> bool {
        value.trim().is_empty()
            || match self {
                PropertyKind::Text => true,
                PropertyKind::Boolean => value.boolean().is_some(),
                PropertyKind::Integer(min, max) => {
                    value.trim().parse::<i128>().is_ok_and(|number| (*min..=*max).contains(&number))
                }
                PropertyKind::Real => value.trim().parse::<f64>().is_ok(),
            }
    }
}
