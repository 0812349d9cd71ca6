//! Rules for ports from which the host sends requests of its own.

use super::bed::{Bed, SERVER};
use crate::fixture::lan::{receive, socket};

const CHECK: &str = "ephemeral-ports";

#[test]
fn replies_that_a_rule_would_take_are_a_warning_until_the_port_is_reserved() {
    let bed = Bed::new("native");
    bed.finds_nothing();
    let host = socket(bed.host(), "192.168.122.1:40000");
    let vm = socket(&bed.lan.vm, "0.0.0.0:9");
    let ask = || {
        host.send_to(b"question", "192.168.122.10:9")
            .expect("it is sent");
        let (_, from) = receive(&vm);
        vm.send_to(b"reply", from).expect("it is sent");
    };
    ask();
    assert_eq!(receive(&host).0, "reply");

    let run = bed
        .tool()
        .ok(&format!("rule add --port 40000 --server {SERVER}"));
    assert!(
        run.err.contains("lan: replies to requests of this host"),
        "{run:?}"
    );
    let server = socket(bed.server(), "0.0.0.0:40000");
    ask();
    assert_eq!(receive(&server).0, "reply", "the rule has taken it");

    let words = ["udp port 40000 has no destination", "32768 to 60999"];
    let finding = bed.finds(CHECK, "warning", &words);
    bed.paste(&finding);
    bed.finds_nothing();
    // A second one is reserved beside the first.
    bed.tool()
        .ok(&format!("rule add --port 40001 --server {SERVER}"));
    bed.paste(&bed.finds(CHECK, "warning", &["udp port 40001"]));
    bed.finds_nothing();
}

#[test]
fn where_the_host_has_no_address_no_reply_comes() {
    let bed = Bed::bare();
    bed.tool().ok("attach lan --mode skb");
    bed.tool()
        .ok(&format!("rule add --port 40000 --server {SERVER}"));
    let is_found = || bed.findings().iter().any(|found| found["check"] == CHECK);
    assert!(is_found());
    bed.host().ip("addr flush dev lan");
    assert!(!is_found());
}
