//! The properties of the installer, as `images/installer.yaml` puts them into the OVF.

/// One property.
#[derive(Debug)]
pub(crate) struct Property {
    pub(crate) key: &'static str,
    /// As the vSphere client calls it.
    pub(crate) label: &'static str,
    /// What it is where nobody says anything.
    pub(crate) default: &'static str,
    /// Never shown once it is set.
    pub(crate) secret: bool,
    /// What can be typed after `set KEY=`, for hints and help.
    pub(crate) example: &'static str,
}

const fn property(key: &'static str, label: &'static str, example: &'static str) -> Property {
    Property { key, label, default: "", secret: false, example }
}

/// All of them, in the order of the deployment dialogue.
pub(crate) const PROPERTIES: &[Property] = &[
    property("gateway-name", "Gateway name", "edge-01"),
    property("console-endpoint", "Console endpoint", "https://console.example.com"),
    Property { secret: true, ..property("pairing-code", "Pairing code", "4821 7739 0515") },
    property("ssh-public-key", "SSH public key", "@id_ed25519.pub"),
    property("ip-address", "Static IP address", "192.0.2.10"),
    property("ip-prefix", "Prefix length", "24"),
    property("ip-gateway", "Default gateway", "192.0.2.1"),
    property("dns-servers", "DNS servers", "192.0.2.53, 192.0.2.54"),
    property("search-domains", "Search domains", "example.com, corp.example.com"),
    Property { secret: true, ..property("http-proxy", "HTTP proxy", "http://192.0.2.8:3128") },
    Property { secret: true, ..property("https-proxy", "HTTPS proxy", "http://192.0.2.8:3128") },
    property("no-proxy", "No proxy", "vcenter.example.com, 192.0.2.0/24"),
    property("proxy-ca", "Proxy CA certificate", "@ca.pem"),
    property("ntp-servers", "NTP servers", "ntp.example.com, 192.0.2.123"),
    Property { default: "192.168.0.0/16", ..property("pod-cidr", "Pod CIDR", "192.168.0.0/16") },
    Property { default: "10.96.0.0/12", ..property("service-cidr", "Service CIDR", "10.96.0.0/12") },
];

/// The property of that key.
pub(crate) fn find(key: &str) -> Option<&'static Property> {
    PROPERTIES.iter().find(|property| property.key == key)
}

/// The key that was probably meant: the one that what was typed begins, or else the one that takes the fewest slips.
pub(crate) fn nearest(key: &str) -> &'static str {
    let typed = key.to_lowercase().replace('_', "-");
    let begun = PROPERTIES.iter().find(|property| !typed.is_empty() && property.key.starts_with(&typed));
    begun
        .or_else(|| PROPERTIES.iter().min_by_key(|property| distance(&typed, property.key)))
        .map_or("", |p| p.key)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The image definition asks for exactly these.
    #[test]
    fn the_ovf_has_the_same_properties() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/installer.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        let mut found: Vec<(String, String)> = Vec::new();
        for line in text.lines().map(|line| line.trim().trim_start_matches("- ")) {
            if let Some(key) = line.strip_prefix("key: ") {
                found.push((key.into(), String::new()));
            } else if let Some(default) = line.strip_prefix("default: ") {
                found.last_mut().unwrap().1 = default.into();
            }
        }
        let ours: Vec<_> = PROPERTIES.iter().map(|p| (p.key.to_string(), p.default.to_string())).collect();
        assert_eq!(found, ours);
    }

    #[test]
    fn slips_are_understood() {
        for (typed, meant) in [
            ("gateway_name", "gateway-name"),
            ("dns", "dns-servers"),
            ("ip-adress", "ip-address"),
            ("PAIRING-CODE", "pairing-code"),
        ] {
            assert_eq!(nearest(typed), meant);
        }
    }
}
