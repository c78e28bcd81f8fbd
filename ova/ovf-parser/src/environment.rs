//! The OVF environment: the values of a descriptor's properties, as the virtual machine is given them (DSP0243,
//! section 9; DSP8027 is its schema).
//!
//! Hypervisors differ in prefixes, in sections that they leave out, and in `Entity` children with the values of *other*
//! machines. Names are read by namespace and only the root's own `PropertySection` counts.

use std::collections::BTreeMap;
use std::fmt;

use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

/// The namespace of every element and attribute that is read here.
const NAMESPACE: &str = "http://schemas.dmtf.org/ovf/environment/1";
/// The longest document that is read, in bytes: what guestinfo can hold in all.
const MAX_LENGTH: usize = 1 << 20;
/// Deeper than any document is nested.
const MAX_DEPTH: usize = 32;

/// What the hypervisor says. `Debug` shows keys only: values may be secrets.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Environment {
    /// Values by key, as they were given. May hold secrets.
    pub properties: BTreeMap<String, String>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("properties", &self.properties.keys()).finish()
    }
}

/// Why a document is no OVF environment.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// Beyond what a hypervisor hands over.
    #[error("The document is longer than 1 MiB")]
    TooLong,
    /// With the number of the first byte that is none.
    #[error("The document is not UTF-8 from byte {0} on")]
    NotUtf8(usize),
    /// Broken XML; often a value with `&`, `<` or `\"` that a tool put in as it was.
    #[error("Line {line}, column {column}: {message}")]
    Xml {
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// XML, but something else.
    #[error("The root is not an OVF `Environment`")]
    NotAnEnvironment,
}

impl Environment {
    /// Reads a document. A key that is there twice has its last value.
    ///
    /// # Errors
    /// See [`Error`]. Documents with a DTD are refused: nobody writes them, and they can grow without end.
    pub fn parse(bytes: &[u8]) -> Result<Environment, Error> {
        if bytes.len() > MAX_LENGTH {
            return Err(Error::TooLong);
        }
        // Some tools end the document with NULs or begin it with a byte order mark.
        let text = std::str::from_utf8(bytes).map_err(|e| Error::NotUtf8(e.valid_up_to()))?;
        let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\0', ' ', '\n', '\r', '\t']);
        let mut reader = NsReader::from_str(text);
        let mut environment = Environment::default();
        // The local names of open elements that are in our namespace; others are empty.
        let mut path: Vec<String> = Vec::new();
        let mut seen_root = false;
        loop {
            let at = reader.buffer_position();
            let broken = |message: String| {
                let before = &text[..usize::try_from(at).unwrap_or(0).min(text.len())];
                let line = before.matches('\n').count() + 1;
                let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1) + 1;
                Error::Xml { line, column, message }
            };
            let event = reader.read_event().map_err(|e| broken(e.to_string()))?;
            let is_empty = matches!(event, Event::Empty(_));
            match event {
                Event::Start(element) | Event::Empty(element) => {
                    let (namespace, local) = reader.resolver().resolve_element(element.name());
                    let name = if is_ours(&namespace) { local.as_ref().to_string() } else { String::new() };
                    if path.is_empty() {
                        if seen_root {
                            return Err(broken("there is a second root".into()));
                        }
                        if name != "Environment" {
                            return Err(Error::NotAnEnvironment);
                        }
                        seen_root = true;
                    }
                    path.push(name);
                    if path.len() > MAX_DEPTH {
                        return Err(broken("elements are nested too deeply".into()));
                    }
                    if path == ["Environment", "PropertySection", "Property"]
                        && let Some((key, value)) = property(&reader, &element).map_err(broken)?
                    {
                        environment.properties.insert(key, value);
                    }
                    if is_empty {
                        path.pop();
                    }
                }
                Event::End(_) => {
                    path.pop();
                }
                Event::DocType(_) => return Err(broken("a DTD has no place in an OVF environment".into())),
                Event::Eof => {
                    if !path.is_empty() {
                        return Err(broken("the document ends too early".into()));
                    }
                    return if seen_root { Ok(environment) } else { Err(Error::NotAnEnvironment) };
                }
                _ => {}
            }
        }
    }
}

fn is_ours(namespace: &ResolveResult<'_>) -> bool {
    matches!(namespace, ResolveResult::Bound(name) if name.as_ref() == NAMESPACE)
}

/// Key and value of a `Property`; nothing where it has no key.
fn property(reader: &NsReader<&[u8]>, element: &BytesStart<'_>) -> Result<Option<(String, String)>, String> {
    let (mut key, mut value) = (None, None);
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|e| e.to_string())?;
        let (namespace, local) = reader.resolver().resolve_attribute(attribute.key);
        // Qualified by the schema; some writers leave the prefix out.
        if !is_ours(&namespace) && !matches!(namespace, ResolveResult::Unbound) {
            continue;
        }
        let text = || {
            quick_xml::escape::unescape(&attribute.value)
                .map(|text| text.into_owned())
                .map_err(|e| e.to_string())
        };
        match local.as_ref() {
            "key" => key = Some(text()?),
            "value" => value = Some(text()?),
            _ => {}
        }
    }
    Ok(key.map(|key| (key, value.unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Vec<(String, String)>, Error> {
        Environment::parse(text.as_bytes()).map(|environment| environment.properties.into_iter().collect())
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn documents_of_every_hypervisor() {
        // vCenter.
        let vcenter = r#"<?xml version="1.0" encoding="UTF-8"?>
<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1"
     xmlns:oe="http://schemas.dmtf.org/ovf/environment/1" xmlns:ve="http://www.vmware.com/schema/ovfenv"
     oe:id="" ve:vCenterId="vm-12">
   <PlatformSection><Kind>VMware ESXi</Kind><Version>8.0.2</Version><Vendor>VMware, Inc.</Vendor><Locale>en</Locale></PlatformSection>
   <PropertySection>
      <Property oe:key="gateway-name" oe:value="edge &amp; &#34;one&#34;"/>
      <Property oe:key="dns" oe:value=""></Property>
      <Property oe:key="no-value"/>
   </PropertySection>
   <ve:EthernetAdapterSection><ve:Adapter ve:mac="00:50:56:00:00:01" ve:network="VM Network" ve:unitNumber="7"/></ve:EthernetAdapterSection>
   <Entity oe:id="other"><PropertySection><Property oe:key="gateway-name" oe:value="not ours"/></PropertySection></Entity>
</Environment>"#;
        assert_eq!(
            parse(vcenter).unwrap(),
            pairs(&[("dns", ""), ("gateway-name", "edge & \"one\""), ("no-value", "")])
        );
        // vCloud Director: another prefix everywhere.
        let vcd = r#"<ovfenv:Environment xmlns:ovfenv="http://schemas.dmtf.org/ovf/environment/1"><ovfenv:PropertySection><ovfenv:Property ovfenv:key="a" ovfenv:value="True"/></ovfenv:PropertySection></ovfenv:Environment>"#;
        assert_eq!(parse(vcd).unwrap(), pairs(&[("a", "True")]));
        // No section, no prefix, NULs at the end.
        assert_eq!(parse(r#"<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1"/>"#).unwrap(), []);
        let plain = "\u{feff}<Environment xmlns=\"http://schemas.dmtf.org/ovf/environment/1\"><PropertySection><Property key=\"a\" value=\"b\"/></PropertySection></Environment>\n\0\0";
        assert_eq!(parse(plain).unwrap(), pairs(&[("a", "b")]));
        // Not XML, but there is only one way to mean it.
        let unescaped = plain.replace("\"b\"", "\"b < c\"");
        assert_eq!(parse(&unescaped).unwrap(), pairs(&[("a", "b < c")]));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let head = r#"<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1">"#;
        let document =
            |inside: &str| format!("{head}\n<PropertySection>\n{inside}</PropertySection></Environment>");
        let cases = [
            // What govc makes of a value with an ampersand.
            (document("<Property key=\"a\" value=\"b & c\"/>"), "Line 3"),
            (document("<Property key=\"a\" value=\"b \"c\" d\"/>"), "Line 3"),
            (document("<Property key=\"a\" value=\"&x;\"/>"), "Line 3"),
            (format!("<!DOCTYPE a [<!ENTITY x \"y\">]>{head}</Environment>"), "DTD"),
            (format!("{head}<PropertySection>"), "too early"),
            (format!("{head}</Environment>{head}</Environment>"), "second root"),
            (format!("{head}{}", "<a>".repeat(40)), "nested"),
            (String::new(), "not an OVF"),
            ("guestinfo".into(), "not an OVF"),
            ("<Environment/>".into(), "not an OVF"),
        ];
        for (text, expected) in cases {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert_eq!(Environment::parse(&vec![b' '; (1 << 20) + 1]), Err(Error::TooLong));
        assert_eq!(Environment::parse(b"<a>\xff"), Err(Error::NotUtf8(3)));
    }

    fn escaped(value: &str) -> String {
        // A line break in an attribute must be a reference, or XML makes it a space.
        value.chars().map(|c| format!("&#{};", c as u32)).collect()
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Environment::parse(&bytes);
        }

        #[test]
        fn broken_documents_are_read_or_refused(cut in 0_usize..200, junk in "[<>&\"'=/a-z: ]{0,20}") {
            let document = r#"<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:o="http://schemas.dmtf.org/ovf/environment/1"><PropertySection><Property o:key="a" o:value="b"/></PropertySection></Environment>"#;
            let cut = cut.min(document.len());
            let _ = Environment::parse(format!("{}{junk}{}", &document[..cut], &document[cut..]).as_bytes());
        }

        #[test]
        fn values_come_back(value in "[ -~\u{e4}\u{1f600}]{0,40}") {
            let text = format!(
                r#"<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1"><PropertySection><Property key="k" value="{}"/></PropertySection></Environment>"#,
                escaped(&value)
            );
            prop_assert_eq!(parse(&text).unwrap(), pairs(&[("k", &value)]));
        }
    }
}
