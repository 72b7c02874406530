//! The images that ship. Each holds its static programs, two lines of users, and nothing else.

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
    /// What is in it; the first is what a container of it runs.
    pub programs: &'static [Program],
    /// What it is, for the image's label.
    pub title: &'static str,
}

/// A program in an image.
#[derive(Debug)]
pub struct Program {
    /// The crate that it is built from.
    pub package: &'static str,
    /// Its file.
    pub file: &'static str,
}

/// All of them.
pub const SHIPPED: [Shipped; 4] = [
    Shipped {
        image: "device-plugin",
        programs: &[Program { package: "fairlead-device-plugin", file: "fairlead-device-plugin" }],
        title: "Fairlead's device plugin",
    },
    Shipped {
        image: "cni",
        programs: &[
            Program { package: "fairlead-cni", file: "fairlead" },
            Program { package: "fairlead-tools", file: "fairlead-tools" },
        ],
        title: "Fairlead's CNI executable, its installer and the operator's tools",
    },
    Shipped {
        image: "agent",
        programs: &[Program { package: "fairlead-agent", file: "fairlead-agent" }],
        title: "Fairlead's agent",
    },
    Shipped {
        image: "config",
        programs: &[Program { package: "fairlead-resource-config", file: "fairlead-config" }],
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

/// The archive of an image called `name`, with its programs from the folder `programs`.
///
/// # Errors
/// When one of them is not there.
pub fn build(shipped: &Shipped, name: &str, programs: &Path, origin: &Origin) -> Result<Archive> {
    let mut layer = Layer::default();
    let mut places = Vec::new();
    for program in shipped.programs {
        let (file, place) = (programs.join(program.file), format!("/usr/local/bin/{}", program.file));
        layer.program(&place, &file).with_context(|| format!("program {}", file.display()))?;
        places.push(place);
    }
    places.truncate(1);
    layer.text(
        "/etc/passwd",
        "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n",
    );
    layer.text("/etc/group", "root:x:0:\nnogroup:x:65534:\n");
    let layer = layer.write().with_context(|| format!("layer of {name}"))?;
    let mut image = Image::new(name, &[0], places);
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
        for program in SHIPPED[1].programs {
            let program = folder.join(program.file);
            fs::write(&program, "program").unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        }
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
