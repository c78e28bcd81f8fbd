//! What may change of a gateway that runs.

use ip_pools::Finding;
use ip_pools::text::quoted;

use crate::check::Findings;
use crate::configuration::{Configuration, IpAllocation};
use crate::lifecycle::resize;

impl Configuration {
    /// The configuration of the gateway that runs by this one, grown to so many nodes. That the addresses of its pool are
    /// free is the ledger's to say.
    ///
    /// # Errors
    /// With all that stands against it, with pointers into the configuration.
    pub fn resized(&self, size: u32) -> Result<Configuration, Vec<Finding>> {
        let mut findings = Findings::default();
        if let Err(refusal) = resize(self.size, size) {
            findings.add("/size", refusal.message, refusal.hint);
            return Err(findings.0);
        }
        let new = Configuration { size, ..self.clone() };
        // Its nodes are in the pool that was the first large enough, and cannot move to a larger one that comes later.
        let needed = new.needed();
        match self.own_pool() {
            Some((pool, _)) if pool.usable_count() >= needed.into() => {}
            Some((pool, n)) => findings.add(
                format!("/ip_pools/{n}"),
                format!(
                    "A gateway of {size} nodes takes {needed} addresses, and its pool {} has {}.",
                    quoted(pool.name()),
                    pool.usable_count()
                ),
                "Enlarge the pool, or exclude less; then resize the gateway.",
            ),
            None if self.ip_allocation == IpAllocation::Static => findings.add(
                "/ip_pools",
                "The gateway has no pool that its addresses are from.",
                "Correct the configuration first.",
            ),
            None => {}
        }
        if findings.0.is_empty() { Ok(new) } else { Err(findings.0) }
    }

    /// What a gateway that runs by `old` cannot take over from this configuration. That addresses which are given out
    /// stay in their pools is the ledger's to say.
    #[must_use]
    pub fn check_change(&self, old: &Configuration) -> Vec<Finding> {
        let (mut new, mut old) = (self.clone(), old.clone());
        new.normalise();
        old.normalise();
        let mut findings = Findings::default();
        if new.size != old.size {
            findings.add("/size", "The size of a gateway that runs is not configured.", "Resize it.");
        }
        for (at, what, same) in [
            ("/placement", "The placement", new.placement == old.placement),
            ("/ip_allocation", "Where addresses come from", new.ip_allocation == old.ip_allocation),
            (
                "/control_plane_endpoint",
                "The control plane endpoint",
                new.control_plane_endpoint == old.control_plane_endpoint,
            ),
            ("/node_size", "The size of nodes", new.node_size == old.node_size),
            ("/pod_cidr", "The pods' subnet", new.pod_cidr == old.pod_cidr),
            ("/service_cidr", "The services' subnet", new.service_cidr == old.service_cidr),
        ] {
            if !same {
                findings.add(
                    at,
                    format!("{what} cannot change while the gateway runs."),
                    "Leave it, or delete the gateway and create another.",
                );
            }
        }
        // Its nodes have their addresses from it.
        if let (Some((own, _)), Some((other, _))) = (old.own_pool(), new.own_pool())
            && own.name() != other.name()
        {
            findings.add(
                "/ip_pools",
                format!(
                    "The gateway's addresses are from the pool {}, and would have to be from {}.",
                    quoted(own.name()),
                    quoted(other.name())
                ),
                "Keep that pool and its name, and put new pools behind it.",
            );
        }
        findings.0
    }

    /// Takes over the stored password where none was typed: only for the account that it was typed for, or whoever may
    /// change the server could have it sent to one of theirs.
    pub fn keep_password(&mut self, stored: &Configuration) {
        let account = |configuration: &Configuration| {
            let mut normal = configuration.clone();
            normal.normalise();
            (normal.vcenter.server, normal.vcenter.username)
        };
        let as_safe = !self.vcenter.insecure || stored.vcenter.insecure;
        if self.vcenter.password.is_none() && as_safe && account(self) == account(stored) {
            self.vcenter.password = stored.vcenter.password.clone();
        }
    }
}
