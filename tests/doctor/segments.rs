//! Frames of several segments pass: doctor says who makes them, and what divides them.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::fixture::guest;
use crate::fixture::lan::{ANYWHERE, Lan, mac, send_together};
use crate::fixture::packet::{Checksum, Frame, TCP};
use crate::fixture::tap::Tap;
use crate::fixture::{BINARY, Ns, Tool};
use serde_json::Value;

const SERVER: &str = "172.17.0.2";
/// One more address of the server's.
const SHARED: &str = "203.0.113.7";

/// How long the kernel has to do what it does in no time.
const SOON: Duration = Duration::from_secs(10);

struct Bed {
    lan: Lan,
}

impl Bed {
    fn new(bridge: bool) -> Self {
        let lan = Lan::new(bridge, 1);
        lan.host.ip("addr add 172.17.0.1/16 dev wan0");
        lan.host.sysctl("net/ipv4/ip_forward", "1");
        let server = &lan.servers[0];
        server.ip("route add default via 172.17.0.1");
        server.ip(&format!("addr add {SHARED}/32 dev lo"));
        Bed { lan }
    }

    fn tool(&self) -> Tool<'_> {
        self.lan.tool()
    }

    fn rule(&self, words: &str) -> String {
        let add = format!("rule add --server {SERVER} {words}");
        self.tool().ok(&add).err
    }

    /// What is said of segments, with an exit code of 0.
    fn said(&self) -> Vec<Value> {
        let all = self.tool().json("doctor");
        let all = all.as_array().expect("an array").iter();
        all.filter(|f| f["check"] == "segments").cloned().collect()
    }

    /// The only thing that is said of segments.
    #[track_caller]
    fn says(&self, evidence: &[&str], mend: &[&str]) -> Value {
        let said = self.said();
        assert_eq!(said.len(), 1, "{said:#?}");
        assert_eq!(said[0]["severity"], "warning");
        for (key, words) in [("evidence", evidence), ("mend", mend)] {
            let text = said[0][key].as_str().expect("a text");
            for word in words {
                assert!(text.contains(word), "{word:?} is missing: {:#}", said[0]);
            }
        }
        said[0].clone()
    }

    #[track_caller]
    fn says_nothing(&self) {
        let said = self.said();
        assert!(said.is_empty(), "{said:#?}");
    }

    /// Does what the first command of a finding says.
    fn paste(&self, finding: &Value) {
        let command = commands(finding).remove(0);
        self.lan
            .host
            .exec(&command.replace("xdpredir ", &format!("{BINARY} ")));
    }

    fn outcome(&self, name: &str) -> u64 {
        let stats = self.tool().json("stats");
        let all = stats["interfaces"].as_array().expect("interfaces").iter();
        let packets = |i: &Value| i["outcomes"][name]["packets"].as_u64().expect("a number");
        all.map(packets).sum()
    }

    /// A client's and the server's end of a TCP connection to the server's shared address.
    fn connection(&self) -> (TcpStream, TcpStream) {
        let listener = self.lan.servers[0].enter(|| TcpListener::bind((SHARED, 7999)));
        let listener = listener.expect("a listener");
        let to = &format!("{SHARED}:7999").parse().expect("an address");
        let client = self.lan.vm.enter(|| TcpStream::connect_timeout(to, SOON));
        let client = client.expect("a connection");
        let (server, _) = listener.accept().expect("a client");
        for end in [&server, &client] {
            end.set_read_timeout(Some(SOON)).expect("a timeout");
            end.set_write_timeout(Some(SOON)).expect("a timeout");
        }
        (client, server)
    }

    /// Some of what is sent over TCP passes in frames that are too long. The rest may take for ever.
    fn segments_pass(&self) {
        let before = self.outcome("too_long");
        let (mut client, _server) = self.connection();
        client.set_nonblocking(true).expect("a flag");
        let deadline = Instant::now() + SOON;
        while self.outcome("too_long") == before {
            assert!(Instant::now() < deadline, "nothing is too long");
            let _ = client.write(&[7; 50_000]);
        }
    }

    /// A megabyte arrives over TCP, and no frame of it was too long.
    fn no_segments_pass(&self) {
        let before = self.outcome("too_long");
        let (mut client, mut server) = self.connection();
        let write = std::thread::spawn(move || client.write_all(&vec![7; 1_000_000]));
        let mut all = Vec::new();
        server.read_to_end(&mut all).expect("all of it");
        write.join().expect("a thread").expect("it is sent");
        assert_eq!(all.len(), 1_000_000);
        assert_eq!(self.outcome("too_long"), before);
    }
}

/// What stands between backquotes in the remedy of a finding.
fn commands(finding: &Value) -> Vec<String> {
    let mend = finding["mend"].as_str().expect("a text");
    mend.split('`')
        .skip(1)
        .step_by(2)
        .map(String::from)
        .collect()
}

/// How many of ten datagrams come to a server, until none comes.
fn arrived(at: &UdpSocket) -> usize {
    at.set_read_timeout(Some(guest::patience(500)))
        .expect("a timeout");
    let mut count = 0;
    while count < 10 {
        match at.recv(&mut [0; 2048]) {
            Ok(_) => count += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(error) => panic!("{error}"),
        }
    }
    count
}

#[test]
fn datagrams_that_are_handed_over_together_pass_and_doctor_says_so() {
    let bed = Bed::new(false);
    bed.tool().ok("attach lan");
    // Few senders do so but those of QUIC, which `rule add` warns of.
    assert_eq!(bed.rule(""), "");
    assert!(bed.rule("--port 443").contains("tx-udp-segmentation"));
    let at = bed.lan.server_socket(0);
    send_together(&bed.lan.vm_socket(), ANYWHERE);
    assert_eq!(arrived(&at), 0);
    assert_eq!(bed.outcome("too_long"), 1);

    let sender = format!("tx-udp-segmentation is on at eth0 in {}", bed.lan.vm.name);
    let command = format!(
        "`nsenter --net={} ethtool -K eth0 tx-udp-segmentation off`",
        bed.lan.vm.path().display()
    );
    let said = bed.says(&[&sender, "undivided"], &[&command, "--mode native`"]);
    assert!(said["consequence"].as_str().unwrap().contains("QUIC"));
    bed.paste(&said);
    bed.says_nothing();
    send_together(&bed.lan.vm_socket(), ANYWHERE);
    assert_eq!(arrived(&at), 10);
}

#[test]
fn natively_a_veth_s_peer_divides_what_it_sends() {
    let bed = Bed::new(false);
    let attached = bed.tool().ok("attach lan --mode native");
    assert!(
        attached.out.contains("keeps segmentation offload off"),
        "{attached:?}"
    );
    bed.rule("");
    bed.rule("--keep-ip --proto tcp");
    bed.says_nothing();
    let at = bed.lan.server_socket(0);
    send_together(&bed.lan.vm_socket(), ANYWHERE);
    assert_eq!(arrived(&at), 10);
    bed.no_segments_pass();
}

#[test]
fn a_sender_of_tcp_is_told_what_to_switch_off() {
    let bed = Bed::new(false);
    bed.tool().ok("attach lan");
    bed.rule("--proto tcp --keep-ip");
    bed.segments_pass();
    let sender = format!("TSO is on at eth0 in {}", bed.lan.vm.name);
    let said = bed.says(&[&sender], &["ethtool -K eth0 tso off`"]);
    bed.paste(&said);
    bed.says_nothing();
    bed.no_segments_pass();
}

#[test]
fn a_bridge_s_port_that_joins_segments_is_named_in_its_sender_s_stead() {
    let bed = Bed::new(true);
    // Behind another host, as a NIC's senders are: they divide what they send.
    bed.lan.vm.exec("ethtool -K eth0 tso off");
    bed.tool().ok("attach virbr0");
    bed.rule("--proto tcp --keep-ip");
    bed.says_nothing();
    bed.no_segments_pass();

    bed.lan.host.exec("ethtool -K lan gro on");
    bed.segments_pass();
    let said = bed.says(&["GRO of lan joins"], &["ethtool -K lan gro off`"]);
    assert_eq!(said["subject"], "virbr0");
    assert!(!said["mend"].as_str().unwrap().contains("tso"), "{said:#}");
    bed.paste(&said);
    bed.says_nothing();
    bed.no_segments_pass();
    // On the port itself, in generic mode, the kernel joins none.
    bed.tool().ok("detach virbr0 --keep-rules");
    bed.lan.host.exec("ethtool -K lan gro on");
    bed.tool().ok("attach lan --mode skb");
    bed.says_nothing();
    bed.no_segments_pass();
}

#[test]
fn below_a_macvlan_both_the_sender_and_gro_are_named() {
    let bed = Bed::new(false);
    let host = &bed.lan.host;
    host.ip("addr flush dev lan");
    host.ip("link add mv0 link lan type macvlan mode bridge");
    host.ip("link set mv0 up");
    host.ip("addr add 192.168.122.1/24 dev mv0");
    // The device below answers for its address, too.
    let router = mac(host, "mv0");
    let neighbour = format!("neigh replace 192.168.122.1 lladdr {router} dev eth0");
    bed.lan.vm.ip(&neighbour);
    bed.tool().ok("attach mv0");
    bed.rule("--proto tcp --keep-ip");
    bed.segments_pass();
    host.exec("ethtool -K lan gro on");
    let said = bed.says(
        &["TSO is on at eth0 in", "GRO of lan joins"],
        &[
            "ethtool -K eth0 tso off`",
            "ethtool -K lan gro off`",
            "or attach to lan",
        ],
    );
    for command in commands(&said).iter().take(2) {
        host.exec(command);
    }
    bed.says_nothing();
    bed.no_segments_pass();
}

/// What a VM hands over: one frame with more than a device carries, marked as several segments.
#[test]
fn a_vm_behind_a_tap_is_told_in_either_mode_and_without_a_command_for_here() {
    let bed = Bed::new(false);
    let mut tap = Tap::new(&bed.lan.host, "tap0", true);
    for mode in ["native", "skb"] {
        bed.tool().ok(&format!("attach tap0 --mode {mode}"));
        bed.rule("--proto tcp --keep-ip");
        let before = bed.outcome("too_long");
        tap.write_segments(&large(&bed.lan.host), 1000);
        assert_eq!(bed.outcome("too_long"), before + 1, "{mode}");
        let words = [
            "in the VM behind tap0 'ethtool -K DEV tso off'",
            "<host tso4='off'",
        ];
        let said = bed.says(&["a VM behind tap0"], &words);
        // The only commands for here attach it at the tc hook.
        let here = commands(&said);
        assert!(
            here.iter().all(|command| command.contains("xdpredir")),
            "{said:#}"
        );
        bed.tool().ok("detach tap0 --keep-rules");
    }
    // Who reads a tap without a header can't mark such frames.
    let _plain = Tap::new(&bed.lan.host, "tap1", false);
    bed.tool().ok("attach tap1");
    bed.says_nothing();
}

#[test]
fn at_the_tc_hook_segments_are_redirected_whole_and_doctor_says_how_to_get_there() {
    guest::needs_kernel(6, 6, "tcx");
    let bed = Bed::new(false);
    bed.tool().ok("attach lan --mode skb");
    bed.rule("--proto tcp --keep-ip");
    let sender = format!("TSO is on at eth0 in {}", bed.lan.vm.name);
    let said = bed.says(&[&sender], &["redirected whole", "attach lan --mode tc`"]);
    let last = commands(&said).pop().expect("a command");
    let last = last.replace("xdpredir ", &format!("{BINARY} "));
    crate::fixture::command("sh", &["-c", &last]);
    bed.says_nothing();
    bed.no_segments_pass();
}

fn large(host: &Ns) -> Vec<u8> {
    Frame {
        proto: TCP,
        dmac: host.mac("tap0"),
        payload: vec![7; 4000],
        checksum: Checksum::Partial,
        ..Frame::default()
    }
    .bytes()
}
