//! A descriptor that is read is written to the byte, and everything can be asked of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovf_parser::Document;
use ovf_parser::hardware::HostResource;

fuzz_target!(|data: &[u8]| {
    let Ok(document) = Document::parse(data) else { return };
    let xml = document.to_xml();
    assert_eq!(xml.as_bytes(), data);
    assert_eq!(Document::parse(xml.as_bytes()).as_ref(), Ok(&document));
    let problems = document.validate();
    assert!(problems.is_sorted_by_key(|problem| problem.position));
    for disk in &document.envelope().disks {
        assert!(disk.bytes().is_none() || disk.capacity_property().is_none());
    }
    for system in document.envelope().systems() {
        for (product, property) in system.properties() {
            let key = product.effective_key(property);
            assert!(property.key.as_ref().is_none_or(|own| key.contains(own.as_str())));
            _ = property.qualifiers();
        }
        for item in system.hardware.iter().flat_map(|hardware| &hardware.items) {
            _ = item.bytes();
            item.subtypes().for_each(|subtype| assert!(!subtype.is_empty()));
            item.host_resources.iter().for_each(|resource| _ = HostResource::parse(resource));
        }
    }
});
