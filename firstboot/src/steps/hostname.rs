//! The host name is the gateway's name.

use super::{Context, File, Step, Trigger, Trouble, failed, shared};

pub(super) const STEP: Step = Step {
    name: "hostname",
    properties: &["gateway-name"],
    is_unset: |settings| settings.gateway_name.is_none(),
    files,
    activate,
};

/// The name while nobody gave one.
const UNNAMED: &str = "gatewright-installer";

fn name<'a>(context: &'a Context<'_>) -> &'a str {
    context.settings.gateway_name.as_deref().unwrap_or(UNNAMED)
}

fn files(context: &Context<'_>) -> Result<Vec<File>, Trouble> {
    let name = name(context);
    let hosts = shared(context, "gateway-name", "/etc/hosts")?;
    let mut lines: Vec<&str> =
        hosts.lines().filter(|line| line.split_whitespace().next() != Some("127.0.1.1")).collect();
    if !lines.iter().any(|line| line.split_whitespace().next() == Some("127.0.0.1")) {
        lines.extend(["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]);
    }
    // Without a line of its own, sudo and others wait for DNS to know their own machine.
    let own = format!("127.0.1.1 {name}");
    lines.push(&own);
    Ok(vec![
        File::new("/etc/hostname", Some(format!("{name}\n"))),
        File::new("/etc/hosts", Some(lines.join("\n") + "\n")),
    ])
}

fn activate(context: &Context<'_>, _: Trigger) -> Result<String, Trouble> {
    let name = name(context);
    if context.system.host_name() != name {
        context
            .system
            .set_host_name(name)
            .map_err(|e| failed("gateway-name", format!("Cannot set the host name: {e}")))?;
    }
    Ok(format!("The host name is {name}."))
}
