//! A small kubectl: enough to apply, look at, wait for, enter and delete what the stand-ins serve, with the output people know.

mod describe;
mod display;
mod manifests;
mod node_socket;
mod rest;
mod waiting;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use self::rest::{Rest, Which};
use crate::apiserver::Kind;

/// Arguments of `testbed kubectl`.
#[derive(Args)]
pub struct Kubectl {
    /// The API server.
    #[arg(long, global = true, default_value = "http://127.0.0.1:6443")]
    server: String,
    /// The namespace.
    #[arg(short, long, global = true, default_value = "default")]
    namespace: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Creates or changes what the files say.
    Apply(Apply),
    /// Shows objects.
    Get(Get),
    /// Shows a node and what its pods take of it.
    Describe(Describe),
    /// Deletes objects.
    Delete(Delete),
    /// Runs a command in a container of this node.
    Exec(Exec),
    /// Shows what a container of this node has written.
    Logs(Logs),
    /// Waits until an object is as wanted.
    Wait(Wait),
}

#[derive(Args)]
struct Apply {
    /// YAML or JSON files; `-` is standard input.
    #[arg(short, long, required = true)]
    filename: Vec<PathBuf>,
}

#[derive(Args)]
struct Get {
    /// KIND, KIND/NAME, or KIND NAME...
    #[arg(required = true)]
    what: Vec<String>,
    /// In all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// How to show it.
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    /// Label selector.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Field selector.
    #[arg(long)]
    field_selector: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Json,
    Yaml,
    Wide,
    Name,
}

#[derive(Args)]
struct Describe {
    /// `node NAME`, or `node` for all.
    #[arg(required = true)]
    what: Vec<String>,
}

#[derive(Args)]
struct Delete {
    /// KIND NAME..., or KIND/NAME...
    what: Vec<String>,
    /// Deletes what the files say.
    #[arg(short, long)]
    filename: Vec<PathBuf>,
    /// Waits until the objects are gone.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    wait: bool,
    /// With one second of grace.
    #[arg(long)]
    now: bool,
    /// Seconds of grace.
    #[arg(long, conflicts_with = "now")]
    grace_period: Option<u32>,
    /// How long to wait, such as 90s or 5m.
    #[arg(long, value_parser = seconds, default_value = "5m")]
    timeout: Duration,
}

#[derive(Args)]
struct Exec {
    /// Pod's name.
    pod: String,
    /// Container's name; the pod's only or newest one without.
    #[arg(short, long)]
    container: Option<String>,
    /// Gives up after so long.
    #[arg(long, value_parser = seconds, default_value = "2m")]
    timeout: Duration,
    /// Shows output as it comes, without a time limit (by way of ctr).
    #[arg(long)]
    stream: bool,
    #[command(flatten)]
    node: NodeSocket,
    /// What to run.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Args)]
struct Logs {
    /// Pod's name.
    pod: String,
    /// Container's name.
    #[arg(short, long)]
    container: Option<String>,
    #[command(flatten)]
    node: NodeSocket,
}

#[derive(Args)]
struct NodeSocket {
    /// Folder of this node's stand-in kubelet.
    #[arg(long, default_value = "/var/lib/kubelet")]
    root: PathBuf,
}

#[derive(Args)]
struct Wait {
    /// KIND NAME..., or KIND/NAME...
    #[arg(required = true)]
    what: Vec<String>,
    /// Ready or another condition, Failed or another phase, or Deleted.
    #[arg(long = "for")]
    wanted: String,
    /// How long, such as 90s or 5m.
    #[arg(long, value_parser = seconds, default_value = "30s")]
    timeout: Duration,
}

/// Reads `90s`, `5m`, `1h` or plain seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "s"),
    };
    let number: u64 = number.parse().map_err(|_| "use seconds or such as 90s, 5m, 1h".to_string())?;
    let factor = match unit {
        "h" => 3600,
        "m" => 60,
        _ => 1,
    };
    Ok(Duration::from_secs(number * factor))
}

/// Runs one command; the result is the exit code.
pub async fn run(arguments: Kubectl) -> Result<ExitCode> {
    let rest = Rest::new(&arguments.server)?;
    let namespace = arguments.namespace;
    match arguments.command {
        Command::Apply(apply) => manifests::apply(&rest, &namespace, &apply.filename).await?,
        Command::Get(get) => self::get(&rest, &namespace, get).await?,
        Command::Describe(what) => describe(&rest, &what).await?,
        Command::Delete(delete) => self::delete(&rest, &namespace, delete).await?,
        Command::Exec(exec) => return node_socket::exec(&namespace, exec).await,
        Command::Logs(logs) => node_socket::logs(&namespace, logs).await?,
        Command::Wait(wait) => {
            for which in which(&namespace, &wait.what)? {
                waiting::wait(&rest, &which, &wait.wanted, wait.timeout).await?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn get(rest: &Rest, namespace: &str, get: Get) -> Result<()> {
    let (kind, names) = kind_and_names(&get.what)?;
    let namespace = (!get.all_namespaces).then_some(namespace);
    let mut objects = Vec::new();
    for name in &names {
        objects.push(rest.get(&Which::new(kind, namespace.unwrap_or("default"), name)).await?);
    }
    if names.is_empty() {
        objects = rest.list(kind, namespace, get.selector.as_deref(), get.field_selector.as_deref()).await?;
    }
    match get.output {
        Some(Output::Json) => {
            println!("{}", serde_json::to_string_pretty(&one_or_list(objects, !names.is_empty()))?);
        }
        Some(Output::Yaml) => {
            print!(
                "{}",
                serde_saphyr::to_string(&one_or_list(objects, !names.is_empty())).context("write YAML")?
            );
        }
        Some(Output::Name) => {
            for object in &objects {
                println!("{}", display::reference(kind, object));
            }
        }
        None | Some(Output::Wide) if objects.is_empty() => match namespace.filter(|_| kind.namespaced) {
            Some(namespace) => eprintln!("No resources found in {namespace} namespace."),
            None => eprintln!("No resources found"),
        },
        output => {
            print!("{}", display::table(kind, &objects, output == Some(Output::Wide), get.all_namespaces));
        }
    }
    Ok(())
}

/// One object when it was named, else a list.
fn one_or_list(mut objects: Vec<Value>, named: bool) -> Value {
    if named && objects.len() == 1 {
        return objects.remove(0);
    }
    serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects })
}

async fn describe(rest: &Rest, describe: &Describe) -> Result<()> {
    let (kind, names) = kind_and_names(&describe.what)?;
    if kind.kind != "Node" {
        bail!("describe does nodes only; try: get {} -o yaml, get events", kind.plural);
    }
    let pods = rest.list(Kind::named("Pod").context("pods are served")?, None, None, None).await?;
    for node in rest.list(kind, None, None, None).await? {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        if names.is_empty() || names.iter().any(|n| n == name) {
            print!("{}", describe::node(&node, &pods));
        }
    }
    Ok(())
}

async fn delete(rest: &Rest, namespace: &str, delete: Delete) -> Result<()> {
    let mut all = manifests::which(namespace, &delete.filename)?;
    if !delete.what.is_empty() {
        all.extend(which(namespace, &delete.what)?);
    }
    if all.is_empty() {
        bail!("nothing to delete: give -f FILE, or a kind and names");
    }
    let grace = if delete.now { Some(1) } else { delete.grace_period };
    let mut deleted = Vec::new();
    for which in &all {
        deleted.push((which, rest.delete(which, grace).await?));
        println!("{} \"{}\" deleted", display::kind_name(which.kind), which.name);
    }
    if delete.wait {
        for (which, uid) in &deleted {
            waiting::gone(rest, which, uid, delete.timeout).await?;
        }
    }
    Ok(())
}

/// `KIND NAME...` or `KIND/NAME...`, at least one.
fn which(namespace: &str, what: &[String]) -> Result<Vec<Which>> {
    if what.iter().all(|w| w.contains('/')) {
        let each = what.iter().map(|w| {
            let (kind, names) = kind_and_names(std::slice::from_ref(w))?;
            Ok(Which::new(kind, namespace, &names.concat()))
        });
        return each.collect();
    }
    let (kind, names) = kind_and_names(what)?;
    if names.is_empty() {
        bail!("which {}? give its name", kind.plural);
    }
    Ok(names.iter().map(|name| Which::new(kind, namespace, name)).collect())
}

/// `KIND`, `KIND NAME...` or `KIND/NAME`.
fn kind_and_names(what: &[String]) -> Result<(&'static Kind, Vec<String>)> {
    let first = what.first().map(String::as_str).unwrap_or_default();
    let (kind, mut names) = match first.split_once('/') {
        Some((kind, name)) => (kind, vec![name.to_string()]),
        None => (first, Vec::new()),
    };
    names.extend(what.iter().skip(1).cloned());
    let kind = Kind::named(kind)
        .with_context(|| format!("the stand-in API server does not serve {kind:?}; it has {}", kinds()))?;
    Ok((kind, names))
}

fn kinds() -> String {
    crate::apiserver::KINDS.iter().map(|k| k.plural).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(seconds("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(seconds("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(seconds("7"), Ok(Duration::from_secs(7)));
        assert!(seconds("x").is_err() && seconds("").is_err());
    }

    #[test]
    fn what_is_meant() {
        let words = |list: &[&str]| list.iter().map(|w| (*w).to_string()).collect::<Vec<_>>();
        let (kind, names) = kind_and_names(&words(&["po", "a", "b"])).unwrap();
        assert_eq!((kind.kind, names), ("Pod", words(&["a", "b"])));
        let all = which("n", &words(&["pod/a", "node/b"])).unwrap();
        assert_eq!((all[0].name.as_str(), all[1].kind.kind), ("a", "Node"));
        assert!(which("n", &words(&["pod"])).is_err());
        assert!(kind_and_names(&words(&["deployment"])).unwrap_err().to_string().contains("pods"));
    }
}
