use std::collections::BTreeMap;

use fairlead_resource_config::config::ResourceName;
use fairlead_resource_config::inventory::{
    AuxDevice, Function, GroupMember, Inventory, IommuGroup, Kind, Netdev, PfRole, Role, VfRole,
};
use fairlead_resource_config::pools::{Assignment, Device, Pool};

use super::{svg, text};

fn function(address: &str, driver: &str, netdev: Option<&str>, role: Role) -> Function {
    let netdev = netdev.map(|name| Netdev {
        name: name.to_owned(),
        operstate: Some("up".to_owned()),
        carrier: Some(true),
        link_type: Some("ether".to_owned()),
        ..Netdev::default()
    });
    Function {
        address: address.parse().unwrap(),
        kind: Some(Kind::Network),
        // No name is known of these, with whatever list of names.
        vendor: "fff0".parse().ok(),
        device: "0001".parse().ok(),
        driver: Some(driver.to_owned()).filter(|driver| !driver.is_empty()),
        netdevs: netdev.into_iter().collect(),
        numa_node: Some(1),
        acpi_index: None,
        label: None,
        driver_override: None,
        iommu_group: None,
        vfio_cdev: None,
        uio: None,
        rdma: Vec::new(),
        vdpa: Vec::new(),
        ddp_profile: None,
        role,
        notes: Vec::new(),
    }
}

fn vf_address(index: u32) -> String {
    format!("0000:01:{:02x}.{}", 0x10 + index / 8, index % 8)
}

/// A port with so many VFs on iavf, each in a group of its own, and a function that is none.
fn node(vfs: u32) -> Inventory {
    let pf_address = "01:00.0".parse().unwrap();
    let addresses: BTreeMap<_, _> =
        (0..vfs).map(|index| (index, vf_address(index).parse().unwrap())).collect();
    let pf = PfRole { total_vfs: Some(256), num_vfs: Some(vfs), vfs: addresses, eswitch_mode: None };
    let mut functions = vec![function("01:00.0", "ice", Some("ens1f0"), Role::Pf(pf))];
    for index in 0..vfs {
        let role = VfRole { pf_address, index: Some(index), pf_netdev: None, representor: None };
        let netdev = format!("ens1f0v{index}");
        let mut vf = function(&vf_address(index), "iavf", Some(&netdev), Role::Vf(role));
        vf.iommu_group = Some(20 + index);
        functions.push(vf);
    }
    functions.push(function("09:00.0", "", None, Role::Plain));
    Inventory { functions, ..Inventory::default() }
}

fn to_vfio(inventory: &mut Inventory, vf: usize) {
    let vf = &mut inventory.functions[1 + vf];
    vf.driver = Some("vfio-pci".to_owned());
    vf.netdevs.clear();
}

fn lines(inventory: &Inventory, unfold: bool) -> Vec<String> {
    text(inventory, None, unfold).lines().map(str::to_owned).collect()
}

/// The cells of a line.
fn cells(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn vfs_hang_below_their_pf() {
    let mut inventory = node(3);
    to_vfio(&mut inventory, 1);
    let lines = lines(&inventory, false);
    assert_eq!(cells(&lines[0]), ["DEVICE", "DRIVER", "NETDEV", "LINK", "GROUP", "NUMA", "ABOUT"]);
    assert_eq!(
        cells(&lines[1]),
        ["0000:01:00.0", "ice", "ens1f0", "up", "-", "1", "3 of 256 VFs, [fff0:0001]"]
    );
    assert_eq!(cells(&lines[2]), ["├─ vf 0", "0000:01:10.0", "iavf", "ens1f0v0", "up", "20", "1"]);
    assert_eq!(cells(&lines[3]), ["├─ vf 1", "0000:01:10.1", "vfio-pci", "-", "-", "21", "1"]);
    assert_eq!(cells(&lines[4])[0], "└─ vf 2");
    assert_eq!(cells(&lines[5]), ["0000:09:00.0", "-", "-", "-", "-", "1", "[fff0:0001]"]);
    assert_eq!(lines.len(), 6);
}

#[test]
fn long_lists_are_folded_unless_all_is_wanted() {
    let mut inventory = node(128);
    to_vfio(&mut inventory, 100);
    let folded = lines(&inventory, false);
    assert_eq!(
        cells(&folded[2]),
        ["├─ vf 0-99", "0000:01:10.0..0000:01:1c.3", "iavf", "ens1f0v0..ens1f0v99", "up", "20-119", "1"]
    );
    assert_eq!(cells(&folded[3])[..3], ["├─ vf 100", "0000:01:1c.4", "vfio-pci"]);
    assert_eq!(cells(&folded[4])[0], "└─ vf 101-127");
    assert_eq!(folded.len(), 6);
    assert_eq!(lines(&inventory, true).len(), 1 + 1 + 128 + 1);
}

#[test]
fn what_differs_from_its_neighbours_is_not_folded() {
    let changes: [fn(&mut Function); 6] = [
        |vf| vf.numa_node = Some(0),
        |vf| vf.netdevs.clear(),
        |vf| vf.netdevs[0].operstate = Some("down".to_owned()),
        |vf| vf.netdevs[0].master = Some("bond0".to_owned()),
        |vf| vf.driver_override = Some("vfio-pci".to_owned()),
        |vf| vf.iommu_group = None,
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut inventory = node(9);
        assert_eq!(lines(&inventory, false).len(), 4);
        change(&mut inventory.functions[5]);
        assert_eq!(lines(&inventory, false).len(), 6, "change {number}");
    }
}

#[test]
fn groups_that_are_not_viable_say_whose_fault_it_is() {
    let mut inventory = node(2);
    to_vfio(&mut inventory, 0);
    inventory.functions[2].iommu_group = Some(20);
    let member = |name: String, driver: &str| GroupMember { name, driver: Some(driver.to_owned()) };
    let members = vec![member(vf_address(0), "vfio-pci"), member(vf_address(1), "iavf")];
    inventory.iommu_groups.insert(20, IommuGroup { number: 20, noiommu: false, members });
    let lines = lines(&inventory, false);
    assert!(lines[2].contains(" 20! ") && lines[2].ends_with("group 20 not viable: 0000:01:10.1 is on iavf"));
    assert!(
        lines[3].contains(" 20 ") && lines[3].ends_with("group 20 shared with 0000:01:10.0"),
        "{lines:#?}"
    );
    assert!(svg(&inventory, None, false).contains(r#"class="w b">group 20<"#));
}

#[test]
fn representors_scalable_functions_and_what_the_host_uses_are_told() {
    let mut inventory = node(1);
    if let Role::Vf(vf) = &mut inventory.functions[1].role {
        vf.representor = Some("ens1f0r0".to_owned());
    }
    // In switchdev mode the PF has these, too.
    let representor = Netdev {
        name: "ens1f0r0".to_owned(),
        phys_port_name: Some("pf0vf0".to_owned()),
        phys_switch_id: Some("ab".to_owned()),
        ..Netdev::default()
    };
    inventory.functions[0].netdevs.push(representor);
    inventory.aux_devices.push(AuxDevice {
        name: "mlx5_core.sf.4".to_owned(),
        kind: "sf".to_owned(),
        sfnum: Some(88),
        parent: "01:00.0".parse().unwrap(),
        driver: Some("mlx5_core.sf".to_owned()),
        netdevs: Vec::new(),
        rdma: Vec::new(),
        vdpa: Vec::new(),
        notes: vec!["sfnum: odd".to_owned()],
    });
    inventory.default_route_netdevs.insert("ens1f0".to_owned());
    inventory.notes.push("something else".to_owned());
    let lines = lines(&inventory, false);
    assert_eq!(cells(&lines[1])[2], "ens1f0");
    assert!(lines[1].contains("used by the host: ens1f0"), "{lines:#?}");
    assert!(lines[2].ends_with("representor ens1f0r0"), "{lines:#?}");
    assert_eq!(cells(&lines[3])[..3], ["└─ sf 88", "mlx5_core.sf.4", "mlx5_core.sf"]);
    assert_eq!(lines[5..], ["", "note: mlx5_core.sf.4: sfnum: odd", "note: something else"]);
}

#[test]
fn links_to_vfs_that_are_not_there_are_shown() {
    let mut inventory = node(2);
    inventory.functions.remove(2);
    let lines = lines(&inventory, false);
    assert!(
        lines[3].starts_with("└─ vf 1  0000:01:10.1") && lines[3].contains("no such function"),
        "{lines:#?}"
    );
    assert_eq!(
        text(&Inventory::default(), None, false),
        "This node has no PCI network or accelerator devices.\n"
    );
}

fn assignment(inventory: &Inventory) -> Assignment {
    let device = |vf: &Function| Device {
        id: vf.address.into(),
        driver: vf.driver.clone().unwrap_or_default(),
        numa_node: None,
        pf_address: None,
        selectors: 0,
        group_peers: Vec::new(),
        problem: None,
        notes: Vec::new(),
    };
    let devices = inventory.functions.iter().filter(|f| f.as_vf().is_some()).map(device).collect();
    let pool =
        |name: &str, devices| Pool { resource: ResourceName::new("intel.com", name).unwrap(), devices };
    Assignment { pools: vec![pool("net", devices), pool("dpdk", Vec::new())], ..Assignment::default() }
}

#[test]
fn with_a_configuration_each_device_has_its_pool() {
    let inventory = node(5);
    let text = text(&inventory, Some(&assignment(&inventory)), false);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(cells(lines[0])[2], "POOL");
    assert_eq!(cells(lines[1])[2], "-");
    assert_eq!(cells(lines[2])[..4], ["└─ vf 0-4", "0000:01:10.0..0000:01:10.4", "iavf", "intel.com/net"]);
    assert_eq!(lines[5], "pools: intel.com/net 5, intel.com/dpdk 0");
    assert!(lines[6].contains("A pool is empty"), "{text}");
}

#[test]
fn a_picture_is_one_tree_of_elements_and_always_the_same() {
    let inventory = node(128);
    let assignment = assignment(&inventory);
    let picture = svg(&inventory, Some(&assignment), false);
    assert_eq!(picture, svg(&inventory, Some(&assignment), false));
    assert!(
        picture.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && picture.ends_with("</svg>\n")
    );
    for element in ["text", "title", "style", "rect"] {
        let opened = picture.matches(&format!("<{element}")).count();
        let closed = picture.matches(&format!("</{element}>")).count();
        let empty =
            picture.lines().filter(|l| l.starts_with(&format!("<{element}")) && l.ends_with("/>")).count();
        assert_eq!(opened, closed + empty, "{element}");
    }
    // A square for each VF, and one line for all.
    assert_eq!(picture.matches("iavf, intel.com/net</title>").count(), 128);
    assert!(picture.contains(">0000:01:10.0..0000:01:1f.7</text>"));
    assert!(picture.contains("prefers-color-scheme:dark") && !picture.contains("@W"));
}

#[test]
fn texts_of_the_node_cannot_break_a_picture() {
    let mut inventory = node(1);
    inventory.functions[0].netdevs[0].name = "a<b>&\"'\u{1}\u{7}@W".to_owned();
    inventory.notes.push("</svg><script>alert(1)</script>".to_owned());
    let picture = svg(&inventory, None, false);
    assert!(picture.contains(">a&lt;b&gt;&amp;&quot;'\u{fffd}\u{fffd}@W</text>"), "{picture}");
    assert!(!picture.contains("<script") && picture.matches("</svg>").count() == 1);
}
