//! Registration, lists and shutdown, over real sockets.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use fairlead_kubelet_api::device_plugin as api;
use tonic::Code;

use super::fixture::{DPDK_SOCKET, Fixture, KERNEL_SOCKET};
use super::kubelet::{FakeKubelet, within};

#[tokio::test]
async fn each_pool_registers_and_lists_its_devices() {
    let node = Fixture::new();
    let mut kubelet = FakeKubelet::start(&node.sockets());
    let plugin = node.start_plugin();
    let registered = kubelet.registered(2).await;
    let names: Vec<_> = registered.iter().map(|r| (r.resource_name.as_str(), r.endpoint.as_str())).collect();
    assert_eq!(names, [("intel.com/sriov", KERNEL_SOCKET), ("intel.com/sriov_dpdk", DPDK_SOCKET)]);
    assert!(registered.iter().all(|r| r.version == "v1beta1"));

    let listed = kubelet.watch(KERNEL_SOCKET).await.next().await.unwrap();
    let topology = Some(api::TopologyInfo { nodes: vec![api::NumaNode { id: 0 }] });
    let device = |id: &str, topology: &Option<api::TopologyInfo>| api::Device {
        id: id.to_owned(),
        health: "Healthy".to_owned(),
        topology: topology.clone(),
    };
    assert_eq!(listed, [device("0000:01:10.0", &topology), device("0000:01:10.2", &topology)]);
    let listed = kubelet.watch(DPDK_SOCKET).await.next().await.unwrap();
    assert_eq!(listed, [device("0000:01:10.4", &None), device("0000:01:10.6", &None)]);
    plugin.stop().await;
}

#[tokio::test]
async fn lists_follow_the_node() {
    let node = Fixture::new();
    let mut kubelet = FakeKubelet::start(&node.sockets());
    let plugin = node.start_plugin();
    kubelet.registered(2).await;
    let mut kernel = kubelet.watch(KERNEL_SOCKET).await;
    let mut dpdk = kubelet.watch(DPDK_SOCKET).await;
    assert_eq!(kernel.next_ids().await, ["0000:01:10.0", "0000:01:10.2"]);
    assert_eq!(dpdk.next_ids().await, ["0000:01:10.4", "0000:01:10.6"]);

    // One moves into a pod, which is no change; another is created.
    node.tree.remove_netdev("0000:01:10.0", "ens1f0v0");
    node.tree.igb_vf(4);
    // The scan may fall between the steps in which a made-up VF appears.
    while kernel.next_ids().await != ["0000:01:10.0", "0000:01:10.2", "0000:01:11.0"] {}

    node.tree.bind_vfio("0000:01:11.0");
    while kernel.next_ids().await != ["0000:01:10.0", "0000:01:10.2"] {}
    while dpdk.next_ids().await != ["0000:01:10.4", "0000:01:10.6", "0000:01:11.0"] {}

    for vf in ["0000:01:10.4", "0000:01:10.6", "0000:01:11.0"] {
        node.tree.remove(vf);
    }
    // An emptied pool is an empty list, and the stream goes on.
    while !dpdk.next_ids().await.is_empty() {}
    plugin.stop().await;
    assert!(dpdk.next().await.is_none());
}

#[tokio::test]
async fn a_restarted_kubelet_gets_everything_again() {
    let node = Fixture::new();
    let mut kubelet = FakeKubelet::start(&node.sockets());
    let plugin = node.start_plugin();
    kubelet.registered(2).await;
    for _ in 0..3 {
        kubelet.kill();
        kubelet = FakeKubelet::start(&node.sockets());
        kubelet.registered(2).await;
        assert_eq!(kubelet.watch(KERNEL_SOCKET).await.next_ids().await.len(), 2);
        assert_eq!(kubelet.watch(DPDK_SOCKET).await.next_ids().await.len(), 2);
    }
    plugin.stop().await;
}

#[tokio::test]
async fn a_deleted_socket_is_made_again() {
    let node = Fixture::new();
    let mut kubelet = FakeKubelet::start(&node.sockets());
    let plugin = node.start_plugin();
    kubelet.registered(2).await;
    let mut old = kubelet.watch(KERNEL_SOCKET).await;
    assert_eq!(old.next_ids().await.len(), 2);
    fs::remove_file(node.sockets().join(KERNEL_SOCKET)).unwrap();
    assert_eq!(kubelet.registered(1).await[0].resource_name, "intel.com/sriov");
    assert_eq!(kubelet.watch(KERNEL_SOCKET).await.next_ids().await.len(), 2);
    assert!(old.next().await.is_none());
    plugin.stop().await;
}

#[tokio::test]
async fn a_kubelet_that_comes_late_or_refuses_is_waited_for() {
    let node = Fixture::new();
    fs::remove_dir_all(node.sockets()).unwrap();
    let plugin = node.start_plugin();
    tokio::task::yield_now().await;
    fs::create_dir_all(node.sockets()).unwrap();
    let mut kubelet = FakeKubelet::start_refusing(&node.sockets(), 3);
    kubelet.registered(2).await;
    plugin.stop().await;
}

#[tokio::test]
async fn allocation_answers_or_says_why_not() {
    let node = Fixture::new();
    let mut kubelet = FakeKubelet::start(&node.sockets());
    let plugin = node.start_plugin();
    kubelet.registered(2).await;
    let mut client = kubelet.dial(DPDK_SOCKET).await;
    let request = |id: &str| api::AllocateRequest {
        container_requests: vec![api::ContainerAllocateRequest { devices_ids: vec![id.to_owned()] }],
    };
    let answer = client.allocate(request("0000:01:10.4")).await.unwrap().into_inner();
    assert_eq!(answer.container_responses.len(), 1);
    assert_eq!(answer.container_responses[0].envs["PCIDEVICE_INTEL_COM_SRIOV_DPDK"], "0000:01:10.4");

    let status = client.allocate(request("0000:01:10.0")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), r#"device "0000:01:10.0" is not in pool intel.com/sriov_dpdk"#);

    fs::remove_file(node.tree.dev().join("vfio/13")).unwrap();
    let status = client.allocate(request("0000:01:10.6")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("device 0000:01:10.6") && status.message().contains("dev/vfio/13"));
    plugin.stop().await;
}

#[tokio::test]
async fn stopping_ends_streams_and_removes_own_sockets_only() {
    let node = Fixture::new();
    let mut kubelet = FakeKubelet::start(&node.sockets());
    let plugin = node.start_plugin();
    kubelet.registered(2).await;
    let mut lists = kubelet.watch(KERNEL_SOCKET).await;
    lists.next().await;
    // A kubelet that watches a pool is not told of it again, however slow this machine is.
    let _other = kubelet.watch(DPDK_SOCKET).await;
    // A newer plugin has taken over one of the sockets, as during an upgrade.
    let newer = node.start_plugin();
    kubelet.registered(2).await;
    // Neither a change in the folder nor a new kubelet makes the older one take them back.
    let inode = || fs::metadata(node.sockets().join(KERNEL_SOCKET)).unwrap().ino();
    let newers = inode();
    kubelet.kill();
    fs::remove_file(node.sockets().join("kubelet.sock")).unwrap();
    let mut kubelet = FakeKubelet::join(&node.sockets());
    kubelet.registered(2).await;
    let _watched = [kubelet.watch(KERNEL_SOCKET).await, kubelet.watch(DPDK_SOCKET).await];
    plugin.stop().await;
    assert!(lists.next().await.is_none());
    assert_eq!(inode(), newers);
    assert!(kubelet.registrations.is_empty());
    let sockets = || {
        let mut names: Vec<String> = fs::read_dir(node.sockets())
            .unwrap()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().unwrap().is_socket())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(sockets(), [KERNEL_SOCKET, DPDK_SOCKET, "kubelet.sock"]);
    newer.stop().await;
    assert_eq!(sockets(), ["kubelet.sock"]);
    assert_eq!(fs::read_dir(node.devinfo()).unwrap().count(), 4);
}

#[tokio::test]
async fn a_socket_that_serves_nobody_is_replaced() {
    let node = Fixture::new();
    let mut kubelet = FakeKubelet::start(&node.sockets());
    let plugin = node.start_plugin();
    kubelet.registered(2).await;
    // What a plugin leaves behind that was killed.
    let socket = node.sockets().join(KERNEL_SOCKET);
    fs::remove_file(&socket).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    kubelet.registered(1).await;
    assert_eq!(kubelet.watch(KERNEL_SOCKET).await.next_ids().await.len(), 2);
    plugin.stop().await;
}

#[tokio::test]
async fn a_stopped_plugin_needs_no_kubelet_to_end() {
    let node = Fixture::new();
    let plugin = node.start_plugin();
    within(plugin.stop()).await;
    assert_eq!(fs::read_dir(node.sockets()).unwrap().count(), 0);
}
