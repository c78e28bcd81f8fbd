//! `gatewright` turns packs into images. See docs/building.md for users, [`build`] for how.

mod build;
mod cache;
mod cli;
mod config;
mod convert;
mod digest;
mod disk;
mod doctor;
mod error;
mod image;
mod output;
mod pack;
mod package;
mod progress;
mod sandbox;
mod seal;
mod signals;
mod steps;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser as _};

use crate::build::Options;
use crate::cache::Cache;
use crate::cli::{BuildArgs, Cli, Command, ConvertArgs, DiskCommand};
use crate::config::Config;
use crate::error::{Failure, exit, hint_from_log};
use crate::progress::Printer;

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
    let mirrors = if arguments.mirrors.is_empty() { Config::read()?.mirrors } else { arguments.mirrors };
    let options = Options {
        image: arguments.image,
        cache_dir: arguments.cache_dir.map_or_else(Cache::default_dir, Ok)?,
        out_dir: arguments.out_dir,
        mirrors,
        refresh: arguments.refresh,
        signer: package::commands::signer(&arguments.signer)?,
    };
    let report = build::build(&options, printer)?;
    if json {
        print(&serde_json::to_string_pretty(&report)?)?;
    } else if !quiet {
        let verb = if report.unchanged { "Unchanged" } else { "Built" };
        print(&format!(
            "{verb} {} in {:.1}s, signature {}",
            report.image,
            report.seconds,
            &report.signature[..12]
        ))?;
        for output in &report.outputs {
            print(&format!("  {}  {}", output.summary(), output.path().display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The one place that writes results.
fn print(text: &str) -> Result<()> {
    Ok(writeln!(anstream::stdout(), "{text}")?)
}
