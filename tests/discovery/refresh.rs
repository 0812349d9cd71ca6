//! `rule refresh` finds backends again.

use std::process::Stdio;

use super::bed::{BY_HAND, Sleeper, attached, connect, only_row, remembered, restart, rows};
use crate::fixture::lan::mac;
use crate::fixture::{Ns, command, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

#[test]
fn refresh_leaves_what_it_cannot_find_and_refreshes_the_others() {
    let lan = attached();
    let servers = [Ns::new("one"), Ns::new("two")];
    let addresses = ["172.17.0.2/16", "172.17.0.3/16"];
    for (number, server) in servers.iter().enumerate() {
        connect(
            &lan.host,
            &format!("wan{number}"),
            server,
            &[addresses[number]],
        );
    }
    let tool = lan.tool();
    for server in &servers {
        tool.ok(&format!("rule add --server-netns {}", server.name));
    }
    tool.ok(&format!(
        "rule add --server-netns {} --port 1",
        servers[1].name
    ));
    tool.ok(&format!(
        "rule add --server 172.17.0.9 --mac {BY_HAND} --dev lan"
    ));
    let before = rows(&tool);
    assert_eq!((before.len(), remembered(&lan)), (4, 3));

    command("ip", &["netns", "del", &servers[0].name]);
    restart(&lan.host, "wan1", &servers[1], &[addresses[1]]);
    tool.run("rule refresh --port 2").fails(3, &["rule list"]);
    tool.run("rule refresh --server 172.17.0.8")
        .fails(3, &["rule list"]);
    assert_eq!(
        tool.ok("rule refresh --server 172.17.0.9").out,
        "nothing to refresh\n"
    );
    let port_1 = tool.json("rule refresh --port 1 --proto udp --src 0.0.0.0/0");
    assert_eq!(port_1["refreshed"].as_array().unwrap().len(), 1);

    let run = tool.run("rule refresh");
    assert_eq!(run.out.lines().count(), 1, "{run:?}");
    assert!(run.out.contains("-> 172.17.0.3: mac"), "{run:?}");
    run.fails(
        1,
        &[
            "172.17.0.2 stays as it is",
            &servers[0].name,
            "no such network namespace",
        ],
    );
    let json = tool.run("rule refresh --json");
    assert_eq!(json.code, 1);
    let json = json.json();
    assert_eq!(json["refreshed"], json!([]));
    assert_eq!(json["failed"][0]["server"], "172.17.0.2");

    let of = |rows: &[Value], server: &str| -> Value {
        let has = |row: &&Value| row["server"] == server && row["port"] == 7999;
        let mut row = rows.iter().find(has).expect("it is there").clone();
        row["state"] = Value::Null;
        row["ifname"] = Value::Null;
        row
    };
    let after = rows(&tool);
    for kept in ["172.17.0.2", "172.17.0.9"] {
        assert_eq!(of(&before, kept), of(&after, kept));
    }
    assert_eq!(of(&after, "172.17.0.3")["mac"], mac(&servers[1], "eth0"));
    command("ip", &["netns", "add", &servers[0].name]);
}

#[test]
fn addresses_that_two_backends_have_swapped_are_swapped_and_one_that_is_taken_is_refused() {
    let lan = attached();
    let servers = [Ns::new("one"), Ns::new("two")];
    connect(&lan.host, "wan0", &servers[0], &["172.17.0.2/16"]);
    connect(&lan.host, "wan1", &servers[1], &["172.17.0.3/16"]);
    let sleepers = [Sleeper::new(&servers[0]), Sleeper::new(&servers[1])];
    let tool = lan.tool();
    for sleeper in &sleepers {
        tool.ok(&format!("rule add --pid {} --weight {}", sleeper.pid(), 5));
    }
    let origins = || -> Vec<Value> {
        rows(&tool)
            .iter()
            .map(|row| row["origin"].clone())
            .collect()
    };
    let before = origins();
    servers[0].ip("addr flush dev eth0");
    servers[0].ip("addr add 172.17.0.3/16 dev eth0");
    let run = tool.run("rule refresh");
    run.fails(
        1,
        &[
            "172.17.0.2 stays as it is",
            "172.17.0.3 is another backend's",
        ],
    );
    assert_eq!(origins(), before);

    servers[1].ip("addr flush dev eth0");
    servers[1].ip("addr add 172.17.0.2/16 dev eth0");
    assert_eq!(tool.ok("rule refresh").out.lines().count(), 2);
    assert_eq!(origins(), [before[1].clone(), before[0].clone()]);
    assert_eq!(rows(&tool)[0]["mac"], mac(&servers[1], "eth0"));
}

#[test]
fn a_change_of_the_egress_device_is_refreshed_too() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let tool = lan.tool();
    tool.ok("rule add --dev wan");
    lan.host.ip("link set wan address 02:00:00:00:00:42");
    lan.host.exec("ethtool -K wan tx off");
    let out = tool.ok("rule refresh").out;
    assert!(
        out.contains("source mac ") && out.contains("-> 02:00:00:00:00:42"),
        "{out}"
    );
    assert!(out.contains("completes checksums yes -> no"), "{out}");
    assert_eq!(tool.ok("rule refresh").out, "nothing to refresh\n");
}

/// The adjacency that one run has found is not undone by another that was given a weight alone.
#[test]
fn a_new_weight_keeps_the_way_that_is_found_meanwhile() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let tool = lan.tool();
    tool.ok("rule add --dev wan");
    for round in 1..=20 {
        let mac = format!("02:00:00:00:01:{round:02x}");
        server.ip(&format!("link set eth0 address {mac}"));
        let mut add = tool.command(&format!("rule add --server 172.17.0.2 --weight {round}"));
        let silent = add.stdout(Stdio::null()).stderr(Stdio::null());
        let mut add = silent.spawn().unwrap();
        tool.ok("rule refresh");
        assert!(add.wait().unwrap().success());
        let row = only_row(&tool);
        assert_eq!((&row["mac"], &row["weight"]), (&json!(mac), &json!(round)));
    }
}

/// A backend that a run resolves while others detach and attach goes where packets find it.
#[test]
fn a_backend_is_added_to_the_rules_that_are_attached_when_it_is_found() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    lan.host.ip("addr add 172.17.1.1/16 dev wan");
    let tool = lan.tool();
    tool.ok(&format!(
        "rule add --server 172.17.0.9 --mac {BY_HAND} --dev wan"
    ));
    let mut add = tool.command("rule add --server 172.17.0.9");
    let silent = add.stdout(Stdio::null()).stderr(Stdio::null());
    let mut add = silent.spawn().unwrap();
    let pid = Pid::from_raw(add.id().try_into().unwrap());
    eventually("the server is asked", || {
        lan.host.ip("neigh show dev wan").contains("172.17.0.9")
    });
    kill(pid, Signal::SIGSTOP).unwrap();
    tool.ok("detach lan");
    tool.ok("attach lan --mode skb");
    assert_eq!(rows(&tool).len(), 0);
    kill(pid, Signal::SIGCONT).unwrap();
    assert!(add.wait().unwrap().success());
    assert_eq!(only_row(&tool)["mac"], BY_HAND);
}
