//! The harness itself: what the other tests stand on.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use gatewright_tests::cases;
use gatewright_tests::container::Container;
use gatewright_tests::fabric::{Fabric, Namespace, Network};
use gatewright_tests::figures::Timed;
use gatewright_tests::prerequisites::{self, Host};
use gatewright_tests::process::wait_for;
use gatewright_tests::run::Run;
use gatewright_tests::ssh;

const SOON: Duration = Duration::from_secs(30);

/// Hosts in two networks reach each other through the fabric, and not when the cable is out.
#[test]
fn networks_are_routed_and_cables_can_be_pulled() {
    if !prerequisites::fabric("harness::networks") {
        return;
    }
    let _timed = Timed::new("harness::networks");
    let fabric = Fabric::new().unwrap();
    let run = Run::current().unwrap();
    let (left, right) = (fabric.network(1).unwrap(), fabric.network(2).unwrap());
    let hosts = [Namespace::new(&run, "a").unwrap(), Namespace::new(&run, "b").unwrap()];
    let ports = [
        left.plug(&hosts[0], "ens192", "00:50:56:02:00:01").unwrap(),
        right.plug(&hosts[1], "ens192", "00:50:56:02:00:02").unwrap(),
    ];
    for (host, network) in hosts.iter().zip([&left, &right]) {
        host.ip(&format!(
            "addr add {}/24 dev ens192\nlink set ens192 up\nroute add default via {}\n",
            network.address(10),
            network.address(1)
        ))
        .unwrap();
    }
    let address = (right.address(10), 80);
    std::thread::scope(|scope| {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let server = &hosts[1];
        scope.spawn(move || {
            server
                .enter(|| {
                    let listener = TcpListener::bind(("0.0.0.0", 80)).unwrap();
                    ready.send(()).unwrap();
                    listener.accept().unwrap().0.write_all(b"hello").unwrap();
                })
                .unwrap();
        });
        is_ready.recv().unwrap();
        let try_once = || {
            hosts[0]
                .enter(|| TcpStream::connect_timeout(&address.into(), Duration::from_millis(300)))
                .unwrap()
        };
        ports[1].set_plugged(false).unwrap();
        assert!(try_once().is_err(), "the cable is out");
        ports[1].set_plugged(true).unwrap();
        let mut stream = wait_for("connection", SOON, || Ok(try_once().ok())).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert_eq!(said, "hello");
    });
}

/// Boot, power cut, reboot, power-off; several at once; and then it is as if nothing had been.
#[test]
fn containers_come_and_go() {
    let Some(image) = prerequisites::image("harness::containers", Host::Container) else { return };
    let _timed = Timed::new("harness::containers");
    let tree = image.tree().unwrap();
    let count = std::env::var("GATEWRIGHT_CONTAINERS").ok().and_then(|count| count.parse().ok()).unwrap_or(4);
    cases::for_each(
        "harness::containers",
        (0..count).collect(),
        |number| format!("container {number}"),
        |_| {
            let network = Arc::new(Fabric::single()?);
            let mut host = Container::new(&tree, &network)?;
            let names = names_of(&host, &network);
            host.start()?;
            let address = IpAddr::V4(host.wait_address(SOON)?);
            ssh::banner(network.fabric(), address, SOON)?;
            let keys = host.sh("echo kept > /root/kept; cat /etc/ssh/*.pub")?;
            host.power_cut();
            host.start()?;
            let address = IpAddr::V4(host.wait_address(SOON)?);
            ssh::banner(network.fabric(), address, SOON)?;
            assert_eq!(
                host.sh("cat /root/kept; systemctl --failed --no-legend")?,
                "kept",
                "and nothing failed"
            );
            assert_eq!(host.sh("cat /etc/ssh/*.pub")?, keys, "the host keys stay");
            host.power_off(SOON)?;
            drop((host, network));
            assert_eq!(left_behind(&names), Vec::<String>::new());
            Ok(())
        },
    );
}

/// The names under which a host and its fabric exist on this machine.
fn names_of(host: &Container, network: &Network) -> Vec<String> {
    vec![host.name().to_owned(), network.fabric().name().to_owned()]
}

/// Where this machine still knows any of the names.
fn left_behind(names: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("Linux has it");
    let mut folders = vec!["/run/netns".into(), "/sys/fs/cgroup".into()];
    folders.extend(fs::read_dir("/sys/fs/cgroup").expect("Linux has it").flatten().map(|entry| entry.path()));
    for name in names {
        found.extend(
            folders
                .iter()
                .map(|folder| folder.join(name))
                .filter(|path| path.exists())
                .map(|path| path.display().to_string()),
        );
        found.extend(mounts.lines().filter(|line| line.contains(&format!("/{name}/"))).map(str::to_owned));
        for process in fs::read_dir("/proc").expect("Linux has it").flatten() {
            let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&format!("{name}/")) {
                found.push(process.path().display().to_string());
            }
        }
    }
    found
}
