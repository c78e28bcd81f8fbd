//! A gateway's configuration as a form: fields named by JSON pointer, pools by their place.

use std::collections::BTreeMap;

use gateway::{Configuration, POOLS, PoolSpec};
use serde_json::{Map, Value, json};

use super::form::{Finding, Posted};

/// Parts of the placement that the gateway may report choices for.
pub(super) const PLACES: &[&str] =
    &["datacenter", "cluster", "resource_pool", "network", "datastore", "storage_policy", "folder"];

const TEXTS: &[&str] = &[
    "/vcenter/server",
    "/vcenter/username",
    "/placement/datacenter",
    "/placement/folder",
    "/placement/image_template_folder",
    "/placement/cluster",
    "/placement/resource_pool",
    "/placement/datastore",
    "/placement/storage_policy",
    "/placement/network",
    "/ip_allocation",
    "/node_size",
    "/pod_cidr",
    "/service_cidr",
];
const PASSWORD: &str = "/vcenter/password";
const INSECURE: &str = "/vcenter/insecure";
const SIZE: &str = "/size";
const LINES: &str = "/ssh_keys";
const NTP: &str = "/ntp_servers";
const ENDPOINT: &str = "/control_plane_endpoint/type";
const ENDPOINT_TEXTS: &[&str] =
    &["/control_plane_endpoint/host", "/control_plane_endpoint/ddns_search_domain"];
const POOL_TEXTS: &[&str] = &["name", "start", "end", "subnet", "gateway"];
const POOL_LISTS: &[&str] = &["name_servers", "search", "exclude"];
/// Range or subnet: only the form knows it. A pool with a subnet is one.
const POOL_KIND: &str = "kind";

fn pool(index: usize) -> String {
    format!("/ip_pools/{index}")
}

/// The names of all fields, with so many pools.
pub(super) fn fields(pools: usize) -> Vec<String> {
    let fixed = TEXTS.iter().chain(ENDPOINT_TEXTS).chain(&[PASSWORD, INSECURE, SIZE, LINES, NTP, ENDPOINT]);
    let mut fields: Vec<String> = fixed.map(|name| (*name).to_owned()).collect();
    for index in 0..pools {
        let names = POOL_TEXTS.iter().chain(POOL_LISTS).chain(&["prefix", "restrict_to_single_cluster"]);
        fields.extend(names.map(|name| format!("{}/{name}", pool(index))));
    }
    fields
}

/// How many pools a form has.
pub(super) fn pools(posted: &Posted) -> usize {
    (0..POOLS).take_while(|index| posted.checked(&format!("{}/name", pool(*index)))).count()
}

/// The form of a configuration.
pub(super) fn values(configuration: &Configuration) -> BTreeMap<String, String> {
    let json = serde_json::to_value(configuration).unwrap_or_default();
    let mut values = BTreeMap::new();
    for name in TEXTS.iter().chain(ENDPOINT_TEXTS).chain(&[ENDPOINT]) {
        values.insert((*name).to_owned(), text(json.pointer(name)));
    }
    values.insert(SIZE.into(), configuration.size.to_string());
    values.insert(LINES.into(), configuration.ssh_keys.join("\n"));
    values.insert(NTP.into(), configuration.ntp_servers.join("\n"));
    if configuration.vcenter.insecure {
        values.insert(INSECURE.into(), "true".into());
    }
    for (index, spec) in configuration.ip_pools.iter().enumerate() {
        put_pool(&mut values, index, spec);
    }
    values
}

/// One more pool, empty.
pub(super) fn add_pool(values: &mut BTreeMap<String, String>, index: usize) {
    put_pool(values, index, &PoolSpec::default());
}

fn put_pool(values: &mut BTreeMap<String, String>, index: usize, spec: &PoolSpec) {
    let json = serde_json::to_value(spec).unwrap_or_default();
    let at = pool(index);
    for name in POOL_TEXTS {
        values.insert(format!("{at}/{name}"), text(json.get(*name)));
    }
    for name in POOL_LISTS {
        let list = json.get(*name).and_then(Value::as_array).cloned().unwrap_or_default();
        let list: Vec<String> = list.iter().map(|value| text(Some(value))).collect();
        values.insert(format!("{at}/{name}"), list.join(", "));
    }
    values.insert(format!("{at}/prefix"), spec.prefix.map(|prefix| prefix.to_string()).unwrap_or_default());
    values
        .insert(format!("{at}/{POOL_KIND}"), if spec.subnet.is_empty() { "range" } else { "subnet" }.into());
    if spec.restrict_to_single_cluster {
        values.insert(format!("{at}/restrict_to_single_cluster"), "true".into());
    }
}

/// Without the pool at `index`; those behind it move up.
pub(super) fn remove_pool(posted: Posted, index: usize) -> Posted {
    let count = pools(&posted);
    let mut fields = BTreeMap::new();
    for name in posted.names() {
        let place = (0..count).find(|place| name.starts_with(&format!("{}/", pool(*place))));
        let name_then = match place {
            Some(place) if place == index => continue,
            Some(place) if place > index => name.replacen(&pool(place), &pool(place - 1), 1),
            _ => name.to_owned(),
        };
        fields.insert(name_then, posted.exact(name).to_owned());
    }
    Posted::new(fields)
}

/// What a form says, and what in it cannot be said in a configuration at all.
pub(super) fn read(posted: &Posted) -> (Configuration, Vec<Finding>) {
    let mut json = json!({});
    let mut findings = Vec::new();
    for name in TEXTS {
        put(&mut json, name, posted.text(name).into());
    }
    for (name, words) in [("/ip_allocation", &["dhcp", "static"][..]), ("/node_size", &["S", "M", "L"])] {
        if !words.contains(&posted.text(name)) {
            take(&mut json, name);
            findings.push(Finding::new(name, "Nothing is chosen.", "Choose one."));
        }
    }
    put(&mut json, PASSWORD, posted.exact(PASSWORD).into());
    put(&mut json, INSECURE, posted.checked(INSECURE).into());
    match posted.text(SIZE).parse::<u32>() {
        Ok(size) => put(&mut json, SIZE, size.into()),
        Err(_) => findings.push(Finding::new(SIZE, "Nothing is chosen.", "Choose 1 or 3 nodes.")),
    }
    let lines = posted.text(LINES).lines().map(str::trim).filter(|line| !line.is_empty());
    put(&mut json, LINES, lines.collect());
    put(&mut json, NTP, list(posted.text(NTP)));
    match posted.text(ENDPOINT) {
        "" => {}
        kind @ ("VIP" | "External" | "DDNS") => {
            put(&mut json, ENDPOINT, kind.into());
            for name in ENDPOINT_TEXTS {
                put(&mut json, name, posted.text(name).into());
            }
        }
        _ => findings.push(Finding::new(ENDPOINT, "There is no such endpoint.", "Choose one of the list.")),
    }
    let (specs, more): (Vec<Value>, Vec<Vec<Finding>>) =
        (0..pools(posted)).map(|index| read_pool(posted, &pool(index))).unzip();
    put(&mut json, "/ip_pools", specs.into());
    findings.extend(more.into_iter().flatten());
    // The above makes nothing else.
    let configuration = serde_json::from_value(json).unwrap_or_default();
    (configuration, findings)
}

fn read_pool(posted: &Posted, at: &str) -> (Value, Vec<Finding>) {
    let mut json = json!({});
    let mut findings = Vec::new();
    let field = |name: &str| format!("{at}/{name}");
    // What the other choice has in its fields was not meant.
    let other: &[&str] =
        if posted.text(&field(POOL_KIND)) == "subnet" { &["start", "end"] } else { &["subnet"] };
    for name in POOL_TEXTS.iter().filter(|name| !other.contains(name)) {
        json[*name] = posted.text(&field(name)).into();
    }
    for name in POOL_LISTS {
        json[*name] = list(posted.text(&field(name)));
    }
    json["restrict_to_single_cluster"] = posted.checked(&field("restrict_to_single_cluster")).into();
    let prefix = posted.text(&field("prefix")).trim_start_matches('/');
    match prefix.parse::<u32>() {
        Ok(prefix) => json["prefix"] = prefix.into(),
        Err(_) if prefix.is_empty() => {}
        Err(_) => findings.push(Finding::new(
            &field("prefix"),
            "This is no prefix length.",
            "A number as in 24 is expected.",
        )),
    }
    (json, findings)
}

/// Commas, semicolons, spaces and lines part values; a dash with spaces round it does not.
fn list(text: &str) -> Value {
    let words: Vec<&str> = text
        .split(|c: char| c == ',' || c == ';' || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect();
    let mut values: Vec<String> = Vec::new();
    let mut joins = false;
    for word in words {
        match values.last_mut() {
            Some(last) if joins || word.starts_with('-') => last.push_str(word),
            _ => values.push(word.to_owned()),
        }
        joins = word.ends_with('-');
    }
    values.into()
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Sets what a pointer of object members names.
fn put(json: &mut Value, pointer: &str, value: Value) {
    let mut place = json;
    for part in pointer.split('/').skip(1) {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[part];
    }
    *place = value;
}

fn take(json: &mut Value, pointer: &str) {
    if let Some(object) = json.as_object_mut() {
        object.remove(pointer.trim_start_matches('/'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Configuration {
        serde_json::from_value(json!({
            "vcenter": {"server": "vcenter.example.com", "username": "gateway@vsphere.local", "insecure": true},
            "placement": {"datacenter": "DC", "cluster": "C", "datastore": "D", "network": "VM Network", "folder": "f"},
            "ssh_keys": ["ssh-ed25519 AAAA a@b", "ssh-ed25519 BBBB c d"],
            "ntp_servers": ["ntp.example.com", "192.0.2.3"],
            "ip_allocation": "static",
            "ip_pools": [
                {"name": "nodes", "start": "192.0.2.20", "end": "192.0.2.39", "prefix": 24, "gateway": "192.0.2.1",
                 "name_servers": ["192.0.2.2", "192.0.2.3"], "search": ["example.com"],
                 "restrict_to_single_cluster": true, "exclude": ["192.0.2.25-192.0.2.27"]},
                {"name": "more", "subnet": "198.51.100.0/26", "gateway": "198.51.100.1", "name_servers": ["192.0.2.2"]}
            ],
            "control_plane_endpoint": {"type": "VIP", "host": "192.0.2.40", "ddns_search_domain": ""},
            "size": 3,
            "node_size": "M"
        }))
        .unwrap()
    }

    #[test]
    fn a_configuration_survives_its_form() {
        for configuration in [example(), Configuration::default()] {
            let values = values(&configuration);
            let (read, findings) = read(&Posted::new(values));
            assert_eq!(findings, []);
            assert_eq!(read, configuration);
        }
    }

    #[test]
    fn every_value_has_its_field() {
        let fields = fields(2);
        let helpers = |name: &str| name.ends_with("/kind");
        for name in values(&example()).keys().filter(|name| !helpers(name)) {
            assert!(fields.contains(name), "{name}");
        }
    }

    #[test]
    fn what_no_configuration_can_say_is_found_at_its_field() {
        let mut values = values(&example());
        values.insert("/ip_pools/1/prefix".into(), "two".into());
        values.insert("/size".into(), "<b>".into());
        values.insert("/node_size".into(), "XL".into());
        values.insert("/control_plane_endpoint/type".into(), "Other".into());
        let (_, findings) = read(&Posted::new(values));
        let at: Vec<&str> = findings.iter().map(|finding| finding.at.as_str()).collect();
        assert_eq!(at, ["/node_size", "/size", "/control_plane_endpoint/type", "/ip_pools/1/prefix"]);
    }

    #[test]
    fn the_choice_that_was_not_made_does_not_count() {
        let mut values = values(&example());
        values.insert("/ip_pools/0/subnet".into(), "left over".into());
        let (configuration, _) = read(&Posted::new(values.clone()));
        assert_eq!(configuration.ip_pools[0].subnet, "");
        values.insert("/ip_pools/0/kind".into(), "subnet".into());
        let (configuration, _) = read(&Posted::new(values));
        assert_eq!(
            (configuration.ip_pools[0].subnet.as_str(), configuration.ip_pools[0].start.as_str()),
            ("left over", "")
        );
    }

    #[test]
    fn pools_come_and_go() {
        let mut values = values(&example());
        add_pool(&mut values, 2);
        let posted = Posted::new(values);
        assert_eq!(pools(&posted), 3);
        let posted = remove_pool(posted, 0);
        assert_eq!(pools(&posted), 2);
        assert_eq!(posted.text("/ip_pools/0/name"), "more");
        assert_eq!(posted.text("/vcenter/server"), "vcenter.example.com");
        assert!(!posted.checked("/ip_pools/0/restrict_to_single_cluster"));
    }

    #[test]
    fn lists_as_people_type_them() {
        assert_eq!(list("a, b;c\n d"), json!(["a", "b", "c", "d"]));
        assert_eq!(list("192.0.2.5 - 192.0.2.9, 192.0.2.11"), json!(["192.0.2.5-192.0.2.9", "192.0.2.11"]));
        assert_eq!(list("192.0.2.5- 192.0.2.9"), json!(["192.0.2.5-192.0.2.9"]));
        assert_eq!(list("192.0.2.5 -192.0.2.9"), json!(["192.0.2.5-192.0.2.9"]));
        assert_eq!(list(""), json!([]));
    }
}
