//! Findings as SARIF 2.1.0, which code scanning of CI services reads.

use serde_json::{Value, json};

use super::{Finding, RULES};

/// A log of one run. `packs` are what was looked at, each with its findings; its name is written before their files, with `/`.
#[must_use]
pub fn log<'a>(packs: impl IntoIterator<Item = (&'a str, &'a [Finding])>) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|rule| {
            json!({
                "id": rule.name,
                "shortDescription": {"text": rule.title},
                "help": {"text": rule.hint},
                "defaultConfiguration": {"level": rule.level},
            })
        })
        .collect();
    let results: Vec<Value> = packs
        .into_iter()
        .flat_map(|(pack, findings)| findings.iter().map(move |finding| result(pack, finding)))
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "gatewright",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn result(pack: &str, finding: &Finding) -> Value {
    // Code scanning shows no finding without a file: one of the pack itself is shown at its definition.
    let file = if finding.file.is_empty() { super::DEFINITION } else { &finding.file };
    let mut location =
        json!({"artifactLocation": {"uri": uri(&format!("{}/{file}", pack.trim_end_matches('/')))}});
    if let Some(line) = finding.line {
        location["region"] = json!({"startLine": line, "startColumn": finding.column});
    }
    json!({
        "ruleId": finding.rule,
        "ruleIndex": RULES.iter().position(|rule| rule.name == finding.rule),
        "level": finding.level,
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": location}],
    })
}

/// A path as a relative or absolute reference of RFC 3986.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.trim_start_matches("./").bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri += &format!("%{byte:02X}");
        }
    }
    uri
}
