//! What keeps packets from arriving is found, said and mended, and mends are put back.

mod fixture;

use std::io::Write;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fixture::guest;
use fixture::lan::{ANYWHERE, Lan, mac, receive, socket};
use fixture::packet::{Checksum, Frame};
use fixture::run::pinned;
use fixture::tap::Tap;
use fixture::{BINARY, Ns, Run, Tool, command};
use libbpf_rs::{MapCore, MapFlags, libbpf_sys};
use serde_json::Value;

const CLIENT: &str = "192.168.122.10";
const SERVER: &str = "172.17.0.2";
const OTHER_MAC: &str = "02:00:00:00:00:77";

/// A host, a VM and a server that lack nothing: packets arrive, and replies find their way.
struct Bed {
    lan: Lan,
}

impl Bed {
    fn bare() -> Self {
        let lan = Lan::new(false, 1);
        lan.host.ip("addr add 172.17.0.1/16 dev wan0");
        lan.host.sysctl("net/ipv4/ip_forward", "1");
        lan.servers[0].ip("route add default via 172.17.0.1");
        Bed::of(lan)
    }

    fn of(lan: Lan) -> Self {
        lan.servers.iter().for_each(no_datagrams_together);
        no_datagrams_together(&lan.vm);
        Bed { lan }
    }

    fn new(mode: &str) -> Self {
        let bed = Bed::bare();
        bed.tool().ok(&format!("attach lan --mode {mode}"));
        bed.tool()
            .ok(&format!("rule add --src {CLIENT} --server {SERVER}"));
        bed
    }

    fn tool(&self) -> Tool<'_> {
        self.lan.tool()
    }

    fn host(&self) -> &Ns {
        &self.lan.host
    }

    fn server(&self) -> &Ns {
        &self.lan.servers[0]
    }

    fn findings(&self) -> Vec<Value> {
        self.findings_of("doctor --json")
    }

    #[track_caller]
    fn findings_of(&self, words: &str) -> Vec<Value> {
        let run = self.tool().run(words);
        let all = run.json().as_array().expect("an array").clone();
        let is_problem = |f: &Value| f["severity"] == "problem" && f["fixed"] == false;
        let code = if all.iter().any(is_problem) { 7 } else { 0 };
        assert_eq!(run.code, code, "{run:?}");
        guest::without_guesses(all)
    }

    /// The only finding.
    #[track_caller]
    fn finds(&self, check: &str, severity: &str, evidence: &[&str]) -> Value {
        let all = self.findings();
        assert_eq!(all.len(), 1, "{all:#?}");
        assert_finding(&all[0], check, severity, evidence);
        all[0].clone()
    }

    #[track_caller]
    fn finds_nothing(&self) {
        let all = self.findings();
        assert!(all.is_empty(), "{all:#?}");
    }

    /// Nothing but losses whose cause is gone.
    #[track_caller]
    fn finds_history(&self, evidence: &str) {
        let finding = self.finds("losses", "warning", &[evidence, "that is over"]);
        let mend = finding["mend"].as_str().expect("a mend");
        assert!(mend.starts_with("nothing to mend"), "{finding:#}");
    }

    /// Mends all that is found, and leaves no problem.
    #[track_caller]
    fn fix(&self) -> String {
        self.tool().ok("doctor --fix --yes").out
    }

    /// The first command that a finding's mend names.
    fn mend_of(finding: &Value) -> String {
        let mend = finding["mend"].as_str().expect("a text");
        let command = mend.split('`').nth(1);
        command.expect("a command").to_string()
    }

    /// Does what a finding says.
    fn paste(&self, finding: &Value) {
        for command in Self::mend_of(finding).split(" && ") {
            let command = match command.strip_prefix("xdpredir") {
                Some(words) => format!("{BINARY}{words}"),
                None => command.to_string(),
            };
            self.host().exec(&command);
        }
    }

    /// Whether a datagram from the VM reaches the server.
    fn arrives(&self) -> bool {
        let from = self.lan.vm_socket();
        let to = socket(self.server(), "0.0.0.0:7999");
        to.set_read_timeout(Some(guest::patience(500)))
            .expect("a timeout");
        // Refused where the VM itself has no link.
        let _ = from.send_to(b"hello ebpf", ANYWHERE);
        to.recv(&mut [0; 64]).is_ok()
    }

    fn backend(&self) -> Value {
        self.tool().json("rule list")[0].clone()
    }

    fn gro(&self) -> bool {
        let features = self.server().exec("ethtool -k eth0");
        features.contains("generic-receive-offload: on")
    }

    fn gro_off(&self) {
        self.server().exec("ethtool -K eth0 gro off");
    }
}

/// A veth lets its senders hand over several datagrams as one frame, which in skb mode is a warning.
fn no_datagrams_together(ns: &Ns) {
    ns.exec("ethtool -K eth0 tx-udp-segmentation off");
}

fn send(from: &UdpSocket) {
    from.send_to(b"hello ebpf", ANYWHERE).expect("it is sent");
}

#[track_caller]
fn assert_finding(finding: &Value, check: &str, severity: &str, evidence: &[&str]) {
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
fn speak(server: &Ns) {
    let from = socket(server, "0.0.0.0:0");
    from.send_to(b"here", "172.17.0.1:9").expect("it is sent");
    let give_up = Instant::now() + Duration::from_secs(10);
    while !server.ip("neigh show 172.17.0.1").contains("lladdr") {
        assert!(Instant::now() < give_up, "the host does not answer");
    }
}

fn is_up(ns: &Ns, device: &str) -> bool {
    ns.ip(&format!("link show {device}")).contains(",UP")
}

#[test]
fn where_all_is_well_it_says_so_and_what_it_looked_at() {
    let bed = Bed::bare();
    let run = bed.tool().ok("doctor");
    assert!(run.out.starts_with("no problems found"), "{run:?}");
    assert!(run.out.contains("nothing is attached"), "{run:?}");
    for mode in ["native", "skb"] {
        let bed = Bed::new(mode);
        assert!(bed.arrives());
        bed.finds_nothing();
        let run = bed.tool().ok("doctor");
        let looked = "1 interface, 1 rule, 1 server and 1 egress device";
        assert!(run.out.contains(looked), "{run:?}");
        let run = bed.tool().ok("doctor --fix --yes");
        assert!(run.out.starts_with("no problems found"), "{run:?}");
        bed.tool().ok("detach --all");
        assert!(bed.lan.pins.left().is_empty());
    }
}

#[test]
fn gro_is_switched_on_at_a_peer_that_loses_all_and_off_again() {
    let bed = Bed::new("native");
    bed.gro_off();
    assert!(!bed.arrives());
    let found = bed.findings();
    let words = ["peer eth0 in", &bed.server().name, "neither GRO"];
    assert_finding(&found[0], "peer-napi", "problem", &words);
    assert_eq!(found[0]["fixable"], true);
    // And the loss itself, which is history afterwards.
    assert_finding(&found[1], "losses", "warning", &["takes no redirected"]);
    assert_eq!(
        found[1]["consequence"],
        "1 frame was lost there since the backends were added"
    );
    assert!(Bed::mend_of(&found[1]).ends_with("ethtool -K eth0 gro on"));

    let out = bed.fix();
    assert!(out.contains("mended: GRO on at eth0 in"), "{out}");
    assert!(out.contains("no problems found, 1 warning"), "{out}");
    assert!(bed.gro() && bed.arrives());
    bed.finds_history("takes no redirected");

    let run = bed.tool().ok("doctor --undo");
    assert!(run.out.contains("put back: GRO off at eth0"), "{run:?}");
    assert!(!bed.gro() && !bed.arrives());
    assert_eq!(bed.tool().run("doctor").code, 7);
    let run = bed.tool().ok("doctor --undo");
    assert_eq!(run.out, "nothing to undo\n");
}

#[test]
fn frames_that_were_lost_at_a_link_that_was_down_are_history() {
    let bed = Bed::new("native");
    bed.server().ip("link set eth0 down");
    assert!(!bed.arrives());
    let found = bed.findings();
    assert_finding(&found[1], "losses", "warning", &["is down"]);
    assert!(found[1]["mend"].as_str().unwrap().contains(" dev eth0 up`"));
    bed.paste(&found[0]);
    bed.server().ip("route add default via 172.17.0.1");
    bed.finds_history("is down");
    // As it says, the count starts anew.
    bed.tool().ok("rule del --all");
    bed.tool()
        .ok(&format!("rule add --src {CLIENT} --server {SERVER}"));
    bed.finds_nothing();
}

#[test]
fn in_skb_mode_a_peer_without_gro_is_no_finding() {
    let bed = Bed::new("skb");
    bed.gro_off();
    assert!(bed.arrives());
    bed.finds_nothing();
}

#[test]
fn json_says_what_was_fixed() {
    let bed = Bed::new("native");
    bed.gro_off();
    let all = bed.findings_of("doctor --fix --yes --json");
    assert_eq!(all.len(), 1, "{all:#?}");
    assert_finding(&all[0], "peer-napi", "problem", &[]);
    assert_eq!(all[0]["fixed"], true);
    let keys: Vec<&String> = all[0].as_object().expect("an object").keys().collect();
    assert_eq!(
        keys,
        [
            "check",
            "consequence",
            "evidence",
            "fixable",
            "fixed",
            "mend",
            "severity",
            "subject"
        ]
    );
    let undone = bed.tool().json("doctor --undo");
    assert_eq!(undone["undone"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_link_that_is_down_at_either_end_is_set_up_and_down_again() {
    for mode in ["native", "skb"] {
        let bed = Bed::new(mode);
        for (ns, device, words) in [
            (bed.host(), "wan0", "it is down"),
            (bed.server(), "eth0", "its peer eth0 in"),
        ] {
            // A device that goes down loses its routes.
            ns.ip(&format!("link set {device} down"));
            let found = bed.findings();
            assert_finding(&found[0], "link", "problem", &[words]);
            bed.fix();
            assert!(is_up(ns, device));
            bed.tool().ok("doctor --undo");
            assert!(!is_up(ns, device));
            bed.fix();
            assert!(bed.arrives(), "{mode} {device}");
            bed.tool().ok("doctor --undo");
            ns.ip(&format!("link set {device} up"));
            if device == "eth0" {
                ns.ip("route add default via 172.17.0.1");
            }
        }
    }
}

#[test]
fn an_attached_interface_without_a_link_is_mended_at_either_end() {
    for mode in ["native", "skb"] {
        let bed = Bed::new(mode);
        let vm = &bed.lan.vm;
        for (ns, device, words) in [
            (bed.host(), "lan", "it is down"),
            (vm, "eth0", "its peer eth0 in"),
        ] {
            ns.ip(&format!("link set {device} down"));
            assert!(!bed.arrives());
            let finding = bed.finds("link", "problem", &[words]);
            assert_eq!(finding["subject"], "lan");
            assert_eq!(finding["consequence"], "nothing arrives there");
            bed.fix();
            vm.ip("route replace default via 192.168.122.1");
            assert!(bed.arrives(), "{mode} {device}");
            bed.tool().ok("doctor --undo");
            assert!(!is_up(ns, device));
            ns.ip(&format!("link set {device} up"));
        }
    }
}

#[test]
fn a_device_that_is_both_interface_and_egress_is_said_once_to_be_down() {
    let bed = Bed::new("skb");
    bed.tool().ok("attach wan0 --mode skb");
    bed.host().ip("link set wan0 down");
    let found = bed.findings();
    let links = found.iter().filter(|finding| finding["check"] == "link");
    let links: Vec<_> = links.collect();
    assert_eq!(links.len(), 1, "{found:#?}");
    assert_eq!(links[0]["consequence"], "what is redirected to it is lost");
}

#[test]
fn attach_says_that_nothing_arrives() {
    let bed = Bed::bare();
    bed.host().ip("link set lan down");
    let run = bed.tool().ok("attach lan");
    assert!(run.err.contains("lan: nothing arrives there"), "{run:?}");
    bed.host().ip("link add br9 type bridge");
    bed.host().ip("link add p0 type veth peer name p1");
    bed.host().ip("link set p0 master br9");
    bed.host().ip("link set br9 up");
    let run = bed.tool().ok("attach br9");
    assert!(run.err.contains("none of its ports"), "{run:?}");
}

#[test]
fn gro_and_link_are_mended_together() {
    let bed = Bed::new("native");
    bed.gro_off();
    bed.server().ip("link set eth0 down");
    bed.fix();
    assert!(bed.arrives());
    bed.tool().ok("doctor --undo");
    assert!(!bed.gro() && !is_up(bed.server(), "eth0"));
}

#[test]
fn gro_that_was_switched_on_while_the_peer_was_down_is_told_apart() {
    guest::needs_kernel(6, 18, "a veth that takes no frames then");
    let bed = Bed::new("native");
    bed.gro_off();
    bed.server().ip("link set eth0 down");
    bed.server().exec("ethtool -K eth0 gro on");
    bed.server().ip("link set eth0 up");
    bed.server().ip("route add default via 172.17.0.1");
    assert!(!bed.arrives());
    let found = bed.findings();
    assert_finding(&found[0], "peer-napi", "problem", &["while that was down"]);
    bed.server().exec("ethtool -K eth0 gro off");
    bed.server().exec("ethtool -K eth0 gro on");
    assert!(bed.arrives());
}

#[test]
fn a_tap_without_a_reader_has_no_link() {
    let bed = Bed::new("skb");
    bed.host().ip("tuntap add tap0 mode tap");
    bed.host().ip("link set tap0 up");
    let words = format!("rule add --port 1 --server 172.17.0.9 --mac {OTHER_MAC} --dev tap0");
    bed.tool().ok(&words);
    bed.finds("link", "problem", &["no link"]);
}

/// A VM that is off is no fault.
#[test]
fn an_attached_tap_without_a_reader_is_a_warning() {
    let bed = Bed::new("skb");
    bed.host().ip("tuntap add tap0 mode tap");
    bed.host().ip("link set tap0 up");
    bed.tool().ok("attach tap0 --mode skb");
    bed.finds("link", "warning", &["no link"]);
}

#[test]
fn a_mac_address_that_the_peer_has_no_more_is_refreshed_in_all_rules_and_put_back() {
    let bed = Bed::new("native");
    bed.tool().ok(&format!(
        "rule add --src {CLIENT} --port 1 --server {SERVER}"
    ));
    assert!(bed.arrives());
    let before = mac(bed.server(), "eth0");
    bed.server()
        .ip(&format!("link set eth0 address {OTHER_MAC}"));
    assert!(!bed.arrives());
    let finding = bed.finds("mac", "problem", &[&before, OTHER_MAC, "eth0 in"]);
    assert_eq!(finding["fixable"], true);

    let out = bed.fix();
    assert!(out.contains("mended: server 172.17.0.2"), "{out}");
    assert!(out.contains("in 2 rules"), "{out}");
    assert!(bed.arrives());
    let rules = bed.tool().json("rule list");
    assert!(
        rules
            .as_array()
            .unwrap()
            .iter()
            .all(|r| r["mac"] == OTHER_MAC)
    );
    // 2 before the mend, one after it: counters are kept.
    let packets = |rules: &Value| {
        let rules = rules.as_array().unwrap().iter();
        rules
            .map(|r| r["forward_packages"].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(packets(&rules), 3);

    bed.tool().ok("doctor --undo");
    let rules = bed.tool().json("rule list");
    assert!(
        rules
            .as_array()
            .unwrap()
            .iter()
            .all(|r| r["mac"] == before.as_str())
    );
    assert_eq!(packets(&rules), 3);
    assert!(!bed.arrives());
}

#[test]
fn a_backend_that_somebody_has_changed_since_is_not_put_back() {
    let bed = Bed::new("skb");
    bed.server()
        .ip(&format!("link set eth0 address {OTHER_MAC}"));
    bed.fix();
    let another = "02:00:00:00:00:78";
    bed.tool().ok(&format!(
        "rule add --src {CLIENT} --server {SERVER} --mac {another}"
    ));
    bed.tool().ok("doctor --undo");
    assert_eq!(bed.backend()["mac"], another);
}

/// A bridge in the server's namespace: the peer can't tell the MAC address, the neighbour table can.
#[test]
fn a_mac_address_that_the_neighbour_table_contradicts_is_refreshed() {
    let bed = Bed::bare();
    let inner = Ns::new("inner");
    bed.server().ip("addr flush dev eth0");
    bed.server().ip("link add br0 type bridge");
    bed.server().ip("link set br0 up");
    bed.server().ip("link set eth0 master br0");
    bed.server().veth("in0", &inner, "eth0");
    bed.server().ip("link set in0 master br0");
    inner.ip(&format!("addr add {SERVER}/16 dev eth0"));
    bed.tool().ok("attach lan --mode skb");
    bed.tool().ok(&format!("rule add --server {SERVER}"));
    bed.finds_nothing();

    let before = bed.backend()["mac"].clone();
    inner.ip(&format!("link set eth0 address {OTHER_MAC}"));
    speak(&inner);
    bed.finds("mac", "problem", &["neighbour table", OTHER_MAC, "wan0"]);
    bed.fix();
    assert_eq!(bed.backend()["mac"], OTHER_MAC);
    bed.tool().ok("doctor --undo");
    assert_eq!(bed.backend()["mac"], before);
}

#[test]
fn an_egress_device_with_another_mac_address_than_the_rules_remember_is_refreshed() {
    let bed = Bed::new("skb");
    bed.host().ip(&format!("link set wan0 address {OTHER_MAC}"));
    bed.finds("source-mac", "problem", &[OTHER_MAC]);
    bed.fix();
    bed.finds_nothing();
    bed.tool().ok("doctor --undo");
    bed.finds("source-mac", "problem", &[OTHER_MAC]);
}

#[test]
fn a_changed_tx_checksum_feature_is_told_to_the_rules() {
    let bed = Bed::new("skb");
    for word in ["off", "on"] {
        bed.host().exec(&format!("ethtool -K wan0 tx {word}"));
        let now = format!("is {word} now");
        bed.finds("checksum", "problem", &[&now]);
        bed.fix();
        assert!(bed.arrives());
        bed.finds_nothing();
    }
    // Natively the program completes all.
    let bed = Bed::new("native");
    bed.host().exec("ethtool -K wan0 tx off");
    bed.finds_nothing();
}

#[test]
fn a_bridge_that_sends_replies_past_the_client_is_a_warning() {
    let lan = Lan::new(true, 1);
    let bed = Bed::of(lan);
    bed.host().ip("addr add 172.17.0.1/16 dev wan0");
    bed.host().sysctl("net/ipv4/ip_forward", "1");
    bed.server().ip("route add default via 172.17.0.1");
    let other = Ns::new("other");
    bed.host().veth("lan2", &other, "eth0");
    bed.host().ip("link set lan2 master virbr0");
    bed.tool().ok("attach lan");
    bed.tool()
        .ok(&format!("rule add --src {CLIENT} --server {SERVER}"));
    let (from, to) = (bed.lan.vm_socket(), bed.lan.server_socket(0));
    from.set_read_timeout(Some(guest::patience(500))).unwrap();
    let answered = || {
        send(&from);
        let (_, client) = receive(&to);
        to.send_to(b"answer", client).expect("it is sent");
        from.recv(&mut [0; 64]).is_ok()
    };
    assert!(answered());
    bed.finds_nothing();
    let vm = mac(&bed.lan.vm, "eth0");
    bed.host()
        .exec(&format!("bridge fdb replace {vm} dev lan2 master static"));
    assert!(!answered());
    bed.finds("bridge-entry", "warning", &["virbr0", &vm, "lan2"]);
}

#[test]
fn a_backend_follows_a_restarted_container_to_its_new_device_and_back() {
    for mode in ["native", "skb"] {
        let mut bed = Bed::new(mode);
        assert!(bed.arrives());
        let before = bed.backend();
        let started = Ns::new("server");
        // Removed with the old namespace's end, made anew with the same name.
        bed.host().ip("link del wan0");
        bed.host().veth("wan0", &started, "eth0");
        bed.host().ip("addr add 172.17.0.1/16 dev wan0");
        started.ip(&format!("addr add {SERVER}/16 dev eth0"));
        started.ip("route add default via 172.17.0.1");
        started.exec("ethtool -K eth0 gro on");
        bed.lan.servers[0] = started;
        assert!(!bed.arrives());

        let gone = format!("ifindex {}, is gone", before["ifindex"]);
        let finding = bed.finds("device", "problem", &[&gone]);
        assert_eq!(finding["fixable"], true);
        bed.fix();
        assert!(bed.arrives());
        let after = bed.backend();
        assert_eq!(after["ifname"], "wan0");
        assert_eq!(after["forward_packages"], 2);

        bed.tool().ok("doctor --undo");
        let back = bed.backend();
        assert_eq!(back["ifindex"], before["ifindex"]);
        assert_eq!(back["mac"], before["mac"]);
        bed.finds("device", "problem", &[&gone]);
    }
}

#[test]
fn a_backend_follows_a_restarted_container_behind_its_bridge() {
    let mut bed = Bed::bare();
    let host = bed.host();
    host.ip("addr flush dev wan0");
    // With an address of its own, as Docker's has: one that changes with its ports clears its neighbours.
    host.ip("link add docker0 address 02:42:00:00:00:01 type bridge");
    let other = Ns::new("other");
    host.veth("wan9", &other, "eth0");
    host.ip("link set wan9 master docker0");
    host.ip("link set docker0 up");
    host.ip("addr add 172.17.0.1/16 dev docker0");
    host.ip("link set wan0 master docker0");
    bed.tool().ok("attach lan --mode skb");
    bed.tool()
        .ok(&format!("rule add --src {CLIENT} --server {SERVER}"));
    assert!(bed.arrives());
    let before = bed.backend();

    // The neighbour table still has the MAC address that the server had before.
    let started = Ns::new("server");
    bed.host().ip("link del wan0");
    bed.host().veth("wan1", &started, "eth0");
    bed.host().ip("link set wan1 master docker0");
    started.ip(&format!("addr add {SERVER}/16 dev eth0"));
    started.ip("route add default via 172.17.0.1");
    bed.lan.servers[0] = started;
    assert!(!bed.arrives());
    bed.finds("device", "problem", &["is gone"]);
    bed.fix();
    assert!(bed.arrives());
    assert_eq!(bed.backend()["ifname"], "wan1");
    bed.tool().ok("doctor --undo");
    assert_eq!(bed.backend()["mac"], before["mac"]);
}

#[test]
fn a_backend_follows_its_namespace_to_a_new_address_and_back() {
    let replaced = |bed: &Bed| {
        bed.server().ip("addr flush dev eth0");
        bed.server().ip("addr add 172.17.0.7/16 dev eth0");
        bed.server().ip("route add default via 172.17.0.1");
    };
    let restarted = |bed: &Bed| {
        bed.host().ip("link del wan0");
        bed.host().veth("wan7", bed.server(), "eth0");
        bed.host().ip("addr add 172.17.0.1/16 dev wan7");
        replaced(bed);
    };
    for check in ["address", "device"] {
        let bed = Bed::bare();
        bed.tool().ok("attach lan --mode skb");
        let netns = &bed.server().name;
        let port = |port| format!("rule add --src {CLIENT} --server-netns {netns} --port {port}");
        bed.tool().ok(&port(7999));
        bed.tool().ok(&port(1));
        assert!(bed.arrives());
        let before = bed.backend();
        if check == "address" {
            replaced(&bed);
        } else {
            restarted(&bed);
        }
        assert!(!bed.arrives());
        assert_eq!(bed.finds(check, "problem", &[])["fixable"], true);

        let said = bed.fix();
        assert!(said.contains("server 172.17.0.2 -> 172.17.0.7"), "{said}");
        assert!(said.contains("in 2 rules"), "{said}");
        assert!(bed.arrives());
        bed.finds_nothing();
        assert_eq!(bed.backend()["server"], "172.17.0.7");

        let said = bed.tool().ok("doctor --undo").out;
        assert!(said.contains("server 172.17.0.7 -> 172.17.0.2"), "{said}");
        let back = bed.backend();
        for key in ["server", "mac", "ifindex", "origin"] {
            assert_eq!(back[key], before[key]);
        }
    }
}

#[test]
fn a_backend_found_at_a_veth_follows_it_to_a_new_address() {
    let bed = Bed::bare();
    bed.tool().ok("attach lan --mode skb");
    bed.tool()
        .ok(&format!("rule add --src {CLIENT} --dev wan0"));
    bed.server().ip("addr flush dev eth0");
    bed.server().ip("addr add 172.17.0.7/16 dev eth0");
    bed.server().ip("route add default via 172.17.0.1");
    assert!(!bed.arrives());
    assert_eq!(bed.finds("address", "problem", &[])["fixable"], true);
    bed.fix();
    assert!(bed.arrives());
}

#[test]
fn an_address_that_another_backend_has_now_is_not_put_back() {
    let bed = Bed::bare();
    bed.tool().ok("attach lan --mode skb");
    let netns = format!("rule add --server-netns {}", bed.server().name);
    bed.tool().ok(&netns);
    bed.server().ip("addr flush dev eth0");
    bed.server().ip("addr add 172.17.0.7/16 dev eth0");
    bed.fix();
    bed.tool().ok(&format!(
        "rule add --server {SERVER} --mac {OTHER_MAC} --dev lan"
    ));
    let before = bed.tool().json("rule list");
    assert_eq!(bed.tool().ok("doctor --undo").out, "nothing to undo\n");
    assert_eq!(bed.tool().json("rule list"), before);
}

#[test]
fn a_server_whose_route_is_gone_is_a_warning() {
    let bed = Bed::new("skb");
    bed.finds_nothing();
    bed.host().ip("addr del 172.17.0.1/16 dev wan0");
    assert_eq!(bed.backend()["state"], "no_route");
    let found = bed.findings();
    let of_route = found.iter().find(|finding| finding["check"] == "route");
    let finding = of_route.expect("the route is missed");
    assert_finding(finding, "route", "warning", &["route"]);
    assert!(bed.arrives());
}

#[test]
fn a_server_that_nobody_finds_is_left_as_it_is_and_said() {
    let bed = Bed::new("skb");
    bed.host().ip("link del wan0");
    let run = bed.tool().run("doctor --fix --yes");
    assert_eq!(run.code, 7, "{run:?}");
    assert!(run.err.contains("no route"), "{run:?}");
    assert!(run.out.contains("is gone"), "{run:?}");
    // What has just failed is not offered again.
    assert!(run.out.ends_with("\n1 problem\n"), "{run:?}");
    let run = bed.tool().run("doctor --fix --yes --json");
    assert_eq!(run.json()[0]["fixable"], false);
}

#[test]
fn a_backend_behind_another_port_of_its_bridge_moves_there() {
    let bed = Bed::bare();
    let (host, server) = (bed.host(), bed.server());
    host.ip("addr flush dev wan0");
    host.ip("link add docker0 type bridge");
    host.ip("link set docker0 up");
    host.ip("addr add 172.17.0.1/16 dev docker0");
    host.ip("link set wan0 master docker0");
    let other = Ns::new("other");
    host.veth("wan1", &other, "eth0");
    host.ip("link set wan1 master docker0");
    let mac = mac(server, "eth0");
    bed.tool().ok("attach lan --mode skb");
    bed.tool().ok(&format!(
        "rule add --src {CLIENT} --server {SERVER} --mac {mac} --dev wan1"
    ));
    assert!(!bed.arrives());
    speak(server);
    let found = bed.findings();
    assert_finding(&found[0], "bridge-port", "problem", &[&mac, "wan0"]);
    bed.fix();
    assert_eq!(bed.backend()["ifname"], "wan0");
    assert!(bed.arrives());
    bed.tool().ok("doctor --undo");
    assert_eq!(bed.backend()["ifname"], "wan1");
}

#[test]
fn an_attached_device_that_is_gone_is_named_and_its_rules_are_kept() {
    let bed = Bed::new("skb");
    bed.host().ip("link del lan");
    bed.paste(&bed.finds("interface", "problem", &["is gone"]));
    assert_eq!(bed.backend()["server"], SERVER);
    bed.finds_nothing();
}

#[test]
fn an_attached_device_that_was_replaced_is_named() {
    let bed = Bed::new("skb");
    bed.host().ip("link del lan");
    bed.host().veth("lan", &bed.lan.vm, "eth0");
    no_datagrams_together(&bed.lan.vm);
    let now = format!("ifindex {}", bed.host().ifindex("lan"));
    let finding = bed.finds("interface", "problem", &["is another one now", &now]);
    bed.paste(&finding);
    assert_eq!(bed.tool().json("status")["interfaces"][0]["mode"], "skb");
    bed.finds_nothing();
}

#[test]
fn an_egress_device_whose_index_another_one_has_now_is_named() {
    let bed = Bed::new("skb");
    let index = bed.host().ifindex("wan0");
    bed.host().ip("link del wan0");
    bed.host().ip(&format!(
        "link add other0 index {index} type veth peer name p0"
    ));
    bed.host().ip("link set other0 up");
    assert!(!bed.arrives());
    bed.finds("device", "problem", &["is another one now", "other0"]);
}

#[test]
fn mtus_that_are_too_small_are_told_apart() {
    let bed = Bed::new("native");
    bed.host().ip("link set wan0 mtu 1400");
    bed.finds("mtu", "problem", &["1400", "lan 1500"]);
    bed.host().ip("link set wan0 mtu 1500");
    bed.server().ip("link set eth0 mtu 1300");
    bed.finds("peer-mtu", "problem", &["1500", "1300", "eth0 in"]);
    bed.server().ip("link set eth0 mtu 1500");
    bed.finds_nothing();
}

#[test]
fn an_egress_device_that_takes_no_native_redirect_is_named() {
    let bed = Bed::new("native");
    bed.host().ip("link add br9 type bridge");
    bed.host().ip("link set br9 up");
    let run = bed.tool().ok(&format!(
        "rule add --port 1 --server 172.17.0.9 --mac {OTHER_MAC} --dev br9"
    ));
    assert!(run.err.contains("NDO_XMIT"), "{run:?}");
    let found = bed.findings();
    assert_finding(
        &found[0],
        "redirect-target",
        "problem",
        &["bridge", "NDO_XMIT"],
    );
    bed.paste(&found[0]);
    assert_eq!(bed.tool().json("status")["interfaces"][0]["mode"], "skb");
    assert_eq!(bed.tool().json("status")["rules"], 2);
}

#[test]
fn a_server_that_has_not_its_address_is_named_unless_it_keeps_the_packets() {
    let bed = Bed::new("skb");
    bed.server().ip(&format!("addr del {SERVER}/16 dev eth0"));
    bed.server().ip("addr add 172.17.0.3/16 dev eth0");
    bed.server().ip("route replace default via 172.17.0.1");
    assert!(!bed.arrives());
    bed.finds("address", "problem", &["172.17.0.2 is no address"]);
    // On another device of the server it counts.
    bed.server().ip(&format!("addr add {SERVER}/32 dev lo"));
    assert!(bed.arrives());
    bed.finds_nothing();
    bed.server().ip(&format!("addr del {SERVER}/32 dev lo"));
    bed.tool().ok(&format!(
        "rule add --src {CLIENT} --server {SERVER} --keep-ip"
    ));
    bed.finds("keep-ip", "warning", &["addresses of networks"]);
    bed.server().ip("addr add 11.22.33.44/32 dev lo");
    bed.finds_nothing();
}

/// Whoever takes the tag off has a MAC address and a namespace of his own.
#[test]
fn where_a_tag_is_pushed_the_peer_tells_nothing_of_the_server() {
    let bed = Bed::bare();
    bed.tool().ok("attach lan --mode skb");
    bed.tool().ok(&format!(
        "rule add --src {CLIENT} --server 172.17.0.9 --mac {OTHER_MAC} --dev wan0 --push-vlan 7"
    ));
    bed.finds_nothing();
}

/// Between the host and a server that has another router than the host: the router has one device.
#[test]
fn a_router_on_a_stick_sends_on_by_the_device_of_arrival() {
    let bed = Bed::bare();
    let (host, router, server) = (bed.host(), bed.server(), Ns::new("behind"));
    host.ip("addr flush dev wan0");
    host.ip("link add br0 type bridge");
    host.ip("link set br0 up");
    host.ip("addr add 172.17.0.1/16 dev br0");
    host.ip("link set wan0 master br0");
    host.veth("wan1", &server, "eth0");
    host.ip("link set wan1 master br0");
    router.ip("addr flush dev eth0");
    router.ip("addr add 172.17.0.3/16 dev eth0");
    router.ip("route add default via 172.17.0.1");
    router.sysctl("net/ipv4/ip_forward", "1");
    let mac = mac(router, "eth0");
    bed.tool().ok("attach lan --mode skb");
    bed.tool().ok(&format!(
        "rule add --src {CLIENT} --server {SERVER} --mac {mac} --dev wan0"
    ));
    let to = socket(&server, "0.0.0.0:7999");
    to.set_read_timeout(Some(guest::patience(700)))
        .expect("a timeout");
    let from = bed.lan.vm_socket();
    // More than once: a neighbour that is about to be given up takes the first with it.
    let arrives = || {
        (0..4).any(|_| {
            send(&from);
            to.recv(&mut [0; 64]).is_ok()
        })
    };
    // On the link, but nobody has it.
    assert!(!arrives());
    bed.finds("address", "problem", &["172.17.0.2 is no address"]);
    server.ip(&format!("addr add {SERVER}/16 dev eth0"));
    assert!(arrives());
    bed.finds_nothing();
    // By a gateway on it.
    server.ip("addr add 172.17.0.4/16 dev eth0");
    router.ip(&format!("route add {SERVER}/32 via 172.17.0.4"));
    assert!(arrives());
    bed.finds_nothing();
    router.sysctl("net/ipv4/ip_forward", "0");
    assert!(!arrives());
    bed.finds("address", "problem", &["172.17.0.2 is no address"]);
}

#[test]
fn a_server_that_drops_by_source_is_named() {
    let bed = Bed::new("skb");
    let side = Ns::new("side");
    bed.server().veth("side0", &side, "eth0");
    bed.server().ip("addr add 10.0.0.1/24 dev side0");
    bed.server().ip("route replace default via 10.0.0.2");
    assert!(bed.arrives());
    bed.finds_nothing();
    bed.server().sysctl("net/ipv4/conf/eth0/rp_filter", "1");
    assert!(!bed.arrives());
    bed.finds(
        "rp-filter",
        "problem",
        &["rp_filter is 1", CLIENT, "another device"],
    );
    // Routing by source leads back all the same.
    bed.server()
        .ip("route add default via 172.17.0.1 table 100");
    bed.server()
        .ip(&format!("rule add from {SERVER} lookup 100"));
    assert!(bed.arrives());
    bed.finds_nothing();
    bed.server()
        .ip(&format!("rule del from {SERVER} lookup 100"));
    bed.server().sysctl("net/ipv4/conf/eth0/rp_filter", "2");
    assert!(bed.arrives());
    bed.finds_nothing();
    bed.server().ip("route del default");
    assert!(!bed.arrives());
    bed.finds("rp-filter", "problem", &["rp_filter is 2", "missing"]);
}

#[test]
fn a_server_that_drops_what_a_rule_for_any_source_brings_is_named() {
    let bed = Bed::bare();
    bed.tool().ok("attach lan --mode skb");
    bed.tool().ok(&format!("rule add --server {SERVER}"));
    bed.server().sysctl("net/ipv4/conf/eth0/rp_filter", "1");
    assert!(bed.arrives());
    bed.finds_nothing();
    let side = Ns::new("side");
    bed.server().veth("side0", &side, "eth0");
    bed.server().ip("addr add 10.0.0.1/24 dev side0");
    bed.server().ip("route replace default via 10.0.0.2");
    assert!(!bed.arrives());
    // All that is known to be behind the interface.
    let words = ["rp_filter is 1", "192.168.122.0/24", "by another device"];
    bed.finds("rp-filter", "problem", &words);
    bed.server().ip("route add 192.168.122.0/24 via 172.17.0.1");
    assert!(bed.arrives());
    bed.finds_nothing();

    // What comes by the host's default route can be from anywhere.
    bed.host().ip("route add default via 192.168.122.10");
    let words = ["any other network", "by another device"];
    let finding = bed.finds("rp-filter", "warning", &words);
    let consequence = finding["consequence"].as_str().unwrap();
    assert!(consequence.contains("may be dropped"), "{finding:#}");
    bed.server().ip("route replace default via 172.17.0.1");
    bed.finds_nothing();
}

#[test]
fn where_nothing_tells_the_sources_they_may_be_dropped() {
    let bed = Bed::bare();
    bed.host().ip("addr flush dev lan");
    bed.tool().ok("attach lan --mode skb");
    bed.tool().ok(&format!("rule add --server {SERVER}"));
    bed.finds_nothing();
    bed.server().ip("route del default");
    bed.finds_nothing();
    bed.server().sysctl("net/ipv4/conf/eth0/rp_filter", "2");
    let words = ["rp_filter is 2", "any other network", "missing"];
    bed.finds("rp-filter", "warning", &words);
}

#[test]
fn replies_that_get_lost_are_a_warning() {
    let bed = Bed::new("skb");
    let (from, to) = (bed.lan.vm_socket(), bed.lan.server_socket(0));
    let answered = || {
        from.set_read_timeout(Some(guest::patience(500))).unwrap();
        send(&from);
        let (_, client) = receive(&to);
        let _ = to.send_to(b"answer", client);
        from.recv(&mut [0; 64]).is_ok()
    };
    assert!(answered());
    bed.host().sysctl("net/ipv4/ip_forward", "0");
    assert!(!answered());
    let finding = bed.finds("replies", "warning", &["forwarding is off"]);
    assert!(finding["mend"].as_str().unwrap().contains("ip_forward=1"));
    bed.host().sysctl("net/ipv4/ip_forward", "1");
    assert!(answered());
    bed.host().sysctl("net/ipv4/conf/wan0/forwarding", "0");
    assert!(!answered());
    bed.finds("replies", "warning", &["by wan0", "forwarding is off"]);
    bed.host().sysctl("net/ipv4/conf/wan0/forwarding", "1");

    let elsewhere = format!("route add {SERVER}/32 via 192.168.122.10");
    bed.host().ip(&elsewhere);
    assert!(answered());
    bed.finds_nothing();
    bed.host().sysctl("net/ipv4/conf/wan0/rp_filter", "1");
    assert!(!answered());
    let words = ["rp_filter is 1", SERVER, "by another device"];
    bed.finds("replies", "warning", &words);
    bed.host().ip(&elsewhere.replace("add", "del"));
    assert!(answered());
    bed.finds_nothing();

    bed.server().ip("route del default");
    bed.finds("replies", "warning", &["no route to 192.168.122.10"]);
}

#[test]
fn a_shadowed_rule_never_sees_a_packet() {
    let bed = Bed::bare();
    bed.tool().ok("attach lan --mode skb");
    let add = |src: &str, port: u16| {
        bed.tool().ok(&format!(
            "rule add --src {src} --port {port} --server {SERVER}"
        ));
    };
    // A half of a half: three rules cover the fourth.
    for src in ["192.168.0.0/16", "192.168.0.0/17", "192.168.128.0/18"] {
        add(src, 7999);
    }
    add("192.168.192.0/18", 8000);
    bed.finds_nothing();
    add("192.168.192.0/18", 7999);
    let finding = bed.finds("shadowed-rule", "warning", &["longer source prefixes"]);
    let subject = finding["subject"].as_str().unwrap();
    assert!(
        subject.contains("192.168.0.0/16 udp port 7999"),
        "{subject}"
    );
}

#[test]
fn a_bridge_that_switches_past_the_program_is_a_warning() {
    let lan = Lan::new(true, 1);
    let bed = Bed::of(lan);
    bed.host().ip("link set wan0 master virbr0");
    bed.server().ip("addr flush dev eth0");
    bed.server().ip("addr add 192.168.122.20/24 dev eth0");
    bed.tool().ok("attach virbr0");
    bed.tool().ok("rule add --server 192.168.122.20");
    bed.finds("bridge", "warning", &["wan0", "its ports"]);
    bed.host().ip("link set virbr0 promisc on");
    bed.finds_nothing();
}

#[test]
fn a_bridge_whose_clients_ports_are_attached_too_is_none() {
    let lan = Lan::new(true, 1);
    let bed = Bed::of(lan);
    bed.host().ip("link set wan0 master virbr0");
    bed.server().ip("addr flush dev eth0");
    bed.server().ip("addr add 192.168.122.20/24 dev eth0");
    bed.tool().ok("attach lan");
    bed.tool().ok("rule add --server 192.168.122.20");
    // It is attached later, and looks at all that are.
    assert_eq!(bed.tool().ok("attach virbr0").err, "");
    bed.finds_nothing();

    let (other, at) = (Ns::new("other"), "192.168.122.11");
    bed.host().veth("lan2", &other, "eth0");
    bed.host().ip("link set lan2 master virbr0");
    other.ip(&format!("addr add {at}/24 dev eth0"));
    no_datagrams_together(&other);
    // What goes to the server itself is switched from port to port.
    let to = socket(bed.server(), "0.0.0.0:7999");
    let forwarded = || bed.backend()["forward_packages"].as_u64().unwrap();
    let switch = |client: &Ns| {
        let from = socket(client, "0.0.0.0:0");
        from.send_to(b"hello", "192.168.122.20:7999")
            .expect("it is sent");
        receive(&to);
    };
    switch(&bed.lan.vm);
    assert_eq!(forwarded(), 1);
    switch(&other);
    assert_eq!(forwarded(), 1);
    bed.finds("bridge", "warning", &["wan0", "lan2"]);
    bed.tool().ok("detach virbr0 --keep-rules");
    bed.tool().ok("attach lan2 virbr0");
    switch(&other);
    assert_eq!(forwarded(), 2);
    bed.finds_nothing();
}

/// Puts all that leaves by a device in a VLAN, as a VLAN device above it does, while it is open.
fn tag_all(ns: &Ns, device: &str, vlan: i32) -> OwnedFd {
    // r2 = 802.1Q in network order; r3 = vlan; bpf_skb_vlan_push(r1, r2, r3); r0 = TCX_PASS; exit
    let instruction = |code: u8, register: u8, value: i32| {
        let mut bytes = [code, register, 0, 0, 0, 0, 0, 0];
        bytes[4..].copy_from_slice(&value.to_ne_bytes());
        bytes
    };
    let program = [
        instruction(0xb7, 2, 0x8100u16.to_be().into()),
        instruction(0xb7, 3, vlan),
        instruction(0x85, 0, libbpf_sys::BPF_FUNC_skb_vlan_push as i32),
        instruction(0xb7, 0, 0),
        instruction(0x95, 0, 0),
    ];
    // SAFETY: the instructions, name and licence outlive the call, which reads as many as are told.
    let program = unsafe {
        OwnedFd::from_raw_fd(libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_SCHED_CLS,
            c"tag_all".as_ptr(),
            c"GPL".as_ptr(),
            program.as_ptr().cast(),
            program.len() as libbpf_sys::size_t,
            std::ptr::null_mut(),
        ))
    };
    let (fd, ifindex) = (program.as_raw_fd(), ns.ifindex(device) as i32);
    let kind = libbpf_sys::BPF_TCX_EGRESS;
    // SAFETY: no options.
    let attach = || unsafe { libbpf_sys::bpf_link_create(fd, ifindex, kind, std::ptr::null()) };
    let link = ns.enter(attach);
    assert!(link >= 0, "tcx takes the program: {link}");
    // SAFETY: a new descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(link) }
}

/// Without asking, in a VLAN where nobody answers.
fn knows_its_router(bed: &Bed, device: &str) {
    let mac = mac(bed.host(), device);
    let neighbour = format!("neigh add 192.168.122.1 lladdr {mac} dev eth0");
    bed.lan.vm.ip(&neighbour);
}

#[test]
fn a_rule_for_a_vlan_whose_tags_travel_beside_the_frames_is_a_problem() {
    guest::needs_kernel(6, 6, "tcx");
    for mode in ["native", "skb"] {
        let bed = Bed::bare();
        knows_its_router(&bed, "lan");
        let _tagged = tag_all(&bed.lan.vm, "eth0", 7);
        bed.tool().ok(&format!("attach lan --mode {mode}"));
        // A rule for what has no tag takes what has one.
        bed.tool().ok(&format!("rule add --server {SERVER}"));
        bed.finds_nothing();
        bed.arrives();
        assert_eq!(bed.backend()["forward_packages"], 1);
        bed.tool().ok("rule del --all");

        let rule = format!("rule add --vlan 7 --server {SERVER} --pop-vlan");
        let run = bed.tool().ok(&rule);
        assert!(run.err.contains("txvlan is on"), "{run:?}");
        assert!(!bed.arrives());
        let words = ["eth0 in", &bed.lan.vm.name, "beside the frames"];
        let finding = bed.finds("vlan-offload", "problem", &words);
        assert_eq!(finding["subject"], "lan");
        // Its own feature changes nothing.
        bed.host().exec("ethtool -K lan rxvlan off");
        assert!(!bed.arrives());
        bed.finds("vlan-offload", "problem", &words);
        bed.paste(&finding);
        assert!(bed.arrives(), "{mode}");
        bed.finds_nothing();
    }
}

#[test]
fn a_bridge_and_a_macvlan_show_no_tags_and_a_tap_shows_them() {
    guest::needs_kernel(6, 6, "tcx");
    let lan = Lan::new(true, 1);
    let bed = Bed::of(lan);
    bed.host().ip("addr add 172.17.0.1/16 dev wan0");
    bed.host().sysctl("net/ipv4/ip_forward", "1");
    bed.server().ip("route add default via 172.17.0.1");
    knows_its_router(&bed, "virbr0");
    bed.lan.vm.exec("ethtool -K eth0 txvlan off");
    let _tagged = tag_all(&bed.lan.vm, "eth0", 7);
    bed.tool().ok("attach virbr0");
    bed.tool()
        .ok(&format!("rule add --vlan 7 --server {SERVER} --pop-vlan"));
    assert!(!bed.arrives());
    bed.finds("vlan-offload", "problem", &["a bridge"]);
    bed.tool().ok("detach virbr0 --keep-rules");
    bed.tool().ok("attach lan virbr0");
    assert!(bed.arrives());
    // Where one of two shows them.
    bed.finds("vlan-offload", "warning", &["a bridge"]);
    bed.tool().ok("detach virbr0");
    bed.finds_nothing();

    bed.host().ip("link add mv0 link wan0 type macvlan");
    bed.host().ip("link set mv0 up");
    bed.tool().ok("attach mv0");
    bed.finds("vlan-offload", "warning", &["a macvlan"]);
    bed.tool().ok("detach mv0");

    let mut tap = Tap::new(bed.host(), "tap0", false);
    for mode in ["native", "skb"] {
        bed.tool().ok(&format!("attach tap0 --mode {mode}"));
        bed.finds_nothing();
        let before = bed.backend()["forward_packages"].as_u64().unwrap();
        let mut frame = Frame {
            dmac: bed.host().mac("tap0"),
            ..Frame::default()
        }
        .bytes();
        frame.splice(12..12, [0x81, 0, 0, 7]);
        tap.write(&frame, Checksum::Full);
        let after = bed.backend()["forward_packages"].as_u64().unwrap();
        assert_eq!(after, before + 1, "{mode}");
        bed.tool().ok("detach tap0");
    }
}

/// It is what auto takes there, whatever keeps native mode away.
#[test]
fn a_tap_in_skb_mode_is_as_it_should_be() {
    let bed = Bed::bare();
    let _tap = Tap::new(bed.host(), "tap0", false);
    bed.host().ip("link set tap0 mtu 9000");
    bed.tool().ok("attach tap0");
    bed.finds_nothing();
}

/// Loads a program that drops everything, and puts it on a device, natively.
fn drop_all(ns: &Ns, device: &str) {
    // r0 = XDP_DROP; exit
    let program = [[0xb7, 0, 0, 0, 1, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0u8]];
    // SAFETY: the instructions, name and licence outlive the call, which reads as many as are told.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_XDP,
            c"stranger".as_ptr(),
            c"GPL".as_ptr(),
            program.as_ptr().cast(),
            program.len() as libbpf_sys::size_t,
            std::ptr::null_mut(),
        )
    };
    assert!(fd > 0, "the kernel takes the program: {fd}");
    let ifindex = ns.ifindex(device) as i32;
    // SAFETY: no options.
    let attach = || unsafe {
        libbpf_sys::bpf_xdp_attach(
            ifindex,
            fd,
            libbpf_sys::XDP_FLAGS_DRV_MODE,
            std::ptr::null(),
        )
    };
    assert_eq!(ns.enter(attach), 0);
}

#[test]
fn another_program_at_the_peer_is_a_warning() {
    for mode in ["native", "skb"] {
        let bed = Bed::new(mode);
        drop_all(bed.server(), "eth0");
        assert!(!bed.arrives());
        bed.finds("foreign-program", "warning", &["stranger", "eth0 in"]);
    }
}

#[test]
fn another_program_below_an_attached_bridge_is_a_warning() {
    let lan = Lan::new(true, 1);
    let bed = Bed::of(lan);
    bed.host().ip("addr add 172.17.0.1/16 dev wan0");
    bed.host().sysctl("net/ipv4/ip_forward", "1");
    bed.server().ip("route add default via 172.17.0.1");
    // The kernel takes none at a port of a bridge that has one.
    drop_all(bed.host(), "lan");
    let run = bed.tool().ok("attach virbr0");
    assert!(run.err.contains("stranger"), "{run:?}");
    bed.tool().ok(&format!("rule add --server {SERVER}"));
    assert!(!bed.arrives());
    let finding = bed.finds("foreign-program", "warning", &["lan", "stranger"]);
    assert_eq!(finding["subject"], "virbr0");
    // Ours at the port, in its place, is no stranger.
    bed.tool().ok("detach virbr0 --keep-rules");
    bed.host().ip("link set lan xdp off");
    bed.tool().ok("attach lan virbr0");
    assert!(bed.arrives());
    bed.finds_nothing();
}

#[test]
fn a_program_that_was_taken_off_by_force_is_missed() {
    let bed = Bed::new("skb");
    let links = bed.tool().json("status");
    let id = links["interfaces"][0]["link_id"].as_u64().unwrap() as u32;
    // SAFETY: takes no pointer.
    let fd = unsafe { libbpf_sys::bpf_link_get_fd_by_id(id) };
    // SAFETY: the descriptor is open.
    assert_eq!(unsafe { libbpf_sys::bpf_link_detach(fd) }, 0);
    let finding = bed.finds("interface", "problem", &["detached our program"]);
    drop_all(bed.host(), "lan");
    bed.paste(&bed.finds("interface", "problem", &["stranger", "in place of ours"]));
    bed.finds_nothing();
    bed.paste(&finding);
    assert!(bed.arrives());
}

#[test]
fn pins_that_serve_nobody_are_named() {
    let bed = Bed::new("skb");
    let root = bed.lan.pins.dir();
    let dead = root.join("netns-4000000000");
    std::fs::create_dir(&dead).unwrap();
    let finding = bed.finds("other-namespace", "warning", &["no process"]);
    assert_eq!(finding["subject"], dead.to_str().unwrap());
    std::fs::remove_dir(&dead).unwrap();

    // Those of a namespace that lives are no finding.
    let there = Tool {
        ns: bed.server(),
        pins: &bed.lan.pins,
    };
    there.ok("attach lo --mode skb");
    bed.finds_nothing();
    there.ok("detach --all");

    let other = bed.lan.pins.namespace().join("abi-1");
    std::fs::create_dir(&other).unwrap();
    bed.finds("other-version", "problem", &["another version"]);
    std::fs::remove_dir(&other).unwrap();
    bed.finds_nothing();
}

#[test]
fn what_the_host_lacks_is_named() {
    let words = format!("--bounding-set -sys_admin,-bpf,-perfmon {BINARY} --json doctor");
    let without = |words: &str| -> Value {
        let run = std::process::Command::new("setpriv")
            .args(words.split_whitespace())
            .output()
            .expect("setpriv runs");
        let run = Run::from(run);
        assert_eq!(run.code, 7, "{run:?}");
        run.json()
    };
    let all = without(&words);
    let lacks = all
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["check"] == "capabilities");
    assert_finding(
        lacks.unwrap(),
        "capabilities",
        "problem",
        &["CAP_BPF", "CAP_PERFMON"],
    );

    let plain = tempfile::tempdir().unwrap();
    let path = plain.path().join("pins");
    let all = without(&format!(
        "{BINARY} --json --pin-dir {} doctor",
        path.display()
    ));
    assert_finding(&all[0], "bpffs", "problem", &["no bpffs is mounted"]);
}

#[test]
fn without_a_terminal_or_yes_nothing_is_changed() {
    let bed = Bed::new("native");
    bed.gro_off();
    bed.tool()
        .run("doctor --fix")
        .fails(2, &["terminal", "--yes"]);
    assert!(!bed.gro());
    bed.tool().run("doctor --yes").fails(2, &["--fix"]);
    bed.tool().run("doctor --undo --fix").fails(2, &["--undo"]);
}

/// Runs the command on a terminal of its own, and answers.
fn on_a_terminal(bed: &Bed, answer: &str) -> Run {
    let tool = format!(
        "{BINARY} --netns {} --pin-dir {} doctor --fix",
        bed.host().name,
        bed.lan.pins.dir().display()
    );
    let mut child: Child = std::process::Command::new("script")
        .args(["--quiet", "--return", "--command", &tool, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("script runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    writeln!(stdin, "{answer}").expect("an answer");
    child.wait_with_output().expect("it ends").into()
}

#[test]
fn on_a_terminal_it_asks_first() {
    let bed = Bed::new("native");
    bed.gro_off();
    for answer in ["n", "", "what?"] {
        let run = on_a_terminal(&bed, answer);
        assert_eq!(run.code, 7, "{run:?}");
        assert!(run.out.contains("Mend 1 now? [y/N]"), "{run:?}");
        assert!(run.out.contains("neither GRO"), "{run:?}");
        assert!(!bed.gro());
    }
    let run = on_a_terminal(&bed, "y");
    assert_eq!(run.code, 0, "{run:?}");
    assert!(bed.gro());
}

#[test]
fn detaching_the_last_interface_puts_back_and_leaves_nothing() {
    let bed = Bed::new("native");
    bed.tool().ok("attach wan0 --mode skb");
    bed.gro_off();
    bed.fix();
    bed.tool().ok("detach wan0");
    assert!(bed.gro());
    // Rules that are kept need what was mended for them.
    bed.tool().ok("detach --all --keep-rules");
    assert!(bed.gro());
    bed.tool().ok("attach lan --mode native");
    assert!(bed.arrives());
    let run = bed.tool().ok("detach --all");
    assert!(run.out.contains("put back: GRO off"), "{run:?}");
    assert!(!bed.gro());
    assert!(bed.lan.pins.left().is_empty());
}

#[test]
fn an_entry_that_cannot_be_read_hides_no_other_and_keeps_nobody_from_detaching() {
    let bed = Bed::new("native");
    bed.gro_off();
    bed.fix();
    let mends = pinned(&bed.lan.pins, "mends/mends");
    let (number, rubbish) = (7u32.to_ne_bytes(), [b'?'; 512]);
    mends
        .update(&number, &rubbish, MapFlags::ANY)
        .expect("it is written");
    drop(mends);

    let run = bed.tool().run("doctor --undo");
    let run = run.fails(1, &["change 7", "cannot understand"]);
    assert!(run.out.contains("put back: GRO off at eth0"), "{run:?}");
    assert!(!bed.gro());
    bed.fix();
    assert!(bed.gro());
    let run = bed.tool().run("detach --all --json");
    let run = run.fails(1, &["change 7", "cannot understand"]);
    let done = run.json();
    assert_eq!(done["detached"][0], "lan");
    let undone = done["undone"].as_array().expect("a list");
    assert_eq!(undone.len(), 1, "{run:?}");
    assert!(undone[0].as_str().unwrap().starts_with("GRO off at eth0"));
    assert!(!bed.gro());
    assert!(bed.lan.pins.left().is_empty());
}

/// With a million rules, neither is an error a rule's.
#[test]
fn what_there_is_no_room_to_write_down_is_not_mended() {
    let bed = Bed::new("native");
    bed.gro_off();
    bed.fix();
    for port in [1, 2] {
        bed.tool()
            .ok(&format!("rule add --server {SERVER} --port {port}"));
    }
    let mends = pinned(&bed.lan.pins, "mends/mends");
    let noted = mends.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).unwrap();
    let room = mends.max_entries();
    // Room for two, for three rules.
    for number in 1..room - 2 {
        let number = number.to_ne_bytes();
        let noted = noted.as_ref().expect("the first mend");
        mends.update(&number, noted, MapFlags::ANY).unwrap();
    }
    bed.server()
        .ip(&format!("link set eth0 address {OTHER_MAC}"));
    let before = bed.tool().json("rule list");
    let run = bed.tool().run("doctor --fix --yes");
    assert_eq!(run.code, 7, "{run:?}");
    assert_eq!(run.err.lines().count(), 1, "{run:?}");
    assert!(run.err.contains("nor are those after it"), "{run:?}");
    assert_eq!(bed.tool().json("rule list"), before);
    for number in 1..room - 2 {
        mends.delete(&number.to_ne_bytes()).unwrap();
    }
    let run = bed.fix();
    assert!(run.contains("in 3 rules"), "{run:?}");
    // Each time a backend is mended again, one note takes all of it.
    let notes = mends.keys().count();
    for mac in ["02:00:00:00:00:78", "02:00:00:00:00:79"] {
        bed.server().ip(&format!("link set eth0 address {mac}"));
        bed.fix();
        assert_eq!(mends.keys().count(), notes);
    }
    bed.tool().ok("doctor --undo");
    assert_eq!(bed.tool().json("rule list"), before);
}

/// A run that may not enter the peer's namespace can't tell that it is gone.
#[test]
fn what_cannot_be_put_back_is_exit_1_and_keeps_nobody_from_detaching() {
    let bed = Bed::new("native");
    bed.gro_off();
    bed.fix();
    let unprivileged = |words: &str| -> Run {
        let net = format!("--net={}", bed.host().path().display());
        std::process::Command::new("nsenter")
            .args([&net, "setpriv"])
            .args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"])
            .args([BINARY, "--pin-dir"])
            .arg(bed.lan.pins.dir())
            .args(words.split_whitespace())
            .output()
            .expect("it runs")
            .into()
    };
    let words = ["GRO on at eth0", "CAP_SYS_ADMIN"];
    let run = unprivileged("doctor --undo").fails(1, &words);
    assert_eq!(run.out, "", "{run:?}");
    // It is still written down.
    bed.tool().ok("doctor --undo");
    assert!(!bed.gro());
    bed.fix();
    let run = unprivileged("detach --all").fails(1, &words);
    assert!(run.out.contains("lan: detached"), "{run:?}");
    assert!(bed.gro());
    assert!(bed.lan.pins.left().is_empty());
}

#[test]
fn what_is_gone_needs_no_undo() {
    for namespace in [false, true] {
        let bed = Bed::new("native");
        bed.gro_off();
        bed.fix();
        bed.server().ip("link del eth0");
        if namespace {
            command("ip", &["netns", "del", &bed.server().name]);
        }
        let run = bed.tool().ok("doctor --undo");
        assert_eq!(run.out, "nothing to undo\n");
    }
}

/// As containers' namespaces are: none has a name.
#[test]
fn a_peer_is_mended_in_a_namespace_that_a_process_keeps() {
    let bed = Bed::bare();
    let mut container = std::process::Command::new("unshare")
        .args(["--net", "sh", "-c", "echo in; read end"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare runs");
    let out = container.stdout.as_mut().expect("a pipe");
    std::io::Read::read_exact(out, &mut [0; 3]).expect("it is in");
    let pid = container.id().to_string();
    let there = |words: &str| {
        let mut all = vec!["--net", "--target", &pid];
        all.extend(words.split_whitespace());
        command("nsenter", &all)
    };
    bed.host()
        .ip(&format!("link add c0 type veth peer name eth0 netns {pid}"));
    bed.host().ip("link set c0 up");
    there("ip link set eth0 up");
    there("ip addr add 172.18.0.2/32 dev eth0");
    there("ip route add default dev eth0");
    let link = there("ip -brief link show eth0");
    let mac = link.split_whitespace().nth(2).expect("a MAC address");
    bed.tool().ok("attach lan --mode native");
    bed.tool().ok(&format!(
        "rule add --server 172.18.0.2 --mac {mac} --dev c0"
    ));
    bed.finds("peer-napi", "problem", &["peer eth0 in pid"]);
    let gro = || there("ethtool -k eth0").contains("generic-receive-offload: on");
    bed.fix();
    assert!(gro());
    bed.tool().ok("doctor --undo");
    assert!(!gro());
    drop(container.stdin.take());
    container.wait().expect("it ends");
}

/// Each change was written down before it was made, so undo finds it.
#[test]
fn a_mend_that_was_killed_at_any_instant_can_be_undone() {
    let bed = Bed::new("native");
    let stale = bed.backend()["mac"].clone();
    bed.gro_off();
    bed.host().ip("link set wan0 down");
    bed.server()
        .ip(&format!("link set eth0 address {OTHER_MAC}"));
    // A slow machine needs later instants than a fast one.
    let start = Instant::now();
    bed.tool().ok("doctor --fix --yes");
    let latest = start.elapsed() * 5 / 4;
    bed.tool().ok("doctor --undo");
    let mut mended = 0;
    for round in 0..40 {
        let mut run = bed.tool().spawn("doctor --fix --yes");
        sleep(latest * round / 40);
        let _ = run.kill();
        run.wait().expect("it ends");
        mended += usize::from(bed.gro());
        let undo = bed.tool().ok("doctor --undo");
        assert!(undo.err.is_empty(), "{undo:?}");
        assert!(!bed.gro() && !is_up(bed.host(), "wan0"), "{round}");
        assert_eq!(bed.backend()["mac"], stale, "{round}");
    }
    assert!(mended > 0, "no run came far enough");
    bed.tool().ok("detach --all");
    assert!(bed.lan.pins.left().is_empty());
}

#[test]
fn attach_and_rule_add_warn_in_the_same_words() {
    let bed = Bed::bare();
    bed.gro_off();
    bed.tool().ok("attach lan --mode native");
    let run = bed
        .tool()
        .ok(&format!("rule add --src {CLIENT} --server {SERVER}"));
    let line = run.err.trim_end().strip_prefix("xdpredir: warning: ");
    let said = line.expect("one warning").to_string();
    assert!(said.contains("neither GRO"), "{said}");
    let doctor = bed.tool().run("doctor").out;
    assert!(doctor.contains(&said), "{doctor}");
    // Without state, as before the first attach, there is nothing to say.
    bed.tool().ok("detach lan --keep-rules");
    let run = bed.tool().ok("attach lan --mode native");
    assert!(run.err.contains(&said), "{run:?}");
    bed.tool().ok("detach lan --keep-rules");
    let run = bed.tool().ok("attach lan --mode skb");
    assert_eq!(run.err, "");
}

#[test]
fn attach_and_rule_add_have_their_warnings_in_json_too() {
    let bed = Bed::bare();
    bed.gro_off();
    let attached = bed.tool().json("attach lan --mode native");
    assert_eq!(attached[0]["warnings"], serde_json::json!([]));
    let add = format!("rule add --src {CLIENT} --server {SERVER} --json");
    let run = bed.tool().ok(&add);
    assert!(run.err.contains("neither GRO"), "{run:?}");
    let added = run.json();
    assert_eq!(added["server"], SERVER);
    let found = bed.findings();
    assert_eq!(added["warnings"], Value::from(found.clone()));

    bed.tool().ok("detach lan --keep-rules");
    let run = bed.tool().ok("attach lan --mode native --json");
    assert!(run.err.contains("neither GRO"), "{run:?}");
    assert_eq!(run.json()[0]["warnings"], Value::from(found));
    // Again: no change, and nothing new to warn of.
    let again = bed.tool().json("attach lan --mode native");
    assert_eq!(again[0]["warnings"], serde_json::json!([]));
}

#[test]
fn each_attached_interface_has_its_own_warnings() {
    let bed = Bed::bare();
    let _tap = Tap::new(bed.host(), "tap0", false);
    bed.host().ip("link set tap0 down");
    let attached = bed.tool().json("attach lan tap0 --mode skb");
    for interface in attached.as_array().expect("a list") {
        let warnings = interface["warnings"].as_array().expect("a list");
        if interface["ifname"] == "tap0" {
            assert_eq!(warnings.len(), 1, "{attached:#}");
            assert_finding(&warnings[0], "link", "problem", &["it is down"]);
        } else {
            assert_eq!(warnings.len(), 0, "{attached:#}");
        }
    }
}

#[test]
fn a_namespace_is_looked_at_by_its_name() {
    guest::needs_kernel(6, 3, "what drivers say of XDP");
    let bed = Bed::new("native");
    bed.gro_off();
    let run = bed.tool().run("doctor");
    assert_eq!(run.code, 7);
    // Each finding is one line, with consequence, evidence and mend, and a last one counts them.
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!(lines.len(), 2, "{run:?}");
    assert!(
        lines[0].starts_with("problem  wan0: what lan redirects"),
        "{run:?}"
    );
    let command = format!(
        "`nsenter --net={} ethtool -K eth0 gro on`",
        bed.server().path().display()
    );
    assert!(lines[0].contains(&command), "{run:?}");
    assert_eq!(lines[1], "1 problem; `doctor --fix` can mend 1");
}

#[test]
fn several_interfaces_redirect_where_one_redirects() {
    let bed = Bed::bare();
    bed.gro_off();
    let other = Ns::new("other");
    bed.host().veth("lan2", &other, "eth0");
    bed.tool().ok("attach lan lan2 --mode native");
    bed.tool()
        .ok(&format!("rule add --src {CLIENT} --server {SERVER}"));
    let finding = bed.finds("peer-napi", "problem", &[]);
    assert_eq!(
        finding["consequence"],
        "what lan and lan2 redirect to it in native mode is lost"
    );
}

#[test]
fn a_device_that_takes_no_frames_in_several_buffers_is_a_problem() {
    guest::needs_kernel(6, 3, "native redirects of frames in several buffers");
    let lan = Lan::new(false, 0);
    lan.host.ip("link set lan mtu 9000");
    lan.vm.ip("link set eth0 mtu 9000");
    let _reader = Tap::new(&lan.host, "tap0", false);
    lan.host.ip("link set tap0 mtu 9000");
    let tool = lan.tool();
    tool.ok("attach lan --mode native");
    let rule = format!("rule add --server {SERVER} --mac 02:00:00:00:00:01 --dev tap0");
    assert!(tool.ok(&rule).err.contains("NDO_XMIT_SG"));
    let bed = Bed::of(lan);
    bed.finds("multi-buffer", "problem", &["several buffers"]);

    bed.tool().ok("detach lan --keep-rules");
    bed.host().ip("link set lan mtu 1500");
    bed.lan.vm.ip("link set eth0 mtu 1500");
    bed.host().ip("link set tap0 mtu 1500");
    bed.tool().ok("attach lan --mode native");
    bed.finds_nothing();
}
