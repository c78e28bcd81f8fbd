//! Where images are made: the cache, which is ours alone until we are done, the sandbox, a folder for work under way.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::cli::SourceArgs;
use crate::config::Config;
use crate::error::Failure;
use crate::image::Image;
use crate::progress::{Printer, Running};
use crate::sandbox::{self, Sandbox};
use crate::sources::Sources;
use crate::steps::{Outcome, Step};

/// What is the same for all images of a user.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) cache_dir: PathBuf,
    /// mmdebstrap's MIRROR arguments; its default where empty.
    pub(crate) mirrors: Vec<String>,
    pub(crate) sources: Sources,
    /// No network: what is not in the cache is an error.
    pub(crate) offline: bool,
    /// Values of `.spectro.var.NAME`.
    pub(crate) variables: BTreeMap<String, String>,
}

impl Settings {
    pub(crate) fn new(arguments: &SourceArgs, config: &Config) -> Result<Settings> {
        let variables = arguments.variables.iter().map(|word| match word.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value.to_string())),
            _ => Err(Failure::user(format!("`{word}` sets no variable"), "write it as in `--var Region=eu`")),
        });
        Ok(Settings {
            cache_dir: std::path::absolute(arguments.store.cache_dir()?)?,
            mirrors: if arguments.mirrors.is_empty() {
                config.mirrors.clone()
            } else {
                arguments.mirrors.clone()
            },
            sources: Sources::parse(&arguments.sources)?.or(&config.sources, &config.dir),
            offline: arguments.offline,
            variables: variables.collect::<Result<_>>()?,
        })
    }

    /// With the places that an image names.
    pub(crate) fn with(&self, image: &Image) -> Settings {
        let sources = self.sources.clone().or(&image.definition.sources, &image.dir);
        Settings { sources, ..self.clone() }
    }
}

/// An open workshop.
#[derive(Debug)]
pub(crate) struct Workshop<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) printer: &'a Printer,
    pub(crate) cache: Cache,
    sandbox: Sandbox,
    /// Names the folder of logs.
    image: String,
    dir: PathBuf,
}

impl<'a> Workshop<'a> {
    /// Waits for the cache, and removes what a killed build left in it.
    pub(crate) fn open(settings: &'a Settings, printer: &'a Printer, image: &str) -> Result<Workshop<'a>> {
        let sandbox = Sandbox::detect()?;
        let cache = Cache::open(&settings.cache_dir, printer)?;
        cache.sweep(&sandbox)?;
        // One at a time has the cache: the name need not be unique.
        let dir = cache.path("tmp/build");
        fs::create_dir(&dir).with_context(|| format!("Cannot make {}", dir.display()))?;
        Ok(Workshop { settings, printer, cache, sandbox, image: image.into(), dir })
    }

    /// Something in the folder of this work, which goes with it.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// A new empty folder of this work.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let dir = self.path(name);
        fs::create_dir(&dir).with_context(|| format!("Cannot make {}", dir.display()))?;
        Ok(dir)
    }

    /// A new empty folder of this work, whose name begins with `name`.
    pub(crate) fn new_folder(&self, name: &str) -> Result<PathBuf> {
        // As any folder that is made: who may read it, the umask says.
        let mode = fs::Permissions::from_mode(0o777);
        let made =
            tempfile::Builder::new().prefix(&format!("{name}-")).permissions(mode).tempdir_in(&self.dir)?;
        Ok(made.keep())
    }

    /// Runs a step in the sandbox, with its log.
    pub(crate) fn step(&self, step: &Step, running: &Running<'_>) -> Result<Outcome> {
        let log = self.cache.log(&self.image, step.name())?;
        self.sandbox.run(step, &log, |line| running.message(line))
    }

    /// Runs `work`, then removes what it left.
    pub(crate) fn run<T>(&self, work: impl FnOnce(&Workshop<'a>) -> Result<T>) -> Result<T> {
        let result = work(self);
        // What failed tells why it failed, rather than that cleaning up did too.
        let removed = self.remove();
        let value = result?;
        removed?;
        Ok(value)
    }

    fn remove(&self) -> Result<()> {
        // Nearly always for us to remove; trees are other users'.
        if fs::read_dir(&self.dir)?.next().is_none() {
            return Ok(fs::remove_dir(&self.dir)?);
        }
        sandbox::remove(&self.sandbox, vec![self.dir.clone()], &self.cache.log("cache", "remove")?)
    }
}
