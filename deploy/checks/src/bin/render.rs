//! Prints the objects of a folder as kustomize would: `cargo run -p fairlead-deploy-checks --bin render -- FOLDER`.

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result};
use fairlead_deploy_checks::kustomize;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: render FOLDER");
        return ExitCode::from(2);
    };
    match print(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("render: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(folder: &Path) -> Result<()> {
    for object in kustomize::render(folder)? {
        println!("---\n{}", serde_saphyr::to_string(&object).context("write YAML")?);
    }
    Ok(())
}
