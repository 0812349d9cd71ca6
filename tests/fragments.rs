//! What the program remembers of fragmented datagrams, for how long and of how many.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::fixture::lan::{mac, socket};
use crate::fixture::packet::{Checksum, Frame, fragments};
use crate::fixture::run::{Loaded, XDP_PASS, XDP_REDIRECT, age_fragments, age_passed};
use crate::fixture::tap::Tap;
use crate::fixture::{Ns, Pins, Tool};
use fastrand::Rng;
use serde_json::Value;

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

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.ns,
            pins: &self.pins,
        }
    }

    /// How many later fragments passed because their first one was not known, and how many first
    /// ones because later ones had passed.
    fn passed(&self) -> [u64; 2] {
        let stats = self.tool().json("stats");
        let outcomes = &stats["interfaces"][0]["outcomes"];
        ["fragment_without_first", "late_first_fragment"]
            .map(|name| outcomes[name]["packets"].as_u64().expect(name))
    }

    /// What doctor finds out about fragments.
    fn findings(&self) -> Vec<Value> {
        let run = self.tool().run("doctor --json");
        let mut all = run.json().as_array().expect("findings").clone();
        all.retain(|finding| finding["check"] == "fragments");
        all
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
    assert_eq!(bed.passed(), [2, 0]);
}

#[test]
fn a_first_fragment_seen_again_replaces_what_was_remembered() {
    let bed = Bed::new();
    bed.send(1, 7999, FIRST);
    age_fragments(&bed.pins, Duration::from_secs(31));
    assert_eq!(bed.send(1, 0, LATER), None);
    age_passed(&bed.pins, Duration::from_secs(2));
    bed.send(1, 53, FIRST);
    assert_eq!(bed.send(1, 0, LATER), Some(SERVERS[1]));
}

/// Another datagram to the same address may have the same identification.
#[test]
fn what_passes_is_not_torn_by_an_earlier_datagram() {
    let bed = Bed::new();
    assert_eq!(bed.send(1, 7999, FIRST), Some(SERVERS[0]));
    assert_eq!(bed.send(1, 0, LATER), Some(SERVERS[0]));
    assert_eq!(bed.send(1, 9, FIRST), None);
    assert_eq!(bed.send(1, 0, LATER), None);
    assert_eq!(bed.passed(), [1, 0]);
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
    assert_eq!(bed.passed(), [passed, 0]);
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

/// Together, the parts would be whole nowhere.
#[test]
fn a_first_fragment_passes_where_later_ones_have_in_the_last_second() {
    let bed = Bed::new();
    for (datagram, age, passes) in [(1, 0, true), (2, 500, true), (3, 1001, false)] {
        assert_eq!(bed.send(datagram, 0, LATER), None);
        age_passed(&bed.pins, Duration::from_millis(age));
        let expected = (!passes).then_some(SERVERS[0]);
        assert_eq!(bed.send(datagram, 7999, FIRST), expected, "after {age} ms");
        assert_eq!(bed.send(datagram, 0, LATER), expected, "after {age} ms");
    }
    assert_eq!(bed.passed(), [3 + 2, 2]);
}

/// A sender's identifications come round again: what passes must not make more and more pass.
#[test]
fn fragments_that_pass_do_not_lengthen_the_second() {
    let bed = Bed::new();
    assert_eq!(bed.send(1, 0, LATER), None);
    for _ in 0..3 {
        age_passed(&bed.pins, Duration::from_millis(300));
        assert_eq!(bed.send(1, 7999, FIRST), None);
        assert_eq!(bed.send(1, 0, LATER), None);
    }
    age_passed(&bed.pins, Duration::from_millis(300));
    assert_eq!(bed.send(1, 7999, FIRST), Some(SERVERS[0]));
    assert_eq!(bed.send(1, 0, LATER), Some(SERVERS[0]));
}

/// Most of what passes so may be of datagrams that no rule wants.
#[test]
fn fragments_that_pass_push_out_nothing_of_those_that_are_redirected() {
    let bed = Bed::new();
    bed.send(1, 7999, FIRST);
    for datagram in 2..20_000 {
        assert_eq!(bed.send(datagram, 0, LATER), None);
    }
    assert_eq!(bed.send(1, 0, LATER), Some(SERVERS[0]));
}

#[test]
fn a_first_fragment_that_no_rule_matches_is_counted_so_in_any_order() {
    let bed = Bed::new();
    assert_eq!(bed.send(1, 0, LATER), None);
    assert_eq!(bed.send(1, 9, FIRST), None);
    assert_eq!(bed.passed(), [1, 0]);
}

#[test]
fn doctor_says_that_datagrams_came_out_of_order_and_why_they_passed() {
    let bed = Bed::new();
    bed.send(1, 7999, FIRST);
    bed.send(1, 0, LATER);
    assert_eq!(bed.findings(), [Value::Null; 0]);
    bed.send(2, 0, LATER);
    bed.send(2, 7999, FIRST);
    bed.send(2, 0, LATER);
    let findings = bed.findings();
    let [finding] = &findings[..] else {
        panic!("{findings:?}");
    };
    assert_eq!(finding["severity"], "warning");
    assert_eq!(finding["subject"], "in0");
    let said = finding["consequence"].as_str().unwrap();
    assert!(said.starts_with("1 datagram came out of order"), "{said}");
    bed.tool().ok("rule del --all");
    assert_eq!(
        bed.findings(),
        [Value::Null; 0],
        "no rule could have wanted it"
    );
}

/// There may be many of them for as long as the host runs: NFS, IPsec.
#[test]
fn doctor_finds_nothing_in_datagrams_that_no_rule_matches() {
    let bed = Bed::new();
    for datagram in 1..=3 {
        assert_eq!(bed.send(datagram, 9, FIRST), None);
        assert_eq!(bed.send(datagram, 0, LATER), None);
    }
    assert_eq!(bed.findings(), [Value::Null; 0]);
}

/// A tap at which fragments arrive, a server behind a veth, and a host that takes what passes.
struct Live {
    host: Ns,
    server: Ns,
    pins: Pins,
    tap: Tap,
}

/// The sender, the host that takes what passes, and the server.
const ENDS: [[&str; 3]; 2] = [
    [
        "192.168.122.10:40000",
        "11.22.33.44:7999",
        "172.17.0.2:7999",
    ],
    [
        "[fd00:122::10]:40000",
        "[2001:db8::44]:7999",
        "[fd00:17::2]:7999",
    ],
];

impl Live {
    fn new(mode: &str) -> Self {
        let (host, server) = (Ns::dual_stack("host"), Ns::dual_stack("server"));
        let (tap, pins) = (Tap::new(&host, "tap0", false), Pins::new());
        host.veth("wan", &server, "eth0");
        server.exec("ethtool -K eth0 gro on");
        let live = Live {
            host,
            server,
            pins,
            tap,
        };
        live.tool().ok(&format!("attach tap0 --mode {mode}"));
        let mac = mac(&live.server, "eth0");
        for ends in ENDS {
            let [sender, host, server] = ends.map(|end| address(end).ip());
            live.host.ip(&format!("addr add {host} dev lo"));
            live.host.ip(&format!("route add {sender} dev tap0"));
            live.server.ip(&format!("addr add {server} dev eth0"));
            live.server.ip(&format!("route add {sender} dev eth0"));
            let to = format!("--server {server} --mac {mac} --dev wan");
            live.tool().ok(&format!("rule add {to}"));
        }
        live
    }

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.host,
            pins: &self.pins,
        }
    }

    /// Lets the fragments of datagrams arrive in any order, and says which datagrams' first one
    /// was the first to come.
    fn send(&mut self, rng: &mut Rng, datagrams: &[Datagram]) -> Vec<bool> {
        let all = (0..datagrams.len())
            .flat_map(|datagram| (0..datagrams[datagram].frames.len()).map(move |n| (datagram, n)));
        let mut order: Vec<(usize, usize)> = all.collect();
        rng.shuffle(&mut order);
        for &(datagram, n) in &order {
            self.tap
                .write(&datagrams[datagram].frames[n], Checksum::Full);
        }
        let first_of = |datagram| order.iter().find(|(of, _)| *of == datagram);
        let leads = |datagram| first_of(datagram) == Some(&(datagram, 0));
        (0..datagrams.len()).map(leads).collect()
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address with a port")
}

struct Datagram {
    payload: Vec<u8>,
    frames: Vec<Vec<u8>>,
}

impl Datagram {
    fn new(rng: &mut Rng, dmac: [u8; 6], ends: [SocketAddr; 2], id: u32) -> Self {
        let mut payload = id.to_be_bytes().to_vec();
        payload.extend((0..rng.usize(600..1200)).map(|_| rng.u8(..)));
        let most = [200, 304, 600][rng.usize(..3)];
        let frames = fragments(dmac, ends, &payload, id, most);
        Datagram { payload, frames }
    }
}

/// Panics unless all these datagrams, and no others, have come to a socket whole.
#[track_caller]
fn assert_received(socket: &UdpSocket, datagrams: &[&Datagram]) {
    let mut sent: BTreeSet<&[u8]> = datagrams.iter().map(|d| d.payload.as_slice()).collect();
    for _ in datagrams {
        let mut buffer = [0; 2048];
        let size = socket.recv(&mut buffer).expect("it is whole at one place");
        assert!(sent.remove(&buffer[..size]), "one of another place");
    }
}

#[test]
fn datagrams_whose_fragments_come_in_any_order_arrive_whole_at_one_place() {
    const ROUNDS: u32 = 100;
    const AT_A_TIME: u32 = 8;
    let mut rng = Rng::new();
    println!("seed {}", rng.get_seed());
    for mode in ["native", "skb"] {
        let mut live = Live::new(mode);
        let dmac = live.host.mac("tap0");
        let (mut redirected, mut passed, mut datagrams_passed) = (0, 0, 0);
        for [sender, host, server] in ENDS {
            let at_host = socket(&live.host, host);
            let at_server = socket(&live.server, server);
            let ends = [sender, host].map(address);
            for round in 0..ROUNDS {
                let ids = round * AT_A_TIME..(round + 1) * AT_A_TIME;
                let datagrams = ids.map(|id| Datagram::new(&mut rng, dmac, ends, id));
                let datagrams: Vec<Datagram> = datagrams.collect();
                let leads = live.send(&mut rng, &datagrams);
                datagrams_passed += leads.iter().filter(|led| !**led).count();
                for (socket, led, fragments) in [
                    (&at_server, true, &mut redirected),
                    (&at_host, false, &mut passed),
                ] {
                    let there = datagrams.iter().zip(&leads).filter(|(_, l)| **l == led);
                    let there: Vec<&Datagram> = there.map(|(datagram, _)| datagram).collect();
                    assert_received(socket, &there);
                    *fragments += there.iter().map(|d| d.frames.len()).sum::<usize>();
                }
            }
        }
        let stats = live.tool().json("stats");
        let outcomes = &stats["interfaces"][0]["outcomes"];
        assert_eq!(outcomes["redirected"]["packets"], redirected, "{mode}");
        let packets = |name: &str| outcomes[name]["packets"].as_u64().expect("a number") as usize;
        let late = packets("late_first_fragment");
        assert_eq!(late, datagrams_passed, "{mode}");
        assert_eq!(packets("fragment_without_first") + late, passed, "{mode}");
    }
}
