//! The tc hook: what the skbs of local senders have that XDP does not see. Large segments, tags beside
//! the frame, and other programs at the same hook.

#![expect(unsafe_code, reason = "calls that have no safe form")]

mod filter;

use crate::fixture::foreign::{Foreign, TC};
use crate::fixture::guest;
use crate::fixture::lan::{send_together, socket};
use crate::fixture::packet::{ETHERNET, UDP, assert_checksums};
use crate::fixture::program::snmp;
use crate::fixture::routed::{Between, Family, Routed, V4, V6};
use crate::fixture::tap::Tap;
use crate::fixture::{self, Ns, Pins, Tool};
use libbpf_rs::libbpf_sys;
use serde_json::Value;

const FAMILIES: [Family; 2] = [V4, V6];
const SERVER_MAC: [u8; 6] = [2, 0x42, 0xac, 0x11, 0, 2];
const MEGABYTES: usize = 8 << 20;

/// Both ends keep their offloads, as containers have them.
fn bed(between: Between) -> Routed {
    let bed = Routed::new(between);
    bed.tool().ok("attach lan --mode tc");
    bed
}

fn serve(bed: &Routed, family: &Family, proto: &str) {
    let Family {
        elsewhere, server, ..
    } = family;
    bed.tool().ok(&format!(
        "rule add --dst {elsewhere} --proto {proto} --port 80 --reply nat --server {server} --to-port 8080"
    ));
}

fn assert_no_errors(bed: &Routed) {
    for ns in [&bed.client, &bed.server] {
        for proto in ["Tcp", "Udp"] {
            assert_eq!(snmp(ns, proto, "InCsumErrors"), 0, "{proto}");
        }
    }
}

/// A frame of XDP holds 1,514 bytes at most.
#[test]
fn large_segments_are_redirected_whole_both_ways() {
    for _kernel in guest::kernels_at_tc() {
        for between in [Between::Veth, Between::Bridge, Between::Gateway] {
            let bed = bed(between);
            let mut before = [(0, 0); 2];
            for family in &FAMILIES {
                serve(&bed, family, "tcp");
                bed.sends_there_and_back(family, MEGABYTES);
                let status = bed.tool().json("status");
                let all = status["interfaces"].as_array().expect("interfaces");
                assert!(all.iter().all(|i| i["mode"] == "tc"), "{all:?}");
                let other = all.iter().find(|i| i["ifname"] != "lan");
                let other = other.expect("it is attached for answers")["ifname"].clone();
                let other = other.as_str().expect("a name");
                let now = [
                    bed.counted_at("lan", "redirected"),
                    bed.counted_at(other, "answered"),
                ];
                for (before, now) in before.iter().zip(now) {
                    let (packets, bytes) = (now.0 - before.0, now.1 - before.1);
                    assert!(bytes >= MEGABYTES as u64, "{bytes} bytes");
                    // An acknowledgement in the other direction is short.
                    assert!(
                        bytes / packets > 1514,
                        "{between:?}: {packets} packets of {bytes} bytes"
                    );
                }
                before = now;
            }
            for outcome in ["answer_passed", "too_long", "too_big_sent"] {
                assert_eq!(bed.counted(outcome), 0, "{between:?}: {outcome}");
            }
            assert_no_errors(&bed);
            assert_eq!(bed.tool().json("doctor"), serde_json::json!([]));
        }
    }
}

/// Each segment has to be short enough for the egress device, and the sender is told the MTU.
#[test]
fn segments_that_are_too_long_for_the_egress_device_are_answered_with_its_mtu() {
    for family in &FAMILIES {
        let bed = bed(Between::Veth);
        bed.host.ip("link set wan mtu 1300");
        serve(&bed, family, "tcp");
        bed.sends_there_and_back(family, MEGABYTES);
        assert!(bed.counted("too_big_sent") > 0);
        let (packets, bytes) = bed.counted_at("lan", "redirected");
        assert!(bytes / packets > 1514, "{packets} packets of {bytes} bytes");
        assert_eq!(bed.counted("too_long"), 0);
        assert_no_errors(&bed);
    }
}

#[test]
fn datagrams_that_are_handed_over_together_arrive_one_by_one() {
    for _kernel in guest::kernels_at_tc() {
        for (family, any) in FAMILIES.iter().zip(["0.0.0.0:0", "[::]:0"]) {
            let bed = bed(Between::Veth);
            serve(&bed, family, "udp");
            let server = socket(&bed.server, "[::]:8080");
            let client = socket(&bed.client, any);
            send_together(&client, (family.elsewhere, 80));
            let mut buffer = [0; 2048];
            for number in 0..10 {
                let (size, from) = server.recv_from(&mut buffer).expect("it arrives");
                assert_eq!(buffer[..size], [number; 1000]);
                server.send_to(&buffer[..10], from).expect("it is sent");
                let (size, from) = client.recv_from(&mut buffer).expect("the answer arrives");
                assert_eq!(buffer[..size], [number; 10]);
                assert_eq!(from.ip().to_string(), family.elsewhere);
            }
            let headers = ETHERNET as u64 + if family.host_length == 32 { 28 } else { 48 };
            let arrived = bed.counted_at("lan", "redirected");
            assert_eq!(arrived, (1, headers + 10_000));
            assert_no_errors(&bed);
        }
    }
}

/// The frames that come out of a tap for the server, with their tags.
fn next_for_server(tap: &mut Tap) -> Vec<u8> {
    std::iter::from_fn(|| tap.read())
        .find(|frame| frame[..6] == SERVER_MAC)
        .expect("a frame arrives")
}

/// One instruction of BPF.
fn instruction(code: u8, registers: u8, value: i32) -> [u8; 8] {
    let mut bytes = [code, registers, 0, 0, 0, 0, 0, 0];
    bytes[4..].copy_from_slice(&value.to_ne_bytes());
    bytes
}

/// r0 = value; exit
fn returning(value: i32) -> [[u8; 8]; 2] {
    [instruction(0xb7, 0, value), instruction(0x95, 0, 0)]
}

/// Puts all that leaves by a device in these VLANs, from the inner one to the outer one.
fn tagging(vlans: &[u16]) -> Vec<[u8; 8]> {
    let push = |&tci: &u16| {
        [
            instruction(0xbf, 0x61, 0), // r1 = r6
            instruction(0xb7, 2, 0x8100u16.to_be().into()),
            instruction(0xb7, 3, tci.into()),
            instruction(0x85, 0, libbpf_sys::BPF_FUNC_skb_vlan_push as i32),
        ]
    };
    let keep = instruction(0xbf, 0x16, 0); // r6 = r1
    let pushes = vlans.iter().flat_map(push);
    [keep]
        .into_iter()
        .chain(pushes)
        .chain(returning(0))
        .collect()
}

/// What a VLAN device sends has its tag beside the frame, like what these programs send.
#[test]
fn tags_beside_the_frame_are_matched_removed_given_and_replaced() {
    let (host, vm, pins) = (Ns::new("host"), Ns::new("vm"), Pins::new());
    host.veth("lan", &vm, "eth0");
    vm.ip("addr add 10.0.0.1/24 dev eth0");
    vm.ip("neigh add 10.0.0.2 lladdr 2:0:0:0:0:9 dev eth0");
    let mut tap = Tap::new(&host, "tap0", false);
    let tool = Tool {
        ns: &host,
        pins: &pins,
    };
    tool.ok("attach lan --mode tc");
    let from = socket(&vm, "0.0.0.0:40000");
    let tag = |tci: u16| [[0x81, 0], tci.to_be_bytes()].concat();
    const PRIORITY: u16 = 3 << 13;
    let (five, seven) = (PRIORITY | 5, 7);
    for (came, matches, rewriting, left) in [
        (vec![], "", "", vec![]),
        (vec![], "", "--push-vlan 9", tag(9)),
        (vec![five], "--vlan 5", "", tag(five)),
        (vec![five], "--vlan 5", "--pop-vlan", vec![]),
        (
            vec![five],
            "--vlan 5",
            "--pop-vlan --push-vlan 9",
            tag(PRIORITY | 9),
        ),
        (
            vec![five],
            "--vlan 5",
            "--push-vlan 9",
            [tag(9), tag(five)].concat(),
        ),
        (
            vec![seven, five],
            "--vlan 5 --inner-vlan 7",
            "",
            [tag(five), tag(7)].concat(),
        ),
        (
            vec![seven, five],
            "--vlan 5 --inner-vlan 7",
            "--pop-vlan",
            tag(7),
        ),
        (
            vec![seven, five],
            "--vlan 5 --inner-vlan 7",
            "--pop-vlan --pop-vlan",
            vec![],
        ),
        (
            vec![seven, five],
            "--vlan 5 --inner-vlan 7",
            "--pop-vlan --push-vlan 9",
            [tag(PRIORITY | 9), tag(7)].concat(),
        ),
        (
            vec![five, seven],
            "--vlan 7 --inner-vlan 5",
            "--pop-vlan --pop-vlan --push-vlan 9",
            tag(PRIORITY | 9),
        ),
    ] {
        let tags = Foreign::load("another", &tagging(&came), TC);
        let _tags = tags.at_tcx(&vm, "eth0", libbpf_sys::BPF_TCX_EGRESS);
        tool.run("rule del --all --if-exists").ok();
        let mac = SERVER_MAC.map(|byte| format!("{byte:02x}")).join(":");
        tool.ok(&format!(
            "rule add {matches} --server 172.17.0.2 --mac {mac} --dev tap0 {rewriting}"
        ));
        from.send_to(b"hello ebpf", "10.0.0.2:7999").expect("sent");
        let frame = next_for_server(&mut tap);
        let what = format!("{matches} {rewriting}: {frame:02x?}");
        assert_eq!(frame[12..12 + left.len()], left, "{what}");
        let untagged = [&frame[..12], &frame[12 + left.len()..]].concat();
        assert_eq!(untagged[12..14], [8, 0], "{what}");
        assert_eq!(untagged[ETHERNET + 9], UDP, "{what}");
        assert_checksums(&untagged);
        assert!(untagged.ends_with(b"hello ebpf"), "{what}");
    }
}

#[test]
fn what_no_rule_takes_goes_on_to_the_next_program() {
    guest::needs_kernel(6, 6, "tcx");
    let bed = bed(Between::Veth);
    serve(&bed, &V4, "udp");
    let client = socket(&bed.client, "0.0.0.0:0");
    let [server, host] = [
        socket(&bed.server, "0.0.0.0:8080"),
        socket(&bed.host, "0.0.0.0:9"),
    ];
    host.set_read_timeout(Some(guest::patience(300)))
        .expect("a timeout");
    let mut buffer = [0; 100];
    // The other program drops the answers to ARP requests, too.
    client.send_to(b"first", "192.168.122.1:9").expect("sent");
    host.recv(&mut buffer).expect("it arrives");
    client.send_to(b"first", (V4.elsewhere, 80)).expect("sent");
    server.recv(&mut buffer).expect("it arrives");
    const TCX_DROP: i32 = 2;
    let next = Foreign::returning("another", TCX_DROP, TC);
    let _next = next.at_tcx(&bed.host, "lan", libbpf_sys::BPF_TCX_INGRESS);
    client
        .send_to(b"no rule's", "192.168.122.1:9")
        .expect("sent");
    client
        .send_to(b"a rule's", (V4.elsewhere, 80))
        .expect("sent");
    let size = server.recv(&mut buffer).expect("it arrives");
    assert_eq!(&buffer[..size], b"a rule's");
    host.recv(&mut buffer)
        .expect_err("the other program drops it");
}

fn modes(tool: &Tool) -> Vec<String> {
    let status = tool.json("status");
    let all = status["interfaces"].as_array().expect("interfaces");
    let mode = |i: &Value| i["mode"].as_str().expect("a mode").into();
    all.iter().map(mode).collect()
}

#[test]
fn an_interface_has_the_program_at_one_hook_and_detaching_takes_it_off() {
    guest::needs_kernel(6, 6, "tcx");
    let bed = bed(Between::Veth);
    let tool = bed.tool();
    assert_eq!(modes(&tool), ["tc"]);
    let again = tool.ok("attach lan --mode tc");
    assert!(again.out.contains("already attached"), "{again:?}");
    tool.run("attach lan --mode skb")
        .fails(4, &["lan is attached in tc mode", "detach"]);
    assert!(tool.ok("attach lan").out.contains("in tc mode"));

    assert_eq!(tcx(&bed.host, "lan").len(), 1);
    tool.ok("detach lan");
    assert!(tcx(&bed.host, "lan").is_empty());
    assert!(bed.pins.left().is_empty());
}

/// The programs at the hook, by id.
fn tcx(ns: &Ns, device: &str) -> Vec<u32> {
    let (ifindex, mut ids, mut count) = (ns.ifindex(device) as i32, [0u32; 64], 64);
    let kind = libbpf_sys::BPF_TCX_INGRESS;
    // SAFETY: the kernel writes at most `count` ids.
    let found = ns.enter(|| unsafe {
        let flags = std::ptr::null_mut();
        libbpf_sys::bpf_prog_query(ifindex, kind, 0, flags, ids.as_mut_ptr(), &raw mut count)
    });
    assert_eq!(found, 0, "a query of tcx");
    ids[..count as usize].to_vec()
}

#[test]
fn the_xdp_program_of_other_pins_is_in_the_way_unless_one_asks_for_both() {
    let bed = Routed::new(Between::Veth);
    let others = Pins::new();
    let other = Tool {
        ns: &bed.host,
        pins: &others,
    };
    other.ok("attach lan --mode skb");
    let tool = bed.tool();
    tool.run("attach lan --mode tc")
        .fails(4, &["lan has another XDP program xdpredir", "--force"]);
    assert!(bed.pins.left().is_empty());
    tool.ok("attach lan --mode tc --force");
    assert_eq!(
        (modes(&tool), modes(&other)),
        (vec!["tc".into()], vec!["skb".into()])
    );
}

/// Packets that a device has sent.
fn sent_by(ns: &Ns, device: &str) -> u64 {
    packets_of(ns, device, "tx")
}

fn received_by(ns: &Ns, device: &str) -> u64 {
    packets_of(ns, device, "rx")
}

fn packets_of(ns: &Ns, device: &str, direction: &str) -> u64 {
    let link: Value = serde_json::from_str(&ns.ip(&format!("-s -j link show {device}"))).unwrap();
    link[0]["stats64"][direction]["packets"]
        .as_u64()
        .expect("a number")
}

/// What is handed to the other end does not go out by the host's own.
#[test]
fn the_other_end_in_another_namespace_gets_packets_at_once() {
    for _kernel in guest::kernels_at_tc() {
        let bed = bed(Between::Veth);
        serve(&bed, &V4, "udp");
        let server = socket(&bed.server, "0.0.0.0:8080");
        let client = socket(&bed.client, "0.0.0.0:0");
        let exchange = || {
            let mut buffer = [0; 100];
            for number in 0..50 {
                client.send_to(&[number], (V4.elsewhere, 80)).expect("sent");
                let (size, from) = server.recv_from(&mut buffer).expect("it arrives");
                server.send_to(&buffer[..size], from).expect("sent");
                let size = client.recv(&mut buffer).expect("the answer arrives");
                assert_eq!(buffer[..size], [number]);
            }
        };
        exchange(); // and neighbours know each other
        let before = ["lan", "wan"].map(|device| sent_by(&bed.host, device));
        exchange();
        let now = ["lan", "wan"].map(|device| sent_by(&bed.host, device));
        for (before, now) in before.iter().zip(now) {
            // The host asks for neighbours itself at times.
            assert!(now - before < 25, "{} went by the queue", now - before);
        }
        assert_eq!(bed.counted("redirected"), 100);
        assert_eq!(bed.counted("answered"), 100);
    }
}

#[test]
fn the_other_end_in_the_same_namespace_gets_them_as_well() {
    let bed = bed(Between::Veth);
    let host = &bed.host;
    host.ip("link add v0 type veth peer name p0");
    host.ip("link add br9 type bridge");
    for device in ["p0", "wan"] {
        host.ip(&format!("link set {device} master br9"));
    }
    for device in ["v0", "p0", "br9"] {
        host.ip(&format!("link set {device} up"));
    }
    let mac = fixture::lan::mac(&bed.server, "eth0");
    let server = socket(&bed.server, "0.0.0.0:8080");
    bed.tool().ok(&format!(
        "rule add --dst {} --port 80 --server {} --to-port 8080 --mac {mac} --dev v0",
        V4.elsewhere, V4.server
    ));
    let client = socket(&bed.client, "0.0.0.0:0");
    client.send_to(b"hello", (V4.elsewhere, 80)).expect("sent");
    let mut buffer = [0; 100];
    let size = server.recv(&mut buffer).expect("it arrives");
    assert_eq!(&buffer[..size], b"hello");
}

/// There, the indexes of devices that rules have are those of others.
#[test]
fn an_interface_that_was_moved_to_another_namespace_takes_nothing_until_it_is_back() {
    guest::needs_kernel(6, 6, "tcx");
    let bed = bed(Between::Veth);
    bed.tool().ok(&format!(
        "rule add --port 9 --server {} --to-port 8080",
        V4.server
    ));
    let server = socket(&bed.server, "0.0.0.0:8080");
    let elsewhere = Ns::new("elsewhere");
    let moves = |from: &Ns, to: &Ns| {
        from.ip(&format!("link set lan netns {}", to.name));
        to.ip("link set lan up");
        to.ip("addr add 192.168.122.1/24 dev lan");
    };
    let client = socket(&bed.client, "0.0.0.0:0");
    let mut buffer = [0; 100];
    moves(&bed.host, &elsewhere);
    let there = socket(&elsewhere, "0.0.0.0:9");
    client.send_to(b"one", "192.168.122.1:9").expect("sent");
    let size = there.recv(&mut buffer).expect("it passes");
    assert_eq!(&buffer[..size], b"one");
    let status = bed.tool().json("status");
    assert_eq!(status["interfaces"][0]["state"], "moved");
    let doctor = bed.tool().run("doctor");
    assert_eq!(doctor.code, 7);
    assert!(
        doctor
            .out
            .contains("nothing that arrives there is redirected"),
        "{doctor:?}"
    );

    moves(&elsewhere, &bed.host);
    client.send_to(b"two", "192.168.122.1:9").expect("sent");
    let size = server.recv(&mut buffer).expect("it is redirected");
    assert_eq!(&buffer[..size], b"two");
    bed.tool().ok("detach lan");
    assert!(tcx(&bed.host, "lan").is_empty());
}

/// Where the other end of a device is, is asked when rules change.
#[test]
fn an_end_that_comes_back_to_the_host_gets_packets_once_the_rules_are_refreshed() {
    let bed = bed(Between::Veth);
    let (host, mac) = (&bed.host, fixture::lan::mac(&bed.server, "eth0"));
    bed.tool().ok(&format!(
        "rule add --dst {} --server {} --mac {mac} --dev wan",
        V4.elsewhere, V4.server
    ));
    bed.server
        .ip(&format!("link set eth0 netns {} name back", host.name));
    host.ip("link set back up");
    let client = socket(&bed.client, "0.0.0.0:0");
    let arrive = || {
        let before = received_by(host, "back");
        for _ in 0..10 {
            client
                .send_to(b"hello", (V4.elsewhere, 7999))
                .expect("sent");
        }
        received_by(host, "back") - before >= 10
    };
    let doctor_knows = || {
        let found = bed.tool().run("doctor --json").json();
        let mut found = found.as_array().expect("findings").iter();
        found.any(|finding| finding["check"] == "other-end" && finding["subject"] == "wan")
    };
    assert!(!arrive() && doctor_knows());
    let refreshed = bed.tool().ok("rule refresh").out;
    assert_eq!(
        refreshed,
        "refreshed wan: its other end is in this network namespace now\n"
    );
    assert_eq!(bed.tool().ok("rule refresh").out, "nothing to refresh\n");
    assert!(arrive() && !doctor_knows());

    host.ip(&format!(
        "link set back netns {} name eth0",
        bed.server.name
    ));
    bed.server.ip("link set eth0 up");
    bed.tool().ok("rule add --port 9 --drop");
    let before = sent_by(host, "wan");
    for _ in 0..50 {
        client
            .send_to(b"hello", (V4.elsewhere, 7999))
            .expect("sent");
    }
    let sent = sent_by(host, "wan") - before;
    assert!(sent < 50, "they are handed over again: {sent}");
}
