//! Every property of the installer, right and wrong, on the image's tree with real systemd.
//!
//! `right` and `wrong` are tables; `boots` and `environments` have what does not fit into one.

mod boots;
mod environments;
mod right;
mod wrong;

use std::collections::BTreeSet;

use serde::Deserialize;

/// The keys that the image definition puts into the OVF.
fn documented_keys() -> BTreeSet<String> {
    #[derive(Deserialize)]
    struct Definition {
        ova: Ova,
    }
    #[derive(Deserialize)]
    struct Ova {
        properties: Vec<Property>,
    }
    #[derive(Deserialize)]
    struct Property {
        key: String,
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/installer.yaml");
    let text = std::fs::read_to_string(path).expect("it is in the repository");
    let definition: Definition = serde_norway::from_str(&text).expect("it is an image definition");
    definition.ova.properties.into_iter().map(|property| property.key).collect()
}

/// A property that is added and not tried is found without booting anything.
#[test]
fn every_property_is_tried_right_and_wrong() {
    let documented = documented_keys();
    assert!(!documented.is_empty());
    let right: BTreeSet<String> = right::cases().iter().map(|case| case.property.to_owned()).collect();
    let wrong: BTreeSet<String> = wrong::cases().iter().map(|case| case.property.to_owned()).collect();
    assert_eq!(right, documented, "right values");
    assert_eq!(wrong, documented, "wrong values");
}

/// Shared by the tables.
mod values {
    use base64::Engine;
    use gatewright_tests::host::Given;

    pub(crate) const CA: &str = include_str!("../../fixtures/proxy-ca.pem");
    /// A certificate that this CA has signed.
    pub(crate) const INSPECTED: &str = include_str!("../../fixtures/inspected.pem");
    /// Damm's check digit fits.
    pub(crate) const CODE: &str = "482177390515";

    pub(crate) fn given(values: &[(&'static str, &str)]) -> Vec<Given> {
        values.iter().map(|(key, value)| (*key, (*value).to_owned())).collect()
    }

    /// A static address in the first network of a fabric, and changes to it.
    pub(crate) fn static_with(changes: &[(&'static str, &str)]) -> Vec<Given> {
        with(
            &[
                ("ip-address", "10.77.0.20"),
                ("ip-prefix", "24"),
                ("ip-gateway", "10.77.0.1"),
                ("dns-servers", "10.77.0.1"),
            ],
            changes,
        )
    }

    /// The three values of a proxy, and changes to them.
    pub(crate) fn proxy_with(changes: &[(&'static str, &str)]) -> Vec<Given> {
        with(
            &[
                ("http-proxy", "http://10.77.0.1:3128"),
                ("https-proxy", "http://10.77.0.1:3129"),
                ("no-proxy", "vcenter.example.com"),
            ],
            changes,
        )
    }

    fn with(base: &[(&'static str, &str)], changes: &[(&'static str, &str)]) -> Vec<Given> {
        let mut values = given(base);
        for (key, value) in changes {
            values.retain(|(other, _)| other != key);
            values.push((key, (*value).to_owned()));
        }
        values
    }

    pub(crate) fn base64(text: &str) -> String {
        base64::engine::general_purpose::STANDARD.encode(text)
    }
}
