use proptest::prelude::*;

use super::*;

const HEAD: &str = r#"<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:x="urn:x">"#;
const FILES: &str =
    r#"<File ovf:id="f1" ovf:href="1.vmdk" ovf:size="1"/><File ovf:id="f2" ovf:href="2.vmdk"/>"#;
const DISKS: &str = r#"<Disk ovf:diskId="d1" ovf:fileRef="f1" ovf:capacity="9" ovf:populatedSize="9" ovf:format="u"/><Disk ovf:diskId="d2" ovf:fileRef="f2" ovf:capacity="${size}" ovf:format="u"/><Disk ovf:diskId="d3" ovf:capacity="1"/>"#;
const OPTIONS: &str = r#"<Configuration ovf:id="small" ovf:default="true"/><Configuration ovf:id="large"/>"#;
const CONTROLLER: &str =
    "<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>6</rasd:ResourceType></Item>";
const PROPERTY: &str = r#"<Property ovf:key="size" ovf:type="int" ovf:value="2"/>"#;

/// A good document, one part of it replaced.
fn document(part: &str, replacement: &str) -> Document {
    let good = format!(
        r#"{HEAD}<References>{FILES}</References><DiskSection><Info/>{DISKS}</DiskSection><NetworkSection><Info/><Network ovf:name="net"/></NetworkSection><DeploymentOptionSection><Info/>{OPTIONS}</DeploymentOptionSection><VirtualSystem ovf:id="vm"><Info/><OperatingSystemSection ovf:id="96"><Info/></OperatingSystemSection><VirtualHardwareSection><Info/>{CONTROLLER}</VirtualHardwareSection><ProductSection><Info/>{PROPERTY}</ProductSection></VirtualSystem></Envelope>"#
    );
    assert_eq!(good.matches(part).count(), 1, "{part}");
    let text = good.replace(part, replacement);
    Document::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn messages(part: &str, replacement: &str) -> Vec<String> {
    document(part, replacement).validate().into_iter().map(|problem| problem.message).collect()
}

/// Adds after a part.
fn after(part: &str, more: &str) -> Vec<String> {
    messages(part, &format!("{part}{more}"))
}

/// An item with these fields besides its type, after the controller.
fn item(kind: u32, fields: &str) -> Vec<String> {
    item_with("", kind, fields)
}

fn item_with(attributes: &str, kind: u32, fields: &str) -> Vec<String> {
    let item = format!("<Item {attributes}>{fields}<rasd:ResourceType>{kind}</rasd:ResourceType></Item>");
    after(CONTROLLER, &item)
}

#[test]
fn a_good_document_has_no_problems() {
    assert_eq!(messages(PROPERTY, PROPERTY), [""; 0]);
}

#[test]
fn files() {
    assert_eq!(after(FILES, r#"<File ovf:id="f1" ovf:href="a"/>"#), ["A second file is called `f1`"]);
    assert_eq!(after(FILES, "<File/>"), ["A file without `id`", "A file without `href`"]);
    for size in ["-1", "", "18446744073709551616", "1.5"] {
        let message = format!("The size of the file is `{size}`, not a number of 64 bits without sign");
        assert_eq!(messages(r#"ovf:size="1""#, &format!(r#"ovf:size="{size}""#)), [message]);
    }
    assert_eq!(messages(r#"ovf:size="1""#, r#"ovf:chunkSize="1""#), ["A file in chunks"]);
}

#[test]
fn disks() {
    let disk = |attributes: &str| after(DISKS, &format!("<Disk {attributes}/>"));
    assert_eq!(disk(r#"ovf:diskId="d1" ovf:capacity="1""#), ["A second disk is called `d1`"]);
    assert_eq!(disk(r#"ovf:capacity="1""#), ["A disk without `diskId`"]);
    assert_eq!(disk(r#"ovf:diskId="d""#), ["A disk without `capacity`"]);
    assert_eq!(
        disk(r#"ovf:diskId="d" ovf:capacity="1" ovf:fileRef="f3" ovf:format="u""#),
        ["`f3` is no file of the package"]
    );
    assert_eq!(
        disk(r#"ovf:diskId="d" ovf:capacity="1" ovf:fileRef="f1" ovf:format="u""#),
        ["A second disk has the file `f1`"]
    );
    assert_eq!(
        messages(r#"ovf:populatedSize="9" ovf:format="u""#, ""),
        ["A disk with a file and without `format`"]
    );
    assert_eq!(
        messages(r#"ovf:populatedSize="9""#, r#"ovf:populatedSize="10""#),
        ["The disk has 10 bytes in use, more than its capacity of 9"]
    );
    assert_eq!(
        messages(r#"ovf:populatedSize="9""#, r#"ovf:populatedSize="10" ovf:capacityAllocationUnits="MB""#),
        [""; 0]
    );
    assert_eq!(
        messages(r#"ovf:populatedSize="9""#, r#"ovf:capacityAllocationUnits="parsec""#),
        ["`parsec` is no unit of bytes"]
    );
    assert_eq!(messages("${size}", "${none}"), ["The capacity is the property `none`, and there is none"]);
    assert_eq!(messages("${size}", "much"), ["The capacity is `much`, not a number of 64 bits without sign"]);
    assert_eq!(
        messages(FILES, &FILES.replace("f1", "f").replace("f2", "f1").replace("\"f\"", "\"f2\"")),
        ["The disks are not in the order of their files"]
    );
    assert_eq!(
        disk(r#"ovf:diskId="d" ovf:capacity="1" ovf:parentRef="d""#),
        ["`d` is no other disk of the package", "A disk that is a change to another"]
    );
}

#[test]
fn a_capacity_may_be_a_property_by_any_of_its_names() {
    let named = |name: &str| {
        let product =
            format!("<ProductSection ovf:class='a.b' ovf:instance='1'><Info/>{PROPERTY}</ProductSection>");
        let text = document("${size}", &format!("${{{name}}}"))
            .to_xml()
            .replace("</VirtualSystem>", &(product + "</VirtualSystem>"));
        Document::parse(text.as_bytes()).unwrap().validate().is_empty()
    };
    assert!(named("size") && named("a.b.size.1"));
    assert!(!named("a.b.size") && !named("size.1") && !named("a.b.1") && !named(""));
}

#[test]
fn networks_and_options() {
    assert_eq!(
        after(r#"<Network ovf:name="net"/>"#, r#"<Network ovf:name="net"/><Network/>"#),
        ["A second network is called `net`", "A network without `name`"]
    );
    assert_eq!(
        after(OPTIONS, r#"<Configuration ovf:default="1"/><Configuration ovf:id="small"/>"#),
        [
            "A deployment option without `id`",
            "A second deployment option is the default",
            "A second deployment option is called `small`"
        ]
    );
}

#[test]
fn places() {
    let references = format!("<References>{FILES}</References>");
    assert_eq!(messages(&references, "")[0], "The envelope must begin with `References`");
    let networks = r#"<NetworkSection><Info/><Network ovf:name="net"/></NetworkSection>"#;
    assert_eq!(
        after(networks, networks),
        ["A second network is called `net`", "A second `NetworkSection`"]
            .map(String::from)
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
    );
    assert_eq!(
        after("</VirtualSystem>", "<x:S ovf:required='0'/><EulaSection><Info/></EulaSection>"),
        ["`EulaSection` must stand before `VirtualSystem`", "`EulaSection` must stand in a virtual system"]
    );
    assert_eq!(
        after("</VirtualSystem>", "<Strings/><AnySection ovf:required='false'><Info/></AnySection>"),
        ["`AnySection` must stand before `Strings`"]
    );
    assert_eq!(
        after("</VirtualSystem>", "<VirtualSystem ovf:id='b'><Info/></VirtualSystem>"),
        [
            "A second virtual system, outside of a collection",
            "A virtual system without `VirtualHardwareSection`"
        ]
    );
    let disks = "<DiskSection><Info/><Disk ovf:diskId='d'/></DiskSection>";
    assert_eq!(after("</ProductSection>", disks), ["`DiskSection` must stand in the envelope"]);
    assert_eq!(
        after("</ProductSection>", "<VirtualSystem/>"),
        ["`VirtualSystem` must stand in a collection"]
    );
    assert_eq!(
        messages("<ProductSection><Info/>", "<ProductSection><Product/><Info/>"),
        ["`ProductSection` must begin with `Info`"]
    );
    let nothing = document(&references, &format!("{references}<VirtualSystem/>"));
    assert_eq!(nothing.validate()[0].message, "`VirtualSystem` must begin with `Info`");
    let empty = Document::parse(format!("{HEAD}<References/></Envelope>").as_bytes()).unwrap();
    assert_eq!(empty.validate()[0].message, "The envelope has no virtual system");
}

#[test]
fn what_is_not_known_is_refused_only_if_required() {
    let section = |attributes: &str| after("</ProductSection>", &format!("<x:S {attributes}><Info/></x:S>"));
    let refused = ["`S` is not known, and not marked with `required=\"false\"`"];
    assert_eq!(section(""), refused);
    assert_eq!(section("ovf:required='true'"), refused);
    assert_eq!(section("ovf:required='maybe'"), refused);
    assert_eq!(section("ovf:required='false'"), [""; 0]);
    assert_eq!(section("required='0'"), [""; 0]);
    assert_eq!(after(CONTROLLER, "<x:S/>"), refused);
    assert_eq!(after("</ProductSection>", "<InstallSection><Info/></InstallSection><vmw:S/>"), [""; 0]);
    assert_eq!(after("</ProductSection>", "<OddSection><Info/></OddSection>").len(), 1);
}

#[test]
fn items() {
    assert_eq!(item(1, ""), ["An item without `InstanceID`"]);
    assert_eq!(item(1, "<rasd:InstanceID>1</rasd:InstanceID>"), ["A second item has the `InstanceID` 1"]);
    assert_eq!(
        after(CONTROLLER, "<Item><rasd:InstanceId>2</rasd:InstanceId></Item>"),
        ["An item without `ResourceType`"]
    );
    let id = "<rasd:InstanceID>2</rasd:InstanceID>";
    assert_eq!(
        item(17, &format!("{id}<rasd:Parent>7</rasd:Parent>")),
        ["The parent 7 is no other item's `InstanceID`"]
    );
    assert_eq!(
        item(17, &format!("{id}<rasd:Parent>2</rasd:Parent>")),
        ["The parent 2 is no other item's `InstanceID`"]
    );
    let resource = |text: &str| item(17, &format!("{id}<rasd:HostResource>{text}</rasd:HostResource>"));
    assert_eq!(resource("ovf:/disk/d9"), ["`d9` is no disk of the package"]);
    assert_eq!(resource("/file/f9"), ["`f9` is no file of the package"]);
    assert_eq!(resource("ovf://disk/d1"), [""; 0]);
    assert_eq!(resource("else"), [""; 0]);
    let connection = |kind| item(kind, &format!("{id}<rasd:Connection>Net</rasd:Connection>"));
    assert_eq!(connection(10), ["`Net` is no network of the package"]);
    assert_eq!(connection(15), [""; 0]);
    assert_eq!(
        item(4, &format!("{id}<rasd:AllocationUnits>hertz</rasd:AllocationUnits>")),
        ["`hertz` is no unit of bytes"]
    );
    assert_eq!(
        item(3, &format!("{id}<rasd:VirtualQuantity>two</rasd:VirtualQuantity>")),
        ["The `VirtualQuantity` is `two`, not a number of 64 bits without sign"]
    );
    assert_eq!(
        item_with("ovf:configuration='small huge'", 3, id),
        ["`huge` is no deployment option of the package"]
    );
    // One device in several options or bounds.
    let twice = |one: &str, other: &str| {
        let item = |attributes: &str| {
            format!("<Item {attributes}>{id}<rasd:ResourceType>3</rasd:ResourceType></Item>")
        };
        after(CONTROLLER, &(item(one) + &item(other)))
    };
    assert_eq!(twice("ovf:configuration='small'", "ovf:configuration='large'"), [""; 0]);
    assert_eq!(twice("ovf:bound='min'", "ovf:bound='max'"), [""; 0]);
    assert_eq!(twice("ovf:configuration='small large'", "ovf:configuration='large'").len(), 1);
    let storage = "<StorageItem><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>31</rasd:ResourceType></StorageItem>";
    assert_eq!(after(CONTROLLER, storage), ["`StorageItem`"]);
}

#[test]
fn properties() {
    let property = |text: &str| after(PROPERTY, text);
    assert_eq!(property("<Property ovf:type='string'/>"), ["A property without `key`"]);
    assert_eq!(property("<Property ovf:key='a'/>"), ["A property without `type`"]);
    assert_eq!(property(PROPERTY), ["A second property has the key `size`"]);
    assert_eq!(
        property("<Property ovf:key='a' ovf:type='duration'/>"),
        ["A property of the type `duration`"]
    );
    assert_eq!(
        property("<Property ovf:key='a' ovf:type='string' ovf:qualifiers='Odd(1)'/>"),
        ["The qualifier `Odd(1)` is not known"]
    );
    assert_eq!(
        property("<Property ovf:key='a' ovf:type='string'><Value ovf:configuration='huge'/></Property>"),
        ["`huge` is no deployment option of the package"]
    );
    let cases = [
        ("string", "any", true),
        ("String", "", true),
        ("boolean", "True", true),
        ("boolean", "yes", false),
        ("boolean", "", true),
        ("uint8", "255", true),
        ("uint8", "256", false),
        ("uint16", "-1", false),
        ("sint16", "-1", true),
        ("uint64", "18446744073709551615", true),
        ("real32", "1.5e3", true),
        ("real64", "one", false),
        ("ip:Network", "any", true),
    ];
    for (kind, value, fits) in cases {
        let found = property(&format!("<Property ovf:key='a' ovf:type='{kind}' ovf:value='{value}'/>"));
        assert_eq!(found.is_empty(), fits, "{kind} {value}: {found:?}");
    }
}

#[test]
fn kinds_and_places_of_problems() {
    let document =
        document("<OperatingSystemSection ovf:id=\"96\">", "\n <odd:Thing/><OperatingSystemSection>");
    let problems: Vec<_> =
        document.validate().iter().map(|problem| (problem.kind, problem.to_string())).collect();
    let expected = [
        (ProblemKind::Invalid, "Line 2, column 2: The prefix `odd` is not declared"),
        (
            ProblemKind::Unsupported,
            "Line 2, column 2: `Thing` is not known, and not marked with `required=\"false\"`",
        ),
        (ProblemKind::Invalid, "Line 2, column 14: An operating system without `id`"),
    ];
    assert_eq!(problems, expected.map(|(kind, text)| (kind, text.into())));
}

proptest! {
    #[test]
    fn lists_of_options_are_never_empty(names in prop::collection::vec("[a-z]{1,3}", 0..4)) {
        let listed: Vec<_> = per_option(names.iter().map(String::as_str)).collect();
        prop_assert_eq!(listed.is_empty(), false);
        prop_assert!(names.is_empty() || listed == names);
    }
}
