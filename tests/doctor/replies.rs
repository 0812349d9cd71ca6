//! Answers that are lost on their way, and servers that drop by source address.

use super::bed::{Bed, CLIENT, SERVER, send};
use crate::fixture::lan::{ANYWHERE, mac, receive, socket};
use crate::fixture::{Ns, guest};

/// Between the host and a server that has another router than the host: the router has one device.
#[test]
fn a_router_on_a_stick_sends_on_by_the_device_of_arrival() {
    let bed = Bed::bare();
    let (host, router, server) = (bed.host(), bed.server(), Ns::new("behind"));
    host.ip("addr flush dev wan0");
    host.ip("link add br0 type bridge");
    host.ip("link set br0 up");
    host.ip("addr add 172.17.0.1/16 dev br0");
    host.ip("link set wan0 master br0");
    host.veth("wan1", &server, "eth0");
    host.ip("link set wan1 master br0");
    router.ip("addr flush dev eth0");
    router.ip("addr add 172.17.0.3/16 dev eth0");
    router.ip("route add default via 172.17.0.1");
    router.sysctl("net/ipv4/ip_forward", "1");
    let mac = mac(router, "eth0");
    bed.tool().ok("attach lan --mode skb");
    bed.tool().ok(&format!(
        "rule add --src {CLIENT} --server {SERVER} --mac {mac} --dev wan0"
    ));
    let to = socket(&server, "0.0.0.0:7999");
    to.set_read_timeout(Some(guest::patience(700)))
        .expect("a timeout");
    let from = bed.lan.vm_socket();
    // More than once: a neighbour that is about to be given up takes the first with it.
    // What was sent before may come late: each question has a number of its own.
    let asked = std::cell::Cell::new(0);
    let receives = |number: u8| {
        let mut got = [0; 64];
        while to.recv(&mut got).is_ok() {
            if got[0] == number {
                return true;
            }
        }
        false
    };
    let arrives = || {
        let number = asked.get() + 1;
        asked.set(number);
        (0..4).any(|_| {
            from.send_to(&[number], ANYWHERE).expect("it is sent");
            receives(number)
        })
    };
    // On the link, but nobody has it.
    assert!(!arrives());
    bed.finds("address", "problem", &["172.17.0.2 is no address"]);
    server.ip(&format!("addr add {SERVER}/16 dev eth0"));
    assert!(arrives());
    bed.finds_nothing();
    // By a gateway on it.
    server.ip("addr add 172.17.0.4/16 dev eth0");
    router.ip(&format!("route add {SERVER}/32 via 172.17.0.4"));
    assert!(arrives());
    bed.finds_nothing();
    router.sysctl("net/ipv4/ip_forward", "0");
    assert!(!arrives());
    bed.finds("address", "problem", &["172.17.0.2 is no address"]);
}

#[test]
fn a_server_that_drops_by_source_is_named() {
    let bed = Bed::new("skb");
    let side = Ns::new("side");
    bed.server().veth("side0", &side, "eth0");
    bed.server().ip("addr add 10.0.0.1/24 dev side0");
    bed.server().ip("route replace default via 10.0.0.2");
    assert!(bed.arrives());
    bed.finds_nothing();
    bed.server().sysctl("net/ipv4/conf/eth0/rp_filter", "1");
    assert!(!bed.arrives());
    bed.finds(
        "rp-filter",
        "problem",
        &["rp_filter is 1", CLIENT, "another device"],
    );
    // Routing by source leads back all the same.
    bed.server()
        .ip("route add default via 172.17.0.1 table 100");
    bed.server()
        .ip(&format!("rule add from {SERVER} lookup 100"));
    assert!(bed.arrives());
    bed.finds_nothing();
    bed.server()
        .ip(&format!("rule del from {SERVER} lookup 100"));
    bed.server().sysctl("net/ipv4/conf/eth0/rp_filter", "2");
    assert!(bed.arrives());
    bed.finds_nothing();
    bed.server().ip("route del default");
    assert!(!bed.arrives());
    bed.finds("rp-filter", "problem", &["rp_filter is 2", "missing"]);
}

#[test]
fn a_server_that_drops_what_a_rule_for_any_source_brings_is_named() {
    let bed = Bed::bare();
    bed.tool().ok("attach lan --mode skb");
    bed.tool().ok(&format!("rule add --server {SERVER}"));
    bed.server().sysctl("net/ipv4/conf/eth0/rp_filter", "1");
    assert!(bed.arrives());
    bed.finds_nothing();
    let side = Ns::new("side");
    bed.server().veth("side0", &side, "eth0");
    bed.server().ip("addr add 10.0.0.1/24 dev side0");
    bed.server().ip("route replace default via 10.0.0.2");
    assert!(!bed.arrives());
    // All that is known to be behind the interface.
    let words = ["rp_filter is 1", "192.168.122.0/24", "by another device"];
    bed.finds("rp-filter", "problem", &words);
    bed.server().ip("route add 192.168.122.0/24 via 172.17.0.1");
    assert!(bed.arrives());
    bed.finds_nothing();

    // What comes by the host's default route can be from anywhere.
    bed.host().ip("route add default via 192.168.122.10");
    let words = ["any other network", "by another device"];
    let finding = bed.finds("rp-filter", "warning", &words);
    let consequence = finding["consequence"].as_str().unwrap();
    assert!(consequence.contains("may be dropped"), "{finding:#}");
    bed.server().ip("route replace default via 172.17.0.1");
    bed.finds_nothing();
}

#[test]
fn where_nothing_tells_the_sources_they_may_be_dropped() {
    let bed = Bed::bare();
    bed.host().ip("addr flush dev lan");
    bed.tool().ok("attach lan --mode skb");
    bed.tool().ok(&format!("rule add --server {SERVER}"));
    bed.finds_nothing();
    bed.server().ip("route del default");
    bed.finds_nothing();
    bed.server().sysctl("net/ipv4/conf/eth0/rp_filter", "2");
    let words = ["rp_filter is 2", "any other network", "missing"];
    bed.finds("rp-filter", "warning", &words);
}

#[test]
fn replies_that_get_lost_are_a_warning() {
    let bed = Bed::new("skb");
    let (from, to) = (bed.lan.vm_socket(), bed.lan.server_socket(0));
    let answered = || {
        from.set_read_timeout(Some(guest::patience(500))).unwrap();
        send(&from);
        let (_, client) = receive(&to);
        let _ = to.send_to(b"answer", client);
        from.recv(&mut [0; 64]).is_ok()
    };
    assert!(answered());
    bed.host().sysctl("net/ipv4/ip_forward", "0");
    assert!(!answered());
    let finding = bed.finds("replies", "warning", &["forwarding is off"]);
    assert!(finding["mend"].as_str().unwrap().contains("ip_forward=1"));
    bed.host().sysctl("net/ipv4/ip_forward", "1");
    assert!(answered());
    bed.host().sysctl("net/ipv4/conf/wan0/forwarding", "0");
    assert!(!answered());
    bed.finds("replies", "warning", &["by wan0", "forwarding is off"]);
    bed.host().sysctl("net/ipv4/conf/wan0/forwarding", "1");

    let elsewhere = format!("route add {SERVER}/32 via 192.168.122.10");
    bed.host().ip(&elsewhere);
    assert!(answered());
    bed.finds_nothing();
    bed.host().sysctl("net/ipv4/conf/wan0/rp_filter", "1");
    assert!(!answered());
    let words = ["rp_filter is 1", SERVER, "by another device"];
    bed.finds("replies", "warning", &words);
    bed.host().ip(&elsewhere.replace("add", "del"));
    assert!(answered());
    bed.finds_nothing();

    bed.server().ip("route del default");
    bed.finds("replies", "warning", &["no route to 192.168.122.10"]);
}

/// One rule keeps the destination and the other does not, so they are looked at apart.
#[test]
fn what_two_rules_of_a_server_have_in_common_is_said_once() {
    let bed = Bed::new("skb");
    bed.server().ip("addr add 11.22.33.44/32 dev lo");
    bed.tool().ok(&format!(
        "rule add --src {CLIENT} --port 8000 --server {SERVER} --keep-ip"
    ));
    bed.finds_nothing();
    bed.host().sysctl("net/ipv4/ip_forward", "0");
    bed.finds("replies", "warning", &["forwarding is off"]);
}
