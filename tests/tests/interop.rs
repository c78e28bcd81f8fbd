//! Pairing with a peer that shares no line with ours: Debian's `python3-spake2`, and Python's own HKDF, HMAC and AEAD.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use gatewright_tests::console::Console;
use gatewright_tests::{machine, prerequisites, process};
use protocol::code::Code;
use protocol::device_key::DeviceKey;
use protocol::pairing::machine::Machine;
use protocol::pairing::{self, Claim, Confirm, Confirmed, Start, Started, Verdict};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Debian's packages are for Debian's Python.
const PYTHON: &str = "/usr/bin/python3";
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/pairing_peer.py");
const ORIGIN: &str = "https://console.example.com:8443";
const CODE: &str = "4821 7739 0515";
/// Another secret behind the same locator.
const WRONG: &str = "4821 7739 0528";

fn can_run(test: &str) -> bool {
    let modules = || {
        for module in ["spake2", "cryptography"] {
            let found =
                Command::new(PYTHON).args(["-c", &format!("import {module}")]).stderr(Stdio::null()).status();
            ensure!(
                found.is_ok_and(|status| status.success()),
                "Python's {module} is missing (package python3-{module})"
            );
        }
        Ok(())
    };
    prerequisites::needed(test, modules()).is_some()
}

/// The peer, playing a side.
struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    fn plays(side: &str, part: &Value) -> Peer {
        let mut command = process::guarded(PYTHON);
        command.arg(PEER).arg(side).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = process::spawn(command).expect("the peer starts");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut peer = Peer { child, input, output };
        peer.tell(part).expect("the peer listens");
        peer
    }

    fn tell(&mut self, value: &impl Serialize) -> Result<()> {
        writeln!(self.input, "{}", serde_json::to_string(value)?)?;
        Ok(self.input.flush()?)
    }

    fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the peer said {line:?}"))
    }

    /// What it knows in the end.
    fn knows(mut self) -> Result<Value> {
        let known = self.hear()?;
        ensure!(self.child.wait()?.success(), "the peer failed");
        Ok(known)
    }
}

fn claim() -> Claim {
    serde_json::from_value(json!({
        "certificate_request": "MIIBAA==", "vm_uuid": "4207f9a1-52d1-4e0c-9d1b-3fd2a2a7e3f1", "hostname": "edge-zürich",
        "addresses": ["192.0.2.10"], "software": "0.1.0", "clock": "2027-01-15T08:00:00Z", "chain": ["MAA="],
    }))
    .expect("it is a claim")
}

/// Our machine and their console, with the codes that they were told.
fn to_their_console(ours: &str, theirs: &str, verdict: &Verdict) -> Result<(Option<Verdict>, String, Value)> {
    let mut console =
        Peer::plays("console", &json!({ "code": theirs, "origin": ORIGIN, "verdict": verdict }));
    let code = Code::parse(ours)?;
    let (machine, start) = Machine::start(&code, ORIGIN, DeviceKey::generate().public());
    console.tell(&start)?;
    let machine = machine.started(&console.hear::<Started>()?)?;
    console.tell(&machine.confirm(&claim()))?;
    let verdict = machine.confirmed(&console.hear::<Confirmed>()?).ok();
    Ok((verdict, machine.number(), console.knows()?))
}

/// Their machine and our console, likewise.
fn from_their_machine(
    ours: &str,
    theirs: &str,
    verdict: &Verdict,
) -> Result<(Option<(Claim, String)>, Value)> {
    let mut machine = Peer::plays("machine", &json!({ "code": theirs, "origin": ORIGIN }));
    let code = Code::parse(ours)?;
    let (started, keys) = pairing::console::start(
        code.locator(),
        code.secret(),
        &["https://console", ORIGIN],
        &machine.hear::<Start>()?,
    )?;
    machine.tell(&started)?;
    let opened = keys.open(&machine.hear::<Confirm>()?).ok();
    machine.tell(&keys.confirmed(verdict))?;
    Ok((opened, machine.knows()?))
}

#[test]
fn our_machine_pairs_with_their_console() -> Result<()> {
    if !can_run("our machine and an independent console") {
        return Ok(());
    }
    for verdict in [
        Verdict::Waiting { poll_seconds: 2 },
        Verdict::Refused { reason: "Niemand kennt „edge-zürich“.".into() },
        Verdict::Intercepted { issuer: "CN=Inspection".into() },
    ] {
        let (heard, number, known) = to_their_console(CODE, CODE, &verdict)?;
        assert_eq!(heard.as_ref(), Some(&verdict));
        assert_eq!(known, json!({ "number": number, "claim": claim() }));
    }
    Ok(())
}

#[test]
fn their_machine_pairs_with_our_console() -> Result<()> {
    if !can_run("an independent machine and our console") {
        return Ok(());
    }
    let verdict = Verdict::Waiting { poll_seconds: 2 };
    let (opened, known) = from_their_machine(CODE, CODE, &verdict)?;
    let (claim, number) = opened.context("the claim is not taken")?;
    assert_eq!((claim.hostname.as_str(), claim.software.as_str()), ("independent", "python"));
    assert_eq!(known, json!({ "number": number, "verdict": verdict }));
    Ok(())
}

#[test]
fn neither_meets_the_other_with_another_code() -> Result<()> {
    if !can_run("an independent peer with another code") {
        return Ok(());
    }
    let verdict = Verdict::Waiting { poll_seconds: 2 };
    let (heard, number, known) = to_their_console(CODE, WRONG, &verdict)?;
    assert_eq!((heard, &known["claim"]), (None, &Value::Null));
    assert_ne!(known["number"], number);
    let (opened, known) = from_their_machine(CODE, WRONG, &verdict)?;
    assert_eq!((opened, &known["verdict"]), (None, &Value::Null));
    Ok(())
}

/// The whole way over HTTPS with the console as it runs: pairing, then the link by certificate and by signature.
#[test]
fn their_machine_becomes_a_gateway() -> Result<()> {
    if !can_run("an independent machine and the console") {
        return Ok(());
    }
    let console = Console::start()?;
    let (id, code) = machine::gateway(&console, "independent", &json!({}))?;
    // The certificate has this name too.
    let origin = format!("https://127.0.0.1:{}", console.said().address.port());
    let peer = Peer::plays("pair", &json!({ "code": code.expose().expose(), "origin": origin }));
    let known = peer.knows()?;
    assert_eq!((&known["gateway"], &known["acknowledged"]), (&json!(id), &json!([1, 2])));
    let shown = console.api()?.get(&format!("/v1/gateways/{id}"))?.expect(200)?;
    assert_eq!(shown["facts"]["hostname"], "independent");
    Ok(())
}

#[test]
fn the_test_vectors_hold_for_them() -> Result<()> {
    if !can_run("test vectors by an independent peer") {
        return Ok(());
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/testdata");
    let said = process::output(process::guarded(PYTHON).args([PEER, "vectors"]).arg(folder))?;
    assert_eq!(serde_json::from_str::<Value>(&said)?, json!({ "pairing": 2, "signatures": 3, "codes": 5 }));
    Ok(())
}
