//! OVF environment documents, as the platforms write them. Sources: DSP0243 (OVF 1.1), section 9; what vCenter, the ESXi
//! client and vCloud Director were seen to make of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How the names in the document look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Style {
    /// vCenter: the default namespace for elements, `oe:` for attributes, and `ve:` extras.
    #[default]
    VCenter,
    /// vCloud Director: a prefix for everything.
    CloudDirector,
    /// Other prefixes than anybody's: readers must go by namespaces.
    Odd,
    /// The values of another VM of the same vApp come along, in an `Entity`.
    VApp,
}

/// A document in the making.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    properties: BTreeMap<String, String>,
    style: Style,
}

impl Environment {
    /// With the given properties, in vCenter's style.
    #[must_use]
    pub fn new(properties: &[(&str, &str)]) -> Environment {
        let mut environment = Environment::default();
        for (key, value) in properties {
            environment = environment.with(key, value);
        }
        environment
    }

    /// One more property, or another value for it.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Environment {
        self.properties.insert(key.into(), value.into());
        self
    }

    /// In another style.
    #[must_use]
    pub fn style(mut self, style: Style) -> Environment {
        self.style = style;
        self
    }

    /// The document.
    #[must_use]
    pub fn xml(&self) -> String {
        const ENVIRONMENT: &str = "http://schemas.dmtf.org/ovf/environment/1";
        const VMWARE: &str = "http://www.vmware.com/schema/ovfenv";
        // The prefix of elements, that of attributes, and how the first one is declared.
        let (element, attribute, declaration) = match self.style {
            Style::VCenter | Style::VApp => {
                ("", "oe:", format!("xmlns=\"{ENVIRONMENT}\" xmlns:oe=\"{ENVIRONMENT}\""))
            }
            Style::CloudDirector => ("ovfenv:", "ovfenv:", format!("xmlns:ovfenv=\"{ENVIRONMENT}\"")),
            Style::Odd => ("a:", "b:", format!("xmlns:a=\"{ENVIRONMENT}\" xmlns:b='{ENVIRONMENT}'")),
        };
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{element}Environment {declaration} xmlns:ve=\"{VMWARE}\" \
             {attribute}id=\"\" ve:vCenterId=\"vm-42\">\n<{element}PlatformSection><{element}Kind>VMware ESXi</{element}Kind>\
             <{element}Version>8.0.3</{element}Version><{element}Vendor>VMware, Inc.</{element}Vendor>\
             <{element}Locale>en</{element}Locale></{element}PlatformSection>\n<{element}PropertySection>\n"
        );
        for (key, value) in &self.properties {
            let (key, value) = (escape(key), escape(value));
            let _ =
                writeln!(xml, "<{element}Property {attribute}key=\"{key}\" {attribute}value=\"{value}\"/>");
        }
        let _ = write!(
            xml,
            "</{element}PropertySection>\n<ve:EthernetAdapterSection><ve:Adapter ve:mac=\"00:50:56:00:00:01\" \
             ve:network=\"VM Network\" ve:unitNumber=\"7\"/></ve:EthernetAdapterSection>\n"
        );
        if self.style == Style::VApp {
            xml.push_str(
                "<Entity oe:id=\"neighbour\"><PropertySection>\
                 <Property oe:key=\"gateway-name\" oe:value=\"neighbour\"/></PropertySection></Entity>\n",
            );
        }
        let _ = writeln!(xml, "</{element}Environment>");
        xml
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;").replace('\n', "&#10;")
}
