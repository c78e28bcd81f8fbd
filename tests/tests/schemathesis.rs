//! The OpenAPI document, judged by who did not write it: schemathesis makes requests from it, right and wrong ones, and
//! looks whether the console answers as the document says.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use gatewright_tests::console::Console;
use gatewright_tests::prerequisites::needed;
use gatewright_tests::vcenter::{check_python, python};

/// Requests for each operation and phase; `GATEWRIGHT_SCHEMATHESIS_EXAMPLES` says more.
const EXAMPLES: &str = "10";

#[test]
fn the_console_is_as_its_document_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemathesis");
    let found = check_python().and_then(|()| python("schemathesis", &folder.join("requirements.txt")));
    let Some(python) = needed("the_console_is_as_its_document_says", found) else { return };
    judge(&python, &folder).unwrap();
}

fn judge(python: &Path, folder: &Path) -> Result<()> {
    let console = Console::start()?;
    // What it finds its way to: a gateway that is paired, and one that is awaited.
    let (_, code) = gatewright_tests::machine::gateway(&console, "paired", &serde_json::json!({}))?;
    let machine = gatewright_tests::machine::Machine::new(&console)?;
    let _paired = machine.pair(&console, &code)?;
    let examples = std::env::var("GATEWRIGHT_SCHEMATHESIS_EXAMPLES").unwrap_or_else(|_| EXAMPLES.into());
    let program = python.parent().context("Python is in a folder")?.join("schemathesis");
    let output = Command::new(program)
        .arg("--config-file")
        .arg(folder.join("schemathesis.toml"))
        .args(["run", &format!("{}/openapi.json", console.said().url)])
        .arg("--tls-verify")
        .arg(&console.said().ca_file)
        .arg("--header")
        .arg(format!("Authorization: Bearer {}", console.token()))
        .args(["--checks", "all", "--continue-on-failure", "--max-examples", &examples])
        // A test that finds something else each time is one that nobody mends.
        .args(["--generation-deterministic"])
        .current_dir(console.folder())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
