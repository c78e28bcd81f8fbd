use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use tar::{EntryType, Header};

use super::*;

fn member(kind: EntryType, name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    // Not `set_path`, which is too careful for this.
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_link_name("/etc/passwd").unwrap();
    header.set_mode(0o6777);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = [header.as_bytes(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    member(EntryType::Regular, name, content)
}

fn archive(members: &[Vec<u8>]) -> Archive {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&members.concat()).unwrap();
    Archive::from_file(file).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn files_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("new");
    let archive = archive(&[
        member(EntryType::Directory, "./", b""),
        file("./a.ovf", b"<Envelope/>"),
        file("Über disk.vmdk", &[7; 700]),
        file("empty", b""),
    ]);
    let paths = unpack(&archive, &new, &Limits::default()).unwrap();
    assert_eq!(paths, ["a.ovf", "Über disk.vmdk", "empty"].map(|name| new.join(name)));
    assert_eq!(names(&new), ["a.ovf", "empty", "Über disk.vmdk"]);
    assert_eq!(fs::read(&paths[1]).unwrap(), [7; 700]);
    for path in paths {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o644);
    }
}

#[test]
fn nothing_is_written_of_what_is_refused() {
    let good = || file("good", b"x");
    for (bad, message) in [
        (file("../up", b""), "`../up` is not a bare file name"),
        (file("/etc/cron.d/x", b""), "not a bare file name"),
        (file("a/b", b""), "not a bare file name"),
        (file("./../b", b""), "not a bare file name"),
        (file(".", b""), "not a bare file name"),
        (file("..", b""), "not a bare file name"),
        (file("", b""), "not a bare file name"),
        (file("./", b""), "not a bare file name"),
        (file(".profile", b""), "not a bare file name"),
        (file("a\nb", b""), r"`a\nb` is not a bare file name"),
        (file("\u{1b}[2J", b""), "not a bare file name"),
        (file("good", b""), "Two members are called `good`"),
        (file("./good", b""), "Two members are called `./good`"),
        (member(EntryType::Directory, "folder", b""), "`folder` is not a file but a folder"),
        (member(EntryType::Directory, "..", b""), "not a file but a folder"),
        (member(EntryType::Symlink, "link", b""), "not a file but a symbolic link"),
        (member(EntryType::Link, "link", b""), "not a file but a hard link"),
        (member(EntryType::Char, "tty", b""), "not a file but a character device"),
        (member(EntryType::Block, "sda", b""), "not a file but a block device"),
        (member(EntryType::Fifo, "pipe", b""), "not a file but a named pipe"),
        (member(EntryType::new(b'V'), "label", b""), "not a file but a member of type `V`"),
        (file("there", b"new"), "there is there already"),
        (file("dangling", b"new"), "dangling is there already"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("there"), b"old").unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("dangling")).unwrap();
        let archive = archive(&[good(), bad]);
        let error = unpack(&archive, dir.path(), &Limits::default()).unwrap_err().to_string();
        assert!(error.contains(message), "{message}: {error}");
        assert_eq!(names(dir.path()), ["dangling", "there"]);
        assert_eq!(fs::read(dir.path().join("there")).unwrap(), b"old");
    }
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("new");
    assert!(unpack(&archive(&[file("a/b", b"")]), &new, &Limits::default()).is_err());
    assert!(!new.exists());
}

#[test]
fn the_disk_is_not_filled() {
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("new");
    let archive = archive(&[file("a", b"12345"), file("b", b"678")]);
    let limits = |total, keep_free| Limits { total, keep_free };
    let error = unpack(&archive, &new, &limits(7, 0)).unwrap_err();
    assert!(matches!(error, UnpackError::Total { size: 8, limit: 7 }), "{error}");
    let error = unpack(&archive, &new, &limits(8, u64::MAX)).unwrap_err();
    assert!(matches!(error, UnpackError::Space { size: 8, available: 0, .. }), "{error}");
    assert!(!new.exists());
    unpack(&archive, &new, &limits(8, 0)).unwrap();

    // A hole of 8 TiB: the sparse archive takes no room, what is in it would.
    let sparse = tempfile::tempfile().unwrap();
    let mut header = Header::new_ustar();
    header.set_path("big").unwrap();
    header.set_entry_type(EntryType::Regular);
    header.set_size(1 << 43);
    header.set_cksum();
    sparse.write_all_at(header.as_bytes(), 0).unwrap();
    sparse.set_len((1 << 43) + 1536).unwrap();
    let archive = Archive::from_file(sparse).unwrap();
    let error = unpack(&archive, dir.path(), &Limits::default()).unwrap_err();
    assert!(matches!(error, UnpackError::Space { size: 0x800_0000_0000, .. }), "{error}");
}

#[test]
fn all_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let written = ["a", "b"].map(|_| tempfile::NamedTempFile::new_in(&dir).unwrap().into_temp_path());
    // Came between looking and naming.
    fs::write(dir.path().join("b"), b"theirs").unwrap();
    let paths = ["a", "b"].map(|name| dir.path().join(name));
    let error = name(written.into(), paths.into_iter()).unwrap_err();
    assert!(matches!(error, UnpackError::Exists(_)), "{error}");
    assert_eq!(names(dir.path()), ["b"]);

    // The archive is cut off meanwhile.
    let broken = tempfile::NamedTempFile::new().unwrap();
    broken.as_file().write_all_at(&[file("x", b"x"), file("y", b"y")].concat(), 0).unwrap();
    let archive = Archive::open(broken.path()).unwrap();
    broken.as_file().set_len(1024 + 512).unwrap();
    let error = unpack(&archive, dir.path(), &Limits::default()).unwrap_err();
    assert!(matches!(error, UnpackError::Io { .. }), "{error}");
    assert_eq!(names(dir.path()), ["b"]);
}
