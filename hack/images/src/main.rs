//! Writes the images that ship, and beside each the list of what is in it. `hack/image` calls it.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use fairlead_images::{
    release::{self, Origin, SHIPPED},
    sbom::{self, Native},
};

/// Writes the images that ship as OCI archives; `cargo metadata` comes on standard input.
#[derive(Debug, Parser)]
struct Options {
    /// Folder of the programs
    #[arg(long)]
    programs: PathBuf,
    /// Folder that archives and lists are written to
    #[arg(long)]
    out: PathBuf,
    /// What is before the images' names, such as REGISTRY/PATH
    #[arg(long, default_value = "localhost/fairlead")]
    prefix: String,
    /// Tag of the images
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    tag: String,
    /// The commit
    #[arg(long)]
    revision: String,
    /// When the commit was made, as RFC 3339
    #[arg(long)]
    created: String,
    /// Cargo.lock
    #[arg(long)]
    lock: PathBuf,
    /// What is linked in beside crates, NAME=VERSION; may be given again
    #[arg(long = "native", value_parser = pair)]
    native: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, version) = text.split_once('=').ok_or("it is written NAME=VERSION")?;
    Ok((name.to_owned(), version.to_owned()))
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("images: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let mut metadata = String::new();
    std::io::stdin().read_to_string(&mut metadata).context("read cargo's metadata")?;
    let metadata = serde_json::from_str(&metadata).context("cargo's metadata is no JSON")?;
    let lock = fs::read_to_string(&options.lock).with_context(|| options.lock.display().to_string())?;
    let native: Native = options.native.iter().cloned().collect();
    let origin = Origin {
        version: env!("CARGO_PKG_VERSION").into(),
        revision: options.revision.clone(),
        created: options.created.clone(),
    };
    fs::create_dir_all(&options.out).with_context(|| options.out.display().to_string())?;
    let mut digests = String::new();
    for shipped in &SHIPPED {
        let name = format!("{}/{}:{}", options.prefix, shipped.image, options.tag);
        let archive = release::build(shipped, &name, &options.programs, &origin)?;
        let list = sbom::list(shipped, &origin, &metadata, &lock, &native)?;
        write(options, &format!("{}.oci.tar", shipped.image), &archive.tar)?;
        write(options, &format!("{}.cdx.json", shipped.image), format!("{list:#}\n").as_bytes())?;
        let Some(digest) = archive.digests.get(&name) else { bail!("{name} is not in its archive") };
        digests += &format!("{name}@{digest}\n");
    }
    write(options, "digests", digests.as_bytes())?;
    print!("{digests}");
    Ok(())
}

fn write(options: &Options, name: &str, bytes: &[u8]) -> Result<()> {
    let path: &Path = &options.out.join(name);
    fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}
