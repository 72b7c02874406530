//! A pod's volumes on the node: made before its containers, removed after them.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, Pod, Volume};
use nix::mount::{MsFlags, mount, umount};

use super::sandbox_config::PodId;
use crate::files::absent_is_fine;

/// Makes the pod's volumes; may be repeated. Returns the host folder or file of each. An error is kubelet's text.
pub(super) fn set_up(pod: &Pod, root: &Path) -> Result<BTreeMap<String, PathBuf>, String> {
    let folder = pod_folder(root, &PodId::of(pod).uid);
    let mut volumes = BTreeMap::new();
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let path = set_up_one(volume, &folder)
            .map_err(|why| format!("MountVolume.SetUp failed for volume \"{}\" : {why}", volume.name))?;
        volumes.insert(volume.name.clone(), path);
    }
    Ok(volumes)
}

fn set_up_one(volume: &Volume, folder: &Path) -> Result<PathBuf, String> {
    if let Some(host) = &volume.host_path {
        check_host_path(host)?;
        return Ok(host.path.clone().into());
    }
    let empty = volume.empty_dir.as_ref().ok_or("this kind of volume is not done by the stand-in kubelet")?;
    let path = folder.join("volumes/kubernetes.io~empty-dir").join(&volume.name);
    empty_dir(empty, &path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

fn empty_dir(empty: &EmptyDirVolumeSource, path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    if let Some(medium) = empty.medium.as_deref().filter(|m| m.starts_with("HugePages"))
        && !is_mount_point(path)?
    {
        // "HugePages" alone is the node's default size.
        let size =
            medium.strip_prefix("HugePages-").map(|size| format!("pagesize={}", size.trim_end_matches('i')));
        mount(Some("nodev"), path, Some("hugetlbfs"), MsFlags::empty(), size.as_deref())?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))
}

/// `type` of a hostPath volume: what must be there, or is made.
fn check_host_path(host: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&host.path);
    let kind = host.type_.as_deref().unwrap_or_default();
    let made = match kind {
        "DirectoryOrCreate" => fs::create_dir_all(path),
        "FileOrCreate" if !path.exists() => fs::write(path, ""),
        _ => Ok(()),
    };
    made.map_err(|error| format!("{}: {error}", host.path))?;
    let found = fs::metadata(path).map(|m| m.file_type());
    let is = |test: fn(&fs::FileType) -> bool| found.as_ref().is_ok_and(test);
    let (fits, what) = match kind {
        "" => (true, ""),
        "Directory" | "DirectoryOrCreate" => (is(fs::FileType::is_dir), "a directory"),
        "File" | "FileOrCreate" => (is(fs::FileType::is_file), "a file"),
        "Socket" => (is(FileTypeExt::is_socket), "a socket file"),
        "CharDevice" => (is(FileTypeExt::is_char_device), "a character device"),
        "BlockDevice" => (is(FileTypeExt::is_block_device), "a block device"),
        other => return Err(format!("{other} is an invalid volume type")),
    };
    if fits { Ok(()) } else { Err(format!("hostPath type check failed: {} is not {what}", host.path)) }
}

/// Unmounts and removes everything of a pod. Nothing is removed while something is still mounted.
pub(super) fn tear_down(root: &Path, uid: &str) -> io::Result<()> {
    let folder = pod_folder(root, uid);
    let volumes = folder.join("volumes/kubernetes.io~empty-dir");
    match fs::read_dir(&volumes) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
        Ok(entries) => {
            for entry in entries {
                let path = entry?.path();
                if is_mount_point(&path)? {
                    umount(&path)?;
                }
            }
        }
    }
    absent_is_fine(fs::remove_dir_all(&folder))
}

/// Writes the pod's /etc/hosts.
pub(super) fn hosts_file(pod: &Pod, root: &Path, ip: &str) -> io::Result<PathBuf> {
    let id = PodId::of(pod);
    let hostname = pod.spec.as_ref().and_then(|s| s.hostname.clone()).unwrap_or(id.name);
    let path = pod_folder(root, &id.uid).join("etc-hosts");
    fs::create_dir_all(pod_folder(root, &id.uid))?;
    let text = format!(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{ip}\t{hostname}\n"
    );
    fs::write(&path, text)?;
    Ok(path)
}

fn pod_folder(root: &Path, uid: &str) -> PathBuf {
    root.join("pods").join(uid)
}

/// A folder on another file system than its parent.
fn is_mount_point(path: &Path) -> io::Result<bool> {
    let parent = path.parent().unwrap_or(path);
    Ok(fs::symlink_metadata(path)?.dev() != fs::symlink_metadata(parent)?.dev())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(volume: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "p", "uid": "u" }, "spec": { "containers": [], "volumes": [volume] },
        }))
        .unwrap()
    }

    #[test]
    fn empty_folders_come_and_go() {
        let root = tempfile::tempdir().unwrap();
        let pod = pod(&json!({ "name": "v", "emptyDir": {} }));
        let volumes = set_up(&pod, root.path()).unwrap();
        let path = root.path().join("pods/u/volumes/kubernetes.io~empty-dir/v");
        assert_eq!(volumes["v"], path);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o777);
        fs::write(path.join("kept"), "").unwrap();
        set_up(&pod, root.path()).unwrap();
        assert!(path.join("kept").exists(), "a second time changes nothing");
        let hosts = hosts_file(&pod, root.path(), "10.0.0.5").unwrap();
        assert!(fs::read_to_string(hosts).unwrap().ends_with("10.0.0.5\tp\n"));
        tear_down(root.path(), "u").unwrap();
        assert!(!root.path().join("pods/u").exists());
        tear_down(root.path(), "u").unwrap();
    }

    #[test]
    fn host_paths_are_checked() {
        let root = tempfile::tempdir().unwrap();
        let volume = |name: &str, kind: &str| {
            pod(&json!({ "name": "v", "hostPath": { "path": root.path().join(name), "type": kind } }))
        };
        let error = set_up(&volume("none", "Directory"), root.path()).unwrap_err();
        assert!(error.contains("is not a directory"), "{error}");
        set_up(&volume("made", "DirectoryOrCreate"), root.path()).unwrap();
        set_up(&volume("made", "Directory"), root.path()).unwrap();
        set_up(&volume("none", ""), root.path()).unwrap();
        assert!(set_up(&volume("made", "Disk"), root.path()).is_err());
    }
}
