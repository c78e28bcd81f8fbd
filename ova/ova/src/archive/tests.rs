use std::io::Write as _;
use std::process::Command;

use proptest::prelude::*;
use tar::EntryType;

use super::*;

fn archive(bytes: &[u8]) -> Result<Archive, ReadError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Archive::from_file(file)
}

/// A member with its padding.
fn member(mut header: tar::Header, type_flag: u8, name: &str, content: &[u8]) -> Vec<u8> {
    // Not `tar`'s own ways to set these, which tidy up.
    header.as_mut_bytes()[156] = type_flag;
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(content.len() as u64);
    header.set_mode(0o640);
    header.set_mtime(9);
    header.set_cksum();
    let mut bytes = [header.as_bytes(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    member(tar::Header::new_ustar(), b'0', name, content)
}

/// A header whose size is a lie.
fn lying(type_flag: u8, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(EntryType::new(type_flag));
    header.set_path("liar").unwrap();
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn pax(records: &str) -> Vec<u8> {
    member(tar::Header::new_ustar(), b'x', "PaxHeader", records.as_bytes())
}

const END: [u8; 1024] = [0; 1024];

#[test]
fn facts() {
    let long = "x".repeat(150);
    let bytes = [
        member(tar::Header::new_old(), 0, "old", b"1"),
        member(tar::Header::new_old(), 0, "folder/", b""),
        member(tar::Header::new_gnu(), b'0', "gnu", b"12"),
        member(tar::Header::new_gnu(), b'L', "././@LongLink", format!("{long}\0").as_bytes()),
        member(tar::Header::new_gnu(), b'K', "././@LongLink", b"target\0"),
        member(tar::Header::new_gnu(), b'2', "short", b""),
        member(tar::Header::new_ustar(), b'g', "global", b"13 comment=x\n"),
        pax("12 path=pax\n10 size=3\n13 atime=1.5\n"),
        file("covered", b"123"),
        file("./dotted", b"1234"),
        END.to_vec(),
    ]
    .concat();
    let archive = archive(&bytes).unwrap();
    let facts: Vec<_> = archive
        .members()
        .iter()
        .map(|e| (&*e.name, e.kind, e.format, e.size_encoding, archive.read(e, 9).unwrap().len()))
        .collect();
    let octal = SizeEncoding::Octal;
    assert_eq!(
        facts,
        [
            ("old", Kind::Regular, Format::V7, octal, 1),
            ("folder/", Kind::Directory, Format::V7, octal, 0),
            ("gnu", Kind::Regular, Format::Gnu, octal, 2),
            (&long, Kind::SymbolicLink, Format::Gnu, octal, 0),
            ("pax", Kind::Regular, Format::Ustar, SizeEncoding::Pax, 3),
            ("./dotted", Kind::Regular, Format::Ustar, octal, 4),
        ]
    );
    assert_eq!(archive.members()[3].link, b"target");
    assert_eq!((archive.members()[0].mode, archive.members()[0].mtime), (Some(0o640), Some(9)));
    let extensions: Vec<_> =
        archive.extensions().iter().map(|e| (e.kind, e.member, e.keys.join(" "))).collect();
    assert_eq!(
        extensions,
        [
            (ExtensionKind::GnuLongName, 3, String::new()),
            (ExtensionKind::GnuLongLink, 3, String::new()),
            (ExtensionKind::PaxGlobal, 4, "comment".into()),
            (ExtensionKind::Pax, 4, "path size atime".into()),
        ]
    );
    assert!(archive.extensions()[3].kind.is_pax() && !archive.extensions()[0].kind.is_pax());
    assert_eq!(archive.get("gnu").unwrap().offset, 512 + 512 + 512 + 512);
}

#[test]
fn ends() {
    let one = file("a", b"x");
    let zeros = |n| vec![0; n];
    for (bytes, expected) in [
        ([&*one, &zeros(1024)].concat(), [1024, 0, 2, 0, 0]),
        ([&*one, &zeros(9216)].concat(), [1024, 0, 2, 8192, 0]),
        ([&*one, &zeros(512)].concat(), [1024, 0, 1, 0, 0]),
        ([&*one, &zeros(600)].concat(), [1024, 0, 1, 88, 0]),
        (one.clone(), [1024, 0, 0, 0, 0]),
        (one[..513].to_vec(), [513, 511, 0, 0, 0]),
        ([&*one, &zeros(1024), b"junk"].concat(), [1024, 0, 2, 0, 4]),
        ([&*one, &zeros(1030), b"junk\0"].concat(), [1024, 0, 2, 6, 5]),
        // A second archive behind a lone zero block is none that a reader of this one sees.
        ([&*one, &zeros(512), &*one].concat(), [1024, 0, 1, 0, 1024]),
        ([&*one, &zeros(1024 + (1 << 20)), &zeros(7)].concat(), [1024, 0, 2, 1 << 20, 7]),
        (zeros(1024), [0, 0, 2, 0, 0]),
    ] {
        let End { offset, missing_padding, blocks, padding, trailing } = archive(&bytes).unwrap().end();
        assert_eq!([offset, missing_padding, blocks, padding, trailing], expected);
    }
}

#[test]
fn what_is_wrong_is_named() {
    let good = file("good", b"x");
    let after = |bytes: &[u8]| [&*good, bytes].concat();
    let mut damaged = file("a", b"");
    damaged[3] ^= 1;
    let mut no_size = tar::Header::new_ustar();
    no_size.as_mut_bytes()[124..136].fill(b'x');
    no_size.set_cksum();
    let long_name = member(tar::Header::new_gnu(), b'L', "././@LongLink", b"long\0");
    let huge = "9".repeat(30);
    for (bytes, offset, message) in [
        (Vec::new(), 0, "The file is empty"),
        (b"PK\x03\x04".to_vec(), 0, "ends within a header"),
        ([0x1f, 0x8b].repeat(400), 0, "no tar header"),
        (after(&damaged), 1024, "no tar header"),
        (after(no_size.as_bytes()), 1024, "not a number"),
        (after(&good[..511]), 1024, "ends within a header"),
        (after(&lying(b'0', 1)), 1024, "`liar` would be 1 bytes long, but only 0 are there"),
        (after(&lying(b'0', u64::MAX)), 1024, "would be 18446744073709551615 bytes long"),
        (after(&lying(b'x', u64::MAX >> 1)), 1024, "but only 0 are there"),
        (after(&[lying(b'5', 512), END.to_vec()].concat()), 1024, "not a file but says it has 512 bytes"),
        (after(&[lying(b'1', 1), END.to_vec()].concat()), 1024, "not a file but says it has 1 bytes"),
        (after(&lying(b'S', 0)), 1024, "stored as a sparse file"),
        (after(&lying(b'M', 0)), 1024, "continued from another volume"),
        (after(&[pax("22 GNU.sparse.major=1\n"), good.clone()].concat()), 2048, "sparse file"),
        (after(&[pax("12 path=pax\n"), END.to_vec()].concat()), 1024, "followed by no member"),
        (after(&long_name), 1024, "followed by no member"),
        (after(&[&*long_name, &*long_name].concat()), 2048, "name of a member is given more than once"),
        (after(&[&*long_name, &*pax("12 path=pax\n")].concat()), 2048, "name of a member is given more than"),
        (after(&pax("10 size=3\n10 size=4\n")), 1024, "size of a member is given more than once"),
        (after(&member(tar::Header::new_ustar(), b'g', "g", b"10 size=3\n")), 1024, "more than once"),
        (after(&pax("10 size=-\n")), 1024, "PAX record is malformed"),
        (after(&pax("10 size=+\n")), 1024, "PAX record is malformed"),
        (after(&pax("11 size=3\n")), 1024, "PAX record is malformed"),
        (after(&pax("8 size=3\n")), 1024, "PAX record is malformed"),
        (after(&pax("1 size=3\n")), 1024, "PAX record is malformed"),
        (after(&pax("0 size=3\n")), 1024, "PAX record is malformed"),
        (after(&pax("6 =ab\n")), 1024, "PAX record is malformed"),
        (after(&pax("size=3\n")), 1024, "PAX record is malformed"),
        (after(&pax(&format!("{huge} path=x\n"))), 1024, "PAX record is malformed"),
        (after(&pax(&format!("39 size={huge}\n"))), 1024, "PAX record is malformed"),
        (after(&[lying(b'L', (1 << 20) + 1), vec![0; 1 << 21]].concat()), 1024, "more than 1 MiB"),
        (file("x", b"").repeat(10_001), 512 * 10_000, "more than 10000 members"),
        (
            member(tar::Header::new_ustar(), b'g', "g", b"").repeat(10_001),
            512 * 10_000,
            "10000 of long names",
        ),
    ] {
        let error = archive(&bytes).unwrap_err();
        assert!(
            matches!(error, ReadError::Malformed { offset: at, .. } if at == offset),
            "{message}: {error}"
        );
        assert!(error.to_string().contains(message), "{message}: {error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [Path::new("/dev/null"), dir.path(), &pipe] {
        let error = Archive::open(path).unwrap_err();
        assert!(matches!(error, ReadError::NotAFile), "{error}");
    }
}

#[test]
fn names_in_errors_do_not_reach_the_terminal_raw() {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..8].copy_from_slice(b"\x1b[31mred");
    header.set_entry_type(EntryType::Directory);
    header.set_size(1);
    header.set_cksum();
    let error = archive(&[header.as_bytes(), &[0; 512][..]].concat()).unwrap_err().to_string();
    assert!(error.contains(r"`\u{1b}[31mred`"), "{error}");
    assert_eq!(printable("ä'\"".repeat(1000).as_bytes()).chars().count(), 167);
}

#[test]
fn a_reader_stays_within_its_member() {
    let archive = archive(&[file("a", b"0123456789"), file("b", b"x"), END.to_vec()].concat()).unwrap();
    let mut reader = archive.reader(&archive.members()[0]);
    let rest = |reader: &mut Reader<'_>| {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(rest(&mut reader), "0123456789");
    assert_eq!(reader.seek(SeekFrom::Start(8)).unwrap(), 8);
    assert_eq!(rest(&mut reader), "89");
    assert_eq!(reader.seek(SeekFrom::Current(-7)).unwrap(), 3);
    assert_eq!(reader.seek(SeekFrom::End(-1)).unwrap(), 9);
    assert_eq!(rest(&mut reader), "9");
    reader.seek(SeekFrom::Start(u64::MAX)).unwrap();
    assert_eq!(rest(&mut reader), "");
    assert!(reader.seek(SeekFrom::Current(1)).is_err());
    assert!(reader.seek(SeekFrom::End(-11)).is_err());
}

/// Runs a program in a folder; what others write is what we must tell apart.
fn made_by(program: &str, arguments: &[&str]) -> Archive {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.ovf"), b"<Envelope/>").unwrap();
    std::fs::write(dir.path().join(format!("{}.vmdk", "long".repeat(40))), b"disk").unwrap();
    std::os::unix::fs::symlink("a.ovf", dir.path().join("link")).unwrap();
    let output = Command::new(program).current_dir(&dir).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", output.stderr.escape_ascii());
    Archive::open(&dir.path().join("out.tar")).unwrap()
}

#[test]
fn python_writes_pax() {
    let script = "import tarfile, glob\nwith tarfile.open('out.tar', 'w') as t:\n for n in sorted(glob.glob('*')):\n  if n != 'out.tar': t.add(n)";
    let archive = made_by("python3", &["-c", script]);
    let names: Vec<_> = archive.members().iter().map(|entry| (&*entry.name, entry.kind)).collect();
    let long = format!("{}.vmdk", "long".repeat(40));
    assert_eq!(names, [("a.ovf", Kind::Regular), ("link", Kind::SymbolicLink), (&long, Kind::Regular)]);
    assert!(
        archive.extensions().iter().any(|e| e.kind == ExtensionKind::Pax && e.member == 0),
        "{archive:?}"
    );
    assert!(archive.extensions().iter().any(|e| e.keys.contains(&"path".into()) && e.member == 2));
}

#[test]
fn gnu_tar_writes_each_dialect() {
    let long = format!("./{}.vmdk", "long".repeat(40));
    for (dialect, format, extension) in [
        ("gnu", Format::Gnu, Some(ExtensionKind::GnuLongName)),
        ("pax", Format::Ustar, Some(ExtensionKind::Pax)),
        ("oldgnu", Format::Gnu, Some(ExtensionKind::GnuLongName)),
    ] {
        let archive = made_by("tar", &["--format", dialect, "--exclude=out.tar", "-cf", "out.tar", "."]);
        assert!(archive.members().iter().all(|entry| entry.format == format), "{archive:?}");
        assert_eq!(archive.members()[0].kind, Kind::Directory);
        assert_eq!(archive.read(archive.get(&long).unwrap(), 9).unwrap(), b"disk");
        assert_eq!(archive.get("./link").unwrap().link, b"a.ovf");
        let of_long = archive.members().iter().position(|entry| entry.name == long);
        let found = archive.extensions().iter().find(|e| Some(e.member) == of_long).map(|e| e.kind);
        assert_eq!(found, extension);
        assert_eq!((archive.end().blocks, archive.end().trailing), (2, 0));
    }
    for (dialect, format) in [("v7", Format::V7), ("ustar", Format::Ustar)] {
        let archive = made_by("tar", &["--format", dialect, "-cf", "out.tar", "a.ovf"]);
        assert_eq!(archive.members()[0].format, format);
        assert!(archive.extensions().is_empty());
    }
}

proptest! {
    /// Members that are changed in a few places are read within the file or refused.
    #[test]
    fn anything_is_read_or_refused(
        changes in prop::collection::vec((0..4096_usize, any::<u8>()), 0..8),
        fix_checksums in any::<bool>(),
        length in 0..4096_usize,
    ) {
        let mut bytes = [
            pax("12 path=pax\n10 size=3\n"), file("a", b"123"),
            member(tar::Header::new_gnu(), b'L', "././@LongLink", b"long\0"), file("b", b"x"),
        ].concat();
        for (at, byte) in changes {
            if let Some(changed) = bytes.get_mut(at) {
                *changed = byte;
            }
        }
        if fix_checksums {
            for at in [0, 1024, 2048, 3072] {
                let mut header = tar::Header::from_byte_slice(&bytes[at..at + 512]).clone();
                header.set_cksum();
                bytes[at..at + 512].copy_from_slice(header.as_bytes());
            }
        }
        bytes.truncate(length);
        if let Ok(archive) = archive(&bytes) {
            for entry in archive.members() {
                prop_assert!(entry.offset + entry.size <= bytes.len() as u64);
                prop_assert_eq!(archive.read(entry, 4096).unwrap().len() as u64, entry.size);
            }
        }
    }
}
