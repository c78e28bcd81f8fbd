//! The OVA in a vCenter: imported by the clients that administrators use, and looked at afterwards.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use gatewright_tests::console::Console;
use gatewright_tests::figures::{Timed, record, say};
use gatewright_tests::image::Image;
use gatewright_tests::machine::gateway;
use gatewright_tests::prerequisites;
use gatewright_tests::process;
use gatewright_tests::vcenter::{self, Card, Disk, PORT_GROUP, Vcenter};
use serde_json::{Value, json};

const NETWORK: &str = "VM Network";
const MACHINE: &str = "edge-01";

/// The options that `govc import.spec` makes, filled in: a value for every property, of characters that XML, SOAP and
/// JSON have to write in another way.
fn options(vcenter: &Vcenter, ova: &Path) -> Result<(Value, BTreeMap<String, String>)> {
    let said = process::output(vcenter.govc()?.arg("import.spec").arg(ova))?;
    let mut options: Value = serde_json::from_str(&said)?;
    options["Name"] = json!(MACHINE);
    options["DiskProvisioning"] = json!("thin");
    let mut values = BTreeMap::new();
    for property in options["PropertyMapping"].as_array_mut().context("no PropertyMapping")? {
        let key = property["Key"].as_str().context("a property without a key")?.to_owned();
        let value = format!("{key}: <\"{}\"> & 'Zürich'", values.len());
        property["Value"] = json!(value);
        values.insert(key, value);
    }
    let networks = options["NetworkMapping"].as_array_mut().context("no NetworkMapping")?;
    ensure!(networks.len() == 1 && networks[0]["Name"] == NETWORK, "the networks are {networks:?}");
    networks[0]["Network"] = json!(PORT_GROUP);
    Ok((options, values))
}

#[test]
fn govc_imports_the_ova() {
    imports("vcenter::govc", vcenter::check_go(), |vcenter, ova, options, _| {
        let file = vcenter.folder().join("options.json");
        fs::write(&file, options.to_string())?;
        // -m: what has come is compared with the manifest.
        let mut import = vcenter.govc()?;
        process::output(import.args(["import.ova", "-m", "-options"]).arg(&file).arg(ova))?;
        fs::remove_file(file)?;
        Ok(())
    });
}

/// What the console's page offers to download, with the command that it shows.
#[test]
fn the_consoles_options_are_govcs() {
    let test = "vcenter::console";
    let needs = vcenter::check_go().and_then(|()| Image::from_environment());
    let Some(image) = prerequisites::needed(test, needs) else { return };
    let _timed = Timed::new(test);
    let vcenter = Vcenter::start().unwrap();
    let console = Console::start().unwrap();
    let (id, code) = gateway(&console, MACHINE, &json!({})).unwrap();
    let offered = console.api().unwrap().get(&format!("/gateways/{id}/import.json")).unwrap();
    let mut options = offered.expect(200).unwrap();
    // What the page says has to be set where it is another.
    assert_eq!(options["NetworkMapping"], json!([{ "Name": NETWORK, "Network": NETWORK }]));
    options["NetworkMapping"][0]["Network"] = json!(PORT_GROUP);
    let file = vcenter.folder().join("options.json");
    fs::write(&file, options.to_string()).unwrap();
    let mut import = vcenter.govc().unwrap();
    import.args(["import.ova", "-name", MACHINE, "-options"]).arg(&file).arg(image.ova().unwrap());
    process::output(&mut import).unwrap_or_else(|error| panic!("{error:#}\n{}", vcenter.log()));
    assert_eq!(vcenter.complaints().unwrap(), <[String; 0]>::default());
    let machines = vcenter.machines().unwrap();
    let [machine] = machines.as_slice() else { panic!("one machine is expected, here are {machines:?}") };
    assert_eq!(machine.name, MACHINE);
    let values: BTreeMap<_, _> =
        machine.properties.iter().map(|p| (p.key.as_str(), p.value.as_str())).collect();
    assert_eq!(values["gateway-name"], MACHINE);
    assert_eq!(values["console-endpoint"], console.said().url);
    assert_eq!(values["pairing-code"], code.expose().expose());
    let other = machine.properties.iter().find(|p| p.key == "pod-cidr").unwrap();
    assert_eq!((other.value.as_str(), other.default.as_str()), ("", "192.168.0.0/16"), "the default holds");
    fs::remove_file(file).unwrap();
    vcenter.stop().unwrap();
}

#[test]
fn pyvmomi_imports_the_ova() {
    let needs = vcenter::check_go().and_then(|()| vcenter::check_python());
    imports("vcenter::pyvmomi", needs, |vcenter, ova, _, values| {
        let networks = BTreeMap::from([(NETWORK.to_owned(), PORT_GROUP.to_owned())]);
        vcenter.import_with_pyvmomi(ova, MACHINE, &networks, values)
    });
}

/// A disk without its end is what most imports fail of. The client aborts, and the machine it had begun is gone.
#[test]
fn a_broken_ova_leaves_no_machine() {
    let test = "vcenter::broken";
    let needs = vcenter::check_go().and_then(|()| Image::from_environment());
    let Some(image) = prerequisites::needed(test, needs) else { return };
    let _timed = Timed::new(test);
    let vcenter = Vcenter::start().unwrap();
    let ova = vcenter.folder().join("broken.ova");
    fs::copy(image.ova().unwrap(), &ova).unwrap();
    let vmdk = vmdk(&ova).unwrap();
    let broken = File::options().write(true).open(&ova).unwrap();
    broken.write_all_at(b"not the end", vmdk.end - 512).unwrap();
    let said = process::output(vcenter.govc().unwrap().arg("import.ova").arg(&ova)).unwrap_err();
    assert!(said.to_string().contains("500"), "{said:#}");
    let complaints = vcenter.complaints().unwrap();
    assert!(complaints.len() == 1 && complaints[0].contains("end-of-stream"), "{complaints:?}");
    assert_eq!(vcenter.calls().unwrap().get("HttpNfcLeaseAbort"), Some(&1));
    assert_eq!(vcenter.machines().unwrap(), []);
    fs::remove_file(ova).unwrap();
    vcenter.stop().unwrap();
}

/// The program's own tests: what it refuses, complains about, undoes and survives.
#[test]
fn the_vcenter_is_strict() {
    let test = "vcenter::strict";
    if prerequisites::needed(test, vcenter::check_go()).is_none() {
        return;
    }
    let _timed = Timed::new(test);
    process::output(vcenter::go("vcenter").args(["test", "-trimpath", "."])).unwrap();
}

/// Imports the image's OVA and looks at what has become of it.
fn imports(
    test: &'static str,
    needs: Result<()>,
    import: impl FnOnce(&Vcenter, &Path, &Value, &BTreeMap<String, String>) -> Result<()>,
) {
    let Some(image) = prerequisites::needed(test, needs.and_then(|()| Image::from_environment())) else {
        return;
    };
    let _timed = Timed::new(test);
    let ova = image.ova().unwrap();
    let vcenter = Vcenter::start().unwrap();
    let (options, values) = options(&vcenter, ova).unwrap();
    let start = Instant::now();
    let done = import(&vcenter, ova, &options, &values)
        .inspect(|()| {
            let seconds = start.elapsed().as_secs_f64();
            say(&format!("  {test}: the import took {seconds:.1} s"));
            record(&json!({ "test": test, "import_seconds": seconds }));
        })
        .and_then(|()| is_right(&vcenter, ova, &options, &values));
    if let Err(error) = done {
        panic!("{error:#}\n{}", vcenter.log());
    }
    vcenter.stop().unwrap();
}

fn is_right(vcenter: &Vcenter, ova: &Path, options: &Value, values: &BTreeMap<String, String>) -> Result<()> {
    let complaints = vcenter.complaints()?;
    ensure!(complaints.is_empty(), "a real vCenter would complain: {complaints:?}");
    let calls = vcenter.calls()?;
    ensure!(calls.get("HttpNfcLeaseComplete") == Some(&1), "the calls are {calls:?}");
    let machines = vcenter.machines()?;
    let [machine] = machines.as_slice() else { bail!("one machine is expected, here are {machines:?}") };

    assert_eq!(machine.name, MACHINE);
    assert_eq!(machine.hardware, "vmx-15");
    assert_eq!((machine.firmware.as_str(), machine.secure_boot), ("efi", true));
    assert_eq!(machine.transports, ["com.vmware.guestInfo", "iso"]);
    assert_eq!((machine.cpus, machine.memory_mib), (2, 4096));
    assert!(machine.annotation.len() > 20, "{:?}", machine.annotation);
    assert_eq!(machine.annotation, options["Annotation"]);
    assert_eq!(machine.extra_config, BTreeMap::new());
    assert_eq!(
        machine.networks,
        [Card { adapter: "VirtualVmxnet3".into(), network: PORT_GROUP.into(), slot: 192 }]
    );
    let controller = "ParaVirtualSCSIController".to_owned();
    assert_eq!(machine.disks, [Disk { capacity: 20 << 30, controller, unit: 0, thin: true, slot: 160 }]);

    let arrived: BTreeMap<_, _> =
        machine.properties.iter().map(|p| (p.key.clone(), p.value.clone())).collect();
    assert_eq!(&arrived, values);
    let property = |key: &str| machine.properties.iter().find(|p| p.key == key).unwrap();
    assert_eq!(property("pairing-code").kind, "password");
    assert_eq!(property("pod-cidr").default, "192.168.0.0/16");
    assert_eq!(property("ip-address").category, "Network");

    let uploads = vcenter.uploads()?;
    let [upload] = uploads.as_slice() else { bail!("one upload is expected, here are {uploads:?}") };
    assert_eq!((upload.method.as_str(), upload.status), ("POST", 201));
    let vmdk = vmdk(ova)?;
    assert_eq!(upload.received, vmdk.end - vmdk.start);
    let mut shipped = File::open(ova)?;
    shipped.seek(SeekFrom::Start(vmdk.start))?;
    same_bytes(shipped.take(upload.received), File::open(&upload.path)?)
}

/// Where in the OVA the disk is.
fn vmdk(ova: &Path) -> Result<Range<u64>> {
    let mut archive = tar::Archive::new(File::open(ova)?);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        if entry.path()?.extension().is_some_and(|extension| extension == "vmdk") {
            let start = entry.raw_file_position();
            return Ok(start..start + entry.size());
        }
    }
    bail!("{} has no VMDK in it", ova.display())
}

fn same_bytes(left: impl Read, right: impl Read) -> Result<()> {
    let (mut left, mut right) =
        (BufReader::with_capacity(1 << 20, left), BufReader::with_capacity(1 << 20, right));
    let mut offset = 0;
    loop {
        let (one, other) = (left.fill_buf()?, right.fill_buf()?);
        let count = one.len().min(other.len());
        if count == 0 {
            ensure!(one.len() == other.len(), "the lengths differ after {offset} bytes");
            return Ok(());
        }
        ensure!(one[..count] == other[..count], "the bytes differ after {offset}");
        left.consume(count);
        right.consume(count);
        offset += count;
    }
}
