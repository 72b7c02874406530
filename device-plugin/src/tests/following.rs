//! The configuration, and what pods have, while the plugin runs.

use std::fs;
use std::os::unix::fs::symlink;

use fairlead_kubelet_api::device_plugin as api;

use super::fixture::{DPDK_SOCKET, Fixture, KERNEL_SOCKET, Plugin, TWO_POOLS};
use super::kubelet::{FakeKubelet, FakePods, eventually};
use crate::{ConfigSource, Options};

const ONE_POOL: &str = r#"{"resourceList":[{"resourceName":"sriov","selectors":{"drivers":["igbvf"]}}]}"#;

#[tokio::test]
async fn a_changed_configuration_is_taken_over_and_a_bad_one_is_not() {
    let node = Fixture::of(super::fixture::tree(), ONE_POOL);
    let mut kubelet = FakeKubelet::start(&node.sockets());
    let plugin = node.start_plugin();
    kubelet.registered(1).await;
    let mut kernel = kubelet.watch(KERNEL_SOCKET).await;
    assert_eq!(kernel.next_ids().await.len(), 2);
    node.configure("{torn");
    plugin.reload.notify_one();
    node.configure(TWO_POOLS);
    assert_eq!(kubelet.registered(1).await[0].resource_name, "intel.com/sriov_dpdk");
    assert_eq!(kubelet.watch(DPDK_SOCKET).await.next_ids().await.len(), 2);

    // A pool that changes keeps its stream.
    node.configure(&TWO_POOLS.replace("igbvf", "igbvf\"],\"pciAddresses\":[\"0000:01:10.2"));
    assert_eq!(kernel.next_ids().await, ["0000:01:10.2"]);
    plugin.stop().await;
}

#[tokio::test]
async fn a_removed_pool_is_empty_before_it_ends() {
    let node = Fixture::new();
    let mut kubelet = FakeKubelet::start(&node.sockets());
    let plugin = node.start_plugin();
    kubelet.registered(2).await;
    let mut dpdk = kubelet.watch(DPDK_SOCKET).await;
    assert_eq!(dpdk.next_ids().await.len(), 2);
    node.configure(ONE_POOL);
    assert!(dpdk.next_ids().await.is_empty());
    assert!(dpdk.next().await.is_none());
    eventually(|| !node.sockets().join(DPDK_SOCKET).exists()).await;
    node.configure(TWO_POOLS);
    kubelet.registered(1).await;
    plugin.stop().await;
}

#[tokio::test]
async fn a_config_map_is_followed_through_its_links() {
    let node = Fixture::new();
    let volume = node.kubelet_root().join("volume");
    for (name, text) in [("..1", ONE_POOL), ("..2", TWO_POOLS)] {
        fs::create_dir_all(volume.join(name)).unwrap();
        fs::write(volume.join(name).join("config.json"), text).unwrap();
    }
    symlink("..1", volume.join("..data")).unwrap();
    symlink("..data/config.json", volume.join("config.json")).unwrap();
    let config = ConfigSource { path: volume.join("config.json"), ..node.options().config };
    let mut kubelet = FakeKubelet::start(&node.sockets());
    let plugin = Plugin::start(Options { config, ..node.options() });
    kubelet.registered(1).await;
    symlink("..2", volume.join("..data_tmp")).unwrap();
    let start = std::time::Instant::now();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    kubelet.registered(1).await;
    assert!(start.elapsed() < std::time::Duration::from_secs(3), "it was polled: {:?}", start.elapsed());
    plugin.stop().await;
}

#[tokio::test]
async fn a_configuration_that_is_written_in_place_is_taken_over_at_once() {
    let node = Fixture::of(super::fixture::tree(), ONE_POOL);
    let mut kubelet = FakeKubelet::start(&node.sockets());
    let plugin = node.start_plugin();
    kubelet.registered(1).await;
    let start = std::time::Instant::now();
    node.configure(TWO_POOLS);
    kubelet.registered(1).await;
    assert!(start.elapsed() < std::time::Duration::from_secs(3), "it was polled: {:?}", start.elapsed());
    plugin.stop().await;
}

/// Before anything of the PF changes, so that no device of it is given out in between.
#[tokio::test]
async fn provisioning_is_noticed_by_its_lock_alone() {
    let node = Fixture::new();
    fs::create_dir_all(node.run_dir()).unwrap();
    let mut kubelet = FakeKubelet::start(&node.sockets());
    let rescan_interval = std::time::Duration::from_secs(3600);
    let plugin = Plugin::start(Options { rescan_interval, ..node.options() });
    kubelet.registered(2).await;
    let mut kernel = kubelet.watch(KERNEL_SOCKET).await;
    let health =
        |devices: Vec<api::Device>| devices.into_iter().map(|device| device.health).collect::<Vec<_>>();
    assert_eq!(health(kernel.next().await.unwrap()), ["Healthy", "Healthy"]);
    let lock = node.run_dir().join("0000:01:00.0.lock");
    fs::write(&lock, "").unwrap();
    assert_eq!(health(kernel.next().await.unwrap()), ["Unhealthy", "Unhealthy"]);
    fs::remove_file(&lock).unwrap();
    assert_eq!(health(kernel.next().await.unwrap()), ["Healthy", "Healthy"]);
    plugin.stop().await;
}

#[tokio::test]
async fn what_a_pod_has_stays_listed_whatever_becomes_of_it() {
    let node = Fixture::new();
    let mut kubelet = FakeKubelet::start(&node.sockets());
    let pods = FakePods::start(&node.kubelet_root());
    pods.give("intel.com/sriov", &["0000:01:10.0", "0000:01:10.2"]);
    let plugin = node.start_plugin();
    kubelet.registered(2).await;
    let mut kernel = kubelet.watch(KERNEL_SOCKET).await;
    assert_eq!(kernel.next_ids().await.len(), 2);
    // Kubelet is asked at the start, but perhaps not yet.
    pods.asked().await;

    node.tree.remove("0000:01:10.0");
    let health = |devices: &[api::Device]| -> Vec<(String, String)> {
        devices.iter().map(|device| (device.id.clone(), device.health.clone())).collect()
    };
    let pair = |id: &str, health: &str| (id.to_owned(), health.to_owned());
    let listed = kernel.next().await.unwrap();
    assert_eq!(health(&listed), [pair("0000:01:10.0", "Unhealthy"), pair("0000:01:10.2", "Healthy")]);
    // Another pool would have it now, and does not get it.
    node.tree.bind_vfio("0000:01:10.2");
    let listed = kernel.next().await.unwrap();
    assert_eq!(health(&listed), [pair("0000:01:10.0", "Unhealthy"), pair("0000:01:10.2", "Unhealthy")]);
    let mut dpdk = kubelet.watch(DPDK_SOCKET).await;
    assert_eq!(dpdk.next_ids().await, ["0000:01:10.4", "0000:01:10.6"]);
    plugin.stop().await;
}

#[tokio::test]
async fn the_checkpoint_tells_what_pods_have_while_kubelet_is_away() {
    let node = Fixture::new();
    let text = r#"{"Data":{"PodDeviceEntries":[{"PodUID":"u","ContainerName":"c","ResourceName":"intel.com/sriov",
        "DeviceIDs":{"0":["0000:01:10.6"]},"AllocResp":""}],"RegisteredDevices":{}},"Checksum":1}"#;
    let mut kubelet = FakeKubelet::start(&node.sockets());
    fs::write(node.sockets().join("kubelet_internal_checkpoint"), text).unwrap();
    let plugin = node.start_plugin();
    kubelet.registered(2).await;
    // It was given out when it was on igbvf; it is not what its pool asks for now, and the other must not have it.
    let listed = kubelet.watch(KERNEL_SOCKET).await.next().await.unwrap();
    let health: Vec<_> = listed.iter().map(|device| (device.id.as_str(), device.health.as_str())).collect();
    let expected = [("0000:01:10.0", "Healthy"), ("0000:01:10.2", "Healthy"), ("0000:01:10.6", "Unhealthy")];
    assert_eq!(health, expected);
    assert_eq!(kubelet.watch(DPDK_SOCKET).await.next_ids().await, ["0000:01:10.4"]);
    plugin.stop().await;
}
