//! Registries: what we push is read by clients that are not ours, and the other way round; what is damaged, too much,
//! or not for us is refused, and leaves nothing.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use gatewright_tests::figures::{Timed, record, say};
use gatewright_tests::oci_layout::{describe, image, layout};
use gatewright_tests::prerequisites::needed;
use gatewright_tests::process;
use gatewright_tests::registry::{Access, PASSWORD, Server, USER, certify, check, oras, skopeo};
use registry::{Artifact, Config, Content, Digest, Error, Layer, Limits, Options, Reference, Registry};
use serde_json::{Value, json};

const LIMITS: Limits = Limits { size: 1 << 30, files: 10 };

/// A registry and a folder of the test's; `None` where the test cannot run.
fn server(test: &'static str) -> Option<(Server, PathBuf, Timed)> {
    needed(test, check())?;
    let server = Server::start(Access::Open).unwrap();
    let files = server.scratch().unwrap();
    Some((server, files, Timed::new(test)))
}

fn client() -> Registry {
    Registry::new(Options::default()).unwrap()
}

fn reference(server: &Server, rest: &str) -> Reference {
    format!("{}/{rest}", server.address()).parse().unwrap()
}

fn layer(title: &str, content: Content) -> Layer {
    Layer { media_type: "application/octet-stream".into(), title: title.into(), content }
}

fn artifact(layers: Vec<Layer>) -> Artifact {
    Artifact {
        artifact_type: Some("application/vnd.gatewright.test".into()),
        config: Config::empty(),
        layers,
        annotations: BTreeMap::from([("by".into(), "us".into())]),
    }
}

/// Bytes that do not compress, the same in every run; no MiB is like another.
fn noise(path: &Path, mib: u64) {
    let mut file = File::create(path).unwrap();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut block: Vec<u8> = (0..1 << 17)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect();
    for number in 0..mib {
        block[..8].copy_from_slice(&number.to_le_bytes());
        file.write_all(&block).unwrap();
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn others_read_what_we_push() {
    let Some((server, files, _timed)) = server("registry::others_read") else { return };
    noise(&files.join("big"), 5);
    let at = reference(&server, "some/folder/thing:1.2.3");
    let thing = artifact(vec![
        layer("big.bin", Content::Path(files.join("big"))),
        layer("small.txt", Content::Bytes(b"small".to_vec())),
    ]);
    let client = client();
    let digest = client.push_artifact(&at, &thing).unwrap();
    assert_eq!(client.push_artifact(&at, &thing).unwrap(), digest, "the same is the same");
    assert_eq!(client.resolve(&at).unwrap(), digest);
    client.tag(&at, "1.2.x").unwrap();
    assert_eq!(client.tags(&at).unwrap(), ["1.2.3", "1.2.x"]);
    assert_eq!(client.resolve(&at.with_tag("1.2.x").unwrap()).unwrap(), digest);

    let remote = format!("docker://{at}");
    let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &remote]).unwrap();
    assert_eq!(Digest::of(raw.as_bytes()), digest);
    let raw: Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(raw["artifactType"], "application/vnd.gatewright.test");
    assert_eq!(raw["annotations"], json!({ "by": "us" }));
    assert_eq!(raw["layers"][0]["annotations"]["org.opencontainers.image.title"], "big.bin");

    let copy = format!("dir:{}", files.join("copy").display());
    skopeo(&["copy", "--src-tls-verify=false", &remote, &copy]).unwrap();
    let hex = raw["layers"][0]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let big = fs::read(files.join("big")).unwrap();
    assert!(fs::read(files.join("copy").join(hex)).unwrap() == big);

    oras(&files, &["pull", &at.to_string(), "by-oras"]).unwrap();
    assert_eq!(names(&files.join("by-oras")), ["big.bin", "small.txt"]);
    assert!(fs::read(files.join("by-oras/big.bin")).unwrap() == big);

    let pulled = client.pull_artifact(&at, &files.join("by-us"), LIMITS).unwrap();
    assert_eq!(names(&files.join("by-us")), ["big.bin", "small.txt"]);
    assert!(fs::read(files.join("by-us/big.bin")).unwrap() == big);
    assert_eq!((pulled.digest, pulled.config), (digest, b"{}".to_vec()));
}

#[test]
fn we_read_what_others_push() {
    let Some((server, files, _timed)) = server("registry::we_read") else { return };
    fs::write(files.join("a-1.0.0.tar.gz"), "an archive").unwrap();
    let at = reference(&server, "spectro-packs/archive/a:1.0.0");
    oras(&files, &["push", &at.to_string(), "a-1.0.0.tar.gz"]).unwrap();
    let pulled = client().pull_artifact(&at, &files.join("pulled"), LIMITS).unwrap();
    assert_eq!(fs::read(files.join("pulled/a-1.0.0.tar.gz")).unwrap(), b"an archive");
    assert_eq!(pulled.files[0].title, "a-1.0.0.tar.gz");
    // By its digest, too; and no other.
    let by_digest = at.with_digest(&pulled.digest);
    client().pull_artifact(&by_digest, &files.join("again"), LIMITS).unwrap();
    let other = client().pull_artifact(&at.with_digest(&Digest::of(b"")), &files.join("again"), LIMITS);
    assert!(matches!(other.unwrap_err(), Error::NotFound { .. }));
}

/// What disks and other people do to a registry's files.
#[test]
fn damage_is_refused() {
    let Some((server, files, _timed)) = server("registry::damage") else { return };
    let at = reference(&server, "thing:1");
    let content = b"0123456789".to_vec();
    let thing = artifact(vec![
        layer("first", Content::Bytes(b"first".to_vec())),
        layer("second", Content::Bytes(content.clone())),
    ]);
    let digest = client().push_artifact(&at, &thing).unwrap();
    let blob = server.blob(Digest::of(&content).hex());
    let dir = files.join("pulled");
    let refused = |expected: &str| {
        let error = client().pull_artifact(&at, &dir, LIMITS).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(names(&dir), Vec::<String>::new(), "{expected}");
    };
    fs::write(&blob, b"0123456780").unwrap();
    refused("it was changed, or damaged");
    fs::write(&blob, b"01234567").unwrap();
    refused("sha256:");
    fs::write(&blob, b"0123456789 and more").unwrap();
    refused("it is longer than 10 bytes");
    fs::remove_file(&blob).unwrap();
    refused("is not there");
    fs::write(&blob, &content).unwrap();

    let limit = |limits, expected: &str| {
        let error = client().pull_artifact(&at, &dir, limits).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(names(&dir), Vec::<String>::new());
    };
    limit(Limits { size: 14, files: 10 }, "longer than the 14 bytes that are allowed");
    limit(Limits { size: 15, files: 1 }, "2 files, more than the 1");
    client().pull_artifact(&at, &dir, Limits { size: 15, files: 2 }).unwrap();

    // Another manifest under the digest of this one.
    let manifest = server.blob(digest.hex());
    let text = fs::read_to_string(&manifest).unwrap().replace("\"us\"", "\"no\"");
    fs::write(&manifest, text).unwrap();
    assert!(client().pull_artifact(&at.with_digest(&digest), &dir, LIMITS).is_err());
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    let Some((server, files, _timed)) = server("registry::names") else { return };
    for (number, title) in ["../outside", "/tmp/outside", "a/b", ".profile", "..", ""].into_iter().enumerate()
    {
        let [_, config, content] = image("amd64");
        let mut file = describe("application/octet-stream", &content);
        file["annotations"] = json!({ "org.opencontainers.image.title": title });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": describe("application/vnd.oci.image.config.v1+json", &config), "layers": [file],
        })
        .to_string();
        let dir = files.join(format!("layout{number}"));
        let described = describe("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
        layout(&dir, &[manifest.as_bytes(), &config, &content], json!([described]));
        let at = reference(&server, &format!("bad:{number}"));
        let from = format!("oci:{}", dir.display());
        skopeo(&["copy", "--dest-tls-verify=false", "--preserve-digests", &from, &format!("docker://{at}")])
            .unwrap();
        let pulled = files.join("pulled");
        let error = client().pull_artifact(&at, &pulled, LIMITS).unwrap_err().to_string();
        assert!(error.contains("is not a bare file name"), "{title}: {error}");
        assert_eq!(names(&pulled), Vec::<String>::new());
    }
    assert!(!files.join("outside").exists() && !Path::new("/tmp/outside").exists());
}

#[test]
fn images_become_archives() {
    let Some((mut server, files, _timed)) = server("registry::images") else { return };
    let images = ["amd64", "arm64"].map(image);
    let manifests: Vec<Value> = images
        .iter()
        .zip(["amd64", "arm64"])
        .map(|([manifest, ..], architecture)| {
            let mut one = describe("application/vnd.oci.image.manifest.v1+json", manifest);
            one["platform"] = json!({ "os": "linux", "architecture": architecture });
            one
        })
        .collect();
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests,
    })
    .to_string();
    let blobs: Vec<&[u8]> = images.iter().flatten().map(Vec::as_slice).chain([index.as_bytes()]).collect();
    layout(
        &files.join("layout"),
        &blobs,
        json!([describe("application/vnd.oci.image.index.v1+json", index.as_bytes())]),
    );
    let from = format!("oci:{}", files.join("layout").display());
    let push = |at: &Reference, more: &[&str]| {
        let to = format!("docker://{at}");
        skopeo(&[&["copy", "--dest-tls-verify=false"], more, &[from.as_str(), to.as_str()]].concat())
            .unwrap();
    };
    push(&reference(&server, "k8s/pause:3.10"), &["--all", "--preserve-digests"]);

    // Under the name that pods use, from a mirror.
    let mirrors = BTreeMap::from([("registry.k8s.io".to_owned(), format!("{}/k8s", server.address()))]);
    let mirrored = || Registry::new(Options { mirrors: mirrors.clone(), ..Options::default() }).unwrap();
    let at: Reference = "registry.k8s.io/pause:3.10".parse().unwrap();
    let cache = files.join("cache");
    let archive = |at: &Reference, architecture: &str, cache: &Path, out: &str| {
        mirrored().image_archive(at, architecture, cache, &files.join(out))
    };
    let digest = archive(&at, "amd64", &cache, "amd64.tar").unwrap();
    assert_eq!(digest, Digest::of(&images[0][0]));
    assert_eq!(archive(&at, "arm64", &cache, "arm64.tar").unwrap(), Digest::of(&images[1][0]));
    archive(&at, "amd64", &files.join("other cache"), "again.tar").unwrap();
    assert!(fs::read(files.join("amd64.tar")).unwrap() == fs::read(files.join("again.tar")).unwrap());
    let error = archive(&at, "s390x", &cache, "s390x.tar").unwrap_err().to_string();
    assert!(error.contains("not for linux/s390x, but for linux/amd64, linux/arm64"), "{error}");
    assert!(!files.join("s390x.tar").exists());

    for architecture in ["amd64", "arm64"] {
        let path = format!("oci-archive:{}", files.join(format!("{architecture}.tar")).display());
        let said = skopeo(&["inspect", "--override-arch", architecture, &path]).unwrap();
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["Architecture"], architecture);
    }
    let mut tar = tar::Archive::new(File::open(files.join("amd64.tar")).unwrap());
    let mut entries = Vec::new();
    let mut index = String::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
        let path = entry.path().unwrap().display().to_string();
        if path == "index.json" {
            entry.read_to_string(&mut index).unwrap();
        }
        entries.push(path);
    }
    assert!(entries.is_sorted() && entries.len() == 7, "{entries:?}");
    let index: Value = serde_json::from_str(&index).unwrap();
    assert_eq!(
        index["manifests"][0]["annotations"],
        json!({ "io.containerd.image.name": "registry.k8s.io/pause:3.10", "org.opencontainers.image.ref.name": "3.10" })
    );

    // Docker's own format.
    let docker = reference(&server, "docker:1");
    push(&docker, &["--format", "v2s2", "--override-arch", "amd64"]);
    archive(&docker, "amd64", &cache, "docker.tar").unwrap();
    skopeo(&["inspect", &format!("oci-archive:{}", files.join("docker.tar").display())]).unwrap();

    // Without a network: by digest, when all is in the cache, and only if it is what it was.
    let pinned = at.with_digest(&mirrored().resolve(&at).unwrap());
    archive(&pinned, "amd64", &cache, "pinned.tar").unwrap();
    server.stop();
    archive(&pinned, "amd64", &cache, "offline.tar").unwrap();
    assert!(fs::read(files.join("pinned.tar")).unwrap() == fs::read(files.join("offline.tar")).unwrap());
    let unreachable = |at: &Reference| {
        let result = archive(at, "amd64", &cache, "none.tar");
        assert!(matches!(result, Err(Error::Unreachable { .. })), "{result:?}");
        assert!(!files.join("none.tar").exists());
    };
    unreachable(&at);
    let layer = cache.join("sha256").join(Digest::of(&images[0][2]).hex());
    fs::write(layer, "something else").unwrap();
    unreachable(&pinned);
}

#[test]
fn strangers_are_told_to_log_in() {
    let test = "registry::credentials";
    if needed(test, check()).is_none() {
        return;
    }
    let _timed = Timed::new(test);
    let server = Server::start(Access::Password).unwrap();
    let files = server.scratch().unwrap();
    let at = reference(&server, "private/thing:1");
    let thing = artifact(vec![layer("file", Content::Bytes(b"secret".to_vec()))]);
    let with = |name: &str, config: Value| {
        let auth_file = files.join(name);
        fs::write(&auth_file, config.to_string()).unwrap();
        Registry::new(Options {
            ca: Some(server.certificate()),
            auth_file: Some(auth_file),
            ..Options::default()
        })
        .unwrap()
    };
    let auth = |password: &str| {
        let both = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{password}"));
        json!({ "auths": { server.address(): { "auth": both } } })
    };
    let unknown = with("none.json", json!({})).push_artifact(&at, &thing).unwrap_err();
    assert!(matches!(unknown, Error::Denied { known: false, .. }), "{unknown}");
    assert!(unknown.hint().unwrap().contains("skopeo login 127.0.0.1:"));
    let wrong = with("wrong.json", auth("guessed")).push_artifact(&at, &thing).unwrap_err();
    assert!(matches!(wrong, Error::Denied { known: true, .. }), "{wrong}");
    assert!(!wrong.to_string().contains("guessed") && !wrong.hint().unwrap().contains("guessed"));

    let known = with("right.json", auth(PASSWORD));
    let digest = known.push_artifact(&at, &thing).unwrap();
    assert_eq!(known.pull_artifact(&at, &files.join("pulled"), LIMITS).unwrap().digest, digest);
    let credentials = format!("{USER}:{PASSWORD}");
    let raw = skopeo(&[
        "inspect",
        "--tls-verify=false",
        "--creds",
        &credentials,
        "--raw",
        &format!("docker://{at}"),
    ]);
    assert_eq!(Digest::of(raw.unwrap().as_bytes()), digest);

    // A certificate that nobody vouches for.
    let other = files.join("other");
    fs::create_dir(&other).unwrap();
    certify(&other).unwrap();
    let other = other.join("certificate.pem");
    let strict = Registry::new(Options { ca: Some(other), ..Options::default() }).unwrap();
    let error = strict.resolve(&at).unwrap_err().to_string();
    assert!(error.contains("cannot be reached: invalid peer certificate"), "{error}");
    // Logged in by helpers, and by helpers that fail.
    let helped = with("helper.json", json!({ "credHelpers": { server.address(): "that-is-not-there" } }));
    let error = helped.resolve(&at).unwrap_err();
    assert!(error.to_string().contains("a credential helper that does not run"), "{error}");
    let broken = with("broken.json", json!([]));
    assert!(broken.resolve(&at).unwrap_err().to_string().contains("broken.json: it cannot be understood"));
}

/// A credential helper, as Docker's users have them.
#[test]
fn helpers_give_credentials() {
    let test = "registry::helpers";
    if needed(test, check()).is_none() {
        return;
    }
    let _timed = Timed::new(test);
    let server = Server::start(Access::Password).unwrap();
    let files = server.scratch().unwrap();
    let Some(program) = Program::new(&files) else { return };
    let helper = files.join("docker-credential-tests");
    let answer = json!({ "Username": USER, "Secret": PASSWORD });
    fs::write(
        &helper,
        format!(
            "#!/bin/sh\nread -r host\n[ \"$1 $host\" = 'get {}' ] && echo '{answer}'\n",
            server.address()
        ),
    )
    .unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let config = json!({ "credHelpers": { server.address(): "tests" } });
    fs::write(files.join("auth.json"), config.to_string()).unwrap();
    pack(&files.join("sample"), "1.0.0", "", "");
    let certificate = server.certificate();
    let ca = ["--registry-ca", certificate.to_str().unwrap()];
    let base = format!("{}/packs", server.address());
    program.ok(&[&["push", "sample", &base], &ca[..]].concat());
    assert_eq!(
        program.ok(&[&["list", &format!("{base}/sample")], &ca[..]].concat()).lines().next(),
        Some("1.0.0")
    );
}

static CANCELLED: AtomicBool = AtomicBool::new(false);

#[test]
fn silence_is_not_waited_for() {
    // Nobody is there.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let at: Reference = format!("{closed}/thing:1").parse().unwrap();
    let error = client().resolve(&at).unwrap_err();
    assert_eq!(error.to_string(), format!("{closed} cannot be reached: Connection refused (os error 111)"));
    assert!(error.hint().unwrap().contains("https_proxy"));
    // Somebody is there who says nothing, until the user has enough.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at: Reference = format!("{}/thing:1", silent.local_addr().unwrap()).parse().unwrap();
    let registry = Registry::new(Options {
        cancelled: Some(|| CANCELLED.load(Ordering::Relaxed)),
        ..Options::default()
    })
    .unwrap();
    let begun = Instant::now();
    let user = thread::spawn(|| {
        thread::sleep(Duration::from_millis(300));
        CANCELLED.store(true, Ordering::Relaxed);
    });
    assert!(matches!(registry.resolve(&at).unwrap_err(), Error::Cancelled));
    assert!(begun.elapsed() < Duration::from_secs(5));
    user.join().unwrap();
}

/// 200 MiB, as an OVA has; streamed, so that it need not fit into memory.
#[test]
fn big_files_go_both_ways() {
    let Some((server, files, _timed)) = server("registry::big") else { return };
    noise(&files.join("big"), 200);
    let at = reference(&server, "image:1");
    let mut begun = Instant::now();
    let mut seconds = || std::mem::replace(&mut begun, Instant::now()).elapsed().as_secs_f64();
    client().push_artifact(&at, &artifact(vec![layer("big", Content::Path(files.join("big")))])).unwrap();
    let push = seconds();
    client().pull_artifact(&at, &files.join("pulled"), LIMITS).unwrap();
    let pull = seconds();
    say(&format!("  registry: 200 MiB pushed in {push:.1} s, pulled in {pull:.1} s"));
    record(&json!({ "test": "registry::big", "push_seconds": push, "pull_seconds": pull }));
    process::output(Command::new("cmp").arg(files.join("big")).arg(files.join("pulled/big"))).unwrap();
}

/// The program, in a folder of its own.
struct Program(PathBuf);

impl Program {
    fn new(files: &Path) -> Option<Program> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/gatewright");
        needed(
            "registry::packs",
            program.canonicalize().map_err(|_| anyhow::anyhow!("gatewright is not built")),
        )?;
        fs::write(files.join("auth.json"), "{}").unwrap();
        Some(Program(files.to_path_buf()))
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/gatewright");
        Command::new(program)
            .current_dir(&self.0)
            .env("REGISTRY_AUTH_FILE", self.0.join("auth.json"))
            // Where nobody is: loopback addresses have no proxy.
            .env("http_proxy", "http://127.0.0.1:9")
            .env("https_proxy", "http://127.0.0.1:9")
            .env(
                "PATH",
                std::env::join_paths([self.0.as_path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap(),
            )
            .env("GATEWRIGHT_PROGRESS", "none")
            .arg("pack")
            .args(arguments)
            .output()
            .unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, arguments: &[&str], expected: &str) {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

/// Writes a pack, as users do.
fn pack(dir: &Path, version: &str, group: &str, values: &str) {
    fs::create_dir_all(dir.join("manifests")).unwrap();
    let json = json!({
        "name": "sample", "displayName": "Sample", "version": version, "layer": "addon", "group": group,
        "cloudTypes": ["all"], "kubeManifests": ["manifests/a.yaml"],
    });
    fs::write(dir.join("pack.json"), json.to_string()).unwrap();
    fs::write(dir.join("values.yaml"), values).unwrap();
    fs::write(dir.join("manifests/a.yaml"), "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n")
        .unwrap();
}

#[test]
fn packs_are_published_and_fetched() {
    let Some((server, files, _timed)) = server("registry::packs") else { return };
    let Some(program) = Program::new(&files) else { return };
    let base = format!("{}/spectro-packs/archive", server.address());
    let versions = ["1.33.9", "1.33.10", "1.32.1"];
    for version in versions {
        pack(&files.join(version), version, "", "a: 1\n");
        program.ok(&["push", version, &base]);
    }
    pack(&files.join("lts"), "1.40.0", "LTS", "");
    program.ok(&["push", "lts", &base]);
    let name = format!("{base}/sample");
    let listed = "1.32.1\n1.32.x  (parent)\n1.33.9\n1.33.10\n1.33.x  (parent)\n1.x  (parent)\n\
                  lts__1.40.0\nlts__1.40.x  (parent)\nlts__1.x  (parent)\n";
    assert_eq!(program.ok(&["list", &name]), listed);
    let json: Value = serde_json::from_str(&program.ok(&["list", &name, "--json"])).unwrap();
    assert_eq!(json[1], json!({ "tag": "1.32.x", "parent": true }));
    // Parents went forward only.
    let digest = |tag: &str| client().resolve(&format!("{name}:{tag}").parse().unwrap()).unwrap();
    assert_eq!(digest("1.33.x"), digest("1.33.10"));
    assert_eq!(digest("1.x"), digest("1.33.10"));
    assert_eq!(digest("lts__1.x"), digest("lts__1.40.0"));

    // The same again is nothing new; something else under its name is refused.
    let before = digest("1.33.9");
    program.ok(&["push", "1.33.9", &base]);
    assert_eq!(digest("1.33.9"), before);
    fs::write(files.join("1.33.9/values.yaml"), "a: 2\n").unwrap();
    program.refused(&["push", "1.33.9", &base], "is there already, with other content");
    assert_eq!(digest("1.33.9"), before);
    program.ok(&["push", "--force", "1.33.9", &base]);
    assert_ne!(digest("1.33.9"), before);

    // A parent is pulled as what it means.
    program.ok(&["pull", &format!("{name}:1.33.x"), "-d", "pulled"]);
    assert_eq!(names(&files.join("pulled")), ["sample-1.33.10"]);
    process::output(
        Command::new("diff").arg("-r").arg(files.join("1.33.10")).arg(files.join("pulled/sample-1.33.10")),
    )
    .unwrap();
    program.refused(&["pull", &format!("{name}:1.33.10"), "-d", "pulled"], "is there already");
    program.refused(&["pull", &format!("{name}:9.9.9"), "-d", "pulled"], "sample:9.9.9 is not there");
    program.refused(&["pull", &name, "-d", "pulled"], "it has no tag");
    assert_eq!(names(&files.join("pulled")), ["sample-1.33.10"]);

    // As oras users do it: fetched by them, published by them.
    oras(&files, &["pull", &format!("{name}:1.33.10"), "by-oras"]).unwrap();
    assert_eq!(names(&files.join("by-oras")), ["sample-1.33.10.tar.gz"]);
    let listing =
        process::output(Command::new("tar").arg("-tzf").arg(files.join("by-oras/sample-1.33.10.tar.gz")))
            .unwrap();
    assert!(listing.lines().all(|line| line.starts_with("sample-1.33.10")), "{listing}");
    pack(&files.join("sample-2.0.0"), "2.0.0", "", "");
    process::output(Command::new("tar").current_dir(&files).args([
        "-czf",
        "sample-2.0.0.tar.gz",
        "sample-2.0.0",
    ]))
    .unwrap();
    oras(&files, &["push", &format!("{name}:2.0.0"), "sample-2.0.0.tar.gz"]).unwrap();
    program.ok(&["pull", &format!("{name}:2.0.0"), "-d", "pulled"]);
    program.ok(&["pull", &format!("{name}:2.0.0"), "-d", "pulled", "--archive"]);
    assert_eq!(names(&files.join("pulled")), ["sample-1.33.10", "sample-2.0.0", "sample-2.0.0.tgz"]);
    assert!(
        fs::read(files.join("pulled/sample-2.0.0.tgz")).unwrap()
            == fs::read(files.join("sample-2.0.0.tar.gz")).unwrap()
    );
    // What they published is theirs, byte for byte: pushing it again is nothing new.
    program.ok(&["push", "sample-2.0.0.tar.gz", &base]);

    // All other hosts have one: the name is not even looked up.
    program
        .refused(&["list", "registry.invalid/a"], "registry.invalid cannot be reached: Connection refused");

    // What is no pack leaves nothing.
    fs::write(files.join("junk.tar.gz"), "junk").unwrap();
    oras(&files, &["push", &format!("{name}:3.0.0"), "junk.tar.gz"]).unwrap();
    program.refused(&["pull", &format!("{name}:3.0.0"), "-d", "empty"], "no archive of a pack");
    assert_eq!(names(&files.join("empty")), Vec::<String>::new());

    fs::create_dir(files.join("packs")).unwrap();
    fs::rename(files.join("sample-2.0.0"), files.join("packs/sample-2.0.0")).unwrap();
    assert_eq!(program.ok(&["list"]), "sample-2.0.0  addon\n");
}
