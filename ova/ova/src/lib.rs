//! OVA archives: a tar file with an OVF descriptor, its manifest, and the files it refers to (DSP0243, section 5.3).
//!
//! Written so that every importer takes it: plain ustar headers with bare names (GNU's binary size only from 8 GiB on,
//! never PAX), descriptor first, no owners, one time. The same input gives the same bytes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// The OVF descriptor.
#[derive(Debug)]
pub struct Descriptor {
    /// Bare file name, ending in `.ovf`; the manifest is called after it.
    pub name: String,
    /// The document.
    pub xml: Vec<u8>,
}

/// A file that the descriptor refers to.
pub struct Member {
    /// Bare file name: the `ovf:href`.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// Of the content.
    pub sha256: [u8; 32],
    /// Read to its end, which must come after `size` bytes.
    pub content: Box<dyn Read>,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("name", &self.name).field("size", &self.size).finish_non_exhaustive()
    }
}

/// Why an archive could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that some importer does not find: with a folder, empty, longer than ustar holds, or with a character
    /// that an `ovf:href` would have to encode or that ends a name in a manifest.
    #[error("`{0}` is not a bare file name of at most 100 ASCII letters, digits and any of `-._~+`")]
    Name(String),
    /// Two members of one name.
    #[error("Two members of the archive are called `{0}`")]
    Duplicate(String),
    /// A member's content is not what its size and digest say; the archive is broken.
    #[error("The content of `{name}` is not the {size} bytes that were announced")]
    Content {
        /// The member.
        name: String,
        /// In bytes, as announced.
        size: u64,
    },
    /// The descriptor is not called `*.ovf`.
    #[error("The descriptor's name `{0}` does not end in `.ovf`")]
    Descriptor(String),
    /// A member could not be read.
    #[error("Cannot read the content of `{name}`")]
    Read {
        /// The member.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Writing the archive failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Tar's unit, in bytes.
const BLOCK: usize = 512;
/// Archives are padded to this, in bytes: tar's default record, which some readers insist on.
const RECORD: u64 = 20 * BLOCK as u64;

/// Writes an archive: descriptor, manifest, then `members` in their order, which is that of the descriptor's
/// References. `mtime`, in seconds since 1970, is every member's.
///
/// # Errors
/// See [`Error`]; what was written until then is of no use.
pub fn pack(
    out: &mut dyn Write,
    descriptor: &Descriptor,
    members: &mut [Member],
    mtime: u64,
) -> Result<(), Error> {
    let base =
        descriptor.name.strip_suffix(".ovf").ok_or_else(|| Error::Descriptor(descriptor.name.clone()))?;
    let manifest_name = format!("{base}.mf");
    // Before anything is written: members may be many gigabytes.
    let mut names = BTreeSet::new();
    for name in
        [&descriptor.name, &manifest_name].into_iter().chain(members.iter().map(|member| &member.name))
    {
        check_name(name)?;
        if !names.insert(name) {
            return Err(Error::Duplicate(name.clone()));
        }
    }
    let manifest = manifest(descriptor, members);
    let mut out = Counted { out, written: 0 };
    add(&mut out, &descriptor.name, descriptor.xml.len() as u64, mtime, &mut descriptor.xml.as_slice())?;
    add(&mut out, &manifest_name, manifest.len() as u64, mtime, &mut manifest.as_bytes())?;
    for member in members {
        let digest = add(&mut out, &member.name, member.size, mtime, &mut member.content)?;
        if digest != member.sha256 {
            return Err(Error::Content { name: member.name.clone(), size: member.size });
        }
    }
    let end = (out.written + 2 * BLOCK as u64).next_multiple_of(RECORD);
    io::copy(&mut io::repeat(0).take(end - out.written), &mut out)?;
    Ok(())
}

/// The manifest: one line a file, descriptor first, itself not (DSP0243, section 5.1; the form that ovftool's parser
/// wants, with no space before the parenthesis).
pub fn manifest(descriptor: &Descriptor, members: &[Member]) -> String {
    let mut text = String::new();
    let own = (descriptor.name.as_str(), Sha256::digest(&descriptor.xml).into());
    for (name, digest) in std::iter::once(own).chain(members.iter().map(|m| (m.name.as_str(), m.sha256))) {
        write!(text, "SHA256({name})= ").expect("writing to a String cannot fail");
        for byte in digest {
            write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        }
        text.push('\n');
    }
    text
}

/// Adds one member; answers with the digest of its content.
fn add(
    out: &mut Counted<'_>,
    name: &str,
    size: u64,
    mtime: u64,
    content: &mut dyn Read,
) -> Result<[u8; 32], Error> {
    out.write_all(header(name, size, mtime)?.as_bytes())?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut copied = 0;
    loop {
        let n = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(Error::Read { name: name.into(), source }),
        };
        copied += n as u64;
        if copied > size {
            break;
        }
        hasher.update(&buffer[..n]);
        out.write_all(&buffer[..n])?;
    }
    if copied != size {
        return Err(Error::Content { name: name.into(), size });
    }
    let padding = size.next_multiple_of(BLOCK as u64) - size;
    out.write_all(&[0; BLOCK][..padding as usize])?;
    Ok(hasher.finalize().into())
}

fn check_name(name: &str) -> Result<(), Error> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~+".contains(&b);
    // A dot in front hides a file, or is a folder; a dash is taken for an option.
    if (1..=100).contains(&name.len()) && name.bytes().all(is_plain) && !name.starts_with(['.', '-']) {
        Ok(())
    } else {
        Err(Error::Name(name.into()))
    }
}

/// A member's header. `tar` switches to GNU's base-256 size where octal digits do not hold it.
fn header(name: &str, size: u64, mtime: u64) -> Result<Header, Error> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(mtime);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    Ok(header)
}

struct Counted<'a> {
    out: &'a mut dyn Write,
    written: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.out.write(buf)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, content: &'static [u8]) -> Member {
        Member {
            name: name.into(),
            size: content.len() as u64,
            sha256: Sha256::digest(content).into(),
            content: Box::new(content),
        }
    }

    fn descriptor() -> Descriptor {
        Descriptor { name: "a.ovf".into(), xml: b"<Envelope/>".to_vec() }
    }

    #[test]
    fn bytes_of_an_archive() {
        let mut out = Vec::new();
        pack(&mut out, &descriptor(), &mut [member("a-disk1.vmdk", b"disk")], 7).unwrap();
        assert_eq!(out.len(), 10240);
        // Header of the first member: name, mode, owners, size, time, checksum, type, magic.
        assert_eq!(&out[..6], b"a.ovf\0");
        let fields = ["0000644", "0000000", "0000000", "00000000013", "00000000007", "0006702"];
        assert_eq!(&out[100..156], fields.map(|field| format!("{field}\0")).concat().as_bytes());
        assert_eq!(out[156], b'0');
        assert_eq!(&out[257..265], b"ustar\x0000");
        assert!(out[265..329].iter().all(|b| *b == 0), "no owner names");
        let names: Vec<_> = tar::Archive::new(out.as_slice())
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["a.ovf", "a.mf", "a-disk1.vmdk"]);
        assert_eq!(
            std::str::from_utf8(&out[3 * 512..][..80]).unwrap(),
            "SHA256(a.ovf)= cbed3b27295a309da3ce42224e915b8ccb87354e24d40145475bca384c21b5f7\n"
        );
    }

    #[test]
    fn gnu_tar_lists_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ova");
        let mut file = std::fs::File::create(&path).unwrap();
        pack(&mut file, &descriptor(), &mut [member("a-disk1.vmdk", b"disk")], 0).unwrap();
        let output =
            std::process::Command::new("tar").env("TZ", "UTC").arg("-tvf").arg(&path).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.lines().all(|line| line.starts_with("-rw-r--r-- 0/0") && line.contains("1970-01-01 00:00")),
            "{text}"
        );
    }

    #[test]
    fn sizes_beyond_octal_are_binary() {
        let octal = header("x", (8 << 30) - 1, 0).unwrap();
        assert_eq!(&octal.as_bytes()[124..136], b"77777777777\0");
        let binary = header("x", 8 << 30, 0).unwrap();
        assert_eq!(&binary.as_bytes()[124..136], &[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let write = |member| pack(&mut Vec::new(), &descriptor(), &mut [member], 0).unwrap_err().to_string();
        for name in
            ["", "a/b", "../x", "..", "ä", "a b", "a(b)", "a\\b", ".x", "-x", "a%20b", &"x".repeat(101)]
        {
            assert!(write(member(name, b"x")).contains("not a bare file name"), "{name}");
        }
        for name in ["a.ovf", "a.mf"] {
            assert!(write(member(name, b"x")).contains("Two members"), "{name}");
        }
        let short = Member { size: 5, ..member("x", b"four") };
        assert!(write(short).contains("not the 5 bytes"));
        let long = Member { size: 3, ..member("x", b"four") };
        assert!(write(long).contains("not the 3 bytes"));
        let other = Member { sha256: [0; 32], ..member("x", b"four") };
        assert!(write(other).contains("not the 4 bytes"));
        let wrong = Descriptor { name: "a.xml".into(), xml: Vec::new() };
        assert!(pack(&mut Vec::new(), &wrong, &mut [], 0).unwrap_err().to_string().contains(".ovf"));
    }
}
