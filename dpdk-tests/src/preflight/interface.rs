//! Facts about an interface of the kernel, for the kernel's path.

use std::fs;

use fairlead_kernel::Mac;
use fairlead_resource_config::SysRoot;

/// `IFF_UP` of the kernel's `linux/if.h`.
const UP: u32 = 1;

/// One interface of this network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceFacts {
    /// Its name.
    pub name: String,
    /// Whether it is here.
    pub exists: bool,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it has a link partner.
    pub carrier: Option<bool>,
    /// Its address.
    pub mac: Option<Mac>,
    /// Bytes of payload that it carries.
    pub mtu: Option<u32>,
    /// In Mbit/s, where it tells.
    pub speed: Option<u64>,
    /// The driver of its device; `None` for one that has no device, such as a macvlan.
    pub driver: Option<String>,
}

impl InterfaceFacts {
    /// Reads `class/net/NAME`.
    #[must_use]
    pub fn gather(sys: &SysRoot, name: &str) -> Self {
        let folder = sys.path().join("class/net").join(name);
        let text = |file: &str| fs::read_to_string(folder.join(file)).ok().map(|text| text.trim().to_owned());
        let flags =
            text("flags").and_then(|flags| u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok());
        let driver = fs::read_link(folder.join("device/driver")).ok();
        Self {
            name: name.to_owned(),
            // A name with a slash is none, and would lead elsewhere.
            exists: !name.contains('/') && folder.exists(),
            up: flags.is_some_and(|flags| flags & UP != 0),
            carrier: text("carrier").map(|carrier| carrier == "1"),
            mac: text("address").and_then(|mac| mac.parse().ok()),
            mtu: text("mtu").and_then(|mtu| mtu.parse().ok()),
            // -1 where it is unknown.
            speed: text("speed").and_then(|speed| speed.parse().ok()).filter(|speed| *speed > 0),
            driver: driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())),
        }
    }
}
