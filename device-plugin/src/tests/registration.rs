//! The plugin watcher's way, and kubelets that lose a plugin.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fairlead_kubelet_api::device_plugin as api;
use fairlead_kubelet_api::device_plugin::device_plugin_client::DevicePluginClient;
use fairlead_kubelet_api::plugin_registration as watcher;
use fairlead_kubelet_api::plugin_registration::registration_client::RegistrationClient;
use tonic::transport::Channel;

use super::fixture::{DPDK_SOCKET, Fixture, KERNEL_SOCKET, Plugin};
use super::kubelet::{FakeKubelet, eventually, within};
use crate::{Options, Registration};

fn with_registry() -> Fixture {
    let node = Fixture::new();
    fs::create_dir(node.registry()).unwrap();
    node
}

async fn connect(socket: &Path) -> (RegistrationClient<Channel>, DevicePluginClient<Channel>) {
    eventually(|| socket.exists()).await;
    let uri = format!("unix://{}", socket.display());
    let plugin = DevicePluginClient::connect(uri.clone()).await.unwrap();
    (RegistrationClient::connect(uri).await.unwrap(), plugin)
}

fn status(error: &str) -> watcher::RegistrationStatus {
    watcher::RegistrationStatus { plugin_registered: error.is_empty(), error: error.to_owned() }
}

fn inode(socket: &Path) -> Option<(u64, i64)> {
    fs::metadata(socket).ok().map(|metadata| (metadata.ino(), metadata.mtime_nsec()))
}

#[tokio::test]
async fn the_plugin_watcher_finds_each_pool() {
    let node = with_registry();
    let plugin = node.start_plugin();
    let (mut registration, mut client) = connect(&node.registry().join(KERNEL_SOCKET)).await;
    let info = registration.get_info(watcher::InfoRequest {}).await.unwrap().into_inner();
    let expected = watcher::PluginInfo {
        r#type: "DevicePlugin".to_owned(),
        name: "intel.com/sriov".to_owned(),
        endpoint: String::new(),
        supported_versions: vec!["v1beta1".to_owned()],
    };
    assert_eq!(info, expected);
    let options = client.get_device_plugin_options(api::Empty {}).await.unwrap().into_inner();
    assert!(options.pre_start_required && options.get_preferred_allocation_available);
    registration.notify_registration_status(status("")).await.unwrap();
    let mut lists = client.list_and_watch(api::Empty {}).await.unwrap().into_inner();
    assert_eq!(within(lists.message()).await.unwrap().unwrap().devices.len(), 2);
    plugin.stop().await;
    assert!(within(lists.message()).await.unwrap().is_none());
    assert_eq!(fs::read_dir(node.registry()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_kubelet_whose_watcher_has_the_plugin_is_not_told_twice() {
    let node = with_registry();
    let mut kubelet = FakeKubelet::start(&node.sockets());
    let plugin = node.start_plugin();
    let mut lists = Vec::new();
    for socket in [KERNEL_SOCKET, DPDK_SOCKET] {
        let (mut registration, mut client) = connect(&node.registry().join(socket)).await;
        registration.notify_registration_status(status("")).await.unwrap();
        lists.push(client.list_and_watch(api::Empty {}).await.unwrap());
    }
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(kubelet.registrations.try_recv().is_err());
    plugin.stop().await;
}

#[tokio::test]
async fn a_kubelet_that_does_not_look_there_is_told() {
    let node = with_registry();
    let mut kubelet = FakeKubelet::start(&node.sockets());
    let plugin = node.start_plugin();
    kubelet.registered(2).await;
    plugin.stop().await;
}

#[tokio::test]
async fn a_refused_plugin_comes_again() {
    let node = with_registry();
    let plugin = node.start_plugin();
    let socket = node.registry().join(KERNEL_SOCKET);
    for _ in 0..2 {
        let (mut registration, _client) = connect(&socket).await;
        let before = inode(&socket);
        registration.notify_registration_status(status("no room")).await.unwrap();
        eventually(|| inode(&socket).is_some() && inode(&socket) != before).await;
    }
    plugin.stop().await;
}

#[tokio::test]
async fn a_socket_that_somebody_removes_comes_again() {
    let node = with_registry();
    let plugin = node.start_plugin();
    let socket = node.registry().join(DPDK_SOCKET);
    eventually(|| socket.exists()).await;
    fs::remove_file(&socket).unwrap();
    eventually(|| socket.exists()).await;
    // The whole folder too.
    fs::remove_dir_all(node.registry()).unwrap();
    fs::create_dir(node.registry()).unwrap();
    eventually(|| socket.exists()).await;
    plugin.stop().await;
}

#[tokio::test]
async fn the_watcher_alone_makes_no_other_socket() {
    let node = with_registry();
    let plugin = Plugin::start(Options { registration: Registration::Watcher, ..node.options() });
    eventually(|| node.registry().join(KERNEL_SOCKET).exists()).await;
    assert_eq!(fs::read_dir(node.sockets()).unwrap().count(), 0);
    plugin.stop().await;
    let plugin = Plugin::start(Options { registration: Registration::Classic, ..node.options() });
    eventually(|| node.sockets().join(KERNEL_SOCKET).exists()).await;
    assert_eq!(fs::read_dir(node.registry()).unwrap().count(), 0);
    plugin.stop().await;
}

/// kubelets 1.25 to 1.33 drop the newer plugin's connection when the older one of an upgrade ends.
#[tokio::test]
async fn a_kubelet_that_drops_a_list_is_told_again() {
    let node = Fixture::new();
    let mut kubelet = FakeKubelet::start(&node.sockets());
    let plugin = node.start_plugin();
    kubelet.registered(2).await;
    let lists = kubelet.watch(KERNEL_SOCKET).await;
    let _others = kubelet.watch(DPDK_SOCKET).await;
    drop(lists);
    assert_eq!(kubelet.registered(1).await[0].endpoint, KERNEL_SOCKET);
    plugin.stop().await;
}

#[tokio::test]
async fn one_pool_without_a_socket_does_not_stop_the_other() {
    let node = Fixture::new();
    let mut kubelet = FakeKubelet::start(&node.sockets());
    // A folder in the socket's place cannot be replaced.
    fs::create_dir(node.sockets().join(KERNEL_SOCKET)).unwrap();
    let plugin = node.start_plugin();
    assert_eq!(kubelet.registered(1).await[0].endpoint, DPDK_SOCKET);
    fs::remove_dir(node.sockets().join(KERNEL_SOCKET)).unwrap();
    assert_eq!(kubelet.registered(1).await[0].endpoint, KERNEL_SOCKET);
    plugin.stop().await;
}
