//! What is repaired without asking, and what is worth knowing.

use std::collections::BTreeSet;

use ip_pools::{needed_by_gateway, text};

use crate::configuration::{Configuration, EndpointKind, Note};
use crate::vcenter;

impl Configuration {
    /// Repairs what can be meant in one way only, and says what it was. Lists lose blank entries and repetitions, so
    /// [`Configuration::check`] comes first where its pointers are to fit what was typed.
    pub fn normalise(&mut self) -> Vec<Note> {
        let mut notes = Vec::new();
        let mut note = |at: String, message: String| notes.push(Note { at, message });

        self.vcenter.username = self.vcenter.username.trim().into();
        if let Ok((server, repaired)) = vcenter::server(&self.vcenter.server) {
            self.vcenter.server = server;
            if let Some(message) = repaired {
                note("/vcenter/server".into(), message);
            }
        }
        self.placement.storage_policy = self.placement.storage_policy.trim().into();
        for ((path, before), (field, label, _)) in self.placement.paths_mut().into_iter().zip(vcenter::PATHS)
        {
            let relative = vcenter::relative(path, &before);
            if relative != path.trim() {
                note(
                    format!("/placement/{field}"),
                    format!("{label} was shortened to {}.", text::quoted(&relative)),
                );
            }
            *path = relative;
        }
        for (list, at, what) in [
            (&mut self.ssh_keys, "/ssh_keys", "SSH keys"),
            (&mut self.ntp_servers, "/ntp_servers", "NTP servers"),
        ] {
            let kept: Vec<String> = lines(list).map(|(_, line)| line.into()).collect();
            let given = list.iter().flat_map(|entry| entry.lines()).filter(|line| !line.trim().is_empty());
            if kept.len() < given.count() {
                note(at.into(), format!("{what} that are there twice were taken out."));
            }
            *list = kept;
        }
        self.ip_pools.iter_mut().for_each(ip_pools::PoolSpec::normalise);
        if let Some(endpoint) = &mut self.control_plane_endpoint {
            endpoint.host = host(&endpoint.host);
            endpoint.ddns_search_domain = host(&endpoint.ddns_search_domain);
        }
        for (cidr, at, what) in
            [(&mut self.pod_cidr, "/pod_cidr", "pods"), (&mut self.service_cidr, "/service_cidr", "services")]
        {
            *cidr = cidr.trim().into();
            if let Ok((net, loose)) = text::network(cidr) {
                *cidr = net.to_string();
                if loose {
                    note(at.into(), format!("The address bits of the {what}' subnet were cleared: {net}."));
                }
            }
        }
        notes
    }

    /// What is not wrong and yet worth knowing before it is built.
    #[must_use]
    pub fn advice(&self) -> Vec<Note> {
        let mut notes = Vec::new();
        let mut note = |at: &str, message: String| notes.push(Note { at: at.into(), message });
        if self.vcenter.insecure {
            note(
                "/vcenter/insecure",
                "Any certificate is taken for the vCenter's: whoever is on the way to it can read the password.".into(),
            );
        }
        if lines(&self.ssh_keys).next().is_none() {
            note("/ssh_keys", "Without an SSH key nobody can log in to the nodes.".into());
        }
        if let (1, Some((pool, _))) = (self.size, self.own_pool()) {
            let usable = pool.arithmetic().usable + self.given_addresses();
            if usable < needed_by_gateway(3) {
                note(
                    "/ip_pools",
                    format!(
                        "The pool {} carries this gateway; to grow to 3 nodes it would need {} more addresses.",
                        text::quoted(pool.name()),
                        needed_by_gateway(3) - usable
                    ),
                );
            }
        }
        let external = self.control_plane_endpoint.as_ref().is_some_and(|e| e.kind == EndpointKind::External);
        if external {
            note(
                "/control_plane_endpoint",
                "The load balancer must pass TCP port 6443 on to every node of the gateway.".into(),
            );
        }
        notes
    }
}

/// The lines of all entries, none blank and none twice, each with its entry's place: a text field takes a whole file of
/// keys.
pub(crate) fn lines(list: &[String]) -> impl Iterator<Item = (usize, &str)> {
    let mut seen = BTreeSet::new();
    list.iter()
        .enumerate()
        .flat_map(|(n, entry)| entry.lines().map(move |line| (n, line.trim())))
        .filter(move |(_, line)| !line.is_empty() && seen.insert(*line))
}

/// A host or domain as it is compared: without the dot of the root.
pub(crate) fn host(text: &str) -> String {
    text.trim().trim_end_matches(|c: char| c == '.' || c.is_whitespace()).to_lowercase()
}
