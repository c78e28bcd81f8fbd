//! What we ask of apt: an index of what there is, what is to be installed, and the files. apt knows mirrors, proxies,
//! credentials and signatures; nothing of that is ours.
//!
//! ```text
//! mirrors -> index (signed release files, package lists) -> resolve -> packages with digests: the lock
//! lock -> fetch -> packages -> repository of exactly these -> mmdebstrap
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{host, inside, remove, run};
use crate::digest;
use crate::lock::Package;
use crate::pack::Archive;

/// A dead mirror is an error within a minute and a half, not after apt's ten.
const OPTIONS: [&str; 4] = [
    r#"Acquire::Retries "1""#,
    r#"Acquire::http::Timeout "20""#,
    r#"Acquire::https::Timeout "20""#,
    r#"Acquire::Languages "none""#,
];

/// A file to fetch.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Download {
    /// Where it may be; the first that has it gives it.
    pub(crate) uris: Vec<String>,
    /// In lower-case hexadecimal, if it is known.
    pub(crate) sha256: Option<String>,
    pub(crate) out: PathBuf,
}

pub(super) fn mmdebstrap(tools: Option<&Path>, architecture: &str) -> Command {
    let mut command = tools.map_or_else(|| host("mmdebstrap"), |tools| inside(tools, "mmdebstrap"));
    command
        .args(["--mode=root", "--format=directory"])
        .arg(format!("--architectures={architecture}"))
        // Root of a user namespace may not mount sysfs; so root does not either, and both see the same.
        .arg("--skip=chroot/mount/sys");
    for option in OPTIONS {
        command.arg(format!("--aptopt={option}"));
    }
    command
}

/// Fetches the indexes. mmdebstrap names the mirrors where the user names none.
pub(super) fn index(
    archive: &Archive,
    keyring: &Path,
    mirrors: &[String],
    fetch: bool,
    out: &Path,
) -> Result<()> {
    let tree = out.join("tree");
    let mut command = mmdebstrap(None, &archive.architecture);
    command
        .arg(format!("--components={}", archive.components.join(",")))
        .arg(format!("--keyring={}", keyring.display()))
        // No packages, and what was fetched stays: a tree that is nothing but indexes.
        .args(["--variant=custom", "--skip=cleanup"]);
    if !fetch {
        command.arg("--skip=update");
    }
    run(command.arg(&archive.suite).arg(&tree).args(mirrors))?;
    fs::rename(tree.join("etc/apt/sources.list"), out.join("sources.list"))?;
    if fetch {
        fs::rename(tree.join("var/lib/apt/lists"), out.join("lists"))?;
        remove(&["auxfiles", "partial", "lock"].map(|name| out.join("lists").join(name)))?;
        // Whoever runs the next build may read it.
        for entry in fs::read_dir(out.join("lists"))? {
            let path = entry?.path();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
            std::os::unix::fs::chown(&path, Some(0), Some(0))?;
        }
    }
    remove(&[tree])
}

/// A line of `sources.list` as mmdebstrap writes it: `deb [OPTIONS] URI SUITE COMPONENT...` (sources.list(5)).
#[derive(Debug, PartialEq)]
pub(crate) struct SourceLine<'a> {
    pub(crate) uri: &'a str,
    pub(crate) suite: &'a str,
    components: Vec<&'a str>,
}

/// The lines of a `sources.list` that name packages.
pub(crate) fn source_lines(text: &str) -> Vec<SourceLine<'_>> {
    text.lines().filter_map(source_line).collect()
}

fn source_line(line: &str) -> Option<SourceLine<'_>> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
    let mut words = rest.split_whitespace();
    Some(SourceLine { uri: words.next()?, suite: words.next()?, components: words.collect() })
}

/// An apt that knows nothing but what it is given: no configuration, no state, no cache of the host's.
fn apt(program: &str, work: &Path) -> Result<Command> {
    for dir in
        ["etc/apt/apt.conf.d", "etc/apt/preferences.d", "state/lists/partial", "cache/archives/partial"]
    {
        fs::create_dir_all(work.join(dir))?;
    }
    File::create(work.join("status"))?;
    let mut command = host(program);
    let mut option = |name: &str, value: &Path| {
        command.arg("-o").arg(format!("{name}={}", value.display()));
    };
    option("Dir::State", &work.join("state"));
    option("Dir::State::status", &work.join("status"));
    option("Dir::Cache", &work.join("cache"));
    option("Dir::Etc::preferences", &work.join("preferences"));
    option("Dir::Etc::preferencesparts", &work.join("etc/apt/preferences.d"));
    option("Dir::Etc::sourceparts", Path::new("-"));
    option("APT::Sandbox::User", Path::new("root"));
    for words in OPTIONS {
        command.arg("-o").arg(words.replacen(' ', "=", 1).replace('"', ""));
    }
    Ok(command)
}

/// What each list of packages comes to: Debian's essential and required packages, apt, those of the list, and all that
/// these depend on. The same set that mmdebstrap's variant `minbase` has with `--include`.
pub(super) fn resolve(
    archive: &Archive,
    index: &Path,
    wanted: &[Vec<String>],
    pins: &[Package],
    work: &Path,
) -> Result<Vec<Vec<Package>>> {
    // Above 1000 an older version is taken although there is a newer one (apt_preferences(5)).
    let preferences = pins.iter().fold(String::new(), |mut text, pin| {
        let (name, version) = (&pin.name, &pin.version);
        let _infallible = writeln!(text, "Package: {name}\nPin: version {version}\nPin-Priority: 1001\n");
        text
    });
    fs::write(work.join("preferences"), preferences)?;
    let chosen = wanted
        .iter()
        .map(|names| {
            let mut command = apt("apt-get", work)?;
            command
                .args(["--simulate", "-o", "APT::Install-Recommends=false"])
                .arg(format!("-oAPT::Architecture={}", archive.architecture))
                .arg(format!("-oAPT::Architectures={}", archive.architecture))
                .arg(format!("-oDir::State::lists={}", index.join("lists").display()))
                .arg(format!("-oDir::Etc::sourcelist={}", index.join("sources.list").display()))
                .args(["install", "?essential", "?priority(required)", "apt"])
                .args(names);
            Ok(simulated(&super::output(&mut command)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let found = stanzas(archive, index, chosen.iter().flatten())?;
    chosen
        .into_iter()
        .map(|list| {
            let mut packages = list
                .iter()
                .map(|key| {
                    found.get(key).cloned().with_context(|| format!("The index has no {} {}", key.0, key.1))
                })
                .collect::<Result<Vec<_>>>()?;
            packages.sort();
            Ok(packages)
        })
        .collect()
}

/// Name and version of what `apt-get --simulate install` says it would install: `Inst NAME (VERSION …)`.
fn simulated(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
            Some((name.split(':').next()?.to_string(), rest.split_whitespace().next()?.to_string()))
        })
        .collect()
}

/// Looks packages up in the lists of an index, of which the first in the order of `sources.list` wins.
fn stanzas<'a>(
    archive: &Archive,
    index: &Path,
    keys: impl Iterator<Item = &'a (String, String)>,
) -> Result<HashMap<(String, String), Package>> {
    let mut wanted: HashMap<&str, Vec<&str>> = HashMap::new();
    for (name, version) in keys {
        wanted.entry(name).or_default().push(version);
    }
    let mut found = HashMap::new();
    let lists: Vec<PathBuf> =
        fs::read_dir(index.join("lists"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    let sources = fs::read_to_string(index.join("sources.list"))?;
    for line in source_lines(&sources) {
        for component in &line.components {
            let ending = format!(
                "_dists_{}_{}_binary-{}_Packages",
                line.suite.replace('/', "_"),
                component.replace('/', "_"),
                archive.architecture
            );
            for list in lists.iter().filter(|list| list.to_string_lossy().ends_with(&ending)) {
                for_each_stanza(list, |fields| {
                    let (Some(name), Some(version)) = (fields.get("Package"), fields.get("Version")) else {
                        return Ok(());
                    };
                    if wanted.get(name.as_str()).is_some_and(|versions| versions.contains(&version.as_str()))
                    {
                        found.entry((name.clone(), version.clone())).or_insert(
                            package(fields, line.suite).with_context(|| format!("In {}", list.display()))?,
                        );
                    }
                    Ok(())
                })?;
            }
        }
    }
    Ok(found)
}

fn package(fields: &HashMap<String, String>, suite: &str) -> Result<Package> {
    let field = |name: &str| fields.get(name).cloned().with_context(|| format!("A package has no `{name}`"));
    Ok(Package {
        name: field("Package")?,
        version: field("Version")?,
        architecture: field("Architecture")?,
        suite: suite.into(),
        path: field("Filename")?,
        size: field("Size")?.parse().context("A package's `Size` is no number")?,
        sha256: field("SHA256")?,
    })
}

/// Reads a package list: stanzas of `Field: value` lines, an empty line after each (deb822(5)).
fn for_each_stanza(list: &Path, mut look: impl FnMut(&HashMap<String, String>) -> Result<()>) -> Result<()> {
    const FIELDS: [&str; 6] = ["Package", "Version", "Architecture", "Filename", "Size", "SHA256"];
    let mut fields = HashMap::new();
    let file = File::open(list).with_context(|| format!("Cannot open {}", list.display()))?;
    for line in BufReader::with_capacity(1 << 20, file).lines() {
        let line = line?;
        if line.is_empty() {
            look(&fields)?;
            fields.clear();
        } else if let Some((name, value)) = line.split_once(": ")
            && FIELDS.contains(&name)
        {
            fields.insert(name.to_string(), value.to_string());
        }
    }
    look(&fields)
}

/// The version of a package in every suite of an index, for telling what has become of one.
pub(crate) fn versions(archive: &Archive, index: &Path, name: &str) -> Result<Vec<(String, String)>> {
    let mut versions = Vec::new();
    for line in source_lines(&fs::read_to_string(index.join("sources.list"))?) {
        let ending = format!("_dists_{}_", line.suite.replace('/', "_"));
        for list in fs::read_dir(index.join("lists"))? {
            let list = list?.path();
            let text = list.to_string_lossy();
            if !text.contains(&ending)
                || !text.ends_with(&format!("_binary-{}_Packages", archive.architecture))
            {
                continue;
            }
            for_each_stanza(&list, |fields| {
                if fields.get("Package").is_some_and(|found| found == name) {
                    let version = fields.get("Version").cloned().unwrap_or_default();
                    versions.push((line.suite.to_string(), version));
                }
                Ok(())
            })?;
        }
    }
    Ok(versions)
}

/// Fetches files with apt-helper, which knows the host's proxies and credentials and checks digests.
pub(super) fn fetch(files: &[Download], work: &Path) -> Result<BTreeMap<usize, String>> {
    let mut missing: BTreeMap<usize, String> = BTreeMap::new();
    let mut left: Vec<(usize, &Download)> = files.iter().enumerate().collect();
    for attempt in 0.. {
        let mut command = apt("/usr/lib/apt/apt-helper", work)?;
        command.arg("download-file");
        let mut tried = Vec::new();
        for (n, file) in &left {
            let Some(uri) = file.uris.get(attempt) else { continue };
            tried.push((*n, *file));
            command.arg(uri).arg(&file.out);
            // Every file needs a third word; an empty one is no digest.
            command.arg(file.sha256.as_ref().map(|sha256| format!("SHA256:{sha256}")).unwrap_or_default());
        }
        if tried.is_empty() {
            break;
        }
        let said = super::errors_of(&mut command)?;
        left.clear();
        for (n, file) in tried {
            // What has the wrong digest is there, under another name.
            if file.out.is_file() {
                missing.remove(&n);
                continue;
            }
            remove(&[file
                .out
                .with_file_name(format!("{}.FAILED", file.out.file_name().unwrap_or_default().display()))])?;
            missing.insert(n, reason(&said, &file.uris[attempt]));
            left.push((n, file));
        }
    }
    for (n, file) in files.iter().enumerate().filter(|(n, _)| !missing.contains_key(n)) {
        fs::set_permissions(&file.out, fs::Permissions::from_mode(0o644))
            .with_context(|| format!("File {n} is not where it was put"))?;
        std::os::unix::fs::chown(&file.out, Some(0), Some(0))?;
    }
    Ok(missing)
}

/// What apt says of a file that it did not get: `E: Failed to fetch URI  REASON`.
fn reason(said: &str, uri: &str) -> String {
    // apt quotes some characters of a URI anew, so the path's end must do.
    let name = escape(Path::new(uri.rsplit('/').next().unwrap_or(uri)));
    said.lines()
        .filter_map(|line| line.strip_prefix("E: Failed to fetch "))
        .filter_map(|line| line.split_once("  "))
        .find(|(found, _)| {
            let found = found.rsplit('/').next().unwrap_or(found);
            found.eq_ignore_ascii_case(&name) || uri.ends_with(found)
        })
        .map_or_else(|| "it did not come".to_string(), |(_, reason)| reason.trim().to_string())
}

/// A path as in a URI (RFC 3986, section 2).
pub(crate) fn escape(path: &Path) -> String {
    path.as_os_str().as_encoded_bytes().iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) {
            text.push(char::from(*byte));
        } else {
            let _infallible = write!(text, "%{byte:02x}");
        }
        text
    })
}

/// Makes an archive (repository format, "Release", "Packages") of the packages in a folder, which holds nothing else.
pub(super) fn write_repository(dir: &Path, suite: &str, architecture: &str) -> Result<()> {
    let mut names: Vec<_> = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    names.retain(|path| path.extension().is_some_and(|ending| ending == "deb"));
    names.sort();
    let mut packages = String::new();
    for path in &names {
        let control = super::output(host("dpkg-deb").arg("--field").arg(path))?;
        let (sha256, size) = digest::of_file(path)?;
        let name = path.file_name().context("a package has a name")?.display();
        writeln!(packages, "{}\nFilename: {name}\nSize: {size}\nSHA256: {sha256}\n", control.trim_end())?;
    }
    let list = format!("main/binary-{architecture}/Packages");
    let place = dir.join("dists").join(suite);
    fs::create_dir_all(place.join(&list).parent().context("a list has a folder")?)?;
    fs::write(place.join(&list), &packages)?;
    let (sha256, size) = digest::of_file(&place.join(&list))?;
    let release = format!(
        "Suite: {suite}\nCodename: {suite}\nArchitectures: {architecture}\nComponents: main\nDate: Thu, 01 Jan 1970 00:00:00 UTC\nSHA256:\n {sha256} {size} {list}\n"
    );
    Ok(fs::write(place.join("Release"), release)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_sources_list() {
        let text = "# x\ndeb http://a/debian trixie main contrib\ndeb [trusted=yes arch=amd64] copy:/x s main\ndeb-src http://a s main\n";
        let lines = source_lines(text);
        assert_eq!(lines.len(), 2);
        assert_eq!(
            (lines[0].uri, lines[0].suite, lines[0].components.len()),
            ("http://a/debian", "trixie", 2)
        );
        assert_eq!((lines[1].uri, lines[1].suite), ("copy:/x", "s"));
    }

    #[test]
    fn what_apt_would_install() {
        let text = "Reading…\nInst libc6 (2.41-12 Debian:13.7/stable [amd64]) []\nInst x:amd64 (1:2 D [all])\nConf libc6 (2.41-12 D)\n";
        assert_eq!(
            simulated(text),
            [("libc6".to_string(), "2.41-12".to_string()), ("x".to_string(), "1:2".to_string())]
        );
    }

    #[test]
    fn reasons_of_apt() {
        let said = "E: Failed to fetch http://h/pool/zstd_1%2bdfsg_amd64.deb  404  Not Found [IP: 192.0.2.1 80]\nE: Download Failed";
        assert_eq!(reason(said, "http://h/pool/zstd_1+dfsg_amd64.deb"), "404  Not Found [IP: 192.0.2.1 80]");
        assert_eq!(reason(said, "http://h/pool/other.deb"), "it did not come");
    }

    #[test]
    fn paths_in_uris() {
        assert_eq!(escape(Path::new("/a b/c+d_1~2.deb")), "/a%20b/c%2bd_1~2.deb");
    }
}
