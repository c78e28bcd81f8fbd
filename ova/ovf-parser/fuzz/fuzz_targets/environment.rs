//! An environment is read or refused; what it says is never in its `Debug`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovf_parser::Environment;

fuzz_target!(|data: &[u8]| {
    let Ok(environment) = Environment::parse(data) else { return };
    let mut hidden = environment.clone();
    hidden.properties.values_mut().for_each(String::clear);
    assert_eq!(format!("{environment:?}"), format!("{hidden:?}"));
});
