//! Who reads the console's log or its database finds no secret there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gatewright_tests::console::PASSWORD;
use serde_json::{Value, json};

use crate::by_hand::{ByHand, Gateway};
use crate::console;

const VCENTER_PASSWORD: &str = "Zwölf Boxkämpfer jagen 3 Viktors";

#[test]
fn neither_log_nor_database_has_a_secret() -> Result<()> {
    let console = console();
    // One code that was tried and paired, one that waits, one that was locked.
    let (paired, waits, locked) = (Gateway::new()?, Gateway::new()?, Gateway::new()?);
    let wrong = paired.wrong_codes().next().context("there are more codes")?;
    ensure!(ByHand::new()?.try_code(&wrong)?.is_none());
    let mut machine = ByHand::new()?;
    machine.pair(&paired.code)?;
    for code in locked.wrong_codes().take(5) {
        ByHand::new()?.try_code(&code)?;
    }
    // A session, one that was refused, and a configuration with a password.
    let session = console.sign_in("admin", PASSWORD)?;
    session.get("/v1/session")?.expect(200)?;
    let mistyped = "correct horse battery stable";
    ensure!(console.sign_in("admin", mistyped).is_err());
    let configuration = json!({
        "vcenter": { "server": "vcenter.example.com", "username": "gateway@vsphere.local", "password": VCENTER_PASSWORD },
        "placement": {
            "datacenter": "DC1", "folder": "gateways", "cluster": "Cluster1", "datastore": "vsan", "network": "VM Network",
        },
        "ip_allocation": "dhcp",
    });
    let path = format!("/v1/gateways/{}/configuration", paired.id);
    let answer = console.api()?.json("PUT", &path, &configuration)?;
    ensure!(answer.status.is_success(), "{}", answer.text());
    let shown = console.api()?.get(&path)?.expect(200)?;
    assert!(!shown.to_string().contains(VCENTER_PASSWORD), "{shown}");

    let log = console.log().into_bytes();
    ensure!(log.len() > 1000, "the log says little: {}", console.log());
    let mut database = Vec::new();
    for file in fs::read_dir(console.folder())? {
        let file = file?;
        let name = file.file_name().to_string_lossy().into_owned();
        let mode = file.metadata()?.permissions().mode();
        if name.starts_with("console.db") {
            database.extend(fs::read(file.path())?);
        }
        if name.starts_with("console.db") || name == "data-key" || name == "server.pem" {
            assert_eq!(mode & 0o077, 0, "others may read {name}: {mode:o}");
        }
    }
    // The names of gateways and machines are there, so what is looked for would be found.
    ensure!(find(&database, b"simulated"), "that is not the database");

    let data_key = fs::read(console.folder().join("data-key"))?;
    let mut secrets: Vec<(String, Vec<u8>)> = vec![
        ("the password".into(), PASSWORD.into()),
        ("a mistyped password".into(), mistyped.into()),
        ("the token".into(), console.token().into()),
        ("the vCenter password".into(), VCENTER_PASSWORD.into()),
        ("the data key".into(), data_key.trim_ascii().to_vec()),
        ("a private key".into(), b"PRIVATE KEY".to_vec()),
    ];
    if let Some(initial) = &console.said().initial_password {
        secrets.push(("the first password".into(), initial.clone().into()));
    }
    for (what, secret) in &secrets {
        for (form, secret) in [("", secret.clone()), (" in base64", STANDARD.encode(secret).into_bytes())] {
            assert!(!find(&log, &secret), "{what}{form} is in the log");
            assert!(!find(&database, &secret), "{what}{form} is in the database");
        }
    }
    for gateway in [&paired, &waits, &locked] {
        let shown = gateway.code.expose();
        let bare: String = shown.expose().split(' ').collect();
        for text in [&log, &database] {
            assert!(
                !find(text, shown.expose().as_bytes()) && !find(text, bare.as_bytes()),
                "{} is there",
                shown.expose()
            );
            assert!(
                !alone(text, gateway.code.secret().as_bytes()),
                "the secret of {} is there",
                shown.expose()
            );
        }
    }
    assert!(
        !alone(&log, wrong.secret().as_bytes()),
        "a wrong secret is in the log: a typing slip away from the right one"
    );
    // Nobody but an operator is shown a code; and a list shows none to anybody.
    let list: Value = console.api()?.get("/v1/gateways?limit=500")?.expect(200)?;
    assert!(!list.to_string().contains(waits.code.expose().expose()));
    Ok(())
}

fn find(text: &[u8], secret: &[u8]) -> bool {
    places(text, secret).next().is_some()
}

/// Seven digits that are no part of a longer number or word: those come by chance.
fn alone(text: &[u8], secret: &[u8]) -> bool {
    let part =
        |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(|byte| byte.is_ascii_alphanumeric());
    places(text, secret).any(|at| !part(at.checked_sub(1)) && !part(Some(at + secret.len())))
}

fn places<'a>(text: &'a [u8], secret: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    text.windows(secret.len()).enumerate().filter(move |(_, window)| *window == secret).map(|(at, _)| at)
}
