//! Does the node take a pod? Kubelet's own checks, after the scheduler's or without them.

use k8s_openapi::api::core::v1::Pod;

use super::{
    Shared,
    amounts::{Amounts, Lack, add, lacking, pod_requests, quantity},
    unsupported::unsupported,
};

/// Why not: the pod's reason and message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) reason: String,
    pub(super) message: String,
}

/// Checks the pod and allocates its devices. One pod at a time.
pub(super) async fn admit(shared: &Shared, pod: &Pod) -> Result<(), Rejection> {
    refuse_unsupported(pod)?;
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let mut admitted = shared.admitted.lock().await;
    let mut used = Amounts::new();
    for (_, requests) in admitted.iter().filter(|(other, _)| **other != uid) {
        add(&mut used, requests);
    }
    let wanted = pod_requests(pod);
    if let Some(lack) = lacking(&allocatable(shared), &used, &wanted).into_iter().next() {
        return Err(out_of(&lack));
    }
    shared.devices.allocate(pod).await.map_err(|why| Rejection {
        reason: "UnexpectedAdmissionError".into(),
        message: format!("Allocate failed due to {why}, which is unexpected"),
    })?;
    admitted.insert(uid, wanted);
    Ok(())
}

fn refuse_unsupported(pod: &Pod) -> Result<(), Rejection> {
    let value = serde_json::to_value(pod).unwrap_or_default();
    let fields = unsupported(&value);
    if fields.is_empty() {
        return Ok(());
    }
    let message = format!("the stand-in kubelet does not do {}", fields.join(", "));
    Err(Rejection { reason: "Unsupported".into(), message })
}

/// What pods may have on this node: machine and healthy devices.
fn allocatable(shared: &Shared) -> Amounts {
    let machine = shared.machine.allocatable().into_iter();
    let mut all: Amounts = machine.filter_map(|(name, text)| Some((name, quantity(&text)?))).collect();
    for (name, count) in shared.devices.counts() {
        all.insert(name, 1000 * i128::try_from(count.allocatable).unwrap_or_default());
    }
    all
}

fn out_of(lack: &Lack) -> Rejection {
    Rejection {
        reason: format!("OutOf{}", lack.resource),
        message: format!(
            "Node didn't have enough resource: {}, requested: {}, used: {}, capacity: {}",
            lack.resource, lack.requested, lack.used, lack.capacity
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let lack = Lack { resource: "intel.com/sriov_dpdk".into(), requested: 1, used: 2, capacity: 2 };
        assert_eq!(
            out_of(&lack),
            Rejection {
                reason: "OutOfintel.com/sriov_dpdk".into(),
                message: "Node didn't have enough resource: intel.com/sriov_dpdk, requested: 1, used: 2, capacity: 2".into(),
            }
        );
    }

    #[test]
    fn what_is_not_done_is_refused() {
        let pod = serde_json::json!({ "spec": { "containers": [], "initContainers": [{ "name": "i" }] } });
        let rejection = refuse_unsupported(&serde_json::from_value(pod).unwrap()).unwrap_err();
        assert_eq!(rejection.message, "the stand-in kubelet does not do spec.initContainers");
    }
}
