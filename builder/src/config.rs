//! The user's configuration: `$XDG_CONFIG_HOME/gatewright/config.yaml`, which need not be there.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::Result;
use serde::Deserialize;

use crate::error::Failure;

/// What can be set once for all builds.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// As `--mirror`.
    #[serde(default)]
    pub(crate) mirrors: Vec<String>,
    /// As `--source`: places of sources by name; folders relative to the configuration file.
    #[serde(default)]
    pub(crate) sources: BTreeMap<String, String>,
    /// As `--store`.
    pub(crate) store: Option<String>,
    /// Where the file is.
    #[serde(skip)]
    pub(crate) dir: PathBuf,
}

impl Config {
    pub(crate) fn read() -> Result<Config> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let Some(dir) =
            absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))
        else {
            return Ok(Config::default());
        };
        let path = dir.join("gatewright/config.yaml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Config::default()),
            Err(e) => {
                return Err(Failure::user(
                    format!("Cannot read {}: {e}", path.display()),
                    "make it readable, or remove it",
                ));
            }
        };
        if text.trim().is_empty() {
            return Ok(Config::default());
        }
        let config: Config = serde_norway::from_str(&text).map_err(|e| {
            Failure::user(
                format!("{}: {e}", path.display()),
                "it may hold `mirrors: [URL]`, `sources: {NAME: URL-OR-FOLDER}` and `store: FOLDER-OR-REGISTRY`",
            )
        })?;
        Ok(Config { dir: dir.join("gatewright"), ..config })
    }
}
