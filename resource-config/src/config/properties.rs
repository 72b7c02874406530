//! What holds for every text and every list of functions, and between the reader and the schema.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::functions::{Functions, netdev};
use super::*;

fn load(text: &str) -> Result<Loaded, ConfigError> {
    parse(text, Path::new("f"), DEFAULT_PREFIX)
}

/// A key in any case.
fn spelt(name: &'static str) -> impl Strategy<Value = String> {
    (0..4u8).prop_map(move |case| match case {
        0 => name.to_uppercase(),
        1 => name.to_lowercase(),
        _ => name.to_owned(),
    })
}

/// Values that no key takes, or only some.
fn odd() -> impl Strategy<Value = Value> {
    let texts =
        ["intel", "", "0000:3b:20.1", "p0#", "p0 #1", "netdevice", "a.b", "Intel.com", "0x12345", "x"];
    let odd =
        texts.map(Value::from).into_iter().chain([json!(null), json!(true), json!(7), json!([]), json!({})]);
    select(odd.collect::<Vec<_>>())
}

/// Values that are right for a key, in all the spellings that there are.
fn right(name: &str) -> Vec<Value> {
    let texts: &[&str] = match name {
        "vendors" | "devices" => &["8086", "0x10CA", "0X15b3"],
        "drivers" => &["iavf"],
        "pciAddresses" => &["3b:02.1", "0000:3B:1f.7", "10000:e1:00.0", "3:2.1"],
        "acpiIndexes" => &["101"],
        "pfNames" => &["p0", "ens1f0np0#0-3,5", "P0#1"],
        "rootDevices" => &["3b:00.0", "0000:3b:00.0#0,7-9"],
        "linkTypes" => &["ether", "infiniband"],
        "ddpProfiles" => &["GTPv1-C/U IPv4/IPv6 payload"],
        "pKeys" => &["0x8001", "7FFF", "0X1"],
        "auxTypes" => &["sf"],
        "isRdma" | "needVhostNet" | "excludeTopology" => return vec![json!(true), json!(false)],
        "vdpaType" => return ["vhost", "virtio", ""].map(Value::from).into(),
        "deviceType" => return ["netDevice", "accelerator", ""].map(Value::from).into(),
        "resourcePrefix" => return ["intel.com", "a-1.b", ""].map(Value::from).into(),
        "additionalInfo" => {
            return vec![json!({"*": {"a": "b", "c": null}, "3b:02.1": null, "0000:3b:02.2": {}}), json!({})];
        }
        _ => &[],
    };
    texts.iter().map(|text| json!([text])).chain([json!(texts), json!([])]).collect()
}

/// Mostly right entries of an object with these keys.
fn entries(keys: &'static [keys::Key], names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let names: Vec<&'static str> =
        keys.iter().map(|key| key.name).filter(|name| !names.contains(name)).collect();
    let entry = select(names).prop_flat_map(|name| {
        let value = prop_oneof![
            30 => select(right(name)),
            2 => Just(Value::Null),
            1 => odd(),
            1 => odd().prop_map(|value| json!([value])),
        ];
        (prop_oneof![20 => spelt(name).boxed(), 1 => Just("colour".to_owned()).boxed()], value)
    });
    prop::collection::vec(entry, 0..4).prop_map(|entries| Value::Object(Map::from_iter(entries)))
}

/// Files that come near to configurations.
fn files() -> impl Strategy<Value = Value> {
    let one = entries(keys::SELECTORS, &[]).boxed();
    let several = prop::collection::vec(one.clone(), 0..3).prop_map(Value::from);
    let selectors = prop_oneof![4 => one, 4 => several, 1 => odd()];
    let resource = (
        entries(keys::RESOURCE, &["resourceName", "selectors"]),
        spelt("selectors"),
        selectors,
        "[a-z]{1,3}",
    )
        .prop_map(|(mut resource, key, selectors, name)| {
            resource["ResourceName"] = json!(name);
            resource[key] = selectors;
            resource
        });
    let list = (spelt("resourceList"), prop::collection::vec(resource, 1..3));
    let list = list.prop_map(|(key, resources)| json!({key: resources}));
    prop_oneof![1 => odd(), 20 => list]
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(&schema()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC*") {
        let _ = load(&text);
    }

    #[test]
    fn no_text_of_yaml_signs_makes_the_reader_panic(text in "([-?:,\\[\\]{}#&*!|>'\"%@`~ \n\t<]|a|resourceList|selectors){0,40}") {
        let _ = load(&text);
    }

    #[test]
    fn whatever_is_refused_is_told_line_by_line(file in files()) {
        match load(&file.to_string()) {
            Err(error @ ConfigError::Invalid(_)) => {
                for line in error.to_string().lines() {
                    let is_problem = line.starts_with("f: ") && line.contains("found ") && line.contains("; allowed: ");
                    prop_assert!(is_problem || line.starts_with("warning: f: "), "{line}");
                }
            }
            Err(error) => prop_assert!(file.is_string() || file.is_null(), "{error}"),
            Ok(_) => {}
        }
    }

    #[test]
    fn what_the_reader_takes_the_schema_takes(file in files()) {
        thread_local!(static VALIDATOR: jsonschema::Validator = validator());
        let validated = VALIDATOR.with(|validator| validator.validate(&file).map_err(|error| error.to_string()));
        if load(&file.to_string()).is_ok() {
            prop_assert_eq!(validated, Ok(()), "{}", file);
        }
    }

    #[test]
    fn json_is_read_the_same_as_yaml(file in files()) {
        // The comma makes it YAML.
        let text = file.to_string();
        if let Ok(json) = load(&text) {
            let yaml = format!("{},}}", &text[..text.len() - 1]);
            prop_assert_eq!(load(&yaml).map(|loaded| loaded.config).map_err(|error| error.to_string()), Ok(json.config));
        }
    }

    #[test]
    fn a_list_has_the_functions_that_it_names(ranges in prop::collection::vec((0u32..40, 0u32..6), 1..5)) {
        let named: BTreeSet<u32> = ranges.iter().flat_map(|(first, more)| *first..=first + more).collect();
        let items: Vec<String> = ranges
            .iter()
            .map(|(first, more)| if *more == 0 { first.to_string() } else { format!("{first}-{}", first + more) })
            .collect();
        let functions = Functions::parse(&format!("p0#{}", items.join(",")), netdev).unwrap();
        let found: BTreeSet<u32> = (0..60).filter(|index| functions.contains(Some(*index))).collect();
        let count: u32 = ranges.iter().map(|(_, more)| more + 1).sum();
        prop_assert_eq!(functions.repeated().is_some(), usize::try_from(count).unwrap() > named.len());
        prop_assert_eq!(found, named);
        prop_assert!(!functions.contains(None));
    }

    #[test]
    fn two_lists_overlap_where_they_have_functions_in_common(a in ranges(), b in ranges()) {
        let list = |text: &str| Functions::parse(text, netdev).unwrap();
        let (a, b) = (list(&a), list(&b));
        let common = (0..20).any(|index| a.contains(Some(index)) && b.contains(Some(index)));
        prop_assert_eq!(a.overlap(&b).is_some(), common);
        prop_assert_eq!(b.overlap(&a).is_some(), common);
    }
}

fn ranges() -> impl Strategy<Value = String> {
    (0u32..10, 0u32..5, any::<bool>()).prop_map(|(first, more, all)| {
        if all { "p0".to_owned() } else { format!("p0#{first}-{}", first + more) }
    })
}

#[test]
fn the_schema_takes_upstreams_forms_and_refuses_what_the_reader_refuses() {
    let validator = validator();
    let entry = |entry: &str| format!(r#"{{"resourceList":[{{"resourceName":"x",{entry}}}]}}"#);
    for good in [
        entry(r#""selectors":{"vendors":["8086"],"IsRdma":false,"pfNames":null}"#),
        entry(
            r#""selectors":[{"PfNames":["ens1f0#0-3,5","p1"],"rootDevices":["86:00.1#0-3"]},{"drivers":[]}]"#,
        ),
        entry(
            r#""deviceType":"auxNetDevice","selectors":[{"auxTypes":["sf"]}],"additionalInfo":{"*":{"a":"b"}}"#,
        ),
        r#"{"RESOURCELIST":[{"RESOURCENAME":"x","colour":"red"}]}"#.to_owned(),
    ] {
        load(&good).unwrap();
        assert!(validator.is_valid(&serde_json::from_str(&good).unwrap()), "{good}");
    }
    for bad in [
        "{}".to_owned(),
        r#"{"resourceList":[]}"#.to_owned(),
        r#"{"resourceList":[{}]}"#.to_owned(),
        r#"{"resourceList":[7]}"#.to_owned(),
        r#"{"resourceList":[{"resourceName":"a.b"}]}"#.to_owned(),
        entry(r#""deviceType":"vhost""#),
        entry(r#""excludeTopology":"yes""#),
        entry(r#""resourcePrefix":"Acme.io""#),
        entry(r#""selectors":[]"#),
        entry(r#""selectors":{"Vendors":["intel"]}"#),
        entry(r#""selectors":{"devices":"10ca"}"#),
        entry(r#""selectors":{"drivers":[""]}"#),
        entry(r#""selectors":{"pciAddresses":["3b:20.0"]}"#),
        entry(r#""selectors":{"pfNames":["p0#1-2-3"]}"#),
        entry(r#""selectors":{"rootDevices":["eth0"]}"#),
        entry(r#""selectors":{"pKeys":["0x12345"]}"#),
        entry(r#""selectors":[{"isRdma":"true"}]"#),
        entry(r#""selectors":{"vdpaType":"vdpa"}"#),
        entry(r#""additionalInfo":{"eth0":{}}"#),
        entry(r#""additionalInfo":{"*":{"a":1}}"#),
    ] {
        assert!(load(&bad).is_err(), "{bad}");
        assert!(!validator.is_valid(&serde_json::from_str(&bad).unwrap()), "{bad}");
    }
}

#[test]
fn the_schema_is_one_and_every_key_of_it_is_known_to_the_reader() {
    let schema = schema();
    assert!(jsonschema::meta::is_valid(&schema));
    let names = |at: &str| -> Vec<String> {
        schema.pointer(at).unwrap().as_object().unwrap().keys().cloned().collect()
    };
    let nulls =
        |names: Vec<String>| Value::Object(names.into_iter().map(|name| (name, Value::Null)).collect());
    let mut resource = nulls(names("/$defs/resource/properties"));
    resource["resourceName"] = json!("x");
    resource["selectors"] = nulls(names("/$defs/selectors/properties"));
    let text = json!({"resourceList": [resource]}).to_string();
    assert_eq!(load(&text).unwrap().warnings, Vec::<String>::new());
    assert_eq!(names("/properties"), ["resourceList"]);
}
