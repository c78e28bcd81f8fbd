//! Documents are read or refused within their limits, and places are in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pack::document::{Node, parse_json, parse_yaml};

fuzz_target!(|text: &str| {
    // YAML's lines may end with a carriage return alone.
    let last = text.matches(['\n', '\r']).count() + 2;
    for parsed in [parse_json(text), parse_yaml(text)] {
        match parsed {
            Ok(node) => assert_places(&node, last),
            Err(e) => assert!(e.place.line <= last, "{e}"),
        }
    }
});

fn assert_places(node: &Node, last: usize) {
    assert!((1..=last).contains(&node.place.line) && node.place.column > 0, "{:?}", node.place);
    for entry in node.entries() {
        assert!((1..=last).contains(&entry.place.line) && entry.place.column > 0, "{:?}", entry.place);
        assert_places(&entry.value, last);
    }
    node.items().iter().for_each(|item| assert_places(item, last));
}
