//! What containers get, to the byte.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use fairlead_kubelet_api::device_plugin as api;
use fairlead_resource_config::test_support::SysfsTree;
use tonic::{Code, Status};

use super::fixture::{Fixture, add_rdma, add_vdpa};
use crate::pool::Listing;
use crate::{allocate, devinfo};

const KERNEL: usize = 0;
const DPDK: usize = 1;

fn allocate(node: &Fixture, pool: usize, ids: &[&str]) -> Result<api::ContainerAllocateResponse, Status> {
    allocate_from(node, &node.listings()[pool], ids)
}

fn allocate_from(
    node: &Fixture,
    listing: &Listing,
    ids: &[&str],
) -> Result<api::ContainerAllocateResponse, Status> {
    let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    Ok(allocate::container(listing, &ids, &node.node(), None)?)
}

/// The refusal of one device of the pool that has it, after `change` to the node.
fn refusal(pool: usize, id: &str, change: impl FnOnce(&Fixture)) -> Status {
    let node = Fixture::new();
    let listing = node.listings()[pool].clone();
    change(&node);
    allocate_from(&node, &listing, &[id]).unwrap_err()
}

fn spec(host: &str, container: &str) -> api::DeviceSpec {
    let (host_path, container_path) = (host.to_owned(), container.to_owned());
    api::DeviceSpec { host_path, container_path, permissions: "rw".to_owned() }
}

#[test]
fn a_netdev_gets_its_variables_and_no_nodes() {
    let answer = allocate(&Fixture::new(), KERNEL, &["0000:01:10.2"]).unwrap();
    let expected = api::ContainerAllocateResponse {
        envs: [
            ("PCIDEVICE_INTEL_COM_SRIOV".to_owned(), "0000:01:10.2".to_owned()),
            (
                "PCIDEVICE_INTEL_COM_SRIOV_INFO".to_owned(),
                r#"{"0000:01:10.2":{"generic":{"deviceID":"0000:01:10.2"}}}"#.to_owned(),
            ),
        ]
        .into(),
        ..Default::default()
    };
    assert_eq!(answer, expected);
}

#[test]
fn vfio_devices_get_their_nodes_once_sorted_by_address() {
    let answer = allocate(&Fixture::new(), DPDK, &["0000:01:10.6", "0000:01:10.4"]).unwrap();
    assert_eq!(answer.envs["PCIDEVICE_INTEL_COM_SRIOV_DPDK"], "0000:01:10.4,0000:01:10.6");
    let expected = concat!(
        r#"{"0000:01:10.4":{"extra":{"rack":"7","token":"b"},"generic":{"deviceID":"0000:01:10.4"},"#,
        r#""vfio":{"dev-mount":"/dev/vfio/12","mount":"/dev/vfio/vfio"}},"#,
        r#""0000:01:10.6":{"extra":{"rack":"7","token":"a"},"generic":{"deviceID":"0000:01:10.6"},"#,
        r#""vfio":{"dev-mount":"/dev/vfio/13","mount":"/dev/vfio/vfio"}}}"#,
    );
    assert_eq!(answer.envs["PCIDEVICE_INTEL_COM_SRIOV_DPDK_INFO"], expected);
    let nodes = ["/dev/vfio/vfio", "/dev/vfio/12", "/dev/vfio/13"].map(|path| spec(path, path));
    assert_eq!(answer.devices, nodes);
}

#[test]
fn a_noiommu_group_keeps_its_usual_name_in_the_container() {
    let node = Fixture::new();
    node.tree.noiommu(12);
    let answer = allocate(&node, DPDK, &["0000:01:10.4"]).unwrap();
    assert_eq!(answer.devices[1], spec("/dev/vfio/noiommu-12", "/dev/vfio/12"));
    assert!(answer.envs["PCIDEVICE_INTEL_COM_SRIOV_DPDK_INFO"].contains(r#""dev-mount":"/dev/vfio/12""#));
}

#[test]
fn a_uio_device_gets_its_node() {
    for driver in ["uio", "igb_uio", "uio_pci_generic"] {
        let tree = SysfsTree::igb(1);
        tree.bind("0000:01:10.0", driver);
        fs::create_dir_all(tree.device("0000:01:10.0").join("uio/uio3")).unwrap();
        let config = r#"{"resourceList":[{"resourceName":"sriov","selectors":{"drivers":["DRIVER"]}}]}"#;
        let node = Fixture::of(tree, &config.replace("DRIVER", driver));

        let status = allocate(&node, KERNEL, &["0000:01:10.0"]).unwrap_err();
        assert!(status.message().contains("/dev/uio3 is missing"), "{status}");
        fs::write(node.tree.dev().join("uio3"), "").unwrap();
        let answer = allocate(&node, KERNEL, &["0000:01:10.0"]).unwrap();
        assert_eq!(answer.devices, [spec("/dev/uio3", "/dev/uio3")]);
        assert!(answer.envs["PCIDEVICE_INTEL_COM_SRIOV_INFO"].contains(r#""uio":{"mount":"/dev/uio3"}"#));
    }
}

#[test]
fn ids_that_are_not_in_the_pool_are_invalid() {
    for id in ["0000:01:10.4", "01:10.0", "eth0", ""] {
        let status = allocate(&Fixture::new(), KERNEL, &["0000:01:10.0", id]).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), format!("device {id:?} is not in pool intel.com/sriov"));
    }
}

#[test]
fn devices_that_cannot_be_used_are_refused_with_device_and_path() {
    let id = "0000:01:10.4";
    let remove =
        |name: &'static str| move |node: &Fixture| fs::remove_file(node.tree.dev().join(name)).unwrap();
    let cases = [
        (refusal(DPDK, id, remove("vfio/12")), "dev/vfio/12 is missing"),
        (refusal(DPDK, id, remove("vfio/vfio")), "dev/vfio/vfio is missing"),
        (refusal(DPDK, id, |node| node.tree.unset(id, "iommu_group")), "0000:01:10.4/iommu_group"),
        (
            refusal(DPDK, id, |node| node.tree.bind(id, "igbvf")),
            "is on driver igbvf, its pool has it for vfio-pci: see ",
        ),
        (refusal(DPDK, id, |node| node.tree.bind(id, "")), "is on driver none"),
        (refusal(DPDK, id, |node| node.tree.remove(id)), "is gone: no /"),
        (
            refusal(DPDK, id, |node| node.tree.group(12, &["0000:01:10.0"])),
            "0000:01:10.0 of its IOMMU group 12 is on the host driver igbvf",
        ),
    ];
    for (status, part) in cases {
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains(id) && status.message().contains(part), "{status}");
        assert!(!status.message().contains("not found"), "{status}");
    }
}

#[test]
fn device_information_is_written_read_only_and_nothing_else_is_touched() {
    let node = Fixture::new();
    let listing = &node.listings()[KERNEL];
    let (resource, device) = (&listing.resource, &listing.members[0]);
    fs::create_dir_all(node.devinfo()).unwrap();
    let other = node.devinfo().join("acme.io-x-0000:01:10.0-device.json");
    fs::write(&other, "{}").unwrap();
    let path = devinfo::path(&node.devinfo(), resource, device);
    assert_eq!(path.file_name().unwrap(), "intel.com-sriov-0000:01:10.0-device.json");
    fs::write(&path, "torn").unwrap();

    devinfo::write(&node.devinfo(), resource, device).unwrap();
    let expected = concat!(
        r#"{"type":"pci","version":"1.1.0","#,
        r#""pci":{"pci-address":"0000:01:10.0","pf-pci-address":"0000:01:00.0"}}"#
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(fs::read_to_string(other).unwrap(), "{}");
    assert_eq!(fs::read_dir(node.devinfo()).unwrap().count(), 2);
}

#[test]
fn an_allocation_writes_what_is_missing() {
    let node = Fixture::new();
    allocate(&node, KERNEL, &["0000:01:10.0"]).unwrap();
    assert_eq!(node.devinfo().metadata().unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::read_dir(node.devinfo()).unwrap().count(), 1);
}

/// One pool of VF `0000:01:10.0` with these selectors and other keys.
fn one_pool(tree: SysfsTree, selectors: &str, keys: &str) -> Fixture {
    let text =
        format!(r#"{{"resourceList":[{{"resourceName":"sriov","selectors":{{{selectors}}}{keys}}}]}}"#);
    Fixture::of(tree, &text)
}

/// What a container gets for the only device: paths of nodes, and `_INFO` of the device.
fn given(node: &Fixture) -> (Vec<String>, serde_json::Value) {
    let answer = allocate(node, 0, &["0000:01:10.0"]).unwrap();
    let info: serde_json::Value =
        serde_json::from_str(&answer.envs["PCIDEVICE_INTEL_COM_SRIOV_INFO"]).unwrap();
    assert!(answer.devices.iter().all(|spec| spec.host_path == spec.container_path));
    (answer.devices.into_iter().map(|spec| spec.host_path).collect(), info["0000:01:10.0"].clone())
}

/// The text of the device-information file.
fn described(node: &Fixture) -> serde_json::Value {
    let path = node.devinfo().join("intel.com-sriov-0000:01:10.0-device.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn rdma_devices_get_their_nodes_where_the_pool_asks() {
    let tree = SysfsTree::igb(1);
    add_rdma(&tree, "0000:01:10.0", 3);
    let node = one_pool(tree, r#""isRdma":true"#, "");
    let (nodes, info) = given(&node);
    assert_eq!(nodes, ["/dev/infiniband/rdma_cm", "/dev/infiniband/uverbs3"]);
    let expected = serde_json::json!({"rdma_cm": "/dev/infiniband/rdma_cm", "rdma_dev": "mlx5_3",
        "uverbs": "/dev/infiniband/uverbs3"});
    assert_eq!(info["rdma"], expected);
    assert_eq!(described(&node)["pci"]["rdma-device"], "mlx5_3");
    node.configure(r#"{"resourceList":[{"resourceName":"sriov"}]}"#);
    let (nodes, info) = given(&node);
    assert!(nodes.is_empty() && info.get("rdma").is_none());
}

#[test]
fn vhost_net_comes_with_tun_or_not_at_all() {
    let node = one_pool(SysfsTree::igb(1), r#""needVhostNet":true"#, "");
    let status = allocate(&node, 0, &["0000:01:10.0"]).unwrap_err();
    assert!(status.message().contains("dev/vhost-net is missing"), "{status}");
    fs::write(node.tree.dev().join("vhost-net"), "").unwrap();
    fs::create_dir(node.tree.dev().join("net")).unwrap();
    fs::write(node.tree.dev().join("net/tun"), "").unwrap();
    let (nodes, info) = given(&node);
    assert_eq!(nodes, ["/dev/vhost-net", "/dev/net/tun"]);
    assert_eq!(
        info["vhost"],
        serde_json::json!({"net-mount": "/dev/vhost-net", "tun-mount": "/dev/net/tun"})
    );
    assert_eq!(described(&node)["pci"]["vhost-net"], "/dev/vhost-net");
}

#[test]
fn a_vdpa_device_is_described_as_one() {
    let tree = SysfsTree::igb(1);
    add_vdpa(&tree, "0000:01:10.0", 2);
    let node = one_pool(tree, r#""vdpaType":"vhost""#, "");
    let (nodes, info) = given(&node);
    assert_eq!(nodes, ["/dev/vhost-vdpa-2"]);
    assert_eq!(info["vdpa"], serde_json::json!({"mount": "/dev/vhost-vdpa-2"}));
    let expected = serde_json::json!({"type": "vdpa", "version": "1.1.0", "vdpa": {
        "parent-device": "vdpa2", "driver": "vhost", "path": "/dev/vhost-vdpa-2",
        "pci-address": "0000:01:10.0", "pf-pci-address": "0000:01:00.0"}});
    assert_eq!(described(&node), expected);
}

#[test]
fn a_device_on_vfio_may_be_handed_over_by_its_own_node() {
    let tree = || {
        let tree = SysfsTree::igb(1);
        tree.bind_vfio("0000:01:10.0");
        fs::create_dir_all(tree.device("0000:01:10.0").join("vfio-dev/vfio4")).unwrap();
        fs::create_dir(tree.dev().join("vfio/devices")).unwrap();
        fs::write(tree.dev().join("vfio/devices/vfio4"), "").unwrap();
        fs::write(tree.dev().join("iommu"), "").unwrap();
        tree
    };
    let (group, cdev) = (["/dev/vfio/vfio", "/dev/vfio/10"], ["/dev/vfio/devices/vfio4", "/dev/iommu"]);
    for (mode, expected) in
        [("group", group.to_vec()), ("cdev", cdev.to_vec()), ("both", [group, cdev].concat())]
    {
        let node = one_pool(tree(), "", &format!(r#","vfioMode":"{mode}""#));
        let (nodes, info) = given(&node);
        assert_eq!(nodes, expected);
        assert_eq!(info["vfio"].get("dev-mount").is_some(), mode != "cdev");
        assert_eq!(info["vfio"].get("iommufd-mount").is_some(), mode != "group");
    }
    let node = one_pool(tree(), "", r#","vfioMode":"cdev""#);
    fs::remove_dir_all(node.tree.device("0000:01:10.0").join("vfio-dev")).unwrap();
    let status = allocate(&node, 0, &["0000:01:10.0"]).unwrap_err();
    assert!(status.message().contains("vfio-dev"), "{status}");
}

#[test]
fn what_is_unhealthy_for_a_reason_that_sysfs_does_not_show_is_refused() {
    let node = Fixture::new();
    let mut listing = node.listings()[KERNEL].clone();
    let mut members = listing.members.to_vec();
    members[0].problem = Some(crate::health::Reason::Provisioning("0000:01:00.0".parse().unwrap()));
    listing.members = std::sync::Arc::new(members);
    let status = allocate_from(&node, &listing, &["0000:01:10.0"]).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("PF 0000:01:00.0 is being provisioned"), "{status}");
    allocate_from(&node, &listing, &["0000:01:10.2"]).unwrap();
}
