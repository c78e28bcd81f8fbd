//! Headers of tar archives as they are found: three dialects, two ways to write a number, no judgement.
//!
//! Sources: POSIX.1-2017, `pax`, "ustar Interchange Format"; GNU tar's manual, "Basic Tar Format".

use std::fmt;

/// Tar's unit, in bytes.
pub(crate) const BLOCK: u64 = 512;

/// What a header's magic says it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// No magic: Unix version 7.
    V7,
    /// POSIX, `ustar` and a zero byte.
    Ustar,
    /// GNU tar, `ustar` and two spaces.
    Gnu,
}

/// What a member is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A file.
    Regular,
    /// Another name of an earlier member.
    HardLink,
    /// A symbolic link.
    SymbolicLink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A folder.
    Directory,
    /// A named pipe.
    Fifo,
    /// Whatever this type flag means: a volume's label, the list of a dumped folder, ...
    Other(u8),
}

impl Kind {
    /// Whether content follows the header; of the others some readers skip what their size says and some do not.
    pub(crate) fn has_content(self) -> bool {
        matches!(self, Self::Regular | Self::Other(_))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Regular => "file",
            Self::HardLink => "hard link",
            Self::SymbolicLink => "symbolic link",
            Self::CharacterDevice => "character device",
            Self::BlockDevice => "block device",
            Self::Directory => "folder",
            Self::Fifo => "named pipe",
            Self::Other(flag) => return write!(f, "member of type `{}`", flag.escape_ascii()),
        })
    }
}

/// How a member's size is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SizeEncoding {
    /// Octal digits, which end at 8 GiB.
    Octal,
    /// GNU's binary number.
    Base256,
    /// A PAX record; the header's own field does not count.
    Pax,
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Defect {
    Checksum,
    Size,
}

/// One block, its checksum verified.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) type_flag: u8,
    pub(crate) format: Format,
    pub(crate) size: u64,
    pub(crate) size_encoding: SizeEncoding,
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<i64>,
    pub(crate) user: Vec<u8>,
    pub(crate) group: Vec<u8>,
}

impl Header {
    pub(crate) fn parse(block: &[u8; BLOCK as usize]) -> Result<Self, Defect> {
        if !checksum_holds(block) {
            return Err(Defect::Checksum);
        }
        let format = match &block[257..265] {
            b"ustar  \0" => Format::Gnu,
            magic if magic.starts_with(b"ustar\0") => Format::Ustar,
            _ => Format::V7,
        };
        let mut name = text(&block[..100]).to_vec();
        // GNU tar keeps times where POSIX has the first part of a long name.
        let prefix = if format == Format::Ustar { text(&block[345..500]) } else { &[] };
        if !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        let size = &block[124..136];
        let named = |field| if format == Format::V7 { Vec::new() } else { text(field).to_vec() };
        Ok(Self {
            name,
            link: text(&block[157..257]).to_vec(),
            type_flag: block[156],
            format,
            size: number(size).and_then(|size| size.try_into().ok()).ok_or(Defect::Size)?,
            size_encoding: if size[0] & 0x80 != 0 { SizeEncoding::Base256 } else { SizeEncoding::Octal },
            mode: number(&block[100..108]).and_then(|mode| mode.try_into().ok()),
            uid: number(&block[108..116]).and_then(|uid| uid.try_into().ok()),
            gid: number(&block[116..124]).and_then(|gid| gid.try_into().ok()),
            mtime: number(&block[136..148]).and_then(|mtime| mtime.try_into().ok()),
            user: named(&block[265..297]),
            group: named(&block[297..329]),
        })
    }

    /// What the member is; `name` is its whole name, which old archives end with a slash to tell a folder.
    pub(crate) fn kind(&self, name: &[u8]) -> Kind {
        match self.type_flag {
            0 if name.ends_with(b"/") => Kind::Directory,
            // 7 is a contiguous file, which POSIX lets everyone take for a regular one.
            0 | b'0' | b'7' => Kind::Regular,
            b'1' => Kind::HardLink,
            b'2' => Kind::SymbolicLink,
            b'3' => Kind::CharacterDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => Kind::Other(other),
        }
    }
}

/// A field up to its zero byte, which is left out where the text fills the field.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The sum of all bytes, the checksum itself taken for spaces. Some old tars summed up signed bytes.
fn checksum_holds(block: &[u8; BLOCK as usize]) -> bool {
    let Some(expected) = number(&block[148..156]) else { return false };
    let rest = || block[..148].iter().chain(&block[156..]);
    let spaces = 8 * i128::from(b' ');
    expected == spaces + rest().map(|byte| i128::from(*byte)).sum::<i128>()
        || expected == spaces + rest().map(|byte| i128::from(byte.cast_signed())).sum::<i128>()
}

/// Octal digits between spaces and zero bytes, or GNU's big-endian two's complement with the first bit set.
/// No number of at most twelve bytes is too large for the answer.
fn number(field: &[u8]) -> Option<i128> {
    if field[0] & 0x80 != 0 {
        // The marker's bit is no part of the number; the one after it is its sign.
        let first = i128::from((field[0] << 1).cast_signed() >> 1);
        return Some(field[1..].iter().fold(first, |value, byte| (value << 8) | i128::from(*byte)));
    }
    let field = field.trim_ascii_start();
    let end = field.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(field.len());
    let (digits, rest) = field.split_at(end);
    if rest.iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return None;
    }
    digits.iter().try_fold(0, |value, digit| match digit {
        b'0'..=b'7' => Some(value << 3 | i128::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (field, value) in [
            (&b"00000000013\0"[..], Some(11)),
            (b"777777777777", Some((1 << 36) - 1)),
            (b"  644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"0000648\0", None),
            (b"644 x\0\0\0", None),
            (b"-1\0\0\0\0\0\0", None),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", Some(8 << 30)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some((1 << 94) - 1)),
        ] {
            assert_eq!(number(field), value, "{}", field.escape_ascii());
        }
    }

    fn with_checksum(mut block: [u8; 512], signed: bool) -> [u8; 512] {
        block[148..156].fill(b' ');
        let sum: i32 =
            block.iter().map(|b| if signed { i32::from(b.cast_signed()) } else { i32::from(*b) }).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    #[test]
    fn dialects() {
        let mut block = [0; 512];
        block[..3].copy_from_slice(b"a\xe4b");
        block[345..348].copy_from_slice(b"dir");
        block[265..269].copy_from_slice(b"root");
        for (magic, format, name, user) in [
            (&b""[..], Format::V7, &b"a\xe4b"[..], &b""[..]),
            (b"ustar  \0", Format::Gnu, b"a\xe4b", b"root"),
            (b"ustar\x0000", Format::Ustar, b"dir/a\xe4b", b"root"),
            (b"ustar\0\0\0", Format::Ustar, b"dir/a\xe4b", b"root"),
        ] {
            block[257..257 + magic.len()].copy_from_slice(magic);
            for signed in [false, true] {
                let header = Header::parse(&with_checksum(block, signed)).unwrap();
                assert_eq!((header.format, &*header.name, &*header.user), (format, name, user));
            }
        }
    }

    #[test]
    fn what_is_wrong() {
        assert_eq!(Header::parse(&[7; 512]).unwrap_err(), Defect::Checksum);
        let mut block = [0; 512];
        for size in [&b"x"[..], b"-1", &[0xff; 12]] {
            block[124..136].fill(0);
            block[124..124 + size.len()].copy_from_slice(size);
            assert_eq!(Header::parse(&with_checksum(block, false)).unwrap_err(), Defect::Size);
        }
    }
}
