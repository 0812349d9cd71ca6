//! What is lost behind the tc hook is counted for the backend whose packet it was, as far as the kernel says it.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::fixture::lan::{ANYWHERE, Lan, send_together, socket};
use crate::fixture::packet::Frame;
use crate::fixture::run::{Loaded, XDP_REDIRECT};
use crate::fixture::tap::Tap;
use crate::fixture::{self, Pins, Tool};
use nix::sys::socket::sockopt::RcvBuf;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt};
use serde_json::{Value, json};

const PORTS: [u16; 2] = [7999, 8000];
/// So many packets are sent at a time, and a queue of the host holds them.
const BURST: u64 = 100;

/// A host with the interface `lan` attached, and servers behind veths.
fn lan(servers: usize) -> Lan {
    let lan = Lan::new(false, servers);
    lan.tool().ok("attach lan --mode tc");
    lan
}

/// One server, for both ports.
fn with_server() -> Lan {
    let lan = lan(1);
    add_server(&lan);
    lan
}

fn add_server(lan: &Lan) {
    for port in PORTS {
        lan.add_backend(0, &format!("--port {port}"));
    }
}

/// A backend for each port behind a device of the host.
fn add_backends(lan: &Lan, device: &str) {
    for (number, port) in PORTS.iter().enumerate() {
        lan.tool().ok(&format!(
            "rule add --port {port} --server 172.17.1.{number} --mac 02:42:ac:11:00:02 --dev {device}"
        ));
    }
}

/// Packets of either port, by turns that nobody foresees; how many of each.
fn send(from: &UdpSocket, packets: u64) -> [u64; 2] {
    let mut sent = [0; 2];
    for _ in 0..packets {
        let which = usize::from(fastrand::bool());
        sent[which] += 1;
        let to = ("11.22.33.44", PORTS[which]);
        from.send_to(&[0; 64], to).expect("it is sent");
    }
    sent
}

/// The row of a port, once it has that many packets.
#[track_caller]
fn row(tool: &Tool, port: u16, packets: u64) -> Value {
    let now = || {
        let stats = tool.json("stats");
        let mut rows = stats["rules"].as_array().unwrap().iter();
        rows.find(|row| row["port"] == port).unwrap().clone()
    };
    let end = Instant::now() + Duration::from_secs(10);
    while now()["forward_packages"] != packets {
        assert!(Instant::now() < end, "not {packets} packets: {}", now());
        std::thread::sleep(Duration::from_millis(20));
    }
    // Losses are read before packets, so the row that had them all may lack losses.
    now()
}

/// What both ports lost, with the kernel's names for it, where so many packets of each were lost.
#[track_caller]
fn assert_lost(tool: &Tool, sent: [u64; 2], lost: [u64; 2], loss: &str, error: Option<&str>) {
    for which in [0, 1] {
        let row = row(tool, PORTS[which], sent[which]);
        let mut expected = json!({
            "not_supported": 0, "mtu": 0, "link_down": 0, "no_device": 0, "queue_full": 0, "other": 0,
            "errors": {},
        });
        expected[loss] = lost[which].into();
        if let Some(error) = error.filter(|_| lost[which] > 0) {
            expected["errors"][loss][error] = lost[which].into();
        }
        assert_eq!(row["failures"], expected, "{row}");
        assert_eq!(row["delivered"], sent[which] - lost[which], "{row}");
    }
    assert_eq!(tool.json("stats")["unattributed"]["other"], 0);
}

/// How many frames of each port come out of a tap.
fn read_all(tap: &mut Tap) -> [u64; 2] {
    let mut arrived = [0; 2];
    for frame in std::iter::from_fn(|| tap.read()) {
        let port = frame.get(36..38);
        for which in [0, 1] {
            arrived[which] += u64::from(port == Some(&PORTS[which].to_be_bytes()[..]));
        }
    }
    arrived
}

fn minus(these: [u64; 2], those: [u64; 2]) -> [u64; 2] {
    [these[0] - those[0], these[1] - those[1]]
}

#[test]
fn what_a_server_does_with_a_packet_is_no_loss_of_the_redirect() {
    let lan = with_server();
    let vm = lan.vm_socket();
    let status = lan.tool().json("status");
    assert_eq!(status["interfaces"][0]["ledger"], "on");
    let said = lan.tool().ok("status").out;
    assert!(said.contains("lan: behind the tc hook"), "{said}");

    // Nobody listens at the second port, and the first one's socket is full soon.
    let server = lan.server_socket(0);
    setsockopt(&server, RcvBuf, &4096).expect("a small buffer");
    let sent = send(&vm, BURST);
    assert_lost(&lan.tool(), sent, [0; 2], "other", None);
    let dropped = fixture::program::snmp(&lan.servers[0], "Udp", "RcvbufErrors");
    assert!(dropped > 0, "the socket was never full");
    assert!(!lan.tool().ok("stats").out.contains("lost"));
    let doctor = lan.tool().run("doctor --json").json();
    assert!(!doctor.to_string().contains("losses"), "{doctor}");
}

#[test]
fn another_end_that_is_down_loses_all() {
    let lan = with_server();
    lan.servers[0].ip("link set eth0 down");
    let sent = send(&lan.vm_socket(), BURST);
    assert_lost(&lan.tool(), sent, sent, "link_down", None);
    let text = lan.tool().ok("stats").out;
    assert!(text.contains("ip link set dev wan0 up"), "{text}");
}

/// The kernel hands packets only to an end that is in another network namespace.
#[test]
fn another_end_that_came_home_loses_all_until_the_rules_know_it() {
    let lan = with_server();
    lan.servers[0].ip(&format!("link set eth0 netns {}", lan.host.name));
    lan.host.ip("link set eth0 up");
    let sent = send(&lan.vm_socket(), BURST);
    assert_lost(&lan.tool(), sent, sent, "no_device", None);
}

#[test]
fn a_device_that_is_down_loses_all() {
    let lan = lan(0);
    let _tap = Tap::new(&lan.host, "tap0", false);
    add_backends(&lan, "tap0");
    lan.host.ip("link set tap0 down");
    let sent = send(&lan.vm_socket(), BURST);
    assert_lost(&lan.tool(), sent, sent, "link_down", Some("QDISC_DROP"));
    let text = lan.tool().ok("stats").out;
    assert!(text.contains("drop reason QDISC_DROP"), "{text}");
    assert!(!text.contains("errno"), "{text}");
    let doctor = lan.tool().run("doctor --json");
    let findings = doctor.json();
    let losses = findings.as_array().unwrap().iter();
    let losses: Vec<_> = losses.filter(|f| f["check"] == "losses").collect();
    assert_eq!(losses.len(), 1, "{findings}");
    let evidence = losses[0]["evidence"].as_str().unwrap();
    assert!(evidence.contains("drop reason QDISC_DROP"), "{findings}");
}

/// What kernels call it that a queueing discipline is full.
const QUEUE_NAMES: [&str; 4] = [
    "QDISC_DROP",
    "QDISC_OVERLIMIT",
    "FQ_BAND_LIMIT",
    "FQ_FLOW_LIMIT",
];

/// The device's own, and one in front of it. fq_codel and fq write into the packets that they hold.
#[test]
fn full_queues_are_counted_for_the_backend_whose_packet_it_was() {
    let lan = lan(0);
    for discipline in [None, Some("pfifo"), Some("fq_codel"), Some("fq")] {
        let names = match discipline {
            None => &["FULL_RING"][..],
            Some(_) => &QUEUE_NAMES,
        };
        let device = discipline.unwrap_or("own");
        let Some(mut tap) = Tap::with_short_queue(&lan.host, device, discipline) else {
            continue;
        };
        add_backends(&lan, device);
        let sent = send(&lan.vm_socket(), BURST);
        row(&lan.tool(), PORTS[0], sent[0]);
        row(&lan.tool(), PORTS[1], sent[1]);
        let arrived = read_all(&mut tap);
        let lost = minus(sent, arrived);
        assert!(lost[0] > 0 && lost[1] > 0, "{discipline:?}: {lost:?}");
        let errors = row(&lan.tool(), PORTS[0], sent[0])["failures"]["errors"].clone();
        let name = names
            .iter()
            .find(|name| errors["queue_full"][**name].is_u64());
        let name = name.unwrap_or_else(|| panic!("{discipline:?}: {errors}"));
        assert_lost(&lan.tool(), sent, lost, "queue_full", Some(name));
        lan.tool().ok("rule del --all");
    }
}

/// A veth of this namespace, through whose queue packets go.
#[test]
fn another_end_with_a_smaller_mtu_leaves_packets_over() {
    let lan = lan(0);
    lan.host.ip("link add out type veth peer name outp");
    lan.host.ip("link set out up");
    lan.host.ip("link set outp up mtu 70");
    add_backends(&lan, "out");
    let sent = send(&lan.vm_socket(), BURST);
    assert_lost(&lan.tool(), sent, sent, "queue_full", None);
}

/// The device divides them, and drops each segment.
#[test]
fn a_packet_of_several_segments_is_lost_once() {
    let lan = lan(0);
    let mut tap = Tap::with_short_queue(&lan.host, "tap0", None).expect("its own");
    add_backends(&lan, "tap0");
    let vm = lan.vm_socket();
    let mut sent = send(&vm, BURST);
    let arrived_before = 20;
    for _ in 0..7 {
        send_together(&vm, ANYWHERE);
    }
    sent[0] += 7;
    for which in [0, 1] {
        row(&lan.tool(), PORTS[which], sent[which]);
    }
    let arrived = read_all(&mut tap);
    assert_eq!(arrived[0] + arrived[1], arrived_before);
    let lost = minus(sent, arrived);
    assert_lost(&lan.tool(), sent, lost, "queue_full", Some("FULL_RING"));
}

/// Those of the host itself, of an interface without a ledger, and of another set of rules.
#[test]
fn packets_of_others_are_not_counted() {
    let mut lan = lan(0);
    let _tap = Tap::with_short_queue(&lan.host, "tap0", None);
    lan.host.ip("addr add 10.9.9.1/24 dev tap0");
    lan.host
        .ip("neigh add 10.9.9.2 lladdr 02:42:ac:11:00:02 dev tap0");
    add_backends(&lan, "tap0");
    let none = send(&lan.vm_socket(), 10);
    let own = socket(&lan.host, "10.9.9.1:0");
    for _ in 0..BURST {
        own.send_to(&[0; 64], "10.9.9.2:7999").expect("it is sent");
    }
    assert_lost(&lan.tool(), none, [0; 2], "other", None);

    lan.host.veth("lan1", &lan.vm, "eth1");
    lan.vm.ip("addr add 192.168.123.10/24 dev eth1");
    lan.vm.ip("route add 55.0.0.0/8 via 192.168.123.1 dev eth1");
    let mac = fixture::lan::mac(&lan.host, "lan1");
    lan.vm
        .ip(&format!("neigh add 192.168.123.1 lladdr {mac} dev eth1"));
    let vm1 = socket(&lan.vm, "192.168.123.10:0");
    let first = std::mem::replace(&mut lan.pins, Pins::new());
    lan.tool().ok("attach lan1 --mode tc");
    add_backends(&lan, "tap0");
    for _ in 0..BURST {
        vm1.send_to(&[0; 64], ("55.1.1.1", PORTS[0])).expect("sent");
    }
    let lost = [BURST, 0];
    assert_lost(&lan.tool(), lost, lost, "queue_full", Some("FULL_RING"));
    let first = Tool {
        ns: &lan.host,
        pins: &first,
    };
    assert_lost(&first, none, [0; 2], "other", None);

    lan.tool().ok("detach lan1 --keep-rules");
    lan.tool().ok("attach lan1 --mode tc --no-ledger");
    for _ in 0..BURST {
        vm1.send_to(&[0; 64], ("55.1.1.1", PORTS[0])).expect("sent");
    }
    let row = row(&lan.tool(), PORTS[0], 2 * BURST);
    assert_eq!(row["delivered"], Value::Null, "{row}");
    assert_eq!(row["failures"], Value::Null, "{row}");
}

/// A socket that gets a copy of all that devices send, and has room for nearly none of it.
fn full_packet_socket(lan: &Lan) -> OwnedFd {
    let open = || {
        let all = SockProtocol::EthAll;
        nix::sys::socket::socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), all)
    };
    let socket = lan.host.enter(open).expect("a packet socket");
    setsockopt(&socket, RcvBuf, &0).expect("a small buffer");
    socket
}

#[test]
fn copies_for_packet_sockets_and_test_runs_are_not_counted() {
    let lan = lan(0);
    let mut tap = Tap::new(&lan.host, "tap0", false);
    add_backends(&lan, "tap0");
    let _full = full_packet_socket(&lan);
    let sent = send(&lan.vm_socket(), BURST);
    assert_lost(&lan.tool(), sent, [0; 2], "other", None);
    assert_eq!(read_all(&mut tap), sent);

    let program = Loaded::on(&lan.tool().json("status"), "lan");
    let ifindex = lan.host.ifindex("lan");
    let frame = Frame {
        dport: PORTS[0],
        ..Frame::default()
    };
    lan.host.enter(|| {
        for _ in 0..10 {
            assert_eq!(program.run_at(ifindex, &frame.bytes()).0, XDP_REDIRECT);
            assert_eq!(program.run(&frame.bytes()).0, XDP_REDIRECT);
        }
    });
    let sent = [sent[0] + 20, sent[1]];
    assert_lost(&lan.tool(), sent, [0; 2], "other", None);
}

#[test]
fn the_ledger_behind_the_hook_ends_with_its_last_interface() {
    let lan = with_server();
    let tool = lan.tool();
    lan.host.ip("link add other type veth peer name otherp");
    tool.ok("attach other --mode skb");
    let runs = |program: &str| {
        let mut left = lan.pins.left().into_iter();
        left.any(|path| path.ends_with(program))
    };
    assert!(runs("ledger-tc/skb_dropped") && runs("ledger/redirect_err"));
    tool.ok("detach lan --keep-rules");
    assert!(!runs("ledger-tc/skb_dropped") && runs("ledger/redirect_err"));
    tool.ok("attach lan --mode tc");
    lan.servers[0].ip("link set eth0 down");
    let sent = send(&lan.vm_socket(), BURST);
    assert_lost(&tool, sent, sent, "link_down", None);
    tool.ok("detach other");
    assert!(runs("ledger-tc/skb_dropped") && !runs("ledger/redirect_err"));
}
