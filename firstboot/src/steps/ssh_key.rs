//! The key that may log in.

use super::{Context, File, Step, Trigger, Trouble, failed, shared};
use crate::files::{create_folder, with_block};

pub(super) const STEP: Step = Step {
    name: "ssh-key",
    properties: &["ssh-public-key"],
    is_unset: |settings| settings.ssh_keys.is_empty(),
    files,
    activate,
};

/// The login of the image.
const USER: &str = "ubuntu";

fn files(context: &Context<'_>) -> Result<Vec<File>, Trouble> {
    let key = "ssh-public-key";
    let passwd = shared(context, key, "/etc/passwd")?;
    let fields =
        passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == USER);
    let found = fields.and_then(|fields| {
        Some(((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?), (*fields.get(5)?).to_string()))
    });
    let Some((owner, home)) = found else {
        return Err(failed(key, format!("There is no user `{USER}` to log in as.")));
    };
    let folder = format!("{home}/.ssh");
    let path = format!("{folder}/authorized_keys");
    let keys = &context.settings.ssh_keys;
    if !keys.is_empty() {
        create_folder(&context.paths.of(&home), 0o755, Some(owner))
            .and_then(|()| create_folder(&context.paths.of(&folder), 0o700, Some(owner)))
            .map_err(|e| failed(key, crate::daemon::chain(&e)))?;
    }
    // Keys that people put there themselves stay.
    let text = with_block(&shared(context, key, &path)?, keys);
    Ok(vec![File { mode: 0o600, owner: Some(owner), ..File::new(&path, (!text.is_empty()).then_some(text)) }])
}

fn activate(context: &Context<'_>, _: Trigger) -> Result<String, Trouble> {
    Ok(match context.settings.ssh_keys.len() {
        0 => format!("Nobody can log in as {USER}: no SSH key was given."),
        1 => format!("The SSH key may log in as {USER}."),
        n => format!("The {n} SSH keys may log in as {USER}."),
    })
}
