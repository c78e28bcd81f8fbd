//! Locks, signatures and the store: what makes an image the same wherever it is built, and only once.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Stdio};

use gatewright_tests::figures::{Timed, say};
use gatewright_tests::oci_layout;
use gatewright_tests::prerequisites::needed;
use gatewright_tests::process;
use gatewright_tests::project::{Project, names, result, stderr};
use gatewright_tests::registry::{self, Access, Server};
use serde_json::Value;

/// Every difference that two machines can have: user, folder, time, time zone, language, umask, number of processors,
/// network. The second has the lock and the files of it, no layers, no network and no other rights than subordinate ids.
#[test]
fn two_machines_make_the_same_bytes() {
    let _timed = Timed::new("two_machines_make_the_same_bytes");
    let Some(project) = Project::new("two_machines_make_the_same_bytes") else { return };
    if needed("two_machines_make_the_same_bytes", prerequisites()).is_none() {
        return;
    }
    let definition = project.dir.join("images/installer.yaml");
    let text = fs::read_to_string(&definition).unwrap();
    let text =
        text.replace("outputs: [ova]", "outputs: [ova, raw, vmdk]").replace("size: 20 GiB", "size: 2 GiB");
    fs::write(&definition, text).unwrap();
    let first = result(&project.command().output().unwrap());

    const ID: u32 = 54321;
    let home = project.dir.join("another home");
    let cache = home.join("cache");
    fs::create_dir_all(&cache).unwrap();
    for (from, to) in [
        (project.cache.join("files-v1"), &cache),
        (project.dir.join("packs"), &home),
        (project.dir.join("images"), &home),
        (project.dir.join("target"), &home),
        (project.program.clone(), &home),
    ] {
        process::output(Command::new("cp").arg("-r").arg(from).arg(to)).unwrap();
    }
    // A checkout by somebody whose files are nobody else's business, years ago.
    process::output(Command::new("chmod").args(["-R", "go-rwx"]).arg(&home)).unwrap();
    process::output(Command::new("find").arg(&home).args(["-exec", "touch", "-hd", "2001-02-03", "{}", "+"]))
        .unwrap();
    process::output(Command::new("chown").args(["-R", &format!("{ID}:{ID}")]).arg(&home)).unwrap();
    chown(&project.dir, Some(ID), Some(ID)).unwrap();
    // A user of this mount namespace only: the machine's own files stay as they are.
    let etc = project.dir.join("etc");
    fs::create_dir(&etc).unwrap();
    let with_line = |name: &str, line: &str| {
        let text = fs::read_to_string(Path::new("/etc").join(name)).unwrap_or_default();
        fs::write(etc.join(name), format!("{text}{line}\n")).unwrap();
    };
    with_line("passwd", &format!("gwtest:x:{ID}:{ID}::{}:/bin/sh", home.display()));
    with_line("group", &format!("gwtest:x:{ID}:"));
    with_line("subuid", "gwtest:700000:65536");
    with_line("subgid", "gwtest:700000:65536");
    let script = format!(
        "for f in passwd group subuid subgid; do [ -e /etc/$f ] || : > /etc/$f; mount --bind {}/$f /etc/$f; done; \
         umask 077; cd '{home}'; \
         exec setpriv --reuid={ID} --regid={ID} --clear-groups --inh-caps=-all -- \
           env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME='{home}' TZ=Pacific/Kiritimati LC_ALL=tr_TR.UTF-8 LANG=tr_TR.UTF-8 \
             GATEWRIGHT_CACHE_DIR='{home}/cache' \
             taskset 1 faketime '2031-05-06 07:08:09' ./gatewright \"$@\"",
        etc.display(),
        home = home.display(),
    );
    // Every folder above must let the user through.
    let mut above = project.dir.as_path();
    while let Some(parent) = above.parent() {
        if fs::metadata(parent)
            .is_ok_and(|meta| std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o001 == 0)
        {
            process::output(Command::new("chmod").arg("o+x").arg(parent)).unwrap();
        }
        above = parent;
    }
    // A network namespace without an interface that is up.
    let there = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "sh", "-c", &script, "sh"]).args(arguments);
        command.output().unwrap()
    };
    let signature = there(&["signature", "images/installer.yaml"]);
    assert!(signature.status.success(), "{}", stderr(&signature));
    assert_eq!(String::from_utf8_lossy(&signature.stdout).trim(), first["signature"].as_str().unwrap());
    let second = result(&there(&["build", "images/installer.yaml", "--json", "--offline", "--locked"]));
    say(&format!("a cold build offline, by an ordinary user, on one processor: {} s", second["seconds"]));
    // The other trees have logs in them, with the time of the day; sealing the last one takes them out.
    assert_eq!(second["layers"]["tools"]["cached"], false);
    assert_eq!(second["layers"]["roles"]["sha256"], first["layers"]["roles"]["sha256"]);
    let digests = |built: &Value| -> Vec<String> {
        built["outputs"].as_array().unwrap().iter().map(|output| output["sha256"].to_string()).collect()
    };
    assert_eq!(digests(&second).len(), 3);
    assert_eq!(digests(&second), digests(&first));
    fs::remove_file(first["layers"]["roles"]["path"].as_str().unwrap()).unwrap();
}

fn prerequisites() -> anyhow::Result<()> {
    gatewright_tests::prerequisites::programs(&[("faketime", "faketime"), ("taskset", "util-linux")])
}

/// The lock of a project, as text.
fn lock(project: &Project) -> String {
    fs::read_to_string(project.dir.join("images/gatewright.lock")).unwrap()
}

#[test]
fn a_stale_lock_is_refused_or_mended() {
    let _timed = Timed::new("a_stale_lock_is_refused_or_mended");
    let Some(project) = Project::new("a_stale_lock_is_refused_or_mended") else { return };
    let gatewright = |arguments: &[&str]| {
        let mut command = Command::new(&project.program);
        command.current_dir(&project.dir).args(arguments).arg("--cache-dir").arg(&project.cache);
        command.output().unwrap()
    };
    let before = lock(&project);
    assert!(gatewright(&["lock", "images/installer.yaml", "--check"]).status.success());
    let values = project.dir.join("packs/debian-13.0.0/values.yaml");
    let text = fs::read_to_string(&values).unwrap();
    fs::write(&values, text.replace("    - chrony\n", "    - chrony\n    - tree\n")).unwrap();
    let tasks = project.dir.join("packs/firstboot-0.1.0/firstboot/tasks/main.yml");
    fs::write(&tasks, format!("{}\n# other\n", fs::read_to_string(&tasks).unwrap())).unwrap();

    for command in
        [&["build", "images/installer.yaml", "--locked"][..], &["lock", "images/installer.yaml", "--check"]]
    {
        let output = gatewright(command);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("is stale") && text.contains("system.packages.tree: added"), "{text}");
        assert!(
            text.contains("firstboot-0.1.0.roles.firstboot: ") && text.contains("`gatewright lock`"),
            "{text}"
        );
    }
    // As a CI service runs it.
    let output = Command::new(&project.program)
        .current_dir(&project.dir)
        .env("CI", "true")
        .args(["build", "images/installer.yaml", "--cache-dir"])
        .arg(&project.cache)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(lock(&project), before, "what is refused changes nothing");

    // Mended: what was there keeps its version, what is new comes with what it needs.
    let output = gatewright(&["lock", "images/installer.yaml"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(text.contains("packages.tree.version: added") && text.lines().count() < 8, "{text}");
    let lines: Vec<String> = lock(&project).lines().map(String::from).collect();
    let lost = before.lines().filter(|line| !lines.iter().any(|other| other == line)).count();
    assert_eq!(lost, 1, "nothing but the role's digest is other than before");

    // And away again: a lock does not depend on how one came to it.
    fs::write(&values, fs::read_to_string(&values).unwrap().replace("    - tree\n", "")).unwrap();
    fs::write(&tasks, fs::read_to_string(&tasks).unwrap().replace("\n# other\n", "")).unwrap();
    assert!(gatewright(&["lock", "images/installer.yaml"]).status.success());
    assert_eq!(lock(&project), before);
}

#[test]
fn a_package_that_moved_is_named() {
    let _timed = Timed::new("a_package_that_moved_is_named");
    let Some(project) = Project::new("a_package_that_moved_is_named") else { return };
    // A version that the archive does not have, under a name that it does.
    let text = lock(&project);
    let image = text.find("  gatewright-installer:").unwrap();
    // Its last list is that of the image's own packages.
    let list = image + text[image..].find("\n    packages:").unwrap();
    let begin = list + text[list..].find("- name: zstd\n").unwrap();
    let end = begin + text[begin..].find("sha256: ").unwrap() + "sha256: ".len() + 64;
    let old = text[begin..end]
        .lines()
        .map(|line| match line.trim().split_once(": ").unwrap() {
            ("version", _) => "      version: 0.0.1-1".to_string(),
            ("path", _) => "      path: pool/main/z/zstd/zstd_0.0.1-1_amd64.deb".to_string(),
            ("sha256", _) => format!("      sha256: {}", "ab".repeat(32)),
            _ => line.to_string(),
        })
        .collect::<Vec<_>>()
        .join("\n");
    fs::write(project.dir.join("images/gatewright.lock"), format!("{}{old}{}", &text[..begin], &text[end..]))
        .unwrap();

    let output = project.command().output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("The archive no longer has what the lock names:"), "{text}");
    let line = text.lines().find(|line| line.contains("zstd 0.0.1-1 of trixie: ")).expect("the package");
    assert!(line.contains("the archive has 1.") && line.contains(" in trixie"), "{line}");
    assert!(text.contains("hint: `gatewright lock --upgrade`"), "{text}");
    project.assert_clean();

    let output = project.command().arg("--offline").output().unwrap();
    let text = stderr(&output);
    assert!(text.contains("The cache lacks zstd_0.0.1-1_amd64.deb, and `--offline`"), "{text}");
    project.assert_clean();
}

#[test]
fn the_same_image_is_built_once() {
    let _timed = Timed::new("the_same_image_is_built_once");
    let Some(project) = Project::new("the_same_image_is_built_once") else { return };
    let builds: Vec<_> = ["a", "b", "c"]
        .map(|folder| {
            let mut command = project.build_into(folder);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .into_iter()
        .map(|build| result(&build.wait_with_output().unwrap()))
        .collect();
    assert_eq!(builds.iter().filter(|built| built["stored"] == false).count(), 1, "{builds:?}");
    for folder in ["a", "b", "c"] {
        assert_eq!(names(&project.dir.join(folder)).len(), 2, "{folder}: the OVA and its short name");
    }

    // Broken on the disk: noticed, kept for whoever wonders, and built again.
    let signature = builds[0]["signature"].as_str().unwrap();
    let ova = builds[0]["outputs"][0]["path"].as_str().unwrap();
    let stored = project.dir.join("store").join(signature).join(Path::new(ova).file_name().unwrap());
    let mut bytes = fs::read(&stored).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&stored, bytes).unwrap();
    let output = project.build_into("d").output().unwrap();
    assert!(stderr(&output).contains("has changed on the disk"), "{}", stderr(&output));
    let again = result(&output);
    assert_eq!(
        (&again["stored"], &again["outputs"][0]["sha256"]),
        (&Value::Bool(false), &builds[0]["outputs"][0]["sha256"])
    );
    assert_eq!(names(&project.dir.join("store/set-aside")), [format!("{signature}-1")]);

    // What was delivered and then changed by its owner comes anew from the store.
    fs::write(project.dir.join("d").join(Path::new(ova).file_name().unwrap()), "mine").unwrap();
    let restored = result(&project.build_into("d").output().unwrap());
    assert_eq!((&restored["stored"], &restored["unchanged"]), (&Value::Bool(true), &Value::Bool(false)));
    assert!(result(&project.build_into("d").output().unwrap())["unchanged"] == true);
}

#[test]
fn a_registry_is_a_store() {
    let _timed = Timed::new("a_registry_is_a_store");
    let Some(project) = Project::new("a_registry_is_a_store") else { return };
    if needed("a_registry_is_a_store", registry::check()).is_none() {
        return;
    }
    let server = Server::start(Access::Open).unwrap();
    let store = format!("oci://{}/images", server.address());
    let gatewright = |arguments: &[&str]| {
        let mut command = Command::new(&project.program);
        command.current_dir(&project.dir).args(arguments);
        command
    };
    let built = result(&project.command().output().unwrap());
    let signature = built["signature"].as_str().unwrap();
    // Pushed from a cache whose store this is.
    let (here, there) = (project.dir.join("here"), project.dir.join("there"));
    fs::create_dir(&here).unwrap();
    fs::rename(project.dir.join("store"), here.join("images-v1")).unwrap();
    let push = |arguments: &[&str]| {
        gatewright(arguments).args(["--store", &store, "--cache-dir"]).arg(&here).output().unwrap()
    };
    let pushed = push(&["image", "push", &signature[..8]]);
    assert!(pushed.status.success(), "{}", stderr(&pushed));

    // As clients that are not ours see it.
    let address = format!("docker://{}/images:{signature}", server.address());
    let manifest: Value = serde_json::from_str(
        &registry::skopeo(&["inspect", "--tls-verify=false", "--raw", &address]).unwrap(),
    )
    .unwrap();
    assert_eq!(manifest["artifactType"], "application/vnd.gatewright.image.v1");
    let layer = &manifest["layers"][0];
    assert_eq!(layer["digest"], format!("sha256:{}", built["outputs"][0]["sha256"].as_str().unwrap()));

    // Another machine: nothing but the lock, and the registry.
    let fetched = |arguments: &[&str]| {
        let mut command =
            gatewright(&["build", "images/installer.yaml", "--json", "--locked", "--out-dir", "fetched"]);
        command.args(["--store", &store, "--cache-dir"]).arg(&there).args(arguments).output().unwrap()
    };
    let report = result(&fetched(&[]));
    assert_eq!((&report["stored"], &report["signature"]), (&Value::Bool(true), &built["signature"]));
    assert_eq!(report["outputs"][0]["sha256"], built["outputs"][0]["sha256"]);
    assert!(report["layers"].is_null(), "nothing was built");

    // A registry that lies is found out.
    let hex = layer["digest"].as_str().unwrap().trim_start_matches("sha256:").to_string();
    let blob = server.blob(&hex);
    let mut bytes = fs::read(&blob).unwrap();
    bytes[4711] ^= 1;
    fs::write(&blob, bytes).unwrap();
    fs::remove_dir_all(there.join("images-v1")).unwrap();
    let pulled = gatewright(&["image", "pull", signature, "--store", &store, "--cache-dir"])
        .arg(&there)
        .output()
        .unwrap();
    assert_eq!(pulled.status.code(), Some(1), "{}", stderr(&pulled));
    assert!(!there.join("images-v1").join(signature).exists());
    let left: Vec<_> =
        names(&there.join("images-v1")).into_iter().filter(|name| name.starts_with("pull-")).collect();
    assert_eq!(left, Vec::<String>::new());

    // Nothing is asked where nothing may be.
    let log = server.log().unwrap();
    let offline = fetched(&["--offline"]);
    assert_eq!(offline.status.code(), Some(1), "{}", stderr(&offline));
    assert!(stderr(&offline).contains("The cache lacks "), "{}", stderr(&offline));
    assert_eq!(server.log().unwrap(), log, "the registry was asked");
}

#[test]
fn what_changed_is_explained() {
    let _timed = Timed::new("what_changed_is_explained");
    let Some(project) = Project::new("what_changed_is_explained") else { return };
    let built = result(&project.command().output().unwrap());
    let gatewright = |arguments: &[&str]| {
        let mut command = Command::new(&project.program);
        command.current_dir(&project.dir).args(arguments).arg("--cache-dir").arg(&project.cache);
        let output = command.args(["--store", "store"]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let signature = built["signature"].as_str().unwrap();
    assert_eq!(gatewright(&["signature", "images/installer.yaml"]).trim(), signature);
    let ova = built["outputs"][0]["path"].as_str().unwrap();
    for same in [
        &["--explain"][..],
        &["--explain", &signature[..10]],
        &["--explain", ova],
        &["--explain", "images/gatewright.lock"],
    ] {
        let text = gatewright(&[&["signature", "images/installer.yaml"], same].concat());
        assert_eq!(text, format!("{signature}\nThe same as the image it is compared with\n"), "{same:?}");
    }
    fs::copy(project.dir.join("images/gatewright.lock"), project.dir.join("old.lock")).unwrap();
    let definition = project.dir.join("images/installer.yaml");
    fs::write(&definition, fs::read_to_string(&definition).unwrap().replace("cpus: 2", "cpus: 4")).unwrap();
    let text = gatewright(&["signature", "images/installer.yaml", "--explain"]);
    assert!(text.contains(&format!("was {signature}\n  image.hardware.cpus: 2 -> 4\n")), "{text}");

    // By means that are not ours: the digest of what `--inputs` prints, in canonical form.
    let inputs = gatewright(&["signature", "images/installer.yaml", "--inputs"]);
    let script = "import sys, json, hashlib; print(hashlib.sha256(json.dumps(json.load(sys.stdin), sort_keys=True, \
                  separators=(',', ':'), ensure_ascii=False).encode()).hexdigest())";
    let mut python = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut python.stdin.take().unwrap(), inputs.as_bytes()).unwrap();
    let digest = String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap();
    assert!(text.starts_with(digest.trim()), "{text}\n{digest}");
}

/// Runs `gatewright` in a project.
fn gatewright(project: &Project, arguments: &[&str]) -> String {
    let mut command = Command::new(&project.program);
    command.current_dir(&project.dir).args(arguments).arg("--cache-dir").arg(&project.cache);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

/// The same packs as folders, as an archive and in a registry make the same image; the lock keeps a registry's to its word.
#[test]
fn packs_come_from_anywhere() {
    let test = "packs_come_from_anywhere";
    let _timed = Timed::new(test);
    let Some(project) = Project::new(test) else { return };
    if needed(test, registry::check()).is_none() {
        return;
    }
    let server = Server::start(Access::Open).unwrap();
    let expected = gatewright(&project, &["signature", "images/installer.yaml"]);
    let place = format!("{}/packs", server.address());
    process::output(Command::new(&project.program).current_dir(&project.dir).args([
        "pack",
        "push",
        "packs/debian-13.0.0",
        &place,
    ]))
    .unwrap();
    let archive = ["-czf", "images/firstboot.tgz", "-C", "packs", "firstboot-0.1.0"];
    process::output(Command::new("tar").current_dir(&project.dir).args(archive)).unwrap();
    fs::remove_dir_all(project.dir.join("packs")).unwrap();
    let mut list = Command::new(&project.program);
    let tags = process::output(list.args(["pack", "list", "--json"]).arg(format!("{place}/debian"))).unwrap();
    assert!(tags.contains("stable__13.0.0"), "with its group: {tags}");
    let tag = "stable__13.0.0";
    let definition = project.dir.join("images/installer.yaml");
    let text = fs::read_to_string(&definition).unwrap();
    let text = text
        .replace("- debian-13.0.0", &format!("- oci://{place}/debian:{tag}"))
        .replace("- firstboot-0.1.0", "- firstboot.tgz");
    fs::write(&definition, text).unwrap();
    gatewright(&project, &["lock", "images/installer.yaml"]);
    assert!(lock(&project).contains(&format!("from: {place}/debian:{tag}@sha256:")));
    assert_eq!(gatewright(&project, &["signature", "images/installer.yaml"]), expected);
    // What the tag stands for tomorrow does not matter, and neither does the registry.
    drop(server);
    assert_eq!(gatewright(&project, &["signature", "images/installer.yaml", "--offline"]), expected);
}

/// A new pack builds. It brings what it was promised: an artifact by URL, which the lock gives a digest, and a container image.
#[test]
fn a_new_pack_brings_artifacts_and_images() {
    let test = "a_new_pack_brings_artifacts_and_images";
    let _timed = Timed::new(test);
    let Some(project) = Project::new(test) else { return };
    if needed(test, registry::check()).is_none() {
        return;
    }
    let in_project = |program: &str, arguments: &[&str]| {
        process::output(Command::new(program).current_dir(&project.dir).args(arguments)).unwrap()
    };
    // An image that is a folder with one file, in the registry by a client that is not ours.
    let server = Server::start(Access::Open).unwrap();
    oci_layout::push_image(&server, "team/hello:1.0");
    // A web server with one file.
    fs::create_dir_all(project.dir.join("site/v1")).unwrap();
    fs::write(project.dir.join("site/v1/tool"), "#!/bin/sh\necho tool\n").unwrap();
    let mut web = process::guarded("python3");
    web.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"])
        .arg(project.dir.join("site"));
    let mut web = process::spawn({
        web.stdout(Stdio::piped()).stderr(Stdio::null());
        web
    })
    .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(web.stdout.take().unwrap()), &mut line).unwrap();
    let port = line.split("port ").nth(1).unwrap().split(' ').next().unwrap().to_string();

    let program = project.program.display().to_string();
    in_project(&program, &["pack", "new", "hello", "--layer", "addon", "--dir", "packs"]);
    let pack = names(&project.dir.join("packs")).into_iter().find(|name| name.starts_with("hello-")).unwrap();
    let values = project.dir.join("packs").join(&pack).join("values.yaml");
    let text = fs::read_to_string(&values).unwrap();
    let ours = "pack:\n  artifacts:\n    tool: {source: tools, path: v1/tool}\n  content:\n    images:\n      - image: registry.example/team/hello:1.0\n";
    let rest: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("ansibleRoles")).collect();
    fs::write(&values, format!("{ours}{}\n", rest.join("\n"))).unwrap();
    let tasks = project.dir.join("packs").join(&pack).join("hello/tasks/main.yml");
    let more = "- ansible.builtin.command: cp -r {{ artifacts }}/images {{ artifacts }}/tool /opt\n";
    fs::write(&tasks, format!("{}\n{more}", fs::read_to_string(&tasks).unwrap().trim_end())).unwrap();
    let definition = project.dir.join("images/installer.yaml");
    let text = fs::read_to_string(&definition).unwrap();
    fs::write(
        &definition,
        text.replace("  - firstboot-0.1.0\n", &format!("  - firstboot-0.1.0\n  - {pack}\n")),
    )
    .unwrap();
    in_project(&program, &["pack", "lint", &format!("packs/{pack}")]);

    // Without a word about the source nothing is fetched, and the word that is wanted is named.
    let refused = project.command().output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("Nothing says where the source `tools` is"), "{}", stderr(&refused));
    let sources =
        [format!("tools=http://127.0.0.1:{port}"), format!("registry.example={}", server.address())]
            .join(",");
    let build = || project.command().args(["--source", &sources]).output().unwrap();
    let built = result(&build());
    web.kill().unwrap();
    web.wait().unwrap();
    drop(server);
    let text = lock(&project);
    let tool = process::output(Command::new("sha256sum").arg(project.dir.join("site/v1/tool"))).unwrap();
    assert!(text.contains(&format!("tool: {}", &tool[..64])), "the lock has the artifact's digest");
    assert!(text.contains("registry.example/team/hello:1.0: sha256:"), "and the image's");
    let tree = built["layers"]["roles"]["path"].as_str().unwrap();
    let listing = process::output(Command::new("tar").args(["-tf", tree])).unwrap();
    assert!(listing.lines().any(|line| line == "./opt/tool"));
    let image = "./opt/images/registry.example_team_hello_1.0.tar";
    assert!(listing.lines().any(|line| line == image));
    process::output(Command::new("tar").args(["-xf", tree, "-C"]).arg(&project.dir).arg(image)).unwrap();
    let archive = format!("oci-archive:{}", project.dir.join(image).display());
    registry::skopeo(&["inspect", "--raw", &archive]).unwrap();

    // With both gone, and the layers too, the cache has it all.
    fs::remove_file(tree).unwrap();
    fs::remove_dir_all(project.dir.join("store")).unwrap();
    let again = result(&project.command().args(["--source", &sources, "--offline"]).output().unwrap());
    assert_eq!(again["outputs"][0]["sha256"], built["outputs"][0]["sha256"]);
    fs::remove_file(tree).unwrap();
}

/// A base image is locked by what is in it, whatever it is called. Nothing is built from it yet, and that is said.
#[test]
fn a_base_image_is_locked_by_its_content() {
    let test = "a_base_image_is_locked_by_its_content";
    let _timed = Timed::new(test);
    let Some(project) = Project::new(test) else { return };
    let json = project.dir.join("packs/debian-13.0.0/pack.json");
    let text = fs::read_to_string(&json).unwrap();
    fs::write(
        &json,
        text.replace("\"annotations\": {", "\"annotations\": {\n    \"imageId\": \"base.ova\","),
    )
    .unwrap();
    // A cache of its own: what is newest now is not for the other tests.
    let gatewright = |arguments: &[&str]| {
        process::output(
            Command::new(&project.program)
                .current_dir(&project.dir)
                .args(arguments)
                .args(["--cache-dir", "cache"]),
        )
        .unwrap()
    };
    let locked = |content: &str| {
        fs::write(project.dir.join("images/base.ova"), content).unwrap();
        let digest =
            process::output(Command::new("sha256sum").arg(project.dir.join("images/base.ova"))).unwrap();
        gatewright(&["lock", "images/installer.yaml", "--upgrade"]);
        assert!(lock(&project).contains(&format!("    base: {}\n", &digest[..64])), "{content}");
        gatewright(&["signature", "images/installer.yaml"])
    };
    let first = locked("one");
    assert_ne!(locked("two"), first);
    assert_eq!(locked("one"), first);
    let output = project.command().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("cannot be built from a base image yet: base.ova"),
        "{}",
        stderr(&output)
    );
    fs::remove_file(project.dir.join("images/base.ova")).unwrap();
    fs::remove_file(project.dir.join("images/gatewright.lock")).unwrap();
    let output = project.command().output().unwrap();
    assert!(stderr(&output).contains("Cannot read the base image: "), "{}", stderr(&output));
}
