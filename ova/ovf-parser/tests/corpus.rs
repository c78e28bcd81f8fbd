//! Real descriptors, from the tests of other tools: they are read, written to the byte, and judged as those tests judge
//! them. They are no part of this project: `GATEWRIGHT_CORPUS` names the folder that has them in `ovf`.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Once;

use ovf_parser::Document;
use ovf_parser::envelope::Content;
use ovf_parser::tree::Dialect;

/// The folder; without it, it is said once, past the capture of the test program.
fn corpus() -> Option<PathBuf> {
    static SAID: Once = Once::new();
    let folder = std::env::var_os("GATEWRIGHT_CORPUS").map(|folder| PathBuf::from(folder).join("ovf"));
    let folder = folder.filter(|folder| folder.is_dir());
    if folder.is_none() {
        let line = "CANNOT RUN: corpus: GATEWRIGHT_CORPUS names no folder with descriptors";
        SAID.call_once(|| _ = writeln!(std::io::stderr().lock(), "{line}"));
    }
    folder
}

/// The documents of a folder, by name. Reading one checks that it is written as it was.
fn documents(folder: PathBuf) -> BTreeMap<String, Document> {
    let mut documents = BTreeMap::new();
    for entry in folder.read_dir().expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        if path.extension().is_some_and(|extension| extension == "ovf") {
            let bytes = std::fs::read(&path).expect("a descriptor can be read");
            let document =
                Document::parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(document.to_xml().as_bytes() == bytes, "{} is not written as it was", path.display());
            documents.insert(
                path.file_stem().expect("a file has a name").to_string_lossy().into_owned(),
                document,
            );
        }
    }
    assert!(!documents.is_empty(), "there are descriptors");
    documents
}

fn problems(document: &Document) -> Vec<String> {
    document.validate().iter().map(|problem| problem.message.clone()).collect()
}

#[test]
fn good_disk_sections_have_no_problems() {
    let Some(corpus) = corpus() else { return };
    for (name, document) in documents(corpus.join("DiskSection/Pos")) {
        assert_eq!(problems(&document), [""; 0], "{name}");
        let envelope = document.envelope();
        assert_eq!(envelope.dialect, Dialect::Draft, "{name}");
        assert!(envelope.disks[0].bytes().is_some(), "{name}");
        assert_eq!(envelope.systems()[0].hardware[0].items.len(), 2, "{name}");
    }
}

#[test]
fn bad_disk_sections_have_a_reason() {
    let Some(corpus) = corpus() else { return };
    let reasons = [
        ("dup_diskid", "A second disk is called `vmdisk1`"),
        ("dup_filerefs", "A second disk has the file `file1`"),
        ("inside_content", "`DiskSection` must stand in the envelope"),
        ("no_capacity", "A disk without `capacity`"),
        ("no_diskid", "A disk without `diskId`"),
        ("no_format", "A disk with a file and without `format`"),
        ("not_in_order_disks", "The disks are not in the order of their files"),
        ("popsize_gt_capacity", "The disk has 8589934593 bytes in use, more than its capacity of 8589934592"),
        // Bad by their VMDK, which is not there: these descriptors differ from good ones in the name of it only.
        ("invalid_createType_disk", ""),
        ("invalid_delta_reference_disk", ""),
    ];
    let reasons = BTreeMap::from(reasons);
    let documents = documents(corpus.join("DiskSection/Neg"));
    assert!(documents.keys().map(String::as_str).eq(reasons.keys().copied()));
    for (name, document) in documents {
        let (problems, reason) = (problems(&document), reasons[&*name]);
        assert_eq!(problems.is_empty(), reason.is_empty(), "{name}: {problems:?}");
        assert!(
            reason.is_empty() || problems.iter().any(|problem| problem == reason),
            "{name}: {problems:?}"
        );
    }
}

#[test]
fn real_appliances() {
    let Some(corpus) = corpus() else { return };
    let documents = documents(corpus);
    for name in ["photon5", "properties", "ttylinux", "ubuntu24.10"] {
        assert_eq!(problems(&documents[name]), [""; 0], "{name}");
    }
    let system = |name: &str| documents[name].envelope().systems()[0].clone();
    let photon = system("photon5");
    assert_eq!(photon.hardware[0].config("firmware").unwrap().value.as_deref(), Some("efi"));
    assert_eq!(documents["photon5"].envelope().disks[0].bytes(), Some(16 << 30));
    assert!(photon.eulas[0].license.as_ref().unwrap().contains("VMWARE GENERAL TERMS"));
    let properties = system("properties");
    let (product, property) = properties.properties().next().unwrap();
    assert_eq!(product.effective_key(property), "ttylinux.ntp-server.vm");
    assert_eq!(property.category.as_ref().map(|category| category.as_str()), Some("ttylinux Settings"));
    let ubuntu = system("ubuntu24.10");
    assert!(ubuntu.hardware[0].transports().eq(["iso"]));
    assert_eq!(ubuntu.properties().count(), 6);
    let uber = documents["uber"].envelope();
    assert_eq!(uber.disks[1].capacity_property(), Some("disksize"));
    assert_eq!(uber.disks[1].bytes_at("5"), Some(5 << 30));
    assert_eq!(problems(&documents["uber"]), ["A disk with a file and without `format`"]);
    let configured = documents["deployment-configs"].envelope();
    assert_eq!(configured.deployment_options.iter().position(|option| option.is_default), Some(2));
    let collection = documents["virtualsystemcollection"].envelope();
    assert_eq!(collection.dialect, Dialect::Ovf2);
    assert!(matches!(collection.content[..], [Content::Collection(_)]));
    assert_eq!(collection.systems().len(), 2);
}
