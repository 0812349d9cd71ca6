//! A frame on one line, as terse as tcpdump's.

use std::net::IpAddr;
use std::time::SystemTime;

use crate::model::{Ip, Packet};

/// The time of day, in UTC and with microseconds.
pub fn time_of_day(time: SystemTime) -> String {
    let whole = humantime::format_rfc3339_micros(time).to_string();
    let (_, time) = whole.split_once('T').unwrap_or_default();
    time.into()
}

/// The line of a frame of which these are the first bytes, and which has so many. Nothing of what the frame has
/// stands in it as it is, but numbers.
pub fn frame_line(bytes: &[u8], len: usize) -> String {
    match Packet::read_part(bytes, len) {
        Some(packet) => line(&packet),
        None => format!("no Ethernet header, length {len}"),
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same on several lines, sixteen bytes each.
pub fn hex_lines(bytes: &[u8]) -> String {
    let pairs = |row: &[u8]| row.iter().map(|byte| format!("{byte:02x} ")).collect();
    let rows = bytes
        .chunks(16)
        .map(pairs)
        .map(|row: String| row.trim_end().to_string() + "\n");
    rows.collect()
}

fn line(packet: &Packet) -> String {
    let tags = packet.vlans.iter().map(|id| format!("vlan {id}, "));
    let tags: String = tags.collect();
    match &packet.ip {
        Some(ip) => format!("{tags}{}, length {}", ip_line(ip), ip.payload),
        None => format!("{tags}{}, length {}", other_line(packet), packet.len),
    }
}

/// A frame without an IP packet that can be read.
fn other_line(packet: &Packet) -> String {
    let (src, dst) = (packet.src_mac, packet.dst_mac);
    let what = match packet.ether_type {
        // Below 0x600 it is a length (IEEE 802.3).
        length @ 0..0x600 => format!("802.3 length {length}"),
        0x0800 => "IP, not to be read".into(),
        0x0806 => "ARP".into(),
        0x8035 => "RARP".into(),
        0x8100 | 0x88a8 => "a tag that is cut off".into(),
        0x86dd => "IP6, not to be read".into(),
        0x8863 => "PPPoE discovery".into(),
        0x8864 => "PPPoE".into(),
        0x888e => "EAPOL".into(),
        0x88cc => "LLDP".into(),
        other => format!("ethertype 0x{other:04x}"),
    };
    format!("{src} > {dst}: {what}")
}

fn ip_line(ip: &Ip) -> String {
    let version = match ip.dst {
        IpAddr::V4(_) => "IP",
        IpAddr::V6(_) => "IP6",
    };
    let from = end(ip.src, ip.ports.map(|ports| ports.src));
    let to = end(ip.dst, ip.ports.map(|ports| ports.dst));
    let fragment = match (ip.later_fragment, ip.fragment) {
        (true, _) => ", later fragment",
        (false, true) => ", first fragment",
        (false, false) => "",
    };
    format!("{version} {from} > {to}: {}{fragment}", segment(ip))
}

fn end(addr: IpAddr, port: Option<u16>) -> String {
    match port {
        Some(port) => format!("{addr}.{port}"),
        None => addr.to_string(),
    }
}

fn segment(ip: &Ip) -> String {
    match ip.protocol().as_str() {
        "tcp" if !ip.tcp_flags.is_empty() => format!("TCP [{}]", flags(&ip.tcp_flags)),
        "icmp" => icmp(ip),
        name @ ("udp" | "tcp" | "sctp") => name.to_uppercase(),
        number => format!("protocol {number}"),
    }
}

/// As tcpdump writes them: a letter for each, and a dot for `ack`.
fn flags(set: &[&'static str]) -> String {
    let letters = [
        ("fin", 'F'),
        ("syn", 'S'),
        ("rst", 'R'),
        ("psh", 'P'),
        ("urg", 'U'),
        ("ece", 'E'),
        ("cwr", 'W'),
        ("ack", '.'),
    ];
    let shown = letters.iter().filter(|(name, _)| set.contains(name));
    shown.map(|(_, letter)| letter).collect()
}

/// The messages that most packets have, by name (RFC 792, RFC 4443, RFC 4861); others by number.
fn icmp(ip: &Ip) -> String {
    let (protocol, echo) = match ip.dst {
        IpAddr::V4(_) => ("ICMP", [8, 0]),
        IpAddr::V6(_) => ("ICMP6", [128, 129]),
    };
    let name = match (ip.icmp_type, ip.dst) {
        (None, _) => return protocol.into(),
        (Some(kind), _) if kind == echo[0] => "echo request",
        (Some(kind), _) if kind == echo[1] => "echo reply",
        (Some(3), IpAddr::V4(_)) | (Some(1), IpAddr::V6(_)) => "unreachable",
        (Some(11), IpAddr::V4(_)) | (Some(3), IpAddr::V6(_)) => "time exceeded",
        (Some(2), IpAddr::V6(_)) => "packet too big",
        (Some(135), IpAddr::V6(_)) => "neighbour solicitation",
        (Some(136), IpAddr::V6(_)) => "neighbour advertisement",
        (Some(kind), _) => return format!("{protocol} type {kind}"),
    };
    format!("{protocol} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    use etherparse::{Ethernet2Header, IpNumber, PacketBuilder, PacketBuilderStep};

    const V4: [[u8; 4]; 2] = [[10, 0, 0, 1], [10, 0, 0, 2]];
    const V6: [[u8; 16]; 2] = [
        [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
    ];
    const MACS: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

    fn built(build: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut frame = Vec::new();
        build(&mut frame);
        frame_line(&frame, frame.len())
    }

    fn link() -> PacketBuilderStep<Ethernet2Header> {
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
    }

    #[test]
    fn a_packet_has_its_ends_its_protocol_and_its_length() {
        let udp = |frame: &mut Vec<u8>| {
            let packet = link().ipv4(V4[0], V4[1], 64).udp(5353, 53);
            packet.write(frame, &[0; 40]).expect("a packet");
        };
        assert_eq!(built(udp), "IP 10.0.0.1.5353 > 10.0.0.2.53: UDP, length 40");
        let tcp = |frame: &mut Vec<u8>| {
            let packet = link()
                .ipv6(V6[0], V6[1], 64)
                .tcp(4000, 80, 1, 9)
                .syn()
                .ack(1);
            packet.write(frame, &[]).expect("a packet");
        };
        assert_eq!(
            built(tcp),
            "IP6 fd00::1.4000 > fd00::2.80: TCP [S.], length 0"
        );
        let echo = |frame: &mut Vec<u8>| {
            let packet = link().ipv4(V4[0], V4[1], 64).icmpv4_echo_request(1, 1);
            packet.write(frame, &[0; 56]).expect("a packet");
        };
        assert_eq!(
            built(echo),
            "IP 10.0.0.1 > 10.0.0.2: ICMP echo request, length 64"
        );
        let gre = |frame: &mut Vec<u8>| {
            let packet = link().ipv4(V4[0], V4[1], 64);
            packet
                .write(frame, IpNumber(47), &[0; 4])
                .expect("a packet");
        };
        assert_eq!(built(gre), "IP 10.0.0.1 > 10.0.0.2: protocol 47, length 4");
    }

    #[test]
    fn the_time_of_day_is_that_of_utc() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(90_061_000_001);
        assert_eq!(time_of_day(time), "01:01:01.000001Z");
    }

    #[test]
    fn bytes_are_digits() {
        assert_eq!(hex(&[0, 0xab]), "00ab");
        let rows = "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\n07\n";
        assert_eq!(hex_lines(&[[0; 16].as_slice(), &[7]].concat()), rows);
    }

    #[test]
    fn tags_come_first() {
        let tagged = |frame: &mut Vec<u8>| {
            let vlan = |id| etherparse::VlanId::try_new(id).expect("an identifier");
            let packet = link()
                .double_vlan(vlan(5), vlan(6))
                .ipv4(V4[0], V4[1], 64)
                .udp(1, 2);
            packet.write(frame, &[]).expect("a packet");
        };
        let line = "vlan 5, vlan 6, IP 10.0.0.1.1 > 10.0.0.2.2: UDP, length 0";
        assert_eq!(built(tagged), line);
    }

    #[test]
    fn what_is_no_packet_has_its_mac_addresses() {
        let frame = |ether_type: [u8; 2], rest: &[u8]| {
            built(|frame| frame.extend([&MACS[..], &ether_type, rest].concat()))
        };
        let ends = "02:00:00:00:00:01 > 02:00:00:00:00:02";
        assert_eq!(frame([8, 6], &[0; 46]), format!("{ends}: ARP, length 60"));
        assert_eq!(
            frame([8, 0], &[0x45]),
            format!("{ends}: IP, not to be read, length 15")
        );
        assert_eq!(
            frame([0x12, 0x34], &[]),
            format!("{ends}: ethertype 0x1234, length 14")
        );
        assert_eq!(
            frame([0, 9], &[]),
            format!("{ends}: 802.3 length 9, length 14")
        );
        assert_eq!(
            frame([0x81, 0], &[0]),
            format!("{ends}: a tag that is cut off, length 15")
        );
        assert_eq!(frame_line(&MACS, 12), "no Ethernet header, length 12");
    }

    #[test]
    fn what_was_not_captured_of_a_frame_is_not_missed() {
        let mut frame = Vec::new();
        let packet = link().ipv4(V4[0], V4[1], 64).udp(5353, 53);
        packet.write(&mut frame, &[0; 400]).expect("a packet");
        let line = "IP 10.0.0.1.5353 > 10.0.0.2.53: UDP, length 400";
        assert_eq!(frame_line(&frame[..64], frame.len()), line);
        // It is cut off on the way, and not by the capture.
        let line = frame_line(&frame[..64], 64);
        assert!(line.ends_with("IP, not to be read, length 64"), "{line}");
    }

    #[test]
    fn no_frame_is_too_short_or_too_odd_for_a_line() {
        let mut frame = Vec::new();
        let packet = link().ipv6(V6[0], V6[1], 64).tcp(4000, 80, 1, 9).psh();
        packet.write(&mut frame, &[0; 9]).expect("a packet");
        for end in 0..frame.len() {
            for byte in [0, 0x2c, 0x81, 0xff] {
                let mut damaged = frame.clone();
                damaged[end] = byte;
                assert!(frame_line(&damaged, damaged.len()).is_ascii());
                assert!(frame_line(&frame[..end], end).is_ascii());
                assert!(frame_line(&damaged[..end], frame.len()).is_ascii());
            }
        }
    }
}
