//! Rules: what the command line takes and prints, what the host is asked, and packets that follow.

mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::io::Read;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use fixture::lan::{ANYWHERE, HEADERS, Lan, mac, receive, socket};
use fixture::{Ns, Pins, Tool};
use serde_json::{Value, json};

const MAC: &str = "02:00:00:00:00:01";

/// A host with a device to attach to and one to send through.
struct Bed {
    ns: Ns,
    pins: Pins,
}

impl Bed {
    fn new() -> Self {
        let ns = Ns::new("host");
        ns.ip("link add in0 type veth peer name in1");
        ns.ip("link add out0 type veth peer name out1");
        ns.ip("link set in0 up");
        ns.ip("link set out0 up");
        ns.ip("link set out1 up");
        let bed = Bed {
            ns,
            pins: Pins::new(),
        };
        bed.tool().ok("attach in0");
        bed
    }

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.ns,
            pins: &self.pins,
        }
    }

    fn add(&self, words: &str) -> fixture::Run {
        self.tool()
            .ok(&format!("rule add --mac {MAC} --dev out0 {words}"))
    }
}

fn servers(tool: &Tool) -> Vec<String> {
    let rows = tool.json("rule list");
    rows.as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap().to_string();
            format!(
                "{} {} {} {}",
                text("src"),
                text("proto"),
                row["port"],
                text("server")
            )
        })
        .collect()
}

fn no_failures() -> Value {
    json!({
        "not_supported": 0, "mtu": 0, "link_down": 0, "no_device": 0, "queue_full": 0, "other": 0,
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
        "forward_packages": 0, "forward_bytes": 0, "vlan": null, "to_port": null, "snat": null, "keep_ip": false,
        "decrement_ttl": true, "push_vlan": null, "pop_vlan": false, "delivered": 0, "failures": no_failures(),
        "state": "stale_mac", "origin": null,
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
        "forward_packages": 0, "forward_bytes": 0, "vlan": null, "to_port": null, "snat": null, "keep_ip": false,
        "decrement_ttl": true, "push_vlan": null, "pop_vlan": false, "delivered": 0, "failures": no_failures(),
        "state": "stale_mac", "origin": null,
    });
    let warnings = row.as_object_mut().unwrap().remove("warnings");
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
fn the_verbs_say_that_nothing_is_attached() {
    let ns = Ns::new("host");
    let pins = Pins::new();
    let tool = Tool {
        ns: &ns,
        pins: &pins,
    };
    for words in [
        "rule list",
        "rule add --server 10.1.1.1 --mac 02:00:00:00:00:01 --dev lo",
        "rule del --all",
        "stats",
    ] {
        tool.run(words)
            .fails(3, &["not attached", "attach IFACE` first"]);
    }
    assert!(pins.left().is_empty());
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_touched() {
    let bed = Bed::new();
    let cases: [(&str, i32, &[&str]); 29] = [
        ("--server 10.1.1.300", 2, &["10.1.1.300"]),
        ("--server localhost", 2, &["localhost"]),
        ("--server 127.0.0.1", 2, &["127.0.0.1"]),
        ("--server 224.0.0.1", 2, &["224.0.0.1"]),
        ("--server 0.0.0.0", 2, &["0.0.0.0"]),
        ("--server 255.255.255.255", 2, &["255.255.255.255"]),
        ("--server ::1", 2, &["::1"]),
        ("--server ff02::1", 2, &["ff02::1"]),
        ("--server ::ffff:10.1.1.1", 2, &["::ffff:10.1.1.1"]),
        (
            "--server 10.1.1.1 --src 2001:db8::/32",
            2,
            &["2001:db8::/32", "10.1.1.1"],
        ),
        ("--server 2001:db8::1 --snat 10.1.1.9", 2, &["10.1.1.9"]),
        ("--server 10.1.1.1 --snat 224.0.0.1", 2, &["224.0.0.1"]),
        ("--server 10.1.1.1 --snat 10.1.1.1", 2, &["server's own"]),
        (
            "--server 10.1.1.1 --keep-ip --to-port 53",
            2,
            &["--to-port"],
        ),
        (
            "--server 10.1.1.1 --keep-ip --snat 10.1.1.9",
            2,
            &["--snat"],
        ),
        ("--server 10.1.1.1 --vlan 0", 2, &["--vlan"]),
        ("--server 10.1.1.1 --vlan 4095", 2, &["4095"]),
        ("--server 10.1.1.1 --push-vlan 4095", 2, &["4095"]),
        ("--server 10.1.1.1 --to-port 0", 2, &["--to-port"]),
        (
            "--server 10.1.1.1 --src 10.1.1.1/24",
            2,
            &["10.1.1.1/24", "10.1.1.0/24"],
        ),
        ("--server 10.1.1.1 --src 10.1.1.0/33", 2, &["10.1.1.0/33"]),
        ("--server 10.1.1.1 --port 0", 2, &["--port"]),
        ("--server 10.1.1.1 --port 65536", 2, &["65536"]),
        ("--server 10.1.1.1 --weight 0", 2, &["--weight"]),
        ("--server 10.1.1.1 --weight 65536", 2, &["65536"]),
        ("--server 10.1.1.1 --proto icmp", 2, &["icmp"]),
        ("--server 10.1.1.1 --ifindex 1", 2, &["--dev", "--ifindex"]),
        ("--server 10.1.1.1 --server 10.1.1.2", 2, &["--server"]),
        ("", 2, &["--server"]),
    ];
    for (words, code, said) in cases {
        let run = bed
            .tool()
            .run(&format!("rule add --mac {MAC} --dev out0 {words}"));
        run.fails(code, said);
    }
    for mac in [
        "01:00:5e:00:00:01",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        "02:00:00:00:00",
    ] {
        bed.tool()
            .run(&format!(
                "rule add --server 10.1.1.1 --mac {mac} --dev out0"
            ))
            .fails(2, &[mac]);
    }
    assert_eq!(bed.tool().json("rule list"), json!([]));
}

#[test]
fn a_missing_server_names_all_ways_to_find_one() {
    let bed = Bed::new();
    let said = [
        "--server",
        "--container",
        "--pid",
        "--server-netns",
        "--dev",
    ];
    bed.tool().run("rule add --port 53").fails(2, &said);
}

#[test]
fn a_mistyped_word_is_told_its_like() {
    let bed = Bed::new();
    let cases = [
        ("stat", "'stats' or 'status'"),
        ("rule ad", "'add'"),
        ("rule add --servre 10.1.1.1", "'--server'"),
        ("attach in0 --mode nativ", "'native'"),
    ];
    for (words, like) in cases {
        let said = format!("did you mean {like}");
        bed.tool().run(words).fails(2, &[&said, "--help"]);
    }
    let run = bed.tool().run("frobnicate");
    assert!(!run.err.contains("did you mean"), "{run:?}");
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

#[test]
fn what_was_added_is_told_with_its_rewriting() {
    let bed = Bed::new();
    let run = bed.add("--server 10.1.1.1");
    assert!(run.out.starts_with("added "), "{run:?}");
    let first = |run: &fixture::Run| run.out.lines().next().unwrap().to_string();
    assert!(first(&run).ends_with(" weight 1"), "{run:?}");
    let words = "--to-port 53 --snat 10.1.1.9 --keep-ttl --pop-vlan --push-vlan 7";
    let run = bed.add(&format!("--server 10.1.1.1 --port 2 {words}"));
    let said = "weight 1 to-port 53 snat 10.1.1.9 keep-ttl pop-vlan push-vlan 7";
    assert!(first(&run).ends_with(said), "{run:?}");
    // What it has in common with the rule's other backends.
    let run = bed.add("--server 10.1.1.2 --port 2");
    let said = "weight 1 snat 10.1.1.9 keep-ttl";
    assert!(first(&run).ends_with(said), "{run:?}");
}

#[test]
fn a_device_that_is_not_there_is_exit_3() {
    let bed = Bed::new();
    let add = format!("rule add --server 10.1.1.1 --mac {MAC}");
    bed.tool()
        .run(&format!("{add} --dev nope0"))
        .fails(3, &["nope0"]);
    bed.tool()
        .run(&format!("{add} --ifindex 4242"))
        .fails(3, &["4242"]);
    bed.tool()
        .run(&format!("{add} --ifindex 0"))
        .fails(2, &["--ifindex"]);
    assert_eq!(bed.tool().json("rule list"), json!([]));
}

#[test]
fn the_same_server_again_is_an_update_that_keeps_what_is_not_named() {
    let bed = Bed::new();
    bed.add("--server 10.1.1.1 --weight 5");
    let tool = bed.tool();
    let updated = tool.ok("rule add --server 10.1.1.1 --mac 02:00:00:00:00:02");
    assert!(updated.out.starts_with("updated "), "{updated:?}");
    tool.ok("rule add --server 10.1.1.1 --dev in0 --mac 02:00:00:00:00:03");
    tool.ok("rule add --server 10.1.1.1 --weight 7");
    let rows = tool.json("rule list");
    assert_eq!(rows.as_array().unwrap().len(), 1);
    let row = &rows[0];
    assert_eq!(
        (&row["mac"], &row["ifname"], &row["weight"]),
        (&json!("02:00:00:00:00:03"), &json!("in0"), &json!(7))
    );
}

#[test]
fn matches_that_differ_in_one_part_are_different_rules() {
    let bed = Bed::new();
    for words in [
        "",
        "--proto tcp",
        "--port 8000",
        "--src 10.0.0.0/8",
        "--src 10.0.0.0/16",
        "--src 0.0.0.0/1",
    ] {
        bed.add(&format!("--server 10.1.1.1 {words}"));
    }
    assert_eq!(
        servers(&bed.tool()),
        [
            "0.0.0.0/0 udp 7999 10.1.1.1",
            "0.0.0.0/1 udp 7999 10.1.1.1",
            "10.0.0.0/8 udp 7999 10.1.1.1",
            "10.0.0.0/16 udp 7999 10.1.1.1",
            "0.0.0.0/0 udp 8000 10.1.1.1",
            "0.0.0.0/0 tcp 7999 10.1.1.1",
        ]
    );
    assert_eq!(bed.tool().json("status")["rules"], 6);
    // A shorter prefix that has no rule of its own is not found through another one.
    bed.tool()
        .run("rule del --src 10.0.0.0/24")
        .fails(3, &["10.0.0.0/24"]);
    bed.tool().ok("rule del --src 10.0.0.0/8");
    assert_eq!(servers(&bed.tool()).len(), 5);
}

#[test]
fn deleting_takes_a_backend_a_rule_or_all() {
    let bed = Bed::new();
    let tool = bed.tool();
    for words in [
        "--server 10.1.1.1",
        "--server 10.1.1.2",
        "--server 10.1.1.3",
        "--port 1 --server 10.1.1.1",
        "--port 1 --server 10.1.1.2",
        "--port 2 --server 10.1.1.1",
    ] {
        bed.add(words);
    }
    assert_eq!(
        tool.ok("rule del --server 10.1.1.2").out,
        "deleted 1 backend of src 0.0.0.0/0 udp port 7999\n"
    );
    tool.run("rule del --server 10.1.1.2")
        .fails(3, &["10.1.1.2"]);
    assert_eq!(
        servers(&tool)[..2],
        ["0.0.0.0/0 udp 1 10.1.1.1", "0.0.0.0/0 udp 1 10.1.1.2"]
    );
    assert_eq!(
        tool.ok("rule del --port 1").out,
        "deleted 2 backends of src 0.0.0.0/0 udp port 1\n"
    );
    tool.run("rule del --port 1").fails(3, &["port 1"]);
    assert_eq!(
        tool.json("rule del --port 1 --if-exists"),
        json!({"deleted": 0})
    );
    // The last backend takes the rule with it.
    tool.ok("rule del --port 2 --server 10.1.1.1");
    assert_eq!(tool.json("status")["rules"], 1);
    assert_eq!(tool.json("rule del --all"), json!({"deleted": 2}));
    tool.run("rule del --all").fails(3, &["no rules"]);
    tool.ok("rule del --all --if-exists");
    tool.run("rule del --all --port 1").fails(2, &["--all"]);
    assert_eq!(tool.json("rule list"), json!([]));
}

#[test]
fn a_rule_has_room_for_255_backends_and_refuses_one_more() {
    let bed = Bed::new();
    for last in 1..=255 {
        bed.add(&format!("--server 10.1.1.{last}"));
    }
    let tool = bed.tool();
    let add = format!("rule add --mac {MAC} --dev out0");
    tool.run(&format!("{add} --server 10.1.2.1"))
        .fails(1, &["255"]);
    assert_eq!(servers(&tool).len(), 255);
    // An update and another rule still go.
    tool.ok(&format!("{add} --server 10.1.1.255 --weight 2"));
    tool.ok(&format!("{add} --server 10.1.2.1 --port 1"));
    assert_eq!(tool.json("rule del"), json!({"deleted": 255}));
}

#[test]
fn a_large_ifindex_works() {
    let bed = Bed::new();
    for (name, index) in [("big0", 100_000), ("big1", 2_147_483_647u32)] {
        bed.ns.ip(&format!(
            "link add {name} index {index} type veth peer name {name}p"
        ));
        let row = bed.tool().json(&format!(
            "rule add --port 1 --server 10.1.1.1 --mac {MAC} --ifindex {index}"
        ));
        assert_eq!(
            (&row["ifindex"], &row["ifname"]),
            (&json!(index), &json!(name))
        );
        bed.tool().ok(&format!("attach {name}"));
    }
    let status = bed.tool().json("status");
    assert_eq!(status["interfaces"][2]["ifindex"], 2_147_483_647u32);
}

#[test]
fn packets_are_redirected_through_a_large_ifindex() {
    let lan = Lan::new(false, 0);
    let server = Ns::new("server");
    lan.host.ip(&format!(
        "link add wan index 100000 type veth peer name eth0 netns {}",
        server.name
    ));
    lan.host.ip("link set wan up");
    server.ip("link set eth0 up");
    server.ip("addr add 172.17.0.2/16 dev eth0");
    lan.tool().ok("attach lan");
    let mac = mac(&server, "eth0");
    lan.tool().ok(&format!(
        "rule add --server 172.17.0.2 --mac {mac} --ifindex 100000"
    ));
    let receiver = socket(&server, "0.0.0.0:7999");
    lan.vm_socket().send_to(b"hello", ANYWHERE).unwrap();
    assert_eq!(receive(&receiver).0, "hello");
}

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

/// Payloads arrive as sent, and each is counted with the bytes of its frame.
fn forwards(bridge: bool, ingress: &str, mode: &str) {
    let lan = Lan::new(bridge, 1);
    let tool = lan.tool();
    tool.ok(&format!("attach {ingress} --mode {mode}"));
    lan.add_backend(0, "--src 192.168.122.10");
    let (server, vm) = (lan.server_socket(0), lan.vm_socket());
    let mut bytes = 0;
    for len in [0, 1, 2, 17, 18, 19, 100, 1471, 1472] {
        let payload: String = ('a'..='z').cycle().take(len).collect();
        vm.send_to(payload.as_bytes(), ANYWHERE).unwrap();
        let (got, from) = receive(&server);
        assert_eq!(got, payload);
        assert_eq!(from, vm.local_addr().unwrap().to_string());
        bytes += (len + HEADERS) as u64;
    }
    assert_eq!(lan.forwarded(0), (9, bytes));
    let actions = &tool.json("stats")["interfaces"][0]["actions"];
    assert_eq!(actions["redirect"], json!({"packets": 9, "bytes": bytes}));
    for action in ["aborted", "drop", "tx"] {
        assert_eq!(
            actions[action],
            json!({"packets": 0, "bytes": 0}),
            "{action}"
        );
    }

    // An update keeps the counter.
    lan.add_backend(0, "--src 192.168.122.10 --weight 9");
    assert_eq!(lan.forwarded(0), (9, bytes));
    vm.send_to(b"again", ANYWHERE).unwrap();
    receive(&server);
    assert_eq!(lan.forwarded(0), (10, bytes + (5 + HEADERS) as u64));

    // A backend that comes back begins anew.
    tool.ok("rule del --src 192.168.122.10 --server 172.17.0.2");
    lan.add_backend(0, "--src 192.168.122.10");
    assert_eq!(lan.forwarded(0), (0, 0));
}

#[test]
fn packets_from_a_bridge_reach_the_server_and_are_counted() {
    forwards(true, "virbr0", "skb");
}

#[test]
fn packets_from_a_bridge_port_reach_the_server_and_are_counted() {
    forwards(true, "lan", "native");
}

#[test]
fn packets_from_a_veth_reach_the_server_in_skb_mode() {
    forwards(false, "lan", "skb");
}

#[test]
fn packets_from_a_veth_reach_the_server_in_native_mode() {
    forwards(false, "lan", "native");
}

#[test]
fn what_no_rule_matches_reaches_the_hosts_own_socket() {
    for (bridge, ingress, mode) in [(true, "virbr0", "skb"), (false, "lan", "native")] {
        let lan = Lan::new(bridge, 1);
        let tool = lan.tool();
        tool.ok(&format!("attach {ingress} --mode {mode}"));
        lan.add_backend(0, "--port 8000");
        lan.add_backend(0, "--src 192.168.122.11");
        lan.add_backend(0, "--proto tcp");
        // No address is known yet: ARP goes both ways before the exchange can.
        let host = socket(&lan.host, "192.168.122.1:7999");
        let vm = lan.vm_socket();
        vm.send_to(b"question", "192.168.122.1:7999").unwrap();
        let (question, from) = receive(&host);
        assert_eq!(question, "question");
        host.send_to(b"answer", from).unwrap();
        assert_eq!(receive(&vm).0, "answer");
        let actions = &tool.json("stats")["interfaces"][0]["actions"];
        assert_eq!(actions["redirect"]["packets"], 0);
        assert!(
            actions["pass"]["packets"].as_u64().unwrap() >= 2,
            "ARP and UDP: {actions}"
        );
        assert!(
            tool.json("rule list")
                .as_array()
                .unwrap()
                .iter()
                .all(|r| r["forward_packages"] == 0)
        );
    }
}

#[test]
fn the_longest_prefix_wins_and_its_deletion_uncovers_the_shorter_one() {
    let lan = Lan::new(false, 2);
    lan.tool().ok("attach lan");
    lan.add_backend(0, "");
    lan.add_backend(1, "--src 192.168.122.0/24");
    let (one, two, vm) = (lan.server_socket(0), lan.server_socket(1), lan.vm_socket());
    vm.send_to(b"two", ANYWHERE).unwrap();
    assert_eq!(receive(&two).0, "two");
    lan.tool().ok("rule del --src 192.168.122.0/24");
    vm.send_to(b"one", ANYWHERE).unwrap();
    assert_eq!(receive(&one).0, "one");
}

#[test]
fn another_backend_takes_over_from_one_whose_device_is_gone() {
    for mode in ["skb", "native"] {
        let lan = Lan::new(false, 2);
        let tool = lan.tool();
        tool.ok(&format!("attach lan --mode {mode}"));
        lan.add_backend(0, "");
        lan.add_backend(1, "");
        let gone = lan.server_socket(0);
        lan.host.ip("link del wan0");
        drop(gone);

        let (server, vm) = (lan.server_socket(1), lan.vm_socket());
        let flows: Vec<UdpSocket> = (0..16).map(|_| lan.vm_socket()).collect();
        for flow in &flows {
            flow.send_to(b"hello", ANYWHERE).unwrap();
            assert_eq!(receive(&server).1, flow.local_addr().unwrap().to_string());
        }
        assert_eq!((lan.forwarded(0).0, lan.forwarded(1).0), (0, 16));
        let rows = tool.json("rule list");
        assert_eq!(rows[0]["ifname"], Value::Null);
        assert!(tool.ok("rule list").out.contains("(gone)"));

        // With no backend left the packets are the host's.
        lan.host.ip("link del wan1");
        let host = socket(&lan.host, "192.168.122.1:7999");
        vm.send_to(b"for the host", "192.168.122.1:7999").unwrap();
        assert_eq!(receive(&host).0, "for the host");
    }
}

#[test]
fn flows_spread_over_the_backends_and_each_stays_with_its_own() {
    const FLOWS: usize = 48;
    const ROUNDS: usize = 4;
    let lan = Lan::new(true, 3);
    lan.tool().ok("attach virbr0");
    (0..3).for_each(|number| lan.add_backend(number, ""));
    let servers: Vec<UdpSocket> = (0..3).map(|number| lan.server_socket(number)).collect();
    let flows: Vec<UdpSocket> = (0..FLOWS).map(|_| lan.vm_socket()).collect();
    for _ in 0..ROUNDS {
        for flow in &flows {
            flow.send_to(b"x", ANYWHERE).unwrap();
        }
    }

    let mut backends_of: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    let mut received = [0; 3];
    let give_up = Instant::now() + Duration::from_secs(10);
    servers
        .iter()
        .for_each(|server| server.set_nonblocking(true).unwrap());
    while received.iter().sum::<usize>() < FLOWS * ROUNDS && Instant::now() < give_up {
        for (number, server) in servers.iter().enumerate() {
            match server.recv_from(&mut [0; 16]) {
                Ok((_, from)) => {
                    backends_of
                        .entry(from.to_string())
                        .or_default()
                        .insert(number);
                    received[number] += 1;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }
    assert_eq!(received.iter().sum::<usize>(), FLOWS * ROUNDS);
    assert_eq!(backends_of.len(), FLOWS);
    assert!(
        backends_of.values().all(|backends| backends.len() == 1),
        "{backends_of:?}"
    );
    for number in 0..3 {
        // The chance that one of three gets none of 48 flows is below 1 in 10^8.
        assert!(received[number] > 0, "{received:?}");
        assert_eq!(lan.forwarded(number).0 as usize, received[number]);
    }
}

#[test]
fn two_interfaces_share_one_set_of_rules() {
    let lan = Lan::new(false, 1);
    let other = Ns::new("other");
    lan.host.veth("lan2", &other, "eth0");
    lan.host.ip("addr add 192.168.123.1/24 dev lan2");
    other.ip("addr add 192.168.123.10/24 dev eth0");
    other.ip("route add default via 192.168.123.1");
    let tool = lan.tool();
    tool.ok("attach lan --mode native");
    lan.add_backend(0, "");
    tool.ok("attach lan2 --mode skb");

    let server = lan.server_socket(0);
    for from in [lan.vm_socket(), socket(&other, "192.168.123.10:0")] {
        from.send_to(b"hello", ANYWHERE).unwrap();
        assert_eq!(receive(&server).1, from.local_addr().unwrap().to_string());
    }
    assert_eq!(lan.forwarded(0).0, 2);
    for interface in tool.json("stats")["interfaces"].as_array().unwrap() {
        assert_eq!(
            interface["actions"]["redirect"]["packets"], 1,
            "{interface}"
        );
    }
}

#[test]
fn of_both_families_the_rule_that_was_deleted_is_named() {
    let bed = Bed::new();
    bed.add("--server fd00::9 --vlan 7 --to-port 53");
    let listed = bed.tool().ok("rule list").out;
    assert!(
        listed.contains("to-port 53") && listed.contains("udp/7999@7"),
        "{listed}"
    );
    let run = bed.tool().ok("rule del --vlan 7");
    assert_eq!(
        run.out,
        "deleted 1 backend of src ::/0 udp port 7999 vlan 7\n"
    );
}

#[test]
fn source_and_ttl_are_the_same_for_all_backends_of_a_rule() {
    let bed = Bed::new();
    bed.add("--server 10.1.1.1 --snat 10.9.9.9 --keep-ttl");
    bed.add("--server 10.1.1.2 --to-port 53");
    bed.add("--server 10.1.1.1 --snat 10.9.9.8");
    // One that changes MAC addresses alone has none, and takes none from the others.
    bed.add("--server 10.1.1.0 --keep-ip");
    bed.add("--server 10.1.1.3");
    let rows = bed.tool().json("rule list");
    assert_eq!(rows[0]["snat"], Value::Null);
    for row in &rows.as_array().unwrap()[1..] {
        assert_eq!(row["snat"], "10.9.9.8", "{row}");
    }
    let ttl = || -> Vec<Value> {
        let rows = bed.tool().json("rule list");
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row["decrement_ttl"].clone()).collect()
    };
    assert_eq!(ttl(), [false; 4]);
    bed.add("--server 10.1.1.2 --decrement-ttl");
    assert_eq!(ttl(), [true; 4]);
    bed.add("--server 10.1.1.2 --keep-ttl");
    assert_eq!(ttl(), [false; 4]);
}

#[test]
fn the_ttl_is_decremented_unless_it_is_to_be_kept() {
    let bed = Bed::new();
    let add = |words: &str| {
        bed.add(&format!("--server 10.1.1.1 {words}"));
        let row = bed.tool().json("rule list")[0].clone();
        (row["decrement_ttl"] == true, row["to_port"].as_u64())
    };
    assert_eq!(add(""), (true, None));
    assert_eq!(add("--keep-ttl --to-port 53"), (false, Some(53)));
    assert_eq!(
        add("--weight 2"),
        (false, Some(53)),
        "nothing of it is told"
    );
    assert_eq!(add("--to-port 54"), (true, Some(54)), "any of it is told");
    assert_eq!(add("--keep-ttl"), (false, None));
    assert_eq!(add("--decrement-ttl"), (true, None));
    bed.tool()
        .run("rule add --server 10.1.1.1 --keep-ttl --decrement-ttl")
        .fails(2, &["--keep-ttl", "--decrement-ttl"]);
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
