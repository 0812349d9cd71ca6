//! What packets see while files are applied: one set of rules or the other, and other runs meanwhile.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use serde_json::Value;

use super::bed::{Bed, MAC, rule};
use crate::fixture::lan::Lan;
use crate::fixture::tap::Tap;
use crate::fixture::{Run, kill};

const RULES: u16 = 8;
const FIRST_PORT: u16 = 7000;
/// How often one set takes the other's place.
const APPLIES: usize = 60;

/// In each set, each rule has a server of its own, whose MAC address says the same.
fn set(number: u8) -> String {
    let rules = (0..RULES).map(|rule| {
        format!(
            "[[rule]]\nport = {}\nreply = \"none\"\n[[rule.backend]]\nserver = \"10.{number}.{rule}.1\"\n\
             mac = \"02:00:0a:{number:02x}:{rule:02x}:01\"\ndevice = \"tap0\"\n",
            FIRST_PORT + rule,
        )
    });
    rules.collect()
}

/// Sends to all ports in turn, what the payload says.
fn send(from: &UdpSocket, stop: &AtomicBool, sent: &AtomicU64) {
    while !stop.load(Relaxed) {
        for rule in 0..RULES {
            let to = ("11.22.33.44", FIRST_PORT + rule);
            if from.send_to(&[rule as u8; 18], to).is_ok() {
                sent.fetch_add(1, Relaxed);
            }
        }
    }
}

/// Reads frames, each of which is for the server of its rule in one of the sets.
fn check(tap: &mut Tap, stop: &AtomicBool) -> [u64; 2] {
    let mut seen = [0; 2];
    while !stop.load(Relaxed) {
        let Some(frame) = tap.read() else { continue };
        let (number, rule) = (frame[31], frame[42]);
        assert!((1..=2).contains(&number), "{frame:?}");
        assert_eq!(frame[30..34], [10, number, rule, 1], "{frame:?}");
        assert_eq!(frame[..6], [2, 0, 10, number, rule, 1], "{frame:?}");
        seen[usize::from(number) - 1] += 1;
    }
    seen
}

#[test]
fn while_files_are_applied_each_packet_goes_where_one_of_them_sends_it() {
    let lan = Lan::new(false, 0);
    let mut tap = Tap::new(&lan.host, "tap0", false);
    lan.tool().ok("attach lan --mode native");
    let directory = tempfile::tempdir().unwrap();
    let applies = [1, 2].map(|number| {
        let file = directory.path().join(format!("{number}.toml"));
        std::fs::write(&file, set(number)).unwrap();
        format!("apply {}", file.display())
    });
    lan.tool().ok(&applies[0]);
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let from = lan.vm_socket();
    let seen = thread::scope(|scope| {
        let checker = scope.spawn(|| check(&mut tap, &stop));
        scope.spawn(|| send(&from, &stop, &sent));
        for turn in 0..APPLIES {
            lan.tool().ok(&applies[(turn + 1) % 2]);
        }
        stop.store(true, Relaxed);
        checker.join().expect("frames of the two sets")
    });
    assert!(seen.iter().all(|frames| *frames > 100), "{seen:?}");
    let stats = lan.tool().json("stats");
    let outcome = |name: &str| stats["interfaces"][0]["outcomes"][name]["packets"].as_u64();
    assert_eq!(outcome("redirected"), Some(sent.load(Relaxed)), "{stats:#}");
    assert_eq!(
        (outcome("no_rule"), outcome("no_device")),
        (Some(0), Some(0))
    );
}

/// Two sets of rules, each in a file.
fn two_sets(bed: &Bed, rules: u32) -> [(String, Vec<Value>); 2] {
    [1, 2].map(|number| {
        let text: String = (0..rules)
            .map(|i| {
                rule(
                    &format!("10.{}.{}.0/24", 100 + number + i / 200, i % 200),
                    &format!("172.17.{number}.{}", 1 + i % 9),
                )
            })
            .collect();
        let apply = format!("apply {}", bed.file(&format!("{number}.toml"), &text));
        bed.tool().ok(&apply);
        (apply, bed.rows())
    })
}

#[test]
fn an_apply_killed_at_any_instant_leaves_one_of_the_sets() {
    let bed = &Bed::new();
    let [(old, before), (new, after)] = two_sets(bed, 60);
    bed.tool().ok(&old);
    let changes = kill::count_changes(&mut bed.tool().command(&new));
    for n in 0..changes {
        bed.tool().ok(&old);
        let killed = kill::before_change(&mut bed.tool().command(&new), n);
        let left = bed.rows();
        assert!(
            left == after || killed && left == before,
            "killed before change {n}"
        );
    }
    bed.tool().ok(&new);
    assert_eq!(bed.rows(), after);
}

#[test]
fn of_two_applies_at_once_one_comes_after_the_other() {
    let bed = Bed::new();
    let sets = two_sets(&bed, 2000);
    for _ in 0..5 {
        let runs = sets.each_ref().map(|(apply, _)| bed.tool().spawn(apply));
        for run in runs {
            Run::from(run.wait_with_output().unwrap()).ok();
        }
        let left = bed.rows();
        assert!(
            sets.iter().any(|(_, rows)| *rows == left),
            "a mixture of both"
        );
    }
}

#[test]
fn rules_added_while_a_file_is_applied_are_there_or_gone_whole() {
    let bed = Bed::new();
    let [_, (apply, rows)] = two_sets(&bed, 500);
    for round in 0..5 {
        let words = if round == 0 { "--keep-others" } else { "" };
        let mut runs = vec![bed.tool().spawn(&format!("{apply} {words}"))];
        for i in 0..8 {
            let words = format!("--src 10.202.{i}.0/24 --server 172.17.0.1 --mac {MAC} --dev out0");
            runs.push(bed.tool().spawn(&format!("rule add {words}")));
        }
        for run in runs {
            Run::from(run.wait_with_output().unwrap()).ok();
        }
        let is_added = |row: &&Value| row["server"] == "172.17.0.1";
        let left = bed.rows();
        let (added, others): (Vec<&Value>, Vec<&Value>) = left.iter().partition(is_added);
        assert_eq!(others, rows.iter().collect::<Vec<_>>());
        // Each was added before and is gone, or after.
        assert!(
            added.len() <= 8 && (round > 0 || added.len() == 8),
            "{added:?}"
        );
    }
}
