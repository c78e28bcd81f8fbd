//! The descriptor: the text in or beside a VMDK that says what it is.

use crate::error::{Error, Problem, ReadError};
use crate::layout::{MAX_CAPACITY, SECTOR};
use crate::write::Options;

/// Larger ones are refused. One of 64 TiB in 2 GB files would pass it, but open files end before.
pub(crate) const MAX_LENGTH: u64 = 1 << 20;
/// What a descriptor file begins with.
pub(crate) const FIRST_LINE: &str = "# Disk DescriptorFile";

/// The text of a streamOptimized file. Below 512 bytes, of which some readers read no more; the first line and the comment
/// `# The Disk Data Base` are wanted to the letter by others.
pub(crate) fn stream_optimized(sectors: u64, options: &Options) -> Result<Vec<u8>, Error> {
    let name = &options.extent_name;
    if name.is_empty() || name.len() > 80 || !name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'"') {
        return Err(Error::Name(name.clone()));
    }
    let id = options.content_id.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    // `ffffffff` and `fffffffe` mean "none"; the last eight digits of the long id are the CID.
    let id = if id.ends_with("ffffffff") || id.ends_with("fffffffe") {
        format!("{}00000000", &id[..24])
    } else {
        id
    };
    // 255 heads of 63 sectors: what disks of this size have had since LBA.
    let cylinders = (sectors / (255 * 63)).clamp(1, 65535);
    let text = format!(
        "{FIRST_LINE}\nversion=1\nencoding=\"UTF-8\"\nCID={}\nparentCID=ffffffff\n\
         createType=\"streamOptimized\"\n\n# Extent description\nRW {sectors} SPARSE \"{name}\"\n\n\
         # The Disk Data Base\n#DDB\n\nddb.adapterType = \"lsilogic\"\nddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"255\"\nddb.geometry.sectors = \"63\"\nddb.longContentID = \"{id}\"\n\
         ddb.toolsVersion = \"2147483647\"\nddb.virtualHWVersion = \"4\"\n",
        &id[24..],
    );
    Ok(text.into_bytes())
}

/// What may be done with an extent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Access {
    /// `RW`
    ReadWrite,
    /// `RDONLY`
    ReadOnly,
    /// `NOACCESS`
    None,
}

/// A line of the descriptor that describes an extent, such as `RW 2048 SPARSE "disk.vmdk"`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExtentLine {
    /// What may be done with it.
    pub access: Access,
    /// Its part of the disk, in sectors.
    pub sectors: u64,
    /// Such as `SPARSE` or `FLAT`, in capitals.
    pub kind: String,
    /// The file's name, as written; extents of zeros have none.
    pub name: Option<String>,
    /// Where the extent begins in its file, in sectors.
    pub offset: u64,
    /// The line's number in the descriptor, from 1.
    pub line: usize,
}

/// A descriptor, read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Descriptor {
    /// Keys in small letters, values without quotes, in the order of the text.
    entries: Vec<(String, String)>,
    pub(crate) extents: Vec<ExtentLine>,
}

impl Descriptor {
    /// Reads the text up to a NUL, with which the space reserved for it is filled up.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Descriptor, ReadError> {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        // Names in other encodings are not found on disk, but do no harm.
        let text = String::from_utf8_lossy(&bytes[..end]);
        let mut descriptor = Descriptor::default();
        for (index, line) in text.lines().enumerate() {
            let (line, number) = (line.trim(), index + 1);
            let access = match line.split_ascii_whitespace().next() {
                Some("RW") => Access::ReadWrite,
                Some("RDONLY") => Access::ReadOnly,
                Some("NOACCESS") => Access::None,
                _ => {
                    if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
                        let value = value.trim().trim_matches('"').to_string();
                        descriptor.entries.push((key.trim().to_ascii_lowercase(), value));
                    }
                    continue;
                }
            };
            let extent = extent(access, line, number).ok_or_else(|| ReadError::Descriptor {
                line: number,
                problem: Problem::ExtentLine(line.chars().take(200).collect()),
            })?;
            descriptor.extents.push(extent);
        }
        descriptor.sectors()?;
        Ok(descriptor)
    }

    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// What the extents add up to.
    pub(crate) fn sectors(&self) -> Result<u64, ReadError> {
        self.extents.iter().try_fold(0_u64, |sum, extent| {
            let sum = sum.saturating_add(extent.sectors);
            let problem = Problem::Capacity(sum);
            (sum <= MAX_CAPACITY / SECTOR)
                .then_some(sum)
                .ok_or(ReadError::Descriptor { line: extent.line, problem })
        })
    }
}

/// `RW 2048 SPARSE "name" 0`; the offset may be missing, and for `ZERO` the name too.
fn extent(access: Access, line: &str, number: usize) -> Option<ExtentLine> {
    let mut words = line.splitn(4, |c: char| c.is_ascii_whitespace()).skip(1);
    let sectors = words.next()?.parse().ok()?;
    let kind = words.next()?.to_ascii_uppercase();
    let rest = words.next().unwrap_or_default().trim();
    let (name, rest) = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').map(|(name, rest)| (Some(name.to_string()), rest))?,
        None if rest.is_empty() && kind == "ZERO" => (None, ""),
        None => return None,
    };
    // A device's identifier may stand behind the offset.
    let offset = match rest.split_ascii_whitespace().next() {
        Some(offset) => offset.parse().ok()?,
        None => 0,
    };
    Some(ExtentLine { access, sectors, kind, name, offset, line: number })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options { extent_name: "a-disk1.vmdk".into(), content_id: *b"0123456789abcdef" }
    }

    #[test]
    fn a_content_id_never_means_none() {
        for last in [0xff, 0xfe] {
            let mut content_id = [0xff; 16];
            content_id[15] = last;
            let text = stream_optimized(1, &Options { content_id, ..options() }).unwrap();
            assert!(String::from_utf8(text).unwrap().contains("\nCID=00000000\n"));
        }
    }

    #[test]
    fn the_longest_descriptor_fits_a_sector() {
        let options = Options { extent_name: "x".repeat(80), ..options() };
        let text = stream_optimized(u64::MAX / SECTOR, &options).unwrap();
        assert!(text.len() <= SECTOR as usize, "{} bytes", text.len());
    }

    #[test]
    fn what_is_written_is_read() {
        let text = stream_optimized(4096, &options()).unwrap();
        let descriptor = Descriptor::parse(&text).unwrap();
        assert_eq!(descriptor.value("createtype"), Some("streamOptimized"));
        assert_eq!(descriptor.value("cid"), Some("63646566"));
        assert_eq!(descriptor.value("ddb.adaptertype"), Some("lsilogic"));
        assert_eq!(descriptor.sectors().unwrap(), 4096);
        assert_eq!(descriptor.extents[0].name.as_deref(), Some("a-disk1.vmdk"));
    }

    #[test]
    fn extent_lines() {
        let parse = |line: &str| {
            let text = format!("{FIRST_LINE}\r\n{line}\r\n\0rest");
            Descriptor::parse(text.as_bytes()).map(|d| d.extents.into_iter().next())
        };
        let line = parse("RDONLY 7 FLAT \"a b.vmdk\" 128 part").unwrap().unwrap();
        assert_eq!((line.access, line.sectors, line.offset, line.line), (Access::ReadOnly, 7, 128, 2));
        assert_eq!((line.kind.as_str(), line.name.as_deref()), ("FLAT", Some("a b.vmdk")));
        assert_eq!(parse("RW 8 ZERO").unwrap().unwrap().name, None);
        assert_eq!(parse("# RW 8 ZERO").unwrap(), None);
        for broken in [
            "RW",
            "RW x FLAT \"a\"",
            "RW 1 FLAT a",
            "RW 1 FLAT \"a",
            "RW 1 FLAT",
            "RW -1 ZERO",
            "RW 1 FLAT \"a\" b",
        ] {
            let error = parse(broken).unwrap_err().to_string();
            assert!(error.contains("Line 2") && error.contains(broken), "{error}");
        }
        assert!(parse("RW 18446744073709551615 ZERO").unwrap_err().to_string().contains("capacity"));
    }
}
