//! A veth whose peer has no GRO takes no redirected frames.

use super::bed::{Bed, assert_finding, is_up};
use crate::fixture::guest;

#[test]
fn gro_is_switched_on_at_a_peer_that_loses_all_and_off_again() {
    let bed = Bed::new("native");
    bed.gro_off();
    bed.tcp_too();
    assert!(!bed.arrives());
    let found = bed.findings();
    let words = ["peer eth0 in", &bed.server().name, "neither GRO"];
    assert_finding(&found[0], "peer-napi", "problem", &words);
    assert_eq!(found[0]["fixable"], true);
    // And the loss itself, which is history afterwards.
    assert_finding(&found[1], "losses", "warning", &["takes no redirected"]);
    assert_eq!(
        found[1]["consequence"],
        "1 frame was lost there since the backends were added"
    );
    assert!(Bed::mend_of(&found[1]).ends_with("ethtool -K eth0 gro on"));

    let out = bed.fix();
    assert!(out.contains("fixed: GRO on at eth0 in"), "{out}");
    assert!(out.contains("no problems found, 2 warnings"), "{out}");
    assert!(bed.gro() && bed.arrives());
    // A host's own device is no peer: its settings are as they were.
    let own = bed.host().exec("ethtool -k wan0");
    assert!(own.contains("generic-receive-offload: off"), "{own}");
    bed.tool().ok("rule del --proto tcp --port 80");
    bed.finds_history("takes no redirected");

    let run = bed.tool().ok("doctor --undo");
    assert!(run.out.contains("reverted: GRO off at eth0"), "{run:?}");
    assert!(!bed.gro() && !bed.arrives());
    assert_eq!(bed.tool().run("doctor").code, 7);
    let run = bed.tool().ok("doctor --undo");
    assert_eq!(run.out, "nothing to undo\n");
}

#[test]
fn in_skb_mode_a_peer_without_gro_is_no_finding() {
    let bed = Bed::new("skb");
    bed.gro_off();
    assert!(bed.arrives());
    bed.finds_nothing();
}

#[test]
fn gro_and_link_are_fixed_together() {
    let bed = Bed::new("native");
    bed.gro_off();
    bed.tcp_too();
    bed.server().ip("link set eth0 down");
    bed.fix();
    assert!(bed.arrives());
    bed.tool().ok("doctor --undo");
    assert!(!bed.gro() && !is_up(bed.server(), "eth0"));
}

#[test]
fn gro_that_was_switched_on_while_the_peer_was_down_is_told_apart() {
    guest::needs_kernel(6, 18, "a veth that takes no frames then");
    let bed = Bed::new("native");
    bed.gro_off();
    bed.server().ip("link set eth0 down");
    bed.server().exec("ethtool -K eth0 gro on");
    bed.server().ip("link set eth0 up");
    bed.server().ip("route add default via 172.17.0.1");
    assert!(!bed.arrives());
    let found = bed.findings();
    assert_finding(&found[0], "peer-napi", "problem", &["while that was down"]);
    bed.server().exec("ethtool -K eth0 gro off");
    bed.server().exec("ethtool -K eth0 gro on");
    assert!(bed.arrives());
}
