//! What the console wants of this machine: its configuration, kept for the gateway to come, and commands.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use gateway::Configuration;
use jiff::Timestamp;
use protocol::link::{Command, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::files::{Machine, write_atomic};
use crate::steps::Progress;

const FOLDER: &str = "/var/lib/gatewright/gateway";

/// The gateway, as far as this version goes: it keeps and checks the configuration, and creates nothing from it yet.
#[derive(Debug)]
pub(crate) struct Gateway {
    file: PathBuf,
}

/// `configuration.json`. As the console sent it, so that nothing that a later version needs is lost; it holds the
/// password of the vCenter account, so only root may read it.
#[derive(Deserialize, Serialize)]
struct Kept {
    /// Which it is for: another gateway's, perhaps another console's, is not to be found on this machine.
    gateway: Uuid,
    received: Timestamp,
    configuration: Value,
}

impl Gateway {
    pub(crate) fn open(machine: &Machine) -> Result<Gateway> {
        use std::os::unix::fs::DirBuilderExt as _;
        let folder = machine.path(FOLDER);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("Cannot make {}", folder.display()))?;
        Ok(Gateway { file: folder.join("configuration.json") })
    }

    /// How far the gateway is.
    pub(crate) fn progress(&self) -> Progress {
        match self.kept() {
            Ok(Some(kept)) => Progress::Done(Some(format!(
                "configuration of {} kept; this version creates no cluster yet",
                kept.received.strftime("%F %H:%M UTC")
            ))),
            Ok(None) => Progress::Idle("waits for its configuration: open it in the console".into()),
            Err(error) => Progress::Failed(format!("{error:#}")),
        }
    }

    fn kept(&self) -> Result<Option<Kept>> {
        match fs::read(&self.file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).with_context(|| {
                format!("{} is damaged; send it from the console again", self.file.display())
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("Cannot read {}", self.file.display())),
        }
    }

    /// Forgets the configuration unless it is this gateway's.
    pub(crate) fn keep_only(&self, gateway: Option<Uuid>) -> Result<()> {
        match self.kept() {
            Ok(None) => Ok(()),
            Ok(Some(kept)) if Some(kept.gateway) == gateway => Ok(()),
            // Whose one is that cannot be read, nobody knows.
            Ok(Some(_)) | Err(_) => self.forget(),
        }
    }

    fn forget(&self) -> Result<()> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("Cannot remove {}", self.file.display()))
            }
            _ => Ok(()),
        }
    }

    /// Does what a command to this gateway says; the answer is for people.
    pub(crate) fn apply(&self, gateway: Uuid, command: &Command) -> (Outcome, String) {
        match command.kind.as_str() {
            "configure" => self.configure(gateway, &command.arguments),
            "reset" => match self.forget() {
                Err(error) => (Outcome::Failed, format!("{error:#}.")),
                Ok(()) => (Outcome::Done, "The configuration is forgotten.".into()),
            },
            other => (
                Outcome::Unsupported,
                format!("Version {} of the installer cannot `{other}`.", env!("CARGO_PKG_VERSION")),
            ),
        }
    }

    fn configure(&self, gateway: Uuid, arguments: &Value) -> (Outcome, String) {
        let configuration: Configuration = match serde_json::from_value(arguments.clone()) {
            Ok(configuration) => configuration,
            Err(error) => return (Outcome::Failed, format!("This is no configuration: {error}.")),
        };
        let findings = configuration.check();
        if !findings.is_empty() {
            let all: Vec<_> =
                findings.iter().map(|finding| format!("{}: {}", finding.at, finding.message)).collect();
            return (Outcome::Failed, all.join(" "));
        }
        let kept = Kept { gateway, received: Timestamp::now(), configuration: arguments.clone() };
        let written = serde_json::to_vec_pretty(&kept)
            .context("It cannot be written as JSON")
            .and_then(|text| Ok(write_atomic(&self.file, 0o600, None, &text)?));
        match written {
            Ok(()) => (Outcome::Done, "The configuration is kept.".into()),
            Err(error) => (Outcome::Failed, format!("Cannot keep the configuration: {error:#}.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_another_gateway_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let gateway = Gateway::open(&Machine::at(dir.path())).unwrap();
        let (ours, other) = (Uuid::now_v7(), Uuid::now_v7());
        let keep = || {
            let kept = Kept { gateway: ours, received: Timestamp::now(), configuration: Value::Null };
            fs::write(&gateway.file, serde_json::to_vec(&kept).unwrap()).unwrap();
        };
        for (paired, stays) in [(Some(ours), true), (Some(other), false), (None, false)] {
            keep();
            gateway.keep_only(paired).unwrap();
            assert_eq!(gateway.file.exists(), stays, "{paired:?}");
        }
        fs::write(&gateway.file, "{}").unwrap();
        assert!(matches!(gateway.progress(), Progress::Failed(_)));
        gateway.keep_only(Some(ours)).unwrap();
        assert!(!gateway.file.exists());
        gateway.keep_only(Some(ours)).unwrap();
    }
}
