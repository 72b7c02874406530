//! How long a pod's ADD and DEL take: ours, the reference plugins executed one after the other, and the kernel's own work.
//! Part of `hack/bench/pod`, which builds it and gives it namespaces of its own:
//!
//! `bench_pod pod|vf ROUNDS FOLDER FAIRLEAD PLUGINS [AGENT | VF]`
//!
//! In each round every contender makes and removes one pod in a fresh network namespace, in another order each time, so that
//! other work on the machine hits all of them. Ratios are of times of the same round.

mod floor;
mod plugins;
mod pod;
mod timing;
mod vf;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use self::timing::{Contender, Table};

/// What goes wrong here ends the program, with these words.
type Result<T> = std::result::Result<T, String>;

const USAGE: &str = "usage: bench_pod pod|vf ROUNDS FOLDER FAIRLEAD PLUGINS [AGENT | VF]";

/// A pod's network namespace, mounted as runtimes do it.
struct Sandbox {
    /// Also the container's ID.
    id: String,
    path: PathBuf,
}

impl Sandbox {
    fn new(folder: &Path, id: &str) -> Result<Self> {
        let path = folder.join(id);
        fs::write(&path, "").map_err(|error| format!("{}: {error}", path.display()))?;
        let mounted = thread::scope(|scope| {
            let made = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)?;
                let own = Some("/proc/thread-self/ns/net");
                mount(own, &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            });
            made.join()
        });
        match mounted {
            Ok(Ok(())) => Ok(Self { id: id.to_owned(), path }),
            Ok(Err(errno)) => Err(format!("a network namespace at {}: {errno}", path.display())),
            Err(_) => Err("the thread that makes a namespace panicked".to_owned()),
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.path);
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench_pod: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Table> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, rounds, folder, fairlead, plugins, last] = arguments.as_slice() else {
        return Err(USAGE.to_owned());
    };
    let rounds: usize = rounds.parse().map_err(|error| format!("ROUNDS {rounds:?}: {error}"))?;
    let (folder, fairlead, plugins) = (Path::new(folder), Path::new(fairlead), Path::new(plugins));
    let sandboxes = folder.join("ns");
    fs::create_dir_all(&sandboxes).map_err(|error| format!("{}: {error}", sandboxes.display()))?;
    match mode.as_str() {
        "pod" => {
            let bed = pod::Bed::new(folder, fairlead, plugins, Path::new(last))?;
            race(rounds, &sandboxes, &bed.contenders()?)
        }
        "vf" => race(rounds, &sandboxes, &vf::contenders(folder, fairlead, plugins, last)?),
        _ => Err(USAGE.to_owned()),
    }
}

fn race(rounds: usize, folder: &Path, contenders: &[Box<dyn Contender>]) -> Result<Table> {
    let mut table = Table::new(contenders.iter().map(|contender| contender.name()));
    // The first round fills the kernel's caches.
    for round in 0..=rounds {
        for turn in 0..contenders.len() {
            let which = (round + turn) % contenders.len();
            let sandbox = Sandbox::new(folder, &format!("bench-{round}-{which}"))?;
            let times = contenders[which].once(&sandbox);
            let times = times.map_err(|error| format!("{}: {error}", contenders[which].name()))?;
            if round > 0 {
                table.add(which, times);
            }
        }
    }
    Ok(table)
}
