//! vCenter as people name it, and places in it.

use ip_pools::text::is_host;
use url::{Host, Url};

use crate::configuration::Placement;

/// The longest name of an object in vCenter's inventory, in characters.
const NAME: usize = 80;
/// The longest path, in characters; what vCenter nests is far shorter.
const PATH: usize = 1024;

/// A vCenter's `host` or `host:port`, and what was taken off what was typed.
///
/// # Errors
/// With what is wrong with it, as in "holds a login".
pub(crate) fn server(text: &str) -> Result<(String, Option<String>), &'static str> {
    let text = text.trim();
    // As some clients' error messages and people's clipboards have it.
    let mut rest = text;
    while let Some((scheme, after)) = rest.split_once("://") {
        if !["https", "http"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err("has a scheme that vCenter does not speak");
        }
        rest = after;
    }
    if rest.contains('@') {
        return Err("holds a login");
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let url = Url::parse(&format!("https://{host}")).map_err(|_| "is no host name or address")?;
    match url.host() {
        // Numbers that are short of an address are completed to one by URLs' rules; nobody means that.
        Some(Host::Ipv4(address)) if !host.starts_with(&address.to_string()) => {
            return Err("is no host name or address");
        }
        Some(Host::Domain(name)) if !is_host(name) => return Err("is no host name or address"),
        Some(_) => {}
        None => return Err("is no host name or address"),
    }
    let name = url.host_str().unwrap_or_default();
    let server = url.port().map_or_else(|| name.to_string(), |port| format!("{name}:{port}"));
    let changed = !text.eq_ignore_ascii_case(&server);
    let note = changed.then(|| format!("The vCenter server was shortened to its host: {server}."));
    Ok((server, note))
}

/// A path without slashes and blanks around.
pub(crate) fn bare(path: &str) -> &str {
    path.trim_matches(|c: char| c == '/' || c.is_whitespace())
}

/// A path below a folder of a datacenter's, as in `/DC1/vm/gateways`, without that folder, and without slashes around.
pub(crate) fn relative(path: &str, before: &str) -> String {
    let path = path.trim();
    let parts: Vec<&str> = bare(path).split('/').collect();
    let before: Vec<&str> = before.split('/').collect();
    let below = parts.strip_prefix(before.as_slice()).filter(|_| path.starts_with('/'));
    bare(&below.unwrap_or(&parts).join("/")).into()
}

/// The fields of a placement that are paths: name, label, whether it must be given.
pub(crate) const PATHS: [(&str, &str, bool); 7] = [
    ("datacenter", "The datacenter", true),
    ("folder", "The folder", true),
    ("image_template_folder", "The folder of image templates", true),
    ("cluster", "The cluster", true),
    ("resource_pool", "The resource pool", false),
    ("datastore", "The datastore", true),
    ("network", "The network", true),
];

impl Placement {
    /// The fields of [`PATHS`], in their order.
    pub(crate) fn paths(&self) -> [&String; 7] {
        let Placement {
            datacenter,
            folder,
            image_template_folder,
            cluster,
            resource_pool,
            datastore,
            network,
            ..
        } = self;
        [datacenter, folder, image_template_folder, cluster, resource_pool, datastore, network]
    }

    /// The same, to change them, each with the folder that may stand before it in an absolute path.
    pub(crate) fn paths_mut(&mut self) -> [(&mut String, String); 7] {
        let datacenter = bare(&self.datacenter).to_string();
        let cluster = relative(&self.cluster, &format!("{datacenter}/host"));
        let below = |kind: &str| format!("{datacenter}/{kind}");
        [
            (&mut self.datacenter, String::new()),
            (&mut self.folder, below("vm")),
            (&mut self.image_template_folder, below("vm")),
            (&mut self.cluster, below("host")),
            (&mut self.resource_pool, format!("{datacenter}/host/{cluster}/Resources")),
            (&mut self.datastore, below("datastore")),
            (&mut self.network, below("network")),
        ]
    }
}

/// What is wrong with a path in the inventory.
pub(crate) fn path_fault(path: &str) -> Option<String> {
    let path = bare(path);
    if path.chars().count() > PATH {
        return Some(format!("is longer than {PATH} characters"));
    }
    if path.split('/').any(|name| name.trim().is_empty()) {
        return Some("has an empty name between slashes".into());
    }
    if path.split('/').any(|name| matches!(name, "." | "..")) {
        return Some("has dots in place of a name".into());
    }
    path.split('/').find_map(object_fault)
}

/// What is wrong with the name of an object that vCenter has.
pub(crate) fn object_fault(name: &str) -> Option<String> {
    if name.chars().count() > NAME {
        Some(format!("has a name of more than {NAME} characters"))
    } else if name.chars().any(char::is_control) {
        Some("has a control character".into())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        for (text, expected, noted) in [
            ("vcenter.example.com", "vcenter.example.com", false),
            (" VCenter.Example.com ", "vcenter.example.com", false),
            ("vcenter.example.com:8443", "vcenter.example.com:8443", false),
            ("vcenter.example.com:443", "vcenter.example.com", true),
            ("https://vcenter.example.com", "vcenter.example.com", true),
            ("HTTPS://https://vcenter.example.com/", "vcenter.example.com", true),
            ("http://vcenter.example.com/sdk", "vcenter.example.com", true),
            ("https://vcenter.example.com/ui/app/home?x#y", "vcenter.example.com", true),
            ("192.0.2.5", "192.0.2.5", false),
            ("https://192.0.2.5:8443/", "192.0.2.5:8443", true),
            ("[2001:DB8::5]", "[2001:db8::5]", false),
            ("[2001:db8::5]:8443", "[2001:db8::5]:8443", false),
        ] {
            let (server, note) = server(text).unwrap();
            assert_eq!((server.as_str(), note.is_some()), (expected, noted), "{text}");
        }
        for text in [
            "",
            "https://",
            "/",
            "ftp://vcenter.example.com",
            "https://a:b@vcenter.example.com",
            "vcenter example.com",
            "vcenter_1",
            "2001:db8::5",
            "192.0.2",
            "192.0.2.256",
            "1",
            "0x7f.1",
            "vcenter:99999",
            "a..b",
            "<b>",
            "vcenter.example.com,192.0.2.5",
        ] {
            assert!(server(text).is_err(), "{text}: {:?}", server(text));
        }
    }

    #[test]
    fn paths() {
        for (path, before, expected) in [
            ("gateways", "DC1/vm", "gateways"),
            ("/DC1/vm/gateways/edge/", "DC1/vm", "gateways/edge"),
            ("DC1/vm/gateways", "DC1/vm", "DC1/vm/gateways"),
            ("/gateways", "DC1/vm", "gateways"),
            ("/DC1/vm//DC1/vm/gateways", "DC1/vm", "DC1/vm/gateways"),
            ("/DC2/vm/gateways", "DC1/vm", "DC2/vm/gateways"),
            ("vm", "", "vm"),
        ] {
            assert_eq!(relative(path, before), expected);
        }
        for good in ["a", "/a/b c/", "Büro%2fNord"] {
            assert_eq!(path_fault(good), None, "{good}");
        }
        let long = "a".repeat(81);
        for bad in ["a//b", "a/ /b", "", "a/../b", "a\nb", long.as_str(), &"a/".repeat(600)] {
            assert!(path_fault(bad).is_some(), "{bad}");
        }
    }
}
