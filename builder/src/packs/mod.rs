//! `gatewright pack …`: what people do with packs before an image is built of them.

pub(crate) mod find;
mod lint;
mod new;
mod remote;
mod show;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::progress::Printer;

#[derive(Debug, Subcommand)]
pub(crate) enum PackCommand {
    /// Check packs for all that is known to be wrong with them
    Lint(lint::LintArgs),
    /// Show the merged values of packs or of an image, and where each came from
    Show(show::ShowArgs),
    /// Make a pack to begin with
    New(new::NewArgs),
    /// Publish a pack in a registry
    Push(remote::PushArgs),
    /// Fetch a pack from a registry
    Pull(remote::PullArgs),
    /// List the versions of a pack in a registry, or the packs of a folder
    List(remote::ListArgs),
}

pub(crate) fn run(command: PackCommand, json: bool, quiet: bool, printer: &Printer) -> Result<ExitCode> {
    crate::signals::catch()?;
    match command {
        PackCommand::Lint(arguments) => return lint::run(&arguments, json, quiet),
        PackCommand::Show(arguments) => show::run(&arguments, json)?,
        PackCommand::New(arguments) => return new::run(&arguments, json, quiet),
        PackCommand::Push(arguments) => remote::push(&arguments, json, quiet, printer)?,
        PackCommand::Pull(arguments) => remote::pull(&arguments, json, quiet, printer)?,
        PackCommand::List(arguments) => remote::list(&arguments, json, printer)?,
    }
    Ok(ExitCode::SUCCESS)
}
