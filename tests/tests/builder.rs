//! The builder as its users meet it: what it makes, and how it ends when something is wrong.
//!
//! Builds use the package cache and the layers that `make test` has filled; a failing one leaves nothing in either.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use gatewright_tests::figures::Timed;
use gatewright_tests::prerequisites::{self, Host, needed};
use gatewright_tests::process::{self, kill_hard};
use gatewright_tests::project::{Project, names, result, running, stderr};
use gatewright_tests::run::Run;
use gatewright_tests::vcenter;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

#[test]
fn a_failing_role_ends_with_its_log() {
    let _timed = Timed::new("a_failing_role_ends_with_its_log");
    let Some(project) = Project::new("a_failing_role_ends_with_its_log") else { return };
    project.set_tasks("- name: Break it\n  ansible.builtin.command: sh -c 'echo the reason >&2; exit 3'\n");
    let output = project.command().output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("error: Step `roles` failed: `ansible-playbook` ended with")
            && text.contains("the reason"),
        "{text}"
    );
    let log = text.lines().find_map(|line| line.trim().strip_prefix("log: ")).expect("the log's path");
    assert!(fs::read_to_string(log).unwrap().contains("Break it"));
    assert_eq!(text.matches("error:").count(), 1, "one error: {text}");
    project.assert_clean();
}

#[test]
fn a_role_must_not_set_a_password() {
    let _timed = Timed::new("a_role_must_not_set_a_password");
    let Some(project) = Project::new("a_role_must_not_set_a_password") else { return };
    project.set_tasks("- ansible.builtin.command: sh -c 'echo root:secret | chpasswd'\n");
    let output = project.command().output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("The user `root` has a password"), "{}", stderr(&output));
    project.assert_clean();
}

#[test]
fn ctrl_c_leaves_nothing() {
    let _timed = Timed::new("ctrl_c_leaves_nothing");
    let Some(project) = Project::new("ctrl_c_leaves_nothing") else { return };
    // Unlike any other sleep on this machine.
    project.set_tasks("- ansible.builtin.command: sleep 98765\n");
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let build = project.command().stderr(Stdio::piped()).spawn().unwrap();
        process::wait_for("running role", Duration::from_secs(120), || Ok(running("sleep\098765").pop()))
            .unwrap();
        kill(Pid::from_raw(build.id().try_into().unwrap()), signal).unwrap();
        let output = build.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(stderr(&output).contains("error: Interrupted; nothing was left behind"));
        assert_eq!(running("sleep\098765"), Vec::<u32>::new());
        project.assert_clean();
    }
    // Not even time to clean up: the processes die all the same, and the next build removes the rest.
    let mut build = project.command().stderr(Stdio::null()).spawn().unwrap();
    process::wait_for("running role", Duration::from_secs(120), || Ok(running("sleep\098765").pop()))
        .unwrap();
    kill_hard(build.id());
    build.wait().unwrap();
    process::wait_for("end of the role", Duration::from_secs(5), || {
        Ok(running("sleep\098765").is_empty().then_some(()))
    })
    .unwrap();
    project.set_tasks("- ansible.builtin.command: \"false\"\n");
    assert_eq!(project.command().output().unwrap().status.code(), Some(2));
    project.assert_clean();
}

#[test]
fn a_dead_mirror_is_named() {
    let _timed = Timed::new("a_dead_mirror_is_named");
    let Some(project) = Project::new("a_dead_mirror_is_named") else { return };
    let cache = project.dir.join("cache");
    fs::remove_file(project.dir.join("images/gatewright.lock")).unwrap();
    // The discard port: nobody listens there.
    let output = Command::new(&project.program)
        .current_dir(&project.dir)
        .args(["build", "images/installer.yaml", "--locked=false", "--out-dir", "out"])
        .args(["--mirror", "http://127.0.0.1:9/debian"])
        .arg("--cache-dir")
        .arg(&cache)
        .output()
        .unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("Step `index` failed") && text.contains("127.0.0.1:9"), "{text}");
    assert!(text.contains("hint: the package archive did not answer"), "{text}");
    assert_eq!(names(&cache.join("tmp")), Vec::<String>::new());
    project.assert_clean();
}

#[test]
fn a_full_disk_is_named() {
    let _timed = Timed::new("a_full_disk_is_named");
    let Some(project) = Project::new("a_full_disk_is_named") else { return };
    // 16 MiB for the output; the mount goes with its namespace, so what is left is listed inside.
    let script = "mount -t tmpfs -o size=16m tmpfs out && \"$@\"; code=$?; ls -A out >&2; exit $code";
    fs::create_dir(project.dir.join("out")).unwrap();
    let build = project.command();
    let output = Command::new("unshare")
        .current_dir(&project.dir)
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(build.get_program())
        .args(build.get_args())
        .output()
        .unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("No space left on device"), "{text}");
    assert!(
        text.ends_with("hint: free some space, or name another folder with `--cache-dir` and `--out-dir`\n"),
        "{text}"
    );
    project.assert_clean();
}

#[test]
fn only_what_changed_is_made_again() {
    let _timed = Timed::new("only_what_changed_is_made_again");
    let Some(project) = Project::new("only_what_changed_is_made_again") else { return };
    let cached = |result: &Value| {
        ["tools", "packages", "roles"].map(|layer| result["layers"][layer]["cached"].as_bool().unwrap())
    };
    let first = result(&project.command().output().unwrap());
    assert_eq!(cached(&first), [true, true, true]);
    // A file for people is no change at all.
    fs::write(project.dir.join("packs/firstboot-0.1.0/README.md"), "other words").unwrap();
    let second = result(&project.command().output().unwrap());
    assert_eq!((second["unchanged"].as_bool(), &second["signature"]), (Some(true), &first["signature"]));
    let tasks = project.dir.join("packs/firstboot-0.1.0/firstboot/tasks/main.yml");
    let text = fs::read_to_string(&tasks).unwrap();
    fs::write(&tasks, format!("{text}\n- ansible.builtin.copy: {{content: x, dest: /etc/new-file}}\n"))
        .unwrap();
    let third = result(&project.command().output().unwrap());
    assert_eq!(cached(&third), [true, true, false]);
    assert_ne!(third["signature"], first["signature"]);
    // Back again: the layer is still there, and the bytes are the same.
    fs::write(&tasks, text).unwrap();
    let last = result(&project.command().output().unwrap());
    assert_eq!(cached(&last), [true, true, true]);
    assert_eq!(last["outputs"][0]["sha256"], first["outputs"][0]["sha256"]);
    fs::remove_file(third["layers"]["roles"]["path"].as_str().unwrap()).unwrap();
}

#[test]
fn every_output_is_the_same_disk() {
    let _timed = Timed::new("every_output_is_the_same_disk");
    let Some(project) = Project::new("every_output_is_the_same_disk") else { return };
    let definition = project.dir.join("images/installer.yaml");
    let text = fs::read_to_string(&definition).unwrap();
    let changed = text
        .replace("outputs: [ova]", "outputs: [raw, vmdk, vhd, vhd-fixed, qcow2]")
        .replace("size: 20 GiB", "size: 2 GiB");
    fs::write(&definition, changed).unwrap();
    let built = result(&project.command().output().unwrap());
    let paths: Vec<&str> =
        built["outputs"].as_array().unwrap().iter().map(|output| output["path"].as_str().unwrap()).collect();
    assert_eq!(paths.len(), 5);
    for path in &paths[1..] {
        // A fixed VHD begins as a raw disk does, so that its format has to be told.
        let format = if path.ends_with(".vhd") { "vpc" } else { path.rsplit('.').next().unwrap() };
        process::output(
            Command::new("qemu-img").args(["compare", "-q", "-f", "raw", "-F", format, paths[0], path]),
        )
        .unwrap();
    }
    fs::remove_file(built["layers"]["roles"]["path"].as_str().unwrap()).unwrap();
}

#[test]
fn a_build_is_signed() {
    let _timed = Timed::new("a_build_is_signed");
    let Some(project) = Project::new("a_build_is_signed") else { return };
    process::output(Command::new("openssl").current_dir(&project.dir).args([
        "req",
        "-x509",
        "-newkey",
        "rsa:3072",
        "-nodes",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
        "-subj",
        "/CN=Builder",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]))
    .unwrap();
    let unsigned = result(&project.command().output().unwrap());
    let signed =
        result(&project.command().args(["--key", "key.pem", "--cert", "cert.pem"]).output().unwrap());
    assert_ne!(signed["outputs"][0]["sha256"], unsigned["outputs"][0]["sha256"]);
    let ova = signed["outputs"][0]["path"].as_str().unwrap();
    let verify = |trust: &[&str]| {
        let mut command = Command::new(&project.program);
        command.current_dir(&project.dir).args(["ova", "verify", "-q", ova]).args(trust).output().unwrap()
    };
    assert!(verify(&["--trust", "cert.pem"]).status.success());
    process::output(Command::new("openssl").current_dir(&project.dir).args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "/dev/null",
        "-out",
        "other.pem",
        "-subj",
        "/CN=Other",
    ]))
    .unwrap();
    assert_eq!(verify(&["--trust", "other.pem"]).status.code(), Some(1), "a stranger's signature");
}

#[test]
fn the_tree_is_sealed() {
    let _timed = Timed::new("the_tree_is_sealed");
    let Some(image) = prerequisites::image("the_tree_is_sealed", Host::Fabric) else { return };
    let mut archive = tar::Archive::new(fs::File::open(image.tree_archive()).unwrap());
    let mut sizes = BTreeMap::new();
    let mut texts = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        if ["./etc/shadow", "./etc/gatewright-release", "./etc/apt/sources.list.d/debian.sources"]
            .contains(&path.as_str())
        {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
            texts.insert(path.clone(), text);
        }
        sizes.insert(path, entry.header().entry_type().is_file().then_some(entry.size()));
    }
    assert_eq!(sizes["./etc/machine-id"], Some(0));
    assert!(texts["./etc/gatewright-release"].contains(&format!("SIGNATURE={}", image.signature())));
    assert!(
        texts["./etc/shadow"].lines().all(|line| line.split(':').nth(1).unwrap().starts_with(['!', '*']))
    );
    for absent in [
        "./etc/ssh/ssh_host_ed25519_key",
        "./etc/hostname",
        "./var/lib/systemd/random-seed",
        "./usr/sbin/policy-rc.d",
        "./etc/apt/sources.list",
        "./etc/.resolv.conf.systemd-resolved.bak",
        "./usr/bin/python3",
        "./usr/bin/cloud-init",
    ] {
        assert!(!sizes.contains_key(absent), "{absent}");
    }
    for empty in [
        "./var/cache/apt/",
        "./var/lib/apt/lists/",
        "./tmp/",
        "./var/tmp/",
        "./root/",
        "./dev/",
        "./run/",
        "./proc/",
    ] {
        let inside: Vec<_> = sizes.keys().filter(|path| path.starts_with(empty) && *path != empty).collect();
        assert!(inside.is_empty(), "{inside:?}");
    }
    let logs: Vec<_> =
        sizes.iter().filter(|(path, size)| path.starts_with("./var/log/") && size.is_some()).collect();
    assert!(logs.is_empty(), "{logs:?}");
    for present in [
        "./usr/bin/gatewright-firstboot",
        "./usr/sbin/chronyd",
        "./usr/sbin/sshd",
        "./usr/bin/sudo",
        "./usr/bin/vmtoolsd",
        "./usr/bin/vmware-rpctool",
        "./etc/ssl/certs/ca-certificates.crt",
        "./usr/lib/systemd/systemd-networkd",
        "./usr/lib/systemd/systemd-resolved",
    ] {
        assert!(sizes.contains_key(present), "{present}");
    }
}

#[test]
fn other_tools_accept_the_ova() {
    let _timed = Timed::new("other_tools_accept_the_ova");
    let Some(image) = prerequisites::image("other_tools_accept_the_ova", Host::Fabric) else { return };
    let run = Run::current().unwrap();
    let dir = run.folder("other_tools").unwrap();
    let ova = image.ova().unwrap();
    let listing = process::output(Command::new("tar").arg("-tvf").arg(ova)).unwrap();
    let names: Vec<_> = listing.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(
        names,
        ["gatewright-installer.ovf", "gatewright-installer.mf", "gatewright-installer-disk1.vmdk"]
    );
    process::output(Command::new("tar").arg("-xf").arg(ova).arg("-C").arg(&dir)).unwrap();
    // The manifest, by a tool that knows its form.
    process::output(Command::new("sha256sum").current_dir(&dir).args([
        "--check",
        "--strict",
        "gatewright-installer.mf",
    ]))
    .unwrap();
    let vmdk = dir.join("gatewright-installer-disk1.vmdk");
    let info = process::output(Command::new("qemu-img").args(["info", "--output=json"]).arg(&vmdk)).unwrap();
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["virtual-size"], 20_u64 << 30);
    assert_eq!(info["format-specific"]["data"]["create-type"], "streamOptimized");
    let info = process::output(Command::new("vmdkinfo").arg(&vmdk)).unwrap();
    assert!(info.contains("Stream optimized"), "{info}");

    if needed("other_tools_accept_the_ova, govc", vcenter::check_go()).is_none() {
        return;
    }
    let govc = vcenter::go_program("govc").unwrap();
    // It wants an address, which it does not use here.
    let spec = process::output(Command::new(govc).env("GOVC_URL", "127.0.0.1:9").arg("import.spec").arg(ova))
        .unwrap();
    let spec: Value = serde_json::from_str(&spec).unwrap();
    let keys: Vec<_> =
        spec["PropertyMapping"].as_array().unwrap().iter().map(|p| p["Key"].as_str().unwrap()).collect();
    assert_eq!(keys.len(), 16, "{keys:?}");
    assert!(keys.contains(&"pairing-code") && keys.contains(&"service-cidr"));
}
