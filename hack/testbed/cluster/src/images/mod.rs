//! Container images from what the node has installed, since nothing can be pulled: a pause image, busybox, and testpmd.

mod libraries;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use fairlead_images::{
    archive::{self, Archive, Image},
    layer::Layer,
    release::{self, Origin, SHIPPED},
};

use crate::cri::Runtime;

const PREFIX: &str = "localhost/fairlead";
/// Where the node has the workspace's programs.
const PROGRAMS: &str = "/usr/local/bin";
/// Where busybox is on Debian; `busybox-static` puts a static one there.
const BUSYBOX: &str = "/usr/bin/busybox";
const TESTPMD: &str = "/usr/bin/dpdk-testpmd";
/// Put into the testpmd image when the node has it.
const DPDK_CHECK: &str = "/usr/local/bin/fairlead-dpdk-check";
/// PMDs that the emulated node has a use for: igb's VFs, packet sockets, rings, and the buses and memory pools under them.
const DRIVERS: &[&str] = &[
    "librte_bus_pci",
    "librte_bus_vdev",
    "librte_mempool_ring",
    "librte_net_af_packet",
    "librte_net_e1000",
    "librte_net_ring",
];

/// Builds the images and imports those that the runtime does not have already. Prints what it does.
pub async fn import(runtime: &Runtime) -> Result<()> {
    import_archive(runtime, tokio::task::spawn_blocking(build).await??).await
}

/// Builds the images that ship from the programs that the node has, and imports them, tagged as the manifests name them.
pub async fn import_shipped(runtime: &Runtime, tag: &str) -> Result<()> {
    for shipped in &SHIPPED {
        let origin = Origin {
            version: tag.to_owned(),
            revision: "of the test bed".to_owned(),
            created: "1970-01-01T00:00:00Z".to_owned(),
        };
        let name = format!("{PREFIX}/{}:{tag}", shipped.image);
        import_archive(runtime, release::build(shipped, &name, Path::new(PROGRAMS), &origin)?).await?;
    }
    Ok(())
}

async fn import_archive(runtime: &Runtime, archive: Archive) -> Result<()> {
    let present = present()?;
    if archive.digests.iter().all(|(name, digest)| present.get(name) == Some(digest)) {
        println!("images are present");
        return Ok(());
    }
    let file = std::env::temp_dir().join(format!("testbed-images-{}.tar", std::process::id()));
    fs::write(&file, &archive.tar).with_context(|| format!("write {}", file.display()))?;
    let done = ctr(&["images", "import", &file.display().to_string()]);
    fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
    done?;
    for name in archive.digests.keys() {
        known(runtime, name).await?;
        println!("{name} imported");
    }
    Ok(())
}

/// The runtime hears of an import by an event, a moment later.
async fn known(runtime: &Runtime, name: &str) -> Result<()> {
    for _ in 0..100 {
        let image =
            runtime.image(name).await.map_err(|s| anyhow::anyhow!(crate::kubelet::devices::rpc_text(&s)))?;
        if image.is_some() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("{name} was imported, but the container runtime does not know it");
}

/// Prints the images that the runtime has.
pub fn list() -> Result<()> {
    for (name, digest) in present()? {
        println!("{name} {digest}");
    }
    Ok(())
}

/// Names and digests of the images that the runtime has.
fn present() -> Result<BTreeMap<String, String>> {
    // REF TYPE DIGEST SIZE PLATFORMS LABELS
    let table = ctr(&["images", "list"])?;
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_string(), words.nth(1)?.to_string()))
    };
    Ok(table.lines().skip(1).filter_map(row).filter(|(name, _)| !name.starts_with("sha256:")).collect())
}

fn ctr(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ctr").args(["-n", "k8s.io"]).args(arguments).output().context("run ctr")?;
    if !output.status.success() {
        bail!("ctr {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn build() -> Result<Archive> {
    let base = base().context("layer of busybox")?.write()?;
    let mut layers = vec![base];
    let shell = |script: &str| ["/bin/sh", "-c", script].map(String::from).to_vec();
    // As process 1 it would not get SIGTERM without a handler.
    let pause = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done";
    let image = |name: &str, layers: &[usize], entrypoint: Vec<String>| {
        Image::new(format!("{PREFIX}/{name}:1"), layers, entrypoint)
    };
    let mut images = vec![image("pause", &[0], shell(pause)), image("busybox", &[0], vec!["/bin/sh".into()])];
    if Path::new(TESTPMD).exists() {
        layers.push(testpmd().context("layer of testpmd")?.write()?);
        images.push(image("testpmd", &[0, 1], vec!["/bin/sh".into()]));
    } else {
        eprintln!("no {TESTPMD} on this node: no image of it");
    }
    archive::build(&layers, &images).context("put the archive together")
}

/// Busybox with its commands, users, and the folders that programs expect.
fn base() -> Result<Layer> {
    let mut layer = Layer::default();
    for (link, target) in
        [("/bin", "usr/bin"), ("/sbin", "usr/sbin"), ("/lib", "usr/lib"), ("/lib64", "usr/lib64")]
    {
        layer.link(link, target);
    }
    for folder in
        ["/dev", "/etc", "/proc", "/root", "/run", "/sys", "/usr/lib", "/usr/lib64", "/usr/local/bin"]
    {
        layer.folder(folder, 0o755);
    }
    layer.folder("/tmp", 0o1777);
    layer.link("/var/run", "../run");
    layer.text("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n");
    layer.text("/etc/group", "root:x:0:\nnogroup:x:65534:\n");
    layer.file(BUSYBOX, Path::new(BUSYBOX)).with_context(|| format!("{BUSYBOX} (Debian: busybox-static)"))?;
    let commands =
        Command::new(BUSYBOX).arg("--list-full").output().with_context(|| format!("run {BUSYBOX}"))?;
    for command in String::from_utf8_lossy(&commands.stdout).lines().map(applet) {
        // Busybox lists itself too.
        if command != BUSYBOX {
            layer.link(&command, BUSYBOX);
        }
    }
    Ok(layer)
}

/// `bin/ls` and `usr/bin/du` are both in /usr/bin here.
fn applet(path: &str) -> String {
    match path.strip_prefix("usr/").unwrap_or(path) {
        path if path.contains('/') => format!("/usr/{path}"),
        name => format!("/usr/bin/{name}"),
    }
}

/// testpmd, the drivers that are of use here, and every library that these need.
fn testpmd() -> Result<Layer> {
    let mut layer = Layer::default();
    let mut programs = vec![PathBuf::from(TESTPMD)];
    programs.extend(drivers()?);
    if Path::new(DPDK_CHECK).exists() {
        programs.push(DPDK_CHECK.into());
    }
    for path in &programs {
        layer.take(path).with_context(|| path.display().to_string())?;
    }
    for library in libraries::closure(&programs)? {
        layer.take(&library).with_context(|| library.display().to_string())?;
    }
    Ok(layer)
}

/// The drivers in DPDK's plugin folder (`/usr/lib/*/dpdk/pmds-*`), which testpmd loads by itself.
fn drivers() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for library_folder in fs::read_dir("/usr/lib")?.flatten() {
        for folder in fs::read_dir(library_folder.path().join("dpdk")).into_iter().flatten().flatten() {
            if !folder.file_name().to_string_lossy().starts_with("pmds-") {
                continue;
            }
            for driver in fs::read_dir(folder.path())?.flatten() {
                let name = driver.file_name();
                let stem = name.to_string_lossy().split('.').next().unwrap_or_default().to_string();
                if DRIVERS.contains(&stem.as_str()) {
                    found.push(driver.path());
                }
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applets() {
        assert_eq!(applet("bin/ls"), "/usr/bin/ls");
        assert_eq!(applet("usr/sbin/arping"), "/usr/sbin/arping");
        assert_eq!(applet("linuxrc"), "/usr/bin/linuxrc");
    }
}
