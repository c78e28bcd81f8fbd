//! Makes the corpora to start from: every message once, as an honest peer writes it.

use std::{fs, io};

use protocol::code::Code;
use protocol::device_key::DeviceKey;
use protocol::pairing::machine::Machine;
use protocol::pairing::{Claim, Grant, Verdict, console};
use protocol::signature;
use serde_json::{Value, json};

const ORIGIN: &str = "https://console.example.com";

fn main() -> io::Result<()> {
    for target in ["console", "machine", "messages", "signature"] {
        fs::create_dir_all(format!("corpus/{target}"))?;
    }
    let keep = |name: &str, value: Value| fs::write(format!("corpus/{name}"), value.to_string());

    let key = DeviceKey::generate();
    let code = Code::new("4821", "7739051").expect("it is one");
    let (machine, start) = Machine::start(&code, ORIGIN, key.public());
    let (started, keys) = console::start("4821", "7739051", &[ORIGIN], &start).expect("it is honest");
    let claimant = machine.started(&started).expect("so is this");
    let claim: Claim = serde_json::from_value(json!({
        "certificate_request": "MAA=", "vm_uuid": "4207f9a1-52d1-4e0c-9d1b-3fd2a2a7e3f1", "hostname": "edge-01",
        "addresses": ["192.0.2.10"], "software": "0.1.0", "clock": "2027-01-15T08:00:00Z", "chain": ["MAA="],
        "by_proxy_ca": true,
    }))?;
    let grant: Grant = serde_json::from_value(json!({
        "gateway": "0198f1f0-3c1e-7cc0-8000-000000000001", "name": "edge-01", "certificate": "PEM", "ca_bundle": "PEM",
        "origin": ORIGIN, "time": "2027-01-15T08:00:00Z", "heartbeat_seconds": 30,
    }))?;
    keep("console/start", json!(start))?;
    keep("console/confirm", json!(claimant.confirm(&claim)))?;
    keep("machine/started", json!(started))?;
    keep("machine/confirmed", json!(keys.confirmed(&Verdict::Granted(Box::new(grant.clone())))))?;
    keep("messages/claim", json!(claim))?;
    keep("messages/claimant", json!(claimant))?;
    keep("messages/keys", json!(keys))?;
    keep("messages/grant", json!(grant))?;
    for (n, verdict) in [
        Verdict::Granted(Box::new(grant)),
        Verdict::Waiting { poll_seconds: 2 },
        Verdict::Intercepted { issuer: "CN=Inspection".into() },
        Verdict::Refused { reason: "No.".into() },
    ]
    .iter()
    .enumerate()
    {
        keep(&format!("messages/verdict-{n}"), json!(verdict))?;
    }
    fs::write("corpus/messages/code", "4821 7739 0515")?;
    let (time, id) = ("2027-01-15T08:00:00Z", "0198f1f0-3c1e-7cc0-8000-000000000002");
    keep(
        "messages/upstream",
        json!({
            "spool": id,
            "heartbeat": {
                "time": time, "state": "running", "software": "0.1.0", "uptime_seconds": 1, "addresses": ["192.0.2.10"],
                "metrics": {
                    "load": 0.5, "processors": 2, "memory_total": 1, "memory_available": 1, "disk_total": 1,
                    "disk_available": 1,
                },
            },
            "entries": [
                { "sequence": 1, "time": time, "kind": "event", "severity": "info", "reason": "R", "message": "M", "source": "S" },
                {
                    "sequence": 2, "time": time, "kind": "condition", "type": "Paired", "status": "True", "reason": "R",
                    "message": "M", "last_transition_time": time,
                },
                { "sequence": 3, "time": time, "kind": "result", "command": id, "outcome": "done", "message": "" },
                { "sequence": 4, "time": time, "kind": "dropped", "count": 7 },
                { "sequence": 5, "time": time, "kind": "of-a-newer-machine" },
            ],
        }),
    )?;
    keep(
        "messages/downstream",
        json!({
            "time": time, "acknowledged": 5, "heartbeat_seconds": 30,
            "commands": [{ "id": id, "time": time, "kind": "configure", "arguments": { "size": 3 } }],
        }),
    )?;
    keep("messages/renewal", json!({ "certificate_request": "MAA=" }))?;
    keep("messages/renewed", json!({ "certificate": "PEM", "ca_bundle": "PEM" }))?;
    keep(
        "messages/about",
        json!({ "product": "gatewright-console", "software": "0.1.0", "protocols": [1], "time": time }),
    )?;
    keep(
        "messages/problem",
        json!({ "type": "rejected", "title": "T", "status": 403, "hint": "H", "fields": [{ "at": "/a", "message": "M" }] }),
    )?;

    let created = time.parse().expect("it is a time");
    for (n, body) in ["", "{}"].iter().enumerate() {
        let [(_, digest), (_, input), (_, signature)] =
            signature::sign(&key, "POST", "/v1/link/poll", None, body.as_bytes(), created, id);
        fs::write(format!("corpus/signature/{n}"), format!("{digest}\n{input}\n{signature}\n{body}"))?;
    }
    Ok(())
}
