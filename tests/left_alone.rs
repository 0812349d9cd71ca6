//! Packets for everybody on the link, and from nobody in particular: rules leave them alone unless they name
//! the address.

use std::net::IpAddr;

use crate::fixture::model::octets;
use crate::fixture::run::{XDP_PASS, XDP_REDIRECT};
use crate::fixture::two_modes::TwoModes;

const MAC: &str = "02:00:00:00:00:ee";
const BROADCAST_MAC: &str = "ff:ff:ff:ff:ff:ff";

/// What is left alone: destination MAC address, source and destination.
const LEFT_ALONE: [[&str; 3]; 18] = [
    // DHCP's discovery, and what its server answers.
    [BROADCAST_MAC, "0.0.0.0", "255.255.255.255"],
    [BROADCAST_MAC, "192.168.122.1", "255.255.255.255"],
    [MAC, "192.168.122.10", "255.255.255.255"],
    // The broadcast address of a subnet.
    [BROADCAST_MAC, "192.168.122.10", "192.168.122.255"],
    // mDNS.
    ["01:00:5e:00:00:fb", "192.168.122.10", "224.0.0.251"],
    [MAC, "192.168.122.10", "224.0.0.0"],
    [MAC, "192.168.122.10", "239.255.255.255"],
    [MAC, "192.168.122.10", "169.254.169.254"],
    [MAC, "169.254.1.1", "11.22.33.44"],
    [MAC, "0.0.0.0", "11.22.33.44"],
    [MAC, "230.1.2.3", "11.22.33.44"],
    [MAC, "255.255.255.255", "11.22.33.44"],
    ["33:33:00:00:00:fb", "2001:db8::10", "ff02::fb"],
    [MAC, "2001:db8::10", "ff0e::1"],
    [MAC, "2001:db8::10", "fe80::1"],
    [MAC, "fe80::10", "2001:db8::1"],
    [MAC, "::", "2001:db8::1"],
    ["03:00:00:00:00:01", "2001:db8::10", "2001:db8::1"],
];

/// Their neighbours, which rules take.
const TAKEN: [[&str; 3]; 10] = [
    [MAC, "192.168.122.10", "11.22.33.44"],
    [MAC, "192.168.122.10", "192.168.122.255"],
    [MAC, "192.168.122.10", "223.255.255.255"],
    [MAC, "192.168.122.10", "240.0.0.1"],
    [MAC, "192.168.122.10", "169.253.255.255"],
    [MAC, "169.255.0.1", "11.22.33.44"],
    [MAC, "0.0.0.1", "11.22.33.44"],
    [MAC, "2001:db8::10", "fec0::1"],
    [MAC, "2001:db8::10", "fe7f::1"],
    [MAC, "::1:2", "2001:db8::1"],
];

/// UDP to port 7999, without a checksum.
fn frame([mac, src, dst]: [&str; 3]) -> Vec<u8> {
    let [src, dst] = [src, dst].map(|addr| octets(addr.parse::<IpAddr>().expect("an address")));
    let udp = [0x9c, 0x40, 0x1f, 0x3f, 0, 8, 0, 0];
    let mac = mac
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).expect("a byte"));
    let mut frame: Vec<u8> = mac.collect();
    frame.extend([2, 0, 0, 0, 0, 0xdd]);
    if src.len() == 4 {
        frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
    }
    [&frame[..], &src, &dst, &udp].concat()
}

#[test]
fn rules_leave_broadcast_multicast_and_link_local_packets_alone() {
    let bed = TwoModes::new();
    bed.add_rule("--server 172.17.0.2");
    bed.add_rule("--server fd00::2");
    for program in bed.programs() {
        for case in LEFT_ALONE {
            let packet = frame(case);
            assert_eq!(program.run(&packet), (XDP_PASS, packet), "{case:?}");
        }
        for case in TAKEN {
            assert_eq!(program.run(&frame(case)).0, XDP_REDIRECT, "{case:?}");
        }
    }
    assert_eq!(bed.counted("not_unicast"), [LEFT_ALONE.len() as u64; 2]);
}

/// With a prefix that has the address in it, be it short.
#[test]
fn a_rule_takes_them_if_it_names_the_address() {
    let bed = TwoModes::new();
    bed.add_rule("--src 169.254.0.0/16 --server 172.17.0.2");
    bed.add_rule("--src 0.0.0.0/32 --server 172.17.0.3");
    bed.add_rule("--src fe00::/7 --server fd00::2");
    for program in bed.programs() {
        for case in [
            [MAC, "169.254.1.1", "11.22.33.44"],
            [MAC, "0.0.0.0", "11.22.33.44"],
            [MAC, "fe80::10", "2001:db8::1"],
        ] {
            assert_eq!(program.run(&frame(case)).0, XDP_REDIRECT, "{case:?}");
        }
        // It names the source, and not the destination.
        let both = [MAC, "169.254.1.1", "224.0.0.251"];
        assert_eq!(program.run(&frame(both)).0, XDP_PASS, "{both:?}");
    }
}
