//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use crate::progress::Mode;

/// Builds private cloud gateways: OS and Kubernetes packs to hardened images and installer OVAs
#[derive(Debug, Parser)]
#[command(name = "gatewright", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

const AFTER_HELP: &str = "\
Exit codes:
  0    done
  1    the input is wrong, or the host lacks something: the message says what and how to mend it
  2    a step failed: its log is named
  130  interrupted by Ctrl-C (143: by `kill`); nothing is left behind";

/// What is said while working, and how. All of it goes to stderr.
#[derive(Args, Debug)]
pub(crate) struct OutputArgs {
    /// Form of progress
    #[arg(long, global = true, value_enum, default_value = "auto", env = "GATEWRIGHT_PROGRESS")]
    pub(crate) progress: Mode,
    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Show what each step's programs print
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Print the result as JSON on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image: packs to tree, disk and outputs
    Build(BuildArgs),
    /// Look at what building needs of this host
    Doctor,
    /// Print the shell's completion script
    ///
    /// For bash: gatewright completion bash > ~/.local/share/bash-completion/completions/gatewright
    Completion { shell: Shell },
}

#[derive(Args, Debug)]
#[command(after_help = BUILD_HELP)]
pub(crate) struct BuildArgs {
    /// Image definition
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) image: PathBuf,
    /// Folder for what is built
    #[arg(short, long, default_value = "dist", env = "GATEWRIGHT_OUT_DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out_dir: PathBuf,
    /// Folder for layers, packages and logs [default: $XDG_CACHE_HOME/gatewright]
    #[arg(long, env = "GATEWRIGHT_CACHE_DIR", value_hint = ValueHint::DirPath)]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Package archive in place of mmdebstrap's default: its URL, or a one-line apt source (`deb URL SUITE COMPONENT`);
    /// may be given several times
    #[arg(long = "mirror", env = "GATEWRIGHT_MIRROR", value_delimiter = ',')]
    pub(crate) mirrors: Vec<String>,
    /// Fetch the package index again, and with it newer packages
    #[arg(long)]
    pub(crate) refresh: bool,
}

const BUILD_HELP: &str = "\
Builds run in namespaces, without root, without a hypervisor. What has not changed is taken from the cache; \
the same input gives the same bytes. Packages are those of the index in the cache, which is fetched by the first \
build and again by --refresh.

Mirrors can be kept in ~/.config/gatewright/config.yaml:

    mirrors: [https://mirror.example.com/debian]

Environment:
  SOURCE_DATE_EPOCH        time of everything in the image [default: the package index's date]
  http_proxy, https_proxy  proxy for fetching packages

Example:
  gatewright build images/installer.yaml --json | jq -r .outputs[0].path";
