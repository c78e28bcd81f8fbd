//! Times and sizes that tests measured, said on standard error and appended to the file of `GATEWRIGHT_FIGURES`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::time::Instant;

use serde_json::{Value, json};

/// Appends one figure as a line of JSON, where a file for them is named. `figure` is an object.
pub fn record(figure: &Value) {
    let Some(path) = std::env::var_os("GATEWRIGHT_FIGURES") else { return };
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(format!("{figure}\n").as_bytes()));
    if let Err(error) = written {
        say(&format!("cannot write {}: {error}", path.display()));
    }
}

/// One line on standard error, past the test program's capture: for what must be seen when all is well, too.
pub fn say(line: &str) {
    // Nobody to tell if standard error is gone.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Says at its end how long a test took.
#[derive(Debug)]
pub struct Timed {
    test: &'static str,
    start: Instant,
}

impl Timed {
    /// Starts the watch of `test`.
    #[must_use]
    pub fn new(test: &'static str) -> Timed {
        Timed { test, start: Instant::now() }
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        let seconds = self.start.elapsed().as_secs_f64();
        say(&format!("TIME: {}: {seconds:.1} s", self.test));
        record(&json!({ "test": self.test, "seconds": seconds }));
    }
}
