use std::collections::{BTreeMap, VecDeque};
use std::fs::OpenOptions;

use proptest::prelude::*;
use protocol::link::{Event, Severity};

use super::*;

fn event(message: &str) -> Body {
    Body::Event(Event {
        severity: Severity::Info,
        reason: "Test".into(),
        message: message.into(),
        source: "test".into(),
    })
}

fn message(entry: &Entry) -> String {
    match &entry.body {
        Body::Event(event) => event.message.clone(),
        Body::Dropped { count } => format!("dropped {count}"),
        other => format!("{other:?}"),
    }
}

/// All that waits: number and text.
fn all(spool: &Spool) -> Vec<(u64, String)> {
    let inner = spool.lock();
    inner
        .slots
        .iter()
        .map(|slot| inner.read(*slot).unwrap())
        .map(|entry| (entry.sequence, message(&entry)))
        .collect()
}

struct Folder {
    dir: tempfile::TempDir,
    bounds: Bounds,
}

impl Folder {
    fn new(bytes: u64, entries: usize) -> Folder {
        Folder { dir: tempfile::tempdir().unwrap(), bounds: Bounds { bytes, entries } }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    fn open(&self) -> Spool {
        Spool::open(&self.path(), self.bounds).unwrap()
    }
}

#[test]
fn entries_are_kept_until_they_are_acknowledged() {
    let folder = Folder::new(1 << 20, 100);
    let spool = folder.open();
    let (id, last) = spool.position();
    assert_eq!(last, 0);
    for text in ["a", "b", "c"] {
        spool.push(event(text)).unwrap();
    }
    spool.acknowledge(Uuid::nil(), 3).unwrap();
    assert_eq!(spool.waiting(), 3, "that was of another spool");
    spool.acknowledge(id, 2).unwrap();
    drop(spool);
    let spool = folder.open();
    assert_eq!(spool.position(), (id, 3));
    assert_eq!(all(&spool), [(3, "c".into())]);
    spool.acknowledge(id, 3).unwrap();
    spool.push(event("d")).unwrap();
    assert_eq!(all(&folder_reopened(spool, &folder)), [(4, "d".into())]);
}

fn folder_reopened(spool: Spool, folder: &Folder) -> Spool {
    drop(spool);
    folder.open()
}

#[test]
fn the_oldest_go_first_and_are_counted() {
    let folder = Folder::new(1 << 20, 4);
    let spool = folder.open();
    for number in 1..=10 {
        spool.push(event(&number.to_string())).unwrap();
    }
    let expected = [(7, "dropped 7".to_string()), (8, "8".into()), (9, "9".into()), (10, "10".into())];
    assert_eq!(all(&spool), expected);
    assert_eq!(all(&folder_reopened(spool, &folder)), expected);
}

#[test]
fn bytes_are_bounded_too() {
    let folder = Folder::new(4096, 10_000);
    let spool = folder.open();
    for number in 0..500 {
        spool.push(event(&format!("{number} {}", "x".repeat(number % 700)))).unwrap();
        let inner = spool.lock();
        assert!(inner.live <= 4096, "{}", inner.live);
        assert!(inner.length <= 2 * inner.live + SLACK + 4096);
    }
    let waiting = all(&spool);
    let Some(count) = waiting[0].1.strip_prefix("dropped ") else { panic!("{waiting:?}") };
    assert_eq!(count.parse::<usize>().unwrap() + waiting.len() - 1, 500);
}

#[test]
fn a_console_that_knows_more_than_the_disk_begins_another_spool() {
    let folder = Folder::new(1 << 20, 100);
    let spool = folder.open();
    let (id, _) = spool.position();
    for text in ["a", "b"] {
        spool.push(event(text)).unwrap();
    }
    spool.acknowledge(id, 40).unwrap();
    assert_ne!(spool.position().0, id);
    assert_eq!(all(&spool), [(1, "a".into()), (2, "b".into())]);
    assert_eq!(all(&folder_reopened(spool, &folder)), [(1, "a".into()), (2, "b".into())]);
}

#[test]
fn another_pairing_begins_another_spool_with_what_waits() {
    let folder = Folder::new(1 << 20, 4);
    let spool = folder.open();
    for number in 1..=10 {
        spool.push(event(&number.to_string())).unwrap();
    }
    let (id, last) = spool.position();
    spool.acknowledge(id, last - 2).unwrap();
    spool.begin_anew().unwrap();
    let expected = [(1, "9".to_string()), (2, "10".into())];
    assert_eq!(all(&spool), expected);
    assert_ne!(spool.position().0, id);
    spool.acknowledge(id, last).unwrap();
    assert_eq!(all(&folder_reopened(spool, &folder)), expected, "a late word of the old one changes nothing");
}

#[test]
fn messages_have_bounds() {
    let folder = Folder::new(4 << 20, 10_000);
    let spool = folder.open();
    spool.push(event(&"ü".repeat(MAX_TEXT))).unwrap();
    for _ in 0..300 {
        spool.push(event("short")).unwrap();
    }
    let batch = spool.batch().unwrap();
    assert_eq!(batch.entries.len(), MAX_ENTRIES);
    let Body::Event(first) = &batch.entries[0].body else { panic!() };
    assert!(first.message.len() <= MAX_TEXT && first.message.ends_with("ü…"));
    // Six bytes of JSON for each of text: the worst that there is.
    for _ in 0..100 {
        spool.push(event(&"\u{1}".repeat(MAX_TEXT))).unwrap();
    }
    spool.acknowledge(batch.spool, 290).unwrap();
    let upstream = protocol::link::Upstream {
        spool: batch.spool,
        heartbeat: None,
        entries: spool.batch().unwrap().entries,
    };
    assert!(upstream.entries.len() > 5);
    assert!(serde_json::to_string(&upstream).unwrap().len() <= MAX_BATCH as usize + 1024);
}

#[test]
fn a_damaged_file_is_put_aside_and_what_can_be_read_goes_on() {
    let folder = Folder::new(1 << 20, 100);
    let spool = folder.open();
    let (id, _) = spool.position();
    for text in ["a", "b", "c"] {
        spool.push(event(text)).unwrap();
    }
    drop(spool);
    let mut bytes = fs::read(folder.path()).unwrap();
    let at = bytes.windows(3).position(|window| window == b"\"b\"").unwrap() + 1;
    bytes[at] = b'B';
    fs::write(folder.path(), &bytes).unwrap();
    let spool = folder.open();
    assert_ne!(spool.position().0, id);
    assert_eq!(all(&spool), [(1, "dropped 1".into()), (2, "a".into()), (3, "c".into())]);
    assert!(folder.path().with_extension("corrupt").exists());
    spool.push(event("d")).unwrap();
    assert_eq!(all(&spool)[3], (4, "d".into()));
}

#[test]
fn nothing_is_read_that_is_not_ours() {
    for content in [&b""[..], b"\n", b"\0\0\0\0\n", b"{}\n", &[0xff; 5000]] {
        let folder = Folder::new(1 << 20, 100);
        fs::write(folder.path(), content).unwrap();
        let spool = folder.open();
        spool.push(event("a")).unwrap();
        assert_eq!(all(&spool).last().unwrap().1, "a");
    }
}

/// What may happen to a spool.
#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    /// The console stores what it is sent, and perhaps the word of it is lost.
    Send {
        heard: bool,
    },
    Restart,
    /// The power goes while an entry is written: so much of its line is on the disk.
    Cut(usize),
    /// A bit of the disk turns over.
    Flip(usize, u8),
}

fn steps(damage: bool) -> impl Strategy<Value = Vec<Step>> {
    let flips = if damage { 1 } else { 0 };
    let step = prop_oneof![
        6 => (0usize..400).prop_map(Step::Push),
        3 => any::<bool>().prop_map(|heard| Step::Send { heard }),
        2 => Just(Step::Restart),
        2 => (0usize..300).prop_map(Step::Cut),
        flips => (any::<usize>(), 0u8..8).prop_map(|(at, bit)| Step::Flip(at, bit)),
    ];
    prop::collection::vec(step, 1..60)
}

/// A console: of each spool, what it has stored under which number.
#[derive(Default)]
struct Console(BTreeMap<Uuid, BTreeMap<u64, String>>);

impl Console {
    fn take(&mut self, batch: &Batch) -> u64 {
        let known = self.0.entry(batch.spool).or_default();
        for entry in &batch.entries {
            let last = known.keys().last().copied().unwrap_or(0);
            if entry.sequence > last {
                known.insert(entry.sequence, message(entry));
            }
        }
        known.keys().last().copied().unwrap_or(0)
    }

    fn stored(&self) -> Vec<String> {
        self.0.values().flat_map(|spool| spool.values().cloned()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever is cut off: each entry whose push returned is with the console once, in order, or counted as dropped.
    #[test]
    fn nothing_is_lost_and_nothing_comes_twice(steps in steps(false), small: bool) {
        let folder = if small { Folder::new(3000, 6) } else { Folder::new(1 << 20, 1000) };
        let mut spool = folder.open();
        let mut console = Console::default();
        let mut pushed = VecDeque::new();
        for step in steps {
            match step {
                Step::Push(length) => {
                    let text = format!("{} {}", pushed.len(), "x".repeat(length));
                    spool.push(event(&text)).unwrap();
                    pushed.push_back(text);
                }
                Step::Send { heard } => {
                    let batch = spool.batch().unwrap();
                    let acknowledged = console.take(&batch);
                    if heard {
                        spool.acknowledge(batch.spool, acknowledged).unwrap();
                    }
                }
                Step::Restart => {
                    drop(spool);
                    spool = folder.open();
                }
                Step::Cut(length) => {
                    let sequence = spool.position().1 + 1;
                    let time = Timestamp::now();
                    let cut = line(&Entry { sequence, time, body: event(&"y".repeat(400)) });
                    drop(spool);
                    let mut file = OpenOptions::new().append(true).open(folder.path()).unwrap();
                    file.write_all(&cut.as_bytes()[..length]).unwrap();
                    spool = folder.open();
                }
                Step::Flip(..) => unreachable!("no damage was asked for"),
            }
        }
        while spool.waiting() > 0 {
            let batch = spool.batch().unwrap();
            let acknowledged = console.take(&batch);
            spool.acknowledge(batch.spool, acknowledged).unwrap();
        }
        prop_assert!(!folder.path().with_extension("corrupt").exists());
        let stored = console.stored();
        let dropped: u64 = stored.iter().filter_map(|text| text.strip_prefix("dropped ")?.parse::<u64>().ok()).sum();
        let mut events = stored.iter().filter(|text| !text.starts_with("dropped ")).collect::<Vec<_>>();
        let order = events.clone();
        events.dedup();
        prop_assert_eq!(events.len(), order.len());
        // In the order of their making.
        let mut from = pushed.iter();
        for text in &order {
            prop_assert!(from.any(|one| one == *text), "{} came twice or out of order", text);
        }
        if !small {
            prop_assert_eq!(stored.len(), pushed.len());
        }
        // An entry that was sent may be dropped as well, before it is known to have arrived.
        prop_assert!(order.len() as u64 + dropped >= pushed.len() as u64);
    }

    /// Whatever the disk does: no number of a spool ever stands for two things that were sent, and it goes on.
    #[test]
    fn no_number_means_two_things(steps in steps(true)) {
        let folder = Folder::new(1 << 20, 1000);
        let mut spool = folder.open();
        let mut seen: BTreeMap<(Uuid, u64), String> = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push(length) => spool.push(event(&format!("{number} {}", "x".repeat(length)))).unwrap(),
                Step::Send { heard } => {
                    let batch = spool.batch().unwrap();
                    for entry in &batch.entries {
                        let text = message(entry);
                        let known = seen.entry((batch.spool, entry.sequence)).or_insert_with(|| text.clone());
                        prop_assert_eq!(&*known, &text);
                    }
                    if heard && let Some(last) = batch.entries.last() {
                        spool.acknowledge(batch.spool, last.sequence).unwrap();
                    }
                }
                Step::Restart | Step::Cut(_) => {
                    drop(spool);
                    spool = folder.open();
                }
                Step::Flip(at, bit) => {
                    drop(spool);
                    let mut bytes = fs::read(folder.path()).unwrap();
                    let at = at % bytes.len();
                    bytes[at] ^= 1 << bit;
                    fs::write(folder.path(), &bytes).unwrap();
                    spool = folder.open();
                }
            }
        }
        spool.push(event("last")).unwrap();
        prop_assert_eq!(all(&spool).pop().unwrap().1, "last");
    }
}
