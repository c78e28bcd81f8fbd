use proptest::prelude::*;

use super::*;
use crate::envelope::Content;
use crate::hardware::{HostResource, ItemKind};
use crate::tree::Dialect;

const APPLIANCE: &str = include_str!("samples/appliance.ovf");
const DRAFT: &str = include_str!("samples/draft.ovf");
const OVF2: &str = include_str!("samples/two.ovf");

fn read(text: &str) -> Document {
    let document = Document::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}\n{error}"));
    assert_eq!(document.to_xml(), text);
    document
}

/// A document of OVF 1 with these children.
fn with(inside: &str) -> String {
    format!(
        r#"<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">{inside}</Envelope>"#
    )
}

#[test]
fn model_of_a_document() {
    let document = read(APPLIANCE);
    insta::with_settings!({filters => vec![
        (r"(?m)^ *\w+: (None|\[\]),\n", ""),
        (r"Some\(\n *(.*),\n *\)", "$1"),
    ]}, {
        insta::assert_snapshot!(format!("{:#?}", document.envelope()));
    });
    assert_eq!(document.validate(), []);
}

#[test]
fn what_the_model_makes_of_it() {
    let document = read(APPLIANCE);
    let envelope = document.envelope();
    let system = envelope.systems()[0];
    let hardware = &system.hardware[0];
    assert!(hardware.transports().eq(["com.vmware.guestInfo", "iso"]));
    assert_eq!(hardware.config("firmware").unwrap().value.as_deref(), Some("efi"));
    assert!(!hardware.config[0].required && hardware.extra_config[0].required);
    assert!(hardware.system.as_ref().unwrap().kinds().eq(["vmx-15", "vmx-13"]));
    let memory = hardware.items.iter().find(|item| item.resource_type_number() == Some(4)).unwrap();
    assert_eq!((memory.bytes(), memory.instance_id.as_deref()), (Some(4 << 30), Some("2")));
    assert!(hardware.items.iter().any(|item| item.subtypes().eq(["VirtualSCSI", "lsilogic"])));
    let in_large = hardware.items.iter().filter(|item| item.is_in("large")).map(crate::hardware::Item::label);
    assert!(in_large.eq(["4 CPUs", "", "", "", "", ""]));
    assert_eq!(envelope.disk("vmdisk1").unwrap().bytes(), Some(16 << 30));
    let data = envelope.disk("vmdisk2").unwrap();
    assert_eq!(
        (data.bytes(), data.capacity_property(), data.bytes_at("2")),
        (None, Some("log.size"), Some(2 << 30))
    );
    let keys: Vec<_> =
        system.properties().map(|(product, property)| product.effective_key(property)).collect();
    let expected = [
        "com.acme.hostname.1",
        "com.acme.address.1",
        "com.acme.pairing.1",
        "com.acme.sessions.1",
        "log.size",
    ];
    assert_eq!(keys, expected);
    let properties: Vec<_> = system.properties().map(|(_, property)| property).collect();
    assert!(properties[1].is_user_configurable() && !properties[3].is_user_configurable());
    assert!(properties[2].is_password() && !properties[1].is_password());
    assert_eq!(properties[3].value_in("large").map(|value| &**value), Some("1000"));
    assert_eq!(properties[3].value_in("small").map(|value| &**value), Some("100"));
    assert_eq!(envelope.networks[0].description.as_deref(), Some("Reaches <everything>."));
}

#[test]
fn the_draft_is_told_by_its_types() {
    let document = read(DRAFT);
    let envelope = document.envelope();
    assert_eq!(envelope.dialect, Dialect::Draft);
    assert_eq!(envelope.version.as_deref(), Some("0.9"));
    assert_eq!(envelope.file("file1").unwrap().href.as_deref(), Some("../disks/a%20b.vmdk"));
    assert_eq!(envelope.disks[0].bytes(), Some(8 << 30));
    assert_eq!(envelope.networks[0].name.as_deref(), Some("bridged"));
    let system = envelope.systems()[0];
    assert_eq!(system.id.as_deref(), Some("machine"));
    assert_eq!(system.os.as_ref().unwrap().id.as_ref().unwrap().number(), Some(36));
    let items = &system.hardware[0].items;
    assert!(items.iter().map(|item| item.instance_id.as_deref().unwrap()).eq(["1", "6", "8"]));
    assert!(items[2].subtypes().eq(["someother", "lsilogic"]));
    assert_eq!(items[2].address.as_deref(), Some("0"));
    assert_eq!(items[0].bytes(), Some(512 << 20));
    assert_eq!(items[1].label(), "Hard Disk 1");
    assert_eq!(HostResource::parse(&items[1].host_resources[0]), HostResource::Disk("vmdisk1"));
    assert_eq!(document.validate(), []);
}

#[test]
fn ovf_2_is_kept() {
    let document = read(OVF2);
    let envelope = document.envelope();
    assert_eq!(envelope.dialect, Dialect::Ovf2);
    let [Content::Collection(collection)] = envelope.content.as_slice() else {
        panic!("{:?}", envelope.content)
    };
    assert_eq!(collection.name.as_deref(), Some("Two tiers"));
    let names: Vec<_> = envelope.systems().iter().filter_map(|system| system.id.as_deref()).collect();
    assert_eq!(names, ["front", "back", "deep"]);
    let items = &envelope.systems()[0].hardware[0].items;
    assert!(items.iter().map(|item| item.kind).eq([ItemKind::EthernetPort, ItemKind::Storage]));
    assert_eq!(items[0].connections[0].as_str(), "inner");
    assert_eq!(items[0].others[0].0, "NetworkPortProfileID");
    assert_eq!(items[1].bytes(), Some(1 << 30));
}

#[test]
fn host_resources() {
    for text in ["ovf:/disk/x", "/disk/x", "ovf://disk/x", "disk/x"] {
        assert_eq!(HostResource::parse(text), HostResource::Disk("x"), "{text}");
    }
    assert_eq!(HostResource::parse("ovf:/file/a b"), HostResource::File("a b"));
    for text in ["", "ovf:", "x", "ovf:/image/x"] {
        assert_eq!(HostResource::parse(text), HostResource::Other(text));
    }
}

/// Documents that are one step from broken, and their place in the model.
#[test]
fn quirks_are_read() {
    // A byte order mark, line ends of Windows, an encoding's other name, nothing after the root.
    let text = "\u{feff}<?xml version=\"1.0\" encoding='utf8' standalone=\"yes\"?>\r\n".to_string()
        + &with("\r\n<References/>\r\n");
    assert!(read(&text).envelope().references.is_empty());
    // Another encoding makes no difference where all is ASCII.
    read(&format!("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>{}", with("")));
    // Prefixes that nobody declared, attributes without any.
    let document = read(
        r#"<ovf:Envelope><References><File id="a" ovf:href="b" foo:size="1"/></References></ovf:Envelope>"#,
    );
    let file = &document.envelope().references[0];
    assert_eq!(
        (file.id.as_deref(), file.href.as_deref(), file.size.as_deref()),
        (Some("a"), Some("b"), None)
    );
    // A prefix for everything.
    let document = read(
        r#"<x:Envelope xmlns:x="http://schemas.dmtf.org/ovf/envelope/1"><x:References><x:File x:id="a"/></x:References></x:Envelope>"#,
    );
    assert_eq!(document.envelope().references.len(), 1);
    // A section of OVF's name in another namespace is another section.
    let document = read(&with(r#"<DiskSection xmlns="urn:x"><Disk ovf:diskId="a"/></DiskSection>"#));
    assert!(document.envelope().disks.is_empty());
    assert_eq!(document.envelope().sections[0].name, "DiskSection");
    // Numbers that are none stay as they are.
    let document = read(&with(
        r#"<References><File ovf:size="-1"/><File ovf:size="18446744073709551616"/></References>"#,
    ));
    assert!(document.envelope().references.iter().all(|file| file.size.as_ref().unwrap().number().is_none()));
    // An empty transport is there.
    let document =
        read(&with(r#"<VirtualSystem><VirtualHardwareSection ovf:transport=""/></VirtualSystem>"#));
    let hardware = &document.envelope().systems()[0].hardware[0];
    assert_eq!((hardware.transport.as_deref(), hardware.transports().count()), (Some(""), 0));
    // References and line breaks in values.
    let document = read(&with("<References><File ovf:href=\"a&amp;&#x20;&quot;\n\tb&#10;\"/></References>"));
    assert_eq!(document.envelope().references[0].href.as_deref(), Some("a& \"  b\n"));
    // Line ends in text.
    let document =
        read(&with("<VirtualSystem><Name>a\r\nb\rc<![CDATA[\r\n&amp;]]>&lt;</Name></VirtualSystem>"));
    assert_eq!(document.envelope().systems()[0].name.as_deref(), Some("a\nb\nc\n&amp;<"));
}

#[test]
fn positions_are_those_of_an_editor() {
    let document = read(
        "<?xml version=\"1.0\"?>\n<!-- ä\u{1f600} --><ovf:Envelope\n  xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\"><References>\n\t<File ovf:id=\"ä\" ovf:href=\"b\"/></References></ovf:Envelope>",
    );
    let envelope = document.envelope();
    let place = |position: crate::Position| (position.line, position.column);
    assert_eq!(place(envelope.position), (2, 12));
    let file = &envelope.references[0];
    assert_eq!(place(file.position), (4, 2));
    assert_eq!(place(file.href.as_ref().unwrap().position), (4, 19));
}

#[test]
fn what_is_not_well_formed_is_refused_with_its_place() {
    let cases = [
        ("", (1, 1), "There is no element"),
        ("\n<a", (2, 1), "not closed"),
        ("<!-- a -->\n", (2, 1), "There is no element"),
        ("text", (1, 1), "outside of the root"),
        ("<a/>\n <b/>", (2, 2), "A second root"),
        ("<a/>&amp;", (1, 5), "outside of the root"),
        ("<a/><![CDATA[]]>", (1, 5), "outside of the root"),
        ("<!DOCTYPE a [<!ENTITY x \"y\">]>\n<a/>", (1, 1), "DTD"),
        ("<!doctype a><a/>", (1, 1), "DTD"),
        ("<a>\n <b>\n</a>", (3, 1), "Expected `</b>`"),
        ("<a>\n <b>", (2, 5), "`b`, begun at line 2, column 2, has no end"),
        ("</a>", (1, 1), "does not match any open tag"),
        ("<a>&x;</a>", (1, 4), "XML knows no `&x;`"),
        ("<a>\n&</a>", (2, 1), "reference not closed"),
        ("<a>&#0;</a>", (1, 4), "&#0;"),
        ("<a>&#xD800;</a>", (1, 4), "&#xD800;"),
        ("<a>&#x1;</a>", (1, 4), "&#x1;"),
        ("<a>\u{1}</a>", (1, 4), "U+0001"),
        ("<a>\u{ffff}</a>", (1, 4), "U+FFFF"),
        ("<a>]]></a>", (1, 4), "]]&gt;"),
        ("<a><!-- a -- b --></a>", (1, 11), "`--`"),
        ("<a b=\"1\"\n b='2'/>", (2, 2), "second attribute `b`"),
        ("<a xmlns:x='u' xmlns:y='u' x:b='' y:b=''/>", (1, 35), "second attribute `y:b`"),
        ("<a b/>", (1, 4), "without a value"),
        ("<a b=c/>", (1, 6), "between quotes"),
        ("<a b=\"1\"c=\"2\"/>", (1, 9), "White space is missing"),
        ("<a b=\"<\"/>", (1, 4), "`&lt;`"),
        ("<a b=\"&x;\"/>", (1, 4), "The value of `b`"),
        ("<a b=\"&#1;\"/>", (1, 4), "U+0001"),
        ("<a b=\"1/>", (1, 1), "not closed"),
        ("<1a/>", (1, 2), "`1a` is no name"),
        ("<a:b:c/>", (1, 2), "`a:b:c` is no name"),
        ("<:a/>", (1, 2), "`:a` is no name"),
        ("< a/>", (1, 2), "`` is no name"),
        ("<a -b=''/>", (1, 4), "`-b` is no name"),
        ("<?1?><a/>", (1, 1), "processing instruction"),
        ("<?XML ?><a/>", (1, 1), "processing instruction"),
        (" <?xml version=\"1.0\"?><a/>", (1, 2), "must be the first"),
        ("<?xml version=\"2.0\"?><a/>", (1, 1), "XML 2.0"),
        ("<?xml encoding=\"UTF-8\"?><a/>", (1, 1), "version"),
        ("<?xml version=\"1.0\" encoding=\"latin1\"?><a>ä</a>", (1, 1), "latin1"),
        ("\u{feff}\u{feff}<a/>", (1, 1), "byte order mark"),
        ("<a xmlns:xml='u'/>", (1, 1), "xml"),
        ("<Envelope/>", (1, 1), "without a namespace"),
        ("<Envelope xmlns='urn:x'/>", (1, 1), "`urn:x`"),
        ("<x xmlns='http://schemas.dmtf.org/ovf/envelope/1'/>", (1, 1), "not an OVF `Envelope`"),
    ];
    for (text, place, expected) in cases {
        let error = Document::parse(text.as_bytes()).expect_err(text);
        assert_eq!((error.line, error.column), place, "{text}: {error}");
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
    let error = Document::parse(b"<a>\n\xff").unwrap_err();
    assert_eq!((error.line, error.column), (2, 1));
    assert!(
        Document::parse(
            "\u{feff}<a/>".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>().as_slice()
        )
        .is_err()
    );
}

#[test]
fn size_and_depth_are_bounded() {
    let error = |text: String| Document::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(error(" ".repeat((4 << 20) + 1)).contains("longer"));
    assert!(error("<a>".repeat(100)).contains("nested"));
    assert!(error(with(&"<a/>".repeat(1 << 18))).contains("More than"));
    assert!(
        error(format!("<a{}>", (0..=1 << 17).map(|i| format!(" a{i}=''")).collect::<String>()))
            .contains("More than")
    );
    read(&with(&format!("{}{}", "<a>".repeat(63), "</a>".repeat(63))));
}

/// One long text may rule many short elements: nothing of it is there twice.
#[test]
fn long_texts_are_not_multiplied() {
    let long = "x".repeat(1 << 20);
    let properties = "<Property ovf:key='a'/>".repeat(1 << 15);
    let text = with(&format!(
        "<VirtualSystem><ProductSection ovf:class='{long}'><Category>{long}</Category>{properties}</ProductSection></VirtualSystem>"
    ));
    let document = read(&text);
    let problems = document.validate();
    assert!(problems.iter().all(|problem| problem.message.len() < 100));
    let text = format!("<a xmlns='urn:{long}'>{}</a>", "<a/>".repeat(1 << 15));
    assert!(Document::parse(text.as_bytes()).unwrap_err().message.contains("longer than 1024 bytes"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = Document::parse(&bytes);
    }

    /// What can be read is written as it was, and its problems can be told.
    #[test]
    fn what_is_read_is_written(
        which in 0..3_usize,
        at: prop::sample::Index,
        remove in 0_usize..30,
        junk in "[<>&\"'=/!?a-z: \r\n\u{e4}-]{0,12}",
    ) {
        let sample = [APPLIANCE, DRAFT, OVF2][which];
        let places: Vec<usize> = sample.char_indices().map(|(at, _)| at).collect();
        let at = at.index(places.len());
        let end = places.get(at + remove).copied().unwrap_or(sample.len());
        let text = format!("{}{junk}{}", &sample[..places[at]], &sample[end..]);
        if let Ok(document) = Document::parse(text.as_bytes()) {
            let written = document.to_xml();
            prop_assert_eq!(&written, &text);
            prop_assert_eq!(Document::parse(written.as_bytes()).unwrap(), document.clone());
            let _ = document.validate();
        }
    }

    /// Elements of any shape.
    #[test]
    fn any_element_is_written_as_it_was(element in element()) {
        let text = with(&element);
        let document = Document::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(document.to_xml(), text);
        let _ = document.validate();
    }
}

/// A well-formed element, in any layout and with names that the model knows and others.
fn element() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "References",
        "File",
        "DiskSection",
        "Disk",
        "Section",
        "Content",
        "VirtualSystem",
        "VirtualHardwareSection",
        "Item",
        "ovf:Item",
        "ProductSection",
        "Property",
        "Category",
        "Value",
        "Info",
        "x:y",
        "rasd:InstanceID",
        "ä",
    ]);
    let attribute = (
        prop::sample::select(vec![
            "ovf:id",
            "ovf:key",
            "ovf:qualifiers",
            "ovf:capacity",
            "xsi:type",
            "x:id",
            "id",
            "xmlns:x",
        ]),
        prop::sample::select(vec!["=", " = ", "\n=\t"]),
        "[a-z0-9{}$().,;:/_>'\u{e4} \n]{1,12}",
    );
    let attributes = prop::collection::vec(attribute, 0..2).prop_map(|attributes| {
        attributes
            .into_iter()
            .map(|(name, equals, value)| format!("\n {name}{equals}\"{value}\""))
            .collect::<String>()
    });
    let piece = prop_oneof![
        "[a-z0-9 \r\n\u{1f600}>\"']{1,10}",
        Just("&amp;&#228;".into()),
        "[a-z<&>]{0,6}".prop_map(|text| format!("<![CDATA[{text}]]>")),
        "[a-z<&>]{0,6}".prop_map(|text| format!("<!--{text}-->")),
        "[a-z<&> ]{0,6}".prop_map(|text| format!("<?pi {text}?>")),
    ];
    let leaf = (name.clone(), attributes.clone(), "[ \n]{0,2}")
        .prop_map(|(name, attributes, space)| format!("<{name}{attributes}{space}/>"));
    prop_oneof![piece, leaf].prop_recursive(6, 60, 6, move |inside| {
        (name.clone(), attributes.clone(), prop::collection::vec(inside, 0..6), "[ \n]{0,2}").prop_map(
            |(name, attributes, inside, space)| {
                format!("<{name}{attributes}{space}>{}</{name}{space}>", inside.concat())
            },
        )
    })
}
