//! How commands reach the daemon: one word and a line end over a Unix socket, answered with `ok` when it was heeded.
//! The values themselves go through `settings.json`, so that they are kept where no daemon runs.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// What reaches the daemon.
#[derive(Debug)]
pub(crate) enum Event {
    /// The values changed.
    Reload(UnixStream),
    /// Try again at once.
    Retry(UnixStream),
    /// End.
    Stop,
}

/// Listens for commands; gives each to `events`.
pub(crate) fn listen(path: &Path, events: Sender<Event>) -> std::io::Result<()> {
    if UnixStream::connect(path).is_ok() {
        return Err(std::io::Error::new(ErrorKind::AddrInUse, "another daemon is running"));
    }
    let _ = std::fs::remove_file(path); // left by a daemon that was killed; if it stays, bind says why
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let accept = move || {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => {
                    if let Some(event) = receive(stream)
                        && events.send(event).is_err()
                    {
                        return; // the daemon ended
                    }
                }
                // Out of files or memory: not for ever.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    };
    std::thread::Builder::new().name("control".into()).stack_size(128 << 10).spawn(accept)?;
    Ok(())
}

fn receive(stream: UnixStream) -> Option<Event> {
    // Clients are ours and write at once.
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let mut word = String::new();
    BufReader::new((&stream).take(16)).read_line(&mut word).ok()?;
    match word.trim_end() {
        "reload" => Some(Event::Reload(stream)),
        "retry" => Some(Event::Retry(stream)),
        _ => None,
    }
}

/// Tells whoever waits that the command was heeded.
pub(crate) fn acknowledge(mut stream: UnixStream) {
    let _ = stream.write_all(b"ok\n"); // nobody waits any more
}

/// Sends a command and waits until it was heeded. Tells whether there is a daemon.
pub(crate) fn send(path: &Path, word: &str) -> std::io::Result<bool> {
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(false),
        Err(e) => return Err(e),
    };
    // A step may be at work with a program that takes its time.
    stream.set_read_timeout(Some(Duration::from_secs(130)))?;
    stream.write_all(format!("{word}\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(16).read_to_string(&mut answer)?;
    if answer == "ok\n" {
        Ok(true)
    } else {
        Err(std::io::Error::new(ErrorKind::UnexpectedEof, "the daemon ended"))
    }
}
