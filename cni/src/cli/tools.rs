//! What a program of its own does for operators: this one is paid for at every pod and stays small.

use std::{
    env,
    ffi::OsStr,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::exec::is_program;

/// The program.
pub const PROGRAM: &str = "fairlead-tools";
/// The same beside plugins, where nobody is to take it for one.
pub const HIDDEN: &str = ".fairlead-tools";
/// What it does.
const VERBS: [&str; 4] = ["doctor", "explain-pod", "history", "migrate"];

/// Whether a call is the other program's.
pub fn is_for(verb: &str) -> bool {
    VERBS.contains(&verb)
}

/// Becomes the other program. What is returned is why that failed.
pub fn become_it(arguments: &[String]) -> String {
    let own = env::current_exe().unwrap_or_default();
    let places = places(&own, env::var_os("PATH").as_deref());
    let Some(program) = places.iter().find(|place| is_program(place)) else {
        return missing(arguments.first().map_or("this", String::as_str), &places);
    };
    let error: io::Error = Command::new(program).args(arguments).exec();
    format!("execute {}: {error}", program.display())
}

/// Where the program is beside another one, if it is there.
pub fn beside(program: &Path) -> Option<PathBuf> {
    of_folder(program.parent()?).into_iter().find(|place| is_program(place))
}

fn of_folder(folder: &Path) -> [PathBuf; 2] {
    [PROGRAM, HIDDEN].map(|name| folder.join(name))
}

fn places(own: &Path, path: Option<&OsStr>) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = own.parent().map(of_folder).into_iter().flatten().collect();
    for folder in path.map(env::split_paths).into_iter().flatten() {
        let place = folder.join(PROGRAM);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

fn missing(verb: &str, places: &[PathBuf]) -> String {
    let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    format!(
        "\"{verb}\" is done by the program {PROGRAM}, of which there is none at {}: put it beside this one (it is in the image \
         cni, and `fairlead install` places it where it has it)",
        places.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_looked_for_beside_the_program_and_then_in_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("fairlead");
        let path = format!("/a:{}", dir.path().display());
        let looked = places(&own, Some(OsStr::new(&path)));
        let names = [dir.path().join(PROGRAM), dir.path().join(HIDDEN), "/a/fairlead-tools".into()];
        assert_eq!(looked, names);
        assert_eq!(beside(&own), None);
        fs::write(&names[1], "").unwrap();
        assert_eq!(beside(&own), None, "it must be a program");
        fs::set_permissions(&names[1], fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(beside(&own), Some(names[1].clone()));
    }

    #[test]
    fn where_it_is_missing_is_said_with_every_place() {
        let text = missing("doctor", &places(Path::new("/b/fairlead"), Some(OsStr::new("/a"))));
        for word in ["\"doctor\"", "/b/fairlead-tools", "/b/.fairlead-tools", "/a/fairlead-tools"] {
            assert!(text.contains(word), "{text}");
        }
        assert!(is_for("migrate") && !is_for("list"));
    }
}
