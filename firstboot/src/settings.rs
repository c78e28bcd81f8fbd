//! Text that people typed -> one typed value, and everything that is wrong with it, at once.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::{IpNet, Ipv4Net};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::property::{PROPERTIES, Property};
use crate::secret::Secret;
use crate::status::{Problem, set_command};
use crate::store::Values;
use crate::system::is_host;

/// What the machine should be. A value that is wrong is as if it were not given; [`Parsed::problems`] has it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Settings {
    pub(crate) gateway_name: Option<String>,
    pub(crate) console_endpoint: Option<String>,
    pub(crate) pairing_code: Option<Secret>,
    pub(crate) ssh_keys: Vec<String>,
    pub(crate) network: Network,
    pub(crate) proxy: Option<Proxy>,
    /// As PEM.
    pub(crate) proxy_ca: Vec<String>,
    pub(crate) ntp_servers: Vec<String>,
    pub(crate) pod_cidr: Option<Ipv4Net>,
    pub(crate) service_cidr: Option<Ipv4Net>,
}

/// How the machine is reached.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Network {
    /// DHCP where there is none.
    pub(crate) address: Option<StaticAddress>,
    pub(crate) dns: Vec<IpAddr>,
    pub(crate) search: Vec<String>,
}

/// An address that is not asked for but taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct StaticAddress {
    pub(crate) address: Ipv4Net,
    pub(crate) gateway: Ipv4Addr,
}

/// The way out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Proxy {
    pub(crate) http: Secret,
    pub(crate) https: Secret,
    /// As given; what is added to it belongs to the step.
    pub(crate) no_proxy: Vec<String>,
}

/// The result of [`parse`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Parsed {
    pub(crate) settings: Settings,
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<String>,
    /// The values as people may see them, by key.
    pub(crate) shown: BTreeMap<String, String>,
}

impl Parsed {
    pub(crate) fn is_wrong(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.property == key)
    }
}

/// Reads every property.
pub(crate) fn parse(values: &Values) -> Parsed {
    let mut parser = Parser::default();
    for property in PROPERTIES {
        let typed = values.0.get(property.key).and_then(|typed| unless_blank(typed));
        let value = typed.or_else(|| unless_blank(property.default));
        if let Some(value) = value {
            parser.values.insert(property.key, value.into());
        }
    }
    let (pod_cidr, service_cidr) = (parser.cidr("pod-cidr", 8), parser.cidr("service-cidr", 12));
    let settings = Settings {
        gateway_name: parser.gateway_name(),
        console_endpoint: parser.console_endpoint(),
        pairing_code: parser.pairing_code(),
        ssh_keys: parser.ssh_keys(),
        network: parser.network(),
        proxy: parser.proxy(),
        proxy_ca: parser.proxy_ca(),
        ntp_servers: parser.list("ntp-servers", "a host name or an address", |entry| {
            host(entry).ok_or_else(|| "a host name or an address".into())
        }),
        pod_cidr,
        service_cidr,
    };
    parser.overlaps(&settings);
    let Parser { values, mut parsed } = parser;
    for (key, value) in values {
        // What was understood has been put there in its own form.
        let secret = Property::find(key).is_some_and(|property| property.secret);
        let given = parsed.problems.iter().find(|problem| problem.property == key).map(|p| p.given.clone());
        let shown = match given {
            _ if secret => "(set)".into(),
            Some(given) => given.unwrap_or_else(|| "(set)".into()),
            None => value,
        };
        parsed.shown.entry(key.into()).or_insert(shown);
    }
    parsed.problems.sort_by_key(|problem| PROPERTIES.iter().position(|p| p.key == problem.property));
    Parsed { settings, ..parsed }
}

/// The value without the ways in which hypervisors say "not set": empty, blank, the word `null` (ESXi without vCenter).
pub(crate) fn unless_blank(value: &str) -> Option<&str> {
    let value = value.trim();
    (!value.is_empty() && !value.eq_ignore_ascii_case("null")).then_some(value)
}

#[derive(Default)]
struct Parser {
    values: BTreeMap<&'static str, String>,
    parsed: Parsed,
}

impl Parser {
    fn get(&self, key: &str) -> Option<String> {
        self.values.get(key).cloned()
    }

    /// Records a problem with the value of `key`. Only values that cannot be secret are quoted.
    fn wrong(&mut self, key: &'static str, message: impl Into<String>, hint: impl Into<String>) {
        let given = self.values.get(key).map(|value| masked(key, value));
        self.parsed.problems.push(Problem { given, ..Problem::new(key, message, hint) });
    }

    fn note(&mut self, note: impl Into<String>) {
        self.parsed.notes.push(note.into());
    }

    fn show(&mut self, key: &str, value: impl Into<String>) {
        self.parsed.shown.insert(key.into(), value.into());
    }

    fn gateway_name(&mut self) -> Option<String> {
        let key = "gateway-name";
        let given = self.get(key)?;
        let name = given.to_lowercase();
        if !is_label(&name) {
            let proposal: String = name
                .split('.')
                .next()
                .unwrap_or_default()
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
                .take(63)
                .collect();
            let proposal = proposal.trim_matches('-');
            let proposal = if proposal.is_empty() { "edge-1" } else { proposal };
            let message = if given.contains('.') {
                "gateway-name has a dot: it is one label, without a domain.".into()
            } else if given.len() > 63 {
                format!("gateway-name has {} characters; a host name has at most 63.", given.chars().count())
            } else if given.starts_with('-') || given.ends_with('-') {
                "gateway-name begins or ends with a dash.".into()
            } else {
                "gateway-name has a character other than letters, digits and dashes.".to_string()
            };
            self.wrong(key, message, set_command(&format!("gateway-name={proposal}")));
            return None;
        }
        if name != given {
            self.note(format!("Made gateway-name lower-case: {name}."));
        }
        self.show(key, &name);
        Some(name)
    }

    fn console_endpoint(&mut self) -> Option<String> {
        let key = "console-endpoint";
        let given = self.get(key)?;
        let (scheme, rest) = match given.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => {
                self.note("Added the missing https:// to console-endpoint.");
                ("https".into(), given.as_str())
            }
        };
        let trimmed = rest.trim_end_matches('/');
        // What it would be without all that is wrong with it.
        let doubled = trimmed.rsplit("://").next().unwrap_or_default();
        let bare =
            doubled.rsplit('@').next().unwrap_or_default().split(['/', '?', '#']).next().unwrap_or_default();
        let proposal =
            authority(bare).map_or("https://console.example.com".into(), |_| format!("https://{bare}"));
        let message = if scheme == "http" {
            "console-endpoint begins with http://, which nobody can trust.".into()
        } else if scheme != "https" {
            format!("console-endpoint begins with {scheme}://.")
        } else if trimmed.contains("://") {
            "console-endpoint has the scheme twice.".into()
        } else if trimmed.contains('@') {
            "console-endpoint has a user name; the pairing code is all it takes.".into()
        } else if trimmed.contains(['?', '#']) {
            "console-endpoint has a query.".into()
        } else if trimmed.contains('/') {
            "console-endpoint has a path.".into()
        } else if let Some((host, port)) = authority(trimmed) {
            if trimmed != rest {
                self.note("Stripped the trailing slash of console-endpoint.");
            }
            let endpoint =
                format!("https://{host}{}", port.map(|port| format!(":{port}")).unwrap_or_default());
            self.show(key, &endpoint);
            return Some(endpoint);
        } else {
            "console-endpoint has no valid host name and port.".to_string()
        };
        self.wrong(key, message, set_command(&format!("{key}={proposal}")));
        None
    }

    fn pairing_code(&mut self) -> Option<Secret> {
        let key = "pairing-code";
        let given = self.get(key)?;
        let is_gap = |c: char| c.is_whitespace() || matches!(c, '-' | '\u{2010}'..='\u{2015}');
        let digits: String = given.chars().filter(|c| !is_gap(*c)).collect();
        let message = if let Some(at) = digits.chars().position(|c| !c.is_ascii_digit()) {
            format!("pairing-code has something other than a digit as character {} of 12.", at + 1)
        } else if digits.len() != 12 {
            format!("pairing-code has {} digits instead of twelve.", digits.len())
        } else if damm(&digits) != 0 {
            "pairing-code has a typing slip: its check digit does not fit.".into()
        } else {
            return Some(Secret::new(digits));
        };
        self.wrong(
            key,
            message,
            format!("Compare with the console, then `{}` and type the code.", set_command("pairing-code=-")),
        );
        None
    }

    fn ssh_keys(&mut self) -> Vec<String> {
        let key = "ssh-public-key";
        let Some(given) = self.get(key) else { return Vec::new() };
        if given.contains("PRIVATE KEY") || given.contains("b3BlbnNzaC1rZXkt") {
            self.wrong(
                key,
                "ssh-public-key holds a PRIVATE key, which must never leave its owner.",
                "Give the file that ends in .pub, and replace the private key: others may have seen it.",
            );
            return Vec::new();
        }
        // One key a line, but forms make line breaks spaces: a type in front of base64 begins a key.
        let mut lines: Vec<String> = Vec::new();
        for line in given.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            for (i, word) in words.iter().enumerate() {
                let begins = words.get(i + 1).is_some_and(|next| next.starts_with("AAAA"))
                    && ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| word.starts_with(kind));
                match lines.last_mut() {
                    Some(last) if i > 0 && !begins => {
                        last.push(' ');
                        last.push_str(word);
                    }
                    _ => lines.push((*word).into()),
                }
            }
        }
        for (i, line) in lines.iter().enumerate() {
            let ordinal =
                if lines.len() > 1 { format!("Key {} of ssh-public-key", i + 1) } else { key.into() };
            let message = match ssh_key::PublicKey::from_openssh(line) {
                Ok(parsed) if parsed.algorithm().as_str() == "ssh-dss" => {
                    format!("{ordinal} is a DSA key, which sshd no longer accepts.")
                }
                Ok(_) => continue,
                Err(_) => format!("{ordinal} cannot be read: a part may be missing."),
            };
            self.wrong(
                key,
                message,
                "Paste the whole line of the .pub file, or: sudo gatewright-firstboot set ssh-public-key=@FILE.pub",
            );
            return Vec::new();
        }
        self.show(key, lines.join("\n"));
        lines
    }

    fn network(&mut self) -> Network {
        let address = self.static_address();
        let dns = self.list("dns-servers", "an IP address", |entry| {
            entry
                .parse::<IpAddr>()
                .ok()
                .filter(|ip| !ip.is_unspecified() && !ip.is_multicast())
                .ok_or_else(|| "an IP address".into())
        });
        if self.get("ip-address").is_some() && self.get("dns-servers").is_none() {
            self.wrong(
                "dns-servers",
                "dns-servers is blank, and with a static address nobody else tells them.",
                set_command("dns-servers=ADDRESS,ADDRESS"),
            );
        }
        let search = self.list("search-domains", "a domain", |entry| {
            let domain = entry.trim_matches('.').to_ascii_lowercase();
            is_host_name(&domain).then_some(domain).ok_or_else(|| "a domain".into())
        });
        Network { address, dns, search }
    }

    /// All of address, prefix and gateway, or none.
    fn static_address(&mut self) -> Option<StaticAddress> {
        const KEYS: [&str; 3] = ["ip-address", "ip-prefix", "ip-gateway"];
        let mut typed = KEYS.map(|key| self.get(key));
        // The prefix may come with the address.
        let joined =
            typed[0].clone().and_then(|a| a.split_once('/').map(|(a, p)| (a.to_string(), p.to_string())));
        let mut clash = false;
        if let Some((address, prefix)) = joined {
            clash = typed[1].as_ref().is_some_and(|other| other.trim_start_matches('/') != prefix);
            typed[0] = Some(address);
            typed[1] = Some(typed[1].take().unwrap_or(prefix));
        }
        if typed.iter().all(Option::is_none) {
            return None;
        }
        if clash {
            self.wrong(
                "ip-prefix",
                "ip-prefix is not the prefix length that ip-address ends with.",
                set_command("ip-prefix="),
            );
        }
        for (key, value) in KEYS.iter().zip(&typed) {
            if value.is_none() {
                let given: Vec<&str> = KEYS
                    .iter()
                    .zip(&typed)
                    .filter(|(_, value)| value.is_some())
                    .map(|(key, _)| *key)
                    .collect();
                let clear: Vec<String> = given.iter().map(|key| format!("{key}=")).collect();
                self.wrong(
                    key,
                    format!("{key} is blank while {} is given: all three or none.", given.join(" and ")),
                    format!(
                        "{}, or for DHCP: {}",
                        set_command(&format!("{key}=VALUE")),
                        set_command(&clear.join(" "))
                    ),
                );
            }
        }
        let address = typed[0].as_deref().and_then(|text| {
            let address = text.parse::<Ipv4Addr>().ok().filter(|address| is_host(*address));
            if address.is_none() {
                let message = if text.parse::<std::net::Ipv6Addr>().is_ok() {
                    "ip-address is an IPv6 address; those come by themselves."
                } else if text.parse::<Ipv4Addr>().is_ok() {
                    "ip-address is an address that no machine can have."
                } else {
                    "ip-address is not an IPv4 address."
                };
                self.wrong("ip-address", message, set_command("ip-address=10.0.0.5"));
            }
            address
        });
        let prefix = typed[1].as_deref().and_then(|text| {
            let text = text.trim_start_matches('/');
            let prefix = match text.parse::<Ipv4Addr>().ok().map(ipnet::ipv4_mask_to_prefix) {
                Some(Ok(prefix)) => {
                    self.note(format!("Read the netmask in ip-prefix as {prefix}."));
                    Some(prefix)
                }
                Some(Err(_)) => None,
                None => text.parse::<u8>().ok(),
            };
            let prefix = prefix.filter(|prefix| (1..=32).contains(prefix));
            if prefix.is_none() {
                let key = if self.values.contains_key("ip-prefix") { "ip-prefix" } else { "ip-address" };
                self.wrong(
                    key,
                    "The prefix length is not a number from 1 to 32.",
                    set_command("ip-prefix=24"),
                );
            }
            prefix
        });
        let gateway = typed[2].as_deref().and_then(|text| {
            let gateway = text.parse::<Ipv4Addr>().ok();
            if gateway.is_none() {
                self.wrong(
                    "ip-gateway",
                    "ip-gateway is not an IPv4 address.",
                    set_command("ip-gateway=10.0.0.1"),
                );
            }
            gateway
        });
        let net = Ipv4Net::new(address?, prefix?).expect("the prefix was checked");
        let is_edge = |ip: Ipv4Addr| net.prefix_len() < 31 && (ip == net.network() || ip == net.broadcast());
        if is_edge(net.addr()) {
            let which = if net.addr() == net.network() { "network" } else { "broadcast" };
            let message = format!("ip-address is the {which} address of {}.", net.trunc());
            self.wrong("ip-address", message, set_command("ip-address=ADDRESS"));
            return None;
        }
        let gateway = gateway?;
        let message = if gateway == net.addr() {
            "ip-gateway is the machine's own address.".into()
        } else if !net.contains(&gateway) {
            format!("ip-gateway is outside the subnet {} of ip-address.", net.trunc())
        } else if is_edge(gateway) {
            format!("ip-gateway is the network or broadcast address of {}.", net.trunc())
        } else if clash {
            return None;
        } else {
            self.show("ip-address", net.addr().to_string());
            self.show("ip-prefix", net.prefix_len().to_string());
            return Some(StaticAddress { address: net, gateway });
        };
        let hint = format!("{} (or correct ip-address or ip-prefix)", set_command("ip-gateway=ADDRESS"));
        self.wrong("ip-gateway", message, hint);
        None
    }

    /// All three values or none.
    fn proxy(&mut self) -> Option<Proxy> {
        const KEYS: [&str; 3] = ["http-proxy", "https-proxy", "no-proxy"];
        let given: Vec<&str> = KEYS.into_iter().filter(|key| self.get(key).is_some()).collect();
        if given.is_empty() {
            return None;
        }
        for key in KEYS.into_iter().filter(|key| !given.contains(key)) {
            let value = if key == "no-proxy" { "localhost" } else { "http://HOST:PORT" };
            let clear: Vec<String> = given.iter().map(|key| format!("{key}=")).collect();
            self.wrong(
                key,
                format!("{key} is blank while {} is given: all three or none.", given.join(" and ")),
                format!(
                    "{}, or for no proxy: {}",
                    set_command(&format!("{key}={value}")),
                    set_command(&clear.join(" "))
                ),
            );
        }
        let (http, https) = (self.proxy_url("http-proxy"), self.proxy_url("https-proxy"));
        let no_proxy = self.list("no-proxy", "a host, a .domain, an address or a subnet", |entry| {
            let name = entry.trim_start_matches('*');
            let name = if entry.starts_with('*') && !name.starts_with('.') { "" } else { name };
            let right = entry.parse::<IpNet>().is_ok() || host(name.trim_start_matches('.')).is_some();
            right
                .then(|| name.to_ascii_lowercase())
                .ok_or_else(|| "a host, a .domain, an address or a subnet".into())
        });
        let wrong = KEYS.iter().any(|key| self.parsed.is_wrong(key));
        (!wrong).then_some(())?;
        Some(Proxy { http: http?, https: https?, no_proxy })
    }

    fn proxy_url(&mut self, key: &'static str) -> Option<Secret> {
        let given = self.get(key)?;
        let hint = set_command(&format!("{key}=http://HOST:PORT"));
        let Some((scheme, rest)) = given.split_once("://") else {
            self.wrong(key, format!("{key} does not begin with http://."), hint);
            return None;
        };
        if !scheme.eq_ignore_ascii_case("http") {
            let message = format!(
                "{key} does not begin with http://, which is how proxies are spoken to, for HTTPS too."
            );
            self.wrong(key, message, hint);
            return None;
        }
        let rest = rest.trim_end_matches('/');
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, rest),
        };
        let message = if address.contains("://") {
            format!("{key} has the scheme twice.")
        } else if address.contains(['/', '?', '#']) {
            format!("{key} has a path.")
        } else if user.is_some_and(|user| user.contains('@') || user.chars().any(char::is_whitespace)) {
            format!("{key} has a user name or password with `@` or a blank; write them as %40 and %20.")
        } else {
            match authority(address) {
                Some((host, Some(port))) => {
                    let user = user.map(|user| format!("{}@", escaped(user))).unwrap_or_default();
                    return Some(Secret::new(format!("http://{user}{host}:{port}")));
                }
                Some((_, None)) => format!("{key} has no port."),
                None => format!("{key} has no valid host and port."),
            }
        };
        self.wrong(key, message, hint);
        None
    }

    fn proxy_ca(&mut self) -> Vec<String> {
        let key = "proxy-ca";
        let Some(given) = self.get(key) else { return Vec::new() };
        match certificates(&given) {
            Ok(found) => {
                for (i, certificate) in found.iter().enumerate() {
                    if !certificate.is_ca {
                        self.note(format!(
                            "Certificate {} of proxy-ca ({}) is not marked as a CA.",
                            i + 1,
                            certificate.subject
                        ));
                    }
                }
                let subjects: Vec<&str> =
                    found.iter().map(|certificate| certificate.subject.as_str()).collect();
                self.show(key, subjects.join("; "));
                found.into_iter().map(|certificate| certificate.pem).collect()
            }
            Err(message) => {
                self.wrong(
                    key,
                    message,
                    "Get the CA as a PEM file, then: sudo gatewright-firstboot set proxy-ca=@FILE",
                );
                Vec::new()
            }
        }
    }

    fn cidr(&mut self, key: &'static str, shortest: u8) -> Option<Ipv4Net> {
        let given = self.get(key)?;
        let default = Property::find(key).map_or("", |property| property.default);
        let hint = set_command(&format!("{key}={default}"));
        let message = match given.parse::<Ipv4Net>() {
            Err(_) => format!("{key} is not an IPv4 subnet."),
            Ok(net) if !(shortest..=28).contains(&net.prefix_len()) => {
                format!("{key} has a prefix length outside {shortest} to 28.")
            }
            Ok(net) => {
                let whole = net.trunc();
                if whole != net {
                    self.note(format!("Took {key} as the whole subnet {whole}."));
                }
                self.show(key, whole.to_string());
                return Some(whole);
            }
        };
        self.wrong(key, message, hint);
        None
    }

    /// Subnets that must be apart.
    fn overlaps(&mut self, settings: &Settings) {
        let overlap = |a: Ipv4Net, b: Ipv4Net| a.contains(&b.network()) || b.contains(&a.network());
        let node = settings.network.address.map(|address| address.address);
        for (key, net) in [("pod-cidr", settings.pod_cidr), ("service-cidr", settings.service_cidr)] {
            if let (Some(net), Some(node)) = (net, node)
                && overlap(net, node)
            {
                let free = if overlap(node, Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12)) {
                    "10.244.0.0/16"
                } else {
                    "172.20.0.0/16"
                };
                let message = format!("{key} {net} overlaps the subnet {} of ip-address.", node.trunc());
                self.wrong(key, message, set_command(&format!("{key}={free}")));
            }
        }
        if let (Some(pods), Some(services)) = (settings.pod_cidr, settings.service_cidr)
            && overlap(pods, services)
        {
            let message = format!("service-cidr {services} overlaps pod-cidr {pods}.");
            self.wrong("service-cidr", message, set_command("service-cidr=SUBNET"));
        }
    }

    /// A list separated by commas, semicolons or blanks. None of it counts where an entry is wrong.
    fn list<T: ToString>(
        &mut self,
        key: &'static str,
        what: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let Some(given) = self.get(key) else { return Vec::new() };
        let entries =
            given.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';')).filter(|e| !e.is_empty());
        let (mut right, mut wrong) = (Vec::new(), Vec::new());
        for entry in entries {
            match parse(entry) {
                Ok(value) => right.push(value),
                Err(_) => wrong.push(format!("`{entry}`")),
            }
        }
        if wrong.is_empty() && right.is_empty() {
            // Nothing but separators.
            self.values.remove(key);
        } else if !wrong.is_empty() {
            let verb = if wrong.len() == 1 { "is" } else { "are each" };
            let message = format!("{key}: {} {verb} not {what}.", wrong.join(", "));
            self.wrong(key, message, set_command(&format!("{key}=VALUE,VALUE")));
            return Vec::new();
        } else {
            self.show(key, right.iter().map(T::to_string).collect::<Vec<_>>().join(", "));
        }
        right
    }
}

/// A wrong value as people may see it.
fn masked(key: &str, value: &str) -> String {
    let short = |text: &str| {
        let cut: String = text.chars().take(80).map(|c| if c.is_control() { ' ' } else { c }).collect();
        if text.chars().count() > 80 { format!("{cut}...") } else { cut }
    };
    match key {
        "pairing-code" => "(set)".into(),
        // Where a value is no URL, any part of it may be the password.
        "http-proxy" | "https-proxy" => match value.split_once("://") {
            Some((scheme, rest)) if scheme.len() < 8 && rest.matches("://").count() == 0 => {
                match rest.rsplit_once('@') {
                    Some((_, address)) => short(&format!("{scheme}://(hidden)@{address}")),
                    None if rest.matches(':').count() < 2 => short(value),
                    None => "(set)".into(),
                }
            }
            _ => "(set)".into(),
        },
        // Whatever was pasted there by mistake may be a secret.
        "ssh-public-key" | "proxy-ca" => format!("({} characters)", value.chars().count()),
        _ => short(value),
    }
}

/// RFC 1123, lower-case.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Labels with dots between; the last is not a number, or it would be half an address.
fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(is_label)
        && text.rsplit('.').next().is_some_and(|last| last.bytes().any(|b| !b.is_ascii_digit()))
}

/// A host name or an address.
fn host(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    (text.parse::<IpAddr>().is_ok() || is_host_name(&text)).then_some(text)
}

/// Host and port of a URL; an IPv6 address stands in brackets.
fn authority(text: &str) -> Option<(String, Option<u16>)> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (text, None),
    };
    let port = match port {
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            Some(port.parse().ok().filter(|port| *port > 0)?)
        }
        Some(_) => return None,
        None => None,
    };
    let name = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => format!("[{}]", address.parse::<std::net::Ipv6Addr>().ok()?),
        None => host(name).filter(|name| !name.contains(':'))?,
    };
    Some((name, port))
}

/// User name and password as they may stand in a URL and in every file that it goes to: what is not plain and not
/// escaped yet is escaped.
fn escaped(user: &str) -> String {
    let bytes = user.as_bytes();
    let mut result = String::new();
    for (i, &byte) in bytes.iter().enumerate() {
        let is_escape =
            byte == b'%' && bytes.len() > i + 2 && bytes[i + 1..i + 3].iter().all(u8::is_ascii_hexdigit);
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) || is_escape {
            result.push(char::from(byte));
        } else {
            result.push_str(&format!("%{byte:02X}"));
        }
    }
    result
}

struct Certificate {
    subject: String,
    is_ca: bool,
    pem: String,
}

/// Certificates from PEM, whatever became of its line breaks, or from base64 of PEM or of one DER certificate.
fn certificates(given: &str) -> Result<Vec<Certificate>, String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let decode = |text: &str| {
        let packed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        STANDARD.decode(packed)
    };
    let private = || Err("proxy-ca holds a PRIVATE key; only certificates belong there.".to_string());
    if given.contains("PRIVATE KEY") {
        return private();
    }
    let text = if given.contains("-----BEGIN") {
        given.to_string()
    } else {
        let bytes = decode(given).map_err(|_| "proxy-ca is neither PEM nor base64.")?;
        if X509Certificate::from_der(&bytes).is_ok() {
            format!("{BEGIN}{}{END}", STANDARD.encode(&bytes))
        } else {
            String::from_utf8(bytes).map_err(|_| "proxy-ca is base64, but not of a certificate.")?
        }
    };
    if text.contains("PRIVATE KEY") {
        return private();
    }
    let mut found = Vec::new();
    for part in text.split(BEGIN).skip(1) {
        let number = found.len() + 1;
        let body = part.split(END).next().filter(|body| body.len() < part.len());
        let body = body.ok_or_else(|| format!("Certificate {number} of proxy-ca has no end."))?;
        let der = decode(body)
            .map_err(|_| format!("Certificate {number} of proxy-ca is damaged: its base64 is broken."))?;
        let (rest, certificate) = X509Certificate::from_der(&der)
            .map_err(|_| format!("Certificate {number} of proxy-ca is damaged."))?;
        if !rest.is_empty() {
            return Err(format!("Certificate {number} of proxy-ca is damaged: there is more after its end."));
        }
        let encoded = STANDARD.encode(&der);
        let mut pem = format!("{BEGIN}\n");
        for line in encoded.as_bytes().chunks(64) {
            pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
            pem.push('\n');
        }
        pem.push_str(END);
        pem.push('\n');
        found.push(Certificate {
            subject: certificate.subject().to_string(),
            is_ca: certificate.is_ca(),
            pem,
        });
    }
    if found.is_empty() { Err("proxy-ca has no certificate in it.".into()) } else { Ok(found) }
}

/// Damm's check: 0 where the last digit fits the others.
fn damm(digits: &str) -> u8 {
    const TABLE: [[u8; 10]; 10] = [
        [0, 3, 1, 7, 5, 9, 8, 6, 4, 2],
        [7, 0, 9, 2, 1, 5, 4, 8, 6, 3],
        [4, 2, 0, 6, 8, 7, 1, 3, 5, 9],
        [1, 7, 5, 0, 9, 8, 3, 4, 2, 6],
        [6, 1, 2, 3, 0, 4, 5, 9, 7, 8],
        [3, 6, 7, 4, 2, 0, 9, 5, 8, 1],
        [5, 8, 6, 9, 7, 2, 0, 1, 3, 4],
        [8, 9, 4, 5, 3, 6, 2, 0, 1, 7],
        [9, 4, 3, 8, 6, 1, 7, 2, 0, 5],
        [2, 5, 8, 1, 4, 3, 6, 7, 9, 0],
    ];
    digits.bytes().fold(0, |interim, digit| TABLE[usize::from(interim)][usize::from(digit - b'0')])
}
