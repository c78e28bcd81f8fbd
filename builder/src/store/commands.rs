//! `gatewright image`: what the store has.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Record, Store, gc, remote};
use crate::cache::Cache;
use crate::config::Config;
use crate::progress::Printer;
use crate::sources::Sources;
use crate::{print, signals};

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List images, the newest first
    List {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Show what an image is and what it was made of
    Show {
        /// Signature of the image, or its beginning
        signature: String,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Remove old images, and what of the cache no other image needs
    Gc {
        /// How many images of each name to keep
        #[arg(long, default_value = "2")]
        keep: usize,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Fetch an image from the registry
    Pull {
        /// Signature of the image
        signature: String,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Give an image to the registry
    Push {
        /// Signature of the image, or its beginning
        signature: String,
        #[command(flatten)]
        store: StoreArgs,
    },
}

/// Where finished images are.
#[derive(Args, Clone, Debug)]
pub(crate) struct StoreArgs {
    /// Folder for finished images, or a registry to ask for those that the cache's own folder lacks, as in
    /// `oci://registry.example.com/images` [default: a folder of the cache]
    #[arg(long, env = "GATEWRIGHT_STORE", hide_env_values = true)]
    pub(crate) store: Option<String>,
    /// Folder for layers, packages and logs [default: $XDG_CACHE_HOME/gatewright]
    #[arg(long, env = "GATEWRIGHT_CACHE_DIR", hide_env_values = true, value_hint = clap::ValueHint::DirPath)]
    pub(crate) cache_dir: Option<PathBuf>,
}

/// The folder, and the registry behind it if there is one.
#[derive(Debug)]
pub(crate) struct Stores {
    pub(crate) local: Store,
    pub(crate) remote: Option<remote::Remote>,
}

impl StoreArgs {
    pub(crate) fn cache_dir(&self) -> Result<PathBuf> {
        self.cache_dir.clone().map_or_else(Cache::default_dir, Ok)
    }

    pub(crate) fn open(&self, config: &Config) -> Result<Stores> {
        let place = self.store.as_ref().or(config.store.as_ref());
        let own = self.cache_dir()?.join("images-v1");
        Ok(match place {
            Some(place) if place.starts_with("oci://") => Stores {
                local: Store::new(own),
                remote: Some(remote::Remote::new(
                    place,
                    &Sources::default().or(&config.sources, &config.dir),
                )?),
            },
            Some(folder) => Stores { local: Store::new(folder.into()), remote: None },
            None => Stores { local: Store::new(own), remote: None },
        })
    }
}

pub(crate) fn run(command: ImageCommand, json: bool, quiet: bool, printer: &Printer) -> Result<ExitCode> {
    signals::catch()?;
    let config = Config::read()?;
    match command {
        ImageCommand::List { store } => {
            let records = store.open(&config)?.local.list()?;
            if json {
                print(&serde_json::to_string_pretty(&records.iter().map(summary).collect::<Vec<_>>())?)?;
            } else if records.is_empty() {
                printer.note("The store is empty; `gatewright build` fills it");
            } else {
                print(&table(&records))?;
            }
        }
        ImageCommand::Show { signature, store } => {
            let stores = store.open(&config)?;
            let record = stores.local.find(&signature)?;
            print(&if json {
                serde_json::to_string_pretty(&record)?
            } else {
                shown(&record, &stores.local)
            })?;
        }
        ImageCommand::Gc { keep, dry_run, store } => {
            let cache = Cache::open(&store.cache_dir()?, printer)?;
            let removed = gc::collect(&store.open(&config)?.local, &cache, keep, dry_run)?;
            if json {
                print(&serde_json::to_string_pretty(&removed)?)?;
            } else if !quiet {
                let verb = if dry_run { "Would remove" } else { "Removed" };
                let (images, files) = (removed.images.len(), removed.files);
                print(&format!(
                    "{verb} {images} images and {files} files of the cache, {:.1} MB",
                    removed.bytes as f64 / 1e6
                ))?;
            }
        }
        ImageCommand::Pull { signature, store } => {
            let stores = store.open(&config)?;
            let remote = remote::required(stores.remote.as_ref())?;
            let _hold = stores.local.hold(&signature, printer)?;
            let record = remote.pull(&stores.local, &signature, printer)?;
            tell(&record, "Pulled", json, quiet)?;
        }
        ImageCommand::Push { signature, store } => {
            let stores = store.open(&config)?;
            let remote = remote::required(stores.remote.as_ref())?;
            let record = stores.local.find(&signature)?;
            remote.push(&stores.local, &record, printer)?;
            tell(&record, "Pushed", json, quiet)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(record: &Record, verb: &str, json: bool, quiet: bool) -> Result<()> {
    if json {
        print(&serde_json::to_string_pretty(&summary(record))?)
    } else if quiet {
        Ok(())
    } else {
        print(&format!(
            "{verb} {} {}, {:.1} MB",
            record.name,
            &record.signature[..12],
            record.size() as f64 / 1e6
        ))
    }
}

fn summary(record: &Record) -> Value {
    json!({
        "name": record.name,
        "signature": record.signature,
        "built": record.built,
        "size": record.size(),
        "outputs": record.outputs,
    })
}

fn kinds(record: &Record) -> String {
    record.outputs.iter().map(|output| output.kind.name()).collect::<Vec<_>>().join(", ")
}

fn table(records: &[Record]) -> String {
    let width = records.iter().map(|record| record.name.len()).max().unwrap_or(0).max(4);
    let mut text = format!("{:width$}  {:12}  {:20}  {:>9}  OUTPUTS", "NAME", "SIGNATURE", "BUILT", "SIZE");
    for record in records {
        text += &format!(
            "\n{:width$}  {}  {:20}  {:>6.1} MB  {}",
            record.name,
            &record.signature[..12],
            record.built.strftime("%Y-%m-%dT%H:%M:%SZ"),
            record.size() as f64 / 1e6,
            kinds(record),
        );
    }
    text
}

fn shown(record: &Record, store: &Store) -> String {
    let inputs = &record.inputs;
    let count = |list: &str| inputs[list].as_array().map_or(0, Vec::len);
    let names = |list: &str| {
        let names = inputs[list].as_array().into_iter().flatten().filter_map(|item| item["name"].as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let mut text = format!(
        "{} {}\n  built      {}\n  builder    {}\n  packs      {}\n  packages   {}, and {} of tools\n  artifacts  {}\n  folder     {}",
        record.name,
        record.signature,
        record.built.strftime("%Y-%m-%dT%H:%M:%SZ"),
        inputs["builder"]["version"].as_str().unwrap_or_default(),
        names("packs"),
        count("packages"),
        count("tools"),
        inputs["artifacts"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
            .join(", "),
        store.dir(&record.signature).display(),
    );
    for output in &record.outputs {
        let signed = if output.signed_by.is_some() { ", signed" } else { "" };
        text += &format!(
            "\n  {:9}  {}, {:.1} MB{signed}\n             SHA-256 {}",
            output.kind.name(),
            output.file,
            output.size as f64 / 1e6,
            output.sha256
        );
    }
    text
}
