//! Every key of a configuration: what the reader knows and the schema says.

use super::offer::{LINK_DOWN, PREFERENCE, VFIO_MODE};
use super::values::{DeviceType, VdpaType};

/// A key and what may stand there.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// The device types that it is for.
    pub(super) types: &'static [DeviceType],
    /// For people, in the schema.
    pub(super) about: &'static str,
}

/// What may stand at a key. Patterns are regular expressions of ECMA-262 without anchors, for the whole text.
pub(super) enum Shape {
    Boolean,
    /// A whole number from 0 on.
    Number,
    Text {
        pattern: &'static str,
    },
    /// A list of texts.
    Texts {
        pattern: &'static str,
    },
    OneOf(fn() -> Vec<&'static str>),
    /// A definition of the schema.
    Is(&'static str),
    /// One definition of the schema, or a list of at least one.
    OneOrMore(&'static str),
    /// A list of at least one of a definition of the schema.
    List(&'static str),
}

const ANY: &[DeviceType] = DeviceType::ALL;
const PCI: &[DeviceType] = &[DeviceType::NetDevice, DeviceType::Accelerator];
const NETWORK: &[DeviceType] = &[DeviceType::NetDevice, DeviceType::AuxNetDevice];
const NET: &[DeviceType] = &[DeviceType::NetDevice];
const AUX: &[DeviceType] = &[DeviceType::AuxNetDevice];

const PCI_ID: &str = "(0[xX])?[0-9a-fA-F]{4}";
const NAME: &str = ".+";

pub(super) const PCI_ADDRESS: &str = "([0-9a-fA-F]{1,8}:)?[0-9a-fA-F]{1,2}:[01]?[0-9a-fA-F]\\.[0-7]";

const fn key(name: &'static str, shape: Shape, types: &'static [DeviceType], about: &'static str) -> Key {
    Key { name, shape, types, about }
}

pub(super) const TOP: &[Key] = &[key(
    "resourceList",
    Shape::List("resource"),
    ANY,
    "The resources; the first that selects a device has it.",
)];

pub(super) const RESOURCE: &[Key] = &[
    key(
        "resourceName",
        Shape::Text { pattern: "[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?" },
        ANY,
        "Name of the resource, without prefix.",
    ),
    key(
        "resourcePrefix",
        Shape::Text { pattern: "([a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*)?" },
        ANY,
        "Prefix of the resource; without one, the program's option decides.",
    ),
    key(
        "deviceType",
        Shape::OneOf(|| [""].into_iter().chain(DeviceType::ALL.iter().map(|kind| kind.as_str())).collect()),
        ANY,
        "netDevice (when left out), accelerator or auxNetDevice.",
    ),
    key("excludeTopology", Shape::Boolean, ANY, "Whether kubelet is not told the NUMA node."),
    key(
        "selectors",
        Shape::OneOrMore("selectors"),
        ANY,
        "A device that any of these objects selects belongs to the resource.",
    ),
    key(
        "additionalInfo",
        Shape::Is("additionalInfo"),
        ANY,
        "Texts for the application, by PCI address (of the parent, for auxiliary devices) or * for each device.",
    ),
    key(
        "linkDown",
        Shape::OneOf(|| LINK_DOWN.iter().map(|(name, _)| *name).collect()),
        ANY,
        "What a PF without link means: ignore (the default), or unhealthy: its VFs are not handed out until it has one.",
    ),
    key(
        "linkDownSeconds",
        Shape::Number,
        ANY,
        "How long the link must have been down for that; 10 when left out.",
    ),
    key(
        "preferredAllocation",
        Shape::OneOf(|| PREFERENCE.iter().map(|(name, _)| *name).collect()),
        ANY,
        "Devices of one NUMA node for a container that wants several: packed (few PFs, the default) or spread (many PFs).",
    ),
    key(
        "vfioMode",
        Shape::OneOf(|| VFIO_MODE.iter().map(|(name, _)| *name).collect()),
        PCI,
        "Nodes of devices on VFIO: group (the default), cdev (the device's own and /dev/iommu), or both.",
    ),
    key(
        "cdi",
        Shape::Is("cdi"),
        ANY,
        "Owner and mode of device nodes in the container, where they are handed over by CDI.",
    ),
];

pub(super) const CDI: &[Key] = &[
    key("uid", Shape::Number, ANY, "User that owns the device nodes; as on the host when left out."),
    key("gid", Shape::Number, ANY, "Group that owns the device nodes; as on the host when left out."),
    key(
        "mode",
        Shape::Text { pattern: "0*[0246]{1,3}" },
        ANY,
        "Octal permissions of the device nodes, such as 0660; as on the host when left out.",
    ),
];

pub(super) const SELECTORS: &[Key] = &[
    key("vendors", Shape::Texts { pattern: PCI_ID }, ANY, "PCI vendor identifiers, such as 8086."),
    key("devices", Shape::Texts { pattern: PCI_ID }, ANY, "PCI device identifiers, such as 154c."),
    key("drivers", Shape::Texts { pattern: NAME }, ANY, "Names of bound drivers, such as vfio-pci."),
    key("pciAddresses", Shape::Texts { pattern: PCI_ADDRESS }, PCI, "Addresses of the devices themselves."),
    key("acpiIndexes", Shape::Texts { pattern: NAME }, PCI, "The firmware's numbers of ports (acpi_index)."),
    key(
        "pfNames",
        Shape::Texts { pattern: "[^#\\s/]+(#[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?" },
        NETWORK,
        "Network devices of PFs, by name or alternative name, alone or with VF indexes (sfnum of scalable functions): ens1f0#0-3,5.",
    ),
    key(
        "rootDevices",
        Shape::Texts {
            pattern: "([0-9a-fA-F]{1,8}:)?[0-9a-fA-F]{1,2}:[01]?[0-9a-fA-F]\\.[0-7](#[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?",
        },
        NETWORK,
        "Addresses of PFs, alone or with VF indexes: 0000:86:00.1#0-3.",
    ),
    key("linkTypes", Shape::Texts { pattern: NAME }, NETWORK, "Link types, such as ether or infiniband."),
    key("ddpProfiles", Shape::Texts { pattern: NAME }, NET, "Names of DDP packages (Intel)."),
    key(
        "pKeys",
        Shape::Texts { pattern: "(0[xX])?[0-9a-fA-F]{1,4}" },
        NET,
        "InfiniBand partition keys, such as 0x8001.",
    ),
    key("isRdma", Shape::Boolean, NETWORK, "Only devices with RDMA; containers get its character devices."),
    key(
        "needVhostNet",
        Shape::Boolean,
        NETWORK,
        "Containers get /dev/vhost-net and /dev/net/tun; selects nothing.",
    ),
    key(
        "vdpaType",
        Shape::OneOf(|| [""].into_iter().chain(VdpaType::ALL.iter().map(|kind| kind.as_str())).collect()),
        NET,
        "Only devices with a vDPA device of this type: vhost or virtio.",
    ),
    key(
        "auxTypes",
        Shape::Texts { pattern: "sf" },
        AUX,
        "Kinds of auxiliary devices: sf. Needed for auxNetDevice.",
    ),
];

/// The names of keys, as they are spelt in documentation.
pub(super) fn names(keys: &[Key]) -> Vec<&'static str> {
    keys.iter().map(|key| key.name).collect()
}
