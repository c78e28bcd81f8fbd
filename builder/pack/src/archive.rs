//! Packs as one file, `NAME-VERSION.tgz`: a gzipped tar of the pack's folder.
//!
//! What [`write()`] makes depends on the pack's contents only. [`unpack`] takes what others made, and trusts nothing of it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use flate2::{Compression, GzBuilder};
use tar::{EntryType, Header};

use crate::error::Error;
use crate::pack::{Content, Pack};

/// The most that an archive may unpack to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of the tar archive, in bytes.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: usize,
}

impl Default for Limits {
    /// 1 GiB, of 100 000 entries: a pack with large charts or binaries fits, a disk does not fill.
    fn default() -> Limits {
        Limits { bytes: 1 << 30, entries: 100_000 }
    }
}

/// Writes the pack in `dir` as an archive with one top folder, `NAME-VERSION`: sorted, without times and owners, with
/// modes 0644 and 0755, so that equal contents give equal bytes.
///
/// # Errors
/// When the pack cannot be read, has a link that [`unpack`] would refuse, or `out` cannot be written.
pub fn write(dir: &Path, out: impl Write) -> Result<(), Error> {
    let pack = Pack::read(dir)?;
    let contents = pack.contents()?;
    for (name, content) in &contents {
        if let Content::Link(target) = content {
            link_inside(name, target).map_err(|e| Error { file: Some(dir.join(name)), ..e })?;
        }
    }
    // 255 is "unknown": the operating system decides nothing. Times are 0 by default.
    let gzip = GzBuilder::new().operating_system(255).write(out, Compression::best());
    append(&pack, &contents, gzip).map_err(|e| Error::io(dir, &e))
}

fn append<W: Write>(
    pack: &Pack,
    contents: &BTreeMap<String, Content>,
    gzip: flate2::write::GzEncoder<W>,
) -> io::Result<()> {
    let mut tar = tar::Builder::new(gzip);
    let top = PathBuf::from(pack.id());
    let header = |kind, mode, size| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header
    };
    tar.append_data(&mut header(EntryType::Directory, 0o755, 0), &top, io::empty())?;
    for (name, content) in contents {
        let path = top.join(name);
        match content {
            Content::Folder => {
                tar.append_data(&mut header(EntryType::Directory, 0o755, 0), &path, io::empty())?;
            }
            Content::Link(target) => {
                tar.append_link(&mut header(EntryType::Symlink, 0o777, 0), &path, target)?;
            }
            Content::File { executable } => {
                let file = File::open(pack.dir.join(name))?;
                let size = file.metadata()?.len();
                let mode = if *executable { 0o755 } else { 0o644 };
                tar.append_data(&mut header(EntryType::Regular, mode, size), &path, file.take(size))?;
            }
        }
    }
    tar.into_inner()?.finish()?.flush()
}

/// Unpacks an archive into `into`, a new or empty folder, and returns the pack's: `into` itself, or the one folder in it
/// that has a `pack.json`.
///
/// # Errors
/// When it is no gzipped tar archive, has no pack or more than one, is beyond the limits, or has something that a pack must
/// not: paths or links to elsewhere, devices, hard links, a path twice. What was unpacked so far stays.
pub fn unpack(input: impl Read, into: &Path, limits: Limits) -> Result<PathBuf, Error> {
    let mut archive = tar::Archive::new(MultiGzDecoder::new(input).take(limits.bytes));
    let mut unpacked = entries(&mut archive, into, limits);
    let mut rest = archive.into_inner();
    if let (Ok(_), Err(e)) = (&unpacked, io::copy(&mut rest, &mut io::sink())) {
        // The checksum is behind the end of the tar archive.
        unpacked = Err(broken(e));
    }
    // The end of what is let through looks like the end of the archive to its reader.
    if rest.limit() == 0 {
        let hint = "take what is large out of the pack, and let it be fetched as an artifact";
        return Err(Error::new(format!("the archive unpacks to {} bytes or more", limits.bytes), hint));
    }
    let links = unpacked?;
    let folders = fs::read_dir(into)
        .map_err(|e| Error::io(into, &e))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut packs: Vec<_> = folders
        .map(|name| name + "/")
        .chain([String::new()])
        .filter(|folder| into.join(folder).join("pack.json").is_file())
        .collect();
    let pack = match (packs.pop(), packs.len()) {
        (Some(pack), 0) => pack,
        (None, _) => {
            let message = "the archive has no `pack.json` at its top or in a folder there";
            return Err(Error::new(message, "archive the pack's folder"));
        }
        (Some(_), others) => {
            let message = format!("the archive has {} packs", others + 1);
            return Err(Error::new(message, "make one archive of each pack"));
        }
    };
    make_links(&links, into, &pack)?;
    Ok(into.join(pack.trim_end_matches('/')))
}

/// Unpacks all but the links, and returns these: path and target.
fn entries(
    archive: &mut tar::Archive<impl Read>,
    into: &Path,
    limits: Limits,
) -> Result<BTreeMap<String, String>, Error> {
    let mut links = BTreeMap::new();
    for (count, entry) in archive.entries().map_err(broken)?.enumerate() {
        if count == limits.entries {
            let message = format!("the archive has more than {} entries", limits.entries);
            return Err(Error::new(message, "take what is not needed out of the pack"));
        }
        let mut entry = entry.map_err(broken)?;
        let raw = entry.path_bytes().into_owned();
        let name = inside(&raw).ok_or_else(|| {
            let name = String::from_utf8_lossy(&raw).escape_debug().to_string();
            Error::new(format!("the archive has the path `{name}`, which is not inside it"), HOSTILE)
        })?;
        let path = into.join(&name);
        let failed = |e: io::Error| {
            Error::new(format!("cannot unpack `{name}`: {e}"), "see whether it is there twice")
        };
        match entry.header().entry_type() {
            EntryType::Directory => fs::create_dir_all(&path).map_err(failed)?,
            EntryType::Regular | EntryType::Continuous => {
                let mode = if entry.header().mode().map_err(failed)? & 0o111 != 0 { 0o755 } else { 0o644 };
                fs::create_dir_all(path.parent().unwrap_or(into)).map_err(failed)?;
                let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
                io::copy(&mut entry, &mut file).map_err(failed)?;
                file.set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let target = String::from_utf8(target).map_err(|_| link_error(&name, "..."))?;
                if links.insert(name.clone(), target).is_some() {
                    return Err(failed(io::ErrorKind::AlreadyExists.into()));
                }
            }
            // What `git archive` writes first: a comment.
            EntryType::XGlobalHeader => {}
            kind => {
                let message =
                    format!("the archive's `{name}` is neither file, folder nor symbolic link ({kind:?})");
                return Err(Error::new(
                    message,
                    "archive the pack with `tar --hard-dereference`, or remove it",
                ));
            }
        }
    }
    Ok(links)
}

/// Makes links when all else is there, so that nothing is written through one; and none below another, so that its `..`
/// means what was checked.
fn make_links(links: &BTreeMap<String, String>, into: &Path, pack: &str) -> Result<(), Error> {
    for (name, target) in links {
        let below_link =
            Path::new(name).ancestors().skip(1).any(|p| p.to_str().is_some_and(|p| links.contains_key(p)));
        let Some(in_pack) = name.strip_prefix(pack).filter(|_| !below_link) else {
            let message = format!("the archive's link `{name}` is below a link or outside of the pack");
            return Err(Error::new(message, HOSTILE));
        };
        link_inside(in_pack, target)?;
        let path = into.join(name);
        let made = fs::create_dir_all(path.parent().unwrap_or(into)).and_then(|()| symlink(target, &path));
        made.map_err(|e| {
            Error::new(format!("cannot unpack the link `{name}`: {e}"), "see whether it is there twice")
        })?;
    }
    Ok(())
}

fn broken(e: io::Error) -> Error {
    Error::new(format!("this is no archive of a pack: {e}"), "it must be a gzipped tar, as it was made")
}

const HOSTILE: &str = "ask whoever made the archive; packs have no such paths";

/// The path of an entry with its `.` parts removed, if it stays in the folder. Empty for the top itself.
fn inside(raw: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    for part in Path::new(std::str::from_utf8(raw).ok()?).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(parts.join("/"))
}

/// Checks that a link of a pack leads to somewhere in it. `..` may only come first: after a name that is itself a link it
/// would mean something else than it says. `/dev/null` is how systemd's units are masked, and has nothing to give away.
pub(crate) fn link_inside(name: &str, target: &str) -> Result<(), Error> {
    let depth = name.matches('/').count();
    let up = Path::new(target).components().take_while(|part| *part == Component::ParentDir).count();
    let rest = Path::new(target)
        .components()
        .skip(up)
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if target != "/dev/null" && (target.is_empty() || up > depth || !rest) {
        return Err(link_error(name, target));
    }
    Ok(())
}

fn link_error(name: &str, target: &str) -> Error {
    let message = format!("the link `{name}` leads to `{target}`, which is not plainly inside the pack");
    Error::new(
        message,
        "links are relative, with `..` only at their beginning, and stay in the pack; or lead to /dev/null",
    )
}

#[cfg(test)]
mod tests {
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::folder;

    fn archived(dir: &Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(dir, &mut bytes).unwrap();
        bytes
    }

    /// Type, path, and link target or content.
    type Entry<'a> = (EntryType, &'a str, &'a str);

    /// What becomes of a gzipped tar with these entries.
    fn unpacked(entries: &[Entry<'_>]) -> Result<PathBuf, String> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (kind, path, content) in entries {
            let mut header = Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            let data = if matches!(kind, EntryType::Symlink | EntryType::Link) {
                header.as_gnu_mut().unwrap().linkname[..content.len()].copy_from_slice(content.as_bytes());
                ""
            } else {
                content
            };
            header.set_size(data.len() as u64);
            header.set_cksum();
            tar.append(&header, data.as_bytes()).unwrap();
        }
        let bytes = tar.into_inner().unwrap().finish().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("in/to");
        fs::create_dir_all(&into).unwrap();
        let result = unpack(&bytes[..], &into, Limits { bytes: 100_000, entries: 10 });
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is outside");
        assert_eq!(fs::read_dir(dir.path().join("in")).unwrap().count(), 1, "nothing is outside");
        result
            .map(|path| path.strip_prefix(&into).unwrap().to_path_buf())
            .map_err(|e| e.to_string().replace(into.to_str().unwrap(), "INTO"))
    }

    #[test]
    fn hostile_and_broken_archives_are_refused() {
        use EntryType::{Block, Directory, Link, Regular, Symlink};
        let pack = (Regular, "a/pack.json", "{}");
        let cases: [(&[Entry<'_>], &str); 19] = [
            (
                &[pack, (Symlink, "a/b", "x"), (Symlink, "a/b", "y")],
                "cannot unpack `a/b`: entity already exists",
            ),
            (&[], "the archive has no `pack.json` at its top or in a folder there"),
            (
                &[(Regular, "a/b/pack.json", "")],
                "the archive has no `pack.json` at its top or in a folder there",
            ),
            (&[pack, (Regular, "b/pack.json", "")], "the archive has 2 packs"),
            (&[pack, (Regular, "pack.json", "")], "the archive has 2 packs"),
            (&[(Regular, "/etc/x", "")], "the archive has the path `/etc/x`, which is not inside it"),
            (&[(Regular, "a/../../x", "")], "the archive has the path `a/../../x`, which is not inside it"),
            (&[(Directory, "..", "")], "the archive has the path `..`, which is not inside it"),
            (&[pack, pack], "cannot unpack `a/pack.json`: File exists (os error 17)"),
            (
                &[pack, (Regular, "a/pack.json/x", "")],
                "cannot unpack `a/pack.json/x`: File exists (os error 17)",
            ),
            (
                &[pack, (Block, "a/disk", "")],
                "the archive's `a/disk` is neither file, folder nor symbolic link (Block)",
            ),
            (
                &[pack, (Link, "a/b", "a/pack.json")],
                "the archive's `a/b` is neither file, folder nor symbolic link (Link)",
            ),
            (
                &[pack, (Symlink, "a/b", "/etc")],
                "the link `b` leads to `/etc`, which is not plainly inside the pack",
            ),
            (
                &[pack, (Symlink, "a/b", "../../c")],
                "the link `b` leads to `../../c`, which is not plainly inside the pack",
            ),
            (
                &[pack, (Symlink, "a/b", "c/../../..")],
                "the link `b` leads to `c/../../..`, which is not plainly inside the pack",
            ),
            (&[pack, (Symlink, "a/b", "")], "the link `b` leads to ``, which is not plainly inside the pack"),
            (
                &[pack, (Symlink, "a/b", "."), (Symlink, "a/b/c", "..")],
                "the archive's link `a/b/c` is below a link or outside of the pack",
            ),
            (&[pack, (Symlink, "b", "a")], "the archive's link `b` is below a link or outside of the pack"),
            (
                &[pack, (Symlink, "a/b", "c"), (Regular, "a/b/c", "")],
                "cannot unpack the link `a/b`: File exists (os error 17)",
            ),
        ];
        for (entries, expected) in cases {
            assert_eq!(unpacked(entries).unwrap_err(), expected);
        }
        let large = "x".repeat(100_000);
        assert_eq!(
            unpacked(&[pack, (Regular, "a/l", &large)]).unwrap_err(),
            "the archive unpacks to 100000 bytes or more"
        );
        assert_eq!(
            unpacked(&[(Directory, "a", ""); 11]).unwrap_err(),
            "the archive has more than 10 entries"
        );
        let error = unpack(&b"PK"[..], Path::new("/nowhere"), Limits::default()).unwrap_err().to_string();
        assert!(error.starts_with("this is no archive of a pack: "), "{error}");
        let mut bytes = archived(folder(&[]).path());
        let checksum = bytes.len() - 8;
        bytes[checksum] ^= 1;
        let into = tempfile::tempdir().unwrap();
        let error = unpack(&bytes[..], into.path(), Limits::default()).unwrap_err().to_string();
        assert!(error.starts_with("this is no archive of a pack: corrupt gzip"), "{error}");
    }

    #[test]
    fn packs_are_found_at_the_top_or_in_a_folder() {
        use EntryType::{Directory, Regular, Symlink};
        assert_eq!(unpacked(&[(Directory, "./", ""), (Regular, "./pack.json", "")]).unwrap(), Path::new(""));
        let links = [
            (Regular, "a/pack.json", ""),
            (Symlink, "a/null", "/dev/null"),
            (Symlink, "a/b/up", "../pack.json"),
            (EntryType::XGlobalHeader, "pax_global_header", ""),
        ];
        assert_eq!(unpacked(&links).unwrap(), Path::new("a"));
    }

    #[test]
    fn links_that_could_not_be_unpacked_are_not_archived() {
        let dir = folder(&[]);
        symlink("../x", dir.path().join("link")).unwrap();
        let error = write(dir.path(), io::sink()).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("/link: the link `link` leads to `../x`, which is not plainly inside the pack"),
            "{error}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_archived_is_unpacked(
            files in prop::collection::btree_map("[a-z]{1,3}(/[a-z.é ]{1,120}){1,2}x", (any::<Vec<u8>>(), any::<bool>()), 0..6),
        ) {
            let dir = folder(&[]);
            let also = folder(&[]);
            // A name may be the folder of another: then it is one, in both.
            for (order, at) in [(false, &dir), (true, &also)] {
                let mut all: Vec<_> = files.iter().collect();
                if order {
                    all.reverse();
                }
                all.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
                for (name, (content, executable)) in all {
                    let path = at.path().join(name);
                    if path.exists() || fs::create_dir_all(path.parent().unwrap()).is_err() {
                        continue;
                    }
                    fs::write(&path, content).unwrap();
                    // The bits of others and the time do not count.
                    let mode = if *executable { 0o700 } else { 0o600 } | if order { 0o044 } else { 0 };
                    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
                }
            }
            symlink("values.yaml", dir.path().join("link")).unwrap();
            symlink("values.yaml", also.path().join("link")).unwrap();

            let bytes = archived(dir.path());
            prop_assert_eq!(&bytes, &archived(also.path()));

            let into = tempfile::tempdir().unwrap();
            let unpacked = unpack(&bytes[..], into.path(), Limits::default()).unwrap();
            prop_assert_eq!(unpacked.file_name().unwrap(), "a-1.0.0");
            let contents = Pack::read(dir.path()).unwrap().contents().unwrap();
            prop_assert_eq!(&contents, &Pack::read(&unpacked).unwrap().contents().unwrap());
            for (name, content) in contents {
                if matches!(content, Content::File { .. }) {
                    prop_assert_eq!(fs::read(dir.path().join(&name)).unwrap(), fs::read(unpacked.join(&name)).unwrap());
                }
            }
        }

        #[test]
        fn broken_archives_do_not_panic(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
            // Not compressed, so that what is broken is the tar archive.
            let mut bytes = Vec::new();
            MultiGzDecoder::new(&archived(folder(&[("files/a", "text")]).path())[..]).read_to_end(&mut bytes).unwrap();
            let index = at.index(bytes.len());
            bytes[index] = byte;
            bytes.truncate(cut.index(bytes.len()) + 1);
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(&bytes).unwrap();
            let into = tempfile::tempdir().unwrap();
            let _ = unpack(&gzip.finish().unwrap()[..], into.path(), Limits { bytes: 1 << 20, entries: 100 });
        }
    }
}
