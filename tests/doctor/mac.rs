//! Addresses and features of devices that are no longer those that a backend has.

use super::bed::{Bed, CLIENT, OTHER_MAC, SERVER, speak};
use crate::fixture::Ns;
use crate::fixture::lan::mac;
use serde_json::Value;

#[test]
fn a_mac_address_that_the_peer_has_no_more_is_refreshed_in_all_rules_and_put_back() {
    let bed = Bed::new("native");
    bed.tool().ok(&format!(
        "rule add --src {CLIENT} --port 1 --server {SERVER}"
    ));
    assert!(bed.arrives());
    let before = mac(bed.server(), "eth0");
    bed.server()
        .ip(&format!("link set eth0 address {OTHER_MAC}"));
    assert!(!bed.arrives());
    let finding = bed.finds("mac", "problem", &[&before, OTHER_MAC, "eth0 in"]);
    assert_eq!(finding["fixable"], true);

    let out = bed.fix();
    assert!(out.contains("fixed: server 172.17.0.2"), "{out}");
    assert!(out.contains("in 2 rules"), "{out}");
    assert!(bed.arrives());
    let all_have = |rules: &Value, mac: &str| {
        let mut rules = rules.as_array().unwrap().iter();
        rules.all(|rule| rule["mac"] == mac)
    };
    let rules = bed.tool().json("rule list");
    assert!(all_have(&rules, OTHER_MAC));
    // 2 before the fix, one after it: counters are kept.
    let packets = |rules: &Value| {
        let rules = rules.as_array().unwrap().iter();
        rules
            .map(|r| r["forward_packages"].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(packets(&rules), 3);

    bed.tool().ok("doctor --undo");
    let rules = bed.tool().json("rule list");
    assert!(all_have(&rules, &before));
    assert_eq!(packets(&rules), 3);
    assert!(!bed.arrives());
}

#[test]
fn a_backend_that_somebody_has_changed_since_is_not_put_back() {
    let bed = Bed::new("skb");
    bed.server()
        .ip(&format!("link set eth0 address {OTHER_MAC}"));
    bed.fix();
    let another = "02:00:00:00:00:78";
    bed.tool().ok(&format!(
        "rule add --src {CLIENT} --server {SERVER} --mac {another}"
    ));
    bed.tool().ok("doctor --undo");
    assert_eq!(bed.backend()["mac"], another);
}

/// A bridge in the server's namespace: the peer can't tell the MAC address, the neighbour table can.
#[test]
fn a_mac_address_that_the_neighbour_table_contradicts_is_refreshed() {
    let bed = Bed::bare();
    let inner = Ns::new("inner");
    bed.server().ip("addr flush dev eth0");
    bed.server().ip("link add br0 type bridge");
    bed.server().ip("link set br0 up");
    bed.server().ip("link set eth0 master br0");
    bed.server().veth("in0", &inner, "eth0");
    bed.server().ip("link set in0 master br0");
    inner.ip(&format!("addr add {SERVER}/16 dev eth0"));
    bed.tool().ok("attach lan --mode skb");
    bed.tool().ok(&format!("rule add --server {SERVER}"));
    bed.finds_nothing();

    let before = bed.backend()["mac"].clone();
    inner.ip(&format!("link set eth0 address {OTHER_MAC}"));
    speak(&inner);
    bed.finds("mac", "problem", &["neighbour table", OTHER_MAC, "wan0"]);
    bed.fix();
    assert_eq!(bed.backend()["mac"], OTHER_MAC);
    bed.tool().ok("doctor --undo");
    assert_eq!(bed.backend()["mac"], before);
}

#[test]
fn an_egress_device_with_another_mac_address_than_the_rules_remember_is_refreshed() {
    let bed = Bed::new("skb");
    bed.host().ip(&format!("link set wan0 address {OTHER_MAC}"));
    bed.finds("source-mac", "problem", &[OTHER_MAC]);
    bed.fix();
    bed.finds_nothing();
    bed.tool().ok("doctor --undo");
    bed.finds("source-mac", "problem", &[OTHER_MAC]);
}

#[test]
fn a_changed_tx_checksum_feature_is_told_to_the_rules() {
    let bed = Bed::new("skb");
    for word in ["off", "on"] {
        bed.host().exec(&format!("ethtool -K wan0 tx {word}"));
        let now = format!("is {word} now");
        bed.finds("checksum", "problem", &[&now]);
        bed.fix();
        assert!(bed.arrives());
        bed.finds_nothing();
    }
    // Natively the program completes all.
    let bed = Bed::new("native");
    bed.host().exec("ethtool -K wan0 tx off");
    bed.finds_nothing();
}
