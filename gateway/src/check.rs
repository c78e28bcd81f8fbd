//! Everything that is wrong with a configuration, at once.

use std::net::IpAddr;

use ip_pools::Finding;
use ip_pools::text::{is_host, quoted};

use crate::configuration::Configuration;
use crate::normalise::lines;
use crate::vcenter::{PATHS, object_fault, path_fault, relative, server};

/// The longest user name and password, in characters: more than vCenter takes.
const LOGIN: usize = 255;
/// SSH keys; also what one `authorized_keys` may reasonably hold.
const SSH_KEYS: usize = 64;
/// The longest SSH key, in characters: RSA with 16384 bits has 2.8 KiB.
const SSH_KEY: usize = 8192;
/// NTP servers; chrony and systemd-timesyncd use no more at a time.
const NTP_SERVERS: usize = 16;

impl Configuration {
    /// All that is wrong, with JSON pointers into the configuration; nothing if a gateway can be built from it as far as
    /// that can be known without its vCenter and its network. Takes values as they were typed.
    #[must_use]
    pub fn check(&self) -> Vec<Finding> {
        let mut findings = Findings::default();
        self.check_account(&mut findings);
        self.check_placement(&mut findings);
        self.check_ssh_keys(&mut findings);
        self.check_ntp_servers(&mut findings);
        if !matches!(self.size, 1 | 3) {
            findings.add("/size", format!("A gateway has 1 node or 3, not {}.", self.size), "Choose 1 or 3.");
        }
        self.check_network(&mut findings);
        findings.0
    }

    fn check_account(&self, findings: &mut Findings) {
        let account = &self.vcenter;
        if account.server.trim().is_empty() {
            findings.missing(
                "/vcenter/server",
                "The vCenter server",
                "Type its host name, as in vcenter.example.com.",
            );
        } else if let Err(fault) = server(&account.server) {
            // Whoever typed a login here has typed a password.
            let named = if account.server.contains('@') {
                String::new()
            } else {
                quoted(account.server.trim()) + " "
            };
            findings.add(
                "/vcenter/server",
                format!("The vCenter server {named}{fault}."),
                "Type its host name or address, as in vcenter.example.com.",
            );
        }
        let hint = "Type a user as in gateway@vsphere.local.";
        match account.username.trim() {
            "" => findings.missing("/vcenter/username", "The vCenter user", hint),
            name if name.chars().count() > LOGIN || name.chars().any(char::is_control) => {
                findings.add(
                    "/vcenter/username",
                    format!("The vCenter user {} is no user name.", quoted(name)),
                    hint,
                );
            }
            _ => {}
        }
        match account.password.as_ref().map(|password| password.expose()) {
            None => {
                findings.missing("/vcenter/password", "The vCenter password", "Type the user's password.")
            }
            Some(text) if text.chars().count() > LOGIN || text.chars().any(char::is_control) => findings.add(
                "/vcenter/password",
                "The vCenter password is too long, or has a line break or the like.",
                "Type it again, or paste it without what surrounds it.",
            ),
            Some(_) => {}
        }
    }

    fn check_placement(&self, findings: &mut Findings) {
        let hint = "Type a name or path as the vSphere client shows it.";
        // As it will be taken: of a whole path, nothing may be left.
        let mut placement = self.placement.clone();
        for (path, before) in placement.paths_mut() {
            *path = relative(path, &before);
        }
        for (path, (field, label, needed)) in placement.paths().into_iter().zip(PATHS) {
            let at = format!("/placement/{field}");
            if path.is_empty() {
                if needed {
                    findings.missing(&at, label, hint);
                }
            } else if let Some(fault) = path_fault(path) {
                findings.add(at, format!("{label} {} {fault}.", quoted(path)), hint);
            }
        }
        let policy = self.placement.storage_policy.trim();
        if let Some(fault) = object_fault(policy) {
            let message = format!("The storage policy {} {fault}.", quoted(policy));
            findings.add("/placement/storage_policy", message, hint);
        }
    }

    fn check_ssh_keys(&self, findings: &mut Findings) {
        let hint = "Paste the line of a file as in id_ed25519.pub.";
        if lines(&self.ssh_keys).nth(SSH_KEYS).is_some() {
            findings.add(
                "/ssh_keys",
                format!("There are more than {SSH_KEYS} SSH keys."),
                "Keep those that are used.",
            );
        }
        for (n, line) in lines(&self.ssh_keys).take(SSH_KEYS) {
            let at = format!("/ssh_keys/{n}");
            if line.contains("PRIVATE KEY") {
                findings.add(
                    at,
                    "This is a PRIVATE key, which must not leave your machine.",
                    "Paste the public one, as in id_ed25519.pub; and make a new pair, now that it was sent here.",
                );
                // Its other lines are no keys either.
                return;
            }
            let read = (line.len() <= SSH_KEY).then(|| ssh_key::PublicKey::from_openssh(line).ok()).flatten();
            if read.is_none() {
                findings.add(at, format!("{} is no OpenSSH public key.", quoted(line)), hint);
            }
        }
    }

    fn check_ntp_servers(&self, findings: &mut Findings) {
        let hint = "Type host names or addresses, as in ntp.example.com.";
        if lines(&self.ntp_servers).nth(NTP_SERVERS).is_some() {
            findings.add(
                "/ntp_servers",
                format!("There are more than {NTP_SERVERS} NTP servers."),
                "Four are plenty.",
            );
        }
        for (n, host) in lines(&self.ntp_servers).take(NTP_SERVERS) {
            if host.parse::<IpAddr>().is_err() && !is_host(host) {
                let message = format!("The NTP server {} is no host name or address.", quoted(host));
                findings.add(format!("/ntp_servers/{n}"), message, hint);
            }
        }
    }
}

/// What has been found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings(pub(crate) Vec<Finding>);

impl Findings {
    pub(crate) fn add(&mut self, at: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Finding::new(at, message, hint));
    }

    fn missing(&mut self, at: &str, what: &str, hint: &str) {
        self.add(at, format!("{what} is missing."), hint);
    }
}
