//! A good OVA, and one mutation of it for every check.

use std::fs::{self, File};
use std::io::{Cursor, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use ova::{Content, Options, Signer};
use ovf_parser::descriptor as ovf;

use super::Package;
use super::checks::CHECKS;
use super::verify::{CheckResult, verify};
use crate::progress::{Mode, Printer};

const MIB: u64 = 1 << 20;
const DISK: u64 = 48 * MIB;

/// A disk that firmware starts, and one that it does not, as VMDKs.
struct Disks {
    good: Vec<u8>,
    without_loader: Vec<u8>,
}

fn disks() -> &'static Disks {
    static DISKS: OnceLock<Disks> = OnceLock::new();
    DISKS.get_or_init(|| Disks { good: vmdk(true), without_loader: vmdk(false) })
}

fn vmdk(boot_loader: bool) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    file.set_len(DISK).unwrap();
    let mut table = gpt::GptConfig::new().writable(true).create_from_device(&mut file, None).unwrap();
    table.add_partition("esp", 40 * MIB, gpt::partition_types::EFI, 0, None).unwrap();
    let start = table.partitions().values().next().unwrap().first_lba * 512;
    table.write().unwrap();
    let mut fat = Cursor::new(vec![0; 40 * MIB as usize]);
    fatfs::format_volume(&mut fat, fatfs::FormatVolumeOptions::new()).unwrap();
    fat.set_position(0);
    {
        let files = fatfs::FileSystem::new(&mut fat, fatfs::FsOptions::new()).unwrap();
        let efi = files.root_dir().create_dir("EFI").unwrap();
        let boot = efi.create_dir("BOOT").unwrap();
        if boot_loader {
            boot.create_file("BOOTX64.EFI").unwrap().write_all(b"MZ").unwrap();
        }
    }
    // Only what is not zero, so that the file keeps its holes.
    for (n, part) in fat.into_inner().chunks(4096).enumerate() {
        if part.iter().any(|byte| *byte != 0) {
            file.write_all_at(part, start + n as u64 * 4096).unwrap();
        }
    }
    let mut out = Vec::new();
    let options = vmdk::Options { extent_name: "a-disk1.vmdk".into(), content_id: [7; 16] };
    vmdk::write_stream_optimized(&vmdk::Raw::new(file).unwrap(), &options, &mut out, &mut |_| {}).unwrap();
    out
}

fn descriptor(disk: &[u8]) -> String {
    ovf::Descriptor {
        files: vec![ovf::FileReference {
            id: "file1".into(),
            href: "a-disk1.vmdk".into(),
            size: disk.len() as u64,
        }],
        disks: vec![ovf::VirtualDisk {
            id: "vmdisk1".into(),
            file: Some("file1".into()),
            capacity: DISK,
            populated: MIB,
        }],
        networks: vec![ovf::Network { name: "VM Network".into(), description: "Any.".into() }],
        system: ovf::VirtualSystem {
            id: "a".into(),
            name: "a".into(),
            os: ovf::OperatingSystem {
                id: 96,
                vmw_type: "debian10_64Guest".into(),
                description: "Debian".into(),
            },
            hardware: ovf::Hardware {
                version: "vmx-15".into(),
                transports: vec![ovf::Transport::GuestInfo, ovf::Transport::Iso],
                cpus: 1,
                memory_mib: 512,
                controllers: vec![
                    ovf::Controller {
                        kind: ovf::ControllerKind::ParavirtualScsi { pci_slot: None },
                        devices: vec![ovf::Device::Disk("vmdisk1".into())],
                    },
                    ovf::Controller { kind: ovf::ControllerKind::Ide, devices: vec![ovf::Device::CdRom] },
                ],
                nics: vec![ovf::Nic { network: "VM Network".into(), pci_slot: None }],
                firmware: ovf::Firmware::Efi { secure_boot: true },
                extra_config: Vec::new(),
            },
            products: vec![ovf::Product {
                class: None,
                product: "A".into(),
                vendor: "B".into(),
                version: "1".into(),
                full_version: None,
                properties: vec![ovf::Property {
                    category: None,
                    key: "name".into(),
                    kind: ovf::PropertyKind::String,
                    value: String::new(),
                    user_configurable: true,
                    password: false,
                    qualifiers: Vec::new(),
                    label: "Name".into(),
                    description: "A name.".into(),
                }],
            }],
            eula: None,
            annotation: None,
        },
    }
    .to_xml()
    .unwrap()
}

/// An OVA in parts, each of which a test may break before it is put together.
struct Parts {
    dir: tempfile::TempDir,
    xml: String,
    disk: Vec<u8>,
    signed: bool,
}

impl Parts {
    fn good() -> Parts {
        let disk = disks().good.clone();
        Parts { dir: tempfile::tempdir().unwrap(), xml: descriptor(&disk), disk, signed: false }
    }

    fn with_disk(disk: Vec<u8>) -> Parts {
        Parts { xml: descriptor(&disk), disk, ..Parts::good() }
    }

    /// With another descriptor.
    fn xml(mut self, from: &str, to: &str) -> Parts {
        assert!(self.xml.contains(from), "{from:?} is not in {}", self.xml);
        self.xml = self.xml.replace(from, to);
        self
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("a.ova")
    }

    /// As we write it.
    fn pack(self) -> Parts {
        let signer = self.signed.then(|| signer(self.dir.path()));
        let mut file = File::create_new(self.path()).unwrap();
        let disk = &self.disk;
        let content = Content::new("a-disk1.vmdk", move |out| out.write_all(disk).map_err(ova::Error::from));
        let xml = self.xml.clone().into_bytes();
        let (reserve, options) = (xml.len(), Options { mtime: 0, signer: signer.as_ref() });
        ova::write_seekable(&mut file, "a", vec![content], |_| Ok::<_, ova::Error>(xml), reserve, &options)
            .unwrap();
        self
    }

    /// Packed, then changed by `change`, which gets the members' files in a folder, and packed again by GNU tar with
    /// these arguments.
    fn tar(self, change: impl FnOnce(&Path), arguments: &[&str]) -> Parts {
        let parts = self.pack();
        let dir = parts.dir.path().join("files");
        fs::create_dir(&dir).unwrap();
        run(Command::new("tar").arg("-xf").arg(parts.path()).arg("-C").arg(&dir));
        change(&dir);
        run(Command::new("tar").arg("-cf").arg(parts.path()).arg("-C").arg(&dir).args(arguments));
        parts
    }

    /// Packed, then with bytes changed.
    fn bytes(self, change: impl FnOnce(&mut Vec<u8>)) -> Parts {
        let parts = self.pack();
        let mut bytes = fs::read(parts.path()).unwrap();
        change(&mut bytes);
        fs::write(parts.path(), bytes).unwrap();
        parts
    }

    /// What fails, with what is found.
    fn failures(&self) -> Vec<(&'static str, String)> {
        let printer = Printer::new(Mode::None, true, false);
        let step = printer.step("verify", "Reading");
        let package = Package::read(&self.path(), None, &step).unwrap();
        verify(&package, &[])
            .into_iter()
            .filter(|outcome| outcome.result == CheckResult::Fail)
            .map(|outcome| (outcome.check, outcome.findings.join("; ")))
            .collect()
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn signer(dir: &Path) -> Signer {
    run(Command::new("openssl").current_dir(dir).args([
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj",
        "/CN=a",
    ]));
    let read = |name| fs::read(dir.join(name)).unwrap();
    Signer::from_pem(&read("key.pem"), &read("cert.pem")).unwrap()
}

const NAMES: [&str; 3] = ["a.ovf", "a.mf", "a-disk1.vmdk"];

/// A name, an OVA that only this check is to refuse, and words of what it finds.
fn broken() -> Vec<(&'static str, Parts, &'static str)> {
    let disk = |change: fn(&mut Vec<u8>)| {
        let mut disk = disks().good.clone();
        change(&mut disk);
        Parts::with_disk(disk).pack()
    };
    let xml = |from: &str, to: &str| Parts::good().xml(from, to).pack();
    let manifest = |change: fn(String) -> String| {
        Parts::good().tar(
            |dir| {
                let path = dir.join("a.mf");
                fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
            },
            &["--format=ustar", "a.ovf", "a.mf", "a-disk1.vmdk"],
        )
    };
    let keep = |_: &Path| {};
    vec![
        ("archive-format", Parts::good().tar(keep, &[&["--format=pax", "--pax-option=comment=x"][..], &NAMES].concat()), "PAX header"),
        ("archive-size", Parts::good().bytes(|bytes| {
            // GNU's binary form of the descriptor's size.
            let size = usize::from_str_radix(std::str::from_utf8(&bytes[124..135]).unwrap(), 8).unwrap();
            bytes[124..136].fill(0);
            bytes[124] = 0x80;
            bytes[128..136].copy_from_slice(&(size as u64).to_be_bytes());
            bytes[148..156].fill(b' ');
            let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
            bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }), "Base256"),
        ("archive-order", Parts::good().tar(keep, &["--format=ustar", "a-disk1.vmdk", "a.ovf", "a.mf"]), "the order is"),
        ("manifest", manifest(|text| text.replace("SHA256(", "SHA256 (")), "not written as"),
        ("manifest", manifest(|text| text.lines().take(1).map(|line| format!("{line}\n")).collect()), "is missing"),
        ("manifest-algorithm", Parts::good().tar(
            |dir| {
                let script = "for f in a.ovf a-disk1.vmdk; do echo \"SHA1($f)= $(sha1sum < $f | cut -c1-40)\"; done > a.mf";
                run(Command::new("sh").current_dir(dir).args(["-c", script]));
            },
            &[&["--format=ustar"][..], &NAMES].concat(),
        ), "Sha1"),
        ("certificate", Parts { signed: true, ..Parts::good() }.tar(
            |dir| {
                let path = dir.join("a.cert");
                let text = fs::read_to_string(&path).unwrap();
                let at = text.find("= ").unwrap() + 2;
                let digit = if &text[at..=at] == "0" { "1" } else { "0" };
                fs::write(&path, format!("{}{digit}{}", &text[..at], &text[at + 1..])).unwrap();
            },
            &["--format=ustar", "a.ovf", "a.mf", "a.cert", "a-disk1.vmdk"],
        ), "a.cert"),
        ("file-size", xml("ovf:size=\"", "ovf:size=\"1"), "ovf:size is 1"),
        ("file-compression", xml("ovf:href=", "ovf:compression=\"gzip\" ovf:href="), "gzip"),
        ("disk-format", xml("vmdk.html#streamOptimized", "vmdk.html#sparse"), "ovf:format is"),
        ("disk-capacity", xml(&format!("ovf:capacity=\"{DISK}\""), &format!("ovf:capacity=\"{}\"", DISK - MIB)), "the disk has"),
        ("disk-type", disk(|disk| {
            let at = disk.windows(15).position(|word| word == b"streamOptimized").unwrap();
            // As long as the name that was there.
            disk[at..at + 15].copy_from_slice(b"custom         ");
        }), "createType is"),
        ("disk-version", disk(|disk| {
            let footer = disk.len() - 1024;
            disk[4] = 1;
            disk[footer + 4] = 1;
        }), "version 1"),
        ("disk-end", disk(|disk| disk.extend([0; 512])), "after the end-of-stream"),
        ("disk-grains", disk(|disk| {
            let at = disk.windows(3).position(|word| word == b"RW ").unwrap();
            // One sector less, in as many digits.
            let line = format!("RW {} ", DISK / 512 - 1);
            disk[at..at + line.len()].copy_from_slice(line.as_bytes());
        }), "the extent has"),
        ("disk-adapter", disk(|disk| {
            let at = disk.windows(10).position(|word| word == b"\"lsilogic\"").unwrap();
            disk[at..at + 10].copy_from_slice(b"\"ide\"     ");
        }), "ide"),
        ("hardware", xml("vmx-15", "vmx-21"), "vmx-21"),
        ("hardware", xml("<rasd:Parent>3</rasd:Parent>", "<rasd:Parent>99</rasd:Parent>"), "99"),
        ("controller", xml("<rasd:ResourceSubType>VmxNet3<", "<rasd:ResourceSubType>vmxnet3<"), "`vmxnet3` is written `VmxNet3`"),
        ("vmware-extensions", xml("<vmw:Config ovf:required=\"false\" vmw:key=\"firmware\"", "<vmw:Config vmw:key=\"firmware\""), "Config is required"),
        ("firmware", xml("vmw:key=\"firmware\"", "vmw:key=\"firmwares\""), "`firmware` is missing"),
        ("boot-loader", Parts::with_disk(disks().without_loader.clone()).pack(), "BOOTX64.EFI"),
        ("property-default", xml(" ovf:value=\"\"", ""), "`name` has no default"),
        ("property-configurable", xml("ovf:userConfigurable=\"true\"", "ovf:userConfigurable=\"false\""), "cannot be filled in"),
        ("property-transport", xml(" ovf:transport=\"com.vmware.guestInfo iso\"", ""), "no ovf:transport"),
    ]
}

#[test]
fn a_good_ova_passes_every_check() {
    assert_eq!(Parts::good().pack().failures(), []);
    assert_eq!(Parts { signed: true, ..Parts::good() }.pack().failures(), []);
}

#[test]
fn every_check_fails_on_its_broken_file() {
    let broken = broken();
    for check in CHECKS {
        assert!(
            broken.iter().any(|(name, _, _)| *name == check.name),
            "{} is never seen to fail",
            check.name
        );
    }
    for (name, parts, words) in broken {
        let failures = parts.failures();
        let found = failures.iter().find(|(check, _)| *check == name);
        assert!(
            found.is_some_and(|(_, findings)| findings.contains(words)),
            "{name} ({words}): {failures:?}"
        );
        // Each fault is told once, by its own check.
        assert_eq!(failures.len(), 1, "{name}: {failures:?}");
    }
}
