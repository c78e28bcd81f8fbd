//! `fleet MACHINES sqlite|postgres`: measures so many machines against the console that `GATEWRIGHT_CONSOLE` names, and
//! prints the figures as JSON.

use anyhow::{Context, Result, bail};
use gatewright_tests::console::Setup;
use gatewright_tests::fleet;
use gatewright_tests::postgres::Postgres;

#[expect(clippy::print_stdout, reason = "the figures are the output")]
fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [machines, database] = arguments.as_slice() else {
        bail!("usage: fleet MACHINES sqlite|postgres");
    };
    let machines = machines.parse().context("MACHINES is a number")?;
    let setup = Setup::default();
    let figures = match database.as_str() {
        "sqlite" => fleet::measure(setup, machines, None)?,
        "postgres" => {
            let server = Postgres::start()?;
            let setup = setup.environment("GATEWRIGHT_CONSOLE_DATABASE", server.url());
            fleet::measure(setup, machines, server.id())?
        }
        other => bail!("`{other}` is no database: sqlite or postgres"),
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}
