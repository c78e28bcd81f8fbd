//! `gatewright ova …`: what each command does with a package, and what it prints.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use ova::certificate::Roots;
use ova::{Content, Limits, Options, Signer};
use ovf_parser::Document;
use serde_json::json;

use super::{Package, inspect, open, verify};
use crate::build::check_interrupted;
use crate::cli::{OvaCommand, PackArgs, SignArgs, SignerArgs, UnpackArgs, VerifyArgs};
use crate::convert::new_file;
use crate::error::{Failure, exit};
use crate::print;
use crate::progress::{Printer, State};
use crate::signals;

/// 1980-01-01, the earliest time that every archive format can hold: files have no better one that is the same everywhere.
const EPOCH: u64 = 315_532_800;

pub(crate) fn run(command: OvaCommand, json: bool, quiet: bool, printer: &Printer) -> Result<ExitCode> {
    signals::catch()?;
    match command {
        OvaCommand::Pack(arguments) => pack(&arguments, json, quiet, printer),
        OvaCommand::Unpack(arguments) => unpack(&arguments, json, quiet, printer),
        OvaCommand::Inspect { ova } => {
            let summary = inspect::inspect(&ova)?;
            if json {
                print(&serde_json::to_string_pretty(&summary)?)?;
            } else {
                inspect::print(&summary, &mut anstream::stdout())?;
            }
            Ok(ExitCode::SUCCESS)
        }
        OvaCommand::Verify(arguments) => check(&arguments, json, quiet, printer),
        OvaCommand::Sign(arguments) => sign(&arguments, json, quiet, printer),
    }
}

fn check(arguments: &VerifyArgs, json: bool, quiet: bool, printer: &Printer) -> Result<ExitCode> {
    verify::refuse_unknown(&arguments.skip)?;
    let Some(path) = arguments.ova.as_ref().filter(|_| !arguments.list) else {
        if json {
            print(&serde_json::to_string_pretty(&verify::described())?)?;
        } else {
            verify::list(&mut anstream::stdout())?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let roots = match &arguments.trust {
        Some(path) => Some(
            Roots::from_pem(&read(path)?)
                .map_err(|e| Failure::user(format!("{}: {e}", path.display()), "give certificates in PEM"))?,
        ),
        None => None,
    };
    let step = printer.step("verify", "Reading");
    let package = Package::read(path, roots, &step)?;
    step.finish(State::Done, "");
    let outcomes = verify::verify(&package, &arguments.skip);
    let failed = outcomes.iter().any(|outcome| outcome.result == verify::CheckResult::Fail);
    if json {
        print(&serde_json::to_string_pretty(&json!({"ova": path, "ok": !failed, "checks": outcomes}))?)?;
    } else if !quiet {
        verify::print(&outcomes, &mut anstream::stdout())?;
    }
    Ok(if failed { exit::USER.into() } else { ExitCode::SUCCESS })
}

fn unpack(arguments: &UnpackArgs, json: bool, quiet: bool, printer: &Printer) -> Result<ExitCode> {
    let archive = open(&arguments.ova)?;
    let limits = match arguments.max_size {
        Some(size) => Limits { total: size.0, ..Limits::default() },
        None => Limits::default(),
    };
    let step = printer.step("unpack", "Unpacking");
    let files = ova::unpack(&archive, &arguments.dir, &limits).map_err(|e| {
        let why = anyhow::Error::new(e);
        Failure::user(format!("Cannot unpack {}: {why:#}", arguments.ova.display()), UNPACK_HINT)
    })?;
    step.finish(State::Done, &format!("{} files", files.len()));
    if json {
        print(&serde_json::to_string_pretty(&json!({"files": files}))?)?;
    } else if !quiet {
        for file in &files {
            print(&file.display().to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

const UNPACK_HINT: &str = "nothing was left behind; `gatewright ova verify` says what is wrong with an archive, \
                           `--max-size` allows more, `-d` names another folder";

fn pack(arguments: &PackArgs, json: bool, quiet: bool, printer: &Printer) -> Result<ExitCode> {
    let path = &arguments.descriptor;
    let xml = read(path)?;
    let document = Document::parse(&xml)
        .map_err(|e| Failure::user(format!("{}: {e}", path.display()), "it must be an OVF descriptor"))?;
    let dir = path.parent().unwrap_or(Path::new(""));
    let mut contents = Vec::new();
    for file in &document.envelope().references {
        let href = file.href.as_ref().map_or("", |href| href.text.as_str());
        let place = dir.join(href);
        // Bare names only, which also keeps a descriptor from naming what is elsewhere.
        let length =
            Path::new(href).file_name().is_some_and(|name| name == href).then(|| fs::metadata(&place).ok());
        let Some(length) = length.flatten().filter(fs::Metadata::is_file).map(|meta| meta.len()) else {
            return Err(Failure::user(
                format!("{} refers to `{href}`, which is not a file beside it", path.display()),
                "put the files of the descriptor into its folder",
            ));
        };
        if file.size.as_ref().and_then(|size| size.number()).is_some_and(|size| size != length) {
            return Err(Failure::user(
                format!("{} says that `{href}` has another size than its {length} bytes", path.display()),
                "correct `ovf:size`",
            ));
        }
        contents.push(Content::new(href, move |out| {
            let copied = File::open(&place).and_then(|mut file| io::copy(&mut file, out));
            copied.map(drop).with_context(|| format!("Cannot read {}", place.display()))
        }));
    }
    let signer = signer(&arguments.signer)?;
    let step = printer.step("pack", "Packing");
    let name = stem(path)?;
    let mtime = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text.trim().parse().map_err(|_| {
            Failure::user(
                format!("SOURCE_DATE_EPOCH is `{text}`"),
                "give the seconds since 1970, or unset it",
            )
        })?,
        Err(_) => EPOCH,
    };
    let out = arguments.out.clone().unwrap_or_else(|| path.with_extension("ova"));
    let options = Options { mtime, signer: signer.as_ref() };
    let write = Write { base: &name, contents, xml, options };
    if out == Path::new("-") {
        write.into_stream(&mut io::stdout().lock())?;
        step.finish(State::Done, "");
        return Ok(ExitCode::SUCCESS);
    }
    let size = write.into_file(&out, arguments.force)?;
    step.finish(State::Done, &format!("{:.1} MB", size as f64 / 1e6));
    report(&out, size, json, quiet)
}

fn sign(arguments: &SignArgs, json: bool, quiet: bool, printer: &Printer) -> Result<ExitCode> {
    let signer = signer(&arguments.signer)?
        .ok_or_else(|| Failure::user("No key to sign with", "give `--key` and `--cert`"))?;
    let archive = open(&arguments.ova)?;
    let descriptor =
        archive.members().iter().find(|entry| entry.name.ends_with(".ovf")).ok_or_else(|| {
            Failure::user(format!("{} has no OVF descriptor", arguments.ova.display()), "is it an OVA?")
        })?;
    let xml = archive.read(descriptor, super::MAX_TEXT)?;
    let name = stem(Path::new(&descriptor.name))?;
    let mtime = descriptor.mtime.and_then(|time| u64::try_from(time).ok()).unwrap_or(EPOCH);
    let archive = &archive;
    let contents = archive
        .members()
        .iter()
        .filter(|entry| !["ovf", "mf", "cert"].iter().any(|end| entry.name.ends_with(&format!(".{end}"))))
        .map(|entry| {
            Content::new(&entry.name, move |out| Ok(io::copy(&mut archive.reader(entry), out).map(drop)?))
        })
        .collect();
    let step = printer.step("sign", "Signing");
    let out = arguments.out.as_ref().unwrap_or(&arguments.ova);
    let options = Options { mtime, signer: Some(&signer) };
    let write = Write { base: &name, contents, xml, options };
    let size = write.into_file(out, arguments.out.is_none())?;
    step.finish(State::Done, &format!("{:.1} MB", size as f64 / 1e6));
    report(out, size, json, quiet)
}

/// An archive to be written, of files and a descriptor that are there.
struct Write<'a> {
    base: &'a str,
    contents: Vec<Content<'a, anyhow::Error>>,
    xml: Vec<u8>,
    options: Options<'a>,
}

impl Write<'_> {
    /// Writes a file, which appears when it is whole. Answers with its size.
    fn into_file(self, path: &Path, force: bool) -> Result<u64> {
        let mut file = new_file(path, force)?;
        let reserve = self.xml.len();
        let written = ova::write_seekable(
            file.as_file_mut(),
            self.base,
            self.contents,
            |_| Ok(self.xml),
            reserve,
            &self.options,
        )?;
        file.as_file().sync_all()?;
        check_interrupted()?;
        file.persist(path).with_context(|| format!("Cannot write {}", path.display()))?;
        Ok(written.size)
    }

    fn into_stream(self, out: &mut dyn io::Write) -> Result<()> {
        let spool = std::env::temp_dir();
        ova::write_stream(out, self.base, self.contents, |_| Ok(self.xml), &spool, &self.options)?;
        Ok(())
    }
}

fn report(path: &Path, size: u64, json: bool, quiet: bool) -> Result<ExitCode> {
    if json {
        print(&serde_json::to_string_pretty(&json!({"path": path, "size": size}))?)?;
    } else if !quiet {
        print(&path.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The signer that the command line asks for.
pub(crate) fn signer(arguments: &SignerArgs) -> Result<Option<Signer>> {
    let (Some(key), Some(chain)) = (&arguments.key, &arguments.certificate) else { return Ok(None) };
    let signer = Signer::from_pem(&read(key)?, &read(chain)?).map_err(|e| {
        Failure::user(
            format!("Cannot sign with {} and {}: {e}", key.display(), chain.display()),
            "give an RSA key of at least 2048 bits and its certificate, both in PEM",
        )
    })?;
    Ok(Some(signer))
}

fn stem(path: &Path) -> Result<String> {
    match (path.file_stem().and_then(|stem| stem.to_str()), path.extension()) {
        (Some(stem), Some(extension)) if extension == "ovf" => Ok(stem.into()),
        _ => Err(Failure::user(
            format!("{} is not called `NAME.ovf`", path.display()),
            "name an OVF descriptor",
        )),
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>> {
    fs::read(path)
        .map_err(|e| Failure::user(format!("Cannot read {}: {e}", path.display()), "does it exist?"))
}
