//! Addresses of a link that no host has: rules announce them, and clients on that link use them.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::fixture::model::{Addrs, octets};
use crate::fixture::packet::sum;
use crate::fixture::routed::{Between, Routed as Bed};
use crate::fixture::run::{Loaded, XDP_PASS, XDP_REDIRECT, XDP_TX};
use crate::fixture::tap::Tap;
use crate::fixture::{self, Ns, guest, kill};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockProtocol, SockType};

/// Addresses of the client's own network.
const VIPS: [&str; 2] = ["192.168.122.53", "fd00:122::53"];
const SERVERS: [&str; 2] = ["172.17.0.2", "fd00:17::2"];

impl Bed {
    /// Attached at both sides.
    fn attached_both(mode: &str) -> Bed {
        let bed = Bed::new(Between::Veth);
        for ns in [&bed.client, &bed.server] {
            // So that what the host sends there natively arrives.
            ns.exec("ethtool -K eth0 gro on");
        }
        bed.tool().ok(&format!("attach lan wan --mode {mode}"));
        bed
    }

    fn announce(&self, words: &str) {
        for (vip, server) in VIPS.into_iter().zip(SERVERS) {
            self.tool().ok(&format!(
                "rule add --dst {vip} --port 53 --server {server} --reply nat --announce {words}"
            ));
        }
    }

    /// The MAC address that the client has for an address.
    fn neighbour(&self, addr: &str) -> Option<String> {
        let json = self.client.ip(&format!("-j neigh show {addr}"));
        let entries: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        entries[0]["lladdr"].as_str().map(String::from)
    }

    /// Asks the server at the announced address.
    fn converses(&self, vip: &str, server: &str) {
        let at = SocketAddr::new(server.parse().unwrap(), 53);
        let server = self.server.enter(|| UdpSocket::bind(at).unwrap());
        let client = socket_to(&self.client, vip);
        server
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        client.send(b"question").unwrap();
        let mut buffer = [0; 64];
        let (_, from) = server.recv_from(&mut buffer).expect("the question arrives");
        server.send_to(b"answer", from).unwrap();
        let len = client.recv(&mut buffer).expect("the answer arrives");
        assert_eq!(&buffer[..len], b"answer");
    }
}

/// Whether an echo request gets a reply within a second.
fn pings(ns: &Ns, addr: &str) -> bool {
    let addr: IpAddr = addr.parse().unwrap();
    let (family, protocol, request, reply) = match addr {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8, 0),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129),
    };
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = ns.enter(|| socket::socket(family, SockType::Raw, flags, protocol));
    let socket = UdpSocket::from(socket.expect("a raw socket"));
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    // Type, code, checksum, identifier, number, and an odd number of bytes. The kernel computes that of ICMPv6.
    let mut echo = [request, 0, 0, 0, 0, 7, 0, 1, 0xaa, 0xbb, 0xcc];
    let check = !fixture::packet::sum(&echo);
    echo[2..4].copy_from_slice(&check.to_be_bytes());
    let port_of_no_meaning = 0;
    socket.connect((addr, port_of_no_meaning)).expect("a route");
    socket.send(&echo).expect("it is sent");
    let mut packet = [0; 128];
    while let Ok(len) = socket.recv(&mut packet) {
        // The IPv4 header comes along.
        let message = &packet[if addr.is_ipv4() { 20 } else { 0 }..len];
        if message[0] == reply && message[4..] == echo[4..] {
            return true;
        }
    }
    false
}

fn socket_to(ns: &Ns, vip: &str) -> UdpSocket {
    let addr: IpAddr = vip.parse().unwrap();
    let any = if addr.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let client = ns.enter(|| UdpSocket::bind(any).unwrap());
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    client.connect((addr, 53)).unwrap();
    client
}

fn on_each_bed(test: impl Fn(&Bed, &str)) {
    for mode in guest::modes() {
        if mode == "native" && !guest::is_kernel(6, 3) {
            continue; // the kernel does not say whether answers arrive, so there are none
        }
        test(&Bed::attached_both(mode), mode);
    }
}

#[test]
fn clients_of_the_link_find_an_announced_address_ping_it_and_get_answers_from_it() {
    on_each_bed(|bed, mode| {
        bed.announce("");
        let mac = fixture::lan::mac(&bed.host, "lan");
        for (vip, server) in VIPS.into_iter().zip(SERVERS) {
            bed.converses(vip, server);
            assert_eq!(bed.neighbour(vip), Some(mac.clone()), "{mode} {vip}");
            assert!(pings(&bed.client, vip), "{mode} {vip}");
            assert!(bed.host.ip("-o addr").lines().all(|l| !l.contains(vip)));
        }
        // The kernel of the client may ask again.
        assert!(bed.counted("announced") >= 2, "{mode}");
        assert_eq!(bed.counted("echo_answered"), 2, "{mode}");
    });
}

/// A frame as it is on the wire, and what the program makes of it on `lan` in generic mode.
struct Wire {
    bed: Bed,
    ours: [u8; 6],
    program: Loaded,
}

const PEER: [u8; 6] = [2, 0, 0, 0, 0, 0xdd];
const EVERYBODY: [u8; 6] = [0xff; 6];

impl Wire {
    fn new() -> Wire {
        let bed = Bed::attached_both("skb");
        Wire {
            ours: bed.host.mac("lan"),
            program: Loaded::on(&bed.tool().json("status"), "lan"),
            bed,
        }
    }

    #[track_caller]
    fn answers(&self, what: &str, frame: &[u8], answer: &[u8]) {
        let (verdict, out) = self.program.run(frame);
        assert_eq!((verdict, hex(&out)), (XDP_TX, hex(answer)), "{what}");
    }

    #[track_caller]
    fn passes(&self, what: &str, frame: &[u8]) {
        let (verdict, out) = self.program.run(frame);
        assert_eq!((verdict, hex(&out)), (XDP_PASS, hex(frame)), "{what}");
    }

    fn is_answered(&self, vip: &str) -> bool {
        let question = Question::of(vip);
        self.program.run(&question.frame()).0 == XDP_TX
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An ARP request (RFC 826) or a neighbour solicitation (RFC 4861), and what answers it.
#[derive(Clone)]
struct Question {
    target: IpAddr,
    /// 0.0.0.0 or ::, for a probe.
    from: IpAddr,
    tags: Vec<[u8; 4]>,
}

impl Question {
    fn of(vip: &str) -> Question {
        let target: IpAddr = vip.parse().unwrap();
        let from = if target.is_ipv4() {
            "192.168.122.10"
        } else {
            "fd00:122::10"
        };
        Question {
            target,
            from: from.parse().unwrap(),
            tags: Vec::new(),
        }
    }

    fn link(&self, to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
        let kind = if self.target.is_ipv4() {
            [8, 6]
        } else {
            [0x86, 0xdd]
        };
        [&to[..], &from, &self.tags.concat(), &kind].concat()
    }

    fn frame(&self) -> Vec<u8> {
        match self.target {
            IpAddr::V4(_) => {
                let arp = arp(1, (PEER, self.from), ([0; 6], self.target));
                // As short frames are.
                [self.link(EVERYBODY, PEER), arp, vec![0; 18]].concat()
            }
            IpAddr::V6(target) => {
                let [.., a, b, c] = target.octets();
                let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c];
                let option = [&[1, 1][..], &PEER].concat();
                let option = if self.from.is_unspecified() {
                    Vec::new()
                } else {
                    option
                };
                let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &option].concat();
                let packet = icmp6(255, self.from, group.into(), &message);
                [self.link([0x33, 0x33, 0xff, a, b, c], PEER), packet].concat()
            }
        }
    }

    fn answer(&self, ours: [u8; 6]) -> Vec<u8> {
        match self.target {
            IpAddr::V4(_) => {
                let arp = arp(2, (ours, self.target), (PEER, self.from));
                [self.link(PEER, ours), arp, vec![0; 18]].concat()
            }
            IpAddr::V6(target) => {
                let all_nodes = "ff02::1".parse().unwrap();
                let (to, mac, flags) = match self.from.is_unspecified() {
                    true => (all_nodes, [0x33, 0x33, 0, 0, 0, 1], 0x20),
                    false => (self.from, PEER, 0x60),
                };
                let message = [
                    &[136, 0, 0, 0, flags, 0, 0, 0][..],
                    &target.octets(),
                    &[2, 1],
                    &ours,
                ]
                .concat();
                [self.link(mac, ours), icmp6(255, self.target, to, &message)].concat()
            }
        }
    }
}

fn arp(operation: u8, sender: ([u8; 6], IpAddr), target: ([u8; 6], IpAddr)) -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, operation];
    for (mac, addr) in [sender, target] {
        arp.extend(mac);
        arp.extend(octets(addr));
    }
    arp
}

/// A packet of ICMPv6 with its checksum.
fn icmp6(hops: u8, src: IpAddr, dst: IpAddr, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let pseudo = Addrs { src, dst }.pseudo_header(58, message.len());
    let check = !sum(&[&pseudo[..], &message].concat());
    message[2..4].copy_from_slice(&check.to_be_bytes());
    let len = (message.len() as u16).to_be_bytes();
    let ip = [0x60, 0, 0, 0, len[0], len[1], 58, hops];
    [&ip[..], &octets(src), &octets(dst), &message].concat()
}

/// An echo request or reply with its Ethernet header.
fn echo(macs: [[u8; 6]; 2], kinds: [u8; 2], hops: u8, src: IpAddr, dst: IpAddr) -> Vec<u8> {
    let message = |kind| [&[kind, 0, 0, 0, 0, 7, 0, 1][..], b"odd"].concat();
    if src.is_ipv6() {
        let packet = icmp6(hops, src, dst, &message(kinds[1]));
        return [&macs.concat()[..], &[0x86, 0xdd], &packet].concat();
    }
    let mut message = message(kinds[0]);
    let check = !sum(&message);
    message[2..4].copy_from_slice(&check.to_be_bytes());
    let mut ip = vec![
        0x45,
        0,
        0,
        20 + message.len() as u8,
        1,
        2,
        0x40,
        0,
        hops,
        1,
        0,
        0,
    ];
    ip.extend([octets(src), octets(dst)].concat());
    let check = !sum(&ip);
    ip[10..12].copy_from_slice(&check.to_be_bytes());
    // With padding, as short frames have.
    [&macs.concat()[..], &[8, 0], &ip, &message, &[0; 9]].concat()
}

#[test]
fn requests_and_solicitations_are_answered_with_the_mac_address_of_the_interface() {
    let wire = Wire::new();
    wire.bed.announce("");
    for vip in VIPS {
        let question = Question::of(vip);
        wire.answers(vip, &question.frame(), &question.answer(wire.ours));
        let mut to_us = question.frame();
        to_us[..6].copy_from_slice(&wire.ours);
        wire.answers("to this host alone", &to_us, &question.answer(wire.ours));
        let nobody = if vip.contains(':') { "::" } else { "0.0.0.0" };
        let probe = Question {
            from: nobody.parse().unwrap(),
            ..question
        };
        wire.answers("a probe", &probe.frame(), &probe.answer(wire.ours));
    }
    let message = [
        &[135, 0, 0, 0, 0, 0, 0, 0][..],
        &octets(VIPS[1].parse().unwrap()),
    ]
    .concat();
    let target: IpAddr = VIPS[1].parse().unwrap();
    let question = Question::of(VIPS[1]);
    let unicast = icmp6(255, question.from, target, &message);
    let unicast = [question.link(wire.ours, PEER), unicast].concat();
    wire.answers("is it still there?", &unicast, &question.answer(wire.ours));
}

#[test]
fn the_tags_of_a_question_stay_and_the_rules_place_holds() {
    let wire = Wire::new();
    let tag = [0x81, 0, 0x60, 5];
    let inner = [0x81, 0, 0, 7];
    for (words, tags) in [
        ("--vlan 5", vec![tag]),
        ("--vlan 5", vec![[0x88, 0xa8, 0, 5], inner]),
        ("--vlan 5 --inner-vlan 7 --in lan", vec![tag, inner]),
        ("--in lan", Vec::new()),
    ] {
        wire.bed.tool().run("rule del --all --if-exists").ok();
        wire.bed.announce(words);
        for vip in VIPS {
            let question = Question {
                tags: tags.clone(),
                ..Question::of(vip)
            };
            wire.answers(words, &question.frame(), &question.answer(wire.ours));
            let mut other = Question::of(vip);
            other.tags = vec![[0x81, 0, 0, 6]];
            wire.passes("another VLAN", &other.frame());
        }
    }
    wire.bed.tool().ok("rule del --all");
    wire.bed.announce("--in wan");
    wire.passes("another interface", &Question::of(VIPS[0]).frame());
    wire.passes("another interface", &Question::of(VIPS[1]).frame());
}

#[test]
fn what_asks_wrongly_or_for_another_address_is_left_alone() {
    let wire = Wire::new();
    wire.bed.announce("");
    let v4 = Question::of(VIPS[0]).frame();
    let changed = |at: usize, bytes: &[u8]| {
        let mut frame = v4.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    for (what, frame) in [
        ("not Ethernet", changed(14, &[0, 6])),
        ("not IPv4", changed(16, &[0x86, 0xdd])),
        ("a long MAC address", changed(18, &[8])),
        ("a long address", changed(19, &[16])),
        ("a reply", changed(20, &[0, 2])),
        ("from a group's MAC address", changed(22, &[3])),
        ("from a group", changed(28, &[224])),
        ("an announcement", changed(28, &[192, 168, 122, 53])),
        ("for another address", changed(41, &[54])),
        ("to another host", changed(0, &[2, 0, 0, 0, 0, 9])),
        ("cut off", v4[..41].to_vec()),
        ("RARP", changed(12, &[0x80, 0x35])),
    ] {
        wire.passes(what, &frame);
    }

    let target: IpAddr = VIPS[1].parse().unwrap();
    let question = Question::of(VIPS[1]);
    let group: IpAddr = "ff02::1:ff00:53".parse().unwrap();
    let ask = |hops, from: &str, to: IpAddr, kind: [u8; 2], target: IpAddr, options: &[u8]| {
        let message = [&kind[..], &[0; 6], &octets(target), options].concat();
        let packet = icmp6(hops, from.parse().unwrap(), to, &message);
        [question.link([0x33, 0x33, 0xff, 0, 0, 0x53], PEER), packet].concat()
    };
    let other: IpAddr = "fd00:122::54".parse().unwrap();
    let (own, solicits) = ("fd00:122::10", [135, 0]);
    let option = [&[1, 1][..], &PEER].concat();
    let five = [14, 1, 0, 0, 0, 0, 0, 0].repeat(5);
    for (what, frame) in [
        ("routed", ask(254, own, group, solicits, target, &[])),
        ("a code", ask(255, own, group, [135, 1], target, &[])),
        ("another type", ask(255, own, group, [133, 0], target, &[])),
        ("for another", ask(255, own, group, solicits, other, &[])),
        ("to another", ask(255, own, other, solicits, target, &[])),
        (
            "from a group",
            ask(255, "ff02::1", group, solicits, target, &[]),
        ),
        (
            "a probe to it",
            ask(255, "::", target, solicits, target, &[]),
        ),
        (
            "a probe with a MAC",
            ask(255, "::", group, solicits, target, &option),
        ),
        (
            "an option of no length",
            ask(255, own, group, solicits, target, &[1, 0, 0, 0, 0, 0, 0, 0]),
        ),
        (
            "an option that is cut off",
            ask(255, own, group, solicits, target, &[1, 2, 0, 0, 0, 0, 0, 0]),
        ),
        (
            "half an option",
            ask(255, own, group, solicits, target, &[1, 1, 0, 0]),
        ),
        (
            "many options",
            ask(255, own, group, solicits, target, &five),
        ),
    ] {
        wire.passes(what, &frame);
    }
    let good = ask(
        255,
        own,
        group,
        solicits,
        target,
        &[14, 1, 1, 2, 3, 4, 5, 6, 1, 1, 2, 0, 0, 0, 0, 0xdd],
    );
    wire.answers("two options", &good, &question.answer(wire.ours));
    for at in 14 + 40 + 2..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 0x40;
        wire.passes("a wrong checksum", &damaged);
    }
    let mut group_asks = good.clone();
    group_asks[6] |= 1;
    wire.passes("from a group's MAC address", &group_asks);
    let mut elsewhere = good;
    elsewhere[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    wire.passes("to another host", &elsewhere);
}

#[test]
fn only_echo_requests_that_are_whole_and_for_this_host_are_answered() {
    let wire = Wire::new();
    wire.bed.announce("");
    let (ours, requests) = (wire.ours, [8, 128]);
    for (vip, from) in VIPS.into_iter().zip(["10.0.0.7", "fd00::7"]) {
        let [vip, from]: [IpAddr; 2] = [vip, from].map(|addr| addr.parse().unwrap());
        let request = echo([ours, PEER], requests, 3, from, vip);
        let reply = echo([PEER, ours], [0, 129], 64, vip, from);
        wire.answers("an echo request", &request, &reply);
        for at in 14..request.len() - if vip.is_ipv4() { 9 } else { 0 } {
            // Of IPv6, nothing covers the header's first four bytes and its hop limit.
            if vip.is_ipv6() && (at < 18 || at == 21) {
                continue;
            }
            let mut damaged = request.clone();
            damaged[at] ^= 0x20;
            wire.passes("a wrong checksum", &damaged);
        }
        let mut elsewhere = request.clone();
        elsewhere[5] ^= 1;
        wire.passes("to another host", &elsewhere);
        elsewhere[..6].copy_from_slice(&EVERYBODY);
        wire.passes("to everybody", &elsewhere);
        wire.passes("a reply", &echo([ours, PEER], [0, 129], 3, from, vip));
        let group = if vip.is_ipv4() {
            "224.0.0.1"
        } else {
            "ff02::1"
        };
        let group = group.parse().unwrap();
        wire.passes("from a group", &echo([ours, PEER], requests, 3, group, vip));
        let other = if vip.is_ipv4() {
            "192.168.122.54"
        } else {
            "fd00:122::54"
        };
        let other = other.parse().unwrap();
        wire.passes("for another", &echo([ours, PEER], requests, 3, from, other));
    }
}

#[test]
fn an_address_is_answered_for_as_long_as_a_rule_announces_it() {
    let wire = Wire::new();
    let tool = wire.bed.tool();
    for (vip, server) in VIPS.into_iter().zip(SERVERS) {
        let rule = |port: u16, more: &str| {
            format!("rule add --dst {vip} --port {port} --server {server} {more}")
        };
        tool.ok(&rule(80, ""));
        assert!(!wire.is_answered(vip));
        tool.ok(&rule(53, "--announce"));
        tool.ok(&rule(80, "--announce"));
        assert!(wire.is_answered(vip));
        tool.ok(&rule(80, "--no-announce"));
        assert!(wire.is_answered(vip), "the other one does");
        tool.ok(&rule(80, "--weight 3 --announce"));
        tool.ok(&format!("rule del --dst {vip} --port 53"));
        assert!(wire.is_answered(vip), "the other one does");
        tool.ok(&rule(80, "--weight 4"));
        assert!(wire.is_answered(vip), "what is not given stays");
        let listed = tool.json(&format!("rule list --dst {vip}"));
        assert_eq!(listed[0]["announce"], true);
        assert_eq!(listed.as_array().unwrap().len(), 1);
        tool.ok("rule refresh");
        assert!(wire.is_answered(vip));
        tool.ok(&format!("rule del --dst {vip} --port 80"));
        assert!(!wire.is_answered(vip));
    }
}

#[test]
fn each_address_of_a_prefix_is_answered_for() {
    let wire = Wire::new();
    let tool = wire.bed.tool();
    tool.ok("rule add --dst 192.168.122.64/28 --server 172.17.0.2 --announce");
    tool.ok("rule add --dst fd00:122::40/124 --server fd00:17::2 --announce");
    for (vip, is_in) in [
        ("192.168.122.63", false),
        ("192.168.122.64", true),
        ("192.168.122.79", true),
        ("192.168.122.80", false),
        ("fd00:122::3f", false),
        ("fd00:122::40", true),
        ("fd00:122::4f", true),
        ("fd00:122::50", false),
    ] {
        assert_eq!(wire.is_answered(vip), is_in, "{vip}");
    }
    // The lookup goes by the most specific one first, and finds the others, too.
    tool.ok("rule add --dst 192.168.123.70 --server 172.17.0.2 --announce");
    tool.ok("rule add --dst 192.168.123.0/24 --port 9 --server 172.17.0.2 --announce --in lan");
    for vip in ["192.168.123.70", "192.168.123.71", "192.168.123.2"] {
        assert!(wire.is_answered(vip), "{vip}");
    }
}

#[test]
fn rules_come_before_pings_and_after_solicitations() {
    let wire = Wire::new();
    let tool = wire.bed.tool();
    for (vip, server) in VIPS.into_iter().zip(SERVERS) {
        tool.ok(&format!(
            "rule add --dst {vip} --proto any --server {server} --keep-ip --announce"
        ));
        let mac = fixture::lan::mac(&wire.bed.server, "eth0");
        tool.ok(&format!(
            "rule add --dst {vip} --proto any --server {server} --mac {mac} --dev wan"
        ));
        assert!(wire.is_answered(vip), "{vip}");
        let from = if vip.contains(':') {
            "fd00::7"
        } else {
            "10.0.0.7"
        };
        let request = echo(
            [wire.ours, PEER],
            [8, 128],
            9,
            from.parse().unwrap(),
            vip.parse().unwrap(),
        );
        assert_eq!(wire.program.run(&request).0, XDP_REDIRECT, "{vip}");
    }
}

#[test]
fn a_policy_takes_no_question_for_an_announced_address() {
    let wire = Wire::new();
    wire.bed.announce("");
    for policy in ["drop", "forward:wan"] {
        wire.bed.tool().ok(&format!("policy lan {policy}"));
        for vip in VIPS {
            let mut question = Question::of(vip);
            wire.answers(policy, &question.frame(), &question.answer(wire.ours));
            question.target = match question.target {
                IpAddr::V4(_) => "192.168.122.54".parse().unwrap(),
                IpAddr::V6(_) => "fd00:122::54".parse().unwrap(),
            };
            assert_ne!(wire.program.run(&question.frame()).0, XDP_PASS);
            assert_ne!(wire.program.run(&question.frame()).0, XDP_TX);
        }
    }
}

#[test]
fn addresses_that_no_host_of_a_link_can_have_are_refused() {
    let bed = Bed::attached_both("skb");
    let tool = bed.tool();
    let add =
        |dst: &str, server: &str| tool.run(&format!("rule add {dst} --server {server} --announce"));
    add("", "172.17.0.2").fails(2, &["--dst"]);
    for dst in ["192.168.0.0/23", "0.0.0.0/0"] {
        add(&format!("--dst {dst}"), "172.17.0.2").fails(2, &["--announce", dst, "256"]);
    }
    add("--dst fd00::/119", "fd00:17::2").fails(2, &["--announce", "256"]);
    for dst in ["224.0.0.1", "255.255.255.255", "169.254.1.1", "127.0.0.1"] {
        add(&format!("--dst {dst}"), "172.17.0.2").fails(2, &["--announce", dst]);
    }
    for dst in ["ff02::1", "fe80::1", "::1"] {
        add(&format!("--dst {dst}"), "fd00:17::2").fails(2, &["--announce", dst]);
    }
    tool.run("rule add --dst 192.168.122.53 --pass --announce")
        .fails(2, &["--pass", "--announce"]);
    assert!(tool.json("rule list").as_array().unwrap().is_empty());
}

/// The rule and the answers come and go in one step.
#[test]
fn a_run_that_is_killed_leaves_a_rule_with_its_answers_or_neither() {
    let wire = Wire::new();
    let tool = wire.bed.tool();
    let mac = fixture::lan::mac(&wire.bed.server, "eth0");
    let add = format!(
        "rule add --dst {} --server 172.17.0.2 --mac {mac} --dev wan --announce",
        VIPS[0]
    );
    let del = format!("rule del --dst {}", VIPS[0]);
    for words in [add, del] {
        for n in 0.. {
            let was_killed = kill::before_change(&mut tool.command(&words), n);
            let rules = tool.json("rule list");
            let is_there = !rules.as_array().unwrap().is_empty();
            assert_eq!(wire.is_answered(VIPS[0]), is_there, "{words} {n}");
            if !was_killed || is_there == words.starts_with("rule add") {
                assert_eq!(is_there, words.starts_with("rule add"), "{words} {n}");
                break;
            }
        }
    }
}

/// Has its neighbour's MAC address, but for the last byte.
const ELSEWHERE: &str = "02:00:00:00:00:77";

#[test]
fn a_client_that_had_another_mac_address_is_told_when_the_rule_comes() {
    let bed = Bed::attached_both("skb");
    for vip in VIPS {
        bed.client.ip(&format!(
            "neigh add {vip} lladdr {ELSEWHERE} dev eth0 nud reachable"
        ));
    }
    bed.announce("");
    let ours = Some(fixture::lan::mac(&bed.host, "lan"));
    for vip in VIPS {
        fixture::eventually("the client knows the new one", || {
            bed.neighbour(vip) == ours
        });
    }
    assert_eq!(bed.counted("announced"), 0, "nobody asked");
}

#[test]
fn those_behind_an_interface_that_is_attached_later_are_told() {
    let bed = Bed::attached_both("skb");
    bed.tool().ok("detach lan --keep-rules");
    bed.announce("");
    for vip in VIPS {
        bed.client.ip(&format!(
            "neigh add {vip} lladdr {ELSEWHERE} dev eth0 nud reachable"
        ));
    }
    bed.tool().ok("attach lan --mode skb");
    let ours = Some(fixture::lan::mac(&bed.host, "lan"));
    for vip in VIPS {
        fixture::eventually("the client knows the new one", || {
            bed.neighbour(vip) == ours
        });
    }
}

/// First it asks without saying who asks, then it says that it has the address. The checks ask again.
#[test]
fn what_is_asked_and_said_has_the_tags_of_the_rule() {
    let bed = Bed::attached_both("skb");
    let mut tap = Tap::new(&bed.host, "tap0", false);
    let tool = bed.tool();
    tool.ok("attach tap0");
    let mac = bed.host.mac("tap0");
    let mut arps = |words: &str| {
        tool.ok(&format!(
            "rule add --dst {} --in tap0 --server 172.17.0.2 --announce {words}",
            VIPS[0]
        ));
        let mut next = || {
            // The kernel says something of IPv6, too.
            let frames = std::iter::from_fn(|| tap.read());
            let mut arps = frames.filter(|frame| frame.windows(2).any(|kind| kind == [8, 6]));
            arps.next().expect("a frame")
        };
        [next(), next(), next()]
    };
    let vip: IpAddr = VIPS[0].parse().unwrap();
    let nobody: IpAddr = "0.0.0.0".parse().unwrap();
    for (words, tags) in [
        ("", &[][..]),
        ("--vlan 5", &[0x81, 0, 0, 5]),
        ("--vlan 5 --inner-vlan 7", &[0x81, 0, 0, 5, 0x81, 0, 0, 7]),
    ] {
        let [probe, said, again] = arps(words);
        for (frame, from) in [(probe, nobody), (said, vip), (again, nobody)] {
            let arp = arp(1, (mac, from), ([0; 6], vip));
            let expected = [&EVERYBODY[..], &mac, tags, &[8, 6], &arp].concat();
            assert_eq!(hex(&frame), hex(&expected), "{words}");
        }
    }
}

#[test]
fn an_address_that_another_host_has_is_not_announced() {
    let bed = Bed::attached_both("skb");
    let tool = bed.tool();
    let theirs = fixture::lan::mac(&bed.client, "eth0");
    for (vip, server) in VIPS.into_iter().zip(SERVERS) {
        let (length, prefix) = match vip.contains(':') {
            true => (128, "fd00:122::50/124"),
            false => (32, "192.168.122.48/28"),
        };
        bed.client.ip(&format!("addr add {vip}/{length} dev eth0"));
        let add = format!("rule add --port 53 --server {server} --announce");
        for dst in [vip, prefix] {
            tool.run(&format!("{add} --dst {dst}"))
                .fails(4, &[vip, &theirs, "lan"]);
        }
        assert!(tool.json("rule list").as_array().unwrap().is_empty());
        let mac = fixture::lan::mac(&bed.server, "eth0");
        let row = serde_json::json!({
            "dst": vip, "src": if vip.contains(':') { "::/0" } else { "0.0.0.0/0" }, "proto": "udp",
            "port": 53, "server": server, "mac": mac, "ifindex": bed.host.ifindex("wan"), "announce": true,
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), row.to_string()).unwrap();
        let load = format!("rule load {}", file.path().display());
        tool.run(&load).fails(4, &[vip, &theirs]);

        // Who comes later is found by doctor.
        bed.client.ip(&format!("addr del {vip}/{length} dev eth0"));
        tool.ok(&load);
        tool.ok(&format!(
            "rule add --dst {vip} --port 53 --server {server} --weight 2"
        ));
        assert_eq!(findings(&bed), Vec::<String>::new());
        bed.client.ip(&format!("addr add {vip}/{length} dev eth0"));
        let [finding] = findings(&bed).try_into().expect("one finding");
        assert!(
            finding.starts_with("problem") && finding.contains(&theirs),
            "{finding}"
        );
        tool.ok(&format!(
            "rule add --dst {vip} --port 53 --server {server} --announce"
        ));
        tool.ok("rule del --all");
    }
}

/// What doctor says of announced addresses.
fn findings(bed: &Bed) -> Vec<String> {
    let found = bed.tool().run("doctor --json").json();
    let found = found.as_array().unwrap().iter();
    found
        .filter(|finding| finding["check"] == "announce")
        .map(|f| {
            let text = |key: &str| f[key].as_str().unwrap().to_string();
            [text("severity"), text("evidence"), text("mend")].join(" ")
        })
        .collect()
}

#[test]
fn a_destination_on_the_link_for_which_nobody_answers_is_found() {
    let bed = Bed::attached_both("skb");
    let tool = bed.tool();
    for (vip, server) in VIPS.into_iter().zip(SERVERS) {
        let added = tool.ok(&format!("rule add --dst {vip} --port 53 --server {server}"));
        assert!(added.err.contains("nobody answers"), "{added:?}");
        let [finding] = findings(&bed).try_into().expect("one finding");
        assert!(finding.starts_with("warning"), "{finding}");
        let command = finding.split('`').nth(1).expect("a command");
        let command = command.split_once(" rule add").expect("its verb").1;
        tool.ok(&format!("rule add{command}"));
        assert!(pings(&bed.client, vip), "{vip}");
        assert_eq!(findings(&bed), Vec::<String>::new());
        tool.ok("rule del --all");
    }
    for other in [
        "203.0.113.53",
        "192.168.122.1",
        "192.168.122.10",
        "192.168.0.0/16",
    ] {
        let added = tool.ok(&format!(
            "rule add --dst {other} --port 53 --server 172.17.0.2"
        ));
        assert!(!added.err.contains("nobody answers"), "{added:?}");
    }
    bed.host.ip("neigh add proxy 192.168.122.54 dev lan");
    tool.ok("rule add --dst 192.168.122.54 --port 53 --server 172.17.0.2");
    assert_eq!(findings(&bed), Vec::<String>::new());
}

#[test]
fn what_keeps_questions_from_being_answered_is_found() {
    let bed = Bed::attached_both("skb");
    let tool = bed.tool();
    bed.announce("");
    assert_eq!(findings(&bed), Vec::<String>::new());
    bed.host.ip("link set lan down");
    bed.host.ip(&format!("link set lan address {ELSEWHERE}"));
    bed.host.ip("link set lan up");
    let found = findings(&bed);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found
            .iter()
            .all(|f| f.starts_with("problem") && f.contains(ELSEWHERE))
    );
    tool.ok("detach lan --keep-rules");
    bed.client.exec("ethtool -K eth0 gro off");
    tool.ok("attach lan --mode native");
    let found = findings(&bed);
    assert!(
        found
            .iter()
            .all(|f| f.starts_with("warning") && f.contains("--mode skb"))
    );
    assert_eq!(found.len(), 2, "{found:?}");
    bed.host.ip("addr add 192.168.122.53/32 dev lo");
    let found = findings(&bed);
    assert!(
        found
            .iter()
            .any(|f| f.contains("this host has 192.168.122.53 itself"))
    );
}
