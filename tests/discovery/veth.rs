//! Backends that are found behind a device.

use super::bed::{arrives, attached, connect, restart};
use crate::fixture::Ns;
use crate::fixture::lan::mac;
use serde_json::json;

#[test]
fn a_veth_tells_all_about_what_is_behind_it() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let tool = lan.tool();
    // No route leads there, and no neighbour is known.
    let row = tool.json("rule add --dev wan");
    assert_eq!(
        (&row["server"], &row["mac"]),
        (&json!("172.17.0.2"), &json!(mac(&server, "eth0")))
    );
    assert_eq!(row["origin"], "device wan");
    assert_eq!(
        tool.json("rule add --dev wan --server 172.17.0.2 --port 1")["mac"],
        row["mac"]
    );
    arrives(&lan, &server, "before");

    restart(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    assert_eq!(tool.ok("rule refresh").out.lines().count(), 2);
    arrives(&lan, &server, "after");

    lan.host.ip("link add here type veth peer name too");
    for device in ["here", "lo"] {
        tool.run(&format!("rule add --dev {device}"))
            .fails(2, &[&format!("--dev {device}"), "--server"]);
    }
}

#[test]
fn a_veth_is_followed_to_its_peers_new_address() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let tool = lan.tool();
    tool.ok("rule add --dev wan");
    server.ip("addr flush dev eth0");
    tool.run("rule refresh").fails(1, &["172.17.0.2 stays"]);
    server.ip("addr add 172.17.0.9/16 dev eth0");
    let refreshed = tool.ok("rule refresh").out;
    assert!(
        refreshed.contains("172.17.0.2 -> 172.17.0.9"),
        "{refreshed}"
    );
    arrives(&lan, &server, "after");
    // One that has its address, beside others, keeps it.
    server.ip("addr add 172.17.0.10/16 dev eth0");
    assert_eq!(tool.ok("rule refresh").out, "nothing to refresh\n");
}

#[test]
fn behind_a_bridge_the_port_itself_is_the_device() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    lan.host.ip("link add docker0 type bridge");
    lan.host.ip("link set wan master docker0");
    lan.host.ip("link set docker0 up");
    let tool = lan.tool();
    let row = tool.json(&format!("rule add --server-netns {}", server.name));
    assert_eq!(
        (&row["ifname"], &row["state"]),
        (&json!("wan"), &json!("up"))
    );
    arrives(&lan, &server, "hello");
}

/// The neighbour table still has the old address, confirmed a moment ago.
#[test]
fn a_neighbour_that_has_restarted_behind_a_bridge_is_asked_again() {
    let (lan, server) = (attached(), Ns::new("server"));
    lan.host.ip("link add docker0 type bridge");
    lan.host.ip("link set docker0 up");
    lan.host.ip("addr add 172.17.0.1/16 dev docker0");
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    lan.host.ip("link set wan master docker0");
    let tool = lan.tool();
    let row = tool.json("rule add --server 172.17.0.2");
    assert_eq!(
        (&row["origin"], &row["ifname"]),
        (&json!("route"), &json!("wan"))
    );
    arrives(&lan, &server, "before");

    restart(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    lan.host.ip("link set wan master docker0");
    let old = row["mac"].as_str().unwrap();
    lan.host.ip(&format!(
        "neigh replace 172.17.0.2 lladdr {old} nud reachable dev docker0"
    ));
    let out = tool.ok("rule refresh").out;
    assert!(
        out.contains(&format!("mac {old} -> {}", mac(&server, "eth0"))),
        "{out}"
    );
    arrives(&lan, &server, "after");
}
