//! The reference of keys and options, `deploy/docs/configuration.md`, made of the sources that read them.

mod keys;
mod options;
mod pools;
mod source;
#[cfg(test)]
mod tests;

use std::{fmt::Write, path::Path};

use anyhow::Result;

use self::{keys::Section, options::Program, source::Sources};

/// Where it is.
pub(crate) const PATH: &str = "deploy/docs/configuration.md";

const FOLDERS: &[&str] = &["cni", "device-plugin", "dpdk-tests", "resource-config"];

const HEAD: &str = "\
# Configuration

Every key and every option that there is. Made of the sources by `cargo run -p xtask -- reference`; `hack/test` fails when it is not what they say.

Keys are matched without regard to case, and `null` is as if the key were absent. An unknown key of the pools' configuration and of the policy is
warned about, with the nearest known one.

- [Resource pools](#resource-pools): `config.json` of the device plugin
- [Our section](#our-section): `00-fairlead.conflist`
- [Networks](#networks): what a NetworkAttachmentDefinition may say of each plugin
- [Provisioning policy](#provisioning-policy)
- [Command lines](#command-lines); the DPDK check's are what its [Jobs](../examples/dpdk) are given

Options of the chart are in [values.yaml](../chart/fairlead/values.yaml). [Annotations](annotations.md) have a page of their own.
";

const META: Section = Section {
    title: "Our section",
    about: "Key by key in the object of type `fairlead`. `fairlead install --section` takes them; on a cluster they are in the ConfigMap `fairlead-cni`. \
            Rules and examples: [NETWORKS.md](../../cni/NETWORKS.md).",
    files: &["cni/src/meta/config.rs"],
    shared: &["cni/src/config.rs"],
};

const POLICY: Section = Section {
    title: "Provisioning policy",
    about: "A file with a list `sections`, each with these keys, read by `fairlead-config plan` and `fairlead-config apply`. \
            [An example with all of them](../provision/policy.yaml).",
    files: &["resource-config/src/provision/policy/read.rs"],
    shared: &[],
};

const COMMON: &str = "cni/src/drivers/mod.rs";
const LINK: &str = "cni/src/drivers/link.rs";
const MASTER: &str = "cni/src/drivers/master.rs";
const IPAM_KEYS: &str = "cni/src/ipam/keys.rs";

const NETWORKS: &[Section] = &[
    Section {
        title: "Every plugin",
        about: "",
        files: &[COMMON, "cni/src/drivers/ipv6.rs"],
        shared: &["cni/src/engine/attach.rs", "cni/src/alone/driver.rs", "cni/src/alone/mod.rs"],
    },
    Section {
        title: "sriov",
        about: "A key that is absent leaves what there is.",
        files: &["cni/src/drivers/sriov/settings.rs", "cni/src/drivers/sriov/mod.rs"],
        shared: &[COMMON, "cni/src/alone/driver.rs"],
    },
    Section {
        title: "macvlan",
        about: "",
        files: &["cni/src/drivers/macvlan.rs", MASTER, LINK],
        shared: &[COMMON],
    },
    Section { title: "ipvlan", about: "", files: &["cni/src/drivers/ipvlan.rs", MASTER, LINK], shared: &[] },
    Section { title: "vlan", about: "", files: &["cni/src/drivers/vlan.rs", MASTER, LINK], shared: &[] },
    Section {
        title: "bridge",
        about: "`ipMasq` and `macspoofchk` are done by the plugin on disk, see [PLUGINS.md](../../cni/PLUGINS.md).",
        files: &["cni/src/drivers/bridge/settings.rs", LINK],
        shared: &[COMMON, "cni/src/drivers/ipv6.rs"],
    },
    Section {
        title: "ptp",
        about: "`ipMasq` is done by the plugin on disk.",
        files: &["cni/src/drivers/ptp.rs", LINK],
        shared: &[COMMON, "cni/src/drivers/ipv6.rs"],
    },
    Section {
        title: "host-device",
        about: "The first that is given counts.",
        files: &["cni/src/drivers/host_device/find.rs"],
        shared: &[],
    },
    Section {
        title: "tuning",
        about: "After the plugin that makes the interface.",
        files: &["cni/src/drivers/tuning/settings.rs", "cni/src/drivers/tuning/backup.rs"],
        shared: &[COMMON],
    },
    Section {
        title: "vrf",
        about: "After the plugin that makes the interface.",
        files: &["cni/src/drivers/vrf.rs"],
        shared: &[],
    },
    Section {
        title: "sbr",
        about: "After the plugin that makes the interface.",
        files: &["cni/src/drivers/sbr/mod.rs"],
        shared: &[],
    },
    Section {
        title: "host-local",
        about: "Inside `ipam`. Addresses may be asked for by the annotation's `ips`, by `args.cni.ips`, and by `IP` in `CNI_ARGS`; \
                ranges of the capability `ipRanges` come first.",
        files: &["cni/src/ipam/host_local.rs", "cni/src/ipam/range.rs", IPAM_KEYS],
        shared: &[],
    },
    Section {
        title: "static",
        about: "Inside `ipam`. `IP` and `GATEWAY` in `CNI_ARGS` add to `addresses`; `args.cni.ips`, and after it the annotation's `ips`, come in their place.",
        files: &["cni/src/ipam/static_addresses.rs", IPAM_KEYS],
        shared: &[],
    },
];

/// What `fairlead` passes on to a program of its own.
const TOOLS: Program = Program { name: "fairlead", folder: "cni/tools/src", root: "Args" };

const PROGRAMS: &[Program] = &[
    Program { name: "fairlead-device-plugin", folder: "device-plugin/src", root: "Args" },
    Program { name: "fairlead-agent", folder: "cni/agent/src", root: "Options" },
    Program { name: "fairlead-config", folder: "resource-config/src", root: "Args" },
    Program { name: "fairlead-dpdk-check", folder: "dpdk-tests/src", root: "Cli" },
];

/// The whole page.
pub(crate) fn page(root: &Path) -> Result<String> {
    let sources = Sources::read(root, FOLDERS)?;
    keys::compare(&META, &sources, &["KEYS"])?;
    keys::compare(&POLICY, &sources, &["SECTION_KEYS", "RANGE_KEYS"])?;
    let mut text = String::from(HEAD);
    write!(
        text,
        "\n## Resource pools\n\nRules: [POOLS.md](../../resource-config/POOLS.md). `fairlead-config schema` prints the same as a JSON schema.\n{}",
        pools::tables(&sources)?
    )?;
    section(&mut text, 2, &META, &sources)?;
    text.push_str("\n## Networks\n\nKeys of each plugin that is done in process. dummy has no keys but `ipam`, loopback none. What is more than, or \
                   different from, upstream: [PLUGINS.md](../../cni/PLUGINS.md).\n");
    for part in NETWORKS {
        section(&mut text, 3, part, &sources)?;
    }
    section(&mut text, 2, &POLICY, &sources)?;
    text.push_str("\n## Command lines\n\nEvery program has `--help`.\n\n### fairlead\n");
    text.push_str(&options::usages("cni", &sources)?);
    text.push_str(&options::tables(&TOOLS, &sources)?);
    for program in PROGRAMS {
        write!(text, "\n### {}\n{}", program.name, options::tables(program, &sources)?)?;
    }
    Ok(text)
}

fn section(text: &mut String, level: usize, section: &Section, sources: &Sources) -> Result<()> {
    let about = if section.about.is_empty() { String::new() } else { format!("{}\n\n", section.about) };
    let table = keys::table(section, sources)?;
    write!(text, "\n{} {}\n\n{about}{table}", "#".repeat(level), section.title)?;
    Ok(())
}
