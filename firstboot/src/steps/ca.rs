//! The CA of a proxy that inspects TLS becomes one of the system's.

use super::{Context, File, LIMIT, Step, Trigger, Trouble, failed};

pub(super) const STEP: Step = Step {
    name: "ca",
    properties: &["proxy-ca"],
    is_unset: |settings| settings.proxy_ca.is_empty(),
    files,
    activate,
};

const FOLDER: &str = "/usr/local/share/ca-certificates";

fn path(number: usize) -> String {
    match number {
        0 => format!("{FOLDER}/gatewright-proxy.crt"),
        _ => format!("{FOLDER}/gatewright-proxy-{}.crt", number + 1),
    }
}

fn files(context: &Context<'_>) -> Result<Vec<File>, Trouble> {
    let pems = &context.settings.proxy_ca;
    let mut files: Vec<File> =
        pems.iter().enumerate().map(|(i, pem)| File::new(&path(i), Some(pem.clone()))).collect();
    // Those of a longer list that was there before; one that never was there needs no command.
    for number in pems.len().. {
        let path = path(number);
        let exists = context.paths.of(&path).exists();
        if exists || number == 0 {
            files.push(File::new(&path, None));
        }
        if !exists {
            return Ok(files);
        }
    }
    Ok(files)
}

fn activate(context: &Context<'_>, trigger: Trigger) -> Result<String, Trouble> {
    if trigger != Trigger::Look {
        // Fresh: or the links to removed certificates stay.
        let argv = ["update-ca-certificates", "--fresh"];
        context.system.run(&argv, LIMIT).map_err(|e| failed("proxy-ca", e))?;
        // It syncs nothing itself, and this step is about to be recorded as done.
        nix::unistd::sync();
    }
    Ok(match context.settings.proxy_ca.len() {
        0 => "No proxy CA.".into(),
        1 => "The system trusts the proxy CA.".into(),
        n => format!("The system trusts the {n} proxy CAs."),
    })
}
