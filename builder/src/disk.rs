//! A bootable disk from an archive of a tree: GPT, EFI system partition, ext4 root.
//!
//! ```text
//! sector 0        2048                      133120                                   capacity
//! | MBR, GPT | ESP, FAT32, 64 MiB | root, ext4, made to fit | nothing: root grows into it | GPT |
//! ```
//!
//! Everything is written by offset into one sparse file, by programs of the tools tree. All identifiers are derived
//! from the content and all times are the content's, so the same tree gives the same disk.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::digest;
use crate::pack::BootLoader;
use crate::steps::{bind, inside, run, run_with_input};

/// What a disk is made of.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Spec {
    /// The archive of a tree.
    pub(crate) tree: PathBuf,
    /// The SHA-256 of `tree`; identifiers are derived from it.
    pub(crate) digest: String,
    pub(crate) boot_loader: BootLoader,
    /// In bytes; of the whole disk.
    pub(crate) capacity: u64,
    pub(crate) epoch: u64,
    /// The sparse file to make, in a folder that has nothing else in it.
    pub(crate) out: PathBuf,
}

const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;
/// Partitions begin at whole MiB, which suits every kind of storage.
const ESP_START: u64 = MIB;
/// The smallest size at which every firmware takes FAT32 for FAT32.
const ESP_SIZE: u64 = 64 * MIB;
const ROOT_START: u64 = ESP_START + ESP_SIZE;
/// Partition types: UEFI specification, section 5.3.3; Discoverable Partitions Specification (root, x86-64), by which
/// systemd-repart knows what to grow.
const ESP_TYPE: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
const ROOT_TYPE: &str = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";
/// By which boot loader, kernel and fstab find the root.
const ROOT_LABEL: &str = "gatewright-root";

const TREE: &str = "/mnt/tree.tar";
const OUT: &str = "/mnt/out";

/// How large the root partition is made, in bytes: the files, a quarter for ext4's own, and room to boot and grow in.
fn root_size(archive: u64) -> u64 {
    (archive + archive / 4 + 192 * MIB).next_multiple_of(64 * MIB)
}

/// Writes the disk.
pub(crate) fn make(spec: &Spec, tools: &Path) -> Result<()> {
    let out = spec.out.parent().context("a disk has a folder")?;
    bind(out, tools, OUT)?;
    File::create(tools.join(&TREE[1..]))?;
    let none = None::<&str>;
    nix::mount::mount(Some(&spec.tree), &tools.join(&TREE[1..]), none, nix::mount::MsFlags::MS_BIND, none)?;

    let root_size = root_size(fs::metadata(&spec.tree)?.len());
    // The last MiB holds the second partition table.
    anyhow::ensure!(
        ROOT_START + root_size + MIB <= spec.capacity,
        "the tree needs a disk of {} MiB, `disk.size` is {} MiB",
        (ROOT_START + root_size + MIB) / MIB,
        spec.capacity / MIB
    );
    File::create(&spec.out)?.set_len(spec.capacity)?;
    let disk = format!("{OUT}/{}", spec.out.file_name().context("a disk has a name")?.display());

    run_with_input(inside(tools, "sfdisk").args(["--quiet", &disk]), table(spec, root_size).as_bytes())?;
    esp(spec, tools, out, &disk)?;
    let uuid = digest::uuid(&spec.digest, "root file system");
    run(inside(tools, "mke2fs")
        .env("SOURCE_DATE_EPOCH", spec.epoch.to_string())
        .args(["-q", "-F", "-t", "ext4", "-m", "1", "-L", ROOT_LABEL, "-U", &uuid, "-d", TREE])
        // What this mke2fs switches on by default and the boot loader (GRUB 2.12) cannot read.
        .args(["-O", "^metadata_csum_seed,^orphan_file"])
        .args([
            "-E",
            &format!("offset={ROOT_START},hash_seed={uuid},nodiscard,lazy_itable_init=1,lazy_journal_init=1"),
        ])
        .args([&disk, &format!("{}k", root_size >> 10)]))
}

/// The script for sfdisk(8).
fn table(spec: &Spec, root_size: u64) -> String {
    let uuid = |role| digest::uuid(&spec.digest, role);
    format!(
        "label: gpt\nlabel-id: {disk}\nunit: sectors\n\
         start={}, size={}, type={ESP_TYPE}, uuid={esp}, name=esp\n\
         start={}, size={}, type={ROOT_TYPE}, uuid={root}, name=root\n",
        ESP_START / SECTOR,
        ESP_SIZE / SECTOR,
        ROOT_START / SECTOR,
        root_size / SECTOR,
        disk = uuid("disk"),
        esp = uuid("esp"),
        root = uuid("root"),
    )
}

/// The EFI system partition. `\EFI\BOOT\BOOTX64.EFI` is what firmware starts without being told (UEFI specification,
/// section 3.5.1.1), so that no boot entry has to travel with the OVA.
fn esp(spec: &Spec, tools: &Path, out: &Path, disk: &str) -> Result<()> {
    let loader = &spec.boot_loader;
    // In the order in which they are written: a FAT folder keeps the order, and reading folders has none.
    let vendor = format!("::/EFI/{}", loader.directory);
    let files = [
        // The signed shim starts `grubx64.efi` from its own folder.
        ("BOOTX64.EFI", "::/EFI/BOOT/BOOTX64.EFI".to_string(), Some(&loader.shim)),
        ("grubx64.efi", "::/EFI/BOOT/grubx64.efi".to_string(), Some(&loader.loader)),
        ("grub.cfg", format!("{vendor}/grub.cfg"), None),
    ];

    let volume = digest::id(&spec.digest, "esp file system");
    run(inside(tools, "mkfs.vfat")
        // One sector per cluster: with more there would be too few clusters for FAT32, and readers would take it for FAT16.
        .args(["--invariant", "-F", "32", "-s", "1", "-n", "ESP", "-i", &digest::hex(&volume[..4])])
        .args([&format!("--offset={}", ESP_START / SECTOR), disk, &(ESP_SIZE >> 10).to_string()]))?;
    let partition = format!("{disk}@@{ESP_START}");
    let mtools = |program: &str| {
        let mut command = inside(tools, program);
        command.env("SOURCE_DATE_EPOCH", spec.epoch.to_string()).args(["-i", &partition]);
        command
    };
    run(mtools("mmd").args(["::/EFI", "::/EFI/BOOT", &vendor]))?;
    for (name, target, member) in files {
        match member {
            Some(member) => run(inside(tools, "tar")
                .args([
                    "--extract",
                    "--transform",
                    &format!("s,.*/,,;s,.*,{name},"),
                    "--directory",
                    OUT,
                    "--file",
                    TREE,
                ])
                .arg(format!(".{member}")))
            .with_context(|| format!("The tree has no {member}"))?,
            None => fs::write(out.join(name), GRUB_CFG)?,
        }
        run(mtools("mcopy").args([format!("{OUT}/{name}"), target]))?;
        fs::remove_file(out.join(name))?;
    }
    Ok(())
}

/// The kernel package keeps `/vmlinuz` and `/initrd.img` pointing at the newest kernel, so this never changes.
/// Escape within the second shows the menu.
const GRUB_CFG: &str = "\
set timeout_style=hidden
set timeout=1
search --no-floppy --label gatewright-root --set=root
menuentry Gatewright {
    linux /vmlinuz root=LABEL=gatewright-root ro console=tty0 console=ttyS0,115200 quiet
    initrd /initrd.img
}
menuentry 'Gatewright, with all messages' {
    linux /vmlinuz root=LABEL=gatewright-root ro console=ttyS0,115200 console=tty0
    initrd /initrd.img
}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_partition_fits_its_files() {
        assert_eq!(root_size(0), 192 * MIB);
        assert_eq!(root_size(320 * MIB), 640 * MIB);
        assert_eq!(root_size(320 * MIB + 1), 640 * MIB);
        assert_eq!(root_size(340 * MIB) % (64 * MIB), 0);
    }

    #[test]
    fn boot_loader_and_file_system_agree_on_the_label() {
        assert_eq!(GRUB_CFG.matches(ROOT_LABEL).count(), 3);
        assert!(ROOT_LABEL.len() <= 16, "ext4 keeps no more");
    }
}
