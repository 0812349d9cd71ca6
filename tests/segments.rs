//! Frames of several segments at the tc hook: those of VMs, those of more than 65,535 bytes, and those of
//! conversations whose other way is XDP's.

use std::net::IpAddr;

use crate::fixture::lan::socket;
use crate::fixture::model::{Addrs, octets};
use crate::fixture::packet::{Checksum, ETHERNET, TCP, UDP, assert_checksums, sum};
use crate::fixture::routed::{Between, Family, Routed, V4, V6};
use crate::fixture::tap::Tap;
use crate::fixture::{Host, Ns};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use xdpredir::host::netlink;

const FAMILIES: [Family; 2] = [V4, V6];
const SERVER_MAC: [u8; 6] = [2, 0x42, 0xac, 0x11, 0, 2];

/// Bytes of a segment, without headers.
const SEGMENT: usize = 1000;

/// A frame of UDP or TCP with a partial checksum.
fn frame(addrs: Addrs, proto: u8, payload: &[u8]) -> Vec<u8> {
    let ports = [40000u16, 7999].map(u16::to_be_bytes).concat();
    let (rest, check_at) = match proto {
        TCP => (
            vec![0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0x20, 0, 0, 0, 0, 0],
            16,
        ),
        _ => (
            [8 + payload.len() as u16, 0].map(u16::to_be_bytes).concat(),
            6,
        ),
    };
    let mut segment = [&ports[..], &rest, payload].concat();
    let partial = sum(&addrs.pseudo_header(proto, segment.len()));
    segment[check_at..check_at + 2].copy_from_slice(&partial.to_be_bytes());
    let (kind, header) = match addrs.src {
        IpAddr::V4(_) => {
            let length = 20 + segment.len() as u16;
            let words = [0x4500, length, 0x1234, 0x4000, 0x4000 | u16::from(proto), 0];
            let mut ip = words.map(u16::to_be_bytes).concat();
            ip.extend([octets(addrs.src), octets(addrs.dst)].concat());
            let check = !sum(&ip);
            ip[10..12].copy_from_slice(&check.to_be_bytes());
            ([8, 0], ip)
        }
        IpAddr::V6(_) => {
            let words = [0x6000, 0, segment.len() as u16, u16::from(proto) << 8 | 64];
            let mut ip = words.map(u16::to_be_bytes).concat();
            ip.extend([octets(addrs.src), octets(addrs.dst)].concat());
            ([0x86, 0xdd], ip)
        }
    };
    let macs = [2, 0, 0, 0, 0, 0xee, 2, 0, 0, 0, 0, 0xdd];
    [&macs[..], &kind, &header, &segment].concat()
}

/// Where the data of a frame begins.
fn headers(frame: &[u8]) -> usize {
    let (ip, proto) = match frame[ETHERNET] >> 4 {
        4 => (20, frame[ETHERNET + 9]),
        _ => (40, frame[ETHERNET + 6]),
    };
    ETHERNET + ip + if proto == TCP { 20 } else { 8 }
}

fn addrs(family: &Family) -> [Addrs; 2] {
    let parse = |text: &str| text.parse().expect("an address");
    let src = parse(family.client);
    [family.elsewhere, family.server].map(|dst| Addrs {
        src,
        dst: parse(dst),
    })
}

/// A VM hands over ten segments as one frame. A VM that takes such frames gets one, and others ten.
#[test]
fn what_a_vm_hands_over_together_reaches_another_vm_together_or_one_by_one() {
    for takes_segments in [true, false] {
        let host = Host::new();
        let mut from = Tap::new(&host.ns, "vm0", true);
        let mut to = match takes_segments {
            true => Tap::for_segments(&host.ns, "vm1"),
            false => Tap::new(&host.ns, "vm1", false),
        };
        host.tool().ok("attach vm0 --mode tc");
        let payload: Vec<u8> = (0..10 * SEGMENT).map(|i| (i % 251) as u8).collect();
        for family in &FAMILIES {
            let [asked, server] = addrs(family);
            for (proto, name) in [(TCP, "tcp"), (UDP, "udp")] {
                host.tool().ok(&format!(
                    "rule add --dst {} --proto {name} --port 7999 --server {} --dev vm1 --mac 02:42:ac:11:00:02",
                    asked.dst, server.dst
                ));
                from.write_segments(&frame(asked, proto, &payload), SEGMENT as u16);
                let mut got: Vec<u8> = Vec::new();
                let mut frames = 0;
                while got.len() < payload.len() {
                    let read = to.read_whole().expect("all arrives");
                    if read.frame[..6] != SERVER_MAC {
                        continue;
                    }
                    let what = format!("{name} to {}: {:02x?}", server.dst, &read.frame[..54]);
                    assert_checksums(&read.frame);
                    let end = octets(server.dst);
                    assert!(read.frame.windows(end.len()).any(|at| at == end), "{what}");
                    let sizes = [0, SEGMENT].map(|size| usize::from(read.segment_size) == size);
                    assert!(sizes[usize::from(takes_segments)], "{what}");
                    got.extend(&read.frame[headers(&read.frame)..]);
                    frames += 1;
                }
                assert!(got == payload, "{name}");
                assert_eq!(frames, if takes_segments { 1 } else { 10 }, "{name}");
                // One that is a segment alone.
                from.write(&frame(asked, proto, b"hello ebpf"), Checksum::Partial);
                let read = to.read_whole().expect("it arrives");
                assert_checksums(&read.frame);
                assert!(read.frame.ends_with(b"hello ebpf"), "{name}");
            }
        }
    }
}

/// Lets a device take frames of that size (BIG TCP).
fn set_largest(ns: &Ns, device: &str, size: u32) {
    ns.ip(&format!("link set {device} gso_max_size {size}"));
    let index = ns.ifindex(device);
    ns.enter(|| {
        let mut request = LinkMessage::default();
        request.header.index = index;
        request.attributes.push(LinkAttribute::GsoIpv4MaxSize(size));
        netlink::change(RouteNetlinkMessage::SetLink(request)).expect("Linux 6.3 or later");
    });
}

/// No IP header can say how long such a frame is.
#[test]
fn frames_of_more_than_65535_bytes_are_redirected_both_ways() {
    const MEGABYTES: usize = 32 << 20;
    for family in &FAMILIES {
        let bed = Routed::new(Between::Veth);
        for (ns, device) in [
            (&bed.client, "eth0"),
            (&bed.server, "eth0"),
            (&bed.host, "lan"),
            (&bed.host, "wan"),
        ] {
            set_largest(ns, device, 200_000);
        }
        bed.tool().ok("attach lan --mode tc");
        serve(&bed, family, "");
        bed.sends_there_and_back(family, MEGABYTES);
        for (interface, outcome) in [("lan", "redirected"), ("wan", "answered")] {
            let (packets, bytes) = bed.counted_at(interface, outcome);
            // Acknowledgements and those while the connection becomes fast are shorter.
            assert!(
                bytes / packets > 40_000,
                "{interface}: {packets} packets of {bytes} bytes"
            );
        }
        for outcome in ["malformed", "too_long", "too_big_sent"] {
            assert_eq!(bed.counted(outcome), 0, "{outcome}");
        }
    }
}

/// Their sender is told what fits, and then all arrives.
#[test]
fn segments_of_such_frames_that_are_too_long_are_answered_with_the_mtu() {
    for family in &FAMILIES {
        let bed = Routed::new(Between::Veth);
        set_largest(&bed.client, "eth0", 200_000);
        set_largest(&bed.host, "lan", 200_000);
        bed.tool().ok("attach lan --mode tc");
        serve(&bed, family, "");
        bed.host.ip("link set wan mtu 1300");
        bed.sends_there_and_back(family, 8 << 20);
        assert!(bed.counted("too_big_sent") > 0);
        assert_eq!(bed.counted("malformed"), 0);
    }
}

fn serve(bed: &Routed, family: &Family, words: &str) {
    let Family {
        elsewhere, server, ..
    } = family;
    for proto in ["udp", "tcp"] {
        bed.tool().ok(&format!(
            "rule add --dst {elsewhere} --proto {proto} --port 80 --reply nat --server {server} --to-port 8080 {words}"
        ));
    }
}

/// Requests arrive at one hook and answers at the other.
#[test]
fn xdp_one_way_and_tc_the_other_way_are_one_conversation() {
    for [requests, answers] in [
        ["native", "tc"],
        ["tc", "native"],
        ["skb", "tc"],
        ["tc", "skb"],
    ] {
        let bed = Routed::new(Between::Veth);
        for (ns, mode) in [(&bed.client, answers), (&bed.server, requests)] {
            if mode == "native" {
                // A veth takes natively redirected frames only if its peer polls.
                ns.exec("ethtool -K eth0 gro on");
            }
        }
        for (ns, mode) in [(&bed.client, requests), (&bed.server, answers)] {
            if mode == "skb" {
                ns.exec("ethtool -K eth0 tso off gso off");
            }
        }
        bed.tool().ok(&format!("attach lan --mode {requests}"));
        bed.tool().ok(&format!("attach wan --mode {answers}"));
        for (family, any) in FAMILIES.iter().zip(["0.0.0.0:0", "[::]:0"]) {
            serve(&bed, family, "");
            bed.sends_there_and_back(family, 1 << 20);
            let (server, client) = (socket(&bed.server, "[::]:8080"), socket(&bed.client, any));
            let mut buffer = [0; 100];
            client
                .send_to(b"hello", (family.elsewhere, 80))
                .expect("sent");
            let (_, from) = server.recv_from(&mut buffer).expect("it arrives");
            server.send_to(b"answer", from).expect("sent");
            let (size, from) = client.recv_from(&mut buffer).expect("the answer arrives");
            assert_eq!(&buffer[..size], b"answer");
            assert_eq!(from.ip().to_string(), family.elsewhere);
        }
        let what = format!("{requests}, {answers}");
        assert!(bed.counted_at("lan", "redirected").0 > 0, "{what}");
        assert!(bed.counted_at("wan", "answered").0 > 0, "{what}");
        assert_eq!(bed.counted("answer_passed"), 0, "{what}");
    }
}
