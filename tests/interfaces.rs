//! Interfaces, their policies and the rules change at one instant.

mod fixture;

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};

use fixture::kill;
use fixture::lan::{ANYWHERE, Lan, receive, socket};
use serde_json::{Value, json};
use xdpredir::datapath::{self, Interfaces, Report, RuleStore, Transaction, Wanted};
use xdpredir::host::device;
use xdpredir::model::{Plan, Policy, Rule};

/// What a test makes of a network namespace: interfaces with their policies, and rules.
struct State<'a> {
    interfaces: &'a [(&'a str, Policy)],
    rules: &'a [Rule],
    ledger: bool,
}

/// Nothing is attached.
const NOTHING: State = State {
    interfaces: &[],
    rules: &[],
    ledger: false,
};

fn wanted(name: &str, policy: Policy, ledger: bool) -> Wanted {
    Wanted {
        device: device::by_name(name).expect("a device"),
        mode: None,
        ledger,
        policy: Some(policy),
        force: false,
    }
}

/// As `apply` does it, in the network namespace of the host.
fn try_to_make(lan: &Lan, state: &State, fails: bool) -> Result<Report> {
    lan.host.enter(|| {
        let pins = datapath::locate(Some(&lan.pins.dir())).expect("a pin directory");
        let all = state.interfaces.iter();
        let interfaces = Interfaces {
            wanted: all
                .map(|&(name, policy)| wanted(name, policy, state.ledger))
                .collect(),
            only_these: true,
            change_attached: true,
            ..Interfaces::default()
        };
        let backends = state.rules.iter().flat_map(|rule| &rule.backends);
        let egress: BTreeSet<u32> = backends.map(|b| b.adjacency.ifindex).collect();
        let edit = |transaction: &mut Transaction| {
            let have = transaction.list()?;
            match fails {
                true => Err(anyhow!("it is given up")),
                false => Ok((Plan::between(&have, state.rules), ())),
            }
        };
        datapath::apply(&pins, &interfaces, &egress, edit).map(|(report, ())| report)
    })
}

fn make(lan: &Lan, state: &State) -> Report {
    try_to_make(lan, state, false).expect("it is applied")
}

/// The rule that leads to the first server, which is deleted again.
fn rule(lan: &Lan) -> Rule {
    lan.tool().ok("attach lan");
    lan.add_backend(0, "");
    let mut rules = lan.host.enter(|| {
        let pins = datapath::locate(Some(&lan.pins.dir())).expect("a pin directory");
        let store = RuleStore::open(&pins).expect("the maps");
        store.list().expect("the rules")
    });
    lan.tool().ok("detach --all");
    let mut rule = rules.remove(0);
    rule.backends.iter_mut().for_each(|b| b.counter = None);
    rule
}

fn names(lan: &Lan) -> Vec<Value> {
    let status = lan.tool().json("status");
    let all = status["interfaces"].as_array().expect("interfaces");
    all.iter().map(|i| i["ifname"].clone()).collect()
}

/// So many datagrams are on their way at once: no queue overflows.
const WINDOW: u64 = 32;

/// Sends datagrams while something is done. How many were sent, and how many came.
fn under_traffic(from: &UdpSocket, to: &[UdpSocket], work: impl FnOnce()) -> (u64, u64) {
    let [ended, stopped] = [false; 2].map(AtomicBool::new);
    let received = AtomicU64::new(0);
    thread::scope(|scope| {
        for socket in to {
            let wait = Some(Duration::from_millis(20));
            socket.set_read_timeout(wait).expect("a timeout");
            scope.spawn(|| {
                let mut buffer = [0; 64];
                while !ended.load(Ordering::Relaxed) {
                    if socket.recv(&mut buffer).is_ok() {
                        received.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                if sent - received.load(Ordering::Relaxed) < WINDOW {
                    from.send_to(b"hello", ANYWHERE).expect("it is sent");
                    sent += 1;
                }
                thread::yield_now();
            }
            sent
        });
        work();
        stopped.store(true, Ordering::Relaxed);
        let sent = sender.join().expect("it sends");
        // What is lost does not come at all.
        for _ in 0..100 {
            if received.load(Ordering::Relaxed) < sent {
                thread::sleep(Duration::from_millis(10));
            }
        }
        ended.store(true, Ordering::Relaxed);
        (sent, received.load(Ordering::Relaxed))
    })
}

/// What the rule does not take is dropped by the policy that comes and goes with it, so that each datagram that
/// meets the one without the other is lost.
#[test]
fn no_packet_meets_the_rules_of_one_state_and_the_interfaces_of_another() {
    let lan = Lan::new(false, 1);
    let rules = [rule(&lan)];
    lan.host.ip("addr add 11.22.33.44/32 dev lo");
    let (vm, to) = (
        lan.vm_socket(),
        [socket(&lan.host, "0.0.0.0:7999"), lan.server_socket(0)],
    );
    let redirected = State {
        interfaces: &[("lan", Policy::Drop)],
        rules: &rules,
        ledger: false,
    };
    let passed = State {
        interfaces: &[("lan", Policy::Pass), ("wan0", Policy::Drop)],
        rules: &[],
        ledger: false,
    };
    let (sent, received) = under_traffic(&vm, &to, || {
        for _ in 0..6 {
            make(&lan, &redirected);
            make(&lan, &passed);
            make(&lan, &redirected);
            make(&lan, &NOTHING);
        }
    });
    assert!(sent > 1000, "{sent} packets test too little");
    assert_eq!(received, sent);
    assert_eq!(lan.pins.left(), Vec::<PathBuf>::new());
}

#[test]
fn what_a_change_makes_of_interfaces_is_seen_with_its_rules() {
    let lan = Lan::new(false, 1);
    let rules = [rule(&lan)];
    let both = State {
        interfaces: &[("lan", Policy::Pass), ("wan0", Policy::Drop)],
        rules: &rules,
        ledger: false,
    };
    let report = make(&lan, &both);
    assert_eq!(report.attached.len(), 2);
    assert_eq!(names(&lan), ["lan", "wan0"]);
    let counted = || lan.tool().json("rule list")[0]["forward_packages"].clone();
    let server = lan.server_socket(0);
    lan.vm_socket().send_to(b"hello", ANYWHERE).unwrap();
    assert_eq!(receive(&server).0, "hello");
    assert_eq!(counted(), 1);

    let one = State {
        interfaces: &[("lan", Policy::Drop)],
        rules: &rules,
        ledger: false,
    };
    let report = make(&lan, &one);
    assert_eq!(report.detached, ["wan0"]);
    assert_eq!(names(&lan), ["lan"]);
    assert!(!lan.host.ip("link show wan0").contains("prog/xdp"));
    assert_eq!(lan.tool().json("policy lan")["policy"], "drop");
    assert_eq!(counted(), 1, "what stays keeps its counter");
    let before = revision(&lan);
    make(&lan, &one);
    assert_eq!(revision(&lan), before, "nothing was to be changed");

    let ledger = || lan.tool().json("status")["interfaces"][0]["ledger"].clone();
    assert_eq!(ledger(), "unwanted");
    for (wanted, state) in [(true, "on"), (false, "unwanted"), (true, "on")] {
        make(
            &lan,
            &State {
                ledger: wanted,
                ..one
            },
        );
        assert_eq!(ledger(), state);
        lan.vm_socket().send_to(b"hello", ANYWHERE).unwrap();
        assert_eq!(receive(&server).0, "hello");
    }
    assert_eq!(counted(), 4);
    lan.tool().ok("detach --all");
    assert_eq!(lan.pins.left(), Vec::<PathBuf>::new());
}

fn revision(lan: &Lan) -> u64 {
    lan.host.enter(|| {
        let pins = datapath::locate(Some(&lan.pins.dir())).expect("a pin directory");
        let store = RuleStore::open(&pins).expect("the maps");
        store.revision().expect("it is read")
    })
}

/// The programs are attached by then.
#[test]
fn a_change_that_is_given_up_leaves_everything_as_it_was() {
    let lan = Lan::new(false, 1);
    let rules = [rule(&lan)];
    let both = State {
        interfaces: &[("lan", Policy::Drop), ("wan0", Policy::Drop)],
        rules: &rules,
        ledger: false,
    };
    let has_program = || lan.host.ip("link show").contains("prog/xdp");
    try_to_make(&lan, &both, true)
        .err()
        .expect("it is given up");
    assert!(!has_program());
    assert_eq!(lan.pins.left(), Vec::<PathBuf>::new());

    lan.tool().ok("attach wan0");
    let before = [lan.tool().json("status"), lan.tool().json("rule list")];
    try_to_make(&lan, &both, true)
        .err()
        .expect("it is given up");
    let after = [lan.tool().json("status"), lan.tool().json("rule list")];
    assert_eq!(after, before);
    assert!(!lan.host.ip("link show lan").contains("prog/xdp"));
    lan.tool().ok("detach --all");
    assert!(!has_program());
}

/// A run that was killed may leave a program that does nothing yet. Rules that change meanwhile do not wake it.
#[test]
fn a_program_that_waits_for_a_change_that_never_came_does_nothing_and_goes() {
    let lan = Lan::new(false, 1);
    let tool = lan.tool();
    tool.ok("attach wan0 --no-ledger");
    // Which would take the packet.
    lan.add_backend(0, "");
    let (vm, host) = (lan.vm_socket(), socket(&lan.host, "192.168.122.1:7999"));
    let passes = |when: &str| {
        vm.send_to(when.as_bytes(), "192.168.122.1:7999").unwrap();
        assert_eq!(receive(&host).0, when);
    };
    let (mut waiting, mut n) = (0, 0);
    let words = "attach lan --policy drop --no-ledger";
    while kill::before_change(&mut tool.command(words), n) {
        n += 1;
        if names(&lan) != [json!("wan0")] {
            tool.ok("detach lan");
        } else if lan.host.ip("link show lan").contains("prog/xdp") {
            waiting += 1;
            passes("it waits");
            if waiting % 4 == 1 {
                lan.add_backend(0, "--port 1");
                passes("rules have changed");
                tool.ok("rule del --port 1");
            }
        }
    }
    assert!(waiting > 0, "no run was killed when its program was there");
    tool.ok("detach --all");
    assert!(!lan.host.ip("link show").contains("prog/xdp"));
    assert_eq!(lan.pins.left(), Vec::<PathBuf>::new());
}
