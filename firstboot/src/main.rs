//! `gatewright-firstboot` configures the installer's virtual machine from its OVF properties, shows how it goes, and
//! takes corrections.
//!
//! ```text
//! OVF environment ──> values (kept) ──> settings, each checked ──> steps, journalled ──> status, screen
//!        set KEY=VALUE ──┘                                              ^
//!                          console <── pairing, link ── session ─────────┘
//! ```

mod control;
mod daemon;
mod files;
mod gateway;
mod metrics;
mod properties;
mod report;
mod screen;
mod session;
mod settings;
mod source;
mod status;
mod steps;
mod store;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::control::Mistake;
use crate::files::Machine;
use crate::properties::PROPERTIES;

/// Configures this machine from its OVF properties
#[derive(Debug, Parser)]
#[command(
    name = "gatewright-firstboot",
    version,
    max_term_width = 100,
    after_help = "\
Exit codes:
  0  done
  1  a value or the command is wrong, or the machine is not configured yet: the message says what to do
  2  something failed"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what step this machine is at, what is wrong, and what to do
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Correct values in place; a blank value clears
    Set {
        /// Property and value; KEY=@FILE and KEY=- read a file or standard input, for secrets and certificates
        #[arg(required = true, value_name = "KEY=VALUE")]
        values: Vec<String>,
        /// Do not wait for the steps
        #[arg(long)]
        no_wait: bool,
    },
    /// Look at the way to the console, one line per check: DNS, route, proxy, TLS, clock, console version
    Preflight {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Try again at once what failed
    Retry {
        /// Do not wait for the steps
        #[arg(long)]
        no_wait: bool,
    },
    /// The daemon; systemd starts it
    Run {
        /// Terminal or file to show the screen on; may be given several times
        #[arg(long, env = "GATEWRIGHT_SCREEN", value_delimiter = ':', default_values = ["/dev/tty1", "/dev/ttyS0"])]
        screen: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    // The list of properties is data, so clap's derive cannot write it.
    let keys = PROPERTIES
        .iter()
        .map(|p| format!("  {:<18}{:<22}{}\n", p.key, p.label, p.example))
        .collect::<String>();
    let help = format!(
        "Properties, with an example of each:\n{keys}\nExamples:\n  \
         sudo gatewright-firstboot set gateway-name=edge-01\n  \
         sudo gatewright-firstboot set ip-address=192.0.2.10 ip-prefix=24 ip-gateway=192.0.2.1 dns-servers=192.0.2.53\n  \
         sudo gatewright-firstboot set pairing-code=- < code.txt"
    );
    let command = Cli::command().mut_subcommand("set", |set| set.after_help(help));
    let cli = match command.try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be said where there is nobody to say it to.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match run(cli.command, &mut std::io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let mistake = error.downcast_ref::<Mistake>();
            let mut stderr = std::io::stderr();
            let _ = writeln!(stderr, "error: {error:#}");
            if let Some(mistake) = mistake {
                let _ = writeln!(stderr, "\nhint: {}", mistake.hint);
            }
            ExitCode::from(if mistake.is_some() { 1 } else { 2 })
        }
    }
}

/// Says whether all is well.
fn run(command: Command, out: &mut dyn Write) -> Result<bool> {
    let machine = Machine::here();
    match command {
        Command::Status { json } => control::status(&machine, json, out).map(|()| true),
        Command::Set { values, no_wait } => control::set(&machine, &values, !no_wait, out),
        Command::Preflight { json } => control::preflight(&machine, json, out),
        Command::Retry { no_wait } => control::retry(&machine, !no_wait, out),
        Command::Run { screen } => daemon::serve(&machine, screen).map(|()| true),
    }
}
