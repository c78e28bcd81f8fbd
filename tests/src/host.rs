//! A container with the daemon in it, booted with an OVF environment: where most cases begin.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::container::Container;
use crate::fabric::{Fabric, Network};
use crate::image::Tree;
use crate::ovfenv::Environment;
use crate::ssh::{self, Key, Session};
use crate::status::Status;

/// How long a container may take for anything, on a busy machine.
pub const SOON: Duration = Duration::from_secs(40);

/// A property and its value.
pub type Given = (&'static str, String);

/// A host in a network of its own.
#[derive(Debug)]
pub struct Host {
    /// The container.
    pub container: Container,
    /// The administrator's key.
    pub key: Key,
    /// Its network; the fabric is the router in it.
    pub network: Arc<Network>,
}

impl Host {
    /// A host that has not been switched on.
    ///
    /// # Errors
    /// When it or its network cannot be made.
    pub fn new(tree: &Arc<Tree>) -> Result<Host> {
        Host::on(tree, &Arc::new(Fabric::single()?))
    }

    /// The same, on a network with others.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn on(tree: &Arc<Tree>, network: &Arc<Network>) -> Result<Host> {
        let container = Container::new(tree, network)?;
        Ok(Host { container, key: Key::generate()?, network: Arc::clone(network) })
    }

    /// A host switched on with these values, and the administrator's key if they have none.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn boot(tree: &Arc<Tree>, given: &[Given]) -> Result<Host> {
        let mut host = Host::new(tree)?;
        host.container.set_environment(Some(&host.environment(given).xml()))?;
        host.container.start()?;
        Ok(host)
    }

    /// The OVF environment of these values, with the administrator's key if they have none.
    #[must_use]
    pub fn environment(&self, given: &[Given]) -> Environment {
        let keyed = Environment::new(&[("ssh-public-key", &self.key.public())]);
        given.iter().fold(keyed, |environment, (key, value)| environment.with(key, value))
    }

    /// Waits until all is done that needs no console.
    ///
    /// # Errors
    /// When it does not come to that.
    pub fn configured(&mut self) -> Result<Status> {
        self.container.wait_status("every step of the machine done", SOON, |status| {
            status.state != "configuring" && status.is_configured()
        })
    }

    /// Logs in as the administrator.
    ///
    /// # Errors
    /// When nothing lets us in.
    pub fn login(&mut self) -> Result<Session> {
        self.container.login(&self.key, SOON)
    }

    /// Whether an SSH server answers.
    ///
    /// # Errors
    /// When none does.
    pub fn banner(&mut self) -> Result<()> {
        let address = self.container.wait_address(SOON)?;
        ssh::banner(self.network.fabric(), IpAddr::V4(address), SOON).map(drop)
    }

    /// Corrects values, as the screen says.
    ///
    /// # Errors
    /// When `set` refuses.
    pub fn set(&mut self, values: &[Given]) -> Result<()> {
        let output = self.try_set(values)?;
        ensure!(output.code == 0, "`set` exited with {}: {}{}", output.code, output.stdout, output.stderr);
        Ok(())
    }

    /// As [`Host::set`], whatever comes of it.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn try_set(&mut self, values: &[Given]) -> Result<crate::container::Output> {
        let pairs: String =
            values.iter().map(|(key, value)| format!(" {}", quoted(&format!("{key}={value}")))).collect();
        self.container.exec(&format!("gatewright-firstboot set{pairs}"))
    }

    /// Fails where the output of a script, trimmed, is not the expected one.
    ///
    /// # Errors
    /// When it is not, or the script fails.
    pub fn expect(&mut self, script: &str, expected: &str) -> Result<()> {
        let found = self.container.sh(script)?;
        ensure!(found == expected, "`{script}` gave {found:?}, expected {expected:?}");
        Ok(())
    }

    /// Fails where the output of a script lacks one of the parts.
    ///
    /// # Errors
    /// When it does, or the script fails.
    pub fn expect_parts(&mut self, script: &str, parts: &[&str]) -> Result<()> {
        let found = self.container.sh(script)?;
        for part in parts {
            ensure!(found.contains(part), "`{script}` gave {found:?}, which has no {part:?}");
        }
        Ok(())
    }

    /// Fails where the daemon was started more than once, or any unit of the system failed.
    ///
    /// # Errors
    /// When that is so.
    pub fn is_calm(&mut self) -> Result<()> {
        self.expect(
            "systemctl show --value -p NRestarts -p ActiveState gatewright-firstboot | xargs",
            "0 active",
        )?;
        self.expect("systemctl --failed --no-legend --plain", "")
    }

    /// Fails where a secret is in what anybody may read, or in the journal.
    ///
    /// # Errors
    /// When it is.
    pub fn keeps_secret(&mut self, secrets: &[&str]) -> Result<()> {
        for (place, text) in [
            ("status", self.container.read(crate::status::PATH)?),
            ("screen", self.container.screen()?),
            ("journal", self.container.sh("journalctl -b --no-pager -o cat")?),
            (
                "output of status",
                self.container.sh("gatewright-firstboot status; gatewright-firstboot status --json")?,
            ),
        ] {
            for secret in secrets {
                ensure!(!text.contains(secret), "the {place} shows the secret {secret:?}");
            }
        }
        Ok(())
    }

    /// Runs checks on it; where one fails, the error says what the host looked like.
    ///
    /// # Errors
    /// That of the checks.
    pub fn examine<T>(mut self, check: impl FnOnce(&mut Host) -> Result<T>) -> Result<T> {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&mut self)));
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => bail!("{error:#}\n{}", self.container.evidence()),
            Err(panic) => match panic.downcast_ref::<String>() {
                Some(words) => bail!("{words}\n{}", self.container.evidence()),
                None => std::panic::resume_unwind(panic),
            },
        }
    }
}

/// For a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
