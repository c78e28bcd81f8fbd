use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};

use anyhow::{Context, Result};
use nix::unistd::User;

use super::Progress;
use crate::files::Machine;
use crate::settings::Settings;

/// The login of support engineers; the image makes it.
const USER: &str = "ubuntu";

pub(super) fn apply(machine: &Machine, settings: &Settings, _again: bool) -> Result<Progress> {
    let home = format!("/home/{USER}");
    let owner = if machine.is_live() {
        let user = User::from_name(USER)?.with_context(|| format!("This image has no user `{USER}`"))?;
        Some((user.uid.as_raw(), user.gid.as_raw()))
    } else {
        None
    };
    let folder = machine.path(&format!("{home}/.ssh"));
    fs::create_dir_all(&folder).with_context(|| format!("Cannot make {}", folder.display()))?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    if let Some((uid, gid)) = owner {
        chown(&folder, Some(uid), Some(gid))?;
    }
    let keys: String = settings.ssh_keys.iter().map(|key| format!("{key}\n")).collect();
    let content = (!keys.is_empty()).then_some(keys);
    machine.ensure_owned(&format!("{home}/.ssh/authorized_keys"), 0o600, owner, content.as_deref())?;
    Ok(Progress::Done(Some(match settings.ssh_keys.len() {
        0 => format!("nobody can log in: set ssh-public-key for the user {USER}"),
        1 => format!("1 key may log in as {USER}"),
        n => format!("{n} keys may log in as {USER}"),
    })))
}
