//! The command line.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use protocol::secret::Secret;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use url::Url;
use uuid::Uuid;

use crate::auth::{Role, password, token};
use crate::machine::Rates;
use crate::serve::{self, Config, Running};
use crate::store::{accounts, audit, sessions};

/// The management console that gateways pair with
#[derive(Debug, Parser)]
#[command(
    name = "gatewright-console",
    version,
    max_term_width = 100,
    after_help = "\
Exit codes:
  0  done
  1  an option is wrong, or what it names cannot be used: the message says what to do
  2  something failed"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the console
    Serve(Serve),
    /// Give an account a new password, which must be changed at the next sign-in; also enables it again
    ResetPassword {
        /// The account
        #[arg(default_value = serve::FIRST_ACCOUNT)]
        name: String,
        #[command(flatten)]
        store: StoreOptions,
    },
    /// API tokens
    #[command(subcommand)]
    Token(Token),
}

#[derive(Debug, Subcommand)]
enum Token {
    /// Make a token and print it
    Create {
        /// What it is for
        name: String,
        /// The account that it belongs to
        #[arg(long, default_value = serve::FIRST_ACCOUNT)]
        account: String,
        /// What it may do
        #[arg(long, value_enum, default_value_t = RoleArgument::Operator)]
        role: RoleArgument,
        /// After how many days it ends
        #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        #[command(flatten)]
        store: StoreOptions,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleArgument {
    Viewer,
    Operator,
    Administrator,
}

/// Where a console's data is.
#[derive(Args, Debug)]
struct StoreOptions {
    /// Folder of database, data key and certificates [default: /var/lib/gatewright-console for root, else
    /// gatewright-console in the XDG state folder]
    #[arg(long, value_name = "DIR", env = "GATEWRIGHT_CONSOLE_DATA")]
    data: Option<PathBuf>,
    /// PostgreSQL instead of SQLite, as postgres://USER:PASSWORD@HOST/DATABASE; better in the environment, where other
    /// users do not see it
    #[arg(long, value_name = "URL", env = "GATEWRIGHT_CONSOLE_DATABASE", hide_env_values = true, value_parser = secret)]
    database: Option<Secret>,
    /// The key that secrets in the database are sealed with; several consoles share it [default: in the folder]
    #[arg(long, value_name = "FILE", env = "GATEWRIGHT_CONSOLE_KEY_FILE")]
    key_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct Serve {
    #[command(flatten)]
    store: StoreOptions,
    /// Address and port to listen at
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// A URL under which the console is reached, first the one to show; may be given several times [default: host name
    /// and addresses of this machine]
    #[arg(long, value_name = "URL")]
    url: Vec<Url>,
    /// Certificate and its chain, PEM; read again at SIGHUP [default: by the console's own CA]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// After how long without a heartbeat a gateway is unhealthy
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(10..=86_400))]
    unhealthy_after: u32,
    /// The gateway installer's OVA, to offer for download
    #[arg(long, value_name = "FILE")]
    installer: Option<PathBuf>,
    /// Starts of pairings in a minute by one address, for tests of many machines on one
    #[arg(long, value_name = "COUNT", default_value_t = Rates::default().per_address, hide = true)]
    starts_per_address: NonZeroU32,
    /// Starts of pairings in a minute in all, likewise
    #[arg(long, value_name = "COUNT", default_value_t = Rates::default().in_all, hide = true)]
    starts: NonZeroU32,
    /// Say where it is as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command that the process was given.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os(), &mut io::stdout(), &mut io::stderr())
}

fn run(arguments: impl Iterator<Item = OsString>, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be said where there is nobody to say it to.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    log();
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")
        .and_then(|runtime| runtime.block_on(command(cli.command, out)));
    let Err(error) = result else { return ExitCode::SUCCESS };
    let _ = writeln!(err, "error: {error:#}");
    let hint = error
        .downcast_ref::<serve::Error>()
        .and_then(serve::Error::hint)
        .or_else(|| error.downcast_ref::<Mistake>().map(|mistake| mistake.hint));
    if let Some(hint) = hint {
        let _ = writeln!(err, "\nhint: {hint}");
    }
    ExitCode::from(if hint.is_some() { 1 } else { 2 })
}

/// An option that names what is not there.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Mistake {
    message: String,
    hint: &'static str,
}

/// Events go to standard error: `GATEWRIGHT_LOG` says which, as in `debug` or `gatewright_console=debug,info`.
fn log() {
    let filter =
        EnvFilter::try_from_env("GATEWRIGHT_LOG").unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let colour =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // A second console in one process has the first one's.
    let _ = tracing_subscriber::fmt()
        // Where the log cannot be written, as on a full disk, that cannot be told either, and must not end a request.
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_ansi(colour)
        .with_writer(io::stderr)
        .try_init();
}

async fn command(command: Command, out: &mut dyn Write) -> Result<()> {
    match command {
        Command::Serve(options) => serve(options, out).await,
        Command::ResetPassword { name, store } => reset_password(&name, store, out).await,
        Command::Token(Token::Create { name, account, role, days, store }) => {
            create_token(&name, &account, role, days, store, out).await
        }
    }
}

async fn serve(options: Serve, out: &mut dyn Write) -> Result<()> {
    let json = options.json;
    let mut end = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let running = serve::serve(options.into()).await?;
    tell(&running, json, out)?;
    tokio::select! {
        _ = end.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending");
    running.stop().await;
    Ok(())
}

fn tell(running: &Running, as_json: bool, out: &mut dyn Write) -> Result<()> {
    let (certificate, ca) = (running.certificate_sha256(), running.ca_sha256());
    let password = running.initial_password.as_ref().map(Secret::expose);
    if as_json {
        let line = json!({
            "url": running.url(),
            "address": running.address,
            "ca_file": running.ca_file,
            "certificate_sha256": certificate,
            "ca_sha256": ca,
            "initial_password": password,
        });
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "Console      {}", running.url())?;
        writeln!(out, "Certificate  SHA-256 {}", grouped(&certificate))?;
        writeln!(out, "CA           SHA-256 {}", grouped(&ca))?;
        writeln!(out, "             {}", running.ca_file.display())?;
        if let Some(password) = password {
            writeln!(
                out,
                "\nSign in as `{}` with this password, which must then be changed:",
                serve::FIRST_ACCOUNT
            )?;
            writeln!(out, "    {password}")?;
        }
    }
    out.flush()?;
    Ok(())
}

/// As browsers show fingerprints.
fn grouped(hexadecimal: &str) -> String {
    let upper = hexadecimal.to_uppercase();
    let pairs: Vec<&str> = (0..upper.len()).step_by(2).filter_map(|at| upper.get(at..at + 2)).collect();
    pairs.join(":")
}

async fn reset_password(name: &str, options: StoreOptions, out: &mut dyn Write) -> Result<()> {
    let store = serve::open(&options.into()).await?;
    let mut db = store.write().await?;
    let account = accounts::by_name(&mut db, name).await?.ok_or_else(|| no_account(name))?;
    let password = password::initial();
    accounts::set_password(&mut db, account.id, &password::hash(&password)?, true).await?;
    accounts::update(&mut db, account.id, account.role, false).await?;
    sessions::delete_of(&mut db, account.id).await?;
    audit::insert(&mut db, &entry("account.reset-password", name)).await?;
    db.commit().await?;
    store.close().await;
    writeln!(out, "{}", password.expose())?;
    Ok(())
}

async fn create_token(
    name: &str,
    account: &str,
    role: RoleArgument,
    days: u32,
    options: StoreOptions,
    out: &mut dyn Write,
) -> Result<()> {
    let store = serve::open(&options.into()).await?;
    let mut db = store.write().await?;
    let account = accounts::by_name(&mut db, account).await?.ok_or_else(|| no_account(account))?;
    let now = Timestamp::now();
    let end = now + Duration::from_secs(u64::from(days) * 24 * 60 * 60);
    let role = Role::from(role).min(account.role);
    let (token, secret) = token::create(&mut db, account.id, name, role, Some(end), None, now).await?;
    audit::insert(&mut db, &entry("token.create", &token.name)).await?;
    db.commit().await?;
    store.close().await;
    writeln!(out, "{}", secret.expose())?;
    Ok(())
}

fn no_account(name: &str) -> Mistake {
    Mistake { message: format!("There is no account `{name}`"), hint: "the page Accounts lists them" }
}

/// Who can read the data key may do this; the audit log says that it was done here.
fn entry(action: &str, subject: &str) -> audit::Entry {
    audit::Entry {
        id: Uuid::now_v7(),
        time: Timestamp::now(),
        actor: "command line".into(),
        address: String::new(),
        action: action.into(),
        subject: subject.into(),
        detail: String::new(),
    }
}

impl From<RoleArgument> for Role {
    fn from(role: RoleArgument) -> Role {
        match role {
            RoleArgument::Viewer => Role::Viewer,
            RoleArgument::Operator => Role::Operator,
            RoleArgument::Administrator => Role::Administrator,
        }
    }
}

impl From<StoreOptions> for Config {
    fn from(options: StoreOptions) -> Config {
        Config {
            data: options.data.unwrap_or_else(default_data),
            listen: SocketAddr::from(([0, 0, 0, 0], 8443)),
            urls: Vec::new(),
            database: options.database,
            key_file: options.key_file,
            tls: None,
            unhealthy_after: Duration::from_secs(600),
            starts: Rates::default(),
            installer: None,
        }
    }
}

impl From<Serve> for Config {
    fn from(options: Serve) -> Config {
        Config {
            listen: options.listen,
            urls: options.url,
            tls: options.tls_cert.zip(options.tls_key),
            unhealthy_after: Duration::from_secs(options.unhealthy_after.into()),
            installer: options.installer,
            starts: Rates { per_address: options.starts_per_address, in_all: options.starts },
            ..options.store.into()
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as clap calls it")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text.to_owned()))
}

/// For root a system's folder; else the XDG base directory specification's.
fn default_data() -> PathBuf {
    const NAME: &str = "gatewright-console";
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/lib").join(NAME);
    }
    let absolute = |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_default()
        .join(NAME)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn help() {
        let mut text = String::new();
        for arguments in [
            &["--help"][..],
            &["serve", "--help"],
            &["reset-password", "--help"],
            &["token", "create", "--help"],
        ] {
            let program = std::iter::once(&"gatewright-console").chain(arguments);
            let error = Cli::command().term_width(100).try_get_matches_from(program).unwrap_err();
            text += &format!("$ gatewright-console {}\n{error}\n", arguments.join(" "));
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn fingerprints_are_as_browsers_show_them() {
        assert_eq!(grouped("0aff10"), "0A:FF:10");
    }

    #[test]
    fn secrets_are_not_shown() {
        let arguments = ["gatewright-console", "serve", "--database", "postgres://u:hunter2@h/d"];
        let Command::Serve(options) = Cli::try_parse_from(arguments).unwrap().command else { unreachable!() };
        let config: Config = options.into();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
