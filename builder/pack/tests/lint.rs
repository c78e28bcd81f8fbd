//! Every rule finds its defect where it is, and nothing in packs that have none.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[allow(unreachable_pub, reason = "an example has it too")]
mod samples;

use std::collections::BTreeSet;
use std::process::Command;

use jiff::civil::date;
use pack::lint::{Files, Level, RULES, lint, sarif};
use serde_json::Value;

#[test]
fn every_defect_is_found_where_it_is_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for sample in samples::packs(6, 3 * samples::kinds()) {
        let path = sample.write(dir.path()).unwrap();
        let findings = lint(&Files::read(&path).unwrap(), date(2026, 11, 21), &[]);
        let found: Vec<samples::Expected> = findings
            .iter()
            .map(|finding| samples::Expected {
                file: finding.file.clone(),
                place: finding.line.zip(finding.column),
                rule: finding.rule.into(),
            })
            .collect();
        if found != sample.expected {
            wrong.push(format!("{}: {:?}, but {findings:#?}", sample.folder, sample.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_has_a_defect_and_a_name_of_its_own() {
    let names: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), RULES.len());
    let tried: BTreeSet<&str> = samples::DEFECTS.iter().map(|defect| defect.rule).collect();
    assert_eq!(tried, names);
    for rule in RULES {
        assert!(rule.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", rule.name);
    }
}

#[test]
fn shipped_packs_have_no_errors_and_warnings() {
    let packs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packs");
    for pack in std::fs::read_dir(packs).unwrap() {
        let files = Files::read(&pack.unwrap().path()).unwrap();
        let findings = lint(&files, date(2026, 11, 21), &[]);
        let bad: Vec<_> = findings.iter().filter(|finding| finding.level != Level::Note).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}

#[test]
fn sarif_is_what_its_schema_says() {
    let dir = tempfile::tempdir().unwrap();
    let packs: Vec<_> = samples::packs(6, samples::kinds())
        .iter()
        .map(|sample| {
            let path = sample.write(dir.path()).unwrap();
            (sample.folder.clone(), lint(&Files::read(&path).unwrap(), date(2026, 11, 21), &[]))
        })
        .collect();
    let log = sarif::log(packs.iter().map(|(name, findings)| (name.as_str(), findings.as_slice())));
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(&log).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert_eq!(errors, Vec::<String>::new());
    assert!(!validator.is_valid(&serde_json::json!({"version": "2.1.0"})), "the schema judges");

    let results = log["runs"][0]["results"].as_array().unwrap();
    assert_eq!(results.len(), packs.iter().map(|(_, findings)| findings.len()).sum::<usize>());
    for result in results {
        let rule = &log["runs"][0]["tool"]["driver"]["rules"][result["ruleIndex"].as_u64().unwrap() as usize];
        assert_eq!(rule["id"], result["ruleId"]);
    }
    let odd = results.iter().find(|result| result["ruleId"] == "file-name").unwrap();
    let uri = odd["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap();
    assert!(uri.ends_with("/a%0Ab"), "{uri}");
}

/// The official schema, as a package that is not ours carries it.
fn schema() -> Value {
    // Packages of other platforms may not be here.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform", &platform])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let package =
        metadata["packages"].as_array().unwrap().iter().find(|p| p["name"] == "serde-sarif").unwrap();
    let manifest = std::path::Path::new(package["manifest_path"].as_str().unwrap());
    let text = std::fs::read_to_string(manifest.with_file_name("src/schema.json")).unwrap();
    let mut schema: Value = serde_json::from_str(&text).unwrap();
    // Their pattern is no regular expression: a bracket is closed twice. We write no language.
    for of in ["run", "toolComponent"] {
        let language = &mut schema["definitions"][of]["properties"]["language"];
        language.as_object_mut().unwrap().remove("pattern");
    }
    schema
}
