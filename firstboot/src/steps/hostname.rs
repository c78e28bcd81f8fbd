use anyhow::{Context, Result};

use super::Progress;
use crate::files::Machine;
use crate::settings::Settings;

/// What a machine is called that nobody has named.
const DEFAULT: &str = "gatewright";
/// Debian's own line for the machine itself (Debian Policy of /etc/hosts: 127.0.1.1).
const ADDRESS: &str = "127.0.1.1";

pub(super) fn apply(machine: &Machine, settings: &Settings, _again: bool) -> Result<Progress> {
    let name = settings.gateway_name.as_deref().unwrap_or(DEFAULT);
    machine.ensure("/etc/hostname", 0o644, Some(&format!("{name}\n")))?;
    let hosts =
        machine.read("/etc/hosts")?.unwrap_or_else(|| "127.0.0.1\tlocalhost\n::1\tlocalhost\n".into());
    machine.ensure("/etc/hosts", 0o644, Some(&hosts_with(&hosts, name)))?;
    if machine.is_live() {
        nix::unistd::sethostname(name).with_context(|| format!("Cannot set the host name {name}"))?;
    }
    Ok(Progress::Done(Some(name.into())))
}

/// The text of hosts(5) with the machine's own line; all else is kept.
fn hosts_with(hosts: &str, name: &str) -> String {
    let mut lines: Vec<_> =
        hosts.lines().filter(|line| line.split_whitespace().next() != Some(ADDRESS)).collect();
    let own = format!("{ADDRESS}\t{name}");
    lines.insert(lines.len().min(1), &own);
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_line_of_hosts() {
        let once = hosts_with("127.0.0.1\tlocalhost\n127.0.1.1 old\n192.0.2.1 vcenter\n", "edge");
        assert_eq!(once, "127.0.0.1\tlocalhost\n127.0.1.1\tedge\n192.0.2.1 vcenter\n");
        assert_eq!(hosts_with(&once, "edge"), once);
        assert_eq!(hosts_with("", "edge"), "127.0.1.1\tedge\n");
    }
}
