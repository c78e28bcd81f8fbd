//! Looks at what building needs of the host, and names the remedy of what is missing.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use nix::unistd::Uid;
use serde::Serialize;

use crate::error::Failure;
use crate::sandbox::{self, Sandbox};

/// What came of one check.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) ok: bool,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

/// A check: what it found, or what is wrong and how to mend it.
struct Check {
    name: &'static str,
    run: fn() -> Result<String, (String, String)>,
}

const CHECKS: &[Check] = &[
    Check { name: "mmdebstrap", run: || program("mmdebstrap", "mmdebstrap") },
    Check { name: "tar", run: || program("tar", "tar") },
    Check { name: "uidmap", run: uidmap },
    Check { name: "subordinate-ids", run: subordinate_ids },
    Check { name: "user-namespaces", run: user_namespaces },
];

/// Runs every check.
pub(crate) fn examine() -> Vec<Finding> {
    CHECKS
        .iter()
        .map(|check| match (check.run)() {
            Ok(message) => Finding { check: check.name, ok: true, message, hint: None },
            Err((message, hint)) => Finding { check: check.name, ok: false, message, hint: Some(hint) },
        })
        .collect()
}

/// Prints findings for people.
pub(crate) fn print(findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    for finding in findings {
        writeln!(
            out,
            "{} {:<16} {}",
            if finding.ok { "ok     " } else { "MISSING" },
            finding.check,
            finding.message
        )?;
        if let Some(hint) = &finding.hint {
            writeln!(out, "{:24} hint: {hint}", "")?;
        }
    }
    Ok(())
}

fn program(name: &str, package: &str) -> Result<String, (String, String)> {
    let hint = format!("`sudo apt-get install {package}`");
    match Command::new(name).arg("--version").stderr(Stdio::null()).stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or(name).trim().to_string())
        }
        Ok(output) => Err((format!("`{name} --version` ended with {}", output.status), hint)),
        Err(e) => Err((format!("`{name}` does not run: {e}"), hint)),
    }
}

fn uidmap() -> Result<String, (String, String)> {
    if Uid::effective().is_root() {
        return Ok("not needed by root".into());
    }
    for name in ["newuidmap", "newgidmap"] {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()));
        if !found {
            return Err((format!("`{name}` is not there"), "`sudo apt-get install uidmap`".into()));
        }
    }
    Ok("newuidmap and newgidmap are there".into())
}

fn subordinate_ids() -> Result<String, (String, String)> {
    match Sandbox::detect() {
        Ok(Sandbox::Root) => Ok("not needed by root".into()),
        Ok(Sandbox::User { uid, gid }) => Ok(format!("users {uid}, groups {gid}")),
        Err(error) => {
            let hint =
                error.downcast_ref::<Failure>().and_then(Failure::hint).unwrap_or_default().to_string();
            Err((format!("{error:#}"), hint))
        }
    }
}

/// Tries what a build does: namespaces, mapped ids, a fresh `/proc`.
fn user_namespaces() -> Result<String, (String, String)> {
    let sandbox = Sandbox::detect().map_err(|_| {
        ("not tried: there are no subordinate ids".to_string(), "mend that first".to_string())
    })?;
    let log = tempfile::NamedTempFile::new()
        .map_err(|e| (format!("Cannot make a temporary file: {e}"), "check /tmp".into()))?;
    match sandbox::remove(&sandbox, Vec::new(), log.path()) {
        Ok(()) => Ok("namespaces can be made".into()),
        Err(error) => {
            let reason =
                error.downcast_ref::<Failure>().map_or_else(|| format!("{error:#}"), ToString::to_string);
            Err((reason, namespace_hint(&|path| fs::read_to_string(path).ok())))
        }
    }
}

/// The remedy for a kernel or system that forbids user namespaces; `read` reads a setting.
fn namespace_hint(read: &dyn Fn(&Path) -> Option<String>) -> String {
    let is = |path: &str, value: &str| read(Path::new(path)).is_some_and(|text| text.trim() == value);
    if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        return "AppArmor restricts user namespaces (Ubuntu 23.10 and later): \
                `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or build as root"
            .into();
    }
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return "the kernel forbids user namespaces: `sudo sysctl kernel.unprivileged_userns_clone=1`, or build as root".into();
    }
    if is("/proc/sys/user/max_user_namespaces", "0") {
        return "user namespaces are switched off: `sudo sysctl user.max_user_namespaces=15000`, or build as root".into();
    }
    "in a container, start it so that it may make namespaces and mount /proc \
     (docker: `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`; podman: `--security-opt unmask=ALL`)"
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_remedy() {
        let hint = |setting: &'static str, value: &'static str| {
            namespace_hint(&move |path| (path == Path::new(setting)).then(|| format!("{value}\n")))
        };
        assert!(hint("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1").contains("AppArmor"));
        assert!(
            hint("/proc/sys/kernel/unprivileged_userns_clone", "0").contains("unprivileged_userns_clone=1")
        );
        assert!(hint("/proc/sys/user/max_user_namespaces", "0").contains("max_user_namespaces=15000"));
        assert!(hint("/proc/sys/user/max_user_namespaces", "9").contains("container"));
    }
}
