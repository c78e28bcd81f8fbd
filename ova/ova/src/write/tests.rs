use super::*;
use crate::{Archive, Format, Kind, SizeEncoding};

const PLAIN: Options<'static> = Options { mtime: 7, signer: None };

fn member(name: &str, content: &[u8]) -> Member {
    Member {
        name: name.into(),
        size: content.len() as u64,
        sha256: Sha256::digest(content).into(),
        content: Box::new(io::Cursor::new(content.to_vec())),
    }
}

fn descriptor() -> Descriptor {
    Descriptor { name: "a.ovf".into(), xml: b"<Envelope/>".to_vec() }
}

fn packed(members: &mut [Member]) -> Vec<u8> {
    let mut out = Vec::new();
    pack(&mut out, &descriptor(), members, &PLAIN).unwrap();
    out
}

fn archive(bytes: &[u8]) -> Archive {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Archive::from_file(file).unwrap()
}

fn all(archive: &Archive, name: &str) -> Vec<u8> {
    archive.read(archive.get(name).unwrap(), 1 << 20).unwrap()
}

fn content<'a>(name: &str, content: &'a [u8]) -> Content<'a, Error> {
    Content::new(name, move |out| Ok(out.write_all(content)?))
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program).env("TZ", "UTC").args(arguments).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", output.stderr.escape_ascii());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn bytes_of_an_archive() {
    let out = packed(&mut [member("a-disk1.vmdk", b"disk")]);
    assert_eq!(out.len(), 10240);
    // Header of the first member: name, mode, owners, size, time, checksum, type, magic.
    assert_eq!(&out[..6], b"a.ovf\0");
    let fields = ["0000644", "0000000", "0000000", "00000000013", "00000000007", "0006702"];
    assert_eq!(&out[100..156], fields.map(|field| format!("{field}\0")).concat().as_bytes());
    assert_eq!(out[156], b'0');
    assert_eq!(&out[257..265], b"ustar\x0000");
    assert!(out[265..329].iter().all(|b| *b == 0), "no owner names");
    assert_eq!(
        std::str::from_utf8(&out[3 * 512..][..80]).unwrap(),
        "SHA256(a.ovf)= cbed3b27295a309da3ce42224e915b8ccb87354e24d40145475bca384c21b5f7\n"
    );
    assert_eq!(
        manifest::hex(&Sha256::digest(&out)),
        "8f367685c1aceb17ce085c20630a4646205062c0ac250a90d9ee6639b55ae875",
        "not one bit of an archive may change from release to release unnoticed"
    );
}

#[test]
fn what_is_packed_is_read() {
    let archive = archive(&packed(&mut [member("b.vmdk", &[7; 1000]), member("c.iso", b"")]));
    let names: Vec<_> = archive.members().iter().map(|entry| (&*entry.name, entry.size)).collect();
    assert_eq!(names, [("a.ovf", 11), ("a.mf", 241), ("b.vmdk", 1000), ("c.iso", 0)]);
    for entry in archive.members() {
        assert_eq!((entry.kind, entry.format), (Kind::Regular, Format::Ustar));
        assert_eq!((entry.size_encoding, entry.mode), (SizeEncoding::Octal, Some(0o644)));
        assert_eq!((entry.uid, entry.gid, entry.mtime), (Some(0), Some(0), Some(7)));
        assert!(entry.user.is_empty() && entry.group.is_empty());
    }
    assert_eq!(all(&archive, "b.vmdk"), [7; 1000]);
    let end = archive.end();
    assert_eq!((end.blocks, end.missing_padding, end.trailing), (2, 0, 0));
    assert!(archive.extensions().is_empty());
}

#[test]
fn gnu_tar_lists_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.ova");
    std::fs::write(&path, packed(&mut [member("a-disk1.vmdk", b"disk")])).unwrap();
    let text = run("tar", &["-tvf", path.to_str().unwrap()]);
    assert_eq!(text.lines().count(), 3);
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

/// An archive whose big member is a hole: 8 GiB that take no room.
#[test]
fn eight_gibibytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.ova");
    let file = File::create(&path).unwrap();
    for (size, encoding) in [((8 << 30) - 1, SizeEncoding::Octal), (8 << 30, SizeEncoding::Base256)] {
        file.set_len(0).unwrap();
        file.write_all_at(header("big.vmdk", size, 0).unwrap().as_bytes(), 0).unwrap();
        let after = BLOCK + size.next_multiple_of(BLOCK);
        file.write_all_at(header("small.iso", 5, 0).unwrap().as_bytes(), after).unwrap();
        file.write_all_at(b"small", after + BLOCK).unwrap();
        file.set_len(after + 4 * BLOCK).unwrap();
        let archive = Archive::open(&path).unwrap();
        let [big, small] = archive.members() else { panic!("{archive:?}") };
        assert_eq!((big.size, big.size_encoding, big.offset), (size, encoding, BLOCK));
        assert_eq!((small.size, small.size_encoding), (5, SizeEncoding::Octal));
        assert_eq!(archive.read(small, 10).unwrap(), b"small");
        let mut reader = archive.reader(big);
        reader.seek(SeekFrom::End(-3)).unwrap();
        let mut last = Vec::new();
        assert_eq!(reader.read_to_end(&mut last).unwrap(), 3);
        assert!(archive.read(big, 1 << 20).unwrap_err().to_string().contains("more than 1048576"));
        let text = run("tar", &["-tvf", path.to_str().unwrap()]);
        assert!(text.contains(&format!(" {size} ")) && text.contains(" 5 "), "{text}");
    }
}

#[test]
fn head_is_filled_in_last() {
    let xml = |members: &[MemberFacts]| {
        Ok(format!("<Envelope size=\"{}\"/>\n", members.iter().map(|m| m.size).sum::<u64>()).into_bytes())
    };
    for reserve in [25, 26, 512, 513, 4096] {
        let mut file = tempfile::tempfile().unwrap();
        let contents = vec![content("b.vmdk", &[7; 1000]), content("c.iso", b"")];
        let written = write_seekable(&mut file, "a", contents, xml, reserve, &PLAIN).unwrap();
        assert_eq!(written.size, file.metadata().unwrap().len());
        assert_eq!(written.members.iter().map(|m| m.size).collect::<Vec<_>>(), [1000, 0]);
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        let archive = archive(&bytes);
        let document = all(&archive, "a.ovf");
        assert_eq!(document.len(), reserve);
        assert_eq!(document.trim_ascii_end(), b"<Envelope size=\"1000\"/>");
        assert!(document.ends_with(b"\n"));
        // Nothing else tells it from an archive that was packed in order.
        let mut out = Vec::new();
        let descriptor = Descriptor { name: "a.ovf".into(), xml: document };
        pack(&mut out, &descriptor, &mut [member("b.vmdk", &[7; 1000]), member("c.iso", b"")], &PLAIN)
            .unwrap();
        assert!(out == bytes, "reserve {reserve}");
    }
    let mut file = tempfile::tempfile().unwrap();
    let error = write_seekable(&mut file, "a", vec![], xml, 10, &PLAIN).unwrap_err().to_string();
    assert!(error.contains("bytes long, but 10 were reserved"), "{error}");
    let error = write_seekable(&mut file, "a", vec![], xml, 4096, &PLAIN).unwrap_err();
    assert!(matches!(error, Error::NotEmpty));
}

#[test]
fn to_a_pipe() {
    let spool = tempfile::tempdir().unwrap();
    let contents = vec![content("b.vmdk", &[7; 1000]), content("c.iso", b""), content("d", b"d")];
    let mut out = Vec::new();
    let xml = |members: &[MemberFacts]| Ok(format!("<{}/>", members.len()).into_bytes());
    let written = write_stream(&mut out, "a", contents, xml, spool.path(), &PLAIN).unwrap();
    assert_eq!(written.size, out.len() as u64);
    assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0);
    let archive = archive(&out);
    assert_eq!(all(&archive, "a.ovf"), b"<3/>");
    assert_eq!(all(&archive, "b.vmdk"), [7; 1000]);
    assert_eq!(all(&archive, "d"), b"d");
}

#[test]
fn errors_of_contents_come_through() {
    let fails = || vec![Content::new("b", |_: &mut dyn Write| Err(Error::Time(1)))];
    let xml = |_: &[MemberFacts]| Ok(Vec::new());
    let mut file = tempfile::tempfile().unwrap();
    assert!(matches!(write_seekable(&mut file, "a", fails(), xml, 0, &PLAIN), Err(Error::Time(1))));
    let dir = tempfile::tempdir().unwrap();
    let result = write_stream(&mut Vec::new(), "a", fails(), xml, dir.path(), &PLAIN);
    assert!(matches!(result, Err(Error::Time(1))));
}

#[test]
fn what_is_wrong_is_named() {
    let write = |member| pack(&mut Vec::new(), &descriptor(), &mut [member], &PLAIN).unwrap_err().to_string();
    for name in ["", "a/b", "../x", "..", "ä", "a b", "a(b)", "a\\b", ".x", "-x", "a%20b", &"x".repeat(101)]
    {
        assert!(write(member(name, b"x")).contains("not a bare file name"), "{name}");
    }
    for name in ["a.ovf", "a.mf", "a.cert"] {
        assert!(write(member(name, b"x")).contains("Two members"), "{name}");
    }
    let short = Member { size: 5, ..member("x", b"four") };
    assert!(write(short).contains("not the 5 bytes"));
    let long = Member { size: 3, ..member("x", b"four") };
    assert!(write(long).contains("not the 3 bytes"));
    let other = Member { sha256: [0; 32], ..member("x", b"four") };
    assert!(write(other).contains("not the 4 bytes"));
    let wrong = Descriptor { name: "a.xml".into(), xml: Vec::new() };
    assert!(pack(&mut Vec::new(), &wrong, &mut [], &PLAIN).unwrap_err().to_string().contains(".ovf"));
    let late = Options { mtime: 1 << 33, ..PLAIN };
    assert!(pack(&mut Vec::new(), &descriptor(), &mut [], &late).unwrap_err().to_string().contains("2242"));
}

proptest::proptest! {
    #[test]
    fn what_is_packed_is_unpacked(
        files in proptest::collection::btree_map("[a-z0-9_+~][a-zA-Z0-9._~+-]{0,60}[.]x", proptest::collection::vec(proptest::prelude::any::<u8>(), 0..1500), 0..6)
    ) {
        let mut members: Vec<_> = files.iter().map(|(name, content)| member(name, content)).collect();
        let archive = archive(&packed(&mut members));
        let manifest = manifest::parse(&all(&archive, "a.mf")).unwrap();
        assert!(manifest.is_strict() && manifest.lines.len() == files.len() + 1);
        for line in &manifest.lines {
            let mut reader = archive.reader(archive.get(&line.name).unwrap());
            assert_eq!(line.algorithm.digest(&mut reader).unwrap(), line.digest);
        }
        let dir = tempfile::tempdir().unwrap();
        let paths = crate::unpack(&archive, dir.path(), &crate::Limits::default()).unwrap();
        assert_eq!(paths.len(), files.len() + 2);
        for (name, content) in &files {
            assert_eq!(&std::fs::read(dir.path().join(name)).unwrap(), content);
        }
    }
}
