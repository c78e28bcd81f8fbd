//! `gatewright` turns packs into images. See docs/building.md for users, [`build`] for how.

mod build;
mod cache;
mod cli;
mod config;
mod containers;
mod convert;
mod digest;
mod disk;
mod doctor;
mod error;
mod explain;
mod fetch;
mod image;
mod index;
mod lock;
mod locking;
mod output;
mod pack;
mod package;
mod packs;
mod progress;
mod resolve;
mod sandbox;
mod seal;
mod signals;
mod signature;
mod sources;
mod steps;
mod store;
mod workshop;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser as _};

use crate::build::Options;
use crate::cli::{BuildArgs, Cli, Command, ConvertArgs, DiskCommand, LockArgs};
use crate::config::Config;
use crate::error::{Failure, exit, hint_from_log};
use crate::image::Image;
use crate::locking::Policy;
use crate::progress::Printer;
use crate::workshop::Settings;

fn main() -> ExitCode {
    // Before anything that could start a thread: see `sandbox`.
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    match arguments.first().map(String::as_str) {
        Some(sandbox::MONITOR) => return sandbox::monitor(&arguments[1..]),
        Some(sandbox::INIT) => return sandbox::init(),
        _ => {}
    }

    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be said where stderr or stdout is gone.
            let _ = error.print();
            return if error.use_stderr() { exit::USER.into() } else { ExitCode::SUCCESS };
        }
    };
    let printer = Printer::new(cli.output.progress, cli.output.quiet, cli.output.verbose);
    match run(cli, &printer) {
        Ok(code) => code,
        Err(error) => {
            let failure = error.downcast_ref::<Failure>();
            let message = format!("{error:#}");
            let hint = match failure {
                Some(failure) => failure.hint().map(String::from),
                None => hint_from_log(&message),
            };
            printer.error(&message, hint.as_deref());
            failure.map_or(exit::FAILURE, Failure::exit_code).into()
        }
    }
}

fn run(cli: Cli, printer: &Printer) -> Result<ExitCode> {
    match cli.command {
        Command::Build(arguments) => build(arguments, cli.output.json, cli.output.quiet, printer),
        Command::Lock(arguments) => lock(&arguments, cli.output.json, cli.output.quiet, printer),
        Command::Signature(arguments) => explain::run(&arguments, cli.output.json, printer),
        Command::Pack(command) => packs::run(command, cli.output.json, cli.output.quiet, printer),
        Command::Image(command) => store::commands::run(command, cli.output.json, cli.output.quiet, printer),
        Command::Ova(command) => package::commands::run(command, cli.output.json, cli.output.quiet, printer),
        Command::Disk(DiskCommand::Convert(arguments)) => {
            signals::catch()?;
            let ConvertArgs { input, output, to, force } = &arguments;
            let converted = convert::convert(input, output, *to, *force, printer)?;
            if cli.output.json {
                print(&serde_json::to_string_pretty(&converted)?)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Doctor => {
            let findings = doctor::examine();
            if cli.output.json {
                print(&serde_json::to_string_pretty(&findings)?)?;
            } else {
                doctor::print(&findings, &mut anstream::stdout())?;
            }
            Ok(if findings.iter().all(|finding| finding.ok) { ExitCode::SUCCESS } else { exit::USER.into() })
        }
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "gatewright", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn build(arguments: BuildArgs, json: bool, quiet: bool, printer: &Printer) -> Result<ExitCode> {
    signals::catch()?;
    let config = Config::read()?;
    let is_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
    let options = Options {
        settings: Settings::new(&arguments.sources, &config)?,
        stores: arguments.sources.store.open(&config)?,
        image: arguments.image,
        out_dir: arguments.out_dir,
        policy: if arguments.locked.unwrap_or(is_ci) { Policy::Locked } else { Policy::Update },
        signer: package::commands::signer(&arguments.signer)?,
        push: arguments.push,
    };
    let report = build::build(&options, printer)?;
    if json {
        print(&serde_json::to_string_pretty(&report)?)?;
    } else if !quiet {
        let verb = match (report.unchanged, report.stored) {
            (true, _) => "Unchanged",
            (false, true) => "Fetched",
            (false, false) => "Built",
        };
        print(&format!(
            "{verb} {} in {:.1}s, signature {}",
            report.image,
            report.seconds,
            &report.signature[..12]
        ))?;
        for output in &report.outputs {
            print(&format!("  {}  {}", output.summary(), output.path.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn lock(arguments: &LockArgs, json: bool, quiet: bool, printer: &Printer) -> Result<ExitCode> {
    signals::catch()?;
    let config = Config::read()?;
    let policy = match (arguments.check, arguments.upgrade) {
        (true, _) => Policy::Locked,
        (false, true) => Policy::Upgrade,
        (false, false) => Policy::Update,
    };
    let mut results = Vec::new();
    for path in &arguments.images {
        let settings = Settings::new(&arguments.sources, &config)?;
        let image = Image::read(path, &settings, policy)?;
        let locked = locking::image(&image, policy, &settings.with(&image), printer)?;
        let (name, lock) = (&image.definition.name, &locked.lock);
        results.push(serde_json::json!({
            "image": name,
            "lock": lock::Lock::path(&image.dir),
            "packages": lock.packages.len(),
            "tools": lock.tools.len(),
            "changes": locked.changes,
            "isNew": locked.is_new,
        }));
        if json || quiet {
            continue;
        }
        let verb = match (locked.is_new, locked.changes.is_empty()) {
            (true, _) => "Locked",
            (false, true) => "Up to date:",
            (false, false) => "Updated",
        };
        let (packages, tools) = (lock.packages.len(), lock.tools.len());
        print(&format!("{verb} {name}, {packages} packages, {tools} of tools"))?;
        for change in locked.changes.iter().filter(|change| change.is_for_people()) {
            print(&format!("  {change}"))?;
        }
    }
    if json {
        print(&serde_json::to_string_pretty(&results)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The one place that writes results.
fn print(text: &str) -> Result<()> {
    Ok(writeln!(anstream::stdout(), "{text}")?)
}
