//! A host, a VM and a server where doctor finds nothing, and what the tests ask of it.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::fixture::lan::{ANYWHERE, Lan, socket};
use crate::fixture::{BINARY, Ns, Tool, guest};
use libbpf_rs::query::ProgInfoIter;
use serde_json::Value;

pub const CLIENT: &str = "192.168.122.10";

pub const SERVER: &str = "172.17.0.2";

pub const OTHER_MAC: &str = "02:00:00:00:00:77";

/// A host, a VM and a server that lack nothing: packets arrive, and replies find their way.
pub struct Bed {
    pub lan: Lan,
}

/// What doctor finds, but hints.
pub fn findings(tool: &Tool) -> Vec<Value> {
    let all = tool.run("doctor --json").json();
    without_hints(all.as_array().expect("an array").clone())
}

fn without_hints(mut all: Vec<Value>) -> Vec<Value> {
    all.retain(|finding| finding["severity"] != "hint");
    guest::without_guesses(all)
}

impl Bed {
    pub fn bare() -> Self {
        let lan = Lan::new(false, 1);
        lan.host.ip("addr add 172.17.0.1/16 dev wan0");
        lan.host.sysctl("net/ipv4/ip_forward", "1");
        lan.servers[0].ip("route add default via 172.17.0.1");
        Bed::of(lan)
    }

    pub fn of(lan: Lan) -> Self {
        lan.servers.iter().for_each(no_datagrams_together);
        no_datagrams_together(&lan.vm);
        Bed { lan }
    }

    pub fn new(mode: &str) -> Self {
        let bed = Bed::bare();
        bed.tool().ok(&format!("attach lan --mode {mode}"));
        bed.tool()
            .ok(&format!("rule add --src {CLIENT} --server {SERVER}"));
        bed
    }

    pub fn tool(&self) -> Tool<'_> {
        self.lan.tool()
    }

    pub fn host(&self) -> &Ns {
        &self.lan.host
    }

    pub fn server(&self) -> &Ns {
        &self.lan.servers[0]
    }

    /// Another server in its place, with its address, behind a device of the host's that has none itself.
    pub fn restart_server(&mut self, device: &str) {
        let started = Ns::new("server");
        // Removed with the old namespace's end, made again.
        self.host().ip("link del wan0");
        self.host().veth(device, &started, "eth0");
        started.ip(&format!("addr add {SERVER}/16 dev eth0"));
        started.ip("route add default via 172.17.0.1");
        self.lan.servers[0] = started;
    }

    /// The server has another address.
    pub fn readdress_server(&self, address: &str) {
        let server = self.server();
        server.ip("addr flush dev eth0");
        server.ip(&format!("addr add {address}/16 dev eth0"));
        server.ip("route add default via 172.17.0.1");
    }

    /// What would be faster.
    pub fn hints(&self) -> Vec<Value> {
        let all = self.tool().json("doctor");
        let all = all.as_array().expect("an array").clone().into_iter();
        all.filter(|finding| finding["severity"] == "hint")
            .collect()
    }

    pub fn findings(&self) -> Vec<Value> {
        self.findings_of("doctor --json")
    }

    #[track_caller]
    pub fn findings_of(&self, words: &str) -> Vec<Value> {
        let run = self.tool().run(words);
        let all = run.json().as_array().expect("an array").clone();
        let is_problem = |f: &Value| f["severity"] == "problem" && f["fixed"] == false;
        let code = if all.iter().any(is_problem) { 7 } else { 0 };
        assert_eq!(run.code, code, "{run:?}");
        without_hints(all)
    }

    /// The only finding.
    #[track_caller]
    pub fn finds(&self, check: &str, severity: &str, evidence: &[&str]) -> Value {
        let all = self.findings();
        assert_eq!(all.len(), 1, "{all:#?}");
        assert_finding(&all[0], check, severity, evidence);
        all[0].clone()
    }

    #[track_caller]
    pub fn finds_nothing(&self) {
        let all = self.findings();
        assert!(all.is_empty(), "{all:#?}");
    }

    /// Nothing but losses whose cause is gone.
    #[track_caller]
    pub fn finds_history(&self, evidence: &str) {
        let finding = self.finds("losses", "warning", &[evidence, "the cause is gone"]);
        let mend = finding["mend"].as_str().expect("a mend");
        assert!(mend.starts_with("nothing to do"), "{finding:#}");
    }

    /// Mends all that is found, and leaves no problem.
    #[track_caller]
    pub fn fix(&self) -> String {
        self.tool().ok("doctor --fix --yes").out
    }

    /// The first command that a finding's mend names.
    pub fn mend_of(finding: &Value) -> String {
        let mend = finding["mend"].as_str().expect("a text");
        let command = mend.split('`').nth(1);
        command.expect("a command").to_string()
    }

    /// Does what a finding says.
    pub fn paste(&self, finding: &Value) {
        for command in Self::mend_of(finding).split(" && ") {
            let command = match command.strip_prefix("xdpredir") {
                Some(words) => format!("{BINARY}{words}"),
                None => command.to_string(),
            };
            self.host().exec(&command);
        }
    }

    /// Whether a datagram from the VM reaches the server.
    pub fn arrives(&self) -> bool {
        let from = self.lan.vm_socket();
        let to = socket(self.server(), "0.0.0.0:7999");
        to.set_read_timeout(Some(guest::patience(500)))
            .expect("a timeout");
        // Refused where the VM itself has no link.
        let _ = from.send_to(b"hello ebpf", ANYWHERE);
        to.recv(&mut [0; 64]).is_ok()
    }

    pub fn backend(&self) -> Value {
        self.tool().json("rule list")[0].clone()
    }

    pub fn gro(&self) -> bool {
        let features = self.server().exec("ethtool -k eth0");
        features.contains("generic-receive-offload: on")
    }

    /// The name and mode of the XDP program at the server's device.
    pub fn program(&self) -> Option<String> {
        let shown = self.server().ip("-j -d link show eth0");
        let links: Value = serde_json::from_str(&shown).expect("JSON");
        let id = links[0]["xdp"]["prog"]["id"].as_u64()?;
        let mode = match links[0]["xdp"]["mode"].as_u64() {
            Some(1) => "native",
            _ => "skb",
        };
        let found = ProgInfoIter::default().find(|program| u64::from(program.id) == id);
        let name = found.expect("the program is loaded").name;
        Some(format!("{} ({mode})", name.to_string_lossy()))
    }

    /// A rule for TCP, too, by the same device.
    pub fn tcp_too(&self) {
        let tool = self.tool();
        tool.ok(&format!("rule add --proto tcp --port 80 --server {SERVER}"));
    }

    pub fn gro_off(&self) {
        self.server().exec("ethtool -K eth0 gro off");
    }
}

/// A veth lets its senders hand over several datagrams as one frame, which in skb mode is a warning.
pub fn no_datagrams_together(ns: &Ns) {
    ns.exec("ethtool -K eth0 tx-udp-segmentation off");
}

pub fn send(from: &UdpSocket) {
    from.send_to(b"hello ebpf", ANYWHERE).expect("it is sent");
}

#[track_caller]
pub fn assert_finding(finding: &Value, check: &str, severity: &str, evidence: &[&str]) {
    assert_eq!(finding["check"], check, "{finding:#}");
    assert_eq!(finding["severity"], severity, "{finding:#}");
    for text in ["subject", "consequence", "mend"] {
        assert_ne!(finding[text], "", "{finding:#}");
    }
    let said = finding["evidence"].as_str().expect("evidence");
    for word in evidence {
        assert!(said.contains(word), "{word:?} is missing: {finding:#}");
    }
}

/// Lets the host hear of a server, and of its MAC address: it answers the question for its own.
pub fn speak(server: &Ns) {
    let from = socket(server, "0.0.0.0:0");
    from.send_to(b"here", "172.17.0.1:9").expect("it is sent");
    let give_up = Instant::now() + Duration::from_secs(10);
    while !server.ip("neigh show 172.17.0.1").contains("lladdr") {
        assert!(Instant::now() < give_up, "the host does not answer");
    }
}

pub fn is_up(ns: &Ns, device: &str) -> bool {
    ns.ip(&format!("link show {device}")).contains(",UP")
}
