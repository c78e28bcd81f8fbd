//! `gatewright-firstboot run`: the daemon's threads, around its state machine.

use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::control::{self, Event};
use crate::daemon::{Daemon, Log};
use crate::files;
use crate::screen::{self, Screen};
use crate::status::Status;
use crate::store::{self, Paths};
use crate::system::Linux;

/// How often elapsed times are drawn again.
const REDRAW: Duration = Duration::from_secs(10);

/// Runs until it is told to stop. An error is one that nothing but another start can mend.
pub(crate) fn run(paths: &Paths, screens: &[PathBuf], log: &mut dyn Write) -> Result<(), String> {
    let (sender, events) = channel();
    let system = Linux::default();
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|e| format!("Cannot catch signals: {e}"))?;
    let (stop, stopper) = (system.stop.clone(), sender.clone());
    let wait = move || {
        if signals.forever().next().is_some() {
            stop.store(true, Ordering::Relaxed);
            let _ = stopper.send(Event::Stop); // the daemon has ended already
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .stack_size(128 << 10)
        .spawn(wait)
        .map_err(|e| format!("Cannot start a thread: {e}"))?;
    files::create_folder(&paths.of("/run/gatewright"), 0o755, None).map_err(|e| crate::daemon::chain(&e))?;
    control::listen(&paths.socket(), sender)
        .map_err(|e| format!("Cannot listen on `{}`: {e}", paths.socket().display()))?;
    let screens: Vec<Screen> = screens
        .iter()
        .map(|path| Screen::open(path.clone()))
        .collect::<Result<_, _>>()
        .map_err(|e| format!("Cannot start a thread: {e}"))?;

    let mut daemon = Daemon::start(paths, &system, Instant::now()).map_err(|e| crate::daemon::chain(&e))?;
    let mut changes = Log::default();
    let mut ready = false;
    let mut publish = |status: &Status| {
        changes.write(status, log);
        if let Err(error) = store::save(&paths.status(), status, 0o644) {
            let _ = writeln!(log, "{}", crate::daemon::chain(&error)); // nobody is left to tell
        }
        let text = screen::render(status, jiff::Timestamp::now());
        screens.iter().for_each(|screen| screen.show(&text));
        if !ready {
            // Others need not wait for what may take for ever.
            notify("READY=1");
            ready = true;
        }
    };
    let mut acknowledged = Vec::new();
    loop {
        let next = daemon.tick(Instant::now(), &mut publish);
        let pause = next.map_or(REDRAW, |next| next.saturating_duration_since(Instant::now()).min(REDRAW));
        // Never a busy loop, whatever is due.
        match events.recv_timeout(pause.max(Duration::from_millis(10))) {
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Ok(Event::Reload(stream)) => {
                // What cannot be read now is tried again when somebody sets a value again.
                if daemon.reload(Instant::now()).is_ok() {
                    acknowledged.push(stream);
                }
            }
            Ok(Event::Retry(stream)) => {
                daemon.retry(Instant::now());
                acknowledged.push(stream);
            }
            Err(RecvTimeoutError::Timeout) => {
                // Times on the screen, and addresses that came or went.
                publish(&daemon.status());
            }
        }
        if !acknowledged.is_empty() {
            // First the news, then the answer: whoever gets it reads a status that is not of before.
            publish(&daemon.status());
            acknowledged.drain(..).for_each(control::acknowledge);
        }
    }
}

/// Tells systemd, where it started us.
fn notify(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let name = name.as_encoded_bytes();
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(std::path::Path::new(&*String::from_utf8_lossy(name))),
    };
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.send_to_addr(state.as_bytes(), &address); // without it systemd says that we took too long
    }
}
