//! A pod with one VF in VLAN 100.

use std::path::{Path, PathBuf};

use fairlead_kernel::{
    LinkChange, Netns, Request, Route,
    route::{VfChange, VfVlan, VlanProtocol},
};
use fairlead_resource_config::error_text;
use serde_json::{Value, json};

use crate::{
    Result, Sandbox,
    floor::{all, expect_links, index, netns, route_in},
    plugins::Exec,
    timing::{Contender, Times, timed},
};

/// Name in the pod.
const NAME: &str = "net1";
const VLAN: u16 = 100;

/// A VF and its PF, as sysfs knows them.
#[derive(Clone)]
struct Device {
    address: String,
    name: String,
    pf: String,
    number: u32,
}

pub(crate) fn contenders(
    folder: &Path,
    fairlead: &Path,
    plugins: &Path,
    address: &str,
) -> Result<Vec<Box<dyn Contender>>> {
    let device = Device::read(address)?;
    let sriov = folder.join("sriov");
    std::os::unix::fs::symlink(fairlead, &sriov).map_err(|error| format!("{}: {error}", sriov.display()))?;
    let ours = Executed {
        name: "Fairlead's sriov",
        program: sriov,
        path: plugins.to_owned(),
        config: json!({
            "cniVersion": "1.0.0", "name": "vf", "type": "sriov", "deviceID": device.address, "vlan": VLAN,
        }),
    };
    let host_device = Executed {
        name: "reference host-device (no VLAN)",
        program: plugins.join("host-device"),
        path: plugins.to_owned(),
        config: json!({"cniVersion": "1.0.0", "name": "vf", "type": "host-device", "pciBusID": device.address}),
    };
    Ok(vec![Box::new(ours), Box::new(host_device), Box::new(Floor { device })])
}

impl Device {
    fn read(address: &str) -> Result<Self> {
        let folder = PathBuf::from("/sys/bus/pci/devices").join(address);
        let only = |folder: PathBuf| -> Result<String> {
            let missing = |what: String| format!("{}: {what}", folder.display());
            let mut entries = std::fs::read_dir(&folder).map_err(|error| missing(error.to_string()))?;
            let entry = entries.next().ok_or_else(|| missing("nothing is in it".to_owned()))?;
            let entry = entry.map_err(|error| missing(error.to_string()))?;
            Ok(entry.file_name().to_string_lossy().into_owned())
        };
        let physfn = folder.join("physfn");
        let number = (0..256).find(|number| {
            let link = std::fs::read_link(physfn.join(format!("virtfn{number}")));
            link.is_ok_and(|target| target.ends_with(address))
        });
        Ok(Self {
            address: address.to_owned(),
            name: only(folder.join("net"))?,
            pf: only(physfn.join("net"))?,
            number: number.ok_or_else(|| format!("{address} is no VF"))?,
        })
    }
}

/// A plugin, executed.
struct Executed {
    name: &'static str,
    program: PathBuf,
    path: PathBuf,
    config: Value,
}

impl Contender for Executed {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn once(&self, sandbox: &Sandbox) -> Result<Times> {
        let exec = Exec { program: &self.program, path: &self.path, interface: NAME, config: &self.config };
        let (result, add) = timed(|| exec.call("ADD", sandbox))?;
        expect_links(sandbox, &[NAME])?;
        let mut config = self.config.clone();
        config["prevResult"] = result;
        let exec = Exec { config: &config, ..exec };
        let ((), del) = timed(|| exec.call("DEL", sandbox).map(drop))?;
        expect_links(sandbox, &[])?;
        Ok(Times { add, del })
    }
}

/// What the kernel needs.
struct Floor {
    device: Device,
}

impl Floor {
    fn set_vlan(&self, host: &mut Route, id: u16) -> Result<()> {
        let pf = index(host, &self.device.pf)?;
        let vlan = VfChange {
            vlan: Some(VfVlan { id, qos: 0, proto: VlanProtocol::default() }),
            ..VfChange::default()
        };
        host.set_vf(pf, self.device.number, &vlan).map_err(|error| error_text(&error))
    }

    fn add(&self, sandbox: &Sandbox) -> Result<()> {
        let netns = netns(sandbox)?;
        let mut host = Route::open().map_err(|error| error_text(&error))?;
        self.set_vlan(&mut host, VLAN)?;
        let link = index(&mut host, &self.device.name)?;
        let change = LinkChange {
            netns: Some(&netns),
            name: Some(NAME.to_owned()),
            up: Some(true),
            ..LinkChange::default()
        };
        all(&mut host, &[Request::set_link(link, &change)])
    }

    fn del(&self, sandbox: &Sandbox) -> Result<()> {
        let home = Netns::current().map_err(|error| error_text(&error))?;
        let mut pod = route_in(&netns(sandbox)?)?;
        let link = index(&mut pod, NAME)?;
        let down = LinkChange { up: Some(false), ..LinkChange::default() };
        let back =
            LinkChange { netns: Some(&home), name: Some(self.device.name.clone()), ..LinkChange::default() };
        all(&mut pod, &[Request::set_link(link, &down), Request::set_link(link, &back)])?;
        self.set_vlan(&mut Route::open().map_err(|error| error_text(&error))?, 0)
    }
}

impl Contender for Floor {
    fn name(&self) -> String {
        "the kernel's own work".to_owned()
    }

    fn once(&self, sandbox: &Sandbox) -> Result<Times> {
        let ((), add) = timed(|| self.add(sandbox))?;
        expect_links(sandbox, &[NAME])?;
        let ((), del) = timed(|| self.del(sandbox))?;
        expect_links(sandbox, &[])?;
        Ok(Times { add, del })
    }
}
