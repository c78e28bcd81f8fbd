//! Makes the corpora to start from, `corpus/lint` and `corpus/document`: a pack of every shape and defect.

#[allow(dead_code, reason = "tests have it too, and ask more of it")]
#[path = "../tests/samples/mod.rs"]
mod samples;

use std::fs;
use std::io;

use pack::lint::Entry;

fn main() -> io::Result<()> {
    for target in ["lint", "document"] {
        fs::create_dir_all(format!("corpus/{target}"))?;
    }
    for (n, sample) in samples::packs(6, samples::kinds()).iter().enumerate() {
        let mut all = Vec::new();
        for (name, entry) in &sample.entries {
            all.extend(format!("=== {name}\n").as_bytes());
            match entry {
                Entry::File { head, .. } => {
                    fs::write(format!("corpus/document/{n}-{}", name.replace(['/', '\\'], "-")), head)?;
                    all.extend(head);
                }
                Entry::Link(target) => all.extend(format!("-> {target}\n").as_bytes()),
                _ => {}
            }
        }
        fs::write(format!("corpus/lint/{n}"), all)?;
    }
    Ok(())
}
