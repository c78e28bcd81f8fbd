//! A pack of any files is judged, always alike; and what has no error can be read.
//!
//! Input is files, each with its name before it, after lines `=== NAME`.
#![no_main]

use std::path::Path;

use jiff::civil::date;
use libfuzzer_sys::fuzz_target;
use pack::document::{Node, parse_json, parse_yaml};
use pack::lint::{Entry, Files, Level, lint, sarif};

fuzz_target!(|text: &str| {
    let mut files = Files::default();
    for part in text.split("=== ").skip(1) {
        let (name, content) = part.split_once('\n').unwrap_or((part, ""));
        let entry = match content.strip_prefix("-> ") {
            Some(target) => Entry::Link(target.trim_end().into()),
            None => Entry::File { size: content.len() as u64, head: content.into() },
        };
        files.insert(name, entry);
    }
    let today = date(2026, 11, 21);
    let findings = lint(&files, today, &[]);
    assert!(findings.is_sorted());
    assert_eq!(findings, lint(&files, today, &[]));
    drop(sarif::log([("pack", findings.as_slice())]));

    if findings.iter().any(|finding| finding.level == Level::Error) {
        return;
    }
    let read = |name: &str, parse: fn(&str) -> Result<Node, _>| match files.get(name) {
        Some(Entry::File { head, .. }) => {
            Some(parse(std::str::from_utf8(head).expect("it was a text")).expect("lint has read it"))
        }
        _ => None,
    };
    let definition = read("pack.json", parse_json).expect("lint asks for it");
    pack::Definition::read(Path::new("pack.json"), &definition).expect("lint has found no error");
    for (name, node) in ["schema.yaml", "presets.yaml"].map(|name| (name, read(name, parse_yaml))) {
        let Some(node) = node else { continue };
        let file = Path::new(name);
        if name == "schema.yaml" {
            pack::Schema::read(file, &node).map(drop).expect("lint has found no error");
        } else {
            pack::presets::read(file, &node).map(drop).expect("lint has found no error");
        }
    }
});
