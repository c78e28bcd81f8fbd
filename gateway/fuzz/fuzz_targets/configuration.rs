//! Whatever is sent as a configuration is judged; and one that is right gives the gateway its addresses.
#![no_main]

use gateway::{Configuration, IpAllocation};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let Ok(configuration) = serde_json::from_slice::<Configuration>(json) else { return };
    let findings = configuration.check();
    let report = configuration.pool_report();
    assert!(report.findings.iter().all(|finding| findings.contains(finding)));
    let mut normal = configuration.clone();
    normal.normalise();
    assert_eq!(findings.is_empty(), normal.check().is_empty(), "{findings:?} or {:?}", normal.check());
    let mut twice = normal.clone();
    assert!(twice.normalise().is_empty());
    assert_eq!(twice, normal);
    assert_eq!(normal.check_change(&configuration), []);
    if !findings.is_empty() {
        return;
    }
    drop(normal.advice());
    let own = normal.own_pool();
    assert_eq!(own.is_some(), normal.ip_allocation == IpAllocation::Static);
    let Some((pool, _)) = own else { return };
    let mut book = ip_pools::Book::new();
    book.set_pools(&normal.ip_pools, normal.vip()).expect("nothing is wrong with them");
    for n in 0..normal.needed() {
        let address =
            book.allocate(pool.name(), "gateway", &n.to_string()).expect("the pool is large enough");
        assert_ne!(Some(address), normal.vip());
    }
    if let Ok(grown) = normal.resized(3) {
        assert_eq!(grown.check(), []);
        assert_eq!(grown.own_pool(), normal.own_pool());
    }
});
