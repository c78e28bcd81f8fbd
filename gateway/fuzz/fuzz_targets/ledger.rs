//! A ledger's file is read or refused; and what is read gives no address twice.
#![no_main]

use std::collections::BTreeSet;

use ip_pools::Book;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let Ok(mut book) = Book::from_json(json) else { return };
    assert_eq!(Book::from_json(&book.to_json()).as_ref(), Ok(&book), "it is read as it was written");
    let specs: Vec<_> = book.pools().cloned().collect();
    book.set_pools(&specs, book.vip()).expect("these are its pools");
    let before = book.allotted().clone();
    for (n, spec) in specs.iter().enumerate() {
        for m in 0..5 {
            // A pool may be full or another cluster's.
            drop(book.allocate(spec.name.trim(), "fuzz", &format!("fuzz-{n}-{m}")));
        }
    }
    for (owner, allotment) in book.allotted() {
        assert!(
            before.contains_key(owner) || Some(allotment.address) != book.vip(),
            "the VIP is given to {owner}"
        );
    }
    let addresses: BTreeSet<_> = book.allotted().values().map(|allotment| allotment.address).collect();
    assert_eq!(addresses.len(), book.allotted().len(), "one is given twice");
    assert_eq!(Book::from_json(&book.to_json()).as_ref(), Ok(&book));
    book.release_cluster("fuzz");
    assert!(book.allotted().values().all(|allotment| allotment.cluster != "fuzz"));
});
