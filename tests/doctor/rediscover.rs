//! Backends whose server is elsewhere now are found again.

use super::bed::{Bed, CLIENT, OTHER_MAC, SERVER, assert_finding, speak};
use crate::fixture::Ns;
use crate::fixture::lan::mac;

#[test]
fn a_backend_follows_a_restarted_container_to_its_new_device_and_back() {
    for mode in ["native", "skb"] {
        let mut bed = Bed::new(mode);
        assert!(bed.arrives());
        let before = bed.backend();
        bed.restart_server("wan0");
        bed.host().ip("addr add 172.17.0.1/16 dev wan0");
        bed.server().exec("ethtool -K eth0 gro on");
        assert!(!bed.arrives());

        let gone = format!("ifindex {}, is gone", before["ifindex"]);
        let finding = bed.finds("device", "problem", &[&gone]);
        assert_eq!(finding["fixable"], true);
        bed.fix();
        assert!(bed.arrives());
        let after = bed.backend();
        assert_eq!(after["ifname"], "wan0");
        assert_eq!(after["forward_packages"], 2);

        bed.tool().ok("doctor --undo");
        let back = bed.backend();
        assert_eq!(back["ifindex"], before["ifindex"]);
        assert_eq!(back["mac"], before["mac"]);
        bed.finds("device", "problem", &[&gone]);
    }
}

#[test]
fn a_backend_follows_a_restarted_container_behind_its_bridge() {
    let mut bed = Bed::bare();
    let host = bed.host();
    host.ip("addr flush dev wan0");
    // With an address of its own, as Docker's has: one that changes with its ports clears its neighbours.
    host.ip("link add docker0 address 02:42:00:00:00:01 type bridge");
    let other = Ns::new("other");
    host.veth("wan9", &other, "eth0");
    host.ip("link set wan9 master docker0");
    host.ip("link set docker0 up");
    host.ip("addr add 172.17.0.1/16 dev docker0");
    host.ip("link set wan0 master docker0");
    bed.tool().ok("attach lan --mode skb");
    bed.tool()
        .ok(&format!("rule add --src {CLIENT} --server {SERVER}"));
    assert!(bed.arrives());
    let before = bed.backend();

    // The neighbour table still has the MAC address that the server had before.
    bed.restart_server("wan1");
    bed.host().ip("link set wan1 master docker0");
    assert!(!bed.arrives());
    bed.finds("device", "problem", &["is gone"]);
    bed.fix();
    assert!(bed.arrives());
    assert_eq!(bed.backend()["ifname"], "wan1");
    bed.tool().ok("doctor --undo");
    assert_eq!(bed.backend()["mac"], before["mac"]);
}

#[test]
fn a_backend_follows_its_namespace_to_a_new_address_and_back() {
    let restarted = |bed: &Bed| {
        bed.host().ip("link del wan0");
        bed.host().veth("wan7", bed.server(), "eth0");
        bed.host().ip("addr add 172.17.0.1/16 dev wan7");
        bed.readdress_server("172.17.0.7");
    };
    for check in ["address", "device"] {
        let bed = Bed::bare();
        bed.tool().ok("attach lan --mode skb");
        let netns = &bed.server().name;
        let port = |port| format!("rule add --src {CLIENT} --server-netns {netns} --port {port}");
        bed.tool().ok(&port(7999));
        bed.tool().ok(&port(1));
        assert!(bed.arrives());
        let before = bed.backend();
        if check == "address" {
            bed.readdress_server("172.17.0.7");
        } else {
            restarted(&bed);
        }
        assert!(!bed.arrives());
        assert_eq!(bed.finds(check, "problem", &[])["fixable"], true);

        let said = bed.fix();
        assert!(said.contains("server 172.17.0.2 -> 172.17.0.7"), "{said}");
        assert!(said.contains("in 2 rules"), "{said}");
        assert!(bed.arrives());
        bed.finds_nothing();
        assert_eq!(bed.backend()["server"], "172.17.0.7");

        let said = bed.tool().ok("doctor --undo").out;
        assert!(said.contains("server 172.17.0.7 -> 172.17.0.2"), "{said}");
        let back = bed.backend();
        for key in ["server", "mac", "ifindex", "origin"] {
            assert_eq!(back[key], before[key]);
        }
    }
}

#[test]
fn a_backend_found_at_a_veth_follows_it_to_a_new_address() {
    let bed = Bed::bare();
    bed.tool().ok("attach lan --mode skb");
    bed.tool()
        .ok(&format!("rule add --src {CLIENT} --dev wan0"));
    bed.readdress_server("172.17.0.7");
    assert!(!bed.arrives());
    assert_eq!(bed.finds("address", "problem", &[])["fixable"], true);
    bed.fix();
    assert!(bed.arrives());
}

#[test]
fn an_address_that_another_backend_has_now_is_not_put_back() {
    let bed = Bed::bare();
    bed.tool().ok("attach lan --mode skb");
    let netns = format!("rule add --server-netns {}", bed.server().name);
    bed.tool().ok(&netns);
    bed.readdress_server("172.17.0.7");
    bed.fix();
    bed.tool().ok(&format!(
        "rule add --server {SERVER} --mac {OTHER_MAC} --dev lan"
    ));
    let before = bed.tool().json("rule list");
    assert_eq!(bed.tool().ok("doctor --undo").out, "nothing to undo\n");
    assert_eq!(bed.tool().json("rule list"), before);
}

#[test]
fn a_server_that_nobody_finds_is_left_as_it_is_and_said() {
    let bed = Bed::new("skb");
    bed.host().ip("link del wan0");
    let run = bed.tool().run("doctor --fix --yes");
    assert_eq!(run.code, 7, "{run:?}");
    assert!(run.err.contains("no route"), "{run:?}");
    assert!(run.out.contains("is gone"), "{run:?}");
    // What has just failed is not offered again.
    assert!(run.out.ends_with("\n1 problem\n"), "{run:?}");
    let run = bed.tool().run("doctor --fix --yes --json");
    assert_eq!(run.json()[0]["fixable"], false);
}

#[test]
fn a_backend_behind_another_port_of_its_bridge_moves_there() {
    let bed = Bed::bare();
    let (host, server) = (bed.host(), bed.server());
    host.ip("addr flush dev wan0");
    host.ip("link add docker0 type bridge");
    host.ip("link set docker0 up");
    host.ip("addr add 172.17.0.1/16 dev docker0");
    host.ip("link set wan0 master docker0");
    let other = Ns::new("other");
    host.veth("wan1", &other, "eth0");
    host.ip("link set wan1 master docker0");
    let mac = mac(server, "eth0");
    bed.tool().ok("attach lan --mode skb");
    bed.tool().ok(&format!(
        "rule add --src {CLIENT} --server {SERVER} --mac {mac} --dev wan1"
    ));
    assert!(!bed.arrives());
    speak(server);
    let found = bed.findings();
    assert_finding(&found[0], "bridge-port", "problem", &[&mac, "wan0"]);
    bed.fix();
    assert_eq!(bed.backend()["ifname"], "wan0");
    assert!(bed.arrives());
    bed.tool().ok("doctor --undo");
    assert_eq!(bed.backend()["ifname"], "wan1");
}

#[test]
fn a_server_whose_route_is_gone_is_a_warning() {
    let bed = Bed::new("skb");
    bed.finds_nothing();
    bed.host().ip("addr del 172.17.0.1/16 dev wan0");
    assert_eq!(bed.backend()["state"], "no_route");
    let found = bed.findings();
    let of_route = found.iter().find(|finding| finding["check"] == "route");
    let finding = of_route.expect("the route is missed");
    assert_finding(finding, "route", "warning", &["route"]);
    assert!(bed.arrives());
}
