//! What `rule list` and `rule add` print.

use std::io::Read;

use super::bed::{Bed, MAC, servers};
use crate::fixture;
use serde_json::{Value, json};

fn no_failures() -> Value {
    json!({
        "not_supported": 0, "mtu": 0, "link_down": 0, "no_device": 0, "queue_full": 0, "other": 0, "errors": {},
    })
}

#[test]
fn a_rule_with_defaults_is_any_source_udp_7999_weight_1() {
    let bed = Bed::new();
    let added = bed.add("--server 10.1.1.1");
    assert!(added.out.starts_with("added "), "{added:?}");
    let row = json!({
        "src": "0.0.0.0/0", "proto": "udp", "port": 7999, "server": "10.1.1.1", "mac": MAC,
        "ifindex": bed.ns.ifindex("out0"), "ifname": "out0", "weight": 1,
        "forward_packages": 0, "forward_bytes": 0, "vlan": null, "to_port": null, "snat": null, "snat_auto": false, "keep_ip": false, "reply": "none",
        "decrement_ttl": true, "push_vlan": null, "pop_vlan": false, "delivered": 0, "failures": no_failures(),
        "state": "stale_mac", "origin": null, "dst": "0.0.0.0/0", "inner_vlan": null, "in": null,
        "in_ifindex": null, "action": "redirect", "too_long": "icmp", "pop_vlans": 0, "sticky": false, "announce": false,
        "hash": "flow", "marked_down": false,
    });
    assert_eq!(bed.tool().json("rule list"), json!([row]));
    assert_eq!(bed.tool().json("stats")["rules"], json!([row]));
    assert_eq!(bed.tool().json("status")["rules"], 1);
}

#[test]
fn every_part_of_a_rule_is_listed_as_it_was_given() {
    let bed = Bed::new();
    let index = bed.ns.ifindex("out0");
    let mut row = bed
        .tool()
        .json(&format!(
            "rule add --src 192.168.122.0/24 --proto tcp --port 65535 --server 10.1.1.1 --mac 2-0-0-0-0-AB --ifindex {index} --weight 65535"
        ));
    let expected = json!({
        "src": "192.168.122.0/24", "proto": "tcp", "port": 65535, "server": "10.1.1.1",
        "mac": "02:00:00:00:00:ab", "ifindex": index, "ifname": "out0", "weight": 65535,
        "forward_packages": 0, "forward_bytes": 0, "vlan": null, "to_port": null, "snat": null, "snat_auto": false, "keep_ip": false, "reply": "none",
        "decrement_ttl": true, "push_vlan": null, "pop_vlan": false, "delivered": 0, "failures": no_failures(),
        "state": "stale_mac", "origin": null, "dst": "0.0.0.0/0", "inner_vlan": null, "in": null,
        "in_ifindex": null, "action": "redirect", "too_long": "icmp", "pop_vlans": 0, "sticky": false, "announce": false,
        "hash": "flow", "marked_down": false,
    });
    let added = row.as_object_mut().unwrap();
    let warnings = added.remove("warnings");
    for done in ["answers", "attached", "detached"] {
        assert_eq!(added.remove(done), Some(json!([])));
    }
    assert_ne!(warnings, Some(json!([])));
    assert_eq!(row, expected);
    assert_eq!(bed.tool().json("rule list"), json!([expected]));
    let text = bed.tool().ok("rule list").out;
    for cell in [
        "192.168.122.0/24",
        "tcp",
        "65535",
        "10.1.1.1",
        "02:00:00:00:00:ab",
        "out0",
    ] {
        assert!(text.contains(cell), "{cell}: {text}");
    }
}

#[test]
fn a_source_without_a_length_is_one_host() {
    let bed = Bed::new();
    bed.add("--src 192.168.122.10 --server 10.1.1.1");
    assert_eq!(
        servers(&bed.tool()),
        ["192.168.122.10/32 udp 7999 10.1.1.1"]
    );
}

#[test]
fn no_rules_is_an_empty_list() {
    let bed = Bed::new();
    assert_eq!(bed.tool().json("rule list"), json!([]));
    assert_eq!(bed.tool().ok("rule list").out, "no rules\n");
}

#[test]
fn a_list_can_be_narrowed() {
    let bed = Bed::new();
    for words in [
        "--server 10.1.1.1",
        "--server 10.1.1.2",
        "--server 10.1.1.1 --port 53",
        "--server 10.1.1.1 --proto tcp --src 10.9.0.0/16",
        "--server 10.1.1.1 --vlan 5",
        "--server 2001:db8::1",
    ] {
        bed.add(words);
    }
    let tool = bed.tool();
    let cases = [
        ("", 6),
        ("--server 10.1.1.1", 4),
        ("--port 53", 1),
        ("--proto tcp", 1),
        ("--src 10.9.0.0/16", 1),
        ("--src 0.0.0.0/0 --proto udp", 4),
        ("--vlan 5", 1),
        ("--port 7999 --server 10.1.1.2", 1),
    ];
    for (words, count) in cases {
        let list = tool.json(&format!("rule list {words}"));
        let stats = tool.json(&format!("stats {words}"));
        assert_eq!(list.as_array().map(Vec::len), Some(count), "{words}");
        assert_eq!(stats["rules"], list, "{words}");
        assert_eq!(stats["interfaces"].as_array().map(Vec::len), Some(1));
    }
    for words in ["--port 54", "--server 10.1.1.3", "--port 53 --vlan 5"] {
        for verb in ["rule list", "rule list --json", "stats", "stats --watch"] {
            tool.run(&format!("{verb} {words}"))
                .fails(3, &["no such rule or backend", "rule list` shows"]);
        }
    }
    tool.ok("rule del --all");
    assert_eq!(tool.ok("rule list").out, "no rules\n");
}

/// A pager takes its time; others go on.
#[test]
fn a_list_that_nobody_reads_holds_up_nobody() {
    let bed = Bed::new();
    let lines: Vec<String> = (0..4000u32)
        .map(|number| {
            let src = std::net::Ipv4Addr::from(0x0a00_0000 + number);
            let index = bed.ns.ifindex("out0");
            json!({"src": format!("{src}/32"), "proto": "udp", "port": 1, "server": "10.1.1.1",
                   "mac": MAC, "ifindex": index})
            .to_string()
        })
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines.join("\n")).unwrap();
    bed.tool()
        .ok(&format!("rule load {}", file.path().display()));
    let mut unread = bed.tool().spawn("rule list");
    // More than a pipe holds is under way once the first line is there.
    let mut first = [0];
    unread
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    bed.add("--server 10.1.1.1");
    unread.kill().unwrap();
    unread.wait().unwrap();
}

#[test]
fn what_was_added_is_told_with_its_rewriting() {
    let bed = Bed::new();
    let run = bed.add("--server 10.1.1.1");
    assert!(run.out.starts_with("added "), "{run:?}");
    let first = |run: &fixture::Run| run.out.lines().next().unwrap().to_string();
    assert!(first(&run).ends_with(" weight 1"), "{run:?}");
    let words = "--to-port 53 --snat 10.1.1.9 --sticky --keep-ttl --pop-vlan --push-vlan 7";
    let run = bed.add(&format!("--server 10.1.1.1 --port 2 {words}"));
    let said = "weight 1 to-port 53 snat 10.1.1.9 sticky keep-ttl pop-vlan push-vlan 7";
    assert!(first(&run).ends_with(said), "{run:?}");
    // What it has in common with the rule's other backends.
    let run = bed.add("--server 10.1.1.2 --port 2");
    let said = "weight 1 snat 10.1.1.9 sticky keep-ttl";
    assert!(first(&run).ends_with(said), "{run:?}");
}
