//! The library's transaction: nobody sees what is staged until it is published.

mod fixture;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use fixture::lan::Lan;
use fixture::run::pinned;
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

/// How many entries maps have that a rule's backends need, and the counters in use.
fn used(lan: &Lan) -> ([usize; 3], Option<Vec<u8>>) {
    let count = |name| pinned(&lan.pins, name).keys().count();
    let counters = pinned(&lan.pins, "counter_bitmaps");
    let bitmap = counters.lookup(&[0; 4], MapFlags::ANY).expect("it is read");
    (["members", "maglev", "locators"].map(count), bitmap)
}

#[test]
fn what_is_staged_is_seen_by_nobody_and_goes_when_it_is_given_up() {
    let lan = lan();
    let before = used(&lan);
    assert_eq!(before.0, [2, 4, 0]);
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
            assert_eq!(used(&lan).0, [5, 8, 0]);
            assert_eq!(store.list().expect("rules"), have);
            give_up(staged);
            assert_eq!(used(&lan), before);
        }
        stage().publish().expect("it is published");
        let now = store.list().expect("rules");
        assert_eq!(now[0].backends.len(), 3);
        assert_eq!(now[0].backends[..2], have[0].backends);
        assert_eq!(used(&lan).0, [3, 4, 1]);
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
