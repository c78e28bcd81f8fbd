//! Attacks on pairing and link, against a console that runs as a process: nothing gets in, and nothing is learned.

mod by_hand;
mod impostor;
mod interceptor;
mod line;
mod linked;
mod pairing;
mod secrets;
mod timing;

use std::sync::OnceLock;

use gatewright_tests::console::{Console, Setup};

/// What the console is called. No name server knows it: whoever means it knows the address.
const HOST: &str = "console.test";

/// One for all; its log says as much as it can.
fn console() -> &'static Console {
    static CONSOLE: OnceLock<Console> = OnceLock::new();
    CONSOLE.get_or_init(|| {
        let log = "trace,sqlx=debug";
        // Machines take no proxy to 127.0.0.1, so there is a name for those that shall.
        let setup = Setup::default().argument("--url").argument(format!("https://{HOST}"));
        let setup = setup.argument("--url").argument("https://127.0.0.1");
        setup.environment("GATEWRIGHT_LOG", log).start().expect("a console starts")
    })
}
