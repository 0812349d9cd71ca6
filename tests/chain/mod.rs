//! Other people's XDP programs are asked before ours: in their order, while chains change, and whatever else changes
//! at the interface.

pub mod bed;
mod changes;
mod refused;
mod taken_in;

use crate::fixture;
use crate::fixture::foreign::{Foreign, XDP};
use crate::fixture::guest;
use crate::fixture::routed::{Between, Routed, V4};
use bed::{Bed, OPEN};
use serde_json::json;

/// The modes in which there are chains.
const MODES: [&str; 2] = ["skb", "native"];

#[test]
fn five_programs_decide_in_the_order_of_their_priorities() {
    for mode in MODES {
        let bed = Bed::new(mode);
        // Added in another order than they are asked in.
        for (port, priority) in [(7003, 30), (7001, 10), (7005, 50), (7002, 20), (7004, 40)] {
            bed.add(port, &format!("--priority {priority}"));
        }
        let names: Vec<String> = (7001..=7005).map(|port| format!("drop_{port}")).collect();
        assert_eq!(bed.chain(), names);
        let all = [7001, 7002, 7003, 7004, 7005, 7006];
        let before: Vec<[u64; 3]> = names.iter().map(|name| bed.counted(name)).collect();
        assert_eq!(bed.dropped(&all), all[..5], "{mode}");
        // Each one saw what those before it passed: 7 datagrams at first, and less ARP than anybody minds.
        for (seen, name) in names.iter().enumerate() {
            let [drop, pass, skipped] = bed.counted(name);
            assert_eq!([drop - before[seen][0], skipped], [1, 0], "{mode}: {name}");
            assert!(pass - before[seen][1] >= 6 - seen as u64, "{mode}: {name}");
        }
        let status = bed.tool().json("status");
        assert_eq!(
            status["interfaces"][0]["program_id"].as_u64(),
            bed.program()
        );
        let programs = status["interfaces"][0]["chain"]
            .as_array()
            .expect("a chain");
        assert_eq!(programs.len(), 5);
        assert_eq!(programs[0]["on"], json!(["pass"]));
        let text = bed.tool().ok("status").out;
        assert!(text.contains("lan: asks drop_7001, drop_7002"), "{text}");
        let text = bed.tool().ok("stats").out;
        assert!(
            text.contains("asked before") && text.contains("drop_7003"),
            "{text}"
        );

        bed.tool().ok("chain del lan drop_7003");
        bed.tool().ok("chain del lan 50");
        assert_eq!(bed.dropped(&all), [7001, 7002, 7004], "{mode}");
        for name in ["10", "20", "drop_7004"] {
            bed.tool().ok(&format!("chain del lan {name}"));
        }
        assert_eq!(bed.dropped(&all), [0u16; 0], "{mode}");
        bed.nothing_is_pinned();
        let text = bed.tool().ok("chain list").out;
        assert_eq!(text, "no program is asked before ours\n");
    }
}

#[test]
fn the_verdicts_that_hand_on_are_said() {
    let bed = Bed::new("skb");
    bed.add(7001, "--on drop,pass");
    bed.add(7002, "");
    let list = bed.tool().json("chain list");
    assert_eq!(list[0]["programs"][0]["on"], json!(["drop", "pass"]));
    assert_eq!(list[0]["programs"][1]["priority"], 60);
    assert_eq!(bed.dropped(&[7001, 7002]), [7002]);
    let [drop, _, skipped] = bed.counted("drop_7001");
    assert_eq!([drop, skipped], [1, 0]);
    // What passes here is for the stack, and nobody else is asked.
    bed.tool().ok("chain del lan 50");
    bed.tool().ok("chain del lan 60");
    bed.add(7001, "--on drop");
    let before = bed.lan.forwarded(0).0;
    let vm = bed.lan.vm_socket();
    for port in [OPEN, 7001] {
        vm.send_to(b"x", ("11.22.33.44", port)).expect("it is sent");
    }
    fixture::eventually("the dropped one is redirected", || {
        bed.lan.forwarded(0).0 == before + 1
    });
}

#[test]
fn verdicts_of_all_kinds_hold_and_are_counted() {
    let bed = Bed::new("native");
    // 77 is no verdict of XDP; the kernel drops the packet.
    let programs = [(0, 7001), (3, 7002), (4, 7003), (77, 7004)];
    for (verdict, port) in programs {
        let path = bed.path("program");
        Foreign::of_port(&format!("says_{verdict}"), port, verdict).pin(&path);
        bed.tool().ok(&format!("chain add lan {}", path.display()));
        std::fs::remove_file(path).expect("it is pinned");
    }
    let all = [7001, 7002, 7003, 7004];
    assert_eq!(bed.dropped(&all), all);
    let stats = bed.tool().json("stats");
    let chain = &stats["interfaces"][0]["chain"];
    for (index, key) in ["aborted", "tx", "redirect", "aborted"].iter().enumerate() {
        assert_eq!(chain[index][*key], 1, "{chain:#}");
    }
    assert_eq!(stats["interfaces"][0]["not_reached"], 0);
}

#[test]
fn programs_that_use_up_the_calls_are_told_and_each_packet_is_counted() {
    let bed = Bed::new("skb");
    let path = bed.path("itself");
    let (itself, _slots) = Foreign::calling_itself("itself");
    itself.pin(&path);
    bed.tool().ok(&format!("chain add lan {}", path.display()));
    bed.add(7001, "");
    let vm = bed.lan.vm_socket();
    let counts = || {
        let stats = bed.tool().json("stats");
        let reached = &stats["interfaces"][0]["outcomes"]["redirected"]["packets"];
        let not_reached = &stats["interfaces"][0]["not_reached"];
        [reached, not_reached].map(|count| count.as_u64().expect("a number"))
    };
    for _ in 0..20 {
        vm.send_to(b"x", ("11.22.33.44", OPEN)).expect("it is sent");
    }
    // ARP comes the same way; not all kernels count the calls of one program for the others.
    fixture::eventually("each packet is counted", || {
        counts().iter().sum::<u64>() >= 20
    });
    let [reached, _] = counts();
    assert!(reached == 0 || reached == 20, "{reached}");
    assert_eq!(bed.counted("drop_7001")[2] > 0, reached == 0);
    let findings = bed.tool().run("doctor --json").json();
    let mut findings = findings.as_array().expect("findings").iter();
    let found = findings.any(|finding| finding["check"] == "chain");
    assert_eq!(found, reached == 0);
    if guest::is_kernel(6, 12) {
        assert_eq!(reached, 0);
        assert!(bed.tool().ok("stats").out.contains("skipped"));
    }
}

#[test]
fn what_the_kernel_loses_behind_a_chain_is_the_backend_s() {
    for mode in MODES {
        let bed = Bed::new(mode);
        bed.add(7001, "");
        // Natively, frames are lost at a veth whose peer does not poll; in generic mode at a device that is down.
        match mode {
            "native" => bed.lan.servers[0].exec("ethtool -K eth0 gro off"),
            _ => bed.lan.host.ip("link set wan0 down"),
        };
        let vm = bed.lan.vm_socket();
        for _ in 0..50 {
            vm.send_to(b"x", ("11.22.33.44", OPEN)).expect("it is sent");
        }
        let lost = || {
            let stats = bed.tool().json("stats");
            let failures = &stats["rules"][0]["failures"];
            let all = ["not_supported", "link_down"].map(|key| failures[key].as_u64());
            all.into_iter().flatten().sum::<u64>()
        };
        fixture::eventually("all are counted", || lost() == 50);
        // And so they are after the chain is gone, by our program alone.
        bed.tool().ok("chain del lan drop_7001");
        for _ in 0..50 {
            vm.send_to(b"x", ("11.22.33.44", OPEN)).expect("it is sent");
        }
        fixture::eventually("all are counted", || lost() == 100);
    }
}

#[test]
fn conversations_go_on_through_chains_on_both_sides() {
    for mode in MODES {
        let routed = Routed::new(Between::Veth);
        if mode == "native" {
            routed.client.exec("ethtool -K eth0 gro on");
            routed.server.exec("ethtool -K eth0 gro on");
        }
        routed.tool().ok(&format!("attach lan wan --mode {mode}"));
        let words = format!("--dst {} --port 80 --server {}", V4.elsewhere, V4.server);
        routed.tool().ok(&format!("rule add {words} --reply nat"));
        let server = fixture::lan::socket(&routed.server, "0.0.0.0:80");
        let client = fixture::lan::socket(&routed.client, "192.168.122.10:40000");
        client.connect((V4.elsewhere, 80)).expect("an address");
        let ask = || {
            client.send(b"question").expect("it is sent");
            let mut bytes = [0; 16];
            let (length, from) = server.recv_from(&mut bytes).expect("it arrives");
            server.send_to(&bytes[..length], from).expect("it is sent");
            assert_eq!(client.recv(&mut bytes).expect("an answer"), 8);
        };
        ask();
        let path = routed.pins.dir().with_file_name("pass");
        Foreign::returning("pass", 2, XDP).pin(&path);
        for interface in ["lan", "wan"] {
            let words = format!("chain add {interface} {}", path.display());
            routed.tool().ok(&words);
            ask();
        }
        assert_eq!(routed.tool().json("flow count")["connections"], 1);
        routed.tool().ok("chain del wan pass");
        ask();
        routed.tool().ok("detach wan --keep-rules");
        routed.tool().ok("detach lan");
    }
}

#[test]
fn a_program_outlives_its_file_and_the_tool() {
    guest::not_in_guests("a compiler is needed");
    let bed = Bed::new("skb");
    let directory = tempfile::tempdir().expect("a directory");
    let file = refused::compile(directory.path(), "counts", refused::COUNTS);
    bed.tool().ok(&format!("chain add lan {file}:counts"));
    drop(directory);
    assert_eq!(bed.dropped(&[7001]), [0u16; 0]);
    let list = bed.tool().json("chain list lan");
    let source = list[0]["programs"][0]["source"].as_str().expect("a source");
    assert!(source.ends_with("counts.o:counts"), "{source}");
    let [_, pass, _] = bed.counted("counts");
    assert!(pass >= 2);
    bed.tool().ok("detach lan");
    assert!(bed.lan.pins.left().is_empty());
}
