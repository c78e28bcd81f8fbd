//! Packs of every documented shape and defect, made from a seed: other names, versions and filling, the same defects.
//!
//! A defect is an edit of a good pack. `§` in what it writes marks where its finding is expected, and is not written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use pack::lint::Entry;

/// A pack, and what is wrong with it.
pub struct Sample {
    pub folder: String,
    pub entries: BTreeMap<String, Entry>,
    /// Sorted.
    pub expected: Vec<Expected>,
}

/// Where a rule's finding must be: file, line and column; none for a file as a whole.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Expected {
    pub file: String,
    pub place: Option<(usize, usize)>,
    pub rule: String,
}

/// A defect: the rule that finds it, the shape it is in, and how it is made.
pub struct Defect {
    pub rule: &'static str,
    shape: Shape,
    edits: &'static [Edit],
}

type Shape = &'static str;

enum Edit {
    /// Replaces a text that is there once.
    Replace(&'static str, &'static str, &'static str),
    Add(&'static str, &'static str),
    Remove(&'static str),
    Link(&'static str, &'static str),
    Socket(&'static str),
    /// A file of this length, with a hole.
    Huge(&'static str, u64),
    RenameFolder(&'static str),
    /// A finding of a file as a whole.
    Expect(&'static str),
}

use Edit::{Add, Expect, Huge, Link, Remove, RenameFolder, Replace, Socket};

/// Sebastiano Vigna's splitmix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// `count` packs: every shape and every defect in turn, until there are enough.
pub fn packs(seed: u64, count: usize) -> Vec<Sample> {
    let mut random = Random(seed);
    let all: Vec<(Shape, Option<&Defect>)> = SHAPES
        .iter()
        .map(|(shape, _)| (*shape, None))
        .chain(DEFECTS.iter().map(|defect| (defect.shape, Some(defect))))
        .collect();
    all.iter()
        .cycle()
        .take(count)
        .enumerate()
        .map(|(n, (shape, defect))| make(n, shape, *defect, &mut random))
        .collect()
}

/// How many packs it takes to have every shape and defect once.
pub fn kinds() -> usize {
    SHAPES.len() + DEFECTS.len()
}

fn make(number: usize, shape: Shape, defect: Option<&Defect>, random: &mut Random) -> Sample {
    let name = format!("{shape}-{number}");
    let version = format!("{}.{}.{}", random.below(40) + 1, random.below(30), random.below(20));
    let filling = random.below(30) as usize;
    let fill = |text: &str| text.replace("NAME", &name).replace("VERSION", &version);
    let mut folder = "NAME-VERSION";
    let (_, files) = SHAPES.iter().find(|(known, _)| *known == shape).expect("a defect is in a known shape");
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for (path, text) in files.iter().chain(&[("README.md", "# NAME\n"), ("logo.png", "")]) {
        let mut text = (*text).to_string();
        if path.ends_with(".yaml") && !text.starts_with("# spectrocloud.com") {
            text.insert_str(0, &"# Filling, so that lines differ: é ü ß.\n".repeat(filling));
        }
        texts.insert((*path).into(), text);
    }
    let (mut entries, mut expected) = (BTreeMap::new(), Vec::new());
    let rule = defect.map_or("", |defect| defect.rule);
    let mut expect =
        |file: &str, place| expected.push(Expected { file: file.into(), place, rule: rule.into() });
    for edit in defect.map_or(&[][..], |defect| defect.edits) {
        match *edit {
            Replace(file, from, to) => {
                let text = texts.get_mut(file).expect("an edited file is there");
                assert_eq!(text.matches(from).count(), 1, "{rule}: {from:?} is once in {file}");
                *text = text.replace(from, to);
            }
            Add(file, text) => drop(texts.insert(file.into(), text.into())),
            Remove(file) => drop(texts.remove(file)),
            Link(file, target) => drop(entries.insert(file.into(), Entry::Link(target.into()))),
            Socket(file) => drop(entries.insert(file.into(), Entry::Special)),
            Huge(file, size) => drop(entries.insert(file.into(), Entry::File { size, head: b"x".into() })),
            RenameFolder(to) => folder = to,
            Expect(file) => expect(file, None),
        }
    }
    for (path, text) in texts {
        let text = fill(&text);
        for (line, text) in text.lines().enumerate() {
            for (before, (column, _)) in text.chars().enumerate().filter(|(_, c)| *c == '§').enumerate() {
                expect(&path, Some((line + 1, column - before + 1)));
            }
        }
        let head = text.replace('§', "").into_bytes();
        entries.insert(path, Entry::File { size: head.len() as u64, head });
    }
    expected.sort();
    Sample { folder: fill(folder), entries, expected }
}

impl Sample {
    /// Writes the pack below `dir`; answers with its folder.
    pub fn write(&self, dir: &Path) -> io::Result<PathBuf> {
        let dir = dir.join(&self.folder);
        for (name, entry) in &self.entries {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().expect("it is below `dir`"))?;
            match entry {
                Entry::File { size, head } => {
                    fs::write(&path, head)?;
                    if *size > head.len() as u64 {
                        File::options().write(true).open(&path)?.set_len(*size)?;
                    }
                }
                Entry::Link(target) => symlink(target, &path)?,
                Entry::Special => drop(UnixListener::bind(&path)?),
                Entry::Folder => fs::create_dir(&path)?,
            }
        }
        Ok(dir)
    }
}

const ROLE: (&str, &str) =
    ("harden_os/tasks/main.yml", "- name: Harden\n  ansible.builtin.debug: {msg: hello}\n");

/// Good packs: the names of their files, and what is in them.
const SHAPES: &[(Shape, &[(&str, &str)])] = &[
    ("os-url", &[ROLE, ("values.yaml", ""), ("pack.json", OS_URL)]),
    ("os-template", &[ROLE, ("values.yaml", "# Nothing is set.\n"), ("pack.json", OS_TEMPLATE)]),
    ("byoi", &[("values.yaml", BYOI), ("pack.json", BYOI_DEFINITION)]),
    (
        "os-archive",
        &[
            ROLE,
            ("keyring.gpg", "keys"),
            ("base/etc/hostname", "x\n"),
            ("values.yaml", OS_ARCHIVE),
            ("pack.json", OS_ARCHIVE_DEFINITION),
        ],
    ),
    (
        "k8s",
        &[
            ("hardening/audit-policy.yaml", "apiVersion: audit.k8s.io/v1\nkind: Policy\n"),
            ("values.yaml", K8S),
            ("schema.yaml", K8S_SCHEMA),
            ("presets.yaml", K8S_PRESETS),
            ("pack.json", K8S_DEFINITION),
        ],
    ),
    ("chart", &[("charts/app.tgz", "\u{1f}\u{8b}"), ("values.yaml", CHART), ("pack.json", CHART_DEFINITION)]),
    (
        "manifest",
        &[
            ("manifests/app.yaml", MANIFEST),
            ("values.yaml", MANIFEST_VALUES),
            ("pack.json", MANIFEST_DEFINITION),
        ],
    ),
    ("kernel", &[("values.yaml", ""), ("pack.json", KERNEL)]),
];

const OS_URL: &str = r#"{
  "name": "NAME",
  "displayName": "Golden Ubuntu",
  "version": "VERSION",
  "layer": "os",
  "group": "LTS",
  "cloudTypes": ["vsphere"],
  "eol": "2028-04-30",
  "ansibleRoles": ["harden_os"],
  "annotations": {
    "folder": "spectro-templates",
    "imageId": "https://images.example.com/ubuntu.ova",
    "osName": "ubuntu",
    "os_spectro_version": "0",
    "os_version": "u-18044",
    "sshUsername": "ubuntu",
    "skipK8sInstall": "false"
  }
}
"#;

const OS_TEMPLATE: &str = r#"{
	"name": "NAME",
	"displayName": "Golden CentOS",
	"version": "VERSION",
	"layer": "os",
	"group": "",
	"cloudTypes": ["vsphere"],
	"eol": " ",
	"ansibleRoles": ["harden_os"],
	"annotations": {
		"imageId": "/Datacenter/vm/templates/centos-7",
		"osName": "centos",
		"sshUsername": "root",
		"sshPassword": "{{ .spectro.var.Password }}",
		"skipK8sInstall": "true"
	}
}
"#;

const BYOI_DEFINITION: &str = r#"{"name": "NAME", "displayName": "Bring your own", "version": "VERSION", "layer": "os", "cloudTypes": ["all"]}"#;
const BYOI: &str = "pack:\n  osImageOverride: /Datacenter/vm/image\n  osName: ubuntu\n  osVersion: '24.04'\n";

const OS_ARCHIVE_DEFINITION: &str = r#"{
  "name": "NAME",
  "displayName": "Debian",
  "version": "VERSION",
  "layer": "os",
  "cloudTypes": ["vsphere"],
  "ansibleRoles": ["harden_os"],
  "annotations": {"skipK8sInstall": "true"}
}
"#;
const OS_ARCHIVE: &str = r#"pack:
  archive:
    suite: trixie
    components: [main]
    architecture: amd64
    keyring: keyring.gpg
  baseFiles: base
  packages: [dbus]
  artifacts:
    tool:
      source: kubernetes
      path: v1/bin/tool
      sha256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
ansibleRoles:
  harden_os:
    level: strict
"#;

const K8S_DEFINITION: &str = r#"{
  "name": "NAME",
  "displayName": "Kubernetes",
  "version": "VERSION",
  "layer": "k8s",
  "cloudTypes": ["vsphere", "maas"],
  "constraints": {
    "dependencies": [
      {"packName": "ubuntu", "layer": "os", "type": "required", "minVersion": "22.04", "maxVersion": "24.04"},
      {"packName": "old", "layer": "addon", "type": "notSupported"}
    ],
    "resources": [
      {"type": "cpu", "minLimit": 2000},
      {"type": "memory", "components": [{"scheduleType": "master", "resourceRequestParamRef": "a.b"}]}
    ]
  }
}
"#;
const K8S: &str = r#"# spectrocloud.com/enabled-presets: audit:verbose
pack:
  content:
    images:
      - image: registry.k8s.io/kube-apiserver:vVERSION
      - image: registry.k8s.io/pause:99.10
  podCIDR: "192.168.0.0/16"
  label: "{{ .spectro.system.cluster.name | default \"none\" }}"
kubeadmconfig:
  apiServer:
    extraArgs:
      secure-port: "6443"
      profiling: "false"
  kubeletExtraArgs:
    event-qps: "0"
  files:
    - path: hardening/audit-policy.yaml
      targetPath: /etc/kubernetes/audit-policy.yaml
      targetOwner: "root:root"
      targetPermissions: "0600"
    - targetPath: /etc/kubernetes/encryption.yaml
      content: |
        kind: EncryptionConfiguration
        resources:
          - providers: [{aescbc: {keys: [{name: a, secret: "{{ .spectro.var.Key }}"}]}}]
  preKubeadmCommands:
    - 'sysctl -p /etc/sysctl.d/90-kubelet.conf'
  postKubeadmCommands:
    - 'if test -f /etc/x; then chmod 600 /etc/x; fi'
"#;
const K8S_SCHEMA: &str = r#"pack.podCIDR:
  schema: '{{ required | format "${ipv4}/${number:[0-32]}" | hints "192.168.0.0/16" }}'
pack.label:
  schema: '{{ format "${string:/^[a-z]+$/}" }}'
kubeadmconfig.files.$[].targetPermissions:
  schema: '{{ format "${string:/^[0-7]{4}$/}" }}'
"#;
const K8S_PRESETS: &str = r#"presets:
  - name: verbose
    displayName: Verbose
    group: audit
    remove: [kubeadmconfig.apiServer.extraArgs.profiling]
    add: |
      kubeadmconfig:
        apiServer:
          extraArgs: {profiling: "true"}
  - name: quiet
    displayName: Quiet
    group: audit
    remove: []
    add: ""
"#;

const CHART_DEFINITION: &str = r#"{
  "name": "NAME",
  "displayName": "Application",
  "version": "VERSION",
  "layer": "addon",
  "addonType": "monitoring",
  "cloudTypes": ["all"],
  "charts": ["charts/app.tgz"]
}
"#;
const CHART: &str = r#"pack:
  namespace: app
  content:
    images:
      - image: registry.example.com:5000/app:VERSION-debian
charts:
  app:
    template: "{{ include \"app.name\" . }}"
"#;

const MANIFEST_DEFINITION: &str = r#"{
  "name": "NAME",
  "displayName": "Network",
  "version": "VERSION",
  "layer": "cni",
  "cloudTypes": ["all"],
  "kubeManifests": ["manifests/app.yaml"]
}
"#;
const MANIFEST: &str = "apiVersion: v1\nkind: Secret\nstringData:\n  tls.key: |\n    -----BEGIN PRIVATE KEY-----\n    <your key>\n";
const MANIFEST_VALUES: &str = "pack:\n  content:\n    images:\n      - image: registry.example.com/app@sha256:00\nmanifests:\n  app: {a: 1}\n";

const KERNEL: &str = r#"{"name": "NAME", "displayName": "Kernel", "version": "VERSION", "layer": "kernel", "cloudTypes": ["edge"]}"#;

const fn defect(rule: &'static str, shape: Shape, edits: &'static [Edit]) -> Defect {
    Defect { rule, shape, edits }
}

const PACK: &str = "pack.json";
const VALUES: &str = "values.yaml";
const SCHEMA: &str = "schema.yaml";
const PRESETS: &str = "presets.yaml";

/// Every documented defect.
pub const DEFECTS: &[Defect] = &[
    // files
    defect("missing-document", "byoi", &[Remove(PACK), Expect(PACK)]),
    defect("missing-document", "kernel", &[Remove(VALUES), Expect(VALUES)]),
    defect("syntax", "os-url", &[Replace(PACK, "\"false\"\n", "\"false\"§,\n")]),
    defect("syntax", "os-url", &[Replace(PACK, "[\"vsphere\"]", "[\"vsphere\"§,]")]),
    defect("syntax", "os-url", &[Replace(PACK, "\"Golden Ubuntu\"", "§\"Golden Ubuntu")]),
    defect("syntax", "os-url", &[Replace(PACK, "\"group\": \"LTS\"", "§group\": \"LTS\"")]),
    defect("syntax", "os-url", &[Replace(PACK, "\"group\"", "§'group'")]),
    defect("syntax", "os-url", &[Replace(PACK, "\"LTS\",\n  \"", "\"LTS\"\n  §\"")]),
    defect("syntax", "chart", &[Replace(VALUES, "  namespace: app\n", "  namespace: app\n §indent: 1\n")]),
    defect("syntax", "chart", &[Replace(VALUES, "namespace: app", "namespace: {§{ .spectro.var.x }}")]),
    defect("syntax", "k8s", &[Replace(SCHEMA, "pack.podCIDR:", "a: b§: c\npack.podCIDR:")]),
    defect("duplicate-key", "os-url", &[Replace(PACK, "\"eol\"", "§\"name\": \"other\",\n  \"eol\"")]),
    defect(
        "duplicate-key",
        "chart",
        &[Replace(VALUES, "  namespace: app\n", "  namespace: app\n  §namespace: b\n")],
    ),
    defect(
        "duplicate-key",
        "k8s",
        &[Replace(
            PRESETS,
            "    group: audit\n    remove: []",
            "    group: audit\n    §group: audit\n    remove: []",
        )],
    ),
    defect(
        "missing-role",
        "os-url",
        &[Remove("harden_os/tasks/main.yml"), Replace(PACK, "\"harden_os\"", "§\"harden_os\"")],
    ),
    defect(
        "missing-role",
        "os-url",
        &[Add("other/README", ""), Replace(PACK, "\"harden_os\"", "\"harden_os\", §\"other\"")],
    ),
    defect("missing-file", "chart", &[Replace(PACK, "\"charts/app.tgz\"", "§\"charts/App.tgz\"")]),
    defect(
        "missing-file",
        "manifest",
        &[Remove("manifests/app.yaml"), Replace(PACK, "\"manifests/app.yaml\"", "§\"manifests/app.yaml\"")],
    ),
    defect("missing-file", "k8s", &[Replace(VALUES, "hardening/audit-policy.yaml", "§hardening/audit.yaml")]),
    defect("missing-file", "os-archive", &[Replace(VALUES, "keyring.gpg", "§debian.gpg")]),
    defect("missing-file", "os-archive", &[Replace(VALUES, "baseFiles: base", "baseFiles: §root")]),
    defect("outside-path", "chart", &[Replace(PACK, "\"charts/app.tgz\"", "§\"../charts/app.tgz\"")]),
    defect("outside-path", "os-url", &[Replace(PACK, "\"harden_os\"", "§\"/harden_os\"")]),
    defect("outside-path", "k8s", &[Replace(VALUES, "hardening/audit-policy.yaml", "§/etc/passwd")]),
    defect("link-outside", "os-url", &[Link("harden_os/files", "../../other"), Expect("harden_os/files")]),
    defect(
        "link-outside",
        "os-archive",
        &[Link("base/unit", "/dev/null"), Link("keys", "/etc/apt"), Expect("keys")],
    ),
    defect("file-name", "kernel", &[Add("a\nb", ""), Expect("a\nb")]),
    defect("file-name", "kernel", &[Add("a\\b", ""), Expect("a\\b")]),
    defect("special-file", "kernel", &[Socket("socket"), Expect("socket")]),
    defect("huge-file", "kernel", &[Huge("image.raw", 1 << 30), Expect("image.raw")]),
    defect("documentation", "kernel", &[Remove("README.md"), Expect("")]),
    defect("documentation", "kernel", &[Remove("logo.png"), Expect("")]),
    defect("folder-name", "kernel", &[RenameFolder("NAME-0"), Expect("")]),
    // pack.json
    defect(
        "required-key",
        "os-url",
        &[Replace(
            PACK,
            "{\n  \"name\": \"NAME\",\n  \"displayName\": \"Golden Ubuntu\",",
            "§{\n  \"name\": \"NAME\",",
        )],
    ),
    defect(
        "required-key",
        "os-url",
        &[Replace(PACK, "\"displayName\": \"Golden Ubuntu\"", "§\"displayName\": \"\"")],
    ),
    defect("required-key", "k8s", &[Replace(PACK, "{\"packName\": \"old\", ", "§{")]),
    defect(
        "required-key",
        "k8s",
        &[Replace(VALUES, "- targetPath: /etc/kubernetes/encryption.yaml\n      content", "- §content")],
    ),
    defect("required-key", "k8s", &[Replace(PRESETS, "- name: quiet\n    displayName", "- §displayName")]),
    defect(
        "required-key",
        "os-archive",
        &[Replace(VALUES, "      source: kubernetes\n      path", "      §path")],
    ),
    defect("wrong-type", "os-url", &[Replace(PACK, "\"version\": \"VERSION\"", "\"version\": §18.04")]),
    defect("wrong-type", "os-url", &[Replace(PACK, "[\"harden_os\"]", "§\"harden_os\"")]),
    defect("wrong-type", "k8s", &[Replace(PACK, "2000", "§\"2000m\"")]),
    defect(
        "wrong-type",
        "k8s",
        &[Replace(VALUES, "- 'sysctl -p /etc/sysctl.d/90-kubelet.conf'", "- §{a: b}")],
    ),
    defect("wrong-type", "k8s", &[Replace(PRESETS, "presets:\n", "presets:\n  - §text\n")]),
    defect("wrong-type", "byoi", &[Add(VALUES, "§[]")]),
    defect("unknown-value", "os-url", &[Replace(PACK, "\"os\",", "§\"OS\",")]),
    defect("unknown-value", "os-url", &[Replace(PACK, "[\"vsphere\"]", "[\"vsphere\", §\"vmware\"]")]),
    defect("unknown-value", "os-url", &[Replace(PACK, "\"false\"", "§\"no\"")]),
    defect("unknown-value", "k8s", &[Replace(PACK, "\"notSupported\"", "§\"notsupported\"")]),
    defect("unknown-value", "k8s", &[Replace(PACK, "\"cpu\"", "§\"gpu\"")]),
    defect("unknown-value", "k8s", &[Replace(PACK, "\"master\"", "§\"control-plane\"")]),
    defect(
        "unknown-value",
        "os-archive",
        &[Replace(VALUES, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "§abc")],
    ),
    defect("unknown-key", "os-url", &[Replace(PACK, "\"eol\"", "§\"kind\": 1,\n  \"eol\"")]),
    defect("unknown-key", "chart", &[Replace(VALUES, "charts:\n", "§replicas: 3\ncharts:\n")]),
    defect("annotation-type", "os-url", &[Replace(PACK, "\"false\"", "§false")]),
    defect("annotation-type", "os-url", &[Replace(PACK, "\"0\"", "§0")]),
    defect(
        "version-prefix",
        "os-url",
        &[
            RenameFolder("NAME-vVERSION"),
            Replace(PACK, "\"version\": \"VERSION\"", "\"version\": §\"vVERSION\""),
        ],
    ),
    defect("version-bounds", "k8s", &[Replace(PACK, "\"22.04\"", "§\"24.10\"")]),
    defect(
        "version-bounds",
        "k8s",
        &[Replace(
            PACK,
            "\"notSupported\"",
            "\"notSupported\", \"minVersion\": §\"1.10.0\", \"maxVersion\": \"1.9.9\"",
        )],
    ),
    defect(
        "dependency-type",
        "k8s",
        &[Replace(
            PACK,
            "{\"packName\": \"old\", \"layer\": \"addon\", \"type\": \"notSupported\"}",
            "§{\"packName\": \"old\", \"layer\": \"addon\"}",
        )],
    ),
    defect("ignored-limit", "k8s", &[Replace(PACK, "\"memory\", ", "\"memory\", \"minLimit\": §1, ")]),
    defect(
        "cloud-types",
        "os-url",
        &[Replace(PACK, "\"cloudTypes\": [\"vsphere\"]", "§\"cloudType\": \"vsphere\"")],
    ),
    defect("cloud-types", "os-url", &[Replace(PACK, "[\"vsphere\"]", "[]"), Expect(PACK)]),
    defect("eol-form", "os-url", &[Replace(PACK, "\"2028-04-30\"", "§\"30.4.2028\"")]),
    defect("eol-form", "os-url", &[Replace(PACK, "\"2028-04-30\"", "§\"2028-04-31\"")]),
    defect("eol-past", "os-url", &[Replace(PACK, "\"2028-04-30\"", "§\"2024-06-30\"")]),
    defect(
        "skip-without-image",
        "os-template",
        &[
            Replace(PACK, "\t\t\"imageId\": \"/Datacenter/vm/templates/centos-7\",\n", ""),
            Replace(PACK, "\"true\"", "§\"true\""),
        ],
    ),
    defect("tag-form", "os-url", &[Replace(PACK, "\"LTS\"", "§\"L T S\"")]),
    defect("unused-values", "os-archive", &[Replace(VALUES, "  harden_os:", "  §harden-os:")]),
    defect(
        "clear-text-password",
        "os-template",
        &[Replace(PACK, "\"{{ .spectro.var.Password }}\"", "§\"welcome\"")],
    ),
    // values.yaml
    defect("argument-type", "k8s", &[Replace(VALUES, "\"6443\"", "§6443")]),
    defect("argument-type", "k8s", &[Replace(VALUES, "event-qps: \"0\"", "event-qps: §0")]),
    defect(
        "kubeadm-file",
        "k8s",
        &[Replace(VALUES, "- path: hardening/audit-policy.yaml\n      targetPath", "- §targetPath")],
    ),
    defect(
        "kubeadm-file",
        "k8s",
        &[Replace(
            VALUES,
            "- path: hardening/audit-policy.yaml",
            "- §path: hardening/audit-policy.yaml\n      content: x",
        )],
    ),
    defect("kubeadm-layer", "chart", &[Replace(VALUES, "charts:\n", "§kubeadmconfig: {}\ncharts:\n")]),
    defect(
        "test-command",
        "k8s",
        &[Replace(
            VALUES,
            "'if test -f /etc/x; then chmod 600 /etc/x; fi'",
            "§'test -f /etc/x && chmod 600 /etc/x'",
        )],
    ),
    defect("test-command", "k8s", &[Replace(VALUES, "'sysctl -p", "§'[ -f /etc/x ] && sysctl -p")]),
    defect(
        "no-images",
        "chart",
        &[
            Replace(VALUES, "    images:\n      - image: registry.example.com:5000/app:VERSION-debian\n", ""),
            Expect(VALUES),
        ],
    ),
    defect(
        "artifact-digest",
        "os-archive",
        &[Replace(
            VALUES,
            "tool:\n      source: kubernetes\n      path: v1/bin/tool\n      sha256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n",
            "§tool:\n      source: kubernetes\n      path: v1/bin/tool\n",
        )],
    ),
    defect(
        "image-tag",
        "chart",
        &[Replace(
            VALUES,
            "- image: registry.example.com:5000/app:VERSION-debian",
            "§- image: registry.example.com:5000/app:v0.0.1",
        )],
    ),
    defect(
        "image-tag",
        "k8s",
        &[Replace(
            VALUES,
            "kube-apiserver:vVERSION",
            "kube-apiserver:vVERSION\n      - image: §registry.k8s.io/kube-proxy:vVERSION.1",
        )],
    ),
    defect("wrong-type", "kernel", &[Add(PACK, "§null")]),
    defect("wrong-type", "k8s", &[Replace(PACK, "{\"type\": \"cpu\", \"minLimit\": 2000}", "§null")]),
    defect("wrong-type", "os-url", &[Replace(PACK, "\"eol\"", "\"constraints\": §true,\n  \"eol\"")]),
    // macros, schema, presets
    defect(
        "unknown-macro",
        "k8s",
        &[Replace(VALUES, "{{ .spectro.var.Key }}", "§{{ .spectro.var.Key | shout }}")],
    ),
    defect("version-bounds", "k8s", &[Replace(PACK, "\"22.04\"", "§\"jammy\"")]),
    defect("unknown-macro", "k8s", &[Replace(VALUES, "{{ .spectro.system", "§{{ .spectro.cluster")]),
    defect(
        "unknown-macro",
        "k8s",
        &[Replace(VALUES, "{{ .spectro.var.Key }}", "§{{ .spectro.pack.vault }}")],
    ),
    defect("unknown-macro", "k8s", &[Replace(VALUES, "{{ .spectro.var.Key }}", "§{{ .spectro.var.Key }")]),
    defect(
        "schema-form",
        "k8s",
        &[Replace(SCHEMA, "'{{ format \"${string:/^[0-7]{4}$/}\" }}'", "§'{{ format \"${text}\" }}'")],
    ),
    defect(
        "schema-form",
        "k8s",
        &[
            Replace(SCHEMA, "{{ required | format", "{{ requires | format"),
            Replace(SCHEMA, "'{{ requires", "§'{{ requires"),
        ],
    ),
    defect("schema-form", "k8s", &[Replace(SCHEMA, "pack.podCIDR:\n  schema", "§pack.podCIDR:\n  scheme")]),
    defect("schema-path", "k8s", &[Replace(SCHEMA, "pack.podCIDR:", "§pack.podCidr:")]),
    defect("schema-value", "k8s", &[Replace(VALUES, "\"0600\"", "§\"rw\"")]),
    defect("schema-value", "k8s", &[Replace(VALUES, "\"192.168.0.0/16\"", "§\"192.168.0.0/33\"")]),
    defect("preset", "k8s", &[Replace(PRESETS, "- name: quiet", "- §name: verbose")]),
    defect("preset", "k8s", &[Replace(PRESETS, "add: \"\"", "add: §\"a: [\"")]),
    defect("preset", "k8s", &[Replace(PRESETS, "add: \"\"", "add: §\"[]\"")]),
    defect("preset-path", "k8s", &[Replace(PRESETS, "remove: []", "remove: [§pack.absent]")]),
    defect("enabled-preset", "k8s", &[Replace(VALUES, "audit:verbose", "audit:verbose, §audit:loud")]),
    defect("enabled-preset", "k8s", &[Replace(VALUES, "audit:verbose", "audit:verbose,§audit:quiet")]),
    // secrets; none of these is a key of anything
    defect(
        "private-key",
        "os-url",
        &[Add(
            "harden_os/files/key.pem",
            "-----BEGIN RSA §PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
        )],
    ),
    defect(
        "private-key",
        "os-url",
        &[Add("id", "-----BEGIN OPENSSH §PRIVATE KEY-----\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n")],
    ),
    defect(
        "private-key",
        "byoi",
        &[Replace(
            VALUES,
            "osName: ubuntu",
            "key: \"-----BEGIN §PRIVATE KEY-----\\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"",
        )],
    ),
    defect(
        "private-key",
        "byoi",
        &[Add("age.txt", "# a key\n§AGE-SECRET-KEY-1AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n")],
    ),
    defect(
        "private-key",
        "manifest",
        &[Replace(
            "manifests/app.yaml",
            "stringData",
            "data:\n  tls.key: §LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCkFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB\nstringData",
        )],
    ),
    defect(
        "encryption-key",
        "k8s",
        &[Replace(
            VALUES,
            "secret: \"{{ .spectro.var.Key }}\"",
            "§secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        )],
    ),
    defect(
        "encryption-key",
        "k8s",
        &[Add(
            "enc.yaml",
            "kind: EncryptionConfiguration\nkeys:\n  - name: a\n    §secret: AAAAAAAAAAAAAAAAAAAAAA== # 16 bytes\n",
        )],
    ),
];
