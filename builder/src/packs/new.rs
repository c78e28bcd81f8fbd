//! `gatewright pack new`: a pack to begin with.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueHint};
use pack::definition::Layer;
use serde_json::json;

use crate::error::Failure;
use crate::print;

#[derive(Args, Debug)]
pub(crate) struct NewArgs {
    /// Small letters, digits and `-`
    name: String,
    /// What the pack adds to: kernel, os, k8s, cni, csi or addon
    #[arg(long, default_value = "addon", value_parser = layer)]
    layer: Layer,
    /// The version of what it adds
    #[arg(long, default_value = "0.1.0")]
    version: String,
    /// The folder that NAME-VERSION is made in
    #[arg(short = 'd', long, default_value = "packs", value_hint = ValueHint::DirPath)]
    dir: PathBuf,
}

fn layer(text: &str) -> Result<Layer, String> {
    let all = [Layer::Kernel, Layer::Os, Layer::K8s, Layer::Cni, Layer::Csi, Layer::Addon];
    let found = all.into_iter().find(|layer| layer.to_string() == text);
    found.ok_or_else(|| format!("layers are {}", all.map(|layer| layer.to_string()).join(", ")))
}

pub(crate) fn run(arguments: &NewArgs, json: bool, quiet: bool) -> Result<ExitCode> {
    let dir = pack::new(&arguments.dir, &arguments.name, &arguments.version, arguments.layer)
        .map_err(|e| Failure::User { message: e.to_string(), hint: e.hint })?;
    if json {
        print(&serde_json::to_string_pretty(&json!({"path": dir}))?)?;
    } else if !quiet {
        print(&dir.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
