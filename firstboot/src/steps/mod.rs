//! The steps, in their order. Those of the machine make it as the settings say, from whatever state it is in: they write
//! files only where they differ and can be cut off anywhere. Those of the console are the [`Session`]'s doing, and show
//! how far it is.
//!
//! [`Session`]: crate::session::Session

mod ca;
mod hostname;
mod network;
mod ntp;
mod proxy;
mod ssh_key;

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::files::Machine;
use crate::session::View;
use crate::settings::{Problem, Raw, Settings};

pub(crate) use network::{InterfaceAddress, addresses};
pub(crate) use proxy::no_proxy;

/// A step, by the name that status and journal have.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Name {
    Settings,
    SshKey,
    Hostname,
    Network,
    Ca,
    Proxy,
    Ntp,
    Preflight,
    Pair,
    Gateway,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Name::Settings => "settings",
            Name::SshKey => "ssh-key",
            Name::Hostname => "hostname",
            Name::Network => "network",
            Name::Ca => "ca",
            Name::Proxy => "proxy",
            Name::Ntp => "ntp",
            Name::Preflight => "preflight",
            Name::Pair => "pair",
            Name::Gateway => "gateway",
        })
    }
}

/// How far a step came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Progress {
    /// All is as it should be; what came of it, for people.
    Done(Option<String>),
    /// The machine must do something by itself first; ask again soon.
    Waiting(String),
    /// A person must do something elsewhere first, or a step before this one.
    Idle(String),
    /// A value turned out wrong.
    Wrong(Problem),
    /// It failed, and is tried again by itself.
    Failed(String),
}

/// One step.
pub(crate) struct Step {
    pub(crate) name: Name,
    /// The properties whose mistakes keep it from running.
    pub(crate) owns: &'static [&'static str],
    /// Further properties that it is done again for.
    pub(crate) uses: &'static [&'static str],
    pub(crate) apply: Apply,
}

/// Who does a step.
pub(crate) enum Apply {
    /// This function. `again` is false where the step was finished with the same values before, on whichever boot: then
    /// programs only run if a file had to change.
    Machine(fn(&Machine, &Settings, again: bool) -> Result<Progress>),
    /// The session, which shows how far it is.
    Console(fn(&View) -> &Progress),
}

/// In this order.
pub(crate) const STEPS: &[Step] = &[
    Step {
        name: Name::Settings,
        owns: &["console-endpoint", "pairing-code", "pod-cidr", "service-cidr"],
        uses: &[],
        apply: Apply::Machine(|_, _, _| Ok(Progress::Done(None))),
    },
    // Before all that can go wrong, and before anybody tries: sshd locks out for a while who comes without a key.
    Step { name: Name::SshKey, owns: &["ssh-public-key"], uses: &[], apply: Apply::Machine(ssh_key::apply) },
    Step { name: Name::Hostname, owns: &["gateway-name"], uses: &[], apply: Apply::Machine(hostname::apply) },
    Step {
        name: Name::Network,
        owns: &["ip-address", "ip-prefix", "ip-gateway", "dns-servers", "search-domains"],
        uses: &[],
        apply: Apply::Machine(network::apply),
    },
    Step { name: Name::Ca, owns: &["proxy-ca"], uses: &[], apply: Apply::Machine(ca::apply) },
    Step {
        name: Name::Proxy,
        owns: &["http-proxy", "https-proxy", "no-proxy"],
        uses: &["pod-cidr", "service-cidr", "ip-address", "ip-prefix", "ip-gateway"],
        apply: Apply::Machine(proxy::apply),
    },
    Step { name: Name::Ntp, owns: &["ntp-servers"], uses: &[], apply: Apply::Machine(ntp::apply) },
    Step { name: Name::Preflight, owns: &[], uses: &[], apply: Apply::Console(|view| &view.preflight) },
    Step { name: Name::Pair, owns: &[], uses: &[], apply: Apply::Console(|view| &view.pair) },
    Step { name: Name::Gateway, owns: &[], uses: &[], apply: Apply::Console(|view| &view.gateway) },
];

impl Step {
    /// Of the values that it is done with. A digest, because the journal must not hold secrets.
    pub(crate) fn digest(&self, values: &Raw) -> String {
        let inputs: BTreeMap<_, _> =
            self.owns.iter().chain(self.uses).map(|key| (key, values.get(*key))).collect();
        let json = serde_json::to_string(&inputs).expect("keys and values are strings");
        Sha256::digest(json).iter().take(16).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::PROPERTIES;

    #[test]
    fn every_property_has_one_step() {
        for property in PROPERTIES {
            let owners = STEPS.iter().filter(|step| step.owns.contains(&property.key)).count();
            assert_eq!(owners, 1, "{}", property.key);
        }
    }
}
