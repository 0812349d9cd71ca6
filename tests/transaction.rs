//! The library's transaction: nobody sees what is staged until it is published.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use crate::fixture::lan::Lan;
use crate::fixture::run::{Loaded, XDP_TX, pinned};
use libbpf_rs::{MapCore, MapFlags};
use xdpredir::datapath::{self, Lock, RuleStore};
use xdpredir::model::{Adjacency, Backend, Locator, Plan, Rule};

/// A rule with two backends.
fn lan() -> Lan {
    let lan = Lan::new(false, 2);
    lan.tool().ok("attach lan");
    lan.add_backend(0, "");
    lan.add_backend(1, "");
    lan
}

fn with_store<T: Send>(lan: &Lan, work: impl FnOnce(&RuleStore, &Lock) -> T + Send) -> T {
    lan.host.enter(|| {
        let pins = datapath::locate(Some(&lan.pins.dir())).expect("a pin directory");
        let lock = Lock::take(&pins).expect("the lock");
        work(&RuleStore::open(&pins).expect("the maps"), &lock)
    })
}

fn another(rule: &Rule, last: u8) -> Backend {
    let server = IpAddr::V4(Ipv4Addr::new(172, 17, 0, last));
    let like = rule.backends[0].adjacency;
    Backend {
        origin: Some(Locator::Route),
        ..Backend::new(Adjacency { server, ..like })
    }
}

/// Which lines and counters are taken, and how many locators there are.
fn used(lan: &Lan) -> (Vec<Option<Vec<u8>>>, usize) {
    let first = |name| {
        let map = pinned(&lan.pins, name);
        map.lookup(&[0; 4], MapFlags::ANY).expect("it is read")
    };
    let locators = pinned(&lan.pins, "locators").keys().count();
    (
        ["line_bitmaps", "counter_bitmaps"].map(first).into(),
        locators,
    )
}

#[test]
fn what_is_staged_is_seen_by_nobody_and_goes_when_it_is_given_up() {
    let lan = lan();
    let before = used(&lan);
    with_store(&lan, |store, lock| {
        let have = store.list().expect("rules");
        let mut want = have.clone();
        let new = another(&want[0], 9);
        want[0].put(new);
        let plan = Plan::between(&have, &want);
        let stage = || {
            let transaction = store.begin(lock, &BTreeSet::new()).expect("it begins");
            transaction.stage(plan.clone()).expect("there is room")
        };
        for give_up in [datapath::Staged::discard, drop] {
            let staged = stage();
            assert_eq!(store.list().expect("rules"), have);
            give_up(staged);
            assert_eq!(used(&lan), before);
        }
        stage().publish().expect("it is published");
        let now = store.list().expect("rules");
        assert_eq!(now[0].backends.len(), 3);
        assert_eq!(now[0].backends[..2], have[0].backends);
        let after = used(&lan);
        assert_ne!(after.0, before.0);
        assert_eq!(after.1, 1);
    });
}

#[test]
fn a_plan_that_changes_nothing_publishes_nothing() {
    let lan = lan();
    let revisions = || {
        let map = pinned(&lan.pins, "rulesets");
        [0u32, 1].map(|slot| map.lookup(&slot.to_ne_bytes(), MapFlags::ANY).unwrap())
    };
    let before = revisions();
    with_store(&lan, |store, lock| {
        let have = store.list().expect("rules");
        for plan in [Plan::put(have), Plan::default()] {
            let transaction = store.begin(lock, &BTreeSet::new()).expect("it begins");
            let staged = transaction.stage(plan).expect("there is room");
            staged.publish().expect("it is published");
        }
    });
    assert_eq!(revisions(), before);
}

/// What rules replace is swept before banks are made for it: memory does not grow with the number of changes.
#[test]
fn hundreds_of_changes_take_no_more_memory_than_some() {
    let lan = lan();
    with_store(&lan, |store, lock| {
        for round in 0..300u32 {
            let have = store.list().expect("rules");
            let mut want = have.clone();
            let server = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + round));
            let like = want[0].backends[0].adjacency;
            want[0].backends.truncate(1);
            want[0].put(Backend::new(Adjacency { server, ..like }));
            let plan = Plan::between(&have, &want);
            let transaction = store.begin(lock, &BTreeSet::new()).expect("it begins");
            let staged = transaction.stage(plan).expect("there is room");
            staged.publish().expect("it is published");
        }
        assert_eq!(store.list().expect("rules")[0].backends.len(), 2);
    });
    let state = lan.pins.namespace().join("state");
    let names = std::fs::read_dir(state).unwrap();
    let banks = names.filter(|name| {
        let name = name.as_ref().unwrap().file_name();
        name.to_string_lossy().contains("-bank-")
    });
    assert!(banks.count() <= 5, "two of counters, three of lines");
}

/// An ARP request (RFC 826) for 192.168.122.x.
fn who_has(last: u8) -> Vec<u8> {
    let head = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6];
    let from = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 192, 168, 122, 10];
    [&head[..], &from, &[0, 0, 0, 0, 0, 0, 192, 168, 122, last]].concat()
}

/// What rules announce lies among the rules, and must neither be swept with what they have left nor be counted twice.
#[test]
fn announced_addresses_outlive_hundreds_of_changes_and_go_with_their_last_rule() {
    let lan = lan();
    let program = Loaded::on(&lan.tool().json("status"), "lan");
    let is_answered = |last| program.run(&who_has(last)).0 == XDP_TX;
    let change = |store: &RuleStore, lock: &Lock, edit: &dyn Fn(&mut Vec<Rule>)| {
        let have = store.list().expect("rules");
        let mut want = have.clone();
        edit(&mut want);
        let plan = Plan::between(&have, &want);
        let transaction = store.begin(lock, &BTreeSet::new()).expect("it begins");
        let staged = transaction.stage(plan).expect("there is room");
        staged.publish().expect("it is published");
        assert_eq!(store.list().expect("rules").len(), want.len());
    };
    let announcing = |like: &Rule, last: u8, port: &str| {
        let mut rule = Rule {
            announce: true,
            ..like.with(like.backends.clone())
        };
        rule.matches.dst = IpAddr::V4(Ipv4Addr::new(192, 168, 122, last)).into();
        rule.matches.ports = port.parse().expect("a port");
        rule.backends.iter_mut().for_each(|b| b.counter = None);
        rule
    };
    with_store(&lan, |store, lock| {
        change(store, lock, &|rules| {
            let like = rules[0].clone();
            // Two that stay, which share a line, and one whose address others announce, too.
            rules.extend([55, 56, 53].map(|last| announcing(&like, last, "1")));
        });
        for round in 0..300u32 {
            change(store, lock, &|rules| {
                let like = rules.iter().find(|rule| !rule.announce).unwrap().clone();
                rules.retain(|rule| !rule.announce || rule.matches.ports.first() == 1);
                let last = [53, 54][round as usize % 2];
                rules.push(announcing(&like, last, &(2 + round).to_string()));
            });
            let other = round % 2 == 1;
            let answered = [53, 54, 55, 56].map(is_answered);
            assert_eq!(answered, [true, other, true, true], "{round}");
        }
        change(store, lock, &|rules| rules.retain(|rule| !rule.announce));
        assert_eq!([53, 54, 55, 56].map(is_answered), [false; 4]);
    });
}

#[test]
fn a_backend_that_moves_keeps_its_counter_from_the_one_that_gets_its_address() {
    let lan = lan();
    with_store(&lan, |store, lock| {
        let have = store.list().expect("rules");
        let mut want = have.clone();
        let moved = want[0].remove(have[0].backends[0].server);
        let mut moved = moved.expect("the backend is there");
        moved.adjacency.server = IpAddr::V4(Ipv4Addr::new(172, 17, 0, 9));
        want[0].put(moved);
        let new = another(&have[0], 2);
        want[0].put(new);
        let plan = Plan::between(&have, &want);
        let transaction = store.begin(lock, &BTreeSet::new()).expect("it begins");
        let staged = transaction.stage(plan).expect("there is room");
        staged.publish().expect("it is published");
        let now = &store.list().expect("rules")[0].backends;
        let counters: BTreeSet<_> = now.iter().map(|backend| backend.counter).collect();
        assert_eq!(counters.len(), 3, "{now:?}");
        assert_eq!(now[2].counter, have[0].backends[0].counter);
    });
}
