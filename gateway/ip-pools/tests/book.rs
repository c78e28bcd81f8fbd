//! The book against a model that enumerates everything, and the ledger against the book.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ip_pools::{Book, Ledger, LedgerError, PoolSpec, Refusal};
use proptest::prelude::*;

/// Pools `a` and `b` of 192.0.2.0/24: `a` is .10 and the following `sizes.0 + 1`, `b` is .40 and the following.
fn specs(sizes: (u8, u8), single: (bool, bool)) -> Vec<PoolSpec> {
    let spec = |name: &str, start: u8, size: u8, single: bool| PoolSpec {
        name: name.into(),
        start: format!("192.0.2.{start}"),
        end: format!("192.0.2.{}", start + size),
        prefix: Some(24),
        gateway: "192.0.2.12".into(),
        name_servers: vec!["192.0.2.1".into()],
        restrict_to_single_cluster: single,
        exclude: if start == 40 { vec!["192.0.2.41-192.0.2.42".into()] } else { Vec::new() },
        ..PoolSpec::default()
    };
    vec![spec("a", 10, sizes.0, single.0), spec("b", 40, sizes.1, single.1)]
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(&'static str, &'static str, &'static str),
    Claim(&'static str, &'static str, &'static str, u8),
    Reserve(&'static str, &'static str),
    Release(&'static str),
    ReleaseCluster(&'static str),
    SetPools((u8, u8), (bool, bool), Option<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let pool = || prop::sample::select(vec!["a", "b", "none"]);
    let cluster = || prop::sample::select(vec!["x", "y", "z"]);
    let owner = || prop::sample::select(vec!["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    prop_oneof![
        6 => (pool(), cluster(), owner()).prop_map(|(pool, cluster, owner)| Step::Allocate(pool, cluster, owner)),
        2 => (pool(), cluster(), owner(), 8u8..50)
            .prop_map(|(pool, cluster, owner, n)| Step::Claim(pool, cluster, owner, n)),
        1 => (pool(), cluster()).prop_map(|(pool, cluster)| Step::Reserve(pool, cluster)),
        3 => owner().prop_map(Step::Release),
        1 => cluster().prop_map(Step::ReleaseCluster),
        2 => ((0u8..6, 0u8..6), any::<(bool, bool)>(), prop::option::of(9u8..46))
            .prop_map(|(sizes, single, vip)| Step::SetPools(sizes, single, vip)),
    ]
}

/// What is true, said as plainly as can be.
#[derive(Default)]
struct Model {
    /// With the VIP, which is only for who asks for it.
    usable: BTreeMap<&'static str, BTreeSet<u8>>,
    vip: Option<u8>,
    /// Of pools for a single cluster: whose they are.
    single: BTreeMap<&'static str, Option<&'static str>>,
    allotted: BTreeMap<&'static str, (&'static str, &'static str, u8)>,
}

impl Model {
    fn taken(&self) -> BTreeSet<u8> {
        self.allotted.values().map(|(_, _, n)| *n).collect()
    }

    /// What can still be given to whoever asks for any address.
    fn free(&self, pool: &str) -> BTreeSet<u8> {
        let taken = self.taken();
        self.usable[pool].iter().copied().filter(|n| !taken.contains(n) && self.vip != Some(*n)).collect()
    }

    fn clusters(&self, pool: &str) -> BTreeSet<&'static str> {
        let using = self.allotted.values().filter(|(of, _, _)| *of == pool).map(|(_, cluster, _)| *cluster);
        using.chain(self.single.get(pool).copied().flatten()).collect()
    }

    /// Whether the pool is there and the cluster may use it.
    fn may_use(&self, pool: &str, cluster: &str) -> bool {
        let reserved = self.single.get(pool).copied().flatten();
        self.usable.contains_key(pool) && reserved.is_none_or(|other| other == cluster)
    }

    fn took(&mut self, pool: &'static str, cluster: &'static str, owner: &'static str, n: u8) {
        self.allotted.insert(owner, (pool, cluster, n));
        self.reserve(pool, cluster);
    }

    fn reserve(&mut self, pool: &'static str, cluster: &'static str) {
        if let Some(reserved) = self.single.get_mut(pool) {
            *reserved = Some(cluster);
        }
    }

    fn set_pools(&mut self, sizes: (u8, u8), single: (bool, bool), vip: Option<u8>) -> bool {
        let a: BTreeSet<u8> = (10..=10 + sizes.0).filter(|n| *n != 12).collect();
        let b = (40..=40 + sizes.1).filter(|n| !matches!(n, 41 | 42)).collect();
        let usable = BTreeMap::from([("a", a), ("b", b)]);
        // `b`'s exclusion must be in it.
        let sound = sizes.1 >= 1;
        let kept = self.allotted.values().all(|(pool, _, n)| usable[pool].contains(n));
        let vip_is_free = vip == self.vip || vip.is_none_or(|vip| !self.taken().contains(&vip));
        let clusters =
            [("a", single.0), ("b", single.1)].map(|(pool, single)| (pool, single, self.clusters(pool)));
        if !sound
            || !kept
            || !vip_is_free
            || clusters.iter().any(|(_, single, clusters)| *single && clusters.len() > 1)
        {
            return false;
        }
        self.single = clusters
            .into_iter()
            .filter(|(_, single, _)| *single)
            .map(|(pool, _, clusters)| (pool, clusters.first().copied()))
            .collect();
        (self.usable, self.vip) = (usable, vip);
        true
    }
}

fn address(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

fn last_octet(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(_) => panic!("{address} is none of the pools'"),
    }
}

/// Does a step to both, and compares what they say.
fn run(book: &mut Book, model: &mut Model, step: &Step) {
    match *step {
        Step::Allocate(pool, cluster, owner) => {
            let given = book.allocate(pool, cluster, owner);
            match model.allotted.get(owner).copied() {
                Some((p, c, n)) if (p, c) == (pool, cluster) => assert_eq!(given, Ok(address(n))),
                Some(_) => assert!(matches!(given, Err(Refusal::Has { .. })), "{given:?}"),
                None if !model.may_use(pool, cluster) => assert!(
                    matches!(
                        given,
                        Err(Refusal::Reserved { .. } | Refusal::NoPool(_) | Refusal::Full { .. })
                    ),
                    "{given:?}"
                ),
                None => match given {
                    Ok(given) => {
                        let n = last_octet(given);
                        assert!(model.free(pool).contains(&n), "{n} is given twice, or was not to be given");
                        model.took(pool, cluster, owner, n);
                    }
                    Err(refusal) => {
                        assert!(matches!(refusal, Refusal::Full { .. }), "{refusal}");
                        assert!(model.free(pool).is_empty());
                    }
                },
            }
        }
        Step::Claim(pool, cluster, owner, n) => {
            let claimed = book.claim(pool, cluster, owner, address(n));
            let expected = match model.allotted.get(owner) {
                Some(has) => *has == (pool, cluster, n),
                None => {
                    model.may_use(pool, cluster)
                        && model.usable[pool].contains(&n)
                        && !model.taken().contains(&n)
                }
            };
            assert_eq!(claimed.is_ok(), expected, "{claimed:?}");
            if expected {
                model.took(pool, cluster, owner, n);
            }
        }
        Step::Reserve(pool, cluster) => {
            let expected = model.may_use(pool, cluster);
            assert_eq!(book.reserve(pool, cluster).is_ok(), expected);
            if expected {
                model.reserve(pool, cluster);
            }
        }
        Step::Release(owner) => {
            let had = model.allotted.remove(owner).map(|(_, _, n)| address(n));
            assert_eq!(book.release(owner), had);
        }
        Step::ReleaseCluster(cluster) => {
            let had: BTreeSet<IpAddr> = model
                .allotted
                .values()
                .filter(|(_, c, _)| *c == cluster)
                .map(|(_, _, n)| address(*n))
                .collect();
            model.allotted.retain(|_, (_, c, _)| *c != cluster);
            model.single.values_mut().filter(|c| **c == Some(cluster)).for_each(|c| *c = None);
            assert_eq!(book.release_cluster(cluster), had.into_iter().collect::<Vec<_>>());
        }
        Step::SetPools(sizes, single, vip) => {
            let set = book.set_pools(&specs(sizes, single), vip.map(address));
            assert_eq!(set.is_ok(), model.set_pools(sizes, single, vip), "{set:?}");
        }
    }
    let allotted: BTreeMap<&str, IpAddr> =
        book.allotted().iter().map(|(owner, allotment)| (owner.as_str(), allotment.address)).collect();
    assert_eq!(allotted, model.allotted.iter().map(|(owner, (_, _, n))| (*owner, address(*n))).collect());
    for usage in book.usage() {
        let mine = model.allotted.values().filter(|(pool, _, _)| *pool == usage.pool).count() as u64;
        assert_eq!(usage.allotted, mine);
        assert_eq!(usage.available, model.free(&usage.pool).len() as u64);
        assert_eq!(usage.clusters, model.clusters(&usage.pool).into_iter().collect::<Vec<_>>());
    }
    assert_eq!(Book::from_json(&book.to_json()).as_ref(), Ok(&*book));
}

proptest! {
    #[test]
    fn the_book_is_as_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let (mut book, mut model) = (Book::new(), Model::default());
        run(&mut book, &mut model, &Step::SetPools((5, 5), (false, true), None));
        for step in &steps {
            run(&mut book, &mut model, step);
        }
    }
}

proptest! {
    // Every step is written to disk and made to last there.
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn the_ledger_is_as_the_book(steps in prop::collection::vec(step(), 1..30)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.json");
        Ledger::create(&path).unwrap();
        let mut book = Book::new();
        for step in &steps {
            // Opened anew each time, as after a restart.
            let ledger = Ledger::open(&path).unwrap();
            match *step {
                Step::Allocate(pool, cluster, owner) => {
                    same(ledger.allocate(pool, cluster, owner), book.allocate(pool, cluster, owner));
                }
                Step::Claim(pool, cluster, owner, n) => same(
                    ledger.claim(pool, cluster, owner, address(n)),
                    book.claim(pool, cluster, owner, address(n)),
                ),
                Step::Reserve(pool, cluster) => same(ledger.reserve(pool, cluster), book.reserve(pool, cluster)),
                Step::Release(owner) => same(ledger.release(owner), Ok(book.release(owner))),
                Step::ReleaseCluster(cluster) => {
                    same(ledger.release_cluster(cluster), Ok(book.release_cluster(cluster)));
                }
                Step::SetPools(sizes, single, vip) => {
                    let (specs, vip) = (specs(sizes, single), vip.map(address));
                    same(ledger.set_pools(&specs, vip), book.set_pools(&specs, vip));
                }
            }
            assert_eq!(ledger.read().unwrap(), book);
        }
    }
}

fn same<T: PartialEq + std::fmt::Debug>(ledger: Result<T, LedgerError>, book: Result<T, Refusal>) {
    match (ledger, book) {
        (Ok(ledger), Ok(book)) => assert_eq!(ledger, book),
        (Err(LedgerError::Refused(ledger)), Err(book)) => assert_eq!(ledger, book),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_address_that_was_released_rests() {
    let mut book = Book::new();
    book.set_pools(&specs((5, 5), (false, false)), None).unwrap();
    let mut given = Vec::new();
    for n in 0..7 {
        let owner = format!("node-{n}");
        given.push(last_octet(book.allocate("a", "x", &owner).unwrap()));
        book.release(&owner);
    }
    // .12 is the gateway; after the last the first has rested longest.
    assert_eq!(given, [10, 11, 13, 14, 15, 10, 11]);
}

#[test]
fn a_vip_that_was_chosen_is_its_claimants_alone() {
    let mut book = Book::new();
    let specs = specs((3, 3), (false, false));
    book.allocate("a", "x", "early").unwrap_err();
    book.set_pools(&specs, Some(address(11))).unwrap();
    assert_eq!(book.allocate("a", "x", "node-1"), Ok(address(10)));
    assert_eq!(book.allocate("a", "x", "node-2"), Ok(address(13)), ".12 is the gateway");
    let full = book.allocate("a", "x", "node-3").unwrap_err();
    assert_eq!(full.to_string(), "All 2 usable addresses of the pool `a` are given out");
    book.claim("a", "x", "vip", address(11)).unwrap();
    book.set_pools(&specs, Some(address(11))).unwrap();
    assert_eq!((book.usage()[0].allotted, book.usage()[0].available), (3, 0));
    // A node's address does not become the VIP.
    let taken = book.set_pools(&specs, Some(address(13))).unwrap_err();
    assert_eq!(taken, Refusal::Taken { address: address(13), owner: "node-2".into() });
    book.release("vip");
    assert!(matches!(book.allocate("a", "x", "node-3"), Err(Refusal::Full { .. })));
}

#[test]
fn a_large_pool_takes_no_longer() {
    let mut book = Book::new();
    let spec = PoolSpec {
        name: "six".into(),
        subnet: "2001:db8::/64".into(),
        gateway: "fe80::1".into(),
        name_servers: vec!["2001:db8::53".into()],
        ..PoolSpec::default()
    };
    book.set_pools(&[spec], None).unwrap();
    book.claim("six", "x", "last", "2001:db8::ffff:ffff:ffff:fffe".parse().unwrap()).unwrap();
    assert_eq!(book.allocate("six", "x", "first"), Ok("2001:db8::1".parse().unwrap()));
    book.claim("six", "x", "very last", "2001:db8::ffff:ffff:ffff:ffff".parse().unwrap()).unwrap();
    assert_eq!(book.allocate("six", "x", "second"), Ok("2001:db8::2".parse().unwrap()));
    assert_eq!(book.usage()[0].available, ip_pools::MANY - 4);
}
