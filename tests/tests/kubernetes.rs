//! The Kubernetes node, up to where a cluster begins.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::os::unix::fs::MetadataExt;

use gatewright_tests::container::Container;
use gatewright_tests::figures::Timed;
use gatewright_tests::host::SOON;
use gatewright_tests::kubernetes::{images, node, version};
use gatewright_tests::prerequisites::{self, Host};
use gatewright_tests::process::wait_for;
use serde_json::Value;

/// What the CIS benchmark says of files that kubeadm does not make.
#[test]
fn files_are_nobody_elses() {
    let test = "kubernetes::files";
    let Some(image) = prerequisites::node(test, Host::Container) else { return };
    let _timed = Timed::new(test);
    let tree = image.tree().unwrap();
    for (path, mode) in [
        ("usr/bin/kubeadm", 0o755),
        ("usr/bin/kubelet", 0o755),
        ("usr/bin/kubectl", 0o755),
        ("usr/bin/crictl", 0o755),
        ("usr/lib/systemd/system/kubelet.service", 0o600),
        ("usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf", 0o600),
        ("etc/containerd/config.toml", 0o600),
        ("etc/cni/net.d", 0o700),
        ("etc/kubernetes/manifests", 0o700),
        ("etc/kubernetes/audit-policy.yaml", 0o600),
        ("etc/kubernetes/authentication.yaml", 0o600),
        ("etc/kubernetes/pod-security-standard.yaml", 0o600),
        ("etc/sysctl.d/90-kubelet.conf", 0o600),
    ] {
        let found = tree.path().join(path).metadata().unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (mode, 0, 0), "{path}");
    }
    // Clones with one machine-id would share an address.
    assert_eq!(tree.path().join("etc/machine-id").metadata().unwrap().len(), 0);
}

/// A clone takes name, user and commands from vSphere, waits for kubeadm without complaint, and kubeadm takes what the
/// pack has made for it.
#[test]
fn a_clone_is_ready_for_kubeadm() {
    let test = "kubernetes::clone";
    let Some(image) = prerequisites::node(test, Host::Container) else { return };
    let _timed = Timed::new(test);
    let mut node = node(
        &image.tree().unwrap(),
        "node-01",
        "#cloud-config\nruncmd:\n  - [touch, /run/cloud-init-has-run]\n",
    )
    .unwrap();
    node.start().unwrap();
    if let Err(error) = is_ready(&mut node) {
        let failed = node.exec("systemctl --failed; journalctl -b --no-pager | tail -60").unwrap();
        panic!("{error:#}\n{}", failed.stdout);
    }
}

fn is_ready(node: &mut Container) -> anyhow::Result<()> {
    let state = wait_for("end of the boot", 3 * SOON, || {
        let state = node.exec("systemctl is-system-running")?.stdout;
        Ok(["running\n", "degraded\n"].contains(&state.as_str()).then_some(state))
    })?;
    assert_eq!(
        state,
        "running\n",
        "{}",
        node.sh("systemctl --failed --no-legend; journalctl -b -p warning --no-pager")?
    );

    assert_eq!(node.sh("cloud-init status | head -1")?, "status: done");
    assert_eq!(node.sh("hostname; ls /run/cloud-init-has-run")?, "node-01\n/run/cloud-init-has-run");
    assert_eq!(node.sh("cat /run/cloud-init/cloud-id")?, "vmware");

    let version = version();
    assert_eq!(node.sh("kubeadm version -o short")?, version);
    assert_eq!(node.sh("kubelet --version")?, format!("Kubernetes {version}"));
    assert!(node.sh("kubectl version --client")?.contains(&version));
    assert_eq!(
        node.sh("systemctl is-enabled kubelet containerd swap.target || true")?,
        "enabled\nenabled\nmasked"
    );
    // It would fail every ten seconds until kubeadm has run.
    assert_eq!(node.sh("systemctl show -P NRestarts -P ConditionResult kubelet")?, "0\nno");
    node.sh("systemd-analyze verify kubelet.service gatewright-images.service")?;

    node.sh("kubeadm config validate --config /usr/share/gatewright/kubeadm.yaml")?;
    let listed = node.sh("kubeadm config images list --config /usr/share/gatewright/kubeadm.yaml | sort")?;
    assert_eq!(listed.lines().collect::<Vec<_>>(), images()?);
    // The commands of the packs end well where there is nothing to do.
    node.sh("/usr/libexec/gatewright/pre-kubeadm && /usr/libexec/gatewright/post-kubeadm")?;

    let config = node.sh("containerd config dump")?;
    let pause = images()?.into_iter().find(|image| image.contains("/pause:")).unwrap();
    assert!(config.contains(&format!("sandbox_image = \"{pause}\"")), "{config}");
    assert!(config.contains("SystemdCgroup = true"), "{config}");
    node.sh("test -x /opt/cni/bin/bridge && test -x /opt/cni/bin/loopback")?;
    let ready: Value = serde_json::from_str(&node.sh("crictl info")?)?;
    let condition = &ready["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&"RuntimeReady".into(), &true.into()), "{ready}");

    // An image that came along is imported once, and the kubelet leaves it alone.
    node.sh(IMAGE)?;
    let import = "systemctl restart gatewright-images";
    let made = "ctr -n k8s.io images list --quiet | grep -cx example.test/made:1";
    node.sh(import)?;
    assert_eq!(node.sh("crictl images -o json example.test/made | grep -c '\"pinned\": true'")?, "1");
    node.sh(&format!("ctr -n k8s.io images rm example.test/made:1 && {import}"))?;
    assert_eq!(node.exec(made)?.stdout, "0\n", "it was imported again");
    node.sh(&format!("rm -r /var/lib/containerd/gatewright-images && {import}"))?;
    assert_eq!(node.sh(made)?, "1");
    Ok(())
}

/// An archive of a container image with nothing in it, where the builder puts them.
const IMAGE: &str = r#"
cd "$(mktemp -d)"
mkdir root
tar -cf layer.tar -C root .
layer=$(sha256sum layer.tar | cut -d' ' -f1)
echo '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:'$layer'"]}}' > config.json
echo '[{"Config":"config.json","RepoTags":["example.test/made:1"],"Layers":["layer.tar"]}]' > manifest.json
tar -cf /var/lib/gatewright/images/made.tar manifest.json config.json layer.tar
"#;
