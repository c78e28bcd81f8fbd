//! SIGINT and SIGTERM as a value to look at between two pieces of work.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM};

static RECEIVED: OnceLock<Arc<AtomicUsize>> = OnceLock::new();
static IGNORED: AtomicBool = AtomicBool::new(false);

/// From here on, signals no longer end the process; whoever works asks [`received`].
pub(crate) fn catch() -> Result<()> {
    let received = RECEIVED.get_or_init(Default::default);
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_usize(signal, received.clone(), signal as usize)?;
    }
    Ok(())
}

/// The signal that asks us to stop, if there was one.
pub(crate) fn received() -> Option<i32> {
    if IGNORED.load(Ordering::SeqCst) {
        return None;
    }
    let signal = RECEIVED.get()?.load(Ordering::SeqCst);
    (signal != 0).then_some(signal as i32)
}

/// Until the value is dropped, [`received`] sees nothing: for cleaning up.
pub(crate) fn ignore() -> Ignored {
    IGNORED.store(true, Ordering::SeqCst);
    Ignored
}

#[derive(Debug)]
pub(crate) struct Ignored;

impl Drop for Ignored {
    fn drop(&mut self) {
        IGNORED.store(false, Ordering::SeqCst);
    }
}

/// Passes everything on, and fails once a signal has asked us to stop: for libraries that know nothing of signals.
#[derive(Debug)]
pub(crate) struct Interruptible<W>(pub(crate) W);

impl<W: Write> Write for Interruptible<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match received() {
            Some(_) => Err(io::ErrorKind::ConnectionAborted.into()),
            None => self.0.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
