//! What people read: help and errors. Builds themselves are tested in `tests/`.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::path::Path;
use std::process::Command;

/// The program, in an empty home and without the caller's settings.
fn gatewright(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatewright"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .current_dir(home);
    command
}

/// Exit code, standard output and standard error, with the home's path taken out.
fn run(home: &Path, arguments: &[&str]) -> String {
    // Without progress, which has times in it.
    let output = gatewright(home).args(arguments).env("GATEWRIGHT_PROGRESS", "none").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(home.to_str().unwrap(), "[HOME]");
    let code = output.status.code().unwrap();
    format!("exit code {code}\n--- stdout\n{}--- stderr\n{}", text(&output.stdout), text(&output.stderr))
}

fn anywhere(arguments: &[&str]) -> String {
    run(tempfile::tempdir().unwrap().path(), arguments)
}

/// A folder with an image definition, and packs.
fn project(definition: &str, packs: &[(&str, &str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: String, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("images/a.yaml".into(), definition);
    for (name, json, values) in packs {
        write(format!("packs/{name}/pack.json"), json);
        write(format!("packs/{name}/values.yaml"), values);
    }
    dir
}

const DEFINITION: &str = "\
name: a
packs: [os-1.0.0]
disk: {size: 4 GiB}
hardware: {cpus: 2, memory: 4 GiB, version: vmx-15, guestOs: other, firmware: efi}
outputs: [ova]
ova: {product: p, vendor: v, annotation: a}
";

#[test]
fn help() {
    insta::assert_snapshot!(anywhere(&["--help"]));
}

#[test]
fn help_of_build() {
    insta::assert_snapshot!(anywhere(&["build", "--help"]));
}

#[test]
fn version() {
    insta::assert_snapshot!(anywhere(&["--version"]));
}

#[test]
fn no_such_command() {
    insta::assert_snapshot!(anywhere(&["bulid"]));
}

#[test]
fn no_such_definition() {
    insta::assert_snapshot!(anywhere(&["build", "images/none.yaml"]));
}

#[test]
fn definition_with_a_mistake() {
    let dir = project(&DEFINITION.replace("cpus: 2", "cpu: 2"), &[]);
    insta::assert_snapshot!(run(dir.path(), &["build", "images/a.yaml"]));
}

#[test]
fn definition_with_a_wrong_value() {
    let dir = project(&DEFINITION.replace("4 GiB}\nhardware", "4 GB}\nhardware"), &[]);
    insta::assert_snapshot!(run(dir.path(), &["build", "images/a.yaml"]));
}

#[test]
fn no_such_pack() {
    let dir = project(DEFINITION, &[]);
    insta::assert_snapshot!(run(dir.path(), &["build", "images/a.yaml"]));
}

#[test]
fn pack_without_an_archive() {
    let dir = project(DEFINITION, &[("os-1.0.0", r#"{"name":"os","version":"1.0.0","layer":"os"}"#, "")]);
    insta::assert_snapshot!(run(dir.path(), &["build", "images/a.yaml"]));
}

#[test]
fn artifact_that_is_not_built() {
    let values = "pack: {archive: {suite: s, components: [main], architecture: amd64, keyring: k}}";
    let definition = format!("{DEFINITION}artifacts: {{daemon: ../target/daemon}}\n");
    let dir =
        project(&definition, &[("os-1.0.0", r#"{"name":"os","version":"1.0.0","layer":"os"}"#, values)]);
    insta::assert_snapshot!(run(dir.path(), &["build", "images/a.yaml"]));
}

#[test]
fn configuration_with_a_mistake() {
    let dir = project(DEFINITION, &[]);
    std::fs::create_dir_all(dir.path().join(".config/gatewright")).unwrap();
    std::fs::write(dir.path().join(".config/gatewright/config.yaml"), "mirror: x\n").unwrap();
    insta::assert_snapshot!(run(dir.path(), &["build", "images/a.yaml"]));
}

#[test]
fn completion_for_every_shell() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = gatewright(home.path()).args(["completion", shell]).output().unwrap();
        assert!(
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains("upgrade"),
            "{shell}"
        );
    }
}

#[test]
fn doctor_in_json() {
    let home = tempfile::tempdir().unwrap();
    let output = gatewright(home.path()).args(["doctor", "--json"]).output().unwrap();
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = findings.as_array().unwrap();
    assert_eq!(findings.len(), 5);
    let all_well = findings.iter().all(|finding| finding["ok"] == true);
    assert_eq!(output.status.code(), Some(if all_well { 0 } else { 1 }));
    assert!(findings.iter().all(|finding| finding["ok"] == true || finding["hint"].is_string()));
}

#[test]
fn help_of_ova_and_disk() {
    for (name, arguments) in [
        ("ova", &["ova", "--help"][..]),
        ("ova_pack", &["ova", "pack", "--help"]),
        ("ova_unpack", &["ova", "unpack", "--help"]),
        ("ova_verify", &["ova", "verify", "--help"]),
        ("ova_sign", &["ova", "sign", "--help"]),
        ("disk_convert", &["disk", "convert", "--help"]),
    ] {
        insta::assert_snapshot!(format!("help_of_{name}"), anywhere(arguments));
    }
}

const DESCRIPTOR: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
    xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
    xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
    xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References><File ovf:id="file1" ovf:href="small.vmdk" ovf:size="SIZE"/></References>
  <DiskSection><Info>Disks</Info>
    <Disk ovf:diskId="disk1" ovf:fileRef="file1" ovf:capacity="1048576" ovf:capacityAllocationUnits="byte"
        ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <NetworkSection><Info>Networks</Info><Network ovf:name="LAN"><Description>Any.</Description></Network></NetworkSection>
  <VirtualSystem ovf:id="small"><Info>A machine</Info><Name>small</Name>
    <OperatingSystemSection ovf:id="96" vmw:osType="debian10_64Guest"><Info>Guest</Info></OperatingSystemSection>
    <VirtualHardwareSection ovf:transport="com.vmware.guestInfo"><Info>Hardware</Info>
      <System><vssd:ElementName>H</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>small</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-15</vssd:VirtualSystemType></System>
      <Item><rasd:ElementName>CPU</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID>
        <rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
      <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ElementName>Memory</rasd:ElementName>
        <rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType>
        <rasd:VirtualQuantity>512</rasd:VirtualQuantity></Item>
      <Item><rasd:ElementName>SCSI</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID>
        <rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
      <Item><rasd:ElementName>Disk</rasd:ElementName><rasd:HostResource>ovf:/disk/disk1</rasd:HostResource>
        <rasd:InstanceID>4</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="bios"/>
    </VirtualHardwareSection>
    <ProductSection ovf:class="net"><Info>Product</Info><Product>Small</Product><Version>1</Version>
      <Category>Network</Category>
      <Property ovf:key="address" ovf:type="string" ovf:userConfigurable="true" ovf:value="">
        <Label>Address</Label><Description>Blank for DHCP.</Description></Property>
    </ProductSection>
  </VirtualSystem>
</Envelope>
"#;

/// A disk, its VMDK and a descriptor of it.
fn package() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let disk: Vec<u8> = (0..1 << 20).map(|n: u32| (n / 4096) as u8).collect();
    std::fs::write(home.path().join("small.raw"), disk).unwrap();
    assert!(
        run(home.path(), &["disk", "convert", "-q", "small.raw", "small.vmdk"]).starts_with("exit code 0")
    );
    let size = std::fs::metadata(home.path().join("small.vmdk")).unwrap().len();
    std::fs::write(home.path().join("small.ovf"), DESCRIPTOR.replace("SIZE", &size.to_string())).unwrap();
    home
}

#[test]
fn an_ova_there_and_back() {
    let home = package();
    let home = home.path();
    insta::assert_snapshot!("ova_packed", run(home, &["ova", "pack", "small.ovf"]));
    insta::assert_snapshot!("ova_verified", run(home, &["ova", "verify", "small.ova"]));
    insta::assert_snapshot!("ova_inspected", run(home, &["ova", "inspect", "small.ova"]));
    insta::assert_snapshot!("ova_unpacked", run(home, &["ova", "unpack", "small.ova", "-d", "out"]));
    for name in ["small.ovf", "small.vmdk"] {
        let read = |path: std::path::PathBuf| std::fs::read(path).unwrap();
        assert!(read(home.join(name)) == read(home.join("out").join(name)), "{name} came back another");
    }
    // The same bytes again, also through a pipe.
    let piped = gatewright(home).args(["ova", "pack", "small.ovf", "-o", "-"]).output().unwrap();
    assert!(piped.stdout == std::fs::read(home.join("small.ova")).unwrap());
    insta::assert_snapshot!("ova_is_there", run(home, &["ova", "pack", "small.ovf"]));
    insta::assert_snapshot!("files_are_there", run(home, &["ova", "unpack", "small.ova", "-d", "out"]));
    insta::assert_snapshot!(
        "too_large",
        run(home, &["ova", "unpack", "small.ova", "-d", "less", "--max-size", "1 KiB"])
    );
    assert!(
        std::fs::read_dir(home.join("less")).map_or(0, Iterator::count) == 0,
        "something was left behind"
    );
}

#[test]
fn an_ova_is_signed() {
    let home = package();
    let home = home.path();
    let openssl = Command::new("openssl")
        .current_dir(home)
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"])
        .args(["-subj", "/CN=Builder", "-addext", "basicConstraints=critical,CA:FALSE"])
        .output()
        .unwrap();
    assert!(openssl.status.success(), "{}", String::from_utf8_lossy(&openssl.stderr));
    run(home, &["ova", "pack", "small.ovf"]);
    let sign = ["ova", "sign", "small.ova", "--key", "key.pem", "--cert", "cert.pem"];
    insta::assert_snapshot!("ova_signed", run(home, &sign));
    let signed = std::fs::read(home.join("small.ova")).unwrap();
    let verified = run(home, &["ova", "verify", "small.ova", "--trust", "cert.pem"]);
    assert!(verified.starts_with("exit code 0") && verified.contains("pass  certificate"), "{verified}");
    let inspected = run(home, &["ova", "inspect", "small.ova"]);
    assert!(inspected.contains("by CN=Builder"), "{inspected}");
    run(home, &sign);
    assert!(std::fs::read(home.join("small.ova")).unwrap() == signed, "signed twice is signed once");
    insta::assert_snapshot!(
        "sign_without_certificate",
        run(home, &["ova", "sign", "small.ova", "--key", "key.pem"])
    );
}

#[test]
fn disks_are_converted() {
    let home = package();
    let home = home.path();
    for name in ["a.vmdk", "a.vhd", "a.qcow2", "a.raw"] {
        let converted = run(home, &["disk", "convert", "-q", "small.vmdk", name]);
        assert!(converted.starts_with("exit code 0"), "{name}: {converted}");
        let same =
            Command::new("qemu-img").current_dir(home).args(["compare", "small.raw", name]).output().unwrap();
        assert!(same.status.success(), "{name}: {}", String::from_utf8_lossy(&same.stdout));
    }
    for (name, arguments) in [
        ("convert_to_what", &["disk", "convert", "small.raw", "disk"][..]),
        ("convert_to_what_is_there", &["disk", "convert", "small.raw", "small.vmdk"]),
        ("convert_from_qcow2", &["disk", "convert", "a.qcow2", "b.vmdk"]),
        ("convert_from_nothing", &["disk", "convert", "none.raw", "b.vmdk"]),
    ] {
        insta::assert_snapshot!(name, run(home, arguments));
    }
}

#[test]
fn what_is_no_ova() {
    let home = package();
    let home = home.path();
    for (name, arguments) in [
        ("verify_a_disk", &["ova", "verify", "small.vmdk"][..]),
        ("inspect_nothing", &["ova", "inspect", "none.ova"]),
        ("skip_no_check", &["ova", "verify", "small.vmdk", "--skip", "moon"]),
        ("pack_a_disk", &["ova", "pack", "small.vmdk"]),
    ] {
        insta::assert_snapshot!(name, run(home, arguments));
    }
    std::fs::remove_file(home.join("small.vmdk")).unwrap();
    insta::assert_snapshot!("pack_without_the_disk", run(home, &["ova", "pack", "small.ovf"]));
}

#[test]
fn help_of_locks_packs_and_images() {
    for command in [&["lock"][..], &["signature"], &["pack"], &["pack", "show"], &["image", "gc"]] {
        insta::assert_snapshot!(command.join("_"), anywhere(&[command, &["--help"]].concat()));
    }
}

const OS: (&str, &str, &str) = (
    "os-1.0.0",
    r#"{"name":"os","version":"1.0.0","layer":"os"}"#,
    "pack: {archive: {suite: s, components: [main], architecture: amd64, keyring: k}}\nkubeadmconfig:\n  preKubeadmCommands: [one]\n",
);

#[test]
fn values_of_an_image() {
    let values = "pack: {content: {images: []}}\nansibleRoles:\n  r: {place: '{{ .spectro.var.Region | default \"eu\" }}', level: 1}\nkubeadmconfig:\n  preKubeadmCommands: [two]\n";
    let definition = DEFINITION.replace(
        "packs: [os-1.0.0]",
        "packs:\n  - pack: k-2.1.x\n    values: {ansibleRoles: {r: {level: 2}}}\n  - os-1.0.0",
    );
    let pack = |version: &str| format!(r#"{{"name":"k","version":"{version}","layer":"k8s"}}"#);
    let (old, new) = (pack("2.1.9"), pack("2.1.10"));
    let dir = project(&definition, &[OS, ("k-2.1.9", &old, values), ("k-2.1.10", &new, values)]);
    insta::assert_snapshot!(run(dir.path(), &["pack", "show", "images/a.yaml", "--var", "Region=us"]));
}

#[test]
fn packs_that_do_not_go_together() {
    let needs = r#"{"name":"a","version":"1.0.0","layer":"addon","constraints":{"dependencies":[
        {"packName":"os","layer":"os","type":"required","minVersion":"2.0"},
        {"packName":"cni","layer":"cni","type":"required"}]}}"#;
    let definition = DEFINITION.replace("[os-1.0.0]", "[os-1.0.0, a-1.0.0]");
    let dir = project(&definition, &[OS, ("a-1.0.0", needs, "")]);
    insta::assert_snapshot!(run(dir.path(), &["build", "images/a.yaml"]));
}

#[test]
fn a_signature_needs_a_lock() {
    let dir = project(DEFINITION, &[OS]);
    std::fs::write(dir.path().join("packs/os-1.0.0/k"), "keys").unwrap();
    insta::assert_snapshot!(run(dir.path(), &["signature", "images/a.yaml"]));
}

#[test]
fn an_empty_store() {
    insta::assert_snapshot!(anywhere(&["image", "show", "abc"]));
}
