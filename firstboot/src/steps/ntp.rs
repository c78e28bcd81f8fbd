use anyhow::Result;

use super::Progress;
use crate::files::Machine;
use crate::settings::Settings;

/// chrony's folder of sources (chrony.conf(5), `sourcedir`).
const OURS: &str = "/etc/chrony/sources.d/gatewright.sources";
const DEFAULT: &str = "/etc/chrony/sources.d/default.sources";
/// Where the image keeps the distribution's own servers.
const KEPT: &str = "/usr/share/gatewright/chrony-default.sources";

pub(super) fn apply(machine: &Machine, settings: &Settings, again: bool) -> Result<Progress> {
    let ours: String = settings.ntp.iter().map(|server| format!("server {server} iburst\n")).collect();
    let default = machine.read(KEPT)?;
    let given = !settings.ntp.is_empty();
    let mut changed = machine.ensure(OURS, 0o644, given.then_some(&ours))?;
    // Servers that were given are the only ones: the others may not be reachable, or not be allowed.
    changed |= machine.ensure(DEFAULT, 0o644, default.as_deref().filter(|_| !given))?;
    if changed || again {
        // chronyd reads the folder when it starts; where it has not yet, there is nothing to tell it.
        if machine.run("systemctl", &["is-active", "--quiet", "chrony.service"]).is_ok() {
            machine.run("chronyc", &["reload", "sources"])?;
        }
    }
    Ok(Progress::Done(given.then(|| settings.ntp.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_servers_are_the_only_ones() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::at(dir.path());
        machine.ensure(KEPT, 0o644, Some("pool debian iburst\n")).unwrap();
        let given =
            Settings { ntp: vec!["ntp.example.com".into(), "192.0.2.123".into()], ..Settings::default() };
        apply(&machine, &given, true).unwrap();
        assert_eq!(
            machine.read(OURS).unwrap().unwrap(),
            "server ntp.example.com iburst\nserver 192.0.2.123 iburst\n"
        );
        assert_eq!(machine.read(DEFAULT).unwrap(), None);
        apply(&machine, &Settings::default(), true).unwrap();
        assert_eq!(machine.read(OURS).unwrap(), None);
        assert_eq!(machine.read(DEFAULT).unwrap().unwrap(), "pool debian iburst\n");
    }
}
