//! The proxy, for everything that runs: logins (`/etc/environment`), services, apt, containerd.

use anyhow::Result;

use super::Progress;
use crate::files::Machine;
use crate::settings::{Proxy, Settings};

const ENVIRONMENT: &str = "/etc/environment";
const SERVICES: &str = "/etc/systemd/system.conf.d/10-gatewright-proxy.conf";
const APT: &str = "/etc/apt/apt.conf.d/90gatewright-proxy";
const CONTAINERD: &str = "/etc/systemd/system/containerd.service.d/http-proxy.conf";

const BEGIN: &str = "# begin: written by gatewright-firstboot";
const END: &str = "# end: written by gatewright-firstboot";

pub(super) fn apply(machine: &Machine, settings: &Settings, again: bool) -> Result<Progress> {
    let variables = settings.proxy.as_ref().map(|proxy| variables(proxy, settings));
    let environment = machine.read(ENVIRONMENT)?.unwrap_or_default();
    let mut changed =
        machine.ensure(ENVIRONMENT, 0o644, Some(&with_block(&environment, variables.as_deref())))?;
    let manager = variables.as_ref().map(|variables| {
        let all: Vec<_> = variables.iter().map(|(name, value)| unit_word(name, value)).collect();
        format!("[Manager]\nDefaultEnvironment={}\n", all.join(" "))
    });
    changed |= machine.ensure(SERVICES, 0o600, manager.as_deref())?;
    let containerd = variables.as_ref().map(|variables| {
        variables.iter().fold("[Service]\n".to_string(), |text, (name, value)| {
            format!("{text}Environment={}\n", unit_word(name, value))
        })
    });
    changed |= machine.ensure(CONTAINERD, 0o600, containerd.as_deref())?;
    let apt = settings.proxy.as_ref().map(|proxy| {
        format!(
            "Acquire::http::Proxy \"{}\";\nAcquire::https::Proxy \"{}\";\n",
            proxy.http.expose(),
            proxy.https.expose()
        )
    });
    // Everybody's apt reads it, as everybody reads /etc/environment.
    machine.ensure(APT, 0o644, apt.as_deref())?;
    if changed || again {
        machine.run("systemctl", &["daemon-reload"])?;
    }
    Ok(Progress::Done(settings.proxy.as_ref().map(|_| "HTTP and HTTPS go through the proxy".into())))
}

/// In both cases: programs read one or the other.
fn variables(proxy: &Proxy, settings: &Settings) -> Vec<(String, String)> {
    let no_proxy = no_proxy(proxy, settings).join(",");
    [("HTTP_PROXY", proxy.http.expose()), ("HTTPS_PROXY", proxy.https.expose()), ("NO_PROXY", &no_proxy)]
        .into_iter()
        .flat_map(|(name, value)| {
            [(name.to_string(), value.to_string()), (name.to_lowercase(), value.to_string())]
        })
        .collect()
}

/// What is given, and what is always near: this machine, its subnet, the metadata address, pods and services.
pub(crate) fn no_proxy(proxy: &Proxy, settings: &Settings) -> Vec<String> {
    let own = settings.address.as_ref().map(|wanted| wanted.address.trunc());
    let nets = [own, settings.pods, settings.services].into_iter().flatten().map(|net| net.to_string());
    let fixed = ["localhost", "127.0.0.1", "169.254.169.254", ".svc", ".cluster.local"].map(String::from);
    let mut all: Vec<String> = Vec::new();
    for item in proxy.no_proxy.iter().cloned().chain(fixed).chain(nets) {
        if !all.contains(&item) {
            all.push(item);
        }
    }
    all
}

/// A variable as a word of a unit file (systemd.syntax(7)): specifiers begin with `%`.
fn unit_word(name: &str, value: &str) -> String {
    format!("\"{name}={}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}

/// The text of /etc/environment (pam_env(8)) with our variables at its end, or without.
fn with_block(text: &str, variables: Option<&[(String, String)]>) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line {
            BEGIN => inside = true,
            END => inside = false,
            _ if inside => {}
            line => lines.push(line.into()),
        }
    }
    if let Some(variables) = variables {
        lines.push(BEGIN.into());
        // URLs and host names have no quotes left in them.
        lines.extend(variables.iter().map(|(name, value)| format!("{name}=\"{value}\"")));
        lines.push(END.into());
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::parse;

    #[test]
    fn files_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::at(dir.path());
        machine.ensure(ENVIRONMENT, 0o644, Some("LANG=C.UTF-8\n")).unwrap();
        let raw = [
            ("http-proxy", "http://user:p%25ss@192.0.2.8:3128/"),
            ("https-proxy", "http://proxy.example.com:3129"),
            ("no-proxy", "vcenter.example.com .corp.example.com,localhost"),
            ("ip-address", "192.0.2.10/24"),
            ("ip-gateway", "192.0.2.1"),
            ("dns-servers", "192.0.2.53"),
        ];
        let parsed = parse(&raw.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect());
        assert_eq!(parsed.problems, []);
        for _ in 0..2 {
            apply(&machine, &parsed.settings, false).unwrap();
        }
        let all: Vec<_> = [ENVIRONMENT, SERVICES, APT, CONTAINERD]
            .iter()
            .map(|path| format!("== {path}\n{}", machine.read(path).unwrap().unwrap()))
            .collect();
        insta::assert_snapshot!(all.join("\n"));
        apply(&machine, &Settings::default(), false).unwrap();
        assert_eq!(machine.read(ENVIRONMENT).unwrap().unwrap(), "LANG=C.UTF-8\n");
        for path in [SERVICES, APT, CONTAINERD] {
            assert_eq!(machine.read(path).unwrap(), None);
        }
    }
}
