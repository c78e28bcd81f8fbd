//! The structures of the format, as bytes. All numbers are little-endian, all offsets and sizes in sectors.

use crate::{Error, Options};

/// In bytes.
pub(crate) const SECTOR: u64 = 512;
/// The unit of compression: 64 KiB, the only size that VMware's readers take in streams.
pub(crate) const GRAIN_SECTORS: u64 = 128;
pub(crate) const GRAIN: u64 = GRAIN_SECTORS * SECTOR;
/// Grains in a grain table.
pub(crate) const GT_ENTRIES: u64 = 512;
/// The first sector of data.
pub(crate) const OVERHEAD: u64 = 128;
/// What is reserved for the descriptor.
const DESCRIPTOR_SECTORS: u64 = 20;

/// Begins the file, and again as its footer.
pub(crate) struct Header {
    /// Of the disk.
    pub(crate) capacity: u64,
    /// Where the grain directory is.
    pub(crate) directory: u64,
}

impl Header {
    /// The directory's place in the header of a file that has a footer.
    pub(crate) const AT_FOOTER: u64 = u64::MAX;

    /// `SparseExtentHeader`.
    pub(crate) fn to_bytes(&self) -> [u8; SECTOR as usize] {
        let mut bytes = [0; SECTOR as usize];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, b"KDMV");
        put(4, &3_u32.to_le_bytes()); // version: 3 for streams; importers refuse less
        // Valid newline test, compressed grains, markers. Not bit 1 (redundant directory), which streams must not have.
        put(8, &0x30001_u32.to_le_bytes());
        put(12, &self.capacity.to_le_bytes());
        put(20, &GRAIN_SECTORS.to_le_bytes());
        put(28, &1_u64.to_le_bytes()); // where the descriptor is
        put(36, &DESCRIPTOR_SECTORS.to_le_bytes());
        put(44, &(GT_ENTRIES as u32).to_le_bytes());
        put(56, &self.directory.to_le_bytes());
        put(64, &OVERHEAD.to_le_bytes());
        put(73, b"\n \r\n"); // broken by a transfer as text
        put(77, &1_u16.to_le_bytes()); // deflate
        bytes
    }
}

/// What a metadata marker announces.
#[derive(Clone, Copy)]
pub(crate) enum MarkerType {
    EndOfStream = 0,
    GrainTable = 1,
    GrainDirectory = 2,
    Footer = 3,
}

/// A metadata marker: a sector of its own; `length` bytes follow it.
pub(crate) fn marker(kind: MarkerType, length: u64) -> [u8; SECTOR as usize] {
    let mut bytes = [0; SECTOR as usize];
    bytes[..8].copy_from_slice(&length.div_ceil(SECTOR).to_le_bytes());
    bytes[12..16].copy_from_slice(&(kind as u32).to_le_bytes());
    bytes
}

/// A grain's marker: its first sector on the disk and its compressed length in bytes; the data follows at once.
pub(crate) fn grain_marker(sector: u64, length: u32) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&sector.to_le_bytes());
    bytes[8..].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// The descriptor's text. Below 512 bytes, of which some readers read no more; the first line and the comment
/// `# The Disk Data Base` are wanted to the letter by others.
pub(crate) fn descriptor(sectors: u64, options: &Options) -> Result<Vec<u8>, Error> {
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
        "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID={}\nparentCID=ffffffff\n\
         createType=\"streamOptimized\"\n\n# Extent description\nRW {sectors} SPARSE \"{name}\"\n\n\
         # The Disk Data Base\n#DDB\n\nddb.adapterType = \"lsilogic\"\nddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"255\"\nddb.geometry.sectors = \"63\"\nddb.longContentID = \"{id}\"\n\
         ddb.toolsVersion = \"2147483647\"\nddb.virtualHWVersion = \"4\"\n",
        &id[24..],
    );
    Ok(text.into_bytes())
}
