//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use crate::convert::Format;
use crate::image::Size;
use crate::packs::PackCommand;
use crate::progress::Mode;
use crate::store::commands::{ImageCommand, StoreArgs};

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
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        env = "GATEWRIGHT_PROGRESS",
        hide_env_values = true
    )]
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
    /// Build an image: packs and lock to tree, disk and outputs
    Build(BuildArgs),
    /// Resolve what images are made of into `gatewright.lock`
    Lock(LockArgs),
    /// Print the signature of an image: the digest of everything that decides its content
    Signature(SignatureArgs),
    /// Check, show, make and exchange packs
    #[command(subcommand)]
    Pack(PackCommand),
    /// List, show, remove and exchange finished images
    #[command(subcommand)]
    Image(ImageCommand),
    /// Make, take apart, look into, check and sign OVAs
    #[command(subcommand)]
    Ova(OvaCommand),
    /// Convert disks
    #[command(subcommand)]
    Disk(DiskCommand),
    /// Look at what building needs of this host
    Doctor,
    /// Print the shell's completion script
    ///
    /// For bash: gatewright completion bash > ~/.local/share/bash-completion/completions/gatewright
    Completion { shell: Shell },
}

#[derive(Debug, Subcommand)]
pub(crate) enum OvaCommand {
    /// Pack an OVF descriptor and the files it refers to into an OVA
    Pack(PackArgs),
    /// Unpack an OVA into a folder
    Unpack(UnpackArgs),
    /// Show what one wants to know before deploying
    Inspect {
        /// OVA to look into
        #[arg(value_hint = ValueHint::FilePath)]
        ova: PathBuf,
    },
    /// Check for all that is known to make imports fail
    Verify(VerifyArgs),
    /// Sign an OVA
    Sign(SignArgs),
}

#[derive(Args, Debug)]
pub(crate) struct PackArgs {
    /// OVF descriptor; the files it refers to are beside it
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) descriptor: PathBuf,
    /// The OVA to write [default: NAME.ova beside NAME.ovf]; `-` is stdout
    #[arg(short, long, value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
    /// Write over a file that is there
    #[arg(short, long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) signer: SignerArgs,
}

#[derive(Args, Debug)]
pub(crate) struct UnpackArgs {
    /// OVA to unpack
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) ova: PathBuf,
    /// Folder to unpack into; made if it is not there
    #[arg(short = 'd', long, default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    /// Unpack at most this much, as in `40 GiB` [default: what the file system has room for, less 256 MiB]
    #[arg(long)]
    pub(crate) max_size: Option<Size>,
}

#[derive(Args, Debug)]
#[command(after_help = VERIFY_HELP)]
pub(crate) struct VerifyArgs {
    /// OVA to check
    #[arg(required_unless_present = "list", value_hint = ValueHint::FilePath)]
    pub(crate) ova: Option<PathBuf>,
    /// List the checks
    #[arg(long)]
    pub(crate) list: bool,
    /// Leave checks out, by name
    #[arg(long, value_delimiter = ',', value_name = "CHECK")]
    pub(crate) skip: Vec<String>,
    /// Certificates (PEM) that a signature must lead to
    #[arg(long, value_name = "PEM", value_hint = ValueHint::FilePath)]
    pub(crate) trust: Option<PathBuf>,
}

const VERIFY_HELP: &str = "\
Exit codes: 0 when every check passes, 1 when one fails or the file cannot be read.";

#[derive(Args, Debug)]
pub(crate) struct SignArgs {
    /// OVA to sign
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) ova: PathBuf,
    /// The signed OVA [default: the OVA itself, replaced when it is whole]
    #[arg(short, long, value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) signer: SignerArgs,
}

/// With what an OVA is signed.
#[derive(Args, Debug)]
pub(crate) struct SignerArgs {
    /// RSA private key (PEM) to sign with
    #[arg(long = "key", requires = "certificate", env = "GATEWRIGHT_SIGN_KEY", hide_env_values = true, value_name = "PEM", value_hint = ValueHint::FilePath)]
    pub(crate) key: Option<PathBuf>,
    /// Certificate (PEM) of the key, followed by those that lead to its root
    #[arg(long = "cert", id = "certificate", requires = "key", env = "GATEWRIGHT_SIGN_CERT", hide_env_values = true, value_name = "PEM", value_hint = ValueHint::FilePath)]
    pub(crate) certificate: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DiskCommand {
    /// Convert a raw disk or a VMDK
    Convert(ConvertArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ConvertArgs {
    /// Raw disk, or VMDK of any kind
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) input: PathBuf,
    /// The disk to write
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
    /// Format to write [default: by the output's name]
    #[arg(long, value_enum)]
    pub(crate) to: Option<Format>,
    /// Write over a file that is there
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// What packages, artifacts and packs come from.
#[derive(Args, Debug)]
pub(crate) struct SourceArgs {
    /// Package archive in place of mmdebstrap's default: its URL, or a one-line apt source (`deb URL SUITE COMPONENT`);
    /// may be given several times
    #[arg(long = "mirror", env = "GATEWRIGHT_MIRROR", hide_env_values = true, value_delimiter = ',')]
    pub(crate) mirrors: Vec<String>,
    /// Where a source of packs is, as in `kubernetes=https://mirror.example.com/kubernetes` or `kubernetes=FOLDER`; for
    /// a registry's host another one; may be given several times
    #[arg(
        long = "source",
        env = "GATEWRIGHT_SOURCE",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "NAME=PLACE"
    )]
    pub(crate) sources: Vec<String>,
    /// Use no network: what is not in the cache is an error
    #[arg(long, env = "GATEWRIGHT_OFFLINE", hide_env_values = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) offline: bool,
    /// Value of a macro `.spectro.var.NAME`; may be given several times
    #[arg(long = "var", value_name = "NAME=VALUE")]
    pub(crate) variables: Vec<String>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Args, Debug)]
#[command(after_help = BUILD_HELP)]
pub(crate) struct BuildArgs {
    /// Image definition
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) image: PathBuf,
    /// Folder for what is built
    #[arg(short, long, default_value = "dist", env = "GATEWRIGHT_OUT_DIR", hide_env_values = true, value_hint = ValueHint::DirPath)]
    pub(crate) out_dir: PathBuf,
    /// Refuse a lock that is missing or stale, in place of bringing it up to date [default: true where `CI` is set]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub(crate) locked: Option<bool>,
    /// Give the image to the registry that `--store` names, too
    #[arg(long, conflicts_with = "offline")]
    pub(crate) push: bool,
    #[command(flatten)]
    pub(crate) sources: SourceArgs,
    #[command(flatten)]
    pub(crate) signer: SignerArgs,
}

const BUILD_HELP: &str = "\
Builds run in namespaces, without root, without a hypervisor. They are made of exactly what `gatewright.lock` beside \
the image definition names, and the same lock gives the same bytes. An image that the store has is not built again; \
of others, what has not changed is taken from the cache.

Mirrors, sources and the store can be kept in ~/.config/gatewright/config.yaml:

    mirrors: [https://mirror.example.com/debian]
    sources: {kubernetes: https://mirror.example.com/kubernetes}
    store: oci://registry.example.com/images

Environment:
  http_proxy, https_proxy  proxy for what is fetched

Example:
  gatewright build images/installer.yaml --json | jq -r .outputs[0].path";

#[derive(Args, Debug)]
#[command(after_help = LOCK_HELP)]
pub(crate) struct LockArgs {
    /// Image definitions
    #[arg(required = true, value_hint = ValueHint::FilePath)]
    pub(crate) images: Vec<PathBuf>,
    /// Take the newest of everything
    #[arg(long)]
    pub(crate) upgrade: bool,
    /// Only tell whether the lock is up to date
    #[arg(long, conflicts_with = "upgrade")]
    pub(crate) check: bool,
    #[command(flatten)]
    pub(crate) sources: SourceArgs,
}

const LOCK_HELP: &str = "\
What an image asks for as before keeps its versions; --upgrade fetches the package index and takes what is newest. \
The lock names packages by suite, pool path and SHA-256, never a mirror.

Environment:
  SOURCE_DATE_EPOCH        time of everything in the image [default: the package index's date]";

#[derive(Args, Debug)]
pub(crate) struct SignatureArgs {
    /// Image definition
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) image: PathBuf,
    /// Tell what differs from another image or lock: the beginning of a signature that is in the store, an OVA, or a
    /// lock file [default: the newest image of the same name]
    #[arg(long, num_args = 0..=1, value_name = "IMAGE-OR-LOCK")]
    pub(crate) explain: Option<Option<String>>,
    /// Print everything that the signature is over, as JSON
    #[arg(long, conflicts_with = "explain")]
    pub(crate) inputs: bool,
    #[command(flatten)]
    pub(crate) sources: SourceArgs,
}
