//! What loses nothing, but could be faster: one line each, and no exit code.

use super::bed::{Bed, CLIENT, SERVER, assert_finding};
use crate::fixture::Ns;

#[test]
fn that_gro_joins_no_datagrams_is_a_hint() {
    let bed = Bed::new("native");
    let hints = bed.hints();
    assert_eq!(hints.len(), 1, "{hints:#?}");
    assert_finding(&hints[0], "gro-list", "hint", &["GRO is on", "eth0 in"]);
    assert_eq!(hints[0]["fixable"], false);
    let run = bed.tool().ok("doctor");
    let lines: Vec<&str> = run.out.lines().collect();
    assert!(
        lines[0].starts_with("hint     wan0: UDP sockets"),
        "{run:?}"
    );
    assert!(
        lines[1].starts_with("no problems found, 1 hint: looked at"),
        "{run:?}"
    );
    assert_eq!(lines.len(), 2, "{run:?}");
    bed.paste(&hints[0]);
    assert!(bed.hints().is_empty() && bed.arrives());
}

#[test]
fn where_gro_or_datagrams_are_missing_there_is_no_hint() {
    let bed = Bed::new("skb");
    assert!(bed.hints().is_empty());
    let bed = Bed::new("native");
    bed.gro_off();
    bed.fix();
    assert!(bed.hints().is_empty(), "with a program, there is no GRO");
    let bed = Bed::bare();
    bed.tool().ok("attach lan --mode native");
    bed.tcp_too();
    assert!(bed.hints().is_empty());
}

#[test]
fn one_queue_for_several_cpus_is_a_hint() {
    let bed = Bed::bare();
    let other = Ns::new("other");
    bed.host().veth("lan2", &other, "eth0");
    bed.server().exec("ethtool -K eth0 rx-gro-list on");
    bed.tool().ok("attach lan lan2 --mode native");
    // Hints come with doctor alone.
    let add = format!("rule add --src {CLIENT} --server {SERVER}");
    assert_eq!(bed.tool().ok(&add).err, "");
    let hints = bed.hints();
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1) {
        assert!(hints.is_empty(), "{hints:#?}");
        return;
    }
    assert_eq!(hints.len(), 1, "{hints:#?}");
    assert_finding(
        &hints[0],
        "rx-queues",
        "hint",
        &["2 may do so", "by 1 queue"],
    );
    bed.paste(&hints[0]);
    assert!(bed.hints().is_empty() && bed.arrives());
}
