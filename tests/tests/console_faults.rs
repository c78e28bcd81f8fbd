//! What breaks under a console: it is killed at any moment, its database is locked, full or gone. Nothing is lost, nothing
//! counts twice, and it goes on by itself.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use gatewright_tests::console::{Console, Setup};
use gatewright_tests::figures::{self, Timed};
use gatewright_tests::https::{Answer, Client};
use gatewright_tests::machine::{Machine, gateway, heartbeat};
use gatewright_tests::postgres::Postgres;
use gatewright_tests::prerequisites;
use gatewright_tests::process;
use gatewright_tests::run::Run;
use gatewright_tests::seed::Random;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use protocol::link::{Body, CommandResult, Entry, Event, Outcome, Severity, Upstream};
use protocol::pairing::{Confirmed, Started, Verdict};
use serde_json::{Value, json};
use uuid::Uuid;

/// Many machines start here from one address.
fn setup() -> Setup {
    Setup::default()
        .argument("--starts-per-address")
        .argument("100000")
        .argument("--starts")
        .argument("100000")
}

fn get(console: &Console, path: &str) -> Value {
    console.api().unwrap().get(path).unwrap().expect(200).unwrap()
}

fn restart(console: &mut Console) {
    console.kill();
    console.start_again().unwrap();
}

fn attempts(console: &Console, id: &str) -> i64 {
    get(console, &format!("/v1/gateways/{id}"))["pairing"]["attempts_left"].as_i64().unwrap()
}

fn event(sequence: u64) -> Entry {
    let event = Event {
        severity: Severity::Info,
        reason: "Counted".into(),
        message: sequence.to_string(),
        source: "test".into(),
    };
    Entry { sequence, time: jiff::Timestamp::now(), body: Body::Event(event) }
}

/// How often the console has each of a machine's events.
fn counted(console: &Console, id: &str) -> BTreeMap<u64, usize> {
    let (mut counts, mut before) = (BTreeMap::new(), String::new());
    loop {
        let page = get(console, &format!("/v1/gateways/{id}/events?limit=500{before}"));
        let items = page["items"].as_array().unwrap();
        for event in items.iter().filter(|event| event["reason"] == "Counted") {
            *counts.entry(event["message"].as_str().unwrap().parse().unwrap()).or_default() += 1;
        }
        match items.last() {
            Some(last) if items.len() == 500 => before = format!("&before={}", last["id"].as_str().unwrap()),
            _ => return counts,
        }
    }
}

fn once(numbers: std::ops::RangeInclusive<u64>) -> BTreeMap<u64, usize> {
    numbers.map(|number| (number, 1)).collect()
}

fn is_busy(answer: &Answer) {
    let problem = answer.expect(503).unwrap();
    assert_eq!(problem["type"], "database-busy", "{problem}");
    assert!(answer.header("retry-after").is_some());
}

#[test]
fn killed_between_the_messages_of_a_pairing() {
    let _timed = Timed::new("console_faults::between_messages");
    let mut console = setup().start().unwrap();
    let (id, code) = gateway(&console, "between", &json!({})).unwrap();
    let machine = Machine::new(&console).unwrap();
    let (side, start) = machine.begin(&code);
    let first = machine.send_start(&code, &start).unwrap().expect(200).unwrap();
    restart(&mut console);
    let again = machine.send_start(&code, &start).unwrap().expect(200).unwrap();
    assert_eq!(first, again, "the same message 1 has the same answer");
    assert_eq!(attempts(&console, &id), 4, "and costs one attempt");
    let claimant = side.started(&serde_json::from_value::<Started>(again).unwrap()).unwrap();
    let answer = machine.send_confirm(&claimant).unwrap().expect(200).unwrap();
    restart(&mut console);
    let again = machine.send_confirm(&claimant).unwrap().expect(200).unwrap();
    assert_eq!(answer, again, "the same message 3 has the same answer");
    let confirmed: Confirmed = serde_json::from_value(again).unwrap();
    let Verdict::Granted(grant) = claimant.confirmed(&confirmed).unwrap() else { panic!() };
    assert_eq!(grant.gateway.to_string(), id);
    let paired = machine.paired(&console, *grant).unwrap();
    let upstream = Upstream { spool: Uuid::now_v7(), heartbeat: None, entries: vec![event(1)] };
    assert_eq!(paired.say(&upstream).unwrap().acknowledged, 1);

    // While a person is asked, too.
    let (id, code) = gateway(&console, "asked", &json!({ "require_approval": true })).unwrap();
    let machine = Machine::new(&console).unwrap();
    let claimant = machine.start(&code).unwrap();
    assert!(matches!(machine.confirm(&claimant).unwrap(), Verdict::Waiting { .. }));
    restart(&mut console);
    assert!(matches!(machine.confirm(&claimant).unwrap(), Verdict::Waiting { .. }));
    let api = console.api().unwrap();
    assert_eq!(get(&console, &format!("/v1/gateways/{id}"))["pairing"]["number"], claimant.number());
    let approved = api
        .json("POST", &format!("/v1/gateways/{id}/pairing/approve"), &json!({ "number": claimant.number() }))
        .unwrap();
    assert!(approved.status.is_success(), "{}", approved.text());
    restart(&mut console);
    assert!(matches!(machine.confirm(&claimant).unwrap(), Verdict::Granted(_)));
}

/// Messages 1 and 3 are sent while the console is being killed, at many moments within them; then sent again.
#[test]
fn killed_inside_a_message_of_a_pairing() {
    const ROUNDS: usize = 10;
    let _timed = Timed::new("console_faults::inside_messages");
    let mut console = setup().start().unwrap();
    let (mut random, seed) = Random::from_environment();
    figures::say(&format!("console_faults::inside_messages: GATEWRIGHT_SEED={seed}"));
    let (mut answered, mut broken) = (0, 0);
    for round in 0..ROUNDS {
        let name = format!("inside-{round}");
        let (id, code) = gateway(&console, &name, &json!({})).unwrap();
        let machine = Machine::new(&console).unwrap();
        let (side, start) = machine.begin(&code);
        let mut note = |answer: anyhow::Result<Answer>| match answer {
            Ok(_) => answered += 1,
            Err(_) => broken += 1,
        };
        note(while_killed(&mut console, random.between(Duration::ZERO, Duration::from_millis(25)), || {
            machine.send_start(&code, &start)
        }));
        let left = attempts(&console, &id);
        assert!((4..=5).contains(&left), "{left}");
        let started = machine.send_start(&code, &start).unwrap().expect(200).unwrap();
        assert_eq!(attempts(&console, &id), 4);
        let claimant = side.started(&serde_json::from_value::<Started>(started).unwrap()).unwrap();
        note(while_killed(&mut console, random.between(Duration::ZERO, Duration::from_millis(25)), || {
            machine.send_confirm(&claimant)
        }));
        assert!(matches!(machine.confirm(&claimant).unwrap(), Verdict::Granted(_)));
        let shown = get(&console, &format!("/v1/gateways/{id}"));
        assert_eq!(
            (&shown["pairing"]["state"], &shown["pairing"]["attempts_left"]),
            (&json!("paired"), &json!(5))
        );
        assert_eq!(shown["state"], "pending");
    }
    let names = get(&console, "/v1/gateways?limit=500")["items"].as_array().unwrap().len();
    assert_eq!(names, ROUNDS, "no gateway is there twice");
    figures::say(&format!("killed inside a message: {broken} broke off, {answered} were answered"));
}

/// Sends something, kills the console a little later, and starts it again.
fn while_killed<T: Send>(console: &mut Console, after: Duration, send: impl FnOnce() -> T + Send) -> T {
    let answer = thread::scope(|scope| {
        let sent = scope.spawn(send);
        thread::sleep(after);
        console.kill();
        sent.join().unwrap()
    });
    console.start_again().unwrap();
    answer
}

/// Entries are sent without end while the console is killed again and again.
#[test]
fn entries_and_commands_outlive_the_console() {
    const ENTRIES: u64 = 2000;
    let _timed = Timed::new("console_faults::entries");
    let mut console = setup().start().unwrap();
    let (id, code) = gateway(&console, "entries", &json!({})).unwrap();
    let paired = Machine::new(&console).unwrap().pair(&console, &code).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let spool = Uuid::now_v7();
            let mut acknowledged = 0;
            while acknowledged < ENTRIES {
                let entries = (acknowledged + 1..=ENTRIES).take(50).map(event).collect();
                match paired.say(&Upstream { spool, heartbeat: None, entries }) {
                    Ok(down) => acknowledged = down.acknowledged,
                    Err(_) => thread::sleep(Duration::from_millis(20)),
                }
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            thread::sleep(Duration::from_millis(150));
            restart(&mut console);
        }
        sending.join().unwrap();
    });
    assert_eq!(counted(&console, &id), once(1..=ENTRIES));

    // A command is given while the machine is away, and the console ends before it is back.
    let api = console.api().unwrap();
    let commands = format!("/v1/gateways/{id}/commands");
    let given =
        api.json("POST", &commands, &json!({ "kind": "collect-bundle" })).unwrap().expect(201).unwrap();
    restart(&mut console);
    let spool = Uuid::now_v7();
    let down = paired.say(&Upstream { spool, heartbeat: None, entries: vec![] }).unwrap();
    assert_eq!(down.commands.len(), 1);
    let command = down.commands[0].id;
    assert_eq!(given["id"], command.to_string());
    for (outcome, message) in [(Outcome::Done, "first"), (Outcome::Failed, "second")] {
        let result = CommandResult { command, outcome, message: message.into() };
        let entry = Entry { sequence: 1, time: jiff::Timestamp::now(), body: Body::Result(result) };
        let upstream = Upstream { spool, heartbeat: None, entries: vec![entry] };
        assert_eq!(paired.say(&upstream).unwrap().acknowledged, 1);
        restart(&mut console);
    }
    let shown = &get(&console, &commands)["items"][0];
    assert_eq!((&shown["outcome"], &shown["message"]), (&json!("done"), &json!("first")));
}

/// The spool of a machine that was cut off for a day, with more in it than it could keep.
#[test]
fn a_day_without_network() {
    let _timed = Timed::new("console_faults::a_day");
    let console = setup().start().unwrap();
    let (id, code) = gateway(&console, "a-day", &json!({})).unwrap();
    let paired = Machine::new(&console).unwrap().pair(&console, &code).unwrap();
    let spool = Uuid::now_v7();
    let begun = jiff::Timestamp::now() - Duration::from_secs(24 * 60 * 60);
    let dropped = Entry { sequence: 500, time: begun, body: Body::Dropped { count: 500 } };
    let waiting: Vec<_> =
        std::iter::once(dropped)
            .chain((501..=3000).map(|sequence| Entry {
                time: begun + Duration::from_secs(sequence * 28),
                ..event(sequence)
            }))
            .collect();
    for entries in waiting.chunks(256) {
        let last = entries.last().unwrap().sequence;
        let upstream = Upstream { spool, heartbeat: Some(heartbeat()), entries: entries.to_vec() };
        assert_eq!(paired.say(&upstream).unwrap().acknowledged, last);
    }
    assert_eq!(counted(&console, &id), once(501..=3000));
    let events = get(&console, &format!("/v1/gateways/{id}/events?limit=1"));
    let time: jiff::Timestamp = events["items"][0]["time"].as_str().unwrap().parse().unwrap();
    assert!(time < begun + Duration::from_secs(24 * 60 * 60), "events keep their own time");
    let all = console.api().unwrap().get(&format!("/v1/gateways/{id}/events?limit=500")).unwrap();
    assert!(!all.text().contains("EntriesMissing"), "what was dropped was said to be");
    process::wait_for("healthy gateway", Duration::from_secs(15), || {
        Ok((get(&console, &format!("/v1/gateways/{id}"))["health"]["status"] == "healthy").then_some(()))
    })
    .unwrap();
}

/// Another process holds the database for longer than the console waits.
#[test]
fn the_database_is_locked() {
    let test = "console_faults::locked";
    let Some(()) = prerequisites::needed(test, prerequisites::programs(&[("python3", "python3")])) else {
        return;
    };
    let _timed = Timed::new(test);
    let console = setup().start().unwrap();
    let (id, code) = gateway(&console, "locked", &json!({})).unwrap();
    let paired = Machine::new(&console).unwrap().pair(&console, &code).unwrap();
    let (other, other_code) = gateway(&console, "other", &json!({})).unwrap();
    let machine = Machine::new(&console).unwrap();
    let (side, start) = machine.begin(&other_code);
    let upstream = Upstream { spool: Uuid::now_v7(), heartbeat: None, entries: vec![event(1)] };

    let mut python = process::guarded("python3");
    python.arg("-c").arg(
        "import sqlite3, sys\n\
         db = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
         db.execute('UPDATE tokens SET used_at = NULL')\n\
         db.execute('BEGIN EXCLUSIVE')\n\
         print('locked', flush=True)\n\
         sys.stdin.readline()\n\
         db.execute('ROLLBACK')\n",
    );
    python.arg(console.folder().join("console.db")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = process::spawn(python).unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "locked\n");
    // All at once: each waits for some seconds before it gives up.
    thread::scope(|scope| {
        let answers = [
            scope.spawn(|| paired.send(&upstream).unwrap()),
            scope.spawn(|| machine.send_start(&other_code, &start).unwrap()),
            scope.spawn(|| {
                console.api().unwrap().json("POST", "/v1/gateways", &json!({ "name": "third" })).unwrap()
            }),
        ];
        answers.into_iter().for_each(|answer| is_busy(&answer.join().unwrap()));
    });
    assert_eq!(attempts(&console, &other), 5, "what was not answered was not counted, and reading goes on");
    writeln!(holder.stdin.as_mut().unwrap()).unwrap();
    assert!(holder.wait().unwrap().success());

    assert_eq!(paired.say(&upstream).unwrap().acknowledged, 1);
    assert_eq!(counted(&console, &id), once(1..=1));
    let started = machine.send_start(&other_code, &start).unwrap().expect(200).unwrap();
    let claimant = side.started(&serde_json::from_value::<Started>(started).unwrap()).unwrap();
    assert!(matches!(machine.confirm(&claimant).unwrap(), Verdict::Granted(_)));
}

/// A small file system of a test's own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new() -> anyhow::Result<SmallDisk> {
        let run = Run::current()?;
        let folder = run.folder(&run.name("small"))?;
        mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), Some("size=16m,mode=0700"))?;
        Ok(SmallDisk(folder))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Until nothing fits any more.
    fn fill(&self) {
        let mut file = fs::File::create(self.filler()).unwrap();
        let block = [0; 4096];
        while file.write_all(&block).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn the_disk_is_full() {
    let test = "console_faults::full";
    let root =
        if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(anyhow::anyhow!("it mounts a tmpfs")) };
    let Some(disk) = prerequisites::needed(test, root.and_then(|()| SmallDisk::new())) else { return };
    let _timed = Timed::new(test);
    let console = setup().data(&disk.0).start().unwrap();
    let (id, code) = gateway(&console, "full", &json!({})).unwrap();
    let paired = Machine::new(&console).unwrap().pair(&console, &code).unwrap();
    // As of a token that was not used for a while: its use wants to be noted.
    let stale = "import sqlite3, sys; sqlite3.connect(sys.argv[1], isolation_level=None).execute('UPDATE tokens SET used_at = NULL')";
    process::output(Command::new("python3").args(["-c", stale]).arg(console.folder().join("console.db")))
        .unwrap();
    disk.fill();
    // SQLite may find room in pages that it has already; then it is full soon.
    let spool = Uuid::now_v7();
    let send = |first: u64| {
        let entries = (first..first + 100).map(event).collect();
        paired.send(&Upstream { spool, heartbeat: Some(heartbeat()), entries }).unwrap()
    };
    let mut acknowledged = 0;
    let refused = loop {
        let answer = send(acknowledged + 1);
        if answer.status != 200 {
            break answer;
        }
        acknowledged = answer.read::<Value>().unwrap()["acknowledged"].as_u64().unwrap();
        assert!(acknowledged < 100_000, "it is never full");
    };
    is_busy(&refused);
    assert_eq!(
        counted(&console, &id).len() as u64,
        acknowledged,
        "it can be read, and has what it said it had"
    );
    fs::remove_file(disk.filler()).unwrap();
    let down = send(acknowledged + 1).expect(200).unwrap();
    assert_eq!(down["acknowledged"], acknowledged + 100);
    assert_eq!(counted(&console, &id), once(1..=acknowledged + 100));
    drop(console);
}

fn postgres(test: &str) -> Option<Postgres> {
    let root = if nix::unistd::geteuid().is_root() {
        Ok(())
    } else {
        Err(anyhow::anyhow!("it needs root, to become `postgres`"))
    };
    prerequisites::needed(test, root.and_then(|()| Postgres::start()))
}

/// The server ends under the console, and comes back.
#[test]
fn postgresql_restarts() {
    let test = "console_faults::postgresql";
    let Some(mut server) = postgres(test) else { return };
    let _timed = Timed::new(test);
    let folder = tempfile::tempdir().unwrap();
    let console = setup().database(&server.url(), &folder.path().join("key")).start().unwrap();
    let (id, code) = gateway(&console, "restart", &json!({})).unwrap();
    let machine = Machine::new(&console).unwrap();
    let (side, start) = machine.begin(&code);
    let started = machine.send_start(&code, &start).unwrap().expect(200).unwrap();
    server.stop().unwrap();
    is_busy(&machine.send_start(&code, &start).unwrap());
    server.run().unwrap();
    assert_eq!(machine.send_start(&code, &start).unwrap().expect(200).unwrap(), started);
    let claimant = side.started(&serde_json::from_value::<Started>(started).unwrap()).unwrap();
    let Verdict::Granted(grant) = machine.confirm(&claimant).unwrap() else { panic!() };
    let paired = machine.paired(&console, *grant).unwrap();
    let upstream = Upstream { spool: Uuid::now_v7(), heartbeat: Some(heartbeat()), entries: vec![event(1)] };
    server.stop().unwrap();
    is_busy(&paired.send(&upstream).unwrap());
    server.run().unwrap();
    assert_eq!(paired.say(&upstream).unwrap().acknowledged, 1);
    assert_eq!(counted(&console, &id), once(1..=1));
    process::wait_for("healthy gateway", Duration::from_secs(15), || {
        Ok((get(&console, &format!("/v1/gateways/{id}"))["health"]["status"] == "healthy").then_some(()))
    })
    .unwrap();
}

/// Two consoles on one database: what is done at one holds at the other within a second or two.
#[test]
fn two_consoles_are_one() {
    let test = "console_faults::two_consoles";
    let Some(server) = postgres(test) else { return };
    let _timed = Timed::new(test);
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let first = setup().database(&server.url(), &key).start().unwrap();
    let second = setup().database(&server.url(), &key).start().unwrap();
    let (id, code) = gateway(&first, "shared", &json!({})).unwrap();
    let machine = Machine::new(&first).unwrap();
    let paired = machine.pair(&first, &code).unwrap();
    let there = machine.paired(&second, paired.grant.clone()).unwrap();
    let spool = Uuid::now_v7();
    let beat = Upstream { spool, heartbeat: Some(heartbeat()), entries: vec![event(1)] };
    assert_eq!(there.say(&beat).unwrap().acknowledged, 1);
    assert_eq!(paired.say(&beat).unwrap().acknowledged, 1, "what one has stored the other knows");
    process::wait_for("healthy gateway", Duration::from_secs(10), || {
        Ok((get(&first, &format!("/v1/gateways/{id}"))["health"]["status"] == "healthy").then_some(()))
    })
    .unwrap();

    let idle = Upstream { spool, heartbeat: None, entries: vec![] };
    let api = first.api().unwrap();
    let held = |then: &dyn Fn(&Client)| {
        thread::scope(|scope| {
            let poll = scope.spawn(|| there.send(&idle).unwrap());
            // It is held by the second console by then; if not, it finds what was done at once.
            thread::sleep(Duration::from_millis(300));
            then(&api);
            let done = std::time::Instant::now();
            (poll.join().unwrap(), done.elapsed())
        })
    };
    let (answer, took) = held(&|api| {
        let command = json!({ "kind": "collect-bundle" });
        api.json("POST", &format!("/v1/gateways/{id}/commands"), &command).unwrap().expect(201).unwrap();
    });
    assert_eq!(answer.expect(200).unwrap()["commands"].as_array().unwrap().len(), 1);
    assert!(took < Duration::from_secs(5), "{took:?}");
    let (answer, took) = held(&|api| {
        api.json("DELETE", &format!("/v1/gateways/{id}"), &Value::Null).unwrap().expect(204).unwrap();
    });
    assert_eq!(answer.expect(401).unwrap()["type"], "revoked");
    assert!(took < Duration::from_secs(5), "{took:?}");
}
