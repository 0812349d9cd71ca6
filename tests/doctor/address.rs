//! Servers that do not have the address that their backend has.

use super::bed::{Bed, CLIENT, OTHER_MAC, SERVER};

#[test]
fn a_server_that_has_not_its_address_is_named_unless_it_keeps_the_packets() {
    let bed = Bed::new("skb");
    bed.server().ip(&format!("addr del {SERVER}/16 dev eth0"));
    bed.server().ip("addr add 172.17.0.3/16 dev eth0");
    bed.server().ip("route replace default via 172.17.0.1");
    assert!(!bed.arrives());
    bed.finds("address", "problem", &["172.17.0.2 is no address"]);
    // On another device of the server it counts.
    bed.server().ip(&format!("addr add {SERVER}/32 dev lo"));
    assert!(bed.arrives());
    bed.finds_nothing();
    bed.server().ip(&format!("addr del {SERVER}/32 dev lo"));
    bed.tool().ok(&format!(
        "rule add --src {CLIENT} --server {SERVER} --keep-ip"
    ));
    bed.finds("keep-ip", "warning", &["addresses of networks"]);
    bed.server().ip("addr add 11.22.33.44/32 dev lo");
    bed.finds_nothing();
}

/// Whoever takes the tag off has a MAC address and a namespace of his own.
#[test]
fn where_a_tag_is_pushed_the_peer_tells_nothing_of_the_server() {
    let bed = Bed::bare();
    bed.tool().ok("attach lan --mode skb");
    bed.tool().ok(&format!(
        "rule add --src {CLIENT} --server 172.17.0.9 --mac {OTHER_MAC} --dev wan0 --push-vlan 7"
    ));
    bed.finds_nothing();
}
