//! Measures boot to SSH of the build that `GATEWRIGHT_BUILD_JSON` names and prints it as one line of JSON.

use std::io::{self, Write};

use gatewright_tests::bench::boot_to_ssh;
use gatewright_tests::prerequisites::{self, Host};

fn main() -> anyhow::Result<()> {
    let Some(image) = prerequisites::image("boot-to-ssh", Host::Machine) else {
        anyhow::bail!("nothing was measured");
    };
    let measured = boot_to_ssh(&image)?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&measured)?)?;
    Ok(())
}
