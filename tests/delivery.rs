//! Packets over real devices: every kind of sender, mode and receiver, and every length. What counts
//! is what the receiver gets, byte for byte, with checksums that it accepts.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use crate::fixture::guest;
use crate::fixture::packet::{Checksum, ETHERNET, Frame, TCP, UDP, assert_checksums};
use crate::fixture::tap::Tap;
use crate::fixture::{Ns, Pins, Tool};

/// All payloads that fit an MTU of 1500 bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 0..=1472;
const SERVER: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
const SERVER_MAC: &str = "02:42:ac:11:00:02";
/// A payload that differs from length to length.
fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + len) as u8).collect()
}

/// The host between a sender and a receiver.
struct Bed {
    host: Ns,
    pins: Pins,
}

impl Bed {
    fn new() -> Self {
        Bed {
            host: Ns::new("host"),
            pins: Pins::new(),
        }
    }

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.host,
            pins: &self.pins,
        }
    }

    fn start(&self, ingress: &str, mode: &str, egress: &str) {
        let tool = self.tool();
        tool.ok(&format!("attach {ingress} --mode {mode}"));
        for proto in ["udp", "tcp"] {
            tool.ok(&format!(
                "rule add --proto {proto} --server {SERVER} --mac {SERVER_MAC} --dev {egress}"
            ));
        }
    }

    fn redirected(&self) -> (u64, u64) {
        let stats = self.tool().json("stats");
        let counter = &stats["interfaces"][0]["actions"]["redirect"];
        (
            counter["packets"].as_u64().unwrap(),
            counter["bytes"].as_u64().unwrap(),
        )
    }
}

/// A namespace whose sockets send through `lan` of the host to anywhere.
fn sender(bed: &Bed, offload: bool) -> Ns {
    let vm = Ns::new("vm");
    bed.host.veth("lan", &vm, "eth0");
    bed.host.ip("addr add 192.168.122.1/24 dev lan");
    vm.ip("addr add 192.168.122.10/24 dev eth0");
    vm.ip("route add default via 192.168.122.1");
    if !offload {
        vm.exec("ethtool -K eth0 tx off");
    }
    vm
}

/// A namespace behind `wan` of the host, with a socket on port 7999.
fn receiver(bed: &Bed, mode: &str) -> (Ns, UdpSocket) {
    let server = Ns::new("server");
    bed.host.veth("wan", &server, "eth0");
    server.ip(&format!("link set eth0 address {SERVER_MAC}"));
    server.ip(&format!("addr add {SERVER}/16 dev eth0"));
    if mode == "native" {
        // A veth takes natively redirected frames only if its peer polls.
        server.exec("ethtool -K eth0 gro on");
    }
    let socket = server
        .enter(|| UdpSocket::bind((SERVER, 7999)))
        .expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    (server, socket)
}

/// Sends a datagram of each length from a socket; `check` sees what arrives.
fn send_all(vm: &Ns, mut check: impl FnMut(usize, &[u8])) {
    let socket = vm
        .enter(|| UdpSocket::bind("192.168.122.10:40000"))
        .expect("a socket");
    for len in LENGTHS {
        let payload = payload(len);
        socket
            .send_to(&payload, "11.22.33.44:7999")
            .expect("it is sent");
        check(len, &payload);
    }
}

#[test]
fn datagrams_of_every_length_reach_a_container() {
    for (mode, _kernel) in guest::modes_and_kernels() {
        for offload in [true, false] {
            let bed = Bed::new();
            let vm = sender(&bed, offload);
            let (server, socket) = receiver(&bed, mode);
            bed.start("lan", mode, "wan");
            let mut buffer = [0; 2048];
            let mut bytes = 0;
            send_all(&vm, |len, sent| {
                let got = socket.recv(&mut buffer);
                assert_eq!(
                    got.ok(),
                    Some(len),
                    "{mode}, offload {offload}: {len} bytes"
                );
                assert_eq!(&buffer[..len], sent);
                bytes += (ETHERNET + 28 + len) as u64;
            });
            assert_eq!(bed.redirected(), (LENGTHS.count() as u64, bytes));
            assert_eq!(udp_checksum_errors(&server), 0);
        }
    }
}

fn udp_checksum_errors(ns: &Ns) -> u64 {
    let snmp = ns
        .enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))
        .unwrap();
    let mut lines = snmp.lines().filter(|line| line.starts_with("Udp:"));
    let names = lines.next().unwrap().split(' ');
    let values = lines.next().unwrap().split(' ');
    let found = names
        .zip(values)
        .find(|(name, _)| *name == "InCsumErrors")
        .unwrap();
    found.1.parse().unwrap()
}

/// Datagrams that travel as fragments, the later ones without ports.
#[test]
fn fragmented_datagrams_reach_a_container_whole() {
    for (mode, _kernel) in guest::modes_and_kernels() {
        let bed = Bed::new();
        let vm = sender(&bed, true);
        let (server, socket) = receiver(&bed, mode);
        bed.start("lan", mode, "wan");
        let from = vm
            .enter(|| UdpSocket::bind("192.168.122.10:40000"))
            .unwrap();
        let mut buffer = vec![0; 65536];
        for len in [1473, 4000, 20_000, 60_000] {
            from.send_to(&payload(len), "11.22.33.44:7999").unwrap();
            let got = socket.recv(&mut buffer).ok();
            assert_eq!(got, Some(len), "{mode}: {len} bytes");
            assert_eq!(buffer[..len], payload(len));
        }
        assert_eq!(udp_checksum_errors(&server), 0);
    }
}

/// Natively, such frames come in several buffers.
#[test]
fn jumbo_frames_reach_a_container() {
    guest::needs_kernel(6, 3, "native redirects of frames in several buffers");
    for (mode, _kernel) in guest::modes_and_kernels() {
        for offload in [true, false] {
            let bed = Bed::new();
            let vm = sender(&bed, offload);
            let (server, socket) = receiver(&bed, mode);
            for (ns, device) in [
                (&vm, "eth0"),
                (&bed.host, "lan"),
                (&bed.host, "wan"),
                (&server, "eth0"),
            ] {
                ns.ip(&format!("link set {device} mtu 9000"));
            }
            bed.start("lan", mode, "wan");
            let from = vm
                .enter(|| UdpSocket::bind("192.168.122.10:40000"))
                .unwrap();
            let mut buffer = vec![0; 65536];
            let (mut packets, mut bytes) = (0, 0);
            for len in (0..8972).step_by(97).chain([8971, 8972]) {
                from.send_to(&payload(len), "11.22.33.44:7999").unwrap();
                let got = socket.recv(&mut buffer).ok();
                assert_eq!(got, Some(len), "{mode}, offload {offload}: {len} bytes");
                assert_eq!(buffer[..len], payload(len));
                packets += 1;
                bytes += (ETHERNET + 28 + len) as u64;
            }
            assert_eq!(bed.redirected(), (packets, bytes));
            assert_eq!(udp_checksum_errors(&server), 0);
        }
    }
}

#[test]
fn datagrams_of_every_length_reach_a_vm_behind_a_tap() {
    for (mode, _kernel) in guest::modes_and_kernels() {
        for (sends_partial, takes_partial) in
            [(true, true), (true, false), (false, true), (false, false)]
        {
            let bed = Bed::new();
            let vm = sender(&bed, sends_partial);
            let mut tap = Tap::new(&bed.host, "tap0", takes_partial);
            bed.start("lan", mode, "tap0");
            send_all(&vm, |len, sent| {
                let frame = tap
                    .read()
                    .unwrap_or_else(|| panic!("{mode}: {len} bytes never arrived"));
                assert_arrived(
                    &frame,
                    UDP,
                    sent,
                    &format!("{mode} {sends_partial} {takes_partial}"),
                );
            });
        }
    }
}

/// The sender is a VM: partial checksums are flagged in its virtio header; full ones come with short
/// frames padded to Ethernet's 60 bytes, as a NIC delivers them.
#[test]
fn what_a_vm_sends_reaches_a_vm() {
    for (mode, _kernel) in guest::modes_and_kernels() {
        for (sends_partial, takes_partial) in
            [(true, true), (true, false), (false, true), (false, false)]
        {
            let bed = Bed::new();
            let mut from = Tap::new(&bed.host, "tap0", sends_partial);
            let mut to = Tap::new(&bed.host, "tap1", takes_partial);
            bed.start("tap0", mode, "tap1");
            let dmac = bed.host.mac("tap0");
            let checksum = if sends_partial {
                Checksum::Partial
            } else {
                Checksum::Full
            };
            for proto in [UDP, TCP] {
                for len in LENGTHS.filter(|len| proto == UDP || *len <= 1460) {
                    let mut frame = Frame {
                        proto,
                        payload: payload(len),
                        checksum,
                        dmac,
                        ..Frame::default()
                    };
                    if !sends_partial {
                        frame.padding = 60usize.saturating_sub(frame.bytes().len());
                    }
                    from.write(&frame.bytes(), checksum);
                    let got = to
                        .read()
                        .unwrap_or_else(|| panic!("{mode} {proto}: {len} bytes never arrived"));
                    assert_arrived(
                        &got,
                        proto,
                        &frame.payload,
                        &format!("{mode} {sends_partial} {takes_partial}"),
                    );
                }
            }
        }
    }
}

#[track_caller]
fn assert_arrived(frame: &[u8], proto: u8, payload: &[u8], what: &str) {
    assert_eq!(&frame[..6], &[0x02, 0x42, 0xac, 0x11, 0, 2], "{what}");
    assert_eq!(frame[30..34], SERVER.octets(), "{what}");
    assert_checksums(frame);
    let start = ETHERNET + 20 + if proto == UDP { 8 } else { 20 };
    assert_eq!(&frame[start..start + payload.len()], payload, "{what}");
}

/// TCP from a socket: the first segment of a connection, as the receiver's stack takes it.
#[test]
fn a_tcp_connection_attempt_arrives_with_a_right_checksum() {
    for (mode, _kernel) in guest::modes_and_kernels() {
        for offload in [true, false] {
            let bed = Bed::new();
            let vm = sender(&bed, offload);
            let mut tap = Tap::new(&bed.host, "tap0", false);
            bed.start("lan", mode, "tap0");
            let to = "11.22.33.44:7999".parse().unwrap();
            vm.enter(|| std::net::TcpStream::connect_timeout(&to, Duration::from_millis(50)).ok());
            let frame = tap.read().expect("a SYN");
            assert_eq!(frame[23], TCP);
            assert_arrived(&frame, TCP, &[], mode);
        }
    }
}

/// One in 65,536 datagrams has a full checksum that looks like a partial one. All of them arrive.
#[test]
fn no_checksum_value_is_unlucky() {
    for (mode, _kernel) in guest::modes_and_kernels() {
        let bed = Bed::new();
        let mut from = Tap::new(&bed.host, "tap0", false);
        let mut to = Tap::new(&bed.host, "tap1", false);
        bed.start("tap0", mode, "tap1");
        let dmac = bed.host.mac("tap0");
        for word in 0..=u16::MAX {
            let frame = Frame {
                payload: word.to_be_bytes().to_vec(),
                dmac,
                ..Frame::default()
            };
            from.write(&frame.bytes(), Checksum::Full);
            let got = to.read().expect("it arrives");
            assert_arrived(&got, UDP, &frame.payload, mode);
        }
    }
}

/// What is not matched reaches the host's own stack as it was.
#[test]
fn what_is_not_matched_reaches_the_hosts_own_socket() {
    for (mode, _kernel) in guest::modes_and_kernels() {
        let bed = Bed::new();
        let vm = sender(&bed, true);
        let _tap = Tap::new(&bed.host, "tap0", false);
        bed.start("lan", mode, "tap0");
        let host = bed
            .host
            .enter(|| UdpSocket::bind("192.168.122.1:8000"))
            .unwrap();
        host.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let socket = vm
            .enter(|| UdpSocket::bind("192.168.122.10:40000"))
            .unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let mut buffer = [0; 9000];
        // 4,000 bytes travel as fragments.
        for len in [0, 1, 1472, 4000] {
            socket.send_to(&payload(len), "192.168.122.1:8000").unwrap();
            let (size, peer) = host.recv_from(&mut buffer).expect("it arrives");
            assert_eq!(&buffer[..size], payload(len));
            host.send_to(b"answer", peer).unwrap();
            assert_eq!(socket.recv(&mut buffer).expect("the answer arrives"), 6);
        }
        assert_eq!(bed.redirected().0, 0);
    }
}
