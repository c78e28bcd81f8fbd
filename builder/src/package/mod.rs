//! An OVA as commands look at it: everything that is read of it, once, from front to back.

mod boot_loader;
mod checks;
pub(crate) mod commands;
pub(crate) mod inspect;
mod verify;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use anyhow::Result;
use ova::Archive;
use ova::certificate::{self, Certificate, Roots};
use ova::manifest::{self, Algorithm, Manifest};
use ovf_parser::Document;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};
use vmdk::{Vmdk, Walk};

use self::verify::Outcome;
use crate::digest::hex;
use crate::error::Failure;
use crate::progress::Running;

/// The longest descriptor, manifest or certificate that is read, in bytes.
const MAX_TEXT: u64 = 16 << 20;

/// What an OVA holds. What of it cannot be read is kept as the reason why.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) archive: Archive,
    /// The first member called `*.ovf`.
    pub(crate) descriptor: Option<Member<Document>>,
    pub(crate) manifest: Option<Member<Manifest>>,
    pub(crate) certificate: Option<Member<Certificate>>,
    /// The disks that the descriptor refers to, or that are called `*.vmdk`; by name.
    pub(crate) disks: BTreeMap<String, Disk>,
    /// Of every member, by name and algorithm, in lower-case hexadecimal.
    pub(crate) digests: BTreeMap<String, BTreeMap<Algorithm, String>>,
    /// What a signature must lead to, where that is asked.
    pub(crate) roots: Option<Roots>,
}

/// A member with a meaning.
#[derive(Debug)]
pub(crate) struct Member<T> {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) content: Result<T, String>,
}

/// A member that is a VMDK.
#[derive(Debug)]
pub(crate) struct Disk {
    /// What an importer sees that reads it from front to back.
    pub(crate) walk: Result<Walk, String>,
    /// What keeps firmware from starting it.
    pub(crate) not_bootable: Option<String>,
}

impl Package {
    /// Reads an OVA whole.
    pub(crate) fn read(path: &Path, roots: Option<Roots>, step: &Running<'_>) -> Result<Package> {
        let mut package = Package {
            archive: open(path)?,
            descriptor: None,
            manifest: None,
            certificate: None,
            disks: BTreeMap::new(),
            digests: BTreeMap::new(),
            roots,
        };
        let archive = &package.archive;
        let mut done = 0;
        for entry in archive.members() {
            let name = entry.name.clone();
            let mut content = Hashing::new(archive.reader(entry));
            match Kind::of(&name) {
                Kind::Descriptor if package.descriptor.is_none() => {
                    package.descriptor = Some(member(&name, &mut content, Document::parse)?);
                }
                Kind::Manifest if package.manifest.is_none() => {
                    package.manifest = Some(member(&name, &mut content, manifest::parse)?);
                }
                Kind::Certificate if package.certificate.is_none() => {
                    package.certificate = Some(member(&name, &mut content, certificate::parse)?);
                }
                Kind::Disk => {
                    let mut told = 0;
                    let walk = vmdk::walk(&mut content, &mut |_, grain| {
                        // Of grains that are not compressed, which is all that is known here; never beyond the member.
                        told = (told + grain.len() as u64).min(entry.size);
                        step.progress(done + told, archive.length());
                    });
                    // What is after the end is another check's finding.
                    let trailing = walk.as_ref().map_or(0, |walk| walk.trailing);
                    let disk =
                        Vmdk::from_section(archive.file().try_clone()?, entry.offset, entry.size - trailing);
                    let not_bootable = match disk {
                        Ok(disk) => boot_loader::missing(&disk),
                        Err(e) => Some(format!("the disk cannot be read: {e}")),
                    };
                    let walk = walk.map_err(|e| e.to_string());
                    package.disks.insert(name.clone(), Disk { walk, not_bootable });
                }
                _ => {}
            }
            io::copy(&mut content, &mut io::sink())?;
            package.digests.insert(name, content.finish());
            done += entry.size;
        }
        Ok(package)
    }

    pub(crate) fn document(&self) -> Option<&Document> {
        self.descriptor.as_ref()?.content.as_ref().ok()
    }
}

/// Reads an OVA and runs every check.
pub(crate) fn verify(path: &Path, step: &Running<'_>) -> Result<Vec<Outcome>> {
    Ok(verify::verify(&Package::read(path, None, step)?, &[]))
}

/// Opens an archive for a command.
pub(crate) fn open(path: &Path) -> Result<Archive> {
    Archive::open(path).map_err(|e| {
        let why = anyhow::Error::new(e);
        Failure::user(
            format!("Cannot read {} as an OVA: {why:#}", path.display()),
            "an OVA is a tar archive; is the file whole?",
        )
    })
}

/// What a member is, by its name.
enum Kind {
    Descriptor,
    Manifest,
    Certificate,
    Disk,
    Other,
}

impl Kind {
    fn of(name: &str) -> Kind {
        match Path::new(name).extension().and_then(|extension| extension.to_str()) {
            Some("ovf") => Kind::Descriptor,
            Some("mf") => Kind::Manifest,
            Some("cert") => Kind::Certificate,
            Some("vmdk") => Kind::Disk,
            _ => Kind::Other,
        }
    }
}

fn member<T, E: std::fmt::Display>(
    name: &str,
    content: &mut dyn Read,
    parse: fn(&[u8]) -> Result<T, E>,
) -> Result<Member<T>> {
    let mut bytes = Vec::new();
    content.take(MAX_TEXT + 1).read_to_end(&mut bytes)?;
    let content = if bytes.len() as u64 > MAX_TEXT {
        Err(format!("it is longer than {} MiB", MAX_TEXT >> 20))
    } else {
        parse(&bytes).map_err(|e| e.to_string())
    };
    Ok(Member { name: name.into(), bytes, content })
}

/// Hashes what is read.
struct Hashing<R> {
    from: R,
    sha1: Sha1,
    sha256: Sha256,
    sha512: Sha512,
}

impl<R: Read> Hashing<R> {
    fn new(from: R) -> Hashing<R> {
        Hashing { from, sha1: Sha1::new(), sha256: Sha256::new(), sha512: Sha512::new() }
    }

    fn finish(self) -> BTreeMap<Algorithm, String> {
        [
            (Algorithm::Sha1, hex(&self.sha1.finalize())),
            (Algorithm::Sha256, hex(&self.sha256.finalize())),
            (Algorithm::Sha512, hex(&self.sha512.finalize())),
        ]
        .into()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.sha1.update(&buffer[..count]);
        self.sha256.update(&buffer[..count]);
        self.sha512.update(&buffer[..count]);
        Ok(count)
    }
}
