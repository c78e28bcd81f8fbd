//! The settings: OVF properties as typed values, each checked.
//!
//! All that is wrong is found at once. A value that is wrong keeps only the steps from running that need it, so the
//! parts of [`Settings`] stand for themselves.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::properties::{self, PROPERTIES};
use protocol::code::Code;
use protocol::secret::Secret;

/// Values as they were given, by key.
pub(crate) type Raw = BTreeMap<String, String>;

/// What the machine is told. A value that is wrong is as one that is not given; [`Problem`]s tell the difference.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) gateway_name: Option<String>,
    pub(crate) console_endpoint: Option<String>,
    pub(crate) pairing_code: Option<Code>,
    pub(crate) ssh_keys: Vec<String>,
    /// None is DHCP.
    pub(crate) address: Option<Static>,
    pub(crate) dns: Vec<IpAddr>,
    pub(crate) search: Vec<String>,
    pub(crate) proxy: Option<Proxy>,
    /// DER.
    pub(crate) proxy_ca: Vec<Vec<u8>>,
    pub(crate) ntp: Vec<String>,
    pub(crate) pods: Option<Ipv4Net>,
    pub(crate) services: Option<Ipv4Net>,
}

/// A static address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Static {
    /// With its subnet.
    pub(crate) address: Ipv4Net,
    pub(crate) gateway: Ipv4Addr,
}

/// How to reach what is outside. The URLs may hold a password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Proxy {
    pub(crate) http: Secret,
    pub(crate) https: Secret,
    pub(crate) no_proxy: Vec<String>,
}

/// A value that is wrong.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Problem {
    /// Its key.
    pub(crate) property: String,
    /// As it was given; not there for secrets, and for what was not given.
    pub(crate) given: Option<String>,
    /// What would be right, as in "a whole number from 1 to 32".
    pub(crate) expected: String,
    /// The whole in one sentence.
    pub(crate) message: String,
    /// What to type to mend it.
    pub(crate) hint: String,
}

/// What came of [`parse`].
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) settings: Settings,
    pub(crate) problems: Vec<Problem>,
    /// What was repaired or left aside without asking.
    pub(crate) notes: Vec<String>,
    /// Keys that have no value and that pairing will need.
    pub(crate) missing: Vec<&'static str>,
}

/// Reads all values.
pub(crate) fn parse(raw: &Raw) -> Parsed {
    let mut reader = Reader { raw, parsed: Parsed::default() };
    reader.gateway();
    reader.network();
    reader.proxy();
    reader.time();
    reader.kubernetes();
    for key in raw.keys().filter(|key| properties::find(key).is_none()) {
        reader.parsed.notes.push(format!("The property `{key}` is unknown here and was left aside."));
    }
    reader.parsed
}

/// A value without what clients put around it; nothing where it was left blank. ESXi without vCenter gives `null`.
pub(crate) fn given(value: &str) -> Option<&str> {
    let value = value.trim();
    (!value.is_empty() && !value.eq_ignore_ascii_case("null")).then_some(value)
}

/// Lists are separated by commas, semicolons or white space.
fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split([',', ';', ' ', '\t', '\n', '\r']).filter(|item| !item.is_empty())
}

struct Reader<'a> {
    raw: &'a Raw,
    parsed: Parsed,
}

impl<'a> Reader<'a> {
    /// The value of a property, or its default.
    fn get(&self, key: &'static str) -> Option<&'a str> {
        let property =
            properties::find(key).expect("keys in this file are in the table; a test reads them all");
        self.raw.get(key).and_then(|value| given(value)).or(given(property.default))
    }

    fn note(&mut self, text: impl Into<String>) {
        self.parsed.notes.push(text.into());
    }

    fn wrong(&mut self, key: &'static str, expected: &str, why: &str) {
        let property =
            properties::find(key).expect("keys in this file are in the table; a test reads them all");
        // A certificate or key is nothing that a line of a screen can show.
        let shorten = |value: &str| {
            if value.chars().count() > 60 {
                value.chars().take(57).collect::<String>() + "..."
            } else {
                value.into()
            }
        };
        let value = self.raw.get(key).and_then(|value| given(value));
        // A key or a login that strayed into another property is a secret all the same.
        let strayed =
            |value: &str| value.contains("PRIVATE KEY") || value.contains('@') && value.contains(":/");
        let shown = value.filter(|value| !property.secret && !strayed(value)).map(shorten);
        let what = match (value, &shown) {
            (None, _) => "is not set".to_string(),
            (Some(_), Some(shown)) => format!("is `{shown}`"),
            (Some(_), None) => "is wrong".to_string(),
        };
        self.parsed.problems.push(Problem {
            property: key.into(),
            given: shown,
            expected: expected.into(),
            message: format!("{} ({key}) {what}: {why}. Expected: {expected}.", property.label),
            hint: format!("sudo gatewright-firstboot set {key}='{}'", property.example),
        });
    }

    fn gateway(&mut self) {
        match self.get("gateway-name") {
            None => self.parsed.missing.push("gateway-name"),
            Some(name) => {
                let lower = name.to_lowercase();
                let expected = "a host name of lower-case letters, digits and dashes, at most 63 characters";
                if lower.len() > 63 {
                    self.wrong("gateway-name", expected, "it is too long");
                } else if !is_label(&lower) {
                    self.wrong(
                        "gateway-name",
                        expected,
                        "it has other characters, or begins or ends with a dash",
                    );
                } else {
                    if lower != name {
                        self.note(format!("The gateway name was made lower-case: {lower}."));
                    }
                    self.parsed.settings.gateway_name = Some(lower);
                }
            }
        }
        match self.get("console-endpoint") {
            None => self.parsed.missing.push("console-endpoint"),
            Some(text) => match endpoint(text) {
                Err(why) => {
                    self.wrong("console-endpoint", "an address as in https://console.example.com", why)
                }
                Ok((endpoint, notes)) => {
                    self.parsed.notes.extend(notes);
                    self.parsed.settings.console_endpoint = Some(endpoint);
                }
            },
        }
        match self.get("pairing-code") {
            None => self.parsed.missing.push("pairing-code"),
            Some(text) => match Code::parse(text) {
                Err(why) => {
                    self.wrong("pairing-code", "the twelve digits that the console shows", &why.to_string());
                }
                Ok(code) => self.parsed.settings.pairing_code = Some(code),
            },
        }
        if let Some(text) = self.get("ssh-public-key") {
            match ssh_keys(text) {
                Err(why) => {
                    self.wrong("ssh-public-key", "an OpenSSH public key, as in the file id_ed25519.pub", &why)
                }
                Ok(keys) => self.parsed.settings.ssh_keys = keys,
            }
        }
    }

    fn network(&mut self) {
        let before = self.parsed.problems.len();
        let (mut address, mut prefix) = (self.get("ip-address"), self.get("ip-prefix"));
        let gateway = self.get("ip-gateway");
        if let Some(text) = self.get("dns-servers") {
            let all: Result<Vec<IpAddr>, &str> =
                list(text).map(|item| item.parse().map_err(|_| item)).collect();
            match all {
                Ok(dns) => self.parsed.settings.dns = dns,
                Err(item) => self.wrong(
                    "dns-servers",
                    "IP addresses, separated by commas or spaces",
                    &format!("`{item}` is no IP address"),
                ),
            }
        }
        if let Some(text) = self.get("search-domains") {
            match list(text).find(|item| !is_host(item)) {
                Some(item) => self.wrong(
                    "search-domains",
                    "domains, separated by commas or spaces",
                    &format!("`{item}` is no domain"),
                ),
                None => {
                    self.parsed.settings.search =
                        list(text).map(|item| item.trim_end_matches('.').to_string()).collect()
                }
            }
        }
        if let Some((a, p)) = address.and_then(|text| text.split_once('/')) {
            if prefix.is_some_and(|prefix| prefix != p) {
                return self.wrong(
                    "ip-prefix",
                    &format!("{p}, or an address without /{p}"),
                    "the address names another prefix",
                );
            }
            (address, prefix) = (Some(a), Some(p));
        }
        if address.is_none() && prefix.is_none() && gateway.is_none() {
            return;
        }

        // Each value for itself, then all of them together.
        let address =
            self.required("ip-address", address, "an IPv4 address", |text| text.parse::<Ipv4Addr>().ok());
        let prefix = self.required("ip-prefix", prefix, "a whole number from 1 to 32", |text| {
            text.parse::<u8>().ok().filter(|prefix| (1..=32).contains(prefix))
        });
        let gateway =
            self.required("ip-gateway", gateway, "an IPv4 address", |text| text.parse::<Ipv4Addr>().ok());
        if self.get("dns-servers").is_none() {
            self.wrong(
                "dns-servers",
                "IP addresses, separated by commas or spaces",
                "a static address needs them",
            );
        }
        let (Some(address), Some(prefix), Some(gateway)) = (address, prefix, gateway) else { return };
        let Ok(net) = Ipv4Net::new(address, prefix) else { return };
        // A /31 has two hosts and no other addresses (RFC 3021); a /32 has one, and its gateway elsewhere.
        let unusable = |ip: Ipv4Addr| prefix < 31 && (ip == net.network() || ip == net.broadcast());
        if unusable(address) || address.is_loopback() || address.is_multicast() || address.is_unspecified() {
            self.wrong(
                "ip-address",
                &format!("an address of a host in {}", net.trunc()),
                "no host can have it",
            );
        }
        if gateway == address {
            self.wrong(
                "ip-gateway",
                &format!("the router's address in {}", net.trunc()),
                "it is the address of this machine",
            );
        } else if prefix < 32 && !net.contains(&gateway) {
            self.wrong("ip-gateway", &format!("an address in {}", net.trunc()), "it is outside the subnet");
        } else if unusable(gateway) {
            self.wrong(
                "ip-gateway",
                &format!("an address of a host in {}", net.trunc()),
                "no host can have it",
            );
        }
        if self.parsed.problems.len() == before {
            self.parsed.settings.address = Some(Static { address: net, gateway });
        }
    }

    /// A value that must be there because others are.
    fn required<T>(
        &mut self,
        key: &'static str,
        text: Option<&str>,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let Some(text) = text else {
            self.wrong(key, expected, "address, prefix and gateway are set together, or none for DHCP");
            return None;
        };
        let value = parse(text);
        if value.is_none() {
            self.wrong(key, expected, "it is something else");
        }
        value
    }

    fn proxy(&mut self) {
        const URL: &str = "a URL as in http://USER:PASSWORD@192.0.2.8:3128";
        const HOSTS: &str = "hosts, domains, addresses and subnets, separated by commas or spaces";
        let keys = ["http-proxy", "https-proxy", "no-proxy"];
        let values = keys.map(|key| self.get(key));
        let mut urls = Vec::new();
        for (key, value) in keys.iter().zip(values).take(2) {
            match value.map(proxy_url) {
                Some(Ok(url)) => urls.push(Secret::new(url)),
                Some(Err(why)) => self.wrong(key, URL, why),
                None => {}
            }
        }
        let mut no_proxy = None;
        if let Some(text) = values[2] {
            match list(text).find(|item| !is_no_proxy(item)) {
                Some(item) => self.wrong("no-proxy", HOSTS, &format!("`{item}` is none of these")),
                None => no_proxy = Some(list(text).map(String::from).collect::<Vec<_>>()),
            }
        }
        if values.iter().any(Option::is_some) {
            for (key, _) in keys.iter().zip(values).filter(|(_, value)| value.is_none()) {
                let expected = if *key == "no-proxy" { HOSTS } else { URL };
                self.wrong(key, expected, "the three proxy values are set together, or none of them");
            }
        }
        if let (Some(no_proxy), [http, https]) = (no_proxy, urls.as_slice()) {
            self.parsed.settings.proxy = Some(Proxy { http: http.clone(), https: https.clone(), no_proxy });
        }
        if let Some(text) = self.get("proxy-ca") {
            match certificates(text) {
                Ok(certificates) => self.parsed.settings.proxy_ca = certificates,
                Err(why) => self.wrong("proxy-ca", "a certificate as PEM, or base64 of PEM", &why),
            }
        }
    }

    fn time(&mut self) {
        let Some(text) = self.get("ntp-servers") else { return };
        match list(text).find(|item| item.parse::<IpAddr>().is_err() && !is_host(item)) {
            Some(item) => {
                self.wrong(
                    "ntp-servers",
                    "host names or IP addresses, separated by commas or spaces",
                    &format!("`{item}` is neither"),
                );
            }
            None => self.parsed.settings.ntp = list(text).map(String::from).collect(),
        }
    }

    fn kubernetes(&mut self) {
        let mut nets = ["pod-cidr", "service-cidr"].map(|key| {
            let net = self.get(key).map(str::parse::<Ipv4Net>);
            if matches!(net, Some(Err(_))) {
                self.wrong(key, "a subnet as in 10.96.0.0/12", "it is no IPv4 subnet");
            }
            (key, net.and_then(Result::ok))
        });
        for (key, net) in &mut nets {
            if let Some(cidr) = net
                && *cidr != cidr.trunc()
            {
                let trunc = cidr.trunc();
                self.note(format!("The address bits of {key} were cleared: {trunc}."));
                *net = Some(trunc);
            }
        }
        let overlap = |a: &Ipv4Net, b: &Ipv4Net| a.contains(b) || b.contains(a);
        if let [(_, Some(pods)), (key, Some(services))] = &nets
            && overlap(pods, services)
        {
            self.wrong(key, "a subnet that does not overlap the pod CIDR", &format!("it overlaps {pods}"));
            nets[1].1 = None;
        }
        if let Some(own) = self.parsed.settings.address.as_ref().map(|s| s.address.trunc()) {
            for (key, net) in &mut nets {
                if net.as_ref().is_some_and(|net| overlap(net, &own)) {
                    self.wrong(
                        key,
                        "a subnet that does not overlap this machine's",
                        &format!("it overlaps {own}"),
                    );
                    *net = None;
                }
            }
        }
        self.parsed.settings.pods = nets[0].1;
        self.parsed.settings.services = nets[1].1;
    }
}

/// RFC 1123, section 2.1.
fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_host(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text).to_lowercase();
    text.len() <= 253 && text.split('.').all(is_label)
}

/// A host, `.domain`, `*.domain`, address or subnet; with a port, if any.
fn is_no_proxy(text: &str) -> bool {
    if text == "*" || text.parse::<ipnet::IpNet>().is_ok() || text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let host = match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => {
            let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            if address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()) {
                return true;
            }
            host
        }
        Some(_) => return false,
        None => text,
    };
    is_host(host.strip_prefix("*.").or(host.strip_prefix('.')).unwrap_or(host))
}

/// The canonical endpoint, and what was repaired.
fn endpoint(text: &str) -> Result<(String, Vec<String>), &'static str> {
    let mut notes = Vec::new();
    let mut text = text.to_string();
    if !text.contains("://") {
        text = format!("https://{text}");
        notes.push("`https://` was put before the console endpoint.".into());
    }
    if text.matches("://").count() > 1 {
        return Err("it has two schemes");
    }
    let url = Url::parse(&text).map_err(|_| "it is no URL")?;
    if url.scheme() != "https" {
        return Err("it does not begin with https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a login");
    }
    if url.query().is_some() || url.fragment().is_some() || !url.path().trim_matches('/').is_empty() {
        return Err("it has something after the host");
    }
    let host = url.host_str().unwrap_or_default();
    let is_address = url.host().is_some_and(|host| !matches!(host, url::Host::Domain(_)));
    if !is_address && !is_host(host) {
        return Err("its host is no host name");
    }
    if text.ends_with('/') {
        notes.push("The trailing slash of the console endpoint was taken off.".into());
    }
    Ok((url.origin().ascii_serialization(), notes))
}

/// One key a line; a line break that became a space still parts two keys.
fn ssh_keys(text: &str) -> Result<Vec<String>, String> {
    if text.contains("PRIVATE KEY") {
        return Err("it is a PRIVATE key, which must not leave your machine; make a new pair".into());
    }
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        for word in line.split_whitespace() {
            let begins =
                ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|prefix| word.starts_with(prefix));
            match lines.last_mut() {
                // The algorithm's name comes again inside the key, but as base64.
                Some(last) if !begins => *last = format!("{last} {word}"),
                _ => lines.push(word.to_string()),
            }
        }
    }
    for line in &lines {
        ssh_key::PublicKey::from_openssh(line).map_err(|e| format!("it cannot be read as one ({e})"))?;
    }
    if lines.is_empty() { Err("it is empty".into()) } else { Ok(lines) }
}

/// A proxy's URL without its trailing slash.
fn proxy_url(text: &str) -> Result<String, &'static str> {
    // The parser repairs a missing slash; whoever types one has perhaps lost more.
    let url = Url::parse(text).ok().filter(|_| text.contains("://")).ok_or("it is no URL")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("it does not begin with http:// or https://");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it has no host");
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err("it has something after the port");
    }
    Ok(url.as_str().trim_end_matches('/').to_string())
}

/// The certificates of PEM text, of PEM whose line breaks became spaces, or of base64 of either; as DER.
fn certificates(text: &str) -> Result<Vec<Vec<u8>>, String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let decode = |text: &str| STANDARD.decode(text.split_whitespace().collect::<String>());
    let pem = if text.contains("-----BEGIN") {
        text.to_string()
    } else {
        let bytes = decode(text).map_err(|_| "it is neither PEM nor base64")?;
        String::from_utf8(bytes).map_err(|_| "it is base64, but not of PEM")?
    };
    if pem.contains("PRIVATE KEY") {
        return Err("it holds a PRIVATE key; give the certificate alone".into());
    }
    let mut all = Vec::new();
    let mut rest = pem.as_str();
    while let Some(start) = rest.find(BEGIN) {
        let body = &rest[start + BEGIN.len()..];
        let end = body.find(END).ok_or("the end of a certificate is missing")?;
        let der = decode(&body[..end]).map_err(|_| "a certificate is damaged (its base64 cannot be read)")?;
        let (left, _) = x509_parser::parse_x509_certificate(&der)
            .map_err(|_| "a certificate is damaged (it is no X.509)")?;
        if !left.is_empty() {
            return Err("a certificate has something after its end".into());
        }
        all.push(der);
        rest = &body[end + END.len()..];
    }
    if all.is_empty() { Err("it holds no certificate".into()) } else { Ok(all) }
}

/// Values for people, as they count: secrets only say that they are set, and so do wrong values that may hold one.
pub(crate) fn shown(raw: &Raw, parsed: &Parsed) -> BTreeMap<String, String> {
    let settings = &parsed.settings;
    PROPERTIES
        .iter()
        .filter_map(|property| {
            let value = raw.get(property.key).and_then(|value| given(value)).or(given(property.default))?;
            let hidden = parsed
                .problems
                .iter()
                .any(|problem| problem.property == property.key && problem.given.is_none());
            let value = match property.key {
                _ if property.secret || hidden => "(set)",
                "gateway-name" => settings.gateway_name.as_deref().unwrap_or(value),
                "console-endpoint" => settings.console_endpoint.as_deref().unwrap_or(value),
                _ => value,
            };
            Some((property.key.to_string(), value.to_string()))
        })
        .collect()
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
