//! Making a pod's sandbox and starting its containers.

use std::{collections::BTreeMap, fs, path::PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{
    Shared,
    container_config::{Surroundings, container_config},
    devices::rpc_text,
    events::Severity,
    sandbox_config::{PodId, sandbox_config},
    volumes,
};

/// Why a container does not run: the reason in its status, and a message.
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Makes volumes, log folders and the sandbox. A failure is recorded as an event.
pub(super) async fn sandbox(shared: &Shared, pod: &Pod, attempt: u32) -> Result<(), String> {
    let host_network = pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
    let network = shared.network_ready.borrow().clone();
    if let Some(problem) = network.filter(|_| !host_network) {
        let text = format!("network is not ready: {problem}");
        shared.recorder.pod(pod, Severity::Warning, "NetworkNotReady", &text).await;
        return Err(text);
    }
    if let Err(text) = set_up_volumes(shared, pod).await {
        shared.recorder.pod(pod, Severity::Warning, "FailedMount", &text).await;
        return Err(text);
    }
    let config = sandbox_config(pod, attempt, &shared.config.log_root);
    if let Err(error) = make_log_folders(pod, &config.log_directory) {
        return Err(format!("{}: {error}", config.log_directory));
    }
    match shared.runtime.run_sandbox(config).await {
        Ok(id) => {
            tracing::info!(target: "kubelet", "{}: sandbox {id} runs", PodId::of(pod).text());
            Ok(())
        }
        Err(status) => {
            let text = format!("Failed to create pod sandbox: {}", rpc_text(&status));
            shared.recorder.pod(pod, Severity::Warning, "FailedCreatePodSandBox", &text).await;
            Err(text)
        }
    }
}

async fn set_up_volumes(shared: &Shared, pod: &Pod) -> Result<BTreeMap<String, PathBuf>, String> {
    let (pod, root) = (pod.clone(), shared.config.root.clone());
    let made = tokio::task::spawn_blocking(move || volumes::set_up(&pod, &root)).await;
    made.unwrap_or_else(|error| Err(error.to_string()))
}

fn make_log_folders(pod: &Pod, folder: &str) -> std::io::Result<()> {
    for container in pod.spec.iter().flat_map(|s| &s.containers) {
        fs::create_dir_all(PathBuf::from(folder).join(&container.name))?;
    }
    Ok(())
}

/// Makes and starts one container in the sandbox.
pub(super) async fn container(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    sandbox: (&str, u32),
    ips: &[String],
    attempt: u32,
) -> Result<(), Failure> {
    let fail = |reason: &'static str| move |message: String| Failure { reason, message };
    let image = container.image.clone().unwrap_or_default();
    let image_id = shared
        .runtime
        .image(&image)
        .await
        .map_err(|status| fail("ImageInspectError")(rpc_text(&status)))?
        .ok_or_else(|| fail("ErrImageNeverPull")(missing_image(&image)))?;
    let present = format!("Container image \"{image}\" already present on machine");
    shared.recorder.pod(pod, Severity::Normal, "Pulled", &present).await;

    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let config_error = fail("CreateContainerConfigError");
    shared.devices.pre_start(uid, &container.name).await.map_err(|status| {
        config_error(format!("device plugin PreStartContainer rpc failed with err: {}", rpc_text(&status)))
    })?;
    let volumes = set_up_volumes(shared, pod).await.map_err(config_error)?;
    let host_network = pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
    let pod_ip =
        if host_network { shared.machine.ip.clone() } else { ips.first().cloned().unwrap_or_default() };
    let hosts_file = match host_network {
        true => None,
        false => Some(
            volumes::hosts_file(pod, &shared.config.root, &pod_ip)
                .map_err(|e| config_error(e.to_string()))?,
        ),
    };
    let around = Surroundings {
        image_id: &image_id,
        attempt,
        edits: &shared.devices.edits(uid, &container.name),
        volumes: &volumes,
        hosts_file,
        pod_ip: &pod_ip,
        host_ip: &shared.machine.ip,
        huge_page_sizes: &shared.machine.huge_page_sizes(),
    };
    let config = container_config(pod, container, &around).map_err(config_error)?;
    let (sandbox_id, sandbox_attempt) = sandbox;
    let sandbox_config = sandbox_config(pod, sandbox_attempt, &shared.config.log_root);
    let id = shared
        .runtime
        .create_container(sandbox_id, config, sandbox_config)
        .await
        .map_err(|status| fail("CreateContainerError")(rpc_text(&status)))?;
    let created = format!("Created container: {}", container.name);
    shared.recorder.pod(pod, Severity::Normal, "Created", &created).await;
    if let Err(status) = shared.runtime.start_container(&id).await {
        return Err(fail("RunContainerError")(rpc_text(&status)));
    }
    let started = format!("Started container {}", container.name);
    shared.recorder.pod(pod, Severity::Normal, "Started", &started).await;
    Ok(())
}

fn missing_image(image: &str) -> String {
    format!(
        "Container image \"{image}\" is not present with pull policy of Never (nothing is ever pulled here: testbed images makes \
         the images that there are)"
    )
}
