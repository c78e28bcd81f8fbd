//! Writes packs of every documented shape and defect, to measure and to try: `sample-packs FOLDER [COUNT, 200]`.

#[allow(dead_code, unreachable_pub, reason = "tests have it too, and ask more of it")]
#[path = "../tests/samples/mod.rs"]
mod samples;

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("name a folder")?);
    let count = arguments.next().map_or(Ok(200), |text| text.to_string_lossy().parse())?;
    for sample in samples::packs(6, count) {
        sample.write(&dir)?;
    }
    Ok(())
}
