use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Progress;
use crate::files::Machine;
use crate::settings::Settings;

/// Where update-ca-certificates(8) looks; one certificate a file.
const FOLDER: &str = "/usr/local/share/ca-certificates";
const PREFIX: &str = "gatewright-proxy-";

pub(super) fn apply(machine: &Machine, settings: &Settings, again: bool) -> Result<Progress> {
    let wanted: Vec<(String, String)> = settings
        .proxy_ca
        .iter()
        .enumerate()
        .map(|(n, der)| (format!("{PREFIX}{}.crt", n + 1), pem(der)))
        .collect();
    let mut changed = false;
    for (name, content) in &wanted {
        changed |= machine.ensure(&format!("{FOLDER}/{name}"), 0o644, Some(content))?;
    }
    for name in present(machine)? {
        if !wanted.iter().any(|(wanted, _)| *wanted == name) {
            changed |= machine.ensure(&format!("{FOLDER}/{name}"), 0o644, None)?;
        }
    }
    // Nothing to trust and nothing to forget: the system's own list is as it came.
    if changed || (again && !wanted.is_empty()) {
        machine.run("update-ca-certificates", &["--fresh"])?;
    }
    Ok(Progress::Done(match wanted.len() {
        0 => None,
        1 => Some("1 certificate is trusted".into()),
        n => Some(format!("{n} certificates are trusted")),
    }))
}

/// Our files that are there.
fn present(machine: &Machine) -> Result<Vec<String>> {
    match std::fs::read_dir(machine.path(FOLDER)) {
        Ok(entries) => Ok(entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(PREFIX))
            .collect()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e.into()),
    }
}

/// RFC 7468.
fn pem(der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
