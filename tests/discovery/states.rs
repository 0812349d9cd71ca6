//! The state of a backend in `rule list`.

use super::bed::{BY_HAND, arrives, attached, connect, only_row};
use crate::fixture::Ns;

/// Another device comes with the index of the old one: nothing of the backend is another, but the
/// kernel has forgotten the device.
#[test]
fn a_device_that_came_back_with_its_index_is_taken_into_service_again() {
    let (lan, server) = (attached(), Ns::new("server"));
    let make = || {
        let there = &server.name;
        lan.host.ip(&format!(
            "link add wan index 777 address 02:00:00:00:07:77 type veth peer name eth0 address 02:00:00:00:00:77 netns {there}"
        ));
        lan.host.ip("link set wan up");
        server.ip("link set eth0 up");
        server.ip("addr add 172.17.0.2/16 dev eth0");
    };
    make();
    let tool = lan.tool();
    tool.ok("rule add --dev wan");
    lan.host.ip("link del wan");
    make();
    assert_eq!(only_row(&tool)["state"], "device_gone");
    let out = tool.ok("rule refresh").out;
    assert!(
        out.contains("ifindex 777 (wan) is another device now"),
        "{out}"
    );
    arrives(&lan, &server, "hello");
}

#[test]
fn rule_list_shows_the_states_and_only_where_not_all_are_up() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    lan.host.ip("addr add 172.17.0.1/16 dev wan");
    let tool = lan.tool();
    tool.ok("rule add --server 172.17.0.2");
    let state = || only_row(&tool)["state"].clone();
    let heading = || tool.ok("rule list").out.lines().next().unwrap().to_string();
    let shown = |text: &str| {
        let list = tool.ok("rule list").out;
        assert!(list.contains(text) && heading().contains("state"), "{list}");
    };
    assert_eq!(state(), "up");
    assert!(!heading().contains("state"));
    assert_eq!(tool.json("stats")["rules"][0]["state"], "up");

    server.ip("link set eth0 address 02:00:00:00:00:66");
    assert_eq!(state(), "stale_mac");
    shown("stale MAC");
    tool.ok("rule refresh");
    assert_eq!(state(), "up");

    lan.host.ip("addr del 172.17.0.1/16 dev wan");
    assert_eq!(state(), "no_route");
    shown("no route");
    server.ip("link set eth0 down");
    assert_eq!(state(), "link_down");
    shown("link down");
    lan.host.ip("link del wan");
    assert_eq!(state(), "device_gone");
    shown("device gone");
}

/// Behind a bridge in the other namespace, or a macvlan there, only the neighbour table tells.
#[test]
fn a_mac_that_is_not_the_peers_own_is_stale_unless_the_peer_takes_frames_for_others() {
    let (lan, server) = (attached(), Ns::new("server"));
    lan.host.veth("wan", &server, "eth0");
    server.ip("link add br0 address 02:00:00:00:00:55 type bridge");
    server.ip("link set eth0 master br0");
    server.ip("link set br0 up");
    server.ip("addr add 172.17.0.2/16 dev br0");
    lan.host.ip("addr add 172.17.0.1/16 dev wan");
    let tool = lan.tool();
    tool.ok(&format!(
        "rule add --server 172.17.0.2 --mac {BY_HAND} --dev wan"
    ));
    let state = || only_row(&tool)["state"].clone();
    assert_eq!(state(), "up");
    lan.host
        .ip("neigh replace 172.17.0.2 lladdr 02:00:00:00:00:54 dev wan");
    assert_eq!(state(), "stale_mac");
    lan.host.ip(&format!(
        "neigh replace 172.17.0.2 lladdr {BY_HAND} dev wan"
    ));
    assert_eq!(state(), "up");
    // From now on the peer takes what is for itself alone.
    server.ip("link set eth0 nomaster");
    assert_eq!(state(), "stale_mac");
    server.ip("link add link eth0 name own0 address 02:00:00:00:00:01 type macvlan");
    server.ip("link set own0 up");
    assert_eq!(state(), "up");
}

#[test]
fn a_gateway_with_another_mac_makes_the_servers_behind_it_stale() {
    let (lan, gateway) = (attached(), Ns::new("gateway"));
    connect(&lan.host, "wan", &gateway, &["172.17.0.2/16"]);
    gateway.ip("link add br0 address 02:00:00:00:00:55 type bridge");
    gateway.ip("link set br0 up");
    gateway.ip("addr flush dev eth0");
    gateway.ip("link set eth0 master br0");
    gateway.ip("addr add 172.17.0.2/16 dev br0");
    lan.host.ip("addr add 172.17.0.1/16 dev wan");
    lan.host.ip("route add 10.99.0.0/24 via 172.17.0.2");
    let tool = lan.tool();
    tool.ok("rule add --server 10.99.0.5");
    assert_eq!(only_row(&tool)["state"], "up");
    lan.host
        .ip("neigh replace 172.17.0.2 lladdr 02:00:00:00:00:54 dev wan");
    assert_eq!(only_row(&tool)["state"], "stale_mac");
}
