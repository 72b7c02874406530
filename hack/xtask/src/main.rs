//! What is made and checked in. `cargo run -p xtask -- gen-proto [--check]`: gRPC code; no `protoc` is needed.
//! `cargo run -p xtask -- scenarios [--check] [host=LOG] [node=LOG]`: the table of the CNI plugins' scenarios.
//! `cargo run -p xtask -- reference [--check]`: the reference of keys and options.

mod reference;
mod scenarios;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};

/// A folder of protos and the folder that their generated code is checked in.
struct Set {
    protos: &'static str,
    files: &'static [&'static str],
    out: &'static str,
}

const SETS: &[Set] = &[
    Set {
        protos: "device-plugin/kubelet-api/protos",
        files: &["deviceplugin.proto", "pluginregistration.proto", "podresources.proto"],
        out: "device-plugin/kubelet-api/src/generated",
    },
    Set {
        protos: "hack/testbed/cluster/protos",
        files: &["cri.proto"],
        out: "hack/testbed/cluster/src/generated",
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["gen-proto"] => generate_all(false),
        ["gen-proto", "--check"] => generate_all(true),
        ["reference"] => reference_page(false),
        ["reference", "--check"] => reference_page(true),
        ["scenarios", "--check", logs @ ..] if !logs.is_empty() => scenario_table(logs, true),
        ["scenarios", logs @ ..] if !logs.is_empty() => scenario_table(logs, false),
        _ => {
            eprintln!(
                "usage: cargo run -p xtask -- gen-proto [--check]\n       \
                 cargo run -p xtask -- reference [--check]\n       \
                 cargo run -p xtask -- scenarios [--check] [host=LOG] [node=LOG]\n\
                 hack/test leaves the logs of its last runs in target/scenarios"
            );
            return ExitCode::from(2);
        }
    };
    if let Err(error) = done {
        eprintln!("xtask: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// Makes the table from these logs and, for beds without one, from the table that is there; or compares it with what these logs
/// show.
fn scenario_table(logs: &[&str], check: bool) -> Result<()> {
    let list = scenarios::parse_list(&read(&root().join("hack/xtask/scenarios.txt"))?)?;
    let path = root().join("cni/SCENARIOS.md");
    let mut kept = if path.exists() { scenarios::parse_table(&read(&path)?) } else { Vec::new() };
    let (mut old, mut run) = (Vec::new(), Vec::new());
    for log in logs {
        let (bed, file) = log.split_once('=').context("a log is given as host=FILE or node=FILE")?;
        let on_node = bed == "node";
        let bytes = fs::read(file).with_context(|| format!("read {file}"))?;
        run.extend(scenarios::parse_log(&String::from_utf8_lossy(&bytes), on_node));
        old.extend(kept.extract_if(.., |row| scenarios::is_of(row, on_node)));
    }
    let changes = if check { scenarios::changes(&old, &run) } else { scenarios::Changes::default() };
    if !changes.added.is_empty() {
        eprintln!("xtask: {} lacks what is new:\n{}", path.display(), changes.added.join("\n"));
    }
    let mut problems = changes.lost;
    kept.extend(if check { old } else { run });
    problems.extend(scenarios::gaps(&list, &kept));
    if !check {
        fs::write(&path, scenarios::table(&list, &kept))
            .with_context(|| format!("write {}", path.display()))?;
    }
    if !problems.is_empty() {
        let hint = "`cargo run -p xtask -- scenarios host=LOG node=LOG` makes the table anew";
        bail!("{}:\n{}\n{hint}", path.display(), problems.join("\n"));
    }
    Ok(())
}

/// Makes the reference, or compares it with what the sources say.
fn reference_page(check: bool) -> Result<()> {
    let (fresh, path) = (reference::page(&root())?, root().join(reference::PATH));
    if !check {
        return fs::write(&path, fresh).with_context(|| format!("write {}", path.display()));
    }
    if read(&path)? != fresh {
        bail!("{} is stale: run `cargo run -p xtask -- reference`", path.display());
    }
    Ok(())
}

fn generate_all(check: bool) -> Result<()> {
    SETS.iter().try_for_each(|set| generate(set, check))
}

/// Generates one set into its folder, or compares it with what is there.
fn generate(set: &Set, check: bool) -> Result<()> {
    let protos = root().join(set.protos);
    let out = root().join(set.out);
    let target =
        if check { std::env::temp_dir().join(format!("xtask-{}", std::process::id())) } else { out.clone() };
    fs::create_dir_all(&target).with_context(|| format!("create {}", target.display()))?;
    let descriptors =
        protox::compile(set.files, [&protos]).with_context(|| format!("compile {}", protos.display()))?;
    tonic_prost_build::configure().out_dir(&target).compile_fds(descriptors).context("generate code")?;
    if check {
        let result = compare(&target, &out);
        fs::remove_dir_all(&target).context("remove the temporary folder")?;
        result?;
    }
    Ok(())
}

/// Fails when a generated file differs from the one checked in, or only one of them exists.
fn compare(fresh: &Path, kept: &Path) -> Result<()> {
    let names = |dir: &Path| -> Result<Vec<PathBuf>> {
        let mut names: Vec<PathBuf> = fs::read_dir(dir)
            .with_context(|| format!("read {}", dir.display()))?
            .map(|entry| Ok(PathBuf::from(entry?.file_name())))
            .collect::<Result<_>>()?;
        names.sort();
        Ok(names)
    };
    let wanted = names(fresh)?;
    if wanted != names(kept)? {
        bail!(
            "{} holds other files than its protos make: run `cargo run -p xtask -- gen-proto`",
            kept.display()
        );
    }
    for name in wanted {
        if fs::read(fresh.join(&name))? != fs::read(kept.join(&name))? {
            bail!("{} is stale: run `cargo run -p xtask -- gen-proto`", kept.join(&name).display());
        }
    }
    Ok(())
}
