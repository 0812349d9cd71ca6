//! What the program remembers of fragmented datagrams, for how long and of how many.

mod fixture;

use std::net::Ipv4Addr;
use std::time::Duration;

use fixture::packet::Frame;
use fixture::run::{Loaded, XDP_PASS, XDP_REDIRECT, age_fragments};
use fixture::{Ns, Pins, Tool};

/// For port 7999 and for port 53.
const SERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(172, 17, 0, 2), Ipv4Addr::new(172, 17, 0, 3)];
/// Of a datagram.
const LATER: u16 = 0x0002;
const FIRST: u16 = 0x2000;

struct Bed {
    ns: Ns,
    pins: Pins,
    program: Loaded,
}

impl Bed {
    fn new() -> Self {
        let (ns, pins) = (Ns::new("fragments"), Pins::new());
        for device in ["in0", "out"] {
            ns.ip(&format!("link add {device} type veth peer name {device}p"));
            ns.ip(&format!("link set {device} up"));
        }
        let tool = Tool {
            ns: &ns,
            pins: &pins,
        };
        tool.ok("attach in0");
        for (server, port) in SERVERS.iter().zip([7999, 53]) {
            tool.ok(&format!(
                "rule add --port {port} --server {server} --mac 02:00:00:00:00:01 --dev out"
            ));
        }
        let program = Loaded::on(&tool.json("status"), "in0");
        Bed { ns, pins, program }
    }

    /// How many packets passed because their first fragment was not known.
    fn without_first(&self) -> u64 {
        let (ns, pins) = (&self.ns, &self.pins);
        let stats = Tool { ns, pins }.json("stats");
        let outcomes = &stats["interfaces"][0]["outcomes"];
        outcomes["fragment_without_first"]["packets"]
            .as_u64()
            .unwrap()
    }

    /// Where a fragment of a datagram goes; one that goes nowhere is as it was. The port says to
    /// which server, the number is part of its destination address.
    fn send(&self, datagram: u32, port: u16, fragment: u16) -> Option<Ipv4Addr> {
        let frame = Frame {
            dst: Ipv4Addr::from(0x0b00_0000 + datagram),
            dport: port,
            fragment,
            ..Frame::default()
        };
        let mut packet = frame.bytes();
        if fragment == LATER {
            // It has no ports.
            packet[34..38].fill(0);
        }
        let (verdict, out) = self.program.run(&packet);
        if verdict == XDP_PASS {
            assert_eq!(out, packet);
            return None;
        }
        assert_eq!(verdict, XDP_REDIRECT);
        Some(<[u8; 4]>::try_from(&out[30..34]).unwrap().into())
    }
}

#[test]
fn later_fragments_follow_the_first_for_thirty_seconds() {
    let bed = Bed::new();
    for (datagram, age, follows) in [(1, 0, true), (2, 20, true), (3, 31, false)] {
        assert_eq!(bed.send(datagram, 7999, FIRST), Some(SERVERS[0]));
        age_fragments(&bed.pins, Duration::from_secs(age));
        for _ in 0..2 {
            let expected = follows.then_some(SERVERS[0]);
            assert_eq!(bed.send(datagram, 0, LATER), expected, "after {age} s");
        }
    }
    assert_eq!(bed.without_first(), 2);
}

#[test]
fn a_first_fragment_seen_again_is_remembered_anew() {
    let bed = Bed::new();
    bed.send(1, 7999, FIRST);
    age_fragments(&bed.pins, Duration::from_secs(31));
    assert_eq!(bed.send(1, 0, LATER), None);
    bed.send(1, 53, FIRST);
    assert_eq!(bed.send(1, 0, LATER), Some(SERVERS[1]));
}

#[test]
fn of_more_datagrams_than_are_remembered_each_fragment_follows_its_first_or_passes() {
    const REMEMBERED: u64 = 8192;
    const DATAGRAMS: u32 = 20_480;
    let bed = Bed::new();
    let server = |datagram: u32| (datagram % 2) as usize;
    for datagram in 0..DATAGRAMS {
        let port = [7999, 53][server(datagram)];
        let to = Some(SERVERS[server(datagram)]);
        assert_eq!(bed.send(datagram, port, FIRST), to);
        assert_eq!(bed.send(datagram, 0, LATER), to, "the newest is known");
    }
    let mut passed = 0;
    for datagram in 0..DATAGRAMS {
        match bed.send(datagram, 0, LATER) {
            None => passed += 1,
            to => assert_eq!(to, Some(SERVERS[server(datagram)])),
        }
    }
    assert_eq!(bed.without_first(), passed);
    let followed = u64::from(DATAGRAMS) - passed;
    assert!(
        (REMEMBERED / 2..=REMEMBERED).contains(&followed),
        "{followed} followed"
    );
}

/// They follow their first one, but they are not the packets of who has its backend's counter next.
#[test]
fn fragments_of_a_deleted_rule_are_not_counted_for_the_next_one() {
    let bed = Bed::new();
    let (ns, pins) = (&bed.ns, &bed.pins);
    let tool = Tool { ns, pins };
    bed.send(1, 7999, FIRST);
    tool.ok("rule del");
    tool.ok("rule add --port 9 --server 172.17.0.9 --mac 02:00:00:00:00:01 --dev out");
    assert_eq!(bed.send(1, 0, LATER), Some(SERVERS[0]));
    let rows = tool.json("rule list");
    assert_eq!(rows[0]["port"], 9);
    assert_eq!(rows[0]["forward_packages"], 0, "{rows}");
}
