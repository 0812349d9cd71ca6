//! Packets that follow the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::bed::Bed;
use crate::fixture::Ns;
use crate::fixture::lan::{ANYWHERE, HEADERS, Lan, mac, receive, socket};
use serde_json::{Value, json};

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

    // A backend that comes back begins at zero.
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
