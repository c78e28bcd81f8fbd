//! What a ledger says: pools, and who has which of their addresses. No files here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::around::{Surroundings, read_all};
use crate::finding::Finding;
use crate::pool::Pool;
use crate::span::next;
use crate::spec::PoolSpec;
use crate::text::{name_fault, quoted};

/// The version of the file that this writes and reads.
const VERSION: u32 = 1;
/// The most addresses that can be given out: with them the file is about 10 MB.
pub const MOST: usize = 65_536;
/// The longest name of a cluster or an owner, in characters: those of Kubernetes' objects.
const KEY: usize = 253;

/// Pools, and who has which of their addresses.
///
/// Always true of it: the pools are sound and share no address; an address that is given out belongs to its pool, and to
/// one owner; the addresses of a pool for a single cluster are that cluster's; a VIP that somebody chose has who claimed
/// it, or nobody.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Book {
    pools: BTreeMap<String, Entry>,
    vip: Option<IpAddr>,
    allotted: BTreeMap<String, Allotment>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Entry {
    spec: PoolSpec,
    pool: Pool,
    /// Which cluster has a pool that is for a single one.
    cluster: Option<String>,
    /// The address that was given last. The next one comes after it, so that one that was released rests as long as
    /// possible: neighbours remember whose it was (ARP, connections).
    last: Option<IpAddr>,
}

/// An address that is given out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Allotment {
    /// The pool that it is from.
    pub pool: String,
    /// The cluster that it is for.
    pub cluster: String,
    /// The address.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
}

/// How a pool is used.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Usage {
    /// What people call it.
    pub pool: String,
    /// Addresses that are given out.
    pub allotted: u64,
    /// Addresses that can still be given out; at most [`MANY`](crate::MANY).
    pub available: u64,
    /// The clusters that have some, or that it is reserved for, in order.
    pub clusters: Vec<String>,
}

/// The file.
#[derive(Deserialize, Serialize)]
struct File {
    version: u32,
    pools: Vec<Kept>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vip: Option<IpAddr>,
    #[serde(deserialize_with = "each_once")]
    allotted: BTreeMap<String, Allotment>,
}

#[derive(Deserialize, Serialize)]
struct Kept {
    #[serde(flatten)]
    spec: PoolSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<IpAddr>,
}

/// A map whose keys come once: of two values for one owner the first would be forgotten, and its address given again.
fn each_once<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Allotment>, D::Error> {
    struct EachOnce;
    impl<'de> Visitor<'de> for EachOnce {
        type Value = BTreeMap<String, Allotment>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map from owners to addresses")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut all = BTreeMap::new();
            while let Some((owner, allotment)) = map.next_entry::<String, Allotment>()? {
                if all.insert(owner.clone(), allotment).is_some() {
                    return Err(M::Error::custom(format!("{} is there twice", quoted(&owner))));
                }
            }
            Ok(all)
        }
    }
    deserializer.deserialize_map(EachOnce)
}

/// Why an address is not given, or a pool not changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The pools are not sound.
    #[error("The pools cannot be used: {}", list(.0))]
    Unsound(Vec<Finding>),
    /// There is no such pool.
    #[error("There is no pool {}", quoted(.0))]
    NoPool(String),
    /// A name is empty, too long, or cannot be shown.
    #[error("{} is no name of a cluster or owner", quoted(.0))]
    Name(String),
    /// All addresses of a pool are given out.
    #[error("All {given} usable addresses of the pool {} are given out", quoted(.pool))]
    Full {
        /// The pool.
        pool: String,
        /// How many there are.
        given: u128,
    },
    /// A pool is for another cluster.
    #[error("The pool {} is reserved for the cluster {}", quoted(.pool), quoted(.cluster))]
    Reserved {
        /// The pool.
        pool: String,
        /// Who has it.
        cluster: String,
    },
    /// An owner has an address already, from another pool or for another cluster.
    #[error(
        "{} has {} already, from the pool {} for the cluster {}",
        quoted(.owner), .has.address, quoted(&.has.pool), quoted(&.has.cluster)
    )]
    Has {
        /// Who.
        owner: String,
        /// What it has.
        has: Allotment,
    },
    /// Somebody else has an address.
    #[error("{address} belongs to {}", quoted(.owner))]
    Taken {
        /// Which.
        address: IpAddr,
        /// Who has it.
        owner: String,
    },
    /// An address is not given out by a pool.
    #[error("The pool {} does not give out {address}: it is {why}", quoted(.pool))]
    Unusable {
        /// The pool.
        pool: String,
        /// Which.
        address: IpAddr,
        /// As in `the gateway`.
        why: String,
    },
    /// A change would leave addresses that are given out without their pool.
    #[error("The pool {} cannot lose {}: {} has it", quoted(.pool), .address, quoted(.owner))]
    Shrunk {
        /// The pool.
        pool: String,
        /// The first of these addresses.
        address: IpAddr,
        /// Who has it.
        owner: String,
    },
    /// A pool that several clusters use cannot be one's alone.
    #[error("The pool {} is used by several clusters: {}", quoted(.pool), .clusters.join(", "))]
    Shared {
        /// The pool.
        pool: String,
        /// Who uses it.
        clusters: Vec<String>,
    },
    /// There are [`MOST`] addresses given out.
    #[error("{MOST} addresses are given out, the most that a ledger holds")]
    TooMany,
}

impl Refusal {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Refusal::Unsound(_) => "Correct the pools.",
            Refusal::NoPool(_) => "Name a pool of the gateway's configuration.",
            Refusal::Name(_) => "Give it 1 to 253 characters that can be seen.",
            Refusal::Full { .. } => "Enlarge the pool, or delete a cluster that uses it.",
            Refusal::Reserved { .. } => {
                "Use another pool, or one that is not restricted to a single cluster."
            }
            Refusal::Has { .. } => "Release that address first.",
            Refusal::Taken { .. } => "Choose another address.",
            Refusal::Unusable { .. } => "Choose an address of the pool that is not left out.",
            Refusal::Shrunk { .. } => "Keep the address in the pool, or delete first what uses it.",
            Refusal::Shared { .. } => "Keep it for all, or delete the other clusters first.",
            Refusal::TooMany => "Release addresses that are no longer used.",
        }
    }
}

fn list(findings: &[Finding]) -> String {
    let messages: Vec<_> = findings.iter().map(|finding| finding.message.trim_end_matches('.')).collect();
    messages.join("; ")
}

impl Book {
    /// Without pools.
    #[must_use]
    pub fn new() -> Book {
        Book { pools: BTreeMap::new(), vip: None, allotted: BTreeMap::new() }
    }

    /// Reads a file's content.
    ///
    /// # Errors
    /// With the reason why it cannot be trusted: nothing is mended by guessing, or an address could be given twice.
    pub fn from_json(bytes: &[u8]) -> Result<Book, String> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } =
            serde_json::from_slice(bytes).map_err(|e| format!("it cannot be read: {e}"))?;
        if version != VERSION {
            return Err(format!("it is of version {version}, and this program knows version {VERSION}"));
        }
        let file: File = serde_json::from_slice(bytes).map_err(|e| format!("it cannot be read: {e}"))?;
        let (mut specs, mut kept) = (Vec::new(), Vec::new());
        for pool in file.pools {
            specs.push(pool.spec);
            kept.push((pool.cluster, pool.last));
        }
        let mut pools = entries(specs, file.vip).map_err(|findings| list(&findings))?;
        for (entry, (cluster, last)) in pools.iter_mut().zip(kept) {
            (entry.cluster, entry.last) = (cluster, last);
        }
        let pools = pools.into_iter().map(|entry| (entry.pool.name().to_string(), entry)).collect();
        let book = Book { pools, vip: file.vip, allotted: file.allotted };
        book.fault().map_or(Ok(book), Err)
    }

    /// The file's content.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let pools = self.pools.values().map(|entry| Kept {
            spec: entry.spec.clone(),
            cluster: entry.cluster.clone(),
            last: entry.last,
        });
        let file =
            File { version: VERSION, pools: pools.collect(), vip: self.vip, allotted: self.allotted.clone() };
        let mut json =
            serde_json::to_vec_pretty(&file).expect("maps have text keys, and nothing else can fail");
        json.push(b'\n');
        json
    }

    /// What is not true of it that must be.
    fn fault(&self) -> Option<String> {
        if self.allotted.len() > MOST {
            return Some(format!("it gives out more than {MOST} addresses"));
        }
        let mut seen = BTreeMap::new();
        for (owner, allotment) in &self.allotted {
            let Allotment { pool, cluster, address } = allotment;
            if let Some(name) = [owner, cluster].into_iter().find(|name| check_name(name).is_err()) {
                return Some(format!("{} is no name of a cluster or owner", quoted(name)));
            }
            let Some(entry) = self.pools.get(pool) else {
                return Some(format!("{} has {address} from a pool that is not there", quoted(owner)));
            };
            if let Some(why) = not_claimable(&entry.pool, *address) {
                return Some(format!("{} has {address}, which is {why}", quoted(owner)));
            }
            if let Some(other) = seen.insert(address, owner) {
                return Some(format!("{} and {} both have {address}", quoted(other), quoted(owner)));
            }
            if entry.pool.is_for_single_cluster() && entry.cluster.as_ref() != Some(cluster) {
                return Some(format!("{} has {address} from a pool of another cluster", quoted(owner)));
            }
        }
        for entry in self.pools.values() {
            let Some(cluster) = &entry.cluster else { continue };
            if !entry.pool.is_for_single_cluster() || check_name(cluster).is_err() {
                return Some(format!("the pool {} is reserved as it cannot be", quoted(entry.pool.name())));
            }
        }
        None
    }

    /// Makes these the pools, and this the VIP if somebody chose one: an address that only [`Book::claim`] gives. Pools keep
    /// their addresses and reservation by name.
    ///
    /// # Errors
    /// If they are not sound, if an address that is given out would lose its pool, or if somebody has what becomes the VIP.
    pub fn set_pools(&mut self, specs: &[PoolSpec], vip: Option<IpAddr>) -> Result<(), Refusal> {
        let entries = entries(specs.to_vec(), vip).map_err(Refusal::Unsound)?;
        if let Some(address) = vip.filter(|_| vip != self.vip)
            && let Some(owner) = self.owner(address)
        {
            return Err(Refusal::Taken { address, owner: owner.into() });
        }
        let mut pools: BTreeMap<String, Entry> =
            entries.into_iter().map(|entry| (entry.pool.name().to_string(), entry)).collect();
        for (owner, Allotment { pool, address, .. }) in &self.allotted {
            if !pools.get(pool).is_some_and(|entry| entry.pool.can_be_claimed(*address)) {
                return Err(Refusal::Shrunk { pool: pool.clone(), address: *address, owner: owner.clone() });
            }
        }
        for (name, entry) in &mut pools {
            let before = self.pools.get(name);
            entry.last = before.and_then(|before| before.last);
            if entry.pool.is_for_single_cluster() {
                let clusters = self.clusters(name);
                if clusters.len() > 1 {
                    return Err(Refusal::Shared { pool: name.clone(), clusters });
                }
                entry.cluster = clusters.into_iter().next();
            }
        }
        (self.pools, self.vip) = (pools, vip);
        Ok(())
    }

    /// The pools, as they were given.
    pub fn pools(&self) -> impl Iterator<Item = &PoolSpec> {
        self.pools.values().map(|entry| &entry.spec)
    }

    /// Who has which address.
    #[must_use]
    pub fn allotted(&self) -> &BTreeMap<String, Allotment> {
        &self.allotted
    }

    /// The VIP that somebody chose.
    #[must_use]
    pub fn vip(&self) -> Option<IpAddr> {
        self.vip
    }

    fn owner(&self, address: IpAddr) -> Option<&str> {
        let mut owners = self.allotted.iter().filter(|(_, allotment)| allotment.address == address);
        owners.next().map(|(owner, _)| owner.as_str())
    }

    /// The clusters that have addresses of a pool, or that it is reserved for.
    fn clusters(&self, pool: &str) -> Vec<String> {
        let using = self.allotted.values().filter(|allotment| allotment.pool == pool);
        let reserved = self.pools.get(pool).and_then(|entry| entry.cluster.clone());
        using
            .map(|allotment| allotment.cluster.clone())
            .chain(reserved)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// How each pool is used.
    #[must_use]
    pub fn usage(&self) -> Vec<Usage> {
        let usage = |(name, entry): (&String, &Entry)| {
            let allotted = || self.allotted.values().filter(|allotment| allotment.pool == *name);
            // A VIP that was claimed was none of the usable ones.
            let given = allotted().filter(|allotment| entry.pool.can_give(allotment.address)).count() as u64;
            Usage {
                pool: name.clone(),
                allotted: allotted().count() as u64,
                available: entry.pool.arithmetic().usable.saturating_sub(given),
                clusters: self.clusters(name),
            }
        };
        self.pools.iter().map(usage).collect()
    }

    /// Reserves a pool for a single cluster, if it is of that kind; nothing changes for others, or where the cluster has
    /// it already.
    ///
    /// # Errors
    /// If another cluster has it.
    pub fn reserve(&mut self, pool: &str, cluster: &str) -> Result<(), Refusal> {
        check_name(cluster)?;
        let entry = self.pools.get_mut(pool).ok_or_else(|| Refusal::NoPool(pool.into()))?;
        match &entry.cluster {
            Some(other) if other != cluster => {
                return Err(Refusal::Reserved { pool: pool.into(), cluster: other.clone() });
            }
            _ if entry.pool.is_for_single_cluster() => entry.cluster = Some(cluster.into()),
            _ => {}
        }
        Ok(())
    }

    /// Gives an owner an address; the same one, whenever it asks again.
    ///
    /// # Errors
    /// If there is none left, if the pool is another cluster's, or if the owner has one from elsewhere.
    pub fn allocate(&mut self, pool: &str, cluster: &str, owner: &str) -> Result<IpAddr, Refusal> {
        self.give(pool, cluster, owner, None)
    }

    /// Gives an owner a certain address, as a VIP that somebody chose; nothing changes if it has it.
    ///
    /// # Errors
    /// As [`Book::allocate`]; and if the pool does not give it out, or another owner has it.
    pub fn claim(&mut self, pool: &str, cluster: &str, owner: &str, address: IpAddr) -> Result<(), Refusal> {
        self.give(pool, cluster, owner, Some(address)).map(drop)
    }

    fn give(
        &mut self,
        pool: &str,
        cluster: &str,
        owner: &str,
        wanted: Option<IpAddr>,
    ) -> Result<IpAddr, Refusal> {
        check_name(owner)?;
        check_name(cluster)?;
        if let Some(has) = self.allotted.get(owner) {
            let same = has.pool == pool
                && has.cluster == cluster
                && wanted.is_none_or(|wanted| wanted == has.address);
            return if same {
                Ok(has.address)
            } else {
                Err(Refusal::Has { owner: owner.into(), has: has.clone() })
            };
        }
        if self.allotted.len() >= MOST {
            return Err(Refusal::TooMany);
        }
        let entry = self.pools.get(pool).ok_or_else(|| Refusal::NoPool(pool.into()))?;
        let address = match wanted {
            Some(address) => {
                if let Some(why) = not_claimable(&entry.pool, address) {
                    return Err(Refusal::Unusable { pool: pool.into(), address, why: why.into() });
                }
                if let Some(owner) = self.owner(address) {
                    return Err(Refusal::Taken { address, owner: owner.into() });
                }
                address
            }
            None => {
                let taken: BTreeSet<IpAddr> =
                    self.allotted.values().map(|allotment| allotment.address).collect();
                free(&entry.pool, &taken, entry.last)
                    .ok_or_else(|| Refusal::Full { pool: pool.into(), given: entry.pool.usable_count() })?
            }
        };
        self.reserve(pool, cluster)?;
        if let (None, Some(entry)) = (wanted, self.pools.get_mut(pool)) {
            entry.last = Some(address);
        }
        self.allotted.insert(owner.into(), Allotment { pool: pool.into(), cluster: cluster.into(), address });
        Ok(address)
    }

    /// Takes an owner's address back; nothing if it has none. A reservation stays until [`Book::release_cluster`].
    pub fn release(&mut self, owner: &str) -> Option<IpAddr> {
        self.allotted.remove(owner).map(|allotment| allotment.address)
    }

    /// Takes back all addresses of a cluster, and what is reserved for it. Gives the addresses, in order.
    pub fn release_cluster(&mut self, cluster: &str) -> Vec<IpAddr> {
        let mut released: Vec<IpAddr> = self
            .allotted
            .extract_if(.., |_, allotment| allotment.cluster == cluster)
            .map(|(_, a)| a.address)
            .collect();
        released.sort();
        for entry in self.pools.values_mut().filter(|entry| entry.cluster.as_deref() == Some(cluster)) {
            entry.cluster = None;
        }
        released
    }
}

impl Default for Book {
    fn default() -> Book {
        Book::new()
    }
}

/// Pools that share nothing, in their order.
fn entries(specs: Vec<PoolSpec>, vip: Option<IpAddr>) -> Result<Vec<Entry>, Vec<Finding>> {
    let read = read_all(&specs, &Surroundings { vip, ..Surroundings::default() });
    if !read.findings.is_empty() {
        return Err(read.findings);
    }
    let pools = read.pools.into_iter().flatten();
    Ok(specs
        .into_iter()
        .zip(pools)
        .map(|(spec, pool)| Entry { spec, pool, cluster: None, last: None })
        .collect())
}

/// Why nobody can have an address of a pool, also who asks for it.
fn not_claimable(pool: &Pool, address: IpAddr) -> Option<&str> {
    pool.why_not(address).filter(|_| !pool.can_be_claimed(address))
}

/// The first address after `last` that nobody has, or from the beginning. Looks at no more addresses than are taken and
/// one, however large the pool is.
fn free(pool: &Pool, taken: &BTreeSet<IpAddr>, last: Option<IpAddr>) -> Option<IpAddr> {
    let from = |start: Option<IpAddr>| {
        pool.usable().iter().find_map(|span| {
            let mut address = start.map_or(span.first(), |start| start.max(span.first()));
            while span.contains(address) {
                if !taken.contains(&address) {
                    return Some(address);
                }
                address = next(address)?;
            }
            None
        })
    };
    let after = last.and_then(next).and_then(|start| from(Some(start)));
    after.or_else(|| from(None))
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let fits = !name.trim().is_empty() && name_fault(name, KEY).is_none();
    if fits { Ok(()) } else { Err(Refusal::Name(name.into())) }
}
