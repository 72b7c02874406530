//! Metrics and probes.

use std::net::SocketAddr;

use fairlead_kubelet_api::device_plugin as api;
use fairlead_resource_config::test_support;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::fixture::{DPDK_SOCKET, Fixture, KERNEL_SOCKET, Plugin};
use super::kubelet::{FakeKubelet, within};
use crate::Options;

/// The status line and the body of an answer.
async fn get(address: SocketAddr, path: &str) -> (String, String) {
    let connected = within(async {
        loop {
            if let Ok(stream) = TcpStream::connect(address).await {
                return stream;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    let mut stream = connected.await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// An address that nobody else has now.
async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn the_state_is_told() {
    let node = Fixture::new();
    let address = free_address().await;
    let plugin = Plugin::start(Options { http: Some(address), ..node.options() });
    assert_eq!(get(address, "/healthz").await, ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
    let (status, body) = get(address, "/readyz").await;
    assert!(status.contains("503") && body.contains("intel.com/sriov"), "{status} {body}");

    let mut kubelet = FakeKubelet::start(&node.sockets());
    kubelet.registered(2).await;
    let _lists = (kubelet.watch(KERNEL_SOCKET).await, kubelet.watch(DPDK_SOCKET).await);
    assert_eq!(get(address, "/readyz").await.1, "ok\n");
    let mut client = kubelet.dial(KERNEL_SOCKET).await;
    let request = |id: &str| api::AllocateRequest {
        container_requests: vec![api::ContainerAllocateRequest { devices_ids: vec![id.to_owned()] }],
    };
    client.allocate(request("0000:01:10.0")).await.unwrap();
    client.allocate(request("eth0")).await.unwrap_err();
    let text = get(address, "/metrics").await.1;
    for line in [
        r#"fairlead_device_plugin_devices{resource="intel.com/sriov",health="Healthy",reason="",in_use="false"} 2"#,
        r#"fairlead_device_plugin_allocations_total{resource="intel.com/sriov",result="ok"} 1"#,
        r#"fairlead_device_plugin_allocations_total{resource="intel.com/sriov",result="refused"} 1"#,
        r#"fairlead_device_plugin_allocation_seconds_count{resource="intel.com/sriov"} 2"#,
        r#"fairlead_device_plugin_registrations_total{resource="intel.com/sriov_dpdk",way="classic",result="ok"} 1"#,
        "fairlead_device_plugin_config_generation 1",
        "fairlead_device_plugin_config_reload_failed 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
    }
    let table = include_str!("../../METRICS.md");
    assert_eq!(test_support::table_differences(table, &text), Vec::<String>::new());
    plugin.stop().await;
}
