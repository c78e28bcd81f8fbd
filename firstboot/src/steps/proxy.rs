//! The proxy, told to everything that would ask: login sessions, units, apt, containerd.

use super::{Context, File, LIMIT, Step, Trigger, Trouble, failed, shared};
use crate::files::with_block;

pub(super) const STEP: Step = Step {
    name: "proxy",
    properties: &["http-proxy", "https-proxy", "no-proxy"],
    is_unset: |settings| settings.proxy.is_none(),
    files,
    activate,
};

const ENVIRONMENT: &str = "/etc/environment";

/// What is never reached through a proxy: the machine, the metadata address (pods do not start without), the cluster.
const ALWAYS_DIRECT: [&str; 5] = ["localhost", "127.0.0.1", "169.254.169.254", ".svc", ".cluster.local"];

fn files(context: &Context<'_>) -> Result<Vec<File>, Trouble> {
    let settings = context.settings;
    let (mut variables, mut apt) = (Vec::new(), None);
    if let Some(proxy) = &settings.proxy {
        let subnets =
            [settings.pod_cidr, settings.service_cidr, settings.network.address.map(|it| it.address.trunc())];
        let mut direct: Vec<String> = Vec::new();
        let added = ALWAYS_DIRECT.into_iter().map(String::from);
        for entry in proxy
            .no_proxy
            .iter()
            .cloned()
            .chain(added)
            .chain(subnets.iter().flatten().map(ToString::to_string))
        {
            if !direct.contains(&entry) {
                direct.push(entry);
            }
        }
        let (http, https, none) = (proxy.http.expose(), proxy.https.expose(), direct.join(","));
        for (name, value) in [("HTTP_PROXY", http), ("HTTPS_PROXY", https), ("NO_PROXY", &none)] {
            // Both spellings: curl reads one, Go the other.
            variables.push((name.to_string(), value.to_string()));
            variables.push((name.to_lowercase(), value.to_string()));
        }
        let mut lines = format!("Acquire::http::Proxy \"{http}\";\nAcquire::https::Proxy \"{https}\";\n");
        // apt knows exact hosts only.
        for host in
            proxy.no_proxy.iter().filter(|entry| !entry.starts_with('.') && !entry.contains(['/', ':']))
        {
            lines.push_str(&format!(
                "Acquire::http::Proxy::{host} \"DIRECT\";\nAcquire::https::Proxy::{host} \"DIRECT\";\n"
            ));
        }
        apt = Some(lines);
    }
    // Values have no quotes, blanks or backslashes; a percent sign would begin a specifier of systemd.
    let quoted: Vec<String> =
        variables.iter().map(|(name, value)| format!("\"{name}={}\"", value.replace('%', "%%"))).collect();
    let unit = |text: String| (!variables.is_empty()).then_some(text);
    let system = unit(format!("[Manager]\nDefaultEnvironment={}\n", quoted.join(" ")));
    let containerd = unit(format!(
        "[Service]\n{}",
        quoted.iter().map(|it| format!("Environment={it}\n")).collect::<String>()
    ));

    let environment = shared(context, "http-proxy", ENVIRONMENT)?;
    let lines: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let with = with_block(&environment, &lines);
    let secret = |path, content| File { mode: 0o600, ..File::new(path, content) };
    Ok(vec![
        File::new(ENVIRONMENT, Some(with)),
        File::new("/etc/apt/apt.conf.d/90gatewright-proxy", apt),
        secret("/etc/systemd/system.conf.d/10-gatewright-proxy.conf", system),
        secret("/etc/systemd/system/containerd.service.d/http-proxy.conf", containerd),
    ])
}

fn activate(context: &Context<'_>, trigger: Trigger) -> Result<String, Trouble> {
    if trigger != Trigger::Look {
        let argv = ["systemctl", "daemon-reload"];
        context.system.run(&argv, LIMIT).map_err(|e| failed("http-proxy", e))?;
    }
    let known = context.settings.proxy.is_some();
    Ok(if known { "Sessions, units, apt and containerd know the proxy." } else { "No proxy." }.into())
}
