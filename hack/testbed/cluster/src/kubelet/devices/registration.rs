//! The socket on which device plugins register.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use fairlead_kubelet_api::device_plugin::{
    Empty, RegisterRequest, VERSION,
    registration_server::{Registration, RegistrationServer},
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use super::DeviceManager;
use crate::{
    files::absent_is_fine,
    kubelet::{Stop, stopped},
};

/// Removes the sockets that are in the folder, as kubelet does when it starts: plugins see it and register again. A plugin may
/// be at the same.
pub(super) fn remove_sockets(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type().is_ok_and(|kind| kind.is_socket()) {
            absent_is_fine(fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

/// Listens on a socket for root only, in place of whatever was there.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    absent_is_fine(fs::remove_file(path))?;
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves registrations until `stop`'s sender is gone.
pub(super) fn serve(manager: Arc<DeviceManager>, listener: UnixListener, stop: Stop) {
    let service = RegistrationServer::new(Register(manager));
    let server = Server::builder().add_service(service);
    tokio::spawn(async move {
        let incoming = UnixListenerStream::new(listener);
        if let Err(error) = server.serve_with_incoming_shutdown(incoming, stopped(stop)).await {
            tracing::error!(target: "devices", "registration socket: {error}");
        }
    });
}

struct Register(Arc<DeviceManager>);

#[tonic::async_trait]
impl Registration for Register {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Status::unknown)?;
        tracing::info!(target: "devices", "{} registers on {}", request.resource_name, request.endpoint);
        // Only after the plugin has answered: whoever registers must serve already.
        self.0.connect(&request.resource_name, &self.0.folder().join(&request.endpoint)).await?;
        Ok(Response::new(Empty {}))
    }
}

/// Kubelet's checks of a registration.
fn check(request: &RegisterRequest) -> Result<(), String> {
    if request.version != VERSION {
        return Err(format!(
            "requested API version \"{}\" is not supported by kubelet. Supported version is \"{VERSION}\"",
            request.version
        ));
    }
    if !is_extended_resource(&request.resource_name) {
        return Err(format!("the ResourceName \"{}\" is invalid", request.resource_name));
    }
    if request.endpoint.is_empty() || request.endpoint.contains('/') {
        return Err(format!("the endpoint \"{}\" must be a file name", request.endpoint));
    }
    Ok(())
}

/// `domain/name`, outside Kubernetes' own domain.
pub(super) fn is_extended_resource(name: &str) -> bool {
    let Some((domain, rest)) = name.split_once('/') else { return false };
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let ends = |text: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        edge(text.chars().next()) && edge(text.chars().last())
    };
    let domain_fits = domain.chars().all(|c| known(c) && c != '_' && !c.is_ascii_uppercase()) && ends(domain);
    let name_fits = rest.len() <= 63 && rest.chars().all(known) && ends(rest);
    let own =
        domain == "kubernetes.io" || domain.ends_with(".kubernetes.io") || domain.starts_with("requests.");
    domain_fits && name_fits && !own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_names() {
        for good in ["intel.com/sriov_dpdk", "a/b", "openshift.io/x-1.y"] {
            assert!(is_extended_resource(good), "{good}");
        }
        for bad in [
            "cpu",
            "/x",
            "a/",
            "a/b/c",
            "kubernetes.io/x",
            "x.kubernetes.io/y",
            "requests.a/b",
            "A_/x",
            "a/-x",
        ] {
            assert!(!is_extended_resource(bad), "{bad}");
        }
    }

    #[test]
    fn registrations() {
        let request = |version: &str, resource: &str, endpoint: &str| RegisterRequest {
            version: version.into(),
            resource_name: resource.into(),
            endpoint: endpoint.into(),
            options: None,
        };
        assert_eq!(check(&request(VERSION, "a/b", "s.sock")), Ok(()));
        assert!(check(&request("v1", "a/b", "s.sock")).unwrap_err().contains("v1beta1"));
        assert!(check(&request(VERSION, "cpu", "s.sock")).is_err());
        assert!(check(&request(VERSION, "a/b", "/abs/s.sock")).is_err());
    }
}
