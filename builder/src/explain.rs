//! `gatewright signature`: what it is, what it is over, and what differs from another.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::SignatureArgs;
use crate::config::Config;
use crate::error::Failure;
use crate::image::Image;
use crate::lock::Lock;
use crate::locking::{self, Policy};
use crate::progress::Printer;
use crate::store::Store;
use crate::workshop::Settings;
use crate::{print, signature};

pub(crate) fn run(arguments: &SignatureArgs, as_json: bool, printer: &Printer) -> Result<ExitCode> {
    crate::signals::catch()?;
    let config = Config::read()?;
    let settings = Settings::new(&arguments.sources, &config)?;
    // Asking changes nothing: what is not locked has no signature.
    let image = Image::read(&arguments.image, &settings, Policy::Locked)?;
    let lock = locking::image(&image, Policy::Locked, &settings, printer)?.lock;
    let inputs = signature::inputs(&image, &lock)?;
    let own = signature::of(&inputs)?;
    if arguments.inputs {
        print(&serde_json::to_string_pretty(&inputs)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(against) = &arguments.explain else {
        print(&if as_json {
            json!({"image": image.definition.name, "signature": own}).to_string()
        } else {
            own
        })?;
        return Ok(ExitCode::SUCCESS);
    };
    let store = arguments.sources.store.open(&config)?.local;
    let (other, other_inputs) = other(&image, &store, against.as_deref())?;
    let changes = signature::changes(&other_inputs, &inputs);
    if as_json {
        let report = json!({
            "image": image.definition.name, "signature": own, "against": other, "changes": changes,
        });
        print(&serde_json::to_string_pretty(&report)?)?;
    } else if own == other {
        print(&format!("{own}\nThe same as the image it is compared with"))?;
    } else {
        let mut text = format!("{own}\nwas {other}");
        for change in changes.iter().filter(|change| changes.len() < 20 || change.is_for_people()) {
            text += &format!("\n  {change}");
        }
        if changes.is_empty() {
            text += "\n  the order of packs, roles or another list";
        }
        print(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Signature and inputs of what is compared with.
fn other(image: &Image, store: &Store, against: Option<&str>) -> Result<(String, Value)> {
    let of_store = |record: crate::store::Record| (record.signature, record.inputs);
    let Some(against) = against else {
        let name = &image.definition.name;
        let newest = store.list()?.into_iter().find(|record| record.name == *name);
        return newest.map(of_store).ok_or_else(|| {
            Failure::user(
                format!("The store has no image `{name}` to compare with"),
                "build one, or name a lock or an OVA after `--explain`",
            )
        });
    };
    let path = Path::new(against);
    if !path.is_file() {
        return Ok(of_store(store.find(against)?));
    }
    if path.extension().is_some_and(|ending| ending == "ova") {
        return Ok(of_store(store.find(&tag_of(path)?)?));
    }
    let lock = Lock::read_file(path)?.images.remove(&image.definition.name).ok_or_else(|| {
        Failure::user(
            format!("{} has no lock of `{}`", path.display(), image.definition.name),
            "name a lock that `gatewright lock` made for this image",
        )
    })?;
    let inputs = signature::inputs(image, &lock)?;
    Ok((signature::of(&inputs)?, inputs))
}

/// The signature that an OVA of ours carries.
fn tag_of(path: &Path) -> Result<String> {
    let summary = crate::package::inspect::inspect(path)?;
    summary.tag().map(String::from).ok_or_else(|| {
        Failure::user(
            format!("{} carries no signature of ours", path.display()),
            "`gatewright ova inspect` shows what it is",
        )
    })
}
