//! A made-up testpmd: prompt, commands and telemetry like the real one's, with faults on demand.

use std::fs;
use std::io::{BufRead, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept, bind, listen, recv, send, socket,
};

/// What the port does, and what it has counted.
#[derive(Default)]
struct Port {
    mode: String,
    runs: bool,
    injected: bool,
    sent: u64,
    received: u64,
}

/// What a paced one carries at most, in Mbit/s.
const CARRIES: u64 = 500;

fn variable(name: &str) -> String {
    std::env::var(name).unwrap()
}

fn argument(name: &str) -> String {
    let arguments = variable("FAKE_ARGUMENTS");
    let mut words = arguments.split(' ');
    words.find(|word| *word == name).unwrap();
    words.next().unwrap().to_owned()
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).unwrap();
    out.flush().unwrap();
}

fn hang() -> ! {
    loop {
        thread::sleep(Duration::from_secs(1000));
    }
}

/// Not a test: the made-up testpmd, when the script of a test starts it.
#[test]
#[ignore = "started by the tests"]
fn testpmd() {
    let behaviour = variable("FAKE_BEHAVIOUR");
    if behaviour == "hang" || behaviour == "mute" {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGTERM);
        signals.thread_block().unwrap();
    }
    let arguments = variable("FAKE_ARGUMENTS");
    let device = if arguments.contains("--vdev=") { "net_af_packet0".to_owned() } else { argument("-a") };
    let prefix = argument("--file-prefix");
    // The first port of another pod is the second of the run.
    let side =
        std::env::var("FAKE_SIDE").unwrap_or_else(|_| prefix.trim_start_matches("fairlead-").to_owned());
    let folder = PathBuf::from(variable("FAKE_FOLDER"));
    fs::write(folder.join(format!("folder-{side}")), variable("RUNTIME_DIRECTORY")).unwrap();
    fs::write(folder.join(format!("pid-{side}")), std::process::id().to_string()).unwrap();
    if behaviour == "mute" {
        hang();
    }
    let own = Path::new(&variable("RUNTIME_DIRECTORY")).join("dpdk").join(&prefix);
    fs::create_dir_all(&own).unwrap();
    let port = Arc::new(Mutex::new(Port::default()));
    serve(&own.join("dpdk_telemetry.v2"), device, side.clone(), Arc::clone(&port));
    if behaviour == "portless" {
        say("testpmd: No probed ethernet devices\n");
    }
    say("Interactive-mode selected\ntestpmd> ");
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        say(&format!("{line}\r\n"));
        obey(&line, &behaviour, &side, &folder, &mut port.lock().unwrap());
        say("testpmd> ");
    }
    std::process::exit(0);
}

fn obey(line: &str, behaviour: &str, side: &str, folder: &Path, port: &mut Port) {
    match (line, behaviour) {
        ("set fwd rxonly", "refuse") => say("Bad arguments\r\n"),
        ("start", "crash") => {
            say("EAL: Cannot set up DMA remapping, error 12 (Cannot allocate memory)\nEAL: error 12\n");
            std::process::abort();
        }
        ("start", "hang") => {
            fs::write(folder.join("hanging"), "").unwrap();
            hang();
        }
        ("start", "vanish") => {
            thread::spawn(|| {
                thread::sleep(Duration::from_millis(5));
                std::process::exit(9);
            });
        }
        ("start", _) => port.runs = true,
        ("stop", _) => {
            port.runs = false;
            port.injected = false;
        }
        ("quit", _) => std::process::exit(0),
        _ => other(line, behaviour, side, folder, port),
    }
}

fn other(line: &str, behaviour: &str, side: &str, folder: &Path, port: &mut Port) {
    let peer = format!("set eth-peer 0 02:00:00:00:00:0{}", if side == "a" { "b" } else { "a" });
    if let Some(mode) = line.strip_prefix("set fwd ") {
        port.mode = mode.to_owned();
    } else if let Some(rate) = line.strip_prefix("set port 0 queue 0 rate ") {
        if behaviour == "paced" {
            fs::write(folder.join("rate"), rate).unwrap();
        } else {
            say("rte_eth_set_queue_rate_limit for port_id=0 failed diag=-95\r\n");
        }
    } else if line.starts_with("start tx_first ") {
        port.runs = true;
        port.injected = true;
    } else if !line.starts_with("set txpkts ") && !line.starts_with("set burst ") && line != peer {
        say("Command not found\r\n");
    }
}

/// How many frames pass between two looks at the counters: sent, received.
fn traffic(behaviour: &str, port: &Port) -> (u64, u64) {
    let rate = fs::read_to_string(Path::new(&variable("FAKE_FOLDER")).join("rate")).unwrap_or_default();
    let rate: u64 = if behaviour == "paced" { rate.parse().unwrap_or(0) } else { 0 };
    match port.mode.as_str() {
        _ if !port.runs => (0, 0),
        "txonly" if rate > 0 => (10 * rate, 0),
        "rxonly" if rate > 0 => (0, 10 * rate.min(CARRIES)),
        "txonly" => (2000, 0),
        "rxonly" => (0, 1000),
        _ if port.injected => (500, 500),
        _ => (500, 800),
    }
}

fn serve(path: &Path, device: String, side: String, port: Arc<Mutex<Port>>) {
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::empty(), None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    thread::spawn(move || {
        let client = accept(listener.as_raw_fd()).unwrap();
        let answer = |text: &str| send(client, text.as_bytes(), MsgFlags::empty()).unwrap();
        answer(r#"{"version":"DPDK 24.11.8","pid":1,"max_output_len":16384}"#);
        let mut buffer = [0; 4096];
        loop {
            let length = recv(client, &mut buffer, MsgFlags::empty()).unwrap();
            if length == 0 {
                return;
            }
            let question = String::from_utf8_lossy(&buffer[..length]).into_owned();
            answer(&reply(&question, &device, &side, &mut port.lock().unwrap()));
        }
    });
}

fn reply(question: &str, device: &str, side: &str, port: &mut Port) -> String {
    let behaviour = variable("FAKE_BEHAVIOUR");
    let value = match question {
        "/ethdev/list" if behaviour == "portless" => "[]".to_owned(),
        "/ethdev/list" => "[0]".to_owned(),
        "/ethdev/info,0" => {
            format!(r#"{{"name":"{device}","mac_addr":"02:00:00:00:00:0{}"}}"#, side.to_uppercase())
        }
        "/ethdev/link_status,0" if behaviour == "linkless" => r#"{"status":"DOWN"}"#.to_owned(),
        "/ethdev/link_status,0" => r#"{"status":"UP","speed":1000,"duplex":"full-duplex"}"#.to_owned(),
        "/ethdev/stats,0" => {
            let (sent, received) = traffic(&behaviour, port);
            port.sent += sent;
            port.received += received;
            let (sent, received) = (port.sent, port.received);
            let (sent_bytes, received_bytes) = (sent * 64, received * 64);
            format!(
                r#"{{"ipackets":{received},"opackets":{sent},"ibytes":{received_bytes},"obytes":{sent_bytes},
                "imissed":0,"ierrors":0,"oerrors":0,"rx_nombuf":0,"q_ipackets":[0]}}"#
            )
        }
        _ => "null".to_owned(),
    };
    let command = question.split(',').next().unwrap();
    format!(r#"{{"{command}":{value}}}"#)
}
