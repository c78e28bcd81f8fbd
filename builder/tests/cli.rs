//! What people read: help and errors. Builds themselves are tested in `tests/`.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::path::Path;
use std::process::Command;

/// The program, in an empty home and without the caller's settings.
fn gatewright(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatewright"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .current_dir(home);
    command
}

/// Exit code, standard output and standard error, with the home's path taken out.
fn run(home: &Path, arguments: &[&str]) -> String {
    let output = gatewright(home).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(home.to_str().unwrap(), "[HOME]");
    let code = output.status.code().unwrap();
    format!("exit code {code}\n--- stdout\n{}--- stderr\n{}", text(&output.stdout), text(&output.stderr))
}

fn anywhere(arguments: &[&str]) -> String {
    run(tempfile::tempdir().unwrap().path(), arguments)
}

/// A folder with an image definition, and packs.
fn project(definition: &str, packs: &[(&str, &str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: String, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("images/a.yaml".into(), definition);
    for (name, json, values) in packs {
        write(format!("packs/{name}/pack.json"), json);
        write(format!("packs/{name}/values.yaml"), values);
    }
    dir
}

const DEFINITION: &str = "\
name: a
packs: [os-1.0.0]
disk: {size: 4 GiB}
hardware: {cpus: 2, memory: 4 GiB, version: vmx-15, guestOs: other, firmware: efi}
outputs: [ova]
ova: {product: p, vendor: v, annotation: a}
";

#[test]
fn help() {
    insta::assert_snapshot!(anywhere(&["--help"]));
}

#[test]
fn help_of_build() {
    insta::assert_snapshot!(anywhere(&["build", "--help"]));
}

#[test]
fn version() {
    insta::assert_snapshot!(anywhere(&["--version"]));
}

#[test]
fn no_such_command() {
    insta::assert_snapshot!(anywhere(&["bulid"]));
}

#[test]
fn no_such_definition() {
    insta::assert_snapshot!(anywhere(&["build", "images/none.yaml"]));
}

#[test]
fn definition_with_a_mistake() {
    let dir = project(&DEFINITION.replace("cpus: 2", "cpu: 2"), &[]);
    insta::assert_snapshot!(run(dir.path(), &["build", "images/a.yaml"]));
}

#[test]
fn definition_with_a_wrong_value() {
    let dir = project(&DEFINITION.replace("4 GiB}\nhardware", "4 GB}\nhardware"), &[]);
    insta::assert_snapshot!(run(dir.path(), &["build", "images/a.yaml"]));
}

#[test]
fn no_such_pack() {
    let dir = project(DEFINITION, &[]);
    insta::assert_snapshot!(run(dir.path(), &["build", "images/a.yaml"]));
}

#[test]
fn pack_without_an_archive() {
    let dir = project(DEFINITION, &[("os-1.0.0", r#"{"name":"os","version":"1.0.0","layer":"os"}"#, "")]);
    insta::assert_snapshot!(run(dir.path(), &["build", "images/a.yaml"]));
}

#[test]
fn artifact_that_is_not_built() {
    let values = "pack: {archive: {suite: s, components: [main], architecture: amd64, keyring: k}}";
    let definition = format!("{DEFINITION}artifacts: {{daemon: ../target/daemon}}\n");
    let dir =
        project(&definition, &[("os-1.0.0", r#"{"name":"os","version":"1.0.0","layer":"os"}"#, values)]);
    insta::assert_snapshot!(run(dir.path(), &["build", "images/a.yaml"]));
}

#[test]
fn configuration_with_a_mistake() {
    let dir = project(DEFINITION, &[]);
    std::fs::create_dir_all(dir.path().join(".config/gatewright")).unwrap();
    std::fs::write(dir.path().join(".config/gatewright/config.yaml"), "mirror: x\n").unwrap();
    insta::assert_snapshot!(run(dir.path(), &["build", "images/a.yaml"]));
}

#[test]
fn completion_for_every_shell() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = gatewright(home.path()).args(["completion", shell]).output().unwrap();
        assert!(
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains("refresh"),
            "{shell}"
        );
    }
}

#[test]
fn doctor_in_json() {
    let home = tempfile::tempdir().unwrap();
    let output = gatewright(home.path()).args(["doctor", "--json"]).output().unwrap();
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = findings.as_array().unwrap();
    assert_eq!(findings.len(), 5);
    let all_well = findings.iter().all(|finding| finding["ok"] == true);
    assert_eq!(output.status.code(), Some(if all_well { 0 } else { 1 }));
    assert!(findings.iter().all(|finding| finding["ok"] == true || finding["hint"].is_string()));
}
