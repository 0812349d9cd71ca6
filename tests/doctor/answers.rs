//! Rules that can't work as they are: `rule add` and doctor say what will happen, and what to do.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use super::bed::findings;
use crate::fixture::guest;
use crate::fixture::lan::{ANYWHERE, Lan, mac, receive, socket};
use crate::fixture::{BINARY, Pins, Run, Tool};
use serde_json::Value;

const SERVER: &str = "172.17.0.2";
const OTHER_MAC: &str = "02:00:00:00:00:77";
/// What clients ask.
const SHARED: &str = "203.0.113.7";

struct Bed {
    lan: Lan,
}

impl Bed {
    /// Nothing is said here but what a test is about.
    fn new(mode: &str) -> Self {
        let lan = Lan::new(false, 1);
        lan.host.ip("addr add 172.17.0.1/16 dev wan0");
        lan.host.sysctl("net/ipv4/ip_forward", "1");
        lan.servers[0].ip("route add default via 172.17.0.1");
        lan.vm
            .exec("ethtool -K eth0 tso off tx-udp-segmentation off");
        let bed = Bed { lan };
        bed.tool().ok(&format!("attach lan --mode {mode}"));
        bed
    }

    fn tool(&self) -> Tool<'_> {
        self.lan.tool()
    }

    fn findings(&self) -> Vec<Value> {
        findings(&self.tool())
    }

    /// The only finding, which a run of `rule add` has warned of, too.
    #[track_caller]
    fn finds(&self, added: &Run, check: &str, evidence: &str) -> Value {
        let all = self.findings();
        assert_eq!(all.len(), 1, "{all:#?}");
        assert_eq!(all[0]["check"], check, "{all:#?}");
        let said = all[0]["evidence"].as_str().expect("a text");
        assert!(said.contains(evidence), "{said}");
        assert_eq!(added.err.lines().count(), 1, "{added:?}");
        assert!(added.err.contains(evidence), "{added:?}");
        all[0].clone()
    }

    #[track_caller]
    fn finds_nothing(&self) {
        let all = self.findings();
        assert!(all.is_empty(), "{all:#?}");
    }

    /// Does what the first command of a finding says.
    fn paste(&self, finding: &Value) {
        self.paste_one(finding, 0);
    }

    /// Does what one of its commands says.
    fn paste_one(&self, finding: &Value, number: usize) {
        let command = command(finding, number).replace("ADDR", SHARED);
        let command = command.replace("xdpredir --", &format!("{BINARY} --"));
        self.lan.host.exec(&command);
    }

    /// Whether a client that asks the shared address over TCP is answered.
    fn connects(&self) -> bool {
        let server = &self.lan.servers[0];
        let _listener = server
            .enter(|| TcpListener::bind("0.0.0.0:7999"))
            .expect("a listener");
        let to = format!("{SHARED}:7999").parse().expect("an address");
        let wait = guest::patience(800);
        self.lan
            .vm
            .enter(|| TcpStream::connect_timeout(&to, wait))
            .is_ok()
    }

    /// How many bytes of so many a client gets.
    fn fetches(&self, bytes: usize) -> usize {
        let server = self.lan.servers[0].enter(|| TcpListener::bind("0.0.0.0:7999"));
        let server = server.expect("a listener");
        let sending = std::thread::spawn(move || {
            let (mut client, _) = server.accept().expect("a client");
            client.write_all(&vec![1; bytes]).expect("it is sent");
        });
        let client = self.lan.vm.enter(|| TcpStream::connect((SHARED, 7999)));
        let mut got = Vec::new();
        let mut client = client.expect("a connection");
        client.read_to_end(&mut got).expect("it ends");
        sending.join().expect("all is sent");
        got.len()
    }

    fn arrives(&self) {
        let at = self.lan.server_socket(0);
        let from = self.lan.vm_socket();
        from.send_to(b"hello ebpf", ANYWHERE).expect("it is sent");
        assert_eq!(receive(&at).0, "hello ebpf");
    }
}

/// What stands between backquotes in the remedy of a finding.
fn command(finding: &Value, number: usize) -> String {
    let remedy = finding["mend"].as_str().expect("a text");
    let mut commands = remedy.split('`').skip(1).step_by(2);
    commands.nth(number).expect("a command").to_string()
}

#[test]
fn clients_over_tcp_refuse_the_answers_of_another_address() {
    let bed = Bed::new("skb");
    let added = bed
        .tool()
        .ok(&format!("rule add --proto tcp --server {SERVER}"));
    assert!(!added.out.contains("answers come from"), "{added:?}");
    assert!(!bed.connects());
    let evidence = format!("{SERVER} answers from its own address");
    let found = bed.finds(&added, "reply-source", &evidence);
    assert_eq!(found["severity"], "warning");
    assert_eq!(found["subject"], "rule src 0.0.0.0/0 tcp port 7999");

    // The second thing that helps, and half of what it says: the address is missing still.
    bed.paste_one(&found, 1);
    assert!(!bed.connects());
    let found = bed.findings();
    assert_eq!(
        (found.len(), &found[0]["check"]),
        (1, &Value::from("keep-ip"))
    );
    bed.paste(&found[0]);
    assert!(bed.connects());
    bed.finds_nothing();
}

#[test]
fn answers_that_the_program_does_not_see_are_a_warning() {
    let bed = Bed::new("skb");
    bed.tool()
        .ok(&format!("rule add --proto tcp --server {SERVER}"));
    // The first thing that helps translates the answers, and has the program see them.
    bed.paste(&bed.findings()[0]);
    let is_said = |found: &Value| found["check"] == "answers";
    assert!(!bed.findings().iter().any(is_said));
    bed.tool().ok("detach wan0");
    let found = bed.findings();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["check"], "answers");
    bed.paste(&found[0]);
    assert!(!bed.findings().iter().any(is_said));
}

/// The client's device takes no frames that are redirected natively.
#[test]
fn a_host_that_is_to_route_answers_has_to_let_them_through() {
    let bed = Bed::new("skb");
    let host = &bed.lan.host;
    bed.tool().ok("attach wan0 --mode native");
    let add = format!("rule add --dst {SHARED} --proto tcp --server {SERVER} --reply nat");
    let added = bed.tool().ok(&add);
    let said = "are handed to this host's routing";
    assert!(added.out.contains(said), "{added:?}");
    assert!(bed.connects());
    bed.finds_nothing();
    for (key, off, on, evidence) in [
        ("conf/wan0/forwarding", "0", "1", "forwarding is off"),
        ("conf/wan0/rp_filter", "1", "0", "rp_filter is 1"),
    ] {
        host.sysctl(&format!("net/ipv4/{key}"), off);
        assert!(!bed.connects(), "{key}");
        let found = bed.findings();
        let found = found.iter().find(|found| found["check"] == "answers");
        let found = found.unwrap_or_else(|| panic!("{key} is found"));
        let said = found["evidence"].as_str().expect("a text");
        assert!(said.contains(evidence), "{said}");
        bed.paste(found);
        assert!(bed.connects(), "{key}");
        host.sysctl(&format!("net/ipv4/{key}"), on);
    }
    // One of the host's own.
    host.ip(&format!("addr add {SHARED}/32 dev lo"));
    assert!(!bed.connects());
    let found = bed.findings();
    bed.paste(
        found
            .iter()
            .find(|found| found["check"] == "answers")
            .expect("it is found"),
    );
    assert!(bed.connects());

    // In generic mode nothing is handed over.
    bed.tool().ok("detach wan0");
    bed.tool().ok("attach wan0 --mode skb");
    let added = bed.tool().ok(&add);
    assert!(
        added.out.contains("answers go straight to lan, wan0"),
        "{added:?}"
    );
    assert!(bed.connects());
}

/// A server on this host hands over several segments as one frame, which generic mode cannot redirect.
#[test]
fn a_host_that_is_to_divide_answers_has_to_forward() {
    let bed = Bed::new("skb");
    bed.lan.host.sysctl("net/ipv4/ip_forward", "0");
    bed.lan.servers[0].exec("ethtool -K eth0 tx-udp-segmentation off");
    let added = bed.tool().ok(&format!(
        "rule add --dst {SHARED} --proto tcp --server {SERVER} --reply nat"
    ));
    assert!(bed.connects());
    let found = bed.finds(&added, "answers", "TSO is on at eth0");
    let said = found["evidence"].as_str().expect("a text");
    assert!(said.ends_with("at wan0 forwarding is off"), "{said}");
    // The two things that help, each alone.
    bed.paste_one(&found, 1);
    bed.finds_nothing();
    bed.lan.servers[0].exec("ethtool -K eth0 tso on");
    bed.finds(&added, "answers", "TSO is on at eth0");
    bed.paste_one(&found, 0);
    bed.finds_nothing();
    assert_eq!(bed.fetches(1 << 20), 1 << 20);
}

#[test]
fn all_rules_of_a_protocol_are_one_finding() {
    let bed = Bed::new("skb");
    for port in [80, 443, 8080] {
        bed.tool().ok(&format!(
            "rule add --proto tcp --port {port} --server {SERVER}"
        ));
    }
    let found = bed.findings();
    assert_eq!(found.len(), 1, "{found:#?}");
    let subject = found[0]["subject"].as_str().expect("a text");
    assert!(subject.ends_with("port 80, and others"), "{subject}");
}

#[test]
fn for_udp_it_is_a_warning_where_the_port_is_one_of_questions() {
    let bed = Bed::new("skb");
    let add = format!("rule add --server {SERVER}");
    assert_eq!(bed.tool().ok(&add).err, "");
    bed.arrives();
    bed.finds_nothing();
    let added = bed.tool().ok(&format!("{add} --port 53"));
    bed.finds(&added, "reply-source", "answers from its own address");
}

#[test]
fn with_keep_ip_a_server_wants_the_address_that_is_asked() {
    let bed = Bed::new("skb");
    let added = bed
        .tool()
        .ok(&format!("rule add --proto tcp --server {SERVER} --keep-ip"));
    assert!(!bed.connects());
    let found = bed.finds(&added, "keep-ip", &format!("has {SERVER} alone"));
    let command = command(&found, 0);
    let server = bed.lan.servers[0].path().display().to_string();
    assert!(command.contains(&server), "{command}");
    bed.paste(&found);
    assert!(bed.connects());
    bed.finds_nothing();
}

#[test]
fn a_server_that_takes_a_whole_prefix_needs_no_further_address() {
    let bed = Bed::new("skb");
    bed.lan.servers[0].ip("route add local 11.22.33.0/24 dev lo");
    let added = bed
        .tool()
        .ok(&format!("rule add --server {SERVER} --keep-ip"));
    assert_eq!(added.err, "");
    bed.arrives();
}

#[test]
fn a_host_that_has_the_address_itself_drops_the_answers() {
    let bed = Bed::new("skb");
    bed.lan.servers[0].ip(&format!("addr add {SHARED}/32 dev lo"));
    bed.lan.host.ip(&format!("addr add {SHARED}/32 dev lo"));
    let added = bed
        .tool()
        .ok(&format!("rule add --proto tcp --server {SERVER} --keep-ip"));
    assert!(!bed.connects());
    let found = bed.finds(&added, "keep-ip", &format!("this host has {SHARED}, too"));
    bed.paste(&found);
    assert!(bed.connects());
    bed.finds_nothing();
}

/// As many hosts have 172.17.0.1, on a docker0 of their own.
#[test]
fn an_address_of_a_network_is_not_what_clients_ask() {
    let bed = Bed::new("skb");
    let server = &bed.lan.servers[0];
    for ns in [&bed.lan.host, server] {
        ns.ip("link add docker0 type bridge");
        ns.ip("link set docker0 up");
        ns.ip("addr add 172.18.0.1/16 dev docker0");
    }
    server.ip("addr add 172.17.0.99/16 dev eth0");
    let added = bed
        .tool()
        .ok(&format!("rule add --proto tcp --server {SERVER} --keep-ip"));
    assert!(!bed.connects());
    let found = bed.finds(&added, "keep-ip", "addresses of networks that it is in");
    bed.paste(&found);
    assert!(bed.connects());
    bed.finds_nothing();

    // With the full prefix length it counts on any device.
    server.ip("addr flush dev lo");
    assert_eq!(bed.findings().len(), 1);
    server.ip(&format!("addr add {SHARED}/32 dev docker0"));
    bed.finds_nothing();
}

#[test]
fn a_host_that_took_the_server_s_own_address_drops_its_answers() {
    let bed = Bed::new("skb");
    let host = &bed.lan.host;
    bed.tool().ok(&format!("rule add --server {SERVER}"));
    bed.finds_nothing();
    host.ip(&format!("addr add {SERVER}/32 dev lo"));
    let found = bed.findings();
    assert_eq!(found.len(), 1, "{found:#?}");
    let text = |key: &str| found[0][key].as_str().expect("a text");
    assert_eq!((text("check"), text("severity")), ("address", "problem"));
    assert!(text("consequence").contains("answers is dropped by this host"));
    assert!(text("evidence").contains("is an address of this host, too"));
    assert!(text("mend").contains("off this host"), "{found:#?}");
    bed.arrives();

    // Then nothing is dropped, but the server can't be found again.
    host.sysctl("net/ipv4/conf/wan0/accept_local", "1");
    let found = bed.findings();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["severity"], "warning");
    assert_eq!(found[0]["check"], "address");
    host.ip(&format!("addr del {SERVER}/32 dev lo"));
    bed.finds_nothing();
}

#[test]
fn an_address_of_this_host_is_no_server_s() {
    let bed = Bed::new("skb");
    let at = mac(&bed.lan.vm, "eth0");
    let own = "192.168.122.1";
    let added = bed.tool().ok(&format!(
        "rule add --server {own} --mac {OTHER_MAC} --dev lan"
    ));
    let found = bed.finds(&added, "address", "is an address of this host itself");
    assert_eq!(found["fixable"], false);
    let mend = found["mend"].as_str().expect("a text");
    assert!(!mend.contains("rule add"), "{mend}");
    bed.paste(&found);
    assert_eq!(bed.tool().json("status")["rules"], 0);
    bed.finds_nothing();
    // With the MAC address of who is there, too.
    bed.tool()
        .ok(&format!("rule add --server {own} --mac {at} --dev lan"));
    let found = bed.findings();
    assert_eq!(
        (found.len(), &found[0]["check"]),
        (1, &Value::from("address"))
    );
}

#[test]
fn hosts_that_redirect_to_each_other_make_a_loop() {
    let bed = Bed::new("skb");
    let (pins, ns) = (Pins::new(), &bed.lan.servers[0]);
    Tool { ns, pins: &pins }.ok("attach eth0 --mode skb");
    let add = format!("rule add --server {SERVER}");
    let added = bed.tool().ok(&add);
    let evidence = format!("xdpredir is attached to its peer eth0 in {}", ns.name);
    let found = bed.finds(&added, "loop", &evidence);
    assert_eq!(
        (&found["severity"], &found["subject"]),
        (&"warning".into(), &"wan0".into())
    );
    let says = |bed: &Bed| found_loop(bed)["consequence"].to_string();
    assert!(says(&bed).contains("until their TTL is used up"));
    bed.tool().ok(&format!("{add} --keep-ttl"));
    assert!(says(&bed).contains("without an end"));
    // What gets another port ends.
    bed.tool().ok("rule del --all");
    bed.tool().ok(&format!("{add} --to-port 9"));
    bed.finds_nothing();
    Tool { ns, pins: &pins }.ok("detach --all");
}

#[test]
fn a_pair_of_devices_of_this_host_makes_a_loop_too() {
    let bed = Bed::new("skb");
    bed.lan.host.ip("link add v0 type veth peer name v1");
    bed.lan.host.ip("link set v0 up");
    bed.lan.host.ip("link set v1 up");
    bed.lan.host.exec("ethtool -K v0 tx-udp-segmentation off");
    bed.tool().ok("attach v1 --mode skb");
    bed.lan.host.ip("addr add 10.9.9.1/24 dev v0");
    bed.tool().ok(&format!(
        "rule add --server 10.9.9.2 --mac {OTHER_MAC} --dev v0"
    ));
    assert_eq!(found_loop(&bed)["subject"], "v0");
}

fn found_loop(bed: &Bed) -> Value {
    let all = bed.findings();
    let found = all.iter().find(|finding| finding["check"] == "loop");
    found.unwrap_or_else(|| panic!("no loop: {all:#?}")).clone()
}

#[test]
fn the_device_below_a_macvlan_takes_what_is_redirected_natively() {
    let bed = Bed::new("native");
    let host = &bed.lan.host;
    host.ip("addr flush dev wan0");
    host.ip("link add mv0 link wan0 type macvlan mode bridge");
    host.ip("link set mv0 up");
    host.ip("addr add 172.17.0.1/16 dev mv0");
    let added = bed.tool().ok(&format!("rule add --server {SERVER}"));
    assert!(added.out.contains("via mv0"), "{added:?}");
    let found = bed.finds(
        &added,
        "redirect-target",
        "macvlan takes no redirected frames",
    );
    let first = command(&found, 0);
    assert!(first.ends_with("--dev wan0"), "{first}");
    bed.paste(&found);
    assert_eq!(bed.tool().json("rule list")[0]["ifname"], "wan0");
    bed.finds_nothing();
    bed.arrives();
    assert_eq!(bed.tool().json("status")["interfaces"][0]["mode"], "native");
}

#[test]
fn the_port_of_a_bridge_takes_what_is_redirected_natively() {
    let bed = Bed::new("native");
    let host = &bed.lan.host;
    host.ip("addr flush dev wan0");
    host.ip("link add docker0 type bridge");
    host.ip("link set docker0 up");
    host.ip("addr add 172.17.0.1/16 dev docker0");
    host.ip("link set wan0 master docker0");
    let server = &bed.lan.servers[0];
    let from = socket(server, "0.0.0.0:0");
    from.send_to(b"here", "172.17.0.1:9").expect("it is sent");
    let at = mac(server, "eth0");
    let added = bed.tool().ok(&format!(
        "rule add --server {SERVER} --mac {at} --dev docker0"
    ));
    let found = bed.finds(
        &added,
        "redirect-target",
        "bridge takes no redirected frames",
    );
    let first = command(&found, 0);
    assert!(first.ends_with("--dev wan0"), "{first}");
    bed.paste(&found);
    bed.finds_nothing();
    bed.arrives();
}
