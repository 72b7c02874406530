use super::*;

fn load(text: &str) -> Result<Loaded, ConfigError> {
    parse(text, Path::new("/etc/pcidp/config.json"), DEFAULT_PREFIX)
}

fn config(text: &str) -> Config {
    load(text).unwrap().config
}

/// The configuration of one resource `x` with these selectors.
fn with_selectors(selectors: &str) -> String {
    format!(r#"{{"resourceList":[{{"resourceName":"x","selectors":{selectors}}}]}}"#)
}

fn problems(text: &str) -> Vec<String> {
    load(text).unwrap_err().to_string().lines().map(str::to_owned).collect()
}

#[test]
fn a_complete_entry_is_read() {
    let config = config(
        r#"{"resourceList":[{
            "resourceName":"dpdk_fast","resourcePrefix":"acme.io","excludeTopology":true,
            "selectors":[{"vendors":["8086"],"drivers":["vfio-pci"],"pfNames":["ens1f0#0-7,12"]},
                         {"rootDevices":["86:00.1#0-3"],"pciAddresses":["0000:86:02.1"],"linkTypes":["ether"]}],
            "additionalInfo":{"*":{"token":"a"},"86:02.1":{"token":"b"}}}]}"#,
    );
    let resource = &config.resources[0];
    assert_eq!(resource.name.to_string(), "acme.io/dpdk_fast");
    assert_eq!(resource.device_type, DeviceType::NetDevice);
    assert!(resource.exclude_topology);
    assert_eq!(resource.selectors[0].vendors, [PciId(0x8086)]);
    assert_eq!(resource.selectors[0].pf_names[0].pf, "ens1f0");
    assert_eq!(resource.selectors[1].root_devices[0].pf.to_string(), "0000:86:00.1");
    assert_eq!(resource.additional_info["0000:86:02.1"]["token"], "b");
}

#[test]
fn keys_are_read_without_regard_to_case() {
    let config = config(
        r#"{"ResourceList":[{"resourcename":"x","DeviceType":"accelerator","SELECTORS":{"Vendors":["8086"]}}]}"#,
    );
    assert_eq!(config.resources[0].device_type, DeviceType::Accelerator);
    assert_eq!(config.resources[0].selectors[0].vendors, [PciId(0x8086)]);
}

#[test]
fn selectors_may_be_an_object_a_list_or_absent() {
    let count = |text: &str| config(text).resources[0].selectors.len();
    assert_eq!(count(&with_selectors("{}")), 1);
    assert_eq!(count(&with_selectors("[{},{}]")), 2);
    assert_eq!(count(&with_selectors("null")), 1);
}

/// The one problem of one resource `x` with this entry beside its name.
fn problem(entry: &str) -> String {
    let text = format!(r#"{{"resourceList":[{{"resourceName":"x",{entry}}}]}}"#);
    let found = problems(&text);
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0].strip_prefix("/etc/pcidp/config.json: resourceList[0] (x): ").unwrap().to_owned()
}

#[test]
fn every_selector_is_read() {
    let config = config(&with_selectors(
        r#"{"vendors":["8086"],"devices":["0x10CA"],"drivers":["igbvf"],"pciAddresses":["3b:02.1"],
        "acpiIndexes":["101"],"pfNames":["ENS1f0#0-3,5"],"rootDevices":["0000:3b:00.0#7"],"linkTypes":["ether"],
        "ddpProfiles":["GTPv1-C/U IPv4/IPv6 payload"],"pKeys":["0xABCD"],"IsRdma":true,"needVhostNet":true,
        "vdpaType":"","auxTypes":null}"#,
    ));
    let found = &config.resources[0].selectors[0];
    let expected = Selectors {
        vendors: vec![PciId(0x8086)],
        devices: vec![PciId(0x10ca)],
        drivers: vec!["igbvf".to_owned()],
        pci_addresses: vec!["0000:3b:02.1".parse().unwrap()],
        acpi_indexes: vec!["101".to_owned()],
        pf_names: found.pf_names.clone(),
        root_devices: found.root_devices.clone(),
        link_types: vec!["ether".to_owned()],
        ddp_profiles: vec!["GTPv1-C/U IPv4/IPv6 payload".to_owned()],
        p_keys: vec!["0xabcd".parse().unwrap()],
        is_rdma: true,
        need_vhost_net: true,
        vdpa_type: None,
        aux_types: Vec::new(),
    };
    assert_eq!(found, &expected);
    assert_eq!((found.pf_names[0].pf.as_str(), found.pf_names[0].text()), ("ens1f0", "ENS1f0#0-3,5"));
    assert_eq!(found.root_devices[0].pf.to_string(), "0000:3b:00.0");
}

#[test]
fn auxiliary_devices_have_selectors_of_their_own() {
    let aux = |selectors: &str| {
        load(&format!(
            r#"{{"resourceList":[{{"resourceName":"sf","deviceType":"auxNetDevice","selectors":{selectors}}}]}}"#
        ))
    };
    let loaded = aux(r#"[{"auxTypes":["sf"],"pfNames":["p0#10-19"],"isRdma":true}]"#).unwrap();
    assert_eq!(loaded.config.resources[0].device_type, DeviceType::AuxNetDevice);
    assert_eq!(loaded.config.resources[0].selectors[0].aux_types, ["sf"]);
    for (selectors, expected) in [
        ("{}", r#"selectors.auxTypes: found nothing; allowed: ["sf"], which auxNetDevice needs"#),
        ("null", r#"selectors.auxTypes: found nothing; allowed: ["sf"], which auxNetDevice needs"#),
        (
            r#"[{"auxTypes":["sf"]},{"AUXTYPES":[]}]"#,
            r#"selectors[1].auxTypes: found nothing; allowed: ["sf"], which auxNetDevice needs"#,
        ),
        (r#"{"auxTypes":["eth"]}"#, r#"selectors.auxTypes[0]: found "eth"; allowed: "sf""#),
    ] {
        let error = aux(selectors).unwrap_err().to_string();
        assert_eq!(error, format!("/etc/pcidp/config.json: resourceList[0] (sf): {expected}"));
    }
}

#[test]
fn selectors_that_a_device_type_does_not_have_are_ignored_with_a_warning() {
    let loaded = load(
        r#"{"resourceList":[
            {"resourceName":"fec","deviceType":"accelerator","selectors":{"pfNames":["p0"],"acpiIndexes":["1"],"isRdma":false,"linkTypes":[]}},
            {"resourceName":"sf","deviceType":"auxNetDevice","selectors":{"auxTypes":["sf"],"pciAddresses":["3b:02.1"]}},
            {"resourceName":"nic","selectors":{"auxTypes":["sf"]}}]}"#,
    )
    .unwrap();
    let expected = [
        "resourceList[0] (fec): selectors.pfNames: ignored for deviceType accelerator; it is for netDevice or auxNetDevice",
        "resourceList[1] (sf): selectors.pciAddresses: ignored for deviceType auxNetDevice; it is for netDevice or accelerator",
        "resourceList[2] (nic): selectors.auxTypes: ignored for deviceType netDevice; it is for auxNetDevice",
    ];
    assert_eq!(loaded.warnings, expected.map(|text| format!("/etc/pcidp/config.json: {text}")));
    assert_eq!(loaded.config.resources[0].selectors[0].acpi_indexes, ["1"]);
    assert_eq!(loaded.config.resources[0].selectors[0].pf_names, []);
}

#[test]
fn functions_named_twice_are_warned_about() {
    let warnings = |selectors: &str| load(&with_selectors(selectors)).unwrap().warnings.join("\n");
    let place = "/etc/pcidp/config.json: resourceList[0] (x): selectors";
    assert_eq!(
        warnings(r#"{"pfNames":["p0#0-3","p1","P0#2-5"]}"#),
        format!(r#"{place}.pfNames[2]: "P0#2-5" repeats functions 2-3 of "p0#0-3""#)
    );
    assert_eq!(
        warnings(r#"{"rootDevices":["3b:00.0#1,0-3"]}"#),
        format!(r#"{place}.rootDevices[0]: "3b:00.0#1,0-3" has function 1 more than once"#)
    );
    assert_eq!(warnings(r#"{"pfNames":["p0#0-3","p0#4"],"rootDevices":["3b:00.0"]}"#), "");
}

#[test]
fn what_is_wrong_is_told_with_key_found_and_allowed() {
    for (entry, expected) in [
        (
            r#""deviceType":"netdevice""#,
            r#"deviceType: found "netdevice"; allowed: netDevice, accelerator, auxNetDevice"#,
        ),
        (r#""excludeTopology":"yes""#, r#"excludeTopology: found "yes"; allowed: true or false"#),
        (r#""resourcePrefix":7"#, "resourcePrefix: found 7 without quotes; allowed: a text"),
        (r#""selectors":"all""#, r#"selectors: found "all"; allowed: an object"#),
        (
            r#""selectors":[]"#,
            "selectors: found an empty list; allowed: an object, or a list with at least one object",
        ),
        (r#""selectors":[null]"#, "selectors[0]: found null; allowed: an object"),
        (
            r#""selectors":{"vendors":["intel"]}"#,
            r#"selectors.vendors[0]: found "intel"; allowed: four hexadecimal digits, such as "8086""#,
        ),
        (
            r#""selectors":{"vendors":[8086]}"#,
            r#"selectors.vendors[0]: found 8086 without quotes; allowed: four hexadecimal digits, such as "8086""#,
        ),
        (
            r#""selectors":{"devices":"10ca"}"#,
            r#"selectors.devices: found "10ca"; allowed: a list, such as ["10ca"]"#,
        ),
        (r#""selectors":{"drivers":[""]}"#, r#"selectors.drivers[0]: found ""; allowed: names of drivers"#),
        (
            r#""selectors":{"pciAddresses":["3b:00"]}"#,
            r#"selectors.pciAddresses[0]: found "3b:00"; allowed: PCI addresses, such as "0000:3b:02.1""#,
        ),
        (
            r#""selectors":{"acpiIndexes":[101]}"#,
            r#"selectors.acpiIndexes[0]: found 101 without quotes; allowed: ACPI indexes as texts, such as "101""#,
        ),
        (
            r#""selectors":{"pfNames":["p0","p0#3-1"]}"#,
            r##"selectors.pfNames[1]: found "p0#3-1"; allowed: a PF, alone or with VF indexes, as in "pf#0-3,5""##,
        ),
        (
            r#""selectors":{"rootDevices":["eth0#1"]}"#,
            r##"selectors.rootDevices[0]: found "eth0#1"; allowed: a PF, alone or with VF indexes, as in "pf#0-3,5""##,
        ),
        (r#""selectors":{"linkTypes":{}}"#, "selectors.linkTypes: found {}; allowed: a list"),
        (
            r#""selectors":{"ddpProfiles":[""]}"#,
            r#"selectors.ddpProfiles[0]: found ""; allowed: names of DDP packages"#,
        ),
        (
            r#""selectors":{"pKeys":["0x12345"]}"#,
            r#"selectors.pKeys[0]: found "0x12345"; allowed: partition keys, such as "0x8001""#,
        ),
        (
            r#""selectors":[{"isRdma":"true"}]"#,
            r#"selectors[0].isRdma: found "true"; allowed: true or false"#,
        ),
        (r#""selectors":{"needVhostNet":1}"#, "selectors.needVhostNet: found 1; allowed: true or false"),
        (
            r#""selectors":{"vdpaType":"vdpa"}"#,
            r#"selectors.vdpaType: found "vdpa"; allowed: "vhost" or "virtio""#,
        ),
        (
            r#""selectors":[{"isRdma":true,"vdpaType":"vhost"}]"#,
            "selectors[0]: found isRdma and vdpaType together; allowed: one of the two in an object; a list may have an object with each",
        ),
        (
            r#""selectors":{"drivers":["a"],"Drivers":["b"]}"#,
            "selectors.drivers: found the key more than once; allowed: the key once, in any case",
        ),
        (
            r#""additionalInfo":["*"]"#,
            r#"additionalInfo: found ["*"]; allowed: an object of "*" or PCI addresses"#,
        ),
        (
            r#""additionalInfo":{"eth0":{}}"#,
            r#"additionalInfo."eth0": found "eth0"; allowed: "*" or a PCI address"#,
        ),
        (
            r#""additionalInfo":{"*":"token"}"#,
            r#"additionalInfo."*": found "token"; allowed: an object of texts"#,
        ),
        (
            r#""additionalInfo":{"*":{"n":5}}"#,
            r#"additionalInfo."*".n: found 5 without quotes; allowed: a text"#,
        ),
    ] {
        assert_eq!(problem(entry), expected);
    }
}

#[test]
fn all_problems_are_reported_each_with_file_entry_key_found_and_allowed() {
    let names = "letters, digits, _ and -, at most 63, beginning and ending with a letter or digit";
    let lines = problems(
        r#"{"resourceList":[
            {"resourceName":"a.b"},
            {"resourceName":"c","deviceType":"vhost","selectors":{"vendors":["intel"]}},
            {"resourceName":"e"},{"resourceName":"e"}, 7, {"selectors":{}},
            {"resourceName":"f","resourcePrefix":"Acme.io"}]}"#,
    );
    let expected = [
        format!(r#"resourceList[0] (a.b): resourceName: found "a.b"; allowed: {names}"#),
        r#"resourceList[1] (c): deviceType: found "vhost"; allowed: netDevice, accelerator, auxNetDevice"#.to_owned(),
        r#"resourceList[1] (c): selectors.vendors[0]: found "intel"; allowed: four hexadecimal digits, such as "8086""#.to_owned(),
        "resourceList[3] (e): resourceName: found intel.com/e, which an entry before this one has; allowed: each resource once in a file".to_owned(),
        "resourceList[4]: found 7; allowed: an object".to_owned(),
        format!("resourceList[5]: resourceName: found nothing; allowed: {names}"),
        r#"resourceList[6] (f): resourcePrefix: found "Acme.io"; allowed: a DNS name in lower case that does not end in kubernetes.io, such as intel.com"#.to_owned(),
    ];
    assert_eq!(lines, expected.map(|text| format!("/etc/pcidp/config.json: {text}")));
}

#[test]
fn yaml_is_read_like_json_and_needs_no_quotes() {
    let yaml = "
# as people write it
resourceList:
- resourceName: dpdk
  resourcePrefix: acme.io
  excludeTopology: true
  selectors:
  - vendors: [8086]
    devices: [15e3, 1572, 0x1889]
    acpiIndexes: [101]
    pfNames: [ens1f0#0-3, ens1f0#5]
    isRdma: false
  additionalInfo:
    '*': {token: 17}
    0000:3b:02.1: {}
";
    let resource = &config(yaml).resources[0];
    assert!(resource.exclude_topology);
    assert_eq!(resource.selectors[0].devices, [PciId(0x15e3), PciId(0x1572), PciId(0x1889)]);
    assert_eq!(resource.selectors[0].acpi_indexes, ["101"]);
    assert_eq!(resource.selectors[0].pf_names[1].text(), "ens1f0#5");
    assert_eq!(resource.additional_info["*"]["token"], "17");

    let broken =
        "resourceList:\n- resourceName: x\n  selectors: {isRdma: yes, vendors: [808], drivers: igbvf}\n";
    let expected = [
        r#"selectors.vendors[0]: found 808; allowed: four hexadecimal digits, such as "8086""#,
        r#"selectors.drivers: found igbvf; allowed: a list, such as ["igbvf"]"#,
        "selectors.isRdma: found yes; allowed: true or false",
    ];
    let expected = expected.map(|text| format!("/etc/pcidp/config.json: resourceList[0] (x): {text}"));
    assert_eq!(problems(broken), expected);
}

#[test]
fn what_is_neither_json_nor_yaml_is_told_with_its_place() {
    let error = |text: &str| crate::error_text(&load(text).unwrap_err());
    let reading = "cannot read the configuration /etc/pcidp/config.json";
    assert_eq!(
        error("{\n  oops"),
        format!("{reading}: this is not JSON: key must be a string at line 2 column 3")
    );
    let yaml = "this is not YAML (nor JSON, which begins with a brace)";
    assert_eq!(
        error("resourceList:\n- resourceName: x: y\n"),
        format!("{reading}: {yaml}: line 2, column 18: mapping values are not allowed in this context")
    );
    assert_eq!(error(""), format!("{reading}: {yaml}: line 1, column 1: there is nothing in it"));
}

#[test]
fn what_is_json_but_for_a_comma_is_read_with_a_warning() {
    // Upstream's documentation has such examples.
    let loaded = load("{\"resourceList\": [{\"resourceName\": \"x\",}],}").unwrap();
    assert_eq!(loaded.config.resources[0].name.to_string(), "intel.com/x");
    let expected = "/etc/pcidp/config.json: the file: this is not JSON: trailing comma at line 1 column 40; read as YAML, \
        which upstream's device plugin would refuse";
    assert_eq!(loaded.warnings, [expected]);
}

#[test]
fn warnings_are_told_beside_problems() {
    let lines = problems(&with_selectors(r#"{"vendors":[1],"pfName":["a"]}"#));
    assert_eq!(lines.len(), 2);
    assert!(
        lines[1].starts_with("warning: /etc/pcidp/config.json: resourceList[0] (x): selectors: unknown key")
    );
}

#[test]
fn the_config_map_that_carries_a_configuration_is_read_too() {
    let map = |files: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: sriovdp-config}}\ndata:\n{files}")
    };
    let loaded =
        load(&map("  config.json: |\n    {\"resourceList\": [{\"resourceName\": \"x\"}]}\n")).unwrap();
    assert_eq!(loaded.config.resources[0].name.to_string(), "intel.com/x");
    let error = load(&map("  a: x\n  config.json: \"{}\"\n")).unwrap_err().to_string();
    assert!(
        error.starts_with("/etc/pcidp/config.json (data.config.json): resourceList: found no resource"),
        "{error}"
    );
    let error = load(&map("  a: x\n  b: y\n")).unwrap_err().to_string();
    assert!(
        error.contains("resourceList: found no resource") && error.contains("unknown key \"data\""),
        "{error}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = super::load(Path::new("/nonexistent/config.json"), DEFAULT_PREFIX).unwrap_err();
    assert_eq!(
        crate::error_text(&error),
        "cannot read the configuration /nonexistent/config.json: No such file or directory (os error 2)"
    );
}

#[test]
fn unknown_keys_are_warned_about_with_the_nearest_known_one() {
    let loaded = load(&with_selectors(r#"{"pfName":["a"],"colour":"red"}"#)).unwrap();
    let warnings = loaded.warnings.join("\n");
    let expected = r#"config.json: resourceList[0] (x): selectors: unknown key "pfName" is ignored; did you mean "pfNames"?"#;
    assert!(warnings.contains(expected), "{warnings}");
    assert!(warnings.contains(r#"unknown key "colour" is ignored; known here: vendors"#), "{warnings}");
}

#[test]
fn files_without_resources_are_refused() {
    assert!(problems("{}")[0].contains("resourceList: found no resource"));
    assert!(problems(r#"{"resourceList":[]}"#)[0].contains("resourceList: found no resource"));
    assert!(problems("[]")[0].contains("the file: found []; allowed: an object"));
}

#[test]
fn a_prefix_that_kubelet_would_refuse_is_a_problem_wherever_it_comes_from() {
    let error = parse(&with_selectors("{}"), Path::new("f"), "Intel.com").unwrap_err().to_string();
    assert!(error.contains(r#"f: resourceList[0] (x): resourcePrefix: found "Intel.com""#), "{error}");
}
