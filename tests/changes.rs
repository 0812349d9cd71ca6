//! What packets see while rules change: one published rule set or the next, never a mixture.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::fixture::eventually;
use crate::fixture::lan::Lan;
use crate::fixture::tap::Tap;
use xdpredir::datapath::{self, Lock, RuleStore};
use xdpredir::model::{Adjacency, Backend, Mac, Plan, Port, Rewrite, Rule};

const RULES: u16 = 10;
const FIRST_PORT: u16 = 7000;
/// How many rule sets are published while packets flow, in each mode.
const REVISIONS: u16 = 150;

/// Ports that a revision's backends get.
fn port_of(revision: u16) -> u16 {
    1024 + revision % 60_000
}

/// The backend of a rule in a revision. Each part of it says which rule and which revision.
fn backend(rule: u16, revision: u16, ifindex: u32) -> Backend {
    let [high, low] = revision.to_be_bytes();
    let adjacency = Adjacency {
        server: IpAddr::V4(Ipv4Addr::new(10, rule as u8, high, low)),
        mac: Mac([2, 0, 10, rule as u8, high, low]),
        source_mac: Mac([2, 1, 10, rule as u8, high, low]),
        ifindex,
        completes_checksum: false,
    };
    Backend {
        rewrite: Rewrite {
            to_port: Port::new(port_of(revision)),
            ..Rewrite::default()
        },
        ..Backend::new(adjacency)
    }
}

/// Publishes one revision after the other, each with other backends for all rules.
fn change(lan: &Lan, ifindex: u32) {
    lan.host.enter(|| {
        let pins = datapath::locate(Some(&lan.pins.dir())).expect("a pin directory");
        for revision in 2..REVISIONS {
            let lock = Lock::take(&pins).expect("the lock");
            let store = RuleStore::open(&pins).expect("the maps");
            let transaction = store.begin(&lock, &BTreeSet::from([ifindex]));
            let plan = Plan::put(rules(&store, revision, ifindex));
            let staged = transaction.expect("it begins").stage(plan);
            staged.expect("there is room").publish().expect("published");
        }
    });
}

fn rules(store: &RuleStore, revision: u16, ifindex: u32) -> Vec<Rule> {
    let rules = store.list().expect("the rules").into_iter().enumerate();
    let next =
        |(number, rule): (usize, Rule)| rule.with(vec![backend(number as u16, revision, ifindex)]);
    rules.map(next).collect()
}

/// Sends to all ports in turn. The payload says which rule takes the packet.
fn send(from: &UdpSocket, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        for rule in 0..RULES {
            // A full queue is no error here.
            let _ = from.send_to(&[rule as u8; 18], ("11.22.33.44", FIRST_PORT + rule));
        }
    }
}

/// The revision of a frame, all of whose parts must say the same.
fn revision_of(frame: &[u8]) -> u16 {
    let rule = frame[42];
    let revision = u16::from_be_bytes([frame[32], frame[33]]);
    let [high, low] = revision.to_be_bytes();
    assert_eq!(
        frame[..6],
        [2, 0, 10, rule, high, low],
        "destination MAC: {frame:?}"
    );
    assert_eq!(
        frame[6..12],
        [2, 1, 10, rule, high, low],
        "source MAC: {frame:?}"
    );
    assert_eq!(
        frame[30..34],
        [10, rule, high, low],
        "destination: {frame:?}"
    );
    assert_eq!(
        frame[36..38],
        port_of(revision).to_be_bytes(),
        "port: {frame:?}"
    );
    revision
}

/// Reads frames and holds each against the one before: a rule set that was published stays so.
fn check(tap: &mut Tap, stop: &AtomicBool) -> u64 {
    let (mut frames, mut newest) = (0, 0);
    while !stop.load(Relaxed) {
        let Some(frame) = tap.read() else { continue };
        let revision = revision_of(&frame);
        assert!(revision >= newest, "revision {revision} after {newest}");
        newest = revision;
        frames += 1;
    }
    frames
}

/// Takes the CPU from whoever runs there, most of the time.
fn disturb(stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        let end = Instant::now() + Duration::from_millis(3);
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn flow_while_rules_change(mode: &str) {
    let lan = Lan::new(false, 0);
    let mut tap = Tap::new(&lan.host, "tap0", false);
    lan.tool().ok(&format!("attach lan --mode {mode}"));
    let ifindex = lan.host.ifindex("tap0");
    for rule in 0..RULES {
        let mac = format!("02:00:0a:{rule:02x}:00:01");
        lan.tool().ok(&format!(
            "rule add --port {} --server 10.{rule}.0.1 --mac {mac} --dev tap0",
            FIRST_PORT + rule
        ));
    }
    let stop = AtomicBool::new(false);
    let from = lan.vm_socket();
    let frames = thread::scope(|scope| {
        let changer = scope.spawn(|| change(&lan, ifindex));
        // The rules that the command added have no port and another source MAC address.
        eventually("a revision is published", || {
            !lan.tool().json("rule list")[0]["to_port"].is_null()
        });
        let checker = scope.spawn(|| check(&mut tap, &stop));
        scope.spawn(|| send(&from, &stop));
        scope.spawn(|| disturb(&stop));
        while !changer.is_finished() && !checker.is_finished() {
            thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Relaxed);
        checker.join().expect("whole frames")
    });
    assert!(frames > 1000, "only {frames} frames");
}

#[test]
fn natively_a_packet_sees_one_rule_set_whole() {
    flow_while_rules_change("native");
}

#[test]
fn in_generic_mode_a_packet_sees_one_rule_set_whole() {
    flow_while_rules_change("skb");
}
