//! Backends that are found in network namespaces and processes.

use super::bed::{
    BY_HAND, Sleeper, arrives, attached, connect, only_row, origins, remembered, restart, rows,
};
use crate::fixture::lan::mac;
use crate::fixture::{Ns, Run, command};
use libbpf_rs::{MapCore, MapFlags};
use serde_json::{Value, json};

#[test]
fn a_namespace_by_name_tells_all_and_is_followed_when_it_is_made_again() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let tool = lan.tool();
    let added = tool.ok(&format!("rule add --server-netns {}", server.name));
    let old_mac = mac(&server, "eth0");
    let old_index = lan.host.ifindex("wan");
    for said in [
        "-> 172.17.0.2 ".to_string(),
        "server 172.17.0.2: the address of eth0".to_string(),
        format!("mac {old_mac}: the MAC address of eth0"),
        format!("dev wan (ifindex {old_index})"),
    ] {
        assert!(added.out.contains(&said), "{said}: {added:?}");
    }
    arrives(&lan, &server, "before");
    let row = only_row(&tool);
    assert_eq!(row["origin"], format!("netns {}", server.name));
    assert_eq!(row["state"], "up");
    assert_eq!(tool.ok("rule refresh").out, "nothing to refresh\n");

    restart(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    assert_eq!(only_row(&tool)["state"], "device_gone");
    let (new_mac, new_index) = (mac(&server, "eth0"), lan.host.ifindex("wan"));
    assert_ne!((&old_mac, old_index), (&new_mac, new_index));
    let out = tool.ok("rule refresh").out;
    assert_eq!(out.lines().count(), 1, "{out}");
    assert!(
        out.starts_with("refreshed src 0.0.0.0/0 udp port 7999 -> 172.17.0.2: "),
        "{out}"
    );
    for said in [
        format!("mac {old_mac} -> {new_mac}"),
        format!("ifindex {old_index} (gone) -> {new_index} (wan)"),
    ] {
        assert!(out.contains(&said), "{said}: {out}");
    }
    arrives(&lan, &server, "after");
    let row = only_row(&tool);
    assert_eq!(
        (&row["state"], &row["forward_packages"]),
        (&json!("up"), &json!(2))
    );
    assert_eq!(row["origin"], format!("netns {}", server.name));
    assert_eq!(tool.ok("rule refresh").out, "nothing to refresh\n");
}

#[test]
fn a_namespace_by_path_is_remembered_from_anywhere() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let tool = lan.tool();
    let mut add = tool.command(&format!("rule add --server-netns ./{}", server.name));
    let run: Run = add.current_dir("/run/netns").output().unwrap().into();
    run.ok();
    let origin = format!("netns {}", server.path().display());
    assert_eq!(only_row(&tool)["origin"], origin);
    assert_eq!(tool.ok("rule refresh").out, "nothing to refresh\n");
}

#[test]
fn a_process_is_followed_to_a_new_device_and_a_new_address() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let sleeper = Sleeper::new(&server);
    let tool = lan.tool();
    let row = tool.json(&format!("rule add --pid {}", sleeper.pid()));
    assert_eq!(row["server"], "172.17.0.2");
    assert_eq!(row["mac"], mac(&server, "eth0"));
    let origin = format!("pid {} started ", sleeper.pid());
    assert!(
        row["origin"].as_str().unwrap().starts_with(&origin),
        "{row}"
    );
    arrives(&lan, &server, "before");

    lan.host.ip("link del wan");
    connect(&lan.host, "wan9", &server, &["172.17.0.9/16"]);
    let refreshed = tool.json("rule refresh");
    assert_eq!(refreshed["failed"], json!([]));
    let [one] = refreshed["refreshed"].as_array().unwrap().as_slice() else {
        panic!("one is refreshed: {refreshed}");
    };
    assert_eq!(
        (&one["src"], &one["port"]),
        (&json!("0.0.0.0/0"), &json!(7999))
    );
    assert_eq!(one["old"]["server"], "172.17.0.2");
    assert_eq!(
        (&one["new"]["server"], &one["new"]["ifname"]),
        (&json!("172.17.0.9"), &json!("wan9"))
    );
    arrives(&lan, &server, "after");
    let row = only_row(&tool);
    assert_eq!(
        (&row["server"], &row["forward_packages"]),
        (&json!("172.17.0.9"), &json!(2))
    );

    drop(sleeper);
    let run = tool.run("rule refresh");
    run.fails(1, &["172.17.0.9", "no such process"]);
    assert_eq!(only_row(&tool), row);
}

#[test]
fn another_process_with_the_number_of_an_earlier_one_is_not_followed() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let sleeper = Sleeper::new(&server);
    let (tool, pid) = (lan.tool(), sleeper.pid());
    let mut row = tool.json(&format!("rule add --pid {pid}"));
    row["origin"] = json!(format!("pid {pid} started 1"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), row.to_string()).unwrap();
    tool.ok(&format!("rule load {}", file.path().display()));
    tool.run("rule refresh")
        .fails(1, &[&format!("pid {pid}"), "another process"]);
}

#[test]
fn what_nobody_has_any_more_makes_room_to_remember() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let tool = lan.tool();
    tool.ok("rule add --dev wan --port 1");
    let map = origins(&lan);
    // As runs that were killed half-way leave them.
    for counter in 1_000_000u32.. {
        let key = counter.to_ne_bytes();
        if map.update(&key, &[b'x'; 128], MapFlags::ANY).is_err() {
            break;
        }
    }
    assert_eq!(map.keys().count(), map.max_entries() as usize);
    tool.ok("rule add --dev wan --port 2");
    assert_eq!(remembered(&lan), 2);
}

#[test]
fn several_addresses_are_named_and_one_of_them_can_be_chosen() {
    let (lan, server) = (attached(), Ns::dual_stack("server"));
    connect(
        &lan.host,
        "wan",
        &server,
        &["172.17.0.2/16", "172.17.0.3/16", "fd00:17::2/64"],
    );
    server.ip("addr add 172.31.0.4/16 dev eth0 scope link");
    lan.host.veth("other", &server, "eth1");
    server.ip("addr add 10.9.0.2/24 dev eth1");
    let tool = lan.tool();
    let add = format!("rule add --server-netns {}", server.name);
    let several = tool.run(&add);
    assert!(!several.err.contains("172.31.0.4"), "{several:?}");
    several.fails(
        2,
        &[
            "172.17.0.2 (eth0)",
            "172.17.0.3 (eth0)",
            "10.9.0.2 (eth1)",
            "--server",
        ],
    );
    tool.run(&format!("{add} --server 172.17.0.77"))
        .fails(3, &["172.17.0.77", "172.17.0.2 (eth0)", "10.9.0.2 (eth1)"]);
    assert_eq!((rows(&tool).len(), remembered(&lan)), (0, 0));

    let row = tool.json(&format!("{add} --server 10.9.0.2"));
    assert_eq!(
        (&row["mac"], &row["ifname"]),
        (&json!(mac(&server, "eth1")), &json!("other"))
    );
    // The rule's own family tells, too.
    let row = tool.json(&format!("{add} --src fd00::/16"));
    assert_eq!(
        (&row["server"], &row["ifname"]),
        (&json!("fd00:17::2"), &json!("wan"))
    );
    assert_eq!(tool.ok("rule refresh").out, "nothing to refresh\n");
    for gone in ["172.17.0.3/16", "172.31.0.4/16"] {
        server.ip(&format!("addr del {gone} dev eth0"));
    }
    server.ip("link del eth1");
    // One address of either family: IPv4 it is.
    assert_eq!(
        tool.json(&format!("{add} --port 1"))["server"],
        "172.17.0.2"
    );
}

#[test]
fn an_origin_lives_as_long_as_what_it_tells_of() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    lan.host.ip("addr add 172.17.0.1/16 dev wan");
    let tool = lan.tool();
    let origin = || only_row(&tool)["origin"].clone();
    let netns = json!(format!("netns {}", server.name));
    let add_netns = format!("rule add --server-netns {}", server.name);
    tool.ok(&add_netns);
    tool.ok("rule add --server 172.17.0.2 --weight 9");
    assert_eq!(origin(), netns);
    tool.ok("rule add --server 172.17.0.2");
    assert_eq!(origin(), netns);
    tool.ok(&format!("rule add --server 172.17.0.2 --mac {BY_HAND}"));
    assert_eq!((origin(), remembered(&lan)), (Value::Null, 0));
    assert_eq!(tool.ok("rule refresh").out, "nothing to refresh\n");
    assert_eq!(only_row(&tool)["mac"], BY_HAND);
    tool.ok("rule add --server 172.17.0.2");
    assert_eq!(origin(), "route");
    tool.ok(&add_netns);
    assert_eq!(origin(), netns);

    // What was listed can be loaded again.
    let listed = only_row(&tool);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), listed.to_string()).unwrap();
    let load = format!("rule load {}", file.path().display());
    tool.ok("rule del --all");
    tool.ok(&load);
    assert_eq!(only_row(&tool), listed);
    let mut by_hand = listed.clone();
    by_hand["origin"] = Value::Null;
    std::fs::write(file.path(), by_hand.to_string()).unwrap();
    tool.ok(&load);
    assert_eq!(origin(), Value::Null);
    for bad in [
        "vm web",
        "container a\nb",
        &format!("netns {}", "x".repeat(130)),
    ] {
        let mut line = listed.clone();
        line["origin"] = json!(bad);
        std::fs::write(file.path(), line.to_string()).unwrap();
        tool.run(&load).fails(2, &["origin"]);
    }

    // With one backend of several, and with a rule.
    tool.ok(&add_netns);
    tool.ok(&format!(
        "rule add --server 172.17.0.9 --mac {BY_HAND} --dev wan"
    ));
    tool.ok("rule del --server 172.17.0.2");
    assert_eq!(origin(), Value::Null);
    tool.ok(&add_netns);
    let rows = tool.json("rule list");
    assert_eq!(
        (&rows[0]["origin"], &rows[1]["origin"]),
        (&netns, &Value::Null)
    );
}

#[test]
fn a_pipe_is_no_namespace() {
    let lan = attached();
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe").display().to_string();
    command("mkfifo", &[&pipe]);
    let tool = lan.tool();
    let words = format!("rule add --server-netns {pipe}");
    tool.run(&words).fails(2, &["not a network namespace"]);
}
