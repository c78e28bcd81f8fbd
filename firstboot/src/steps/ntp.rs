//! The time servers: the given ones, or the distribution's.

use super::{Context, File, Kind, LIMIT, Step, Trigger, Trouble, failed, shared};
use crate::status::Problem;

pub(super) const STEP: Step = Step {
    name: "ntp",
    properties: &["ntp-servers"],
    is_unset: |settings| settings.ntp_servers.is_empty(),
    files,
    activate,
};

/// Where the image keeps the distribution's servers while ours are in force.
const DEFAULT: &str = "/usr/share/gatewright/chrony-default.sources";

fn files(context: &Context<'_>) -> Result<Vec<File>, Trouble> {
    let servers = &context.settings.ntp_servers;
    let ours: String = servers.iter().map(|server| format!("server {server} iburst\n")).collect();
    let default = shared(context, "ntp-servers", DEFAULT)?;
    let mut files =
        vec![File::new("/etc/chrony/sources.d/gatewright.sources", (!ours.is_empty()).then_some(ours))];
    if !default.is_empty() {
        files.push(File::new("/etc/chrony/sources.d/default.sources", servers.is_empty().then_some(default)));
    }
    Ok(files)
}

fn activate(context: &Context<'_>, trigger: Trigger) -> Result<String, Trouble> {
    let run = |argv: &[&str]| context.system.run(argv, LIMIT).map_err(|e| failed("ntp-servers", e));
    if trigger != Trigger::Look {
        let state = run(&["systemctl", "show", "--property=ActiveState", "--value", "chrony.service"])?;
        match String::from_utf8_lossy(&state).trim() {
            "active" | "reloading" => {
                // Restarting it loses what it measured, so only where it does not listen.
                run(&["chronyc", "reload", "sources"])
                    .or_else(|_| run(&["systemctl", "try-reload-or-restart", "chrony.service"]))?;
            }
            // It may have read its servers already, or not.
            "activating" | "deactivating" => {
                return Err(Trouble {
                    problem: Problem {
                        expected: "chrony running, or not".into(),
                        ..Problem::new(
                            "ntp-servers",
                            "chrony is still starting.",
                            "Wait, or look at `systemctl status chrony`.",
                        )
                    },
                    kind: Kind::NotYet,
                });
            }
            // It reads them when it starts.
            _ => {}
        }
    }
    let servers = &context.settings.ntp_servers;
    Ok(match servers.len() {
        0 => "The time comes from the distribution's servers.".into(),
        _ => format!("The time comes from {}.", servers.join(", ")),
    })
}
