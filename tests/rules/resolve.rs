//! A backend of which only the server is given: the host is asked for the rest.

use super::bed::Bed;
use crate::fixture::lan::{ANYWHERE, Lan, mac, receive};
use serde_json::json;

#[test]
fn mac_and_device_are_found_by_route_and_neighbour() {
    let lan = Lan::new(false, 1);
    let tool = lan.tool();
    tool.ok("attach lan");
    tool.run("rule add --server 172.17.0.2")
        .fails(3, &["172.17.0.2", "no route"]);
    lan.host.ip("addr add 172.17.0.1/16 dev wan0");
    tool.run("rule add --server 172.17.0.1")
        .fails(2, &["172.17.0.1", "of this host"]);
    tool.run("rule add --server 172.17.0.99")
        .fails(3, &["172.17.0.99", "neighbour", "--mac"]);
    // The host has not heard of the server before, and asks for it.
    let mac = mac(&lan.servers[0], "eth0");
    let out = tool.ok("rule add --server 172.17.0.2").out;
    assert!(
        out.contains(&format!("mac {mac}: the neighbour table")),
        "{out}"
    );
    assert!(
        out.contains("dev wan0") && out.contains("the route to 172.17.0.2"),
        "{out}"
    );
    let row = &tool.json("rule list")[0];
    assert_eq!((&row["mac"], &row["ifname"]), (&json!(mac), &json!("wan0")));

    let (server, vm) = (lan.server_socket(0), lan.vm_socket());
    vm.send_to(b"hello", ANYWHERE).unwrap();
    assert_eq!(receive(&server).0, "hello");
}

/// A container that restarts comes back with another MAC address.
#[test]
fn the_server_alone_finds_a_new_mac_and_a_weight_alone_keeps_the_old() {
    let lan = Lan::new(false, 1);
    let tool = lan.tool();
    tool.ok("attach lan");
    lan.host.ip("addr add 172.17.0.1/16 dev wan0");
    tool.ok("rule add --server 172.17.0.2");
    let old = tool.json("rule list")[0]["mac"].clone();
    lan.servers[0].ip("link set eth0 address 02:00:00:00:00:77");
    lan.host.ip("neigh flush dev wan0");

    tool.ok("rule add --server 172.17.0.2 --weight 5");
    let row = tool.json("rule list")[0].clone();
    assert_eq!((&row["mac"], &row["weight"]), (&old, &json!(5)));
    tool.ok("rule add --server 172.17.0.2");
    let row = tool.json("rule list")[0].clone();
    assert_eq!(
        (&row["mac"], &row["weight"]),
        (&json!("02:00:00:00:00:77"), &json!(5))
    );
    // Nobody answers any more: what was known stays.
    lan.host.ip("addr del 172.17.0.1/16 dev wan0");
    tool.ok("rule add --server 172.17.0.2");
    let mut stays = row;
    stays["state"] = json!("no_route");
    assert_eq!(tool.json("rule list")[0], stays);
}

#[test]
fn behind_a_gateway_the_gateways_mac_is_found() {
    let bed = Bed::new();
    bed.ns.ip("addr add 10.5.0.1/24 dev out0");
    bed.ns.ip("route add 10.6.0.0/16 via 10.5.0.254");
    bed.tool()
        .run("rule add --server 10.6.0.1")
        .fails(3, &["10.6.0.1", "10.5.0.254"]);
    bed.ns
        .ip("neigh replace 10.5.0.254 lladdr 02:00:00:00:00:fe dev out0");
    let row = bed.tool().json("rule add --server 10.6.0.1");
    assert_eq!(
        (&row["mac"], &row["ifname"]),
        (&json!("02:00:00:00:00:fe"), &json!("out0"))
    );
}

#[test]
fn behind_a_bridge_the_port_is_found_that_has_seen_the_mac() {
    let lan = Lan::new(false, 2);
    let tool = lan.tool();
    tool.ok("attach lan");
    lan.host.ip("link add docker0 type bridge");
    for port in ["wan0", "wan1"] {
        lan.host.ip(&format!("link set {port} master docker0"));
    }
    lan.host.ip("link set docker0 up");
    lan.host.ip("addr add 172.17.0.1/16 dev docker0");
    let mac = mac(&lan.servers[1], "eth0");
    lan.servers[1].ip("link set eth0 down");
    lan.host.ip("link set wan1 nomaster");
    lan.host
        .ip(&format!("neigh add 172.17.0.3 lladdr {mac} dev docker0"));
    tool.run("rule add --server 172.17.0.3")
        .fails(3, &["docker0", &mac, "--dev"]);

    // The server's answer shows the bridge where it is.
    lan.servers[1].ip("link set eth0 up");
    lan.host.ip("link set wan1 master docker0");
    lan.host.ip(&format!(
        "neigh replace 172.17.0.3 lladdr {mac} dev docker0"
    ));
    let server = lan.server_socket(1);
    let out = tool.ok("rule add --server 172.17.0.3").out;
    assert!(
        out.contains("dev wan1") && out.contains("bridge docker0 has seen"),
        "{out}"
    );
    lan.vm_socket().send_to(b"hello", ANYWHERE).unwrap();
    assert_eq!(receive(&server).0, "hello");
}

#[test]
fn a_native_redirect_into_a_veth_that_drops_it_is_warned_of() {
    let lan = Lan::new(false, 1);
    lan.servers[0].exec("ethtool -K eth0 gro off");
    lan.servers[0].ip("route add default dev eth0");
    lan.tool().ok("attach lan --mode native");
    let mac = mac(&lan.servers[0], "eth0");
    let add = format!("rule add --server 172.17.0.2 --mac {mac} --dev wan0");
    let warned = lan.tool().ok(&add);
    assert_eq!(warned.err.lines().count(), 1, "{warned:?}");
    assert!(
        warned.err.contains("wan0") && warned.err.contains("gro on"),
        "{warned:?}"
    );
    lan.servers[0].exec("ethtool -K eth0 gro on");
    assert_eq!(lan.tool().ok(&add).err, "");
}
