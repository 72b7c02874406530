//! The shared libraries that programs need, as the node's dynamic loader finds them.

use std::{collections::BTreeSet, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

/// All libraries that these programs or libraries need. A static program needs none.
pub(super) fn closure(programs: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut all = BTreeSet::new();
    for program in programs {
        let output = Command::new("ldd").arg(program).output().context("run ldd")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        if [&text, &errors]
            .iter()
            .any(|t| t.contains("not a dynamic executable") || t.contains("statically linked"))
        {
            continue;
        }
        let libraries = parse(&text).with_context(|| format!("libraries of {}", program.display()))?;
        all.extend(libraries);
    }
    Ok(all)
}

/// Reads ldd's output: `NAME => PATH (ADDRESS)`, `PATH (ADDRESS)` for the loader, and the kernel's own without a path.
fn parse(text: &str) -> Result<BTreeSet<PathBuf>> {
    let mut libraries = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        let (name, rest) = line.split_once(" => ").unwrap_or((line, line));
        if rest == "not found" {
            bail!("{name} is missing on this node");
        }
        let path = rest.split(" (").next().unwrap_or_default().trim();
        if path.starts_with('/') {
            libraries.insert(path.into());
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_ldd() {
        let text = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let wanted = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(parse(text).unwrap(), wanted.map(PathBuf::from).into());
        assert!(parse("\tlibx.so => not found\n").unwrap_err().to_string().contains("libx.so"));
    }
}
