//! The images that ship. Each holds one static program, two lines of users, and nothing else.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};

use crate::{
    archive::{self, Archive, Image},
    layer::Layer,
};

/// An image that ships.
#[derive(Debug)]
pub struct Shipped {
    /// Last part of the image's name.
    pub image: &'static str,
    /// The crate that the program is built from.
    pub package: &'static str,
    /// The program's file.
    pub program: &'static str,
    /// What it is, for the image's label.
    pub title: &'static str,
}

/// All of them.
pub const SHIPPED: [Shipped; 4] = [
    Shipped {
        image: "device-plugin",
        package: "fairlead-device-plugin",
        program: "fairlead-device-plugin",
        title: "Fairlead's device plugin",
    },
    Shipped {
        image: "cni",
        package: "fairlead-cni",
        program: "fairlead",
        title: "Fairlead's CNI executable and its installer",
    },
    Shipped {
        image: "agent",
        package: "fairlead-agent",
        program: "fairlead-agent",
        title: "Fairlead's agent",
    },
    Shipped {
        image: "config",
        package: "fairlead-resource-config",
        program: "fairlead-config",
        title: "Fairlead's view of a node's devices, and their provisioning",
    },
];

/// What an image says of where it comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Version of the workspace.
    pub version: String,
    /// The commit.
    pub revision: String,
    /// When that was made, as RFC 3339.
    pub created: String,
}

/// The archive of an image called `name`, with its program from the folder `programs`.
///
/// # Errors
/// When the program is not there.
pub fn build(shipped: &Shipped, name: &str, programs: &Path, origin: &Origin) -> Result<Archive> {
    let program = programs.join(shipped.program);
    let place = format!("/usr/local/bin/{}", shipped.program);
    let mut layer = Layer::default();
    layer.program(&place, &program).with_context(|| format!("program {}", program.display()))?;
    layer.text(
        "/etc/passwd",
        "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n",
    );
    layer.text("/etc/group", "root:x:0:\nnogroup:x:65534:\n");
    let layer = layer.write().with_context(|| format!("layer of {}", program.display()))?;
    let mut image = Image::new(name, &[0], vec![place]);
    image.created.clone_from(&origin.created);
    image.labels = BTreeMap::from(
        [
            ("title", shipped.title),
            ("version", &origin.version),
            ("revision", &origin.revision),
            ("created", &origin.created),
            ("licenses", "Apache-2.0"),
        ]
        .map(|(key, value)| (format!("org.opencontainers.image.{key}"), value.to_owned())),
    );
    archive::build(&[layer], &[image]).with_context(|| format!("archive of {name}"))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn origin() -> Origin {
        Origin { version: "1".into(), revision: "abc".into(), created: "2026-01-02T03:04:05Z".into() }
    }

    fn digest(folder: &Path, mode: u32) -> String {
        let program = folder.join("fairlead");
        fs::write(&program, "program").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        build(&SHIPPED[1], "x/cni:1", folder, &origin()).unwrap().digests["x/cni:1"].clone()
    }

    #[test]
    fn the_same_program_makes_the_same_image_wherever_and_whenever_it_was_built() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(digest(one.path(), 0o755), digest(other.path(), 0o775));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = build(&SHIPPED[0], "a:1", Path::new("/no/such"), &origin()).unwrap_err();
        assert!(format!("{error:#}").contains("/no/such/fairlead-device-plugin"), "{error:#}");
    }
}
