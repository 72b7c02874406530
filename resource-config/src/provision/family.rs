//! In what families of NICs differ, as data. What is not here is the same for all: settings that only count when the VF's
//! driver starts are made while it has none, numbers go through zero, and the PF's MTU comes before the VFs'.

use crate::pci::PciAddress;

/// What is special about the NICs of some PF drivers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Family {
    /// The PF's drivers.
    drivers: &'static [&'static str],
    /// The kernel's driver for its VFs, to be loaded before they are probed; udev alone would load it some time later.
    pub(super) vf_driver: Option<&'static str>,
    /// VFs that are probed while the PF is down never leave reset: so for igb (emulated and real) and ixgbe, whose mailbox
    /// is served only by an interface that is up.
    pub(super) pf_up_first: bool,
    /// DPDK's driver for it works beside the kernel's; a VF on vfio-pci is lost to it.
    pub(super) bifurcated: bool,
    /// Where its firmware limits the number of VFs; ADDRESS and NUMBER stand for the PF and what is wanted.
    more_vfs: &'static str,
    /// How the embedded switch's mode is changed (ADDRESS, MODE): ice takes it only without VFs, mlx5 wants VFs without drivers.
    change_mode: &'static str,
}

const LEGACY_ONLY: &str = "the driver knows only legacy mode";

const FAMILIES: &[Family] = &[
    Family {
        drivers: &["igb"],
        vf_driver: Some("igbvf"),
        pf_up_first: true,
        bifurcated: false,
        more_vfs: "igb hardware has at most 7 (8 on 82576, one of them the PF's); SR-IOV must be on in the BIOS",
        change_mode: LEGACY_ONLY,
    },
    Family {
        drivers: &["ixgbe"],
        vf_driver: Some("ixgbevf"),
        pf_up_first: true,
        bifurcated: false,
        more_vfs: "ixgbe has at most 63, fewer with max_vfs of the module or with DCB; SR-IOV must be on in the BIOS",
        change_mode: LEGACY_ONLY,
    },
    Family {
        drivers: &["i40e"],
        vf_driver: Some("iavf"),
        pf_up_first: false,
        bifurcated: false,
        more_vfs: "the card's NVM divides 128 VFs among its ports: look at the BIOS page of the card, or Intel's nvmupdate and bootutil",
        change_mode: LEGACY_ONLY,
    },
    Family {
        drivers: &["ice"],
        vf_driver: Some("iavf"),
        pf_up_first: false,
        bifurcated: false,
        more_vfs: "the card's NVM divides 256 VFs among its ports: look at the BIOS page of the card, or Intel's nvmupdate and EPCT",
        change_mode: "remove the VFs, then run `devlink dev eswitch set pci/ADDRESS mode MODE`, then apply again",
    },
    Family {
        drivers: &["mlx5_core"],
        vf_driver: Some("mlx5_core"),
        pf_up_first: false,
        bifurcated: true,
        more_vfs: "run `mlxconfig -d ADDRESS set SRIOV_EN=1 NUM_OF_VFS=NUMBER` and restart the node",
        change_mode: "unbind the VFs from their drivers, then run `devlink dev eswitch set pci/ADDRESS mode MODE`, then apply again",
    },
    Family {
        drivers: &["mlx4_core"],
        vf_driver: Some("mlx4_core"),
        pf_up_first: false,
        bifurcated: true,
        more_vfs: "run `mlxconfig -d ADDRESS set SRIOV_EN=1 NUM_OF_VFS=NUMBER`, and see num_vfs of the module mlx4_core",
        change_mode: LEGACY_ONLY,
    },
    Family {
        drivers: &["bnxt_en"],
        vf_driver: Some("bnxt_en"),
        pf_up_first: false,
        bifurcated: false,
        more_vfs: "set \"Number of VFs per PF\" on the card's BIOS page or with Broadcom's niccli, and restart the node",
        change_mode: "run `devlink dev eswitch set pci/ADDRESS mode MODE`, then apply again",
    },
];

const UNKNOWN: Family = Family {
    drivers: &[],
    vf_driver: None,
    pf_up_first: false,
    bifurcated: false,
    more_vfs: "look at the number of VFs in the card's firmware settings, and at SR-IOV in the BIOS",
    change_mode: "run `devlink dev eswitch set pci/ADDRESS mode MODE`, then apply again",
};

impl Family {
    /// Where to look when the firmware allows fewer VFs than wanted.
    pub(super) fn more_vfs(&self, pf: PciAddress, number: u32) -> String {
        self.more_vfs.replace("ADDRESS", &pf.to_string()).replace("NUMBER", &number.to_string())
    }

    /// How to change the mode of the embedded switch.
    pub(super) fn change_mode(&self, pf: PciAddress, mode: &str) -> String {
        self.change_mode.replace("ADDRESS", &pf.to_string()).replace("MODE", mode)
    }
}

/// The family of a PF's driver.
pub(super) fn of(driver: Option<&str>) -> &'static Family {
    let known = |family: &&Family| driver.is_some_and(|driver| family.drivers.contains(&driver));
    FAMILIES.iter().find(known).unwrap_or(&UNKNOWN)
}

/// Where a module comes from that is missing.
pub(super) fn source_of_module(module: &str) -> &'static str {
    match module {
        "igb_uio" => {
            "it is not part of the kernel: DPDK's dpdk-kmods has it, Debian and Ubuntu package it as dpdk-igb-uio-dkms; or use vfio-pci"
        }
        "vfio-pci" | "uio_pci_generic" => {
            "it is part of the kernel's modules; on some distributions in a package of their own (linux-modules-extra, kernel-modules-extra)"
        }
        _ => "it is part of the kernel's modules; is the package of the running kernel's modules installed?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_have_their_family_and_others_the_common_one() {
        assert_eq!(of(Some("igb")).vf_driver, Some("igbvf"));
        assert!(of(Some("mlx5_core")).bifurcated);
        assert_eq!(of(Some("newnic")), &UNKNOWN);
        assert_eq!(of(None), &UNKNOWN);
    }
}
