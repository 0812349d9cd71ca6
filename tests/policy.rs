//! Interface policies: what becomes of frames that no rule matches.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::fixture::lan::mac;
use crate::fixture::packet::{Checksum, Frame, TCP};
use crate::fixture::tap::Tap;
use crate::fixture::{Host, Ns, Pins, Tool, eventually, kill};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockProtocol, SockType};
use serde_json::{Value, json};

/// Of the host's interface, and of what is behind it.
const MAC: &str = "52:54:00:00:00:02";
const CLIENT: [&str; 2] = ["10.0.0.1", "fd00::1"];
const INSIDE: [&str; 2] = ["10.0.0.2", "fd00::2"];

/// `client eth0 -- nic host veth0 -- eth0 inside`. Host and inside have the same addresses, as a wire wants it.
struct Wire {
    client: Ns,
    host: Ns,
    inside: Ns,
    pins: Pins,
}

impl Wire {
    fn new() -> Self {
        let (client, host) = (Ns::dual_stack("client"), Ns::dual_stack("host"));
        let inside = Ns::dual_stack("inside");
        host.veth("nic", &client, "eth0");
        host.veth("veth0", &inside, "eth0");
        host.ip(&format!("link set nic address {MAC}"));
        inside.ip(&format!("link set eth0 address {MAC}"));
        for (ns, device, addrs) in [
            (&client, "eth0", CLIENT),
            (&host, "nic", INSIDE),
            (&inside, "eth0", INSIDE),
        ] {
            ns.ip(&format!("addr add {}/24 dev {device}", addrs[0]));
            ns.ip(&format!("addr add {}/64 dev {device}", addrs[1]));
        }
        for end in [&client, &inside] {
            // A native program redirects only to a veth whose peer has NAPI.
            end.exec("ethtool -K eth0 gro on tso off gso off");
        }
        Wire {
            client,
            host,
            inside,
            pins: Pins::new(),
        }
    }

    fn connected(mode: &str) -> Self {
        let wire = Wire::new();
        for (from, to) in [("nic", "veth0"), ("veth0", "nic")] {
            let attach = format!("attach {from} --mode {mode} --policy forward:{to}");
            wire.tool().ok(&attach);
        }
        wire
    }

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.host,
            pins: &self.pins,
        }
    }

    fn outcome(&self, interface: &str, name: &str) -> u64 {
        outcome(&self.tool(), interface, name)
    }
}

fn interface(tool: &Tool, name: &str) -> Value {
    let stats = tool.json("stats");
    let all = stats["interfaces"].as_array().unwrap();
    all.iter().find(|i| i["ifname"] == name).unwrap().clone()
}

fn outcome(tool: &Tool, name: &str, outcome: &str) -> u64 {
    let counters = &interface(tool, name)["outcomes"][outcome];
    counters["packets"].as_u64().expect("an outcome")
}

/// All packets of an interface, by its outcomes and by its actions.
fn sums(tool: &Tool, name: &str) -> (u64, u64) {
    let interface = interface(tool, name);
    let sum = |key: &str| {
        let counters = interface[key].as_object().unwrap().values();
        counters.map(|c| c["packets"].as_u64().unwrap()).sum()
    };
    (sum("outcomes"), sum("actions"))
}

/// What the other side sends back to a greeting over TCP.
fn greet(from: &Ns, to: &str, port: u16) -> std::io::Result<String> {
    from.enter(|| {
        let addr = format!("{}:{port}", bracketed(to)).parse().unwrap();
        let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(3))?;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        stream.write_all(b"who")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

fn bracketed(addr: &str) -> String {
    match addr.contains(':') {
        true => format!("[{addr}]"),
        false => addr.into(),
    }
}

/// Answers each connection with a name, for as long as the test runs.
fn answering(ns: &Ns, port: u16, name: &'static str) {
    let listener = ns.enter(|| TcpListener::bind(format!("[::]:{port}")).expect("a port"));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut asked = [0; 3];
            if stream.read_exact(&mut asked).is_ok() {
                let _ = stream.write_all(name.as_bytes());
            }
        }
    });
}

/// A process in a namespace, for as long as this lives.
struct Running(Child);

impl Running {
    fn new(ns: &Ns, program: &str, args: &[&str]) -> Self {
        let net = format!("--net={}", ns.path().display());
        let mut command = Command::new("nsenter");
        command.args([&net, program]).args(args);
        Running(command.spawn().expect("it can be run"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether an echo request over ICMP is answered.
fn is_pinged(from: &Ns, to: &str) -> bool {
    from.enter(|| {
        let flags = SockFlag::SOCK_CLOEXEC;
        let protocol = SockProtocol::Icmp;
        let socket = socket::socket(AddressFamily::Inet, SockType::Raw, flags, protocol);
        let socket = UdpSocket::from(socket.expect("a raw socket"));
        socket
            .set_read_timeout(Some(Duration::from_secs(3)))
            .unwrap();
        // Type, code, checksum, identifier 1, number 1.
        let request = [8, 0, 0xf7, 0xfd, 0, 1, 0, 1];
        let port_of_no_meaning = 0;
        socket
            .send_to(&request, (to, port_of_no_meaning))
            .expect("a route");
        let mut packet = [0; 128];
        // The IP header comes with the answer.
        socket
            .recv(&mut packet)
            .is_ok_and(|len| len >= 28 && packet[20] == 0)
    })
}

/// "Redirect everything but SSH from the NIC to a veth, and back."
#[test]
fn ssh_stays_on_the_host_while_everything_else_crosses_the_wire() {
    for mode in ["skb", "native"] {
        let wire = Wire::new();
        let tool = wire.tool();
        let client = mac(&wire.client, "eth0");
        for addr in CLIENT {
            let neighbour = format!("neigh replace {addr} lladdr {client} dev nic nud permanent");
            wire.host.ip(&neighbour);
        }
        tool.ok(&format!("attach nic veth0 --mode {mode}"));
        tool.ok("rule add --in nic --proto tcp --port 22 --pass");
        tool.ok("policy veth0 forward:nic");
        tool.ok("policy nic forward:veth0");
        let places = [
            (&wire.host, 22, "host"),
            (&wire.host, 80, "host"),
            (&wire.inside, 22, "inside"),
            (&wire.inside, 80, "inside"),
            (&wire.client, 22, "client"),
        ];
        let _servers = places.map(|(ns, port, name)| {
            let listen = format!("TCP6-LISTEN:{port},ipv6only=0,fork,reuseaddr");
            Running::new(ns, "socat", &[&listen, &format!("SYSTEM:echo {name}")])
        });
        for (client, inside) in CLIENT.into_iter().zip(INSIDE) {
            let what = format!("{mode}, {inside}");
            let ask = |from: &Ns, to: &str, port| {
                let mut answer = String::new();
                eventually(&format!("{what}, port {port}"), || {
                    answer = greet(from, to, port).unwrap_or_default();
                    !answer.is_empty()
                });
                answer
            };
            assert_eq!(ask(&wire.client, inside, 22), "host\n", "{what}");
            assert_eq!(ask(&wire.client, inside, 80), "inside\n", "{what}");
            assert_eq!(ask(&wire.inside, client, 22), "client\n", "{what}");
        }
        assert!(is_pinged(&wire.client, INSIDE[0]), "{mode}");
        assert!(is_pinged(&wire.inside, CLIENT[0]), "{mode}");
        assert!(wire.outcome("nic", "passed_by_rule") > 0);
        assert_eq!(wire.outcome("veth0", "passed_by_rule"), 0);
        for name in ["nic", "veth0"] {
            let (outcomes, actions) = sums(&tool, name);
            assert_eq!(outcomes, actions);
            assert_eq!(wire.outcome(name, "no_rule"), 0);
        }
        // Nothing but that warns: the rule lets SSH pass.
        let ssh = |finding: &Value| finding["check"] == "ssh";
        let session = wire
            .client
            .enter(|| TcpStream::connect("10.0.0.2:22"))
            .expect("SSH");
        let warnings = tool.json("policy nic forward:veth0")["warnings"].clone();
        assert!(!warnings.as_array().unwrap().iter().any(ssh), "{warnings}");
        drop(session);
    }
}

#[test]
fn a_policy_is_shown_and_changed_at_once() {
    let wire = Wire::new();
    let tool = wire.tool();
    tool.ok("attach nic veth0");
    assert_eq!(tool.ok("policy nic").out, "nic: policy pass\n");
    assert!(!tool.ok("status").out.contains("policy"));
    let id = tool.json("status")["interfaces"][0]["program_id"].clone();

    let changed = tool.json("policy nic forward:veth0");
    let veth0 = wire.host.ifindex("veth0");
    let expected = json!({
        "ifname": "nic", "ifindex": wire.host.ifindex("nic"), "policy": "forward",
        "policy_ifindex": veth0, "policy_ifname": "veth0", "changed": true, "warnings": [],
        "attached": [], "detached": [],
    });
    assert_eq!(changed, expected);
    assert_eq!(tool.json("policy nic forward:veth0")["changed"], false);
    assert_eq!(tool.ok("policy nic").out, "nic: policy forward:veth0\n");
    let status = tool.json("status");
    assert_eq!(status["interfaces"][0]["policy"], "forward");
    assert_eq!(status["interfaces"][0]["policy_ifname"], "veth0");
    assert_eq!(
        status["interfaces"][0]["program_id"], id,
        "nothing was attached again"
    );
    assert_eq!(status["interfaces"][1]["policy"], "pass");
    let table = tool.ok("status").out;
    assert!(
        table.contains("policy") && table.contains("forward:veth0"),
        "{table}"
    );

    assert_eq!(tool.ok("policy nic drop").out, "nic: policy drop\n");
    assert_eq!(tool.json("policy nic")["policy_ifindex"], Value::Null);
    tool.ok("policy nic pass");
    tool.ok("detach --all");
    assert_eq!(wire.pins.left(), Vec::<PathBuf>::new());
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let wire = Wire::new();
    let tool = wire.tool();
    wire.host.ip("link add a0 type veth peer name a1");
    wire.host.ip("link add b0 type veth peer name b1");
    wire.host.ip("tuntap add tun0 mode tun");
    tool.run("policy nic drop")
        .fails(3, &["not attached", "attach"]);
    tool.run("attach nic --policy forward:nic")
        .fails(2, &["nic"]);
    tool.run("attach a0 --policy forward:a1")
        .fails(2, &["a0", "a1", "without an end"]);
    tool.run("attach nic --policy forward:none")
        .fails(3, &["none"]);
    tool.run("attach nic --policy forward:tun0")
        .fails(6, &["tun0", "Ethernet"]);
    tool.run("attach nic --policy reject")
        .fails(2, &["reject", "forward:DEV"]);
    tool.run("attach nic --policy forward:")
        .fails(2, &["device"]);
    assert_eq!(wire.pins.left(), Vec::<PathBuf>::new());

    tool.ok("attach nic a0 b1 --policy drop");
    tool.run("attach nic --policy pass")
        .fails(4, &["nic", "drop", "policy"]);
    tool.ok("attach nic --policy drop");
    tool.ok("attach nic");
    tool.run("policy veth0 drop")
        .fails(3, &["veth0", "not attached"]);
    tool.run("policy nic forward:nic").fails(2, &["nic"]);
    tool.run("policy nic forward:none").fails(3, &["none"]);
    tool.run("policy nic forward:tun0").fails(6, &["tun0"]);
    tool.run("policy nic reject").fails(2, &["reject"]);
    tool.run("policy a0 forward:a1").fails(2, &["a0", "a1"]);
    // a0 to b0, which arrives at b1, whose policy forwards to a1, which arrives at a0.
    tool.ok("policy b1 forward:a1");
    tool.run("policy a0 forward:b0").fails(2, &["a0", "b0"]);
    for name in ["nic", "a0"] {
        assert_eq!(tool.json(&format!("policy {name}"))["policy"], "drop");
    }
}

#[test]
fn attach_sets_the_policy_before_the_first_frame() {
    let wire = Wire::new();
    let attached = wire.tool().json("attach nic veth0 --policy drop");
    assert_eq!(attached[0]["policy"], "drop");
    let text = wire.tool().ok("attach nic").out;
    assert!(text.contains("policy drop"), "{text}");
    for name in ["nic", "veth0"] {
        assert_eq!(
            wire.tool().json(&format!("policy {name}"))["policy"],
            "drop"
        );
    }
}

#[test]
fn an_attach_with_a_policy_killed_at_any_instant_leaves_all_or_nothing() {
    let wire = Wire::new();
    let tool = wire.tool();
    let words = "attach nic --policy forward:veth0";
    let changes = kill::count_changes(&mut tool.command(words));
    tool.ok("detach --all");
    for n in kill::mostly_the_last(changes, 12) {
        let killed = kill::before_change(&mut tool.command(words), n);
        let status = tool.json("status");
        let attached = status["interfaces"].as_array().unwrap().len();
        assert!(killed || attached == 1, "{n} of {changes}: {status}");
        for interface in status["interfaces"].as_array().unwrap() {
            assert_eq!(interface["policy"], "forward");
            assert_eq!(interface["policy_ifname"], "veth0");
        }
        let run = tool.run("detach --all");
        assert!([0, 3].contains(&run.code), "{run:?}");
        assert_eq!(wire.pins.left(), Vec::<PathBuf>::new());
    }
}

/// Frames of all kinds, with what they are called where they pass.
fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let plain = Frame::default().bytes();
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut frame = plain.clone();
        change(&mut frame);
        frame
    };
    vec![
        ("no_rule", plain.clone()),
        ("not_ip", changed(|f| (f[12], f[13]) = (8, 6))),
        (
            "not_unicast",
            Frame {
                dst: [224, 0, 0, 251].into(),
                ..Frame::default()
            }
            .bytes(),
        ),
        ("not_unicast", changed(|f| f[..6].fill(0xff))),
        (
            "not_udp_tcp",
            Frame {
                proto: 47,
                ..Frame::default()
            }
            .bytes(),
        ),
        (
            "not_ip",
            changed(|f| f.truncate(14))
                .into_iter()
                .take(12)
                .chain([0x88, 0xb5])
                .collect(),
        ),
        ("truncated", changed(|f| f.truncate(30))),
        ("malformed", changed(|f| f[14] = 0x44)),
        (
            "no_rule",
            changed(|f| drop(f.splice(12..12, [0x81, 0, 0, 5]))),
        ),
        (
            "too_many_tags",
            changed(|f| drop(f.splice(12..12, [0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x81, 0, 0, 7]))),
        ),
        (
            "fragment_without_first",
            changed(|f| (f[20], f[21], f[30]) = (0, 16, 77)),
        ),
        (
            "no_rule",
            Frame {
                proto: TCP,
                payload: vec![7; 1400],
                ..Frame::default()
            }
            .bytes(),
        ),
    ]
}

#[test]
fn every_frame_that_no_rule_matches_is_the_policys_whole_and_counted_once() {
    for mode in ["skb", "native"] {
        let host = Host::new();
        let tool = host.tool();
        let mut from = Tap::new(&host.ns, "in", false);
        let mut to = Tap::new(&host.ns, "out", false);
        tool.ok(&format!("attach in --mode {mode}"));
        let mut sent = 0;
        for (policy, expected) in [
            ("pass", None),
            ("drop", Some("policy_drop")),
            ("forward:out", Some("policy_forward")),
        ] {
            tool.ok(&format!("policy in {policy}"));
            for (passed_as, frame) in frames() {
                let name = expected.unwrap_or(passed_as);
                let before = outcome(&tool, "in", name);
                from.write(&frame, Checksum::Full);
                sent += 1;
                let what = format!("{mode}, {policy}: a frame that is {passed_as}");
                eventually(&what, || outcome(&tool, "in", name) == before + 1);
                assert_eq!(sums(&tool, "in"), (sent, sent), "{what}");
                if expected == Some("policy_forward") {
                    assert_eq!(to.read(), Some(frame), "{what}");
                }
            }
        }
    }
}

#[test]
fn a_rule_comes_before_the_policy_and_what_it_cannot_send_passes() {
    let host = Host::new();
    let tool = host.tool();
    let mut from = Tap::new(&host.ns, "in", false);
    let mut to = Tap::new(&host.ns, "out", false);
    tool.ok("attach in --mode skb --policy drop");
    tool.ok("rule add --server 172.17.0.2 --mac 02:42:ac:11:00:02 --dev out");
    from.write(&Frame::default().bytes(), Checksum::Full);
    assert!(to.read().is_some());
    let ends = Frame {
        ttl: 1,
        ..Frame::default()
    };
    from.write(&ends.bytes(), Checksum::Full);
    eventually("it passes", || outcome(&tool, "in", "ttl_exceeded") == 1);
    assert_eq!(outcome(&tool, "in", "policy_drop"), 0);
}

#[test]
fn a_device_that_is_gone_or_too_small_loses_frames_under_outcomes_of_their_own() {
    let host = Host::new();
    let tool = host.tool();
    let mut from = Tap::new(&host.ns, "in", false);
    let out = Tap::new(&host.ns, "out", false);
    host.ns.ip("link set out mtu 600");
    tool.ok("attach in --mode skb --policy forward:out");
    let doctor = tool.run("doctor --json").json();
    let checks = |doctor: &Value| -> Vec<String> {
        let findings = doctor.as_array().unwrap();
        findings
            .iter()
            .map(|f| f["check"].as_str().unwrap().to_string())
            .collect()
    };
    assert!(checks(&doctor).contains(&"mtu".to_string()), "{doctor}");

    let long = Frame {
        payload: vec![1; 700],
        ..Frame::default()
    };
    from.write(&long.bytes(), Checksum::Full);
    eventually("it is too long", || {
        outcome(&tool, "in", "policy_too_long") == 1
    });

    let gone = host.ns.ifindex("out");
    drop(out);
    host.ns.ip("link show");
    eventually("the tap is gone", || {
        host.ns
            .enter(|| nix::net::if_::if_nametoindex("out"))
            .is_err()
    });
    from.write(&Frame::default().bytes(), Checksum::Full);
    eventually("no device", || {
        outcome(&tool, "in", "policy_no_device") == 1
    });
    assert_eq!(sums(&tool, "in"), (2, 2));
    assert_eq!(interface(&tool, "in")["actions"]["drop"]["packets"], 2);
    assert_eq!(tool.json("policy in")["policy_ifname"], Value::Null);
    assert!(tool.ok("status").out.contains("forward (device gone)"));
    let run = tool.run("doctor --json");
    assert_eq!(run.code, 7);
    assert!(
        checks(&run.json()).contains(&"policy".to_string()),
        "{run:?}"
    );

    // Another device with its index gets nothing, also once a rule leads there.
    host.ns.ip(&format!(
        "link add other index {gone} type veth peer name other1"
    ));
    host.ns.ip("link set other up");
    host.ns.ip("link set other1 up");
    tool.ok("rule add --server 172.17.0.2 --mac 02:42:ac:11:00:02 --dev other --port 1");
    from.write(&Frame::default().bytes(), Checksum::Full);
    eventually("still no device", || {
        outcome(&tool, "in", "policy_no_device") == 2
    });
    assert_eq!(tool.json("policy in")["policy_ifname"], Value::Null);
    tool.ok("policy in forward:other");
    from.write(&Frame::default().bytes(), Checksum::Full);
    eventually("forwarded", || outcome(&tool, "in", "policy_forward") == 1);
}

#[test]
fn a_wire_of_two_policies_carries_arp_ip_and_tcp_in_both_directions() {
    for mode in ["skb", "native"] {
        let wire = Wire::connected(mode);
        answering(&wire.inside, 80, "inside");
        answering(&wire.client, 80, "client");
        answering(&wire.host, 80, "host");
        for (family, (client, inside)) in CLIENT.into_iter().zip(INSIDE).enumerate() {
            // Neighbours are asked for over the wire.
            assert_eq!(
                greet(&wire.client, inside, 80).expect(mode),
                "inside",
                "{mode} {family}"
            );
            assert_eq!(
                greet(&wire.inside, client, 80).expect(mode),
                "client",
                "{mode} {family}"
            );
        }
        let neighbours = wire.client.ip("neigh show dev eth0");
        assert!(
            neighbours.contains(INSIDE[0]) && neighbours.contains(MAC),
            "{neighbours}"
        );
        for name in ["nic", "veth0"] {
            assert!(wire.outcome(name, "policy_forward") > 10, "{mode} {name}");
            let interface = interface(&wire.tool(), name);
            assert_eq!(
                interface["actions"]["pass"]["packets"], 0,
                "{mode} {interface}"
            );
            let (outcomes, actions) = sums(&wire.tool(), name);
            assert_eq!(outcomes, actions);
        }
    }
}

/// What a sender with checksum offload leaves to others is complete at the receiver.
#[test]
fn udp_and_large_transfers_arrive_whole_over_the_wire() {
    for mode in ["skb", "native"] {
        let wire = Wire::connected(mode);
        let receiver = wire
            .inside
            .enter(|| UdpSocket::bind("0.0.0.0:9000").unwrap());
        receiver
            .set_read_timeout(Some(Duration::from_secs(3)))
            .unwrap();
        let sender = wire.client.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        let mut buffer = [0; 4096];
        for size in [0, 1, 7, 100, 1001, 1400, 3000] {
            let sent: Vec<u8> = (0..size).map(|i| i as u8).collect();
            sender.send_to(&sent, "10.0.0.2:9000").unwrap();
            let (got, _) = receiver.recv_from(&mut buffer).expect("it arrives");
            assert_eq!(buffer[..got], sent[..], "{mode}, {size}");
        }

        let listener = wire
            .inside
            .enter(|| TcpListener::bind("0.0.0.0:9000").unwrap());
        let sent: Vec<u8> = (0..2_000_000u32).map(|i| (i / 7) as u8).collect();
        let copy = sent.clone();
        let sending = wire
            .client
            .enter(|| TcpStream::connect("10.0.0.2:9000").unwrap());
        let (mut stream, _) = listener.accept().unwrap();
        let writer = thread::spawn(move || (&sending).write_all(&copy));
        let mut got = Vec::new();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream.read_to_end(&mut got).expect("all of it");
        writer.join().unwrap().unwrap();
        assert!(got == sent, "{mode}");
    }
}

/// Each frame of a running flow meets the old policy or the new one, and is counted once.
#[test]
fn a_policy_changes_under_traffic() {
    let wire = Wire::connected("native");
    let running = AtomicBool::new(true);
    let before = wire.client.ip("-s -j link show eth0");
    let sent = |json: &str| {
        let json: Value = serde_json::from_str(json).unwrap();
        json[0]["stats64"]["tx"]["packets"].as_u64().unwrap()
    };
    let (start, counted) = (sent(&before), sums(&wire.tool(), "nic").0);
    let socket = wire.client.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    wire.client
        .ip(&format!("neigh replace 10.0.0.2 lladdr {MAC} dev eth0"));
    thread::scope(|scope| {
        scope.spawn(|| {
            while running.load(Ordering::Relaxed) {
                let _ = socket.send_to(b"flood", "10.0.0.2:9");
                thread::sleep(Duration::from_micros(20));
            }
        });
        for round in 0..60 {
            let policy = ["drop", "pass", "forward:veth0"][round % 3];
            wire.tool().ok(&format!("policy nic {policy}"));
        }
        running.store(false, Ordering::Relaxed);
    });
    for name in ["policy_drop", "no_rule", "policy_forward"] {
        assert!(wire.outcome("nic", name) > 0, "{name}");
    }
    assert_eq!(wire.outcome("nic", "policy_no_device"), 0);
    eventually("each frame is counted once", || {
        let frames = sent(&wire.client.ip("-s -j link show eth0")) - start;
        sums(&wire.tool(), "nic").0 - counted == frames
    });
}

#[test]
fn a_policy_that_cuts_off_an_ssh_session_is_warned_of() {
    let wire = Wire::new();
    let tool = wire.tool();
    tool.ok("attach nic veth0");
    let listener = wire
        .host
        .enter(|| TcpListener::bind("[::]:22").expect("a port"));
    let ssh = |warnings: &Value| -> Vec<String> {
        let all = warnings["warnings"].as_array().unwrap();
        let ssh = all.iter().filter(|finding| finding["check"] == "ssh");
        ssh.map(|f| f["mend"].as_str().unwrap().to_string())
            .collect()
    };
    let drop_all = || ssh(&tool.json("policy nic drop"));
    assert_eq!(drop_all(), Vec::<String>::new(), "nobody is connected");
    tool.ok("policy nic pass");
    for addr in INSIDE {
        let connect = || TcpStream::connect(format!("{}:22", bracketed(addr)));
        let session = wire.client.enter(connect).expect("a session");
        let accepted = listener.accept().expect("a session");
        let warnings = drop_all();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let add = "rule add --in nic --proto tcp --port 22 --pass`";
        assert!(warnings[0].contains(add), "{warnings:?}");
        let mac = mac(&wire.client, "eth0");
        let client = CLIENT[usize::from(addr.contains(':'))];
        let neighbour = format!("ip neigh replace {client} lladdr {mac} dev nic nud permanent`");
        assert!(warnings[0].contains(&neighbour), "{warnings:?}");
        assert_eq!(ssh(&tool.json("policy nic forward:veth0")).len(), 1);
        assert_eq!(ssh(&tool.json("policy nic pass")), Vec::<String>::new());
        assert_eq!(ssh(&tool.json("policy veth0 drop")), Vec::<String>::new());
        tool.ok("policy veth0 pass");
        drop((session, accepted));
        // The side that closed first waits; this one is not established any more.
        eventually("it is closed", || drop_all().is_empty());
        tool.ok("policy nic pass");
    }
}

#[test]
fn what_the_kernel_loses_of_forwarded_frames_is_counted_and_the_device_is_listed() {
    let host = Host::new();
    let tool = host.tool();
    let mut from = Tap::new(&host.ns, "in", false);
    let _out = Tap::without_queues(&host.ns, "out");
    tool.ok("attach in --mode native --policy forward:out");
    for _ in 0..5 {
        from.write(&Frame::default().bytes(), Checksum::Full);
    }
    eventually("all are lost", || {
        tool.json("stats")["unattributed"]["not_supported"] == 5
    });
    assert_eq!(outcome(&tool, "in", "policy_forward"), 5);
    let stats = tool.json("stats");
    assert_eq!(stats["egress"][0]["ifname"], "out", "{stats}");
    let text = tool.ok("stats").out;
    assert!(
        text.contains("5 lost frames") && text.contains("policy"),
        "{text}"
    );
}
