//! Packets that are too long for a backend's device: their senders are told what would fit, and send less.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::fixture::packet::{Checksum, Frame};
use crate::fixture::routed::{Between, Routed as Bed, V4, V6};
use crate::fixture::run::{Loaded, XDP_DROP, XDP_PASS, XDP_TX};
use crate::fixture::{Ns, Pins, Tool, guest};
use nix::sys::socket::{getsockopt, sockopt};

/// Of the way to the server. IPv6 has no less than 1,280.
const NARROW: usize = 1300;

impl Bed {
    /// Where wan is narrow and nothing else is. The server has the address that clients ask, too.
    fn narrow(mode: &str) -> Bed {
        let bed = Bed::new(Between::Veth);
        bed.host.ip(&format!("link set wan mtu {NARROW}"));
        if mode == "native" {
            bed.server.exec("ethtool -K eth0 gro on");
            // So that what the host sends back natively arrives.
            bed.client.exec("ethtool -K eth0 gro on");
        } else if mode == "skb" {
            bed.client.exec("ethtool -K eth0 tso off gso off");
        }
        let tool = bed.tool();
        tool.ok(&format!("attach lan --mode {mode}"));
        for family in [V4, V6] {
            let (server, service) = (family.server, family.elsewhere);
            let service = format!("{service}/{}", family.host_length);
            bed.server.ip(&format!("addr add {service} dev lo"));
            for proto in ["tcp", "udp"] {
                let rule = format!("rule add --proto {proto} --server {server} --keep-ip");
                tool.ok(&rule);
            }
        }
        bed
    }
}

fn on_each_bed(test: impl Fn(&Bed, &str)) {
    for mode in guest::modes() {
        if mode == "native" && !guest::is_kernel(6, 3) {
            continue; // the kernel does not say whether answers arrive, so there are none
        }
        test(&Bed::narrow(mode), mode);
    }
}

/// As all TCP senders do, the client takes its own MTU for that of the path until it is told.
#[test]
fn a_tcp_sender_is_told_and_all_of_its_data_arrives() {
    on_each_bed(|bed, mode| {
        for family in [V4, V6] {
            let service = SocketAddr::new(family.elsewhere.parse().unwrap(), 7999);
            let listener = bed.server.enter(|| TcpListener::bind(service)).unwrap();
            let received = thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("a client");
                stream
                    .set_read_timeout(Some(Duration::from_secs(30)))
                    .unwrap();
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).map(|_| bytes)
            });
            let told = bed.counted("too_big_sent");
            let sent: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
            let mut client = bed.client.enter(|| TcpStream::connect(service)).unwrap();
            client
                .set_write_timeout(Some(Duration::from_secs(30)))
                .unwrap();
            client.write_all(&sent).expect("all is taken");
            drop(client);
            let received = received.join().unwrap().expect("all arrives");
            assert!(received == sent, "{mode} {service}");
            assert!(bed.counted("too_big_sent") > told, "{mode} {service}");
        }
        assert_eq!(bed.counted("too_long"), 0, "{mode}");
    });
}

#[test]
fn a_udp_sender_is_told_what_fits() {
    on_each_bed(|bed, mode| {
        for family in [V4, V6] {
            let service = SocketAddr::new(family.elsewhere.parse().unwrap(), 7999);
            let server = bed.server.enter(|| UdpSocket::bind(service)).unwrap();
            server
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            let own: IpAddr = family.client.parse().unwrap();
            let client = bed.client.enter(|| UdpSocket::bind((own, 0))).unwrap();
            client.connect(service).unwrap();

            client.send(&[1; 1400]).expect("the first one is sent");
            let refused = (0..50).find_map(|_| {
                thread::sleep(guest::patience(20));
                client.send(&[2; 1400]).err()
            });
            // EMSGSIZE
            let refused = refused.expect("the client is told");
            assert_eq!(refused.raw_os_error(), Some(90), "{mode} {service}");
            if service.is_ipv4() {
                let mtu = getsockopt(&client, sockopt::IpMtu).unwrap();
                assert_eq!(mtu as usize, NARROW, "{mode}");
            }
            let headers = if service.is_ipv4() { 28 } else { 48 };
            let most = vec![3; NARROW - headers];
            client.send(&most).expect("it fits");
            let mut buffer = [0; 2048];
            let len = server.recv(&mut buffer).expect("it arrives");
            assert!(buffer[..len] == most, "{mode} {service}");
        }
    });
}

/// Whoever makes many packets that are too long does not get as many answers.
#[test]
fn answers_are_limited_and_what_gets_none_is_dropped() {
    let bed = Bed::narrow("skb");
    let program = Loaded::on(&bed.tool().json("status"), "lan");
    let packet = Frame {
        payload: vec![0; 1400],
        checksum: Checksum::Zero,
        ..Frame::default()
    };
    let run = |_: &u32| program.run(&packet.bytes()).0;
    let answered = bed.host.enter(|| {
        let other = (0..100_000).find(|n| run(n) != XDP_TX);
        other.expect("there are not as many answers")
    });
    assert!(answered >= 50, "{answered}");
    assert_eq!(bed.counted("too_big_sent"), u64::from(answered));
    assert_eq!(bed.counted("too_long_dropped"), 1);
    let actions = &bed.tool().json("stats")["interfaces"][0]["actions"];
    assert_eq!(actions["tx"]["packets"], answered);
    assert_eq!(actions["drop"]["packets"], 1);
}

/// A router would divide it; this host still may.
#[test]
fn a_packet_that_may_be_divided_passes() {
    let bed = Bed::narrow("skb");
    let program = Loaded::on(&bed.tool().json("status"), "lan");
    let packet = Frame {
        payload: vec![0; 1400],
        fragment: 0,
        ..Frame::default()
    };
    let out = bed.host.enter(|| program.run(&packet.bytes()));
    assert_eq!(out, (XDP_PASS, packet.bytes()));
    assert_eq!(bed.counted("too_long"), 1);
}

/// Natively a veth takes what is sent back only if its peer polls. So it is not tried, and nothing is lost.
#[test]
fn a_sender_that_would_not_get_the_answer_is_not_sent_one() {
    let (host, client, pins) = (Ns::new("host"), Ns::new("client"), Pins::new());
    host.veth("lan", &client, "eth0");
    host.ip("link add wan type veth peer name server");
    host.ip(&format!("link set wan mtu {NARROW} up"));
    host.ip("link set server up");
    let tool = Tool {
        ns: &host,
        pins: &pins,
    };
    tool.ok("attach lan --mode native");
    tool.ok("rule add --server 172.17.0.2 --mac 02:42:ac:11:00:02 --dev wan");
    let program = Loaded::on(&tool.json("status"), "lan");
    let packet = Frame {
        payload: vec![0; 1400],
        ..Frame::default()
    };
    let out = host.enter(|| program.run(&packet.bytes()));
    assert_eq!(out, (XDP_PASS, packet.bytes()));
}

/// The rule says so, for redirects and for what is forwarded as it is.
#[test]
fn a_rule_says_what_becomes_of_packets_that_are_too_long() {
    let bed = Bed::narrow("skb");
    let program = Loaded::on(&bed.tool().json("status"), "lan");
    let packet = Frame {
        payload: vec![0; 1400],
        dport: 1,
        ..Frame::default()
    };
    let actions = [
        "--server 172.17.0.2 --mac 02:42:ac:11:00:02 --dev wan",
        "--forward wan",
    ];
    for action in actions {
        for (too_long, verdict) in [
            ("", XDP_TX),
            ("--too-long pass", XDP_PASS),
            ("--too-long drop", XDP_DROP),
            ("--too-long icmp", XDP_TX),
        ] {
            bed.tool()
                .ok(&format!("rule add --port 1 {action} {too_long}"));
            let out = bed.host.enter(|| program.run(&packet.bytes()));
            assert_eq!(out.0, verdict, "{action} {too_long}");
            bed.tool().ok("rule del --port 1");
        }
    }
}

/// An error about an error could start an endless exchange of them.
#[test]
fn errors_of_icmp_are_not_answered() {
    let bed = Bed::narrow("skb");
    bed.tool().ok(
        "rule add --proto icmp --server 172.17.0.2 --mac 02:42:ac:11:00:02 --dev wan --keep-ip",
    );
    let program = Loaded::on(&bed.tool().json("status"), "lan");
    for (kind, verdict) in [
        (8, XDP_TX),
        (0, XDP_TX),
        (3, XDP_PASS),
        (11, XDP_PASS),
        (12, XDP_PASS),
    ] {
        let mut packet = Frame {
            proto: 1,
            payload: vec![0; 1400],
            ..Frame::default()
        }
        .bytes();
        packet[34] = kind;
        let out = bed.host.enter(|| program.run(&packet));
        assert_eq!(out.0, verdict, "type {kind}");
    }
}
