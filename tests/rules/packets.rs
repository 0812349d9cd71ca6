//! Packets of all kinds, which the most specific rule takes: from a tap to a tap, in both modes.

use std::os::fd::AsRawFd;

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, setsockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use serde_json::Value;

use crate::fixture::guest;
use crate::fixture::lan::{Lan, receive, socket};
use crate::fixture::packet::{Checksum, Frame, SCTP, TCP, UDP, assert_checksums, sum};
use crate::fixture::tap::Tap;
use crate::fixture::{Ns, Pins, Tool};

const MAC: &str = "02:00:00:00:00:01";
const ICMP: u8 = 1;

/// Two taps to attach to, and one that rules lead to.
struct Taps {
    ns: Ns,
    pins: Pins,
    lan: Tap,
    other: Tap,
    out: Tap,
}

impl Taps {
    fn new(mode: &str) -> Self {
        let (ns, pins) = (Ns::new("host"), Pins::new());
        let [lan, other, out] = ["lan", "other", "out"].map(|name| Tap::new(&ns, name, false));
        let taps = Taps {
            ns,
            pins,
            lan,
            other,
            out,
        };
        taps.tool().ok(&format!("attach lan other --mode {mode}"));
        if mode == "native" {
            // A tap takes what native programs redirect while a program runs at it, too.
            taps.tool().ok("attach out --mode native");
        }
        taps
    }

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.ns,
            pins: &self.pins,
        }
    }

    fn add(&self, words: &str) {
        self.tool().ok(&format!("rule add {words}"));
    }

    fn outcome(&self, interface: usize, name: &str) -> u64 {
        let stats = self.tool().json("stats");
        let outcome = &stats["interfaces"][interface]["outcomes"][name];
        outcome["packets"].as_u64().unwrap_or(0)
    }

    /// The packets of the rules in the order of the list.
    fn counts(&self) -> Vec<u64> {
        let rows = self.tool().json("rule list");
        let count = |row: &Value| row["forward_packages"].as_u64().expect("a count");
        rows.as_array().expect("rows").iter().map(count).collect()
    }

    /// Which rule of the list takes a frame that arrives at `lan`; None: no rule.
    fn taker(&mut self, frame: &[u8]) -> Option<usize> {
        let before = self.counts();
        self.lan.write(frame, Checksum::Full);
        let after = self.counts();
        let counted = before
            .iter()
            .zip(&after)
            .map(|(before, after)| after - before);
        let taken: Vec<usize> = (0..)
            .zip(counted)
            .filter(|(_, n)| *n > 0)
            .map(|(i, _)| i)
            .collect();
        assert!(taken.len() < 2, "{taken:?}");
        taken.first().copied()
    }
}

fn frame(proto: u8, dport: u16) -> Frame {
    Frame {
        proto,
        dport,
        ..Frame::default()
    }
}

/// The same frame with tags, the outer one first.
fn tagged(frame: &Frame, tags: &[u16]) -> Vec<u8> {
    let bytes = frame.bytes();
    let tags = tags
        .iter()
        .flat_map(|vlan| [[0x81, 0], vlan.to_be_bytes()].concat());
    let tags: Vec<u8> = tags.collect();
    [&bytes[..12], &tags, &bytes[12..]].concat()
}

#[test]
fn the_most_specific_rule_takes_the_packet() {
    for mode in guest::modes() {
        let mut taps = Taps::new(mode);
        for words in [
            "--dst 11.22.33.44 --proto any --drop",
            "--dst 11.22.0.0/16 --src 192.168.122.0/24 --port 53 --drop",
            "--dst 11.22.0.0/16 --port 53 --drop",
            "--dst 11.22.0.0/16 --port 50-60 --drop",
            "--dst 11.22.0.0/16 --port 40-60 --drop",
            "--dst 11.22.0.0/16 --port any --drop",
            "--dst 11.22.0.0/16 --proto any --drop",
            "--src 192.168.122.10 --proto icmp --drop",
            "--src 0.0.0.0/0 --proto any --port 7000-7999 --drop",
        ] {
            taps.add(words);
        }
        let to = |dst: &str, proto, dport| Frame {
            dst: dst.parse().expect("an address"),
            ..frame(proto, dport)
        };
        let from = |src: &str, frame: Frame| Frame {
            src: src.parse().expect("an address"),
            ..frame
        };
        let near = |dport| to("11.22.33.45", UDP, dport);
        let cases = [
            (to("11.22.33.44", UDP, 53), Some(0)),
            (to("11.22.33.44", ICMP, 1), Some(0)),
            (near(53), Some(1)),
            (from("192.168.123.10", near(53)), Some(2)),
            (near(54), Some(3)),
            (near(50), Some(3)),
            (near(60), Some(3)),
            (near(49), Some(4)),
            (near(40), Some(4)),
            (near(61), Some(5)),
            (near(0), Some(5)),
            (to("11.22.33.45", TCP, 53), Some(6)),
            (to("11.22.33.45", 47, 53), Some(6)),
            (to("11.23.0.1", ICMP, 53), Some(7)),
            (from("192.168.122.11", to("11.23.0.1", ICMP, 53)), None),
            (to("11.23.0.1", UDP, 7000), Some(8)),
            (to("11.23.0.1", TCP, 7999), Some(8)),
            (to("11.23.0.1", SCTP, 7500), Some(8)),
            (to("11.23.0.1", UDP, 6999), None),
            (to("11.23.0.1", UDP, 8000), None),
            (to("11.23.0.1", 47, 7500), None),
        ];
        let taken = cases.iter().filter(|(_, rule)| rule.is_some()).count() as u64;
        for (frame, rule) in cases {
            assert_eq!(taps.taker(&frame.bytes()), rule, "{mode}: {frame:?}");
        }
        assert_eq!(taps.outcome(0, "dropped_by_rule"), taken);
    }
}

#[test]
fn a_rule_for_an_interface_takes_what_arrives_there() {
    for mode in guest::modes() {
        let mut taps = Taps::new(mode);
        taps.add("--src 0.0.0.0/0 --port 7999 --in lan --drop");
        taps.add("--src 0.0.0.0/0 --port 7999 --drop");
        let frame = frame(UDP, 7999).bytes();
        taps.lan.write(&frame, Checksum::Full);
        assert_eq!(taps.counts(), [1, 0], "{mode}");
        taps.other.write(&frame, Checksum::Full);
        assert_eq!(taps.counts(), [1, 1], "{mode}");
        taps.tool().ok("rule del --src 0.0.0.0/0");
        taps.other.write(&frame, Checksum::Full);
        assert_eq!(taps.counts(), [1], "{mode}");
        assert_eq!(taps.outcome(1, "no_rule"), 1, "{mode}");
    }
}

#[test]
fn tags_are_compared() {
    let mut taps = Taps::new("skb");
    for words in ["--vlan 5 --inner-vlan 6", "--vlan 5", "--proto any"] {
        taps.add(&format!("--src 0.0.0.0/0 {words} --drop"));
    }
    let frame = frame(UDP, 7999);
    let cases: [(&[u16], _); 6] = [
        (&[5, 6], Some(0)),
        (&[5], Some(1)),
        (&[5, 7], Some(1)),
        (&[], Some(2)),
        (&[6], None),
        (&[6, 5], None),
    ];
    for (tags, rule) in cases {
        assert_eq!(taps.taker(&tagged(&frame, tags)), rule, "{tags:?}");
    }
}

#[test]
fn forwarded_frames_leave_as_they_are_or_with_other_mac_addresses() {
    for mode in guest::modes() {
        let mut taps = Taps::new(mode);
        taps.add("--src 192.168.122.10 --proto any --forward out");
        let mut odd = frame(47, 7);
        (odd.ttl, odd.options) = (1, vec![1, 1, 1, 0]);
        for sent in [frame(UDP, 9).bytes(), frame(TCP, 22).bytes(), odd.bytes()] {
            taps.lan.write(&sent, Checksum::Full);
            assert_eq!(taps.out.read().as_ref(), Some(&sent), "{mode}");
        }
        assert_eq!(taps.counts(), [3], "{mode}");
        assert_eq!(taps.outcome(0, "forwarded"), 3, "{mode}");
        taps.add(&format!(
            "--src 192.168.122.10 --proto any --forward out --mac {MAC}"
        ));
        let sent = frame(UDP, 9).bytes();
        taps.lan.write(&sent, Checksum::Full);
        let got = taps.out.read().expect("a frame");
        assert_eq!(got[..6], [2, 0, 0, 0, 0, 1], "{mode}");
        assert_eq!(got[6..12], taps.ns.mac("out"), "{mode}");
        assert_eq!(got[12..], sent[12..], "{mode}");
        // An update of the rule keeps its counter.
        assert_eq!(taps.counts(), [4], "{mode}");
    }
}

/// What a VM sends whose card completes checksums.
#[test]
fn a_checksum_that_nobody_behind_the_device_completes_is_complete() {
    for mode in guest::modes() {
        let mut taps = Taps::new(mode);
        let mut vm = Tap::new(&taps.ns, "vm", true);
        taps.tool().ok(&format!("attach vm --mode {mode}"));
        taps.add("--src 192.168.122.10 --proto any --forward out");
        for proto in [UDP, TCP] {
            let partial = Frame {
                checksum: Checksum::Partial,
                ..frame(proto, 9)
            };
            vm.write(&partial.bytes(), Checksum::Partial);
            let got = taps.out.read().expect("a frame");
            assert_checksums(&got);
            assert_eq!(got, frame(proto, 9).bytes(), "{mode}");
        }
    }
}

#[test]
fn a_packet_is_not_sent_back_to_where_it_came_from() {
    for mode in guest::modes() {
        let mut taps = Taps::new(mode);
        taps.add("--src 192.168.122.10 --proto any --forward other");
        let sent = frame(UDP, 9).bytes();
        taps.lan.write(&sent, Checksum::Full);
        assert_eq!(taps.other.read(), Some(sent.clone()), "{mode}");
        taps.other.write(&sent, Checksum::Full);
        assert_eq!(taps.outcome(1, "forwarded"), 0, "{mode}");
        assert_eq!(taps.other.read(), None, "{mode}");
    }
}

#[test]
fn sctp_and_icmp_are_redirected_as_they_are() {
    for mode in guest::modes() {
        let mut taps = Taps::new(mode);
        for proto in ["sctp", "icmp"] {
            taps.add(&format!(
                "--proto {proto} --port any --server 10.1.1.1 --mac {MAC} --dev out --keep-ip --keep-ttl"
            ));
        }
        for proto in [SCTP, ICMP] {
            let sent = frame(proto, 7999).bytes();
            taps.lan.write(&sent, Checksum::Full);
            let got = taps.out.read().expect("a frame");
            assert_eq!(got[..6], [2, 0, 0, 0, 0, 1], "{mode}");
            assert_eq!(got[12..], sent[12..], "{mode}");
        }
        assert_eq!(taps.counts(), [1, 1], "{mode}");
    }
}

#[test]
fn what_a_rule_passes_is_the_hosts_and_the_rest_is_not() {
    for mode in guest::modes() {
        let lan = Lan::new(false, 0);
        let tool = lan.tool();
        tool.ok(&format!("attach lan --mode {mode}"));
        tool.ok("rule add --in lan --proto any --drop");
        tool.ok("rule add --in lan --port 7000-7999 --pass");
        let [passed, dropped] = ["7500", "8000"].map(|port| {
            let host = socket(&lan.host, &format!("192.168.122.1:{port}"));
            host.set_read_timeout(Some(std::time::Duration::from_millis(300)))
                .expect("a timeout");
            host
        });
        let vm = lan.vm_socket();
        for port in ["8000", "7500"] {
            vm.send_to(b"hello", format!("192.168.122.1:{port}"))
                .unwrap();
        }
        assert_eq!(receive(&passed).0, "hello");
        assert!(dropped.recv_from(&mut [0; 16]).is_err(), "{mode}");
        let rows = tool.json("rule list --src 0.0.0.0/0");
        let counts = [0, 1].map(|row: usize| rows[row]["forward_packages"].clone());
        assert_eq!(counts, [1, 1], "{mode}");
        let outcomes = &tool.json("stats")["interfaces"][0]["outcomes"];
        for name in ["passed_by_rule", "dropped_by_rule"] {
            assert_eq!(outcomes[name]["packets"], 1, "{mode}: {name}");
        }
    }
}

#[test]
fn a_ping_is_answered_by_a_server_that_has_the_address() {
    for mode in guest::modes() {
        let lan = Lan::new(false, 1);
        lan.host.ip("addr add 172.17.0.1/16 dev wan0");
        lan.host.sysctl("net/ipv4/ip_forward", "1");
        let server = &lan.servers[0];
        server.ip("route add default via 172.17.0.1");
        server.ip("addr add 11.22.33.44/32 dev lo");
        lan.tool().ok(&format!("attach lan --mode {mode}"));
        lan.add_backend(0, "--dst 11.22.33.44 --proto icmp --keep-ip");
        assert!(ping(&lan.vm, [11, 22, 33, 44]), "{mode}");
        assert_eq!(lan.forwarded(0).0, 1, "{mode}");
    }
}

/// Whether an echo request is answered.
fn ping(ns: &Ns, to: [u8; 4]) -> bool {
    let socket = ns.enter(|| {
        let (flags, icmp) = (SockFlag::empty(), SockProtocol::Icmp);
        nix::sys::socket::socket(AddressFamily::Inet, SockType::Raw, flags, icmp)
    });
    let socket = socket.expect("a raw socket");
    setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(3)).expect("a timeout");
    let mut request = [8, 0, 0, 0, 0x12, 0x34, 0, 1];
    let check = !sum(&request);
    request[2..4].copy_from_slice(&check.to_be_bytes());
    let [a, b, c, d] = to;
    let to = SockaddrIn::new(a, b, c, d, 0);
    sendto(socket.as_raw_fd(), &request, &to, MsgFlags::empty()).expect("it is sent");
    let mut answer = [0; 64];
    let len = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty());
    len.is_ok_and(|len| len >= 28 && answer[20] == 0 && answer[24..28] == request[4..8])
}
