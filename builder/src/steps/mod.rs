//! The steps of a build, as they run inside the [sandbox](crate::sandbox): as root, PID 1, the whole host visible,
//! every mount private. What they run prints to stderr, which is the step's log.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use serde::{Deserialize, Serialize};

use crate::disk;
use crate::lock::Package;
use crate::pack::Archive;
use crate::seal;

mod apt;

pub(crate) use apt::{Download, escape, source_lines, versions};

/// One piece of work for the sandbox. All paths are absolute, on the host.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Step {
    /// Fetches the package indexes of an archive into `out`: `lists/` and `sources.list`; without `fetch` only the latter,
    /// which needs no network.
    Index { archive: Archive, keyring: PathBuf, mirrors: Vec<String>, fetch: bool, out: PathBuf },
    /// Finds what each of `wanted` comes to, with all that it depends on; prefers the versions of `pins`.
    Resolve { archive: Archive, index: PathBuf, wanted: Vec<Vec<String>>, pins: Vec<Package>, work: PathBuf },
    /// Fetches files. One that does not come is no error, but in the outcome.
    Fetch { files: Vec<Download>, work: PathBuf },
    /// Makes the tree of tools with the host's mmdebstrap, and the archive `out` of it.
    Tools { spec: Box<TreeSpec>, place: PathBuf, out: PathBuf },
    /// Makes the tree of packages in the folder `tree`, and the archive `out` of it.
    Packages { spec: Box<TreeSpec>, tools: Tools, tree: PathBuf, out: PathBuf },
    /// Runs roles in the folder `tree`, unpacked before from `packages` if that is given, seals it, and makes the archive
    /// `out` of it.
    Roles { spec: Box<RolesSpec>, tools: Tools, packages: Option<PathBuf>, tree: PathBuf, out: PathBuf },
    /// Makes a disk of the archive of a tree.
    Disk { spec: Box<disk::Spec>, tools: Tools },
    /// Removes folders and files.
    Remove { paths: Vec<PathBuf> },
}

/// The tree of tools for a step. It lives in the sandbox's memory (a quarter of a GiB): that is quicker by far than
/// thousands of files on a disk, and gone with the step.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Tools {
    pub(crate) archive: PathBuf,
    /// An empty folder, where the step mounts it.
    pub(crate) place: PathBuf,
}

impl Tools {
    /// Unpacks them, ready for programs to run in. Returns where.
    pub(crate) fn mount(&self) -> Result<&Path> {
        mount_memory(&self.place)?;
        unpack(&self.archive, &self.place)?;
        prepare(&self.place)?;
        Ok(&self.place)
    }
}

fn mount_memory(place: &Path) -> Result<()> {
    mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .with_context(|| format!("Cannot mount memory at {}", place.display()))
}

/// What a package tree is made of.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct TreeSpec {
    /// Debian's name of it, as in `amd64`.
    pub(crate) architecture: String,
    pub(crate) suite: String,
    /// A folder with nothing but the packages, under apt's names for them.
    pub(crate) packages_dir: PathBuf,
    /// All of them by name; the tree has these and no others.
    pub(crate) packages: Vec<String>,
    /// Those that are there only because others need them; apt may remove them when those are gone.
    pub(crate) automatic: Vec<String>,
    pub(crate) exclude: Vec<String>,
    pub(crate) include: Vec<String>,
    /// Folders to lay over the tree before packages are configured.
    pub(crate) base_files: Vec<PathBuf>,
    pub(crate) epoch: u64,
}

/// What roles are run with.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct RolesSpec {
    pub(crate) plays: Vec<Play>,
    /// The merged values of all packs; a JSON object.
    pub(crate) values: serde_json::Value,
    /// Host files that roles find below `{{ artifacts }}`, by name.
    pub(crate) artifacts: BTreeMap<String, PathBuf>,
    /// The content of `/etc/gatewright-release`.
    pub(crate) release: String,
    pub(crate) epoch: u64,
}

/// One role of one pack.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Play {
    /// The pack's folder.
    pub(crate) pack: PathBuf,
    pub(crate) role: String,
    /// The role's variables: a JSON object or null.
    pub(crate) vars: serde_json::Value,
}

/// What a step tells the builder.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Outcome {
    /// Packages that [`Step::Tools`] or [`Step::Packages`] installed.
    pub(crate) packages: usize,
    /// What [`Step::Resolve`] found for each of its `wanted`.
    pub(crate) resolved: Vec<Vec<Package>>,
    /// Why [`Step::Fetch`] did not get a file, by its place in the list.
    pub(crate) missing: BTreeMap<usize, String>,
}

impl Step {
    /// The name of the step and its log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Step::Index { .. } => "index",
            Step::Resolve { .. } => "resolve",
            Step::Fetch { .. } => "fetch",
            Step::Tools { .. } => "tools",
            Step::Packages { .. } => "packages",
            Step::Roles { .. } => "roles",
            Step::Disk { .. } => "disk",
            Step::Remove { .. } => "remove",
        }
    }

    /// Only what fetches sees a network: a role that downloads would not give the same image twice.
    pub(crate) fn needs_network(&self) -> bool {
        matches!(self, Step::Index { fetch: true, .. } | Step::Fetch { .. })
    }

    /// Does it.
    pub(crate) fn run(&self) -> Result<Outcome> {
        match self {
            Step::Index { archive, keyring, mirrors, fetch, out } => {
                apt::index(archive, keyring, mirrors, *fetch, out)?;
            }
            Step::Resolve { archive, index, wanted, pins, work } => {
                let resolved = apt::resolve(archive, index, wanted, pins, work)?;
                return Ok(Outcome { resolved, ..Outcome::default() });
            }
            Step::Fetch { files, work } => {
                return Ok(Outcome { missing: apt::fetch(files, work)?, ..Outcome::default() });
            }
            Step::Tools { spec, place, out } => {
                mount_memory(place)?;
                let outcome = make_tree(spec, None, place)?;
                prepare(place)?;
                pack(place, place, spec.epoch, out)?;
                return Ok(outcome);
            }
            Step::Packages { spec, tools, tree, out } => {
                let tools = tools.mount()?;
                fs::create_dir(tree)?;
                let outcome = make_tree(spec, Some(tools), tree)?;
                pack(tools, tree, spec.epoch, out)?;
                return Ok(outcome);
            }
            Step::Roles { spec, tools, packages, tree, out } => {
                let tools = tools.mount()?;
                if let Some(packages) = packages {
                    fs::create_dir(tree)?;
                    unpack(packages, tree)?;
                }
                roles(spec, tools, tree)?;
                seal::seal(tree)?;
                pack(tools, tree, spec.epoch, out)?;
            }
            Step::Disk { spec, tools } => disk::make(spec, tools.mount()?)?,
            Step::Remove { paths } => remove(paths)?,
        }
        Ok(Outcome::default())
    }
}

/// Where a build's folders are mounted in the tree of tools.
const PACKAGES: &str = "/mnt/packages";
const TREE: &str = "/mnt/tree";
const OUT: &str = "/mnt/out";

/// Makes the tree with the mmdebstrap of `tools`, or else the host's.
fn make_tree(spec: &TreeSpec, tools: Option<&Path>, tree: &Path) -> Result<Outcome> {
    apt::write_repository(&spec.packages_dir, &spec.suite, &spec.architecture)?;
    // The same names inside and outside, so that one command line serves both.
    let mut packages = spec.packages_dir.clone();
    let mut target = tree.to_path_buf();
    let mut base_files = spec.base_files.clone();
    if let Some(tools) = tools {
        bind(&packages, tools, PACKAGES)?;
        bind(tree, tools, TREE)?;
        (packages, target) = (PACKAGES.into(), TREE.into());
        for (n, folder) in base_files.iter_mut().enumerate() {
            let name = format!("/mnt/base-{n}");
            bind(folder, tools, &name)?;
            *folder = name.into();
        }
    }

    let mut command = apt::mmdebstrap(tools, &spec.architecture);
    command
        .env("SOURCE_DATE_EPOCH", spec.epoch.to_string())
        .arg("--variant=minbase")
        .arg(format!("--include={}", spec.packages.join(",")))
        // Packages are in apt's own folder already, and stay there.
        .args(["--skip=download/empty", "--skip=essential/unlink"])
        .arg(format!(
            "--setup-hook=mkdir -p \"$1\"/var/cache/apt/archives && mount --bind {} \"$1\"/var/cache/apt/archives",
            quote(&packages),
        ))
        .arg("--customize-hook=umount \"$1\"/var/cache/apt/archives");
    if !spec.automatic.is_empty() {
        command.arg(format!(
            "--customize-hook=chroot \"$1\" apt-mark auto {} >/dev/null",
            spec.automatic.join(" ")
        ));
    }
    for pattern in &spec.exclude {
        command.arg(format!("--dpkgopt=path-exclude={pattern}"));
    }
    for pattern in &spec.include {
        command.arg(format!("--dpkgopt=path-include={pattern}"));
    }
    for folder in &base_files {
        command.arg(format!("--essential-hook=cp -r --preserve=mode {}/. \"$1\"/", quote(folder)));
    }
    // Trusted, for every package's digest is the lock's.
    let source = format!("deb [trusted=yes] copy://{} {} main", apt::escape(&packages), spec.suite);
    run(command.arg(&spec.suite).arg(&target).arg(source))?;
    // Root's mmdebstrap makes device nodes and a user's cannot; whoever boots the tree mounts its own.
    for dir in ["dev", "run", "tmp"] {
        for entry in fs::read_dir(tree.join(dir))? {
            remove(&[entry?.path()])?;
        }
    }
    // dpkg's own configuration of what to leave out is not for those who use the tree.
    remove(&[tree.join("etc/dpkg/dpkg.cfg.d/99mmdebstrap"), tree.join("etc/apt/apt.conf.d/99mmdebstrap")])?;
    let status =
        fs::read_to_string(tree.join("var/lib/dpkg/status")).context("The tree has no package database")?;
    let installed: BTreeSet<&str> =
        status.lines().filter_map(|line| line.strip_prefix("Package: ")).collect();
    let locked: BTreeSet<&str> = spec.packages.iter().map(String::as_str).collect();
    if installed != locked {
        let odd: Vec<_> = installed.symmetric_difference(&locked).copied().collect();
        bail!("The tree has not exactly the packages of the lock: {}", odd.join(", "));
    }
    Ok(Outcome { packages: installed.len(), ..Outcome::default() })
}

/// Writes `tree`, without what is mounted in it, as a reproducible archive.
fn pack(tools: &Path, tree: &Path, epoch: u64, out: &Path) -> Result<()> {
    bind(tree, tools, TREE)?;
    let dir = out.parent().context("an archive has a folder")?;
    bind(dir, tools, OUT)?;
    let name = out.file_name().context("an archive has a name")?;
    // Sorted, numeric, no times but the content's: the same tree gives the same bytes.
    run(inside(tools, "tar")
        .args([
            "--create",
            "--format=pax",
            "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
        ])
        .args(["--sort=name", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--one-file-system"])
        .arg(format!("--mtime=@{epoch}"))
        .args(["--clamp-mtime", "--directory", TREE, "--file"])
        .arg(Path::new(OUT).join(name))
        .arg("."))
}

/// Unpacks an archive that [`pack`] wrote.
fn unpack(archive: &Path, tree: &Path) -> Result<()> {
    run(host("tar")
        .args([
            "--extract",
            "--numeric-owner",
            "--same-owner",
            "--preserve-permissions",
            "--xattrs",
            "--xattrs-include=*",
            "--directory",
        ])
        .arg(tree)
        .arg("--file")
        .arg(archive))
}

/// Where roles find what they are given, in the tree; all of it is a mount that vanishes.
const RUN: &str = "/run/gatewright";
/// The merged values of all packs.
const VALUES: &str = "/run/gatewright/values.json";

fn roles(spec: &RolesSpec, tools: &Path, tree: &Path) -> Result<()> {
    prepare(tree)?;
    let run_dir = tree.join(&RUN[1..]);
    for name in ["bin", "tmp", "artifacts"] {
        fs::create_dir_all(run_dir.join(name))?;
    }
    bind(tools, tree, &format!("{RUN}/tools"))?;
    for (name, file) in &spec.artifacts {
        let place = run_dir.join("artifacts").join(name);
        fs::create_dir_all(place.parent().context("an artifact is in a folder")?)?;
        fs::copy(file, place).with_context(|| format!("Cannot copy {}", file.display()))?;
    }

    // Python of the tools tree with the libraries of the tools tree, whatever the tree is: it may have no Python, and
    // an older or newer libc. Found through argv[0], so that no variable reaches the programs that roles start.
    let usr = format!("{RUN}/tools/usr");
    script(
        &run_dir.join("bin/python3"),
        &format!(
            "exec {usr}/lib64/ld-linux-x86-64.so.2 --argv0 {usr}/bin/python3 --library-path {usr}/lib/x86_64-linux-gnu {usr}/bin/python3 \"$@\""
        ),
    )?;
    // There is no running kernel to configure: it is the builder's. What these would do, the image does when it boots.
    for name in ["sysctl", "modprobe", "udevadm"] {
        script(&run_dir.join("bin").join(name), "exit 0")?;
    }
    // Packages that a role installs must not start their services (invoke-rc.d(8)).
    let policy = tree.join("usr/sbin/policy-rc.d");
    script(&policy, "exit 101")?;

    let mut plays = vec![serde_json::json!({
        "name": "What roles may want to know of the system",
        "hosts": "localhost", "gather_facts": true, "gather_subset": ["min"],
    })];
    for (n, play) in spec.plays.iter().enumerate() {
        let pack = format!("{RUN}/packs/{n}");
        bind(&play.pack, tree, &pack)?;
        let mut vars = play.vars.as_object().cloned().unwrap_or_default();
        // By way of a file: what is looked up is never taken for a template, and values are full of `{{ }}` of others.
        vars.insert(
            "values".into(),
            format!("{{{{ lookup('ansible.builtin.file', '{VALUES}') | from_json }}}}").into(),
        );
        plays.push(serde_json::json!({
            "name": format!("{} of {}", play.role, play.pack.file_name().unwrap_or_default().display()),
            "hosts": "localhost", "gather_facts": false,
            "vars": vars,
            "roles": [format!("{pack}/{}", play.role)],
        }));
    }
    fs::write(run_dir.join("values.json"), serde_json::to_vec(&spec.values)?)?;
    // JSON is YAML.
    fs::write(run_dir.join("playbook.yml"), serde_json::to_string_pretty(&plays)?)?;

    run(inside(tree, &format!("{RUN}/bin/python3"))
        .env("PATH", format!("{RUN}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"))
        .env("SOURCE_DATE_EPOCH", spec.epoch.to_string())
        .env("ANSIBLE_PYTHON_INTERPRETER", format!("{RUN}/bin/python3"))
        .env("ANSIBLE_LOCAL_TEMP", format!("{RUN}/tmp"))
        .env("ANSIBLE_REMOTE_TMP", format!("{RUN}/tmp"))
        .env("ANSIBLE_HOME", format!("{RUN}/tmp"))
        .env("ANSIBLE_PIPELINING", "1")
        .env("ANSIBLE_NOCOLOR", "1")
        .arg(format!("{usr}/bin/ansible-playbook"))
        .args(["--connection", "local", "--inventory", "localhost,", "--extra-vars"])
        .arg(format!("artifacts={RUN}/artifacts"))
        .arg(format!("{RUN}/playbook.yml")))?;

    remove(&[policy])?;
    let release = tree.join("etc/gatewright-release");
    fs::write(&release, &spec.release).with_context(|| format!("Cannot write {}", release.display()))
}

/// Removes what is there of `paths`.
pub(crate) fn remove(paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        let removed = match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(e) => Err(e),
        };
        match removed {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("Cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn script(path: &Path, body: &str) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        writeln!(file, "#!/bin/sh\n{body}")?;
        file.set_permissions(fs::Permissions::from_mode(0o755))
    };
    write().with_context(|| format!("Cannot write {}", path.display()))
}

/// Makes a tree fit for programs to run in: `/proc`, the usual devices, empty `/run` and `/tmp`.
pub(crate) fn prepare(tree: &Path) -> Result<()> {
    let none = None::<&str>;
    let mount_at = |name: &str, kind: &str, flags: MsFlags, data: &str| -> Result<()> {
        let path = tree.join(name);
        fs::create_dir_all(&path)?;
        mount(Some(kind), &path, Some(kind), flags, Some(data))
            .with_context(|| format!("Cannot mount {}", path.display()))
    };
    let tmp = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_at("proc", "proc", tmp | MsFlags::MS_NOEXEC, "")?;
    mount_at("run", "tmpfs", tmp, "mode=755")?;
    mount_at("tmp", "tmpfs", tmp, "mode=1777")?;
    mount_at("dev", "tmpfs", MsFlags::MS_NOSUID, "mode=755")?;
    let dev = tree.join("dev");
    // Bound, not made: mknod is not for root of a user namespace.
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let node = dev.join(name);
        File::create(&node)?;
        mount(Some(&Path::new("/dev").join(name)), &node, none, MsFlags::MS_BIND, none)
            .with_context(|| format!("Cannot bind {}", node.display()))?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name))?;
    }
    mount_at("dev/shm", "tmpfs", tmp, "mode=1777")?;
    mount_at(
        "dev/pts",
        "devpts",
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=620",
    )
}

/// Shows `path`, without what is mounted below it, as `name` in `tree`.
pub(crate) fn bind(path: &Path, tree: &Path, name: &str) -> Result<()> {
    let place = tree.join(name.trim_start_matches('/'));
    fs::create_dir_all(&place)?;
    let none = None::<&str>;
    mount(Some(path), &place, none, MsFlags::MS_BIND, none)
        .with_context(|| format!("Cannot bind {} to {}", path.display(), place.display()))
}

/// A program of the host, with nothing of the user's environment but the proxy, which apt reads.
fn host(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("DEBIAN_FRONTEND", "noninteractive");
    for name in ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// A program of a tree that was [prepared](prepare).
pub(crate) fn inside(tree: &Path, program: &str) -> Command {
    let mut command = host("chroot");
    command.arg(tree).arg(program);
    command
}

/// Runs a command to its end; its output goes to the log, after the command itself.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    run_with_input(command, b"")
}

/// [`run`], with something on its standard input.
pub(crate) fn run_with_input(command: &mut Command, input: &[u8]) -> Result<()> {
    let name = name_of(command);
    log(command)?;
    let mut child = command
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(std::io::stderr())
        .spawn()
        .with_context(|| format!("Cannot run `{name}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input)?;
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{name}` ended with {status}");
    }
    Ok(())
}

/// Runs a command to its end and returns what it printed; its errors go to the log.
fn output(command: &mut Command) -> Result<String> {
    let name = name_of(command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("Cannot run `{name}`"))?;
    if !output.status.success() {
        log(command)?;
        bail!("`{name}` ended with {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command that may fail, and returns its errors. What it prints goes to the log as it comes.
fn errors_of(command: &mut Command) -> Result<String> {
    let name = name_of(command);
    log(command)?;
    let output = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .output()
        .with_context(|| format!("Cannot run `{name}`"))?;
    std::io::stderr().write_all(&output.stderr)?;
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Writes a command as one would type it.
fn log(command: &Command) -> Result<()> {
    let mut shown = String::from("+");
    for word in std::iter::once(command.get_program()).chain(command.get_args()) {
        let _infallible = write!(shown, " {}", quote(Path::new(word)));
    }
    Ok(writeln!(std::io::stderr(), "{shown}")?)
}

/// The program that a command is about: not `chroot`, and not the Python that runs a script.
fn name_of(command: &Command) -> String {
    let words: Vec<&OsStr> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let program = words
        .iter()
        .skip(if words[0] == "chroot" { 2 } else { 0 })
        .find(|word| !word.to_string_lossy().ends_with("/python3"));
    Path::new(program.unwrap_or(&words[0])).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A word as a shell would read it back.
fn quote(word: &Path) -> String {
    let text = word.to_string_lossy();
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_=+/.,:@%".contains(c)) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_the_shell() {
        for (word, quoted) in
            [("a/b-c.d", "a/b-c.d"), ("a b", "'a b'"), ("", "''"), ("it's", r"'it'\''s'"), ("$1;", "'$1;'")]
        {
            assert_eq!(quote(Path::new(word)), quoted);
        }
    }

    #[test]
    fn failures_name_the_program_that_failed() {
        assert_eq!(name_of(Command::new("mmdebstrap").arg("x")), "mmdebstrap");
        assert_eq!(name_of(&inside(Path::new("/t"), "tar")), "tar");
        assert_eq!(
            name_of(inside(Path::new("/t"), "/run/bin/python3").arg("/x/ansible-playbook")),
            "ansible-playbook"
        );
    }
}
