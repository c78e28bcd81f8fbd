//! The ledger when programs are killed, when several use it at once, and when its file is not what it was.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ip_pools::{Ledger, LedgerError, PoolSpec};

fn specs(end: u8) -> Vec<PoolSpec> {
    vec![PoolSpec {
        name: "edge".into(),
        start: "192.0.2.10".into(),
        end: format!("192.0.2.{end}"),
        prefix: Some(24),
        gateway: "192.0.2.1".into(),
        name_servers: vec!["192.0.2.2".into()],
        ..PoolSpec::default()
    }]
}

fn ledger(folder: &Path) -> Ledger {
    let ledger = Ledger::create(folder.join("ledger.json")).unwrap();
    ledger.set_pools(&specs(250), None).unwrap();
    ledger
}

/// The program that the other tests start, kill and start again: gives out addresses, now and then takes one back, and
/// writes down what it is about to do and what it was answered.
#[test]
#[ignore = "the other tests run it"]
fn worker() {
    let Ok(folder) = std::env::var("LEDGER_WORKER") else { return };
    let name = std::env::var("LEDGER_WORKER_NAME").unwrap();
    let folder = Path::new(&folder);
    let mut log = OpenOptions::new().create(true).append(true).open(folder.join(&name)).unwrap();
    let ledger = Ledger::open(folder.join("ledger.json")).unwrap();
    let last = std::env::var("LEDGER_WORKER_OWNERS").unwrap().parse().unwrap();
    for n in 0..last {
        // In one write each, which a kill cannot cut.
        let owner = if n % 5 == 4 { format!("shared-{n}") } else { format!("{name}-{n}") };
        log.write_all(format!("allocate {owner}\n").as_bytes()).unwrap();
        let address = ledger.allocate("edge", "cluster", &owner).unwrap();
        log.write_all(format!("has {owner} {address}\n").as_bytes()).unwrap();
        if n % 3 == 2 && n % 5 != 4 {
            log.write_all(format!("release {owner}\n").as_bytes()).unwrap();
            assert_eq!(ledger.release(&owner).unwrap(), Some(address));
            log.write_all(format!("released {owner}\n").as_bytes()).unwrap();
        }
    }
    log.write_all(b"done\n").unwrap();
}

fn start(folder: &Path, name: &str, owners: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "worker", "--ignored"])
        .env("LEDGER_WORKER", folder)
        .env("LEDGER_WORKER_NAME", name)
        .env("LEDGER_WORKER_OWNERS", owners.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// What a worker was told and still has, and what it had begun to ask for or to give back when it ended.
#[derive(Default)]
struct Told {
    has: BTreeMap<String, IpAddr>,
    open: BTreeSet<String>,
}

fn told(folder: &Path, name: &str) -> Told {
    let mut told = Told::default();
    for line in fs::read_to_string(folder.join(name)).unwrap_or_default().lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["allocate", owner] => drop(told.open.insert(owner.into())),
            ["has", owner, address] => {
                told.open.remove(owner);
                told.has.insert(owner.into(), address.parse().unwrap());
            }
            ["release", owner] => {
                told.has.remove(owner);
                told.open.insert(owner.into());
            }
            ["released", owner] => drop(told.open.remove(owner)),
            _ => assert_eq!(line, "done"),
        }
    }
    told
}

#[test]
fn nothing_is_lost_or_given_twice_when_a_program_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(dir.path());
    let (mut all, mut cut) = (Told::default(), 0);
    for round in 0..60 {
        let name = format!("round-{round}");
        let mut worker = start(dir.path(), &name, 10_000);
        while !dir.path().join(&name).exists() {
            assert!(worker.try_wait().unwrap().is_none(), "the worker ended by itself");
            std::thread::sleep(Duration::from_millis(1));
        }
        // At whatever it is doing.
        std::thread::sleep(Duration::from_micros(RandomState::new().hash_one(round) % 30_000));
        worker.kill().unwrap();
        worker.wait().unwrap();

        let told = told(dir.path(), &name);
        cut += told.open.len();
        all.has.extend(told.has);
        all.open.extend(told.open);
        // Opening it checks that no address is there twice.
        let book = ledger.read().unwrap();
        for (owner, address) in &all.has {
            assert_eq!(book.allotted()[owner].address, *address, "{owner}");
        }
        for owner in book.allotted().keys() {
            assert!(all.has.contains_key(owner) || all.open.contains(owner), "{owner} was taken back");
        }
        if book.allotted().len() > 150 {
            ledger.release_cluster("cluster").unwrap();
            all = Told::default();
        }
    }
    assert!(cut > 10, "only {cut} of the kills came in the middle of something");
    // Whoever asks again gets on.
    for (n, owner) in all.open.iter().enumerate() {
        let address = ledger.allocate("edge", "cluster", owner).unwrap();
        assert_eq!(ledger.allocate("edge", "cluster", owner).unwrap(), address, "{n}");
    }
}

#[test]
fn programs_at_once_share_nothing_but_what_they_ask_for_by_one_name() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(dir.path());
    let names = ["one", "two", "three", "four"];
    let workers = names.map(|name| start(dir.path(), name, 30));
    for mut worker in workers {
        assert!(worker.wait().unwrap().success());
    }
    let all_told = names.map(|name| told(dir.path(), name));
    let mut seen = BTreeMap::new();
    for (owner, address) in all_told.iter().flat_map(|told| &told.has) {
        let owner_before = seen.insert(address, owner);
        assert!(owner_before.is_none_or(|before| before == owner), "{address}: {owner_before:?} and {owner}");
    }
    for told in &all_told {
        assert!(told.open.is_empty());
        // n % 5 == 4, of 30.
        let shared = |has: &BTreeMap<String, IpAddr>| -> Vec<(String, IpAddr)> {
            has.iter()
                .filter(|(owner, _)| owner.starts_with("shared"))
                .map(|(o, a)| (o.clone(), *a))
                .collect()
        };
        assert_eq!(shared(&told.has).len(), 6);
        assert_eq!(shared(&told.has), shared(&all_told[0].has));
    }
    let book = ledger.read().unwrap();
    assert_eq!(book.allotted().len(), seen.len());
}

/// The order of calls by which what was answered outlives a power cut: the file's content is on the disk before its name
/// is, and its name before the answer.
#[test]
fn what_is_answered_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    ledger(dir.path());
    let trace = dir.path().join("trace");
    let traced = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=write,fsync,fdatasync,rename,renameat,renameat2", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "worker", "--ignored"])
        .env("LEDGER_WORKER", dir.path())
        .env("LEDGER_WORKER_NAME", "traced")
        .env("LEDGER_WORKER_OWNERS", "1")
        .stdout(Stdio::null())
        .status();
    if let Err(error) = traced {
        // Past the capture of what passes: it is counted.
        writeln!(std::io::stderr(), "CANNOT RUN: what_is_answered_is_on_the_disk: strace: {error}").unwrap();
        assert!(std::env::var_os("GATEWRIGHT_REQUIRE_ALL").is_none_or(|value| value != "1"));
        return;
    }
    assert!(traced.unwrap().success());
    let folder = fs::canonicalize(dir.path()).unwrap();
    let (folder, trace) = (folder.display(), fs::read_to_string(trace).unwrap());
    let calls: Vec<&str> = trace
        .lines()
        .filter_map(|line| line.split_once(' ').map(|(_, call)| call.trim()))
        .filter(|call| call.contains(&folder.to_string()) && call.contains(" = "))
        .collect();
    let expected = [
        ("write(", format!("{folder}/traced>, \"allocate ")),
        ("write(", format!("{folder}/ledger.json.new>")),
        ("fsync(", format!("{folder}/ledger.json.new>")),
        ("rename", format!("{folder}/ledger.json\"")),
        ("fsync(", format!("{folder}>")),
        ("write(", format!("{folder}/traced>, \"has ")),
        ("write(", format!("{folder}/traced>, \"done")),
    ];
    assert_eq!(calls.len(), expected.len(), "{calls:#?}");
    for (call, (name, what)) in calls.iter().zip(&expected) {
        assert!(call.starts_with(name) && call.contains(what), "{call} is not {name}{what}");
    }
}

#[test]
fn what_a_killed_writer_left_is_no_hindrance() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(dir.path());
    let address = ledger.allocate("edge", "cluster", "a").unwrap();
    for left in [&b""[..], b"{\"version\": 1, \"poo", &[0; 100_000]] {
        fs::write(dir.path().join("ledger.json.new"), left).unwrap();
        assert_eq!(ledger.allocate("edge", "cluster", "a").unwrap(), address);
        assert!(ledger.allocate("edge", "cluster", "b").unwrap() != address);
        ledger.release("b").unwrap();
    }
}

#[test]
fn a_ledger_that_cannot_be_trusted_gives_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.json");
    let missing = Ledger::open(&path).unwrap_err();
    assert!(matches!(missing, LedgerError::Missing(_)));

    let ledger = ledger(dir.path());
    assert!(matches!(Ledger::create(&path).unwrap_err(), LedgerError::Exists(_)));
    ledger.allocate("edge", "cluster", "a").unwrap();
    ledger.allocate("edge", "cluster", "b").unwrap();
    let good = fs::read_to_string(&path).unwrap();
    type Edit<'a> = &'a dyn Fn(&str) -> String;
    let edits: [(&str, Edit); 10] = [
        ("EOF while parsing", &|_| String::new()),
        ("EOF while parsing", &|good| good[..good.len() / 2].into()),
        ("expected value", &|good| "\0".repeat(good.len())),
        ("version 2", &|good| good.replace("\"version\": 1", "\"version\": 2")),
        ("`a` and `b` both have 192.0.2.10", &|good| good.replace("2.11\"\n", "2.10\"\n")),
        ("`b` is there twice", &|good| good.replace("\"a\": {", "\"b\": {")),
        ("which is not in the pool", &|good| good.replace("2.11\"\n", "2.251\"\n")),
        ("which is excluded", &|good| good.replace("\"exclude\": []", "\"exclude\": [\"192.0.2.11\"]")),
        ("from a pool that is not there", &|good| good.replace("\"pool\": \"edge\"", "\"pool\": \"egde\"")),
        ("The gateway is missing", &|good| good.replace("\"gateway\": \"192.0.2.1\"", "\"gateway\": \"\"")),
    ];
    for (why, edit) in edits {
        let bad = edit(&good);
        assert_ne!(bad, good, "{why}");
        fs::write(&path, &bad).unwrap();
        for error in [
            Ledger::open(&path).map(drop).unwrap_err(),
            ledger.allocate("edge", "cluster", "a").map(drop).unwrap_err(),
            ledger.release("a").map(drop).unwrap_err(),
            ledger.set_pools(&specs(250), None).unwrap_err(),
        ] {
            assert!(matches!(error, LedgerError::Corrupt { .. }), "{error}");
            assert!(error.to_string().contains(why), "{error}");
            assert!(error.hint().contains("twice"));
        }
        // And it is left as it is, for whoever mends it.
        assert_eq!(fs::read_to_string(&path).unwrap(), bad);
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(ledger.read().unwrap().allotted().len(), 2);
}

#[test]
fn a_pool_does_not_shrink_below_what_is_given_out() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(dir.path());
    for n in 0..4 {
        ledger.allocate("edge", "cluster", &format!("node-{n}")).unwrap();
    }
    let with = |change: &dyn Fn(&mut PoolSpec)| {
        let mut specs = specs(250);
        change(&mut specs[0]);
        ledger.set_pools(&specs, None)
    };
    let before = ledger.read().unwrap();
    let mut messages = Vec::new();
    for refused in [
        ledger.set_pools(&[], None),
        ledger.set_pools(&specs(12), None),
        with(&|spec| spec.start = "192.0.2.11".into()),
        with(&|spec| spec.exclude = vec!["192.0.2.13".into()]),
        with(&|spec| spec.name_servers = vec!["192.0.2.12".into()]),
        with(&|spec| spec.name = "other".into()),
        with(&|spec| spec.end = "192.0.2.9".into()),
    ] {
        let error = refused.unwrap_err();
        messages.push(format!("{error}.\n    {}", error.hint()));
    }
    insta::assert_snapshot!(messages.join("\n"));
    assert_eq!(ledger.read().unwrap(), before);
    ledger.set_pools(&specs(13), None).unwrap();
    ledger.release("node-3").unwrap();
    ledger.set_pools(&specs(12), None).unwrap();
    let full = ledger.allocate("edge", "cluster", "node-4").unwrap_err();
    assert_eq!(full.to_string(), "All 3 usable addresses of the pool `edge` are given out");
}
